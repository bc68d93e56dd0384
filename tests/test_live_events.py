"""Live numbers as Server-Sent Events, from real nodes."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from app import create_app
from counter.config import Config
from counter.node.live import PACE, Live
from counter.web.live import PING_INTERVAL, Signal, events
from lab.clients import Books, Client, Traffic, fetch, until
from lab.servers import Node, free_port
from tests.test_live import counter, live_pages, open_page, visit

ACCEPT = {"Accept": "text/event-stream"}


class Stream:
    """A page that reads events."""

    def __init__(self, path: str, connection: HTTPConnection) -> None:
        connection.request("GET", path, headers=ACCEPT)
        self.answer: HTTPResponse = connection.getresponse()
        assert self.answer.status == 200, self.answer.read()
        assert self.line() == ":\n", "it is said at once that the page is connected"

    def line(self) -> str:
        """The next line that is not empty; nothing at the end."""
        while (line := self.answer.readline().decode()) == "\n":
            continue
        return line

    def counter(self) -> dict[str, Any]:
        """The next counter."""
        while (line := self.line()) == ":\n":
            continue
        assert line.startswith("data: "), line
        return dict(json.loads(line.removeprefix("data: ")))


@contextmanager
def open_stream(node: Node, path: str, seconds: float = 5) -> Iterator[Stream]:
    with closing(HTTPConnection("127.0.0.1", node.port, timeout=seconds)) as connection:
        page = Stream(path, connection)
        yield page
        page.answer.close()  # else the socket stays open with it


def ask(node: Node, path: str, method: str = "GET") -> tuple[HTTPResponse, bytes]:
    """An answer that ends."""
    with closing(HTTPConnection("127.0.0.1", node.port, timeout=5)) as connection:
        connection.request(method, path, headers=ACCEPT)
        answer = connection.getresponse()
        return answer, answer.read()


def request(path: str, version: str = "1.1") -> bytes:
    return f"GET {path} HTTP/{version}\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n".encode()


def send_request(node: Node, path: str) -> socket.socket:
    """A page that asks for events and has not read anything."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(10)
    connection.connect(("127.0.0.1", node.port))
    connection.sendall(request(path))
    return connection


def visit_all(node: Node, videos: list[str]) -> None:
    records = json.dumps([{"video": video, "count": 1} for video in videos]).encode()
    with Client(node.url) as client:
        kind = {"Content-Type": "application/json"}
        assert client.ask("POST", "/visits", kind, records)[0] == 200


def test_the_counter_comes_at_once_and_again_whenever_it_grows(node: Node) -> None:
    visit(node, "grows", 2)
    with open_stream(node, "/live/grows") as page, open_page(node, "/live/grows") as other:
        headers = page.answer.headers
        assert headers["Content-Type"] == "text/event-stream"
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Accel-Buffering"] == "no"
        assert headers["Access-Control-Allow-Origin"] == "*"
        assert headers["X-Served-By"] == "counter1"
        first = page.counter()
        assert first == counter(other) == fetch(node.url, "/count/grows")
        assert list(first) == ["video", "visits", "node", "counts"]
        for number in (3, 4, 5):
            visit(node, "grows")
            assert page.counter() == counter(other)
            assert fetch(node.url, "/count/grows")["visits"] == number


def test_several_videos_come_in_one_stream(node: Node) -> None:
    visit(node, "many-a")
    with open_stream(node, "/live?video=many-a&video=many-b&video=many-a") as page:
        both = {first["video"]: first["visits"] for first in (page.counter(), page.counter())}
        assert both == {"many-a": 1, "many-b": 0}
        visit(node, "many-b")
        grown = page.counter()
        assert (grown["video"], grown["visits"]) == ("many-b", 1)
        visit(node, "many-a")
        assert page.counter()["video"] == "many-a"
    videos = [f"hundred-{number}" for number in range(100)]
    with open_stream(node, "/live?" + "&".join(f"video={video}" for video in videos)) as page:
        assert {page.counter()["video"] for _ in videos} == set(videos)


@pytest.mark.alone
def test_under_fast_traffic_a_page_gets_ten_events_a_second_and_the_last_number(
    node: Node,
) -> None:
    books = Books()
    with open_stream(node, "/live/video-0") as page:
        start = time.monotonic()
        seen = [page.counter()["visits"]]
        with Traffic([node.url], books, videos=1, visitors=8, visits=1000) as traffic:
            while seen[-1] < 1000:
                seen.append(page.counter()["visits"])
            traffic.join()
        took = time.monotonic() - start
    assert seen == sorted(set(seen))
    assert took / PACE / 4 <= len(seen) <= took / PACE + 2


@pytest.mark.parametrize(
    ("path", "title"),
    [
        ("/live/a%20b", "Bad video id"),
        ("/live/" + "v" * 129, "Bad video id"),
        ("/live/%F0%9F%98%80", "Bad video id"),
        ("/live?video=good&video=", "Bad video id"),
        ("/live", "No video"),
        ("/live?" + "&".join(f"video={number}" for number in range(101)), "Too many videos"),
    ],
    ids=lambda value: value[:20],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_cannot_be_watched_is_refused_before_anything_is_sent(
    node: Node, method: str, path: str, title: str
) -> None:
    answer, body = ask(node, path, method)
    assert answer.status == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert method == "HEAD" or json.loads(body)["title"] == title


def test_a_head_opens_no_stream(node: Node) -> None:
    before = live_pages(node)
    answer, body = ask(node, "/live/cats", "HEAD")
    assert (answer.status, body) == (200, b"")
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert live_pages(node) <= before


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_every_version_of_http_gets_events(node: Node, version: str) -> None:
    with socket.create_connection(("127.0.0.1", node.port), timeout=5) as page:
        page.sendall(request("/live/old", version))
        seen = b""
        while b'"visits":0' not in seen:
            piece = page.recv(4096)
            assert piece
            seen += piece
    assert (b"Transfer-Encoding: chunked" in seen) == (version == "1.1")


def test_a_page_on_a_joining_node_is_connected_and_waits_for_the_number(tmp_path: Path) -> None:
    nobody = {"PEERS": f"http://127.0.0.1:{free_port()}", "JOIN_TIMEOUT": "1.5", "DRAIN_TIME": "0"}
    with Node(tmp_path, "counter1", settings=nobody) as node:
        visit(node, "joining", 3)
        with open_stream(node, "/live/joining") as page:
            assert not node.ready()
            assert page.counter()["visits"] == 3
            assert node.ready()


# -- pages that leave, or do not read


def test_a_page_that_is_gone_is_noticed_with_the_next_number(node: Node) -> None:
    before = live_pages(node)
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(open_stream(node, "/live/gone")).counter()
        assert live_pages(node) >= 20
    visit(node, "gone")
    until(lambda: live_pages(node) <= before, 5, "all are noticed")


@pytest.mark.alone
def test_a_page_that_does_not_read_costs_the_others_nothing_and_skips_versions(
    node: Node,
) -> None:
    videos = [f"lazy-{'x' * 100}-{number}" for number in range(40)]
    path = "/live?" + "&".join(f"video={video}" for video in videos)
    before = live_pages(node)
    with send_request(node, path) as lazy, open_stream(node, f"/live/{videos[0]}") as page:
        assert page.counter()["visits"] == 0
        slowest = 0.0
        for number in range(1, 20):  # two rounds are more than its buffers hold
            visit_all(node, videos)
            start = time.monotonic()
            while page.counter()["visits"] < number:
                continue
            slowest = max(slowest, time.monotonic() - start)
        assert slowest < 0.9, "a round has waited for it"
        # When it reads at last it gets the newest numbers, and has skipped most that were before.
        heard: dict[str, int] = {}
        told_in_all = 0
        with lazy.makefile("rb") as lines:
            while min(heard.values(), default=0) < 19 or len(heard) < len(videos):
                line = lines.readline()
                if line.startswith(b"data: "):
                    told = json.loads(line.removeprefix(b"data: "))
                    heard[told["video"]] = told["visits"]
                    told_in_all += 1
        assert told_in_all < 10 * len(videos)
    visit(node, videos[0])
    until(lambda: live_pages(node) <= before, 5, "both are gone")


def test_a_page_that_never_reads_does_not_keep_a_node_from_stopping(tmp_path: Path) -> None:
    with Node(tmp_path, "counter1", settings={"DRAIN_TIME": "0"}) as node:
        node.wait_ready()
        videos = [f"lazy-{'x' * 100}-{number}" for number in range(60)]
        path = "/live?" + "&".join(f"video={video}" for video in videos)
        with send_request(node, path), open_stream(node, f"/live/{videos[0]}") as page:
            for number in range(1, 5):
                visit_all(node, videos)
                while page.counter()["visits"] < number:
                    continue
            assert node.stop(10) == 0


@contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection: the node's and the page's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        page = socket.create_connection(listener.getsockname())
        with listener.accept()[0] as here, page:
            yield here, page


@pytest.mark.alone
def test_a_silent_stream_has_a_heartbeat_until_the_page_hangs_up() -> None:
    live = Live(lambda video: f"{video} 7", 10)
    wake = Signal()
    page = live.open(["cats"], wake)
    assert page is not None
    with connected() as (here, there):
        sent = events(live, page, wake, here, silence=0.05)
        start = time.monotonic()
        assert [next(sent) for _ in range(6)] == [b":\n\n"] * 6
        assert 0.2 < time.monotonic() - start < 2
        there.close()
        assert list(sent) in ([], [b":\n\n"])


def test_a_heartbeat_comes_before_a_proxy_gives_up_on_a_silent_connection() -> None:
    assert PING_INTERVAL < 60


@pytest.mark.parametrize("full", [True, False])
def test_a_node_that_is_full_or_stops_refuses_a_stream(full: bool) -> None:
    app = create_app(Config())
    node = app.extensions["node"]
    node.live = Live(lambda _: None, 0 if full else 10)
    if not full:
        node.live.stop()
    answer = app.test_client().get("/live/cats", headers=ACCEPT)
    assert answer.status_code == (429 if full else 503)
    assert answer.headers["Retry-After"] == "1"
    assert answer.json is not None
    assert answer.json["title"] == "No place"
    assert node.live.pages == 0


# -- the end of a node


def test_a_node_that_stops_ends_its_streams_and_ends_with_0(tmp_path: Path) -> None:
    with ExitStack() as stack:
        node = stack.enter_context(Node(tmp_path, "counter1", settings={"DRAIN_TIME": "1"}))
        node.wait_ready()
        pages = [stack.enter_context(open_stream(node, f"/live/{n % 7}")) for n in range(100)]
        for page in pages:
            page.counter()
        start = time.monotonic()
        node.terminate()
        # A whole answer: http.client would tell of one that was cut off.
        assert {page.line() for page in pages} == {""}
        assert node.stop(10) == 0
        assert time.monotonic() - start < 1 + 5
        assert "Traceback" not in node.log.read_text()
