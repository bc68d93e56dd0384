"""The catalogue: which ids of videos the cluster has seen, and which an operator has announced.

An announcement is a count of 1 under a key of its own, `cats/known`. The `/` is in no id, so it is
listed nowhere, and it travels, is stored, repaired and folded as the counts of videos are. Whoever
announces an id again, at any node, only adds a count under that key, which changes nothing.

Pure: no I/O, no clock.
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from counter.crdt.ids import ANNOUNCED, CLASSES, class_key
from counter.crdt.tally import Tally
from counter.protocol.pending import Pending
from counter.protocol.replica import Replica


def announcement(video: str) -> str:
    """The key under which an announcement of a video is counted."""
    return video + ANNOUNCED


class Catalogue(NamedTuple):
    """What a replica knows of ids: what is told to it, and what is still pending."""

    tally: Tally
    pending: Pending

    @classmethod
    def of(cls, replica: Replica) -> "Catalogue":
        """That of a replica."""
        return cls(replica.tally, replica.pending)

    def is_announced(self, video: str) -> bool:
        """Whether an operator has announced this id."""
        key = announcement(video)
        return self.tally.visits(key) > 0 or self.pending.count(key) > 0

    def unannounced(self, videos: Iterable[str]) -> list[str]:
        """Those that nobody has announced."""
        return [video for video in videos if not self.is_announced(video)]

    def new(self, videos: Collection[str]) -> list[str]:
        """Those that the cluster has never seen, as far as it is known here, nor announced."""
        # Together: most of many ids were seen before.
        return [
            video
            for video in dict.fromkeys(self.tally.ids.unknown(videos))
            if not (self.pending.count(video) or self.is_announced(video) or self._has_class(video))
        ]

    def _has_class(self, video: str) -> bool:
        """Whether a visit of it came that did not count: then it is not new any more."""
        keys = [class_key(video, reason) for reason in CLASSES]
        untold = self.pending.untold
        return any(self.tally.visits(k) or self.pending.count(k) or k in untold for k in keys)
