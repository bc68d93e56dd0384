"""A gate before a node of a mesh, where messages of chosen peers get lost: one-way splits.

Peers know the node by the address of its gate (`Node(gate=...)`), so that all that they post
comes through here. A message belongs to whoever sent it, whichever connection it comes on.
"""

import http.client
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Self

from msgspec import MsgspecError, msgpack

from lab.servers import free_port

_PASSED_ON = ("Content-Type", "X-Mesh-Id")


class Gate:
    """Passes HTTP requests on to `target` on 127.0.0.1, but for messages of those `shut` out."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.target = target
        self._shut: frozenset[str] = frozenset()
        gate = self

        class Request(_Request):
            def passes(self, body: bytes) -> bool:
                return _sender(body) not in gate._shut

        self._server = _Server(("127.0.0.1", self.port), Request)
        self._server.target = target
        self._thread = Thread(target=self._server.serve_forever, name=f"gate {self.port}")
        self._thread.start()

    def shut(self, names: Iterable[str]) -> None:
        """Lose every message of these nodes, and of no others."""
        self._shut = frozenset(names)

    def open(self) -> None:
        """Let everything pass."""
        self._shut = frozenset()

    def stop(self) -> None:
        """Stop listening, and end every connection."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _sender(message: bytes) -> str:
    """The name of the node that sent a message, of any version; "" for what is no message."""
    try:
        sender, *_ = msgpack.decode(message[2 + message[1] :])
        return str(sender).partition("~")[0]
    except (IndexError, TypeError, ValueError, MsgspecError):
        return ""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    target = 0

    def handle_error(self, *_: object) -> None:
        """Say nothing: a node that was killed has closed its connections."""


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5.0

    def passes(self, body: bytes) -> bool:
        """Whether a message gets through."""
        raise NotImplementedError

    def do_GET(self) -> None:
        self._pass_on(b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/mesh" and not self.passes(body):
            # No answer: whoever sent it cannot know what became of it.
            self.close_connection = True
            return
        self._pass_on(body)

    def _pass_on(self, body: bytes) -> None:
        assert isinstance(self.server, _Server)
        node = http.client.HTTPConnection("127.0.0.1", self.server.target, timeout=5)
        try:
            named = {name: self.headers[name] for name in _PASSED_ON if self.headers.get(name)}
            node.request(self.command, self.path, body or None, named)
            answer = node.getresponse()
            read = answer.read()
        except (OSError, http.client.HTTPException):
            self.close_connection = True
            return
        finally:
            node.close()
        self.send_response(answer.status)
        for name in _PASSED_ON:
            if value := answer.headers.get(name):
                self.send_header(name, value)
        if answer.status != http.client.NO_CONTENT:
            self.send_header("Content-Length", str(len(read)))
        self.end_headers()
        self.wfile.write(read)

    def log_message(self, *_: object) -> None:
        """Keep quiet: tests read the nodes' logs."""
