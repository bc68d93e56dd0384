"""A number at its end: what is refused, how that is said, and that nobody else is refused."""

import json
from collections import Counter
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from websockets.sync.client import connect

from lab.clients import counted, fetch, fill, until
from lab.servers import Nginx, Node, free_port
from tests.test_http import ask, browse, get, samples, visits
from tests.test_visit_log import line
from tests.test_visits import one, post

MOST = 2**53 - 1


pytestmark = pytest.mark.nodes(DEV_MODE="1")


@pytest.fixture(scope="module")
def node(node: Node) -> Node:
    """A node where the video `full` has as many visits as a number holds."""
    fill(node.url, {"full": MOST})
    return node


def refusals(node: Node) -> float:
    return samples(node).get("counter_visits_refused_total{status=409}", 0)


@pytest.mark.parametrize("path", ["/video/full", "/hit/full"])
def test_a_visit_of_a_full_video_is_a_409_that_names_video_value_and_limit(
    node: Node, path: str
) -> None:
    before = refusals(node)
    answer = get(node, path)
    assert answer.status == 409, answer
    assert "retry-after" not in answer.headers
    problem = answer.problem()
    assert (problem["video"], problem["visits"], problem["limit"]) == ("full", MOST, MOST)
    assert "'full'" in problem["detail"]
    assert str(MOST) in problem["detail"]
    assert visits(node, "full") == MOST
    assert refusals(node) == before + 1


def test_a_browser_gets_the_page_of_a_full_video_all_the_same(node: Node) -> None:
    answer = browse(node, "/video/full")
    assert answer.status == 409
    assert answer.headers["content-type"].startswith("text/html")
    assert f'<span id="visits" data-visits="{MOST}">' in answer.body.decode()


def test_what_a_member_has_counted_is_told_as_a_page_can_read_it(node: Node) -> None:
    """All of its videos together may be more than one of them can have."""
    assert get(node, "/video/one-more").status == 200
    [member] = fetch(node.url, "/cluster")["members"]
    assert member["visits"] == MOST


@pytest.mark.parametrize("key", [None, "full"])
def test_many_visits_with_a_full_video_among_them_are_a_409(node: Node, key: str | None) -> None:
    body = b'[{"video":"other"},{"video":"full","count":2}]'
    answer = post(node, body, key)
    assert answer.status == 409
    problem = answer.problem()
    assert (problem["video"], problem["visits"], problem["limit"]) == ("full", MOST, MOST)
    assert visits(node, "other") == 0
    assert post(node, one(f"free-{key}"), key).status == 200, "the key was not taken"


def test_a_burst_of_a_full_video_is_a_409(node: Node) -> None:
    assert ask(node, "POST", "/dev/burst?video=full&visits=2").status == 409


def test_one_full_video_takes_no_node_from_the_others_behind_nginx(
    tmp_path: Path, stack: ExitStack
) -> None:
    ports = [free_port() for _ in range(2)]
    settings = {"DRAIN_TIME": "0", "PEERS": ",".join(f"http://127.0.0.1:{port}" for port in ports)}
    nodes = [
        stack.enter_context(Node(tmp_path / f"counter{number}", f"counter{number}", port, settings))
        for number, port in enumerate(ports, 1)
    ]
    for each in nodes:
        each.wait_ready()
    addresses = [f"127.0.0.1:{port}" for port in ports]
    nginx = stack.enter_context(Nginx(tmp_path / "nginx", addresses))
    balancer = Node(tmp_path, "nginx", nginx.port)
    fill(nodes[0].url, {"full": MOST})
    until(lambda: visits(nodes[1], "full") == MOST, 10, "both know that it is full")
    statuses: Counter[int] = Counter()
    for number in range(50):
        for refused in (
            get(balancer, "/video/full"),
            post(balancer, one("full")),
            post(balancer, one("beyond", 1001)),
        ):
            assert refused.status in (409, 422), refused
        statuses[get(balancer, f"/video/other-{number}").status] += 1
    assert statuses == {200: 50}


def _is_full_everywhere(node: Node) -> bool:
    side_by_side = fetch(node.url, "/cluster/counts?video=cats")["nodes"]
    return [each["visits"] for each in side_by_side] == [MOST, MOST]


def test_a_sum_beyond_the_limit_is_the_same_number_everywhere(
    tmp_path: Path, stack: ExitStack, browser: Browser
) -> None:
    """Two nodes that do not hear each other count more together than a number holds."""
    ports = [free_port() for _ in range(2)]
    settings = {"DRAIN_TIME": "0", "DEV_MODE": "1", "SYNC_INTERVAL": "0.3"}
    settings["PEERS"] = ",".join(f"http://127.0.0.1:{port}" for port in ports)
    nodes = [
        stack.enter_context(Node(tmp_path / f"counter{number}", f"counter{number}", port, settings))
        for number, port in enumerate(ports, 1)
    ]
    for node in nodes:
        node.wait_ready()
    for node, count in zip(nodes, (MOST - 5, 1000), strict=True):
        assert ask(node, "POST", "/dev/cut").status == 204
        fill(node.url, {"cats": count})
        assert visits(node, "cats") == count
    for node in nodes:
        assert ask(node, "POST", "/dev/heal").status == 204
    for node in nodes:
        until(lambda node=node: visits(node, "cats") == MOST, 10, "the sum is at its end")  # type: ignore[misc]
        shown = get(node, "/count/cats").json()
        assert sorted(shown["counts"].values()) == [1000, MOST - 5], "counts as they are"
        assert get(node, "/counts?video=cats").json()["counters"][0]["visits"] == MOST
        assert get(node, "/top").json()["counters"][0]["visits"] == MOST
        assert f"visits: {MOST}".encode() in get(node, "/badge/cats.svg").body
        assert get(node, "/cluster/count?video=cats").json()["visits"] == MOST
        # Nodes share what they found for half a second.
        until(partial(_is_full_everywhere, node), 5, "the same side by side")
        with connect(f"ws://127.0.0.1:{node.port}/live/cats", close_timeout=0) as socket:
            assert json.loads(socket.recv(timeout=5))["visits"] == MOST
        assert get(node, "/video/cats").status == 409
    page = stack.enter_context(browser.new_context()).new_page()
    page.goto(f"{nodes[0].url}/")
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    card = page.locator('#videos [data-video="cats"] b')
    expect(card).to_have_attribute("data-visits", str(MOST))
    page.goto(f"{nodes[0].url}/video/cats")
    expect(page.locator("#visits")).to_have_attribute("data-visits", str(MOST))


def test_a_visit_that_would_bring_the_sum_beyond_the_limit_is_refused(
    tmp_path: Path, stack: ExitStack
) -> None:
    """Though no entry of the counter is anywhere near it."""
    ports = [free_port() for _ in range(2)]
    settings = {"DRAIN_TIME": "0", "PEERS": ",".join(f"http://127.0.0.1:{port}" for port in ports)}
    nodes = [
        stack.enter_context(Node(tmp_path / f"counter{number}", f"counter{number}", port, settings))
        for number, port in enumerate(ports, 1)
    ]
    for node in nodes:
        node.wait_ready()
    half = MOST // 2
    for node, count in zip(nodes, (half, half - 1), strict=True):
        fill(node.url, {"cats": count})
        until(lambda: len({visits(node, "cats") for node in nodes}) == 1, 10, "they agree")
    assert visits(nodes[0], "cats") == MOST - 2
    refused = post(nodes[0], one("cats", 3))
    assert refused.status == 409
    assert refused.problem()["visits"] == MOST - 2
    assert get(nodes[1], "/video/cats").json()["visits"] == MOST - 1
    until(lambda: visits(nodes[0], "cats") == MOST - 1, 10, "the other has heard")
    assert get(nodes[0], "/hit/cats").status == 204
    assert get(nodes[0], "/video/cats").status == 409
    assert visits(nodes[0], "cats") == MOST


def test_the_follower_refuses_only_the_lines_of_a_full_video(tmp_path: Path) -> None:
    """2,700 lines of other videos were counted as 0, because of one line in the same piece."""
    log = tmp_path / "visits.log"
    settings = {"DRAIN_TIME": "0", "VISIT_LOG": str(log)}
    with Node(tmp_path / "node", "counter1", settings=settings) as node:
        node.wait_ready()
        fill(node.url, {"full": MOST - 2, "fuller": MOST})
        videos = [("full", "fuller", "cats", "dogs", "birds")[n % 5] for n in range(4500)]
        log.write_text("".join(line(video, number) for number, video in enumerate(videos)))
        others = {"cats": 900, "dogs": 900, "birds": 900}
        until(lambda: counted(node.url, list(others)) == others, 10, "the others are counted")
        until(lambda: visits(node, "full") == MOST, 10, "what fits is counted")
        assert visits(node, "fuller") == MOST
        reading = fetch(node.url, "/cluster")["log"]
        assert (reading["lines"], reading["junk"], reading["refused"]) == (2702, 0, 1798)
        seen = samples(node)
        assert seen["counter_log_lines_total"] == 2702
        assert seen["counter_log_junk_lines_total"] == 0
        assert seen["counter_log_refused_lines_total"] == 1798
        assert "log.full" in node.log.read_text()
        node.kill()
        node.start()
        node.wait_ready()
        until(lambda: fetch(node.url, "/cluster")["log"]["unread"] == 0, 10, "it goes on behind")
        assert visits(node, "cats") == 900
