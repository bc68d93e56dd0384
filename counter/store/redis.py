"""The Redis store: one hash a vector, under a prefix of the node's name; one script a flush.

No other command runs in Redis while the script runs, so lease, flush mark and counts are one
atomic step. It compares counts as numbers, which are exact up to 2^53 in its Lua. The scripts are
in `lua/`.
"""

import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import redis
from msgspec import DecodeError, json
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError, ResponseError
from redis.retry import Retry

from counter import tls
from counter.passwords import without_password
from counter.store.ahead import Ahead
from counter.store.contract import (
    NO_SKETCHES,
    NOTHING,
    NOTHING_ERASED,
    PATIENCE,
    Counts,
    Known,
    Marks,
    Opened,
    Rows,
    SketchesByDay,
    StoreDownError,
    StoreRefusedError,
    StoreTakenError,
    in_pieces,
)
from counter.store.formats import without_marks
from counter.store.redis_errors import (
    KEYED,
    KEYLESS,
    encrypted,
    no_redis,
    not_encrypted,
    not_permitted,
    refusal,
)
from counter.store.redis_layout import Keys, fact_of, row_of
from counter.store.redis_salvage import Salvage
from counter.store.redis_sketches import RedisSketches, arguments_of
from counter.store.seals import SEALED, Damage, read_facts, to_text

LEASE = 3.0
"""Seconds that a lease lasts without renewal; every write renews it."""

_TIMEOUT = 2.0
_ROWS_A_PIECE = 5_000
_VERSION = "4"
_EARLIER = ("1", "2", "3")

_counts = json.Decoder(list[int])
_DIGITS = b"0123456789,"

_LUA = Path(__file__).parent / "lua"


def _script(*names: str) -> str:
    return "".join((_LUA / f"{name}.lua").read_text() for name in names)


_TAKE, _RELEASE, _PERMITS = _script("take"), _script("release"), _script("permits")
_PAGE = _script("page")
_WRITE, _UPGRADE = _script("seals", "write"), _script("seals", "upgrade")


class RedisStore(RedisSketches):
    """Keeps counts in a Redis server (7 or newer) under `counter:NAME:`, with a lease."""

    kind = "redis"

    def __init__(self, uri: str, name: str) -> None:
        self._keys = Keys(name)
        self._name = name
        self._uri = uri
        uri, ca_file = tls.without_ca(uri)
        self._encrypted = urlsplit(uri).scheme == "rediss"
        self._where = f"{urlsplit(uri).hostname}:{urlsplit(uri).port or 6379}"
        trusted: dict[str, Any] = {}
        if ca_file is not None:
            trusted = {"ssl_ca_certs": ca_file, "ssl_exclude_verify_flags": tls.LENIENT}
        self._redis = redis.Redis.from_url(
            uri,
            **trusted,
            socket_timeout=_TIMEOUT,
            socket_connect_timeout=_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
            max_connections=1,
        )
        self._ahead: Ahead | None = None
        """What is read in advance: nothing else goes over the connection meanwhile."""
        self._permits = self._redis.register_script(_PERMITS)
        self._page = self._redis.register_script(_PAGE)
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
        with self._calling():
            self._check_permissions()
            self._take_lease()
            kept, seals, wrong = self._row()
            version = kept.get("version", _VERSION)
            if version not in (*_EARLIER, _VERSION):
                raise StoreRefusedError(
                    f"REDIS_URI={self._where}: {self._keys.prefix} was written by another version "
                    f"of this program (format {version}, this one knows {_VERSION}); run that "
                    "version on it"
                )
            if version != _VERSION:
                self._upgrade(seals, version, damaged=bool(wrong))
            elif not kept and self._redis.exists(self._keys.facts):
                # There is no store without an id; whatever wrote those facts had one.
                wrong = [SEALED]
            self.damage = Damage(wrong)
            self._store = kept.get("id") or mint()
            return Opened(self._store, self._name)

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
            found = cast(dict[bytes, bytes], self._redis.hgetall(self._keys.facts))
            facts = read_facts((fact_of(*fact) for fact in found.items()), seals, damage)
            vectors = self._vectors()
        self.damage.add(damage)
        return Known(vectors, facts)

    def load(self, vector: str = "") -> Iterator[tuple[str, Mapping[str, int]]]:
        """See `Store.load`."""
        with self._calling():
            names = [vector] if vector else self._vectors()
        for name in names:
            ahead = self._read_ahead(name, b"0")
            while True:
                with self._calling():
                    cursor, piece = self._rows(name, *ahead.outcome())
                if cursor != b"0":
                    ahead = self._read_ahead(name, cursor)
                yield name, piece
                if cursor == b"0":
                    break

    def _read_ahead(self, vector: str, cursor: bytes) -> Ahead:
        """Begin to read some rows of a vector."""
        if self._ahead is not None:
            self._ahead.wait()
        keys, arguments = [self._keys.vector(vector)], [cursor, b"%d" % _ROWS_A_PIECE]
        self._ahead = Ahead(lambda: (cursor, *self._page(keys, arguments)))
        return self._ahead

    def _rows(
        self, vector: str, cursor: bytes, after: bytes, size: int, text: bytes, numbers: bytes
    ) -> tuple[bytes, Mapping[str, int]]:
        """What was read from a cursor on, and the next cursor."""
        with suppress(ValueError, DecodeError):
            ids, counts = text.decode().split("\0"), _counts.decode(b"[%b]" % numbers)
            are_whole = len(ids) == len(set(ids)) and not numbers.translate(None, _DIGITS)
            if are_whole and len(ids) - 1 == len(counts) == size:
                return after, Rows(ids[:-1], counts, text)
        # Not all of them are a text and an integer.
        _, piece = cast(
            tuple[int, dict[bytes, bytes]],
            self._redis.hscan(self._keys.vector(vector), int(cursor), count=_ROWS_A_PIECE),
        )
        return after, self._sound(vector, piece)

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
        return self._keys.set_aside + f" on Redis at {self._where}"

    def write(
        self,
        counts: Counts,
        *,
        facts: Mapping[str, str] = NOTHING,
        drop: Collection[str] = (),
        erase: Mapping[str, Collection[str]] = NOTHING_ERASED,
        heal: bool = False,
        sketches: SketchesByDay = NO_SKETCHES,
        oldest: int = 0,
    ) -> None:
        """See `Store.write`."""
        marks, of = self._marks, self._keys
        mark = marks.next()
        keys = [of.lease, of.store, of.vectors, of.facts, of.days]
        keys += [of.key(f"vector:{vector}") for vector in drop]
        arguments: list[str | int | bytes] = [self._holder, _lease_ms(), self._store, self._name]
        right = "\n".join(["", *marks.right, ""]) if marks.written else "*"
        arguments += [mark, right, f"={marks.found}" if heal else ""]
        arguments += [len(drop), *drop, len(facts)]
        for fact in facts.items():
            arguments += fact
        arguments += arguments_of(sketches, oldest)
        for vector, changed in counts.items():
            others = erase.get(vector, ())
            for some in in_pieces(changed, _ROWS_A_PIECE):
                keys += [of.key(f"vector:{each}") for each in (vector, *others)]
                arguments += [vector, json.encode(some), len(others)]
        with self._calling():
            outcome, *detail = cast(list[bytes], self._write(keys, arguments))
        if outcome == b"taken":
            raise StoreTakenError(self._leased_by(detail[0]))
        if outcome == b"forgot":
            raise marks.forgot(f"Redis at {self._where}", to_text(detail[0]))
        marks.done()

    def close(self) -> None:
        """See `Store.close`."""
        if self._ahead is not None:
            self._ahead.wait()
            self._ahead = None
        with suppress(RedisError, OSError):
            self._release([self._keys.lease], [self._holder])
        with suppress(RedisError, OSError):
            self._redis.close()

    def _take_lease(self) -> None:
        """Take the lease; wait for another one to run out, unless its holder renews it."""
        deadline, left = time.monotonic() + PATIENCE, float("inf")
        while True:
            found = cast(list[Any], self._take([self._keys.lease], [self._holder, _lease_ms()]))
            if not found:
                return
            renewed = found[1] > left
            if renewed or time.monotonic() >= deadline:
                raise StoreTakenError(self._leased_by(found[0]))
            left = found[1]
            time.sleep(0.1)

    def _check_permissions(self) -> None:
        """Raise `StoreRefusedError` for a command that is needed later, maybe in months."""
        arguments: list[int | str] = [len(KEYED), *KEYED, *KEYLESS]
        refused = cast(list[bytes], self._permits([self._keys.lease], arguments))
        if refused:
            commands = list(map(to_text, refused))
            raise StoreRefusedError(not_permitted(self._where, self._keys.prefix, commands))

    def _answer_to_ping(self) -> bytes:
        """What the other side says before it hangs up, which redis-py does not tell."""
        host, _, port = self._where.rpartition(":")
        with suppress(OSError), socket.create_connection((host, int(port)), _TIMEOUT) as probe:
            # Eight bytes: as much as a broker reads before it answers.
            probe.sendall(b"PING\r\n\r\n")
            return probe.recv(32)
        return b""

    def _leased_by(self, holder: bytes) -> str:
        return (
            f"NAME={self._name!r} on Redis at {self._where} is leased by {to_text(holder)}; "
            "stop that process, or set another NAME"
        )

    @contextmanager
    def _calling(self) -> Iterator[None]:
        if self._ahead is not None:
            self._ahead.wait()
        try:
            yield
        except (RedisError, OSError) as error:
            raise self._failed(error) from None

    def _failed(self, error: RedisError | OSError) -> StoreDownError | StoreRefusedError:
        """What an error means: it passes, or the store can never be used as it is.

        Once it was written, only a key of the wrong type is for good: whoever changed a user or
        a certificate meanwhile can change it back.
        """
        error.args = tuple(
            without_password(text, self._uri) if isinstance(text, str) else text
            for text in error.args
        )
        if "WRONGTYPE" in str(error):
            return StoreRefusedError(
                f"Redis at {self._where}: {self._of_wrong_type()} was not written by this program "
                "(WRONGTYPE); rename it, and what other nodes have heard comes back from them"
            )
        if not self._marks.written:
            sentence = refusal(error, self._where, self._keys.prefix) or self._of_another(error)
            if sentence:
                return StoreRefusedError(sentence)
        return StoreDownError(f"Redis at {self._where}: {error}")

    def _of_another(self, error: RedisError | OSError) -> str:
        """The sentence about what is no Redis, or does not expect TLS or its lack; else ""."""
        if isinstance(error, ResponseError | BusyLoadingError):
            return ""
        if isinstance(error, redis.TimeoutError) and not self._encrypted:
            return ""
        answer = self._answer_to_ping()
        if answer[:1] in (b"+", b"-"):
            return not_encrypted(self._where) if self._encrypted else ""
        if self._encrypted:
            return ""
        if answer:
            return no_redis(self._where, f"it says {answer!r}")
        return encrypted(self._where) if tls.spoken_at(self._where) else ""

    def _of_wrong_type(self) -> str:
        """The name of the first key that is of another type than it should be."""
        wanted = {"lease": b"string", "store": b"hash", "facts": b"hash", "vectors": b"set"}
        with suppress(RedisError, OSError):
            more = {"set-aside": b"hash", "replicas": b"set", "sketches": b"set"}
            for rest, kind in (wanted | more).items():
                if self._redis.type(self._keys.key(rest)) not in (kind, b"none"):
                    return self._keys.key(rest)
            for key in self._redis.scan_iter(self._keys.key("vector:*"), _type=None):
                if self._redis.type(key) != b"hash":
                    return to_text(key)
        return f"a key below {self._keys.prefix}"

    def _row(self) -> tuple[dict[str, str], int | None, list[str]]:
        """See `read_row`."""
        return row_of(cast(dict[bytes, bytes], self._redis.hgetall(self._keys.store)))

    def _put_right(self, rows: Counts, renamed: Mapping[str, str]) -> None:
        """Write anew what was found damaged; what it was goes into a hash of its own."""
        own = (self._store, self._name, _VERSION)
        salvage = Salvage(self._keys, self.damage, own, first=not self._marks.written)
        with self._redis.pipeline() as step:
            holder = salvage.run(step, self._holder, rows, renamed)
        if holder is not None:
            raise StoreTakenError(self._leased_by(holder))

    def _vectors(self) -> list[str]:
        vectors = cast(set[bytes], self._redis.smembers(self._keys.vectors))
        return sorted(map(to_text, vectors))

    def _upgrade(self, seals: int | None, version: str, *, damaged: bool) -> None:
        """Formats 1 and 2 had no seals; 1 no facts, and another key for names of its vectors.

        What the store is stays as it is where it is damaged: then it is written anew later.
        """
        of, sealed = self._keys, version == "3"
        found = cast(dict[bytes, bytes], self._redis.hgetall(of.facts))
        facts = {
            to_text(name): fact_of(name, text).text if sealed else to_text(text)
            for name, text in found.items()
        }
        names, left_over = without_marks(self._vectors(), facts)
        pairs = [one for pair in names.items() for one in pair]
        keys = [of.lease, of.store, of.facts, of.vectors, of.key("replicas")]
        vectors = [*pairs, *left_over]
        sum_ = "" if damaged or seals is None else f"{seals:x}"
        arguments: list[str | int] = [
            self._holder,
            self._name,
            int(sealed),
            sum_,
            len(names),
            *vectors,
        ]
        if not self._upgrade_script([*keys, *map(of.vector, vectors)], arguments):
            raise StoreDownError(f"Redis at {self._where}: the lease ran out during the upgrade")


def _lease_ms() -> int:
    return int(LEASE * 1000)
