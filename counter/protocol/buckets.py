"""Ids of records in buckets, each with a hash, so that two sets are compared without being told.

Pure: no I/O, no clock.
"""

from array import array
from collections.abc import Iterator
from struct import pack, unpack

from counter.protocol.records import BUCKETS

_DIGITS = 3
"""Hexadecimal digits at the beginning of an id that are the number of its bucket."""
_A_BUCKET = 32
"""How many ids a bucket has, where there are not too many."""


class Buckets:
    """The ids of a set, and the sum of the hashes of what stands under them, in 63 bits."""

    def __init__(self) -> None:
        self.sum = 0
        self._hashes: dict[str, int] = {}
        self._ids: dict[int, set[str]] = {}
        self._sums = array("Q", bytes(8 * BUCKETS))

    def put(self, id_: str, hash_: int) -> None:
        """Note what stands under an id now."""
        more, bucket = hash_ - self._hashes.get(id_, 0), _bucket(id_)
        self._hashes[id_] = hash_
        self._ids.setdefault(bucket, set()).add(id_)
        self._sums[bucket] = (self._sums[bucket] + more) % 2**63
        self.sum = (self.sum + more) % 2**63

    def beside(self, id_: str) -> set[str]:
        """The ids in the same bucket."""
        return self._ids.get(_bucket(id_), set())

    def hashes(self, there: int) -> bytes:
        """The hashes of as many buckets as are right where so many ids are compared."""
        buckets = 1
        while buckets < BUCKETS and buckets * _A_BUCKET < there:
            buckets *= 2
        return self._hashes_of(buckets)

    def _hashes_of(self, buckets: int) -> bytes:
        """The hashes of so many buckets, a power of two."""
        each, sums = BUCKETS // buckets, self._sums
        firsts = range(0, BUCKETS, each)
        return pack(f">{buckets}Q", *(sum(sums[at : at + each]) % 2**63 for at in firsts))

    def differing(self, hashes: bytes, after: str) -> Iterator[str] | None:
        """The ids in the buckets that differ, in order, after one; None if there are no such."""
        buckets, rest = divmod(len(hashes), 8)
        if rest or not buckets or buckets & (buckets - 1) or buckets > BUCKETS:
            return None
        own = unpack(f">{buckets}Q", self._hashes_of(buckets))
        told = unpack(f">{buckets}Q", hashes)
        differ = (at for at in range(buckets) if own[at] != told[at])
        each = BUCKETS // buckets
        return (id_ for at in differ for id_ in self._after(at * each, each, after))

    def _after(self, first: int, buckets: int, after: str) -> Iterator[str]:
        """The ids of these buckets, in order, after one of them."""
        start = max(first, _bucket(after)) if after else first
        for bucket in range(start, first + buckets):
            yield from sorted(id_ for id_ in self._ids.get(bucket, ()) if id_ > after)


def _bucket(id_: str) -> int:
    return int(id_[:_DIGITS], 16)
