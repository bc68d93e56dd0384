"""Live numbers: over real WebSockets, and the rule behind them."""

import http.client
import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from counter.node.live import PACE, Live, Page
from lab.clients import STRETCH, Books, Client, Traffic, fetch, until
from lab.servers import Node, free_port


@contextmanager
def open_page(node: Node, path: str) -> Iterator[ClientConnection]:
    """A page on a WebSocket, as browsers open it: permessage-deflate is offered."""
    with connect(f"ws://127.0.0.1:{node.port}{path}", proxy=None) as page:
        yield page


def open_socket(node: Node, path: str) -> socket.socket:
    """The same on a bare socket, after the handshake."""
    connection = socket.create_connection(("127.0.0.1", node.port), timeout=10)
    connection.sendall(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    assert connection.recv(4096).startswith(b"HTTP/1.1 101 ")
    return connection


def counter(page: ClientConnection, seconds: float = 5) -> dict[str, Any]:
    """The next message."""
    message = page.recv(timeout=seconds * STRETCH)
    assert isinstance(message, str)
    return dict(json.loads(message))


def closed(page: ClientConnection, seconds: float = 5) -> tuple[int, str]:
    """Code and reason with which the node closes a page, whatever it says before that."""
    with suppress(ConnectionClosed):
        while True:
            page.recv(timeout=seconds * STRETCH)
    assert page.close_code is not None
    return page.close_code, page.close_reason or ""


def visit(node: Node, video: str, times: int = 1) -> None:
    with Client(node.url) as client:
        for _ in range(times):
            assert client.get(f"/hit/{video}")[0] == 204


def live_pages(node: Node) -> int:
    with Client(node.url) as client:
        found = re.search(rb"^counter_live_pages (\d+)", client.get("/metrics")[1], re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_the_counter_comes_at_once_and_again_whenever_it_grows(node: Node) -> None:
    visit(node, "grows", 2)
    with open_page(node, "/live/grows") as page:
        first = counter(page, 1)
        assert first == fetch(node.url, "/count/grows")
        assert list(first) == ["video", "visits", "node", "counts"]
        assert first["visits"] == 2
        for number in (3, 4, 5):
            visit(node, "grows")
            assert counter(page, 1)["visits"] == number


def test_a_video_that_nobody_visited_is_shown_with_0_visits(node: Node) -> None:
    with open_page(node, "/live/unvisited") as page:
        assert counter(page, 1)["visits"] == 0
        visit(node, "unvisited")
        assert counter(page, 1)["visits"] == 1


@pytest.mark.alone
def test_under_fast_traffic_a_page_gets_ten_messages_a_second_and_the_last_number(
    node: Node,
) -> None:
    books = Books()
    with open_page(node, "/live/video-0") as page:
        start = time.monotonic()
        seen = [counter(page)["visits"]]
        with Traffic([node.url], books, videos=1, visitors=8, visits=1500) as traffic:
            while seen[-1] < 1500:
                seen.append(counter(page)["visits"])
            traffic.join()
        took = time.monotonic() - start
        assert books.acknowledged["video-0"] == 1500
        with pytest.raises(TimeoutError):  # nothing is said twice
            page.recv(timeout=3 * PACE)
    assert seen == sorted(set(seen))
    assert len(seen) <= took / PACE + 2
    assert len(seen) >= took / PACE / 4


def test_several_videos_come_on_one_socket(node: Node) -> None:
    visit(node, "many-a")
    with open_page(node, "/live?video=many-a&video=many-b&video=many-a") as page:
        both = {first["video"]: first["visits"] for first in (counter(page), counter(page))}
        assert both == {"many-a": 1, "many-b": 0}
        visit(node, "many-b")
        assert (grown := counter(page))["video"] == "many-b"
        assert grown["visits"] == 1
        visit(node, "many-a")
        assert counter(page)["video"] == "many-a"


def test_a_hundred_videos_are_sent_on_one_socket(node: Node) -> None:
    videos = [f"hundred-{number}" for number in range(100)]
    with open_page(node, "/live?" + "&".join(f"video={video}" for video in videos)) as page:
        assert {counter(page)["video"] for _ in videos} == set(videos)


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/live/a%20b", "Bad video id: "),
        ("/live/" + "v" * 129, "Bad video id: "),
        ("/live/%C3%A4", "Bad video id: "),
        ("/live/%F0%9F%98%80" * 20, "Bad video id: "),
        ("/live?video=a%20b", "Bad video id: "),
        ("/live?video=good&video=", "Bad video id: "),
        ("/live", "No video: "),
        ("/live?" + "&".join(f"video={number}" for number in range(101)), "Too many videos: 101"),
    ],
    ids=lambda value: value[:20],
)
def test_what_cannot_be_watched_is_closed_with_the_reason(node: Node, path: str, word: str) -> None:
    with open_page(node, path) as page:
        code, reason = closed(page)
    assert code == 1008
    assert word in reason


def test_no_compression_is_agreed_on_though_it_is_offered(node: Node) -> None:
    with open_page(node, "/live/plain") as page:
        assert page.request is not None
        assert "permessage-deflate" in page.request.headers["Sec-WebSocket-Extensions"]
        assert page.response is not None
        assert "Sec-WebSocket-Extensions" not in page.response.headers
        assert counter(page)["visits"] == 0


def test_what_a_page_sends_does_not_matter(node: Node) -> None:
    with open_page(node, "/live/talkative") as page, open_page(node, "/live/talkative") as other:
        counter(page)
        counter(other)
        for frame in ("hello", "", b"\0\xff" * 500, "x" * 4096, b"", '{"video": "cats"}'):
            page.send(frame)
        page.ping().wait(5)
        visit(node, "talkative")
        assert counter(page)["visits"] == 1
        assert counter(other)["visits"] == 1
        # What is too large ends that page, and no other.
        page.send("x" * 100_000)
        assert closed(page)[0] == 1009
        visit(node, "talkative")
        assert counter(other)["visits"] == 2


@pytest.mark.parametrize(
    "junk",
    [b"\xff" * 64, b"GET / HTTP/1.1\r\n\r\n", b"\x81\x05hello", b"\x81\xff" + b"\xff" * 8, b"\0"],
    ids=["reserved bits", "another request", "not masked", "endless frame", "half a frame"],
)
def test_junk_instead_of_frames_ends_that_page_only(node: Node, junk: bytes) -> None:
    before = live_pages(node)
    with open_page(node, "/live/junk") as other:
        with open_socket(node, "/live/junk") as page:
            counter(other)
            page.sendall(junk)
            page.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):
                while page.recv(4096):
                    pass
        until(lambda: live_pages(node) == before + 1, 5, "one page is left")
        visit(node, "junk")
        assert counter(other)["visits"] > 0


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_a_page_that_is_gone_is_noticed(node: Node, how: str) -> None:
    until(lambda: live_pages(node) == 0, 5, "no pages are left of other tests")
    pages = [open_socket(node, "/live/gone") for _ in range(20)]
    until(lambda: live_pages(node) == 20, 5, "all are open")
    for page in pages:
        if how == "reset":
            page.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        page.close()
    until(lambda: live_pages(node) == 0, 5, "all are noticed")
    visit(node, "gone")


def test_a_page_that_does_not_read_costs_the_others_nothing(node: Node) -> None:
    with open_socket(node, "/live/lazy"), open_page(node, "/live/lazy") as page:
        for number in range(10):
            assert counter(page, 1)["visits"] == number
            visit(node, "lazy")
    until(lambda: live_pages(node) == 0, 5, "both are gone")


def test_a_page_on_a_joining_node_waits_for_the_number(tmp_path: Path) -> None:
    nobody = {"PEERS": f"http://127.0.0.1:{free_port()}", "JOIN_TIMEOUT": "1.5"}
    node = Node(tmp_path, "counter1", settings=nobody)
    try:
        node.start()
        visit(node, "joining", 3)
        with open_page(node, "/live/joining") as page:
            assert not node.ready()
            assert counter(page)["visits"] == 3
            assert node.ready()
    finally:
        node.kill()


# -- the end of a node


@pytest.mark.alone
def test_a_node_that_stops_closes_its_pages_and_ends_with_0(tmp_path: Path) -> None:
    with ExitStack() as stack:
        node = Node(tmp_path, "counter1", settings={"DRAIN_TIME": "1"})
        stack.enter_context(node)
        node.wait_ready()
        pages = [stack.enter_context(open_page(node, f"/live/{n % 7}")) for n in range(100)]
        for page in pages:
            counter(page)
        start = time.monotonic()
        node.terminate()
        assert {closed(page, 10)[0] for page in pages} == {1001}
        assert node.stop(10) == 0
        assert time.monotonic() - start < 1 + 5
        assert "Traceback" not in node.log.read_text()


def test_a_node_that_stops_gives_every_request_on_busy_connections_a_whole_answer(
    tmp_path: Path,
) -> None:
    drain = 1.0
    with Node(tmp_path, "counter1", settings={"DRAIN_TIME": str(drain)}) as node:
        node.wait_ready()
        statuses: Counter[int] = Counter()
        cut: list[str] = []
        lock = threading.Lock()

        def hammer(number: int) -> None:
            while True:
                with closing(HTTPConnection("127.0.0.1", node.port, timeout=10)) as connection:
                    for asked in range(10_000):
                        try:
                            connection.request("GET", f"/video/busy-{number % 3}")
                            answer = connection.getresponse()
                            answer.read()
                        except ConnectionRefusedError:
                            return
                        except (OSError, http.client.HTTPException) as error:
                            # A connection that waits to be accepted when the node stops
                            # listening is reset by the system: nobody has seen its request.
                            if asked:
                                with lock:
                                    cut.append(f"{error!r} after {asked} requests")
                            return
                        with lock:
                            statuses[answer.status] += 1
                        if answer.will_close:
                            break

        threads = [threading.Thread(target=hammer, args=(number,)) for number in range(16)]
        with open_page(node, "/live/busy-0") as page:
            for thread in threads:
                thread.start()
            until(lambda: statuses[200] > 200, 10, "traffic is on")
            start = time.monotonic()
            node.terminate()
            assert closed(page, 10)[0] == 1001
            assert node.stop(10) == 0
            assert time.monotonic() - start < drain + 5
            for thread in threads:
                thread.join()
        assert cut == []
        assert set(statuses) == {200, 503}
        assert statuses[503] > 100
        counted = node.log.read_text()
        assert "Traceback" not in counted
        # Every 200 was a visit, and no 503.
        node.start()
        node.wait_ready()
        videos = "&".join(f"video=busy-{number}" for number in range(3))
        shown = fetch(node.url, f"/counts?{videos}")["counters"]
        assert sum(each["visits"] for each in shown) == statuses[200]


# -- the rule behind it


class Watched:
    """A `Live` that runs, on numbers that the test decides."""

    def __init__(self, most_pages: int = 100) -> None:
        self.numbers: dict[str, int | None] = {}
        self.reads: Counter[str] = Counter()
        self.live = Live(self._read, most_pages)
        self._thread = threading.Thread(target=self.live.run, name="live")

    def _read(self, video: str) -> str | None:
        self.reads[video] += 1
        number = self.numbers.get(video, 0)
        return None if number is None else f"{video} {number}"

    def set(self, video: str, number: int | None) -> None:
        self.numbers[video] = number
        self.live.grew([video])

    def page(self, *videos: str) -> tuple[Page, threading.Event]:
        wake = threading.Event()
        page = self.live.open(videos, wake)
        assert page is not None
        return page, wake

    def __enter__(self) -> "Watched":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()
        self.live.stop()
        self._thread.join(2)
        assert not self._thread.is_alive()


def messages(live: Live, page: Page, wake: threading.Event, seconds: float = 2) -> list[str]:
    """What the page has to send, once there is something."""
    deadline = time.monotonic() + seconds * STRETCH
    while True:
        newest = live.messages(page)
        if newest:
            return newest
        assert wake.wait(max(0.0, deadline - time.monotonic())), "the page was not woken"
        wake.clear()


def test_only_so_many_pages_are_let_in() -> None:
    with Watched(most_pages=3) as watched:
        pages = [watched.page("cats")[0] for _ in range(3)]
        assert watched.live.pages == 3
        assert watched.live.open(["cats"], threading.Event()) is None
        assert watched.live.pages == 3
        watched.live.close(pages[1])
        assert watched.live.open(["dogs"], threading.Event()) is not None
        assert watched.live.open(["dogs"], threading.Event()) is None


def test_a_page_that_is_late_skips_versions_instead_of_queueing_them() -> None:
    with Watched() as watched:
        page, wake = watched.page("cats")
        assert messages(watched.live, page, wake) == ["cats 0"]
        quick, quick_wake = watched.page("cats")
        assert messages(watched.live, quick, quick_wake) == ["cats 0"]
        for number in range(1, 6):  # the late one sends nothing all the while
            watched.set("cats", number)
            assert messages(watched.live, quick, quick_wake) == [f"cats {number}"]
        assert watched.live.messages(page) == ["cats 5"]


def test_numbers_that_come_faster_than_the_pace_are_read_once_a_beat() -> None:
    with Watched() as watched:
        page, wake = watched.page("cats")
        start, said = time.monotonic(), messages(watched.live, page, wake)
        for number in range(1, 2001):
            watched.set("cats", number)
        while said[-1] != "cats 2000":
            said += messages(watched.live, page, wake)
        took = time.monotonic() - start
        assert len(said) <= took / PACE + 2
        assert watched.reads["cats"] <= took / PACE + 2
        assert said == list(dict.fromkeys(said))


@pytest.mark.alone
def test_the_pace_slows_down_to_leave_half_of_the_time_to_others() -> None:
    """Each page takes a while to send: so long as all of them took, nothing is sent."""
    with Watched() as watched:
        pages = [watched.page("cats") for _ in range(20)]
        rounds: list[tuple[float, float]] = []
        for number in range(1, 5):
            watched.set("cats", number)
            newest, start = f"cats {number}", 0.0
            for page, wake in pages:
                while watched.live.messages(page)[-1:] != [newest]:
                    assert wake.wait(2)
                    wake.clear()
                    start = start or time.monotonic()
                    time.sleep(0.01)  # what a send costs here
            rounds.append((start, time.monotonic()))
    sending = sum(end - start for start, end in rounds[:-1])
    assert sending / (rounds[-1][0] - rounds[0][0]) < 0.6


def test_a_page_whose_handler_is_stuck_holds_up_one_round_at_most() -> None:
    with Watched() as watched:
        _, stuck_wake = watched.page("cats")
        assert stuck_wake.wait(2)
        quick, quick_wake = watched.page("cats")
        assert messages(watched.live, quick, quick_wake) == ["cats 0"]
        start = time.monotonic()
        for number in range(1, 11):
            watched.set("cats", number)
            assert messages(watched.live, quick, quick_wake, 5) == [f"cats {number}"]
        assert time.monotonic() - start < 5, "each round has waited for it"


@pytest.mark.alone
def test_a_page_that_is_gone_holds_up_no_round() -> None:
    with Watched() as watched:
        page, wake = watched.page("cats")
        messages(watched.live, page, wake)
        gone, gone_wake = watched.page("cats")
        assert gone_wake.wait(2)
        start = time.monotonic()
        watched.live.close(gone)
        watched.set("cats", 1)
        assert messages(watched.live, page, wake) == ["cats 1"]
        assert time.monotonic() - start < 1


def test_nothing_is_sent_twice_and_no_page_is_woken_for_nothing() -> None:
    with Watched() as watched:
        page, wake = watched.page("cats", "dogs", "cats")
        said = messages(watched.live, page, wake)
        while len(said) < 2:
            said += messages(watched.live, page, wake)
        assert sorted(said) == ["cats 0", "dogs 0"]
        wake.clear()
        assert watched.live.messages(page) == []
        watched.set("cats", 0)  # it "grew", but what there is to show did not change
        watched.set("mice", 5)  # nobody watches it
        until(lambda: watched.reads["cats"] == 2, 2, "it is read once more")
        watched.set("dogs", 1)
        assert messages(watched.live, page, wake) == ["dogs 1"]
        assert watched.reads["mice"] == 0


def test_one_who_comes_later_gets_the_newest_at_once_without_another_read() -> None:
    with Watched() as watched:
        first, first_wake = watched.page("cats")
        messages(watched.live, first, first_wake)
        reads = watched.reads["cats"]
        page, wake = watched.page("cats")
        assert wake.is_set()
        assert watched.live.messages(page) == ["cats 0"]
        assert watched.reads["cats"] == reads


def test_a_page_that_was_closed_is_forgotten_and_its_video_is_not_read_any_more() -> None:
    with Watched() as watched:
        page, wake = watched.page("cats", "dogs")
        other, other_wake = watched.page("dogs")
        messages(watched.live, page, wake)
        messages(watched.live, other, other_wake)
        watched.live.close(page)
        assert watched.live.pages == 1
        until(lambda: watched.reads["cats"] == 1, 2, "the first read is done")
        wake.clear()
        watched.set("cats", 7)
        watched.set("dogs", 7)
        assert messages(watched.live, other, other_wake) == ["dogs 7"]
        assert watched.reads["cats"] == 1
        assert not wake.is_set()
        # Opened again it starts from what there is now, not from what was.
        again, again_wake = watched.page("cats")
        assert messages(watched.live, again, again_wake) == ["cats 7"]


def test_while_there_is_nothing_to_show_yet_a_page_waits() -> None:
    with Watched() as watched:
        watched.numbers["cats"] = None
        page, wake = watched.page("cats")
        until(lambda: watched.reads["cats"] == 1, 2, "it is read")
        assert watched.live.messages(page) == []
        watched.numbers["cats"] = 3
        watched.live.wake_all()
        assert messages(watched.live, page, wake) == ["cats 3"]


def test_a_stop_wakes_every_page_and_lets_no_other_in() -> None:
    with Watched() as watched:
        pages = [watched.page("cats", "dogs") for _ in range(5)]
        for page, wake in pages:
            messages(watched.live, page, wake)
            wake.clear()
        assert not watched.live.closing
        watched.live.stop()
        assert watched.live.closing
        assert all(wake.is_set() for _, wake in pages)
        assert watched.live.open(["cats"], threading.Event()) is None
        for page, _ in pages:
            watched.live.close(page)
        assert watched.live.pages == 0


def test_many_pages_that_come_and_go_while_numbers_grow_all_see_the_last_one() -> None:
    with Watched() as watched:
        failures: list[str] = []

        def watch(number: int) -> None:
            for _ in range(10):
                page, wake = watched.page("cats", f"video-{number}")
                seen = 0
                for _ in range(2):
                    for message in messages(watched.live, page, wake):
                        video, shown = message.split()
                        if video == "cats" and int(shown) < seen:
                            failures.append(message)
                        seen = max(seen, int(shown)) if video == "cats" else seen
                    if seen:
                        break
                watched.live.close(page)
            page, wake = watched.page("cats")
            while messages(watched.live, page, wake) != ["cats 500"]:
                pass
            watched.live.close(page)

        threads = [threading.Thread(target=watch, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for number in range(1, 501):
            watched.set("cats", number)
        for thread in threads:
            thread.join()
        assert failures == []
        assert watched.live.pages == 0


class ShortOfFiles(Node):
    """A node started where the soft limit of open files is what most shells have, or less."""

    def command(self) -> list[str]:
        return ["prlimit", "--nofile=200:", *super().command()]


def test_a_low_limit_of_open_files_does_not_keep_visitors_out(
    tmp_path: Path, stack: ExitStack
) -> None:
    node = stack.enter_context(ShortOfFiles(tmp_path, "counter1", settings={"DRAIN_TIME": "0"}))
    node.wait_ready()
    for _ in range(300):
        page = stack.enter_context(socket.create_connection(("127.0.0.1", node.port), 5))
        page.sendall(
            b"GET /live/cats HTTP/1.1\r\nHost: node\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert page.recv(12) == b"HTTP/1.1 101"
    assert fetch(node.url, "/video/cats")["visits"] == 1
