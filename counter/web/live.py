"""Endpoints of live numbers: over WebSockets, and as Server-Sent Events."""

import fcntl
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from socket import IPPROTO_TCP, TCP_INFO, socket
from threading import Lock

import flask_sock
import simple_websocket.ws
from flask import Blueprint, Response, request
from flask.blueprints import BlueprintSetupState
from flask_sock import Sock
from simple_websocket import ConnectionClosed, Server
from wsproto.frame_protocol import FrameProtocol
from wsproto.utilities import RemoteProtocolError

from counter.node.live import Live, Page
from counter.node.node import Node
from counter.web.frames import Socket
from counter.web.problems import Problem, answer
from counter.web.videos import check_all

MAX_LIVE = 100
PING_INTERVAL = 25
"""Seconds; shorter than the minute after which a proxy drops a silent connection."""

_UNSENT_LIMIT = 8192
_CATCH_UP = 1.0
"""Seconds until the connection of a page that did not keep up is checked again."""
_SIOCOUTQNSD = 0x894B
_ESTABLISHED = 1
_GOING_AWAY = 1001
_TRY_LATER = 1013
_EVENTS = "text/event-stream"
_HEARTBEAT = b":\n\n"
"""A comment, which pages do not see."""


def blueprint(node: Node) -> Blueprint:
    """`/live`, for WebSockets and for Server-Sent Events."""
    # simple-websocket asks the wall clock when the next ping is due, and has no setting for that:
    # after the clock was set back by hours it would ping nobody for hours, and proxies drop silent
    # connections.
    simple_websocket.ws.time = time.monotonic
    # flask-sock has no setting for this class.
    flask_sock.Server = Socket
    pages = Blueprint("live", __name__)
    sock = Sock()

    @pages.record_once
    def configure(state: BlueprintSetupState) -> None:
        state.app.config["SOCK_SERVER_OPTIONS"] = {
            "ping_interval": PING_INTERVAL,
            "max_message_size": 4096,
            "event_class": Signal,
        }

    @pages.app_errorhandler(RemoteProtocolError)
    def bad_handshake(error: RemoteProtocolError) -> Response:
        return answer(Problem(400, "Bad handshake", f"this is no WebSocket handshake: {error}"))

    @sock.route("/live/<path:video>", bp=pages)
    def live_one(socket: Server, video: str) -> None:
        _live(node, socket, [video])

    @sock.route("/live", bp=pages)
    def live_many(socket: Server) -> None:
        _live(node, socket, request.args.getlist("video"))

    @pages.get("/live")
    @pages.get("/live/<path:video>")
    def live_events(video: str | None = None) -> Response:
        if _EVENTS not in request.headers.get("Accept", ""):
            raise Problem(
                426,
                "Upgrade Required",
                f"connect to {request.path} with a WebSocket, or accept {_EVENTS}, "
                f"or read /count/{video or '<video>'}",
            )
        videos = request.args.getlist("video") if video is None else [video]
        return _events(node, check_all(videos, MAX_LIVE))

    return pages


class Signal:
    """An event for one waiting thread. Those of `threading` would make a lock for each wait."""

    __slots__ = ("_gate", "_set")

    def __init__(self) -> None:
        self._gate = Lock()
        self._gate.acquire()
        self._set = False

    def set(self) -> None:
        """Wake the thread that waits or will wait. Any thread may call it."""
        if not self._set:
            self._set = True
            with suppress(RuntimeError):  # another has set it at the same time
                self._gate.release()

    def clear(self) -> None:
        """Reset it. Only the waiting thread may call it."""
        if self._set:
            self._gate.acquire()
            self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, at most `timeout` seconds; return whether it is."""
        if self._gate.acquire(timeout=-1 if timeout is None else timeout):
            self._gate.release()
        return self._set


def _live(node: Node, socket: Server, videos: list[str]) -> None:
    """Send the newest counter of each video whenever it grew, until either side leaves."""
    try:
        videos = check_all(videos, MAX_LIVE)
    except Problem as problem:
        # The handshake is over, so only the close frame can carry the reason.
        socket.close(1008, f"{problem.title}: {problem.detail}"[:120])
        return
    page = node.live.open(videos, socket.event)
    if page is None:
        socket.close(_GOING_AWAY if node.live.closing else _TRY_LATER, "no place here now")
        return

    def is_open() -> bool:
        socket.input_buffer.clear()
        return bool(socket.connected)

    try:
        for messages in news(node.live, page, socket.event, socket.sock, is_open):
            for message in messages:
                socket.sock.send(_frame(message))
        if node.live.closing:
            socket.close(_GOING_AWAY, "the node stops")
    except (ConnectionClosed, OSError):
        return
    finally:
        node.live.close(page)


def _events(node: Node, videos: list[str]) -> Response:
    """The same as Server-Sent Events, for pages behind a proxy that refuses WebSockets."""
    if request.method == "HEAD":
        return Response(content_type=_EVENTS)
    wake = Signal()
    page = node.live.open(videos, wake)
    if page is None:
        if node.live.closing:
            raise Problem(503, "No place", "this node stops; ask another one")
        raise Problem(429, "No place", "this node holds no more live pages now; try again soon")
    environ = request.environ
    connection = environ.get("gunicorn.socket") or environ["werkzeug.socket"]
    response = Response(events(node.live, page, wake, connection), content_type=_EVENTS)
    response.headers["X-Accel-Buffering"] = "no"
    # This also runs if the answer is never begun; the end of a generator would not.
    response.call_on_close(lambda: node.live.close(page))
    return response


def events(
    live: Live, page: Page, wake: "Signal", connection: socket, silence: float = PING_INTERVAL
) -> Iterator[bytes]:
    """The body of an answer in events: a heartbeat at once and after each `silence` seconds."""
    yield _HEARTBEAT  # tells the page that it is connected; there may be no number yet
    for messages in news(live, page, wake, connection, lambda: _is_open(connection), silence):
        yield b"".join(b"data: %s\n\n" % message.encode() for message in messages) or _HEARTBEAT


def news(
    live: Live,
    page: Page,
    wake: "Signal",
    connection: socket,
    is_open: Callable[[], bool],
    silence: float = PING_INTERVAL,
) -> Iterator[list[str]]:
    """Yield the messages for a page whenever there are any, and an empty list after each `silence`.

    `silence` is in seconds. Ends when the page is gone or the node stops.
    """
    behind = False
    while True:
        woken = wake.wait(_CATCH_UP if behind else silence)
        wake.clear()
        if live.closing or not is_open():
            return
        # A page that does not keep up skips versions, so nothing queues here. A send that fits into
        # the socket's buffer neither blocks nor is cut short.
        behind = _unsent(connection) > _UNSENT_LIMIT
        if behind:
            live.skip(page)
            continue
        messages = live.messages(page)
        if messages or not woken:
            yield messages


@lru_cache(maxsize=1024)
def _frame(message: str) -> bytes:
    """A text message as a WebSocket frame, encoded once for all pages."""
    return bytes(FrameProtocol(client=False, extensions=[]).send_data(message, fin=True))


def _unsent(connection: socket) -> int:
    """How many bytes of a socket wait to be sent (Linux)."""
    waiting = fcntl.ioctl(connection.fileno(), _SIOCOUTQNSD, b"\0" * 4)
    return int(struct.unpack("i", waiting)[0])


def _is_open(connection: socket) -> bool:
    """Whether the other end of a socket may still read: it has not hung up (Linux)."""
    return connection.getsockopt(IPPROTO_TCP, TCP_INFO, 1)[0] == _ESTABLISHED
