"""What becomes of each record of a request, also where the same request comes again.

A repeat with its key may come to another node, and when other rules apply: a block that is lifted,
a viewer who was seen meanwhile. So what does not count is part of the fingerprint that goes with
the key. A request of which all counts has the same fingerprint as ever.
"""

from collections.abc import Collection, Iterator

from counter.node.judge import Reason
from counter.node.outcomes import Reasons, marked


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
    ) -> Reasons:
        """What did not count of the request that a repeat belongs to.

        `taken` is the fingerprint that came with its key, `fingerprint` that of a request of which
        all counts. `now` is what would not count of the repeat: that is answered where nothing
        else is known.
        """
        if key in self._reasons:
            return self._reasons[key]
        likely = (each for each in _likely(videos, now) if marked(fingerprint, each) == taken)
        return next(likely, now)


def _likely(videos: Collection[str], now: Reasons) -> Iterator[Reasons]:
    """What may not have counted before."""
    yield {}
    yield now
    blocked: Reasons = {video: "blocked" for video, reason in now.items() if reason == "blocked"}
    yield blocked
    yield {video: blocked.get(video, "bot") for video in videos}
    yield dict.fromkeys(videos, "bot")
