"""What does not count is counted apart: in a class of its own, at every node the same."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from crawleruseragents import (
    CRAWLER_USER_AGENTS_DATA,
)

from counter.cli.cluster import cluster
from counter.crdt.ids import CLASSES, class_key, class_of, is_listed
from counter.crdt.tally import Tally
from counter.node.agents import LONGEST, Agents
from counter.node.judge import Judge, Visitor
from counter.node.outcomes import OF_REQUEST, Reasons, marked
from counter.node.viewers import Person
from counter.protocol.apart import Apart
from counter.protocol.client import STRANGER, Client
from counter.web.results import Results
from lab.clients import counted, fetch, metric, metrics, until
from lab.previous import unpack
from lab.servers import WRITE_TOKEN, Node, free_port
from tests.agents import BROWSERS, CRAWLERS, LIBRARIES
from tests.nodes import mesh
from tests.test_http import Answer, ask, get

BOT = CRAWLERS[0]
PERSON = BROWSERS[0]
JSON = {"Content-Type": "application/json"}
TOKEN = {"Authorization": f"Bearer {WRITE_TOKEN}"}
PAGE = "text/html,application/xhtml+xml,*/*;q=0.8"
NOT_COUNTED = "counter_visits_not_counted_total"

OPERATOR = "only-for-operators"

pytestmark = pytest.mark.nodes(2, ADMIN_TOKEN=OPERATOR)


@pytest.fixture(scope="module", params=["stored", "memory"])
def acked(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Node]:
    """A node that answers visits when they are stored, and one that does so at once."""
    with mesh(tmp_path_factory.mktemp("acked"), ACK=request.param) as [node]:
        yield node


def visit(node: Node, video: str, agent: str, **headers: str) -> dict[str, Any]:
    answer = get(node, f"/video/{video}", User_Agent=agent, **headers)
    assert answer.status == 200, answer
    told: dict[str, Any] = answer.json()
    return told


def detail(node: Node, video: str) -> tuple[int, dict[str, int]]:
    """The visits of a video, and what was not counted."""
    told = fetch(node.url, f"/count/{video}?detail")
    return told["visits"], told["not_counted"]


def shows(node: Node, video: str, visits: int, **apart: int) -> None:
    until(lambda: detail(node, video) == (visits, apart), 10, f"{visits} of {video}, and {apart}")


def post(node: Node, records: list[tuple[str, int]], path: str = "/visits", **more: str) -> Answer:
    body = json.dumps([{"video": video, "count": count} for video, count in records]).encode()
    named = {name.replace("_", "-"): value for name, value in more.items()}
    return ask(node, "POST", path, JSON | {"User-Agent": "a-site/1.0"} | named, body)


# -- keys and agents


def test_a_class_has_a_key_of_its_own_that_is_no_video() -> None:
    for reason in CLASSES:
        key = class_key("v" * 128, reason)
        assert class_of(key) == reason
        assert not is_listed(key)
    for key in ("cats", "cats/known", "cats/waited", "cats/bot/more", "/bot", "bot"):
        assert class_of(key) == ""


AGENTS = [(agent, kind) for kind, agents in (
    ("crawler", CRAWLERS), ("", BROWSERS), ("library", LIBRARIES),
) for agent in agents]  # fmt: skip


@pytest.fixture(scope="module")
def judges() -> dict[str, Judge]:
    return {bots: Judge(bots) for bots in ("crawlers", "count", "programs")}


def test_the_table_has_forty_agents() -> None:
    assert (len(CRAWLERS), len(BROWSERS), len(LIBRARIES)) == (20, 10, 10)
    assert len({agent for agent, _ in AGENTS}) == 40
    assert sum("CUBOT" in agent for agent in BROWSERS) == 1


@pytest.mark.parametrize(("agent", "kind"), AGENTS)
def test_what_an_agent_is_follows_from_the_setting(
    judges: dict[str, Judge], agent: str, kind: str
) -> None:
    said = {
        bots: judge.reason("cats", Visitor(agent, lambda: STRANGER))
        for bots, judge in judges.items()
    }
    crawlers, programs = kind == "crawler", kind != ""
    assert said == {
        "crawlers": "bot" if crawlers else None,
        "count": None,
        "programs": "bot" if programs else None,
    }


def test_the_list_is_searched_as_its_patterns_say() -> None:
    agents = Agents()
    listed = [
        (each["pattern"], "http-library" in each["tags"]) for each in CRAWLER_USER_AGENTS_DATA
    ]
    crawler, library = (
        [re.compile(pattern).search for pattern, is_library in listed if is_library is wanted]
        for wanted in (False, True)
    )
    examples = [agent for each in CRAWLER_USER_AGENTS_DATA for agent in each["instances"]]
    for agent in examples[::10]:
        known = "crawler" if any(search(agent[:LONGEST]) for search in crawler) else ""
        known = known or ("library" if any(search(agent[:LONGEST]) for search in library) else "")
        assert agents.kind(agent) == known, agent


def test_an_empty_agent_is_a_program(judges: dict[str, Judge]) -> None:
    said = {
        bots: judge.reason("cats", Visitor("", lambda: STRANGER)) for bots, judge in judges.items()
    }
    assert said == {"crawlers": None, "count": None, "programs": "bot"}


def test_only_the_beginning_of_an_agent_is_looked_at() -> None:
    agents = Agents()
    assert agents.kind("x" * (LONGEST - len("Googlebot/")) + "Googlebot/2.1") == "crawler"
    assert agents.kind("x" * (LONGEST - len("Googlebot/") + 1) + "Googlebot/2.1") == ""


def test_the_reasons_have_an_order_and_a_token_leaves_only_the_block() -> None:
    judge = Judge("crawlers")
    judge.blocked = lambda video: video == "blocked"
    judge.repeat = lambda video, _: video == "seen"
    writer = Visitor(BOT, lambda: Client("", "import"))
    bot = Visitor(BOT, lambda: STRANGER)
    person = Visitor(PERSON, lambda: STRANGER, person=Person("10.0.0.1", PERSON))
    said = [judge.reason(video, bot) for video in ("blocked", "seen", "cats")]
    assert said == ["blocked", "bot", "bot"]
    said = [judge.reason(video, person) for video in ("blocked", "seen", "cats")]
    assert said == ["blocked", "repeat", None]
    said = [judge.reason(video, writer) for video in ("blocked", "seen", "cats")]
    assert said == ["blocked", None, None]
    for visitor in (bot, person, writer):
        each = {video: judge.reason(video, visitor) for video in ("blocked", "seen", "cats")}
        told = judge.reasons(("blocked", "seen", "cats"), visitor)
        assert told == {video: reason for video, reason in each.items() if reason}


# -- what is answered


def test_a_crawlers_visit_is_answered_and_does_not_count(acked: Node) -> None:
    member = fetch(acked.url, "/cluster")["member"]
    told = visit(acked, "seen", BOT)
    assert told == {
        "video": "seen", "visits": 0, "node": "counter1", "counts": {},
        "counted": False, "reason": "bot",
    }  # fmt: skip
    assert list(told)[-2:] == ["counted", "reason"]
    assert visit(acked, "seen", PERSON) == {
        "video": "seen", "visits": 1, "node": "counter1", "counts": {member: 1},
    }  # fmt: skip
    assert visit(acked, "seen", BOT)["visits"] == 1
    answer = get(acked, "/video/seen", User_Agent=BOT, Accept=PAGE)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/html")
    shows(acked, "seen", 1, bot=3)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_beacon_says_in_a_header_that_it_does_not_count(acked: Node, method: str) -> None:
    video = f"hit-{method}"
    answer = ask(acked, method, f"/hit/{video}", {"User-Agent": BOT})
    assert (answer.status, answer.headers["x-counted"], answer.body) == (204, "no; reason=bot", b"")
    answer = ask(acked, method, f"/hit/{video}", {"User-Agent": PERSON})
    assert answer.status == 204
    assert "x-counted" not in answer.headers
    shows(acked, video, 1, bot=1)


def test_programs_and_those_with_a_token_count(node: Node) -> None:
    for agent in ("", *LIBRARIES):
        assert "counted" not in visit(node, "programs", agent)
    assert "counted" not in visit(node, "programs", BOT, Authorization=f"Bearer {WRITE_TOKEN}")
    shows(node, "programs", 12)


def test_what_is_a_look_only_is_kept_in_no_class(node: Node) -> None:
    visit(node, "looks", BOT)
    ask(node, "HEAD", "/video/looks", {"User-Agent": BOT})
    assert "counted" not in visit(node, "looks", BOT, Sec_Purpose="prefetch")
    assert get(node, "/hit/looks", User_Agent=BOT, Purpose="prefetch").status == 204
    shows(node, "looks", 0, bot=1)


# -- where it is shown


def _agree(nodes: list[Node]) -> bool:
    """Whether all nodes have the same numbers in all."""
    names = ("counter_visits_apart", "counter_videos")
    return len({tuple(metrics(node.url)[name] for name in names) for node in nodes}) == 1


def test_a_class_is_the_same_everywhere_and_shown_nowhere_as_a_video(nodes: list[Node]) -> None:
    until(partial(_agree, nodes), 10, "both hold what other tests counted")
    before = [metrics(each.url) for each in nodes]
    videos = fetch(nodes[0].url, "/cluster")["videos"]["known"]
    for each in nodes:
        visit(each, "cats", BOT)
        visit(each, "cats", PERSON)
    for each in nodes:
        shows(each, "cats", 2, bot=2)
        told = fetch(each.url, "/counts?video=cats&video=nobody&detail")["counters"]
        assert [one["not_counted"] for one in told] == [{"bot": 2}, {}]
        assert "not_counted" not in fetch(each.url, "/count/cats")
        assert "not_counted" not in fetch(each.url, "/counts?video=cats")["counters"][0]
        top = [one["video"] for one in fetch(each.url, "/top?limit=1000")["counters"]]
        assert "cats" in top
        assert all("/" not in video for video in top)
        cluster = fetch(each.url, "/cluster")
        assert cluster["videos"]["known"] == videos + 1
        assert cluster["not_counted"]["bot"] == metrics(each.url)["counter_visits_apart"]
        after = metrics(each.url)
        assert after["counter_videos"] == videos + 1
    for each, then in zip(nodes, before, strict=True):
        after = metrics(each.url)
        assert after["counter_visits_apart"] - then["counter_visits_apart"] == 2
        assert after[NOT_COUNTED] - then[NOT_COUNTED] == 1
        assert after["counter_visits_total"] - then["counter_visits_total"] == 1
    shown = fetch(nodes[0].url, "/top?limit=1000")["counters"]
    members = fetch(nodes[0].url, "/cluster")["members"]
    assert sum(one["visits"] for one in members) == sum(one["visits"] for one in shown)


def behind(node: Node, other: Node) -> int | None:
    """How many visits of a node another one lacks, as the node sees it."""
    members = fetch(node.url, "/cluster")["members"]
    lacks: int | None = next(each["behind"] for each in members if each["name"] == other.name)
    return lacks


def test_who_lacks_what_does_not_count_is_behind_by_no_visit(nodes: list[Node]) -> None:
    node, other = nodes
    visit(node, "lag", PERSON)
    until(lambda: behind(node, other) == 0, 10, "all is told")
    other.pause()
    try:
        for _ in range(5):
            visit(node, "lag", BOT)
        assert behind(node, other) == 0
        visit(node, "lag", PERSON)
        visit(node, "lag", BOT)
        assert behind(node, other) == 1
    finally:
        other.resume()
    until(lambda: behind(node, other) == 0, 10, "all is told")
    shows(other, "lag", 2, bot=6)


def test_what_is_no_visit_is_known_by_the_total() -> None:
    apart = Apart()
    assert apart.since(0) == apart.since(7) == 0
    apart.add(5, 2)
    apart.add(9, 1)
    assert [apart.since(total) for total in (0, 4, 5, 8, 9, 10)] == [3, 3, 1, 1, 0, 0]
    for total in range(10, 30_000):
        apart.add(total, 1)
    assert apart.since(29_990) == 9
    assert 0 < apart.since(0) <= 10_000


def test_a_key_of_a_class_cannot_be_visited(node: Node) -> None:
    for path in ("/video/cats/bot", "/hit/cats/bot", "/count/cats/bot", "/video/cats%2Fbot"):
        assert get(node, path).status in (400, 404), path
    assert post(node, [("cats/bot", 1)], **TOKEN).status == 400


def test_the_classes_of_all_videos_are_added_up() -> None:
    tally, few = Tally(), Tally.videos_class
    rows = [("cats", 5), ("cats/bot", 2), ("dogs/bot", 3), ("cats/known", 1), ("dogs/repeat", 1)]
    tally.merge("a~0000000000000.01m83kr2yy3a0d1xw7bp3ns", dict(rows))
    assert tally.classes() == {"bot": 5, "repeat": 1, "blocked": 0}
    assert tally.members() == {"a~0000000000000": 5}
    many = {f"video-{number}/bot": 2 for number in range(2 * few.small)}
    many |= {f"video-{number}": 1 for number in range(few.small)}
    tally.merge("b~0000000000000.01m83kr2yy3a0d1xw7bp3ns", many)
    assert tally.classes() == {"bot": 5 + 4 * few.small, "repeat": 1, "blocked": 0}
    assert tally.members()["b~0000000000000"] == few.small
    assert tally.top(2) == ["cats", "video-0"]


# -- many visits


def test_a_batch_says_of_each_record_whether_it_counts(node: Node) -> None:
    records = [("many", 2), ("more", 1), ("many", 1)]
    answer = post(node, records, "/visits?detail").json()
    assert answer == {"records": 3, "visits": 4, "results": [{"counted": True}] * 3}
    answer = post(node, records, "/visits?detail", User_Agent=BOT).json()
    refused = {"counted": False, "reason": "bot"}
    assert answer == {"records": 3, "visits": 0, "results": [refused] * 3}
    assert post(node, records, User_Agent=BOT).json() == {"records": 3, "visits": 0}
    answer = post(node, records, "/visits?detail", User_Agent=BOT, **TOKEN).json()
    assert answer["visits"] == 4
    shows(node, "many", 6, bot=6)
    shows(node, "more", 2, bot=2)


def test_a_batch_with_a_bad_record_is_refused_whole_whoever_sends_it(node: Node) -> None:
    for agent in (BOT, PERSON):
        bad = post(node, [("whole", 1), ("a b", 1)], "/visits?detail", User_Agent=agent)
        assert bad.status == 400
        assert bad.problem()["index"] == 1
        large = post(node, [("whole", 1), ("whole", 1001)], "/visits?detail", User_Agent=agent)
        assert large.status == 422
        assert large.problem()["index"] == 1
    assert detail(node, "whole") == (0, {})


def test_a_repeat_of_a_batch_has_the_same_results(node: Node) -> None:
    for agent, visits in ((BOT, 0), (PERSON, 3)):
        key = {"Idempotency-Key": f"results-{visits}", "User-Agent": agent}
        first, again = (post(node, [("keyed", 3)], "/visits?detail", **key) for _ in range(2))
        assert first.json()["visits"] == visits
        assert again.json() == first.json() | {"repeated": True}
    shows(node, "keyed", 3, bot=3)


def _holds(node: Node, keys: float) -> bool:
    return metric(node.url, "counter_keys") == keys


def test_another_node_answers_a_repeat_as_the_first_one_did(nodes: list[Node]) -> None:
    outcomes = {"bot": (BOT, 0), "person": (PERSON, 3), "token": (BOT, 3)}
    for name, (agent, visits) in outcomes.items():
        token = TOKEN if name == "token" else {}
        key = {"Idempotency-Key": f"elsewhere-{name}", "User-Agent": agent} | token
        # Whatever the agent of the repeat: what became of the first decides.
        again = key | {"User-Agent": PERSON if name == "bot" else BOT}
        first = post(nodes[0], [("there", 1), ("there", 2)], "/visits?detail", **key).json()
        assert first["visits"] == visits
        keys = metrics(nodes[0].url)["counter_keys"]
        until(partial(_holds, nodes[1], keys), 10, "the key is there")
        told = post(nodes[1], [("there", 1), ("there", 2)], "/visits?detail", **again).json()
        assert told == first | {"repeated": True}
        assert post(nodes[1], [("there", 4)], **again).status == 422


def test_what_became_of_a_first_request_is_told_by_its_fingerprint() -> None:
    whole, videos = bytes(range(16)), ["cats", "dogs", "gone"]
    blocked: Reasons = {"gone": "blocked"}
    bots: Reasons = {"cats": "bot", "dogs": "bot", "gone": "blocked"}
    seen: Reasons = {"cats": "repeat", "dogs": "repeat", "gone": "blocked"}
    assert marked(whole, {}) == whole
    assert marked(b"", bots) == b""
    bot_before: Reasons = dict.fromkeys(videos, "bot")
    for first in ({}, blocked, bots, bot_before, seen):
        assert marked(whole, first)[:OF_REQUEST] == whole[:OF_REQUEST]
        for now in (bots, seen):
            if first is not seen or now is seen:
                taken = marked(whole, first)
                assert Results().of_first("key", taken, whole, videos, now, ["gone"]) == first
    results = Results()
    results.remember("key", blocked)
    assert results.of_first("key", None, whole, videos, seen, []) == blocked
    results.most = 3
    for number in range(4):
        results.remember(f"{number}", {})
    assert results.of_first("key", None, whole, videos, seen, []) is None


def test_a_library_that_sends_a_batch_is_no_bot(tmp_path: Path) -> None:
    with mesh(tmp_path, BOTS="programs") as [node]:
        for agent in ("", LIBRARIES[0]):
            assert visit(node, "cats", agent)["counted"] is False
            assert post(node, [("cats", 2)], User_Agent=agent).json()["visits"] == 2
        assert post(node, [("cats", 2)], User_Agent=BOT).json()["visits"] == 0
        assert "counted" not in visit(node, "cats", PERSON)
        shows(node, "cats", 5, bot=4)


# -- new ids


def test_an_id_is_new_only_once_whoever_comes_first(tmp_path: Path) -> None:
    with mesh(tmp_path, NEW_VIDEOS="1") as [node]:
        # One address may bring in six.
        for _ in range(20):
            visit(node, "first", BOT)
        for number in range(5):
            visit(node, f"more-{number}", BOT)
            assert "counted" not in visit(node, f"more-{number}", PERSON)
        assert get(node, "/video/one-too-many", User_Agent=BOT).status == 429
        assert get(node, "/video/one-too-many", User_Agent=PERSON).status == 429
        shows(node, "one-too-many", 0)
        shows(node, "first", 0, bot=20)


def test_an_id_that_nobody_announced_takes_no_bots_either(tmp_path: Path) -> None:
    with mesh(tmp_path, VIDEOS="known") as [node]:
        assert ask(node, "POST", "/videos", JSON | TOKEN, b'["cats"]').status == 200
        assert get(node, "/video/dogs", User_Agent=BOT).status == 404
        assert post(node, [("dogs", 1)], User_Agent=BOT).status == 404
        visit(node, "cats", BOT)
        shows(node, "cats", 0, bot=1)
        shows(node, "dogs", 0)


# -- why a visit does not count


def why(node: Node, path: str, token: str = OPERATOR) -> Answer:
    return ask(node, "GET", f"/why{path}", {"Authorization": f"Bearer {token}"} if token else {})


def asked(*options: str, node: Node) -> str:
    shown = CliRunner().invoke(cluster, ["why", "--url", node.url, "--token", OPERATOR, *options])
    assert shown.exit_code == 0, shown.output
    return shown.output.strip()


def test_an_operator_is_told_why_a_visit_does_not_count(node: Node) -> None:
    before = detail(node, "asked")
    told = why(node, f"?video=asked&address=192.0.2.7&agent={quote(BOT)}").json()
    assert told == {
        "video": "asked", "agent": BOT, "address": "192.0.2.7", "counted": False, "reason": "bot",
        "setting": "BOTS=crawlers", "because": told["because"],
    }  # fmt: skip
    assert "Googlebot" in told["because"]
    told = why(node, f"?video=asked&agent={quote(PERSON)}").json()
    assert (told["counted"], told["reason"], told["setting"]) == (True, None, None)
    assert "would count" in told["because"]
    told = why(node, f"?agent={quote(PERSON)}&purpose=prefetch").json()
    assert (told["counted"], told["reason"]) == (False, "prefetch")
    told = why(node, "").json()
    assert (told["counted"], "; blocked was not asked: no video given" in told["because"]) == (
        True,
    ) * 2
    told = why(node, "?agent=github-camo%20(876de43e)").json()
    assert (told["reason"], "a badge with ?count=1 counts" in told["because"]) == ("bot", True)
    line = asked("--video", "asked", "--agent", BOT, "--address", "2001:db8::7", node=node)
    assert line.startswith("does not count, bot: ")
    assert line.endswith("(BOTS=crawlers)")
    assert asked("--agent", LIBRARIES[0], node=node).startswith("counts: it would count")
    assert json.loads(asked("--purpose", "prefetch", "--json", node=node))["reason"] == "prefetch"
    assert detail(node, "asked") == before


def test_why_is_for_operators_and_names_what_is_wrong(node: Node, tmp_path: Path) -> None:
    assert why(node, "?agent=a", token="").status == 401
    assert why(node, "?agent=a", token=WRITE_TOKEN).status == 401
    problem = why(node, "?address=nowhere").problem()
    assert (problem["status"], problem["field"]) == (400, "address")
    assert why(node, "?video=a%20b").problem()["title"] == "Bad video id"
    refused = CliRunner().invoke(cluster, ["why", "--url", node.url, "--token", "wrong-token"])
    assert refused.exit_code == 1
    assert "refuses" in refused.output
    with mesh(tmp_path, VIDEOS="known", ADMIN_TOKEN=OPERATOR) as [strict]:
        told = why(strict, "?video=cats").json()
        assert (told["reason"], told["setting"]) == ("unannounced", "VIDEOS=known")


def test_why_takes_an_agent_for_the_bytes_that_a_visit_sends(tmp_path: Path) -> None:
    with mesh(tmp_path, 1, REPEAT_WINDOW="3600", ADMIN_TOKEN=OPERATOR) as [node]:
        for number, agent in enumerate(("Möz 1", "目 2", "Moz 3")):
            video, local = f"bytes-{number}", ("--address", "127.0.0.1")
            assert asked("--video", video, "--agent", agent, *local, node=node).startswith("counts")
            visit(node, video, agent.encode().decode("latin-1"))
            told = why(node, f"?video={video}&agent={quote(agent)}&address=127.0.0.1").json()
            assert (told["agent"], told["reason"]) == (agent, "repeat")
            line = asked("--video", video, "--agent", agent, *local, node=node)
            assert line.startswith("does not count, repeat: ")
        # A terminal may give bytes that are no UTF-8; a header may have them, too.
        visit(node, "latin", "M\xf6z")
        line = asked("--video", "latin", "--agent", "M\udcf6z", *local, node=node)
        assert line.startswith("does not count, repeat: ")


# -- beside a version that knows no classes


def test_nobody_is_told_of_classes_before_all_know_them(tmp_path: Path, stack: ExitStack) -> None:
    ports = [free_port() for _ in range(3)]
    settings = {
        "PEERS": ",".join(f"http://127.0.0.1:{port}" for port in ports),
        "SYNC_INTERVAL": "0.2", "MESSAGE_TTL": "2", "DRAIN_TIME": "0",
    }  # fmt: skip
    before = unpack(tmp_path / "before")
    old = Node(tmp_path / "old", "old", ports[0], settings, root=before)
    first, last = (
        Node(tmp_path / name, name, port, settings)
        for name, port in zip(("first", "last"), ports[1:], strict=True)
    )
    for node in (old, first, last):
        stack.callback(node.kill)
        node.start()
    for node in (old, first, last):
        node.wait_ready()
    assert [visit(first, "cats", BOT)["visits"] for _ in range(3)] == [0, 0, 0]
    assert "counted" not in visit(first, "cats", PERSON)
    assert post(first, [("cats", 4)], User_Agent=BOT).json()["visits"] == 0
    shows(first, "cats", 1, bot=7)
    # What came after that is there, so this would be.
    until(lambda: counted(old.url, ["cats"]) == {"cats": 1}, 10, "the old one is told")
    shows(last, "cats", 1)
    first.kill()
    first.start()
    first.wait_ready()
    shows(first, "cats", 1, bot=7)
    visit(first, "cats", BOT)
    visit(last, "cats", BOT)
    shows(first, "cats", 1, bot=8)
    shows(last, "cats", 1, bot=1)
    old.stop()
    for node in (first, last):
        shows(node, "cats", 1, bot=9)
    first.kill()
    first.start()
    first.wait_ready()
    visit(first, "cats", BOT)
    for node in (first, last):
        shows(node, "cats", 1, bot=10)
