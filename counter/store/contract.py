"""Where a tally outlives its process: the contract of every store.

A store is leased to one process at a time. It keeps vectors of counts and never lowers a count.
Beside them it keeps a few facts, which mean nothing to it. It remembers the *flush mark* of the
last write: a write that finds another mark shows that the store lost something since (it was
emptied, restored to an older state, or used by another process).

What is read may be damaged, by the disk or by another program. The facts are sealed (see
`seals.py`). Sums in them reveal damage of counts that the store cannot see (see
`counter/protocol/checks.py`). Damage is never an error to be tried again: what can be read is read,
and `damage` names what is not as it was written.

Calls may block, and come from one thread at a time; the node decides which.
"""

import secrets
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from counter.store.seals import Damage

Counts = Mapping[str, Mapping[str, int]]
"""`{vector: {video: count}}`, absolute counts."""

NOTHING: Mapping[str, str] = MappingProxyType({})
"""No facts."""
TRACELESS = "salt:"
"""How the name of a fact begins that cannot be read from a store's own files once it is removed."""

NOTHING_ERASED: Mapping[str, Collection[str]] = MappingProxyType({})
"""No rows of other vectors."""

SketchesByDay = Mapping[int, Mapping[str, tuple[bytes, bytes]]]
"""`{day: {video: (head, sketch)}}`: bytes that mean nothing to a store."""

NO_SKETCHES: SketchesByDay = MappingProxyType({})
"""No sketches."""


class Rows(Mapping[str, int]):
    """Some rows of a vector, `{id: count}`, no id twice; the dict is made when it is needed.

    `text` has the ids in their order, each with a NUL at its end, where they were read.
    """

    __slots__ = ("_of", "counts", "ids", "text")

    def __init__(self, ids: Sequence[str], counts: list[int], text: bytes = b"") -> None:
        self.ids = ids
        self.counts = counts
        self.text = text
        self._of: dict[str, int] | None = None

    def __len__(self) -> int:
        """How many rows these are."""
        return len(self.ids)

    def __iter__(self) -> Iterator[str]:
        """Each id."""
        return iter(self.ids)

    def __getitem__(self, video: str) -> int:
        """The count of an id. Raises KeyError if there is none."""
        if self._of is None:
            self._of = dict(zip(self.ids, self.counts, strict=True))
        return self._of[video]

    def some(self, most: int) -> Iterator[dict[str, int]]:
        """All of them, so many at a time."""
        for first in range(0, len(self.ids), most):
            end = first + most
            yield dict(zip(self.ids[first:end], self.counts[first:end], strict=True))


def in_pieces(counts: Mapping[str, int], most: int) -> Iterator[dict[str, int]]:
    """All counts of a vector, so many at a time. No step grows with how many there are."""
    if isinstance(counts, Rows):
        yield from counts.some(most)
        return
    rest = iter(counts.items())
    while some := dict(islice(rest, most)):
        yield some


Offload = Callable[..., Any]
"""`offload(function, *arguments)` returns `function(*arguments)` without blocking the loop."""


def run_here(function: Callable[..., Any], *arguments: Any) -> Any:
    """The `Offload` for programs without a loop: a plain call."""
    return function(*arguments)


PATIENCE = 4.0
"""Seconds that `open` waits for the lease of a killed process to run out."""


class StoreDownError(Exception):
    """The store cannot be reached or written now. What was being written may be in it or not."""


class StoreForgotError(Exception):
    """The flush mark is not the last one written: the store lost something. Nothing was written."""


class StoreAheadError(StoreForgotError):
    """The flush mark is later than the last one written: the memory went back, not the store.

    This happens when a machine is put back to a snapshot of its memory. Nothing was written.
    """


class StoreTakenError(Exception):
    """Another process has leased the store; the sentence says which."""


class StoreRefusedError(Exception):
    """The store can never be used as it is; the sentence says why and what to do."""


class Opened(NamedTuple):
    """An opened store: its id, and the name of the node kept in it."""

    store: str
    name: str | None


class Known(NamedTuple):
    """What a store knows beside counts: the names of its vectors, and its facts."""

    vectors: list[str]
    facts: dict[str, str]


class Store(Protocol):
    """Keeps the counts of replicas. Not thread-safe."""

    kind: str
    damage: Damage
    """The damage found since `open`, which resets it."""

    def open(self, holder: str, mint: Callable[[], str]) -> Opened:
        """Lease the store to `holder`; `mint` gives an id to a new store.

        Waits up to `PATIENCE` for the lease of another to run out, then raises `StoreTakenError`.
        Raises `StoreDownError` if trying again may help, `StoreRefusedError` if not.
        """

    def begin(self, replica: str, facts: Mapping[str, str]) -> None:
        """Start the life of a replica: store its name and these facts.

        From now on every write has its mark. Facts found damaged are repaired first, and set aside
        as they were found.
        """

    def known(self) -> Known:
        """What it knows now, without what is damaged.

        Raises `StoreDownError`, or `StoreRefusedError` if it cannot be read at all.
        """

    def load(self, vector: str = "") -> Iterator[tuple[str, Mapping[str, int]]]:
        """Yield all counts, in pieces of bounded size. Writes may happen in between.

        The next piece may be read while the caller takes in the one before. Many rows come as
        `Rows`.

        With a `vector` it yields only the counts of that vector, and reads them in another way,
        which also finds rows that are out of order. Rows that are not a text and an integer are
        left out; `damage` names them. Raises as `known` does.
        """

    def heads(self, day: int) -> Mapping[str, bytes]:
        """The heads of all sketches of a day, by video. Raises as `known` does."""

    def sketches(self, day: int, videos: Collection[str]) -> Mapping[str, bytes]:
        """The sketches of a day of these videos, without those that are not there.

        They may be damaged: whoever knows what they mean finds out. Raises as `known` does.
        """

    def mend(self, rows: Counts, renamed: Mapping[str, str] = NOTHING) -> str:
        """Repair what was found damaged; return where the damaged store is kept, "" if it is not.

        `rows` are the true counts of single rows, 0 for those to be removed; those in
        `damage.rows` are removed as well unless they are among them. `renamed` maps the name of a
        vector as found to its true name, or to "" if it is to be removed. All of this is one
        atomic step. Only a few copies of damaged stores are kept. Raises as `write` does.
        """

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
        """Forget the vectors in `drop`, then write counts, facts and the next flush mark.

        All of this is one atomic step, which also renews the lease. A stored count never goes
        down. With `erase`, `{vector: others}`, each row that is written of a vector removes the row
        of the same video from these others, where there is one. A fact replaces the one under its
        name, and an empty one removes it. When it returns, the write is as durable as the store.
        The space of dropped vectors may be freed later, so that a large one delays nobody. With
        `heal`, the mark that the last `StoreForgotError` found is accepted, too.

        A sketch replaces the one of the same day and video. Those of days before `oldest` are
        forgotten, maybe only some of them with each such write.

        Raises `StoreDownError`, `StoreForgotError` or `StoreAheadError`,
        `StoreTakenError` if another process took the store, or `StoreRefusedError` if it can no
        longer be written.
        """

    def close(self) -> None:
        """End the lease and close the store. Idempotent; never raises."""


class Marks:
    """The flush marks `replica:number.nonce` that are accepted in a store.

    These are the last one written and those tried since: a write whose outcome is unknown may or
    may not have replaced the mark. Both are right, because what it wrote is written again. The
    first write of a run accepts any mark. The nonce tells a write from one of the same number that
    was made before the machine was put back to a snapshot of its memory.
    """

    most = 100
    """How many are remembered. At an older one the store is rewritten, which does no harm."""

    def __init__(self, replica: str) -> None:
        self.replica = replica
        self.right: deque[str] = deque(maxlen=self.most)
        """The last one written, and those in doubt since."""
        self.written = False
        """Whether any was."""
        self.tried = 0
        self.found: str | None = None
        """The last mark that was not accepted."""

    def next(self) -> str:
        """The mark for the next write, in doubt until `done`."""
        self.tried += 1
        mark = f"{self.replica}:{self.tried}.{self.nonce()}"
        self.right.append(mark)
        return mark

    def nonce(self) -> str:
        """Eight characters that no other write has, not even on a machine that was put back."""
        return f"{(secrets.randbits(32) ^ time.time_ns()) & 0xFFFFFFFF:08x}"

    def done(self) -> None:
        """The write of the last mark succeeded."""
        last = self.right[-1]
        self.right.clear()
        self.right.append(last)
        self.written = True

    def accepts(self, mark: str | None, *, heal: bool) -> bool:
        """Whether a store with this mark lost nothing; with `heal`, nothing since the last loss."""
        return not self.written or mark in self.right or (heal and mark == self.found)

    def forgot(self, place: str, mark: str | None) -> "StoreForgotError":
        """The error for a store at `place` that has another mark."""
        self.found = mark
        error = StoreAheadError if self._is_later(mark or "") else StoreForgotError
        return error(f"{place} holds the flush mark {mark!r}")

    def _is_later(self, mark: str) -> bool:
        """Whether a mark is of a later write of this run, or of a later run of this member.

        A mark of this run with a number in doubt is from another past of this process.
        """
        replica, _, tried = mark.rpartition(":")
        number = tried.partition(".")[0]
        if replica == self.replica:
            first = min(int(right.rpartition(":")[2].partition(".")[0]) for right in self.right)
            return number.isdecimal() and int(number) >= first
        member, _, run = replica.rpartition(".")
        own, _, own_run = self.replica.rpartition(".")
        return member == own and run > own_run
