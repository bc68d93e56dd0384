"""`make simulate`: runs random histories for a while on every core, or one of them again.

A failing history is shortened, and printed with its seed and the command that repeats it.
"""

import argparse
import os
import sys
import time
from collections import Counter
from itertools import count, islice
from multiprocessing import Pool

from simulation.history import generate, shorten
from simulation.trial import Outcome, run


def main() -> int:
    """Run histories; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long (default 30)")
    parser.add_argument("--steps", type=int, default=200, help="of each history (default 200)")
    parser.add_argument("--seed", type=int, help="run only this history, and shorten it")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    asked = parser.parse_args()
    if asked.seed is not None:
        return _again(asked.seed, asked.steps)
    deadline = time.monotonic() + asked.seconds
    kinds: Counter[str] = Counter()
    histories = visits = 0
    longest = 0.0
    tasks = ((seed, asked.steps) for seed in count(asked.first))
    with Pool(os.cpu_count()) as pool:
        while (left := deadline - time.monotonic()) > 0:
            if sys.stdout.isatty():
                print(f"\r{histories} histories, {left:.0f} s left ", end="", flush=True)
            # A few at a time, because a pool takes everything that it is offered.
            for seed, outcome in pool.imap_unordered(_one, islice(tasks, 40)):
                histories += 1
                visits += outcome.visits
                kinds.update(outcome.kinds)
                longest = max(longest, outcome.repair_time)
                if outcome.failure:
                    pool.terminate()
                    print(f"\nseed {seed}: {outcome.failure}")
                    return _again(seed, asked.steps)
    print(f"\r{histories} histories of {asked.steps} steps, {visits} visits: all promises kept")
    for kind, times in kinds.most_common():
        print(f"  {kind:16} {times}")
    print(f"longest repair: {longest:.1f} virtual seconds")
    return 0


def _one(task: tuple[int, int]) -> tuple[int, Outcome]:
    seed, steps = task
    return seed, run(generate(seed, steps))


def _again(seed: int, steps: int) -> int:
    history = generate(seed, steps)
    outcome = run(history)
    if not outcome.failure:
        print(f"seed {seed}: all promises kept in {outcome.repair_time:.1f} virtual seconds")
        return 0
    print(f"seed {seed}: {outcome.failure}\nshortening ...")
    history = shorten(history, lambda shorter: bool(run(shorter).failure))
    print(f"{history.nodes} nodes{', twins' if history.twins else ''}, {len(history.steps)} steps:")
    for step in history.steps:
        print(f"  {step}")
    print(run(history).failure)
    print(f"again: python -m simulation --steps {steps} --seed {seed}")
    return 1


if __name__ == "__main__":
    if "PYTHONHASHSEED" not in os.environ:
        # The order of a set of texts depends on it: without it a seed would not repeat its history.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - itself
    sys.exit(main())
