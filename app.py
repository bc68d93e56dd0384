"""The composition root: joins a node and the web pages into a Flask application."""

import os
import time

import click
from flask import Flask, Response

from counter import cli
from counter.config import Config, ConfigError
from counter.node import Node
from counter.web import cluster, counters, problems, visits

_POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"


def create_app(config: Config | None = None) -> Flask:
    """Make the application with a node that is not started: no store and no transport is opened.

    The server starts `app.extensions["node"]` and stops it. Settings come from the environment
    unless given; raises `ConfigError` for a bad one.
    """
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = visits.MOST_BYTES
    node = Node(config or _settings())
    app.extensions["node"] = node
    problems.install(app)
    counters.install(app, node)
    visits.install(app, node)
    cluster.install(app, node)
    app.cli.add_command(cli.cluster)

    @app.after_request
    def finish(response: Response) -> Response:
        # Once a request the other threads get their turn: gevent switches only where something
        # waits, which a busy connection never does. Flush, lease and heartbeat would starve.
        time.sleep(0)
        response.headers["X-Served-By"] = node.name
        if response.mimetype == "text/html":
            response.headers["Content-Security-Policy"] = _POLICY
            response.headers["X-Content-Type-Options"] = "nosniff"
            response.headers["Referrer-Policy"] = "same-origin"
        return response

    return app


def _settings() -> Config:
    try:
        return Config.from_environ(os.environ)
    except ConfigError as error:
        if click.get_current_context(silent=True) is None:
            raise
        # A command of the operator's: one sentence for him, too, instead of a traceback.
        raise click.ClickException(str(error)) from None
