"""The cluster as a node sees it, in the form of `GET /cluster`, with warnings for its operator."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from counter.crdt.ids import name_of
from counter.crdt.limits import capped
from counter.node.follower import Reading
from counter.node.node import Node
from counter.node.rates import Rate
from counter.node.status import Folding
from counter.protocol.joining import Lack
from counter.protocol.messages import Part
from counter.protocol.records import Record
from counter.protocol.roster import Member
from counter.web.hidden import hide

_MAX_LACKS = 100
"""How much of what a node lacks is shown."""


def show(node: Node) -> dict[str, Any]:
    """The cluster as this node sees it, for the page and as JSON."""
    own = node.replica.member if node.replica else None
    folding = node.status.folding()
    members = node.status.members()
    lacks = node.status.lacks()
    # Read after the members, so that each of them has rates.
    rates = node.status.rates()
    reading = node.follower.reading() if node.follower else None
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
        "folding": _folding(folding),
        "videos": _videos(node),
        "not_counted": {of: capped(n) for of, n in node.status.not_counted().items() if n},
        "ledger": {
            "records": node.corrections.count(),
            "latest": [_record(record) for record in node.corrections.latest()],
        },
        "log": _log(reading) if reading else None,
        "clock": {
            "wrong": node.status.clock_wrong,
            "differs": [
                {"member": member, "name": name_of(member), "seconds": round(seconds, 1)}
                for member, seconds in differing.items()
            ],
        },
        "warnings": [
            hide(warning) for warning in _warnings(node, folding, lacks, differing, reading)
        ],
        "members": [
            _member(member, own, ahead, differing, rates[member.member]) for member in members
        ],
    }


def _warnings(
    node: Node,
    folding: Folding,
    lacks: list[Lack],
    differing: dict[str, float],
    reading: Reading | None,
) -> Iterator[str]:
    """What its operator ought to know, as the log says it."""
    yield from _refused(node)
    yield from _ids(node)
    yield from _damaged(node)
    yield from _clocks(node, differing)
    yield from _duplicates(node)
    yield from _blocked(node, folding)
    yield from _lacking(node, lacks)
    yield from _unread(reading)


def _log(reading: Reading) -> dict[str, Any]:
    """How far the visit log is read; of its path the last part."""
    return reading._replace(path=Path(reading.path).name)._asdict()


def _folding(folding: Folding) -> dict[str, Any]:
    return {
        "closed_runs": folding.closed,
        "folds": folding.folds,
        "waits_for": [
            {
                "member": blocker.member,
                "heard": None if blocker.heard is None else round(blocker.heard, 1),
                "earlier_life": blocker.earlier_life,
            }
            for blocker in folding.waits_for
        ],
    }


def _member(
    member: Member,
    own: str | None,
    ahead: Mapping[str, float],
    differing: Mapping[str, float],
    rate: Rate,
) -> dict[str, Any]:
    """One member; `ahead` and `differing` are the clocks of all."""
    health = member.health
    return {
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
        "store": _part(health.store if health else None),
        "transport": _part(health.transport if health else None),
        "visits_per_second": _rounded(rate.visits),
        "messages_per_second": _rounded(rate.messages),
    }


def _record(record: Record) -> dict[str, Any]:
    """What everybody may read of a record."""
    return {
        "id": record.id,
        "at": record.at,
        "by": record.by,
        "video": record.video,
        "act": record.act,
        "withdraw": capped(record.number),
        "reason": record.reason,
    }


def _part(told: Part | None) -> dict[str, Any] | None:
    return None if told is None else {"kind": told[0], "up": told[1]}


def _rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 2)


def _clocks(node: Node, differing: dict[str, float]) -> Iterator[str]:
    """A warning for this node's clock, and for each member that is not heard because of its own."""
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


def _videos(node: Node) -> dict[str, Any]:
    """Which ids count, how many there are, and how many were refused."""
    known, announced = node.status.videos()
    return {
        "mode": node.config.videos,
        "known": known,
        "announced": announced,
        "new_a_second": node.config.new_videos,
        "refused": node.counting.new_videos.refused,
    }


def _ids(node: Node) -> Iterator[str]:
    """A warning while no id counts, and one while ids are refused."""
    announce = (
        "announce the ids that are to count: POST /videos with a WRITE_TOKEN, see "
        "docs/operating.md#new-videos"
    )
    only_announced = node.config.videos == "known"
    if only_announced and not node.status.videos()[1]:
        yield f"VIDEOS=known, and no id is announced, so no visit counts: {announce}."
    refusals = node.counting.new_videos.lately()
    if refusals is None:
        return
    last = f"{refusals.videos} ids were refused, the last one {_time(refusals.ago)} ago"
    if only_announced:
        yield f"{last}: they are not announced (VIDEOS=known). If they should count, {announce}."
    else:
        yield (
            f"{last}: more are new than NEW_VIDEOS={node.config.new_videos} a second allows. Known "
            f"ids count as ever. If this is no attack, increase NEW_VIDEOS, send a token, or "
            f"{announce}."
        )


def _refused(node: Node) -> Iterator[str]:
    """A warning while the broker refuses this node."""
    if problem := node.transport.problem:
        yield f"This node hears no other, and counts on alone; nothing is lost. {problem}."


def _damaged(node: Node) -> Iterator[str]:
    """A warning for each time that the store was found damaged."""
    for damage in node.status.damage():
        yield f"The store of this node was damaged: {damage}."
    if suspected := node.status.suspected():
        yield (
            f"Counts of {len(suspected)} runs in the store of this node are in doubt, and not used "
            f"before all members were asked for them ({suspected[0]}): its numbers may be smaller "
            "until then. Start the members that are down, or remove those that are gone for good."
        )


def _duplicates(node: Node) -> Iterator[str]:
    """A warning for each name that two live nodes have."""
    for name, copies in sorted(node.status.duplicate_names().items()):
        same = ", and run on copies of one store" if copies else ""
        yield (
            f"Two live nodes are called {name!r}{same}: counts stay exact, but give each node "
            "a NAME and a store of its own."
        )


def _blocked(node: Node, folding: Folding) -> Iterator[str]:
    """A warning for each member that folding waits for longer than its restart would take."""
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
    """A warning if the node is ready although it does not hold what its peers do."""
    if node.ready and lacks:
        peers = sorted({name_of(lack.told_by) for lack in lacks})
        yield (
            f"{node.name} hears {', '.join(peers)}, and lacks some of what they hold "
            f"({lacks[0].what}): it shows less, refuses requests with an Idempotency-Key, and does "
            "not read its visit log until it has that. See whether messages get through both ways."
        )


def _unread(reading: Reading | None) -> Iterator[str]:
    """A warning while the visit log waits."""
    if reading and reading.waits and reading.unread:
        yield (
            f"{reading.unread} bytes of the visit log wait, and are counted later: {reading.waits}."
        )


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds // 60:.0f} min" if seconds < 3600 else f"{seconds // 3600:.0f} h"
