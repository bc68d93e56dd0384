"""The Redis store: one hash a vector, under a prefix of the node's name; one script a flush.

The script runs alone in Redis, which makes lease, flush mark and counts one atomic step. It
compares counts as numbers, exact up to 2^53 in its Lua.
"""

import re
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
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

from counter.store.contract import (
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
from counter.store.seals import (
    DIGITS,
    SEALED,
    SEALS,
    Damage,
    Fact,
    Row,
    read_facts,
    read_row,
    seal_of,
    to_bytes,
    to_text,
)

LEASE = 3.0
"""Seconds that a hold lasts without renewal; every write renews it."""

_TIMEOUT = 2.0
_ROWS_A_PIECE = 5_000
_VERSION = "3"
_KEPT = 10_000
"""How many fields of what was set aside are kept, at most."""
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
# ARGV: holder, lease in ms, id, name, mark, the marks that are right, each between two ends of
#       lines ('*': any), and with "=" before it another one that is right,
#       how many vectors are dropped, and their ids,
#       how many facts follow, and these as name, fact, ...
#       then for each vector its id, and its counts as a JSON object.
# UNLINK frees the memory of a large hash in another thread.
# A fact is kept behind its seal; see `counter/store/seals.py`, also for the sealed row.
_SEALS = """
local function seal(name, text)
    return string.sub(redis.sha1hex(name .. '\\0' .. text), 1, 12)
end
local function put_row(key, id, name, mark, seals)
    local row = table.concat({id, name, mark, '3', string.format('%012x', seals % 281474976710656)},
        '\\n')
    redis.call('HSET', key, 'id', id, 'name', name, 'mark', mark, 'version', '3',
        'sealed', seal('sealed', row) .. row)
end
"""
_WRITE = (
    _SEALS
    + """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return {'taken', holder} end
local stands = redis.call('HMGET', KEYS[2], 'mark', 'sealed')
local sealed = stands[2]
if ARGV[6] ~= '*' then
    local mark = stands[1] or ''
    local right = string.find(ARGV[6], '\\n' .. mark .. '\\n', 1, true)
    if not right and ARGV[7] ~= '=' .. mark then return {'forgot', mark} end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local seals = sealed and tonumber(string.sub(sealed, -12), 16)
if not seals then
    seals = 0
    for _, fact in ipairs(redis.call('HVALS', KEYS[4])) do
        seals = (seals + (tonumber(string.sub(fact, 1, 12), 16) or 0)) % 281474976710656
    end
end
local dropped = tonumber(ARGV[8])
local at = 9
for k = 5, 4 + dropped do
    redis.call('UNLINK', KEYS[k])
    redis.call('SREM', KEYS[3], ARGV[at])
    at = at + 1
end
local facts = tonumber(ARGV[at])
at = at + 1
for _ = 1, facts do
    local name, text = ARGV[at], ARGV[at + 1]
    local before = redis.call('HGET', KEYS[4], name)
    if before then seals = seals - (tonumber(string.sub(before, 1, 12), 16) or 0) end
    if text == '' then
        redis.call('HDEL', KEYS[4], name)
    else
        local digits = seal(name, text)
        seals = seals + tonumber(digits, 16)
        redis.call('HSET', KEYS[4], name, digits .. text)
    end
    seals = seals % 281474976710656
    at = at + 2
end
put_row(KEYS[2], ARGV[3], ARGV[4], ARGV[5], seals)
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
            local count, before = counts[videos[i]], tonumber(stored[i - first + 1] or nil)
            if not before or count > before then
                larger[#larger + 1] = videos[i]
                larger[#larger + 1] = string.format('%.0f', count)
            end
        end
        if #larger > 0 then redis.call('HSET', KEYS[k], unpack(larger)) end
    end
end
return {'written'}
"""
)
# KEYS: lease, store, facts, vectors, what was replicas in format 1. ARGV: holder.
_UPGRADE = (
    _SEALS
    + """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if redis.call('EXISTS', KEYS[5]) == 1 then
    redis.call('SUNIONSTORE', KEYS[4], KEYS[4], KEYS[5])
    redis.call('DEL', KEYS[5])
end
local seals, facts = 0, redis.call('HGETALL', KEYS[3])
for at = 1, #facts, 2 do
    local digits = seal(facts[at], facts[at + 1])
    seals = (seals + tonumber(digits, 16)) % 281474976710656
    redis.call('HSET', KEYS[3], facts[at], digits .. facts[at + 1])
end
local row = redis.call('HMGET', KEYS[2], 'id', 'name', 'mark')
put_row(KEYS[2], row[1] or '', row[2] or ARGV[2], row[3] or '', seals)
return 1
"""
)


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
        self._upgrade_script = self._redis.register_script(_UPGRADE)
        self.damage = Damage()

    def open(self, holder: str, mint: Callable[[], str]) -> Opened:
        """See `Store.open`."""
        self._holder = holder
        try:
            self._hold()
            kept, _, wrong = self._row()
            version = kept.get("version", _VERSION)
            if version not in ("1", "2", _VERSION):
                raise StoreRefusedError(
                    f"REDIS_URI={self._where}: {self._prefix} was written by another version of "
                    f"this program (format {version}, this one knows {_VERSION}); run that version "
                    "on it"
                )
            if version != _VERSION:
                self._upgrade()
            elif not kept and self._redis.exists(self._key("facts")):
                # There is no store without an id; whatever wrote those facts had one.
                wrong = [SEALED]
            self.damage = Damage(wrong)
            self._store = kept.get("id") or mint()
            return Opened(self._store, self._name)
        except (AuthenticationError, AuthorizationError, NoPermissionError) as error:
            raise StoreRefusedError(
                f"REDIS_URI: Redis at {self._where} refuses this user ({error}); "
                "check user and password"
            ) from None
        except (BusyLoadingError, OutOfMemoryError) as error:
            raise StoreDownError(f"Redis at {self._where}: {error}") from None
        except (InvalidResponse, ResponseError) as error:
            if "WRONGTYPE" in str(error):
                raise self._failed(error) from None
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
        if self.damage:
            self._put_right({}, NOTHING)
        self.write({}, facts=facts)

    def known(self) -> Known:
        """See `Store.known`."""
        with self._calling():
            _, seals, wrong = self._row()
            damage = Damage(wrong)
            found = cast(dict[bytes, bytes], self._redis.hgetall(self._key("facts")))
            facts = read_facts((_fact(*fact) for fact in found.items()), seals, damage)
            vectors = self._vectors()
        self.damage.add(damage)
        return Known(vectors, facts)

    def load(self, vector: str = "") -> Iterator[tuple[str, dict[str, int]]]:
        """See `Store.load`."""
        with self._calling():
            for name in [vector] if vector else self._vectors():
                cursor, key = 0, self._vector(name)
                while True:
                    cursor, piece = cast(
                        tuple[int, dict[bytes, bytes]],
                        self._redis.hscan(key, cursor, count=_ROWS_A_PIECE),
                    )
                    yield name, self._sound(name, piece)
                    if cursor == 0:
                        break

    def _sound(self, vector: str, piece: Mapping[bytes, bytes]) -> dict[str, int]:
        """The rows that are a text and an integer."""
        try:
            return {video.decode(): int(count) for video, count in piece.items()}
        except ValueError:
            right = {
                video: count
                for video, count in piece.items()
                if video.isascii() and count.isdigit() and len(count) < 20
            }
        bad = [to_text(video) for video in piece.keys() - right.keys()]
        self.damage.add(Damage(rows={vector: bad}))
        return {video.decode(): int(count) for video, count in right.items()}

    def mend(self, rows: Counts, renamed: Mapping[str, str] = NOTHING) -> str:
        """See `Store.mend`: what is put right is kept as fields of a hash, `VECTOR ID`, say."""
        with self._calling():
            self._put_right(rows, renamed)
        self.damage = Damage()
        return self._key("set-aside") + f" on Redis at {self._where}"

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
        right = "\n".join(["", *marks.right, ""]) if marks.written else "*"
        arguments += [mark, right, f"={marks.found}" if heal else ""]
        arguments += [len(drop), *drop, len(facts)]
        for fact in facts.items():
            arguments += fact
        for vector, changed in counts.items():
            keys.append(self._key(f"vector:{vector}"))
            arguments += [vector, json.encode(changed)]
        with self._calling():
            outcome, *detail = cast(list[bytes], self._write(keys, arguments))
        if outcome == b"taken":
            raise StoreTakenError(self._held_by(detail[0]))
        if outcome == b"forgot":
            raise marks.forgot(f"Redis at {self._where}", to_text(detail[0]))
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
            f"NAME={self._name!r} on Redis at {self._where} is held by {to_text(holder)}; "
            "stop that process, or set another NAME"
        )

    @contextmanager
    def _calling(self) -> Iterator[None]:
        try:
            yield
        except (RedisError, OSError) as error:
            raise self._failed(error) from None

    def _failed(self, error: Exception) -> StoreDownError | StoreRefusedError:
        """What an error means: it passes, or a key can never be used."""
        if "WRONGTYPE" in str(error):
            return StoreRefusedError(
                f"Redis at {self._where}: {self._of_wrong_type()} was not written by this program "
                "(WRONGTYPE); rename it, and what other nodes have heard comes back from them"
            )
        return StoreDownError(f"Redis at {self._where}: {error}")

    def _of_wrong_type(self) -> str:
        """The name of the first key that is of another type than it should be."""
        wanted = {"lease": b"string", "store": b"hash", "facts": b"hash", "vectors": b"set"}
        with suppress(RedisError, OSError):
            for rest, kind in (wanted | {"set-aside": b"hash", "replicas": b"set"}).items():
                if self._redis.type(self._key(rest)) not in (kind, b"none"):
                    return self._key(rest)
            for key in self._redis.scan_iter(self._key("vector:*"), _type=None):
                if self._redis.type(key) != b"hash":
                    return to_text(key)
        return f"a key below {self._prefix}"

    def _row(self) -> tuple[dict[str, str], int | None, list[str]]:
        """See `read_row`."""
        return _read_row(cast(dict[bytes, bytes], self._redis.hgetall(self._key("store"))))

    def _put_right(self, rows: Counts, renamed: Mapping[str, str]) -> None:
        """Write anew what was found damaged; what it was goes into a hash of its own."""
        lease, store, facts = (self._key(rest) for rest in ("lease", "store", "facts"))
        with self._redis.pipeline() as step:
            step.watch(lease, store, facts)  # type: ignore[no-untyped-call] # redis-py has no type for it
            if (holder := cast(bytes | None, step.get(lease))) not in (None, _raw(self._holder)):
                raise StoreTakenError(self._held_by(holder or b""))
            row = cast(dict[bytes, bytes], step.hgetall(store))
            found = cast(dict[bytes, bytes], step.hgetall(facts))
            kept, seals, wrong = _read_row(row)
            damage = Damage(wrong)
            right = read_facts((_fact(*fact) for fact in found.items()), seals, damage)
            if not self._marks.written:
                for strange in self.damage.facts:
                    right.pop(strange, None)
                    damage.facts.append(strange)
            aside = {b"store " + name: text for name, text in row.items() if wrong}
            changed = {*damage.facts, *damage.mended}
            aside |= {b"fact " + n: text for n, text in found.items() if to_text(n) in changed}
            true = self._true(rows)
            for vector, counts in true.items():
                names = list(counts)
                before = cast(list[bytes | None], step.hmget(self._vector(vector), names))
                for name, text in zip(names, before, strict=True):
                    if text is not None:
                        aside[to_bytes(vector) + b" " + name] = text
            free = _KEPT - len(cast(list[bytes], step.hkeys(self._key("set-aside"))))
            exists = {other: step.exists(self._vector(other)) for other in renamed}
            step.multi()
            for was in list(aside)[: max(free, 0)]:
                step.hset(self._key("set-aside"), was, aside[was])
            step.delete(facts)
            for fact, whole in right.items():
                sealed = f"{seal_of(fact, whole):0{DIGITS}x}{whole}"
                step.hset(facts, to_bytes(fact), to_bytes(sealed))
            sum_ = sum(seal_of(*fact) for fact in right.items()) % SEALS
            values = Row(self._store, self._name, kept.get("mark", ""), _VERSION, sum_)
            for field, value in zip(Row._fields[:-1], values[:-1], strict=True):
                step.hset(store, field, value)
            step.hset(store, SEALED, values.sealed())
            for other, vector in renamed.items():
                step.srem(self._key("vectors"), to_bytes(other))
                if vector:
                    step.sadd(self._key("vectors"), to_bytes(vector))
                if exists[other]:
                    kept_as = self._vector(vector) if vector else self._aside(other)
                    step.renamenx(self._vector(other), kept_as)
            for vector, counts in true.items():
                for name, count in counts.items():
                    if count:
                        step.hset(self._vector(vector), name, count)
                    else:
                        step.hdel(self._vector(vector), name)
            step.execute()

    def _aside(self, vector: str) -> bytes:
        """The key under which a vector is kept that has no place."""
        return self._key("set-aside:").encode() + to_bytes(vector)

    def _true(self, rows: Counts) -> dict[str, dict[bytes, int]]:
        """The true counts of every row that is to be changed, 0 for one that is to go."""
        true: dict[str, dict[bytes, int]] = {}
        for vector, videos in self.damage.rows.items():
            true[vector] = dict.fromkeys(map(to_bytes, videos), 0)
        for vector, counts in rows.items():
            more = {to_bytes(video): count for video, count in counts.items()}
            true[vector] = true.get(vector, {}) | more
        return true

    def _vectors(self) -> list[str]:
        vectors = cast(set[bytes], self._redis.smembers(self._key("vectors")))
        return sorted(map(to_text, vectors))

    def _upgrade(self) -> None:
        """Formats 1 and 2 had no seals; 1 no facts, and another key for names of its vectors."""
        keys = [self._key(rest) for rest in ("lease", "store", "facts", "vectors", "replicas")]
        if not self._upgrade_script(keys, [self._holder, self._name]):
            raise StoreDownError(f"Redis at {self._where}: the lease ran out during the upgrade")

    def _key(self, rest: str) -> str:
        return self._prefix + rest

    def _vector(self, vector: str) -> bytes:
        """The key of a vector's hash; its name may be damaged."""
        return self._prefix.encode() + b"vector:" + to_bytes(vector)


def _raw(text: str) -> bytes:
    return text.encode()


def _read_row(kept: Mapping[bytes, bytes]) -> tuple[dict[str, str], int | None, list[str]]:
    return read_row({to_text(name): to_text(text) for name, text in kept.items()})


def _fact(name: bytes, kept: bytes) -> Fact:
    digits = to_text(kept[:DIGITS])
    seal = int(digits, 16) if re.fullmatch("[0-9a-f]{12}", digits) else None
    return Fact(to_text(name), to_text(kept[DIGITS:]), seal)


def _lease_ms() -> int:
    return int(LEASE * 1000)
