"""Servers that many tests share, and the rule that no test leaves a thread behind."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import settings
from playwright.sync_api import Browser, expect

from lab.browser import chromium
from lab.clients import STRETCH
from lab.servers import Node, RabbitMQ, Redis
from tests.nodes import mesh

# Every server of the tests is on this machine, where no proxy leads.
for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
    del os.environ[name]

# How long an example takes says nothing of what it shows, on a machine that others use as well.
settings.register_profile("without deadlines", deadline=None)
settings.load_profile("without deadlines")

# The browser's own deadlines: 5 s is its default for what a page is to show.
expect.set_options(timeout=5_000 * STRETCH)

_THREADS_END = 8.0
"""Seconds that threads have to end after a test."""


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis for every test of a worker: use a NAME of your own, leave it running and full."""
    with Redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A broker for every test of a worker: a test that kills or freezes it brings it back."""
    with RabbitMQ(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server


@pytest.fixture(scope="session")
def _chromium() -> Iterator[Browser]:
    # A name of this machine that is no secure context, unlike 127.0.0.1.
    with chromium("--host-resolver-rules=MAP visits.test 127.0.0.1") as browser:
        yield browser


@pytest.fixture(scope="module")
def browser(_chromium: Browser) -> Iterator[Browser]:
    """A browser for every test of a worker: open a context of your own in it."""
    yield _chromium
    for context in _chromium.contexts:
        context.close()


@pytest.fixture(scope="module")
def nodes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Node]]:
    """The nodes of a file of tests: as many, with such settings, as its marker `nodes` says."""
    marker = request.node.get_closest_marker("nodes")
    count, settings = (marker.args, marker.kwargs) if marker else ((), {})
    with mesh(tmp_path_factory.mktemp("nodes"), *count, **settings) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def node(nodes: list[Node]) -> Node:
    """The first of the nodes of a file of tests, which may be the only one."""
    return nodes[0]


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
