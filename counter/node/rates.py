"""How fast numbers grow, from samples of the last seconds.

Pure: no I/O. Times are in seconds of the caller's clock, which never goes back.
"""

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

SPAN = 10.0
"""Seconds over which a rate is taken; it may be a little more."""
_APART = 0.9
"""Shortest time in seconds between two samples."""


class Rate(NamedTuple):
    """Visits that a member counts and messages that it sends, per second; None if not known."""

    visits: float | None
    messages: float | None


class _Sample(NamedTuple):
    time: float
    totals: Mapping[str, int]


class Rates:
    """Recent samples of totals by name."""

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
        """How much a total grew per second; None until it was observed for long enough."""
        for sample in self._samples:
            before = sample.totals.get(name)
            if before is not None:
                passed = now - sample.time
                return max(0, total - before) / passed if passed >= _APART else None
        return None


class MemberRates:
    """How fast each member counts and sends. Totals are `{member: total}`."""

    def __init__(self) -> None:
        self._visits, self._messages = Rates(), Rates()

    def due(self, now: float) -> bool:
        """Whether it is time for another sample."""
        return self._visits.due(now)

    def note(self, visits: Mapping[str, int], messages: Mapping[str, int], now: float) -> None:
        """Take a sample of both totals."""
        self._visits.note(visits, now)
        self._messages.note(messages, now)

    def rates(
        self, visits: Mapping[str, int], messages: Mapping[str, int], now: float
    ) -> dict[str, Rate]:
        """The rate of each member in `visits`, from its present totals."""
        return {
            member: Rate(
                self._visits.rate(member, total, now),
                self._messages.rate(member, messages.get(member, 0), now),
            )
            for member, total in visits.items()
        }
