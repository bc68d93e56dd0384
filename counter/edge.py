"""gunicorn's gevent worker, and what it does not take from strangers: endless time, bytes and
connections.

gunicorn has a deadline for the head of a request (`keepalive`, from the accept or the last answer
to the last byte of the head) and limits for its size. It reads a body for as long as it comes, and
one that nobody read to its end, in pieces of 1 KiB, before the next request. It waits for ever for
a client that does not read its answer.
"""

import errno
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import gevent
from gunicorn.http import errors
from gunicorn.http.body import Body, LengthReader
from gunicorn.workers.ggevent import GeventWorker

from counter.addresses import Places, Trusted
from counter.log_limit import LogLimit

BODY_TIME = 20.0
"""Seconds that a body may take, from its head to its last byte."""
READ_TIME = 30
"""Seconds for which a client may take nothing of what is sent to it, be it an answer or a live
number; or for which its machine may be silent."""
_SMALL, _MAX_SMALL, _AT_ONCE = 64, 20_000, 64
"""Bytes of a small chunk, how many of them a body may have (a line of NDJSON each, for example),
and how many are read before others have their turn."""
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


class Worker(GeventWorker):  # type: ignore[misc] # gunicorn ships no types
    """Serves as gunicorn's does, within these limits. `places` is set before it starts."""

    places = Places(500, Trusted(()))

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
        req.body = body = PunctualBody(reader)
        closes = req.should_close
        req.should_close = lambda: body.is_left_over() or closes()
        try:
            self._answer(listener_name, req, sock, addr)
        finally:
            if body.is_left_over():
                _throw_away(sock)

    def _answer(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        try:
            super().handle_request(listener_name, req, sock, addr)
        except TimeoutError as error:
            # gunicorn knows resets only, and would log another error with its traceback.
            raise ConnectionResetError(errno.ECONNRESET, str(error)) from None


class PunctualBody(Body):  # type: ignore[misc] # gunicorn ships no types
    """A body that has to come in time and whole.

    Reading raises TimeoutError, ConnectionError, or ValueError for one that is not as its headers
    say, and no errors of gunicorn's own.
    """

    def __init__(self, reader: Any) -> None:
        super().__init__(reader)
        self._ends = time.monotonic() + BODY_TIME
        if not isinstance(reader, LengthReader) and reader.parser:
            reader.parser = _paced(reader.parser)

    def is_left_over(self) -> bool:
        """Whether so much is unread that no other request can follow on the connection."""
        if self.failed or not isinstance(self.reader, LengthReader):
            return bool(self.failed or self.reader.parser)
        return bool(self.reader.length > _DRAINED)

    def _read_reader(self, size: int) -> bytes:
        expected = 0
        if isinstance(self.reader, LengthReader):
            expected = min(size, self.reader.length)
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


def _paced(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks of a body. Small ones take long, so others have their turns, and they are few."""
    small = 0
    for chunk in chunks:
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
