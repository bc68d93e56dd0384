"""`make bench`: measures what a node costs, prints a table, and writes it into a page."""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks import Limits, beacons, columns, cost, pages, propagation, records, visits
from benchmarks.report import PAGE, Part, text, write
from lab.terminal import foreground, say

SECTIONS: Mapping[str, Callable[[Limits], Part]] = {
    "visits": visits.measure,
    "records": records.measure,
    "propagation": propagation.measure,
    "payload": propagation.measure_payload,
    "pages": pages.measure,
    "nodes": visits.measure_nodes,
    "beacons": beacons.measure,
    "cost": cost.measure,
    "columns": columns.measure,
}


def main() -> int:
    """Measure the chosen sections. A goal that is not reached is shown and is no failure."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", help=f"some of {','.join(SECTIONS)}; all by default")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender (5)")
    parser.add_argument("--seconds", type=float, default=3, help="of one run of load (3)")
    parser.add_argument("--pages", type=int, default=10_000, help="live pages (10,000)")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the results go")
    asked = parser.parse_args()
    names = asked.only.split(",") if asked.only else list(SECTIONS)
    if unknown := [name for name in names if name not in SECTIONS]:
        parser.error(f"--only: {', '.join(unknown)} is none of {', '.join(SECTIONS)}")
    if asked.rounds < 1:
        parser.error("--rounds: at least 1")
    for name in names:
        say(f"{name} ...")
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            part = SECTIONS[name](Limits(Path(folder), asked.rounds, asked.seconds, asked.pages))
        say(f"{text(part.rows)}\n{part.how}\n")
        write(asked.page, part)
    return 0


if __name__ == "__main__":
    with foreground():
        sys.exit(main())
