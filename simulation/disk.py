"""The disk of a simulated node: a store that can fail, be copied, put back and damaged."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from counter.crdt.ids import folded_of, is_folded, member_of, run_of
from counter.crdt.tally import Tally
from counter.node.names import Names
from counter.protocol.checks import decode_sum, is_vector, sum_name
from counter.protocol.key_log import is_key
from counter.protocol.moving import marks_kept, sums_kept
from counter.protocol.records import RECORD
from counter.store.contract import (
    NO_SKETCHES,
    NOTHING,
    NOTHING_ERASED,
    Counts,
    SketchesByDay,
    StoreDownError,
)
from counter.store.memory import MemoryStore

DAMAGES = ("invalid video", "larger count", "smaller count", "lost row", "junk")
"""What a bad disk does while nobody runs on it; the last one to a fact, the others to a vector."""


@dataclass(eq=False)
class Request:
    """Visits that a node has counted under a key, when, and whether a store has ever held them."""

    key: str
    address: str
    at: float
    written: bool = False


class Disk(MemoryStore):
    """A memory store that outlives its node, and fails on demand, before or after it wrote.

    `written` is called with the counts of each write.
    """

    def __init__(self, written: Callable[[Counts], None]) -> None:
        super().__init__()
        self.failure = ""
        self.changes = 0
        """How often its content has changed."""
        self.requests: dict[str, Request] = {}
        """The requests whose visits it has, by key."""
        self.to_come: dict[str, Request] = {}
        """The requests in the write that is being tried."""
        self.recorded: set[str] = set()
        """The notes of records that were ever written, here or to what shares the set."""
        self._written = written

    def write(
        self,
        counts: Counts,
        *,
        facts: Mapping[str, str] = NOTHING,
        drop: Collection[str] = (),
        erase: Mapping[str, Collection[str]] = NOTHING_ERASED,
        heal: bool = False,
        sketches: SketchesByDay = NO_SKETCHES,
        oldest: int = 0,
    ) -> None:
        """See `Store.write`."""
        if self.failure == "before":
            raise StoreDownError("the simulated disk fails")
        super().write(
            counts,
            facts=facts,
            drop=drop,
            erase=erase,
            heal=heal,
            sketches=sketches,
            oldest=oldest,
        )
        self.changes += bool(counts or facts or drop)
        self._written(counts)
        self.recorded.update(name for name in facts if name.startswith(RECORD))
        self.requests |= self.to_come
        for request in self.to_come.values():
            request.written = True
        if self.failure == "after":
            raise StoreDownError("the simulated disk fails, and has written all the same")

    def copy(self) -> "Copy":
        """Return what a copy of the store's files would hold."""
        counts = {vector: dict(kept) for vector, kept in self.counts.items()}
        requests = dict(self.requests)
        seals = dict(self.seals), self.sealed
        return Copy(counts, dict(self.facts), *seals, self.mark, self.store, self.name, requests)

    def restore(self, copy: "Copy") -> None:
        """Become what it was when `copy` was made, also under a running process."""
        self.changes += 1
        self.counts = {vector: dict(kept) for vector, kept in copy.counts.items()}
        self.facts, self.seals, self.sealed = dict(copy.facts), dict(copy.seals), copy.sealed
        self.mark, self.store, self.name = copy.mark, copy.store, copy.name
        self.requests = dict(copy.requests)

    def spoil(self, kind: str, at: float) -> None:
        """Damage something in the way of `kind`; `at`, from 0 to below 1, chooses what."""
        self.changes += 1
        names = (
            sorted(self.facts) if kind == "junk" else sorted(filter(self.counts.get, self.counts))
        )
        if kind == "larger count":
            # Without a sum nobody could know.
            names = [name for name in names if self._has_sum(name)]
        if not names:
            return
        name = names[int(at * len(names))]
        if kind == "junk":
            self.facts[name] = "\x00junk " + self.facts[name][1:]
            return
        counts = self.counts[name]
        video = sorted(counts)[int(at * 7919 % len(counts))]
        match kind:
            case "invalid video":
                counts["not a video"] = counts[video]
            case "larger count":
                counts[video] += 1000
            case "smaller count":
                counts[video] = max(1, counts[video] - 1)
            case "lost row":
                del counts[video]

    def _has_sum(self, kept: str) -> bool:
        vector = Names(self.facts).of(kept)
        if decode_sum(self.facts.get(sum_name(vector), "")) is not None:
            return True
        member = member_of(vector)
        mark, since = marks_kept(self.facts).get(member, ("", ""))
        is_moved = is_folded(vector) or since < run_of(vector) <= mark
        return is_moved and folded_of(member, mark) in sums_kept(self.facts)

    def numbered(self) -> Iterator[tuple[str, str, int]]:
        """Yield each key in it, with the replica that took it, and its number."""
        for name, text in self.facts.items():
            if is_key(name):
                replica, serial = name.partition(":")[2].split(" ")
                yield text.split(" ")[2], replica, int(serial)

    def tally(self, without: Collection[str] = ()) -> Tally:
        """Return what a start would load, without these vectors."""
        return tally_of(self, without)


def tally_of(store: MemoryStore, without: Collection[str] = ()) -> Tally:
    """Return what a start would load from a store, without these vectors."""
    tally, moved = Tally(), Tally()
    marks, names = marks_kept(store.facts), Names(store.facts)
    for member, (mark, since) in marks.items():
        tally.fold(member, since)
        moved.fold(member, mark)
    doubtful = [member_of(vector) for vector in without if is_folded(vector)]
    for kept, counts in store.counts.items():
        vector = names.of(kept)
        if not is_vector(vector):
            continue
        if kept.endswith("@"):
            moved.merge(vector, counts)
        elif vector not in without:
            tally.merge(vector, counts)
    for member, (mark, _) in marks.items():
        # The rows that were moved, and those of the parts that were not.
        tally.fold(member, mark)
        folded = folded_of(member, mark)
        if member in doubtful:
            tally.discard(folded)
            continue
        parts, whole = tally.vector(folded), moved.vector(folded)
        sums = {video: whole.count(video) + parts.count(video) for video in (*parts, *whole)}
        tally.merge(folded, sums)
    return tally


@dataclass(frozen=True)
class Copy:
    """A copy of a disk; the empty one is a new disk."""

    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    seals: dict[str, int] = field(default_factory=dict)
    sealed: tuple[str | None, int] | None = None
    mark: str | None = None
    store: str | None = None
    name: str | None = None
    requests: dict[str, Request] = field(default_factory=dict)
