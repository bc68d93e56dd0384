"""A place of the exhaustive search: a store, and the process on it, if one runs.

Its steps are as coarse as possible: a flush is one step, and time passes in leaps. Messages are
bytes, as between real nodes.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from counter.crdt.ids import is_folded, member_of, mint_run, mint_store, run_of
from counter.protocol.effects import Effects
from counter.protocol.members import decode_fact, is_note
from counter.protocol.messages import Body, Envelope, decode, encode
from counter.store.contract import NOTHING, Counts, Marks
from counter.store.memory import MemoryStore
from simulation.node import Rules
from simulation.process import Process, Timing

WHILE = 2.0
"""Seconds that pass at once: no message lives longer, and a node not heard twice is silent."""
TIMING = Timing(sync_interval=1, join_timeout=3, message_ttl=2, fold_after=12)
"""In whole seconds, as integers: see `frozen`."""
APART = 32
"""Milliseconds between the runs of a member whose clock is right."""
_ROWS = 1000
_EPOCH = 1_700_000_000_000
_MAX_MESSAGES = 400

_AGE, _RUN = "age:", "run:"
"""The note of the age of a store, and how those of runs begin: when they began and closed."""

Sent = tuple[str, bytes]
"""The address that a message goes to ("" is everybody), and the message."""


class Volume(MemoryStore):
    """A memory store whose flush mark changes only with its content.

    Otherwise no two states of a node would ever be the same.
    """

    def write(
        self,
        counts: Counts,
        *,
        facts: Mapping[str, str] = NOTHING,
        drop: Collection[str] = (),
        heal: bool = False,
    ) -> None:
        """See `Store.write`."""
        new = [name for name, fact in facts.items() if self.facts.get(name) != fact]
        if not (counts or new or drop or heal) and self._marks.accepts(self.mark, heal=False):
            return
        super().write(counts, facts=facts, drop=drop, heal=heal)

    def renumber(self) -> None:
        """Renumber the flush marks: it only matters whether the one in the store is right.

        Otherwise states would differ by how often something was written.
        """
        if self._marks.written and self._marks.accepts(self.mark, heal=False):
            self._marks = Marks(self._marks.replica)
            self.mark = f"{self._marks.replica}:1.0"
            self._marks.right.append(self.mark)
            self._marks.tried, self._marks.written = 1, True
            self._seal()

    def is_ahead(self) -> None:
        """Hold the mark of a later write, because the memory of the process went back."""
        self.mark = f"{self._marks.replica}:{self._marks.tried + 1}.1"
        self._seal()

    def take(self, other: "Volume") -> None:
        """Hold from now on what another volume holds, also under a running process."""
        if (self.counts, self.facts) == (other.counts, other.facts):
            return
        age = _age(self.facts)
        # No mark is written twice, whatever its number.
        self.mark = f"{(other.mark or '').partition(':')[0]}:0.0"
        self.counts = {vector: dict(kept) for vector, kept in other.counts.items()}
        self.facts = dict(other.facts)
        self.store, self.name = other.store, other.name
        if age is not None:
            # A copy is not older than what it is a copy of.
            self.facts = older(self.facts, max(0, (_age(self.facts) or 0) - age))
        self._seal_all()


def _age(facts: Mapping[str, str]) -> int | None:
    """Return the age of a store in ms, if it has one."""
    return int(facts[_AGE]) if _AGE in facts else None


def older(facts: Mapping[str, str], by: int) -> dict[str, str]:
    """Return facts whose times are so many ms earlier in the life of their store."""
    shifted = dict(facts)
    for name, fact in facts.items():
        if name == _AGE:
            shifted[name] = str(int(fact) - by)
        elif name.startswith(_RUN) and not fact.endswith("-"):
            date, _, closed = fact.partition(" ")
            shifted[name] = f"{date} {max(0, int(closed) - by)}"
    return shifted


class Holding:
    """The content of a memory or a store, seen as a tally."""

    def __init__(self, marks: dict[str, str], counts: dict[str, dict[str, int]]) -> None:
        self.marks = marks
        self.counts = {
            vector: kept
            for vector, kept in counts.items()
            if kept and _counts(vector, marks.get(member_of(vector), ""))
        }

    def mark(self, member: str) -> str:
        """The fold mark of a member."""
        return self.marks.get(member, "")

    def vectors(self) -> Iterator[tuple[str, dict[str, int]]]:
        """Each vector that counts, and its id."""
        yield from self.counts.items()

    def count(self, vector: str, video: str) -> int:
        """The count of a video in one vector."""
        return self.counts[vector].get(video, 0)


def _counts(vector: str, mark: str) -> bool:
    """Whether a vector counts under a fold mark, as in a tally."""
    run = run_of(vector)
    return run == mark if is_folded(vector) else run > mark


class Place:
    """An address and a name, a volume, and the process that runs on it.

    `ahead` is the time of its wall clock, in ms; a run begins at it, or after the newest one that
    is known here. 0 stands for a clock that is behind.
    """

    def __init__(self, number: int, name: str, rules: Rules) -> None:
        self.number = number
        self.name = name
        self.address = f"at-{number}"
        self.rules = rules
        self.volume = Volume()
        self.process: Process | None = None
        self.now = 0.0
        self.clock = 0
        self.minted = 0
        """How many runs have begun here."""

    # -- what happens

    def start(self, clock: int) -> None:
        """Start a new run by this clock."""
        self.clock = clock
        self.process = self.rules.process.start(
            self.rules,
            self.volume,
            self.address,
            self.name,
            TIMING,
            self.now,
            # All runs have the same date, for the sake of equal states.
            epoch=_EPOCH // 1000 - int(self.now),
            mint_store=lambda: mint_store(self.number),
            mint_run=self._mint,
        )

    def _mint(self, latest: str) -> str:
        # Of two runs that begin in the same ms, the later one may sort first.
        self.minted += 1
        return mint_run(_EPOCH + self.clock, latest, 1000 * (self.number + 1) - self.minted)

    def forget(self, later: "Place") -> None:
        """Go on with this memory on the store of a later state of this place."""
        marks = later.volume._marks
        same = (self.volume.counts, self.volume.facts) == (later.volume.counts, later.volume.facts)
        self.volume.take(later.volume)
        if not same and marks.replica == self.volume._marks.replica:
            self.volume.is_ahead()
        elif not same:
            self.volume.mark = f"{marks.replica}:{marks.tried + 1}.1"
            self.volume._seal()

    def kill(self) -> None:
        """End at once."""
        self.process = None
        self.volume.close()

    def visit(self, video: str) -> None:
        """Count a visit and store it, so it is acknowledged."""
        assert self.process is not None
        self.process.replica.visit(video)
        self.flush()

    def flush(self) -> None:
        """Write everything, and again if the store has lost something."""
        assert self.process is not None
        while not self.process.write(self.process.batch(_ROWS, self.now, self._mint)):
            pass
        self.process.join_store()

    def wait(self) -> list[Sent]:
        """Let a while pass: flush, publish, report; return the messages."""
        assert self.process is not None
        self.now += WHILE
        self.flush()
        deltas = [("", self._encode(delta, run)) for run, delta in self.process.replica.publish()]
        return deltas + self._send(self.process.replica.sync(self.now))

    def receive(self, message: bytes) -> list[Sent]:
        """Receive a message; return the messages that it leads to."""
        assert self.process is not None
        envelope = decode(message, None, _EPOCH, 1)
        return self._send(self.process.replica.receive(envelope, self.now))

    def remove(self, member: str) -> list[Sent]:
        """As the operator, remove a member."""
        assert self.process is not None
        return self._send(self.process.replica.remove(member, self.now))

    def _send(self, effects: Effects) -> list[Sent]:
        sent = [("", self._encode(body)) for body in effects.broadcast]
        return sent + [(address, self._encode(body)) for address, body in effects.send]

    def _encode(self, body: Body, sender: str = "") -> bytes:
        assert self.process is not None
        sender = sender or self.process.replica.id
        return encode(Envelope(sender, self.address, _EPOCH, body), None)

    # -- what it looks like

    @property
    def member(self) -> str:
        """The member that counts here."""
        return f"{self.name}~{self.volume.store}"

    def memory(self) -> Holding | None:
        """What the process shows."""
        if self.process is None:
            return None
        tally = self.process.replica.tally
        counts = {vector: dict(counted.items()) for vector, counted in tally.vectors()}
        marks = {member: tally.mark(member) for member in map(member_of, counts)}
        return Holding(marks, counts)

    def stored(self) -> Holding:
        """What its store holds."""
        facts = self.volume.facts.items()
        marks = {member: decode_fact(fact)[2] for member, fact in facts if not is_note(member)}
        return Holding(marks, self.volume.counts)

    def unheard(self) -> list[str]:
        """The members that an operator may remove here."""
        if self.process is None:
            return []
        return sorted(self.process.replica.folding.fold_blockers(self.now))


def deliver(
    places: Mapping[str, Place], sent: Sequence[tuple[str, Sent]], hears: Callable[[str, str], bool]
) -> None:
    """Deliver messages, and those that they lead to, in order between running places.

    `sent` are messages with their senders' addresses; `hears(target, source)` says whether a
    message arrives.
    """
    queue = deque(sent)
    for _ in range(_MAX_MESSAGES):
        if not queue:
            return
        source, (target, message) = queue.popleft()
        for address in [target] if target else places:
            place = places.get(address)
            if place is not None and place.process and address != source and hears(address, source):
                queue.extend((address, answer) for answer in place.receive(message))
    raise AssertionError(f"more than {_MAX_MESSAGES} messages at once")
