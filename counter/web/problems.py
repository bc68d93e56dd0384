"""Errors as `application/problem+json` (RFC 9457), or as a page for a browser."""

import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
from flask import Flask, Response, make_response, render_template, request
from werkzeug.exceptions import HTTPException

from counter.log_limit import LogLimit

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

log = logging.getLogger("counter.web")
log.addFilter(LogLimit())

RETRY_AFTER = 1
"""Seconds after which a request may be sent again that a node could not take."""


class Problem(Exception):  # noqa: N818 - the word of RFC 9457
    """An error answer: status, title, detail, and `more` fields, which only programs get.

    Everybody gets the `headers`.

    503 says that this node cannot count or serve now, whatever the request: nginx leaves the node
    out for a second. What is wrong with one request, or too much of it, is a 4xx; 429 if it may
    come again later. For both `retry_after` says in how many seconds to try again.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        more: Mapping[str, int | str] | None = None,
        *,
        retry_after: float = RETRY_AFTER,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.headers = headers or {}
        self.retry_after = math.ceil(retry_after)
        self.status, self.title, self.detail, self.more = status, title, detail, more or {}


def wants_page(environ: "WSGIEnvironment | None" = None) -> bool:
    """Whether the client is a browser that asks for a page. Default: the current request."""
    return "text/html" in (environ or request.environ).get("HTTP_ACCEPT", "")


def check_origin() -> None:
    """Raise a `Problem` if a page of another site makes this request."""
    if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        raise Problem(403, "Another site", "only a page of this node may ask for that")


def answer(problem: Problem) -> Response:
    """The answer for a problem: a page for a browser, JSON for a program."""
    if not wants_page():
        return as_json(problem)
    page = render_template(
        "problem.html", status=problem.status, title=problem.title, detail=problem.detail
    )
    return _finished(make_response(page, problem.status), problem)


def as_json(problem: Problem) -> Response:
    """The answer for a problem as JSON."""
    content: dict[str, int | str] = {
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        **problem.more,
    }
    response = Response(
        msgspec.json.encode(content) + b"\n",
        problem.status,
        content_type="application/problem+json",
    )
    return _finished(response, problem)


def _finished(response: Response, problem: Problem) -> Response:
    response.headers.update(problem.headers)
    if problem.status in (429, 503):
        response.headers["Retry-After"] = str(problem.retry_after)
    if problem.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if problem.status == 426:
        response.headers["Upgrade"] = "websocket"
    return response


def install(app: Flask) -> None:
    """Answer every error of the app in this form."""

    @app.errorhandler(Problem)
    def problem(error: Problem) -> Response:
        return answer(error)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        ready_made = error.get_response()
        if error.code is None or error.code < 400:
            return Response(ready_made.get_data(), error.code or 200, ready_made.headers)
        response = answer(Problem(error.code, error.name, error.description or error.name))
        for name in ("Allow", "Content-Range"):
            if name in ready_made.headers:
                response.headers[name] = ready_made.headers[name]
        return response

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        log.exception("request.failed path=%r", request.path, exc_info=error)
        return answer(Problem(500, "Internal Server Error", "this is a fault of the node"))
