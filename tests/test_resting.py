"""A week of hourly runs while a member is away: nothing is folded, and they rest, packed."""

import gc
import os
import random
from itertools import islice
from typing import ClassVar

import pytest

from counter.crdt.ids import replica_of
from counter.crdt.segment import Segment
from counter.crdt.tally import Tally
from counter.crdt.vector import Vector
from counter.crdt.videos import Videos
from counter.node.names import write
from counter.protocol.replica import Replica
from counter.store.memory import MemoryStore
from tests.protocol import Network

MEMBERS = ["counter1~7q2m9f2ck3x8a", "counter2~07b1a0zz5k2vd"]
HOURS = 7 * 24


def resident() -> int:
    """The bytes of this process in memory."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def active(videos: list[str], share: float, chance: random.Random) -> dict[str, int]:
    """The counts of an hour: a share of the videos, few of them visited often."""
    some = chance.sample(videos, int(share * len(videos)))
    return {video: int(chance.paretovariate(1.2)) for video in some}


def runs_of_a_week(videos: int, hours: int) -> tuple[Tally, dict[str, int], int]:
    """A tally with the runs of two members at rest; what is true; and the bytes of the runs."""
    names, chance, tally = [f"video-{n:06}" for n in range(videos)], random.Random(7), Tally()
    watched = set(names[:: max(1, videos // 50_000)])
    truth = dict.fromkeys(sorted(watched), 0)
    # What any node holds beside runs: the videos, and the sums of its members.
    for member in MEMBERS:
        for first in range(0, videos, 4000):
            tally.merge(replica_of(member, f"{0:023}"), dict.fromkeys(names[first:][:4000], 1))
    gc.collect()
    before = resident()
    for hour in range(1, 1 + hours):
        for member in MEMBERS:
            vector = replica_of(member, f"{hour:023}")
            counts = active(names, 0.1, chance)
            told = iter(counts.items())
            while page := dict(islice(told, 4000)):
                tally.merge(vector, page)
            while not tally.rests(vector):
                tally.rest(vector, tally.most_packed)
            for video in counts.keys() & watched:
                truth[video] += counts[video]
    gc.collect()
    return tally, truth, resident() - before


def test_runs_at_rest_take_three_bytes_a_count_and_lose_none() -> None:
    tally, truth, more = runs_of_a_week(50_000, 20)
    counts = 20 * len(MEMBERS) * 5_000
    # One vector awake, and what the sums of members grew by, are beside them.
    assert more < 3 * counts + 3_000_000
    assert all(tally.visits(video) == 2 + count for video, count in truth.items())
    for member in MEMBERS:
        tally.fold(member, f"{20:023}")
    assert {video: tally.visits(video) for video in truth} == {v: 2 + n for v, n in truth.items()}
    folded = [dict(tally.vector(vector).items()) for vector in tally.totals()]
    assert len(folded) == len(MEMBERS)
    assert {video: sum(of[video] for of in folded) for video in truth} == {
        video: 2 + count for video, count in truth.items()
    }


class Packed(Vector):
    """A vector that notes how often one is unpacked."""

    unpacked: ClassVar[list[int]] = []

    @classmethod
    def unpack(cls, segment: Segment, videos: Videos) -> Vector:
        Packed.unpacked.append(segment.size)
        return super().unpack(segment, videos)


def ended(network: Network, runs: int) -> Replica:
    """A node with so many closed runs, of 40 videos each."""
    a = network.node("a", has_peers=False)
    for run in range(1, runs + 1):
        network.visit(a, *(f"v{run}-{number}" for number in range(40)))
        network.live(1)
        a = network.restart("a", 1000 * run)
    network.seconds(3)
    return a


def test_a_store_that_forgot_is_given_what_is_at_rest_run_by_run() -> None:
    """It unpacked all of them in one step, and had a byte a video for each."""
    network = Network()
    a = ended(network, 6)
    runs = [vector for vector in a.tally.of(a.member) if vector != a.id]
    assert all(map(a.tally.rests, runs))
    a.tally.vector_class = Packed
    Packed.unpacked.clear()
    a.recovery.forgotten([], {})
    a.recovery.all_loaded()
    assert not Packed.unpacked
    store = MemoryStore()
    store.open("a test", lambda: a.member[-13:])
    store.begin(a.id, a.recovery.own_fact())
    while a.unsaved():
        batch = a.batch(20)
        assert sum(map(len, batch.rows.values())) <= 20
        write(store, batch, heal=False)
        a.stored(batch)
    assert len(Packed.unpacked) <= len(runs), "each once"
    assert {vector: store.counts[vector] for vector in runs} == {
        vector: dict(a.tally.vector(vector).items()) for vector in runs
    }


def test_runs_that_come_while_a_node_joins_rest_before_they_are_written() -> None:
    """All were awake until then: gigabytes where a member comes back after a week."""
    network = Network()
    a = ended(network, 12)
    b = network.node("b")
    network.seconds(6)
    assert b.complete
    runs = [vector for vector in a.tally.of(a.member) if vector != a.id]
    assert b.unsaved()
    assert all(map(b.tally.rests, runs))
    network.flush("b")
    assert {v: b.tally.total(v) for v in runs} == dict.fromkeys(runs, 40)
    assert not b.unsaved()


@pytest.mark.proof
@pytest.mark.timeout(600)
def test_a_week_of_a_million_videos_takes_at_most_100_mb_more() -> None:
    tally, truth, more = runs_of_a_week(1_000_000, HOURS)
    assert more < 100_000_000
    assert all(tally.visits(video) == 2 + count for video, count in truth.items())
