"""The order in which a node came to know its videos: the number of each is its row.

Vectors mostly have the same videos, so whoever lacks many of them is told the ids once, in this
order, and the counts by row. It says how many rows it knows, and the digest of their ids. Counts by
row go only to who knows the same ids for the same rows as are here now: so no restart, no revert
and no copied store ever puts a count on another video.

Pure: no I/O, no clock.
"""

from array import array
from bisect import bisect_left
from hashlib import blake2b
from typing import TYPE_CHECKING

from counter.crdt.columns import gaps_of
from counter.crdt.extract import Room
from counter.crdt.narrow import packed
from counter.crdt.tally import Tally
from counter.protocol.extracts import DIGEST_BYTES, MAX_EXTRACT, MAX_ROWS
from counter.protocol.messages import RepairRequest, RowsPage

if TYPE_CHECKING:
    from counter.crdt.index import Rows

_IDS_BYTES = 64 * 1024
_COUNTS_BYTES = 48 * 1024


class Numbering:
    """The rows of a tally, told to others."""

    rows_a_block = 2**9
    ids_at_once = 3_500
    """New ones take the asker some 7 ms."""
    blocks_at_once = 1000
    """A digest of so many more blocks of ids takes some 10 ms."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._digests = [b""]
        """The digest of all ids up to each block. No row is ever that of another id."""

    def digest(self, rows: int) -> bytes | None:
        """The digest of the ids of the first rows; b"" for none of them.

        None if there are not so many rows, or while it takes longer than a step may.
        """
        if rows > len(self._tally.ids):
            return None
        known, last = len(self._digests), rows // self.rows_a_block
        for block in range(known, min(last + 1, known + self.blocks_at_once)):
            self._digests.append(self._up_to(block * self.rows_a_block))
        return self._up_to(rows) if last < len(self._digests) else None

    def _up_to(self, rows: int) -> bytes:
        """The same, where the digest up to the last block before these rows is known."""
        block = min(rows // self.rows_a_block, len(self._digests) - 1)
        first, before = block * self.rows_a_block, self._digests[block]
        if first == rows:
            return before
        more = self._tally.ids.between(first, rows)
        return blake2b(before + more, digest_size=DIGEST_BYTES).digest()

    def page(self, ask: RepairRequest, total: int | None, most_scanned: int) -> RowsPage | None:
        """The page that is asked for; None if it is to be told by ids.

        `total` is that of the vector if it is the own one. At most so many rows are looked at.
        """
        if self.digest(ask.known) != ask.digest:
            return None
        text = self._more(ask)
        end = ask.known + text.count(b"\0")
        digest = self.digest(end)
        if digest is None or (ask.after >= end and not text):
            return None
        rows, counts, following = self._counts(ask, end, most_scanned)
        gaps = gaps_of(rows, ask.after)
        fit = _COUNTS_BYTES // (gaps.itemsize + counts.itemsize)
        if fit < len(rows):
            gaps, counts, following = gaps[:fit], counts[:fit], int(rows[fit])
        return RowsPage(
            ask.vector, ask.known, ask.digest, text, digest, len(self._tally.ids), ask.after,
            len(gaps), packed(gaps), packed(counts), following, total,
        )  # fmt: skip

    def _more(self, ask: RepairRequest) -> bytes:
        """The ids of some rows that the asker does not know, if they are not more than counts."""
        lacking = len(self._tally.ids) - ask.known
        if lacking > self._tally.size(ask.vector) * ask.lacks:
            return b""
        most = min(lacking, ask.most, self.ids_at_once)
        text = self._tally.ids.between(ask.known, ask.known + most)
        if len(text) > _IDS_BYTES:
            text = text[: text.rindex(b"\0", 0, _IDS_BYTES) + 1]
        return text

    def _counts(
        self, ask: RepairRequest, end: int, most_scanned: int
    ) -> tuple["list[int] | Rows", "array[int]", int | None]:
        """Rows before `end`, their counts, and where to go on."""
        if ask.after >= end:
            return [], array("B"), ask.after
        most = MAX_ROWS if ask.most >= MAX_EXTRACT else ask.most
        room = Room(_COUNTS_BYTES, 2, most, ids=False)
        asked = ask.vector, ask.hashes, ask.salt, ask.after
        rows, counts, following = self._tally.page(*asked, room, most_scanned)
        fit = bisect_left(rows, end)
        if fit < len(rows):
            return rows[:fit], counts[:fit], int(rows[fit])
        return rows, counts, following
