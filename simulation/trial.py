"""A trial: a history happens to a cluster in virtual time, and the oracle watches it."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from counter.crdt.ids import CLASSES, class_key
from counter.node.names import Names
from simulation.cluster import TICK, Cluster
from simulation.disk import DAMAGES, Copy
from simulation.history import History, Step
from simulation.machine import Machine, Memory
from simulation.network import Network
from simulation.oracle import BrokenPromiseError, Oracle
from simulation.rules import KEY_LIFE, TIMING, Rules

REST = 60.0
"""Virtual seconds within which a healed cluster must be exact."""
FOLDED = 60.0
"""Virtual seconds after that within which every ended run must be folded."""

VIDEOS = ("dogs0", "cats4", "dogs1", "cats13", "birds", "fish")
"""The first two share a bucket, and so do the next two."""
COPIES = 2
"""The most processes that may run on copies of stores."""
CLOCKS = (0.0, 0.0, 0.0, -10.0, 10.0, -3600.0, 3600.0, -864_000.0, 864_000.0)


class Outcome(NamedTuple):
    """How a history went: the broken promise, if any, and what happened."""

    failure: str
    kinds: Counter[str]
    repair_time: float
    visits: int


def run(history: History, rules: Rules | None = None) -> Outcome:
    """Run a history, heal everything, and wait until the cluster is exact."""
    trial = Trial(history, rules or Rules())
    failure, repair_time = "", 0.0
    try:
        for step in history.steps:
            trial.do(step)
        repair_time = trial.rest()
    except BrokenPromiseError as broken:
        failure = str(broken)
    network = trial.network
    trial.kinds.update({"message lost": network.lost, "message repeated": network.repeated})
    return Outcome(failure, trial.kinds, repair_time, trial.oracle.visits())


class Trial(Cluster[Machine]):
    """Machines, pages, and what happens to them."""

    def __init__(self, history: History, rules: Rules) -> None:
        self.choose = random.Random(history.seed + 1)
        super().__init__(Network(self.choose))
        self.oracle = Oracle(KEY_LIFE)
        self.posted: list[tuple[str, list[str]]] = []
        self.kinds: Counter[str] = Counter()
        self.copies: dict[str, list[Copy]] = {}
        self.pages: dict[int, dict[str, dict[str, int]]] = {}
        self.snapshots: dict[str, list[tuple[float, Memory, Copy]]] = {}
        """The snapshots of each machine, with the time when they were taken."""
        self.apart: dict[str, float] = {}
        """For how long processes on copies of one store may not have heard each other."""
        self.rules = rules
        self.timing = replace(TIMING, fold_after=history.fold_after)
        self.most = history.nodes + COPIES
        for number in range(history.nodes):
            # Twins share a name on two stores, which must confuse nobody but people.
            name = f"n{number // 2 if history.twins else number}"
            node = self.node(name)
            if number < 3 or self.choose.random() < 0.7:
                node.start()

    def node(self, name: str) -> Machine:
        """Add a machine, which does not run yet."""
        parts = self.rules, self.timing, self.oracle, self.choose
        return self.add(Machine(len(self.nodes), name, *parts))

    def do(self, step: Step) -> None:
        """Do one step."""
        node = self.nodes[step.one % len(self.nodes)]
        other = self.nodes[step.other % len(self.nodes)]
        much = step.much
        self.kinds[step.kind] += 1
        match step.kind:
            case "visit":
                for number in range(1 + int(much * 5)):
                    node.visit(VIDEOS[(step.other + number) % len(VIDEOS)])
            case "turn away":
                for number in range(1 + int(much * 3)):
                    video = VIDEOS[(step.other + number) % len(VIDEOS)]
                    node.turn_away(class_key(video, CLASSES[step.other % len(CLASSES)]))
            case "version":
                node.becomes_old = much < 0.6
            case "post":
                number = 1 + int(much * 4)
                videos = [VIDEOS[(step.other + n) % len(VIDEOS)] for n in range(number)]
                self.posted.append((f"key-{len(self.posted)}", videos))
                node.post(*self.posted[-1])
            case "repeat":
                # More often the latest ones, as visitors without an answer do.
                if self.posted:
                    last = len(self.posted) - 1
                    node.post(*self.posted[last - round(much**3 * last)])
            case "withdraw":
                node.withdraw(VIDEOS[step.other % len(VIDEOS)], much)
            case "withdraw all":
                node.withdraw(VIDEOS[step.other % len(VIDEOS)], None)
            case "block" | "unblock":
                node.record(step.kind, VIDEOS[step.other % len(VIDEOS)], {})
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
                with self.oracle.loss(self.nodes):
                    node.kill()
            case "stop":
                with self.oracle.loss(self.nodes):
                    self.send(node, node.stop())
            case "start":
                if node.replica is None:
                    node.start()
            case "calm":
                # Long enough for something to be folded.
                self.network.calm()
                self.start_all()
                self.pass_time(2 * TIMING.message_ttl + much * 8.0)
            case "remove":
                if unheard := node.unheard():
                    member = unheard[step.other % len(unheard)]
                    self.send(node, node.remove(member))
                    for other in self.nodes:
                        if other.member == member:
                            self.oracle.without(other, self.nodes)
            case "fail":
                node.disk.failure = "before" if much < 0.7 else "after"
            case "slow":
                node.slow = much * 2.0
            case "repair":
                node.disk.failure, node.slow = "", 0.0
            case "copy":
                # Damage is found at a start; a running process does not look for it.
                if not self.oracle.is_damaged(node):
                    self.copies.setdefault(node.address, []).append(node.disk.copy())
            case "roll back" | "lose":
                self.tamper(node, step)
            case "run a copy":
                if len(self.nodes) < self.most and node.disk.store is not None:
                    self.oracle.forgive_falls()
                    twin = self.node(node.name)
                    twin.disk.restore(node.disk.copy())
                    twin.start()
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
            case "into a fold":
                self.cut_into_a_fold(node, other, much)
        self.deliver()
        self.part()

    def tamper(self, node: Machine, step: Step) -> None:
        """Replace a store by an earlier copy or an empty one, also under a running process."""
        copies = self.copies.get(node.address)
        with self.oracle.loss(self.nodes):
            self.oracle.tampered(node)
            if step.kind == "lose":
                node.disk.restore(Copy())
            elif copies:
                node.disk.restore(copies[int(step.much * len(copies))])
        self.oracle.tampered(node)
        self.oracle.unknown(self.nodes)

    def revert(self, node: Machine, step: Step) -> None:
        """Put a machine back to a snapshot of its memory, with or without its disk.

        The snapshot is younger than `FOLD_AFTER`. Until the machine hears a peer, it gives up the
        smaller of what it counts and of what the snapshot lacks. That is what its run had counted
        since. With an older snapshot it could also be what later runs had, which are folded into
        one sum with it: how much would depend on how far they are.
        """
        taken = [
            (memory, disk)
            for at, memory, disk in self.snapshots.get(node.address, ())
            if self.now - at < self.timing.fold_after
        ]
        if not taken:
            return
        memory, disk = taken[int(step.much * len(taken))]
        if memory.process.replica.member != node.member:
            return
        with self.oracle.loss(self.nodes):
            self.oracle.tampered(node)
            node.revert(memory)
            if step.other % 2:
                node.disk.restore(disk)
        self.oracle.tampered(node)
        self.oracle.reverted(node, self.nodes)
        self.oracle.unknown(self.nodes)

    def damage(self, node: Machine, step: Step) -> None:
        """Damage a store that no process has open, but nothing that only this store holds."""
        kind = DAMAGES[step.other % len(DAMAGES)]
        if node.replica is not None or node.disk.store is None:
            return
        called = Names(node.disk.facts)
        held = (self.oracle.holds(called.of(kept), self.nodes) for kept in node.disk.counts)
        if kind == "larger count" and not all(held):
            return
        with self.oracle.loss(self.nodes):
            node.disk.spoil(kind, step.much)
            self.oracle.damaged(node)
        self.oracle.unknown(self.nodes)

    def cut_into_a_fold(self, node: Machine, other: Machine, much: float) -> None:
        """Fold a run of `other`; kill or copy `node` while its store has only some rows of that.

        Otherwise it would be rare that anything happens in such a moment.
        """
        self.network.calm()
        self.start_all()
        for video in VIDEOS:
            other.visit(video)
        self.pass_time(1.0)
        with self.oracle.loss(self.nodes):
            self.send(other, other.stop())
        other.start()
        until = self.now + 4 * TIMING.message_ttl + self.timing.fold_after
        while self.now < until and not node.is_moving():
            self.pass_time(TICK)
        if not node.is_moving():
            return
        self.kinds["cut into a fold"] += 1
        if much < 0.4 and not self.oracle.is_damaged(node):
            self.copies.setdefault(node.address, []).append(node.disk.copy())
        if much > 0.2:
            with self.oracle.loss(self.nodes):
                node.kill()

    def part(self) -> None:
        """Tell the oracle which copies of one store were apart for too long to lose nothing."""
        for store, seconds in self.apart.items():
            # They are together again with the first report that arrives.
            if seconds > self.timing.fold_after - TIMING.sync_interval:
                for member in {node.member for node in self.nodes if node.disk.store == store}:
                    self.oracle.parted(member, self.nodes)

    def watch_copies(self) -> None:
        """Add to the time for which copies of one store may not have heard each other."""
        calm = not (self.network.cut or self.network.loss)
        for store in self.apart:
            twins = [node for node in self.nodes if node.disk.store == store]
            together = calm and all(node.replica and not node.clock for node in twins)
            self.apart[store] = 0.0 if together else self.apart[store] + TICK

    def start_all(self) -> None:
        """Repair disks and clocks, and start all nodes that do not run."""
        for node in self.nodes:
            if node.clock:
                node.set_clock(0.0)
            node.disk.failure, node.slow = "", 0.0
            if node.replica is None:
                node.start()

    def upgrade_all(self) -> None:
        """Have all nodes run on this version."""
        for node in self.nodes:
            if node.becomes_old or node.is_old:
                node.becomes_old = False
                self.send(node, node.stop())
                node.start()

    def step(self) -> None:
        """Let one tick pass; see `Cluster`."""
        super().step()
        self.watch_copies()

    def deliver(self) -> None:
        """Deliver the messages that have arrived, and look at every store."""
        super().deliver()
        for node in self.nodes:
            self.oracle.look_at_store(node)

    def look(self, page: int, node: Machine) -> None:
        """Let a page read everything from a node and merge it; joining nodes show nothing."""
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
        """Heal everything without visits; return the seconds until the cluster is exact.

        Then an operator removes the members that are gone for good, and everything is folded.
        """
        self.network.calm()
        self.start_all()
        self.upgrade_all()
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
        """Restart what runs before another run of its member: nothing is folded beyond it.

        These are processes on copies of one store, and those on a store that was put back to a
        time before the clock was too late. Every other one must fold without that.
        """
        for node in self.nodes:
            if node.disk.store in self.apart or node.is_overtaken():
                self.send(node, node.stop())
                node.start()
        self.until(REST, lambda: self.oracle.at_rest(self.nodes, self.now), "exact")

    def folded(self) -> str:
        """Return what is not folded yet; remove members that are gone for good, once known."""
        there = {node.member for node in self.nodes}
        first = self.nodes[0]
        assert first.replica is not None
        for member in list(first.replica.members):
            if member not in there and not first.replica.members.is_removed(member):
                self.send(first, first.remove(member))
        for node in self.nodes:
            assert node.replica is not None
            for entry in node.replica.roster.members(self.now):
                if entry.closed:
                    return f"{node.address} has not folded {entry}"
        return self.oracle.small(self.nodes)

    def until(self, seconds: float, wrong: Callable[[], str], promise: str) -> float:
        """Let time pass until `wrong` returns nothing; return how long it took."""
        start, what = self.now, "nothing"
        while self.now - start < seconds:
            self.pass_time(TICK)
            what = wrong()
            if not what:
                return self.now - start
        raise BrokenPromiseError(f"{promise}: {what}, {seconds:g} s after everything was healed")
