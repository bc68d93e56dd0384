"""The other replicas as this one hears them: which are live, and what each has said.

Pure: no I/O; times are in seconds of the caller's clock, which never goes back.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations

from counter.crdt.ids import member_of, name_of
from counter.protocol.announced import Announced, Copy
from counter.protocol.messages import CLASSES, Health, Report, State
from counter.protocol.previous import PreviousAnnounced
from counter.protocol.records import Digest

_OVERLAP = 1.0
"""Seconds by which two lives of a name must overlap: a restart's last messages may come late."""
MAX_INTRODUCED = 256
"""To how many replicas a node makes itself known while one may be silent and still be live."""


@dataclass(slots=True)
class Peer:
    """Another replica, and what it has said. `state` is None until its first report.

    `confirmed` is when all that it has said was last known to be heard here, `asked` when it was
    last asked for all of it.
    """

    address: str
    since: float
    heard: float
    state: State | None = None
    is_previous: bool | None = None
    """Whether it is of the version before; None while that is not known."""
    announced: Announced = field(default_factory=Announced)
    previous: PreviousAnnounced = field(default_factory=PreviousAnnounced)
    """What it has announced, if it is of the version before."""
    told: int | None = None
    """The largest total that it has told of its own vector."""
    number: int = 0
    sent: int = 0
    """The largest number of its reports, and when that was sent, by its own clock in Unix ms."""
    confirmed: float | None = None
    asked: float | None = None
    refused: int = 0
    """By how much the checksum differs for entries that were refused here."""
    keys: dict[str, int] = field(default_factory=dict)
    """Up to which serial it has said to hold the keys of each replica, in its last report."""
    unread: bool = False
    """Whether it has said more of visit logs than was taken in."""
    compared: float | None = None
    """When all that it has said was last compared with what is held here."""
    ledger: Digest | None = None
    """The digest of the records that it holds, as it has told last; None for none."""
    ledger_held: Digest | None = None
    """Such a digest of which all records are held here as well."""
    health: Health | None = None
    """How its store and transport are, as it has told last."""
    knows: int | None = None
    """What it knows beside counts of videos, as it has told; see `Report`. None before it has."""

    @property
    def said(self) -> Announced | PreviousAnnounced:
        """All that it has said."""
        return self.previous if self.is_previous else self.announced

    def copies(self) -> Iterator[tuple[str, Copy]]:
        """Every copy of a vector that it has told by name."""
        return self.said.copies()

    def learn_version(self, report: Report) -> None:
        """See from a report which version it is of."""
        if report.knows or report.said is not None or report.checksum is not None:
            # In the last part of a report.
            self.knows = max(self.knows or 0, report.knows)
        if report.states or report.said is not None:
            self.is_previous = False
        elif report.checksum is not None:
            self.is_previous = True

    def is_late(self, report: Report, sent: int) -> bool:
        """Whether a later report came before this one: what it says is out of date.

        One with a smaller number that was sent later is of a machine that was put back.
        """
        if report.number < self.number and sent < self.sent:
            return True
        self.number, self.sent = report.number, sent
        return False

    def missed(self, checksum: int, now: float, patience: float, *, refused: bool) -> bool:
        """Whether to ask for all that it has said, by the checksum that it has told.

        With `refused` a part of what it told just now cannot be read here, and asking again would
        not help.
        """
        if refused:
            self.refused = checksum - self.said.checksum
        if checksum == self.said.checksum + self.refused:
            self.confirmed, self.asked = now, None
            return False
        if self.asked is not None and now - self.asked < patience:
            return False
        self.asked = now
        return True


class Peers:
    """The replicas that were heard, until they have been silent for long.

    `silence` is after how many seconds one no longer counts as live, `memory` after how many
    it is forgotten once a newer run of its member is known.
    """

    def __init__(self, silence: float, memory: float) -> None:
        self.silence = silence
        self._memory = max(silence, memory)
        self.messages: dict[str, int] = {}
        """How many came from each member, in all its runs."""
        self._peers: dict[str, Peer] = {}
        self._introduced: dict[str, float] = {}
        self._newest: dict[str, str] = {}
        """The newest run that was heard of each member."""
        self._of: dict[str, list[str]] = {}
        """The runs of each member that are remembered: a look at all would take long where a peer
        makes up names."""

    def __contains__(self, replica: str) -> bool:
        return replica in self._peers

    def of(self, member: str) -> Iterator[str]:
        """The runs of a member that were heard."""
        return iter(self._of.get(member, ()))

    def are_previous(self, now: float) -> bool:
        """Whether a node is heard that is, or may be, of the version before."""
        return any(peer.is_previous is not False for peer in self.live(now).values())

    def know_classes(self, now: float) -> bool:
        """Whether all that are heard know classes, as far as they have told."""
        told = (peer.knows for peer in self.live(now).values())
        return all(knows is None or knows >= CLASSES for knows in told)

    def get(self, replica: str) -> Peer | None:
        """A replica that was heard."""
        return self._peers.get(replica)

    def hear(self, replica: str, address: str, now: float) -> tuple[Peer, bool]:
        """Note that a replica was heard; say whether for the first time, or after silence."""
        peer = self._peers.get(replica)
        returned = peer is None or now - peer.heard > self.silence
        if peer is None:
            peer = self._peers[replica] = Peer(address, now, now)
            self._of.setdefault(member_of(replica), []).append(replica)
        peer.address, peer.heard = address, now
        member = member_of(replica)
        if replica > self._newest.get(member, ""):
            self._newest[member] = replica
        self.messages[member] = self.messages.get(member, 0) + 1
        return peer, returned

    def introduce(self, replica: str, now: float) -> bool:
        """Whether it is time to make oneself known to a replica: once in a while only.

        And only to so many at a time: whoever makes up names must not make this node send
        everything to all of them. Those that exist ask for it when they hear this node's reports.
        """
        told = self._introduced.get(replica)
        if told is not None and now - told <= self.silence:
            return False
        if told is None and len(self._introduced) >= MAX_INTRODUCED:
            return False
        self._introduced[replica] = now
        return True

    def forget(self, now: float) -> None:
        """Forget replicas that are long silent and have a successor, and old introductions."""
        for replica, told in list(self._introduced.items()):
            if now - told > self.silence:
                del self._introduced[replica]
        for replica, peer in list(self._peers.items()):
            if now - peer.heard > self._memory and self.succeeded(replica):
                del self._peers[replica]
                self._of[member_of(replica)].remove(replica)

    def live(self, now: float) -> dict[str, Peer]:
        """Those that were heard lately."""
        return {
            replica: peer
            for replica, peer in self._peers.items()
            if now - peer.heard <= self.silence
        }

    def staying(self, now: float) -> dict[str, Peer]:
        """Those that are live, and not leaving."""
        return {
            replica: peer for replica, peer in self.live(now).items() if peer.state != "leaving"
        }

    def speaks(self, vector: str, now: float) -> bool:
        """Whether more of a vector is to be expected from its writer itself."""
        peer = self._peers.get(vector)
        if peer is None or now - peer.heard > self.silence or peer.state == "leaving":
            return False
        return not self.succeeded(vector)

    def succeeded(self, replica: str) -> bool:
        """Whether a later run of the same member was heard."""
        # The newest one is never forgotten.
        return self._newest.get(member_of(replica), "") > replica

    def newest(self) -> dict[str, str]:
        """The newest run that was heard of each member: `{member: replica}`."""
        return dict(self._newest)

    def silent_for(self, replica: str, now: float) -> float | None:
        """Seconds since a replica was heard; None if it never was, or is forgotten."""
        peer = self._peers.get(replica)
        return None if peer is None else now - peer.heard

    def duplicate_names(self, own: str, started: float, now: float) -> dict[str, bool]:
        """Names that two live replicas bear, each heard after the other had begun.

        True where they are one member: two nodes run on copies of one store. `own` is the
        replica that asks, `started` when it began.
        """
        lives = [(own, started, now)]
        lives += [(replica, peer.since, peer.heard) for replica, peer in self.staying(now).items()]
        duplicate_names: dict[str, bool] = {}
        for (one, since, heard), (other, other_since, other_heard) in combinations(lives, 2):
            overlap = min(heard, other_heard) - max(since, other_since)
            if name_of(one) == name_of(other) and overlap > _OVERLAP:
                same = member_of(one) == member_of(other)
                duplicate_names[name_of(one)] = duplicate_names.get(name_of(one), False) or same
        return duplicate_names
