"""What a node sends and receives as clusters grow: the real protocol in virtual time.

Real `Replica`s tell each other real messages, which are encoded and measured, not sent: so a
hundred nodes fit into one process. Stores answer at once, the network delivers at once and loses
nothing. Visits come at a fixed rate, spread evenly over the nodes and the videos.
"""

import argparse
import random
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from benchmarks.report import Part, write
from benchmarks.report import Row as Line
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


class Row(NamedTuple):
    """What one node did in a second, on average; and what a join cost all of them together."""

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
class Place:
    """A node: its replica, and what it has sent and received."""

    replica: Replica
    sent: int = 0
    sent_bytes: int = 0
    received: int = 0
    received_bytes: int = 0
    cpu: float = 0.0


@dataclass
class Cluster:
    """Nodes, and the messages between them."""

    choose: random.Random
    now: float = 0.0
    places: dict[str, Place] = field(default_factory=dict)
    _under_way: deque[tuple[str, str, Envelope, int]] = field(default_factory=deque)

    def start(self, videos: int) -> None:
        """Start one more node, whose earlier run has counted every video once."""
        number = len(self.places)
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
        # All nodes hold what one member has counted: as much state as they have in earnest.
        vector = f"counter0~{encode_id(1, 13)}.{mint_run(1_600_000_000_000, '', 1)}"
        replica.recovery.opened([vector], {})
        names = iter(_names(videos))
        while piece := dict.fromkeys(islice(names, 5000), 1):
            replica.recovery.loaded(vector, piece)
        replica.recovery.all_loaded()
        self.places[f"http://10.0.{number // 256}.{number % 256}:1234"] = Place(replica)

    def seconds(self, number: float, rate: int, videos: int) -> None:
        """Let virtual time pass."""
        for _ in range(round(number / PUBLISH_INTERVAL)):
            self.now += PUBLISH_INTERVAL
            places = list(self.places.items())
            for _ in range(round(rate * PUBLISH_INTERVAL)):
                _, place = places[self.choose.randrange(len(places))]
                place.replica.visit(_name(self.choose.randrange(videos)))
            for position, (address, place) in enumerate(places):
                began = time.process_time()
                replica = place.replica
                replica.stored(replica.batch(10_000))
                effects = Effects(broadcast=[delta for _, delta in replica.publish()])
                # Nodes do not report all at the same moment.
                if (round(self.now / PUBLISH_INTERVAL) + position) % 10 == 0:
                    told = replica.sync(self.now)
                    effects.broadcast += told.broadcast
                    effects.send += told.send
                self._post(address, effects)
                place.cpu += time.process_time() - began
            self._deliver()

    def _post(self, source: str, effects: Effects) -> None:
        place = self.places[source]
        messages: list[tuple[str, Body]] = [("", body) for body in effects.broadcast]
        for target, body in messages + effects.send:
            envelope = Envelope(place.replica.id, source, int(self.now * 1000), body)
            size = len(encode(envelope, SECRET))
            place.sent += 1
            place.sent_bytes += size
            for other in [target] if target else self.places:
                if other != source:
                    self._under_way.append((source, other, envelope, size))

    def _deliver(self) -> None:
        while self._under_way:
            _, target, envelope, size = self._under_way.popleft()
            place = self.places[target]
            place.received += 1
            place.received_bytes += size
            began = time.process_time()
            effects = place.replica.receive(envelope, self.now)
            place.cpu += time.process_time() - began
            if effects.broadcast or effects.send:
                self._post(target, effects)

    def totals(self) -> tuple[float, float, float, float, float]:
        """Messages and bytes, sent and received, and CPU seconds, of an average node."""
        places = self.places.values()
        count = len(self.places)
        return (
            sum(place.sent for place in places) / count,
            sum(place.sent_bytes for place in places) / count,
            sum(place.received for place in places) / count,
            sum(place.received_bytes for place in places) / count,
            sum(place.cpu for place in places) / count,
        )


def measure(nodes: int, videos: int, seconds: float) -> Row:
    """Run one cluster: let it meet, count, rest, and let one more node join."""
    cluster = Cluster(random.Random(1))
    for _ in range(nodes):
        cluster.start(videos)
    cluster.seconds(8, 0, videos)
    before = cluster.totals()
    cluster.seconds(seconds, RATE, videos)
    sent, sent_bytes, received, received_bytes, cpu = (
        (after - start) / seconds for after, start in zip(cluster.totals(), before, strict=True)
    )
    cluster.seconds(8, 0, videos)
    before = cluster.totals()
    cluster.seconds(5, 0, videos)
    idle = (cluster.totals()[1] - before[1]) / 5
    started = sum(place.sent_bytes for place in cluster.places.values())
    cluster.start(1)
    cluster.seconds(3, 0, videos)
    ended = sum(place.sent_bytes for place in cluster.places.values())
    if not all(place.replica.state == "ready" for place in cluster.places.values()):
        raise RuntimeError("not every node became ready")
    join = ended - started
    return Row(nodes, videos, sent, sent_bytes, received, received_bytes, idle, join, cpu)


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


def _part(name: str, rows: Sequence[Row]) -> Part:
    lines = []
    for row in rows:
        what = f"{getattr(row, name):,} {name}: "
        lines += [
            Line(what + "sent by a node", row.sent_bytes / 1000, "KB a second"),
            Line(what + "in so many messages", row.sent, "a second"),
            Line(what + "received by a node", row.received_bytes / 1000, "KB a second"),
            Line(what + "in so many messages", row.received, "a second"),
            Line(what + "sent by an idle node", row.idle_bytes, "bytes a second"),
            Line(what + "one node more joins: sent by all", row.join_bytes / 1000, "KB"),
            Line(what + "the protocol's share of a processor", 100 * row.cpu, "%"),
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
