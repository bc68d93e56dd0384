"""Pages of other sites, and names that others point at this machine, change nothing here."""

import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from app import create_app
from counter.config import Config
from lab.servers import Nginx, Node
from tests.test_http import Answer, ask

TOKEN = "only-for-tests"
EVIL = "http://evil.example"
CHANGES = [
    ("POST", "/dev/cut"),
    ("POST", "/dev/heal"),
    ("POST", "/dev/burst?video=cats"),
    ("POST", "/mesh"),
    ("DELETE", "/cluster/counter9~0"),
]
OPEN = [
    ("GET", "/"),
    ("GET", "/video/cats"),
    ("GET", "/count/cats"),
    ("GET", "/hit/cats"),
    ("POST", "/hit/cats"),
    ("POST", "/visits"),
    ("GET", "/cluster"),
    ("GET", "/badge/cats.svg"),
]

pytestmark = pytest.mark.nodes(1, DEV_MODE="1", ADMIN_TOKEN=TOKEN, TRUSTED_PROXIES="127.1.0.0/16")


def change(node: Node, method: str, path: str, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    kind = "application/octet-stream" if path == "/mesh" else "application/json"
    named |= {"Authorization": f"Bearer {TOKEN}", "Content-Type": kind}
    return ask(node, method, path, named, b"[]" if method == "POST" else None)


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_a_foreign_page_in_an_old_browser_changes_nothing(
    node: Node, method: str, path: str
) -> None:
    # Older browsers send no Sec-Fetch-Site.
    for origin in (EVIL, "null", "https://127.0.0.1:1", f"{node.url}.evil.example", "http://[", ""):
        answer = change(node, method, path, Origin=origin)
        assert answer.status == 403, origin
        assert answer.problem()["title"] == "Another site"


@pytest.mark.parametrize(("method", "path"), CHANGES)
@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:80", "localhost.evil.example"]
)
def test_a_name_that_others_point_at_this_machine_changes_nothing(
    node: Node, method: str, path: str, host: str
) -> None:
    # The page has this name, so that to the browser it asks its own site.
    for headers in ({}, {"Origin": f"http://{host}"}, {"Sec-Fetch-Site": "same-origin"},
                    {"X-Forwarded-Host": "127.0.0.1"}):  # fmt: skip
        answer = change(node, method, path, Host=host, **headers)
        assert answer.status == 421
        assert "ALLOWED_HOSTS" in answer.problem()["detail"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/cluster", "/videos", "/corrections", "/what-comes-later"])
def test_whatever_may_change_something_is_guarded(node: Node, method: str, path: str) -> None:
    assert ask(node, method, path, {"Origin": EVIL}).status == 403
    assert ask(node, method, path, {"Host": "evil.example"}).status == 421


@pytest.mark.parametrize(("method", "path"), OPEN)
def test_pages_numbers_visits_and_beacons_answer_under_any_name_to_any_page(
    node: Node, method: str, path: str
) -> None:
    headers = {"Host": "evil.example", "Origin": EVIL, "Content-Type": "application/json"}
    body = b"[]" if path == "/visits" else None
    assert ask(node, method, path, headers, body).status in (200, 204)


def test_a_page_of_the_node_itself_may_change_it(node: Node) -> None:
    own = f"127.0.0.1:{node.port}"
    assert change(node, "POST", "/dev/heal", Origin=node.url).status == 204
    for host in (f"localhost:{node.port}", "LOCALHOST", "[::1]:80", "app.localhost", "10.1.2.3",
                 socket.gethostname()):  # fmt: skip
        assert change(node, "POST", "/dev/heal", Host=host).status == 204, host
        assert change(node, "POST", "/dev/heal", Host=host, Origin=f"http://{host}").status == 204
        assert change(node, "POST", "/dev/heal", Host=host, Origin=f"http://{own}").status == 403


def test_only_a_trusted_proxy_says_which_host_was_asked_for(node: Node) -> None:
    for source, status in (("127.1.0.1", 204), ("127.0.0.1", 403)):
        connection = HTTPConnection("127.0.0.1", node.port, source_address=(source, 0))
        headers = {"Origin": "https://site.example", "X-Forwarded-Host": "site.example"}
        connection.request("POST", "/dev/heal", headers=headers)
        assert connection.getresponse().status == status
        connection.close()


def test_the_demonstration_works_through_nginx(node: Node, tmp_path: Path) -> None:
    with Nginx(tmp_path, [f"127.0.0.1:{node.port}"]) as nginx:
        balancer = Node(tmp_path, "nginx", nginx.port)
        assert ask(balancer, "POST", "/dev/heal", {"Origin": balancer.url}).status == 204
        assert ask(balancer, "POST", "/dev/heal", {"Origin": EVIL}).status == 403


@pytest.mark.parametrize(
    ("settings", "host", "status"),
    [
        ({}, "evil.example", 421),
        ({}, "127.0.0.1:1234", 404),
        ({"listen_host": "0.0.0.0", "cluster_secret": TOKEN}, "any.example", 404),
        ({"allowed_hosts": ("counter.example",)}, "Counter.Example:1234", 404),
        ({"allowed_hosts": ("counter.example",)}, "counter.example.", 404),
        ({"allowed_hosts": ("counter.example",)}, "127.0.0.1", 404),
        ({"allowed_hosts": ("counter.example",)}, socket.gethostname() or "x", 421),
        ({"allowed_hosts": ("*",)}, "evil.example", 404),
        (
            {"allowed_hosts": ("counter.example",), "listen_host": "0.0.0.0",
             "cluster_secret": TOKEN},
            "evil.example",
            421,
        ),
    ],
)  # fmt: skip
def test_the_names_of_a_node_are_a_setting(
    settings: dict[str, object], host: str, status: int
) -> None:
    client = create_app(Config(**settings)).test_client()  # type: ignore[arg-type]
    assert client.post("/what-comes-later", headers={"Host": host}).status_code == status


@pytest.fixture(scope="module")
def through(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("through")
    with Nginx(folder, [f"127.0.0.1:{node.port}"]) as nginx:
        yield Node(folder, "nginx", nginx.port)


@pytest.mark.parametrize(
    "path", ["/cluster", "/cluster/counts?video=cats", "/cluster?video=%2Fetc%2Fpasswd", "/x/y"]
)
def test_no_path_of_the_machine_reaches_a_stranger(through: Node, node: Node, path: str) -> None:
    for accept in ("*/*", "text/html"):
        body = ask(through, "GET", path, {"Accept": accept}).body.decode()
        assert str(node.folder.parent) not in body
        assert str(Path(__file__).parent.parent) not in body
