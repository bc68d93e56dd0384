"""Servers that many tests share, and the rule that no test leaves a thread behind."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import settings
from playwright.sync_api import Browser

from lab.browser import chromium
from lab.servers import RabbitMQ, Redis

# How long an example takes says nothing of what it shows, on a machine that others use as well.
settings.register_profile("without deadlines", deadline=None)
settings.load_profile("without deadlines")

_THREADS_END = 8.0
"""Seconds that threads have to end after a test."""


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis for everybody: use a NAME of your own, leave it running and full."""
    with Redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A broker for everybody: who kills it or freezes it starts it again or lets it go on."""
    with RabbitMQ(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for a file of tests: open a context of your own in it."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes at the end of the test what was entered into it."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(autouse=True)
def _no_thread_is_left_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + _THREADS_END
    for thread in set(threading.enumerate()) - before:
        thread.join(max(0.0, deadline - time.monotonic()))
    left = sorted(thread.name for thread in set(threading.enumerate()) - before)
    assert not left, f"threads that the test started and did not end: {', '.join(left)}"
