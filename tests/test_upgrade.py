"""From versions before: their stores open here, and both run side by side, by their own code.

That code is packed in tests/previous (see lab/previous.py), so that their nodes are real ones.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lab.clients import (
    Books,
    Client,
    Posters,
    Posts,
    Traffic,
    Watcher,
    agree,
    counted,
    fetch,
    until,
)
from lab.previous import ARCHIVE, OLDER, unpack
from lab.servers import ROOT, Node, RabbitMQ, Redis, free_port
from tests.test_visit_log import line

pytestmark = pytest.mark.proof

BESIDE = float(os.environ.get("BESIDE", "2"))
"""Seconds for which both versions run side by side, before the last node is replaced."""
SETTINGS = {"MESSAGE_TTL": "0.5", "SYNC_INTERVAL": "0.1", "FOLD_AFTER": "1", "DRAIN_TIME": "0"}
PATIENCE = 40.0
VIDEOS = [f"video-{number}" for number in range(20)]
POSTED = [f"posted-{number}" for number in range(3)]
FOLLOWER, GONE, SERVED = "follower", "gone", "served"
"""Three nodes: one follows a visit log, one is stopped early, one has its store in Redis."""


def visit(node: Node, videos: list[str], times: int = 1) -> Counter[str]:
    with Client(node.url) as client:
        for video in videos * times:
            assert client.get(f"/video/{video}")[0] == 200
    return Counter(videos * times)


def post(node: Node, video: str, key: str, visits: int = 2) -> int:
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    body = f'[{{"video": "{video}", "count": {visits}}}]'.encode()
    with Client(node.url) as client:
        return client.ask("POST", "/visits", headers, body)[0]


def look(node: Node) -> dict[str, Any]:
    return dict(fetch(node.url, "/cluster"))


def folding(node: Node) -> tuple[int, int]:
    """How many closed runs wait at a node, and how often it has folded."""
    told = look(node)["folding"]
    return int(told["closed_runs"]), int(told["folds"])


def counters(node: Node, videos: list[str]) -> dict[str, dict[str, int]]:
    """What a node shows of each video, by member."""
    with Client(node.url) as client:
        return {video: client.json(f"/count/{video}")["counts"] for video in videos}


def members(node: Node) -> dict[str, tuple[int, int]]:
    """Of each member: its visits, and how many of them are folded."""
    return {each["member"]: (each["visits"], each["folded"]) for each in look(node)["members"]}


def show(nodes: list[Node], expected: Counter[str]) -> bool:
    return all(counted(node.url, list(expected)) == expected for node in nodes)


class Before:
    """Stores that three nodes of the version before have left behind.

    In them are folded vectors, closed runs, keys, and how far a visit log was read.
    """

    def __init__(self, folder: Path, root: Path, redis: Redis, stack: ExitStack) -> None:
        ports = [free_port() for _ in range(3)]
        self.settings = SETTINGS | {"PEERS": ",".join(f"http://127.0.0.1:{port}" for port in ports)}
        self.log = folder / "counter1.log"
        self.expected: Counter[str] = Counter()
        own = {FOLLOWER: {"VISIT_LOG": str(self.log)}, GONE: {}, SERVED: {"REDIS_URI": redis.uri}}
        self.nodes = {
            name: Node(folder / name, name, port, self.settings | own[name], root=root)
            for name, port in zip(own, ports, strict=True)
        }
        for node in self.nodes.values():
            stack.callback(node.kill)
        self._write()
        for node in self.nodes.values():
            node.stop()

    def _write(self) -> None:
        nodes = list(self.nodes.values())
        self.beacons(10)
        for node in nodes:
            node.launch()
        for node in nodes:
            node.wait_ready()
        for _ in range(2):
            for node in nodes:
                self.expected += visit(node, VIDEOS, 2)
            until(partial(show, nodes, self.expected), PATIENCE, "all agree")
            for node in nodes:
                node.kill()
                node.start()
                node.wait_ready()
            until(lambda: all(folding(node)[0] == 0 for node in nodes), PATIENCE, "all is folded")
        for node, video in zip(nodes, POSTED, strict=True):
            assert post(node, video, f"key-of-{video}") == 200
            self.expected[video] += 2
        self.beacons(10)
        until(partial(show, nodes, self.expected), PATIENCE, "all agree")
        # From here on nothing is folded any more: somebody is missing.
        self.nodes[GONE].stop()
        rest = [self.nodes[FOLLOWER], self.nodes[SERVED]]
        for node in rest:
            self.expected += visit(node, VIDEOS)
            node.kill()
            node.start()
            node.wait_ready()
            self.expected += visit(node, VIDEOS)
        until(lambda: all(folding(node)[0] >= 2 for node in rest), PATIENCE, "runs are closed")
        until(partial(show, rest, self.expected), PATIENCE, "both agree")
        assert all(folded > 0 for _, folded in members(rest[0]).values())
        self.counters = {node.name: counters(node, list(self.expected)) for node in rest}
        self.members = {node.name: members(node) for node in rest}
        self.closed = {node.name: folding(node)[0] for node in rest}

    def beacons(self, number: int) -> None:
        """Write so many lines more into the visit log, which are to be counted."""
        written = self.expected["beacon"]
        with self.log.open("a") as log:
            log.writelines(line("beacon", written + n) for n in range(number))
        self.expected["beacon"] += number


@pytest.fixture(scope="module", params=[ARCHIVE, OLDER], ids=["the version before", "an older one"])
def version_before(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Path:
    """The folder with the code of a version before this one."""
    return unpack(tmp_path_factory.mktemp(request.param.name.partition(".")[0]), request.param)


def folds_beside_this_one(root: Path) -> bool:
    """Whether that version goes on folding while both run: the older one cannot."""
    return not root.name.startswith("older")


@contextmanager
def written_before(folder: Path, root: Path) -> Iterator[Before]:
    with ExitStack() as stack, Redis(folder / "redis") as redis:
        yield Before(folder, root, redis, stack)


@pytest.mark.parametrize("name", [FOLLOWER, SERVED], ids=["SQLite", "Redis"])
def test_a_store_of_a_version_before_holds_all_that_it_held(
    tmp_path: Path, version_before: Path, name: str
) -> None:
    with written_before(tmp_path, version_before) as before:
        node = before.nodes[name]
        node.root = ROOT
        node.settings["PEERS"] = ""
        node.start()
        node.wait_ready()
        assert counters(node, list(before.expected)) == before.counters[name]
        shown = members(node)
        assert shown == before.members[name]
        # Alone it folds nothing, and what had ended before still rests under its name.
        assert folding(node) == (before.closed[name] + 1, 0)
        for video in POSTED:
            assert post(node, video, f"key-of-{video}") == 200
            assert post(node, video, f"key-of-{video}", visits=3) == 422
        if name == FOLLOWER:
            until(lambda: look(node)["log"]["unread"] == 0, PATIENCE, "the log is read")
            assert show([node], before.expected)
            before.beacons(5)
        before.expected += visit(node, VIDEOS)
        until(partial(show, [node], before.expected), PATIENCE, "it counts on")
        node.kill()
        node.start()
        node.wait_ready()
        assert show([node], before.expected)


def test_a_cluster_of_a_version_before_starts_again_as_this_one_and_folds(
    tmp_path: Path, version_before: Path
) -> None:
    with written_before(tmp_path, version_before) as before:
        nodes = list(before.nodes.values())
        for node in nodes:
            node.root = ROOT
            node.launch()
        for node in nodes:
            node.wait_ready()
        until(partial(show, nodes, before.expected), PATIENCE, "all agree")
        for node in nodes:
            before.expected += visit(node, VIDEOS)
        until(partial(show, nodes, before.expected), PATIENCE, "all agree")
        until(lambda: all(folding(n)[0] == 0 for n in nodes), PATIENCE, "all runs are folded")
        assert show(nodes, before.expected)
        for node in nodes:
            assert folding(node)[1] > 0


MESH, BROKER = "mesh and SQLite", "RabbitMQ and Redis"


@pytest.fixture
def make_nodes(
    tmp_path: Path, version_before: Path, request: pytest.FixtureRequest, stack: ExitStack
) -> Callable[[str], list[Node]]:
    """Three nodes of the version before, not started."""

    def make(kind: str) -> list[Node]:
        ports = [free_port() for _ in range(3)]
        settings = SETTINGS | {"MESSAGE_TTL": "1", "SYNC_INTERVAL": "0.2", "DRAIN_TIME": "0.3"}
        if kind == BROKER:
            broker: RabbitMQ = request.getfixturevalue("rabbitmq_server")
            redis = stack.enter_context(Redis(tmp_path / "redis"))
            settings |= {"AMQP_URI": broker.uri, "REDIS_URI": redis.uri}
        else:
            settings["PEERS"] = ",".join(f"http://127.0.0.1:{port}" for port in ports)
        nodes = [
            Node(tmp_path / f"up{n}", f"up{n}", port, settings, root=version_before)
            for n, port in enumerate(ports, 1)
        ]
        for node in nodes:
            stack.callback(node.stop)
        return nodes

    return make


# Alone, for a message may live a second: see test_restarts.py.
@pytest.mark.timeout(240 + 2 * BESIDE)
@pytest.mark.parametrize("kind", [MESH, BROKER])
def test_a_rolling_restart_from_a_version_before_is_exact(
    make_nodes: Callable[[str], list[Node]], kind: str
) -> None:
    nodes = make_nodes(kind)
    for node in nodes:
        node.launch()
    for node in nodes:
        node.wait_ready()
    urls, books, posts = [node.url for node in nodes], Books(), Posts()
    closed: Counter[str] = Counter()

    beside_folds = folds_beside_this_one(nodes[0].root)

    def nothing_folded() -> None:
        for node in nodes if not beside_folds else ():
            runs, folds = folding(node)
            assert folds == 0, f"{node.name} has folded beside the other version"
            assert runs >= closed[node.name], f"{node.name} has fewer closed runs than before"
            closed[node.name] = runs

    with Watcher(urls, VIDEOS) as watcher:
        traffic = Traffic(urls, books, videos=len(VIDEOS), visitors=6, pause=0.02)
        with traffic, Posters(urls, posts, visitors=2, pause=0.05):
            for number, node in enumerate(nodes):
                traffic.more(100)
                nothing_folded()
                assert node.stop() == 0
                node.root = ROOT
                closed[node.name] = 0
                if number < len(nodes) - 1:
                    node.start()
                    node.wait_ready()
                    beside = time.monotonic()
                    while time.monotonic() - beside < BESIDE / (len(nodes) - 1):
                        traffic.more(20)
                        nothing_folded()
            node.start()
            node.wait_ready()
            traffic.more(100)
            traffic.stop()
        agree(urls, books, PATIENCE)
        acknowledged = {post.video: post.visits for post in posts.all if post.acknowledged}
        for url in urls:
            until(
                lambda url=url: counted(url, list(acknowledged)) == acknowledged,  # type: ignore[misc]
                PATIENCE,
                f"{url} shows what was posted, once",
            )
        until(lambda: all(folding(n)[0] == 0 for n in nodes), PATIENCE, "all runs are folded")
        agree(urls, books, 5)
    assert watcher.falls == []
    shown = counted(urls[0], [post.video for post in posts.all])
    assert posts.lost(shown) == 0
    assert posts.counted_again(shown) == (0, 0)
    assert posts.wrong == []
    for node in nodes:
        assert folding(node)[1] > 0, "folding goes on"
        assert "Traceback" not in node.log.read_text()
