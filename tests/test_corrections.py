"""Corrections and blocks over HTTP: what an operator takes back is on record, at every node."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from playwright.sync_api import Browser, expect

from counter.cli.cluster import cluster
from lab.clients import fetch, until
from lab.cluster import start
from lab.previous import unpack
from lab.servers import WRITE_TOKEN, Node, Redis, free_port
from tests.test_console import opened
from tests.test_http import Answer, ask, browse, get, visits
from tests.test_visit_log import line

TOKEN = "only-for-tests"
pytestmark = pytest.mark.nodes(
    2, DEV_MODE="1", ADMIN_TOKEN=f"ops:{TOKEN}", PUBLISH_INTERVAL="0.05", SYNC_INTERVAL="0.3"
)


def post(node: Node, content: object, key: str = "", token: str = TOKEN) -> Answer:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    headers |= {"Idempotency-Key": key} if key else {}
    return ask(node, "POST", "/corrections", headers, json.dumps(content).encode())


def correct(node: Node, video: str, **what: Any) -> dict[str, Any]:
    answer = post(node, {"video": video, **what})
    assert answer.status == 201, answer
    made: dict[str, Any] = answer.json()
    return made


def count(node: Node, video: str, number: int) -> None:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {WRITE_TOKEN}"}
    body = json.dumps([{"video": video, "count": number}]).encode()
    assert ask(node, "POST", "/visits", headers, body).status == 200


def shown(node: Node, video: str) -> dict[str, Any]:
    counter: dict[str, Any] = get(node, f"/count/{video}").json()
    return counter


def agree(nodes: list[Node], video: str, number: int) -> None:
    until(
        lambda: [visits(node, video) for node in nodes] == [number] * len(nodes),
        10,
        f"{video} is {number}",
    )


def listed(node: Node, video: str = "") -> list[dict[str, Any]]:
    query = f"?video={video}" if video else ""
    answer = ask(node, "GET", f"/corrections{query}", {"Authorization": f"Bearer {TOKEN}"})
    assert answer.status == 200, answer
    found: list[dict[str, Any]] = answer.json()["corrections"]
    return found


def test_what_is_withdrawn_is_on_record_and_missing_from_the_number_at_every_node(
    nodes: list[Node],
) -> None:
    one, other = nodes
    count(one, "farmed", 200)
    count(other, "farmed", 100)
    agree(nodes, "farmed", 300)
    record = correct(one, "farmed", withdraw=120, reason="click farm")
    assert record["act"] == "withdraw"
    assert (record["video"], record["by"], record["reason"]) == ("farmed", "ops", "click farm")
    assert record["withdraw"] == 120
    assert sorted(record["takes"].values()) == [[40, 100], [80, 200]]
    assert len(record["id"]) == 32
    assert visits(one, "farmed") == 180
    agree(nodes, "farmed", 180)
    for node in nodes:
        counter = shown(node, "farmed")
        assert counter["withdrawn"] == 120
        assert sum(counter["counts"].values()) == 300
        assert listed(node, "farmed") == [record]
        assert get(node, "/counts?video=farmed").json()["counters"][0]["withdrawn"] == 120
        assert b">180<" in get(node, "/badge/farmed.svg").body
        assert get(node, "/cluster/count?video=farmed").json()["visits"] == 180
        assert b"counter_records " in get(node, "/metrics").body
    get(one, "/video/farmed")
    agree(nodes, "farmed", 181)
    assert "withdrawn" not in shown(one, "not-corrected")


def test_a_correction_needs_the_token_of_an_operator(node: Node) -> None:
    content = json.dumps({"video": "mine", "block": True}).encode()
    kind = {"Content-Type": "application/json"}
    assert ask(node, "POST", "/corrections", kind, content).status == 401
    for token in (WRITE_TOKEN, "wrong"):
        assert post(node, {"video": "mine", "block": True}, token=token).status == 401
    assert get(node, "/corrections").status == 401
    assert get(node, "/video/mine").status == 200


WRONG: dict[str, tuple[Any, str]] = {
    "no object": ([], "object"),
    "no video": ({"withdraw": 1, "reason": ""}, "video is missing"),
    "a bad video": ({"video": "a b", "withdraw": 1}, 'video="a b"'),
    "a step for a video": ({"video": "..", "withdraw": 1}, 'video=".."'),
    "a long video": ({"video": "v" * 200, "withdraw": 1}, 'video="vvv'),
    "a video that is none": ({"video": 5, "withdraw": 1}, "video=5"),
    "nothing to do": ({"video": "cats", "reason": "why"}, "either withdraw or block"),
    "both": ({"video": "cats", "withdraw": 1, "block": True}, "either withdraw or block"),
    "nothing to withdraw": ({"video": "cats", "withdraw": 0}, "withdraw=0"),
    "less than nothing": ({"video": "cats", "withdraw": -5}, "withdraw=-5"),
    "half a visit": ({"video": "cats", "withdraw": 1.5}, "withdraw=1.5"),
    "true visits": ({"video": "cats", "withdraw": True}, "withdraw=true"),
    "some": ({"video": "cats", "withdraw": "some"}, 'withdraw="some"'),
    "a large number": ({"video": "cats", "withdraw": 2**53}, "withdraw=9007199254740992"),
    "block perhaps": ({"video": "cats", "block": "yes"}, 'block="yes"'),
    "a reason that is none": ({"video": "cats", "block": True, "reason": 5}, "reason=5"),
    "a long reason": ({"video": "cats", "block": True, "reason": "x" * 501}, 'reason="xxx'),
    "a reason of two lines": ({"video": "cats", "block": True, "reason": "a\nb"}, 'reason="a'),
    "another field": ({"video": "cats", "withdraw": 1, "by": "me"}, "'by'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_correction_that_is_wrong_changes_nothing_and_says_what_is_wrong(
    node: Node, name: str
) -> None:
    content, named = WRONG[name]
    before = listed(node)
    answer = post(node, content)
    assert answer.status == 400
    problem = answer.problem()
    assert named in problem["detail"]
    if "=" in named:
        assert problem["field"] == named.partition("=")[0]
    assert listed(node) == before


def test_more_than_there_is_cannot_be_withdrawn(node: Node) -> None:
    count(node, "few", 5)
    answer = post(node, {"video": "few", "withdraw": 6, "reason": "x"})
    assert answer.status == 409
    problem = answer.problem()
    assert (problem["visits"], problem["withdraw"]) == (5, 6)
    assert "5" in problem["detail"]
    assert "6" in problem["detail"]
    assert visits(node, "few") == 5
    assert correct(node, "few", withdraw=3, reason="x")["withdraw"] == 3
    assert post(node, {"video": "few", "withdraw": 3, "reason": "x"}).problem()["visits"] == 2


def test_a_repeated_key_finds_the_same_record_at_any_node(nodes: list[Node]) -> None:
    one, other = nodes
    count(one, "keyed", 50)
    agree(nodes, "keyed", 50)
    asked = {"video": "keyed", "withdraw": 10, "reason": "once"}
    first = post(one, asked, key="key-1")
    assert first.status == 201
    again = post(one, asked, key="key-1")
    assert (again.status, again.json()) == (200, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    agree(nodes, "keyed", 40)
    elsewhere = post(other, asked, key="key-1")
    assert (elsewhere.status, elsewhere.json()) == (200, first.json())
    taken = post(one, asked | {"withdraw": 11}, key="key-1")
    assert taken.status == 422
    assert "key-1" in taken.problem()["detail"]
    assert visits(one, "keyed") == 40
    assert post(one, asked, key="two words").status == 400


def test_all_withdrawn_on_both_sides_of_a_split_never_eats_later_visits(
    nodes: list[Node],
) -> None:
    one, other = nodes
    count(one, "both-sides", 70)
    count(other, "both-sides", 30)
    agree(nodes, "both-sides", 100)
    for node in nodes:
        assert ask(node, "POST", "/dev/cut").status == 204
    count(one, "both-sides", 5)
    assert correct(one, "both-sides", withdraw="all", reason="reset")["withdraw"] == 105
    assert correct(other, "both-sides", withdraw="all", reason="reset")["withdraw"] == 100
    assert [visits(node, "both-sides") for node in nodes] == [0, 0]
    count(one, "both-sides", 600)
    count(other, "both-sides", 400)
    for node in nodes:
        assert ask(node, "POST", "/dev/heal").status == 204
    agree(nodes, "both-sides", 1000)
    held = {2}
    until(lambda: {len(listed(n, "both-sides")) for n in nodes} == held, 10, "both have both")


def test_a_blocked_video_takes_no_visits_and_is_in_no_list(nodes: list[Node]) -> None:
    one, other = nodes
    count(one, "taken-down", 5000)
    agree(nodes, "taken-down", 5000)
    assert b"/video/taken-down" in browse(other, "/").body
    assert correct(one, "taken-down", block=True, reason="court order")["act"] == "block"
    until(lambda: get(other, "/video/taken-down").status == 410, 10, "it is blocked")
    for node in nodes:
        for answer in (get(node, "/video/taken-down"), get(node, "/hit/taken-down")):
            problem = answer.problem()
            assert problem["status"] == 410
            assert (problem["title"], problem["counted"]) == ("Blocked", False)
            assert problem["reason"] == "blocked"
        page = browse(node, "/video/taken-down")
        assert page.status == 410
        assert page.headers["content-type"].startswith("text/html")
        assert b"taken down" in page.body
        top = get(node, "/top?limit=1000").json()["counters"]
        assert "taken-down" not in [counter["video"] for counter in top]
        assert b"/video/taken-down" not in browse(node, "/").body
        assert visits(node, "taken-down") == 5000
        assert shown(node, "taken-down")["blocked"] is True
    assert correct(other, "taken-down", block=False, reason="appeal")["act"] == "unblock"
    until(lambda: get(one, "/hit/taken-down").status == 204, 10, "it is not blocked")
    agree(nodes, "taken-down", 5001)
    top = get(one, "/top?limit=1").json()["counters"]
    assert [counter["video"] for counter in top] == ["taken-down"]
    acts = [record["act"] for record in listed(one, "taken-down")]
    assert acts == ["unblock", "block"]


def test_rankings_are_filled_again_after_the_top_was_corrected(node: Node) -> None:
    for number in range(30):
        count(node, f"rank-{number:02}", 100_000 - number)

    def top() -> list[str]:
        counters = get(node, "/top?limit=10").json()["counters"]
        numbers = [counter["visits"] for counter in counters]
        assert numbers == sorted(numbers, reverse=True)
        return [counter["video"] for counter in counters]

    assert top() == [f"rank-{number:02}" for number in range(10)]
    for number in range(10):
        correct(node, f"rank-{number:02}", withdraw=99_000, reason="bought")
        assert top() == [f"rank-{n:02}" for n in range(number + 1, number + 11)]
    for number in range(10, 20):
        correct(node, f"rank-{number:02}", block=True, reason="bought")
    assert top() == [f"rank-{number:02}" for number in range(20, 30)]


@pytest.fixture(scope="module")
def joining(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that waits for a peer which never comes."""
    nobody = {"PEERS": f"http://127.0.0.1:{free_port()}", "JOIN_TIMEOUT": "600"}
    settings = {**nobody, "ADMIN_TOKEN": TOKEN}
    node = Node(tmp_path_factory.mktemp("joining"), "counter1", settings=settings).start()
    yield node
    node.kill()


def test_a_joining_node_takes_no_correction(joining: Node) -> None:
    answer = post(joining, {"video": "cats", "withdraw": "all", "reason": "x"})
    assert answer.status == 503
    assert answer.headers["retry-after"]
    assert "joining" in answer.problem()["detail"]


def test_an_operator_corrects_from_the_command_line(node: Node) -> None:
    def run(*words: str, token: str = TOKEN) -> tuple[int, str]:
        done = CliRunner().invoke(cluster, [*words, "--url", node.url], env={"ADMIN_TOKEN": token})
        return done.exit_code, done.output

    count(node, "by-command", 9)
    code, told = run("withdraw", "by-command", "4", "--reason", "test")
    assert (code, "4 visits of by-command are withdrawn" in told) == (0, True)
    assert visits(node, "by-command") == 5
    assert run("withdraw", "by-command", "all")[0] == 0
    assert visits(node, "by-command") == 0
    code, told = run("withdraw", "by-command", "1")
    assert code == 1
    assert "refuses" in told
    assert run("withdraw", "by-command", "x")[0] == 1
    assert run("block", "by-command", "--reason", "law")[0] == 0
    assert get(node, "/hit/by-command").status == 410
    assert run("unblock", "by-command")[0] == 0
    assert get(node, "/hit/by-command").status == 204
    code, told = run("corrections", "by-command")
    assert code == 0
    assert [line.split()[2] for line in told.splitlines()] == [
        "unblock", "block", "withdraw", "withdraw",
    ]  # fmt: skip
    code, told = run("corrections", "--json")
    assert len(json.loads(told)) >= 4
    assert run("block", "by-command", token="wrong-one")[0] == 1
    assert run("block", "by-command", token="")[0] == 1


def test_a_command_that_is_sent_again_says_when_it_was_done_and_how_it_stands(node: Node) -> None:
    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(cluster, [*words, "--url", node.url], env={"ADMIN_TOKEN": TOKEN})
        return done.exit_code, done.output

    assert run("block", "twice", "--key", "bk")[1].startswith("twice is blocked: ")
    code, told = run("block", "twice", "--key", "bk")
    assert code == 0
    assert re.match(r"this key did that before, at 20\d\d-\d\d-\d\d \S+ UTC \(block: ", told)
    assert told.endswith("now twice is blocked\n")
    assert run("unblock", "twice", "--key", "uk")[1].startswith("twice is not blocked: ")
    assert run("block", "twice", "--key", "bk")[1].endswith("now twice is not blocked\n")
    count(node, "twice", 5)
    assert run("withdraw", "twice", "2")[0] == 0
    assert run("block", "twice")[0] == 0
    assert run("withdraw", "twice", "1")[0] == 0
    assert run("unblock", "twice", "--key", "uk")[1].endswith("now twice is blocked\n")


@pytest.mark.parametrize("number", ["9" * 5000, "0", "-1", "1.5", "x" * 5000, str(2**53), "\u0663"])
def test_a_number_that_is_none_is_refused_in_one_sentence(number: str) -> None:
    words = ["withdraw", "--url", "http://127.0.0.1:1", "--token", TOKEN, "--", "cats", number]
    done = CliRunner().invoke(cluster, words)
    assert done.exit_code == 1, done.output
    assert f"{number[:40]!r}" in done.output
    assert f"give a whole number from 1 to {2**53 - 1}, or all" in done.output
    assert len(done.output) < 200


def test_the_list_of_all_corrections_comes_in_pages(node: Node) -> None:
    for number in range(5):
        correct(node, "paged", block=number % 2 == 0, reason=str(number))
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    found: list[str] = []
    path = "/corrections?video=paged&limit=2"
    while True:
        answer = ask(node, "GET", path, bearer).json()
        found += [record["reason"] for record in answer["corrections"]]
        if "next" not in answer:
            break
        path = f"/corrections?video=paged&limit=2&after={answer['next']}"
    assert found == ["4", "3", "2", "1", "0"]
    for query in ("limit=0", "limit=x", "after=nothing", "video=a&video=b", "video=a%20b"):
        assert ask(node, "GET", f"/corrections?{query}", bearer).status == 400


def test_records_survive_that_all_nodes_are_killed_and_reach_a_late_joiner(tmp_path: Path) -> None:
    settings = {"ADMIN_TOKEN": TOKEN, "DRAIN_TIME": "0", "JOIN_TIMEOUT": "2"}
    ports = [free_port() for _ in range(3)]
    settings["PEERS"] = ",".join(f"http://127.0.0.1:{port}" for port in ports)
    nodes = [Node(tmp_path / str(n), f"n{n}", port, settings) for n, port in enumerate(ports)]
    try:
        for node in nodes[:2]:
            node.start()
        for node in nodes[:2]:
            node.wait_ready()
        count(nodes[0], "kept", 100)
        agree(nodes[:2], "kept", 100)
        record = correct(nodes[0], "kept", withdraw=30, reason="kept")
        blocked = correct(nodes[1], "gone", block=True, reason="kept")
        for node in nodes[:2]:
            node.kill()
        for node in nodes:
            node.start()
        for node in nodes:
            node.wait_ready()
        agree(nodes, "kept", 70)
        for node in nodes:
            assert listed(node, "kept") == [record]
            assert listed(node, "gone") == [blocked]
            assert get(node, "/video/gone").status == 410
    finally:
        for node in nodes:
            node.kill()


def test_visits_that_wait_for_the_store_are_judged_by_what_is_in_it(
    tmp_path: Path, redis_server: Redis, stack: ExitStack
) -> None:
    """The lease of a killed node must run out first; it listens meanwhile."""
    settings = {"REDIS_URI": redis_server.uri, "ADMIN_TOKEN": TOKEN, "DRAIN_TIME": "0"}
    node = Node(tmp_path, "waits-for-lease", settings=settings)
    start(stack, [node], killed=True)
    correct(node, "waited", block=True, reason="law")
    node.kill()
    node.start()
    assert not node.ready()
    body = json.dumps([{"video": "waited"}, {"video": "other"}]).encode()
    kind = {"Content-Type": "application/json"}
    with ThreadPoolExecutor(3) as pool:
        visit, hit = (pool.submit(get, node, f"/{way}/waited") for way in ("video", "hit"))
        batch = pool.submit(ask, node, "POST", "/visits?detail", kind, body)
    assert [visit.result().status, hit.result().status] == [410, 410]
    results = [{"counted": False, "reason": "blocked"}, {"counted": True}]
    assert batch.result().json()["results"] == results
    detail = get(node, "/count/waited?detail").json()
    assert (detail["visits"], detail["not_counted"]) == (0, {"blocked": 3})


def test_a_beacon_of_a_blocked_video_that_nginx_has_answered_is_not_counted(
    tmp_path: Path,
) -> None:
    log = tmp_path / "visits.log"
    log.write_text("")
    settings = {"ADMIN_TOKEN": TOKEN, "VISIT_LOG": str(log), "DRAIN_TIME": "0"}
    with Node(tmp_path / "node", "counter1", settings=settings) as node:
        node.wait_ready()
        correct(node, "beacon", block=True, reason="law")
        with log.open("a") as file:
            file.write("".join(line("beacon", n) for n in range(3)) + line("other", 3))
        until(lambda: visits(node, "other") == 1, 10, "the log is read")
        assert visits(node, "beacon") == 0
        metrics = get(node, "/metrics").body
        assert b'counter_visits_not_counted_total{reason="blocked"} 3.0' in metrics
        apart = get(node, "/count/beacon?detail").json()["not_counted"]
        assert apart == {"blocked": 3}, "they are counted apart, as the classes are"
        correct(node, "beacon", block=False, reason="appeal")
        with log.open("a") as file:
            file.write(line("beacon", 4))
        until(lambda: visits(node, "beacon") == 1, 10, "it counts again")
        node.kill()


def test_a_node_of_the_version_before_is_told_nothing_that_it_calls_junk(tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    peers = ",".join(f"http://127.0.0.1:{port}" for port in ports)
    settings = {"ADMIN_TOKEN": TOKEN, "DRAIN_TIME": "0", "PEERS": peers}
    new = Node(tmp_path / "new", "new", ports[0], settings)
    old = Node(tmp_path / "old", "old", ports[1], settings, root=unpack(tmp_path / "version"))
    try:
        for node in (new, old):
            node.start()
        for node in (new, old):
            node.wait_ready()
        count(old, "mixed", 60)
        count(new, "mixed", 40)
        agree([new, old], "mixed", 100)
        record = correct(new, "mixed", withdraw=50, reason="farm")
        correct(new, "blocked", block=True, reason="law")
        assert visits(new, "mixed") == 50
        count(old, "mixed", 10)
        agree([new], "mixed", 60)
        agree([old], "mixed", 110)
        metrics = get(old, "/metrics").body.decode()
        assert "messages_dropped_total{" not in metrics
        assert "counter_entries_refused_total 0.0" in metrics
        old.stop()
        old.root = new.root
        old.start()
        old.wait_ready()
        agree([new, old], "mixed", 60)
        assert listed(old, "mixed") == [record]
        assert get(old, "/video/blocked").status == 410
    finally:
        for node in (new, old):
            node.kill()


# -- in the browser


def test_a_page_shows_a_correction_at_once_and_says_why(
    nodes: list[Node], browser: Browser
) -> None:
    one, other = nodes
    count(one, "on-page", 300)
    agree(nodes, "on-page", 300)
    with opened(browser, f"{other.url}/video/on-page") as page:
        number = page.locator("#visits")
        expect(number).to_have_text("301")
        expect(page.locator("#corrected")).to_be_hidden()
        page.evaluate(
            """() => {
                const number = document.getElementById("visits");
                window.shown = [];
                const note = () => window.shown.push(number.textContent);
                const changes = {childList: true, characterData: true, subtree: true};
                new MutationObserver(note).observe(number, changes);
            }"""
        )
        expect(page.locator("#connection")).to_have_attribute("data-state", "live")
        correct(one, "on-page", withdraw=120, reason="click farm")
        expect(number).to_have_text("181")
        expect(page.locator("#corrected")).to_have_text("120 withdrawn: click farm")
        assert set(page.evaluate("() => window.shown")) == {"181"}
        page.goto(f"{one.url}/video/on-page")
        expect(number).to_have_text("182")
        expect(page.locator("#corrected")).to_have_text("120 withdrawn: click farm")
        # This browser keeps counts; it must not bring back what was withdrawn.
        page.goto(f"{one.url}/")
        expect(page.locator('[data-video="on-page"] b')).to_have_text("182")
        page.goto(f"{other.url}/video/on-page")
        expect(number).to_have_text("183")
        correct(one, "on-page", block=True, reason="law")
        expect(page.locator("#corrected")).to_contain_text("taken down")
        correct(other, "on-page", block=False, reason="appeal")
        expect(page.locator("#corrected")).to_have_text("120 withdrawn: click farm")
        expect(number).to_have_text("183")


def test_a_page_says_the_newest_reasons_and_its_counts_add_up(
    nodes: list[Node], browser: Browser
) -> None:
    one, other = nodes
    count(one, "why-page", 300)
    count(other, "why-page", 99)
    agree(nodes, "why-page", 399)
    assert "withdrawn_for" not in fetch(one.url, "/count/why-page?detail")
    with opened(browser, f"{other.url}/video/why-page") as page:
        line, number = page.locator("#corrected"), page.locator("#visits")
        page.locator("#by-node-toggle").click()
        expect(page.locator("#sum")).to_have_text("400")
        expect(page.locator("#withdrawn")).to_be_hidden()
        for times, (reason, why) in enumerate(
            [
                ("farm", "farm"),
                ("<b>old</b>", "<b>old</b>; farm"),
                ("again", "again; <b>old</b>; farm"),
                ("farm", "farm; again; <b>old</b>"),
                ("", "farm; again; <b>old</b>"),
                ("last", "last; farm; again"),
            ],
            1,
        ):
            correct(one, "why-page", withdraw=10, reason=reason)
            expect(line).to_have_text(f"{10 * times} withdrawn: {why}")
            expect(page.locator("#withdrawn")).to_have_text(f"\u2212{10 * times}")
            for place in (page.locator("#sum"), number):
                expect(place).to_have_text(str(400 - 10 * times))
        told = "last; farm; again"
        assert fetch(other.url, "/count/why-page?detail")["withdrawn_for"] == told
        assert "withdrawn_for" not in fetch(other.url, "/count/why-page")
        expect(line.locator("b")).to_have_count(0)
        rendered = browse(other, "/video/why-page").body.decode()
        assert f'class="note">60 withdrawn: {told}' in rendered
        # A page that comes to it inside the site asks as well.
        page.locator("#back a").click()
        page.locator('[data-video="why-page"] a').click()
        expect(line).to_have_text(f"60 withdrawn: {told}")


def test_the_console_shows_the_ledger_as_a_table(nodes: list[Node], browser: Browser) -> None:
    one, other = nodes
    count(one, "in-console", 10)
    correct(one, "in-console", withdraw=4, reason="<b>bots</b>")
    until(lambda: listed(other, "in-console"), 10, "the record is there")
    with opened(browser, f"{other.url}/cluster") as page:
        row = page.locator("#corrections tbody tr").first
        expect(row.locator(".of")).to_have_text("in-console")
        expect(row.locator(".act")).to_have_text("withdraw")
        expect(row.locator(".withdrawn")).to_have_text("4")
        expect(row.locator(".why")).to_have_text("<b>bots</b>")
        expect(row.locator(".by")).to_have_text("ops")
        before = row.locator(".when").text_content()
        assert before
        correct(one, "in-console", block=True)
        expect(row.locator(".act")).to_have_text("block", timeout=10_000)
        expect(row.locator(".when")).to_have_text(re.compile(r"^20[0-9-]{8} [0-9:]{8}$"))
    assert get(other, "/cluster").json()["ledger"]["records"] >= 2
