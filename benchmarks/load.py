"""Full load by `wrk`, and the turns that contenders take."""

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypeVar

from lab.servers import ROOT, Server, StartError, find

Result = TypeVar("Result")


class Load(NamedTuple):
    """What one run of load came to. Times of answers are in milliseconds."""

    rate: float
    """Answers a second, of status 200 and the like."""
    answers: int
    failures: int
    """Answers of other status, and connections that broke."""
    p50: float
    p99: float
    longest: float
    work: float
    """Microseconds of processor time that the server took for an answer."""


def wrk(server: Server, script: str, *arguments: object, connections: int, seconds: float) -> Load:
    """Load a server through keep-alive connections with a script of this folder.

    `seconds` are rounded up to whole ones.
    """
    with Wrk(server, script, *arguments, connections=connections, seconds=seconds) as running:
        return running.load()


class Wrk:
    """A running `wrk`, for load on several servers at once."""

    def __init__(
        self, server: Server, script: str, *arguments: object, connections: int, seconds: float
    ) -> None:
        """As `wrk` of this module."""
        self._server = server
        self._used = processor_time(server)
        self._seconds = max(1, round(seconds + 0.4))
        self._process = subprocess.Popen(
            [
                find("wrk") or "wrk",
                *("--threads", "1"),
                *("--connections", str(connections)),
                *("--duration", f"{self._seconds}s"),
                *("--timeout", "10s"),
                *("--script", f"benchmarks/{script}"),
                f"http://127.0.0.1:{server.port}",
                *("--", *map(str, arguments)),
            ],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def load(self) -> Load:
        """Wait for its end and return what it came to. Raises `StartError` if there is nothing."""
        output, _ = self._process.communicate(timeout=self._seconds + 30)
        used = processor_time(self._server) - self._used
        try:
            told = json.loads(output.splitlines()[-1])
        except (IndexError, ValueError):
            raise StartError(f"wrk on {self._server.name}: {output}") from None
        good = told["answers"] - told["refused"]
        if not good:
            raise StartError(f"wrk on {self._server.name}: no answer within {self._seconds} s")
        return Load(
            rate=good / told["microseconds"] * 1e6,
            answers=good,
            failures=told["refused"] + told["broken"],
            p50=told["p50"] / 1000,
            p99=told["p99"] / 1000,
            longest=told["longest"] / 1000,
            work=used * 1e6 / max(good, 1),
        )

    def __enter__(self) -> "Wrk":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


def processor_time(server: Server) -> float:
    """Seconds of processor time that a server's processes have used."""
    ticks = 0
    for process in server.processes():
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def take_turns(
    contenders: Mapping[str, Callable[[], Result]], rounds: int
) -> dict[str, list[Result]]:
    """Measure each contender once a round, in an order that moves on by one each round.

    What else the machine does then falls on all of them alike.
    """
    results: dict[str, list[Result]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            results[name].append(contenders[name]())
    return results


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios of one round each."""
    return median(one / other for one, other in zip(ours, theirs, strict=True))
