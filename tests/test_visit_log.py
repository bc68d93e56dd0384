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

from tools.servers import ROOT, Nginx, Node, Redis, for_nodes, free_port
from tools.visitors import Client, counted, fetch, until

WAITING = int(os.environ.get("LINES_WAITING", 1_000_000))
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
                    videos = [
                        f"video-{chance.randrange(self._videos)}" for _ in range(self._batch)
                    ]
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


class Site:
    """nginx, and one node that follows its log."""

    def __init__(self, folder: Path, stack: ExitStack, settings: dict[str, str]) -> None:
        port = free_port()
        self.nginx = Nginx(folder / "nginx", [f"127.0.0.1:{port}"])
        self.log = self.nginx.visit_log(1)
        settings = SETTINGS | {"VISIT_LOG": str(self.log)} | settings
        self.node = Node(folder / "node", "counter1", port, settings)
        stack.callback(self.node.stop)
        stack.callback(self.nginx.stop)
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
    lines = [fetch(node.url, "/cluster")["log"]["lines"] for node in nodes]
    assert sum(lines) == beacons.sent.total()
    assert min(lines) > 0.2 * sum(lines), "each has its share"


def test_a_node_is_killed_at_any_moment(site: Callable[..., Site]) -> None:
    here = site().start()
    with Beacons(here.nginx) as beacons:
        for number in range(6):
            beacons.more(500 + 300 * number)
            here.node.kill()
            beacons.more(300)
            here.start()
    agrees(here.node.url, beacons.sent)
