"""The contract of every store, and what is special about each."""

import os
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis

from counter.store import redis as with_redis
from counter.store import sqlite_tables
from counter.store.contract import (
    PATIENCE,
    Counts,
    Rows,
    Store,
    StoreDownError,
    StoreForgotError,
    StoreRefusedError,
    StoreTakenError,
)
from counter.store.formats import without_marks
from counter.store.memory import MemoryStore
from counter.store.redis import LEASE, RedisStore
from counter.store.sqlite import SqliteStore
from lab.clients import STRETCH, until
from lab.servers import ROOT, RabbitMQ, Redis

ID = "7q2m9f2ck3x8a"
MOST = 2**53 - 1
LONGEST = "AZaz09._~-" * 12 + "Zz9._~-x"

_numbers = count()


def replica(run: int, member: str = f"counter1~{ID}") -> str:
    return f"{member}.{run:023}"


def folded(mark: int) -> str:
    return f"counter1~{ID}@{mark:023}"


def others(how_many: int) -> Counts:
    """Counts of other members' replicas, with videos of every kind of id."""
    return {
        replica(number, f"node-{number}~{number:013}"): {
            "cats": number + 1,
            f"only-{number}": MOST,
            LONGEST: 7,
            ".": 1,
            "~": 2,
            "0": 3,
        }
        for number in range(how_many)
    }


class Place:
    """Where a store lies; `store` gives another object on the same place."""

    kind = ""
    # Arguments for a process of its own on this place.
    arguments: tuple[str, ...] = ()

    def store(self) -> Store:
        raise NotImplementedError

    def empty(self) -> None:
        """Take everything out, under whatever runs on it."""
        raise NotImplementedError

    def keep(self) -> None:
        """Remember a copy."""
        raise NotImplementedError

    def restore(self) -> None:
        """Go back to the copy, under whatever runs on it."""
        raise NotImplementedError


class MemoryPlace(Place):
    kind = "memory"

    def __init__(self) -> None:
        self._store = MemoryStore()
        self._copy: tuple[dict[str, dict[str, int]], str | None] = {}, None

    def store(self) -> Store:
        return self._store

    def empty(self) -> None:
        self._store.counts, self._store.mark = {}, None

    def keep(self) -> None:
        copy = {replica: dict(counts) for replica, counts in self._store.counts.items()}
        self._copy = copy, self._store.mark

    def restore(self) -> None:
        counts, self._store.mark = self._copy
        self._store.counts = {replica: dict(vector) for replica, vector in counts.items()}


class SqlitePlace(Place):
    kind = "sqlite"

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "data"
        self._copy = folder / "copy"
        self.arguments = (str(self.folder),)

    def store(self) -> Store:
        return SqliteStore(self.folder)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("counter.sqlite*"))

    def empty(self) -> None:
        for path in self._files():
            path.unlink()

    def keep(self) -> None:
        self._copy.mkdir()
        for path in self._files():
            if not path.name.endswith("-shm"):
                shutil.copy(path, self._copy)

    def restore(self) -> None:
        self.empty()
        for path in self._copy.iterdir():
            shutil.copy(path, self.folder)


class RedisPlace(Place):
    kind = "redis"

    def __init__(self, uri: str, client: "redis.Redis") -> None:
        self._name = f"node{next(_numbers)}"
        self._redis = client
        self._copy: dict[bytes, bytes] = {}
        self.arguments = (uri, self._name)
        self.key = f"counter:{self._name}:".__add__

    def store(self) -> Store:
        return RedisStore(*self.arguments)

    def _keys(self) -> list[bytes]:
        return sorted(self._redis.scan_iter(self.key("*")))

    def empty(self) -> None:
        for key in self._keys():
            self._redis.delete(key)

    def keep(self) -> None:
        dump: Any = self._redis.dump
        self._copy = {key: dump(key) for key in self._keys()}

    def restore(self) -> None:
        self.empty()
        for key, value in self._copy.items():
            self._redis.restore(key, int(LEASE * 1000) if key.endswith(b"lease") else 0, value)


@pytest.fixture
def client(redis_server: Redis) -> Iterator["redis.Redis"]:
    with closing(redis.Redis.from_url(redis_server.uri)) as client:
        yield client


@pytest.fixture(params=["memory", "sqlite", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_of(request.param, request, tmp_path)


@pytest.fixture(params=["sqlite", "redis"])
def lasting_place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place outside of this process."""
    return place_of(request.param, request, tmp_path)


def place_of(kind: str, request: pytest.FixtureRequest, folder: Path) -> Place:
    if kind == "memory":
        return MemoryPlace()
    if kind == "sqlite":
        return SqlitePlace(folder)
    server: Redis = request.getfixturevalue("redis_server")
    return RedisPlace(server.uri, request.getfixturevalue("client"))


@pytest.fixture
def opened() -> Iterator[Callable[[Place], Store]]:
    """Open stores with a replica begun; they are closed at the end."""
    with ExitStack() as stack:

        def open_(place: Place, run: int = 1) -> Store:
            store = place.store()
            stack.callback(store.close)
            store.open(f"holder of run {run}", lambda: ID)
            store.begin(replica(run), {})
            return store

        yield open_


Open = Callable[..., Store]


def loaded(store: Store) -> dict[str, dict[str, int]]:
    """All that the store holds; replicas without counts left out."""
    whole: dict[str, dict[str, int]] = {}
    for name, piece in store.load():
        whole.setdefault(name, {}).update(piece)
    return {name: counts for name, counts in whole.items() if counts}


def open_and_load(store: Store) -> None:
    store.open("me", lambda: ID)
    loaded(store)


def reopened(place: Place, store: Store) -> dict[str, dict[str, int]]:
    """All that the place holds once the store is closed."""
    store.close()
    again = place.store()
    again.open("a later holder", lambda: "not used")
    try:
        return loaded(again)
    finally:
        again.close()


# -- the contract


def test_sketches_are_kept_by_day_and_video_beside_counts(place: Place, opened: Open) -> None:
    store = opened(place)
    whole = bytes(range(256)) * 8
    store.write(
        {replica(1): {"cats": 1}},
        facts={"viewers:20000": "2 17"},
        sketches={20_000: {"cats": (b"\0head", whole), LONGEST: (b"other", b"\xff")}},
    )
    store.write({}, sketches={20_001: {"cats": (b"next", b"day")}})
    store.write({}, sketches={20_000: {"cats": (b"newer", whole[::-1])}})
    assert store.heads(20_000) == {"cats": b"newer", LONGEST: b"other"}
    assert store.sketches(20_000, ["cats", "dogs", LONGEST]) == {
        "cats": whole[::-1],
        LONGEST: b"\xff",
    }
    assert (
        store.heads(20_002) == store.sketches(20_002, ["cats"]) == store.sketches(20_000, []) == {}
    )
    assert reopened(place, store) == {replica(1): {"cats": 1}}
    again = opened(place, run=2)
    assert again.heads(20_001) == {"cats": b"next"}
    assert again.known().facts["viewers:20000"] == "2 17"


def test_sketches_of_old_days_are_forgotten_a_few_at_a_time(place: Place, opened: Open) -> None:
    store = opened(place)
    kept = {f"video-{number}": (b"head", bytes(2_000)) for number in range(700)}
    store.write({}, sketches=dict.fromkeys((19998, 19999, 20000), kept))
    for _ in range(8):
        store.write({}, oldest=20_000)
    assert store.heads(19_998) == store.heads(19_999) == {}
    assert len(store.heads(20_000)) == 700


def test_no_sketch_is_written_into_a_store_that_forgot(place: Place, opened: Open) -> None:
    store = opened(place)
    store.write({}, sketches={20_000: {"cats": (b"head", b"old")}})
    place.empty()
    with pytest.raises(StoreForgotError):
        store.write({}, sketches={20_000: {"cats": (b"head", b"new")}})
    assert store.sketches(20_000, ["cats"]) in ({}, {"cats": b"old"})


def test_a_new_store_mints_an_id_and_keeps_it_and_the_name(place: Place) -> None:
    store = place.store()
    first = store.open("one", lambda: ID)
    assert first.store == ID
    store.begin(replica(1), {})
    store.close()
    again = place.store()
    second = again.open("another", lambda: "0" * 13)
    again.close()
    assert second.store == ID
    assert second.name in ("counter1", "node" + str(second.name)[4:])
    if place.kind != "redis":  # whose name is a setting
        assert first.name is None
        assert second.name == "counter1"


def test_what_is_written_is_there_after_close_and_reopen(place: Place, opened: Open) -> None:
    store = opened(place)
    store.write(others(30))
    store.write({replica(1): {"dogs": 1, LONGEST: MOST}})
    assert reopened(place, store) == {**others(30), replica(1): {"dogs": 1, LONGEST: MOST}}


def test_a_count_never_goes_down(place: Place, opened: Open) -> None:
    store = opened(place)
    store.write({replica(1): {"cats": 100, "dogs": MOST}})
    store.write({replica(1): {"cats": 20, "dogs": 9, "mice": 1}}, heal=True)
    store.write({replica(1): {"cats": 99}})
    assert loaded(store) == {replica(1): {"cats": 100, "dogs": MOST, "mice": 1}}
    # Compared as numbers, not as texts.
    store.write({replica(1): {"cats": 1000}})
    store.write({replica(1): {"cats": 999}})
    assert reopened(place, store)[replica(1)]["cats"] == 1000


def test_counts_in_two_columns_are_written_like_any_other(
    place: Place, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_tables, "_ROWS_A_TEXT", 7)
    monkeypatch.setattr(with_redis, "_ROWS_A_PIECE", 7)
    store = opened(place)
    store.write({replica(1): {f"video-{number}": number + 1 for number in range(40)}})
    videos = [f"video-{number}" for number in reversed(range(20, 60))]
    store.write(
        {replica(2): Rows(videos, [50] * 40)}, erase={replica(2): [replica(1)]}, facts={"a": "b"}
    )
    assert loaded(store) == {
        replica(1): {f"video-{number}": number + 1 for number in range(20)},
        replica(2): dict.fromkeys(videos, 50),
    }


def test_neighbouring_counts_at_the_end_of_the_range_are_told_apart(
    place: Place, opened: Open
) -> None:
    store = opened(place)
    for number in (MOST - 2, MOST - 1, MOST):
        store.write({replica(1): {"cats": number}})
        assert loaded(store) == {replica(1): {"cats": number}}
    store.write({replica(1): {"cats": MOST - 1}})
    assert loaded(store) == {replica(1): {"cats": MOST}}


def test_a_large_batch_is_written_and_loaded_in_bounded_pieces(place: Place, opened: Open) -> None:
    store = opened(place)
    counts = {f"video-{number}": number + 1 for number in range(25_000)}
    store.write({replica(1): counts})
    pieces = list(store.load())
    assert loaded(store) == {replica(1): counts}
    if place.kind != "memory":
        assert max(len(piece) for _, piece in pieces) <= 10_500


def test_loading_in_pieces_while_writes_go_on_misses_nothing(place: Place, opened: Open) -> None:
    store = opened(place)
    counts = {f"video-{number}": 1 for number in range(21_000)}
    store.write({replica(2, "x~" + "1" * 13): counts, replica(3, "y~" + "2" * 13): {"cats": 5}})
    seen: dict[str, dict[str, int]] = {}
    for number, (name, piece) in enumerate(store.load()):
        seen.setdefault(name, {}).update(piece)
        store.write({replica(1): {f"new-{number}": 1}, replica(2, "x~" + "1" * 13): {"video-7": 9}})
    assert seen[replica(2, "x~" + "1" * 13)].keys() == counts.keys()
    assert seen[replica(3, "y~" + "2" * 13)] == {"cats": 5}


def test_facts_and_vectors_are_known_after_close_and_reopen(place: Place) -> None:
    store = place.store()
    store.open("one", lambda: ID)
    store.begin(replica(5), {"counter1": "a run that counted nothing"})
    first = store.known()
    store.write({replica(3): {"cats": 1}, folded(2): {"dogs": 1}}, facts={"other": "x"})
    store.write({}, facts={"other": "y - ~", LONGEST: "z"})
    known = store.known()
    store.close()
    assert first.facts == {"counter1": "a run that counted nothing"}
    assert set(known.vectors) == {replica(3), folded(2)}
    assert known.facts == {"counter1": "a run that counted nothing", "other": "y - ~", LONGEST: "z"}
    store.open("one", lambda: ID)
    again = store.known()
    store.close()
    assert set(again.vectors) == set(known.vectors)
    assert again.facts == known.facts


def test_an_empty_fact_is_removed(place: Place, opened: Open) -> None:
    store = opened(place)
    store.write({}, facts={"key:1": "x", "key:2": "y"})
    store.write({}, facts={"key:1": "", "key:never": ""})
    assert store.known().facts == {"key:2": "y"}


def test_a_dropped_vector_is_gone_at_once_and_may_begin_anew(place: Place, opened: Open) -> None:
    store = opened(place)
    large = {f"video-{number}": 9 for number in range(9_000)}
    store.write({replica(2): large, replica(3): {"cats": 1}, folded(4): {"dogs": 3}})
    store.write({replica(2): {"mice": 1}}, drop=[replica(2), replica(3), "never~there"])
    assert loaded(store) == {replica(2): {"mice": 1}, folded(4): {"dogs": 3}}
    assert set(store.known().vectors) == {replica(2), folded(4)}
    for number in range(10):
        store.write({replica(2): {"video-5": number + 1}})
    store.write({}, drop=[folded(4)])
    assert reopened(place, store) == {replica(2): {"mice": 1, "video-5": 10}}


def test_what_is_written_of_one_vector_is_erased_from_others(
    place: Place, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("counter.store.sqlite_tables._ROWS_A_TEXT", 500)
    store, whole = opened(place), f"counter1~{ID}@"
    many = {f"video-{number}": 3 for number in range(1_200)}
    store.write({replica(2): {"cats": 1, "dogs": 2}, replica(3): {"cats": 5, **many}})
    others = [replica(2), replica(3), "never~there"]
    for _ in range(2):
        # The second time there is nothing to be erased any more.
        store.write({whole: {"cats": 6}, replica(4): {"dogs": 7}}, erase={whole: others})
        left = {replica(2): {"dogs": 2}, replica(3): many, replica(4): {"dogs": 7}}
        assert loaded(store) == {whole: {"cats": 6}, **left}
    store.write({whole: many}, erase={whole: others})
    left = {replica(2): {"dogs": 2}, replica(4): {"dogs": 7}}
    assert reopened(place, store) == {whole: {"cats": 6, **many}, **left}


def test_names_of_format_3_lose_their_marks_where_that_is_certain() -> None:
    member, facts = f"counter1~{ID}", {f"counter1~{ID}": f"- - {4:023}"}
    assert without_marks([replica(1), folded(4), folded(9)], facts) == (
        {folded(4): f"{member}@"},
        [folded(9)],
    )
    # The fact is damaged: it has a sum only if it was whole.
    assert without_marks([folded(4), folded(9)], {f"sum:{folded(4)}": "1 a"}) == (
        {folded(4): f"{member}@"},
        [folded(9)],
    )
    assert without_marks([folded(9)], {member: "- - -"}) == ({}, [folded(9)])
    # It may be the name that is damaged.
    assert without_marks([folded(9)], facts) == ({}, [])
    assert without_marks([f"{member}@"], facts) == ({}, [])


def test_a_write_that_finds_another_mark_drops_nothing_and_keeps_no_fact(
    place: Place, opened: Open
) -> None:
    store = opened(place)
    store.write({replica(2): {"cats": 1}}, facts={"counter1": "x"})
    put_mark(place, "somebody else's")
    with pytest.raises(StoreForgotError):
        store.write({}, facts={"counter1": "y"}, drop=[replica(2)])
    assert loaded(store) == {replica(2): {"cats": 1}}
    assert store.known().facts == {"counter1": "x"}


def test_another_process_mark_is_found_and_nothing_is_written(place: Place, opened: Open) -> None:
    store = opened(place)
    store.write({replica(1): {"cats": 1}})
    put_mark(place, "somebody else's")
    before = loaded(store)
    for _ in range(2):  # nor is it accepted by having been found
        with pytest.raises(StoreForgotError):
            store.write({replica(1): {"cats": 2}, replica(9): {"dogs": 1}})
        assert loaded(store) == before
    store.write({replica(1): {"cats": 2}}, heal=True)
    store.write({replica(1): {"cats": 3}})
    assert reopened(place, store) == {replica(1): {"cats": 3}}


def put_mark(place: Place, mark: str) -> None:
    """Change the flush mark from outside."""
    if isinstance(place, MemoryPlace):
        place._store.mark = mark
    elif isinstance(place, SqlitePlace):
        with closing(sqlite3.connect(place.folder / "counter.sqlite")) as db, db:
            db.execute("REPLACE INTO store VALUES ('mark', ?)", (mark,))
    elif isinstance(place, RedisPlace):
        place._redis.hset(place.key("store"), "mark", mark)


def test_a_store_emptied_under_a_running_process_is_found_and_healed(
    place: Place, opened: Open
) -> None:
    store = opened(place)
    store.write(others(5))
    place.empty()
    with pytest.raises(StoreForgotError):
        store.write({replica(1): {"cats": 1}})
    assert loaded(store) == {}
    store.write({**others(5), replica(1): {"cats": 1}}, heal=True)
    store.write({replica(1): {"cats": 2}})
    store.close()
    again = place.store()
    opened_again = again.open("a later holder", lambda: "0" * 13)
    assert opened_again.store == ID
    assert loaded(again) == {**others(5), replica(1): {"cats": 2}}
    again.close()


def test_an_empty_write_finds_out_too(place: Place, opened: Open) -> None:
    store = opened(place)
    store.write({})
    store.write({})
    place.empty()
    with pytest.raises(StoreForgotError):
        store.write({})


def test_a_store_restored_to_an_older_state_is_found_and_healed(place: Place, opened: Open) -> None:
    store = opened(place)
    store.write({replica(1): {"cats": 1}})
    place.keep()
    store.write({replica(1): {"cats": 2, "dogs": 7}})
    place.restore()
    with pytest.raises(StoreForgotError):
        store.write({replica(1): {"mice": 1}})
    store.write({replica(1): {"cats": 2, "dogs": 7, "mice": 1}}, heal=True)
    store.write({replica(1): {"cats": 3}})
    assert reopened(place, store) == {replica(1): {"cats": 3, "dogs": 7, "mice": 1}}


def test_a_store_that_changes_again_before_it_is_healed_is_found_again(
    place: Place, opened: Open
) -> None:
    store = opened(place)
    store.write({replica(1): {"cats": 1}})
    place.keep()
    store.write({replica(1): {"cats": 2}})
    place.empty()
    with pytest.raises(StoreForgotError):
        store.write({})
    place.restore()
    with pytest.raises(StoreForgotError):
        store.write({replica(1): {"cats": 2}}, heal=True)
    assert loaded(store) == {replica(1): {"cats": 1}}
    store.write({replica(1): {"cats": 2}}, heal=True)
    assert reopened(place, store) == {replica(1): {"cats": 2}}


def test_a_store_restored_again_and_again_is_found_every_time(place: Place, opened: Open) -> None:
    store = opened(place)
    store.write({replica(1): {"cats": 1}})
    place.keep()
    for number in range(2, 6):
        store.write({replica(1): {"cats": number}})
        place.restore()
        with pytest.raises(StoreForgotError):
            store.write({})
        store.write({replica(1): {"cats": number}}, heal=True)
    assert reopened(place, store) == {replica(1): {"cats": 5}}


def test_a_second_process_is_refused_in_time_and_told_who_holds_the_store(
    place: Place, opened: Open
) -> None:
    holder, stop = opened(place), threading.Event()

    def renew() -> None:
        while not stop.wait(0.2):
            holder.write({})

    thread = threading.Thread(target=renew, name="renews")
    thread.start()
    try:
        start = time.monotonic()
        with pytest.raises(StoreTakenError, match="holder of run 1") as refusal:
            place.store().open("the second", lambda: ID)
        assert time.monotonic() - start < (PATIENCE + 1) * STRETCH
        assert "\n" not in str(refusal.value)
    finally:
        stop.set()
        thread.join()
    # The first is unharmed.
    holder.write({replica(1): {"cats": 1}})
    assert loaded(holder) == {replica(1): {"cats": 1}}


def test_a_closed_store_can_be_opened_at_once_by_another(place: Place, opened: Open) -> None:
    for run in range(1, 5):
        store = opened(place, run)
        start = time.monotonic()
        store.write({replica(run): {"cats": run}})
        store.close()
        store.close()
        assert time.monotonic() - start < 1.0 * STRETCH
    assert reopened(place, store) == {replica(run): {"cats": run} for run in range(1, 5)}


def test_a_start_that_failed_half_way_is_made_again_at_once(place: Place) -> None:
    store, start = place.store(), time.monotonic()
    assert store.open("me", lambda: ID).store == ID
    # Where `begin` fails with StoreDownError, both are tried again on the same object.
    store.open("me", lambda: ID)
    assert time.monotonic() - start < 1.0 * STRETCH
    store.begin(replica(1), {})
    store.write({replica(1): {"cats": 1}})
    assert reopened(place, store) == {replica(1): {"cats": 1}}


def test_close_never_raises_also_when_it_was_never_opened(place: Place) -> None:
    store = place.store()
    store.close()
    store.close()


_HOLD = """
import sys
from pathlib import Path
from counter.store.redis import RedisStore
from counter.store.sqlite import SqliteStore
kind, *arguments = sys.argv[1:]
store = RedisStore(*arguments) if kind == "redis" else SqliteStore(Path(arguments[0]))
store.open("the one that will be killed", lambda: "7q2m9f2ck3x8a")
store.begin("counter1~7q2m9f2ck3x8a." + "1" * 23, {})
number = 0
while True:
    number += 1
    fold = "counter1~7q2m9f2ck3x8a@{:023}".format
    store.write(
        {
            "counter1~7q2m9f2ck3x8a." + "1" * 23: {"cats": number, "dogs": number},
            fold(number): {f"video-{other}": number for other in range(50)},
        },
        facts={"mark": str(number)},
        drop=[fold(number - 1)],
    )
    print(number, flush=True)
"""


def test_after_a_kill_in_mid_write_it_opens_within_patience_and_holds_whole_batches(
    lasting_place: Place,
) -> None:
    place = lasting_place
    command = [sys.executable, "-c", _HOLD, place.kind, *place.arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        written = [process.stdout.readline() for _ in range(100)]
        process.send_signal(signal.SIGKILL)
        written += process.stdout.readlines()
    acknowledged = int([line for line in written if line.endswith("\n")][-1])
    store, start = place.store(), time.monotonic()
    store.open("the next", lambda: "0" * 13)
    assert time.monotonic() - start < PATIENCE * STRETCH
    whole, known = loaded(store), store.known()
    store.close()
    counts = whole.pop("counter1~7q2m9f2ck3x8a." + "1" * 23)
    number = counts["cats"]
    assert counts["cats"] == counts["dogs"]
    assert acknowledged <= number <= acknowledged + 1
    # A fold is done or not done: its counts, its mark, and what it takes the place of.
    assert whole == {folded(number): {f"video-{other}": number for other in range(50)}}
    assert known.facts == {"mark": str(number)}


# -- Redis


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Redis]:
    """A Redis that the test may stop."""
    with Redis(tmp_path / "redis") as server:
        yield server


def redis_store(uri: str, run: int = 1) -> RedisStore:
    store = RedisStore(uri, "counter1")
    store.open(f"holder of run {run}", lambda: ID)
    store.begin(replica(run), {})
    return store


def test_a_wrong_password_is_refused_without_naming_it(own_redis: Redis) -> None:
    with closing(redis.Redis.from_url(own_redis.uri)) as client:
        client.config_set("requirepass", "right")
    where = f"127.0.0.1:{own_redis.port}"
    for user in ("", ":wr0ng@", "nobody:wr0ng@"):
        with closing(RedisStore(f"redis://{user}{where}/0", "counter1")) as store:
            with pytest.raises(StoreRefusedError, match=f"REDIS_URI.*{where}.*password") as refusal:
                store.open("me", lambda: ID)
            assert "wr0ng" not in str(refusal.value)
    with closing(RedisStore(f"redis://:right@{where}/0", "counter1")) as store:
        store.open("me", lambda: ID)


def test_a_broker_at_its_address_is_refused_as_not_a_redis(rabbitmq_server: RabbitMQ) -> None:
    with (
        closing(RedisStore(f"redis://127.0.0.1:{rabbitmq_server.port}/0", "counter1")) as store,
        pytest.raises(StoreRefusedError, match=f"127.0.0.1:{rabbitmq_server.port} is not a Redis"),
    ):
        store.open("me", lambda: ID)


@pytest.mark.parametrize(
    "greeting",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b"\0\1\2\r\n", b"bye"],
)
def test_another_kind_of_server_is_refused_as_not_a_redis(greeting: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                connection, _ = listener.accept()
                with connection:
                    if not connection.recv(4096):
                        return
                    connection.sendall(greeting)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(4096):
                        pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        with (
            closing(RedisStore(f"redis://127.0.0.1:{port}/0", "counter1")) as store,
            pytest.raises(StoreRefusedError, match="is not a Redis"),
        ):
            store.open("me", lambda: ID)
        with socket.create_connection(("127.0.0.1", port)):
            pass  # says nothing, which ends it
        thread.join(5)


def test_a_redis_that_is_down_is_waited_for(tmp_path: Path) -> None:
    server = Redis(tmp_path / "redis")
    with closing(RedisStore(server.uri, "counter1")) as store:
        with pytest.raises(StoreDownError, match=str(server.port)):
            store.open("me", lambda: ID)
        with server:
            store.open("me", lambda: ID)
            store.begin(replica(1), {})
            store.write({replica(1): {"cats": 1}})


def test_a_redis_that_restarts_is_written_to_again(own_redis: Redis) -> None:
    with closing(redis_store(own_redis.uri)) as store:
        store.write({replica(1): {"cats": 1}})
        own_redis.kill()
        for _ in range(3):
            with pytest.raises(StoreDownError):
                store.write({replica(1): {"cats": 2}})
        with pytest.raises(StoreDownError):
            list(store.load())
        own_redis.start()
        store.write({replica(1): {"cats": 3}})  # its script is gone, its counts are not
        assert loaded(store) == {replica(1): {"cats": 3}}


def test_a_redis_without_memory_is_waited_for(own_redis: Redis) -> None:
    with closing(redis.Redis.from_url(own_redis.uri)) as client:
        with closing(redis_store(own_redis.uri)) as store:
            client.config_set("maxmemory", 1)
            with pytest.raises(StoreDownError):
                store.write({replica(1): {"cats": 1}})
            client.config_set("maxmemory", 0)
            assert loaded(store) == {}
            store.write({replica(1): {"cats": 1}})
        client.config_set("maxmemory", 1)
        with closing(RedisStore(own_redis.uri, "counter1")) as store:
            with pytest.raises(StoreDownError):
                store.open("me", lambda: ID)
            client.config_set("maxmemory", 0)
            store.open("me", lambda: ID)
            assert loaded(store) == {replica(1): {"cats": 1}}


def test_a_lease_taken_by_another_ends_all_writing(own_redis: Redis) -> None:
    with (
        closing(redis.Redis.from_url(own_redis.uri)) as client,
        closing(redis_store(own_redis.uri)) as zombie,
    ):
        zombie.write({replica(1): {"cats": 1}})
        client.delete("counter:counter1:lease")
        with closing(redis_store(own_redis.uri, 2)) as store:
            for heal in (False, True):
                with pytest.raises(StoreTakenError, match="holder of run 2"):
                    zombie.write({replica(1): {"cats": 2}}, heal=heal)
            zombie.close()  # which lets go of nothing that it does not hold
            store.write({replica(2): {"cats": 5}})
            assert loaded(store) == {replica(1): {"cats": 1}, replica(2): {"cats": 5}}
            assert client.get("counter:counter1:lease") == b"holder of run 2"


def test_a_lease_that_merely_ran_out_is_taken_again(own_redis: Redis) -> None:
    with (
        closing(redis.Redis.from_url(own_redis.uri)) as client,
        closing(redis_store(own_redis.uri)) as store,
    ):
        client.pexpire("counter:counter1:lease", 1)
        until(lambda: not client.exists("counter:counter1:lease"), 2, "the lease runs out")
        store.write({replica(1): {"cats": 1}})
        assert client.get("counter:counter1:lease") == b"holder of run 1"
        left: Any = client.pttl("counter:counter1:lease")
        assert 1000 < left <= LEASE * 1000


def test_an_empty_write_renews_the_lease(own_redis: Redis) -> None:
    with (
        closing(redis.Redis.from_url(own_redis.uri)) as client,
        closing(redis_store(own_redis.uri)) as store,
    ):
        client.pexpire("counter:counter1:lease", 500)
        store.write({})
        left: Any = client.pttl("counter:counter1:lease")
        assert left > 500


def test_a_write_whose_outcome_is_unknown_is_no_sign_of_loss(own_redis: Redis) -> None:
    with closing(redis_store(own_redis.uri)) as store:
        store.write({replica(1): {"cats": 1}})
        own_redis.pause()
        try:
            start = time.monotonic()
            with pytest.raises(StoreDownError):
                store.write({replica(1): {"cats": 2}})
            assert time.monotonic() - start < 4 * STRETCH
        finally:
            own_redis.resume()
        with closing(redis.Redis.from_url(own_redis.uri)) as client:
            # The paused server has the write in hand and does it now.
            until(
                lambda: client.hget("counter:counter1:vector:" + replica(1), "cats") == b"2",
                5,
                "the late write is done",
            )
        store.write({replica(1): {"cats": 2, "dogs": 1}})
        store.write({replica(1): {"cats": 3}})
        assert loaded(store) == {replica(1): {"cats": 3, "dogs": 1}}


def test_two_names_on_one_redis_do_not_see_each_other(own_redis: Redis) -> None:
    with (
        closing(RedisStore(own_redis.uri, "a")) as first,
        closing(RedisStore(own_redis.uri, "a.b")) as second,
    ):
        for store in (first, second):
            store.open("me", lambda: ID)
            store.begin(replica(1), {})
        first.write({replica(1): {"cats": 1}})
        second.write({replica(1): {"dogs": 1}})
        assert loaded(first) == {replica(1): {"cats": 1}}
        assert loaded(second) == {replica(1): {"dogs": 1}}


def test_a_redis_kept_by_another_version_is_refused(own_redis: Redis) -> None:
    with closing(redis.Redis.from_url(own_redis.uri)) as client:
        client.hset("counter:counter1:store", "version", "5")
    with (
        closing(RedisStore(own_redis.uri, "counter1")) as store,
        pytest.raises(StoreRefusedError, match="format 5"),
    ):
        store.open("me", lambda: ID)


def test_a_redis_of_format_1_is_taken_over(own_redis: Redis) -> None:
    with closing(redis.Redis.from_url(own_redis.uri)) as client:
        key = "counter:counter1:".__add__
        client.hset(key("store"), mapping={"version": "1", "id": ID, "mark": "old", "name": "x"})
        client.sadd(key("replicas"), replica(1))
        client.hset(key(f"vector:{replica(1)}"), "cats", 3)
        for _ in range(2):
            with closing(redis_store(own_redis.uri, 2)) as store:
                assert loaded(store) == {replica(1): {"cats": 3}}
                assert store.known().vectors == [replica(1)]
        assert client.hget(key("store"), "version") == b"4"
        assert not client.exists(key("replicas"))


# -- SQLite


def sqlite_store(folder: Path, run: int = 1) -> SqliteStore:
    store = SqliteStore(folder)
    store.open(f"holder of run {run}", lambda: ID)
    store.begin(replica(run), {})
    return store


def test_a_key_of_a_day_that_was_removed_cannot_be_read_from_the_files(tmp_path: Path) -> None:
    def holds(text: str) -> bool:
        return any(text.encode() in file.read_bytes() for file in tmp_path.glob("counter.sqlite*"))

    with closing(sqlite_store(tmp_path)) as store:
        store.write({}, facts={"salt:1": "first" * 8, "other": "kept"})
        assert holds("first" * 8)
        with closing(sqlite3.connect(tmp_path / "counter.sqlite")) as reader:
            reader.execute("BEGIN")
            assert list(reader.execute("SELECT fact FROM facts WHERE name = 'other'"))
            store.write({}, facts={"salt:1": "", "salt:2": "second" * 8})
            assert holds("first" * 8), "somebody reads, who is not disturbed"
        store.write({replica(1): {"cats": 1}})
        assert not holds("first" * 8)
        assert store.known().facts == {"other": "kept", "salt:2": "second" * 8}


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "counter.sqlite"
    path.write_text("my diary, which nobody may overwrite\n" * 100)
    with (
        closing(SqliteStore(tmp_path)) as store,
        pytest.raises(StoreRefusedError, match=r"counter\.sqlite is not a counter's database"),
    ):
        store.open("me", lambda: ID)
    assert path.read_text().startswith("my diary")
    # The refusal lets go of the lock: once the file is away it opens.
    path.unlink()
    with closing(sqlite_store(tmp_path)) as store:
        store.write({replica(1): {"cats": 1}})


def test_a_database_kept_by_another_version_is_refused(tmp_path: Path) -> None:
    sqlite_store(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "counter.sqlite")) as db, db:
        db.execute("DELETE FROM store WHERE key = 'sealed'")
        db.execute("UPDATE store SET value = '5' WHERE key = 'version'")
    with pytest.raises(StoreRefusedError, match="format 5"):
        SqliteStore(tmp_path).open("me", lambda: ID)


def test_a_database_of_format_1_is_taken_over(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "counter.sqlite")) as db, db:
        db.executescript(f"""
            CREATE TABLE store (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
            CREATE TABLE replicas (number INTEGER PRIMARY KEY, replica TEXT UNIQUE NOT NULL);
            CREATE TABLE counts (
                replica INTEGER NOT NULL, video TEXT NOT NULL, count INTEGER NOT NULL,
                PRIMARY KEY (replica, video)
            ) WITHOUT ROWID;
            INSERT INTO store VALUES ('version', '1'), ('id', '{ID}'), ('name', 'counter1');
            INSERT INTO replicas VALUES (1, '{replica(1)}');
            INSERT INTO counts VALUES (1, 'cats', 3);
        """)
    for _ in range(2):
        with closing(sqlite_store(tmp_path, 2)) as store:
            store.write({replica(2): {"cats": 1}})
            assert loaded(store) == {replica(1): {"cats": 3}, replica(2): {"cats": 1}}


def test_the_rows_of_a_dropped_vector_are_deleted_bit_by_bit(tmp_path: Path) -> None:
    large = {f"video-{number}": 9 for number in range(9_000)}
    with (
        closing(sqlite_store(tmp_path)) as store,
        closing(sqlite3.connect(tmp_path / "counter.sqlite")) as db,
    ):
        store.write({replica(2): large, replica(3): large})

        def rows() -> int:
            return int(db.execute("SELECT count(*) FROM counts").fetchone()[0])

        before = rows()
        store.write({replica(1): {"cats": 1}}, drop=[replica(2), replica(3)])
        assert 2_500 > before + 1 - rows() > 0
        for _ in range(12):
            store.write({})
        assert rows() == 1
        assert db.execute("SELECT vector FROM vectors").fetchall() == [(replica(1),)]


@pytest.mark.parametrize("folder", ["file", "file/below", "/proc/nowhere", "/dev/null"])
def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("in its place")
    with (
        closing(SqliteStore(tmp_path / folder)) as store,
        pytest.raises(StoreRefusedError, match=r"DATA_DIR=.* cannot be used") as refusal,
    ):
        store.open("me", lambda: ID)
    assert str(tmp_path / folder) in str(refusal.value)
    assert (tmp_path / "file").read_text() == "in its place"


def test_a_folder_is_made_when_it_is_missing(tmp_path: Path) -> None:
    with closing(sqlite_store(tmp_path / "deep" / "down")) as store:
        store.write({replica(1): {"cats": 1}})
    assert (tmp_path / "deep" / "down" / "counter.sqlite").exists()


def test_a_full_database_takes_nothing_and_works_again_when_there_is_room(tmp_path: Path) -> None:
    counts = {f"video-{number}-{'x' * 60}": 1 for number in range(3_000)}
    with closing(sqlite_store(tmp_path)) as store:
        store.write({replica(1): {"cats": 1}})
        assert store._tables.db is not None
        store._tables.db.execute("PRAGMA max_page_count=8")
        for _ in range(2):
            with pytest.raises(StoreDownError, match="full"):
                store.write({replica(1): {"cats": 2}, replica(2): counts})
            assert loaded(store) == {replica(1): {"cats": 1}}
        store._tables.db.execute("PRAGMA max_page_count=1000000")
        store.write({replica(1): {"cats": 2}, replica(2): counts})
        store.write({replica(1): {"cats": 3}})
    with closing(SqliteStore(tmp_path)) as store:
        store.open("me", lambda: ID)
        assert loaded(store) == {replica(1): {"cats": 3}, replica(2): counts}


_FILL = """
import resource, sys
from pathlib import Path
from counter.store.contract import StoreDownError
from counter.store.sqlite import SqliteStore
replica = "counter1~7q2m9f2ck3x8a." + "1" * 23
store = SqliteStore(Path(sys.argv[1]))
store.open("me", lambda: "7q2m9f2ck3x8a")
store.begin(replica, {})
store.write({replica: {"cats": 1}})
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
size = max(path.stat().st_size for path in Path(sys.argv[1]).iterdir())
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50_000, hard))
counts = {f"video-{number}": 1 for number in range(20_000)}
for _ in range(3):
    try:
        store.write({replica: {"cats": 2} | counts})
    except StoreDownError as error:
        print("down", error)
    assert dict(store.load())[replica] == {"cats": 1}
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
store.write({replica: {"cats": 2} | counts})
store.write({replica: {"cats": 3}})
store.close()
"""


def test_a_disk_that_is_full_in_mid_write_leaves_nothing_half_written(tmp_path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", _FILL, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("down") == 3, done.stdout
    with closing(SqliteStore(tmp_path)) as store:
        store.open("me", lambda: ID)
        [counts] = loaded(store).values()
    assert len(counts) == 20_001
    assert counts["cats"] == 3


def test_a_folder_that_was_removed_whole_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("counter.store.sqlite.PATIENCE", 0.1)
    folder = tmp_path / "data"
    with closing(sqlite_store(folder)) as store:
        store.write({replica(1): {"cats": 1}})
        shutil.rmtree(folder)
        with pytest.raises(StoreForgotError):
            store.write({replica(1): {"cats": 2}})
        store.write({replica(1): {"cats": 2}}, heal=True)
        store.write({replica(1): {"cats": 3}})
        # Its hold on the store is there again as well.
        with pytest.raises(StoreTakenError, match="holder of run 1"):
            SqliteStore(folder).open("the second", lambda: ID)
    with closing(SqliteStore(folder)) as store:
        assert store.open("me", lambda: "0" * 13).store == ID
        assert loaded(store) == {replica(1): {"cats": 3}}


def test_one_whose_lock_was_removed_and_taken_by_another_ends_all_writing(tmp_path: Path) -> None:
    with closing(sqlite_store(tmp_path)) as zombie:
        zombie.write({replica(1): {"cats": 1}})
        (tmp_path / "counter.lock").unlink()
        with closing(sqlite_store(tmp_path, 2)) as store:
            for heal in (False, True):
                with pytest.raises(StoreTakenError, match="holder of run 2"):
                    zombie.write({replica(1): {"cats": 2}}, heal=heal)
            store.write({replica(2): {"cats": 5}})
            assert loaded(store) == {replica(1): {"cats": 1}, replica(2): {"cats": 5}}


def test_a_database_that_breaks_while_it_is_read_is_a_store_that_is_down(tmp_path: Path) -> None:
    with closing(sqlite_store(tmp_path)) as store:
        store.write({replica(1): {f"video-{number}": 1 for number in range(20_000)}})
    path = tmp_path / "counter.sqlite"
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096 * 5)
        file.write(os.urandom(size - 4096 * 10))
    with (
        closing(SqliteStore(tmp_path)) as store,
        pytest.raises(StoreRefusedError, match="malformed"),
    ):
        open_and_load(store)


def test_calls_that_block_go_through_the_offload_once_it_is_open(tmp_path: Path) -> None:
    calls: list[str] = []

    def offload(function: Callable[..., Any], *arguments: Any) -> Any:
        calls.append(function.__name__)
        return function(*arguments)

    with closing(SqliteStore(tmp_path, offload)) as store:
        store.open("me", lambda: ID)
        store.begin(replica(1), {})
        calls.clear()
        store.write({replica(1): {"cats": 1}})
        assert len(calls) == 1
        assert loaded(store) == {replica(1): {"cats": 1}}
        assert len(calls) >= 2


def test_the_text_of_a_piece_has_its_ids_in_their_order(lasting_place: Place, opened: Open) -> None:
    store = opened(lasting_place)
    store.write({replica(1): {f"video-{number}": number + 1 for number in range(9_000)}})
    pieces = [piece for _, piece in store.load()]
    assert len(pieces) > 1
    for piece in pieces:
        assert isinstance(piece, Rows)
        assert piece.text.decode() == "".join(f"{video}\0" for video in piece)
        assert list(piece) == piece.ids
        assert dict(piece) == dict(zip(piece.ids, piece.counts, strict=True))
        assert max(len(some) for some in piece.some(999)) == 999
        assert {video: count for some in piece.some(999) for video, count in some.items()} == piece


def test_what_is_read_ahead_is_waited_for(lasting_place: Place, opened: Open) -> None:
    """Whatever else is asked of a store meanwhile: it does one thing at a time."""
    store = opened(lasting_place)
    counts = {f"video-{number}": 1 for number in range(30_000)}
    store.write({replica(2): counts})
    pieces = store.load()
    seen = dict(next(pieces)[1])
    assert store.known().vectors == [replica(2)]
    store.write({replica(1): {"cats": 1}})
    assert loaded(store) == {replica(1): {"cats": 1}, replica(2): counts}
    for name, piece in pieces:
        if name == replica(2):
            seen |= piece
    assert seen == counts
    next(store.load())
    store.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "read-ahead"]


ODD = [
    {"a": "1.0"}, {"a": "1e2"}, {"a": ""}, {"a": "x"}, {"a": "1,2"}, {"a\0b": "1,2"}, {"a\0b": "1"},
    {"": "1"}, {b"\xff": "1"}, {"a": "1" * 30}, {"a": b"\xb1"},
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=map(repr, ODD))
def test_odd_rows_among_many_are_told_from_the_right_ones(
    request: pytest.FixtureRequest,
    opened: Open,
    tmp_path: Path,
    client: "redis.Redis",
    odd: dict[Any, Any],
) -> None:
    place = place_of("redis", request, tmp_path)
    store = opened(place)
    right = {f"video-{number}": number + 1 for number in range(700)}
    store.write({replica(1): right})
    assert isinstance(place, RedisPlace)
    client.hset(place.key(f"vector:{replica(1)}"), mapping=odd)
    found = loaded(store)[replica(1)]
    assert {video: count for video, count in found.items() if video in right} == right
    more = found.keys() - right.keys()
    if "a\0b" in odd and odd["a\0b"] == "1":
        # A text and an integer. That it is none of a video is found elsewhere.
        assert more == {"a\0b"}
    elif "" in odd:
        assert more == {""}
    elif odd.get("a") == "1" * 30:
        assert found["a"] == int("1" * 30)
    else:
        assert not more
        assert len(store.damage.rows[replica(1)]) == 1
