"""What nginx lets through, from whom, and how often."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from queue import Queue

import pytest
from websockets.sync.client import connect

from lab.servers import Nginx, Node, free_port
from tests.test_http import ask, browse, get

OTHER = {"Origin": "https://elsewhere.example"}


@pytest.fixture(scope="module")
def balancer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Where nginx is, in front of a node that is for demonstrations."""
    folder = tmp_path_factory.mktemp("balancer")
    settings = {"DEV_MODE": "1", "ADMIN_TOKEN": "only-for-tests", "DRAIN_TIME": "0"}
    with Node(folder / "counter1", "counter1", free_port(), settings) as node:
        node.wait_ready()
        with Nginx(folder / "nginx", [f"127.0.0.1:{node.port}"]) as nginx:
            yield Node(folder, "nginx", nginx.port)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/metrics"),
        ("POST", "/mesh"),
        ("DELETE", "/cluster/counter1~0"),
        ("GET", "/cluster/"),
    ],
)
def test_what_is_not_for_visitors_is_not_there(balancer: Node, method: str, path: str) -> None:
    answer = ask(balancer, method, path)
    assert answer.status == 404
    assert answer.problem()["detail"] == "There is nothing for visitors here."
    assert answer.headers["x-served-by"] == "balancer"


@pytest.mark.parametrize(
    "path",
    ["/", "/video/cats", "/badge/cats.svg", "/count/cats", "/counts?video=cats", "/top", "/cluster",
     "/cluster/counts?video=cats", "/static/embed.js", "/static/clips/clock.webp", "/healthz",
     "/robots.txt"],
)  # fmt: skip
def test_what_is_for_visitors_comes_from_a_node(balancer: Node, path: str) -> None:
    for answer in (get(balancer, path), browse(balancer, path)):
        assert answer.headers["x-served-by"] == "counter1"


def test_the_cluster_is_only_read(balancer: Node) -> None:
    assert ask(balancer, "DELETE", "/cluster").status == 403
    assert ask(balancer, "POST", "/cluster/counts").status == 403


def test_demonstrations_get_through_to_nodes_that_are_for_them(balancer: Node) -> None:
    assert ask(balancer, "POST", "/dev/cut").status == 204
    assert ask(balancer, "POST", "/dev/heal").status == 204
    stranger = {**OTHER, "Sec-Fetch-Site": "cross-site"}
    assert ask(balancer, "POST", "/dev/cut", stranger).status == 403


@pytest.mark.parametrize("path", ["/live/cats", "/live?video=cats&video=dogs"])
def test_pages_of_any_site_may_watch(balancer: Node, path: str) -> None:
    address = f"ws://127.0.0.1:{balancer.port}{path}"
    with connect(address, additional_headers=OTHER, close_timeout=0) as socket:
        assert '"video":"cats"' in str(socket.recv(timeout=5))


class Backend:
    """What stands where a node would: it keeps each request, and answers as the test likes."""

    def __init__(self, answer: Callable[[socket.socket], None] = lambda connection: None) -> None:
        self.requests: list[bytes] = []
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, name="backend")

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.requests.append(connection.recv(65536))
                self._answer(connection)

    def __enter__(self) -> "Backend":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


def test_events_come_one_by_one_and_at_once(tmp_path: Path, stack: ExitStack) -> None:
    events: Queue[bytes] = Queue()

    def tell(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while event := events.get(timeout=30):
            connection.sendall(b"%x\r\n%s\r\n" % (len(event), event))

    node = stack.enter_context(Backend(tell))
    stack.callback(events.put, b"")
    nginx = stack.enter_context(Nginx(tmp_path, [node.address]))
    page = stack.enter_context(socket.create_connection(("127.0.0.1", nginx.port), timeout=5))
    page.sendall(b"GET /live/cats HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
    seen = b""
    for event in (b"data: 1\n\n", b"data: 2\n\n"):
        events.put(event)
        while event not in seen:
            seen += page.recv(4096)
    [request] = node.requests
    assert b"Accept: text/event-stream" in request
    assert b"\r\nUpgrade:" not in request
    assert b"\r\nConnection:" not in request


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/video/cats"), ("POST", "/visits"), ("POST", "/dev/burst"), ("POST", "/dev/cut")],
)
def test_what_may_have_counted_is_never_sent_twice(
    tmp_path: Path, stack: ExitStack, method: str, path: str
) -> None:
    dying = [stack.enter_context(Backend()) for _ in range(3)]
    nginx = stack.enter_context(Nginx(tmp_path, [node.address for node in dying]))
    balancer = Node(tmp_path, "nginx", nginx.port)
    for sent in range(1, 4):
        answer = ask(balancer, method, path, body=b"[]" if method == "POST" else None)
        assert answer.status in (502, 503)
        asked = [request for node in dying for request in node.requests]
        assert len(asked) == sent


def test_pages_of_other_sites_may_read_what_nginx_itself_says_of_public_numbers(
    tmp_path: Path, stack: ExitStack
) -> None:
    gone = f"127.0.0.1:{free_port()}"
    nginx = stack.enter_context(Nginx(tmp_path, [gone]))
    balancer = Node(tmp_path, "nginx", nginx.port)
    public = [
        ("GET", "/hit/cats", 204),
        ("GET", "/hit/a%20b", 400),
        ("PUT", "/hit/cats", 405),
        ("GET", "/badge/cats.svg", 502),
        ("GET", "/count/cats", 503),
        ("GET", "/counts?video=cats", 503),
        ("GET", "/top", 503),
        ("GET", "/live/cats", 503),
        ("GET", "/static/embed.js", 503),
    ]
    for method, path, status in public:
        answer = ask(balancer, method, path, OTHER)
        assert answer.status == status or {answer.status, status} == {502, 503}, path
        assert answer.headers["access-control-allow-origin"] == "*", path
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin", path
    for path in ("/", "/video/cats", "/visits", "/cluster", "/metrics", "/countless"):
        answer = get(balancer, path)
        assert "access-control-allow-origin" not in answer.headers, path
        assert "cross-origin-resource-policy" not in answer.headers, path


def test_a_file_that_one_version_lacks_comes_from_a_node_that_has_it(
    tmp_path: Path, stack: ExitStack
) -> None:
    def answer(status: str, body: str) -> Backend:
        text = (
            f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
        )
        return stack.enter_context(Backend(lambda connection: connection.sendall(text.encode())))

    before, present = answer("404 Not Found", "none"), answer("200 OK", "here")
    nginx = stack.enter_context(Nginx(tmp_path, [before.address, present.address]))
    balancer = Node(tmp_path, "nginx", nginx.port)
    for _ in range(4):
        assert get(balancer, "/static/dom.js").status == 200
        assert get(balancer, "/robots.txt").status == 200
    # No other answer is asked for twice.
    assert {get(balancer, "/count/cats").status for _ in range(4)} == {200, 404}
    alone = stack.enter_context(Nginx(tmp_path / "alone", [before.address]))
    assert get(Node(tmp_path, "nginx", alone.port), "/static/nothing.js").status == 404


@pytest.mark.parametrize("accept", ["*/*", "text/html"])
@pytest.mark.parametrize("bytes_", [30, 2_000, 500_000])
def test_where_no_node_answers_a_long_request_is_told_so_as_well(
    tmp_path_factory: pytest.TempPathFactory, accept: str, bytes_: int
) -> None:
    """Its body was measured again on the way to the answer, and it was a 500 without a word."""
    folder = tmp_path_factory.mktemp("nobody")
    with Nginx(folder, [f"127.0.0.1:{free_port()}"]) as nginx:
        there = Node(folder, "nginx", nginx.port)
        headers = {"Content-Type": "application/json", "Accept": accept}
        answer = ask(there, "POST", "/visits", headers, b" " * bytes_)
    assert answer.status in (502, 503)
    assert answer.headers["x-served-by"] == "balancer"
