"""A vector at rest: compressed, one to two bytes a count, and packed some counts at a time.

Pure: no I/O, no clock, no lock.
"""

import zlib
from array import array
from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from counter.crdt.columns import ROWS_A_PIECE, Column, Piece

_PIECE = Struct(">IBBII")
"""The first row that a piece is about, the type codes of its gaps between rows and of its counts,
how many there are, and how many bytes."""


class Segment(NamedTuple):
    """A vector at rest: what tells it from other copies, how many counts, and these, compressed.

    `sums` are the hashes of its buckets if it has so many counts that it takes long to sum them.
    """

    total: int
    digest: int
    size: int
    content: bytes
    sums: bytes = b""

    def pieces(self, after: int = 0) -> Iterator[Piece]:
        """The counts, in pieces by ascending rows; those from the row `after` on, and some more."""
        at = 0
        while at < len(self.content):
            first, of_gaps, of_counts, size, length = _PIECE.unpack_from(self.content, at)
            at += _PIECE.size
            if first + ROWS_A_PIECE <= after:
                at += length
                continue
            gaps, counts = array(chr(of_gaps)), array(chr(of_counts))
            packed = memoryview(zlib.decompress(memoryview(self.content)[at : at + length]))
            gaps.frombytes(packed[: size * gaps.itemsize])
            counts.frombytes(packed[size * gaps.itemsize :])
            yield Piece(first, gaps, counts)
            at += length


class Packing:
    """A column on its way to rest. It must not change meanwhile."""

    def __init__(self, column: Column) -> None:
        self._rest = column.pieces()
        self._packed = bytearray()

    def step(self, most: int) -> tuple[int, bytes | None]:
        """Pack about `most` counts more; return how many, and the content once it is complete."""
        done = 0
        for first, gaps, counts in self._rest:
            packed = zlib.compress(gaps.tobytes() + counts.tobytes(), 1)
            codes = ord(gaps.typecode), ord(counts.typecode)
            self._packed += _PIECE.pack(first, *codes, len(counts), len(packed)) + packed
            done += len(counts)
            if done >= most:
                return done, None
        return done, bytes(self._packed)
