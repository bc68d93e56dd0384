"""The page of results: each command rewrites its own parts of it, and nothing else."""

import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.table import Row, markdown
from lab.servers import ROOT

PAGE = ROOT / "docs/benchmarks.md"
PICTURES = "images/benchmarks"


class Part(NamedTuple):
    """The results of one section: rows, pictures by name with what they show, and how it was."""

    name: str
    rows: list[Row]
    how: str
    pictures: Sequence[tuple[str, str]] = ()


def write(page: Path, part: Part) -> None:
    """Replace what stands between the markers of a part, and its pictures beside the page.

    Raises LookupError if the page has no such markers.
    """
    begin, end = f"<!-- {part.name}: measured -->", f"<!-- {part.name}: end -->"
    text = page.read_text()
    between = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if len(between.findall(text)) != 1:
        raise LookupError(f"{page.name} needs one line {begin!r}, and {end!r} below it")
    folder = page.parent / PICTURES
    lines = [begin, "", markdown(part.rows), ""]
    for name, picture in part.pictures:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.svg").write_text(picture)
        title = re.findall(r"<title>(.*)</title>", picture)[0]
        lines += [f"![{title}]({PICTURES}/{name}.svg)", ""]
    lines += [f"{part.how} {_machine()}", "", end]
    page.write_text(between.sub(lambda _: "\n".join(lines), text))


def _machine() -> str:
    return f"{os.cpu_count()} processors, Python {platform.python_version()}."
