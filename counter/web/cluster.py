"""Endpoints about members: the cluster, counts side by side, the removal of a member."""

import hmac
import secrets

from flask import Blueprint, Response, make_response, render_template, request
from msgspec import json

from counter.crdt.limits import visits_of
from counter.node.gossip import LiveMemberError, NotReadyError, UnknownMemberError
from counter.node.node import Node
from counter.web import dev
from counter.web.cluster_view import show
from counter.web.problems import Problem, check_origin, wants_page
from counter.web.survey import BusyError, Found, Survey
from counter.web.videos import check

FIRST_VIDEO = "cats"
"""What the page shows side by side before anything was visited."""


def blueprint(node: Node) -> Blueprint:
    """`/cluster` and all below it; with `DEV_MODE` also `/dev`."""
    pages = Blueprint("cluster", __name__)
    process = secrets.token_hex(8)

    def found(video: str) -> Found:
        visits = visits_of(node.counter(video))
        return Found(node.name, visits, node.state, node.gossip.cut, process)

    survey = Survey(node.addresses, found, process)

    @pages.get("/cluster")
    def cluster() -> Response:
        shown = show(node)
        if not wants_page():
            return _json(shown)
        video = request.args.get("video") or next(iter(node.top(1)), FIRST_VIDEO)
        check(video)
        dev_mode = node.config.dev_mode
        page = render_template("cluster.html", cluster=shown, video=video, dev=dev_mode)
        return make_response(page)

    @pages.get("/cluster/counts")
    def side_by_side() -> Response:
        video = _video()
        try:
            nodes = survey.counts(video)
        except BusyError as error:
            raise Problem(503, "Busy", str(error)) from None
        return _json({"video": video, "nodes": nodes, "dev": node.config.dev_mode})

    @pages.get("/cluster/count")
    def one_count() -> Response:
        return _json(found(_video()))

    if token := node.config.admin_token:

        @pages.delete("/cluster/<member>")
        def remove(member: str) -> Response:
            check_origin()
            _check_token(token)
            return _remove(node, member)

    if node.config.dev_mode:
        pages.register_blueprint(dev.blueprint(node, survey))
    return pages


def _remove(node: Node, member: str) -> Response:
    try:
        removed = node.gossip.remove(member)
    except UnknownMemberError as error:
        raise Problem(404, "No such member", str(error)) from None
    except LiveMemberError as error:
        raise Problem(409, "Still live", str(error)) from None
    except NotReadyError as error:
        raise Problem(503, "Not ready", str(error)) from None
    return _json({"member": member, "removed": True, "already": not removed})


def _video() -> str:
    """The one video that is asked for."""
    videos = request.args.getlist("video")
    if len(videos) != 1:
        raise Problem(400, "No video" if not videos else "Too many videos", "name one: ?video=cats")
    check(videos[0])
    return videos[0]


def _check_token(token: str) -> None:
    """Raise a `Problem` unless the request has the operator's token."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not given.strip():
        raise Problem(401, "No token", "this is for the operator: send Authorization: Bearer TOKEN")
    # A header comes as latin-1, whatever its bytes mean.
    if not hmac.compare_digest(given.strip().encode("latin-1", "replace"), token.encode()):
        raise Problem(401, "Wrong token", "the token is not the ADMIN_TOKEN of this node")


def _json(content: object) -> Response:
    return Response(json.encode(content) + b"\n", content_type="application/json")
