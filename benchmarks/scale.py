"""What a node sends and receives as clusters grow: the real protocol in virtual time.

Real `Replica`s exchange real messages, which are encoded and measured but not sent, so a hundred
nodes fit into one process. Stores answer at once; the network delivers at once and loses nothing.
Visits come at a fixed rate, spread evenly over the nodes and the videos.
"""

import argparse
import random
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from benchmarks.report import Part, Row, write
from counter.crdt.ids import encode_id, mint_run
from counter.crdt.tally import Tally
from counter.protocol.effects import Effects
from counter.protocol.messages import Body, Envelope, encode
from counter.protocol.replica import Replica
from lab.servers import ROOT
from lab.terminal import say

PAGE = ROOT / "docs/scale.md"
FEW_NODES, FEW_VIDEOS = 3, 10_000
RATE = 1000
"""Visits a second in the whole cluster."""
PUBLISH_INTERVAL = 0.1
SYNC_INTERVAL = 1.0
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


@dataclass
class Cluster:
    """Replicas by address, and the messages between them."""

    choose: random.Random
    now: float = 0.0
    effort: Effort = field(default_factory=Effort)
    replicas: dict[str, Replica] = field(default_factory=dict)
    _under_way: deque[tuple[str, str, Envelope, int]] = field(default_factory=deque)

    def start(self, videos: int) -> None:
        """Start one more node, whose earlier run has counted every video once."""
        number = len(self.replicas)
        store = encode_id(number + 1, 13)
        member = f"counter{number}~{store}"
        replica = Replica(
            f"{member}.{mint_run(1_700_000_000_000, '', 1)}",
            Tally(),
            self.now,
            sync_interval=SYNC_INTERVAL,
            join_timeout=5.0,
            message_ttl=30.0,
            fold_after=86_400.0,
            has_peers=True,
        )
        # All nodes hold what one member has counted: as much state as real nodes have.
        vector = f"counter0~{encode_id(1, 13)}.{mint_run(1_600_000_000_000, '', 1)}"
        replica.recovery.opened([vector], {})
        names = iter(_names(videos))
        while piece := dict.fromkeys(islice(names, 5000), 1):
            replica.recovery.loaded(vector, piece)
        replica.recovery.all_loaded()
        self.replicas[f"http://10.0.{number // 256}.{number % 256}:1234"] = replica

    def seconds(self, number: float, rate: int, videos: int) -> Effort:
        """Let virtual time pass; return what it took."""
        before = replace(self.effort)
        for _ in range(round(number / PUBLISH_INTERVAL)):
            self.now += PUBLISH_INTERVAL
            replicas = list(self.replicas.items())
            for _ in range(round(rate * PUBLISH_INTERVAL)):
                _, visited = replicas[self.choose.randrange(len(replicas))]
                visited.visit(_name(self.choose.randrange(videos)))
            for position, (address, replica) in enumerate(replicas):
                with self._timed():
                    replica.stored(replica.batch(10_000))
                    effects = Effects(broadcast=[delta for _, delta in replica.publish()])
                    # Nodes do not report all at the same moment.
                    if (round(self.now / PUBLISH_INTERVAL) + position) % 10 == 0:
                        told = replica.sync(self.now)
                        effects.broadcast += told.broadcast
                        effects.send += told.send
                self._post(address, effects)
            self._deliver()
        return self.effort.since(before)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.process_time()
        yield
        self.effort.cpu += time.process_time() - began

    def _post(self, source: str, effects: Effects) -> None:
        sender = self.replicas[source].id
        messages: list[tuple[str, Body]] = [("", body) for body in effects.broadcast]
        for target, body in messages + effects.send:
            envelope = Envelope(sender, source, int(self.now * 1000), body)
            size = len(encode(envelope, SECRET))
            self.effort.sent += 1
            self.effort.sent_bytes += size
            for other in [target] if target else self.replicas:
                if other != source:
                    self._under_way.append((source, other, envelope, size))

    def _deliver(self) -> None:
        while self._under_way:
            _, target, envelope, size = self._under_way.popleft()
            self.effort.received += 1
            self.effort.received_bytes += size
            with self._timed():
                effects = self.replicas[target].receive(envelope, self.now)
            if effects.broadcast or effects.send:
                self._post(target, effects)


def measure(nodes: int, videos: int, seconds: float) -> Figures:
    """Run one cluster: let it meet, count, rest, and let one more node join."""
    cluster = Cluster(random.Random(1))
    for _ in range(nodes):
        cluster.start(videos)
    cluster.seconds(8, 0, videos)
    busy = astuple(cluster.seconds(seconds, RATE, videos))
    sent, sent_bytes, received, received_bytes, cpu = (one / nodes / seconds for one in busy)
    cluster.seconds(8, 0, videos)
    idle = cluster.seconds(5, 0, videos).sent_bytes / nodes / 5
    cluster.start(1)
    join = cluster.seconds(3, 0, videos).sent_bytes
    if not all(replica.state == "ready" for replica in cluster.replicas.values()):
        raise RuntimeError("not every node became ready")
    return Figures(nodes, videos, sent, sent_bytes, received, received_bytes, idle, join, cpu)


def _name(number: int) -> str:
    return f"video{number:06x}"


def _names(videos: int) -> Iterator[str]:
    return (_name(number) for number in range(videos))


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
        "so only the last figure of each depends on the machine. A broadcast counts once where it "
        "is sent."
    )
    return Part(name, lines, how)


if __name__ == "__main__":
    sys.exit(main())
