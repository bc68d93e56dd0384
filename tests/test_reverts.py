"""A machine that is put back to a snapshot with its memory, in virtual time.

The node goes on from less than the others have heard of its run. It must notice that within a
`SYNC_INTERVAL`, and lose no more than the smaller of what it counts before and of what it had lost.
"""

import copy

import pytest

from counter.crdt.ids import is_folded
from counter.protocol.messages import (
    Body,
    Delta,
    Envelope,
    Larger,
    MemberReport,
    RepairPage,
    RepairRequest,
    Report,
)
from counter.protocol.replica import Replica
from tests.protocol import Network


@pytest.fixture
def network() -> Network:
    """Three nodes that hear each other; the first has counted 5 visits of cats."""
    network = Network(fold_after=1000.0)
    a = network.node("a")
    network.node("b")
    network.node("c")
    network.visit(a, *["cats"] * 5)
    network.live(3)
    assert network.nodes["c"].counter("cats") == {a.member: 5}
    return network


def put_back(network: Network, name: str, snapshot: Replica) -> Replica:
    """The machine of a node is as it was when the snapshot was made, memory and store."""
    network.nodes[name] = snapshot
    return snapshot


def take_snapshot(network: Network, name: str) -> Replica:
    return copy.deepcopy(network.nodes[name])


def visits(network: Network, video: str) -> set[int]:
    """What the nodes show."""
    return {node.tally.visits(video) for node in network.nodes.values()}


def larger(network: Network) -> list[Larger]:
    return [body for _, _, body in network.sent if isinstance(body, Larger)]


LOST = ["cats"] * 3 + ["dogs"]


@pytest.mark.parametrize(
    ("new", "cats", "mice"),
    [
        ([], 8, 0),
        (["mice"], 8, 1),
        (["mice"] * 4, 8, 4),  # as much as was lost: equal totals
        (["mice"] * 9, 8, 9),  # more: its total is larger than what the others hold
        (["cats"] * 2, 8, 0),  # given up: both stand in one run, and the larger count is kept
        (["cats"] * 3, 8, 0),
        (["cats"] * 7, 12, 0),
        (["cats", "mice"], 8, 1),
    ],
)
@pytest.mark.parametrize("published", [True, False])
def test_it_is_noticed_within_an_interval_and_nothing_else_is_lost(
    network: Network, new: list[str], cats: int, mice: int, published: bool
) -> None:
    snapshot = take_snapshot(network, "a")
    network.visit(network.nodes["a"], *LOST)
    network.live(2)
    a = put_back(network, "a", snapshot)
    run = a.id
    network.visit(a, *new)
    if published:
        network.publish("a")
    network.live(1)
    assert a.id > run, "a new run has begun"
    network.visit(a, "cats", "mice")
    network.live(5)
    assert visits(network, "cats") == {cats + 1}
    assert visits(network, "mice") == {mice + 1}
    assert visits(network, "dogs") == {1}
    tried = 5 + len(LOST) + len(new) + 2
    shown = cats + mice + 3
    assert tried - min(len(new), len(LOST)) <= shown <= tried
    before = a.id
    network.live(10)
    assert a.id == before, "it was put back once"
    assert a.complete


def test_nothing_that_is_shown_falls_and_nothing_is_above_what_was_tried(
    network: Network,
) -> None:
    snapshot = take_snapshot(network, "a")
    tried = 5
    for _ in range(3):
        network.visit(network.nodes["a"], "cats", "dogs")
        tried += 2
        network.live(1)
    a = put_back(network, "a", snapshot)
    shown = dict.fromkeys("bc", 0)
    for _ in range(12):
        network.visit(a, "cats", "mice")
        tried += 2
        network.publish("a")
        network.live(1)
        for name in "bc":
            now = sum(network.nodes[name].tally.totals().values())
            assert shown[name] <= now <= tried
            shown[name] = now
    assert tried - 6 <= sum(a.tally.totals().values()) <= tried
    assert visits(network, "mice") == {12}


def test_it_takes_nothing_in_before_all_of_it_has_come(network: Network) -> None:
    snapshot = take_snapshot(network, "a")
    network.visit(network.nodes["a"], *(f"{number:0128}" for number in range(2_000)))
    network.live(2)
    a = put_back(network, "a", snapshot)
    pages = 0

    def one_page(_source: str, target: str, body: Body) -> bool:
        nonlocal pages
        page = isinstance(body, RepairPage) and target == "a"
        pages += page
        return page and pages > 1

    network.lose = one_page
    run = a.id
    network.second()
    assert pages > 1
    assert not a.needs_new_run
    network.lose = lambda *_: False
    network.live(4)
    assert a.id > run
    network.live(3)
    assert {sum(node.tally.totals().values()) for node in network.nodes.values()} == {2_005}


def test_the_old_run_rests_and_is_repaired_like_any_other(network: Network) -> None:
    snapshot = take_snapshot(network, "a")
    network.visit(network.nodes["a"], *LOST)
    network.live(2)
    a = put_back(network, "a", snapshot)
    run = a.id
    network.visit(a, "mice")
    network.live(12)
    for node in network.nodes.values():
        assert dict(node.tally.vector(run).items()) == {"cats": 8, "dogs": 1, "mice": 1}
        assert node.tally.rests(run)
        assert not any(is_folded(vector) for vector in node.tally.of(a.member))


# -- what is no sign, or no proof


def test_a_message_that_comes_late_starts_no_new_run(network: Network) -> None:
    a, b = network.nodes["a"], network.nodes["b"]
    run = a.id
    late = Delta({"cats": 2}, 2)
    network.visit(a, "cats", "dogs")
    network.live(2)
    network.sent.clear()
    effects = b.receive(Envelope(run, "a", 0, late), network.now)
    assert [body for _, body in effects.send] == [Larger(run, 7, False)], "it may be one"
    network.do("b", effects)
    assert not [body for source, _, body in network.sent if source == "a"]
    for _ in range(5):
        network.do("b", b.receive(Envelope(run, "a", 0, late), network.now))
        network.live(1)
    assert a.id == run
    assert len(larger(network)) <= 6, "once an interval"


def test_messages_in_any_order_start_no_new_run(network: Network) -> None:
    a = network.nodes["a"]
    run = a.id
    late: list[tuple[str, str, Body]] = []

    def hold(source: str, target: str, body: Body) -> bool:
        late.append((source, target, body))
        return isinstance(body, Delta) and source == "a" and target == "b"

    network.lose = hold
    for _ in range(3):
        network.visit(a, "cats", "mice")
        network.live(1)
    network.lose = lambda *_: False
    for message in reversed(late):
        network.deliver(*message)
    network.live(3)
    assert a.id == run
    assert visits(network, "cats") == {8}
    assert visits(network, "mice") == {3}


@pytest.mark.parametrize("refused", [True, False])
def test_what_somebody_claims_without_showing_it_starts_no_new_run(
    network: Network, refused: bool
) -> None:
    a, b = network.nodes["a"], network.nodes["b"]
    run = a.id
    network.lose = lambda source, _target, body: source == "b" and isinstance(body, RepairPage)
    for _ in range(3):
        claim = Larger(run, 500, refused)
        network.deliver("b", "a", claim)
        state = MemberReport(run[-23:], "", "", (0, 0), {run[-23:]: (500, None, 0)}, {})
        network.deliver("b", "a", Report("ready", {}, {}, None, states={a.member: state}))
        network.live(1)
    assert [
        body
        for source, _, body in network.sent
        if source == "a" and isinstance(body, RepairRequest)
    ]
    # It shows what is known here, and nothing more.
    network.lose = lambda *_: False
    asked = a.receive(Envelope(b.id, "b", 0, Larger(run, 500, refused)), network.now)
    network.do("a", asked)
    network.live(3)
    assert a.id == run
    assert not a.needs_new_run
    assert visits(network, "cats") == {5}


def test_larger_counts_of_its_run_that_it_did_not_ask_for_start_no_new_run(
    network: Network,
) -> None:
    a, b = network.nodes["a"], network.nodes["b"]
    run = a.id
    network.now += 10.0
    for total in (None, 500):
        a.receive(Envelope(b.id, "b", 0, RepairPage(run, {"cats": 500}, None, total)), network.now)
    assert not a.needs_new_run
    network.live(3)
    assert a.id == run
    assert visits(network, "cats") == {5}


def test_what_is_said_of_another_run_is_nothing_to_it(network: Network) -> None:
    a, b = network.nodes["a"], network.nodes["b"]
    effects = a.receive(Envelope(b.id, "b", 0, Larger(b.id, 500, True)), network.now)
    assert effects.send == []


def test_a_count_beyond_the_total_that_its_writer_told_is_not_taken_alone(
    network: Network,
) -> None:
    a, b = network.nodes["a"], network.nodes["b"]
    delta = Delta({"cats": 6, "dogs": 100}, 6)
    effects = b.receive(Envelope(a.id, "a", 0, delta), network.now)
    assert effects.grew == {"cats"}
    assert b.tally.visits("dogs") == 0
    assert ("a", Larger(a.id, 6, True)) in effects.send


def test_whoever_writes_a_vector_is_told_and_nobody_else(network: Network) -> None:
    """Another that holds less of a vector has only heard less of it."""
    a, b = network.nodes["a"], network.nodes["b"]
    network.lose = lambda _source, target, _body: target == "c"
    network.visit(a, "cats")
    network.live(1)
    network.lose = lambda *_: False
    network.sent.clear()
    network.do("c", network.nodes["c"].sync(network.now))
    network.live(2)
    assert larger(network) == []
    assert b.counter("cats") == {a.member: 6}


@pytest.mark.parametrize("seconds", [5, 60])
def test_keys_of_before_and_after_are_known_everywhere(network: Network, seconds: int) -> None:
    snapshot = take_snapshot(network, "a")
    assert network.post("a", "before", "birds") == "counted"
    network.live(2)
    put_back(network, "a", snapshot)
    assert network.post("a", "since", "mice") == "counted"
    network.live(seconds)
    for name in "abc":
        assert network.post(name, "before", "birds") == "committed"
        assert network.post(name, "since", "mice") == "committed"
    network.live(3)
    assert (visits(network, "birds"), visits(network, "mice")) == ({1}, {1})
    assert [node.keys.counted_again for node in network.nodes.values()] == [0, 0, 0]
