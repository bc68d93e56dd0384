"""Asks the other nodes over HTTP, for what the page shows side by side.

No count depends on this: nodes learn of each other's visits by messages. A node that is cut off
from those still answers here, so that one sees the numbers drift apart.
"""

import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from threading import Event, Lock, Thread
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta as Limit

from counter.crdt.ids import NAME
from counter.protocol.messages import State, Total

PATIENCE = 0.5
"""Seconds that an answer may take."""
KEPT = 0.5
"""Seconds for which an answer is given to others who ask the same."""
MAX_VIDEOS = 20
"""Largest number of videos that are asked for, or kept, at a time."""
MAX_NODES = 100
_MAX_BYTES = 4096
_ORDER_PATIENCE = 5.0
"""Seconds that a node may take to obey an order."""


class Found(msgspec.Struct):
    """What a node answers about itself and one video; `process` tells two of one name apart."""

    node: Annotated[str, Limit(pattern=rf"^({NAME})?\Z")]
    visits: Total
    state: State
    cut: bool
    process: Annotated[str, Limit(min_length=1, max_length=64)]


class BusyError(Exception):
    """Too many different videos are being asked for."""


class UnknownNodeError(Exception):
    """No node of this name has answered; the message lists those that have."""


class SilentError(Exception):
    """The node does not answer, or takes too long (`late`)."""

    def __init__(self, detail: str, *, late: bool) -> None:
        super().__init__(detail)
        self.late = late


class _Known(NamedTuple):
    """The node that answered last at an address."""

    node: str
    process: str


class _Round:
    """One question to all nodes, shared by all who ask it at that time."""

    def __init__(self) -> None:
        self.done = Event()
        self.nodes: list[dict[str, Any]] = []
        self.ended: float | None = None

    def over(self, now: float) -> bool:
        """Whether its answer is too old."""
        return self.ended is not None and now - self.ended > KEPT


class Survey:
    """Asks the nodes at `addresses()` and the one here, `own`. Any thread may call any method."""

    def __init__(
        self, addresses: Callable[[], list[str]], own: Callable[[str], Found], process: str
    ) -> None:
        self._addresses = addresses
        self._own = own
        self._process = process
        self._lock = Lock()
        self._rounds: dict[str, _Round] = {}
        self._known: dict[str, _Known] = {}
        self._under_way: Counter[str] = Counter()

    def counts(self, video: str) -> list[dict[str, Any]]:
        """What each node shows of a video, ordered by name; a recent answer is used again.

        Raises `BusyError` if too many other videos are being asked for.
        """
        now = time.monotonic()
        with self._lock:
            for other, kept in list(self._rounds.items()):
                if kept.over(now):
                    del self._rounds[other]
            found = self._rounds.get(video)
            if found is None and len(self._rounds) >= MAX_VIDEOS:
                raise BusyError(f"{MAX_VIDEOS} other videos are being asked for; try again soon")
            turn = found or self._rounds.setdefault(video, _Round())
        if found is None:
            try:
                turn.nodes = self._ask_all(video)
            finally:
                turn.ended = time.monotonic()
                turn.done.set()
        turn.done.wait(4 * PATIENCE)
        return turn.nodes

    def order(self, node: str, path: str) -> tuple[int, str]:
        """POST to the node of this name; return the status and the detail of its answer.

        Raises `UnknownNodeError` or `SilentError`.
        """
        address = self._address(node)
        if address is None:
            self._ask_all("-")
            address = self._address(node)
        if address is None:
            names = sorted({known.node for known in self._known.values()})
            raise UnknownNodeError(
                f"{node[:100]!r} is no node that answers here; "
                + (f"there are {', '.join(names)}" if names else "there is no other")
            )
        asked = _Asked(address, "POST", path, _ORDER_PATIENCE)
        asked.run()
        if asked.problem:
            raise SilentError(f"{node}: {asked.problem}", late=asked.late)
        detail = ""
        with suppress(ValueError, AttributeError):  # no JSON, or no object
            detail = str(msgspec.json.decode(asked.body).get("detail", ""))
        return asked.status, detail

    def _address(self, node: str) -> str | None:
        present = set(self._present())
        with self._lock:
            return next(
                (a for a, k in self._known.items() if k.node == node and a in present), None
            )

    def _present(self) -> list[str]:
        """The addresses that are not known to be those of this node."""
        addresses = list(dict.fromkeys(self._addresses()))
        with self._lock:
            for address in self._known.keys() - set(addresses):
                del self._known[address]
            own = {a for a, known in self._known.items() if known.process == self._process}
        return [address for address in addresses if address not in own][:MAX_NODES]

    def _ask_all(self, video: str) -> list[dict[str, Any]]:
        """What each node shows of a video, ordered by name."""
        deadline = time.monotonic() + PATIENCE
        asked = [self._start(address, video) for address in self._present()]
        rows = {self._process: _row(self._own(video), own=True)}
        for number, ask in enumerate(asked, 1):
            ask.wait(deadline)
            found = ask.found()
            with self._lock:
                if found is not None:
                    self._known[ask.address] = _Known(found.node, found.process)
                known = self._known.get(ask.address)
            if found is not None:
                rows.setdefault(found.process, _row(found, own=False))
            else:
                rows.setdefault(
                    known.process if known else ask.address,
                    {
                        # Its address is not for strangers.
                        "node": known.node if known else f"(unknown {number})",
                        "visits": None,
                        "problem": ask.problem,
                    },
                )
        return sorted(rows.values(), key=lambda row: str(row["node"]))

    def _start(self, address: str, video: str) -> "_Asked":
        asked = _Asked(address, "GET", f"/cluster/count?video={video}", PATIENCE)
        with self._lock:
            # Looking up a host name may take longer than the deadline.
            crowded = self._under_way[address] >= MAX_VIDEOS
            if not crowded:
                self._under_way[address] += 1
        if crowded:
            asked.late = True
            return asked

        def run() -> None:
            try:
                asked.run()
            finally:
                with self._lock:
                    self._under_way[address] -= 1
                    if not self._under_way[address]:
                        del self._under_way[address]

        Thread(target=run, name=f"ask {address}", daemon=True).start()
        return asked


class _Asked:
    """One request to one node."""

    def __init__(self, address: str, method: str, path: str, patience: float) -> None:
        self.address = address
        self.status = 0
        self.body = b""
        self.late = False
        self._failure = ""
        self._method, self._path, self._patience = method, path, patience
        self._done = Event()
        self._connection: HTTPConnection | None = None

    @property
    def problem(self) -> str:
        """Why there is no answer; "" if there is one."""
        return f"no answer within {self._patience:g} s" if self.late else self._failure

    def run(self) -> None:
        """Send it and read the answer."""
        try:
            parts = urlsplit(self.address)
            connection = HTTPConnection(
                parts.hostname or "", parts.port or 80, timeout=self._patience
            )
            self._connection = connection
            try:
                connection.request(self._method, self._path, headers={"Connection": "close"})
                response = connection.getresponse()
                self.body, self.status = response.read(_MAX_BYTES), response.status
            finally:
                connection.close()
        except TimeoutError:
            self.late = True
        except (OSError, ValueError, HTTPException) as error:
            self._failure = getattr(error, "strerror", None) or type(error).__name__
        finally:
            self._done.set()

    def wait(self, deadline: float) -> None:
        """Wait for the answer until a time of the monotonic clock, then give up."""
        if self.late or self._done.wait(max(0.0, deadline - time.monotonic())):
            return
        self.late = True
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def found(self) -> Found | None:
        """What it says of a video; None, and a `problem`, if that is not usable."""
        if self.problem:
            return None
        try:
            return msgspec.json.decode(self.body, type=Found)
        except msgspec.MsgspecError:
            self._failure = f"status {self.status}, and no count"
            return None


def _row(found: Found, *, own: bool) -> dict[str, Any]:
    row = msgspec.structs.asdict(found)
    del row["process"]
    return row | {"self": own}
