"""For demonstrations, with `DEV_MODE`: cut nodes off and heal them, send bursts of visits."""

import re
from collections.abc import Callable
from urllib.parse import urlencode

from flask import Blueprint, Response, request

from counter.crdt.limits import FullError
from counter.node.counting import MaybeCountedError, NotCountedError
from counter.node.new_videos import UnannouncedError
from counter.node.node import Node
from counter.protocol.client import Client
from counter.web.problems import Problem, check_origin
from counter.web.survey import SilentError, Survey, UnknownNodeError
from counter.web.videos import check, full, refused_id

MAX_VISITS = 1000
_VISITS = "50"

_HERE = Client(label="dev")
"""Who asks for a demonstration, at a node that allows it."""


def blueprint(node: Node, survey: Survey) -> Blueprint:
    """Endpoints below `/dev`: each acts on this node, or on the one that `?node=` names."""
    pages = Blueprint("dev", __name__)

    def add(path: str, act: Callable[[], None]) -> None:
        def view() -> Response:
            check_origin()
            named = request.args.get("node", "")
            if named in ("", node.name):
                act()
            else:
                _pass_on(survey, named, path)
            return Response(status=204)

        pages.add_url_rule(path, path.rpartition("/")[2], view, methods=["POST"])

    def cut() -> None:
        node.gossip.cut = True

    def heal() -> None:
        node.gossip.cut = False

    def burst() -> None:
        video, visits = _asked()
        try:
            node.counting.count_many({video: visits}, client=lambda: _HERE)
        except UnannouncedError as error:
            raise refused_id(error) from None
        except FullError as error:
            raise full(error) from None
        except NotCountedError as error:
            raise Problem(503, "Not counted", f"no visit was counted: {error}") from None
        except MaybeCountedError as error:
            raise Problem(504, "Maybe counted", f"the visits may be counted: {error}") from None

    add("/dev/cut", cut)
    add("/dev/heal", heal)
    add("/dev/burst", burst)
    return pages


def _asked() -> tuple[str, int]:
    """The video, and how many visits it is to get."""
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


def _pass_on(survey: Survey, named: str, path: str) -> None:
    """Let another node do it. The request names no node, so that the other never passes it on."""
    query = ""
    if path == "/dev/burst":
        video, visits = _asked()
        query = "?" + urlencode({"video": video, "visits": visits})
    try:
        status, detail = survey.order(named, path + query)
    except UnknownNodeError as error:
        raise Problem(404, "No such node", str(error)) from None
    except SilentError as error:
        raise Problem(504 if error.late else 502, "No answer", str(error)) from None
    if status == 404:
        raise Problem(502, "Refused", f"{named} does not do that: it runs without DEV_MODE")
    if status != 204:
        raise Problem(502, "Refused", f"{named} answers with status {status}: {detail}")
