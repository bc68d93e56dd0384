"""Which runs are open, which are closed and for how long, and what is said of them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counter.crdt.ids import (
    END_OF_RUNS,
    RUN,
    RUN_LENGTH,
    day_of,
    encode_id,
    mint_run,
    replica_of,
)
from counter.crdt.tally import Tally
from counter.protocol.members import Members, decode_fact
from counter.protocol.peers import Peers
from counter.protocol.runs import Runs

TTL = 4.0
A_DAY = 86_400_000
OWN_MEMBER, MEMBER = f"a~{encode_id(1, 13)}", f"b~{encode_id(2, 13)}"
OWN = replica_of(OWN_MEMBER, mint_run(0, "", 1))


def run(number: int, day: int = 0) -> str:
    """A run of the other member."""
    return replica_of(MEMBER, mint_run(day * A_DAY + number, "", number))


class Known:
    """The runs that a node knows, with what it knows them by."""

    def __init__(self, now: float = 0.0) -> None:
        self.tally, self.members, self.peers = Tally(), Members(), Peers(3.0, TTL)
        self.members.learn(OWN_MEMBER, OWN[-RUN_LENGTH:])
        self.runs = Runs(OWN, 1_000, self.tally, self.members, self.peers, TTL, now)

    def count(self, vector: str, cats: int = 1) -> None:
        """Hear that a run has counted."""
        self.tally.merge(vector, {"cats": cats})
        self.members.learn(MEMBER, vector[-RUN_LENGTH:])
        self.runs.changed(vector)

    def look(self, now: float) -> list[str]:
        """See what is closed now."""
        self.runs.look(now)
        return self.runs.closed(MEMBER)


@pytest.fixture
def known() -> Known:
    return Known()


def test_a_run_is_closed_once_it_has_a_successor_and_no_message_of_it_may_live(
    known: Known,
) -> None:
    known.count(run(1))
    known.peers.hear(run(1), "", 0.0)
    assert known.look(100.0) == [], "it is silent, but may come back"
    known.peers.hear(run(1), "", 100.0)
    known.count(run(2))
    assert known.look(100.0 + TTL) == []
    assert known.runs.open(MEMBER) == {run(1), run(2)}
    assert known.look(101.0 + TTL) == [run(1)]
    assert known.runs.closed_for(run(1)) == 0.0
    known.look(111.0 + TTL)
    assert known.runs.closed_for(run(1)) == 10.0
    assert known.runs.closed_for(run(2)) == 0.0


def test_a_run_that_is_heard_again_is_open_again_and_closes_anew(known: Known) -> None:
    known.count(run(1))
    known.count(run(2))
    assert known.look(1.0) == [run(1)], "it was never heard here"
    known.look(50.0)
    known.peers.hear(run(1), "", 50.0)
    assert known.look(51.0) == []
    assert known.runs.closed_for(run(1)) == 0.0
    assert known.look(60.0) == [run(1)]
    known.look(61.0)
    assert known.runs.closed_for(run(1)) == 1.0


def test_the_own_run_is_open_whatever_others_say_of_it(known: Known) -> None:
    known.tally.merge(OWN, {"cats": 1})
    known.members.learn(OWN_MEMBER, "1" * RUN_LENGTH, "1" * RUN_LENGTH)
    known.runs.look(100.0)
    assert known.runs.closed(OWN_MEMBER) == []
    assert known.runs.open(OWN_MEMBER) == {OWN}


def test_a_run_of_this_process_is_open_while_its_visits_are_on_their_way(known: Known) -> None:
    later = replica_of(OWN_MEMBER, mint_run(9, "", 9))
    known.tally.merge(OWN, {"cats": 1})
    known.members.learn(OWN_MEMBER, later[-RUN_LENGTH:])
    known.runs.start_new_run(later, 0)
    known.runs.look(1.0, [OWN])
    assert known.runs.open(OWN_MEMBER) == {OWN, later}
    known.runs.look(100.0)
    assert known.runs.closed(OWN_MEMBER) == [OWN]
    assert known.runs.closed_for(OWN) == 0.0


def test_others_hear_of_a_run_whose_first_visits_are_on_their_way(known: Known) -> None:
    later = replica_of(OWN_MEMBER, mint_run(9, "", 9))
    known.members.learn(OWN_MEMBER, later[-RUN_LENGTH:])
    known.runs.start_new_run(later, 0)
    known.runs.look(1.0, [OWN])
    assert known.runs.open(OWN_MEMBER) == {OWN, later}


def test_the_runs_of_a_removed_member_are_closed(known: Known) -> None:
    known.count(run(1))
    assert known.look(1.0) == []
    known.members.learn(MEMBER, "", run(1)[-RUN_LENGTH:])
    assert known.look(2.0) == [run(1)]


# -- how long it has been closed


def test_how_long_a_run_is_closed_is_kept_over_restarts_and_no_clock_moves_it(
    known: Known,
) -> None:
    known.count(run(1))
    known.count(run(2))
    known.look(10.0)
    known.look(100.0)
    assert known.runs.closed_for(run(1)) == 90.0
    # Down for long, with another clock: only time counts for which a node ran on the store.
    again = Known(now=7.0)
    again.count(run(1))
    again.count(run(2))
    again.runs.opened(known.runs.batch())
    again.look(7.0)
    assert again.runs.closed_for(run(1)) == 90.0
    again.look(17.0)
    assert again.runs.closed_for(run(1)) == 100.0


def test_a_run_that_the_store_knows_as_closed_is_told_with_its_day_at_once(known: Known) -> None:
    """As after a memory was put back to when the run was open: its node folds it, too."""
    later = Known()
    for one in (known, later):
        one.count(run(1))
        one.count(run(2))
        one.look(1.0 + TTL)
    kept = later.runs.batch()
    back = Known()
    back.count(run(1))
    back.look(1.0)
    assert back.runs.days(MEMBER) == {}
    back.runs.opened(kept)
    assert back.runs.closed(MEMBER) == [run(1)]
    assert back.runs.days(MEMBER) == known.runs.days(MEMBER) != {}


def test_the_age_of_the_store_is_written_now_and_then(known: Known) -> None:
    known.runs.look(1.0)
    first = known.runs.batch()
    assert first == {f"run:{OWN}": "1000 -", "age:store": "1000"}
    assert not known.runs.unsaved()
    known.runs.look(1.0 + TTL - 0.1)
    assert not known.runs.unsaved()
    known.runs.look(1.0 + TTL)
    assert known.runs.batch() == {"age:store": "5000"}
    known.runs.not_stored({"age:store": "5000"})
    assert known.runs.batch() == {"age:store": "5000"}


def test_what_was_not_stored_is_written_again_and_all_of_it_when_the_store_forgot(
    known: Known,
) -> None:
    known.count(run(1))
    known.runs.look(1.0)
    first = known.runs.batch()
    assert set(first) == {f"run:{OWN}", f"run:{run(1)}", "age:store"}
    known.runs.not_stored(first)
    assert known.runs.batch() == first
    assert not known.runs.unsaved()
    known.runs.forgotten()
    assert known.runs.batch() == first


def test_what_is_kept_of_a_run_goes_with_its_name(known: Known) -> None:
    known.count(run(1))
    known.count(run(2))
    known.look(1.0)
    kept = known.runs.batch()
    known.tally.fold(MEMBER, run(1)[-RUN_LENGTH:])
    known.look(2.0)
    gone = known.runs.batch()
    assert gone[f"run:{run(1)}"] == ""
    known.runs.not_stored(gone)
    assert known.runs.batch()[f"run:{run(1)}"] == ""
    # Left over in a store that was killed in between.
    again = Known()
    again.tally.fold(MEMBER, run(1)[-RUN_LENGTH:])
    again.runs.opened(kept)
    assert again.runs.batch()[f"run:{run(1)}"] == ""


@pytest.mark.parametrize("text", ["", "x", "-1 -1", "9" * 40, "1.5 x", "\u0661 \u0661"])
def test_a_note_that_is_none_says_nothing(known: Known, text: str) -> None:
    known.count(run(1))
    known.count(run(2))
    known.runs.opened({f"run:{run(1)}": text, "age:store": text})
    assert known.look(1.0) == [run(1)]
    assert known.runs.closed_for(run(1)) <= 1.0


def test_no_run_is_closed_for_longer_than_its_store_is_old(known: Known) -> None:
    known.count(run(1))
    known.count(run(2))
    known.runs.opened({f"run:{run(1)}": "5 9999999", "age:store": "7000"})
    known.look(1.0)
    assert known.runs.closed_for(run(1)) == 1.0


# -- dates


def test_of_two_dates_of_a_run_the_later_one_counts(known: Known) -> None:
    known.count(run(1))
    assert known.runs.date_of(run(1)) == 0
    for date, known_date in ((500, 500), (400, 500), (600, 600)):
        known.runs.learn_date(run(1), date)
        assert known.runs.date_of(run(1)) == known_date
    assert known.runs.batch()[f"run:{run(1)}"] == "600 -"
    again = Known()
    again.count(run(1))
    again.runs.opened({f"run:{run(1)}": "600 -"})
    assert again.runs.date_of(run(1)) == 600


def test_a_date_is_told_apart_from_the_order_of_runs(known: Known) -> None:
    # A clock that was ahead, and is right again: the next run is later, its date is not.
    ahead = mint_run(40 * A_DAY, "", 1)
    later = mint_run(2 * A_DAY, ahead, 2)
    assert later > ahead
    known.runs.start_new_run(replica_of(OWN_MEMBER, later), 2 * A_DAY)
    assert known.runs.date == 2 * A_DAY
    assert known.runs.own_note() == {f"run:{replica_of(OWN_MEMBER, later)}": f"{2 * A_DAY} -"}


# -- digests by day


def closed(counts: dict[int, int], order: list[int]) -> Known:
    known = Known()
    for number in order:
        known.count(run(number, number // 4), counts[number])
    known.count(run(99, 99))
    known.look(1.0)
    return known


runs_and_counts = st.dictionaries(st.integers(1, 12), st.integers(1, 9), min_size=1)


@given(runs_and_counts)
def test_who_holds_the_same_closed_runs_says_the_same_of_each_day(counts: dict[int, int]) -> None:
    one = closed(counts, sorted(counts))
    other = closed(counts, sorted(counts, reverse=True))
    days = one.runs.days(MEMBER)
    assert days == other.runs.days(MEMBER)
    assert {day: number for day, (number, _) in days.items()} == {
        day: sum(number // 4 == day for number in counts) for day in {n // 4 for n in counts}
    }
    for number in counts:
        assert run(number, number // 4) in one.runs.of_day(MEMBER, number // 4)


@given(runs_and_counts, st.data())
def test_who_holds_more_of_one_run_says_something_else_of_its_day_alone(
    counts: dict[int, int], data: st.DataObject
) -> None:
    one = closed(counts, sorted(counts))
    number = data.draw(st.sampled_from(sorted(counts)))
    other = closed(counts | {number: counts[number] + 1}, sorted(counts))
    differing = {
        day
        for day in one.runs.days(MEMBER)
        if one.runs.days(MEMBER)[day] != other.runs.days(MEMBER)[day]
    }
    assert differing == {number // 4}


def test_a_day_follows_what_its_runs_hold(known: Known) -> None:
    known.count(run(1))
    known.count(run(2))
    known.look(1.0)
    before = known.runs.days(MEMBER)
    assert before.keys() == {0}
    assert known.runs.days(MEMBER) == before
    known.count(run(1), cats=2)
    after = known.runs.days(MEMBER)
    assert after != before
    assert after[0][0] == 1
    known.peers.hear(run(1), "", 1.0)
    known.look(1.5)
    assert known.runs.days(MEMBER) == {}, "what is open is told by its name"


# -- ids


def test_every_run_has_a_successor_and_those_beyond_2200_are_none() -> None:
    is_run = re.compile(RUN).fullmatch
    last = encode_id(7_258_118_400_000 - 1, 10) + "z" * 13
    assert is_run(last)
    for none in (END_OF_RUNS + "0" * 13, "z" * 23, "7" + "0" * 22):
        assert not is_run(none)
        assert decode_fact(f"{none} - -") == ("", "", "")
    assert mint_run(0, last, 0) > last
    assert len(mint_run(0, last, 0)) == RUN_LENGTH


@given(st.integers(0, 6_942_585_600_000 - 1), st.integers(0, 2**64 - 1))
def test_every_run_until_then_is_one_and_of_the_day_that_its_id_says(at: int, random: int) -> None:
    minted = mint_run(at, "", random)
    assert re.fullmatch(RUN, minted)
    assert day_of(minted) == at // A_DAY


@pytest.mark.parametrize("clock", [0, 2**41, 7_258_118_400_000, 2**49])
def test_every_run_has_a_successor_that_others_take_whatever_the_clock(clock: int) -> None:
    latest = ""
    for number in range(20):
        run_id = mint_run(clock, latest, 2**64 - 1 - number)
        assert run_id > latest
        assert re.fullmatch(RUN, run_id), "not beyond the year 2200"
        latest = run_id
    last = encode_id(7_258_118_399_999, 10) + encode_id(5, 13)
    for number in range(20):
        later = mint_run(clock, last, number)
        assert later > last
        assert re.fullmatch(RUN, later)
        last = later
