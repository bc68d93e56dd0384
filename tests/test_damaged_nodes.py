"""Real nodes whose stores were damaged while they were down: exact by their peers, or told."""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import pytest
import redis

from lab.clients import Client, fetch, until
from lab.servers import Node, Redis, free_port

VIDEOS = [f"video-{number}" for number in range(8)]
PATIENCE = 30.0
"""Seconds that a condition has; most are met within two."""


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.proof)])
def nodes(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: Redis
) -> Iterator[list[Node]]:
    """Three nodes of a mesh, each with visits in two runs, the first of which is closed."""
    ports = [free_port() for _ in range(3)]
    settings = {
        "PEERS": ",".join(f"http://127.0.0.1:{port}" for port in ports),
        "MESSAGE_TTL": "1",
        "SYNC_INTERVAL": "0.2",
        "JOIN_TIMEOUT": "2",
        "DRAIN_TIME": "0",
    }
    test = request.node.originalname[5:15].strip("_")
    names = [f"{test}-{request.param}-{number}" for number in range(3)]
    if request.param == "redis":
        settings["REDIS_URI"] = redis_server.uri
    with ExitStack() as stack:
        nodes = [
            Node(tmp_path / name, name, port, settings)
            for name, port in zip(names, ports, strict=True)
        ]
        for run in (1, 2):
            for node in nodes:
                stack.callback(node.kill)
                node.launch()
            for node in nodes:
                node.wait_ready()
                visit(node)
            # Equal is not enough: before they hear each other, all three show one visit more.
            counted = [3 * run] * len(VIDEOS)
            for node in nodes:
                until(partial(shows, node, counted), PATIENCE, "every visit at every node")
            if run == 1:
                for node in nodes:
                    node.stop()
        yield nodes
        for node in nodes:
            assert "Traceback" not in node.log.read_text()


def visit(node: Node) -> None:
    """Every video once, the first ones more often at later nodes."""
    with Client(node.url) as client:
        for video in VIDEOS:
            assert client.get(f"/video/{video}")[0] == 200


def shown(node: Node) -> list[int]:
    counters = fetch(node.url, "/counts?" + "&".join(f"video={video}" for video in VIDEOS))
    return [int(counter["visits"]) for counter in counters["counters"]]


def shows(node: Node, numbers: list[int]) -> bool:
    return shown(node) == numbers


def warnings(node: Node) -> str:
    return "\n".join(fetch(node.url, "/cluster")["warnings"])


def damage(node: Node) -> None:
    """Raise two counts of each vector in the store of a node that is down: none is provable."""
    if "REDIS_URI" in node.settings:
        with closing(redis.Redis.from_url(node.settings["REDIS_URI"])) as client:
            for key in client.scan_iter(f"counter:{node.name}:vector:*"):
                for video in VIDEOS[:2]:
                    if client.hexists(key, video):
                        client.hincrby(key, video, 1000)
        return
    with closing(sqlite3.connect(node.folder / "counter.sqlite")) as db, db:
        changed = db.execute(
            "UPDATE counts SET count = count + 1000 WHERE video IN (?, ?)", VIDEOS[:2]
        )
        assert changed.rowcount >= 4


def test_counts_that_are_not_as_they_were_written_are_asked_of_the_peers(
    nodes: list[Node],
) -> None:
    before = shown(nodes[0])
    nodes[0].stop()
    damage(nodes[0])
    nodes[0].launch()
    nodes[0].wait_ready()
    assert shown(nodes[0]) == before
    assert "damaged" in warnings(nodes[0])
    assert "store.damaged" in nodes[0].log.read_text()
    visit(nodes[0])
    more = [visits + 1 for visits in before]
    for node in nodes:
        until(partial(shows, node, more), PATIENCE, "exact at every node")
    # What is stored now is what is shown: the next start has nothing to say.
    nodes[0].stop()
    nodes[0].launch()
    nodes[0].wait_ready()
    assert shown(nodes[0]) == more
    assert "damaged" not in warnings(nodes[0])


@pytest.mark.proof
def test_they_are_not_used_while_a_member_that_may_hold_them_is_not_heard(
    nodes: list[Node],
) -> None:
    before = shown(nodes[0])
    for node in nodes:
        node.stop()
    damage(nodes[0])
    nodes[0].launch()
    nodes[0].wait_ready()
    assert all(now <= then for now, then in zip(shown(nodes[0]), before, strict=True))
    assert "counts in doubt" in warnings(nodes[0])
    assert "not used before all members were asked" in warnings(nodes[0])
    for node in nodes[1:]:
        node.launch()
    for node in nodes[1:]:
        node.wait_ready()
    for node in nodes:
        until(partial(shows, node, before), PATIENCE, "exact at every node")
    until(lambda: "not used" not in warnings(nodes[0]), PATIENCE, "nothing is in doubt any more")


def test_alone_it_uses_them_and_no_vector_is_more_than_was_written(
    tmp_path: Path, stack: ExitStack
) -> None:
    node = Node(tmp_path / "alone", "alone", free_port(), {"DRAIN_TIME": "0"})
    stack.callback(node.kill)
    for _ in range(2):
        node.launch()
        node.wait_ready()
        visit(node)
        before = shown(node)
        node.stop()
    damage(node)
    node.launch()
    node.wait_ready()
    after = shown(node)
    assert sum(after) <= sum(before), "two rows are in doubt, and none may make the total larger"
    assert after[2:] == before[2:]
    assert "counts in doubt" in warnings(node)
    # It is not said again, and no number changes any more.
    node.stop()
    node.launch()
    node.wait_ready()
    assert shown(node) == after
    assert warnings(node) == ""


def test_a_log_is_not_counted_again_where_its_position_was_lost(
    tmp_path: Path, stack: ExitStack
) -> None:
    log = tmp_path / "logs" / "visits.log"
    log.parent.mkdir()
    log.write_text("".join(f"{1_700_000_000 + n}.123 1.{n} video-0\n" for n in range(1000)))
    node = Node(
        tmp_path / "follows", "follows", free_port(), {"DRAIN_TIME": "0", "VISIT_LOG": str(log)}
    )
    stack.callback(node.kill)
    node.launch()
    node.wait_ready()
    until(partial(counts, node, 1000), PATIENCE, "all lines are counted")
    node.stop()
    with closing(sqlite3.connect(node.folder / "counter.sqlite")) as db, db:
        changed = db.execute(
            "UPDATE facts SET fact = replace(fact, ':', ';') WHERE name LIKE 'log:%'"
        )
        assert changed.rowcount == 1
    node.launch()
    node.wait_ready()
    until(lambda: "log.lost" in node.log.read_text(), PATIENCE, "it is told")
    with log.open("a") as more:
        more.writelines(f"{1_800_000_000 + n}.123 1.{n} video-0\n" for n in range(5))
    until(partial(counts, node, 1005), PATIENCE, "what is written from now on is counted")


def counts(node: Node, visits: int) -> bool:
    return shown(node)[0] == visits


def test_a_database_that_was_emptied_is_not_taken_for_a_new_one_in_silence(
    tmp_path: Path, stack: ExitStack
) -> None:
    node = Node(tmp_path / "emptied", "emptied", free_port(), {"DRAIN_TIME": "0"})
    stack.callback(node.kill)
    node.launch()
    node.wait_ready()
    visit(node)
    node.stop()
    for path in node.folder.glob("counter.sqlite*"):
        path.unlink()
    (node.folder / "counter.sqlite").touch()
    node.launch()
    node.wait_ready()
    assert "the file, which was empty" in warnings(node)
    visit(node)
    assert shown(node) == [1] * len(VIDEOS)
