"""The videos that a tally has heard of: each has a row, in which all columns keep its counts.

Pure: no I/O, no clock, no lock.
"""

from array import array
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from counter.crdt.hashes import digests_of, hash_of
from counter.crdt.ids import ANNOUNCED, CLASSES, LONGEST_VIDEO, class_of, is_listed

if TYPE_CHECKING:
    from counter.crdt.index import Index, Rows


class Videos:
    """A row for each video that was ever heard of, in that order. No row is removed or moved.

    While there are at most `small`, a dict has all of them. From then on new ones are moved, some
    at a time, into an `Index`, which takes a fifth of the memory, and a dict has those looked for
    lately.
    """

    small = 40_000
    """Up to so many videos all are in a dict."""
    many = 96
    """From so many videos on it is quicker to look for all of them at once, if not few are known.
    """
    young = 2048
    """So many are moved at once, when they are no longer few: 1 ms."""
    often = 1024
    """They are moved when so many came."""
    lately = 16_384
    """So many that were looked for are remembered, and not looked for in the index again."""
    index_class: "type[Index] | None" = None

    __slots__ = ("_hot", "_index", "_young", "announced", "buckets", "classes", "coming", "find",
                 "hashes", "known", "listed", "look", "videos")  # fmt: skip

    def __init__(self) -> None:
        self._young: list[str] = []
        """The last rows, which are not in the index."""
        self._hot: dict[str, int] = {}
        self._index: Index | None = None
        self.find: Callable[[str], int | None]
        """The row of a video, None if it has none. As quick as a dict if it was looked for lately.
        """
        self.known: Callable[[str], int | None]
        """The same, None as well if it was not looked for lately. Then it must be `look`ed for."""
        self.look: Callable[[str], int | None]
        self._bind()
        self.listed = bytearray()
        """Whether a row is that of a video, and not of a key that is listed nowhere."""
        self.videos = 0
        """How many rows are those of videos."""
        self.announced = 0
        """How many rows are those of announcements."""
        self.classes = {each: array("Q") for each in CLASSES}
        """The rows of the keys of each class."""
        self.hashes = array("Q")
        self.buckets = array("H")
        self.coming = 0
        """How many rows there may soon be, as another node has told."""

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.listed)

    @property
    def soon_many(self) -> bool:
        """Whether it is time to load what is needed when they are not few any more."""
        return 2 * max(len(self.listed), self.coming) > self.small

    @property
    def settled(self) -> bool:
        """Whether they are many, and all of those that were few are in the index."""
        return self._index is not None and len(self._young) <= self.young

    def together(self, videos: Collection[str]) -> bool:
        """Whether so many are looked for at once, with `find_many`, and not one by one."""
        return self._index is not None and len(videos) >= self.many

    # -- one video

    def row(self, video: str) -> int:
        """The row of a video, a new one if there is none yet."""
        row = self.find(video)
        return self.add(video) if row is None else row

    def add(self, video: str) -> int:
        """The new row of a video that has none."""
        row = self._hot[video] = len(self.listed)
        self._young.append(video)
        # As `is_listed` says: a call takes longer than what it does.
        if "/" in video or len(video) > LONGEST_VIDEO:
            self.listed.append(False)
            self.announced += video.endswith(ANNOUNCED)
            if of := class_of(video):
                self.classes[of].append(row)
        else:
            self.listed.append(True)
            self.videos += 1
        of_count, bucket = hash_of(video)
        self.hashes.append(of_count)
        self.buckets.append(bucket)
        limit = self.small if self._index is None else self.young
        if len(self._young) >= limit and row % self.often == 0:
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
        index = self._index if self.settled else self._settle()
        assert index is not None
        rows = index.find_many(videos)
        if self._young:
            young = self._hot.get
            for at in (rows < 0).nonzero()[0].tolist():
                rows[at] = young(videos[at], -1)
        return rows

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

    def follow(self, first: str, size: int, text: bytes) -> "Rows | None":
        """The rows of so many ids in a text, each with a NUL at its end, from the first one on.

        None if they are not one behind the other. Only when they are not few.
        """
        row = self.find(first)
        if row is None or not self._settle().follow(row, size, text):
            return None
        from counter.crdt import bulk

        return bulk.rows_from(row, row + size)

    def names(self, rows: "Sequence[int] | Rows") -> list[str]:
        """The videos of these rows."""
        if len(rows) < self.many or not self.settled:
            return list(map(self.name, rows))
        return self._settle().names(rows)

    def text(self, rows: "Sequence[int] | Rows") -> bytes:
        """The videos of these ascending rows in UTF-8, each with a NUL at its end."""
        if isinstance(rows, Sequence):
            return _joined(self.names(rows))
        return self._settle().text(rows)

    def between(self, first: int, end: int) -> bytes:
        """The same of all rows from one to another."""
        moved = 0 if self._index is None else len(self._index)
        young = self._young[max(0, first - moved) : max(0, end - moved)]
        if self._index is None or first >= moved:
            return _joined(young)
        return self._index.between(first, min(end, moved)) + _joined(young)

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

        first = len(self.listed)
        if not self.settled:
            # More are moved than come, however many these are: otherwise a dict gets them all.
            for _ in range(len(videos) // self.young + 1):
                self._settle()
        if self.settled:
            self._settle().add(videos)
        else:
            self._hot.update(zip(videos, range(first, first + len(videos)), strict=True))
            self._young += videos
        bulk.add_hashes(self.hashes, self.buckets, digests_of(videos))
        listed = [True] * len(videos)
        if max(map(len, videos)) > LONGEST_VIDEO or "/" in "".join(videos):
            listed = list(map(is_listed, videos))
            self.announced += sum(video.endswith(ANNOUNCED) for video in videos)
            for row, video in enumerate(videos, first):
                if of := class_of(video):
                    self.classes[of].append(row)
        self.listed += bytes(listed)
        self.videos += sum(listed)
        if not self.settled:
            # More are moved than came, or there would be no end to that.
            for _ in range(0, 2 * len(videos), self.young):
                self._settle()
        return bulk.rows_from(first, len(self.listed))

    # -- where they are kept

    def _settle(self) -> "Index":
        """Move young ones into the index, but not many at a time."""
        if self._index is None:
            self._index = self.index_class() if self.index_class else _new_index()
            self._hot = _Hot(self._hot, self._index.find, self._cool, self.lately)
            self._bind()
        if self._young:
            self._index.add(self._young[: self.young])
            del self._young[: self.young]
            if len(self._hot) >= self.lately:
                self._cool()
        return self._index

    def _cool(self) -> None:
        """Forget which videos were looked for lately, if those are too many."""
        if len(self._hot) >= self.lately + len(self._young):
            self._hot.clear()
            moved = len(self.listed) - len(self._young)
            self._hot.update(zip(self._young, range(moved, len(self.listed)), strict=True))

    def _bind(self) -> None:
        hot = self._hot
        self.known = self.find = hot.get
        self.look = _nowhere
        if isinstance(hot, _Hot):
            self.find, self.look = hot.__getitem__, hot.look

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what is bound: a copy must not look into the original."""
        return {name: getattr(self, name) for name in Videos.__slots__ if name not in _BOUND}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Become a copy."""
        for name, value in state.items():
            setattr(self, name, value)
        self._bind()


_BOUND = ("find", "known", "look")


def _joined(videos: Sequence[str]) -> bytes:
    return "".join([f"{video}\0" for video in videos]).encode()


def _nowhere(_: str) -> None:
    return None


def _new_index() -> "Index":
    from counter.crdt.index import Index

    return Index()


class _Hot(dict[str, int]):
    """The rows of some videos. Where one is missing it is looked for; None if it has no row."""

    __slots__ = ("_cool", "_find", "_most")

    def __init__(
        self,
        rows: dict[str, int],
        find: Callable[[str], int | None],
        cool: Callable[[], None],
        most: int,
    ) -> None:
        super().__init__(rows)
        self._find = find
        self._cool = cool
        self._most = most

    def look(self, video: str) -> int | None:
        """The row of a video that is not here; from now on it is."""
        row = self._find(video)
        if row is not None:
            if len(self) >= self._most:
                self._cool()
            self[video] = row
        return row

    __missing__ = look
