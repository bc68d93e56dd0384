"""What a node sends and receives as clusters grow: the real protocol in virtual time.

The nodes are those of the simulation, so a hundred fit into one process. Stores answer at once; the
network delivers at once and loses nothing.
Visits come at a fixed rate, spread evenly over the nodes and the videos.
"""

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from benchmarks.report import Part, Row, write
from counter.crdt.ids import encode_id, mint_run
from counter.protocol.replica import Replica
from counter.store.contract import Known
from counter.store.memory import MemoryStore
from lab.servers import ROOT
from lab.terminal import say
from simulation.cluster import TICK, Cluster
from simulation.network import Network
from simulation.node import Node, Sent
from simulation.rules import Rules, Timing

PAGE = ROOT / "docs/scale.md"
FEW_NODES, FEW_VIDEOS = 3, 10_000
RATE = 1000
"""Visits a second in the whole cluster."""
SYNC_INTERVAL = 1.0
TIMING = Timing(SYNC_INTERVAL, join_timeout=5.0, message_ttl=30.0, fold_after=86_400.0)
RULES = Rules(replica=Replica)
EARLIER = f"counter0~{encode_id(1, 13)}.{mint_run(1_600_000_000_000, '', 1)}"
"""All nodes hold what one member has counted: as much state as real nodes have."""
SECRET = "signed as in earnest"  # noqa: S105 - nothing is kept by it


class Figures(NamedTuple):
    """What one node did in a second, on average; and what a join cost all nodes together."""

    nodes: int
    videos: int
    sent: float
    sent_bytes: float
    received: float
    received_bytes: float
    idle_bytes: float
    join_bytes: float
    cpu: float


@dataclass
class Effort:
    """Messages, bytes and seconds of processor time, of all nodes together."""

    sent: float = 0
    sent_bytes: float = 0
    received: float = 0
    received_bytes: float = 0
    cpu: float = 0

    def since(self, before: "Effort") -> "Effort":
        """How much more it is than it was before."""
        return Effort(*(a - b for a, b in zip(astuple(self), astuple(before), strict=True)))

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add the processor time of what is done inside."""
        began = time.process_time()
        yield
        self.cpu += time.process_time() - began


class Filled(MemoryStore):
    """A store that holds what an earlier run of the first node has counted: each video once."""

    def __init__(self, videos: int) -> None:
        super().__init__()
        self._videos = videos

    def known(self) -> Known:
        """See `Store.known`."""
        vectors, facts = super().known()
        return Known([EARLIER, *vectors], facts)

    def load(self, vector: str = "") -> Iterator[tuple[str, dict[str, int]]]:
        """See `Store.load`."""
        names = (_name(number) for number in range(self._videos))
        while piece := dict.fromkeys(islice(names, 5000), 1):
            yield EARLIER, piece
        yield from super().load(vector)


class Measured(Node):
    """A node whose effort is measured."""

    secret = SECRET
    epoch = 0.0

    def __init__(self, number: int, videos: int, effort: Effort) -> None:
        super().__init__(number, f"counter{number}", Filled(videos), RULES, TIMING)
        self.address = f"http://10.0.{number // 256}.{number % 256}:1234"
        self._effort = effort

    def mint_store(self) -> str:
        """See `Node.mint_store`."""
        return encode_id(self.number + 1, 13)

    def mint_run(self, latest: str) -> str:
        """See `Node.mint_run`."""
        return mint_run(1_700_000_000_000, latest, 1)

    def tick(self) -> list[Sent]:
        """See `Node.tick`."""
        with self._effort.timed():
            sent = super().tick()
        return self._count(sent)

    def receive(self, message: bytes) -> list[Sent]:
        """See `Node.receive`."""
        self._effort.received += 1
        self._effort.received_bytes += len(message)
        with self._effort.timed():
            sent = super().receive(message)
        return self._count(sent)

    def _count(self, sent: list[Sent]) -> list[Sent]:
        self._effort.sent += len(sent)
        self._effort.sent_bytes += sum(len(message) for _, message in sent)
        return sent


class Growing(Cluster[Measured]):
    """A cluster on a perfect network, which delivers at once."""

    def __init__(self) -> None:
        self.choose = random.Random(1)
        super().__init__(Network(self.choose, delay=0.0))
        self.effort = Effort()

    def start(self, videos: int) -> None:
        """Start one more node, with a store of so many videos."""
        node = self.add(Measured(len(self.nodes), videos, self.effort))
        node.start()
        # Nodes do not report all at the same moment.
        node.next_report += SYNC_INTERVAL - node.number % 10 * TICK

    def seconds(self, number: float, rate: int, videos: int) -> Effort:
        """Let virtual time pass; return what it took."""
        before = replace(self.effort)
        for _ in range(round(number / TICK)):
            for _ in range(round(rate * TICK)):
                visited = self.choose.choice(self.nodes).running.replica
                visited.visit(_name(self.choose.randrange(videos)))
            self.step()
        return self.effort.since(before)


def measure(nodes: int, videos: int, seconds: float) -> Figures:
    """Run one cluster: let it meet, count, rest, and let one more node join."""
    cluster = Growing()
    for _ in range(nodes):
        cluster.start(videos)
    cluster.seconds(8, 0, videos)
    busy = astuple(cluster.seconds(seconds, RATE, videos))
    sent, sent_bytes, received, received_bytes, cpu = (one / nodes / seconds for one in busy)
    cluster.seconds(8, 0, videos)
    idle = cluster.seconds(5, 0, videos).sent_bytes / nodes / 5
    cluster.start(1)
    join = cluster.seconds(3, 0, videos).sent_bytes
    if not all(node.running.replica.state == "ready" for node in cluster.nodes):
        raise RuntimeError("not every node became ready")
    return Figures(nodes, videos, sent, sent_bytes, received, received_bytes, idle, join, cpu)


def _name(number: int) -> str:
    return f"video{number:06x}"


def main() -> int:
    """Measure clusters of growing size, then of growing content; write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="*", default=[3, 10, 30, 100])
    parser.add_argument("--videos", type=int, nargs="*", default=[10**4, 10**5, 10**6, 10**7])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--page", type=Path, default=PAGE, help="where the results go")
    asked = parser.parse_args()
    grown = [measure(nodes, FEW_VIDEOS, asked.seconds) for nodes in asked.nodes]
    write(asked.page, _part("nodes", grown))
    filled = [measure(FEW_NODES, videos, asked.seconds) for videos in asked.videos]
    write(asked.page, _part("videos", filled))
    for row in grown + filled:
        say(" ".join(f"{name}={figure:,.6g}" for name, figure in row._asdict().items()))
    return 0


def _part(name: str, rows: Sequence[Figures]) -> Part:
    lines = []
    for row in rows:
        what = f"{getattr(row, name):,} {name}: "
        lines += [
            Row(what + "sent by a node", row.sent_bytes / 1000, "KB a second"),
            Row(what + "in so many messages", row.sent, "a second"),
            Row(what + "received by a node", row.received_bytes / 1000, "KB a second"),
            Row(what + "in so many messages", row.received, "a second"),
            Row(what + "sent by an idle node", row.idle_bytes, "bytes a second"),
            Row(what + "one node more joins: sent by all", row.join_bytes / 1000, "KB"),
            Row(what + "the protocol's share of a processor", 100 * row.cpu, "%"),
        ]
    beside = f"{FEW_VIDEOS:,} videos" if name == "nodes" else f"{FEW_NODES} nodes"
    how = (
        f"{beside}, {RATE:,} visits a second in the whole cluster, spread evenly. In virtual time, "
        "so only the last figure of each depends on the machine; it has signing and checking of "
        "messages in it. A broadcast counts once where it is sent."
    )
    return Part(name, lines, how)


if __name__ == "__main__":
    sys.exit(main())
