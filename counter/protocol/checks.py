"""Checks whether a store holds what was written: a sum over each vector, and what it proves.

The *sum* of a vector is its total and its content hash (see `vector.py`), over all that the store
holds of it. It is kept as a fact, `sum:VECTOR`, written in one step with the counts. So a vector
that was changed is taken for the right one with a probability of 1 in 2^61.

Two sums that differ also say where, if one row alone was changed: a count that is too large by d
makes the total too large by d, and the hash by d times the hash of its video, so that the quotient
of both names the video. The same holds for a row that is missing, or that does not belong there.

Pure: no I/O, no clock.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain
from struct import Struct
from typing import Literal, NamedTuple

from counter.crdt.gcounter import MAX_COUNT
from counter.crdt.hashes import PRIME
from counter.crdt.ids import CELL, DIGIT, LONGEST_CELL, RUN_LENGTH, STORE_LENGTH

SUM = "sum:"
"""How the name of a fact begins that is the sum of a vector."""

_CELL = re.compile(CELL)
_OF_CELLS = bytes(code for code in range(128) if _CELL.fullmatch(chr(code)))
_MEMBER = rf"[A-Za-z0-9._-]{{1,32}}~{DIGIT}{{{STORE_LENGTH}}}"
_VECTOR = re.compile(rf"{_MEMBER}[.@]{DIGIT}{{{RUN_LENGTH}}}")
_FACT = re.compile(rf"[a-z-]+:[!-~][ -~]*|{_MEMBER}")
_TEXT = re.compile(r"[ -~]+")
_MOVING = re.compile(rf"- (-|{DIGIT}{{{RUN_LENGTH}}})( [0-9]{{1,20}} [0-9a-f]{{1,16}})?")
_HASH = Struct(">Q")
_RENAMED = 2_000
"""Among how many rows one is looked for whose id was changed into another valid one: half a
second of computing."""


def video_hash(video: str) -> int:
    """The hash of a video in content hashes."""
    number: int = _HASH.unpack(blake2b(video.encode(), digest_size=10).digest()[:8])[0]
    return number % PRIME


def is_row(video: str) -> bool:
    """Whether a row of a vector may bear this id."""
    return _CELL.fullmatch(video) is not None


def is_count(count: object) -> bool:
    """Whether a row may hold this count."""
    return type(count) is int and 0 < count <= MAX_COUNT


def are_sound(ids: Collection[str], counts: Collection[int]) -> bool:
    """Whether rows with these ids and counts may be; quick where all of them may."""
    if not ids:
        return True
    text = "".join(ids)
    if min(counts) <= 0 or max(counts) > MAX_COUNT or not text.isascii():
        return False
    lengths = set(map(len, ids))
    of_cells = not text.encode().translate(None, _OF_CELLS)
    return of_cells and min(lengths) > 0 and max(lengths) <= LONGEST_CELL


def is_vector(vector: str) -> bool:
    """Whether this is the id of a vector: `NAME~store.run` or `NAME~store@run`."""
    return _VECTOR.fullmatch(vector) is not None


def is_fact(name: str, text: str) -> bool:
    """Whether this may be a fact: `kind:name` or a member, and printable text.

    The sum of a vector must be one that `decode_sum` or `decode_moving` reads.
    """
    if name.startswith(SUM):
        is_sum = decode_sum(text) is not None or decode_moving(text) is not None
        return is_vector(name.removeprefix(SUM)) and is_sum
    return _FACT.fullmatch(name) is not None and _TEXT.fullmatch(text) is not None


class Sum(NamedTuple):
    """The total of a vector, and its content hash."""

    total: int
    digest: int


NOTHING = Sum(0, 0)


def sum_of(counts: Mapping[str, int], hash_of: Callable[[str], int] = video_hash) -> Sum:
    """The sum of these counts, computed anew."""
    digest = sum(count * hash_of(video) for video, count in counts.items())
    return Sum(sum(counts.values()), digest % PRIME)


def sum_name(vector: str) -> str:
    """The name of the fact that keeps the sum of a vector."""
    return SUM + vector


def encode_sum(total: int, digest: int) -> str:
    """A sum as the text of its fact."""
    return f"{total} {digest:x}"


def decode_sum(text: str) -> Sum | None:
    """A sum out of such a text; None for what is none."""
    if not re.fullmatch(r"[0-9]{1,20} [0-9a-f]{1,16}", text):
        return None
    total, digest = text.split(" ")
    return Sum(int(total), int(digest, 16))


def encode_moving(since: str, whole: Sum | None = None) -> str:
    """What stands in the place of a folded vector's sum while rows are moved; see `moving.py`.

    `whole` is the sum of all that the store has of the fold, if that is known.
    """
    return f"- {since or '-'}" + (f" {encode_sum(*whole)}" if whole else "")


def decode_moving(text: str) -> tuple[str, Sum | None] | None:
    """The mark since which rows are moved, and the sum; None of a text that does not tell that."""
    read = _MOVING.fullmatch(text)
    return None if read is None else (read[1].strip("-"), decode_sum((read[2] or "").strip()))


Verdict = Literal["right", "unknown", "mended", "wrong"]


class Finding(NamedTuple):
    """What is known of one vector that was read.

    `right`: it is as it was written. `unknown`: the store, of an earlier version, has no sum of
    it. `mended`: it is not, but what was written is proven by the sum, and is in `counts`.
    `wrong`: it is not, and `counts` is what is left without the rows in `bad`. `bad` is
    `{id: true count}` of rows that are proven not to be as they were written, 0 for one that has
    no place there. `vector` is what it was written as; `found` is the name it was found under.
    """

    verdict: Verdict
    vector: str
    found: str
    counts: dict[str, int]
    bad: dict[str, int]


@dataclass(slots=True)
class Audit:
    """Compares the vectors of a store with their sums.

    `vectors` and `facts` are what the store knows beside counts. With `doubtful` some of its facts
    are damaged or missing: then a vector without a sum is taken for wrong, for its sum may be
    among them.
    """

    vectors: Collection[str]
    facts: Mapping[str, str]
    doubtful: bool = False
    _sums: dict[str, Sum] = field(init=False)
    _changed: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        """Take the sums out of the facts."""
        sums = {
            name.removeprefix(SUM): decode_sum(text)
            for name, text in self.facts.items()
            if name.startswith(SUM)
        }
        self._sums = {vector: kept for vector, kept in sums.items() if kept is not None}

    def change(self, vectors: Iterable[str]) -> None:
        """These vectors were written to meanwhile: nothing is said of them any more."""
        self._changed.update(vectors)

    def missing(self) -> list[str]:
        """Vectors that the store has a sum of, and nothing else."""
        held = self._changed.union(self.vectors)
        return sorted(
            vector for vector, kept in self._sums.items() if kept.total and vector not in held
        )

    def judge(self, vector: str, found: Sum) -> Literal["right", "unknown", "wrong"]:
        """What is to be thought of a vector that adds up to this, once it was read in full."""
        if vector in self._changed:
            return "unknown"
        if not is_vector(vector):
            return "wrong"
        kept = self._sums.get(vector)
        if kept is None:
            return "wrong" if self.doubtful or self.missing() else "unknown"
        return "right" if kept == found else "wrong"

    def examine(
        self,
        vector: str,
        rows: Mapping[str, object],
        names: Callable[[], Iterable[str]] = tuple,
    ) -> Finding:
        """Find out what is wrong with a vector, of which these are all `rows` that can be read.

        A row that cannot is there with None. `names` are videos that a missing row may have been.
        """
        sound = {
            video: count
            for video, count in rows.items()
            if isinstance(count, int) and is_count(count) and is_row(video)
        }
        bad = dict.fromkeys(rows.keys() - sound.keys(), 0)
        found, kept = sum_of(sound), self._sums.get(vector)
        if kept is None:
            whose = [other for other in self.missing() if self._sums[other] == found]
            if whose and found != NOTHING:
                # Its name was changed, not what it holds.
                return Finding("mended", whose[0], vector, sound, bad)
            return Finding("wrong", vector, vector, sound, bad)
        true = _true(sound, Sum(kept.total - found.total, kept.digest - found.digest), bad, names)
        if true is None:
            return Finding("wrong", vector, vector, sound, bad)
        counts = {video: count for video, count in (sound | true).items() if count}
        return Finding("mended", vector, vector, counts, bad | true)


def _true(
    sound: Mapping[str, int],
    lacks: Sum,
    bad: Collection[str],
    names: Callable[[], Iterable[str]],
) -> dict[str, int] | None:
    """The true counts of the one row, or the one id, that was changed; None if it was not one."""
    total, digest = lacks.total, lacks.digest % PRIME
    if total == 0:
        return {} if digest == 0 else _renamed(sound, digest)
    wanted = digest * pow(total % PRIME, -1, PRIME) % PRIME if total % PRIME else -1
    for video, count in sound.items():
        if video_hash(video) == wanted:
            true = count + total
            return {video: true} if 0 <= true <= MAX_COUNT else None
    if 0 < total <= MAX_COUNT:
        was = (other for video in bad for other in (video, *neighbours(video)))
        for video in chain(was, names()):
            if is_row(video) and video_hash(video) == wanted:
                return {video: total}
    return None


def _renamed(sound: Mapping[str, int], digest: int) -> dict[str, int] | None:
    """The row whose id was changed by one bit into another valid one, if there are not too many."""
    if len(sound) > _RENAMED:
        return None
    inverse: dict[int, int] = {}
    for video, count in sound.items():
        if count not in inverse:
            inverse[count] = digest * pow(count, -1, PRIME) % PRIME
        wanted = (video_hash(video) + inverse[count]) % PRIME
        for other in neighbours(video):
            if other not in sound and is_row(other) and video_hash(other) == wanted:
                return {video: 0, other: count}
    return None


def neighbours(text: str) -> Iterator[str]:
    """Every text that is this one with a single bit changed."""
    raw = bytearray(text.encode("utf-8", "surrogateescape"))
    for at in range(len(raw)):
        for bit in range(8):
            raw[at] ^= 1 << bit
            yield raw.decode("utf-8", "surrogateescape")
            raw[at] ^= 1 << bit
