"""A store that lasts as long as the object: the yardstick of the contract, and for tests."""

from collections.abc import Callable, Collection, Iterator, Mapping

from counter.store import NOTHING, Counts, Known, Marks, Opened, StoreTakenError


class MemoryStore:
    """Keeps counts in dicts. Reopened after `close`, it still holds them."""

    kind = "memory"

    def __init__(self) -> None:
        self.counts: dict[str, dict[str, int]] = {}
        self.facts: dict[str, str] = {}
        self.mark: str | None = None
        self.store: str | None = None
        self.name: str | None = None
        self.holder: str | None = None
        self._own_holder = ""
        self._kept: tuple[str, str | None] = "", None
        self._marks = Marks("")

    def open(self, holder: str, mint: Callable[[], str]) -> Opened:
        """See `Store.open`; another's hold never runs out, so it does not wait."""
        if self.holder not in (None, holder):
            raise StoreTakenError(f"the memory store is held by {self.holder}")
        self.holder = self._own_holder = holder
        self._kept = self.store or mint(), self.name
        return Opened(*self._kept)

    def begin(self, replica: str, facts: Mapping[str, str]) -> None:
        """See `Store.begin`."""
        self._marks = Marks(replica)
        self._kept = self._kept[0], replica.partition("~")[0]
        self.write({}, facts=facts)

    def known(self) -> Known:
        """See `Store.known`."""
        return Known(list(self.counts), dict(self.facts))

    def load(self) -> Iterator[tuple[str, dict[str, int]]]:
        """See `Store.load`."""
        for vector, counts in list(self.counts.items()):
            yield vector, dict(counts)

    def write(
        self,
        counts: Counts,
        *,
        facts: Mapping[str, str] = NOTHING,
        drop: Collection[str] = (),
        heal: bool = False,
    ) -> None:
        """See `Store.write`."""
        if self.holder != self._own_holder:
            raise StoreTakenError(f"the memory store is held by {self.holder}")
        if not self._marks.accepts(self.mark, heal=heal):
            raise self._marks.forgot("the memory store", self.mark)
        self.mark = self._marks.next()
        self.store, self.name = self._kept
        for dropped in drop:
            self.counts.pop(dropped, None)
        for vector, changed in counts.items():
            kept = self.counts.setdefault(vector, {})
            for video, count in changed.items():
                kept[video] = max(count, kept.get(video, 0))
        for name, fact in facts.items():
            self.facts[name] = fact
            if not fact:
                del self.facts[name]
        self._marks.done()

    def close(self) -> None:
        """See `Store.close`."""
        if self.holder == self._own_holder:
            self.holder = None
