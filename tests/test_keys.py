"""Idempotency keys: the bookkeeping alone, then replicas in virtual time that lose messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counter.crdt.ids import encode_id
from counter.protocol.key_log import Entry, Key
from counter.protocol.keys import Found, Keys
from counter.protocol.messages import (
    MAX_BYTES,
    Body,
    Delta,
    Envelope,
    KeysPage,
    KeysRequest,
    Report,
    encode,
)
from counter.protocol.peers import Peer, Peers
from counter.protocol.questions import Questions
from counter.protocol.replica import Replica
from tests.protocol import Network, print_of

A = f"a~{encode_id(1, 13)}.{encode_id(1, 23)}"
B = f"b~{encode_id(2, 13)}.{encode_id(1, 23)}"
LATER_A = f"a~{encode_id(1, 13)}.{encode_id(2, 23)}"
PRINT = b"0123456789abcdef"
OTHER_PRINT = b"fedcba9876543210"


class SmallKeys(Keys):
    limit = 4
    page_bytes = 100


class FewKeys(Replica):
    keys_class = SmallKeys


class ShortKeys(Keys):
    """Keys of which a message holds two."""

    page_bytes = 2 * 37


class ShortPages(Replica):
    keys_class = ShortKeys


def keys(own: str = A, kind: type[Keys] = Keys, epoch: float = 1000.0, now: float = 0.0) -> Keys:
    return kind(own, Peers(3.0, 4.0), Questions(2.0), 1.0, epoch, 4.0, now)


def take(of: Keys, *texts: str, now: float = 0.0) -> None:
    """Take keys, and store them."""
    for text in texts:
        of.take(Key(text, PRINT, now))
    of.stored(of.batch(100))


def peer(address: str = "b") -> Peer:
    return Peer(address, 0.0, 0.0)


def told(of: Keys) -> dict[str, int]:
    return of.report(100)


def state(replica: Replica) -> str:
    return replica.state


@pytest.fixture
def network() -> Network:
    return Network()


# -- the bookkeeping


def test_a_key_is_known_from_the_moment_it_is_taken_and_told_once_it_is_stored() -> None:
    a = keys()
    assert a.find("k", 0.0) is None
    a.take(Key("k", PRINT, 0.0))
    assert a.find("k", 0.0) == Found(PRINT, "pending")
    written = a.batch(10)
    assert a.find("k", 0.0) == Found(PRINT, "in flight")
    assert a.publish(0.0) == []
    a.stored(written)
    assert a.find("k", 0.0) == Found(PRINT, "committed")
    assert told(a) == {}, "more than was published would look like a loss"
    assert a.publish(2.0) == [KeysPage(A, 0, [(1, "k", PRINT, 2000)], 1)]
    assert told(a) == {A: 1}
    assert a.publish(3.0) == []


def test_a_key_of_a_failed_batch_stays_known_and_is_written_again_under_its_number() -> None:
    a = keys()
    a.take(Key("first", PRINT, 0.0))
    failed = a.batch(10)
    a.take(Key("second", PRINT, 0.5))
    a.not_stored(failed)
    assert a.find("first", 1.0) == Found(PRINT, "pending")
    again = a.batch(10)
    assert [entry[1:] for entry in again.own] == [
        (1, Key("first", PRINT, 0.0)),
        (2, Key("second", PRINT, 0.5)),
    ]
    a.stored(again)
    assert not a.unsaved()


def test_a_key_is_forgotten_after_its_life_here_and_in_the_store() -> None:
    a = keys()
    take(a, "k")
    assert a.find("k", a.life - 0.1) is not None
    assert a.find("k", a.life) is None
    a.forget(a.life)
    assert len(a) == 0
    assert a.unsaved()
    written = a.batch(10)
    assert written.notes == {f"key:{A} 1": ""}
    a.stored(written)
    assert not a.unsaved()
    take(a, "k", now=a.life + 1)
    assert a.batch(10).notes == {}
    assert [page.keys for page in a.publish(a.life + 2)] == [[(2, "k", PRINT, 1000)]]


def test_of_too_many_keys_of_a_peer_the_oldest_is_forgotten_and_does_not_come_back() -> None:
    """No node tells more than it can hold itself."""
    a = keys(kind=SmallKeys)
    take(a, "a1", now=1.0)
    taken = [(number, f"b{number}", PRINT, 0) for number in range(1, 6)]
    page = KeysPage(B, 0, taken[:4], 4)
    assert a.merge(page, peer(), 2.0) is None
    assert a.merge(KeysPage(B, 4, taken[4:], 5), peer(), 3.0) is None
    held = [key for key in ("a1", "b1", "b2", "b3", "b4", "b5") if a.find(key, 3.0)]
    assert held == ["a1", "b2", "b3", "b4", "b5"]
    a.merge(page, peer(), 4.0)
    assert a.find("b1", 4.0) is None


def test_what_the_store_holds_is_known_to_the_next_run_by_its_age() -> None:
    first = keys(epoch=1000.0)
    first.take(Key("k", PRINT, 500.0))
    notes = first.batch(10).notes
    later = keys(LATER_A, epoch=1500.0)
    later.opened(notes | {"log:x": "7", "key:junk": "?", f"key:{A} 7": "one xx k"})
    assert later.find("k", 599.9) == Found(PRINT, "committed")
    assert later.find("k", 600.0) is None
    assert told(later) == {A: 1}
    assert not later.unsaved()


def test_the_keys_of_others_are_stored_in_bounded_batches_and_without_gaps() -> None:
    a = keys()
    entries = [(serial, f"k{serial}", PRINT, 0) for serial in range(1, 8)]
    a.merge(KeysPage(B, 5, entries[5:], 7), peer(), 0.0)
    assert a.find("k6", 0.0) is not None
    assert told(a) == {}
    assert not a.unsaved(), "a later run would take it for all up to there"
    a.merge(KeysPage(B, 0, entries[:5], 5), peer(), 0.0)
    a.merge(KeysPage(B, 5, entries[5:], 7), peer(), 0.0)
    assert told(a) == {B: 7}
    kept: dict[str, str] = {}
    while a.unsaved():
        written = a.batch(3)
        assert len(written.notes) <= 3
        a.not_stored(written)
        written = a.batch(3)
        kept |= written.notes
        a.stored(written)
        later = keys(LATER_A)
        later.opened(kept)
        assert told(later) == {B: len(kept)}
    assert list(kept) == [f"key:{B} {serial}" for serial in range(1, 8)]


def test_a_store_that_forgot_is_given_every_key_again_its_own_before_a_new_one() -> None:
    a = keys()
    take(a, "a1", "a2")
    a.merge(KeysPage(B, 0, [(1, "b1", PRINT, 0)], 1), peer(), 0.0)
    a.stored(a.batch(10))
    a.forgotten()
    a.opened({})
    a.take(Key("a3", PRINT, 1.0))
    written = a.batch(1)
    assert list(written.notes) == [f"key:{A} {serial}" for serial in (1, 2, 3)]
    a.stored(written)
    assert list(a.batch(1).notes) == [f"key:{B} 1"]


def test_a_later_run_has_numbers_of_its_own_and_takes_over_what_is_not_written() -> None:
    a = keys()
    take(a, "k")
    a.publish(0.0)
    a.take(Key("next", PRINT, 1.0))
    a.start_new_run(LATER_A)
    a.stored(a.batch(10))
    assert a.publish(1.0) == [KeysPage(LATER_A, 0, [(1, "next", PRINT, 0)], 1)]
    assert told(a) == {A: 1, LATER_A: 1}


def test_nobody_else_takes_keys_for_a_replica() -> None:
    a = keys()
    assert a.merge(KeysPage(A, 0, [(1, "k", PRINT, 0)], 9), peer(), 0.0) is None
    assert list(a.compare({A: 9}, peer(), 0.0)) == []
    assert a.find("k", 0.0) is None
    assert a.holds(Peer("b", 0.0, 0.0, keys={A: 9}))


def test_a_key_that_two_replicas_have_counted_is_noticed_once() -> None:
    a = keys()
    take(a, "k", now=1.0)
    page = KeysPage(B, 0, [(1, "k", OTHER_PRINT, 0)], 1)
    for _ in range(3):
        a.merge(page, peer(), 2.0)
    assert a.counted_again == 1
    assert a.last_counted_again == f"key=k replicas={A},{B}"
    assert a.find("k", 2.0) == Found(OTHER_PRINT, "committed"), "the later one lives longer"
    b = keys(B)
    b.take(Key("k", OTHER_PRINT, 2.0))
    b.merge(KeysPage(A, 0, [(1, "k", PRINT, 1000)], 1), peer("a"), 2.0)
    b.stored(b.batch(10))
    assert b.counted_again == 1
    a.forget(a.life + 1.0)
    assert a.find("k", a.life + 1.0) is not None
    a.forget(a.life + 2.0)
    assert len(a) == 0


def test_a_key_that_is_used_again_after_its_life_is_not_doubled() -> None:
    a = keys()
    take(a, "k")
    a.merge(KeysPage(B, 0, [(1, "k", PRINT, 0)], 1), peer(), a.life)
    assert a.counted_again == 0


def test_an_old_key_does_not_hide_the_same_one_of_later() -> None:
    a = keys(now=700.0)
    a.opened(
        {f"key:{B} 1": f"1000000 {PRINT.hex()} k", f"key:{LATER_A} 1": f"1700000 {PRINT.hex()} k"}
    )
    a.opened({f"key:{B} 2": f"1010000 {PRINT.hex()} k"})
    a.forget(701.0)
    assert a.find("k", 701.0) is not None
    assert len(a) == 1


def test_a_key_of_a_clock_that_was_ahead_is_kept_for_no_longer_than_any() -> None:
    a = keys(epoch=1000.0, now=5.0)
    a.opened({f"key:{B} 1": f"999000000 {PRINT.hex()} k"})
    assert a.find("k", 5.0 + a.life - 0.1) == Found(PRINT, "committed")
    assert a.find("k", 5.0 + a.life) is None


@pytest.mark.parametrize("epoch", [1000.0, 8200.0, -8200.0])
def test_a_key_ages_with_its_store_whatever_the_clock_is_set_to(epoch: float) -> None:
    a = keys(epoch=1000.0)
    a.opened({}, zero=100.0)
    a.take(Key("k", PRINT, 500.0))
    written = a.batch(10)
    # At the next start the store is 650 s old, and the key 50 s.
    later = keys(LATER_A, epoch=epoch, now=10.0)
    later.opened(written.notes, zero=640.0)
    assert later.find("k", 10.0 + a.life - 50.1) is not None
    assert later.find("k", 10.0 + a.life - 50.0) is None


def test_a_run_that_was_put_back_numbers_its_keys_anew_and_asks_for_those_it_lost() -> None:
    a = keys()
    take(a, "since", now=1.0)
    peers = KeysPage(A, 0, [(1, "lost", PRINT, 0)], 1)
    a.start_new_run(LATER_A, reverted=True)
    assert list(a.compare({A: 1}, peer(), 2.0)) == [KeysRequest(A, 0)]
    a.merge(peers, peer(), 2.0)
    assert a.find("lost", 2.0) == Found(PRINT, "committed")
    found = a.find("since", 2.0)
    assert found is not None
    written = a.batch(10)
    assert [(entry.replica, entry.serial, entry.key.text) for entry in written.own] == [
        (LATER_A, 1, "since")
    ]
    a.stored(written)
    assert [page.replica for page in a.publish(2.0)] == [LATER_A]
    assert a.counted_again == 0


def test_keys_are_asked_for_of_every_address_within_the_life_of_a_message() -> None:
    a = keys()
    page = KeysPage(B, 0, [(1, "k", PRINT, 0)], 1)
    assert not a.was_asked(page, peer("c"), 0.0)
    assert list(a.compare({B: 5}, peer("c"), 0.0)) == [KeysRequest(B, 0)]
    # Another is asked meanwhile, as the first does not answer: both answers are welcome.
    assert list(a.compare({B: 5}, peer("d"), 1.0)) == [KeysRequest(B, 0)]
    for address in "cd":
        assert a.was_asked(page, peer(address), 4.0)
    assert not a.was_asked(page, peer("e"), 4.0)
    assert not a.was_asked(page, peer("c"), 4.1)
    a.forget(5.1)
    assert not a.was_asked(page, peer("d"), 5.1)


def test_who_does_not_answer_is_not_asked_again_at_once() -> None:
    a = keys()
    known = peer()
    assert list(a.compare({B: 5}, known, 0.0)) == [KeysRequest(B, 0)]
    assert list(a.compare({B: 6}, known, 1.9)) == []
    assert list(a.compare({B: 6}, peer("c"), 1.0)) == [KeysRequest(B, 0)]
    assert a.merge(KeysPage(B, 0, [(1, "k", PRINT, 0)], 4), peer("c"), 1.1) == KeysRequest(B, 4)
    assert a.merge(KeysPage(B, 4, [], 4), peer("c"), 1.2) is None, "no answer leads on for ever"
    assert a.merge(KeysPage(B, 4, [], 6), peer("c"), 1.2) is None


@given(st.lists(st.sampled_from("12345abcde"), max_size=40), st.randoms(use_true_random=False))
def test_any_order_of_pages_ends_with_every_key(order: list[str], choose: object) -> None:
    a, b = keys(), keys(B, ShortKeys)
    take(b, *(f"key-{number}" for number in range(10)))
    pages = {str(n): page for n, page in enumerate(b.publish(0.0), 1)}
    assert len(pages) > 2
    for name in order:
        if name in pages:
            a.merge(pages[name], peer(), 0.0)
        assert told(a).get(B, 0) <= 10
    ask: KeysRequest | None = next(a.compare({B: 10}, peer(), 5.0), None)
    while ask is not None:
        answer = b.answer(ask, 5.0)
        assert answer is not None
        ask = a.merge(answer, peer(), 5.0)
    assert told(a) == {B: 10}
    assert len(a) == 10


# -- replicas


def test_keys_of_another_that_nobody_was_asked_for_are_dropped(network: Network) -> None:
    a, b, c = (network.node(name) for name in "abc")
    network.seconds(2)
    taken = KeysPage(f"gone{b.id[1:]}", 0, [(1, "k", PRINT, 0)], 1)
    a.receive(Envelope(b.id, "b", 0, taken), network.now)
    a.receive(Envelope(b.id, "b", 0, KeysPage(c.id, 0, [(1, "k", PRINT, 0)], 1)), network.now)
    assert a.keys.find("k", network.now) is None
    a.receive(Envelope(b.id, "b", 0, KeysPage(b.id, 0, [(1, "k", PRINT, 0)], 1)), network.now)
    assert a.keys.find("k", network.now) is not None, "a replica tells its own"


def test_a_repeat_is_known_at_every_node_and_another_request_with_its_key_is_told_apart(
    network: Network,
) -> None:
    for name in "abc":
        network.node(name)
    network.seconds(2)
    assert network.post("a", "k", "cats cats dogs") == "counted"
    for name in "abc":
        assert network.post(name, "k", "cats cats dogs") == "committed"
        assert network.post(name, "k", "cats") == "another request"
        assert network.nodes[name].tally.visits("cats") == 2


def test_a_repeat_meets_the_first_on_its_way_to_the_store(network: Network) -> None:
    a = network.node("a")
    network.post("a", "k", stored=False)
    assert network.post("a", "k") == "pending"
    batch = a.batch(10)
    assert network.post("a", "k") == "in flight"
    a.not_stored(batch)
    assert network.post("a", "k") == "pending"
    a.stored(a.batch(10))
    assert network.post("a", "k") == "committed"
    assert a.tally.visits("cats") == 1


def test_visits_that_cannot_be_counted_leave_their_key_free(network: Network) -> None:
    a = network.node("a")
    a.count_many({"cats": 2**53 - 1})
    with pytest.raises(OverflowError):
        a.count_many({"dogs": 1, "cats": 1}, key=Key("k", PRINT, 0.0))
    assert a.keys.find("k", 0.0) is None


def test_more_visits_than_a_total_can_tell_are_refused(network: Network) -> None:
    a = network.node("a")
    with pytest.raises(OverflowError, match="this run"):
        a.count_many({f"v{number}": 2**53 - 1 for number in range(10)})
    a.count_many({f"v{number}": 2**53 - 1 for number in range(8)})
    with pytest.raises(OverflowError, match="this run"):
        a.count_many({"v9": 100})
    network.visit(a, "v9")
    assert all(encode(Envelope(run, "a", 0, delta), None) for run, delta in a.publish())


def test_nothing_is_asked_when_no_key_is_lost(network: Network) -> None:
    for name in "abc":
        network.node(name)
    network.seconds(2)
    network.sent.clear()
    for number in range(5):
        for name in "abc":
            network.post(name, f"{name}-{number}")
        network.post("a", f"unpublished-{number}", stored=False)
        network.nodes["a"].stored(network.nodes["a"].batch(10))
        for name in "abc":
            network.do(name, network.nodes[name].sync(network.now))
        network.now += 1.0
        network.publish("a")
    # Long after its last keys a node takes one more.
    network.seconds(int(Keys.life) + 5)
    network.post("b", "late")
    network.seconds(1)
    assert not [body for _, _, body in network.sent if isinstance(body, KeysRequest)]


@pytest.mark.parametrize("kind", [Replica, ShortPages])
def test_a_lost_key_is_repaired_with_the_next_one(network: Network, kind: type[Replica]) -> None:
    a, b = network.node("a", kind=kind), network.node("b", kind=kind)
    network.seconds(2)
    network.lose = lambda _source, _target, body: isinstance(body, KeysPage)
    for number in range(5):
        network.post("a", f"lost-{number}")
    network.lose = lambda *_: False
    assert b.keys.find("lost-0", network.now) is None
    network.post("a", "next")
    for number in range(5):
        assert network.post("b", f"lost-{number}") == "committed"
    assert network.post("b", "next") == "committed"
    assert len(a.keys) == len(b.keys) == 6


def test_a_lost_last_key_is_repaired_with_the_next_report(network: Network) -> None:
    network.node("a")
    network.node("b")
    network.seconds(2)
    network.lose = lambda _source, _target, body: isinstance(body, (KeysPage, Delta))
    network.post("a", "k")
    network.lose = lambda *_: False
    network.seconds(1)
    assert network.post("b", "k") == "committed"


def test_a_key_of_a_node_that_is_gone_is_told_by_who_holds_it(network: Network) -> None:
    for name in "abc":
        network.node(name)
    network.seconds(2)
    network.lose = lambda _source, target, _body: target == "c"
    network.post("a", "k")
    del network.nodes["a"]
    network.lose = lambda *_: False
    network.seconds(5)
    assert network.post("c", "k") == "committed"


def test_after_a_split_each_side_knows_the_keys_of_the_other(network: Network) -> None:
    for name in "abcd":
        network.node(name)
    network.seconds(2)
    sides = "ab", "cd"
    network.lose = lambda source, target, _body: (source in sides[0]) != (target in sides[0])
    for name in "abcd":
        network.post(name, f"of-{name}", f"video-{name}")
        network.seconds(2)
    assert network.nodes["d"].keys.find("of-a", network.now) is None
    # In the window: nobody on this side could know of it.
    assert network.post("c", "of-b", "video-b") == "counted"
    network.seconds(5)
    network.lose = lambda *_: False
    network.seconds(2)
    for name in "abcd":
        for taker in "abcd":
            assert network.post(name, f"of-{taker}", f"video-{taker}") == "committed"
        assert network.nodes[name].tally.visits("video-b") == 2
        assert network.nodes[name].keys.counted_again == 1
    assert "key=of-b" in network.nodes["a"].keys.last_counted_again


def test_a_killed_node_knows_its_keys_again_and_tells_those_that_it_had_only_stored(
    network: Network,
) -> None:
    a, b = network.node("a"), network.node("b")
    network.seconds(2)
    network.post("b", "told", "dogs")
    network.post("a", "stored", stored=False)
    batch = a.batch(100)
    a.stored(batch)
    a.stored(a.batch(100))
    del network.nodes["a"]
    again = network.node("a", run=1, notes=batch.kept())
    again.recovery.loaded(a.id, batch.counts[a.id])
    assert network.post("a", "stored") == "committed"
    assert b.keys.find("stored", network.now) is None
    network.seconds(1)
    assert network.post("b", "stored") == "committed"
    assert b.tally.visits("cats") == 1


def test_a_node_that_joins_is_ready_when_it_knows_the_keys_of_its_peers(network: Network) -> None:
    network.node("a", kind=ShortPages)
    network.node("b")
    network.seconds(2)
    for number in range(9):
        network.post("a", f"k{number}")
    network.lose = lambda _source, _target, body: isinstance(body, KeysPage)
    c = network.node("c")
    network.seconds(4)
    assert c.tally.visits("cats") == 9
    assert state(c) == "joining"
    network.seconds(4)
    assert state(c) == "ready", "for what does not depend on what was counted"
    assert not c.complete
    assert {lack.what for lack in c.joining.lacks(network.now)} == {"keys"}
    network.lose = lambda *_: False
    network.seconds(3)
    assert c.complete
    assert c.joining.lacks(network.now) == []
    assert len(c.keys) == 9


def test_a_stopping_node_waits_until_a_peer_holds_its_keys(network: Network) -> None:
    a, b = network.node("a"), network.node("b")
    network.seconds(2)
    network.lose = lambda _source, _target, body: isinstance(body, (KeysPage, KeysRequest))
    network.post("a", "k")
    network.seconds(1)
    network.do("a", a.leave(network.now))
    assert b.tally.totals() == a.tally.totals()
    assert not a.held(network.now)
    network.lose = lambda *_: False
    network.seconds(2)
    assert a.held(network.now)


def test_keys_expire_everywhere_and_then_cost_nothing(network: Network) -> None:
    for name in "ab":
        network.node(name)
    network.seconds(2)
    network.post("a", "k")
    network.now += Keys.life - 3.0
    network.seconds(2)
    assert network.post("b", "k") == "committed"
    network.seconds(2)
    assert network.post("b", "k") == "counted"
    network.now += Keys.life
    network.seconds(2)
    network.sent.clear()
    network.seconds(2)
    reports = [body for _, _, body in network.sent if isinstance(body, Report)]
    assert reports
    assert len(reports) == len(network.sent)
    assert all(report.keys == {} for report in reports)


def test_a_message_holds_as_many_keys_as_fit_into_it(network: Network) -> None:
    a, b = network.node("a"), network.node("b")
    network.seconds(2)
    for number in range(3000):
        a.count_many({"cats": 1}, key=Key(f"{number:0128}", print_of("cats"), network.now))
    a.stored(a.batch(10))
    network.sent.clear()
    network.publish("a")
    pages: list[Body] = [body for _, _, body in network.sent if isinstance(body, KeysPage)]
    assert 8 < len(pages) < 16
    sizes = [len(encode(Envelope(a.id, "a", 0, page), "secret")) for page in pages]
    assert max(sizes) < MAX_BYTES
    assert len(b.keys) == 3000


def test_an_entry_names_its_replica(network: Network) -> None:
    a = network.node("a")
    network.post("a", "k", stored=False)
    assert a.batch(10).keys.own == [Entry(a.id, 1, Key("k", print_of("cats"), 0.0))]
