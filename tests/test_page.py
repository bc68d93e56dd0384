"""The pages in a real browser, on real nodes."""

import re
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, WebSocket, expect

from counter.crdt.ids import mint_run
from counter.protocol.messages import Body, Delta, Envelope, encode
from lab.clients import fetch, fill, until
from lab.servers import ROOT, Node, free_port

pytestmark = pytest.mark.nodes(3, DRAIN_TIME="0.2")


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
                new MutationObserver(note).observe(number, {attributeFilter: ["data-visits"]});
                note();
            }"""
        )
        self.live()

    def follow(self, link: str) -> None:
        """Click on the card of a video, whatever else the page does to it meanwhile."""
        self.page.locator(f'#videos [data-video="{link}"] a').click()
        self.page.wait_for_function("video => location.pathname.endsWith(video)", arg=link)

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


@pytest.mark.alone
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
        shown = tab.shown()
        assert shown == sorted(shown)
        assert shown[-1] == 12


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
    settings = {"MESSAGE_TTL": "0.5", "SYNC_INTERVAL": "0.1", "DRAIN_TIME": "0", "FOLD_AFTER": "0"}
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


# -- watching


def post(node: Node, video: str, count: int) -> None:
    fill(node.url, {video: count})


def visits(node: Node, video: str) -> int:
    return int(fetch(node.url, f"/count/{video}")["visits"])


def hears_of(node: Node, video: str, count: int) -> None:
    until(lambda: visits(node, video) == count, 5, f"{count} visits of {video}")


def test_a_clip_plays(nodes: list[Node], tabs: list[Tab]) -> None:
    page = tabs[0].page
    tabs[0].open(f"{nodes[0].url}/video/clock")
    expect(page.locator("h1")).to_have_text("Eight seconds")
    expect(page.locator("#player video")).to_have_js_property("paused", True)
    page.locator("#player video").focus()
    page.keyboard.press("Space")
    page.wait_for_function("() => document.querySelector('video').currentTime > 0.5")
    size = page.evaluate("() => [...document.querySelectorAll('video')].map(v => v.videoWidth)")
    assert size == [480]
    assert tabs[0].complaints == []


def test_every_clip_and_poster_is_small_and_there(nodes: list[Node], tabs: list[Tab]) -> None:
    clips = fetch(nodes[0].url, "/static/clips/clips.json")
    assert len(clips) == 6
    page = tabs[0].page
    page.goto(nodes[0].url)
    for clip in clips:
        card = page.locator(f'#videos [data-video="{clip["id"]}"]')
        expect(card.locator("a")).to_have_text(clip["title"])
        card.scroll_into_view_if_needed()
        expect(card.locator("img")).to_have_js_property("naturalWidth", 480)
        for kind, most in ("webm", 150 * 1024), ("webp", 12 * 1024):
            assert (ROOT / f"static/clips/{clip['id']}.{kind}").stat().st_size <= most
    lasting = page.evaluate(
        """clips => Promise.all(clips.map(clip => new Promise((told, failed) => {
            const video = document.createElement("video");
            video.preload = "metadata";
            video.onloadedmetadata = () => told(video.duration - clip.seconds);
            video.onerror = () => failed(new Error(clip.id));
            video.src = `/static/clips/${clip.id}.webm`;
        })))""",
        clips,
    )
    assert all(abs(difference) < 0.2 for difference in lasting), lasting
    assert tabs[0].complaints == []


SORTED_BY = 10_000
"""When the front page has sorted its cards for certain, in ms of its own clock."""


def test_cards_are_live_and_do_not_move_under_a_pointer_or_the_focus(
    nodes: list[Node], tabs: list[Tab]
) -> None:
    for place, video in enumerate(("calm-first", "calm-second")):
        for _ in range(70 - place):
            fetch(nodes[0].url, f"/video/{video}")
    page = tabs[0].page
    page.clock.install()
    page.goto(nodes[0].url)
    links = page.locator("#videos a[href^='/video/calm-']")
    number = page.locator('#videos [data-video="calm-second"] b')
    tabs[0].live()
    ended_by_others = False

    def overtake() -> None:
        """Send the second above the first."""
        nonlocal ended_by_others
        for _ in range(3):
            fetch(nodes[1].url, f"/video/calm-{'first' if ended_by_others else 'second'}")
        ended_by_others = not ended_by_others

    links.first.hover()
    overtake()
    expect(number).to_have_text("72")
    page.clock.run_for(SORTED_BY)
    expect(links).to_have_text(["calm-first", "calm-second"])

    page.mouse.move(0, 0)
    page.clock.run_for(SORTED_BY)
    expect(links).to_have_text(["calm-second", "calm-first"])

    links.first.focus()
    overtake()
    expect(page.locator('#videos [data-video="calm-first"] b')).to_have_text("73")
    page.clock.run_for(SORTED_BY)
    expect(links).to_have_text(["calm-second", "calm-first"])
    expect(links.first).to_be_focused()
    assert tabs[0].complaints == []


def test_a_line_shows_that_visits_come_in_and_says_before_what_it_needs(
    nodes: list[Node], tabs: list[Tab]
) -> None:
    page = tabs[0].page
    tabs[0].open(f"{nodes[0].url}/video/sparkling")
    rate, drawn = page.locator("#rate"), page.locator("#rates .line")
    needs = "The curve needs 10 visits in 3 minutes. This page has seen"
    for seen in range(10):
        if seen:
            fetch(nodes[1].url, "/video/sparkling")
        expect(rate).to_have_text(f"{needs} {seen}.")
        assert not drawn.get_attribute("d")
    height = page.locator("#rates").bounding_box()
    fetch(nodes[1].url, "/video/sparkling")
    expect(rate).to_have_text(
        re.compile("Visits per second in the last 3 minutes: (fewer than 1|at most [1-9])")
    )
    assert drawn.get_attribute("d")
    assert page.locator("#rates").bounding_box() == height


def test_a_video_without_a_clip_has_a_picture_of_its_own(
    nodes: list[Node], tabs: list[Tab]
) -> None:
    page = tabs[0].page
    drawn = []
    for video in ("pictured", "drawn", "pictured"):
        tabs[0].open(f"{nodes[0].url}/video/{video}")
        assert page.locator("#player video").count() == 0
        drawn.append(page.locator("#player svg").evaluate("picture => picture.outerHTML"))
    assert drawn[0] == drawn[2] != drawn[1]
    assert tabs[0].complaints == []


def test_numbers_are_written_as_their_reader_writes_them(
    nodes: list[Node], browser: Browser
) -> None:
    post(nodes[0], "grouped", 1233)
    context = browser.new_context(locale="de-DE")
    tab = Tab(context.new_page())
    tab.open(f"{nodes[0].url}/video/grouped")
    expect(tab.page.locator("#visits")).to_have_text("1.234")
    tab.page.locator("#by-node-toggle").click()
    expect(tab.page.locator("#by-node #sum")).to_have_text("1.234")
    tab.page.locator("#back a").click()
    expect(tab.page.locator('#videos [data-video="grouped"] b')).to_have_text("1.234")
    # Before it is closed: a socket that is still being opened then would complain.
    assert tab.complaints == []
    context.close()


def test_bars_show_the_part_of_each_node(nodes: list[Node], tabs: list[Tab]) -> None:
    page = tabs[0].page
    post(nodes[0], "bars", 2)
    post(nodes[1], "bars", 1)
    tabs[0].open(f"{nodes[0].url}/video/bars")
    tabs[0].comes_to(4, 5)
    page.locator("#by-node-toggle").click()
    for name, part, count in ("counter1", 0.75, "3"), ("counter2", 0.25, "1"):
        row = page.locator(f'#by-node tr[data-name="{name}"]')
        expect(row.locator("progress")).to_be_visible()
        expect(row.locator("progress")).to_have_js_property("value", part)
        expect(row.locator("td[data-count]")).to_have_text(count)
    expect(page.locator("#by-node #sum")).to_have_text("4")
    assert tabs[0].complaints == []


def test_a_page_says_who_served_it_and_who_sends_its_number(
    nodes: list[Node], tabs: list[Tab]
) -> None:
    for tab, node in zip(tabs, nodes, strict=False):
        tab.open(f"{node.url}/video/served")
        for place in ("#page-node", "#live-node"):
            expect(tab.page.locator(place)).to_have_text(node.name)


def test_a_page_owns_up_to_be_offline_and_recovers(tabs: list[Tab], tmp_path: Path) -> None:
    connection = tabs[0].page.locator("#connection")
    with Node(tmp_path, "counter1", settings={"DRAIN_TIME": "0"}) as node:
        node.wait_ready()
        tabs[0].open(f"{node.url}/video/offline")
        expect(connection).to_have_text("Live")
        node.kill()
        expect(connection).to_have_text("Reconnecting")
        expect(connection).to_have_text("Offline", timeout=15_000)
        assert tabs[0].visits() == 1
        node.start()
        node.wait_ready()
        expect(connection).to_have_text("Live", timeout=15_000)
        fetch(node.url, "/video/offline")
        tabs[0].comes_to(2, 5)


# -- moving from video to video


def send_ahead(node: Node, *videos: str) -> None:
    """Have these among the most visited, where the page of another video offers them."""
    top = max((counter["visits"] for counter in fetch(node.url, "/top")["counters"]), default=0)
    for video in videos:
        post(node, video, top + 1)


def mark(page: Page) -> None:
    """Leave a trace that a page load would wipe out."""
    page.evaluate("() => { window.loaded = 'once'; }")


def is_marked(page: Page) -> bool:
    return bool(page.evaluate("() => window.loaded === 'once'"))


def test_moving_on_counts_once_and_loads_no_page(nodes: list[Node], tabs: list[Tab]) -> None:
    tab, page = tabs[0], tabs[0].page
    send_ahead(nodes[0], "rings", "life")
    page.goto(nodes[0].url)
    tab.live()
    mark(page)
    before = {video: visits(nodes[0], video) for video in ("rings", "life")}
    for number, video in enumerate(["rings", "life", "rings"]):
        tab.follow(video)
        # At once, whatever the nodes say; and never more than the truth.
        assert tab.visits() == before[video] + 1 + number // 2
        expect(page.locator("#waiting")).to_be_hidden()
    tab.comes_to(before["rings"] + 2, 5)
    expect(page.locator("h1")).to_have_text("Rings on water")
    expect(page).to_have_title("Rings on water · Visits")
    expect(page.locator("#player video")).to_have_attribute("src", "/static/clips/rings.webm")
    page.wait_for_function("() => document.querySelector('video').currentTime > 0.2")
    page.locator("#by-node-toggle").click()
    expect(page.locator('#by-node tr[data-name="counter1"] td[data-count]')).not_to_have_text("0")
    assert is_marked(page)
    for node in nodes:
        hears_of(node, "rings", before["rings"] + 2)
        hears_of(node, "life", before["life"] + 1)
    assert tab.complaints == []


def test_back_and_forward_draw_what_was_there_and_count_nothing(
    nodes: list[Node], tabs: list[Tab]
) -> None:
    tab, page = tabs[0], tabs[0].page
    send_ahead(nodes[0], "mandelbrot")
    tab.open(f"{nodes[0].url}/video/back-and-forth")
    mark(page)
    tab.follow("mandelbrot")
    page.locator("#back a").click()
    expect(page.locator("h1")).to_have_text("Videos")
    expect(page.locator("#video")).to_be_hidden()
    expect(page).to_have_title("Videos · Visits")
    expect(page.locator("nav a[aria-current]")).to_have_text("Videos")
    expect(page.locator("#waiting")).to_have_text("")
    hears_of(nodes[0], "back-and-forth", 1)
    counted = visits(nodes[0], "mandelbrot")

    page.go_back()
    expect(page.locator("h1")).to_have_text("Into the Mandelbrot set")
    expect(page.locator("h1")).to_be_focused()
    tab.comes_to(counted, 5)
    page.go_back()
    expect(page.locator("h1")).to_have_text("back-and-forth")
    expect(page.locator("#player svg")).to_be_visible()
    tab.comes_to(1, 5)
    page.go_forward()
    page.go_forward()
    expect(page.locator("h1")).to_have_text("Videos")
    expect(page.locator("#open-video")).to_be_visible()
    assert is_marked(page)
    # A visit would be answered before this one is.
    assert fetch(nodes[0].url, "/video/back-and-forth")["visits"] == 2
    assert visits(nodes[0], "mandelbrot") == counted
    assert tab.complaints == []


def test_the_site_works_by_keyboard(nodes: list[Node], tabs: list[Tab]) -> None:
    tab, page = tabs[0], tabs[0].page
    page.goto(nodes[0].url)
    mark(page)
    page.locator('#videos [data-video="clock"] a').focus()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Eight seconds")
    expect(page.locator("h1")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#player video")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(page.locator("#back a")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Videos")

    field = page.locator("#video-id")
    field.focus()
    page.keyboard.type("two words")
    page.keyboard.press("Enter")
    expect(page.locator("#video-id-problem")).to_contain_text("cannot hold spaces")
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    field.fill("typed")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("typed")
    tab.comes_to(1, 5)
    hears_of(nodes[0], "typed", 1)
    assert is_marked(page)
    assert tab.complaints == []


def test_a_click_that_asks_for_a_new_tab_gets_one(nodes: list[Node], tabs: list[Tab]) -> None:
    page = tabs[0].page
    page.goto(nodes[0].url)
    before = visits(nodes[0], "life")
    with page.context.expect_page() as opened:
        page.locator('#videos [data-video="life"] a').click(modifiers=["Control"])
    opened.value.wait_for_load_state()
    expect(opened.value.locator("h1")).to_have_text("The game of life")
    expect(page.locator("h1")).to_have_text("Videos")
    assert visits(nodes[0], "life") == before + 1


def test_ids_that_mean_something_to_a_language_are_cards_and_videos(
    nodes: list[Node], tabs: list[Tab]
) -> None:
    tab, page = tabs[0], tabs[0].page
    for video in ("__proto__", "constructor", "toString"):
        for _ in range(60):
            fetch(nodes[0].url, f"/video/{video}")
    page.goto(nodes[0].url)
    tab.live()
    mark(page)
    for video in ("__proto__", "constructor", "toString"):
        counted = visits(nodes[0], video)
        expect(page.locator(f'#videos [data-video="{video}"] a')).to_have_text(video)
        tab.follow(video)
        expect(page.locator("h1")).to_have_text(video)
        tab.comes_to(counted + 1, 5)
        hears_of(nodes[0], video, counted + 1)
        page.locator("#back a").click()
    assert is_marked(page)
    assert tab.complaints == []


def test_one_socket_is_open_wherever_one_moves(nodes: list[Node], tabs: list[Tab]) -> None:
    tab, page = tabs[0], tabs[0].page
    sockets: list[WebSocket] = []
    send_ahead(nodes[0], "rings", "life")
    page.on("websocket", lambda socket: sockets.append(socket))
    page.goto(nodes[0].url)
    tab.live()
    tab.follow("rings")
    only(page, sockets, f"ws://127.0.0.1:{nodes[0].port}/live/rings")
    tab.follow("life")
    only(page, sockets, f"ws://127.0.0.1:{nodes[0].port}/live/life")
    page.go_back()
    only(page, sockets, f"ws://127.0.0.1:{nodes[0].port}/live/rings")
    # Also when one moves on before a socket has opened.
    tab.follow("life")
    page.go_back()
    page.locator("#back a").click()
    expect(page.locator("h1")).to_have_text("Videos")
    page.go_back()
    expect(page.locator("h1")).to_have_text("Rings on water")
    only(page, sockets, f"ws://127.0.0.1:{nodes[0].port}/live/rings")
    assert tab.complaints == []


def only(page: Page, sockets: list[WebSocket], address: str) -> None:
    """Wait until one socket is open, and that it is this one."""

    def opened() -> list[str]:
        # Playwright tells of sockets only while it is asked for something.
        page.evaluate("() => 0")
        return [socket.url for socket in sockets if not socket.is_closed()]

    until(lambda: opened() == [address], 5, f"no socket but {address}")


def test_without_a_network_views_are_drawn_and_visits_wait(
    nodes: list[Node], tabs: list[Tab]
) -> None:
    tab, page = tabs[0], tabs[0].page
    send_ahead(nodes[0], "life", "test-card")
    page.goto(nodes[0].url)
    tab.live()
    before = {video: visits(nodes[0], video) for video in ("life", "test-card")}
    page.context.set_offline(True)
    for video, title in (("life", "The game of life"), ("test-card", "Test card")):
        tab.follow(video)
        expect(page.locator("h1")).to_have_text(title)
        assert tab.visits() == before[video] + 1
    expect(page.locator("#waiting")).to_have_text("2 visits wait to be sent")
    page.context.set_offline(False)
    expect(page.locator("#waiting")).to_be_hidden(timeout=15_000)
    tab.comes_to(before["test-card"] + 1, 10)
    for video, counted in before.items():
        assert visits(nodes[0], video) == counted + 1
