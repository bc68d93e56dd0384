"""The names of vectors in a store, where folded ones are kept without their fold mark.

That is a fact beside them, so that a fold renames nothing. Here is the only place that knows it:
whoever is above it sees vectors under their full names, whoever is below under those in the store.
"""

from collections.abc import Mapping
from typing import NamedTuple

from counter.crdt.columns import Entries
from counter.crdt.ids import folded_of, kept_as
from counter.protocol.batch import Batch
from counter.protocol.checks import is_vector
from counter.protocol.moving import marks_kept
from counter.store.contract import NO_SKETCHES, NOTHING, Rows, SketchesByDay, Store


class Names:
    """What the vectors of a store are called, by the facts that it keeps beside them."""

    def __init__(self, facts: Mapping[str, str]) -> None:
        self._marks = {member: mark for member, (mark, _) in marks_kept(facts).items()}

    def of(self, kept: str) -> str:
        """The name of what the store keeps under this, which may be damaged: then it is none."""
        mark = self._marks.get(kept.removesuffix("@"))
        if kept.endswith("@") and mark is not None:
            return folded_of(kept.removesuffix("@"), mark)
        return kept if not is_vector(kept) or kept_as(kept) == kept else f"{kept} with its mark"


class Beside(NamedTuple):
    """What is written beside a batch: sketches, facts, and the oldest day of which any are kept."""

    sketches: SketchesByDay = NO_SKETCHES
    facts: Mapping[str, str] = NOTHING
    oldest: int = 0


NOTHING_BESIDE = Beside()


def write(store: Store, batch: Batch, *, heal: bool, beside: Beside = NOTHING_BESIDE) -> None:
    """Write a batch; see `Store.write`."""
    store.write(
        {
            kept_as(vector): _rows(counts) if type(counts) is Entries else counts
            for vector, counts in batch.counts.items()
        },
        facts={**batch.kept(), **beside.facts},
        drop=[kept_as(vector) for vector in batch.drop],
        erase={kept_as(vector): parts for vector, parts in batch.erase.items()},
        heal=heal,
        sketches=beside.sketches,
        oldest=beside.oldest,
    )


def _rows(counts: Entries) -> Rows:
    """The same counts, without a dict of all of them."""
    return Rows(counts.videos, counts.numbers.tolist())
