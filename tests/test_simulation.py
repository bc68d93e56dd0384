"""The simulated cluster keeps its promises, and a fault in the protocol does not go unseen.

Each fault in `mutants` is a plausible mistake, put in the place of one part of a node. The
simulation must catch it soon: one that it does not catch means that it looks too little.
"""

from collections.abc import Iterator
from itertools import count

import pytest

from simulation.history import History, generate, shorten
from simulation.rules import Rules
from simulation.trial import Trial, run
from tests.histories import DIRECTED, directed, is_lossy
from tests.mutants import FAULTS

STEPS = 200
FEW_STEPS = 60
MAX_HISTORIES = 400
"""Some 60 seconds."""
FEW = 10
"""How many random histories a fault is tried on before the directed ones that need chances."""


# `make proof` goes on from seed 0 for as long as it is told.
@pytest.mark.parametrize("start", range(0, 8, 2))
def test_random_histories_are_exact_monotone_and_honest(start: int) -> None:
    for seed in range(start, start + 2):
        outcome = run(generate(seed, STEPS))
        assert not outcome.failure, f"seed {seed}: {outcome.failure}"
        assert outcome.visits > 0


SLOW = "all agree upon the newest run, and two of them have more of an older one each"
"""A directed history that takes seconds: `make proof` runs it, and all faults."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.proof) if name == SLOW else name for name in DIRECTED],
)
def test_a_directed_history_is_exact_monotone_and_honest(name: str) -> None:
    for history in directed(name):
        assert run(history).failure == ""


def test_all_withdrawn_on_both_sides_of_a_split_then_1000_visits_shows_1000() -> None:
    trial = Trial(History(0, 2, twins=False, steps=()), Rules())
    one, other = trial.nodes
    trial.pass_time(3.0)
    for node, visits in ((one, 70), (other, 30)):
        for _ in range(visits):
            node.visit("birds")
    trial.pass_time(2.0)
    for line in ((one.address, other.address), (other.address, one.address)):
        trial.network.cut.add(line)
    one.visit("birds")
    trial.pass_time(0.5)
    for node in (one, other):
        node.withdraw("birds", None)
    trial.pass_time(0.5)
    for number in range(1000):
        (one if number % 3 else other).visit("birds")
    trial.rest()
    assert len(trial.oracle.book) == 2
    for node in (one, other):
        assert node.replica is not None
        counter = node.replica.counter("birds")
        assert sum(counter.values()) == 1101
        assert node.replica.ledger.shown("birds", counter) == 101


ONLY_SEARCHED = {"folds its own run"}
"""Faults that random histories meet too seldom: a store has to be put back to before a run that
its peers know. The search goes there; see `TRACES_OF_FAULTS` in tests/test_search.py."""


def histories() -> Iterator[History]:
    """All histories, those first that are cheap for what they catch."""
    for lossy in (False, True):
        yield from (generate(seed, STEPS) for seed in (range(FEW) if lossy else ()))
        for name in DIRECTED:
            yield from directed(name) if is_lossy(DIRECTED[name]) == lossy else ()
    yield from (generate(seed, STEPS) for seed in range(FEW, MAX_HISTORIES))


@pytest.mark.proof
@pytest.mark.parametrize("name", [name for name in FAULTS if name not in ONLY_SEARCHED])
def test_a_fault_in_the_protocol_is_caught(name: str) -> None:
    assert any(run(history, FAULTS[name]).failure for history in histories())


def test_a_failing_history_is_shortened_and_fails_again() -> None:
    rules = FAULTS["reuses a replica id"]
    long = (generate(seed, FEW_STEPS) for seed in count())
    history = next(history for history in long if run(history, rules).failure)
    short = shorten(history, lambda shorter: bool(run(shorter, rules).failure))
    assert len(short.steps) < FEW_STEPS / 3
    assert run(short, rules).failure
    assert not run(short).failure
