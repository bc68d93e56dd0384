"""The beat that notices when everything stands still."""

import time
from collections.abc import Iterator
from threading import Thread

import pytest

from counter.node.pauses import PauseMeter
from lab.clients import until


@pytest.fixture
def beat() -> Iterator[PauseMeter]:
    """A beat in a thread of its own."""
    beat = PauseMeter()
    thread = Thread(target=beat.run)
    thread.start()
    yield beat
    beat.stop()
    thread.join()


@pytest.mark.alone
def test_it_notices_a_pause_and_tells_it_once(beat: PauseMeter) -> None:
    start = time.monotonic()
    sum(range(20_000_000))  # in C, so that no other thread runs meanwhile
    pause = time.monotonic() - start
    until(lambda: beat.take() > pause / 2, 5, "the pause is noticed")
    assert beat.take() < pause / 2
