"""`make chaos`: real processes under load and faults, and the books that must balance.

Three nodes run behind nginx, first on a full mesh, then over RabbitMQ; each time some use SQLite
and some Redis. The load that must be exact goes to the nodes directly; the load through nginx is
checked against acknowledged ≤ counted ≤ tried. Faults follow one another, chosen by a seed, and
after every few of them the nodes must agree.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from chaos.faults import CLUSTERS, FaultyCluster
from lab.clients import Books, Posters, Posts, Traffic, fetch
from lab.terminal import say

VIDEOS = 40
FAULTS_A_ROUND = 6
SHARES = {"mesh": 0.4, "rabbitmq": 0.6}
"""The share of the time that each cluster gets: more faults can happen to the second."""
KILLS = {
    "node killed": 3,
    "node killed, and again while it starts": 2,
    "all nodes killed": 1,
}
"""The weights of the faults that kill nodes."""
REPEATED = 200
"""How many keyed requests are sent to every node again at the end."""
FOLDED = 60.0
"""Seconds within which the runs of killed nodes must be folded, once all is quiet."""


TRIED, REFUSED, UNANSWERED = (
    "visits tried",
    "refused (503 or nobody there: not counted)",
    "answered neither yes nor no (may count)",
)
ACKNOWLEDGED, COUNTED, LOST, COUNTED_AGAIN = "acknowledged", "counted", "lost", "counted again"
WINDOW = "counted twice through the window"
"""Another node did not know the key yet."""


def visits(books: Books, shown: Mapping[str, int]) -> Counter[str]:
    """What became of the visits in books, where nodes show these numbers."""
    became = Counter(
        {
            TRIED: books.tried.total(),
            REFUSED: books.refused.total(),
            UNANSWERED: books.unknown.total(),
            ACKNOWLEDGED: books.acknowledged.total(),
        }
    )
    for video in books.tried:
        least = books.acknowledged[video]
        number = shown.get(video, 0)
        became[COUNTED] += number
        became[LOST] += max(0, least - number)
        became[COUNTED_AGAIN] += max(0, number - least - books.unknown[video])
    return became


def keyed(posts: Posts, shown: Mapping[str, int]) -> Counter[str]:
    """What became of the requests under keys."""
    window, counted_again = posts.counted_again(shown)
    return Counter(
        {
            "requests": len(posts.all),
            ACKNOWLEDGED: sum(post.acknowledged for post in posts.all),
            "repeated": sum(max(0, post.asked - 1) for post in posts.all),
            WINDOW: window,
            LOST: posts.lost(shown),
            COUNTED_AGAIN: counted_again,
        }
    )


@dataclass
class Account:
    """What happened, over all clusters."""

    seconds: float = 0.0
    clusters: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    killed_meanwhile: int = 0
    overflowed: int = 0
    unclean: int = 0
    complaints: int = 0
    exact: Counter[str] = field(default_factory=Counter)
    balanced: Counter[str] = field(default_factory=Counter)
    keyed: Counter[str] = field(default_factory=Counter)
    """What became of visits to the nodes, through nginx, and under keys."""
    in_turn: Counter[int] = field(default_factory=Counter)
    longest_ready: float = 0.0
    longest: float = 0.0
    closed_runs: int = 0
    closed_runs_left: int = 0

    @property
    def lost(self) -> int:
        """Visits that were acknowledged and are not counted."""
        return (self.exact + self.balanced + self.keyed)[LOST]

    @property
    def counted_again(self) -> int:
        """Visits that are counted more often than they can have been made."""
        return (self.exact + self.balanced + self.keyed)[COUNTED_AGAIN]

    @property
    def right(self) -> bool:
        """Whether nothing was lost or counted twice, and no node failed otherwise."""
        return self.lost == self.counted_again == self.unclean == self.complaints == 0

    def add(self, cluster: FaultyCluster) -> None:
        """Add the books of a cluster at rest."""
        self.keyed["at rest"] += cluster.repeat_keyed(REPEATED)
        cluster.agree()
        shown = cluster.shown()
        self.keyed += keyed(cluster.keyed, shown)
        self.exact += visits(cluster.exact, shown)
        self.balanced += visits(cluster.balanced, shown)
        self.clusters.append(cluster.transport)
        self.kills += cluster.kills
        self.killed_meanwhile += cluster.killed_meanwhile
        self.overflowed += cluster.overflowed
        self.unclean += len(cluster.unclean)
        complaints = cluster.complaints()
        self.complaints += len(complaints)
        if complaints:
            say("\n".join(complaints[:10]))
        self.in_turn += cluster.in_turn

    def table(self) -> str:
        """The account in lines."""
        stores = sorted({(kind, store) for kind in self.clusters for store in CLUSTERS[kind]})
        ran = ", ".join(f"{transport} + {store}" for transport, store in stores)
        faults = [(f"  {fault}", str(times)) for fault, times in sorted(self.faults.items())]
        rate = self.kills / self.seconds * 60 if self.seconds else 0.0
        names = (TRIED, REFUSED, UNANSWERED, ACKNOWLEDGED, COUNTED, LOST, COUNTED_AGAIN)
        visits = [(name, f"{self.exact[name]:,}", f"{self.balanced[name]:,}") for name in names]
        rows: list[Sequence[str]] = [
            ("faults", str(self.faults.total())),
            *faults,
            ("node kills (kill -9)", str(self.kills), f"{rate:.1f} a minute"),
            ("  of these while another fault lasted", str(self.killed_meanwhile)),
            ("messages dropped by full queues of the broker", f"{self.overflowed:,}"),
            ("SIGTERM that did not end with status 0", str(self.unclean)),
            ("tracebacks and dead threads in the nodes' logs", str(self.complaints)),
            (),
            ("", "to a node", "through nginx"),
            *visits,
            *self._in_turn(),
            (),
            ("requests under an Idempotency-Key", f"{self.keyed['requests']:,}"),
            ("  acknowledged", f"{self.keyed[ACKNOWLEDGED]:,}"),
            ("  sent again, mostly to another node", f"{self.keyed['repeated']:,}"),
            ("  sent again to every node, at rest", f"{self.keyed['at rest']:,}"),
            (f"  {WINDOW}, in {self.kills} kills", f"{self.keyed[WINDOW]:,}"),
            ("  visits lost", f"{self.keyed[LOST]:,}"),
            ("  counted twice otherwise", f"{self.keyed[COUNTED_AGAIN]:,}"),
            (),
            ("longest time until every node was ready", f"{self.longest_ready:.2f} s"),
            ("longest time to agree, once they were", f"{self.longest:.2f} s"),
            ("most closed runs, not yet folded", str(self.closed_runs)),
            ("closed runs in the end", str(self.closed_runs_left)),
        ]
        width = max(len(row[0]) for row in rows if row)
        lines = [
            "".join([f"{row[0]:{width}}", *(f"{c:>15}" for c in row[1:])]) for row in rows if row
        ]
        return "\n".join([f"nodes: {ran}; {self.seconds:.0f} s under load", *lines])

    def _in_turn(self) -> Iterator[Sequence[str]]:
        if not self.in_turn:
            return
        yield "  while every node got SIGTERM in turn", "", f"{self.in_turn.total():,}"
        for status, times in sorted(self.in_turn.items()):
            yield f"    {status or 'no answer'}", "", f"{times:,}"


def run(seconds: float, seed: int, kinds: Sequence[str] = tuple(CLUSTERS)) -> Account:
    """Run clusters of these kinds for so many seconds in all, and return what happened.

    Starting them takes some more. Raises AssertionError if the nodes do not agree.
    """
    account = Account()
    choose = random.Random(seed)
    shares = sum(SHARES[kind] for kind in kinds)
    for kind in kinds:
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-"))
            say(f"starting three nodes: {kind} with {', '.join(CLUSTERS[kind])} ...")
            cluster = FaultyCluster(Path(folder), kind, choose, stack, videos=VIDEOS)
            _disturb(cluster, seconds * SHARES[kind] / shares, choose, account)
            _fold(cluster, account)
            account.add(cluster)
    return account


def main() -> int:
    """Return 0 if nothing was lost and nothing counted twice."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long (60)")
    parser.add_argument("--seed", type=int, default=1, help="chooses the faults (1)")
    parser.add_argument("--only", choices=CLUSTERS, help="one of the clusters instead of both")
    asked = parser.parse_args()
    account = run(asked.seconds, asked.seed, [asked.only] if asked.only else list(CLUSTERS))
    say(account.table())
    return 0 if account.right else 1


def _disturb(
    cluster: FaultyCluster, seconds: float, choose: random.Random, account: Account
) -> None:
    start = time.monotonic()
    deadline = start + seconds
    faults = _faults(cluster, choose, account)
    right = True
    while time.monotonic() < deadline:
        happened = []
        seed = choose.randrange(2**32)
        direct = Traffic(
            cluster.urls, cluster.exact, videos=VIDEOS, visitors=9, pause=0.005, seed=seed
        )
        balanced = Traffic(
            [cluster.nginx.url],
            cluster.balanced,
            videos=VIDEOS,
            visitors=3,
            pause=0.01,
            seed=seed + 1,
            prefix="balanced",
        )
        keyed = Posters(cluster.urls, cluster.keyed, visitors=3, pause=0.03, seed=seed + 2)
        with direct, balanced, keyed:
            for fault, befall in islice(faults, FAULTS_A_ROUND):
                began = time.monotonic()
                what = befall()
                account.faults[fault] += 1
                happened.append(f"{fault} {what}".strip() + f" {time.monotonic() - began:.1f} s")
                direct.more(30)
                if time.monotonic() > deadline:
                    break
            ready = cluster.until_healthy()
            account.longest_ready = max(account.longest_ready, ready)
        took = cluster.agree()
        account.longest = max(account.longest, took)
        account.closed_runs = max(account.closed_runs, cluster.closed_runs())
        say(
            f"{time.monotonic() - start:3.0f} s: {'; '.join(happened)}; agreed after {took:.2f} s,"
            f" {cluster.kills} kills, {cluster.exact.acknowledged.total():,} visits"
        )
        right = right and _check(cluster)
    account.seconds += time.monotonic() - start


def _faults(
    cluster: FaultyCluster, choose: random.Random, account: Account
) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield kills and other faults in turn; each of the others once before any comes again."""
    others: list[str] = []
    while True:
        if not others:
            others = choose.sample(list(cluster.other_faults), len(cluster.other_faults))
            # A short run should see all of them: those that no cluster had come first.
            others.sort(key=lambda fault: account.faults[fault] == 0)
        other = others.pop()
        yield other, cluster.other_faults[other]
        (kill,) = choose.choices(list(KILLS), list(KILLS.values()))
        yield kill, cluster.kill_faults[kill]


def _check(cluster: FaultyCluster) -> bool:
    """Return whether the books balance; print what is wrong while the log still tells why."""
    shown, right = cluster.shown(), True
    for books in (cluster.exact, cluster.balanced):
        try:
            books.check(shown)
        except AssertionError as error:
            right = False
            video = str(error).partition(":")[0]
            say(f"WRONG: {error}; {fetch(cluster.urls[0], f'/count/{video}')['counts']}")
    _, counted_again = cluster.keyed.counted_again(shown)
    if cluster.keyed.lost(shown) or counted_again:
        right = False
        say(f"WRONG: {cluster.keyed.lost(shown)} lost, {counted_again} counted again under keys")
    if not right:
        cluster.explain()
    return right


def _fold(cluster: FaultyCluster, account: Account) -> None:
    """Give the nodes time to fold ended runs, which must not change a number."""
    left = cluster.closed_runs()
    deadline = time.monotonic() + FOLDED
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        left = cluster.closed_runs()
    account.closed_runs_left = max(account.closed_runs_left, left)
    cluster.agree()


if __name__ == "__main__":
    sys.exit(main())
