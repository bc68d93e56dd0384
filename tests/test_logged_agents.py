"""What nginx's log says of an agent, and how a node counts it."""

import random
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from chaos.classes import BOT, COUNTED, REPEAT, WAYS, Viewer
from chaos.classes import ask as send
from counter.node.visit_log import VisitLog
from counter.protocol.positions import Position
from lab.clients import counted, fetch, metric, until
from lab.cluster import Cluster, complaints
from lab.previous import unpack
from lab.servers import ROOT, Nginx, Node, free_port
from tests.agents import BROWSERS, CRAWLERS, LIBRARIES
from tests.test_embedding import Site
from tests.test_http import ask
from tests.test_visit_log import SETTINGS, agrees, line


def apart(node: Node, video: str) -> dict[str, int]:
    """How many visits of a video do not count, by why."""
    counts: dict[str, int] = fetch(node.url, f"/count/{video}?detail").get("not_counted", {})
    return counts


def named(word: str, video: str, number: int = 0) -> str:
    """A line of an agent that calls itself something."""
    time_, number_, rest = line(video, number).split(" ")
    return f"{word} {time_} 0{number_} {rest}"


def test_visits_by_agents_that_call_themselves_something_are_told_apart(tmp_path: Path) -> None:
    log = tmp_path / "counter1.log"
    bot, library = named("bot", "cats", 1), named("library", "cats", 2)
    log.write_text(bot + library + line("cats", 3) + line("bot", 4) + bot + named("bot", "dogs", 5))
    visits = VisitLog(log)
    [file] = visits.look()
    piece = visits.read(file, Position(file.began))
    assert piece is not None
    assert piece.visits == {"cats": 1, "bot": 1}
    assert piece.named == {
        ("crawler", "cats"): 2, ("library", "cats"): 1, ("crawler", "dogs"): 1,
    }  # fmt: skip
    assert (piece.lines, piece.junk) == (6, 0)


@pytest.mark.parametrize("word", ["bot", "library"])
def test_half_a_line_says_nothing_of_the_next_one(tmp_path: Path, word: str) -> None:
    whole = named(word, "cats", 1)
    for cut in range(len(whole)):
        log = tmp_path / f"{cut}" / "counter1.log"
        log.parent.mkdir()
        half = whole[:cut]
        log.write_text(
            half + line("dogs", 2) + half + named("bot", "birds", 3) + half + line("fish", 4)
        )
        visits = VisitLog(log)
        [file] = visits.look()
        piece = visits.read(file, Position(file.began))
        assert piece is not None
        assert piece.visits == {"dogs": 1, "fish": 1}, cut
        assert piece.named == {("crawler", "birds"): 1}, cut


def test_the_version_before_reads_the_same_log(tmp_path: Path) -> None:
    """It counts whoever it is, knows a file by the same line, and no line is read twice."""
    before = unpack(tmp_path / "before")
    log = tmp_path / "counter1.log"
    settings = SETTINGS | {"VISIT_LOG": str(log)}
    log.write_text(named("bot", "cats", 1) + named("library", "cats", 2) + line("cats", 3))
    with ExitStack() as stack:
        node = Node(tmp_path / "node", "counter1", free_port(), settings, root=before)
        stack.callback(node.kill)
        node.start()
        node.wait_ready()
        agrees(node.url, Counter(cats=3))
        assert fetch(node.url, "/cluster")["log"]["junk"] == 0
        node.stop()
        node.root = ROOT
        node.start()
        node.wait_ready()
        with log.open("a") as more:
            more.write(named("bot", "cats", 4) + named("library", "cats", 5) + line("cats", 6))
        agrees(node.url, Counter(cats=5))
        assert apart(node, "cats") == {"bot": 1}
        log.rename(tmp_path / "counter1.log.1")
        log.write_text(named("bot", "cats", 7))
        until(lambda: apart(node, "cats") == {"bot": 2}, 10, "the crawler in a log of its own")
        agrees(node.url, Counter(cats=5))


def embedded(browser: Browser, site: Site, url: str, agent: str) -> str | None:
    """What a visit of cats is answered in `X-Counted`, if embed.js on a page reports it."""
    content = (
        '<b data-visits="cats" data-count></b>'
        f'<script type="module" src="{url}/static/embed.js"></script>'
    )
    with closing(browser.new_context(user_agent=agent)) as context:
        page = context.new_page()
        with page.expect_response("**/hit/cats") as answered:
            page.goto(site.show(content))
        told: str | None = answered.value.headers.get("x-counted")
        return told


def test_every_request_through_nginx_ends_in_one_number_at_every_node(
    tmp_path: Path, stack: ExitStack, browser: Browser
) -> None:
    """Crawlers and people, by /video, /hit and embed.js, compared with the books of the client."""
    cluster = Cluster(tmp_path, stack, settings=SETTINGS, nginx=Nginx, follows=True)
    balancer = Node(tmp_path, "nginx", cluster.nginx.port)
    videos = ["cats", "dogs", "birds"]
    people, bots = Counter[str](), Counter[str]()
    chance = random.Random(19)
    agents = [*CRAWLERS[:5], *BROWSERS, *LIBRARIES, ""]
    for number in range(300):
        agent, video = chance.choice(agents), chance.choice(videos)
        path, method = chance.choice(
            [(f"/video/{video}", "GET"), (f"/hit/{video}", "GET"), (f"/hit/{video}", "POST")]
        )
        answer = ask(balancer, method, path, {"User-Agent": agent})
        is_bot = agent in CRAWLERS
        (bots if is_bot else people)[video] += 1
        if path.startswith("/video"):
            told = answer.json()
            assert (told.get("counted"), told.get("reason")) == (
                (False, "bot") if is_bot else (None, None)
            )
        else:
            assert answer.status == 204
            assert answer.headers.get("x-counted") == ("no; reason=bot" if is_bot else None)
        if number == 100:
            cluster.nodes[1].kill()
        if number == 200:
            cluster.nodes[1].start()
            cluster.nodes[1].wait_ready()
    site = stack.enter_context(Site())
    for agent in (*BROWSERS[:3], *CRAWLERS[:2]):
        is_bot = agent in CRAWLERS
        told = embedded(browser, site, balancer.url, agent)
        assert told == ("no; reason=bot" if is_bot else None)
        (bots if is_bot else people)["cats"] += 1

    def equal() -> bool:
        return all(
            counted(node.url, videos) == people
            and [apart(node, video) for video in videos]
            == [{"bot": bots[video]} for video in videos]
            for node in cluster.nodes
        )

    until(equal, 20, f"{people} and {bots} at every node")
    assert complaints(cluster.nodes) == []


def test_whoever_comes_again_through_nginx_counts_once_by_whatever_way(
    tmp_path: Path, stack: ExitStack, browser: Browser
) -> None:
    """Each visitor has an address of this machine; nginx alone is trusted to tell it."""
    settings = SETTINGS | {
        "REPEAT_WINDOW": "3600",
        "CLUSTER_SECRET": "a secret of these nodes",
        "TRUSTED_PROXIES": "127.0.0.1/32",
    }
    cluster = Cluster(tmp_path, stack, settings=settings, nginx=Nginx, follows=True)
    balancer = cluster.nginx
    people, repeats, bots = Counter[str](), Counter[str](), Counter[str]()

    def visit(viewer: Viewer, way: int, became: str) -> None:
        method, path = WAYS[way % len(WAYS)]
        headers = {"User-Agent": viewer.agent}
        answer = send(
            balancer.port, method, path.format(viewer.video), headers, address=viewer.address
        )
        assert answer.became == [became], (viewer, method, path, answer)
        {COUNTED: people, REPEAT: repeats, BOT: bots}[became][viewer.video] += 1

    def all_know(viewers: int) -> None:
        until(
            lambda: all(metric(url, "counter_recent_viewers") == viewers for url in cluster.urls),
            10,
            f"all nodes know {viewers} viewers",
        )

    videos = ["cats", "dogs"]
    viewers = [
        Viewer(f"127.1.0.{number // 2 + 1}", agent, videos[number % 2])
        for number, agent in enumerate([*BROWSERS, *LIBRARIES])
    ]
    for way, viewer in enumerate(viewers):
        visit(viewer, way, COUNTED)
    all_know(len(viewers))
    for viewer in viewers:
        for way in range(len(WAYS)):
            visit(viewer, way, REPEAT)
    for way, agent in enumerate(CRAWLERS[:5] * 2):
        visit(Viewer("127.1.1.1", agent, "dogs"), way, BOT)

    site = stack.enter_context(Site())
    for agent in BROWSERS[:2]:
        assert embedded(browser, site, balancer.url, agent) is None
        people["cats"] += 1
    all_know(len(viewers) + 2)
    for agent in BROWSERS[:2]:
        assert embedded(browser, site, balancer.url, agent) == "no; reason=repeat"
        repeats["cats"] += 1
        visit(Viewer("127.0.0.1", agent, "cats"), 0, REPEAT)
        visit(Viewer("127.1.2.1", agent, "cats"), 0, COUNTED)
    assert embedded(browser, site, balancer.url, CRAWLERS[0]) == "no; reason=bot"
    bots["cats"] += 1

    classes = {v: {"bot": bots[v], "repeat": repeats[v]} for v in videos}
    until(
        lambda: all(
            counted(node.url, videos) == people and {v: apart(node, v) for v in videos} == classes
            for node in cluster.nodes
        ),
        20,
        f"{people} and {classes} at every node",
    )
    assert not any(log.read_text() for log in balancer.logs.glob("*.log")), (
        "a node is asked for each"
    )
    assert complaints(cluster.nodes) == []
