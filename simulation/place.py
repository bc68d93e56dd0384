"""A place of the exhaustive search: a node of which many states exist at once.

Its steps are as coarse as possible: a flush is one step, and time passes in leaps. States must be
equal wherever nothing can tell them apart, so nothing here counts what only happened before.
"""

from collections.abc import Collection, Mapping

from counter.crdt.ids import mint_run
from counter.store.contract import (
    NO_SKETCHES,
    NOTHING,
    NOTHING_ERASED,
    Counts,
    Marks,
    SketchesByDay,
)
from counter.store.memory import MemoryStore
from simulation.node import EPOCH, Node
from simulation.rules import Rules, Timing

WHILE = 2.0
"""Seconds that pass at once: no message lives longer, and a node not heard twice is silent."""
TIMING = Timing(sync_interval=1, join_timeout=3, message_ttl=2, fold_after=12)
"""In whole seconds, as integers: see `frozen`."""
APART = 32
"""Milliseconds between the runs of a member whose clock is right."""

_AGE, _RUN = "age:", "run:"
"""The note of the age of a store, and how those of runs begin: when they began and closed."""


class Volume(MemoryStore):
    """A memory store whose flush mark changes only with its content.

    Otherwise no two states of a node would ever be the same.
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
        """See `Store.write`."""
        new = [name for name, fact in facts.items() if self.facts.get(name) != fact]
        if not (counts or new or drop or heal or sketches) and self._marks.accepts(
            self.mark, heal=False
        ):
            return
        super().write(
            counts,
            facts=facts,
            drop=drop,
            erase=erase,
            heal=heal,
            sketches=sketches,
            oldest=oldest,
        )

    def renumber(self) -> None:
        """Renumber the flush marks: it only matters whether the one in the store is right.

        Otherwise states would differ by how often something was written.
        """
        if self._marks.written and self._marks.accepts(self.mark, heal=False):
            self._marks = Marks(self._marks.replica)
            self.mark = f"{self._marks.replica}:1.0"
            self._marks.right.append(self.mark)
            self._marks.tried, self._marks.written = 1, True
            self._seal()

    def is_ahead(self, marks: Marks) -> None:
        """Hold a later mark than these, because the memory of the process went back."""
        self.mark = f"{marks.replica}:{marks.tried + 1}.1"
        self._seal()

    def take(self, other: "Volume") -> None:
        """Hold from now on what another volume holds, also under a running process."""
        if (self.counts, self.facts) == (other.counts, other.facts):
            return
        age = _age(self.facts)
        # No mark is written twice, whatever its number.
        self.mark = f"{(other.mark or '').partition(':')[0]}:0.0"
        self.counts = {vector: dict(kept) for vector, kept in other.counts.items()}
        self.facts = dict(other.facts)
        self.store, self.name = other.store, other.name
        if age is not None:
            # A copy is not older than what it is a copy of.
            self.facts = older(self.facts, max(0, (_age(self.facts) or 0) - age))
        self._seal_all()


def _age(facts: Mapping[str, str]) -> int | None:
    """Return the age of a store in ms, if it has one."""
    return int(facts[_AGE]) if _AGE in facts else None


def older(facts: Mapping[str, str], by: int) -> dict[str, str]:
    """Return facts whose times are so many ms earlier in the life of their store."""
    shifted = dict(facts)
    for name, fact in facts.items():
        if name == _AGE:
            shifted[name] = str(int(fact) - by)
        elif name.startswith(_RUN) and not fact.endswith("-"):
            date, _, closed = fact.partition(" ")
            shifted[name] = f"{date} {max(0, int(closed) - by)}"
    return shifted


class Place(Node):
    """A node whose time goes on only while it runs, and whose dates are all the same.

    `ahead` is the time of its wall clock, in ms; a run begins at it, or after the newest one that
    is known here. 0 stands for a clock that is behind.
    """

    disk: Volume

    def __init__(self, number: int, name: str, rules: Rules) -> None:
        super().__init__(number, name, Volume(), rules, TIMING)
        self.ahead = 0
        self.minted = 0
        """How many runs have begun here."""

    @property
    def epoch(self) -> float:
        """See `Node.epoch`; all runs have the same date."""
        return EPOCH - int(self.now)

    def date(self) -> int:
        """See `Node.date`; so have all messages."""
        return EPOCH * 1000

    def mint_run(self, latest: str) -> str:
        """See `Node.mint_run`; of two runs that begin in the same ms the later may sort first."""
        self.minted += 1
        return mint_run(EPOCH * 1000 + self.ahead, latest, 1000 * (self.number + 1) - self.minted)

    # -- what happens

    def begin(self, ahead: int) -> None:
        """Start a new run by this clock."""
        self.ahead = ahead
        self.start()

    def forget(self, later: "Place") -> None:
        """Go on with this memory on the store of a later state of this place."""
        marks = later.disk._marks
        same = (self.disk.counts, self.disk.facts) == (later.disk.counts, later.disk.facts)
        self.disk.take(later.disk)
        if not same:
            self.disk.is_ahead(
                self.disk._marks if marks.replica == self.disk._marks.replica else marks
            )

    def move_a_row(self) -> None:
        """Write a batch that has room for one row of a fold."""
        self.running.write(self.running.batch(2, self.now, self.mint_run))
        self.running.join_store()

    def visit(self, video: str) -> None:
        """Count a visit and store it, so it is acknowledged."""
        self.running.replica.visit(video)
        self.flush()
