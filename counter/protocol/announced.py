"""What a node has announced in its reports; both the node and every receiver remember it.

A report holds what has changed of members since the one before, and the checksum of all that was
said. A receiver with another checksum has missed a report, and asks for everything. What is said of
a member replaces what was said of it before.

Pure: no I/O, no clock.
"""

from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import NamedTuple

from counter.crdt.ids import folded_of, member_of, replica_of, run_of
from counter.protocol.messages import MemberReport, RunsPage
from counter.protocol.positions import Positions

MAX_SAID = 100_000
"""Runs and days that are remembered of what one node has said, and names of closed runs."""
MAX_LOGS = 10_000
"""Visit logs whose positions are remembered: a node has one, or few."""


class Copy(NamedTuple):
    """A copy of a vector: its total, and its content hash where its writer is silent."""

    total: int
    digest: int | None


Day = tuple[str, int]
"""A member and a day."""


class Named(NamedTuple):
    """The closed runs of a day by name, as they were when its digest was this one.

    `complete` is False while more pages of them are to come.
    """

    digest: tuple[int, int]
    copies: dict[str, Copy]
    complete: bool


class Announced:
    """All that a node has said of members and visit logs."""

    def __init__(self) -> None:
        self.logs: dict[str, Positions] = {}
        """How far visit logs were said to have been read."""
        self.named: dict[Day, Named] = {}
        """The names of closed runs, where they were asked for because a digest is another."""
        self._members: dict[str, MemberReport] = {}
        self._passed_over: dict[str, int] = {}
        """Members that are not remembered here, and the hash of what was said of each."""
        self._checksum = 0
        self._size = 0

    @property
    def checksum(self) -> int:
        """The sum of a hash of each thing that was said, in 63 bits; 0 if nothing was."""
        return self._checksum % 2**63

    def of(self, member: str) -> MemberReport | None:
        """What was said of a member."""
        return self._members.get(member)

    def members(self) -> dict[str, MemberReport]:
        """Everything that was said of members."""
        return dict(self._members)

    def has_room(self, member: str, report: MemberReport) -> bool:
        """Whether this can be taken in beside all else that was said."""
        size = self._size + len(self._passed_over)
        return size + _size(report) - _size(self._members.get(member)) <= MAX_SAID

    def say(self, member: str, report: MemberReport) -> None:
        """Take in what is said of a member; it replaces what was said of it before."""
        before = self._members.get(member)
        self._size += _size(report) - _size(before)
        self._checksum -= self._passed_over.pop(member, 0)
        if before is not None:
            self._checksum -= _hash(member, _plain(before))
        self._checksum += _hash(member, _plain(report))
        self._members[member] = report
        for day in [day for day in self.named if day[0] == member]:
            if report.days.get(day[1]) != self.named[day].digest:
                del self.named[day]

    def pass_over(self, member: str, report: MemberReport) -> None:
        """Note that something was said of a member that is not remembered here.

        So it is not asked for again and again.
        """
        said = _hash(member, _plain(report))
        self._checksum += said - self._passed_over.get(member, 0)
        self._passed_over[member] = said

    def reconsider(self, is_remembered: Callable[[str], bool]) -> None:
        """Miss what was said of members that are remembered by now."""
        for member in [member for member in self._passed_over if is_remembered(member)]:
            self._checksum -= self._passed_over.pop(member)

    def say_read(self, log: str, positions: Positions) -> None:
        """Take in how far a visit log is said to have been read."""
        if log not in self.logs and len(self.logs) >= MAX_LOGS:
            return
        for sign, said in (-1, self.logs.get(log)), (1, positions):
            if said:
                self._checksum += sign * _hash(log, sorted(said.items()))
        self.logs[log] = positions

    def name(self, page: RunsPage) -> bool:
        """Take in a page of the names of a day's closed runs; say whether it follows the others.

        A page that does not is ignored: without those before it, its end is not the end of all.
        """
        day = page.member, page.day
        before = self.named.get(day)
        if before is None or before.digest != page.digest:
            before = Named(page.digest, {}, complete=False)
        if page.after and replica_of(page.member, page.after) not in before.copies:
            return False
        if sum(len(named.copies) for named in self.named.values()) + len(page.runs) > MAX_SAID:
            return False
        copies = before.copies
        for run, (total, digest, _) in page.runs.items():
            copies[replica_of(page.member, run)] = Copy(total, digest)
        self.named[day] = Named(page.digest, copies, before.complete or not page.next)
        return True

    def total(self, replica: str) -> int:
        """How much was said to be held of a vector that has a name here."""
        report = self._members.get(member_of(replica))
        copy = report.runs.get(run_of(replica)) if report else None
        return copy[0] if copy else 0

    def copies(self, members: Iterable[str] | None = None) -> Iterator[tuple[str, Copy]]:
        """Everything that was said to be held, where it was said by name.

        With `members` only what their latest reports name.
        """
        for member in self._members if members is None else members:
            if (report := self._members.get(member)) is None:
                continue
            if report.mark:
                yield folded_of(member, report.mark), Copy(*report.folded)
            for run, (total, digest, _) in report.runs.items():
                yield replica_of(member, run), Copy(total, digest)
        if members is not None:
            return
        for named in self.named.values():
            yield from named.copies.items()

    def days(self) -> Iterator[tuple[Day, tuple[int, int]]]:
        """The digest of each day of each member."""
        for member, report in self._members.items():
            for day, digest in report.days.items():
                yield (member, day), digest


def _size(report: MemberReport | None) -> int:
    return 0 if report is None else 1 + len(report.runs) + len(report.days)


def _plain(report: MemberReport) -> object:
    heads = report.latest, report.removed, report.mark, report.folded
    return heads, sorted(report.runs.items()), sorted(report.days.items())


def _hash(name: str, said: object) -> int:
    return int.from_bytes(blake2b(f"{name} {said}".encode(), digest_size=8).digest(), "big")
