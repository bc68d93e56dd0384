"""Makes the pictures of the pages in docs/pictures: `make screenshots`.

Real nodes with some traffic, and a real browser; ffmpeg makes the pictures small.
"""

import random
import subprocess
import tempfile
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect

from lab.browser import chromium
from lab.clients import fill
from lab.cluster import Cluster
from lab.servers import ROOT, Nginx, Node, find
from lab.terminal import say

FOLDER = ROOT / "docs/pictures"
QUALITY = 82
DESKTOP = {"width": 1120, "height": 720}
TALL = {"width": 1120, "height": 1010}
NARROW = {"width": 680, "height": 1010}
PHONE = {"width": 360, "height": 740}

VISITS = {
    "clock": 48_213,
    "mandelbrot": 31_907,
    "life": 29_544,
    "rings": 12_480,
    "test-card": 7_361,
    "slow-colours": 2_048,
    "cats": 18_226,
    "first-steps": 954,
}
"""How many visits the videos have at first, over all nodes."""
SHARES = (0.46, 0.33, 0.21)
RUSH = 75
"""Seconds of visits before a picture, so that there is something to be seen in the curves."""


def main() -> None:
    """Make all pictures anew."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        nodes, nginx = cluster(Path(folder), stack)
        browser = stack.enter_context(chromium())
        site(browser, nodes, nginx.url, Path(folder))
        tour(browser, nodes, Path(folder))
        split(browser, nodes, Path(folder))
    for picture in sorted(FOLDER.iterdir()):
        say(f"{picture.relative_to(ROOT)}: {picture.stat().st_size / 1024:.0f} KB")


def cluster(folder: Path, stack: ExitStack) -> tuple[list[Node], Nginx]:
    """Three nodes that have counted before, and nginx in front of them."""
    settings = {"DEV_MODE": "1", "DRAIN_TIME": "0.2"}
    started = Cluster(folder, stack, settings=settings, nginx=Nginx)
    for node, share in zip(started.nodes, SHARES, strict=True):
        fill(node.url, {video: int(visits * share) for video, visits in VISITS.items()})
    return started.nodes, started.nginx


def rush(page: Page, nodes: Sequence[Node], video: str, seconds: float) -> None:
    """Visits of one video at all nodes for a while, now more, now less, like on an evening."""
    chance = random.Random(7)
    pace = 6.0
    for _ in range(int(seconds * 4)):
        pace = min(12.0, max(1.0, pace + chance.uniform(-2, 2)))
        chosen = chance.choices(nodes, SHARES)[0]
        fill(chosen.url, {video: 1 + int(pace * chance.random())})
        page.wait_for_timeout(250)


@contextmanager
def opened(browser: Browser, address: str, **context: Any) -> Iterator[Page]:
    """A page as a reader in English sees it."""
    with browser.new_context(device_scale_factor=1.5, locale="en-GB", **context) as own:
        page = own.new_page()
        page.goto(address)
        yield page


def site(browser: Browser, nodes: Sequence[Node], url: str, folder: Path) -> None:
    """The pages that people watch: in light, in dark, on a phone."""
    with (
        opened(browser, f"{url}/video/clock", viewport=TALL, color_scheme="light") as light,
        opened(browser, f"{url}/video/clock", viewport=TALL, color_scheme="dark") as dark,
        opened(browser, f"{url}/video/clock", viewport=PHONE, color_scheme="dark") as phone,
    ):
        light.wait_for_timeout(500)
        rush(light, nodes, "clock", RUSH)
        for page, name in ((light, "video-light"), (dark, "video-dark"), (phone, "video-phone")):
            page.locator("video").evaluate("(it) => { it.currentTime = 3.2; return it.play(); }")
            if page is not phone:
                page.locator("#by-node-toggle").click()
            page.evaluate("() => scrollTo(0, 0)")
            page.wait_for_timeout(700)
            keep(page, name, folder)
    for scheme in ("light", "dark"):
        with opened(browser, url, viewport=DESKTOP, color_scheme=scheme) as page:
            expect(page.locator("#connection")).to_have_attribute("data-state", "live")
            page.wait_for_timeout(700)
            keep(page, f"front-{scheme}", folder)
    with opened(browser, url, viewport=PHONE, color_scheme="light") as page:
        expect(page.locator("#connection")).to_have_attribute("data-state", "live")
        page.wait_for_timeout(700)
        keep(page, "front-phone", folder)


def split(browser: Browser, nodes: Sequence[Node], folder: Path) -> None:
    """The console while a node is cut off and visits go on at both sides."""
    one, other = nodes[0], nodes[-1]
    address = f"{one.url}/cluster?video=cats"
    with opened(browser, address, viewport=TALL, color_scheme="light") as page:
        rush(page, nodes, "cats", RUSH)
        page.get_by_role("button", name=f"Cut off {other.name}").click()
        rush(page, nodes, "cats", RUSH / 2)
        page.wait_for_timeout(1500)
        keep(page, "console-split", folder)
        page.get_by_role("button", name=f"Heal {other.name}").click()
        expect(page.locator("#agreement")).to_have_text("The numbers are the same.")


def tour(browser: Browser, nodes: Sequence[Node], folder: Path) -> None:
    """The four steps of the tour, each when it is done."""
    address = f"{nodes[0].url}/cluster?video=first-steps"
    frames = []
    with opened(browser, address, viewport=NARROW, color_scheme="light") as page:
        go, title = page.locator("#tour-go"), page.locator("#tour-title")
        # Neither is a part of the tour.
        for unused in ("#choose", "#sides-title"):
            page.locator(unused).evaluate("it => { it.hidden = true; }")
        page.wait_for_timeout(20_000)
        for step in range(1, 5):
            go.click()
            expect(title).to_contain_text(f"{step} of 4")
            go.click()
            expect(go).to_contain_text("Done", timeout=15_000)
            page.wait_for_timeout(8000)
            # No frame around the button that was pressed.
            go.blur()
            taken = folder / f"step-{step}.png"
            top = page.locator("#tour").bounding_box()
            bottom = page.locator("#chart").bounding_box()
            assert top
            assert bottom
            height = bottom["y"] + bottom["height"] + 16 - top["y"]
            whole = {"x": 0, "y": top["y"] - 8, "width": NARROW["width"], "height": height}
            page.screenshot(path=taken, clip=whole)  # type: ignore[arg-type]
            frames.append(taken)
        go.click()
    strip(browser, frames, folder)


def strip(browser: Browser, frames: Sequence[Path], folder: Path) -> None:
    """Put pictures into one, two in a row, by a page that is only made for that."""
    shown = "".join(
        f"<img src='data:image/png;base64,{b64encode(frame.read_bytes()).decode()}'>"
        for frame in frames
    )
    style = """
        body { display: grid; grid-template-columns: 1fr 1fr; gap: 16px; margin: 0; padding: 16px; }
        body { background: #f7f8f8; } img { width: 100%; }
    """
    with opened(browser, "about:blank", viewport={"width": 1060, "height": 400}) as page:
        page.set_content(f"<style>{style}</style>{shown}")
        taken = folder / "tour.png"
        page.screenshot(path=taken, full_page=True)
        shrink(taken, "tour")


def keep(page: Page, name: str, folder: Path) -> None:
    """Take a picture of what is seen, and keep it small."""
    taken = folder / f"{name}.png"
    page.screenshot(path=taken)
    shrink(taken, name)


def shrink(picture: Path, name: str) -> None:
    """Write a picture as a small WebP."""
    command = [find("ffmpeg") or "ffmpeg", "-y", "-loglevel", "error", "-i", str(picture)]
    command += ["-c:v", "libwebp", "-quality", str(QUALITY), "-compression_level", "6"]
    subprocess.run([*command, str(FOLDER / f"{name}.webp")], check=True)


if __name__ == "__main__":
    main()
