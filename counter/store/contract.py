"""Where a tally outlives its process: the contract of every store.

A store belongs to one process at a time. It keeps vectors of counts, never lowers a count, and
keeps a few facts beside them, which mean nothing to it. It remembers the *flush mark* of the last
write: a write that finds another mark means that the store lost something since (it was emptied,
restored to an older state, or used by another process).

What is read of it may be damaged: by the disk, by whoever wrote to it. What it keeps beside counts
is sealed (see `seals.py`), and for what cannot be told of counts here there are sums in its facts
(see `counter/checks.py`). Damage is never an error to be tried again: what can be read is read, and
`damage` says what is not as it was written.

Calls may block and come from one thread at a time; the node decides which.
"""

import secrets
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from counter.store.seals import Damage

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
    """The store can never be used as it is; the sentence says why and what to do."""


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
    damage: Damage
    """What was found since `open`, which begins with none."""

    def open(self, holder: str, mint: Callable[[], str]) -> Opened:
        """Take hold of the store, which `mint` names if it is new.

        Waits up to `PATIENCE` for another's hold to run out, then raises `StoreTakenError`.
        Raises `StoreDownError` where trying again may help, `StoreRefusedError` where not.
        """

    def begin(self, replica: str, facts: Mapping[str, str]) -> None:
        """Start the life of a replica: its name and these facts are kept.

        Its mark is on every write from now on. Facts that were found damaged are put right before,
        and kept beside as they were found.
        """

    def known(self) -> Known:
        """What it knows now, as far as it is as it was written.

        Raises `StoreDownError`, or `StoreRefusedError` for what cannot be read at all.
        """

    def load(self, vector: str = "") -> Iterator[tuple[str, dict[str, int]]]:
        """All counts, in pieces of bounded size. Writes may happen in between.

        With a `vector` only its own, and by another way, which finds also what was not found in
        order. Rows that are not a text and an integer are left out; `damage` names them. Raises
        as `known` does.
        """

    def mend(self, rows: Counts, renamed: Mapping[str, str] = NOTHING) -> str:
        """Put right what was found damaged; return where the store as it was is kept, "" if not.

        `rows` are the true counts of single rows, 0 for those that have no place in the store;
        those in `damage.rows` go as well, if they are not among them. `renamed` says which vectors
        were written under which other name, "" for those that have no place either. All of it is
        one atomic step; only a few copies of damaged stores are kept. Raises as `write` does.
        """

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
        is right, too. Raises `StoreDownError`, `StoreForgotError` or `StoreAheadError`,
        `StoreTakenError` if another process took the store, or `StoreRefusedError` if it can no
        more be written.
        """

    def close(self) -> None:
        """Let go of the store. Idempotent; never raises."""


class Marks:
    """The flush marks, `replica:number.nonce`, that a store may rightly hold.

    These are the last one written and those tried since: a write whose outcome is unknown may
    have replaced the mark or not. Both are right, because what it held is written again. The
    first write of a run takes the store as it finds it. The nonce tells a write from that of the
    same number before a machine was put back to a snapshot with its memory.
    """

    most = 100
    """So many are remembered: with an older one the store is rewritten, which does no harm."""

    def __init__(self, replica: str) -> None:
        self.replica = replica
        self.right: deque[str] = deque(maxlen=self.most)
        """The last one written, and those in doubt since."""
        self.written = False
        """Whether any was."""
        self.tried = 0
        self.found: str | None = None
        """The last mark that was not right."""

    def next(self) -> str:
        """The mark for the next write, in doubt until `done`."""
        self.tried += 1
        mark = f"{self.replica}:{self.tried}.{self.nonce()}"
        self.right.append(mark)
        return mark

    def nonce(self) -> str:
        """Eight characters that no other write has, also none of a machine that was put back."""
        return f"{(secrets.randbits(32) ^ time.time_ns()) & 0xFFFFFFFF:08x}"

    def done(self) -> None:
        """The write of the last mark succeeded."""
        last = self.right[-1]
        self.right.clear()
        self.right.append(last)
        self.written = True

    def accepts(self, mark: str | None, *, heal: bool) -> bool:
        """Whether a store that holds `mark` has lost nothing, or nothing since that was found."""
        return not self.written or mark in self.right or (heal and mark == self.found)

    def forgot(self, place: str, mark: str | None) -> "StoreForgotError":
        """The error for a store at `place` that holds another mark."""
        self.found = mark
        error = StoreAheadError if self._is_later(mark or "") else StoreForgotError
        return error(f"{place} holds the flush mark {mark!r}")

    def _is_later(self, mark: str) -> bool:
        """Whether a mark is not of an earlier write of this run, or of a later run of this member.

        One of this run with a number in doubt is of another past of this process.
        """
        replica, _, tried = mark.rpartition(":")
        number = tried.partition(".")[0]
        if replica == self.replica:
            first = min(int(right.rpartition(":")[2].partition(".")[0]) for right in self.right)
            return number.isdecimal() and int(number) >= first
        member, _, run = replica.rpartition(".")
        own, _, own_run = self.replica.rpartition(".")
        return member == own and run > own_run
