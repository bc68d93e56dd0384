"""What a node answers over HTTP: the documented forms, and to all else no more than a 4xx."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from urllib.robotparser import RobotFileParser

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from app import create_app
from counter.cli.cluster import cluster, tables
from counter.config import Config
from counter.crdt.ids import mint_run
from counter.protocol import messages
from counter.protocol.messages import Delta, Envelope, PreviousMemberReport, Report
from lab.clients import until
from lab.servers import ROOT, Node, free_port

EVERY = "AZaz09._~-"
LONGEST = "v" * 128
MEMBER = r"counter1~[0-9a-hjkmnp-tv-z]{13}"
PROBLEM = "application/problem+json"
TOKEN = "only-for-tëstß"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def problem(self) -> dict[str, Any]:
        """The problem that this answer must be."""
        assert self.headers["content-type"] == PROBLEM, self
        problem: dict[str, Any] = self.json()
        assert problem["status"] == self.status
        assert problem["title"]
        assert problem["detail"]
        assert self.headers["cache-control"] == "no-store"
        return problem


def ask(
    node: Node,
    method: str,
    path: str,
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
) -> Answer:
    with closing(HTTPConnection("127.0.0.1", node.port, timeout=20)) as connection:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        content = response.read()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, content)


def get(node: Node, path: str, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ask(node, "GET", path, named)


def browse(node: Node, path: str) -> Answer:
    return get(node, path, Accept="text/html,application/xhtml+xml,*/*;q=0.8")


def visits(node: Node, video: str) -> int:
    return int(get(node, f"/count/{video}").json()["visits"])


pytestmark = pytest.mark.nodes(DEV_MODE="1", ADMIN_TOKEN=TOKEN)


@pytest.fixture(scope="module")
def joining(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that waits for a peer which never comes."""
    nobody = {"PEERS": f"http://127.0.0.1:{free_port()}", "JOIN_TIMEOUT": "600"}
    settings = {**nobody, "ADMIN_TOKEN": TOKEN}
    node = Node(tmp_path_factory.mktemp("joining"), "counter1", settings=settings).start()
    yield node
    node.kill()


# -- visits and counters


def test_a_visit_is_answered_with_the_counter_that_holds_it(node: Node) -> None:
    for number in (1, 2, 3):
        answer = get(node, "/video/a-visit")
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        shown = answer.json()
        assert list(shown) == ["video", "visits", "node", "counts"]
        assert shown["video"] == "a-visit"
        assert shown["visits"] == number
        assert shown["node"] == "counter1"
        [(member, count)] = shown["counts"].items()
        assert re.fullmatch(MEMBER, member)
        assert count == number
        assert type(count) is int


def test_a_count_is_shown_without_a_visit(node: Node) -> None:
    seen = get(node, "/video/looked-at").json()
    for _ in range(3):
        answer = get(node, "/count/looked-at")
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == seen


def test_a_video_that_nobody_visited_has_0_visits(node: Node) -> None:
    nobody = {"video": "nobody", "visits": 0, "node": "counter1", "counts": {}}
    assert get(node, "/count/nobody").json() == nobody
    assert get(node, "/counts?video=nobody").json() == {"counters": [nobody]}


def test_a_browser_gets_pages_and_its_visit_counts(node: Node) -> None:
    page = browse(node, "/video/browsed")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    assert b"browsed" in page.body
    assert visits(node, "browsed") == 1
    for path in ("/", "/cluster"):
        page = browse(node, path)
        assert page.status == 200
        assert page.headers["content-type"].startswith("text/html")
    assert browse(node, "/count/browsed").json()["visits"] == 1


@pytest.mark.parametrize("path", ["/", "/cluster", "/video/policy", "/video/a b", "/nowhere"])
def test_pages_have_a_strict_policy_and_nothing_inline(node: Node, path: str) -> None:
    page = browse(node, path.replace(" ", "%20"))
    assert page.headers["content-type"].startswith("text/html")
    policy = dict(
        part.split(" ", 1) for part in page.headers["content-security-policy"].split("; ")
    )
    assert policy["default-src"] == "'self'"
    assert "unsafe" not in page.headers["content-security-policy"]
    html = page.body.decode()
    assert re.findall(r"<script(?![^>]*\ssrc=)", html) == []
    assert re.findall(r"<style|\sstyle=|\son[a-z]+=|javascript:", html) == []
    for source in re.findall(r"(?:src|href)=\"(/static/[^\"]+)\"", html):
        assert get(node, source).status == 200, source


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Purpose": "prefetch"},
        {"Sec-Purpose": "prefetch;prerender"},
        {"Sec-Purpose": "prefetch; anonymous-client-ip"},
        {"Purpose": "prefetch"},
        {"Purpose": "preview"},
        {"X-Purpose": "preview"},
        {"X-Purpose": ": preview"},
        {"X-Moz": "prefetch"},
        {"X-Moz": "Prefetch"},
        {"Sec-Purpose": "speculation", "Purpose": "prefetch"},
        {"Purpose": "unknown", "X-Purpose": "PREVIEW"},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/video/prefetched", "/hit/prefetched"])
def test_what_is_fetched_in_advance_is_no_visit(
    node: Node, path: str, headers: dict[str, str]
) -> None:
    before = visits(node, "prefetched")
    assert ask(node, "GET", path, headers).status in (200, 204)
    assert visits(node, "prefetched") == before
    ask(node, "GET", path)
    assert visits(node, "prefetched") == before + 1


@pytest.mark.parametrize("path", ["/video/followed", "/hit/followed"])
def test_what_is_fetched_for_another_purpose_is_a_visit(node: Node, path: str) -> None:
    before = visits(node, "followed")
    for headers in ({"Purpose": "navigation"}, {"X-Moz": ""}, {"Sec-Purpose": "unknown"}):
        ask(node, "GET", path, headers)
    assert visits(node, "followed") == before + 3


def test_crawlers_are_kept_from_what_counts(node: Node) -> None:
    answer = get(node, "/robots.txt")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert "max-age" in answer.headers["cache-control"]
    rules = RobotFileParser()
    rules.parse(answer.body.decode().splitlines())
    for path in ("/video/cats", "/video/cats?from=there", "/hit/cats", "/hit/a.b"):
        assert not rules.can_fetch("Anybot/1.0", path), path
    for path in ("/", "/top", "/badge/cats.svg", "/count/cats", "/static/embed.js"):
        assert rules.can_fetch("Anybot/1.0", path), path


def test_a_head_is_no_visit(node: Node) -> None:
    for path in ("/video/head", "/hit/head"):
        answer = ask(node, "HEAD", path)
        assert answer.status in (200, 204)
        assert answer.body == b""
    assert visits(node, "head") == 0


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_hit_is_a_visit_with_an_empty_answer(node: Node, method: str) -> None:
    before = visits(node, "hit")
    answer = ask(node, method, "/hit/hit", {"Origin": "http://elsewhere.example"})
    assert answer.status == 204
    assert answer.body == b""
    assert answer.headers["access-control-allow-origin"] == "*"
    assert visits(node, "hit") == before + 1


def test_a_post_with_a_body_is_a_hit_too(node: Node) -> None:
    before = visits(node, "beacon")
    for body in (b"", b"x" * 60_000, b"\0\xff"):
        assert ask(node, "POST", "/hit/beacon", {"Content-Type": "text/plain"}, body).status == 204
    assert visits(node, "beacon") == before + 3


def test_several_counters_come_in_the_order_asked_for_and_once_each(node: Node) -> None:
    get(node, "/video/order-b")
    answer = get(node, "/counts?video=order-c&video=order-b&video=order-a&video=order-b")
    assert answer.status == 200
    counters = answer.json()["counters"]
    assert list(answer.json()) == ["counters"]
    assert [counter["video"] for counter in counters] == ["order-c", "order-b", "order-a"]
    assert [counter["visits"] for counter in counters] == [0, 1, 0]


def test_a_thousand_counters_are_given_at_once_and_no_more(node: Node) -> None:
    videos = [f"{number:04}-{'x' * 120}" for number in range(1001)]
    answer = get(node, "/counts?" + "&".join(f"video={video}" for video in videos[:1000]))
    assert answer.status == 200
    assert [counter["video"] for counter in answer.json()["counters"]] == videos[:1000]
    answer = get(node, "/counts?" + "&".join(f"video={number}" for number in range(1001)))
    assert answer.status == 400
    assert "1000" in answer.problem()["detail"]
    assert get(node, "/counts").status == 400
    assert get(node, "/counts?video=").status == 400
    assert get(node, "/counts?video=good&video=b%20d").status == 400


def test_the_most_visited_come_first_and_as_many_as_asked_for(node: Node) -> None:
    for number in range(1, 13):
        for _ in range(number + 30):
            get(node, f"/hit/top-{number:02}")
    by_visits = get(node, "/top").json()["counters"]
    assert [counter["video"] for counter in by_visits] == [f"top-{n:02}" for n in range(12, 2, -1)]
    assert [counter["visits"] for counter in by_visits] == [n + 30 for n in range(12, 2, -1)]
    assert by_visits[:3] == get(node, "/top?limit=3").json()["counters"]
    assert len(get(node, "/top?limit=1000").json()["counters"]) >= 12
    page = browse(node, "/").body.decode()
    assert page.index("top-12") < page.index("top-11") < page.index("top-10")


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "", "x", "1.5", "9" * 500, "%00", "१"])
def test_a_limit_that_is_none_is_a_400(node: Node, limit: str) -> None:
    answer = get(node, f"/top?limit={quote(limit, safe='%')}")
    assert answer.status == 400
    assert "limit" in answer.problem()["detail"]


@pytest.mark.parametrize("accept", ["", "*/*", "application/json", "q=;;,,", "text/plain"])
def test_who_does_not_ask_for_a_page_gets_json(node: Node, accept: str) -> None:
    answer = get(node, "/video/accept", Accept=accept)
    assert answer.headers["content-type"] == "application/json"
    assert "Accept" in answer.headers["vary"]


# -- ids


@pytest.mark.parametrize(
    "video", [*EVERY.replace(".", ""), EVERY, LONGEST, "...", "..a", "-", "~", "a" * 127, "0"]
)
def test_every_allowed_id_can_be_visited(node: Node, video: str) -> None:
    before = visits(node, video)
    assert get(node, f"/video/{video}").json()["visits"] == before + 1
    assert ask(node, "GET", f"/hit/{video}").status == 204
    escaped = "".join(f"%{byte:02X}" for byte in video.encode())
    assert get(node, f"/video/{escaped}").json()["video"] == video
    assert visits(node, video) == before + 3
    assert get(node, f"/counts?video={video}").json()["counters"][0]["visits"] == before + 3


BAD = [
    ".",
    "..",
    "%2e",
    "%2E%2e",
    "v" * 129,
    "v" * 5000,
    "a%20b",
    "a+b",
    "%00",
    "a%00b",
    "a%0d%0ab",
    "a%0D%0ASet-Cookie:x=1",
    "%0a",
    "a%0a",
    "%C3%A4",
    "%ff%fe",
    "%F0%9F%98%80",
    "a%2Fb",
    "a/b",
    "a/",
    "a//b",
    "%2e%2e%2fetc%2fpasswd",
    "%252e",
    "%",
    "%zz",
    "a%",
    "a;b",
    "a:b",
    "<script>",
    "{{7*7}}",
    "a'b",
    "a%22b",
    "a,b",
    "a%5Cb",
    "a%7Fb",
    "%E2%80%AE",
    "%EF%BC%A1",
    "%D9%A1",
]


@pytest.mark.parametrize("endpoint", ["/video/", "/count/", "/hit/", "/live/"])
@pytest.mark.parametrize("video", BAD, ids=lambda video: video[:24])
def test_what_is_no_id_is_refused_in_words(node: Node, endpoint: str, video: str) -> None:
    answer = get(node, endpoint + video)
    assert answer.status in ((426, 404) if endpoint == "/live/" else (400, 404))
    answer.problem()
    assert browse(node, endpoint + video).status == answer.status
    if endpoint == "/video/":
        query = get(node, f"/counts?video={video.replace('+', '%2B')}")
        assert query.status == 400
        query.problem()


@pytest.mark.parametrize("path", ["/video", "/video/", "/count/", "/hit/", "/hit", "/a/b"])
def test_a_path_that_leads_nowhere_is_a_404(node: Node, path: str) -> None:
    answer = get(node, path)
    assert answer.status == 404
    answer.problem()


def test_a_bad_id_on_an_error_page_is_no_markup(node: Node) -> None:
    page = browse(node, "/video/%3Cscript%3Ealert(1)%3C%2Fscript%3E")
    assert page.status in (400, 404)
    assert b"<script>alert" not in page.body


# -- errors and headers


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/video/cats", {"GET", "HEAD", "OPTIONS"}),
        ("DELETE", "/count/cats", {"GET", "HEAD", "OPTIONS"}),
        ("PUT", "/hit/cats", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("GET", "/mesh", {"POST", "OPTIONS"}),
        ("GET", "/dev/cut", {"POST", "OPTIONS"}),
        ("GET", "/cluster/counter1~0", {"DELETE", "OPTIONS"}),
        ("DELETE", "/cluster", {"GET", "HEAD", "OPTIONS"}),
        ("PATCH", "/top", {"GET", "HEAD", "OPTIONS"}),
        ("TRACE", "/", {"GET", "HEAD", "OPTIONS"}),
        ("FOO", "/counts", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/live/cats", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_a_wrong_method_is_a_405_that_names_the_right_ones(
    node: Node, method: str, path: str, allowed: set[str]
) -> None:
    answer = ask(node, method, path)
    assert answer.status == 405
    answer.problem()
    assert set(answer.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    "path",
    ["/", "/video/a", "/count/a", "/counts?video=a", "/top", "/cluster", "/healthz", "/readyz",
     "/metrics", "/hit/a", "/live/a", "/nowhere", "/video/a%20b", "/counts", "/mesh",
     "/static/style.css", "/static/nothing.js"],
)  # fmt: skip
def test_every_answer_names_its_node(node: Node, path: str) -> None:
    assert get(node, path).headers["x-served-by"] == "counter1"
    assert browse(node, path).headers["x-served-by"] == "counter1"


@pytest.mark.parametrize(
    "path",
    ["/", "/video/a", "/count/a", "/counts?video=a", "/top", "/cluster", "/healthz", "/readyz",
     "/metrics", "/hit/a", "/nowhere", "/video/a%20b"],
)  # fmt: skip
def test_no_answer_that_changes_is_kept_by_a_cache(node: Node, path: str) -> None:
    assert get(node, path).headers["cache-control"] == "no-store"
    assert browse(node, path).headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/live", "/live/cats", "/live?video=a&video=b", "/live/a%20b"])
def test_a_plain_get_of_a_live_counter_is_told_to_upgrade(node: Node, path: str) -> None:
    answer = get(node, path)
    assert answer.status == 426
    for way in ("WebSocket", "text/event-stream", "/count/"):
        assert way in answer.problem()["detail"]
    assert answer.headers["upgrade"].lower() == "websocket"


# -- nodes


def test_a_node_says_that_it_is_alive_and_ready(node: Node) -> None:
    for path in ("/healthz", "/readyz"):
        answer = get(node, path)
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/plain")


def test_the_cluster_is_shown_as_json(node: Node) -> None:
    get(node, "/hit/cluster")
    shown = get(node, "/cluster").json()
    assert shown["node"] == "counter1"
    assert re.fullmatch(MEMBER, shown["member"])
    assert shown["state"] == "ready"
    assert shown["store"] == {"kind": "sqlite", "up": True, "unflushed": 0}
    assert shown["transport"] == {"kind": "mesh", "up": True}
    assert shown["folding"] == {"closed_runs": 0, "folds": 0, "waits_for": []}
    assert shown["warnings"] == []
    [me] = [member for member in shown["members"] if member["self"]]
    assert me["member"] == shown["member"]
    assert me["name"] == "counter1"
    assert me["live"]
    assert me["state"] == "ready"
    assert me["visits"] >= 1
    assert me["behind"] == 0
    assert me["removed"] is False
    assert me["runs"] == 1
    assert me["store"] == {"kind": "sqlite", "up": True}
    assert me["transport"] == {"kind": "mesh", "up": True}


def samples(node: Node) -> dict[str, float]:
    answer = get(node, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        sample.name + "".join(f"{{{k}={v}}}" for k, v in sample.labels.items()): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def test_visits_that_nobody_waits_for_share_their_writes(tmp_path: Path) -> None:
    settings = {"ACK": "memory", "JOIN_TIMEOUT": "0.1"}
    with Node(tmp_path, "counter1", None, settings) as node:
        node.wait_ready()
        before, since = samples(node)["counter_flushes_total"], time.monotonic()
        for _ in range(300):
            get(node, "/hit/cats")
        until(lambda: visits(node, "cats") == 300, 5, "all are stored, and shown")
        writes = samples(node)["counter_flushes_total"] - before
        assert 0 < writes <= 2 + 10 * (time.monotonic() - since), "there is one each 0.1 s"


def test_the_metrics_show_all_that_an_operator_watches(node: Node) -> None:
    before = samples(node)
    for _ in range(5):
        get(node, "/hit/metrics-video")
    post(node, b"junk")
    after = samples(node)
    assert after["counter_visits_total"] == before["counter_visits_total"] + 5
    received = "counter_messages_received_total"
    assert after[received] == before[received] + 1
    assert after["counter_received_bytes_total"] == before["counter_received_bytes_total"] + 4
    for name in ("counter_messages_sent_total", "counter_sent_bytes_total"):
        assert after[name] > 0
    assert any(name.startswith("counter_messages_dropped_total{reason=") for name in after)
    assert after["counter_flushes_total"] > 0
    assert after["counter_unflushed_visits"] == 0
    assert after["counter_live_pages"] == 0
    assert after["counter_store_up"] == 1
    assert after["counter_transport_up"] == 1
    assert after["counter_ready"] == 1
    assert after["counter_closed_runs"] == 0
    assert after["counter_folds_total"] == 0
    assert after["counter_names_doubled"] == 0
    assert not any(name.startswith("counter_awaited_seconds") for name in after)


@pytest.mark.parametrize(
    "accept", ["*/*", "text/plain", "application/openmetrics-text; version=1.0.0"]
)
def test_no_metric_tells_when_a_counter_was_made(node: Node, accept: str) -> None:
    answer = get(node, "/metrics", Accept=accept).body.decode()
    assert "counter_visits_total" in answer
    assert [line for line in answer.splitlines() if "_created" in line] == []


def test_no_metric_has_a_label_with_a_video(node: Node) -> None:
    get(node, "/hit/a-video-of-its-own")
    answer = get(node, "/metrics").body.decode()
    assert "a-video-of-its-own" not in answer
    labels = {
        label
        for family in text_string_to_metric_families(answer)
        for sample in family.samples
        for label in sample.labels
    }
    assert labels <= {"reason", "status", "peer", "member"}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    """Two nodes that know each other; the first has DEV_MODE and an ADMIN_TOKEN."""
    folder = tmp_path_factory.mktemp("pair")
    quick = {"SYNC_INTERVAL": "0.3"}
    settings = {**quick, "DEV_MODE": "1", "ADMIN_TOKEN": TOKEN}
    first = Node(folder / "1", "counter1", settings=settings)
    second = Node(folder / "2", "counter2", settings={**quick, "PEERS": first.url})
    try:
        first.start().wait_ready()
        second.start().wait_ready()
        yield first, second
    finally:
        second.kill()
        first.kill()


def test_the_lag_of_a_peer_is_shown_and_ends_when_it_caught_up(pair: tuple[Node, Node]) -> None:
    node, peer = pair
    get(node, "/hit/lag")
    lag = f"counter_peer_lag_visits{{peer={get(peer, '/cluster').json()['member']}}}"
    until(lambda: samples(node)[lag] == 0, 5, "the peer holds everything")
    peer.pause()
    try:
        for _ in range(7):
            get(node, "/hit/lag")
        assert samples(node)[lag] == 7
    finally:
        peer.resume()
    until(lambda: samples(node)[lag] == 0, 10, "the peer has caught up")
    assert visits(peer, "lag") == visits(node, "lag") == 8


def test_both_show_the_same_counter_with_an_entry_for_each(pair: tuple[Node, Node]) -> None:
    for node, times in zip(pair, (3, 5), strict=True):
        for _ in range(times):
            get(node, "/hit/both")
    until(lambda: visits(pair[0], "both") == visits(pair[1], "both") == 8, 5, "both are equal")
    first, second = (get(node, "/count/both").json() for node in pair)
    assert first["counts"] == second["counts"]
    named = {member.partition("~")[0]: count for member, count in first["counts"].items()}
    assert named == {"counter1": 3, "counter2": 5}
    assert (first["node"], second["node"]) == ("counter1", "counter2")


def test_a_node_is_made_deaf_and_dumb_and_healed_for_demonstrations_only(
    pair: tuple[Node, Node],
) -> None:
    node, peer = pair
    for path in ("/dev/cut", "/dev/heal", "/dev/burst?video=cut"):
        assert ask(peer, "POST", path).status == 404
        assert get(node, path).status == 405
    get(node, "/hit/cut")
    until(lambda: visits(peer, "cut") == 1, 5, "the peer hears of it")
    assert ask(node, "POST", "/dev/cut").status == 204
    try:
        get(node, "/hit/cut")
        get(peer, "/hit/cut")
        assert not get(node, "/cluster").json()["transport"]["up"]
        # The peer says it in vain: it finds that nobody listens.
        until(lambda: not get(peer, "/cluster").json()["transport"]["up"], 5, "it is refused")
        assert visits(node, "cut") == visits(peer, "cut") == 2
    finally:
        assert ask(node, "POST", "/dev/heal").status == 204
    until(lambda: visits(node, "cut") == visits(peer, "cut") == 3, 10, "both are equal")


# -- messages between nodes

SENDER = "forger~" + "0" * 13 + "." + mint_run(1, "", 1)
FORGED = Delta({"forged": 5}, 5)
HEAD = bytes((messages.VERSION, 0))
NOTHING = PreviousMemberReport("", "", "", (0, None), {})


def post(node: Node, message: bytes) -> Answer:
    return ask(node, "POST", "/mesh", {"Content-Type": "application/octet-stream"}, message)


def envelope(body: messages.Body, *, age: int = 0) -> bytes:
    sent = int(time.time() * 1000) - age
    return messages.encode(Envelope(SENDER, "", sent, body), None)


# Made when they are sent, as each says when that was.
JUNK: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "text": lambda: b"junk",
    "a head": lambda: HEAD,
    "a head and a list": lambda: HEAD + b"\x94",
    "deep lists": lambda: HEAD + b"\x91" * 100_000,
    "zeros": lambda: bytes(messages.MAX_BYTES),
    "another version": lambda: b"\1\0" + envelope(FORGED)[2:],
    "signed where nothing is": lambda: HEAD[:1] + b"\x20" + bytes(32) + envelope(FORGED)[2:],
    "cut short": lambda: envelope(FORGED)[:-1],
    "with more behind": lambda: envelope(FORGED) + b"\0",
    "too old": lambda: envelope(FORGED, age=31_000),
    "from the future": lambda: envelope(FORGED, age=-31_000),
    "a count below 0": lambda: envelope(Delta({"forged": -5}, 5)),
    "a count of 0": lambda: envelope(Delta({"forged": 0}, 5)),
    "a count too large": lambda: envelope(Delta({"forged": 2**53}, 5)),
    "a bad video": lambda: envelope(Delta({"for ged": 5}, 5)),
    "a bad member": lambda: envelope(Report("ready", {"forged": NOTHING}, {}, 0)),
}


@pytest.mark.parametrize("kind", JUNK)
def test_junk_and_forged_messages_are_refused_without_effect(node: Node, kind: str) -> None:
    before = samples(node)["counter_messages_received_total"]
    answer = post(node, JUNK[kind]())
    assert answer.status == 403
    answer.problem()
    assert visits(node, "forged") == 0
    assert samples(node)["counter_messages_received_total"] == before + 1
    assert all(member["name"] != "forger" for member in get(node, "/cluster").json()["members"])


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_page_of_another_site_cannot_post_messages(node: Node, content_type: str) -> None:
    """A browser sends these types anywhere without asking first, also to a node on loopback."""
    message = envelope(Delta({"cross-site": 5}, 5))
    answer = ask(node, "POST", "/mesh", {"Content-Type": content_type}, message)
    assert answer.status == 415
    answer.problem()
    assert visits(node, "cross-site") == 0


def test_a_page_of_another_site_cannot_cut_a_node_off(node: Node) -> None:
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 204)):
        for path in ("/dev/cut", "/dev/heal", "/dev/burst?video=sites"):
            assert ask(node, "POST", path, {"Sec-Fetch-Site": site}).status == status
    assert get(node, "/cluster").json()["transport"]["up"]


@pytest.mark.parametrize("size", [messages.MAX_BYTES + 1, 1_000_000, 3_000_000])
def test_a_message_that_is_too_large_is_a_413(node: Node, size: int) -> None:
    answer = post(node, bytes(size))
    assert answer.status == 413
    answer.problem()


def test_a_message_of_unknown_length_is_read_only_so_far(node: Node) -> None:
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    head = (
        b"POST /mesh HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    assert raw(node, head + b"4\r\njunk\r\n0\r\n\r\n").startswith(b"HTTP/1.1 403 ")
    assert raw(node, head + chunk * 3 + b"0\r\n\r\n").startswith(b"HTTP/1.1 413 ")
    assert raw(node, head + chunk * 40 + b"0\r\n\r\n").startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("secret", ["correct horse", "wrong horse"])
def test_with_a_secret_unsigned_messages_are_refused(tmp_path: Path, secret: str) -> None:
    node = Node(tmp_path, "counter1", settings={"CLUSTER_SECRET": "correct horse"})
    try:
        node.start().wait_ready()
        sent = int(time.time() * 1000)
        signed = messages.encode(Envelope(SENDER, "", sent, Delta({"signed": 5}, 5)), secret)
        assert post(node, envelope(Delta({"signed": 5}, 5))).status == 403
        assert visits(node, "signed") == 0
        if secret == "correct horse":
            assert post(node, signed).status == 204
            assert visits(node, "signed") == 5
            tampered = signed[:-1] + bytes([signed[-1] ^ 1])
            assert post(node, tampered).status == 403
        else:
            assert post(node, signed).status == 403
            assert visits(node, "signed") == 0
    finally:
        node.kill()


# -- removing a member


def remove(node: Node, member: str, token: str = TOKEN, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    bearer = f"Bearer {token}".encode().decode("latin-1")
    return ask(node, "DELETE", f"/cluster/{quote(member)}", {"Authorization": bearer, **named})


def own_member(node: Node) -> str:
    return str(get(node, "/cluster").json()["member"])


def test_a_member_is_removed_once_it_is_silent(pair: tuple[Node, Node]) -> None:
    node, peer = pair
    member = "leaver~" + "0" * 13
    sender = f"{member}.{mint_run(1, '', 1)}"
    sent = int(time.time() * 1000)
    message = messages.encode(Envelope(sender, "", sent, Delta({"leaver": 5}, 5)), None)
    assert post(node, message).status == 204
    answer = remove(node, member)
    assert answer.status == 409
    assert re.fullmatch(rf"{member} was heard [0-9.]+ s ago: stop .*", answer.problem()["detail"])

    until(lambda: remove(node, member).json() == done(member, already=False), 10, "it is silent")
    answer = remove(node, member)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == done(member, already=True)

    until(lambda: removed(node, member) and removed(peer, member), 5, "all know of it")
    for each in pair:
        assert visits(each, "leaver") == 5
        page = browse(each, "/cluster").body.decode()
        assert re.search(
            rf'data-member="{member}".*?data-state="removed">removed<', page, re.DOTALL
        )
    assert re.search(rf"removed member={member}$", node.log.read_text(), re.MULTILINE)
    listed = flask("cluster", "status", "--url", peer.url).stdout
    assert re.search(rf"^{member} +removed ", listed, re.MULTILINE)


def done(member: str, *, already: bool) -> dict[str, Any]:
    return {"member": member, "removed": True, "already": already}


def removed(node: Node, member: str) -> bool:
    members = get(node, "/cluster").json()["members"]
    return any(each["removed"] for each in members if each["member"] == member)


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer only-for-tests",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer x {TOKEN}",
        "Bearer \xff\xfe",
    ],
)
@pytest.mark.parametrize("whom", ["itself", "nobody"])
def test_without_the_token_nobody_is_removed(
    node: Node, authorization: str | None, whom: str
) -> None:
    """And it cannot be found out either who is a member."""
    headers = {}
    if authorization is not None:
        raw = authorization.encode("latin-1" if "\xff" in authorization else "utf-8")
        headers["Authorization"] = raw.decode("latin-1")
    member = own_member(node) if whom == "itself" else "nobody~" + "0" * 13
    answer = ask(node, "DELETE", f"/cluster/{member}", headers)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in answer.problem()["detail"]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_of_the_token_is_of_any_case(node: Node, scheme: str) -> None:
    bearer = f"{scheme} {TOKEN}".encode().decode("latin-1")
    assert remove(node, "nobody", Authorization=bearer).status == 404


def test_a_page_of_another_site_cannot_remove_a_member(node: Node) -> None:
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 404)):
        assert remove(node, "nobody", Sec_Fetch_Site=site).status == status
    # Nor does a browser get as far: what it asks before is not granted.
    asked = {
        "Origin": "http://elsewhere.example",
        "Access-Control-Request-Method": "DELETE",
        "Access-Control-Request-Headers": "authorization",
    }
    answer = ask(node, "OPTIONS", "/cluster/nobody", asked)
    assert not any(name.startswith("access-control-") for name in answer.headers)


@pytest.mark.parametrize(
    "member", ["nobody~" + "0" * 13, "counter1", "x", "v" * 5000, "ü", "a b", "<b>", "%00", "~"]
)
def test_an_unknown_member_is_a_404_that_says_where_to_look(node: Node, member: str) -> None:
    answer = remove(node, member)
    assert answer.status == 404
    assert "GET /cluster" in answer.problem()["detail"]
    assert len(answer.problem()["detail"]) < 500


def test_a_live_member_is_not_removed_and_nor_is_a_node_itself(pair: tuple[Node, Node]) -> None:
    node, peer = pair
    member = own_member(peer)
    answer = remove(node, own_member(node))
    assert answer.status == 409
    assert "cannot remove itself" in answer.problem()["detail"]
    until(lambda: remove(node, member).status == 409, 10, "it is heard")
    assert "stop it first" in remove(node, member).problem()["detail"]
    assert not removed(node, member)


def test_without_an_admin_token_there_is_no_such_endpoint(pair: tuple[Node, Node]) -> None:
    _, peer = pair
    for method in ("DELETE", "GET", "POST"):
        answer = ask(peer, method, f"/cluster/{own_member(peer)}", {"Authorization": "Bearer "})
        assert answer.status == 404
        answer.problem()


def test_a_node_that_may_not_know_who_is_live_removes_nobody(joining: Node) -> None:
    answer = remove(joining, "nobody")
    assert answer.status == 503
    assert "ask another one" in answer.problem()["detail"]
    assert "retry-after" in answer.headers
    assert remove(joining, "nobody", "wrong-token").status == 401


# -- joining


def test_a_joining_node_counts_and_says_that_the_number_is_coming(joining: Node) -> None:
    answer = get(joining, "/video/cats")
    assert answer.status == 200
    shown = answer.json()
    assert shown == {
        "video": "cats", "visits": None, "node": "counter1", "joining": True, "counts": {},
    }  # fmt: skip
    page = browse(joining, "/video/cats")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    assert browse(joining, "/").status == 200
    assert ask(joining, "POST", "/hit/cats").status == 204
    assert ask(joining, "HEAD", "/video/cats").status == 200
    counted = get(joining, "/count/cats?stale=1").json()
    assert counted["visits"] == 3


def test_a_joining_node_gives_numbers_only_to_who_takes_stale_ones(joining: Node) -> None:
    get(joining, "/hit/dogs")
    for path in ("/count/dogs", "/counts?video=dogs", "/top", "/count/dogs?stale=0"):
        answer = get(joining, path)
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) >= 1
        answer.problem()
    assert get(joining, "/count/dogs?stale=1").json()["visits"] >= 1
    assert get(joining, "/counts?video=dogs&stale=1").json()["counters"][0]["visits"] >= 1
    assert get(joining, "/top?stale=1").json()["counters"]
    # What is wrong is wrong all the same.
    assert get(joining, "/count/a%20b").status == 400


def test_a_joining_node_is_alive_and_not_ready(joining: Node) -> None:
    assert get(joining, "/healthz").status == 200
    answer = get(joining, "/readyz")
    assert answer.status == 503
    assert "joining" in answer.problem()["detail"]
    assert "retry-after" in answer.headers
    assert get(joining, "/cluster").json()["state"] == "joining"
    assert samples(joining)["counter_ready"] == 0


# -- the operator's commands


def flask(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], **settings}
    return subprocess.run(
        [sys.executable, "-m", "flask", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_the_status_command_prints_every_member(node: Node, tmp_path: Path) -> None:
    get(node, "/hit/status")
    by_url = flask("cluster", "status", "--url", node.url, DATA_DIR=str(tmp_path))
    assert by_url.returncode == 0, by_url.stderr
    assert by_url.stderr == ""
    first, *lines = by_url.stdout.splitlines()
    assert first == "counter1 is ready; store sqlite up, transport mesh up"
    assert lines[0] == "ended runs to fold: 0, folds done: 0"
    assert lines[1] == ""
    heads = "MEMBER STATE HEARD BEHIND VISITS /S MSG/S RUNS FOLDED STORE TRANSPORT"
    assert " ".join(lines[2].split()) == heads
    assert any(re.match(MEMBER + r"  ready  here .* sqlite +mesh$", line) for line in lines)
    assert max(map(len, lines)) <= 100
    by_port = flask("cluster", "status", LISTEN_PORT=str(node.port), DATA_DIR=str(tmp_path))
    assert by_port.stdout.startswith(first)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "ftp://127.0.0.1", "nonsense", "http://"])
def test_the_status_command_says_in_one_sentence_that_nobody_answers(url: str) -> None:
    done = flask("cluster", "status", "--url", url)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "--url" in done.stderr


def test_the_status_command_prints_what_the_node_says_as_json(node: Node) -> None:
    done = CliRunner().invoke(cluster, ["status", "--json", "--url", node.url])
    assert done.exit_code == 0
    assert json.loads(done.stdout).keys() == get(node, "/cluster").json().keys()


def member_shown(name: str, **facts: Any) -> dict[str, Any]:
    told = {"kind": "rabbitmq", "up": False}
    return {
        "member": f"{name}~" + "0" * 13, "self": False, "removed": False, "live": True,
        "state": "leaving", "heard": 3599.0, "behind": 2**40, "visits": 2**53, "runs": 300,
        "visits_per_second": 12345.678, "messages_per_second": 0.0, "folded": 2**53,
        "store": {"kind": "redis", "up": True}, "transport": told, **facts,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["a", "n" * 32])
def test_a_table_of_members_has_every_fact_in_at_most_100_columns(name: str) -> None:
    unknown = {
        "store": None, "transport": None, "visits_per_second": None, "messages_per_second": None,
        "heard": None, "behind": None, "live": False,
    }  # fmt: skip
    shown = list(tables([member_shown(name), member_shown("b", **unknown)]))
    assert all(len(line) <= 100 for lines in shown for line in lines)
    whole = "\n".join("\n".join(lines) for lines in shown)
    for fact in ("leaving", "silent", "59 min", "never", f"{2**40}", f"{2**53}", "12345.7", "300",
                 "redis", "rabbitmq down"):  # fmt: skip
        assert f" {fact}" in whole, whole
    for lines in shown:
        assert lines[0].startswith("MEMBER ")
        assert lines[1].startswith(f"{name}~")
        # Aligned: each heading begins where its cells do.
        for heading in re.finditer(r"\S+", lines[0]):
            column = {line[heading.start() : heading.start() + 1] for line in lines}
            assert " " not in column, lines
            assert all(line[heading.start() - 1 : heading.start()] in ("", " ") for line in lines)


def test_the_status_command_is_not_fooled_by_another_server(node: Node) -> None:
    done = flask("cluster", "status", "--url", f"{node.url}/static")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def command(node: Node, *arguments: str, answer: str = "", token: str = TOKEN) -> Result:
    """Run `flask cluster remove` in this process, which is ten times as quick."""
    asked = ["remove", "--url", node.url, *arguments]
    return CliRunner().invoke(cluster, asked, answer, env={"ADMIN_TOKEN": token})


def test_the_remove_command_asks_first(pair: tuple[Node, Node]) -> None:
    node, peer = pair
    member = "asked~" + "0" * 13
    sender = f"{member}.{mint_run(1, '', 1)}"
    sent = int(time.time() * 1000)
    message = messages.encode(Envelope(sender, "", sent, Delta({"asked": 7}, 7)), None)
    assert post(node, message).status == 204
    for answer in ("", "\n", "n\n", "no\n"):
        done = command(node, member, answer=answer)
        assert done.exit_code == 1
        assert done.stdout.startswith(f"{member}: 7 visits, last heard: ")
        assert "nothing was removed" in done.stderr
        assert not removed(node, member)
    until(
        lambda: command(node, member, "--token", TOKEN, answer="y\n", token="").exit_code == 0,
        10,
        "it is silent, and removed",
    )
    until(lambda: removed(node, member) and removed(peer, member), 5, "all know of it")
    # There is nothing left to ask.
    done = command(node, member)
    assert (done.exit_code, done.stdout) == (0, f"{member} is removed already\n")


def test_the_remove_command_says_in_one_sentence_what_is_wrong(
    pair: tuple[Node, Node], joining: Node
) -> None:
    node, peer = pair
    cases = [
        (node, [own_member(node)], "", "no token"),
        (node, [own_member(node), "--token", "a b"], "", "blanks"),
        (node, [own_member(node)], "wrong-token", "counter1 refuses: the token"),
        (node, [own_member(node)], TOKEN, "cannot remove itself"),
        (node, [own_member(peer)], TOKEN, "stop it first"),
        (node, ["counter2"], TOKEN, f"is it {own_member(peer)}?"),
        (node, ["nobody~0"], TOKEN, "'nobody~0' is no member"),
        (peer, [own_member(node)], TOKEN, "counter2 removes nobody"),
        (joining, [own_member(joining)], TOKEN, "ask another one"),
        (node, ["x", "--url", "http://127.0.0.1:9"], TOKEN, "no node answers"),
        (node, ["x", "--url", f"{node.url}/static"], TOKEN, "no node answers"),
        (node, ["x", "--url", "nonsense"], TOKEN, "is not an address"),
    ]
    for asked, arguments, token, words in cases:
        done = command(asked, *arguments, "--yes", token=token)
        assert done.exit_code == 1, (words, done)
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert words in done.stderr


def test_an_app_that_is_not_served_opens_no_store_and_no_transport(tmp_path: Path) -> None:
    done = flask("routes", DATA_DIR=str(tmp_path / "data"))
    assert done.returncode == 0, done.stderr
    assert "/video/<path:video>" in done.stdout
    assert not (tmp_path / "data").exists()
    app = create_app(Config(data_dir=tmp_path / "data", name="counter1"))
    assert not (tmp_path / "data").exists()
    # It refuses visits instead of losing them.
    client = app.test_client()
    assert client.get("/video/cats").status_code == 503
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 503


# -- fuzz


def raw(node: Node, request: bytes) -> bytes:
    """Send bytes as they are; return everything that comes back."""
    with socket.create_connection(("127.0.0.1", node.port), timeout=10) as connection:
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # answered before it was read to its end
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
        return answer


PATHS = [
    "/video/", "/count/", "/hit/", "/live/", "/live", "/counts", "/top", "/", "/mesh",
    "/cluster", "/cluster/counts?video=", "/static/", "/healthz", "/readyz", "/metrics", "//", "/.",
    "*",
    "http://elsewhere/", "/static/../", "/dev/", "/visits", "/cluster/",
]  # fmt: skip

HEADERS = [
    "Accept", "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version",
    "Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol", "Sec-Purpose", "Cookie", "Host",
    "Content-Type", "Content-Length", "Transfer-Encoding", "Expect", "Range", "If-None-Match",
    "If-Modified-Since", "X-Forwarded-For", "X-Forwarded-Proto", "Authorization", "Origin",
    "X-HTTP-Method-Override", "Accept-Encoding", "TE",
]  # fmt: skip

VALUES = [
    "websocket", "upgrade", "Upgrade, keep-alive", "13", "8", "text/html", "chunked",
    "dGhlIHNhbXBsZSBub25jZQ==", "close", "100-continue", "bytes=0-", "0", "-1", "5",
    "permessage-deflate", 'W/"x"', "multipart/form-data", "application/json",
    "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
]  # fmt: skip

methods = st.sampled_from(
    ["GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "get", "FOO"]
)
junk = st.text(st.characters(codec="utf-8"), max_size=30).map(
    lambda text: quote(text, safe="/?&=;:@!$'()*+,~-._%[]{}|\\^`<>\"")
)
targets = st.one_of(
    st.builds(
        "".join,
        st.tuples(
            st.sampled_from(PATHS),
            junk,
            st.sampled_from(["", "?", "?video=", "?limit=", "?stale=", "?video=a&video=", "#"]),
            junk,
        ),
    ),
    junk,
)
headers = st.lists(
    st.tuples(
        st.sampled_from(HEADERS),
        st.one_of(
            st.sampled_from(VALUES),
            st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=20),
        ),
    ),
    max_size=6,
)
bodies = st.one_of(
    st.just(b""), st.binary(max_size=60), st.binary(max_size=60).map(lambda body: HEAD + body)
)

UPGRADE = [("Connection", "Upgrade"), ("Upgrade", "websocket")]
KEY = ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")


@given(methods, targets, headers, bodies, st.sampled_from(["HTTP/1.1", "HTTP/1.0"]))
@settings(
    max_examples=300,
    derandomize=True,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example("GET", "/live/cats", UPGRADE, b"", "HTTP/1.1")
@example("GET", "/live/cats", [*UPGRADE, KEY], b"", "HTTP/1.1")
@example("GET", "/live/cats", [*UPGRADE, KEY, ("Sec-WebSocket-Version", "8")], b"", "HTTP/1.1")
@example("GET", "/live/cats", [*UPGRADE, ("Sec-WebSocket-Version", "13")], b"", "HTTP/1.1")
@example(
    "GET",
    "/live/cats",
    [*UPGRADE, ("Sec-WebSocket-Key", "x"), ("Sec-WebSocket-Version", "13")],
    b"",
    "HTTP/1.1",
)
@example("POST", "/live", [*UPGRADE, KEY, ("Sec-WebSocket-Version", "13")], b"", "HTTP/1.1")
@example("GET", "/live", [*UPGRADE, KEY, ("Sec-WebSocket-Version", "13")], b"", "HTTP/1.0")
@example("GET", "/video/cats", [*UPGRADE, KEY, ("Sec-WebSocket-Version", "13")], b"", "HTTP/1.1")
@example("GET", "/video/\xff", [], b"", "HTTP/1.1")
@example("GET", "/counts?video=%ff", [("Accept", "text/html")], b"", "HTTP/1.1")
@example("GET", "/static/%00", [], b"", "HTTP/1.1")
@example("GET", "/static/" + "a" * 5000, [], b"", "HTTP/1.1")
@example("GET", "/static/style.css", [("Range", "bytes=5-1")], b"", "HTTP/1.1")
@example("GET", "/static/style.css", [("If-Modified-Since", "x\xff")], b"", "HTTP/1.1")
@example("GET", "/", [("Host", "a b\xff:x")], b"", "HTTP/1.1")
@example("GET", "/video", [("Host", "[")], b"", "HTTP/1.1")
@example("POST", "/hit/cats", [("Content-Type", "multipart/form-data")], b"--", "HTTP/1.1")
def test_nothing_that_a_client_sends_makes_a_500(
    node: Node,
    method: str,
    target: str,
    headers: list[tuple[str, str]],
    body: bytes,
    version: str,
) -> None:
    if target.startswith("/dev/") and method == "POST":
        target = "/dev/null"
    given_names = {name for name, _ in headers}
    lines = [f"{method} {target} {version}", *(f"{name}: {value}" for name, value in headers)]
    if "Host" not in given_names:
        lines.append("Host: localhost")
    if body and not given_names & {"Content-Length", "Transfer-Encoding"}:
        lines.append(f"Content-Length: {len(body)}")
    request = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body
    answer = raw(node, request)
    # No answer at all is one, too, to what is no request.
    if answer:
        status = re.match(rb"HTTP/1\.[01] (\d\d\d) ", answer)
        assert status, (request, answer[:200])
        # 501 is what RFC 9112 wants for a transfer coding that a server does not know.
        assert int(status[1]) < 500 or int(status[1]) == 501, (request, answer[:500])
    log = node.log.read_text()
    assert "Traceback" not in log, (request, log[-2000:])
    before = visits(node, "fuzz")
    assert get(node, "/video/fuzz").json()["visits"] == before + 1
