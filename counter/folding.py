"""Folding: what ended runs of a member have counted becomes one vector, however many there were.

It must be right without a coordinator. Every node folds by itself, and only what *every member's
word* has been the same about for as long as a message can live, twice: then no more of these
vectors is anywhere, and all have folded, or will fold, the same. Who hears of a larger fold mark
than its own adds up its own copies to that mark; then the copies of the one folded vector are
joined like any others, by the larger count. So a join never lowers a count nor counts twice.

Pure: no I/O, no clock.
"""

from collections.abc import Iterator
from itertools import islice

from counter.ids import folded_of, is_folded, member_of, run_of
from counter.members import Members
from counter.peers import Copy, Peers, Word
from counter.tally import MAX_COUNT, Tally


class Agreement:
    """Since when everybody has said the same of which vector. Times are in seconds."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[float, Copy]] = {}

    def say(self, vector: str, copy: Copy, now: float) -> None:
        """All members' words, this node's own among them, are `copy` now."""
        known = self._since.get(vector)
        if known is None or known[1] != copy:
            self._since[vector] = now, copy

    def contradict(self, vector: str, copy: Copy) -> None:
        """Somebody's word of a vector is `copy`: if that is another, the agreement is over."""
        known = self._since.get(vector)
        if known is not None and known[1] != copy:
            del self._since[vector]

    def end(self, vector: str) -> None:
        """There is no agreement on a vector."""
        self._since.pop(vector, None)

    def end_all(self) -> None:
        """There is no agreement on anything: somebody is silent."""
        self._since.clear()

    def lasted(self, vector: str, seconds: float, now: float) -> bool:
        """Whether there has been agreement on a vector for so long."""
        known = self._since.get(vector)
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
        self._videos = self._each()
        self.complete = not self._copies

    def step(self, most: int) -> dict[str, int]:
        """Add up some videos, `most` at a time; return their counts. Sets `complete` at the end."""
        counts = {
            video: min(MAX_COUNT, sum(copy.count(video) for copy in self._copies))
            for video in islice(self._videos, most)
        }
        self.vector.merge(counts)
        self.complete = len(counts) < most
        return counts

    def _each(self) -> Iterator[str]:
        for number, copy in enumerate(self._copies):
            earlier = self._copies[:number]
            for video in copy:
                if not any(before.count(video) for before in earlier):
                    yield video


class Folding:
    """Which runs are folded when: those agreed upon for long, and those others have folded.

    `own` is the replica that runs here: its run is open, and never folded here.
    """

    def __init__(
        self, own: str, tally: Tally, members: Members, peers: Peers, message_ttl: float
    ) -> None:
        self.own = own
        self.under_way: Fold | None = None
        """The one fold that is being written to the store; its parts rest meanwhile."""
        self.followed: dict[str, str] = {}
        """The larger marks that others have, by member, which are to be followed."""
        self._tally = tally
        self._members = members
        self._peers = peers
        self._message_ttl = message_ttl
        self._wait = 2 * message_ttl
        self._agreement = Agreement()
        self._looked = 0.0

    def closed(self, member: str) -> list[str]:
        """The runs of a member that have ended for good and are not folded, oldest first."""
        return [
            vector
            for vector in self._tally.parts(member, self._members.latest(member))
            if not is_folded(vector) and vector != self.own and self._members.is_closed(vector)
        ]

    def awaited(self, now: float) -> Iterator[str]:
        """The members without whose word nothing is folded, and that are not heard."""
        live = {member_of(replica) for replica in self._peers.staying(now)} | {member_of(self.own)}
        for member in self._members:
            if member not in live and not self._members.is_removed(member):
                yield member

    def mark(self, member: str) -> str:
        """The largest fold mark that is known of a member, followed here or not yet."""
        return max(self._tally.mark(member), self.followed.get(member, ""))

    def heard(self, vector: str, copy: Copy) -> None:
        """Somebody has said that its copy of a vector is this one."""
        self._agreement.contradict(vector, copy)

    def look(self, now: float, *, may_fold: bool) -> None:
        """Look, once a `SYNC_INTERVAL`, whether all say the same; begin a fold when it is time."""
        gap, self._looked = now - self._looked, now
        if not may_fold or gap > self._peers.silence or any(self.awaited(now)):
            self._agreement.end_all()
            return
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
        if self.followed.get(fold.member, "") <= fold.mark:
            self.followed.pop(fold.member, None)
        for part in fold.parts:
            self._agreement.end(part)
        if fold is self.under_way:
            self.under_way = None

    def rests(self, vector: str) -> bool:
        """Whether a vector must not change, nor come up, for it would be in the fold under way."""
        fold = self.under_way
        return fold is not None and member_of(vector) == fold.member and run_of(vector) <= fold.mark

    def _agreed(self, member: str, mark: str, now: float) -> str:
        """Up to which run all have said the same for long, oldest first; `mark` if there is none.

        No run is folded before an older one that is not agreed upon.
        """
        closed = self.closed(member)
        agreed, unbroken = mark, True
        for vector in ([folded_of(member, mark)] if mark and closed else []) + closed:
            copy = Copy(self._tally.total(vector), self._tally.vector(vector).digest)
            if self._all_say(member, mark, vector, copy, now):
                self._agreement.say(vector, copy, now)
            else:
                self._agreement.end(vector)
            unbroken = unbroken and self._agreement.lasted(vector, self._wait, now)
            if unbroken:
                agreed = run_of(vector)
        return agreed

    def _all_say(self, member: str, mark: str, vector: str, copy: Copy, now: float) -> bool:
        """Whether all that are heard hold such a copy of a vector, and no run before it."""
        for replica, peer in self._peers.staying(now).items():
            if self._members.is_removed(member_of(replica)):
                continue
            word = peer.words.of(member)
            if word is None or word.mark != mark or word.copies.get(vector) != copy:
                return False
            if peer.confirmed is None or now - peer.confirmed > self._peers.silence:
                return False
            if self._names_older(word, vector):
                return False
        heard = None if is_folded(vector) else self._peers.silent_for(vector, now)
        return heard is None or heard > self._message_ttl

    def _names_older(self, word: Word, vector: str) -> bool:
        """Whether there is a run before this one that was only heard of."""
        return any(
            run_of(other) < run_of(vector) and not self._tally.total(other)
            for other in word.copies
            if not is_folded(other)
        )
