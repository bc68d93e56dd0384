"""Counting visits: when a visit is counted, and when its visitor may be answered."""

import time
from collections.abc import Callable, Collection, Mapping
from threading import Lock

from counter.crdt.columns import Entries
from counter.crdt.ids import ANNOUNCED, class_key, class_of
from counter.crdt.limits import FullError
from counter.node.flush import Flush
from counter.node.flusher import Flusher
from counter.node.metrics import Metrics
from counter.node.new_videos import NewVideos
from counter.node.outcomes import (
    ALL_COUNT,
    OF_REQUEST,
    Reasons,
    apart,
    count_apart,
    counting,
    marked,
    with_blocks,
)
from counter.node.stage import Stage
from counter.protocol.catalogue import Catalogue, announcement
from counter.protocol.client import STRANGER, Client
from counter.protocol.key_log import Key
from counter.protocol.key_room import NoRoomError
from counter.protocol.replica import Replica

_AT_ONCE = 3_400
"""So many ids are looked for at once, a third of the largest request: 4 ms if all are new."""
_ANSWER_TIME = 10.0
"""Longest time in seconds that a visit waits for the store."""


class NotCountedError(Exception):
    """The visit was certainly not counted. It may be sent again, to any node."""


class MaybeCountedError(Exception):
    """The visit may be counted: writing its batch failed, and the batch will be written again."""


class BlockedError(Exception):
    """The video is blocked: the visit is counted in that class, and not for the video."""


class KeyTakenError(Exception):
    """Another request has this Idempotency-Key."""


def stranger() -> Client:
    """Nobody who is known."""
    return STRANGER


class _RunFullError(Exception):
    """The `run` can count no more; another one has begun when `flush` has ended."""

    def __init__(self, run: str, flush: Flush, reason: str) -> None:
        super().__init__(reason)
        self.run, self.flush = run, flush


def _pending_counter(replica: Replica, video: str) -> dict[str, int]:
    """A video's counter with what is pending; a visit that does not count may be the first."""
    counter = replica.counter(video, pending=True)
    if not counter[replica.member]:
        del counter[replica.member]
    return counter


class Counting:
    """Counts visits in the replica. Any thread may call any method.

    `lock` guards the replica. With `durable` (`ACK=stored`) a visit is answered when the store
    holds it, otherwise at once. `is_complete(replica, now)` says whether the node knows what its
    peers have counted; it is called under the lock, and so is `client()`, which says who sends a
    request, where that matters. `publish` tells the others what was stored.
    """

    def __init__(
        self,
        flusher: Flusher,
        lock: Lock,
        metrics: Metrics,
        stage: Stage,
        new_videos: NewVideos,
        *,
        durable: bool,
        is_complete: Callable[[Replica, float], bool],
        publish: Callable[[], None],
    ) -> None:
        self._flusher = flusher
        self._lock = lock
        self._metrics = metrics
        self._stage = stage
        self.turns = stage.turns
        """For requests of many visits; see `Stage`."""
        self.new_videos = new_videos
        # What is known of an id that counts: that it was seen, or that it was announced.
        self._known_by = ANNOUNCED if new_videos.only_announced else ""
        self._publish = publish
        self._durable = durable
        self._is_complete = is_complete

    def wait_until_open(self) -> None:
        """Wait until the store was opened: only then is it known which visits count.

        Raises `NotCountedError` if visits cannot be counted now.
        """
        if self._flusher.replica is None:
            self._wait_for_store()
            with self._lock:
                self._replica()

    def visit(
        self,
        video: str,
        client: Callable[[], Client] = stranger,
        reason: str | None = None,
    ) -> dict[str, int] | None:
        """Count one visit; return the video's counter with it, or None while the node is joining.

        With a `reason` it is counted in that class, and not for the video. If `durable`, it
        returns when the store holds it. Raises `BlockedError` when it was counted as blocked,
        `NotCountedError`, `MaybeCountedError`, `FullError` if no node can ever count it, or what
        `NewVideos.check` raises for its id.
        """
        flusher, durable = self._flusher, self._durable
        if not flusher.tried.is_set():
            self._wait_for_store()
        try:
            with self._lock:
                replica = self._replica()
                if replica.tally.ids.find(video + self._known_by) is None:
                    self.new_videos.check(replica, (video,), client)
                if replica.ledger.is_blocked(video):
                    # Nobody knew while the visit waited for the store.
                    reason = "blocked"
                try:
                    if reason is None:
                        replica.visit(video)
                    else:
                        count_apart(replica, {}, {class_key(video, reason): 1})
                except OverflowError as error:
                    raise self._refused(replica, error) from None
                flush = flusher.gathering
                counter = None if durable else _pending_counter(replica, video)
                joining = replica.state == "joining"
        except _RunFullError as full:
            self._wait_for_next_run(full)
            return self.visit(video, client, reason)
        if reason is None:
            self._metrics.visits.inc()
        else:
            self._metrics.not_counted.labels(reason).inc()
        flusher.wake()
        if durable:
            self._wait_for(flush)
        if reason == "blocked":
            raise BlockedError(video)
        if durable and not joining:
            with self._lock:
                counter = replica.counter(video)
        return None if joining else counter

    def count_many(
        self,
        visits: Mapping[str, int],
        key: str = "",
        fingerprint: bytes = b"",
        client: Callable[[], Client] = stranger,
        reasons: Reasons = ALL_COUNT,
        *,
        once: bool = False,
    ) -> Reasons | None:
        """Count visits `{video: count}`, all or none, once per `key` of this client.

        Those with a reason, and those of blocked videos, are counted in that class instead. With
        `once` one visit of each other video counts, and the rest are repeats.

        Return why some do not count, if they were counted now; None if a request with this key was
        counted before. The first `OF_REQUEST` bytes of the `fingerprint` tell the request of a key
        from others; the rest is `marked` with what does not count. If `durable`, it returns when
        the store holds the visits. No key is kept for no visits.

        Raises `NotCountedError`, `MaybeCountedError`, `FullError` if a video has no room for them
        on any node, `KeyTakenError` if another request has the key, `NoRoomError` if there is no
        room for the key, or what `NewVideos.check` raises for their ids.
        """
        flusher, now = self._flusher, time.monotonic()
        if not flusher.tried.is_set():
            self._wait_for_store()
        name = client().key(key) if key else ""
        counts = counting(visits, reasons, once=once)
        if len(counts) > _AT_ONCE:
            counts = self._placed(counts, name, now, client)
        while True:
            try:
                with self._lock:
                    replica = flusher.replica
                    found = replica.keys.find(name, now) if key and replica else None
                    if found is None:
                        taken = Key(name, fingerprint, now) if key else None
                        reasons = self._count(visits, counts, reasons, taken, client, once=once)
                    # The visits of a known key may be counted, whatever happens to this request.
                    # So from here on the answer is never 503.
                    in_flight = found is not None and found.place == "in flight"
                    flush = flusher.writing if in_flight else flusher.gathering
                break
            except _RunFullError as full:
                self._wait_for_next_run(full)
                now = time.monotonic()
        if found is None:
            self._note(visits, reasons, once=once)
            flusher.wake()
        else:
            self._metrics.repeats.inc()
            if found.fingerprint[:OF_REQUEST] != fingerprint[:OF_REQUEST]:
                raise KeyTakenError(f"the key {key!r} belongs to a request with another body")
            if found.place == "committed":
                return None
        if self._durable:
            self._wait_for(flush)
        return reasons if found is None else None

    def _note(self, visits: Mapping[str, int], reasons: Reasons, *, once: bool) -> None:
        """Note what became of visits of a request."""
        number = sum(visits.values())
        for key, others in apart(visits, reasons, once=once).items():
            self._metrics.not_counted.labels(class_of(key)).inc(others)
            number -= others
        self._metrics.visits.inc(number)

    def fingerprint_of(self, key: str, client: Client) -> bytes | None:
        """The fingerprint that came with a key of this client; None if it is not known here."""
        with self._lock:
            replica = self._flusher.replica
            found = replica and replica.keys.find(client.key(key), time.monotonic())
            return found.fingerprint if found else None

    def may_count(self, video: str) -> bool:
        """Whether an id may count: any may, unless only announced ones do."""
        with self._lock:
            replica = self._flusher.replica
            if replica is None or not self.new_videos.only_announced:
                return True
            return replica.state == "joining" or Catalogue.of(replica).is_announced(video)

    def announce(self, videos: Collection[str]) -> int:
        """Announce ids of videos, all or none; return how many of them were not announced before.

        It returns when the store holds the announcements, and after the others were told. Raises
        `NotCountedError` if certainly none of them was announced now, or `MaybeCountedError`.
        """
        flusher = self._flusher
        if not flusher.tried.is_set():
            self._wait_for_store()
        try:
            with self._lock:
                replica = self._replica()
                if flusher.error:
                    raise self._refusal(f"the store is down: {flusher.error}")
                new = Catalogue.of(replica).unannounced(dict.fromkeys(videos))
                try:
                    replica.count_many(dict.fromkeys(map(announcement, new), 1))
                except OverflowError as error:
                    raise self._refused(replica, error) from None
                # What was announced a moment ago may be in flight: this one ends after that.
                flush = flusher.gathering
        except _RunFullError as full:
            self._wait_for_next_run(full)
            return self.announce(videos)
        flusher.wake()
        self._wait_for(flush)
        if self._stage.ready:
            self._publish()
        return len(new)

    def _count(
        self,
        visits: Mapping[str, int],
        counts: Mapping[str, int],
        reasons: Reasons,
        key: Key | None,
        client: Callable[[], Client],
        *,
        once: bool,
    ) -> Reasons:
        """Count visits under a key that is not known here; under the lock.

        `counts` are those without a reason. Returns the reasons with those of blocked videos.
        """
        replica = self._replica()
        if not visits:
            return reasons
        reasons = with_blocks(reasons, visits, replica.ledger)
        counts, others = counting(counts, reasons), apart(visits, reasons, once=once)
        # The videos of what is counted apart must be ones that may be counted, too.
        name, now = (key.text, key.taken) if key else ("", 0.0)
        self._check(replica, counts, name, now, client, reasons.keys())
        if key:
            key = key._replace(fingerprint=marked(key.fingerprint, reasons))
        try:
            count_apart(replica, counts, others, key)
        except OverflowError as error:
            raise self._refused(replica, error) from None
        if key:
            replica.keys.charge(client(), key.taken)
        return reasons

    def _check(
        self,
        replica: Replica,
        visits: Mapping[str, int],
        key: str,
        now: float,
        client: Callable[[], Client],
        others: Collection[str] = (),
    ) -> None:
        """Check whether this client may have visits of these videos counted; under the lock."""
        if key and not self._is_complete(replica, now):
            raise self._refusal("this node is joining, and may not know this key yet")
        if key:
            self._check_room(replica, client(), now)
        # Ids that have rows were checked before they got them.
        videos: Collection[str] = () if type(visits) is Entries else visits.keys()
        self.new_videos.check(replica, {*videos, *others} if others else videos, client)

    def _placed(
        self, visits: Mapping[str, int], key: str, now: float, client: Callable[[], Client]
    ) -> Mapping[str, int]:
        """The same visits with the rows of their videos, which are looked for in turns.

        So counting them is one short step, however many are new. What may not be counted gets no
        rows, nor does a repeat.
        """
        # Reading them took some ms.
        self.turns.wait()
        with self._lock:
            replica = self._flusher.replica
            if replica is None or not replica.tally.ids.together(visits):
                return visits
            if key and replica.keys.find(key, now) is not None:
                return visits
            self._check(self._replica(), visits, key, now, client)
            self._flusher.expect(1)
        ids, names, rows = replica.tally.ids, list(visits), []
        try:
            for first in range(0, len(names), _AT_ONCE):
                with self._lock:
                    rows.append(ids.rows(names[first : first + _AT_ONCE]))
                self.turns.wait()
        finally:
            with self._lock:
                self._flusher.expect(-1)
        return Entries.placed(ids, rows, names, visits.values())

    def _check_room(self, replica: Replica, client: Client, now: float) -> None:
        """Check whether there is room for another key of this client; under the lock."""
        try:
            replica.keys.check_room(client, now)
        except NoRoomError as error:
            self._metrics.keys_refused.labels(error.reason).inc()
            raise

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
