"""Corrections: what an operator does to a video's number, and what is shown of that."""

import secrets
import time
from collections.abc import Callable, Mapping, Set
from itertools import islice
from threading import Lock
from typing import Literal

from counter.crdt.limits import visits_of
from counter.node.counting import MaybeCountedError, NotCountedError
from counter.node.flusher import Flusher
from counter.node.stage import Stage
from counter.protocol.ledger import MAX_RECORDS, Ledger
from counter.protocol.records import Act, Record, id_of_key
from counter.protocol.replica import Replica

_ANSWER_TIME = 10.0
"""Longest time in seconds that a correction waits for the store."""
_REASONS = 3
"""So many reasons are shown of a video's withdrawals."""

Number = int | Literal["all"]


class LedgerFullError(Exception):
    """There is no room for another record."""


class OtherRequestError(Exception):
    """Another correction has this Idempotency-Key."""


class Corrections:
    """Takes corrections, and knows what follows from them. Any thread may call any method.

    `lock` guards the replica. `publish` tells the others what was stored.
    """

    def __init__(
        self, flusher: Flusher, lock: Lock, stage: Stage, publish: Callable[[], None]
    ) -> None:
        self._flusher = flusher
        self._lock = lock
        self._stage = stage
        self._publish = publish

    @property
    def _ledger(self) -> Ledger | None:
        replica = self._flusher.replica
        return replica.ledger if replica else None

    # -- what is shown

    def is_blocked(self, video: str) -> bool:
        """Whether a video takes no visits."""
        replica = self._flusher.replica
        return replica is not None and replica.ledger.is_blocked(video)

    def ever_blocked(self, videos: Set[str]) -> list[str]:
        """Those of these videos that any record blocks or unblocks, in order."""
        with self._lock:
            ledger = self._ledger
            return sorted(ledger.ever_blocked(videos)) if ledger else []

    def concern(self, video: str) -> bool:
        """Whether there is any record of a video."""
        # Each visit asks.
        replica = self._flusher.replica
        return replica is not None and video in replica.ledger.videos

    def withdrawn(self, video: str, counter: Mapping[str, int]) -> int:
        """How many of the visits in a video's counter are withdrawn."""
        ledger = self._ledger
        return ledger.shown(video, counter) if ledger else 0

    def visits(self, video: str, counter: Mapping[str, int]) -> int:
        """The visits of a video with this counter, after corrections."""
        return max(0, visits_of(counter) - self.withdrawn(video, counter))

    def shown(self, video: str, counter: Mapping[str, int]) -> dict[str, int | bool]:
        """What an answer says of a video with this counter: only what is not as usual."""
        told: dict[str, int | bool] = {"visits": self.visits(video, counter)}
        if withdrawn := self.withdrawn(video, counter):
            told["withdrawn"] = withdrawn
        if self.is_blocked(video):
            told["blocked"] = True
        return told

    def withdrawn_for(self, video: str) -> str:
        """Why visits of a video were withdrawn: the newest reasons, newest first; "" for none."""
        acts = self.records(video)
        reasons = dict.fromkeys(record.reason for record in acts if record.act == "withdraw")
        return "; ".join(islice(filter(None, reasons), _REASONS))

    def count(self) -> int:
        """How many records there are."""
        ledger = self._ledger
        return len(ledger) if ledger else 0

    def records(self, video: str | None = None) -> list[Record]:
        """The records, of one video or of all, newest first."""
        with self._lock:
            ledger = self._ledger
            if ledger is None:
                return []
            return ledger.newest() if video is None else ledger.of(video)

    def latest(self) -> list[Record]:
        """Some of the newest records, newest first."""
        with self._lock:
            ledger = self._ledger
            return ledger.latest() if ledger else []

    # -- what an operator does

    def withdraw(
        self, video: str, number: Number, reason: str, by: str, key: str = ""
    ) -> tuple[Record, bool]:
        """Withdraw visits; return the record, and whether it was made now.

        It returns when the store holds the record, and after the others were told. With a `key`, a
        repeat finds the record. Raises `TooManyError`, `LedgerFullError`, `OtherRequestError`,
        `NotCountedError` if certainly nothing was done, or `MaybeCountedError`.
        """
        return self._record("withdraw", video, number, reason, by, key)

    def block(
        self, video: str, reason: str, by: str, key: str = "", *, blocked: bool = True
    ) -> tuple[Record, bool]:
        """Have a video take no more visits, or take them again; otherwise as `withdraw`."""
        return self._record("block" if blocked else "unblock", video, 0, reason, by, key)

    def _record(
        self, act: Act, video: str, asked: Number, reason: str, by: str, key: str
    ) -> tuple[Record, bool]:
        flusher = self._flusher
        body = f"{act}\n{video}\n{asked}\n{reason}".encode()
        id_ = id_of_key(by, key, body) if key else secrets.token_hex(16)
        with self._lock:
            replica = self._replica()
            ledger = replica.ledger
            record = ledger.find(id_)
            is_new = record is None
            if record is None:
                self._check(replica, id_, key)
                takes = {}
                if act == "withdraw":
                    number = None if asked == "all" else asked
                    takes = ledger.takes(video, replica.counter(video), number)
                at = ledger.next_time(video, int(time.time() * 1000))
                record = Record(id_, at, by, video, act, reason, takes)
                ledger.take(record)
            elif not ledger.is_pending(id_):
                return record, False
            # One that is in flight is stored before this one ends.
            flush = flusher.gathering
        flusher.wake()
        if not flush.wait(_ANSWER_TIME):
            raise MaybeCountedError("the store failed while it was writing this correction")
        self._publish()
        return record, is_new

    def _replica(self) -> Replica:
        """The replica, if this node knows what there is to be corrected; under the lock."""
        flusher = self._flusher
        replica = flusher.replica
        if self._stage.state != "ready":
            raise NotCountedError(f"this node is {self._stage.state}; ask another one, or later")
        if replica is None or flusher.error:
            raise NotCountedError("the store of this node is down")
        return replica

    def _check(self, replica: Replica, id_: str, key: str) -> None:
        if key and replica.ledger.of_key(id_) is not None:
            raise OtherRequestError(f"the key {key!r} belongs to another correction")
        if len(replica.ledger) >= MAX_RECORDS:
            raise LedgerFullError(f"there are {MAX_RECORDS} records, and no room for another one")
