"""What one replica has counted, small enough in memory for millions of videos.

All vectors of a tally share one index, in which every video has a row. So a count takes eight
bytes, however long the video's id is, and one or two in a vector at rest. Beside its counts a
vector keeps what tells two copies of it apart: its total, a content hash, and a hash for each
bucket of videos. All of these are sums over the entries, updated with every count and never
recomputed.

The content hash is the sum of count times hash of video, modulo a prime: a multilinear hash
(Carter, Wegman: *Universal classes of hash functions*, 1979), whose keys are the videos' hashes.
Two different copies have the same hash with a probability of 1 in 2^61.
"""

import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, compress
from operator import sub
from struct import Struct, pack
from typing import NamedTuple

from counter.crdt.gcounter import MAX_COUNT
from counter.crdt.videos import BUCKETS, PRIME, Videos

_LEAST_BUCKETS = 2**4
MAX_VECTOR_TOTAL = 2**62
"""No vector's total is larger: totals are told in 63 bits. A run ends long before, and so does what
is folded of many runs; what would take a vector further was made up."""


class Column:
    """A count for each video of one index, 0 for most: `{video: count}` by row.

    A sparse one is a dict; a dense one an array with a place for every row.
    """

    sparse = 1000
    """So many counts are kept in a dict; also more, while 15 of 16 rows are empty."""

    __slots__ = ("_counts", "_size", "_sparse", "_videos")

    def __init__(self, videos: Videos) -> None:
        self._videos = videos
        self._size = 0
        self._sparse: dict[int, int] | None = {}
        self._counts = array("Q")

    def __len__(self) -> int:
        """How many videos are counted here."""
        return self._size

    def __iter__(self) -> Iterator[str]:
        """Each video that is counted here."""
        return (video for video, _ in self.items())

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
            if self._size > self.sparse and self._size * 16 > len(self._videos.names):
                self._make_room()
        else:
            if row >= len(self._counts):
                self._counts.frombytes(bytes(8 * (len(self._videos.names) - len(self._counts))))
            self._size += not self._counts[row]
            self._counts[row] = count

    def count(self, video: str) -> int:
        """The count of a video, 0 for none."""
        row = self._videos.rows.get(video)
        return 0 if row is None else self.at(row)

    def items(self) -> Iterator[tuple[str, int]]:
        """Each video that is counted here, and its count."""
        names = self._videos.names
        return ((names[row], count) for row, count in self.by_row())

    def by_row(self) -> Iterator[tuple[int, int]]:
        """Each row that is counted here, and its count."""
        if self._sparse is not None:
            return iter(self._sparse.items())
        return ((row, count) for row, count in enumerate(self._counts) if count)

    def _make_room(self) -> None:
        """Become dense: from now on there is a place for every row."""
        assert self._sparse is not None
        sparse, self._sparse = self._sparse, None
        self._counts.frombytes(bytes(8 * len(self._videos.names)))
        for row, count in sparse.items():
            self._counts[row] = count


class Refused:
    """Counts that are refused: the total of their vector would be larger than its writer says.

    `limit` is that total.
    """

    __slots__ = ("limit", "videos")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.videos: list[str] = []


class Segment(NamedTuple):
    """A vector at rest: what tells it from other copies, and its counts, compressed."""

    total: int
    digest: int
    content: bytes

    def unpack(self, videos: Videos, kind: "type[Vector]") -> "Vector":
        """The vector that was packed, over the same index."""
        vector = kind(videos)
        code, size = _SEGMENT.unpack_from(self.content)
        gaps, counts = array("I"), array(chr(code))
        packed = zlib.decompress(self.content[_SEGMENT.size :])
        gaps.frombytes(packed[: size * gaps.itemsize])
        counts.frombytes(packed[size * gaps.itemsize :])
        for row, count in zip(accumulate(gaps), counts, strict=True):
            vector.set(row, count, 0)
        return vector


_SEGMENT = Struct(">BI")
"""The type code of the counts, and how many there are."""


class Vector(Column):
    """The counts of one replica: `{video: count}`, its total, and its content hash."""

    __slots__ = ("_digests", "digest", "total")

    def __init__(self, videos: Videos) -> None:
        super().__init__(videos)
        self.total = 0
        self.digest = 0
        """The content hash, below 2^61."""
        self._digests = array("Q")

    def merge(self, counts: Mapping[str, int], refused: Refused | None = None) -> dict[str, int]:
        """Take the larger count of each video; return by how much which videos grew.

        With `refused`, a count that would take the total beyond its limit is noted there instead;
        no total grows beyond `MAX_VECTOR_TOTAL`.
        """
        limit = MAX_VECTOR_TOTAL if refused is None else min(refused.limit, MAX_VECTOR_TOTAL)
        rows, names, at, put = self._videos.rows, self._videos.names, self.at, self.set
        grew = {}
        for video, count in counts.items():
            row = rows.get(video)
            before = 0 if row is None else at(row)
            if count > before:
                if self.total + count - before > limit:
                    if refused is not None:
                        refused.videos.append(video)
                    continue
                if row is None:
                    row = self._videos.row(video)
                put(row, count, before)
                # The index's own string: whatever keeps it does not keep the message's copy.
                grew[names[row]] = count - before
        return grew

    def add(self, other: "Vector") -> None:
        """Add the counts of another vector over the same index, as far as this one has room."""
        for row, count in other.by_row():
            before = self.at(row)
            after = min(MAX_COUNT, before + count)
            # A sum that no vector can hold was made up, by a run that nobody has counted in.
            if before < after <= MAX_VECTOR_TOTAL - self.total + before:
                self.set(row, after, before)

    def pack(self) -> Segment:
        """This vector at rest: some one to two bytes a count."""
        entries = sorted(self.by_row())
        rows = [row for row, _ in entries]
        counts = [count for _, count in entries]
        largest = max(counts, default=0)
        code = next(code for code in "BHIQ" if largest < 1 << 8 * array(code).itemsize)
        gaps = array("I", map(sub, rows, [0, *rows]))
        packed = zlib.compress(gaps.tobytes() + array(code, counts).tobytes(), 1)
        content = _SEGMENT.pack(ord(code), len(rows)) + packed
        return Segment(self.total, self.digest, content)

    def digest_with(self, counts: Mapping[str, int]) -> tuple[int, int]:
        """Total and content hash after `counts` would be merged."""
        total, digest = self.total, self.digest
        for video, count in counts.items():
            row = self._videos.row(video)
            growth = max(0, count - self.at(row))
            total += growth
            digest += self._videos.hashes[row] * growth
        return total, digest % PRIME

    def hashes(self, buckets: int, salt: int) -> bytes:
        """A hash of two bytes for each of so many buckets, a power of two.

        Where two copies of a bucket differ, their hashes are equal with a probability of 1 in 2^16;
        with another `salt`, from 1 to `PRIME` - 1, the same pair does not collide again.
        """
        digests = [0] * buckets
        if self._sparse is None:
            for first in range(0, BUCKETS, buckets):
                part = self._digests[first : first + buckets]
                digests = [one + other for one, other in zip(digests, part, strict=True)]
        else:
            of, hashes = self._videos.buckets, self._videos.hashes
            for row, count in self._sparse.items():
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
        if self._sparse is None:
            end = min(after + most, len(self._counts))
            return range(after, end), end if end < len(self._counts) else None
        rows = sorted(self._sparse)
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

    def set(self, row: int, count: int, before: int) -> None:
        """Set the count in a row, which was `before`."""
        growth = count - before
        self.total += growth
        change = self._videos.hashes[row] * growth
        self.digest = (self.digest + change) % PRIME
        dense = self._sparse is None
        self.put(row, count)
        if dense:
            bucket = self._videos.buckets[row]
            self._digests[bucket] = (self._digests[bucket] + change) % PRIME

    def _make_room(self) -> None:
        assert self._sparse is not None
        sparse = self._sparse
        super()._make_room()
        self._digests.frombytes(bytes(8 * BUCKETS))
        for row, count in sparse.items():
            bucket = self._videos.buckets[row]
            self._digests[bucket] = (
                self._digests[bucket] + self._videos.hashes[row] * count
            ) % PRIME
