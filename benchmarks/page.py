"""The page of results: each command rewrites its own parts of it, and nothing else."""

import os
import platform
import re
from pathlib import Path
from typing import NamedTuple

from benchmarks.table import Row, markdown
from lab.servers import ROOT

PAGE = ROOT / "docs/benchmarks.md"


class Part(NamedTuple):
    """The results of one section: its rows, and how they were measured."""

    name: str
    rows: list[Row]
    how: str


def write(page: Path, part: Part) -> None:
    """Replace what stands between the markers of a part.

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
