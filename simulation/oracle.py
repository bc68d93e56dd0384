"""The oracle: knows what is true, and says so when the cluster shows anything else.

For each replica and video it keeps how many visits were *tried*, how many were *written* to some
store, and the *floor*: acknowledged visits that at least one memory or store still held after
every fault. What is acknowledged and below the floor must be counted everywhere in the end.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from counter.replica import Replica

if TYPE_CHECKING:
    from simulation.node import Node

Entry = tuple[str, str]
"""A replica and a video."""


class BrokenPromiseError(AssertionError):
    """A promise of the counter was broken: exact, monotone or honest."""


class Oracle:
    """Watches every node, page and store of a simulated cluster."""

    def __init__(self) -> None:
        self._tried: dict[Entry, int] = {}
        self._written: dict[Entry, int] = {}
        self._floor: dict[Entry, int] = {}
        self._shown: dict[str, dict[str, int]] = {}
        self._kept: dict[str, dict[Entry, int]] = {}
        self._ready: set[str] = set()

    # -- what happens

    def tried(self, replica: Replica, video: str, member_count: int) -> None:
        """A visit was made; the member's count with it is `member_count`."""
        earlier = replica.tally.counter(video).get(replica.member, 0)
        own = member_count - earlier + replica.tally.count(replica.id, video)
        self._tried[replica.id, video] = own

    def written(self, counts: Mapping[str, Mapping[str, int]]) -> None:
        """Some store holds these counts from now on."""
        for replica, vector in counts.items():
            for video, count in vector.items():
                entry = (replica, video)
                self._written[entry] = max(count, self._written.get(entry, 0))

    def acknowledged(self, replica: str, counts: Mapping[str, int]) -> None:
        """The visitors of these visits were told that they are counted."""
        for video, count in counts.items():
            self._floor[replica, video] = count

    def survived(self, nodes: Iterable["Node"]) -> None:
        """Something was destroyed: what no memory and no store holds now is lost for good."""
        holds: dict[Entry, int] = {}
        for node in nodes:
            copies = [node.disk.counts]
            if node.replica is not None:
                tally = node.replica.tally
                copies.append({r: tally.vector(r).counts for r, _ in tally.replicas()})
            for copy in copies:
                for replica, vector in copy.items():
                    for video, count in vector.items():
                        entry = (replica, video)
                        holds[entry] = max(count, holds.get(entry, 0))
        for entry, floor in self._floor.items():
            self._floor[entry] = min(floor, holds.get(entry, 0))

    def started(self, address: str) -> None:
        """A node began anew: what it showed in an earlier life does not bind it."""
        self._shown.pop(address, None)
        self._ready.discard(address)

    def tampered(self, address: str) -> None:
        """Somebody changed the store of a node from outside."""
        self._kept.pop(address, None)

    # -- what must be true

    def look(self, address: str, replica: Replica, advertised: list[dict[str, int]]) -> None:
        """Look at a running node: monotone, honest, and nothing shown that no store holds."""
        tally, shown = replica.tally, self._shown.setdefault(address, {})
        for known, videos in tally.replicas():
            for video in videos:
                count = tally.count(known, video)
                if count > self._written.get((known, video), 0):
                    raise BrokenPromiseError(
                        f"exact: {address} shows {count} for {known} and {video}, "
                        f"and no store ever held more than {self._written.get((known, video), 0)}"
                    )
                visits = sum(replica.counter(video).values())
                if visits < shown.get(video, 0):
                    raise BrokenPromiseError(
                        f"monotone: at {address}, {video} fell from {shown[video]} to {visits}"
                    )
                shown[video] = visits
        for video, visits in shown.items():
            if sum(replica.counter(video).values()) < visits:
                raise BrokenPromiseError(f"monotone: at {address}, {video} fell from {visits}")
        if replica.state == "ready" and address not in self._ready:
            self._ready.add(address)
            for totals in advertised:
                for known, total in totals.items():
                    if known != replica.id and tally.total(known) < total:
                        raise BrokenPromiseError(
                            f"honest: {address} says ready with {tally.total(known)} of the "
                            f"{total} visits that a peer advertised of {known}"
                        )

    def look_at_store(self, address: str, counts: Mapping[str, Mapping[str, int]]) -> None:
        """Look at a store: no count in it ever falls, unless somebody tampered with it."""
        kept = self._kept.setdefault(address, {})
        for (replica, video), count in kept.items():
            if counts.get(replica, {}).get(video, 0) < count:
                raise BrokenPromiseError(f"monotone: the store of {address} lost {replica} {video}")
        for replica, vector in counts.items():
            for video, count in vector.items():
                kept[replica, video] = count

    def look_at_page(self, page: str, visits: Mapping[str, int]) -> None:
        """Look at a page: no number on it ever falls, and none is more than was tried."""
        shown = self._shown.setdefault(page, {})
        for video, number in visits.items():
            most = sum(count for (_, tried), count in self._tried.items() if tried == video)
            if not shown.get(video, 0) <= number <= most:
                raise BrokenPromiseError(
                    f"monotone: {page} shows {number} for {video} after {shown.get(video, 0)}; "
                    f"{most} were tried"
                )
            shown[video] = number

    def at_rest(self, nodes: Iterable["Node"]) -> str:
        """Say what keeps the cluster from being exact; "" when it is.

        Every node holds the same, at least the floor and at most what was tried; and so does
        every store, or what was healed would be lost with the next kill.
        """
        first: dict[Entry, int] | None = None
        for node in nodes:
            replica = node.replica
            if replica is None or replica.state != "ready":
                return f"{node.address} is not ready"
            tally = replica.tally
            holds = {(r, v): tally.count(r, v) for r, videos in tally.replicas() for v in videos}
            for entry in self._floor.keys() | holds.keys():
                least, most = self._floor.get(entry, 0), self._tried.get(entry, 0)
                if not least <= holds.get(entry, 0) <= most:
                    return (
                        f"{node.address} counts {holds.get(entry, 0)} for {entry}: at least "
                        f"{least} were acknowledged and kept, {most} were tried"
                    )
            if first is not None and holds != first:
                return f"{node.address} holds something else than the others"
            first = holds
            kept = {(r, v): n for r, vector in node.disk.counts.items() for v, n in vector.items()}
            if kept != holds:
                return f"the store of {node.address} does not hold what its node shows"
        return ""

    def visits(self) -> int:
        """How many visits were tried."""
        return sum(self._tried.values())
