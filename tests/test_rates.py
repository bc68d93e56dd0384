"""How fast numbers grow, as the cluster page shows it."""

import pytest

from counter.node.rates import SPAN, Rates


def test_a_rate_is_not_known_before_there_is_a_sample_of_some_age() -> None:
    rates = Rates()
    assert rates.due(0)
    assert rates.rate("a", 7, 0) is None
    rates.note({"a": 7}, 0)
    assert rates.rate("a", 9, 0.5) is None
    assert rates.rate("a", 9, 1) == 2
    assert rates.rate("b", 9, 1) is None


def test_a_rate_is_that_of_the_last_seconds() -> None:
    rates = Rates()
    for second in range(100):
        rates.note({"a": 50 * min(second, 50)}, second)
        if 10 < second <= 50:
            assert rates.rate("a", 50 * second, second) == 50
    assert rates.rate("a", 2500, 99) == 0
    assert rates.rate("a", 2550, 100) == pytest.approx(50 / SPAN, rel=0.2)


def test_a_rate_is_never_negative() -> None:
    rates = Rates()
    rates.note({"a": 7}, 0)
    assert rates.rate("a", 3, 1) == 0


def test_samples_are_taken_about_once_a_second_however_often_one_looks() -> None:
    rates, taken = Rates(), 0
    for tick in range(1000):
        now = tick / 20
        if rates.due(now):
            rates.note({"a": tick}, now)
            taken += 1
    assert 45 <= taken <= 56
    assert rates.rate("a", 1000, 50) == pytest.approx(20, rel=0.1)


def test_samples_far_apart_are_used_too() -> None:
    rates = Rates()
    for minute in range(5):
        rates.note({"a": 600 * minute}, 60 * minute)
    assert rates.rate("a", 2400, 240) == 10
