"""Where other nodes of a full mesh post their messages."""

from flask import Blueprint, Response, request

from counter.protocol.messages import MAX_BYTES
from counter.transport.mesh import MeshTransport
from counter.web import bodies
from counter.web.problems import Problem


def blueprint(mesh: MeshTransport) -> Blueprint:
    """`POST /mesh`: hand a message to the transport."""
    pages = Blueprint("mesh", __name__)

    @pages.post(mesh.path)
    @bodies.reads(MAX_BYTES)
    def take() -> Response:
        if request.mimetype != "application/octet-stream":
            # Also keeps out what any web page can make a browser post to loopback.
            raise Problem(415, "Not a message", "a message is application/octet-stream")
        reason = mesh.take(request.get_data(cache=False))
        if reason == "size":
            raise Problem(413, "Too large", f"a message has at most {MAX_BYTES} bytes")
        if reason in ("closed", "cut"):
            raise Problem(503, "Not listening", "this node takes no messages now")
        if reason not in (None, "repeated"):  # a transport may repeat a message
            raise Problem(403, "Dropped", f"the message was dropped: {reason}")
        return Response(status=204, headers=mesh.headers)

    return pages
