"""The protocol in virtual time: replicas on a network whose losses each test decides."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counter.crdt.gcounter import MAX_COUNT
from counter.crdt.ids import encode_id, mint_run, mint_store, run_of
from counter.crdt.videos import Videos
from counter.protocol.effects import Effects
from counter.protocol.messages import (
    Body,
    Delta,
    Envelope,
    Health,
    PreviousMemberReport,
    RepairPage,
    Report,
    ReportRequest,
    RowsPage,
)
from counter.protocol.previous import PreviousAnnounced
from counter.protocol.replica import Replica
from tests.protocol import Network


def reported(replica: str, total: int) -> Report:
    """A report of one live replica's total."""
    run = run_of(replica)
    standing = PreviousMemberReport(run, "", "", (0, 0), {run: (total, None)})
    words, member = PreviousAnnounced(), replica[: -len(run) - 1]
    words.say(member, standing)
    return Report("ready", {member: standing}, {}, words.checksum)


def state(replica: Replica) -> str:
    return replica.state


@pytest.fixture
def network() -> Network:
    return Network()


def test_a_visit_shows_only_once_the_store_holds_it(network: Network) -> None:
    a = network.node("a")
    a.visit("cats")
    assert a.counter("cats") == {}
    assert a.counter("cats", pending=True) == {a.member: 1}
    assert a.publish() == []
    batch = a.batch(10)
    assert a.counter("cats") == {}
    assert a.publish() == []
    assert a.pending.unflushed() == 1
    assert a.stored(batch) == {"cats"}
    assert a.counter("cats") == {a.member: 1}
    assert a.pending.unflushed() == 0
    assert a.publish() == [(a.id, Delta({"cats": 1}, 1))]
    assert a.publish() == []


def test_many_visits_are_counted_all_or_none(network: Network) -> None:
    a = network.node("a")
    a.count_many({"cats": MAX_COUNT - 1, "dogs": 2}, {"log:x": "7"})
    with pytest.raises(OverflowError, match="cats"):
        a.count_many({"dogs": 1, "cats": 2}, {"log:x": "8"})
    batch = a.batch(10)
    assert batch.own == {a.id: {"cats": MAX_COUNT - 1, "dogs": 2}}
    assert batch.notes == {"log:x": "7"}


def test_a_note_is_kept_with_its_visits_and_written_again_with_them(network: Network) -> None:
    a = network.node("a")
    a.count_many({"cats": 1}, {"log:x": "1", "log:y": "1"})
    first = a.batch(10)
    a.count_many({"cats": 1}, {"log:x": "2"})
    assert a.backlog.notes == {}
    a.not_stored(first)
    second = a.batch(10)
    assert second.notes == {"log:x": "2", "log:y": "1"}
    a.stored(second)
    assert a.backlog.notes == {"log:x": "2", "log:y": "1"}
    a.count_many({}, {"log:y": ""})
    assert a.unsaved()
    a.stored(a.batch(10))
    assert a.backlog.notes == {"log:x": "2"}
    a.recovery.forgotten([], {"log:x": "1", "log:z": "3"})
    written = a.batch(10)
    assert written.notes == {"log:x": "2", "log:z": "3"}
    a.stored(written)


def test_a_store_that_forgot_is_not_given_older_notes_with_newer_visits(network: Network) -> None:
    """A kill at that moment counted lines of a log twice: their position was that before them."""
    a = network.node("a")
    a.count_many({"cats": 1}, {"log:x": "1"})
    a.stored(a.batch(10))
    a.count_many({"cats": 1}, {"log:x": "2"})
    a.not_stored(a.batch(10))
    a.recovery.forgotten([], {})
    again = a.batch(10)
    assert again.own == {a.id: {"cats": 2}}
    assert again.notes == {"log:x": "2"}


def test_visits_during_a_flush_are_neither_lost_nor_doubled(network: Network) -> None:
    a = network.node("a")
    a.visit("cats")
    first = a.batch(10)
    a.visit("cats")
    assert first.counts == {a.id: {"cats": 1}}
    a.stored(first)
    assert a.counter("cats") == {a.member: 1}
    a.stored(a.batch(10))
    assert a.counter("cats") == {a.member: 2}


def test_a_batch_that_failed_is_written_again_with_what_came_since(network: Network) -> None:
    a = network.node("a")
    for video in ("cats", "dogs"):
        a.visit(video)
    failed = a.batch(10)
    a.visit("cats")
    a.not_stored(failed)
    again = a.batch(10)
    assert again.counts == {a.id: {"cats": 2, "dogs": 1}}
    a.stored(again)
    assert a.counter("cats") == {a.member: 2}
    assert a.publish() == [(a.id, Delta({"cats": 2, "dogs": 1}, 3))]


def test_a_store_that_forgot_is_given_everything_again_in_bounded_batches(network: Network) -> None:
    a, b = network.node("a"), network.node("b")
    network.visit(a, *(f"v{number}" for number in range(30)))
    network.visit(b, "cats")
    network.seconds(2)
    a.stored(a.batch(1000))
    assert not a.unsaved()
    a.recovery.forgotten([], {})
    kept: dict[str, dict[str, int]] = {}
    while a.unsaved():
        batch = a.batch(7)
        for replica, counts in batch.counts.items():
            assert len(counts) <= 7
            kept.setdefault(replica, {}).update(counts)
        a.stored(batch)
    assert kept == {a.id: {f"v{number}": 1 for number in range(30)}, b.id: {"cats": 1}}
    assert a.publish() == []


def test_what_peers_tell_is_for_the_store_too(network: Network) -> None:
    a, b = network.node("a"), network.node("b")
    network.visit(b, "cats")
    network.second()
    failed = a.batch(10)
    assert failed.counts == {b.id: {"cats": 1}}
    a.not_stored(failed)
    assert a.batch(10).counts == {b.id: {"cats": 1}}


def test_a_count_at_its_end_refuses_the_visit(network: Network) -> None:
    a = network.node("a")
    a.tally.merge(a.id, {"cats": MAX_COUNT - 1})
    network.visit(a, "cats")
    with pytest.raises(OverflowError, match="'cats'"):
        a.visit("cats")


def test_a_lost_delta_is_repaired_at_the_next_one(network: Network) -> None:
    a, b = network.node("a"), network.node("b")
    network.seconds(2)
    network.lose = lambda _source, _target, body: isinstance(body, Delta)
    network.visit(a, "cats", "dogs")
    network.publish("a")
    network.lose = lambda *_: False
    assert b.counter("dogs") == {}
    network.visit(a, "cats")
    network.publish("a")
    assert b.counter("cats") == {a.member: 2}
    assert b.counter("dogs") == {a.member: 1}


def test_a_lost_last_delta_is_repaired_at_the_next_report(network: Network) -> None:
    a, b = network.node("a"), network.node("b")
    network.seconds(2)
    network.visit(a, "cats")
    network.lose = lambda _source, _target, body: isinstance(body, Delta)
    network.second()
    assert b.counter("cats") == {a.member: 1}


def test_nothing_is_asked_when_nothing_is_lost(network: Network) -> None:
    for name in "abc":
        network.node(name)
    network.seconds(2)
    network.sent.clear()
    for _ in range(5):
        for name in "abc":
            network.visit(network.nodes[name], "cats", f"only-{name}")
            network.publish(name)
        # Not published yet: a report must not let this look like a loss.
        network.visit(network.nodes["a"], "later")
        for name in "abc":
            network.do(name, network.nodes[name].sync(network.now))
        network.now += 1.0
    assert network.asks() == []


def test_repeated_and_late_messages_do_no_harm(network: Network) -> None:
    a, b = network.node("a"), network.node("b")
    network.seconds(2)
    network.sent.clear()
    for _ in range(3):
        network.visit(a, "cats")
        network.second()
    old = [(source, target, body) for source, target, body in network.sent if target == "b"]
    for source, target, body in reversed(old + old):
        network.deliver(source, target, body)
    assert b.counter("cats") == {a.member: 3}
    assert b.tally.totals() == a.tally.totals()


def test_a_large_change_goes_out_in_messages_of_bounded_size(network: Network) -> None:
    a, b = network.node("a"), network.node("b")
    network.seconds(2)
    network.sent.clear()
    network.visit(a, *(f"{number:0128}" for number in range(5000)))
    network.publish("a")
    deltas = [body for _, _, body in network.sent if isinstance(body, Delta)]
    assert len(deltas) > 5
    assert b.tally.total(a.id) == 5000
    assert network.asks() == [], "the total of each part is what the parts so far add up to"


def test_a_large_loss_is_repaired_in_pages_of_bounded_size(network: Network) -> None:
    a, b = network.node("a"), network.node("b")
    network.seconds(2)
    network.lose = lambda _source, _target, body: isinstance(body, Delta)
    network.visit(a, *(f"{number:0128}" for number in range(30_000)))
    network.second()
    answers = [body for _, _, body in network.sent if isinstance(body, RepairPage | RowsPage)]
    assert len(answers) > 30
    assert b.tally.totals() == a.tally.totals()


def test_any_node_repairs_what_a_gone_node_had_told_it(network: Network) -> None:
    a, b, c = (network.node(name) for name in "abc")
    network.seconds(2)
    network.lose = lambda _source, target, _body: target == "c"
    network.visit(a, "cats")
    network.second()
    del network.nodes["a"]
    network.lose = lambda *_: False
    assert b.counter("cats") == {a.member: 1}
    assert c.counter("cats") == {}
    network.seconds(4)
    assert c.counter("cats") == {a.member: 1}


@pytest.mark.parametrize("second", ["dogs", "video-20"])
def test_copies_with_equal_totals_but_different_content_are_joined(
    network: Network, second: str
) -> None:
    videos = Videos()
    one, other = (videos.buckets[videos.row(video)] % 16 for video in ("cats", second))
    assert (one == other) == (second != "dogs")
    a, b, c = (network.node(name) for name in "abc")
    network.seconds(2)
    gone = a.id
    for video, hears in (("cats", "b"), (second, "c")):
        network.lose = lambda _s, target, body, hears=hears: (  # type: ignore[misc]
            target != hears or not isinstance(body, Delta)
        )
        network.visit(a, video)
        network.publish("a")
    del network.nodes["a"]
    # Only the deltas passed, each to one of them: both copies have the total 1.
    assert b.tally.total(gone) == c.tally.total(gone) == 1
    assert b.counter("cats") != c.counter("cats")
    network.lose = lambda *_: False
    network.seconds(5)
    assert b.tally.total(gone) == c.tally.total(gone) == 2
    assert b.counter("cats") == c.counter("cats") == {a.member: 1}


def test_what_a_killed_node_had_only_stored_is_told_as_soon_as_it_is_back(network: Network) -> None:
    a, b = network.node("a"), network.node("b")
    network.seconds(2)
    network.visit(a, "cats")
    del network.nodes["a"]
    again = network.node("a", run=1)
    again.recovery.loaded(a.id, dict(a.tally.vector(a.id).items()))
    network.seconds(1)
    assert b.counter("cats") == {a.member: 1}, "nobody waits for the silence of a run that ended"


def test_nobody_else_raises_a_live_replicas_vector(network: Network) -> None:
    a, b = network.node("a"), network.node("b")
    network.seconds(2)
    network.visit(a, "cats")
    network.second()
    for body in (RepairPage(a.id, {"cats": 100}, None), reported(a.id, 500)):
        a.receive(Envelope(b.id, "b", 0, body), network.now)
    assert a.counter("cats") == {a.member: 1}


def test_a_node_alone_is_ready_at_once_or_after_the_join_timeout(network: Network) -> None:
    alone, waiting = network.node("a", has_peers=False), network.node("b")
    alone.sync(0.0)
    assert state(alone) == "ready"
    waiting.sync(4.9)
    assert state(waiting) == "joining"
    waiting.sync(5.0)
    assert state(waiting) == "ready"


def test_a_node_is_ready_only_when_it_holds_what_its_peers_advertise(network: Network) -> None:
    a = network.node("a")
    network.visit(a, "cats")
    network.seconds(6)
    b = network.node("b")
    network.lose = lambda _source, _target, body: isinstance(body, RepairPage)
    network.seconds(4)
    assert state(b) == "joining"
    assert b.counter("cats") == {}
    network.lose = lambda *_: False
    network.seconds(2)
    assert state(b) == "ready"
    assert b.complete
    assert b.counter("cats") == {a.member: 1}


def test_a_node_that_a_writer_cannot_hear_is_helped_by_another(network: Network) -> None:
    a, _ = network.node("a"), network.node("b")
    network.visit(a, "cats")
    network.seconds(6)
    network.lose = lambda source, target, _body: (source, target) == ("c", "a")
    c = network.node("c")
    network.seconds(5)
    assert c.counter("cats") == {a.member: 1}
    assert state(c) == "ready"


def test_a_node_that_hears_a_peer_waits_for_its_report(network: Network) -> None:
    a, b = network.node("a"), network.node("b")
    envelope = Envelope(a.id, "a", 0, Delta({"cats": 1}, 1))
    network.now = 4.0
    b.receive(envelope, network.now)
    b.sync(network.now)
    assert state(b) == "joining"
    b.receive(Envelope(a.id, "a", 0, reported(a.id, 1)), network.now)
    assert state(b) == "ready"
    assert b.complete


def test_joining_takes_a_round_trip_not_an_interval(network: Network) -> None:
    a = network.node("a")
    network.visit(a, "cats")
    network.seconds(6)
    b = network.node("b")
    network.do("b", b.sync(network.now))
    assert state(b) == "ready"
    assert b.counter("cats") == {a.member: 1}


def test_a_peer_that_returns_from_silence_is_told_at_once(network: Network) -> None:
    a, b = network.node("a"), network.node("b")
    network.seconds(2)
    network.lose = lambda *_: True
    network.visit(a, "cats")
    network.seconds(20)
    network.lose = lambda *_: False
    network.do("b", b.sync(network.now))
    assert b.counter("cats") == {a.member: 1}


def test_nodes_learn_of_each_other_from_reports(network: Network) -> None:
    a = network.node("a")
    for name in "bc":
        network.node(name)
    told: set[tuple[str, str]] = set()

    def only_direct(source: str, target: str, body: Body) -> bool:
        """B and C know only A's address at first; a direct message makes an address known."""
        if (source, target) in {("b", "c"), ("c", "b")}:
            knows = target in {
                peer
                for s, t, b in network.sent
                if t == source and isinstance(b, Report)
                for peer in b.peers.values()
            }
            told.add((source, target)) if knows else None
            return not knows
        return False

    network.lose = only_direct
    network.seconds(3)
    assert told == {("b", "c"), ("c", "b")}
    assert {member.member for member in network.nodes["b"].roster.members(network.now)} >= {
        a.member
    }


def test_a_leaving_node_waits_for_a_live_peer_to_hold_its_visits(network: Network) -> None:
    a, b = network.node("a"), network.node("b")
    network.seconds(2)
    network.lose = lambda *_: True
    network.visit(a, "cats")
    network.publish("a")
    assert not a.held(network.now)
    network.lose = lambda *_: False
    network.do("a", a.leave(network.now))
    assert b.counter("cats") == {a.member: 1}
    network.do("b", b.sync(network.now))
    assert a.held(network.now)


def test_a_leaving_node_waits_for_nobody_when_nobody_stays(network: Network) -> None:
    a, b = network.node("a"), network.node("b")
    network.seconds(2)
    network.visit(a, "cats")
    b.leave(network.now)
    network.do("b", Effects(broadcast=[Report("leaving", {}, {}, 0)]))
    assert a.held(network.now)
    del network.nodes["b"]
    network.node("b")
    network.seconds(1)
    network.lose = lambda *_: True
    network.visit(a, "cats")
    assert not a.held(network.now)
    network.now += 4.0
    assert a.held(network.now), "the other was not heard for so long that it is not live"


def test_members_are_those_heard_and_those_with_counts(network: Network) -> None:
    a, b = network.node("a"), network.node("b")
    old = "old~0000000000001.00000000000000000000001"
    a.recovery.opened([old], {})
    a.recovery.loaded(old, {"cats": 4})
    network.visit(b, "cats")
    network.seconds(2)
    members = {member.member: member for member in a.roster.members(network.now)}
    assert set(members) == {a.member, b.member, "old~0000000000001"}
    assert members[b.member].live
    assert members[b.member].behind == 0
    assert not members["old~0000000000001"].live
    assert members["old~0000000000001"].visits == 4
    del network.nodes["b"]
    network.seconds(4)
    assert not {member.member: member for member in a.roster.members(network.now)}[b.member].live


def condition(*, store: bool = True) -> Health:
    return Health(("sqlite", store), ("mesh", True))


def shown(viewer: Replica, network: Network, member: str) -> Health | None:
    return {each.member: each for each in viewer.roster.members(network.now)}[member].health


def told(network: Network, replica: Replica) -> int:
    """How many reports with a condition it has sent."""
    return sum(
        source == replica.name and isinstance(body, Report) and body.health is not None
        for source, _target, body in network.sent
    )


def test_a_condition_is_told_when_it_changes_and_now_and_then(network: Network) -> None:
    a, b = network.node("a"), network.node("b")
    network.seconds(3)
    assert shown(b, network, a.member) is None
    a.reports.health = condition()
    network.second()
    assert shown(b, network, a.member) == shown(a, network, a.member) == condition()
    network.seconds(9)
    assert told(network, a) == 1
    a.reports.health = condition(store=False)
    network.second()
    assert shown(b, network, a.member) == condition(store=False)
    network.seconds(10)
    assert told(network, a) == 3
    assert told(network, b) == 0


def test_a_condition_that_was_lost_is_told_again(network: Network) -> None:
    a, b = network.node("a"), network.node("b")
    network.seconds(3)
    a.reports.health = condition()
    network.lose = lambda source, _target, _body: source == "a"
    network.second()
    network.lose = lambda _source, _target, _body: False
    assert shown(b, network, a.member) is None
    network.seconds(10)
    assert shown(b, network, a.member) == condition()
    # Who is new is told at once.
    c = network.node("c")
    network.second()
    assert shown(c, network, a.member) == condition()


def test_nothing_is_known_of_the_condition_of_a_silent_member(network: Network) -> None:
    a, b = network.node("a"), network.node("b")
    a.reports.health = condition()
    network.seconds(3)
    assert shown(b, network, a.member) == condition()
    del network.nodes["a"]
    network.seconds(5)
    assert shown(b, network, a.member) is None


def test_messages_are_counted_by_member(network: Network) -> None:
    a, b = network.node("a"), network.node("b")
    network.seconds(3)
    before = b.peers.messages[a.member]
    network.seconds(5)
    assert b.peers.messages[a.member] == before + 5
    network.node("a", run=1)
    network.second()
    assert b.peers.messages[a.member] > before + 5


def test_run_ids_sort_by_start_and_never_go_back() -> None:
    run = mint_run(1_795_417_705_423, "", 5)
    assert len(run) == 23
    assert mint_run(1_795_417_705_424, run, 0) > run
    assert mint_run(1_700_000_000_000, run, 0) > run, "a clock that was set back"
    assert mint_run(1_795_417_705_423, "", 6) > run
    assert mint_run(1_795_417_705_423, "", 6)[:10] == run[:10]
    assert len(mint_store(2**64 - 1)) == 13
    assert encode_id(2**64 - 1, 13) == "fzzzzzzzzzzzz"


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(2, 4), st.integers(0, 60))
def test_any_history_of_losses_repetitions_and_reorderings_ends_exact(
    choose: random.Random, size: int, loss: int
) -> None:
    network = Network()
    names = "abcd"[:size]
    for name in names:
        network.node(name)
    late: list[tuple[str, str, Body]] = []

    def whims(source: str, target: str, body: Body) -> bool:
        fate = choose.randrange(100)
        if fate < loss:
            late.append((source, target, body))
        return fate < loss

    network.lose = whims
    visits = 0
    shown: dict[str, int] = {}
    for _ in range(60):
        name = choose.choice(names)
        step = choose.randrange(4)
        if step == 0:
            network.visit(network.nodes[name], *choose.choices("xyz", k=3))
            visits += 3
        elif step == 1:
            network.publish(name)
        elif step == 2 and late:
            source, target, body = choose.choice(late)
            network.deliver(source, target, body)
        else:
            network.second()
        for name in names:
            total = sum(network.nodes[name].tally.visits(video) for video in "xyz")
            assert total >= shown.get(name, 0)
            shown[name] = total
    network.lose = lambda *_: False
    network.seconds(4)
    for name in names:
        assert sum(network.nodes[name].tally.visits(video) for video in "xyz") == visits
        assert state(network.nodes[name]) == "ready"


# -- reports


def reports(network: Network, source: str) -> list[Report]:
    return [
        body for sender, _, body in network.sent if sender == source and isinstance(body, Report)
    ]


def test_an_idle_cluster_tells_nothing_but_a_checksum(network: Network) -> None:
    nodes = [network.node(name) for name in "abcdef"]
    for node in nodes:
        network.visit(node, "cats")
    network.seconds(6)
    network.sent.clear()
    network.seconds(3)
    assert len(reports(network, "a")) == 3 * 5
    assert all(report.members == {} for report in reports(network, "a"))
    assert len({report.checksum for name in "abcdef" for report in reports(network, name)}) == 1
    assert not any(isinstance(body, ReportRequest) for _, _, body in network.sent)


def test_who_missed_a_report_asks_for_all_that_was_said(network: Network) -> None:
    a, b = network.node("a"), network.node("b")
    network.seconds(3)
    gone = "gone~0000000000001"
    network.lose = lambda _s, target, _b: target == "b"
    a.remove(gone, network.now)
    network.do(
        "a", a.receive(Envelope(f"{gone}.{'0' * 23}", "", 0, reported(b.id, 0)), network.now)
    )
    network.second()
    assert gone not in b.members
    network.lose = lambda *_: False
    network.sent.clear()
    network.second()
    assert gone in b.members
    assert [source for source, _, body in network.sent if isinstance(body, ReportRequest)] == ["b"]


def test_a_report_tells_of_some_growing_vectors_at_a_time_and_in_turn_of_all(
    network: Network,
) -> None:
    nodes = [network.node(f"n{number}") for number in range(25)]
    network.seconds(3)
    for _ in range(6):
        for node in nodes:
            network.visit(node, "cats")
        network.sent.clear()
        network.second()
        assert max(len(report.members) for report in reports(network, "n0")) <= 21
    # Nobody missed anything, nor waits for more than a few seconds to know that others have it.
    assert not network.asks()
    assert max(member.behind or 0 for member in nodes[0].roster.members(network.now)) <= 4
