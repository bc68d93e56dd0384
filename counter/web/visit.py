"""A visit by a program, answered before Flask is asked, because most requests are such visits.

All other requests (pages, prefetches, invalid ids) go to Flask as usual. For so small an answer,
the way through Flask would take half of the time.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import json

from counter.crdt.ids import is_video
from counter.node.node import Node
from counter.web.bodies import BODY
from counter.web.clients import clients
from counter.web.problems import Problem, as_json, wants_page
from counter.web.videos import PURPOSES, shown, visit

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_PATH = "/video/"
_UNUSUAL = BODY + PURPOSES


def shortcut(node: Node) -> "Callable[[WSGIEnvironment, StartResponse], list[bytes] | None]":
    """A WSGI application that counts and answers `GET /video/<id>`; returns None for the rest."""
    who = clients(node)

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes] | None:
        path: str = environ["PATH_INFO"]
        if not path.startswith(_PATH) or environ["REQUEST_METHOD"] != "GET":
            return None
        video = path[len(_PATH) :]
        if not is_video(video) or not environ.keys().isdisjoint(_UNUSUAL) or wants_page(environ):
            return None
        try:
            counter, reason = visit(node, video, who, environ)
        except Problem as problem:
            return list(as_json(problem)(environ, start_response))
        body = json.encode(shown(node, video, counter, reason)) + b"\n"
        start_response(
            "200 OK",
            [("Content-Type", "application/json"), ("Content-Length", str(len(body)))],
        )
        return [body]

    return answer
