"""The recent viewers that one writer has told, in its order: what a peer missed is read from here.

Places count what the writer has told. The last entry is at `end`; what is before the first entry is
beyond the window, or was forgotten early. So entries are found from the end, and an entry that was
left out shifts those before it: then a peer is told a few that it knows, never too few.
"""

from bisect import bisect_left
from struct import Struct

from counter.protocol.seen_messages import ENTRY, MAX_IN_PAGE

_entry = Struct("<Qi")
"""A viewer, and the tick of the visit that counted: below 0 if it was before the clock began."""
_SIZE = _entry.size


class SeenLog:
    """Recent viewers of a writer, 12 bytes each. Not thread-safe."""

    def __init__(self, end: int = 0) -> None:
        self.end = end
        """The place of the last one."""
        self._entries = bytearray()

    def __len__(self) -> int:
        return len(self._entries) // _SIZE

    def append(self, viewer: int, tick: int) -> None:
        """Add the next one."""
        self._entries += _entry.pack(viewer, tick)
        self.end += 1

    def take(self, entries: list[tuple[int, int]], to: int) -> None:
        """Add what is new of these, viewers with ticks, of which the last is at the place `to`."""
        if to > self.end:
            new = entries[-(to - self.end) :]
            self._entries += b"".join(_entry.pack(*one) for one in new)
            self.end = to

    def page(self, after: int, tick: int) -> tuple[int, bytes]:
        """The first of those after a place, with their ages, and the place of the last of them."""
        left = min(len(self), max(self.end - after, 0))
        most = min(left, MAX_IN_PAGE)
        start = (len(self) - left) * _SIZE
        told = _entry.iter_unpack(self._entries[start : start + most * _SIZE])
        page = b"".join(ENTRY.pack(viewer, max(tick - at, 0)) for viewer, at in told)
        return self.end - (left - most), page

    def forget(self, before: int) -> None:
        """Forget those of before a tick; in order of time they are but for a moment."""

        def tick_at(place: int) -> int:
            return int(_entry.unpack_from(self._entries, place * _SIZE)[1])

        self.drop(bisect_left(range(len(self)), before, key=tick_at))

    def drop(self, number: int) -> None:
        """Forget the first so many."""
        del self._entries[: number * _SIZE]


def entries(page: bytes, tick: int) -> list[tuple[int, int]]:
    """The viewers of a page, with ticks; what follows the last whole entry is left out."""
    whole = len(page) // ENTRY.size * ENTRY.size
    return [(viewer, tick - age) for viewer, age in ENTRY.iter_unpack(page[:whole])]
