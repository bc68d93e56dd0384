"""What a supervisor and a monitor ask a node: whether it lives, whether it is ready, metrics."""

from flask import Blueprint, Response

from counter.node.node import Node
from counter.web.problems import Problem


def blueprint(node: Node) -> Blueprint:
    """`/healthz`, `/readyz` and `/metrics`."""
    pages = Blueprint("health", __name__)

    @pages.get("/healthz")
    def healthz() -> Response:
        return _plain("alive")

    @pages.get("/readyz")
    def readyz() -> Response:
        if not node.ready:
            why = f"this node is {node.state}"
            if node.state == "ready":
                why = "this node's clock is wrong, so it hears no other"
            raise Problem(503, "Not ready", f"{why}; ask another one")
        return _plain("ready")

    @pages.get("/metrics")
    def metrics() -> Response:
        return Response(node.metrics.text(), content_type="text/plain; version=0.0.4")

    return pages


def _plain(text: str) -> Response:
    return Response(text + "\n", content_type="text/plain; charset=utf-8")
