"""What a node says to the others, and what it does with what they say.

The node publishes its stored counts, reports what it holds, and repairs what it missed. The rules
are those of the replica; this is their clock, their lock and their way to the transport.
"""

import logging
import time
from collections.abc import Callable, Iterable
from threading import Lock

from counter.config import Config
from counter.crdt.ids import member_of
from counter.node.flusher import Flusher
from counter.node.metrics import Metrics
from counter.node.rates import MemberRates
from counter.node.stage import Stage
from counter.node.viewers import Viewers
from counter.node.warn import Warn
from counter.protocol import messages, replays
from counter.protocol.clocks import Clocks
from counter.protocol.effects import Effects
from counter.protocol.messages import (
    Body,
    Delta,
    Envelope,
    Health,
    RejectedError,
    RepairPage,
    ReportRequest,
    RowsPage,
)
from counter.protocol.replays import Replays
from counter.protocol.replica import Replica
from counter.store.contract import Store
from counter.transport.contract import Transport

log = logging.getLogger("counter")

_LARGE = 10_000
"""Bytes from which on a message takes ms; a page of a repair is then followed by a rest."""
_LONGEST_REST = 0.05
"""Seconds."""
_STEP = 1.0
"""A wall clock was set if it moves by so many seconds against a monotonic one."""


class NotReadyError(Exception):
    """This node may not know yet, or no longer, what it was asked."""


class UnknownMemberError(Exception):
    """This node does not know the member."""


class LiveMemberError(Exception):
    """The member is live, so removing it would do nothing: it would come back."""


def wall_clock_zero() -> float:
    """Unix time at the zero of the monotonic clock. It changes only when the wall clock is set."""
    return time.time() - time.monotonic()


class Gossip:
    """Exchanges messages with the other nodes, for the replica of `flusher`.

    Any thread may call any method, but those that say "under the lock", which is `lock`, the one
    that guards the replica. `grew` is called with the videos that grew, `became_ready` once.
    """

    def __init__(
        self,
        config: Config,
        flusher: Flusher,
        store: Store,
        transport: Transport,
        lock: Lock,
        metrics: Metrics,
        stage: Stage,
        warn: Warn,
        *,
        grew: Callable[[Iterable[str]], None],
        became_ready: Callable[[], None],
        viewers: Viewers | None = None,
    ) -> None:
        self.cut = False
        """Whether the node is cut off from the others, for a demonstration."""
        self.clocks = Clocks(config.message_ttl, 3 * config.sync_interval)
        """Of the other members. Use it under the lock."""
        self.rates = MemberRates()
        """Use it under the lock."""
        self.listens_since = time.monotonic()
        """When this node began to hear others, in seconds of the monotonic clock."""
        self._config = config
        self._flusher = flusher
        self._store = store
        self._transport = transport
        self._lock = lock
        self._metrics = metrics
        self._stage = stage
        self._warn = warn
        self._viewers = viewers or Viewers(config)
        self._grew = grew
        self._became_ready = became_ready
        self._pages = Lock()
        self._replays = Replays(2 * config.message_ttl)
        self._sent = 0
        self._counted_again = 0
        self._zero = wall_clock_zero()
        self._differed = False

    def start(self) -> None:
        """Start the transport. The replica must be loaded."""
        self.listens_since = time.monotonic()
        self._transport.start(self.receive, self._connected)

    @property
    def health(self) -> Health:
        """Whether the last write to the store succeeded, and whether messages can go out."""
        return Health(
            (self._store.kind, self._flusher.error is None),
            (self._transport.kind, self._transport.up and not self.cut),
        )

    def is_complete(self, replica: Replica, now: float) -> bool:
        """Whether it has caught up with its peers, if it hears any that exist; under the lock."""
        return replica.complete and not self.clocks.strange(now)

    # -- to the others

    def publish(self) -> None:
        """Tell the others what this node has counted and stored since the last time."""
        replica = self._flusher.replica
        if replica is not None:
            self._look_at_clock(replica)
            self.publish_keys()
            while self._publish_some(replica):
                self._stage.turns.wait()
            with self._lock:
                # With no counts to be told with, for once.
                while (rest := self._viewers.publish(Delta({}, replica.reports.published))).seen:
                    self._send(None, rest)

    def _publish_some(self, replica: Replica) -> bool:
        """Publish one message; return whether there may be more."""
        with self._lock:
            for run, delta in (told := replica.publish(1)):
                self._send(None, self._viewers.publish(delta), sender=run)
        return bool(told)

    def publish_keys(self) -> None:
        """Tell the others the keys that were just stored, so that they do not count a repeat."""
        replica = self._opened()
        with self._lock:
            self._do(Effects(broadcast=list(replica.keys.publish(time.monotonic()))))

    def sync(self) -> None:
        """Report what this node holds, and ask for what it misses."""
        replica = self._opened()
        self._viewers.forget()
        with self._lock:
            self.look(replica, time.monotonic())
            effects = replica.sync(time.monotonic())
            self._viewers.report(effects.broadcast, self.send)
            self._do(effects)
            counted_again = replica.keys.counted_again
            latest = replica.keys.last_counted_again
        if counted_again > self._counted_again:
            self._counted_again = counted_again
            self._warn("key.doubled", f"{latest} in_all={counted_again}")
        self._warn_of_clocks()
        self._after(replica)

    def leave(self) -> None:
        """Tell the others that this node stops, and what it holds."""
        replica = self._opened()
        with self._lock:
            self._do(replica.leave(time.monotonic()))

    def remove(self, member: str) -> bool:
        """Declare a member gone for good and tell the others; False if it is removed already.

        Raises `UnknownMemberError`, `LiveMemberError`, or `NotReadyError` while this node may
        not know who is live.
        """
        with self._lock:
            replica, now = self._flusher.replica, time.monotonic()
            state = self._stage.state
            if replica is None or state != "ready":
                raise NotReadyError(
                    f"this node is {state}, and may not know who is live; ask another one"
                )
            if member not in replica.members:
                raise UnknownMemberError(
                    f"{member[:100]!r} is no member that {replica.name} knows; "
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
        self._after(replica)
        return True

    # -- from the others

    def receive(self, message: bytes) -> str | None:
        """Take in one message from another node; return why it was dropped, None if it was not.

        Never raises: a bad message is counted and dropped. "repeated" says that it was taken in
        before, which is no fault: transports may repeat messages.
        """
        self._metrics.messages_in.inc()
        self._metrics.bytes_in.inc(len(message))
        replica = self._opened()
        if self.cut:
            return self._drop("cut", "")
        identity = replays.identity(message)
        if identity in self._replays:
            return self._drop("repeated", "")
        config = self._config
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
        with self._lock:
            if not self._replays.add(identity, time.monotonic()):
                return self._drop("repeated", "")
        if refused:
            self._metrics.entries_refused.inc(len(refused))
            self._warn("entry.refused", f"from={envelope.sender} {refused[0]}")
        if isinstance(envelope.body, RepairPage | RowsPage) and len(message) > _LARGE:
            self._take_page(replica, envelope)
        elif len(message) > _LARGE:
            # One at a time, however many peers send theirs at once.
            self._stage.turns.wait()
            self._take(replica, envelope, refused=bool(refused))
        else:
            self._take(replica, envelope, refused=bool(refused))
        return None

    def _take(self, replica: Replica, envelope: Envelope, *, refused: bool = False) -> None:
        with self._lock:
            now = time.monotonic()
            if member_of(envelope.sender) != replica.member:
                self.clocks.take(envelope.sender, envelope.sent / 1000, now)
            effects = replica.receive(envelope, now, refused=refused)
            self._do(effects)
        self._viewers.heard(envelope, self.send)
        if effects.beyond or effects.left_out:
            self._note_excess(envelope, effects)
        self._after(replica)

    def _note_excess(self, envelope: Envelope, effects: Effects) -> None:
        """Count, and log once a minute, what was not taken because it is too much."""
        self._metrics.counts_refused.inc(effects.beyond)
        self._metrics.entries_refused.inc(effects.left_out)
        if effects.beyond:
            self._warn("count.refused", f"from={envelope.sender} counts={effects.beyond}")
        if effects.left_out:
            self._warn("entry.refused", f"from={envelope.sender} too_many={effects.left_out}")

    def _take_page(self, replica: Replica, envelope: Envelope) -> None:
        """Take in many counts at once, then rest for half as long as that took.

        So a third of the time is left for visits and for other programs of the machine, however
        many peers answer at the same time.
        """
        with self._pages:
            since = time.monotonic()
            self._take(replica, envelope)
            self._stage.stopping.wait(min((time.monotonic() - since) / 2, _LONGEST_REST))

    def _refuse_for_its_clock(self, replica: Replica, envelope: Envelope) -> None:
        """Note the sender's time, and let the sender find out as well."""
        sender, sent = envelope.sender, envelope.sent / 1000
        member = member_of(sender)
        with self._lock:
            latest = replica.members.latest(member)
            if member == replica.member:
                return
            if self.clocks.refuse(sender, sent, time.monotonic(), latest) and envelope.address:
                self._send(envelope.address, ReportRequest())

    def _drop(self, reason: str, detail: str) -> str:
        self._metrics.dropped.labels(reason).inc()
        if detail:
            self._warn("message.dropped", f"reason={reason} {detail}")
        return reason

    def _connected(self) -> None:
        """The transport has (re)connected: report to the others at once."""
        log.info("transport.up kind=%s", self._transport.kind)
        self.sync()

    # -- clocks and rates

    def look(self, replica: Replica, now: float) -> None:
        """Note the health of this node for its reports, and sample the rates; under the lock."""
        replica.reports.health = self.health
        # What arrives while joining was counted long ago.
        if self._stage.ready and self.rates.due(now):
            self.rates.note(*self.totals(replica), now)

    def totals(self, replica: Replica) -> tuple[dict[str, int], dict[str, int]]:
        """The visits and the messages of each member, of this node those sent; under the lock."""
        none = dict.fromkeys(replica.members, 0)
        own = {replica.member: self._sent}
        return none | replica.tally.members(), none | replica.peers.messages | own

    def _look_at_clock(self, replica: Replica) -> None:
        """If the wall clock was set, report: others may hear this node again."""
        with self._lock:
            zero = wall_clock_zero()
            step = zero - self._zero
            if abs(step) < _STEP:
                return
            self._zero = zero
            self._warn("clock.set", f"seconds={step:+.1f}")
            # This ends a run whose date is wrong by more than a message may live.
            replica.succession.clock_stepped(zero)
        self.sync()

    def _warn_of_clocks(self) -> None:
        """Log, at most once a minute, which nodes are not heard because of their clocks."""
        with self._lock:
            differing = self.clocks.differing(time.time(), time.monotonic())
        if differing:
            ahead = " ".join(f"{member}={seconds:+.1f}" for member, seconds in differing.items())
            self._warn("clock.differs", f"seconds {ahead}")
        elif self._differed:
            log.info("clock.agrees")
        self._differed = bool(differing)

    # -- steps

    def _opened(self) -> Replica:
        replica = self._flusher.replica
        assert replica is not None, "nothing is said before the store is loaded"
        return replica

    def _do(self, effects: Effects) -> None:
        """Tell live pages what grew, and send the messages of a step; under the lock, in order."""
        for grew in effects.growths:
            if grew:
                self._grew(grew)
        for body in effects.broadcast:
            self._send(None, body)
        encoded: dict[int, bytes] = {}
        for address, body in effects.send:
            # Many nodes may be told the same.
            if id(body) not in encoded:
                encoded[id(body)] = self._encoded(body)
            self._send(address, body, encoded[id(body)])

    def _encoded(self, body: Body, sender: str = "") -> bytes:
        sender = sender or self._opened().id
        envelope = Envelope(sender, self._transport.address, int(time.time() * 1000), body)
        return messages.encode(envelope, self._config.cluster_secret)

    def send(self, address: str, body: Body) -> None:
        """Send to one node; not under the lock."""
        with self._lock:
            self._send(address, body)

    def _send(
        self, address: str | None, body: Body, message: bytes = b"", sender: str = ""
    ) -> None:
        """Send to one node or to all, as this run or as an earlier one; under the lock."""
        if self.cut:
            return
        message = message or self._encoded(body, sender)
        self._sent += 1
        self._metrics.messages_out.inc()
        self._metrics.bytes_out.inc(len(message))
        if address is None:
            self._transport.broadcast(message)
        else:
            self._transport.send(address, message)

    def _after(self, replica: Replica) -> None:
        """Let the store know of news, and the node that it is ready."""
        if replica.news():
            self._flusher.wake_for_news()
        if not self._stage.ready and replica.state == "ready":
            self._stage.ready = True
            log.info("ready replica=%s", replica.id)
            self._became_ready()
