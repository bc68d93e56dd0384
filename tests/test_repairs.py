"""What a repair asks for, and of what comes which is taken: only what was asked for."""

import pytest

from counter.crdt.ids import encode_id
from counter.crdt.tally import Tally
from counter.protocol.messages import (
    Body,
    Delta,
    Envelope,
    RepairPage,
    RepairRequest,
    RunsPage,
    RunsRequest,
)
from counter.protocol.peers import Peer, Peers
from counter.protocol.questions import Questions
from counter.protocol.repairs import Repairs
from tests.protocol import TTL, Network

VECTOR = f"a~{encode_id(1, 13)}.{encode_id(1, 23)}"
OTHER = f"b~{encode_id(2, 13)}.{encode_id(1, 23)}"


@pytest.fixture
def network() -> Network:
    return Network(fold_after=1000.0)


def repairs() -> Repairs:
    return Repairs(Tally(), Peers(3.0, TTL), Questions(2.0), 1.0, TTL)


def peer(address: str) -> Peer:
    return Peer(address, 0.0, 0.0)


def page(vector: str = VECTOR, following: int | None = None) -> RepairPage:
    return RepairPage(vector, {"cats": 1}, following)


def request(salt: int, after: int) -> RepairRequest:
    """What a node asks that holds nothing, and knows few videos."""
    return RepairRequest(VECTOR, b"", salt, after, 1_000)


def test_an_answer_is_wanted_from_every_address_that_was_asked_within_the_life_of_a_message() -> (
    None
):
    asking = repairs()
    assert asking.ask(VECTOR, peer("b"), 0.0) == request(1, 0)
    # The first does not answer, or is slow: another is asked, and both answers are welcome.
    assert asking.ask(VECTOR, peer("c"), 1.0) == request(2, 0)
    for address in "bc":
        assert asking.wants(page(), peer(address), TTL)
    assert not asking.wants(page(), peer("b"), TTL + 0.1)
    assert not asking.wants(page(), peer("d"), 1.0)
    assert not asking.wants(page(OTHER), peer("b"), 1.0)
    asking.forget(TTL + 1.1)
    assert not asking.wants(page(), peer("c"), TTL + 1.0)


def test_each_page_renews_the_time_for_the_next(network: Network) -> None:
    asking = repairs()
    known = peer("b")
    asking.ask(VECTOR, known, 0.0)
    for step in range(1, 5):
        now = step * (TTL - 1.0)
        assert asking.wants(page(), known, now)
        assert asking.go_on(page(following=step), known, now) == [request(1, step)]
    assert asking.go_on(page(), known, 5 * TTL) == []


def test_a_repair_goes_on_where_it_was_when_a_page_is_lost() -> None:
    asking = repairs()
    known = peer("b")
    assert asking.ask(VECTOR, known, 0.0) == request(1, 0)
    assert asking.go_on(page(following=300), known, 0.1) == [request(1, 300)]
    assert asking.ask(VECTOR, known, 2.1) == request(2, 300)
    assert asking.ask(VECTOR, peer("c"), 3.1) == request(3, 0), "another copy"
    assert asking.go_on(page(), peer("c"), 3.2) == []
    assert asking.ask(VECTOR, known, 3.3) == request(4, 300), "with the other"
    assert asking.go_on(page(), known, 3.4) == []
    assert asking.ask(VECTOR, known, 3.5) == request(5, 0), "it ended"


def test_few_vectors_are_asked_of_one_address_at_a_time() -> None:
    asking = repairs()
    known, other = peer("b"), peer("c")
    vectors = [f"{VECTOR[:-2]}{number:02}" for number in range(Repairs.at_once + 2)]
    asked = [asking.ask(vector, known, 0.0) for vector in vectors]
    assert [one is not None for one in asked] == [True] * Repairs.at_once + [False] * 2
    assert asking.ask(vectors[-1], other, 0.1) is not None, "another has time"
    following = asking.go_on(page(vectors[0]), known, 0.2)
    assert [one.vector for one in following] == [vectors[-2]]
    following = asking.go_on(page(vectors[1], following=5), known, 0.2)
    assert [one.vector for one in following] == [vectors[1]]
    assert asking.go_on(page(vectors[2]), known, 0.3) == [], "another was asked"


@pytest.mark.parametrize("loss", [2, 3])
def test_a_repair_of_many_pages_ends_though_most_of_them_are_lost(
    network: Network, loss: int
) -> None:
    a, b = network.node("a"), network.node("b")
    network.seconds(2)
    answers = 0

    def most(_source: str, _target: str, body: Body) -> bool:
        nonlocal answers
        answers += isinstance(body, RepairPage)
        return isinstance(body, Delta) or (isinstance(body, RepairPage) and answers % loss != 0)

    network.lose = most
    network.visit(a, *(f"{number:0128}" for number in range(5_000)))
    network.seconds(1)
    network.seconds(20 * loss + 20)
    assert b.tally.totals() == a.tally.totals()


# -- replicas


@pytest.mark.parametrize("total", [None, 100])
def test_an_answer_that_nobody_asked_for_is_dropped(network: Network, total: int | None) -> None:
    a, b, c = (network.node(name) for name in "abc")
    network.visit(a, "cats")
    network.seconds(2)
    network.now += 1.0
    for vector in (a.id, c.id, f"gone~{encode_id(9, 13)}.{encode_id(1, 23)}"):
        answer = RepairPage(vector, {"cats": 50, "dogs": 50}, None, total)
        for sender, address in ((a.id, "a"), (c.id, "c"), (a.id, "")):
            effects = b.receive(Envelope(sender, address, 0, answer), network.now)
            assert not effects.grew
    assert b.counter("cats") == {a.member: 1}
    assert b.counter("dogs") == {}


def test_an_answer_that_was_asked_for_is_taken_late_though_another_was_asked_since(
    network: Network,
) -> None:
    a, b = network.node("a"), network.node("b")
    network.node("c")
    network.seconds(2)
    late: list[tuple[str, str, Body]] = []

    def hold(source: str, target: str, body: Body) -> bool:
        if isinstance(body, RepairPage) and target == "b":
            late.append((source, target, body))
            return True
        return isinstance(body, Delta) and target == "b"

    network.lose = hold
    network.visit(a, "cats", "dogs")
    network.seconds(3)
    assert {source for source, _, _ in late} == {"a", "c"}
    network.lose = lambda *_: True
    assert b.counter("cats") == {}
    network.now += 1.0
    first = late[0]
    effects = b.receive(Envelope(network.id_of(first[0]), first[0], 0, first[2]), network.now)
    assert effects.grew == {"cats", "dogs"}


def test_names_of_runs_that_nobody_asked_for_are_dropped(network: Network) -> None:
    a, b = network.node("a"), network.node("b")
    network.seconds(2)
    named = RunsPage(f"gone~{encode_id(9, 13)}", 0, (1, 1), "", {encode_id(1, 23): (5, 1, 0)}, "")
    effects = b.receive(Envelope(a.id, "a", 0, named), network.now)
    assert effects.send == []
    assert f"gone~{encode_id(9, 13)}" not in b.members


def test_many_closed_runs_are_named_in_pages(network: Network) -> None:
    a = network.node("a", has_peers=False)
    for number in range(1, 40):
        network.visit(a, "cats")
        a = network.restart("a", number)
    a.recovery.all_loaded()
    a.reports.runs_a_page = 7
    network.seconds(3)
    b = network.node("b")
    network.second()
    assert b.counter("cats") == {a.member: 39}
    assert b.complete
    assert sum(isinstance(body, RunsRequest) for _, _, body in network.sent) == 6
