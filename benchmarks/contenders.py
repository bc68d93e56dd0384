"""What is measured: nodes, the servers that they are measured against, and `wrk`'s load on them."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

from lab.clients import counted, until
from lab.servers import ROOT, Node, Redis, Server, StartError, find, get

Result = TypeVar("Result")

DRAIN_TIME = "0.1"
"""Seconds: short, because no balancer has to notice."""


class Contender(Server):
    """One of `benchmarks.apps`, run as a node is."""

    def __init__(self, folder: Path, app: str, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(folder / app, app)
        self.settings = dict(settings or {})
        self.url = f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        app = f"benchmarks.apps:{self.name}()"
        return [sys.executable, "-m", "gunicorn", "--config", "benchmarks/server.py", app]

    def environment(self) -> dict[str, str]:
        return {"NAME": "counter1", "LISTEN_PORT": str(self.port)} | self.settings

    def answers(self) -> bool:
        return get(self.port, "/counts") == 200


class ForgetfulRedis(Redis):
    """A Redis that stores nothing on disk, which is the fastest kind."""

    def command(self) -> list[str]:
        return [*super().command(), "--appendonly", "no"]


def node(folder: Path, name: str, **settings: str) -> Node:
    """Return a node with these settings; without any it has no peers and uses SQLite."""
    return Node(folder / name, name, settings={"DRAIN_TIME": DRAIN_TIME} | settings)


def videos(number: int) -> list[str]:
    """Return so many ids of 11 characters, as large sites use them."""
    return [f"video-{video:05d}" for video in range(number)]


def paths(number: int) -> list[str]:
    """Return the paths where they are visited."""
    return [f"/video/{video}" for video in videos(number)]


def check(url: str, number: int, least: int, most: int) -> int:
    """Wait until a server shows `least` visits to its videos; return how many it shows.

    Raises AssertionError for more than `most`: a rate at which visits are lost or counted twice
    is no result.
    """

    def sums() -> int:
        return sum(counted(url, videos(number)).values())

    until(lambda: sums() >= least, 10, f"{url} shows the {least} visits it answered")
    shown = sums()
    assert shown <= most, f"{url} shows {shown} visits, and {most} were made at most"
    return shown


class Load(NamedTuple):
    """The result of one run of load. Times are in milliseconds."""

    rate: float
    """Good answers a second."""
    answers: int
    failures: int
    """Answers with an error status, and broken connections."""
    p50: float
    p99: float
    longest: float
    work: float
    """Microseconds of the server's processor time for an answer."""


def wrk(server: Server, script: str, *arguments: object, connections: int, seconds: float) -> Load:
    """Load a server through keep-alive connections with a script of this folder.

    `seconds` are rounded up to whole seconds.
    """
    with Wrk(server, script, *arguments, connections=connections, seconds=seconds) as running:
        return running.load()


class Wrk:
    """A running `wrk`, for load on several servers at once."""

    def __init__(
        self, server: Server, script: str, *arguments: object, connections: int, seconds: float
    ) -> None:
        """As the function of this name."""
        self._server = server
        self._used = server.processor_time()
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
        """Wait for its end and return the result. Raises `StartError` if there is none."""
        output, _ = self._process.communicate(timeout=self._seconds + 30)
        used = self._server.processor_time() - self._used
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


def take_turns(
    contenders: Mapping[str, Callable[[], Result]], rounds: int
) -> dict[str, list[Result]]:
    """Measure each contender once a round, in an order that shifts by one each round.

    So whatever else the machine does affects all of them alike.
    """
    results: dict[str, list[Result]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            results[name].append(contenders[name]())
    return results
