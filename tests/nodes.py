"""Nodes that tests start: a mesh of them, each with a folder, a port and a name of its own."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lab.cluster import Cluster, complaints
from lab.servers import Node


@contextmanager
def mesh(folder: Path, count: int = 1, **settings: str) -> Iterator[list[Node]]:
    """Ready nodes that all have the same settings: counter1, counter2, ...

    They know each other's addresses, and are killed in the end. Fails if one of them has logged a
    traceback until then.
    """
    with ExitStack() as stack:
        all_ = {"DRAIN_TIME": "0"} | settings
        nodes = Cluster(folder, stack, ["sqlite"] * count, settings=all_, killed=True).nodes
        yield nodes
        assert complaints(nodes) == []
