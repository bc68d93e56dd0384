"""Reports as nodes of the version before send and expect them: every run by its name.

While one of them is heard, what it needs is sent beside what all others read (`announced.py`).
It never agrees to fold with a node of this version, which tells it no content hash of closed runs.
A rolling restart needs this; it goes with the next version.

Pure: no I/O; times are in seconds of the caller's clock, which never goes back.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Protocol

from msgspec.structs import replace

from counter.crdt.ids import folded_of, is_folded, member_of, replica_of, run_of
from counter.protocol.announced import Copy
from counter.protocol.messages import PreviousMemberReport
from counter.protocol.positions import Positions


@dataclass(slots=True)
class Claim:
    """What a node has said of one member: three runs (see `members.py`), and copies by vector."""

    latest: str
    removed: str
    mark: str
    copies: dict[str, Copy] = field(default_factory=dict)


class PreviousAnnounced:
    """All that a node has said of members; both the node and every receiver remember it.

    A report holds only what has changed since the one before, and the checksum of all that was
    said. A receiver with another checksum has missed a report, and asks for everything.
    """

    def __init__(self) -> None:
        self.logs: dict[str, Positions] = {}
        """How far visit logs were said to have been read."""
        self._claims: dict[str, Claim] = {}
        self._checksum = 0

    @property
    def checksum(self) -> int:
        """The sum of a hash of each thing that was said, in 63 bits; 0 if nothing was."""
        return self._checksum % 2**63

    def of(self, member: str) -> Claim | None:
        """What was said of a member."""
        return self._claims.get(member)

    def say(self, member: str, report: PreviousMemberReport) -> Claim:
        """Take in what is said of a member, which may be a part; return all that was said of it."""
        runs = report.latest, report.removed, report.mark
        claim = self._claims.get(member)
        if claim is None or (claim.latest, claim.removed, claim.mark) != runs:
            # Folded there meanwhile. Nothing else ever leaves what was said.
            copies = claim.copies if claim else {}
            kept = {vector: copy for vector, copy in copies.items() if run_of(vector) > runs[2]}
            self._checksum -= _sum(member, claim)
            claim = self._claims[member] = Claim(*runs, kept)
            self._checksum += _sum(member, claim)
        if claim.mark:
            self._copy(claim, folded_of(member, claim.mark), Copy(*report.folded))
        for run, copy in report.runs.items():
            self._copy(claim, replica_of(member, run), Copy(*copy))
        return claim

    def say_read(self, log: str, positions: Positions) -> None:
        """Take in how far a visit log is said to have been read."""
        for sign, said in (-1, self.logs.get(log)), (1, positions):
            if said:
                self._checksum += sign * _hash(log, sorted(said.items()))
        self.logs[log] = positions

    def news(self, member: str, report: PreviousMemberReport) -> PreviousMemberReport | None:
        """The part of what might be said of a member that was not said yet, if there is any."""
        claim = self._claims.get(member)
        said = claim.copies if claim else {}
        runs = {
            run: copy
            for run, copy in report.runs.items()
            if said.get(replica_of(member, run)) != copy
        }
        folded = folded_of(member, report.mark)
        if claim is not None and not runs:
            heads = claim.latest, claim.removed, claim.mark
            same = heads == (report.latest, report.removed, report.mark)
            if same and (not claim.mark or said.get(folded) == report.folded):
                return None
        return replace(report, runs=runs)

    def reports(self) -> dict[str, PreviousMemberReport]:
        """Everything that was said, by member."""
        return {
            member: PreviousMemberReport(
                claim.latest,
                claim.removed,
                claim.mark,
                claim.copies.get(folded_of(member, claim.mark), (0, 0)),
                {run_of(v): copy for v, copy in claim.copies.items() if not is_folded(v)},
            )
            for member, claim in self._claims.items()
        }

    def total(self, replica: str) -> int:
        """How much was said to be held of a vector."""
        claim = self._claims.get(member_of(replica))
        copy = claim.copies.get(replica) if claim else None
        return copy.total if copy else 0

    def copies(self, members: Iterable[str] | None = None) -> Iterator[tuple[str, Copy]]:
        """Everything that was said to be held; with `members` only of theirs."""
        for member in self._claims if members is None else members:
            if claim := self._claims.get(member):
                yield from claim.copies.items()

    def _copy(self, claim: Claim, vector: str, copy: Copy) -> None:
        before = claim.copies.get(vector)
        if before != copy:
            self._checksum += _hash(vector, copy) - (_hash(vector, before) if before else 0)
            claim.copies[vector] = copy


def _sum(member: str, claim: Claim | None) -> int:
    if claim is None:
        return 0
    copies = sum(_hash(vector, copy) for vector, copy in claim.copies.items())
    return copies + _hash(member, (claim.latest, claim.removed, claim.mark))


def _hash(name: str, said: object) -> int:
    return int.from_bytes(blake2b(f"{name} {said}".encode(), digest_size=8).digest(), "big")


class Held(Protocol):
    """What a `PreviousMemberReport` is made of: the vectors of a node, as `Tally` has them."""

    def of(self, member: str) -> list[str]:
        """The vectors of a member."""

    def mark(self, member: str) -> str:
        """Its fold mark."""

    def total(self, vector: str) -> int:
        """The sum of a vector."""

    def digest(self, vector: str) -> int:
        """Its content hash."""


def previous_report(
    held: Held, member: str, latest: str, removed: str, published: tuple[str, int]
) -> PreviousMemberReport:
    """What to tell of a member; `published` is the own replica with what it has published.

    No run is told with a content hash, so that nodes of the version before never find that all
    agree upon one, and fold none.
    """
    own, total = published
    mark = held.mark(member)
    folded = folded_of(member, mark)
    runs: dict[str, tuple[int, int | None]] = {
        run_of(vector): (total if vector == own else held.total(vector), None)
        for vector in held.of(member)
        if not is_folded(vector)
    }
    told = (held.total(folded), held.digest(folded)) if held.total(folded) else (0, 0)
    return PreviousMemberReport(latest, removed, mark, told, runs)
