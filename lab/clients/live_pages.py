"""Live pages without a browser, very many in one process."""

import asyncio
import re
import time
from collections.abc import Callable
from typing import NamedTuple, cast

from lab.clients.looped import Looped

_AT_ONCE = 64
"""Handshakes under way at once."""
_PATIENCE = 30.0
"""Seconds that a page waits for its first number; after that no other is opened."""
_VISITS = re.compile(rb'"visits":(\d+)')
_SOCKET = (
    "GET {} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    # As every browser offers it.
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
)
_EVENTS = "GET {} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"
_TEXT, _CLOSE, _PING = 0x1, 0x8, 0x9


class Reached(NamedTuple):
    """How many of the open pages have shown what was expected, and when the last one did."""

    pages: int
    open: int
    last: float


class LivePages(Looped):
    """Pages at one port, by WebSocket or by events; `heard` gets each message, on the loop."""

    def __init__(self, port: int, heard: Callable[[bytes], None] | None = None) -> None:
        super().__init__()
        self.pages: list[_Page] = []
        """All that were opened, in this order."""
        self.lost: list[str] = []
        """What became of those that are not open any more."""
        self._port, self._heard = port, heard
        self._opened = self._refused = self._messages = 0
        self._expected = self._reached = 0
        self._last = 0.0

    def open(self, path: str, many: int = 1, *, events: bool = False) -> tuple[int, int]:
        """Open so many more, a few at a time; return how many are open and were ever refused.

        Returns when each has shown a number, or was refused.
        """
        self.wait(self._open(path, many, events=events))
        return self._opened, self._refused

    def expect(self, visits: int) -> None:
        """Note from now on which pages have shown so many visits."""

        async def begin() -> None:
            self._expected, self._last = visits, 0.0
            self._reached = sum(page.is_open and page.visits >= visits for page in self.pages)

        self.wait(begin())

    def reach(self, seconds: float) -> Reached:
        """Wait until all open pages have shown what is expected."""

        async def reached() -> Reached:
            deadline = time.monotonic() + seconds
            while self._reached < self._opened and time.monotonic() < deadline:
                await asyncio.sleep(0.01)
            return Reached(self._reached, self._opened, self._last)

        return self.wait(reached())

    def messages(self) -> int:
        """How many messages came since the last call."""
        messages, self._messages = self._messages, 0
        return messages

    async def end(self) -> None:
        for page in self.pages:
            page.transport.close()

    async def _open(self, path: str, many: int, *, events: bool) -> None:
        gate = asyncio.Semaphore(_AT_ONCE)
        gave_up = False

        async def one() -> None:
            nonlocal gave_up
            async with gate:
                page = _Page(self, path, events=events)
                try:
                    async with asyncio.timeout(0 if gave_up else _PATIENCE):
                        await self._loop.create_connection(lambda: page, "127.0.0.1", self._port)
                        await page.first
                except TimeoutError:
                    gave_up = True
                except OSError:
                    pass
                if not page.is_open:
                    self._refused += 1

        await asyncio.gather(*(one() for _ in range(many)))

    def _show(self, page: "_Page", message: bytes) -> None:
        now = time.monotonic()
        found = _VISITS.search(message)
        visits = int(found[1]) if found else 0
        self._messages += 1
        if not page.is_open:
            page.is_open = True
            self._opened += 1
            self.pages.append(page)
            page.first.set_result(None)
        if page.visits < self._expected <= visits:
            self._reached += 1
            self._last = now
        page.visits = visits
        if self._heard:
            self._heard(message)

    def _drop(self, page: "_Page", error: Exception | None) -> None:
        if page.is_open:
            page.is_open = False
            self._opened -= 1
            self._reached -= page.visits >= self._expected
            self.lost.append(f"{page.path}: {error or 'was closed'}")
        elif not page.first.done():
            page.first.set_exception(error or ConnectionError("refused"))


class _Page(asyncio.Protocol):
    """One connection: what it has received and not used yet, and the newest number it showed."""

    def __init__(self, all_pages: LivePages, path: str, *, events: bool) -> None:
        self.path = path
        self.visits = 0
        self.is_open = False
        self.first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._all, self._events = all_pages, events
        self._pending = b""
        self._begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write((_EVENTS if self._events else _SOCKET).format(self.path).encode())

    def connection_lost(self, error: Exception | None) -> None:
        self._all._drop(self, error)

    def data_received(self, chunk: bytes) -> None:
        self._pending += chunk
        if not self._begun:
            head, end, rest = self._pending.partition(b"\r\n\r\n")
            if not end:
                return
            if head[9:12] != (b"200" if self._events else b"101"):
                self.transport.close()
                return
            self._begun, self._pending = True, rest
        if self._events:
            *lines, self._pending = self._pending.split(b"\n")
            for line in lines:
                if line.startswith(b"data:"):
                    self._all._show(self, line.removeprefix(b"data:"))
            return
        while (frame := _first(self._pending)) is not None:
            kind, payload, length = frame
            self._pending = self._pending[length:]
            if kind == _CLOSE:
                self.transport.close()
            elif kind == _PING:
                # A client masks what it sends, and no rule says with what: 0 changes nothing.
                self.transport.write(bytes((0x8A, 0x80 | len(payload), 0, 0, 0, 0)) + payload)
            elif kind == _TEXT:
                self._all._show(self, payload)


def _first(received: bytes) -> tuple[int, bytes, int] | None:
    """The first whole frame: its kind, its payload, and how long it is; None if there is none."""
    if len(received) < 2:
        return None
    length, start = received[1] & 0x7F, 2
    if length >= 126:
        start = 4 if length == 126 else 10
        length = int.from_bytes(received[2:start])
    if len(received) < max(start, start + length):
        return None
    return received[0] & 0x0F, received[start : start + length], start + length
