"""Very many live pages in one process: sockets that count frames, and say when the last had it.

A line on stdin is answered with one of JSON:

`open PORT VIDEO COUNT`  opens so many more; answers when each has shown a number or was refused
`expect VISITS`          from now on notes which pages have shown so many visits
`await SECONDS`          answers when all open ones have, with when the last one did
`frames`                 how many frames came since this was last asked
"""

import json
import os
import re
import select
import socket
import sys
import time
from collections import deque

_AT_ONCE = 64
"""Handshakes under way at once."""
_PATIENCE = 30.0
"""Seconds without any progress after which the rest of the handshakes is given up."""
_VISITS = re.compile(rb'"visits":(\d+)')
_HANDSHAKE = (
    "GET /live/{} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    # As every browser offers it.
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
)
_TEXT, _CLOSE, _PING = 0x1, 0x8, 0x9
_MASK = b"\0\0\0\0"
"""A mask that changes nothing: the rule is that a client masks, not with what."""


class Page:
    """One socket: what it has received and not used yet, and the newest number it showed."""

    __slots__ = ("pending", "shown", "socket", "upgraded")

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.pending = b""
        self.upgraded = False
        self.shown: int | None = None


class Watchers:
    """All pages of this process. One thread; `epoll` says which of them have news."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._pages: dict[int, Page] = {}
        self._opening = 0
        self._open = 0
        self._refused = 0
        self._frames = 0
        self._expected = 0
        self._reached = 0
        self._last = 0.0

    def open(self, port: int, video: str, count: int) -> dict[str, int]:
        """Open pages, a few at a time."""
        request = _HANDSHAKE.format(video).encode()
        left, progress = count, time.monotonic()
        before = (self._open, self._refused)
        while (left or self._opening) and time.monotonic() - progress < _PATIENCE:
            while left and self._opening < _AT_ONCE:
                left -= 1
                self._opening += 1
                self._begin(port, request)
            self._receive(0.1)
            if before != (self._open, self._refused):
                before, progress = (self._open, self._refused), time.monotonic()
        return {"open": self._open, "refused": self._refused + left + self._opening}

    def expect(self, visits: int) -> dict[str, int]:
        """Note from now on which pages have shown so many visits."""
        self._expected, self._last = visits, 0.0
        self._reached = sum((page.shown or 0) >= visits for page in self._pages.values())
        return {"reached": self._reached}

    def wait(self, seconds: float) -> dict[str, float]:
        """Wait until all open pages have shown what is expected."""
        deadline = time.monotonic() + seconds
        while self._reached < self._open and time.monotonic() < deadline:
            self._receive(0.1)
        return {"reached": self._reached, "open": self._open, "last": self._last}

    def frames(self) -> dict[str, int]:
        """How many frames came since the last call."""
        frames, self._frames = self._frames, 0
        return {"frames": frames, "open": self._open}

    def serve(self) -> None:
        """Do what the lines on stdin say, until they end."""
        lines: deque[bytes] = deque()
        asked, pending = sys.stdin.fileno(), b""
        self._poll.register(asked, select.EPOLLIN)
        while True:
            if not self._receive(1.0):
                continue
            chunk = os.read(asked, 65536)
            if not chunk:
                return
            *whole, pending = (pending + chunk).split(b"\n")
            lines.extend(whole)
            while lines:
                print(json.dumps(self._do(lines.popleft().decode().split())), flush=True)

    def _do(self, words: list[str]) -> object:
        match words:
            case ["open", port, video, count]:
                return self.open(int(port), video, int(count))
            case ["expect", visits]:
                return self.expect(int(visits))
            case ["await", seconds]:
                return self.wait(float(seconds))
            case ["frames"]:
                return self.frames()
        raise ValueError(f"unknown: {words}")

    def _begin(self, port: int, request: bytes) -> None:
        connection = socket.create_connection(("127.0.0.1", port), timeout=10)
        connection.sendall(request)
        connection.setblocking(False)
        self._pages[connection.fileno()] = Page(connection)
        self._poll.register(connection.fileno(), select.EPOLLIN)

    def _receive(self, seconds: float) -> bool:
        """Take in what came within so many seconds; say whether a line waits on stdin."""
        asked = False
        for number, _ in self._poll.poll(seconds):
            page = self._pages.get(number)
            if page is None:
                asked = True
                continue
            try:
                chunk = page.socket.recv(65536)
            except BlockingIOError:
                continue
            except OSError:
                chunk = b""
            page.pending += chunk
            if not chunk or not self._take(page):
                self._drop(page)
        return asked

    def _take(self, page: Page) -> bool:
        """Use the whole frames of what a page has received; False if it is to be closed."""
        if not page.upgraded:
            head, end, rest = page.pending.partition(b"\r\n\r\n")
            if not end:
                return True
            if b" 101 " not in head.partition(b"\r\n")[0]:
                return False
            page.upgraded, page.pending = True, rest
        while (frame := _first(page.pending)) is not None:
            kind, payload, length = frame
            page.pending = page.pending[length:]
            if kind == _CLOSE:
                return False
            if kind == _PING:
                page.socket.send(bytes((0x8A, 0x80 | len(payload))) + _MASK + payload)
            elif kind == _TEXT:
                self._show(page, payload)
        return True

    def _show(self, page: Page, payload: bytes) -> None:
        found = _VISITS.search(payload)
        visits = int(found[1]) if found else 0
        self._frames += 1
        if page.shown is None:
            self._opening -= 1
            self._open += 1
        if (page.shown or 0) < self._expected <= visits:
            self._reached += 1
            self._last = time.monotonic()
        page.shown = visits

    def _drop(self, page: Page) -> None:
        self._poll.unregister(page.socket)
        del self._pages[page.socket.fileno()]
        page.socket.close()
        if page.shown is None:
            self._opening -= 1
            self._refused += 1
        else:
            self._open -= 1
            self._reached -= page.shown >= self._expected


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


if __name__ == "__main__":
    Watchers().serve()
