"""A page that sends frames without end is closed; one that sends a few is not."""

import socket
import time
from contextlib import suppress
from threading import Event

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from counter.web.frames import MAX_FRAMES
from lab.clients import STRETCH, until
from lab.servers import Node


def live(node: Node) -> ClientConnection:
    address = f"ws://127.0.0.1:{node.port}/live/cats"
    return connect(address, close_timeout=1, ping_interval=None)


def send(socket: ClientConnection, kind: str) -> None:
    match kind:
        case "ping":
            socket.ping()
        case "pong":
            socket.pong()
        case "text":
            socket.send("x")
        case "binary":
            socket.send(b"x")


@pytest.mark.parametrize("kind", ["ping", "text", "binary", "fragments", "pong"])
def test_a_flood_of_frames_closes_the_socket(node: Node, kind: str) -> None:
    with live(node) as socket:
        # One frame too many and no more, or the reset for the rest may overtake the reason.
        if kind == "fragments":
            # The client adds an empty last one.
            socket.send(iter([""] * MAX_FRAMES))
        else:
            for _ in range(MAX_FRAMES + 1):
                send(socket, kind)
        until(lambda: socket.close_code is not None, 10 * STRETCH, "it is closed")
        assert socket.close_code == 1008
        assert socket.close_reason == f"more than {MAX_FRAMES} frames a second"


def test_a_flood_gets_few_answers(node: Node) -> None:
    with live(node) as socket:
        pongs: list[Event] = []
        with suppress(ConnectionClosed):
            pongs.extend(socket.ping() for _ in range(2000))
        until(lambda: socket.close_code is not None, 10 * STRETCH, "it is closed")
        assert sum(pong.is_set() for pong in pongs) <= MAX_FRAMES


@pytest.mark.alone
def test_a_few_frames_a_second_are_welcome(node: Node) -> None:
    with live(node) as socket:
        for _ in range(3):
            ends = time.monotonic() + 1.1
            pongs = [socket.ping() for _ in range(MAX_FRAMES // 2)]
            assert all(pong.wait(5 * STRETCH) for pong in pongs)
            while time.monotonic() < ends:
                with suppress(TimeoutError):
                    socket.recv(timeout=max(0.0, ends - time.monotonic()))
        assert socket.close_code is None


@pytest.mark.parametrize("header", ["Host", "Sec-WebSocket-Protocol"])
def test_a_handshake_that_is_not_ascii_is_a_400_and_no_traceback(node: Node, header: str) -> None:
    with socket.create_connection(("127.0.0.1", node.port), 5 * STRETCH) as connection:
        head = (
            "GET /live/cats HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        )
        others = "" if header == "Host" else "Host: 127.0.0.1\r\n"
        connection.sendall(f"{head}{others}{header}: k\xe4se\r\n\r\n".encode("latin-1"))
        assert connection.recv(12) == b"HTTP/1.1 400"
    assert "Traceback" not in node.log.read_text()
