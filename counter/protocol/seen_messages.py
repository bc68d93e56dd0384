"""The words between nodes about recent viewers that were missed: see `seen_repairs.py`."""

from struct import Struct as Layout
from typing import Annotated

from msgspec import Meta as Limit
from msgspec import Struct

MAX_PLACES_TOLD = 100
"""Of a report: of so many writers it says how far they are known."""
MAX_IN_PAGE = 500
"""Recent viewers of a page: they take some 1 ms, and are too few to start the garbage collector."""
ENTRY = Layout("<QI")
"""A viewer, and the age of the visit that counted, in tenths of a second."""

Writer = Annotated[int, Limit(ge=0, le=2**53)]
"""The random number that a process has as the writer of its recent viewers."""
Place = Annotated[int, Limit(ge=0, le=2**53)]
"""How many recent viewers a writer has told, up to some moment."""
Places = Annotated[dict[Writer, Place], Limit(max_length=MAX_PLACES_TOLD)]
SeenFrom = tuple[Writer, Place]
"""Who has told recent viewers, and after how many others of its own."""


class SeenRequest(Struct, array_like=True, tag="ask seen"):
    """A request for the recent viewers that a writer has told after so many."""

    writer: Writer
    after: Place


class SeenPage(Struct, array_like=True, tag="seen"):
    """Recent viewers of a writer: all within the window that follow one place, up to another."""

    writer: Writer
    after: Place
    to: Place
    seen: Annotated[bytes, Limit(max_length=ENTRY.size * MAX_IN_PAGE)]
