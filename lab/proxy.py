"""A TCP proxy on loopback: the way to a server, which can be cut, held or slow."""

import socket
import threading
import time
from contextlib import suppress
from queue import SimpleQueue
from typing import Self

from lab.servers import free_port


class Proxy:
    """Forwards connections on `port` to `target` on 127.0.0.1.

    `cut` closes all of them and lets nobody in; `hold` keeps them open and forwards nothing, as
    a network does that drops every packet; `heal` ends both. Its threads end with `stop`.
    What comes in goes out `delay` seconds later, in each direction, however much is under way.
    """

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.delay = 0.0
        self._target = target
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._flowing = threading.Event()
        self._flowing.set()
        self._is_cut = False
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, name=f"proxy {self.port}", daemon=True).start()

    def cut(self) -> None:
        """Close every connection, and every new one at once."""
        self._is_cut = True
        self._close_all()

    def hold(self) -> None:
        """Forward nothing any more; connections stay open, new ones too."""
        self._flowing.clear()

    def heal(self) -> None:
        """Forward again. What was held is lost with its connections, as after a long silence."""
        if not self._flowing.is_set():
            self._close_all()
        self._is_cut = False
        self._flowing.set()

    def stop(self) -> None:
        """Close everything."""
        # A thread that waits in accept() is woken by this, not by closing alone.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self._flowing.set()

    def _close_all(self) -> None:
        with self._lock:
            ends, self._open = self._open, set()
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self._is_cut:
                    raise ConnectionError
                far = socket.create_connection(("127.0.0.1", self._target), 2)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                self._open |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        under_way: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
        threading.Thread(target=self._let_out, args=(under_way, source, sink), daemon=True).start()
        with suppress(OSError):
            while part := source.recv(65536):
                under_way.put((time.monotonic() + self.delay, part))
        under_way.put((0.0, b""))

    def _let_out(
        self,
        under_way: "SimpleQueue[tuple[float, bytes]]",
        source: socket.socket,
        sink: socket.socket,
    ) -> None:
        """Send each part when it is due; close both ends after the last."""
        with suppress(OSError):
            while True:
                due, part = under_way.get()
                if not part:
                    break
                time.sleep(max(0.0, due - time.monotonic()))
                self._flowing.wait()
                sink.sendall(part)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
