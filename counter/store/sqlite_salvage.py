"""Copies of a damaged SQLite database, as it was found, for an operator to look at."""

import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

_MAX_COPIES = 5
"""So many copies are kept; then an operator is to look at them."""


class Salvage:
    """Keeps one copy of the database at `path`, beside it, of when it was first found damaged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.copy: Path | None = None
        """Where the copy is."""

    def keep(self, db: sqlite3.Connection) -> None:
        """Copy the database with all that is still in its log, if there is no copy yet.

        The copy is whole under its name, or not there.
        """
        if self.copy is not None or (copy := self._name()) is None:
            return
        part = copy.with_name(copy.name + ".part")
        part.unlink(missing_ok=True)
        with closing(sqlite3.connect(part)) as other:
            db.backup(other)
        part.replace(copy)
        self.copy = copy

    def keep_files(self, log: Path) -> None:
        """Copy the database and its damaged log, which the next write begins anew."""
        if (copy := self._name()) is not None:
            shutil.copy(log, copy.with_name(copy.name + "-wal"))
            shutil.copy(self._path, copy)
            self.copy = copy

    def _name(self) -> Path | None:
        """A free name for a copy; None if there are enough copies already."""
        kept = [*self._path.parent.glob(f"{self._path.name}.damaged-*[0-9]")]
        if len(kept) >= _MAX_COPIES:
            return None
        day = f"{self._path.name}.damaged-{time.strftime('%Y-%m-%d')}"
        names = [day, *(f"{day}-{number}" for number in range(2, _MAX_COPIES + 1))]
        return next(path for name in names if (path := self._path.with_name(name)) not in kept)
