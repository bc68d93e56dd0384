"""Counting visits: when a visit is counted, and when its visitor may be answered."""

import time
from collections.abc import Callable, Mapping
from threading import Lock

from counter.crdt.limits import FullError
from counter.node.flusher import Flush, Flusher
from counter.node.metrics import Metrics
from counter.node.stage import Stage
from counter.protocol.key_log import Key
from counter.protocol.replica import Replica

_ANSWER_TIME = 10.0
"""Longest time in seconds that a visit waits for the store."""


class NotCountedError(Exception):
    """The visit was certainly not counted. It may be sent again, to any node."""


class MaybeCountedError(Exception):
    """The visit may be counted: writing its batch failed, and the batch will be written again."""


class KeyTakenError(Exception):
    """Another request has this Idempotency-Key."""


class _RunFullError(Exception):
    """The `run` can count no more; another one has begun when `flush` has ended."""

    def __init__(self, run: str, flush: Flush, reason: str) -> None:
        super().__init__(reason)
        self.run, self.flush = run, flush


class Counting:
    """Counts visits in the replica. Any thread may call any method.

    `lock` guards the replica. With `durable` (`ACK=stored`) a visit is answered when the store
    holds it, otherwise at once. `is_complete(replica, now)` says whether the node knows what its
    peers have counted; it is called under the lock.
    """

    def __init__(
        self,
        flusher: Flusher,
        lock: Lock,
        metrics: Metrics,
        stage: Stage,
        *,
        durable: bool,
        is_complete: Callable[[Replica, float], bool],
    ) -> None:
        self._flusher = flusher
        self._lock = lock
        self._metrics = metrics
        self._stage = stage
        self._durable = durable
        self._is_complete = is_complete

    def visit(self, video: str) -> dict[str, int] | None:
        """Count one visit; return the video's counter with it, or None while the node is joining.

        If `durable`, it returns when the store holds the visit. Raises `NotCountedError`,
        `MaybeCountedError`, or `FullError` if no node can ever count it.
        """
        flusher, durable = self._flusher, self._durable
        if not flusher.tried.is_set():
            self._wait_for_store()
        try:
            with self._lock:
                replica = self._replica()
                try:
                    replica.visit(video)
                except OverflowError as error:
                    raise self._refused(replica, error) from None
                flush = flusher.gathering
                counter = None if durable else replica.counter(video, pending=True)
                joining = replica.state == "joining"
        except _RunFullError as full:
            self._wait_for_next_run(full)
            return self.visit(video)
        self._metrics.visits.inc()
        flusher.wake()
        if durable:
            self._wait_for(flush)
            if not joining:
                with self._lock:
                    counter = replica.counter(video)
        return None if joining else counter

    def count_many(
        self, visits: Mapping[str, int], key: str = "", fingerprint: bytes = b""
    ) -> bool:
        """Count visits `{video: count}`, all or none, once per `key`.

        Return whether they were counted now; False if a request with this key was counted before.
        The `fingerprint` tells the request of a key from other requests. If `durable`, it returns
        when the store holds the visits. Raises `NotCountedError`, `MaybeCountedError`, `FullError`
        if a video has no room for them on any node, or `KeyTakenError` if another request has the
        key.
        """
        flusher, now = self._flusher, time.monotonic()
        if not flusher.tried.is_set():
            self._wait_for_store()
        try:
            with self._lock:
                replica = flusher.replica
                found = replica.keys.find(key, now) if key and replica else None
                if found is None:
                    self._count(visits, key, fingerprint, now)
                # The visits of a known key may be counted, whatever happens to this request. So
                # from here on the answer is never 503.
                in_flight = found is not None and found.place == "in flight"
                flush = flusher.writing if in_flight else flusher.gathering
        except _RunFullError as full:
            self._wait_for_next_run(full)
            return self.count_many(visits, key, fingerprint)
        if found is None:
            self._metrics.visits.inc(sum(visits.values()))
            flusher.wake()
        else:
            self._metrics.repeats.inc()
            if found.fingerprint != fingerprint:
                raise KeyTakenError(f"the key {key!r} belongs to a request with another body")
            if found.place == "committed":
                return False
        if self._durable:
            self._wait_for(flush)
        return found is None

    def _count(self, visits: Mapping[str, int], key: str, fingerprint: bytes, now: float) -> None:
        """Count visits under a key that is not known here; under the lock."""
        replica = self._replica()
        if key and not self._is_complete(replica, now):
            raise self._refusal("this node is joining, and may not know this key yet")
        try:
            replica.count_many(visits, key=Key(key, fingerprint, now) if key else None)
        except OverflowError as error:
            raise self._refused(replica, error) from None

    def _refused(self, replica: Replica, error: OverflowError) -> Exception:
        """What to raise for visits that the replica did not count; under the lock."""
        if isinstance(error, FullError):
            self._metrics.refused.labels("409").inc()
            return error
        return _RunFullError(replica.id, self._flusher.gathering, str(error))

    def _wait_for_next_run(self, full: _RunFullError) -> None:
        """Return when another run counts; raise `NotCountedError` if none has begun in time."""
        self._flusher.wake()
        full.flush.wait(_ANSWER_TIME)
        with self._lock:
            if self._replica().id == full.run:
                raise self._refusal(str(full))

    def _wait_for_store(self) -> None:
        """Wait until the store was opened, or opening it has failed."""
        if not (self._stage.started and self._flusher.tried.wait(_ANSWER_TIME)):
            raise self._refusal("this node is starting")

    def _replica(self) -> Replica:
        """The replica, if visits can be counted now; under the lock."""
        if self._stage.draining.is_set():
            raise self._refusal("this node is stopping")
        flusher = self._flusher
        replica = flusher.replica
        if replica is None or (flusher.error and self._durable):
            # The log says why. That names paths and addresses, and visitors read this.
            raise self._refusal("the store of this node is down, or still being opened")
        return replica

    def _wait_for(self, flush: Flush) -> None:
        """Wait until the store holds the visits of this flush."""
        if not flush.wait(_ANSWER_TIME):
            self._metrics.refused.labels("504").inc()
            raise MaybeCountedError("the store failed while it was writing this visit")

    def _refusal(self, reason: str) -> NotCountedError:
        self._metrics.refused.labels("503").inc()
        return NotCountedError(reason)
