"""Beacons: how many nginx answers and nodes count, and what that costs other visitors.

`python -m benchmarks.beacons` prints a row a figure; needs nginx and wrk. A minute or two.
"""

import random
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from tools.servers import Nginx, Node, free_port
from tools.visitors import fetch, until

SECONDS = 5
LINES = 5_000_000
VIDEOS = 1000
ROUNDS = 3


class Row(NamedTuple):
    """A figure, and what it should be; both as text."""

    what: str
    measured: str
    goal: str


def rows() -> Iterator[Row]:
    """All figures; servers run only while they are measured."""
    yield from through_nginx()
    yield following()
    yield beside()


def through_nginx(seconds: int = SECONDS) -> Iterator[Row]:
    """Beacons a second with logging and without, in turn, and how late the last is counted."""
    with_log, without, late = [], [], []
    for _ in range(ROUNDS):
        with _Site(3) as site:
            before = site.lines()
            with_log.append(_wrk(site.script(), site.nginx.url, seconds))
            ended = time.monotonic()
            # wrk does not count what is answered after its end; nginx logs that, too.
            until(lambda site=site: site.settled(), 20, "all is counted")  # type: ignore[misc]
            late.append(site.grew_last - ended)
            assert site.lines() - before >= with_log[-1] * seconds
        with _Site(3, logging=False) as site:
            without.append(_wrk(site.script(), site.nginx.url, seconds))
    share = sorted(with_log)[ROUNDS // 2] / sorted(without)[ROUNDS // 2]
    yield Row("beacons a second through nginx", _spread(with_log), "")
    yield Row("the same with logging off", _spread(without), "")
    yield Row("share with logging", f"{share:.2f}", "0.5 or more")
    yield Row("the last is counted after", f"{max(late):.2f} s", "1 s or less")


def following(lines: int = LINES) -> Row:
    """Lines a second that one node counts, ACK=stored, that waited for it."""
    rates = []
    for _ in range(ROUNDS):
        with _Site(1, started=False) as site:
            site.fill(lines)
            site.nodes[0].start()
            until(lambda site=site: site.lines() > 0, 30, "it has begun")  # type: ignore[misc]
            start, done = time.monotonic(), site.lines()
            until(lambda site=site: site.lines() == lines, 120, "all is read")  # type: ignore[misc]
            rates.append((lines - done) / (time.monotonic() - start))
    return Row("lines a second followed by one node", _spread(rates), "500,000 or more")


def beside(seconds: int = SECONDS) -> Row:
    """Visits to a node by itself, as a share of those without 20,000 beacons a second beside."""
    shares, beacons = [], []
    with _Site(1) as site:
        visit = f"{site.nodes[0].url}/video/cats"
        for _ in range(ROUNDS):
            alone = _wrk(None, visit, seconds, connections=32)
            rate: list[float] = []
            # wrk has no rate: each connection waits 3 ms between two requests.
            beside = threading.Thread(
                target=lambda rate=rate: rate.append(
                    _wrk(site.script(pause=3), site.nginx.url, seconds + 2, connections=100)
                )
            )
            beside.start()
            time.sleep(1)
            shares.append(_wrk(None, visit, seconds, connections=32) / alone)
            beside.join()
            beacons += rate
    what = f"visits beside {_spread(beacons)} beacons a second, share of their usual rate"
    return Row(what, f"{sorted(shares)[ROUNDS // 2]:.2f}", "0.5 or more")


class _Site:
    """nginx and nodes that follow its logs."""

    def __init__(self, nodes: int, *, logging: bool = True, started: bool = True) -> None:
        self._stack = ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        ports = [free_port() for _ in range(nodes)]
        kind = Nginx if logging else _Silent
        self.nginx = kind(self.folder / "nginx", [f"127.0.0.1:{port}" for port in ports])
        peers = {"PEERS": f"http://127.0.0.1:{ports[0]}", "DRAIN_TIME": "0"}
        self.nodes = []
        for number, port in enumerate(ports, 1):
            settings = peers | {"VISIT_LOG": str(self.nginx.visit_log(number))}
            name = f"counter{number}"
            self.nodes.append(Node(self.folder / name, name, port, settings))
        self._started = started
        self.grew_last = 0.0
        self._seen = -1

    def __enter__(self) -> "_Site":
        for node in self.nodes:
            self._stack.callback(node.stop)
            if self._started:
                node.start()
        if self._started:
            for node in self.nodes:
                node.wait_ready()
            self._stack.enter_context(self.nginx)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def lines(self) -> int:
        """How many lines the nodes have counted."""
        return sum(fetch(node.url, "/cluster")["log"]["lines"] for node in self.nodes)

    def settled(self) -> bool:
        """Whether nothing was counted for a second; notes when the last was."""
        seen, now = self.lines(), time.monotonic()
        if seen != self._seen:
            self._seen, self.grew_last = seen, now
        return now - self.grew_last > 1.0

    def script(self, pause: int = 0) -> Path:
        """What makes wrk ask for one of the videos, and wait `pause` ms after each."""
        path = self.folder / f"script-{pause}.lua"
        delay = f"function delay() return {pause} end\n" if pause else ""
        path.write_text(
            f"{delay}request = function()\n"
            f'  return wrk.format("GET", "/hit/video-" .. math.random({VIDEOS}))\nend\n'
        )
        return path

    def fill(self, lines: int) -> None:
        """Write a log that was never read, the first video 1,000 times as often as the last."""
        chance = random.Random(1)
        weights = [1 / (number + 1) for number in range(VIDEOS)]
        videos = chance.choices(range(VIDEOS), weights, k=10_000)
        with self.nginx.visit_log(1).open("w") as log:
            for done in range(0, lines, len(videos)):
                log.write(
                    "".join(
                        f"{1_700_000_000 + (done + n) / 20_000:.3f} {n % 64 + 1}.{done + n} "
                        f"video-{video}\n"
                        for n, video in enumerate(videos)
                    )
                )


class _Silent(Nginx):
    """The same nginx with logging off."""

    def prepare(self) -> None:
        super().prepare()
        (self.folder / "logs.conf").write_text("access_log off;\n")


def _wrk(script: Path | None, url: str, seconds: int, connections: int = 64) -> float:
    """Requests a second; raises if any was answered with something else than 2xx."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
    command += ["-s", str(script)] if script else []
    done = subprocess.run(
        [*command, url], capture_output=True, text=True, timeout=seconds + 20, check=True
    )
    assert "Non-2xx" not in done.stdout, done.stdout
    rate = re.search(r"Requests/sec: +([0-9.]+)", done.stdout)
    assert rate, done.stdout
    return float(rate[1])


def _spread(rates: Sequence[float]) -> str:
    """The middle one, and between which they lie."""
    ordered = sorted(rates)
    return f"{ordered[len(ordered) // 2]:,.0f} ({ordered[0]:,.0f} to {ordered[-1]:,.0f})"


if __name__ == "__main__":
    for row in rows():
        print(f"{row.what:<60} {row.measured:<32} {row.goal}", flush=True)
