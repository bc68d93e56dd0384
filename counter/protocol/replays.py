"""Replays: a message that was taken in before is dropped, by whichever transport it comes again.

Pure: no I/O; times are in seconds of the caller's clock, which never goes back.
"""

from collections import deque
from hashlib import blake2b

MAX_MESSAGES = 100_000
"""Messages that are remembered, in some 20 MB: of a minute in which 1,600 come a second."""


def identity(message: bytes) -> bytes:
    """What tells a message from all others: a hash of it, with its signature if it has one.

    The signature alone would not do: a message that was changed on its way has a known one. Two
    messages of one sender are the same if they say the same and were sent in the same ms: then one
    of them is enough.
    """
    return blake2b(message, digest_size=16).digest()


class Replays:
    """The messages of the last `seconds`, at most `most`: the oldest is forgotten first.

    A message is taken in from `MESSAGE_TTL` before to `MESSAGE_TTL` after the time at which it was
    sent, so `seconds` is twice as much: afterwards it is dropped for its age. Not thread-safe.
    """

    def __init__(self, seconds: float, most: int = MAX_MESSAGES) -> None:
        self._seconds = seconds
        self._most = most
        self._known: set[bytes] = set()
        self._order: deque[tuple[float, bytes]] = deque()

    def __len__(self) -> int:
        """How many messages are remembered."""
        return len(self._known)

    def __contains__(self, identity: object) -> bool:
        return identity in self._known

    def add(self, identity: bytes, now: float) -> bool:
        """Remember a message that was verified; say whether it is the first time."""
        if identity in self._known:
            return False
        order = self._order
        while order and (now - order[0][0] > self._seconds or len(order) >= self._most):
            self._known.discard(order.popleft()[1])
        self._known.add(identity)
        order.append((now, identity))
        return True
