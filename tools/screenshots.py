"""Makes the pictures of the pages in docs/pictures: `make screenshots`.

Real nodes with some traffic, and a real browser; ffmpeg makes the pictures small.
"""

import random
import subprocess
import tempfile
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from html import escape
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tools.servers import ROOT, Nginx, Node, find, free_port
from tools.terminal import say
from tools.visitors import Client

FOLDER = ROOT / "docs/pictures"
QUALITY = 82
DESKTOP = {"width": 1120, "height": 720}
TALL = {"width": 1120, "height": 1010}
PHONE = {"width": 360, "height": 740}
QUIET = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]

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
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=find("chromium"), args=QUIET)
        stack.callback(browser.close)
        site(browser, nodes, nginx.url, Path(folder))
        split(browser, nodes, Path(folder))
    for picture in sorted(FOLDER.iterdir()):
        say(f"{picture.relative_to(ROOT)}: {picture.stat().st_size / 1024:.0f} KB")


def cluster(folder: Path, stack: ExitStack) -> tuple[list[Node], Nginx]:
    """Three nodes that have counted before, and nginx in front of them."""
    ports = [free_port() for _ in SHARES]
    peers = ",".join(f"http://127.0.0.1:{port}" for port in ports)
    settings = {"PEERS": peers, "DEV_MODE": "1", "DRAIN_TIME": "0.2"}
    nodes = [
        Node(folder / f"counter{number}", f"counter{number}", port, settings)
        for number, port in enumerate(ports, 1)
    ]
    for node in nodes:
        stack.callback(node.stop)
        node.launch()
    for node in nodes:
        node.wait_ready()
    for node, share in zip(nodes, SHARES, strict=True):
        for video, visits in VISITS.items():
            send(node, video, int(visits * share))
    nginx = stack.enter_context(Nginx(folder / "nginx", [f"127.0.0.1:{port}" for port in ports]))
    return nodes, nginx


def send(node: Node, video: str, visits: int) -> None:
    """Count many visits at a node."""
    body = b'[{"video": "%s", "count": %d}]' % (video.encode(), visits)
    with Client(node.url) as client:
        status, answer = client.ask("POST", "/visits", {"Content-Type": "application/json"}, body)
    assert status == 200, answer


def rush(page: Page, nodes: Sequence[Node], video: str, seconds: float) -> None:
    """Visits of one video at all nodes for a while, now more, now less, like on an evening."""
    chance = random.Random(7)
    pace = 6.0
    for _ in range(int(seconds * 4)):
        pace = min(12.0, max(1.0, pace + chance.uniform(-2, 2)))
        send(chance.choices(nodes, SHARES)[0], video, 1 + int(pace * chance.random()))
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
    """A node that is cut off and healed again, in four steps, and the console meanwhile."""
    one, other = nodes[0], nodes[-1]
    steps = [
        ("Count", "Visits come to both nodes. Both show the same number.", (34, 21), None),
        ("Cut", f"{other.name} hears nobody any more, and nobody hears it.", (0, 0), "cut"),
        ("Count on both sides", "Each counts on, and knows only its own side.", (58, 23), None),
        ("Heal", "They hear each other: both show the sum, exactly.", (0, 0), "heal"),
    ]
    frames = []
    with (
        opened(browser, f"{one.url}/video/cats", viewport=PHONE, color_scheme="light") as left,
        opened(browser, f"{other.url}/video/cats", viewport=PHONE, color_scheme="light") as right,
        opened(browser, f"{one.url}/cluster", viewport=DESKTOP, color_scheme="light") as console,
    ):
        for number, (title, words, visits, told) in enumerate(steps, 1):
            if told:
                with Client(other.url) as client:
                    assert client.ask("POST", f"/dev/{told}")[0] == 204
                left.wait_for_timeout(2500)
            for _ in range(8):
                for node, many in zip((one, other), visits, strict=True):
                    if many:
                        send(node, "cats", -(-many // 8))
                left.wait_for_timeout(300)
            left.wait_for_timeout(1500)
            cards = []
            for page, node in ((left, one), (right, other)):
                cards.append((node.name, folder / f"step-{number}-{node.name}.png"))
                page.locator(".total").screenshot(path=cards[-1][1])
            frames.append((f"{number}. {title}", words, cards))
            if title == "Count on both sides":
                console.wait_for_timeout(2500)
                keep(console, "console-split", folder)
    strip(browser, frames, folder)


Frame = tuple[str, str, list[tuple[str, Path]]]
"""One step of a strip: its title, what happens, and pictures with what they are of."""


def strip(browser: Browser, frames: Sequence[Frame], folder: Path) -> None:
    """Put the steps into one picture, by a page that is only made for that."""
    figures = ""
    for title, words, cards in frames:
        shown = "".join(
            f"<figure><img src='data:image/png;base64,{b64encode(card.read_bytes()).decode()}'>"
            f"<figcaption>{escape(name)}</figcaption></figure>"
            for name, card in cards
        )
        figures += f"<li><h2>{escape(title)}</h2><p>{escape(words)}</p><div>{shown}</div></li>"
    style = """
        body { margin: 0; padding: 24px; background: #f7f8f8; color: #1a2224; }
        body { font: 16px/1.4 system-ui, sans-serif; }
        ol { display: grid; grid-template-columns: 1fr 1fr; gap: 28px 32px; margin: 0; padding: 0; }
        li { list-style: none; } h2 { margin: 0; font-size: 20px; } p { margin: 4px 0 12px; }
        div { display: flex; gap: 12px; } figure { flex: 1; margin: 0; } img { width: 100%; }
        figcaption { text-align: center; font-weight: 600; }
    """
    with opened(browser, "about:blank", viewport={"width": 1180, "height": 400}) as page:
        page.set_content(f"<style>{style}</style><ol>{figures}</ol>")
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
