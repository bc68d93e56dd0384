"""A tally is a G-Counter a video: held to `gcounter`, to its vectors, and to its laws.

All of it holds for small tallies and for large ones, see `tests/small.py`.
"""

import json
import re
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counter.crdt.gcounter import MAX_COUNT, increment, merge, value
from counter.crdt.ids import VIDEO, folded_of, is_folded, member_of, name_of, replica_of, run_of
from counter.crdt.tally import Tally
from counter.crdt.top import TopVideos
from tests.small import EVERY_TALLY

VECTORS = json.loads((Path(__file__).parent / "vectors" / "gcounter.json").read_text())
RUN = ".01m83kr2yy3a0d1xw7bp3ns"
tally_class = Tally


@pytest.fixture(scope="module", params=EVERY_TALLY, autouse=True)
def every_tally(request: Any) -> Iterator[None]:
    """Run everything with a small tally and with large ones."""
    global tally_class
    tally_class = request.param
    yield
    tally_class = Tally


def tally_of(counter: dict[str, int], video: str = "cats") -> Tally:
    tally = tally_class()
    for member, count in counter.items():
        tally.merge(member + RUN, {video: count})
    return tally


def named(cases: list[dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case["case"] for case in cases])


@named(VECTORS["increments"])
def test_an_increment_raises_only_the_replicas_own_entry(case: dict[str, Any]) -> None:
    tally = tally_of(case["start"])
    counter = increment(case["start"], case["replica"], case["by"])
    tally.merge(case["replica"] + RUN, {"cats": counter[case["replica"]]})
    assert tally.counter("cats") == counter == case["counter"]
    assert tally.visits("cats") == value(counter) == case["visits"]


@named(VECTORS["merges"])
def test_a_merge_takes_the_larger_entries_and_returns_what_grew(case: dict[str, Any]) -> None:
    left, grew = tally_of(case["left"]), {}
    for member, count in case["right"].items():
        for growth in left.merge(member + RUN, {"cats": count}).values():
            grew[member] = growth
    assert left.counter("cats") == merge(case["left"], case["right"]) == case["merged"]
    assert left.visits("cats") == case["visits"]
    assert grew == case["grew"]


@named(VECTORS["orders"])
def test_the_order_of_merges_does_not_matter(case: dict[str, Any]) -> None:
    for order in permutations(case["counters"]):
        tally = tally_class()
        for counter in order:
            for member, count in counter.items():
                tally.merge(member + RUN, {"cats": count})
        assert tally.counter("cats") == case["merged"]


@named(VECTORS["names"])
def test_the_counters_of_one_name_belong_together(case: dict[str, Any]) -> None:
    names: dict[str, int] = {}
    for member, count in tally_of(case["counter"]).counter("cats").items():
        name = member.partition("~")[0]
        names[name] = min(names.get(name, 0) + count, MAX_COUNT)
    assert names == case["names"]


def test_the_alphabet_of_videos_is_the_pages_own() -> None:
    for video in VECTORS["videos"]["allowed"]:
        assert re.fullmatch(VIDEO, video), video
    for video in VECTORS["videos"]["refused"]:
        assert not re.fullmatch(VIDEO, video), video


replicas = st.sampled_from([f"{name}~{'0' * 13}{RUN}" for name in "abc"])
wide = st.one_of(st.integers(1, 9), st.sampled_from([255, 256, 65_535, 65_536, 2**32, 2**50]))
vectors = st.dictionaries(st.sampled_from(["cats", "dogs", "~", "x.y", "fish", "a", "b"]), wide)
updates = st.lists(st.tuples(replicas, vectors), max_size=8)


def merged(*histories: list[tuple[str, dict[str, int]]]) -> Tally:
    tally = tally_class()
    for history in histories:
        for replica, counts in history:
            tally.merge(replica, counts)
    return tally


def shown(tally: Tally) -> dict[str, dict[str, int]]:
    return {replica: dict(vector.items()) for replica, vector in tally.vectors()}


@given(updates)
def test_every_video_of_a_tally_is_a_g_counter(history: Any) -> None:
    tally, counters = tally_class(), dict[str, dict[str, int]]()
    for replica, counts in history:
        grew = tally.merge(replica, counts)
        for video, count in counts.items():
            before = counters.get(video, {})
            counters[video] = merge(before, {member_of(replica): count})
            assert grew.get(video, 0) == value(counters[video]) - value(before)
    for video, counter in counters.items():
        assert tally.counter(video) == counter
        assert tally.visits(video) == value(counter)


@given(updates, updates)
def test_merging_is_commutative_and_idempotent(left: Any, right: Any) -> None:
    assert shown(merged(left, right)) == shown(merged(right, left))
    assert shown(merged(left, left)) == shown(merged(left))


@given(updates, updates, updates)
def test_merging_is_associative(first: Any, second: Any, third: Any) -> None:
    joined = [(replica, dict(counts)) for replica, counts in shown(merged(second, third)).items()]
    assert shown(merged(first, joined)) == shown(merged(first, second, third))


@given(updates)
def test_nothing_ever_falls_and_totals_are_sums(history: Any) -> None:
    tally = tally_class()
    for replica, counts in history:
        before = shown(tally)
        grew = tally.merge(replica, counts)
        after = shown(tally)
        for known, vector in before.items():
            for video, count in vector.items():
                assert after[known][video] >= count
        for video, growth in grew.items():
            assert growth == tally.count(replica, video) - before.get(replica, {}).get(video, 0) > 0
        assert tally.total(replica) == sum(after.get(replica, {}).values())
    for video in ("cats", "dogs"):
        assert tally.visits(video) == sum(tally.counter(video).values())
    assert sum(tally.members().values()) == sum(tally.totals().values())


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 3)), max_size=300))
def test_the_top_videos_are_the_most_visited_videos(visits: list[tuple[int, int]]) -> None:
    ranking, counts = TopVideos(5), dict[str, int]()
    for number, more in visits:
        video = f"video-{number}"
        counts[video] = counts.get(video, 0) + more
        ranking.grew(video, counts[video])
    top = ranking.top(5)
    assert [counts[video] for video in top] == sorted(counts.values(), reverse=True)[:5]
    assert top == sorted(top, key=lambda video: (-counts[video], video))


def test_an_id_tells_what_it_is_of() -> None:
    member, run = "a.b-c~7q2m9f2ck3x8a", "01m83kr2yy3a0d1xw7bp3ns"
    for vector in (replica_of(member, run), folded_of(member, run)):
        assert (member_of(vector), run_of(vector), name_of(vector)) == (member, run, "a.b-c")
    assert is_folded(folded_of(member, run))
    assert not is_folded(replica_of(member, run))


# -- folding

MEMBER, OTHER = "counter1~7q2m9f2ck3x8a", "counter2~07b1a0zz5k2vd"
RUNS = [f"{number:023}" for number in range(1, 6)]

runs = st.dictionaries(
    st.sampled_from(RUNS),
    st.dictionaries(st.sampled_from(["cats", "dogs", "mice"]), st.integers(1, 50), min_size=1),
)


def of_runs(member: str, counted: dict[str, dict[str, int]]) -> Tally:
    tally = tally_class()
    for run, counts in counted.items():
        tally.merge(replica_of(member, run), counts)
    return tally


@given(runs, st.sampled_from(RUNS))
def test_a_fold_changes_no_number_and_leaves_one_vector(
    counted: dict[str, dict[str, int]], mark: str
) -> None:
    tally = of_runs(MEMBER, counted)
    tally.merge(replica_of(OTHER, RUNS[0]), {"cats": 7})
    before = {video: tally.counter(video) for video in ("cats", "dogs", "mice")}
    tally.fold(MEMBER, mark)
    assert {video: tally.counter(video) for video in before} == before
    assert all(tally.visits(video) == value(before[video]) for video in before)
    left = [vector for vector, _ in tally.vectors() if member_of(vector) == MEMBER]
    assert [vector for vector in left if run_of(vector) <= mark] in ([], [folded_of(MEMBER, mark)])
    assert tally.total(folded_of(MEMBER, mark)) == sum(
        sum(counts.values()) for run, counts in counted.items() if run <= mark
    )


@given(runs, st.sampled_from(RUNS), st.sampled_from(RUNS))
def test_folding_bit_by_bit_is_folding_at_once(
    counted: dict[str, dict[str, int]], first: str, last: str
) -> None:
    once, twice = of_runs(MEMBER, counted), of_runs(MEMBER, counted)
    once.fold(MEMBER, max(first, last))
    twice.fold(MEMBER, min(first, last))
    twice.fold(MEMBER, max(first, last))
    assert shown(once) == shown(twice)


@given(runs, st.sampled_from(RUNS), st.data())
def test_copies_that_missed_something_are_joined_without_loss_or_doubling(
    counted: dict[str, dict[str, int]], mark: str, data: st.DataObject
) -> None:
    """One copy is whole; the other missed anything, and follows to the mark of the first."""
    whole = of_runs(MEMBER, counted)
    truth = {video: whole.counter(video) for video in ("cats", "dogs", "mice")}
    partial = of_runs(
        MEMBER,
        {
            run: {video: data.draw(st.integers(1, count)) for video, count in counts.items()}
            for run, counts in counted.items()
            if data.draw(st.booleans())
        },
    )
    for tally in (whole, partial):
        tally.fold(MEMBER, mark)
    for name, counts in shown(whole).items():
        partial.merge(name, counts)
    for name, counts in shown(partial).items():
        whole.merge(name, counts)
    assert shown(whole) == shown(partial)
    assert {video: whole.counter(video) for video in truth} == truth


@pytest.mark.parametrize("kind", EVERY_TALLY)
@pytest.mark.parametrize("counted", [1, 2, 20], ids="{} of 20 videos".format)
def test_a_set_takes_the_videos_of_a_vector_as_it_takes_their_names(
    kind: type[Tally], counted: int
) -> None:
    tally, vector = kind(), replica_of(MEMBER, f"{1:023}")
    tally.merge(replica_of(MEMBER, f"{2:023}"), {f"v{number}": 1 for number in range(20)})
    counts = {f"v{number}": number + 1 for number in range(counted)}
    tally.merge(vector, counts)
    for given_videos in (list(counts), tally.vector(vector)):
        videos = tally.no_videos()
        videos.update(["v0", "v19"])
        videos.update(given_videos)
        assert len(videos) == len({*counts, "v19"})
        assert set(tally.ids.names(videos.take(20))) == {*counts, "v0", "v19"}


def test_what_is_older_than_the_mark_is_ignored() -> None:
    tally = of_runs(MEMBER, {RUNS[0]: {"cats": 3}, RUNS[1]: {"cats": 4}, RUNS[2]: {"cats": 5}})
    tally.fold(MEMBER, RUNS[1])
    assert tally.merge(replica_of(MEMBER, RUNS[0]), {"cats": 100}) == {}
    assert tally.merge(replica_of(MEMBER, RUNS[1]), {"dogs": 1}) == {}
    assert tally.merge(folded_of(MEMBER, RUNS[0]), {"cats": 100}) == {}
    assert tally.merge(folded_of(MEMBER, RUNS[2]), {"cats": 100}) == {}
    assert tally.counter("cats") == {MEMBER: 12}
    assert tally.merge(folded_of(MEMBER, RUNS[1]), {"cats": 8}) == {"cats": 1}
    assert tally.merge(replica_of(MEMBER, RUNS[2]), {"cats": 6}) == {"cats": 1}
    assert tally.counter("cats") == {MEMBER: 14}
    assert tally.top(1) == ["cats"]


def test_a_fold_stays_within_what_a_count_may_be() -> None:
    tally = of_runs(MEMBER, {RUNS[0]: {"cats": MAX_COUNT}, RUNS[1]: {"cats": MAX_COUNT}})
    tally.fold(MEMBER, RUNS[1])
    assert tally.count(folded_of(MEMBER, RUNS[1]), "cats") == MAX_COUNT


# -- at rest


def facts_of(tally: Tally) -> object:
    """Everything that is shown and told of a tally."""
    vectors = shown(tally)
    digests = {vector: (tally.total(vector), tally.digest(vector)) for vector in vectors}
    videos = {video: tally.counter(video) for video in ("cats", "dogs", "mice")}
    visits = [tally.visits(video) for video in videos]
    return vectors, digests, tally.totals(), videos, visits, tally.members(), tally.top(9)


@given(runs, runs, st.data())
def test_rest_changes_no_number_and_a_vector_at_rest_grows_like_any_other(
    counted: dict[str, dict[str, int]], more: dict[str, dict[str, int]], data: st.DataObject
) -> None:
    awake, resting = of_runs(MEMBER, counted), of_runs(MEMBER, counted)
    for tally in (awake, resting):
        tally.merge(replica_of(OTHER, RUNS[0]), {"cats": 7})
    for vector in [replica_of(MEMBER, run) for run in counted]:
        if data.draw(st.booleans()):
            resting.rest(vector, 1000)
            assert resting.rests(vector)
    assert facts_of(resting) == facts_of(awake)
    for run, counts in more.items():
        vector = replica_of(MEMBER, run)
        assert resting.sum_with(vector, counts) == awake.sum_with(vector, counts)
        assert resting.merge(vector, counts) == awake.merge(vector, counts)
        assert resting.merge(vector, counts) == {}
        assert facts_of(resting) == facts_of(awake)
    if counted:
        mark = data.draw(st.sampled_from(sorted(counted)))
        for tally in (awake, resting):
            tally.fold(MEMBER, mark)
    assert facts_of(resting) == facts_of(awake)


def test_a_video_that_is_only_on_its_way_to_the_store_has_no_visits() -> None:
    tally = of_runs(MEMBER, {RUNS[0]: {"cats": 3}})
    assert tally.sum_with(replica_of(MEMBER, RUNS[0]), {"new": 2})[0] == 5
    assert tally.visits("new") == 0
    assert tally.counter("new") == {}
    tally.discard(replica_of(MEMBER, RUNS[0]))
    assert tally.visits("cats") == 0
    assert tally.merge(replica_of(MEMBER, RUNS[1]), {"new": 2}) == {"new": 2}
    assert tally.visits("new") == 2


def test_news_wake_a_vector_at_rest_and_old_news_do_not() -> None:
    tally = of_runs(MEMBER, {RUNS[0]: {"cats": 3}})
    vector = replica_of(MEMBER, RUNS[0])
    tally.rest(vector, 1000)
    assert tally.merge(vector, {"cats": 2}) == {}
    assert tally.rests(vector)
    assert tally.merge(vector, {"cats": 4, "dogs": 1}) == {"cats": 1, "dogs": 1}
    assert not tally.rests(vector)
    tally.rest(vector, 1000)
    tally.rest(vector, 1000)
    assert dict(tally.vector(vector).items()) == {"cats": 4, "dogs": 1}
    assert tally.count(vector, "cats") == 4
    tally.rest(replica_of(MEMBER, RUNS[1]), 1000)
    assert not tally.rests(replica_of(MEMBER, RUNS[1])), "nothing is known of it"


@given(runs, st.integers(1, 3), st.data())
def test_a_vector_is_put_to_rest_some_counts_at_a_time(
    counted: dict[str, dict[str, int]], most: int, data: st.DataObject
) -> None:
    awake, tally = of_runs(MEMBER, counted), of_runs(MEMBER, counted)
    vectors = [replica_of(MEMBER, run) for run in counted]
    for _ in range(40):
        if all(map(tally.rests, vectors)):
            break
        vector = data.draw(st.sampled_from([v for v in vectors if not tally.rests(v)]))
        assert tally.rest(vector, most) > 0 or tally.rests(vector)
        if data.draw(st.booleans()):
            grown = data.draw(st.sampled_from(vectors))
            more = {"cats": tally.count(grown, "cats") + 1, data.draw(st.sampled_from("abcde")): 1}
            assert tally.merge(grown, more) == awake.merge(grown, more)
        assert shown(tally) == shown(awake)
    for vector in vectors:
        while not tally.rests(vector):
            tally.rest(vector, most)
    assert facts_of(tally) == facts_of(awake)


@given(runs, st.data())
def test_what_is_discarded_was_never_there(
    counted: dict[str, dict[str, int]], data: st.DataObject
) -> None:
    tally = of_runs(MEMBER, counted)
    tally.merge(replica_of(OTHER, RUNS[0]), {"cats": 7})
    wrong = data.draw(st.sampled_from(RUNS))
    if data.draw(st.booleans()):
        tally.rest(replica_of(MEMBER, wrong), 1000)
    gone = tally.discard(replica_of(MEMBER, wrong))
    assert dict(gone.items()) == counted.get(wrong, {})
    right = of_runs(MEMBER, {run: counts for run, counts in counted.items() if run != wrong})
    right.merge(replica_of(OTHER, RUNS[0]), {"cats": 7})
    assert shown(tally) == shown(right)
    for video in ("cats", "dogs", "mice"):
        assert tally.counter(video) == right.counter(video)
        assert tally.visits(video) == right.visits(video)
    assert tally.top(9) == right.top(9)
    assert tally.members().get(MEMBER, 0) == right.members().get(MEMBER, 0)
