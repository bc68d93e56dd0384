"""`make million`: three nodes, each of which has counted a million videos."""

import argparse
import base64
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from hashlib import blake2b
from pathlib import Path
from statistics import median

from benchmarks import day
from benchmarks.contenders import DRAIN_TIME, node, paths
from benchmarks.report import PAGE, Goal, Part, Row, text, write
from benchmarks.watch import PATIENCE, Rate, Watch
from lab.clients import Apart, Client, OpenLoop, Target, counted, fetch, fill, post, until
from lab.cluster import Cluster, start
from lab.servers import Node, Redis, get
from lab.terminal import foreground, say

LOST = 100
"""Videos in a delta that one node misses."""
SYNC_INTERVAL = 1.0
RATE = 100
"""Visits a second at each node, timed while something else happens."""
CONNECTIONS = 16
"""Connections for these visits: one that waits does not hold up the others."""
PAUSE = Goal(most=25)
"""Milliseconds."""
_JOIN, _JOIN_WITH_A_DAY = Goal(most=10), Goal(most=30)
_READY = {"SQLite": Goal(most=5), "Redis": Goal(most=6)}
"""Seconds, by store."""
_DAY = f"a day of hourly runs of three members, {day.ACTIVE:.0%} of the videos in each"
_WITH_A_DAY = "SQLite, with a day of runs"
_TOKEN = "only-for-the-benchmark"  # noqa: S105 - of nodes that live for minutes, on loopback


def ids(number: int) -> list[str]:
    """Return so many ids of 11 characters that look random, as those of large sites do."""
    return [
        base64.urlsafe_b64encode(blake2b(b"%d" % video, digest_size=8).digest())[:11].decode()
        for video in range(number)
    ]


def measure(folder: Path, videos: int, pace: Rate, **settings: str) -> Part:
    """Measure everything, some ten minutes for a million; `settings` are those of all nodes."""
    named = ids(videos)
    rows: list[Row] = []
    with ExitStack() as stack:
        empty = _empty(folder)
        # Otherwise nothing would be folded while this runs.
        settings = {"FOLD_AFTER": "1"} | settings
        operated = {"DRAIN_TIME": DRAIN_TIME, "DEV_MODE": "1", "ADMIN_TOKEN": _TOKEN}
        nodes = Cluster(folder, stack, settings=operated | settings).nodes
        cluster = Watch(nodes, pace)
        stack.callback(cluster.close)
        with cluster.phase("the videos are posted to all nodes"):
            took = _fill(nodes, named)
        cluster.rest()
        weight = max(one.memory() - empty for one in nodes) / videos
        rows.append(Row("resident above an empty node", weight, "bytes a video", Goal(most=100)))
        with cluster.phase("nothing happens"):
            rows.append(Row("sent by an idle node", _idle(cluster), "KiB a second", Goal(most=1)))
        rows += _newcomers(cluster, folder, settings, named, stack)
        rows += _repair(cluster, named)
        # A run that has counted all of them ends, and all nodes fold it.
        rows += _restart(cluster, nodes[0], "SQLite, of a node that has counted them", named[0])
        with cluster.phase("the run that ended is folded"):
            folded = until(lambda: _folded(cluster), PATIENCE, "ended runs are folded")
        # Now all nodes show the same number of visits, and none is lost.
        until(lambda: _agree(cluster.nodes, 3 * videos), 30, "all nodes show the same")
        rows += _a_day_besides(cluster, folder, named, stack)
    for what, seen in cluster.pauses.items():
        name = f"longest pause while {what}"
        late = ("the client itself", seen.late)
        rows.append(Row(f"{name}, seen by a client", seen.outside, "ms", PAUSE, *late))
        rows.append(Row(f"{name}, in the node", seen.inside, "ms", PAUSE))
    how = (
        f"{videos:,} videos with ids of 11 characters, each counted by each of three nodes on a "
        f"full mesh with SQLite; posting and spreading them took {took:.0f} s. Visits at peers: "
        f"{RATE} a second at each of the three. Pauses: the longest answer to one request every "
        f"5 ms to each node, beside it how late the asking process itself was at most; and the "
        f"longest delay of the nodes' own beat. Folding was over {folded:.0f} s after the restart."
        " The runs of the day are written into the stores while the nodes are down."
    )
    return Part("million", rows, how)


def _empty(folder: Path) -> int:
    """Return the bytes of an empty node."""
    with ExitStack() as stack:
        one = node(folder, "empty")
        start(stack, [one])
        return one.memory()


def _fill(nodes: Sequence[Node], named: Sequence[str]) -> float:
    """Post a visit of every video to every node; return the seconds until all nodes know all."""
    visits, since = dict.fromkeys(named, 1), time.monotonic()
    with ThreadPoolExecutor(len(nodes)) as posting:
        list(posting.map(lambda one: fill(one.url, visits), nodes))
    least = len(nodes) * len(named)
    until(lambda: min(map(_shown, nodes)) >= least, PATIENCE, "every node knows all visits")
    return time.monotonic() - since


def _shown(one: Node) -> int:
    """The visits that a node shows in all."""
    return sum(member["visits"] for member in fetch(one.url, "/cluster")["members"])


def _agree(nodes: Sequence[Node], least: int) -> bool:
    shown = {_shown(one) for one in nodes}
    return len(shown) == 1 and min(shown) >= least


def _idle(cluster: Watch) -> float:
    """Return the KiB a second that an idle node sends."""
    # Several reports, which go out once a second.
    seconds, before = 2 * cluster.pace.seconds, cluster.sent()
    time.sleep(seconds)
    return (cluster.sent() - before) / len(cluster.nodes) / seconds / 1024


def _join(cluster: Watch, newcomer: Node, store: str, goal: Goal) -> list[Row]:
    """Start an empty node, while its peers are visited."""
    targets = [Target(one.name, [one.port], RATE, CONNECTIONS, paths(100)) for one in cluster.nodes]
    with Apart(OpenLoop, *targets) as visits:
        time.sleep(min(1.0, cluster.pace.seconds))
        visits.call("take")
        time.sleep(cluster.pace.seconds)
        usual = _slowest(visits)
        with cluster.phase(f"an empty node joins, {store}"):
            since = time.monotonic()
            newcomer.start()
            cluster.watch(newcomer)
            newcomer.wait_ready(PATIENCE)
            took = time.monotonic() - since
            meanwhile = _slowest(visits)
    say(f"    ready after {took:.1f} s; 99 % of visits within {meanwhile:.1f} ms, else {usual:.1f}")
    against = ("usual", usual, meanwhile / usual)
    return [
        Row(f"an empty node joins and is ready, {store}", took, "s", goal),
        Row(
            f"99 % of visits at its peers meanwhile, {store}",
            meanwhile,
            "ms",
            Goal(most=1.5),
            *against,
        ),
    ]


def _slowest(visits: Apart) -> float:
    """Return the milliseconds within which the slowest node answered 99 %."""
    outcomes = visits.call("take").values()
    assert not any(one.failures for one in outcomes), [one.statuses for one in outcomes]
    return float(max(one.within(99) for one in outcomes))


def _newcomers(
    cluster: Watch,
    folder: Path,
    settings: Mapping[str, str],
    named: Sequence[str],
    stack: ExitStack,
) -> list[Row]:
    """Have an empty node of each store join, start again, and leave for good."""
    redis = Redis(folder / "redis")
    start(stack, [redis])
    peers = {"PEERS": ",".join(one.url for one in cluster.nodes)}
    stores = {
        "SQLite": node(folder, "counter4", **settings, **peers),
        "Redis": node(folder, "counter5", REDIS_URI=redis.uri, **settings, **peers),
    }
    operated, rows = cluster.nodes[0], list[Row]()
    for store, newcomer in stores.items():
        stack.callback(newcomer.stop)
        rows += _join(cluster, newcomer, store, _JOIN)
        cluster.rest()
        rows += _restart(cluster, newcomer, store, named[0])
        cluster.rest()
        _remove(cluster, newcomer, operated)
    return rows


def _a_day_besides(
    cluster: Watch, folder: Path, named: Sequence[str], stack: ExitStack
) -> list[Row]:
    """Give all nodes a day of runs besides, and have an empty node join them."""
    weight, visits = _add_a_day(cluster, named)
    newcomer = node(folder, "counter6", **cluster.nodes[0].settings)
    stack.callback(newcomer.stop)
    rows = _join(cluster, newcomer, _WITH_A_DAY, _JOIN_WITH_A_DAY)
    until(lambda: _agree(cluster.nodes, visits), PATIENCE, "all nodes show the same")
    return [Row(f"{_DAY}, at rest", weight, "MB more"), *rows]


def _add_a_day(cluster: Watch, named: Sequence[str]) -> tuple[float, int]:
    """Give all nodes a day of hourly runs of each; return the MB these take, and all visits."""
    nodes = cluster.nodes
    before, visits = max(one.memory() for one in nodes), _shown(nodes[0])
    for one in nodes:
        cluster.leave(one)
        # Otherwise they would be folded.
        one.settings["FOLD_AFTER"] = str(7 * 24 * 3600)
    folders = [one.folder for one in nodes]
    latest, members = day.counted(folders)
    vectors = day.vectors_of(members, int(time.time() * 1000), latest)
    with ThreadPoolExecutor(len(nodes)) as adding:
        list(adding.map(lambda folder: day.add(folder, vectors, named), folders))
    visits += sum(sum(counts.values()) for member in members for counts in day.runs(named, member))
    for one in nodes:
        one.launch()
    for one in nodes:
        one.wait_ready(PATIENCE)
        cluster.watch(one)
    until(lambda: _agree(nodes, visits), PATIENCE, "all nodes show the runs of the day")
    cluster.rest()
    return (max(one.memory() for one in nodes) - before) / 1e6, visits


def _restart(cluster: Watch, one: Node, store: str, video: str) -> list[Row]:
    """Stop a node and start it again."""
    cluster.leave(one)
    with cluster.phase(f"a node starts again, {store}"):
        since = time.monotonic()
        one.launch()
        one.wait_until(lambda: get(one.port, f"/video/{video}", 15) == 200, "took no visit")
        visited = time.monotonic() - since
        cluster.watch(one)
        one.wait_ready(PATIENCE)
        ready = time.monotonic() - since
    say(f"    ready after {ready:.1f} s")
    return [
        Row(f"from a start to the first visit, {store}", visited, "s", Goal(most=2)),
        Row(f"from a start to ready, {store}", ready, "s", _READY[store.partition(",")[0]]),
    ]


def _remove(cluster: Watch, one: Node, operated: Node) -> None:
    """Stop a node for good, so that nobody waits for it when folding."""
    cluster.leave(one)
    members = fetch(operated.url, "/cluster")["members"]
    gone = next(member["member"] for member in members if member["name"] == one.name)

    def removed() -> bool:
        with Client(operated.url) as client:
            headers = {"Authorization": f"Bearer {_TOKEN}"}
            return client.ask("DELETE", f"/cluster/{gone}", headers)[0] == 200

    until(removed, 30, f"{gone} is removed")


def _repair(cluster: Watch, named: Sequence[str]) -> list[Row]:
    """Make a node miss a delta of some videos, and measure the repair."""
    _, writer, deaf = cluster.nodes
    lost = named[:: max(1, len(named) // LOST)][:LOST]
    times, sizes = [], []
    with cluster.phase("a lost delta is repaired"):
        for _ in range(cluster.pace.rounds):
            expected = sum(counted(deaf.url, lost).values()) + len(lost)
            post(deaf.url, "/dev/cut")
            for video in lost:
                assert get(writer.port, f"/video/{video}") == 200
            # More than PUBLISH_INTERVAL, less than makes a peer silent.
            time.sleep(0.5)
            sent, since = cluster.sent(), time.monotonic()
            post(deaf.url, "/dev/heal")
            until(partial(_holds, deaf, lost, expected), 30, "the lost visits are there")
            times.append(time.monotonic() - since)
            sizes.append((cluster.sent() - sent) / 1024)
            time.sleep(cluster.pace.seconds)
    return [
        Row(
            f"a lost delta of {len(lost)} videos is repaired within",
            median(times),
            "s",
            Goal(most=SYNC_INTERVAL + 0.5),
        ),
        Row("sent by all nodes for that", median(sizes), "KiB", Goal(most=256)),
    ]


def _holds(one: Node, videos: Sequence[str], visits: int) -> bool:
    return sum(counted(one.url, videos).values()) >= visits


def _folded(cluster: Watch) -> bool:
    time.sleep(0.5)
    return all(w.metrics()["counter_closed_runs"] == 0 for w in cluster.watched.values())


def main() -> int:
    """Measure and write. A goal that is not reached is shown and is no failure."""
    parser = argparse.ArgumentParser(prog="make million", description=__doc__)
    parser.add_argument("--videos", type=int, default=1_000_000, help="how many (1,000,000)")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the results go")
    asked = parser.parse_args()
    if asked.videos < LOST:
        parser.error(f"--videos: at least {LOST}")
    say(f"{asked.videos:,} videos ...")
    with tempfile.TemporaryDirectory(prefix="million-") as folder:
        part = measure(Path(folder), asked.videos, Rate())
    say(f"{text(part.rows)}\n{part.how}")
    write(asked.page, part)
    return 0


if __name__ == "__main__":
    with foreground(), suppress(KeyboardInterrupt):
        sys.exit(main())
