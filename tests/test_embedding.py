"""Numbers on other sites: each example of docs/embedding.md, on a page from another origin."""

import os
import re
import shlex
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from lab.browser import CHROMIUM, QUIET
from lab.clients import fetch, fill, until
from lab.servers import ROOT, Nginx, Node, find, free_port

DOCUMENT = (ROOT / "docs/embedding.md").read_text()
NUMBER = re.compile(r"[0-9]")


def examples(language: str, of: str = "") -> list[str]:
    """The examples in a language, those with `of` in them."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
    return [example for example in found if of in example]


def only(language: str, of: str) -> str:
    [example] = examples(language, of)
    return example


class Site:
    """Another site, at an origin of its own: `localhost`, where nodes are at 127.0.0.1."""

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        self.policy = ""
        self.headers: dict[str, str] = {}
        self.asked: list[str] = []
        self.released = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                if self.path == "/when-released":
                    site.released.wait(30)
                page = site.pages.get(self.path, "").encode()
                self.send_response(200 if page or self.path.startswith("/when") else 204)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(page)))
                if site.policy:
                    self.send_header("Content-Security-Policy", site.policy)
                for name, value in site.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, *_: object) -> None:
                """The test's own words are enough."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://localhost:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="site")

    def show(self, body: str, at: str = "/") -> str:
        """Put a page there; return its address."""
        self.pages[at] = f'<!doctype html><html lang="en"><title>Elsewhere</title>{body}'
        return self.url + at

    def __enter__(self) -> "Site":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Nginx]]:
    """A node, and nginx in front of it."""
    folder = tmp_path_factory.mktemp("embedding")
    port = free_port()
    nginx = Nginx(folder / "nginx", [f"127.0.0.1:{port}"])
    settings = {"DRAIN_TIME": "0", "VISIT_LOG": str(nginx.visit_log(1))}
    with Node(folder / "counter1", "counter1", port, settings) as node, nginx:
        node.wait_ready()
        yield node, nginx


@pytest.fixture(params=["node", "nginx"])
def url(request: pytest.FixtureRequest, cluster: tuple[Node, Nginx]) -> str:
    """Where the cluster is for visitors: a node itself, and nginx."""
    return cluster[0].url if request.param == "node" else cluster[1].url


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that must not complain."""
    context = browser.new_context(locale="de-DE")
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    yield page
    context.close()
    assert complaints == []


def visits(url: str, video: str) -> int:
    return int(fetch(url, f"/count/{video}")["visits"])


def count(url: str, video: str, many: int) -> None:
    fill(url, {video: many})


def here(example: str, url: str) -> str:
    """An example as it is written for the cluster of this test."""
    assert "127.0.0.1:1234" in example
    return example.replace("127.0.0.1:1234", url.removeprefix("http://"))


def shows(page: Page, place: str, number: Callable[[], int]) -> None:
    """Wait until an element shows a number as a German reader writes it."""
    until(
        lambda: page.locator(place).inner_text() == f"{number():,}".replace(",", "."),
        10,
        f"{place} shows {number()}",
    )


def is_drawn(badge: Locator) -> None:
    until(lambda: badge.evaluate("picture => picture.naturalWidth") > 50, 5, "a picture")


def test_every_example_is_tested() -> None:
    assert len(examples("markdown")) == 1
    assert len(examples("html")) == 7
    assert len(examples("console")) == 2
    assert len(examples("text")) == 1
    assert len(examples("nginx")) == 1
    assert DOCUMENT.count("```") == 2 * 12


def test_a_live_number_is_shown_and_its_visit_counted_once(
    url: str, site: Site, page: Page
) -> None:
    example = here(only("html", "data-count"), url)
    count(url, "cats", 1_000)
    before, dogs = visits(url, "cats"), visits(url, "dogs")
    # A second element for the same video is no second visit.
    page.goto(site.show(example + '<b id="again" data-visits="cats" data-count></b>'))
    shows(page, "[data-visits=dogs]", lambda: dogs)
    shows(page, "span[data-visits=cats]", lambda: before + 1)
    count(url, "cats", 5)
    shows(page, "#again", lambda: before + 6)
    assert visits(url, "cats") == before + 6, "exactly one of them is the page's own"
    for number in page.locator("[data-visits]").all():
        assert number.get_attribute("aria-live") is None


@pytest.mark.alone
def test_a_visit_at_the_site_is_seen_within_a_second(url: str, site: Site, page: Page) -> None:
    page.goto(site.show(here(only("html", "data-count"), url)))
    shows(page, "[data-visits=dogs]", lambda: visits(url, "dogs"))
    count(url, "dogs", 1)
    seen = page.locator("[data-visits=dogs]")
    assert until(lambda: seen.inner_text() == str(visits(url, "dogs")), 5, "it is seen") < 1.0


def test_a_policy_as_the_document_says_lets_everything_through(
    url: str, site: Site, page: Page
) -> None:
    [policy] = examples("text")
    site.policy = f"default-src 'none'; {here(policy, url).strip()}"
    body = here(only("html", "data-count") + only("html", "label=views"), url)
    before = visits(url, "cats")
    page.goto(site.show(body))
    shows(page, "[data-visits=cats]", lambda: before + 1)
    is_drawn(page.locator("img"))


def test_a_site_that_is_isolated_from_others_may_embed_everything(
    url: str, site: Site, page: Page
) -> None:
    site.headers = {
        "Cross-Origin-Embedder-Policy": "require-corp",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
    count(url, "cats", 1)
    dogs = visits(url, "dogs")
    page.goto(
        site.show(
            here(only("html", "label=views") + only("html", "data-count"), url)
            + f'<link rel="stylesheet" href="{url}/static/style.css">'
            + f'<video src="{url}/static/clips/clock.webm" preload="metadata"></video>'
            + f'<img id="beacon" src="{url}/hit/dogs" alt="">'
        )
    )
    assert page.evaluate("crossOriginIsolated")
    is_drawn(page.locator("img[alt^=views]"))
    shows(page, "[data-visits=cats]", lambda: visits(url, "cats"))
    shows(page, "[data-visits=dogs]", lambda: dogs + 1)
    clip = page.locator("video")
    until(lambda: clip.evaluate("clip => clip.readyState") > 0, 5, "the clip is read")
    assert page.evaluate("document.styleSheets.length") == 1


NO_BEACON = {
    "missing": "delete Navigator.prototype.sendBeacon",
    "false": "Navigator.prototype.sendBeacon = () => false",
    "failing": "Navigator.prototype.sendBeacon = () => { throw new TypeError('blocked') }",
    "no function": "Navigator.prototype.sendBeacon = null",
}


@pytest.mark.parametrize("script", NO_BEACON.values(), ids=NO_BEACON)
def test_without_a_beacon_numbers_are_shown_and_a_visit_counts_once(
    url: str, site: Site, page: Page, script: str
) -> None:
    page.add_init_script(script)
    count(url, "cats", 1)
    before = visits(url, "cats")
    fetches: list[str] = []
    page.on("request", lambda asked: fetches.append(f"{asked.resource_type} {asked.url}"))
    page.goto(site.show(here(only("html", "data-count"), url)))
    shows(page, "[data-visits=cats]", lambda: before + 1)
    assert fetches.count(f"fetch {url}/hit/cats") == 1
    count(url, "cats", 1)
    shows(page, "[data-visits=cats]", lambda: before + 2)
    assert visits(url, "cats") == before + 2


NO_CONNECTION = {
    "no sockets": "delete globalThis.WebSocket",
    "sockets that fail": "globalThis.WebSocket = class { constructor() { throw new Error('no') } }",
    "no events": "delete globalThis.EventSource",
    "neither": "delete globalThis.WebSocket; delete globalThis.EventSource",
}


@pytest.mark.parametrize("script", NO_CONNECTION.values(), ids=NO_CONNECTION)
def test_without_a_kind_of_connection_a_visit_counts_and_the_number_goes_on(
    url: str, site: Site, page: Page, script: str
) -> None:
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.add_init_script(script)
    count(url, "cats", 1)
    before = visits(url, "cats")
    page.goto(site.show(here(only("html", "data-count"), url)))
    shows(page, "[data-visits=cats]", lambda: before + 1)
    count(url, "cats", 1)
    shows(page, "[data-visits=cats]", lambda: before + 2)
    assert errors == []


def test_a_visit_without_a_beacon_outlives_its_page(url: str, site: Site, page: Page) -> None:
    page.add_init_script("delete Navigator.prototype.sendBeacon")
    before = visits(url, "cats")
    script = (
        '<b id="later"></b><script type="module">'
        f'import {{ scan }} from "{url}/static/embed.js";'
        'Object.assign(document.querySelector("b").dataset, { visits: "cats", count: "" });'
        'scan(); location.href = "/left";</script>'
    )
    site.show("<p>left</p>", at="/left")
    page.goto(site.show(script))
    page.wait_for_url("**/left")
    until(lambda: visits(url, "cats") == before + 1, 5, "it is counted")


def test_numbers_are_shown_where_neither_beacon_nor_fetch_works(
    url: str, site: Site, page: Page
) -> None:
    page.add_init_script(
        "delete Navigator.prototype.sendBeacon; fetch = () => { throw new TypeError('blocked') }"
    )
    count(url, "birds", 1)
    page.goto(
        site.show(
            f'<script type="module" src="{url}/static/embed.js"></script>'
            '<b data-visits="birds" data-count></b><i data-visits="fish" data-count></i>'
        )
    )
    shows(page, "b", lambda: visits(url, "birds"))
    page.evaluate("() => { document.querySelector('i').dataset.visits = 'birds' }")
    shows(page, "i", lambda: visits(url, "birds"))


def test_elements_in_a_shadow_root_are_found_and_counted_once(
    url: str, site: Site, page: Page
) -> None:
    count(url, "cats", 1)
    before = visits(url, "cats")
    page.goto(site.show(here(only("html", "attachShadow"), url)))
    inner = "visit-count b"
    shows(page, inner, lambda: before)
    page.evaluate(
        """async (url) => {
            const { scan } = await import(`${url}/static/embed.js`);
            const { shadowRoot } = document.querySelector("visit-count");
            shadowRoot.querySelector("b").dataset.count = "";
            for (const root of [shadowRoot, shadowRoot, undefined]) scan(root);
        }""",
        url,
    )
    shows(page, inner, lambda: before + 1)
    count(url, "cats", 1)
    shows(page, inner, lambda: before + 2)
    assert visits(url, "cats") == before + 2, "twice is once"


ROOTS = {
    "closed": "scan(root);",
    "scanned before it is on the page": "host.remove(); scan(root); document.body.append(host);",
    "its host": "scan(open);",
    "the element itself": "scan(root.querySelector('b'));",
    "an element around it": "scan(root.querySelector('p'));",
    "in another root, into which it comes": """
        host.remove(); scan(root);
        const outer = document.body.appendChild(document.createElement("div"));
        outer.attachShadow({ mode }).append(host);""",
    "in another root, into which it comes later": """
        host.remove(); scan(root); await soon(); await soon();
        const outer = document.body.appendChild(document.createElement("div"));
        outer.attachShadow({ mode }).append(host);""",
    "moved": "scan(root); host.remove(); await soon(); document.body.append(host);",
    "filled later": "root.innerHTML = ''; scan(root); await soon(); root.innerHTML = HTML;",
    "a frame": """
        const frame = document.body.appendChild(document.createElement("iframe"));
        frame.contentDocument.body.append(host);
        scan(frame.contentDocument); scan(root);""",
    "a fragment": """
        const part = new DocumentFragment(); part.append(root.querySelector("p"));
        scan(part); document.body.append(part);""",
}


@pytest.mark.parametrize("how", ROOTS)
def test_a_number_in_any_root_is_shown_and_goes_on(
    cluster: tuple[Node, Nginx], site: Site, page: Page, how: str
) -> None:
    url = cluster[0].url
    count(url, "roots", 1)
    before = visits(url, "roots")
    page.goto(site.show("<p>Roots</p>"))
    page.evaluate(
        """async ([url, mode, act]) => {
            const { scan } = await import(`${url}/static/embed.js`);
            const HTML = "<p><b data-visits='roots' data-count>some</b></p>";
            const soon = () => new Promise((done) => setTimeout(done));
            const host = document.body.appendChild(document.createElement("div"));
            const root = host.attachShadow({ mode });
            root.innerHTML = HTML;
            globalThis.seen = () =>
                (root.querySelector("b") ?? document.querySelector("b")).textContent;
            const run = `return (async () => { ${act} })()`;
            await new Function("scan", "host", "root", "open", "HTML", "soon", "mode", run)(
                scan, host, root, host, HTML, soon, mode);
        }""",
        [url, "open" if how == "its host" else "closed", ROOTS[how]],
    )
    for more in (1, 2):
        until(lambda: page.evaluate("seen()") == str(before + more), 5, f"{before + more}")  # noqa: B023
        if more == 1:
            count(url, "roots", 1)
    assert visits(url, "roots") == before + 2


def test_scan_takes_whatever_an_event_or_a_closed_root_hands_it(
    cluster: tuple[Node, Nginx], site: Site, page: Page
) -> None:
    url = cluster[0].url
    count(url, "roots", 1)
    page.goto(site.show('<p><b data-visits="roots"></b></p>'))
    page.evaluate(
        """async (url) => {
            const { scan } = await import(`${url}/static/embed.js`);
            addEventListener("scanned", scan);
            dispatchEvent(new Event("scanned"));
            [null, undefined, "p", 7, {}, document, document.body, new Text("x")].forEach(scan);
        }""",
        url,
    )
    shows(page, "b", lambda: visits(url, "roots"))


def test_elements_that_come_later_are_found(url: str, site: Site, page: Page) -> None:
    count(url, "birds", 3)
    page.goto(site.show(here(only("html", "scan()"), url)))
    shows(page, "[data-visits=birds]", lambda: visits(url, "birds"))
    count(url, "fish", 4)
    page.evaluate(
        """() => {
            const more = document.createElement("p");
            const number = more.appendChild(document.createElement("i"));
            number.dataset.visits = "fish";
            document.body.append(more);
        }"""
    )
    shows(page, "[data-visits=fish]", lambda: visits(url, "fish"))
    page.evaluate("() => { document.querySelector('i').dataset.visits = 'birds' }")
    shows(page, "i", lambda: visits(url, "birds"))


def test_a_wrong_id_is_left_as_it_is_with_a_warning(url: str, site: Site, browser: Browser) -> None:
    context = browser.new_context()
    page = context.new_page()
    warnings: list[str] = []
    page.on("console", lambda message: warnings.append(message.text))
    script = f'<script type="module" src="{url}/static/embed.js"></script>'
    wrong = '<b data-visits="&lt;img src=x onerror=alert(1)>" data-count>some</b>'
    page.goto(site.show(f'{script}{wrong}<i data-visits="fine">some</i>'))
    expect(page.locator("i")).to_have_text(NUMBER)
    assert page.locator("b").inner_text() == "some"
    assert len(warnings) == 1
    assert "is no video's id" in warnings[0]
    context.close()


@pytest.mark.parametrize("of", ["fetch(", "new WebSocket("])
def test_a_script_of_its_own_reads_a_number(url: str, site: Site, page: Page, of: str) -> None:
    count(url, "cats", 1_000)
    page.goto(site.show(here(only("html", of), url)))
    shows(page, "output", lambda: visits(url, "cats"))


def test_badges_are_pictures(url: str, site: Site, page: Page) -> None:
    [markdown] = examples("markdown")
    picture, link = re.findall(r"\((http[^)]+)\)", here(markdown, url))
    body = f'<a href="{link}"><img alt="visits" src="{picture}"></a>'
    before = visits(url, "cats")
    page.goto(site.show(body + here(only("html", "label=views"), url)))
    for badge in page.locator("img").all():
        is_drawn(badge)
    assert visits(url, "cats") == before


def test_a_beacon_without_a_script_counts_each_load(url: str, site: Site, page: Page) -> None:
    before = visits(url, "cats")
    address = site.show(here(only("html", "/hit/"), url))
    for _ in range(2):
        page.goto(address)
    until(lambda: visits(url, "cats") == before + 2, 5, "both are counted")


def test_the_commands_print_what_the_document_says(url: str) -> None:
    before = visits(url, "cats")
    commands = 0
    for example in examples("console"):
        lines = example.splitlines()
        for command, printed in zip(lines[::2], lines[1::2], strict=True):
            done = subprocess.run(
                ["sh", "-c", here(command.removeprefix("$ "), url)],
                capture_output=True,
                text=True,
                timeout=20,
                check=True,
            )
            assert shlex.split(command)[1] == "curl"
            assert done.stdout.strip() == printed
            commands += 1
    assert commands == 3
    until(lambda: visits(url, "cats") == before + 2, 5, "both hits are counted")


@contextmanager
def lone_browser(address: str) -> Iterator[None]:
    """A browser that nobody drives: one with its tools open renders nothing in advance."""
    # Not the test's own folder: the name of a socket in it would be too long.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        program = [find(CHROMIUM) or CHROMIUM, f"--user-data-dir={folder}/own"]
        process = subprocess.Popen(
            [*program, *QUIET, address],
            env=os.environ | {"TMPDIR": folder},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_a_page_rendered_in_advance_counts_nothing_until_it_is_shown(
    cluster: tuple[Node, Nginx], site: Site
) -> None:
    url = cluster[1].url
    before = visits(url, "cats")
    embedded = here(only("html", "data-count"), url)
    site.show(
        f"""{embedded}<script type="module">
            await import("{url}/static/embed.js");
            await fetch(`/ran?in-advance=${{document.prerendering}}`);
            document.addEventListener("prerenderingchange", () => fetch("/shown"));
        </script>""",
        at="/in-advance",
    )
    address = site.show(
        """<script type="speculationrules">
            {"prerender": [{"urls": ["/in-advance"], "eagerness": "immediate"}]}
        </script>
        <script type="module">
            await fetch("/when-released");
            location.href = "/in-advance";
        </script>"""
    )
    with lone_browser(address):
        until(lambda: "/ran?in-advance=true" in site.asked, 20, "it ran, and nobody sees it")
        assert visits(url, "cats") == before
        site.released.set()
        until(lambda: "/shown" in site.asked, 20, "it is shown")
        until(lambda: visits(url, "cats") == before + 1, 5, "it is counted")
        count(url, "cats", 1)
        assert visits(url, "cats") == before + 2


class Narrow(Nginx):
    """A proxy that knows neither WebSockets nor answers without an end."""

    def prepare(self) -> None:
        super().prepare()
        conf = self.folder / "nginx.conf"
        text, found = re.subn(r"(location /live \{)", r"\1 return 403;", conf.read_text())
        assert found == 1
        conf.write_text(text)


def test_where_no_connection_gets_through_numbers_are_read(
    cluster: tuple[Node, Nginx], site: Site, browser: Browser, tmp_path: Path
) -> None:
    context = browser.new_context()
    page = context.new_page()
    with Narrow(tmp_path, [f"127.0.0.1:{cluster[0].port}"]) as narrow:
        count(narrow.url, "slow", 1)
        script = f'<script type="module" src="{narrow.url}/static/embed.js"></script>'
        page.goto(site.show(f'{script}<b data-visits="slow"></b>'))
        for number in ("1", "2"):
            expect(page.locator("b")).to_have_text(number, timeout=15_000)
            count(narrow.url, "slow", 1)
    context.close()


def test_a_badge_of_a_joining_node_is_shown_by_browsers(
    site: Site, browser: Browser, tmp_path: Path
) -> None:
    nobody = {"PEERS": f"http://127.0.0.1:{free_port()}", "JOIN_TIMEOUT": "60"}
    node = Node(tmp_path, "counter1", settings=nobody).start()
    context = browser.new_context()
    try:
        page = context.new_page()
        with page.expect_response("**/badge/**") as answered:
            page.goto(site.show(f'<img alt="" src="{node.url}/badge/cats.svg">'))
        assert answered.value.status == 503
        is_drawn(page.locator("img"))
    finally:
        context.close()
        node.kill()


def plays(url: str, span: str, before: str = "", after: str = "") -> str:
    """A page with a clip that does not play yet, and the number of its video."""
    clip = f'<video id="clip" src="{url}/static/clips/clock.webm" muted loop width="200"></video>'
    script = f'<script type="module" src="{url}/static/embed.js"></script>'
    return f'<div style="height: 90vh">{before}</div><p>{clip}{span}</p>{after}{script}'


def has_played(page: Page, seconds: float, clip: str = "clip") -> None:
    until(lambda: page.evaluate(f"{clip}.currentTime") > seconds, 10, f"{seconds} s of {clip}")


def test_a_visit_may_wait_until_its_video_was_really_played(
    url: str, site: Site, page: Page
) -> None:
    before = visits(url, "played")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if "/hit/" in request.url else None)
    # Another video on the page plays all the time, further away.
    other = f'<video id="other" src="{url}/static/clips/clock.webm" muted loop width="200"></video>'
    span = '<b id="number" data-visits="played" data-count data-after="1.5"></b>'
    page.set_viewport_size({"width": 600, "height": 600})
    page.goto(site.show(plays(url, span, before=other)))
    shows(page, "#number", lambda: before)
    page.evaluate("other.play()")
    has_played(page, 3, "other")
    assert sent == [], "its own video stands still"
    # It is below what is seen: nobody watches.
    page.evaluate("document.querySelector('div').style.height = '300vh'; clip.play()")
    has_played(page, 3)
    assert sent == [], "its own video is not on the screen"
    # It is on the screen, and so is whatever contains it, but nobody sees it.
    page.evaluate("clip.scrollIntoView(); clip.parentElement.style.visibility = 'hidden'")
    page.evaluate("clip.currentTime = 0")
    has_played(page, 3)
    assert sent == [], "its own video is hidden"
    page.evaluate("clip.pause(); clip.currentTime = 0; clip.parentElement.style.visibility = ''")
    page.evaluate("clip.play()")
    shows(page, "#number", lambda: before + 1)
    assert page.evaluate("clip.currentTime") > 1.2
    has_played(page, 4)
    assert sent == [f"{url}/hit/played"]
    assert visits(url, "played") == before + 1


def test_a_visit_may_wait_for_a_video_that_is_named(url: str, site: Site, page: Page) -> None:
    before = visits(url, "named")
    span = '<b id="number" data-visits="named" data-count data-after="1" data-player="far"></b>'
    far = f'<video id="far" src="{url}/static/clips/clock.webm" muted loop width="200"></video>'
    page.goto(site.show(plays(url, span, before=far)))
    page.evaluate("clip.play()")
    has_played(page, 2.5)
    assert visits(url, "named") == before
    page.evaluate("far.play()")
    shows(page, "#number", lambda: before + 1)


def test_a_visit_without_a_video_waits_as_long_as_the_page_is_seen(
    url: str, site: Site, page: Page
) -> None:
    before = visits(url, "read")
    page.goto(
        site.show(
            '<b id="number" data-visits="read" data-count></b><script type="module" '
            f'src="{url}/static/embed.js" data-after="1"></script>'
        )
    )
    shows(page, "#number", lambda: before)
    began = time.monotonic()
    shows(page, "#number", lambda: before + 1)
    assert time.monotonic() - began > 0.3
    page.reload()
    shows(page, "#number", lambda: before + 2)


@pytest.mark.parametrize("asks", ["navigator.doNotTrack", "navigator.globalPrivacyControl"])
def test_a_reader_who_asks_not_to_be_tracked_is_counted_and_not_recognized(
    url: str, site: Site, page: Page, asks: str
) -> None:
    before = visits(url, "private")
    value = "'1'" if asks.endswith("Track") else "true"
    name = asks.removeprefix("navigator.")
    page.add_init_script(f"Object.defineProperty(navigator, '{name}', {{value: {value}}})")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if "/hit/" in request.url else None)
    page.goto(
        site.show(
            '<b data-visits="private" data-count data-respect-dnt></b>'
            '<b data-visits="other" data-count></b>'
            f'<script type="module" src="{url}/static/embed.js"></script>'
        )
    )
    until(lambda: visits(url, "private") == before + 1, 5, "the visit counts")
    until(lambda: len(sent) == 2, 5, "two beacons")
    assert sorted(sent) == [f"{url}/hit/other", f"{url}/hit/private?dnt=1"]
