"""The outcome of a request of many visits: which of them count, and why the others do not."""

from collections.abc import Mapping
from hashlib import blake2b
from types import MappingProxyType

from counter.crdt.ids import class_key
from counter.crdt.limits import FullError
from counter.node.judge import Reason
from counter.protocol.key_log import Key
from counter.protocol.ledger import Ledger
from counter.protocol.replica import Replica

Reasons = Mapping[str, Reason]
"""Why visits do not count, by video; those that count are left out."""
ALL_COUNT: Reasons = MappingProxyType({})
OF_REQUEST = 8
"""So many bytes of a fingerprint tell one request from others; the rest says what became of it."""


def marked(fingerprint: bytes, reasons: Reasons) -> bytes:
    """The fingerprint of a request of which some does not count; without a key there is none.

    A request of which all counts has the same fingerprint as ever.
    """
    if not (fingerprint and reasons):
        return fingerprint
    outcome = "\n".join(f"{video} {reason}" for video, reason in sorted(reasons.items()))
    rest = max(0, len(fingerprint) - OF_REQUEST)
    mark = blake2b(outcome.encode(), digest_size=rest).digest() if rest else b""
    return fingerprint[:OF_REQUEST] + mark


def with_blocks(reasons: Reasons, visits: Mapping[str, int], ledger: Ledger) -> Reasons:
    """The same reasons, with the blocks of the ledger, which go before all others."""
    blocked = ledger.blocked(visits.keys())
    return {**reasons, **dict.fromkeys(blocked, "blocked")} if blocked else reasons


def counting(
    visits: Mapping[str, int], reasons: Reasons, *, once: bool = False
) -> Mapping[str, int]:
    """Those visits that count: with `once` no more than one of each video."""
    if any(video in visits for video in reasons):
        visits = {video: number for video, number in visits.items() if video not in reasons}
    return dict.fromkeys(visits, 1) if once else visits


def apart(visits: Mapping[str, int], reasons: Reasons, *, once: bool = False) -> dict[str, int]:
    """Those that do not, by the keys of their classes; with `once` the rest are repeats."""
    others = {class_key(video, reason): visits[video] for video, reason in reasons.items()}
    if once:
        more = ((video, n - 1) for video, n in visits.items() if n > 1 and video not in reasons)
        others |= {class_key(video, "repeat"): number for video, number in more}
    return others


def count_apart(
    replica: Replica,
    visits: Mapping[str, int],
    others: Mapping[str, int],
    key: Key | None = None,
) -> None:
    """Count visits, and those that do not count; one class that is full must not refuse the rest.

    Raises `FullError` if a video is full, or OverflowError if this run can count no more.
    """
    while True:
        try:
            replica.count_many({**visits, **others} if others else visits, key=key)
            return
        except FullError as error:
            room = {of: number for of, number in error.room.items() if of in others}
            if len(room) < len(error.room):
                raise
            others = {**others, **room}
            others = {of: number for of, number in others.items() if number}
