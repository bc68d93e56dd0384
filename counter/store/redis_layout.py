"""How a store lies in Redis: its keys, and how what is under them is read."""

import re
from collections.abc import Mapping

from counter.store.seals import DIGITS, Fact, read_row, to_bytes, to_text


class Keys:
    """The keys of one node's store, all below `counter:NAME:`."""

    def __init__(self, name: str) -> None:
        self.prefix = f"counter:{name}:"
        self.lease = self.key("lease")
        self.store = self.key("store")
        """The hash of what is kept of the store itself; see `seals.py`."""
        self.facts = self.key("facts")
        self.vectors = self.key("vectors")
        """The set of the names of vectors."""
        self.days = self.key("sketches")
        """The set of the days that have sketches."""
        self.set_aside = self.key("set-aside")
        """The hash of what was damaged, as it was found."""

    def key(self, rest: str) -> str:
        """A key below the prefix."""
        return self.prefix + rest

    def sketches(self, day: int) -> str:
        """The key of the hash `{video: sketch}` of a day. Scripts make it, too."""
        return f"{self.days}:{day}"

    def heads(self, day: int) -> str:
        """The key of the hash `{video: head}` of a day."""
        return f"{self.days}:{day}:heads"

    def vector(self, vector: str) -> bytes:
        """The key of a vector's hash `{video: count}`; its name may be damaged."""
        return self.prefix.encode() + b"vector:" + to_bytes(vector)

    def aside(self, vector: str) -> bytes:
        """The key under which a vector is kept that has no place."""
        return self.key("set-aside:").encode() + to_bytes(vector)


def row_of(kept: Mapping[bytes, bytes]) -> tuple[dict[str, str], int | None, list[str]]:
    """What the hash of the store itself says; see `read_row`."""
    return read_row({to_text(name): to_text(text) for name, text in kept.items()})


def fact_of(name: bytes, kept: bytes) -> Fact:
    """A fact, which is kept behind its seal."""
    digits = to_text(kept[:DIGITS])
    seal = int(digits, 16) if re.fullmatch("[0-9a-f]{12}", digits) else None
    return Fact(to_text(name), to_text(kept[DIGITS:]), seal)
