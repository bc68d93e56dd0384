"""What a fold costs: rows and bytes follow what was folded, however much is folded already."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis

from counter.crdt.ids import encode_id, folded_of, mint_run, replica_of
from counter.crdt.tally import Tally
from counter.node.names import write
from counter.protocol.checks import encode_sum, sum_name
from counter.protocol.members import encode_fact
from counter.store.contract import Store
from counter.store.redis import RedisStore
from counter.store.sqlite import SqliteStore
from lab.servers import Redis
from simulation.process import Process
from tests.protocol import alone

ID = encode_id(7, 13)
OTHER = f"other~{encode_id(5, 13)}"
BEFORE, RUN, AFTER = (mint_run(number, "", number) for number in (1000, 2000, 3000))
VIDEOS = 1_000
"""How many videos a fold is of."""
NAMES = 1_000_000
"""A folded vector has counts of some of so many videos, in even steps."""


class Cost(NamedTuple):
    """What the store was given, what it wrote, and the longest time that a node's lock was held."""

    rows: int
    argument_bytes: int
    written_rows: int
    written_bytes: int
    longest_step: float


class Measured:
    """A store, and how much it has written; `path` is of its log, which only grows meanwhile."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.given = 0

    def settle(self) -> None:
        """Write what it puts off."""

    def rows(self) -> int:
        """Rows written since it was opened; 0 if it does not tell."""
        return 0

    def bytes(self) -> int:
        """Bytes written since then."""
        raise NotImplementedError


class MeasuredSqlite(Measured):
    def __init__(self, folder: Path) -> None:
        super().__init__(SqliteStore(folder))
        self.folder = folder

    def rows(self) -> int:
        db = self._store._tables.db
        return db.total_changes

    @property
    def _store(self) -> SqliteStore:
        assert isinstance(self.store, SqliteStore)
        return self.store

    def settle(self) -> None:
        # From here on its log begins anew and is not taken in: its size is what was written.
        db = self._store._tables.db
        db.execute("PRAGMA wal_autocheckpoint=0")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def bytes(self) -> int:
        return (self.folder / "counter.sqlite-wal").stat().st_size


class MeasuredRedis(Measured):
    def __init__(self, uri: str, name: str, client: "redis.Redis") -> None:
        super().__init__(RedisStore(uri, name))
        self._client = client

    def bytes(self) -> int:
        info: Any = self._client.info("persistence")
        return int(info["aof_current_size"])


Make = Callable[[str], Measured]


@pytest.fixture(params=["SQLite", "Redis"])
def make(request: pytest.FixtureRequest, tmp_path: Path, redis_server: Redis) -> Iterator[Make]:
    """Make an empty store of this kind."""
    with closing(redis.Redis.from_url(redis_server.uri)) as client:
        if request.param == "SQLite":
            yield lambda name: MeasuredSqlite(tmp_path / name)
        else:
            yield lambda name: MeasuredRedis(redis_server.uri, f"cost-{name}", client)


def fill(store: Store, folded: int, counted: Mapping[str, int]) -> None:
    """Make the store of a node that has folded so many videos of another, and has a run of it."""
    replica = f"node~{ID}.{BEFORE}"
    store.open("a first holder", lambda: ID)
    store.begin(replica, {OTHER: encode_fact(RUN, "", BEFORE)})
    tally, step = Tally(), NAMES // folded
    tally.fold(OTHER, BEFORE)
    vector = folded_of(OTHER, BEFORE)
    for first in range(0, folded, 50_000):
        some = range(first, min(folded, first + 50_000))
        counts = {f"video-{step * number:07}": number % 90 + 1 for number in some}
        tally.merge(vector, counts)
        store.write({f"{OTHER}@": counts})
    sums = {sum_name(vector): encode_sum(tally.total(vector), tally.digest(vector))}
    store.write({replica_of(OTHER, RUN): counted}, facts=sums)
    store.close()


def started(store: Store) -> Process:
    process = Process.start(
        store,  # type: ignore[arg-type] # any store will do
        "a later holder",
        "node",
        mint_store=lambda: ID,
        mint_run=lambda latest: mint_run(9_000_000, latest, 5),
        replica=alone,
    )
    while process.replica.unsaved():
        process.write(process.batch(4_000, 0.0, lambda latest: latest))
    return process


def cost(measured: Measured, folded: int, counted: Mapping[str, int]) -> Cost:
    """Fold a run that has counted this into so many videos, and see what that costs."""
    fill(measured.store, folded, counted)
    process = started(measured.store)
    replica = process.replica
    vector = folded_of(OTHER, RUN)
    total = replica.tally.total(folded_of(OTHER, BEFORE))
    assert len(replica.tally.vector(folded_of(OTHER, BEFORE))) == folded
    measured.settle()
    rows, written = measured.rows(), measured.bytes()
    given = arguments = 0
    longest = 0.0
    replica.backlog.follow(OTHER, RUN)
    while replica.unsaved():
        began = time.perf_counter()
        batch = process.batch(4_000, 0.0, lambda latest: latest)
        longest = max(longest, time.perf_counter() - began)
        write(measured.store, batch, heal=False)
        began = time.perf_counter()
        replica.stored(batch)
        longest = max(longest, time.perf_counter() - began)
        for of, counts in batch.counts.items():
            given += len(counts) * (1 + len(batch.erase.get(of, ())))
            arguments += sum(len(video) + len(str(count)) + 4 for video, count in counts.items())
        arguments += sum(len(name) + len(fact) for name, fact in batch.kept().items())
    for _ in range(3):
        # The rows of what is dropped are deleted with later writes.
        measured.store.write({})
    assert replica.tally.total(vector) == total + sum(counted.values())
    assert replica.folding.folds == 1
    cost = Cost(given, arguments, measured.rows() - rows, measured.bytes() - written, longest)
    measured.store.close()
    print(folded, cost)
    return cost


def neighbours(number: int = VIDEOS) -> dict[str, int]:
    """Counts of videos that lie side by side, as what was put up on one day may."""
    return {f"video-{300_000 + video:07}": video % 7 + 1 for video in range(number)}


def scattered(number: int = VIDEOS) -> dict[str, int]:
    """Counts of videos far from each other, each of which is in the folded vector."""
    return {f"video-{video * NAMES // number:07}": video % 7 + 1 for video in range(number)}


def assert_same(few: Cost, many: Cost) -> None:
    """A figure may differ by a fifth, as batches and their marks do."""
    for one, other in zip(few[:4], many[:4], strict=True):
        assert 0.8 * one <= other <= 1.2 * one, (few, many)


@pytest.mark.parametrize("number", [VIDEOS, 9_000], ids=["in one batch", "in several"])
def test_a_fold_writes_as_much_whatever_is_folded_already(make: Make, number: int) -> None:
    counted = neighbours(number)
    few, many = (cost(make(f"{number}-{n}"), n, counted) for n in (10_000, 100_000))
    assert_same(few, many)
    # Each row of the run is written once as another's, and removed once.
    assert few.rows <= 2 * number
    assert few.written_rows <= 2 * number + 200


@pytest.mark.proof
def test_a_fold_into_a_million_videos_writes_as_much_as_into_ten_thousand(make: Make) -> None:
    few, many = (cost(make(f"proof-{n}"), n, neighbours()) for n in (10_000, NAMES))
    assert_same(few, many)


@pytest.mark.proof
def test_rows_far_from_each_other_cost_a_page_each_and_no_more(tmp_path: Path) -> None:
    """SQLite writes whole pages: of a large table each such row is on one of its own."""
    few, many = (cost(MeasuredSqlite(tmp_path / str(n)), n, scattered()) for n in (10_000, NAMES))
    assert few.rows == many.rows
    assert few.written_rows == pytest.approx(many.written_rows, rel=0.2)
    assert many.written_bytes <= few.written_bytes + VIDEOS * 4_200


@pytest.mark.alone
@pytest.mark.proof
def test_no_step_of_a_fold_into_a_million_videos_holds_up_the_node(make: Make) -> None:
    assert cost(make("alone"), NAMES, neighbours(9_000)).longest_step < 0.025
