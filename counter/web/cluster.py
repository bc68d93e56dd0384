"""Endpoints about nodes: members, health, metrics, messages between nodes, demonstrations."""

from flask import Flask, Response, make_response, render_template, request
from msgspec import json

from counter.messages import MAX_BYTES
from counter.node import Node
from counter.transport.mesh import ID_HEADER, MeshTransport
from counter.web.problems import Problem, wants_page


def install(app: Flask, node: Node) -> None:
    """Add the endpoints about nodes."""

    @app.get("/cluster")
    def cluster() -> Response:
        shown = node.cluster()
        if wants_page():
            response = make_response(render_template("cluster.html", cluster=shown))
        else:
            response = Response(json.encode(shown) + b"\n", content_type="application/json")
        response.headers["Cache-Control"] = "no-store"
        response.headers["Vary"] = "Accept"
        return response

    @app.get("/healthz")
    def healthz() -> Response:
        return _plain("alive")

    @app.get("/readyz")
    def readyz() -> Response:
        if not node.ready:
            state = node.cluster()["state"]
            raise Problem(503, "Not ready", f"this node is {state}: it does not hold all counts")
        return _plain("ready")

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(node.metrics.text(), content_type="text/plain; version=0.0.4")

    if not node.config.amqp_uri:

        @app.post("/mesh")
        def mesh() -> Response:
            if (request.content_length or 0) > MAX_BYTES:
                raise Problem(413, "Too large", f"a message has at most {MAX_BYTES} bytes")
            reason = node.take(request.get_data(cache=False))
            if reason in ("cut", "opening"):
                raise Problem(503, "Not listening", "this node takes no messages now")
            if reason == "size":
                raise Problem(413, "Too large", f"a message has at most {MAX_BYTES} bytes")
            if reason is not None:
                raise Problem(403, "Dropped", f"the message was dropped: {reason}")
            response = Response(status=204)
            if isinstance(node.transport, MeshTransport):
                response.headers[ID_HEADER] = node.transport.id
            return response

    if node.config.dev_mode:

        @app.post("/dev/cut")
        def cut() -> Response:
            node.cut = True
            return Response(status=204)

        @app.post("/dev/heal")
        def heal() -> Response:
            node.cut = False
            return Response(status=204)


def _plain(text: str) -> Response:
    response = Response(text + "\n", content_type="text/plain; charset=utf-8")
    response.headers["Cache-Control"] = "no-store"
    return response
