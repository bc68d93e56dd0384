"""Group commit: while one batch is being written, the next one gathers.

One thread owns the store. It opens and loads it, then writes what the replica has for it, batch
after batch; it also renews the hold on the store, writes again what failed, and rewrites
everything where the store has lost something.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock

from counter.backoff import backoff
from counter.node.loading import Loaded, Loading, sift
from counter.node.metrics import Metrics
from counter.protocol.replica import Replica
from counter.store.contract import (
    Known,
    Opened,
    Store,
    StoreAheadError,
    StoreDownError,
    StoreForgotError,
    StoreRefusedError,
    StoreTakenError,
)
from counter.store.seals import Damage

log = logging.getLogger("counter")

RENEWAL = 1.0
"""Seconds between two writes, at most."""
_ROWS_A_BATCH = 4_000
"""Of what others have counted: some 5 ms of the loop."""


class Flush:
    """One batch on its way to the store, for the visits that wait for it."""

    __slots__ = ("_ended", "_gate", "_ok")

    def __init__(self) -> None:
        self._ok = self._ended = False
        # One lock that each who waits passes on to the next: an event makes one for each of them.
        self._gate = Lock()
        self._gate.acquire()

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended; say whether the store holds the batch."""
        if not self._ended:
            if not self._gate.acquire(timeout=seconds):
                return False
            self._gate.release()
        return self._ok

    @property
    def ended(self) -> bool:
        """Whether nobody has to wait for it any more."""
        return self._ended

    def end(self, *, ok: bool) -> None:
        """Let everyone who waits go on; `ok` says whether the store holds the batch. Once."""
        self._ok = ok
        self._ended = True
        self._gate.release()


class Flusher:
    """Keeps a replica's counts in a store.

    `open_store` leases the store, `mint` makes the replica for what was opened, `start_new_run`
    gives it a new run where others have ended its own, `loaded` is called when the replica has
    everything that the store held, `grew` with the videos that were committed, and `keyed` when
    keys were stored, before anybody who waits for them is told. `lock` guards the replica; it is
    never held while the store works.
    """

    def __init__(
        self,
        store: Store,
        lock: Lock,
        metrics: Metrics,
        *,
        open_store: Callable[[], Opened],
        mint: Callable[[Opened, Known], Replica],
        start_new_run: Callable[..., set[str]],
        loaded: Callable[[], None],
        grew: Callable[[set[str]], None],
        keyed: Callable[[], None],
        gather: float = 0.0,
    ) -> None:
        self.replica: Replica | None = None
        """None until the store knows of it: no visit can be counted before."""
        self.error: str | None = "the store is being opened"
        self.gathering = Flush()
        """Ends with the batch that the next visit goes into. Read it under the lock."""
        self.writing = Flush()
        """Ends with the batch that is being written, if any. Read it under the lock."""
        self.tried = Event()
        """Set once the store was opened, or once that is known to have failed."""
        self.damage: list[str] = []
        """What was found damaged in the store, a sentence each time."""
        self.positions_lost = False
        """Whether the store may have known how far a visit log was read, and does not any more."""
        self._loading: Loading | None = None
        self._store = store
        self._lock = lock
        self._metrics = metrics
        self._open_store = open_store
        self._mint = mint
        self._renew = start_new_run
        self._loaded = loaded
        self._grew = grew
        self._gather = gather
        self._keyed = keyed
        self._work = Event()
        self._visits = self._news = False
        self._to_load = True
        self._is_behind = False
        """Whether the store knows more than the memory, which is to be joined first."""

    def wake(self) -> None:
        """There are visits to write, or it is to stop."""
        if not self._visits:
            self._visits = True
            self._work.set()

    def wake_for_news(self) -> None:
        """There is something to write that nobody waits for, as what others have counted."""
        if not self._news:
            self._news = True
            self._work.set()

    def run(self, stopping: Event) -> None:
        """Keep the counts until `stopping`, then let go of the store.

        Raises `StoreTakenError` or `StoreRefusedError` when it cannot go on: then nothing is
        acknowledged any more.
        """
        try:
            replica = self._open(stopping)
            if replica is not None:
                self._keep(replica, stopping)
        except Exception as error:
            self._fail(str(error))
            with self._lock:
                self.gathering.end(ok=False)
            raise
        finally:
            self._store.close()

    def _open(self, stopping: Event) -> Replica | None:
        tries = 0
        while not stopping.is_set():
            try:
                opened = self._open_store()
                known = self._known()
                replica = self._mint(opened, known)
                replica.recovery.opened(*known)
                self._store.begin(replica.id, replica.recovery.own_fact())
            except StoreDownError as error:
                tries += 1
                self._fail(str(error))
                stopping.wait(backoff(tries))
            else:
                self.replica, self.error = replica, None
                self.tried.set()
                log.info("open store=%s replica=%s", self._store.kind, replica.id)
                return replica
        return None

    def _keep(self, replica: Replica, stopping: Event) -> None:
        tries, joined = 0, False
        renew_at = visits_at = news_at = 0.0
        while not stopping.is_set():
            # Flags are set before the event, so clearing it loses no wake-up.
            self._work.clear()
            due = renew_at
            if self._visits:
                due = min(due, visits_at)
            if self._news:
                due = min(due, news_at)
            try:
                now = time.monotonic()
                if now >= due:
                    rows = _ROWS_A_BATCH if now >= news_at else 0
                    self._visits, self._news = False, self._news and not rows
                    renew_at, visits_at = now + RENEWAL, now + self._gather
                    news = self._write(replica, rows)
                    self._news = self._news or news
                    if rows:
                        # Nobody waits for them: half the time is left to who shares the machine.
                        wrote = time.monotonic()
                        news_at = wrote + (wrote - now)
                if self._to_load:
                    self._loading = Loading(self._store, replica.tally, self._lock)
                    self._to_load = False
                if self._loading is None:
                    if now < due:
                        self._work.wait(due - now)
                elif not self._load(replica, self._loading):
                    self._loading = None
                    if not joined:
                        joined = True
                        self._loaded()
                tries = 0
            except StoreDownError as error:
                tries += 1
                self._fail(str(error))
                self._to_load = self._to_load or self._loading is not None
                self._visits = self._news = True
                renew_at = 0.0
                stopping.wait(backoff(tries))
        if replica.pending.unflushed():
            # Nobody waits any more, but these visits were acknowledged if ACK is memory.
            with suppress(StoreDownError):
                self._write(replica, 0)

    def _known(self) -> Known:
        """What the store knows, but for names and texts that can mean nothing."""
        known, _, strange = sift(self._store.known())
        self._store.damage.add(Damage(facts=strange))
        return known

    def _load(self, replica: Replica, loading: Loading) -> bool:
        """Load one more piece; False at the end."""
        try:
            loaded = loading.step()
        except StopIteration:
            self._tell(replica, loading)
            with self._lock:
                grew = replica.recovery.all_loaded()
            self._grew(grew)
            return False
        if loaded is not None:
            self._take(replica, loaded)
        return True

    # What the replica is told of damage is all in the next two.

    def _take(self, replica: Replica, loaded: Loaded) -> None:
        """Give a piece to the replica; one that is "wrong" is asked of the peers before."""
        with self._lock:
            if loaded.verdict == "wrong":
                replica.recovery.suspect(loaded.vector, loaded.counts)
                return
            grew = replica.recovery.loaded(loaded.vector, loaded.counts)
        self._grew(grew)

    def _tell(self, replica: Replica, loading: Loading) -> None:
        """Everything was read: put the store right, and say what was wrong with it."""
        rows = loading.set_aside()
        found = self._store.damage
        lost = found.lost or any(name.startswith("log:") for name in found.facts)
        self.positions_lost = self.positions_lost or lost
        with self._lock:
            for vector in loading.missing():
                replica.recovery.suspect(vector, {})
        if damage := loading.mend():
            self._metrics.set_aside.inc(rows)
            self.damage = [*self.damage[-4:], damage]
            log.error("store.damaged rows=%d %s", rows, damage)

    def _write(self, replica: Replica, rows: int) -> bool:
        """Write all visits and some rows of news, maybe nothing; say whether there is more news."""
        flushes: list[Flush] = []
        heal = False
        grew: set[str] = set()
        while True:
            if self._is_behind:
                grew |= self._catch_up(replica)
                heal = True
            with self._lock:
                if replica.needs_new_run:
                    grew |= self._renew(replica)
                batch = replica.batch(rows)
                flushes.append(self.gathering)
                self.writing, self.gathering = self.gathering, Flush()
            try:
                try:
                    kept = batch.kept()
                    if self._loading is not None:
                        self._loading.change((*batch.counts, *batch.drop))
                    self._store.write(batch.counts, facts=kept, drop=batch.drop, heal=heal)
                    break
                except StoreForgotError as error:
                    ahead = isinstance(error, StoreAheadError)
                    if ahead:
                        log.warning("store.ahead %s", error)
                    else:
                        log.warning("store.forgot %s", error)
                    self._metrics.heals.inc()
                    known = self._known()
                    self._is_behind = ahead
                with self._lock:
                    replica.not_stored(batch)
                    replica.recovery.forgotten(*known)
                    if ahead:
                        # These visits may be given up for those that the store knows.
                        flushes.append(self.gathering)
                        self.gathering = Flush()
                if ahead:
                    for flush in flushes:
                        flush.end(ok=False)
                    flushes = []
                # What is in its place now may know of visits that nobody else does.
                heal = self._to_load = True
            except (StoreDownError, StoreTakenError, StoreRefusedError) as error:
                self._metrics.flush_failures.inc()
                with self._lock:
                    replica.not_stored(batch)
                    # Known from here on, so that no visit joins a batch that cannot be written.
                    self.error = str(error)
                    flushes.append(self.gathering)
                    self.gathering = Flush()
                for flush in flushes:
                    flush.end(ok=False)
                raise
        with self._lock:
            grew |= replica.stored(batch)
            was_down, self.error = self.error, None
            news = replica.news()
        if was_down:
            log.warning("store.up kind=%s", self._store.kind)
        if batch.counts:
            self._metrics.flushes.inc()
        if batch.keys.own:
            self._keyed()
        for flush in flushes:
            flush.end(ok=True)
        self._grew(grew)
        return news

    def _catch_up(self, replica: Replica) -> set[str]:
        """Join what the store knows beyond the memory, as a new run: return what grew.

        Raises `StoreDownError`; then it is still to be done.
        """
        grew: set[str] = set()
        with self._lock:
            grew |= self._renew(replica, reverted=True)
        loading = Loading(self._store, replica.tally, self._lock)
        while self._load(replica, loading):
            pass
        self._is_behind = self._to_load = False
        return grew

    def _fail(self, error: str) -> None:
        if self.error is None or not self.tried.is_set():
            log.warning("store.down %s", error)
        self.error = error
        self.tried.set()
