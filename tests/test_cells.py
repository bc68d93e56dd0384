"""Keys of a newer version: what stands under them travels, rests and is folded, listed nowhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counter.crdt.ids import LONGEST_VIDEO, folded_of, is_listed, run_of
from counter.crdt.tally import Tally
from counter.protocol.messages import Delta, Envelope, decode, encode
from tests.protocol import TTL, Network

LONGEST = "v" * LONGEST_VIDEO + "/" + "r" * 31
CELLS = ["cats/bot", "/", "a/b/c", LONGEST, "v" * 129]


@pytest.fixture
def network() -> Network:
    return Network()


def holds(network: Network, name: str, member: str, count: int) -> None:
    """A node holds so much under each of the keys, and lists none of them."""
    tally = network.nodes[name].tally
    for cell in CELLS:
        assert tally.counter(cell) == {member: count}
        assert tally.visits(cell) == count
    assert tally.top(100) == ["cats"]
    assert tally.members() == {member: 1}
    roster = {each.member: each for each in network.nodes[name].roster.members(network.now)}
    assert roster[member].visits == 1


def test_a_key_has_up_to_160_characters() -> None:
    assert len(LONGEST) == 160
    assert not any(is_listed(cell) for cell in CELLS)
    assert is_listed("v" * LONGEST_VIDEO)


def test_such_keys_travel_with_the_others(network: Network) -> None:
    a, _b = network.node("a"), network.node("b")
    network.seconds(2)
    network.visit(a, "cats", *CELLS)
    network.publish("a")
    for name in "ab":
        holds(network, name, a.member, 1)
    envelope = Envelope(a.id, "a", 0, Delta(dict.fromkeys(CELLS, 7), 35))
    refused: list[str] = []
    assert decode(encode(envelope, "s"), "s", 0, 1, refused.append) == envelope
    assert refused == []


def test_such_keys_are_repaired(network: Network) -> None:
    a, _b = network.node("a"), network.node("b")
    network.seconds(2)
    network.lose = lambda _source, _target, body: isinstance(body, Delta)
    network.visit(a, "cats", *CELLS)
    network.seconds(1)
    for name in "ab":
        holds(network, name, a.member, 1)


def test_such_keys_are_stored_rest_and_are_folded(network: Network) -> None:
    a, b = network.node("a"), network.node("b")
    network.seconds(2)
    network.visit(a, "cats", *CELLS)
    network.publish("a")
    batch = b.batch(100)
    assert batch.counts == {a.id: dict.fromkeys(["cats", *CELLS], 1)}
    b.stored(batch)
    network.live(2)
    ended = a.id
    network.restart("a", 1000)
    network.live(int(TTL) + 3)
    assert b.tally.rests(ended)
    for name in "ab":
        holds(network, name, a.member, 1)
    network.live(int(2 * TTL) + 4)
    assert b.tally.of(a.member) == [folded_of(a.member, run_of(ended))]
    for name in "ab":
        holds(network, name, a.member, 1)


@given(st.lists(st.tuples(st.sampled_from(["x", "y/z", "z", "x/bot"]), st.integers(1, 9))))
def test_the_visits_of_a_member_are_those_of_its_videos(counts: list[tuple[str, int]]) -> None:
    tally, vector = Tally(), f"a~{'0' * 13}.{'0' * 23}"
    for cell, count in counts:
        tally.merge(vector, {cell: count})
    assert sum(tally.members().values()) == tally.visits("x") + tally.visits("z")
    assert set(tally.top(9)) == {cell for cell, _ in counts if "/" not in cell}
    assert tally.total(vector) == sum(tally.visits(cell) for cell in ("x", "y/z", "z", "x/bot"))
