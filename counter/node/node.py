"""One node: opens store and transport, owns every thread, starts and stops in order."""

import gc
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from threading import Event, Lock, Thread
from typing import Any

import msgspec

from counter.config import LIVE_PAGES, Config
from counter.crdt.ids import mint_run, run_of
from counter.crdt.tally import Tally
from counter.node.corrections import Corrections
from counter.node.counting import Counting
from counter.node.flusher import Flusher
from counter.node.follower import Follower
from counter.node.gossip import Gossip, wall_clock_zero
from counter.node.judge import Judge
from counter.node.live import Live
from counter.node.metrics import Gauges, Metrics
from counter.node.minting import mint_store, start_new_run
from counter.node.new_videos import NewVideos
from counter.node.pauses import PauseMeter
from counter.node.schedule import Schedule
from counter.node.showing import Showing
from counter.node.stage import Stage
from counter.node.status import Status
from counter.node.viewers import Viewers
from counter.node.visit_log import VisitLog
from counter.node.warn import Warn
from counter.protocol.members import decode_fact, is_note
from counter.protocol.messages import State
from counter.protocol.replica import Replica
from counter.store.contract import (
    Known,
    Offload,
    Opened,
    Store,
    StoreRefusedError,
    StoreTakenError,
    run_here,
)
from counter.store.sqlite import SqliteStore
from counter.transport.contract import Transport
from counter.transport.mesh import MeshTransport

log = logging.getLogger("counter")

_GATHER = 0.1
"""Seconds between two writes when no visitor waits for them."""
_DRAIN_WAIT = 3.0
"""Longest time in seconds that a stopping node waits until its last visits are stored and a peer
holds them."""


class Node:
    """A running node. Any thread may call any method.

    Making it opens nothing. `start` and `stop` are called once each, in this order. `replica` is
    None until the store is open: visits wait for that, unless opening it has failed.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.live = Live(self._live_message, LIVE_PAGES)
        self.metrics = Metrics(self._gauges)
        self.transport = self._new_transport()
        self.mesh = self.transport if isinstance(self.transport, MeshTransport) else None
        """The transport, if the web server takes in its messages."""
        self.store = self._new_store()
        self._lock = Lock()
        self._stage = Stage()
        self._waits_cancelled = Event()
        self._pauses = PauseMeter()
        self._handed_over = ""
        """After the end: whether a peer holds the last visits, or "alone" without peers."""
        self._offload: Offload = run_here
        self._end: Callable[[], None] = lambda: None
        self._exit = ExitStack()
        self.viewers = Viewers(config, lambda: self._flusher.wake_for_news())
        self._flusher = self._new_flusher()
        self.judge = Judge(config.bots)
        self.judge.would_repeat = self.viewers.would_repeat
        if config.repeat_window:
            self.judge.repeat = self.viewers.is_repeat
        self.corrections = Corrections(
            self._flusher, self._lock, self._stage, publish=lambda: self.gossip.publish()
        )
        self.judge.blocked = self.corrections.is_blocked
        showing = Showing(self._flusher, self._lock, self.corrections, lambda: self.name)
        self.counter, self.top, self.show = showing.counter, showing.top, showing.show
        warn = Warn()
        self.gossip = Gossip(
            config,
            self._flusher,
            self.store,
            self.transport,
            self._lock,
            self.metrics,
            self._stage,
            warn,
            grew=self.live.grew,
            became_ready=self.live.wake_all,
            viewers=self.viewers,
        )
        self.counting = Counting(
            self._flusher,
            self._lock,
            self.metrics,
            self._stage,
            NewVideos(config.new_videos, self.metrics, warn, config.videos),
            durable=config.ack == "stored",
            is_complete=self.gossip.is_complete,
            publish=self.gossip.publish,
        )
        self.status = Status(self._flusher, self.gossip, self._lock)
        self.follower = self._new_follower(warn)
        """None without a VISIT_LOG."""

    def _new_transport(self) -> Transport:
        config = self.config
        if config.amqp_uri:
            from counter.transport.rabbitmq import RabbitmqTransport

            return RabbitmqTransport(config.amqp_uri, config.message_ttl, self._refuse)
        return MeshTransport(config.listen_host, config.listen_port, config.peers)

    def _new_store(self) -> Store:
        config = self.config
        if config.redis_uri:
            # Here, not above: redis costs a quarter of the time that all imports take.
            from counter.store.redis import RedisStore

            return RedisStore(config.redis_uri, config.name or "")
        return SqliteStore(config.data_dir, self._call_outside)

    def _new_follower(self, warn: Warn) -> Follower | None:
        if self.config.visit_log is None:
            return None
        return Follower(
            VisitLog(self.config.visit_log, self._call_outside),
            self._flusher,
            self._lock,
            self.metrics,
            ready=lambda: self.status.complete,
            draining=self._stage.draining,
            warn=warn,
            reason=self.judge.logged,
            only_announced=self.config.videos == "known",
        )

    def _new_flusher(self) -> Flusher:
        config = self.config
        # The random part tells two lives of one process id apart.
        holder = (
            f"{config.name or 'a node'} (process {os.getpid()} on {socket.gethostname()}, "
            f"port {config.listen_port}, started {time.strftime('%Y-%m-%d %H:%M:%S')}, "
            f"{secrets.token_hex(4)})"
        )
        return Flusher(
            self.store,
            self._lock,
            self.metrics,
            open_store=partial(self.store.open, holder, mint_store),
            mint=self._mint,
            start_new_run=start_new_run,
            loaded=self._join,
            grew=self.live.grew,
            keyed=lambda: self.gossip.publish_keys(),
            # numpy takes 0.1 s: outside the loop, before it is needed.
            prepare=lambda: self._call_outside(import_module, "counter.crdt.bulk"),
            gather=0.0 if config.ack == "stored" else _GATHER,
            sketches=self.viewers.sketches,
        )

    @property
    def replica(self) -> Replica | None:
        """This run; None until the store is open."""
        return self._flusher.replica

    @property
    def name(self) -> str:
        """The node's name as people see it; "" while it is neither set nor read from the store."""
        return self.replica.name if self.replica else self.config.name or ""

    @property
    def state(self) -> State:
        """The state that the node reports to its peers."""
        return self._stage.state

    @property
    def joining(self) -> bool:
        """Whether it may still show less than its peers do."""
        return not self._stage.ready

    @property
    def ready(self) -> bool:
        """Whether it holds all that its peers reported, is not stopping, and its clock is right."""
        return self.state == "ready" and not self.status.clock_wrong

    def addresses(self) -> list[str]:
        """Where other nodes, and perhaps this one, answer over HTTP, as far as it knows."""
        known = self.mesh.addresses() if self.mesh else []
        return list(dict.fromkeys([*known, *(each.rstrip("/") for each in self.config.nodes)]))

    def _live_message(self, video: str) -> str | None:
        if self.joining:
            return None
        return msgspec.json.encode(self.show(video, self.counter(video))).decode()

    def _gauges(self) -> Gauges:
        status, own = self.status, self.replica.member if self.replica else None
        folding = status.folding()
        keys, counted_again = status.keys()
        return Gauges(
            ready=self.ready,
            store_up=status.store_up,
            transport_up=status.transport_up,
            unflushed=status.unflushed(),
            live_pages=self.live.pages,
            closed_runs=folding.closed,
            duplicate_names=len(status.duplicate_names()),
            folds=folding.folds,
            videos=status.videos()[0],
            keys=keys,
            keys_counted_again=counted_again,
            longest_pause=self._pauses.take(),
            peers=[
                (member.member, member.behind)
                for member in status.members()
                if member.behind is not None and member.member != own
            ],
            clocks=list(status.clock_differences().items()),
            fold_blockers=[(blocker.member, blocker.silent) for blocker in folding.waits_for],
            not_counted=status.not_counted().items(),
            records=self.corrections.count(),
            log_unread=self.follower.reading().unread if self.follower else 0,
            **self.viewers.gauges(),
        )

    # -- start and stop

    def start(self, end: Callable[[], None], offload: Offload = run_here) -> None:
        """Start every thread and return; the store is opened in the background.

        `end` is called if the node cannot go on: its store belongs to another process, or can
        never be used, or its broker refuses it at the start. The reason is logged.
        """
        self._end, self._offload = end, offload
        self._stage.started = True
        self._thread("pauses", self._pauses.run, self._pauses.stop)
        self._thread("live", self.live.run, self.live.stop)
        self._thread("store", self._keep, self._let_go)
        if self.follower:
            self._thread("visit-log", self.follower.run, self._stage.draining.set)

    def drain(self) -> None:
        """Refuse visits from now on; after `DRAIN_TIME` close the live pages, and hand over.

        The server still listens meanwhile: on a full mesh, peers could not answer otherwise.
        """
        log.info("drain seconds=%g", self.config.drain_time)
        self._stage.draining.set()
        self._waits_cancelled.wait(self.config.drain_time)
        self.live.stop()
        self._hand_over()

    def cancel_waits(self) -> None:
        """Cut short every wait of `drain` and `stop`."""
        self._waits_cancelled.set()

    def stop(self) -> None:
        """Hand over, if `drain` did not, and end every thread."""
        self._stage.draining.set()
        self._hand_over()
        log.info("stop unflushed=%d held=%s", self.status.unflushed(), self._handed_over)
        self._exit.close()

    def _hand_over(self) -> None:
        """Flush, publish, and wait a bounded time until a peer holds everything. Once."""
        if self._handed_over:
            return
        deadline = time.monotonic() + _DRAIN_WAIT
        self._wait(lambda: self.status.unflushed() == 0 or not self.status.store_up, deadline)
        self.gossip.publish()
        if self.replica is not None:
            self.gossip.leave()
            self._wait(lambda: self._holders() != "no", deadline)
        self._handed_over = self._holders()

    def _wait(self, condition: Callable[[], bool], deadline: float) -> None:
        while (
            not condition() and time.monotonic() < deadline and not self._waits_cancelled.is_set()
        ):
            self._waits_cancelled.wait(0.02)

    def _holders(self) -> str:
        """Whether others hold the last visits, for those who think of deleting the store."""
        with self._lock:
            replica, now = self.replica, time.monotonic()
            if replica is None or not replica.peers.staying(now):
                return "alone"
            return "yes" if replica.held(now) else "no"

    # -- the store and its runs

    def _keep(self) -> None:
        """Own the store until the node stops; end the node if that cannot go on."""
        try:
            self._flusher.run(self._stage.stopping)
        except (StoreTakenError, StoreRefusedError) as error:
            self._refuse(str(error))

    def _refuse(self, why: str) -> None:
        """End the node: its store or its broker can never be used as it is."""
        log.critical("refused %s", why)
        self._stage.draining.set()
        self._waits_cancelled.set()
        self._end()

    def _let_go(self) -> None:
        self._stage.stopping.set()
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
            epoch=wall_clock_zero(),
        )
        # Nothing made so far goes: the garbage collector need not look at it, 20 ms each time.
        gc.freeze()
        return replica

    def _join(self) -> None:
        """The tally is loaded: exchange messages with the others from now on."""
        gc.freeze()  # numpy, which came with many videos, stays as well
        self._exit.callback(self.transport.stop)
        self.gossip.start()
        schedule = Schedule()
        schedule.every(self.config.publish_interval, self.gossip.publish)
        schedule.every(self.config.sync_interval, self.gossip.sync)
        schedule.start()
        self._exit.callback(schedule.stop)

    # -- threads

    def _thread(self, name: str, run: Callable[[], None], stop: Callable[[], None]) -> None:
        """Start a thread that `stop` ends. If it dies of itself, log that and end the node."""

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

    def _call_outside(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function that blocks, outside the loop if `start` was told how."""
        return self._offload(function, *arguments)
