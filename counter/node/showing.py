"""A counter as readers see it: committed, in the form of the answers and the live pages."""

from collections.abc import Callable
from threading import Lock
from typing import Any

from counter.crdt.gcounter import MAX_COUNT
from counter.crdt.ids import CLASSES, STEPS, class_key
from counter.crdt.limits import shown_counts, visits_of
from counter.crdt.tally import Tally
from counter.node.corrections import Corrections
from counter.node.flusher import Flusher


class Showing:
    """Reads counters of the replica of `flusher`. Any thread may call any method.

    `lock` guards the replica; `name` says how the node is called.
    """

    def __init__(
        self, flusher: Flusher, lock: Lock, corrections: Corrections, name: Callable[[], str]
    ) -> None:
        self._flusher = flusher
        self._lock = lock
        self._corrections = corrections
        self._name = name

    def counter(self, video: str) -> dict[str, int]:
        """The video's counter as committed: `{member: count}`."""
        with self._lock:
            replica = self._flusher.replica
            return replica.counter(video) if replica else {}

    def top(self, limit: int) -> list[str]:
        """The most visited videos, most visits first."""
        with self._lock:
            replica = self._flusher.replica
            top = replica.tally.top(min(limit + len(STEPS), Tally.TOP)) if replica else []
        # The version before counted those as well.
        return [video for video in top if video not in STEPS][:limit]

    def show(self, video: str, counter: dict[str, int], *, detail: bool = False) -> dict[str, Any]:
        """A counter in the form of the answers; with `detail`, all there is to say."""
        visits = visits_of(counter)
        if visits == MAX_COUNT:
            counter = shown_counts(counter)
        shown = {"video": video, "visits": visits, "node": self._name(), "counts": counter}
        if self._corrections.concern(video):
            shown |= self._corrections.shown(video, counter)
        if detail:
            shown["not_counted"] = self.not_counted(video)
            if "withdrawn" in shown and (reasons := self._corrections.withdrawn_for(video)):
                shown["withdrawn_for"] = reasons
        return shown

    def not_counted(self, video: str) -> dict[str, int]:
        """How many visits of a video were not counted, by class; those classes that have any."""
        with self._lock:
            replica = self._flusher.replica
            if replica is None:
                return {}
            untold, notes = replica.pending.untold, replica.backlog.notes
            visits = {each: untold.visits(class_key(video, each), notes) for each in CLASSES}
        return {each: number for each, number in visits.items() if number}
