"""Another nginx in front of the cluster, with its default settings, and under a path."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from lab.clients import STRETCH, Client, fetch, until
from lab.servers import ROOT, Nginx, Node, get
from tests.test_badge import post
from tests.test_embedding import Site, only
from tests.test_http import ask
from tests.test_live_events import open_stream

PLAIN = "location /counter/ { proxy_pass http://127.0.0.1:1234/; }"
DOCUMENTED = only("nginx", "/counter/")


class Outer(Nginx):
    """An nginx that knows nothing of the counter: its settings are the defaults."""

    def __init__(self, folder: Path, target: int, location: str) -> None:
        super().__init__(folder, [])
        self._location = location.replace("127.0.0.1:1234", f"127.0.0.1:{target}")
        assert self._location != location
        self._target = target

    def prepare(self) -> None:
        paths = "".join(
            f"{kind}_temp_path {kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (self.folder / "nginx.conf").write_text(
            f"pid nginx.pid; events {{}} http {{ {paths} access_log off;"
            f"server {{ listen 127.0.0.1:{self.port}; {self._location}"
            f"location / {{ proxy_pass http://127.0.0.1:{self._target}; }} }} }}"
        )

    def answers(self) -> bool:
        return get(self.port, "/healthz") == 200


@pytest.fixture(scope="module")
def inner(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """The balancer."""
    with Nginx(tmp_path_factory.mktemp("inner"), [f"127.0.0.1:{node.port}"]) as inner:
        yield inner


@pytest.fixture(scope="module", params=["balancer", "node"])
def outer(
    request: pytest.FixtureRequest,
    node: Node,
    inner: Nginx,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Outer]:
    """A plain nginx in front of the balancer, and of a node itself."""
    target = inner.port if request.param == "balancer" else node.port
    with Outer(tmp_path_factory.mktemp("outer"), target, PLAIN) as outer:
        yield outer


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(locale="en-US")
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("header", ["X-Forwarded-Ssl: on", "X-Forwarded-Protocol: ssl"])
def test_what_a_tls_proxy_says_in_other_headers_is_no_contradiction(
    inner: Nginx, node: Node, header: str
) -> None:
    """It was a 400 for every request: the balancer says that it was asked without TLS."""
    name, _, value = header.partition(": ")
    for port in (inner.port, node.port):
        with Client(f"http://127.0.0.1:{port}") as client:
            headers = {name: value, "X-Forwarded-Proto": "http"}
            assert client.ask("GET", "/video/proxied", headers)[0] == 200


@pytest.mark.parametrize("path", ["/live/cats", "/live?video=cats&video=dogs"])
@pytest.mark.parametrize("folder", ["", "/counter"])
def test_events_come_at_once_behind_another_nginx_with_its_defaults(
    node: Node, outer: Outer, tmp_path: Path, folder: str, path: str
) -> None:
    behind = Node(tmp_path, "outer", outer.port)
    post(node, "cats", 1)
    with open_stream(behind, folder + path, 5 * STRETCH) as stream:
        assert stream.answer.getheader("Content-Type", "").startswith("text/event-stream")
        for _ in range(3):
            visits = fetch(node.url, "/count/cats")["visits"]
            while (sent := stream.counter())["video"] != "cats" or sent["visits"] < visits:
                continue
            post(node, "cats", 1)


def test_nginx_tells_the_next_one_not_to_hold_events_back(
    node: Node, inner: Nginx, tmp_path: Path
) -> None:
    behind = Node(tmp_path, "inner", inner.port)
    with open_stream(behind, "/live/cats") as stream:
        assert stream.answer.getheader("X-Accel-Buffering") == "no"


@pytest.mark.parametrize("location", [PLAIN, DOCUMENTED], ids=["defaults", "as documented"])
def test_under_a_path_numbers_on_other_sites_are_live_and_count(
    node: Node, inner: Nginx, tmp_path: Path, page: Page, location: str
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("websocket", lambda socket: asked.append(socket.url))
    post(node, "cats", 1)
    before = fetch(node.url, "/count/cats")["visits"]
    with Outer(tmp_path, inner.port, location) as outer, Site() as site:
        home = f"{outer.url}/counter"
        script = f'<script type="module" src="{home}/static/embed.js"></script>'
        page.goto(site.show(f'{script}<b data-visits="cats" data-count></b>'))
        expect(page.locator("b")).to_have_text(str(before))
        until(lambda: page.evaluate("0") or f"{home}/hit/cats" in asked, 5, "a beacon")
        streams = f"{home}/live?video=cats"
        if location == DOCUMENTED:
            streams = streams.replace("http:", "ws:")
            assert streams in asked
        until(lambda: page.evaluate("0") or streams in asked, 5 * STRETCH, "a stream")
        for more in (1, 2):
            post(node, "cats", 1)
            expect(page.locator("b")).to_have_text(str(before + more))
        outside = [
            url
            for url in asked
            if not url.startswith((home, home.replace("http:", "ws:"), site.url))
        ]
        assert outside == [], "nothing is asked for beside the path"


def test_under_a_path_what_other_sites_use_is_answered(
    node: Node, inner: Nginx, tmp_path: Path
) -> None:
    post(node, "cats", 1)
    with Outer(tmp_path, inner.port, PLAIN) as outer:
        behind = Node(tmp_path, "outer", outer.port)
        for method, path, status in [
            ("GET", "/badge/cats.svg", 200),
            ("GET", "/hit/cats", 204),
            ("POST", "/hit/cats", 204),
            ("GET", "/count/cats", 200),
            ("GET", "/counts?video=cats", 200),
            ("GET", "/top", 200),
            ("GET", "/static/embed.js", 200),
        ]:
            answer = ask(behind, method, f"/counter{path}")
            assert answer.status == status, path
            assert answer.headers["access-control-allow-origin"] == "*", path
            assert answer.headers["cross-origin-resource-policy"] == "cross-origin", path


def test_modules_of_pages_of_other_sites_name_no_address_of_their_own() -> None:
    """What `embed.js` needs is beside it, wherever that is."""
    waiting, seen = ["embed.js"], set[str]()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        text = (ROOT / "static" / name).read_text()
        named = re.findall(r'^import .*?"([^"]+)";$', text, re.MULTILINE)
        assert all(other.startswith("./") for other in named), name
        waiting += [other[2:] for other in named if other[2:] not in seen]
    assert "live.js" in seen
