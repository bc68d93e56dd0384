"""Warnings about what may happen many times a second."""

import logging
import time
from collections.abc import Callable

log = logging.getLogger("counter")

INTERVAL = 60.0
"""Seconds between two warnings of the same event."""


class Warn:
    """Logs an event with details, the same event at most once a minute. Any thread may call it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged: dict[str, float] = {}

    def __call__(self, event: str, detail: str) -> None:
        """Log it, unless this event was logged during the last minute."""
        now = self._clock()
        if now - self._logged.get(event, -INTERVAL) >= INTERVAL:
            self._logged[event] = now
            log.warning("%s %s", event, detail)
