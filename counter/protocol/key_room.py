"""The room for new keys: a full log of keys refuses new ones, and forgets none for them.

Keys that came without a token take at most half of it, and those of one address a hundredth: so a
stranger who sends many leaves room for everybody else. What peers have taken is always held.

Pure: no I/O; times are in seconds of the caller's clock, which never goes back.
"""

from collections import deque
from collections.abc import Callable
from typing import Literal

from counter.protocol.client import Client

Reason = Literal["full", "tokenless", "address"]

_WORDS: dict[Reason, str] = {
    "full": "this node holds as many keys as it can",
    "tokenless": "this node holds as many keys without a token as it can",
    "address": "this node holds as many keys without a token of one address as it may",
}


class NoRoomError(Exception):
    """There is no room for another key; `retry_after` says in how many seconds there may be."""

    def __init__(self, reason: Reason, most: int, retry_after: float) -> None:
        self.reason, self.retry_after = reason, retry_after
        advice = "" if reason == "full" else ", or send a token"
        super().__init__(f"{_WORDS[reason]}, {most}: try again later{advice}")


class KeyRoom:
    """Says whether there is room for another key. `life` is that of a key, in seconds."""

    def __init__(self, life: float, limit: int) -> None:
        self._life = life
        self._most: dict[Reason, int] = {
            "full": limit,
            "tokenless": max(1, limit // 2),
            "address": max(1, limit // 100),
        }
        self._taken: dict[str, deque[float]] = {}
        """When keys without a token were taken here, by address: those that still live."""

    def check(
        self,
        client: Client,
        held: int,
        tokenless: int,
        oldest: Callable[[], float | None],
        now: float,
    ) -> None:
        """Raise `NoRoomError` if this client gets no other key.

        `held` are all keys, `tokenless` those among them that came without a token; `oldest()`
        says when the oldest was taken.
        """
        if held >= self._most["full"]:
            raise self._refusal("full", oldest(), now)
        if client.has_token:
            return
        if tokenless >= self._most["tokenless"]:
            raise self._refusal("tokenless", oldest(), now)
        taken = self._taken.get(client.address)
        if taken is not None:
            self._expire(taken, now)
            if len(taken) >= self._most["address"]:
                raise self._refusal("address", taken[0], now)

    def take(self, client: Client, now: float) -> None:
        """Note that this client got a key."""
        if not client.has_token:
            self._taken.setdefault(client.address, deque()).append(now)

    def forget(self, now: float) -> None:
        """Forget who took keys that have expired."""
        for address, taken in list(self._taken.items()):
            self._expire(taken, now)
            if not taken:
                del self._taken[address]

    def _expire(self, taken: deque[float], now: float) -> None:
        while taken and now - taken[0] >= self._life:
            taken.popleft()

    def _refusal(self, reason: Reason, oldest: float | None, now: float) -> NoRoomError:
        wait = self._life if oldest is None else oldest + self._life - now
        return NoRoomError(reason, self._most[reason], max(1.0, wait))
