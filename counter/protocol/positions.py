"""How far each node has read its visit log: one position a file, joined like a count.

A file is identified by how it begins, so it keeps its position under every name that it is rotated
to, and when it is copied or moved. A position only grows; a set of them (`Positions`) is
joined by taking the later one of each file, and keeps the `KEPT` files that began last. What
began before the oldest of these was read long ago, or was there before anything was read.

Every node keeps the positions of all others, by node and name of its log: a node whose store was
lost learns from them how far they have heard of it.

Pure: no I/O, no clock.
"""

from typing import Annotated, NamedTuple

from msgspec import Meta as Limit

Number = Annotated[int, Limit(ge=0, le=2**53)]

KEPT = 8
"""Files whose positions are kept: more rotations ago than that nothing is written to a file."""
START = "start"
"""Stands in for a file where there was none before the first that was read."""


class Position(NamedTuple):
    """How far one file was read. Times are Unix times in ms, by the clock of nginx.

    `began` is the time in its first line. `cut` says how often it became shorter, since when
    `offset` counts, in bytes; `last` is the time in the last line that was read.
    """

    began: Number
    cut: Number = 0
    offset: Number = 0
    last: Number = 0


Positions = dict[str, Position]
"""`{file: position}` of one log and of what it was rotated to."""


def join(*known: Positions) -> Positions:
    """The later position of each file, of those files that began last."""
    joined: dict[str, Position] = {}
    for positions in known:
        for file, position in positions.items():
            joined[file] = max(position, joined.get(file, position))
    newest = sorted(joined, key=lambda file: (joined[file].began, file))[-KEPT:]
    return {file: joined[file] for file in newest}


def is_older(began: int, positions: Positions) -> bool:
    """Whether a file without a position began before all that have one, or with the oldest."""
    return began <= min((position.began for position in positions.values()), default=began)


def encode_positions(positions: Positions) -> str:
    """Positions as the text of a note: `file:began:cut:offset:last`, separated by blanks."""
    return " ".join(":".join((file, *map(str, position))) for file, position in positions.items())


def decode_positions(text: str) -> Positions:
    """Positions out of such a text; what is none of them is left out."""
    positions = {}
    for word in text.split():
        file, *numbers = word.split(":")
        if len(numbers) == len(Position._fields) and all(map(str.isdecimal, numbers)):
            positions[file] = Position(*map(int, numbers))
    return positions
