"""Repeats and viewers at real nodes: one visit within the window counts, at whichever node."""

import http.client
import json
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import count as _count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from playwright.sync_api import Browser, Page, expect

from lab.clients import fetch, until
from lab.cluster import start
from lab.previous import unpack
from lab.servers import WRITE_TOKEN, Node, Redis
from tests.nodes import mesh

SECRET = "a secret of these nodes"
BOTH = {"REPEAT_WINDOW": "3600", "VIEWERS": "on", "CLUSTER_SECRET": SECRET}
ADMIN_TOKEN = "operator-of-these-nodes"

_serial = _count(1)

pytestmark = pytest.mark.nodes(3, ADMIN_TOKEN=ADMIN_TOKEN, **BOTH)


class Answer(NamedTuple):
    status: int
    headers: "http.client.HTTPMessage"
    json: Any


def ask(
    node: Node, path: str, who: str = "10.0.0.1", agent: str = "Firefox", **headers: str
) -> Answer:
    """What a node answers to a visitor behind a trusted proxy."""
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=15)
    try:
        connection.request(
            "GET", path, headers={"X-Forwarded-For": who, "User-Agent": agent, **headers}
        )
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    return Answer(response.status, response.headers, json.loads(body) if body else None)


def counts(node: Node, path: str, *who: str, **more: str) -> bool:
    """Whether a visit counts."""
    answer = ask(node, path, *who, **more)
    assert answer.status == 200, answer
    assert answer.json.get("reason") == (None if answer.json.get("counted", True) else "repeat")
    return bool(answer.json.get("counted", True))


def metric(node: Node, name: str) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=15)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    [value] = re.findall(rf"^{name} (\S+)$", text, re.MULTILINE)
    return float(value)


def visits(node: Node, video: str) -> int:
    return int(fetch(node.url, f"/count/{video}")["visits"])


def today(node: Node, video: str) -> int:
    """How many viewers there are today, by a node."""
    viewers = fetch(node.url, f"/count/{video}?detail")["viewers"]
    assert viewers["error"] == 0.03
    return int(viewers["today"])


def kept(node: Node) -> dict[str, bytes]:
    """The sketches in a node's store, by video: what they hold."""
    with sqlite3.connect(node.folder / "counter.sqlite") as store:
        return dict(store.execute("SELECT video, substr(head, 1, 8) FROM sketches"))


def all_know(nodes: list[Node], viewers: float) -> None:
    until(
        lambda: all(metric(node, "counter_recent_viewers") >= viewers for node in nodes),
        5,
        "everybody has heard of the viewer",
    )


def all_say(nodes: list[Node], video: str, viewers: int) -> None:
    until(
        lambda: [today(node, video) for node in nodes] == [viewers] * len(nodes),
        10,
        f"all say {viewers} viewers of {video}",
    )


def test_the_same_viewer_at_three_nodes_counts_once(nodes: list[Node]) -> None:
    before = metric(nodes[0], "counter_recent_viewers")
    first = ask(nodes[0], "/video/once")
    assert (first.json["visits"], "counted" in first.json) == (1, False)
    again = ask(nodes[0], "/video/once").json
    assert (again["visits"], again["counted"], again["reason"]) == (1, False, "repeat")
    all_know(nodes, before + 1)
    assert not any(counts(node, "/video/once") for node in nodes)
    hit = ask(nodes[1], "/hit/once")
    assert (hit.status, hit.headers["X-Counted"]) == (204, "no; reason=repeat")
    until(lambda: [visits(node, "once") for node in nodes] == [1, 1, 1], 5, "one visit")
    all_say(nodes, "once", 1)


def test_other_addresses_agents_and_videos_are_other_viewers(nodes: list[Node]) -> None:
    node = nodes[0]
    assert counts(node, "/video/others", "10.0.1.1")
    assert counts(node, "/video/others", "10.0.1.2")
    assert counts(node, "/video/others", "10.0.1.1", "Chrome")
    assert counts(node, "/video/other-video", "10.0.1.1")
    assert counts(node, "/video/others", "2001:db8::1")
    assert not counts(node, "/video/others", "2001:db8::ffff"), "the same network of 64 bits"
    assert counts(node, "/video/others", "2001:db8:0:1::1")
    all_say(nodes, "others", 5)


def test_only_trusted_proxies_say_who_visits(nodes: list[Node]) -> None:
    assert counts(nodes[0], "/video/forged", "10.0.2.1, 192.0.2.7")
    assert not counts(nodes[0], "/video/forged", "10.0.2.99, 192.0.2.7")


def test_of_requests_at_the_same_time_one_counts(node: Node) -> None:
    threads = [
        threading.Thread(target=ask, args=(node, "/video/at-once", "10.0.3.1")) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert visits(node, "at-once") == 1


def test_who_is_not_to_be_known_counts_and_is_no_viewer(nodes: list[Node]) -> None:
    node = nodes[0]
    assert all(counts(node, "/video/unknown?dnt=1", "10.0.4.1") for _ in range(3))
    assert ask(node, "/hit/unknown?from=page&dnt=1", "10.0.4.1").headers["X-Counted"] is None
    until(lambda: visits(node, "unknown") == 4, 5, "four visits")
    assert today(node, "unknown") == 0
    assert counts(node, "/video/unknown?dnt=10", "10.0.4.1"), "that is no mark"
    assert not counts(node, "/video/unknown?dnt=0", "10.0.4.1")


def test_with_a_token_every_visit_counts_and_is_no_viewer(nodes: list[Node]) -> None:
    node, token = nodes[0], f"Bearer {WRITE_TOKEN}"
    assert all(counts(node, "/video/sent", "10.0.5.1", Authorization=token) for _ in range(3))
    assert today(node, "sent") == 0
    assert counts(node, "/video/sent", "10.0.5.1", Authorization="Bearer of-a-site-user")
    assert not counts(node, "/video/sent", "10.0.5.1", Authorization="Bearer of-a-site-user")


def test_an_operator_who_asks_why_changes_nothing(node: Node) -> None:
    path = "/why?video=asked&address=10.0.9.1&agent=Firefox"
    token = f"Bearer {ADMIN_TOKEN}"
    for _ in range(2):
        assert ask(node, path, Authorization=token).json["counted"] is True
    assert counts(node, "/video/asked", "10.0.9.1")
    said = ask(node, path, Authorization=token).json
    assert (said["counted"], said["reason"]) == (False, "repeat")
    assert said["setting"] == "REPEAT_WINDOW=3600"
    said = ask(node, "/why?video=asked&agent=Firefox", Authorization=token).json
    assert said["counted"] is True
    assert said["because"].endswith("(bot, blocked); repeat was not asked: no address given")
    said = ask(node, "/why?address=10.0.9.1&agent=Firefox", Authorization=token).json
    assert said["because"].count("was not asked: no video given") == 2


def test_what_is_a_repeat_is_counted_apart(nodes: list[Node]) -> None:
    assert [counts(nodes[0], "/video/apart", "10.0.10.1") for _ in range(4)] == [True] + 3 * [False]
    until(
        lambda: all(
            fetch(node.url, "/count/apart?detail")["not_counted"] == {"repeat": 3} for node in nodes
        ),
        5,
        "three repeats",
    )


def test_a_batch_is_of_nobody(node: Node) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=15)
    for _ in range(2):
        body, headers = b'[{"video": "batch"}]', {"Content-Type": "application/json"}
        connection.request("POST", "/visits", body, headers)
        assert json.loads(connection.getresponse().read())["visits"] == 1
    connection.close()
    assert today(node, "batch") == 0


def send(node: Node, path: str, *videos: str, who: str, key: str = "", **more: str) -> Any:
    """What a node answers to visits of these videos, one record each."""
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=15)
    headers = {"Content-Type": "application/json", "X-Forwarded-For": who, "User-Agent": "Firefox"}
    headers |= {"Idempotency-Key": key} if key else {}
    body = json.dumps([{"video": video} for video in videos])
    with closing(connection):
        connection.request("POST", path, body, headers | more)
        return json.loads(connection.getresponse().read())


def test_visits_of_ones_own_are_judged_as_single_visits_are(nodes: list[Node]) -> None:
    """The pages of the site send theirs so: with a key, in the form of a batch."""
    node, who, own = nodes[0], "10.0.11.1", "/visits?own&detail"
    before = metric(nodes[1], "counter_recent_viewers")
    repeat = {"counted": False, "reason": "repeat"}
    first = send(node, own, "own", who=who, key="own-1")
    assert first == {"records": 1, "visits": 1, "results": [{"counted": True}]}
    assert send(node, own, "own", who=who, key="own-1") == first | {"repeated": True}
    again = {"records": 1, "visits": 0, "results": [repeat]}
    assert send(node, own, "own", who=who, key="own-2") == again
    assert not counts(node, "/video/own", who)
    until(lambda: metric(nodes[1], "counter_recent_viewers") > before, 5, "the viewer is told")
    assert send(nodes[1], own, "own", who=who, key="own-3") == again
    assert send(nodes[1], own, "own", who=who, key="own-1") == first | {"repeated": True}
    many = send(node, own, "own", "other-own", "other-own", who=who)
    assert many == {"records": 3, "visits": 1, "results": [repeat, {"counted": True}, repeat]}
    until(lambda: {visits(each, "own") for each in nodes} == {1}, 5, "one visit")
    all_say(nodes, "own", 1)
    all_say(nodes, "other-own", 1)
    assert fetch(node.url, "/count/other-own?detail")["not_counted"] == {"repeat": 1}


def test_visits_of_ones_own_are_of_nobody_with_a_token_or_without_consent(node: Node) -> None:
    token = f"Bearer {WRITE_TOKEN}"
    for _ in range(2):
        assert send(node, "/visits?own&dnt=1", "own-dnt", "own-dnt", who="10.0.12.1")["visits"] == 2
        sent = send(node, "/visits?own", "own-dnt", who="10.0.12.1", Authorization=token)
        assert sent["visits"] == 1
    assert today(node, "own-dnt") == 0


def test_visits_of_ones_own_are_of_few_videos(node: Node) -> None:
    many = [f"own-{number}" for number in range(101)]
    refused = send(node, "/visits?own", *many, who="10.0.15.1")
    assert (refused["status"], refused["limit"]) == (422, 100)
    assert send(node, "/visits?own", *many[:100], who="10.0.15.1")["visits"] == 100
    assert send(node, "/visits", *many, who="10.0.15.1")["visits"] == 101


def test_visits_of_ones_own_that_are_refused_start_no_window(node: Node) -> None:
    who = "10.0.13.1"
    assert send(node, "/visits?own", "own-a", who=who, key="own-taken")["visits"] == 1
    refused = send(node, "/visits?own", "own-refused", who=who, key="own-taken")
    assert refused["status"] == 422
    assert counts(node, "/video/own-refused", who)


def test_viewers_are_shown_in_detail_alone(nodes: list[Node]) -> None:
    assert counts(nodes[0], "/video/detail", "10.0.6.1")
    assert "viewers" not in fetch(nodes[0].url, "/count/detail")
    assert "viewers" not in ask(nodes[0], "/video/detail", "10.0.6.2").json
    detail = fetch(nodes[0].url, "/count/detail?detail")
    assert detail["viewers"] == {"today": 2, "error": 0.03}, "at once at the node they came to"
    assert fetch(nodes[1].url, "/count/nobody?detail")["viewers"]["today"] == 0


def test_estimates_are_the_same_at_all_nodes(nodes: list[Node]) -> None:
    for number in range(90):
        assert counts(nodes[number % 3], "/video/exact", f"10.7.{number}.1")
    all_say(nodes, "exact", 90)
    for number in range(600):
        ask(nodes[number % 3], "/hit/many", f"10.8.{number // 250}.{number % 250}")
    until(
        lambda: (
            len({today(node, "many") for node in nodes}) == 1
            and 560 <= today(nodes[0], "many") <= 640
        ),
        10,
        "one estimate",
    )


def test_no_address_agent_or_hash_is_in_store_or_log(nodes: list[Node]) -> None:
    agent = "Unheard-of agent 7.3"
    assert counts(nodes[0], "/video/private", "198.51.100.77", agent)
    all_say(nodes, "private", 1)
    for node in nodes:
        kept = b"".join(path.read_bytes() for path in node.folder.glob("counter.sqlite*"))
        for text in (b"198.51.100.77", agent.encode()):
            assert text not in kept
            assert text not in node.log.read_bytes()
        with sqlite3.connect(node.folder / "counter.sqlite") as store:
            facts = [name for (name,) in store.execute("SELECT name FROM facts")]
        assert [name for name in facts if name.startswith("salt:")] == [], "the secret makes it"


def test_a_killed_node_and_a_late_joiner_hold_all_viewers(tmp_path: Path) -> None:
    with mesh(tmp_path, 2, **BOTH) as nodes, ExitStack() as stack:
        for number in range(40):
            ask(nodes[number % 2], f"/hit/video-{number % 4}", f"10.0.0.{number}")
        for video in range(4):
            all_say(nodes, f"video-{video}", 10)
        nodes[0].kill()
        for number in range(40, 60):
            ask(nodes[1], f"/hit/video-{number % 4}", f"10.0.0.{number}")
        nodes[0].start()
        nodes[0].wait_ready()
        settings = nodes[0].settings | {"PEERS": nodes[1].url}
        late = Node(tmp_path / "late", "late", settings=settings)
        start(stack, [late], killed=True)
        for video in range(4):
            all_say([*nodes, late], f"video-{video}", 15)
        # What a killed node had heard within the last second, it asks its peers for again.
        until(lambda: kept(late) == kept(nodes[1]), 5, "the late one has written all")
        nodes[0].kill()
        nodes[1].kill()
        assert [today(late, f"video-{video}") for video in range(4)] == [15] * 4
        late.kill()
        late.start()
        late.wait_ready()
        assert today(late, "video-0") == 15, "out of its store alone"


def test_a_visit_that_is_refused_starts_no_window(tmp_path: Path) -> None:
    with mesh(tmp_path, 1, VIDEOS="known", REPEAT_WINDOW="3600") as [node]:
        for _ in range(2):
            assert ask(node, "/video/later").status == 404
        connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=15)
        connection.request(
            "POST",
            "/videos",
            b'["later"]',
            {"Content-Type": "application/json", "Authorization": f"Bearer {WRITE_TOKEN}"},
        )
        assert connection.getresponse().status < 300
        connection.close()
        assert counts(node, "/video/later")
        ask(node, "/video/later")
        assert visits(node, "later") == 1


def test_a_node_alone_knows_its_viewers_after_a_restart(tmp_path: Path) -> None:
    with mesh(tmp_path, 1, VIEWERS="on") as [node]:
        assert counts(node, "/video/cats")
        assert counts(node, "/video/cats"), "without a window"
        node.stop()
        node.start()
        node.wait_ready()
        assert counts(node, "/video/cats")
        assert counts(node, "/video/cats", "10.0.0.2")
        assert today(node, "cats") == 2


def test_viewers_are_kept_in_redis_as_well(
    tmp_path: Path, redis_server: Redis, stack: ExitStack
) -> None:
    settings = {"REDIS_URI": redis_server.uri, "VIEWERS": "on", "DRAIN_TIME": "0"}
    node = Node(tmp_path, "viewers-in-redis", settings=settings)
    start(stack, [node], killed=True)
    for number in range(30):
        assert counts(node, "/video/cats", f"10.0.0.{number}")
    node.stop()
    node.start()
    node.wait_ready()
    assert today(node, "cats") == 30


def test_a_store_that_is_emptied_gets_its_sketches_back(
    tmp_path: Path, redis_server: Redis, stack: ExitStack
) -> None:
    settings = BOTH | {"REDIS_URI": redis_server.uri, "DRAIN_TIME": "0"}
    one = Node(tmp_path, "emptied-1", settings=settings)
    other = Node(tmp_path, "emptied-2", settings=settings | {"PEERS": one.url})
    start(stack, [one, other], killed=True)
    for number in range(60):
        ask(one, f"/hit/video-{number % 6}", f"10.0.0.{number}")
    all_say([one, other], "video-5", 10)
    with closing(redis.Redis.from_url(redis_server.uri)) as client:
        until(lambda: client.hlen(of_today(other)) == 6, 5, "all is stored")
        for key in client.scan_iter("counter:emptied-1:*"):
            client.delete(key)
        until(lambda: metric(one, "counter_store_heals_total") == 1, 5, "that was noticed")
        until(lambda: client.hlen(of_today(one)) == 6, 10, "all is stored again")
        ask(one, "/hit/video-5", "10.0.0.99")
        all_say([one, other], "video-5", 11)
        one.kill()
        client.delete(*client.scan_iter("counter:emptied-1:*"))
        one.start()
        one.wait_ready()
        all_say([one, other], "video-5", 11)
        until(
            lambda: identities(client, one) == identities(client, other),
            10,
            "its peer gives all of it back",
        )


def identities(client: "redis.Redis", node: Node) -> dict[Any, Any]:
    return {video: head[:8] for video, head in client.hgetall(of_today(node)).items()}


def of_today(node: Node) -> str:
    """The key of today's sketches of a node in Redis: their heads."""
    return f"counter:{node.name}:sketches:{int(time.time()) // 86_400}:heads"


def test_beside_a_node_of_the_version_before_all_stays_exact(
    tmp_path: Path, stack: ExitStack
) -> None:
    with mesh(tmp_path, 2, **BOTH) as nodes:
        settings = {"CLUSTER_SECRET": SECRET, "PEERS": nodes[0].url, "DRAIN_TIME": "0"}
        before = Node(
            tmp_path / "before", "before", settings=settings, root=unpack(tmp_path / "code")
        )
        start(stack, [before], killed=True)
        everybody = [*nodes, before]
        for number in range(60):
            ask(everybody[number % 3], "/hit/cats", f"10.0.0.{number}")
        assert not counts(nodes[0], "/video/cats", "10.0.0.0")
        until(lambda: [visits(node, "cats") for node in everybody] == [60] * 3, 10, "all agree")
        all_say(nodes, "cats", 40)
        for node in everybody:
            assert not re.search("message.dropped|entry.refused", node.log.read_text())


# -- in the browser


@contextmanager
def opened(browser: Browser, address: str) -> Iterator[Page]:
    """A page in a browser that nobody has used before."""
    context = browser.new_context(user_agent=f"Mozilla/5.0 Firefox/{next(_serial)}")
    page = context.new_page()
    page.goto(address)
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    yield page
    context.close()


def kept_by(page: Page, video: str) -> int:
    """The least number of a video that this browser will show."""
    item = page.evaluate(f"JSON.parse(localStorage.getItem('visits.kept.{video}')).floor")
    return int(item)


def test_a_click_within_the_window_is_taken_off_what_the_page_shows(
    node: Node, browser: Browser
) -> None:
    number = {}
    for name in ("first", "second"):
        with opened(browser, node.url) as page:
            before = visits(node, "life")
            for _ in range(3):
                page.locator('#videos [data-video="life"] a').click()
                expect(page.locator("#waiting")).to_be_hidden()
                page.locator("#back a").click()
            page.locator('#videos [data-video="life"] a').click()
            expect(page.locator("#not-counted")).to_contain_text("repeats, not counted")
            expect(page.locator("#visits")).to_have_text(str(before + 1))
            assert visits(node, "life") == kept_by(page, "life") == before + 1
            number[name] = page.locator("#visits").text_content()
            page.goto(node.url)
            expect(page.locator('[data-video="life"] b')).to_have_text(str(before + 1))
    assert number["first"] != number["second"], "another person counts"
    assert fetch(node.url, "/count/life?detail")["not_counted"] == {"repeat": 6}


def test_a_visit_in_another_tab_is_taken_off_in_all(node: Node, browser: Browser) -> None:
    with opened(browser, f"{node.url}/video/tabs") as page:
        other = page.context.new_page()
        other.goto(f"{node.url}/video/tabs")
        expect(other.locator("#not-counted")).to_have_text("+ 1 repeat, not counted")
        for each in (page, other, page):
            each.locator("#back a").click()
            each.locator("#video-id").fill("tabs")
            each.locator("#video-id").press("Enter")
        for each in (page, other):
            expect(each.locator("#waiting")).to_be_hidden()
            expect(each.locator("#visits")).to_have_text("1")
        assert visits(node, "tabs") == kept_by(page, "tabs") == 1


def block(node: Node, video: str, *, blocked: bool) -> None:
    body = json.dumps({"video": video, "block": blocked, "reason": "law"})
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {ADMIN_TOKEN}"}
    with closing(http.client.HTTPConnection("127.0.0.1", node.port, timeout=15)) as connection:
        connection.request("POST", "/corrections", body, headers)
        assert connection.getresponse().status == 201


def test_a_video_that_was_taken_down_says_so_also_inside_the_site(
    node: Node, browser: Browser
) -> None:
    for video in ("down", "clock"):
        assert counts(node, f"/video/{video}", "10.0.14.1")
        with opened(browser, node.url) as page:
            block(node, video, blocked=True)
            for _ in range(2):
                page.locator("#video-id").fill(video)
                page.locator("#video-id").press("Enter")
                expect(page.locator("#corrected")).to_contain_text("was taken down")
                expect(page.locator("#waiting")).to_be_hidden()
                expect(page.locator("#visits")).to_have_text("1")
                expect(page.locator("#about")).to_have_text("")
                expect(page.locator("#player video")).to_have_count(0)
                page.locator("#back a").click()
            page.locator("#video-id").fill(video)
            page.locator("#video-id").press("Enter")
            expect(page.locator("#corrected")).to_contain_text("was taken down")
            block(node, video, blocked=False)
            expect(page.locator("#corrected")).to_be_hidden()
            expect(page.locator("#about")).not_to_have_text("")
            expect(page.locator("#player video")).to_have_count(int(video == "clock"))
            page.goto(f"{node.url}/video/{video}")
            expect(page.locator("#visits")).to_have_text("2")
