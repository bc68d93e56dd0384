"""Token buckets: what all clients together may do, and a tenth of it for each address.

Pure: no I/O; times are in seconds of the caller's clock, which never goes back.
"""

from typing import Literal, NamedTuple

_FILLS_IN = 60.0
"""Seconds in which an empty bucket fills: it holds as much as is allowed in that time."""
_SHARE = 10
_MAX_ADDRESSES = 10_000
"""Beyond that, those with a full bucket are forgotten."""


class Short(NamedTuple):
    """What is not allowed now: whose bucket is too empty, and in how many seconds it may do.

    `most` is what that bucket holds when it is full.
    """

    reason: Literal["all", "address"]
    most: int
    retry_after: float


class _Bucket:
    """Full at first; `rate` is what flows into it a second, `size` what it holds."""

    __slots__ = ("_at", "_level", "rate", "size")

    def __init__(self, rate: float, size: int) -> None:
        self.rate, self.size = rate, size
        self._level = float(size)
        self._at: float | None = None

    def level(self, now: float) -> float:
        since = 0.0 if self._at is None else max(0.0, now - self._at)
        return min(float(self.size), self._level + self.rate * since)

    def take(self, many: int, now: float) -> None:
        self._level, self._at = self.level(now) - many, now

    def wait(self, many: int, now: float) -> float:
        """Seconds until it holds so many; if it never does, until it is full."""
        return max(0.0, (min(many, self.size) - self.level(now)) / self.rate)


class Buckets:
    """Allows `rate` a second on average over a minute, and a tenth of that to one address."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._all = _Bucket(rate, max(1, round(rate * _FILLS_IN)))
        self._addresses: dict[str, _Bucket] = {}
        self._max_addresses = _MAX_ADDRESSES

    def take(self, address: str, many: int, now: float) -> Short | None:
        """Take `many` at once, or none: then say why."""
        one = self._addresses.get(address) or self._new()
        if one.level(now) < many:
            return Short("address", one.size, one.wait(many, now))
        if self._all.level(now) < many:
            return Short("all", self._all.size, self._all.wait(many, now))
        one.take(many, now)
        self._all.take(many, now)
        # Only who takes something is remembered, so the rate bounds how many these are.
        self._addresses[address] = one
        if len(self._addresses) > self._max_addresses:
            self._forget(now)
        return None

    def _forget(self, now: float) -> None:
        """Forget addresses whose bucket is full again."""
        self._addresses = {
            address: bucket
            for address, bucket in self._addresses.items()
            if bucket.level(now) < bucket.size
        }
        self._max_addresses = max(_MAX_ADDRESSES, 2 * len(self._addresses))

    def _new(self) -> _Bucket:
        rate = self._rate / _SHARE
        return _Bucket(rate, max(1, round(rate * _FILLS_IN)))
