"""The nodes of a large cluster, and a client of each that notices when it stands still."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from lab.clients import Apart, OpenLoop, Target, metrics, until
from lab.servers import Node
from lab.terminal import say

PROBES = 200
"""Requests a second that detect pauses of a node: one every 5 ms."""
PATIENCE = 600
"""Seconds that anything may take with a million videos."""
_AT_REST = 0.25
"""The share of a processor that a node takes while it gets only those requests."""


class Rate(NamedTuple):
    """How long things without an end are measured, and how often a delta is lost."""

    seconds: float = 5.0
    rounds: int = 5


class Pauses(NamedTuple):
    """The longest pauses of a phase in ms: seen by a client, by the nodes, and the client's own
    lateness."""

    outside: float
    inside: float
    late: float


class Watched:
    """A node, and a client that sends it tiny requests all the time."""

    def __init__(self, watched: Node) -> None:
        self.node = watched
        target = Target("pauses", [watched.port], PROBES, 1, ["/healthz"], make_up=0)
        self._client = Apart(OpenLoop, target)
        self._inside = 0.0

    def metrics(self) -> dict[str, float]:
        """Return its metrics; read them only here, because a read resets the longest pause."""
        read = metrics(self.node.url)
        self._inside = max(self._inside, read["counter_longest_pause_seconds"])
        return read

    def pauses(self) -> Pauses:
        """Return the longest pauses since the last call."""
        self.metrics()
        seen = self._client.call("take")["pauses"].within(100)
        inside, self._inside = self._inside, 0.0
        return Pauses(seen, inside * 1000, self._client.call("late"))

    def close(self) -> None:
        """Stop the requests."""
        self._client.close()


class Watch:
    """The nodes that run, each watched, and the longest pauses of each phase."""

    def __init__(self, nodes: Sequence[Node], pace: Rate) -> None:
        self.pace = pace
        self.watched = {one.name: Watched(one) for one in nodes}
        self.pauses: dict[str, Pauses] = {}

    @property
    def nodes(self) -> list[Node]:
        """Those that run."""
        return [watched.node for watched in self.watched.values()]

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Watch what happens meanwhile under this name."""
        say(f"  {name} ...")
        for watched in self.watched.values():
            watched.pauses()
        yield
        seen = [watched.pauses() for watched in self.watched.values()]
        longest = self.pauses[name] = Pauses(*map(max, zip(*seen, strict=True)))
        say("    paused at most {:.1f} ms, in the nodes {:.1f}, the client {:.1f}".format(*longest))

    def watch(self, one: Node) -> None:
        """Watch one more node, which must answer already."""
        self.watched[one.name] = Watched(one)

    def leave(self, one: Node) -> None:
        """Stop a node."""
        self.watched.pop(one.name).close()
        one.stop(30)

    def sent(self) -> float:
        """Return the bytes that the nodes have sent to each other."""
        return sum(w.metrics()["counter_sent_bytes_total"] for w in self.watched.values())

    def rest(self) -> None:
        """Wait until all nodes are idle."""

        def idle() -> bool:
            before = {one.name: one.processor_time() for one in self.nodes}
            time.sleep(self.pace.seconds)
            used = (one.processor_time() - before[one.name] for one in self.nodes)
            return max(used) < _AT_REST * self.pace.seconds

        until(idle, PATIENCE, "the nodes are at rest")

    def close(self) -> None:
        """Stop watching."""
        for watched in self.watched.values():
            watched.close()
