"""The other replicas as this one hears them: who is live, and what each has said.

Pure: no I/O; times are in seconds of the caller's clock, which never goes back.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import combinations
from typing import NamedTuple

from msgspec.structs import replace

from counter.ids import folded_of, is_folded, member_of, name_of, replica_of, run_of
from counter.messages import Condition, Standing, State
from counter.positions import Positions

_OVERLAP = 1.0
"""Seconds by which two lives of a name must overlap: a restart's last messages may come late."""


class Copy(NamedTuple):
    """A copy of a vector: its total, and its content hash where its writer is silent."""

    total: int
    digest: int | None


@dataclass(slots=True)
class Word:
    """What a node has said of one member: three runs (see `members.py`), and copies by vector."""

    latest: str
    removed: str
    mark: str
    copies: dict[str, Copy] = field(default_factory=dict)


class Words:
    """All that a node has said of members: it remembers that itself, and so does who hears it.

    A report holds only what has changed since the one before, and the checksum of all that was
    said. Who has another checksum has missed a report, and asks for everything.
    """

    def __init__(self) -> None:
        self.logs: dict[str, Positions] = {}
        """How far visit logs were said to have been read."""
        self._words: dict[str, Word] = {}
        self._checksum = 0

    @property
    def checksum(self) -> int:
        """The sum of a hash of each thing that was said, in 63 bits; 0 if nothing was."""
        return self._checksum % 2**63

    def of(self, member: str) -> Word | None:
        """What was said of a member."""
        return self._words.get(member)

    def say(self, member: str, standing: Standing) -> Word:
        """Take in what is said of a member, which may be a part; return all that was said of it."""
        runs = standing.latest, standing.removed, standing.mark
        word = self._words.get(member)
        if word is None or (word.latest, word.removed, word.mark) != runs:
            # Folded there meanwhile. Nothing else ever leaves what was said.
            copies = word.copies if word else {}
            kept = {vector: copy for vector, copy in copies.items() if run_of(vector) > runs[2]}
            self._checksum -= _sum(member, word)
            word = self._words[member] = Word(*runs, kept)
            self._checksum += _sum(member, word)
        if word.mark:
            self._copy(word, folded_of(member, word.mark), Copy(*standing.folded))
        for run, copy in standing.runs.items():
            self._copy(word, replica_of(member, run), Copy(*copy))
        return word

    def say_read(self, log: str, positions: Positions) -> None:
        """Take in how far a visit log is said to have been read."""
        for sign, said in (-1, self.logs.get(log)), (1, positions):
            if said:
                self._checksum += sign * _hash(log, sorted(said.items()))
        self.logs[log] = positions

    def news(self, member: str, standing: Standing) -> Standing | None:
        """The part of what might be said of a member that was not said yet, if there is any."""
        word = self._words.get(member)
        said = word.copies if word else {}
        runs = {
            run: copy
            for run, copy in standing.runs.items()
            if said.get(replica_of(member, run)) != copy
        }
        folded = folded_of(member, standing.mark)
        if word is not None and not runs:
            heads = word.latest, word.removed, word.mark
            same = heads == (standing.latest, standing.removed, standing.mark)
            if same and (not word.mark or said.get(folded) == standing.folded):
                return None
        return replace(standing, runs=runs)

    def standings(self) -> dict[str, Standing]:
        """Everything that was said, by member."""
        return {
            member: Standing(
                word.latest,
                word.removed,
                word.mark,
                word.copies.get(folded_of(member, word.mark), (0, 0)),
                {run_of(v): copy for v, copy in word.copies.items() if not is_folded(v)},
            )
            for member, word in self._words.items()
        }

    def total(self, replica: str) -> int:
        """How much was said to be held of a vector."""
        word = self._words.get(member_of(replica))
        copy = word.copies.get(replica) if word else None
        return copy.total if copy else 0

    def copies(self) -> Iterator[tuple[str, Copy]]:
        """Everything that was said to be held."""
        for word in self._words.values():
            yield from word.copies.items()

    def _copy(self, word: Word, vector: str, copy: Copy) -> None:
        before = word.copies.get(vector)
        if before != copy:
            self._checksum += _hash(vector, copy) - (_hash(vector, before) if before else 0)
            word.copies[vector] = copy


def _sum(member: str, word: Word | None) -> int:
    if word is None:
        return 0
    copies = sum(_hash(vector, copy) for vector, copy in word.copies.items())
    return copies + _hash(member, (word.latest, word.removed, word.mark))


def _hash(name: str, said: object) -> int:
    return int.from_bytes(blake2b(f"{name} {said}".encode(), digest_size=8).digest(), "big")


@dataclass(slots=True)
class Peer:
    """Another replica, and what it has said. `state` is None until its first report.

    `confirmed` is when its words were last known to be all that it has said, `asked` when it was
    last asked for all of them.
    """

    address: str
    since: float
    heard: float
    state: State | None = None
    words: Words = field(default_factory=Words)
    confirmed: float | None = None
    asked: float | None = None
    keys: dict[str, int] = field(default_factory=dict)
    """Up to which serial it has said to hold the keys of each replica, in its last report."""
    unread: bool = False
    """Whether it has said more of visit logs than was taken in."""
    condition: Condition | None = None
    """How its store and transport are, as it has told last."""

    def missed(self, checksum: int, now: float, patience: float) -> bool:
        """Whether to ask for all its words, by the checksum that it has told."""
        if checksum == self.words.checksum:
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
        member = member_of(replica)
        self.messages[member] = self.messages.get(member, 0) + 1
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
