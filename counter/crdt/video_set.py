"""A set of videos of one index: a byte for each row.

Python's own sets and dicts stop everything for 30 ms when they grow past some 700,000 entries, and
each garbage collection visits every element of a set.

Pure: no I/O, no clock, no lock.
"""

from collections.abc import Iterable

from counter.crdt.columns import Column, Growth
from counter.crdt.videos import Videos


class VideoSet:
    """A set of videos that all have a row."""

    __slots__ = ("_marks", "_next", "_size", "_videos")

    def __init__(self, videos: Videos) -> None:
        self._videos = videos
        self._marks = bytearray()
        self._size = 0
        self._next = 0

    def __len__(self) -> int:
        """How many there are."""
        return self._size

    def update(self, videos: Iterable[str]) -> None:
        """Add videos; quicker of a column, or of what grew."""
        marks, size = self._marks, self._size
        if len(marks) < len(self._videos):
            marks.extend(bytes(len(self._videos) - len(marks)))
        if type(videos) is Growth:
            from counter.crdt import bulk

            self._size += bulk.mark(marks, videos.rows)
            return
        if isinstance(videos, Column):
            self._size += videos.mark(marks)
            return
        for row in map(self._videos.row, videos):
            size += not marks[row]
            marks[row] = 1
        self._size = size

    def take(self, most: int) -> list[int]:
        """Remove up to `most` videos, and return their rows."""
        marks, row = self._marks, self._next
        taken: list[int] = []
        for _ in range(min(most, self._size)):
            row = marks.find(1, row)
            if row < 0:
                row = marks.find(1)
            marks[row] = 0
            taken.append(row)
        self._size -= len(taken)
        self._next = row
        return taken
