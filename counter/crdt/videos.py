"""The videos that a tally has heard of: an index with a row for each, and sets over it.

Pure: no I/O, no clock, no lock.
"""

from array import array
from collections.abc import Iterable
from hashlib import blake2b
from struct import Struct

from counter.crdt.ids import ANNOUNCED, is_listed

PRIME = 2**61 - 1
"""The modulus of content hashes."""
BUCKETS = 2**14
"""The most buckets: a repair of a million videos then tells some sixty from the others."""
_DIGEST = Struct(">QH")


class Videos:
    """The index: a row for each video that was ever heard of, in that order.

    No row is ever removed or moved.
    """

    __slots__ = ("announced", "buckets", "hashes", "listed", "many", "names", "rows")

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.names: list[str] = []
        self.listed = bytearray()
        """Whether a row is that of a video, and not of a key that is listed nowhere."""
        self.many = 0
        """How many rows are those of videos."""
        self.announced = 0
        """How many rows are those of announcements."""
        self.hashes = array("Q")
        self.buckets = array("H")

    def row(self, video: str) -> int:
        """The row of a video, a new one if there is none yet."""
        row = self.rows.get(video)
        if row is None:
            row = self.rows[video] = len(self.names)
            self.names.append(video)
            listed = is_listed(video)
            self.listed.append(listed)
            self.many += listed
            self.announced += video.endswith(ANNOUNCED)
            of_count, of_bucket = _DIGEST.unpack(blake2b(video.encode(), digest_size=10).digest())
            self.hashes.append(of_count % PRIME)
            self.buckets.append(of_bucket % BUCKETS)
        return row


class VideoSet:
    """A set of videos of one index: a byte for each row.

    Python's own sets and dicts stop everything for 30 ms when they grow past some 700,000 entries,
    and each garbage collection visits every element of a set.
    """

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
        """Add videos, all of which the index holds."""
        rows, marks, size = self._videos.rows, self._marks, self._size
        if len(marks) < len(rows):
            marks.extend(bytes(len(rows) - len(marks)))
        for video in videos:
            row = rows[video]
            size += not marks[row]
            marks[row] = 1
        self._size = size

    def take(self, most: int) -> list[str]:
        """Remove and return up to `most` videos."""
        names, marks, row = self._videos.names, self._marks, self._next
        taken: list[str] = []
        for _ in range(min(most, self._size)):
            row = marks.find(1, row)
            if row < 0:
                row = marks.find(1)
            marks[row] = 0
            taken.append(names[row])
        self._size -= len(taken)
        self._next = row
        return taken
