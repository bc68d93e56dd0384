"""How nodes reach each other: the contract of every transport.

A transport moves opaque messages. It may lose, repeat, reorder and delay them, but not alter them.
"""

from collections.abc import Callable
from typing import Protocol

Receive = Callable[[bytes], str | None]
"""Takes in one message; returns why it was dropped, None if it was not. Never raises."""


class Transport(Protocol):
    """Carries messages between nodes.

    Any thread may call `broadcast` and `send`. They never block on the network or raise its errors:
    what cannot be sent soon is dropped, oldest first.
    """

    kind: str
    problem: str
    """Why no messages can go out until somebody changes something, in one sentence; else ""."""

    @property
    def address(self) -> str:
        """Where other nodes can `send` to this one; "" while that is unknown."""

    @property
    def up(self) -> bool:
        """Whether messages can probably go out now."""

    def start(self, receive: Receive, connected: Callable[[], None]) -> None:
        """Connect, and reconnect from now on; `connected` is called after every (re)connection."""

    def broadcast(self, message: bytes) -> None:
        """Send to all other nodes that can be reached."""

    def send(self, address: str, message: bytes) -> None:
        """Send to one node, at its `address`."""

    def stop(self) -> None:
        """Send what waits if that is quick, then end all threads. Idempotent; bounded."""
