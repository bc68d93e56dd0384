"""A replica that is kept in a store, by a flusher in a thread of its own."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from counter.config import Config
from counter.crdt.ids import encode_id, mint_run
from counter.crdt.tally import Tally
from counter.node.flusher import Flusher
from counter.node.gossip import Gossip
from counter.node.metrics import Gauges, Metrics
from counter.node.stage import Stage
from counter.node.status import Status
from counter.node.warn import Warn
from counter.protocol.replica import Replica
from counter.store.memory import MemoryStore
from counter.transport.hub import Hub
from lab.clients import until


def store_of(name: str) -> str:
    """The id of a node's store."""
    return encode_id(sum(map(ord, name)), 13)


def run_of(number: int) -> str:
    """The vector of another member."""
    return f"other~{encode_id(number, 13)}.{mint_run(0, '', 1)}"


def _unread() -> Gauges:
    raise AssertionError("nobody reads these metrics")


class Kept:
    """A flusher with its lock and metrics. `loaded` is set when the store was read."""

    def __init__(
        self,
        store: MemoryStore,
        gather: float = 0.0,
        *,
        name: str = "own",
        now: float = 0.0,
        has_peers: bool = False,
        message_ttl: float = 30.0,
        started: int = 1,
    ) -> None:
        self.renewed: list[float] = []
        """When it went on as a new run."""
        self.name = name
        self.now = now
        self.store = store
        self.lock = threading.Lock()
        self.loaded = threading.Event()
        self.metrics = Metrics(_unread)
        self.flusher = Flusher(
            store,
            self.lock,
            self.metrics,
            open_store=lambda: store.open("a test", lambda: store_of(name)),
            mint=lambda opened, _: Replica(
                f"{name}~{opened.store}.{mint_run(started, '', 1)}",
                Tally(),
                now,
                sync_interval=1.0,
                join_timeout=5.0,
                message_ttl=message_ttl,
                fold_after=86_400.0,
                has_peers=has_peers,
            ),
            start_new_run=self._start_new_run,
            loaded=self.loaded.set,
            grew=lambda _: None,
            keyed=lambda: None,
            gather=gather,
        )

    def _start_new_run(self, replica: Replica, *, reverted: bool = False) -> set[str]:
        self.renewed.append(time.monotonic())
        run = mint_run(int(time.time() * 1000), replica.members.latest(replica.member), 7)
        return replica.start_new_run(run, self.renewed[-1], reverted=reverted)

    def join(self) -> None:
        """Wait until the store was read, and be ready if there are no peers."""
        assert self.loaded.wait(5)
        with self.lock:
            self.replica.sync(self.now)

    @property
    def replica(self) -> Replica:
        """The replica of the opened store."""
        assert self.flusher.replica is not None
        return self.flusher.replica

    def visit(self, video: str) -> None:
        """Count a visit without waiting for the store."""
        with self.lock:
            self.replica.visit(video)
        self.flusher.wake()


@contextmanager
def running(one: Kept) -> Iterator[Kept]:
    """Run the flusher; the store is open when this is entered, and closed at the end."""
    stopping = threading.Event()
    thread = threading.Thread(target=one.flusher.run, args=(stopping,), name="store")
    thread.start()
    try:
        until(lambda: one.flusher.replica is not None, 5, "the store is open")
        yield one
    finally:
        stopping.set()
        one.flusher.wake()
        thread.join(5)
        assert not thread.is_alive()


@contextmanager
def kept(store: MemoryStore, gather: float) -> Iterator[Kept]:
    """A replica kept in this store."""
    with running(Kept(store, gather)) as one:
        yield one


class Talking(Kept):
    """A kept replica with gossip over a hub; nothing is sent but by calls of the test."""

    def __init__(self, hub: Hub, name: str, **settings: Any) -> None:
        super().__init__(
            MemoryStore(),
            name=name,
            now=time.monotonic(),
            has_peers=True,
            message_ttl=settings.get("message_ttl", 30.0),
        )
        self.stage = Stage()
        self.grew: list[str] = []
        """The videos that grew by messages, each time."""
        self.was_ready: list[bool] = []
        self.transport = hub.transport(name)
        self.gossip = Gossip(
            Config(name=name, **settings),
            self.flusher,
            self.store,
            self.transport,
            self.lock,
            self.metrics,
            self.stage,
            Warn(),
            grew=self.grew.extend,
            became_ready=lambda: self.was_ready.append(True),
        )
        self.status = Status(self.flusher, self.gossip, self.lock)

    def shows(self, video: str) -> int:
        """The visits that it shows."""
        with self.lock:
            return self.replica.tally.visits(video)


@contextmanager
def talking(hub: Hub, *names: str, **settings: Any) -> Iterator[list[Talking]]:
    """Nodes that know each other and are ready."""
    with ExitStack() as stack:
        nodes = [Talking(hub, name, **settings) for name in names]
        for node in nodes:
            stack.enter_context(running(node))
            assert node.loaded.wait(5)
            stack.callback(node.transport.stop)
            node.gossip.start()

        def ready() -> bool:
            for node in nodes:
                node.gossip.sync()
            return all(node.stage.ready for node in nodes)

        until(ready, 5, "all are ready")
        yield nodes
