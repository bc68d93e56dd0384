"""How long a repair takes over slow links: `python -m benchmarks.links`.

Three nodes at one broker, each through a proxy of its own that delays what it carries. One node is
cut off while another counts many videos once each; the time runs from when it is connected again
until it shows all of them. They are missed twice: first of a new run, of which it holds nothing
yet, then of the same run, of which it holds as much already.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from lab.clients import counted, fill, post, until
from lab.cluster import Cluster
from lab.servers import Node
from lab.terminal import say

SETTINGS = {"SYNC_INTERVAL": "1", "DRAIN_TIME": "0", "DEV_MODE": "1"}
PATIENCE = 60.0
"""Seconds that a repair may take."""


class Links:
    """Three nodes whose messages to each other take `delay` seconds."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        cluster = Cluster(folder, stack, transport="rabbitmq", proxied=True, settings=SETTINGS)
        self.nodes, self._proxies = cluster.nodes, cluster.proxies

    def delay(self, seconds: float) -> None:
        """From now on a message takes so many seconds from one node to another."""
        for proxy in self._proxies:
            proxy.delay = seconds / 2

    def new_run(self) -> None:
        """Restart the node that counts, so that nobody holds anything of its run."""
        self.delay(0.0)
        self.nodes[0].kill()
        self.nodes[0].start()
        self.nodes[0].wait_ready()

    def repair(self, delay: float, videos: Sequence[str]) -> float | None:
        """Cut the last node off, count the videos, reconnect it; return how long it needs.

        None if it takes longer than `PATIENCE`.
        """
        writer, other, cut = self.nodes
        self.delay(0.0)
        post(cut.url, "/dev/cut")
        fill(writer.url, dict.fromkeys(videos, 1))
        until(lambda: _shows(other, videos), PATIENCE, "the other one has heard")
        self.delay(delay)
        # Nothing that was sent without the delay is still in flight when it is connected.
        time.sleep(1.0)
        post(cut.url, "/dev/heal")
        try:
            return until(lambda: _shows(cut, videos), PATIENCE, "all are repaired")
        except AssertionError:
            return None


def _shows(node: Node, videos: Sequence[str]) -> bool:
    # Two of them are cheap to ask for over and over; all are asked for in the end.
    return sum(counted(node.url, [videos[0], videos[-1]]).values()) == 2 and (
        sum(counted(node.url, videos).values()) == len(videos)
    )


def main() -> int:
    """Print the time that a repair takes for each delay."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.links", description=__doc__)
    parser.add_argument("--delays", default="0,1,2,3", help="seconds one way (0,1,2,3)")
    parser.add_argument("--videos", type=int, default=3_000, help="counts that are missed (3,000)")
    asked = parser.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="links-"))
        links = Links(Path(folder), stack)
        for delay in map(float, asked.delays.split(",")):
            links.new_run()
            took = [
                links.repair(delay, [f"{delay:g}-{half}-{video}" for video in range(asked.videos)])
                for half in ("first", "second")
            ]
            shown = [f"over {PATIENCE:g} s" if one is None else f"{one:.1f} s" for one in took]
            say(
                f"{delay:g} s one way, {asked.videos:,} counts missed: {shown[0]} of a new run, "
                f"{shown[1]} where it holds as many"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
