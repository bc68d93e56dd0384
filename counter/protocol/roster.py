"""The roster: every member that is remembered, what is known of each, and how it looks from here.

Pure: no I/O; times are in seconds of the caller's clock, which never goes back.
"""

from typing import NamedTuple

from counter.crdt.ids import END_OF_HEARSAY, folded_of, is_folded, member_of, run_of
from counter.crdt.tally import Tally
from counter.protocol.joining import Joining
from counter.protocol.members import Members, Source, encode_fact
from counter.protocol.messages import Health, State
from counter.protocol.peers import Peers
from counter.protocol.reports import Reports
from counter.protocol.runs import Runs


class Member(NamedTuple):
    """A member as this node sees it. `heard`: seconds ago. `behind`: visits it still misses.

    `folded` is how many of its visits are folded, `runs` how many runs are not, and `closed` how
    many of these are closed. `health` is None if it was not told, or the member is silent.
    """

    member: str
    visits: int
    live: bool
    state: State | None
    heard: float | None
    behind: int | None
    removed: bool
    folded: int
    runs: int
    closed: int
    health: Health | None = None


class Roster:
    """The members as the replica `own` knows them, which began at `started`.

    `unsaved` names the members of whom the store has to be told.
    """

    def __init__(
        self,
        own: str,
        started: float,
        members: Members,
        tally: Tally,
        peers: Peers,
        runs: Runs,
        reports: Reports,
        joining: Joining,
    ) -> None:
        self.own = own
        self.started = started
        self.unsaved = {member_of(own)}
        self._members = members
        self._tally = tally
        self._peers = peers
        self._runs = runs
        self._reports = reports
        self._joining = joining

    def start_new_run(self, own: str, now: float) -> None:
        """Go on with another run of its own."""
        self.own, self.started = own, now
        self.learn(member_of(own), run_of(own))

    def learn(
        self, member: str, latest: str, removed: str = "", *, source: Source = "told"
    ) -> None:
        """Join what somebody knows of a member; news are for the store, too."""
        if self._members.learn(member, latest, removed, source=source):
            self.unsaved.add(member)

    def believes(self, teller: str, member: str, *runs: str) -> bool:
        """Whether these may be runs of a member: late ones only where itself has told of them."""
        latest = max(runs, default="")
        own = member_of(teller) == member
        return own or latest < END_OF_HEARSAY or latest <= self._members.latest(member)

    def knows(self, member: str) -> bool:
        """Whether a member is remembered."""
        return member in self._members

    def fact(self, member: str, mark: str, since: str) -> str:
        """What the store keeps of a member of which it has folded this."""
        latest, removed = self._members.latest(member), self._members.removed(member)
        return encode_fact(latest, removed, mark, since)

    def forgotten(self) -> None:
        """The store lost something: it is to be told of everybody again."""
        self.unsaved = set(self._members)

    def duplicate_names(self, now: float) -> dict[str, bool]:
        """Names that two live replicas bear; see `Peers.duplicate_names`."""
        return self._peers.duplicate_names(self.own, self.started, now)

    def members(self, now: float) -> list[Member]:
        """Every member, sorted."""
        visits, newest = self._tally.members(), self._peers.newest()
        return [
            self._member(member, visits.get(member, 0), newest.get(member, ""), now)
            for member in sorted(self._members)
        ]

    def _member(self, member: str, visits: int, newest: str, now: float) -> Member:
        live, state, heard, behind, health = False, None, None, None, None
        peer = self._peers.get(newest)
        if member == member_of(self.own):
            live, state, heard, behind = True, self._joining.state, 0.0, 0
            health = self._reports.health
        elif peer is not None:
            live = now - peer.heard <= self._peers.silence and peer.state != "leaving"
            held = peer.said.total(self.own)
            lacks = self._tally.total(self.own) - held - self._reports.apart.since(held)
            behind = max(0, lacks) if live else None
            state, heard = peer.state, now - peer.heard
            health = peer.health if live else None
        return Member(
            member,
            visits,
            live,
            state,
            heard,
            behind,
            removed=self._members.is_removed(member),
            folded=self._tally.total(folded_of(member, self._tally.mark(member))),
            runs=sum(not is_folded(vector) for vector in self._tally.of(member)),
            closed=len(self._runs.closed(member)),
            health=health,
        )
