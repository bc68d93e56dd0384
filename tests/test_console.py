"""The console in a real browser, on real nodes: what it shows of them, and the tour."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from lab.clients import Client, fetch, until
from lab.servers import Nginx, Node
from tests.test_quality import AXE

PHONE = 360
NONE = "\u2013"
"""What stands for a number that nobody told."""


pytestmark = pytest.mark.nodes(3, DEV_MODE="1")


@contextmanager
def opened(
    browser: Browser, address: str, refused: str = "no status", **context: Any
) -> Iterator[Page]:
    """A page; fails if its console holds anything but that a request was refused with a status."""
    with browser.new_context(locale="en-GB", **context) as own:
        page = own.new_page()
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(address)
        yield page
        assert [text for text in complaints if f"with a status of {refused}" not in text] == []


def side(page: Page, name: str) -> Locator:
    """The row of a node beside the chart."""
    return page.locator(f'#nodes tr[data-node="{name}"]')


def numbers(page: Page) -> list[str]:
    """What the nodes show, as it is written."""
    return page.locator("#nodes tbody .visits").all_text_contents()


def shows(page: Page, *expected: str) -> None:
    """Wait until the nodes show these numbers."""
    expect(page.locator("#nodes tbody .visits")).to_have_text(list(expected), timeout=10_000)


def ends(page: Page) -> list[float]:
    """How low in the chart the lines end."""
    marks = page.locator("#chart .end")
    return [float(str(mark.get_attribute("cy"))) for mark in marks.all()]


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def test_a_split_and_its_healing_are_watched(browser: Browser, nodes: list[Node]) -> None:
    with opened(browser, f"{nodes[0].url}/cluster?video=split") as page:
        button(page, "50 visits to counter2").click()
        shows(page, "50", "50", "50")
        agreement = page.locator("#agreement")
        expect(agreement).to_have_text("The numbers are the same.")
        assert len(set(ends(page))) == 1

        button(page, "Cut off counter3").click()
        expect(button(page, "Heal counter3")).to_be_visible()
        expect(agreement).to_contain_text("Cut off: counter3.")
        for _ in range(24):
            fetch(nodes[0].url, "/video/split")
        button(page, "50 visits to counter1").click()
        button(page, "50 visits to counter3").click()
        shows(page, "124", "124", "100")
        expect(agreement).to_contain_text("The numbers have parted.")
        expect(side(page, "counter3").locator(".missing")).to_have_text("24")
        expect(side(page, "counter1").locator(".missing")).to_have_text("0")
        upper, same, lower = ends(page)
        assert upper == same < lower
        cut = page.locator("#members tr", has_text="counter3~").locator(".state")
        expect(cut).to_have_text("cut off")

        button(page, "Heal counter3").click()
        shows(page, "174", "174", "174")
        expect(agreement).to_have_text("The numbers are the same.", timeout=10_000)
        expect(cut).to_have_text("ready", timeout=10_000)
        page.wait_for_function(
            """() => new Set([...document.querySelectorAll("#chart .end")]
                .map((end) => end.getAttribute("cy"))).size === 1"""
        )
        for node in nodes:
            assert fetch(node.url, "/count/split")["visits"] == 174


def test_the_tour_goes_from_start_to_end_by_keyboard(browser: Browser, nodes: list[Node]) -> None:
    with opened(browser, f"{nodes[0].url}/cluster?video=tour") as page:
        shows(page, "0", "0", "0")
        go, title = page.locator("#tour-go"), page.locator("#tour-title")
        reach(page, "tour-go")
        for label, heading in (
            ("Start the tour", "1 of 4: Count"),
            ("Send 50 visits", None),
            ("Done: next step", "2 of 4: Cut"),
            ("Cut counter3 off", None),
            ("Done: next step", "3 of 4: Count on both sides"),
            ("Send visits to both", None),
            ("Done: next step", "4 of 4: Heal"),
            ("Heal counter3", None),
            ("Done: finish", "That was it"),
        ):
            expect(go).to_have_text(label, timeout=15_000)
            page.keyboard.press("Enter")
            if heading:
                expect(title).to_have_text(heading)
            if label == "Send visits to both":
                shows(page, "100", "100", "70")
        shows(page, "120", "120", "120")
        assert page.locator("#tour-steps .done").count() == 4

        # Begun again and left in the middle, nothing stays cut off.
        page.keyboard.press("Enter")
        expect(title).to_have_text("1 of 4: Count")
        button(page, "50 visits to counter1").click()
        reach(page, "tour-go")
        for label in ("Done: next step", "Cut counter3 off", "Done: next step"):
            expect(go).to_have_text(label, timeout=15_000)
            page.keyboard.press("Enter")
        expect(title).to_have_text("3 of 4: Count on both sides")
        page.keyboard.press("Escape")
        expect(title).to_have_text("See a split, and how it heals")
        expect(go).to_be_focused()
        expect(button(page, "Cut off counter3")).to_be_visible(timeout=10_000)
        until(lambda: numbers(page) == ["170"] * 3, 10, "170 at each node")


def reach(page: Page, name: str) -> None:
    """Move the focus to an element by the keyboard."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.id") == name:
            return
    raise AssertionError(f"Tab does not reach #{name}")


def test_without_dev_mode_nothing_is_there_to_press(browser: Browser, tmp_path: Path) -> None:
    with Node(tmp_path, "counter1", settings={"DRAIN_TIME": "0"}) as node:
        node.wait_ready()
        fetch(node.url, "/video/most")
        with Client(node.url) as client:
            for act in ("cut", "heal", "burst"):
                assert client.ask("POST", f"/dev/{act}?video=most")[0] == 404
        with opened(browser, f"{node.url}/cluster") as page:
            # The most visited video, when none is chosen.
            expect(page.locator("#sides-title")).to_have_text("most, side by side")
            shows(page, "1")
            expect(page.locator("#chart .name")).to_have_text("counter1")
            assert page.locator("#tour, .try, main button:not(#choose button)").count() == 0
            assert page.get_by_text("tour").count() == 0


def test_an_id_that_is_none_is_refused_kindly(browser: Browser, nodes: list[Node]) -> None:
    script = "<script>alert(1)</script>"
    wrong = f"{nodes[0].url}/cluster?video=%3Cscript%3Ealert(1)%3C/script%3E"
    with opened(browser, wrong, refused="400") as page:
        expect(page.locator("main")).to_contain_text(script)
        expect(page.locator("main")).to_contain_text("use 1 to 128 characters out of")
        assert page.locator("main script").count() == 0

        page.goto(f"{nodes[0].url}/cluster")
        field, problem = page.get_by_label("Video", exact=True), page.locator("#chosen-problem")
        field.fill(script)
        field.press("Enter")
        expect(problem).to_contain_text("An id is made of the letters A to Z")
        expect(field).to_be_focused()
        field.fill("__proto__.~-_9")
        field.press("Enter")
        expect(page).to_have_url(f"{nodes[0].url}/cluster?video=__proto__.%7E-_9")
        expect(page.locator("#sides-title")).to_have_text("__proto__.~-_9, side by side")
        shows(page, "0", "0", "0")
        expect(problem).to_be_hidden()


def test_a_node_is_killed_while_the_console_is_open(browser: Browser, nodes: list[Node]) -> None:
    with opened(browser, f"{nodes[0].url}/cluster?video=killed", refused="502") as page:
        button(page, "50 visits to counter2").click()
        shows(page, "50", "50", "50")
        nodes[1].kill()
        row = page.locator("#members tr", has_text="counter2~")
        expect(side(page, "counter2").locator(".missing")).to_have_text("no answer")
        expect(page.locator("#agreement")).to_contain_text("No answer from counter2.")
        expect(row.locator(".state")).to_have_text("silent", timeout=10_000)
        button(page, "Cut off counter2").click()
        expect(page.locator("#problem")).to_contain_text("counter2 did not do that")
        button(page, "50 visits to counter1").click()
        shows(page, "100", NONE, "100")
        pieces = page.locator("#chart .trace").count()

        nodes[1].start()
        shows(page, "100", "100", "100")
        # Where it had no answer, its line has a gap.
        expect(page.locator("#chart .trace")).to_have_count(pieces + 1)
        expect(row.locator(".state")).to_have_text("ready", timeout=10_000)
        expect(row.locator(".behind")).to_have_text("in sync", timeout=10_000)


def test_all_facts_of_the_members_are_there(browser: Browser, nodes: list[Node]) -> None:
    with opened(browser, f"{nodes[0].url}/cluster?video=facts") as page:
        for node in nodes:
            row = page.locator("#members tr", has_text=f"{node.name}~")
            expect(row.locator(".store")).to_have_text("sqlite")
            expect(row.locator(".transport")).to_have_text("mesh")
            for field in ("visits", "runs", "folded", "visits-pace", "messages-pace"):
                expect(row.locator(f".{field}")).to_have_text(re.compile("[0-9]"))
        pace = page.locator("#members tr", has_text="counter2~").locator(".visits-pace")
        button(page, "50 visits to counter2").click()
        expect(pace).not_to_have_text("0.0", timeout=10_000)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_scrolling_sideways_and_axe_finds_no_violation(
    browser: Browser, nodes: list[Node], scheme: str
) -> None:
    phone = {"width": PHONE, "height": 740}
    wide = "w" * 128
    address = f"{nodes[0].url}/cluster?video={wide}"
    with opened(browser, address, viewport=phone, color_scheme=scheme) as page:
        shows(page, "0", "0", "0")
        page.locator("#tour-go").click()
        expect(page.locator("#tour-title")).to_have_text("1 of 4: Count")
        assert page.evaluate("() => document.documentElement.scrollWidth") <= PHONE
        page.evaluate(AXE)
        found = page.evaluate("() => axe.run({resultTypes: ['violations']})")
        assert [rule["nodes"] for rule in found["violations"]] == []
        for place in ("#nodes", "#members", "#chart"):
            within = page.locator(place).evaluate("it => it.getBoundingClientRect().right")
            assert within <= PHONE


def test_behind_a_balancer_the_view_is_of_one_node(
    browser: Browser, nodes: list[Node], tmp_path: Path
) -> None:
    with (
        Nginx(tmp_path, [f"127.0.0.1:{node.port}" for node in nodes]) as nginx,
        opened(browser, f"{nginx.url}/cluster?video=one-view") as page,
    ):
        page.evaluate(
            """() => {
                window.heard = 0;
                const note = (records) => { window.heard += records.length; };
                const rows = document.querySelector("#members tbody");
                new MutationObserver(note).observe(rows, {childList: true, subtree: true});
            }"""
        )
        node = page.locator("#node").text_content()
        page.wait_for_function("() => window.heard > 12")
        assert page.locator("#node").text_content() == node
        assert page.locator("#members .self").count() == 1
