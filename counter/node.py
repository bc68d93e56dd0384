"""One node: opens store and transport, owns every thread, starts and stops in order."""

import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from threading import Event, Lock, Thread
from typing import Any

import msgspec
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from counter import messages
from counter.config import LIVE_PAGES, Config
from counter.live import Live
from counter.messages import Body, Envelope, RejectedError
from counter.metrics import Metrics, State
from counter.replica import Effects, Member, Replica, mint_run, mint_store
from counter.store import (
    Offload,
    Store,
    StoreDownError,
    StoreForgotError,
    StoreRefusedError,
    StoreTakenError,
    run_here,
)
from counter.store.redis import RedisStore
from counter.store.sqlite import SqliteStore
from counter.tally import Tally
from counter.transport import Transport, backoff
from counter.transport.mesh import MeshTransport
from counter.transport.rabbitmq import RabbitmqTransport

log = logging.getLogger("counter")

_RENEWAL = 1.0
"""Seconds between two writes to the store, at most: renews the hold on it, finds what it lost."""
_ROWS_A_BATCH = 10_000
_ANSWER_TIME = 10.0
"""Seconds that a visit waits for the store, at most."""
_DRAIN_WAIT = 3.0
"""Seconds that a stopping node waits for its last visits to be stored, and held by a peer."""


class NotCountedError(Exception):
    """The visit was certainly not counted; it may be sent again, here or elsewhere."""


class MaybeCountedError(Exception):
    """The visit may be counted: its batch failed half-way, and will be written again."""


class Flush:
    """One batch under way, for the visits that wait until it is stored."""

    __slots__ = ("done", "ok")

    def __init__(self) -> None:
        self.done = Event()
        self.ok = False

    def end(self, *, ok: bool) -> None:
        """Let everyone who waits go on."""
        self.ok = ok
        self.done.set()


class Node:
    """A running node. Every method may be called by any thread.

    Made once; `start` and `stop` are called once, in this order. `replica` is None until the
    store is open: visits wait for that, unless it is known to have failed.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.name = config.name or ""
        self.store: Store | None = None
        self.transport: Transport | None = None
        self.replica: Replica | None = None
        self.live = Live(self._live_message, LIVE_PAGES)
        self.metrics = Metrics(self._state)
        self.cut = False
        self._lock = Lock()
        self._store_lock = Lock()
        self._flush = Flush()
        self._work = Event()
        self._store_error: str | None = "the store is being opened"
        self._tried = Event()
        self._draining = Event()
        self._stopping = Event()
        self._hurry = Event()
        self._ready = False
        self._warned: dict[str, float] = {}
        self._exit = ExitStack()
        self._end: Callable[[], None] = lambda: None
        self._starter: Thread | None = None
        # The random part tells two lives of one process id apart.
        self._holder = (
            f"{config.name or 'a node'} (process {os.getpid()} on {socket.gethostname()}, "
            f"port {config.listen_port}, started {time.strftime('%Y-%m-%d %H:%M:%S')}, "
            f"{secrets.token_hex(4)})"
        )

    # -- visits and readers

    def visit(self, video: str) -> dict[str, int] | None:
        """Count one visit; return the video's counter with it, None while joining.

        With `ACK=stored` it returns when the store holds the visit. Raises `NotCountedError` or
        `MaybeCountedError`.
        """
        stored = self.config.ack == "stored"
        if not self._tried.is_set():
            self._tried.wait(_ANSWER_TIME)
        with self._lock:
            replica = self.replica
            if replica is None or self._draining.is_set() or (stored and self._store_error):
                self.metrics.refused.labels("503").inc()
                raise NotCountedError(
                    "this node is stopping" if self._draining.is_set() else self._store_error
                )
            try:
                replica.visit(video)
            except OverflowError as error:
                raise NotCountedError(str(error)) from None
            flush = self._flush
            counter = None if stored else replica.counter(video, raised=True)
            joining = replica.state == "joining"
        self.metrics.visits.inc()
        self._work.set()
        if not stored:
            # The threads that flush and publish would starve under busy connections.
            time.sleep(0)
            return None if joining else counter
        if not flush.done.wait(_ANSWER_TIME) or not flush.ok:
            self.metrics.refused.labels("504").inc()
            raise MaybeCountedError("the store failed while it was writing this visit")
        return None if joining else self.counter(video)

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
        """Whether it holds what its peers told it that there is, and is not stopping."""
        return self._ready and not self._draining.is_set()

    @property
    def joining(self) -> bool:
        """Whether it may still show less than its peers do."""
        return not self._ready

    def members(self) -> list[Member]:
        """Every member as this node sees it."""
        with self._lock:
            return self.replica.members(time.monotonic()) if self.replica else []

    def cluster(self) -> dict[str, Any]:
        """What `/cluster` shows."""
        members = self.members()
        names = [member.member.partition("~")[0] for member in members if member.live]
        doubled = sorted({name for name in names if names.count(name) > 1})
        store, transport = self.store, self.transport
        return {
            "node": self.name,
            "member": self.replica.member if self.replica else None,
            "state": "leaving" if self._draining.is_set() else self._phase(),
            "store": {
                "kind": store.kind if store else None,
                "up": self._store_error is None,
                "unflushed": self._unflushed(),
            },
            "transport": {
                "kind": transport.kind if transport else None,
                "up": bool(transport and transport.up and not self.cut),
            },
            "warnings": [
                f"{names.count(name)} live nodes are called {name!r}: counts stay exact, but give "
                "each node a NAME of its own"
                for name in doubled
            ],
            "members": [
                {
                    "member": member.member,
                    "name": member.member.partition("~")[0],
                    "visits": member.visits,
                    "live": member.live,
                    "state": member.state,
                    "self": self.replica is not None and member.member == self.replica.member,
                    "heard": None if member.heard is None else round(member.heard, 1),
                    "behind": member.behind,
                }
                for member in members
            ],
        }

    # -- start and stop

    def start(self, end: Callable[[], None], offload: Offload = run_here) -> None:
        """Start every thread and return; the store is opened in the background.

        `end` is called if the node cannot go on: its store belongs to another process, or can
        never be used. The reason is logged.
        """
        self._end = end
        config = self.config
        if config.redis_uri:
            self.store = RedisStore(config.redis_uri, self.name)
        else:
            self.store = SqliteStore(config.data_dir, offload)
        if config.amqp_uri:
            self.transport = RabbitmqTransport(config.amqp_uri)
        else:
            self.transport = MeshTransport(config.listen_host, config.listen_port, config.peers)
        live = self._thread("live", self.live.run)
        self._exit.callback(live.join, 3.0)
        self._exit.callback(self.live.stop)
        self._starter = self._thread("start", self._open)

    def drain(self) -> None:
        """Refuse visits from now on; after `DRAIN_TIME` close the live pages."""
        log.info("drain seconds=%g", self.config.drain_time)
        self._draining.set()
        self._hurry.wait(self.config.drain_time)
        self.live.stop()

    def hurry(self) -> None:
        """Cut short every wait of `drain` and `stop`."""
        self._hurry.set()

    def stop(self) -> None:
        """Flush, publish, wait (bounded) until a peer holds everything, end every thread."""
        self._draining.set()
        deadline = time.monotonic() + _DRAIN_WAIT
        self._work.set()
        self._wait(lambda: self._unflushed() == 0 or self._store_error is not None, deadline)
        self._publish()
        if self.replica is not None and self.transport is not None:
            with self._lock:
                self._do(self.replica.leave(time.monotonic()))
            self._wait(self._held, deadline)
        log.info("stop unflushed=%d held=%s", self._unflushed(), self._held())
        self._stopping.set()
        self._work.set()
        if self._starter is not None:
            self._starter.join(5.0)
        self._exit.close()

    def _open(self) -> None:
        """Open the store, load it, join the others."""
        assert self.store is not None
        assert self.transport is not None
        if not self._until_up(self._open_store):
            return
        self._exit.callback(self._close_store)
        flush = self._thread("flush", self._flush_for_ever)
        self._exit.callback(flush.join, 5.0)
        if not self._until_up(self._load):
            return
        self._exit.callback(self.transport.stop)
        self.transport.start(self.receive, self._connected)
        self._schedule()

    def _until_up(self, step: Callable[[], None]) -> bool:
        """Do something with the store, as often as it takes; False if that is never possible."""
        tries = 0
        while not self._stopping.is_set():
            try:
                step()
                return True
            except StoreDownError as error:
                self._note_store_error(str(error))
                tries += 1
                self._stopping.wait(backoff(tries))
            except (StoreTakenError, StoreRefusedError) as error:
                self._give_up(str(error))
                return False
        return False

    def _open_store(self) -> None:
        assert self.store is not None
        config = self.config
        opened = self.store.open(self._holder, lambda: mint_store(secrets.randbits(64)))
        name = config.name or opened.name or f"node-{opened.store[:5]}"
        run = mint_run(int(time.time() * 1000), opened.latest_run, secrets.randbits(64))
        replica = Replica(
            f"{name}~{opened.store}.{run}",
            Tally(),
            time.monotonic(),
            sync_interval=config.sync_interval,
            join_timeout=config.join_timeout,
            has_peers=bool(config.amqp_uri or config.peers),
        )
        self.store.begin(replica.id)
        with self._lock:
            self.name, self.replica, self._store_error = name, replica, None
        self._tried.set()
        log.info("open store=%s replica=%s", self.store.kind, replica.id)

    def _load(self) -> None:
        assert self.store is not None
        assert self.replica is not None
        pieces = self.store.load()
        while True:
            with self._store_lock:
                piece = next(pieces, None)
            if piece is None:
                return
            with self._lock:
                grew = self.replica.loaded(*piece)
            self.live.grew(grew)
            time.sleep(0)

    def _schedule(self) -> None:
        # Two threads, so that a long report does not hold up the deltas. A run that is late is
        # made up for by the next one, which is not worth a warning each.
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(2)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone="UTC",
        )
        scheduler.add_job(self._publish, "interval", seconds=self.config.publish_interval)
        scheduler.add_job(self._sync, "interval", seconds=self.config.sync_interval)
        scheduler.start()
        self._exit.callback(scheduler.shutdown)

    def _thread(self, name: str, run: Callable[[], None]) -> Thread:
        """Start a thread whose death is logged, and ends the node."""

        def logged() -> None:
            try:
                run()
            except Exception:
                log.exception("thread.died name=%s", name)
                self._end()

        thread = Thread(target=logged, name=name, daemon=True)
        thread.start()
        return thread

    def _give_up(self, reason: str) -> None:
        log.critical("%s", reason)
        with self._lock:
            self._store_error = reason
            self._draining.set()
        self._tried.set()
        self._hurry.set()
        self._end()

    def _wait(self, condition: Callable[[], bool], deadline: float) -> None:
        while not condition() and time.monotonic() < deadline and not self._hurry.is_set():
            self._hurry.wait(0.02)

    def _held(self) -> bool:
        with self._lock:
            return self.replica is None or self.replica.held(time.monotonic())

    # -- the store

    def _flush_for_ever(self) -> None:
        """Write what there is, as often as there is something; renew the hold on the store."""
        tries = 0
        while not self._stopping.is_set():
            try:
                wrote = self._write()
                tries = 0
            except StoreTakenError as error:
                self._give_up(str(error))
                return
            except StoreDownError as error:
                self._note_store_error(str(error))
                tries += 1
                self._stopping.wait(backoff(tries))
                continue
            if not wrote:
                self._work.wait(_RENEWAL)
            self._work.clear()

    def _write(self) -> bool:
        """Write one batch, maybe an empty one; say whether there is more."""
        assert self.replica is not None
        assert self.store is not None
        flushes: list[Flush] = []
        heal = False
        while True:
            with self._lock:
                batch = self.replica.batch(_ROWS_A_BATCH)
                flushes.append(self._flush)
                self._flush = Flush()
            counts = batch.counts(self.replica.id)
            try:
                with self._store_lock:
                    self.store.write(counts, heal=heal)
                break
            except StoreForgotError as error:
                log.warning("store.forgot %s", error)
                self.metrics.heals.inc()
                heal = True
                with self._lock:
                    self.replica.not_stored(batch)
                    self.replica.forgotten()
            except (StoreDownError, StoreTakenError) as error:
                self.metrics.flush_failures.inc()
                with self._lock:
                    self.replica.not_stored(batch)
                    self._store_error = str(error)
                    flushes.append(self._flush)
                    self._flush = Flush()
                for flush in flushes:
                    flush.end(ok=False)
                raise
        with self._lock:
            grew = self.replica.stored(batch)
            was_down, self._store_error = self._store_error, None
            more = self.replica.unsaved()
        if was_down:
            log.warning("store.up kind=%s", self.store.kind)
        if counts:
            self.metrics.flushes.inc()
        for flush in flushes:
            flush.end(ok=True)
        self.live.grew(grew)
        return more

    def _note_store_error(self, error: str) -> None:
        self._store_error = error
        self._tried.set()
        self._warn("store.down", error)

    def _close_store(self) -> None:
        assert self.store is not None
        with self._store_lock:
            self.store.close()

    # -- the others

    def receive(self, message: bytes) -> None:
        """Take in one message from another node. Never raises: a bad one is dropped."""
        self.take(message)

    def take(self, message: bytes) -> str | None:
        """Take in one message; return why it was dropped, None if it was not."""
        self.metrics.messages_in.inc()
        self.metrics.bytes_in.inc(len(message))
        replica = self.replica
        if replica is None or self.cut:
            return self._drop("cut" if self.cut else "opening", "")
        config = self.config
        try:
            envelope = messages.decode(
                message,
                config.cluster_secret,
                int(time.time() * 1000),
                int(config.message_ttl * 1000),
            )
        except RejectedError as error:
            return self._drop(error.reason, str(error))
        with self._lock:
            effects = replica.receive(envelope, time.monotonic())
            self._do(effects)
        self._grown(effects.grew)
        return None

    def _drop(self, reason: str, detail: str) -> str:
        self.metrics.dropped.labels(reason).inc()
        if detail:
            self._warn("message.dropped", f"reason={reason} {detail}")
        return reason

    def _publish(self) -> None:
        if self.replica is not None:
            with self._lock:
                self._do(Effects(broadcast=list(self.replica.publish())))

    def _sync(self) -> None:
        assert self.replica is not None
        with self._lock:
            self._do(self.replica.sync(time.monotonic()))
        self._grown(())

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

    def _send(self, address: str | None, body: Body) -> None:
        assert self.transport is not None
        assert self.replica is not None
        if self.cut:
            return
        sent = int(time.time() * 1000)
        envelope = Envelope(self.replica.id, self.transport.address, sent, body)
        message = messages.encode(envelope, self.config.cluster_secret)
        self.metrics.messages_out.inc()
        self.metrics.bytes_out.inc(len(message))
        if address is None:
            self.transport.broadcast(message)
        else:
            self.transport.send(address, message)

    def _grown(self, videos: Iterable[str]) -> None:
        """Pass on what a message brought: to the store and to the pages."""
        assert self.replica is not None
        if videos:
            self._work.set()
            self.live.grew(videos)
        if not self._ready and self.replica.state == "ready":
            self._ready = True
            log.info("ready replica=%s", self.replica.id)
            self.live.wake_all()

    # -- what it looks like

    def _phase(self) -> str:
        return "ready" if self._ready else "joining"

    def _unflushed(self) -> int:
        with self._lock:
            return self.replica.unflushed() if self.replica else 0

    def _live_message(self, video: str) -> str | None:
        if self.joining:
            return None
        return msgspec.json.encode(self.show(video, self.counter(video))).decode()

    def show(self, video: str, counter: dict[str, int]) -> dict[str, Any]:
        """A counter as the answers and the live pages show it."""
        visits = sum(counter.values())
        return {"video": video, "visits": visits, "node": self.name, "counts": counter}

    def _state(self) -> State:
        peers = [(m.member, m.behind) for m in self.members() if m.behind is not None]
        own = self.replica.member if self.replica else None
        return State(
            ready=self.ready,
            store_up=self._store_error is None,
            transport_up=bool(self.transport and self.transport.up),
            unflushed=self._unflushed(),
            live_pages=self.live.pages,
            peers=[(member, behind) for member, behind in peers if member != own],
        )

    def _warn(self, event: str, detail: str) -> None:
        """Log a warning, the same event at most once a minute."""
        now = time.monotonic()
        if now - self._warned.get(event, -60.0) >= 60.0:
            self._warned[event] = now
            log.warning("%s %s", event, detail)
