"""What the console and the metrics show of a node."""

import time
from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

from counter.crdt.ids import CLASSES, name_of
from counter.node.flusher import Flusher
from counter.node.gossip import Gossip
from counter.node.rates import Rate
from counter.protocol.joining import Lack
from counter.protocol.roster import Member


class FoldBlocker(NamedTuple):
    """A member that folding waits for, and for how many seconds it was silent.

    `heard` is None if this process never heard it; then `silent` counts from when it could have.
    With `earlier_life` a live member has the same name: the store of that node was lost or
    replaced.
    """

    member: str
    heard: float | None
    silent: float
    earlier_life: bool


class Folding(NamedTuple):
    """How many runs are closed and not folded, how many folds were done, and who is waited for."""

    closed: int = 0
    folds: int = 0
    waits_for: Sequence[FoldBlocker] = ()


class Status:
    """Reads the state of a node. Any thread may call any method; `lock` guards the replica.

    Each answer is consistent in itself; two answers may be of different moments. Before the store
    is open they are empty.
    """

    def __init__(self, flusher: Flusher, gossip: Gossip, lock: Lock) -> None:
        self._flusher = flusher
        self._gossip = gossip
        self._lock = lock

    @property
    def store_up(self) -> bool:
        """Whether the last write succeeded."""
        return self._flusher.error is None

    @property
    def transport_up(self) -> bool:
        """Whether messages can go out."""
        return self._gossip.health.transport[1]

    @property
    def clock_wrong(self) -> bool:
        """Whether this node hears nobody because of its clock, and two others agree."""
        with self._lock:
            return self._gossip.clocks.wrong(time.time(), time.monotonic())

    @property
    def complete(self) -> bool:
        """Whether it has held all that its peers reported, so that it knows what was counted."""
        with self._lock:
            replica = self._flusher.replica
            return replica is not None and self._gossip.is_complete(replica, time.monotonic())

    def unflushed(self) -> int:
        """How many visits the store does not hold yet."""
        with self._lock:
            replica = self._flusher.replica
            return replica.pending.unflushed() if replica else 0

    def members(self) -> list[Member]:
        """Every member as this node sees it."""
        with self._lock:
            replica = self._flusher.replica
            if replica is None:
                return []
            now = time.monotonic()
            self._gossip.look(replica, now)
            return replica.roster.members(now)

    def rates(self) -> dict[str, Rate]:
        """How fast each member counts and sends, over the last seconds and as seen here."""
        with self._lock:
            replica = self._flusher.replica
            if replica is None:
                return {}
            visits, messages = self._gossip.totals(replica)
            return self._gossip.rates.rates(visits, messages, time.monotonic())

    def folding(self) -> Folding:
        """What is left to fold, and which members that waits for: none if nothing is left."""
        with self._lock:
            replica = self._flusher.replica
            if replica is None:
                return Folding()
            now = time.monotonic()
            roster = {member.member: member for member in replica.roster.members(now)}
            closed = sum(member.closed for member in roster.values())
            live = {name_of(member) for member in roster if roster[member].live}
            waits_for = []
            for member in sorted(replica.folding.fold_blockers(now)) if closed else ():
                heard = roster[member].heard
                silent = now - self._gossip.listens_since if heard is None else heard
                waits_for.append(FoldBlocker(member, heard, silent, name_of(member) in live))
            return Folding(closed, replica.folding.folds, waits_for)

    def lacks(self) -> list[Lack]:
        """What peers hold and this node does not, while it has not caught up with them."""
        with self._lock:
            replica = self._flusher.replica
            return replica.joining.lacks(time.monotonic()) if replica else []

    def duplicate_names(self) -> dict[str, bool]:
        """Names that two live nodes have, and whether these run on copies of one store."""
        with self._lock:
            replica = self._flusher.replica
            return replica.roster.duplicate_names(time.monotonic()) if replica else {}

    def clocks_differing(self) -> dict[str, float]:
        """Members not heard because of their clocks, and by how many seconds these are ahead.

        They need not be among `members`.
        """
        with self._lock:
            return self._gossip.clocks.differing(time.time(), time.monotonic())

    def clock_differences(self) -> dict[str, float]:
        """By how many seconds the clock of each member that is heard or refused is ahead."""
        with self._lock:
            return self._gossip.clocks.differences(time.time(), time.monotonic())

    def videos(self) -> tuple[int, int]:
        """How many videos it knows of, and how many were announced."""
        replica = self._flusher.replica
        return (replica.tally.videos(), replica.tally.announced()) if replica else (0, 0)

    def not_counted(self) -> dict[str, int]:
        """How many visits of all members do not count, by class."""
        with self._lock:
            replica = self._flusher.replica
            return replica.tally.classes() if replica else dict.fromkeys(CLASSES, 0)

    def suspected(self) -> list[str]:
        """The vectors of its store that are not used, because they are in doubt."""
        with self._lock:
            replica = self._flusher.replica
            return replica.recovery.suspected() if replica else []

    def damage(self) -> list[str]:
        """The damage that this process has found in its store, one sentence each time."""
        return list(self._flusher.damage)

    def keys(self) -> tuple[int, int]:
        """How many idempotency keys it holds, and how many were counted by two nodes."""
        replica = self._flusher.replica
        return (len(replica.keys), replica.keys.counted_again) if replica else (0, 0)
