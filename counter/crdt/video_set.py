"""A set of videos of one index: a byte for each row, once there are many.

Python's own sets and dicts stop everything for 30 ms when they grow past some 700,000 entries, and
each garbage collection visits every element of a set. But of few videos a dict is quicker: a
million bytes take 0.1 ms.

Pure: no I/O, no clock, no lock.
"""

from collections.abc import Collection, Iterable
from itertools import islice

from counter.crdt.columns import Column, Growth
from counter.crdt.videos import Videos


class VideoSet:
    """A set of videos that all have a row."""

    sparse = 1000
    """Up to so many rows are in a dict."""

    __slots__ = ("_marks", "_next", "_size", "_sparse", "_videos")

    def __init__(self, videos: Videos) -> None:
        self._videos = videos
        self._sparse: dict[int, None] | None = {}
        self._marks = bytearray()
        self._size = 0
        self._next = 0

    def __len__(self) -> int:
        """How many there are."""
        return self._size if self._sparse is None else len(self._sparse)

    def update(self, videos: Collection[str]) -> None:
        """Add videos; quicker of a column, or of what grew."""
        if self._sparse is not None:
            if len(self._sparse) + len(videos) <= self.sparse:
                self._sparse.update(dict.fromkeys(self._rows(videos)))
                return
            rows, self._sparse = self._sparse, None
            self._reach()
            self._mark(rows)
        self._reach()
        if type(videos) is Growth:
            from counter.crdt import bulk

            self._size += bulk.mark(self._marks, videos.rows)
        elif isinstance(videos, Column):
            self._size += videos.mark(self._marks)
        else:
            self._mark(self._rows(videos))

    def _rows(self, videos: Collection[str]) -> Iterable[int]:
        if type(videos) is Growth:
            rows: list[int] = videos.rows.tolist()
            return rows
        if isinstance(videos, Column):
            return (row for row, _ in videos.by_row())
        return map(self._videos.row, videos)

    def _mark(self, rows: Iterable[int]) -> None:
        marks, size = self._marks, self._size
        for row in rows:
            if row >= len(marks):
                # It is that of a video that was not known.
                self._reach()
            size += not marks[row]
            marks[row] = 1
        self._size = size

    def _reach(self) -> None:
        if len(self._marks) < len(self._videos):
            self._marks.extend(bytes(len(self._videos) - len(self._marks)))

    def take(self, most: int) -> list[int]:
        """Remove up to `most` videos, and return their rows."""
        if self._sparse is not None:
            taken = list(islice(self._sparse, most))
            for row in taken:
                del self._sparse[row]
            return taken
        marks, row = self._marks, self._next
        taken = []
        for _ in range(min(most, self._size)):
            row = marks.find(1, row)
            if row < 0:
                row = marks.find(1)
            marks[row] = 0
            taken.append(row)
        self._size -= len(taken)
        self._next = row
        return taken
