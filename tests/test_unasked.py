"""Signed messages that answer a question nobody asked change nothing, at real nodes over HTTP."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from counter.crdt.ids import encode_id, mint_run
from counter.protocol.messages import Body, Envelope, KeysPage, RepairPage, encode
from lab.clients import Client, counted, until
from lab.servers import Node
from tests.nodes import mesh

SECRET = "only-for-tests"
SETTINGS = {"CLUSTER_SECRET": SECRET, "SYNC_INTERVAL": "0.2", "DRAIN_TIME": "0"}
PATIENCE = 20.0
STRANGER = f"stranger~{encode_id(7, 13)}.{mint_run(1_700_000_000_000, '', 7)}"
KEY = "a-key-that-was-never-sent"


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Node]]:
    """Two nodes that have each counted a video of their own once, and know both."""
    with mesh(tmp_path, 2, **SETTINGS) as nodes:
        for node in nodes:
            visit(node, node.name)
        for node in nodes:
            until(partial(shows, node, 1), PATIENCE, "both know both")
        yield nodes


def visit(node: Node, video: str) -> None:
    with Client(node.url) as client:
        assert client.get(f"/video/{video}")[0] == 200


def shows(node: Node, visits: int) -> bool:
    return counted(node.url, ["counter1", "counter2"]) == {"counter1": visits, "counter2": visits}


def replica_of(node: Node) -> str:
    """The run of a node, as its log says."""
    [opened] = [line for line in node.log.read_text().splitlines() if " open store=" in line]
    return opened.rpartition("replica=")[2]


def post(node: Node, sender: str, body: Body) -> int:
    """Post a signed message as this sender; return the status."""
    message = encode(Envelope(sender, "", int(time.time() * 1000), body), SECRET)
    headers = {"Content-Type": "application/octet-stream"}
    with Client(node.url) as client:
        return client.ask("POST", "/mesh", headers, message)[0]


def unmoved(nodes: list[Node]) -> None:
    """Nothing but two visits is counted anywhere, and what is counted next is exact."""
    for node in nodes:
        assert counted(node.url, ["forged"]) == {"forged": 0}
        assert shows(node, 1)
    for node in nodes:
        visit(node, node.name)
    for node in nodes:
        until(partial(shows, node, 2), PATIENCE, "visits go on")
        assert counted(node.url, ["forged"]) == {"forged": 0}


@pytest.mark.parametrize("sender", ["a stranger", "a peer", "its writer"])
@pytest.mark.parametrize("vector", ["the receiver's own", "a peer's", "a stranger's"])
def test_an_answer_that_nobody_asked_for_changes_no_count(
    nodes: list[Node], sender: str, vector: str
) -> None:
    first, second = map(replica_of, nodes)
    about = {"the receiver's own": first, "a peer's": second, "a stranger's": STRANGER}[vector]
    source = {"a stranger": STRANGER, "a peer": second, "its writer": about}[sender]
    answer = RepairPage(about, {"forged": 1_000, "counter1": 5, "counter2": 5}, None)
    post(nodes[0], source, answer)
    unmoved(nodes)


@pytest.mark.parametrize("sender", ["a stranger", "a peer"])
def test_keys_of_another_replica_that_nobody_asked_for_are_not_taken(
    nodes: list[Node], sender: str
) -> None:
    source = {"a stranger": STRANGER, "a peer": replica_of(nodes[1])}[sender]
    about = f"{source.rpartition('.')[0]}.{mint_run(1_600_000_000_000, '', 9)}"
    post(nodes[0], source, KeysPage(about, 0, [(1, KEY, b"\1" * 16, 0)], 1))
    headers = {"Content-Type": "application/json", "Idempotency-Key": KEY}
    body = b'[{"video": "counter1", "count": 1}, {"video": "counter2", "count": 1}]'
    with Client(nodes[0].url) as client:
        assert client.ask("POST", "/visits", headers, body)[0] == 200
    for node in nodes:
        until(partial(shows, node, 2), PATIENCE, "it is counted")
