"""`make proof`: runs what takes long, and prints one table; fails if a promise does not hold."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lab.servers import ROOT
from lab.terminal import columns, foreground, say

TAIL = 40
"""Lines of a failed run that are printed."""


@dataclass
class Proof:
    """A promise, and the program that shows whether it holds: its exit status is 0, or not."""

    promise: str
    arguments: list[str]
    """Of Python's `-m`."""
    environment: Mapping[str, str] = field(default_factory=dict)
    result: str = ""
    seconds: float = 0.0

    @property
    def what(self) -> str:
        """What is run, as one would type it."""
        settings = [f"{name}={value}" for name, value in self.environment.items()]
        return " ".join([*settings, *self.arguments])

    def run(self, log: Path) -> bool:
        """Run it, with its output in a file; return whether the promise holds."""
        began = time.monotonic()
        with log.open("wb") as output:
            done = subprocess.run(
                [sys.executable, "-m", *self.arguments],
                cwd=ROOT,
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.seconds = time.monotonic() - began
        self.result = "holds" if done.returncode == 0 else f"FAILS (status {done.returncode})"
        return done.returncode == 0


def proofs(seconds: int) -> list[Proof]:
    """Return all proofs. What runs for a time takes `seconds`; the rest grows with it."""

    def tests(promise: str, *arguments: str, **environment: str) -> Proof:
        return Proof(promise, ["pytest", "-q", *arguments], environment)

    def marked(promise: str, *arguments: str, **environment: str) -> Proof:
        return tests(promise, "-m", "proof", *arguments, **environment)

    beside_others = ["-m", "proof and not alone", "-n2"]

    time_ = ["--seconds", str(seconds)]
    # A shorter run cannot see every fault, and enough of each.
    chaos = str(max(90, seconds))
    restarts = str(min(100, max(5, seconds // 6)))
    attack = str(min(60, seconds))
    trust = str(min(60, max(20, seconds)))
    # There are four of them.
    beside = str(min(120, seconds))
    other_stores = [
        f"tests/test_{name}.py"
        for name in (
            "broker_users",
            "cluster",
            "copies",
            "splits",
            "clocks",
            "damage",
            "damaged_nodes",
            "folding",
            "visit_log",
        )
    ]
    half_sent = ["tests/test_edge.py", "tests/test_balancer_limits.py"]
    million = ["tests/test_visit_log.py", "-k", "lines_wait"]
    return [
        marked("faults lose and double nothing", "tests/test_chaos.py", CHAOS=chaos),
        Proof("random histories keep all promises", ["simulation", *time_]),
        Proof("so do all states of a small scope", ["simulation.search", *time_]),
        marked("mutants are caught", "-n2", "tests/test_simulation.py", "tests/test_search.py"),
        marked("a fold costs what it changes", "tests/test_fold_costs.py"),
        marked("each visit is in its one class", "tests/test_trust.py", TRUST=trust),
        marked("restarts leave nothing behind", "tests/test_restarts.py", RESTARTS=restarts),
        marked("versions side by side are exact", "tests/test_upgrade.py", BESIDE=beside),
        marked("broken peers change nothing", "tests/test_broken_peers.py"),
        tests("faults with other stores and brokers", *beside_others, *other_stores),
        tests("a broker is as quick", "-m", "proof and alone", "tests/test_cluster.py"),
        tests("a million lines wait for a node", *million, LINES_WAITING="1000000"),
        marked("refused requests cost nobody a visit", "tests/test_refusals.py"),
        marked("benchmarks count what they measure", "tests/test_benchmarks.py"),
        marked("a week of runs takes 100 MB", "tests/test_resting.py"),
        marked("viewers are right within 1.8 %", "tests/test_sketches.py"),
        marked("half-sent requests are given up", "-n2", *half_sent),
        Proof("strangers stop and falsify nothing", ["chaos.attack", "--seconds", attack]),
    ]


def table(rows: list[Proof]) -> str:
    """The results, one a line."""
    cells = [("promise", "run", "result", "seconds")]
    cells += [(row.promise, row.what, row.result, f"{row.seconds:.0f}") for row in rows]
    return columns(cells)


def main() -> int:
    """Run all; return 1 if a promise does not hold."""
    parser = argparse.ArgumentParser(prog="make proof", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="how long each runs (600)")
    asked = parser.parse_args()
    rows = proofs(asked.seconds)
    right = True
    with tempfile.TemporaryDirectory(prefix="proof-") as folder:
        for number, row in enumerate(rows):
            log = Path(folder) / f"{number}"
            say(f"{row.promise}: {row.what} ...")
            if not row.run(log):
                right = False
                lines = log.read_text(errors="replace").splitlines()
                say("\n".join(f"    {line}" for line in lines[-TAIL:]))
    say(f"\n{table(rows)}")
    return 0 if right else 1


if __name__ == "__main__":
    with foreground():
        sys.exit(main())
