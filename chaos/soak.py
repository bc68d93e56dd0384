"""`make soak`: pages stay open for minutes while visits come in, and memory must not grow.

One node runs behind nginx. Half of the pages use WebSocket, half Server-Sent Events; two more are
in a real browser. Memory is read some twenty times. It is flat if, after a warm-up, the median of
the second half of the readings is hardly above that of the first.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

from playwright.sync_api import CDPSession, Page

from lab.browser import chromium
from lab.clients import Books, LivePages, Traffic, counted, until
from lab.cluster import Cluster
from lab.servers import Nginx
from lab.terminal import say

VIDEOS = 5
LOOKS = 20
WARM_UP = 0.2
"""The share of the time that is left out."""
MAX_GROWTH = 0.03
ROOM = 256 << 10
"""Bytes by which anything may grow: garbage that was not collected yet."""


class Look(NamedTuple):
    """What was seen at one moment; memory in bytes."""

    seconds: float
    visits: int
    pages: int
    node: int
    nginx: int
    video: int
    front: int
    elements: int


def video_of(number: int) -> str:
    """What is visited and watched."""
    return f"watched-{number % VIDEOS}"


@contextmanager
def browser_pages(url: str) -> Iterator[tuple[tuple[Page, CDPSession], tuple[Page, CDPSession]]]:
    """Open a video's page and the front page in a real browser, with access to their memory."""
    with chromium() as browser:
        opened = []
        for path in (f"/video/{video_of(0)}", "/"):
            page = browser.new_context().new_page()
            page.goto(url + path)
            opened.append((page, page.context.new_cdp_session(page)))
        yield opened[0], opened[1]


def heap(tools: CDPSession) -> int:
    """Return the bytes that a page's script and document use after a garbage collection."""
    tools.send("HeapProfiler.collectGarbage")
    usage = tools.send("Runtime.getHeapUsage")
    return int(usage["usedSize"] + usage["embedderHeapUsedSize"] + usage["backingStorageSize"])


def elements(page: Page) -> int:
    """Return how many elements a page has."""
    return int(page.evaluate("() => document.getElementsByTagName('*').length"))


def grown(looks: Sequence[Look], of: str) -> tuple[float, float]:
    """Return the medians of the first and the second half, after the warm-up."""
    warm = [look for look in looks if look.seconds >= WARM_UP * looks[-1].seconds]
    values = [getattr(look, of) for look in warm]
    half = len(values) // 2
    return median(values[:half]), median(values[half:])


def soak(seconds: float, many: int, folder: Path, stack: ExitStack) -> int:
    """Open the pages, look at memory, print the table; return the exit status."""
    cluster = Cluster(folder, stack, ("sqlite",), nginx=Nginx)
    (node,), nginx = cluster.nodes, cluster.nginx
    books = Books()
    traffic = Traffic([node.url], books, videos=VIDEOS, visitors=2, pause=0.08, prefix="watched")
    stack.enter_context(traffic)
    pages = stack.enter_context(LivePages(nginx.port))
    for number in range(many):
        pages.open(f"/live/{video_of(number // 2)}", events=number % 2 == 1)
    video, front = stack.enter_context(browser_pages(nginx.url))
    say(f"{many} pages, half of them by WebSocket, half by events")
    began = time.monotonic()
    looks: list[Look] = []
    say(" seconds  visits  pages  node MiB  nginx MiB  video KiB  front KiB  elements")
    for number in range(LOOKS + 1):
        # Waits in the browser, so that its pages go on.
        rest = began + seconds * number / LOOKS - time.monotonic()
        video[0].wait_for_timeout(max(0.0, rest) * 1000)
        look = Look(
            time.monotonic() - began,
            sum(books.acknowledged.values()),
            sum(page.is_open for page in pages.pages),
            node.memory(),
            nginx.memory(),
            heap(video[1]),
            heap(front[1]),
            elements(video[0]) + elements(front[0]),
        )
        looks.append(look)
        say(
            f"{look.seconds:8.0f} {look.visits:7} {look.pages:6} {look.node / 2**20:9.1f} "
            f"{look.nginx / 2**20:10.1f} {look.video / 2**10:10.0f} {look.front / 2**10:10.0f} "
            f"{look.elements:9}"
        )
    wrong = list(pages.lost)
    if looks[0].pages < many:
        wrong.append(f"only {looks[0].pages} pages could be opened")
    for of in ("node", "nginx", "video", "front"):
        first, second = grown(looks, of)
        flat = second <= first * (1 + MAX_GROWTH) + ROOM
        say(f"{of}: {first / 2**20:.2f} MiB, then {second / 2**20:.2f} MiB")
        if not flat:
            wrong.append(f"the memory of {of} grew")
    first, second = grown(looks, "elements")
    if second > first:
        wrong.append("the pages' elements grew")
    traffic.stop()
    shown = counted(node.url, [video_of(number) for number in range(VIDEOS)])
    right = {f"/live/{video}": visits for video, visits in shown.items()}
    try:
        until(
            lambda: all(page.visits == right[page.path] for page in pages.pages),
            10,
            "every page shows the last number",
        )
    except AssertionError as error:
        wrong.append(str(error))
    for complaint in wrong:
        say(complaint)
    say("flat" if not wrong else "not flat")
    return 1 if wrong else 0


def main() -> int:
    """Soak for as long as asked; the exit status says whether memory stayed flat."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--pages", type=int, default=200)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        return soak(asked.seconds, asked.pages, Path(folder), stack)


if __name__ == "__main__":
    sys.exit(main())
