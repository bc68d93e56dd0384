"""The embedded store: one SQLite file, in WAL mode, every flush one fully synced transaction."""

import fcntl
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, Any

import msgspec
from msgspec import json

from counter.store import wal
from counter.store.contract import (
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
from counter.store.seals import (
    SEALED,
    SEALS,
    Damage,
    Fact,
    Row,
    read_facts,
    read_row,
    seal_of,
    to_bytes,
    to_text,
)

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS store (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS facts (
        name TEXT PRIMARY KEY, fact TEXT NOT NULL, seal INTEGER
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS vectors (number INTEGER PRIMARY KEY, vector TEXT UNIQUE NOT NULL);
    CREATE TABLE IF NOT EXISTS counts (
        vector INTEGER NOT NULL, video TEXT NOT NULL, count INTEGER NOT NULL,
        PRIMARY KEY (vector, video)
    ) WITHOUT ROWID;
"""
_MENDED = """
    CREATE TABLE mended (
        vector INTEGER NOT NULL, video TEXT NOT NULL, count INTEGER NOT NULL,
        PRIMARY KEY (vector, video)
    ) WITHOUT ROWID
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
    SELECT CAST(json_group_object(video, count) AS BLOB) FROM (
        SELECT video, count FROM counts WHERE vector = ? AND video > ? ORDER BY video LIMIT ?
    )
"""
_SCAN = "SELECT CAST(video AS BLOB), typeof(video), count FROM counts WHERE +vector = ?"
"""Every row in turn: the plus keeps SQLite from looking for it where it should be."""
# Rows go in and out as one JSON object: while SQLite takes it apart, the interpreter is free for
# others. With a row at a time they would take turns, thousands of times.
_STANDS = """
    SELECT (SELECT value FROM store WHERE key = 'mark'),
        (SELECT value FROM store WHERE key = 'sealed')
"""
_VERSION = "3"
_MAX_COPIES = 5
"""So many copies of a damaged database are kept; then an operator is to look at them."""
_ROWS_A_PIECE = 4_000
_ROWS_FREED = 2_000
"""How many rows of dropped vectors are deleted with one write, at most."""
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
"""Errors that a database may get over; all others are in what the file holds."""
_pieces = json.Decoder(dict[str, int])
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
        # A write asks for both: as texts they need not be put together each time.
        self._lock_path, self._file = f"{folder}/counter.lock", str(self._path)
        self._holder = ""
        self._lock: IO[str] | None = None
        self._db: sqlite3.Connection | None = None
        self._inode = 0
        self._copy: Path | None = None
        """Where the database is kept as it was found when it was opened, if it was damaged."""
        self._to_free = True
        self._written = "", 0
        """The sealed row that was last written, and the sum of seals in it."""
        self._marks = Marks("")
        self._kept: dict[str, str] = {}
        self.damage = Damage()

    def open(self, holder: str, mint: Callable[[], str]) -> Opened:
        """See `Store.open`."""
        self.close()  # a start that failed after it was opened is tried again
        self._holder = holder
        self.damage = Damage()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._hold(PATIENCE)
            self._offload(self._connect)
            kept, _, wrong = self._row()
            self.damage.add(Damage(wrong))
            if not kept and list(self._query("SELECT 1 FROM vectors LIMIT 1")):
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

    def load(self, vector: str = "") -> Iterator[tuple[str, dict[str, int]]]:
        """See `Store.load`."""
        for number, name in self._call(self._vectors):
            if vector:
                if name == vector:
                    yield from self._scan(number, name)
                continue
            last = ""
            while piece := self._call(self._piece, number, last):
                ids = list(piece)
                if ids[0] <= last or ids != sorted(ids):
                    # Something is not where it should be: what follows would not be found.
                    piece = None
                    break
                yield name, piece
                last = ids[-1]
            if piece is None:
                yield from self._scan(number, name)

    def mend(self, rows: Counts, renamed: Mapping[str, str] = NOTHING) -> str:
        """See `Store.mend`."""
        self._call(self._put_right, rows, renamed)
        self.damage = Damage()
        return str(self._copy or "")

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
        self._call(self._transaction, mark, counts, facts, drop, heal)
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

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call what blocks, outside the loop, and say what its failure means."""
        try:
            return self._offload(function, *arguments)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self._failed(error) from None
        except OSError as error:
            raise StoreDownError(f"{self._path}: {error}") from None

    def _failed(self, error: Exception) -> StoreDownError | StoreRefusedError:
        # sqlite3 cannot say what is wrong with a schema if that is no UTF-8.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_INTERNAL)
        # Whatever failed before, the next try begins a transaction of its own.
        if code & 0xFF in _PASSING or "transaction" in str(error):
            return StoreDownError(f"{self._path}: {error}")
        return StoreRefusedError(
            f"{self._path} is not a counter's database, or is damaged ({error}); move it away, and "
            "what other nodes have heard comes back from them, or set another DATA_DIR"
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
                os.fstat(self._lock.fileno()), os.stat(self._lock_path)
            ):
                return
        except FileNotFoundError:
            self._folder.mkdir(parents=True, exist_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        self._hold(0.0)

    def _connect(self) -> None:
        log = self._path.with_name(self._path.name + "-wal")
        if self._path.exists() and not self._path.stat().st_size:
            # It is created and filled in one step, but for a kill at just that moment.
            self.damage.add(Damage(["the file, which was empty"]))
        committed = wal.commits(log)
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        db.text_factory = to_text
        self._db = db
        db.execute("PRAGMA journal_mode=WAL")
        if committed and self._left_unread(db, committed):
            self._keep_files(log)
            self.damage.add(Damage(["log"]))
        db.execute("PRAGMA synchronous=FULL")
        if list(self._query("SELECT 1 FROM sqlite_master WHERE name = 'store'")):
            version = self._row()[0].get("version", _VERSION)
            if version not in ("1", "2", _VERSION):
                raise StoreRefusedError(
                    f"{self._path} was written by another version of this program "
                    f"(format {version}, this one knows {_VERSION}); run that version on it"
                )
        if list(self._query("SELECT 1 FROM sqlite_master WHERE name = 'replicas'")):
            db.executescript(_FROM_1_TO_2)
        db.executescript(_SCHEMA)
        if not list(self._query("SELECT 1 FROM pragma_table_info('facts') WHERE name = 'seal'")):
            self._seal()
        self._inode = os.stat(self._file).st_ino
        self._to_free = True

    def _seal(self) -> None:
        """Format 2 had no seals."""
        db = self._db
        assert db is not None
        with db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("ALTER TABLE facts ADD COLUMN seal INTEGER")
            kept, _, _ = self._row()
            facts = {fact.name: fact.text for fact in self._facts(Damage())}
            self._put_facts(db, facts)
            mark = kept.get("mark", "")
            self._put_row(db, kept, mark, sum(seal_of(*fact) for fact in facts.items()))

    def _follow(self) -> None:
        """Go to the file that now has the store's path, if it is another one than before."""
        try:
            inode = os.stat(self._file).st_ino
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
            whole, seals = self._check(heal)
            if drop:
                self._to_free = True
                db.executemany(
                    "UPDATE vectors SET vector = ? || number WHERE vector = ?",
                    ((_DROPPED, vector) for vector in drop),
                )
            for vector, changed in counts.items():
                self._upsert(db, vector, changed)
            if facts:
                seals += self._replace(db, facts)
            self._put_row(db, self._kept, mark, seals, whole=whole)
            self._free(db)

    def _replace(self, db: sqlite3.Connection, facts: Mapping[str, str]) -> int:
        """Replace these facts; return by how much the sum of seals grows."""
        grows, gone = 0, []
        for name, fact in facts.items():
            for (seal,) in db.execute("SELECT seal FROM facts WHERE name = ?", (name,)):
                grows -= seal if isinstance(seal, int) else 0
            if fact:
                seal = seal_of(name, fact)
                db.execute("REPLACE INTO facts VALUES (?, ?, ?)", (name, fact, seal))
                grows += seal
            else:
                gone.append((name,))
        if gone:
            db.executemany("DELETE FROM facts WHERE name = ?", gone)
        return grows

    def _put_facts(self, db: sqlite3.Connection, facts: Mapping[str, str]) -> int:
        rows = [
            (to_bytes(name), to_bytes(fact), seal_of(name, fact)) for name, fact in facts.items()
        ]
        db.executemany("REPLACE INTO facts VALUES (CAST(? AS TEXT), CAST(? AS TEXT), ?)", rows)
        return sum(row[2] for row in rows)

    def _put_row(
        self,
        db: sqlite3.Connection,
        kept: Mapping[str, str],
        mark: str,
        seals: int,
        *,
        whole: bool = False,
    ) -> None:
        """Say what the store is, twice; with `whole` all of it but the mark is there already."""
        row = Row(kept.get("id", ""), kept.get("name", ""), mark, _VERSION, seals % SEALS)
        sealed = row.sealed()
        db.execute("REPLACE INTO store VALUES ('mark', ?), (?, ?)", (mark, SEALED, sealed))
        if not whole:
            same = (("id", row.id), ("name", row.name), ("version", row.version))
            db.executemany("REPLACE INTO store VALUES (?, ?)", same)
        self._written = sealed, row.seals

    def _row(self) -> tuple[dict[str, str], int | None, list[str]]:
        """See `read_row`."""
        texts = self._texts()
        kept, seals, wrong = read_row(texts)
        return kept, seals, wrong

    def _texts(self) -> dict[str, str]:
        rows = self._query("SELECT key, value FROM store")
        return {key: value for key, value in rows if type(key) is str and type(value) is str}

    def _read_known(self) -> Known:
        damage = Damage()
        _, seals, damage.store = self._row()
        vectors = [vector for _, vector in self._vectors()]
        facts = read_facts(self._facts(damage), seals, damage)
        if list(self._query("PRAGMA integrity_check(vectors)")) != [("ok",)]:
            damage.store.append("vectors")
        self.damage.add(damage)
        return Known(vectors, facts)

    def _facts(self, damage: Damage) -> Iterator[Fact]:
        for name, text, seal in self._query("SELECT name, fact, seal FROM facts"):
            number = seal if isinstance(seal, int) else None
            if type(name) is str and type(text) is str:
                yield Fact(name, text, number)
            elif isinstance(name, str | bytes) and isinstance(text, str | bytes):
                # The same bytes, but not kept as text: it would not be found under its name.
                name, text = (to_text(x) if isinstance(x, bytes) else x for x in (name, text))
                damage.mended.append(name)
                yield Fact(name, text, number)
            else:
                yield Fact(str(name), str(text), None)

    def _vectors(self) -> list[tuple[int, str]]:
        rows = self._query("SELECT number, CAST(vector AS TEXT) FROM vectors ORDER BY number")
        return [(number, name or "") for number, name in rows if not _is_dropped(name or "")]

    def _free(self, db: sqlite3.Connection) -> None:
        """Delete some rows of a vector that was dropped."""
        if not self._to_free:
            return
        row = next(
            self._query(
                "SELECT number FROM vectors WHERE vector > ? AND vector < ?",
                (_DROPPED, _DROPPED + "~"),
            ),
            None,
        )
        if row is None:
            self._to_free = False
            return
        deleted = db.execute(
            "DELETE FROM counts WHERE vector = ?1 AND video IN "
            "(SELECT video FROM counts WHERE vector = ?1 LIMIT ?2)",
            (row[0], _ROWS_FREED),
        ).rowcount
        if deleted < _ROWS_FREED:
            db.execute("DELETE FROM vectors WHERE number = ?", row)

    def _piece(self, number: int, after: str) -> dict[str, int] | None:
        """The next rows of a vector, in order; None if they are not all an id and a count."""
        try:
            row = next(self._query(_READ, (number, after, _ROWS_A_PIECE)))
            return _pieces.decode(row[0])
        except (msgspec.DecodeError, UnicodeError):
            return None
        except sqlite3.OperationalError as error:
            if "JSON" in str(error):
                return None
            raise

    def _scan(self, number: int, vector: str) -> Iterator[tuple[str, dict[str, int]]]:
        """Every row of a vector, one by one, wherever it is."""
        rows = self._call(lambda: list(self._query(_SCAN, (number,))))
        bad: list[str] = []
        piece: dict[str, int] = {}
        for raw, kind, count in rows:
            video = to_text(raw or b"")
            if kind != "text" or type(count) is not int or not raw.isascii():
                bad.append(video)
            else:
                piece[video] = max(count, piece.get(video, 0))
        if bad:
            self.damage.add(Damage(rows={vector: bad}))
        ids = list(piece)
        for first in range(0, len(ids), _ROWS_A_PIECE):
            yield vector, {video: piece[video] for video in ids[first : first + _ROWS_A_PIECE]}

    def _check(self, heal: bool) -> tuple[bool, int]:
        """See that the store has lost nothing; return the sum of its seals.

        Also whether it is the very store that was last written to.
        """
        mark, sealed = next(self._query(_STANDS))
        if not self._marks.accepts(mark if type(mark) is str else None, heal=heal):
            raise self._marks.forgot(str(self._path), mark)
        if sealed == self._written[0]:
            return True, self._written[1]
        _, seals, _ = self._row()
        if seals is None:
            # It is another file than before, or was emptied.
            seals = sum(fact.seal or 0 for fact in self._facts(Damage()))
        return False, seals

    def _new_copy(self) -> Path | None:
        """Where the damaged database is to be kept; None if there are enough copies already."""
        kept = [*self._folder.glob(f"{self._path.name}.damaged-*[0-9]")]
        if len(kept) >= _MAX_COPIES:
            return None
        day = f"{self._path.name}.damaged-{time.strftime('%Y-%m-%d')}"
        names = [day, *(f"{day}-{number}" for number in range(2, _MAX_COPIES + 1))]
        return next(path for name in names if (path := self._path.with_name(name)) not in kept)

    def _put_right(self, rows: Counts | None = None, renamed: Mapping[str, str] = NOTHING) -> None:
        """Write anew what was found damaged, from what was read of it."""
        db = self._db
        assert db is not None
        self._hold_on()
        if self._copy is None and (copy := self._new_copy()) is not None:
            self._keep_copy(db, copy)
            self._copy = copy
        kept, _, _ = self._row()
        with db:
            db.execute("BEGIN IMMEDIATE")
            _, seals, _ = self._row()
            damage = Damage()
            facts = read_facts(self._facts(damage), seals, damage)
            if not self._marks.written:
                for strange in self.damage.facts:
                    facts.pop(strange, None)
            db.execute("DELETE FROM facts")
            db.execute("DELETE FROM store")
            self._put_row(db, self._kept, kept.get("mark", ""), self._put_facts(db, facts))
            db.execute("UPDATE vectors SET vector = CAST(vector AS TEXT)")
            db.execute("REINDEX vectors")
            if rows is not None:
                self._put_counts_right(db, rows, renamed)

    def _put_counts_right(
        self, db: sqlite3.Connection, rows: Counts, renamed: Mapping[str, str]
    ) -> None:
        """Every row that is an id and a count in a table of its own, where it is in order."""
        for found, vector in renamed.items():
            self._rename(db, found, vector)
        numbers: dict[str, list[int]] = {}
        for number, vector in self._vectors():
            numbers.setdefault(vector, []).append(number)
        db.execute(_MENDED)
        db.execute(
            "INSERT INTO mended SELECT vector, video, count FROM counts WHERE typeof(vector) = "
            "'integer' AND typeof(video) = 'text' AND typeof(count) = 'integer' AND count > 0 "
            "AND +vector IN (SELECT number FROM vectors) "
            "ON CONFLICT DO UPDATE SET count = max(count, excluded.count)"
        )
        db.execute("DROP TABLE counts")
        db.execute("ALTER TABLE mended RENAME TO counts")
        gone = [
            (vector, [video for video in videos if not video.isascii()])
            for vector, videos in self.damage.rows.items()
        ]
        for vector, videos in [*gone, *((vector, list(true)) for vector, true in rows.items())]:
            where = [
                (number, to_bytes(video)) for number in numbers.get(vector, ()) for video in videos
            ]
            db.executemany("DELETE FROM counts WHERE vector = ? AND video = CAST(? AS TEXT)", where)
        for vector, true in rows.items():
            if counts := {video: count for video, count in true.items() if count}:
                self._upsert(db, vector, counts)

    def _rename(self, db: sqlite3.Connection, found: str, vector: str) -> None:
        self._to_free = True
        # Another of that name may be there by now: it has all that this one had.
        db.execute(
            "UPDATE OR IGNORE vectors SET vector = CASE ?1 WHEN '' THEN ?3 || number ELSE ?1 END "
            "WHERE vector = CAST(?2 AS TEXT)",
            (vector, to_bytes(found), _DROPPED),
        )

    def _left_unread(self, db: sqlite3.Connection, committed: int) -> bool:
        """Whether SQLite has read less of its log than was committed."""
        [(_, read, _)] = db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        return committed == wal.UNREADABLE or read < committed

    def _keep_files(self, log: Path) -> None:
        """Copy the database with its damaged log, which the next write begins anew."""
        copy = self._new_copy()
        if copy is not None:
            shutil.copy(log, copy.with_name(copy.name + "-wal"))
            shutil.copy(self._path, copy)
            self._copy = copy

    def _keep_copy(self, db: sqlite3.Connection, copy: Path) -> None:
        """The file with all that is still in its log; whole under this name, or not there."""
        part = copy.with_name(copy.name + ".part")
        part.unlink(missing_ok=True)
        with closing(sqlite3.connect(part)) as other:
            db.backup(other)
        part.replace(copy)

    def _upsert(self, db: sqlite3.Connection, vector: str, changed: Mapping[str, int]) -> None:
        number = "SELECT number FROM vectors WHERE vector = ?"
        row = db.execute(number, (vector,)).fetchone()
        if row is None:
            db.execute("INSERT INTO vectors (vector) VALUES (?)", (vector,))
            row = db.execute(number, (vector,)).fetchone()
        db.execute(_UPSERT, (*row, json.encode(changed).decode()))

    def _query(self, sql: str, arguments: tuple[object, ...] = ()) -> sqlite3.Cursor:
        assert self._db is not None
        return self._db.execute(sql, arguments)


def _is_dropped(name: str) -> bool:
    return name.startswith(_DROPPED)
