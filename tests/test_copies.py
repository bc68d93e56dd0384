"""Copies of a store beside the original, and stores rolled back, in real clusters under load.

A volume that was restored beside the one it was taken from makes two processes of one name and
store. Both mint runs of the same member, which the others close, and fold, in turns.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tools.servers import Node, free_port
from tools.visitors import Books, Traffic, Watcher, agree, fetch, until

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
def nodes(tmp_path: Path) -> Iterator[list[Node]]:
    """Three nodes on a full mesh that fold what was closed two seconds ago."""
    ports = [free_port() for _ in range(3)]
    settings = SETTINGS | {"PEERS": ",".join(f"http://127.0.0.1:{port}" for port in ports)}
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(
                Node(tmp_path / f"counter{number}", f"counter{number}", port, settings)
            )
            for number, port in enumerate(ports, 1)
        ]
        for node in nodes:
            node.wait_ready()
        yield nodes
        for node in nodes:
            assert "Traceback" not in node.log.read_text()


def look(node: Node) -> dict[str, Any]:
    return dict(fetch(node.url, "/cluster"))


def urls_of(nodes: list[Node]) -> list[str]:
    return [node.url for node in nodes]


def copy_of(node: Node, folder: Path) -> Path:
    """The store of a node that does not run, once more."""
    return Path(shutil.copytree(node.folder, folder, ignore=shutil.ignore_patterns("log")))


def closed_runs(nodes: list[Node]) -> int:
    return max(int(look(node)["folding"]["closed_runs"]) for node in nodes)


def folds(nodes: list[Node]) -> int:
    return sum(int(look(node)["folding"]["folds"]) for node in nodes)


def right_everywhere(nodes: list[Node], books: Books) -> None:
    """Every node shows the same, which is right, now and when everything is folded."""
    urls = urls_of(nodes)
    with Watcher(urls, VIDEOS) as watcher:
        agree(urls, books, PATIENCE)
        until(lambda: closed_runs(nodes) == 0, PATIENCE, "all runs that ended are folded")
        agree(urls, books, 5)
    assert watcher.falls == []
    # Nor does any of them forget it: that would be seen only after a restart.
    for node in nodes:
        node.kill()
        node.launch()
    for node in nodes:
        node.wait_ready()
    agree(urls, books, PATIENCE)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("restarted", ["the copy", "the original", "both in turn"])
def test_a_copy_that_is_restarted_beside_the_original_neither_loses_nor_doubles(
    nodes: list[Node], tmp_path: Path, stack: ExitStack, restarted: str
) -> None:
    first, others, books = nodes[0], nodes[1:], Books()
    traffic = Traffic(urls_of(nodes), books, videos=len(VIDEOS), visitors=6, pause=0.02)
    with Watcher(urls_of(others), VIDEOS) as watcher, traffic:
        traffic.more(100)
        first.kill()
        copy = Node(copy_of(first, tmp_path / "copy"), first.name, None, first.settings)
        stack.callback(copy.kill)
        copy.launch()
        first.start()
        copy.wait()
        copied = Traffic([copy.url], books, videos=len(VIDEOS), visitors=2, pause=0.02, seed=2)
        with copied:
            for life in range(LIVES):
                began, before = time.monotonic(), folds(others)
                traffic.more(100)
                until(
                    lambda: time.monotonic() - began > LIFE or folds(others) > before,  # noqa: B023
                    PATIENCE,
                    "the life is over",
                )
                victims = {"the copy": copy, "the original": first}
                victim = victims.get(restarted) or (first, copy)[life % 2]
                victim.kill()
                victim.start()
            copied.more(50)
        traffic.more(100)
        traffic.stop()
    assert watcher.falls == []
    agree(urls_of([*nodes, copy]), books, PATIENCE)
    copy.stop()
    right_everywhere(nodes, books)
