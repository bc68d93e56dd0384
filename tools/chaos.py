"""`make chaos`: real processes under load and faults, and the books that must balance.

Three nodes with nginx in front, on a full mesh and then over RabbitMQ, one of the nodes with the
other kind of store. The load that must be exact goes to the nodes directly; what goes through
nginx is checked against acknowledged ≤ counted ≤ tried. Faults come one after another, chosen by
a seed; between them the nodes have to agree.
"""

import argparse
import random
import resource
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tools.line import Line
from tools.servers import Nginx, Node, RabbitMQ, Redis, free_port
from tools.terminal import say
from tools.visitors import Books, Client, Traffic, counted, fetch, until

VIDEOS = 40
CLUSTERS = {
    "full mesh": ("sqlite", "redis", "sqlite"),
    "RabbitMQ": ("redis", "sqlite", "redis"),
}
HEALED = 30.0
"""Seconds within which the nodes must agree after a fault is over."""


@dataclass
class Account:
    """What happened, over all clusters."""

    faults: Counter[str] = field(default_factory=Counter)
    tried: int = 0
    acknowledged: int = 0
    unanswered: int = 0
    refused: int = 0
    counted: int = 0
    lost: int = 0
    doubled: int = 0
    longest: float = 0.0

    def add(self, books: Books, shown: dict[str, int]) -> None:
        """Add a cluster's books, and what its nodes show in the end."""
        self.tried += books.tried.total()
        self.acknowledged += books.acknowledged.total()
        self.unanswered += books.unknown.total()
        self.refused += books.refused.total()
        for video in books.tried:
            least = books.acknowledged[video]
            most = least + books.unknown[video]
            number = shown.get(video, 0)
            self.counted += number
            self.lost += max(0, least - number)
            self.doubled += max(0, number - most)

    def table(self) -> str:
        """The account in lines."""
        rows = [(f"  {fault}", str(times)) for fault, times in sorted(self.faults.items())]
        rows = [("faults", str(self.faults.total())), *rows]
        rows += [
            ("visits tried", f"{self.tried:,}"),
            ("refused (503, not counted)", f"{self.refused:,}"),
            ("without a yes or no (may count)", f"{self.unanswered:,}"),
            ("acknowledged", f"{self.acknowledged:,}"),
            ("counted", f"{self.counted:,}"),
            ("lost", f"{self.lost:,}"),
            ("doubled", f"{self.doubled:,}"),
            ("longest time to agree", f"{self.longest:.2f} s"),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:{width}}  {value:>10}" for name, value in rows)


class Cluster:
    """Three nodes and what they stand on, and the faults that can befall them."""

    def __init__(self, folder: Path, kind: str, choose: random.Random, stack: ExitStack) -> None:
        self.choose = choose
        self.books = Books()
        self.redis = stack.enter_context(Redis(folder / "redis"))
        self.broker: RabbitMQ | None = None
        settings = {"DRAIN_TIME": "0.5"}
        ports = [free_port() for _ in range(3)]
        if kind == "RabbitMQ":
            self.broker = stack.enter_context(RabbitMQ(folder / "rabbitmq"))
            # Each node has a line of its own to it.
            self.lines = [stack.enter_context(Line(self.broker.port)) for _ in ports]
        else:
            settings["PEERS"] = ",".join(f"http://127.0.0.1:{port}" for port in ports)
        self.nodes: list[Node] = []
        for number, (port, store) in enumerate(zip(ports, CLUSTERS[kind], strict=True), 1):
            own = dict(settings)
            if store == "redis":
                own["REDIS_URI"] = self.redis.uri
            if self.broker is not None:
                line = self.lines[number - 1]
                own["AMQP_URI"] = self.broker.uri.replace(f":{self.broker.port}/", f":{line.port}/")
            node = Node(folder / f"counter{number}", f"counter{number}", port, own)
            self.nodes.append(stack.enter_context(node))
        backends = [f"127.0.0.1:{port}" for port in ports]
        self.nginx = stack.enter_context(Nginx(folder / "nginx", backends))
        self.urls = [node.url for node in self.nodes]
        for node in self.nodes:
            node.wait_ready()
        self.faults: dict[str, Callable[[], None]] = {
            "node killed": self.kill_node,
            "node killed twice": self.kill_node_twice,
            "node stopped by SIGTERM": self.stop_node,
            "node frozen for a while": self.freeze_node,
            "all nodes killed": self.kill_all,
            "disk full under SQLite": self.fill_disk,
            "Redis killed": self.kill_redis,
            "Redis emptied": self.empty_redis,
        }
        if self.broker is not None:
            self.faults["broker killed"] = self.kill_broker
            self.faults["broker frozen for a while"] = self.freeze_broker
            self.faults["line to the broker cut"] = self.cut_line
            self.faults["line to the broker held"] = self.hold_line

    # -- faults; each ends with everything running again

    def kill_node(self) -> None:
        node = self.choose.choice(self.nodes)
        node.kill()
        node.start()

    def kill_node_twice(self) -> None:
        node = self.choose.choice(self.nodes)
        node.kill()
        node.launch()
        time.sleep(self.choose.random())  # anywhere in its start
        node.kill()
        node.start()

    def stop_node(self) -> None:
        node = self.choose.choice(self.nodes)
        node.stop()
        node.start()

    def freeze_node(self) -> None:
        node = self.choose.choice(self.nodes)
        node.pause()
        time.sleep(1 + 4 * self.choose.random())  # shorter and longer than a lease
        node.resume()

    def kill_all(self) -> None:
        for node in self.nodes:
            node.kill()
        for node in self.nodes:
            node.start()

    def kill_redis(self) -> None:
        self.redis.kill()
        time.sleep(2 * self.choose.random())
        self.redis.start()

    def empty_redis(self) -> None:
        self._ask_redis("FLUSHALL")
        # A kill before the nodes noticed would lose what nobody else had heard, as it must.
        for node in self.nodes:
            if "REDIS_URI" in node.settings:
                key = f"counter:{node.name}:store"
                until(partial(self._redis_has, key), HEALED, f"{node.name} heals its store")

    def _redis_has(self, key: str) -> bool:
        return self._ask_redis(f"EXISTS {key}") == b":1\r\n"

    def _ask_redis(self, command: str) -> bytes:
        with socket.create_connection(("127.0.0.1", self.redis.port), 2) as connection:
            connection.sendall(command.encode() + b"\r\n")
            return connection.recv(16)

    def kill_broker(self) -> None:
        assert self.broker is not None
        self.broker.kill()
        self.broker.start()

    def freeze_broker(self) -> None:
        assert self.broker is not None
        self.broker.pause()
        time.sleep(1 + 5 * self.choose.random())
        self.broker.resume()

    def cut_line(self) -> None:
        line = self.choose.choice(self.lines)
        line.cut()
        time.sleep(1 + 3 * self.choose.random())
        line.heal()

    def hold_line(self) -> None:
        line = self.choose.choice(self.lines)
        line.hold()
        time.sleep(1 + 4 * self.choose.random())
        line.heal()

    def fill_disk(self) -> None:
        """No file of the node can grow any more, which is what SQLite sees of a full disk."""
        node = self.choose.choice([n for n in self.nodes if "REDIS_URI" not in n.settings])
        before = [(pid, resource.prlimit(pid, resource.RLIMIT_FSIZE)) for pid in node.processes()]
        for pid, (_, hard) in before:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
        time.sleep(1 + 2 * self.choose.random())
        for pid, limits in before:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)

    # -- what must be true

    def healthy(self) -> bool:
        """Every node is ready, and its store takes writes."""
        for url in self.urls:
            with Client(url, 5) as client:
                if client.get("/readyz")[0] != 200 or not client.json("/cluster")["store"]["up"]:
                    return False
        return True

    def agree(self) -> float:
        """Wait until all nodes show the same while visits rest; return how long that took."""
        videos = sorted(self.books.tried)

        def same() -> bool:
            shown = [counted(url, videos) for url in self.urls]
            return self.healthy() and all(other == shown[0] for other in shown)

        try:
            return until(same, HEALED, "the nodes agree")
        except AssertionError:
            self.explain(videos)
            raise

    def explain(self, videos: list[str]) -> None:
        """Say what keeps the nodes from agreeing."""
        for node in self.nodes:
            with Client(node.url, 5) as client:
                say(f"{node.name}: {client.get('/cluster')[1].decode()}")
            say(node.tail(20))
        for video in videos:
            counters = [fetch(url, f"/count/{video}?stale=1")["counts"] for url in self.urls]
            if any(counter != counters[0] for counter in counters):
                say(f"{video}: {counters}")


def main() -> int:
    """Return 0 if nothing was lost and nothing counted twice."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long (60)")
    parser.add_argument("--seed", type=int, default=1, help="chooses the faults (1)")
    parser.add_argument("--only", choices=CLUSTERS, help="one of the clusters instead of both")
    asked = parser.parse_args()
    account = Account()
    choose = random.Random(asked.seed)
    kinds = [asked.only] if asked.only else list(CLUSTERS)
    for kind in kinds:
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-"))
            say(f"starting three nodes: {kind} ...")
            cluster = Cluster(Path(folder), kind, choose, stack)
            _disturb(cluster, asked.seconds / len(kinds), choose, account)
            account.add(cluster.books, counted(cluster.urls[0], sorted(cluster.books.tried)))
    say(account.table())
    return 0 if account.lost == account.doubled == 0 else 1


def _disturb(cluster: Cluster, seconds: float, choose: random.Random, account: Account) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        seed = choose.randrange(2**32)
        direct = Traffic(
            cluster.urls, cluster.books, videos=VIDEOS, visitors=9, pause=0.005, seed=seed
        )
        balanced = Traffic(
            [cluster.nginx.url], cluster.books, videos=VIDEOS, visitors=3, pause=0.01, seed=seed + 1
        )
        with direct, balanced:
            for _ in range(3):
                fault = choose.choice(list(cluster.faults))
                cluster.faults[fault]()
                account.faults[fault] += 1
                direct.more(30)
            until(cluster.healthy, HEALED, "every node is ready, and its store is up")
        took = cluster.agree()
        account.longest = max(account.longest, took)
        left = max(0.0, deadline - time.monotonic())
        say(
            f"{account.faults.total()} faults, {cluster.books.acknowledged.total():,} visits, "
            f"agreed after {took:.2f} s; {left:.0f} s left"
        )


if __name__ == "__main__":
    sys.exit(main())
