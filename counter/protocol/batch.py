"""A batch: what is given to the store at once."""

from typing import NamedTuple

from counter.protocol.keys import Written
from counter.protocol.pending import Counts


class Batch(NamedTuple):
    """What one flush writes, in one atomic step.

    `counts` is everything by vector: `own` are visits of this process that are not committed yet,
    by run, and `rows` is the rest. `drop` are vectors to delete, and `erase` names for folded
    vectors those from which what is written is removed. `facts` are kept of members, `notes` came
    with the visits in `own`, `runs` is kept of runs, `sums` is what the store holds of vectors from
    now on, and `keys` is kept of keys. When this is written, the store has the folds in `ends`
    whole, by member: the mark, and the parts, which are dropped.
    """

    counts: Counts
    own: Counts
    notes: dict[str, str]
    rows: dict[str, dict[str, int]]
    facts: dict[str, str]
    runs: dict[str, str]
    sums: dict[str, str]
    drop: list[str]
    erase: dict[str, list[str]]
    ends: dict[str, tuple[str, list[str]]]
    keys: Written

    def kept(self) -> dict[str, str]:
        """Everything that the store keeps beside counts."""
        return self.facts | self.notes | self.runs | self.sums | self.keys.notes
