"""Visits on their way to the store: they belong to the run that counted them."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counter.crdt.gcounter import MAX_COUNT
from counter.crdt.ids import encode_id
from counter.crdt.tally import Tally
from counter.protocol.pending import MAX_TOTAL, Counts, Pending

MEMBER = f"a~{encode_id(1, 13)}"
FIRST, SECOND, THIRD = (f"{MEMBER}.{encode_id(number, 23)}" for number in (1, 2, 3))


@pytest.fixture
def tally() -> Tally:
    return Tally()


@pytest.fixture
def pending(tally: Tally) -> Pending:
    return Pending(FIRST, tally)


def test_a_visit_is_pending_then_in_flight_then_committed(tally: Tally, pending: Pending) -> None:
    pending.visit("cats")
    assert pending
    assert pending.unflushed() == pending.count("cats") == 1
    counts, notes = pending.take()
    assert (counts, notes) == ({FIRST: {"cats": 1}}, {})
    assert not pending
    assert pending.unflushed() == 1
    pending.visit("cats")
    assert pending.count("cats") == pending.unflushed() == 2
    assert tally.visits("cats") == 0
    assert dict(pending.stored(counts)) == {FIRST: {"cats": 1}}
    assert tally.visits("cats") == pending.unflushed() == 1
    counts, _ = pending.take()
    assert dict(pending.stored(counts)) == {FIRST: {"cats": 1}}
    assert pending.unflushed() == 0
    assert pending.count("cats") == 2


def test_what_an_earlier_run_has_counted_is_written_as_its_own(
    tally: Tally, pending: Pending
) -> None:
    pending.count_many({"cats": 3})
    pending.begin(SECOND)
    assert pending.waiting() == [FIRST]
    assert pending.count("cats") == 0
    pending.visit("cats")
    counts, _ = pending.take()
    assert counts == {FIRST: {"cats": 3}, SECOND: {"cats": 1}}
    assert dict(pending.stored(counts)) == {FIRST: {"cats": 3}, SECOND: {"cats": 1}}
    assert tally.counter("cats") == {MEMBER: 4}
    assert pending.take() == ({}, {})


def test_a_batch_in_doubt_is_pending_again_of_the_run_that_it_was(
    tally: Tally, pending: Pending
) -> None:
    pending.count_many({"cats": 3, "dogs": 1}, {"log:x": "1", "log:y": "1"})
    failed, notes = pending.take()
    pending.count_many({"cats": 1}, {"log:x": "2"})
    assert not pending.in_doubt
    pending.not_stored(failed, notes)
    assert pending.in_doubt
    assert pending.notes
    pending.begin(SECOND)
    pending.visit("cats")
    counts, notes = pending.take()
    assert counts == {FIRST: {"cats": 4, "dogs": 1}, SECOND: {"cats": 1}}
    assert notes == {"log:x": "2", "log:y": "1"}
    assert pending.in_doubt
    dict(pending.stored(counts))
    assert not pending.in_doubt
    assert tally.visits("cats") == 5


def test_only_what_is_written_is_out_of_doubt(pending: Pending) -> None:
    pending.visit("cats")
    pending.not_stored(*pending.take())
    pending.begin(SECOND)
    pending.visit("cats")
    dict(pending.stored({SECOND: {"cats": 1}}))
    assert pending.in_doubt


def test_the_own_run_takes_over_what_the_tally_does_not_hold_of_a_run_nobody_heeds(
    tally: Tally, pending: Pending
) -> None:
    pending.count_many({"cats": 3, "dogs": 2})
    tally.merge(FIRST, {"cats": 1, "dogs": 2})
    pending.begin(SECOND)
    pending.visit("cats")
    pending.move(FIRST)
    assert pending.waiting() == [SECOND]
    assert pending.take()[0] == {SECOND: {"cats": 3}}
    pending.move(THIRD)
    assert pending.count("cats") == 3


def test_the_own_run_takes_over_visits_of_a_video_that_others_have_filled_meanwhile(
    tally: Tally, pending: Pending
) -> None:
    other = f"b~{encode_id(2, 13)}.{encode_id(1, 23)}"
    for video in ("cats", "cats", "dogs"):
        pending.visit(video)
    tally.merge(other, {"cats": MAX_COUNT - 1})
    pending.begin(SECOND)
    pending.move(FIRST)
    assert pending.take()[0] == {SECOND: {"cats": 2, "dogs": 1}}


def test_what_the_own_run_takes_over_is_capped_where_no_number_shows_more(pending: Pending) -> None:
    pending.count_many({"cats": MAX_COUNT, "dogs": 5})
    pending.begin(SECOND)
    pending.count_many({"cats": 3, "dogs": 1})
    pending.move(FIRST)
    assert pending.take()[0] == {SECOND: {"cats": MAX_COUNT, "dogs": 6}}


def test_what_the_tally_holds_by_now_of_earlier_runs_is_not_written(
    tally: Tally, pending: Pending
) -> None:
    pending.count_many({"cats": 3, "dogs": 2})
    pending.begin(SECOND)
    pending.count_many({"mice": 1})
    tally.merge(FIRST, {"cats": 5, "dogs": 1})
    tally.merge(SECOND, {"mice": 5})
    pending.drop_known()
    assert pending.unflushed() == 1
    assert pending.take()[0] == {FIRST: {"dogs": 2}, SECOND: {"mice": 1}}


def test_a_count_and_the_visits_of_a_run_have_an_end_which_the_next_run_has_anew(
    tally: Tally, pending: Pending
) -> None:
    pending.count_many({"cats": MAX_COUNT})
    with pytest.raises(OverflowError, match="'cats'"):
        pending.visit("cats")
    with pytest.raises(OverflowError, match="'cats'"):
        pending.count_many({"dogs": 1, "cats": 1}, {"log:x": "1"})
    assert pending.count("dogs") == 0
    assert not pending.notes
    pending.count_many({f"video-{number}": MAX_COUNT for number in range(6)})
    pending.count_many({"mice": MAX_COUNT, "rest": MAX_TOTAL - 8 * MAX_COUNT})
    with pytest.raises(OverflowError, match="this run"):
        pending.visit("dogs")
    pending.begin(SECOND)
    pending.visit("cats")
    assert pending.count("cats") == 1


@given(st.randoms(use_true_random=False))
def test_whatever_fails_every_visit_is_counted_once(choose: random.Random) -> None:
    """A store that may or may not hold what it failed to take, under a process that goes on."""
    tally = Tally()
    pending = Pending(FIRST, tally)
    store: dict[str, dict[str, int]] = {}
    visits = 0

    def write(counts: Counts) -> None:
        for run, of_run in counts.items():
            kept = store.setdefault(run, {})
            kept |= {video: max(n, kept.get(video, 0)) for video, n in of_run.items()}

    for step in range(60):
        match choose.randrange(6):
            case 0 | 1:
                pending.visit(choose.choice("xyz"))
                visits += 1
            case 2:
                pending.count_many({"x": 2, choose.choice("yz"): 1})
                visits += 3
            case 3:
                counts, notes = pending.take()
                if choose.randrange(2):
                    write(counts)
                pending.not_stored(counts, notes)
            case 4:
                counts, _ = pending.take()
                write(counts)
                dict(pending.stored(counts))
            case 5:
                pending.begin(f"{MEMBER}.{encode_id(10 + step, 23)}")
        assert pending.unflushed() == visits - sum(tally.totals().values())
    counts, _ = pending.take()
    write(counts)
    dict(pending.stored(counts))
    assert sum(tally.totals().values()) == visits
    assert sum(sum(of_run.values()) for of_run in store.values()) == visits


def test_a_run_near_its_end_asks_for_another_and_the_next_one_counts_on(pending: Pending) -> None:
    pending.count_many({f"video-{number}": MAX_COUNT for number in range(7)})
    assert not pending.is_full
    pending.count_many({"video-7": MAX_COUNT})
    assert pending.is_full, "it can count little more"
    with pytest.raises(OverflowError, match="this run"):
        pending.count_many({"cats": 9})
    pending.begin(SECOND)
    assert not pending.is_full
    pending.count_many({"cats": 9})
    assert pending.count("cats") == 9


def test_a_run_waits_until_the_store_holds_its_visits(pending: Pending) -> None:
    assert pending.waiting() == []
    pending.visit("cats")
    pending.begin(SECOND)
    assert pending.waiting() == [FIRST]
    counts, notes = pending.take()
    assert pending.waiting() == [FIRST]
    pending.not_stored(counts, notes)
    assert pending.waiting() == [FIRST]
    dict(pending.stored(pending.take()[0]))
    assert pending.waiting() == []
