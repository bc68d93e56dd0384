"""The protocol: one run of a node, the only writer of its vector.

Sans-I/O: every step takes the time and what came in, and returns `Effects`: what to send, and
which videos grew. It is called by one thread at a time; `node.py` holds the lock.

A visit goes through three places: *raised* (counted, in memory only), *in the batch* (on its way
to the store), *visible* (in the tally: shown, published, reported). Only what the store holds
becomes visible, so nothing is ever shown or told that a crash could take back.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from msgspec.structs import replace

from counter.folding import Fold, Folding
from counter.ids import folded_of, is_folded, member_of, name_of, replica_of, run_of
from counter.keys import Key, Keys, Written, is_key
from counter.limits import check_room
from counter.members import Members, decode_fact, encode_fact, is_note
from counter.messages import (
    PAGE_BYTES,
    Answer,
    Ask,
    AskKeys,
    Body,
    Condition,
    Delta,
    Envelope,
    Report,
    State,
    Taken,
    Tell,
)
from counter.peers import Peer, Peers
from counter.positions import Logs, Positions, decode_positions, encode_positions, join
from counter.repairs import Repairs
from counter.reports import Reports
from counter.tally import MAX_COUNT, Tally
from counter.vector import VideoSet

NO_NOTES: Mapping[str, str] = MappingProxyType({})

_FEW = 100
"""Fewer videos than this are looked at one by one for whether they are full."""
_LOG = "log:"
"""How a note begins that says how far a visit log was read."""
MAX_TOTAL = 2**56
"""The most visits of one run: totals are told in 63 bits, those of many runs folded as well."""


@dataclass(slots=True)
class Effects:
    """What a step wants done: messages for all, messages for one address, videos that grew."""

    broadcast: list[Body] = field(default_factory=list)
    send: list[tuple[str, Body]] = field(default_factory=list)
    grew: set[str] = field(default_factory=set)

    def ask(self, peer: Peer, body: Body | None) -> None:
        """Send this to one peer, if it is anything, and known where."""
        if body is not None and peer.address:
            self.send.append((peer.address, body))


class Batch(NamedTuple):
    """What one flush writes, in one atomic step.

    `counts` is everything by vector, of which `own` are counts of this replica not visible yet
    and `rows` other news; what is neither is a fold under way. `drop` are vectors to be forgotten,
    `facts` what is to be kept of members, `notes` what came with the visits in `own`, and `keys`
    what is to be kept of keys. With `folds` the fold is done when this is written.
    """

    counts: dict[str, dict[str, int]]
    own: dict[str, int]
    notes: dict[str, str]
    rows: dict[str, dict[str, int]]
    facts: dict[str, str]
    drop: list[str]
    folds: bool
    keys: Written

    def kept(self) -> dict[str, str]:
        """Everything that the store keeps beside counts."""
        return self.facts | self.notes | self.keys.notes


class Member(NamedTuple):
    """A member as this node sees it. `heard`: seconds ago. `behind`: visits it still misses.

    `folded` is how many of its visits are folded, `runs` how many runs are not, and `closed` how
    many of these have ended for good. `condition` is None if it was not told, or it is silent.
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
    condition: Condition | None = None


class Replica:
    """One run of a node: counts visits, tells the others, repairs what it missed, folds.

    `has_peers` says whether there is anybody to wait for before being ready; `join_timeout`,
    `sync_interval` and `message_ttl` are in seconds, and so is every `now`, of any clock that
    never goes back; `epoch` is the Unix time of its zero.
    """

    repairs_class: type[Repairs] = Repairs
    folding_class: type[Folding] = Folding
    keys_class: type[Keys] = Keys
    reports_class: type[Reports] = Reports

    def __init__(
        self,
        replica: str,
        tally: Tally,
        now: float,
        *,
        sync_interval: float,
        join_timeout: float,
        message_ttl: float,
        has_peers: bool,
        epoch: float = 0.0,
    ) -> None:
        self.id = replica
        self.member = member_of(replica)
        self.name = name_of(replica)
        self.state: State = "joining"
        self.tally = tally
        self.members = Members()
        self.members.learn(self.member, run_of(replica))
        self.folds = 0
        self.notes: dict[str, str] = {}
        """What was kept with visits, as far as the store holds it: `{"kind:name": text}`."""
        self.logs = Logs()
        """How far visit logs were read, in what is published."""
        self._log = ""
        self._read: Positions = {}
        """How far its own was read in this run, in what is raised."""
        self._started = now
        self._sync_interval = sync_interval
        self._join_timeout = join_timeout
        self._has_peers = has_peers
        self._has_heard = False
        self._loading = True
        self._raised: dict[str, int] = {}
        self._counted = 0
        self._raised_notes: dict[str, str] = {}
        self._in_batch: dict[str, int] = {}
        self._in_doubt = False
        self._unsaved: dict[str, VideoSet] = {}
        self._unsaved_facts = {self.member}
        self._drop: set[str] = set()
        self._found = Tally()
        self._unpublished: dict[str, int] = {}
        self.peers = Peers(3 * sync_interval, message_ttl)
        self._introduced: dict[str, float] = {}
        self._repairs = self.repairs_class(tally, self.peers, sync_interval)
        self.folding = self.folding_class(replica, tally, self.members, self.peers, message_ttl)
        self.keys = self.keys_class(replica, self.peers, sync_interval, epoch)
        self.reports = self.reports_class(
            replica, tally, self.members, self.peers, self.keys, self.logs
        )

    # -- visits and the store

    def visit(self, video: str) -> None:
        """Count one visit. Raises `FullError` where there is no room for it, as `visits` does."""
        count = self._own(video)
        # Its own visible count is in both, so most videos need no closer look.
        if count + self.tally.visits(video) >= MAX_COUNT or self._counted >= MAX_TOTAL:
            self.visits({video: 1})
        else:
            self._raised[video] = count + 1
            self._counted += 1

    def visits(
        self,
        visits: Mapping[str, int],
        notes: Mapping[str, str] = NO_NOTES,
        key: Key | None = None,
    ) -> None:
        """Count many visits, all or none: `{video: visits}`.

        Raises `FullError` if the sum of a video, as far as it is known here, would exceed its
        limit, and OverflowError if this run can count no more.

        The store gets the `notes`, `{"kind:name": text}`, in the same atomic step; a text
        replaces the one before, and an empty one removes it. So it does the `key`, which
        `keys.find` must not know.
        """
        raised, in_batch, own = self._raised, self._in_batch, self.tally.vector(self.id)
        counts = {
            video: (raised.get(video) or in_batch.get(video) or own.count(video)) + more
            for video, more in visits.items()
        }
        total = self._counted + sum(visits.values())
        # While all visits of all videos are fewer than one may have, nothing can be full: where
        # many are counted at once that is quicker to see than to look at each.
        few = len(visits) < _FEW
        if few or total + sum(self.tally.members().values()) > MAX_COUNT:
            visible = self.tally.visits
            counted = {
                video: visible(video) - own.count(video) + counts[video] - more
                for video, more in visits.items()
            }
            check_room(visits, counted)
            if total > MAX_TOTAL:
                raise OverflowError(f"the visits of this run have reached their end, {MAX_TOTAL}")
        self._counted = total
        raised.update(counts)
        self._raised_notes.update(notes)
        if key is not None:
            self.keys.take(key)

    def read(self, log: str, visits: Mapping[str, int], positions: Positions) -> None:
        """Count what its visit log says up to these positions, as `visits` does."""
        read = join(self._read, positions)
        name = f"{self.name}/{log}"
        self.visits(visits, {_LOG + name: encode_positions(read)})
        self._log, self._read = name, read

    def has_read(self, log: str, files: Collection[str]) -> Positions:
        """How far a visit log was read that has these files, by whoever followed it before."""
        read = join(self._read, self.logs.holding(files))
        return read or self.logs.of(f"{self.name}/{log}")

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

    def opened(self, vectors: Collection[str], facts: Mapping[str, str]) -> None:
        """Take in what the store knows beside counts: its vectors, and the facts on members.

        What it still has of vectors that were folded is to be dropped.
        """
        self._found = Tally()
        notes = {name: fact for name, fact in facts.items() if is_note(name)}
        self.notes = {name: fact for name, fact in notes.items() if not is_key(name)} | self.notes
        self.keys.opened(notes)
        for member, fact in facts.items():
            if is_note(member):
                if member.startswith(_LOG):
                    self.logs.join(member.removeprefix(_LOG), decode_positions(fact))
                continue
            latest, removed, mark = decode_fact(fact)
            self._learn(member, max(latest, mark), removed)
            self._found.fold(member, mark)
            if member == self.member and mark >= run_of(self.id):
                self.folding.followed[member] = mark
            elif mark > self.tally.mark(member):
                # It is done in the store already, so that there is nothing to wait for.
                self._fold_here(Fold(self.tally, member, mark))
        for vector in vectors:
            member, run = member_of(vector), run_of(vector)
            if self.tally.current(vector):
                self._learn(member, run)
            elif run <= self.tally.mark(member) or not self._found.current(vector):
                self._drop.add(vector)

    def own_fact(self) -> dict[str, str]:
        """What the store must keep before anybody hears of this run, lest a later one be older."""
        return {self.member: self._fact(self.member)}

    def loaded(self, vector: str, counts: Mapping[str, int]) -> set[str]:
        """Join what the store holds of a vector; return what grew.

        Its own vector is what it wrote itself: that becomes visible with `stored`, not here.
        """
        if vector == self.id:
            return set()
        if not self.tally.current(vector):
            self._found.merge(vector, counts)
        return set(self.tally.merge(vector, counts))

    def all_loaded(self) -> set[str]:
        """Everything that the store held was given to `loaded`. Returns what grew by that.

        What it holds under an older fold mark is joined like another node's copy.
        """
        self._loading = False
        effects = Effects()
        for member in {member_of(vector) for vector, _ in self._found.vectors()}:
            fold = Fold(self._found, member, self.tally.mark(member))
            fold.step(MAX_COUNT)
            self._merge(fold.id, dict(fold.vector.items()), effects)
        self._found = Tally()
        return effects.grew

    def batch(self, limit: int) -> Batch:
        """Take what is to be written next: every visit, and about `limit` other rows.

        One batch at a time: it ends with `stored` or `not_stored`.
        """
        self._in_batch, self._raised = self._raised, {}
        notes, self._raised_notes = self._raised_notes, {}
        rows: dict[str, dict[str, int]] = {}
        for vector, videos in list(self._unsaved.items()):
            if limit <= 0:
                break
            count = self.tally.vector(vector).count
            rows[vector] = {video: count(video) for video in videos.take(limit)}
            limit -= len(rows[vector])
            if not videos:
                del self._unsaved[vector]
        counts = dict(rows)
        if self._in_batch:
            counts[self.id] = counts.get(self.id, {}) | self._in_batch
        # What a store that forgot has of older vectors stays until it has the newer ones.
        held = set(self.folding.followed)
        if self._unsaved or self._loading:
            held |= {member_of(vector) for vector in self._drop}
        # No mark is followed while its own run is in it, or the store may know more of its parts.
        may_follow = not (self._loading or self.overtaken)
        fold = self.folding.next() if may_follow else self.folding.under_way
        if fold is not None:
            if limit > 0 and (staged := fold.step(limit)):
                counts[fold.id] = staged
            # The store may have its new mark already, if it failed after it wrote.
            held.add(fold.member)
        facts = {member: self._fact(member) for member in self._unsaved_facts - held}
        drop = [vector for vector in self._drop if member_of(vector) not in held]
        if fold is not None and fold.id in self._drop:
            # Left over from a fold that a crash cut short: gone before this one is written.
            drop.append(fold.id)
        self._unsaved_facts &= held
        self._drop.difference_update(drop)
        if fold is not None and fold.complete:
            facts[fold.member] = self._fact(fold.member, fold.mark)
            drop += fold.parts
            for part in fold.parts:
                counts.pop(part, None)
            self._unsaved_facts.discard(fold.member)
        folds = bool(fold and fold.complete)
        keys = self.keys.batch(limit)
        return Batch(counts, self._in_batch, notes, rows, facts, drop, folds, keys)

    def stored(self, batch: Batch) -> set[str]:
        """The store holds the batch: its visits become visible. Returns the videos that grew."""
        self._in_batch, self._in_doubt = {}, False
        self.keys.stored(batch.keys)
        for name, text in batch.notes.items():
            self.notes[name] = text
            if not text:
                del self.notes[name]
        grew = self.tally.merge(self.id, batch.own)
        for video, growth in grew.items():
            self._unpublished[video] = self._unpublished.get(video, 0) + growth
        if batch.folds and self.folding.under_way is not None:
            self._folded(self.folding.under_way)
            self.folds += 1
        return set(grew)

    def not_stored(self, batch: Batch) -> None:
        """The store may or may not hold the batch: everything in it is to be written again."""
        self._raised = batch.own | self._raised
        self._raised_notes = batch.notes | self._raised_notes
        self.keys.not_stored(batch.keys)
        self._in_batch = {}
        self._in_doubt = self._in_doubt or bool(batch.own or batch.keys.own)
        for vector, counts in batch.rows.items():
            self._note_unsaved(vector, counts)
        self._unsaved_facts.update(batch.facts)
        self._drop.update(vector for vector in batch.drop if not self.tally.current(vector))
        fold = self.folding.under_way
        if fold is not None:
            fold.restart(in_doubt=batch.folds)
            if fold.in_doubt:
                self._drop.discard(fold.id)

    def forgotten(self, vectors: Collection[str], facts: Mapping[str, str]) -> None:
        """The store lost something: all that is visible is to be written again.

        `vectors` and `facts` are what it knows now. Ends with `all_loaded`, for it may hold more
        than is known here.
        """
        self.folding.under_way = None
        self._loading = True
        self.keys.forgotten()
        self.opened(vectors, facts)
        self._raised_notes = self.notes | self._raised_notes
        self._unsaved = {}
        for vector, videos in self.tally.vectors():
            self._note_unsaved(vector, videos)
        self._unsaved_facts = set(self.members)

    def unsaved(self) -> bool:
        """Whether there is anything to be written: visits or news."""
        return bool(self._raised) or self.news()

    def news(self) -> bool:
        """Whether there is anything to be written beside visits: others' counts, a fold, a run."""
        return bool(
            self._raised_notes
            or self.keys.unsaved()
            or self._unsaved
            or self.folding.under_way
            or self.to_renew
            or (not self._loading and (self._unsaved_facts or self._drop or self.folding.followed))
        )

    @property
    def overtaken(self) -> bool:
        """Whether others have ended this run: it was folded, or this member removed, unheard.

        Nobody listens to such a run any more.
        """
        run = run_of(self.id)
        return run <= max(self.folding.mark(self.member), self.members.removed(self.member))

    @property
    def to_renew(self) -> bool:
        """Whether to go on as a new run: not with visits that the store may hold for this one."""
        return self.overtaken and not self._in_doubt

    def renew(self, run: str, now: float) -> None:
        """Go on as a new run, later than any known of this member. Not while there is a batch.

        What the old run has counted stays where it is, as that of any run that has ended; visits
        that were not written yet are counted by the new one.
        """
        raised = {
            video: count - self.tally.count(self.id, video) for video, count in self._raised.items()
        }
        self.id = self.folding.own = replica_of(self.member, run)
        self.keys.renew(self.id)
        self.reports.renew(self.id)
        self._raised, self._counted = raised, sum(raised.values())
        self._unpublished = {}
        self._started = now
        self._learn(self.member, run)

    # -- outgoing

    def publish(self) -> list[Delta]:
        """What changed since the last call, in as many deltas as it takes; see `Keys.publish`."""
        growth, self._unpublished = self._unpublished, {}
        deltas = []
        remaining = iter(growth.items())
        while page := dict(_page(remaining)):
            self.reports.published += sum(page.values())
            counts = {video: self.tally.count(self.id, video) for video in page}
            deltas.append(Delta(counts, self.reports.published))
        # Only now: who hears of the position before the counts would lose them with this store.
        read = decode_positions(self.notes.get(_LOG + self._log, ""))
        told = self.logs.of(self._log)
        news = {file: position for file, position in read.items() if told.get(file) != position}
        if deltas and news:
            deltas[-1] = replace(deltas[-1], read={self._log: news})
        if news:
            self.logs.join(self._log, read)
        return deltas

    def sync(self, now: float) -> Effects:
        """The periodic step: report what is held, forget peers long gone, become ready, fold."""
        self.peers.forget(now)
        for replica, told in list(self._introduced.items()):
            if now - told > self.peers.silence:
                del self._introduced[replica]
        self._repairs.forget()
        self.keys.forget(now)
        self._become_ready(now)
        ready = self.state == "ready" and (self._has_heard or not self._has_peers)
        self.folding.look(now, may_fold=ready and not self._loading)
        return self._report(now)

    def leave(self, now: float) -> Effects:
        """Say goodbye: peers answer at once with the totals they hold."""
        self.state = "leaving"
        return self._report(now)

    def remove(self, member: str, now: float) -> Effects:
        """An operator says that a member is gone for good: nothing waits for it any more.

        What it has counted stays counted.
        """
        self._learn(member, "", self.members.latest(member))
        return self._report(now)

    def held(self, now: float) -> bool:
        """Whether a live peer holds all visits of this replica, or there is no live peer.

        All keys, too.
        """
        total = self.tally.total(self.id)
        held = (
            peer.words.total(self.id) >= total and self.keys.held(peer)
            for peer in self.peers.staying(now).values()
        )
        return self.alone(now) or any(held)

    def alone(self, now: float) -> bool:
        """Whether it hears no peer, but for those that are leaving."""
        return not self.peers.staying(now)

    # -- incoming

    def receive(self, envelope: Envelope, now: float) -> Effects:
        """Take one verified message in: merge it, answer it, ask for what it shows to lack."""
        effects = Effects()
        sender, body = envelope.sender, envelope.body
        if sender == self.id:
            return effects
        self._has_heard = True
        self._learn(member_of(sender), run_of(sender))
        peer, returned = self.peers.hear(sender, envelope.address, now)
        if returned:
            self._introduce(sender, peer.address, now, effects)
        match body:
            case Delta():
                self._merge(sender, body.counts, effects)
                effects.ask(peer, self._repairs.compare(sender, body.total, peer, now))
                if body.read:
                    self._heard_delta_of_log(sender, body, peer)
            case Report():
                self._heard_report(body, peer, now, effects)
            case Tell():
                self._tell(peer.address, now, effects)
            case Ask():
                effects.ask(peer, self._repairs.answer(body))
            case Answer():
                self._merge(body.vector, body.counts, effects)
                effects.ask(peer, self._repairs.go_on(body, peer, now))
            case Taken():
                effects.ask(peer, self.keys.merge(body, peer, now))
            case AskKeys():
                effects.ask(peer, self.keys.answer(body, now))
        if peer.unread:
            self._join_logs(peer)
        self._become_ready(now)
        return effects

    def _heard_report(self, report: Report, peer: Peer, now: float, effects: Effects) -> None:
        peer.state = report.state
        peer.condition = report.condition or peer.condition
        for member, standing in report.members.items():
            latest = max(standing.latest, standing.mark, *standing.runs)
            self._learn(member, latest, standing.removed)
            peer.words.say(member, standing)
            if standing.mark > self.folding.mark(member):
                self._follow(member, standing.mark)
        for log, positions in report.logs.items():
            peer.words.say_read(log, positions)
            peer.unread = True
        checksum = report.checksum
        if checksum is not None and peer.missed(checksum, now, self._sync_interval):
            effects.ask(peer, Tell())
        # Who says the very same has nothing that is missing here.
        if peer.words.checksum != self.reports.said.checksum:
            for vector, copy in peer.words.copies():
                if vector != self.id:
                    self.folding.heard(vector, copy)
                    effects.ask(peer, self._repairs.compare(vector, copy.total, peer, now))
                    effects.ask(peer, self._repairs.compare_content(vector, copy, peer, now))
        if report.keys is not None:
            peer.keys = report.keys
            for ask in self.keys.compare(report.keys, peer, now):
                effects.ask(peer, ask)
        for replica, address in report.peers.items():
            if replica != self.id and replica not in self.peers:
                self._introduce(replica, address, now, effects)
        if report.state == "leaving":
            self._tell(peer.address, now, effects)

    def _merge(self, vector: str, counts: Mapping[str, int], effects: Effects) -> None:
        # Nobody else writes its own vector: what claims more for it is an error or a forgery.
        # What is being folded rests meanwhile: a repair brings later what that misses.
        if vector == self.id or self.folding.rests(vector):
            return
        grew = self.tally.merge(vector, counts)
        if grew:
            self._note_unsaved(vector, grew)
            effects.grew.update(grew)

    def _note_unsaved(self, vector: str, videos: Iterable[str]) -> None:
        unsaved = self._unsaved.get(vector)
        if unsaved is None:
            unsaved = self._unsaved[vector] = self.tally.no_videos()
        unsaved.update(videos)

    # -- visit logs

    def _heard_delta_of_log(self, sender: str, delta: Delta, peer: Peer) -> None:
        """Take how far a log was read, if all is held here that this stands for."""
        word = peer.words.of(member_of(sender))
        copies = [(sender, delta.total)]
        copies += [(v, copy.total) for v, copy in word.copies.items()] if word else []
        if all(self.holds(*copy) for copy in copies):
            for log, positions in delta.read.items():
                self._heard_read(log, positions)

    def _heard_read(self, log: str, positions: Positions) -> None:
        """A log was read so far, and all that was read is held here."""
        if self.logs.join(log, positions):
            read = join(self.logs.of(log), self._read if log == self._log else {})
            self._raised_notes[_LOG + log] = encode_positions(read)

    def _join_logs(self, peer: Peer) -> None:
        """Take what a peer has said of logs, once all is held here that it holds."""
        if all(self.holds(vector, copy.total) for vector, copy in peer.words.copies()):
            for log, positions in peer.words.logs.items():
                self._heard_read(log, positions)
            peer.unread = False

    # -- folding

    def _follow(self, member: str, mark: str) -> None:
        """Somebody has folded more runs of a member: fold them here, too.

        Where nothing is to be added up there is no need to wait for the store.
        """
        self.folding.followed[member] = mark
        if member != self.member and not (self._loading or self.tally.parts(member, mark)):
            self._fold_here(Fold(self.tally, member, mark))

    def _fold_here(self, fold: Fold) -> None:
        """Fold in memory, to be written with everything else."""
        fold.step(MAX_COUNT)
        self._folded(fold)
        self._unsaved_facts.add(fold.member)

    def _folded(self, fold: Fold) -> None:
        """The store holds the fold, or is not ahead of it: now it is done here."""
        self.folding.done(fold)
        for part in fold.parts:
            self._unsaved.pop(part, None)
        self._drop.discard(fold.id)

    def _fact(self, member: str, mark: str = "") -> str:
        latest, removed = self.members.latest(member), self.members.removed(member)
        return encode_fact(latest, removed, mark or self.tally.mark(member))

    def _learn(self, member: str, latest: str, removed: str = "") -> None:
        if self.members.learn(member, latest, removed):
            self._unsaved_facts.add(member)

    # -- peers and joining

    def _introduce(self, replica: str, address: str, now: float, effects: Effects) -> None:
        """Make oneself known to a node that was not heard, or not lately; once in a while only."""
        told = self._introduced.get(replica)
        if told is None or now - told > self.peers.silence:
            self._introduced[replica] = now
            self._tell(address, now, effects)

    def _tell(self, address: str, now: float, effects: Effects) -> None:
        """Tell all that there is to say to one node, and to the others what is news in it."""
        if address:
            news, everything = self.reports.everything(self.state, now)
            effects.broadcast.extend(news)
            effects.send.extend((address, part) for part in everything)

    def _report(self, now: float) -> Effects:
        """Tell all what is news, or only that there are none."""
        return Effects(broadcast=[*self.reports.news(self.state, now)])

    def _own(self, video: str) -> int:
        """Its own count of the video, whether the store holds it yet or not."""
        return (
            self._raised.get(video) or self._in_batch.get(video) or self.tally.count(self.id, video)
        )

    def _become_ready(self, now: float) -> None:
        """Ready once it holds every total, and key, that the peers it hears have advertised."""
        if self.state != "joining":
            return
        peers = self.peers.live(now).values()
        waited = now - self._started >= self._join_timeout
        if not peers and self._has_peers and not waited:
            return
        told = [copy for peer in peers for copy in peer.words.copies()]
        held = (self.holds(vector, copy.total) for vector, copy in told)
        heard = (peer.confirmed is not None and self.keys.holds(peer) for peer in peers)
        if all(heard) and all(held):
            for peer in peers:
                self._join_logs(peer)
            self.state = "ready"

    def holds(self, vector: str, total: int) -> bool:
        """Whether it holds so much of a vector; what is folded here counts as held."""
        if self.tally.current(vector):
            return self.tally.total(vector) >= total
        return run_of(vector) <= self.tally.mark(member_of(vector))

    # -- what it looks like

    def doubled(self, now: float) -> dict[str, bool]:
        """Names that two live replicas bear; see `Peers.doubled`."""
        return self.peers.doubled(self.id, self._started, now)

    def roll(self, now: float) -> list[Member]:
        """Every member that is known, sorted."""
        visits, newest = self.tally.members(), self.peers.newest()
        total = self.tally.total(self.id)
        members = []
        for member in sorted(self.members):
            live, state, heard, behind = False, None, None, None
            condition = None
            if member == self.member:
                live, state, heard, behind = True, self.state, 0.0, 0
                condition = self.reports.condition
            elif (peer := self.peers.get(newest.get(member, ""))) is not None:
                live = now - peer.heard <= self.peers.silence and peer.state != "leaving"
                behind = max(0, total - peer.words.total(self.id)) if live else None
                state, heard = peer.state, now - peer.heard
                condition = peer.condition if live else None
            parts = self.tally.parts(member, self.members.latest(member))
            runs = sum(not is_folded(part) for part in parts)
            removed = self.members.is_removed(member)
            closed = len(self.folding.closed(member))
            folded = self.tally.total(folded_of(member, self.tally.mark(member)))
            count = visits.get(member, 0)
            told = (live, state, heard, behind)
            told_runs = (removed, folded, runs, closed)
            members.append(Member(member, count, *told, *told_runs, condition))
        return members


def _page(growth: Iterator[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """As many entries as fit into one message."""
    size = 0
    for video, visits in growth:
        yield video, visits
        size += len(video) + 12
        if size > PAGE_BYTES:
            return
