"""How nodes reach each other: the contract of every transport.

A transport moves opaque bytes. It may lose, repeat, reorder and delay them, never alter them.
"""

from collections.abc import Callable
from typing import Protocol

Receive = Callable[[bytes], str | None]
"""Takes one message in; says why it was dropped, None if it was not. Never raises."""


class Transport(Protocol):
    """Carries messages between nodes.

    `broadcast` and `send` may be called by any thread, never block for the network and never
    raise for it: what cannot be sent soon is dropped, oldest first.
    """

    kind: str

    @property
    def address(self) -> str:
        """Where other nodes can `send` to this one; "" while that is not known."""

    @property
    def up(self) -> bool:
        """Whether messages can go out at the moment, as far as can be told."""

    def start(self, receive: Receive, connected: Callable[[], None]) -> None:
        """Start, and reconnect from now on; `connected` is called after every (re)connection."""

    def broadcast(self, message: bytes) -> None:
        """Send to every other node that can be reached."""

    def send(self, address: str, message: bytes) -> None:
        """Send to one node, at the address that it gave."""

    def stop(self) -> None:
        """Send what is waiting if that is quick, then end every thread. Idempotent; bounded."""
