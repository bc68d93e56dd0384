"""How much of what this run has counted is no visit of a video: announcements, and classes.

Totals are told of everything together; so this says how many visits another node lacks.

Pure: no I/O, no clock.
"""

from bisect import bisect_right

_MOST = 10_000
"""So many totals are remembered: who is further behind than that lacks some of it in any case."""


class Apart:
    """What one run has counted apart from visits, by its total with it."""

    def __init__(self) -> None:
        self._totals = [0]
        self._sums = [0]

    def add(self, total: int, more: int) -> None:
        """The total of the run is now this, with so much more that is no visit."""
        self._totals.append(total)
        self._sums.append(self._sums[-1] + more)
        if len(self._totals) > _MOST:
            del self._totals[: _MOST // 2], self._sums[: _MOST // 2]

    def since(self, total: int) -> int:
        """How much of what came after this total is no visit."""
        at = bisect_right(self._totals, total)
        return self._sums[-1] - self._sums[max(0, at - 1)]
