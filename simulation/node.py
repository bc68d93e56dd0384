"""A node of a simulated cluster: a real `Replica` over a store that can fail, without threads."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from counter.messages import Body, Envelope, Report, decode, encode
from counter.replica import Effects, Replica, mint_run, mint_store
from counter.store import Counts, StoreDownError, StoreForgotError
from counter.store.memory import MemoryStore
from counter.tally import Tally
from simulation.network import Network
from simulation.oracle import Oracle

SYNC_INTERVAL = 1.0
JOIN_TIMEOUT = 5.0
TTL_MS = 30_000
_EPOCH = 1_700_000_000_000
_ROWS_A_BATCH = 5
"""Few, so that what peers told takes several batches and a kill can come in between."""


class Disk(MemoryStore):
    """A memory store that outlives its node, and fails on demand, before or after it wrote."""

    def __init__(self, oracle: Oracle) -> None:
        super().__init__()
        self.failure = ""
        self._oracle = oracle

    def write(self, counts: Counts, *, heal: bool = False) -> None:
        """See `Store.write`."""
        if self.failure == "before":
            raise StoreDownError("the simulated disk fails")
        super().write(counts, heal=heal)
        self._oracle.written(counts)
        if self.failure == "after":
            raise StoreDownError("the simulated disk fails, and has written all the same")

    def copy(self) -> "Copy":
        """What a copy of the store's files would hold."""
        counts = {replica: dict(vector) for replica, vector in self.counts.items()}
        return Copy(counts, self.mark, self.store, self.name)

    def restore(self, copy: "Copy") -> None:
        """Become what it was when `copy` was made, under whoever has it open."""
        self.counts = {replica: dict(vector) for replica, vector in copy.counts.items()}
        self.mark, self.store, self.name = copy.mark, copy.store, copy.name


@dataclass(frozen=True)
class Copy:
    """A copy of a disk; the empty one is a new disk."""

    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    mark: str | None = None
    store: str | None = None
    name: str | None = None


class SmallPages(Replica):
    """A replica whose repairs take several pages, though a simulated vector is short."""

    scanned_a_page = 2


@dataclass(frozen=True)
class Rules:
    """What a node is made of; a deliberate fault puts something else in the place of one part."""

    replica: type[Replica] = SmallPages
    tally: type[Tally] = Tally
    disk: type[Disk] = Disk
    mint: Callable[[int, str, int], str] = mint_run


class Node:
    """A place in the cluster: an address, a name, a disk, and the replica that runs on it."""

    def __init__(
        self, address: str, name: str, rules: Rules, network: Network, oracle: Oracle
    ) -> None:
        self.address = address
        self.name = name
        self.network = network
        self.oracle = oracle
        self.rules = rules
        self.disk = rules.disk(oracle)
        self.replica: Replica | None = None
        self.heard: dict[str, tuple[float, dict[str, int]]] = {}
        """When each replica was heard last, and what its reports advertised."""
        self._next_sync = 0.0
        self._has_forgotten = False

    # -- life and death

    def start(self, now: float, choose: random.Random) -> None:
        """Start a new run on the disk; nothing happens while that fails."""
        try:
            opened = self.disk.open(self.address, lambda: mint_store(choose.getrandbits(64)))
            clock = _EPOCH + int(now * 1000) + choose.randrange(-2000, 2000)
            run = self.rules.mint(clock, opened.latest_run, choose.getrandbits(64))
            replica = self.rules.replica(
                f"{self.name}~{opened.store}.{run}",
                self.rules.tally(),
                now,
                sync_interval=SYNC_INTERVAL,
                join_timeout=JOIN_TIMEOUT,
                has_peers=True,
            )
            self.disk.begin(replica.id)
        except StoreDownError:
            self.disk.close()
            return
        for piece in self.disk.load():
            replica.loaded(*piece)
        self.replica, self.heard, self._has_forgotten = replica, {}, False
        self._next_sync = now
        self.oracle.started(self.address)

    def kill(self) -> None:
        """End at once; what was in memory is gone."""
        self.replica = None
        self.disk.close()

    def stop(self, now: float) -> None:
        """End in order: flush, publish, say goodbye."""
        if self.replica is not None:
            for _ in range(20):
                if not (self.replica.unsaved() and self.flush()):
                    break
            self.publish(now)
            self._do(self.replica.leave(now), now)
        self.kill()

    # -- what its threads would do

    def tick(self, now: float) -> None:
        """What happens about every `PUBLISH_INTERVAL`; the report when it is due."""
        if self.replica is None:
            return
        self.flush()
        self.publish(now)
        if now >= self._next_sync:
            self._next_sync = now + SYNC_INTERVAL
            self._do(self.replica.sync(now), now)
        self._look(now)

    def visit(self, video: str) -> None:
        """Take one visit, if there is anybody to take it."""
        if self.replica is not None:
            self.replica.visit(video)
            counted = self.replica.counter(video, raised=True)[self.replica.member]
            self.oracle.tried(self.replica, video, counted)

    def flush(self) -> bool:
        """Write one batch, as the flush thread does; say whether it was stored."""
        replica = self.replica
        assert replica is not None
        batch = replica.batch(_ROWS_A_BATCH)
        try:
            self.disk.write(batch.counts(replica.id), heal=self._has_forgotten)
        except StoreForgotError:
            replica.not_stored(batch)
            replica.forgotten()
            self._has_forgotten = True
            return True
        except StoreDownError:
            replica.not_stored(batch)
            return False
        if self._has_forgotten:
            for piece in self.disk.load():
                replica.loaded(*piece)
        self._has_forgotten = False
        replica.stored(batch)
        self.oracle.acknowledged(replica.id, batch.own)
        return True

    def publish(self, now: float) -> None:
        """Publish what changed."""
        assert self.replica is not None
        self._do(Effects(broadcast=list(self.replica.publish())), now)

    def receive(self, message: bytes, now: float) -> None:
        """Take a message in."""
        if self.replica is None:
            return
        clock = _EPOCH + int(now * 1000)
        envelope = decode(message, None, clock, TTL_MS)
        _, totals = self.heard.get(envelope.sender, (0.0, {}))
        if isinstance(envelope.body, Report) and envelope.sender != self.replica.id:
            totals = totals | envelope.body.totals
        self.heard[envelope.sender] = (now, totals)
        self._do(self.replica.receive(envelope, now), now)
        self._look(now)

    def _look(self, now: float) -> None:
        assert self.replica is not None
        advertised = [t for heard, t in self.heard.values() if now - heard <= 3 * SYNC_INTERVAL]
        self.oracle.look(self.address, self.replica, advertised)

    def _do(self, effects: Effects, now: float) -> None:
        for body in effects.broadcast:
            self._send("", body, now)
        for address, body in effects.send:
            self._send(address, body, now)

    def _send(self, address: str, body: Body, now: float) -> None:
        assert self.replica is not None
        sent = _EPOCH + int(now * 1000)
        message = encode(Envelope(self.replica.id, self.address, sent, body), None)
        self.network.send(now, self.address, address, message)
