"""The backlog: everything that the store is still to be given, in batches.

Beside the visits of this process these are the counts of others, as far as they grew here, a fold
under way, and facts about members, runs, keys and visit logs. A batch is written in one atomic
step; one that may have failed goes back, to be written again.

Pure: no I/O, no clock.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from counter.crdt.gcounter import MAX_COUNT, merge
from counter.crdt.ids import member_of
from counter.crdt.tally import Tally
from counter.crdt.vector import Refused
from counter.crdt.videos import VideoSet
from counter.protocol.checks import SUM, encode_sum, sum_name
from counter.protocol.folding import Fold, Folding
from counter.protocol.keys import Keys, Written
from counter.protocol.pending import Counts, Pending
from counter.protocol.roster import Roster
from counter.protocol.runs import Runs
from counter.protocol.suspects import Suspects


class Batch(NamedTuple):
    """What one flush writes, in one atomic step.

    `counts` is everything by vector: `own` are visits of this process that are not committed yet,
    by run, `rows` are other news, and the rest is a fold under way. `drop` are vectors to delete,
    `facts` are kept of members, `notes` came with the visits in `own`, `runs` is kept of runs,
    `sums` is what the store holds of vectors from now on, and `keys` is kept of keys. With
    `folds` the fold is done when this is written.
    """

    counts: dict[str, dict[str, int]]
    own: Counts
    notes: dict[str, str]
    rows: dict[str, dict[str, int]]
    facts: dict[str, str]
    runs: dict[str, str]
    sums: dict[str, str]
    drop: list[str]
    folds: bool
    keys: Written

    def kept(self) -> dict[str, str]:
        """Everything that the store keeps beside counts."""
        return self.facts | self.notes | self.runs | self.sums | self.keys.notes


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
        """The vectors that the store is to delete."""
        self._tally = tally
        self._roster = roster
        self._pending = pending
        self._folding = folding
        self._runs = runs
        self._keys = keys
        self._suspects = suspects
        self._unsaved: dict[str, VideoSet] = {}
        self._replace: set[str] = set()
        """The vectors of which the store has rows that do not belong there."""

    def __contains__(self, vector: object) -> bool:
        """Whether counts of a vector of others are still to be written."""
        return vector in self._unsaved

    def news(self, *, may_follow: bool) -> bool:
        """Whether there is anything to be written beside visits.

        What waits for a fold to a mark that others have is none, unless that may begin now.
        """
        followed = self._folding.followed
        waits: Collection[str] = () if may_follow else followed
        return bool(
            self._pending.notes
            or self._keys.unsaved()
            or self._runs.unsaved()
            or self._unsaved
            or self._folding.under_way
            or (self._replace and not self._suspects)
            or (not self.loading and bool(followed) and may_follow)
            or (not self.loading and any(member not in waits for member in self._roster.unsaved))
            or (not self.loading and any(member_of(vector) not in waits for vector in self.drop))
        )

    # -- what goes in

    def merge(
        self, vector: str, counts: Mapping[str, int], refused: Refused | None = None
    ) -> dict[str, int]:
        """Merge what others hold; return what grew, which is to be written from now on."""
        grew = self._tally.merge(vector, counts, refused)
        if grew:
            self.add(vector, grew)
            self._runs.changed(vector)
        return grew

    def add(self, vector: str, videos: Iterable[str]) -> None:
        """The counts of these videos are to be written."""
        unsaved = self._unsaved.get(vector)
        if unsaved is None:
            unsaved = self._unsaved[vector] = self._tally.no_videos()
        unsaved.update(videos)

    def replace(self, vector: str) -> None:
        """All of a vector is to be written anew: what the store has of it is damaged."""
        self.summed.discard(vector)
        self._replace.add(vector)

    def fold(self, fold: Fold) -> None:
        """Fold at once, in memory; it is written with everything else."""
        fold.step(MAX_COUNT)
        self._folded(fold)
        self._roster.unsaved.add(fold.member)

    def follow(self, member: str, mark: str) -> None:
        """Another node has folded more runs of a member: fold them here, too.

        Where nothing is to be added up there is no need to wait for the store.
        """
        self._folding.followed[member] = mark
        own = member_of(self._roster.own)
        if member != own and not (self.loading or self._tally.parts(member, mark)):
            self.fold(Fold(self._tally, member, mark))

    def _folded(self, fold: Fold) -> None:
        """The store holds the fold, or is not ahead of it: now it is done here."""
        self._folding.done(fold)
        for part in fold.parts:
            self._unsaved.pop(part, None)
        self.drop.discard(fold.id)

    def forgotten(self) -> None:
        """The store lost something: all that is committed is to be written again."""
        self.summed = set()
        self._pending.note_again(self.notes)
        self._unsaved = {}
        for vector, videos in self._tally.vectors():
            self.add(vector, videos)
        self._roster.forgotten()

    # -- what comes out

    def batch(self, limit: int, *, may_follow: bool) -> Batch:
        """Take what is to be written next: every visit, and about `limit` other rows.

        `may_follow` says whether a fold may begin now, to a mark that others have, too.
        """
        own, notes = self._pending.take()
        replaced = set() if self._suspects or self.loading else self._replace
        rows = self._take_rows(replaced, limit)
        # A vector that is written anew is not counted: it has to go in one step.
        limit -= sum(len(counts) for vector, counts in rows.items() if vector not in replaced)
        counts = dict(rows)
        for run, of_run in own.items():
            counts[run] = merge(rows[run], of_run) if run in rows else of_run
        may_follow = may_follow and not self.loading
        fold = self._folding.next() if may_follow else self._folding.under_way
        if fold is not None and limit > 0 and (staged := fold.step(limit)):
            counts[fold.id] = staged
        facts, drop = self._take_facts(fold, replaced)
        folds = fold is not None and fold.complete
        if fold is not None and folds:
            for part in fold.parts:
                counts.pop(part, None)
        keys = self._keys.batch(limit)
        sums = self._sums_with(counts, own, drop, fold)
        return Batch(counts, own, notes, rows, facts, self._runs.batch(), sums, drop, folds, keys)

    def _take_rows(self, replaced: set[str], limit: int) -> dict[str, dict[str, int]]:
        """The vectors that are written anew, and about `limit` rows of others."""
        rows: dict[str, dict[str, int]] = {}
        for vector in replaced:
            # In one step, or a crash in between would lose what the store has of it.
            rows[vector] = dict(self._tally.vector(vector).items())
            self._unsaved.pop(vector, None)
        self._replace = self._replace - replaced
        for vector, videos in list(self._unsaved.items()):
            if limit <= 0:
                break
            if vector in self._suspects:
                continue
            count = self._tally.vector(vector).count
            rows[vector] = {video: count(video) for video in videos.take(limit)}
            limit -= len(rows[vector])
            if not videos:
                del self._unsaved[vector]
        return rows

    def _take_facts(
        self, fold: Fold | None, replaced: Collection[str]
    ) -> tuple[dict[str, str], list[str]]:
        """The facts on members, and the vectors to delete: not those that have to wait."""
        # What a store that forgot has of older vectors stays until it has the newer ones.
        held = set(self._folding.followed)
        if self._unsaved or self.loading:
            held |= {member_of(vector) for vector in self.drop}
        if fold is not None:
            # The store may have its new mark already, if it failed after it wrote.
            held.add(fold.member)
        facts = {member: self._roster.fact(member) for member in self._roster.unsaved - held}
        drop = [vector for vector in self.drop if member_of(vector) not in held]
        if fold is not None and fold.id in self.drop:
            # Left over from a fold that a crash cut short: gone before this one is written.
            drop.append(fold.id)
        drop += replaced
        self._roster.unsaved &= held
        self.drop.difference_update(drop)
        if fold is not None and fold.complete:
            facts[fold.member] = self._roster.fact(fold.member, fold.mark)
            drop += fold.parts
            self._roster.unsaved.discard(fold.member)
        return facts, drop

    def _sums_with(
        self, counts: Counts, own: Counts, drop: Collection[str], fold: Fold | None
    ) -> dict[str, str]:
        """What the store holds of vectors once it has these counts; "" where that is not known."""
        sums = {sum_name(vector): "" for vector in drop}
        totals = {} if self.loading else self._tally.totals()
        known = {vector for vector in totals if vector != self._roster.own}
        for vector in (counts.keys() | (known - self.summed)) - set(self._suspects):
            if fold is not None and vector == fold.id:
                if fold.complete:
                    sums[sum_name(vector)] = encode_sum(fold.vector.total, fold.vector.digest)
            elif self.loading or vector in self._unsaved:
                sums[sum_name(vector)] = ""
            elif vector not in drop or counts.get(vector):
                total, digest = self._tally.sum_with(vector, own.get(vector, {}))
                sums[sum_name(vector)] = encode_sum(total, digest)
        return sums

    def stored(self, batch: Batch) -> Counts:
        """The store holds the batch: its visits are committed. Returns what grew, by own run."""
        self._keys.stored(batch.keys)
        for name, text in batch.notes.items():
            self.notes[name] = text
            if not text:
                del self.notes[name]
        for name, text in batch.sums.items():
            (self.summed.add if text else self.summed.discard)(name.removeprefix(SUM))
        grew = self._pending.stored(batch.own)
        for run, growths in grew.items():
            if growths:
                # It may be one that has closed meanwhile, and what is said of its day with it.
                self._runs.changed(run)
        fold = self._folding.under_way
        if batch.folds and fold is not None:
            self._folded(fold)
            self._folding.folds += 1
        return grew

    def not_stored(self, batch: Batch) -> None:
        """The store may or may not hold the batch: everything in it is to be written again."""
        self._pending.not_stored(batch.own, batch.notes)
        self._keys.not_stored(batch.keys)
        self._runs.not_stored(batch.runs)
        self.summed -= {name.removeprefix(SUM) for name in batch.sums}
        for vector, counts in batch.rows.items():
            self.add(vector, counts)
        self._roster.unsaved.update(batch.facts)
        current = set(filter(self._tally.current, batch.drop))
        self._replace |= current & batch.rows.keys()
        self.drop.update(set(batch.drop) - current)
        fold = self._folding.under_way
        if fold is not None:
            fold.restart(in_doubt=batch.folds)
            if fold.in_doubt:
                self.drop.discard(fold.id)
