"""Counting: which visits are counted, and when their visitors may be answered."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from counter.crdt.gcounter import MAX_COUNT
from counter.crdt.limits import FullError
from counter.crdt.tally import Tally
from counter.node import counting, flusher
from counter.node.counting import Counting, KeyTakenError, MaybeCountedError, NotCountedError
from counter.node.flush import Flush
from counter.node.new_videos import NewVideos, TooManyNewError
from counter.node.stage import Stage
from counter.node.turns import OneByOne
from counter.node.warn import Warn
from counter.store.contract import Counts, StoreDownError
from counter.store.memory import MemoryStore
from lab.clients import STRETCH, until
from tests.kept import Kept, running
from tests.small import SoonLarge


class Gate(MemoryStore):
    """A store whose writes of visits wait for a gate, and fail while it is down."""

    def __init__(self) -> None:
        super().__init__()
        self.open_gate = threading.Event()
        self.waiting = threading.Event()
        self.down = False

    def write(self, counts: Counts, **also: Any) -> None:
        if counts:
            self.waiting.set()
            self.open_gate.wait(5)
        if self.down:
            raise StoreDownError("the disk is full")
        super().write(counts, **also)


def counting_of(
    one: Kept, stage: Stage | None = None, *, durable: bool = True, complete: bool = True
) -> Counting:
    if stage is None:
        stage = Stage()
        stage.started = True
    return Counting(
        one.flusher,
        one.lock,
        one.metrics,
        stage,
        NewVideos(0, one.metrics, Warn()),
        durable=durable,
        is_complete=lambda replica, now: complete,
        publish=lambda: None,
    )


def refused(one: Kept, status: str) -> float:
    """How many visits were answered with this status, as the metrics show it."""
    value: float = one.metrics.refused.labels(status)._value.get()
    return value


def test_a_durable_visit_is_answered_when_the_store_holds_it() -> None:
    store = Gate()
    with running(Kept(store, 0.0)) as one, ThreadPoolExecutor() as pool:
        one.join()
        visits = counting_of(one)
        answer = pool.submit(visits.visit, "cats")
        assert store.waiting.wait(5)
        assert not answer.done()
        with one.lock:
            assert one.replica.counter("cats") == {}, "shown before it is stored"
        store.open_gate.set()
        assert answer.result(5) == {one.replica.member: 1}
        assert store.counts[one.replica.id] == {"cats": 1}


def test_a_visit_that_is_not_durable_is_answered_at_once_with_its_number() -> None:
    store = Gate()
    with running(Kept(store, 0.0)) as one:
        one.join()
        visits = counting_of(one, durable=False)
        assert [visits.visit("cats") for _ in range(3)] == [
            {one.replica.member: number} for number in (1, 2, 3)
        ]
        assert one.replica.id not in store.counts
        store.open_gate.set()


def test_a_visit_at_a_joining_node_is_counted_without_a_number() -> None:
    store = MemoryStore()
    with running(Kept(store, 0.0, has_peers=True)) as one:
        one.join()
        for durable in (True, False):
            assert counting_of(one, durable=durable).visit("cats") is None
        until(lambda: store.counts[one.replica.id] == {"cats": 2}, 5, "both are stored")


# -- many visits at once


@pytest.fixture
def in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests of more than two videos are looked for in steps, as soon as three are known."""
    monkeypatch.setattr(counting, "_AT_ONCE", 2)
    monkeypatch.setattr(Tally, "videos_class", SoonLarge)


class Between(OneByOne):
    """What happens between two steps of a large request; nobody has the lock then."""

    def __init__(self, one: Kept) -> None:
        super().__init__()
        self._one = one
        self.seen: list[int] = []
        self.act: Callable[[], object] = lambda: None

    def wait(self) -> None:
        with self._one.lock:
            self.seen.append(self._one.replica.pending.unflushed())
        self.act()


def large(one: Kept) -> tuple[Counting, Between, dict[str, int]]:
    """A request of nine videos, of which three are known and were visited once."""
    one.join()
    visits = counting_of(one)
    visits.turns = between = Between(one)
    for number in range(3):
        visits.visit(f"video-{number}")
    return visits, between, {f"video-{number}": number + 1 for number in range(9)}


@pytest.mark.usefixtures("in_steps")
def test_a_large_request_lets_others_run_between_its_steps_and_is_counted_whole() -> None:
    store = MemoryStore()
    with running(Kept(store, 0.0)) as one:
        visits, between, many = large(one)
        assert visits.count_many(many) == {}
        assert between.seen == [0] * 6, "nothing of it is counted before the last step"
        one_more = {f"video-{number}": 1 for number in range(3)}
        assert store.counts[one.replica.id] == Counter(many) + Counter(one_more)


@pytest.mark.usefixtures("in_steps")
def test_a_batch_waits_for_a_large_request_but_not_long(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    with running(Kept(store, 0.0)) as one:
        visits, between, many = large(one)
        monkeypatch.setattr(flusher, "_GATHER_LARGE", 30 * STRETCH)
        flushes: list[Flush] = []

        def visit() -> None:
            if len(between.seen) == 2:
                with one.lock:
                    one.replica.visit("cats")
                    flushes.append(one.flusher.gathering)
                one.flusher.wake()
                assert not flushes[0].wait(0.2), "its batch is not written before"

        between.act = visit
        visits.count_many(many)
        assert flushes[0].ended
        monkeypatch.setattr(flusher, "_GATHER_LARGE", 0.01)
        with one.lock:
            one.flusher.expect(1)
        assert visits.visit("dogs") == {one.replica.member: 1}


@pytest.mark.usefixtures("in_steps")
def test_a_large_request_that_was_counted_meanwhile_is_a_repeat() -> None:
    store = MemoryStore()
    with running(Kept(store, 0.0)) as one:
        visits, between, many = large(one)

        def counted_meanwhile() -> None:
            between.act = lambda: None
            assert visits.count_many(many, "key", b"1") == {}

        between.act = counted_meanwhile
        assert visits.count_many(many, "key", b"1") is None
        assert visits.count_many(many, "key", b"1") is None
        assert sum(store.counts[one.replica.id].values()) == 3 + sum(many.values())


@pytest.mark.usefixtures("in_steps")
def test_a_large_request_that_is_refused_makes_no_id_known() -> None:
    with running(Kept(MemoryStore(), 0.0)) as one:
        visits, _, many = large(one)
        # One address may bring in six in a minute, which are in it.
        visits.new_videos = NewVideos(1, one.metrics, Warn())
        with pytest.raises(TooManyNewError):
            visits.count_many(many | {"one-too-many": 1})
        assert visits.new_videos.refused == 7
        assert len(one.replica.tally.ids) == 3
        assert visits.count_many(many) == {}, "they are charged once"


@pytest.mark.usefixtures("in_steps")
def test_a_large_request_that_leaves_no_room_counts_nothing() -> None:
    with running(Kept(MemoryStore(), 0.0)) as one:
        visits, _, many = large(one)
        with pytest.raises(FullError):
            visits.count_many(many | {"video-0": MAX_COUNT})
        assert one.replica.pending.unflushed() == 0
        assert visits.count_many(many) == {}
        assert one.replica.tally.total(one.replica.id) == 3 + sum(many.values())


def test_a_node_that_is_not_started_refuses_at_once() -> None:
    one, start = Kept(MemoryStore(), 0.0), time.monotonic()
    visits = counting_of(one, Stage())
    with pytest.raises(NotCountedError, match="starting"):
        visits.visit("cats")
    with pytest.raises(NotCountedError, match="starting"):
        visits.count_many({"cats": 1})
    assert time.monotonic() - start < 1 * STRETCH
    assert refused(one, "503") == 2


def test_visits_wait_while_the_store_is_being_opened() -> None:
    one = Kept(MemoryStore(), 0.0)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(counting_of(one).visit, "cats")
        time.sleep(0.05)
        assert not answer.done()
        with running(one):
            answer.result(5)
            assert one.replica.counter("cats") == {one.replica.member: 1}


def test_a_node_that_stops_refuses_visits() -> None:
    stage = Stage()
    with running(Kept(MemoryStore(), 0.0)) as one:
        one.join()
        visits = counting_of(one, stage)
        assert visits.visit("cats") is not None
        stage.draining.set()
        with pytest.raises(NotCountedError, match="stopping"):
            visits.visit("cats")
        with pytest.raises(NotCountedError, match="stopping"):
            visits.count_many({"cats": 2})
        assert one.replica.counter("cats") == {one.replica.member: 1}


def test_a_visit_whose_batch_failed_may_be_counted_and_the_next_is_refused() -> None:
    store = Gate()
    with running(Kept(store, 0.0)) as one, ThreadPoolExecutor() as pool:
        one.join()
        visits = counting_of(one)
        answer = pool.submit(visits.visit, "cats")
        assert store.waiting.wait(5)
        store.down = True
        store.open_gate.set()
        with pytest.raises(MaybeCountedError):
            answer.result(5)
        with pytest.raises(NotCountedError, match="the store of this node is down"):
            visits.visit("cats")
        # Without ACK=stored, a store that is down stops nobody.
        assert counting_of(one, durable=False).visit("cats") == {one.replica.member: 2}
        store.down = False
        until(lambda: store.counts.get(one.replica.id) == {"cats": 2}, 5, "both are stored")
        assert (refused(one, "503"), refused(one, "504")) == (1, 1)


def test_a_visit_waits_for_the_store_no_longer_than_a_client_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(counting, "_ANSWER_TIME", 0.1)
    store = Gate()
    with running(Kept(store, 0.0)) as one:
        one.join()
        with pytest.raises(MaybeCountedError):
            counting_of(one).visit("cats")
        store.open_gate.set()


def test_many_visits_are_counted_all_or_none() -> None:
    with running(Kept(MemoryStore(), 0.0)) as one:
        one.join()
        visits = counting_of(one)
        assert visits.count_many({"cats": MAX_COUNT - 1, "dogs": 2}) == {}
        with pytest.raises(FullError):
            visits.count_many({"dogs": 1, "cats": 2})
        assert one.replica.counter("dogs") == {one.replica.member: 2}
        assert refused(one, "409") == 1


def test_a_repeat_is_not_counted_again_and_another_request_cannot_have_its_key() -> None:
    with running(Kept(MemoryStore(), 0.0)) as one:
        one.join()
        visits = counting_of(one)
        assert visits.count_many({"cats": 2}, "key", b"body") == {}
        assert visits.count_many({"cats": 2}, "key", b"body") is None
        with pytest.raises(KeyTakenError):
            visits.count_many({"cats": 3}, "key", b"another")
        assert one.replica.counter("cats") == {one.replica.member: 2}


def test_a_repeat_waits_for_the_batch_that_has_its_key() -> None:
    store = Gate()
    with running(Kept(store, 0.0)) as one, ThreadPoolExecutor() as pool:
        one.join()
        visits = counting_of(one)
        first = pool.submit(visits.count_many, {"cats": 2}, "key", b"body")
        assert store.waiting.wait(5)
        repeat = pool.submit(visits.count_many, {"cats": 2}, "key", b"body")
        time.sleep(0.05)
        assert not repeat.done()
        store.open_gate.set()
        assert first.result(5) == {}
        assert repeat.result(5) is None
        assert store.counts[one.replica.id] == {"cats": 2}


def test_a_key_is_refused_by_a_node_that_may_not_know_it_yet() -> None:
    with running(Kept(MemoryStore(), 0.0)) as one:
        one.join()
        visits = counting_of(one, complete=False)
        with pytest.raises(NotCountedError, match="joining"):
            visits.count_many({"cats": 2}, "key", b"body")
        assert visits.count_many({"cats": 2}) == {}
        assert one.replica.counter("cats") == {one.replica.member: 2}


def test_threads_that_count_at_once_lose_no_visit() -> None:
    store = MemoryStore()
    with running(Kept(store, 0.0)) as one, ThreadPoolExecutor(8) as pool:
        one.join()
        visits = counting_of(one)
        for answer in [pool.submit(visits.visit, f"video-{n % 3}") for n in range(600)]:
            assert answer.result(10) is not None
        assert store.counts[one.replica.id] == {f"video-{n}": 200 for n in range(3)}
