"""How much of a request's body is read: each route says it; most read none."""

import errno
from collections.abc import Callable
from typing import Any, TypeVar

from flask import Flask, Response, request
from werkzeug.exceptions import ClientDisconnected

from counter.web.problems import Problem, answer

NO_BODY = 1024
"""Bytes that a route may get which expects none: more than a client sends by mistake."""
BODY = ("CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING")
"""What a request with a body has in its WSGI environment."""

_LIMIT = "most_bytes"
_View = TypeVar("_View", bound=Callable[..., Any])


def reads(most: int) -> Callable[[_View], _View]:
    """Say that a view reads a body, of at most so many bytes; it gets one more of a longer one."""

    def mark(view: _View) -> _View:
        setattr(view, _LIMIT, most)
        return view

    return mark


def install(app: Flask) -> None:
    """Refuse longer bodies before anything is read, and say what is wrong with broken ones."""

    @app.before_request
    def check() -> None:
        if request.environ.keys().isdisjoint(BODY):
            return
        view = app.view_functions.get(request.endpoint or "")
        most = getattr(view, _LIMIT, NO_BODY)
        # One more, because a body of unknown length is silently cut off there.
        request.max_content_length = most + 1
        if (request.content_length or 0) > most:
            raise Problem(413, "Too large", f"this takes at most {most} bytes in one request")

    @app.errorhandler(ClientDisconnected)
    def broken(error: ClientDisconnected) -> Response:
        why = error.__context__
        if isinstance(why, OSError) and why.errno == errno.ENOBUFS:
            detail = "too many long bodies are under way, to this node or from this address"
            return answer(Problem(429, "Too many long bodies", detail))
        if isinstance(why, TimeoutError):
            return answer(Problem(408, "Too slow", "the body did not come in time"))
        return answer(
            Problem(400, "Bad body", "the body ended early, or is not what its headers say")
        )
