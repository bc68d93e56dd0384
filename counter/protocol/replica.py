"""The protocol: one run of a node, the only writer of its vector.

Sans-I/O: every step takes the time and what came in, and returns `Effects`: what to send, and
which videos grew. It is called by one thread at a time; the node holds the lock.

A visit is *pending*, then *in flight*, then *committed*: in the tally, shown, published, reported
(see `pending.py`). Only what the store holds is committed, so nothing is ever shown or told that a
crash could take back.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from msgspec.structs import replace

from counter.crdt.ids import member_of, name_of, replica_of, run_of
from counter.crdt.tally import Tally
from counter.protocol.anti_entropy import AntiEntropy
from counter.protocol.backlog import Backlog
from counter.protocol.batch import Batch
from counter.protocol.bounds import Bounds
from counter.protocol.deltas import Deltas
from counter.protocol.effects import Effects
from counter.protocol.folding import Folding
from counter.protocol.joining import Joining
from counter.protocol.key_log import Key
from counter.protocol.keys import Keys
from counter.protocol.ledger import Ledger
from counter.protocol.logs import Logs
from counter.protocol.members import Members
from counter.protocol.messages import (
    Body,
    Delta,
    Envelope,
    KeysPage,
    Larger,
    Question,
    RepairPage,
    Report,
    ReportRequest,
    RowsPage,
    RunsPage,
    State,
)
from counter.protocol.peers import Peer, Peers
from counter.protocol.pending import Pending
from counter.protocol.questions import Questions
from counter.protocol.records import RecordsPage
from counter.protocol.recovery import Recovery
from counter.protocol.repairs import Repairs
from counter.protocol.reports import Reports
from counter.protocol.reverts import Reverts
from counter.protocol.roster import Roster
from counter.protocol.runs import Runs
from counter.protocol.succession import Succession
from counter.protocol.suspects import Suspects

_NO_NOTES: Mapping[str, str] = MappingProxyType({})


class Replica:
    """One run of a node: counts visits, tells the others, repairs what it missed, folds.

    `has_peers` says whether there is anybody to wait for before being ready; `join_timeout`,
    `sync_interval`, `message_ttl` and `fold_after` are in seconds, and so is every `now`, of any
    clock that never goes back; `epoch` is the Unix time of its zero. Not thread-safe.
    """

    anti_entropy_class: type[AntiEntropy] = AntiEntropy
    folding_class: type[Folding] = Folding
    joining_class: type[Joining] = Joining
    keys_class: type[Keys] = Keys
    ledger_class: type[Ledger] = Ledger
    pending_class: type[Pending] = Pending
    questions_class: type[Questions] = Questions
    recovery_class: type[Recovery] = Recovery
    repairs_class: type[Repairs] = Repairs
    reports_class: type[Reports] = Reports
    reverts_class: type[Reverts] = Reverts
    succession_class: type[Succession] = Succession

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
        self.id, self.member, self.name = replica, member_of(replica), name_of(replica)
        self.tally = tally
        self.members = members = Members()
        members.learn(self.member, run_of(replica))
        self.peers = peers = Peers(3 * sync_interval, message_ttl)
        date = round((now + epoch) * 1000)
        self.runs = runs = Runs(replica, date, tally, members, peers, message_ttl, now)
        self.pending = pending = self.pending_class(replica, tally)
        questions = self.questions_class(2 * sync_interval)  # after that a peer is asked again
        self.keys = keys = self.keys_class(
            replica, peers, questions, sync_interval, epoch, message_ttl, now
        )
        self.folding = folding = self.folding_class(
            replica, tally, members, peers, runs, message_ttl=message_ttl, fold_after=fold_after
        )
        self.ledger = ledger = self.ledger_class(
            tally, pending, questions, sync_interval, message_ttl
        )
        known = replica, tally, members, peers
        self.joining = joining = self.joining_class(
            *known, runs, keys, ledger, join_timeout, now, has_peers=has_peers
        )
        self.logs = logs = Logs(self.member, tally, pending, joining)
        self.reports = reports = self.reports_class(*known, keys, logs, runs, ledger)
        self.roster = roster = Roster(replica, now, members, tally, peers, runs, reports, joining)
        self._suspects = suspects = Suspects(tally, runs)
        self.backlog = backlog = Backlog(tally, roster, pending, folding, runs, keys, suspects)
        self.recovery = self.recovery_class(
            replica, tally, members, pending, runs, keys, folding, joining, logs, roster, backlog,
            suspects, ledger,
        )  # fmt: skip
        self._deltas = Deltas(tally, reports, ledger)
        self._repairs = self.repairs_class(tally, peers, questions, sync_interval, message_ttl)
        self._bounds = Bounds(peers)
        self._reverts = self.reverts_class(replica, tally, self._repairs, sync_interval)
        self.succession = self.succession_class(
            replica, members, pending, folding, self._reverts, epoch=epoch, message_ttl=message_ttl
        )
        self._anti_entropy = self.anti_entropy_class(
            tally, peers, roster, runs, keys, folding, joining, reports, self._repairs,
            self._reverts, backlog, ledger, questions, sync_interval, message_ttl,
        )  # fmt: skip
        self._has_heard = False

    @property
    def state(self) -> State:
        """Where it stands in its life: joining, ready, or leaving."""
        return self.joining.state

    @property
    def complete(self) -> bool:
        """Whether it has held all that its peers told it: it knows which requests were counted."""
        return self.joining.complete

    # -- visits

    def visit(self, video: str) -> None:
        """Count one visit. Raises `FullError` if there is no room for it, as `count_many` does."""
        self.pending.visit(video)

    def count_many(
        self,
        visits: Mapping[str, int],
        notes: Mapping[str, str] = _NO_NOTES,
        key: Key | None = None,
    ) -> None:
        """Count many visits, all or none: `{video: visits}`.

        Raises `FullError` if the sum of a video, as far as it is known here, would exceed its
        limit, and OverflowError if this run can count no more.

        The store gets the `notes`, `{"kind:name": text}`, in the same atomic step; a text
        replaces the one before, and an empty one removes it. The same goes for the `key`, which
        `keys.find` must not know.
        """
        self.pending.count_many(visits, notes)
        if key is not None:
            self.keys.take(key)

    def counter(self, video: str, *, pending: bool = False) -> dict[str, int]:
        """The video's committed counter, an entry a member; with `pending`, pending visits too."""
        counts = self.tally.counter(video)
        if pending:
            more = self.pending.count(video) - self.tally.count(self.id, video)
            counts[self.member] = counts.get(self.member, 0) + more
        return counts

    # -- the store

    def batch(self, limit: int) -> Batch:
        """Take what is to be written next: every visit, and about `limit` other rows.

        One batch at a time: `backlog.sum_up` completes it; it ends with `stored` or `not_stored`.
        """
        self.succession.rescue()
        return self.backlog.batch(limit, may_follow=self.succession.may_follow)

    def stored(self, batch: Batch) -> set[str]:
        """The store holds the batch: its visits are committed. Returns the videos that grew."""
        return set().union(*self.storing(batch))

    def storing(self, batch: Batch) -> Iterator[Iterable[str]]:
        """The same in steps, between which others may use the replica. Yields what grew."""
        for run, growths in self.backlog.stored(batch):
            self._deltas.add(run, growths, told=self.joining.has_peers or self._has_heard)
            yield growths
        if corrected := self.ledger.stored(batch.notes):
            yield corrected

    def not_stored(self, batch: Batch) -> None:
        """The store may or may not hold the batch: everything in it is to be written again."""
        self.backlog.not_stored(batch)

    def unsaved(self) -> bool:
        """Whether there is anything to be written: visits or news."""
        return bool(self.pending) or self.news()

    def news(self) -> bool:
        """Whether there is anything to be written beside visits: others' counts, a fold, a run."""
        return self.backlog.news(may_follow=self.succession.may_follow) or self.needs_new_run

    @property
    def needs_new_run(self) -> bool:
        """Whether to go on as a new run; see `Succession`."""
        return self.succession.is_due

    def start_new_run(self, run: str, now: float, *, reverted: bool = False) -> set[str]:
        """Go on as a new run, later than any known of this member. Not while there is a batch.

        What the old run has counted stays where it is, as that of any run that has closed; of a
        run that was folded the new one takes over what was not written yet. With `reverted` the
        memory is known to have been put back to an earlier state. Returns the videos that grew, by
        what others hold of such a run.
        """
        before, larger = self.id, self._reverts.larger
        self.id = own = replica_of(self.member, run)
        self.pending.begin(own)
        grew = self.backlog.merge(before, larger) if larger else {}
        self.pending.drop_known()
        self.succession.begin(own, now)
        self.succession.rescue()
        self.folding.own = self.joining.own = self.recovery.own = own
        self.keys.start_new_run(own, reverted=reverted or bool(larger))
        self.reports.start_new_run(own)
        self._reverts.begin(own)
        self.runs.start_new_run(own, self.succession.date(now))
        self.roster.start_new_run(own, now)
        return set(grew) | (set() if self.backlog.loading else self.recovery.join_found())

    # -- what it tells

    def publish(self, most: int | None = None) -> list[tuple[str, Delta]]:
        """What was committed since the last call, in deltas, each with the run that tells it.

        At most so many; nothing is left if there are fewer. Keys go first; see `Keys.publish`.
        """
        deltas = self._deltas.publish(most)
        read = None if self._deltas else self.logs.publish(self.backlog.notes)
        if deltas and read:
            deltas[-1] = deltas[-1][0], replace(deltas[-1][1], read=read)
        return deltas

    def sync(self, now: float) -> Effects:
        """The periodic step: report what is held, forget peers long gone, become ready, fold."""
        self.peers.forget(now)
        self._anti_entropy.forget(now)
        self._repairs.forget(now)
        self._reverts.forget(now)
        self.succession.look(now)
        self.keys.forget(now)
        self.runs.look(now, self.pending.waiting())
        grew = self._become_ready(now)
        ready = self.state == "ready" and (self._has_heard or not self.joining.has_peers)
        self.folding.look(now, may_fold=ready and not self.backlog.loading)
        know, complete = self.peers.know_classes(now), self.complete and not self.backlog.loading
        self.pending.untold.look(know=know, complete=complete)
        self.runs.rest(self.backlog, self._repairs)
        effects = self._anti_entropy.report(now)
        effects.growths.append(grew)
        return effects

    def leave(self, now: float) -> Effects:
        """Say goodbye: peers answer at once with the totals they hold."""
        self.joining.state = "leaving"
        return self._anti_entropy.report(now)

    def remove(self, member: str, now: float) -> Effects:
        """A member is gone for good: nothing waits for it any more. Its counts stay."""
        self.roster.learn(member, "", self.members.latest(member))
        return self._anti_entropy.report(now)

    def held(self, now: float) -> bool:
        """Whether a live peer holds all visits and keys of this replica, or no peer is live."""
        total, peers = self.tally.total(self.id), self.peers.staying(now).values()
        return not peers or any(
            peer.said.total(self.id) >= total and self.keys.held(peer) and self.ledger.held(peer)
            for peer in peers
        )

    # -- what it does with each message

    def receive(self, envelope: Envelope, now: float, *, refused: bool = False) -> Effects:
        """Take one verified message in: merge it, answer it, ask for what it shows to lack.

        With `refused`, some entries of it could not be read here, and are not in it.
        """
        effects = Effects()
        sender, body = envelope.sender, envelope.body
        if sender == self.id:
            return effects
        self.roster.learn(member_of(sender), run_of(sender), source="heard")
        if member_of(sender) not in self.members:
            effects.left_out += 1
            return effects
        self._has_heard = True
        peer, returned = self.peers.hear(sender, envelope.address, now)
        if isinstance(body, Report):
            # Before it is told anything: what it reads depends on its version.
            peer.learn_version(body)
            self.pending.untold.keeps |= peer.knows == 0
        if returned:
            self._anti_entropy.introduce(sender, peer.address, now, effects)
        if not isinstance(body, Report):
            self._heard(sender, body, peer, now, effects)
        elif not peer.is_late(body, envelope.sent):
            self._anti_entropy.heard_report(sender, body, peer, now, effects, refused=refused)
        if peer.unread:
            self.logs.heard_all(peer)
        effects.growths.append(self._become_ready(now))
        return effects

    def _heard(self, sender: str, body: Body, peer: Peer, now: float, effects: Effects) -> None:
        match body:
            case Delta():
                self._heard_delta(sender, body, peer, now, effects)
            case ReportRequest():
                self._anti_entropy.tell_again(sender, peer.address, now, effects)
            case _ if isinstance(body, Question):
                self._anti_entropy.answer(sender, body, peer, now, effects)
            case RepairPage() | RowsPage():
                self._heard_repair(body, peer, now, effects)
            case KeysPage():
                self._anti_entropy.heard_keys(sender, body, peer, now, effects)
            case RunsPage():
                self._anti_entropy.heard_names(sender, body, peer, now, effects)
            case RecordsPage():
                self._anti_entropy.heard_page(body, peer, now, effects)
            case Larger() if body.replica == self.id:
                ask = self._reverts.claimed(body.total, peer, now, refused=body.refused)
                effects.ask(peer, ask)

    def _heard_delta(
        self, sender: str, delta: Delta, peer: Peer, now: float, effects: Effects
    ) -> None:
        peer.told = max(delta.total, peer.told or 0)
        self._merge(sender, delta.counts, peer, now, effects)
        effects.ask(peer, self._repairs.compare(sender, delta.total, peer, now))
        if delta.total < self.tally.total(sender):
            effects.ask(peer, self._reverts.tell(sender, peer, now))
        self._anti_entropy.heard_records(delta.records, now, effects)
        if delta.read:
            self.logs.heard_delta(sender, delta, peer)

    def _heard_repair(
        self, answer: RepairPage | RowsPage, peer: Peer, now: float, effects: Effects
    ) -> None:
        page = self._repairs.read(answer, peer, now)
        if page is None:
            return
        if page.vector == self.id:
            self._reverts.answered(page)
        else:
            if page.total is not None and self.peers.get(page.vector) is peer:
                peer.told = max(page.total, peer.told or 0)
            lacked = self.joining.wants(page.vector, self.tally.total(page.vector))
            if self._merge(page.vector, page.counts, peer, now, effects) and lacked:
                self.joining.progress(now)
                self.runs.rest(self.backlog, self._repairs, len(page.counts))
        effects.ask(peer, *self._repairs.go_on(page, peer, now))

    def _merge(
        self, vector: str, counts: Mapping[str, int], teller: Peer, now: float, effects: Effects
    ) -> bool:
        """Merge counts of another run, which `teller` has told; say whether anything was news."""
        if vector == self.id:
            return False
        bound = self._bounds.of(vector, teller, now)
        grew = self.backlog.merge(vector, counts, bound)
        if bound.videos:
            effects.beyond += len(bound.videos)
            if (writer := self.peers.get(vector)) is not None:
                effects.ask(writer, self._reverts.tell(vector, writer, now, bound.videos))
        effects.growths.append(grew)
        return bool(grew)

    # -- what follows in time

    def _become_ready(self, now: float) -> set[str]:
        """Become ready once it holds every total, and key, that the peers it hears advertise.

        Returns the videos that grew, by vectors that failed their check.
        """
        if self.joining.look(now):
            for peer in self.peers.live(now).values():
                self.logs.heard_all(peer)
        if not self._suspects:
            return set()
        # A member that is not heard yet may hold them as they were written.
        waits = self.joining.has_peers and any(self.folding.fold_blockers(now))
        return set() if waits or not self.complete else self._suspects.settle()
