"""The rows of another node's index as rows of this one's.

Pure: no I/O, no clock, no lock.
"""

from array import array
from collections.abc import Mapping, Sequence

from counter.crdt.columns import Entries, Piece
from counter.crdt.videos import Videos


class OtherRows:
    """Which row of this index is that of each row of another one, as far as its ids were told."""

    __slots__ = ("_rows", "_taken", "_videos")

    def __init__(self, videos: Videos) -> None:
        self._videos = videos
        self._rows = array("i")
        self._taken = bytearray()
        """Whether a row of this index is that of a row of the other one."""

    def __len__(self) -> int:
        """How many rows of the other one are known."""
        return len(self._rows)

    def learn(self, first: int, videos: Sequence[str]) -> bool:
        """Take in the videos of rows from `first` on, up to which all are known.

        None is there twice. Those that are not known here get a row. False if some are other videos
        than before, or have a row already: then no row of the other index is to be believed.
        """
        index, known = self._videos, len(self._rows) - first
        if index.together(videos):
            rows: list[int] = index.rows(videos).tolist()
        else:
            rows = list(map(index.row, videos))
        if array("i", rows[:known]) != self._rows[first : first + len(rows)]:
            return False
        self._taken.extend(bytes(len(index) - len(self._taken)))
        more, taken = rows[known:], self._taken
        if any(map(taken.__getitem__, more)):
            return False
        for row in more:
            taken[row] = 1
        self._rows.extend(more)
        return True

    def entries(self, first: int, gaps: "array[int]", counts: "array[int]") -> Mapping[str, int]:
        """Counts by ascending rows of the other index, as `Piece` has them, by video."""
        if not self._videos.settled:
            rows = [self._rows[row] for row in Piece(first, gaps, counts).rows()]
            return dict(zip(self._videos.names(rows), counts, strict=True))
        from counter.crdt import bulk

        found = bulk.found(self._rows, bulk.placed(first, gaps))
        return Entries(self._videos, found, bulk.wide(counts))
