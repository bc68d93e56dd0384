"""How many bytes nodes tell each other: a visit, and when there is nothing to tell."""

import time
from contextlib import ExitStack
from statistics import median

from benchmarks import Limits
from benchmarks.child import Child
from benchmarks.contenders import mesh, metric, start
from benchmarks.page import Part
from benchmarks.steady import Target, command
from benchmarks.table import Goal, Row
from lab.clients import until
from lab.servers import Node

RATE = 1000
VIDEOS = 100
CONNECTIONS = 8


def measure(limits: Limits) -> Part:
    """Three nodes, of which one is visited, and then none."""
    with ExitStack() as stack:
        nodes = mesh(limits.folder / "payload", ("counter1", "counter2", "counter3"))
        start(stack, nodes)
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
        f"{rate:,.0f} visits a second ({RATE:,} were asked for) to {VIDEOS} videos at one of them, "
        "and then none, where the node that sent most is shown. A broadcast counts once, however "
        "many peers it goes to; headers of HTTP are not in it."
    )
    return Part("payload", rows, how)


def _busy(node: Node, seconds: float) -> tuple[float, float]:
    """Visits a second, and bytes for each, under a steady load."""
    target = Target("visits", node.port, RATE, CONNECTIONS, videos=VIDEOS)
    with Child("benchmarks.steady", command(target)) as visits:
        time.sleep(0.5)
        visits.ask("outcome")
        sent, counted, since = _sent(node), _visits(node), time.monotonic()
        time.sleep(seconds)
        sent, counted = _sent(node) - sent, _visits(node) - counted
        took = time.monotonic() - since
        outcome = visits.ask("outcome")["targets"]["visits"]
    assert not outcome["failures"], outcome
    return counted / took, sent / counted


def _idle(nodes: list[Node], seconds: float) -> float:
    """KiB a second of the node that sends most."""
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
