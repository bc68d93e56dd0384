"""How long to wait before something is tried again."""

from random import uniform


def backoff(tries: int) -> float:
    """Seconds to wait before try number `tries` (from 1): doubling from 50 ms to 1 s, jittered."""
    longest = min(1.0, 0.05 * float(2 ** min(tries, 10)))
    return uniform(0.5, 1.0) * longest  # noqa: S311 - jitter is no secret
