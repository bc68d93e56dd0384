"""What nodes of the version before tell and expect to be told: every run by its name.

While one of them is heard, what it needs is told beside what all others read (`announced.py`).
It never agrees to fold with a node of this version: that tells it no content hash of closed runs.
This is what a rolling restart needs, and goes with the next version.

Pure: no I/O; times are in seconds of the caller's clock, which never goes back.
"""

from collections.abc import Iterator
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
    """All that a node has said of members: it remembers that itself, and so does who hears it.

    A report holds only what has changed since the one before, and the checksum of all that was
    said. Who has another checksum has missed a report, and asks for everything.
    """

    def __init__(self) -> None:
        self.logs: dict[str, Positions] = {}
        """How far visit logs were said to have been read."""
        self._words: dict[str, Claim] = {}
        self._checksum = 0

    @property
    def checksum(self) -> int:
        """The sum of a hash of each thing that was said, in 63 bits; 0 if nothing was."""
        return self._checksum % 2**63

    def of(self, member: str) -> Claim | None:
        """What was said of a member."""
        return self._words.get(member)

    def say(self, member: str, standing: PreviousMemberReport) -> Claim:
        """Take in what is said of a member, which may be a part; return all that was said of it."""
        runs = standing.latest, standing.removed, standing.mark
        word = self._words.get(member)
        if word is None or (word.latest, word.removed, word.mark) != runs:
            # Folded there meanwhile. Nothing else ever leaves what was said.
            copies = word.copies if word else {}
            kept = {vector: copy for vector, copy in copies.items() if run_of(vector) > runs[2]}
            self._checksum -= _sum(member, word)
            word = self._words[member] = Claim(*runs, kept)
            self._checksum += _sum(member, word)
        if word.mark:
            self._copy(word, folded_of(member, word.mark), Copy(*standing.folded))
        for run, copy in standing.runs.items():
            self._copy(word, replica_of(member, run), Copy(*copy))
        return word

    def say_read(self, log: str, positions: Positions) -> None:
        """Take in how far a visit log is said to have been read."""
        for sign, said in (-1, self.logs.get(log)), (1, positions):
            if said:
                self._checksum += sign * _hash(log, sorted(said.items()))
        self.logs[log] = positions

    def news(self, member: str, standing: PreviousMemberReport) -> PreviousMemberReport | None:
        """The part of what might be said of a member that was not said yet, if there is any."""
        word = self._words.get(member)
        said = word.copies if word else {}
        runs = {
            run: copy
            for run, copy in standing.runs.items()
            if said.get(replica_of(member, run)) != copy
        }
        folded = folded_of(member, standing.mark)
        if word is not None and not runs:
            heads = word.latest, word.removed, word.mark
            same = heads == (standing.latest, standing.removed, standing.mark)
            if same and (not word.mark or said.get(folded) == standing.folded):
                return None
        return replace(standing, runs=runs)

    def standings(self) -> dict[str, PreviousMemberReport]:
        """Everything that was said, by member."""
        return {
            member: PreviousMemberReport(
                word.latest,
                word.removed,
                word.mark,
                word.copies.get(folded_of(member, word.mark), (0, 0)),
                {run_of(v): copy for v, copy in word.copies.items() if not is_folded(v)},
            )
            for member, word in self._words.items()
        }

    def total(self, replica: str) -> int:
        """How much was said to be held of a vector."""
        word = self._words.get(member_of(replica))
        copy = word.copies.get(replica) if word else None
        return copy.total if copy else 0

    def copies(self) -> Iterator[tuple[str, Copy]]:
        """Everything that was said to be held."""
        for word in self._words.values():
            yield from word.copies.items()

    def _copy(self, word: Claim, vector: str, copy: Copy) -> None:
        before = word.copies.get(vector)
        if before != copy:
            self._checksum += _hash(vector, copy) - (_hash(vector, before) if before else 0)
            word.copies[vector] = copy


def _sum(member: str, word: Claim | None) -> int:
    if word is None:
        return 0
    copies = sum(_hash(vector, copy) for vector, copy in word.copies.items())
    return copies + _hash(member, (word.latest, word.removed, word.mark))


def _hash(name: str, said: object) -> int:
    return int.from_bytes(blake2b(f"{name} {said}".encode(), digest_size=8).digest(), "big")


class Kept(Protocol):
    """What a `PreviousMemberReport` is made of: the vectors of a node, as `Tally` has them."""

    def of(self, member: str) -> list[str]:
        """The vectors of a member."""

    def mark(self, member: str) -> str:
        """Its fold mark."""

    def total(self, vector: str) -> int:
        """The sum of a vector."""

    def digest(self, vector: str) -> int:
        """Its content hash."""


def standing(
    kept: Kept, member: str, latest: str, removed: str, published: tuple[str, int]
) -> PreviousMemberReport:
    """How a member stands here; `published` is the own replica with what it has published.

    No run is told with a content hash, so that nodes of the version before never find that all
    agree upon one, and fold none.
    """
    own, total = published
    mark = kept.mark(member)
    folded = folded_of(member, mark)
    runs: dict[str, tuple[int, int | None]] = {
        run_of(vector): (total if vector == own else kept.total(vector), None)
        for vector in kept.of(member)
        if not is_folded(vector)
    }
    told = (kept.total(folded), kept.digest(folded)) if kept.total(folded) else (0, 0)
    return PreviousMemberReport(latest, removed, mark, told, runs)
