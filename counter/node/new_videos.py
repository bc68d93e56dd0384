"""Which ids may be counted: new ones are limited, or only those count that were announced."""

import time
from collections.abc import Callable, Collection
from typing import NamedTuple

from counter.node.buckets import Buckets, Short
from counter.node.metrics import Metrics
from counter.node.warn import Warn
from counter.protocol.catalogue import Catalogue
from counter.protocol.client import Client
from counter.protocol.replica import Replica

_SHOWN_FOR = 600.0
"""Seconds for which it is shown that ids were refused."""


class TooManyNewError(Exception):
    """Too many ids are new; `retry_after` says in how many seconds there may be room for them."""

    def __init__(self, video: str, many: int, short: Short) -> None:
        self.video, self.retry_after = video, max(1.0, short.retry_after)
        ids = f"{video!r} is a new id" if many == 1 else f"{many} ids are new, such as {video!r}"
        whose = "this node" if short.reason == "all" else "one address"
        rest = "try again later, or send a token"
        if many > short.most:
            rest = "send a token, or fewer at once"
        super().__init__(
            f"{ids}, and {whose} may bring in {short.most} in a minute (NEW_VIDEOS): {rest}"
        )


class UnannouncedError(Exception):
    """Only ids that an operator has announced count, and `video` is none of them."""

    def __init__(self, video: str) -> None:
        self.video = video
        super().__init__(f"{video!r} was not announced, and only such ids count (VIDEOS=known)")


class Refusals(NamedTuple):
    """How many new ids this process has refused, and how many seconds ago the last one."""

    videos: int
    ago: float


class NewVideos:
    """Says which ids may be counted now. All methods are to be called under the node's lock.

    `rate` is how many new ids are taken a second, 0 for any number. If only the `known` ones count,
    which are those that were announced, it does not matter.
    """

    def __init__(self, rate: int, metrics: Metrics, warn: Warn, kind: str = "open") -> None:
        self.only_announced = kind == "known"
        self._rate = rate
        self._buckets = Buckets(rate) if rate else None
        self._metrics = metrics
        self._warn = warn
        self.refused = 0
        """How many new ids this process has refused."""
        self._refused_at = 0.0

    def check(
        self, replica: Replica, videos: Collection[str], client: Callable[[], Client]
    ) -> None:
        """Raise an error if one of these may not be counted for this client.

        `TooManyNewError` if there are too many new ones among them, `UnannouncedError` if only
        announced ids count. Nothing is refused while the node joins: it may not know them yet.
        """
        if replica.state == "joining":
            return
        if self.only_announced:
            self._check_announced(replica, videos)
            return
        if self._buckets is None:
            return
        who = client()
        if who.has_token:
            return
        new = Catalogue.of(replica).new(videos)
        if not new:
            return
        now = time.monotonic()
        if short := self._buckets.take(who.address, len(new), now):
            self._note(len(new), short.reason, now)
            raise TooManyNewError(min(new), len(new), short)

    def lately(self) -> Refusals | None:
        """What was refused lately, if anything was."""
        ago = time.monotonic() - self._refused_at
        return Refusals(self.refused, ago) if self.refused and ago < _SHOWN_FOR else None

    def _check_announced(self, replica: Replica, videos: Collection[str]) -> None:
        others = Catalogue.of(replica).unannounced(videos)
        if not others:
            return
        self._note(len(others), "unannounced", time.monotonic())
        raise UnannouncedError(others[0])

    def _note(self, many: int, reason: str, now: float) -> None:
        self._metrics.new_refused.labels(reason).inc(many)
        self._warn("videos.refused", f"reason={reason} ids={many}")
        self.refused += many
        self._refused_at = now
