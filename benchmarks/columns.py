"""What a tally of a million videos takes: memory, merges, its longest steps; and small merges."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import Limits, one_tally
from benchmarks.report import Goal, Part, Row
from lab.previous import unpack
from lab.servers import ROOT

MANY, FEW = 1_000_000, 50_000
OPEN, USUAL = 504, 6
"""Runs that are known: three members for a week of hours, and some."""
NOW, BEFORE = "now", "before"
SMALL = ("hot 1", "hot 10", "hot 50", "any 1", "any 10", "any 50", "new 1", "new 10", "new 50")
SAID = {"hot": "the same hundred videos", "any": "any videos", "new": "new videos"}
STEP = Goal(most=10)
"""Milliseconds."""


class Filled:
    """A tally in a process of its own, of this version or of another one."""

    def __init__(self, root: Path, videos: int, runs: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, one_tally.__file__, str(videos), str(runs)],
            env=os.environ | {"PYTHONPATH": str(root)},
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == "ready\n", "the tally was not filled"

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def measure(self, what: str) -> Any:
        """Return what it measures now."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        return json.loads(self._read())

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def in_turn(one: Filled, other: Filled, what: str, pairs: int) -> tuple[float, float, float]:
    """Return the medians of both, measured in turn, and the median of the pairs' ratios."""
    both = [(one.measure(what), other.measure(what)) for _ in range(pairs)]
    return (
        median(ours for ours, _ in both),
        median(theirs for _, theirs in both),
        median(ours / theirs for ours, theirs in both),
    )


def measure(limits: Limits) -> Part:
    """Fill tallies of this version, with few and with many runs, and of the version before."""
    videos, pairs = MANY if limits.warm else FEW, 3 * limits.rounds
    with ExitStack() as stack:

        def filled(root: Path, runs: int) -> Filled:
            one = Filled(root, videos, runs)
            stack.callback(one.close)
            return one

        many = filled(ROOT, OPEN)
        rows = list(_alone(many))
        usual = filled(ROOT, USUAL)
        before = filled(unpack(limits.folder / "code"), USUAL)
        ours, theirs, ratio = in_turn(many, usual, "visit", pairs)
        what = f"processor time of a visit in the tally, {OPEN} open runs"
        rows.append(Row(what, ours, "µs", Goal(most=1.1), f"{USUAL} runs", theirs, ratio))
        for name in ("visit", *SMALL):
            ours, theirs, ratio = in_turn(usual, before, name, pairs)
            kind, _, entries = name.partition(" ")
            what = f"merging {entries} at a time, {SAID[kind]}" if entries else "a visit"
            unit = "µs an entry" if entries else "µs"
            rows.append(Row(what, ours, unit, Goal(most=1), "the version before", theirs, ratio))
    how = (
        f"{videos:,} videos with ids of 11 characters, three members, counts up to 300, in a "
        f"process without a node; messages of {one_tally.ENTRIES:,} counts where nothing else is "
        f"said. Against others: processor time, medians of {pairs} pairs of runs in turn."
    )
    return Part("columns", rows, how)


def _alone(one: Filled) -> Iterable[Row]:
    """What is measured once."""
    yield Row(
        "resident above an empty tally", one.measure("bytes"), "bytes a video", Goal(most=100)
    )
    for what, most in (("unknown", 1.2), ("known", 0.4)):
        yield Row(f"merging {what} videos", one.measure(what), "µs an entry", Goal(most=most))
    yield Row("the longest of these merges", one.measure("longest"), "ms", STEP)
    for step, took in one.measure("steps").items():
        yield Row(f"a vector of all videos: {step}", took, "ms", STEP)
