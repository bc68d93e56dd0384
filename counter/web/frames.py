"""A WebSocket that closes when the other side sends too much: pages send next to nothing.

A frame costs more to take in and to answer (a ping asks for a pong) than to send.
"""

import time
from collections.abc import Iterator
from typing import Any

from simple_websocket import Server
from wsproto.events import CloseConnection, Event
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import RemoteProtocolError

MAX_FRAMES = 10
"""Frames that a page may send in a second. A page answers a ping every 25 s, and closes."""


class Socket(Server):  # type: ignore[misc] # it ships no types
    """The server's end of a WebSocket, with a limit for what comes in."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._second = 0.0
        self._frames = 0
        try:
            super().__init__(*arguments, **options)
        except UnicodeDecodeError:
            raise RemoteProtocolError("a header of it is not ASCII") from None

    def _handle_events(self) -> bool:
        if not self.connected:  # the handshake
            going = bool(super()._handle_events())
            self._events, self.ws.events = self.ws.events, self._counted
            return going
        going = bool(super()._handle_events())
        if self._frames <= MAX_FRAMES or not going:
            return going
        why = f"more than {MAX_FRAMES} frames a second"
        self.sock.send(self.ws.send(CloseConnection(CloseReason.POLICY_VIOLATION, why)))
        self.event.set()
        return False

    def _counted(self) -> Iterator[Event]:
        """What has come, up to the first frame too many."""
        for event in self._events():
            now = time.monotonic()
            if now - self._second >= 1:
                self._second, self._frames = now, 0
            self._frames += 1
            if self._frames > MAX_FRAMES:
                return
            yield event
