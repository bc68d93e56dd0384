"""What a visit costs the node's processor, against the version before (see `lab/previous.py`)."""

from contextlib import ExitStack
from functools import partial
from operator import attrgetter
from statistics import median

from benchmarks import Limits
from benchmarks.contenders import DRAIN_TIME, Load, take_turns, wrk
from benchmarks.report import Goal, Part, Row
from lab.cluster import start
from lab.previous import unpack
from lab.servers import ROOT, Node

CONNECTIONS = 32
VIDEOS = 100
PAIRS = 3
"""Pairs of runs for each round: fifteen by default."""
MOST = Goal(most=1.03)
NOW, BEFORE = "now", "before"
VIEWERS = 200_000
TOLD_APART = {"REPEAT_WINDOW": "600", "VIEWERS": "on"}
"""Settings with which viewers are told apart."""
MAX_APART = Goal(most=1.15)


def measure(limits: Limits) -> Part:
    """Load both versions in turn, with the default settings and with answers from memory."""
    code = {NOW: ROOT, BEFORE: unpack(limits.folder / "code")}
    rows = []
    for ack in ("stored", "memory"):
        nodes = {
            name: Node(
                limits.folder / f"{name}-{ack}",
                "counter1",
                settings={"ACK": ack, "DRAIN_TIME": DRAIN_TIME},
                root=root,
            )
            for name, root in code.items()
        }
        with ExitStack() as stack:
            start(stack, nodes.values())
            runs = {name: partial(_run, node, limits.seconds) for name, node in nodes.items()}
            take_turns(runs, int(limits.warm))
            loads = take_turns(runs, PAIRS * limits.rounds)
        rows += _rows(ack, loads)
    rows += _viewers(limits)
    how = (
        f"Medians over {PAIRS * limits.rounds} pairs of runs of {limits.seconds:g} s in turn, over "
        f"{CONNECTIONS} connections and {VIDEOS} videos, SQLite. Processor time is user and system "
        "time of the node. A ratio is the median of the pairs' ratios."
    )
    return Part("cost", rows, how)


def _viewers(limits: Limits) -> list[Row]:
    """Load a node that tells viewers apart, and one that does not, with visits of many viewers."""
    nodes = {
        name: Node(
            limits.folder / f"viewers-{name}",
            "counter1",
            settings={"DRAIN_TIME": DRAIN_TIME, **settings},
        )
        for name, settings in ((NOW, TOLD_APART), (BEFORE, {}))
    }
    with ExitStack() as stack:
        start(stack, nodes.values())
        runs = {name: partial(_run, node, limits.seconds, VIEWERS) for name, node in nodes.items()}
        take_turns(runs, int(limits.warm))
        loads = take_turns(runs, PAIRS * limits.rounds)
    now, before = ([load.work for load in loads[name]] for name in (NOW, BEFORE))
    pairs = median(one / other for one, other in zip(now, before, strict=True))
    what = "processor time a visit, viewers told apart"
    against = ("viewers not told apart", median(before), pairs)
    return [Row(what, median(now), "µs", MAX_APART, *against)]


def _run(server: Node, seconds: float, viewers: int = 0) -> Load:
    name, more = ("viewers.lua", [viewers]) if viewers else ("gets.lua", [])
    load = wrk(server, name, "/video/", VIDEOS, *more, connections=CONNECTIONS, seconds=seconds)
    assert not load.failures, f"{server.name}: {load.failures} visits failed"
    return load


def _rows(ack: str, loads: dict[str, list[Load]]) -> list[Row]:
    rows = []
    for what, unit, goal, figure in (
        ("processor time a visit", "µs", MOST, attrgetter("work")),
        ("visits", "a second", None, attrgetter("rate")),
    ):
        now, before = ([figure(load) for load in loads[name]] for name in (NOW, BEFORE))
        pairs = median(one / other for one, other in zip(now, before, strict=True))
        against = ("the version before", median(before), pairs)
        rows.append(Row(f"{what}, ACK={ack}", median(now), unit, goal, *against))
    return rows
