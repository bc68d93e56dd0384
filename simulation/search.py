"""The exhaustive search: everything that can happen to the real protocol within a small scope.

It goes breadth first, so a trace that it finds is the shortest. In each new state it checks that
the promises are kept, and that they are kept once everything is healed.
`python -m simulation.search` searches for a while.
"""

import argparse
import sys
import time
from collections import deque
from dataclasses import dataclass, field

from simulation.oracle import BrokenPromiseError
from simulation.rules import Rules
from simulation.scope import Action, Scope
from simulation.world import World, Worlds


@dataclass
class Found:
    """The result of a search: a broken promise with the trace to it, or none."""

    failure: str = ""
    trace: list[Action] = field(default_factory=list)
    states: int = 0
    depth: int = 0
    """All sequences of so many actions were tried."""
    exhausted: bool = False
    """Whether every state of the scope was seen."""
    transitions: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        """In a sentence."""
        rate = self.states / self.seconds if self.seconds else 0.0
        whole = "the whole scope" if self.exhausted else f"all of depth {self.depth}"
        return (
            f"{self.states} states and {self.transitions} transitions in {self.seconds:.1f} s "
            f"({rate:.0f} states a second): {whole}"
        )


def search(
    scope: Scope,
    rules: Rules | None = None,
    *,
    seconds: float = float("inf"),
    states: float = float("inf"),
) -> Found:
    """Search a scope until it is exhausted, a promise is broken, or the limit is reached."""
    began = time.monotonic()
    worlds = Worlds(scope, rules or Rules())
    found = Found()
    origins: dict[World, tuple[World, Action] | None] = {}
    queue: deque[tuple[World, int]] = deque()
    first = worlds.first()
    origins[first] = None
    queue.append((first, 0))
    try:
        while queue:
            world, depth = queue.popleft()
            found.depth = depth
            found.seconds = time.monotonic() - began
            if found.seconds > seconds or len(origins) > states:
                return found
            for action in worlds.actions(world):
                found.transitions += 1
                try:
                    after = worlds.do(world, action)
                    if after not in origins:
                        origins[after] = world, action
                        queue.append((after, depth + 1))
                        worlds.settle(after)
                except Exception as broken:
                    # A crash is a broken promise too.
                    found.failure = _said(broken)
                    found.trace = [*_trace(origins, world), action]
                    return found
        found.exhausted = True
    finally:
        found.states = len(origins)
        found.seconds = time.monotonic() - began
    return found


def replay(trace: list[Action], scope: Scope, rules: Rules | None = None) -> str:
    """Replay a trace and heal; return the broken promise, "" if there is none."""
    worlds = Worlds(scope, rules or Rules())
    try:
        world = worlds.first()
        for action in trace:
            world = worlds.do(world, action)
        worlds.settle(world)
    except Exception as broken:
        return _said(broken)
    return ""


def _said(broken: Exception) -> str:
    return str(broken) if isinstance(broken, BrokenPromiseError) else repr(broken)


def _trace(origins: dict[World, tuple[World, Action] | None], world: World) -> list[Action]:
    trace: list[Action] = []
    while (origin := origins[world]) is not None:
        world, action = origin
        trace.append(action)
    return trace[::-1]


def main() -> int:
    """Search, and print what was seen; return 1 if a promise is broken."""
    parser = argparse.ArgumentParser(prog="simulation.search", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default 60)")
    parser.add_argument("--states", type=int, default=1_000_000, help="the most (default 10^6)")
    for name, most in vars(Scope()).items():
        if isinstance(most, bool):
            parser.add_argument(f"--no-{name}", dest=name, action="store_false")
        else:
            parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=most)
    asked = vars(parser.parse_args())
    seconds, states = asked.pop("seconds"), asked.pop("states")
    found = search(Scope(**asked), seconds=seconds, states=states)
    print(found)
    if not found.failure:
        return 0
    print(found.failure)
    for number, action in enumerate(found.trace, 1):
        print(f"  {number}. {action}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
