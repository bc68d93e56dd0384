"""The lease of a folder: a lock of the operating system, on a file that names the holder.

The lock ends with its process, however that ends. The name is in the file because a locked
database could not be asked.
"""

import fcntl
import os
import time
from contextlib import closing
from pathlib import Path
from typing import IO

from counter.store.contract import StoreTakenError

_POLL = 0.1
"""Seconds between two tries."""


class LockFile:
    """The file `counter.lock` in a folder. Calls come from one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # As a text, because every write asks for it.
        self._path = f"{folder}/counter.lock"
        self._holder = ""
        self._file: IO[str] | None = None

    def take(self, holder: str, patience: float) -> None:
        """Lock the folder in the name of `holder`, waiting at most `patience` seconds.

        Raises `StoreTakenError` if another process has the lock, or OSError.
        """
        self._holder = holder
        file = open(self._path, "a+")  # noqa: SIM115 - open while locked
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    file.seek(0)
                    with closing(file):
                        raise StoreTakenError(
                            f"DATA_DIR={str(self._folder)!r} is leased by {file.read().strip()}; "
                            "stop that process, or set another DATA_DIR"
                        ) from None
                time.sleep(_POLL)
        file.seek(0)
        file.truncate()
        file.write(holder + "\n")
        file.flush()
        self._file = file

    def retake(self) -> None:
        """Take the lock anew if its file was removed; another process may have done so before."""
        try:
            if self._file is not None and os.path.samestat(
                os.fstat(self._file.fileno()), os.stat(self._path)
            ):
                return
        except FileNotFoundError:
            self._folder.mkdir(parents=True, exist_ok=True)
        self.release()
        self.take(self._holder, 0.0)

    def release(self) -> None:
        """Unlock the folder. Idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None
