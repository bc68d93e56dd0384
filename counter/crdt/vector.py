"""What one replica has counted, small enough in memory for millions of videos.

All vectors of a tally share one index, in which every video has a row. So a count takes one or two
bytes if it is small, however long the video's id is. Beside its counts a vector keeps what tells
two copies of it apart: its total, a content hash, and a hash for each bucket of videos. All of
these are sums over the entries, updated with every count; only a vector that was at rest sums its
buckets anew when they are asked for.

The content hash is the sum of count times hash of video, modulo a prime: a multilinear hash
(Carter, Wegman: *Universal classes of hash functions*, 1979), whose keys are the videos' hashes.
Two different copies have the same hash with a probability of 1 in 2^61.

Pure: no I/O, no clock, no lock.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from struct import pack
from typing import TYPE_CHECKING

from counter.crdt.columns import Column, Growth
from counter.crdt.gcounter import MAX_COUNT
from counter.crdt.hashes import BUCKETS, PRIME
from counter.crdt.segment import Packing, Segment
from counter.crdt.videos import Videos

if TYPE_CHECKING:
    from counter.crdt.bulk import Counts
    from counter.crdt.index import Rows

_LEAST_BUCKETS = 2**4
_ROWS_A_STEP = 2**14
_MANY_TO_SUM = 200_000
"""The hashes of the buckets of so many counts take some 5 ms; kept, they take 128 KiB."""
MAX_VECTOR_TOTAL = 2**62
"""No vector's total is larger: totals are told in 63 bits. A run ends long before, and so does what
is folded of many runs; what would take a vector further was made up."""


class Refused:
    """Counts that are refused: the total of their vector would be larger than its writer says.

    `limit` is that total.
    """

    __slots__ = ("limit", "videos")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.videos: list[str] = []


class Vector(Column):
    """The counts of one replica: `{video: count}`, its total, and its content hash."""

    __slots__ = ("_digests", "digest", "total")

    def __init__(self, videos: Videos) -> None:
        super().__init__(videos)
        self.total = 0
        self.digest = 0
        """The content hash, below 2^61."""
        self._digests = array("Q")
        """The content hash of each bucket; of a sparse one, and until they are needed: none."""

    def merge(self, counts: Mapping[str, int], refused: Refused | None = None) -> Mapping[str, int]:
        """Take the larger count of each video; return by how much which videos grew.

        With `refused`, a count that would take the total beyond its limit is noted there instead;
        no total grows beyond `MAX_VECTOR_TOTAL`.
        """
        limit = MAX_VECTOR_TOTAL if refused is None else min(refused.limit, MAX_VECTOR_TOTAL)
        if len(counts) >= self._videos.many and self._videos.together(counts):
            growth = self._merge_many(counts, limit)
            if growth is not None:
                return growth
        find, at, put = self._videos.find, self.at, self.set
        grew = {}
        for video, count in counts.items():
            row = find(video)
            before = 0 if row is None else at(row)
            if count > before:
                if self.total + count - before > limit:
                    if refused is not None:
                        refused.videos.append(video)
                    continue
                if row is None:
                    row = self._videos.add(video)
                put(row, count, before)
                grew[video] = count - before
        return grew

    def _merge_many(self, counts: Mapping[str, int], limit: int) -> Mapping[str, int] | None:
        """The same for many at once; None if that is to be done one by one, as one is too large."""
        from counter.crdt import bulk

        told = bulk.counts_of(counts)
        if told is None:
            return None
        videos: Sequence[str] = list(counts)
        rows = self._videos.find_many(videos)
        before = self.take(rows)
        news = told > before
        if not news.all():
            videos = list(compress(videos, news.tolist()))
            told, before, rows = told[news], before[news], rows[news]
        if not videos:
            return {}
        more = told - before
        total = bulk.sum_of(more)
        if total is None or self.total + total > limit:
            return None
        self._videos.add_missing(videos, rows)
        self._grow(rows, told, more)
        return Growth(videos, rows, more)

    def _grow(self, rows: "Rows", counts: "Counts", more: "Counts") -> None:
        """Set many counts, each larger by so much than before."""
        from counter.crdt import bulk

        changes = bulk.products(bulk.take(self._videos.hashes, rows), more)
        self.total += int(more.sum())
        self.digest = (self.digest + bulk.total(changes)) % PRIME
        if self._digests:
            bulk.add_to_buckets(self._digests, self._videos.buckets, rows, changes)
        self.put_many(rows, counts)

    def set(self, row: int, count: int, before: int) -> None:
        """Set the count in a row, which was `before`."""
        growth = count - before
        self.total += growth
        change = self._videos.hashes[row] * growth
        self.digest = (self.digest + change) % PRIME
        if self._digests:
            bucket = self._videos.buckets[row]
            self._digests[bucket] = (self._digests[bucket] + change) % PRIME
        self.put(row, count)

    def add(self, other: "Vector") -> None:
        """Add the counts of another vector over the same index, as folding does.

        A count stays at `MAX_COUNT`. One that would take the total beyond `MAX_VECTOR_TOTAL` does
        not grow.
        """
        small = len(self._videos) <= self._videos.small
        if small or other._sparse is not None or self.total + other.total > MAX_COUNT:
            for row, more in other.by_row():
                before = self.at(row)
                count = min(MAX_COUNT, before + more)
                if count > before and self.total + count - before <= MAX_VECTOR_TOTAL:
                    self.set(row, count, before)
            return
        if self._sparse is not None:
            self._make_room()
        self.add_column(other)
        self.total += other.total
        self.digest = (self.digest + other.digest) % PRIME
        if self._digests and other._digests:
            from counter.crdt import bulk

            bulk.add_sums(self._digests, other._digests)
        else:
            self._digests = array("Q")

    def pack(self) -> Segment:
        """This vector at rest: some one to two bytes a count."""
        _, content = Packing(self).step(len(self) + 1)
        assert content is not None
        return self.segment(content)

    def segment(self, content: bytes) -> Segment:
        """This vector at rest, with these counts that were packed."""
        sums = self._sums().tobytes() if len(self) > _MANY_TO_SUM else b""
        return Segment(self.total, self.digest, len(self), content, sums)

    @classmethod
    def unpack(cls, segment: Segment, videos: Videos) -> "Vector":
        """The vector that was packed, over the same index."""
        _, vector = Unpacking(segment, cls(videos)).step(segment.size + 1)
        assert vector is not None
        return vector

    def digest_with(self, counts: Mapping[str, int]) -> tuple[int, int]:
        """Total and content hash after `counts` would be merged."""
        total, digest = self.total, self.digest
        if self._videos.together(counts):
            from counter.crdt import bulk

            told = bulk.counts_of(counts)
            if told is not None:
                rows = self._videos.rows(list(counts))
                more = bulk.growth(self.take(rows), told)
                changes = bulk.products(bulk.take(self._videos.hashes, rows), more)
                return total + sum(more.tolist()), (digest + bulk.total(changes)) % PRIME
        for video, count in counts.items():
            row = self._videos.row(video)
            growth = max(0, count - self.at(row))
            total += growth
            digest += self._videos.hashes[row] * growth
        return total, digest % PRIME

    # -- what tells copies apart

    def hashes(self, buckets: int, salt: int) -> bytes:
        """A hash of two bytes for each of so many buckets, a power of two.

        Where two copies of a bucket differ, their hashes are equal with a probability of 1 in 2^16;
        with another `salt`, from 1 to `PRIME` - 1, the same pair does not collide again.
        """
        if len(self._videos) > self._videos.small:
            from counter.crdt import bulk

            return bulk.hashes(self._sums(), buckets, salt)
        digests = [0] * buckets
        if self._sparse is None:
            sums = self._sums()
            for first in range(0, BUCKETS, buckets):
                part = sums[first : first + buckets]
                digests = [one + other for one, other in zip(digests, part, strict=True)]
        else:
            of, hashes = self._videos.buckets, self._videos.hashes
            for row, count in self._sparse.items():
                digests[of[row] % buckets] += hashes[row] * count
        return pack(f"<{buckets}H", *[digest * salt % PRIME & 0xFFFF for digest in digests])

    def _sums(self) -> "array[int]":
        """The content hash of each bucket; a dense vector keeps them up to date from now on."""
        if self._digests:
            return self._digests
        sums = array("Q", bytes(8 * BUCKETS))
        if len(self._videos) > self._videos.small:
            from counter.crdt import bulk

            for rows, counts in self.arrays():
                changes = bulk.products(bulk.take(self._videos.hashes, rows), counts)
                bulk.add_to_buckets(sums, self._videos.buckets, rows, changes)
        else:
            of, hashes = self._videos.buckets, self._videos.hashes
            for row, count in self.by_row():
                sums[of[row]] = (sums[of[row]] + hashes[row] * count) % PRIME
        if self._sparse is None:
            self._digests = sums
        return sums

    def _make_room(self) -> None:
        super()._make_room()
        self._sums()

    def buckets(self) -> int:
        """How many buckets tell well enough which counts of this copy are out of date."""
        wanted = 1 << (self._size // 32).bit_length()
        return min(max(wanted, _LEAST_BUCKETS), BUCKETS)

    # -- a page of them

    def differing(
        self, hashes: bytes, salt: int, after: int, most_bytes: int, most_scanned: int
    ) -> tuple[dict[str, int], int | None]:
        """One page of the counts in buckets whose hash differs from `hashes` (b"": in all).

        Starts at the row `after` and ends when the page holds about `most_bytes` of encoded
        entries or `most_scanned` rows were looked at. Returns the page and the row to go on
        from, None at the end.
        """
        if self._sparse is None and self._videos.settled:
            return self._differing_of_many(hashes, salt, after, most_bytes, most_scanned)
        counts: dict[str, int] = {}
        size = 0
        rows, end = self._rows(after, most_scanned)
        for row in self._in_differing(rows, hashes, salt):
            count = self.at(row)
            if count:
                name = self._videos.name(row)
                size += len(name) + 12
                if size > most_bytes and counts:
                    return counts, row
                counts[name] = count
        return counts, end

    def _differing_of_many(
        self, hashes: bytes, salt: int, after: int, most_bytes: int, most_scanned: int
    ) -> tuple[dict[str, int], int | None]:
        """The same for many at once, of a dense vector."""
        from counter.crdt import bulk

        differ = None
        if hashes:
            differ = bulk.differing(self.hashes(len(hashes) // 2, salt), hashes)
        counts: dict[str, int] = {}
        end = min(after + most_scanned, len(self._counts))
        for first in range(after, end, _ROWS_A_STEP):
            rows = bulk.counted(self._counts, first, min(first + _ROWS_A_STEP, end))
            if differ is not None:
                rows = bulk.in_differing(rows, self._videos.buckets, differ)
            fit, size = bulk.fitting(self._videos.lengths(rows), 12, most_bytes)
            if not counts:
                fit = max(fit, 1)
            most_bytes -= size
            counts |= self.of(rows[:fit].tolist())
            if fit < len(rows):
                return counts, int(rows[fit])
        return counts, end if end < len(self._counts) else None

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


class Unpacking:
    """A segment on its way to become a vector again, one in which nothing is counted yet."""

    def __init__(self, segment: Segment, vector: Vector) -> None:
        self._segment = segment
        self._vector = vector
        vector.begin(segment.size)
        self._rest = segment.pieces()

    def step(self, most: int) -> tuple[int, Vector | None]:
        """Unpack about `most` counts more; return how many, and the vector once it is complete."""
        done, vector, segment = 0, self._vector, self._segment
        for piece in self._rest:
            vector.fill(piece)
            done += len(piece.counts)
            if done >= most:
                return done, None
        vector.total, vector.digest = segment.total, segment.digest
        if vector._sparse is None:
            vector._digests.frombytes(segment.sums)
        # Not 0, which says that there was nothing to be done.
        return max(done, 1), vector
