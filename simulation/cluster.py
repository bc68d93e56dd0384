"""A cluster in virtual time: nodes, the network between them, and the time."""

import math
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

from simulation.network import Network
from simulation.node import Node, Sent

TICK = 0.1
"""Seconds from one tick to the next: `PUBLISH_INTERVAL`."""

AnyNode = TypeVar("AnyNode", bound=Node)


class Cluster(Generic[AnyNode]):
    """Nodes that tick and exchange messages; nothing happens but in a call.

    `at_once` is the most messages that may follow from one another in no time.
    """

    def __init__(
        self,
        network: Network,
        nodes: Iterable[AnyNode] = (),
        *,
        tick: float = TICK,
        at_once: float = math.inf,
    ) -> None:
        self.now = 0.0
        self.network = network
        self.nodes = list(nodes)
        self._tick = tick
        self._at_once = at_once

    def add(self, node: AnyNode) -> AnyNode:
        """Add a node, and return it; its time is the cluster's from now on."""
        node.now = self.now
        self.nodes.append(node)
        return node

    def pass_time(self, seconds: float) -> None:
        """Let virtual time pass, tick by tick."""
        until = self.now + seconds
        while self.now < until:
            self.step()

    def step(self) -> None:
        """Let one tick pass."""
        for node, sent in self.tick():
            self.send(node, sent)
        self.deliver()

    def tick(self) -> list[tuple[AnyNode, list[Sent]]]:
        """Let a tick pass, but leave what the nodes send then to the caller."""
        self.now += self._tick
        for node in self.nodes:
            node.now += self._tick
        self.deliver()
        return [(node, node.tick()) for node in self.nodes]

    def send(self, source: AnyNode, sent: Sequence[Sent]) -> None:
        """Send what a node has returned."""
        everybody = [node.address for node in self.nodes]
        for target, message in sent:
            addresses = [target] if target else everybody
            self.network.send(self.now, source.address, addresses, message)

    def deliver(self) -> None:
        """Deliver the messages that have arrived, and those that follow in no time."""
        by_address = {node.address: node for node in self.nodes}
        delivered = 0
        while (arrived := self.network.arrived(self.now)) is not None:
            address, message = arrived
            delivered += 1
            assert delivered <= self._at_once, f"more than {self._at_once} messages at once"
            if node := by_address.get(address):
                self.send(node, node.receive(message))
