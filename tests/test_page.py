"""The pages in a real browser, on real nodes."""

import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from counter.ids import mint_run
from counter.messages import Body, Delta, Envelope, encode
from tools.servers import Node, find, free_port
from tools.visitors import fetch, until

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find("chromium"), args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    folder = tmp_path_factory.mktemp("nodes")
    ports = [free_port() for _ in range(3)]
    settings = {"PEERS": f"http://127.0.0.1:{ports[0]}", "DRAIN_TIME": "0.2"}
    nodes = [
        Node(folder / f"counter{number}", f"counter{number}", port, settings)
        for number, port in enumerate(ports, 1)
    ]
    for node in nodes:
        node.launch()
    try:
        for node in nodes:
            node.wait_ready()
        yield nodes
    finally:
        for node in nodes:
            node.terminate()
        for node in nodes:
            node.stop()


class Tab:
    """A page that remembers every number it showed, and every complaint of the browser."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def open(self, url: str) -> None:
        self.page.goto(url)
        self.page.evaluate(
            """() => {
                const number = document.getElementById("visits");
                window.shown = [];
                const note = () => window.shown.push(Number(number.dataset.visits));
                new MutationObserver(note).observe(number, {attributes: true});
                note();
            }"""
        )
        self.live()

    def live(self) -> None:
        expect(self.page.locator("#connection")).to_have_attribute("data-state", "live")

    def visits(self) -> int:
        return int(self.page.locator("#visits").get_attribute("data-visits") or 0)

    def comes_to(self, visits: int, seconds: float) -> float:
        """Wait for a number; return how many seconds it took."""
        return until(lambda: self.visits() == visits, seconds, f"{visits} visits on the page")

    def shown(self) -> list[int]:
        """Every number so far, in order."""
        return list(self.page.evaluate("() => window.shown"))


@pytest.fixture
def tabs(browser: Browser) -> Iterator[list[Tab]]:
    contexts = [browser.new_context() for _ in range(2)]
    yield [Tab(context.new_page()) for context in contexts]
    for context in contexts:
        context.close()


def test_a_visit_at_a_third_node_raises_two_pages_within_a_second(
    nodes: list[Node], tabs: list[Tab]
) -> None:
    for tab, node in zip(tabs, nodes, strict=False):
        tab.open(f"{node.url}/video/cats")
    for tab in tabs:
        tab.comes_to(2, 5)
    fetch(nodes[2].url, "/video/cats")
    for tab in tabs:
        assert tab.comes_to(3, 5) < 1.0
        assert tab.complaints == []


def test_a_page_whose_node_restarts_reconnects_and_never_shows_less(
    nodes: list[Node], tabs: list[Tab], tmp_path: Path
) -> None:
    for tab, node in zip(tabs, nodes, strict=False):
        tab.open(f"{node.url}/video/dogs")
    victim = nodes[0]
    for restart in range(2):
        (victim.stop if restart == 0 else victim.kill)()
        expect(tabs[0].page.locator("#connection")).not_to_have_attribute("data-state", "live")
        for _ in range(5):
            fetch(nodes[1].url, "/video/dogs")
        victim.start()
        victim.wait_ready()
        tabs[0].live()
        for tab in tabs:
            tab.comes_to(7 + 5 * restart, 10)
    for tab in tabs:
        assert tab.shown() == sorted(tab.shown())
        assert tab.shown()[-1] == 12


def test_the_counts_by_node_open_and_close(nodes: list[Node], tabs: list[Tab]) -> None:
    page = tabs[0].page
    fetch(nodes[1].url, "/video/table")
    tabs[0].open(f"{nodes[0].url}/video/table")
    tabs[0].comes_to(2, 5)
    toggle, table = page.locator("#by-node-toggle"), page.locator("#by-node")
    expect(table).to_be_hidden()
    toggle.focus()
    page.keyboard.press("Enter")
    expect(table).to_be_visible()
    expect(toggle).to_have_attribute("aria-expanded", "true")
    for name in ("counter1", "counter2"):
        expect(table.locator(f'tr[data-name="{name}"] td[data-count]')).to_have_text("1")
    toggle.click()
    expect(table).to_be_hidden()
    assert tabs[0].complaints == []


def test_a_joining_node_shows_that_the_number_is_coming(tabs: list[Tab], tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    settings = {"PEERS": f"http://127.0.0.1:{ports[1]}", "JOIN_TIMEOUT": "4", "DRAIN_TIME": "0"}
    with Node(tmp_path, "counter1", ports[0], settings) as node:
        page = tabs[0].page
        page.goto(f"{node.url}/video/cats")
        assert page.locator("#visits").get_attribute("data-visits") in (None, "")
        until(lambda: page.locator("#visits").get_attribute("data-visits") == "1", 10, "ready")


def test_the_front_page_lists_the_most_visited_and_stays_live(
    nodes: list[Node], tabs: list[Tab]
) -> None:
    for _ in range(40):
        fetch(nodes[0].url, "/video/front-first")
    for _ in range(30):
        fetch(nodes[0].url, "/video/front-second")
    page = tabs[0].page
    page.goto(nodes[0].url)
    links = page.locator("main a[href^='/video/front-']")
    expect(links).to_have_text(["front-first", "front-second"])
    for _ in range(20):
        fetch(nodes[1].url, "/video/front-second")
    expect(links).to_have_text(["front-second", "front-first"], timeout=15_000)
    expect(page.locator("main")).to_contain_text("50")
    links.first.click()
    expect(page.locator("h1")).to_have_text("front-second")
    assert tabs[0].complaints == []


def test_the_cluster_page_shows_every_member(nodes: list[Node], tabs: list[Tab]) -> None:
    page = tabs[0].page
    page.goto(f"{nodes[0].url}/cluster")
    for member in fetch(nodes[0].url, "/cluster")["members"]:
        row = page.locator(f'#members tr[data-member="{member["member"]}"]')
        expect(row).to_contain_text(member["name"])
        expect(row).to_contain_text("ready")
    assert tabs[0].complaints == []


def test_the_cluster_page_tells_live_what_folding_waits_for(
    tabs: list[Tab], tmp_path: Path
) -> None:
    settings = {"MESSAGE_TTL": "0.5", "SYNC_INTERVAL": "0.1", "DRAIN_TIME": "0"}
    member = "leaver~" + "0" * 13
    with Node(tmp_path, "counter1", settings=settings | {"ADMIN_TOKEN": "only-for-tests"}) as node:
        node.wait_ready()
        page = tabs[0].page
        page.goto(f"{node.url}/cluster")
        waits_for, warnings = page.locator("#waits-for"), page.locator("#warnings")
        expect(waits_for).to_have_text("nobody")
        expect(warnings).to_be_hidden()

        # It had two runs, and is not heard again.
        for run in (1, 2):
            tell(node, f"{member}.{mint_run(run, '', 1)}", Delta({"cats": 5}, 5))
        expect(waits_for).to_have_text(member)
        expect(page.locator("#closed-runs")).to_have_text("1")
        expect(warnings).to_contain_text(f"flask cluster remove {member}", timeout=15_000)
        row = page.locator(f'#members tr[data-member="{member}"]')
        expect(row.locator(".state")).to_have_text("silent")
        expect(row.locator(".runs")).to_have_text("2")

        bearer = {"Authorization": "Bearer only-for-tests"}
        with closing(HTTPConnection("127.0.0.1", node.port, timeout=10)) as connection:
            connection.request("DELETE", f"/cluster/{member}", headers=bearer)
            assert connection.getresponse().status == 200
        expect(row.locator(".state")).to_have_text("removed")
        expect(row.locator(".visits")).to_have_text("10")
        expect(waits_for).to_have_text("nobody")
        expect(warnings).to_be_hidden()
        expect(row.locator(".runs")).to_have_text("0", timeout=15_000)
        assert tabs[0].complaints == []


def tell(node: Node, sender: str, body: Body) -> None:
    """Say something to a node as another one would."""
    message = encode(Envelope(sender, "", int(time.time() * 1000), body), None)
    kind = {"Content-Type": "application/octet-stream"}
    with closing(HTTPConnection("127.0.0.1", node.port, timeout=10)) as connection:
        connection.request("POST", "/mesh", message, kind)
        assert connection.getresponse().status == 204


@pytest.mark.parametrize("path", ["/", "/video/" + "w" * 128, "/cluster", "/video/b%C3%A4d"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_scrolls_sideways_on_a_phone(
    nodes: list[Node], browser: Browser, path: str, scheme: str
) -> None:
    context = browser.new_context(
        viewport={"width": 360, "height": 740},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page = context.new_page()
    page.goto(nodes[0].url + path)
    width = page.evaluate("() => document.documentElement.scrollWidth")
    context.close()
    assert width <= 360


def test_an_id_is_text_wherever_it_appears(nodes: list[Node], tabs: list[Tab]) -> None:
    video = "__proto__.~-_9"
    tabs[0].open(f"{nodes[0].url}/video/{video}")
    expect(tabs[0].page.locator("h1")).to_have_text(video)
    page = tabs[1].page
    page.goto(f"{nodes[0].url}/video/%3Cscript%3Ealert(1)%3C%2Fscript%3E")
    expect(page.locator("main")).to_contain_text("<script>alert(1)</script>")
    assert page.locator("main script").count() == 0
