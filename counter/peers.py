"""The other replicas as this one hears them: who is live, and what each has said.

Pure: no I/O; times are in seconds of the caller's clock, which never goes back.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

from counter.ids import folded_of, member_of, name_of, replica_of
from counter.messages import Standing, State

_OVERLAP = 1.0
"""Seconds by which two lives of a name must overlap: a restart's last messages may come late."""


class Copy(NamedTuple):
    """A copy of a vector: its total, and its content hash where its writer is silent."""

    total: int
    digest: int | None


@dataclass(slots=True)
class Word:
    """What a peer has said of one member, and when: its fold mark, and copies by vector."""

    at: float
    mark: str
    copies: dict[str, Copy]


@dataclass(slots=True)
class Peer:
    """Another replica. `state` is None and `words` empty until its first report."""

    address: str
    since: float
    heard: float
    state: State | None = None
    words: dict[str, Word] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)
    """Up to which serial it has said to hold the keys of each replica, in its last report."""

    def says(self, member: str, standing: Standing, now: float) -> Word:
        """Take in what it reports of a member; return its word, which may have come in parts."""
        word = self.words.get(member)
        copies = word.copies if word else {}
        if word is not None and word.mark != standing.mark:
            # Folded there meanwhile. Nothing else ever leaves a report.
            copies = {v: c for v, c in copies.items() if v[len(member) + 1 :] > standing.mark}
        if standing.mark:
            copies[folded_of(member, standing.mark)] = Copy(*standing.folded)
        for run, copy in standing.runs.items():
            copies[replica_of(member, run)] = Copy(*copy)
        word = self.words[member] = Word(now, standing.mark, copies)
        return word

    def total(self, replica: str) -> int:
        """How much it has said to hold of a vector."""
        word = self.words.get(member_of(replica))
        copy = word.copies.get(replica) if word else None
        return copy.total if copy else 0

    def totals(self) -> Iterator[tuple[str, int]]:
        """Everything that it has said to hold."""
        for word in self.words.values():
            for vector, copy in word.copies.items():
                yield vector, copy.total


class Peers:
    """The replicas that were heard, until they have been silent for long.

    `silence` is after how many seconds one no longer counts as live, `memory` after how many
    it is forgotten once a newer run of its member is known.
    """

    def __init__(self, silence: float, memory: float) -> None:
        self.silence = silence
        self._memory = max(silence, memory)
        self._peers: dict[str, Peer] = {}

    def __contains__(self, replica: str) -> bool:
        return replica in self._peers

    def get(self, replica: str) -> Peer | None:
        """A replica that was heard."""
        return self._peers.get(replica)

    def hear(self, replica: str, address: str, now: float) -> tuple[Peer, bool]:
        """Note that a replica was heard; say whether for the first time, or after silence."""
        peer = self._peers.get(replica)
        returned = peer is None or now - peer.heard > self.silence
        if peer is None:
            peer = self._peers[replica] = Peer(address, now, now)
        peer.address, peer.heard = address, now
        return peer, returned

    def forget(self, now: float) -> None:
        """Forget who has been silent for long and has a successor."""
        for replica, peer in list(self._peers.items()):
            if now - peer.heard > self._memory and self.succeeded(replica):
                del self._peers[replica]

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
        return vector in self.staying(now) and not self.succeeded(vector)

    def succeeded(self, replica: str) -> bool:
        """Whether a later run of the same member was heard."""
        member = member_of(replica)
        return any(other > replica and member_of(other) == member for other in self._peers)

    def newest(self) -> dict[str, str]:
        """The newest run that was heard of each member: `{member: replica}`."""
        return {member_of(replica): replica for replica in sorted(self._peers)}

    def silent_for(self, replica: str, now: float) -> float | None:
        """Seconds since a replica was heard; None if it never was, or is forgotten."""
        peer = self._peers.get(replica)
        return None if peer is None else now - peer.heard

    def doubled(self, own: str, started: float, now: float) -> dict[str, bool]:
        """Names that two live replicas bear, each heard after the other had begun.

        True where they are one member: two nodes run on copies of one store. `own` is the
        replica that asks, `started` when it began.
        """
        lives = [(own, started, now)]
        lives += [(replica, peer.since, peer.heard) for replica, peer in self.staying(now).items()]
        doubled: dict[str, bool] = {}
        for (one, since, heard), (other, other_since, other_heard) in combinations(lives, 2):
            overlap = min(heard, other_heard) - max(since, other_since)
            if name_of(one) == name_of(other) and overlap > _OVERLAP:
                same = member_of(one) == member_of(other)
                doubled[name_of(one)] = doubled.get(name_of(one), False) or same
        return doubled
