"""Sketches in Redis: two hashes a day, one of them for the heads, and the set of the days."""

from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import Protocol, cast

import redis

from counter.store.contract import SketchesByDay
from counter.store.redis_layout import Keys
from counter.store.seals import to_text


def arguments_of(sketches: SketchesByDay, oldest: int) -> list[str | int | bytes]:
    """What the script of a write is told of sketches."""
    arguments: list[str | int | bytes] = [oldest, len(sketches)]
    for day, of_day in sketches.items():
        arguments += [day, len(of_day)]
        for video, (head, sketch) in of_day.items():
            arguments += [video, head, sketch]
    return arguments


class _Store(Protocol):
    _redis: redis.Redis
    _keys: Keys

    def _calling(self) -> AbstractContextManager[None]: ...


class RedisSketches:
    """How a `RedisStore` reads sketches."""

    def heads(self: _Store, day: int) -> dict[str, bytes]:
        """See `Store.heads`."""
        with self._calling():
            found = cast(dict[bytes, bytes], self._redis.hgetall(self._keys.heads(day)))
        return {to_text(video): head for video, head in found.items()}

    def sketches(self: _Store, day: int, videos: Collection[str]) -> dict[str, bytes]:
        """See `Store.sketches`."""
        names = list(videos)
        if not names:
            return {}
        with self._calling():
            found = self._redis.hmget(self._keys.sketches(day), names)
        kept = zip(names, cast(list[bytes | None], found), strict=True)
        return {video: sketch for video, sketch in kept if sketch is not None}
