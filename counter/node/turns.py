"""Turns: a long computation lets others run between two of its steps.

Under gevent `time.sleep(0)` is not enough: it goes on with whoever is ready, and looks for times
that are over, and at the network, only once in fifty such turns.
"""

import time
from threading import Lock

_A_MOMENT = 1e-6
"""Seconds. It is over before the loop begins to wait, so the loop goes round once, in some 10 µs.
For longer times, however short, it waits for a whole millisecond."""
_LONG = 0.003
"""Seconds of processor time after which others have a turn."""


def give_way() -> None:
    """Let all others run that have something to do."""
    time.sleep(_A_MOMENT)


class Turns:
    """When the others had their turn last. It belongs to one thread."""

    def __init__(self) -> None:
        self._worked = 0.0

    def take(self) -> None:
        """Let others run if this thread has worked for long. Not while it holds a lock."""
        if time.thread_time() - self._worked >= _LONG:
            give_way()
            self._worked = time.thread_time()


class OneByOne:
    """For computations of some ms each, of which many may begin at once. Thread-safe."""

    def __init__(self) -> None:
        self._next = Lock()

    def wait(self) -> None:
        """Wait until all others have run since the last of these began."""
        with self._next:
            give_way()
