"""A node in virtual time: a real `Replica` on a store in memory, without threads and I/O.

Whoever has a node sets its time, and sends what it returns.
"""

from counter.crdt.ids import mint_store
from counter.protocol.batch import Batch
from counter.protocol.effects import Effects
from counter.protocol.messages import Body, Envelope, RejectedError, decode, encode
from counter.protocol.replica import Replica
from counter.store.memory import MemoryStore
from simulation.process import Process
from simulation.rules import Rules, Timing

EPOCH = 1_700_000_000
"""The Unix time of virtual time 0, in seconds."""

Sent = tuple[str, bytes]
"""The address that a message goes to ("" is everybody), and the message."""


class Node:
    """An address, a name, a store, and the process that runs on it.

    Here stores answer at once and clocks are right; subclasses change that.
    """

    secret: str | None = None
    rows_a_batch = 10_000

    def __init__(
        self, number: int, name: str, disk: MemoryStore, rules: Rules, timing: Timing
    ) -> None:
        self.number = number
        self.address = f"at-{number}"
        self.name = name
        self.disk = disk
        self.rules = rules
        self.timing = timing
        self.process: Process | None = None
        self.now = 0.0
        """The virtual time."""
        self.next_report = 0.0

    @property
    def member(self) -> str:
        """The member that counts here."""
        return f"{self.name}~{self.disk.store}"

    @property
    def replica(self) -> Replica | None:
        """The replica that runs here, if one does."""
        return self.process.replica if self.process else None

    @property
    def running(self) -> Process:
        """The process that runs here; one must."""
        assert self.process is not None, f"{self.address} does not run"
        return self.process

    # -- its clock, and its ids

    @property
    def epoch(self) -> float:
        """The Unix time of virtual time 0 by its wall clock, in seconds."""
        return EPOCH

    def date(self) -> int:
        """Return the Unix time by its wall clock, in ms."""
        return int((self.now + self.epoch) * 1000)

    def mint_store(self) -> str:
        """Return the id of a new store."""
        return mint_store(self.number)

    def mint_run(self, latest: str) -> str:
        """Return the id of a new run; `latest` is the newest that its store knows, "" for none."""
        return self.rules.mint(self.date(), latest, self.number)

    # -- life and death

    def start(self) -> None:
        """Start a new run on the store. Raises `StoreDownError`; then nothing runs."""
        self.process = self.rules.process.start(
            self.disk,
            self.address,
            self.name,
            mint_store=self.mint_store,
            mint_run=self.mint_run,
            replica=lambda replica: self.rules.replica(
                replica,
                self.rules.tally(),
                self.now,
                **vars(self.timing),
                has_peers=True,
                epoch=self.epoch,
            ),
        )
        self.next_report = self.now

    def kill(self) -> None:
        """End at once; the memory is lost."""
        self.process = None
        self.disk.close()

    # -- what its threads would do

    def tick(self) -> list[Sent]:
        """Flush, publish, and report when that is due; nothing if it does not run."""
        if self.process is None:
            return []
        sent = self.flush() + self.publish()
        # Ticks do not add up exactly.
        if self.now > self.next_report - 1e-6:
            self.next_report = self.now + self.timing.sync_interval
            sent += self.sent(self.process.replica.sync(self.now))
        return sent

    def flush(self) -> list[Sent]:
        """Write everything, and again if the store has lost something."""
        process = self.running
        while not process.write(self.next_batch()):
            pass
        process.join_store()
        return []

    def next_batch(self) -> Batch:
        """Return what the store is to write next."""
        return self.running.batch(self.rows_a_batch, self.now, self.mint_run)

    def publish(self) -> list[Sent]:
        """Publish the keys that were stored, and the counts that changed."""
        replica = self.running.replica
        keys = self.sent(Effects(broadcast=list(replica.keys.publish(self.now))))
        return keys + [("", self.encode(delta, run)) for run, delta in replica.publish()]

    def receive(self, message: bytes) -> list[Sent]:
        """Receive a message, unless it is too late or nothing runs here."""
        if self.process is None:
            return []
        life = int(self.timing.message_ttl * 1000)
        try:
            envelope = decode(message, self.secret, self.date(), life)
        except RejectedError as error:
            assert error.reason == "clock"  # noqa: PT017 - it was late, and is dropped
            return []
        return self.hear(envelope)

    def hear(self, envelope: Envelope) -> list[Sent]:
        """Take in what a message says."""
        return self.sent(self.running.replica.receive(envelope, self.now))

    # -- what its operator does

    def unheard(self) -> list[str]:
        """Return the members that the operator may remove here."""
        return list(self.replica.folding.fold_blockers(self.now)) if self.replica else []

    def remove(self, member: str) -> list[Sent]:
        """Remove a member."""
        return self.sent(self.running.replica.remove(member, self.now))

    # -- messages

    def sent(self, effects: Effects) -> list[Sent]:
        """Return the messages of these effects."""
        to_all = [("", self.encode(body)) for body in effects.broadcast]
        return to_all + [(address, self.encode(body)) for address, body in effects.send]

    def encode(self, body: Body, sender: str = "") -> bytes:
        """Return a message; `sender` is the replica that it is of, if not the one here."""
        sender = sender or self.running.replica.id
        return encode(Envelope(sender, self.address, self.date(), body), self.secret)
