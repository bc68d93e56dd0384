"""Questions that wait for their answers: so many at a time for each address.

A node asks a peer for everything that the peer claims to hold. One that claims much and holds none
of it must not have all others send questions without end.

Pure: no I/O; times are in seconds of the caller's clock, which never goes back.
"""

from collections.abc import Hashable


class Questions:
    """What was asked of each address; after `patience` seconds no answer is expected any more."""

    most = 64
    """How many wait for the answers of one address. A node gives each within a round trip, and is
    asked the next question then, so that few are enough."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._waiting: dict[str, dict[Hashable, float]] = {}
        """When each thing was last asked for, the earliest first."""

    def may_ask(self, address: str, thing: Hashable, now: float) -> bool:
        """Note that an address is asked for a thing, unless too many others wait there."""
        waiting = self._waiting.setdefault(address, {})
        self._expire(waiting, now)
        if thing not in waiting and len(waiting) >= self.most:
            return False
        waiting.pop(thing, None)
        waiting[thing] = now
        return True

    def answered(self, address: str, thing: Hashable) -> None:
        """Note that an address has given all of a thing."""
        self._waiting.get(address, {}).pop(thing, None)

    def waits(self, address: str) -> bool:
        """Whether an answer of this address is expected, of which more may follow."""
        return bool(self._waiting.get(address))

    def forget(self, now: float) -> None:
        """Forget the addresses of which no answer is expected."""
        for address, waiting in list(self._waiting.items()):
            self._expire(waiting, now)
            if not waiting:
                del self._waiting[address]

    def _expire(self, waiting: dict[Hashable, float], now: float) -> None:
        while waiting:
            thing = next(iter(waiting))
            if now - waiting[thing] < self._patience:
                return
            del waiting[thing]
