"""The scope of the exhaustive search: what may happen, and how often."""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Scope:
    """Two members, the first of which may run a second time on a copy of its store.

    `runs` and `visits` are the most of each member, `videos` is how many there are, `copies` how
    often the store of the first is copied; the copy is run beside it, or put in its place.
    `clock_steps` is how many starts find a clock that is behind every run that is known. `losses`
    is how often one node is not heard, or hears nobody, for a while or for long; `late` how often
    what a node sends in a while comes late, or twice. `removals` is how often an operator removes a
    member. `splits` says whether the network may be cut in parts, `kills` whether processes end.
    `snapshots` is how often one of the first machine is taken with its memory, which it is put back
    to later, with its disk or without. A copy may be apart from its original for fewer than `apart`
    waits, which is as long as `FOLD_AFTER`, and lose nothing. With two videos a store may have some
    rows of a fold, and not the rest.
    """

    runs: int = 3
    visits: int = 3
    videos: int = 1
    copies: int = 1
    clock_steps: int = 1
    losses: int = 1
    late: int = 1
    removals: int = 1
    splits: bool = True
    kills: bool = True
    apart: int = 6
    snapshots: int = 1


class Action(NamedTuple):
    """One event: its kind, the places, and a detail."""

    kind: str
    places: tuple[tuple[int, ...], ...] = ()
    what: int = 0

    def __str__(self) -> str:
        """As people read it in a trace."""
        where = " | ".join("".join(NAMES[place] for place in part) for part in self.places)
        words = [self.kind, where, _WHAT.get((self.kind, self.what), "")]
        return " ".join(word for word in words if word)


NAMES = ("A", "C", "B")
"""The first member, the process on a copy of its store, and the second member."""
_WHAT = {
    ("visit", 0): "video0",
    ("visit", 1): "video1",
    ("start", 1): "with its clock behind",
    ("restart", 1): "with its clock behind",
    ("start the copy", 1): "with its clock behind",
    ("run a copy", 1): "with its clock behind",
    ("remove", 0): "the member A",
    ("remove", 1): "the member B",
}
