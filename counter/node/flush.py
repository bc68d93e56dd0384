"""A flush: one batch on its way to the store, and who waits for it."""

from threading import Lock


class Flush:
    """One batch on its way to the store, for the visits that wait for it. Thread-safe."""

    __slots__ = ("_ended", "_gate", "_ok")

    def __init__(self) -> None:
        self._ok = self._ended = False
        # One lock, which each waiting thread passes on to the next. An event would make a lock for
        # each of them.
        self._gate = Lock()
        self._gate.acquire()

    def wait(self, seconds: float) -> bool:
        """Wait at most so long until it has ended; return whether the store holds the batch."""
        if not self._ended:
            if not self._gate.acquire(timeout=seconds):
                return False
            self._gate.release()
        return self._ok

    @property
    def ended(self) -> bool:
        """Whether nobody needs to wait for it any more."""
        return self._ended

    def end(self, *, ok: bool) -> None:
        """Release all waiting threads; `ok` says whether the store holds the batch. Once."""
        self._ok = ok
        self._ended = True
        self._gate.release()
