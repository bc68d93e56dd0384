"""A batch of any size is added up, shown and published in steps, and others have turns between."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counter.crdt.ids import encode_id, folded_of, mint_run, replica_of, run_of
from counter.crdt.tally import Tally
from counter.crdt.videos import Videos
from counter.node import flusher
from counter.node.flush import Flush
from counter.protocol.checks import decode_sum, sum_name
from counter.protocol.effects import Effects
from counter.protocol.messages import Delta, Envelope, RepairPage, RepairRequest
from counter.protocol.pending import Pending
from counter.protocol.positions import Position
from counter.protocol.replica import Replica
from counter.store.contract import Counts, StoreDownError
from counter.store.memory import MemoryStore
from lab.clients import until
from lab.servers import ROOT
from tests.kept import Kept, kept
from tests.protocol import Network, alone

OWN = f"a~{encode_id(1, 13)}.{mint_run(0, '', 1)}"
OTHER = f"b~{encode_id(2, 13)}"


class OneByOne(Pending):
    """Visits of which each step takes two videos."""

    a_step = entries_a_step = 2


class Stepwise(Replica):
    """A replica with these steps."""

    pending_class = OneByOne


def opened(replica: Replica) -> Replica:
    replica.recovery.opened([], {})
    replica.recovery.all_loaded()
    return replica


@pytest.fixture
def network() -> Network:
    return Network()


# -- what is stored becomes visible in steps


def test_between_two_steps_each_video_has_all_its_visits_and_totals_only_grow(
    network: Network,
) -> None:
    a = network.node("a", kind=Stepwise)
    videos = [f"video-{number}" for number in range(9)]
    a.count_many(dict.fromkeys(videos, 3))
    batch = a.batch(10)
    assert list(a.backlog.sum_up(batch)) == [None] * 5
    grew, shown, left = set[str](), 0, 27
    for more in a.storing(batch):
        grew.update(more)
        assert all(a.pending.count(video) == 3 for video in videos)
        assert a.counter("video-0", pending=True) == {a.member: 3}
        assert shown < a.tally.total(a.id) <= 27
        assert a.pending.unflushed() == 27 - a.tally.total(a.id) < left
        shown, left = a.tally.total(a.id), a.pending.unflushed()
        assert a.pending.waiting() == [a.id]
    assert (shown, left, grew) == (27, 0, set(videos))
    assert a.pending.waiting() == []
    assert decode_sum(batch.sums[sum_name(a.id)]) == (27, a.tally.digest(a.id))


def test_visits_that_come_between_two_steps_are_counted_once(network: Network) -> None:
    a = network.node("a", kind=Stepwise)
    videos = [f"video-{number}" for number in range(8)]
    a.count_many(dict.fromkeys(videos, 1))
    batch = a.batch(10)
    for _ in a.backlog.sum_up(batch):
        a.count_many(dict.fromkeys(videos, 1))
        a.visit("video-0")
    for _ in a.storing(batch):
        a.count_many(dict.fromkeys(videos, 1))
        a.visit("video-7")
    assert a.pending.unflushed() == 8 * 8 + 4 + 4
    assert decode_sum(batch.sums[sum_name(a.id)]) == (8, a.tally.digest(a.id))
    a.stored(a.batch(10))
    assert (a.tally.visits("video-0"), a.tally.visits("video-7")) == (13, 13)
    assert a.pending.unflushed() == 0


@given(st.integers(0, 2**32), st.integers(1, 4))
def test_what_is_told_between_two_steps_is_what_the_store_holds(seed: int, rounds: int) -> None:
    choose, network = random.Random(seed), Network()
    a, b = network.node("a", kind=Stepwise), network.node("b")
    videos = [f"video-{number}" for number in range(12)]
    stored: dict[str, int] = {}

    def others() -> None:
        match choose.choice(("visit", "publish", "one page", "report", "repair", "nothing")):
            case "visit":
                a.count_many(dict.fromkeys(choose.sample(videos, 3), choose.randint(1, 4)))
            case "publish":
                network.publish("a")
            case "one page":
                for run, delta in a.publish(1):
                    network.do("a", Effects(broadcast=[delta]), run)
            case "report":
                network.do("a", a.sync(network.now))
            case "repair":
                ask = RepairRequest(a.id, b"", choose.randint(1, 9), 0)
                effects = a.receive(Envelope(b.id, "b", 0, ask), network.now)
                for _, body in effects.send:
                    if isinstance(body, RepairPage):
                        assert all(stored[video] >= count for video, count in body.counts.items())
        told = b.tally.vector(a.id)
        assert all(stored.get(video, 0) >= count for video, count in told.items())
        assert b.tally.total(a.id) <= a.tally.total(a.id) <= sum(stored.values())

    for _ in range(rounds):
        a.count_many(dict.fromkeys(choose.sample(videos, 7), choose.randint(1, 3)))
        batch = a.batch(10)
        for _ in a.backlog.sum_up(batch):
            others()
        if choose.random() < 0.3:
            a.not_stored(batch)
            continue
        stored |= batch.own.get(a.id, {})
        for _ in a.storing(batch):
            others()
        kept = decode_sum(batch.sums[sum_name(a.id)])
        assert kept == (sum(stored.values()), a.tally.digest(a.id))
        assert not a.needs_new_run
    network.flush("a")
    network.seconds(3)
    assert dict(b.tally.vector(a.id).items()) == dict(a.tally.vector(a.id).items())
    assert not a.needs_new_run, "nobody took what was not published yet for a loss"


def test_a_run_that_grows_by_what_others_hold_while_it_is_added_up_has_no_sum(
    network: Network,
) -> None:
    a = network.node("a", kind=Stepwise)
    network.node("b")
    before = a.id
    a.count_many({f"video-{number}": 2 for number in range(6)})
    # Others hold more of it than its writer: it goes on as another run.
    a.start_new_run(mint_run(9_000, "", 5), network.now)
    batch = a.batch(10)
    steps = a.backlog.sum_up(batch)
    next(steps)
    delta = Delta({"video-0": 9, "video-9": 1}, 10)
    a.receive(Envelope(before, "b", 0, delta), network.now)
    list(steps)
    assert before in batch.own
    assert batch.sums[sum_name(before)] == ""
    a.stored(batch)
    while a.unsaved():
        batch = a.batch(10)
        list(a.backlog.sum_up(batch))
        a.stored(batch)
    total = 2 * 5 + 9 + 1
    assert decode_sum(batch.sums[sum_name(before)]) == (total, a.tally.digest(before))


def test_deltas_come_page_by_page_and_the_last_one_says_how_far_a_log_was_read(
    network: Network,
) -> None:
    a = network.node("a")
    videos = {f"a-video-with-a-long-name-{number:06}": 1 for number in range(5_000)}
    a.logs.read("access.log", videos, {"0" * 16: Position(10, 20)})
    a.stored(a.batch(10))
    told: dict[str, int] = {}
    pages = []
    while page := a.publish(1):
        ((run, delta),) = page
        assert run == a.id
        told |= delta.counts
        assert delta.total == len(told)
        pages.append(delta)
    assert told == videos
    assert len(pages) > 2
    assert [bool(delta.read) for delta in pages] == [False] * (len(pages) - 1) + [True]


# -- a turn of gevent's loop

UNDER_GEVENT = """
from gevent import monkey
monkey.patch_all()
import sys, time
from threading import Thread
from pathlib import Path
from counter.node.turns import give_way
from counter.node.visit_log import VisitLog
from counter.protocol.positions import Position
from counter.web import visits
from counter.web.problems import Problem

beats = 0

def beat():
    global beats
    while True:
        time.sleep(0.001)
        beats += 1

def read(folder):
    log = Path(folder) / "log"
    log.write_text("".join(f"{n}.000 1.{n} cats\\n" for n in range(10**9, 10**9 + 200_000)))
    follower = VisitLog(log)
    (file,) = follower.look()
    assert follower.read(file, Position(file.began)).lines > 100_000

def refuse(_):
    bad = b"[" + b'{"video": "cats"},' * 9_999 + b'{"video": "/"}]'
    try:
        visits.read("application/json", bad, visits.TRUSTED)
    except Problem:
        pass

Thread(target=beat, daemon=True).start()
since = time.monotonic()
for _ in range(1_000):
    give_way()
alone = time.monotonic() - since
for long in (read, refuse):
    time.sleep(0.01)
    beats, since = 0, time.thread_time()
    long(sys.argv[1])
    print(beats, time.thread_time() - since)
print(alone)
"""


@pytest.mark.alone
def test_under_gevent_timers_run_between_steps_and_nobody_waits_for_a_clock(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", UNDER_GEVENT, str(tmp_path)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    *computed, alone = [list(map(float, line.split())) for line in said.stdout.splitlines()]
    for beats, seconds in computed:
        # After three milliseconds of work: with `sleep(0)` it would be after fifty pieces.
        assert beats >= seconds / 0.02, (beats, seconds)
    # A millisecond each it would be if each waited for the shortest time that the loop waits.
    assert alone[0] < 0.8


# -- the thread that owns the store


class Turns:
    """What happens whenever the flusher gives way: everybody may have the lock."""

    def __init__(self, one: Kept) -> None:
        self.one = one
        self.flushes: list[Flush] = []
        self.totals: list[int] = []

    def __call__(self) -> None:
        one = self.one
        assert one.lock.acquire(timeout=5), "it gives way and keeps the lock"
        try:
            assert not any(flush.ended for flush in self.flushes)
            self.totals.append(one.replica.tally.total(one.replica.id))
            stored = one.store.counts.get(one.replica.id, {})
            shown = one.replica.tally.vector(one.replica.id)
            assert all(stored[video] >= count for video, count in shown.items())
            for video in ("video-0", "video-99"):
                assert one.replica.counter(video, pending=True) == {one.replica.member: 2}
        finally:
            one.lock.release()


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pending, "a_step", 10)
    monkeypatch.setattr(Pending, "entries_a_step", 10)
    monkeypatch.setattr(flusher, "_TURN", 0.0)


def count(one: Kept) -> Flush:
    """Count many visits at once; return what ends when they are stored."""
    with one.lock:
        one.replica.count_many({f"video-{number}": 2 for number in range(100)})
        return one.flusher.gathering


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("stops", [False, True])
def test_the_flusher_gives_way_between_steps_and_answers_at_the_end(
    monkeypatch: pytest.MonkeyPatch, stops: bool
) -> None:
    store = MemoryStore()
    with kept(store, gather=0.0) as one:
        one.join()
        turns = Turns(one)
        monkeypatch.setattr(flusher, "give_way", turns)
        turns.flushes.append(count(one))
        one.flusher.wake()
        if not stops:
            assert turns.flushes[0].wait(5)
            assert one.replica.pending.unflushed() == 0
    # Whoever stops it meanwhile finds all of it stored and shown.
    assert turns.flushes[0].ended
    assert one.replica.tally.total(one.replica.id) == 200
    assert turns.totals == sorted(turns.totals)
    assert len(set(turns.totals)) > 5, "it was shown in steps"
    assert turns.totals.count(0) > 5, "it was added up in steps"
    assert sum(store.counts[one.replica.id].values()) == 200


class FailsOnce(MemoryStore):
    """A store that fails once after it has written visits."""

    failed = False

    def write(self, counts: Counts, **also: Any) -> None:
        super().write(counts, **also)
        if counts and not self.failed:
            self.failed = True
            raise StoreDownError("it may be written or not")


@pytest.mark.usefixtures("small_steps")
def test_a_large_batch_in_doubt_is_written_again_and_counted_once() -> None:
    store = FailsOnce()
    with kept(store, gather=0.0) as one:
        one.join()
        failed = count(one)
        one.flusher.wake()
        assert not failed.wait(5)
        assert store.failed
        until(lambda: one.replica.pending.unflushed() == 0, 5, "it is written again")
        total = one.replica.tally.total(one.replica.id)
        assert total == sum(store.counts[one.replica.id].values()) == 200
        kept_sum = decode_sum(store.facts[sum_name(one.replica.id)])
        assert kept_sum == (200, one.replica.tally.digest(one.replica.id))


# -- what rests is woken in steps


@pytest.fixture
def small_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Videos, "small", 500)


def resting(tally: Tally, vector: str, videos: int) -> None:
    tally.merge(vector, {f"video-{number}": number % 300 + 1 for number in range(videos)})
    while not tally.rests(vector):
        tally.rest(vector, 10_000)


@pytest.mark.usefixtures("small_index")
def test_a_vector_is_woken_in_steps_and_is_the_same() -> None:
    tally, vector = Tally(), replica_of(OTHER, mint_run(1, "", 1))
    resting(tally, vector, 150_000)
    before = tally.total(vector), tally.digest(vector), tally.vector(vector).hashes(64, 7)
    counts = dict(tally.vector(vector).items())
    steps = []
    while woken := tally.wake(vector, 70_000):
        steps.append(woken)
        assert (tally.total(vector), tally.size(vector)) == (before[0], 150_000)
    assert len(steps) > 1
    assert not tally.rests(vector)
    assert dict(tally.vector(vector).items()) == counts
    again = tally.total(vector), tally.digest(vector), tally.vector(vector).hashes(64, 7)
    assert again == before


@pytest.mark.usefixtures("small_index")
def test_one_that_grows_while_it_is_woken_has_all() -> None:
    tally, vector = Tally(), replica_of(OTHER, mint_run(1, "", 1))
    resting(tally, vector, 150_000)
    total = tally.total(vector)
    tally.wake(vector, 70_000)
    tally.merge(vector, {"video-5": 1000, "new": 2})
    while tally.wake(vector, 70_000):
        pass
    assert tally.total(vector) == total + 1000 - 6 + 2
    assert tally.count(vector, "video-149999") == 149_999 % 300 + 1


@pytest.mark.usefixtures("small_index")
@pytest.mark.parametrize("grows", [False, True])
def test_a_large_run_that_rests_is_folded_after_it_was_woken(grows: bool) -> None:
    replica = opened(alone(OWN))
    runs = [replica_of(OTHER, mint_run(number, "", 1)) for number in (1, 2)]
    for run in runs:
        replica.receive(Envelope(run, "", 0, Delta({"cats": 1}, 1)), 0.0)
    resting(replica.tally, runs[0], 300_000)
    total, visits = replica.tally.total(runs[0]), replica.tally.visits("video-7")
    replica.stored(replica.batch(1000))
    replica.backlog.follow(OTHER, run_of(runs[0]))
    written: dict[str, int] = {}
    folded = folded_of(OTHER, run_of(runs[0]))
    batches = 0
    while replica.news():
        batch = replica.batch(50_000)
        assert replica.tally.visits("video-7") == visits
        written |= batch.counts.get(folded, {})
        replica.stored(batch)
        batches += not replica.tally.mark(OTHER)
        if grows and batches == 1 and replica.tally.rests(runs[0]):
            replica.backlog.merge(runs[0], {"video-7": 2000})
            total, visits = total + 2000 - 8, visits + 2000 - 8
    assert batches == (1 if grows else 2)
    assert replica.tally.total(folded) == total
    assert written == dict(replica.tally.vector(folded).items())
    assert replica.folding.folds == 1


# -- how long it takes


def longest(steps: Iterator[object]) -> float:
    """The seconds of processor time that the longest step took."""
    most = 0.0
    while True:
        began = time.thread_time()
        try:
            next(steps)
        except StopIteration:
            return max(most, time.thread_time() - began)
        most = max(most, time.thread_time() - began)


@pytest.mark.alone
def test_no_step_of_a_large_batch_takes_long() -> None:
    replica = opened(alone(OWN))
    for first in range(0, 500_000, 4_000):
        some = {f"video-{number}": 1 for number in range(first, first + 4_000)}
        replica.backlog.merge(replica_of(OTHER, mint_run(1, "", 1)), some)
    replica.count_many({f"new-{number}": 1 for number in range(50_000)})
    began = time.thread_time()
    batch = replica.batch(4_000)
    took = [time.thread_time() - began]
    took.append(longest(replica.backlog.sum_up(batch)))
    took.append(longest(replica.storing(batch)))
    assert replica.tally.total(replica.id) == 50_000
    took.append(longest(iter(lambda: replica.publish(1), [])))
    assert max(took) < 0.025, [f"{seconds * 1000:.1f} ms" for seconds in took]
