"""Endpoints about members: the cluster, counts side by side, the removal of a member."""

import secrets
import time

from flask import Blueprint, Response, make_response, render_template, request
from msgspec import json

from counter.node.gossip import LiveMemberError, NotReadyError, UnknownMemberError
from counter.node.node import Node
from counter.web import dev
from counter.web.cluster_view import show
from counter.web.problems import Problem, check_origin, wants_page
from counter.web.site import apart_in_words
from counter.web.survey import BusyError, Found, Survey
from counter.web.tokens import Tokens
from counter.web.videos import check

_END = 253_402_300_800
"""The year 10000, in Unix time."""
FIRST_VIDEO = "cats"
"""What the page shows side by side before anything was visited."""


def blueprint(node: Node) -> Blueprint:
    """`/cluster` and all below it; with `DEV_MODE` also `/dev`."""
    pages = Blueprint("cluster", __name__)
    process = secrets.token_hex(8)

    def found(video: str) -> Found:
        visits = node.corrections.visits(video, node.counter(video))
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
        apart = apart_in_words(shown["not_counted"])
        page = render_template(
            "cluster.html", cluster=shown, video=video, dev=dev_mode, apart=apart
        )
        return make_response(page)

    @pages.get("/cluster/counts")
    def side_by_side() -> Response:
        video = _video()
        try:
            nodes = survey.counts(video)
        except BusyError as error:
            raise Problem(429, "Busy", str(error)) from None
        return _json({"video": video, "nodes": nodes, "dev": node.config.dev_mode})

    @pages.get("/cluster/count")
    def one_count() -> Response:
        return _json(found(_video()))

    @pages.app_template_filter("utc")
    def utc(at: int) -> str:
        """A time in Unix ms for people; what no clock shows is left out."""
        seconds = at // 1000
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds)) if seconds < _END else ""

    tokens = Tokens(node.config)
    if tokens.has_admin:

        @pages.delete("/cluster/<member>")
        def remove(member: str) -> Response:
            check_origin()
            tokens.check_admin(request)
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


def _json(content: object) -> Response:
    return Response(json.encode(content) + b"\n", content_type="application/json")
