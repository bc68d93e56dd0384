"""Folding and removal in virtual time: when a run is folded, and what a fold must not do."""

from functools import partial
from threading import Lock

import pytest

from counter.crdt.ids import folded_of, mint_run, replica_of, run_of
from counter.node.loading import Loading, sift
from counter.node.names import write
from counter.protocol.batch import Batch
from counter.protocol.checks import decode_sum, sum_name
from counter.protocol.members import decode_fact, decode_since, encode_fact
from counter.protocol.messages import Delta, Envelope, RepairPage
from counter.protocol.replica import Replica
from counter.store.contract import Known
from counter.store.memory import MemoryStore
from simulation.disk import tally_of
from simulation.process import Process
from tests.protocol import TTL, Network


@pytest.fixture
def network() -> Network:
    return Network()


def entries(replica: Replica, member: str) -> list[str]:
    return replica.tally.parts(member, "z" * 23)


def three(network: Network) -> tuple[Replica, Replica, Replica]:
    """Three nodes that know each other; the first has ended a run with 3 visits of cats."""
    a = network.node("a")
    network.node("b")
    network.node("c")
    network.visit(a, "cats", "cats", "cats")
    network.live(6)
    return network.restart("a", 1000), network.nodes["b"], network.nodes["c"]


def test_a_run_that_ended_is_folded_when_everybody_has_said_the_same_for_long(
    network: Network,
) -> None:
    a, b, c = three(network)
    (run,) = entries(b, a.member)
    network.visit(a, "cats")
    network.live(int(2 * TTL))
    for node in (a, b, c):
        assert entries(node, a.member) == [run, a.id], "not before its time"
    network.live(int(TTL) + 4)
    for node in (a, b, c):
        assert entries(node, a.member) == [folded_of(a.member, run_of(run)), a.id]
        assert node.counter("cats") == {a.member: 4}
        assert not any(member.closed for member in node.roster.members(network.now))


def test_many_ended_runs_are_folded_at_once(network: Network) -> None:
    a, b, c = three(network)
    for run in range(2, 12):
        network.visit(a, "cats")
        network.live(1)
        a = network.restart("a", 1000 * run)
    assert len(entries(b, a.member)) == 11
    network.live(int(3 * TTL) + 6)
    for node in (a, b, c):
        (folded,) = entries(node, a.member)
        assert folded == folded_of(a.member, run_of(folded))
        assert node.counter("cats") == {a.member: 13}


def test_a_member_that_is_silent_delays_folding_until_it_is_removed(network: Network) -> None:
    a, b, c = three(network)
    del network.nodes["c"]
    network.live(40)
    assert len(entries(a, a.member)) == 1
    assert list(a.folding.fold_blockers(network.now)) == [c.member]
    assert [member.closed for member in a.roster.members(network.now)] == [1, 0, 0]
    network.do("a", a.remove(c.member, network.now))
    network.live(int(2 * TTL) + 4)
    for node in (a, b):
        assert list(node.folding.fold_blockers(network.now)) == []
        assert entries(node, a.member)[0].startswith(f"{a.member}@")
        assert [member.removed for member in node.roster.members(network.now)] == [
            False,
            False,
            True,
        ]
        assert node.counter("cats") == {a.member: 3}


def test_one_that_only_missed_a_count_delays_folding_until_it_has_it(network: Network) -> None:
    a, b, c = three(network)
    network.lose = lambda source, target, body: (
        "c" in (source, target) and isinstance(body, RepairPage | Delta)
    )
    network.visit(a, "cats")
    network.live(2)
    a = network.restart("a", 2000)
    network.live(40)
    assert len(entries(b, a.member)) == 2, "c has only one of these runs"
    network.lose = lambda *_: False
    network.live(int(3 * TTL) + 4)
    for node in (a, b, c):
        assert len(entries(node, a.member)) == 1
        assert node.counter("cats") == {a.member: 4}


def test_who_hears_of_a_larger_mark_adds_its_own_copies_first(network: Network) -> None:
    a, b, c = three(network)
    network.lose = lambda source, target, _body: "c" in (source, target)
    network.live(5)
    network.do("a", a.remove(c.member, network.now))
    # What only C holds of the ended run, though its writer lost it, is not lost by the join.
    c.tally.merge(entries(c, a.member)[0], {"cats": 5, "dogs": 1})
    network.live(int(2 * TTL) + 4)
    assert entries(b, a.member)[0].startswith(f"{a.member}@")
    network.lose = lambda *_: False
    network.live(5)
    for node in (a, b, c):
        assert node.counter("cats") == {a.member: 5}
        assert node.counter("dogs") == {a.member: 1}


def test_one_removed_while_only_split_off_goes_on_as_a_new_run_and_is_exact(
    network: Network,
) -> None:
    a, b, c = three(network)
    run = c.id
    network.lose = lambda source, target, _body: "c" in (source, target)
    network.visit(c, "cats")
    network.live(5)
    network.do("a", a.remove(c.member, network.now))
    network.visit(c, "cats", "dogs")
    c.visit("cats")
    network.live(int(2 * TTL) + 4)
    network.lose = lambda *_: False
    network.live(2)
    assert c.id > run
    network.visit(c, "cats")
    network.live(5)
    for node in (a, b, c):
        assert not any(member.removed for member in node.roster.members(network.now))
        assert node.counter("cats") == {a.member: 3, c.member: 4}
    network.live(int(3 * TTL) + 4)
    for node in (a, b, c):
        assert len(entries(node, c.member)) == 2
        assert node.counter("cats") == {a.member: 3, c.member: 4}


def test_a_visit_that_the_store_may_hold_is_not_moved_to_the_next_run(network: Network) -> None:
    a, _, c = three(network)
    c.visit("cats")
    c.not_stored(c.batch(10))  # and the store has it all the same
    network.do("a", a.remove(c.member, network.now))
    assert c.succession.ended_by_others
    assert not c.needs_new_run, "the same visit would be in the store twice, under two runs"
    c.stored(c.batch(10))
    assert c.needs_new_run
    run = c.id
    network.flush("c")
    assert c.id != run
    assert c.counter("cats", pending=True) == {a.member: 3, c.member: 1}


def opened(replica: Replica) -> MemoryStore:
    """A store that is to be given everything that a replica knows."""
    store = MemoryStore()
    store.open("a test", lambda: replica.member[-13:])
    replica.recovery.forgotten([], {})
    replica.recovery.all_loaded()
    store.begin(replica.id, replica.recovery.own_fact())
    while replica.unsaved():
        give(store, replica, 1000)
    return store


def give(store: MemoryStore, replica: Replica, rows: int) -> Batch:
    """Write a batch, as a node does."""
    batch = replica.batch(rows)
    write(store, batch, heal=False)
    replica.stored(batch)
    return batch


def started(store: MemoryStore, network: Network) -> Replica:
    """A run that begins on a store as a kill has left it."""
    network.now += 1.0
    process = Process.start(
        store,
        "a test",
        "a",
        mint_store=lambda: "",
        mint_run=lambda latest: mint_run(int(network.now * 1000) + 10**6, latest, 9),
        replica=network.replica,
    )
    return process.replica


def mid_fold(network: Network, videos: int = 9) -> tuple[Replica, MemoryStore]:
    """A node that has two runs to be folded, with as many videos, and its store."""
    a, _, _ = three(network)
    network.visit(a, *(f"v{number}" for number in range(videos)), "cats")
    network.live(1)
    a = network.restart("a", 2000)
    store = opened(a)
    network.seconds(int(3 * TTL) + 4)
    assert a.folding.due.keys() == {a.member}
    return a, store


def test_a_fold_gets_into_the_store_row_by_row_and_no_sum_ever_changes(network: Network) -> None:
    a, store = mid_fold(network)
    old = entries(a, a.member)[:2]
    before = {video: a.counter(video) for video in ("cats", *(f"v{n}" for n in range(9)))}
    folded = folded_of(a.member, run_of(old[-1]))
    batches: list[Batch] = []
    while a.unsaved():
        batches.append(give(store, a, 9))
        assert {video: tally_of(store).counter(video) for video in before} == before
        assert {video: a.counter(video) for video in before} == before
    assert entries(a, a.member) == [folded, *entries(a, a.member)[1:]]
    moved = [batch for batch in batches if folded in batch.counts]
    assert [len(batch.counts[folded]) for batch in moved] == [3, 3, 3, 1]
    for batch in moved[:-1]:
        assert batch.erase == {folded: old}
        assert decode_since(batch.facts[a.member]) < decode_fact(batch.facts[a.member])[2]
        assert not batch.drop
    assert moved[-1].drop == old
    assert not moved[-1].erase
    assert f"{a.member}@" in store.counts
    assert not store.counts.keys() & {folded, *old}
    assert decode_since(store.facts[a.member]) == run_of(old[-1])
    assert decode_sum(store.facts[sum_name(folded)]) == (13, a.tally.digest(folded))


def test_a_fold_of_few_videos_is_one_step_for_the_store(network: Network) -> None:
    a, store = mid_fold(network)
    old = entries(a, a.member)[:2]
    batch = give(store, a, 1000)
    assert batch.drop == old
    assert not batch.erase
    assert not a.backlog.moving


@pytest.mark.parametrize("steps", range(6))
def test_a_start_in_the_middle_of_a_fold_goes_on_with_it(network: Network, steps: int) -> None:
    a, store = mid_fold(network)
    videos = ["cats", *(f"v{number}" for number in range(9))]
    before = {video: a.counter(video)[a.member] for video in videos}
    for _ in range(steps):
        give(store, a, 9)
    again = started(store, network)
    assert {video: again.counter(video)[a.member] for video in videos} == before
    while again.unsaved():
        give(store, again, 9)
        assert {v: tally_of(store).counter(v)[a.member] for v in videos} == before
    if steps:
        assert not again.backlog.moving
        assert decode_since(store.facts[a.member]) == again.tally.mark(a.member) > ""
        assert sum(kept.startswith(f"{a.member}.") for kept in store.counts) == 0


@pytest.mark.parametrize("more", [1_000_000, -1])
@pytest.mark.parametrize("steps", range(1, 4))
def test_a_row_that_was_changed_in_the_middle_of_a_fold_is_found(
    network: Network, steps: int, more: int
) -> None:
    """It was not, and as nobody knows a bound of a folded vector, every node took it over."""
    a, written = mid_fold(network)
    for _ in range(steps):
        give(written, a, 9)
    folded = folded_of(a.member, a.tally.mark(a.member))
    of_fold = [f"{a.member}@", *(replica_of(a.member, run) for run in ended_runs(a, written))]
    rows = [(kept, video) for kept in of_fold for video in written.counts[kept]]
    assert len(rows) > 9
    for kept, video in rows:
        store = copy_of(written)
        store.counts[kept][video] += more
        if not store.counts[kept][video]:
            del store.counts[kept][video]
        again = started(store, network)
        assert again.recovery.doubtful == again.recovery.suspected() == [folded], (kept, video)
        # Even alone it shows no more than was written.
        network.now += TTL
        again.sync(network.now)
        assert again.tally.members().get(a.member, 0) <= a.tally.members()[a.member]


def ended_runs(a: Replica, store: MemoryStore) -> list[str]:
    """The runs of a fold of which a store still has rows."""
    runs = [run_of(kept) for kept in store.counts if kept.startswith(f"{a.member}.")]
    return [run for run in runs if run <= a.tally.mark(a.member)]


def copy_of(written: MemoryStore) -> MemoryStore:
    """A copy of a store, as a kill leaves it."""
    copy = MemoryStore()
    copy.counts = {vector: dict(kept) for vector, kept in written.counts.items()}
    copy.facts, copy.mark, copy.name = dict(written.facts), written.mark, written.name
    copy.store = written.store
    copy._seal_all()
    return copy


def test_a_step_of_a_fold_that_may_be_stored_is_written_again(network: Network) -> None:
    a, store = mid_fold(network)
    videos = ["cats", *(f"v{number}" for number in range(9))]
    before = {video: a.counter(video) for video in videos}
    number = 0
    while a.unsaved():
        batch = a.batch(9)
        number += 1
        if number % 3:
            write(store, batch, heal=False)
        assert {video: tally_of(store).counter(video) for video in videos} == before
        if number % 3 == 1:
            a.stored(batch)
        else:
            a.not_stored(batch)
    assert not a.backlog.moving
    assert {kept for kept in store.counts if kept.startswith(a.member)} == {f"{a.member}@"}


@pytest.mark.parametrize("steps", range(1, 6))
def test_a_store_put_back_into_a_fold_is_joined_row_by_row(network: Network, steps: int) -> None:
    """Restored to when it was in the middle of a fold, while the memory is beyond that."""
    a, store = mid_fold(network)
    videos = ["cats", *(f"v{number}" for number in range(9))]
    for _ in range(steps):
        give(store, a, 9)
    counts = {vector: dict(kept) for vector, kept in store.counts.items()}
    facts = dict(store.facts)
    while a.unsaved():
        give(store, a, 9)
    network.visit(a, "v1", "mice")
    a.recovery.forgotten(*sift(Known(list(counts), facts))[0])
    store.counts, store.facts = counts, facts
    store._seal_all()
    before = {video: tally_of(store).counter(video).get(a.member, 0) for video in videos}
    give(store, a, 9)
    loading = Loading(store, a.tally, Lock())
    for loaded in iter(partial(next, loading._pieces, 0), 0):
        if loaded:
            a.recovery.loaded(loaded.vector, loaded.counts)
    a.recovery.all_loaded()
    while a.unsaved():
        give(store, a, 9)
        now = {video: tally_of(store).counter(video)[a.member] for video in videos}
        assert all(now[video] >= before[video] for video in videos)
    assert {v: tally_of(store).counter(v) for v in videos} == {v: a.counter(v) for v in videos}
    assert a.counter("cats") == {a.member: 4}
    assert a.counter("v1") == {a.member: 2}
    assert not a.backlog.moving


def test_what_comes_in_while_a_fold_is_written_is_repaired_afterwards(network: Network) -> None:
    a, b, _ = three(network)
    (run,) = entries(b, a.member)
    network.flush("b")
    network.seconds(int(3 * TTL) + 4)
    batch = b.batch(1000)
    assert batch.ends
    late = RepairPage(run, {"cats": 4, "mice": 1}, None)
    b.receive(Envelope(a.id, "a", 0, late), network.now)
    a.tally.merge(run, late.counts)
    b.stored(batch)
    assert b.counter("cats") == {a.member: 3}
    network.live(5)
    for node in network.nodes.values():
        assert node.counter("cats") == {a.member: 4}
        assert node.counter("mice") == {a.member: 1}


def test_an_older_run_that_comes_up_while_a_fold_is_written_does_not_show_and_vanish(
    network: Network,
) -> None:
    a, b, _ = three(network)
    older = replica_of(a.member, "0" * 23)
    network.seconds(int(3 * TTL) + 4)
    batch = b.batch(1000)
    assert batch.ends
    b.receive(Envelope(a.id, "a", 0, RepairPage(older, {"cats": 9}, None)), network.now)
    before = b.counter("cats")
    b.stored(batch)
    assert b.counter("cats") == before == {a.member: 3}


def test_runs_are_folded_up_to_the_first_that_is_not_agreed_upon(network: Network) -> None:
    a, b, c = three(network)
    network.visit(a, "cats")
    network.live(int(4 * TTL))
    a = network.restart("a", 20_000)  # the second run ends only now
    network.live(2)
    first, second = entries(b, a.member)
    assert first.startswith(f"{a.member}@")
    network.live(int(TTL) + 2)
    assert entries(b, a.member) == [first, second]
    network.live(int(2 * TTL) + 2)
    for node in (a, b, c):
        assert len(entries(node, a.member)) == 1
        assert node.counter("cats") == {a.member: 4}


def test_a_run_of_a_later_day_does_not_hold_up_those_of_earlier_ones(network: Network) -> None:
    a, b, c = three(network)
    network.visit(a, "cats")
    network.live(1)
    ended = a.id
    a = network.restart("a", 2 * 86_400_000)
    network.visit(a, "cats")
    network.live(int(3 * TTL) - 1)
    later = a.id
    network.restart("a", 3 * 86_400_000)  # the run of the later day ends only now
    network.live(5)
    for node in (b, c):
        assert entries(node, a.member) == [folded_of(a.member, run_of(ended)), later]
        assert node.counter("cats") == {a.member: 5}


def test_a_closed_run_keeps_its_name_for_as_long_as_it_is_told_to() -> None:
    network = Network(fold_after=100.0)
    a, b, c = three(network)
    (run,) = entries(b, a.member)
    network.live(95)
    for node in (a, b, c):
        assert entries(node, a.member) == [run]
        assert node.tally.rests(run)
        assert node.counter("cats") == {a.member: 3}
    network.live(25)
    for node in (a, b, c):
        assert entries(node, a.member) == [folded_of(a.member, run_of(run))]
        assert node.counter("cats") == {a.member: 3}


def test_what_closes_at_once_is_put_to_rest_bit_by_bit() -> None:
    network = Network(fold_after=1000.0)
    a = network.node("a", has_peers=False)
    for number in range(1, 7):
        network.visit(a, *(f"video-{video}" for video in range(8_000)))
        a = network.restart("a", number)
    a.recovery.all_loaded()
    resting = []
    for _ in range(4):
        network.live(1)
        resting.append(sum(a.tally.rests(vector) for vector in a.tally.of(a.member)))
    assert resting == [2, 5, 6, 6]


def test_what_is_heard_late_of_a_closed_run_is_merged_as_ever() -> None:
    network = Network(fold_after=1000.0)
    a, b, c = three(network)
    (run,) = entries(b, a.member)
    network.live(20)
    assert all(node.tally.rests(run) for node in (a, b, c))
    # A copy of the store, split off until now, knows of visits that nobody else does.
    c.tally.merge(run, {"cats": 5, "dogs": 1})
    c.runs.changed(run)
    network.live(6)
    for node in (a, b, c):
        assert entries(node, a.member) == [run]
        assert node.counter("cats") == {a.member: 5}
        assert node.counter("dogs") == {a.member: 1}
        assert node.tally.rests(run), "it rests again"


def test_a_node_with_peers_to_hear_folds_nothing_before_it_has_heard_one(network: Network) -> None:
    a = network.node("a")
    network.visit(a, "cats")
    a = network.restart("a", 1000)
    network.live(40)
    (entry,) = entries(a, a.member)
    assert not entry.startswith(f"{a.member}@")


def test_a_node_without_peers_folds_alone(network: Network) -> None:
    first = network.node("a", has_peers=False)
    again = network.node("a", has_peers=False, run=1000)
    again.recovery.opened([first.id], first.recovery.own_fact())
    again.recovery.loaded(first.id, {"cats": 1})
    network.live(int(2 * TTL) + 2)
    assert entries(again, again.member) == [folded_of(again.member, run_of(first.id))]
    assert again.counter("cats") == {again.member: 1}


def test_what_a_store_has_left_of_folded_vectors_is_dropped(network: Network) -> None:
    a = network.node("a", run=1000)
    runs = [mint_run(number, "", number) for number in range(1, 5)]
    left = [replica_of(a.member, run) for run in runs]
    folded = folded_of(a.member, runs[2])
    a.recovery.opened([*left, folded], {a.member: encode_fact(runs[3], "", runs[2])})
    for vector in (*left, folded):
        a.recovery.loaded(vector, {"cats": 1})
    a.recovery.all_loaded()
    assert entries(a, a.member) == [folded, left[3]]
    assert a.batch(10).drop == left[:3]
    assert a.counter("cats") == {a.member: 2}


def test_a_store_that_was_emptied_is_given_marks_and_all(network: Network) -> None:
    a, _, _ = three(network)
    network.live(int(3 * TTL) + 4)
    a.recovery.forgotten([], {})
    a.recovery.all_loaded()
    kept: dict[str, dict[str, int]] = {}
    facts: dict[str, str] = {}
    while a.unsaved():
        batch = a.batch(2)
        for vector, counts in batch.counts.items():
            kept.setdefault(vector, {}).update(counts)
        facts |= batch.facts
        a.stored(batch)
    again = network.node("again")
    again.recovery.opened(list(kept), facts)
    for vector, counts in kept.items():
        again.recovery.loaded(vector, counts)
    assert again.counter("cats") == {a.member: 3}
    assert entries(again, a.member) == entries(a, a.member) == sorted(kept)
    assert set(again.members) == {*a.members, again.member}


def test_older_vectors_in_a_store_stay_until_it_has_the_newer_ones(network: Network) -> None:
    """A store restored to an older state, and killed while it is healed, loses nothing of it."""
    a, _, _ = three(network)
    (run,) = entries(a, a.member)
    network.visit(a, *(f"v{number}" for number in range(20)))
    network.live(int(3 * TTL) + 4)
    a.recovery.forgotten([run], {})
    assert a.batch(0).drop == [], "not before it was read"
    a.stored(a.batch(4))
    assert a.recovery.loaded(run, {"cats": 2, "dogs": 1}) == set()
    assert a.recovery.all_loaded() == {"dogs"}, "it may know of visits that nobody else does"
    dropped: list[str] = []
    while a.unsaved():
        assert not dropped
        batch = a.batch(4)
        a.stored(batch)
        dropped = batch.drop
        if folded_of(a.member, run_of(run)) in batch.counts:
            assert a.member in batch.facts
            assert batch.erase or batch.drop
    assert dropped == [run]
    assert a.counter("cats") == {a.member: 3}


def test_what_waits_to_be_written_of_a_part_is_not_written_behind_the_fold(
    network: Network,
) -> None:
    a, b, _ = three(network)
    (run,) = entries(b, a.member)
    network.seconds(int(3 * TTL) + 4)
    b.backlog.add(run, ["cats"])
    batch = b.batch(1000)
    assert batch.ends
    assert run in batch.drop
    assert run not in batch.counts
    b.not_stored(batch)
    assert b.unsaved()


def test_facts_that_are_none_say_nothing() -> None:
    for fact in ("", "x", "a b c", "- - - -"):
        assert decode_fact(fact) == ("", "", "")
        assert decode_since(fact) == ""
    run = mint_run(5, "", 5)
    assert decode_fact(encode_fact(run, "", run)) == (run, "", run)
    assert decode_since(encode_fact(run, "", run)) == run
    assert decode_fact(encode_fact(run, "", run, "")) == (run, "", run)
    assert decode_since(encode_fact(run, "", run, "")) == ""
    assert encode_fact(run, "", run, run) == encode_fact(run, "", run)
