"""Folding: what ended runs of a member have counted becomes one vector, however many there were.

It must be right without a coordinator. Every node folds by itself, and only what *every member's
word* has been the same about for as long as a message can live, twice: then no more of these
vectors is anywhere, and all have folded, or will fold, the same. Who hears of a larger fold mark
than its own adds up its own copies to that mark; then the copies of the one folded vector are
joined like any others, by the larger count. So a join never lowers a count nor counts twice.

Pure: no I/O, no clock.
"""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from counter.ids import folded_of
from counter.tally import MAX_COUNT, Tally, Vector


class Copy(NamedTuple):
    """A copy of a vector: its total, and its content hash where its writer is silent."""

    total: int
    digest: int | None


class Agreement:
    """Since when everybody has said the same of which vector. Times are in seconds."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[float, Copy]] = {}

    def say(self, vector: str, copy: Copy, now: float) -> None:
        """All members' words, this node's own among them, are `copy` now."""
        known = self._since.get(vector)
        if known is None or known[1] != copy:
            self._since[vector] = now, copy

    def contradict(self, vector: str, copy: Copy) -> None:
        """Somebody's word of a vector is `copy`: if that is another, the agreement is over."""
        known = self._since.get(vector)
        if known is not None and known[1] != copy:
            del self._since[vector]

    def end(self, vector: str) -> None:
        """There is no agreement on a vector."""
        self._since.pop(vector, None)

    def end_all(self) -> None:
        """There is no agreement on anything: somebody is silent."""
        self._since.clear()

    def lasted(self, vector: str, seconds: float, now: float) -> bool:
        """Whether there has been agreement on a vector for so long."""
        known = self._since.get(vector)
        return known is not None and now - known[0] >= seconds


class Fold:
    """One fold under way: the vectors of a member up to a mark are added up, bit by bit.

    Its `parts` must not change meanwhile. Nothing of it shows before `Tally.fold`.
    """

    def __init__(self, tally: Tally, member: str, mark: str) -> None:
        self.member = member
        self.mark = mark
        self.id = folded_of(member, mark)
        self.parts = tally.parts(member, mark)
        self._copies = [tally.vector(part) for part in self.parts]
        self.in_doubt = False
        """Whether the store may hold it already, complete, in the place of its parts."""
        self.restart()

    def restart(self, *, in_doubt: bool = False) -> None:
        """Begin anew, because what was written may be lost, or, in doubt, be the whole of it."""
        self.in_doubt = self.in_doubt or in_doubt
        self.vector = Vector()
        self._videos = self._each()
        self.complete = not self._copies

    def step(self, most: int) -> dict[str, int]:
        """Add up some videos, `most` at a time; return their counts. Sets `complete` at the end."""
        counts = {
            video: min(MAX_COUNT, sum(copy.counts.get(video, 0) for copy in self._copies))
            for video in islice(self._videos, most)
        }
        self.vector.merge(counts)
        self.complete = len(counts) < most
        return counts

    def _each(self) -> Iterator[str]:
        for number, copy in enumerate(self._copies):
            earlier = self._copies[:number]
            for video in copy.counts:
                if not any(video in before.counts for before in earlier):
                    yield video
