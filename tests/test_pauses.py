"""The meter that notices when no thread runs."""

import time
from collections.abc import Iterator
from threading import Thread

import pytest

from counter.node.pauses import PauseMeter
from lab.clients import until


@pytest.fixture
def meter() -> Iterator[PauseMeter]:
    """A pause meter in a thread of its own."""
    meter = PauseMeter()
    thread = Thread(target=meter.run)
    thread.start()
    yield meter
    meter.stop()
    thread.join()


@pytest.mark.alone
def test_it_notices_a_pause_and_reports_it_once(meter: PauseMeter) -> None:
    start = time.monotonic()
    sum(range(20_000_000))  # in C, so that no other thread runs meanwhile
    pause = time.monotonic() - start
    until(lambda: meter.take() > pause / 2, 5, "the pause is noticed")
    assert meter.take() < pause / 2
