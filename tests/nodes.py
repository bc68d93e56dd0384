"""Nodes that tests start: a mesh of them, each with a folder, a port and a name of its own."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lab.servers import Node, free_port


@contextmanager
def mesh(folder: Path, count: int = 1, **settings: str) -> Iterator[list[Node]]:
    """Ready nodes that all have the same settings: counter1, counter2, ...

    They know each other's addresses, and are killed in the end. Fails if one of them has logged a
    traceback until then.
    """
    ports = [free_port() for _ in range(count)]
    settings = {"DRAIN_TIME": "0"} | settings
    if count > 1:
        settings["PEERS"] = ",".join(f"http://127.0.0.1:{port}" for port in ports)
    nodes = [
        Node(folder / f"counter{number}", f"counter{number}", port, settings)
        for number, port in enumerate(ports, 1)
    ]
    with ExitStack() as stack:
        for node in nodes:
            stack.callback(node.kill)
            node.launch()
        for node in nodes:
            node.wait_ready()
        yield nodes
        for node in nodes:
            log = node.log.read_text()
            assert "Traceback" not in log, log[-3000:]
