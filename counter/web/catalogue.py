"""The endpoint where an operator announces ids of videos."""

from collections.abc import Callable, Mapping

import msgspec
from flask import Blueprint, Response, request

from counter.crdt.ids import is_video
from counter.node.counting import MaybeCountedError, NotCountedError
from counter.node.node import Node
from counter.web import bodies
from counter.web.problems import Problem, check_origin
from counter.web.tokens import Tokens
from counter.web.visits import MAX_BYTES

MAX_IDS = 10_000

_EXAMPLE = '["cats", "dogs"] as application/json, or "cats" on a line as application/x-ndjson'
_DECODE: Mapping[str, Callable[[bytes], list[str]]] = {
    "application/json": msgspec.json.Decoder(list[str]).decode,
    "application/x-ndjson": msgspec.json.Decoder(str).decode_lines,
}


def blueprint(node: Node) -> Blueprint:
    """`POST /videos`."""
    pages = Blueprint("catalogue", __name__)
    tokens = Tokens(node.config)

    @pages.post("/videos")
    @bodies.reads(MAX_BYTES)
    def announce() -> Response:
        check_origin()
        tokens.check_any(request)
        decode = _DECODE.get(request.mimetype)
        if decode is None:
            raise Problem(415, "Not ids", f"send {_EXAMPLE}")
        body = request.get_data(cache=False)
        if len(body) > MAX_BYTES:
            raise Problem(413, "Too large", f"send at most {MAX_BYTES} bytes at once")
        videos = _read(decode, body)
        try:
            new = node.counting.announce(videos)
        except NotCountedError as error:
            raise Problem(503, "Not announced", f"no id was announced: {error}") from None
        except MaybeCountedError as error:
            raise Problem(504, "Maybe announced", f"send them again: {error}") from None
        content = msgspec.json.encode({"videos": len(videos), "new": new})
        return Response(content + b"\n", content_type="application/json")

    return pages


def _read(decode: Callable[[bytes], list[str]], body: bytes) -> list[str]:
    """The ids of a body; a `Problem` for a bad one."""
    try:
        videos = decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # ValueError: no UTF-8
        detail = f"no id was announced: {error}; send {_EXAMPLE}"
        raise Problem(400, "Not ids", detail) from None
    if len(videos) > MAX_IDS:
        raise Problem(413, "Too many ids", f"{len(videos)} ids are more than {MAX_IDS}")
    for index, video in enumerate(videos):
        if not is_video(video):
            raise Problem(
                400,
                "Bad video id",
                f"no id was announced: id {index} (from 0), {video[:200]!r}, is none: use 1 to "
                "128 characters out of A-Z a-z 0-9 . _ ~ -, but neither . nor .. alone",
                {"index": index},
            )
    return videos
