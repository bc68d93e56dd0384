"""Three nodes, the servers they need, and the faults that happen to them."""

import random
import resource
import shutil
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from chaos.broker_queue import BrokerQueues, report_drops
from lab.clients import Books, Client, Posts, Traffic, counted, fetch, send, until
from lab.clock import DAY, HOUR, Clock
from lab.cluster import Cluster, complaints
from lab.servers import Nginx, Node, Redis
from lab.terminal import say

CLUSTERS = {
    "mesh": ("sqlite", "redis", "sqlite"),
    "rabbitmq": ("redis", "sqlite", "redis"),
}
"""The transports, and the stores of the three nodes on each: every combination occurs."""

SETTINGS = {
    "DRAIN_TIME": "0.5",
    # Short, so that the vectors of ended runs are folded all the time.
    "MESSAGE_TTL": "2",
    "SYNC_INTERVAL": "0.3",
    # Longer than a fault takes a store away: after that time its runs may be folded.
    "FOLD_AFTER": "15",
}
STEPS = (-3.0, 3.0, -20.0, 20.0, -2 * HOUR, 2 * HOUR, -10 * DAY, 10 * DAY)
"""Seconds by which a wall clock steps."""

HEALED = 30.0
"""Seconds within which the nodes must be ready, and agree, after a fault is over."""

_OVERFLOWED = 10
"""Messages between nodes that an overflowing queue must have lost."""


class FaultyCluster(Cluster):
    """Three nodes on one transport, with nginx in front.

    Each of `kill_faults` and `other_faults` happens when called, returns when everything runs
    again, and says what was hit. `exact` and `balanced` are the books of visits to the nodes and
    through nginx, of different videos, so that each can be checked. `keyed` are the books of keyed
    visits. `videos` is the number of videos in each of the first two.
    """

    def __init__(
        self,
        folder: Path,
        transport: str,
        choose: random.Random,
        stack: ExitStack,
        *,
        videos: int = 40,
    ) -> None:
        self.transport = transport
        self.guests: list[Node] = []
        """Nodes on copies of stores, until all agree. Their visits are in `exact` as well."""
        self.kills = 0
        """How many nodes were killed."""
        self.killed_meanwhile = 0
        """How many of them while something else was wrong as well."""
        self.overflowed = 0
        """How many messages between nodes the broker dropped from full queues."""
        self.unclean: list[str] = []
        """Nodes that did not end with status 0 after SIGTERM."""
        self.exact, self.balanced, self.keyed = Books(), Books(), Posts()
        self.in_turn: Counter[int] = Counter()
        """How often nginx answered with each status (0: not at all) while nodes stopped in turn."""
        self._choose = choose
        self._stack = stack
        self._videos = videos
        self._copies = 0
        self._left: list[Node] = []
        names = [f"counter{number}" for number in range(1, 4)]
        self._clocks = {name: Clock(folder / f"clock-{name}") for name in names}
        super().__init__(
            folder,
            stack,
            CLUSTERS[transport],
            transport=transport,
            proxied=True,
            settings=SETTINGS,
            own=[clock.environment for clock in self._clocks.values()],
            nginx=Nginx,
        )
        if self.broker is not None:
            report_drops(self.broker)
        self.kill_faults: dict[str, Callable[[], str]] = {
            "node killed": self._kill_one,
            "node killed, and again while it starts": self._kill_twice,
            "all nodes killed": self._kill_all,
        }
        self.other_faults: dict[str, Callable[[], str]] = {
            "SIGTERM of a node": self._stop_one,
            "SIGTERM of every node in turn": self._stop_in_turn,
            "node frozen": self._freeze_node,
            "disk full under SQLite": self._fill_disk,
            "copy of a store beside the original": self._copy_store,
            "store rolled back": self._roll_back,
            "store rolled back, and put back": self._put_back,
            "clock of a node steps": self._step_clock,
            "all clocks step": self._step_clocks,
            "Redis killed": self._kill_redis,
            "Redis emptied": self._empty_redis,
        }
        if self.broker is not None:
            self.other_faults |= {
                "broker killed": self._kill_broker,
                "broker frozen": self._freeze_broker,
                "connection to the broker cut": self._cut_proxy,
                "connection to the broker held": self._hold_proxy,
                "node frozen until its queue overflows": self._overflow_queue,
            }

    # -- nodes

    def _kill(self, node: Node) -> None:
        node.kill()
        self.kills += 1

    def _stop(self, node: Node) -> None:
        status = node.stop()
        if status != 0:
            self.unclean.append(f"{node.name} ended with status {status}:\n{node.tail()}")
            say(self.unclean[-1])

    def _kill_one(self) -> str:
        node = self._choose.choice(self.nodes)
        self._kill(node)
        node.start()
        return node.name

    def _kill_twice(self) -> str:
        node = self._choose.choice(self.nodes)
        self._kill(node)
        node.launch()
        time.sleep(self._choose.random())  # anywhere in its start
        self._kill(node)
        node.start()
        return node.name

    def _kill_all(self) -> str:
        for node in self.nodes:
            self._kill(node)
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.wait()
        return ""

    def _stop_one(self) -> str:
        node = self._choose.choice(self.nodes)
        self._stop(node)
        node.start()
        return node.name

    def _stop_in_turn(self) -> str:
        # Only this fault is to show in nginx's answers, and nginx leaves a node out for a second
        # after its last failure.
        self.until_healthy()
        time.sleep(1.1)
        before = Counter(self.balanced.statuses)
        for node in self.nodes:
            self._stop(node)
            node.start()
            node.wait_ready()
        answers = Counter(self.balanced.statuses) - before
        self.in_turn += answers
        return f"nginx answered {dict(answers)}"

    def _freeze_node(self) -> str:
        node = self._choose.choice(self.nodes)
        node.pause()
        self._last(0.5 + 4 * self._choose.random(), node)  # shorter and longer than a lease
        node.resume()
        return node.name

    def _fill_disk(self) -> str:
        """No file of the node can grow: SQLite sees that as a full disk."""
        node = self._with_files()
        before = [(pid, resource.prlimit(pid, resource.RLIMIT_FSIZE)) for pid in node.processes()]
        for pid, (_, hard) in before:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
        self._last(1 + 2 * self._choose.random(), node)
        for pid, limits in before:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
        return node.name

    def _last(self, seconds: float, spared: Node | None = None) -> None:
        """Let a fault last; half of the time also kill a node, but not the `spared` one."""
        end = time.monotonic() + seconds
        if self._choose.random() < 0.5:
            node = self._choose.choice([node for node in self.nodes if node is not spared])
            self._kill(node)
            self.killed_meanwhile += 1
            node.start()
        time.sleep(max(0.0, end - time.monotonic()))

    # -- stores

    def _with_files(self) -> Node:
        """Choose a node whose store is a file."""
        return self._choose.choice([n for n in self.nodes if "REDIS_URI" not in n.settings])

    def _copy(self, node: Node) -> Path:
        """Copy the store of a node that does not run."""
        self._copies += 1
        copy = self.folder / f"copy{self._copies}"
        return Path(shutil.copytree(node.folder, copy, ignore=shutil.ignore_patterns("log*")))

    def _replace(self, node: Node, store: Path) -> None:
        """Put a copy in the place of the store of a node that does not run."""
        for file in node.folder.glob("counter.sqlite*"):
            file.unlink()
        for file in store.glob("counter.sqlite*"):
            shutil.copy(file, node.folder)

    def _copy_store(self) -> str:
        """Run a second node on a copy of a store, as if a volume were restored beside the original.

        Both take visits, and either is killed and restarted. The copy stays until all agree.
        """
        original = self._with_files()
        guest = next((g for g in self.guests if g.name == original.name), None)
        if guest is None:
            self._kill(original)
            guest = Node(self._copy(original), original.name, None, original.settings)
            self._stack.callback(guest.kill)
            self.guests.append(guest)
            original.start()
            guest.start()
        seed = self._choose.randrange(2**32)
        lives = self._choose.randint(1, 2)
        with Traffic(
            [guest.url], self.exact, videos=self._videos, visitors=2, pause=0.01, seed=seed
        ) as traffic:
            for _ in range(lives):
                traffic.more(30)
                victim = self._choose.choice((guest, original))
                self._kill(victim)
                self._last(self._choose.random(), victim)
                victim.start()
        return f"{original.name}, {lives} lives"

    def _older(self) -> tuple[Node, Path]:
        """Stop and start a node, and let it count on; return it and its store at the stop."""
        self.until_healthy()
        node = self._with_files()
        self._stop(node)
        older = self._copy(node)
        node.start()
        self._last(1 + self._choose.random(), node)
        return node, older

    def _roll_back(self) -> str:
        """Put a store back to an earlier stop; after clean stops others hold all of its counts."""
        node, older = self._older()
        self.until_healthy()
        self._stop(node)
        self._replace(node, older)
        node.start()
        return node.name

    def _put_back(self) -> str:
        """Run on an older store between two runs on the newer one, which nobody else may know."""
        node, older = self._older()
        self._kill(node)
        newer = self._copy(node)
        self._replace(node, older)
        node.start()
        self.until_healthy()
        self._stop(node)
        self._replace(node, newer)
        node.start()
        return node.name

    # -- clocks

    def _step_clock(self) -> str:
        """Set one node's clock wrong for a while; nodes may be killed meanwhile."""
        node = self._choose.choice(self.nodes)
        return self._step([node])

    def _step_clocks(self) -> str:
        """Set all clocks wrong, as if all nodes ran on one machine."""
        return self._step(self.nodes)

    def _step(self, nodes: list[Node]) -> str:
        step = self._choose.choice(STEPS)
        for node in nodes:
            self._clocks[node.name].set(step)
        self._last(1 + 2 * self._choose.random())
        for node in nodes:
            self._clocks[node.name].set(0.0)
        return f"{' '.join(node.name for node in nodes)} by {step:+g} s"

    # -- Redis

    @property
    def _redis_server(self) -> Redis:
        assert self.redis is not None  # in each of CLUSTERS there is a node that needs it
        return self.redis

    def _kill_redis(self) -> str:
        self._redis_server.kill()
        self._last(2 * self._choose.random())
        self._redis_server.start()
        return ""

    def _empty_redis(self) -> str:
        # A node that was just killed, and has not loaded its store again, would lose for ever what
        # nobody else had heard.
        self.until_healthy()
        self._ask_redis("FLUSHALL")
        # So would one that is killed before it notices.
        for node in self.nodes:
            if "REDIS_URI" in node.settings:
                key = f"counter:{node.name}:store"
                until(partial(self._redis_has, key), HEALED, f"{node.name} heals its store")
        time.sleep(1.0)  # a large tally takes several batches, and that key was in the first
        return ""

    def _redis_has(self, key: str) -> bool:
        return self._ask_redis(f"EXISTS {key}") == b":1\r\n"

    def _ask_redis(self, command: str) -> bytes:
        with socket.create_connection(("127.0.0.1", self._redis_server.port), 2) as connection:
            connection.sendall(command.encode() + b"\r\n")
            return connection.recv(16)

    # -- the broker

    def _kill_broker(self) -> str:
        assert self.broker is not None
        self.broker.kill()
        self._last(0)
        self.broker.start()
        return ""

    def _freeze_broker(self) -> str:
        assert self.broker is not None
        self.broker.pause()
        self._last(1 + 5 * self._choose.random())
        self.broker.resume()
        return ""

    def _cut_proxy(self) -> str:
        number = self._choose.randrange(len(self.proxies))
        self.proxies[number].cut()
        self._last(0.5 + 3 * self._choose.random())
        self.proxies[number].heal()
        return self.nodes[number].name

    def _hold_proxy(self) -> str:
        number = self._choose.randrange(len(self.proxies))
        self.proxies[number].hold()
        self._last(1 + 4 * self._choose.random())
        self.proxies[number].heal()
        return self.nodes[number].name

    def _overflow_queue(self) -> str:
        assert self.broker is not None
        # With two nodes of one name the owner of a queue is not known.
        counted_again = {guest.name for guest in self.guests}
        node = self._choose.choice([node for node in self.nodes if node.name not in counted_again])
        with BrokerQueues(self.broker.uri, HEALED) as queues:
            queue = queues.queue_of(node.name)
            node.pause()
            try:
                queues.fill(queue, _OVERFLOWED)
                self._last(3 * self._choose.random(), node)  # it may lose its lease as well
            finally:
                node.resume()
            self.overflowed += queues.dropped
            return f"{node.name} missed {queues.dropped} messages"

    # -- what must be true

    def healthy(self) -> bool:
        """Return whether every node is ready and its store takes writes."""
        for url in self.urls:
            with Client(url, 5) as client:
                if client.get("/readyz")[0] != 200 or not client.json("/cluster")["store"]["up"]:
                    return False
        return True

    def until_healthy(self) -> float:
        """Wait until every node is healthy; return the seconds it took."""
        try:
            return until(self.healthy, HEALED, "every node is ready, and its store is up")
        except AssertionError:
            self.explain()
            raise

    def agree(self) -> float:
        """Wait, without visits, until all nodes show the same; return the seconds it took.

        Then the nodes on copies of stores stop.
        """
        videos = self.videos()
        start = time.monotonic()
        self.until_healthy()
        urls = [*self.urls, *(guest.url for guest in self.guests)]

        def same() -> bool:
            shown = [counted(url, videos) for url in urls]
            return all(other == shown[0] for other in shown)

        try:
            until(same, HEALED, "the nodes agree")
        except AssertionError:
            self.explain()
            raise
        took = time.monotonic() - start
        for guest in self.guests:
            self._stop(guest)
        self._left += self.guests
        self.guests = []
        return took

    def videos(self) -> list[str]:
        """All videos that were visited."""
        keyed = (post.video for post in self.keyed.all)
        return sorted({*self.exact.tried, *self.balanced.tried, *keyed})

    def shown(self) -> dict[str, int]:
        """Return the visits of every video, as one node shows them."""
        return counted(self.urls[0], self.videos())

    def repeat_keyed(self, most: int) -> int:
        """Send the latest acknowledged posts to every node again; return how many were sent.

        None may count, for by now every node knows their keys.
        """
        again = [post for post in self.keyed.all if post.acknowledged][-most:]
        for url in self.urls:
            with Client(url) as client:
                for post in again:
                    status, answer = send(client, post)
                    if status != 200:
                        self.keyed.wrong.append(f"{post.video} at {url}: {status} {answer!r}")
        return len(again) * len(self.urls)

    def closed_runs(self) -> int:
        """The most vectors of ended runs that a node still keeps apart.

        Folding them away is to keep this small, however often nodes restart.
        """
        return max(int(fetch(url, "/cluster")["folding"]["closed_runs"]) for url in self.urls)

    def complaints(self) -> list[str]:
        """What nodes logged that no fault excuses."""
        return complaints([*self.nodes, *self.guests, *self._left]) + self.keyed.wrong

    def explain(self) -> None:
        """Print what the nodes know, and where they differ."""
        for node in [*self.nodes, *self.guests]:
            try:
                say(f"{node.name}: {fetch(node.url, '/cluster')}")
            except (OSError, AssertionError) as error:
                say(f"{node.name}: {error!r}")
            say(node.tail(40))
        for video in self.videos():
            counters = [fetch(url, f"/count/{video}?stale=1")["counts"] for url in self.urls]
            if any(counter != counters[0] for counter in counters):
                say(f"{video}: {counters}")
