"""Seals: how a store notices that its facts are not what was written.

Each fact has a *seal*, 48 bits of a hash of its name and text. The sum of all seals reveals that a
fact is missing. The *sealed row* is a copy, with a seal of its own, of what the store keeps about
itself: its id, its name, the flush mark, the format, and that sum. Seals are replaced in the same
atomic step as what they seal. A single changed bit is found and repaired.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha1
from typing import NamedTuple

DIGITS = 12
"""Hexadecimal digits of a seal."""
SEALS = 16**DIGITS
"""Sums of seals are taken modulo this, so that Redis' Lua adds them exactly."""
SEALED = "sealed"
"""The name of the sealed row."""
_ROW = ("id", "name", "mark", "version")
_LONGEST = 4096
"""Largest fact in bytes in which a changed bit is searched for."""


def to_bytes(text: str) -> bytes:
    """The bytes from which `to_text` made this text."""
    return text.encode("utf-8", "surrogateescape")


def to_text(raw: bytes) -> str:
    """Bytes as text. Bytes that are not UTF-8 are kept, so nothing is lost."""
    return raw.decode("utf-8", "surrogateescape")


def shown(text: str) -> str:
    """A name in a form that is safe in a log line."""
    return to_bytes(text)[:200].decode("ascii", "backslashreplace")


def seal_of(name: str, text: str) -> int:
    """The seal of a fact."""
    # This is against accidents: anyone who can write to a store can write seals, too.
    digest = sha1(to_bytes(f"{name}\0{text}"), usedforsecurity=False).digest()
    return int.from_bytes(digest[: DIGITS // 2])


class Row(NamedTuple):
    """What a store keeps about itself, and the sum of the seals of its facts."""

    id: str
    name: str
    mark: str
    version: str
    seals: int

    def sealed(self) -> str:
        """The text of the sealed row."""
        text = "\n".join((self.id, self.name, self.mark, self.version, f"{self.seals:0{DIGITS}x}"))
        return f"{seal_of(SEALED, text):0{DIGITS}x}{text}"


def read_row(kept: Mapping[str, str]) -> tuple[dict[str, str], int | None, list[str]]:
    """The right values of what a store keeps about itself, the sum of seals, and what is wrong.

    What is wrong is a list of names. A store of a version without seals has no sealed row: its sum
    is None, and nothing is wrong. The sum is None as well if the sealed row cannot be repaired.
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
    # The copy itself is damaged. The original is whole if it fits the seal.
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
    """What was read from a store since it was opened, and is not as it was written."""

    store: list[str] = field(default_factory=list)
    """Parts of the store itself: its id, name, mark, format, the sealed row, or its log."""
    facts: list[str] = field(default_factory=list)
    """Names of facts that are left out."""
    mended: list[str] = field(default_factory=list)
    """Names of facts in which a changed bit was repaired."""
    lost: bool = False
    """Whether facts with unknown names are missing."""
    rows: dict[str, list[str]] = field(default_factory=dict)
    """By vector, the ids of rows that are not an id and a count."""

    def __bool__(self) -> bool:
        """Whether there is any damage."""
        return bool(self.store or self.facts or self.mended or self.lost or self.rows)

    def add(self, more: "Damage") -> None:
        """Add what else was found."""
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
    """The facts that are as they were written; the names of the others are added to `damage`.

    `seals` is the sum that their seals should have, or None in a store without seals.
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
    """The fact as it was written, if a single bit of name, text or seal changed; otherwise None."""
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
