"""The oracle's own book of the ledger: what operators did, and what must follow from it.

It reckons by itself, and keeps which records a store has ever held: those must be at every node in
the end, unless everything that held one was destroyed.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from counter.crdt.ids import class_of
from counter.protocol.records import RECORD, Record, decode, encode
from counter.protocol.replica import Replica
from simulation.disk import Disk


class Node(Protocol):
    """What the book looks at in a node."""

    @property
    def address(self) -> str: ...
    @property
    def disk(self) -> Disk: ...
    @property
    def replica(self) -> Replica | None: ...


class Book:
    """Every record that was made."""

    def __init__(self) -> None:
        self._made: dict[str, Record] = {}
        self.recorded: set[str] = set()
        """The notes of all records that any store ever held."""
        self._must: set[str] = set()
        """Those that a store has held, and that were not destroyed everywhere since."""
        self._withdrawn: dict[tuple[str, str], Mapping[str, int]] = {}
        """What was withdrawn at the latest look, by replica and video."""

    def __len__(self) -> int:
        """How many records must be there."""
        return len(self._must)

    def made(self, record: Record, replica: Replica) -> str:
        """A node has taken a correction. Returns what is wrong with it, "" if nothing is."""
        self._made[record.id] = record
        known = replica.ledger.of(record.video)
        if any(other.at >= record.at and other.id != record.id for other in known):
            return f"{record} is not later than what {replica.id} knew of its video"
        return ""

    def stored(self, notes: Iterable[str]) -> None:
        """A node says that its store holds these notes."""
        ids = {note.removeprefix(RECORD) for note in notes if note.startswith(RECORD)}
        self._must |= ids & self._made.keys()

    def held(self, nodes: Iterable[Node]) -> set[str]:
        """The records that any store or memory holds."""
        found: set[str] = set()
        for node in nodes:
            found |= _kept(node.disk).keys()
            if node.replica is not None:
                found.update(record.id for record in node.replica.ledger.newest())
        return found

    def lost(self, ids: Collection[str]) -> None:
        """Everything that held these was destroyed."""
        self._must -= set(ids)

    def look(self, replica: Replica) -> str:
        """What is wrong at a node, "" if nothing is.

        What is withdrawn only grows, and no record is there that no store ever held.
        """
        for record in replica.ledger.newest():
            if RECORD + record.id not in self.recorded:
                return f"{replica.id} has {record}, which no store ever held"
        for video in {record.video for record in self._made.values()}:
            now = dict(replica.ledger.withdrawn(video))
            before = self._withdrawn.get((replica.id, video), {})
            if any(now.get(member, 0) < number for member, number in before.items()):
                return f"at {replica.id}, of {video} {now} is withdrawn after {before}"
            self._withdrawn[replica.id, video] = now
        return ""

    def forget(self, replica: str) -> None:
        """A machine was put back to an earlier moment of this run."""
        for run, video in [*self._withdrawn]:
            if run == replica:
                del self._withdrawn[run, video]

    def wrong(self, nodes: Sequence[Node]) -> str:
        """Return what is not as it must be when all is at rest, "" if nothing is."""
        first: set[str] | None = None
        for node in nodes:
            assert node.replica is not None
            there = {record.id: record for record in node.replica.ledger.newest()}
            if missing := self._must - there.keys():
                return f"{node.address} lacks the records {missing}"
            if any(self._made.get(id_) != record for id_, record in there.items()):
                return f"{node.address} has other records than were made"
            if first is not None and there.keys() != first:
                return f"{node.address} has other records than the others"
            first = set(there)
            if _kept(node.disk).keys() != first:
                return f"the store of {node.address} has other records than its node"
            for video in {record.video for record in there.values()}:
                of = [record for record in there.values() if record.video == video]
                if wrong := _wrong(node.replica, video, of):
                    return f"{node.address}: {wrong}"
            if wrong := _misranked(node.replica, there.values()):
                return f"{node.address}: {wrong}"
        return ""


def _kept(disk: Disk) -> dict[str, Record]:
    """The records in a store that can be read."""
    return {
        record.id: record
        for name, text in disk.facts.items()
        if name.startswith(RECORD) and (record := decode(name, text)) and encode(record) == text
    }


def withdrawn(records: Iterable[Record]) -> dict[str, int]:
    """What is withdrawn of each member by these records of one video."""
    entries = [
        (seen, take, member) for record in records for member, (take, seen) in record.takes.items()
    ]
    taken: dict[str, int] = {}
    for seen, take, member in sorted(entries):
        taken[member] = min(seen, taken.get(member, 0) + take)
    return taken


def _wrong(replica: Replica, video: str, records: Sequence[Record]) -> str:
    """What does not follow at a replica from all records of a video."""
    taken = withdrawn(records)
    if dict(replica.ledger.withdrawn(video)) != taken:
        return f"of {video} {dict(replica.ledger.withdrawn(video))} is withdrawn, not {taken}"
    counter = replica.counter(video)
    left = sum(max(0, count - taken.get(member, 0)) for member, count in counter.items())
    shown = sum(counter.values()) - replica.ledger.shown(video, counter)
    if shown != left:
        return f"{video} shows {shown}, and {left} are left"
    if replica.ledger.is_blocked(video) != _is_blocked(records):
        return f"{video} is blocked: {replica.ledger.is_blocked(video)}"
    return ""


def _is_blocked(records: Iterable[Record]) -> bool:
    acts = [(record.at, record.id, record.act) for record in records if record.act != "withdraw"]
    return bool(acts) and max(acts)[2] == "block"


def _misranked(replica: Replica, records: Iterable[Record]) -> str:
    """How the ranking differs from one made anew, "" if it does not.

    What did not count is ranked nowhere.
    """
    of: dict[str, list[Record]] = {}
    for record in records:
        of.setdefault(record.video, []).append(record)
    left: dict[str, int] = {}
    there = {video for _, vector in replica.tally.vectors() for video in vector}
    for video in (video for video in there if not class_of(video)):
        counter, taken = replica.counter(video), withdrawn(of.get(video, ()))
        if any(number > counter.get(member, 0) for member, number in taken.items()):
            return ""  # counts that were seen are lost
        if not _is_blocked(of.get(video, ())):
            left[video] = sum(counter.values()) - sum(taken.values())
    right = sorted((video for video in left if left[video]), key=lambda v: (-left[v], v))
    ranked = replica.tally.top(len(right) + 5)
    return "" if ranked == right else f"ranked {ranked}, not {right}"
