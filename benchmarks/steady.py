"""Requests at a steady rate, whatever the answers take; as a process, see `main`.

A request that a slow answer holds up is counted from when it was due: otherwise the one slow
answer would hide all those that would have been slow, too.
"""

import asyncio
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import NamedTuple

from benchmarks.contenders import videos

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_AGAIN = 0.02
"""Seconds until a connection that broke or was refused is tried again."""


class Answer(NamedTuple):
    """One answer; times are of the monotonic clock, `status` is 0 where none came."""

    due: float
    done: float
    status: int
    body: bytes


class Steady:
    """Gets `paths` of a port of this machine `rate` times a second, over a few connections."""

    def __init__(
        self,
        port: int,
        paths: Iterator[str],
        rate: float,
        connections: int,
        answered: Callable[[Answer], None],
        *,
        patient: bool = False,
    ) -> None:
        """With `patient` nothing is due while an answer is awaited: each is timed alone."""
        self._patient = patient
        self._port, self._paths, self._rate = port, paths, rate
        self._connections, self._answered = connections, answered
        self._stopped = False

    async def run(self) -> None:
        """Go on until `stop`; the last requests are answered when it returns."""
        start = time.monotonic()
        await asyncio.gather(
            *(self._visit(start + index / self._rate) for index in range(self._connections))
        )

    def stop(self) -> None:
        """Let `run` come to its end."""
        self._stopped = True

    async def _visit(self, due: float) -> None:
        reader: asyncio.StreamReader | None = None
        writer: asyncio.StreamWriter | None = None
        step = self._connections / self._rate
        while not self._stopped:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            status, body = 0, b""
            try:
                if reader is None or writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                status, body = await exchange(reader, writer, next(self._paths))
            except (OSError, EOFError):
                if writer is not None:
                    writer.close()
                reader = writer = None
                await asyncio.sleep(_AGAIN)
            self._answered(Answer(due, time.monotonic(), status, body))
            due += step
            if self._patient or not status:
                # What was due while nobody listened was not held up by an answer either.
                due = max(due, time.monotonic())
        if writer is not None:
            writer.close()


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str
) -> tuple[int, bytes]:
    """One GET: status and body. Raises OSError or EOFError when the connection broke."""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    body = await reader.readexactly(int(length[1])) if length else b""
    return int(head[9:12]), body


class Outcome:
    """How answers were since they were last asked for. Times in milliseconds."""

    def __init__(self) -> None:
        self._took: list[float] = []
        self._failures = 0

    def note(self, answer: Answer) -> None:
        """Note one answer."""
        if answer.status and answer.status < 400:
            self._took.append((answer.done - answer.due) * 1000)
        else:
            self._failures += 1

    def take(self) -> dict[str, float]:
        """What was noted, and begin anew."""
        took, failures = sorted(self._took), self._failures
        self._took, self._failures = [], 0
        if not took:
            return {"answers": 0, "failures": failures, "p50": 0.0, "p99": 0.0, "longest": 0.0}
        return {
            "answers": len(took),
            "failures": failures,
            "p50": percentile(took, 50),
            "p99": percentile(took, 99),
            "longest": took[-1],
        }


def percentile(ordered: list[float], percent: float) -> float:
    """The figure that so many percent of an ordered list are not above."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


class Target(NamedTuple):
    """What is asked of one server: a path, or visits to so many videos."""

    name: str
    port: int
    rate: float
    connections: int
    path: str = ""
    videos: int = 0
    patient: bool = False

    def paths(self) -> Iterator[str]:
        """What to ask for next."""
        if self.path:
            return cycle([self.path])
        return cycle([f"/video/{video}" for video in videos(self.videos)])


def command(*targets: Target) -> str:
    """The argument with which `main` keeps these busy."""
    return json.dumps(targets)


async def _serve(targets: list[Target]) -> None:
    """Keep all targets busy; answer each line with what came of them since the last one."""
    outcomes = {target.name: Outcome() for target in targets}
    steady = [
        Steady(
            target.port,
            target.paths(),
            target.rate,
            target.connections,
            outcome.note,
            patient=target.patient,
        )
        for target, outcome in zip(targets, outcomes.values(), strict=True)
    ]
    # How late this process itself was: what it saw of a server cannot be more exact.
    late = 0.0

    async def watch() -> None:
        nonlocal late
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            late = max(late, time.monotonic() - before - 0.005)

    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    running = asyncio.gather(*(one.run() for one in steady))
    watching = asyncio.create_task(watch())
    while await lines.readline():
        told = {name: outcome.take() for name, outcome in outcomes.items()}
        print(json.dumps({"late": late * 1000, "targets": told}), flush=True)
        late = 0.0
    watching.cancel()
    for one in steady:
        one.stop()
    await running


def main() -> None:
    """Take the targets as JSON in the first argument; each line on stdin asks for the outcome."""
    asyncio.run(_serve([Target(*fields) for fields in json.loads(sys.argv[1])]))


if __name__ == "__main__":
    main()
