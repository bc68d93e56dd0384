"""How a store tells that what it kept beside counts is not what was written: seals.

Each fact has a *seal*, 48 bits of a hash of its name and text. The sum of all seals tells that one
is missing. The *sealed row* is a copy, with a seal of its own, of what is kept of the store itself:
its id, its name, the flush mark, the format, and that sum. All of it is replaced in the same atomic
step as what it stands for. A single bit that was changed is found, and put right.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha1
from typing import NamedTuple

DIGITS = 12
"""A seal in hexadecimal digits."""
SEALS = 16**DIGITS
"""Sums of seals are taken modulo this: what Redis' Lua still adds exactly."""
SEALED = "sealed"
"""The name of the sealed row."""
_ROW = ("id", "name", "mark", "version")
_LONGEST = 4096
"""Bytes of a fact up to which a changed bit in it is looked for."""


def to_bytes(text: str) -> bytes:
    """What was read with `to_text`, as it was read."""
    return text.encode("utf-8", "surrogateescape")


def to_text(raw: bytes) -> str:
    """Bytes as text, also such as are not UTF-8; nothing is lost."""
    return raw.decode("utf-8", "surrogateescape")


def shown(text: str) -> str:
    """A name as a log line may hold it, whatever is in it."""
    return to_bytes(text)[:200].decode("ascii", "backslashreplace")


def seal_of(name: str, text: str) -> int:
    """The seal of a fact."""
    # Against accidents; whoever can write to a store can write seals as well.
    digest = sha1(to_bytes(f"{name}\0{text}"), usedforsecurity=False).digest()
    return int.from_bytes(digest[: DIGITS // 2])


class Row(NamedTuple):
    """What is kept of the store itself, and the sum of the seals of its facts."""

    id: str
    name: str
    mark: str
    version: str
    seals: int

    def sealed(self) -> str:
        """The sealed row that stands for this."""
        text = "\n".join((self.id, self.name, self.mark, self.version, f"{self.seals:0{DIGITS}x}"))
        return f"{seal_of(SEALED, text):0{DIGITS}x}{text}"


def read_row(kept: Mapping[str, str]) -> tuple[dict[str, str], int | None, list[str]]:
    """What is right of what is kept of a store, the sum of seals, and the names of what is not.

    A store of a version without seals has no sealed row; its sum is None, and nothing is wrong.
    So is the sum of a row that cannot be told from what it was.
    """
    plain = {name: kept[name] for name in _ROW if name in kept}
    sealed = kept.get(SEALED)
    if sealed is None:
        return plain, None, [SEALED] if kept.get("version", "2") not in ("1", "2") else []
    text, parts = sealed[DIGITS:], sealed[DIGITS:].split("\n")
    if len(parts) == len(Row._fields) and _is_seal(SEALED, text, sealed[:DIGITS]):
        values = dict(zip(_ROW, parts, strict=False))
        wrong = [name for name in _ROW if kept.get(name) != values[name]]
        return values, int(parts[-1], 16), wrong
    # The copy itself is damaged. What it stands for is whole if it fits the rest of it.
    whole = "\n".join((*(plain.get(name, "") for name in _ROW), parts[-1]))
    if _is_seal(SEALED, whole, sealed[:DIGITS]):
        return plain, int(parts[-1], 16), [SEALED]
    agreed = {
        name: value
        for name, value in zip(_ROW, parts, strict=False)
        if plain.get(name) == value or name == "version"
    }
    agreed["version"] = plain.get("version", "")
    return agreed, None, [SEALED]


def _is_seal(name: str, text: str, digits: str) -> bool:
    return f"{seal_of(name, text):0{DIGITS}x}" == digits


class Fact(NamedTuple):
    """A fact as it was read, with its seal; None if it has none that can be read."""

    name: str
    text: str
    seal: int | None


@dataclass(slots=True)
class Damage:
    """What is not as it was written, of what was read of a store since it was opened."""

    store: list[str] = field(default_factory=list)
    """What of the store itself: its id, name, mark, format, the sealed row, or its log."""
    facts: list[str] = field(default_factory=list)
    """Names of facts that are left out."""
    mended: list[str] = field(default_factory=list)
    """Names of facts of which a changed bit was put right."""
    lost: bool = False
    """Whether facts are missing, under names that nobody knows."""
    rows: dict[str, list[str]] = field(default_factory=dict)
    """Ids of rows by vector that are not an id and a count."""

    def __bool__(self) -> bool:
        """Whether anything is."""
        return bool(self.store or self.facts or self.mended or self.lost or self.rows)

    def add(self, more: "Damage") -> None:
        """Note what else was found."""
        self.store = sorted({*self.store, *more.store})
        self.facts = sorted({*self.facts, *more.facts})
        self.mended = sorted({*self.mended, *more.mended})
        self.lost |= more.lost
        for vector, videos in more.rows.items():
            self.rows[vector] = sorted({*self.rows.get(vector, ()), *videos})

    @property
    def doubtful(self) -> bool:
        """Whether facts may be missing."""
        return bool(self.lost or self.facts or SEALED in self.store)


def read_facts(facts: Iterator[Fact], seals: int | None, damage: Damage) -> dict[str, str]:
    """The facts that are as they were written; `damage` gets the names of the others.

    `seals` is the sum that they should have, None where there is none, in a store without seals.
    """
    right: dict[str, str] = {}
    sum_, sealed, doubtful = 0, seals is not None or bool(damage.store), []
    for fact in facts:
        if not sealed or fact.seal == seal_of(fact.name, fact.text):
            right[fact.name] = fact.text
            sum_ += fact.seal or 0
        else:
            doubtful.append(fact)
    for fact in doubtful:
        mended = mend(fact)
        if mended is None or mended.name in right:
            damage.facts.append(fact.name)
        else:
            damage.mended.append(mended.name)
            right[mended.name] = mended.text
            sum_ += mended.seal or 0
    if seals is not None and sum_ % SEALS != seals:
        damage.lost = True
    return right


def mend(fact: Fact) -> Fact | None:
    """The fact as it was, if a single bit of it was changed: of its name, its text or its seal."""
    name, text, seal = fact
    if seal is None:
        return None
    right = seal_of(name, text)
    if (right ^ seal).bit_count() == 1:
        return Fact(name, text, right)
    raw = to_bytes(name) + b"\0" + to_bytes(text)
    if len(raw) > _LONGEST:
        return None
    cut, changed = len(to_bytes(name)), bytearray(raw)
    for at in range(len(changed)):
        if at == cut:
            continue
        for bit in range(8):
            changed[at] ^= 1 << bit
            digest = sha1(changed, usedforsecurity=False).digest()
            if int.from_bytes(digest[: DIGITS // 2]) == seal:
                return Fact(to_text(bytes(changed[:cut])), to_text(bytes(changed[cut + 1 :])), seal)
            changed[at] ^= 1 << bit
    return None
