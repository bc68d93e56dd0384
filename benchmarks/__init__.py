"""Measures what a node costs against what one would run instead; see docs/benchmarks.md.

A section is a module with `measure(limits)`; `__main__.py` lists them.
"""

from pathlib import Path
from typing import NamedTuple


class Limits(NamedTuple):
    """How long a section measures, and the folder for its servers."""

    folder: Path
    rounds: int = 5
    seconds: float = 3.0
    """The length of one run of load."""
    pages: int = 10_000
    """The number of live pages that are opened."""
    warm: bool = True
    """Whether a round that does not count comes first."""
