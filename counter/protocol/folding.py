"""Folding: the counts of old runs become one vector a member, and their names are forgotten.

There is no coordinator. Every node folds by itself, strictly oldest first, and only runs that have
been closed for long and on which *the reports of every member* have agreed for twice as long as a
message can live. Then nobody holds more of these runs, and all nodes have folded, or will fold, the
same. A node that hears of a larger fold mark than its own adds up its own copies to that mark; then
the copies of that folded vector are merged like any others, by the larger count. So a merge never
lowers a count, and never counts twice.

Pure: no I/O, no clock.
"""

from collections.abc import Iterator
from itertools import islice

from counter.crdt.gcounter import MAX_COUNT
from counter.crdt.ids import day_of, folded_of, member_of, replica_of, run_of
from counter.crdt.tally import Tally
from counter.protocol.announced import Announced
from counter.protocol.members import Members
from counter.protocol.messages import MemberReport
from counter.protocol.peers import Peer, Peers
from counter.protocol.runs import Runs

_RUNS_A_FOLD = 32
"""How many runs are folded at once: they are all unpacked meanwhile."""

Statement = tuple[str, int]
"""A member and a day, or -1 for its fold mark and folded vector."""
_MARK = -1


class Agreement:
    """Since when everybody has said the same. Times are in seconds."""

    def __init__(self) -> None:
        self._since: dict[Statement, tuple[float, object]] = {}

    def say(self, statement: Statement, content: object, now: float) -> None:
        """All members, this node among them, say this now."""
        known = self._since.get(statement)
        if known is None or known[1] != content:
            self._since[statement] = now, content

    def contradict(self, statement: Statement, content: object) -> None:
        """Somebody says this: if it is something else, the agreement is over."""
        known = self._since.get(statement)
        if known is not None and known[1] != content:
            del self._since[statement]

    def end(self, statement: Statement) -> None:
        """There is no agreement on this."""
        self._since.pop(statement, None)

    def end_all(self) -> None:
        """There is no agreement on anything: somebody is silent."""
        self._since.clear()

    def of(self, member: str) -> list[Statement]:
        """What there is agreement on about a member."""
        return [statement for statement in self._since if statement[0] == member]

    def lasted(self, statement: Statement, seconds: float, now: float) -> bool:
        """Whether there has been agreement on this for so long."""
        known = self._since.get(statement)
        return known is not None and now - known[0] >= seconds


class Fold:
    """One fold under way: the vectors of a member up to a mark are added up, bit by bit.

    Its `parts` must not change meanwhile. Nothing of it shows before `Tally.fold`.
    """

    def __init__(self, tally: Tally, member: str, mark: str) -> None:
        self.member = member
        self.mark = mark
        self.id = folded_of(member, mark)
        self.parts = tally.parts(member, mark)
        self._copies = [tally.vector(part) for part in self.parts]
        self._tally = tally
        self.in_doubt = False
        """Whether the store may hold it already, complete, in the place of its parts."""
        self.restart()

    def restart(self, *, in_doubt: bool = False) -> None:
        """Begin anew, because what was written may be lost, or, in doubt, be the whole of it."""
        self.in_doubt = self.in_doubt or in_doubt
        self.vector = self._tally.empty()
        self._rows = self._each()
        self.complete = not self._copies

    def step(self, most: int) -> dict[str, int]:
        """Add up some videos, `most` at a time; return their counts. Sets `complete` at the end."""
        rows = list(islice(self._rows, most))
        sums = [min(MAX_COUNT, sum(copy.at(row) for copy in self._copies)) for row in rows]
        counts = dict(zip(self._tally.ids.names(rows), sums, strict=True))
        grew = self.vector.merge(counts)
        self.complete = len(counts) < most
        # A sum that no vector can hold was made up, by a run that nobody has counted in.
        return counts if len(grew) == len(counts) else {video: counts[video] for video in grew}

    def at_once(self) -> None:
        """Add up everything that is left, at once: nothing of it is to be written first."""
        self.restart()
        for copy in self._copies:
            self.vector.add(copy)
        self.complete = True

    def _each(self) -> Iterator[int]:
        for number, copy in enumerate(self._copies):
            earlier = self._copies[:number]
            for row, _ in copy.by_row():
                if not any(before.at(row) for before in earlier):
                    yield row


class Folding:
    """Which runs are folded when: those agreed upon for long, and those others have folded.

    `own` is the replica that runs here, which is open; `fold_after` is for how many seconds a run
    must have been closed, `message_ttl` the longest life of a message.
    """

    def __init__(
        self,
        own: str,
        tally: Tally,
        members: Members,
        peers: Peers,
        runs: Runs,
        *,
        message_ttl: float,
        fold_after: float,
    ) -> None:
        self.own = own
        self.folds = 0
        """How many folds the store holds since this process began."""
        self.under_way: Fold | None = None
        """The one fold that is being written to the store; its parts rest meanwhile."""
        self.followed: dict[str, str] = {}
        """The larger marks that others have, by member, which are to be followed."""
        self._tally = tally
        self._members = members
        self._peers = peers
        self._runs = runs
        self._fold_after = fold_after
        self._wait = 2 * message_ttl
        self._agreement = Agreement()
        self._looked = 0.0
        self._announced: list[Announced | None] = []

    def fold_blockers(self, now: float) -> Iterator[str]:
        """The members that are not heard, and without whose report nothing is folded."""
        live = {member_of(replica) for replica in self._peers.staying(now)} | {member_of(self.own)}
        for member in self._members:
            if member not in live and not self._members.is_removed(member):
                yield member

    def mark(self, member: str) -> str:
        """The largest fold mark that is known of a member, followed here or not yet."""
        return max(self._tally.mark(member), self.followed.get(member, ""))

    def heard(self, member: str, report: MemberReport) -> None:
        """Somebody has said this of a member."""
        for run in report.runs:
            self._runs.open_elsewhere(replica_of(member, run))
        self._agreement.contradict((member, _MARK), (report.mark, report.folded))
        for statement in self._agreement.of(member):
            if statement[1] != _MARK:
                self._agreement.contradict(statement, report.days.get(statement[1]))

    def look(self, now: float, *, may_fold: bool) -> None:
        """Look, once a `SYNC_INTERVAL`, whether all say the same; begin a fold when it is time."""
        gap, self._looked = now - self._looked, now
        previous = self._peers.are_previous(now)
        if not may_fold or previous or gap > self._peers.silence or any(self.fold_blockers(now)):
            self._agreement.end_all()
            return
        self._announced = list(self._known_reports(now))
        for member in self._members:
            mark = self._tally.mark(member)
            agreed = self._agreed(member, mark, now)
            if agreed > self.mark(member) and self.under_way is None:
                # From here on its parts rest, so that what is folded is what was agreed upon.
                self.under_way = Fold(self._tally, member, agreed)

    def next(self) -> Fold | None:
        """The fold to be written, which may be to a mark that others have."""
        if self.under_way is None and self.followed:
            self.under_way = Fold(self._tally, *next(iter(self.followed.items())))
        return self.under_way

    def done(self, fold: Fold) -> None:
        """Fold in memory: the store holds it, or is not ahead of it."""
        self._tally.fold(fold.member, fold.mark, fold.vector)
        self._runs.changed(fold.id)
        for statement in self._agreement.of(fold.member):
            self._agreement.end(statement)
        if self.followed.get(fold.member, "") <= fold.mark:
            self.followed.pop(fold.member, None)
        if fold is self.under_way:
            self.under_way = None

    def rests(self, vector: str) -> bool:
        """Whether a vector must not change, nor come up, for it would be in the fold under way."""
        fold = self.under_way
        return fold is not None and member_of(vector) == fold.member and run_of(vector) <= fold.mark

    def _agreed(self, member: str, mark: str, now: float) -> str:
        """Up to which run all have said the same for long, oldest first; `mark` if there is none.

        Nothing at or beyond a run that is open anywhere, or not closed for long enough.
        """
        reports = [None if said is None else said.of(member) for said in self._announced]
        self._note(member, mark, reports, now)
        if not self._agreement.lasted((member, _MARK), self._wait, now):
            return mark
        told_open = {replica_of(member, run) for r in reports if r is not None for run in r.runs}
        open_runs = told_open | self._runs.open(member)
        days = self._days(member, reports)
        agreed = mark
        for number, vector in enumerate(sorted({*self._runs.closed(member), *open_runs})):
            if vector in open_runs or number == _RUNS_A_FOLD:
                break
            until = [(member, day) for day in days if day <= day_of(run_of(vector))]
            if not all(self._agreement.lasted(each, self._wait, now) for each in until):
                break
            if self._runs.closed_for(vector) < self._fold_after:
                break
            agreed = run_of(vector)
        return agreed

    def _note(self, member: str, mark: str, reports: list[MemberReport | None], now: float) -> None:
        """Note on what all agree about a member."""
        folded = folded_of(member, mark)
        total = self._tally.total(folded) if mark else 0
        copy = (total, self._tally.digest(folded)) if total else (0, 0)
        known = [report for report in reports if report is not None]
        complete = len(known) == len(reports)
        own: object = mark, copy
        same = complete and all((report.mark, report.folded) == own for report in known)
        self._say((member, _MARK), own, now, agreed=same)
        days = self._runs.days(member)
        for day in self._days(member, reports):
            digest = days.get(day)
            same = complete and all(report.days.get(day) == digest for report in known)
            self._say((member, day), digest, now, agreed=same)

    def _say(self, statement: Statement, content: object, now: float, *, agreed: bool) -> None:
        if agreed:
            self._agreement.say(statement, content, now)
        else:
            self._agreement.end(statement)

    def _days(self, member: str, reports: list[MemberReport | None]) -> set[int]:
        """The days of which anybody has closed runs."""
        told = {day for report in reports if report is not None for day in report.days}
        return told | self._runs.days(member).keys()

    def _known_reports(self, now: float) -> Iterator[Announced | None]:
        """All that each node has said that is waited for; None where that is not known."""
        for replica, peer in self._peers.staying(now).items():
            if not self._members.is_removed(member_of(replica)):
                yield peer.announced if self._is_known(peer, now) else None

    def _is_known(self, peer: Peer, now: float) -> bool:
        """Whether all that a node has said was heard here, and lately."""
        return peer.confirmed is not None and now - peer.confirmed <= self._peers.silence
