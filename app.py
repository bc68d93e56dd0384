"""The composition root: joins a node and the web pages into a Flask application."""

import os
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click
from flask import Flask
from flask.cli import FlaskGroup

from counter.cli import COMMANDS, listed_first
from counter.config import Config, ConfigError
from counter.node import Node
from counter.web import blueprints, bodies, files, origin, problems, sharing, visit

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
    """Make the application with a node that is not started: it opens no store and no transport.

    The server starts and stops `app.extensions["node"]`. Settings come from the environment
    unless given. Raises `ConfigError` for a bad one. While `flask` only looks up its commands, the
    application has these and nothing else, and reads no settings.
    """
    app = Flask(__name__)
    for command in COMMANDS:
        app.cli.add_command(command, listed_first(command))
    if config is None and _is_look_up():
        return app
    node = Node(config or _settings())
    app.extensions["node"] = node
    problems.install(app)
    bodies.install(app)
    origin.install(app, node.config)
    sharing.install(app)
    files.install(app)
    for pages in blueprints(node):
        app.register_blueprint(pages)

    # Flask's own way to add something around an application; its types know only the method.
    app.wsgi_app = _finish(app.wsgi_app, node)  # type: ignore[assignment,method-assign]
    return app


def _finish(application: "WSGIApplication", node: Node) -> "WSGIApplication":
    """Add what all answers have in common, outside of Flask, whose hooks are far slower."""
    shortcut = visit.shortcut(node)

    def serve(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        # Browsers offer permessage-deflate, and simple-websocket always accepts it. It costs 94 KB
        # a page, for messages of a few hundred bytes.
        environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            named = dict(headers)
            headers.append(("X-Served-By", node.name))
            if "Cache-Control" not in named:
                headers += _UNCACHED
            if named.get("Content-Type", "").startswith("text/html"):
                headers += _PAGE
            return start_response(status, headers, *error)

        # Let the other threads run once a request: gevent switches only when something waits, which
        # a busy connection never does. Flush, lease and heartbeat would starve.
        time.sleep(0)
        body = shortcut(environ, start)
        return application(environ, start) if body is None else body

    return serve


def _is_look_up() -> bool:
    """Whether `flask` asks which commands there are, to list them or to run one of ours.

    Ours speak to running nodes, so a bad setting of a node must not stop them. Flask's own commands
    that need the application ask for it from a context of their own.
    """
    context = click.get_current_context(silent=True)
    return context is not None and isinstance(context.command, FlaskGroup)


def _settings() -> Config:
    try:
        return Config.from_environ(os.environ)
    except ConfigError as error:
        if click.get_current_context(silent=True) is None:
            raise
        # An operator's command: show one sentence instead of a traceback.
        raise click.ClickException(str(error)) from None
