"""Group commit: while one batch is being written, the next one gathers.

One thread owns the store. It opens and loads the store, then writes batch after batch of what the
replica has for it. It also renews the lease of the store, writes again what failed, and rewrites
everything when the store has lost something.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from threading import Event, Lock
from typing import TYPE_CHECKING

from counter.backoff import backoff
from counter.node import names
from counter.node.flush import Flush
from counter.node.loading import Loaded, Loading, sift
from counter.node.metrics import Metrics
from counter.node.turns import Turns, give_way
from counter.protocol.batch import Batch
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

if TYPE_CHECKING:
    from counter.node.sketches import Sketches

log = logging.getLogger("counter")

RENEWAL = 1.0
"""Longest time in seconds between two writes."""
_GATHER_LARGE = 0.1
"""Longest time in seconds that visits wait for requests of many visits that are being counted."""
_TURN = 0.003  # seconds after which a long computation lets others have the replica
_ROWS_A_BATCH = 4_000
"""Rows of what others have counted in one batch: some 5 ms of the loop."""
_REST_WHILE_JOINING = 9
"""How often as long as writing such a batch took nothing of that is written then."""
_LOOK = 0.02
"""How often in seconds a joining node looks whether many videos come."""


class Flusher:
    """Keeps a replica's counts in a store.

    `open_store` leases the store, `mint` makes the replica of the opened store, and
    `start_new_run` gives the replica a new run if others have ended its own. `loaded` is called
    when the replica has everything that the store held, `grew` with the videos that were
    committed, and `keyed` when keys were stored, before those who wait for them are released.
    `gather` is the shortest time in seconds between two writes of visits. `lock` guards the
    replica; it is never held while the store works.
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
        grew: Callable[[Iterable[str]], None],
        keyed: Callable[[], None],
        prepare: Callable[[], object] = lambda: None,
        gather: float = 0.0,
        sketches: "Sketches | None" = None,
    ) -> None:
        self.replica: Replica | None = None
        """None until the store knows of the run: no visit can be counted before."""
        self.error: str | None = "the store is being opened"
        self.gathering = Flush()
        """Ends with the batch that the next visit goes into. Read it under the lock."""
        self.writing = Flush()
        """Ends with the batch that is being written, if any. Read it under the lock."""
        self.tried = Event()
        """Set once the store was opened, or once opening it has failed."""
        self._coming = 0
        """How many requests of many visits are being counted."""
        self._since = 0.0
        """When the first visit came that is to be written."""
        self.damage: list[str] = []
        """What was found damaged in the store, one sentence each time."""
        self.positions_lost = False
        """Whether the store may have lost how far a visit log was read."""
        self._loading: Loading | None = None
        self._store = store
        self._lock = lock
        self._metrics = metrics
        self._open_store = open_store
        self._mint = mint
        self._start_new_run = start_new_run
        self._loaded = loaded
        self._grew = grew
        self._gather = gather
        self._keyed = keyed
        self._prepare = prepare
        self._sketches = sketches
        self._work = Event()
        self._visits = self._news = False
        self._to_load = True
        self._turns = Turns()
        self._is_behind = False
        """Whether the store knows more than the memory, which must be joined before a write."""

    def wake(self) -> None:
        """Wake the thread: there are visits to write, or it is to stop."""
        if not self._visits:
            self._since = time.monotonic()
            self._visits = True
            self._work.set()

    def expect(self, more: int) -> None:
        """Note that so many more, or fewer, large requests are being counted; under the lock."""
        self._coming += more
        self._work.set()

    def wake_for_news(self) -> None:
        """Wake the thread for what no visitor waits for, such as what others have counted."""
        if not self._news:
            self._news = True
            self._work.set()

    def run(self, stopping: Event) -> None:
        """Keep the counts until `stopping`, then close the store.

        Raises `StoreTakenError` or `StoreRefusedError` when it cannot go on; nothing is
        acknowledged from then on.
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
                if self._sketches:
                    self._sketches.opened(known.facts)
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
        tries, joined, prepared = 0, False, False
        renew_at = visits_at = news_at = 0.0
        while not stopping.is_set():
            # Flags are set before the event, so clearing it loses no wake-up.
            self._work.clear()
            due = renew_at
            if self._visits:
                due = min(due, max(visits_at, self._since + _GATHER_LARGE * (self._coming > 0)))
            if self._news:
                due = min(due, news_at)
            try:
                if not prepared and (replica.tally.ids.soon_many or replica.pending.are_many):
                    prepared = True
                    self._prepare()
                now = time.monotonic()
                if now >= due:
                    rows = _ROWS_A_BATCH if now >= news_at else 0
                    self._visits, self._news = False, self._news and not rows
                    renew_at, visits_at = now + RENEWAL, now + self._gather
                    news = self._write(replica, rows)
                    self._news = self._news or news
                    if rows:
                        # Nobody waits for these, so half of the time is left to others, and most
                        # of it while much comes that peers hold.
                        wrote = time.monotonic()
                        rest = _REST_WHILE_JOINING if replica.state == "joining" else 1
                        news_at = wrote + rest * (wrote - now)
                if self._to_load:
                    self._loading = Loading(self._store, replica.tally, self._lock)
                    self._to_load = False
                if self._loading is None:
                    if now < due:
                        looks = replica.state == "joining" and not prepared
                        self._work.wait(min(due - now, _LOOK) if looks else due - now)
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
        if self._sketches:
            self._sketches.write_now()
        if self._sketches or replica.pending.unflushed():
            # Nobody waits any more, but with ACK=memory these visits were acknowledged.
            with suppress(StoreDownError):
                self._write(replica, 0)

    def _known(self) -> Known:
        """What the store knows, without invalid names and texts."""
        known, _, strange = sift(self._store.known())
        self._store.damage.add(Damage(facts=strange))
        return known

    def _load(self, replica: Replica, loading: Loading) -> bool:
        """Load one more piece; return False at the end."""
        try:
            loaded = loading.step()
        except StopIteration:
            self._mend(replica, loading)
            self._in_turns(iter(replica.recovery.join_some, None))
            self._note_doubts(replica)
            with self._lock:
                grew = replica.recovery.all_loaded()
            self._grew(grew)
            return False
        if loaded is not None:
            self._take(replica, loaded)
        self._turns.take()
        return True

    # The next two methods are all that the replica hears of damage.

    def _take(self, replica: Replica, loaded: Loaded) -> None:
        """Give a piece to the replica. The peers are asked about a "wrong" one before it counts."""
        with self._lock:
            if loaded.verdict == "wrong":
                replica.recovery.suspect(loaded.vector, loaded.counts)
                return
            # The videos of many counts are named under the lock, if anybody watches one.
            self._grew(replica.recovery.loaded(loaded.vector, loaded.counts))
        if loaded.is_last:
            self._in_turns(iter(partial(replica.recovery.rest, loaded.vector), None))

    def _mend(self, replica: Replica, loading: Loading) -> None:
        """Everything was read: repair the store, and report what was wrong with it."""
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

    def _note_doubts(self, replica: Replica) -> None:
        """Report folds in which the store holds something else than was written."""
        doubtful, replica.recovery.doubtful = replica.recovery.doubtful, []
        if doubtful:
            damage = f"counts in doubt, which were being folded: {', '.join(doubtful)}"
            self.damage = [*self.damage[-4:], damage]
            log.error("store.damaged rows=1 %s", damage)

    def _write(self, replica: Replica, rows: int) -> bool:
        """Write all visits and some rows of news, maybe nothing; return whether more news waits."""
        flushes: list[Flush] = []
        heal = False
        grew: set[str] = set()
        while True:
            if self._is_behind:
                grew |= self._catch_up(replica)
                heal = True
            with self._lock:
                if replica.needs_new_run:
                    grew |= self._start_new_run(replica)
                batch = replica.batch(rows)
                flushes.append(self.gathering)
                self.writing, self.gathering = self.gathering, Flush()
            self._in_turns(replica.backlog.sum_up(batch))
            try:
                try:
                    self._write_batch(batch, heal=heal)
                    break
                except StoreForgotError as error:
                    self._note_loss(error)
                    known = self._known()
                    self._is_behind = isinstance(error, StoreAheadError)
                self._put_back(replica, batch, known, flushes)
                # The store that is there now may know of visits that nobody else does.
                heal = self._to_load = True
            except (StoreDownError, StoreTakenError, StoreRefusedError) as error:
                self._give_up(replica, batch, str(error), flushes)
                raise
        return self._commit(replica, batch, flushes, grew)

    def _write_batch(self, batch: Batch, *, heal: bool) -> None:
        if self._loading is not None:
            self._loading.change((*batch.counts, *batch.drop))
        beside = self._sketches.batch(self._store) if self._sketches else names.NOTHING_BESIDE
        names.write(self._store, batch, heal=heal, beside=beside)
        if self._sketches:
            self._sketches.stored()

    def _note_loss(self, error: StoreForgotError) -> None:
        if isinstance(error, StoreAheadError):
            log.warning("store.ahead %s", error)
        else:
            log.warning("store.forgot %s", error)
        self._metrics.heals.inc()

    def _put_back(self, replica: Replica, batch: Batch, known: Known, flushes: list[Flush]) -> None:
        """The store has lost something, and this batch was not written: make it pending again.

        If the store is ahead, its visits may replace those of the batch: then nothing of the batch
        is acknowledged.
        """
        ahead = self._is_behind
        if self._sketches:
            self._sketches.forgot(known.facts)
        with self._lock:
            replica.not_stored(batch)
            replica.recovery.forgotten(*known)
            if ahead:
                flushes.append(self.gathering)
                self.gathering = Flush()
        if ahead:
            for flush in flushes:
                flush.end(ok=False)
            flushes.clear()

    def _give_up(self, replica: Replica, batch: Batch, error: str, flushes: list[Flush]) -> None:
        """The batch may not be stored: make it pending again, and tell those who wait."""
        self._metrics.flush_failures.inc()
        if self._sketches:
            self._sketches.not_stored()
        with self._lock:
            replica.not_stored(batch)
            # Set under the lock, so that no visit joins a batch that cannot be written.
            self.error = error
            flushes.append(self.gathering)
            self.gathering = Flush()
        for flush in flushes:
            flush.end(ok=False)

    def _commit(self, replica: Replica, batch: Batch, flushes: list[Flush], grew: set[str]) -> bool:
        """The store holds the batch: show it and tell those who wait; return whether news waits."""
        self._in_turns(replica.storing(batch))
        with self._lock:
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

    def _in_turns(self, steps: Iterator[Iterable[str] | None]) -> None:
        """Take steps, which may tell what grew, under the lock; others get it every few ms."""
        more = True
        while more:
            until = time.monotonic() + _TURN
            with self._lock:
                more = False
                for grew in steps:
                    # The videos of many counts are named here, if anybody watches one.
                    self._grew(grew or ())
                    if more := time.monotonic() >= until:
                        break
            if more:
                give_way()

    def _catch_up(self, replica: Replica) -> set[str]:
        """Join what the store knows beyond the memory, as a new run; return the videos that grew.

        Raises `StoreDownError`; then it must be called again.
        """
        grew: set[str] = set()
        with self._lock:
            grew |= self._start_new_run(replica, reverted=True)
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
