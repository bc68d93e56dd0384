"""Pages behind a proxy that lets no WebSocket through, in a real browser."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Request, expect

from lab.clients import STRETCH, fetch, until
from lab.servers import Nginx, Node
from tests.test_embedding import Site
from tests.test_page import Tab


class OldProxy(Nginx):
    """The balancer as it would be without the two lines that pass an upgrade on."""

    def prepare(self) -> None:
        super().prepare()
        conf = self.folder / "nginx.conf"
        lines, left_out = re.subn(
            r" *proxy_set_header (Upgrade|Connection) .*\n", "", conf.read_text()
        )
        assert left_out == 2
        conf.write_text(lines.replace("http {", 'http { proxy_set_header Connection "";', 1))


@pytest.fixture(scope="module")
def proxy(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with OldProxy(tmp_path_factory.mktemp("proxy"), [f"127.0.0.1:{node.port}"]) as proxy:
        yield proxy


@pytest.fixture
def tab(browser: Browser) -> Iterator[Tab]:
    context = browser.new_context()
    yield Tab(context.new_page())
    context.close()


def noted(tab: Tab) -> list[str]:
    """Where streams of events were asked for, as they are."""
    streams: list[str] = []

    def note(asked: Request) -> None:
        if asked.resource_type == "eventsource":
            streams.append(asked.url)

    tab.page.on("request", note)
    return streams


def refusals(tab: Tab) -> list[str]:
    """What the browser says of the sockets; there must be nothing else."""
    assert all("WebSocket connection to" in words for words in tab.complaints), tab.complaints
    return tab.complaints


def test_a_video_page_becomes_live_by_events_and_counts_up(
    node: Node, proxy: Nginx, tab: Tab
) -> None:
    tab.open(f"{proxy.url}/video/cats")
    tab.comes_to(1, 5)
    for number in range(2, 6):
        fetch(node.url, "/video/cats")
        assert tab.comes_to(number, 5) < 1
    assert len(refusals(tab)) >= 2


def test_the_front_page_becomes_live_by_one_stream(node: Node, proxy: Nginx, tab: Tab) -> None:
    for video in ("front-a", "front-b"):
        fetch(node.url, f"/video/{video}")
    page, streams = tab.page, noted(tab)
    page.goto(proxy.url)
    tab.live()
    for video in ("front-a", "front-b"):
        fetch(node.url, f"/video/{video}")
    for video in ("front-a", "front-b"):
        expect(page.locator(f'#videos [data-video="{video}"] b')).to_have_text("2")
    [stream] = streams
    assert "video=front-a" in stream

    # From now on the page knows: wherever one moves, no socket is tried any more.
    tried = len(refusals(tab))
    tab.follow("front-a")
    tab.comes_to(3, 5)
    tab.live()
    fetch(node.url, "/video/front-a")
    tab.comes_to(4, 5)
    assert streams[1:] == [f"{proxy.url}/live/front-a"]
    assert len(refusals(tab)) == tried


def test_numbers_on_other_sites_are_live_by_events(node: Node, proxy: Nginx, tab: Tab) -> None:
    streams = noted(tab)
    with Site() as site:
        script = f'<script type="module" src="{proxy.url}/static/embed.js"></script>'
        tab.page.goto(site.show(f'{script}<b data-visits="else"></b><i data-visits="where"></i>'))
        expect(tab.page.locator("i")).to_have_text("0")
        until(lambda: tab.page.evaluate("() => 0") or streams, 5, "a stream")
        for number in ("1", "2", "3"):
            fetch(node.url, "/video/else")
            expect(tab.page.locator("b")).to_have_text(number, timeout=2000 * STRETCH)
    assert streams == [f"{proxy.url}/live?video=else&video=where"]
    assert refusals(tab)


def test_a_stream_is_open_again_after_the_node_restarted_and_the_number_never_falls(
    node: Node, proxy: Nginx, tab: Tab
) -> None:
    tab.open(f"{proxy.url}/video/dogs")
    tab.comes_to(1, 5)
    for end in (node.stop, node.kill):
        end()
        expect(tab.page.locator("#connection")).not_to_have_attribute("data-state", "live")
        node.start()
        node.wait_ready()
        tab.live()
        counted = fetch(node.url, "/video/dogs")["visits"]
        tab.comes_to(counted, 5)
    assert tab.shown() == sorted(tab.shown())
    assert tab.visits() == 3


def test_where_sockets_pass_no_events_are_asked_for_even_when_the_node_restarts(
    node: Node, tab: Tab
) -> None:
    streams = noted(tab)
    tab.open(f"{node.url}/video/mice")
    node.kill()

    def failed() -> int:
        tab.page.evaluate("0")  # the browser's turn to tell
        return sum("WebSocket connection to" in words for words in tab.complaints)

    until(lambda: failed() >= 3, 10, "more tries failed than refusals would be believed")
    node.start()
    node.wait_ready()
    tab.live()
    fetch(node.url, "/video/mice")
    tab.comes_to(2, 5)
    assert streams == []
