"""Endpoints about nodes: members, counts side by side, health, metrics, messages between nodes."""

import hmac
import secrets
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, make_response, render_template, request
from msgspec import json

from counter.crdt.ids import name_of
from counter.crdt.limits import capped, visits_of
from counter.node.gossip import LiveMemberError, NotReadyError, UnknownMemberError
from counter.node.node import Node
from counter.node.status import Folding
from counter.protocol.joining import Lack
from counter.protocol.messages import MAX_BYTES, Part
from counter.web import dev
from counter.web.problems import Problem, check_origin, wants_page
from counter.web.survey import BusyError, Found, Others
from counter.web.videos import check

_MAX_LACKS = 100
"""Of what a node lacks so much is told."""
FIRST_VIDEO = "cats"
"""What the page shows side by side where nothing was visited yet."""


def install(app: Flask, node: Node) -> None:
    """Add the endpoints about nodes."""
    process = secrets.token_hex(8)

    def found(video: str) -> Found:
        visits = visits_of(node.counter(video))
        return Found(node.name, visits, node.state, node.gossip.cut, process)

    others = Others(node.addresses, found, process)

    @app.get("/cluster")
    def cluster() -> Response:
        shown = show(node)
        if wants_page():
            video = request.args.get("video") or next(iter(node.top(1)), FIRST_VIDEO)
            check(video)
            dev_mode = node.config.dev_mode
            page = render_template("cluster.html", cluster=shown, video=video, dev=dev_mode)
            response = make_response(page)
        else:
            response = Response(json.encode(shown) + b"\n", content_type="application/json")
        return response

    @app.get("/cluster/counts")
    def side_by_side() -> Response:
        video = _video()
        try:
            nodes = others.counts(video)
        except BusyError as error:
            raise Problem(503, "Busy", str(error)) from None
        shown = {"video": video, "nodes": nodes, "dev": node.config.dev_mode}
        return Response(json.encode(shown) + b"\n", content_type="application/json")

    @app.get("/cluster/count")
    def one_count() -> Response:
        shown = json.encode(found(_video()))
        return Response(shown + b"\n", content_type="application/json")

    @app.get("/healthz")
    def healthz() -> Response:
        return _plain("alive")

    @app.get("/readyz")
    def readyz() -> Response:
        if not node.ready:
            why = f"this node is {node.state}"
            if node.state == "ready":
                why = "this node's clock is wrong, so it hears no other"
            raise Problem(503, "Not ready", f"{why}; ask another one")
        return _plain("ready")

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(node.metrics.text(), content_type="text/plain; version=0.0.4")

    if token := node.config.admin_token:

        @app.delete("/cluster/<member>")
        def remove(member: str) -> Response:
            check_origin()
            _check_token(token)
            try:
                removed = node.gossip.remove(member)
            except UnknownMemberError as error:
                raise Problem(404, "No such member", str(error)) from None
            except LiveMemberError as error:
                raise Problem(409, "Still live", str(error)) from None
            except NotReadyError as error:
                raise Problem(503, "Not ready", str(error)) from None
            done = {"member": member, "removed": True, "already": not removed}
            return Response(json.encode(done) + b"\n", content_type="application/json")

    if (transport := node.mesh) is not None:

        @app.post("/mesh")
        def mesh() -> Response:
            if request.mimetype != "application/octet-stream":
                # Also keeps out what any web page can make a browser post to loopback.
                raise Problem(415, "Not a message", "a message is application/octet-stream")
            too_large = Problem(413, "Too large", f"a message has at most {MAX_BYTES} bytes")
            if (request.content_length or 0) > MAX_BYTES:
                raise too_large
            reason = transport.take(request.get_data(cache=False))
            if reason == "size":
                raise too_large
            if reason in ("closed", "cut"):
                raise Problem(503, "Not listening", "this node takes no messages now")
            if reason is not None:
                raise Problem(403, "Dropped", f"the message was dropped: {reason}")
            return Response(status=204, headers=transport.headers)

    if node.config.dev_mode:
        dev.install(app, node, others)


def show(node: Node) -> dict[str, Any]:
    """The cluster as this node sees it, for the page and as JSON."""
    own = node.replica.member if node.replica else None
    folding = node.status.folding()
    members = node.status.members()
    lacks = node.status.lacks()
    # Afterwards: a member that is new meanwhile has rates, too.
    rates = node.status.rates()
    ahead, differing = node.status.clock_differences(), node.status.clocks_differing()
    return {
        "node": node.name,
        "member": own,
        "state": node.state,
        "complete": node.status.complete,
        "lacks": [lack._asdict() for lack in lacks[:_MAX_LACKS]],
        "store": {
            "kind": node.store.kind,
            "up": node.status.store_up,
            "unflushed": capped(node.status.unflushed()),
        },
        "transport": {
            "kind": node.transport.kind,
            "up": node.status.transport_up,
        },
        "folding": {
            "closed_runs": folding.closed,
            "folds": folding.folds,
            "waits_for": [
                {
                    "member": fold_blockers.member,
                    "heard": None if fold_blockers.heard is None else round(fold_blockers.heard, 1),
                    "earlier_life": fold_blockers.earlier_life,
                }
                for fold_blockers in folding.waits_for
            ],
        },
        "log": node.follower.reading()._asdict() if node.follower else None,
        "clock": {
            "wrong": node.status.clock_wrong,
            "differs": [
                {"member": member, "name": name_of(member), "seconds": round(seconds, 1)}
                for member, seconds in differing.items()
            ],
        },
        "warnings": [
            *_damaged(node),
            *_clocks(node, differing),
            *_doubled(node),
            *_awaited(node, folding),
            *_lacking(node, lacks),
        ],
        "members": [
            {
                "member": member.member,
                "name": name_of(member.member),
                "visits": capped(member.visits),
                "live": member.live,
                "state": member.state,
                "self": member.member == own,
                "heard": None if member.heard is None else round(member.heard, 1),
                "behind": None if member.behind is None else capped(member.behind),
                "clock_difference": _rounded(ahead.get(member.member)),
                "in_step": member.member not in differing if member.member in ahead else None,
                "removed": member.removed,
                "folded": capped(member.folded),
                "runs": member.runs,
                "store": _part(member.health.store if member.health else None),
                "transport": _part(member.health.transport if member.health else None),
                "visits_per_second": _rounded(rates[member.member].visits),
                "messages_per_second": _rounded(rates[member.member].messages),
            }
            for member in members
        ],
    }


def _part(told: Part | None) -> dict[str, Any] | None:
    return None if told is None else {"kind": told[0], "up": told[1]}


def _rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 2)


def _video() -> str:
    """The one video that is asked for."""
    videos = request.args.getlist("video")
    if len(videos) != 1:
        raise Problem(400, "No video" if not videos else "Too many videos", "name one: ?video=cats")
    check(videos[0])
    return videos[0]


def _clocks(node: Node, differing: dict[str, float]) -> Iterator[str]:
    """A warning for each member that is not heard for its clock, or that clocks differ."""
    if node.status.clock_wrong:
        yield (
            "This node's clock is wrong: it hears no other node, and others agree with each other. "
            "It counts on, but is not ready: set its clock right (NTP)."
        )
    for member, seconds in differing.items():
        where = "ahead of" if seconds > 0 else "behind"
        yield (
            f"The clock of {member} is {_time(abs(seconds))} {where} that of this node: neither "
            "hears the other, and both count on. Set the wrong one right (NTP); nothing is lost."
        )
    if differing and not node.status.complete:
        yield (
            f"{node.name} does not know what others have counted: until it hears one of them it "
            "refuses requests with an Idempotency-Key, and does not read its visit log."
        )


def _damaged(node: Node) -> Iterator[str]:
    """A warning each time that the store was found damaged."""
    for damage in node.status.damage():
        yield f"The store of this node was damaged: {damage}."
    if suspected := node.status.suspected():
        yield (
            f"Counts of {len(suspected)} runs in the store of this node are in doubt, and not used "
            f"before all members were asked for them ({suspected[0]}): its numbers may be smaller "
            "until then. Start the members that are down, or remove those that are gone for good."
        )


def _doubled(node: Node) -> Iterator[str]:
    """A warning for each name that two live nodes bear."""
    for name, copies in sorted(node.status.duplicate_names().items()):
        same = ", and run on copies of one store" if copies else ""
        yield (
            f"Two live nodes are called {name!r}{same}: counts stay exact, but give each node "
            "a NAME and a store of its own."
        )


def _awaited(node: Node, folding: Folding) -> Iterator[str]:
    """A warning for each member that folding waits for longer than a restart would take it."""
    for member, heard, silent, earlier_life in folding.waits_for:
        if silent <= 2 * node.config.message_ttl:
            continue
        silence = f"not heard for {_time(silent)}"
        if heard is None:
            silence = f"not heard since this node started {_time(silent)} ago"
        remedy = ". Start it, or if it is gone for good"
        if earlier_life:
            remedy = (
                f": it is an earlier life of {name_of(member)}, whose store was lost or replaced. "
                "If that store is gone for good"
            )
        yield f"Folding waits for {member}, {silence}{remedy}: flask cluster remove {member}"


def _lacking(node: Node, lacks: list[Lack]) -> Iterator[str]:
    """A warning where the node is ready, though it does not hold what its peers do."""
    if node.ready and lacks:
        peers = sorted({name_of(lack.told_by) for lack in lacks})
        yield (
            f"{node.name} hears {', '.join(peers)}, and lacks some of what they hold "
            f"({lacks[0].what}): it shows less, refuses requests with an Idempotency-Key, and does "
            "not read its visit log until it has that. See whether messages get through both ways."
        )


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds // 60:.0f} min" if seconds < 3600 else f"{seconds // 3600:.0f} h"


def _check_token(token: str) -> None:
    """Raise a `Problem` unless the request bears the operator's token."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not given.strip():
        raise Problem(401, "No token", "this is for the operator: send Authorization: Bearer TOKEN")
    # A header comes as latin-1, whatever its bytes mean.
    if not hmac.compare_digest(given.strip().encode("latin-1", "replace"), token.encode()):
        raise Problem(401, "Wrong token", "the token is not the ADMIN_TOKEN of this node")


def _plain(text: str) -> Response:
    return Response(text + "\n", content_type="text/plain; charset=utf-8")
