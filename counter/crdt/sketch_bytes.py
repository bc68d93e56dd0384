"""What can be said of an encoded sketch without the library that reads it."""

from binascii import crc32

IDENTITY = 8
"""Bytes at the beginning that are the same for all sketches that hold the same, and for no others.
"""
HEAD = IDENTITY + 4
"""Bytes before what the library has written: the identity and a checksum."""
LONGEST = 2252
"""Bytes of an encoded sketch: 2.2 KiB."""


def identity_of(encoded: bytes) -> int:
    """The identity of an encoded sketch, 0 of none."""
    return int.from_bytes(encoded[:IDENTITY])


def is_sound(encoded: bytes) -> bool:
    """Whether an encoded sketch is as it was written."""
    if not HEAD < len(encoded) <= LONGEST:
        return False
    checksum = crc32(encoded[HEAD:], crc32(encoded[:IDENTITY]))
    return checksum.to_bytes(4) == encoded[IDENTITY:HEAD]
