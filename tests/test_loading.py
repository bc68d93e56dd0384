"""What a store holds is taken in by arrays where it is much: as exact, in short steps."""

import threading
import time
from collections.abc import Iterator, Mapping
from importlib import import_module

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counter.crdt import columns
from counter.crdt.columns import Entries
from counter.crdt.ids import folded_of, member_of, mint_run, replica_of, run_of
from counter.crdt.tally import Tally
from counter.crdt.videos import Videos
from counter.node.loading import Loading
from counter.protocol.checks import are_sound, encode_sum, is_count, is_row, sum_name, sum_of
from counter.protocol.members import encode_fact
from counter.protocol.replica import Replica
from counter.store.contract import Rows
from counter.store.memory import MemoryStore
from lab.clients import until
from tests.kept import kept
from tests.kept import run_of as of_other
from tests.small import EVERY_VIDEOS, LargeTally

VIDEOS = [f"v{number}" for number in range(12)]
COUNTS = st.dictionaries(st.sampled_from(VIDEOS), st.integers(1, 300))
MEMBERS = [f"counter{number}~{'0' * 13}" for number in (1, 2)]
VECTORS = [replica_of(member, f"{run:023}") for member in MEMBERS for run in (1, 2)]
MEANWHILE = st.lists(st.tuples(st.sampled_from(VECTORS), COUNTS))


def text_of(counts: Mapping[str, int]) -> bytes:
    return "".join(f"{video}\0" for video in counts).encode()


def state(tally: Tally) -> object:
    """All that a tally tells of what it holds."""
    vectors = {
        name: (dict(own.items()), own.total, own.digest, own.hashes(16, 1))
        for name, own in tally.vectors()
        if own.total
    }
    return vectors, {video: tally.counter(video) for video in VIDEOS}, tally.members()


@given(COUNTS, COUNTS, MEANWHILE, st.sampled_from(VECTORS))
def test_a_vector_taken_in_by_rows_is_merged_like_its_counts(
    stored: dict[str, int],
    before: dict[str, int],
    meanwhile: list[tuple[str, dict[str, int]]],
    vector: str,
) -> None:
    """While peers tell of the same and of other vectors, between any two steps."""
    small, large = Tally(), LargeTally()
    grew: dict[str, int] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "_ROWS_A_STEP", 2)
        for tally in (small, large):
            tally.merge(vector, before)
        staged = large.empty()
        staged.merge(stored)
        told = iter(meanwhile)
        for part in staged.parts(2):
            more = large.merge(vector, part)
            assert more.keys() <= stored.keys()
            grew |= {video: grew.get(video, 0) + growth for video, growth in more.items()}
            for other, counts in [next(told, (vector, {}))]:
                large.merge(other, counts)
        for other, counts in told:
            large.merge(other, counts)
    small.merge(vector, stored)
    for other, counts in meanwhile:
        small.merge(other, counts)
    assert state(large) == state(small)
    assert set(large.top(3)) <= set(VIDEOS)
    assert [large.visits(v) for v in large.top(9)] == [small.visits(v) for v in small.top(9)]
    assert all(growth <= stored[video] for video, growth in grew.items())


@pytest.mark.parametrize("videos", EVERY_VIDEOS)
@given(st.permutations(VIDEOS), st.integers(0, 11), st.integers(0, 12), COUNTS)
def test_counts_told_in_the_order_of_rows_are_the_same_counts(
    videos: type[Videos], order: list[str], first: int, end: int, others: dict[str, int]
) -> None:
    index = videos()
    for video in order:
        index.row(video)
    if index.together(order):
        index._settle()
    for names in (order[first:end], sorted(order[first:end]), list(others), ["new", *order[:2]]):
        counts = {video: number + 1 for number, video in enumerate(names)}
        found = Entries.told(index, list(counts), list(counts.values()), text_of(counts))
        told = counts if found is None else found
        assert dict(told) == counts
        plain, quick = columns.Column(index), columns.Column(index)
        for column, given_ in ((plain, counts), (quick, told)):
            for video, count in given_.items():
                column.put(index.row(video), count)
        assert dict(plain.items()) == dict(quick.items())


def test_counts_in_the_order_of_rows_are_not_looked_for() -> None:
    tally = Tally()
    names = [f"video-{number:06}" for number in range(60_000)]
    for first in range(0, len(names), 2000):
        tally.merge(VECTORS[0], dict.fromkeys(names[first : first + 2000], 1))
    while not tally.ids.settled:
        tally.merge(VECTORS[1], dict.fromkeys(names[:100], 2))
    counts = dict.fromkeys(names[100:4100], 3)

    def told(counts: Mapping[str, int]) -> Entries | None:
        return tally.told(list(counts), list(counts.values()), text_of(counts))

    entries = told(counts)
    assert entries is not None
    assert list(entries) == names[100:4100]
    assert dict(entries) == counts
    assert told(dict(reversed(counts.items()))) is None
    assert told(counts | {"another": 1}) is None
    assert told(dict.fromkeys([*names[-100:], "behind"], 1)) is None


IDS = st.text(max_size=3) | st.sampled_from(["a" * 160, "a" * 161, "."])
NUMBERS = st.integers(-2, 2) | st.sampled_from([2**53 - 1, 2**53, 2**70])


@given(st.dictionaries(IDS, NUMBERS))
def test_rows_are_sound_if_each_of_them_is(rows: dict[str, int]) -> None:
    each = all(is_row(video) and is_count(count) for video, count in rows.items())
    assert are_sound(rows.keys(), rows.values()) == each


class Pieces(MemoryStore):
    """A store that gives pieces of a size, as large stores do."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def load(self, vector: str = "") -> Iterator[tuple[str, Mapping[str, int]]]:
        for name, counts in super().load(vector):
            ids = sorted(counts)
            for first in range(0, len(ids), self.size):
                some = {video: counts[video] for video in ids[first : first + self.size]}
                yield name, Rows(list(some), list(some.values()), text_of(some))


def filled(vectors: Mapping[str, Mapping[str, int]], facts: Mapping[str, str]) -> Pieces:
    """A store of another time, with these vectors and their sums."""
    store = Pieces(4000)
    store.open("a first holder", lambda: "0" * 13)
    store.begin(replica_of(f"own~{'0' * 13}", f"{1:023}"), {})
    sums = {
        sum_name(vector): encode_sum(*sum_of(counts))
        for vector, counts in vectors.items()
        if vector != "" and "@" not in vector
    }
    store.write(vectors, facts={**sums, **facts})
    store.close()
    return store


def test_closed_runs_rest_as_soon_as_they_are_loaded() -> None:
    """A week of runs, all of them awake, would take ten times the memory until they rest."""
    names = [f"video-{number:06}" for number in range(50_000)]
    runs = [of_other(1).rpartition(".")[0] + "." + mint_run(n, "", n) for n in range(1, 9)]
    vectors = {run: dict.fromkeys(names[n::8], n + 1) for n, run in enumerate(runs)}
    # The last one is not closed.
    facts = {f"run:{run}": "1 1000" for run in runs[:-1]} | {"age:store": "5000"}
    awake: list[int] = []
    store = filled(vectors, facts)
    with kept(store, gather=0.0) as one:
        # Each of them is seen from here, for another one is begun only when it rests.
        while not one.loaded.is_set():
            with one.lock:
                tally = one.replica.tally
                awake.append(sum(not tally.rests(vector) for vector in tally.totals()))
            time.sleep(0)
        with one.lock:
            tally = one.replica.tally
            assert [tally.rests(run) for run in runs] == [True] * 7 + [False]
            assert max(awake) <= 2
            for run, counts in vectors.items():
                assert dict(tally.vector(run).items()) == counts
            assert tally.visits(names[0]) == 1
            assert sum(tally.members().values()) == sum(sum(of.values()) for of in vectors.values())


def test_counts_of_peers_that_come_while_a_store_is_loaded_are_not_lost() -> None:
    names = [f"video-{number:06}" for number in range(60_000)]
    run = of_other(1)
    store = filled({run: dict.fromkeys(names, 2)}, {})
    with kept(store, gather=0.0) as one:
        number = 0
        while not one.loaded.is_set():
            with one.lock:
                one.replica.backlog.merge(run, {names[number % len(names)]: 3, f"new-{number}": 1})
            number += 1
            time.sleep(0)
        with one.lock:
            own, told = one.replica.tally.vector(run), min(number, len(names))
            assert own.total == 2 * len(names) + told + number
            assert own.total == sum(one.replica.tally.members().values())
        until(lambda: sum(store.counts[run].values()) == own.total, 10, "all of it is stored")


def test_a_large_fold_that_was_interrupted_is_joined_in_short_steps() -> None:
    """Parts of a fold whose rows are not moved yet: their sums are those of one step."""
    names = [f"video-{number:06}" for number in range(60_000)]
    member = member_of(of_other(1))
    runs = [replica_of(member, mint_run(number, "", number)) for number in (1, 2, 3)]
    mark = run_of(runs[-1])
    # The rows of the first thousand videos were moved.
    vectors = {f"{member}@": dict.fromkeys(names[:1000], 7)}
    vectors |= {run: dict.fromkeys(names[1000 + n :: 2], n + 1) for n, run in enumerate(runs)}
    store = filled(vectors, {member: encode_fact(mark, "", mark, "")})
    truth: dict[str, int] = {}
    for counts in vectors.values():
        truth |= {video: truth.get(video, 0) + count for video, count in counts.items()}
    with kept(store, gather=0.0) as one:
        assert one.loaded.wait(30)
        folded = folded_of(member, mark)
        with one.lock:
            assert dict(one.replica.tally.vector(folded).items()) == truth
        until(lambda: not one.replica.unsaved(), 30, "rows are moved")
        assert {name: of for name, of in store.counts.items() if of} == {f"{member}@": truth}


def test_between_the_steps_of_joining_a_fold_none_of_its_rows_is_written() -> None:
    names = [f"video-{number:06}" for number in range(60_000)]
    member = member_of(of_other(1))
    runs = [replica_of(member, mint_run(number, "", number)) for number in (1, 2)]
    mark = run_of(runs[-1])
    folded = folded_of(member, mark)
    replica = Replica(
        replica_of(MEMBERS[0], mint_run(5, "", 5)), Tally(), 0.0, sync_interval=1, join_timeout=1,
        message_ttl=5, fold_after=9, has_peers=False,
    )  # fmt: skip
    replica.recovery.opened(runs, {member: encode_fact(mark, "", mark, "")})
    for number, run in enumerate(runs, 1):
        for first in range(0, len(names), 4000):
            replica.recovery.loaded(run, dict.fromkeys(names[first : first + 4000], number))
    steps, seen = 0, 0
    while (grew := replica.recovery.join_some()) is not None:
        seen += len(grew)
        replica.backlog.merge(folded, {names[steps]: 4, f"new-{steps}": 1})
        batch = replica.batch(1000)
        assert folded not in batch.counts
        assert not batch.erase
        assert not set(runs) & set(batch.drop)
        replica.stored(batch)
        steps += 1
    assert steps > 5
    assert seen >= len(names) - steps
    assert replica.recovery.all_loaded() == set()
    counts = dict(replica.tally.vector(folded).items())
    assert counts == (
        dict.fromkeys(names, 3)
        | dict.fromkeys(names[:steps], 4)
        | {f"new-{step}": 1 for step in range(steps)}
    )
    written: dict[str, int] = {}
    while replica.unsaved():
        batch = replica.batch(20_000)
        if folded in batch.counts:
            written |= batch.counts[folded]
            assert set(runs) <= {*batch.erase.get(folded, ()), *batch.drop}
        replica.stored(batch)
    assert written == counts


@pytest.mark.alone
def test_no_step_of_loading_takes_long() -> None:
    """Of 200,000 videos, none of which is known; then of the same once more."""
    import_module("counter.crdt.bulk")
    names = [f"video-{number:06}" for number in range(200_000)]
    runs = [of_other(number) for number in (1, 2)]
    store = filled({run: dict.fromkeys(names, 1) for run in runs}, {})

    pieces = list(store.load())
    store.load = lambda vector="": iter(pieces)  # type: ignore[method-assign]

    def longest() -> float:
        tally, took = Tally(), [0.0]
        loading = Loading(store, tally, threading.Lock())
        while True:
            began = time.thread_time()
            try:
                loaded = loading.step()
            except StopIteration:
                break
            if loaded is not None:
                tally.merge(loaded.vector, loaded.counts)
            took.append(time.thread_time() - began)
        assert tally.members() == {member_of(run): len(names) for run in runs}
        return max(took)

    # Some steps are long by accident, for the processor is not ours alone.
    until(lambda: longest() <= 0.025, 60, "no step takes more than 25 ms")
