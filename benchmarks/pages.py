"""Many live pages from one process: raw sockets that stamp when each of them was sent a number.

Run in a process of its own, so that it does not take the loop of what it measures. It speaks as
little WebSocket as that takes: the handshake, and the head of each frame that comes.
"""

import argparse
import asyncio
import json
import sys
import time

_HANDSHAKE = (
    "GET /live/{video} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
)
_AT_ONCE = 100


class Page:
    """One live page: how many frames it got, and when the last one came."""

    def __init__(self) -> None:
        self.frames = 0
        self.at = 0.0
        self.visits = 0
        self._buffer = b""

    async def open(self, port: int, video: str, source: str) -> asyncio.StreamReader:
        """Connect; returns when the node has accepted. Sources differ, for want of ports."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
        self._writer = writer
        writer.write(_HANDSHAKE.format(video=video).encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise ConnectionError(head[:200].decode())
        return reader

    async def watch(self, reader: asyncio.StreamReader) -> None:
        """Take frames in until the node closes."""
        while head := await reader.readexactly(2):
            size = head[1] & 127
            if size == 126:
                size = int.from_bytes(await reader.readexactly(2), "big")
            body = await reader.readexactly(size)
            if head[0] == 0x81:
                self.frames += 1
                self.at = time.time()
                self.visits = json.loads(body)["visits"]
            elif head[0] == 0x89:  # a ping
                self._writer.write(b"\x8a" + bytes([0x80 | size]) + bytes(4) + body)


async def run(port: int, video: str, count: int) -> None:
    """Open the pages; then for each line read, tell how far they are."""
    pages = [Page() for _ in range(count)]
    places = asyncio.Semaphore(_AT_ONCE)
    watching = []

    async def start(number: int) -> None:
        async with places:
            page = pages[number]
            reader = await page.open(port, video, f"127.0.0.{2 + number // 10_000}")
        watching.append(asyncio.create_task(page.watch(reader)))

    await asyncio.gather(*(start(number) for number in range(count)))
    _tell(pages)
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while await commands.readline():
        _tell(pages)


def _tell(pages: list[Page]) -> None:
    told = {
        "pages": len(pages),
        "least": min(page.visits for page in pages),
        "frames": sum(page.frames for page in pages),
        "first": min(page.at for page in pages),
        "last": max(page.at for page in pages),
    }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--video", default="cats")
    options = parser.parse_args()
    asyncio.run(run(options.port, options.video, options.count))
