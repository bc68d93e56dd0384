"""Endpoints of the ledger: an operator withdraws visits, blocks a video, or lists what was done."""

import re
from typing import Any, NamedTuple

import msgspec
from flask import Blueprint, Response, request

from counter.crdt.gcounter import MAX_COUNT
from counter.crdt.ids import STEPS, is_video
from counter.node.corrections import LedgerFullError, Number, OtherRequestError
from counter.node.counting import MaybeCountedError, NotCountedError
from counter.node.node import Node
from counter.protocol.ledger import TooManyError
from counter.protocol.records import LONGEST_REASON, Record
from counter.web import bodies
from counter.web.keys import REPLAYED, key_of
from counter.web.problems import Problem, check_origin
from counter.web.tokens import Tokens
from counter.web.videos import check

MAX_BYTES = 64 * 1024
MOST = 1_000
"""Records that one answer lists."""

_FIELDS = ("video", "withdraw", "block", "reason")
_EXAMPLE = (
    '{"video": "cats", "withdraw": 120, "reason": "click farm"} or '
    '{"video": "cats", "block": true, "reason": "taken down"}'
)


class _Asked(NamedTuple):
    """What an operator asks for: visits to withdraw, or whether the video is to be blocked."""

    video: str
    withdraw: Number | None
    block: bool
    reason: str


def blueprint(node: Node) -> Blueprint:
    """`POST` and `GET /corrections`."""
    pages = Blueprint("corrections", __name__)
    tokens = Tokens(node.config)

    @pages.post("/corrections")
    @bodies.reads(MAX_BYTES)
    def correct() -> Response:
        check_origin()
        by = tokens.check_admin(request)
        key = key_of(request)
        if request.mimetype != "application/json":
            raise Problem(415, "Not a correction", f"send application/json: {_EXAMPLE}")
        record, is_new = _do(node, _read(request.get_data(cache=False)), by, key)
        content = msgspec.json.encode(shown(record)) + b"\n"
        response = Response(content, 201 if is_new else 200, content_type="application/json")
        if not is_new:
            response.headers[REPLAYED] = "true"
        return response

    @pages.get("/corrections")
    def corrections() -> Response:
        tokens.check_admin(request)
        if node.joining:
            raise Problem(503, "Joining", "this node does not hold all records yet")
        videos = request.args.getlist("video")
        for video in videos:
            check(video)
        if len(videos) > 1:
            raise Problem(400, "Too many videos", "name one, or none for all: ?video=cats")
        found = node.corrections.records(videos[0] if videos else None)
        page, rest = _page(found)
        answer: dict[str, Any] = {"corrections": [shown(record) for record in page]}
        if rest:
            answer["next"] = page[-1].id
        return Response(msgspec.json.encode(answer) + b"\n", content_type="application/json")

    return pages


def shown(record: Record) -> dict[str, Any]:
    """A record in the form of the answers."""
    content: dict[str, Any] = {
        "id": record.id,
        "at": record.at,
        "by": record.by,
        "video": record.video,
        "act": record.act,
        "reason": record.reason,
    }
    if record.act == "withdraw":
        content |= {"withdraw": record.number, "takes": record.takes}
    return content


def _page(found: list[Record]) -> tuple[list[Record], bool]:
    """The records that are listed in this answer, and whether others follow."""
    limit = request.args.get("limit", str(MOST))
    if not re.fullmatch(r"[0-9]{1,4}", limit) or not 1 <= int(limit) <= MOST:
        raise Problem(400, "Bad limit", f"limit={limit!r} is not a whole number from 1 to {MOST}")
    first, after = 0, request.args.get("after")
    if after is not None:
        places = [at for at, record in enumerate(found) if record.id == after]
        if not places:
            raise Problem(
                400,
                "Bad after",
                f"after={after[:100]!r} is the id of no record listed here; give the next of the "
                "answer before",
            )
        first = places[0] + 1
    end = first + int(limit)
    return found[first:end], end < len(found)


def _do(node: Node, asked: _Asked, by: str, key: str) -> tuple[Record, bool]:
    """The record, and whether it was made now; a `Problem` if there is none."""
    video, reason, corrections = asked.video, asked.reason, node.corrections
    try:
        if asked.withdraw is None:
            return corrections.block(video, reason, by, key, blocked=asked.block)
        return corrections.withdraw(video, asked.withdraw, reason, by, key)
    except TooManyError as error:
        raise Problem(
            409,
            "Too many",
            f"nothing was withdrawn: {error}; withdraw {error.left} at most, or all",
            {"video": video, "visits": error.left, "withdraw": error.number},
        ) from None
    except LedgerFullError as error:
        raise Problem(409, "Ledger full", f"nothing was done: {error}") from None
    except OtherRequestError as error:
        raise Problem(422, "Key taken", f"nothing was done: {error}") from None
    except NotCountedError as error:
        raise Problem(503, "Not done", f"nothing was done: {error}") from None
    except MaybeCountedError as error:
        raise Problem(504, "Maybe done", f"this may be on record: {error}") from None


def _read(body: bytes) -> _Asked:
    """What a body asks for; a `Problem` that names the field if something is wrong."""
    try:
        content = msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # ValueError: no UTF-8
        raise _bad(f"the body is not JSON ({error}); send {_EXAMPLE}") from None
    if not isinstance(content, dict):
        raise _bad(f"the body is not an object; send {_EXAMPLE}")
    for field in content:
        if field not in _FIELDS:
            raise _bad(f"{field[:100]!r} is no field of a correction; send {_EXAMPLE}", field)
    video = content.get("video")
    if not isinstance(video, str):
        raise _wrong("video", content, "name one, as in cats")
    if video in STEPS or not is_video(video):
        remedy = "use 1 to 128 characters out of A-Z a-z 0-9 . _ ~ -, but neither . nor .. alone"
        raise _wrong("video", content, remedy)
    reason = content.get("reason", "")
    if not (isinstance(reason, str) and len(reason) <= LONGEST_REASON and reason.isprintable()):
        remedy = f"write at most {LONGEST_REASON} printable characters on one line"
        raise _wrong("reason", content, remedy)
    if ("withdraw" in content) == ("block" in content):
        raise _bad(f"a correction has either withdraw or block; send {_EXAMPLE}", "withdraw")
    if "block" in content:
        if not isinstance(content["block"], bool):
            raise _wrong("block", content, "give true to block the video, false to unblock it")
        return _Asked(video, None, content["block"], reason)
    number = content["withdraw"]
    if number != "all" and not (type(number) is int and 1 <= number <= MAX_COUNT):
        raise _wrong("withdraw", content, f'give a whole number from 1 to {MAX_COUNT}, or "all"')
    return _Asked(video, number, False, reason)


def _wrong(field: str, content: dict[str, Any], remedy: str) -> Problem:
    if field not in content:
        return _bad(f"{field} is missing: {remedy}", field)
    given = msgspec.json.encode(content[field]).decode()
    return _bad(f"{field}={given[:200]} is not right: {remedy}", field)


def _bad(detail: str, field: str = "") -> Problem:
    return Problem(
        400, "Bad correction", f"nothing was done: {detail}", {"field": field} if field else None
    )
