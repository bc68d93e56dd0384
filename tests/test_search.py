"""The exhaustive search keeps its promises in a small scope, and finds faults by itself."""

import pytest

from simulation.scope import Action, Scope
from simulation.search import replay, search
from tests.mutants_of_moves import FAULTS_OF_MOVES
from tests.mutants_of_runs import NEW_FAULTS

A, C, B = range(3)
"""The first member, a process on a copy of its store, and the second member."""
PAIR, EVERYBODY = ((A, B),), ((A, C, B),)
APART = ((A,), (C, B))
"""The network: two that hear each other, three, and the original cut off from the others."""
SMALL = Scope(splits=False, clock_steps=0, losses=0, late=0, removals=0, visits=2, copies=0)


def at(kind: str, place: int, what: int = 0) -> Action:
    """Something happens at one place."""
    return Action(kind, ((place,),), what)


TRACES = {
    "a live run was folded, because a copy of its store was restarted beside it": [
        at("run a copy", C),
        at("visit", C),
        at("restart", C),
        Action("until a fold", EVERYBODY),
        at("visit", A),
    ],
    "a memory that was put back before a fold crashed when it joined its store": [
        at("snapshot", A),
        at("visit", A),
        at("restart", A),
        Action("calm", PAIR),
        at("put back the memory", A),
    ],
}
"""Traces that the search has found, and what the fault was."""

TRACES_OF_FAULTS = {
    "folds its own run": [
        at("copy", A),
        at("restart", A),
        Action("wait", PAIR),
        at("kill", A),
        at("roll back", A),
        at("start", A, 1),
        at("visit", A),
        Action("wait", PAIR),
        at("dumb until a fold", A),
        at("visit", A),
    ],
    "folds beyond a live run": [
        at("run a copy", C),
        at("visit", C),
        at("restart", C),
        Action("until a fold", EVERYBODY),
        Action("wait", EVERYBODY),
        at("visit", A),
    ],
    "ignores FOLD_AFTER": [
        at("visit", A),
        at("run a copy", C),
        at("visit", C),
        at("restart", C),
        Action("until a fold", APART),
        at("visit", A),
        Action("wait", APART),
    ],
    "ignores a larger copy of its own run": [
        at("snapshot", A),
        at("visit", A),
        Action("wait", PAIR),
        at("put back", A),
    ],
    "rewrites a store that knows more": [
        at("snapshot", A),
        at("visit", A),
        at("put back the memory", A),
    ],
    "says nothing of a refused entry": [
        at("snapshot", A),
        at("visit", A),
        Action("wait", PAIR),
        at("put back", A),
        at("visit", A, 1),
    ],
}
"""A short trace on which a fault shows, and right code does not fail."""


IN_THE_MIDDLE_OF_A_FOLD = [
    at("visit", A),
    at("visit", A, 1),
    at("restart", A),
    Action("until a fold", PAIR),
    at("move a row", A),
    at("restart", A),
]
"""A process ends when one of two rows was moved."""
TWO_VIDEOS = Scope(videos=2)


@pytest.mark.proof
def test_the_first_states_of_the_scope_keep_the_promises() -> None:
    found = search(Scope(), states=600)
    assert not found.failure, (found.failure, [str(action) for action in found.trace])
    assert found.states > 600


def test_a_scope_without_faults_is_exhausted() -> None:
    scope = Scope(
        runs=1,
        visits=1,
        copies=0,
        clock_steps=0,
        losses=0,
        late=0,
        removals=0,
        snapshots=0,
        kills=False,
    )
    found = search(scope)
    assert not found.failure, (found.failure, [str(action) for action in found.trace])
    assert found.exhausted
    assert found.states > 10


@pytest.mark.parametrize("fault", TRACES)
def test_no_trace_that_broke_a_promise_does_so_again(fault: str) -> None:
    assert replay(TRACES[fault], Scope()) == ""


@pytest.mark.parametrize("fault", TRACES_OF_FAULTS)
def test_a_fault_against_the_rules_of_runs_shows_on_a_short_trace(fault: str) -> None:
    assert replay(TRACES_OF_FAULTS[fault], Scope(), NEW_FAULTS[fault])
    assert replay(TRACES_OF_FAULTS[fault], Scope()) == ""


# Here a store never fails: that one write becomes two is seen by random histories.
@pytest.mark.parametrize("fault", sorted(FAULTS_OF_MOVES.keys() - {"erases before it writes"}))
def test_a_fault_against_the_rules_of_moving_shows_in_the_middle_of_a_fold(fault: str) -> None:
    assert replay(IN_THE_MIDDLE_OF_A_FOLD, TWO_VIDEOS, FAULTS_OF_MOVES[fault])


def test_a_process_that_ends_in_the_middle_of_a_fold_loses_and_doubles_nothing() -> None:
    assert replay(IN_THE_MIDDLE_OF_A_FOLD, TWO_VIDEOS) == ""


@pytest.mark.proof
@pytest.mark.parametrize(
    "fault", ["rewrites a store that knows more", "ignores a larger copy of its own run"]
)
def test_the_search_finds_a_fault_by_itself(fault: str) -> None:
    found = search(SMALL, NEW_FAULTS[fault], states=2000)
    assert found.failure
    assert found.trace == TRACES_OF_FAULTS[fault]


def test_a_trace_reads_as_what_happens() -> None:
    trace = TRACES_OF_FAULTS["says nothing of a refused entry"]
    assert [str(action) for action in trace] == [
        "snapshot A",
        "visit A video0",
        "wait AB",
        "put back A",
        "visit A video1",
    ]
