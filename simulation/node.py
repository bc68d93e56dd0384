"""A node of a simulated cluster: a real `Replica` on a disk that can fail, without threads."""

import copy
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import simulation.frozen  # noqa: F401 - it knows how a fold that was begun is copied
from counter.crdt.ids import folded_of, mint_run, mint_store, replica_of
from counter.crdt.tally import Tally
from counter.protocol.backlog import Batch
from counter.protocol.effects import Effects
from counter.protocol.key_log import Key
from counter.protocol.keys import Keys
from counter.protocol.messages import (
    Body,
    Envelope,
    KeysPage,
    RejectedError,
    Report,
    decode,
    encode,
)
from counter.protocol.repairs import Repairs
from counter.protocol.replica import Replica
from counter.protocol.reports import Reports
from counter.store.contract import Marks, StoreDownError
from counter.store.memory import MemoryStore
from simulation.disk import Disk
from simulation.network import Network
from simulation.oracle import Oracle, Request
from simulation.process import Process, Timing

SYNC_INTERVAL = 1.0
JOIN_TIMEOUT = 5.0
MESSAGE_TTL = 4.0
FOLD_AFTER = 2.0
TIMING = Timing(SYNC_INTERVAL, JOIN_TIMEOUT, MESSAGE_TTL, FOLD_AFTER)
KEY_LIFE = 100.0
"""Longer than `REST`, or what is missing in the end would expire before that is seen."""
_SKEW = 0.5
"""The most seconds by which a clock is wrong."""
_EPOCH = 1_700_000_000_000
_ROWS_A_BATCH = 5
"""Few, so that peers' counts take several batches and a kill can come in between."""


class SmallRepairs(Repairs):
    """Repairs that take several pages, though a simulated vector is short."""

    scanned_a_page = 2


class SmallKeys(Keys):
    """Keys of which a message holds two, and which soon expire."""

    life = KEY_LIFE
    page_bytes = 90


class SmallReports(Reports):
    """Reports of which a message names two closed runs."""

    runs_a_page = 2


class SmallPages(Replica):
    """A replica with such repairs, keys and reports."""

    repairs_class = SmallRepairs
    keys_class = SmallKeys
    reports_class = SmallReports


@dataclass(frozen=True)
class Rules:
    """The parts of a node; a mutant replaces one of them by a faulty one."""

    replica: type[Replica] = SmallPages
    tally: type[Tally] = Tally
    disk: type[Disk] = Disk
    process: type[Process] = Process
    mint: Callable[[int, str, int], str] = mint_run


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
        return copy.deepcopy(self, known)


def may_be_copied(process: Process) -> bool:
    """Whether a process can be copied: in the middle of a fold it has a generator."""
    fold = process.replica.folding.under_way
    return fold is None or not fold.vector.total


def marks_of(store: MemoryStore) -> Marks:
    """Return the flush marks of the process on a store."""
    return copy.deepcopy(store._marks)


class Node:
    """An address, a name, a disk, and the replica that runs on it."""

    def __init__(
        self,
        address: str,
        name: str,
        rules: Rules,
        network: Network,
        oracle: Oracle,
        choose: random.Random,
        timing: Timing = TIMING,
    ) -> None:
        self.address = address
        self.name = name
        self.network = network
        self.oracle = oracle
        self.rules = rules
        self.disk = rules.disk(oracle)
        self.process: Process | None = None
        self.heard: dict[str, tuple[float, dict[str, int]]] = {}
        """When each replica was heard last, and what its reports advertised."""
        self.heard_keys: dict[str, dict[str, int]] = {}
        """Up to which number each replica's last report had the keys of every other."""
        self.slow = 0.0
        """Seconds that a write takes."""
        self.clock = 0.0
        """Seconds by which the wall clock was set wrong."""
        self._timing = timing
        self._choose = choose
        self._skew = choose.uniform(-_SKEW, _SKEW)
        self._next_sync = 0.0
        self._under_way: tuple[float, Batch] | None = None
        self._pending: dict[str, Request] = {}
        self._in_flight: dict[str, Request] = {}

    @property
    def replica(self) -> Replica | None:
        """The replica that runs here, if one does."""
        return self.process.replica if self.process else None

    # -- life and death

    def start(self, now: float) -> None:
        """Start a new run on the disk; nothing happens if the disk fails."""
        choose = self._choose
        try:
            self.process = self.rules.process.start(
                self.rules,
                self.disk,
                self.address,
                self.name,
                self._timing,
                now,
                epoch=self._epoch,
                mint_store=lambda: mint_store(choose.getrandbits(64)),
                mint_run=lambda latest: self._mint(now, latest),
            )
        except StoreDownError:
            return
        self.heard, self.heard_keys = {}, {}
        self._pending, self._in_flight = {}, {}
        self._next_sync = now
        self.oracle.started(self, now + self._timing.join_timeout)

    def _mint(self, now: float, latest: str) -> str:
        clock = _EPOCH + int((now + self.clock) * 1000) + self._choose.randrange(-2000, 2000)
        return self.rules.mint(clock, latest, self._choose.getrandbits(64))

    def kill(self) -> None:
        """End at once; the memory is lost."""
        self.process = self._under_way = None
        self.disk.close()

    def stop(self, now: float) -> None:
        """End in order: flush, publish, say goodbye."""
        if self.replica is not None:
            self.slow = 0.0
            for _ in range(20):
                if not (self.replica.unsaved() and self.flush(now)):
                    break
            self.publish(now)
            self._do(self.replica.leave(now), now)
        self.kill()

    def set_clock(self, seconds: float) -> None:
        """Set the wall clock wrong by so many seconds; the node notices."""
        self.clock = seconds
        if self.replica is not None:
            self.replica.succession.clock_stepped(self._epoch)

    def snapshot(self) -> Memory | None:
        """Return the machine's memory as it is now; None if it does not run or is in a fold."""
        if self.process is None or not may_be_copied(self.process):
            return None
        marks = marks_of(self.disk)
        parts = self.process, marks, self._under_way, self._pending, self._in_flight
        return Memory(*parts).again()

    def revert(self, memory: Memory) -> None:
        """Put the memory back to a snapshot; the disk may be later or earlier."""
        self.kill()
        self.disk.open(self.address, lambda: "")
        memory = memory.again()
        self.process, self._under_way = memory.process, memory.under_way
        self.disk.resume(memory.marks)
        self._pending, self._in_flight = dict(memory.pending), dict(memory.in_flight)
        self.heard, self.heard_keys = {}, {}

    # -- what its threads would do

    def tick(self, now: float) -> None:
        """Do what a node does every `PUBLISH_INTERVAL`, and report when that is due."""
        if self.replica is None:
            return
        self.flush(now)
        self.publish(now)
        if now >= self._next_sync:
            self._next_sync = now + SYNC_INTERVAL
            self._do(self.replica.sync(now), now)
        self._look(now)

    def visit(self, video: str) -> None:
        """Take one visit, if the node runs."""
        if self.replica is not None:
            self.replica.visit(video)
            self.oracle.tried(self.replica.member, video)

    def post(self, key: str, videos: Sequence[str], now: float) -> None:
        """Take visits under a key, if the node runs."""
        replica = self.replica
        if replica is None:
            return
        found = replica.keys.find(key, now)
        if found is not None and found.place == "committed":
            self.oracle.answered(self.address, key)
        if found is not None or not replica.complete:
            return
        fingerprint = ",".join(videos).encode()[:16].ljust(16)
        replica.count_many(Counter(videos), key=Key(key, fingerprint, now))
        for video in videos:
            self.oracle.tried(replica.member, video)
        self._pending[key] = self.oracle.counted(self.address, key, now)

    def remove(self, choice: int, now: float) -> str:
        """As the operator, remove a member that is not heard here; return it, "" for none."""
        if self.replica is None:
            return ""
        silent = [
            member
            for member in self.replica.folding.fold_blockers(now)
            if member != self.replica.member
        ]
        if not silent:
            return ""
        member = silent[choice % len(silent)]
        self.remove_member(member, now)
        return member

    def remove_member(self, member: str, now: float) -> None:
        """As the operator, remove this member."""
        assert self.replica is not None
        self._do(self.replica.remove(member, now), now)

    def flush(self, now: float) -> bool:
        """Write a batch as the flush thread does, which takes `slow` seconds; False if it fails."""
        process = self.process
        assert process is not None
        replica = process.replica
        if self._under_way is None:
            batch = process.batch(_ROWS_A_BATCH, now, lambda latest: self._mint(now, latest))
            self._under_way = now + self.slow, batch
            self._in_flight, self._pending = self._pending, {}
            self.oracle.numbered(batch.keys, self._in_flight)
        due, batch = self._under_way
        if due > now:
            return True
        self._under_way = None
        self.disk.to_come = self._in_flight
        try:
            stored = process.write(batch)
        except StoreDownError:
            self._pending = self._in_flight | self._pending
            return False
        finally:
            self.disk.to_come = {}
        if not stored:
            self._pending = self._in_flight | self._pending
            return True
        if not replica.unsaved():
            self.oracle.saved(self)
        if batch.keys.own:
            self.publish_keys(now)
        for run, counts in batch.own.items():
            self.oracle.acknowledged(run, counts)
        process.join_store()
        return True

    def publish(self, now: float) -> None:
        """Publish what changed."""
        assert self.replica is not None
        self.publish_keys(now)
        for run, delta in self.replica.publish():
            self._send("", delta, now, run)

    def publish_keys(self, now: float) -> None:
        """Publish the keys that were stored."""
        assert self.replica is not None
        self._do(Effects(broadcast=list(self.replica.keys.publish(now))), now)

    def receive(self, message: bytes, now: float) -> None:
        """Receive a message."""
        if self.replica is None:
            return
        try:
            envelope = decode(message, None, self._clock(now), int(MESSAGE_TTL * 1000))
        except RejectedError as error:
            assert error.reason == "clock"  # noqa: PT017 - it was late, and is dropped
            return
        _, totals = self.heard.get(envelope.sender, (0.0, {}))
        if isinstance(envelope.body, Report) and envelope.sender != self.replica.id:
            totals = totals | _advertised(envelope.body)
        self.heard[envelope.sender] = (now, totals)
        if isinstance(envelope.body, Report) and envelope.body.keys is not None:
            self.heard_keys[envelope.sender] = envelope.body.keys
        if isinstance(envelope.body, KeysPage) and envelope.sender != self.replica.id:
            self.oracle.told(self.address, envelope.body)
        self._do(self.replica.receive(envelope, now), now)
        self._look(now)

    def _clock(self, now: float) -> int:
        return int((now + self._epoch) * 1000)

    @property
    def _epoch(self) -> float:
        """The wall clock's time at virtual time 0, in Unix seconds."""
        return _EPOCH / 1000 + self._skew + self.clock

    def _look(self, now: float) -> None:
        assert self.replica is not None
        live = [sender for sender, (at, _) in self.heard.items() if now - at <= 3 * SYNC_INTERVAL]
        advertised = [self.heard[sender][1] for sender in live]
        keys = [self.heard_keys.get(sender, {}) for sender in live]
        self.oracle.look(self.address, self.replica, advertised, keys, now)

    def _do(self, effects: Effects, now: float) -> None:
        for body in effects.broadcast:
            self._send("", body, now)
        for address, body in effects.send:
            self._send(address, body, now)

    def _send(self, address: str, body: Body, now: float, sender: str = "") -> None:
        assert self.replica is not None
        sender = sender or self.replica.id
        message = encode(Envelope(sender, self.address, self._clock(now), body), None)
        self.network.send(now, self.address, address, message)


def _advertised(report: Report) -> dict[str, int]:
    """Return the totals in a report, by vector."""
    totals = {}
    for member, state in report.states.items():
        if state.mark:
            totals[folded_of(member, state.mark)] = state.folded[0]
        for run, (total, _, _) in state.runs.items():
            totals[replica_of(member, run)] = total
    return totals
