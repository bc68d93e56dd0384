"""`make attack`: three nodes behind nginx are attacked while honest visitors go on.

First the honest visitors are alone, then all attacks run at once beside them. No honest visit may
fail or be lost, all nodes must show the same, and memory must come back.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

from chaos.attackers import FULL, HUGE, Attackers, Site
from lab.clients import Apart, OpenLoop, Target, counted, fetch, fill, until
from lab.clients.open_loop import Outcome
from lab.cluster import Cluster, complaints
from lab.servers import Nginx
from lab.terminal import columns, say

RATE, BEACONS = 180, 20
"""Honest visits a second: to `/video`, and to `/hit`."""
CONNECTIONS = 10
VIDEOS = 50
QUIET = 20.0
"""Seconds of the honest visitors alone."""
SLOWER, MEMORY = 5.0, 1.2
"""How many times the quiet figure p99 and memory may be."""
SHARED = 250.0
"""ms. The attackers share the processors: a p99 below it says nothing of the cluster."""
SECRET = "the secret of this cluster"  # noqa: S105 - of nodes on loopback


class Balancer(Nginx):
    """The balancer, which limits all addresses of this machine but the first."""

    def __init__(self, folder: Path, backends: Sequence[str]) -> None:
        super().__init__(folder, backends, limits={"127.0.0.0/8 0;": "127.0.0.1 0;"})


class Phase(NamedTuple):
    """What honest visitors saw, and the most memory of a node and of nginx, in bytes."""

    visits: Outcome
    beacons: Outcome
    node: int
    nginx: int


def videos(kind: str) -> list[str]:
    """The honest videos that are visited, or reported by beacons."""
    return [f"{kind}-{number}" for number in range(VIDEOS)]


class Attacked:
    """The cluster with its honest visitors, and what they were answered."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        settings = {
            "CLUSTER_SECRET": SECRET,
            "NEW_VIDEOS": "100",
            "DEV_MODE": "1",
            # Everybody is on this machine; only the balancer is to be trusted.
            "TRUSTED_PROXIES": "127.0.0.1/32",
        }
        self.cluster = Cluster(folder, stack, settings=settings, nginx=Balancer, follows=True)
        self.answered = {"visits": 0, "beacons": 0}
        self._fill()
        port = self.cluster.nginx.port
        target = Target(
            "visits", [port], RATE, CONNECTIONS, cycle([f"/video/{v}" for v in videos("honest")])
        )
        beacons = Target(
            "beacons", [port], BEACONS, 2, cycle([f"/hit/{v}" for v in videos("beacon")])
        )
        self._honest = stack.enter_context(Apart(OpenLoop, target, beacons))

    def _fill(self) -> None:
        """Make one video full, as only somebody with a token can."""
        fill(self.cluster.urls[0], {FULL: HUGE})
        urls, path = self.cluster.urls, f"/count/{FULL}"
        until(lambda: all(fetch(u, path)["visits"] == HUGE for u in urls), 10, "it is full")

    def phase(self, seconds: float) -> Phase:
        """What honest visitors see for some seconds from now."""
        self._take()
        time.sleep(seconds)
        taken = self._take()
        return Phase(taken["visits"], taken["beacons"], **self.memory())

    def settled(self, what: str, most: float) -> int:
        """Bytes of what uses at most so many, or will not within 30 s."""
        with suppress(AssertionError):
            until(lambda: self.memory()[what] <= most, 30, "memory is back")
        return self.memory()[what]

    def finish(self) -> None:
        """Let the last requests be answered; no more are sent."""
        self._honest.call("finish")
        self._take()

    def _take(self) -> dict[str, Outcome]:
        taken: dict[str, Outcome] = self._honest.call("take")
        for name, outcome in taken.items():
            self.answered[name] += len(outcome.took)
        return taken

    def shown(self) -> list[dict[str, int]]:
        """How many honest visits each node shows, by the way they came."""
        return [
            {
                "visits": sum(counted(url, videos("honest")).values()),
                "beacons": sum(counted(url, videos("beacon")).values()),
            }
            for url in self.cluster.urls
        ]

    def memory(self) -> dict[str, int]:
        """Bytes of the largest node, and of nginx."""
        nodes = [node.memory() for node in self.cluster.nodes]
        return {"node": max(nodes), "nginx": self.cluster.nginx.memory()}


class Verdict(NamedTuple):
    """A promise, what was seen, and whether that keeps it."""

    promise: str
    seen: str
    holds: bool


def attack(seconds: float, only: str, folder: Path, stack: ExitStack) -> list[Verdict]:
    """Run it all; print what became of each attack, and return the verdicts."""
    attacked = Attacked(folder, stack)
    cluster = attacked.cluster
    attacked.phase(2.0)  # the first visits are not like the others
    say(f"{RATE + BEACONS} honest visits a second, alone for {QUIET:.0f} s ...")
    quiet = attacked.phase(QUIET)
    site = Site(cluster.nginx.port, tuple(node.port for node in cluster.nodes), SECRET, only)
    say(f"the same beside all attacks, for {seconds:.0f} s ...")
    with Apart(Attackers, site) as attackers:
        loud = attacked.phase(seconds)
        seen, answered = attackers.call("seen"), attackers.call("answered")
    say(columns([("attack", "requests", "ended as"), *_rows(seen)]))
    say(f"nodes sent {answered / 2**20:.1f} MiB to the broken peer\n")
    return list(_verdicts(attacked, quiet, loud))


def _rows(seen: dict[str, Counter[str]]) -> Iterator[tuple[str, str, str]]:
    for name, ends in sorted(seen.items()):
        yield (
            name,
            f"{ends.total():,}",
            ", ".join(f"{end}: {n:,}" for end, n in sorted(ends.items())),
        )


def _verdicts(attacked: Attacked, quiet: Phase, loud: Phase) -> Iterator[Verdict]:
    for name in ("visits", "beacons"):
        calm, busy = getattr(quiet, name), getattr(loud, name)
        statuses = ", ".join(f"{status}: {n:,}" for status, n in sorted(busy.statuses.items()))
        yield Verdict(f"honest {name}: none fails", statuses, busy.failures == 0)
        before, beside = calm.within(99), busy.within(99)
        yield Verdict(
            f"honest {name}: p99 at most {SLOWER:g} times the quiet one, or {SHARED:.0f} ms",
            f"{before:.1f} ms, then {beside:.1f} ms: {beside / before:.1f} times",
            beside <= max(SLOWER * before, SHARED),
        )
    for what in ("node", "nginx"):
        least = getattr(quiet, what)
        most = MEMORY * least
        now = attacked.settled(what, most)
        yield Verdict(
            f"memory of {what}: within {MEMORY - 1:.0%} after",
            f"{least / 2**20:.1f} MiB, {getattr(loud, what) / 2**20:.1f}, {now / 2**20:.1f}",
            now <= most,
        )
    attacked.finish()
    with suppress(AssertionError):
        until(lambda: all(one == attacked.answered for one in attacked.shown()), 15, "all agree")
    for name, answered in attacked.answered.items():
        shown = [one[name] for one in attacked.shown()]
        yield Verdict(
            f"honest {name}: none is lost, at any node",
            f"{answered:,} answered; shown: {', '.join(f'{one:,}' for one in shown)}",
            all(one == answered for one in shown),
        )
    wrong = complaints(attacked.cluster.nodes)
    say("\n".join(wrong[:10]))
    yield Verdict("no traceback, no thread ended", f"{len(wrong)}", not wrong)


def main() -> int:
    """Return 0 if all promises held."""
    parser = argparse.ArgumentParser(prog="make attack", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long (60)")
    parser.add_argument("--only", default="123456789", help="some of the attacks: 48")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="attack-") as folder, ExitStack() as stack:
        verdicts = attack(asked.seconds, asked.only, Path(folder), stack)
    rows = [(one.promise, one.seen, "holds" if one.holds else "FAILS") for one in verdicts]
    say(columns([("promise", "seen", "result"), *rows]))
    return 0 if all(one.holds for one in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
