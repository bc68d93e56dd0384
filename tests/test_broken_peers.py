"""A peer that holds the secret but is broken: what it says ends no thread and changes no count."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from counter.crdt import ids
from counter.crdt.extract import Extract
from counter.crdt.gcounter import MAX_COUNT
from counter.crdt.ids import day_of, encode_id, folded_of, member_of, mint_run, run_of
from counter.crdt.tally import Tally
from counter.crdt.vector import MAX_VECTOR_TOTAL
from counter.protocol import announced, members, messages, peers
from counter.protocol.messages import (
    MAX_PEERS_TOLD,
    Body,
    Delta,
    Envelope,
    Health,
    KeysPage,
    KeysRequest,
    Larger,
    MemberReport,
    PreviousMemberReport,
    RepairPage,
    RepairRequest,
    Report,
    ReportRequest,
    RunsPage,
    RunsRequest,
)
from counter.protocol.positions import Position
from counter.protocol.questions import Questions
from counter.transport import mesh
from counter.transport.hub import Hub
from lab.clients import until
from tests.kept import Talking, talking
from tests.protocol import TTL, Network
from tests.test_gossip import count, metric

LATEST_RUN = "06k7ms39zz" + "z" * 13
BROKEN = "x"


def stranger(number: int) -> str:
    """A run of a member that nobody else has heard of."""
    return f"stranger~{encode_id(number, 13)}.{mint_run(1_700_000_000_000, '', number)}"


def hear(network: Network, name: str, sender: str, body: Body, address: str = "") -> Any:
    """Have a node hear a message, and deliver what follows; return the effects."""
    effects = network.nodes[name].receive(
        Envelope(sender, address, round(network.now * 1000), body), network.now
    )
    network.do(name, effects)
    return effects


@pytest.fixture
def network() -> Network:
    """Two nodes that hear each other; the first has counted 3 visits of cats."""
    network = Network(fold_after=1000.0)
    a = network.node("a")
    network.node("b")
    network.visit(a, *["cats"] * 3)
    network.live(3)
    return network


# -- numbers


def test_no_number_of_counts_overflows_a_sum() -> None:
    tally = Tally()
    for number in range(2100):
        assert tally.merge(stranger(number), {"cats": MAX_COUNT}) == {"cats": MAX_COUNT}
    tally.merge("a~0000000000000.00000000000000000000001", {"cats": 7, "dogs": 1})
    assert tally.visits("cats") == MAX_COUNT
    assert tally.counter("cats")["a~0000000000000"] == 7, "what is right of it stays"


@pytest.mark.parametrize("videos", [1, 2000], ids=["in a dict", "in an array"])
def test_a_sum_that_had_stopped_is_exact_again(
    monkeypatch: pytest.MonkeyPatch, videos: int
) -> None:
    monkeypatch.setattr("counter.crdt.tally.LARGEST_SUM", 3 * MAX_COUNT)
    tally, member = Tally(), "a~0000000000000"
    vectors = [f"{member}.{encode_id(number, 23)}" for number in range(1, 6)]
    for vector in vectors:
        tally.merge(vector, {"cats": MAX_COUNT} | {f"v{number}": 1 for number in range(videos)})
    for left, vector in zip([4, 3, 2, 1], vectors, strict=False):
        tally.discard(vector)
        assert tally.counter("cats") == {member: min(left, 3) * MAX_COUNT}
    assert tally.counter("v0") == {member: 1}


def test_no_vector_grows_beyond_what_can_be_told(network: Network) -> None:
    a, own = network.nodes["a"], stranger(1)
    most = MAX_VECTOR_TOTAL // MAX_COUNT + 1
    for first in range(0, most + 100, 100):
        counts = {f"v{number}": MAX_COUNT for number in range(first, first + 100)}
        hear(network, "a", own, Delta(counts, 2**63 - 1))
    assert a.tally.total(own) <= MAX_VECTOR_TOTAL
    network.live(3)
    assert network.nodes["b"].counter("cats") == {a.member: 3}, "reports go on"
    # Runs of it that come to more than one folded vector can hold.
    mark = mint_run(1_800_000_000_000, "", 1)
    for number in range(4):
        other = f"{member_of(own)}.{mint_run(1_750_000_000_000 + number, '', number)}"
        counts = {f"w{number}.{one}": MAX_COUNT for one in range(400)}
        hear(network, "a", other, Delta(counts, 2**63 - 1))
    told = MemberReport(mark, "", mark, (0, 0), {}, {})
    hear(network, "a", own, Report("ready", {}, {}, None, states={member_of(own): told}))
    for _ in range(5):
        a.stored(a.batch(100_000))
    assert a.tally.mark(member_of(own)) == mark
    assert a.tally.total(folded_of(member_of(own), mark)) <= MAX_VECTOR_TOTAL
    network.live(3)


# -- what a writer has told


def test_no_count_of_a_writer_that_is_heard_grows_beyond_its_total(network: Network) -> None:
    a, b = network.nodes["a"], network.nodes["b"]
    effects = b.receive(Envelope(a.id, "a", 0, Delta({"cats": 4, "dogs": 9}, 4)), network.now)
    assert effects.beyond == 1, "one count is within the total, the other is not"
    assert b.counter("cats") == {a.member: 4}
    assert b.counter("dogs") == {}
    [larger] = [body for _, body in effects.send if isinstance(body, Larger)]
    assert larger.refused, "the writer is told"


@pytest.mark.parametrize("teller", ["the writer", "another"])
def test_a_page_does_not_go_beyond_the_total_either(network: Network, teller: str) -> None:
    a, b = network.nodes["a"], network.nodes["b"]
    sender, address = (a.id, "a") if teller == "the writer" else (stranger(1), "x")
    # A gap, and an answer that is wrong.
    network.lose = lambda _source, _target, _body: True
    hear(network, "b", a.id, Delta({}, 5), "a")
    network.now += 1.5
    states = {
        a.member: MemberReport(run_of(a.id), "", "", (0, 0), {run_of(a.id): (9, None, 0)}, {})
    }
    hear(network, "b", stranger(1), Report("ready", {}, {}, None, states=states), "x")
    asked = {target for _, target, body in network.sent if isinstance(body, RepairRequest)}
    assert {"a", "x"} <= asked
    page = RepairPage(a.id, {"cats": 3, "junk": 3, "dogs": 2}, None)
    effects = b.receive(Envelope(sender, address, 0, page), network.now)
    assert effects.beyond == 1
    assert b.tally.total(a.id) == 5


def test_what_a_writer_told_meanwhile_is_taken_from_anybody(network: Network) -> None:
    """A page may hold more than its asker has heard of: then the next word brings it."""
    a, b = network.nodes["a"], network.nodes["b"]
    network.node("c")
    network.live(3)
    network.lose = lambda source, target, _body: (source, target) == ("a", "b")
    network.visit(a, *["dogs"] * 4)
    network.publish("a")
    assert b.counter("dogs") == {}
    network.lose = lambda _source, _target, _body: False
    network.live(2)
    assert b.counter("dogs") == {a.member: 4}


# -- runs


def renewals(network: Network, name: str) -> list[str]:
    """Have a node go on as a new run if it has to; return the new run."""
    node = network.nodes[name]
    if not node.needs_new_run:
        return []
    node.start_new_run(mint_run(0, node.members.latest(node.member), 7), network.now)
    return [node.id]


def claim(network: Network, name: str, run: str, *, removed: bool = False) -> None:
    """A broken peer says that a run of a node was folded, or that it was removed up to there."""
    member = network.nodes[name].member
    state = MemberReport(run, run if removed else "", "" if removed else run, (0, 0), {}, {})
    hear(network, name, stranger(1), Report("ready", {}, {}, None, states={member: state}), "x")


@pytest.mark.parametrize("removed", [False, True])
def test_what_is_heard_ends_one_run_within_the_life_of_a_message(
    network: Network, removed: bool
) -> None:
    began: list[float] = []
    for _ in range(3 * int(TTL)):
        for _ in range(5):
            claim(network, "a", network.nodes["a"].members.latest(network.nodes["a"].member),
                  removed=removed)  # fmt: skip
            if renewals(network, "a"):
                began.append(network.now)
            network.visit(network.nodes["a"], "cats")
        network.second()
    assert len(began) >= 2, "it goes on"
    assert all(later - earlier >= TTL for earlier, later in pairwise(began))
    network.now += TTL
    network.second()
    renewals(network, "a")
    network.live(10)
    a, b = network.nodes["a"], network.nodes["b"]
    assert a.counter("cats") == b.counter("cats") == {a.member: 3 + 15 * int(TTL)}


def test_a_node_that_waits_for_its_next_run_does_not_write_all_the_time(network: Network) -> None:
    a = network.nodes["a"]
    for _ in range(2):
        claim(network, "a", a.members.latest(a.member))
        a.stored(a.batch(1000))
        renewals(network, "a")
    claim(network, "a", a.members.latest(a.member))
    for _ in range(3):
        a.stored(a.batch(1000))
    assert not a.needs_new_run
    assert not a.news(), "there is nothing to be written before the next run"


def test_nobody_can_leave_a_member_without_a_next_run(network: Network) -> None:
    a = network.nodes["a"]
    claim(network, "a", LATEST_RUN)
    claim(network, "a", LATEST_RUN, removed=True)
    assert a.members.latest(a.member) < ids.END_OF_HEARSAY
    assert not a.needs_new_run
    network.visit(a, "cats")
    network.live(2)
    assert network.nodes["b"].counter("cats") == {a.member: 4}


# -- names without end


def test_endless_peers_of_a_report_are_not_taken_in() -> None:
    reached = {stranger(number): f"http://127.0.0.1:{number}" for number in range(1, 1500)}
    refused: list[str] = []
    sent = messages.encode(Envelope(stranger(0), "", 0, Report("ready", {}, reached, None)), None)
    report = messages.decode(sent, None, 0, 1000, refused.append).body
    assert isinstance(report, Report)
    assert len(report.peers) == MAX_PEERS_TOLD
    assert len(refused) == len(reached) - MAX_PEERS_TOLD


def test_only_so_many_are_introduced_at_a_time(network: Network) -> None:
    asked = set()
    for first in range(0, 1000, 100):
        reached = {stranger(number): f"x{number}" for number in range(first, first + 100)}
        for body in (Report("ready", {}, reached, None), ReportRequest()):
            effects = network.nodes["a"].receive(Envelope(stranger(0), "x", 0, body), network.now)
            asked |= {address for address, _ in effects.send}
    assert len(asked) <= peers.MAX_INTRODUCED + 1


def test_endless_members_are_not_taken_in(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "MAX_MEMBERS", 50)
    a = network.nodes["a"]
    for number in range(100):
        state = MemberReport(run_of(stranger(number)), "", "", (0, 0), {}, {})
        told = {member_of(stranger(1000 + number)): state}
        hear(network, "a", stranger(number), Report("ready", {}, {}, None, states=told))
    # Those that speak for themselves find room beside as many made-up names.
    assert len(list(a.members)) == 100
    network.visit(a, "cats")
    network.live(2)
    assert network.nodes["b"].counter("cats") == {a.member: 4}


@pytest.mark.parametrize("what", ["counts", "days", "keys"])
def test_who_claims_much_and_answers_nothing_is_asked_little(network: Network, what: str) -> None:
    claimed = [stranger(number) for number in range(1, 1001)]
    states = {
        member_of(replica): MemberReport(
            run_of(replica),
            "",
            "",
            (0, 0),
            {run_of(replica): (2**63 - 1, None, 0)} if what == "counts" else {},
            {1: (1, 1)} if what == "days" else {},
        )
        for replica in claimed
    }
    asked = 0
    for number in range(1, 21):
        network.now += 0.5
        keys = dict.fromkeys(claimed, 7) if what == "keys" else {}
        report = Report("ready", {}, {}, None, keys, states=states, number=number)
        effects = network.nodes["a"].receive(
            Envelope(stranger(0), "nobody", number, report), network.now
        )
        questions = RepairRequest | RunsRequest | KeysRequest
        asked += sum(isinstance(body, questions) for _, body in effects.send)
    assert 0 < asked <= Questions.most * 10, "so many a SYNC_INTERVAL, of which ten pass"


def test_a_node_that_answers_is_asked_for_everything_at_once(network: Network) -> None:
    network.lose = lambda _source, target, _body: target == "b"
    runs = [stranger(number) for number in range(5 * Questions.most)]
    for run in runs:
        hear(network, "a", run, Delta({"dogs": 2}, 2))
    network.live(10)
    network.lose = lambda _source, _target, _body: False
    network.live(3)
    assert network.nodes["b"].tally.visits("dogs") == 2 * len(runs)


def test_nodes_that_remember_other_members_do_not_tell_everything_all_the_time(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "MAX_MEMBERS", 50)
    for number in range(100):
        state = MemberReport(run_of(stranger(number)), "", "", (0, 0), {}, {})
        told = {member_of(stranger(number)): state}
        node = "ab"[number % 2]
        report = Report("ready", {}, {}, None, states=told, number=number)
        network.nodes[node].receive(Envelope("x~0000000000000." + LATEST_RUN, "", 0, report), 0.0)
    network.live(5)
    network.sent.clear()
    network.live(5)
    asked = [body for _, _, body in network.sent if isinstance(body, ReportRequest)]
    assert not asked
    # One of those that only the other remembers turns out to exist: now all that is said of it is.
    speaks = next(one for one in map(stranger, range(100)) if member_of(one) not in all_of(network))
    network.nodes["b"].receive(Envelope(speaks, "", 0, Delta({"dogs": 1}, 1)), network.now)
    network.live(3)
    assert network.nodes["a"].tally.visits("dogs") == network.nodes["b"].tally.visits("dogs") == 1


def all_of(network: Network) -> set[str]:
    """The members that every node remembers."""
    return set.intersection(*(set(node.members) for node in network.nodes.values()))


def test_what_a_peer_has_said_has_an_end(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announced, "MAX_SAID", 500)
    days = {day: (1, day) for day in range(300)}
    left_out = 0
    for number in range(5):
        state = MemberReport("", "", "", (0, 0), {}, days)
        told = {member_of(stranger(number)): state}
        report = Report("ready", {}, {}, None, states=told, number=number + 1)
        left_out += hear(network, "a", stranger(0), report).left_out
    assert left_out == 4
    peer = network.nodes["a"].peers.get(stranger(0))
    assert peer is not None
    assert len(list(peer.announced.days())) == 300


def test_learned_addresses_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh, "_LEARNED", 5)
    transport = mesh.MeshTransport("127.0.0.1", 1, ["http://127.0.0.1:9"])
    transport.start(lambda _: None, lambda: None)
    try:
        for port in range(20, 40):
            transport.send(f"http://127.0.0.1:{port}", b"")
        addresses = transport.addresses()
        assert len(addresses) == 6
        assert {"http://127.0.0.1:9", "http://127.0.0.1:39"} <= set(addresses)
    finally:
        transport.stop()


# -- fuzz: valid messages, of which one field is something else

VALUES: list[Any] = [
    0, 1, -1, -(2**63), 2**31, 2**32 + 1, 2**53 - 1, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1,
    float("nan"), float("inf"), float("-inf"), 0.5, 1.0, True, False, None,
    "", "junk", "1", "../..", "\x00", "é" * 200, "x" * 5000, b"", b"\xff" * 16, b"\x00" * 70_000,
    [], {}, [[]], [None] * 3, {"junk": 1}, {"": -1}, [0] * 3000,
    "joining", "ready", "leaving", "start", LATEST_RUN, "0" * 23, "http://127.0.0.1:1",
]  # fmt: skip
"""What a field may be instead, beside what stands elsewhere in the message."""


Draw = Callable[..., Any]
"""Draws from a strategy of hypothesis."""


def one_of(choose: Draw, values: list[Any]) -> Any:
    """One of these. What is drawn is its place: a failure prints it, and some values are long."""
    return values[choose(st.integers(0, len(values) - 1))]


def valid(choose: Draw, a: str, b: str, broken: str) -> Body:
    """A message of some type, as a node would send it that knows these three."""
    own, day = member_of(broken), day_of(run_of(broken))
    run, earlier = run_of(broken), mint_run(1_600_000_000_000, "", 5)
    read = {f"{BROKEN}/visits.log": {"start": Position(0)}}
    vector = one_of(choose, [a, b, broken])
    states = {
        own: MemberReport(run, "", earlier, (5, 17), {run: (7, None, 5)}, {day: (1, 5)}),
        member_of(a): MemberReport(run_of(a), "", "", (0, 0), {run_of(a): (3, None, 5)}, {}),
    }
    previous = {own: PreviousMemberReport(run, "", earlier, (5, 17), {run: (7, None)})}
    bodies: list[Body] = [
        Delta({"dust": 3, "junk": 4, "junk/bot": 1}, 8, read),
        Report("ready", {}, {b: "b"}, None, {a: 1}, read, Health(("memory", True), ("hub", True)),
               states, 2**60, 7),
        Report("joining", previous, {}, 17),
        ReportRequest(),
        RepairRequest(vector, bytes(range(64)), 5, 0),
        RepairRequest(vector, b"", 5, 0, 3),
        RepairPage(broken, {"dust": 1, "junk": 2}, 77, 99),
        RepairPage(broken, Extract.of(["dust", "junk"], [1, 2]), 77, 99),
        RepairPage(folded_of(own, earlier), {"junk": 2}, None),
        KeysRequest(vector, 0),
        KeysPage(broken, 0, [(1, "a key", bytes(16), 5), (2, "another", bytes(16), 5)], 2),
        RunsRequest(own, day, ""),
        RunsPage(own, day, (2, 17), "", {earlier: (5, 2**60, 5)}, earlier),
        Larger(vector, 2, refused=choose(st.booleans())),
    ]  # fmt: skip
    body: Body = one_of(choose, bodies)
    return body


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a message: of fields, entries and their keys, at any depth."""
    yield at
    if isinstance(value, list | tuple):
        for number, one in enumerate(value):
            yield from places(one, (*at, number))
    elif isinstance(value, dict):
        for key, one in value.items():
            yield (*at, ("key", key))
            yield from places(one, (*at, key))


def put(message: Any, at: tuple[Any, ...], value: Any) -> Any:
    """The message with another value in one place."""
    if not at:
        return value
    first, rest = at[0], at[1:]
    if isinstance(message, dict):
        if isinstance(first, tuple):
            key = value if isinstance(value, str | int | bytes | None) else json.dumps(repr(value))
            return {key if one == first[1] else one: kept for one, kept in message.items()}
        return {k: put(one, rest, value) if k == first else one for k, one in message.items()}
    return [put(one, rest, value) if n == first else one for n, one in enumerate(message)]


def found(message: Any, at: tuple[Any, ...]) -> Any:
    """What stands in a place of a message."""
    for step in at:
        message = step[1] if isinstance(step, tuple) else message[step]
    return message


def looks_like(value: Any, other: Any) -> bool:
    """Whether one could stand where the other does: both are numbers, or ids of one kind."""
    if isinstance(value, str) and isinstance(other, str):
        return len(value) == len(other) or len(value) < 20 > len(other)
    return type(value) is type(other)


def mutated(choose: Draw, a: str, b: str, broken: str) -> list[Any]:
    """A valid message with one field mutated, as it is encoded."""
    body = valid(choose, a, b, broken)
    envelope = Envelope(broken, BROKEN, int(time.time() * 1000), body)
    message = msgspec.msgpack.decode(messages.encode(envelope, None)[2:])
    at = one_of(choose, list(places(message)))
    of_a = member_of(a), run_of(a), folded_of(member_of(a), run_of(a))
    values = [*VALUES, a, b, broken, *of_a, run_of(b)]
    # What looks right is taken in, so it comes as often as all the rest.
    kin = [value for value in values if looks_like(value, found(message, at))]
    changed = put(message, at, one_of(choose, one_of(choose, [values, kin or values])))
    return changed if isinstance(changed, list) else [changed]


def impersonates(message: list[Any], a: str, b: str) -> bool:
    """Whether it says to be of an honest node, or answers a node about that node's own run.

    A secret that all share tells no node from another; and what answers a node's own question about
    itself is the one thing that it takes from others.
    """
    try:
        sender, body = message[0], message[3]
        about = body[1] if body[0] in ("answer", "extract") else ""
    except (IndexError, TypeError, KeyError):
        return False
    honest = {member_of(a), member_of(b)}
    told = [name for name in (sender, about) if isinstance(name, str) and len(name) > 24]
    return any(member_of(name) in honest for name in told)


class Books:
    """Two honest nodes that count, and a broken one; and what the honest ones have counted."""

    def __init__(self, nodes: list[Talking]) -> None:
        self.nodes = nodes
        self.counted = {node.name: Counter[str]() for node in nodes}
        self.heard = 0
        self.broken = f"{BROKEN}~{encode_id(99, 13)}.{mint_run(1_700_000_000_000, '', 9)}"

    def hear(self, message: list[Any]) -> None:
        """Both nodes take a message in: one from this thread, one in its own."""
        a, b = self.nodes
        if impersonates(message, a.replica.id, b.replica.id):
            return
        sent = bytes((messages.VERSION, 0)) + msgspec.msgpack.encode(message)
        reason = a.gossip.receive(sent)
        assert reason is None or reason in a_reason
        with b.transport._news:
            b.transport._inbox.append(sent)
            b.transport._news.notify()
        self.heard += 1
        if self.heard % 20 == 0:
            self.go_on()

    def go_on(self) -> None:
        """Count a visit at each node, tell it, and look whether anything is wrong."""
        for node in self.nodes:
            before = {video: node.shows(video) for video in ("cats", "a", "b")}
            with node.lock:
                for video in ("cats", node.name):
                    node.replica.visit(video)
                    self.counted[node.name][video] += 1
            node.flusher.wake()
            node.gossip.publish()
            if self.heard % 100 == 0:
                node.gossip.sync()
            assert node.transport._thread is not None
            assert node.transport._thread.is_alive(), "no thread ends"
            assert node.flusher.error is None
            assert all(node.shows(video) >= visits for video, visits in before.items())

    def agree(self) -> bool:
        """Whether both show what was counted."""
        for node in self.nodes:
            node.gossip.publish()
            node.gossip.sync()
        return all(
            self.counts(node, of) == self.counted[of.name]
            for node in self.nodes
            for of in self.nodes
        )

    def counts(self, node: Talking, of: Talking) -> Counter[str]:
        """What a node shows of the visits of another, of all the videos that were counted."""
        with node.lock:
            shown = {
                video: node.replica.counter(video).get(of.replica.member, 0)
                for video in {*self.counted[of.name], "junk", "dust", "junk/bot"}
            }
        return Counter({video: visits for video, visits in shown.items() if visits})


MESSAGES = 20
"""Of an example: to begin one takes as long as some messages."""
a_reason = ("repeated", "junk", "version", "signature", "clock", "size")


def fuzz(examples: int) -> None:
    """Let two nodes hear so many messages, and see that they are exact and live."""
    ttl = 1.0
    with talking(Hub(), "a", "b", message_ttl=ttl, sync_interval=0.5) as nodes:
        books = Books(nodes)
        a, b = nodes
        began = time.monotonic()

        @settings(
            max_examples=examples // MESSAGES,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.data())
        def hear(data: st.DataObject) -> None:
            for _ in range(MESSAGES):
                books.hear(mutated(data.draw, a.replica.id, b.replica.id, books.broken))

        hear()
        assert books.heard > examples * 0.8
        lasted = time.monotonic() - began
        until(books.agree, 30.0, "both show exactly what was counted")
        for node in nodes:
            node.status.members()
            assert len(node.renewed) <= lasted / ttl + 2
            assert metric(node.metrics.messages_in) > books.heard
            assert all(later - earlier >= ttl for earlier, later in pairwise(node.renewed))
        count(a, "dogs", 2)
        until(lambda: books.agree() or b.shows("dogs") >= 2, 5.0, "the next visits arrive")


def test_messages_with_one_wrong_field_change_nothing() -> None:
    fuzz(2_000)


@pytest.mark.proof
@pytest.mark.timeout(600)
def test_twenty_thousand_messages_with_one_wrong_field_change_nothing() -> None:
    fuzz(20_000)
