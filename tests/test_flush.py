"""Group commit: what waits for whom between the replica and its store."""

import threading
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from counter.protocol.messages import Delta, Envelope
from counter.store.contract import Counts
from counter.store.memory import MemoryStore
from lab.clients import until
from tests.kept import kept, run_of


class SlowStore(MemoryStore):
    """A store of which each piece comes when there was a visit meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.visited = threading.Event()

    def load(self, vector: str = "") -> Iterator[tuple[str, Mapping[str, int]]]:
        for piece in super().load(vector):
            self.visited.clear()
            self.visited.wait(5)
            yield piece


def test_visits_that_gather_do_not_hold_up_the_loading() -> None:
    store = SlowStore()
    store.counts = {run_of(number): {"cats": 1} for number in range(50)}
    with kept(store, gather=0.5) as one:
        deadline = time.monotonic() + 5
        while not one.loaded.is_set():
            one.visit("dogs")
            store.visited.set()
            assert time.monotonic() < deadline, "each of fifty pieces waits for a write"
        assert one.replica.tally.visits("cats") == 50


def test_what_peers_told_is_not_written_at_the_pace_of_visits() -> None:
    store, told = MemoryStore(), run_of(1)
    with kept(store, gather=2.0) as one:
        assert one.loaded.wait(5)
        one.replica.joining.state = "ready"
        counts = {f"video-{number}": 1 for number in range(50_000)}
        with one.lock:
            one.replica.receive(Envelope(told, "", 0, Delta(counts, 50_000)), 0.0)
        one.flusher.wake_for_news()
        until(lambda: len(store.counts.get(told, ())) == 50_000, 6, "all of it is stored")


class HeavyStore(MemoryStore):
    """A store that takes long to write what others have counted."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.begun: list[float] = []
        """When such a write began."""

    def write(self, counts: Counts, **also: Any) -> None:
        if any(not vector.startswith("own~") for vector in counts):
            self.begun.append(time.monotonic())
            time.sleep(self.seconds)
        super().write(counts, **also)


def test_what_peers_told_leaves_half_the_time_to_visits_which_do_not_wait_for_it() -> None:
    store, told = HeavyStore(0.5), run_of(1)
    with kept(store, gather=0.0) as one:
        assert one.loaded.wait(5)
        own = one.replica.id
        one.replica.joining.state = "ready"
        counts = {f"video-{number}": 1 for number in range(10_000)}
        with one.lock:
            one.replica.receive(Envelope(told, "", 0, Delta(counts, 10_000)), 0.0)
        one.flusher.wake_for_news()
        until(lambda: store.counts.get(told), 5, "the first of it is stored")
        one.visit("cats")
        until(lambda: store.counts.get(own) == {"cats": 1}, 5, "a visit is stored")
        assert len(store.begun) == 1, "it waited for what peers told"
        until(lambda: len(store.counts[told]) == 10_000, 10, "all of it is stored")
        for one_write, next_write in pairwise(store.begun):
            assert next_write - one_write >= 2 * 0.5


def test_while_joining_a_node_spends_little_time_on_writing_what_peers_hold() -> None:
    """It has to ask for all of that again only if it is killed before it is ready."""
    store, told = HeavyStore(0.05), run_of(1)
    with kept(store, gather=0.0) as one:
        assert one.loaded.wait(5)
        assert one.replica.state == "joining"
        counts = {f"video-{number}": 1 for number in range(10_000)}
        with one.lock:
            one.replica.receive(Envelope(told, "", 0, Delta(counts, 10_000)), 0.0)
        one.flusher.wake_for_news()
        until(lambda: len(store.counts.get(told, ())) == 10_000, 10, "all of it is stored")
        for one_write, next_write in pairwise(store.begun):
            assert next_write - one_write >= 10 * 0.05


def writes_of(store: MemoryStore) -> int:
    """How often it was written, by its flush mark."""
    assert store.mark is not None
    return int(store.mark.rpartition(":")[2].partition(".")[0])


def test_visits_gather_between_two_writes_and_the_first_waits_for_nothing() -> None:
    store = MemoryStore()
    with kept(store, gather=1.0) as one:
        assert one.loaded.wait(5)
        own = one.replica.id
        one.visit("cats")
        until(lambda: store.counts.get(own) == {"cats": 1}, 3, "the first is stored")
        first, start = writes_of(store), time.monotonic()
        for _ in range(20):
            one.visit("cats")
        until(lambda: store.counts[own] == {"cats": 21}, 3, "the others are stored")
        writes = writes_of(store) - first
        assert writes <= 1 + (time.monotonic() - start) / 1.0 + 1
