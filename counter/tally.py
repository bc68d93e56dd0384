"""The rule: one grow-only counter a video, kept as one vector a replica, old ones folded.

State-based G-Counter: Shapiro, Preguiça, Baquero, Zawirski, *A comprehensive study of Convergent
and Commutative Replicated Data Types*, INRIA RR-7506, 2011, section 3.1.1. A replica raises only
its own entry, merging takes the larger entry, the value is the sum. The counters of all videos
are stored turned on their side: a vector holds what one replica has counted for every video, so
that one integer, its total, tells whether two copies of it are equal.

Pure: no I/O, no clock, no lock. Whoever shares a `Tally` between threads guards it.
"""

from array import array
from collections.abc import Iterator, Mapping
from heapq import nsmallest

from counter.ids import folded_of, is_folded, member_of, run_of
from counter.vector import Vector, Videos, VideoSet

MAX_COUNT = 2**53 - 1
"""The largest count: what JavaScript and Redis' Lua still hold exactly."""


class Leaders:
    """The most visited videos, exact up to `size` of them, at a constant cost a visit.

    Visits never fall, so a video that is not kept here can only come in by growing: it is enough
    to look at what grew. Among videos with equal visits at the very end, any may be kept.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._visits: dict[str, int] = {}
        self._bar = 0

    def grew(self, video: str, visits: int) -> None:
        """Note that `video` now has `visits`."""
        if visits > self._bar or video in self._visits:
            self._visits[video] = visits
            if len(self._visits) > 2 * self._size:
                self._visits = dict(self._first(self._size))
                self._bar = min(self._visits.values())

    def top(self, limit: int) -> list[str]:
        """The `limit` most visited videos, most visits first, then by id."""
        return [video for video, _ in self._first(min(limit, self._size))]

    def _first(self, limit: int) -> list[tuple[str, int]]:
        return nsmallest(limit, self._visits.items(), key=lambda item: (-item[1], item[0]))


class Tally:
    """Everything a node knows: a vector for each replica it has heard of, small for ever.

    What ended runs of a member have counted is folded into one vector a member, up to its *fold
    mark*, the newest run in it. The vectors that count are the folded one of that very mark, and
    those of later runs: any other is older news and ignored, so that no visit counts twice.
    """

    TOP = 1000
    """How many videos `top` can name."""
    vector_class = Vector

    def __init__(self) -> None:
        self._videos = Videos()
        self._visits = array("Q")
        self._vectors: dict[str, Vector] = {}
        self._marks: dict[str, str] = {}
        self._leaders = Leaders(self.TOP)

    def merge(self, vector: str, counts: Mapping[str, int]) -> dict[str, int]:
        """Join `counts` into a vector; return `{video: growth}` of what grew.

        Idempotent, commutative and associative; nothing ever becomes smaller. An empty answer
        means that nothing was news.
        """
        if not self.current(vector):
            return {}
        own = self._vectors.get(vector) or self.empty()
        grew = own.merge(counts)
        if grew:
            self._vectors[vector] = own
            rows, visits, noted = self._videos.rows, self._visits, self._leaders.grew
            if len(visits) < len(rows):
                visits.frombytes(bytes(8 * (len(rows) - len(visits))))
            for video, growth in grew.items():
                row = rows[video]
                visits[row] += growth
                noted(video, visits[row])
        return grew

    def mark(self, member: str) -> str:
        """The newest run that is folded here, "" if none is."""
        return self._marks.get(member, "")

    def current(self, vector: str) -> bool:
        """Whether this vector counts here: of a run after its member's mark, or folded up to it."""
        mark, run = self.mark(member_of(vector)), run_of(vector)
        return run == mark if is_folded(vector) else run > mark

    def parts(self, member: str, mark: str) -> list[str]:
        """The vectors that go into the one folded up to `mark`, oldest first."""
        return [
            vector
            for vector in sorted(self._vectors, key=run_of)
            if member_of(vector) == member and run_of(vector) <= mark
        ]

    def empty(self) -> Vector:
        """A vector in which nothing is counted, for `fold`."""
        return self.vector_class(self._videos)

    def no_videos(self) -> VideoSet:
        """A set of videos that are counted here, in which there is none yet."""
        return VideoSet(self._videos)

    def fold(self, member: str, mark: str, folded: Vector | None = None) -> None:
        """Put `folded` in the place of its `parts`, in one step; it must be their sum, or larger.

        So the visits of a video are the same before and after, or larger. None is for no parts.
        """
        for part in self.parts(member, mark):
            del self._vectors[part]
        self._marks[member] = mark
        if folded is not None and folded.total:
            self._vectors[folded_of(member, mark)] = folded

    def visits(self, video: str) -> int:
        """The video's visits: the sum of its counter, at most `MAX_COUNT`; 0 if nobody came."""
        row = self._videos.rows.get(video)
        return 0 if row is None else min(MAX_COUNT, self._visits[row])

    def counter(self, video: str) -> dict[str, int]:
        """The video's counter with one entry for each member, all of its runs added up."""
        members: dict[str, int] = {}
        row = self._videos.rows.get(video)
        if row is None:
            return members
        for name, vector in self._vectors.items():
            count = vector.at(row)
            if count:
                member = member_of(name)
                members[member] = members.get(member, 0) + count
        return members

    def top(self, limit: int) -> list[str]:
        """The `limit` (at most `TOP`) most visited videos, most visits first."""
        return self._leaders.top(limit)

    def count(self, vector: str, video: str) -> int:
        """The count of `video` in one vector, as far as known here."""
        own = self._vectors.get(vector)
        return own.count(video) if own else 0

    def vector(self, vector: str) -> Vector:
        """A vector, empty if nothing is known of it. Not to be changed."""
        return self._vectors.get(vector) or self.empty()

    def total(self, vector: str) -> int:
        """The sum of a vector."""
        own = self._vectors.get(vector)
        return own.total if own else 0

    def totals(self) -> dict[str, int]:
        """The total of every vector."""
        return {vector: own.total for vector, own in self._vectors.items()}

    def members(self) -> dict[str, int]:
        """The visits that each member has counted, over all videos."""
        visits: dict[str, int] = {}
        for name, vector in self._vectors.items():
            member = member_of(name)
            visits[member] = visits.get(member, 0) + vector.total
        return visits

    def vectors(self) -> Iterator[tuple[str, Vector]]:
        """Each vector and its id. Not to be changed."""
        yield from self._vectors.items()
