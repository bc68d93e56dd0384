"""A limit for log lines that strangers can cause: a flood of requests must not fill the disk."""

import logging
import time
from collections.abc import Callable

PER_MINUTE = 10
"""Lines of one kind that are logged in a minute."""


class LogLimit(logging.Filter):
    """Lets through the first lines of each kind and minute, and says how many it left out.

    A kind is a place in the code and a level. For a logger of what strangers may cause; loggers
    below it are not limited.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._kinds: dict[tuple[str, int, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this line is logged."""
        kind = (record.pathname, record.lineno, record.levelno)
        now = self._clock()
        began, lines = self._kinds.get(kind, (now, 0))
        if now - began >= 60:
            if lines > PER_MINUTE:
                record.msg = f"{record.getMessage()} (and {lines - PER_MINUTE} lines left out)"
                record.args = ()
            began, lines = now, 0
        self._kinds[kind] = (began, lines + 1)
        return lines < PER_MINUTE
