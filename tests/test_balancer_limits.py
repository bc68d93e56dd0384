"""How much nginx lets one address do, and how long a request may take there."""

import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from pathlib import Path
from select import select
from types import MappingProxyType

import pytest

from lab.clients import STRETCH, until
from lab.servers import Nginx, Node
from tests.test_balancer import Backend
from tests.test_http import Answer, ask

STRANGERS = {
    "127.0.0.0/8 0;": "127.1.0.0/16 0;",
    "rate=1000r/s": "rate=1r/s",
    "rate=100r/s": "rate=1r/s",
    "burst=2000": "burst=30",
    "burst=500": "burst=20",
    "posts 20": "posts 3",
    "connects 500": "connects 5",
}
"""Addresses of this machine are strangers, but for some, and have little."""


@pytest.fixture(scope="module")
def nginx(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    folder = tmp_path_factory.mktemp("limits")
    with Nginx(folder, [f"127.0.0.1:{node.port}"], limits=STRANGERS) as nginx:
        yield nginx


def from_address(
    source: str,
    nginx: Nginx,
    path: str,
    method: str = "GET",
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Answer:
    connection = HTTPConnection(
        "127.0.0.1", nginx.port, timeout=20 * STRETCH, source_address=(source, 0)
    )
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        received = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, received, response.read())
    finally:
        connection.close()


def test_beacons_of_one_address_are_limited_and_those_answered_are_counted(nginx: Nginx) -> None:
    answered = [from_address("127.0.0.2", nginx, f"/hit/v{number}") for number in range(60)]
    counted = [answer for answer in answered if answer.status == 204]
    assert 20 <= len(counted) < 30
    refused = next(answer for answer in answered if answer.status != 204)
    assert refused.status == 429
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["access-control-allow-origin"] == "*"
    assert refused.problem()["title"] == "Too Many Requests"
    log = nginx.visit_log(1)
    until(lambda: log.exists() and len(log.read_text().splitlines()) >= len(counted), 5, "logged")
    assert len(log.read_text().splitlines()) == len(counted)
    assert from_address("127.0.0.3", nginx, "/hit/cats").status == 204


def test_requests_of_one_address_are_limited_and_beacons_are_others(nginx: Nginx) -> None:
    paths = ("/video/cats", "/count/cats", "/", "/static/embed.js")
    asked = [from_address("127.0.0.4", nginx, paths[number % 4]) for number in range(60)]
    assert 30 <= sum(answer.status == 200 for answer in asked) < 40
    assert {answer.status for answer in asked} == {200, 429}
    assert from_address("127.0.0.4", nginx, "/hit/cats").status == 204
    assert from_address("127.0.0.5", nginx, "/video/cats").status == 200


def test_proxies_that_are_listed_are_not_limited(nginx: Nginx) -> None:
    for path in ("/video/cats", "/hit/cats"):
        assert {from_address("127.1.0.2", nginx, path).status for _ in range(60)} <= {200, 204}


def test_connections_of_one_address_are_limited(tmp_path: Path, stack: ExitStack) -> None:
    # It answers nothing, so that all of them wait.
    silent = stack.enter_context(Backend(lambda connection: connection.settimeout(1)))
    nginx = stack.enter_context(Nginx(tmp_path, [silent.address], limits=STRANGERS))
    held = []
    for _ in range(10):
        connection = stack.enter_context(
            socket.create_connection(
                ("127.0.0.1", nginx.port), timeout=5 * STRETCH, source_address=("127.0.0.2", 0)
            )
        )
        connection.sendall(b"POST /video/cats HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
        held.append(connection)
    # nginx has several processes: which of the ten come first is not said by the order here.
    until(lambda: len(select(held, [], [], 0)[0]) >= 5, 5, "five are answered")
    refused = select(held, [], [], 0)[0]
    assert [connection.recv(100).split()[1] for connection in refused] == [b"429"] * 5


def post_half(nginx: Nginx, source: str, path: str = "/visits") -> socket.socket:
    connection = socket.create_connection(
        ("127.0.0.1", nginx.port), timeout=5 * STRETCH, source_address=(source, 0)
    )
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" % path.encode()
    connection.sendall(head + bytes(500_000))
    return connection


def test_long_posts_that_one_address_has_under_way_are_few(nginx: Nginx) -> None:
    # Each of them may fill 1 MiB of what nginx has for all of them.
    with ExitStack() as stack:
        paths = ("/visits", "/videos")
        held = [
            stack.enter_context(post_half(nginx, "127.0.0.6", paths[number % 2]))
            for number in range(5)
        ]
        until(lambda: len(select(held, [], [], 0)[0]) == 2, 5, "two are refused")
        refused = select(held, [], [], 0)[0]
        assert [connection.recv(100).split()[1] for connection in refused] == [b"429"] * 2
        assert from_address("127.0.0.6", nginx, "/video/cats").status == 200
        assert from_address("127.0.0.7", nginx, "/visits", "POST").status == 415
        trusted = [stack.enter_context(post_half(nginx, "127.1.0.3")) for _ in range(10)]
        assert from_address("127.1.0.3", nginx, "/visits", "POST").status == 415
        assert select(trusted, [], [], 0)[0] == []


@pytest.mark.parametrize(("count", "status"), [(6, 431), (45, 400)])
def test_long_heads_are_refused_by_the_node_or_before_it(
    nginx: Nginx, count: int, status: int
) -> None:
    def get(path: str, headers: Mapping[str, str]) -> Answer:
        return from_address("127.1.0.4", nginx, path, headers=headers)

    long = {f"X-{number}": "a" * 8000 for number in range(count)}
    for _ in range(10):
        assert get("/video/cats", long).status == status
        assert get("/video/cats", {"Cookie": "a" * 8000}).status == 200
    ids = "&".join(f"video=v{number:0127}" for number in range(1000))
    kept = {f"X-{number}": "a" * 200 for number in range(40)} | {"Cookie": "a" * 8000}
    assert len(get(f"/counts?{ids}", kept).json()["counters"]) == 1000


@pytest.mark.parametrize(
    ("path", "most", "said"),
    [
        ("/video/cats", 1024, "1 KiB"),
        ("/count/cats", 1024, "1 KiB"),
        ("/", 1024, "1 KiB"),
        ("/dev/burst", 1024, "1 KiB"),
        ("/hit/cats", 65_536, "64 KiB"),
        ("/corrections", 65_536, "64 KiB"),
        ("/visits", 1_048_576, "1 MiB"),
    ],
)
def test_longer_bodies_than_a_node_reads_do_not_reach_it(
    nginx: Nginx, tmp_path: Path, path: str, most: int, said: str
) -> None:
    balancer = Node(tmp_path, "nginx", nginx.port)
    kind = {"Content-Type": "application/json"}
    answer = ask(balancer, "POST", path, kind, bytes(most + 1))
    assert answer.status == 413
    assert said in answer.problem()["detail"]
    assert answer.headers["x-served-by"] == "balancer"
    if path != "/visits":
        assert ask(balancer, "POST", path, kind, bytes(most)).status != 413


@pytest.mark.proof
@pytest.mark.parametrize(
    "part",
    [
        b"GET /video/cats HTTP/1.1\r\nHo",
        b"POST /visits HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n[",
    ],
)
def test_half_sent_requests_are_given_up(nginx: Nginx, part: bytes) -> None:
    with socket.create_connection(("127.0.0.1", nginx.port), timeout=15 * STRETCH) as connection:
        connection.sendall(part)
        began = time.monotonic()
        with suppress(ConnectionError):
            while connection.recv(4096):
                continue
        assert 8 < time.monotonic() - began < 14 * STRETCH
