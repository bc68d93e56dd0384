"""gunicorn's gevent worker, and what it does not take from strangers: endless time, bytes and
connections.

gunicorn has a deadline for the head of a request (`keepalive`, from the accept or the last answer
to the last byte of the head) and limits for its size. It looks through the whole of an unfinished
head again for each 8 KiB that come, so its size has to be small. It reads a body for as long as it
comes, and one that nobody read to its end, in pieces of 1 KiB, before the next request. It waits
for ever for a client that does not read its answer.
"""

import errno
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import gevent
from gunicorn.http import errors
from gunicorn.http.body import Body, LengthReader
from gunicorn.http.message import Request
from gunicorn.workers.ggevent import GeventWorker

from counter.addresses import Places, Trusted
from counter.log_limit import LogLimit

BODY_TIME = 20.0
"""Seconds that a body may take, from its head to its last byte."""
READ_TIME = 30
"""Seconds for which a client may take nothing of what is sent to it, be it an answer or a live
number; or for which its machine may be silent."""
HEADERS, FIELDS = 32 * 1024, 64
"""Bytes of all headers of a request together, give or take what is read at a time (8 KiB), and how
many they are. The request line is not one of them."""
ADDRESS_BODIES, ALL_BODIES = 8 << 20, 64 << 20
"""Bytes of long bodies that one address, and all together, may have under way."""
_FREE, _UNKNOWN = 64 * 1024, 1 << 20
"""Bytes of a body that needs no room, and for how long a body in chunks counts beyond that."""
_SMALL, _MAX_SMALL, _AT_ONCE = 1024, 20_000, 64
"""Bytes of a small chunk, how many of them a body may have (a line of NDJSON each, for example),
and how many are read before others have their turn."""
_TRAILER = 1024
"""Bytes of the trailers of a body and of the line before a chunk, give or take what is read at a
time. Nobody reads them."""
_DRAINED = 1024
"""Bytes of an unread body that are read for the next request, instead of closing."""
_LINGER_TIME = 1.0
"""Seconds for which what a client still sends is thrown away, so that it can read its answer."""
_LINGER_READS = 16
_scratch = bytearray(256 * 1024)
"""Says only how much is thrown away at a time; nothing is written to it."""

_BUSY = (
    b"HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nRetry-After: 1\r\n"
    b"Content-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n%s"
)
_WHY = (
    b'{"title":"Too many connections","status":429,"detail":"this address has as many connections '
    b'as one may have"}\n'
)
_REFUSAL = _BUSY % (len(_WHY), _WHY)


class Head(Request):  # type: ignore[misc] # gunicorn ships no types
    """A request whose headers end soon. LimitRequestHeaders is a 431."""

    def parse(self, unreader: Any) -> bytes:
        """Read the head; return what came after it."""
        # gunicorn takes as many bytes as the most headers of the longest kind have together.
        self.max_buffer_headers = HEADERS
        unused: bytes = super().parse(unreader)
        return unused


class Worker(GeventWorker):  # type: ignore[misc] # gunicorn ships no types
    """Serves as gunicorn's does, within these limits.

    `places` for connections, and those for the `bodies` that are under way, are set before it
    starts.
    """

    places = Places(500, Trusted(()))
    bodies = Places(ADDRESS_BODIES, Trusted(()), ALL_BODIES)

    def run(self) -> None:
        """Serve until it is told to end."""
        self.log.error_log.addFilter(LogLimit())
        for listener in self.sockets:
            # Every connection that is accepted inherits it, and the kernel watches the time.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, READ_TIME * 1000)
        super().run()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve a connection, if its address may have one more."""
        address = addr[0] if isinstance(addr, tuple) else ""
        if not self.places.take(address):
            with suppress(OSError):
                client.setblocking(False)
                client.send(_REFUSAL)
            client.close()
            return
        try:
            super().handle(listener, client, addr)
        finally:
            self.places.leave(address)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer what cannot be read. A reset would have nginx leave this node out."""
        super().handle_error(req, client, addr, exc)
        _throw_away(client)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """Answer a request. A body that is left over closes the connection."""
        reader = req.body.reader
        if type(reader) is LengthReader and not reader.length:
            self._answer(listener_name, req, sock, addr)
            return
        address = addr[0] if isinstance(addr, tuple) else ""
        req.body = body = PunctualBody(reader, lambda size: self.bodies.take(address, size))
        closes = req.should_close
        req.should_close = lambda: body.is_left_over() or closes()
        try:
            self._answer(listener_name, req, sock, addr)
        finally:
            self.bodies.leave(address, body.room)
            if body.is_left_over():
                _throw_away(sock)

    def _answer(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        try:
            super().handle_request(listener_name, req, sock, addr)
        except TimeoutError as error:
            # gunicorn knows resets only, and would log another error with its traceback.
            raise ConnectionResetError(errno.ECONNRESET, str(error)) from None


class PunctualBody(Body):  # type: ignore[misc] # gunicorn ships no types
    """A body that has to come in time and whole, and needs room if it is long.

    Reading raises TimeoutError, ConnectionError, OSError with ENOBUFS where there is no room, or
    ValueError for one that is not as its headers say, and no errors of gunicorn's own.
    """

    def __init__(self, reader: Any, take: Callable[[int], bool] = lambda _size: True) -> None:
        """Read from `reader`. `take` says whether there is room for so many bytes, and keeps it."""
        super().__init__(reader)
        self.room = 0
        """Bytes that `take` keeps for it."""
        self._take = take
        self._ends = time.monotonic() + BODY_TIME
        if not isinstance(reader, LengthReader) and reader.parser:
            reader.limit_trailer_section = reader.limit_chunk_size_line = _TRAILER
            reader.parser = self._paced(reader.parser)

    def is_left_over(self) -> bool:
        """Whether so much is unread that no other request can follow on the connection."""
        if self.failed or not isinstance(self.reader, LengthReader):
            return bool(self.failed or self.reader.parser)
        return bool(self.reader.length > _DRAINED)

    def _read_reader(self, size: int) -> bytes:
        expected = 0
        if isinstance(self.reader, LengthReader):
            expected = min(size, self.reader.length)
            # Nothing of it has been read if it is as long and has no room yet.
            if self.reader.length > _FREE and not self.room:
                self._make_room(self.reader.length)
        late = TimeoutError(f"a body did not come within {BODY_TIME:g} s")
        try:
            with gevent.Timeout(max(0.0, self._ends - time.monotonic()), late):
                piece: bytes = super()._read_reader(size)
        except errors.ParseException as error:
            raise ValueError(str(error)) from None
        if len(piece) < expected:
            self.failed = True
            raise ConnectionError("a body ended before its length")
        return piece

    def _make_room(self, size: int) -> None:
        if not self._take(size):
            self.failed = True
            raise OSError(errno.ENOBUFS, "too many long bodies are under way")
        self.room = size

    def _paced(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The chunks of a body. Small ones take long, so others have their turns, and are few."""
        small = length = 0
        for chunk in chunks:
            length += len(chunk)
            if length > _FREE and not self.room:
                self._make_room(_UNKNOWN)
            small += len(chunk) < _SMALL
            if small > _MAX_SMALL:
                raise ValueError(f"more than {_MAX_SMALL} chunks of less than {_SMALL} bytes")
            if small % _AT_ONCE == 0:
                gevent.sleep(0)
            yield chunk


def _throw_away(sock: Any) -> None:
    """Say that nothing more is sent, and drop what still comes, for a moment.

    Closed at once, the kernel would answer what comes by a reset, and the answer could be lost.
    """
    with suppress(OSError), gevent.Timeout(_LINGER_TIME, TimeoutError("it sends on")):
        sock.shutdown(socket.SHUT_WR)
        for _ in range(_LINGER_READS):
            if not sock.recv_into(_scratch, 0, socket.MSG_TRUNC):
                return
            gevent.sleep(0)
