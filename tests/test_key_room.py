"""Nobody pushes the idempotency keys of others out, nor takes them first."""

import json
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counter.crdt.ids import KEY
from counter.protocol.client import STRANGER, Client, has_token
from counter.protocol.key_log import Key
from counter.protocol.key_room import KeyRoom, NoRoomError
from counter.protocol.keys import Keys
from counter.protocol.messages import KeysPage
from lab import clients
from lab.clients import until
from lab.servers import Node
from tests.nodes import mesh
from tests.protocol import Network
from tests.test_http import Answer, ask, samples, visits
from tests.test_keys import PRINT, A, B, FewKeys, SmallKeys, keys, peer, state, take

IMPORT, OTHER = "the-secret-of-import", "the-secret-of-other"
NEXT = "the-next-secret-of-import"
TOKENS = f"import:{IMPORT},import:{NEXT},other:{OTHER}"
JSON = {"Content-Type": "application/json"}
OF_ADDRESS = Keys.limit // 100

addresses = st.sampled_from(["a", "b", "c", "d"])


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    with mesh(tmp_path_factory.mktemp("keys"), 2, WRITE_TOKEN=TOKENS) as nodes:
        yield nodes


@pytest.fixture
def network() -> Network:
    return Network()


def post(
    node: Node, key: str, video: str = "", token: str = "", address: str = "", count: int = 1
) -> Answer:
    headers = JSON | {"Idempotency-Key": key}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if address:
        headers["X-Forwarded-For"] = address
    body = json.dumps([{"video": video, "count": count}] if video else []).encode()
    return ask(node, "POST", "/visits", headers, body)


def held(node: Node) -> float:
    return samples(node)["counter_keys"]


# -- at nodes


def test_empty_requests_with_keys_push_no_key_out(two: list[Node]) -> None:
    """104,000 of them made a node forget a key; its repeat counted twice, silently."""
    before = held(two[0])
    for number in range(50):
        assert post(two[0], f"empty-{number}").json() == {"records": 0, "visits": 0}
    assert held(two[0]) == before
    assert post(two[0], "empty-1", "of-an-empty-key").json()["visits"] == 1
    assert post(two[0], "empty-1").status == 422


def test_keys_of_one_address_end_at_a_hundredth_and_others_go_on(two: list[Node]) -> None:
    node = two[0]
    assert post(node, "of-somebody", "somebody", address="10.0.0.2").status == 200
    body, statuses = b'[{"video": "flooded", "count": 1}]', []
    with clients.Client(node.url) as client:
        for number in range(OF_ADDRESS + 10):
            headers = JSON | {"X-Forwarded-For": "10.0.0.1", "Idempotency-Key": f"f-{number}"}
            statuses.append(client.ask("POST", "/visits", headers, body)[0])
    assert statuses == [200] * OF_ADDRESS + [429] * 10
    refused = post(node, "one-more", "flooded", address="10.0.0.1")
    assert refused.status == 429
    assert "one address" in refused.problem()["detail"]
    assert 1 <= int(refused.headers["retry-after"]) <= Keys.life
    assert visits(node, "flooded") == OF_ADDRESS
    assert samples(node)["counter_keys_refused_total{reason=address}"] >= 11
    # Its own are known, everybody else's are, and a token or another address gets more.
    assert post(node, "f-0", "flooded", address="10.0.0.1").json()["repeated"]
    assert post(node, "of-somebody", "somebody", address="10.0.0.1").json()["repeated"]
    assert post(node, "new", "of-a-token", IMPORT, "10.0.0.1").status == 200
    assert post(node, "new", "of-another", address="10.0.0.2").status == 200


def test_a_key_belongs_to_the_label_of_its_token(two: list[Node]) -> None:
    """Taking somebody's key first gave its owner a 422."""
    assert post(two[0], "daily", "junk").status == 200
    assert post(two[0], "daily", "import", IMPORT).json() == {"records": 1, "visits": 1}
    assert post(two[0], "daily", "other", OTHER).json() == {"records": 1, "visits": 1}
    until(lambda: visits(two[1], "import") == visits(two[1], "other") == 1, 10, "both know")
    # In one scope it counts once, at any node, from any address, whichever secret comes with it.
    for node in two:
        for token in (IMPORT, NEXT):
            again = post(node, "daily", "import", token, "10.9.9.9")
            assert again.json()["repeated"]
        assert post(node, "daily", "another", IMPORT).status == 422
        assert post(node, "daily", "junk").json()["repeated"]
    until(lambda: visits(two[1], "import") == visits(two[1], "other") == 1, 10, "both have all")


def test_a_strangers_key_that_looks_like_a_scoped_one_is_another(two: list[Node]) -> None:
    scoped = Client(label="import").key("weekly")
    assert post(two[0], scoped, "forged").status == 200
    assert post(two[0], "weekly", "owner", IMPORT).json() == {"records": 1, "visits": 1}
    assert post(two[1], scoped, "forged").json()["repeated"]


# -- the scope


@given(st.none() | st.sampled_from(["", "a", "b", "write"]), st.from_regex(KEY, fullmatch=True))
def test_scope_and_key_make_one_key_of_the_present_form(label: str | None, key: str) -> None:
    made = Client("1.2.3.4", label).key(key)
    assert re.fullmatch(KEY, made)
    assert made == Client("", label).key(key), "a phone changes its address between two tries"
    assert has_token(made) == (label is not None)
    assert has_token(made) or made == key or key.startswith("~")
    assert Client().key(made) != made or made == key


def test_no_two_scopes_make_the_same_key() -> None:
    labels, texts = [None, "a", "ab", "b"], ["k", "bk", "ak", "a", "~tk"]
    made = [Client(label=label).key(text) for label in labels for text in texts]
    made += [Client().key(text) for text in made if text not in texts]
    assert len(set(made)) == len(made)


# -- the room


def refusal(of: Keys, client: Client, now: float = 0.0) -> NoRoomError | None:
    try:
        of.check_room(client, now)
    except NoRoomError as error:
        return error
    return None


def test_a_full_log_refuses_new_keys_and_forgets_none() -> None:
    with_token, a = Client(label="x"), keys(kind=SmallKeys)
    for number in range(SmallKeys.limit):
        assert refusal(a, with_token, 1.0) is None
        take(a, with_token.key(f"{number}"), now=float(number))
    full = refusal(a, with_token, 100.0)
    assert full is not None
    assert (full.reason, full.retry_after) == ("full", a.life - 100.0)
    assert all(a.find(with_token.key(f"{n}"), 100.0) for n in range(SmallKeys.limit))
    a.forget(a.life)
    assert refusal(a, with_token, a.life) is None


def test_keys_without_a_token_take_half_also_while_they_wait_for_the_store() -> None:
    a = keys(kind=SmallKeys)
    a.take(Key("one", PRINT, 0.0))
    failed = a.batch(10)
    assert refusal(a, STRANGER) is None
    a.take(Key("two", PRINT, 0.0))
    for _ in range(2):
        assert (error := refusal(a, STRANGER)) is not None
        assert error.reason == "tokenless"
        assert refusal(a, Client(label="x")) is None
        a.not_stored(failed)
        failed = a.batch(10)
    a.stored(failed)
    assert refusal(a, STRANGER) is not None
    a.forget(a.life)
    assert refusal(a, STRANGER, a.life) is None


def test_the_keys_of_a_peer_are_always_held() -> None:
    a, with_token = keys(kind=SmallKeys), Client(label="x")
    take(a, *(with_token.key(f"{number}") for number in range(SmallKeys.limit)))
    page = KeysPage(B, 0, [(n, f"b{n}", PRINT, 0) for n in range(1, 5)], 4)
    assert a.merge(page, peer(), 0.0) is None
    assert all(a.find(f"b{n}", 0.0) for n in range(1, 5))
    assert all(a.find(with_token.key(f"{n}"), 0.0) for n in range(SmallKeys.limit))
    assert len(a) == 2 * SmallKeys.limit
    # But a peer that holds no more than its own limit tells no more than that.
    a.merge(KeysPage(B, 4, [(5, "b5", PRINT, 0)], 5), peer(), 0.0)
    assert a.find("b1", 0.0) is None
    assert len(a) == 2 * SmallKeys.limit


def test_a_node_that_was_put_back_counts_its_waiting_keys_anew() -> None:
    a = keys(kind=SmallKeys)
    take(a, "one", "two")
    assert refusal(a, STRANGER) is not None
    a.start_new_run(A[:-1] + "9", reverted=True)
    assert refusal(a, STRANGER) is not None
    a.stored(a.batch(10))
    assert refusal(a, STRANGER) is not None
    a.forget(a.life)
    assert refusal(a, STRANGER, a.life) is None


def test_of_too_many_keys_none_is_forgotten_anywhere(network: Network) -> None:
    for name in "ab":
        network.node(name, kind=FewKeys)
    network.seconds(2)
    taken = []
    for number in range(10):
        name = "ab"[number % 2]
        try:
            network.nodes[name].keys.check_room(Client(label="x"), network.now)
        except NoRoomError:
            continue
        assert network.post(name, f"k{number}") == "counted"
        taken.append(f"k{number}")
        network.now += 1.0
    network.seconds(2)
    assert taken == ["k0", "k1", "k2", "k3"]
    c = network.node("c")
    network.seconds(2)
    for name in "abc":
        for key in taken:
            assert network.post(name, key) == "committed"
    assert state(c) == "ready"


@given(st.lists(st.tuples(addresses, st.floats(0, 50))), st.sampled_from([100, 200, 400]))
def test_no_address_ever_holds_more_than_a_hundredth(
    takes: list[tuple[str, float]], limit: int
) -> None:
    room, now, taken = KeyRoom(60.0, limit), 0.0, list[tuple[str, float]]()
    for address, later in takes:
        now += later
        room.forget(now)
        client = Client(address)
        live = [at for who, at in taken if who == address and now - at < 60.0]
        if len(live) == limit // 100:
            with pytest.raises(NoRoomError) as refused:
                room.check(client, 0, 0, lambda: None, now)
            assert refused.value.retry_after == max(1.0, min(live) + 60.0 - now)
        else:
            room.check(client, 0, 0, lambda: None, now)
            room.take(client, now)
            taken.append((address, now))


def test_keys_that_the_version_before_has_stored_came_without_a_token() -> None:
    a = keys(kind=SmallKeys)
    notes = {f"key:{B} {n}": f"a0 {PRINT.hex()} k{n}" for n in (1, 2)}
    a.opened(notes)
    assert refusal(a, STRANGER) is not None
    assert refusal(a, Client(label="x")) is None
