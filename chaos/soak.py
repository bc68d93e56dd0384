"""`make watch`: pages stay open for minutes while visits come in, and no memory may grow.

One node behind nginx. Half of the pages watch by WebSocket, half by Server-Sent Events; two more
are real ones, in a real browser. Memory is looked at some twenty times. It is flat if the median
of the second half of the looks is hardly above that of the first, after a while to warm up.
"""

import argparse
import asyncio
import sys
import tempfile
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from playwright.sync_api import CDPSession, Page
from websockets.asyncio.client import connect

from benchmarks.contenders import memory
from lab.browser import chromium
from lab.clients import Books, Traffic, counted, until
from lab.servers import Nginx, Node, free_port
from lab.terminal import say

VIDEOS = 5
LOOKS = 20
WARM_UP = 0.2
"""The part of the time that is not looked at."""
MAX_GROWTH = 0.03
ROOM = 256 << 10
"""Bytes by which anything may grow, however small it is: the garbage of a moment."""


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


class Pages:
    """Pages that watch one video each, without a browser, in a thread of their own."""

    def __init__(self, host: str, port: int, many: int) -> None:
        self.open = 0
        self.newest: dict[int, int] = {}
        """The number that each page heard last."""
        self.lost: list[str] = []
        self._host, self._port, self._many = host, port, many
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="pages")

    def __enter__(self) -> "Pages":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._all.cancel)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._watch_all())
            except asyncio.CancelledError:
                return

    async def _watch_all(self) -> None:
        self._all = asyncio.gather(
            *(self._kept(number, self._watch(number)) for number in range(self._many))
        )
        await self._all

    def _watch(self, number: int) -> Coroutine[Any, Any, None]:
        return self._events(number) if number % 2 else self._socket(number)

    async def _kept(self, number: int, page: Coroutine[Any, Any, None]) -> None:
        try:
            await page
            self.lost.append(f"page {number} was closed")
        except Exception as error:
            self.lost.append(f"page {number}: {error!r}")

    async def _socket(self, number: int) -> None:
        address = f"ws://{self._host}:{self._port}/live/{video_of(number)}"
        async with connect(address, compression=None) as socket:
            self.open += 1
            async for message in socket:
                self._note(number, str(message))

    async def _events(self, number: int) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        writer.write(
            f"GET /live/{video_of(number)} HTTP/1.1\r\nHost: {self._host}\r\n"
            "Accept: text/event-stream\r\n\r\n".encode()
        )
        status = await reader.readline()
        if b" 200 " not in status:
            raise ConnectionError(f"no events: {status!r}")
        self.open += 1
        try:
            while line := await reader.readline():
                if line.startswith(b"data:"):
                    self._note(number, line.removeprefix(b"data:").decode())
        finally:
            writer.close()

    def _note(self, number: int, message: str) -> None:
        self.newest[number] = int(message.partition('"visits":')[2].partition(",")[0])


def video_of(number: int) -> str:
    """What a page watches: the videos that visitors visit, in turn."""
    return f"watched-{number % VIDEOS}"


@contextmanager
def browser_pages(url: str) -> Iterator[tuple[tuple[Page, CDPSession], tuple[Page, CDPSession]]]:
    """A page of a video and the front page in a real browser, with a way into their memory."""
    with chromium() as browser:
        opened = []
        for path in (f"/video/{video_of(0)}", "/"):
            page = browser.new_context().new_page()
            page.goto(url + path)
            opened.append((page, page.context.new_cdp_session(page)))
        yield opened[0], opened[1]


def heap(tools: CDPSession) -> int:
    """Bytes that a page's script and document use after their garbage was collected."""
    tools.send("HeapProfiler.collectGarbage")
    usage = tools.send("Runtime.getHeapUsage")
    return int(usage["usedSize"] + usage["embedderHeapUsedSize"] + usage["backingStorageSize"])


def elements(page: Page) -> int:
    """How many elements a page has."""
    return int(page.evaluate("() => document.getElementsByTagName('*').length"))


def grown(looks: Sequence[Look], of: str) -> tuple[float, float]:
    """The medians of the first and the second half, after the warm-up."""
    warm = [look for look in looks if look.seconds >= WARM_UP * looks[-1].seconds]
    values = [getattr(look, of) for look in warm]
    half = len(values) // 2
    return median(values[:half]), median(values[half:])


def watch(seconds: float, many: int, folder: Path, stack: ExitStack) -> int:
    """Open the pages, look at memory, print the table; return the exit status."""
    port = free_port()
    nginx = Nginx(folder / "nginx", [f"127.0.0.1:{port}"])
    node = stack.enter_context(Node(folder / "node", "counter1", port))
    node.wait_ready()
    stack.enter_context(nginx)
    books = Books()
    traffic = Traffic([node.url], books, videos=VIDEOS, visitors=2, pause=0.08, prefix="watched")
    stack.enter_context(traffic)
    pages = stack.enter_context(Pages("127.0.0.1", nginx.port, many))
    until(lambda: pages.open == many or pages.lost, 60, f"{many} pages are open")
    video, front = stack.enter_context(browser_pages(nginx.url))
    say(f"{many} pages, half of them by WebSocket, half by events")
    began = time.monotonic()
    looks: list[Look] = []
    say(" seconds  visits  pages  node MiB  nginx MiB  video KiB  front KiB  elements")
    for number in range(LOOKS + 1):
        # The pages' own time goes on while this waits in the browser's.
        rest = began + seconds * number / LOOKS - time.monotonic()
        video[0].wait_for_timeout(max(0.0, rest) * 1000)
        look = Look(
            time.monotonic() - began,
            sum(books.acknowledged.values()),
            pages.open - len(pages.lost),
            memory(node),
            memory(nginx),
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
    right = {number: shown[video_of(number)] for number in range(many)}
    try:
        until(lambda: pages.newest == right, 10, "every page shows the last number")
    except AssertionError as error:
        wrong.append(str(error))
    for complaint in wrong:
        say(complaint)
    say("flat" if not wrong else "not flat")
    return 1 if wrong else 0


def main() -> int:
    """Watch for as long as asked; the exit status says whether memory stayed flat."""
    parser = argparse.ArgumentParser(prog="make watch", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--pages", type=int, default=200)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        return watch(asked.seconds, asked.pages, Path(folder), stack)


if __name__ == "__main__":
    sys.exit(main())
