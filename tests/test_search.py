"""The exhaustive search keeps its promises in a small scope, and finds a fault by itself."""

from simulation.scope import Action, Scope
from simulation.search import replay, search

A, C, B = range(3)
"""The first member, a process on a copy of its store, and the second member."""
EVERYBODY = ((A, C, B),)


def at(kind: str, place: int) -> Action:
    """Something happens at one place."""
    return Action(kind, ((place,),))


TRACES = {
    "a live run is folded, because a copy of its store was restarted beside it": [
        at("run a copy", C),
        at("visit", C),
        at("restart", C),
        Action("until a fold", EVERYBODY),
        at("visit", A),
    ],
}
"""Traces that the search has found, and what the fault was."""


def test_the_first_states_of_the_scope_keep_the_promises() -> None:
    found = search(Scope(), states=600)
    assert not found.failure, (found.failure, [str(action) for action in found.trace])
    assert found.states > 600


def test_a_scope_without_faults_is_exhausted() -> None:
    scope = Scope(
        runs=1, visits=1, copies=0, clock_steps=0, losses=0, late=0, removals=0, kills=False
    )
    found = search(scope)
    assert not found.failure, (found.failure, [str(action) for action in found.trace])
    assert found.exhausted
    assert found.states > 10


def test_no_trace_that_broke_a_promise_does_so_again() -> None:
    for fault, trace in TRACES.items():
        assert replay(trace, Scope()) == "", fault
