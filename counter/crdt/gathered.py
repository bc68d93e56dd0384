"""Visits of many videos that are pending, by row: each video is looked for once.

Pure: no I/O, no clock, no lock.
"""

from array import array
from collections.abc import Mapping, Sequence
from itertools import compress
from typing import TYPE_CHECKING

from counter.crdt.columns import Entries, reach
from counter.crdt.videos import Videos

if TYPE_CHECKING:
    from counter.crdt.index import Rows


class Gathered:
    """By how much videos grow until it is taken; `total` is the sum. Only when they are not few."""

    __slots__ = ("_index", "_more", "_names", "_rows", "total")

    def __init__(self, index: Videos) -> None:
        self._index = index
        self._clear()

    def _clear(self) -> None:
        self.total = 0
        self._more = array("Q")
        """By how much each row grows. Made anew each time: nothing is kept while nobody counts."""
        self._rows: list[Rows] = []
        """The rows that grow, each once, and their names in the same order."""
        self._names: list[str] = []

    def add(self, visits: Mapping[str, int], total: int) -> None:
        """Add `{video: visits}`, which are so many."""
        from counter.crdt import bulk

        names: Sequence[str]
        if type(visits) is Entries:
            names, rows, more = visits.videos, visits.rows, visits.numbers
        else:
            names = list(visits)
            rows, more = self._index.rows(names), bulk.told(visits.values())
        reach(self._more, self._index)
        new = bulk.add(self._more, rows, more)
        self._rows.append(rows[new])
        self._names += compress(names, new.tolist())
        self.total += total

    def of(self, video: str) -> int:
        """By how much a video grows."""
        row = self._index.find(video)
        return self._more[row] if row is not None and row < len(self._more) else 0

    def take(self) -> Entries:
        """Take everything: by how much which videos grow."""
        from counter.crdt import bulk

        rows = bulk.joined(self._rows)
        taken = Entries(self._index, rows, bulk.take(self._more, rows), self._names)
        self._clear()
        return taken
