"""A store that lasts as long as the object: the yardstick of the contract, and for tests."""

from collections.abc import Callable, Iterator

from counter.store import Counts, Marks, Opened, StoreForgotError, StoreTakenError


class MemoryStore:
    """Keeps counts in dicts. Reopened after `close`, it still holds them."""

    kind = "memory"

    def __init__(self) -> None:
        self.counts: dict[str, dict[str, int]] = {}
        self.mark: str | None = None
        self.store: str | None = None
        self.name: str | None = None
        self.holder: str | None = None
        self._own_holder = ""
        self._marks = Marks("")

    def open(self, holder: str, mint: Callable[[], str]) -> Opened:
        """See `Store.open`; another's hold never runs out, so it does not wait."""
        if self.holder not in (None, holder):
            raise StoreTakenError(f"the memory store is held by {self.holder}")
        self.holder = self._own_holder = holder
        self.store = self.store or mint()
        runs = (replica.rpartition(".")[2] for replica in self.counts)
        return Opened(self.store, self.name, max(runs, default=""))

    def begin(self, replica: str) -> None:
        """See `Store.begin`."""
        self._marks = Marks(replica)
        self.name = replica.partition("~")[0]
        self.write({replica: {}}, heal=True)

    def load(self) -> Iterator[tuple[str, dict[str, int]]]:
        """See `Store.load`."""
        for replica, counts in list(self.counts.items()):
            yield replica, dict(counts)

    def write(self, counts: Counts, *, heal: bool = False) -> None:
        """See `Store.write`."""
        if self.holder != self._own_holder:
            raise StoreTakenError(f"the memory store is held by {self.holder}")
        if not heal and not self._marks.accepts(self.mark):
            raise StoreForgotError(f"the memory store holds the flush mark {self.mark!r}")
        self.mark = self._marks.next()
        for replica, changed in counts.items():
            vector = self.counts.setdefault(replica, {})
            for video, count in changed.items():
                vector[video] = max(count, vector.get(video, 0))
        self._marks.done()

    def close(self) -> None:
        """See `Store.close`."""
        if self.holder == self._own_holder:
            self.holder = None
