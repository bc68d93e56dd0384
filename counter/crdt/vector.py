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

from counter.crdt.columns import Column, Entries, Growth, widened
from counter.crdt.extract import Extract, Room
from counter.crdt.gcounter import MAX_COUNT
from counter.crdt.hashes import BUCKETS, PRIME
from counter.crdt.narrow import type_for
from counter.crdt.segment import Packing, Segment
from counter.crdt.videos import Videos

if TYPE_CHECKING:
    from counter.crdt.bulk import Counts, Differ
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
        are_entries = type(counts) is Entries
        if are_entries or (len(counts) >= self._videos.many and self._videos.together(counts)):
            growth = self._merge_many(counts, limit)
            if growth is not None:
                return growth
        known, look, set_ = self._videos.known, self._videos.look, self.set
        grew = {}
        for video, count in counts.items():
            row = known(video)
            if row is None:
                row = look(video)
            # As `at` does: a call takes longer than what it does here.
            if row is None:
                before = 0
            elif self._sparse is None:
                before = self._counts[row] if row < len(self._counts) else 0
            else:
                before = self._sparse.get(row, 0)
            if count > before:
                if self.total + count - before > limit:
                    if refused is not None:
                        refused.videos.append(video)
                    continue
                set_(self._videos.add(video) if row is None else row, count, before)
                grew[video] = count - before
        return grew

    def _merge_many(self, counts: Mapping[str, int], limit: int) -> Mapping[str, int] | None:
        """The same for many at once; None if that is to be done one by one, as one is too large."""
        from counter.crdt import bulk

        videos: Sequence[str] | None = None
        if isinstance(counts, Entries):
            told, rows, videos = counts.numbers, counts.rows, counts.named
        else:
            numbers = bulk.counts_of(counts)
            if numbers is None:
                return None
            told, followed = numbers, None
            if type(counts) is Extract:
                # Mostly in the order of what was told before.
                followed = self._videos.follow(next(iter(counts)), len(counts), counts.text)
            if followed is None:
                videos = counts.videos if type(counts) is Extract else list(counts)
                followed = self._videos.find_many(videos)
            rows = followed
        before = self.take(rows)
        news = told > before
        if not news.all():
            videos = videos and list(compress(videos, news.tolist()))
            told, before, rows = told[news], before[news], rows[news]
        if not len(rows):
            return {}
        more = told - before
        total = bulk.sum_of(more)
        if total is None or self.total + total > limit:
            return None
        if videos is not None:
            self._videos.add_missing(videos, rows)
        self._grow(rows, told, more)
        return Growth(self._videos, rows, more, videos)

    def _grow(self, rows: "Rows", counts: "Counts", more: "Counts") -> None:
        """Set many counts, each larger by so much than before."""
        from counter.crdt import bulk

        # Before its buckets are summed: they have what was counted before that.
        self._foresee(len(rows))
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
        if self._sparse is None and row < len(self._counts):
            # As `put` does: a call takes longer than what it does here.
            self._size += not before
            try:
                self._counts[row] = count
            except OverflowError:
                self._counts = widened(self._counts, count)
                self._counts[row] = count
        else:
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

    @classmethod
    def sums_at_rest(cls, segment: Segment, videos: Videos) -> "array[int]":
        """The content hash of each bucket, without unpacking the vector. Only when not few."""
        from counter.crdt import bulk

        if segment.sums:
            return array("Q", segment.sums)
        sums = array("Q", bytes(8 * BUCKETS))
        for piece in segment.pieces():
            rows = bulk.placed(piece.first, piece.gaps)
            changes = bulk.products(bulk.take(videos.hashes, rows), bulk.wide(piece.counts))
            bulk.add_to_buckets(sums, videos.buckets, rows, changes)
        return sums

    @classmethod
    def page_at_rest(
        cls, segment: Segment, videos: Videos, differ: "Differ | None", after: int, room: Room
    ) -> tuple["Rows", "array[int]", int | None]:
        """See `page`, of the buckets that differ, or of all, without unpacking the vector.

        Only when not few.
        """
        from counter.crdt import bulk

        found: list[Rows] = []
        counts: list[Rows] = []
        following: int | None = None
        for piece in segment.pieces(after):
            rows = bulk.placed(piece.first, piece.gaps)
            at = bulk.wanted(rows, after, videos.buckets, differ)
            rows = rows[at]
            fit, room = bulk.fitting(videos.lengths(rows), room, at_least=not found)
            if fit:
                found.append(rows[:fit])
                counts.append(bulk.wide(piece.counts)[at[:fit]].astype("int64"))
            if fit < len(rows):
                following = int(rows[fit])
                break
        return bulk.joined(found), bulk.narrowed(bulk.joined(counts)), following

    def digest_with(self, counts: Mapping[str, int]) -> tuple[int, int]:
        """Total and content hash after `counts` would be merged."""
        total, digest = self.total, self.digest
        if self._videos.together(counts):
            from counter.crdt import bulk

            known = counts if isinstance(counts, Entries) else None
            told = known.numbers if known else bulk.counts_of(counts)
            if told is not None:
                rows = known.rows if known else self._videos.rows(list(counts))
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
        room = Room(most_bytes, 12, MAX_COUNT)
        rows, end = self._differing(hashes, salt, after, room, most_scanned)
        return self.of(rows if isinstance(rows, list) else rows.tolist()), end

    def page(
        self, hashes: bytes, salt: int, after: int, room: Room, most_scanned: int
    ) -> tuple["list[int] | Rows", "array[int]", int | None]:
        """The same as rows and their counts, as far as there is `room` for them."""
        rows, end = self._differing(hashes, salt, after, room, most_scanned)
        if isinstance(rows, list):
            counts = list(map(self.at, rows))
            return rows, array(type_for(max(counts, default=0)), counts), end
        from counter.crdt import bulk

        return rows, bulk.narrow(self._counts, rows), end

    def _differing(
        self, hashes: bytes, salt: int, after: int, room: Room, most_scanned: int
    ) -> tuple["list[int] | Rows", int | None]:
        """The rows of a page, and where the next one begins."""
        if self._sparse is None and self._videos.settled:
            return self._differing_of_many(hashes, salt, after, room, most_scanned)
        found: list[int] = []
        size = 0
        rows, end = self._rows(after, most_scanned)
        for row in self._in_differing(rows, hashes, salt):
            if self.at(row):
                size += room.each + (len(self._videos.name(row)) if room.ids else 0)
                if (size > room.size and found) or len(found) == room.most:
                    return found, row
                found.append(row)
        return found, end

    def _differing_of_many(
        self, hashes: bytes, salt: int, after: int, room: Room, most_scanned: int
    ) -> tuple["Rows", int | None]:
        """The same for many at once, of a dense vector."""
        from counter.crdt import bulk

        differ = None
        if hashes:
            differ = bulk.differing(self.hashes(len(hashes) // 2, salt), hashes)
        found: list[Rows] = []
        last = min(len(self._counts), len(self._videos))
        end = min(after + most_scanned, last)
        following = end if end < last else None
        for first in range(after, end, _ROWS_A_STEP):
            rows = bulk.counted(self._counts, first, min(first + _ROWS_A_STEP, end))
            if differ is not None:
                rows = bulk.in_differing(rows, self._videos.buckets, differ)
            fit, room = bulk.fitting(self._videos.lengths(rows), room, at_least=not found)
            if fit:
                found.append(rows[:fit])
            if fit < len(rows):
                following = int(rows[fit])
                break
        return bulk.joined(found), following

    def _rows(self, after: int, most: int) -> tuple[Sequence[int], int | None]:
        """Some rows from `after` on, and where the rest begins, None if there is no rest."""
        if self._sparse is None:
            last = min(len(self._counts), len(self._videos))
            end = min(after + most, last)
            return range(after, end), end if end < last else None
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
