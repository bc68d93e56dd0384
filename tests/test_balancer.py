"""What nginx lets through, from whom, and how often."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.test_http import ask, browse, get
from tools.servers import Nginx, Node, free_port

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
     "/cluster/counts?video=cats", "/static/embed.js", "/static/clips/clock.webp", "/healthz"],
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


class Mute:
    """A node that takes requests and dies with each in hand."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, name="mute")

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.requests.append(connection.recv(65536))

    def __enter__(self) -> "Mute":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/video/cats"), ("POST", "/visits"), ("POST", "/dev/burst"), ("POST", "/dev/cut")],
)
def test_what_may_have_counted_is_never_sent_twice(
    tmp_path: Path, stack: ExitStack, method: str, path: str
) -> None:
    mutes = [stack.enter_context(Mute()) for _ in range(3)]
    nginx = stack.enter_context(Nginx(tmp_path, [mute.address for mute in mutes]))
    balancer = Node(tmp_path, "nginx", nginx.port)
    for sent in range(1, 4):
        answer = ask(balancer, method, path, body=b"[]" if method == "POST" else None)
        assert answer.status in (502, 503)
        asked = [request for mute in mutes for request in mute.requests]
        assert len(asked) == sent
