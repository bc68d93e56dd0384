"""Endpoints about videos: a visit, a count, many counts, the most visited."""

import re
from typing import TYPE_CHECKING, Any

import msgspec
from flask import Blueprint, Response, request

from counter.crdt.ids import STEPS, is_video
from counter.crdt.limits import FullError
from counter.crdt.tally import Tally
from counter.node.counting import BlockedError, MaybeCountedError, NotCountedError
from counter.node.judge import Reason, Visitor
from counter.node.new_videos import TooManyNewError, UnannouncedError
from counter.node.node import Node
from counter.web import bodies, site
from counter.web.clients import Who, clients
from counter.web.problems import Problem, wants_page

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

MAX_COUNTS = 1000
GONE = 410
"""The status of a visit of a video that is blocked."""
FULL = 409
"""The status of a visit that no node can count, because the video is full."""
TOO_MANY = 429
"""The status of what is too much of one client, or of all that come without a token."""

COUNTED = "X-Counted"
"""The header of an answer to a visit that does not count, with the reason."""
MAX_AFTER = 3600
"""The most seconds that a page lets a visit wait until its video was played for so long."""
BEACON = 64 * 1024
"""Bytes that a browser may send with a beacon. Nobody reads them."""
PURPOSES = ("HTTP_SEC_PURPOSE", "HTTP_PURPOSE", "HTTP_X_PURPOSE", "HTTP_X_MOZ")
is_ahead = re.compile("(?i)prefetch|prerender|preview").search
"""Whether a browser says with this that nobody has seen yet what it fetches."""


def blueprint(node: Node) -> Blueprint:
    """`/video`, `/hit`, `/count`, `/counts` and `/top`."""
    pages = Blueprint("videos", __name__)
    who = clients(node)

    @pages.get("/video/<path:video>")
    def video_page(video: str) -> Response:
        check(video)
        return _visit_page(node, who, video)

    @pages.route("/hit/<path:video>", methods=["GET", "POST"])
    @bodies.reads(BEACON)
    def hit(video: str) -> Response:
        check(video)
        reason: Reason | None = None
        if request.method != "HEAD" and not is_prefetch(request.environ):
            _, reason = visit(node, video, who, request.environ)
        response = Response(status=204)
        del response.headers["Content-Type"]
        if reason is not None:
            response.headers[COUNTED] = f"no; reason={reason}"
        return response

    @pages.get("/count/<path:video>")
    def count(video: str) -> Response:
        check(video)
        _check_joined(node)
        detail = is_asked("detail")
        answer = node.show(video, node.counter(video), detail=detail)
        # One at a time: it may take a look into the store.
        return _json(answer | node.viewers.shown(video) if detail else answer)

    @pages.get("/counts")
    def counts() -> Response:
        videos = check_all(request.args.getlist("video"), MAX_COUNTS)
        _check_joined(node)
        detail = is_asked("detail")
        return _json({"counters": [node.show(v, node.counter(v), detail=detail) for v in videos]})

    @pages.get("/top")
    def top() -> Response:
        limit = _limit()
        _check_joined(node)
        return _json({"counters": most_visited(node, limit)})

    return pages


def _visit_page(node: Node, who: Who, video: str) -> Response:
    """Count a visit, unless it is only a look; answer with the page or the counter."""
    status = 200
    counter: dict[str, int] | None = None
    reason: Reason | None = None
    after = _after() if wants_page() else 0
    if request.method == "GET" and not after and not is_prefetch(request.environ):
        try:
            counter, reason = visit(node, video, who, request.environ)
        except Problem as problem:
            if problem.status not in (FULL, TOO_MANY) or not wants_page():
                raise
            # The page is fine; only the visit could not be counted.
            status, counter = problem.status, node.counter(video)
    elif not node.joining:
        counter = node.counter(video)
    if node.corrections.is_blocked(video):
        raise blocked(video)
    if not wants_page():
        return _json(shown(node, video, counter, reason))
    if counter is not None:
        # A page never shows less than before, so it gets nothing that a crash could take back.
        counter = node.counter(video)
    page = site.video_page(node, shown(node, video, counter, reason), after)
    page.status_code = status
    return page


def _after() -> float:
    """For how many seconds its video is to be played before the visit counts, says the address."""
    after = request.args.get("after", "0")
    if not re.fullmatch(r"[0-9]{1,4}(?:\.[0-9]{1,3})?", after) or float(after) > MAX_AFTER:
        raise Problem(
            400,
            "Bad after",
            f"after={after[:100]!r} is no number of seconds from 0 to {MAX_AFTER}",
        )
    return float(after)


def _limit() -> int:
    """How many videos are asked for."""
    limit = request.args.get("limit", "10")
    if not re.fullmatch(r"[0-9]{1,4}", limit) or not 1 <= int(limit) <= Tally.TOP:
        raise Problem(
            400, "Bad limit", f"limit={limit!r} is not a whole number from 1 to {Tally.TOP}"
        )
    return int(limit)


def check(video: str) -> None:
    """Raise a `Problem` for what is not a video's id."""
    if video in STEPS:
        raise Problem(
            400,
            "Bad video id",
            f"{video!r} is not an id: in a path, browsers and proxies take it for a step between "
            "folders; use another one",
        )
    if not is_video(video):
        raise Problem(
            400,
            "Bad video id",
            f"{video[:200]!r} is not an id: use 1 to 128 characters out of A-Z a-z 0-9 . _ ~ -",
        )


def check_all(videos: list[str], limit: int) -> list[str]:
    """The ids without repetitions; raise a `Problem` for none, too many, or a wrong one."""
    if not videos:
        raise Problem(400, "No video", "name at least one: ?video=cats&video=dogs")
    if len(videos) > limit:
        raise Problem(400, "Too many videos", f"{len(videos)} videos are more than {limit}")
    for video in videos:
        check(video)
    return list(dict.fromkeys(videos))


def visit(
    node: Node, video: str, who: Who, environ: "WSGIEnvironment"
) -> tuple[dict[str, int] | None, Reason | None]:
    """Count a visit, or why it does not count; return the counter, None while the node is joining.

    With it comes the reason, if it does not count. Raises a `Problem`: 503 if it was certainly not
    counted, 504 if that is not known, 409 if no node can ever count it, 410 for a video that is
    blocked, 429 for one new id too many, 404 for one that may not count.
    """
    person = who.person(environ)
    visitor = Visitor(environ.get("HTTP_USER_AGENT", ""), lambda: who(environ), False, person)
    try:
        node.counting.wait_until_open()
        reason = node.judge.reason(video, visitor)
        counter = node.counting.visit(video, visitor.client, reason)
    except MaybeCountedError as error:
        raise Problem(504, "Maybe counted", f"the visit may be counted: {error}") from None
    except (
        BlockedError, TooManyNewError, UnannouncedError, FullError, NotCountedError,
    ) as error:  # fmt: skip
        if person is not None:
            node.viewers.refused(person)
        if isinstance(error, BlockedError):
            raise blocked(video) from None
        raise refused(error) from None
    if person is not None and reason is None:
        node.viewers.counted(video, person)
    return counter, reason


def refused(
    error: TooManyNewError | UnannouncedError | FullError | NotCountedError,
) -> Problem:
    """The problem with a visit that was certainly not counted."""
    if isinstance(error, NotCountedError):
        return Problem(503, "Not counted", f"the visit was not counted: {error}")
    return full(error) if isinstance(error, FullError) else refused_id(error)


def refused_id(error: TooManyNewError | UnannouncedError) -> Problem:
    """The problem with an id that may not be counted."""
    detail, named = f"nothing was counted: {error}", {"video": error.video}
    if isinstance(error, UnannouncedError):
        return Problem(404, "Not announced", detail, named)
    return Problem(TOO_MANY, "Too many new videos", detail, named, retry_after=error.retry_after)


def blocked(video: str) -> Problem:
    """The problem with a video that an operator has taken down."""
    return Problem(
        GONE,
        "Blocked",
        f"{video!r} was taken down by the operator of this site: visits of it are not counted",
        {"video": video, "counted": False, "reason": "blocked"},
        headers={COUNTED: "no; reason=blocked"},
    )


def full(error: FullError) -> Problem:
    """The problem with visits that do not fit into a video's number."""
    named: dict[str, int | str] = {
        "video": error.video,
        "visits": error.visits,
        "limit": error.limit,
    }
    return Problem(FULL, "Full", f"nothing was counted: {error}", named)


def most_visited(node: Node, limit: int) -> list[dict[str, Any]]:
    """The counters of the most visited videos."""
    return [node.show(video, node.counter(video)) for video in node.top(limit)]


def shown(
    node: Node, video: str, counter: dict[str, int] | None, reason: Reason | None = None
) -> dict[str, Any]:
    """A counter in the form of an answer; the counter is None while the node is joining.

    With a `reason` it says why the visit that it answers does not count.
    """
    if counter is not None:
        answer = node.show(video, counter)
    else:
        answer = {
            "video": video, "visits": None, "node": node.name, "joining": True, "counts": {},
        }  # fmt: skip
    if reason is not None:
        answer["counted"], answer["reason"] = False, reason
    return answer


def is_asked(name: str) -> bool:
    """Whether the query of the request has this name, as `?detail` or `?detail=1`."""
    return request.args.get(name, "0") != "0"


def is_prefetch(environ: "WSGIEnvironment") -> bool:
    """Whether a browser fetches the page in advance, so that nobody has seen it yet.

    Browsers have said so in four headers. nginx looks at the same.
    """
    # Nearly no request has any of them, and each visit asks.
    if environ.keys().isdisjoint(PURPOSES):
        return False
    return any(is_ahead(environ.get(name, "")) for name in PURPOSES)


def _check_joined(node: Node) -> None:
    if node.joining and request.args.get("stale") != "1":
        raise Problem(
            503, "Joining", "this node does not hold all counts yet; ?stale=1 shows what it has"
        )


def _json(content: object) -> Response:
    return Response(msgspec.json.encode(content) + b"\n", content_type="application/json")
