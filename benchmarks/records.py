"""Records a second through `POST /visits`, against Redis' own benchmark of INCR."""

import re
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from statistics import median

from benchmarks import Limits
from benchmarks.contenders import Contender, ForgetfulRedis, check, node, take_turns, wrk
from benchmarks.report import Goal, Part, Row, ratio
from lab.cluster import start
from lab.servers import WRITE_TOKEN, Redis, Server, find

CONNECTIONS = 32
VIDEOS = 100_000
FEW = 1000
"""The same videos over and over, for one more run each."""
RECORDS = 1000
PIPELINE = 32
INCR, BARE = "redis-benchmark INCR", "bare Flask"
FORMS = {"json": "array", "ndjson": "NDJSON"}
GOALS = {"memory": Goal(least=1.0, enough=0.7), "stored": Goal(least=1.0, enough=0.5)}
_INCRS_A_SECOND = 400_000
"""How many INCRs Redis is sent per second of a run: about its rate."""


def measure(limits: Limits) -> Part:
    """Post to each server in turn."""
    folder = limits.folder / "records"
    redis, forgetful = Redis(folder / "redis"), ForgetfulRedis(folder / "forgetful")
    servers: dict[str, Server] = {BARE: Contender(folder, "bare")}
    for ack in GOALS:
        servers[f"ACK={ack}, SQLite"] = node(folder, f"{ack}-sqlite", ACK=ack)
        servers[f"ACK={ack}, Redis"] = node(folder, f"{ack}-redis", ACK=ack, REDIS_URI=redis.uri)
    posted = {name: [0, 0] for name in servers}
    runs: dict[str, Callable[[], float]] = {INCR: partial(_incr, forgetful, limits.seconds)}
    for name, server in servers.items():
        for form, called in FORMS.items():
            arguments = (server, form, VIDEOS, limits.seconds, posted[name])
            runs[f"{name}, {called}"] = partial(_post, *arguments)
        again = (server, "json", FEW, limits.seconds, posted[name])
        runs[f"{name}, array, {FEW:,} videos"] = partial(_post, *again)
    with ExitStack() as stack:
        start(stack, [redis, forgetful, *servers.values()])
        take_turns(runs, int(limits.warm))
        rates = take_turns(runs, limits.rounds)
        for name, server in servers.items():
            check(f"http://127.0.0.1:{server.port}", VIDEOS, *posted[name])
    return _part(rates, limits)


def _post(server: Server, form: str, videos: int, seconds: float, posted: list[int]) -> float:
    """Return records a second; add the visits that must and that can be counted to `posted`."""
    arguments = (form, videos, RECORDS, WRITE_TOKEN)
    load = wrk(server, "records.lua", *arguments, connections=CONNECTIONS, seconds=seconds)
    assert not load.failures, f"{server.name}: {load.failures} posts failed"
    posted[0] += load.answers * RECORDS
    posted[1] += (load.answers + CONNECTIONS) * RECORDS
    return load.rate * RECORDS


def _incr(redis: Redis, seconds: float) -> float:
    """Return INCRs a second, as Redis measures itself."""
    count = max(1, int(seconds * _INCRS_A_SECOND))
    done = subprocess.run(
        [
            find("redis-benchmark") or "redis-benchmark",
            *("-p", str(redis.port), "-t", "incr", "-P", str(PIPELINE), "-n", str(count), "-q"),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return float(re.findall(r"INCR: ([\d.]+) requests per second", done.stdout)[-1])


def _part(rates: dict[str, list[float]], limits: Limits) -> Part:
    rows = []
    for name, run in rates.items():
        if name == INCR:
            continue
        goal = next((goal for ack, goal in GOALS.items() if ack in name), None)
        against = (INCR, median(rates[INCR]), ratio(run, rates[INCR]))
        rows.append(Row(f"records, {name}", median(run), "a second", goal, *against))
    how = (
        f"Medians of {limits.rounds} rounds of {limits.seconds:g} s in turn: {RECORDS:,} records a "
        f"request, of {VIDEOS:,} videos where no other number is named, over {CONNECTIONS} "
        f"connections. Redis without a file, "
        f"asked {PIPELINE} at once by 50 connections."
    )
    return Part("records", rows, how)
