"""What becomes of each record of a request, also where the same request comes again.

A repeat with its key may come to another node, and when other rules apply: a block that was set or
lifted meanwhile. So a mark of what does not count is part of the fingerprint that goes with the
key. What it stands for is found by trying what may have been.
"""

from collections.abc import Collection, Iterator
from itertools import chain, combinations

from counter.node.judge import Reason
from counter.node.outcomes import Reasons, marked

_MAX_CHANGEABLE = 10
"""So many videos may have been blocked or not before each of the cases is tried: a thousand."""
_MAX_NAMED = 50_000
"""So many videos are named in all cases together, which takes some 30 ms."""


def result(reason: Reason | None) -> dict[str, bool | str]:
    """What the answer says of one record."""
    return {"counted": True} if reason is None else {"counted": False, "reason": reason}


class Results:
    """What did not count of the latest requests with a key. Any thread may call it."""

    most = 10_000

    def __init__(self) -> None:
        self._reasons: dict[str, Reasons] = {}

    def remember(self, key: str, reasons: Reasons) -> None:
        """Remember what does not count of a new request."""
        self._reasons[key] = reasons
        if len(self._reasons) > self.most:
            self._reasons.pop(next(iter(self._reasons)), None)

    def of_first(
        self,
        key: str,
        taken: bytes | None,
        fingerprint: bytes,
        videos: Collection[str],
        now: Reasons,
        changeable: Collection[str],
    ) -> Reasons | None:
        """What did not count of the request that a repeat belongs to; None if that is not known.

        `taken` is the fingerprint that came with its key, `fingerprint` that of a request of which
        all counts. `now` is what would not count of the repeat, `changeable` those of its videos
        that an operator has ever blocked.
        """
        if key in self._reasons:
            return self._reasons[key]
        outcomes = chain([now], _outcomes(videos, now, changeable))
        return next((each for each in outcomes if marked(fingerprint, each) == taken), None)


def _outcomes(
    videos: Collection[str], now: Reasons, changeable: Collection[str]
) -> Iterator[Reasons]:
    """What may not have counted before: who sent it was a bot or not, and some was blocked."""
    blocked_now = [video for video, reason in now.items() if reason == "blocked"]
    for is_bot in (False, True):
        likely: list[Collection[str]] = [blocked_now, [], changeable]
        others: Reasons = dict.fromkeys(videos, "bot") if is_bot else {}
        if len(changeable) <= _MAX_CHANGEABLE and len(others) << len(changeable) <= _MAX_NAMED:
            sizes = range(1, len(changeable))
            likely += chain.from_iterable(combinations(changeable, size) for size in sizes)
        for blocked in likely:
            yield {**others, **dict.fromkeys(blocked, "blocked")}
