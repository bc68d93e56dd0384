"""The terminal, for the tools that run until Ctrl-C."""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def foreground() -> Iterator[None]:
    """Let Ctrl-C reach this process alone, not the `make` that waits for it.

    make would end with status 130 however cleanly this process stopped. Does nothing
    when there is no terminal, or when it belongs to another process group.
    """
    try:
        terminal = sys.stdin.fileno()
        former = os.tcgetpgrp(terminal)
    except (OSError, ValueError, AttributeError):
        yield
        return
    if former != os.getpgrp() or former == os.getpid():
        yield
        return
    # A process in the background would be stopped by taking the terminal back; and Ctrl-Z
    # would stop this process, but not make, so that no shell could ever continue it.
    for number in (signal.SIGTTOU, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    os.setpgid(0, 0)
    os.tcsetpgrp(terminal, os.getpgrp())
    try:
        yield
    finally:
        os.tcsetpgrp(terminal, former)


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of as many cells each, one a line, in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def say(line: str) -> None:
    """Print a line now, also into a pipe; the reader may be gone."""
    show(f"{line}\n")


def show(text: str) -> None:
    """Print `text` as it is, now."""
    try:
        print(text, end="", flush=True)
    except OSError:
        # The reader or the terminal is gone, which is no reason to leave servers running.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
