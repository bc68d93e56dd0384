"""Which runs of each member are open, which are closed and for how long, and when they began.

A run is closed once its member has a later run, or was removed, and the run itself was not heard
for the longest time that a message may live. Every node decides that for itself, without asking: a
closed run keeps its name, and only its counts rest. When it is heard again, it is open again.

How long a run has been closed is measured by the *age* of the store: the time for which nodes have
run on it. So setting a clock does not change it, and a node that was down folds nothing, when it
returns, that it had no time to hear of.

Pure: no I/O; times are in seconds of the caller's clock, which never goes back.
"""

from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from counter.crdt.ids import day_of, is_folded, member_of, run_of
from counter.crdt.tally import Tally
from counter.protocol.members import Members
from counter.protocol.peers import Peers

_NOTE = "run:"
_AGE = "age:store"


@dataclass(slots=True)
class Facts:
    """What is known of a run beside its counts. `closed` is the age at which it closed."""

    date: int = 0
    """When it began by its node's clock, in Unix ms; 0 if that is not known."""
    closed: float | None = None


class Runs:
    """The runs of every member, as far as they are not folded.

    `own` is the replica that runs here, and began at `date`; `message_ttl` is in seconds.
    """

    def __init__(
        self,
        own: str,
        date: int,
        tally: Tally,
        members: Members,
        peers: Peers,
        message_ttl: float,
        now: float,
    ) -> None:
        self._own = own
        self._tally = tally
        self._members = members
        self._peers = peers
        self._message_ttl = message_ttl
        self._facts: dict[str, Facts] = {own: Facts(date)}
        self._digests: dict[str, dict[int, tuple[int, int]]] = {}
        self._age = 0.0
        self._looked = now
        self._saved_age = -1.0
        self._save_every = message_ttl
        self._unsaved: set[str] = {own}
        self._gone: set[str] = set()
        self._waiting: frozenset[str] = frozenset()

    @property
    def zero(self) -> float:
        """The age of the store at the zero of the clock, in seconds."""
        return self._age - self._looked

    @property
    def date(self) -> int:
        """When the own run began, in Unix ms."""
        return self._facts[self._own].date

    def start_new_run(self, own: str, date: int) -> None:
        """Go on with another run of its own."""
        self._own = own
        self.learn_date(own, date)

    def learn_date(self, replica: str, date: int) -> None:
        """Take in when a run began; of two dates for one run the later one counts."""
        facts = self._facts.get(replica)
        if facts is None and self._tally.current(replica):
            facts = self._facts[replica] = Facts()
        if facts is not None and date > facts.date:
            facts.date = date
            self._unsaved.add(replica)

    def date_of(self, replica: str) -> int:
        """When a run began, in Unix ms; 0 if that is not known."""
        facts = self._facts.get(replica)
        return facts.date if facts else 0

    def look(self, now: float, waiting: Collection[str] = ()) -> None:
        """See, once a `SYNC_INTERVAL`, which runs have closed, and which are open again.

        `waiting` are runs of this process whose visits are on their way to the store: they are
        open, or these visits would be missing in what is folded.
        """
        self._age += max(0.0, now - self._looked)
        self._looked = now
        self.sort(waiting)
        for vector in [v for v in self._facts if not self._is_of_use(v)]:
            del self._facts[vector]
            self._unsaved.discard(vector)
            self._gone.add(vector)

    def sort(self, waiting: Collection[str] = ()) -> None:
        """Tell the closed runs from the open ones, as of the last look; see there."""
        self._waiting = frozenset(waiting)
        for member in self._members:
            for vector in self._tally.of(member):
                if not is_folded(vector):
                    self._close_or_open(vector, self._looked)

    def rest(
        self, unsaved: Container[str], repaired: Container[str], most: int | None = None
    ) -> None:
        """Put closed runs to rest in memory, but for these, about `most` counts at a time.

        While a node joins, as much as comes: many runs awake would not all fit into memory.
        """
        left = most or self._tally.most_packed
        for member in self._members:
            for vector in self.closed(member):
                awake = vector in unsaved or vector in repaired
                if not awake and not self._tally.rests(vector):
                    left -= self._tally.rest(vector, left)
                    if left <= 0:
                        return

    def rest_loaded(self, vector: str, unsaved: Container[str]) -> bool:
        """Put a closed run to rest, some counts of it; return whether others are left.

        A store may hold hundreds of them, which would not all fit into memory as they are read.
        """
        if not self.is_closed(vector) or vector in unsaved:
            return False
        packed = self._tally.rest(vector, self._tally.most_packed)
        return packed > 0 and not self._tally.rests(vector)

    def _is_of_use(self, vector: str) -> bool:
        """Whether anything is to be known of a run: it counts, or may still do so."""
        own = vector == self._own or vector in self._waiting
        counts = own or self._tally.total(vector) or vector in self._peers
        return bool(counts) and self._tally.current(vector)

    def _close_or_open(self, vector: str, now: float) -> None:
        facts = self._facts.get(vector)
        if facts is None:
            facts = self._facts[vector] = Facts()
            self._unsaved.add(vector)
        closed = self._is_closed(vector, now)
        if closed != (facts.closed is not None):
            facts.closed = self._age if closed else None
            self._unsaved.add(vector)
            self.changed(vector)

    def _is_closed(self, vector: str, now: float) -> bool:
        if vector == self._own or vector in self._waiting:
            return False
        if not self._members.is_closed(vector):
            return False
        silent = self._peers.silent_for(vector, now)
        return silent is None or silent > self._message_ttl

    def is_closed(self, vector: str) -> bool:
        """Whether a run was closed when this was looked at last."""
        facts = self._facts.get(vector)
        return facts is not None and facts.closed is not None

    def open_elsewhere(self, vector: str) -> None:
        """Another node still hears a run: however long it is closed here, that counts from now."""
        facts = self._facts.get(vector)
        if facts is not None and facts.closed is not None and self._age > facts.closed:
            facts.closed = self._age
            self._unsaved.add(vector)

    def closed_for(self, vector: str) -> float:
        """For how many seconds a run has been closed; 0 if it is open."""
        facts = self._facts.get(vector)
        return 0.0 if facts is None or facts.closed is None else self._age - facts.closed

    def closed(self, member: str) -> list[str]:
        """The closed runs of a member that are not folded, oldest first."""
        return [vector for vector in self._tally.of(member) if self.is_closed(vector)]

    def open(self, member: str) -> set[str]:
        """The runs of a member that are open here: some may have counted nothing yet."""
        heard = self._peers.of(member)
        known = (v for v in self._tally.of(member) if not is_folded(v))
        found = {vector for vector in (*known, *heard) if not self.is_closed(vector)}
        if member == member_of(self._own):
            found |= {self._own, *self._waiting}
        return {
            vector
            for vector in found
            if self._tally.current(vector)
            and (vector in self._facts or not self._is_closed(vector, self._looked))
        }

    def days(self, member: str) -> dict[int, tuple[int, int]]:
        """Of each day how many closed runs there are, and a digest of names and contents."""
        known = self._digests.get(member)
        if known is None:
            sums: dict[int, list[int]] = {}
            for vector in self.closed(member):
                of_day = sums.setdefault(day_of(run_of(vector)), [0, 0])
                of_day[0] += 1
                of_day[1] += self._digest(vector)
            known = {day: (number, sum_ % 2**63) for day, (number, sum_) in sums.items()}
            self._digests[member] = known
        return known

    def changed(self, vector: str) -> None:
        """A vector has grown: what is said of its day is not right any more."""
        self._digests.pop(member_of(vector), None)

    def of_day(self, member: str, day: int) -> list[str]:
        """The closed runs of a member and day, oldest first."""
        return [vector for vector in self.closed(member) if day_of(run_of(vector)) == day]

    def _digest(self, vector: str) -> int:
        total, digest = self._tally.total(vector), self._tally.digest(vector)
        text = f"{vector} {total} {digest}"
        return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")

    # -- what the store keeps

    def opened(self, notes: Mapping[str, str]) -> None:
        """Take in what the store knows."""
        age = _number(notes.get(_AGE, ""))
        self._age = max(self._age, age / 1000)
        for name, text in notes.items():
            if not name.startswith(_NOTE):
                continue
            vector = name.removeprefix(_NOTE)
            if not self._tally.current(vector):
                self._gone.add(vector)
                continue
            date, _, closed = text.partition(" ")
            facts = self._facts.setdefault(vector, Facts())
            facts.date = max(facts.date, _number(date))
            if closed.isdecimal() and vector != self._own:
                facts.closed = min(int(closed) / 1000, self._age)
                # A memory that was put back has it open, and may have told its day without it.
                self.changed(vector)

    def forgotten(self) -> None:
        """The store lost something: everything is to be written again."""
        self._unsaved.update(self._facts)
        self._saved_age = -1.0

    def unsaved(self) -> bool:
        """Whether there is anything to be written."""
        return bool(self._unsaved or self._gone or self._age_is_due())

    def batch(self) -> dict[str, str]:
        """What is to be written next, as notes; it ends with `not_stored` if that fails."""
        notes = {_NOTE + vector: self._text(vector) for vector in self._unsaved}
        notes |= dict.fromkeys((_NOTE + vector for vector in self._gone), "")
        if notes or self._age_is_due():
            notes[_AGE] = str(round(self._age * 1000))
            self._saved_age = self._age
        self._unsaved, self._gone = set(), set()
        return notes

    def not_stored(self, notes: Mapping[str, str]) -> None:
        """The store may or may not hold these notes: they are to be written again."""
        for name, text in notes.items():
            if name == _AGE:
                self._saved_age = -1.0
            elif name.startswith(_NOTE):
                vector = name.removeprefix(_NOTE)
                (self._unsaved if text and vector in self._facts else self._gone).add(vector)

    def own_note(self) -> dict[str, str]:
        """What is kept of the own run from its beginning."""
        return {_NOTE + self._own: self._text(self._own)}

    def _age_is_due(self) -> bool:
        return self._age - self._saved_age >= self._save_every

    def _text(self, vector: str) -> str:
        facts = self._facts[vector]
        closed = "-" if facts.closed is None else str(round(facts.closed * 1000))
        return f"{facts.date} {closed}"


def is_run(note: str) -> bool:
    """Whether a note of this name tells of a run, or of the age of the store."""
    return note == _AGE or note.startswith(_NOTE)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 17 else 0
