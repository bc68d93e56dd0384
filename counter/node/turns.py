"""Turns: long work in one thread leaves time to the others, between its short steps."""

import time

_LONG = 0.002
"""Seconds of processor time after which others have a turn."""
_TURN = 1e-6
"""Seconds of sleep. With 0 gevent lets run what is ready, but no timer."""


class Turns:
    """When the others had their turn last. It belongs to one thread."""

    def __init__(self) -> None:
        self._worked = 0.0

    def take(self) -> None:
        """Let others run if this thread has worked for long. Not while it holds a lock."""
        if time.thread_time() - self._worked >= _LONG:
            time.sleep(_TURN)
            self._worked = time.thread_time()
