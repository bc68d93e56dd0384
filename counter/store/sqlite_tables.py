"""The tables of an SQLite store: one method for each statement, and the formats of before."""

import sqlite3
from collections.abc import Collection, Iterator, Mapping
from itertools import chain
from operator import lt
from pathlib import Path

import msgspec
from msgspec import json

from counter.store.contract import Counts, Rows, SketchesByDay, StoreRefusedError, in_pieces
from counter.store.formats import without_marks
from counter.store.seals import (
    SEALED,
    SEALS,
    Damage,
    Fact,
    Row,
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
    CREATE TABLE IF NOT EXISTS sketches (
        day INTEGER NOT NULL, video TEXT NOT NULL, head BLOB NOT NULL, sketch BLOB NOT NULL,
        PRIMARY KEY (day, video)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS heads ON sketches (day, video, head);
"""
_FROM_1_TO_2 = """
    BEGIN IMMEDIATE;
    ALTER TABLE replicas RENAME TO vectors;
    ALTER TABLE vectors RENAME COLUMN replica TO vector;
    ALTER TABLE counts RENAME COLUMN replica TO vector;
    UPDATE store SET value = '2' WHERE key = 'version';
    COMMIT;
"""
_MENDED = """
    CREATE TABLE mended (
        vector INTEGER NOT NULL, video TEXT NOT NULL, count INTEGER NOT NULL,
        PRIMARY KEY (vector, video)
    ) WITHOUT ROWID
"""
# Rows go in and out as JSON: while SQLite takes it apart, other threads have the
# interpreter. With one row at a time they would take turns thousands of times. It sorts them, too:
# in the order of the table each of its pages is changed once.
_UPSERT = """
    INSERT INTO counts SELECT ?, key, value FROM json_each(?) WHERE true ORDER BY key
    ON CONFLICT DO UPDATE SET count = excluded.count WHERE excluded.count > count
"""
_ERASE = """
    DELETE FROM counts WHERE vector = (SELECT number FROM vectors WHERE vector = ?)
        AND video IN (SELECT key FROM json_each(?))
"""
_READ = """
    SELECT CAST(json_group_array(video) AS BLOB), CAST(json_group_array(count) AS BLOB) FROM (
        SELECT video, count FROM counts WHERE vector = ? AND video > ? ORDER BY video LIMIT ?
    )
"""
_SCAN = "SELECT CAST(video AS BLOB), typeof(video), count FROM counts WHERE +vector = ?"
"""Every row in turn: the plus keeps SQLite from looking for it where it should be."""
_STANDS = """
    SELECT (SELECT value FROM store WHERE key = 'mark'),
        (SELECT value FROM store WHERE key = 'sealed')
"""
_PUT_SKETCH = "REPLACE INTO sketches VALUES (?, ?, ?, ?)"
_GET_SKETCH = "SELECT sketch FROM sketches WHERE day = ? AND video = ?"
_DROP_SKETCHES = """
    DELETE FROM sketches WHERE (day, video) IN
        (SELECT day, video FROM sketches WHERE day < ? LIMIT 200)
"""
_VERSION = "4"
_EARLIER = ("1", "2", "3")
ROWS_A_PIECE = 4_000
_ROWS_A_TEXT = 16_000
"""How many rows are encoded at once: 2 ms in which no other thread runs."""
_ROWS_FREED = 2_000
"""How many rows of dropped vectors are deleted with one write, at most."""
_ids = json.Decoder(list[str])
_counts = json.Decoder(list[int])
_DROPPED = "dropped "
"""How the name of a dropped vector begins while some of its rows are still to be deleted."""


class Tables:
    """An open database. Calls come from one thread at a time, and may raise `sqlite3.Error`."""

    def __init__(self, path: Path) -> None:
        """Connect, and read what is in the log."""
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.db.text_factory = to_text
        self._path = path
        self._to_free = True
        self._written = "", 0
        """The sealed row that was last written, and the sum of seals in it."""

    def prepare(self) -> None:
        """Bring the tables into the present format; raise `StoreRefusedError` for a later one."""
        self.db.execute("PRAGMA synchronous=FULL")
        if list(self.query("PRAGMA secure_delete")) == [(0,)]:
            # What is removed is overwritten, where that takes no further page.
            self.query("PRAGMA secure_delete=FAST")
        version = _VERSION
        if list(self.query("SELECT 1 FROM sqlite_master WHERE name = 'store'")):
            version = self.row()[0].get("version", _VERSION)
            if version not in (*_EARLIER, _VERSION):
                raise StoreRefusedError(
                    f"{self._path} was written by another version of this program "
                    f"(format {version}, this one knows {_VERSION}); run that version on it"
                )
        if list(self.query("SELECT 1 FROM sqlite_master WHERE name = 'replicas'")):
            self.db.executescript(_FROM_1_TO_2)
        self.db.executescript(_SCHEMA)
        if version in _EARLIER:
            self._upgrade()

    def _upgrade(self) -> None:
        """Add the seals, which format 2 did not have; name folded vectors as format 4 does.

        Whatever is damaged stays as it is, and is found when it is read.
        """
        with self.db:
            self.db.execute("BEGIN IMMEDIATE")
            kept, seals, wrong = self.row()
            if not list(self.query("SELECT 1 FROM pragma_table_info('facts') WHERE name = 'seal'")):
                self.db.execute("ALTER TABLE facts ADD COLUMN seal INTEGER")
            facts = {fact.name: fact.text for fact in self.facts(Damage())}
            if seals is None and not wrong:
                seals = self.put_facts(facts)
            vectors = [vector for _, vector in self.vectors()]
            names, left_over = without_marks(vectors, facts)
            for vector, name in names.items():
                self.query("UPDATE vectors SET vector = ? WHERE vector = ?", (name, vector))
            self.drop(left_over)
            if seals is not None and not wrong:
                self.put_row(kept, kept.get("mark", ""), seals)

    def query(self, sql: str, arguments: tuple[object, ...] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        return self.db.execute(sql, arguments)

    # -- the store itself

    def row(self) -> tuple[dict[str, str], int | None, list[str]]:
        """What is kept of the store itself; see `read_row`."""
        rows = self.query("SELECT key, value FROM store")
        return read_row({key: value for key, value in rows if type(key) is type(value) is str})

    def put_row(
        self, kept: Mapping[str, str], mark: str, seals: int, *, whole: bool = False
    ) -> None:
        """Write the store's row and its sealed copy; with `whole`, only the mark has changed."""
        row = Row(kept.get("id", ""), kept.get("name", ""), mark, _VERSION, seals % SEALS)
        sealed = row.sealed()
        self.db.execute("REPLACE INTO store VALUES ('mark', ?), (?, ?)", (mark, SEALED, sealed))
        if not whole:
            same = (("id", row.id), ("name", row.name), ("version", row.version))
            self.db.executemany("REPLACE INTO store VALUES (?, ?)", same)
        self._written = sealed, row.seals

    def stands(self) -> tuple[str | None, str | None]:
        """The flush mark and the sealed row."""
        mark, sealed = next(self.query(_STANDS))
        return mark, sealed

    def seals(self, sealed: str | None) -> tuple[bool, int]:
        """The sum of the seals, given the sealed row; and whether that was last written here."""
        if sealed == self._written[0]:
            return True, self._written[1]
        _, seals, _ = self.row()
        if seals is None:
            # It is another file than before, or it was emptied.
            seals = sum(fact.seal or 0 for fact in self.facts(Damage()))
        return False, seals

    # -- facts

    def facts(self, damage: Damage) -> Iterator[Fact]:
        """All facts as they are; `damage` gets the names of those of another type than text."""
        for name, text, seal in self.query("SELECT name, fact, seal FROM facts"):
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

    def empty_log(self) -> bool:
        """Move all of the log into the file and empty it, if nobody reads; whether that was done.

        What was removed can be read in the log otherwise, until its place is written again.
        """
        try:
            [(patience,)] = self.query("PRAGMA busy_timeout")
            self.query("PRAGMA busy_timeout=0")
            try:
                [(busy, *_)] = self.query("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                self.query(f"PRAGMA busy_timeout={patience}")
        except sqlite3.OperationalError:
            # What was committed stands; the next write tries it again.
            return False
        return not busy

    def replace_facts(self, facts: Mapping[str, str]) -> int:
        """Replace these facts, remove the empty ones; return how much the sum of seals grows."""
        grows, gone = 0, []
        for name, fact in facts.items():
            for (seal,) in self.query("SELECT seal FROM facts WHERE name = ?", (name,)):
                grows -= seal if isinstance(seal, int) else 0
            if fact:
                seal = seal_of(name, fact)
                self.db.execute("REPLACE INTO facts VALUES (?, ?, ?)", (name, fact, seal))
                grows += seal
            else:
                gone.append((name,))
        if gone:
            self.db.executemany("DELETE FROM facts WHERE name = ?", gone)
        return grows

    def put_facts(self, facts: Mapping[str, str]) -> int:
        """Write facts whose names may be damaged; return the sum of their seals."""
        rows = [
            (to_bytes(name), to_bytes(fact), seal_of(name, fact)) for name, fact in facts.items()
        ]
        self.db.executemany("REPLACE INTO facts VALUES (CAST(? AS TEXT), CAST(? AS TEXT), ?)", rows)
        return sum(row[2] for row in rows)

    # -- vectors and counts

    def vectors(self) -> list[tuple[int, str]]:
        """The number and the name of each vector that is not dropped."""
        rows = self.query("SELECT number, CAST(vector AS TEXT) FROM vectors ORDER BY number")
        return [(number, name or "") for number, name in rows if not _is_dropped(name or "")]

    def vectors_exist(self) -> bool:
        """Whether there is any vector, also a dropped one."""
        return bool(list(self.query("SELECT 1 FROM vectors LIMIT 1")))

    def upsert(self, vector: str, changed: Mapping[str, int], erase: Collection[str] = ()) -> None:
        """Raise counts `{video: count}` of a vector to these; none goes down.

        The rows of the same videos of the vectors in `erase` are deleted.
        """
        number = "SELECT number FROM vectors WHERE vector = ?"
        row = self.query(number, (vector,)).fetchone()
        if row is None:
            self.query("INSERT INTO vectors (vector) VALUES (?)", (vector,))
            row = self.query(number, (vector,)).fetchone()
        for some in in_pieces(changed, _ROWS_A_TEXT):
            rows = json.encode(some).decode()
            self.query(_UPSERT, (*row, rows))
            self.db.executemany(_ERASE, ((other, rows) for other in erase))

    def piece(self, number: int, after: str) -> Rows | None:
        """The next rows of a vector; None if they are not all an id and a count, in order."""
        try:
            raw, numbers = next(self.query(_READ, (number, after, ROWS_A_PIECE)))
            ids, counts = _ids.decode(raw), _counts.decode(numbers)
            if not all(map(lt, chain((after,), ids), ids)):
                # A row is not where it should be: what follows would not be found.
                return None
            # An id in which JSON escapes something is none of a video.
            return Rows(ids, counts, raw[2:-2].replace(b'","', b"\0") + b"\0")
        except (msgspec.DecodeError, UnicodeError):
            return None
        except sqlite3.OperationalError as error:
            if "JSON" in str(error):
                return None
            raise

    def scan(self, number: int) -> tuple[dict[str, int], list[str]]:
        """Every row of a vector, wherever it is; and the ids of rows that are no id and count."""
        bad: list[str] = []
        found: dict[str, int] = {}
        for raw, kind, count in self.query(_SCAN, (number,)):
            video = to_text(raw or b"")
            if kind != "text" or type(count) is not int or not raw.isascii():
                bad.append(video)
            else:
                found[video] = max(count, found.get(video, 0))
        return found, bad

    def drop(self, vectors: Collection[str]) -> None:
        """Forget vectors; their rows are deleted later, by `free`."""
        if vectors:
            self._to_free = True
            self.db.executemany(
                "UPDATE vectors SET vector = ? || number WHERE vector = ?",
                ((_DROPPED, vector) for vector in vectors),
            )

    def free(self) -> None:
        """Delete some rows of a vector that was dropped."""
        if not self._to_free:
            return
        row = next(
            self.query(
                "SELECT number FROM vectors WHERE vector > ? AND vector < ?",
                (_DROPPED, _DROPPED + "~"),
            ),
            None,
        )
        if row is None:
            self._to_free = False
            return
        deleted = self.query(
            "DELETE FROM counts WHERE vector = ?1 AND video IN "
            "(SELECT video FROM counts WHERE vector = ?1 LIMIT ?2)",
            (row[0], _ROWS_FREED),
        ).rowcount
        if deleted < _ROWS_FREED:
            self.query("DELETE FROM vectors WHERE number = ?", row)

    # -- sketches

    def put_sketches(self, sketches: SketchesByDay, oldest: int) -> None:
        """Write sketches, and delete some of the days before `oldest`."""
        for day, of_day in sketches.items():
            rows = ((day, video, *kept) for video, kept in sorted(of_day.items()))
            self.db.executemany(_PUT_SKETCH, rows)
        if oldest:
            self.query(_DROP_SKETCHES, (oldest,))

    def heads(self, day: int) -> dict[str, bytes]:
        """The heads of a day's sketches, by video, out of an index that has nothing else."""
        rows = self.query("SELECT video, head FROM sketches WHERE day = ?", (day,))
        return {video: head for video, head in rows if type(video) is str and type(head) is bytes}

    def sketches(self, day: int, videos: Collection[str]) -> dict[str, bytes]:
        """The sketches of a day of these videos; whatever is there of another type is b"\0"."""
        found = {}
        for video in videos:
            for (sketch,) in self.query(_GET_SKETCH, (day, video)):
                found[video] = sketch if type(sketch) is bytes else b"\0"
        return found

    # -- what was damaged

    def put_counts_right(
        self, rows: Counts, renamed: Mapping[str, str], gone: Mapping[str, Collection[str]]
    ) -> None:
        """Write every row that is an id and a count into a table of its own, where it is in order.

        `rows` and `renamed` are those of `Store.mend`, `gone` ids of rows that go as well.
        """
        for found, vector in renamed.items():
            self._rename(found, vector)
        numbers: dict[str, list[int]] = {}
        for number, vector in self.vectors():
            numbers.setdefault(vector, []).append(number)
        self.query(_MENDED)
        self.query(
            "INSERT INTO mended SELECT vector, video, count FROM counts WHERE typeof(vector) = "
            "'integer' AND typeof(video) = 'text' AND typeof(count) = 'integer' AND count > 0 "
            "AND +vector IN (SELECT number FROM vectors) "
            "ON CONFLICT DO UPDATE SET count = max(count, excluded.count)"
        )
        self.query("DROP TABLE counts")
        self.query("ALTER TABLE mended RENAME TO counts")
        other = ((v, [video for video in of if not video.isascii()]) for v, of in gone.items())
        for vector, videos in [*other, *((vector, list(true)) for vector, true in rows.items())]:
            where = [
                (number, to_bytes(video)) for number in numbers.get(vector, ()) for video in videos
            ]
            self.db.executemany(
                "DELETE FROM counts WHERE vector = ? AND video = CAST(? AS TEXT)", where
            )
        for vector, true in rows.items():
            if counts := {video: count for video, count in true.items() if count}:
                self.upsert(vector, counts)

    def _rename(self, found: str, vector: str) -> None:
        self._to_free = True
        # Another vector of that name may be there by now: it has all that this one had.
        self.query(
            "UPDATE OR IGNORE vectors SET vector = CASE ?1 WHEN '' THEN ?3 || number ELSE ?1 END "
            "WHERE vector = CAST(?2 AS TEXT)",
            (vector, to_bytes(found), _DROPPED),
        )


def _is_dropped(name: str) -> bool:
    return name.startswith(_DROPPED)
