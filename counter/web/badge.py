"""A video's number as a picture, for pages that can show nothing else, such as a README."""

from typing import TYPE_CHECKING, NamedTuple
from unicodedata import east_asian_width

from flask import Blueprint, Response, make_response, render_template, request

from counter.node.node import Node
from counter.web.clients import Who, clients
from counter.web.problems import RETRY_AFTER, Problem
from counter.web.videos import COUNTED, check, is_prefetch, visit

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

MAX_AGE = 10
"""Seconds for which caches may keep the picture."""
LONGEST_LABEL = 32
_IMAGE_PROXIES = ("github-camo", "GoogleImageProxy", "YahooMailProxy", "Slack-ImgProxy",
                  "FastmailUA", "ImageFetcher/", "imgproxy/")  # fmt: skip
"""What sites and mail programs call themselves that fetch pictures for their readers."""
_LABEL = "visits"
_COMING = "…"
_PADDING = 6
_HEIGHT = 20

# Widths of letters in Verdana at 11 px, in tenths of a pixel. With another font, the browser
# stretches the text to the length that is computed here.
_WIDTHS = {
    letter: width
    for width, letters in {
        30: "ijl'",
        39: "ft I,.",
        48: "r()-/:;J[]|!",
        59: "cszLPFT?",
        67: 'abdeghknopquvxy_$*^`"',
        70: "0123456789",
        76: "ABCEKRSUVXYZ{}",
        86: "DGHNOQw&#+<=>~",
        108: "mM%@W",
    }.items()
    for letter in letters
}
_WIDE, _OTHER = 110, 80


class Side(NamedTuple):
    """One half of a badge: its text, its left edge and its width in pixels."""

    text: str
    left: int
    width: int

    @property
    def length(self) -> int:
        """How long the text is drawn."""
        return self.width - 2 * _PADDING


def blueprint(node: Node) -> Blueprint:
    """`/badge/<video>.svg`."""
    pages = Blueprint("badge", __name__)
    who = clients(node)

    @pages.get("/badge/<path:video>.svg")
    def badge(video: str) -> Response:
        check(video)
        label = _label()
        if node.joining and request.args.get("stale") != "1":
            # Browsers show the picture, whatever the status; nginx asks the next node.
            return _picture(label, _COMING, _COMING, 503)
        counts = _counts()
        status, told = _visit(node, who, video) if counts else (200, {})
        visits = node.corrections.visits(video, node.counter(video))
        response = _picture(label, shortened(visits), str(visits), status)
        response.headers.update(told)
        if counts:
            # What a cache answers is no visit.
            response.cache_control.no_store = True
            return response
        response.cache_control.public = True
        response.cache_control.max_age = MAX_AGE
        response.add_etag()
        response.make_conditional(request)
        return response

    return pages


def _counts() -> bool:
    """Whether this request is a visit: only with `?count=1`, for a badge is fetched by anybody."""
    asked = request.args.get("count", "0")
    if asked not in ("0", "1"):
        raise Problem(
            400, "Bad count", f"count={asked[:100]!r} is neither 1, for a visit, nor 0, for none"
        )
    return asked == "1" and request.method == "GET" and not is_prefetch(request.environ)


def _visit(node: Node, who: Who, video: str) -> tuple[int, dict[str, str]]:
    """Count a visit; return the status of the picture, and the headers that tell of the visit."""
    try:
        _, reason = visit(node, video, who, _reader(request.environ))
    except Problem as problem:
        # The picture is fine; only the visit could not be counted.
        return problem.status, {**problem.headers}
    return 200, {COUNTED: f"no; reason={reason}"} if reason else {}


def _reader(environ: "WSGIEnvironment") -> "WSGIEnvironment":
    """The request of whoever reads: of somebody unknown, where an image proxy asks for its readers.

    Without this they would be crawlers, or all one viewer.
    """
    agent = environ.get("HTTP_USER_AGENT", "")
    if not is_image_proxy(agent):
        return environ
    return {**environ, "HTTP_USER_AGENT": "a reader", "QUERY_STRING": "dnt=1"}


def is_image_proxy(agent: str) -> bool:
    """Whether it calls itself what fetches pictures for others."""
    return any(proxy in agent for proxy in _IMAGE_PROXIES)


def shortened(visits: int) -> str:
    """A number in at most five characters, rounded down: never more than there were."""
    for power, unit in ((15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        whole, rest = divmod(visits, 10**power)
        if whole:
            tenths = f".{rest * 10 // 10**power}" if whole < 10 else ""
            return f"{whole}{tenths}{unit}"
    return str(visits)


def width(text: str) -> int:
    """The width of a text in pixels, estimated."""
    tenths = 0
    for letter in text:
        usual = _WIDE if east_asian_width(letter) in "WF" else _OTHER
        tenths += _WIDTHS.get(letter, usual)
    return -(-tenths // 10)


def _label() -> str:
    label = request.args.get("label", _LABEL)
    # Unprintable characters are not allowed in XML either.
    if not 1 <= len(label) <= LONGEST_LABEL or not label.isprintable():
        raise Problem(
            400,
            "Bad label",
            f"label={label[:200]!r} is not 1 to {LONGEST_LABEL} characters that can be printed",
        )
    return label


def _picture(label: str, value: str, whole: str, status: int = 200) -> Response:
    left = Side(label, 0, width(label) + 2 * _PADDING)
    right = Side(value, left.width, width(value) + 2 * _PADDING)
    picture = render_template(
        "badge.svg",
        title=f"{label}: {whole}",
        sides=(left, right),
        width=left.width + right.width,
        height=_HEIGHT,
        padding=_PADDING,
    )
    response = make_response(picture, status)
    response.content_type = "image/svg+xml"
    response.headers["X-Content-Type-Options"] = "nosniff"
    if status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER)
    return response
