"""Visits a second, against bare Flask and against an INCR; and what more nodes bring."""

import os
from contextlib import ExitStack
from functools import partial
from statistics import median
from typing import NamedTuple

from benchmarks import Limits
from benchmarks.contenders import (
    DRAIN_TIME,
    Contender,
    ForgetfulRedis,
    Load,
    Wrk,
    check,
    node,
    take_turns,
    wrk,
)
from benchmarks.report import Goal, Part, Row, ratio
from lab.cluster import Cluster, start
from lab.servers import Node, Redis, Server

CONNECTIONS = 32
VIDEOS = 100
BARE, INCR = "bare Flask", "Flask + INCR"
GOALS = {"memory": Goal(least=0.92), "stored": Goal(least=0.85)}


def measure(limits: Limits) -> Part:
    """Load each server in turn."""
    folder = limits.folder / "visits"
    redis, forgetful = Redis(folder / "redis"), ForgetfulRedis(folder / "forgetful")
    servers: dict[str, Server] = {
        BARE: Contender(folder, "bare"),
        INCR: Contender(folder, "incr", {"REDIS_URI": forgetful.uri}),
    }
    for ack in GOALS:
        servers[f"ACK={ack}, SQLite"] = node(folder, f"{ack}-sqlite", ACK=ack)
        servers[f"ACK={ack}, Redis"] = node(folder, f"{ack}-redis", ACK=ack, REDIS_URI=redis.uri)
    with ExitStack() as stack:
        start(stack, [redis, forgetful])
        start(stack, servers.values())
        runs = {name: partial(_run, server, limits.seconds) for name, server in servers.items()}
        warm = take_turns(runs, int(limits.warm))
        loads = take_turns(runs, limits.rounds)
        for name, server in servers.items():
            _check(server, [*warm[name], *loads[name]])
    return _part(loads, limits)


def _run(server: Server, seconds: float) -> Load:
    load = wrk(server, "gets.lua", "/video/", VIDEOS, connections=CONNECTIONS, seconds=seconds)
    assert not load.failures, f"{server.name}: {load.failures} visits failed"
    return load


def _check(server: Server, loads: list[Load]) -> None:
    """Answered visits must be counted; those in flight when a load ended may be."""
    answered = sum(load.answers for load in loads)
    most = answered + CONNECTIONS * len(loads)
    check(f"http://127.0.0.1:{server.port}", VIDEOS, answered, most)


def _part(loads: dict[str, list[Load]], limits: Limits) -> Part:
    rates = {name: [load.rate for load in run] for name, run in loads.items()}
    slow = {name: [load.p99 for load in run] for name, run in loads.items()}
    work = {name: [load.work for load in run] for name, run in loads.items()}
    rows = []
    for name in loads:
        if name in (BARE, INCR):
            continue
        goal = next(goal for ack, goal in GOALS.items() if ack in name)
        rate, p99 = median(rates[name]), median(slow[name])
        for other, least in ((BARE, goal), (INCR, Goal(least=1.0))):
            against = (other, median(rates[other]), ratio(rates[name], rates[other]))
            rows.append(Row(f"visits, {name}", rate, "a second", least, *against))
        against = (BARE, median(slow[BARE]), ratio(slow[name], slow[BARE]))
        rows.append(Row(f"99 % answered within, {name}", p99, "ms", Goal(most=1.5), *against))
        against = (BARE, median(work[BARE]), ratio(work[name], work[BARE]))
        cost = median(work[name])
        rows.append(Row(f"processor time a visit, {name}", cost, "µs", None, *against))
    how = (
        f"Medians of {limits.rounds} rounds of {limits.seconds:g} s in turn, over {CONNECTIONS} "
        f"connections and {VIDEOS} videos. Processor time is that of the node, without Redis."
    )
    return Part("visits", rows, how)


class Sum(NamedTuple):
    """The loads of several nodes at the same time, added up."""

    rate: float
    answers: int
    work: float


def measure_nodes(limits: Limits) -> Part:
    """Measure one node without peers and a full mesh of three in turn."""
    folder = limits.folder / "nodes"
    alone = node(folder, "alone")
    with ExitStack() as stack:
        start(stack, [alone])
        three = Cluster(folder, stack, settings={"DRAIN_TIME": DRAIN_TIME}).nodes
        runs = {
            "one": lambda: _load_all([alone], limits.seconds),
            "three": lambda: _load_all(three, limits.seconds),
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


def _load_all(nodes: list[Node], seconds: float) -> Sum:
    with ExitStack() as stack:
        running = [
            stack.enter_context(
                Wrk(one, "gets.lua", "/video/", VIDEOS, connections=CONNECTIONS, seconds=seconds)
            )
            for one in nodes
        ]
        loads: list[Load] = [wrk.load() for wrk in running]
    assert not any(load.failures for load in loads), loads
    answers = sum(load.answers for load in loads)
    work = sum(load.work * load.answers for load in loads) / answers
    return Sum(sum(load.rate for load in loads), answers, work)
