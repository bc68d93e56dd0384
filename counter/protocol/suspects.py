"""Suspects: vectors of a damaged store, which are not used while a peer may hold the true counts.

Pure: no I/O, no clock.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from counter.crdt.tally import Tally
from counter.crdt.vector import Refused
from counter.protocol.checks import Sum
from counter.protocol.runs import Runs


class Suspect(NamedTuple):
    """What the store has of a vector that fails its check, and the total that was written."""

    counts: dict[str, int]
    total: int | None


class Suspects:
    """The suspects of this start, until every peer was asked for them."""

    def __init__(self, tally: Tally, runs: Runs) -> None:
        self._tally = tally
        self._runs = runs
        self._sums: dict[str, Sum] = {}
        self._suspects: dict[str, Suspect] = {}

    def __contains__(self, vector: str) -> bool:
        return vector in self._suspects

    def __iter__(self) -> Iterator[str]:
        return iter(self._suspects)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._suspects)

    def opened(self, sums: Mapping[str, Sum]) -> None:
        """Take in the sums that the store had when it was opened."""
        self._sums = dict(sums)

    def add(self, vector: str, counts: Mapping[str, int]) -> None:
        """Add a piece of a vector that fails its check."""
        written = self._sums.get(vector)
        total = None if written is None else written.total
        self._suspects.setdefault(vector, Suspect({}, total)).counts.update(counts)

    def fold(self, gone: Collection[str], folded: str) -> bool:
        """Some vectors were folded into another: what is suspect of them is suspect of that.

        Returns whether anything is.
        """
        suspects = [self._suspects.pop(vector) for vector in gone if vector in self._suspects]
        if suspects:
            counts: Counter[str] = Counter()
            for suspect in suspects:
                counts.update(suspect.counts)
            totals = [suspect.total for suspect in suspects if suspect.total is not None]
            whole = sum(totals) if len(totals) == len(suspects) else None
            self._suspects[folded] = Suspect(dict(counts), whole)
        return bool(suspects)

    def settle(self) -> set[str]:
        """Use what no peer has brought, for want of anything better; return what grew.

        No vector gets larger by that than it was when it was written.
        """
        grew: set[str] = set()
        for vector, (counts, total) in self._suspects.items():
            if total is None or self._tally.total(vector) < total:
                refused = None if total is None else Refused(total)
                grew.update(self._tally.merge(vector, counts, refused))
                self._runs.changed(vector)
        self._suspects = {}
        return grew
