"""Many visits at once: where many videos are known they are pending by row, like any other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counter.crdt.columns import Entries
from counter.crdt.gcounter import MAX_COUNT
from counter.crdt.ids import encode_id
from counter.crdt.limits import FullError
from counter.crdt.tally import Tally
from counter.protocol.checks import encode_sum, sum_name
from counter.protocol.messages import Delta
from counter.protocol.pending import Counts, Pending
from counter.protocol.replica import Replica
from tests.protocol import Network
from tests.small import EVERY_TALLY, LargeTally, SoonLarge

MEMBER = f"a~{encode_id(1, 13)}"
FIRST, SECOND = (f"{MEMBER}.{encode_id(number, 23)}" for number in (1, 2))
OTHER = f"b~{encode_id(2, 13)}.{encode_id(1, 23)}"
VIDEOS = "abcdefgh"


class InSteps(Pending):
    """Visits of which each step takes three videos."""

    a_step = entries_a_step = 3


class Stepwise(Replica):
    """A replica with these steps."""

    pending_class = InSteps


def known(tally: Tally) -> Tally:
    """The same, to which five videos are many."""
    tally.merge(OTHER, dict.fromkeys(["old1", "old2", "old3"], 1))
    tally.merge(OTHER, dict.fromkeys(["old4", "old5", "a"], 1))
    return tally


@pytest.fixture
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tally, "videos_class", SoonLarge)


def plain(counts: Counts) -> dict[str, dict[str, int]]:
    return {run: dict(of_run) for run, of_run in counts.items()}


steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["many", "many", "visit", "take", "stored", "failed", "begin", "move", "drop"]
        ),
        st.dictionaries(st.sampled_from(VIDEOS), st.integers(1, 300), min_size=1),
    )
)


@given(steps)
def test_what_is_counted_by_row_is_pending_like_any_visit(
    steps: list[tuple[str, dict[str, int]]],
) -> None:
    both = [(tally, InSteps(FIRST, tally)) for tally in map(known, (LargeTally(), Tally()))]
    in_flight: list[tuple[Counts, dict[str, str]]] = []
    run, moved = FIRST, False
    for step, visits in steps:
        if step == "take" and not in_flight:
            in_flight = [pending.take() for _, pending in both]
            assert plain(in_flight[0][0]) == plain(in_flight[1][0])
            assert in_flight[0][1] == in_flight[1][1]
        elif step in ("stored", "failed") and in_flight:
            for (_, pending), (counts, notes) in zip(both, in_flight, strict=True):
                if step == "failed":
                    pending.not_stored(counts, notes)
                else:
                    grew = [more for _, page in pending.stored(counts) for more in page.items()]
                    assert len(dict(grew)) <= sum(map(len, counts.values()))
            in_flight = []
        for _, pending in both:
            if step == "many":
                pending.count_many(visits, {"log:x": str(visits)})
            elif step == "visit":
                pending.visit(next(iter(visits)))
            elif step == "begin" and run == FIRST and not in_flight:
                pending.begin(SECOND)
            elif step == "move" and run == SECOND and not (in_flight or moved):
                pending.move(FIRST)
            elif step == "drop" and not in_flight:
                pending.drop_known()
        if step == "begin" and not in_flight:
            run = SECOND
        one, other = (
            (
                pending.unflushed(),
                bool(pending),
                pending.notes,
                pending.waiting(),
                [pending.count(video) for video in VIDEOS],
                [tally.visits(video) for video in VIDEOS],
                {vector: dict(of.items()) for vector, of in tally.vectors()},
                [(of.total, of.digest) for _, of in tally.vectors()],
            )
            for tally, pending in both
        )
        assert one == other


@pytest.mark.parametrize("kind", EVERY_TALLY)
def test_where_a_video_may_be_full_they_are_counted_one_by_one(kind: type[Tally]) -> None:
    tally = known(kind())
    tally.merge(OTHER, {"b": MAX_COUNT - 20})
    pending = Pending(FIRST, tally)
    pending.count_many({"b": 2, "c": 1}, {"log:x": "1"})
    pending.visit("b")
    with pytest.raises(FullError) as full:
        pending.count_many({"c": 1, "b": 18}, {"log:x": "2"})
    assert (full.value.video, full.value.visits) == ("b", MAX_COUNT - 17)
    assert [pending.count("b"), pending.count("c")] == [3, 1]
    pending.count_many({"b": 17})
    with pytest.raises(FullError):
        pending.visit("b")
    assert pending.unflushed() == 21
    counts, notes = pending.take()
    assert plain(counts) == {FIRST: {"b": 20, "c": 1}}
    assert notes == {"log:x": "1"}


def test_a_single_visit_is_refused_where_what_was_gathered_fills_its_video() -> None:
    tally = known(LargeTally())
    pending = Pending(FIRST, tally)
    pending.count_many({"c": MAX_COUNT - 7, "d": 1})
    pending.visit("d")
    pending.count_many({"c": 7})
    with pytest.raises(FullError, match="'c'"):
        pending.visit("c")
    assert pending.count("c") == MAX_COUNT
    assert plain(pending.take()[0]) == {FIRST: {"c": MAX_COUNT, "d": 2}}


@pytest.mark.usefixtures("few_are_many")
def test_a_batch_by_row_has_the_sum_that_the_store_will_have() -> None:
    one = Network().node("a", kind=Stepwise)
    known(one.tally)
    one.count_many(dict.fromkeys(VIDEOS, 2))
    one.visit("a")
    one.visit("new")
    batch = one.batch(10)
    assert type(batch.own[one.id]) is Entries
    assert len(list(one.backlog.sum_up(batch))) == 3
    assert one.stored(batch) == {*VIDEOS, "new"}
    total = one.tally.total(one.id)
    assert batch.sums[sum_name(one.id)] == encode_sum(total, one.tally.digest(one.id))
    assert dict(one.tally.vector(one.id).items()) == {**dict.fromkeys(VIDEOS, 2), "a": 3, "new": 1}


@pytest.mark.usefixtures("few_are_many")
def test_much_is_told_only_where_somebody_hears_it_who_comes_later_asks_for_it() -> None:
    network = Network()
    alone, one = (network.node(name, has_peers=name == "b") for name in "ab")
    for node in (alone, one):
        node.count_many(dict.fromkeys(VIDEOS, 2))
        node.stored(node.batch(10))
    assert one.publish() == [(one.id, Delta(dict.fromkeys(VIDEOS, 2), 16))]
    assert alone.publish() == []
    assert alone.reports.published == one.reports.published == 16
    network.seconds(5)
    assert one.tally.counts(alone.id, VIDEOS) == dict.fromkeys(VIDEOS, 2)
    # It has heard somebody by now.
    alone.count_many(dict.fromkeys(VIDEOS, 1))
    alone.stored(alone.batch(10))
    assert alone.publish() == [(alone.id, Delta(dict.fromkeys(VIDEOS, 3), 24))]
