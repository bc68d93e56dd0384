"""Counts of classes that are not told yet, because somebody who is heard does not know classes.

They are kept in notes of the store, one a key, in the same atomic step as the visits counted beside
them. A note says how much its key is to have at this member: what it had, and what came since.
Once all who are heard know classes, what is lacking is counted under the key, in one step with the
end of the note. So a note that comes back with an older copy of the store adds nothing: others give
back what was counted.

Two processes on copies of one store, which must not be, may keep the same visits apart: then the
larger number of the two is told.

Pure: no I/O, no clock.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Protocol

from counter.crdt.gcounter import MAX_COUNT
from counter.crdt.ids import class_of
from counter.crdt.limits import FullError
from counter.crdt.tally import Tally

NOTE = "untold:"
"""How the name of a note begins that says how much a key is to have at this member."""
_A_STEP = 4_000
"""How many keys are told in one step."""


class Counts(Protocol):
    """Where it is counted, and noted; see `Pending`."""

    def count_here(self, visits: Mapping[str, int], notes: Mapping[str, str]) -> None: ...
    def note(self, notes: Mapping[str, str]) -> None: ...
    def uncommitted(self, video: str) -> int: ...


class Untold:
    """What this member keeps to itself. Not thread-safe."""

    def __init__(self, member: str, tally: Tally, pending: Counts) -> None:
        self.keeps = False
        """Whether what is counted of classes is kept for now."""
        self._member = member
        self._tally = tally
        self._pending = pending
        self._due: dict[str, int] = {}
        """How much each key is to have at this member."""
        self._fresh: dict[str, int] = {}
        """How much of that came while others may give back what this member has told."""

    def __contains__(self, key: object) -> bool:
        """Whether something of a key is kept."""
        return key in self._due

    def __len__(self) -> int:
        """Of how many keys something is kept."""
        return len(self._due)

    def opened(self, notes: Mapping[str, str]) -> None:
        """Take in what the store knows."""
        for name, text in notes.items():
            key = name.removeprefix(NOTE)
            if key == name:
                continue
            if class_of(key) and (due := _read(text)):
                self._put(key, max(due, self._due.get(key, 0)))
                self.keeps = True
            else:
                self._pending.note({name: ""})

    def keep(self, counts: Mapping[str, int]) -> None:
        """Keep counts of classes, in notes of the next batch."""
        for key, more in counts.items():
            self._fresh[key] = self._fresh.get(key, 0) + more
            self._put(key, max(self._due.get(key, 0), self._counted(key)) + more)

    def visits(self, key: str, notes: Mapping[str, str]) -> int:
        """What all have counted of a class, with what is kept here; `notes` are what is stored."""
        visits = self._tally.visits(key)
        if due := _read(notes.get(NOTE + key, "")):
            visits += max(0, due - self._tally.counter(key).get(self._member, 0))
        return min(visits, MAX_COUNT)

    def look(self, *, know: bool, complete: bool) -> None:
        """Tell what is kept if all that are heard `know` classes.

        Not before this node is `complete`: others may hold what was told by this member.
        """
        if complete and self._fresh:
            self._settle()
        if know and complete and self._due:
            self._tell([*islice(self._due, _A_STEP)])
        self.keeps = not know or bool(self._due)

    def _settle(self) -> None:
        """What this member has told is known: what came in this process is beyond it."""
        for key in self._fresh:
            due = self._counted(key) + self._lacking(key)
            if due != self._due[key]:
                self._put(key, due)
        self._fresh = {}

    def _tell(self, keys: Iterable[str]) -> None:
        """Count what is lacking of these keys. If this run can count no more, they are kept."""
        counts = {key: self._lacking(key) for key in keys}
        notes = dict.fromkeys(map(NOTE.__add__, counts), "")
        while True:
            lacking = {key: more for key, more in counts.items() if more > 0}
            try:
                self._pending.count_here(lacking, notes)
                break
            except FullError as error:
                counts |= error.room
            except OverflowError:
                return
        for key in counts:
            del self._due[key]

    def _lacking(self, key: str) -> int:
        """How much is to be counted of a key."""
        fresh = self._fresh.get(key, 0)
        return max(0, self._due[key] - fresh - self._counted(key)) + fresh

    def _counted(self, key: str) -> int:
        """What this member has counted of a key and told, or is about to tell."""
        committed = self._tally.counter(key).get(self._member, 0)
        return committed + self._pending.uncommitted(key)

    def _put(self, key: str, due: int) -> None:
        self._due[key] = min(due, MAX_COUNT)
        self._pending.note({NOTE + key: str(self._due[key])})


def _read(text: str) -> int:
    """The number in a note; 0 for what is none."""
    return min(int(text), MAX_COUNT) if re.fullmatch("[0-9]{1,16}", text) else 0
