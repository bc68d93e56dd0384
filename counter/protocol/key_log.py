"""The log of keys: those that each replica has taken, numbered 1, 2, 3 ..., as they are held here.

A key is forgotten after its `life`, and not earlier to make room for another: new ones are refused
then (see `key_room.py`). The store dates keys by its own age, which no wall clock moves (see
`runs.py`).

Pure: no I/O; times are in seconds of the caller's clock, which never goes back.
"""

from bisect import bisect_right, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from counter.crdt.ids import member_of
from counter.protocol.client import has_token

_NOTE = "key:"
_SAME_TIME = 0.1
"""Seconds by which the ages of one key may differ that was told twice: they travel in ms."""
_EXPIRED = 10_000
"""How many keys of a run are forgotten at once: bounds the time that it takes to some 50 ms."""

_MAX_RUNS = 10_000
"""Replicas whose keys are held; they are forgotten with their last key."""


def is_key(note: str) -> bool:
    """Whether a note of this name is that of a key."""
    return note.startswith(_NOTE)


class Key(NamedTuple):
    """A key, what tells its request from others, and when it was taken."""

    text: str
    fingerprint: bytes
    taken: float


class Entry(NamedTuple):
    """A key as the replica that took it has numbered it."""

    replica: str
    serial: int
    key: Key

    @property
    def note(self) -> str:
        """The name of its note. Not by the key alone: two replicas may have counted under it."""
        return f"{_NOTE}{self.replica} {self.serial}"


@dataclass(slots=True)
class RunLog:
    """The keys of one replica, as far as they are held here.

    They are held up to `reached` without a gap, perhaps some beyond it, and none up to `gone`;
    in the store are those up to `saved`. `heard` is when they were last spoken of.
    """

    heard: float
    reached: int = 0
    saved: int = 0
    gone: int = 0
    serials: list[int] = field(default_factory=list)
    entries: dict[int, Entry] = field(default_factory=dict)

    def put(self, entry: Entry) -> None:
        """Add an entry that is not there yet."""
        insort(self.serials, entry.serial)
        self.entries[entry.serial] = entry

    def oldest(self) -> Entry | None:
        """The first one that is held."""
        return self.entries[self.serials[0]] if self.serials else None

    def drop(self) -> Entry:
        """Forget the first one."""
        self.gone = self.serials.pop(0)
        return self.entries.pop(self.gone)

    def between(self, after: int, last: int) -> Iterator[Entry]:
        """Those after one serial and up to another, in order."""
        first = bisect_right(self.serials, after)
        for at in range(first, bisect_right(self.serials, last, first)):
            yield self.entries[self.serials[at]]

    def unsaved(self) -> bool:
        """Whether the store lacks one that is held."""
        return self.saved < self.reached and any(self.between(self.saved, self.reached))


class KeyLog:
    """The keys of all replicas that are held here, each for its `life`.

    Of one replica at most `limit` are held, which is all that it can hold itself. `epoch` is the
    Unix time of the clock's zero in seconds, for keys that the version before has written.
    """

    def __init__(self, life: float, limit: int, epoch: float, now: float) -> None:
        self.counted_again = 0
        """How many keys were found that two replicas have counted, neither knowing of the other."""
        self.last_counted_again = ""
        """What is to be said of the latest of them."""
        self.runs: dict[str, RunLog] = {}
        self.gone: set[str] = set()
        """The notes of keys that were forgotten, which the store is to remove."""
        self._life = life
        self._limit = limit
        self._epoch = epoch
        self._zero = 0.0
        self._now = now
        self._held: dict[str, Entry] = {}
        self.tokenless = 0
        """How many entries have a key that came without a token."""

    def __len__(self) -> int:
        """How many keys are held."""
        return len(self._held)

    def oldest(self) -> float | None:
        """When the oldest key was taken that is held."""
        return min(
            (first.key.taken for run in self.runs.values() if (first := run.oldest())), default=None
        )

    def find(self, key: str, now: float) -> Key | None:
        """The latest request that has this key, if it was counted within the `life` of a key."""
        held = self._held.get(key)
        return held.key if held is not None and now - held.key.taken < self._life else None

    def has_room(self, replica: str) -> bool:
        """Whether the keys of a replica may be asked for: there is an end to those that are new."""
        return replica in self.runs or len(self.runs) < _MAX_RUNS

    def run(self, replica: str, now: float) -> RunLog:
        """The keys of a replica, none if it was not heard of before."""
        run = self.runs.get(replica)
        if run is None:
            run = self.runs[replica] = RunLog(now)
        return run

    def receive(self, run: RunLog, entry: Entry) -> None:
        """Add a key that was told or loaded, unless it is held or forgotten."""
        if entry.serial > run.gone and entry.serial not in run.entries:
            self.put(run, entry)

    def put(self, run: RunLog, entry: Entry) -> None:
        """Add a key; forget the oldest one of a run that has more than a node can hold."""
        text = entry.key.text
        known = self._held.get(text)
        if known is None or known.key.taken <= entry.key.taken:
            self._held[text] = entry
        together = known and abs(known.key.taken - entry.key.taken) < self._life
        if known and together and not _is_same(known, entry):
            self.counted_again += 1
            self.last_counted_again = f"key={text} replicas={known.replica},{entry.replica}"
        run.put(entry)
        self.tokenless += not has_token(text)
        while len(run.serials) > self._limit:
            self._drop(run)

    def _drop(self, run: RunLog) -> Entry | None:
        """Forget the oldest key of a run; return it if it was the latest of its text."""
        entry = run.drop()
        self.tokenless -= not has_token(entry.key.text)
        self.gone.add(entry.note)
        if self._held.get(entry.key.text) is not entry:
            return None
        return self._held.pop(entry.key.text)

    def remove(self, replica: str) -> list[Key]:
        """Forget all keys of a replica; return those that no other has counted since."""
        run = self.runs.pop(replica, None)
        removed = []
        while run is not None and run.serials:
            if entry := self._drop(run):
                removed.append(entry.key)
        return removed

    def forget(self, own: str, now: float) -> Iterator[str]:
        """Forget the keys that are older than their life, and runs without any; yield these.

        The run of `own` stays.
        """
        self._now = now
        for replica, run in list(self.runs.items()):
            # Some at a time, for many may expire while a node is frozen: `find` goes by age.
            for _ in range(_EXPIRED):
                entry = run.oldest()
                if entry is None or now - entry.key.taken < self._life:
                    break
                self._drop(run)
            # Others, who were told later, may still name it for a while.
            if not run.serials and replica != own and now - run.heard >= self._life:
                del self.runs[replica]
                yield replica

    # -- as the store keeps it

    def opened(self, own: str, notes: Mapping[str, str], zero: float) -> None:
        """Take in what the store holds. It has no gaps: each run's keys are written in order.

        `zero` is the age of the store at the clock's zero. What it has of the run `own` is newer
        here.
        """
        self._zero = zero
        entries = [entry for name, text in notes.items() if (entry := self._entry(name, text))]
        for entry in sorted(entries, key=lambda entry: entry.key.taken):
            if entry.replica != own:
                run = self.run(entry.replica, entry.key.taken)
                self.receive(run, entry)
                run.reached = max(run.reached, entry.serial)
                run.saved = max(run.saved, entry.serial)

    def text(self, entry: Entry) -> str:
        """A key as the text of its note."""
        age = round((entry.key.taken + self._zero) * 1000)
        return f"a{age} {entry.key.fingerprint.hex()} {entry.key.text}"

    def _entry(self, name: str, text: str) -> Entry | None:
        """An entry out of a note; None for what is not one."""
        if not is_key(name):
            return None
        try:
            replica, serial = name[len(_NOTE) :].split(" ")
            dated, fingerprint, key = text.split(" ")
            if dated.startswith("a"):
                taken = int(dated[1:]) / 1000 - self._zero
            else:
                # The version before dated keys by the wall clock.
                taken = int(dated) / 1000 - self._epoch
            # What was dated wrongly must not be kept for as long.
            taken = min(taken, self._now)
            return Entry(replica, int(serial), Key(key, bytes.fromhex(fingerprint), taken))
        except ValueError:
            return None


def _is_same(one: Entry, other: Entry) -> bool:
    """Whether two entries are of one request: also where a member has numbered it anew."""
    if member_of(one.replica) != member_of(other.replica):
        return False
    apart = abs(one.key.taken - other.key.taken)
    return one.replica == other.replica or apart < _SAME_TIME
