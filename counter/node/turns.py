"""Turns: a long computation lets others run between two of its steps.

Under gevent `time.sleep(0)` is not enough: it goes on with whoever is ready, and looks for times
that are over, and at the network, only once in fifty such turns.
"""

import time

_A_MOMENT = 0.0005
"""Seconds; the loop waits for a whole millisecond at most."""


def give_way() -> None:
    """Let all others run that have something to do."""
    time.sleep(_A_MOMENT)
