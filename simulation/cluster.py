"""A simulated cluster: nodes, disks, a network and pages in virtual time, watched by the oracle."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from simulation.disk import DAMAGES, Copy
from simulation.history import History, Step
from simulation.network import Network
from simulation.node import KEY_LIFE, MESSAGE_TTL, SYNC_INTERVAL, TIMING, Memory, Node, Rules
from simulation.oracle import BrokenPromiseError, Oracle

TICK = 0.1
REST = 60.0
"""Virtual seconds after which a healed cluster must be exact."""
FOLDED = 60.0
"""Virtual seconds after which, from then on, every ended run must be folded."""

VIDEOS = ("dogs0", "cats4", "dogs1", "cats13", "birds", "fish")
"""The first two share a bucket, and so do the next two."""
COPIES = 2
"""How many processes may run on copies of stores."""
CLOCKS = (0.0, 0.0, 0.0, -10.0, 10.0, -3600.0, 3600.0, -864_000.0, 864_000.0)


class Outcome(NamedTuple):
    """How a history went: the broken promise, if any, and what there was to see."""

    failure: str
    kinds: Counter[str]
    repair_time: float
    visits: int


def run(history: History, rules: Rules | None = None) -> Outcome:
    """Let a history happen, heal everything, and wait until the cluster is exact."""
    cluster = Cluster(history, rules or Rules())
    failure, repair_time = "", 0.0
    try:
        for step in history.steps:
            cluster.do(step)
        repair_time = cluster.rest()
    except BrokenPromiseError as broken:
        failure = str(broken)
    network = cluster.network
    cluster.kinds.update({"message lost": network.lost, "message repeated": network.repeated})
    return Outcome(failure, cluster.kinds, repair_time, cluster.oracle.visits())


class Cluster:
    """Nodes, their disks, their network, pages, and the time."""

    def __init__(self, history: History, rules: Rules) -> None:
        self.now = 0.0
        self.oracle = Oracle(KEY_LIFE)
        self.posted: list[tuple[str, list[str]]] = []
        self.choose = random.Random(history.seed + 1)
        self.nodes: list[Node] = []
        self.network = Network(self.choose, lambda: [node.address for node in self.nodes])
        self.kinds: Counter[str] = Counter()
        self.copies: dict[str, list[Copy]] = {}
        self.pages: dict[int, dict[str, dict[str, int]]] = {}
        self.snapshots: dict[str, list[tuple[float, Memory, Copy]]] = {}
        """Those of each machine, with the time when they were taken."""
        self.apart: dict[str, float] = {}
        """For how long those that run on copies of one store may not have heard each other."""
        self.rules = rules
        self.timing = replace(TIMING, fold_after=history.fold_after)
        self.most = history.nodes + COPIES
        for number in range(history.nodes):
            # Twins share a name on two stores, which must only confuse people.
            name = f"n{number // 2 if history.twins else number}"
            node = self.node(name)
            if number < 3 or self.choose.random() < 0.7:
                node.start(self.now)

    def node(self, name: str) -> Node:
        """A new place in the cluster."""
        parts = self.rules, self.network, self.oracle, self.choose, self.timing
        node = Node(f"at-{len(self.nodes)}", name, *parts)
        self.nodes.append(node)
        return node

    def do(self, step: Step) -> None:
        """Let one step happen."""
        node = self.nodes[step.one % len(self.nodes)]
        other = self.nodes[step.other % len(self.nodes)]
        much = step.much
        self.kinds[step.kind] += 1
        match step.kind:
            case "visit":
                for number in range(1 + int(much * 5)):
                    node.visit(VIDEOS[(step.other + number) % len(VIDEOS)])
            case "post":
                number = 1 + int(much * 4)
                videos = [VIDEOS[(step.other + n) % len(VIDEOS)] for n in range(number)]
                self.posted.append((f"key-{len(self.posted)}", videos))
                node.post(*self.posted[-1], self.now)
            case "repeat":
                # More often the latest ones, as visitors do that got no answer.
                if self.posted:
                    last = len(self.posted) - 1
                    node.post(*self.posted[last - round(much**3 * last)], self.now)
            case "pass":
                self.pass_time(much * much * 4.0)
            case "page":
                self.look(step.other, node)
            case "network":
                self.network.loss = (0, 0.05, 0.3, 0.7)[step.one % 4]
                self.network.repetition = (0, 0.3)[step.other % 2]
                self.network.delay = (0.01, 0.3, 3.0)[int(much * 3)]
            case "split":
                left = {n.address for n in self.nodes if self.choose.random() < 0.5}
                for a in self.nodes:
                    for b in self.nodes:
                        if (a.address in left) != (b.address in left):
                            self.network.cut.add((a.address, b.address))
            case "one-way":
                self.network.cut.add((node.address, other.address))
            case "heal":
                self.network.calm()
            case "kill":
                self.oracle.before_a_loss(self.nodes)
                node.kill()
                self.oracle.after_a_loss(self.nodes)
            case "stop":
                self.oracle.before_a_loss(self.nodes)
                node.stop(self.now)
                self.oracle.after_a_loss(self.nodes)
            case "start":
                if node.replica is None:
                    node.start(self.now)
            case "calm":
                # Long enough for something to be folded.
                self.network.calm()
                self.start_all()
                self.pass_time(2 * MESSAGE_TTL + much * 8.0)
            case "remove":
                member = node.remove(step.other, self.now)
                for other in self.nodes:
                    if member == f"{other.name}~{other.disk.store}":
                        self.oracle.without(other, self.nodes)
            case "fail":
                node.disk.failure = "before" if much < 0.7 else "after"
            case "slow":
                node.slow = much * 2.0
            case "repair":
                node.disk.failure, node.slow = "", 0.0
            case "copy":
                # Damage is found at a start. Under a process that runs nobody looks for it.
                if not self.oracle.is_damaged(node):
                    self.copies.setdefault(node.address, []).append(node.disk.copy())
            case "roll back" | "lose":
                self.tamper(node, step)
            case "run a copy":
                if len(self.nodes) < self.most and node.disk.store is not None:
                    self.oracle.forgive_falls()
                    twin = self.node(node.name)
                    twin.disk.restore(node.disk.copy())
                    twin.start(self.now)
                    self.apart.setdefault(twin.disk.store or "", 0.0)
            case "snapshot":
                if (memory := node.snapshot()) is not None:
                    taken = self.snapshots.setdefault(node.address, [])
                    taken.append((self.now, memory, node.disk.copy()))
            case "revert":
                self.revert(node, step)
            case "clock":
                node.set_clock(CLOCKS[int(much * len(CLOCKS))])
            case "damage":
                self.damage(node, step)
        self.settle()
        self.part()

    def tamper(self, node: Node, step: Step) -> None:
        """Put an earlier copy of a store in its place, or an empty one, whoever has it open."""
        copies = self.copies.get(node.address)
        self.oracle.before_a_loss(self.nodes)
        self.oracle.tampered(node)
        if step.kind == "lose":
            node.disk.restore(Copy())
        elif copies:
            node.disk.restore(copies[int(step.much * len(copies))])
        self.oracle.after_a_loss(self.nodes)
        self.oracle.tampered(node)
        self.oracle.unknown(self.nodes)

    def revert(self, node: Node, step: Step) -> None:
        """Put a machine back to a snapshot, its memory with its disk or without.

        Not to one that is older than `FOLD_AFTER`. Until it hears a peer, it gives up the smaller
        of what it counts and of what is missing in the snapshot. Of a younger one that is what its
        run had counted since. Of an older one it may also be what later runs had, which are folded
        into one sum with it: how much, depends on how far they are.
        """
        taken = [
            (memory, disk)
            for at, memory, disk in self.snapshots.get(node.address, ())
            if self.now - at < self.timing.fold_after
        ]
        if not taken:
            return
        memory, disk = taken[int(step.much * len(taken))]
        if memory.process.replica.member != f"{node.name}~{node.disk.store}":
            return
        self.oracle.before_a_loss(self.nodes)
        self.oracle.tampered(node)
        node.revert(memory)
        if step.other % 2:
            node.disk.restore(disk)
        self.oracle.after_a_loss(self.nodes)
        self.oracle.tampered(node)
        self.oracle.reverted(node, self.nodes)
        self.oracle.unknown(self.nodes)

    def damage(self, node: Node, step: Step) -> None:
        """Damage a store that nobody has open, but nothing that only this store holds."""
        kind = DAMAGES[step.other % len(DAMAGES)]
        if node.replica is not None or node.disk.store is None:
            return
        held = (self.oracle.holds(vector, self.nodes) for vector in node.disk.counts)
        if kind == "larger count" and not all(held):
            return
        self.oracle.before_a_loss(self.nodes)
        node.disk.spoil(kind, step.much)
        self.oracle.damaged(node)
        self.oracle.after_a_loss(self.nodes)
        self.oracle.unknown(self.nodes)

    def part(self) -> None:
        """See which copies of one store have been apart for too long to lose nothing."""
        for store, seconds in self.apart.items():
            # They are together again with the first report that gets through.
            if seconds > self.timing.fold_after - SYNC_INTERVAL:
                twins = [node for node in self.nodes if node.disk.store == store]
                for name in {node.name for node in twins}:
                    self.oracle.parted(f"{name}~{store}", self.nodes)

    def watch_copies(self) -> None:
        """Note for how long copies of one store may not have heard each other."""
        calm = not (self.network.cut or self.network.loss)
        for store in self.apart:
            twins = [node for node in self.nodes if node.disk.store == store]
            together = calm and all(node.replica and not node.clock for node in twins)
            self.apart[store] = 0.0 if together else self.apart[store] + TICK

    def start_all(self) -> None:
        """Start whoever does not run, on a disk that works, with a clock that is right."""
        for node in self.nodes:
            if node.clock:
                node.set_clock(0.0)
            node.disk.failure, node.slow = "", 0.0
            if node.replica is None:
                node.start(self.now)

    def pass_time(self, seconds: float) -> None:
        """Let virtual time pass, tick by tick."""
        until = self.now + seconds
        while self.now < until:
            self.now += TICK
            self.settle()
            self.watch_copies()
            for node in self.nodes:
                node.tick(self.now)

    def settle(self) -> None:
        """Let what has arrived be received, and look at every store."""
        by_address = {node.address: node for node in self.nodes}
        while (arrived := self.network.arrived(self.now)) is not None:
            address, message = arrived
            by_address[address].receive(message, self.now)
        for node in self.nodes:
            self.oracle.look_at_store(node)

    def look(self, page: int, node: Node) -> None:
        """A page reads everything from a node and merges it; nodes that join show nothing."""
        replica = node.replica
        if replica is None or replica.state != "ready":
            return
        counters = self.pages.setdefault(page, {})
        for video in VIDEOS:
            merged = counters.setdefault(video, {})
            for member, count in replica.counter(video).items():
                merged[member] = max(count, merged.get(member, 0))
        visits = {video: sum(counter.values()) for video, counter in counters.items()}
        self.oracle.look_at_page(f"page {page}", visits)

    def rest(self) -> float:
        """Heal everything and stop the visits; return how long it took to become exact.

        Then let an operator remove who is gone for good, and see that everything is folded.
        """
        self.network.calm()
        self.start_all()
        took = self.until(REST, lambda: self.oracle.at_rest(self.nodes, self.now), "exact")
        self.restart_copies()
        self.until(FOLDED, self.folded, "small")
        if wrong := self.oracle.at_rest(self.nodes, self.now):
            raise BrokenPromiseError(f"exact: {wrong}, when all was folded")
        for page in self.pages:
            self.look(page, self.nodes[0])
        self.kinds["repeat known"] += self.oracle.repeats
        self.kinds["counted again"] += self.oracle.counted_again
        self.kinds["folded"] += sum(
            node.replica.folding.folds for node in self.nodes if node.replica
        )
        return took

    def restart_copies(self) -> None:
        """Restart those that run on copies of one store: nothing is folded beyond a live run."""
        for node in self.nodes:
            if node.disk.store in self.apart:
                node.stop(self.now)
                node.start(self.now)
        self.until(REST, lambda: self.oracle.at_rest(self.nodes, self.now), "exact")

    def folded(self) -> str:
        """Say what is not folded yet; remove who is gone for good, as soon as it is known of."""
        there = {f"{node.name}~{node.disk.store}" for node in self.nodes}
        first = self.nodes[0]
        assert first.replica is not None
        for member in list(first.replica.members):
            if member not in there and not first.replica.members.is_removed(member):
                first.remove_member(member, self.now)
        for node in self.nodes:
            assert node.replica is not None
            for entry in node.replica.roster.members(self.now):
                if entry.closed:
                    return f"{node.address} has not folded {entry}"
        return self.oracle.small(self.nodes)

    def until(self, seconds: float, wrong: Callable[[], str], promise: str) -> float:
        """Let time pass until nothing is wrong; return how long it took."""
        start, what = self.now, "nothing"
        while self.now - start < seconds:
            self.pass_time(TICK)
            what = wrong()
            if not what:
                return self.now - start
        raise BrokenPromiseError(f"{promise}: {what}, {seconds:g} s after everything was healed")
