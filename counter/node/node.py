"""One node: opens store and transport, owns every thread, starts and stops in order."""

import gc
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from threading import Event, Lock, Thread
from typing import Any, NamedTuple

import msgspec

from counter.config import LIVE_PAGES, Config
from counter.crdt.gcounter import MAX_COUNT
from counter.crdt.ids import member_of, mint_run, mint_store, name_of, run_of
from counter.crdt.limits import FullError, shown_counts, visits_of
from counter.crdt.tally import Tally
from counter.node.flusher import Flush, Flusher
from counter.node.follower import Follower
from counter.node.live import Live
from counter.node.metrics import Gauges, Metrics
from counter.node.pauses import PauseMeter
from counter.node.rates import Rates
from counter.node.schedule import Schedule
from counter.node.visit_log import VisitLog
from counter.protocol import messages
from counter.protocol.clocks import Clocks
from counter.protocol.effects import Effects
from counter.protocol.joining import Lack
from counter.protocol.key_log import Key
from counter.protocol.members import decode_fact, is_note
from counter.protocol.messages import (
    Body,
    Envelope,
    Health,
    RejectedError,
    RepairPage,
    ReportRequest,
    State,
)
from counter.protocol.replica import Replica
from counter.protocol.roster import Member
from counter.store.contract import (
    Known,
    Offload,
    Opened,
    Store,
    StoreRefusedError,
    StoreTakenError,
    run_here,
)
from counter.store.redis import RedisStore
from counter.store.sqlite import SqliteStore
from counter.transport.contract import Transport
from counter.transport.mesh import MeshTransport
from counter.transport.rabbitmq import RabbitmqTransport

log = logging.getLogger("counter")

_GATHER = 0.1
"""Seconds between two writes where no visitor waits for them."""
_ANSWER_TIME = 10.0
"""Seconds that a visit waits for the store, at most."""
_DRAIN_WAIT = 3.0
"""Seconds that a stopping node waits for its last visits to be stored, and held by a peer."""
_LARGE = 10_000
"""Bytes of an answer in a repair from which on it is followed by a rest."""
_LONGEST_REST = 0.05
"""Seconds."""
_STEP = 1.0
"""Seconds that the wall clock moves by, beside a monotonic one, when it was set."""


class NotCountedError(Exception):
    """The visit was certainly not counted; it may be sent again, here or elsewhere."""


class MaybeCountedError(Exception):
    """The visit may be counted: its batch failed half-way, and will be written again."""


class KeyTakenError(Exception):
    """The key belongs to another request."""


class NotReadyError(Exception):
    """Too early, or too late, to ask this node for that."""


class UnknownMemberError(Exception):
    """No such member is remembered here."""


class LiveMemberError(Exception):
    """A member that runs cannot be removed: it would only come back."""


class FoldBlocker(NamedTuple):
    """A member that folding waits for, which is silent for so many seconds.

    `heard` is None if this process never heard it: then `silent` is since it could have.
    With `earlier_life` a live member has its name: the store of that node was lost or replaced.
    """

    member: str
    heard: float | None
    silent: float
    earlier_life: bool


class Rate(NamedTuple):
    """How fast a member counts, and speaks; a second. None while that is not known."""

    visits: float | None
    messages: float | None


class Folding(NamedTuple):
    """How many runs are closed and not folded, how many folds were done, and who is awaited."""

    closed: int = 0
    folds: int = 0
    waits_for: Sequence[FoldBlocker] = ()


class Node:
    """A running node. Every method may be called by any thread.

    Made once; `start` and `stop` are called once, in this order. `replica` is None until the
    store is open: visits wait for that, unless it is known to have failed.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.store: Store | None = None
        self.transport: Transport | None = None
        self.mesh: MeshTransport | None = None
        """The transport, if it is one that the web server takes messages in for."""
        self.live = Live(self._live_message, LIVE_PAGES)
        self.metrics = Metrics(self._gauges)
        self.cut = False
        self._beat = PauseMeter()
        self._lock = Lock()
        self._pages = Lock()
        self._flusher: Flusher | None = None
        self.follower: Follower | None = None
        """None without a VISIT_LOG."""
        self._draining = Event()
        self._stopping = Event()
        self._waits_cancelled = Event()
        self._ready = False
        self._held_by = ""
        self._counted_again = 0
        self._sent = 0
        self._growth, self._talk = Rates(), Rates()
        self._listens_since = time.monotonic()
        self._clocks = Clocks(config.message_ttl, 3 * config.sync_interval)
        self._zero = _zero()
        self._differed = False
        self._warned: dict[str, float] = {}
        self._exit = ExitStack()
        self._end: Callable[[], None] = lambda: None
        # The random part tells two lives of one process id apart.
        self._holder = (
            f"{config.name or 'a node'} (process {os.getpid()} on {socket.gethostname()}, "
            f"port {config.listen_port}, started {time.strftime('%Y-%m-%d %H:%M:%S')}, "
            f"{secrets.token_hex(4)})"
        )

    @property
    def replica(self) -> Replica | None:
        """This run; None until the store is open."""
        return self._flusher.replica if self._flusher else None

    @property
    def name(self) -> str:
        """The node's name as people see it; "" while it is neither set nor read from the store."""
        return self.replica.name if self.replica else self.config.name or ""

    # -- visits and readers

    def visit(self, video: str) -> dict[str, int] | None:
        """Count one visit; return the video's counter with it, None while joining.

        With `ACK=stored` it returns when the store holds the visit. Raises `NotCountedError`,
        `MaybeCountedError`, or `FullError`, where no node could count it, ever.
        """
        stored, flusher = self.config.ack == "stored", self._opened()
        with self._lock:
            replica = self._counting(flusher)
            try:
                replica.visit(video)
            except FullError:
                self.metrics.refused.labels("409").inc()
                raise
            except OverflowError as error:
                raise self._refuse(str(error)) from None
            flush = flusher.gathering
            counter = None if stored else replica.counter(video, pending=True)
            joining = replica.state == "joining"
        self.metrics.visits.inc()
        flusher.wake()
        if not stored:
            return None if joining else counter
        self._await(flush)
        return None if joining else self.counter(video)

    def count_many(
        self, visits: Mapping[str, int], key: str = "", fingerprint: bytes = b""
    ) -> bool:
        """Count many visits, all or none; with a `key` that is known, see only that they are.

        Returns whether they were counted now, not before. The `fingerprint` tells the request
        that has the key from others. With `ACK=stored` it returns when the store holds the visits.
        Raises `NotCountedError`, `MaybeCountedError`, `FullError` if a video has no room for them
        on any node, or `KeyTakenError` if another request has the key.
        """
        flusher, now = self._opened(), time.monotonic()
        with self._lock:
            found = self.replica.keys.find(key, now) if key and self.replica else None
            if found is None:
                replica = self._counting(flusher)
                if key and not self._is_complete(replica, now):
                    raise self._refuse("this node is joining, and may not know this key yet")
                try:
                    taken = Key(key, fingerprint, now) if key else None
                    replica.count_many(visits, key=taken)
                except FullError:
                    self.metrics.refused.labels("409").inc()
                    raise
                except OverflowError as error:
                    raise self._refuse(str(error)) from None
            # What a key belongs to may be counted, whatever becomes of this request: from here
            # on the answer is never 503.
            flush = flusher.writing if found and found.place == "in flight" else flusher.gathering
        if found is None:
            self.metrics.visits.inc(sum(visits.values()))
            flusher.wake()
        else:
            self.metrics.repeats.inc()
            if found.fingerprint != fingerprint:
                raise KeyTakenError(f"the key {key!r} belongs to a request with another body")
            if found.place == "committed":
                return False
        if self.config.ack == "stored":
            self._await(flush)
        return found is None

    def _opened(self) -> Flusher:
        """What keeps the counts in the store, once that was opened, or has failed."""
        flusher = self._flusher
        if flusher is None or not (flusher.tried.is_set() or flusher.tried.wait(_ANSWER_TIME)):
            raise self._refuse("this node is starting")
        return flusher

    def _counting(self, flusher: Flusher) -> Replica:
        """The replica, if visits can be counted now; under the lock."""
        if self._draining.is_set():
            raise self._refuse("this node is stopping")
        replica = flusher.replica
        if replica is None or (flusher.error and self.config.ack == "stored"):
            raise self._refuse(f"the store is down: {flusher.error}")
        return replica

    def _await(self, flush: Flush) -> None:
        """Return when the store holds the visits that wait for this flush."""
        if not flush.wait(_ANSWER_TIME):
            self.metrics.refused.labels("504").inc()
            raise MaybeCountedError("the store failed while it was writing this visit")

    def counter(self, video: str) -> dict[str, int]:
        """The video's visible counter: `{member: count}`."""
        with self._lock:
            return self.replica.counter(video) if self.replica else {}

    def top(self, limit: int) -> list[str]:
        """The most visited videos."""
        with self._lock:
            return self.replica.tally.top(limit) if self.replica else []

    @property
    def ready(self) -> bool:
        """Whether it holds what its peers told it that there is, and is not stopping.

        Nor is its clock wrong, so that it hears none of them.
        """
        return self._ready and not self._draining.is_set() and not self.clock_wrong

    @property
    def joining(self) -> bool:
        """Whether it may still show less than its peers do."""
        return not self._ready

    @property
    def clock_wrong(self) -> bool:
        """Whether it hears nobody for its clock, and two others agree with each other."""
        with self._lock:
            return self._clocks.wrong(time.time(), time.monotonic())

    def clocks_differing(self) -> dict[str, float]:
        """The members that it does not hear for their clocks: by how many seconds they are ahead.

        They need not be among `members`.
        """
        with self._lock:
            return self._clocks.differing(time.time(), time.monotonic())

    def clock_differences(self) -> dict[str, float]:
        """By how many seconds the clock of each member is ahead that says anything."""
        with self._lock:
            return self._clocks.differences(time.time(), time.monotonic())

    def _is_complete(self, replica: Replica, now: float) -> bool:
        """Whether it has caught up with peers, if it hears any that are there; under the lock."""
        return replica.complete and not self._clocks.strange(now)

    def members(self) -> list[Member]:
        """Every member as this node sees it."""
        with self._lock:
            if self.replica is None:
                return []
            now = time.monotonic()
            self._look(self.replica, now)
            return self.replica.roster.members(now)

    def paces(self) -> dict[str, Rate]:
        """How fast each member counts and speaks, over the last seconds and as seen here."""
        with self._lock:
            if self.replica is None:
                return {}
            now = time.monotonic()
            visits, messages = self._totals(self.replica)
            return {
                member: Rate(
                    self._growth.rate(member, visits[member], now),
                    self._talk.rate(member, messages[member], now),
                )
                for member in self.replica.members
            }

    def _totals(self, replica: Replica) -> tuple[dict[str, int], dict[str, int]]:
        """How many visits and messages there are of each member; of its own, those it sent."""
        none = dict.fromkeys(replica.members, 0)
        own = {replica.member: self._sent}
        return none | replica.tally.members(), none | replica.peers.messages | own

    def _look(self, replica: Replica, now: float) -> None:
        """Note how store and transport are, and how much there is by now; under the lock."""
        assert self.store is not None
        assert self.transport is not None
        replica.reports.health = Health(
            (self.store.kind, self.store_up), (self.transport.kind, self.transport_up)
        )
        # What comes while joining was counted long ago.
        if self._ready and self._growth.due(now):
            visits, messages = self._totals(replica)
            self._growth.note(visits, now)
            self._talk.note(messages, now)

    def addresses(self) -> list[str]:
        """Where other nodes, and maybe this one, answer over HTTP, as far as it knows."""
        known = self.mesh.addresses() if self.mesh else []
        return list(dict.fromkeys([*known, *(each.rstrip("/") for each in self.config.nodes)]))

    def folding(self) -> Folding:
        """What there is to fold, and whom that waits for: nobody while there is nothing."""
        with self._lock:
            if self.replica is None:
                return Folding()
            now = time.monotonic()
            roster = {member.member: member for member in self.replica.roster.members(now)}
            closed = sum(member.closed for member in roster.values())
            live = {name_of(member) for member in roster if roster[member].live}
            waits_for = []
            for member in sorted(self.replica.folding.fold_blockers(now)) if closed else ():
                heard = roster[member].heard
                silent = now - self._listens_since if heard is None else heard
                waits_for.append(FoldBlocker(member, heard, silent, name_of(member) in live))
            return Folding(closed, self.replica.folding.folds, waits_for)

    def remove(self, member: str) -> bool:
        """Take a member for gone for good and tell the others; False if it is removed already.

        Raises `UnknownMemberError`, `LiveMemberError`, or `NotReadyError` while this node may
        not know yet who is live.
        """
        with self._lock:
            replica, now = self.replica, time.monotonic()
            if replica is None or self.state != "ready":
                raise NotReadyError(
                    f"this node is {self.state}, and may not know who is live; ask another one"
                )
            if member not in replica.members:
                raise UnknownMemberError(
                    f"{member[:100]!r} is no member that {self.name} knows; "
                    "GET /cluster lists them, as NAME~store"
                )
            if member == replica.member:
                raise LiveMemberError(
                    f"{member} is this node, which cannot remove itself: stop it and ask another"
                )
            live = replica.peers.staying(now).items()
            heard = [now - peer.heard for other, peer in live if member_of(other) == member]
            if heard:
                raise LiveMemberError(f"{member} was heard {min(heard):.1f} s ago: stop it first")
            if replica.members.is_removed(member):
                return False
            self._do(replica.remove(member, now))
        log.info("removed member=%s", member)
        self._after(())
        return True

    @property
    def state(self) -> State:
        """Where it stands in its life, as it tells its peers."""
        if self._draining.is_set():
            return "leaving"
        return "ready" if self._ready else "joining"

    @property
    def store_up(self) -> bool:
        """Whether the last write succeeded."""
        return self._flusher is not None and self._flusher.error is None

    @property
    def transport_up(self) -> bool:
        """Whether messages can go out."""
        return self.transport is not None and self.transport.up and not self.cut

    def unflushed(self) -> int:
        """How many visits the store does not hold yet."""
        with self._lock:
            return self.replica.pending.unflushed() if self.replica else 0

    @property
    def complete(self) -> bool:
        """Whether it has held all that its peers told it: it knows what was counted."""
        with self._lock:
            replica = self.replica
            return replica is not None and self._is_complete(replica, time.monotonic())

    def lacks(self) -> list[Lack]:
        """What peers hold and this node does not, while it has not caught up with them."""
        with self._lock:
            return self.replica.joining.lacks(time.monotonic()) if self.replica else []

    def duplicate_names(self) -> dict[str, bool]:
        """Names that two live nodes bear, and whether these run on copies of one store."""
        with self._lock:
            return self.replica.roster.duplicate_names(time.monotonic()) if self.replica else {}

    def suspected(self) -> list[str]:
        """The vectors of its store that are not used, because they are in doubt."""
        with self._lock:
            return self.replica.recovery.suspected() if self.replica else []

    def damage(self) -> list[str]:
        """What this process has found damaged in its store, a sentence each time."""
        return list(self._flusher.damage) if self._flusher else []

    # -- start and stop

    def start(self, end: Callable[[], None], offload: Offload = run_here) -> None:
        """Start every thread and return; the store is opened in the background.

        `end` is called if the node cannot go on: its store belongs to another process, or can
        never be used. The reason is logged.
        """
        self._end = end
        config = self.config
        if config.redis_uri:
            self.store = RedisStore(config.redis_uri, config.name or "")
        else:
            self.store = SqliteStore(config.data_dir, offload)
        if config.amqp_uri:
            self.transport = RabbitmqTransport(config.amqp_uri, config.message_ttl)
        else:
            self.mesh = MeshTransport(config.listen_host, config.listen_port, config.peers)
            self.transport = self.mesh
        self._flusher = Flusher(
            self.store,
            self._lock,
            self.metrics,
            open_store=partial(self.store.open, self._holder, _mint_store),
            mint=self._mint,
            start_new_run=self._renew,
            loaded=self._join,
            grew=self.live.grew,
            keyed=self._publish_keys,
            gather=0.0 if config.ack == "stored" else _GATHER,
        )
        self._thread("beat", self._beat.run, self._beat.stop)
        self._thread("live", self.live.run, self.live.stop)
        self._thread("store", self._keep, self._let_go)
        if config.visit_log:
            self.follower = Follower(
                VisitLog(config.visit_log, offload),
                self._flusher,
                self._lock,
                self.metrics,
                ready=lambda: self.complete,
                draining=self._draining,
                warn=self._warn,
            )
            self._thread("visit-log", self.follower.run, self._draining.set)

    def drain(self) -> None:
        """Refuse visits from now on; after `DRAIN_TIME` close the live pages, and hand over.

        The server still listens meanwhile: on a full mesh, peers could not answer otherwise.
        """
        log.info("drain seconds=%g", self.config.drain_time)
        self._draining.set()
        self._waits_cancelled.wait(self.config.drain_time)
        self.live.stop()
        self._hand_over()

    def cancel_waits(self) -> None:
        """Cut short every wait of `drain` and `stop`."""
        self._waits_cancelled.set()

    def stop(self) -> None:
        """Hand over, if `drain` did not, and end every thread."""
        self._draining.set()
        self._hand_over()
        log.info("stop unflushed=%d held=%s", self.unflushed(), self._held_by)
        self._exit.close()

    def _hand_over(self) -> None:
        """Flush, publish, wait (bounded) until a peer holds everything. Once."""
        if self._held_by:
            return
        deadline = time.monotonic() + _DRAIN_WAIT
        self._wait(lambda: self.unflushed() == 0 or not self.store_up, deadline)
        self._publish()
        if self.replica is not None and self.transport is not None:
            with self._lock:
                self._do(self.replica.leave(time.monotonic()))
            self._wait(self._held, deadline)
        self._held_by = self._holders()

    def _keep(self) -> None:
        """Own the store until the node stops; end the node if that cannot go on."""
        assert self._flusher is not None
        try:
            self._flusher.run(self._stopping)
        except (StoreTakenError, StoreRefusedError) as error:
            log.critical("refused %s", error)
            self._draining.set()
            self._waits_cancelled.set()
            self._end()

    def _let_go(self) -> None:
        assert self._flusher is not None
        self._stopping.set()
        self._flusher.wake()

    def _mint(self, opened: Opened, known: Known) -> Replica:
        """The replica of this run: an id that was never used, and a tally still to be loaded."""
        config = self.config
        runs = [run_of(vector) for vector in known.vectors]
        for name, fact in known.facts.items():
            runs += () if is_note(name) else decode_fact(fact)
        run = mint_run(int(time.time() * 1000), max(runs, default=""), secrets.randbits(64))
        name = config.name or opened.name or f"node-{opened.store[:5]}"
        replica = Replica(
            f"{name}~{opened.store}.{run}",
            Tally(),
            time.monotonic(),
            sync_interval=config.sync_interval,
            join_timeout=config.join_timeout,
            message_ttl=config.message_ttl,
            fold_after=config.fold_after,
            has_peers=bool(config.amqp_uri or config.peers),
            epoch=_zero(),
        )
        # What is here by now stays: the garbage collector need not look at it again. That is the
        # program, 20 ms of the loop each time, and the index of videos, as much with a million.
        gc.freeze()
        return replica

    def _renew(self, replica: Replica, *, reverted: bool = False) -> set[str]:
        """Go on as another run: the others have ended this one unheard, or know more of it."""
        latest = replica.members.latest(replica.member)
        run = mint_run(int(time.time() * 1000), latest, secrets.randbits(64))
        grew = replica.start_new_run(run, time.monotonic(), reverted=reverted)
        log.warning("renewed replica=%s", replica.id)
        return grew

    def _join(self) -> None:
        """The tally is loaded: speak with the others from now on."""
        assert self.transport is not None
        self._listens_since = time.monotonic()
        self._exit.callback(self.transport.stop)
        self.transport.start(self.receive, self._connected)
        self._schedule()

    def _schedule(self) -> None:
        schedule = Schedule()
        schedule.every(self.config.publish_interval, self._publish)
        schedule.every(self.config.sync_interval, self._sync)
        schedule.start()
        self._exit.callback(schedule.stop)

    def _thread(self, name: str, run: Callable[[], None], stop: Callable[[], None]) -> None:
        """Start a thread that `stop` ends; that it dies of itself is logged, and ends the node."""

        def logged() -> None:
            try:
                run()
            except Exception:
                log.exception("thread.died name=%s", name)
                self._end()

        thread = Thread(target=logged, name=name, daemon=True)
        thread.start()
        self._exit.callback(thread.join, 5.0)
        self._exit.callback(stop)

    def _wait(self, condition: Callable[[], bool], deadline: float) -> None:
        while (
            not condition() and time.monotonic() < deadline and not self._waits_cancelled.is_set()
        ):
            self._waits_cancelled.wait(0.02)

    def _held(self) -> bool:
        with self._lock:
            return self.replica is None or self.replica.held(time.monotonic())

    def _holders(self) -> str:
        """Whether its last visits are held elsewhere, for whoever thinks of deleting the store."""
        with self._lock:
            if self.replica is None or not self.replica.peers.staying(time.monotonic()):
                return "alone"
            return "yes" if self.replica.held(time.monotonic()) else "no"

    # -- the others

    def receive(self, message: bytes) -> str | None:
        """Take in one message from another node; return why it was dropped, None if it was not.

        Never raises: a bad message is counted and dropped.
        """
        self.metrics.messages_in.inc()
        self.metrics.bytes_in.inc(len(message))
        replica = self.replica
        assert replica is not None  # the transport starts when the store is loaded
        if self.cut:
            return self._drop("cut", "")
        config = self.config
        refused: list[str] = []
        try:
            envelope = messages.decode(
                message,
                config.cluster_secret,
                int(time.time() * 1000),
                int(config.message_ttl * 1000),
                refused.append,
            )
        except RejectedError as error:
            if error.envelope is not None:
                self._refuse_for_its_clock(replica, error.envelope)
            return self._drop(error.reason, str(error))
        if refused:
            self.metrics.entries_refused.inc(len(refused))
            self._warn("entry.refused", f"from={envelope.sender} {refused[0]}")
        if isinstance(envelope.body, RepairPage) and len(message) > _LARGE:
            self._take_page(replica, envelope)
        else:
            self._take(replica, envelope, refused=bool(refused))
        return None

    def _take(self, replica: Replica, envelope: Envelope, *, refused: bool = False) -> None:
        with self._lock:
            now = time.monotonic()
            if member_of(envelope.sender) != replica.member:
                self._clocks.take(envelope.sender, envelope.sent / 1000, now)
            effects = replica.receive(envelope, now, refused=refused)
            self._do(effects)
        self._after(effects.grew)

    def _take_page(self, replica: Replica, envelope: Envelope) -> None:
        """Take in many counts at once, and then rest for half as long as that took.

        So a third of the time is left for visits, here and at whoever shares the machine, however
        many peers answer at the same time.
        """
        with self._pages:
            since = time.monotonic()
            self._take(replica, envelope)
            self._stopping.wait(min((time.monotonic() - since) / 2, _LONGEST_REST))

    def _refuse_for_its_clock(self, replica: Replica, envelope: Envelope) -> None:
        """Note what its time tells, and let the sender find out as well."""
        sender, sent = envelope.sender, envelope.sent / 1000
        member = member_of(sender)
        with self._lock:
            latest = replica.members.latest(member)
            if member == replica.member:
                return
            if self._clocks.refuse(sender, sent, time.monotonic(), latest) and envelope.address:
                self._send(envelope.address, ReportRequest())

    def _drop(self, reason: str, detail: str) -> str:
        self.metrics.dropped.labels(reason).inc()
        if detail:
            self._warn("message.dropped", f"reason={reason} {detail}")
        return reason

    def _publish(self) -> None:
        if self.replica is not None:
            self._look_at_clock()
            self._publish_keys()
            with self._lock:
                for run, delta in self.replica.publish():
                    self._send(None, delta, run)

    def _publish_keys(self) -> None:
        """Tell the others the keys that were just stored, lest they count a repeat."""
        assert self.replica is not None
        with self._lock:
            self._do(Effects(broadcast=list(self.replica.keys.publish(time.monotonic()))))

    def _sync(self) -> None:
        assert self.replica is not None
        with self._lock:
            self._look(self.replica, time.monotonic())
            effects = self.replica.sync(time.monotonic())
            self._do(effects)
            counted_again = self.replica.keys.counted_again
            latest = self.replica.keys.last_counted_again
        if counted_again > self._counted_again:
            self._counted_again = counted_again
            self._warn("key.doubled", f"{latest} in_all={counted_again}")
        self._warn_of_clocks()
        self._after(effects.grew)

    def _look_at_clock(self) -> None:
        """Find out whether the wall clock was set; if so tell the others, who may hear it again."""
        with self._lock:
            zero = _zero()
            step = zero - self._zero
            if abs(step) < _STEP:
                return
            self._zero = zero
            self._warn("clock.set", f"seconds={step:+.1f}")
            if self.replica is not None:
                # It ends a run whose date is wrong by more than a message may live.
                self.replica.succession.clock_stepped(zero)
        self._sync()

    def _warn_of_clocks(self) -> None:
        """Log, once a minute, which nodes are not heard for their clocks."""
        differing = self.clocks_differing()
        if differing:
            ahead = " ".join(f"{member}={seconds:+.1f}" for member, seconds in differing.items())
            self._warn("clock.differs", f"seconds {ahead}")
        elif self._differed:
            log.info("clock.agrees")
        self._differed = bool(differing)

    def _connected(self) -> None:
        """The transport has (re)connected: tell the others at once where one stands."""
        log.info("transport.up kind=%s", self.transport.kind if self.transport else None)
        self._sync()

    def _do(self, effects: Effects) -> None:
        """Send what a step wants sent; under the lock, so that messages go out in order."""
        for body in effects.broadcast:
            self._send(None, body)
        for address, body in effects.send:
            self._send(address, body)

    def _send(self, address: str | None, body: Body, sender: str = "") -> None:
        """Send a message as this run, or as an earlier one of this process."""
        assert self.transport is not None
        assert self.replica is not None
        if self.cut:
            return
        sent = int(time.time() * 1000)
        envelope = Envelope(sender or self.replica.id, self.transport.address, sent, body)
        message = messages.encode(envelope, self.config.cluster_secret)
        self._sent += 1
        self.metrics.messages_out.inc()
        self.metrics.bytes_out.inc(len(message))
        if address is None:
            self.transport.broadcast(message)
        else:
            self.transport.send(address, message)

    def _after(self, grew: Iterable[str]) -> None:
        """Pass on what a step brought: to the store and to the pages."""
        assert self.replica is not None
        if self._flusher is not None and self.replica.news():
            self._flusher.wake_for_news()
        if grew:
            self.live.grew(grew)
        if not self._ready and self.replica.state == "ready":
            self._ready = True
            log.info("ready replica=%s", self.replica.id)
            self.live.wake_all()

    # -- what it looks like

    def _live_message(self, video: str) -> str | None:
        if self.joining:
            return None
        return msgspec.json.encode(self.show(video, self.counter(video))).decode()

    def show(self, video: str, counter: dict[str, int]) -> dict[str, Any]:
        """A counter as the answers and the live pages show it."""
        visits = visits_of(counter)
        if visits == MAX_COUNT:
            counter = shown_counts(counter)
        return {"video": video, "visits": visits, "node": self.name, "counts": counter}

    def _refuse(self, reason: str) -> NotCountedError:
        self.metrics.refused.labels("503").inc()
        return NotCountedError(reason)

    def _gauges(self) -> Gauges:
        peers = [(m.member, m.behind) for m in self.members() if m.behind is not None]
        own = self.replica.member if self.replica else None
        folding = self.folding()
        return Gauges(
            ready=self.ready,
            store_up=self.store_up,
            transport_up=self.transport_up,
            unflushed=self.unflushed(),
            live_pages=self.live.pages,
            closed_runs=folding.closed,
            names_doubled=len(self.duplicate_names()),
            folds=folding.folds,
            keys=len(self.replica.keys) if self.replica else 0,
            keys_doubled=self.replica.keys.counted_again if self.replica else 0,
            longest_pause=self._beat.take(),
            peers=[(member, behind) for member, behind in peers if member != own],
            clocks=list(self.clock_differences().items()),
            fold_blockers=[
                (fold_blockers.member, fold_blockers.silent) for fold_blockers in folding.waits_for
            ],
            log_unread=self.follower.reading().unread if self.follower else 0,
        )

    def _warn(self, event: str, detail: str) -> None:
        """Log a warning, the same event at most once a minute."""
        now = time.monotonic()
        if now - self._warned.get(event, -60.0) >= 60.0:
            self._warned[event] = now
            log.warning("%s %s", event, detail)


def _zero() -> float:
    """What the wall clock shows when the monotonic one is 0: it moves only when that is set."""
    return time.time() - time.monotonic()


def _mint_store() -> str:
    return mint_store(secrets.randbits(64))
