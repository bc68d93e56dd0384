"""What only a demonstration needs, with `DEV_MODE`: nodes that are cut off and healed, bursts."""

import re
from collections.abc import Callable
from urllib.parse import urlencode

from flask import Flask, Response, request

from counter.crdt.limits import FullError
from counter.node.counting import MaybeCountedError, NotCountedError
from counter.node.node import Node
from counter.web.problems import Problem, check_origin
from counter.web.survey import Others, SilentError, UnknownNodeError
from counter.web.videos import check, full

MAX_VISITS = 1000
_VISITS = "50"


def install(app: Flask, node: Node, others: Others) -> None:
    """Add the endpoints: each acts on this node, or on the one that `?node=` names."""

    def add(path: str, act: Callable[[], None]) -> None:
        def view() -> Response:
            check_origin()
            named = request.args.get("node", "")
            if named in ("", node.name):
                act()
            else:
                _pass_on(others, named, path)
            return Response(status=204)

        app.add_url_rule(path, path, view, methods=["POST"])

    def cut() -> None:
        node.gossip.cut = True

    def heal() -> None:
        node.gossip.cut = False

    def burst() -> None:
        video, visits = _asked()
        try:
            node.counting.count_many({video: visits})
        except FullError as error:
            raise full(error) from None
        except NotCountedError as error:
            raise Problem(503, "Not counted", f"no visit was counted: {error}") from None
        except MaybeCountedError as error:
            raise Problem(504, "Maybe counted", f"the visits may be counted: {error}") from None

    add("/dev/cut", cut)
    add("/dev/heal", heal)
    add("/dev/burst", burst)


def _asked() -> tuple[str, int]:
    """The video, and how often it is to be visited."""
    video = request.args.get("video")
    if video is None:
        raise Problem(400, "No video", "name the one that is visited: ?video=cats")
    check(video)
    visits = request.args.get("visits", _VISITS)
    if not re.fullmatch(r"[0-9]{1,4}", visits) or not 1 <= int(visits) <= MAX_VISITS:
        raise Problem(
            400,
            "Bad visits",
            f"visits={visits[:200]!r} is not a whole number from 1 to {MAX_VISITS}",
        )
    return video, int(visits)


def _pass_on(others: Others, named: str, path: str) -> None:
    """Have another node do it. It is not told whom: it would pass it on if it were another."""
    query = ""
    if path == "/dev/burst":
        video, visits = _asked()
        query = "?" + urlencode({"video": video, "visits": visits})
    try:
        status, detail = others.order(named, path + query)
    except UnknownNodeError as error:
        raise Problem(404, "No such node", str(error)) from None
    except SilentError as error:
        raise Problem(504 if error.late else 502, "No answer", str(error)) from None
    if status == 404:
        raise Problem(502, "Refused", f"{named} does not do that: it runs without DEV_MODE")
    if status != 204:
        raise Problem(502, "Refused", f"{named} answers with status {status}: {detail}")
