"""The static files: tagged by their content, text sent compressed, clips kept for a day.

Nodes may run from different checkouts. So a file's tag is a hash of its content, and nothing is
said of when it was changed: a part of a clip may come from any node, and what a browser has of one
node is not sent again by another.
"""

import gzip
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

from flask import Flask, Response, request, send_from_directory
from werkzeug.exceptions import RequestedRangeNotSatisfiable

CLIP_AGE = 86_400
"""Seconds. Clips and posters hardly ever change, and a page shows them without a network."""

_TEXT = (".css", ".js", ".json", ".svg")
_KEPT = ("clips/", "robots.txt")


def install(app: Flask) -> None:
    """Serve `/static/` as Flask does, but compressed and tagged by content; and `/robots.txt`."""
    folder = Path(app.static_folder or "")

    def static(filename: str) -> Response:
        response = send_from_directory(folder, filename, conditional=False, etag=False)
        del response.headers["Last-Modified"]
        if filename.startswith(_KEPT):
            response.cache_control.no_cache = None
            response.cache_control.max_age = CLIP_AGE
        file = folder / filename
        changed = file.stat().st_mtime_ns
        response.set_etag(_tag(file, changed, response.content_length or 0))
        _answer_conditions(response)
        if filename.endswith(_TEXT):
            _compress(response, file, changed)
        return response

    app.view_functions["static"] = static
    app.add_url_rule("/robots.txt", "robots", lambda: static("robots.txt"))


def _answer_conditions(response: Response) -> None:
    """Send a part, or nothing, where the request asks for that."""
    response.make_conditional(request)
    response.accept_ranges = "bytes"
    # A weak tag is of the compressed form, and a part of the file is no part of that.
    is_weak = request.headers.get("If-Range", "").startswith("W/")
    if response.status_code != 200 or is_weak:
        return
    try:
        response.make_conditional(request, True, response.content_length)
    except RequestedRangeNotSatisfiable:
        response.close()
        raise


def _compress(response: Response, file: Path, changed: int) -> None:
    """Send a text compressed to a client that can read it, unless only a part is sent."""
    response.vary.add("Accept-Encoding")
    if response.status_code not in (200, 304) or not request.accept_encodings["gzip"]:
        return
    # The bytes differ from the file's, although they mean the same.
    response.set_etag(response.get_etag()[0] or "", weak=True)
    if response.status_code == 200:
        response.close()  # the file itself, which is not sent
        response.direct_passthrough = False
        response.set_data(_compressed(file, changed))
        response.content_encoding = "gzip"


@lru_cache(maxsize=256)
def _tag(file: Path, _changed: int, _size: int) -> str:
    return blake2b(file.read_bytes(), digest_size=16).hexdigest()


@lru_cache(maxsize=64)
def _compressed(file: Path, _changed: int) -> bytes:
    return gzip.compress(file.read_bytes(), mtime=0)
