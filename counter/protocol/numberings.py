"""The numberings of others: which row of an address is which video; see `numbering.py`.

A numbering is kept while something is repaired from there. Where anything about it is wrong, that
address is asked by ids for a while.

Pure: no I/O; times are in seconds of the caller's clock, which never goes back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from counter.crdt.narrow import unpack
from counter.crdt.other_rows import OtherRows
from counter.crdt.tally import Tally
from counter.protocol.messages import RowsPage


@dataclass(slots=True)
class _Numbering:
    """What is known of an address: its rows, and the digests up to where it has told them.

    `of` is how many rows it has, `by` the vector whose repair brought some last. At `at` it told
    counts by row.
    """

    rows: OtherRows
    at: float
    digests: dict[int, bytes] = field(default_factory=lambda: {0: b""})
    of: int = 0
    by: str = ""


class Numberings:
    """The numberings that were told, by address. `memory` is after how long one is forgotten."""

    def __init__(self, tally: Tally, memory: float) -> None:
        self._tally = tally
        self._memory = memory
        self._numberings: dict[str, _Numbering] = {}
        self._wrong: dict[str, float] = {}
        """When something was wrong with that of an address."""

    def home(self, now: float, patience: float) -> str | None:
        """The address of which most is known, of those that tell counts by row now."""
        rows = {
            address: len(numbering.rows)
            for address, numbering in self._numberings.items()
            if now - numbering.at < patience
        }
        return max(rows, key=rows.__getitem__, default=None)

    def is_read(self, address: str) -> bool:
        """Whether an address may tell counts by row."""
        return address not in self._wrong

    def known(self, address: str) -> tuple[int, bytes]:
        """How many rows of an address are known, and the digest of their ids."""
        numbering = self._numberings.get(address)
        return (0, b"") if numbering is None else next(reversed(numbering.digests.items()))

    def are_coming(self, address: str, other: str, now: float, patience: float) -> bool:
        """Whether another vector's repair brings ids of an address, and more of them follow."""
        numbering = self._numberings.get(address)
        if numbering is None or numbering.by in ("", other) or now - numbering.at >= patience:
            return False
        return len(numbering.rows) < numbering.of

    def read(self, page: RowsPage, address: str, now: float) -> Mapping[str, int] | None:
        """The counts of a page; None if it is of another numbering than the one known."""
        numbering = self._numberings.get(address)
        if numbering is None:
            numbering = self._numberings[address] = _Numbering(OtherRows(self._tally.ids), now)
        if numbering.digests.get(page.known) != page.digest or not self._learn(
            numbering, page, now
        ):
            del self._numberings[address]
            self._wrong[address] = now
            return None
        gaps, counts = unpack(page.gaps, page.size), unpack(page.counts, page.size)
        return numbering.rows.entries(page.first, gaps, counts)

    def _learn(self, numbering: _Numbering, page: RowsPage, now: float) -> bool:
        """Take in the ids of more rows; say whether they fit to what is known."""
        before, videos = len(numbering.rows), page.text.decode().split("\0")[:-1]
        if not numbering.rows.learn(page.known, videos):
            return False
        numbering.of, numbering.at = page.of, now
        self._tally.ids.coming = page.of
        if len(numbering.rows) > before:
            numbering.digests[len(numbering.rows)] = page.after
            numbering.by = page.vector
        return True

    def ended(self, address: str, vector: str) -> None:
        """The repair of a vector has ended: it brings no more ids."""
        numbering = self._numberings.get(address)
        if numbering is not None and numbering.by == vector:
            numbering.by = ""

    def forget_of(self, address: str) -> None:
        """Forget that of an address, which has another one now."""
        self._numberings.pop(address, None)

    def forget(self, asked: Mapping[str, object], now: float) -> None:
        """Forget those of addresses of which nothing is asked any more, and old faults."""
        for address in [address for address in self._numberings if address not in asked]:
            del self._numberings[address]
        for address, at in list(self._wrong.items()):
            if now - at > self._memory:
                del self._wrong[address]
