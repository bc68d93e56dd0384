"""What stands quietly below a number: the visits that do not count."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from counter.web.site import apart_in_words
from lab.clients import fetch, until
from lab.servers import ROOT, Node
from tests.agents import BROWSERS, CRAWLERS
from tests.test_http import ask, browse, get

AXE = (ROOT / "node_modules/axe-core/axe.min.js").read_text()
pytestmark = pytest.mark.nodes(1, DRAIN_TIME="0")


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that must not complain, as wide as a telephone."""
    context = browser.new_context(
        viewport={"width": 360, "height": 740}, locale="de-DE", bypass_csp=True
    )
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    yield page
    context.close()
    assert complaints == []


def visit(node: Node, video: str, agent: str, many: int = 1) -> None:
    for _ in range(many):
        assert get(node, f"/video/{video}", User_Agent=agent).status == 200


@pytest.mark.parametrize(
    ("apart", "words"),
    [
        ({"bot": 12, "repeat": 3}, "12 by crawlers, 3 repeats"),
        ({"repeat": 1, "bot": 0}, "1 repeat"),
        ({"blocked": 7}, "7 while taken down"),
        ({"another": 5}, ""),
        ({}, ""),
    ],
)
def test_the_words_are_those_of_the_script(apart: dict[str, int], words: str) -> None:
    """tests/js/footnotes.test.js has the same."""
    assert apart_in_words(apart) == words


def test_a_page_says_what_does_not_count_also_without_a_script(node: Node) -> None:
    visit(node, "told", BROWSERS[0])
    quiet = browse(node, "/video/told").body.decode()
    assert re.search(r'<p id="not-counted" class="note" hidden></p>', quiet)
    visit(node, "told", CRAWLERS[0], 12)
    told = browse(node, "/video/told").body.decode()
    assert '<p id="not-counted" class="note">+ 12 by crawlers, not counted</p>' in told


def test_a_page_says_what_does_not_count_on_a_telephone_too(node: Node, page: Page) -> None:
    visit(node, "seen", CRAWLERS[0], 1_234)
    page.goto(f"{node.url}/video/seen")
    note = page.locator("#not-counted")
    expect(note).to_have_text("+ 1.234 by crawlers, not counted")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.evaluate(AXE)
    assert page.evaluate("() => axe.run({resultTypes: ['violations']})")["violations"] == []
    # What stood below one number does not stay below that of another.
    visit(node, "quiet", BROWSERS[0])
    page.evaluate("document.querySelector('#back a').click()")
    page.locator('#videos [data-video="quiet"] a').click()
    expect(page.locator("#heading")).to_have_text("quiet")
    expect(note).to_be_hidden()
    page.go_back()
    page.locator('#videos [data-video="seen"] a').click()
    expect(note).to_have_text("+ 1.234 by crawlers, not counted")


def test_a_page_that_moved_asks_what_does_not_count(node: Node, page: Page) -> None:
    visit(node, "asked", BROWSERS[0], 3)
    visit(node, "asked", CRAWLERS[0], 2)
    page.goto(node.url)
    page.locator('#videos [data-video="asked"] a').click()
    expect(page.locator("#not-counted")).to_have_text("+ 2 by crawlers, not counted")


def test_the_console_says_what_all_nodes_did_not_count(node: Node, page: Page) -> None:
    before = fetch(node.url, "/cluster")["not_counted"].get("bot", 0)
    visit(node, "some", CRAWLERS[0], 2)
    assert fetch(node.url, "/cluster")["not_counted"]["bot"] == before + 2
    page.goto(f"{node.url}/cluster")
    expect(page.locator("#apart")).to_have_text(re.compile(r"^[0-9.]+ by crawlers$"))
    shown = page.locator("#apart").inner_text()
    visit(node, "some", CRAWLERS[0])
    expect(page.locator("#apart")).not_to_have_text(shown)


def test_a_page_may_count_its_visit_once_its_video_was_played(node: Node, page: Page) -> None:
    def visits() -> int:
        return int(fetch(node.url, "/count/clock")["visits"])

    before = visits()
    page.goto(f"{node.url}/video/clock?after=1.2")
    expect(page.locator("#visits")).to_have_text(str(before))
    page.evaluate("document.querySelector('video').play()")
    until(lambda: page.evaluate("document.querySelector('video').currentTime") > 0.3, 5, "it plays")
    assert visits() == before
    until(lambda: visits() == before + 1, 10, "the visit")
    expect(page.locator("#visits")).to_have_text(str(before + 1))
    until(lambda: page.evaluate("document.querySelector('video').currentTime") > 4, 10, "it plays")
    assert visits() == before + 1


@pytest.mark.parametrize("after", ["x", "-1", "3601", "1e3", "", "1.2345"])
def test_what_is_no_number_of_seconds_is_refused_in_words(node: Node, after: str) -> None:
    answer = browse(node, f"/video/cats?after={after}")
    assert answer.status == 400
    assert "is no number of seconds from 0 to 3600" in answer.body.decode()


def test_only_a_page_may_put_its_visit_off(node: Node) -> None:
    before = fetch(node.url, "/count/program")["visits"]
    assert get(node, "/video/program?after=10").json()["visits"] == before + 1
    assert ask(node, "GET", "/video/program?after=x").status == 200
    browse(node, "/video/program?after=0")
    assert fetch(node.url, "/count/program")["visits"] == before + 3
