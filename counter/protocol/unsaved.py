"""Counts that the store lacks: of some vectors some, of others all.

Pure: no I/O, no clock.
"""

from collections.abc import Collection, Iterator
from itertools import chain

from counter.crdt.tally import Tally
from counter.crdt.video_set import VideoSet


class Unsaved:
    """Of which vectors which counts are still to be written. Vectors are in the order of that."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._some: dict[str, VideoSet] = {}
        self._all: dict[str, None] = {}
        """Those of which all is to be written: no video of them needs a mark."""

    def __contains__(self, vector: object) -> bool:
        """Whether counts of a vector are to be written."""
        return vector in self._some or vector in self._all

    def __iter__(self) -> Iterator[str]:
        """Each vector of which counts are to be written."""
        return chain(self._some, self._all)

    def are_some(self, vector: object) -> bool:
        """Whether counts of a vector are to be written, but not all: it is looked into soon."""
        return vector in self._some

    def add(self, vector: str, videos: Collection[str]) -> None:
        """The counts of these videos, which the vector has, are to be written."""
        some = self._some.get(vector)
        if some is not None:
            some.update(videos)
        elif len(videos) == self._tally.size(vector):
            self._all[vector] = None
        elif vector not in self._all:
            some = self._some[vector] = self._tally.no_videos()
            some.update(videos)

    def add_everything(self) -> None:
        """All counts of all vectors are to be written."""
        self._some, self._all = {}, dict.fromkeys(self._tally.totals())

    def put(self, vector: str, videos: VideoSet) -> None:
        """The counts of these videos are to be written, and no others."""
        self._all.pop(vector, None)
        self._some[vector] = videos

    def pop(self, vector: str) -> VideoSet:
        """Forget what is to be written of a vector, and return it."""
        if vector in self._all:
            self._spread(vector)
        return self._some.pop(vector, None) or self._tally.no_videos()

    def discard(self, vector: str) -> None:
        """Forget what is to be written of a vector."""
        self._all.pop(vector, None)
        self._some.pop(vector, None)

    def take(self, vector: str, most: int) -> list[int]:
        """The rows of some videos of a vector, which are written now."""
        if vector in self._all:
            self._spread(vector)
        taken = self._some[vector].take(most)
        if not self._some[vector]:
            del self._some[vector]
        return taken

    def _spread(self, vector: str) -> None:
        """Mark each video of a vector of which all is to be written."""
        del self._all[vector]
        every = self._some[vector] = self._tally.no_videos()
        every.update(self._tally.vector(vector))
