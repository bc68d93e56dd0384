"""Endpoints about nodes: members, health, metrics, messages between nodes, demonstrations."""

from typing import Any

from flask import Flask, Response, make_response, render_template, request
from msgspec import json

from counter.ids import name_of
from counter.messages import MAX_BYTES
from counter.node import Node
from counter.web.problems import Problem, wants_page


def install(app: Flask, node: Node) -> None:
    """Add the endpoints about nodes."""

    @app.get("/cluster")
    def cluster() -> Response:
        shown = show(node)
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
            raise Problem(503, "Not ready", f"this node is {node.state}; ask another one")
        return _plain("ready")

    @app.get("/metrics")
    def metrics() -> Response:
        response = Response(node.metrics.text(), content_type="text/plain; version=0.0.4")
        response.headers["Cache-Control"] = "no-store"
        return response

    if not node.config.amqp_uri:

        @app.post("/mesh")
        def mesh() -> Response:
            if request.mimetype != "application/octet-stream":
                # Also keeps out what any web page can make a browser post to loopback.
                raise Problem(415, "Not a message", "a message is application/octet-stream")
            too_large = Problem(413, "Too large", f"a message has at most {MAX_BYTES} bytes")
            if (request.content_length or 0) > MAX_BYTES:
                raise too_large
            if node.mesh is None:
                raise Problem(503, "Not listening", "this node is starting")
            reason = node.mesh.take(request.get_data(cache=False))
            if reason == "size":
                raise too_large
            if reason in ("closed", "cut"):
                raise Problem(503, "Not listening", "this node takes no messages now")
            if reason is not None:
                raise Problem(403, "Dropped", f"the message was dropped: {reason}")
            return Response(status=204, headers=node.mesh.headers)

    if node.config.dev_mode:

        @app.post("/dev/cut")
        def cut() -> Response:
            _check_origin()
            node.cut = True
            return Response(status=204)

        @app.post("/dev/heal")
        def heal() -> Response:
            _check_origin()
            node.cut = False
            return Response(status=204)


def show(node: Node) -> dict[str, Any]:
    """The cluster as this node sees it, for the page and as JSON."""
    own = node.replica.member if node.replica else None
    return {
        "node": node.name,
        "member": own,
        "state": node.state,
        "store": {
            "kind": node.store.kind if node.store else None,
            "up": node.store_up,
            "unflushed": node.unflushed(),
        },
        "transport": {
            "kind": node.transport.kind if node.transport else None,
            "up": node.transport_up,
        },
        "warnings": [
            f"Two live nodes are called {name!r}"
            + (", and run on copies of one store" if copies else "")
            + ": counts stay exact, but give each node a NAME and a store of its own."
            for name, copies in sorted(node.doubled().items())
        ],
        "members": [
            {
                "member": member.member,
                "name": name_of(member.member),
                "visits": member.visits,
                "live": member.live,
                "state": member.state,
                "self": member.member == own,
                "heard": None if member.heard is None else round(member.heard, 1),
                "behind": member.behind,
            }
            for member in node.members()
        ],
    }


def _check_origin() -> None:
    """Raise a `Problem` if a browser sends this for a page of another site."""
    if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        raise Problem(403, "Another site", "only a page of this node may ask for that")


def _plain(text: str) -> Response:
    response = Response(text + "\n", content_type="text/plain; charset=utf-8")
    response.headers["Cache-Control"] = "no-store"
    return response
