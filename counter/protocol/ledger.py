"""The ledger: all that operators did to numbers, a grow-only set of records.

A record of this node is pending until the store holds it. From then on it applies, and is told with
the next deltas. What others tell applies at once, and goes to the store. Reports tell a digest of
the set. Whose digest is another asks for what it lacks: it sends a hash of each bucket of ids, and
gets the records of those that differ, page by page. So neither a report nor a repair grows with
what both sides have.

Pure: no I/O; times are in seconds of the caller's clock, which never goes back.
"""

from collections.abc import Iterable, Mapping, Set
from heapq import nsmallest
from typing import NamedTuple

from counter.crdt.ledger import left_of, shown_of, spread, withdrawn_of
from counter.crdt.limits import capped
from counter.crdt.tally import Tally
from counter.protocol.buckets import Buckets
from counter.protocol.messages import PAGE_BYTES, Delta
from counter.protocol.peers import Peer
from counter.protocol.pending import Pending
from counter.protocol.questions import Questions
from counter.protocol.records import (
    MAX_TAKES,
    RECORD,
    Digest,
    Record,
    RecordsPage,
    RecordsRequest,
    decode,
    encode,
    hash_of,
    join,
    same_key,
)

MAX_RECORDS = 100_000
"""Records after which no node takes another one."""
MAX_HELD = 2 * MAX_RECORDS
"""Records that are held at most: nodes that do not hear each other may take more than one may."""
LATEST = 20
"""Records that the console shows."""
_QUESTION = "records"


class TooManyError(Exception):
    """More visits were to be withdrawn than there are: `number`, and what is `left`."""

    def __init__(self, video: str, number: int, left: int) -> None:
        self.video, self.number, self.left = video, number, left
        super().__init__(f"{video!r} has {left} visits, and {number} are more than that")


class _Asked(NamedTuple):
    """When an address was last asked for records, after which, and what it held at first."""

    at: float
    after: str
    digest: Digest | None


class Ledger:
    """The records that are held here, and what follows from them for each video.

    `withdrawn`, `shown` and `is_blocked` may be called by any thread, without a lock.
    """

    page_bytes = PAGE_BYTES

    def __init__(
        self,
        tally: Tally,
        pending: Pending,
        questions: Questions,
        sync_interval: float,
        message_ttl: float,
    ) -> None:
        self._tally = tally
        self._notes = pending
        self._questions = questions
        self._sync_interval = sync_interval
        self._message_ttl = message_ttl
        self._records: dict[str, Record] = {}
        self._pending: dict[str, Record] = {}
        """Those of this node that the store does not hold yet."""
        self._unpublished: dict[str, None] = {}
        self.videos: dict[str, list[str]] = {}
        """The ids of each video's records. Any thread may see whether a video is in it."""
        self._entries: dict[str, dict[str, list[tuple[int, int]]]] = {}
        """What records take of each member and saw, by video."""
        self._withdrawn: dict[str, dict[str, int]] = {}
        self._blocks: dict[str, Record] = {}
        """The last record of each video that blocks or unblocks it."""
        self._blocked: set[str] = set()
        self._buckets = Buckets()
        self._latest: tuple[Digest | None, list[Record]] = None, []
        self._asked: dict[str, _Asked] = {}

    def __len__(self) -> int:
        """How many records are held."""
        return len(self._records)

    # -- what follows from it

    def is_blocked(self, video: str) -> bool:
        """Whether a video takes no visits."""
        return video in self._blocked

    def blocked(self, videos: Set[str]) -> Set[str]:
        """Those of these videos that take no visits."""
        return videos & self._blocked if self._blocked else self._blocked

    def ever_blocked(self, videos: Set[str]) -> Set[str]:
        """Those of these videos that any record blocks or unblocks; not by any thread."""
        return videos & self._blocks.keys()

    def withdrawn(self, video: str) -> Mapping[str, int]:
        """How many visits are withdrawn of each member's count of a video."""
        return self._withdrawn.get(video) or _NOTHING

    def shown(self, video: str, counter: Mapping[str, int]) -> int:
        """How many of the visits in a video's counter are withdrawn."""
        withdrawn = self._withdrawn.get(video)
        return shown_of(counter, withdrawn) if withdrawn else 0

    def left(self, video: str, counter: Mapping[str, int]) -> dict[str, int]:
        """What is left of each member's count, also after the records that are still pending."""
        withdrawn = self.withdrawn(video)
        more = [record for record in self._pending.values() if record.video == video]
        if more:
            entries = {
                member: list(of) for member, of in self._entries.get(video, _NO_ENTRIES).items()
            }
            for record in more:
                for member, entry in record.takes.items():
                    entries.setdefault(member, []).append(entry)
            withdrawn = {member: withdrawn_of(of) for member, of in entries.items()}
        return left_of(counter, withdrawn)

    def takes(
        self, video: str, counter: Mapping[str, int], number: int | None
    ) -> dict[str, tuple[int, int]]:
        """What a withdrawal of so many visits takes of each member's count, and what that is.

        With None it takes all that is left. Raises `TooManyError`.
        """
        left = self.left(video, counter)
        most = sorted(left, key=lambda member: (-left[member], member))[:MAX_TAKES]
        left = {member: left[member] for member in most}
        there = sum(left.values())
        if number is not None and number > there:
            raise TooManyError(video, number, there)
        takes = spread(there if number is None else number, left) if left else {}
        return {member: (capped(take), capped(counter[member])) for member, take in takes.items()}

    def find(self, id_: str) -> Record | None:
        """A record that is held, whether the store has it already or not."""
        return self._records.get(id_) or self._pending.get(id_)

    def is_pending(self, id_: str) -> bool:
        """Whether the store does not hold this record of this node yet."""
        return id_ in self._pending

    def of_key(self, id_: str) -> Record | None:
        """A record of a request with the same key as that of this id."""
        ids = (*self._buckets.beside(id_), *self._pending)
        return next((self.find(other) for other in ids if same_key(other, id_)), None)

    def of(self, video: str) -> list[Record]:
        """The records of a video, newest first."""
        return sorted(map(self._records.__getitem__, self.videos.get(video, ())), key=_age)

    def newest(self) -> list[Record]:
        """All records, newest first."""
        return sorted(self._records.values(), key=_age)

    def latest(self) -> list[Record]:
        """The `LATEST` newest records, newest first."""
        if self._latest[0] != self.digest:
            # Many may look at them, and most of the time nothing has changed.
            self._latest = self.digest, nsmallest(LATEST, self._records.values(), key=_age)
        return self._latest[1]

    def next_time(self, video: str, now: int) -> int:
        """The time of the next record of a video: later than all that are known."""
        pending = (record for record in self._pending.values() if record.video == video)
        known = map(self._records.__getitem__, self.videos.get(video, ()))
        latest = max((record.at for record in (*known, *pending)), default=-1)
        return min(max(now, latest + 1), 2**53)

    # -- what goes in

    def take(self, record: Record) -> None:
        """Have a record of this node stored; it applies when it is."""
        self._pending[record.id] = record
        self._notes.note({RECORD + record.id: encode(record)})

    def stored(self, notes: Iterable[str]) -> set[str]:
        """The store holds these notes: the records among them apply. Returns whose number changed.

        Those of this node are told from now on.
        """
        changed = set()
        for note in notes:
            id_ = note.removeprefix(RECORD)
            if id_ != note and (record := self._pending.pop(id_, None)) is not None:
                self._put(record)
                self._unpublished[id_] = None
                changed.add(record.video)
        self._follow(changed)
        return changed

    def opened(self, notes: Mapping[str, str]) -> None:
        """Take in what the store holds."""
        changed = set()
        for name, text in notes.items():
            if name.startswith(RECORD) and (record := decode(name, text)) is not None:
                is_known = record.id in self._records
                if self._put(record):
                    changed.add(record.video)
                if is_known and encode(self._records[record.id]) != text:
                    self._keep(record.id)
        self._follow(changed)

    def merge(self, records: Iterable[Record]) -> tuple[set[str], int]:
        """Take in what others tell. Returns whose number changed, and how many had no room."""
        changed, left_out = set(), 0
        for record in records:
            if record.id not in self._records and len(self._records) >= MAX_HELD:
                left_out += 1
            elif self._put(record):
                self._keep(record.id)
                changed.add(record.video)
        self._follow(changed)
        return changed, left_out

    def _keep(self, id_: str) -> None:
        self._notes.note({RECORD + id_: encode(self._records[id_])})

    def _put(self, record: Record) -> bool:
        """Add a record to the set; say whether it was news."""
        known = self._records.get(record.id)
        if known is not None:
            # The same id with another video or act was made up.
            same = known.video == record.video and known.act == record.act
            if not same or known == record or (merged := join(known, record)) == known:
                return False
            record = merged
        id_, video = record.id, record.video
        self._buckets.put(id_, hash_of(encode(record)))
        self._records[id_] = record
        if known is None:
            self.videos.setdefault(video, []).append(id_)
            self._add_entries(record)
        else:
            self._entries.pop(video, None)
            self._blocks.pop(video, None)
            for other in self.videos[video]:
                self._add_entries(self._records[other])
        return True

    def _add_entries(self, record: Record) -> None:
        if record.act == "withdraw":
            entries = self._entries.setdefault(record.video, {})
            for member, entry in record.takes.items():
                entries.setdefault(member, []).append(entry)
        else:
            last = self._blocks.get(record.video)
            if last is None or (record.at, record.id) >= (last.at, last.id):
                self._blocks[record.video] = record

    def _follow(self, videos: Iterable[str]) -> None:
        """See what follows from the records of these videos."""
        for video in videos:
            self._withdrawn[video] = withdrawn = self._rule(video)
            last = self._blocks.get(video)
            if blocked := last is not None and last.act == "block":
                self._blocked.add(video)
            else:
                self._blocked.discard(video)
            counted, less = self._tally.visits(video), sum(withdrawn.values())
            self._tally.ranking.correct(video, counted, less, blocked=blocked)

    def _rule(self, video: str) -> dict[str, int]:
        """What all records of a video withdraw of each member's count."""
        entries = self._entries.get(video, _NO_ENTRIES)
        return {member: withdrawn_of(of) for member, of in entries.items()}

    # -- what it tells

    @property
    def digest(self) -> Digest | None:
        """What reports tell of the set; None while it is empty."""
        return (len(self._records), self._buckets.sum) if self._records else None

    def publish(self, run: str, total: int, most: int | None = None) -> list[tuple[str, Delta]]:
        """Take what was stored and not told, in at most so many deltas of this run and total."""
        deltas: list[tuple[str, Delta]] = []
        while self._unpublished and (most is None or len(deltas) < most):
            page, _ = self._page(list(self._unpublished))
            for record in page:
                del self._unpublished[record.id]
            deltas.append((run, Delta({}, total, records=page)))
        return deltas

    def _page(self, ids: Iterable[str]) -> tuple[list[Record], bool]:
        """As many records as fit into one message, at least one; and whether there are more."""
        page: list[Record] = []
        size = 0
        for id_ in ids:
            record = self._records[id_]
            size += 120 + 4 * len(record.reason) + 70 * len(record.takes)
            if page and size > self.page_bytes:
                return page, True
            page.append(record)
        return page, False

    def holds(self, peer: Peer) -> bool:
        """Whether it holds all records that `peer` has told of."""
        return peer.ledger is None or peer.ledger in (self.digest, peer.ledger_held)

    def held(self, peer: Peer) -> bool:
        """Whether `peer` holds all records that are here, as far as it has told."""
        return self.digest is None or peer.ledger == self.digest

    def compare(self, peer: Peer, now: float) -> RecordsRequest | None:
        """Ask for what a peer holds and is missing here, unless it was asked just now."""
        if self.holds(peer) or not peer.address:
            return None
        asked = self._asked.get(peer.address)
        if asked is not None and now - asked.at < self._sync_interval:
            return None
        return self._ask(peer, "", None, now)

    def _ask(
        self, peer: Peer, after: str, first: Digest | None, now: float
    ) -> RecordsRequest | None:
        if not self._questions.may_ask(peer.address, _QUESTION, now):
            return None
        self._asked[peer.address] = _Asked(now, after, first)
        there = max(len(self._records), peer.ledger[0] if peer.ledger else 0)
        return RecordsRequest(self._buckets.hashes(there), after)

    def answer(self, asked: RecordsRequest) -> RecordsPage | None:
        """The page that is asked for; None if nothing is held here, or the question is wrong."""
        ids = self._buckets.differing(asked.hashes, asked.after)
        if ids is None or self.digest is None:
            return None
        page, more = self._page(ids)
        return RecordsPage(self.digest, asked.after, page, page[-1].id if more else "")

    def heard(self, page: RecordsPage, peer: Peer, now: float) -> RecordsRequest | None:
        """Go on after a page whose records were merged: ask for the next one, or note the end."""
        asked = self._asked.get(peer.address)
        if asked is None or page.after != asked.after:
            return None
        first = asked.digest or page.digest
        if page.next > page.after:
            return self._ask(peer, page.next, first, now)
        del self._asked[peer.address]
        self._questions.answered(peer.address, _QUESTION)
        # It held at least that when the first page was made, and all of that is here now.
        peer.ledger = peer.ledger_held = first
        return None

    def was_asked(self, peer: Peer, now: float) -> bool:
        """Whether this peer was asked for records, maybe some time ago."""
        asked = self._asked.get(peer.address)
        return asked is not None and now - asked.at <= self._message_ttl

    def forget(self, now: float) -> None:
        """Forget what was asked so long ago that no answer can come any more."""
        for address, asked in list(self._asked.items()):
            if now - asked.at > self._message_ttl:
                del self._asked[address]


_NOTHING: Mapping[str, int] = {}
_NO_ENTRIES: Mapping[str, list[tuple[int, int]]] = {}


def _age(record: Record) -> tuple[int, str]:
    return -record.at, record.id
