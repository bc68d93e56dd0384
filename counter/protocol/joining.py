"""Joining: a node is ready once it holds everything that its peers advertise.

It first waits, for a while, for the members that its store knows. Counts of others are shown before
the store has them, so before a kill the node may have shown more than its store and the first peer
that it hears hold. Then it waits as long as there is progress. Without progress for a while, as in
a split in which it hears peers that do not hear it, it is ready for what does not depend on the
past, and says what it lacks.

Pure: no I/O; times are in seconds of the caller's clock, which never goes back.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from counter.crdt.ids import member_of, run_of
from counter.crdt.tally import Tally
from counter.protocol.announced import MAX_SAID
from counter.protocol.keys import Keys
from counter.protocol.ledger import Ledger
from counter.protocol.members import Members
from counter.protocol.messages import State
from counter.protocol.peers import Peer, Peers
from counter.protocol.runs import Runs


class Lack(NamedTuple):
    """Something that a peer holds and this node does not: of which member, what, and from whom."""

    member: str
    what: str
    told_by: str


class Joining:
    """How far the replica `own` has got that began to join at `now`; `timeout` is in seconds."""

    def __init__(
        self,
        own: str,
        tally: Tally,
        members: Members,
        peers: Peers,
        runs: Runs,
        keys: Keys,
        ledger: Ledger,
        timeout: float,
        now: float,
        *,
        has_peers: bool,
    ) -> None:
        self.state: State = "joining"
        self.complete = False
        """Whether it has held everything that its peers told it: it knows what was counted."""
        self.own = own
        self._tally = tally
        self._members = members
        self._peers = peers
        self._runs = runs
        self._keys = keys
        self._ledger = ledger
        self._timeout = timeout
        self.has_peers = has_peers
        self._progress = now
        self._listens_until = now + timeout
        self._expected: set[str] = set()
        self._targets: dict[str, int] = {}
        """How much of each vector, or of keys, there was when that was first told."""

    def holds(self, vector: str, total: int) -> bool:
        """Whether it holds so much of a vector; what is folded here counts as held."""
        if vector == self.own:
            return True
        if self._tally.current(vector):
            return self._tally.total(vector) >= total
        return run_of(vector) <= self._tally.mark(member_of(vector))

    def expect(self, members: Iterable[str]) -> None:
        """Note the other members that its store knows: they may be heard soon."""
        self._expected.update(members)

    def told(self, what: str, amount: int) -> bool:
        """Note that there is so much of something; say whether it was not heard of before."""
        if self.complete or what in self._targets or len(self._targets) >= MAX_SAID:
            return False
        self._targets[what] = amount
        return True

    def wants(self, what: str, held: int) -> bool:
        """Whether more than it holds was there when that was first told.

        What is new meanwhile is no progress, or it would join for as long as others count.
        """
        return held < self._targets.get(what, 0)

    def progress(self, now: float) -> None:
        """Something has come that was missing."""
        self._progress = now

    def look(self, now: float) -> bool:
        """See whether it is ready, or complete; say whether it has become complete just now."""
        if self.complete or self.state == "leaving":
            return False
        waited = now - self._progress >= self._timeout
        alone = self.has_peers and not self._peers.live(now)
        if not waited and (alone or self._listens(now)):
            return False
        if next(self._lacks(now), None) is None:
            self.complete = True
            self._targets = {}
            self.state = "ready"
        elif waited:
            self.state = "ready"
        return self.complete

    def _listens(self, now: float) -> bool:
        """Whether a member that it knows has not been heard yet, and may be soon."""
        return now < self._listens_until and any(
            member not in self._peers.messages and not self._members.is_removed(member)
            for member in self._expected
        )

    def lacks(self, now: float) -> list[Lack]:
        """What live peers hold and this node does not, as long as it is not complete."""
        return [] if self.complete else list(self._lacks(now))

    def _lacks(self, now: float) -> Iterator[Lack]:
        for replica, peer in self._peers.live(now).items():
            if peer.confirmed is None:
                yield Lack(member_of(replica), "reports", replica)
            # A delta may have told a larger total than a report that was sent before it.
            behind = peer.told is not None and not self.holds(replica, peer.told)
            if behind:
                yield Lack(member_of(replica), replica, replica)
            for vector, copy in peer.copies():
                if not self.holds(vector, copy.total) and not (behind and vector == replica):
                    yield Lack(member_of(vector), vector, replica)
            for member, day in self.unnamed(peer):
                yield Lack(member, f"closed runs of day {day}", replica)
            if not self._keys.holds(peer):
                yield Lack(member_of(replica), "keys", replica)
            if not self._ledger.holds(peer):
                yield Lack(member_of(replica), "records of operators", replica)

    def unnamed(self, peer: Peer) -> Iterator[tuple[str, int]]:
        """The days whose closed runs are others at a peer, as far as they are not named yet."""
        if peer.is_previous:
            return
        for (member, day), digest in peer.announced.days():
            if self._runs.days(member).get(day) != digest:
                named = peer.announced.named.get((member, day))
                if named is None or named.digest != digest or not named.complete:
                    yield member, day
