"""Repairs a damaged store in Redis, and keeps what was damaged as it was found."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from counter.store.contract import Counts
from counter.store.redis_layout import Keys, fact_of, row_of
from counter.store.seals import (
    DIGITS,
    SEALED,
    SEALS,
    Damage,
    Row,
    read_facts,
    seal_of,
    to_bytes,
    to_text,
)

if TYPE_CHECKING:
    from redis.client import Pipeline

_KEPT = 10_000
"""How many fields of what was set aside are kept, at most."""


class Salvage:
    """One repair: what is right of the store, and what is to be set aside.

    `damage` is what was found before, `own` the id, name and format of the store. With `first`,
    nothing was written since the store was opened: then facts found damaged are removed, too.
    """

    def __init__(self, keys: Keys, damage: Damage, own: tuple[str, str, str], *, first: bool):
        self._keys = keys
        self._damage = damage
        self._own = own
        self._first = first
        self._aside: dict[bytes, bytes] = {}

    def run(
        self, step: "Pipeline", holder: str, rows: Counts, renamed: Mapping[str, str]
    ) -> bytes | None:
        """Repair the store in one atomic step; return another holder of the lease, if there is one.

        `rows` and `renamed` are those of `Store.mend`. Raises `redis.WatchError` if the store was
        written meanwhile.
        """
        keys = self._keys
        step.watch(keys.lease, keys.store, keys.facts)  # type: ignore[no-untyped-call] # redis-py has no type for it
        found = cast(bytes | None, step.get(keys.lease))
        if found not in (None, holder.encode()):
            return found
        mark, facts = self._read_facts(step)
        true = self._read_rows(step, rows)
        free = _KEPT - len(cast(list[bytes], step.hkeys(keys.set_aside)))
        exists = {other: bool(step.exists(keys.vector(other))) for other in renamed}
        step.multi()
        for was in list(self._aside)[: max(free, 0)]:
            step.hset(keys.set_aside, was, self._aside[was])
        self._write_facts(step, mark, facts)
        self._rename(step, renamed, exists)
        for vector, counts in true.items():
            for name, count in counts.items():
                if count:
                    step.hset(keys.vector(vector), name, count)
                else:
                    step.hdel(keys.vector(vector), name)
        step.execute()
        return None

    def _read_facts(self, step: "Pipeline") -> tuple[str, dict[str, str]]:
        """The flush mark and the facts that are right; the others are to be set aside."""
        row = cast(dict[bytes, bytes], step.hgetall(self._keys.store))
        found = cast(dict[bytes, bytes], step.hgetall(self._keys.facts))
        kept, seals, wrong = row_of(row)
        damage = Damage(wrong)
        right = read_facts((fact_of(*fact) for fact in found.items()), seals, damage)
        if self._first:
            for strange in self._damage.facts:
                right.pop(strange, None)
                damage.facts.append(strange)
        if wrong:
            self._aside |= {b"store " + name: text for name, text in row.items()}
        changed = {*damage.facts, *damage.mended}
        self._aside |= {b"fact " + n: text for n, text in found.items() if to_text(n) in changed}
        return kept.get("mark", ""), right

    def _read_rows(self, step: "Pipeline", rows: Counts) -> dict[str, dict[bytes, int]]:
        """The true counts of every row to be changed, 0 for one to be removed.

        What is there now is to be set aside.
        """
        true: dict[str, dict[bytes, int]] = {}
        for vector, videos in self._damage.rows.items():
            true[vector] = dict.fromkeys(map(to_bytes, videos), 0)
        for vector, counts in rows.items():
            more = {to_bytes(video): count for video, count in counts.items()}
            true[vector] = true.get(vector, {}) | more
        for vector, wanted in true.items():
            names = list(wanted)
            before = cast(list[bytes | None], step.hmget(self._keys.vector(vector), names))
            for name, text in zip(names, before, strict=True):
                if text is not None:
                    self._aside[to_bytes(vector) + b" " + name] = text
        return true

    def _write_facts(self, step: "Pipeline", mark: str, facts: Mapping[str, str]) -> None:
        keys = self._keys
        step.delete(keys.facts)
        for fact, whole in facts.items():
            sealed = f"{seal_of(fact, whole):0{DIGITS}x}{whole}"
            step.hset(keys.facts, to_bytes(fact), to_bytes(sealed))
        store, name, version = self._own
        sum_ = sum(seal_of(*fact) for fact in facts.items()) % SEALS
        values = Row(store, name, mark, version, sum_)
        for field, value in zip(Row._fields[:-1], values[:-1], strict=True):
            step.hset(keys.store, field, value)
        step.hset(keys.store, SEALED, values.sealed())

    def _rename(
        self, step: "Pipeline", renamed: Mapping[str, str], exists: Mapping[str, bool]
    ) -> None:
        keys = self._keys
        for other, vector in renamed.items():
            step.srem(keys.vectors, to_bytes(other))
            if vector:
                step.sadd(keys.vectors, to_bytes(vector))
            if exists[other]:
                step.renamenx(
                    keys.vector(other), keys.vector(vector) if vector else keys.aside(other)
                )
