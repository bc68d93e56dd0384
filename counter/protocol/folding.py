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

from counter.crdt.ids import day_of, folded_of, is_folded, member_of, replica_of, run_of
from counter.crdt.tally import Tally
from counter.protocol.announced import Announced
from counter.protocol.members import Members
from counter.protocol.messages import MemberReport
from counter.protocol.peers import Peer, Peers
from counter.protocol.runs import Runs

Statement = tuple[str, int]
"""A member and a day, or -1 for its fold mark and folded vector."""
_MARK = -1
_COUNTS_WOKEN = 200_000
"""How many counts of a run at rest are unpacked in one step: some 3 ms."""


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
        self.due: dict[str, str] = {}
        """The marks up to which runs are to be folded, by member: agreed on, or those of others."""
        self._agreed_on: dict[str, str] = {}
        """Those of them that were agreed on at the last look, and are not begun."""
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
        """The largest fold mark that anybody has of a member, folded up to here or not yet."""
        mark = self._tally.mark(member)
        return mark if member in self._agreed_on else max(mark, self.due.get(member, ""))

    def follow(self, member: str, mark: str) -> None:
        """Fold up to this: others have done so."""
        self._agreed_on.pop(member, None)
        self.due[member] = max(mark, self.due.get(member, ""))

    def heard(self, member: str, report: MemberReport) -> None:
        """Somebody has said this of a member."""
        for run in report.runs:
            self._runs.open_elsewhere(replica_of(member, run))
        self._agreement.contradict((member, _MARK), (report.mark, report.folded))
        for statement in self._agreement.of(member):
            if statement[1] != _MARK:
                self._agreement.contradict(statement, report.days.get(statement[1]))

    def look(self, now: float, *, may_fold: bool) -> None:
        """Look, once a `SYNC_INTERVAL`, whether all say the same; a fold is due when it is time."""
        gap, self._looked = now - self._looked, now
        for member, mark in self._agreed_on.items():
            # It waited so long that the others may say something else by now.
            if self.due.get(member) == mark:
                del self.due[member]
        self._agreed_on = {}
        previous = self._peers.are_previous(now)
        if not may_fold or previous or gap > self._peers.silence or any(self.fold_blockers(now)):
            self._agreement.end_all()
            return
        self._announced = list(self._known_reports(now))
        for member in self._members:
            mark = self._tally.mark(member)
            agreed = self._agreed(member, mark, now)
            if agreed > max(mark, self.due.get(member, "")):
                self.due[member] = self._agreed_on[member] = agreed

    def wake(self, member: str, mark: str) -> int:
        """Have some of the run awake that is folded next, if it is large; return how much it was.

        So that is 0 once it may be folded.
        """
        for run in self._tally.parts(member, mark):
            if not is_folded(run):
                is_large = self._tally.size(run) > _COUNTS_WOKEN
                return self._tally.wake(run, _COUNTS_WOKEN) if is_large else 0
        return 0

    def folded(self, member: str) -> None:
        """Some runs of a member were folded, as far as its mark says."""
        for statement in self._agreement.of(member):
            self._agreement.end(statement)
        self._agreed_on.pop(member, None)
        if self.due.get(member, "") <= self._tally.mark(member):
            self.due.pop(member, None)

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
        for vector in sorted({*self._runs.closed(member), *open_runs}):
            if vector in open_runs:
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
