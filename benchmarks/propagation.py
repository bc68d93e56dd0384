"""From one node to others: how long a visit takes to a page there, and how many bytes it costs."""

import time
from collections import deque
from contextlib import ExitStack
from statistics import median

import msgspec

from benchmarks import Limits
from benchmarks.contenders import DRAIN_TIME, paths, videos
from benchmarks.report import Goal, Part, Row
from lab.clients import Apart, LivePages, OpenLoop, Target, metric, percentile, until
from lab.clients.open_loop import Answer
from lab.cluster import Cluster
from lab.servers import Node

RATE, PAYLOAD_RATE = 500, 1000
"""Visits a second."""
CONNECTIONS, PAYLOAD_CONNECTIONS = 4, 8
VIDEOS = 100
_LATE = 5.0
"""Seconds after the last visit within which it has to be shown."""


class Shown(msgspec.Struct):
    """What is read of a live message."""

    video: str
    visits: int


_decode = msgspec.json.Decoder(Shown).decode


def measure(limits: Limits) -> Part:
    """Measure two nodes on each transport, one after the other."""
    took: dict[str, list[list[float]]] = {}
    for transport, name in (("mesh", "mesh"), ("rabbitmq", "RabbitMQ")):
        with ExitStack() as stack:
            folder = limits.folder / transport
            settings = {"DRAIN_TIME": DRAIN_TIME}
            stores = ("sqlite", "sqlite")
            cluster = Cluster(folder, stack, stores, transport=transport, settings=settings)
            near, far = cluster.nodes
            took[name] = [
                Journey(near.port, far.port).run(limits.seconds) for _ in range(limits.rounds)
            ]
    return _part(took, limits)


class Journey:
    """Visits one node at a fixed rate while a page is open at the other."""

    def __init__(self, near: int, far: int) -> None:
        """Take the ports of the two nodes."""
        self._near, self._far = near, far
        self._shown: dict[str, int] = {}
        self._waiting: dict[str, deque[tuple[int, float]]] = {
            video: deque() for video in videos(VIDEOS)
        }
        self._took: list[float] = []

    def run(self, seconds: float) -> list[float]:
        """Return the milliseconds that each visit took, sorted."""
        target = Target("visits", [self._near], RATE, CONNECTIONS, paths(VIDEOS))
        query = "&".join(f"video={video}" for video in videos(VIDEOS))
        with LivePages(self._far, self._heard) as page:
            assert page.open(f"/live?{query}") == (1, 0)
            with OpenLoop(target, heard=self._answered, beside=page):
                time.sleep(seconds)
            until(lambda: not any(self._waiting.values()), _LATE, "the page shows all visits")
        return sorted(self._took)

    # Both are called on the same event loop, so they need no lock.

    def _heard(self, message: bytes) -> None:
        now, shown = time.monotonic(), _decode(message)
        self._shown[shown.video] = shown.visits
        waiting = self._waiting[shown.video]
        while waiting and waiting[0][0] <= shown.visits:
            self._took.append((now - waiting.popleft()[1]) * 1000)

    def _answered(self, answer: Answer) -> None:
        assert answer.status == 200, answer
        visit = _decode(answer.body)
        if self._shown.get(visit.video, 0) >= visit.visits:
            self._took.append(0.0)
        else:
            self._waiting[visit.video].append((visit.visits, answer.done))


def _part(took: dict[str, list[list[float]]], limits: Limits) -> Part:
    rows = []
    for transport, rounds in took.items():
        p50 = [percentile(run, 50) for run in rounds]
        p99 = [percentile(run, 99) for run in rounds]
        what = f"from the answer to a page of another node, {transport}"
        rows.append(Row(f"{what}: half within", median(p50), "ms", Goal(most=120)))
        rows.append(Row(f"{what}: 99 % within", median(p99), "ms", Goal(most=300)))
    made = median(len(run) for rounds in took.values() for run in rounds) / limits.seconds
    how = (
        f"Medians of {limits.rounds} rounds of {limits.seconds:g} s: {made:,.0f} visits a second "
        f"({RATE} were asked for) to {VIDEOS} videos at one of two nodes, all of them watched on "
        "one page at the other, which shows a video at most ten times a second."
    )
    return Part("propagation", rows, how)


def measure_payload(limits: Limits) -> Part:
    """Measure three nodes, first with visits to one of them, then without."""
    with ExitStack() as stack:
        nodes = Cluster(limits.folder, stack, settings={"DRAIN_TIME": DRAIN_TIME}).nodes
        busy = [_busy(nodes[0], limits.seconds) for _ in range(limits.rounds)]
        until(lambda: _converged(nodes), 30, "the nodes hold all visits")
        idle = [_idle(nodes, limits.seconds) for _ in range(limits.rounds)]
    rate = median(rate for rate, _ in busy)
    rows = [
        Row("broadcast a visit", median(size for _, size in busy), "bytes", Goal(most=20)),
        Row("sent by an idle node", median(idle), "KiB a second", Goal(most=1)),
    ]
    how = (
        f"Medians of {limits.rounds} rounds of {limits.seconds:g} s on a full mesh of three nodes: "
        f"{rate:,.0f} visits a second ({PAYLOAD_RATE:,} were asked for) to {VIDEOS} videos at one "
        "of them, and then none, where the node that sent most is shown. A broadcast counts once, "
        "however many peers it goes to; headers of HTTP are not in it."
    )
    return Part("payload", rows, how)


def _busy(node: Node, seconds: float) -> tuple[float, float]:
    """Return visits a second and bytes per visit, under a load at a fixed rate."""
    target = Target("visits", [node.port], PAYLOAD_RATE, PAYLOAD_CONNECTIONS, paths(VIDEOS))
    with Apart(OpenLoop, target) as visits:
        time.sleep(0.5)
        visits.call("take")
        sent, counted, since = _sent(node), _visits(node), time.monotonic()
        time.sleep(seconds)
        sent, counted = _sent(node) - sent, _visits(node) - counted
        took = time.monotonic() - since
        outcome = visits.call("take")["visits"]
    assert not outcome.failures, outcome.statuses
    return counted / took, sent / counted


def _idle(nodes: list[Node], seconds: float) -> float:
    """Return the KiB a second of the node that sends most."""
    before, since = [_sent(node) for node in nodes], time.monotonic()
    # A few reports at least, which go out once a second.
    time.sleep(max(seconds, 3.0))
    after, took = [_sent(node) for node in nodes], time.monotonic() - since
    return max(b - a for a, b in zip(before, after, strict=True)) / took / 1024


def _converged(nodes: list[Node]) -> bool:
    return all(metric(node.url, "counter_peer_lag_visits") == 0 for node in nodes)


def _sent(node: Node) -> float:
    return metric(node.url, "counter_sent_bytes_total")


def _visits(node: Node) -> float:
    return metric(node.url, "counter_visits_total")
