"""The ledger: a set of records, the rule of what follows from it, and how it gets everywhere."""

import itertools
import time
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counter.crdt.ids import encode_id
from counter.crdt.ledger import joined, left_of, shown_of, spread, withdrawn_of
from counter.crdt.tally import Tally
from counter.protocol import ledger as ledgers
from counter.protocol.ledger import Ledger
from counter.protocol.messages import Delta, Report, encode
from counter.protocol.pending import Pending
from counter.protocol.questions import Questions
from counter.protocol.records import (
    RECORD,
    Act,
    Record,
    RecordsPage,
    RecordsRequest,
    decode,
    id_of_key,
    join,
    same_key,
)
from counter.protocol.records import encode as text_of
from counter.protocol.replica import Replica
from tests.protocol import Network, alone
from tests.test_messages import message

A, B, C = (f"{name}~{'0' * 13}" for name in "abc")

numbers = st.integers(1, 30)
entries = st.lists(st.tuples(numbers, numbers), max_size=8)
takes = st.dictionaries(st.sampled_from([A, B, C]), st.tuples(numbers, numbers), max_size=3)


def record(
    number: int, act: Act = "withdraw", video: str = "cats", at: int = 5, **of: int
) -> Record:
    """A record with this number in its id; `of` are (take, seen) as `a=307` for 3 of 7."""
    told = {f"{name}~{'0' * 13}": divmod(both, 100) for name, both in of.items()}
    return Record(f"{number:03x}" + "0" * 29, at, "ops", video, act, "why", told)


# -- the rule


@given(entries, st.randoms())
def test_what_is_withdrawn_does_not_depend_on_the_order(
    taken: list[tuple[int, int]], random: object
) -> None:
    shuffled = list(taken)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert withdrawn_of(taken) == withdrawn_of(shuffled)


@given(entries, st.tuples(numbers, numbers))
def test_what_is_withdrawn_only_grows_with_the_set(
    taken: list[tuple[int, int]], more: tuple[int, int]
) -> None:
    assert withdrawn_of(taken) <= withdrawn_of([*taken, more])
    assert withdrawn_of(taken) <= max((seen for _, seen in taken), default=0)
    assert withdrawn_of(taken) <= sum(take for take, _ in taken)


def test_withdrawals_that_fit_all_apply_and_others_take_only_what_was_seen() -> None:
    assert withdrawn_of([(5, 10), (5, 10)]) == 10
    assert withdrawn_of([(5, 8), (5, 10)]) == 10
    # All, on both sides of a split.
    assert withdrawn_of([(90, 90), (100, 100)]) == 100
    assert withdrawn_of([(10, 10), (10, 10)]) == 10
    # By the order of time, the first one given would take what the second had not seen.
    assert withdrawn_of([(100, 100), (90, 90)]) == 100
    assert withdrawn_of([(6, 10), (3, 3), (1, 4)]) == 10


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 1000)), st.data())
def test_a_withdrawal_is_spread_in_proportion(left: dict[str, int], data: st.DataObject) -> None:
    there = sum(left.values())
    number = data.draw(st.integers(0, there)) if there else 0
    if not there:
        with pytest.raises(ValueError, match="more than 0"):
            spread(1, left)
        return
    taken = spread(number, left)
    assert sum(taken.values()) == number
    assert all(0 < take <= left[member] for member, take in taken.items())
    for member, count in left.items():
        assert abs(taken.get(member, 0) - number * count / there) < 1
    assert spread(there, left) == left


def test_more_than_there_is_cannot_be_spread() -> None:
    with pytest.raises(ValueError, match="5 visits are more than 4"):
        spread(5, {"a": 1, "b": 3})


@given(takes, takes, takes)
def test_two_contents_of_one_record_are_joined_by_the_larger(
    one: dict[str, tuple[int, int]],
    other: dict[str, tuple[int, int]],
    third: dict[str, tuple[int, int]],
) -> None:
    assert joined(one, other) == joined(other, one)
    assert joined(joined(one, other), third) == joined(one, joined(other, third))
    assert joined(one, one) == one
    for member in one:
        assert withdrawn_of([joined(one, other)[member]]) >= withdrawn_of([one[member]])


def test_what_is_shown_as_withdrawn_is_never_more_than_what_is_counted_here() -> None:
    assert shown_of({A: 5, B: 1}, {A: 3, B: 4}) == 4
    assert left_of({A: 5, B: 1, C: 2}, {A: 3, B: 4}) == {A: 2, C: 2}


# -- the set


def ledger() -> Ledger:
    tally = Tally()
    return Ledger(tally, Pending(f"a~{'0' * 13}.{encode_id(1, 23)}", tally), Questions(2), 1, 4)


acts = st.sampled_from(["withdraw", "block", "unblock"])
records = st.builds(
    lambda number, act, video, at, taken: Record(
        f"{number:03x}" + "0" * 29, at, "ops", video, act, "", taken if act == "withdraw" else {}
    ),
    st.integers(0, 5),
    acts,
    st.just("cats"),
    st.integers(0, 3),
    takes,
)
"""Few ids: some have several contents, as those of one request at two nodes."""


def consequences(held: Ledger) -> tuple[object, ...]:
    return held.digest, held.withdrawn("cats"), held.is_blocked("cats"), held.newest()


@given(st.lists(records, max_size=8), st.randoms())
def test_records_may_come_in_any_order_and_any_number_of_times(
    told: list[Record], random: object
) -> None:
    told = [one for one in told if not any(one.id == o.id and one.act != o.act for o in told)]
    first, second = ledger(), ledger()
    first.merge(told)
    shuffled = [*told, *told]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for one in shuffled:
        second.merge([one])
    assert consequences(first) == consequences(second)
    assert first.merge(shuffled) == (set(), 0)


@given(st.lists(records, max_size=6), st.lists(records, max_size=6))
def test_a_number_only_falls_by_more_records(some: list[Record], more: list[Record]) -> None:
    held = ledger()
    held.merge(some)
    before = dict(held.withdrawn("cats"))
    held.merge(more)
    assert all(held.withdrawn("cats")[member] >= before[member] for member in before)


def test_the_last_block_or_unblock_wins_by_time_and_id() -> None:
    acts: list[Record] = [
        record(1, "block", at=5), record(2, "unblock", at=6), record(3, "block", at=6)
    ]  # fmt: skip
    for order in itertools.permutations(acts):
        held = ledger()
        for one in order:
            held.merge([one])
        assert held.is_blocked("cats")
    held.merge([record(0, "unblock", at=7)])
    assert not held.is_blocked("cats")
    assert held.next_time("cats", 3) == 8
    assert held.next_time("cats", 300) == 300
    assert held.next_time("dogs", 3) == 3


def test_a_record_is_kept_as_text_and_read_again() -> None:
    one = Record("0" * 32, 5, "ops", "cats", "withdraw", "clïck \u2028", {B: (1, 2), A: (3, 4)})
    text = text_of(one)
    assert text.isascii()
    assert text.isprintable()
    assert decode(RECORD + one.id, text) == one
    assert decode(RECORD + "1" * 32, text) is None
    for junk in ("", "[]", "{", text[:-1], text.replace("withdraw", "explode")):
        assert decode(RECORD + one.id, junk) is None


def test_a_key_is_one_request_whoever_takes_it() -> None:
    one = id_of_key("ops", "key", b"body")
    assert one == id_of_key("ops", "key", b"body")
    assert same_key(one, id_of_key("ops", "key", b"another"))
    assert one != id_of_key("ops", "key", b"another")
    assert not same_key(one, id_of_key("others", "key", b"body"))
    held = ledger()
    held.merge([Record(one, 5, "ops", "cats", "block", "")])
    assert held.of_key(id_of_key("ops", "key", b"another")) == held.find(one)
    assert held.of_key(id_of_key("ops", "key-2", b"body")) is None


def test_of_one_request_at_two_nodes_the_larger_is_taken_of_each_member() -> None:
    one, other = record(1, at=5, a=307, b=102), record(1, at=4, a=209)
    merged = join(one, other)
    assert merged == join(other, one)
    assert (merged.at, merged.takes) == (4, {A: (3, 9), B: (1, 2)})
    held = ledger()
    held.merge([one])
    held.merge([other])
    assert held.withdrawn("cats") == {A: 3, B: 1}


def test_of_one_request_at_two_nodes_that_saw_other_members_both_are_taken() -> None:
    """So it may take twice what was asked: known, and written in the reference."""
    held = ledger()
    held.merge([record(1, at=5, a=509)])
    held.merge([record(1, at=4, b=507)])
    assert held.withdrawn("cats") == {A: 5, B: 5}
    found = held.find(record(1).id)
    assert found is not None
    assert found.number == 10
    assert held.shown("cats", {A: 9, B: 7}) == 10
    assert held.shown("cats", {A: 4, B: 7}) == 9, "never more than is there"


# -- a cluster


def correct(network: Network, name: str, *some: Record, stored: bool = True) -> None:
    replica = network.nodes[name]
    for one in some:
        replica.ledger.take(one)
    if stored:
        replica.stored(replica.batch(1000))
        network.publish(name)


def held(network: Network) -> list[int]:
    return [len(replica.ledger) for replica in network.nodes.values()]


def is_blocked(replicas: Iterable[Replica]) -> list[bool]:
    return [replica.ledger.is_blocked("cats") for replica in replicas]


def test_a_record_applies_and_is_told_once_it_is_stored() -> None:
    network = Network()
    a, b = network.node("a"), network.node("b")
    network.live(3)
    correct(network, "a", record(1, "block"), stored=False)
    network.publish("a")
    assert is_blocked([a, b]) == [False, False]
    batch = a.batch(1000)
    assert batch.kept()[RECORD + record(1).id] == text_of(record(1, "block"))
    assert a.stored(batch) == {"cats"}
    assert is_blocked([a, b]) == [True, False]
    network.publish("a")
    assert is_blocked([a, b]) == [True, True]
    # Others store what they were told.
    assert b.news()
    assert RECORD + record(1).id in b.batch(1000).kept()


def test_a_record_whose_write_failed_is_written_again() -> None:
    a = alone(f"a~{'0' * 13}.{encode_id(1, 23)}")
    a.ledger.take(record(1, "block"))
    a.not_stored(a.batch(10))
    assert not a.ledger.is_blocked("cats")
    assert a.unsaved()
    a.stored(a.batch(10))
    assert a.ledger.is_blocked("cats")


def test_a_record_that_was_lost_on_the_way_is_found_by_the_digest() -> None:
    network = Network()
    for name in "abc":
        network.node(name)
    network.live(3)
    network.lose = lambda _s, target, body: target == "b" and isinstance(body, Delta)
    correct(network, "a", record(1, "block"))
    assert held(network) == [1, 0, 1]
    network.live(2)
    assert held(network) == [1, 1, 1]
    network.sent.clear()
    network.live(3)
    assert not [body for _, _, body in network.sent if isinstance(body, RecordsRequest)]


def test_both_sides_of_a_split_hold_everything_after_it() -> None:
    network = Network()
    for name in "ab":
        network.node(name)
    network.live(3)
    network.lose = lambda *_: True
    correct(network, "a", *(record(number) for number in range(0, 400, 2)))
    correct(network, "b", *(record(number) for number in range(1, 400, 2)))
    network.live(3)
    network.lose = lambda *_: False
    network.live(4)
    assert held(network) == [400, 400]
    digests = {replica.ledger.digest for replica in network.nodes.values()}
    assert len(digests) == 1


def many(number: int) -> list[Record]:
    """Records as they are: random ids, some of them with reasons."""
    return [
        Record(
            id_of_key("", str(n), b""), n, "ops", f"video-{n % 997}", "withdraw", "x" * (n % 40),
            {A: (1 + n % 5, 1000 + n), B: (1, 7)},
        )
        for n in range(number)
    ]  # fmt: skip


def test_one_of_many_records_is_found_without_telling_the_others() -> None:
    network = Network()
    a, b = network.node("a"), network.node("b")
    some = many(20_000)
    a.ledger.merge(some)
    b.ledger.merge(some[:-2])
    a.ledger.merge([record(1, "block", "last")])
    network.live(4)
    assert a.ledger.digest == b.ledger.digest
    assert b.ledger.is_blocked("last")
    pages = [body for _, _, body in network.sent if isinstance(body, RecordsPage)]
    assert sum(len(page.records) for page in pages) < 500
    reports = [body for _, _, body in network.sent if isinstance(body, Report)]
    assert max(len(encode(message(body), None)) for body in reports) < 500


def test_a_node_that_joins_is_ready_when_it_holds_every_record() -> None:
    network = Network()
    a = network.node("a", has_peers=False)
    a.ledger.merge([*many(2_000), record(1, "block")])
    network.seconds(2)
    late = network.node("b")
    network.lose = lambda _s, target, body: target == "b" and isinstance(body, RecordsPage)
    network.seconds(3)
    assert late.state == "joining"
    assert "records of operators" in [lack.what for lack in late.joining.lacks(network.now)]
    network.lose = lambda *_: False
    network.seconds(4)
    assert late.complete
    assert late.ledger.digest == a.ledger.digest
    assert late.ledger.is_blocked("cats")


def test_records_that_the_store_holds_are_there_after_a_start_and_junk_is_asked_of_peers() -> None:
    network = Network()
    a = network.node("a")
    right = [record(1, "block"), record(2, a=307)]
    a.ledger.merge(right)
    notes = {RECORD + one.id: text_of(one) for one in right}
    whole = network.node("b", notes=notes)
    assert whole.ledger.is_blocked("cats")
    assert whole.ledger.withdrawn("cats") == {A: 3}
    damaged = network.node("c", notes={**notes, RECORD + right[0].id: "[17]"})
    assert not damaged.ledger.is_blocked("cats")
    network.live(4)
    assert damaged.ledger.digest == a.ledger.digest
    assert damaged.backlog.notes[RECORD + right[0].id] == notes[RECORD + right[0].id]


def test_what_a_store_has_forgotten_of_the_ledger_is_written_again() -> None:
    network = Network()
    a = network.node("a")
    network.live(2)
    correct(network, "a", record(1, "block"))
    a.recovery.forgotten([], {})
    a.recovery.all_loaded()
    assert RECORD + record(1).id in a.batch(1000).kept()


def test_a_stopping_node_waits_until_a_peer_holds_its_records() -> None:
    network = Network()
    a, _ = network.node("a"), network.node("b")
    network.live(3)
    network.lose = lambda *_: True
    correct(network, "a", record(1, "block"))
    assert not a.held(network.now)
    network.lose = lambda *_: False
    network.live(3)
    assert a.held(network.now)


def test_nobody_is_asked_again_and_again_for_what_cannot_be_read_here() -> None:
    network = Network()
    a, b = network.node("a"), network.node("b")
    network.live(3)
    a.ledger.merge([record(1)])
    # As if its content was of a later version: it is left out of every message.
    nothing: tuple[set[str], int] = (set(), 0)
    b.ledger.merge = lambda records: nothing  # type: ignore[method-assign]
    network.sent.clear()
    network.live(10)
    asked = [body for _, _, body in network.sent if isinstance(body, RecordsRequest)]
    assert 1 <= len(asked) <= 2


def test_wrong_questions_are_not_answered() -> None:
    held = ledger()
    held.merge([record(1)])
    for hashes in (bytes(7), bytes(24), bytes(8 * 3)):
        assert held.answer(RecordsRequest(hashes, "")) is None
    page = held.answer(RecordsRequest(bytes(8), ""))
    assert page is not None
    assert page.records == [record(1)]
    assert ledger().answer(RecordsRequest(bytes(8), "")) is None


def test_there_is_an_end_to_the_records_that_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "MAX_HELD", 3)
    held = ledger()
    changed, left_out = held.merge([record(number) for number in range(5)])
    assert (changed, left_out, len(held)) == ({"cats"}, 2, 3)


def test_a_large_ledger_makes_no_step_long() -> None:
    """100,000 records: a start reads them in about a second, and a report costs nothing."""
    some = many(100_000)
    notes = {RECORD + one.id: text_of(one) for one in some}
    held, since = ledger(), time.process_time()
    held.opened(notes)
    assert time.process_time() - since < 8
    assert len(held) == 100_000
    since = time.process_time()
    for _ in range(1000):
        assert held.digest
        held.is_blocked("video-1")
        held.shown("video-1", {A: 5})
    assert time.process_time() - since < 0.2
    since = time.process_time()
    held.answer(RecordsRequest(bytes(8 * 4096), ""))
    assert time.process_time() - since < 0.2
