"""Faults against the rules of closed runs, folding, copies and snapshots.

Each is a plausible mistake, put in the place of one part of a node. The random histories must
catch it, and so must the exhaustive search.
"""

from collections.abc import Collection
from typing import Any

from msgspec.structs import replace

from counter.protocol.announced import Announced
from counter.protocol.batch import Batch
from counter.protocol.folding import Folding
from counter.protocol.messages import Larger, MemberReport, RepairRequest
from counter.protocol.peers import Peer
from counter.protocol.reverts import Reverts
from counter.protocol.runs import Runs
from counter.protocol.succession import Succession
from simulation.process import Process
from simulation.rules import Rules, SmallPages


class RunsWithoutAnOwn(Runs):
    """Closes its own run like any other, once a later one of its member is known."""

    def _is_closed(self, vector: str, now: float) -> bool:
        return (
            self._members.is_closed(vector)
            if vector == self._own
            else super()._is_closed(vector, now)
        )

    def open(self, member: str) -> set[str]:
        return {vector for vector in super().open(member) if not self.is_closed(vector)}


class FoldsItsOwnRun(SmallPages):
    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.runs.__class__ = RunsWithoutAnOwn


class ClosedRunsOnly(Runs):
    """Knows of no run that is open."""

    def open(self, member: str) -> set[str]:
        return set()


class FoldingBeyondALiveRun(Folding):
    """Looks at closed runs only, and folds up to the newest of them."""

    def _agreed(self, member: str, mark: str, now: float) -> str:
        kept, announced = self._runs.__class__, self._announced
        self._runs.__class__ = ClosedRunsOnly
        self._announced = [one and ClosedAnnounced(one) for one in announced]
        try:
            return super()._agreed(member, mark, now)
        finally:
            self._runs.__class__, self._announced = kept, announced


class ClosedAnnounced(Announced):
    """What a node has said, but for runs that are open."""

    def __init__(self, announced: Announced) -> None:
        super().__init__()
        self._all = announced

    def of(self, member: str) -> MemberReport | None:
        report = self._all.of(member)
        return report and replace(report, runs={})


class UnawareSuccession(Succession):
    """Goes on to count in a run, as if nothing were folded above it."""

    def rescue(self) -> None:
        pass

    def waits_below_mark(self) -> list[str]:
        return []


class FoldsBeyondALiveRun(SmallPages):
    folding_class = FoldingBeyondALiveRun
    succession_class = UnawareSuccession


class HastyForgetting(Folding):
    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **(more | {"fold_after": 0.0}))


class IgnoresFoldAfter(SmallPages):
    folding_class = HastyForgetting


class DeafReverts(Reverts):
    def claimed(
        self, total: int, peer: Peer, now: float, *, refused: bool = False
    ) -> RepairRequest | None:
        return None


class IgnoresALargerCopyOfItsOwnRun(SmallPages):
    reverts_class = DeafReverts


class SilentReverts(Reverts):
    def tell(
        self, vector: str, peer: Peer, now: float, refused: Collection[str] = ()
    ) -> Larger | None:
        return None if refused else super().tell(vector, peer, now)


class SaysNothingOfARefusedEntry(SmallPages):
    reverts_class = SilentReverts


class RewritesAStoreThatKnowsMore(Process):
    """Takes a store that knows more than the memory for one that has forgotten something."""

    def write(self, batch: Batch) -> bool:
        stored = super().write(batch)
        self._is_behind = False
        return stored


NEW_FAULTS = {
    "folds its own run": Rules(replica=FoldsItsOwnRun),
    "folds beyond a live run": Rules(replica=FoldsBeyondALiveRun),
    "ignores FOLD_AFTER": Rules(replica=IgnoresFoldAfter),
    "ignores a larger copy of its own run": Rules(replica=IgnoresALargerCopyOfItsOwnRun),
    "rewrites a store that knows more": Rules(process=RewritesAStoreThatKnowsMore),
    "says nothing of a refused entry": Rules(replica=SaysNothingOfARefusedEntry),
}
