"""Copies of a store beside the original, and a store rolled back, in real clusters under load.

A volume that was restored beside the one it was taken from makes two processes of one name and
store. Both mint runs of the same member, and what one holds for ended is live in the other.
"""

import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lab.clients import Books, Traffic, Watcher, agree, fetch, until
from lab.clock import HOUR, Clock
from lab.servers import Node, Redis, free_port

pytestmark = pytest.mark.proof

SETTINGS = {
    "MESSAGE_TTL": "1",
    "SYNC_INTERVAL": "0.3",
    "FOLD_AFTER": "2",
    "DRAIN_TIME": "0",
}
VIDEOS = [f"video-{number}" for number in range(5)]
"""Few, so that every one of them is counted by every run."""
LIVES = 4
"""How often one of the two is killed and started."""
LIFE = 5.0
"""Seconds of each life: long enough for what ended before it to be closed, and folded."""
PATIENCE = 40.0
"""Seconds that a condition has; most are met within five."""


@pytest.fixture
def nodes(tmp_path: Path, stack: ExitStack) -> list[Node]:
    """Three nodes on a full mesh that fold what was closed two seconds ago, not started."""
    ports = [free_port() for _ in range(3)]
    settings = SETTINGS | {"PEERS": ",".join(f"http://127.0.0.1:{port}" for port in ports)}
    nodes = [
        Node(tmp_path / f"counter{number}", f"counter{number}", port, settings)
        for number, port in enumerate(ports, 1)
    ]
    for node in nodes:
        stack.callback(node.kill)
    return nodes


def start(nodes: list[Node]) -> None:
    for node in nodes:
        node.launch()
    for node in nodes:
        node.wait_ready()


def look(node: Node) -> dict[str, Any]:
    return dict(fetch(node.url, "/cluster"))


def urls_of(nodes: list[Node]) -> list[str]:
    return [node.url for node in nodes]


def copied(folder: Path, target: Path) -> Path:
    """The files of a server that does not run, once more."""
    return Path(shutil.copytree(folder, target, ignore=shutil.ignore_patterns("log")))


def twin_of(node: Node, redis: Redis | None, folder: Path, stack: ExitStack) -> Node:
    """Another node of this name, not started, on a copy of its store; it does not run.

    A copy of what lies in Redis is another Redis: in the same one it would have another name.
    """
    if redis is None:
        return Node(copied(node.folder, folder), node.name, None, node.settings)
    redis.stop()
    copy = stack.enter_context(Redis(copied(redis.folder, folder / "redis")))
    redis.start()
    return Node(folder / "node", node.name, None, node.settings | {"REDIS_URI": copy.uri})


def closed_runs(nodes: list[Node]) -> int:
    return max(int(look(node)["folding"]["closed_runs"]) for node in nodes)


def folds(nodes: list[Node]) -> int:
    return sum(int(look(node)["folding"]["folds"]) for node in nodes)


def live_on(traffic: Traffic, nodes: list[Node]) -> None:
    """Let traffic go on until these nodes have folded something, or might have long ago."""
    began, before = time.monotonic(), folds(nodes)
    traffic.more(100)
    until(
        lambda: time.monotonic() - began > LIFE or folds(nodes) > before,
        PATIENCE,
        "the life is over",
    )


def right_everywhere(nodes: list[Node], books: Books) -> None:
    """Every node shows the same, which is right: now, when all is folded, and after a restart."""
    urls = urls_of(nodes)
    agree(urls, books, PATIENCE)
    # Its run may sort before others that have ended, which cannot be folded while it lives.
    nodes[0].kill()
    nodes[0].start()
    nodes[0].wait_ready()
    with Watcher(urls, VIDEOS) as watcher:
        agree(urls, books, PATIENCE)
        until(lambda: closed_runs(nodes) == 0, PATIENCE, "all runs that ended are folded")
        agree(urls, books, 5)
    assert watcher.falls == []
    for node in nodes:
        node.kill()
    start(nodes)
    agree(urls, books, PATIENCE)
    for node in nodes:
        assert "Traceback" not in node.log.read_text()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("store", ["SQLite", "Redis"])
@pytest.mark.parametrize("restarted", ["the copy", "the original", "both in turn"])
def test_a_copy_that_is_restarted_beside_the_original_neither_loses_nor_doubles(
    nodes: list[Node], tmp_path: Path, stack: ExitStack, restarted: str, store: str
) -> None:
    first, others, books = nodes[0], nodes[1:], Books()
    redis = None
    if store == "Redis":
        redis = stack.enter_context(Redis(tmp_path / "redis"))
        first.settings["REDIS_URI"] = redis.uri
    start(nodes)
    traffic = Traffic(urls_of(nodes), books, videos=len(VIDEOS), visitors=6, pause=0.05)
    with Watcher(urls_of(others), VIDEOS) as watcher, traffic:
        traffic.more(100)
        first.kill()
        twin = twin_of(first, redis, tmp_path / "twin", stack)
        stack.callback(twin.kill)
        twin.launch()
        first.start()
        twin.wait()
        with Traffic([twin.url], books, videos=len(VIDEOS), visitors=2, pause=0.05, seed=2) as more:
            for life in range(LIVES):
                live_on(traffic, others)
                victims = {"the copy": twin, "the original": first}
                victim = victims.get(restarted) or (first, twin)[life % 2]
                victim.kill()
                victim.start()
            more.more(50)
        traffic.more(100)
        traffic.stop()
    assert watcher.falls == []
    agree(urls_of([*nodes, twin]), books, PATIENCE)
    twin.stop()
    right_everywhere(nodes, books)


@pytest.mark.timeout(300)
def test_a_run_that_sorts_before_one_that_others_know_neither_loses_nor_doubles(
    nodes: list[Node], tmp_path: Path
) -> None:
    """The store is rolled back, and all clocks are set back: others hold the new run for ended."""
    first, others, books = nodes[0], nodes[1:], Books()
    clock = Clock(tmp_path / "clock")
    for node in nodes:
        node.settings |= clock.environment
    start(nodes)
    with Traffic(urls_of(nodes), books, videos=len(VIDEOS), visits=200) as traffic:
        traffic.join()
    assert first.stop() == 0
    older = copied(first.folder, tmp_path / "older")
    # Lives that the older store does not know: for all who know the last, the others have ended.
    for life in range(3):
        first.start()
        first.wait_ready()
        with Traffic(
            urls_of(nodes), books, videos=len(VIDEOS), visits=60, seed=2 + life
        ) as traffic:
            traffic.join()
        assert first.stop() == 0
    for node in nodes:
        node.kill()
    clock.set(-HOUR)
    for file in first.folder.glob("counter.sqlite*"):
        file.unlink()
    for file in older.glob("counter.sqlite*"):
        shutil.copy(file, first.folder)
    start(nodes)
    traffic = Traffic(urls_of(nodes), books, videos=len(VIDEOS), visitors=6, pause=0.05, seed=9)
    with Watcher(urls_of(others), VIDEOS) as watcher, traffic:
        for _ in range(LIVES):
            live_on(traffic, others)
    assert watcher.falls == []
    right_everywhere(nodes, books)
