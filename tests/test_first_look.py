"""What somebody sees first of the pages: on a phone, without JavaScript, with long names."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from lab.cluster import Cluster
from lab.servers import ROOT, Node
from tests.test_embedding import count

CLIPS = {clip["id"] for clip in json.loads((ROOT / "static/clips/clips.json").read_bytes())}
NAMES = [f"counter-of-the-house-{number}" for number in (1, 2, 3)]
LARGEST = 2**53 - 1
SIZES = {"phone": (390, 844), "narrow phone": (360, 740), "desktop": (1280, 800)}


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    """Three nodes whose names share a beginning, with more visits of an id that has no clip."""
    settings = {"DRAIN_TIME": "0", "DEV_MODE": "1"}
    own = [{"NAME": name} for name in NAMES]
    with ExitStack() as stack:
        cluster = Cluster(tmp_path_factory.mktemp("look"), stack, settings=settings, own=own)
        for video, visits in (("largest", LARGEST), ("many", 90), ("clock", 7)):
            count(cluster.nodes[0].url, video, visits)
        yield cluster.nodes


@contextmanager
def opened(browser: Browser, address: str, size: str = "desktop", **context: Any) -> Iterator[Page]:
    """A page of this size."""
    width, height = SIZES[size]
    viewport = ViewportSize(width=width, height=height)
    with browser.new_context(locale="en-GB", viewport=viewport, **context) as own:
        page = own.new_page()
        page.goto(address)
        yield page


def cards(page: Page) -> list[str]:
    """The videos on the cards, in order."""
    shown: list[str] = page.locator("#videos > li").evaluate_all(
        "(cards) => cards.map(({dataset}) => dataset.video)"
    )
    return shown


def test_the_sites_own_videos_come_before_ids_without_a_clip(
    browser: Browser, nodes: list[Node]
) -> None:
    with urlopen(nodes[0].url + "/", timeout=10) as answer:
        rendered = re.findall(r'<li data-video="([^"]+)"', answer.read().decode())
    expected = ["clock", *[video for video in rendered[1:6] if video in CLIPS], "largest", "many"]
    assert rendered[:8] == expected
    assert set(rendered[:6]) == CLIPS
    with opened(browser, nodes[0].url) as page:
        expect(page.locator("#connection")).to_have_attribute("data-state", "live")
        assert cards(page)[:8] == expected
        # Also when the list comes anew, and with videos that come to the list later.
        count(nodes[1].url, "later", 100)
        page.locator('#videos [data-video="later"]').wait_for(timeout=15_000)
        assert set(cards(page)[:6]) == CLIPS
        page.wait_for_function(
            """() => [...document.querySelectorAll("#videos > li")]
                .map(({dataset}) => dataset.video).join().includes("largest,later,many")""",
            timeout=15_000,
        )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_the_search_box_stands_at_the_top(
    browser: Browser, nodes: list[Node], size: str, scripts: bool
) -> None:
    with opened(browser, nodes[0].url, size, java_script_enabled=scripts) as page:
        field, first = page.locator("#video-id"), page.locator("#videos > li").first
        box, card = field.bounding_box(), first.bounding_box()
        assert box is not None
        assert card is not None
        assert box["y"] + box["height"] < card["y"] < SIZES[size][1] / 2


def test_without_scripts_the_page_of_a_video_has_its_number_and_waits_for_nothing(
    browser: Browser, nodes: list[Node]
) -> None:
    with opened(browser, f"{nodes[0].url}/video/clock", java_script_enabled=False) as page:
        expect(page.locator("#visits")).to_have_text(re.compile("^[0-9]+$"))
        expect(page.locator("#visits")).to_be_visible()
        assert "Connecting" not in page.content()
        expect(page.locator("#connection")).to_be_hidden()
        # What the browser shows: a locator's text leaves out what is for pages without scripts.
        assert "Without JavaScript this number is not updated" in page.inner_text("main")
        expect(page.locator("video")).to_be_visible()
        assert nothing_to_press(page)
    with opened(browser, f"{nodes[0].url}/video/clock") as page:
        expect(page.locator("#connection")).to_have_text("Live")
        expect(page.get_by_role("button", name="Counts by node")).to_be_visible()


def nothing_to_press(page: Page) -> bool:
    """Whether there is no button that only a script could obey."""
    buttons = page.get_by_role("button").all()
    return all(button.get_attribute("type") != "button" for button in buttons)


def test_without_scripts_the_front_page_lists_videos_and_opens_any_other(
    browser: Browser, nodes: list[Node]
) -> None:
    with opened(browser, nodes[0].url, java_script_enabled=False) as page:
        assert "Connecting" not in page.content()
        assert cards(page)[0] == "clock"
        expect(page.locator('#videos [data-video="clock"] b')).to_be_visible()
        assert nothing_to_press(page)
        field = page.get_by_label("Open a video")
        # The browser itself refuses what is no id.
        field.fill("two words")
        field.press("Enter")
        assert page.url == nodes[0].url + "/"
        field.fill("typed.by_hand~1")
        field.press("Enter")
        expect(page).to_have_url(f"{nodes[0].url}/video/typed.by_hand~1")
        expect(page.locator("#visits")).to_have_text("1")


@pytest.mark.parametrize("wrong", ["two%20words", "%3Cb%3E", "v" * 129, "//elsewhere", "a%0d%0ab"])
def test_what_the_form_sends_and_is_no_id_is_refused_on_the_page(
    nodes: list[Node], wrong: str
) -> None:
    with pytest.raises(HTTPError) as refused:
        urlopen(f"{nodes[0].url}/?video={wrong}", timeout=10)
    with refused.value as answer:
        assert answer.code == 400
        page = answer.read().decode()
    assert "This is no id of a video." in page
    assert "<b>" not in page.partition('id="video-id"')[2].partition(">")[0]


def test_without_scripts_the_cluster_page_shows_the_members_and_waits_for_nothing(
    browser: Browser, nodes: list[Node]
) -> None:
    with opened(browser, f"{nodes[0].url}/cluster", java_script_enabled=False) as page:
        for name in NAMES:
            expect(page.locator("#members tbody th", has_text=name)).to_be_visible()
        expect(page.get_by_text("Asking the nodes")).to_be_hidden()
        assert "needs JavaScript" in page.inner_text("main")
        assert nothing_to_press(page)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("video", ["clock", "largest"])
def test_names_that_share_a_beginning_are_told_apart(
    browser: Browser, nodes: list[Node], size: str, video: str
) -> None:
    with opened(browser, f"{nodes[0].url}/cluster?video={video}", size) as page:
        expect(page.locator("#chart .name")).to_have_count(3)
        for place in ("#nodes tbody .name", "#chart .name"):
            seen = page.locator(place).all_text_contents()
            assert len(set(seen)) == 3, seen
            assert [text[-1] for text in seen] == ["1", "2", "3"]
        cut = page.locator("#nodes tbody .name").evaluate_all(
            """(names) => names.filter((name) => {
                const {right, height} = name.getBoundingClientRect();
                const head = name.closest("th").getBoundingClientRect();
                return right > head.right + 1 || height > 30 || name.scrollWidth > head.width;
            }).map((name) => name.textContent)"""
        )
        assert cut == []
        for name in NAMES:
            head = page.locator("#nodes").get_by_role("rowheader", name=name, exact=True)
            expect(head).to_have_attribute("title", name)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= SIZES[size][0]
