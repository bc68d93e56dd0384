"""What a node sends and receives as clusters grow: the real protocol in virtual time.

The nodes are those of the simulation, so a hundred fit into one process. Stores answer at once; the
network delivers at once and loses nothing.
Visits come at a fixed rate, spread evenly over the nodes and the videos.
"""

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from benchmarks.report import Part, Row, write
from counter.crdt.ids import mint_run, mint_store
from counter.protocol.replica import Replica
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
EARLIER = f"counter0~{mint_store(0)}.{mint_run(1_600_000_000_000, '', 1)}"
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


class Filled(MemoryStore):
    """A store that holds what an earlier run of the first node has counted: each video once."""

    def __init__(self, videos: int) -> None:
        super().__init__()
        self.counts[EARLIER] = {}
        self._videos = videos

    def load(self, vector: str = "") -> Iterator[tuple[str, dict[str, int]]]:
        """See `Store.load`."""
        del vector  # there is no other
        names = (_name(number) for number in range(self._videos))
        while piece := dict.fromkeys(islice(names, 5000), 1):
            yield EARLIER, piece


class Measured(Node):
    """A node that adds to an effort, named as in `Figures`, what it sends, receives and takes."""

    secret = SECRET

    def __init__(self, number: int, videos: int, effort: Counter[str]) -> None:
        super().__init__(number, f"counter{number}", Filled(videos), RULES, TIMING)
        self.address = f"http://10.0.{number // 256}.{number % 256}:1234"
        self._effort = effort

    def tick(self) -> list[Sent]:
        """See `Node.tick`."""
        return self._timed(super().tick)

    def receive(self, message: bytes) -> list[Sent]:
        """See `Node.receive`."""
        self._effort.update(received=1, received_bytes=len(message))
        return self._timed(super().receive, message)

    def _timed(self, work: Callable[..., list[Sent]], *arguments: bytes) -> list[Sent]:
        began = time.process_time()
        sent = work(*arguments)
        self._effort["cpu"] += time.process_time() - began  # type: ignore[assignment]  # floats
        self._effort.update(sent=len(sent), sent_bytes=sum(len(message) for _, message in sent))
        return sent


class Growing(Cluster[Measured]):
    """A cluster on a perfect network, which delivers at once."""

    def __init__(self) -> None:
        self.choose = random.Random(1)
        super().__init__(Network(self.choose, delay=0.0))
        self._effort = Counter[str]()

    def start(self, videos: int) -> None:
        """Start one more node, with a store of so many videos."""
        node = self.add(Measured(len(self.nodes), videos, self._effort))
        node.start()
        # Nodes do not report all at the same moment.
        node.next_report += SYNC_INTERVAL - node.number % 10 * TICK

    def seconds(self, number: float, rate: int, videos: int) -> Counter[str]:
        """Let virtual time pass; return what it took, of all nodes together."""
        self._effort.clear()
        for _ in range(round(number / TICK)):
            for _ in range(round(rate * TICK)):
                visited = self.choose.choice(self.nodes).running.replica
                visited.visit(_name(self.choose.randrange(videos)))
            self.step()
        return self._effort.copy()


def measure(nodes: int, videos: int, seconds: float) -> Figures:
    """Run one cluster: let it meet, count, rest, and let one more node join."""
    cluster = Growing()
    for _ in range(nodes):
        cluster.start(videos)
    cluster.seconds(8, 0, videos)
    busy = {
        what: effort / nodes / seconds
        for what, effort in cluster.seconds(seconds, RATE, videos).items()
    }
    cluster.seconds(8, 0, videos)
    idle = cluster.seconds(5, 0, videos)["sent_bytes"] / nodes / 5
    cluster.start(1)
    join = cluster.seconds(3, 0, videos)["sent_bytes"]
    if not all(node.running.replica.state == "ready" for node in cluster.nodes):
        raise RuntimeError("not every node became ready")
    return Figures(nodes, videos, idle_bytes=idle, join_bytes=join, **busy)


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
