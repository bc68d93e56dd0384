"""`POST /visits`: many visits at once, all or none, and a repeat of them not again."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counter.crdt.ids import VIDEO
from counter.web.problems import Problem
from counter.web.visits import MAX_BYTES, MAX_RECORDS, Limits, read
from lab.clients import fill, until
from lab.cluster import Cluster
from lab.servers import Node, Redis, free_port
from tests.test_http import Answer, ask, raw, samples, visits

JSON = "application/json"
LINES = "application/x-ndjson"
BODY = b'[{"video":"cats","count":2},{"video":"dogs"}]'


def post(
    node: Node, body: bytes, key: str | None = None, kind: str = JSON, **headers: str
) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        named["Idempotency-Key"] = key
    return ask(node, "POST", "/visits", {"Content-Type": kind, **named}, body)


def one(video: str, count: int = 1) -> bytes:
    """A body of one record."""
    return json.dumps([{"video": video, "count": count}]).encode()


# -- records


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (JSON, b' [ {"video": "V"} , {"count": 3, "video":"V"},{"video":"V-2"}]\n'),
        (LINES, b'{"video": "V"}\n{"count": 3, "video":"V"}\r\n\n{"video":"V-2"}'),
        (
            f"{LINES}; charset=utf-8",
            b'{"video":"V-2"}\n{"video":"V","count":1}\n{"video":"V","count":3}',
        ),
    ],
)
def test_many_visits_are_counted_at_once(node: Node, kind: str, body: bytes) -> None:
    video = f"many-{len(kind + body.decode())}"
    answer = post(node, body.replace(b"V", video.encode()), kind=kind)
    assert answer.status == 200, answer
    assert answer.headers["content-type"] == JSON
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-served-by"] == "counter1"
    assert answer.body == b'{"records":3,"visits":5}\n'
    assert visits(node, video) == 4
    assert visits(node, f"{video}-2") == 1


@pytest.mark.parametrize(("kind", "body"), [(JSON, b"[]"), (LINES, b""), (LINES, b"\n\n")])
def test_no_record_is_no_visit(node: Node, kind: str, body: bytes) -> None:
    answer = post(node, body, kind=kind)
    assert answer.status == 200
    assert answer.json() == {"records": 0, "visits": 0}
    assert post(node, body, f"of-{body.hex()}-as-{kind}", kind).json() == {
        "records": 0,
        "visits": 0,
    }


def test_a_request_holds_so_many_records_and_no_more(node: Node) -> None:
    body = b"[" + b",".join([b'{"video":"a"}'] * MAX_RECORDS) + b"]"
    assert post(node, body).json() == {"records": MAX_RECORDS, "visits": MAX_RECORDS}
    before = visits(node, "a")
    for kind, more in (
        (JSON, body[:-1] + b',{"video":"a"}]'),
        (LINES, b'{"video":"a"}\n' * 10_001),
    ):
        answer = post(node, more, kind=kind)
        assert answer.status == 413
        assert "10001" in answer.problem()["detail"]
    assert visits(node, "a") == before


def test_a_request_has_so_many_bytes_and_no_more(node: Node) -> None:
    body = one("bytes")
    assert post(node, body + b" " * (MAX_BYTES - len(body))).status == 200
    answer = post(node, body + b" " * (MAX_BYTES - len(body) + 1))
    assert answer.status == 413
    answer.problem()
    assert visits(node, "bytes") == 1


def test_a_body_of_unknown_length_is_read_only_so_far(node: Node) -> None:
    head = (
        b"POST /visits HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    body = b"%x\r\n%s\r\n" % (len(one("chunks")), one("chunks"))
    assert raw(node, head + body + b"0\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    spaces = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    assert raw(node, head + body + spaces * 40 + b"0\r\n\r\n").startswith(b"HTTP/1.1 413 ")
    assert visits(node, "chunks") == 1


@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        ("text/plain", {}),
        ("application/x-www-form-urlencoded", {}),
        ("multipart/form-data; boundary=x", {}),
        ("", {}),
        (JSON, {"Content_Encoding": "gzip"}),
    ],
)
def test_another_type_is_a_415(node: Node, kind: str, headers: dict[str, str]) -> None:
    """A browser sends the first ones anywhere without asking first."""
    answer = post(node, one("typed"), kind=kind, **headers)
    assert answer.status == 415
    assert JSON in answer.problem()["detail"]
    assert visits(node, "typed") == 0


GOOD = b'{"video":"good"}'
BAD = {
    "a number": (b"17", "object"),
    "an array": (b'["cats", 2]', "object"),
    "null": (b"null", "object"),
    "no video": (b'{"count": 2}', "`video`"),
    "another field": (b'{"video": "a", "coutn": 2}', "`coutn`"),
    "a video that is none": (b'{"video": "a b"}', "'a b' is not a video's id"),
    "an empty video": (b'{"video": ""}', "'' is not a video's id"),
    "a long video": (b'{"video": "%s"}' % (b"v" * 129), "is not a video's id"),
    "a video in another script": ('{"video": "käse"}'.encode(), "is not a video's id"),
    "a video with a line end": (b'{"video": "a\\n"}', "is not a video's id"),
    "a video that is a number": (b'{"video": 7}', "`str`"),
    "a count of 0": (b'{"video": "a", "count": 0}', ">= 1"),
    "a count below 0": (b'{"video": "a", "count": -1}', ">= 1"),
    "a count beyond the limit of a video that is none": (
        b'{"video": "a b", "count": 9007199254740992}',
        "'a b' is not a video's id",
    ),
    "a count beyond the limit and another field": (
        b'{"video": "a", "count": 9007199254740992, "coutn": 1}',
        "`coutn`",
    ),
    "a count of many digits below 0": (b'{"video": "a", "count": -1%s}' % (b"0" * 5000), ""),
    "a count with a point": (b'{"video": "a", "count": 1.0}', "`int`"),
    "a count in words": (b'{"video": "a", "count": "1"}', "`int`"),
    "a count of null": (b'{"video": "a", "count": null}', "`int`"),
    "a count of true": (b'{"video": "a", "count": true}', "`int`"),
    "half a surrogate": (b'{"video": "\\ud800"}', ""),
    "no JSON": (b"{video: a}", ""),
    "deep arrays": (b"[" * 50_000, ""),
    "the end": (b'{"video": "a"', ""),
}


@pytest.mark.parametrize("kind", [JSON, LINES])
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("index", [0, 3])
def test_the_first_bad_record_is_named_and_nothing_is_counted(
    node: Node, bad: str, index: int, kind: str
) -> None:
    record, reason = BAD[bad]
    each = [*([GOOD] * index), record, GOOD, b"null"]
    body = b"[" + b",".join(each) + b"]" if kind == JSON else b"\n".join(each)
    answer = post(node, body, "bad", kind)
    assert answer.status == 400
    problem = answer.problem()
    assert problem["index"] == index
    assert problem["detail"].startswith(f"no visit was counted: record {index} (from 0): ")
    assert reason in problem["detail"]
    assert visits(node, "good") == 0
    assert post(node, one("good", 0), "bad").status == 400, "the key was not taken"


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"[", b"]", b"{}", GOOD, b"17", b" \xef\xbb\xbf[]", b"[\xff]", b"[] []", b"[],",
        b'[{"video":"a"}', b'[{"video":"a"},', b'[{"video":"a"},]', b'[{"video":"a"}{"video":"b"}]',
        b'[{"video":"a"}] x', b'[{"video":"\xff"}]', "[]".encode("utf-16"),
    ],
)  # fmt: skip
def test_what_is_no_array_is_a_400(node: Node, body: bytes) -> None:
    answer = post(node, body)
    assert answer.status == 400
    assert answer.problem()["index"] >= 0
    assert visits(node, "a") == visits(node, "a")


@pytest.mark.parametrize(
    ("kind", "body"),
    [(JSON, b'[{"video":"V"},{"video":"V"}]'), (LINES, b'{"video":"V"}\r\n{"video":"V"}\r\n')],
)
def test_a_byte_order_mark_is_skipped(node: Node, kind: str, body: bytes) -> None:
    """Windows' programs write one in front of what they save as UTF-8."""
    video = f"mark-{len(kind)}"
    body = b"\xef\xbb\xbf" + body.replace(b"V", video.encode())
    for _ in range(2):
        answer = post(node, body, video, kind)
        assert answer.status == 200, answer
        assert answer.json()["visits"] == 2
    assert visits(node, video) == 2
    bad = post(node, b"\xef\xbb\xbf[17]")
    assert (bad.status, bad.problem()["index"]) == (400, 0)


def test_a_count_at_its_end_is_a_409(node: Node) -> None:
    most = 2**53 - 1
    fill(node.url, {"full": most - 1})
    answer = post(node, b'[{"video":"other"},{"video":"full","count":2}]', "full")
    assert answer.status == 409
    assert "'full'" in answer.problem()["detail"]
    assert visits(node, "other") == 0
    assert post(node, one("full"), "full").status == 200
    assert visits(node, "full") == most


videos = st.one_of(
    st.from_regex(rf"{VIDEO}\Z", fullmatch=True),
    st.text(max_size=5),
    st.sampled_from(["v" * 128, "v" * 129, "a\n", "é", "\u212a"]),
)
LIMITS = Limits(1000, 100_000)
counts = st.one_of(st.none(), st.integers(-1, 2), st.integers(998, 1002), st.floats())


@given(st.lists(st.tuples(videos, counts), max_size=6), st.sampled_from([JSON, LINES]))
def test_what_is_counted_is_what_one_record_after_the_other_would_be(
    records: list[tuple[str, int | float | None]], kind: str
) -> None:
    expected: dict[str, int] = {}
    first_bad: int | None = None
    status = 400
    for index, (video, count) in enumerate(records):
        right = count is None or (type(count) is int and count >= 1)
        if not right or not re.fullmatch(VIDEO, video):
            first_bad = index
            break
        if int(count or 1) > 1000:
            first_bad, status = index, 422
            break
        expected[video] = expected.get(video, 0) + int(count or 1)
    each = [
        json.dumps({"video": video} | ({} if count is None else {"count": count}))
        for video, count in records
    ]
    body = ("[" + ",".join(each) + "]" if kind == JSON else "\n".join(each)).encode()
    if first_bad is None:
        assert read(kind, body, LIMITS) == (len(records), expected)
    else:
        with pytest.raises(Problem) as bad:
            read(kind, body, LIMITS)
        assert bad.value.status == status
        assert bad.value.more["index"] == first_bad


@given(st.binary(max_size=60), st.integers(0, 60), st.sampled_from([JSON, LINES]))
def test_a_damaged_body_is_a_400_or_still_well_formed(junk: bytes, at: int, kind: str) -> None:
    for body in (junk, BODY[:at] + junk + BODY[at:], BODY[:at] + junk):
        try:
            number, counted = read(kind, body, LIMITS)
        except Problem as bad:
            problem = bad
        else:
            assert all(re.fullmatch(VIDEO, video) for video in counted)
            assert sum(counted.values()) >= number
            continue
        assert problem.status in (400, 422)
        index = problem.more["index"]
        assert isinstance(index, int)
        assert index >= 0


# -- keys


def test_a_repeat_is_answered_as_one_and_not_counted(node: Node) -> None:
    before = samples(node)["counter_keys_repeated_total"]
    first = post(node, one("repeated", 3), "repeat-1")
    again = post(node, one("repeated", 3), "repeat-1")
    assert first.status == again.status == 200
    assert first.json() == {"records": 1, "visits": 3}
    assert "idempotency-replayed" not in first.headers
    assert again.json() == {"records": 1, "visits": 3, "repeated": True}
    assert again.headers["idempotency-replayed"] == "true"
    assert visits(node, "repeated") == 3
    assert post(node, one("repeated", 3), "repeat-2").status == 200
    assert post(node, one("repeated", 3)).status == 200
    assert visits(node, "repeated") == 9
    assert samples(node)["counter_keys_repeated_total"] == before + 1
    assert samples(node)["counter_keys"] >= 2


def test_another_body_under_the_key_is_a_422(node: Node) -> None:
    assert post(node, one("of-one-body"), "body").status == 200
    for body, kind in ((one("of-one-body", 2), JSON), (one("of-one-body") + b" ", JSON)):
        answer = post(node, body, "body", kind)
        assert answer.status == 422
        assert "'body'" in answer.problem()["detail"]
    lines = b'{"video":"of-lines"}'
    assert post(node, lines, "lines", LINES).status == 200
    assert post(node, b"[" + lines + b"]", "lines", JSON).status == 422
    assert visits(node, "of-one-body") == 1


@pytest.mark.parametrize("key", ["", "a b", "k" * 129, "k\xe4se", " "])
def test_a_key_that_is_none_is_a_400(node: Node, key: str) -> None:
    answer = post(node, one("keyless"), key)
    assert answer.status == 400
    assert "Idempotency-Key" in answer.problem()["detail"]
    assert visits(node, "keyless") == 0


@pytest.mark.parametrize("key", ["!", "~" * 128, '"8e03978e-40d5-43dd"', "key:a,b"])
def test_a_key_is_any_visible_ascii(node: Node, key: str) -> None:
    video = f"key-{ord(key[0])}"
    for _ in range(2):
        assert post(node, one(video), key).status == 200
    assert visits(node, video) == 1


def test_repeats_at_one_moment_are_counted_once(node: Node) -> None:
    with ThreadPoolExecutor(16) as pool:
        for turn in range(5):
            repeat = partial(post, node, one("at-once"))
            answers = list(pool.map(repeat, [f"once-{turn}"] * 16))
            assert [answer.status for answer in answers] == [200] * 16
            new = [answer for answer in answers if "repeated" not in answer.json()]
            assert len(new) == 1
            assert visits(node, "at-once") == turn + 1


def until_shown(node: Node, video: str, number: int) -> None:
    until(lambda: visits(node, video) == number, 10, f"{video} has {number} visits")


def logged(node: Node, what: str) -> bool:
    return what in node.log.read_text()


SETTINGS = {"MESSAGE_TTL": "2", "SYNC_INTERVAL": "0.3", "DEV_MODE": "1", "DRAIN_TIME": "0"}


@pytest.fixture(params=["sqlite", "redis"])
def pair(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: Redis, stack: ExitStack
) -> tuple[Node, Node]:
    """Two nodes on a mesh, the first of them with either store."""
    cluster = Cluster(
        tmp_path,
        stack,
        [request.param, "sqlite"],
        redis=redis_server,
        settings=SETTINGS,
        own=[{"NAME": f"visits{number}-{free_port()}"} for number in (1, 2)],
        killed=True,
    )
    first, second = cluster.nodes
    return first, second


def test_a_repeat_is_known_after_a_kill_at_the_same_node_and_at_another(
    pair: tuple[Node, Node],
) -> None:
    first, other = pair
    body = one("killed", 5)
    answers = [post(first, body, "kill")]
    # On a mesh it may wait for the answer to another message.
    until(lambda: samples(other)["counter_keys"] == 1, 5, "the key has come")
    first.kill()
    answers.append(post(other, body, "kill"))
    first.start()
    answers.append(post(first, body, "kill"))
    assert [answer.status for answer in answers] == [200] * 3
    assert ["repeated" in answer.json() for answer in answers] == [False, True, True]
    first.wait_ready()
    assert post(first, body[:-1] + b" ]", "kill").status == 422
    for node in pair:
        until_shown(node, "killed", 5)
        assert samples(node)["counter_keys_doubled_total"] == 0


def test_what_a_killed_node_had_only_stored_is_the_window_until_it_returns(
    pair: tuple[Node, Node],
) -> None:
    first, other = pair
    assert ask(first, "POST", "/dev/cut").status == 204
    for key in ("early", "late"):
        assert post(first, one(key), key).status == 200
    first.kill()
    assert post(other, one("early"), "early").status == 200
    first.start()
    first.wait_ready()
    until(lambda: samples(other)["counter_keys"] == 2, 10, "the keys come with the node")
    assert post(other, one("late"), "late").status == 200
    for node in pair:
        until_shown(node, "early", 2)
        assert visits(node, "late") == 1
        assert samples(node)["counter_keys_doubled_total"] == 1
        until(partial(logged, node, "key.doubled key=early"), 10, "it is logged")


def test_a_node_that_joins_takes_visits_but_no_key_that_it_may_not_know(tmp_path: Path) -> None:
    nobody = {"PEERS": f"http://127.0.0.1:{free_port()}", "JOIN_TIMEOUT": "60"}
    node = Node(tmp_path, "counter1", settings=nobody).start()
    try:
        assert post(node, one("joins")).status == 200
        answer = post(node, one("joins"), "joins")
        assert answer.status == 503
        assert "joining" in answer.problem()["detail"]
    finally:
        node.kill()


def test_a_repeat_while_the_store_is_away_is_not_counted_again_when_it_is_back(
    tmp_path: Path,
) -> None:
    with Redis(tmp_path / "redis") as redis:
        settings = {**SETTINGS, "REDIS_URI": redis.uri}
        with Node(tmp_path / "node", "counter1", settings=settings) as node:
            node.wait_ready()
            redis.pause()
            # In the batch that is tried, it may be stored; after that nothing is taken.
            assert post(node, one("away"), "on-its-way").status == 504
            assert post(node, one("away"), "on-its-way").status == 504
            assert post(node, one("away"), "too-late").status == 503
            assert post(node, one("away", 2), "on-its-way").status == 422
            redis.resume()
            until(lambda: post(node, one("away"), "too-late").status == 200, 10, "it is back")
            assert post(node, one("away"), "on-its-way").status == 200
            assert visits(node, "away") == 2
            node.kill()
            node.start().wait_ready()
            for key in ("on-its-way", "too-late"):
                assert post(node, one("away"), key).status == 200
            assert visits(node, "away") == 2


def test_a_stopping_node_answers_a_repeat_and_takes_nothing_new(tmp_path: Path) -> None:
    with Node(tmp_path, "counter1", settings={"DRAIN_TIME": "5"}) as node:
        node.wait_ready()
        assert post(node, one("stops"), "before").status == 200
        node.terminate()
        until(lambda: post(node, b"[]").status == 503, 5, "it stops")
        assert post(node, one("stops"), "after").status == 503
        assert post(node, one("stops"), "before").status == 200
        assert visits(node, "stops") == 1


@pytest.mark.parametrize(
    "body",
    [
        b"[[" + b"[]," * 340_000 + b"[]]]",
        b"[[" + b"1," * 500_000 + b"1]]",
        b"[[" + b"[]," * 340_000,
        b"{" + b",".join(b'"%d":1' % number for number in range(90_000)) + b"}",
        b"[" + b'{"video": "cats"},' * 9_999 + b'{"video": "no id"}]',
        b"[" + b'{"video": "cats"},' * 9_999 + b'{"video": "cats"',
        b"[" + b"[" * 1_000_000,
        b'[{"video": "' + b"a" * 1_000_000 + b'"}]',
        b'[{"video": "cats", "count": ' + b"9" * 1_000_000 + b"}]",
    ],
    ids=lambda body: bytes(body[:12]).decode(),
)
def test_a_bad_body_takes_no_longer_than_a_good_one(body: bytes) -> None:
    """Ten a second stopped a node: the search for the first bad record took up to 240 ms."""
    began = time.process_time()
    with pytest.raises(Problem) as refused:
        read("application/json", body, LIMITS)
    assert refused.value.status in (400, 413, 422)
    # Where it is longer, others have their turns in it.
    assert time.process_time() - began < (0.25 if b"cats" in body else 0.05)


@pytest.mark.parametrize("blank", [b"\n", b"\r\n", b" \n", b"\t\t\t\n", b" "], ids=repr)
def test_blank_lines_before_a_bad_record_take_no_longer(blank: bytes) -> None:
    """Ten a second stopped a node: each blank line was looked at, for 180 ms without a pause."""
    body = blank * (1_000_000 // len(blank)) + b'{"video": "a b"}'
    began = time.process_time()
    with pytest.raises(Problem) as refused:
        read("application/x-ndjson", body, LIMITS)
    assert "record 0" in refused.value.detail
    assert time.process_time() - began < 0.05
