"""A process: a replica on a store, driven step by step, as the threads of a node drive it."""

from collections.abc import Callable, Iterator
from threading import Lock

from counter.crdt.ids import replica_of, run_of
from counter.node import names
from counter.node.loading import Loaded, Loading, sift
from counter.protocol.batch import Batch
from counter.protocol.members import decode_fact, is_note
from counter.protocol.replica import Replica
from counter.store.contract import StoreAheadError, StoreDownError, StoreForgotError
from counter.store.memory import MemoryStore


class Process:
    """A replica and the store that it has open."""

    between: Callable[[], object] | None = None
    """What others do between two steps of a flush."""

    def __init__(self, replica: Replica, store: MemoryStore) -> None:
        self.replica = replica
        self.store = store
        self._heals = self._to_load = self._is_behind = False

    @classmethod
    def start(
        cls,
        store: MemoryStore,
        holder: str,
        name: str,
        *,
        mint_store: Callable[[], str],
        mint_run: Callable[[str], str],
        replica: Callable[[str], Replica],
    ) -> "Process":
        """Start a new run on a store. Raises `StoreDownError`; then the store is closed.

        `mint_run` is given the newest run that the store knows, "" if there is none; `replica` is
        given its own id.
        """
        try:
            opened = store.open(holder, mint_store)
            known = sift(store.known())[0]
            runs = [run_of(vector) for vector in known.vectors]
            for note, fact in known.facts.items():
                runs += () if is_note(note) else decode_fact(fact)
            member = f"{name}~{opened.store}"
            new = replica(replica_of(member, mint_run(max(runs, default=""))))
            new.recovery.opened(*known)
            store.begin(new.id, new.recovery.own_fact())
        except StoreDownError:
            store.close()
            raise
        process = cls(new, store)
        process._load()
        return process

    def batch(self, rows: int, now: float, mint_run: Callable[[str], str]) -> Batch:
        """Return the next batch, in a new run if the old one has to end."""
        if self._is_behind:
            self._renew(now, mint_run)
            self._load()
            self._is_behind = self._to_load = False
            self._heals = True
        if self.replica.needs_new_run:
            self._renew(now, mint_run)
        batch = self.replica.batch(rows)
        self._take_steps(self.replica.backlog.sum_up(batch))
        return batch

    def _take_steps(self, steps: Iterator[object]) -> None:
        for _ in steps:
            if self.between is not None:
                self.between()

    def _renew(self, now: float, mint_run: Callable[[str], str]) -> None:
        latest = self.replica.members.latest(self.replica.member)
        self.replica.start_new_run(mint_run(latest), now)

    def write(self, batch: Batch) -> bool:
        """Write a batch; return False if the store has lost something or knows more.

        Then everything is to be written again. On `StoreDownError` it may be written or not.
        """
        replica = self.replica
        try:
            names.write(self.store, batch, heal=self._heals)
        except StoreForgotError as error:
            self._is_behind = isinstance(error, StoreAheadError)
            replica.not_stored(batch)
            replica.recovery.forgotten(*sift(self.store.known())[0])
            self._heals = self._to_load = True
            return False
        except StoreDownError:
            replica.not_stored(batch)
            raise
        self._heals = False
        self._take_steps(replica.storing(batch))
        return True

    def join_store(self) -> None:
        """Load what the store has instead of what it lost, if it has lost something."""
        if self._to_load:
            self._load()
            self._to_load = False

    def _load(self) -> None:
        replica = self.replica
        loading = Loading(self.store, replica.tally, Lock())
        for loaded in _pieces(loading):
            if loaded.verdict == "wrong":
                replica.recovery.suspect(loaded.vector, loaded.counts)
            else:
                replica.recovery.loaded(loaded.vector, loaded.counts)
        for vector in loading.missing():
            replica.recovery.suspect(vector, {})
        loading.mend()
        replica.recovery.all_loaded()


def _pieces(loading: Loading) -> Iterator[Loaded]:
    """All pieces that may be used."""
    while True:
        try:
            loaded = loading.step()
        except StopIteration:
            return
        if loaded is not None:
            yield loaded
