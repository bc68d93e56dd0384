"""A store that lasts as long as the object: the reference for the contract, and for tests."""

from collections.abc import Callable, Collection, Iterator, Mapping

from counter.store.contract import (
    NO_SKETCHES,
    NOTHING,
    NOTHING_ERASED,
    Counts,
    Known,
    Marks,
    Opened,
    SketchesByDay,
    StoreTakenError,
)
from counter.store.seals import SEALS, Damage, Fact, read_facts, seal_of


class MemoryStore:
    """Keeps counts in dicts. Reopened after `close`, it still holds them."""

    kind = "memory"

    def __init__(self) -> None:
        self.counts: dict[str, dict[str, int]] = {}
        self.facts: dict[str, str] = {}
        self.days: dict[int, dict[str, tuple[bytes, bytes]]] = {}
        """Sketches, by day."""
        self.mark: str | None = None
        self.seals: dict[str, int] = {}
        self.sealed: tuple[str | None, int] | None = None
        """The flush mark, and the sum of the seals when it was written."""
        self.kept: dict[str, dict[str, int]] = {}
        """What was repaired, as it was found."""
        self.damage = Damage()
        self.store: str | None = None
        self.name: str | None = None
        self.holder: str | None = None
        self._own_holder = ""
        self._kept: tuple[str, str | None] = "", None
        self._marks = Marks("")

    def open(self, holder: str, mint: Callable[[], str]) -> Opened:
        """See `Store.open`; leases never run out here, so it does not wait."""
        if self.holder not in (None, holder):
            raise StoreTakenError(f"the memory store is leased by {self.holder}")
        self.holder = self._own_holder = holder
        self.damage = Damage()
        self._kept = self.store or mint(), self.name
        return Opened(*self._kept)

    def begin(self, replica: str, facts: Mapping[str, str]) -> None:
        """See `Store.begin`."""
        self._marks = Marks(replica)
        self._kept = self._kept[0], replica.partition("~")[0]
        if self.damage:
            self._put_facts_right()
        self.write({}, facts=facts)

    def known(self) -> Known:
        """See `Store.known`."""
        damage = Damage()
        facts = (Fact(name, text, self.seals.get(name)) for name, text in self.facts.items())
        right = read_facts(facts, self._sum(), damage)
        self.damage.add(damage)
        return Known(list(self.counts), right)

    def load(self, vector: str = "") -> Iterator[tuple[str, Mapping[str, int]]]:
        """See `Store.load`."""
        for name, counts in list(self.counts.items()):
            if vector in ("", name):
                right = {video: count for video, count in counts.items() if type(count) is int}
                if bad := counts.keys() - right:
                    self.damage.add(Damage(rows={name: list(bad)}))
                yield name, right

    def heads(self, day: int) -> dict[str, bytes]:
        """See `Store.heads`."""
        return {video: head for video, (head, _) in self.days.get(day, {}).items()}

    def sketches(self, day: int, videos: Collection[str]) -> dict[str, bytes]:
        """See `Store.sketches`."""
        kept = self.days.get(day, {})
        return {video: kept[video][1] for video in videos if video in kept}

    def mend(self, rows: Counts, renamed: Mapping[str, str] = NOTHING) -> str:
        """See `Store.mend`; it keeps copies of the vectors that it changes."""
        self._put_facts_right()
        for found, vector in renamed.items():
            counts = self.counts.pop(found)
            if vector:
                self.counts[vector] = counts
            else:
                self.kept[found] = counts
        gone = {vector: dict.fromkeys(videos, 0) for vector, videos in self.damage.rows.items()}
        for vector, true in (*gone.items(), *rows.items()):
            kept = self.counts.setdefault(vector, {})
            self.kept[vector] = dict(kept)
            for video, count in true.items():
                kept.pop(video, None)
                if count:
                    kept[video] = count
        self.damage = Damage()
        return "memory"

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
        if self.holder != self._own_holder:
            raise StoreTakenError(f"the memory store is leased by {self.holder}")
        if not self._marks.accepts(self.mark, heal=heal):
            raise self._marks.forgot("the memory store", self.mark)
        if self._sum() is None:
            self._seal_all()
        self.mark = self._marks.next()
        self.store, self.name = self._kept
        for dropped in drop:
            self.counts.pop(dropped, None)
        for vector, changed in counts.items():
            kept = self.counts.setdefault(vector, {})
            for video, count in changed.items():
                kept[video] = max(count, kept.get(video, 0))
            for other in erase.get(vector, ()):
                self._erase(other, changed)
        for name, fact in facts.items():
            self.facts[name], self.seals[name] = fact, seal_of(name, fact)
            if not fact:
                del self.facts[name], self.seals[name]
        for day, of_day in sketches.items():
            self.days.setdefault(day, {}).update(of_day)
        self.days = {day: kept for day, kept in self.days.items() if day >= oldest}
        self._seal()
        self._marks.done()

    def _erase(self, vector: str, videos: Collection[str]) -> None:
        kept = self.counts.get(vector, {})
        for video in kept.keys() & videos:
            del kept[video]

    def _sum(self) -> int | None:
        """The sum that the seals should have; None if the content was replaced by another."""
        return self.sealed[1] if self.sealed is not None and self.sealed[0] == self.mark else None

    def _seal(self) -> None:
        self.sealed = self.mark, sum(self.seals.values()) % SEALS

    def _seal_all(self) -> None:
        self.seals = {name: seal_of(name, fact) for name, fact in self.facts.items()}
        self._seal()

    def _put_facts_right(self) -> None:
        self.facts = self.known().facts
        if not self._marks.written:
            for strange in self.damage.facts:
                self.facts.pop(strange, None)
        self._seal_all()

    def close(self) -> None:
        """See `Store.close`."""
        if self.holder == self._own_holder:
            self.holder = None
