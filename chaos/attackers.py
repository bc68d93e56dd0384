"""Strangers, and a peer that holds the secret: what each of them sends, and how often.

Each comes from addresses of its own, out of 127.0.0.0/8. Rates are bounded: the machine that is
attacked also runs the attackers, and the honest visitors beside them.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

from counter.crdt.ids import STORE_LENGTH, encode_id, mint_run
from counter.protocol.messages import (
    Body,
    Delta,
    Envelope,
    MemberReport,
    RepairRequest,
    Report,
    decode,
    encode,
)
from lab.clients.looped import Looped

PATIENCE = 5.0
"""Seconds that an attacker waits for an answer."""
HALF_SENT = 600
"""Requests that are begun and never ended, at each place that is attacked with them."""
FULL = "full"
"""A video that takes no more visits."""
HUGE = 2**53 - 1


class Site(NamedTuple):
    """What is attacked: ports of 127.0.0.1, a secret, and the attacks by their first letters."""

    nginx: int
    nodes: tuple[int, ...]
    secret: str
    only: str = "123456789"


class Attackers(Looped):
    """All attacks at once, until this is left."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self._site = site
        self._seen: dict[str, Counter[str]] = {}
        self._attacks: list[asyncio.Task[None]] = []
        self._choose = random.Random(1)
        self._answered = 0
        self._heard: dict[str, bytes] = {}
        """For each replica that was heard, a request for its counts, made once."""

    def seen(self) -> dict[str, Counter[str]]:
        """How the requests of each attack ended: a status, or what else became of them."""
        return {name: Counter(seen) for name, seen in self._seen.items()}

    def answered(self) -> int:
        """How many bytes nodes have sent to the broken peer."""
        return self._answered

    async def begin(self) -> None:
        nginx, nodes = self._site.nginx, self._site.nodes
        self._listener = await asyncio.start_server(self._listen, "127.0.0.1", 0)
        address = self._listener.sockets[0].getsockname()
        self._me = _Peer(self._site.secret, f"http://127.0.0.1:{address[1]}")
        for port in (nginx, *nodes):
            self._often("1 largest counts", 3, port, self._largest)
            self._often("2 refusals", 10, port, self._refused)
            self._often("3 long and broken bodies", 2, port, self._body)
            self._often("4 endless new ids", 30, port, self._new_id)
            self._often("5 keys", 15, port, self._key)
            self._often("7 foreign pages", 2, port, self._foreign)
            self._run("6 half-sent requests", self._half_sent(port))
            self._run("6 floods of pings", self._pings(port))
        for port in nodes:
            self._often("8 a broken peer", 2, port, self._broken)
            self._often("9 replay", 20, port, self._replayed)

    async def end(self) -> None:
        for attack in self._attacks:
            attack.cancel()
        for ended in await asyncio.gather(*self._attacks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
        self._listener.close()

    def _run(self, name: str, attack: Coroutine[None, None, None]) -> None:
        if name[0] not in self._site.only:
            attack.close()
            return
        self._seen.setdefault(name, Counter())
        self._attacks.append(asyncio.create_task(attack))

    def _often(self, name: str, rate: float, port: int, request: Callable[[], bytes]) -> None:
        """Send what `request` makes `rate` times a second, each on a connection of its own."""

        async def attack() -> None:
            # Strangers do not all begin at the same moment.
            seen, due = self._seen[name], time.monotonic() + self._choose.random() / rate
            async with asyncio.TaskGroup() as group:
                while True:
                    due = max(due + 1 / rate, time.monotonic() - 1)
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                    if len(self._attacks) < 1_000:
                        group.create_task(self._once(seen, port, request(), name))

        self._run(name, attack())

    async def _once(self, seen: Counter[str], port: int, request: bytes, name: str) -> None:
        source = f"127.0.{10 + int(name[0])}.{self._choose.randrange(1, 5)}"
        async with _connection(port, source) as connection:
            if connection is None:
                seen["not connected"] += 1
                return
            reader, writer = connection
            try:
                async with asyncio.timeout(PATIENCE):
                    writer.write(request)
                    answer = await reader.readuntil(b"\r\n")
                seen[answer.split()[1].decode()] += 1
            except TimeoutError:
                seen["no answer"] += 1
            except (OSError, EOFError):
                seen["closed"] += 1

    # What is sent, in the order of docs/security.md.

    def _largest(self) -> bytes:
        return _post("/visits", b'[{"video": "junk", "count": %d}]' % HUGE)

    def _refused(self) -> bytes:
        return self._choose.choice([_get(f"/video/{FULL}"), _get("/cluster/counts")])

    def _body(self) -> bytes:
        junk = b"[[" + b"[]," * 330_000 + b"[]]]"
        return self._choose.choice([_post("/count/cats", b"x" * 1_000_000), _post("/visits", junk)])

    def _new_id(self) -> bytes:
        path = self._choose.choice(("/hit/", "/video/"))
        return _get(f"{path}new-{self._choose.randrange(2**60)}")

    def _key(self) -> bytes:
        body = self._choose.choice((b"[]", b'[{"video": "keyed", "count": 1}]'))
        return _post("/visits", body, f"Idempotency-Key: k{self._choose.randrange(2**60)}")

    def _foreign(self) -> bytes:
        return self._choose.choice(
            [
                _post("/dev/cut", b"", "Origin: http://evil.example"),
                _post("/mesh", b"junk", "Host: evil.example"),
                _post("/dev/heal", b"", "Host: evil.example"),
            ]
        )

    def _broken(self) -> bytes:
        return self._me.message(self._choose.choice((self._endless, self._delta, self._wrong))())

    def _endless(self) -> Body:
        """Members that do not exist, with the largest totals there are."""
        runs = [self._me.other() for _ in range(100)]
        states = {
            replica.partition(".")[0]: MemberReport(
                replica.partition(".")[2],
                "",
                "",
                (0, None),
                {replica.partition(".")[2]: (2**63 - 1, None, 0)},
                {},
            )
            for replica in runs
        }
        peers = dict.fromkeys(runs, "http://127.0.0.1:9")
        return Report("ready", {}, peers, None, states=states, said=1, number=time.time_ns() >> 20)

    def _delta(self) -> Body:
        return Delta({f"poison-{n}": HUGE for n in range(100)}, 2**63 - 1)

    def _wrong(self) -> Body:
        return RepairRequest(self._me.other(), b"", 1, 2**53)

    def _replayed(self) -> bytes:
        """The very same request for counts again, once a node was heard."""
        return self._choose.choice(list(self._heard.values()) or [self._broken()])

    async def _half_sent(self, port: int) -> None:
        """Keep many connections open, on each of which a request is begun."""
        seen = self._seen["6 half-sent requests"]

        async def one() -> None:
            while True:
                async with _connection(port, "127.0.16.9") as connection:
                    if connection is None:
                        seen["not connected"] += 1
                    else:
                        connection[1].write(b"GET /video/cats HTTP/1.1\r\nHost: x\r\nX-Slow: ")
                        with suppress(OSError):
                            await connection[0].read()
                        seen["closed"] += 1
                await asyncio.sleep(1)

        async with asyncio.TaskGroup() as group:
            for _ in range(HALF_SENT // len(self._site.nodes)):
                group.create_task(one())
                await asyncio.sleep(0.01)

    async def _pings(self, port: int) -> None:
        """Open a live page and send pings on it as fast as they are taken."""
        seen = self._seen["6 floods of pings"]
        head = (
            b"GET /live/cats HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Sec-WebSocket-Version: 13\r\n\r\n"
        )
        while True:
            async with _connection(port, "127.0.16.8") as connection:
                if connection is None:
                    seen["not connected"] += 1
                else:
                    with suppress(OSError, EOFError):
                        reader, writer = connection
                        writer.write(head)
                        await reader.readuntil(b"\r\n\r\n")
                        while not reader.at_eof():
                            writer.write(b"\x89\x80abcd" * 10)
                            await writer.drain()
                            await asyncio.sleep(0.02)
                    seen["closed"] += 1
            await asyncio.sleep(1)

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take what nodes send to the broken peer."""
        # asyncio complains of a handler that is cancelled, as all are in the end.
        with suppress(OSError, EOFError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split()[0])
                message = await reader.readexactly(length)
                self._answered += len(head) + length
                sender = self._me.sender_of(message)
                if sender not in self._heard:
                    self._heard[sender] = self._me.message(RepairRequest(sender, b"", 1, 0))
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()


class _Peer:
    """A peer that nobody runs, which knows the secret."""

    def __init__(self, secret: str, address: str) -> None:
        self._secret, self._address = secret, address
        self._choose = random.Random(2)
        self._replica = self.other()

    def other(self) -> str:
        """The name of a replica that does not exist."""
        store = encode_id(self._choose.getrandbits(64), STORE_LENGTH)
        now = time.time_ns() // 1_000_000
        return f"broken~{store}.{mint_run(now, '', self._choose.getrandbits(64))}"

    def sender_of(self, message: bytes) -> str:
        """The replica that sent a message."""
        return decode(message, self._secret, time.time_ns() // 1_000_000, 60_000).sender

    def message(self, body: Body) -> bytes:
        """The request that brings a message to a node."""
        now = time.time_ns() // 1_000_000
        message = encode(Envelope(self._replica, self._address, now, body), self._secret)
        return _post("/mesh", message, "Content-Type: application/octet-stream")


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def _connection(port: int, source: str) -> AsyncIterator[Ends | None]:
    """A connection from an address of its own; None where none can be had."""
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, local_addr=(source, 0)
            )
    except (OSError, TimeoutError):
        yield None
        return
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def _post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", *headers, f"Content-Length: {len(body)}"]
    if not any(header.startswith("Host:") for header in headers):
        lines.append("Host: 127.0.0.1")
    if not any(header.startswith("Content-Type:") for header in headers):
        lines.append("Content-Type: application/json")
    return "\r\n".join([*lines, "", ""]).encode() + body
