"""Arrays of unsigned integers in the narrowest type that holds them.

Pure: no I/O, no clock, no lock.
"""

import sys
from array import array

_TYPES = "BHIQ"
_OF_SIZE = {array(code).itemsize: code for code in _TYPES}
_LARGEST = {code: 2 ** (8 * array(code).itemsize) - 1 for code in _TYPES}

ALWAYS_HELD = 255
"""Any of these arrays holds numbers up to this."""


def type_for(largest: int) -> str:
    """The type code of the narrowest array that holds numbers up to this.

    Raises OverflowError if there is none.
    """
    for code in _TYPES:
        if largest <= _LARGEST[code]:
            return code
    raise OverflowError(f"{largest} needs more than 64 bits; counts end far below")


def holds(numbers: "array[int]", largest: int) -> bool:
    """Whether the type of an array holds numbers up to this."""
    return bool(largest <= _LARGEST[numbers.typecode])


def packed(numbers: "array[int]") -> bytes:
    """Numbers as they go from one node to another: 1, 2, 4 or 8 bytes each, the lowest first."""
    return _little_endian(numbers).tobytes()


def unpack(content: bytes, size: int) -> "array[int]":
    """So many numbers that were packed. Raises ValueError if these are others."""
    code = _OF_SIZE.get(len(content) // size if size else 1, "")
    if not code or len(content) % (size or 1) or (content and not size):
        raise ValueError(f"{len(content)} bytes are not {size} numbers")
    return _little_endian(array(code, content))


def _little_endian(numbers: "array[int]") -> "array[int]":
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers
