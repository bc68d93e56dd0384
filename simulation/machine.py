"""A machine of a trial: a node whose disk and clock fail, and whom an oracle watches."""

import copy
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from counter.crdt.ids import folded_of, mint_store, replica_of, run_of
from counter.protocol.batch import Batch
from counter.protocol.effects import Effects
from counter.protocol.key_log import Key
from counter.protocol.messages import Body, Envelope, KeysPage, Report
from counter.protocol.moving import marks_kept
from counter.protocol.records import Act, Record, Takes
from counter.store.contract import Marks, StoreDownError
from simulation.disk import Disk, Request
from simulation.node import EPOCH, Node, Sent
from simulation.oracle import BrokenPromiseError, Oracle
from simulation.process import Process
from simulation.rules import Rules, Timing

_SKEW = 0.5
"""The most seconds by which a clock is wrong."""


@dataclass(frozen=True)
class Memory:
    """The memory of a running machine, without its store."""

    process: Process
    marks: Marks
    under_way: tuple[float, Batch] | None
    pending: Mapping[str, Request]
    in_flight: Mapping[str, Request]

    def again(self) -> "Memory":
        """Return a deep copy, on the same store and with the same requests."""
        store = self.process.store
        known: dict[int, object] = {id(store): store}
        known |= {id(one): one for one in (*self.pending.values(), *self.in_flight.values())}
        # A vector that is on its way to rest is packed by a generator: that begins anew.
        known[id(self.process.replica.tally._packing)] = None
        return copy.deepcopy(self, known)


class Machine(Node):
    """A node whose clock may be wrong and whose disk may be slow, fail, or be put back."""

    disk: Disk
    # Few, so that peers' counts take several batches and a kill can come in between.
    rows_a_batch = 5

    def __init__(
        self,
        number: int,
        name: str,
        rules: Rules,
        timing: Timing,
        oracle: Oracle,
        choose: random.Random,
    ) -> None:
        super().__init__(number, name, rules.disk(oracle.written), rules, timing)
        self.oracle = oracle
        self.disk.recorded = oracle.book.recorded
        self.heard: dict[str, tuple[float, dict[str, int]]] = {}
        """When each replica was heard last, and what its reports advertised."""
        self.heard_keys: dict[str, dict[str, int]] = {}
        """Up to which number each replica's last report had the keys of every other."""
        self.slow = 0.0
        """Seconds that a write takes."""
        self.clock = 0.0
        """Seconds by which its wall clock is wrong, beside the skew."""
        self._choose = choose
        self._skew = choose.uniform(-_SKEW, _SKEW)
        self._under_way: tuple[float, Batch] | None = None
        """The batch that is being written, and when that is done."""
        self._pending: dict[str, Request] = {}
        self._in_flight: dict[str, Request] = {}
        self.becomes_old = False
        """Whether its next run is of a version that knows no classes."""
        self.is_old = False
        """Whether it runs such a version."""
        self._kept: Counter[str] = Counter()
        self._kept_in_flight: Counter[str] = Counter()
        """Visits of classes that go into notes, and those that are in flight."""

    # -- its clock, and its ids

    @property
    def epoch(self) -> float:
        """See `Node.epoch`."""
        return EPOCH + self._skew + self.clock

    def set_clock(self, seconds: float) -> None:
        """Set the wall clock wrong by so many seconds; the node notices."""
        self.clock = seconds
        if self.replica is not None:
            self.replica.succession.clock_stepped(self.epoch)

    def mint_store(self) -> str:
        """See `Node.mint_store`."""
        return mint_store(self._choose.getrandbits(64))

    def mint_run(self, latest: str) -> str:
        """See `Node.mint_run`; processes of one member may begin in any order."""
        clock = (
            EPOCH * 1000 + int((self.now + self.clock) * 1000) + self._choose.randrange(-2000, 2000)
        )
        return self.rules.mint(clock, latest, self._choose.getrandbits(64))

    # -- life and death

    def start(self) -> None:
        """Start a new run on the disk; nothing happens if the disk fails."""
        try:
            super().start()
        except StoreDownError:
            return
        self.heard, self.heard_keys = {}, {}
        self._pending, self._in_flight = {}, {}
        self._kept, self._kept_in_flight = Counter(), Counter()
        self.is_old = self.becomes_old
        self.oracle.started(self, self.now + self.timing.join_timeout)

    def kill(self) -> None:
        """End at once; the memory is lost."""
        super().kill()
        self._under_way = None

    def stop(self) -> list[Sent]:
        """End in order: flush, publish, say goodbye."""
        sent: list[Sent] = []
        if self.replica is not None:
            self.slow = 0.0
            for _ in range(1 if self.disk.failure else 20):
                if not self.replica.unsaved():
                    break
                sent += self.flush()
            sent += self.publish()
            sent += self.sent(self.replica.leave(self.now))
        self.kill()
        return sent

    def snapshot(self) -> Memory | None:
        """Return the machine's memory as it is now; None if it does not run."""
        if self.process is None:
            return None
        marks = copy.deepcopy(self.disk._marks)
        parts = self.process, marks, self._under_way, self._pending, self._in_flight
        return Memory(*parts).again()

    def revert(self, memory: Memory) -> None:
        """Put the memory back to a snapshot; the disk may be later or earlier."""
        self.kill()
        self.disk.open(self.address, lambda: "")
        memory = memory.again()
        self.process, self._under_way = memory.process, memory.under_way
        self.disk._marks = memory.marks
        self._pending, self._in_flight = dict(memory.pending), dict(memory.in_flight)
        self.heard, self.heard_keys = {}, {}

    # -- what its threads would do

    def tick(self) -> list[Sent]:
        """See `Node.tick`."""
        sent = super().tick()
        self._look()
        return sent

    def is_moving(self) -> bool:
        """Whether its store has only some rows of a fold, and runs."""
        marks = marks_kept(self.disk.facts).values()
        return self.replica is not None and any(mark != since for mark, since in marks)

    def is_overtaken(self) -> bool:
        """Whether its member has had a run that sorts after the one that runs here."""
        replica = self.replica
        return replica is not None and run_of(replica.id) < replica.members.latest(replica.member)

    def visit(self, video: str) -> None:
        """Take one visit, if the node runs."""
        if self.replica is not None and not self.replica.ledger.is_blocked(video):
            self.replica.visit(video)
            self.oracle.tried(self.replica.member, video)

    def turn_away(self, key: str) -> None:
        """Take one visit that counts in a class, if the node runs and knows classes."""
        if self.replica is None or self.is_old:
            return
        if self.replica.pending.untold.keeps:
            self._kept[key] += 1
        self.replica.count_many({key: 1})
        self.oracle.tried(self.replica.member, key)

    def post(self, key: str, videos: Sequence[str]) -> None:
        """Take visits under a key, if the node runs."""
        replica = self.replica
        if replica is None:
            return
        found = replica.keys.find(key, self.now)
        if found is not None and found.place == "committed":
            self.oracle.answered(self.address, key)
        if found is not None or not replica.complete:
            return
        fingerprint = ",".join(videos).encode()[:16].ljust(16)
        replica.count_many(Counter(videos), key=Key(key, fingerprint, self.now))
        for video in videos:
            self.oracle.tried(replica.member, video)
        self._pending[key] = self.oracle.counted(self.address, key, self.now)

    def withdraw(self, video: str, much: float | None) -> None:
        """Withdraw a part of a video's visits, or all with None, as far as there are any."""
        replica = self.replica
        if replica is None or replica.state != "ready":
            return
        counter = replica.counter(video)
        there = sum(replica.ledger.left(video, counter).values())
        number = there if much is None else min(there, 1 + int(much * there))
        if number:
            self.record("withdraw", video, replica.ledger.takes(video, counter, number))

    def record(self, act: Act, video: str, takes: Takes) -> None:
        """Take a correction of an operator, if the node is ready."""
        replica = self.replica
        if replica is None or replica.state != "ready":
            return
        at = replica.ledger.next_time(video, self.date())
        id_ = f"{self._choose.getrandbits(128):032x}"
        record = Record(id_, at, "ops", video, act, "", takes)
        replica.ledger.take(record)
        if wrong := self.oracle.book.made(record, replica):
            raise BrokenPromiseError(f"the last wins: {wrong}")

    def flush(self) -> list[Sent]:
        """Write a batch as the flush thread does, which takes `slow` seconds and may fail.

        Between its steps what is stored is published, and seen.
        """
        process, sent = self.running, list[Sent]()

        def between() -> None:
            sent.extend(self.publish())
            self._look()

        process.between = between
        try:
            return self._flush(process) + sent
        finally:
            del process.between

    def _flush(self, process: Process) -> list[Sent]:
        if self._under_way is None:
            self._under_way = self.now + self.slow, self.next_batch()
            self._in_flight, self._pending = self._pending, {}
            self._kept_in_flight, self._kept = self._kept, Counter()
            self.oracle.numbered(self._under_way[1].keys, self._in_flight)
        due, batch = self._under_way
        if due > self.now:
            return []
        self._under_way = None
        self.disk.to_come = self._in_flight
        try:
            stored = process.write(batch)
        except StoreDownError:
            stored = False
        finally:
            self.disk.to_come = {}
        if not stored:
            self._pending = self._in_flight | self._pending
            self._kept += self._kept_in_flight
            return []
        if not process.replica.unsaved():
            self.oracle.saved(self)
        keys = process.replica.keys.publish(self.now) if batch.keys.own else []
        # First: a batch may also have the counts that were kept until now.
        self.oracle.kept(process.replica.member, self._kept_in_flight)
        self.oracle.book.stored(batch.notes)
        for run, counts in batch.own.items():
            self.oracle.acknowledged(run, counts)
        process.join_store()
        return self.sent(Effects(broadcast=list(keys)))

    def encode(self, body: Body, sender: str = "") -> bytes:
        """See `Node.encode`; an old node does not say what it does not know."""
        if self.is_old and isinstance(body, Report):
            body = replace(body, knows=0)
        return super().encode(body, sender)

    def hear(self, envelope: Envelope) -> list[Sent]:
        """See `Node.hear`; remember what was advertised."""
        sender, body = envelope.sender, envelope.body
        own = sender == self.running.replica.id
        _, totals = self.heard.get(sender, (0.0, {}))
        if isinstance(body, Report):
            totals = totals if own else totals | _advertised(body)
            if body.keys is not None:
                self.heard_keys[sender] = body.keys
        self.heard[sender] = (self.now, totals)
        if isinstance(body, KeysPage) and not own:
            self.oracle.told(self.address, body)
        sent = super().hear(envelope)
        self._look()
        return sent

    def _look(self) -> None:
        if self.replica is None:
            return
        heard = self.heard.items()
        live = [
            sender for sender, (at, _) in heard if self.now - at <= 3 * self.timing.sync_interval
        ]
        advertised = [self.heard[sender][1] for sender in live]
        keys = [self.heard_keys.get(sender, {}) for sender in live]
        self.oracle.look(self.address, self.replica, advertised, keys, self.now)


def _advertised(report: Report) -> dict[str, int]:
    """Return the totals in a report, by vector."""
    totals = {}
    for member, state in report.states.items():
        if state.mark:
            totals[folded_of(member, state.mark)] = state.folded[0]
        for run, (total, _, _) in state.runs.items():
            totals[replica_of(member, run)] = total
    return totals
