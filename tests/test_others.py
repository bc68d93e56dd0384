"""Nodes side by side: one asks the others over HTTP, and passes on what demonstrations want."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app import create_app
from counter.config import Config
from counter.web.survey import KEPT, MAX_VIDEOS, PATIENCE, BusyError, Found, Survey
from lab.clients import until
from lab.servers import Node, free_port
from tests.test_http import ask, get, visits

OWN = Found("here", 3, "ready", False, "process-here")


class Site:
    """A real server on loopback that answers every request as it is told, and counts them."""

    def __init__(self, respond: Callable[[BaseHTTPRequestHandler], None]) -> None:
        self.paths: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.paths.append(self.path)
                with suppress(OSError):  # whoever asked has gone
                    respond(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 200

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def __enter__(self) -> "Site":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def says(body: bytes, *, after: float = 0.0, piece: int = 0) -> Callable[..., None]:
    """Answer with this body after some seconds, or in pieces, one every 0.1 s."""

    def respond(request: BaseHTTPRequestHandler) -> None:
        time.sleep(after)
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        for start in range(0, len(body), piece or len(body)):
            request.wfile.write(body[start : start + (piece or len(body))])
            if piece:
                time.sleep(0.1)

    return respond


def found(node: str, visits: int, process: str = "") -> bytes:
    return msgspec.json.encode(Found(node, visits, "ready", False, process or f"process-{node}"))


def others(*addresses: str) -> Survey:
    return Survey(lambda: list(addresses), lambda _video: OWN, OWN.process)


def row(node: str, visits: int, *, own: bool = False) -> dict[str, Any]:
    return {"node": node, "visits": visits, "state": "ready", "cut": False, "self": own}


# -- asking


def test_all_are_asked_and_sorted_by_name() -> None:
    with Site(says(found("z", 5))) as last, Site(says(found("a", 4))) as first:
        shown = others(last.url, first.url).counts("a~b.-_")
        assert shown == [row("a", 4), row("here", 3, own=True), row("z", 5)]
        assert first.paths == ["/cluster/count?video=a~b.-_"]


def test_a_node_is_shown_once_whatever_its_addresses_and_the_own_one_not_again() -> None:
    mine = msgspec.json.encode(OWN)
    with Site(says(found("a", 4))) as one, Site(says(found("a", 4))) as same:
        with Site(says(mine)) as own:
            asker = others(one.url, same.url, own.url)
            assert asker.counts("cats") == [row("a", 4), row("here", 3, own=True)]
            assert asker.counts("dogs") == [row("a", 4), row("here", 3, own=True)]
            assert len(own.paths) == 1
        one.paths.clear()


def test_two_nodes_of_one_name_are_both_shown() -> None:
    with Site(says(found("a", 4, "one"))) as one, Site(says(found("a", 5, "two"))) as two:
        shown = others(one.url, two.url).counts("cats")
    assert [each["visits"] for each in shown if each["node"] == "a"] == [4, 5]


@pytest.mark.alone
def test_a_node_that_is_down_or_slow_is_said_to_be_and_holds_up_nobody() -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with Site(says(found("slow", 4), after=2)) as slow, Site(says(found("a", 4))) as quick:
        start = time.monotonic()
        shown = others(nobody, slow.url, quick.url).counts("cats")
        took = time.monotonic() - start
    assert took < 3 * PATIENCE
    assert shown == [
        {"node": "(unknown 1)", "visits": None, "problem": "Connection refused"},
        {"node": "(unknown 2)", "visits": None, "problem": "no answer within 0.5 s"},
        row("a", 4),
        row("here", 3, own=True),
    ]


def test_a_node_that_no_longer_answers_is_shown_by_its_name() -> None:
    with Site(says(found("a", 4))) as site:
        asker = others(site.url)
        assert asker.counts("cats")[0] == row("a", 4)
    shown = asker.counts("dogs")
    assert shown[0] == {"node": "a", "visits": None, "problem": "Connection refused"}


@pytest.mark.parametrize(
    "answer",
    [b"", b"<h1>hello</h1>", b"17", b"{}", b"\xff" * 9000, found("a b", 1), found("<b>", 1),
     found("a", 1).replace(b'"ready"', b'"asleep"'), found("a", 1).replace(b":1,", b":-1,")],
)  # fmt: skip
def test_an_answer_that_is_no_count_is_none(answer: bytes) -> None:
    with Site(says(answer)) as site:
        shown = others(site.url).counts("cats")
    # A stranger is not told the address of a node.
    assert {"node": "(unknown 1)", "visits": None, "problem": "status 200, and no count"} in shown


@pytest.mark.alone
def test_an_answer_that_comes_drop_by_drop_is_given_up() -> None:
    with Site(says(found("a", 4), piece=2)) as site:
        start = time.monotonic()
        shown = others(site.url).counts("cats")
        assert time.monotonic() - start < 3 * PATIENCE
    silent = {"node": "(unknown 1)", "visits": None, "problem": "no answer within 0.5 s"}
    assert silent in shown


@pytest.mark.alone  # the other node has half a second to answer all of them
def test_a_hundred_who_ask_at_once_cost_no_more_than_one() -> None:
    with Site(says(found("a", 4), after=0.2)) as site:
        asker = others(site.url)
        with ThreadPoolExecutor(100) as pool:
            answers = list(pool.map(asker.counts, ["cats"] * 100))
        assert answers == [[row("a", 4), row("here", 3, own=True)]] * 100
        assert len(site.paths) == 1
        until(lambda: asker.counts("cats") and len(site.paths) == 2, 5, "it is asked again")


def test_only_so_many_videos_are_asked_for_at_a_time() -> None:
    with Site(says(found("a", 4))) as site:
        asker = others(site.url)
        for number in range(MAX_VIDEOS):
            asker.counts(f"video-{number}")
        # All of that may have taken longer than it is kept, on a busy machine.
        with pytest.raises(BusyError, match="20"):  # noqa: PT012
            for number in range(1000):
                asker.counts(f"more-{number}")
        asked = len(site.paths)

        def room() -> bool:
            with suppress(BusyError):
                return bool(asker.counts("more"))
            return False

        until(room, 10 * KEPT, "there is room again")
        assert len(site.paths) == asked + 1


def test_where_nodes_are_asked_over_a_broker_is_a_setting() -> None:
    nodes = ("http://counter1:1234", "http://counter2:1234/")
    node = create_app(Config(amqp_uri="amqp://localhost", nodes=nodes)).extensions["node"]
    assert node.addresses() == ["http://counter1:1234", "http://counter2:1234"]


# -- real nodes


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    """Two that know each other by messages; the third only by a setting, without DEV_MODE."""
    folder = tmp_path_factory.mktemp("others")
    quick = {"DRAIN_TIME": "0", "DEV_MODE": "1"}
    with ExitStack() as stack:
        third = Node(folder / "3", "counter3", settings={"DRAIN_TIME": "0"})
        third_only = {"NODES": f"{third.url}/, http://127.0.0.1:{free_port()}"}
        first = Node(folder / "1", "counter1", settings=quick | third_only)
        first.settings["NODES"] += f",{first.url}"
        second = Node(folder / "2", "counter2", settings={"PEERS": first.url, **quick})
        nodes = [first, second, third]
        for node in nodes:
            stack.enter_context(node)
        for node in nodes:
            node.wait_ready()
        yield nodes
        assert not any("Traceback" in node.log.read_text() for node in nodes)


def side_by_side(node: Node, video: str) -> dict[str, dict[str, Any]]:
    answer = get(node, f"/cluster/counts?video={video}")
    assert answer.status == 200
    shown = answer.json()
    assert shown["video"] == video
    return {each["node"]: each for each in shown["nodes"]}


def numbers(node: Node, video: str) -> dict[str, int]:
    return {name: each["visits"] for name, each in side_by_side(node, video).items()}


def post(node: Node, path: str) -> int:
    return ask(node, "POST", path).status


def test_numbers_part_while_a_node_is_cut_off_and_meet_when_it_is_healed(
    trio: list[Node],
) -> None:
    first, second, third = trio
    until(lambda: "counter2" in numbers(first, "parted"), 5, "they know each other")
    assert get(first, "/cluster/counts?video=parted").json()["dev"] is True
    assert get(third, "/cluster/counts?video=parted").json()["dev"] is False
    assert post(first, "/dev/burst?node=counter2&video=parted&visits=8") == 204
    until(lambda: numbers(first, "parted")["counter1"] == 8, 5, "it hears of it")
    assert post(first, "/dev/cut?node=counter2") == 204
    try:
        assert post(first, "/dev/burst?video=parted") == 204
        assert post(first, "/dev/burst?video=parted&node=counter2&visits=1") == 204

        def parted() -> bool:
            shown = side_by_side(first, "parted")
            return (shown["counter1"]["visits"], shown["counter2"]["visits"]) == (58, 9)

        until(parted, 5, "each counts on")
        shown = side_by_side(first, "parted")
        assert shown["counter2"]["cut"] is True
        assert shown["counter1"] == row("counter1", 58, own=True)
        assert shown["counter3"] == row("counter3", 0)
        (silent,) = (each for name, each in shown.items() if name.startswith("(unknown"))
        assert silent["problem"] == "Connection refused"
        assert len(shown) == 4
    finally:
        assert post(first, "/dev/heal?node=counter2") == 204
    until(
        lambda: set(numbers(second, "parted").values()) == {59}, 10, "both are equal, as seen there"
    )


def test_the_cluster_shows_what_each_member_has_told_and_how_fast_it_counts(
    trio: list[Node],
) -> None:
    first = trio[0]

    def member(name: str) -> dict[str, Any]:
        members = get(first, "/cluster").json()["members"]
        (shown,) = (each for each in members if each["name"] == name and each["live"])
        return dict(shown)

    def told() -> bool:
        shown = member("counter2")
        return bool(shown["store"]) and shown["messages_per_second"] is not None

    until(told, 15, "it is told, and known for long enough")
    shown = member("counter2")
    assert shown["store"] == {"kind": "sqlite", "up": True}
    assert shown["transport"] == {"kind": "mesh", "up": True}
    assert 0 < shown["messages_per_second"] < 20
    assert post(first, "/dev/burst?node=counter2&video=rate&visits=100") == 204
    until(lambda: member("counter2")["visits_per_second"] >= 5, 5, "its visits are seen")


def test_a_node_that_stands_still_is_named_and_holds_up_nobody(trio: list[Node]) -> None:
    first, second, _ = trio
    until(lambda: numbers(first, "still").get("counter2") is not None, 5, "it has answered")
    second.pause()
    try:
        until(
            lambda: (
                side_by_side(first, "still")["counter2"].get("problem") == "no answer within 0.5 s"
            ),
            5,
            "it is missed",
        )
        assert get(first, "/dev/cut").status == 405
        refused = ask(first, "POST", "/dev/cut?node=counter2")
        assert refused.status == 504
        assert "counter2" in refused.problem()["detail"]
    finally:
        second.resume()
    until(lambda: numbers(first, "still")["counter2"] == 0, 10, "it answers again")
    # What it was told while it stood still may be done now.
    assert post(second, "/dev/heal") == 204


@pytest.mark.parametrize("path", ["/cluster/counts", "/cluster/count"])
@pytest.mark.parametrize("query", ["", "?video=", "?video=a%20b", "?video=" + "v" * 129,
                                   "?video=a&video=b", "?video=../x", "?video=%ff"])  # fmt: skip
def test_only_one_video_that_can_be_one_is_asked_for(
    trio: list[Node], path: str, query: str
) -> None:
    answer = get(trio[0], path + query)
    assert answer.status == 400
    answer.problem()


def test_too_many_videos_at_a_time_are_refused(trio: list[Node]) -> None:
    with ThreadPoolExecutor(60) as pool:
        paths = [f"/cluster/counts?video=many-{number}" for number in range(60)]
        answers = list(pool.map(lambda path: get(trio[0], path), paths))
    assert {answer.status for answer in answers} == {200, 429}
    refused = next(answer for answer in answers if answer.status == 429)
    assert "try again" in refused.problem()["detail"]
    assert refused.headers["retry-after"] == "1"
    until(lambda: numbers(trio[0], "many"), 5, "there is room again")


def test_a_joining_node_shows_what_it_holds(tmp_path: Path) -> None:
    nobody = {"PEERS": f"http://127.0.0.1:{free_port()}", "JOIN_TIMEOUT": "60", "DRAIN_TIME": "0"}
    with Node(tmp_path, "counter1", settings=nobody) as node:
        assert get(node, "/hit/early").status == 204
        shown = side_by_side(node, "early")["counter1"]
    assert shown == row("counter1", 1, own=True) | {"state": "joining"}


# -- passing on


def test_a_burst_is_counted_where_it_is_sent(trio: list[Node]) -> None:
    first, second, _ = trio
    assert post(first, "/dev/burst?video=burst&node=counter2") == 204
    assert post(first, "/dev/burst?video=burst&node=counter1&visits=1000") == 204
    until(
        lambda: [visits(each, "burst") for each in (first, second)] == [1050] * 2, 5, "all is seen"
    )
    counts = get(first, "/count/burst").json()["counts"]
    assert {name.partition("~")[0]: count for name, count in counts.items()} == {
        "counter1": 1000,
        "counter2": 50,
    }


@pytest.mark.parametrize(
    ("query", "status", "word"),
    [
        ("", 400, "video"),
        ("?video=a%20b", 400, "'a b'"),
        ("?video=a&visits=0", 400, "visits='0'"),
        ("?video=a&visits=1001", 400, "1000"),
        ("?video=a&visits=1e3", 400, "1000"),
        ("?video=a&visits=", 400, "1000"),
        ("?node=counter2&video=a&visits=-1", 400, "1000"),
        ("?node=nobody&video=a", 404, "counter2"),
        ("?node=%3Cb%3E&video=a", 404, "<b>"),
        ("?node=counter3&video=a", 502, "DEV_MODE"),
    ],
)
def test_a_burst_that_cannot_be_is_refused(
    trio: list[Node], query: str, status: int, word: str
) -> None:
    until(lambda: "counter2" in numbers(trio[0], "a"), 5, "they know each other")
    answer = ask(trio[0], "POST", f"/dev/burst{query}")
    assert answer.status == status
    assert word in answer.problem()["detail"]
    assert visits(trio[0], "a") == 0


def test_a_node_is_found_by_its_name_though_nobody_has_looked(
    trio: list[Node], tmp_path: Path
) -> None:
    settings = {"NODES": trio[1].url, "DRAIN_TIME": "0", "DEV_MODE": "1"}
    with Node(tmp_path, "counter4", settings=settings) as node:
        node.wait_ready()
        assert post(node, "/dev/heal?node=counter2") == 204


def test_what_a_page_of_another_site_wants_is_not_passed_on(trio: list[Node]) -> None:
    for path in ("/dev/cut?node=counter2", "/dev/burst?node=counter2&video=foreign"):
        answer = ask(trio[0], "POST", path, {"Sec-Fetch-Site": "cross-site"})
        assert answer.status == 403
    assert side_by_side(trio[0], "foreign")["counter2"]["cut"] is False
    assert visits(trio[1], "foreign") == 0


def test_a_node_that_has_gone_does_nothing(trio: list[Node], tmp_path: Path) -> None:
    with Node(tmp_path / "gone", "gone", settings={"DEV_MODE": "1"}) as gone:
        settings = {"NODES": gone.url, "DRAIN_TIME": "0", "DEV_MODE": "1"}
        with Node(tmp_path / "asks", "asks", settings=settings) as node:
            node.wait_ready()
            until(lambda: numbers(node, "cats").get("gone") == 0, 5, "it has answered")
            gone.kill()
            answer = ask(node, "POST", "/dev/cut?node=gone")
            assert answer.status == 502
            assert "gone" in answer.problem()["detail"]
