"""Measures for how long no thread ran: a thread that wakes at short intervals sees its delays.

Under gevent one loop runs everything, so a long computation delays every visitor. It delays this
thread like any other.
"""

import time
from threading import Event

INTERVAL = 0.01
"""Seconds between two wake-ups; shorter pauses are not seen."""


class PauseMeter:
    """Remembers the longest delay of a wake-up. `run` belongs to one thread."""

    def __init__(self) -> None:
        self._stopped = Event()
        self._longest = 0.0

    def run(self) -> None:
        """Measure until `stop`."""
        before = time.monotonic()
        while not self._stopped.wait(INTERVAL):
            now = time.monotonic()
            self._longest = max(self._longest, now - before - INTERVAL)
            before = now

    def take(self) -> float:
        """The longest pause in seconds since the last call. Any thread may call it."""
        longest, self._longest = self._longest, 0.0
        return longest

    def stop(self) -> None:
        """End `run`. Idempotent."""
        self._stopped.set()
