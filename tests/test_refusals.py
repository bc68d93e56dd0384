"""Requests that are refused, behind nginx: however many, they cost nobody else a visit."""

import http.client
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab.clients import Client, counted, fill, until
from lab.servers import Nginx, Node, free_port
from tests.test_http import get
from tests.test_visits import JSON, one

MOST = 2**53 - 1
CROWD = 100
PLACES = 2
"""Live pages of each of these nodes."""


class Crowded(Node):
    """A node with few places for live pages."""

    def command(self) -> list[str]:
        program = f"import counter.config as c; c.LIVE_PAGES = {PLACES}; "
        program += "from gunicorn.app.wsgiapp import run; run()"
        return [sys.executable, "-c", program]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[Node], Node]]:
    """Three crowded nodes with no place left, and nginx in front of them."""
    folder = tmp_path_factory.mktemp("refusals")
    with ExitStack() as stack:
        ports = [free_port() for _ in range(3)]
        nginx = Nginx(folder / "nginx", [f"127.0.0.1:{port}" for port in ports])
        peers = ",".join(f"http://127.0.0.1:{port}" for port in ports)
        nodes: list[Node] = []
        for number, port in enumerate(ports, 1):
            log = str(nginx.visit_log(number))
            settings = {"DRAIN_TIME": "0", "PEERS": peers, "VISIT_LOG": log}
            node: Node = Crowded(folder / f"counter{number}", f"counter{number}", port, settings)
            stack.callback(node.kill)
            node.launch()
            nodes.append(node)
        for node in nodes:
            node.wait_ready()
        stack.enter_context(nginx)
        fill(nodes[0].url, {"full": MOST})
        for node in nodes:
            until(lambda url=node.url: counted(url, ["full"]) == {"full": MOST}, 10, "it is full")  # type: ignore[misc]
            for _ in range(PLACES):
                page = http.client.HTTPConnection("127.0.0.1", node.port, timeout=10)
                stack.callback(page.close)
                page.request("GET", "/live/cats", headers=EVENTS)
                assert page.getresponse().status == 200
        yield nodes, Node(folder, "nginx", nginx.port)


SIDE_BY_SIDE = "different videos side by side"
EVENTS = {"Accept": "text/event-stream"}
Refused = Callable[[Client, int], int]
KINDS: dict[str, tuple[Refused, set[int]]] = {
    "a full video": (lambda client, _: client.get("/video/full")[0], {409}),
    "the page of a full video": (
        lambda client, _: client.ask("GET", "/video/full", {"Accept": "text/html"})[0],
        {409},
    ),
    "a record beyond the limit": (
        lambda client, _: client.ask("POST", "/visits", {"Content-Type": JSON}, one("x", 1001))[0],
        {422},
    ),
    "no record": (
        lambda client, _: client.ask("POST", "/visits", {"Content-Type": JSON}, b"[17]")[0],
        {400},
    ),
    "a wrong token": (
        lambda client, _: client.ask(
            "POST", "/visits", {"Content-Type": JSON, "Authorization": "Bearer no-such-token"}
        )[0],
        {401},
    ),
    SIDE_BY_SIDE: (
        lambda client, number: client.get(f"/cluster/counts?video=v-{number}")[0],
        {200, 429},
    ),
    "no place for a live page": (
        lambda client, _: client.ask("GET", "/live/cats", EVENTS)[0],
        {429},
    ),
    "large headers": (
        lambda client, _: client.ask("GET", "/video/cats", {"X-Large": "x" * 20_000})[0],
        {400, 431},
    ),
    "too many headers before a body": (
        lambda client, _: client.ask(
            "POST", "/visits", {f"X-{number}": "a" for number in range(101)}, bytes(300_000)
        )[0],
        {400, 431},
    ),
    "a method that is none": (lambda client, _: client.ask("BREW", "/video/cats")[0], {405}),
    "no handshake": (
        lambda client, _: client.ask(
            "GET", "/live/cats", {"Upgrade": "websocket", "Connection": "upgrade"}
        )[0],
        {400},
    ),
}


def attack(url: str, kinds: Sequence[str], requests: int) -> list[tuple[str, int]]:
    """Send requests that are refused, of all kinds in turn; return how each was answered."""
    answers: list[tuple[str, int]] = []
    with Client(url) as client:
        for number, kind in zip(range(requests), itertools.cycle(kinds), strict=False):
            answers.append((kind, KINDS[kind][0](client, id(answers) * 10_000 + number)))
    return answers


def behave(url: str, video: str, visits: int) -> Counter[tuple[str, int]]:
    """Visit, read and send beacons; return how often each was answered how."""
    answers: Counter[tuple[str, int]] = Counter()
    with Client(url) as client:
        for number in range(visits):
            answers["visit", client.get(f"/video/{video}")[0]] += 1
            if number % 4 == 0:
                answers["read", client.get(f"/count/{video}")[0]] += 1
                answers["beacon", client.ask("POST", f"/hit/{video}-beacon")[0]] += 1
    return answers


@pytest.mark.parametrize(
    ("refused", "visits"),
    [(200, 400), pytest.param(1_000, 2_000, marks=pytest.mark.proof)],
)
def test_refused_requests_take_no_node_from_the_visits(
    site: tuple[list[Node], Node], refused: int, visits: int
) -> None:
    """For a 503 nginx leaves the node out: 71 of 668 reads failed."""
    nodes, balancer = site
    video = f"honest-{visits}"
    with ThreadPoolExecutor(CROWD + 6) as pool:
        # A node asks for 20 videos side by side at a time, so it takes a crowd to be too many.
        kinds = [list(KINDS)] * 2 + [[SIDE_BY_SIDE]] * CROWD
        shares = [refused // 4] * 2 + [refused // 2 // CROWD] * CROWD
        attacks = [
            pool.submit(attack, balancer.url, *each) for each in zip(kinds, shares, strict=True)
        ]
        honest = [pool.submit(behave, balancer.url, video, visits // 4) for _ in range(4)]
        answers = sum((each.result() for each in honest), Counter[tuple[str, int]]())
        refusals = [answer for each in attacks for answer in each.result()]
    assert answers == {
        ("visit", 200): visits,
        ("read", 200): visits // 4,
        ("beacon", 204): visits // 4,
    }
    assert len(refusals) == refused
    for kind, status in refusals:
        assert status in KINDS[kind][1], (kind, status)
    assert (SIDE_BY_SIDE, 429) in refusals
    expected = {video: visits, f"{video}-beacon": visits // 4}
    for node in nodes:
        until(lambda url=node.url: counted(url, list(expected)) == expected, 10, "all are counted")  # type: ignore[misc]


def test_what_is_too_much_may_come_again_later(site: tuple[list[Node], Node]) -> None:
    nodes, balancer = site
    for node in (nodes[0], balancer):
        with Client(node.url) as client:
            status, _ = client.ask("GET", "/live/cats", EVENTS)
        assert status == 429
    answer = get(nodes[0], "/cluster/counts?video=cats")
    assert answer.status == 200, "only what is too much is refused"


def test_requests_with_a_key_take_no_joining_node_from_the_visits(tmp_path: Path) -> None:
    """A joining node takes visits, but no keys: keyed requests left all nodes out of nginx."""
    with ExitStack() as stack:
        ports = [free_port() for _ in range(2)]
        settings = {"DRAIN_TIME": "0", "PEERS": "http://127.0.0.1:9", "JOIN_TIMEOUT": "600"}
        for number, port in enumerate(ports, 1):
            node = Node(tmp_path / f"counter{number}", f"counter{number}", port, settings)
            stack.enter_context(node)
        nginx = stack.enter_context(
            Nginx(tmp_path / "nginx", [f"127.0.0.1:{port}" for port in ports])
        )

        def keyed(number: int) -> int:
            with Client(nginx.url) as client:
                sent = {"Content-Type": JSON, "Idempotency-Key": f"key-{number}"}
                return client.ask("POST", "/visits", sent, one("cats"))[0]

        def visit(_: int) -> int:
            with Client(nginx.url) as client:
                return client.get("/video/cats")[0]

        with ThreadPoolExecutor(4) as pool:
            attacks, visits = pool.map(keyed, range(100)), pool.map(visit, range(200))
            assert set(attacks) == {503}
            assert Counter(visits) == {200: 200}
