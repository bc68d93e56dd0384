"""The protocol: one run of a node, the only writer of its vector.

Sans-I/O: every step takes the time and what came in, and returns `Effects`: what to send, and
which videos grew. It is called by one thread at a time; `node.py` holds the lock.

A visit goes through three places: *raised* (counted, in memory only), *in the batch* (on its way
to the store), *visible* (in the tally: shown, published, reported). Only what the store holds
becomes visible, so nothing is ever shown or told that a crash could take back.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations, islice
from typing import NamedTuple

from counter.messages import (
    PAGE_BYTES,
    Answer,
    Ask,
    Body,
    Delta,
    Envelope,
    Report,
    State,
)
from counter.tally import MAX_COUNT, Tally, member_of, name_of

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_REPLICAS_A_REPORT = 300
_PEERS_A_REPORT = 100


def encode_id(number: int, length: int) -> str:
    """`number` in `length` characters that sort like it (Crockford's base 32, lower case)."""
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(length)))


def mint_store(random: int) -> str:
    """The id of a new store, of 64 random bits."""
    return encode_id(random, 13)


def mint_run(now: int, latest: str, random: int) -> str:
    """A run id never used before: 10 characters of time, 13 of 64 random bits.

    `now` is Unix time in ms; `latest` the newest run that the store knows, or "". The new run
    sorts after it, and is not earlier than the clock.
    """
    started = now
    if latest:
        known = 0
        for character in latest[:10]:
            known = known << 5 | _ALPHABET.index(character)
        started = max(now, known + 1)
    return encode_id(started, 10) + encode_id(random, 13)


@dataclass(slots=True)
class Effects:
    """What a step wants done: messages for all, messages for one address, videos that grew."""

    broadcast: list[Body] = field(default_factory=list)
    send: list[tuple[str, Body]] = field(default_factory=list)
    grew: set[str] = field(default_factory=set)


class Batch(NamedTuple):
    """What one flush writes: counts of this replica not visible yet, and other news."""

    own: dict[str, int]
    rows: dict[str, dict[str, int]]

    def counts(self, replica: str) -> dict[str, dict[str, int]]:
        """Everything in it as `{replica: {video: count}}`, `replica` being the writer's own id."""
        rows = dict(self.rows)
        if self.own:
            rows[replica] = rows.get(replica, {}) | self.own
        return rows


@dataclass(slots=True)
class Peer:
    """Another replica as this one heard it last, in seconds of the caller's clock.

    `state` is None and `totals` empty until its first report.
    """

    address: str
    since: float
    heard: float
    state: State | None = None
    totals: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Repair:
    """A repair under way: whom it asked with which sums, and when it last heard or asked."""

    at: float
    address: str
    sums: list[int]


class Member(NamedTuple):
    """A member as this node sees it. `heard`: seconds ago. `behind`: visits it still misses."""

    member: str
    visits: int
    live: bool
    state: State | None
    heard: float | None
    behind: int | None


class Replica:
    """One run of a node: counts visits, tells the others, repairs what it missed.

    `has_peers` says whether there is anybody to wait for before being ready; `join_timeout` and
    `sync_interval` are in seconds, and so is every `now`, of any clock that never goes back.
    """

    scanned_a_page = 20_000
    """How many entries one answer looks at: bounds the time that a page takes to some 10 ms."""

    def __init__(
        self,
        replica: str,
        tally: Tally,
        now: float,
        *,
        sync_interval: float,
        join_timeout: float,
        has_peers: bool,
    ) -> None:
        self.id = replica
        self.member = member_of(replica)
        self.name = name_of(replica)
        self.state: State = "joining"
        self.tally = tally
        self._started = now
        self._silence = 3 * sync_interval
        self._sync_interval = sync_interval
        self._join_timeout = join_timeout
        self._has_peers = has_peers
        self._raised: dict[str, int] = {}
        self._in_batch: dict[str, int] = {}
        self._unsaved: dict[str, set[str]] = {}
        self._unpublished: dict[str, int] = {}
        self._published = 0
        self._peers: dict[str, Peer] = {}
        self._introduced: dict[str, float] = {}
        self._repairs: dict[str, Repair] = {}

    # -- visits and the store

    def visit(self, video: str) -> None:
        """Count one visit. Raises OverflowError when the count is at its end."""
        count = self._own(video)
        if count >= MAX_COUNT:
            raise OverflowError(f"the count of {video!r} has reached its end, {MAX_COUNT}")
        self._raised[video] = count + 1

    def counter(self, video: str, *, raised: bool = False) -> dict[str, int]:
        """The video's visible counter, an entry a member; with `raised`, own pending visits too."""
        counts = self.tally.counter(video)
        if raised:
            more = self._own(video) - self.tally.count(self.id, video)
            counts[self.member] = counts.get(self.member, 0) + more
        return counts

    def unflushed(self) -> int:
        """How many visits of this replica the store does not hold yet."""
        latest = self._in_batch | self._raised
        return sum(count - self.tally.count(self.id, video) for video, count in latest.items())

    def loaded(self, replica: str, counts: Mapping[str, int]) -> set[str]:
        """Join what the store holds of earlier and other replicas; return what grew.

        Its own vector is what it wrote itself: that becomes visible with `stored`, not here.
        """
        return set() if replica == self.id else set(self.tally.merge(replica, counts))

    def batch(self, limit: int) -> Batch:
        """Take what is to be written next: every visit, and about `limit` other rows.

        One batch at a time: it ends with `stored` or `not_stored`.
        """
        self._in_batch, self._raised = self._raised, {}
        rows: dict[str, dict[str, int]] = {}
        for replica, videos in list(self._unsaved.items()):
            taken = [videos.pop() for _ in range(min(limit, len(videos)))]
            rows[replica] = {video: self.tally.count(replica, video) for video in taken}
            limit -= len(taken)
            if not videos:
                del self._unsaved[replica]
            if limit <= 0:
                break
        return Batch(self._in_batch, rows)

    def stored(self, batch: Batch) -> set[str]:
        """The store holds the batch: its visits become visible. Returns the videos that grew."""
        self._in_batch = {}
        grew = self.tally.merge(self.id, batch.own)
        for video, growth in grew.items():
            self._unpublished[video] = self._unpublished.get(video, 0) + growth
        return set(grew)

    def not_stored(self, batch: Batch) -> None:
        """The store may or may not hold the batch: everything in it is to be written again."""
        self._raised = batch.own | self._raised
        self._in_batch = {}
        for replica, counts in batch.rows.items():
            self._unsaved.setdefault(replica, set()).update(counts)

    def forgotten(self) -> None:
        """The store lost something: all that is visible is to be written again."""
        self._unsaved = {replica: set(videos) for replica, videos in self.tally.replicas()}

    def unsaved(self) -> bool:
        """Whether there is anything that the store does not hold."""
        return bool(self._raised or self._unsaved)

    # -- outgoing

    def publish(self) -> list[Delta]:
        """What changed since the last call, in as many deltas as it takes."""
        growth, self._unpublished = self._unpublished, {}
        deltas = []
        remaining = iter(growth.items())
        while page := dict(_page(remaining)):
            self._published += sum(page.values())
            counts = {video: self.tally.count(self.id, video) for video in page}
            deltas.append(Delta(counts, self._published))
        return deltas

    def sync(self, now: float) -> Effects:
        """The periodic step: report what is held, forget peers long gone, become ready."""
        for replica, peer in list(self._peers.items()):
            if now - peer.heard > self._silence and self._succeeded(replica):
                del self._peers[replica]
        for replica, told in list(self._introduced.items()):
            if now - told > self._silence:
                del self._introduced[replica]
        self._become_ready(now)
        return Effects(broadcast=list(self._report(now)))

    def leave(self, now: float) -> Effects:
        """Say goodbye: peers answer at once with the totals they hold."""
        self.state = "leaving"
        return Effects(broadcast=list(self._report(now)))

    def held(self, now: float) -> bool:
        """Whether a live peer holds all visits of this replica, or there is no live peer."""
        total = self.tally.total(self.id)
        held = (peer.totals.get(self.id, 0) >= total for peer in self._staying(now))
        return self.alone(now) or any(held)

    def alone(self, now: float) -> bool:
        """Whether it hears no peer, but for those that are leaving."""
        return not self._staying(now)

    # -- incoming

    def receive(self, envelope: Envelope, now: float) -> Effects:
        """Take one verified message in: merge it, answer it, ask for what it shows to lack."""
        effects = Effects()
        sender, body = envelope.sender, envelope.body
        if sender == self.id:
            return effects
        peer = self._peers.get(sender)
        returned = peer is None or now - peer.heard > self._silence
        if peer is None:
            peer = self._peers[sender] = Peer(envelope.address, now, now)
        peer.address, peer.heard = envelope.address, now
        if returned:
            self._introduce(sender, peer.address, now, effects)
        match body:
            case Delta():
                self._merge(sender, body.counts, effects)
                self._compare(sender, body.total, peer, now, effects)
            case Report():
                self._heard_report(body, peer, now, effects)
            case Ask():
                self._answer(body, peer.address, effects)
            case Answer():
                self._go_on(body, peer, now, effects)
        self._become_ready(now)
        return effects

    def _heard_report(self, report: Report, peer: Peer, now: float, effects: Effects) -> None:
        peer.state = report.state
        peer.totals.update(report.totals)
        for replica, total in report.totals.items():
            self._compare(replica, total, peer, now, effects)
        for replica, digest in report.digests.items():
            vector = self.tally.vector(replica)
            if (
                replica != self.id
                and vector.total == report.totals.get(replica)
                and vector.digest() != digest
            ):
                # Equal totals: sums of buckets may be equal as well, so it asks for everything.
                self._ask(replica, peer.address, now, effects, sums=[])
        for replica, address in report.peers.items():
            if replica != self.id and replica not in self._peers:
                self._introduce(replica, address, now, effects)
        if report.state == "leaving":
            self._tell(peer.address, now, effects)

    def _merge(self, replica: str, counts: Mapping[str, int], effects: Effects) -> None:
        # Nobody else writes this vector: what claims more for it is an error or a forgery.
        if replica == self.id:
            return
        grew = self.tally.merge(replica, counts)
        if grew:
            self._unsaved.setdefault(replica, set()).update(grew)
            effects.grew.update(grew)

    def _compare(self, replica: str, total: int, peer: Peer, now: float, effects: Effects) -> None:
        """Ask for what is missing, if `peer` holds more: the writer, or anybody once it is gone.

        What another says of a vector whose writer still speaks proves no loss: its delta may
        have come to them a moment earlier. The writer's own next word settles it. But a writer
        that does not answer may not hear this node.
        """
        if replica == self.id or total <= self.tally.total(replica):
            return
        asked = self._repairs.get(replica)
        unanswered = asked is not None and now - asked.at >= self._sync_interval
        writes = peer is self._peers.get(replica)
        if writes or unanswered or not self._speaks(replica, now):
            self._ask(replica, peer.address, now, effects)

    def _ask(
        self,
        replica: str,
        address: str,
        now: float,
        effects: Effects,
        sums: list[int] | None = None,
    ) -> None:
        asked = self._repairs.get(replica)
        if asked is not None:
            # Who has not answered is asked again, but others come first.
            patience = self._sync_interval * (2 if asked.address == address else 1)
            if now - asked.at < patience:
                return
        if not address:
            return
        vector = self.tally.vector(replica)
        if sums is None:
            sums = list(vector.sums()) if vector.total else []
        repair = Repair(now, address, sums)
        self._repairs[replica] = repair
        effects.send.append((address, Ask(replica, repair.sums, 0)))

    def _answer(self, ask: Ask, address: str, effects: Effects) -> None:
        vector = self.tally.vector(ask.replica)
        if vector.total and address:
            counts, position = vector.differing(
                ask.sums, ask.after, PAGE_BYTES, self.scanned_a_page
            )
            effects.send.append((address, Answer(ask.replica, counts, position)))

    def _go_on(self, answer: Answer, peer: Peer, now: float, effects: Effects) -> None:
        self._merge(answer.replica, answer.counts, effects)
        repair = self._repairs.get(answer.replica)
        # A position means something only to the copy that it was given by.
        if repair is None or repair.address != peer.address:
            return
        if answer.next is None:
            del self._repairs[answer.replica]
        else:
            repair.at = now
            ask = Ask(answer.replica, repair.sums, answer.next)
            effects.send.append((repair.address, ask))

    # -- peers and joining

    def _introduce(self, replica: str, address: str, now: float, effects: Effects) -> None:
        """Make oneself known to a node that was not heard, or not lately; once in a while only."""
        told = self._introduced.get(replica)
        if told is None or now - told > self._silence:
            self._introduced[replica] = now
            self._tell(address, now, effects)

    def _tell(self, address: str, now: float, effects: Effects) -> None:
        if address:
            effects.send.extend((address, report) for report in self._report(now))

    def _report(self, now: float) -> Iterator[Report]:
        live = self._live(now)
        peers = {replica: peer.address for replica, peer in live.items() if peer.address}
        peers = dict(islice(peers.items(), _PEERS_A_REPORT))
        # Of its own vector it reports what it has published: more would look like a loss.
        held = self.tally.totals()
        if self.id in held:
            held[self.id] = self._published
        totals = iter(held.items())
        part = dict(islice(totals, _REPLICAS_A_REPORT))
        while True:
            silent = [r for r in part if r != self.id and not self._speaks(r, now)]
            digests = {replica: self.tally.vector(replica).digest() for replica in silent}
            yield Report(self.state, part, digests, peers)
            part, peers = dict(islice(totals, _REPLICAS_A_REPORT)), {}
            if not part:
                return

    def _own(self, video: str) -> int:
        """Its own count of the video, whether the store holds it yet or not."""
        return (
            self._raised.get(video) or self._in_batch.get(video) or self.tally.count(self.id, video)
        )

    def _live(self, now: float) -> dict[str, Peer]:
        return {
            replica: peer
            for replica, peer in self._peers.items()
            if now - peer.heard <= self._silence
        }

    def _staying(self, now: float) -> list[Peer]:
        return [peer for peer in self._live(now).values() if peer.state != "leaving"]

    def _speaks(self, replica: str, now: float) -> bool:
        """Whether more of this vector is to be expected from its writer itself."""
        peer = self._live(now).get(replica)
        return peer is not None and peer.state != "leaving" and not self._succeeded(replica)

    def _succeeded(self, replica: str) -> bool:
        member = member_of(replica)
        return any(other > replica and member_of(other) == member for other in self._peers)

    def _become_ready(self, now: float) -> None:
        """Ready once it holds every total that the peers it hears have advertised."""
        if self.state != "joining":
            return
        peers = self._live(now).values()
        waited = now - self._started >= self._join_timeout
        if not peers and self._has_peers and not waited:
            return
        held = (
            total <= self.tally.total(replica)
            for peer in peers
            for replica, total in peer.totals.items()
        )
        if all(peer.state for peer in peers) and all(held):
            self.state = "ready"

    def doubled(self, now: float) -> dict[str, bool]:
        """Names that two live replicas bear, each heard after the other had begun.

        True where they are one member: two nodes run on copies of one store.
        """
        lives = [(self.id, self._started, now)]
        lives += [
            (replica, peer.since, peer.heard)
            for replica, peer in self._live(now).items()
            if peer.state != "leaving"
        ]
        doubled: dict[str, bool] = {}
        for (one, since, heard), (other, other_since, other_heard) in combinations(lives, 2):
            overlap = min(heard, other_heard) - max(since, other_since)
            if name_of(one) == name_of(other) and overlap > _OVERLAP:
                same = member_of(one) == member_of(other)
                doubled[name_of(one)] = doubled.get(name_of(one), False) or same
        return doubled

    def members(self, now: float) -> list[Member]:
        """Every member that is known, sorted: this one, those heard, those with counts."""
        visits = self.tally.members()
        latest: dict[str, str] = {}
        for replica in sorted(self._peers):
            latest[member_of(replica)] = replica
        total, members = self.tally.total(self.id), []
        for member in sorted({self.member, *visits, *latest}):
            count = visits.get(member, 0)
            if member == self.member:
                members.append(Member(member, count, True, self.state, 0.0, 0))
            elif member in latest:
                peer = self._peers[latest[member]]
                live = now - peer.heard <= self._silence and peer.state != "leaving"
                behind = max(0, total - peer.totals.get(self.id, 0)) if live else None
                heard = now - peer.heard
                members.append(Member(member, count, live, peer.state, heard, behind))
            else:
                members.append(Member(member, count, False, None, None, None))
        return members


_OVERLAP = 1.0
"""Seconds by which two lives of a name must overlap: a restart's last messages may come late."""


def _page(growth: Iterator[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """As many entries as fit into one message."""
    size = 0
    for video, visits in growth:
        yield video, visits
        size += len(video) + 12
        if size > PAGE_BYTES:
            return
