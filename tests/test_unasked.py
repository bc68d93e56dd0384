"""Signed messages that answer a question nobody asked change nothing, at real nodes over HTTP."""

import time
from functools import partial
from itertools import count

import pytest

from counter.crdt.ids import encode_id, mint_run
from counter.protocol.messages import Body, Envelope, KeysPage, RepairPage, encode
from lab.clients import Client, counted, until
from lab.servers import Node

SECRET = "only-for-tests"
PATIENCE = 20.0

pytestmark = pytest.mark.nodes(2, CLUSTER_SECRET=SECRET, SYNC_INTERVAL="0.2")
strangers = count(7)


@pytest.fixture
def visits(nodes: list[Node]) -> int:
    """How often each node has counted a video of its own, which both know."""
    before = counted(nodes[0].url, ["counter1"])["counter1"]
    for node in nodes:
        visit(node, node.name)
    for node in nodes:
        until(partial(shows, node, before + 1), PATIENCE, "both know both")
    return before + 1


@pytest.fixture
def stranger() -> str:
    """A run of a member that no node has heard of."""
    number = next(strangers)
    return f"stranger~{encode_id(number, 13)}.{mint_run(1_700_000_000_000, '', number)}"


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


def unmoved(nodes: list[Node], visits: int) -> None:
    """Nothing but these visits is counted anywhere, and what is counted next is exact."""
    for node in nodes:
        assert counted(node.url, ["forged"]) == {"forged": 0}
        assert shows(node, visits)
    for node in nodes:
        visit(node, node.name)
    for node in nodes:
        until(partial(shows, node, visits + 1), PATIENCE, "visits go on")
        assert counted(node.url, ["forged"]) == {"forged": 0}


@pytest.mark.parametrize("sender", ["a stranger", "a peer", "its writer"])
@pytest.mark.parametrize("vector", ["the receiver's own", "a peer's", "a stranger's"])
def test_an_answer_that_nobody_asked_for_changes_no_count(
    nodes: list[Node], visits: int, stranger: str, sender: str, vector: str
) -> None:
    first, second = map(replica_of, nodes)
    about = {"the receiver's own": first, "a peer's": second, "a stranger's": stranger}[vector]
    source = {"a stranger": stranger, "a peer": second, "its writer": about}[sender]
    more = visits + 5
    answer = RepairPage(about, {"forged": 1_000, "counter1": more, "counter2": more}, None)
    post(nodes[0], source, answer)
    unmoved(nodes, visits)


@pytest.mark.parametrize("sender", ["a stranger", "a peer"])
def test_keys_of_another_replica_that_nobody_asked_for_are_not_taken(
    nodes: list[Node], visits: int, stranger: str, sender: str
) -> None:
    source = {"a stranger": stranger, "a peer": replica_of(nodes[1])}[sender]
    about = f"{source.rpartition('.')[0]}.{mint_run(1_600_000_000_000, '', 9)}"
    key = f"a-key-that-was-never-sent-by-{sender}".replace(" ", "-")
    post(nodes[0], source, KeysPage(about, 0, [(1, key, b"\1" * 16, 0)], 1))
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    body = b'[{"video": "counter1", "count": 1}, {"video": "counter2", "count": 1}]'
    with Client(nodes[0].url) as client:
        assert client.ask("POST", "/visits", headers, body)[0] == 200
    for node in nodes:
        until(partial(shows, node, visits + 1), PATIENCE, "it is counted")
