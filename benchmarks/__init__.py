"""What a node costs, measured against what one would run instead. See docs/benchmarks.md.

A section is a module with `measure(limits)`; `__main__.py` lists them.
"""

from pathlib import Path
from typing import NamedTuple


class Limits(NamedTuple):
    """How long a section measures, and where it may put the folders of its servers."""

    folder: Path
    rounds: int = 5
    seconds: float = 3.0
    """Of one run of load."""
    pages: int = 10_000
    """How many live pages are opened."""
    warm: bool = True
    """Whether there is a round before, that does not count."""
