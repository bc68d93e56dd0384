"""Histories: what happens to a simulated cluster, as a list of steps made from a seed.

Steps are data, so a failing history can be shortened: a step that finds nothing to act on does
nothing, and any sub-list of a history is a history.
"""

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

from simulation.rules import TIMING

WEIGHTS = {
    "visit": 30,
    "pass": 30,
    "post": 6,
    "repeat": 8,
    "page": 6,
    "network": 5,
    "split": 3,
    "one-way": 2,
    "heal": 4,
    "kill": 4,
    "stop": 2,
    "start": 8,
    "calm": 2,
    "remove": 2,
    "fail": 2,
    "slow": 2,
    "repair": 4,
    "copy": 3,
    "roll back": 2,
    "lose": 1,
    "withdraw": 3,
    "withdraw all": 1,
    "block": 2,
    "unblock": 2,
}
UNUSUAL = {
    "run a copy": 3,
    "snapshot": 4,
    "revert": 4,
    "clock": 5,
    "damage": 4,
    "into a fold": 2,
}
"""Only some histories have these. Keys promise nothing where memories or clocks go back."""
BESIDE = {"turn away": 0.15, "version": 0.05}
"""How often these stand before another step. The second only where no store and no memory is
copied: of what two processes keep aside on copies of one store the larger number is told."""
FOLD_AFTER_COPIES = 15.0
"""`FOLD_AFTER` with copies or snapshots: longer, so that not all of them are apart for longer."""


class Step(NamedTuple):
    """One event: its kind, the nodes, and how much."""

    kind: str
    one: int
    other: int
    much: float


class History(NamedTuple):
    """A repeatable run: the seed decides about single messages, the steps about the rest."""

    seed: int
    nodes: int
    twins: bool
    steps: tuple[Step, ...]
    fold_after: float = TIMING.fold_after


def generate(seed: int, length: int) -> History:
    """Return a random history, the same for the same seed and length."""
    choose = random.Random(seed)
    # Each history has its own weights, or all would be the same mixture.
    taste = {kind: weight * choose.choice((0, 0.3, 1, 1, 3)) for kind, weight in WEIGHTS.items()}
    taste |= {"visit": WEIGHTS["visit"], "pass": WEIGHTS["pass"]}
    if choose.random() < 0.6:
        taste |= {kind: more * choose.choice((0, 0, 1, 2)) for kind, more in UNUSUAL.items()}
        if taste["revert"] or taste["clock"]:
            taste["post"] = 0
    kinds, weights = list(taste), list(taste.values())
    steps = tuple(
        Step(kind, choose.randrange(7), choose.randrange(7), choose.random())
        for kind in choose.choices(kinds, weights, k=length)
    )
    longer = taste.get("run a copy") or taste.get("revert")
    beside = ("turn away",) if longer else tuple(BESIDE)
    steps = tuple(_with_others(steps, beside, random.Random(seed + 1)))
    fold_after = FOLD_AFTER_COPIES if longer else TIMING.fold_after
    return History(seed, choose.randint(2, 7), choose.random() < 0.15, steps, fold_after)


def _with_others(
    steps: tuple[Step, ...], kinds: tuple[str, ...], choose: random.Random
) -> Iterator[Step]:
    """These steps, with some of other kinds between them."""
    for step in steps:
        for kind in kinds:
            if choose.random() < BESIDE[kind]:
                yield Step(kind, choose.randrange(7), choose.randrange(7), choose.random())
        yield step


def shorten(history: History, fails: Callable[[History], bool]) -> History:
    """Leave out steps as long as the history fails; return what is left (a simple ddmin,
    Zeller and Hildebrandt 2002)."""
    size = len(history.steps) // 2
    while size:
        at = 0
        while at < len(history.steps):
            shorter = history._replace(steps=history.steps[:at] + history.steps[at + size :])
            if fails(shorter):
                history = shorter
            else:
                at += size
        size //= 2
    return history
