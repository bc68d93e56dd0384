"""Endpoints of live numbers."""

import fcntl
import struct
from contextlib import suppress
from functools import lru_cache
from threading import Lock

from flask import Flask, Response, request
from flask_sock import Sock
from simple_websocket import ConnectionClosed, Server
from wsproto.frame_protocol import FrameProtocol
from wsproto.utilities import RemoteProtocolError

from counter.node import Node
from counter.web.counters import check_all
from counter.web.problems import Problem, answer

MOST_LIVE = 100
PING_INTERVAL = 25
"""Seconds; shorter than the minute after which a proxy drops a silent connection."""

_UNSENT_LIMIT = 8192
_CATCH_UP = 1.0
"""Seconds until a page that did not keep up is looked at again."""
_SIOCOUTQNSD = 0x894B
_GOING_AWAY = 1001
_TRY_LATER = 1013


def install(app: Flask, node: Node) -> None:
    """Add the endpoints of live numbers."""
    sock = Sock(app)

    @app.errorhandler(RemoteProtocolError)
    def bad_handshake(error: RemoteProtocolError) -> Response:
        return answer(Problem(400, "Bad handshake", f"this is no WebSocket handshake: {error}"))

    @sock.route("/live/<path:video>")
    def live_one(socket: Server, video: str) -> None:
        _live(node, socket, [video])

    @sock.route("/live")
    def live_many(socket: Server) -> None:
        _live(node, socket, request.args.getlist("video"))

    # A plain GET would otherwise be answered as an unknown path.
    @app.get("/live", defaults={"video": ""})
    @app.get("/live/<path:video>")
    def not_live(video: str) -> Response:
        raise Problem(
            426,
            "Upgrade Required",
            f"connect to {request.path} with a WebSocket, or read /count/{video or '<video>'}",
        )

    app.config["SOCK_SERVER_OPTIONS"] = {
        "ping_interval": PING_INTERVAL,
        "max_message_size": 4096,
        "event_class": Signal,
    }


class Signal:
    """An event that one thread waits for. Those of `threading` make a lock for each wait."""

    __slots__ = ("_gate", "_set")

    def __init__(self) -> None:
        self._gate = Lock()
        self._gate.acquire()
        self._set = False

    def set(self) -> None:
        """Wake who waits, or will."""
        if not self._set:
            self._set = True
            with suppress(RuntimeError):  # another has set it at the same time
                self._gate.release()

    def clear(self) -> None:
        """Wait anew. Only for the thread that waits."""
        if self._set:
            self._gate.acquire()
            self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, at most `timeout` seconds; say whether it is."""
        if self._gate.acquire(timeout=-1 if timeout is None else timeout):
            self._gate.release()
        return self._set


def _live(node: Node, socket: Server, videos: list[str]) -> None:
    """Send the newest counter of each video whenever it grew, until either side leaves."""
    try:
        videos = check_all(videos, MOST_LIVE)
    except Problem as problem:
        # The handshake is over, so that the reason can only travel with the closing.
        socket.close(1008, f"{problem.title}: {problem.detail}"[:120])
        return
    page = node.live.open(videos, socket.event)
    if page is None:
        socket.close(_GOING_AWAY if node.live.closing else _TRY_LATER, "no place here now")
        return
    try:
        behind = False
        while True:
            socket.event.wait(_CATCH_UP if behind else PING_INTERVAL)
            socket.event.clear()
            socket.input_buffer.clear()
            if node.live.closing:
                socket.close(_GOING_AWAY, "the node stops")
                return
            if not socket.connected:
                return
            # A page that does not keep up skips versions: nothing waits for it here, and a send
            # that fits into the socket's buffer neither blocks nor is cut short.
            behind = _unsent(socket.sock.fileno()) > _UNSENT_LIMIT
            if behind:
                node.live.skip(page)
                continue
            for message in node.live.messages(page):
                socket.sock.send(_frame(message))
    except (ConnectionClosed, OSError):
        return
    finally:
        node.live.close(page)


@lru_cache(maxsize=1024)
def _frame(message: str) -> bytes:
    """A text message as a server sends it: encoded once for all pages."""
    return bytes(FrameProtocol(client=False, extensions=[]).send_data(message, fin=True))


def _unsent(descriptor: int) -> int:
    """How many bytes of a socket wait to be sent (Linux)."""
    return int(struct.unpack("i", fcntl.ioctl(descriptor, _SIOCOUTQNSD, b"\0" * 4))[0])
