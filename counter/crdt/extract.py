"""An extract: some counts of a vector as they go from one node to another, in two columns.

One is a text with the ids, the other an array with the counts. So many of them are checked, encoded
and merged at once, and not one by one.

Pure: no I/O, no clock, no lock.
"""

from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from counter.crdt.narrow import packed, type_for, unpack


class Room(NamedTuple):
    """How much fits into a page: bytes, of which an entry takes those of its id and `each` more,
    and entries. Without `ids` an entry takes `each` alone."""

    size: int
    each: int
    most: int
    ids: bool = True


class Extract(Mapping[str, int]):
    """Counts of some videos, none of which is there twice: `{video: count}`.

    `text` has their ids in UTF-8, each with a NUL at its end, and `counts` their counts. Neither is
    to be changed.
    """

    __slots__ = ("_by_video", "_videos", "counts", "text")

    def __init__(self, text: bytes, counts: "array[int]") -> None:
        self.text = text
        self.counts = counts
        self._videos: Sequence[str] | None = None
        self._by_video: dict[str, int] | None = None

    @classmethod
    def of(cls, videos: Sequence[str], counts: Collection[int]) -> "Extract":
        """The extract with these videos and their counts."""
        text = "".join([f"{video}\0" for video in videos]).encode()
        return cls(text, array(type_for(max(counts, default=0)), counts))

    @classmethod
    def unpack(cls, text: bytes, counts: bytes) -> "Extract":
        """The extract with this text and these counts, see `packed`.

        Raises ValueError if they do not fit together. What the text says is not checked.
        """
        if text and text[-1]:
            raise ValueError("the last id has no end")
        return cls(text, unpack(counts, text.count(b"\0")))

    def packed(self) -> bytes:
        """The counts, 1, 2, 4 or 8 bytes each, the lowest first."""
        return packed(self.counts)

    @property
    def videos(self) -> Sequence[str]:
        """The videos in their order."""
        if self._videos is None:
            self._videos = self.text.decode().split("\0")[:-1]
        return self._videos

    def __len__(self) -> int:
        """How many videos there are."""
        return len(self.counts)

    def __iter__(self) -> Iterator[str]:
        """Each video."""
        return iter(self.videos)

    def __getitem__(self, video: str) -> int:
        """The count of a video. Raises KeyError if it is not there."""
        if self._by_video is None:
            self._by_video = dict(zip(self.videos, self.counts, strict=True))
        return self._by_video[video]
