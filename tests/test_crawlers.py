"""How nginx tells crawlers from people: by the list that nodes have, and with their settings."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from itertools import product
from pathlib import Path

import pytest
from crawleruseragents import CRAWLER_USER_AGENTS_DATA

from counter.node.agents import Agents
from lab.clients import fetch
from lab.servers import ROOT, Nginx, Node, find
from tests.agents import BROWSERS as BROWSERS_OF_PEOPLE
from tests.agents import CRAWLERS, LIBRARIES
from tests.test_balancer import Backend
from tests.test_http import ask
from tools.crawlers import BROWSERS, LIBRARY, LONGEST, WRITTEN, conf, pinned, texts

PLACE = """
location = /calls-itself {
    add_header X-Calls-Itself "<$calls_itself>";
    return 204;
}
"""
BROWSER = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/131.0.0.0 Safari/537.36"
)
CUBOT = (
    "Mozilla/5.0 (Linux; Android 11; CUBOT NOTE 20) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/120.0.0.0 Mobile Safari/537.36"
)
CRAWLER = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
OWN = [
    "",
    BROWSER,
    CUBOT,
    CRAWLER,
    "curl/8.5.0",
    "a curl/8.5.0",
    "Wget/1.21",
    "SSL Labs",
    "SSL Labs\N{NO-BREAK SPACE}",
    "sentry/1",
    "xsentry/1",
    "AdsBot-Google",
    "AdsBot-Google-Mobile",
    "a 'quoted' \"one\" with a \\ and a $ and {braces};",
    "\xff\xfe umlauts \xe4\xf6 Googlebot/",
    "x" * 246 + "Googlebot/",
    "x" * 247 + "Googlebot/",
    "x" * 4000,
    "SSL Labs".rjust(256),
    "SSL Labs".rjust(256) + " and more",
    "googlebot/2.1",
    *CRAWLERS,
    *BROWSERS_OF_PEOPLE,
    *LIBRARIES,
]
"""Agents at the edges of what the expressions say, beside those of the list."""


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """The balancer, which also answers what an agent calls itself."""

    class Telling(Nginx):
        def prepare(self) -> None:
            super().prepare()
            whole = self.folder / "nginx.conf"
            place = f"{PLACE}\n        location / {{"
            whole.write_text(whole.read_text().replace("location / {", place, 1))

    with Telling(tmp_path_factory.mktemp("nginx"), ["127.0.0.1:9"]) as nginx:
        yield nginx


def test_the_file_for_nginx_is_that_of_the_list() -> None:
    written = WRITTEN.read_text()
    assert written == conf(CRAWLER_USER_AGENTS_DATA, pinned()), "run `python -m tools.crawlers`"
    # nginx reads at most 4,096 bytes as one parameter.
    assert max(map(len, re.findall(r'"[^\n]*"', written))) < LONGEST + 100


def test_nginx_tells_agents_apart_as_nodes_do(nginx: Nginx) -> None:
    listed = [each for entry in CRAWLER_USER_AGENTS_DATA for each in entry["instances"]]
    assert len(listed) > 2_000
    # A text that each expression stands for, alone and cut short by one letter.
    found = [text for entry in CRAWLER_USER_AGENTS_DATA for text in texts(entry["pattern"]) or ()]
    near = [text[:-1] for text in found]
    connection = HTTPConnection("127.0.0.1", nginx.port, timeout=20)
    kind = Agents().kind
    wrong, seen = [], set()
    for agent in dict.fromkeys([*OWN, *listed, *found, *near]):
        # What surrounds a header's value is no part of it.
        agent = agent.encode("utf-8" if max(map(ord, agent), default=0) > 255 else "latin-1")
        agent = agent.decode("latin-1").strip(" \t")
        connection.putrequest("GET", "/calls-itself", skip_accept_encoding=True)
        connection.putheader("User-Agent", agent.encode("latin-1"))
        connection.endheaders()
        response = connection.getresponse()
        response.read()
        told = response.headers["X-Calls-Itself"]
        expected = kind(agent) if agent else "library"
        seen.add(expected)
        if told != f"<{expected}>":
            wrong.append((agent, told, expected))
    connection.close()
    assert wrong == []
    assert seen == {"", "crawler", "library"}


def test_nothing_of_the_list_is_found_in_what_browsers_call_themselves() -> None:
    listed = "".join(entry["pattern"] for entry in CRAWLER_USER_AGENTS_DATA)
    numbers = {*re.findall(r"[0-9]+", listed), *re.findall(r"[0-9._]+", BROWSER), "10_15_7"}
    systems = ["Windows NT 10.0; Win64; x64", "X11; Linux x86_64", "Linux; Android #; K",
               "X11; CrOS x86_64 #", "iPhone; CPU iPhone OS # like Mac OS X", "Android #; Mobile",
               "Macintosh; Intel Mac OS X #", "iPad; CPU OS # like Mac OS X"]  # fmt: skip
    kits = ["AppleWebKit/# (KHTML, like Gecko) Chrome/# Safari/#", "Gecko/# Firefox/#",
            "AppleWebKit/# (KHTML, like Gecko) Chrome/# Mobile Safari/# OPR/#",
            "AppleWebKit/# (KHTML, like Gecko) Chrome/# Safari/# Edg/#",
            "AppleWebKit/# (KHTML, like Gecko) Version/# Safari/#",
            "AppleWebKit/# (KHTML, like Gecko) Version/# Mobile/15E148 Safari/#"]  # fmt: skip
    kind, matched = Agents().kind, set()
    for number in numbers:
        for system, kit, more in product(systems, kits, ("", "; rv:#")):
            agent = f"Mozilla/5.0 ({system}{more}) {kit}".replace("#", number)
            for browser in BROWSERS:
                if re.search(browser, agent):
                    matched.add(browser)
                    assert kind(agent) == "", agent
    assert matched == set(BROWSERS)
    assert re.search(BROWSERS[0], BROWSER)


def test_nodes_tell_agents_apart_as_the_list_says() -> None:
    kind = Agents().kind
    expressions = {
        tag: re.compile(
            "|".join(
                entry["pattern"]
                for entry in CRAWLER_USER_AGENTS_DATA
                if (LIBRARY in entry.get("tags", ())) == (tag == "library")
            )
        )
        for tag in ("crawler", "library")
    }
    listed = [each for entry in CRAWLER_USER_AGENTS_DATA for each in entry["instances"]]
    for agent in [*OWN, *listed]:
        seen = agent[:256]
        expected = next((tag for tag, one in expressions.items() if one.search(seen)), "")
        assert kind(agent) == expected, agent


@pytest.fixture(scope="module", params=["", "programs", "count"])
def setting(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Nginx]]:
    """A value of BOTS, "" for none, and nginx with it."""
    settings = {"BOTS": request.param} if request.param else {}
    with Nginx(tmp_path_factory.mktemp("bots"), ["127.0.0.1:9"], settings=settings) as nginx:
        yield request.param, nginx


@pytest.mark.parametrize(
    ("agent", "left_out"),
    [
        (BROWSER, ()),
        (CUBOT, ()),
        (CRAWLER, ("", "programs")),
        ("curl/8.5.0", ("programs",)),
        ("", ("programs",)),
    ],
)
def test_a_beacon_that_does_not_count_is_told_so(
    setting: tuple[str, Nginx], agent: str, left_out: tuple[str, ...]
) -> None:
    bots, nginx = setting
    for method, more, is_visit in (
        ("GET", {}, True),
        ("POST", {}, True),
        ("HEAD", {}, False),
        ("GET", {"Sec-Purpose": "prefetch"}, False),
    ):
        with closing(HTTPConnection("127.0.0.1", nginx.port, timeout=20)) as connection:
            connection.request(method, "/hit/cats", headers={"User-Agent": agent, **more})
            response = connection.getresponse()
        expected = "no; reason=bot" if is_visit and bots in left_out else None
        assert (response.status, response.headers["X-Counted"]) == (204, expected)
        assert response.headers["Access-Control-Expose-Headers"] == "X-Counted"


@pytest.mark.parametrize(
    ("settings", "by_node"),
    [
        ({"REPEAT_WINDOW": "0", "VIEWERS": "off"}, False),
        ({"REPEAT_WINDOW": "0.0", "VIEWERS": "0"}, False),
        ({"REPEAT_WINDOW": "60"}, True),
        ({"VIEWERS": "on"}, True),
    ],
)
def test_beacons_go_to_a_node_where_only_nodes_know_whether_they_count(
    tmp_path: Path, settings: dict[str, str], by_node: bool
) -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(
            b"HTTP/1.1 204 No Content\r\nX-Served-By: a-node\r\nX-Counted: no; reason=repeat\r\n"
            b"Connection: close\r\n\r\n"
        )

    sent = {"User-Agent": CRAWLER}
    with (
        Backend(answer) as node,
        Nginx(tmp_path, [node.address], settings=settings) as nginx,
    ):
        balancer = Node(tmp_path, "nginx", nginx.port)
        got = ask(balancer, "GET", "/hit/cats?dnt=1", sent)
        posted = ask(balancer, "POST", "/hit/cats", sent, b"x" * 60_000)
        for each in (got, posted):
            counted = "no; reason=repeat" if by_node else "no; reason=bot"
            assert (each.status, each.headers["x-counted"]) == (204, counted)
            assert each.headers["x-served-by"] == ("a-node" if by_node else "balancer")
        assert ask(balancer, "POST", "/hit/cats", sent, b"x" * 70_000).status == 413
        assert ask(balancer, "PUT", "/hit/cats", sent).status == 405
        assert ask(balancer, "GET", "/hit/a%20b", sent).status == 400
    logged = nginx.visit_log(1).read_text()
    assert len(node.requests) == (2 if by_node else 0)
    assert logged.count("\n") == (0 if by_node else 2)
    if by_node:
        assert node.requests[0].startswith(b"GET /hit/cats?dnt=1 HTTP/1.1\r\n")
        assert b"\r\nX-Forwarded-For: 127.0.0.1\r\n" in node.requests[0]


def test_a_beacon_with_a_token_goes_to_a_node_which_knows_whether_it_is_valid(
    tmp_path: Path, stack: ExitStack
) -> None:
    node = Node(
        tmp_path / "node", "counter1", settings={"DRAIN_TIME": "0", "WRITE_TOKEN": "only-for-tests"}
    )
    stack.enter_context(node).wait_ready()
    nginx = stack.enter_context(Nginx(tmp_path / "nginx", [f"127.0.0.1:{node.port}"]))
    balancer = Node(tmp_path, "nginx", nginx.port)
    for token, counted in (("only-for-tests", None), ("wrong-for-tests", "no; reason=bot")):
        sent = {"User-Agent": CRAWLER, "Authorization": f"Bearer {token}"}
        answer = ask(balancer, "GET", "/hit/cats", sent)
        assert answer.headers["x-served-by"] == "counter1"
        assert (answer.status, answer.headers.get("x-counted")) == (204, counted)
    assert fetch(node.url, "/count/cats")["visits"] == 1
    assert nginx.visit_log(1).read_text() == ""


def test_a_log_has_neither_agent_nor_address(tmp_path: Path) -> None:
    with Nginx(tmp_path, ["127.0.0.1:9"]) as nginx:
        balancer = Node(tmp_path, "nginx", nginx.port)
        for agent in (BROWSER, CRAWLER, "curl/8.5.0"):
            assert ask(balancer, "GET", "/hit/cats", {"User-Agent": agent}).status == 204
    line = r"[0-9]{10}\.[0-9]{3} {}[1-9][0-9]*\.[0-9]+ cats\n"
    person, named = line.replace("{}", ""), line.replace("{}", "0")
    # Two processes of nginx write it, each in its own order.
    logged = "".join(sorted(nginx.visit_log(1).read_text().splitlines(keepends=True)))
    assert re.fullmatch(f"{person}bot {named}library {named}", logged), logged


def test_the_image_starts_nginx_with_the_settings_of_its_environment(tmp_path: Path) -> None:
    for file in (ROOT / "balancer").iterdir():
        shutil.copy(file, tmp_path)
    # As the image has it; nodes have names that resolve there.
    (tmp_path / "settings.conf").unlink()
    (tmp_path / "settings.conf").symlink_to("tmp/settings.conf")
    nodes = (tmp_path / "nodes.conf").read_text()
    (tmp_path / "nodes.conf").write_text(re.sub(r"counter[0-9]:", "127.0.0.1:", nodes))
    for folder in ("tmp", "visits"):
        (tmp_path / folder).mkdir()
    program = find("nginx")
    assert program is not None
    path = f"{Path(program).parent}:{os.environ['PATH']}"

    def start(**settings: str) -> "subprocess.CompletedProcess[str]":
        start = [str(tmp_path / "start.sh"), "-t"]
        return subprocess.run(
            start, env={"PATH": path, **settings}, capture_output=True, text=True, timeout=20
        )

    def written() -> str:
        return (tmp_path / "tmp/settings.conf").read_text()

    done = start(BOTS="programs", REPEAT_WINDOW="3600", VIEWERS="on")
    assert done.returncode == 0, done.stderr
    assert written() == "BOTS programs;\nREPEAT_WINDOW 3600;\nVIEWERS on;\n"
    assert start(BOTS="", REPEAT_WINDOW="").returncode == 0
    assert written() == ""
    done = start(BOTS="x; include /etc/passwd;")
    assert done.returncode == 2
    assert "BOTS=x; include /etc/passwd;: write it as the nodes have it" in done.stderr
    copied = re.findall(
        r"^COPY (.*) \./$", (ROOT / "balancer/Dockerfile").read_text(), re.MULTILINE
    )
    files = {file.name for file in (ROOT / "balancer").iterdir()} - {"Dockerfile", "settings.conf"}
    assert set(copied[0].split()) == files
