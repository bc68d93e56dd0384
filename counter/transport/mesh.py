"""The full mesh: every node posts to every other over HTTP keep-alive. No broker needed.

A node posts to its configured addresses and to those it was told to `send` to. The latter come
from verified messages, so one configured address is enough to find all nodes. Every answer names
the process that gave it, so a node with two addresses gets a broadcast once, and the node itself
gets none.
"""

import http.client
import logging
import secrets
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from threading import Event, Lock, Thread
from urllib.parse import urlsplit

from counter.backoff import backoff
from counter.transport.contract import Receive

log = logging.getLogger("counter.transport")

_ID_HEADER = "X-Mesh-Id"
_TIMEOUT = 2.0
_LAST_WORDS = 0.5
"""Seconds that `stop` leaves for messages that still wait."""
_FORGET = 60.0
"""Seconds after which a learned address that does not answer is forgotten."""
_LEARNED = 256
"""Addresses that are learned from messages and kept: each takes a thread, and room for messages
that wait. For one more, that one is forgotten which was not reached for longest."""
_WAITING = 256
"""Messages that wait for one peer. The oldest is dropped for one more; later ones replace it."""


class MeshTransport:
    """Posts messages to `/mesh` of the peers; the web server hands in what arrives at its own."""

    kind = "mesh"
    problem = ""
    path = "/mesh"
    """Where the web server takes in messages."""

    def __init__(self, host: str, port: int, peers: Iterable[str]) -> None:
        self.id = secrets.token_hex(8)
        self._port = port
        self._host = "" if host in ("0.0.0.0", "::") else host  # noqa: S104 - compared only
        self._configured = tuple(peer.rstrip("/") for peer in peers)
        self._outboxes: dict[str, Outbox] = {}
        self._lock = Lock()
        self._receive: Receive | None = None
        self._connected: Callable[[], None] = lambda: None
        self._stopped = False

    @property
    def address(self) -> str:
        """See `Transport.address`. On all interfaces it is known once a peer is reached."""
        return _url(self._host, self._port) if self._host else ""

    @property
    def up(self) -> bool:
        """See `Transport.up`: a peer answers, or there are no peers."""
        if self._receive is None or self._stopped:
            return False
        peers = self._peers()
        return not peers or any(outbox.up for outbox in peers)

    def start(self, receive: Receive, connected: Callable[[], None]) -> None:
        """See `Transport.start`."""
        self._receive, self._connected = receive, connected
        for address in self._configured:
            self._outbox(address)
        connected()

    def broadcast(self, message: bytes) -> None:
        """See `Transport.broadcast`."""
        for outbox in self._peers():
            outbox.put(message)

    def send(self, address: str, message: bytes) -> None:
        """See `Transport.send`. The address is a peer from now on."""
        if address and address != self.address and not self._stopped:
            self._outbox(address).put(message)

    def take(self, message: bytes) -> str | None:
        """Take in a message posted to this node; return why it was dropped, None if it was not."""
        if self._receive is None or self._stopped:
            return "closed"
        return self._receive(message)

    def addresses(self) -> list[str]:
        """One address of each other process that is known."""
        return [outbox.address for outbox in self._peers()]

    @property
    def headers(self) -> dict[str, str]:
        """Headers of an answer to a message: the id of this process."""
        return {_ID_HEADER: self.id}

    def stop(self) -> None:
        """See `Transport.stop`."""
        self._stopped = True
        with self._lock:
            outboxes = list(self._outboxes.values())
        for outbox in outboxes:
            outbox.stop()
        deadline = time.monotonic() + _LAST_WORDS
        for outbox in outboxes:
            outbox.join(deadline)
        for outbox in outboxes:
            outbox.cut()
        for outbox in outboxes:
            outbox.join(deadline + _TIMEOUT)

    def reached(self, outbox: "Outbox", local_host: str) -> None:
        """A peer answered after silence; the local end of the connection is `local_host`."""
        if not self._host:
            self._host = local_host
        if outbox.peer_id != self.id:
            self._connected()

    def lost(self, outbox: "Outbox") -> bool:
        """Forget an address that was silent for long; return False if it is a configured one."""
        if outbox.address in self._configured:
            return False
        with self._lock:
            if self._outboxes.get(outbox.address) is outbox:
                del self._outboxes[outbox.address]
        return True

    def _outbox(self, address: str) -> "Outbox":
        with self._lock:
            outbox = self._outboxes.get(address)
            if outbox is None:
                if address not in self._configured:
                    self._make_room()
                outbox = self._outboxes[address] = Outbox(self, address)
                outbox.start()
            return outbox

    def _make_room(self) -> None:
        """Forget a learned address, if there are too many: the oldest, those not reached first."""
        learned = [one for one in self._outboxes.values() if one.address not in self._configured]
        if len(learned) >= _LEARNED:
            oldest = min(learned, key=lambda outbox: outbox.up)
            del self._outboxes[oldest.address]
            oldest.stop()

    def _peers(self) -> list["Outbox"]:
        """One outbox for each other process; an address never reached counts as a process."""
        with self._lock:
            outboxes = list(self._outboxes.values())
        peers = {outbox.peer_id or outbox.address: outbox for outbox in reversed(outboxes)}
        peers.pop(self.id, None)
        return list(peers.values())


class Outbox:
    """The messages that wait for one address, and the thread that posts them."""

    def __init__(self, mesh: MeshTransport, address: str) -> None:
        self.address = address
        self.peer_id = ""
        self.up = False
        self._mesh = mesh
        self._waiting: deque[bytes] = deque(maxlen=_WAITING)
        self._news = Event()
        self._stopping = Event()
        self._cut = False
        self._connection: http.client.HTTPConnection | None = None
        self._thread = Thread(target=self._run, name=f"mesh {address}", daemon=True)

    def start(self) -> None:
        """Start posting."""
        self._thread.start()

    def put(self, message: bytes) -> None:
        """Add a message; the oldest is dropped if there are too many."""
        self._waiting.append(message)
        self._news.set()

    def stop(self) -> None:
        """Ask the thread to post what waits, if it can, and end."""
        self._stopping.set()
        self._news.set()

    def join(self, deadline: float) -> None:
        """Wait for the thread until a time of the monotonic clock."""
        self._thread.join(max(0.0, deadline - time.monotonic()))

    def cut(self) -> None:
        """Cut the connection of a thread that has not ended."""
        self._cut = True
        connection = self._connection
        if self._thread.is_alive() and connection is not None and connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        tries, since = 0, time.monotonic()
        while self._wait():
            message = self._waiting.popleft()
            try:
                self._post(message)
                tries, since = 0, time.monotonic()
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._disconnect()
                if tries == 0:
                    log.info("peer.down address=%s error=%r", self.address, str(error))
                tries += 1
                if self._stopping.is_set():
                    return
                if time.monotonic() - since > _FORGET and self._mesh.lost(self):
                    return
                self._stopping.wait(backoff(tries))
        self._disconnect()

    def _wait(self) -> bool:
        """Wait for a message; return False if none will come."""
        while not self._waiting:
            if self._stopping.is_set():
                return False
            self._news.clear()
            if not self._waiting and not self._stopping.is_set():
                self._news.wait()
        return True

    def _post(self, message: bytes) -> None:
        """Post on the open connection, or on a new one if that fails."""
        if self._connection is not None:
            try:
                return self._exchange(self._connection, message)
            except (OSError, http.client.HTTPException):
                if self._cut:
                    raise
                # The peer may have closed an idle connection. A message may arrive twice.
                self._connection.close()
        parts = urlsplit(self.address)
        self._connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port or 80, timeout=_TIMEOUT
        )
        return self._exchange(self._connection, message)

    def _exchange(self, connection: http.client.HTTPConnection, message: bytes) -> None:
        connection.request(
            "POST", MeshTransport.path, message, {"Content-Type": "application/octet-stream"}
        )
        local = connection.sock.getsockname()[0]
        response = connection.getresponse()
        response.read()
        self.peer_id = response.headers.get(_ID_HEADER, "")
        was_up, self.up = self.up, response.status == http.client.NO_CONTENT
        if not self.up and was_up:
            log.warning("peer.refuses address=%s status=%d", self.address, response.status)
        if self.up and not was_up:
            self._mesh.reached(self, local)

    def _disconnect(self) -> None:
        self.up = False
        # The peer may move to another address, or come back as another process.
        self.peer_id = ""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
