"""What strangers can do to a node that they reach directly: long, slow and broken requests."""

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from pathlib import Path

import gevent
import gevent.socket
import pytest
from gunicorn.http.body import ChunkedReader, LengthReader
from gunicorn.http.unreader import IterUnreader, SocketUnreader

from counter import edge
from counter.config import KEEP_ALIVE
from lab.clients import STRETCH, fetch, until
from lab.servers import Node
from tests.nodes import mesh
from tests.test_http import ask

TRUSTED = "127.1.0.0/16"
"""So that other addresses of this machine are strangers."""
CONNECTIONS = 50
ESTABLISHED = b"\1"
"""The state of a connection that goes on, as Linux tells it."""

pytestmark = pytest.mark.nodes(
    1, ADDRESS_CONNECTIONS=str(CONNECTIONS), TRUSTED_PROXIES=TRUSTED, ADMIN_TOKEN="only-for-tests"
)

BODY = b'{"video": "cats"}\n'
POST = b"POST /visits HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"


def dial(node: Node, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(
        ("127.0.0.1", node.port), timeout=5 * STRETCH, source_address=(source, 0)
    )


def answers(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    received = b""
    with suppress(ConnectionError):
        while piece := connection.recv(65536):
            received += piece
    return received


def visit_from(node: Node, source: str) -> int:
    connection = HTTPConnection(
        "127.0.0.1", node.port, timeout=10 * STRETCH, source_address=(source, 0)
    )
    try:
        connection.request("GET", "/video/cats")
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT"])
@pytest.mark.parametrize("path", ["/video/cats", "/count/cats", "/hit/cats", "/", "/none", "/live"])
def test_a_long_body_where_none_is_expected_is_answered_unread(
    node: Node, method: str, path: str
) -> None:
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n".encode()
    with dial(node) as connection:
        connection.sendall(head)  # and nothing of the body
        answer = answers(connection)
    assert answer.startswith(b"HTTP/1.1 413 "), answer
    assert b"\r\nConnection: close\r\n" in answer
    assert answer.count(b"HTTP/1.1") == 1


def test_a_visit_with_a_long_body_is_not_counted(node: Node) -> None:
    before = fetch(node.url, "/count/bodies")["visits"]
    assert ask(node, "GET", "/video/bodies", body=bytes(2000)).status == 413
    assert fetch(node.url, "/count/bodies")["visits"] == before


def test_a_short_body_that_nobody_reads_does_no_harm_to_the_next_request(node: Node) -> None:
    request = b"GET /count/cats HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + bytes(1000)
    with dial(node) as connection:
        connection.sendall(request * 3)
        connection.shutdown(socket.SHUT_WR)
        assert answers(connection).count(b"HTTP/1.1 200 OK") == 3


def test_an_unread_body_in_chunks_closes_the_connection(node: Node) -> None:
    head = b"GET /count/cats HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with dial(node) as connection:
        connection.sendall(head + b"5\r\nhello\r\n")  # and no end
        answer = answers(connection)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"\r\nConnection: close\r\n" in answer


def test_what_is_sent_on_after_a_refusal_is_thrown_away(node: Node) -> None:
    # The whole of it is sent before the answer is looked for, as many clients do. What is dropped
    # is taken from the connection, so the client is never told of a reset.
    with dial(node) as connection:
        head = b"POST /count/cats HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n"
        connection.sendall(head)
        until(lambda: connection.recv(12) == b"HTTP/1.1 413", 5, "it is answered at once")
        for _ in range(8):
            connection.sendall(bytes(100_000))
            time.sleep(0.01)


def test_endless_small_chunks_are_given_up_and_others_have_their_turns(node: Node) -> None:
    with dial(node) as connection:
        head = b"POST /visits HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        connection.sendall(head + b"Content-Type: application/json\r\n\r\n")
        with suppress(OSError):
            connection.sendall(b"1\r\n \r\n" * 100_000 + b"0\r\n\r\n")
        assert ask(node, "GET", "/video/cats").status == 200
        assert answers(connection).startswith(b"HTTP/1.1 400 ")


def test_chunks_of_any_small_size_give_others_their_turns() -> None:
    # One chunk that was small in the eyes of the former limit, and no other: no turn came any more.
    many = (b"40\r\n" + b" " * 64 + b"\r\n") * 100
    pieces = [b"1\r\n \r\n", *[many] * 80, b"0\r\n\r\n"]
    body = edge.PunctualBody(ChunkedReader(None, IterUnreader(pieces)))
    turns = 0

    def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0)

    others = gevent.spawn(count)
    try:
        assert len(body.read()) == 64 * 8_000 + 1
    finally:
        others.kill()
    assert turns > 100


def test_a_body_has_few_small_chunks_of_any_size() -> None:
    pieces = [b"40\r\n" + b" " * 64 + b"\r\n"] * 30_000 + [b"0\r\n\r\n"]
    body = edge.PunctualBody(ChunkedReader(None, IterUnreader(pieces)))
    with pytest.raises(ValueError, match="chunks of less than"):
        body.read()


def test_long_trailers_are_refused_before_they_end(node: Node) -> None:
    # They took 53 ms, without a pause.
    body = b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)
    before = fetch(node.url, "/count/cats")["visits"]
    with dial(node) as connection:
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n" + body)
        connection.sendall(b"a:b\r\n" * 5_000)  # and no end
        assert answers(connection).startswith(b"HTTP/1.1 400 ")
    assert fetch(node.url, "/count/cats")["visits"] == before


def test_a_short_trailer_does_no_harm(node: Node) -> None:
    body = b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)
    with dial(node) as connection:
        head = b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        for piece in (POST + head + body[:-1], body[-1:] + b"\r", b"\n"):
            connection.sendall(piece)
        assert answers(connection).startswith(b"HTTP/1.1 200 ")
    with dial(node) as connection:
        connection.sendall(POST + head + body + b"Checksum: 1\r\n\r\n")
        assert answers(connection).startswith(b"HTTP/1.1 200 ")


def headers(count: int, size: int) -> bytes:
    return b"".join(b"X-%d: %s\r\n" % (number, b"a" * size) for number in range(count))


@pytest.mark.parametrize(
    "rest",
    # Each of them is answered before it has ended. 95 such headers took 90 ms, without a pause.
    [headers(6, 8000), headers(1, 50_000), headers(65, 1) + b"\r\n"],
    ids=["long", "endless", "many"],
)
def test_a_long_head_is_a_431_before_it_has_ended(node: Node, rest: bytes) -> None:
    with dial(node) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + rest)
        assert answers(connection).startswith(b"HTTP/1.1 431 ")


def test_the_heads_that_browsers_and_proxies_send_are_read(node: Node) -> None:
    ids = "&".join(f"video=v{number:0127}" for number in range(1000))
    long = {f"X-{number}": "a" * 200 for number in range(40)} | {"Cookie": "a" * 8000}
    assert len(ask(node, "GET", f"/counts?{ids}", long).json()["counters"]) == 1000
    assert ask(node, "GET", "/video/cats", {f"X-{n}": "a" * 7500 for n in range(4)}).status == 200


def test_a_line_in_each_chunk_is_counted(node: Node) -> None:
    with dial(node) as connection:
        lines = b"".join(b"%x\r\n%b\r\n" % (len(BODY), BODY) for _ in range(10_000))
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
        connection.sendall(lines + b"0\r\n\r\n")
        answer = answers(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"records":10000' in answer


@pytest.mark.alone
def test_long_bodies_do_not_hold_up_visits(node: Node) -> None:
    def visits() -> list[float]:
        taken = []
        for _ in range(200):
            began = time.monotonic()
            assert ask(node, "GET", "/video/cats").status == 200
            taken.append(time.monotonic() - began)
        return sorted(taken)

    quiet, used = visits(), node.processor_time()
    with ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(dial(node))
            connection.sendall(
                b"POST /count/cats HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
            )
            connection.setblocking(False)
            with suppress(OSError):
                connection.send(bytes(1_000_000))
        flooded = visits()
    # It was 3.9 s, at 80 to 90 % of a processor.
    assert flooded[-3] < max(3 * quiet[-3], 0.1 * STRETCH)
    assert node.processor_time() - used < 3


@pytest.mark.parametrize(
    "body",
    [b"zz\r\nhello\r\n", b"5\r\nhelloworld", b"-1\r\n\r\n", b"5;\x00\r\nhello\r\n0\r\n\r\n",
     b"ffffffffffffffffffff\r\n", b"\r\n\r\n"],
)  # fmt: skip
def test_a_broken_body_in_chunks_is_a_400_and_no_traceback(node: Node, body: bytes) -> None:
    with dial(node) as connection:
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n" + body)
        connection.shutdown(socket.SHUT_WR)
        answer = answers(connection)
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert b"application/problem+json" in answer
    assert b"\r\nConnection: close\r\n" in answer
    assert "Traceback" not in node.log.read_text()


def test_a_body_that_ends_before_its_length_counts_nothing(node: Node) -> None:
    before = fetch(node.url, "/count/cats")["visits"]
    with dial(node) as connection:
        connection.sendall(POST + b"Content-Length: 1000\r\n\r\n" + BODY)
        connection.shutdown(socket.SHUT_WR)
        assert answers(connection).startswith(b"HTTP/1.1 400 ")
    assert fetch(node.url, "/count/cats")["visits"] == before


@pytest.mark.alone
def test_a_head_that_trickles_in_is_given_up(node: Node) -> None:
    began = time.monotonic()
    with dial(node) as connection:
        connection.sendall(b"GET /video/cats HTTP/1.1\r\nX: ")

        def closed() -> bool:
            try:
                connection.sendall(b"x")
            except OSError:
                return True
            return False

        until(closed, 10 * STRETCH, "the node closes it")
    assert KEEP_ALIVE - 0.5 < time.monotonic() - began < (KEEP_ALIVE + 2) * STRETCH


@pytest.fixture
def far() -> Iterator[tuple[gevent.socket.socket, gevent.socket.socket]]:
    """Two ends of a connection: the client's and the node's."""
    client, own = gevent.socket.socketpair()
    yield client, own
    client.close()
    own.close()


@pytest.mark.parametrize("kind", ["length", "chunked"])
def test_a_body_that_trickles_in_is_given_up(
    far: tuple[gevent.socket.socket, gevent.socket.socket],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    monkeypatch.setattr(edge, "BODY_TIME", 0.3)
    client, own = far
    unreader = SocketUnreader(own)
    body = edge.PunctualBody(
        LengthReader(unreader, 1000) if kind == "length" else ChunkedReader(None, unreader)
    )

    def trickle() -> None:
        while True:
            client.send(b"1" if kind == "length" else b"1\r\nx\r\n")
            gevent.sleep(0.02)

    sender = gevent.spawn(trickle)
    try:
        with gevent.Timeout(10 * STRETCH), pytest.raises(TimeoutError):
            body.read()
    finally:
        sender.kill()
    assert body.is_left_over()


@pytest.mark.proof
@pytest.mark.parametrize("framing", [b"Content-Length: 100", b"Transfer-Encoding: chunked"])
def test_a_half_sent_body_is_given_up(node: Node, framing: bytes) -> None:
    began = time.monotonic()
    with dial(node) as connection:
        connection.settimeout(2 * edge.BODY_TIME * STRETCH)
        connection.sendall(POST + framing + b"\r\n\r\n")
        answer = answers(connection)
    assert answer.startswith(b"HTTP/1.1 408 "), answer
    assert edge.BODY_TIME - 1 < time.monotonic() - began < edge.BODY_TIME * 1.5 * STRETCH


@pytest.mark.proof
def test_an_answer_that_nobody_reads_is_given_up(node: Node) -> None:
    began = time.monotonic()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(5)
        connection.connect(("127.0.0.1", node.port))
        with suppress(TimeoutError):
            # More answers than the kernel has room for, and none of them is read.
            connection.sendall(b"GET /static/clips/life.webm HTTP/1.1\r\nHost: x\r\n\r\n" * 20_000)

        def given_up() -> bool:
            return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) != ESTABLISHED

        until(given_up, edge.READ_TIME * 3 * STRETCH, "the node gives up")
    assert time.monotonic() - began > edge.READ_TIME - 1
    assert "Traceback" not in node.log.read_text()
    assert visit_from(node, "127.0.0.1") == 200


def test_a_body_that_comes_too_slowly_is_a_408(tmp_path: Path) -> None:
    from flask import Flask, request

    from counter.web import bodies, problems

    class Slow:
        def readinto(self, _buffer: bytearray) -> int:
            raise TimeoutError("too slow")

        read = readinto

    app = Flask(__name__)
    problems.install(app)
    bodies.install(app)

    @app.post("/")
    @bodies.reads(10)
    def take() -> bytes:
        return request.get_data()

    answer = app.test_client().post(
        "/", environ_overrides={"wsgi.input": Slow(), "CONTENT_LENGTH": "5"}
    )
    assert answer.status_code == 408


def test_half_open_requests_of_one_address_leave_room_for_others(node: Node) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(dial(node, "127.0.0.2")) for _ in range(4 * CONNECTIONS)]
        for connection in held:
            with suppress(ConnectionError):
                connection.sendall(POST + b"Content-Length: 100\r\n\r\n")
        refused = answers(held[-1])
        assert refused.startswith(b"HTTP/1.1 429 ")
        assert b"Retry-After: 1\r\n" in refused
        assert all(visit_from(node, "127.0.0.3") == 200 for _ in range(100))
    until(lambda: visit_from(node, "127.0.0.2") == 200, 5 * STRETCH, "there are places again")


def long_post(framing: str, padding: int = 1_000_000) -> bytes:
    """A whole post of one visit that is long; `framing` is `length` or `chunked`."""
    body = b" " * padding + BODY
    if framing == "length":
        return POST + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    return POST + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


class Held:
    """Long posts whose last bytes do not come, of many connections."""

    def __init__(self, node: Node, framing: str) -> None:
        self._port = node.port
        self._post = long_post(framing)[:-6]
        self._senders: list[gevent.Greenlet[..., None]] = []
        self.refusals: list[bytes] = []

    def send(self, count: int, source: str, refused: int) -> None:
        """Send so many of one address, and wait until so many of them are refused."""
        sent: list[None] = []
        before = len(self.refusals)
        self._senders += [gevent.spawn(self._send, source, sent) for _ in range(count)]
        with gevent.Timeout(30 * STRETCH):
            while len(sent) < count or len(self.refusals) < before + refused:
                gevent.sleep(0.02)

    def _send(self, source: str, sent: list[None]) -> None:
        address = ("127.0.0.1", self._port)
        with gevent.socket.create_connection(address, source_address=(source, 0)) as connection:
            with suppress(ConnectionError):
                connection.sendall(self._post)
            sent.append(None)
            answer = b""
            with suppress(ConnectionError):
                while piece := connection.recv(1000):
                    answer += piece
            if answer.startswith(b"HTTP/1.1 429 "):
                self.refusals.append(answer)

    def close(self) -> None:
        gevent.killall(self._senders)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_long_bodies_under_way_are_few(tmp_path: Path, framing: str) -> None:
    # They were 641 MB of one address, 1,240 MB of two.
    with mesh(tmp_path, TRUSTED_PROXIES=TRUSTED) as [node]:
        held = Held(node, framing)
        try:
            held.send(500, "127.0.0.2", refused=490)
            held.send(100, "127.0.0.3", refused=90)
            refusal = held.refusals[0]
            assert b"\r\nRetry-After: 1\r\n" in refusal
            assert b"\r\nConnection: close\r\n" in refusal
            assert b"application/problem+json" in refusal
            assert node.memory() < 200_000_000
            for _ in range(10):
                assert is_counted(node, "127.0.0.4", long_post(framing))
                assert visit_from(node, "127.0.0.2") == 200
            # A body below 64 KiB needs no room.
            assert is_counted(node, "127.0.0.2", long_post(framing, 50_000))
            assert node.memory() < 200_000_000
            # Trusted proxies have what is left in all, and no more.
            held.send(100, "127.1.2.3", refused=30)
            assert not is_counted(node, "127.0.0.4", long_post(framing))
            assert node.memory() < 300_000_000
            assert visit_from(node, "127.0.0.4") == 200
        finally:
            held.close()
        until(
            lambda: is_counted(node, "127.0.0.2", long_post(framing)),
            10 * STRETCH,
            "there is room again",
        )


def is_counted(node: Node, source: str, post: bytes) -> bool:
    with dial(node, source) as connection, suppress(ConnectionError):
        connection.sendall(post)
        return connection.recv(12) == b"HTTP/1.1 200"
    return False


def test_trusted_proxies_have_as_many_connections_as_they_like(node: Node) -> None:
    with ExitStack() as stack:
        for _ in range(2 * CONNECTIONS):
            connection = stack.enter_context(dial(node, "127.1.2.3"))
            connection.sendall(POST + b"Content-Length: 100\r\n\r\n")
        assert visit_from(node, "127.1.2.3") == 200


def test_five_thousand_half_open_requests_do_not_keep_others_out(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with mesh(tmp_path, TRUSTED_PROXIES=TRUSTED) as [node], ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(5000):
            connection = stack.enter_context(dial(node, "127.0.0.2"))
            with suppress(ConnectionError):
                connection.sendall(POST + b"Content-Length: 100\r\n\r\n")
        assert all(visit_from(node, "127.0.0.3") == 200 for _ in range(100))


def test_refusals_that_a_stranger_causes_do_not_fill_the_log(node: Node) -> None:
    before = node.log.stat().st_size
    for _ in range(100):
        with dial(node) as connection:
            connection.sendall(b"GARBAGE\r\n\r\n")
            assert answers(connection).startswith(b"HTTP/1.1 400 ")
    assert node.log.read_text().count("Invalid request from ip") <= 10
    assert node.log.stat().st_size - before < 5000
