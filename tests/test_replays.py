"""Replay: a message counts once, and a question is answered once, however often it is sent."""

import itertools
import time

import pytest

from counter.protocol import messages
from counter.protocol.messages import (
    Body,
    Delta,
    Envelope,
    KeysRequest,
    RepairPage,
    RepairRequest,
    Report,
    ReportRequest,
    RunsRequest,
)
from counter.protocol.replays import Replays, identity
from counter.protocol.rounds import MAX_BEGUN, MAX_TOLD, Rounds
from counter.transport.hub import Hub
from lab.clients import Client, until
from lab.servers import Node
from tests.kept import Talking, talking
from tests.test_broken_peers import hear, stranger
from tests.test_gossip import metric
from tests.test_unasked import replica_of, visit

from tests.protocol import Network  # isort: skip

SECRET = "only-for-tests"
RUN, LATER = "01m83kr0000000000000001", "01m83kr2yy3a0d1xw7bp3ns"
VECTOR = f"counter2~07b1a0zz5k2vd.{RUN}"

pytestmark = pytest.mark.nodes(1, CLUSTER_SECRET=SECRET, SYNC_INTERVAL="0.2")


# -- messages


def test_a_message_is_new_once() -> None:
    replays = Replays(60.0)
    assert b"one" not in replays
    assert replays.add(b"one", 0.0)
    assert b"one" in replays
    assert not replays.add(b"one", 60.0)
    assert replays.add(b"two", 61.0)
    assert b"one" not in replays, "it is too old to be taken in for its age"


def test_the_oldest_message_is_forgotten_first() -> None:
    replays = Replays(60.0, most=3)
    for number in range(5):
        assert replays.add(bytes([number]), float(number))
    assert len(replays) == 3
    assert [bytes([number]) in replays for number in range(5)] == [False, False, True, True, True]


@pytest.mark.parametrize("secret", [None, SECRET])
def test_two_messages_are_not_taken_for_one(secret: str | None) -> None:
    """All that one sender says at one time in one way is the same; anything else is another."""
    sent = [
        Envelope(sender, "", when, body)
        for sender in (stranger(1), stranger(2))
        for when in (1, 2)
        for body in (ReportRequest(), Delta({"cats": 1}, 1), Delta({"cats": 2}, 2))
    ]
    names = [identity(messages.encode(one, secret)) for one in sent]
    assert len(set(names)) == len(sent)
    assert names == [identity(messages.encode(one, secret)) for one in sent]


def encoded(node: Talking, body: Body, secret: str | None, ago: float = 0.0) -> bytes:
    when = int((time.time() - ago) * 1000)
    return messages.encode(Envelope(node.replica.id, node.transport.address, when, body), secret)


@pytest.mark.parametrize("secret", [None, SECRET])
def test_a_message_that_was_taken_in_is_dropped(secret: str | None) -> None:
    with talking(Hub(), "a", "b", cluster_secret=secret) as [a, b]:
        with a.lock:
            a.replica.count_many({"cats": 2})
        a.flusher.wake()
        until(lambda: a.status.unflushed() == 0, 5, "the visits are stored")
        asked = encoded(b, RepairRequest(a.replica.id, b"", 99, 0), secret)
        before = metric(a.metrics.messages_out)
        assert a.gossip.receive(asked) is None
        assert {a.gossip.receive(asked) for _ in range(100)} == {"repeated"}
        assert metric(a.metrics.messages_out) == before + 1
        assert metric(a.metrics.dropped.labels("repeated")) == 100


def test_a_message_that_was_dropped_may_come_again() -> None:
    with talking(Hub(), "a", "b") as [a, b]:
        message = encoded(b, ReportRequest(), None)
        a.gossip.cut = True
        assert a.gossip.receive(message) == "cut"
        a.gossip.cut = False
        assert a.gossip.receive(message) is None
        early = encoded(b, ReportRequest(), None, ago=-60.0)
        assert a.gossip.receive(early) == "clock"
        assert a.gossip.receive(early) == "clock", "it is not taken for one that was taken in"
        forged = encoded(b, ReportRequest(), SECRET)
        assert a.gossip.receive(forged) == a.gossip.receive(forged) == "signature"


# -- questions


def test_a_page_is_given_once_and_the_next_one_at_any_time() -> None:
    rounds = Rounds(1.0, 30.0)
    for after in (0, 5, 9, 77):
        assert rounds.may_answer("b", RepairRequest(VECTOR, b"", 1, after), 0.0)
        assert not rounds.may_answer("b", RepairRequest(VECTOR, b"", 1, after), 0.5)
    assert not rounds.may_answer("b", RepairRequest(VECTOR, b"", 1, 5), 2.0)
    assert rounds.may_answer("b", RepairRequest(VECTOR, b"", 2, 0), 0.5), "a new round"
    assert rounds.may_answer("c", RepairRequest(VECTOR, b"", 1, 0), 0.5), "another asker"


@pytest.mark.parametrize("kind", ["repair", "keys", "runs"])
def test_an_asker_begins_so_many_rounds_at_a_time(kind: str) -> None:
    rounds, salts = Rounds(1.0, 30.0), itertools.count(1)

    def question() -> RepairRequest | KeysRequest | RunsRequest:
        if kind == "repair":
            return RepairRequest(VECTOR, b"", next(salts), 0)
        return KeysRequest(VECTOR, 0) if kind == "keys" else RunsRequest(VECTOR[:-24], 5, "")

    for second in range(3):
        answered = [rounds.may_answer("b", question(), second + 0.01 * n) for n in range(50)]
        assert sum(answered) == MAX_BEGUN


def test_pages_of_keys_and_runs_go_on() -> None:
    rounds = Rounds(1.0, 30.0)
    assert all(rounds.may_answer("b", KeysRequest(VECTOR, after), 0.0) for after in range(100))
    for after in ("", RUN, LATER):
        assert rounds.may_answer("b", RunsRequest(VECTOR[:-24], 5, after), 0.0)


def test_questions_are_forgotten() -> None:
    rounds = Rounds(1.0, 30.0)
    for number in range(20_000):
        rounds.may_answer(stranger(number), RepairRequest(VECTOR, b"", 1, 0), 0.0)
    assert len(rounds._rounds) == 10_000
    rounds.forget(31.0)
    assert not rounds._rounds


def test_whoever_asks_for_everything_again_and_again_is_not_told() -> None:
    network = Network()
    a = network.node("a")
    network.node("b")
    network.live(3)
    told = 0
    for _ in range(100):
        body = ReportRequest()
        effects = a.receive(Envelope(network.id_of("b"), "b", 0, body), network.now)
        told += any(isinstance(body, Report) for _, body in effects.send)
        leaving = Report("leaving", {}, {}, None)
        told += bool(a.receive(Envelope(stranger(1), "x", 0, leaving), network.now).send)
    assert told == 2 * MAX_TOLD, "the first time is also the first word of a stranger"


def test_an_old_question_is_not_answered_after_the_next() -> None:
    network = Network()
    network.visit(network.node("a"), "cats")
    network.node("b")
    network.live(3)
    own, b = network.id_of("a"), network.id_of("b")
    pages = [
        sum(isinstance(body, RepairPage) for _, body in hear(network, "a", b, ask, "b").send)
        for ask in [RepairRequest(own, b"", salt, 0) for salt in (1001, 1001, 1002, 1002)]
    ]
    assert pages == [1, 0, 1, 0]


def test_a_repair_request_that_is_sent_again_draws_one_answer(node: Node) -> None:
    visit(node, "cats")
    body = RepairRequest(replica_of(node), b"", 1, 0)
    sent = int(time.time() * 1000)
    message = messages.encode(Envelope(stranger(1), "http://127.0.0.1:9", sent, body), SECRET)
    with Client(node.url) as client:
        for _ in range(200):
            headers = {"Content-Type": "application/octet-stream"}
            assert client.ask("POST", "/mesh", headers, message)[0] == 204, "no fault of the sender"
        text = client.get("/metrics")[1].decode()
    assert 'counter_messages_dropped_total{reason="repeated"} 199.0' in text
