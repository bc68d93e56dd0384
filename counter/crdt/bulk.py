"""Arithmetic on many counts at once: what `columns` and `vector` do one by one, on flat arrays.

Counts are kept in objects of type `array`, which are quick for one element. numpy works on the same
memory. No view of it outlives a call, for an array that is viewed cannot grow.

Pure: no I/O, no clock, no lock. This module imports numpy, which takes 0.1 s and 17 MB, so it is
imported only where there are many videos.
"""

from array import array
from collections.abc import Collection, Iterator, Mapping
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counter.crdt.extract import Extract, Room
from counter.crdt.hashes import BUCKETS, PRIME
from counter.crdt.index import Rows
from counter.crdt.narrow import type_for

Counts = NDArray[np.uint64]
Differ = NDArray[np.bool]
"""Of each bucket whether it differs."""

_LIMB = np.uint64(29)
_LOW_LIMB = np.uint64(2**29 - 1)
_HALF = np.uint64(31)
_LOW_HALF = np.uint64(2**31 - 1)
_SHIFTED = np.uint64(30)
_LOW_SHIFTED = np.uint64(2**30 - 1)
_BITS = np.uint64(61)
_PRIME = np.uint64(PRIME)
_TOO_MANY = 2.0**62


def counts_of(counts: Mapping[str, int]) -> Counts | None:
    """All counts of a mapping in their order; None if one is no count at all."""
    if type(counts) is Extract:
        return np.asarray(counts.counts).astype(np.uint64)
    return numbers_of(counts.values())


def numbers_of(counts: Collection[int]) -> Counts | None:
    """All these counts in their order; None if one is no count at all."""
    try:
        told = np.fromiter(counts, np.int64, len(counts))
    except OverflowError:
        return None
    # What is below 0 is never news.
    return np.maximum(told, 0).astype(np.uint64)


def sum_of(counts: Counts) -> int | None:
    """The sum, None if it is so large that it may not fit."""
    return int(counts.sum()) if counts.sum(dtype=np.float64) < _TOO_MANY else None


def wide(column: "array[int]") -> Counts:
    """All counts of a column."""
    return np.asarray(column).astype(np.uint64)


def take(column: "array[int]", rows: Rows) -> Counts:
    """The counts in these rows, 0 in the row -1."""
    if not column:
        return np.zeros(len(rows), np.uint64)
    counts = np.asarray(column)[rows].astype(np.uint64)
    counts[rows < 0] = 0
    return counts


def counted_in(column: Mapping[int, int], rows: Rows) -> Counts:
    """The counts in these rows of a sparse column."""
    if not column:
        return np.zeros(len(rows), np.uint64)
    counts = map(column.get, rows.tolist(), repeat(0))
    return np.fromiter(counts, np.uint64, len(rows))


def entries(column: Mapping[int, int]) -> tuple[Rows, Counts]:
    """All rows of a sparse column and their counts."""
    rows = np.fromiter(column.keys(), np.int64, len(column))
    return rows, np.fromiter(column.values(), np.uint64, len(column))


def told(counts: Collection[int]) -> Counts:
    """All these counts in their order, where none can be less than 0 or too large."""
    return np.fromiter(counts, np.uint64, len(counts))


def add(column: "array[int]", rows: Rows, more: Counts) -> NDArray[np.bool]:
    """Add to the counts in these rows, none of which is there twice; return which were 0."""
    view = np.asarray(column)
    before: Counts = view[rows]
    view[rows] = before + more
    new: NDArray[np.bool] = before == 0
    return new


def growth(before: Counts, told: Counts) -> Counts:
    """By how much each count is larger than before; 0 where it is not."""
    return np.maximum(told, before) - before


def sums(counts: Counts, more: Counts) -> Counts | None:
    """Each count and what it grew by; None if one of them may be too large."""
    if int(counts.max(initial=0)) + int(more.max(initial=0)) >= 2**63:
        return None
    return counts + more


def sum_at(column: "array[int]", rows: "array[int]") -> int:
    """The sum of the counts in these rows; those beyond the end have none yet."""
    there = np.asarray(rows)
    counts = np.asarray(column)[there[there < len(column)]].astype(np.uint64)
    total = sum_of(counts)
    return sum(counts.tolist()) if total is None else total


def listed(
    marks: bytearray, rows: Rows, visits: Counts, bar: int
) -> tuple[NDArray[np.bool], Iterator[tuple[int, int]]]:
    """Which of these rows are listed; and the places and visits of those with more than `bar`."""
    are = np.asarray(marks)[rows] > 0
    above = np.flatnonzero(are & (visits > bar))
    return are, zip(above.tolist(), visits[above].tolist(), strict=True)


def highest(
    marks: bytearray, visits: "array[int]", less: Mapping[int, int | None], most: int
) -> list[tuple[int, int]]:
    """The listed rows with the most visits, and how many; from some, so many are taken, or all."""
    known = min(len(marks), len(visits))
    left = np.where(np.asarray(marks)[:known] > 0, wide(visits)[:known], np.uint64(0))
    for row, by in less.items():
        if row < len(left):
            left[row] = 0 if by is None else max(0, int(left[row]) - by)
    rows = np.argpartition(left, -most)[-most:] if len(left) > most else np.arange(len(left))
    rows = rows[left[rows] > 0]
    return list(zip(rows.tolist(), left[rows].tolist(), strict=True))


def put(column: "array[int]", rows: Rows, counts: Counts) -> int:
    """Set the counts in these rows, which the column's type can hold; return how many were 0."""
    view = np.asarray(column)
    new = len(rows) - int(np.count_nonzero(view[rows]))
    view[rows] = counts
    return new


def mark(marks: bytearray, rows: Rows) -> int:
    """Set the marks of these rows; return how many were not set."""
    view = np.asarray(marks)
    new = len(rows) - int(np.count_nonzero(view[rows]))
    view[rows] = 1
    return new


def mark_counted(marks: bytearray, column: "array[int]") -> int:
    """Set the marks of all rows that are not 0; return how many were not set."""
    # Either may be longer.
    rows = min(len(marks), len(column))
    view = np.asarray(marks)[:rows]
    before = int(np.count_nonzero(view))
    view |= (np.asarray(column)[:rows] != 0).view(np.uint8)
    return int(np.count_nonzero(view)) - before


def gaps_and_counts(
    column: "array[int]", first: int, end: int
) -> tuple["array[int]", "array[int]"]:
    """What is counted in these rows: the gaps between them and the counts, as narrow as can be."""
    rows = counted(column, first, end)
    return narrowed(np.diff(rows, prepend=first)), narrowed(np.asarray(column)[rows])


def narrow(column: "array[int]", rows: Rows) -> "array[int]":
    """The counts in these rows, as narrow as can be."""
    return narrowed(np.asarray(column)[rows])


def placed(first: int, gaps: "array[int]") -> Rows:
    """The rows that have these gaps, the first of which is to `first`."""
    rows: Rows = np.cumsum(np.asarray(gaps), dtype=np.int64) + first
    return rows


def gaps(rows: Rows, first: int) -> "array[int]":
    """The gaps between ascending rows, the first of which is to `first`, as narrow as can be."""
    return narrowed(np.diff(rows, prepend=first))


def found(rows: "array[int]", at: Rows) -> Rows:
    """Those of these rows that are at some places."""
    return np.asarray(rows)[at].astype(np.int64)


def fill(column: "array[int]", first: int, gaps: "array[int]", counts: "array[int]") -> None:
    """Set counts whose rows have these gaps, which the column's type can hold."""
    rows = np.cumsum(np.asarray(gaps), dtype=np.int64)
    view = np.asarray(column)[first:]
    if rows[-1] - rows[0] == len(rows) - 1:
        view[rows[0] : rows[-1] + 1] = np.asarray(counts)
    else:
        view[rows] = np.asarray(counts)


def narrowed(values: NDArray[Any]) -> "array[int]":
    """The same in the narrowest type that holds all of them."""
    code = type_for(int(values.max(initial=0)))
    return array(code, values.astype(code).tobytes())


def widened(column: "array[int]", code: str) -> "array[int]":
    """A copy with elements of another type."""
    return array(code, np.asarray(column).astype(code).tobytes())


def added(column: "array[int]", other: "array[int]") -> int:
    """Add one column to another, whose type can hold the sums; return how many are not 0."""
    sums = np.asarray(column)
    part = sums[: len(other)]
    np.add(part, np.asarray(other)[: len(part)], out=part, casting="unsafe")
    return int(np.count_nonzero(sums))


def largest(column: "array[int]") -> int:
    """The largest count of a column."""
    return int(np.asarray(column).max()) if column else 0


def counted(column: "array[int]", first: int, end: int) -> Rows:
    """The rows from `first` to `end` that are not 0."""
    return np.flatnonzero(np.asarray(column)[first:end]) + first


def rows_from(first: int, end: int) -> Rows:
    """All rows from one to another."""
    return np.arange(first, end)


# -- content hashes, modulo 2^61 - 1


def add_hashes(hashes: "array[int]", buckets: "array[int]", digests: bytes) -> None:
    """Append the hash and the bucket of each video; see `hashes.digests_of`."""
    pairs = np.frombuffer(digests, [("hash", ">u8"), ("bucket", ">u2")])
    hashes.frombytes((pairs["hash"].astype(np.uint64) % _PRIME).tobytes())
    buckets.frombytes((pairs["bucket"] % BUCKETS).astype(np.uint16).tobytes())


def products(hashes: Counts, counts: Counts) -> Counts:
    """Hash times count of each, modulo `PRIME`; hashes are below it, counts below 2^63."""
    most = int(counts.max(initial=0))
    if most == 1 and int(counts.min()) == 1:
        return hashes
    if most < 2**29:
        low = (hashes & _LOW_HALF) * counts
        high = (hashes >> _HALF) * counts
        # 2^61 is 1.
        low += high >> _SHIFTED
        low += (high & _LOW_SHIFTED) << _HALF
        return _reduced(low)
    upper = products(products(hashes, counts >> _LIMB), np.full_like(counts, 2**28))
    return _reduced(products(hashes, counts & _LOW_LIMB) + _reduced(upper + upper))


def total(values: Counts) -> int:
    """The sum of values below `PRIME`, modulo `PRIME`."""
    high, low = int((values >> _HALF).sum()), int((values & _LOW_HALF).sum())
    return ((high << 31) + low) % PRIME


def add_to_buckets(sums: "array[int]", buckets: "array[int]", rows: Rows, values: Counts) -> None:
    """Add values below `PRIME` to the sums of the buckets of their rows, modulo `PRIME`."""
    if not len(rows):
        return
    of_rows = np.asarray(buckets)[rows]
    # Two halves, whose sums a float holds exactly.
    low, high = (
        np.bincount(of_rows, weights=half)[of_rows].astype(np.uint64)
        for half in (values & _LOW_HALF, values >> _HALF)
    )
    low += high >> _SHIFTED
    low += (high & _LOW_SHIFTED) << _HALF
    view = np.asarray(sums)
    low += view[of_rows]
    # A bucket that is there twice gets the same sum twice.
    view[of_rows] = _reduced(low)


def add_sums(sums: "array[int]", others: "array[int]") -> None:
    """Add to each bucket's sum that of another vector."""
    view = np.asarray(sums)
    view[:] = _reduced(view + np.asarray(others))


def hashes(sums: "array[int]", buckets: int, salt: int) -> bytes:
    """See `Vector.hashes`."""
    values = np.asarray(sums)
    while len(values) > buckets:
        half = len(values) // 2
        values = _reduced(values[:half] + values[half:])
    salted = products(values, np.full_like(values, salt))
    return (salted & np.uint64(0xFFFF)).astype("<u2").tobytes()


def differing(ours: bytes, theirs: bytes) -> Differ:
    """Of each of `BUCKETS` buckets whether its hashes differ."""
    differ = np.frombuffer(ours, "<u2") != np.frombuffer(theirs, "<u2")
    return np.tile(differ, BUCKETS // len(differ))


def in_differing(rows: Rows, buckets: "array[int]", differ: Differ) -> Rows:
    """Those of these rows that are in buckets which differ."""
    here: Rows = rows[differ[np.asarray(buckets)[rows]]]
    return here


def wanted(rows: Rows, after: int, buckets: "array[int]", differ: Differ | None) -> Rows:
    """Where in these ascending rows those from `after` on are that are in buckets which differ."""
    at: Rows = np.arange(int(rows.searchsorted(after)), len(rows))
    return at if differ is None else at[differ[np.asarray(buckets)[rows[at]]]]


def fitting(lengths: Rows, room: Room, *, at_least: bool) -> tuple[int, Room]:
    """How many entries fit, of ids of these lengths, and what room is left.

    With `at_least`, one of them fits in any case.
    """
    ends = np.cumsum(lengths * room.ids + room.each)
    fit = min(int(np.searchsorted(ends, room.size, side="right")), room.most)
    fit = min(max(fit, int(at_least)), len(lengths))
    size = int(ends[fit - 1]) if fit else 0
    return fit, room._replace(size=room.size - size, most=room.most - fit)


def joined(parts: list[Rows]) -> Rows:
    """All of these rows or counts, one behind the other."""
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _reduced(values: Counts) -> Counts:
    """Values below 2^64, modulo `PRIME`."""
    values = (values & _PRIME) + (values >> _BITS)
    # What is less than 0 is very large.
    reduced: Counts = np.minimum(values, values - _PRIME)
    return reduced
