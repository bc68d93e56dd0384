"""What is measured: nodes, and the servers that they are measured against."""

import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

from lab.clients import Client, until
from lab.servers import Node, Redis, Server, get

DRAIN_TIME = "0.1"
"""Seconds; nobody has to be turned away here."""


class Contender(Server):
    """An app of this package, run as a node is: `benchmarks.bare` or `benchmarks.incr`."""

    def __init__(self, folder: Path, app: str, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(folder / app, app)
        self.settings = dict(settings or {})
        self.url = f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        app = f"benchmarks.{self.name}:create_app()"
        return [sys.executable, "-m", "gunicorn", "--config", "benchmarks/server.py", app]

    def environment(self) -> dict[str, str]:
        return {"NAME": "counter1", "LISTEN_PORT": str(self.port)} | self.settings

    def answers(self) -> bool:
        return get(self.port, "/counts") == 200


class ForgetfulRedis(Redis):
    """A Redis that keeps nothing on disk, which is the fastest there is."""

    def command(self) -> list[str]:
        return [*super().command(), "--appendonly", "no"]


def node(folder: Path, name: str, **settings: str) -> Node:
    """A node with these settings; without others a full mesh of one, which keeps SQLite."""
    return Node(folder / name, name, settings={"DRAIN_TIME": DRAIN_TIME} | settings)


def mesh(folder: Path, names: Iterable[str], **settings: str) -> list[Node]:
    """Nodes that know each other."""
    nodes = [node(folder, name, **settings) for name in names]
    for one in nodes:
        one.settings["PEERS"] = ",".join(other.url for other in nodes if other is not one)
    return nodes


def start(stack: ExitStack, servers: Iterable[Server]) -> None:
    """Start servers side by side, nodes until they are ready; the stack stops them."""
    servers = list(servers)

    def stop() -> None:
        for server in servers:
            server.terminate()
        for server in servers:
            server.stop()

    stack.callback(stop)
    for server in servers:
        server.launch()
    for server in servers:
        server.wait()
        if isinstance(server, Node):
            server.wait_ready()


def videos(number: int) -> list[str]:
    """So many ids, of 11 characters as those of the large sites are."""
    return [f"video-{video:05d}" for video in range(number)]


def counted(url: str, number: int) -> int:
    """How many visits the first `number` videos have at a node or contender."""
    query = "&".join(f"video={video}" for video in videos(number))
    with Client(url) as client:
        return sum(counter["visits"] for counter in client.json(f"/counts?{query}")["counters"])


def check(url: str, number: int, least: int, most: int) -> int:
    """Wait until a server shows `least` visits to its videos; return how many it shows.

    Raises AssertionError for more than `most`: a rate at which visits get lost or are counted
    twice is no result.
    """
    until(lambda: counted(url, number) >= least, 10, f"{url} shows the {least} visits it answered")
    shown = counted(url, number)
    assert shown <= most, f"{url} shows {shown} visits, and {most} were made at most"
    return shown


def memory(server: Server) -> int:
    """Bytes of its processes that are resident."""
    return 1024 * sum(_status(process, "VmRSS:") for process in server.processes())


def metrics(url: str) -> dict[str, float]:
    """The metrics of a node by name, each summed up over its labels."""
    with Client(url) as client:
        _, text = client.get("/metrics")
    sums: dict[str, float] = {}
    for line in text.decode().splitlines():
        if not line.startswith("#"):
            labelled, _, value = line.rpartition(" ")
            name = labelled.partition("{")[0]
            sums[name] = sums.get(name, 0.0) + float(value)
    return sums


def metric(url: str, name: str) -> float:
    """One of them."""
    read = metrics(url)
    assert name in read, f"{url}/metrics has no {name}"
    return read[name]


def _status(process: int, name: str) -> int:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    return 0
