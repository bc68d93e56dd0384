"""Reading ahead: a store is read while what it gave before is taken in."""

from collections.abc import Callable
from threading import Thread
from typing import Any


class Ahead:
    """One call that is made while its caller does something else."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._value: Any = None
        self._error: Exception | None = None
        self._thread = Thread(
            target=self._run, args=(function, arguments), name="read-ahead", daemon=True
        )
        self._thread.start()

    def _run(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        try:
            self._value = function(*arguments)
        except Exception as error:
            # It belongs to whoever asks for the outcome.
            self._error = error

    def wait(self) -> None:
        """Wait until the call is over. Idempotent."""
        self._thread.join()

    def outcome(self) -> Any:
        """What the call has returned or raised, once it is over."""
        self.wait()
        if self._error is not None:
            raise self._error
        return self._value
