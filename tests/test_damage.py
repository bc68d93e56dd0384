"""What is damaged in a store is found, put right where that is proven, and never counted."""

import random
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from counter.crdt.gcounter import MAX_COUNT
from counter.crdt.ids import encode_id, kept_as
from counter.crdt.tally import Tally
from counter.crdt.vector import Vector
from counter.crdt.videos import Videos
from counter.node.flusher import Flusher
from counter.node.loading import Loading, sift
from counter.node.metrics import Metrics
from counter.protocol.checks import (
    Audit,
    decode_sum,
    encode_sum,
    is_fact,
    is_row,
    is_vector,
    neighbours,
    sum_name,
    sum_of,
)
from counter.protocol.members import encode_fact
from counter.store.contract import Counts, Known, Store, StoreRefusedError
from counter.store.seals import Fact, mend, seal_of
from lab.clients import until
from lab.servers import Node, Redis
from tests.protocol import alone
from tests.test_stores import (
    MemoryPlace,
    Place,
    RedisPlace,
    SqlitePlace,
    client,
    lasting_place,
    own_redis,
    place,
)

__all__ = ["client", "lasting_place", "own_redis", "place"]

ID = encode_id(7_777_777_777, 13)
MEMBER = f"counter1~{ID}"
OTHER = f"counter2~{encode_id(99, 13)}"


def run(number: int) -> str:
    return encode_id(number, 23)


FIRST, SECOND = f"{MEMBER}.{run(1)}", f"{OTHER}.{run(2)}"
FOLDED = f"{OTHER}@{run(1)}"

videos = st.text("ABYZabyz019._~/-", min_size=1, max_size=12)
counts_ = st.dictionaries(videos, st.integers(1, MAX_COUNT), min_size=1, max_size=30)


def sums(counts: Counts) -> dict[str, str]:
    """The facts that go with these counts."""
    return {sum_name(vector): encode_sum(*sum_of(kept)) for vector, kept in counts.items()}


def audit(counts: Counts, found: Counts) -> Audit:
    return Audit(list(found), sums(counts))


# -- what a sum proves


@given(counts_)
def test_a_sum_is_that_of_the_vector_in_memory(counts: dict[str, int]) -> None:
    vector = Vector(Videos())
    vector.merge(counts)
    assert sum_of(counts) == (vector.total, vector.digest)
    assert decode_sum(encode_sum(vector.total, vector.digest)) == (vector.total, vector.digest)


@given(counts_, st.data())
def test_one_changed_count_is_located_and_its_true_count_found(
    counts: dict[str, int], draw: st.DataObject
) -> None:
    video = draw.draw(st.sampled_from(sorted(counts)))
    count = draw.draw(st.integers(-5, 2**62).filter(lambda n: n != counts[video]))
    found = counts | {video: count}
    finding = audit({FIRST: counts}, {FIRST: found}).examine(FIRST, found, lambda: [video])
    assert finding.verdict == "mended"
    assert finding.counts == counts
    assert finding.bad == {video: counts[video]}


@given(counts_, st.data())
def test_one_missing_row_is_found_if_its_video_is_known_from_elsewhere(
    counts: dict[str, int], draw: st.DataObject
) -> None:
    video = draw.draw(st.sampled_from(sorted(counts)))
    found = {other: count for other, count in counts.items() if other != video}
    here = audit({FIRST: counts}, {FIRST: found})
    assert here.examine(FIRST, found, lambda: ["x" * 20, video]).counts == counts
    assert here.examine(FIRST, found, lambda: ["x" * 20]).verdict == "wrong"


@given(counts_, videos, st.integers(1, MAX_COUNT))
def test_one_row_that_has_no_place_is_found(counts: dict[str, int], video: str, count: int) -> None:
    if video in counts:
        return
    found = counts | {video: count}
    finding = audit({FIRST: counts}, {FIRST: found}).examine(FIRST, found)
    assert (finding.verdict, finding.counts, finding.bad) == ("mended", counts, {video: 0})


@given(counts_, st.data())
def test_an_id_with_a_changed_bit_is_found(counts: dict[str, int], draw: st.DataObject) -> None:
    video = draw.draw(st.sampled_from(sorted(counts)))
    changed = draw.draw(st.sampled_from(list(neighbours(video))))
    if changed in counts:
        return
    found = {changed if other == video else other: count for other, count in counts.items()}
    finding = audit({FIRST: counts}, {FIRST: found}).examine(
        FIRST, found if is_row(changed) else found | {changed: None}, lambda: [video]
    )
    assert (finding.verdict, finding.counts) == ("mended", counts)
    assert finding.bad == {video: counts[video], changed: 0}


@given(counts_, st.data())
def test_two_changed_counts_are_wrong_and_nothing_is_made_up(
    counts: dict[str, int], draw: st.DataObject
) -> None:
    if len(counts) < 2:
        return
    two = draw.draw(st.permutations(sorted(counts)))[:2]
    found = dict(counts)
    for video in two:
        found[video] = draw.draw(st.sampled_from([1, 2, 7, 2**40, MAX_COUNT]))
    if any(found[video] == counts[video] for video in two):
        return
    finding = audit({FIRST: counts}, {FIRST: found}).examine(FIRST, found)
    assert (finding.verdict, finding.counts, finding.bad) == ("wrong", found, {})


def test_what_a_vector_is_thought_of() -> None:
    counts = {FIRST: {"cats": 1}, SECOND: {"cats": 2}}
    here = Audit([FIRST, FOLDED], sums(counts))
    assert here.judge(FIRST, sum_of({"cats": 1})) == "right"
    assert here.judge(FIRST, sum_of({"cats": 3})) == "wrong"
    assert here.missing() == [SECOND]
    assert here.judge(FOLDED, sum_of({"dogs": 1})) == "wrong", "it may be the one that is missing"
    here = Audit([FIRST, SECOND, FOLDED], sums(counts))
    assert here.judge(FOLDED, sum_of({"dogs": 1})) == "unknown"
    assert Audit([FIRST], {}, doubtful=True).judge(FIRST, sum_of({"cats": 1})) == "wrong"
    here.change([FIRST])
    assert here.judge(FIRST, sum_of({"cats": 3})) == "unknown"


def test_a_vector_under_a_changed_name_is_known_by_what_it_holds() -> None:
    for name in (FIRST.replace("counter1", "counter3"), FIRST.replace("~", "\x7f")):
        here = Audit([name], sums({FIRST: {"cats": 5}}))
        assert here.judge(name, sum_of({"cats": 5})) == "wrong"
        finding = here.examine(name, {"cats": 5})
        assert (finding.verdict, finding.vector, finding.found) == ("mended", FIRST, name)


@pytest.mark.parametrize("vector", [FIRST, FOLDED])
def test_a_vector_id_with_a_changed_bit_is_no_vector_id_or_another(vector: str) -> None:
    assert is_vector(vector)
    assert all(other != vector for other in neighbours(vector))
    for bad in ("", vector[:-1], vector + "0", vector.replace("~", "."), "a b" + vector):
        assert not is_vector(bad)


def test_what_may_be_a_video_or_a_fact() -> None:
    for good in ("a", "cats/bot", "x" * 160, "A-Z.0_9~"):
        assert is_row(good)
    for bad in ("", "x" * 161, "a b", "katze\u00e4", "a\n", "a\0", "%"):
        assert not is_row(bad)
    good_facts = [
        (MEMBER, encode_fact(run(3), "", run(1))),
        (f"key:{FIRST} 17", "1700 abcd my-key"),
        ("log:counter1/visits.log", "start:1:0:0:0"),
        (sum_name(FIRST), "17 1abc"),
    ]
    for name, text in good_facts:
        assert is_fact(name, text)
    for name, text in [
        ("counter1", "x"),
        (sum_name("x"), "1 a"),
        (sum_name(FIRST), "1 A"),
        (MEMBER, "a\nb"),
        (MEMBER, ""),
        ("\udcff:x", "y"),
    ]:
        assert not is_fact(name, text)
    known, vectors, facts = sift(Known([FIRST, "x"], dict([*good_facts, ("counter1", "y")])))
    assert known == Known([FIRST], dict(good_facts))
    assert (vectors, facts) == (["x"], ["counter1"])


@given(st.text(min_size=1, max_size=20), st.text(max_size=40), st.data())
def test_a_changed_bit_of_a_fact_is_put_right(name: str, text: str, draw: st.DataObject) -> None:
    name = name.replace("\0", "0")
    seal = seal_of(name, text)
    changed_text = draw.draw(st.sampled_from([*neighbours(text), text]))
    if changed_text != text:
        assert mend(Fact(name, changed_text, seal)) == Fact(name, text, seal)
    changed_name = draw.draw(st.sampled_from([*neighbours(name)]))
    assert mend(Fact(changed_name, text, seal)) == Fact(name, text, seal)
    bit = draw.draw(st.integers(0, 47))
    assert mend(Fact(name, text, seal ^ 1 << bit)) == Fact(name, text, seal)
    assert mend(Fact(name, text, None)) is None
    assert mend(Fact(name + "xy", text + "z", seal)) is None


# -- what the stores do about it

COUNTS = {
    FIRST: {f"video-{number}": number + 1 for number in range(150)},
    SECOND: {"cats": 7, "dogs": MAX_COUNT, "cats/bot": 3, "mice": 90},
    FOLDED: {f"film-{number}": 3 * number + 1 for number in range(120)},
}
FACTS = {
    MEMBER: encode_fact(run(1), "", ""),
    OTHER: encode_fact(run(2), "", run(1)),
    "log:counter1/visits.log": "start:1700000000000:0:123456:1700000000001",
    **{
        f"key:{FIRST} {number}": f"17000000{number:02} ab{number:02} k-{number}"
        for number in range(20)
    },
}
OWN = f"{MEMBER}.{run(9)}"
"""The run that comes after the damage."""


class Found(NamedTuple):
    """What was read of a store, and what was said to be wrong with it."""

    store: str
    name: str | None
    facts: dict[str, str]
    counts: dict[str, dict[str, int]]
    verdicts: dict[str, str]
    missing: list[str]
    rows: int
    said: str


def fill(place: Place, counts: Counts = COUNTS, facts: Mapping[str, str] = FACTS) -> None:
    """Make the store of a node that has run for a while."""
    store = place.store()
    store.open("a first holder", lambda: ID)
    store.begin(FIRST, {})
    for name, fact in facts.items():
        store.write({}, facts={name: "replaced later"})
        store.write({}, facts={name: fact, "key:gone 1": "x"})
    store.write({}, facts={"key:gone 1": ""})
    kept = {kept_as(vector): of_vector for vector, of_vector in counts.items()}
    store.write({f"{OTHER}.{run(1)}": {"cats": 1}, **kept}, facts=sums(counts))
    store.write({}, drop=[f"{OTHER}.{run(1)}"])
    store.close()


def read(place: Place) -> Found:
    """Open a store and load it, as a node does."""
    store = place.store()
    try:
        opened = store.open("a later holder", lambda: "0" * 13)
        known, _, strange = sift(store.known())
        store.damage.facts.extend(strange)
        store.begin(OWN, {})
        loading = Loading(store, Tally(), threading.Lock())
        counts: dict[str, dict[str, int]] = {}
        verdicts: dict[str, str] = {}
        while True:
            try:
                loaded = loading.step()
            except StopIteration:
                break
            if loaded is not None:
                counts.setdefault(loaded.vector, {}).update(loaded.counts)
                verdicts[loaded.vector] = loaded.verdict
        missing, rows = loading.missing(), loading.set_aside()
        said = loading.mend()
        return Found(*opened, known.facts, counts, verdicts, missing, rows, said)
    finally:
        store.close()


def whole(place: Place) -> Found:
    """What is read of a store that is not damaged."""
    found = read(place)
    assert found.facts == FACTS | sums(COUNTS)
    assert found.counts == COUNTS
    assert set(found.verdicts.values()) == {"right"}
    assert found.said == ""
    return found


def put_count(place: Place, vector: str, video: str | bytes, count: object) -> None:
    """Change a row from outside, None to take it out."""
    if isinstance(place, MemoryPlace):
        kept: dict[Any, Any] = place._store.counts[vector]
        kept[video] = count
        if count is None:
            del kept[video]
    elif isinstance(place, SqlitePlace):
        raw = video if isinstance(video, bytes) else video.encode()
        with closing(sqlite3.connect(place.folder / "counter.sqlite")) as db, db:
            number = db.execute("SELECT number FROM vectors WHERE vector = ?", (vector,)).fetchone()
            row = (*number, raw)
            db.execute("DELETE FROM counts WHERE vector = ? AND video = CAST(? AS TEXT)", row)
            if count is not None:
                db.execute("INSERT INTO counts VALUES (?, CAST(? AS TEXT), ?)", (*row, count))
    elif isinstance(place, RedisPlace):
        key = place.key(f"vector:{vector}")
        place._redis.hdel(key, video)
        if count is not None:
            place._redis.hset(key, video, count)  # type: ignore[arg-type] # whatever it is


def put_fact(place: Place, name: str, fact: str | None) -> None:
    """Change the text of a fact from outside, but not its seal; None to take it out."""
    if isinstance(place, MemoryPlace):
        place._store.facts[name] = fact or ""
        if fact is None:
            del place._store.facts[name]
    elif isinstance(place, SqlitePlace):
        with closing(sqlite3.connect(place.folder / "counter.sqlite")) as db, db:
            if fact is None:
                db.execute("DELETE FROM facts WHERE name = ?", (name,))
            else:
                db.execute("UPDATE facts SET fact = ? WHERE name = ?", (fact, name))
    elif isinstance(place, RedisPlace):
        key = place.key("facts")
        if fact is None:
            place._redis.hdel(key, name)
        else:
            seal: Any = place._redis.hget(key, name)
            place._redis.hset(key, name, seal[:12] + fact.encode())


def test_a_store_that_is_not_damaged_is_read_as_it_was_written(place: Place) -> None:
    fill(place)
    for _ in range(3):
        whole(place)


def test_one_changed_count_is_put_right_in_the_store_and_what_it_was_is_kept(place: Place) -> None:
    fill(place)
    put_count(place, FIRST, "video-7", 8 + 2**20)
    found = read(place)
    assert found.counts == COUNTS
    assert found.verdicts == {FIRST: "mended", SECOND: "right", FOLDED: "right"}
    assert found.rows == 1
    assert "counts put right" in found.said
    if isinstance(place, SqlitePlace):
        [copy] = place.folder.glob("counter.sqlite.damaged-*")
        assert str(copy) in found.said
        with closing(sqlite3.connect(copy)) as db:
            counts = db.execute("SELECT count FROM counts WHERE video = 'video-7'").fetchall()
        assert counts == [(8 + 2**20,)]
    elif isinstance(place, RedisPlace):
        assert place.key("set-aside") in found.said
        kept: Any = place._redis.hgetall(place.key("set-aside"))
        assert kept == {f"{FIRST} video-7".encode(): str(8 + 2**20).encode()}
    whole(place)


@pytest.mark.parametrize("count", [0, -5, 2**53, 2**62])
def test_a_count_out_of_range_is_put_right(place: Place, count: int) -> None:
    fill(place)
    put_count(place, SECOND, "dogs", count)
    found = read(place)
    assert found.counts == COUNTS
    assert found.rows == 1
    whole(place)


@pytest.mark.parametrize("count", [b"\xff\x00", "many", 5.5])
def test_a_count_that_is_no_number_is_put_right(lasting_place: Place, count: object) -> None:
    fill(lasting_place)
    put_count(lasting_place, SECOND, "mice", count)
    found = read(lasting_place)
    assert found.counts == COUNTS
    assert found.rows >= 1
    whole(lasting_place)


@pytest.mark.parametrize("video", [b"c\xe1ts", b"c\0ts", "k\u00e4tze".encode(), b"", b"a b"])
@pytest.mark.parametrize("instead", [True, False])
def test_an_id_that_is_none_is_set_aside_by_name(
    lasting_place: Place, video: bytes, instead: bool
) -> None:
    fill(lasting_place)
    put_count(lasting_place, SECOND, video, 7)
    if instead:
        put_count(lasting_place, SECOND, "cats", None)
    found = read(lasting_place)
    others = {"dogs": MAX_COUNT, "cats/bot": 3, "mice": 90}
    if not instead:
        others["cats"] = 7
    assert {video: found.counts[SECOND].get(video) for video in others} == others
    assert found.counts[SECOND].keys() <= others.keys() | {"cats"}
    assert found.counts[FIRST] == COUNTS[FIRST]
    if not (lasting_place.kind == "sqlite" and not video and not instead):
        # SQLite never comes to a row before every other: it is as if it were not there.
        assert found.rows >= 1 or "counts" in found.said
    assert read(lasting_place).rows == 0


def test_two_changed_counts_are_told_and_used_if_nobody_knows_better(place: Place) -> None:
    fill(place)
    put_count(place, FIRST, "video-7", 1)
    put_count(place, FIRST, "video-8", 100)
    for _ in range(2):
        found = read(place)
        assert found.verdicts == {FIRST: "wrong", SECOND: "right", FOLDED: "right"}
        assert found.counts[FIRST] == {**COUNTS[FIRST], "video-7": 1, "video-8": 100}
        assert "counts in doubt" in found.said
        assert FIRST in found.said


def test_a_fact_with_a_changed_bit_is_put_right(place: Place) -> None:
    fill(place)
    put_fact(place, OTHER, FACTS[OTHER].replace("1", "3", 1))
    found = read(place)
    assert found.facts == FACTS | sums(COUNTS)
    assert found.counts == COUNTS
    assert "facts put right" in found.said
    whole(place)


def test_a_fact_that_is_another_is_left_out_by_name(place: Place) -> None:
    fill(place)
    put_fact(place, OTHER, encode_fact(run(3), "", run(2)))
    found = read(place)
    assert found.facts.keys() == (FACTS | sums(COUNTS)).keys() - {OTHER}
    assert f"facts left out: {OTHER}" in found.said
    again = read(place)
    assert again.said == ""
    assert again.facts == found.facts


def test_a_fact_that_is_missing_is_noticed_and_sums_are_not_relied_on(place: Place) -> None:
    fill(place)
    put_fact(place, sum_name(SECOND), None)
    found = read(place)
    assert found.verdicts[SECOND] == "wrong"
    assert found.counts == COUNTS
    assert "maybe others" in found.said


def test_a_vector_that_is_missing_is_told(place: Place) -> None:
    fill(place, {**COUNTS, FOLDED: {}}, FACTS)
    store = place.store()
    store.open("somebody else", lambda: ID)
    store.begin(FIRST, {})
    store.write({}, facts=sums({f"{OTHER}.{run(5)}": {"cats": 1}}))
    store.close()
    found = read(place)
    assert found.missing == [f"{OTHER}.{run(5)}"]
    assert f"counts missing: {OTHER}.{run(5)}" in found.said


def test_a_store_is_read_without_sums_as_one_of_an_earlier_version(place: Place) -> None:
    fill(place)
    store = place.store()
    store.open("somebody else", lambda: ID)
    store.begin(FIRST, {})
    store.write({}, facts=dict.fromkeys(sums(COUNTS), ""))
    store.close()
    found = read(place)
    assert found.counts == COUNTS
    assert set(found.verdicts.values()) == {"unknown"}
    assert found.said == ""


# -- a single bit, anywhere

FLIPS = 250
"""In each run of the tests; they are other ones than in the last."""


def check(found: Found, before: Found) -> str:
    """What came of a damage: without effect, put right, or told of; anything else is a failure."""
    if not found.said:
        assert found._replace(verdicts={}) == before._replace(verdicts={}), "changed in silence"
        return "without effect"
    # Only where nothing is left of it does a store get another id: no count depends on that.
    assert found[:2] == before[:2] or "sealed" in found.said
    in_doubt = {vector for vector, verdict in found.verdicts.items() if verdict == "wrong"}
    if not (in_doubt or found.missing or "left out" in found.said):
        assert (found.counts, found.facts) == (before.counts, before.facts)
        return "put right"
    for vector, counts in found.counts.items():
        assert vector in in_doubt or counts == before.counts[vector], vector
    assert set(found.facts.items()) <= set(before.facts.items())
    return "told of"


def outcome_of(place: Place, before: Found) -> str:
    """What comes of reading a damaged store twice."""
    try:
        outcome = check(read(place), before)
        again = read(place)
    except StoreRefusedError as error:
        refusal = str(error)
    else:
        assert outcome == "told of" or again.counts == before.counts
        return outcome
    assert "counter.sqlite" in refusal or "REDIS_URI" in refusal
    assert "move it away" in refusal or "run that version on it" in refusal
    return "refused"


def flips(size: int) -> Iterator[tuple[int, int]]:
    chance = random.Random()
    seed = chance.randrange(2**32)
    print(f"seed {seed}")
    chance.seed(seed)
    for _ in range(FLIPS):
        yield chance.randrange(size), 1 << chance.randrange(8)


def test_a_flipped_bit_of_a_database_is_without_effect_or_noticed(tmp_path: Path) -> None:
    place = SqlitePlace(tmp_path)
    fill(place)
    before = whole(place)
    path = place.folder / "counter.sqlite"
    raw = path.read_bytes()
    came: dict[str, int] = {}
    for at, bit in flips(len(raw)):
        for other in place.folder.iterdir():
            other.unlink()
        path.write_bytes(raw[:at] + bytes([raw[at] ^ bit]) + raw[at + 1 :])
        try:
            outcome = outcome_of(place, before)
        except BaseException as error:
            error.add_note(f"at byte {at}, bit {bit}")
            raise
        came[outcome] = came.get(outcome, 0) + 1
    print(came)
    assert came.keys() >= {"without effect", "put right"}


def flip(place: SqlitePlace, at: Callable[[bytes], int]) -> None:
    """Change the highest bit of a byte in the file of a database."""
    path = place.folder / "counter.sqlite"
    raw = bytearray(path.read_bytes())
    raw[at(bytes(raw))] ^= 128
    path.write_bytes(raw)


def test_vectors_whose_rows_are_not_found_are_in_doubt(tmp_path: Path) -> None:
    # A bit in the schema: the table of vectors is there, and no count is found under its numbers.
    place = SqlitePlace(tmp_path)
    fill(place)
    before = whole(place)
    flip(place, lambda raw: raw.index(b"PRIMARY KEY, vector TEXT"))
    found = read(place)
    assert set(found.verdicts.values()) == {"wrong"}
    assert found.verdicts.keys() == before.counts.keys()
    assert check(found, before) == "told of"


@pytest.mark.parametrize("at", [18, 19])
def test_a_database_that_says_it_is_of_a_later_sqlite_is_refused(tmp_path: Path, at: int) -> None:
    # SQLite takes one that it cannot write for one that nobody may write now.
    place = SqlitePlace(tmp_path)
    fill(place)
    flip(place, lambda _: at)
    with pytest.raises(StoreRefusedError, match=r"damaged .*; move it away"):
        read(place)


@pytest.mark.proof
def test_a_flipped_bit_in_redis_is_without_effect_or_noticed(
    redis_server: Redis, client: "redis.Redis"
) -> None:
    place = RedisPlace(redis_server.uri, client)
    fill(place)
    before = whole(place)
    place.keep()
    chance, came = random.Random(7), dict[str, int]()
    for number in range(FLIPS):
        place.restore()
        keys = [key for key in place._keys() if not key.endswith((b"lease", b"set-aside"))]
        key = chance.choice(keys)
        if key.endswith(b":vectors"):
            members: Any = client.smembers(key)
            member = chance.choice(sorted(members))
            client.srem(key, member)
            client.sadd(key, flipped(member, chance))
        else:
            rows: Any = client.hgetall(key)
            field = chance.choice(sorted(rows))
            if number % 2:
                client.hset(key, field, flipped(rows[field], chance))
            else:
                client.hdel(key, field)
                client.hset(key, flipped(field, chance), rows[field])
        outcome = outcome_of(place, before)
        came[outcome] = came.get(outcome, 0) + 1
    print(came)
    assert came.keys() >= {"put right"}


def flipped(raw: bytes, chance: random.Random) -> bytes:
    """The same with one bit changed."""
    changed = bytearray(raw)
    changed[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def test_a_database_that_lost_commits_of_its_log_says_so(tmp_path: Path) -> None:
    place = SqlitePlace(tmp_path)
    fill(place)
    store = place.store()
    store.open("one that is killed", lambda: ID)
    store.begin(FIRST, {})
    counts = {FIRST: dict(COUNTS[FIRST])}
    for number in range(10):
        counts[FIRST]["video-0"] = number + 2
        store.write(counts, facts=sums(counts))
    log = place.folder / "counter.sqlite-wal"
    raw, database = log.read_bytes(), (place.folder / "counter.sqlite").read_bytes()
    store.close()
    came = dict[str, int]()
    for at, bit in [(3, 1), (9, 1), (20, 4), *flips(len(raw))][:40]:
        for other in place.folder.iterdir():
            other.unlink()
        (place.folder / "counter.sqlite").write_bytes(database)
        log.write_bytes(raw[:at] + bytes([raw[at] ^ bit]) + raw[at + 1 :])
        found = read(place)
        video = found.counts[FIRST]["video-0"]
        assert found.verdicts == dict.fromkeys(COUNTS, "right")
        assert video == 11 or "what the store is: log" in found.said
        if video < 11:
            kept = {path.name[-4:] for path in place.folder.glob("counter.sqlite.damaged-*")}
            assert "-wal" in kept
        came[str(video)] = came.get(str(video), 0) + 1
        assert read(place).said == ""
    assert len(came) > 3


# -- what cannot be used at all, and what a node makes of it


def a_flusher(store: Store) -> tuple[Flusher, threading.Event]:
    """What keeps a replica in a store; the event is set when it was loaded."""
    loaded = threading.Event()
    flusher = Flusher(
        store,
        threading.Lock(),
        Metrics(lambda: pytest.fail("nobody reads these metrics")),
        open_store=lambda: store.open("a test", lambda: ID),
        mint=lambda opened, _: alone(f"{MEMBER[:-13]}{opened.store}.{run(9)}"),
        start_new_run=lambda _: set(),
        loaded=loaded.set,
        grew=lambda _: None,
        keyed=lambda: None,
    )
    return flusher, loaded


@contextmanager
def running(flusher: Flusher) -> Iterator[list[BaseException]]:
    """Run it in a thread; gives what has ended it."""
    ended: list[BaseException] = []
    stopping = threading.Event()

    def run_it() -> None:
        try:
            flusher.run(stopping)
        except StoreRefusedError as error:
            ended.append(error)

    thread = threading.Thread(target=run_it, name="store")
    thread.start()
    try:
        yield ended
    finally:
        stopping.set()
        flusher.wake()
        thread.join(10)
        assert not thread.is_alive()


def test_a_node_counts_what_was_written_and_says_what_was_not(place: Place) -> None:
    facts = {MEMBER: FACTS[MEMBER], OTHER: FACTS[OTHER]}
    fill(place, COUNTS, facts)
    put_count(place, FIRST, "video-7", 8 + 2**40)
    flusher, loaded = a_flusher(place.store())
    with running(flusher) as ended:
        assert loaded.wait(20)
        assert not ended
        assert flusher.replica is not None
        assert flusher.replica.tally.count(FIRST, "video-7") == 8
        assert flusher.replica.tally.total(FIRST) == sum(COUNTS[FIRST].values())
        [said] = flusher.damage
        assert FIRST in said
        assert flusher._metrics.set_aside._value.get() == 1
    flusher, loaded = a_flusher(place.store())
    with running(flusher):
        assert loaded.wait(20)
        assert flusher.damage == []


@pytest.mark.parametrize("rest", ["store", "facts", "vectors", "vector", "lease"])
def test_a_key_of_another_type_is_named_and_ends_the_node(
    redis_server: Redis, client: "redis.Redis", rest: str
) -> None:
    place = RedisPlace(redis_server.uri, client)
    fill(place)
    key = place.key(f"vector:{FIRST}" if rest == "vector" else rest)
    client.delete(key)
    client.rpush(key, "a list")
    flusher, loaded = a_flusher(place.store())
    with running(flusher) as ended:
        until(lambda: ended, 10, "it gives up")
    assert not loaded.is_set()
    assert f"{key} was not written by this program" in str(ended[0])
    assert "rename it" in str(ended[0])


@pytest.mark.parametrize("rest", ["store", "facts", "vectors", "vector"])
def test_a_key_that_becomes_one_of_another_type_ends_the_node(
    redis_server: Redis, client: "redis.Redis", rest: str
) -> None:
    place = RedisPlace(redis_server.uri, client)
    fill(place)
    flusher, loaded = a_flusher(place.store())
    with running(flusher) as ended:
        assert loaded.wait(10)
        replica = flusher.replica
        assert replica is not None
        key = place.key(f"vector:{replica.id}" if rest == "vector" else rest)
        client.delete(key)
        client.rpush(key, "a list")
        with flusher._lock:
            replica.visit("cats")
            replica.roster.learn(OTHER, run(50))
        flusher.wake()
        flusher.wake_for_news()
        until(lambda: ended, 10, "it gives up")
    assert f"{key} was not written by this program" in str(ended[0])


def test_a_database_that_is_damaged_under_a_running_node_ends_it(tmp_path: Path) -> None:
    place = SqlitePlace(tmp_path)
    fill(place)
    path = place.folder / "counter.sqlite"
    flusher, loaded = a_flusher(place.store())
    with running(flusher) as ended:
        assert loaded.wait(10)
        other = tmp_path / "other"
        other.write_bytes(b"no database " * 1000)
        other.replace(path)
        until(lambda: ended, 10, "it gives up")
    assert f"{path} is not a counter's database, or is damaged" in str(ended[0])
    assert "move it away" in str(ended[0])
    assert flusher.error


def test_a_node_on_a_database_that_cannot_be_read_ends_with_status_2(tmp_path: Path) -> None:
    place = SqlitePlace(tmp_path)
    fill(place)
    path = place.folder / "counter.sqlite"
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 8)
    node = Node(path.parent, "counter1")
    node.launch()
    until(lambda: not node.running(), 20, "the node ends")
    assert node.stop() == 2
    [refusal] = [line for line in node.tail().splitlines() if "refused" in line]
    assert str(path) in refusal
    assert "move it away" in refusal


def test_stores_of_format_2_are_taken_over_and_sealed(lasting_place: Place) -> None:
    place = lasting_place
    facts = {MEMBER: FACTS[MEMBER], OTHER: FACTS[OTHER], "key:\u00e4 1": "x"}
    if isinstance(place, SqlitePlace):
        place.folder.mkdir()
        with closing(sqlite3.connect(place.folder / "counter.sqlite")) as db, db:
            db.executescript(f"""
                CREATE TABLE store (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
                CREATE TABLE facts (name TEXT PRIMARY KEY, fact TEXT NOT NULL) WITHOUT ROWID;
                CREATE TABLE vectors (number INTEGER PRIMARY KEY, vector TEXT UNIQUE NOT NULL);
                CREATE TABLE counts (
                    vector INTEGER NOT NULL, video TEXT NOT NULL, count INTEGER NOT NULL,
                    PRIMARY KEY (vector, video)
                ) WITHOUT ROWID;
                INSERT INTO store VALUES
                    ('version', '2'), ('id', '{ID}'), ('name', 'counter1'), ('mark', '{FIRST}:7');
                INSERT INTO vectors VALUES (1, '{FIRST}');
                INSERT INTO counts VALUES (1, 'cats', 3), (1, CAST(x'ff00' AS TEXT), 5);
            """)
            db.executemany("INSERT INTO facts VALUES (?, ?)", facts.items())
    elif isinstance(place, RedisPlace):
        row = {"version": "2", "id": ID, "name": "x", "mark": f"{FIRST}:7"}
        place._redis.hset(place.key("store"), mapping=row)  # type: ignore[arg-type] # texts
        place._redis.sadd(place.key("vectors"), FIRST)
        place._redis.hset(place.key(f"vector:{FIRST}"), "cats", 3)
        place._redis.hset(place.key(f"vector:{FIRST}"), b"\xff\x00", 5)
        for fact in facts.items():
            place._redis.hset(place.key("facts"), *fact)
    found = read(place)
    assert found.store == ID
    assert found.counts == {FIRST: {"cats": 3}}
    assert found.facts == {MEMBER: facts[MEMBER], OTHER: facts[OTHER]}
    assert "facts left out: key:\\xc3\\xa4 1" in found.said
    assert found.rows == 2
    again = read(place)
    assert again.said == ""
    assert (again.counts, again.facts) == (found.counts, found.facts)
    put_fact(place, OTHER, "something else")
    assert f"facts left out: {OTHER}" in read(place).said
