"""Frozen states: live objects as bytes, and a digest that equal states share.

Two states are equal if nothing can ever tell them apart. So a digest ignores the order of a dict,
and of a time it keeps only how long ago it was. The protocol keeps times as floats and all else as
integers, so the settings of a frozen replica must be whole seconds, as integers.
"""

import copyreg
import marshal
import pickle
from array import array
from collections import deque
from collections.abc import Callable, Mapping
from hashlib import blake2b
from types import GeneratorType
from typing import Any

from msgspec import Struct

from counter.protocol.folding import Fold
from counter.protocol.runs import Runs
from counter.store.memory import MemoryStore

LONG_AGO = 5
"""No rule distinguishes times that are longer ago than so many seconds."""

LONG_CLOSED = 12
"""No rule distinguishes runs that have been closed for longer than so many seconds."""

IRRELEVANT = frozenset(
    {
        # Only shown to people.
        "messages",
        "since",
        "folds",
        # How often something was done before: that decides on an order, never on a count.
        "_turn",
        "number",
        "_number",
        "_told_ago",
        "_next",
        # Fresh hashes, so that a collision does not repeat; made of what else is here.
        "_salt",
        "salt",
        "hashes",
        # Derived from what else is here, or constant.
        "_top_videos",
        "_unpacked",
        "_epoch",
        "seals",
        "sealed",
        "kept",
        "rules",
        "timing",
    }
)
"""Attributes that are left out of a digest."""


def freeze(state: object) -> bytes:
    """Return a state as bytes."""
    return pickle.dumps(state, pickle.HIGHEST_PROTOCOL)


def thaw(frozen: bytes) -> Any:
    """Return the state again, as a new object."""
    return pickle.loads(frozen)  # noqa: S301 - frozen here


def digest(state: object, now: float) -> bytes:
    """Return 16 bytes that equal states share; `now` is the time of the state's clock."""
    plain = _Plain(now)
    # Version 2 writes the same bytes for equal values, whether they are one object or two.
    return blake2b(marshal.dumps(plain.of(state), 2), digest_size=16).digest()


class _Plain:
    """Turns a state into plain values: tuples, strings and integers."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._seen: set[int] = set()

    def of(self, value: Any) -> Any:
        kind, of = type(value), self.of
        if kind in _PLAIN:
            return value
        if kind is float:
            return ("ago", min(LONG_AGO * 1000, int((self._now - value) * 1000)))
        if kind is dict:
            if value and type(next(iter(value))) in _PLAIN:
                pairs = sorted(value.items(), key=_first)
                return [(key, one if type(one) in _PLAIN else of(one)) for key, one in pairs]
            return sorted([(of(key), of(one)) for key, one in value.items()], key=_first)
        if kind is list or kind is tuple or kind is deque:
            return [one if type(one) in _PLAIN else of(one) for one in value]
        if kind is set or kind is frozenset:
            return sorted(value)
        if kind is bytearray:
            return bytes(value).rstrip(b"\0")
        if kind is array:
            return list(value)
        if kind is GeneratorType or kind is type:
            return None
        # An object that several parts share is in it once.
        if id(value) in self._seen:
            return ("seen", kind.__name__)
        self._seen.add(id(value))
        attributes = _ATTRIBUTES.get(kind)
        if attributes is None:
            attributes = _ATTRIBUTES[kind] = _attributes(value)
        ones = attributes(value)
        return kind.__name__, [one if type(one) in _PLAIN else of(one) for one in ones]


_PLAIN = frozenset({str, int, bytes, bool, type(None)})
_ATTRIBUTES: dict[type, Callable[[Any], list[Any]]] = {}


def _attributes(value: object) -> Callable[[Any], list[Any]]:
    """What gives the attributes of an object of a class, all of which have the same."""
    if isinstance(value, Runs):
        return _of_runs
    if isinstance(value, Struct):
        found: list[str] = list(value.__struct_fields__)
    elif isinstance(value, tuple):
        found = list(value._fields)  # type: ignore[attr-defined]
    else:
        found = [name for one in type(value).__mro__ for name in getattr(one, "__slots__", ())]
        found += vars(value) if hasattr(value, "__dict__") else []
    names = [name for name in found if name not in IRRELEVANT]
    if isinstance(value, MemoryStore):
        names.remove("facts")
        return lambda one: [_of_facts(one.facts), *(getattr(one, name) for name in names)]
    return lambda one: [getattr(one, name) for name in names]


def _of_runs(runs: Runs) -> list[Any]:
    """Of runs, when they closed by the age of the store: only for how long is of interest."""
    closed = {
        vector: None if facts.closed is None else min(LONG_CLOSED, int(runs._age - facts.closed))
        for vector, facts in runs._facts.items()
    }
    unsaved = min(LONG_AGO, int(runs._age - runs._saved_age))
    return [closed, unsaved, runs._unsaved, runs._gone, runs._own, runs._looked, runs._waiting]


def _of_facts(facts: Mapping[str, str]) -> dict[str, Any]:
    """The same in a store."""
    age = int(facts.get("age:store", "0"))
    plain: dict[str, Any] = {}
    for name, fact in facts.items():
        if name.startswith("run:"):
            closed = fact.partition(" ")[2]
            plain[name] = min(LONG_CLOSED, (age - int(closed)) // 1000) if closed != "-" else None
        elif name != "age:store":
            plain[name] = fact
    return plain


def _thaw_fold(attributes: dict[str, Any]) -> Fold:
    fold = Fold.__new__(Fold)
    vars(fold).update(attributes)
    fold._rows = fold._each()
    return fold


def _freeze_fold(fold: Fold) -> tuple[Any, ...]:
    """Freeze a fold that has begun but written nothing: its generator has not been used."""
    assert not fold.vector.total
    return _thaw_fold, ({name: one for name, one in vars(fold).items() if name != "_rows"},)


copyreg.pickle(Fold, _freeze_fold)


def _first(pair: tuple[Any, Any]) -> Any:
    return pair[0]
