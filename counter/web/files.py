"""The files of the pages: text goes out compressed, clips stay in the browser for a day."""

import gzip
from functools import lru_cache
from pathlib import Path

from flask import Flask, Response, request

CLIP_AGE = 86_400
"""Seconds; clips and posters hardly ever change, and a page without a network still shows them."""

_TEXT = (".css", ".js", ".json", ".svg")


def install(app: Flask) -> None:
    """Answer `/static/` in Flask's way, and smaller."""
    folder = Path(app.static_folder or "")

    def static(filename: str) -> Response:
        response = app.send_static_file(filename)
        if filename.startswith("clips/"):
            response.cache_control.no_cache = None
            response.cache_control.max_age = CLIP_AGE
        if not filename.endswith(_TEXT):
            return response
        response.vary.add("Accept-Encoding")
        # Not a part of a file, nor the word that nothing has changed.
        if response.status_code == 200 and request.accept_encodings["gzip"]:
            file = folder / filename
            response.direct_passthrough = False
            response.set_data(_compressed(file, file.stat().st_mtime_ns))
            response.content_encoding = "gzip"
            # Other bytes than the file's, though they mean the same.
            response.set_etag(response.get_etag()[0] or "", weak=True)
        return response

    app.view_functions["static"] = static


@lru_cache(maxsize=64)
def _compressed(file: Path, _changed: int) -> bytes:
    return gzip.compress(file.read_bytes(), mtime=0)
