"""How far visit logs were read: joined like counts, and told with them."""

from hypothesis import given
from hypothesis import strategies as st

from counter.protocol.messages import Delta, Report
from counter.protocol.positions import (
    KEPT,
    START,
    Position,
    Positions,
    decode_positions,
    encode_positions,
    is_older,
    join,
)
from counter.protocol.replica import Replica
from tests.protocol import Network

FILES = [f"{number:016x}" for number in range(12)]
LOG = "a/visits.log"


def position(file: str, cut: int, offset: int) -> Position:
    """A file always has the same beginning."""
    return Position(int(file, 16), cut, offset, 0)


@st.composite
def positions(draw: st.DrawFn) -> Positions:
    numbers = st.tuples(st.integers(0, 2), st.integers(0, 100))
    drawn = draw(st.dictionaries(st.sampled_from(FILES), numbers, max_size=KEPT))
    return {file: position(file, *number) for file, number in drawn.items()}


@given(positions(), positions(), positions())
def test_positions_are_joined_in_any_order_and_any_number_of_times(
    a: Positions, b: Positions, c: Positions
) -> None:
    assert join(a, b) == join(b, a)
    assert join(join(a, b), c) == join(a, join(b, c)) == join(a, b, c)
    assert join(a, a) == join(a) == a
    assert join(a, join(a, b)) == join(a, b)


@given(st.lists(positions(), max_size=5))
def test_what_is_forgotten_is_older_than_all_that_is_kept(known: list[Positions]) -> None:
    joined = join(*known)
    assert len(joined) <= KEPT
    for file in {file for each in known for file in each} - joined.keys():
        assert is_older(int(file, 16), joined)


@given(positions())
def test_positions_are_kept_as_text(known: Positions) -> None:
    assert decode_positions(encode_positions(known)) == known
    assert decode_positions(f"{encode_positions(known)} junk a:b:c:d:e x:1:2:3") == known


def test_before_anything_was_rotated_nothing_is_older() -> None:
    assert not is_older(1, {START: Position(0)})
    assert is_older(5, {FILES[5]: Position(5)})


def read(replica: Replica, offset: int, *videos: str) -> None:
    """A node reads so far in its log, and stores it."""
    replica.logs.read("visits.log", dict.fromkeys(videos, 1), {FILES[1]: Position(1, 0, offset, 0)})
    replica.stored(replica.batch(1000))


def offset(replica: Replica, log: str = LOG) -> int:
    known = replica.logs.of(log)
    return known[FILES[1]].offset if known else 0


def kept(replica: Replica, log: str = LOG) -> str:
    """What its store holds of a log, once everything is flushed."""
    replica.stored(replica.batch(1000))
    return replica.backlog.notes.get(f"log:{log}", "")


def test_a_position_travels_with_its_counts_and_is_kept_by_everybody() -> None:
    network = Network()
    a, b = network.node("a"), network.node("b")
    network.seconds(2)
    read(a, 100, "cats", "dogs")
    assert offset(a) == offset(b) == 0, "nobody is told before the counts are"
    network.publish("a")
    assert offset(a) == offset(b) == 100
    assert b.tally.total(a.id) == 2
    assert kept(b) == kept(a) == f"{FILES[1]}:1:0:100:0"


def test_nobody_takes_a_position_without_the_counts() -> None:
    network = Network()
    a, b = network.node("a"), network.node("b")
    network.seconds(2)
    read(a, 100, "cats")
    network.lose = lambda _source, _target, _body: True
    network.publish("a")
    read(a, 200, "dogs")
    # Of all that is sent, this alone arrives: it shows that something was missed.
    network.lose = lambda _source, _target, body: not isinstance(body, Delta)
    network.publish("a")
    assert (b.tally.total(a.id), offset(b)) == (1, 0)
    network.lose = lambda _source, _target, body: isinstance(body, Delta)
    network.seconds(3)
    assert (b.tally.total(a.id), offset(b)) == (2, 200)


def test_a_lost_store_learns_how_far_it_had_read_before_it_is_ready() -> None:
    network = Network()
    a, _b = network.node("a"), network.node("b")
    network.seconds(2)
    read(a, 100, "cats")
    network.second()
    # Another store, and so another member, under the same name.
    again = Network.node(network, "a", run=5_000)
    assert again.logs.has_read("visits.log", [FILES[1]]) == {}
    network.do("a", again.sync(network.now))
    network.second()
    assert again.state == "ready"
    assert again.logs.has_read("visits.log", [FILES[1]])[FILES[1]].offset == 100
    assert again.logs.has_read("visits.log", []), "also when its file is gone"
    read(again, 150, "cats")
    assert sum(again.tally.counter("cats").values()) == 2


def test_whoever_follows_the_log_next_goes_on_from_there() -> None:
    network = Network()
    a, b = network.node("a"), network.node("b")
    network.seconds(2)
    read(a, 100, "cats")
    network.second()
    assert b.logs.has_read("other.log", [FILES[1]])[FILES[1]].offset == 100
    assert b.logs.has_read("other.log", [FILES[2]]) == {}


def test_reports_repeat_nothing_of_nodes_that_are_heard() -> None:
    network = Network()
    nodes = [network.node(name) for name in "abc"]
    network.seconds(2)
    read(nodes[0], 100, "cats")
    network.second()
    network.sent.clear()
    read(nodes[0], 200, "cats")
    network.seconds(3)
    said = [source for source, _, body in network.sent if isinstance(body, Report) and body.logs]
    assert said == ["a", "a"], "once to each"
    # When it is gone, the others see to it that all know.
    del network.nodes["a"]
    missed = network.node("d")
    network.seconds(2)
    assert offset(missed) == 200


def test_many_logs_are_told_in_parts() -> None:
    network = Network()
    a, b = network.node("a"), network.node("b")
    known = {file: Position(2**41, 1, 2**52, 2**41) for file in FILES[:KEPT]}
    for number in range(350):
        a.logs.join(f"{'n' * 20}{number}/{'f' * 60}", known)
    network.seconds(3)
    assert set(b.logs) == set(a.logs)
    assert b.state == "ready"


def test_a_rolled_back_store_has_read_as_far_as_the_others_have_heard() -> None:
    network = Network()
    a, _b = network.node("a"), network.node("b")
    network.seconds(2)
    read(a, 100, "cats")
    network.second()
    notes, counts = dict(a.backlog.notes), dict(a.tally.vector(a.id).items())
    read(a, 200, "cats")
    network.second()
    again = Network.node(network, "a", run=9_000)
    again.recovery.opened([a.id], notes)
    again.recovery.loaded(a.id, counts)
    assert again.logs.has_read("visits.log", [FILES[1]])[FILES[1]].offset == 100
    network.do("a", again.sync(network.now))
    network.seconds(2)
    assert again.state == "ready"
    assert again.logs.has_read("visits.log", [FILES[1]])[FILES[1]].offset == 200
    assert sum(again.tally.counter("cats").values()) == 2
