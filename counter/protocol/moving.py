"""Moving: how a fold gets into the store, where the rows of runs move into the folded vector.

In memory a fold is one step. In the store only the rows of the videos change that the folded runs
have counted. The fold mark is a fact beside the folded vector, not a part of its name. While there
are rows to be moved, the fact also tells the mark *since* which: from then on the store holds of
this fold

    the rows of the folded vector + those of the runs after `since` up to the mark, its *parts*

added up. A row of the folded vector is written with the whole count of its video, and in the same
step the rows of that video are removed from all parts. So every sum is right after each step, also
after a crash. When nothing is left to be moved, the parts are dropped, and `since` is forgotten.

Total and content hash are sums as well, so those of all that the store has of the fold are the same
before and after each step. They show whether a row was changed meanwhile, by a bad disk.

Pure: no I/O, no clock.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from counter.crdt.ids import is_folded, member_of, run_of
from counter.crdt.tally import Tally
from counter.protocol.checks import SUM, Sum, decode_moving, encode_moving
from counter.protocol.members import decode_fact, decode_since, is_note

Kept = tuple[str, str]
"""The fold mark of what a store holds of a member, and since which mark rows are moved there."""
_NOTHING: Kept = "", ""


def marks_kept(facts: Mapping[str, str]) -> dict[str, Kept]:
    """What a store has folded, by member.

    What stands in the place of a folded vector's sum tells the same as the fact on its member: if
    that one is missing, it was damaged.
    """
    marks: dict[str, Kept] = {}
    for name, text in facts.items():
        if not is_note(name):
            member, mark, since = name, decode_fact(text)[2], decode_since(text)
        elif name.startswith(SUM) and is_folded(vector := name.removeprefix(SUM)):
            member, mark = member_of(vector), run_of(vector)
            moving = decode_moving(text)
            since = mark if moving is None else moving[0]
        else:
            continue
        before = marks.get(member, _NOTHING)
        if mark > before[0]:
            marks[member] = mark, since
        elif mark and mark == before[0]:
            marks[member] = mark, min(since, before[1])
    return marks


def sums_kept(facts: Mapping[str, str]) -> dict[str, Sum]:
    """The sum of all that a store has of a fold in which rows are moved, by folded vector."""
    sums: dict[str, Sum] = {}
    for name, text in facts.items():
        moving = decode_moving(text) if name.startswith(SUM) else None
        if moving is not None and moving[1] is not None:
            sums[name.removeprefix(SUM)] = moving[1]
    return sums


@dataclass(slots=True)
class Move:
    """What the store has of one member: folded up to `mark`, with rows to be moved after `since`.

    `parts` are the runs between both, or up to the mark of the memory, that it may have. It is
    `whole` while the store has all that the memory has of the fold, moved or not.
    """

    since: str
    mark: str
    parts: set[str] = field(default_factory=set)
    whole: bool = False

    def text(self, sum_: Sum) -> str:
        """What the store gets in the place of the folded vector's sum, which is this in memory."""
        return encode_moving(self.since, sum_ if self.whole else None)


class Moving(dict[str, Move]):
    """The members whose folds are not whole in the store."""

    def opened(self, vectors: Iterable[str], marks: Mapping[str, Kept], tally: Tally) -> list[str]:
        """Begin with what the store has; return what it has of runs that are folded there.

        These are left over, and count nowhere.
        """
        self.clear()
        parts: dict[str, set[str]] = {}
        left_over = []
        for vector in vectors:
            member, run = member_of(vector), run_of(vector)
            mark, since = marks.get(member, _NOTHING)
            if is_folded(vector):
                continue
            if run <= since:
                left_over.append(vector)
            elif run <= max(mark, tally.mark(member)):
                parts.setdefault(member, set()).add(vector)
        for member in {*marks, *tally.marks(), *parts}:
            mark, since = marks.get(member, _NOTHING)
            if mark != since or mark != tally.mark(member) or member in parts:
                self[member] = Move(since, mark, parts.get(member, set()))
        return left_over

    def begin(self, member: str, mark: str) -> Move:
        """The memory folds a member whose mark was this."""
        return self.setdefault(member, Move(mark, mark))

    def grew(self, vector: str) -> None:
        """The memory has more of a vector than the store."""
        move = self.get(member_of(vector)) if is_folded(vector) else None
        if move is not None:
            move.whole = False

    def doubt(self) -> None:
        """A write may have failed: what the store has of them is not known."""
        for move in self.values():
            move.whole = False

    def is_part(self, vector: str, mark: str) -> bool:
        """Whether a vector in the store belongs to a move; `mark` is that of the memory."""
        move = self.get(member_of(vector))
        return move is not None and (
            is_folded(vector) or move.since < run_of(vector) <= max(move.mark, mark)
        )

    def end(self, member: str, mark: str, parts: Collection[str], now: str) -> bool:
        """The store has all up to `mark` in one; return whether there was anything to be moved.

        The memory has the mark `now`, which may be later.
        """
        move = self[member]
        move.parts.difference_update(parts)
        move.since = move.mark = mark
        if mark == now and not move.parts:
            del self[member]
        return bool(parts)
