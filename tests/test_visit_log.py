"""A line of nginx's visit log is counted once, whatever stops or fails, by a real nginx."""

import os
import random
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest
from click.testing import CliRunner

from counter.cli.cluster import cluster
from lab.clients import Client, counted, fetch, until
from lab.servers import ROOT, Nginx, Node, Redis, for_nodes, free_port

WAITING = int(os.environ.get("LINES_WAITING", 100_000))
"""Lines that wait for a node that was down."""
SETTINGS = {"DRAIN_TIME": "0"}


class Beacons:
    """Sends beacons over keep-alive connections until stopped, and counts those answered 204."""

    def __init__(self, nginx: Nginx, videos: int = 20, pause: float = 0.002, batch: int = 20):
        self.sent: Counter[str] = Counter()
        self._port = nginx.port
        self._videos, self._pause, self._batch = videos, pause, batch
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="beacons")

    def _run(self) -> None:
        chance = random.Random(1)
        while not self._stop.is_set():
            with socket.create_connection(("127.0.0.1", self._port), 10) as connection:
                for _ in range(900 // self._batch):  # nginx closes after 1,000
                    videos = [f"video-{chance.randrange(self._videos)}" for _ in range(self._batch)]
                    connection.sendall("".join(map(request, videos)).encode())
                    read = b""
                    while read.count(b"\r\n\r\n") < self._batch:
                        read += connection.recv(65536)
                    assert read.count(b"HTTP/1.1 204") == self._batch
                    self.sent.update(videos)
                    if self._stop.wait(self._pause):
                        break

    def more(self, beacons: int) -> None:
        """Return after so many beacons more."""
        wanted = self.sent.total() + beacons
        until(lambda: self.sent.total() >= wanted, 20, f"{beacons} more beacons")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def request(video: str, method: str = "GET", headers: str = "") -> str:
    return f"{method} /hit/{video} HTTP/1.1\r\nHost: x\r\n{headers}\r\n"


def line(video: str, number: int = 0, time_: float = 1_700_000_000.0) -> str:
    """A line of a log, the `number`th of it."""
    return f"{time_ + number / 1000:.3f} {number // 100 + 1}.{number % 100 + 1} {video}\n"


def agrees(url: str, expected: Counter[str], seconds: float = 10) -> float:
    """Wait until a node shows exactly these visits, and that it stays so; return how long."""

    def right() -> bool:
        shown = counted(url, list(expected))
        assert all(shown[video] <= visits for video, visits in expected.items()), (shown, expected)
        return shown == expected

    waited = until(right, seconds, f"{expected.total()} visits")
    until(lambda: fetch(url, "/cluster")["log"]["unread"] == 0, 5, "all is read")
    assert right()
    return waited


def shows(url: str, expected: Counter[str]) -> None:
    """Wait until a node shows these visits."""
    until(lambda: counted(url, list(expected)) == expected, 10, f"{expected.total()} visits")


class Site:
    """nginx, and one node that follows its log."""

    def __init__(self, folder: Path, stack: ExitStack, settings: dict[str, str]) -> None:
        port = free_port()
        self.nginx = Nginx(folder / "nginx", [f"127.0.0.1:{port}"])
        self.log = self.nginx.visit_log(1)
        settings = SETTINGS | {"VISIT_LOG": str(self.log)} | settings
        self.node = Node(folder / "node", "counter1", port, settings)
        stack.callback(self.node.kill)
        stack.callback(self.nginx.kill)
        self.nginx.start()

    def start(self) -> Self:
        self.node.start()
        self.node.wait_ready()
        return self

    def rotate(self, number: int) -> Path:
        """Rename the log and have nginx reopen it."""
        rotated = self.log.with_name(f"{self.log.name}.{number}")
        self.log.rename(rotated)
        self.nginx.reopen()
        return rotated

    def check_log(self) -> None:
        text = self.node.log.read_text()
        assert "Traceback" not in text, text[-3000:]
        assert "thread.died" not in text, text[-3000:]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    with ExitStack() as stack:
        made: list[Site] = []

        def make(settings: dict[str, str] | None = None) -> Site:
            made.append(Site(tmp_path, stack, settings or {}))
            return made[-1]

        yield make
        for each in made:
            each.check_log()


def test_the_files_for_another_number_of_nodes_are_made_of_those_for_three() -> None:
    names = ["counter1", "counter2", "counter3"]
    for name in ("split.conf", "logs.conf"):
        text = (ROOT / "balancer" / name).read_text()
        assert for_nodes(text, names) == text
    split = for_nodes((ROOT / "balancer/split.conf").read_text(), ["a", "b"])
    assert "    50.00% a;\n    *      b;\n" in split


def test_three_nodes_count_every_beacon_once(tmp_path: Path, stack: ExitStack) -> None:
    ports = [free_port() for _ in range(3)]
    nginx = Nginx(tmp_path / "nginx", [f"127.0.0.1:{port}" for port in ports])
    nodes = []
    for number, port in enumerate(ports, 1):
        settings = SETTINGS | {"PEERS": f"http://127.0.0.1:{ports[0]}"}
        settings["VISIT_LOG"] = str(nginx.visit_log(number))
        node = Node(tmp_path / f"counter{number}", f"counter{number}", port, settings)
        nodes.append(stack.enter_context(node))
    for node in nodes:
        node.wait_ready()
    stack.enter_context(nginx)
    with Beacons(nginx) as beacons:
        beacons.more(5000)
    ended = time.monotonic()
    for node in nodes:
        agrees(node.url, beacons.sent)
    assert time.monotonic() - ended < 1.5
    with Client(nodes[0].url) as client:
        page = client.get("/cluster", {"Accept": "text/html"})[1].decode()
    assert '<dd id="unread">0</dd>' in page
    status = CliRunner().invoke(cluster, ["status", "--url", nodes[0].url]).output
    assert "visit log counter1.log: 0 bytes not read" in status
    lines = [fetch(node.url, "/cluster")["log"]["lines"] for node in nodes]
    assert sum(lines) == beacons.sent.total()
    assert min(lines) > 0.2 * sum(lines), "each has its share"


@pytest.mark.proof
@pytest.mark.parametrize("lost", ["an older copy", "nothing"])
def test_a_store_may_come_back_older_or_not_at_all(
    tmp_path: Path, stack: ExitStack, lost: str
) -> None:
    """What its peers have heard of is not read again, and nothing else is left out."""
    ports = [free_port() for _ in range(2)]
    nginx = Nginx(tmp_path / "nginx", [f"127.0.0.1:{ports[0]}"])
    peers = {"PEERS": ",".join(f"http://127.0.0.1:{port}" for port in ports)}
    reader = Node(tmp_path / "counter1", "counter1", ports[0], SETTINGS | peers)
    reader.settings["VISIT_LOG"] = str(nginx.visit_log(1))
    other = Node(tmp_path / "counter2", "counter2", ports[1], SETTINGS | peers)
    for node in (reader, other):
        stack.enter_context(node).wait_ready()
    stack.enter_context(nginx)
    sent: Counter[str] = Counter()
    copy = tmp_path / "copy"
    for _ in range(2):
        with Beacons(nginx) as beacons:
            beacons.more(1000)
        sent += beacons.sent
        for node in (reader, other):
            shows(node.url, sent)
        reader.kill()
        older = copy if lost == "an older copy" and copy.exists() else None
        if not copy.exists():
            shutil.copytree(reader.folder, copy)
        shutil.rmtree(reader.folder)
        if older:
            shutil.copytree(older, reader.folder)
        with Beacons(nginx) as beacons:
            beacons.more(300)
        sent += beacons.sent
        # The peer restarts, too: it has kept the position.
        other.kill()
        other.start()
        reader.start()
        reader.wait_ready()
    agrees(reader.url, sent)
    shows(other.url, sent)


def test_a_node_is_killed_at_any_moment(site: Callable[..., Site]) -> None:
    here = site().start()
    with Beacons(here.nginx) as beacons:
        for number in range(4):
            beacons.more(500 + 300 * number)
            here.node.kill()
            beacons.more(300)
            here.start()
    agrees(here.node.url, beacons.sent)


@pytest.mark.parametrize("ack", ["stored", pytest.param("memory", marks=pytest.mark.proof)])
def test_the_store_fails_for_a_while(
    site: Callable[..., Site], tmp_path: Path, stack: ExitStack, ack: str
) -> None:
    redis = stack.enter_context(Redis(tmp_path / "redis"))
    here = site({"REDIS_URI": redis.uri, "ACK": ack}).start()
    with Beacons(here.nginx) as beacons:
        for _ in range(2):
            beacons.more(1000)
            redis.kill()
            until(lambda: not fetch(here.node.url, "/cluster")["store"]["up"], 5, "it is missed")
            beacons.more(1000)
            until(lambda: fetch(here.node.url, "/cluster")["log"]["unread"], 5, "it waits")
            redis.start()
    agrees(here.node.url, beacons.sent)
    here.node.kill()
    here.start()
    agrees(here.node.url, beacons.sent)


def test_the_log_is_rotated_while_the_node_runs_and_while_it_is_down(
    site: Callable[..., Site],
) -> None:
    here = site().start()
    with Beacons(here.nginx) as beacons:
        for number in range(1, 5):
            beacons.more(700)
            here.rotate(number)
        beacons.more(700)
        here.node.kill()
        for number in range(5, 9):
            beacons.more(700)
            here.rotate(number)
        beacons.more(700)
        here.start()
        beacons.more(700)
        # What was read and is deleted or packed is not missed, and makes no other one look new.
        for number in range(1, 8):
            here.log.with_name(f"{here.log.name}.{number}").unlink()
        beacons.more(700)
        here.node.kill()
        here.start()
    agrees(here.node.url, beacons.sent)


def test_lines_may_still_come_into_a_renamed_log(site: Callable[..., Site]) -> None:
    here = site()
    with here.log.open("a") as log:
        log.write("".join(line("cats", number) for number in range(100)))
        log.flush()
        here.start()
        agrees(here.node.url, Counter(cats=100))
        here.log.rename(here.log.with_name("counter1.log-20231114"))
        here.log.write_text(line("dogs", time_=1_700_000_100))
        agrees(here.node.url, Counter(cats=100, dogs=1))
        log.write(line("cats", 101))
        log.flush()
        agrees(here.node.url, Counter(cats=101, dogs=1))
        here.node.kill()
        log.write(line("cats", 102))
    here.start()
    agrees(here.node.url, Counter(cats=102, dogs=1))


def test_what_was_rotated_before_the_first_start_is_not_read(site: Callable[..., Site]) -> None:
    here = site()
    for number in range(3):
        old = here.log.with_name(f"counter1.log.{3 - number}")
        old.write_text(line("old", number, time_=1_600_000_000))
    here.log.write_text(line("new"))
    here.start()
    agrees(here.node.url, Counter(new=1, old=0))
    assert "log.old file=counter1.log.3" in here.node.log.read_text()
    here.node.kill()
    # But what is rotated from now on is, also if it was never seen under the log's own name.
    here.log.rename(here.log.with_name("counter1.log.0"))
    here.log.with_name("counter1.log.00").write_text(line("newer", time_=1_700_000_100))
    here.log.write_text(line("newest", time_=1_700_000_200))
    here.start()
    agrees(here.node.url, Counter(new=1, newer=1, newest=1, old=0))


def test_a_log_is_truncated(site: Callable[..., Site]) -> None:
    here = site().start()
    with Beacons(here.nginx, pause=0.01) as beacons:
        beacons.more(1000)
    agrees(here.node.url, beacons.sent)
    sent = beacons.sent
    # By somebody who wants room: what is written next begins another file.
    os.truncate(here.log, 0)
    with Beacons(here.nginx) as beacons:
        beacons.more(300)
    sent += beacons.sent
    agrees(here.node.url, sent)
    # By a crash of the machine, also while the node is down: what is left was read before.
    for down in (False, True):
        if down:
            here.node.kill()
        size = here.log.stat().st_size
        os.truncate(here.log, here.log.read_bytes().index(b"\n", size // 2) + 1)
        if not down:
            until(lambda: "log.shrunk" in here.node.log.read_text(), 5, "it is noticed")
        with Beacons(here.nginx) as beacons:
            beacons.more(500 if down else 100)
        sent += beacons.sent
        if down:
            here.start()
        agrees(here.node.url, sent)


def test_junk_and_halves_of_lines_are_passed_over(site: Callable[..., Site]) -> None:
    here = site().start()
    whole = Counter(cats=4, dogs=1)
    junk = (
        b"GET /favicon.ico\n\n\xff\xfe\x00\n" + b"x" * 1_000_000 + b"\n" + b"1700000000.000 1.1 \n"
    )
    junk += b"1700000000.000 1.1 " + b"x" * 129 + b"\n1700000000.000 1.1 a b\n"
    half = line("a-video-cut-short", 3)[:-6]
    with here.log.open("ab", buffering=0) as log:
        log.write(junk + line("cats", 1).encode() + junk + line("cats", 2).encode())
        # nginx died in the middle of a line, and went on.
        log.write((half + line("dogs", 4) + half[:5] + line("cats", 5)).encode())
        log.write(b"y" * 600_000 + line("cats", 6).encode())
        # The last line, half-written.
        log.write(line("cats", 7)[:20].encode())
        agrees(here.node.url, whole)
        shown = fetch(here.node.url, "/cluster")["log"]
        assert (shown["lines"], shown["junk"], shown["unread"]) == (5, 14, 0)
        here.node.kill()
        here.start()
        agrees(here.node.url, whole)
        log.write(line("cats", 7)[20:].encode())
        agrees(here.node.url, whole + Counter(cats=1))
    assert here.node.log.read_text().count("log.junk") == 1, "once a minute"


def test_what_is_a_beacon_and_what_is_logged(site: Callable[..., Site]) -> None:
    here = site().start()
    cases = [
        ("cats", "GET", "", 204, "cats"),
        ("cats?from=there", "GET", "Origin: http://elsewhere.example\r\n", 204, "cats"),
        ("c%61ts", "GET", "", 204, "cats"),
        ("%7Etilde.-_", "POST", "Content-Length: 0\r\n", 204, "~tilde.-_"),
        ("x" * 128, "GET", "", 204, "x" * 128),
        ("cats", "HEAD", "", 204, None),
        ("cats", "OPTIONS", "", 204, None),
        ("cats", "GET", "Sec-Purpose: prefetch;prerender\r\n", 204, None),
        ("cats", "GET", "Purpose: prefetch\r\n", 204, None),
        ("cats", "GET", "Purpose: Preview\r\n", 204, None),
        ("cats", "GET", "X-Purpose: preview\r\n", 204, None),
        ("cats", "GET", "X-Moz: prefetch\r\n", 204, None),
        ("cats", "GET", "Sec-Purpose: unknown\r\nPurpose: prefetch\r\n", 204, None),
        ("cats", "GET", "Purpose: navigation\r\n", 204, "cats"),
        ("cats", "PUT", "Content-Length: 0\r\n", 405, None),
        ("cats", "DELETE", "", 405, None),
        ("x" * 129, "GET", "", 400, None),
        ("", "GET", "", 400, None),
        ("a%20b", "GET", "", 400, None),
        ("cats%0A", "GET", "", 400, None),
        ("a/b", "GET", "", 400, None),
        ("%C3%A9", "GET", "", 400, None),
        ("cats%22", "GET", "", 400, None),
        ("cats%5Cx41", "GET", "", 400, None),
    ]
    for path, method, headers, status, _ in cases:
        with socket.create_connection(("127.0.0.1", here.nginx.port), 10) as connection:
            asked = request(path, method, headers + "Connection: close\r\n")
            connection.sendall(asked.encode())
            head, _, body = b"".join(iter(lambda: connection.recv(65536), b"")).partition(
                b"\r\n\r\n"
            )
        assert head.split()[1] == b"%d" % status, (path, method, head)
        assert b"Cache-Control: no-store" in head
        assert b"X-Served-By: balancer" in head
        assert b"Access-Control-Allow-Origin: *" in head
        assert b"Cross-Origin-Resource-Policy: cross-origin" in head
        if status == 204:
            assert not body
        else:
            assert b"application/problem+json" in head
            assert (b"Allow: " in head) == (status == 405)
    logged = Counter(video for *_, video in cases if video)
    agrees(here.node.url, logged)
    assert here.log.read_text().count("\n") == logged.total()


@pytest.mark.alone
@pytest.mark.timeout(600)
def test_many_lines_wait_for_a_node_that_was_down(site: Callable[..., Site]) -> None:
    here = site()
    chance = random.Random(1)
    videos = [f"video-{number}" for number in range(1000)]
    part = chance.choices(videos, [1 / (n + 1) for n in range(1000)], k=10_000)
    expected: Counter[str] = Counter()
    with here.log.open("w") as log:
        for done in range(0, WAITING, len(part)):
            log.write("".join(line(video, done + number) for number, video in enumerate(part)))
            expected.update(part)
    here.node.start()
    with Client(here.node.url) as client:
        until(lambda: fetch(here.node.url, "/cluster")["log"]["lines"] > 0, 30, "it has begun")
        # A hundred thousand lines may be read by now.
        start, pauses, unread = time.monotonic(), list[float](), True
        while unread:
            asked = time.monotonic()
            assert client.get("/count/video-1")[0] == 200
            pauses.append(time.monotonic() - asked)
            unread = fetch(here.node.url, "/cluster")["log"]["unread"]
        took = time.monotonic() - start
    agrees(here.node.url, expected)
    print(f"{WAITING / took:,.0f} lines a second; longest wait for a reader {max(pauses):.3f} s")
    assert max(pauses) < 0.5
