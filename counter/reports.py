"""Reports: what a node tells the others of all that it holds, once a `SYNC_INTERVAL`.

It remembers what it has said, and says only what is new, and a checksum over everything; who has
missed something asks for all of it. So what a node sends does not grow with the number of nodes.

Pure: no I/O; times are in seconds of the caller's clock, which never goes back.
"""

from collections.abc import Iterator
from itertools import islice

from msgspec.structs import replace

from counter.ids import is_folded, member_of, name_of, run_of
from counter.keys import Keys
from counter.members import Members
from counter.messages import Condition, Report, Standing, State
from counter.peers import Peers, Words
from counter.positions import Logs, Positions
from counter.tally import Tally

_RUNS_A_REPORT = 300
_LOGS_A_REPORT = 100
_PEERS_A_REPORT = 5
_PEERS_AT_ONCE = 100
_TOTALS_A_REPORT = 20
"""How many totals of vectors that still grow a report tells: or it would grow with every node."""


_CONDITION_EVERY = 10
"""After how many reports a condition is told again that has not changed: one may be lost."""


class Reports:
    """What the replica `own` has said, and what it has to say."""

    def __init__(
        self, own: str, tally: Tally, members: Members, peers: Peers, keys: Keys, logs: Logs
    ) -> None:
        self.own = own
        self.published = 0
        """The total of its own vector, as far as it was published."""
        self.said = Words()
        self.condition: Condition | None = None
        """How store and transport of this node are; None if that is not told."""
        self._told: Condition | None = None
        self._told_ago = 0
        self._tally = tally
        self._members = members
        self._peers = peers
        self._keys = keys
        self._logs = logs
        self._turn = 0

    def renew(self, own: str) -> None:
        """Go on for another run."""
        self.own = own
        self.published = 0

    def news(self, state: State, now: float) -> list[Report]:
        """What is to be told to all: what was not said yet, or only that there is nothing."""
        return self._say(state, self._news(now), self._news_of_logs(now, of_all=False), now)

    def everything(self, state: State, now: float) -> tuple[list[Report], list[Report]]:
        """What one node is to be told that knows nothing; before it, the news in that, for all."""
        standings, logs = self._news(now), self._news_of_logs(now, of_all=True)
        news = self._say(state, standings, logs, now) if standings or logs else []
        said = self.said.standings(), self.said.logs
        return news, list(self._parts(state, *said, _PEERS_AT_ONCE, now, self.condition))

    def _say(
        self, state: State, news: dict[str, Standing], logs: dict[str, Positions], now: float
    ) -> list[Report]:
        for member, standing in news.items():
            self.said.say(member, standing)
        for log, positions in logs.items():
            self.said.say_read(log, positions)
        self._told_ago += 1
        condition = None
        if self.condition != self._told or self._told_ago >= _CONDITION_EVERY:
            condition = self._told = self.condition
            self._told_ago = 0
        return list(self._parts(state, news, logs, _PEERS_A_REPORT, now, condition))

    def _parts(
        self,
        state: State,
        standings: dict[str, Standing],
        logs: dict[str, Positions],
        most_peers: int,
        now: float,
        condition: Condition | None,
    ) -> Iterator[Report]:
        """A report in as many parts as it takes; the runs of a member may be in several."""
        peers = self._acquaintances(most_peers, now)
        keys: dict[str, int] | None = self._keys.report(_RUNS_A_REPORT)
        part: dict[str, Standing] = {}
        size = 0
        for member, standing in standings.items():
            rest = iter(standing.runs.items())
            while True:
                runs = dict(islice(rest, _RUNS_A_REPORT))
                if part and (member in part or size + 1 + len(runs) > _RUNS_A_REPORT):
                    yield Report(state, part, peers, None, keys)
                    part, peers, keys, size = {}, {}, None, 0
                part[member] = replace(standing, runs=runs)
                size += 1 + len(runs)
                if len(runs) < _RUNS_A_REPORT:
                    break
        rest_of_logs = iter(logs.items())
        while len(read := dict(islice(rest_of_logs, _LOGS_A_REPORT))) == _LOGS_A_REPORT:
            yield Report(state, part, peers, None, keys, read)
            part, peers, keys = {}, {}, None
        yield Report(state, part, peers, self.said.checksum, keys, read, condition)

    def _acquaintances(self, most: int, now: float) -> dict[str, str]:
        """Some of the live peers and their addresses, others each time."""
        known = [(replica, peer.address) for replica, peer in self._peers.live(now).items()]
        known = [(replica, address) for replica, address in known if address]
        self._turn += most
        first = self._turn % len(known) if len(known) > most else 0
        return dict((known[first:] + known[:first])[:most])

    def _news(self, now: float) -> dict[str, Standing]:
        """What was not said yet, by member.

        Only some of the totals of vectors that still grow, others each time: who has missed
        something of these learns it from their writers.
        """
        standings = self._standings(now)
        first = self._turn % len(standings)
        members = list(standings)
        news = {}
        totals = 0
        for member in [member_of(self.own), *members[first:], *members[:first]]:
            standing = self.said.news(member, standings[member])
            if standing is None or member in news:
                continue
            growing = [run for run, copy in standing.runs.items() if copy[1] is None]
            if member != member_of(self.own) and growing:
                if totals >= _TOTALS_A_REPORT:
                    settled = {run: c for run, c in standing.runs.items() if c[1] is not None}
                    standing = self.said.news(member, replace(standings[member], runs=settled))
                    if standing is None:
                        continue
                totals += len(growing)
            news[member] = standing
        return news

    def _standings(self, now: float) -> dict[str, Standing]:
        """How each member stands here."""
        runs: dict[str, dict[str, tuple[int, int | None]]] = {}
        folded: dict[str, tuple[int, int | None]] = {}
        for vector, total in self._tally.totals().items():
            member = member_of(vector)
            if is_folded(vector):
                folded[member] = total, self._tally.vector(vector).digest
            elif vector == self.own:
                # Of its own vector it reports what it has published: more would look like a loss.
                runs.setdefault(member, {})[run_of(vector)] = self.published, None
            else:
                silent = not self._peers.speaks(vector, now)
                digest = self._tally.vector(vector).digest if silent else None
                runs.setdefault(member, {})[run_of(vector)] = total, digest
        return {
            member: Standing(
                self._members.latest(member),
                self._members.removed(member),
                self._tally.mark(member),
                folded.get(member, (0, 0)),
                runs.get(member, {}),
            )
            for member in self._members
        }

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
