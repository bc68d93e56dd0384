"""A visit as programs make it, answered before Flask is asked: most requests are nothing else.

What this does not answer (pages, prefetches, what is no video's id) is Flask's, as usual. Half of
the time of such a small answer would be the way to Flask's view and back.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import json

from counter.node.node import Node
from counter.web.problems import Problem, as_json, wants_page
from counter.web.videos import is_prefetch, is_video, shown, visit

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_PATH = "/video/"


def shortcut(node: Node) -> "Callable[[WSGIEnvironment, StartResponse], list[bytes] | None]":
    """The WSGI application that counts and answers `GET /video/<id>`; None for all the rest."""

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes] | None:
        path: str = environ["PATH_INFO"]
        if not path.startswith(_PATH) or environ["REQUEST_METHOD"] != "GET":
            return None
        video = path[len(_PATH) :]
        if not is_video(video) or is_prefetch(environ) or wants_page(environ):
            return None
        try:
            counter = visit(node, video)
        except Problem as problem:
            return list(as_json(problem)(environ, start_response))
        body = json.encode(shown(node, video, counter)) + b"\n"
        start_response(
            "200 OK",
            [("Content-Type", "application/json"), ("Content-Length", str(len(body)))],
        )
        return [body]

    return answer
