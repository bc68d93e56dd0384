"""The backlog: everything that the store is still to be given, in batches.

Beside the visits of this process these are the counts of others, as far as they grew here, what
changed by folds, and facts about members, runs, keys and visit logs. A batch is written in one
atomic step; one that may have failed goes back, to be written again.

Pure: no I/O, no clock.
"""

from collections.abc import Collection, Iterator, Mapping

from counter.crdt.gcounter import merge
from counter.crdt.ids import folded_of, is_folded, member_of, run_of
from counter.crdt.tally import Tally
from counter.crdt.vector import Refused
from counter.protocol.batch import Batch
from counter.protocol.checks import SUM, Sum, encode_sum, sum_name
from counter.protocol.folding import Folding
from counter.protocol.keys import Keys
from counter.protocol.moving import Kept, Move, Moving
from counter.protocol.pending import Counts, Pending
from counter.protocol.roster import Roster
from counter.protocol.runs import Runs
from counter.protocol.sums import sum_up
from counter.protocol.suspects import Suspects
from counter.protocol.unsaved import Unsaved

_COUNTS_A_FOLD = 5_000
"""How many counts are folded in one step, or one run: 4 ms for one of a million that is awake."""
_RUNS_A_FOLD = 32
"""How many runs are folded in one step. While their rows are moved in the store, each row is looked
for in all of them."""


class Backlog:
    """What the store lacks. One batch at a time: it ends with `stored` or `not_stored`."""

    def __init__(
        self,
        tally: Tally,
        roster: Roster,
        pending: Pending,
        folding: Folding,
        runs: Runs,
        keys: Keys,
        suspects: Suspects,
    ) -> None:
        self.loading = True
        """Whether the store is still being read: until then it may hold more than is known."""
        self.notes: dict[str, str] = {}
        """What was kept with visits, as far as the store holds it: `{"kind:name": text}`."""
        self.summed: set[str] = set()
        """The vectors of which the store has a sum."""
        self.drop: set[str] = set()
        """What the store has left of runs that it has folded, which is to be deleted."""
        self.moving = Moving()
        """The folds that the store does not have, or not whole."""
        self._not_summed: set[str] = set()
        """The vectors whose sum the store is to forget."""
        self._tally = tally
        self._roster = roster
        self._pending = pending
        self._folding = folding
        self._runs = runs
        self._keys = keys
        self._suspects = suspects
        self._unsaved = Unsaved(tally)
        self._replace: set[str] = set()
        """The vectors of which the store has rows that do not belong there."""

    def __contains__(self, vector: object) -> bool:
        """Whether some counts of a vector are still to be written, so that it does not rest."""
        return self._unsaved.are_some(vector)

    def news(self, *, may_follow: bool) -> bool:
        """Whether there is anything to be written beside visits.

        `may_follow` says whether a fold may begin now, to a mark that others have, too.
        """
        return bool(
            self._pending.notes
            or self._keys.unsaved()
            or self._runs.unsaved()
            or not all(map(self._waits, self._unsaved))
            or self._replaced()
            or (not self.loading and self._is_news_of_members(may_follow=may_follow))
        )

    def _is_news_of_members(self, *, may_follow: bool) -> bool:
        moving = any(map(self._may_move, self.moving))
        due = self._folding.due and may_follow
        return moving or bool(self._roster.unsaved or self.drop or due)

    def _folded(self, member: str) -> str:
        """The folded vector of a member."""
        return folded_of(member, self._tally.mark(member))

    def _is_behind(self, member: str) -> bool:
        """Whether the store may have more of a member's fold than the memory."""
        move = self.moving.get(member)
        return move is not None and (self.loading or self._tally.mark(member) < move.mark)

    def _may_move(self, member: str) -> bool:
        """Whether rows of a member's fold may be written."""
        return not (self._is_behind(member) or self._folded(member) in self._suspects)

    def _replaced(self) -> set[str]:
        """The vectors that are to be written anew now."""
        if self._suspects or self.loading:
            return set()
        return {vector for vector in self._replace if not self._waits(vector)}

    def _waits(self, vector: str) -> bool:
        """Whether a vector is not to be written now.

        A row of a fold replaces what the store has of it in all parts; so that must be known.
        """
        if vector in self._suspects:
            return True
        member = member_of(vector)
        return self._is_behind(member) and (
            is_folded(vector) or run_of(vector) <= self.moving[member].mark
        )

    # -- what goes in

    def merge(
        self, vector: str, counts: Mapping[str, int], refused: Refused | None = None
    ) -> Mapping[str, int]:
        """Merge what others hold; return what grew, which is to be written from now on."""
        grew = self._tally.merge(vector, counts, refused)
        if grew:
            self.moving.grew(vector)
            self.add(vector, grew)
            self._runs.changed(vector)
        return grew

    def add(self, vector: str, videos: Collection[str]) -> None:
        """The counts of these videos are to be written."""
        self._unsaved.add(vector, videos)

    def replace(self, vector: str) -> None:
        """All of a vector is to be written anew: what the store has of it is damaged."""
        self.summed.discard(vector)
        self._replace.add(vector)

    def fold(self, member: str, mark: str, most: int | None = None) -> int:
        """Fold runs up to `mark` in memory, the oldest ones with some `most` counts.

        Returns how many counts these were. What changes by that is to be written.
        """
        added, since = 0, self._tally.mark(member)
        is_new, move = member not in self.moving, self.moving.begin(member, since)
        whole = move.whole or (is_new and (not since or self._is_summed(self._folded(member))))
        runs = [part for part in self._tally.parts(member, mark) if not is_folded(part)]
        gone = {self._folded(member)} if since else set()
        unsaved = self._unsaved.pop(self._folded(member))
        for number, part in enumerate(runs, 1):
            if most is not None and number > 1 and added + self._tally.size(part) > most:
                break
            whole = whole and self._is_summed(part)
            for counts in self._tally.fold(member, run_of(part)):
                unsaved.update(counts)
                added += len(counts)
            gone.add(part)
            if most is not None and (added >= most or number == _RUNS_A_FOLD):
                break
        else:
            self._tally.fold(member, mark)
        # Those that are suspect are in the store only.
        gone |= {v for v in self._suspects if member_of(v) == member and not self._tally.current(v)}
        move.whole = whole and gone.isdisjoint(self._suspects)
        move.parts.update(vector for vector in gone if not is_folded(vector))
        self._forget(gone, self._folded(member))
        if unsaved:
            self._unsaved.put(self._folded(member), unsaved)
        self._runs.changed(self._folded(member))
        self._roster.unsaved.add(member)
        self._folding.folded(member)
        return added

    def _forget(self, gone: set[str], folded: str) -> None:
        """Some vectors are folded into another."""
        self._not_summed |= gone - {folded}
        self.summed -= gone
        for vector in gone:
            self._unsaved.discard(vector)
        if self._suspects.fold(gone, folded) or not gone.isdisjoint(self._replace):
            # The store has rows of them that do not belong there.
            self._replace = self._replace - gone | {folded}

    def follow(self, member: str, mark: str) -> None:
        """Another node has folded more runs of a member: fold them here, too."""
        self._folding.follow(member, mark)
        own = member_of(self._roster.own)
        if member != own and not (self.loading or self._tally.parts(member, mark)):
            self.fold(member, mark)

    def _fold_due(self) -> None:
        """Fold what is due, so much at a time that nobody waits for it."""
        left = _COUNTS_A_FOLD
        for member, mark in list(self._folding.due.items()):
            if left > 0 and (member not in self.moving or self._is_behind(member)):
                left -= self._folding.wake(member, mark) or self.fold(member, mark, left)

    def opened(
        self, vectors: Collection[str], marks: Mapping[str, Kept], sums: Collection[str]
    ) -> None:
        """Take in what the store has: its vectors, what it has folded, and what it has sums of."""
        self.drop = set(self.moving.opened(vectors, marks, self._tally))
        self.summed = set(filter(self._tally.current, sums))
        self._not_summed = {*sums} - self.summed

    def forgotten(self) -> None:
        """The store lost something: all that is committed is to be written again."""
        self.summed = set()
        self._pending.note_again(self.notes)
        self._unsaved.add_everything()
        self._roster.forgotten()

    # -- what comes out

    def batch(self, limit: int, *, may_follow: bool) -> Batch:
        """Take what is to be written next: every visit, and about `limit` other rows. See `sum_up`.

        `may_follow` says whether a fold may begin now, to a mark that others have, too.
        """
        own, notes = self._pending.take()
        if limit > 0 and may_follow and not self.loading:
            self._fold_due()
        replaced = self._replaced()
        rows = self._take_rows(replaced, limit)
        # A vector that is written anew is not counted: it has to go in one step.
        limit -= sum(len(counts) for vector, counts in rows.items() if vector not in replaced)
        counts: Counts = dict(rows)
        for run, of_run in own.items():
            if not self._is_folded_there(run):
                counts[run] = merge(rows[run], of_run) if run in rows else of_run
        facts, drop = self._take_facts()
        drop += replaced
        erase, ends = self._move(rows, facts, drop)
        keys = self._keys.batch(limit)
        sums = self._sums_with(counts, own, drop, facts, ends)
        return Batch(
            counts, own, notes, rows, facts, self._runs.batch(), sums, drop, erase, ends, keys
        )

    def _is_folded_there(self, run: str) -> bool:
        """Whether a run is folded in the store, where a row of it would count once more."""
        member = member_of(run)
        move = self.moving.get(member)
        mark = self._tally.mark(member)
        return run_of(run) <= (mark if move is None else max(mark, move.mark))

    def _take_rows(self, replaced: set[str], limit: int) -> dict[str, dict[str, int]]:
        """The vectors that are written anew, and about `limit` rows of others."""
        rows: dict[str, dict[str, int]] = {}
        for vector in replaced:
            # In one step, or a crash in between would lose what the store has of it.
            rows[vector] = dict(self._tally.vector(vector).items())
            self._unsaved.discard(vector)
        self._replace = self._replace - replaced
        for vector in list(self._unsaved):
            if limit <= 0:
                break
            if self._waits(vector):
                continue
            # Each row is looked for in all parts.
            each = 1 + len(self._parts(vector))
            taken = self._unsaved.take(vector, max(1, limit // each))
            rows[vector] = self._tally.vector(vector).of(taken)
            limit -= len(taken) * each
        return rows

    def _parts(self, vector: str) -> Collection[str]:
        """Those from which rows are moved into a vector."""
        move = self._move_of(vector)
        return () if move is None else move.parts

    def fact(self, member: str) -> str:
        """What the store is to keep of a member beside counts."""
        mark = self._tally.mark(member)
        move = self.moving.get(member)
        if move is None:
            return self._roster.fact(member, mark, mark)
        return self._roster.fact(member, move.mark if self._is_behind(member) else mark, move.since)

    def _take_facts(self) -> tuple[dict[str, str], list[str]]:
        """The facts on members, and the vectors to delete."""
        facts = {member: self.fact(member) for member in self._roster.unsaved}
        self._roster.unsaved.clear()
        drop = [] if self.loading else sorted(self.drop)
        self.drop.difference_update(drop)
        return facts, drop

    def _move(
        self, rows: Mapping[str, object], facts: dict[str, str], drop: list[str]
    ) -> tuple[dict[str, list[str]], dict[str, tuple[str, list[str]]]]:
        """What is to be removed with these rows, and the folds that are whole with them.

        `facts` and `drop` get what belongs to it: no row of a fold is written before the store
        knows that it is one.
        """
        erase, ends = {}, {}
        for member, move in self.moving.items():
            folded = self._folded(member)
            if not self._may_move(member):
                continue
            if folded not in self._unsaved:
                mark = self._tally.mark(member)
                facts[member] = self._roster.fact(member, mark, mark)
                ends[member] = mark, sorted(move.parts)
                drop += ends[member][1]
            elif folded in rows:
                facts[member] = self.fact(member)
                erase[folded] = sorted(move.parts)
        return erase, ends

    def _sums_with(
        self,
        counts: Counts,
        own: Counts,
        drop: Collection[str],
        facts: Collection[str],
        ends: Collection[str],
    ) -> dict[str, str]:
        """What the store holds of vectors once it has these counts; "" where that is not known."""
        gone: set[str] = set()
        if not self.loading:
            gone, self._not_summed = self._not_summed, gone
        sums = {sum_name(vector): "" for vector in (*gone, *drop)}
        totals = {} if self.loading else self._tally.totals()
        known = {vector for vector in totals if vector != self._roster.own}
        for vector in (counts.keys() | (known - self.summed)) - set(self._suspects):
            move = self._move_of(vector)
            if move is not None and member_of(vector) not in ends:
                if member_of(vector) in facts and self._may_move(member_of(vector)):
                    whole = Sum(self._tally.total(vector), self._tally.digest(vector))
                    sums[sum_name(vector)] = move.text(whole)
            elif not self._is_known(vector):
                sums[sum_name(vector)] = ""
            elif vector not in drop or counts.get(vector):
                at_once = len(more := own.get(vector, {})) <= self._pending.a_step
                told = encode_sum(*self._tally.sum_with(vector, more)) if at_once else ""
                sums[sum_name(vector)] = told
        return sums

    def sum_up(self, batch: Batch) -> Iterator[None]:
        """Add the sums that a batch of many visits lacks, in steps."""
        return sum_up(batch, self._pending, self._tally, self._is_known)

    def _is_known(self, vector: str) -> bool:
        """Whether the store has all of a vector that is here, or gets it with this batch."""
        return not self.loading and vector not in self._unsaved

    def _is_summed(self, vector: str) -> bool:
        """Whether the store has all of a vector, and its sum."""
        return vector in self.summed and vector not in self._unsaved

    def _move_of(self, vector: str) -> Move | None:
        return self.moving.get(member_of(vector)) if is_folded(vector) else None

    def stored(self, batch: Batch) -> Iterator[tuple[str, Mapping[str, int]]]:
        """The store holds the batch: its visits are committed. Yields what grew, with its run.

        That is done in steps; everything but the visits is part of the last one.
        """
        for run, growths in self._pending.stored(batch.own):
            if growths:
                # It may be one that has closed meanwhile, and what is said of its day with it.
                self._runs.changed(run)
            yield run, growths
        self._keys.stored(batch.keys)
        for name, text in batch.notes.items():
            self.notes[name] = text
            if not text:
                del self.notes[name]
        for name, text in batch.sums.items():
            is_sum = text and not text.startswith("-")
            (self.summed.add if is_sum else self.summed.discard)(name.removeprefix(SUM))
        for member, (mark, parts) in batch.ends.items():
            now = self._tally.mark(member)
            self._folding.folds += self.moving.end(member, mark, parts, now)

    def not_stored(self, batch: Batch) -> None:
        """The store may or may not hold the batch: everything in it is to be written again."""
        self._pending.not_stored(batch.own, batch.notes)
        self.moving.doubt()
        self._keys.not_stored(batch.keys)
        self._runs.not_stored(batch.runs)
        self.summed -= {name.removeprefix(SUM) for name in batch.sums}
        for vector, counts in batch.rows.items():
            self.add(vector, counts)
        self._roster.unsaved.update(batch.facts)
        current = set(filter(self._tally.current, batch.drop))
        self._replace |= current & batch.rows.keys()
        parts = {part for move in self.moving.values() for part in move.parts}
        self.drop.update(set(batch.drop) - current - parts)
        gone = {name.removeprefix(SUM) for name, text in batch.sums.items() if not text}
        self._not_summed |= {vector for vector in gone if not self._tally.current(vector)}
