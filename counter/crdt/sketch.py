"""How many different viewers: a HyperLogLog, whose registers merge by the larger one.

Flajolet, Fusy, Gandouet, Meunier: *HyperLogLog*, AofA 2007, by the library datasketches. Its merge
is a join, so a sketch is a CRDT without ids: nodes may merge in any order and any number of times.
Up to 384 viewers it is a list of coupons of 4 bytes, of which it is as good as exact; beyond that
4,096 registers of 4 bits.

This module takes 0.3 s to import, so it is imported only where viewers are counted.
"""

from array import array
from binascii import crc32
from hashlib import blake2b

from datasketches import hll_sketch, hll_union, tgt_hll_type

from counter.crdt.sketch_bytes import HEAD, is_sound

LG_K = 12
"""Of 4,096 registers: a standard error of 1.04 / 64, which is 1.6 %."""

_FORM = tgt_hll_type.HLL_4
_REGISTERS = 10
"""The first byte where there are registers: the length of what stands before them, in fours."""
_BEFORE = 40
_NIBBLES = _BEFORE + 2 ** (LG_K - 1)
_FLAGS, _LEAST = 5, 6
_MERGED = 16
"""The flag of a sketch whose estimate follows from its registers alone."""


class Sketch:
    """Who has watched, as far as an estimate of their number needs it. Not thread-safe."""

    __slots__ = ("_union",)

    def __init__(self) -> None:
        self._union = hll_union(LG_K)

    def add(self, viewer: int) -> None:
        """Add a viewer, an integer of 64 bits out of a hash; one that is in it changes nothing."""
        self._union.update(viewer)

    def join(self, encoded: bytes) -> None:
        """Merge what `encoded` has returned, here or elsewhere. Raises ValueError for anything
        else, or for what was damaged.
        """
        if not is_sound(encoded):
            raise ValueError("a sketch that is not as it was written")
        try:
            other = hll_sketch.deserialize(encoded[HEAD:])
        except (ValueError, IndexError, RuntimeError) as error:
            raise ValueError(f"no sketch: {error}") from None
        if other.lg_config_k != LG_K:
            raise ValueError(f"a sketch of 2^{other.lg_config_k} registers")
        self._union.update(other)

    def encoded(self) -> bytes:
        """All of it in at most 2.2 KiB: its identity, a checksum, and what the library writes.

        Two sketches that hold the same have the same identity, however they came to it.
        """
        content = self._merged()
        identity = _identity(content)
        return identity + crc32(identity + content).to_bytes(4) + content

    def estimate(self) -> int:
        """How many viewers there are; the same for all sketches that hold the same."""
        self._merged()
        estimate: float = self._union.get_estimate()
        return round(estimate)

    def _merged(self) -> bytes:
        """What the library writes. Its estimate must not depend on the order of what came.

        It does as long as a sketch has only been added to: then the library goes by what it saw
        when each viewer came. A sketch that was merged into another one forgets that.
        """
        result = self._union.get_result(_FORM)
        content: bytes = result.serialize_compact()
        if content[0] == _REGISTERS and not content[_FLAGS] & _MERGED:
            # With itself: the first sketch that an empty one is merged with is only copied.
            self._union.update(result)
            content = self._union.get_result(_FORM).serialize_compact()
        return content


def _identity(content: bytes) -> bytes:
    """A hash of what a sketch holds, whatever the order of its coupons or exceptions."""
    if content[0] == _REGISTERS:
        held = content[_LEAST : _LEAST + 1] + content[_BEFORE:_NIBBLES]
        coupons = content[_NIBBLES:]
    else:
        held, coupons = b"", content[4 * content[0] :]
    fours = array("I", coupons)
    return blake2b(held + array("I", sorted(fours)).tobytes(), digest_size=8).digest()
