"""Wall clocks that step, and that differ: real nodes, each under a clock that the test sets."""

import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tools.clock import DAY, HOUR, MINUTE, STEPS, Clock, ClockedNode
from tools.servers import free_port
from tools.visitors import Books, Client, Traffic, agree, counted, fetch, until

SETTINGS = {"SYNC_INTERVAL": "0.3", "DRAIN_TIME": "0.1", "JOIN_TIMEOUT": "1"}


def cluster(
    folder: Path, stack: ExitStack, nodes: int, *, shared: bool = False, **settings: str
) -> list[ClockedNode]:
    """So many nodes on a full mesh, each with a clock of its own, or all with one."""
    ports = [free_port() for _ in range(nodes)]
    peers = {"PEERS": ",".join(f"http://127.0.0.1:{port}" for port in ports)}
    clock = Clock(folder / "clock") if shared else None
    made = [
        ClockedNode(
            folder / f"clocked{number}",
            f"clocked{number}",
            port,
            SETTINGS | peers | settings,
            clock,
        )
        for number, port in enumerate(ports, 1)
    ]
    for node in made:
        stack.callback(node.kill)
        node.launch()
    for node in made:
        node.wait_ready()
    return made


def gauge(node: ClockedNode, name: str) -> float:
    """A metric without labels."""
    with Client(node.url) as client:
        text = client.get("/metrics")[1].decode()
    return float(re.findall(rf"^{name} (\S+)$", text, re.MULTILINE)[0])


def differences(node: ClockedNode) -> dict[str, float]:
    """By how many seconds the clocks of others are ahead, by name, as the metric says."""
    with Client(node.url) as client:
        text = client.get("/metrics")[1].decode()
    pattern = r'^counter_clock_difference_seconds\{member="([^"~]+)~[^"]+"\} (\S+)$'
    return {name: float(value) for name, value in re.findall(pattern, text, re.MULTILINE)}


def resident(node: ClockedNode) -> float:
    """MB of memory of the node's worker process."""
    worker = node.processes()[1]
    [kilobytes] = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{worker}/status").read_text())
    return int(kilobytes) / 1024


def visit(node: ClockedNode, video: str) -> None:
    with Client(node.url) as client:
        assert client.get(f"/video/{video}")[0] == 200


def travel(source: ClockedNode, target: ClockedNode, video: str, seconds: float) -> float:
    """Make a visit at one node, and wait until the other shows one more; how long that took."""
    before = counted(target.url, [video])[video]
    visit(source, video)
    return until(
        lambda: counted(target.url, [video])[video] > before,
        seconds,
        f"a visit at {source.name} is shown by {target.name}",
    )


def test_nodes_go_on_whatever_their_clocks_are_set_to(tmp_path: Path, stack: ExitStack) -> None:
    one, two = cluster(tmp_path, stack, 2, shared=True)
    travel(one, two, "cats", 5)
    before = resident(one)
    gauge(one, "counter_longest_pause_seconds")
    for seconds in STEPS:
        one.clock.step(seconds)
        took = max(travel(one, two, "cats", 2), travel(two, one, "cats", 2))
        pause = gauge(one, "counter_longest_pause_seconds")
        print(f"{seconds:+.0f} s: travel {took:.2f} s, pause {pause:.3f} s, {resident(one):.0f} MB")
        assert pause < 0.25, f"{seconds:+.0f} s"
        assert resident(one) < before + 30
    assert "Traceback" not in one.log.read_text()
