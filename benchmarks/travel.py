"""How long a visit travels: from its answer at one node to the number on a page of another."""

import asyncio
import re
from collections import deque
from contextlib import ExitStack
from itertools import cycle
from statistics import median

import msgspec

from benchmarks import Limits
from benchmarks.contenders import mesh, node, start, videos
from benchmarks.page import Part
from benchmarks.steady import Answer, Steady, percentile
from benchmarks.table import Goal, Row
from lab.servers import Node, RabbitMQ

RATE = 500
VIDEOS = 100
CONNECTIONS = 4
_LATE = 5.0
"""Seconds after the last visit within which it has to be shown."""
_PING = 0x9


class Shown(msgspec.Struct):
    """What is read of a live message."""

    video: str
    visits: int


_decode = msgspec.json.Decoder(Shown).decode


def measure(limits: Limits) -> Part:
    """Two nodes on each transport, one after the other."""
    took: dict[str, list[list[float]]] = {}
    folder = limits.folder / "travel"
    with ExitStack() as stack:
        nodes = mesh(folder / "mesh", ("counter1", "counter2"))
        start(stack, nodes)
        took["mesh"] = _rounds(nodes, limits)
    with ExitStack() as stack:
        broker = RabbitMQ(folder / "rabbitmq")
        start(stack, [broker])
        names = ("counter1", "counter2")
        nodes = [node(folder / "amqp", name, AMQP_URI=broker.uri) for name in names]
        start(stack, nodes)
        took["RabbitMQ"] = _rounds(nodes, limits)
    return _part(took, limits)


def _rounds(nodes: list[Node], limits: Limits) -> list[list[float]]:
    near, far = nodes
    journey = Journey(near.port, far.port)
    return [asyncio.run(journey.run(limits.seconds)) for _ in range(limits.rounds)]


class Journey:
    """Visits one node at a steady rate while a page is open at the other."""

    def __init__(self, near: int, far: int) -> None:
        """Take the ports of both."""
        self._near, self._far = near, far
        self._videos = videos(VIDEOS)
        self._paths = cycle([f"/video/{video}" for video in self._videos])
        self._shown: dict[str, tuple[int, float]] = {}
        self._waiting: dict[str, deque[tuple[int, float]]] = {}
        self._took: list[float] = []

    async def run(self, seconds: float) -> list[float]:
        """Milliseconds that each visit took, in order of size."""
        self._shown, self._took = {}, []
        self._waiting = {video: deque() for video in self._videos}
        reader, writer = await self._open()
        steady = Steady(self._near, self._paths, RATE, CONNECTIONS, self._answered)
        watching = asyncio.create_task(self._watch(reader, writer))
        visiting = asyncio.create_task(steady.run())
        try:
            await asyncio.sleep(seconds)
            steady.stop()
            await visiting
            async with asyncio.timeout(_LATE):
                while any(self._waiting.values()) and not watching.done():
                    await asyncio.sleep(0.01)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            writer.close()
        return sorted(self._took)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._far)
        query = "&".join(f"video={video}" for video in self._videos)
        writer.write(
            (
                f"GET /live?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                "Sec-WebSocket-Version: 13\r\n\r\n"
            ).encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert re.match(rb"HTTP/1.1 101 ", head), head
        return reader, writer

    async def _watch(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            kind, length = await reader.readexactly(2)
            if length >= 126:
                length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8))
            payload = await reader.readexactly(length)
            if kind & 0x0F == _PING:
                writer.write(bytes((0x8A, 0x80 | length, 0, 0, 0, 0)) + payload)
                continue
            now, shown = loop.time(), _decode(payload)
            self._shown[shown.video] = shown.visits, now
            waiting = self._waiting[shown.video]
            while waiting and waiting[0][0] <= shown.visits:
                self._took.append((now - waiting.popleft()[1]) * 1000)

    def _answered(self, answer: Answer) -> None:
        assert answer.status == 200, answer
        shown = _decode(answer.body)
        if self._shown.get(shown.video, (0, 0.0))[0] >= shown.visits:
            self._took.append(0.0)
        else:
            self._waiting[shown.video].append((shown.visits, answer.done))


def _part(took: dict[str, list[list[float]]], limits: Limits) -> Part:
    rows = []
    for transport, rounds in took.items():
        p50 = [percentile(run, 50) for run in rounds]
        p99 = [percentile(run, 99) for run in rounds]
        what = f"from the answer to a page of another node, {transport}"
        rows.append(Row(f"{what}: half within", median(p50), "ms", Goal(most=120)))
        rows.append(Row(f"{what}: 99 % within", median(p99), "ms", Goal(most=300)))
    made = median(len(run) for rounds in took.values() for run in rounds) / limits.seconds
    how = (
        f"Medians of {limits.rounds} rounds of {limits.seconds:g} s: {made:,.0f} visits a second "
        f"({RATE} were asked for) to {VIDEOS} videos at one of two nodes, all of them watched on "
        "one page at the other, which shows a video at most ten times a second."
    )
    return Part("travel", rows, how)
