"""The protocol: one run of a node, the only writer of its vector.

Sans-I/O: every step takes the time and what came in, and returns `Effects`: what to send, and
which videos grew. It is called by one thread at a time; `node.py` holds the lock.

A visit is *pending*, then *in flight*, then *committed*: in the tally, shown, published, reported
(see `pending.py`). Only what the store holds is committed, so nothing is ever shown or told that a
crash could take back.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from msgspec.structs import replace

from counter.crdt.gcounter import MAX_COUNT
from counter.crdt.ids import folded_of, is_folded, member_of, name_of, replica_of, run_of
from counter.crdt.tally import MAX_PACKED, Tally
from counter.crdt.vector import Refused
from counter.crdt.videos import VideoSet
from counter.protocol.checks import SUM, Sum, decode_sum, encode_sum, sum_name
from counter.protocol.folding import Fold, Folding
from counter.protocol.joining import Joining, Lack
from counter.protocol.keys import Key, Keys, Written, is_key
from counter.protocol.members import Members, decode_fact, encode_fact, is_note
from counter.protocol.messages import (
    PAGE_BYTES,
    Body,
    Delta,
    Envelope,
    Health,
    KeysPage,
    KeysRequest,
    Larger,
    MemberReport,
    PreviousMemberReport,
    RepairPage,
    RepairRequest,
    Report,
    ReportRequest,
    RunsPage,
    RunsRequest,
    State,
)
from counter.protocol.peers import Peer, Peers
from counter.protocol.pending import Counts, Pending
from counter.protocol.positions import Logs, Positions, decode_positions, encode_positions, join
from counter.protocol.repairs import Repairs
from counter.protocol.reports import Reports
from counter.protocol.reverts import Reverts
from counter.protocol.runs import Runs, is_run

NO_NOTES: Mapping[str, str] = MappingProxyType({})

_LOG = "log:"
"""How a note begins that says how far a visit log was read."""


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

    `counts` is everything by vector, of which `own` are visits of this process not committed yet,
    by run, and `rows` other news; what is neither is a fold under way. `drop` are vectors to be
    forgotten, `facts` what is to be kept of members, `notes` what came with the visits in `own`,
    `runs` what is to be kept of runs, `sums` what the store holds of vectors from now on, and
    `keys` what is to be kept of keys. With `folds` the fold is done when this is written.
    """

    counts: dict[str, dict[str, int]]
    own: Counts
    notes: dict[str, str]
    rows: dict[str, dict[str, int]]
    facts: dict[str, str]
    runs: dict[str, str]
    sums: dict[str, str]
    drop: list[str]
    folds: bool
    keys: Written

    def kept(self) -> dict[str, str]:
        """Everything that the store keeps beside counts."""
        return self.facts | self.notes | self.runs | self.sums | self.keys.notes


class Suspect(NamedTuple):
    """A vector as the store has it, which is not as it was written, and the total it had then."""

    counts: dict[str, int]
    total: int | None


class Member(NamedTuple):
    """A member as this node sees it. `heard`: seconds ago. `behind`: visits it still misses.

    `folded` is how many of its visits are folded, `runs` how many runs are not, and `closed` how
    many of these are closed. `health` is None if it was not told, or it is silent.
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


class Replica:
    """One run of a node: counts visits, tells the others, repairs what it missed, folds.

    `has_peers` says whether there is anybody to wait for before being ready; `join_timeout`,
    `sync_interval`, `message_ttl` and `fold_after` are in seconds, and so is every `now`, of any
    clock that never goes back; `epoch` is the Unix time of its zero.
    """

    repairs_class: type[Repairs] = Repairs
    folding_class: type[Folding] = Folding
    keys_class: type[Keys] = Keys
    reports_class: type[Reports] = Reports
    reverts_class: type[Reverts] = Reverts
    joining_class: type[Joining] = Joining

    def __init__(
        self,
        replica: str,
        tally: Tally,
        now: float,
        *,
        sync_interval: float,
        join_timeout: float,
        message_ttl: float,
        fold_after: float,
        has_peers: bool,
        epoch: float = 0.0,
    ) -> None:
        self.id = replica
        self.member = member_of(replica)
        self.name = name_of(replica)
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
        """How far its own was read in this run, in what is pending."""
        self._started = now
        self._epoch = epoch
        self._message_ttl = message_ttl
        self._sync_interval = sync_interval
        self._has_peers = has_peers
        self._has_heard = False
        self._loading = True
        self._misdated = False
        self.pending = Pending(replica, tally)
        self._unsaved: dict[str, VideoSet] = {}
        self._unsaved_facts = {self.member}
        self._summed: set[str] = set()
        """The vectors of which the store has a sum."""
        self._sums: dict[str, Sum] = {}
        """The sums that the store had when it was opened."""
        self._drop: set[str] = set()
        self._replace: set[str] = set()
        """The vectors of which the store has rows that do not belong there."""
        self._suspects: dict[str, Suspect] = {}
        self._found = Tally()
        self._unpublished: dict[str, dict[str, int]] = {}
        self.peers = Peers(3 * sync_interval, message_ttl)
        self._introduced: dict[str, float] = {}
        self._asked_names: dict[tuple[str, str, int], float] = {}
        date = round((now + epoch) * 1000)
        self.runs = Runs(replica, date, tally, self.members, self.peers, message_ttl, now)
        self._repairs = self.repairs_class(tally, self.peers, sync_interval, message_ttl)
        self._reverts = self.reverts_class(replica, tally, self._repairs, sync_interval)
        self.folding = self.folding_class(
            replica,
            tally,
            self.members,
            self.peers,
            self.runs,
            message_ttl=message_ttl,
            fold_after=fold_after,
        )
        self.keys = self.keys_class(replica, self.peers, sync_interval, epoch, message_ttl, now)
        self.joining = self.joining_class(
            self.members,
            self.peers,
            self.runs,
            self.keys,
            join_timeout,
            now,
            has_peers=has_peers,
        )
        self.reports = self.reports_class(
            replica, tally, self.members, self.peers, self.keys, self.logs, self.runs
        )

    @property
    def state(self) -> State:
        """Where it stands in its life: joining, ready, or leaving."""
        return self.joining.state

    @property
    def complete(self) -> bool:
        """Whether it has held all that its peers told it: it knows which requests were counted."""
        return self.joining.complete

    def lacks(self, now: float) -> list[Lack]:
        """What its peers hold and it does not, as long as it is not complete."""
        return [] if self.complete else list(self.joining.lacks(self.holds, now))

    # -- visits and the store

    def visit(self, video: str) -> None:
        """Count one visit. Raises `FullError` if there is no room for it, as `count_many` does."""
        self.pending.visit(video)

    def count_many(
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
        self.pending.count_many(visits, notes)
        if key is not None:
            self.keys.take(key)

    def read(self, log: str, visits: Mapping[str, int], positions: Positions) -> None:
        """Count what its visit log says up to these positions, as `count_many` does."""
        read = join(self._read, positions)
        name = f"{self.name}/{log}"
        self.count_many(visits, {_LOG + name: encode_positions(read)})
        self._log, self._read = name, read

    def has_read(self, log: str, files: Collection[str]) -> Positions:
        """How far a visit log was read that has these files, by whoever followed it before."""
        read = join(self._read, self.logs.holding(files))
        return read or self.logs.of(f"{self.name}/{log}")

    def counter(self, video: str, *, pending: bool = False) -> dict[str, int]:
        """The video's committed counter, an entry a member; with `pending`, pending visits too."""
        counts = self.tally.counter(video)
        if pending:
            more = self.pending.count(video) - self.tally.count(self.id, video)
            counts[self.member] = counts.get(self.member, 0) + more
        return counts

    def unflushed(self) -> int:
        """How many visits of this process the store does not hold yet."""
        return len(self.pending)

    def opened(self, vectors: Collection[str], facts: Mapping[str, str]) -> None:
        """Take in what the store knows beside counts: its vectors, and the facts on members.

        What it still has of vectors that were folded is to be dropped.
        """
        self._found = Tally()
        notes = {name: fact for name, fact in facts.items() if is_note(name)}
        kept = {name: text for name, text in notes.items() if not _is_made_anew(name)}
        self.notes = kept | self.notes
        sums = ((name, decode_sum(text)) for name, text in notes.items() if name.startswith(SUM))
        self._sums = {name.removeprefix(SUM): kept for name, kept in sums if kept is not None}
        self._summed = set(self._sums)
        folded = {member_of(vector): run_of(vector) for vector in self._sums if is_folded(vector)}
        for member in folded.keys() - facts.keys():
            facts = {**facts, member: ""}
        for member, fact in facts.items():
            if is_note(member):
                if member.startswith(_LOG):
                    self.logs.join(member.removeprefix(_LOG), decode_positions(fact))
                continue
            latest, removed, mark = decode_fact(fact)
            # A folded vector has a sum from the step in which the mark is written: if that is
            # another one, it was damaged.
            mark = max(mark, folded.get(member, ""))
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
        self.joining.expect(member for member in self.members if member != self.member)
        self.runs.opened(notes)
        self.keys.opened(notes, self.runs.zero)

    def own_fact(self) -> dict[str, str]:
        """What the store must keep before anybody hears of this run, lest a later one be older."""
        return {self.member: self._fact(self.member)} | self.runs.own_note()

    def loaded(self, vector: str, counts: Mapping[str, int]) -> set[str]:
        """Join what the store holds of a vector; return what grew.

        Its own vector is what it wrote itself: that is committed with `stored`, not here.
        """
        if vector == self.id:
            return set()
        if not self.tally.current(vector):
            self._found.merge(vector, counts)
        return set(self.tally.merge(vector, counts))

    def suspect(self, vector: str, counts: Mapping[str, int]) -> None:
        """Take note of a piece of a vector that is not as it was written.

        It is asked of the peers, and used only for want of anything better.
        """
        if vector != self.id and self.tally.current(vector):
            written = self._sums.get(vector)
            total = None if written is None else written.total
            known = self._suspects.setdefault(vector, Suspect({}, total))
            self._summed.discard(vector)
            known.counts.update(counts)
            self._replace.add(vector)

    def _settle_suspects(self) -> set[str]:
        """Use what is not as it was written, as far as no peer holds it; return what grew.

        No vector gets larger by that than it was when it was written.
        """
        grew: set[str] = set()
        for vector, (counts, total) in self._suspects.items():
            if total is None or self.tally.total(vector) < total:
                refused = None if total is None else Refused(total)
                grew.update(self.tally.merge(vector, counts, refused))
                self.runs.changed(vector)
        self._suspects = {}
        return grew

    def all_loaded(self) -> set[str]:
        """Everything that the store held was given to `loaded`. Returns what grew by that.

        What it holds under an older fold mark is joined like another node's copy.
        """
        self._loading = False
        effects = Effects()
        mark = self._found.mark(self.member)
        if self.tally.mark(self.member) < mark < run_of(self.id):
            # Its store has folded its own earlier runs, which the memory knows as of before.
            self._fold_here(Fold(self.tally, self.member, mark))
        for member in {member_of(vector) for vector, _ in self._found.vectors()}:
            mark = self.tally.mark(member)
            if not mark:
                continue  # it is ahead of the memory, which follows that with the next flushes
            fold = Fold(self._found, member, mark)
            fold.step(MAX_COUNT)
            self._merge(fold.id, dict(fold.vector.items()), effects, self._started)
        self._found = Tally()
        self.pending.drop_known()
        # Before it says its first word: who hears that takes it for all that there is.
        self.runs.sort(self.pending.waiting())
        return effects.grew

    def batch(self, limit: int) -> Batch:
        """Take what is to be written next: every visit, and about `limit` other rows.

        One batch at a time: it ends with `stored` or `not_stored`.
        """
        self._rescue()
        own, notes = self.pending.take()
        rows: dict[str, dict[str, int]] = {}
        replaced = set() if self._suspects or self._loading else self._replace
        for vector in replaced:
            # In one step, or a crash in between would lose what the store has of it.
            rows[vector] = dict(self.tally.vector(vector).items())
            self._unsaved.pop(vector, None)
        self._replace = self._replace - replaced
        for vector, videos in list(self._unsaved.items()):
            if limit <= 0:
                break
            if vector in self._suspects:
                continue
            count = self.tally.vector(vector).count
            rows[vector] = {video: count(video) for video in videos.take(limit)}
            limit -= len(rows[vector])
            if not videos:
                del self._unsaved[vector]
        counts = dict(rows)
        for run, of_run in own.items():
            counts[run] = _larger(counts.get(run, {}), of_run)
        # What a store that forgot has of older vectors stays until it has the newer ones.
        held = set(self.folding.followed)
        if self._unsaved or self._loading:
            held |= {member_of(vector) for vector in self._drop}
        # No mark is followed while its own run is in it, or the store may know more of its parts.
        may_follow = not (self._loading or self.ended_by_others or self._waits_below_mark())
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
        drop += replaced
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
        sums = self._sums_with(counts, own, drop, fold)
        return Batch(counts, own, notes, rows, facts, self.runs.batch(), sums, drop, folds, keys)

    def _sums_with(
        self, counts: Counts, own: Counts, drop: Collection[str], fold: Fold | None
    ) -> dict[str, str]:
        """What the store holds of vectors once it has these counts; "" where that is not known."""
        sums = {sum_name(vector): "" for vector in drop}
        known = set() if self._loading else {v for v in self.tally.totals() if v != self.id}
        for vector in (counts.keys() | (known - self._summed)) - self._suspects.keys():
            if fold is not None and vector == fold.id:
                if fold.complete:
                    sums[sum_name(vector)] = encode_sum(fold.vector.total, fold.vector.digest)
            elif self._loading or vector in self._unsaved:
                sums[sum_name(vector)] = ""
            elif vector not in drop or counts.get(vector):
                total, digest = self.tally.sum_with(vector, own.get(vector, {}))
                sums[sum_name(vector)] = encode_sum(total, digest)
        return sums

    def stored(self, batch: Batch) -> set[str]:
        """The store holds the batch: its visits are committed. Returns the videos that grew."""
        self.keys.stored(batch.keys)
        for name, text in batch.notes.items():
            self.notes[name] = text
            if not text:
                del self.notes[name]
        for name, text in batch.sums.items():
            (self._summed.add if text else self._summed.discard)(name.removeprefix(SUM))
        grew: set[str] = set()
        for run, growths in self.pending.stored(batch.own).items():
            if growths:
                # It may be one that has closed meanwhile, and what is said of its day with it.
                self.runs.changed(run)
            unpublished = self._unpublished.setdefault(run, {})
            for video, growth in growths.items():
                unpublished[video] = unpublished.get(video, 0) + growth
            grew.update(growths)
        if batch.folds and self.folding.under_way is not None:
            self._folded(self.folding.under_way)
            self.folds += 1
        return grew

    def not_stored(self, batch: Batch) -> None:
        """The store may or may not hold the batch: everything in it is to be written again."""
        self.pending.not_stored(batch.own, batch.notes)
        self.keys.not_stored(batch.keys)
        self.runs.not_stored(batch.runs)
        self._summed -= {name.removeprefix(SUM) for name in batch.sums}
        for vector, counts in batch.rows.items():
            self._note_unsaved(vector, counts)
        self._unsaved_facts.update(batch.facts)
        current = set(filter(self.tally.current, batch.drop))
        self._replace |= current & batch.rows.keys()
        self._drop.update(set(batch.drop) - current)
        fold = self.folding.under_way
        if fold is not None:
            fold.restart(in_doubt=batch.folds)
            if fold.in_doubt:
                self._drop.discard(fold.id)

    def forgotten(self, vectors: Collection[str], facts: Mapping[str, str]) -> None:
        """The store lost something: all that is committed is to be written again.

        `vectors` and `facts` are what it knows now. Ends with `all_loaded`, for it may hold more
        than is known here.
        """
        self.folding.under_way = None
        self._loading = True
        self.keys.forgotten()
        self.runs.forgotten()
        self.opened(vectors, facts)
        self._summed = set()
        self.pending.note(self.notes)
        self._unsaved = {}
        for vector, videos in self.tally.vectors():
            self._note_unsaved(vector, videos)
        self._unsaved_facts = set(self.members)

    def unsaved(self) -> bool:
        """Whether there is anything to be written: visits or news."""
        return bool(self.pending) or self.news()

    def news(self) -> bool:
        """Whether there is anything to be written beside visits: others' counts, a fold, a run."""
        return bool(
            self.pending.notes
            or self.keys.unsaved()
            or self.runs.unsaved()
            or self._unsaved
            or self.folding.under_way
            or self.needs_new_run
            or (self._replace and not self._suspects)
            or (not self._loading and (self._unsaved_facts or self._drop or self.folding.followed))
        )

    # -- its own run

    @property
    def ended_by_others(self) -> bool:
        """Whether others have ended this run: it was folded, or this member removed, unheard.

        Nobody listens to a run that was folded.
        """
        run = run_of(self.id)
        return run <= max(self.folding.mark(self.member), self.members.removed(self.member))

    @property
    def needs_new_run(self) -> bool:
        """Whether to go on as a new run.

        Not while the store may hold visits for a run that was folded.
        """
        ended_by_others = self.ended_by_others and not self.pending.in_doubt
        return ended_by_others or self._reverts.proven or self._misdated or self.pending.is_full

    def start_new_run(self, run: str, now: float, *, reverted: bool = False) -> set[str]:
        """Go on as a new run, later than any known of this member. Not while there is a batch.

        What the old run has counted stays where it is, as that of any run that has closed; of a
        run that was folded the new one takes over what was not written yet. With `reverted` the
        memory is known to have been put back. Returns the videos that grew, by what others hold of
        such a run.
        """
        before, larger = self.id, self._reverts.larger
        reverted = reverted or bool(larger)
        self.id = replica_of(self.member, run)
        self.pending.begin(self.id)
        grew: dict[str, int] = {}
        if larger and (grew := self.tally.merge(before, larger)):
            self._note_unsaved(before, grew)
            self.runs.changed(before)
        self.pending.drop_known()
        self._rescue()
        self.folding.own = self.id
        self.keys.start_new_run(self.id, reverted=reverted)
        self.reports.start_new_run(self.id)
        self._reverts.begin(self.id)
        self.runs.start_new_run(self.id, round((now + self._epoch) * 1000))
        self._misdated = False
        self._started = now
        self._learn(self.member, run)
        return set(grew)

    def _waits_below_mark(self) -> list[str]:
        """The runs of this process whose visits are pending, though others have folded them."""
        mark = self.folding.mark(self.member)
        return [run for run in self.pending.waiting() if run_of(run) <= mark]

    def _rescue(self) -> None:
        """Have the present run count what is pending of runs that others have folded."""
        if not self.pending.in_doubt and not self.ended_by_others:
            for run in self._waits_below_mark():
                self.pending.move(run)

    def clock_stepped(self, epoch: float) -> None:
        """The wall clock was set: it now has this Unix time at the zero of the other clock.

        A run that was dated wrongly by more than a message may live ends.
        """
        if abs(epoch - self._epoch) > self._message_ttl:
            self._epoch = epoch
            self._misdated = True

    # -- outgoing

    def publish(self) -> list[tuple[str, Delta]]:
        """What changed since the last call, with the run that tells it, in as many deltas as it
        takes; see `Keys.publish`.
        """
        unpublished, self._unpublished = self._unpublished, {}
        deltas = []
        for run, growth in sorted(unpublished.items()):
            remaining = iter(growth.items())
            while page := dict(_page(remaining)):
                total = self.tally.total(run)
                if run == self.id:
                    self.reports.published += sum(page.values())
                    total = self.reports.published
                counts = {video: self.tally.count(run, video) for video in page}
                deltas.append((run, Delta(counts, total)))
        # Only now: who hears of the position before the counts would lose them with this store.
        read = decode_positions(self.notes.get(_LOG + self._log, ""))
        told = self.logs.of(self._log)
        news = {file: position for file, position in read.items() if told.get(file) != position}
        if deltas and news:
            run, last = deltas[-1]
            deltas[-1] = run, replace(last, read={self._log: news})
        if news:
            self.logs.join(self._log, read)
        return deltas

    def sync(self, now: float) -> Effects:
        """The periodic step: report what is held, forget peers long gone, become ready, fold."""
        self.peers.forget(now)
        for replica, told in list(self._introduced.items()):
            if now - told > self.peers.silence:
                del self._introduced[replica]
        for asked, at in list(self._asked_names.items()):
            if now - at > self._message_ttl:
                del self._asked_names[asked]
        self._repairs.forget(now)
        self._reverts.forget(now)
        self.keys.forget(now)
        self.runs.look(now, self.pending.waiting())
        grew = self._become_ready(now)
        ready = self.state == "ready" and (self._has_heard or not self._has_peers)
        self.folding.look(now, may_fold=ready and not self._loading)
        self._rest()
        effects = self._report(now)
        effects.grew.update(grew)
        return effects

    def _rest(self) -> None:
        """Put what is closed to rest in memory, some at a time: it takes as long as it is much."""
        left = MAX_PACKED
        for member in self.members:
            for vector in self.runs.closed(member):
                if vector not in self._unsaved and not self.tally.rests(vector):
                    left -= self.tally.rest(vector)
                    if left <= 0:
                        return

    def leave(self, now: float) -> Effects:
        """Say goodbye: peers answer at once with the totals they hold."""
        self.joining.state = "leaving"
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
            peer.said.total(self.id) >= total and self.keys.held(peer)
            for peer in self.peers.staying(now).values()
        )
        return self.alone(now) or any(held)

    def alone(self, now: float) -> bool:
        """Whether it hears no peer, but for those that are leaving."""
        return not self.peers.staying(now)

    # -- incoming

    def receive(self, envelope: Envelope, now: float, *, refused: bool = False) -> Effects:
        """Take one verified message in: merge it, answer it, ask for what it shows to lack.

        With `refused`, some entries of it could not be read here, and are not in it.
        """
        effects = Effects()
        sender, body = envelope.sender, envelope.body
        if sender == self.id:
            return effects
        self._has_heard = True
        self._learn(member_of(sender), run_of(sender))
        peer, returned = self.peers.hear(sender, envelope.address, now)
        if isinstance(body, Report):
            # Before it is told anything: what it reads depends on its version.
            peer.learn_version(body)
        if returned:
            self._introduce(sender, peer.address, now, effects)
        match body:
            case Delta():
                self._heard_delta(sender, body, peer, now, effects)
            case Report():
                if not peer.is_late(body, envelope.sent):
                    self._heard_report(sender, body, peer, now, effects, refused=refused)
            case ReportRequest():
                self._tell(peer.address, now, effects)
            case RepairRequest():
                effects.ask(peer, self._repairs.answer(body, self.id))
            case RepairPage():
                self._heard_answer(body, peer, now, effects)
            case KeysPage():
                asked = self.keys.was_asked(body, peer, now)
                if asked and body.keys and self.joining.wants(body.replica + " keys", body.after):
                    self.joining.progress(now)
                if asked or body.replica == sender:
                    effects.ask(peer, self.keys.merge(body, peer, now))
            case KeysRequest():
                effects.ask(peer, self.keys.answer(body, now))
            case RunsRequest():
                effects.ask(peer, self.reports.names(body))
            case RunsPage():
                self._heard_names(body, peer, now, effects)
            case Larger():
                if body.replica == self.id:
                    ask = self._reverts.claimed(body.total, peer, now, refused=body.refused)
                    effects.ask(peer, ask)
        if peer.unread:
            self._join_logs(peer)
        effects.grew.update(self._become_ready(now))
        return effects

    def _heard_delta(
        self, sender: str, delta: Delta, peer: Peer, now: float, effects: Effects
    ) -> None:
        peer.told = max(delta.total, peer.told or 0)
        self._merge(sender, delta.counts, effects, now, peer)
        effects.ask(peer, self._repairs.compare(sender, delta.total, peer, now))
        if delta.total < self.tally.total(sender):
            effects.ask(peer, self._reverts.tell(sender, peer, now))
        if delta.read:
            self._heard_delta_of_log(sender, delta, peer)

    def _heard_answer(self, answer: RepairPage, peer: Peer, now: float, effects: Effects) -> None:
        if not self._repairs.wants(answer, peer, now):
            return
        if answer.vector == self.id:
            self._reverts.answered(answer)
        else:
            writer = self.peers.get(answer.vector)
            if answer.total is not None and writer is peer:
                peer.told = max(answer.total, peer.told or 0)
            lacked = self.joining.wants(answer.vector, self.tally.total(answer.vector))
            if self._merge(answer.vector, answer.counts, effects, now, peer) and lacked:
                self.joining.progress(now)
        effects.ask(peer, self._repairs.go_on(answer, peer, now))

    def _heard_report(
        self,
        sender: str,
        report: Report,
        peer: Peer,
        now: float,
        effects: Effects,
        *,
        refused: bool,
    ) -> None:
        peer.state = report.state
        peer.health = report.health or peer.health
        if peer.is_previous:
            for member, standing in report.members.items():
                self._heard_standing(member, standing, peer)
        for member, state in report.states.items():
            self._heard_state(sender, member, state, peer, now, effects)
        for log, positions in report.logs.items():
            peer.said.say_read(log, positions)
            peer.unread = True
        checksum = report.checksum if peer.is_previous else report.said
        if checksum is not None and peer.missed(
            checksum, now, self._sync_interval, refused=refused
        ):
            effects.ask(peer, ReportRequest())
        # Who says the very same has nothing that is missing here.
        if peer.said.checksum != self.reports.said.checksum:
            self._compare(peer, now, effects)
        if report.keys is not None:
            peer.keys = report.keys
            for replica, serial in report.keys.items():
                self.joining.told(replica + " keys", serial)
            for ask in self.keys.compare(report.keys, peer, now):
                effects.ask(peer, ask)
        for replica, address in report.peers.items():
            if replica != self.id and replica not in self.peers:
                self._introduce(replica, address, now, effects)
        if report.state == "leaving":
            self._tell(peer.address, now, effects)

    def _heard_standing(self, member: str, standing: PreviousMemberReport, peer: Peer) -> None:
        """A node of the version before says how a member stands there."""
        self._learn(member, max(standing.latest, standing.mark, *standing.runs), standing.removed)
        peer.words.say(member, standing)
        if standing.mark > self.folding.mark(member):
            self._follow(member, standing.mark)

    def _heard_state(
        self,
        sender: str,
        member: str,
        state: MemberReport,
        peer: Peer,
        now: float,
        effects: Effects,
    ) -> None:
        """A node says how a member stands there."""
        self._learn(member, max(state.latest, state.mark, *state.runs), state.removed)
        peer.announced.say(member, state)
        self.folding.heard(member, state)
        if state.mark > self.folding.mark(member):
            self._follow(member, state.mark)
        for run, (total, _, date) in state.runs.items():
            vector = replica_of(member, run)
            self.runs.learn_date(vector, date)
            self.joining.told(vector, total)
            if vector == sender:
                peer.told = max(total, peer.told or 0)
                if total < self.tally.total(sender):
                    effects.ask(peer, self._reverts.tell(sender, peer, now))

    def _heard_names(self, page: RunsPage, peer: Peer, now: float, effects: Effects) -> None:
        """The closed runs of a day, which were asked for because a digest is another."""
        if (peer.address, page.member, page.day) not in self._asked_names:
            return
        follows = peer.announced.name(page)
        self._learn(page.member, max(page.runs, default=""))
        for run, (total, _, _) in page.runs.items():
            if follows and self.joining.told(replica_of(page.member, run), total):
                self.joining.progress(now)
        for run, (_, _, date) in page.runs.items():
            self.runs.learn_date(replica_of(page.member, run), date)
        if page.next and follows:
            self._asked_names[peer.address, page.member, page.day] = now
            effects.ask(peer, RunsRequest(page.member, page.day, page.next))
        else:
            self._compare(peer, now, effects)

    def _compare(self, peer: Peer, now: float, effects: Effects) -> None:
        """Ask for what a peer holds and this node does not."""
        for vector, copy in peer.copies():
            if vector == self.id:
                effects.ask(peer, self._reverts.claimed(copy.total, peer, now))
            else:
                effects.ask(peer, self._repairs.compare(vector, copy.total, peer, now))
                effects.ask(peer, self._repairs.compare_content(vector, copy, peer, now))
        for member, day in self.joining.unnamed(peer):
            asked = self._asked_names.get((peer.address, member, day))
            if peer.address and (asked is None or now - asked >= self._sync_interval):
                self._asked_names[peer.address, member, day] = now
                effects.ask(peer, RunsRequest(member, day, ""))

    def _merge(
        self,
        vector: str,
        counts: Mapping[str, int],
        effects: Effects,
        now: float,
        teller: Peer | None = None,
    ) -> bool:
        """Merge counts of another run, which `teller` has told; say whether anything was news.

        Nothing of a writer that is heard goes beyond the total that it has told: it would be a
        fault, or the sign of one that was put back to an earlier state.
        """
        # What is being folded rests meanwhile: a repair brings later what that misses.
        if vector == self.id or self.folding.rests(vector):
            return False
        writer = self.peers.get(vector)
        refused = None
        if writer is not None and writer.is_previous is False and writer.told is not None:
            heard = now - writer.heard <= self.peers.silence
            # Who was killed before it told all that its store holds has a next run tell the rest.
            if heard and (teller is writer or not self.peers.succeeded(vector)):
                refused = Refused(writer.told)
        grew = self.tally.merge(vector, counts, refused)
        if writer is not None and refused is not None and refused.videos:
            effects.ask(writer, self._reverts.tell(vector, writer, now, refused.videos))
        if grew:
            self._note_unsaved(vector, grew)
            self.runs.changed(vector)
            effects.grew.update(grew)
        return bool(grew)

    def _note_unsaved(self, vector: str, videos: Iterable[str]) -> None:
        unsaved = self._unsaved.get(vector)
        if unsaved is None:
            unsaved = self._unsaved[vector] = self.tally.no_videos()
        unsaved.update(videos)

    # -- visit logs

    def _heard_delta_of_log(self, sender: str, delta: Delta, peer: Peer) -> None:
        """Take how far a log was read, if all is held here that this stands for."""
        member = member_of(sender)
        said = ((v, copy.total) for v, copy in peer.copies() if member_of(v) == member)
        if all(self.holds(*copy) for copy in ((sender, delta.total), *said)):
            for log, positions in delta.read.items():
                self._heard_read(log, positions)

    def _heard_read(self, log: str, positions: Positions) -> None:
        """A log was read so far, and all that was read is held here."""
        if self.logs.join(log, positions):
            read = join(self.logs.of(log), self._read if log == self._log else {})
            self.pending.note({_LOG + log: encode_positions(read)})

    def _join_logs(self, peer: Peer) -> None:
        """Take what a peer has said of logs, once all is held here that it holds."""
        unnamed = next(self.joining.unnamed(peer), None)
        if unnamed is None and all(self.holds(v, copy.total) for v, copy in peer.copies()):
            for log, positions in peer.said.logs.items():
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

    def _become_ready(self, now: float) -> set[str]:
        """Ready once it holds every total, and key, that the peers it hears have advertised.

        Returns the videos that grew, by what was not as it was written.
        """
        if self.joining.look(self.holds, now):
            for peer in self.peers.live(now).values():
                self._join_logs(peer)
        if not self._suspects:
            return set()
        # Also a member that is not heard yet may hold it as it was written.
        waits = self._has_peers and any(self.folding.fold_blockers(now))
        return set() if waits or not self.complete else self._settle_suspects()

    def suspected(self) -> list[str]:
        """The vectors that are not as they were written, and not used before all were asked."""
        return sorted(self._suspects)

    def holds(self, vector: str, total: int) -> bool:
        """Whether it holds so much of a vector; what is folded here counts as held."""
        if vector == self.id or self.tally.current(vector):
            return vector == self.id or self.tally.total(vector) >= total
        return run_of(vector) <= self.tally.mark(member_of(vector))

    # -- what it looks like

    def duplicate_names(self, now: float) -> dict[str, bool]:
        """Names that two live replicas bear; see `Peers.duplicate_names`."""
        return self.peers.duplicate_names(self.id, self._started, now)

    def roster(self, now: float) -> list[Member]:
        """Every member that is known, sorted."""
        visits, newest = self.tally.members(), self.peers.newest()
        total = self.tally.total(self.id)
        members = []
        for member in sorted(self.members):
            live, state, heard, behind = False, None, None, None
            health = None
            if member == self.member:
                live, state, heard, behind = True, self.state, 0.0, 0
                health = self.reports.health
            elif (peer := self.peers.get(newest.get(member, ""))) is not None:
                live = now - peer.heard <= self.peers.silence and peer.state != "leaving"
                behind = max(0, total - peer.said.total(self.id)) if live else None
                state, heard = peer.state, now - peer.heard
                health = peer.health if live else None
            runs = sum(not is_folded(vector) for vector in self.tally.of(member))
            removed = self.members.is_removed(member)
            closed = len(self.runs.closed(member))
            folded = self.tally.total(folded_of(member, self.tally.mark(member)))
            count = visits.get(member, 0)
            told = (live, state, heard, behind)
            told_runs = (removed, folded, runs, closed)
            members.append(Member(member, count, *told, *told_runs, health))
        return members


def _is_made_anew(note: str) -> bool:
    """Whether a note of the store is not kept as it is, but made of what is known here."""
    return is_key(note) or is_run(note) or note.startswith(SUM)


def _larger(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """The larger count of each video."""
    return {**one, **{video: max(n, one.get(video, 0)) for video, n in other.items()}}


def _page(growth: Iterator[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """As many entries as fit into one message."""
    size = 0
    for video, visits in growth:
        yield video, visits
        size += len(video) + 12
        if size > PAGE_BYTES:
            return
