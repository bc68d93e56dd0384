"""How long everything stood still: a thread that wakes at a steady beat, and sees when it did.

Under gevent one loop runs everything, so what computes for long without a pause holds up every
visitor. This thread is held up like any other.
"""

import time
from threading import Event

BEAT = 0.01
"""Seconds between two beats; pauses shorter than that are not seen."""


class PauseMeter:
    """Remembers the longest time that passed between two beats, beyond the beat itself."""

    def __init__(self) -> None:
        self._stopped = Event()
        self._longest = 0.0

    def run(self) -> None:
        """Beat until `stop`."""
        before = time.monotonic()
        while not self._stopped.wait(BEAT):
            now = time.monotonic()
            self._longest = max(self._longest, now - before - BEAT)
            before = now

    def take(self) -> float:
        """The longest pause since the last call, in seconds."""
        longest, self._longest = self._longest, 0.0
        return longest

    def stop(self) -> None:
        """End `run`. Idempotent."""
        self._stopped.set()
