"""A visit counter on three nodes, in one file: they count, are split, count on, and heal.

Run `python examples/mini.py`. These are the real parts of a node, without HTTP, a disk and a
clock: `Replica` is the protocol, the hub carries its messages within this process, and the time is
a number that this program decides. What a full node adds is in `counter/node`.

The rule behind it is `counter/crdt/gcounter.py`: each replica increments its own entry of a counter
only, a merge takes the larger entry of each, and the visits are the sum.
"""

import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

sys.path.insert(0, str(Path(__file__).parents[1]))

from counter.crdt import Tally
from counter.crdt.gcounter import value
from counter.crdt.ids import mint_run, mint_store
from counter.protocol import Effects, Replica
from counter.protocol.messages import Body, Envelope, decode, encode
from counter.transport.hub import Hub

NAMES = ("node1", "node2", "node3")
VIDEO = "cats"
TTL = 30.0
"""How long a message may live, in seconds."""


class Node:
    """A replica, and its place on the hub."""

    def __init__(self, hub: Hub, name: str, number: int) -> None:
        # NAME~store.run: a new run for each start, so that no two processes write one entry.
        replica = f"{name}~{mint_store(number)}.{mint_run(0, '', number)}"
        self.replica = Replica(
            replica,
            Tally(),
            now=0.0,
            sync_interval=1.0,
            join_timeout=5.0,
            message_ttl=TTL,
            fold_after=86_400.0,
            has_peers=True,
        )
        # A store would give here what it holds of earlier runs; this one is new.
        self.replica.recovery.opened([], {})
        self.replica.recovery.all_loaded()
        self.inbox: SimpleQueue[bytes] = SimpleQueue()
        self.transport = hub.transport(name)
        self.transport.start(self.inbox.put, connected=lambda: None)

    def visit(self, times: int) -> None:
        """Count visits: in memory first, and for others to see once the store holds them."""
        for _ in range(times):
            self.replica.visit(VIDEO)
        batch = self.replica.batch(limit=1000)
        # Here a store would write the batch.
        self.replica.stored(batch)

    def tick(self, now: float) -> None:
        """What happens about once a second: tell what is new, and what is held."""
        for _, delta in self.replica.publish():
            self._send(delta, now)
        self._do(self.replica.sync(now), now)

    def receive(self, now: float) -> None:
        """Take in the next message, and send what follows from it."""
        envelope = decode(self.inbox.get(), None, int(now * 1000), int(TTL * 1000))
        self._do(self.replica.receive(envelope, now), now)

    def visits(self) -> int:
        """What this node shows: the value of the video's counter."""
        return value(self.replica.counter(VIDEO))

    def _do(self, effects: Effects, now: float) -> None:
        for body in effects.broadcast:
            self._send(body, now)
        for address, body in effects.send:
            self._send(body, now, address)

    def _send(self, body: Body, now: float, address: str = "") -> None:
        envelope = Envelope(self.replica.id, self.transport.address, int(now * 1000), body)
        message = encode(envelope, None)
        if address:
            self.transport.send(address, message)
        else:
            self.transport.broadcast(message)


class Cluster:
    """Three nodes in virtual time, and the links between them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.split_off = ""
        """The node that the two others cannot reach."""
        self._under_way: deque[str] = deque()
        hub = Hub(self._link)
        self.nodes = {name: Node(hub, name, number) for number, name in enumerate(NAMES)}

    def _link(self, source: str, destination: str) -> bool:
        """Whether the hub delivers a message: it is lost if only one end is split off."""
        if self.split_off in (source, destination):
            return False
        self._under_way.append(destination)
        return True

    def second(self) -> None:
        """A second passes: everybody tells what is new, until nobody has anything to answer."""
        self.now += 1.0
        for node in self.nodes.values():
            node.tick(self.now)
        while self._under_way:
            self.nodes[self._under_way.popleft()].receive(self.now)

    def visit(self, *times: int) -> None:
        """So many visits at each node."""
        for node, each in zip(self.nodes.values(), times, strict=True):
            node.visit(each)

    def visits(self) -> list[int]:
        """What each node shows."""
        return [node.visits() for node in self.nodes.values()]


def story() -> Iterator[tuple[str, list[int]]]:
    """What happens, and what the three nodes show after it."""
    cluster = Cluster()
    cluster.visit(3, 2, 1)
    yield "3, 2 and 1 visits", cluster.visits()
    cluster.second()
    yield "a second later", cluster.visits()
    cluster.split_off = "node3"
    cluster.visit(10, 10, 5)
    cluster.second()
    yield "node3 split off; 10, 10 and 5 visits", cluster.visits()
    cluster.split_off = ""
    yield "the split is healed", cluster.visits()
    cluster.second()
    yield "a second later", cluster.visits()


if __name__ == "__main__":
    print(f"{'':38}", *NAMES)
    for step, visits in story():
        print(f"{step:38}", *(f"{each:5}" for each in visits))
