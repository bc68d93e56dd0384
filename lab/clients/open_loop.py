"""Open loop: requests at a rate, whatever the answers take.

A request that a slow answer holds up is timed from when it was due: otherwise the one slow answer
would hide all those that would have been slow, too ("coordinated omission").
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import cycle
from typing import NamedTuple

from lab.clients.looped import Looped

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_AGAIN = 0.02
"""Seconds until a connection that broke or was refused is tried again."""
_BEAT = 0.005

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Answer(NamedTuple):
    """One answer; times are of the monotonic clock.

    `status` is 0 where none came, and 503 where nobody was there: neither was counted for sure.
    """

    due: float
    done: float
    status: int
    body: bytes


class Target(NamedTuple):
    """What is asked `rate` times a second over a few connections, each to one of the ports.

    Lateness of more than `make_up` seconds is not made up for: with 0 nothing is due while an
    answer is awaited. An answer may take `timeout` seconds.
    """

    name: str
    ports: Sequence[int]
    rate: float
    connections: int
    paths: Iterable[str]
    make_up: float = float("inf")
    timeout: float = 15.0


class Outcome(NamedTuple):
    """The answers of a target by status, and how many ms each of a status below 400 took."""

    statuses: Counter[int]
    took: list[float]

    @property
    def failures(self) -> int:
        """How many requests have no such answer."""
        return self.statuses.total() - len(self.took)

    def within(self, percent: float) -> float:
        """The ms within which so many percent were answered; 0 if none was."""
        return percentile(sorted(self.took), percent) if self.took else 0.0


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The figure that so many percent of an ordered list are not above."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


class OpenLoop(Looped):
    """Keeps targets busy until the end; the last requests are answered then.

    `heard` is called on the loop with each answer.
    """

    def __init__(
        self,
        *targets: Target,
        heard: Callable[[Answer], None] | None = None,
        beside: Looped | None = None,
    ) -> None:
        super().__init__(beside)
        self._targets, self._heard = targets, heard
        self._outcomes = {target.name: Outcome(Counter(), []) for target in targets}
        self._late = 0.0
        self._stopped = False
        self._waiting: set[asyncio.Task[None]] = set()
        """Those who have nothing to do until their next request is due."""

    def take(self) -> dict[str, Outcome]:
        """What came of each target since the last call, by name."""

        async def swap() -> dict[str, Outcome]:
            taken = self._outcomes
            self._outcomes = {name: Outcome(Counter(), []) for name in taken}
            return taken

        return self.wait(swap())

    def late(self) -> float:
        """How late this process was at most since the last call, in ms: nothing is more exact."""
        late, self._late = self._late, 0.0
        return late * 1000

    def finish(self) -> None:
        """Return when the last requests are answered; no more are sent."""
        self.wait(self.end())

    async def begin(self) -> None:
        start = time.monotonic()
        self._beating = asyncio.create_task(self._beat())
        self._visitors = []
        for target in self._targets:
            paths = target.paths
            turns = paths if isinstance(paths, Iterator) else cycle(paths)
            self._visitors += [
                asyncio.create_task(self._visit(target, turns, index, start + index / target.rate))
                for index in range(target.connections)
            ]

    async def end(self) -> None:
        self._stopped = True
        self._beating.cancel()
        for visitor in self._waiting:
            visitor.cancel()
        for ended in await asyncio.gather(*self._visitors, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended

    async def _beat(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(_BEAT)
            self._late = max(self._late, time.monotonic() - before - _BEAT)

    async def _visit(self, target: Target, paths: Iterator[str], turn: int, due: float) -> None:
        connection: Connection | None = None
        me = asyncio.current_task()
        assert me is not None
        step = target.connections / target.rate
        try:
            while not self._stopped:
                self._waiting.add(me)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                self._waiting.discard(me)
                status, body, closes = 0, b"", True
                try:
                    async with asyncio.timeout(target.timeout):
                        if connection is None:
                            port = target.ports[turn % len(target.ports)]
                            turn += 1
                            connection = await asyncio.open_connection("127.0.0.1", port)
                        status, body, closes = await _get(connection, next(paths))
                except ConnectionRefusedError:
                    status = 503
                except (OSError, EOFError):
                    pass
                # Another port is tried after a refusal, where there are several.
                closes = closes or status == 503
                if closes and connection is not None:
                    connection[1].close()
                    connection = None
                self._note(target, Answer(due, time.monotonic(), status, body))
                if status in (0, 503):
                    await asyncio.sleep(_AGAIN)
                due += step
                now = time.monotonic()
                if now - due > target.make_up or status in (0, 503):
                    # What was due while nobody listened was not held up by an answer either.
                    due = max(due, now)
        finally:
            if connection is not None:
                connection[1].close()

    def _note(self, target: Target, answer: Answer) -> None:
        outcome = self._outcomes[target.name]
        outcome.statuses[answer.status] += 1
        if 0 < answer.status < 400:
            outcome.took.append((answer.done - answer.due) * 1000)
        if self._heard:
            self._heard(answer)


async def _get(connection: Connection, path: str) -> tuple[int, bytes, bool]:
    """One GET: status, body, and whether the other side closes. Raises OSError or EOFError."""
    reader, writer = connection
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    body = await reader.readexactly(int(length[1])) if length else b""
    return int(head[9:12]), body, bool(_CLOSE.search(head))
