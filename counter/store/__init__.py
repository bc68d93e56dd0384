"""Where a tally outlives its process: the contract of every store.

A store belongs to one process at a time. It keeps vectors of counts, never lowers a count, and
keeps a few facts beside them, which mean nothing to it. It remembers the *flush mark* of the last
write: a write that finds another mark means that the store lost something since (it was emptied,
restored to an older state, or used by another process).

Calls may block and come from one thread at a time; the node decides which.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

Counts = Mapping[str, Mapping[str, int]]
"""`{vector: {video: count}}`, absolute counts."""

NOTHING: Mapping[str, str] = MappingProxyType({})
"""No facts."""

Offload = Callable[..., Any]
"""`offload(function, *arguments)` returns `function(*arguments)`, without stopping the loop."""


def run_here(function: Callable[..., Any], *arguments: Any) -> Any:
    """The `Offload` where nothing has to be kept from blocking: a plain call."""
    return function(*arguments)


PATIENCE = 4.0
"""Seconds that `open` waits for a killed process' hold on the store to run out."""


class StoreDownError(Exception):
    """The store cannot be reached or written now. What was to be written may be in it or not."""


class StoreForgotError(Exception):
    """The flush mark is not the last one written: the store lost something. Nothing was written."""


class StoreAheadError(StoreForgotError):
    """The flush mark is a later one than the last one written: the memory went back, not the store.

    As that of a machine does that is put back to a snapshot. Nothing was written.
    """


class StoreTakenError(Exception):
    """Another process holds the store; the sentence says who."""


class StoreRefusedError(Exception):
    """The store can never be used as it is configured; the sentence says why and what to do."""


class Opened(NamedTuple):
    """What an opened store is: its id, and the name kept in it."""

    store: str
    name: str | None


class Known(NamedTuple):
    """What a store knows beside counts: which vectors it has, and the facts kept in it."""

    vectors: list[str]
    facts: dict[str, str]


class Store(Protocol):
    """Keeps the counts of replicas."""

    kind: str

    def open(self, holder: str, mint: Callable[[], str]) -> Opened:
        """Take hold of the store, which `mint` names if it is new.

        Waits up to `PATIENCE` for another's hold to run out, then raises `StoreTakenError`.
        Raises `StoreDownError` where trying again may help, `StoreRefusedError` where not.
        """

    def begin(self, replica: str, facts: Mapping[str, str]) -> None:
        """Start the life of a replica: its name and these facts are kept.

        Its mark is on every write from now on.
        """

    def known(self) -> Known:
        """What it knows now. Raises `StoreDownError`."""

    def load(self) -> Iterator[tuple[str, dict[str, int]]]:
        """All counts, in pieces of bounded size. Writes may happen in between."""

    def write(
        self,
        counts: Counts,
        *,
        facts: Mapping[str, str] = NOTHING,
        drop: Collection[str] = (),
        heal: bool = False,
    ) -> None:
        """Forget the vectors in `drop`, then write counts, facts and the next flush mark.

        All of it in one atomic step, which also renews the hold on the store. A count already
        stored never goes down; a fact replaces the one kept under its name, and an empty one
        removes it. Durable when it
        returns, as far as the store is; the room of dropped vectors may be freed later, so that
        a large one holds up nobody. With `heal` the mark that the last `StoreForgotError` found
        is right, too. Raises `StoreDownError`, `StoreForgotError` or `StoreAheadError`, or
        `StoreTakenError` if another process took the store.
        """

    def close(self) -> None:
        """Let go of the store. Idempotent; never raises."""


class Marks:
    """The flush marks, `replica:number`, that a store may rightly hold.

    These are the last one written and those tried since: a write whose outcome is unknown may
    have replaced the mark or not. Both are right, because what it held is written again. The
    first write of a run takes the store as it finds it.
    """

    def __init__(self, replica: str) -> None:
        self.replica = replica
        self.written = 0
        self.tried = 0
        self.found: str | None = None
        """The last mark that was not right."""

    def next(self) -> str:
        """The mark for the next write, in doubt until `done`."""
        self.tried += 1
        return f"{self.replica}:{self.tried}"

    def done(self) -> None:
        """The write of the last mark succeeded."""
        self.written = self.tried

    def accepts(self, mark: str | None, *, heal: bool) -> bool:
        """Whether a store that holds `mark` has lost nothing, or nothing since that was found."""
        if not self.written or (heal and mark == self.found):
            return True
        replica, _, number = (mark or "").rpartition(":")
        return replica == self.replica and self.written <= int(number) <= self.tried

    def forgot(self, place: str, mark: str | None) -> "StoreForgotError":
        """The error for a store at `place` that holds another mark."""
        self.found = mark
        error = StoreAheadError if self._is_later(mark or "") else StoreForgotError
        return error(f"{place} holds the flush mark {mark!r}")

    def _is_later(self, mark: str) -> bool:
        """Whether a mark is of a later write of this run, or of a later run of this member."""
        replica, _, number = mark.rpartition(":")
        if replica == self.replica:
            return int(number) > self.tried
        member, _, run = replica.rpartition(".")
        own, _, own_run = self.replica.rpartition(".")
        return member == own and run > own_run
