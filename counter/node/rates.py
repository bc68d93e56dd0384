"""How fast numbers grow, from samples of the last seconds.

Pure: no I/O; times are in seconds of the caller's clock, which never goes back.
"""

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

SPAN = 10.0
"""Seconds over which a rate is taken, or a little more."""
_APART = 0.9
"""Seconds between two samples, at least."""


class _Sample(NamedTuple):
    time: float
    totals: Mapping[str, int]


class Rates:
    """Totals by name, as they were lately."""

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque()

    def due(self, now: float) -> bool:
        """Whether it is time for another sample."""
        return not self._samples or now - self._samples[-1].time >= _APART

    def note(self, totals: Mapping[str, int], now: float) -> None:
        """Take a sample."""
        self._samples.append(_Sample(now, totals))
        while len(self._samples) > 1 and self._samples[1].time <= now - SPAN:
            self._samples.popleft()

    def rate(self, name: str, total: int, now: float) -> float | None:
        """How much a total grew a second; None while it is not known for long enough."""
        for sample in self._samples:
            before = sample.totals.get(name)
            if before is not None:
                passed = now - sample.time
                return max(0, total - before) / passed if passed >= _APART else None
        return None
