"""Follows a visit log: every whole line is counted once, whatever stops in between.

The position in the log is stored in the same atomic step as the visits read up to it, so after a
crash the store holds both or neither. While one piece waits for the store nothing more is read.

A line that can never be a visit is counted as such and skipped: it is malformed, or its video is
full. A full video does not delay others: everything else in the piece counts. So does every new id,
for nginx has answered its visitor. Where only announced videos count, the visits of others wait in
the store until they are announced. A line that cannot be counted *now* is never skipped: it stays
unread, and `Reading.waits` says what it waits for.

Why a visit does not count, this node decides, as for those that it answers itself: the log says
only what an agent calls itself. Such a visit is counted apart, in the same step; if its video is
not announced where that matters, it is refused.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from threading import Event, Lock
from types import MappingProxyType
from typing import NamedTuple

from counter.crdt.ids import class_key, is_listed
from counter.crdt.limits import FullError
from counter.node.agents import Kind
from counter.node.flusher import Flusher
from counter.node.metrics import Metrics
from counter.node.visit_log import File, Piece, VisitLog
from counter.protocol.catalogue import Catalogue, announcement
from counter.protocol.positions import START, Position, Positions, is_older
from counter.protocol.replica import Replica

log = logging.getLogger("counter")

POLL = 0.05
"""Seconds until a log that was read to its end is checked again."""
_RELEASED = 2_000
"""Videos whose waiting visits are counted in one step: each is two rows to write."""
_LOOK = 1.0
"""Seconds until what waits is looked at again, though the number of announcements is the same."""


class Reading(NamedTuple):
    """The progress: the path of the log, and how many of its bytes are unread.

    Then its lines in this process: those counted, as visits or apart, those that are no visits, and
    those refused because a video is full, or was not announced in time where that matters. `waits`
    says why no line is counted now; "" if nothing is in the way. `waiting` are visits that were
    read, and are counted once their videos are announced.
    """

    path: str
    unread: int
    lines: int
    junk: int
    refused: int
    waits: str
    waiting: int


class _Counted(NamedTuple):
    """What became of visits: how many count, which do not, by why; wait, are given up."""

    visits: int = 0
    apart: Mapping[str, int] = MappingProxyType({})
    waits: int = 0
    given_up: int = 0

    @property
    def lines(self) -> int:
        return self.visits + sum(self.apart.values())


def _counts(video: str, agent: Kind) -> None:
    """Have every visit count."""


class Follower:
    """Counts the visits of a log, from when the node is `ready` until it is `draining`.

    It does not begin earlier, because peers may know more of what was read than a new store does.

    `lock` guards the replica, as for the `Flusher`, which must have been started. `warn` logs an
    event with details, but not the same event all the time. `reason` says why a visit of a video,
    by such an agent, does not count; None if it does.
    """

    def __init__(
        self,
        visit_log: VisitLog,
        flusher: Flusher,
        lock: Lock,
        metrics: Metrics,
        *,
        ready: Callable[[], bool],
        draining: Event,
        warn: Callable[[str, str], None],
        reason: Callable[[str, Kind], str | None] = _counts,
        only_announced: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reason = reason
        self._only_announced = only_announced
        self._clock = clock
        self._announced, self._look_at = -1, 0.0
        self._waiting = 0
        self._log = visit_log
        self._flusher = flusher
        self._lock = lock
        self._metrics = metrics
        self._ready = ready
        self._draining = draining
        self._lines = self._junk = self._refused = 0
        self._waits = ""
        self._warn_node = warn

    def reading(self) -> Reading:
        """The progress so far. Any thread may call it."""
        return Reading(
            str(self._log.path),
            self._log.unread(),
            self._lines,
            self._junk,
            self._refused,
            self._waits,
            self._waiting,
        )

    def run(self) -> None:
        """Follow the log until the node drains."""
        while not (self._draining.is_set() or self._ready()):
            self._waits = "this node does not hold all that its peers hold"
            self._draining.wait(POLL)
        self._waits = ""
        while not self._draining.is_set():
            try:
                more = self._step()
            except OSError as error:
                self._waits = "the log cannot be read"
                self._warn("log.down", f"{error}")
                self._draining.wait(1.0)
            else:
                if not more:
                    self._draining.wait(POLL)

    def _step(self) -> bool:
        """Count one piece of the oldest file with unread visits; return whether there was one."""
        self._release()
        files = self._log.look()
        with self._lock:
            read = self._has_read(files)
        if not read:
            return self._begin(files)
        for file in files:
            position = read.get(file.id)
            if position is None:
                if not file.current and is_older(file.began, read):
                    self._log.skip(file)
                    continue
                # It counts as the newest, whatever its times say, or its position might be dropped.
                position = Position(max(file.began, *(other.began for other in read.values())))
            piece = self._log.read(file, position)
            if piece is None:
                continue
            if file.id not in read:
                log.info("log.follow file=%s id=%s", file.path.name, file.id)
            if piece.shrunk:
                log.warning(
                    "log.shrunk file=%s size=%d position=%d goes on at %d",
                    file.path.name,
                    file.size,
                    position.offset,
                    piece.position.offset,
                )
            taken = self._take(piece, files, read, {file.id: piece.position})
            if not taken:
                self._log.give_back(file, position)
                self._draining.wait(1.0)
            return taken
        return False

    def _begin(self, files: list[File]) -> bool:
        """Begin with a log that nobody has read: after the files that were rotated before.

        Those may have been counted by other means. If a damaged store may have lost the position,
        begin after everything, because nothing may be counted twice.
        """
        if self._flusher.positions_lost and files:
            last = files[-1]
            position = self._log.end(last)
            log.warning(
                "log.lost file=%s goes on at %d: what was written since the last visit "
                "that was counted is not; flask visits import --from",
                last.path.name,
                position.offset,
            )
            return self._take(Piece({}, 0, 0, Position(0)), files, {}, {last.id: position})
        older = [file for file in files if not file.current]
        for file in older:
            log.warning("log.old file=%s is not read: flask visits import", file.path.name)
        read = {older[-1].id: self._log.end(older[-1])} if older else {START: Position(0)}
        return self._take(Piece({}, 0, 0, Position(0)), files, {}, read)

    def _has_read(self, files: list[File]) -> Positions:
        replica = self._flusher.replica
        assert replica is not None  # the node is ready
        return replica.logs.has_read(self._log.path.name, [file.id for file in files])

    def _take(self, piece: Piece, files: list[File], before: Positions, read: Positions) -> bool:
        """Count a piece; return True when the store holds it.

        False if it is not counted, because the node stops or this run can count no more.

        `read` is the position after the piece. `before` are the positions known when it was read:
        if a peer has reported others since, the piece is not counted, and the log is read again.
        """
        flusher = self._flusher
        while flusher.error and not self._draining.is_set():
            self._wait("the store is down", flusher.error)
            self._draining.wait(POLL)
        self._waits = ""
        with self._lock:
            replica = flusher.replica
            if replica is None or self._draining.is_set():
                return False
            if self._has_read(files) != before:
                return True
            full, counted = "", _Counted()
            try:
                counted = self._count(replica, self._judged(piece), before | read)
            except OverflowError as error:
                full = str(error)
            flush = flusher.gathering
        if full:
            # Another run can count it, so it stays unread in the log.
            self._wait(full, full)
            flusher.wake()
            return False
        flusher.wake()
        self._junk += piece.junk
        self._metrics.log_junk.inc(piece.junk)
        self._note(counted, piece.lines - counted.lines - counted.waits + counted.given_up)
        if piece.junk:
            self._warn("log.junk", f"lines={piece.junk}, {self._junk} since the start")
        while not flush.wait(1.0):
            if self._draining.is_set():
                return False
            if flush.ended:
                # The write failed, and is repeated with what is gathering now.
                self._wait("the store is down", flusher.error or "a write failed")
                self._draining.wait(POLL)
                with self._lock:
                    flush = flusher.gathering
        self._waits = ""
        return True

    def _judged(self, piece: Piece) -> dict[str, int]:
        """The visits of a piece by what they are counted under."""
        visits: Counter[str] = Counter()
        unnamed: Iterator[tuple[tuple[Kind, str], int]]
        unnamed = ((("", video), count) for video, count in piece.visits.items())
        for (agent, video), count in chain(unnamed, piece.named.items()):
            reason = self._reason(video, agent)
            visits[class_key(video, reason) if reason else video] += count
        return visits

    def _count(self, replica: Replica, visits: Mapping[str, int], read: Positions) -> _Counted:
        """Count what there is room for, and have others wait; under the lock.

        Raises OverflowError if this run can count no more.
        """
        others = self._unannounced(replica, visits)
        visits = {key: visits[key] for key in visits.keys() - others} if others else visits
        others = {key: count for key, count in others.items() if is_listed(key)}
        while True:
            try:
                replica.logs.read(self._log.path.name, visits, read)
                # What follows is in the same step: no batch is taken before the lock is released.
                waiting = replica.logs.waiting
                given_up = waiting.add(others, self._clock()) if others else 0
                self._waiting = waiting.visits
                return _counted(visits, sum(others.values()), given_up)
            except FullError as error:
                self._warn("log.full", str(error))
                rest = {**visits, **error.room}
                visits = {key: count for key, count in rest.items() if count}

    def _unannounced(self, replica: Replica, visits: Mapping[str, int]) -> Mapping[str, int]:
        """Those visits that do not count before their video is announced; under the lock."""
        if not self._only_announced:
            return {}
        others = set(Catalogue.of(replica).unannounced(dict.fromkeys(map(_video, visits))))
        if others:
            self._warn("log.unannounced", f"ids={len(others)} first={min(others)}")
        return {key: count for key, count in visits.items() if _video(key) in others}

    def _release(self) -> None:
        """Count what waited for an announcement that has come; give up what waited too long."""
        now = self._clock()
        with self._lock:
            replica = self._flusher.replica
            if replica is None or self._draining.is_set() or self._flusher.error:
                return
            waiting = replica.logs.waiting
            before, given_up, counted, waited = len(waiting), 0, 0, 0
            if waiting and (self._announced != replica.tally.announced() or now >= self._look_at):
                given_up = waiting.give_up(now)
                counted, waited = self._count_announced(replica)
            self._waiting = waiting.visits
            fewer = len(waiting) < before
        if fewer:
            self._flusher.wake()
        self._note(_Counted(counted, given_up=given_up), waited - counted + given_up)

    def _count_announced(self, replica: Replica) -> tuple[int, int]:
        """Count what waits and is announced by now; see `Waiting.release`; under the lock."""
        waiting, videos = replica.logs.waiting, replica.logs.waiting.videos()
        if self._only_announced:
            # Most of many are in no announcement that was ever heard.
            unheard = set(replica.tally.ids.unknown([*map(announcement, videos)]))
            is_announced = Catalogue.of(replica).is_announced
            videos = [v for v in videos if announcement(v) not in unheard and is_announced(v)]
        videos = [video for video in videos if not replica.ledger.is_blocked(video)]
        if len(videos) <= _RELEASED:
            self._announced, self._look_at = replica.tally.announced(), self._clock() + _LOOK
        try:
            return waiting.release(videos[:_RELEASED])
        except OverflowError:
            # Another run counts it.
            return 0, 0

    def _note(self, counted: _Counted, refused: int) -> None:
        """Note what became of visits of the log, and how many of them were refused."""
        self._lines += counted.lines
        self._refused += refused
        self._metrics.visits.inc(counted.visits)
        for reason, visits in counted.apart.items():
            self._metrics.not_counted.labels(reason).inc(visits)
        self._metrics.log_lines.inc(counted.lines)
        self._metrics.log_refused.inc(refused)
        if counted.given_up:
            detail = f"visits={counted.given_up} of videos that nobody has announced"
            self._warn("log.expired", detail)

    def _wait(self, reason: str, detail: str) -> None:
        """Say that lines wait, and for what."""
        self._waits = reason
        self._warn("log.waits", detail)

    def _warn(self, event: str, detail: str) -> None:
        self._warn_node(event, f"file={self._log.path.name} {detail}")


def _video(key: str) -> str:
    """The video that a visit is of, by what it is counted under."""
    return key.partition("/")[0]


def _counted(visits: Mapping[str, int], waits: int, given_up: int) -> _Counted:
    apart: Counter[str] = Counter()
    for key, count in visits.items():
        if not is_listed(key):
            apart[key.partition("/")[2]] += count
    return _Counted(sum(visits.values()) - apart.total(), apart, waits, given_up)
