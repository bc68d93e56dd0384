"""A week of hourly runs while a member is away: nothing is folded, and they rest, packed."""

import gc
import os
import random
from itertools import islice

import pytest

from counter.crdt.ids import replica_of
from counter.crdt.tally import Tally

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


@pytest.mark.proof
@pytest.mark.timeout(600)
def test_a_week_of_a_million_videos_takes_at_most_100_mb_more() -> None:
    tally, truth, more = runs_of_a_week(1_000_000, HOURS)
    assert more < 100_000_000
    assert all(tally.visits(video) == 2 + count for video, count in truth.items())
