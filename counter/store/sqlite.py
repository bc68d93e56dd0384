"""The embedded store: one SQLite file, in WAL mode, every flush one fully synced transaction."""

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import IO

from counter.store import (
    PATIENCE,
    Counts,
    Marks,
    Offload,
    Opened,
    StoreDownError,
    StoreForgotError,
    StoreRefusedError,
    StoreTakenError,
    run_here,
)

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS store (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS replicas (number INTEGER PRIMARY KEY, replica TEXT UNIQUE NOT NULL);
    CREATE TABLE IF NOT EXISTS counts (
        replica INTEGER NOT NULL, video TEXT NOT NULL, count INTEGER NOT NULL,
        PRIMARY KEY (replica, video)
    ) WITHOUT ROWID;
"""
_VERSION = "1"
_ROWS_A_PIECE = 10_000


class SqliteStore:
    """Keeps counts in `counter.sqlite` in a folder, locked through a file beside it.

    The lock is a lock of the operating system, which ends with the process; its file names the
    holder, because a locked database could not be asked.
    """

    kind = "sqlite"

    def __init__(self, folder: Path, offload: Offload = run_here) -> None:
        """`offload(function, *arguments)` calls a function that blocks, outside the loop."""
        self._offload = offload
        self._folder = folder
        self._path = folder / "counter.sqlite"
        self._holder = ""
        self._lock: IO[str] | None = None
        self._db: sqlite3.Connection | None = None
        self._inode = 0
        self._marks = Marks("")
        self._kept: dict[str, str] = {}

    def open(self, holder: str, mint: Callable[[], str]) -> Opened:
        """See `Store.open`."""
        self.close()  # a start that failed after it was opened is tried again
        self._holder = holder
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._hold(PATIENCE)
            self._connect()
            kept = dict(self._query("SELECT key, value FROM store"))
            replicas = [row[0] for row in self._query("SELECT replica FROM replicas")]
        except OSError as error:
            self.close()
            raise StoreRefusedError(
                f"DATA_DIR={str(self._folder)!r} cannot be used: {error.strerror or error}; "
                "name a folder that this user may write to"
            ) from None
        except sqlite3.OperationalError as error:
            self.close()
            raise StoreDownError(f"{self._path}: {error}") from None
        except sqlite3.DatabaseError as error:
            self.close()
            raise self._damaged(error) from None
        except BaseException:
            self.close()
            raise
        if kept.get("version", _VERSION) != _VERSION:
            self.close()
            raise StoreRefusedError(
                f"{self._path} was written by another version of this program "
                f"(format {kept['version']}, this one knows {_VERSION}); run that version on it"
            )
        self._kept = {"version": _VERSION, "id": kept.get("id") or mint()}
        runs = (replica.rpartition(".")[2] for replica in replicas)
        return Opened(self._kept["id"], kept.get("name"), max(runs, default=""))

    def begin(self, replica: str) -> None:
        """See `Store.begin`."""
        self._marks = Marks(replica)
        self._kept["name"] = replica.partition("~")[0]
        self.write({replica: {}}, heal=True)

    def load(self) -> Iterator[tuple[str, dict[str, int]]]:
        """See `Store.load`."""
        try:
            for number, replica in list(self._query("SELECT number, replica FROM replicas")):
                video = ""
                while piece := self._offload(self._piece, number, video):
                    yield replica, piece
                    video = next(reversed(piece))
        except sqlite3.OperationalError as error:
            raise StoreDownError(f"{self._path}: {error}") from None
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from None

    def write(self, counts: Counts, *, heal: bool = False) -> None:
        """See `Store.write`. A file that was replaced or removed counts as having forgotten."""
        mark = self._marks.next()
        try:
            self._offload(self._transaction, mark, counts, heal)
        except (sqlite3.Error, OSError) as error:
            raise StoreDownError(f"{self._path}: {error}") from None
        self._marks.done()

    def close(self) -> None:
        """See `Store.close`."""
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _damaged(self, error: sqlite3.Error) -> StoreRefusedError:
        return StoreRefusedError(
            f"{self._path} is not a counter's database ({error}); "
            "move it away, or set another DATA_DIR"
        )

    def _hold(self, patience: float) -> None:
        lock = open(self._folder / "counter.lock", "a+")  # noqa: SIM115 - open while held
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    lock.seek(0)
                    with closing(lock):
                        raise StoreTakenError(
                            f"DATA_DIR={str(self._folder)!r} is held by {lock.read().strip()}; "
                            "stop that process, or set another DATA_DIR"
                        ) from None
                time.sleep(0.1)
        lock.seek(0)
        lock.truncate()
        lock.write(self._holder + "\n")
        lock.flush()
        self._lock = lock

    def _hold_on(self) -> None:
        """Take the lock anew if its file was removed; another may have done so before."""
        try:
            if self._lock is not None and os.path.samestat(
                os.fstat(self._lock.fileno()), os.stat(self._folder / "counter.lock")
            ):
                return
        except FileNotFoundError:
            self._folder.mkdir(parents=True, exist_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        self._hold(0.0)

    def _connect(self) -> None:
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._db = db
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.executescript(_SCHEMA)
        self._inode = os.stat(self._path).st_ino

    def _follow(self) -> None:
        """Go to the file that now has the store's path, if it is another one than before."""
        try:
            inode = os.stat(self._path).st_ino
        except FileNotFoundError:
            inode = 0
        if inode != self._inode or self._db is None:
            if self._db is not None:
                self._db.close()
                self._db = None
            if inode == 0:
                # What the old file left beside it would be taken for the new one's.
                for suffix in ("-wal", "-shm"):
                    self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            self._connect()

    def _transaction(self, mark: str, counts: Counts, heal: bool) -> None:
        self._hold_on()
        self._follow()
        db = self._db
        assert db is not None
        with db:
            db.execute("BEGIN IMMEDIATE")
            self._check(heal)
            for replica, changed in counts.items():
                self._upsert(db, replica, changed)
            kept = self._kept | {"mark": mark}
            db.executemany("REPLACE INTO store VALUES (?, ?)", kept.items())

    def _piece(self, number: int, after: str) -> dict[str, int]:
        rows = self._query(
            "SELECT video, count FROM counts WHERE replica = ? AND video > ? "
            "ORDER BY video LIMIT ?",
            (number, after, _ROWS_A_PIECE),
        )
        return dict(rows)

    def _check(self, heal: bool) -> None:
        row = next(self._query("SELECT value FROM store WHERE key = 'mark'"), None)
        if not heal and not self._marks.accepts(row and row[0]):
            raise StoreForgotError(f"{self._path} holds the flush mark {row and row[0]!r}")

    def _upsert(self, db: sqlite3.Connection, replica: str, changed: Mapping[str, int]) -> None:
        db.execute("INSERT OR IGNORE INTO replicas (replica) VALUES (?)", (replica,))
        number = next(self._query("SELECT number FROM replicas WHERE replica = ?", (replica,)))[0]
        db.executemany(
            "INSERT INTO counts VALUES (?, ?, ?) ON CONFLICT DO UPDATE "
            "SET count = excluded.count WHERE excluded.count > count",
            ((number, video, count) for video, count in changed.items()),
        )

    def _query(self, sql: str, arguments: tuple[object, ...] = ()) -> sqlite3.Cursor:
        assert self._db is not None
        return self._db.execute(sql, arguments)
