"""Ranks the most visited videos at a constant cost a visit.

Pure: no I/O, no clock, no lock.
"""

from heapq import nsmallest
from operator import itemgetter

_VISITS = itemgetter(1)


class TopVideos:
    """The most visited videos, exact up to `size` of them, at a constant cost a visit.

    Visits never fall, so a video outside the ranking can enter it only by growing: looking at what
    grew is enough. Among videos that tie for the last place, any may be kept.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.ranked: dict[str, int] = {}
        """Those that may be in the ranking, and their visits; always the same object."""
        self.bar = 0
        """A video with no more visits than this cannot enter the ranking by growing to them."""

    def grew(self, video: str, visits: int) -> None:
        """Note that `video` now has `visits`."""
        if visits > self.bar or video in self.ranked:
            self.ranked[video] = visits
            if len(self.ranked) > 2 * self._size:
                first = sorted(self.ranked.items(), key=_VISITS, reverse=True)[: self._size]
                self.ranked.clear()
                self.ranked.update(first)
                self.bar = first[-1][1]

    def top(self, limit: int) -> list[str]:
        """The `limit` most visited videos, most visits first, then by id."""
        return [video for video, _ in self._first(min(limit, self._size))]

    def _first(self, limit: int) -> list[tuple[str, int]]:
        return nsmallest(limit, self.ranked.items(), key=lambda item: (-item[1], item[0]))
