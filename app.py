"""The composition root: joins a node and the web pages into a Flask application."""

import os
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click
from flask import Flask

from counter.cli import cluster as cli
from counter.cli import visits as imports
from counter.config import Config, ConfigError
from counter.node.node import Node
from counter.web import (
    badge,
    cluster,
    files,
    live,
    problems,
    sharing,
    site,
    visit,
    visits,
)
from counter.web import videos as counters

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_UNCACHED = [("Cache-Control", "no-store"), ("Vary", "Accept")]
_PAGE = [
    (
        "Content-Security-Policy",
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
]


def create_app(config: Config | None = None) -> Flask:
    """Make the application with a node that is not started: no store and no transport is opened.

    The server starts `app.extensions["node"]` and stops it. Settings come from the environment
    unless given; raises `ConfigError` for a bad one.
    """
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = visits.MAX_BYTES
    node = Node(config or _settings())
    app.extensions["node"] = node
    problems.install(app)
    sharing.install(app)
    counters.install(app, node)
    live.install(app, node)
    badge.install(app, node)
    site.install(app, node)
    files.install(app)
    visits.install(app, node)
    cluster.install(app, node)
    app.cli.add_command(cli.cluster)
    app.cli.add_command(imports.visits)

    # Flask's own way to add something around an application; its types know only the method.
    app.wsgi_app = _finish(app.wsgi_app, node)  # type: ignore[assignment,method-assign]
    return app


def _finish(application: "WSGIApplication", node: Node) -> "WSGIApplication":
    """What all answers have in common; outside of Flask, whose hooks cost several times as much."""
    shortcut = visit.shortcut(node)

    def serve(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        # simple-websocket takes permessage-deflate wherever it is offered, as browsers do. It
        # costs 94 KB a page, for messages of a few hundred bytes.
        environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            named = dict(headers)
            headers.append(("X-Served-By", node.name))
            if "Cache-Control" not in named:
                headers += _UNCACHED
            if named.get("Content-Type", "").startswith("text/html"):
                headers += _PAGE
            return start_response(status, headers, *error)

        # Once a request the other threads get their turn: gevent switches only where something
        # waits, which a busy connection never does. Flush, lease and heartbeat would starve.
        time.sleep(0)
        body = shortcut(environ, start)
        return application(environ, start) if body is None else body

    return serve


def _settings() -> Config:
    try:
        return Config.from_environ(os.environ)
    except ConfigError as error:
        if click.get_current_context(silent=True) is None:
            raise
        # A command of the operator's: one sentence for him, too, instead of a traceback.
        raise click.ClickException(str(error)) from None
