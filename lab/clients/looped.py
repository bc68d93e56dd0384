"""An event loop in a thread, and objects that live in a process of their own."""

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import AbstractContextManager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Self, TypeVar

Result = TypeVar("Result")


class Looped:
    """Clients on an event loop, which a thread runs; or on that of others, `beside` them."""

    def __init__(self, beside: "Looped | None" = None) -> None:
        self._loop: asyncio.AbstractEventLoop = beside._loop if beside else asyncio.new_event_loop()
        name = type(self).__name__
        self._thread = None if beside else threading.Thread(target=self._turn, name=name)

    async def begin(self) -> None:
        """Runs on the loop at first."""

    async def end(self) -> None:
        """Runs on the loop in the end."""

    def wait(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run it on the loop and return its result; not to be called on the loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _turn(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            # Runner and not run_forever: it cancels what is left, and closes the loop.
            self._ended = asyncio.Event()
            runner.run(self._ended.wait())

    def __enter__(self) -> Self:
        if self._thread:
            self._thread.start()
        try:
            self.wait(self.begin())
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.wait(self.end())
        finally:
            self._close()

    def _close(self) -> None:
        if self._thread:
            self._loop.call_soon_threadsafe(lambda: self._ended.set())
            self._thread.join()


class Apart:
    """An object in a process of its own, so that it takes no time from this one.

    `kind(*arguments)` is entered there; arguments and results of `call` are pickled. It is left
    when this is closed, or when this process ends.
    """

    def __init__(self, kind: type[AbstractContextManager[Any]], *arguments: object) -> None:
        # Not forked: the process that starts it has threads.
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, kind, arguments), daemon=True)
        self._process.start()
        theirs.close()

    def call(self, method: str, *arguments: object) -> Any:
        """Call a method of the object. Raises EOFError when its process has died."""
        self._pipe.send((method, arguments))
        return self._pipe.recv()

    def close(self) -> None:
        """End it, by force if it does not leave by itself."""
        self._pipe.close()
        self._process.join(10)
        self._process.kill()
        self._process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _serve(pipe: Connection, kind: type[AbstractContextManager[Any]], arguments: Any) -> None:
    with kind(*arguments) as one, suppress(EOFError):
        while True:
            method, own = pipe.recv()
            pipe.send(getattr(one, method)(*own))
