"""The page as a node: what it keeps, and visits that wait in it, in a real browser."""

import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.test_page import QUIET, Tab, visits
from tools.servers import Nginx, Node, find, free_port
from tools.visitors import Client, fetch, until


class Line:
    """A TCP proxy in front of one port, which can swallow the answers to posted visits."""

    def __init__(self, port: int) -> None:
        self.posts = 0
        self.swallow = threading.Event()
        self.swallowed = threading.Event()
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                browser, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(browser,), daemon=True).start()

    def _serve(self, browser: socket.socket) -> None:
        with closing(browser), suppress(OSError):
            node = socket.create_connection(("127.0.0.1", self._to), 5)
            node.settimeout(None)
            with closing(node):
                back = threading.Thread(target=self._pump, args=(node, browser), daemon=True)
                back.start()
                while sent := browser.recv(65536):
                    if sent.startswith(b"POST /visits"):
                        self.posts += 1
                        if self.swallow.is_set():
                            self._count_unheard(node, sent)
                            return
                    node.sendall(sent)

    def _count_unheard(self, node: socket.socket, sent: bytes) -> None:
        """Pass it on over a line of its own, and cut the browser's before it hears the answer."""
        with closing(socket.create_connection(("127.0.0.1", self._to), 5)) as aside:
            aside.sendall(sent)
            assert aside.recv(65536).startswith(b"HTTP/1.1 200")
        node.shutdown(socket.SHUT_RDWR)
        self.swallowed.set()

    @staticmethod
    def _pump(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while received := one.recv(65536):
                other.sendall(received)
        with suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        # Only this wakes who accepts.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find("chromium"), args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context()
    yield context
    context.close()


def mesh(folder: Path) -> list[Node]:
    ports = [free_port() for _ in range(2)]
    settings = {
        "PEERS": ",".join(f"http://127.0.0.1:{port}" for port in ports),
        "DRAIN_TIME": "0",
        "DEV_MODE": "1",
        "JOIN_TIMEOUT": "1",
    }
    return [
        Node(folder / f"counter{number}", f"counter{number}", port, settings)
        for number, port in enumerate(ports, 1)
    ]


def start(nodes: list[Node]) -> None:
    for node in nodes:
        node.launch()
    for node in nodes:
        node.wait_ready()


def stop(nodes: list[Node]) -> None:
    for node in nodes:
        node.terminate()
    for node in nodes:
        node.stop()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Node]]:
    nodes = mesh(tmp_path)
    try:
        start(nodes)
        yield nodes
    finally:
        stop(nodes)
    for node in nodes:
        assert "Traceback" not in node.log.read_text()


@pytest.fixture
def balancer(nodes: list[Node], tmp_path: Path) -> Iterator[Nginx]:
    with Nginx(tmp_path / "nginx", [f"127.0.0.1:{node.port}" for node in nodes]) as nginx:
        yield nginx


def _kept(page: Page, prefix: str = "visits.") -> list[str]:
    names: list[str] = page.evaluate(
        "prefix => Object.keys(localStorage).filter(name => name.startsWith(prefix))", prefix
    )
    return names


def _at(nodes: list[Node], video: str, number: int) -> None:
    """Every node comes to this number, and nothing more comes after it."""

    def come(node: Node) -> Callable[[], bool]:
        return lambda: visits(node, video) >= number

    for node in nodes:
        until(come(node), 10, f"{number} visits to {video}")
        assert visits(node, video) == number


def test_a_reload_answered_by_an_outdated_node_shows_no_less(
    nodes: list[Node], context: BrowserContext, tmp_path: Path
) -> None:
    tab = Tab(context.new_page())
    # One address, behind which the nodes change: first one of them, then only the other.
    with Nginx(tmp_path / "nginx", [f"127.0.0.1:{nodes[0].port}"]) as nginx:
        with Client(nodes[1].url) as client:
            client.ask("POST", "/dev/cut")
        for _ in range(5):
            fetch(nodes[0].url, "/video/kept")
        tab.open(f"{nginx.url}/video/kept")
        tab.comes_to(6, 5)
        expect(tab.page.locator("#keep input")).to_be_checked()
        tab.page.goto("about:blank")
        nginx.stop()
        nginx.backends = [f"127.0.0.1:{nodes[1].port}"]
        nginx.start()
        tab.open(f"{nginx.url}/video/kept")
        # The other node knows only this visit; both together are not told to anybody yet.
        assert visits(nodes[1], "kept") == 1
        tab.comes_to(7, 5)
        assert min(tab.shown()) >= 6

        tab.page.locator("#keep").click()
        expect(tab.page.locator("#keep input")).not_to_be_checked()
        assert _kept(tab.page) == ["visits.keep"]
        tab.open(f"{nginx.url}/video/kept")
        tab.comes_to(2, 5)
        assert _kept(tab.page) == ["visits.keep"]
        tab.page.locator("#keep").click()
        fetch(nodes[1].url, "/video/kept")
        until(lambda: _kept(tab.page) == ["visits.kept:kept"], 5, "it is kept again")
        assert tab.complaints == []


def test_a_wiped_cluster_is_noticed(nodes: list[Node], context: BrowserContext) -> None:
    tab, gone = Tab(context.new_page()), Tab(context.new_page())
    for _ in range(9):
        fetch(nodes[0].url, "/video/wiped")
    tab.open(f"{nodes[0].url}/video/wiped")
    tab.comes_to(10, 5)
    stop(nodes)
    for node in nodes:
        shutil.rmtree(node.folder)
    start(nodes)
    # A page that was open all the time, and one that is opened afterwards.
    gone.open(f"{nodes[0].url}/video/wiped")
    assert gone.visits() == 10
    for one in (tab, gone):
        one.comes_to(1, 30)
        one.page.bring_to_front()
        assert one.page.locator("#visits").inner_text() == "1"
    fetch(nodes[1].url, "/video/wiped")
    for one in (tab, gone):
        one.comes_to(2, 5)


def test_visits_made_offline_count_once_each_when_the_network_is_back(
    nodes: list[Node], balancer: Nginx, context: BrowserContext
) -> None:
    tab = Tab(context.new_page())
    tab.page.goto(balancer.url)
    tab.live()
    context.set_offline(True)
    for video in ("rings", "life", "clock"):
        tab.follow(video)
        assert tab.visits() == 1
    expect(tab.page.locator("#waiting")).to_have_text("3 visits wait to be sent")
    # The tab is closed, and the browser comes back later, without a page of the last one.
    other = Tab(context.new_page())
    tab.page.close()
    context.set_offline(False)
    other.page.goto(balancer.url)
    expect(other.page.locator("#waiting")).to_be_hidden(timeout=10_000)
    until(lambda: not _kept(other.page, "visits.outbox:"), 10, "nothing waits any more")
    for video in ("rings", "life", "clock"):
        _at(nodes, video, 1)
    assert other.complaints == []


def test_a_visit_whose_node_dies_before_it_answers_counts_once(
    nodes: list[Node], context: BrowserContext
) -> None:
    tab = Tab(context.new_page())
    with closing(Line(nodes[0].port)) as line:
        tab.page.goto(line.url)
        tab.live()
        line.swallow.set()
        tab.follow("rings")
        tab.page.wait_for_function("() => document.querySelector('#waiting').textContent !== ''")
        until(line.swallowed.is_set, 10, "the node has counted, and nobody heard it")
        nodes[0].kill()
        line.swallow.clear()
        nodes[0].start()
        expect(tab.page.locator("#waiting")).to_be_hidden(timeout=15_000)
        assert line.posts >= 2
        tab.comes_to(1, 5)
        _at(nodes, "rings", 1)


def test_two_tabs_send_what_waits_once(nodes: list[Node], context: BrowserContext) -> None:
    videos = [f"shared-{number}" for number in range(20)]
    with closing(Line(nodes[0].port)) as line:
        tabs = [Tab(context.new_page()) for _ in range(2)]
        for tab in tabs:
            tab.page.goto(line.url)
            tab.live()
        context.set_offline(True)
        for number, video in enumerate(videos):
            page = tabs[number % 2].page
            page.evaluate(
                """video => {
                    const link = document.createElement("a");
                    link.href = `/video/${video}`;
                    document.body.append(link);
                    link.click();
                }""",
                video,
            )
            expect(page.locator("h1")).to_have_text(video)
        for tab in tabs:
            expect(tab.page.locator("#waiting")).to_have_text("20 visits wait to be sent")
        context.set_offline(False)
        for tab in tabs:
            expect(tab.page.locator("#waiting")).to_be_hidden(timeout=20_000)
        for video in videos:
            _at(nodes, video, 1)
        assert line.posts == len(videos)
