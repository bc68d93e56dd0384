"""The in-process transport: a hub, whose owner decides what gets through."""

from collections import deque
from collections.abc import Callable
from threading import Condition, Thread

from counter.transport.contract import Receive

Link = Callable[[str, str], bool]
"""`link(source, destination)`: whether a message gets through this time."""


class Hub:
    """A network within one process. `link` decides on each message; by default all pass."""

    def __init__(self, link: Link = lambda _source, _destination: True) -> None:
        self.link = link
        self.ports: dict[str, HubTransport] = {}

    def transport(self, address: str) -> "HubTransport":
        """A new transport on this hub."""
        return HubTransport(self, address)


class HubTransport:
    """One node's place on a hub; delivers in a thread of its own."""

    kind = "hub"
    problem = ""

    def __init__(self, hub: Hub, address: str) -> None:
        self.address = address
        self._hub = hub
        self._inbox: deque[bytes] = deque(maxlen=1000)
        self._news = Condition()
        self._thread: Thread | None = None

    @property
    def up(self) -> bool:
        """See `Transport.up`."""
        return self._hub.ports.get(self.address) is self

    def start(self, receive: Receive, connected: Callable[[], None]) -> None:
        """See `Transport.start`."""
        self._hub.ports[self.address] = self
        self._thread = Thread(
            target=self._run, args=(receive,), name=f"hub {self.address}", daemon=True
        )
        self._thread.start()
        connected()

    def broadcast(self, message: bytes) -> None:
        """See `Transport.broadcast`."""
        for address in list(self._hub.ports):
            if address != self.address:
                self.send(address, message)

    def send(self, address: str, message: bytes) -> None:
        """See `Transport.send`."""
        port = self._hub.ports.get(address)
        if port is not None and self.up and self._hub.link(self.address, address):
            with port._news:
                port._inbox.append(message)
                port._news.notify()

    def stop(self) -> None:
        """See `Transport.stop`."""
        if self.up:
            del self._hub.ports[self.address]
        with self._news:
            self._news.notify()
        if self._thread is not None:
            self._thread.join(2.0)

    def _run(self, receive: Receive) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._inbox or not self.up)
                if not self.up:
                    return
                message = self._inbox.popleft()
            receive(message)
