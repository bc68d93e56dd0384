"""A connection to a node, what it shows, and waiting with a deadline."""

import http.client
import json
import os
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit


class Client:
    """One keep-alive connection to one node or balancer; not thread-safe."""

    def __init__(self, url: str, timeout: float = 15.0) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._timeout = parts.hostname or "", parts.port or 80, timeout
        self._connection: http.client.HTTPConnection | None = None

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """GET; raises OSError or HTTPException when there is no answer."""
        return self.ask("GET", path, headers)

    def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> tuple[int, bytes]:
        """Send a request; raises OSError or HTTPException when there is no answer."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection(
                self._host, self._port, timeout=self._timeout
            )
        try:
            self._connection.request(method, path, body or None, headers or {})
            response = self._connection.getresponse()
            return response.status, response.read()
        except BaseException:
            self.close()
            raise

    def json(self, path: str) -> Any:
        """Return the JSON at a path; asserts that the status is 200."""
        status, body = self.get(path)
        assert status == 200, (path, status, body)
        return json.loads(body)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def counted(url: str, videos: Sequence[str]) -> dict[str, int]:
    """Return the visits that a node shows for these videos."""
    visits = {}
    with Client(url) as client:
        for first in range(0, len(videos), 1000):
            query = "&".join(f"video={video}" for video in videos[first : first + 1000])
            for counter in client.json(f"/counts?{query}")["counters"]:
                visits[counter["video"]] = counter["visits"]
    return visits


def post(url: str, path: str) -> None:
    """POST without a body; asserts that the answer is 204."""
    with Client(url) as client:
        status, answer = client.ask("POST", path)
    assert status == 204, (path, status, answer)


def fetch(url: str, path: str) -> Any:
    """Return the JSON at a path of a node."""
    with Client(url) as client:
        return client.json(path)


STRETCH = 4.0 if "PYTEST_XDIST_WORKER" in os.environ else 1.0
"""How many times longer deadlines are beside other workers of pytest-xdist, which are busy."""


def until(condition: Callable[[], object], seconds: float, what: str) -> float:
    """Wait for a condition with a deadline; return how many seconds it took.

    The deadline is `STRETCH` times as long: tests that assert a time run alone.
    """
    start = time.monotonic()
    seconds *= STRETCH
    while True:
        try:
            if condition():
                return time.monotonic() - start
        except (OSError, http.client.HTTPException, AssertionError) as error:
            what = f"{what.partition(' (last: ')[0]} (last: {error!r:.300})"
        assert time.monotonic() - start < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def metrics(url: str) -> dict[str, float]:
    """Return the metrics of a node by name, each summed over its labels."""
    with Client(url) as client:
        _, text = client.get("/metrics")
    sums: dict[str, float] = {}
    for line in text.decode().splitlines():
        if not line.startswith("#"):
            labelled, _, value = line.rpartition(" ")
            name = labelled.partition("{")[0]
            sums[name] = sums.get(name, 0.0) + float(value)
    return sums


def metric(url: str, name: str) -> float:
    """Return one metric, summed over its labels."""
    read = metrics(url)
    assert name in read, f"{url}/metrics has no {name}"
    return read[name]
