"""The Redis store: one hash a vector, under a prefix of the node's name; one script a flush.

The script runs alone in Redis, which makes lease, flush mark and counts one atomic step. It
compares counts as numbers, exact up to 2^53 in its Lua.
"""

import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any, cast
from urllib.parse import urlsplit

import redis
from msgspec import json
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    InvalidResponse,
    NoPermissionError,
    OutOfMemoryError,
    RedisError,
    ResponseError,
)
from redis.retry import Retry

from counter.store import (
    NOTHING,
    PATIENCE,
    Counts,
    Known,
    Marks,
    Opened,
    StoreDownError,
    StoreRefusedError,
    StoreTakenError,
)

LEASE = 3.0
"""Seconds that a hold lasts without renewal; every write renews it."""

_TIMEOUT = 2.0
_ROWS_A_PIECE = 5_000
_PASSING = ("MISCONF", "NOREPLICAS", "BUSY", "CLUSTERDOWN", "TRYAGAIN")
"""How the errors of a Redis begin that it may get over."""

_TAKE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
    return {holder, redis.call('PTTL', KEYS[1])}
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {}
"""

_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""

# KEYS: lease, store, vectors, facts, then a hash a vector: those to be dropped first.
# ARGV: holder, lease in ms, id, name, mark, the replica whose marks are right ('*': any) and
#       their first and last number, and with "=" before it another one that is right,
#       how many vectors are dropped, and their ids,
#       how many facts follow, and these as name, fact, ...
#       then for each vector its id, and its counts as a JSON object.
# UNLINK frees the memory of a large hash in another thread.
_WRITE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return {'taken', holder} end
if ARGV[6] ~= '*' then
    local mark = redis.call('HGET', KEYS[2], 'mark') or ''
    local replica, number = string.match(mark, '^(.*):(%d+)$')
    number = tonumber(number)
    local right = replica == ARGV[6] and number >= tonumber(ARGV[7]) and number <= tonumber(ARGV[8])
    if not right and ARGV[9] ~= '=' .. mark then return {'forgot', mark} end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('HSET', KEYS[2], 'id', ARGV[3], 'name', ARGV[4], 'mark', ARGV[5], 'version', '2')
local dropped = tonumber(ARGV[10])
local at = 11
for k = 5, 4 + dropped do
    redis.call('UNLINK', KEYS[k])
    redis.call('SREM', KEYS[3], ARGV[at])
    at = at + 1
end
local facts = tonumber(ARGV[at])
at = at + 1
for _ = 1, facts do
    if ARGV[at + 1] == '' then
        redis.call('HDEL', KEYS[4], ARGV[at])
    else
        redis.call('HSET', KEYS[4], ARGV[at], ARGV[at + 1])
    end
    at = at + 2
end
for k = 5 + dropped, #KEYS do
    redis.call('SADD', KEYS[3], ARGV[at])
    local counts = cjson.decode(ARGV[at + 1])
    at = at + 2
    local videos = {}
    for video in pairs(counts) do videos[#videos + 1] = video end
    for first = 1, #videos, 500 do
        local last = math.min(first + 499, #videos)
        local stored = redis.call('HMGET', KEYS[k], unpack(videos, first, last))
        local larger = {}
        for i = first, last do
            local count, before = counts[videos[i]], stored[i - first + 1]
            if not before or count > tonumber(before) then
                larger[#larger + 1] = videos[i]
                larger[#larger + 1] = string.format('%.0f', count)
            end
        end
        if #larger > 0 then redis.call('HSET', KEYS[k], unpack(larger)) end
    end
end
return {'written'}
"""


class RedisStore:
    """Keeps counts in a Redis server (7 or newer) under `counter:NAME:`, held by a lease."""

    kind = "redis"

    def __init__(self, uri: str, name: str) -> None:
        self._prefix = f"counter:{name}:"
        self._name = name
        self._encrypted = urlsplit(uri).scheme == "rediss"
        self._where = f"{urlsplit(uri).hostname}:{urlsplit(uri).port or 6379}"
        self._redis = redis.Redis.from_url(
            uri,
            socket_timeout=_TIMEOUT,
            socket_connect_timeout=_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
            max_connections=1,
        )
        self._take = self._redis.register_script(_TAKE)
        self._write = self._redis.register_script(_WRITE)
        self._release = self._redis.register_script(_RELEASE)
        self._holder = ""
        self._store = ""
        self._marks = Marks("")

    def open(self, holder: str, mint: Callable[[], str]) -> Opened:
        """See `Store.open`."""
        self._holder = holder
        try:
            self._hold()
            kept = cast(dict[bytes, bytes], self._redis.hgetall(self._key("store")))
            version = kept.get(b"version", b"2").decode()
            if version == "1":
                self._upgrade()
            elif version != "2":
                raise StoreRefusedError(
                    f"REDIS_URI={self._where}: {self._prefix} was written by another version of "
                    f"this program (format {version}, this one knows 2); run that version on it"
                )
            self._store = kept[b"id"].decode() if b"id" in kept else mint()
            return Opened(self._store, self._name)
        except (AuthenticationError, AuthorizationError, NoPermissionError) as error:
            raise StoreRefusedError(
                f"REDIS_URI: Redis at {self._where} refuses this user ({error}); "
                "check user and password"
            ) from None
        except (BusyLoadingError, OutOfMemoryError) as error:
            raise StoreDownError(f"Redis at {self._where}: {error}") from None
        except (InvalidResponse, ResponseError) as error:
            if str(error).startswith(_PASSING):
                raise StoreDownError(f"Redis at {self._where}: {error}") from None
            raise self._no_redis(str(error)) from None
        except (RedisError, OSError) as error:
            answer = b"" if isinstance(error, redis.TimeoutError) else self._answer_to_ping()
            if answer and not answer.startswith((b"+", b"-")):
                raise self._no_redis(f"it says {answer!r}") from None
            raise StoreDownError(f"Redis at {self._where}: {error}") from None

    def begin(self, replica: str, facts: Mapping[str, str]) -> None:
        """See `Store.begin`."""
        self._marks = Marks(replica)
        self.write({}, facts=facts)

    def known(self) -> Known:
        """See `Store.known`."""
        try:
            facts = cast(dict[bytes, bytes], self._redis.hgetall(self._key("facts")))
            return Known(
                self._vectors(), {name.decode(): fact.decode() for name, fact in facts.items()}
            )
        except (RedisError, OSError) as error:
            raise StoreDownError(f"Redis at {self._where}: {error}") from None

    def load(self) -> Iterator[tuple[str, dict[str, int]]]:
        """See `Store.load`."""
        try:
            for vector in self._vectors():
                cursor, key = 0, self._key(f"vector:{vector}")
                while True:
                    cursor, piece = cast(
                        tuple[int, dict[bytes, bytes]],
                        self._redis.hscan(key, cursor, count=_ROWS_A_PIECE),
                    )
                    yield vector, {video.decode(): int(count) for video, count in piece.items()}
                    if cursor == 0:
                        break
        except (RedisError, OSError) as error:
            raise StoreDownError(f"Redis at {self._where}: {error}") from None

    def write(
        self,
        counts: Counts,
        *,
        facts: Mapping[str, str] = NOTHING,
        drop: Collection[str] = (),
        heal: bool = False,
    ) -> None:
        """See `Store.write`."""
        marks = self._marks
        mark = marks.next()
        keys = [self._key(rest) for rest in ("lease", "store", "vectors", "facts")]
        keys += [self._key(f"vector:{vector}") for vector in drop]
        arguments: list[str | int | bytes] = [
            self._holder,
            int(LEASE * 1000),
            self._store,
            self._name,
        ]
        arguments += [mark, marks.replica if marks.written else "*", marks.written, marks.tried]
        arguments.append(f"={marks.found}" if heal else "")
        arguments += [len(drop), *drop, len(facts)]
        for fact in facts.items():
            arguments += fact
        for vector, changed in counts.items():
            keys.append(self._key(f"vector:{vector}"))
            arguments += [vector, json.encode(changed)]
        try:
            outcome, *detail = cast(list[bytes], self._write(keys, arguments))
        except (RedisError, OSError) as error:
            raise StoreDownError(f"Redis at {self._where}: {error}") from None
        if outcome == b"taken":
            raise StoreTakenError(self._held_by(detail[0]))
        if outcome == b"forgot":
            raise marks.forgot(f"Redis at {self._where}", detail[0].decode())
        marks.done()

    def close(self) -> None:
        """See `Store.close`."""
        with suppress(RedisError, OSError):
            self._release([self._key("lease")], [self._holder])
        with suppress(RedisError, OSError):
            self._redis.close()

    def _hold(self) -> None:
        """Take the lease, or find it renewed by a live holder, or wait until it has run out."""
        deadline, left = time.monotonic() + PATIENCE, float("inf")
        while True:
            found = cast(list[Any], self._take([self._key("lease")], [self._holder, _lease_ms()]))
            if not found:
                return
            renewed = found[1] > left
            if renewed or time.monotonic() >= deadline:
                raise StoreTakenError(self._held_by(found[0]))
            left = found[1]
            time.sleep(0.1)

    def _no_redis(self, what: str) -> StoreRefusedError:
        return StoreRefusedError(
            f"REDIS_URI: what answers at {self._where} is not a Redis that can be written to "
            f"({what}); name the address of one"
        )

    def _answer_to_ping(self) -> bytes:
        """What the other side says before it hangs up, which redis-py does not tell."""
        if self._encrypted:
            return b""
        host, _, port = self._where.rpartition(":")
        with suppress(OSError), socket.create_connection((host, int(port)), _TIMEOUT) as probe:
            # Eight bytes: as much as a broker reads before it answers.
            probe.sendall(b"PING\r\n\r\n")
            return probe.recv(32)
        return b""

    def _held_by(self, holder: bytes) -> str:
        return (
            f"NAME={self._name!r} on Redis at {self._where} is held by {holder.decode()}; "
            "stop that process, or set another NAME"
        )

    def _vectors(self) -> list[str]:
        vectors = cast(set[bytes], self._redis.smembers(self._key("vectors")))
        return sorted(vector.decode() for vector in vectors)

    def _upgrade(self) -> None:
        """Format 1 had no facts, and another key for the names of its vectors."""
        old, new = self._key("replicas"), self._key("vectors")
        with self._redis.pipeline() as step:
            step.sunionstore(new, [new, old])
            step.delete(old)
            step.hset(self._key("store"), "version", "2")
            step.execute()

    def _key(self, rest: str) -> str:
        return self._prefix + rest


def _lease_ms() -> int:
    return int(LEASE * 1000)
