"""Recent viewers: within the window one visit of each counts, and memory has a bound."""

import random
import struct
import threading
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counter.config import Config
from counter.node.recent import Recent
from counter.node.viewers import Person, Viewers

DAY = 86_400


def test_a_second_visit_within_the_window_is_a_repeat_and_one_after_it_is_not() -> None:
    recent = Recent(60)
    assert recent.take(7, (), 1_000.0)
    assert not recent.take(7, (), 1_059.0)
    assert recent.take(8, (), 1_059.0), "another viewer"
    assert recent.take(7, (), 1_060.1)
    assert not recent.take(7, (), 1_100.0)


def test_a_repeat_does_not_lengthen_the_window() -> None:
    recent = Recent(60)
    assert recent.take(7, (), 1_000.0)
    assert not any(recent.take(7, (), 1_000.0 + second) for second in range(1, 60))
    assert recent.take(7, (), 1_060.1)


def test_a_refused_visit_starts_no_window() -> None:
    recent = Recent(60)
    assert recent.take(7, (), 1_000.0)
    recent.give_back(7)
    assert recent.told(1_000.0) == b""
    assert recent.take(7, (), 1_001.0)


def test_to_ask_changes_nothing() -> None:
    recent = Recent(60)
    assert not recent.has(7, (), 1_000.0)
    assert recent.take(7, (), 1_000.0)
    assert recent.has(7, (), 1_000.0)
    assert recent.has(9, (7,), 1_000.0)


def test_of_requests_at_the_same_time_one_counts() -> None:
    recent, counted, start = Recent(60), [], threading.Barrier(8)

    def visit() -> None:
        start.wait()
        counted.append(sum(recent.take(viewer, (), 1_000.0) for viewer in range(2_000)))

    threads = [threading.Thread(target=visit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counted) == 2_000


def test_what_one_node_has_counted_is_a_repeat_at_another_for_the_rest_of_the_window() -> None:
    """Only the age is told: their clocks may show anything."""
    one, other = Recent(60), Recent(60)
    assert one.take(7, (), 1_000.0)
    assert one.told(1_000.0) == b"", "not before it has counted"
    one.tell(7)
    told = one.told(1_010.0)
    assert one.told(1_010.0) == b"", "it is told once"
    other.heard(told, 5.0)
    assert not other.take(7, (), 54.0)
    assert other.take(7, (), 55.2)


def test_what_is_told_comes_in_parts_that_fit_into_a_message() -> None:
    one, other = Recent(60), Recent(60)
    for viewer in range(5_000):
        one.take(viewer, (), 1_000.0)
        one.tell(viewer)
    parts = []
    while part := one.told(1_000.0):
        parts.append(part)
    assert [len(part) for part in parts] == [32_000, 18_000]
    for part in parts:
        other.heard(part, 5.0)
    assert len(other) == 5_000


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 700)), max_size=30), st.randoms())
def test_what_is_heard_is_a_join(told: list[tuple[int, int]], source: random.Random) -> None:
    one, other = Recent(60), Recent(60)
    entries = [struct.pack("<QH", viewer, age) for viewer, age in told]
    one.heard(b"".join(entries), 1_000.0)
    source.shuffle(entries)
    for entry in (*entries, *entries):
        other.heard(entry, 1_000.0)
    for tenths in range(0, 620, 7):
        now = 1_000 + tenths / 10
        assert [one.has(viewer, (), now) for viewer in range(6)] == [
            other.has(viewer, (), now) for viewer in range(6)
        ]


def test_junk_is_no_viewer() -> None:
    recent = Recent(60)
    for junk in (b"", b"x", bytes(9), bytes(19), struct.pack("<QH", 7, 65_535)):
        recent.heard(junk, 1_000.0)
    assert len(recent) == 1, "of 19 bytes the first ten"


def test_the_oldest_are_forgotten_first_and_counted() -> None:
    recent = Recent(60, most=100)
    for viewer in range(150):
        assert recent.take(viewer, (), 1_000.0 + viewer / 10)
    assert len(recent) == 100
    assert recent.forgotten_early == 50
    assert recent.take(0, (), 1_015.0), "a repeat of one who was forgotten counts"
    assert not recent.take(149, (), 1_015.0)


def test_who_is_beyond_the_window_takes_no_memory() -> None:
    recent = Recent(60)
    for second in range(10_000):
        recent.take(second, (), 1_000.0 + second)
    assert len(recent) <= 62
    assert recent.forgotten_early == 0


def test_who_is_beyond_the_window_is_forgotten_though_nobody_comes() -> None:
    recent = Recent(5)
    for viewer in range(60):
        assert recent.take(viewer, (), 1_000.0)
    recent.forget(1_004.0)
    assert len(recent) == 60
    recent.forget(1_005.1)
    assert len(recent) == 0


def test_who_comes_again_at_the_end_of_each_window_keeps_nobody_in_memory() -> None:
    recent = Recent(5)
    for second in range(60):
        recent.take(0, (), 1_000.0 + second)
        for viewer in range(100):
            assert recent.take(1_000 * (second + 1) + viewer, (), 1_000.0 + second)
        recent.forget(1_000.0 + second)
        assert len(recent) <= 502


def test_refused_visits_take_no_memory() -> None:
    recent = Recent(3_600)
    assert recent.take(7, (), 1_000.0)
    for viewer in range(20_000):
        assert recent.take(100 + viewer, (), 1_001.0)
        recent.give_back(100 + viewer)
    assert len(recent) == 1
    assert len(recent._order) <= 1_100


def test_a_viewer_takes_less_than_a_hundred_bytes() -> None:
    tracemalloc.start()
    try:
        recent = Recent(3_600)
        before = tracemalloc.get_traced_memory()[0]
        for viewer in range(100_000):
            recent.take((viewer * 0x9E3779B97F4A7C15) & (2**64 - 1), (), 1_000.0 + viewer / 100)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    print(f"{taken / 100_000:.0f} bytes a viewer")
    assert taken / 100_000 < 110


# -- hashes


class At:
    """What time it is for viewers: call it to set that, in seconds of day 20,000."""

    def __init__(self) -> None:
        self.second = 0.0

    def __call__(self, second: float) -> None:
        self.second = second

    def viewers(self, config: Config) -> Viewers:
        return Viewers(config, wall=lambda: 20_000.0 * DAY + self.second)


@pytest.fixture
def at() -> At:
    return At()


CONFIG = Config(cluster_secret="a secret of nodes", repeat_window=600)
ANNA = Person("10.0.0.1", "Firefox")


def test_a_viewer_is_another_with_each_address_agent_video_day_and_secret(at: At) -> None:
    at(43_200)
    viewers = at.viewers(CONFIG)
    seen = {
        viewers.viewer("cats", ANNA).today,
        viewers.viewer("dogs", ANNA).today,
        viewers.viewer("cats", Person("10.0.0.2", "Firefox")).today,
        viewers.viewer("cats", Person("10.0.0.1", "Chrome")).today,
        at.viewers(Config(cluster_secret="another secret")).viewer("cats", ANNA).today,
    }
    assert at.viewers(CONFIG).viewer("cats", ANNA).today in seen, "the same at another node"
    at(43_200 + DAY)
    seen.add(viewers.viewer("cats", ANNA).today)
    assert len(seen) == 6
    assert max(seen) < 2**64


def test_a_window_over_midnight_is_one_window(at: At) -> None:
    viewers = at.viewers(CONFIG)
    at(DAY - 100)
    assert not viewers.is_repeat("cats", Person("10.0.0.1", "Firefox"))
    at(DAY + 100)
    assert viewers.is_repeat("cats", Person("10.0.0.1", "Firefox"))
    assert viewers.would_repeat("cats", ANNA)
    assert not viewers.is_repeat("cats", Person("10.0.0.2", "Firefox"))


def test_a_node_whose_clock_is_a_little_behind_midnight_knows_tomorrows_viewers(at: At) -> None:
    ahead, behind = at.viewers(CONFIG), at.viewers(CONFIG)
    at(DAY + 1)
    visitor = Person("10.0.0.1", "Firefox")
    assert not ahead.is_repeat("cats", visitor)
    ahead.counted("cats", visitor)
    assert ahead.recent is not None
    assert behind.recent is not None
    told = ahead.recent.told(time.monotonic())
    at(DAY - 1)
    behind.recent.heard(told, time.monotonic())
    assert behind.is_repeat("cats", Person("10.0.0.1", "Firefox"))


def test_without_repeats_and_viewers_nothing_is_asked() -> None:
    viewers = Viewers(Config())
    assert not viewers.asked
    assert viewers.sketches is None
    assert not viewers.is_repeat("cats", ANNA)
    assert viewers.shown("cats") == {}


def test_a_node_alone_keeps_a_random_key_for_its_day(at: At) -> None:
    at(1_000)
    first, second = at.viewers(Config(viewers=True)), at.viewers(Config(viewers=True))
    viewer = first.viewer("cats", ANNA).today
    assert second.viewer("cats", ANNA).today != viewer
    facts = first.salts.facts(20_000)
    assert list(facts) == ["salt:20000"]
    third = at.viewers(Config(viewers=True))
    third.salts.opened(facts)
    assert third.viewer("cats", ANNA).today == viewer, "also after a restart"
    assert list(first.salts.facts(20_002)) == ["salt:20002"], "and the key of its day alone"
    assert at.viewers(CONFIG).salts.facts(20_000) == {}, "with a secret it is not needed"
