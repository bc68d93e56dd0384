"""The embedded store: one SQLite file, in WAL mode, every flush one fully synced transaction."""

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO

from msgspec import json

from counter.store import (
    NOTHING,
    PATIENCE,
    Counts,
    Known,
    Marks,
    Offload,
    Opened,
    StoreDownError,
    StoreRefusedError,
    StoreTakenError,
    run_here,
)

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS store (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, fact TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS vectors (number INTEGER PRIMARY KEY, vector TEXT UNIQUE NOT NULL);
    CREATE TABLE IF NOT EXISTS counts (
        vector INTEGER NOT NULL, video TEXT NOT NULL, count INTEGER NOT NULL,
        PRIMARY KEY (vector, video)
    ) WITHOUT ROWID;
"""
_FROM_1_TO_2 = """
    BEGIN IMMEDIATE;
    ALTER TABLE replicas RENAME TO vectors;
    ALTER TABLE vectors RENAME COLUMN replica TO vector;
    ALTER TABLE counts RENAME COLUMN replica TO vector;
    UPDATE store SET value = '2' WHERE key = 'version';
    COMMIT;
"""
_UPSERT = """
    INSERT INTO counts SELECT ?, key, value FROM json_each(?) WHERE true
    ON CONFLICT DO UPDATE SET count = excluded.count WHERE excluded.count > count
"""
_READ = """
    SELECT json_group_object(video, count) FROM (
        SELECT video, count FROM counts WHERE vector = ? AND video > ? ORDER BY video LIMIT ?
    )
"""
# Rows go in and out as one JSON object: while SQLite takes it apart, the interpreter is free for
# others. With a row at a time they would take turns, thousands of times.
_VERSION = "2"
_ROWS_A_PIECE = 4_000
_ROWS_FREED = 2_000
"""How many rows of dropped vectors are deleted with one write, at most."""
_DROPPED = "dropped "
"""How the name of a vector begins that is no more, while rows of it are still to be deleted."""


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
        return Opened(self._kept["id"], kept.get("name"))

    def begin(self, replica: str, facts: Mapping[str, str]) -> None:
        """See `Store.begin`."""
        self._marks = Marks(replica)
        self._kept["name"] = replica.partition("~")[0]
        self.write({}, facts=facts)

    def known(self) -> Known:
        """See `Store.known`."""
        with self._reading():
            vectors = [vector for _, vector in self._vectors()]
            return Known(vectors, dict(self._query("SELECT name, fact FROM facts")))

    def load(self) -> Iterator[tuple[str, dict[str, int]]]:
        """See `Store.load`."""
        with self._reading():
            for number, vector in self._vectors():
                video = ""
                while piece := self._offload(self._piece, number, video):
                    yield vector, piece
                    video = next(reversed(piece))

    def write(
        self,
        counts: Counts,
        *,
        facts: Mapping[str, str] = NOTHING,
        drop: Collection[str] = (),
        heal: bool = False,
    ) -> None:
        """See `Store.write`. A file that was replaced or removed counts as having forgotten."""
        mark = self._marks.next()
        try:
            self._offload(self._transaction, mark, counts, facts, drop, heal)
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

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise StoreDownError(f"{self._path}: {error}") from None
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from None

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
        if list(self._query("SELECT 1 FROM sqlite_master WHERE name = 'replicas'")):
            db.executescript(_FROM_1_TO_2)
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

    def _transaction(
        self,
        mark: str,
        counts: Counts,
        facts: Mapping[str, str],
        drop: Collection[str],
        heal: bool,
    ) -> None:
        self._hold_on()
        self._follow()
        db = self._db
        assert db is not None
        with db:
            db.execute("BEGIN IMMEDIATE")
            self._check(heal)
            db.executemany(
                "UPDATE vectors SET vector = ? || number WHERE vector = ?",
                ((_DROPPED, vector) for vector in drop),
            )
            for vector, changed in counts.items():
                self._upsert(db, vector, changed)
            db.executemany("REPLACE INTO facts VALUES (?, ?)", facts.items())
            gone = ((name,) for name, fact in facts.items() if not fact)
            db.executemany("DELETE FROM facts WHERE name = ?", gone)
            kept = self._kept | {"mark": mark}
            db.executemany("REPLACE INTO store VALUES (?, ?)", kept.items())
            self._free(db)

    def _vectors(self) -> list[tuple[int, str]]:
        rows = self._query("SELECT number, vector FROM vectors ORDER BY number")
        return [(number, vector) for number, vector in rows if not vector.startswith(_DROPPED)]

    def _free(self, db: sqlite3.Connection) -> None:
        """Delete some rows of a vector that was dropped."""
        row = next(
            self._query(
                "SELECT number FROM vectors WHERE vector > ? AND vector < ?",
                (_DROPPED, _DROPPED + "~"),
            ),
            None,
        )
        if row is None:
            return
        deleted = db.execute(
            "DELETE FROM counts WHERE vector = ?1 AND video IN "
            "(SELECT video FROM counts WHERE vector = ?1 LIMIT ?2)",
            (row[0], _ROWS_FREED),
        ).rowcount
        if deleted < _ROWS_FREED:
            db.execute("DELETE FROM vectors WHERE number = ?", row)

    def _piece(self, number: int, after: str) -> dict[str, int]:
        row = next(self._query(_READ, (number, after, _ROWS_A_PIECE)))
        piece: dict[str, int] = json.decode(row[0])
        return piece

    def _check(self, heal: bool) -> None:
        row = next(self._query("SELECT value FROM store WHERE key = 'mark'"), None)
        mark = row and row[0]
        if not self._marks.accepts(mark, heal=heal):
            raise self._marks.forgot(str(self._path), mark)

    def _upsert(self, db: sqlite3.Connection, vector: str, changed: Mapping[str, int]) -> None:
        db.execute("INSERT OR IGNORE INTO vectors (vector) VALUES (?)", (vector,))
        number = next(self._query("SELECT number FROM vectors WHERE vector = ?", (vector,)))[0]
        db.execute(_UPSERT, (number, json.encode(changed).decode()))

    def _query(self, sql: str, arguments: tuple[object, ...] = ()) -> sqlite3.Cursor:
        assert self._db is not None
        return self._db.execute(sql, arguments)
