"""Beacons: how many nginx answers and nodes count, and what they cost other visitors."""

import random
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks import Limits
from benchmarks.contenders import DRAIN_TIME, Load, Wrk, check, take_turns, wrk
from benchmarks.report import Goal, Part, Row, ratio
from lab.clients import metric, until
from lab.cluster import Cluster
from lab.servers import Nginx, Node

VIDEOS = 1000
CONNECTIONS = 64
VISITORS = 32
WAITING = 1_000_000
"""Lines that wait for the node, per second of a run of load."""
PAUSE, PAUSING = 3, 100
"""Milliseconds that a connection waits after a beacon, and connections: some 20,000 a second."""
_SETTLED = 30


def measure(limits: Limits) -> Part:
    """Measure nginx with and without logs in front of three nodes; then one waiting log."""
    with ExitStack() as stack:
        sites = {
            logging: _Site(limits.folder / f"logging-{logging}", stack, logging=logging)
            for logging in (True, False)
        }
        late: list[float] = []
        beside: list[float] = []
        turns = {
            "logged": lambda: sites[True].beacons(limits.seconds, late),
            "not logged": lambda: sites[False].load(limits.seconds),
        }
        loads = take_turns(turns, limits.rounds)
        visits = take_turns(
            {
                "alone": lambda: sites[True].visits(limits.seconds),
                "beside": lambda: sites[True].visits_beside(limits.seconds, beside),
            },
            limits.rounds,
        )
    followed = [
        _follow(limits.folder / f"waiting-{turn}", max(1, round(limits.seconds * WAITING)))
        for turn in range(limits.rounds)
    ]
    rates = {name: [load.rate for load in run] for name, run in loads.items()}
    alone, shared = ([load.rate for load in visits[name]] for name in ("alone", "beside"))
    logged = rates["logged"]
    against = ("logging off", median(rates["not logged"]), ratio(logged, rates["not logged"]))
    rows = [
        Row("beacons through nginx", median(logged), "a second", Goal(least=0.5), *against),
        Row("the last beacon is counted after", max(late), "s", Goal(most=1)),
        Row("lines followed by one node", median(followed), "a second", Goal(least=500_000)),
        Row(
            "visits to a node that follows beacons",
            median(shared),
            "a second",
            Goal(least=0.5),
            "without beacons",
            median(alone),
            ratio(shared, alone),
        ),
    ]
    how = (
        f"Medians of {limits.rounds} rounds of {limits.seconds:g} s, {CONNECTIONS} connections, "
        f"{VIDEOS:,} videos, `ACK=stored` and SQLite. Three nodes follow nginx's logs; the visits "
        f"beside are over {VISITORS} connections to one of them, which follows a third of "
        f"{median(beside):,.0f} beacons a second."
    )
    return Part("beacons", rows, how)


class _Site:
    """nginx, and three nodes that follow its logs; the stack stops them."""

    def __init__(self, folder: Path, stack: ExitStack, *, logging: bool) -> None:
        cluster = Cluster(
            folder,
            stack,
            settings={"DRAIN_TIME": DRAIN_TIME},
            nginx=Nginx if logging else _Silent,
            follows=True,
        )
        self.nginx, self.nodes = cluster.nginx, cluster.nodes

    def load(self, seconds: float) -> Load:
        """Send as many beacons as nginx answers."""
        load = wrk(
            self.nginx, "gets.lua", "/hit/", VIDEOS, connections=CONNECTIONS, seconds=seconds
        )
        assert not load.failures, f"{load.failures} beacons failed"
        return load

    def beacons(self, seconds: float, late: list[float]) -> Load:
        """The same, and wait until all are counted; note how long that takes after the end."""
        before = self._lines()
        load = self.load(seconds)
        ended = time.monotonic()
        until(lambda: self._lines() - before >= load.answers, _SETTLED, "all beacons are counted")
        late.append(time.monotonic() - ended)
        return load

    def visits(self, seconds: float) -> Load:
        """Send visits to one of the nodes."""
        node = self.nodes[0]
        return wrk(node, "gets.lua", "/video/", 100, connections=VISITORS, seconds=seconds)

    def visits_beside(self, seconds: float, rates: list[float]) -> Load:
        """The same beside beacons at a fixed rate, which is noted."""
        arguments = ("/hit/", VIDEOS, PAUSE)
        with Wrk(
            self.nginx, "gets.lua", *arguments, connections=PAUSING, seconds=seconds + 1
        ) as beacons:
            time.sleep(0.5)
            load = self.visits(seconds)
            rates.append(beacons.load().rate)
        return load

    def _lines(self) -> float:
        return sum(metric(node.url, "counter_log_lines_total") for node in self.nodes)


class _Silent(Nginx):
    """The same nginx with logging off."""

    def prepare(self) -> None:
        super().prepare()
        (self.folder / "logs.conf").write_text("access_log off;\n")


def _follow(folder: Path, lines: int) -> float:
    """Return how many waiting lines a second one node counts; checks that each counts once."""
    log = folder / "visits.log"
    folder.mkdir(parents=True)
    _fill(log, lines)
    with Node(folder / "node", "counter1", settings={"VISIT_LOG": str(log)}) as node:

        def read() -> float:
            return metric(node.url, "counter_log_lines_total")

        until(lambda: read() > 0, 30, "it has begun")
        start, done = time.monotonic(), read()
        until(lambda: read() == lines, 120, "all is read")
        took = time.monotonic() - start
        check(node.url, VIDEOS, lines, lines)
    return (lines - done) / max(took, 1e-9)


def _fill(path: Path, lines: int) -> None:
    """Write a new log; the first video is in it 1,000 times as often as the last."""
    chance = random.Random(1)
    weights = [1 / (number + 1) for number in range(VIDEOS)]
    chosen = chance.choices(range(VIDEOS), weights, k=10_000)
    with path.open("w") as log:
        for done in range(0, lines, len(chosen)):
            log.write(
                "".join(
                    f"{1_700_000_000 + (done + n) / 20_000:.3f} {n % 64 + 1}.{done + n} "
                    f"video-{video:05d}\n"
                    for n, video in enumerate(chosen[: lines - done])
                )
            )
