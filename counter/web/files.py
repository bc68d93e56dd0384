"""The static files: text is sent compressed, and browsers keep clips for a day."""

import gzip
from functools import lru_cache
from pathlib import Path

from flask import Flask, Response, request

CLIP_AGE = 86_400
"""Seconds. Clips and posters hardly ever change, and a page shows them without a network."""

_TEXT = (".css", ".js", ".json", ".svg")


def install(app: Flask) -> None:
    """Serve `/static/` as Flask does, but compressed."""
    folder = Path(app.static_folder or "")

    def static(filename: str) -> Response:
        response = app.send_static_file(filename)
        if filename.startswith("clips/"):
            response.cache_control.no_cache = None
            response.cache_control.max_age = CLIP_AGE
        if not filename.endswith(_TEXT):
            return response
        response.vary.add("Accept-Encoding")
        # Neither parts of files nor answers that nothing changed.
        if response.status_code == 200 and request.accept_encodings["gzip"]:
            file = folder / filename
            response.direct_passthrough = False
            response.set_data(_compressed(file, file.stat().st_mtime_ns))
            response.content_encoding = "gzip"
            # The bytes differ from the file's, although they mean the same.
            response.set_etag(response.get_etag()[0] or "", weak=True)
        return response

    app.view_functions["static"] = static


@lru_cache(maxsize=64)
def _compressed(file: Path, _changed: int) -> bytes:
    return gzip.compress(file.read_bytes(), mtime=0)
