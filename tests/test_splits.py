"""Splits where messages pass in one direction only, with nodes that restart meanwhile.

What such a node lacks cannot come: it hears what others hold, and nobody hears its questions.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lab.clients import Client, counted, fetch, until
from lab.servers import Node, free_port
from tests.gate import Gate
from tests.test_visit_log import line

JOIN_TIMEOUT = 3.0
"""Longer than peers take to find a restarted node again: else it is ready alone before that."""
MESSAGE_TTL = 4.0
"""Longer than a delta takes on a busy machine: one that is too old cannot be asked for again."""
SETTINGS = {
    "MESSAGE_TTL": f"{MESSAGE_TTL}",
    "SYNC_INTERVAL": "0.3",
    "FOLD_AFTER": "2",
    "JOIN_TIMEOUT": f"{JOIN_TIMEOUT}",
    "DRAIN_TIME": "0",
}
PATIENCE = 20.0
"""Seconds that a condition has; a machine with other work needs some for a start."""


class Site:
    """Three nodes of a mesh with a gate before each; the first follows a visit log.

    `visits` is what must be counted of each video in the end.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        ports = [free_port() for _ in range(3)]
        self.gates = [stack.enter_context(Gate(port)) for port in ports]
        settings = SETTINGS | {
            "PEERS": ",".join(f"http://127.0.0.1:{gate.port}" for gate in self.gates)
        }
        self.log = folder / "counter1.log"
        self.log.touch()
        self.nodes = [
            Node(
                folder / f"counter{number}",
                f"counter{number}",
                port,
                settings | ({"VISIT_LOG": str(self.log)} if number == 1 else {}),
                gate=gate.port,
            )
            for number, (port, gate) in enumerate(zip(ports, self.gates, strict=True), 1)
        ]
        self.visits: dict[str, int] = {}
        self._lines = 0
        for node in self.nodes:
            stack.callback(node.kill)

    def start(self) -> None:
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.wait()

    def visit(self, times: int, nodes: list[Node] | None = None) -> None:
        """Visit a video of its own at each node."""
        for node in nodes or self.nodes:
            with Client(node.url) as client:
                for _ in range(times):
                    assert client.get(f"/video/{node.name}")[0] == 200
            self.visits[node.name] = self.visits.get(node.name, 0) + times

    def beacons(self, number: int) -> None:
        """Write what nginx would write about so many beacons, which are for the first node."""
        with self.log.open("a") as log:
            for _ in range(number):
                self._lines += 1
                log.write(line("beacon", self._lines))
        self.visits["beacon"] = self._lines

    def complete(self) -> bool:
        """Every node shows every visit, once, and lacks nothing."""
        return all(
            counted(node.url, list(self.visits)) == self.visits and not lacks(node)
            for node in self.nodes
        )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Three nodes that have agreed on some visits."""
    with ExitStack() as stack:
        site = Site(tmp_path, stack)
        site.start()
        for node in site.nodes:
            node.wait_ready()
        site.visit(10)
        site.beacons(10)
        until(site.complete, PATIENCE, "all agree")
        yield site
        for node in site.nodes:
            assert "Traceback" not in node.log.read_text()


def look(node: Node) -> dict[str, Any]:
    return dict(fetch(node.url, "/cluster"))


def lacks(node: Node) -> list[Any]:
    return list(look(node)["lacks"])


def shows(node: Node, other: Node, visits: int) -> bool:
    """Whether a node shows so many visits of another one's video."""
    return counted(node.url, [other.name]) == {other.name: visits}


def post(node: Node, key: str | None = None) -> int:
    """Post a visit of the video `posted`; return the status."""
    headers = {"Content-Type": "application/json"}
    if key is not None:
        headers["Idempotency-Key"] = key
    with Client(node.url) as client:
        return client.ask("POST", "/visits", headers, b'[{"video": "posted", "count": 1}]')[0]


def test_in_a_ring_split_restarted_nodes_count_and_are_read_and_heal(site: Site) -> None:
    """Each hears one of the others, and is heard by the other one."""
    ring = list(zip(site.nodes, site.nodes[1:] + site.nodes[:1], strict=True))
    for gate, unheard in zip(site.gates, ("counter3", "counter1", "counter2"), strict=True):
        gate.shut({unheard})
    site.visit(5)
    for node, heard in ring:
        until(partial(shows, node, heard, 15), PATIENCE, f"{node.name} hears {heard.name}")
    for node in site.nodes:
        node.kill()
    site.start()
    site.visit(5)
    site.beacons(5)
    for node, heard in ring:
        node.wait_ready(PATIENCE)
        until(partial(shows, node, heard, 20), PATIENCE, f"{node.name} hears {heard.name}")
        assert shows(node, node, 20)
    # What the one it does not hear has counted, the one that it hears says to hold.
    for node in site.nodes:
        until(partial(lacks, node), PATIENCE, f"{node.name} says what it lacks")
        assert "lacks" in str(look(node)["warnings"])
        assert post(node) == 200
        site.visits["posted"] = site.visits.get("posted", 0) + 1
        assert post(node, "key-in-a-split") == 503, "it may not know this key"
    assert look(site.nodes[0])["log"]["unread"] > 0, "others may have read further"
    for gate in site.gates:
        gate.open()
    until(site.complete, PATIENCE, "all is healed")
    for number, node in enumerate(site.nodes):
        assert post(node, f"key-{number}") == 200
        site.visits["posted"] += 1
        assert not any("lacks" in warning for warning in look(node)["warnings"])
    until(site.complete, PATIENCE, "keyed requests are counted")


@pytest.mark.parametrize("store", ["kept", pytest.param("lost", marks=pytest.mark.proof)])
def test_a_restarted_node_that_hears_and_is_not_heard_counts_and_heals(
    site: Site, store: str
) -> None:
    first, *others = site.nodes
    first.kill()
    if store == "lost":
        # What it lacks then is everything, its own earlier visits too.
        for file in first.folder.glob("counter.sqlite*"):
            file.unlink()
    for gate in site.gates[1:]:
        gate.shut({first.name})
    site.visit(5, others)
    for node, heard in zip(others, reversed(others), strict=True):
        until(partial(shows, node, heard, 15), PATIENCE, f"{node.name} hears {heard.name}")
    # What waited for it meanwhile, to be posted again, is too old by then.
    told = time.monotonic()
    until(lambda: time.monotonic() - told > MESSAGE_TTL, PATIENCE, "those messages are too old")
    first.start()
    site.visit(5)
    site.beacons(5)
    first.wait_ready(PATIENCE)
    until(partial(lacks, first), PATIENCE, "it says what it lacks")
    assert "lacks" in str(look(first)["warnings"])
    assert counted(first.url, [first.name])[first.name] >= 5
    assert post(first) == 200
    site.visits["posted"] = 1
    assert post(first, "key-in-a-split") == 503, "it may not know this key"
    assert look(first)["log"]["unread"] > 0, "others may have read further"
    for node in others:
        assert node.ready()
        assert not lacks(node)
    for gate in site.gates:
        gate.open()
    until(site.complete, PATIENCE, "all is healed")
    assert post(first, "key-afterwards") == 200
    site.visits["posted"] += 1
    until(site.complete, PATIENCE, "keyed requests are counted")
