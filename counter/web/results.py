"""What becomes of each record of a request, also where the same request comes again.

A repeat with its key may come to another node, and when other rules apply: a block that is lifted,
a viewer who was seen meanwhile. So what does not count is part of the fingerprint that goes with
the key. A request of which all counts has the same fingerprint as ever.
"""

from collections.abc import Collection, Iterator, Mapping
from hashlib import blake2b

from counter.node.counting import OF_REQUEST
from counter.node.judge import Reason

Reasons = dict[str, Reason]
"""Why visits do not count, by video; those that count are left out."""


def marked(fingerprint: bytes, reasons: Mapping[str, Reason]) -> bytes:
    """The fingerprint of a request of which some does not count; without a key there is none."""
    if not (fingerprint and reasons):
        return fingerprint
    outcome = "\n".join(f"{video} {reason}" for video, reason in sorted(reasons.items()))
    rest = len(fingerprint) - OF_REQUEST
    return fingerprint[:OF_REQUEST] + blake2b(outcome.encode(), digest_size=rest).digest()


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
