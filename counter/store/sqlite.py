"""The embedded store: one SQLite file, in WAL mode; every flush is one fully synced transaction."""

import os
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from counter.store import wal
from counter.store.ahead import Ahead
from counter.store.contract import (
    NO_SKETCHES,
    NOTHING,
    NOTHING_ERASED,
    PATIENCE,
    TRACELESS,
    Counts,
    Known,
    Marks,
    Offload,
    Opened,
    Rows,
    SketchesByDay,
    StoreDownError,
    StoreRefusedError,
    run_here,
)
from counter.store.lock_file import LockFile
from counter.store.seals import SEALED, Damage, read_facts
from counter.store.sqlite_salvage import Salvage
from counter.store.sqlite_tables import ROWS_A_PIECE, Tables

_PASSING = (
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
)
"""Errors that a database may recover from; all others are in what the file holds."""


class SqliteStore:
    """Keeps counts in `counter.sqlite` in a folder, which is leased by a lock on a file beside it.

    Calls that block go through `offload`.
    """

    kind = "sqlite"

    def __init__(self, folder: Path, offload: Offload = run_here) -> None:
        self._offload = offload
        self._folder = folder
        self._path = folder / "counter.sqlite"
        # As a text, because every write asks for it.
        self._file = str(self._path)
        self._lock = LockFile(folder)
        self._open: Tables | None = None
        self._ahead: Ahead | None = None
        """What is read in advance; nothing else is done with the file meanwhile."""
        self._inode = 0
        self._to_empty = True
        """Whether the log is to be emptied, as a fact that must leave no trace may be in it."""
        self._salvage = Salvage(self._path)
        self._marks = Marks("")
        self._kept: dict[str, str] = {}
        self.damage = Damage()

    def open(self, holder: str, mint: Callable[[], str]) -> Opened:
        """See `Store.open`."""
        self.close()  # a start that failed after it was opened is tried again
        self.damage = Damage()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock.take(holder, PATIENCE)
            self._offload(self._connect)
            kept, _, wrong = self._tables.row()
            self.damage.add(Damage(wrong))
            if not kept and self._tables.vectors_exist():
                # There is no store without an id; whatever wrote those vectors had one.
                self.damage.add(Damage([SEALED]))
        except OSError as error:
            self.close()
            raise StoreRefusedError(
                f"DATA_DIR={str(self._folder)!r} cannot be used: {error.strerror or error}; "
                "name a folder that this user may write to"
            ) from None
        except (sqlite3.Error, UnicodeDecodeError) as error:
            self.close()
            raise self._failed(error) from None
        except BaseException:
            self.close()
            raise
        self._kept = {"id": kept.get("id") or mint()}
        return Opened(self._kept["id"], kept.get("name") or None)

    def begin(self, replica: str, facts: Mapping[str, str]) -> None:
        """See `Store.begin`."""
        self._marks = Marks(replica)
        self._kept["name"] = replica.partition("~")[0]
        if self.damage:
            self._call(self._put_right)
        self.write({}, facts=facts)

    def known(self) -> Known:
        """See `Store.known`."""
        known: Known = self._call(self._read_known)
        return known

    def load(self, vector: str = "") -> Iterator[tuple[str, Mapping[str, int]]]:
        """See `Store.load`."""
        for number, name in self._call(lambda: self._tables.vectors()):
            if vector:
                if name == vector:
                    yield from self._scan(number, name)
                continue
            ahead = self._read_ahead(number, "")
            while piece := self._outcome(ahead):
                ahead = self._read_ahead(number, piece.ids[-1])
                yield name, piece
            if piece is None:
                yield from self._scan(number, name)

    def heads(self, day: int) -> dict[str, bytes]:
        """See `Store.heads`."""
        heads: dict[str, bytes] = self._call(lambda: self._tables.heads(day))
        return heads

    def sketches(self, day: int, videos: Collection[str]) -> dict[str, bytes]:
        """See `Store.sketches`."""
        found: dict[str, bytes] = self._call(lambda: self._tables.sketches(day, videos))
        return found

    def mend(self, rows: Counts, renamed: Mapping[str, str] = NOTHING) -> str:
        """See `Store.mend`."""
        self._call(self._put_right, rows, renamed)
        self.damage = Damage()
        return str(self._salvage.copy or "")

    def write(
        self,
        counts: Counts,
        *,
        facts: Mapping[str, str] = NOTHING,
        drop: Collection[str] = (),
        erase: Mapping[str, Collection[str]] = NOTHING_ERASED,
        heal: bool = False,
        sketches: SketchesByDay = NO_SKETCHES,
        oldest: int = 0,
    ) -> None:
        """See `Store.write`. A file that was replaced or removed counts as having forgotten."""
        mark = self._marks.next()
        kept = sketches, oldest
        self._call(self._transaction, mark, counts, facts, drop, erase, heal, kept)
        self._marks.done()

    def close(self) -> None:
        """See `Store.close`."""
        if self._ahead is not None:
            self._ahead.wait()
            self._ahead = None
        with suppress(sqlite3.Error):
            self._disconnect()
        self._lock.release()

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function that blocks, outside the loop, and translate its errors."""
        if self._ahead is not None:
            self._ahead.wait()
        return self._translated(self._offload, function, *arguments)

    def _read_ahead(self, number: int, after: str) -> Ahead:
        """Begin to read the rows of a vector after one of them."""
        if self._ahead is not None:
            self._ahead.wait()
        self._ahead = Ahead(self._offload, self._piece, number, after)
        return self._ahead

    def _outcome(self, ahead: Ahead) -> Rows | None:
        """What was read ahead; see `Tables.piece`."""
        piece: Rows | None = self._translated(ahead.outcome)
        return piece

    def _translated(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function, and translate its errors."""
        try:
            return function(*arguments)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self._failed(error) from None
        except OSError as error:
            raise StoreDownError(f"{self._path}: {error}") from None

    def _failed(self, error: Exception) -> StoreDownError | StoreRefusedError:
        # sqlite3 cannot say what is wrong with a schema that is not UTF-8.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_INTERNAL)
        # Whatever failed before, the next try begins a transaction of its own.
        passes = code & 0xFF in _PASSING or "transaction" in str(error)
        if passes and not (code & 0xFF == sqlite3.SQLITE_READONLY and self._is_of_later_sqlite()):
            return StoreDownError(f"{self._path}: {error}")
        return StoreRefusedError(
            f"{self._path} is not a counter's database, or is damaged ({error}); move it away, and "
            "what other nodes have heard comes back from them, or set another DATA_DIR"
        )

    def _is_of_later_sqlite(self) -> bool:
        """Whether the file says that no SQLite of today can write or read it."""
        with suppress(OSError), self._path.open("rb") as file:
            return max(file.read(20)[18:], default=0) > 2
        return False

    @property
    def _tables(self) -> Tables:
        assert self._open is not None, "the store is not open"
        return self._open

    def _connect(self) -> None:
        log = self._path.with_name(self._path.name + "-wal")
        if self._path.exists() and not self._path.stat().st_size:
            # It is created and filled in one step, except for a kill at just that moment.
            self.damage.add(Damage(["the file, which was empty"]))
        committed = wal.commits(log)
        tables = self._open = Tables(self._path)
        tables.query("PRAGMA journal_mode=WAL")
        if committed and self._left_unread(tables, committed):
            self._salvage.keep_files(log)
            self.damage.add(Damage(["log"]))
        tables.prepare()
        self._inode = os.stat(self._file).st_ino

    def _disconnect(self) -> None:
        tables, self._open = self._open, None
        if tables is not None:
            tables.db.close()

    def _left_unread(self, tables: Tables, committed: int) -> bool:
        """Whether SQLite has read less of its log than was committed."""
        [(_, read, _)] = tables.query("PRAGMA wal_checkpoint(PASSIVE)")
        return committed == wal.UNREADABLE or read < committed

    def _follow(self) -> None:
        """Go to the file that now has the store's path, if it is another one than before."""
        try:
            inode = os.stat(self._file).st_ino
        except FileNotFoundError:
            inode = 0
        if inode != self._inode or self._open is None:
            self._disconnect()
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
        erase: Mapping[str, Collection[str]],
        heal: bool,
        kept: tuple[SketchesByDay, int],
    ) -> None:
        self._lock.retake()
        self._follow()
        tables = self._tables
        with tables.db:
            tables.query("BEGIN IMMEDIATE")
            found, sealed = tables.stands()
            if not self._marks.accepts(found if type(found) is str else None, heal=heal):
                raise self._marks.forgot(str(self._path), found)
            whole, seals = tables.seals(sealed)
            tables.drop(drop)
            for vector, changed in counts.items():
                tables.upsert(vector, changed, erase.get(vector, ()))
            if facts:
                seals += tables.replace_facts(facts)
            tables.put_sketches(*kept)
            tables.put_row(self._kept, mark, seals, whole=whole)
            tables.free()
        if any(name.startswith(TRACELESS) and not fact for name, fact in facts.items()):
            self._to_empty = True
        if self._to_empty:
            self._to_empty = not tables.empty_log()

    def _read_known(self) -> Known:
        tables, damage = self._tables, Damage()
        _, seals, damage.store = tables.row()
        vectors = [vector for _, vector in tables.vectors()]
        facts = read_facts(tables.facts(damage), seals, damage)
        if list(tables.query("PRAGMA integrity_check(vectors)")) != [("ok",)]:
            damage.store.append("vectors")
        self.damage.add(damage)
        return Known(vectors, facts)

    def _piece(self, number: int, after: str) -> Rows | None:
        return self._tables.piece(number, after)

    def _scan(self, number: int, vector: str) -> Iterator[tuple[str, dict[str, int]]]:
        """Every row of a vector, one by one, wherever it is."""
        found, bad = self._call(lambda: self._tables.scan(number))
        if bad:
            self.damage.add(Damage(rows={vector: bad}))
        ids = list(found)
        for first in range(0, len(ids), ROWS_A_PIECE):
            yield vector, {video: found[video] for video in ids[first : first + ROWS_A_PIECE]}

    def _put_right(self, rows: Counts | None = None, renamed: Mapping[str, str] = NOTHING) -> None:
        """Write anew what was found damaged, from what was read of it."""
        tables = self._tables
        self._lock.retake()
        self._salvage.keep(tables.db)
        kept, _, _ = tables.row()
        with tables.db:
            tables.query("BEGIN IMMEDIATE")
            _, seals, _ = tables.row()
            damage = Damage()
            facts = read_facts(tables.facts(damage), seals, damage)
            if not self._marks.written:
                for strange in self.damage.facts:
                    facts.pop(strange, None)
            tables.query("DELETE FROM facts")
            tables.query("DELETE FROM store")
            tables.put_row(self._kept, kept.get("mark", ""), tables.put_facts(facts))
            tables.query("UPDATE vectors SET vector = CAST(vector AS TEXT)")
            tables.query("REINDEX vectors")
            if rows is not None:
                tables.put_counts_right(rows, renamed, self.damage.rows)
