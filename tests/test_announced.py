"""What a node has announced, as who hears it remembers: the names of a day's closed runs."""

import pytest

from counter.crdt.ids import encode_id
from counter.protocol.announced import Announced
from counter.protocol.messages import DatedCopy, RunsPage

MEMBER = f"a~{encode_id(1, 13)}"
DAY, BEFORE, NOW = 0, (3, 1), (3, 2)
RUNS = [encode_id(number, 23) for number in (1, 2, 3)]


def page(digest: tuple[int, int], first: int) -> RunsPage:
    """A page that names one run, the `first`-th."""
    copy: DatedCopy = (5, digest[1], 0)
    after = RUNS[first - 1] if first else ""
    following = RUNS[first] if first < len(RUNS) - 1 else ""
    return RunsPage(MEMBER, DAY, digest, after, {RUNS[first]: copy}, following)


@pytest.fixture
def announced() -> Announced:
    return Announced()


def named(announced: Announced) -> int:
    """How many runs are named, if these are all."""
    known = announced.named[MEMBER, DAY]
    return len(known.copies) if known.complete else 0


def test_a_day_is_named_page_by_page(announced: Announced) -> None:
    assert all(announced.name(page(NOW, first)) for first in range(3))
    assert named(announced) == 3


def test_the_last_page_of_a_day_that_has_changed_meanwhile_is_not_all_of_it(
    announced: Announced,
) -> None:
    assert announced.name(page(BEFORE, 0))
    assert not announced.name(page(NOW, 1))
    assert not announced.name(page(NOW, 2))
    assert not named(announced)
    assert all(announced.name(page(NOW, first)) for first in range(3))
    assert named(announced) == 3


def test_a_late_last_page_does_not_stand_for_the_one_before_it(announced: Announced) -> None:
    assert announced.name(page(NOW, 0))
    assert not announced.name(page(NOW, 2))
    assert not named(announced)


def test_a_page_that_comes_again_takes_nothing_back(announced: Announced) -> None:
    for first in range(3):
        announced.name(page(NOW, first))
    assert all(announced.name(page(NOW, first)) for first in (1, 0))
    assert named(announced) == 3
