"""What a large tally costs: no step takes long, open runs do not make a visit dearer."""

import time
from collections.abc import Callable
from importlib import import_module
from statistics import median

import pytest

from counter.crdt.hashes import BUCKETS
from counter.crdt.ids import replica_of
from counter.crdt.tally import Tally
from counter.crdt.vector import Vector
from counter.crdt.videos import Videos
from lab.clients import until

MEMBERS = [f"counter{number}~{'0' * 13}" for number in (1, 2, 3)]
VIDEOS = 200_000
STEP = 0.010
"""Seconds of the loop."""


def busy(function: Callable[[], object]) -> float:
    """The processor time of a call: what else runs on this machine does not count."""
    began = time.thread_time()
    function()
    return time.thread_time() - began


def merges(tally: Tally, vector: str, count: int) -> list[float]:
    """The processor time of each message that tells one count of every video."""
    took = []
    for first in range(0, VIDEOS, 1000):
        counts = {f"video-{number:06}": count for number in range(first, first + 1000)}
        took.append(busy(lambda counts=counts: tally.merge(vector, counts)))  # type: ignore[misc]
    return took


@pytest.mark.alone
def test_nothing_of_many_videos_takes_long_in_one_step() -> None:
    """On the way to 200,000: few become many, sparse ones dense, bytes two bytes, pages are split.

    The first step of all is the import of numpy, which a node does outside its loop.
    """
    import_module("counter.crdt.bulk")

    def longest() -> float:
        tally, took = Tally(), list[float]()
        for number, member in enumerate(MEMBERS):
            took += merges(tally, replica_of(member, f"{1:023}"), 200 + number)
        vector = replica_of(MEMBERS[0], f"{1:023}")
        copy, total = tally.vector(vector), tally.empty()
        took.append(busy(lambda: total.add(copy)))
        took.append(busy(lambda: tally.no_videos().update(copy)))
        took.append(busy(lambda: copy.hashes(BUCKETS, 1)))
        while not tally.rests(vector):
            took.append(busy(lambda: tally.rest(vector, tally.most_packed)))
        took.append(busy(lambda: tally.vector(vector)))
        took.append(busy(lambda: tally.vector(vector).hashes(BUCKETS, 1)))
        return max(took)

    # Some steps are long by accident, for the processor is not ours alone.
    until(lambda: longest() <= STEP, 60, f"no step takes more than {STEP} s")


@pytest.mark.alone
@pytest.mark.parametrize("videos", [100, 100_000])
def test_a_visit_costs_the_same_however_many_runs_are_open(videos: int) -> None:
    def tally_of(runs: int) -> Callable[[], float]:
        tally, hot = Tally(), [f"video-{number:06}" for number in range(100)]
        later = runs // len(MEMBERS) - 1
        for member in MEMBERS:
            for first in range(0, videos, 1000):
                names = [f"video-{number:06}" for number in range(first, first + 1000)]
                tally.merge(replica_of(member, f"{0:023}"), dict.fromkeys(names[:videos], 1))
            # The same sums in both: larger numbers take longer, whatever they are sums of.
            for number in range(1, 1 + later):
                counts = dict.fromkeys(hot, 16_700 // later)
                tally.merge(replica_of(member, f"{number:023}"), counts)
        own, counted = replica_of(MEMBERS[0], f"{10**6:023}"), 0

        def visits() -> None:
            nonlocal counted
            for _ in range(20):
                counted += 1
                for video in hot:
                    tally.count(own, video)
                    tally.visits(video)
                    tally.merge(own, {video: counted})
                    tally.counter(video)

        return lambda: busy(visits)

    many, usual = tally_of(504), tally_of(6)

    def ratio() -> float:
        return median(many() / usual() for _ in range(15))

    until(lambda: ratio() <= 1.1, 60, "504 open runs cost at most a tenth more")


def test_a_hundred_of_a_hundred_thousand_counts_are_found_in_a_small_page() -> None:
    """The more there is, the finer the buckets, so that what is sent follows what differs."""
    videos = Videos()
    counted = {f"video-{number:06}": 1 + number % 50 for number in range(100_000)}
    whole = Vector(videos)
    whole.merge(counted)
    whole.merge({f"video-{number:06}": 99 for number in range(100)})
    copy = Vector(Videos())
    copy.merge(counted)
    hashes = copy.hashes(copy.buckets(), 1)
    page, position = whole.differing(hashes, 1, 0, 10**6, 10**6)
    assert position is None
    copy.merge(page)
    assert copy.digest == whole.digest
    assert len(hashes) + sum(len(video) + 12 for video in page) < 128 * 1024
    assert len(page) < 100 * 60
