"""Endpoints about counters: visits, counts, the most visited videos, live numbers."""

import fcntl
import re
import struct
from contextlib import suppress
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

import msgspec
from flask import Flask, Response, request
from flask_sock import Sock
from simple_websocket import ConnectionClosed, Server
from wsproto.frame_protocol import FrameProtocol
from wsproto.utilities import RemoteProtocolError

from counter.messages import VIDEO
from counter.node import MaybeCountedError, Node, NotCountedError
from counter.tally import Tally
from counter.web import site
from counter.web.problems import Problem, answer, wants_page

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

MOST_COUNTS = 1000
MOST_LIVE = 100
PING_INTERVAL = 25
"""Seconds; shorter than the minute after which a proxy drops a silent connection."""

_UNSENT_LIMIT = 8192
_CATCH_UP = 1.0
"""Seconds until a page that did not keep up is looked at again."""
_SIOCOUTQNSD = 0x894B
_GOING_AWAY = 1001
_TRY_LATER = 1013

is_video = re.compile(VIDEO).fullmatch


def install(app: Flask, node: Node) -> None:
    """Add the endpoints about counters."""

    @app.get("/video/<path:video>")
    def video_page(video: str) -> Response:
        check(video)
        counter: dict[str, int] | None = None
        if request.method == "GET" and not is_prefetch(request.environ):
            counter = visit(node, video)
        elif not node.joining:
            counter = node.counter(video)
        if not wants_page():
            return _json(shown(node, video, counter))
        if counter is not None:
            # A page never shows less than before, so it is given nothing a crash could take back.
            counter = node.counter(video)
        return site.video_page(node, shown(node, video, counter))

    @app.route("/hit/<path:video>", methods=["GET", "POST"])
    def hit(video: str) -> Response:
        check(video)
        if request.method != "HEAD" and not is_prefetch(request.environ):
            visit(node, video)
        response = Response(status=204)
        del response.headers["Content-Type"]
        return response

    @app.get("/count/<path:video>")
    def count(video: str) -> Response:
        check(video)
        _check_joined(node)
        return _json(node.show(video, node.counter(video)))

    @app.get("/counts")
    def counts() -> Response:
        videos = check_all(request.args.getlist("video"), MOST_COUNTS)
        _check_joined(node)
        return _json({"counters": [node.show(video, node.counter(video)) for video in videos]})

    @app.get("/top")
    def top() -> Response:
        limit = request.args.get("limit", "10")
        if not re.fullmatch(r"[0-9]{1,4}", limit) or not 1 <= int(limit) <= Tally.TOP:
            raise Problem(
                400, "Bad limit", f"limit={limit!r} is not a whole number from 1 to {Tally.TOP}"
            )
        _check_joined(node)
        return _json({"counters": most_visited(node, int(limit))})

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


def check(video: str) -> None:
    """Raise a `Problem` for what is not a video's id."""
    if not is_video(video):
        raise Problem(
            400,
            "Bad video id",
            f"{video[:200]!r} is not an id: use 1 to 128 characters out of A-Z a-z 0-9 . _ ~ -",
        )


def check_all(videos: list[str], most: int) -> list[str]:
    """The ids without repetitions; raise a `Problem` for none, too many, or a wrong one."""
    if not videos:
        raise Problem(400, "No video", "name at least one: ?video=cats&video=dogs")
    if len(videos) > most:
        raise Problem(400, "Too many videos", f"{len(videos)} videos are more than {most}")
    for video in videos:
        check(video)
    return list(dict.fromkeys(videos))


def visit(node: Node, video: str) -> dict[str, int] | None:
    """Count a visit; 503 if it was certainly not counted, 504 if that is not known."""
    try:
        return node.visit(video)
    except NotCountedError as error:
        raise Problem(503, "Not counted", f"the visit was not counted: {error}") from None
    except MaybeCountedError as error:
        raise Problem(504, "Maybe counted", f"the visit may be counted: {error}") from None


def most_visited(node: Node, limit: int) -> list[dict[str, Any]]:
    """The counters of the most visited videos."""
    return [node.show(video, node.counter(video)) for video in node.top(limit)]


def shown(node: Node, video: str, counter: dict[str, int] | None) -> dict[str, Any]:
    """A counter as it is answered; None while the node is joining."""
    if counter is None:
        return {"video": video, "visits": None, "node": node.name, "joining": True, "counts": {}}
    return node.show(video, counter)


def is_prefetch(environ: "WSGIEnvironment") -> bool:
    """Whether nobody has seen the page yet: a browser that fetches it in advance says so."""
    named = environ.get
    purpose = named("HTTP_SEC_PURPOSE") or named("HTTP_PURPOSE") or named("HTTP_X_MOZ") or ""
    return "prefetch" in purpose or "prerender" in purpose


def _check_joined(node: Node) -> None:
    if node.joining and request.args.get("stale") != "1":
        raise Problem(
            503, "Joining", "this node does not hold all counts yet; ?stale=1 shows what it has"
        )


def _json(content: object) -> Response:
    return Response(msgspec.json.encode(content) + b"\n", content_type="application/json")


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
