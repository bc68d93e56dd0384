"""Ranks the most visited videos at a constant cost a visit.

Pure: no I/O, no clock, no lock.
"""

from array import array
from collections.abc import Mapping
from heapq import nlargest, nsmallest
from operator import itemgetter

from counter.crdt.videos import Videos

_VISITS = itemgetter(1)


class TopVideos:
    """The most visited videos, exact up to `size` of them, at a constant cost a visit.

    What was counted never falls, so a video outside the ranking can enter it only by growing, or by
    being unblocked: looking at what grew is enough. Among videos that tie for the last place, any
    may be kept. Videos are ranked by what is left after corrections, and blocked ones are not
    ranked. When too many have left the ranking by that, it is filled again from all numbers.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.ranked: dict[str, int] = {}
        """Those that may be in the ranking, and their visits; always the same object."""
        self.bar = 0
        """A video with no more visits than this cannot enter the ranking by growing to them."""
        self._less: dict[str, int | None] = {}
        """How many visits of a video are withdrawn; None if it is blocked."""

    def correct(self, video: str, counted: int, withdrawn: int, *, blocked: bool) -> None:
        """Note how many visits of a video that has counted so many are withdrawn."""
        self._less[video] = None if blocked else withdrawn
        self.ranked.pop(video, None)
        if counted > self.bar:
            self.grew(video, counted)

    def grew(self, video: str, visits: int) -> None:
        """Note that `video` has counted `visits` by now."""
        if self._less and (less := self._less.get(video, 0)) != 0:
            visits = 0 if less is None else visits - less
            if visits <= 0:
                self.ranked.pop(video, None)
                return
        if visits > self.bar or video in self.ranked:
            self.ranked[video] = visits
            if len(self.ranked) > 2 * self._size:
                first = sorted(self.ranked.items(), key=_VISITS, reverse=True)[: self._size]
                self.ranked.clear()
                self.ranked.update(first)
                self.bar = first[-1][1]

    def top(self, limit: int) -> list[str]:
        """The `limit` most visited videos, most visits first, then by id; see `lacks`."""
        return [video for video, _ in self._first(min(limit, self._size))]

    def lacks(self, limit: int) -> bool:
        """Whether others may belong to the first so many, since some have left the ranking."""
        return self.bar > 0 and len(self.ranked) < min(limit, self._size)

    def fill(self, videos: Videos, visits: "array[int]") -> None:
        """Rank all `videos` anew, of which each has counted so many `visits`, by row."""
        self.ranked.clear()
        self.bar, most = 0, 2 * self._size
        for row, left in _highest(videos, visits, self._by_row(videos), most):
            self.ranked[videos.name(row)] = left
        if len(self.ranked) == most:
            self.bar = min(self.ranked.values())

    def _by_row(self, videos: Videos) -> dict[int, int | None]:
        rows = ((videos.find(video), less) for video, less in self._less.items())
        return {row: less for row, less in rows if row is not None}

    def _first(self, limit: int) -> list[tuple[str, int]]:
        return nsmallest(limit, self.ranked.items(), key=lambda item: (-item[1], item[0]))


def _highest(
    videos: Videos, visits: "array[int]", less: Mapping[int, int | None], most: int
) -> list[tuple[int, int]]:
    """The rows of the most visited videos and what is left of each, where anything is."""
    if len(visits) > videos.small:
        from counter.crdt import bulk

        return bulk.highest(videos.listed, visits, less, most)
    listed = videos.listed

    def left(row: int) -> int:
        by = less.get(row, 0)
        return visits[row] - by if listed[row] and by is not None else 0

    rows = nlargest(most, range(min(len(listed), len(visits))), key=left)
    return [(row, left(row)) for row in rows if left(row) > 0]
