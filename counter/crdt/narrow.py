"""Arrays of unsigned integers in the narrowest type that holds them.

Pure: no I/O, no clock, no lock.
"""

from array import array

_TYPES = "BHIQ"
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
