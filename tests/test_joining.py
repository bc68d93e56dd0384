"""Joining in virtual time: a node waits as long as there is progress, and says what it lacks."""

import pytest

from counter.crdt.ids import encode_id, member_of, run_of
from counter.protocol.announced import Announced
from counter.protocol.messages import (
    Body,
    Delta,
    Envelope,
    MemberReport,
    RepairPage,
    RepairRequest,
    Report,
    ReportRequest,
    RunsRequest,
)
from counter.protocol.replica import Replica
from tests.protocol import TTL, Network


@pytest.fixture
def network() -> Network:
    return Network(fold_after=1000.0)


def state(replica: Replica) -> str:
    return replica.state


def with_history(network: Network, name: str, *videos: str) -> Replica:
    """A node whose store holds an earlier run with these visits."""
    before = network.node(name, has_peers=False)
    network.visit(before, *videos)
    return network.restart(name, 1000)


def test_a_node_joins_for_as_long_as_something_comes(network: Network) -> None:
    a = with_history(network, "a", *(f"{number:0128}" for number in range(2_000)))
    network.seconds(6)
    assert a.complete
    b = network.node("b")
    passed = network.now

    def one_page_in_three_seconds(_source: str, target: str, body: Body) -> bool:
        nonlocal passed
        if not isinstance(body, RepairPage) or target != "b":
            return False
        if network.now < passed + 3.0:
            return True
        passed = network.now
        return False

    network.lose = one_page_in_three_seconds
    began = network.now
    while b.tally.total(a.tally.of(a.member)[0]) < 2_000:
        assert state(b) == "joining"
        assert not b.complete
        network.second()
        assert network.now < began + 60.0
    assert network.now > began + 10.0, "twice the time that it waits without progress"
    network.seconds(1)
    assert state(b) == "ready"
    assert b.complete
    assert b.joining.lacks(network.now) == []


def test_a_node_tells_what_its_store_holds_from_its_first_word_on(network: Network) -> None:
    """Who hears the first word of a node that has just started does not take it for all."""
    a, b = with_history(network, "a", "cats"), network.node("b")
    network.lose = lambda _source, target, _body: target == "a"
    network.do("b", b.sync(network.now))
    envelope = Envelope(b.id, "b", 0, Report("joining", {}, {}, None, {}, said=0))
    network.do("a", a.receive(envelope, network.now))
    assert not b.complete
    assert {lack.what for lack in b.joining.lacks(network.now)} == {"closed runs of day 0"}
    network.lose = lambda *_: False
    network.seconds(1)
    assert b.complete
    assert b.counter("cats") == {a.member: 1}


def test_without_progress_a_node_is_ready_and_says_what_it_lacks(network: Network) -> None:
    a = with_history(network, "a", "cats")
    network.seconds(6)
    b = network.node("b")
    network.lose = lambda _source, _target, body: isinstance(body, RepairPage)
    network.seconds(4)
    assert state(b) == "joining"
    network.seconds(2)
    assert state(b) == "ready"
    assert not b.complete, "it does not know what was counted"
    run = a.tally.of(a.member)[0]
    assert {(lack.member, lack.what, lack.told_by) for lack in b.joining.lacks(network.now)} == {
        (a.member, run, a.id)
    }
    network.lose = lambda *_: False
    network.seconds(2)
    assert b.complete
    assert b.joining.lacks(network.now) == []
    assert b.counter("cats") == {a.member: 1}


def all_killed_but_one_slow_to_return(network: Network) -> Replica:
    """Two of three show a visit that only the third has stored when all are killed.

    The two start again; the third, which is returned, is not heard yet.
    """
    for name in "abc":
        with_history(network, name, f"only-{name}")
    network.seconds(6)
    third = network.nodes["c"]
    network.visit(third, "cats")
    network.publish("c")
    network.lose = lambda source, _target, _body: source == "c"
    for name in "ab":
        shows = network.nodes[name]
        assert shows.counter("cats") == {third.member: 1}, "before its own store has it"
        network.restart(name, 2000, unstored=third.id)
    return third


def test_a_number_that_was_shown_before_it_was_stored_does_not_fall(network: Network) -> None:
    third = all_killed_but_one_slow_to_return(network)
    network.seconds(2)
    assert [state(network.nodes[name]) for name in "ab"] == ["joining"] * 2
    network.lose = lambda *_: False
    network.seconds(1)
    for name in "ab":
        assert state(network.nodes[name]) == "ready"
        assert network.nodes[name].counter("cats") == {third.member: 1}


def test_a_member_that_is_down_delays_a_start_no_longer_than_one_that_hears_nobody(
    network: Network,
) -> None:
    all_killed_but_one_slow_to_return(network)
    network.seconds(4)
    assert [state(network.nodes[name]) for name in "ab"] == ["joining"] * 2
    network.seconds(1)
    assert [state(network.nodes[name]) for name in "ab"] == ["ready"] * 2


def test_a_member_that_was_removed_delays_no_start(network: Network) -> None:
    third = all_killed_but_one_slow_to_return(network)
    for name in "ab":
        network.nodes[name].members.learn(third.member, "", third.members.latest(third.member))
    network.seconds(1)
    assert [state(network.nodes[name]) for name in "ab"] == ["ready"] * 2


def test_a_delta_that_overtakes_a_report_has_told_the_larger_total(network: Network) -> None:
    a = with_history(network, "a")
    network.visit(a, "cats", "cats")
    network.publish("a")
    network.seconds(6)
    b = network.node("b")
    late: list[Body] = []

    def is_late(_source: str, target: str, body: Body) -> bool:
        if target == "b" and isinstance(body, Report):
            late.append(body)
        return target == "b" and not isinstance(body, Delta)

    network.lose = is_late
    network.second()
    assert late
    network.visit(a, "dogs", "dogs", "dogs")
    network.publish("a")
    assert b.tally.total(a.id) == 3, "as much as the report will tell, and something else"
    network.lose = lambda _source, _target, body: isinstance(body, RepairPage)
    for report in late:
        network.deliver("a", "b", report)
    assert not b.complete
    assert a.id in {lack.what for lack in b.joining.lacks(network.now)}
    network.lose = lambda *_: False
    network.seconds(2)
    assert b.complete
    assert b.counter("cats") == {a.member: 2}


def test_a_ring_in_which_each_hears_one_other_is_ready_after_a_while(network: Network) -> None:
    nodes = [with_history(network, name, f"only-{name}") for name in "abc"]
    hears = {("b", "a"), ("c", "b"), ("a", "c")}
    network.lose = lambda source, target, _body: (source, target) not in hears
    network.seconds(4)
    assert [state(node) for node in nodes] == ["joining"] * 3
    network.seconds(3)
    assert [state(node) for node in nodes] == ["ready"] * 3
    for node, heard in zip(nodes, "bca", strict=True):
        assert not node.complete
        assert {lack.member for lack in node.joining.lacks(network.now)} == {
            network.nodes[heard].member
        }
    network.seconds(20)
    assert not any(node.complete for node in nodes)
    network.lose = lambda *_: False
    network.seconds(3)
    for node in nodes:
        assert node.complete
        assert node.joining.lacks(network.now) == []
        assert all(node.tally.visits(f"only-{name}") == 1 for name in "abc")


def test_a_node_that_hears_and_is_not_heard_is_ready_after_a_while(network: Network) -> None:
    a = with_history(network, "a", "cats")
    network.seconds(6)
    b = network.node("b")
    network.lose = lambda source, _target, _body: source == "b"
    network.seconds(4)
    assert state(b) == "joining"
    network.seconds(3)
    assert state(b) == "ready"
    assert not b.complete
    assert {lack.told_by for lack in b.joining.lacks(network.now)} == {a.id}
    network.visit(b, "cats")
    network.lose = lambda *_: False
    network.seconds(3)
    assert b.complete
    assert {node.tally.visits("cats") for node in network.nodes.values()} == {2}


def test_a_node_that_has_been_complete_stays_so(network: Network) -> None:
    a, b = network.node("a"), network.node("b")
    network.seconds(3)
    assert a.complete
    network.visit(b, "cats")
    network.lose = lambda _source, target, body: target == "a" and not isinstance(body, Report)
    network.seconds(20)
    assert a.complete
    assert state(a) == "ready"
    assert a.joining.lacks(network.now) == []


def test_a_leaving_node_does_not_become_ready_again(network: Network) -> None:
    a = network.node("a")
    network.node("b")
    a.leave(network.now)
    network.seconds(20)
    assert state(a) == "leaving"


def test_a_run_that_is_closed_at_a_peer_is_named_before_a_node_is_complete(
    network: Network,
) -> None:
    a = with_history(network, "a", "cats")
    network.seconds(20)
    (run, *_) = a.tally.of(a.member)
    assert a.runs.is_closed(run)
    b = network.node("b")
    network.lose = lambda source, _target, body: source == "a" and not isinstance(body, Report)
    network.seconds(4)
    assert {lack.what for lack in b.joining.lacks(network.now)} == {"closed runs of day 0"}
    network.lose = lambda *_: False
    network.seconds(1)
    assert b.complete
    assert b.counter("cats") == {a.member: 1}


# -- what cannot be read here


def test_an_entry_that_is_refused_stops_neither_readiness_nor_repair(network: Network) -> None:
    """What it is about stays unknown; the sender is not asked for it again and again."""
    a, b = network.node("a"), network.node("b")
    run = run_of(a.id)
    said = Announced()
    good = MemberReport(run, "", "", (0, 0), {run: (3, None, 0)}, {})
    said.say(member_of(a.id), good)
    said.say("gone~0000000000001", MemberReport("", "", "", (0, 0), {}, {0: (1, 1)}))
    report = Report("ready", {}, {}, None, {}, states={a.member: good}, said=said.checksum)
    asked = b.receive(Envelope(a.id, "a", 0, report), network.now, refused=True)
    assert not any(isinstance(body, ReportRequest) for _, body in asked.send)
    assert [body.vector for _, body in asked.send if isinstance(body, RepairRequest)] == [a.id]
    network.now += 1.0
    b.receive(Envelope(a.id, "a", 0, RepairPage(a.id, {"cats": 3}, None, 3)), network.now)
    assert b.counter("cats") == {a.member: 3}
    assert b.complete
    # What follows is heard as ever, and a report that is missed is asked for.
    more = MemberReport(run, "", "", (0, 0), {run: (4, None, 0)}, {})
    said.say(a.member, more)
    network.now += 1.0
    report = Report("ready", {}, {}, None, {}, states={a.member: more}, said=said.checksum)
    sent = b.receive(Envelope(a.id, "a", 0, report), network.now).send
    assert not any(isinstance(body, ReportRequest) for _, body in sent)
    said.say("missed~0000000000001", good)
    network.now += 1.0
    report = Report("ready", {}, {}, None, {}, said=said.checksum)
    sent = b.receive(Envelope(a.id, "a", 0, report), network.now).send
    assert [body for _, body in sent if isinstance(body, ReportRequest)] == [ReportRequest()]


def test_what_others_count_meanwhile_is_no_progress(network: Network) -> None:
    for name in "bac":
        network.node(name)
    network.live(3)

    def lose(source: str, target: str, _body: Body) -> bool:
        # b hears nobody, and only n hears it; n and c hear of each other by a.
        only_n_hears_b = target == "b" or (source == "b" and target != "n")
        return only_n_hears_b or {source, target} == {"n", "c"}

    network.lose = lose
    network.visit(network.nodes["b"], "cats")
    network.live(2)
    joining = network.node("n")
    for _ in range(30):
        network.visit(network.nodes["c"], "cats")
        network.live(1)
    assert state(joining) == "ready"
    assert {lack.what for lack in joining.joining.lacks(network.now)} == {"reports"}


def test_names_whose_day_changes_between_two_pages_are_asked_for_again(network: Network) -> None:
    a = network.node("a")
    a.reports.runs_a_page = 2
    gone = "x~" + "7" * 13
    runs = [f"{gone}.{encode_id(number, 23)}" for number in range(1, 8)]
    for run in runs[:5]:
        a.recovery.loaded(run, {"cats": 1})
        a.members.learn(gone, run_of(run))
    network.seconds(2)
    for run in runs[5:]:
        a.receive(Envelope(run, "", 0, Delta({"cats": 1}, 1)), network.now)
    network.seconds(int(TTL))
    assert len(a.runs.closed(gone)) == 5
    changed = False

    def change(_source: str, _target: str, body: Body) -> bool:
        nonlocal changed
        if isinstance(body, RunsRequest) and body.after and not changed:
            changed = True
            network.now += 0.5
            a.runs.look(network.now)
            assert len(a.runs.closed(gone)) == 6
        return False

    network.lose = change
    b = network.node("b")
    network.seconds(3)
    assert changed
    assert b.complete
    assert b.tally.visits("cats") == a.tally.visits("cats") == 7
