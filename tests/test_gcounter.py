"""The rule: the vectors shared with the page, and the laws of a state-based CRDT."""

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counter.crdt.gcounter import MAX_COUNT, increment, merge, value

VECTORS = json.loads((Path(__file__).parent / "vectors" / "gcounter.json").read_text())

counters = st.dictionaries(st.sampled_from("abc"), st.integers(1, MAX_COUNT))


def named(cases: list[dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case["case"] for case in cases])


@named(VECTORS["increments"])
def test_an_increment_raises_one_entry(case: dict[str, Any]) -> None:
    counter = increment(case["start"], case["replica"], case["by"])
    assert counter == case["counter"]
    assert value(counter) == case["visits"]


@named(VECTORS["merges"])
def test_a_merge_takes_the_larger_entries(case: dict[str, Any]) -> None:
    left, right = case["left"], case["right"]
    assert merge(left, right) == merge(right, left) == case["merged"]
    assert value(case["merged"]) == case["visits"]
    grew = {replica: count - left.get(replica, 0) for replica, count in case["merged"].items()}
    assert {replica: growth for replica, growth in grew.items() if growth} == case["grew"]


@named(VECTORS["orders"])
def test_the_order_of_merges_does_not_matter(case: dict[str, Any]) -> None:
    for order in permutations(case["counters"]):
        counter: dict[str, int] = {}
        for other in order:
            counter = merge(counter, other)
        assert counter == case["merged"]
        assert value(counter) == case["visits"]


@named(VECTORS["corrections"])
def test_what_is_withdrawn_is_joined_by_the_larger_as_counts_are(case: dict[str, Any]) -> None:
    for order in permutations(case["told"]):
        counter, withdrawn = dict[str, int](), 0
        for told in order:
            counter = merge(counter, told["counts"])
            withdrawn = max(withdrawn, told.get("withdrawn", 0))
        assert max(0, value(counter) - withdrawn) == case["visits"]


@given(counters, counters, counters)
def test_merging_is_commutative_associative_and_idempotent(one: Any, two: Any, three: Any) -> None:
    assert merge(one, two) == merge(two, one)
    assert merge(merge(one, two), three) == merge(one, merge(two, three))
    assert merge(one, one) == one


@given(counters, counters, st.sampled_from("abc"), st.integers(-1, 9))
def test_no_value_ever_falls_and_no_argument_is_changed(
    one: Any, other: Any, replica: str, by: int
) -> None:
    before = dict(one), dict(other)
    assert value(one) <= value(merge(one, other)) <= MAX_COUNT
    assert value(one) <= value(increment(one, replica, by)) <= MAX_COUNT
    assert (one, other) == before


@pytest.mark.parametrize("by", [0, -1])
def test_an_increment_by_nothing_is_ignored(by: int) -> None:
    assert increment({"a": 1}, "a", by) == {"a": 1}
    assert increment({}, "a", by) == {}
