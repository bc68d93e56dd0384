"""The endpoint where an operator asks why a visit does not count."""

import ipaddress
from typing import NamedTuple
from urllib.parse import parse_qs

import msgspec
from flask import Blueprint, Response, request

from counter.addresses import one
from counter.crdt.ids import CLASSES
from counter.node.judge import Visitor
from counter.node.node import Node
from counter.node.viewers import Person
from counter.protocol.client import Client
from counter.web.badge import is_image_proxy
from counter.web.problems import Problem
from counter.web.tokens import Tokens
from counter.web.videos import check, is_ahead


class Verdict(NamedTuple):
    """What would become of a visit: the reason and the setting that decide, and a sentence.

    The reason is one of the `CLASSES`, "prefetch", "unannounced", or None if it would count.
    """

    reason: str | None
    setting: str | None
    because: str


def blueprint(node: Node) -> Blueprint:
    """`GET /why`, where there are tokens of operators."""
    pages = Blueprint("why", __name__)
    tokens = Tokens(node.config)
    if not tokens.has_admin:
        return pages

    @pages.get("/why")
    def why() -> Response:
        tokens.check_admin(request)
        video, agent, address, purpose = map(
            request.args.get, ("video", "agent", "address", "purpose"), ("", "", "", "")
        )
        if video:
            check(video)
        client = Client(_one(address))
        verdict = judged(node, video, Visitor(_sent("agent"), lambda: client), purpose)
        content = {
            "video": video or None,
            "agent": agent,
            "address": address or None,
            "counted": verdict.reason is None,
            **verdict._asdict(),
        }
        return Response(msgspec.json.encode(content) + b"\n", content_type="application/json")

    return pages


def judged(node: Node, video: str, visitor: Visitor, purpose: str) -> Verdict:
    """What would become of a visit without a token; `purpose` is what a browser says it is for.

    Without a `video` only those rules are asked that are about visitors.
    """
    judge, config = node.judge, node.config
    if is_ahead(purpose):
        because = f"a browser that says {purpose[:40]!r} fetches it before anybody has seen it"
        return Verdict("prefetch", None, f"{because}; that is kept in no number")
    if video and not node.counting.may_count(video):
        because = f"only ids that an operator has announced count, and {video!r} is none"
        return Verdict("unannounced", f"VIDEOS={config.videos}", because)
    if video and judge.blocked(video):
        return Verdict("blocked", None, f"an operator has blocked {video!r}")
    if judge.is_bot(visitor):
        called = judge.called(visitor.agent)
        because = "an agent that says nothing is taken for a program"
        if called:
            called = called.encode("latin-1", "replace").decode("utf-8", "replace")
            because = f"the list of crawlers and programs finds {called!r} in its agent"
        if is_image_proxy(visitor.agent):
            because += "; a badge with ?count=1 counts all the same, as an image proxy has readers"
        return Verdict("bot", f"BOTS={config.bots}", because)
    address = visitor.client().address
    if video and address and judge.would_repeat(video, Person(address, visitor.agent)):
        because = f"this viewer was counted for {video!r} a moment ago"
        return Verdict("repeat", f"REPEAT_WINDOW={config.repeat_window:g}", because)
    return Verdict(None, None, f"it would count: {_unless(video, address, config.repeat_window)}")


def _unless(video: str, address: str, window: float) -> str:
    """Which of the reasons do not apply, and which were not asked, for what was not told."""
    unasked: dict[str, str] = {} if video else {"blocked": "video"}
    if window and not (video and address):
        unasked["repeat"] = "address" if video else "video"
    asked = ", ".join(reason for reason in CLASSES if reason not in unasked)
    left = "".join(f"; {reason} was not asked: no {w} given" for reason, w in unasked.items())
    return f"none of the reasons applies ({asked}){left}"


def _sent(name: str) -> str:
    """What a header with the bytes of this argument is to a visit: WSGI reads them as Latin-1."""
    query = request.query_string.decode("latin-1")
    return parse_qs(query, keep_blank_values=True, encoding="latin-1").get(name, [""])[0]


def _one(address: str) -> str:
    """What counts as one client with this address; a `Problem` for none."""
    if not address:
        return ""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise Problem(
            400,
            "Bad address",
            f"address={address[:100]!r} is no address; write one like 192.0.2.7 or 2001:db8::7",
            {"field": "address"},
        ) from None
    return one(address)
