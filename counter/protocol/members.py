"""The members that a node remembers, also while they are down, until an operator removes them.

Two runs are known of each: the newest that was heard of, and the one up to which it was removed.
Both only grow, so they are merged like counts, in any order and any number of times. A member that
counts again after its removal has a newer run, and so is a member again.

Pure: no I/O, no clock.
"""

import math
import re
from collections.abc import Iterator
from typing import Literal

from counter.crdt.ids import RUN, member_of, run_of

MAX_MEMBERS = 2_000
"""Members that are remembered: stores that were removed or given up are among them. More than that
are names that somebody makes up."""

Source = Literal["told", "heard", "stored"]
"""Where a member is known from: from others, from itself, from the own store."""

_is_run = re.compile(RUN).fullmatch


class Members:
    """Which members there are, which of their runs are closed, and who was removed."""

    def __init__(self) -> None:
        self._latest: dict[str, str] = {}
        self._removed: dict[str, str] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._latest)

    def __contains__(self, member: str) -> bool:
        return member in self._latest

    def learn(
        self, member: str, latest: str, removed: str = "", *, source: Source = "told"
    ) -> bool:
        """Join what somebody knows of a member; say whether anything of it was news.

        A member that is one too many is not learnt: of those that others tell of. One that speaks
        for itself finds room beside as many made-up names, and what was stored always does.
        """
        if member not in self._latest and len(self._latest) >= _room(source):
            return False
        before = self._latest.get(member), self._removed.get(member, "")
        self._latest[member] = max(latest, removed, before[0] or "")
        self._removed[member] = max(removed, before[1])
        return before != (self._latest[member], self._removed[member])

    def latest(self, member: str) -> str:
        """The newest run that is known of a member."""
        return self._latest.get(member, "")

    def removed(self, member: str) -> str:
        """The run up to which a member was removed, "" if it never was."""
        return self._removed.get(member, "")

    def is_removed(self, member: str) -> bool:
        """Whether a member was removed, and no newer run of it was heard of."""
        return bool(self.removed(member)) and self.removed(member) >= self.latest(member)

    def is_closed(self, replica: str) -> bool:
        """Whether this run has ended for good: its member has a newer one, or was removed."""
        member, run = member_of(replica), run_of(replica)
        return run < self.latest(member) or run <= self.removed(member)


def _room(source: Source) -> float:
    """How many members there may be before another one is learnt."""
    return {"told": MAX_MEMBERS, "heard": 2 * MAX_MEMBERS, "stored": math.inf}[source]


def encode_fact(latest: str, removed: str, mark: str, since: str | None = None) -> str:
    """What is kept of a member in a store, beside its counts: three runs, "-" for none.

    A fourth one, `since`, is the fold mark before this, while rows are moved; see `moving.py`.
    """
    runs = [latest, removed, mark]
    if since is not None and since < mark:
        runs.append(since)
    return " ".join(run or "-" for run in runs)


def decode_fact(fact: str) -> tuple[str, str, str]:
    """Latest run, removed run and fold mark out of a fact; nothing known for what is not one."""
    runs = _runs_of(fact)
    return runs[0], runs[1], runs[2]


def decode_since(fact: str) -> str:
    """The mark before the fold whose rows are being moved; the fold mark if none are."""
    return _runs_of(fact)[3]


def _runs_of(fact: str) -> tuple[str, str, str, str]:
    runs = ["" if run == "-" else run for run in fact.split(" ")]
    if len(runs) == 3:
        runs.append(runs[2])
    elif len(runs) == 4 and runs[3] >= runs[2]:
        return "", "", "", ""
    if len(runs) != 4 or not all(run == "" or _is_run(run) for run in runs):
        return "", "", "", ""
    return runs[0], runs[1], runs[2], runs[3]


def is_note(name: str) -> bool:
    """Whether a fact of this name came with visits, as `kind:name`; a member's has no colon."""
    return ":" in name
