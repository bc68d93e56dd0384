"""The network of a simulated cluster: it loses, repeats, delays, reorders, and can be split."""

import heapq
import random
from collections.abc import Iterable


class Network:
    """Carries messages between addresses in virtual time.

    `loss` and `repetition` are probabilities, `delay` is the longest delay in seconds, and `cut`
    holds the directed pairs of addresses between which nothing passes.
    """

    def __init__(self, choose: random.Random, delay: float = 0.01) -> None:
        self._choose = choose
        self._least_delay = delay
        self._under_way: list[tuple[float, int, str, bytes]] = []
        self._number = 0
        self.calm()
        self.lost = self.repeated = 0

    def calm(self) -> None:
        """Be perfect from now on. Messages in flight still arrive."""
        self.loss = self.repetition = 0.0
        self.delay = self._least_delay
        self.cut: set[tuple[str, str]] = set()

    def send(self, now: float, source: str, targets: Iterable[str], message: bytes) -> None:
        """Send a message to each of some addresses once, twice, or not at all."""
        for address in targets:
            if address == source:
                continue
            if (source, address) in self.cut or self._choose.random() < self.loss:
                self.lost += 1
                continue
            times = 2 if self._choose.random() < self.repetition else 1
            self.repeated += times - 1
            for _ in range(times):
                self._number += 1
                due = now + self._choose.random() * self.delay
                heapq.heappush(self._under_way, (due, self._number, address, message))

    def arrived(self, now: float) -> tuple[str, bytes] | None:
        """Take the next message that has arrived by `now`: its address and content."""
        if self._under_way and self._under_way[0][0] <= now:
            _, _, address, message = heapq.heappop(self._under_way)
            return address, message
        return None
