"""Recovery: what the store holds is joined with the memory, at a start or when it forgot something.

First the store is `opened`, then it gives each vector to `loaded` or, where that fails its check,
to `suspect`; it ends with `all_loaded`.

Pure: no I/O, no clock.
"""

from collections.abc import Collection, Iterator, Mapping, Set

from counter.crdt.ids import folded_of, is_folded, member_of, run_of
from counter.crdt.tally import Tally
from counter.crdt.vector import Vector
from counter.protocol.backlog import Backlog
from counter.protocol.checks import SUM, Sum, decode_sum
from counter.protocol.folding import Folding
from counter.protocol.joining import Joining
from counter.protocol.key_log import is_key
from counter.protocol.keys import Keys
from counter.protocol.ledger import Ledger
from counter.protocol.logs import Logs
from counter.protocol.members import Members, decode_fact, is_note
from counter.protocol.moving import marks_kept, sums_kept
from counter.protocol.pending import Pending
from counter.protocol.roster import Roster
from counter.protocol.runs import Runs, is_run
from counter.protocol.suspects import Suspects

_COUNTS_A_STEP = 4_000
_NOTHING: Set[str] = frozenset()


class Recovery:
    """What the store of the replica `own` held when it was opened."""

    def __init__(
        self,
        own: str,
        tally: Tally,
        members: Members,
        pending: Pending,
        runs: Runs,
        keys: Keys,
        folding: Folding,
        joining: Joining,
        logs: Logs,
        roster: Roster,
        backlog: Backlog,
        suspects: Suspects,
        ledger: Ledger,
    ) -> None:
        self.own = own
        self._member = member_of(own)
        self._tally = tally
        self._members = members
        self._roster = roster
        self._backlog = backlog
        self._pending = pending
        self._folding = folding
        self._runs = runs
        self._keys = keys
        self._logs = logs
        self._joining = joining
        self._suspects = suspects
        self._ledger = ledger
        self._found: dict[str, Vector] = {}
        """What the store holds of folds that are not whole there, or not the memory's."""
        self._damaged: set[str] = set()
        """The members of whom some of that is not as it was written."""
        self._whole: dict[str, Sum] = {}
        """The sum of all that the store has of these folds, by folded vector, where it is known."""
        self.doubtful: list[str] = []
        """The folded vectors of which that is another than was written."""
        self._joins: Iterator[Set[str]] | None = None
        """The steps of joining it that are still to be done."""

    def own_fact(self) -> dict[str, str]:
        """What the store must keep before anybody hears of this run, lest a later one be older."""
        return {self._member: self._backlog.fact(self._member)} | self._runs.own_note()

    def opened(self, vectors: Collection[str], facts: Mapping[str, str]) -> None:
        """Take in what the store knows beside counts: its vectors, and its facts.

        What it still has of runs that it has folded is to be deleted.
        """
        self._found, self._damaged, self._joins = {}, set(), None
        notes = {name: fact for name, fact in facts.items() if is_note(name)}
        kept = {name: text for name, text in notes.items() if not _is_made_anew(name)}
        self._backlog.notes = kept | self._backlog.notes
        read = ((name, decode_sum(text)) for name, text in notes.items() if name.startswith(SUM))
        sums = {name.removeprefix(SUM): kept for name, kept in read if kept is not None}
        marks, self._whole = marks_kept(facts), sums_kept(facts)
        self._suspects.opened(sums | self._whole)
        for member in [*(name for name in facts if not is_note(name)), *(marks.keys() - facts)]:
            latest, removed, _ = decode_fact(facts.get(member, ""))
            self._open_member(member, latest, removed, marks.get(member, ("", ""))[0])
        self._logs.opened(notes)
        self._pending.untold.opened(notes)
        for vector in filter(self._tally.current, vectors):
            self._roster.learn(member_of(vector), run_of(vector), source="stored")
        self._backlog.opened(vectors, marks, sums)
        self._joining.expect(member for member in self._members if member != self._member)
        self._runs.opened(notes)
        self._keys.opened(notes, self._runs.zero)
        self._ledger.opened(notes)

    def _open_member(self, member: str, latest: str, removed: str, mark: str) -> None:
        """Take in what the store knows of one member; it has folded up to this mark."""
        self._roster.learn(member, max(latest, mark), removed, source="stored")
        if member == self._member and mark >= run_of(self.own):
            self._folding.follow(member, mark)
        elif mark > self._tally.mark(member):
            # It is done in the store already, or begun there.
            self._backlog.fold(member, mark)

    def loaded(self, vector: str, counts: Mapping[str, int]) -> Set[str]:
        """Join what the store holds of a vector; return what grew.

        Its own vector is what this process wrote itself: that is committed with `stored`.
        """
        if vector == self.own:
            return set()
        member, here = member_of(vector), vector
        mark = self._tally.mark(member)
        if self._backlog.moving.is_part(vector, mark):
            self._found.setdefault(vector, self._tally.empty()).merge(counts)
            if vector in self._whole:
                # It is looked at when all of the fold is here.
                return set()
            if is_folded(vector) and run_of(vector) <= mark:
                # It is no more than what the memory has folded; what the parts add to it follows.
                here = folded_of(member, mark)
        grew = self._tally.merge(here, counts)
        if grew:
            self._runs.changed(here)
        return grew.keys()

    def suspect(self, vector: str, counts: Mapping[str, int]) -> None:
        """Take note of a piece of a vector that is not as it was written.

        It is asked of the peers, and used only for want of anything better.
        """
        member = member_of(vector)
        mark = self._tally.mark(member)
        if vector == self.own:
            return
        if self._backlog.moving.is_part(vector, mark):
            self._damaged.add(member)
            if self._backlog.moving[member].mark == mark:
                self._found.setdefault(vector, self._tally.empty()).merge(counts)
        elif self._tally.current(vector):
            self._suspects.add(vector, counts)
            self._backlog.replace(vector)

    def rest(self, vector: str) -> Set[str] | None:
        """A short step of putting a closed run to rest that was loaded; None if it is done.

        No video grows by that.
        """
        return _NOTHING if self._runs.rest_loaded(vector, self._backlog) else None

    def suspected(self) -> list[str]:
        """The vectors that are not as they were written, and not used before all were asked."""
        return sorted(self._suspects)

    def all_loaded(self) -> set[str]:
        """The store has given everything. Returns what grew by that."""
        self._backlog.loading = False
        grew = self.join_found()
        self._pending.drop_known()
        # Before the first word of this run: whoever hears that takes it for all that there is.
        self._runs.sort(self._pending.waiting())
        return grew

    def join_found(self) -> set[str]:
        """Join what the store holds of folds that are not whole there; return what grew.

        A folded vector and its parts are added up to the mark of the memory, and joined like
        another node's copy. What the store has folded of this member waits for a later run of it.
        """
        grew: set[str] = set()
        while (some := self.join_some()) is not None:
            grew.update(some)
        return grew

    def join_some(self) -> Set[str] | None:
        """A short step of `join_found`; None when there is nothing left to be done.

        Between two steps other nodes' counts may come in. As long as the store is being read
        nothing of these folds is written, so it does not matter if not all of them are taken.
        """
        if self._joins is None:
            self._joins = self._join_all()
        some = next(self._joins, None)
        if some is None:
            self._joins = None
        return some

    def _join_all(self) -> Iterator[Set[str]]:
        moving, own = self._backlog.moving, self._member
        if own in moving and self._tally.mark(own) < moving[own].mark < run_of(self.own):
            # The store has folded earlier runs of this member, which the memory still has.
            self._backlog.fold(own, moving[own].mark)
        for member, move in list(moving.items()):
            if self._tally.mark(member) >= move.mark:
                yield from self._join(member, is_here=self._tally.mark(member) == move.mark)

    def _join(self, member: str, *, is_here: bool) -> Iterator[Set[str]]:
        """Join what was found of a member; `is_here` says if the store has the memory's mark."""
        folded = folded_of(member, self._tally.mark(member))
        found = {v: self._found.pop(v) for v in list(self._found) if member_of(v) == member}
        parts = [counts for vector, counts in found.items() if not is_folded(vector)]
        before = [counts for vector, counts in found.items() if is_folded(vector)]
        sums = before[0] if before else self._tally.empty()
        for part in parts:
            sums.add(part)
            yield _NOTHING
        whole = self._whole.pop(folded, None)
        if whole is not None and is_here and whole != (sums.total, sums.digest):
            self._damaged.add(member)
            self.doubtful.append(folded)
        if member in self._damaged:
            self._damaged.discard(member)
            self._backlog.replace(folded)
            if is_here:
                self._suspects.add(folded, dict(sums.items()))
                return
        for counts in sums.parts(_COUNTS_A_STEP):
            yield self._backlog.merge(folded, counts).keys()
        for part in parts:
            # All of these rows are to be moved, also those that did not grow.
            self._backlog.add(folded, part)
            yield _NOTHING
        self._backlog.add(folded, ())
        same = self._tally.total(folded), self._tally.digest(folded)
        if move := self._backlog.moving.get(member):
            move.whole = is_here and same == (sums.total, sums.digest)

    def forgotten(self, vectors: Collection[str], facts: Mapping[str, str]) -> None:
        """The store lost something: all that is committed is to be written again.

        `vectors` and `facts` are what it knows now. Ends with `all_loaded`, for it may hold more
        than is known here.
        """
        self._backlog.loading = True
        self._keys.forgotten()
        self._runs.forgotten()
        self.opened(vectors, facts)
        self._backlog.forgotten()


def _is_made_anew(note: str) -> bool:
    """Whether a note of the store is not kept as it is, but made of what is known here."""
    return is_key(note) or is_run(note) or note.startswith(SUM)
