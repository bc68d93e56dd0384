"""What more nodes bring: three of them under load at once, against one alone."""

import os
from contextlib import ExitStack
from statistics import median
from typing import NamedTuple

from benchmarks import Limits
from benchmarks.contenders import check, mesh, node, start
from benchmarks.load import Load, Wrk, ratio, take_turns
from benchmarks.page import Part
from benchmarks.table import Row
from lab.servers import Node

CONNECTIONS = 32
VIDEOS = 100


class Sum(NamedTuple):
    """Loads of several nodes at the same time."""

    rate: float
    answers: int
    work: float


def measure(limits: Limits) -> Part:
    """One node without peers, and a full mesh of three, in turn."""
    folder = limits.folder / "nodes"
    alone = node(folder, "alone")
    three = mesh(folder, ("counter1", "counter2", "counter3"))
    with ExitStack() as stack:
        start(stack, [alone, *three])
        runs = {
            "one": lambda: _load([alone], limits.seconds),
            "three": lambda: _load(three, limits.seconds),
        }
        warm = take_turns(runs, int(limits.warm))
        sums = take_turns(runs, limits.rounds)
        for name, nodes in (("one", [alone]), ("three", three)):
            loads = [*warm[name], *sums[name]]
            answered = sum(load.answers for load in loads)
            most = answered + CONNECTIONS * len(loads) * len(nodes)
            for one in nodes:
                check(one.url, VIDEOS, answered, most)
    rates = {name: [load.rate for load in loads] for name, loads in sums.items()}
    work = {name: [load.work for load in loads] for name, loads in sums.items()}
    rows = []
    for what, unit, figures in (
        ("visits at three nodes", "a second", rates),
        ("processor time a visit, all three nodes'", "µs", work),
    ):
        against = ("one alone", median(figures["one"]), ratio(figures["three"], figures["one"]))
        rows.append(Row(what, median(figures["three"]), unit, None, *against))
    how = (
        f"Medians of {limits.rounds} rounds of {limits.seconds:g} s in turn, over {CONNECTIONS} "
        f"connections to each node, ACK=stored, SQLite. All nodes and the load share "
        f"{os.cpu_count()} processors, so the rate cannot become three times as large on fewer "
        "than six; processor time a visit tells what the others' copies cost."
    )
    return Part("nodes", rows, how)


def _load(nodes: list[Node], seconds: float) -> Sum:
    with ExitStack() as stack:
        running = [
            stack.enter_context(
                Wrk(one, "visits.lua", VIDEOS, connections=CONNECTIONS, seconds=seconds)
            )
            for one in nodes
        ]
        loads: list[Load] = [wrk.load() for wrk in running]
    assert not any(load.failures for load in loads), loads
    answers = sum(load.answers for load in loads)
    work = sum(load.work * load.answers for load in loads) / answers
    return Sum(sum(load.rate for load in loads), answers, work)
