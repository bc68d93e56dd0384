"""What a browser keeps: counters, and visits that no node has answered for."""

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from shutil import rmtree
from threading import Event, Thread
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, BrowserContext, Request, expect

from lab.clients import until
from lab.servers import Node, free_port
from tests.test_page import Tab, hears_of, mark, post, visits


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context()
    yield context
    context.close()


pytestmark = pytest.mark.nodes(2, DEV_MODE="1", DRAIN_TIME="0.2")


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


def dev(node: Node, action: str) -> None:
    connection = HTTPConnection("127.0.0.1", node.port, timeout=5)
    connection.request("POST", f"/dev/{action}")
    assert connection.getresponse().status == 204
    connection.close()


class Line:
    """One address in front of nodes: it leads to one of them, and can be cut in mid-request."""

    def __init__(self, node: Node) -> None:
        self.node: Node | None = node
        self.swallow = False
        """Let the next request for visits through, and no answer to it, and then nothing more."""
        self.swallowed = Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._ends: list[socket.socket] = []
        self._threads = [Thread(target=self._accept)]
        self._threads[0].start()

    def lead_to(self, node: Node) -> None:
        """From now on to this node; connections to the other one end."""
        self.node = node
        self._hang_up()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._hang_up()
        for thread in self._threads:
            thread.join(5)

    def _hang_up(self) -> None:
        for end in self._ends[:]:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                page, _ = self._listener.accept()
                if self.node is None:
                    page.close()
                    continue
                try:
                    node = socket.create_connection(("127.0.0.1", self.node.port), 5)
                except OSError:
                    page.close()
                    continue
                node.settimeout(None)
                self._ends += [page, node]
                thread = Thread(target=self._serve, args=(page, node))
                self._threads.append(thread)
                thread.start()

    def _serve(self, page: socket.socket, node: socket.socket) -> None:
        cut = Event()
        answers = Thread(target=self._pass, args=(node, page, True, cut))
        answers.start()
        self._pass(page, node, False, cut)
        answers.join()
        for end in (page, node):
            self._ends.remove(end)
            end.close()

    def _pass(self, source: socket.socket, sink: socket.socket, answers: bool, cut: Event) -> None:
        with suppress(OSError):
            while some := source.recv(65536):
                if not answers and self.swallow and some.startswith(b"POST /visits"):
                    cut.set()
                    self.swallow = False
                    self.node = None
                if answers and cut.is_set():
                    self.swallowed.set()
                    break
                sink.sendall(some)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def line(nodes: list[Node]) -> Iterator[Line]:
    line = Line(nodes[0])
    yield line
    line.close()


@pytest.fixture
def split(nodes: list[Node]) -> Iterator[None]:
    dev(nodes[1], "cut")
    yield
    dev(nodes[1], "heal")


def test_a_reload_answered_by_an_outdated_node_shows_no_less_until_it_is_switched_off(
    nodes: list[Node], context: BrowserContext, line: Line, split: None
) -> None:
    post(nodes[0], "clock", 20)
    tab = Tab(context.new_page())
    tab.open(f"{line.url}/video/clock")
    tab.comes_to(21, 5)
    line.lead_to(nodes[1])
    tab.open(f"{line.url}/video/clock")
    # The other node has counted one visit, that of this load, which the first one has not heard of.
    tab.comes_to(22, 5)
    assert min(tab.shown()) >= 21
    assert visits(nodes[1], "clock") == 1

    tab.page.get_by_role("switch").uncheck()
    tab.comes_to(1, 5)
    kept = "() => Object.keys(localStorage).filter(place => place.startsWith('visits.kept.'))"
    assert tab.page.evaluate(kept) == []
    tab.open(f"{line.url}/video/clock")
    tab.comes_to(2, 5)
    expect(tab.page.get_by_role("switch")).not_to_be_checked()
    assert tab.page.evaluate(kept) == []


def test_a_wiped_cluster_is_noticed(context: BrowserContext, tmp_path: Path) -> None:
    ports = [free_port() for _ in range(2)]
    settings = {"PEERS": f"http://127.0.0.1:{ports[0]}", "DRAIN_TIME": "0.2"}
    nodes = [Node(tmp_path / f"n{port}", f"n{port}", port, settings) for port in ports]
    try:
        start(nodes)
        post(nodes[0], "clock", 40)
        post(nodes[0], "rings", 30)
        tab = Tab(context.new_page())
        tab.open(f"{nodes[0].url}/video/clock")
        tab.comes_to(41, 5)
        other = Tab(context.new_page())
        other.open(f"{nodes[0].url}/video/rings")
        other.comes_to(31, 5)
        stop(nodes)
        for node in nodes:
            rmtree(node.folder)
        start(nodes)
        other.live()
        tab.page.bring_to_front()
        tab.open(f"{nodes[0].url}/video/clock")
        # What is kept, and the visit of this load: for now they look like one counter.
        tab.comes_to(42, 5)
        post(nodes[1], "rings", 2)
        tab.comes_to(1, 25)
        # What one tab forgets the others forget, too.
        other.comes_to(2, 5)
        tab.open(f"{nodes[0].url}/video/clock")
        tab.comes_to(2, 5)
        assert max(tab.shown()) == 2
    finally:
        stop(nodes)


def test_three_visits_without_a_network_are_three(
    nodes: list[Node], context: BrowserContext
) -> None:
    tab, page = Tab(context.new_page()), context.pages[0]
    page.goto(nodes[0].url)
    tab.live()
    mark(page)
    before = {video: visits(nodes[0], video) for video in ("life", "rings")}
    context.set_offline(True)
    for video, more in (("life", 1), ("rings", 1), ("life", 2)):
        tab.follow(video)
        assert tab.visits() == before[video] + more
    expect(page.locator("#waiting")).to_have_text("3 visits wait to be sent")
    context.set_offline(False)
    expect(page.locator("#waiting")).to_be_hidden(timeout=15_000)
    for node in nodes:
        hears_of(node, "life", before["life"] + 2)
        hears_of(node, "rings", before["rings"] + 1)
    tab.comes_to(before["life"] + 2, 5)


def test_visits_of_a_closed_tab_are_counted_once_by_the_next(
    nodes: list[Node], context: BrowserContext
) -> None:
    tab, page = Tab(context.new_page()), context.pages[0]
    page.goto(nodes[0].url)
    tab.live()
    before = visits(nodes[0], "mandelbrot")
    context.set_offline(True)
    tab.follow("mandelbrot")
    expect(page.locator("#waiting")).to_have_text("1 visit waits to be sent")
    page.close()
    context.set_offline(False)
    page = context.new_page()
    page.goto(nodes[0].url)
    expect(page.locator("#waiting")).to_be_hidden(timeout=15_000)
    until(lambda: visits(nodes[0], "mandelbrot") == before + 1, 5, "the visit")
    page.reload()
    Tab(page).live()
    assert visits(nodes[0], "mandelbrot") == before + 1
    assert kept_visits(context) == 0


def test_a_visit_whose_node_is_killed_in_mid_request_is_counted_once(
    nodes: list[Node], context: BrowserContext, line: Line
) -> None:
    tab = Tab(context.new_page())
    tab.page.goto(line.url)
    tab.live()
    before = visits(nodes[1], "test-card")
    keys = held_keys(nodes[1])
    line.swallow = True
    tab.follow("test-card")
    assert line.swallowed.wait(10)
    until(lambda: held_keys(nodes[1]) > keys, 5, "the key at the other node")
    nodes[0].kill()
    try:
        line.lead_to(nodes[1])
        expect(tab.page.locator("#waiting")).to_be_hidden(timeout=20_000)
    finally:
        nodes[0].start()
        nodes[0].wait_ready()
    tab.comes_to(before + 1, 10)
    for node in nodes:
        hears_of(node, "test-card", before + 1)


def test_two_tabs_with_a_full_outbox_send_each_visit_once(
    nodes: list[Node], context: BrowserContext
) -> None:
    keys: list[str] = []

    def note(request: Request) -> None:
        if urlsplit(request.url).path == "/visits" and request.method == "POST":
            keys.append(request.headers["idempotency-key"])

    context.on("request", note)
    tabs = [Tab(context.new_page()) for _ in range(2)]
    for tab in tabs:
        tab.page.goto(nodes[0].url)
        tab.live()
    before = visits(nodes[0], "rings")
    context.set_offline(True)
    waiting = {f"{number:08}-0000-4000-8000-000000000000": number for number in range(40)}
    tabs[0].page.evaluate(
        """keys => {
            for (const [key, made] of Object.entries(keys)) {
                const visit = JSON.stringify({video: "rings", made});
                localStorage.setItem(`visits.outbox.${key}`, visit);
            }
        }""",
        waiting,
    )
    context.set_offline(False)
    until(lambda: kept_visits(context) == 0, 15, "an empty outbox")
    for node in nodes:
        hears_of(node, "rings", before + 40)
    assert sorted(keys) == sorted(waiting), json.dumps(keys)


def test_plain_http_with_a_name_is_enough(nodes: list[Node], context: BrowserContext) -> None:
    tabs = [Tab(context.new_page()) for _ in range(2)]
    for tab in tabs:
        tab.page.goto(f"http://visits.test:{nodes[0].port}/")
        tab.live()
        assert tab.page.evaluate("() => !isSecureContext && !navigator.locks")
    before = visits(nodes[0], "life")
    context.set_offline(True)
    for tab in tabs:
        tab.follow("life")
        expect(tab.page.locator("h1")).to_have_text("The game of life")
    context.set_offline(False)
    until(lambda: kept_visits(context) == 0, 15, "an empty outbox")
    for node in nodes:
        hears_of(node, "life", before + 2)
    for tab in tabs:
        tab.comes_to(before + 2, 5)


def held_keys(node: Node) -> int:
    """How many idempotency keys a node holds."""
    with urlopen(f"{node.url}/metrics", timeout=5) as answer:
        [line] = [
            line
            for line in answer.read().decode().splitlines()
            if "counter_keys " in line and not line.startswith("#")
        ]
    return int(float(line.split()[-1]))


def kept_visits(context: BrowserContext) -> int:
    """How many visits wait in the outbox."""
    places = "() => Object.keys(localStorage).filter(place => place.startsWith('visits.outbox'))"
    return len(context.pages[-1].evaluate(places))
