"""Many restarts of every node, under traffic, with a page open: what must not grow, or fall.

A few of them in `make test`; `make restarts` does a hundred of each node, and prints a table.
"""

import os
import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import redis
from playwright.sync_api import Browser

from lab.clients import Books, Traffic, Watcher, agree, fetch, until
from lab.cluster import Cluster
from lab.servers import Node, Redis
from tests.test_page import Tab

RESTARTS = int(os.environ.get("RESTARTS", "3"))
"""How often each node is restarted."""
TOGETHER = 5
"""After so many restarts of each node there is time to fold."""
VIDEOS = [f"video-{number}" for number in range(50)]
MAX_ENTRIES = 6
"""For three members: one folded vector and one run each."""
FOLDED = 60.0
"""Seconds within which everything is folded; it takes about three times `MESSAGE_TTL`."""


class Seen(NamedTuple):
    """What there is when everything is folded, after so many restarts of each node."""

    restarts: int
    runs_before: int
    store: int
    memory: float

    def line(self) -> str:
        return f"{self.restarts:8} {self.runs_before:16} {self.store:18} {self.memory:17.1f}"


@pytest.fixture
def nodes(tmp_path: Path, redis_server: Redis, stack: ExitStack) -> list[Node]:
    """Three nodes on a full mesh, two of them with SQLite, one with Redis."""
    settings = {
        "MESSAGE_TTL": "0.5",
        "FOLD_AFTER": "0.5",
        "SYNC_INTERVAL": "0.1",
        "DRAIN_TIME": "0.1",
    }
    return Cluster(
        tmp_path,
        stack,
        ["sqlite", "sqlite", "redis"],
        redis=redis_server,
        settings=settings,
        own=[{"NAME": f"restarted{number}"} for number in (1, 2, 3)],
        killed=True,
    ).nodes


def restart(node: Node, number: int) -> None:
    """By kill and by SIGTERM in turn."""
    if number % 2:
        node.kill()
    else:
        assert node.stop() == 0
    node.start()
    node.wait_ready()


def unfolded(nodes: list[Node]) -> int:
    """The most runs that wait to be folded, by any node's account."""
    return max(int(fetch(node.url, "/cluster")["folding"]["closed_runs"]) for node in nodes)


def all_folded(nodes: list[Node]) -> bool:
    return unfolded(nodes) == 0


def in_store(node: Node, client: "redis.Redis") -> dict[str, int]:
    """How many entries each video has in the store of a node."""
    entries: dict[str, int] = {}
    if "REDIS_URI" in node.settings:
        for key in client.scan_iter(f"counter:{node.name}:vector:*"):
            for video in map(str, client.hkeys(key)):
                entries[video] = entries.get(video, 0) + 1
        return entries
    with closing(sqlite3.connect(node.folder / "counter.sqlite")) as db:
        return dict(db.execute("SELECT video, count(*) FROM counts GROUP BY video"))


def most_in(nodes: list[Node], client: "redis.Redis") -> int:
    """The most entries that any video has in any store."""
    return max(max(in_store(node, client).values()) for node in nodes)


def in_memory(node: Node) -> int:
    """How many entries a video may have in the memory of a node: its vectors."""
    members = fetch(node.url, "/cluster")["members"]
    return sum(member["runs"] + (member["folded"] > 0) for member in members)


def resident(node: Node) -> float:
    """MB of memory of the node's worker process."""
    worker = node.processes()[1]
    [kilobytes] = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{worker}/status").read_text())
    return int(kilobytes) / 1024


# Alone, for a message may live half a second. Beside other workers none arrives in time; a node
# that is restarted then hears nobody, and after JOIN_TIMEOUT shows what its own store holds.
@pytest.mark.proof
@pytest.mark.timeout(300 + 20 * RESTARTS)
def test_counters_stay_small_and_exact_however_often_nodes_restart(
    nodes: list[Node], redis_server: Redis, browser: Browser
) -> None:
    books, urls, seen = Books(), [node.url for node in nodes], list[Seen]()
    with (
        closing(redis.Redis.from_url(redis_server.uri)) as client,
        ThreadPoolExecutor(len(nodes)) as pool,
        Watcher(urls, VIDEOS) as watcher,
    ):
        tab = Tab(browser.new_page())
        tab.open(f"{urls[0]}/video/{VIDEOS[0]}")
        books.note(VIDEOS[0], 200)
        with Traffic(urls, books, videos=len(VIDEOS), visitors=6, pause=0.02) as traffic:
            for number in range(1, RESTARTS + 1):
                if number % 3 == 0:
                    list(pool.map(partial(restart, number=number), nodes))
                else:
                    for node in nodes:
                        restart(node, number)
                if number % TOGETHER == 0 or number == RESTARTS:
                    waiting = unfolded(nodes)
                    until(partial(all_folded, nodes), FOLDED, "all runs that ended are folded")
                    assert max(in_memory(node) for node in nodes) <= MAX_ENTRIES
                    # The rows of what was folded are deleted with the writes that follow.
                    until(lambda: most_in(nodes, client) <= MAX_ENTRIES, 10, "no more in a store")
                    memory = max(resident(node) for node in nodes)
                    seen.append(Seen(number, waiting, most_in(nodes, client), memory))
            traffic.stop()
        agree(urls, books, 10)
        tab.page.wait_for_function(
            "number => window.shown.at(-1) === number",
            arg=fetch(urls[1], f"/count/{VIDEOS[0]}")["visits"],
        )
        numbers = tab.shown()
        watcher_reads = watcher.reads
    assert numbers == sorted(numbers), "the page never showed a smaller number"
    assert len(numbers) > RESTARTS
    assert watcher.falls == []
    assert seen[-1].memory < 1.1 * seen[0].memory + 1.0
    for node in nodes:
        assert "Traceback" not in node.log.read_text()
    print("\nrestarts  unfolded before  most in any store  largest node (MB)")
    for each in seen:
        print(each.line())
    print(
        f"{sum(books.acknowledged.values())} visits acknowledged, all counted once; "
        f"{len(numbers)} numbers on the page, {watcher_reads} reads, none fell"
    )
