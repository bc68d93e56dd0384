"""The videos that a tally has heard of: each has a row, in which all columns keep its counts.

Pure: no I/O, no clock, no lock.
"""

from array import array
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from counter.crdt.hashes import digests_of, hash_of
from counter.crdt.ids import ANNOUNCED, LONGEST_VIDEO, is_listed

if TYPE_CHECKING:
    from counter.crdt.index import Index, Rows


class Videos:
    """A row for each video that was ever heard of, in that order. No row is removed or moved.

    While there are `few`, a dict has all of them. From then on new ones are moved, some at a time,
    into an `Index`, which takes a fifth of the memory, and a dict has those looked for lately.
    """

    few = 40_000
    many = 64
    """From so many videos on it is quicker to look for all of them at once, if not few are known.
    """
    young = 4096
    """So many new ones are moved at once, when they are no longer few: some 1 ms."""
    lately = 16_384
    """So many that were looked for are remembered, and not looked for in the index again."""
    index_class: "type[Index] | None" = None

    __slots__ = ("_hot", "_index", "_young", "announced", "buckets", "find", "hashes", "listed",
                 "videos")  # fmt: skip

    def __init__(self) -> None:
        self._young: list[str] = []
        """The last rows, which are not in the index."""
        self._hot: dict[str, int] = {}
        self._index: Index | None = None
        self.find: Callable[[str], int | None] = self._hot.get
        """The row of a video, None if it has none. As quick as a dict if it was lately here."""
        self.listed = bytearray()
        """Whether a row is that of a video, and not of a key that is listed nowhere."""
        self.videos = 0
        """How many rows are those of videos."""
        self.announced = 0
        """How many rows are those of announcements."""
        self.hashes = array("Q")
        self.buckets = array("H")

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.listed)

    @property
    def soon_many(self) -> bool:
        """Whether it is time to load what is needed when they are not few any more."""
        return 2 * len(self.listed) > self.few

    def together(self, videos: Collection[str]) -> bool:
        """Whether so many are looked for at once, with `find_many`, and not one by one."""
        return self._index is not None and len(videos) >= self.many

    # -- one video

    def row(self, video: str) -> int:
        """The row of a video, a new one if there is none yet."""
        row = self.find(video)
        if row is None:
            row = self._hot[video] = len(self.listed)
            self._young.append(video)
            listed = is_listed(video)
            self.listed.append(listed)
            self.videos += listed
            self.announced += video.endswith(ANNOUNCED)
            of_count, bucket = hash_of(video)
            self.hashes.append(of_count)
            self.buckets.append(bucket)
            if len(self._young) >= (self.few if self._index is None else self.young):
                self._settle()
        return row

    def name(self, row: int) -> str:
        """The video of a row."""
        if self._index is None:
            return self._young[row]
        moved = len(self._index)
        return self._index.name(row) if row < moved else self._young[row - moved]

    # -- many videos

    def find_many(self, videos: Sequence[str]) -> "Rows":
        """The row of each video, -1 where there is none. Only when they are not few."""
        return self._settle().find_many(videos)

    def rows(self, videos: Sequence[str]) -> "Rows":
        """The row of each video, a new one where there is none yet. Only when not few."""
        rows = self.find_many(videos)
        self.add_missing(videos, rows)
        return rows

    def add_missing(self, videos: Sequence[str], rows: "Rows") -> None:
        """Add each of these videos whose row is -1, and put its new row there."""
        unknown = (rows < 0).nonzero()[0].tolist()
        if unknown:
            new = videos if len(unknown) == len(videos) else [videos[at] for at in unknown]
            rows[unknown] = self._add_many(new)

    def names(self, rows: "Sequence[int] | Rows") -> list[str]:
        """The videos of these rows."""
        if self._index is None or len(rows) < self.many:
            return list(map(self.name, rows))
        return self._settle().names(rows)

    def lengths(self, rows: "Rows") -> "Rows":
        """How many bytes the ids of these rows have. Only when they are not few."""
        return self._settle().lengths(rows)

    def unknown(self, videos: Collection[str]) -> list[str]:
        """Those of these videos that have no row."""
        if not self.together(videos):
            find = self.find
            return [video for video in videos if find(video) is None]
        names = list(videos)
        return [names[at] for at in (self.find_many(names) < 0).nonzero()[0].tolist()]

    def _add_many(self, videos: Sequence[str]) -> "Rows":
        """The new row of each video; none has one, nor is there twice."""
        from counter.crdt import bulk

        self._settle().add(videos)
        bulk.add_hashes(self.hashes, self.buckets, digests_of(videos))
        listed = [True] * len(videos)
        if max(map(len, videos)) > LONGEST_VIDEO or "/" in "".join(videos):
            listed = list(map(is_listed, videos))
            self.announced += sum(video.endswith(ANNOUNCED) for video in videos)
        first = len(self.listed)
        self.listed += bytes(listed)
        self.videos += sum(listed)
        return bulk.rows_from(first, len(self.listed))

    # -- where they are kept

    def _settle(self) -> "Index":
        """Move the young ones into the index."""
        if self._index is None:
            self._index = self.index_class() if self.index_class else _new_index()
            self._hot = _Hot(self._look)
            self.find = self._hot.__getitem__
        if self._young:
            self._index.add(self._young)
            self._young = []
            if len(self._hot) >= self.lately:
                self._hot.clear()
        return self._index

    def _look(self, video: str) -> int | None:
        """Look for a video in the index, and remember it."""
        assert self._index is not None
        row = self._index.find(video)
        if row is not None:
            if len(self._hot) >= self.lately:
                self._settle()
                self._hot.clear()
            self._hot[video] = row
        return row


def _new_index() -> "Index":
    from counter.crdt.index import Index

    return Index()


class _Hot(dict[str, int]):
    """The rows of some videos. Where one is missing it is looked for; None if it has no row."""

    __slots__ = ("_look",)

    def __init__(self, look: Callable[[str], int | None]) -> None:
        self._look = look

    def __missing__(self, video: str) -> int | None:
        return self._look(video)
