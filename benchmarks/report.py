"""Results: tables with goals, for the terminal and for the page that each command rewrites."""

import os
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from lab.servers import ROOT

PAGE = ROOT / "docs/benchmarks.md"


class Goal(NamedTuple):
    """A bound for a figure, or for its ratio to the contender's figure.

    A figure that misses the bound may still be good enough: `enough`.
    """

    least: float | None = None
    most: float | None = None
    enough: float | None = None

    def reached(self, figure: float) -> bool:
        """Return whether a figure is within the bound."""
        return (self.least is None or figure >= self.least) and (
            self.most is None or figure <= self.most
        )

    def will_do(self, figure: float) -> bool:
        """Return whether a figure that misses the bound is good enough."""
        if self.enough is None:
            return False
        return figure >= self.enough if self.most is None else figure <= self.enough

    def __str__(self) -> str:
        sign, bound = ("≥", self.least) if self.most is None else ("≤", self.most)
        enough = "" if self.enough is None else f" ({sign} {number(self.enough)} will do)"
        return f"{sign} {number(bound or 0.0)}{enough}"


class Row(NamedTuple):
    """One line: a figure, the contender's figure if there is one, and a goal."""

    what: str
    figure: float
    unit: str
    goal: Goal | None = None
    against: str = ""
    theirs: float | None = None
    ratio: float | None = None

    @property
    def reached(self) -> bool:
        """Whether the goal is reached; true if there is none."""
        return self.goal is None or self.goal.reached(self._judged)

    @property
    def verdict(self) -> str:
        """The text of the last cell."""
        if self.goal is None:
            return ""
        if self.reached:
            return "yes"
        short = "**falls short**"
        return f"{short}, will do" if self.goal.will_do(self._judged) else short

    @property
    def _judged(self) -> float:
        return self.figure if self.ratio is None else self.ratio

    def cells(self) -> list[str]:
        """Return the line as text, one string for each cell."""
        theirs = "" if self.theirs is None else f"{self.against}: {number(self.theirs)}"
        return [
            self.what,
            f"{number(self.figure)} {self.unit}",
            theirs,
            "" if self.ratio is None else f"{self.ratio:.2f}",
            "" if self.goal is None else str(self.goal),
            self.verdict,
        ]


HEAD = ("what", "measured", "against", "ratio", "goal", "reached")


def markdown(rows: Iterable[Row]) -> str:
    """Return the table as Markdown."""
    lines = [list(HEAD), ["---"] * len(HEAD), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def text(rows: Iterable[Row]) -> str:
    """Return the table for a terminal."""
    lines = [list(HEAD), *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ).replace("**", "")


def number(figure: float) -> str:
    """Return a figure with three significant digits, or more before the point."""
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the rounds' ratios."""
    return median(one / other for one, other in zip(ours, theirs, strict=True))


class Part(NamedTuple):
    """The results of one section: its rows, and how they were measured."""

    name: str
    rows: list[Row]
    how: str


def write(page: Path, part: Part) -> None:
    """Replace what is between the markers of a part.

    Raises LookupError if the page has no such markers.
    """
    begin, end = f"<!-- {part.name}: measured -->", f"<!-- {part.name}: end -->"
    text = page.read_text()
    between = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if len(between.findall(text)) != 1:
        raise LookupError(f"{page.name} needs one line {begin!r}, and {end!r} below it")
    lines = [begin, "", markdown(part.rows), ""]
    lines += [f"{part.how} {_machine()}", "", end]
    page.write_text(between.sub(lambda _: "\n".join(lines), text))


def _machine() -> str:
    return f"{os.cpu_count()} processors, Python {platform.python_version()}."
