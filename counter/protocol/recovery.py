"""Recovery: what the store holds is joined with the memory, at a start or when it forgot something.

First the store is `opened`, then it gives each vector to `loaded` or, where that fails its check,
to `suspect`; it ends with `all_loaded`.

Pure: no I/O, no clock.
"""

from collections.abc import Collection, Mapping

from counter.crdt.ids import is_folded, member_of, run_of
from counter.crdt.tally import Tally
from counter.protocol.backlog import Backlog
from counter.protocol.checks import SUM, decode_sum
from counter.protocol.folding import Fold, Folding
from counter.protocol.joining import Joining
from counter.protocol.key_log import is_key
from counter.protocol.keys import Keys
from counter.protocol.logs import Logs
from counter.protocol.members import Members, decode_fact, is_note
from counter.protocol.pending import Pending
from counter.protocol.roster import Roster
from counter.protocol.runs import Runs, is_run
from counter.protocol.suspects import Suspects


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
        self._found = Tally()
        """What the store holds under fold marks that are not those of the memory."""

    def own_fact(self) -> dict[str, str]:
        """What the store must keep before anybody hears of this run, lest a later one be older."""
        return {self._member: self._roster.fact(self._member)} | self._runs.own_note()

    def opened(self, vectors: Collection[str], facts: Mapping[str, str]) -> None:
        """Take in what the store knows beside counts: its vectors, and its facts.

        What it still has of vectors that were folded is to be deleted.
        """
        self._found = Tally()
        notes = {name: fact for name, fact in facts.items() if is_note(name)}
        kept = {name: text for name, text in notes.items() if not _is_made_anew(name)}
        self._backlog.notes = kept | self._backlog.notes
        read = ((name, decode_sum(text)) for name, text in notes.items() if name.startswith(SUM))
        sums = {name.removeprefix(SUM): kept for name, kept in read if kept is not None}
        self._suspects.opened(sums)
        self._backlog.summed = set(sums)
        folded = {member_of(vector): run_of(vector) for vector in sums if is_folded(vector)}
        for member in folded.keys() - facts.keys():
            facts = {**facts, member: ""}
        for member in [name for name in facts if not is_note(name)]:
            latest, removed, mark = decode_fact(facts[member])
            # A folded vector has a sum from the step in which the mark is written: if that is
            # another one, it was damaged.
            self._open_member(member, latest, removed, max(mark, folded.get(member, "")))
        self._logs.opened(notes)
        for vector in vectors:
            member, run = member_of(vector), run_of(vector)
            if self._tally.current(vector):
                self._roster.learn(member, run, source="stored")
            elif run <= self._tally.mark(member) or not self._found.current(vector):
                self._backlog.drop.add(vector)
        self._joining.expect(member for member in self._members if member != self._member)
        self._runs.opened(notes)
        self._keys.opened(notes, self._runs.zero)

    def _open_member(self, member: str, latest: str, removed: str, mark: str) -> None:
        """Take in what the store knows of one member; it has folded up to this mark."""
        self._roster.learn(member, max(latest, mark), removed, source="stored")
        self._found.fold(member, mark)
        if member == self._member and mark >= run_of(self.own):
            self._folding.followed[member] = mark
        elif mark > self._tally.mark(member):
            # It is done in the store already, so that there is nothing to wait for.
            self._backlog.fold(Fold(self._tally, member, mark))

    def loaded(self, vector: str, counts: Mapping[str, int]) -> set[str]:
        """Join what the store holds of a vector; return what grew.

        Its own vector is what this process wrote itself: that is committed with `stored`.
        """
        if vector == self.own:
            return set()
        if not self._tally.current(vector):
            self._found.merge(vector, counts)
        return set(self._tally.merge(vector, counts))

    def suspect(self, vector: str, counts: Mapping[str, int]) -> None:
        """Take note of a piece of a vector that is not as it was written.

        It is asked of the peers, and used only for want of anything better.
        """
        if vector != self.own and self._tally.current(vector):
            self._suspects.add(vector, counts)
            self._backlog.replace(vector)

    def suspected(self) -> list[str]:
        """The vectors that are not as they were written, and not used before all were asked."""
        return sorted(self._suspects)

    def all_loaded(self) -> set[str]:
        """The store has given everything. Returns what grew by that.

        What it holds under an older fold mark is joined like another node's copy.
        """
        self._backlog.loading = False
        grew: set[str] = set()
        mark = self._found.mark(self._member)
        if self._tally.mark(self._member) < mark < run_of(self.own):
            # The store has folded earlier runs of this member, which the memory still has.
            self._backlog.fold(Fold(self._tally, self._member, mark))
        for member in {member_of(vector) for vector, _ in self._found.vectors()}:
            mark = self._tally.mark(member)
            if not mark:
                continue  # the store is ahead of the memory, which follows with the next flushes
            fold = Fold(self._found, member, mark)
            fold.at_once()
            if not self._folding.rests(fold.id):
                grew.update(self._backlog.merge(fold.id, dict(fold.vector.items())))
        self._found = Tally()
        self._pending.drop_known()
        # Before the first word of this run: whoever hears that takes it for all that there is.
        self._runs.sort(self._pending.waiting())
        return grew

    def forgotten(self, vectors: Collection[str], facts: Mapping[str, str]) -> None:
        """The store lost something: all that is committed is to be written again.

        `vectors` and `facts` are what it knows now. Ends with `all_loaded`, for it may hold more
        than is known here.
        """
        self._folding.under_way = None
        self._backlog.loading = True
        self._keys.forgotten()
        self._runs.forgotten()
        self.opened(vectors, facts)
        self._backlog.forgotten()


def _is_made_anew(note: str) -> bool:
    """Whether a note of the store is not kept as it is, but made of what is known here."""
    return is_key(note) or is_run(note) or note.startswith(SUM)
