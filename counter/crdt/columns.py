"""A column: a count for each video of one index, in the narrowest type that holds all of them.

Pure: no I/O, no clock, no lock.
"""

from array import array
from bisect import bisect_left
from collections.abc import Collection, ItemsView, Iterator, Mapping, Sequence
from itertools import accumulate, islice
from operator import sub
from typing import TYPE_CHECKING, NamedTuple

from counter.crdt.narrow import holds, type_for
from counter.crdt.videos import Videos

if TYPE_CHECKING:
    from counter.crdt.bulk import Counts
    from counter.crdt.index import Rows

ROWS_A_PIECE = 2**16
_ROWS_A_STEP = 2**14
_ROWS_AHEAD = 2**6
"""So many places are made at once, for new videos mostly come one by one."""


def widened(counts: "array[int]", largest: int) -> "array[int]":
    """A copy whose type holds counts up to this."""
    code = type_for(largest)
    if len(counts) <= Videos.small:
        return array(code, counts)
    from counter.crdt import bulk

    return bulk.widened(counts, code)


_MANY_ROWS = 2_000
"""Of so many the sum takes numpy, which is ten times as quick."""


def reach(counts: "array[int]", videos: Videos) -> None:
    """Have a place for every row, and where some were lacking for the next ones as well."""
    rows = len(videos.listed)
    if len(counts) < rows:
        lacking = rows - len(counts) + _ROWS_AHEAD
        counts.frombytes(bytes(counts.itemsize * lacking))


def gaps_of(rows: "list[int] | Rows", first: int) -> "array[int]":
    """The gaps between ascending rows, the first of which is to `first`, as narrow as can be."""
    if isinstance(rows, list):
        between = list(map(sub, rows, [first, *rows]))
        return array(type_for(max(between, default=0)), between)
    from counter.crdt import bulk

    return bulk.gaps(rows, first)


def sum_of(counts: "array[int]", rows: "array[int]") -> int:
    """The sum of the counts in these rows; those beyond the end have none yet."""
    if len(rows) >= _MANY_ROWS:
        from counter.crdt import bulk

        return bulk.sum_at(counts, rows)
    return sum(counts[row] for row in rows if row < len(counts))


class Piece(NamedTuple):
    """Counts by ascending rows: the gaps between the rows, the first of which is to `first`."""

    first: int
    gaps: "array[int]"
    counts: "array[int]"

    def rows(self) -> Iterator[int]:
        """The rows that are counted."""
        return islice(accumulate(self.gaps, initial=self.first), 1, None)


class Entries(Mapping[str, int]):
    """Numbers of many videos of one index: `{video: number}`, and by row; none is there twice.

    Most who get it look at the rows or at the videos alone, so these and the dict are made when
    they are needed.
    """

    __slots__ = ("_of", "index", "named", "numbers", "rows")

    def __init__(
        self, index: Videos, rows: "Rows", numbers: "Counts", videos: Sequence[str] | None = None
    ) -> None:
        self.index = index
        self.rows = rows
        self.numbers = numbers
        self.named = videos
        """The videos, if they need not be looked up."""
        self._of: dict[str, int] | None = None

    @staticmethod
    def told(
        index: Videos, ids: Sequence[str], counts: Sequence[int], text: bytes
    ) -> "Entries | None":
        """Counts of videos that are also in a text, each with a NUL at its end.

        Who tells many counts mostly has them in the order of what was told before. Such videos have
        rows one behind the other, and are not looked for one by one. None if they have not.
        """
        if not (index.together(ids) and index.settled):
            return None
        rows = index.follow(ids[0], len(ids), text)
        if rows is None:
            return None
        from counter.crdt import bulk

        numbers = bulk.numbers_of(counts)
        return None if numbers is None else Entries(index, rows, numbers)

    @staticmethod
    def placed(
        index: Videos, rows: "list[Rows]", videos: Sequence[str], counts: Collection[int]
    ) -> "Entries":
        """Counts, none of them too large, of videos that have these rows of the index."""
        from counter.crdt import bulk

        return Entries(index, bulk.joined(rows), bulk.told(counts), videos)

    @property
    def total(self) -> int:
        """The sum of all numbers."""
        return sum(self.numbers.tolist())

    @property
    def videos(self) -> Sequence[str]:
        """The videos, in the order of `rows`."""
        if self.named is None:
            self.named = self.index.names(self.rows)
        return self.named

    def part(self, first: int, end: int) -> "Entries":
        """Those from one place to another."""
        named = self.named and self.named[first:end]
        return Entries(self.index, self.rows[first:end], self.numbers[first:end], named)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.rows)

    def __iter__(self) -> Iterator[str]:
        """Each video."""
        return iter(self.videos)

    def __getitem__(self, video: str) -> int:
        """The number of a video. Raises KeyError if it has none."""
        return self.by_video()[video]

    def items(self) -> ItemsView[str, int]:
        """Each video and its number."""
        return self.by_video().items()

    def by_video(self) -> dict[str, int]:
        """The same as a dict. Not to be changed."""
        if self._of is None:
            self._of = dict(zip(self.videos, self.numbers.tolist(), strict=True))
        return self._of


class Growth(Entries):
    """By how much which videos grew, of many."""

    __slots__ = ()


class Column:
    """A count for each video of one index, 0 for most: `{video: count}` by row.

    A sparse one is a dict; a dense one an array with a place for every row, widened when a count
    is larger than its type holds.
    """

    sparse = 1000
    """So many counts are kept in a dict; also more, while 63 of 64 rows are empty."""

    __slots__ = ("_counts", "_size", "_sparse", "_videos")

    def __init__(self, videos: Videos) -> None:
        self._videos = videos
        self._size = 0
        self._sparse: dict[int, int] | None = {}
        self._counts = array("B")

    def __len__(self) -> int:
        """How many videos are counted here."""
        return self._size

    def __iter__(self) -> Iterator[str]:
        """Each video that is counted here."""
        return (video for video, _ in self.items())

    def __contains__(self, video: object) -> bool:
        """Whether a video is counted here."""
        return type(video) is str and self.count(video) > 0

    # -- one count

    def at(self, row: int) -> int:
        """The count in a row of the index, 0 for none."""
        if self._sparse is not None:
            return self._sparse.get(row, 0)
        return self._counts[row] if row < len(self._counts) else 0

    def put(self, row: int, count: int) -> None:
        """Set the count in a row; it must not be 0."""
        if self._sparse is not None:
            self._size += row not in self._sparse
            self._sparse[row] = count
            if self._size > self.sparse and self._is_dense(self._size):
                self._make_room()
        else:
            if row >= len(self._counts):
                self._reach()
            self._size += not self._counts[row]
            try:
                self._counts[row] = count
            except OverflowError:
                self._counts = widened(self._counts, count)
                self._counts[row] = count

    def reached(self) -> "array[int] | None":
        """The counts by row, with a place for every one, of a dense column; None of a sparse one.

        Until a count is too large for their type. A count that was 0 is `put` all the same.
        """
        if self._sparse is not None:
            return None
        reach(self._counts, self._videos)
        return self._counts

    def count(self, video: str) -> int:
        """The count of a video, 0 for none."""
        row = self._videos.find(video)
        return 0 if row is None else self.at(row)

    # -- many counts

    def counts(self, videos: Collection[str]) -> dict[str, int]:
        """The count of each of these videos, 0 for none."""
        if not self._videos.together(videos):
            return {video: self.count(video) for video in videos}
        counts = self.take(self._videos.find_many(list(videos)))
        return dict(zip(videos, counts.tolist(), strict=True))

    def of(self, rows: Sequence[int]) -> dict[str, int]:
        """The videos of these rows and their counts."""
        return dict(zip(self._videos.names(rows), map(self.at, rows), strict=True))

    def items(self) -> Iterator[tuple[str, int]]:
        """Each video that is counted here, and its count."""
        for rows, counts in self._steps():
            yield from zip(self._videos.names(rows), counts, strict=True)

    def pages(self, most: int) -> Iterator[dict[str, int]]:
        """All that is counted here, up to `most` videos at a time."""
        items = self.items()
        while page := dict(islice(items, most)):
            yield page

    def parts(self, most: int) -> Iterator[Mapping[str, int]]:
        """The same, quicker where there are many: these do not look for their rows again."""
        if self._sparse is not None or not self._videos.settled:
            yield from self.pages(most)
            return
        for rows, counts in self.arrays():
            yield Entries(self._videos, rows, counts)

    def by_row(self) -> Iterator[tuple[int, int]]:
        """Each row that is counted here, and its count."""
        for rows, counts in self._steps():
            yield from zip(rows, counts, strict=True)

    def _steps(self) -> Iterator[tuple[list[int], list[int]]]:
        """Rows that are counted here and their counts, some at a time."""
        if self._sparse is not None:
            yield list(self._sparse), list(self._sparse.values())
        elif len(self._counts) <= self._videos.small:
            rows = [row for row, count in enumerate(self._counts) if count]
            yield rows, list(filter(None, self._counts))
        else:
            for some, counts in self.arrays():
                yield some.tolist(), counts.tolist()

    def arrays(self) -> Iterator[tuple["Rows", "Counts"]]:
        """All rows that are counted here and their counts, as arrays, some at a time."""
        from counter.crdt import bulk

        if self._sparse is not None:
            yield bulk.entries(self._sparse)
            return
        for first in range(0, len(self._counts), _ROWS_A_STEP):
            rows = bulk.counted(self._counts, first, first + _ROWS_A_STEP)
            if len(rows):
                yield rows, bulk.take(self._counts, rows)

    def pieces(self) -> Iterator[Piece]:
        """Everything that is counted here, by ascending rows: up to `ROWS_A_PIECE` rows a piece."""
        if self._sparse is None and len(self._counts) > self._videos.small:
            from counter.crdt import bulk

            for first in range(0, len(self._counts), ROWS_A_PIECE):
                gaps, counts = bulk.gaps_and_counts(self._counts, first, first + ROWS_A_PIECE)
                if counts:
                    yield Piece(first, gaps, counts)
            return
        entries = sorted(self.by_row())
        begin = 0
        for first in range(0, len(self._videos), ROWS_A_PIECE):
            end = bisect_left(entries, (first + ROWS_A_PIECE,), begin)
            if end > begin:
                rows, counted = zip(*entries[begin:end], strict=True)
                between = list(map(sub, rows, [first, *rows]))
                narrow = [array(type_for(max(of)), of) for of in (between, counted)]
                yield Piece(first, *narrow)
            begin = end

    def begin(self, size: int) -> None:
        """Get ready for pieces of so many counts, of a column in which there are none yet."""
        self._size = size
        if self._is_dense(size):
            Column._make_room(self)

    def fill(self, piece: Piece) -> None:
        """Set the counts of a piece."""
        if self._sparse is not None:
            self._sparse.update(zip(piece.rows(), piece.counts, strict=True))
            return
        if piece.counts.itemsize > self._counts.itemsize:
            self._counts = widened(self._counts, 2 ** (8 * piece.counts.itemsize) - 1)
        if len(self._videos) > self._videos.small:
            from counter.crdt import bulk

            bulk.fill(self._counts, *piece)
        else:
            for row, count in zip(piece.rows(), piece.counts, strict=True):
                self._counts[row] = count

    def mark(self, marks: bytearray) -> int:
        """Set the marks of all rows that are counted here; return how many were not set."""
        if self._sparse is None and len(self._counts) > self._videos.small:
            from counter.crdt import bulk

            return bulk.mark_counted(marks, self._counts)
        new = 0
        for row, _ in self.by_row():
            new += not marks[row]
            marks[row] = 1
        return new

    def take(self, rows: "Rows") -> "Counts":
        """The counts in these rows, as an array; 0 for none, and for the row -1."""
        from counter.crdt import bulk

        if self._sparse is not None:
            return bulk.counted_in(self._sparse, rows)
        self._reach()
        return bulk.take(self._counts, rows)

    def put_many(self, rows: "Rows", counts: "Counts") -> None:
        """Set the counts in these rows; none is 0, and no row is there twice."""
        from counter.crdt import bulk

        self._foresee(len(rows))
        if self._sparse is not None:
            self._sparse.update(zip(rows.tolist(), counts.tolist(), strict=True))
            self._size = len(self._sparse)
            if self._is_dense(self._size):
                self._make_room()
        else:
            self._reach()
            largest = int(counts.max(initial=0))
            if not holds(self._counts, largest):
                self._counts = widened(self._counts, largest)
            self._size += bulk.put(self._counts, rows, counts)

    def add_column(self, other: "Column") -> None:
        """Add the counts of another column over the same index, where both are dense."""
        from counter.crdt import bulk

        self._reach()
        largest = bulk.largest(self._counts) + bulk.largest(other._counts)
        if not holds(self._counts, largest):
            self._counts = widened(self._counts, largest)
        self._size = bulk.added(self._counts, other._counts)

    # -- where they are kept

    def _is_dense(self, size: int) -> bool:
        """Whether so many counts are smaller as an array."""
        return size > self.sparse and size * 64 > len(self._videos)

    def _foresee(self, size: int) -> None:
        """Become dense before so many counts are set, if it will be then: a dict takes longer."""
        if self._sparse is not None and self._is_dense(size):
            self._make_room()

    def _reach(self) -> None:
        """Have a place for every row, of a dense one."""
        reach(self._counts, self._videos)

    def _make_room(self) -> None:
        """Become dense: from now on there is a place for every row."""
        assert self._sparse is not None
        sparse, self._sparse = self._sparse, None
        self._counts = array(type_for(max(sparse.values(), default=0)))
        self._reach()
        if len(self._videos) > self._videos.small:
            from counter.crdt import bulk

            bulk.put(self._counts, *bulk.entries(sparse))
        else:
            for row, count in sparse.items():
                self._counts[row] = count
