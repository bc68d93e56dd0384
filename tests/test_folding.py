"""Folding, and removing a member, in whole clusters of real processes."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from counter.cli.cluster import cluster
from lab.clients import Client, fetch, until
from lab.servers import Node
from tests.nodes import mesh

TOKEN = "only-for-tests"
PATIENCE = 40.0
"""Seconds that a condition has; most are met within two."""


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Node]]:
    """Three nodes whose messages live for half a second, so that folding takes little more."""
    settings = {
        "MESSAGE_TTL": "0.5",
        "FOLD_AFTER": "0.5",
        "SYNC_INTERVAL": "0.1",
        "DEV_MODE": "1",
        "ADMIN_TOKEN": TOKEN,
    }
    with mesh(tmp_path, 3, **settings) as nodes:
        yield nodes


def look(node: Node) -> dict[str, Any]:
    return dict(fetch(node.url, "/cluster"))


def entry(node: Node, member: str) -> dict[str, Any]:
    """A member as a node sees it."""
    [entry] = [each for each in look(node)["members"] if each["member"] == member]
    return dict(entry)


def visit(node: Node, times: int) -> None:
    with Client(node.url) as client:
        for _ in range(times):
            assert client.get("/video/cats")[0] == 200


def visits(node: Node) -> int:
    return int(fetch(node.url, "/count/cats")["visits"])


def all_show(nodes: list[Node], number: int) -> bool:
    return all(visits(node) == number for node in nodes)


def remove(node: Node, member: str) -> Result:
    asked = ["remove", member, "--url", node.url, "--token", TOKEN]
    return CliRunner().invoke(cluster, asked, "y\n")


def all_folded(nodes: list[Node]) -> bool:
    return all(
        shown["folding"]["closed_runs"] == 0 and shown["folding"]["waits_for"] == []
        for shown in map(look, nodes)
    )


def metrics(node: Node) -> str:
    with Client(node.url) as client:
        return client.get("/metrics")[1].decode()


def test_runs_of_a_node_that_restarts_are_folded_into_one(nodes: list[Node]) -> None:
    first, second, _ = nodes
    member = look(second)["member"]
    for restarts in range(3):
        visit(second, 5)
        until(partial(all_show, nodes, 5 * restarts + 5), PATIENCE, "all have it")
        second.kill()
        second.start()
        second.wait_ready()
    visit(second, 1)
    until(lambda: all_show(nodes, 16), PATIENCE, "all have it")
    until(lambda: all_folded(nodes), PATIENCE, "the ended runs are folded")
    for node in nodes:
        assert visits(node) == 16
        assert entry(node, member)["runs"] == 1
        assert look(node)["folding"]["folds"] >= 1
        assert look(node)["warnings"] == []
    assert fetch(first.url, "/count/cats")["counts"] == {member: 16}


@pytest.mark.proof
def test_an_earlier_life_delays_folding_until_it_is_removed_and_may_return(
    nodes: list[Node], tmp_path: Path
) -> None:
    first, second, third = nodes
    earlier = look(second)["member"]
    for node in nodes:
        visit(node, 10)
    until(lambda: all_show(nodes, 30), PATIENCE, "all have it")

    # Its store is lost, with three visits that nobody else has heard of.
    call(second, "/dev/cut")
    visit(second, 3)
    second.kill()
    kept = tmp_path / "kept"
    shutil.move(second.folder, kept)
    second.start()
    second.wait_ready()
    visit(second, 10)
    until(lambda: all_show(nodes, 40), PATIENCE, "all have it")
    live = look(second)["member"]
    assert live != earlier

    # A run ends, that cannot be folded now.
    third.kill()
    third.start()
    third.wait_ready()
    until(lambda: warns(first, earlier), PATIENCE, "it is warned of")
    folding = look(first)["folding"]
    assert folding["closed_runs"] == 1
    assert folding["folds"] == 0
    [fold_blockers] = folding["waits_for"]
    assert fold_blockers["member"] == earlier
    assert fold_blockers["heard"] >= 1
    assert fold_blockers["earlier_life"] is True
    assert f'counter_awaited_seconds{{member="{earlier}"}}' in metrics(first)
    assert "counter_closed_runs 1.0" in metrics(first)
    # A node that never heard it says so.
    until(lambda: "since this node started" in str(look(third)["warnings"]), PATIENCE, "warned")
    assert look(third)["folding"]["waits_for"][0]["heard"] is None
    listed = CliRunner().invoke(cluster, ["status", "--url", first.url]).stdout
    assert f"ended runs to fold: 1, folds done: 0; waits for {earlier}, an earlier life" in listed

    # Who is live stays; who is not is removed.
    until(lambda: "stop it first" in remove(first, live).stderr, PATIENCE, "it is heard")
    until(lambda: remove(first, earlier).exit_code == 0, PATIENCE, "it is removed")
    until(lambda: all(entry(node, earlier)["removed"] for node in nodes), PATIENCE, "all know it")
    until(lambda: all_folded(nodes), PATIENCE, "the ended runs are folded")
    for node in nodes:
        assert visits(node) == 40
        assert look(node)["warnings"] == []
        assert look(node)["folding"]["folds"] >= 2
        assert entry(node, earlier)["visits"] == 10
    assert "counter_folds_total 2.0" in metrics(first)
    assert "counter_awaited_seconds{" not in metrics(first)

    # Its store is found again: it is a member again, with what only it has counted.
    returned = Node(kept, "counter2", settings=second.settings)
    with returned:
        visit(returned, 1)
        until(lambda: all_show([*nodes, returned], 44), PATIENCE, "nothing is lost")
        for node in [*nodes, returned]:
            assert not entry(node, earlier)["removed"]
            assert entry(node, earlier)["visits"] == 14
        until(lambda: "Two live nodes" in str(look(first)["warnings"]), PATIENCE, "it is warned of")
        assert "counter_names_doubled 1.0" in metrics(first)


def test_a_member_that_was_removed_while_it_was_only_split_off_goes_on(nodes: list[Node]) -> None:
    first, second, third = nodes
    member = look(second)["member"]
    for node in nodes:
        visit(node, 10)
    until(lambda: all_show(nodes, 30), PATIENCE, "all have it")
    call(second, "/dev/cut")
    visit(second, 5)
    until(lambda: remove(first, member).exit_code == 0, PATIENCE, "it is silent, and removed")
    until(lambda: entry(third, member)["removed"], PATIENCE, "the other one knows it")
    until(lambda: all_folded([first, third]), PATIENCE, "what is known of it is folded")
    assert all_show([first, third], 30)
    assert visits(second) == 35

    call(second, "/dev/heal")
    until(lambda: all_show(nodes, 35), PATIENCE, "nothing is lost")
    visit(second, 5)
    until(lambda: all_show(nodes, 40), PATIENCE, "it counts on")
    until(lambda: all_folded(nodes), PATIENCE, "its run before is folded")
    for node in nodes:
        assert visits(node) == 40
        seen = {
            "visits": 20, "live": True, "state": "ready", "behind": 0,
            "removed": False, "folded": 15, "runs": 1,
        }  # fmt: skip
        assert seen.items() <= entry(node, member).items()


def warns(node: Node, member: str) -> bool:
    return any(
        f"Folding waits for {member}, not heard for " in warning
        and "an earlier life of counter2" in warning
        and warning.endswith(f"flask cluster remove {member}")
        for warning in look(node)["warnings"]
    )


def call(node: Node, path: str) -> None:
    with closing(HTTPConnection("127.0.0.1", node.port, timeout=10)) as connection:
        connection.request("POST", path)
        assert connection.getresponse().status == 204
