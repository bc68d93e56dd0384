"""The tally: a grow-only counter for each video, stored as a vector for each replica.

State-based G-Counter: Shapiro, Preguiça, Baquero, Zawirski, *A comprehensive study of Convergent
and Commutative Replicated Data Types*, INRIA RR-7506, 2011, section 3.1.1. A replica increments
only its own entry, a merge takes the larger entry, the value is the sum (see `gcounter.py`). The
counters of all videos are stored turned on their side: a vector holds what one replica has counted
for every video, so one integer, its total, tells whether two copies of it are equal.

Pure: no I/O, no clock, no lock. A `Tally` is not thread-safe: its caller guards it.
"""

from array import array
from bisect import insort
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from counter.crdt.columns import Column, Entries, Growth, reach, sum_of, widened
from counter.crdt.extract import Extract, Room
from counter.crdt.gcounter import MAX_COUNT
from counter.crdt.ids import folded_of, is_folded, member_of, run_of
from counter.crdt.narrow import ALWAYS_HELD, holds
from counter.crdt.segment import Packing, Segment
from counter.crdt.top import TopVideos
from counter.crdt.vector import Refused, Unpacking, Vector
from counter.crdt.video_set import VideoSet
from counter.crdt.videos import Videos

if TYPE_CHECKING:
    from counter.crdt.index import Rows

MAX_PACKED, MAX_PACKED_OF_MANY = 20_000, 60_000
"""See `most_packed`."""
LARGEST_SUM = 2**64 - 1
"""Where the sum of a video's counts stops here. Counts that come to more were made up, as numbers
end far below; every single one of them stays as it is."""


class Tally:
    """Everything a node knows: a vector for each replica it has heard of.

    A vector may be put to *rest*: it is then compressed, as a segment, and unpacked on demand. The
    sums of each member, which are what is shown, do not change by that.

    The counts of a member's old runs are folded into one vector, up to its *fold mark*, the newest
    run in it. The vectors that count are the folded one with that mark and those of later runs.
    Any other is old news and ignored, so no visit counts twice.
    """

    TOP = 1000
    """How many videos `top` can name."""
    COMPARED = 16
    """Of how many vectors at rest the hashes of buckets are kept, 128 KiB each."""
    vector_class = Vector
    videos_class = Videos

    def __init__(self) -> None:
        self.ids = self._videos = self.videos_class()
        """What was ever counted here or told, listed or not; never less. Not to be changed."""
        self._visits = array("B")
        self._sums: dict[str, Column] = {}
        self._listed: dict[str, int] = {}
        self._vectors: dict[str, Vector | Segment] = {}
        self._of_members: dict[str, list[str]] = {}
        self._marks: dict[str, str] = {}
        self._unpacked: tuple[str, Vector] | None = None
        self._compared: dict[str, tuple[Segment, array[int]]] = {}
        """Those that were compared last, the latest at the end."""
        self._packing: tuple[Vector, int, Packing] | None = None
        self._waking: tuple[Segment, Unpacking] | None = None
        self.ranking = TopVideos(self.TOP)

    def merge(
        self, vector: str, counts: Mapping[str, int], refused: Refused | None = None
    ) -> Mapping[str, int]:
        """Join `counts` into a vector; return `{video: growth}` of what grew.

        Idempotent, commutative and associative; no count ever falls. An empty result means that
        nothing was news. A vector at rest that grows wakes up.
        """
        known = self._vectors.get(vector)
        # Those that are here are current.
        if known is None and not self.current(vector):
            return {}
        own = known if isinstance(known, Vector) else self.vector(vector)
        grew = own.merge(counts, refused)
        if grew:
            if known is not own:
                self._put(vector, own)
            member = member_of(vector)
            column = self._sums.get(member)
            if column is None:
                column = self._sums[member] = Column(self._videos)
            # Not with isinstance, which is slow for an abstract class.
            more = self._add_many(column, grew) if type(grew) is Growth else None
            if more is None:
                more = self._add(column, grew)
            self._listed[member] = self._listed.get(member, 0) + more
        return grew

    def _add(self, column: Column, grew: Mapping[str, int]) -> int:
        """Add what grew to a member's sums and to the visits; return by how much videos grew."""
        find, listed, top = self._videos.find, self._videos.listed, self.ranking
        ranked, visits, more = top.ranked, self._visits, 0
        reach(visits, self._videos)
        # A column that is dense now has a place for every row, and stays dense.
        sums = column.reached()
        for video, growth in grew.items():
            row = find(video)
            assert row is not None, video
            of_all = visits[row] + growth
            of_member = (column.at(row) if sums is None else sums[row]) + growth
            if of_all > LARGEST_SUM:
                of_member, of_all = min(of_member, LARGEST_SUM), LARGEST_SUM
            try:
                visits[row] = of_all
            except OverflowError:
                visits = self._visits = widened(visits, of_all)
                visits[row] = of_all
            if sums is None:
                column.put(row, of_member)
            elif of_member == growth:
                column.put(row, of_member)
                if of_member > ALWAYS_HELD:
                    sums = column.reached()
            else:
                try:
                    sums[row] = of_member
                except OverflowError:
                    column.put(row, of_member)
                    sums = column.reached()
            if listed[row]:
                more += growth
                if of_all > top.bar or video in ranked:
                    top.grew(video, of_all)
        return more

    def _add_many(self, column: Column, grew: Growth) -> int | None:
        """The same for many at once; None if that is to be done one by one, as one is too large."""
        from counter.crdt import bulk

        rows = grew.rows
        of_member = bulk.sums(column.take(rows), grew.numbers)
        reach(self._visits, self._videos)
        of_all = bulk.sums(bulk.take(self._visits, rows), grew.numbers)
        if of_member is None or of_all is None:
            return None
        column.put_many(rows, of_member)
        largest = int(of_all.max())
        if not holds(self._visits, largest):
            self._visits = widened(self._visits, largest)
        bulk.put(self._visits, rows, of_all)
        listed, higher = bulk.listed(self._videos.listed, rows, of_all, self.ranking.bar)
        for at, visits in higher:
            # The bar rises with those before.
            if visits > self.ranking.bar:
                self.ranking.grew(self._videos.name(int(rows[at])), visits)
        return int(grew.numbers[listed].sum())

    def mark(self, member: str) -> str:
        """The newest run that is folded here, "" if none is."""
        return self._marks.get(member, "")

    def marks(self) -> dict[str, str]:
        """The newest run that is folded here, by member."""
        return {member: mark for member, mark in self._marks.items() if mark}

    def current(self, vector: str) -> bool:
        """Whether this vector counts here: of a run after its member's mark, or folded up to it."""
        mark, run = self._marks.get(member_of(vector), ""), run_of(vector)
        return run == mark if is_folded(vector) else run > mark

    def of(self, member: str) -> list[str]:
        """The vectors of a member, oldest first."""
        return list(self._of_members.get(member, ()))

    def parts(self, member: str, mark: str) -> list[str]:
        """The vectors that go into the one folded up to `mark`, oldest first."""
        return [vector for vector in self.of(member) if run_of(vector) <= mark]

    def empty(self) -> Vector:
        """A vector in which nothing is counted, over the same index."""
        return self.vector_class(self._videos)

    def told(self, ids: Sequence[str], counts: Sequence[int], text: bytes) -> Entries | None:
        """Counts that are merged more quickly into vectors here; see `Entries.told`."""
        return Entries.told(self._videos, ids, counts, text)

    def no_videos(self) -> VideoSet:
        """A set of videos that are counted here, in which there is none yet."""
        return VideoSet(self._videos)

    def fold(self, member: str, mark: str) -> list[Vector]:
        """Add up the `parts` of a fold, in one step; return those that are runs.

        No number changes by that, and what was folded before is not copied.
        """
        folded, runs = self.empty(), []
        for part in self.parts(member, mark):
            own = self.vector(part)
            if is_folded(part):
                folded = own
            else:
                runs.append(own)
            del self._vectors[part]
            self._of_members[member].remove(part)
        for own in runs:
            folded.add(own)
        self._marks[member] = mark
        self._unpacked = None
        if folded.total:
            self._put(folded_of(member, mark), folded)
        return runs

    def discard(self, vector: str) -> Vector:
        """Forget a vector, and return it: what was loaded of it has turned out to be wrong.

        The only step that lowers numbers; it happens before they are shown.
        """
        gone = self.vector(vector)
        if self._vectors.pop(vector, None) is not None:
            member = member_of(vector)
            self._of_members[member].remove(vector)
            self._unpacked = None
            column, visits, listed = self._sums[member], self._visits, self._videos.listed
            for row, count in gone.by_row():
                column.put(row, self._less(column.at(row), count, row, self.of(member)))
                visits[row] = self._less(visits[row], count, row, self._vectors)
                self._listed[member] -= count * listed[row]
            self.ranking.fill(self._videos, visits)
        return gone

    @property
    def most_packed(self) -> int:
        """How many counts are packed at once: they take some 5 ms."""
        return MAX_PACKED if len(self.ids) <= self.ids.small else MAX_PACKED_OF_MANY

    def rest(self, vector: str, most: int) -> int:
        """Put a vector to rest, about `most` counts at a time; return how many it were now.

        Whoever wants it to rest calls this until it `rests`. If it grows meanwhile, that begins
        anew.
        """
        own = self._vectors.get(vector)
        if not isinstance(own, Vector):
            return 0
        packing = self._packing
        # What grows has a larger total.
        if packing is None or packing[0] is not own or packing[1] != own.total:
            packing = self._packing = own, own.total, Packing(own)
        packed, content = packing[2].step(most)
        if content is not None:
            self._vectors[vector] = own.segment(content)
            self._packing = None
        return packed

    def wake(self, vector: str, most: int) -> int:
        """Have a vector that rests awake, about `most` counts at a time; return how many now.

        Whoever wants it awake calls this until it returns 0.
        """
        own = self._vectors.get(vector)
        if not isinstance(own, Segment):
            self._waking = None
            return 0
        if self._waking is None or self._waking[0] is not own:
            self._waking = own, Unpacking(own, self.empty())
        unpacked, awake = self._waking[1].step(most)
        if awake is not None:
            self._put(vector, awake)
            self._waking = None
        return unpacked

    def size(self, vector: str) -> int:
        """How many videos are counted in a vector."""
        own = self._vectors.get(vector)
        return 0 if own is None else own.size if isinstance(own, Segment) else len(own)

    def rests(self, vector: str) -> bool:
        """Whether a vector is at rest."""
        return isinstance(self._vectors.get(vector), Segment)

    def visits(self, video: str) -> int:
        """The video's visits: the sum of its counter, at most `MAX_COUNT`; 0 if there are none."""
        row = self._videos.find(video)
        # The index also has videos whose first visits are still pending.
        if row is None or row >= len(self._visits):
            return 0
        return min(MAX_COUNT, self._visits[row])

    def counter(self, video: str) -> dict[str, int]:
        """The video's counter with one entry for each member, all of its runs added up."""
        row = self._videos.find(video)
        if row is None:
            return {}
        return {member: count for member, of in self._sums.items() if (count := of.at(row))}

    def top(self, limit: int) -> list[str]:
        """The `limit` (at most `TOP`) most visited videos after corrections, most visits first."""
        if self.ranking.lacks(limit):
            self.ranking.fill(self._videos, self._visits)
        return self.ranking.top(limit)

    def count(self, vector: str, video: str) -> int:
        """The count of `video` in one vector, as far as known here."""
        own = self._vectors.get(vector)
        if own is None:
            return 0
        return (own if isinstance(own, Vector) else self.vector(vector)).count(video)

    def counts(self, vector: str, videos: Collection[str]) -> dict[str, int]:
        """The counts of these videos in one vector, 0 for none."""
        return self.vector(vector).counts(videos)

    def vector(self, vector: str) -> Vector:
        """A vector, empty if nothing is known of it. Not to be changed."""
        own = self._vectors.get(vector)
        if isinstance(own, Segment):
            if self._unpacked is None or self._unpacked[0] != vector:
                self._unpacked = vector, self.vector_class.unpack(own, self._videos)
            return self._unpacked[1]
        return own or self.empty()

    def extract(
        self, vector: str, hashes: bytes, salt: int, after: int, room: Room, most_scanned: int
    ) -> tuple[Extract, int | None]:
        """See `page`."""
        rows, counts, end = self.page(vector, hashes, salt, after, room, most_scanned)
        return Extract(self._videos.text(rows), counts), end

    def page(
        self, vector: str, hashes: bytes, salt: int, after: int, room: Room, most_scanned: int
    ) -> tuple["list[int] | Rows", "array[int]", int | None]:
        """See `Vector.page`. What is at rest stays there."""
        own = self._vectors.get(vector)
        if isinstance(own, Segment) and self._videos.settled:
            differ = None
            if hashes:
                from counter.crdt import bulk

                sums = self._sums_at_rest(vector, own)
                differ = bulk.differing(bulk.hashes(sums, len(hashes) // 2, salt), hashes)
            return self.vector_class.page_at_rest(own, self._videos, differ, after, room)
        return self.vector(vector).page(hashes, salt, after, room, most_scanned)

    def _sums_at_rest(self, vector: str, own: Segment) -> "array[int]":
        """The hashes of the buckets of a vector at rest, which are asked for page by page."""
        kept = self._compared.pop(vector, None)
        if kept is None or kept[0] is not own:
            kept = own, self.vector_class.sums_at_rest(own, self._videos)
        self._compared[vector] = kept
        if len(self._compared) > self.COMPARED:
            del self._compared[next(iter(self._compared))]
        return kept[1]

    def total(self, vector: str) -> int:
        """The sum of a vector."""
        own = self._vectors.get(vector)
        return own.total if own else 0

    def digest(self, vector: str) -> int:
        """The content hash of a vector."""
        own = self._vectors.get(vector)
        return own.digest if own else 0

    def sum_with(self, vector: str, counts: Mapping[str, int]) -> tuple[int, int]:
        """Total and content hash of a vector once `counts` are merged into it."""
        if not counts:
            return self.total(vector), self.digest(vector)
        return self.vector(vector).digest_with(counts)

    def totals(self) -> dict[str, int]:
        """The total of every vector."""
        return {vector: own.total for vector, own in self._vectors.items()}

    def videos(self) -> int:
        """How many videos it has heard of."""
        return self._videos.videos

    def announced(self) -> int:
        """How many videos were announced."""
        return self._videos.announced

    def classes(self) -> dict[str, int]:
        """The visits that do not count, by class, over all videos."""
        return {each: sum_of(self._visits, of) for each, of in self._videos.classes.items()}

    def members(self) -> dict[str, int]:
        """The visits that each member has counted, over all videos."""
        return dict(self._listed)

    def vectors(self) -> Iterator[tuple[str, Vector]]:
        """Each vector and its id. Not to be changed."""
        for vector in list(self._vectors):
            yield vector, self.vector(vector)

    def _less(self, sum_: int, count: int, row: int, vectors: Iterable[str]) -> int:
        """A sum of these vectors in a row, after one with this count has gone."""
        if sum_ < LARGEST_SUM:
            return sum_ - count
        # The sum had stopped there.
        return min(LARGEST_SUM, sum(self.vector(vector).at(row) for vector in vectors))

    def _put(self, vector: str, own: Vector) -> None:
        if vector not in self._vectors:
            insort(self._of_members.setdefault(member_of(vector), []), vector, key=run_of)
        self._vectors[vector] = own
        if self._unpacked is not None and self._unpacked[0] == vector:
            self._unpacked = None
