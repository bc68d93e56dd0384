"""Loads what a store holds, and passes on a vector only after its sum was checked.

A vector is read piece by piece into a vector beside the tally, over the same index of videos, so
reading it takes no more memory than keeping it. Its sum is checked when it is whole.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from threading import Lock
from typing import NamedTuple

from counter.crdt.ids import kept_as
from counter.crdt.tally import Tally
from counter.crdt.vector import Vector
from counter.node.names import Names
from counter.protocol.checks import (
    Audit,
    Finding,
    Sum,
    Verdict,
    are_sound,
    is_fact,
    is_vector,
)
from counter.store.contract import Known, Rows, Store
from counter.store.seals import shown

_ROWS_A_PIECE = 4_000
_NEW_A_STEP = 2_000
"""So many videos that are not known yet are taken in at once: some milliseconds."""
_NOT_KEPT = (
    "As it was found it is not kept, for enough such copies lie beside it: look at them and remove "
    "them"
)
_NAMES = 200_000
"""In how many videos the one of a missing row is searched for: a quarter of a second."""


class Loaded(NamedTuple):
    """A piece of a vector, and the verdict on the whole vector; see `Finding`."""

    vector: str
    counts: Mapping[str, int]
    verdict: Verdict
    is_last: bool = False
    """Whether nothing of the vector follows."""


def sift(known: Known) -> tuple[Known, list[str], list[str]]:
    """What a store knows that is valid, vectors by their full names.

    Then the names of invalid vectors, and of invalid facts.
    """
    facts = {name: text for name, text in known.facts.items() if is_fact(name, text)}
    vectors = [*map(Names(facts).of, known.vectors)]
    strange = [vector for vector in vectors if not is_vector(vector)]
    invalid = [name for name in known.facts if name not in facts]
    return Known([*filter(is_vector, vectors)], facts), strange, invalid


class Loading:
    """One reading of a whole store, in pieces. `lock` guards the `tally`."""

    def __init__(self, store: Store, tally: Tally, lock: Lock) -> None:
        self._store = store
        self._tally = tally
        self._lock = lock
        known = store.known()
        facts = sift(known)[0].facts
        self._called = called = Names(facts)
        self._kept = {called.of(kept): kept for kept in known.vectors}
        """What the store keeps each vector under."""
        self._audit = Audit(self._kept, facts, store.damage.doubtful)
        self.findings: list[Finding] = []
        """About every vector that is not as it was written."""
        self._pieces = self._load()

    def step(self) -> Loaded | None:
        """Read some more; return a piece if one is ready. Raises StopIteration at the end."""
        return next(self._pieces)

    def change(self, vectors: Iterable[str]) -> None:
        """Note that counts of these vectors are written meanwhile."""
        self._audit.change(vectors)

    def missing(self) -> list[str]:
        """Vectors of which only the sum was found."""
        mended = {finding.vector for finding in self.findings if finding.verdict == "mended"}
        return [vector for vector in self._audit.missing() if vector not in mended]

    def _load(self) -> Iterator[Loaded | None]:
        seen, vector, staged, sound = set[str](), "", self._tally.empty(), True
        for kept, piece in self._store.load():
            of = self._called.of(kept)
            if of != vector:
                yield from self._judge(vector, staged, sound=sound)
                seen.add(of)
                self._kept.setdefault(of, kept)
                vector, staged, sound = of, self._tally.empty(), True
            sound = sound and _are_sound(piece)
            # An unsound vector is read again, row by row.
            if sound:
                yield from self._merge(staged, piece)
            yield None
        yield from self._judge(vector, staged, sound=sound)
        for vector in self._kept:
            if vector not in seen:
                yield from self._judge(vector, self._tally.empty(), sound=True)

    def _merge(self, staged: Vector, piece: Mapping[str, int]) -> Iterator[None]:
        """Merge a piece into a vector beside the tally, in short steps."""
        some: Iterable[Mapping[str, int]] = [piece]
        if isinstance(piece, Rows):
            with self._lock:
                told = self._tally.told(piece.ids, piece.counts, piece.text)
                if told is not None:
                    staged.merge(told)
                    return
            some = piece.some(_NEW_A_STEP)
        for counts in some:
            with self._lock:
                staged.merge(counts)
            yield None

    def _judge(self, vector: str, staged: Vector, *, sound: bool) -> Iterator[Loaded | None]:
        if not vector and not staged:
            return
        verdict = self._audit.judge(vector, Sum(staged.total, staged.digest))
        kept = self._kept[vector]
        if verdict == "wrong" or not sound or kept in self._store.damage.rows:
            yield from self._examine(vector)
        else:
            # The tally takes in whole arrays, in steps that are short however large it is.
            parts = staged.parts(_ROWS_A_PIECE)
            while True:
                with self._lock:
                    part = next(parts, None)
                if part is None:
                    break
                yield Loaded(vector, part, verdict)
            if staged:
                yield Loaded(vector, {}, verdict, is_last=True)

    def _examine(self, vector: str) -> Iterator[Loaded | None]:
        rows: dict[str, int | None] = {}
        kept = self._kept[vector]
        for _, piece in self._store.load(kept):
            rows.update(piece)
            yield None
        for video in self._store.damage.rows.get(kept, ()):
            rows.setdefault(video, None)
        finding = self._audit.examine(vector, rows, self._names)
        self.findings.append(finding)
        counts = iter(finding.counts.items()) if is_vector(finding.vector) else iter(())
        while piece := dict(islice(counts, _ROWS_A_PIECE)):
            yield Loaded(finding.vector, piece, finding.verdict)
        if finding.verdict == "wrong" and not finding.counts and is_vector(finding.vector):
            # Nothing is left of it. It is in doubt all the same, and peers are asked for it.
            yield Loaded(finding.vector, {}, finding.verdict)

    def _names(self) -> list[str]:
        """Videos that a missing row may be of."""
        with self._lock:
            every = (video for _, vector in self._tally.vectors() for video in vector)
            return list(dict.fromkeys(islice(every, _NAMES)))

    def mend(self) -> str:
        """Repair the store if it is damaged; return what was done, "" for nothing."""
        damage, missing = self._store.damage, self.missing()
        if not (damage or self.findings or missing):
            return ""
        said = [f"what the store is: {', '.join(damage.store)}"] if damage.store else []
        if damage.facts or damage.lost:
            said.append(f"facts left out: {_list(damage.facts)}, maybe others")
        if damage.mended:
            said.append(f"facts put right: {_list(damage.mended)}")
        for verdict, words in (("mended", "counts put right"), ("wrong", "counts in doubt")):
            vectors = [one.found for one in self.findings if one.verdict == verdict]
            if vectors:
                said.append(f"{words}: {_list(vectors)}")
        if missing:
            said.append(f"counts missing: {_list(missing)}")
        renamed = {
            self._kept[one.found]: kept_as(one.vector) if is_vector(one.vector) else ""
            for one in self.findings
            if one.found != one.vector or not is_vector(one.vector)
        }
        bad = [one for one in self.findings if one.bad and is_vector(one.vector)]
        rows = {kept_as(one.vector): one.bad for one in bad}
        kept = self._store.mend(rows, renamed)
        where = f"As it was found it is kept as {kept}" if kept else _NOT_KEPT
        return f"{'; '.join(said)}. {where}"

    def set_aside(self) -> int:
        """How many rows of the store are not used as they were found. Call it before `mend`."""
        damage = self._store.damage
        rows = sum(len(one.bad) + (one.found != one.vector) for one in self.findings)
        strange = sum(not is_vector(one.vector) for one in self.findings)
        return rows + strange + len(damage.facts) + len(damage.mended) + len(damage.store)


def _are_sound(rows: Mapping[str, int]) -> bool:
    if isinstance(rows, Rows):
        return are_sound(rows.ids, rows.counts)
    return are_sound(rows.keys(), rows.values())


def _list(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(shown, names[:3])) + more
