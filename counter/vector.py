"""What one replica has counted, kept lean enough for millions of videos.

All vectors of a tally share one index, in which every video has a row: so a count takes eight
bytes, however long the video's id is. Beside its counts a vector keeps what tells two copies of it
apart: its total, a content hash, and a hash for each bucket of videos. All of them are sums over
the entries, brought up to date with every count; none is ever computed anew.

The content hash is the sum of count times hash of video, modulo a prime: a multilinear hash
(Carter, Wegman: *Universal classes of hash functions*, 1979), whose keys are the videos' hashes.
Two different copies have the same one by an accident of 1 in 2^61.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import compress
from struct import Struct, pack

PRIME = 2**61 - 1
BUCKETS = 2**14
"""The most buckets: a repair of a million videos then tells some sixty from the others."""
_LEAST_BUCKETS = 2**4
_DIGEST = Struct(">QH")


class Videos:
    """The index: a row for each video that was ever heard of, in the order of first sight.

    No row is ever removed or moved.
    """

    __slots__ = ("buckets", "hashes", "names", "rows")

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.names: list[str] = []
        self.hashes = array("Q")
        self.buckets = array("H")

    def row(self, video: str) -> int:
        """The row of a video, a new one if there is none yet."""
        row = self.rows.get(video)
        if row is None:
            row = self.rows[video] = len(self.names)
            self.names.append(video)
            of_count, of_bucket = _DIGEST.unpack(blake2b(video.encode(), digest_size=10).digest())
            self.hashes.append(of_count % PRIME)
            self.buckets.append(of_bucket % BUCKETS)
        return row


class VideoSet:
    """A set of videos of one index: a byte for each row.

    Python's own sets and dicts stop everything for 30 ms when they grow past some 700,000; and
    the garbage collector looks at every element of a set, each time.
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
        """Remove so many, or all if there are fewer, and return them."""
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


class Vector:
    """The counts of one replica: `{video: count}`, its total, and its content hash.

    Few counts are kept by row in a dict; many in an array with a place for every row.
    """

    few = 1000
    """Up to so many counts are kept in a dict, and also more, while 15 of 16 rows are empty."""

    __slots__ = ("_counts", "_digests", "_few", "_size", "_videos", "digest", "total")

    def __init__(self, videos: Videos) -> None:
        self.total = 0
        self.digest = 0
        """The content hash, below 2^61."""
        self._videos = videos
        self._size = 0
        self._few: dict[int, int] | None = {}
        self._counts = array("Q")
        self._digests = array("Q")

    def __len__(self) -> int:
        """How many videos are counted here."""
        return self._size

    def __iter__(self) -> Iterator[str]:
        """Each video that is counted here."""
        return (video for video, _ in self.items())

    def merge(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Take the larger count of each video; return by how much which videos grew."""
        rows, names, at, put = self._videos.rows, self._videos.names, self.at, self._put
        grew = {}
        for video, count in counts.items():
            row = rows.get(video)
            before = 0 if row is None else at(row)
            if count > before:
                if row is None:
                    row = self._videos.row(video)
                put(row, count, before)
                # The index's own string, lest a message's copy of it be kept by who notes it.
                grew[names[row]] = count - before
        return grew

    def at(self, row: int) -> int:
        """The count in a row of the index, 0 for none."""
        if self._few is not None:
            return self._few.get(row, 0)
        return self._counts[row] if row < len(self._counts) else 0

    def count(self, video: str) -> int:
        """The count of a video, 0 for none."""
        row = self._videos.rows.get(video)
        return 0 if row is None else self.at(row)

    def items(self) -> Iterator[tuple[str, int]]:
        """Each video that is counted here, and its count."""
        names = self._videos.names
        for row, count in enumerate(self._counts) if self._few is None else self._few.items():
            if count:
                yield names[row], count

    def hashes(self, buckets: int, salt: int) -> bytes:
        """A hash of two bytes for each of so many buckets, a power of two.

        Where two copies of a bucket differ, so do their hashes, but for an accident of 1 in 2^16;
        with another `salt`, from 1 to `PRIME` - 1, the same accident does not happen twice.
        """
        digests = [0] * buckets
        if self._few is None:
            for first in range(0, BUCKETS, buckets):
                part = self._digests[first : first + buckets]
                digests = [one + other for one, other in zip(digests, part, strict=True)]
        else:
            of, hashes = self._videos.buckets, self._videos.hashes
            for row, count in self._few.items():
                digests[of[row] % buckets] += hashes[row] * count
        return pack(f"<{buckets}H", *[digest * salt % PRIME & 0xFFFF for digest in digests])

    def buckets(self) -> int:
        """How many buckets tell well enough which counts of this copy are out of date."""
        wanted = 1 << (self._size // 32).bit_length()
        return min(max(wanted, _LEAST_BUCKETS), BUCKETS)

    def differing(
        self, hashes: bytes, salt: int, after: int, most_bytes: int, most_scanned: int
    ) -> tuple[dict[str, int], int | None]:
        """One page of the counts in buckets whose hash differs from `hashes` (b"": in all).

        Starts at the row `after` and ends when the page holds about `most_bytes` of encoded
        entries or `most_scanned` rows were looked at. Returns the page and the row to go on
        from, None at the end.
        """
        names = self._videos.names
        counts: dict[str, int] = {}
        size = 0
        rows, end = self._rows(after, most_scanned)
        for row in self._in_differing(rows, hashes, salt):
            count = self.at(row)
            if count:
                size += len(names[row]) + 12
                if size > most_bytes and counts:
                    return counts, row
                counts[names[row]] = count
        return counts, end

    def _rows(self, after: int, most: int) -> tuple[Sequence[int], int | None]:
        """Some rows from `after` on, and where the rest begins, None if there is no rest."""
        if self._few is None:
            end = min(after + most, len(self._counts))
            return range(after, end), end if end < len(self._counts) else None
        rows = sorted(self._few)
        first = bisect_left(rows, after)
        rest = rows[first + most : first + most + 1]
        return rows[first : first + most], rest[0] if rest else None

    def _in_differing(self, rows: Sequence[int], hashes: bytes, salt: int) -> Iterator[int]:
        if not hashes or not rows:
            return iter(rows)
        theirs = memoryview(hashes).cast("H")
        ours = memoryview(self.hashes(len(theirs), salt)).cast("H")
        differs = bytes(one != other for one, other in zip(ours, theirs, strict=True))
        differs *= BUCKETS // len(theirs)
        of = self._videos.buckets
        if isinstance(rows, range):
            buckets: Sequence[int] = of[rows.start : rows.stop]
        else:
            buckets = [of[row] for row in rows]
        return compress(rows, map(differs.__getitem__, buckets))

    def _put(self, row: int, count: int, before: int) -> None:
        growth = count - before
        self._size += not before
        self.total += growth
        change = self._videos.hashes[row] * growth
        self.digest = (self.digest + change) % PRIME
        if self._few is not None:
            self._few[row] = count
            if self._size > self.few and self._size * 16 > len(self._videos.names):
                self._make_room()
        else:
            if row >= len(self._counts):
                self._counts.frombytes(bytes(8 * (len(self._videos.names) - len(self._counts))))
            self._counts[row] = count
            bucket = self._videos.buckets[row]
            self._digests[bucket] = (self._digests[bucket] + change) % PRIME

    def _make_room(self) -> None:
        """From now on there is a place for every row: it is not worth while for few counts."""
        assert self._few is not None
        few, self._few = self._few, None
        self._counts.frombytes(bytes(8 * len(self._videos.names)))
        self._digests.frombytes(bytes(8 * BUCKETS))
        for row, count in few.items():
            self._counts[row] = count
            bucket = self._videos.buckets[row]
            self._digests[bucket] = (
                self._digests[bucket] + self._videos.hashes[row] * count
            ) % PRIME
