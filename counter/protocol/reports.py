"""Reports: what a node tells the others of all that it holds, once a `SYNC_INTERVAL`.

It remembers what it has said, and says only what is new, with a checksum over everything; a peer
that missed something asks for all of it. So what a node sends does not grow with the number of
nodes.
Runs that are open are told by name, closed ones by a digest for each day of a member.

Pure: no I/O; times are in seconds of the caller's clock, which never goes back.
"""

from collections.abc import Iterator
from itertools import chain, islice

from msgspec.structs import replace

from counter.crdt.ids import folded_of, member_of, name_of, run_of
from counter.crdt.tally import Tally
from counter.protocol.announced import Announced
from counter.protocol.apart import Apart
from counter.protocol.keys import Keys
from counter.protocol.ledger import Ledger
from counter.protocol.logs import Logs
from counter.protocol.members import Members
from counter.protocol.messages import (
    CLASSES,
    MAX_LOGS_TOLD,
    MAX_MEMBERS_TOLD,
    MAX_PEERS_TOLD,
    MAX_RUNS_TOLD,
    DatedCopy,
    Health,
    MemberReport,
    PreviousMemberReport,
    Report,
    RunsPage,
    RunsRequest,
    State,
)
from counter.protocol.peers import Peers
from counter.protocol.positions import Positions
from counter.protocol.previous import PreviousAnnounced, previous_report
from counter.protocol.runs import Runs

_RUNS_A_REPORT = MAX_MEMBERS_TOLD
_MEMBERS_A_REPORT = 300
"""How many members are looked at for a report, beside those that are heard."""
_LOGS_A_REPORT = MAX_LOGS_TOLD
_FEW = 100
"""Of so many members everything is told to nodes that were only named: it is one small message."""
_PEERS_A_REPORT = 5
_PEERS_AT_ONCE = MAX_PEERS_TOLD
_TOTALS_A_REPORT = 20
"""How many totals of vectors that still grow a report tells: or it would grow with every node."""
_HEALTH_EVERY = 10
"""After how many reports unchanged health is told again: a report may be lost."""


class Reports:
    """What the replica `own` has said, and what it has to say."""

    runs_a_page = MAX_RUNS_TOLD
    """How many closed runs are named in one message."""

    def __init__(
        self,
        own: str,
        tally: Tally,
        members: Members,
        peers: Peers,
        keys: Keys,
        logs: Logs,
        runs: Runs,
        ledger: Ledger,
    ) -> None:
        self.own = own
        self.published = 0
        """The total of its own vector, as far as it was published."""
        self.apart = Apart()
        """How much of its own total is no visit."""
        self.said = Announced()
        self.health: Health | None = None
        """How store and transport of this node are; None if that is not told."""
        self._told: Health | None = None
        self._told_ago = 0
        self._tally = tally
        self._members = members
        self._peers = peers
        self._keys = keys
        self._logs = logs
        self._runs = runs
        self._ledger = ledger
        self._turn = 0
        self._first = 0
        """Which of the members is the first that is looked at next."""
        self._number = 0
        self._said_before = PreviousAnnounced()
        """What nodes of the version before have heard."""

    def start_new_run(self, own: str) -> None:
        """Go on for another run."""
        self.own = own
        self.published = 0
        self.apart = Apart()

    def news(self, state: State, now: float) -> list[Report]:
        """What is to be told to all: what was not said yet, or only that there is nothing."""
        return self._say(state, self._news(now), self._news_of_logs(now, of_all=False), now)

    def everything(self, state: State, now: float) -> tuple[list[Report], list[Report]]:
        """What one node is to be told that knows nothing; before it, the news in that, for all."""
        news, logs = self._news(now), self._news_of_logs(now, of_all=True)
        told = self._say(state, news, logs, now) if news or logs else []
        previous = self._said_before.reports() if self._peers.are_previous(now) else None
        said = self.said.members(), self.said.logs, previous
        return told, list(self._parts(state, *said, _PEERS_AT_ONCE, now, self.health))

    def greeting(self, state: State, now: float) -> tuple[list[Report], list[Report]]:
        """What nodes are told that were only named: everything, where that is short.

        Otherwise what there is to say of the own member. Nodes that exist ask for the rest, as the
        checksum is another; those that are made up cost little.
        """
        if len(self.said.members()) <= _FEW:
            return self.everything(state, now)
        own = member_of(self.own)
        said = self.said.of(own)
        states = {own: said} if said else {}
        previous: dict[str, PreviousMemberReport] | None = None
        if self._peers.are_previous(now):
            previous = {}
        parts = self._parts(state, states, {}, previous, _PEERS_A_REPORT, now, self.health)
        return [], list(parts)

    def names(self, asked: RunsRequest) -> RunsPage | None:
        """The closed runs of a day that are asked for; None if there are none here."""
        digest = self._runs.days(asked.member).get(asked.day)
        if digest is None:
            return None
        vectors = self._runs.of_day(asked.member, asked.day)
        rest = [vector for vector in vectors if run_of(vector) > asked.after]
        page = rest[: self.runs_a_page]
        runs = {run_of(vector): self._copy(vector, closed=True) for vector in page}
        following = run_of(page[-1]) if len(rest) > len(page) else ""
        return RunsPage(asked.member, asked.day, digest, asked.after, runs, following)

    def _say(
        self, state: State, news: dict[str, MemberReport], logs: dict[str, Positions], now: float
    ) -> list[Report]:
        previous = self._previous_news() if self._peers.are_previous(now) else None
        for member, report in news.items():
            self.said.say(member, report)
        for log, positions in logs.items():
            self.said.say_read(log, positions)
            self._said_before.say_read(log, positions)
        self._told_ago += 1
        health = None
        if self.health != self._told or self._told_ago >= _HEALTH_EVERY:
            health = self._told = self.health
            self._told_ago = 0
        return list(self._parts(state, news, logs, previous, _PEERS_A_REPORT, now, health))

    def _parts(
        self,
        state: State,
        states: dict[str, MemberReport],
        logs: dict[str, Positions],
        previous: dict[str, PreviousMemberReport] | None,
        most_peers: int,
        now: float,
        health: Health | None,
    ) -> Iterator[Report]:
        """A report in as many parts as it takes."""
        self._number += 1
        number = self._number
        peers = self._acquaintances(most_peers, now)
        keys: dict[str, int] | None = self._keys.report(_RUNS_A_REPORT)
        for members in _of_previous(previous or {}):
            yield Report(state, members, peers, None, keys)
            peers, keys = {}, None
        part: dict[str, MemberReport] = {}
        size = 0
        for member, report in states.items():
            entries = 2 + len(report.runs) + len(report.days) // 2
            if part and size + entries > _RUNS_A_REPORT:
                yield Report(state, {}, peers, None, keys, states=part, number=number)
                part, peers, keys, size = {}, {}, None, 0
            part[member] = report
            size += entries
        rest_of_logs = iter(logs.items())
        while len(read := dict(islice(rest_of_logs, _LOGS_A_REPORT))) == _LOGS_A_REPORT:
            yield Report(state, {}, peers, None, keys, read, states=part, number=number)
            part, peers, keys = {}, {}, None
        checksum = None if previous is None else self._said_before.checksum
        said = self.said.checksum
        told = peers, checksum, keys, read, health, part, said, number, CLASSES
        yield Report(state, {}, *told, self._ledger.digest)

    def _acquaintances(self, most: int, now: float) -> dict[str, str]:
        """Some of the live peers and their addresses, others each time."""
        known = [(replica, peer.address) for replica, peer in self._peers.live(now).items()]
        known = [(replica, address) for replica, address in known if address]
        self._turn += most
        first = self._turn % len(known) if len(known) > most else 0
        return dict((known[first:] + known[:first])[:most])

    def _news(self, now: float) -> dict[str, MemberReport]:
        """What was not said yet, by member.

        Only some of the totals of vectors that still grow, others each time: a peer
        that missed some of these learns it from their writers.
        """
        own = member_of(self.own)
        news: dict[str, MemberReport] = {}
        totals = 0
        for member in self._looked_at(own, now):
            report, said = self._state(member, now), self.said.of(member)
            if report == said:
                continue
            growing = [run for run, copy in report.runs.items() if copy[1] is None]
            if member != own and growing and said is not None:
                if totals >= _TOTALS_A_REPORT:
                    kept = {run: said.runs[run] for run in growing if run in said.runs}
                    report = replace(report, runs=report.runs | kept)
                    if report == said:
                        continue
                totals += len(growing)
            news[member] = report
        return news

    def _looked_at(self, own: str, now: float) -> Iterator[str]:
        """Its own member, those that are heard, and some of the others, each time the next ones.

        All of them at once would take long where somebody has made up names.
        """
        members = list(self._members)
        first, self._first = self._first, (self._first + _MEMBERS_A_REPORT) % len(members)
        some = islice(chain(members[first:], members[:first]), _MEMBERS_A_REPORT)
        heard = filter(self._members.__contains__, map(member_of, self._peers.live(now)))
        others = [member for member in dict.fromkeys(chain(heard, some)) if member != own]
        turn = self._turn % max(1, len(others))
        return chain([own], others[turn:], others[:turn])

    def _state(self, member: str, now: float) -> MemberReport:
        """How a member stands here."""
        mark = self._tally.mark(member)
        folded = folded_of(member, mark)
        total = self._tally.total(folded) if mark else 0
        return MemberReport(
            self._members.latest(member),
            self._members.removed(member),
            mark,
            (total, self._tally.digest(folded)) if total else (0, 0),
            {run_of(v): self._open_copy(v, now) for v in sorted(self._runs.open(member))},
            dict(self._runs.days(member)),
        )

    def _open_copy(self, vector: str, now: float) -> DatedCopy:
        if vector == self.own:
            # Of its own vector it reports what it has published: more would look like a loss.
            return self.published, None, self._runs.date
        return self._copy(vector, closed=not self._peers.speaks(vector, now))

    def _copy(self, vector: str, *, closed: bool) -> DatedCopy:
        digest = self._tally.digest(vector) if closed else None
        return self._tally.total(vector), digest, self._runs.date_of(vector)

    def _news_of_logs(self, now: float, *, of_all: bool) -> dict[str, Positions]:
        """What was not said yet of logs: of its own, those of nodes not heard, or `of_all`."""
        live = {name_of(replica) for replica in self._peers.live(now)} - {name_of(self.own)}
        said = self.said.logs
        return {
            name: self._logs.of(name)
            for name in self._logs
            if (of_all or name.partition("/")[0] not in live)
            and said.get(name) != self._logs.of(name)
        }

    def _previous_news(self) -> dict[str, PreviousMemberReport]:
        """What a node of the version before was not told yet."""
        news = {}
        for member in self._members:
            latest, removed = self._members.latest(member), self._members.removed(member)
            report = previous_report(
                self._tally, member, latest, removed, (self.own, self.published)
            )
            told = self._said_before.news(member, report)
            if told is not None:
                news[member] = told
                self._said_before.say(member, told)
        return news


def _of_previous(
    reports: dict[str, PreviousMemberReport],
) -> Iterator[dict[str, PreviousMemberReport]]:
    """These reports in parts; the runs of a member may be in several."""
    part: dict[str, PreviousMemberReport] = {}
    size = 0
    for member, report in reports.items():
        rest = iter(report.runs.items())
        while True:
            runs = dict(islice(rest, _RUNS_A_REPORT))
            if part and (member in part or size + 1 + len(runs) > _RUNS_A_REPORT):
                yield part
                part, size = {}, 0
            part[member] = replace(report, runs=runs)
            size += 1 + len(runs)
            if len(runs) < _RUNS_A_REPORT:
                break
    if part:
        yield part
