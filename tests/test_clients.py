"""The clients of the lab time what they say, and notice who is not there."""

import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from lab.clients import Apart, OpenLoop, Target, until
from lab.servers import free_port


class Slow(BaseHTTPRequestHandler):
    """Answers after the seconds in the path, and closes the connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        time.sleep(float(self.path.strip("/")))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_what_a_slow_answer_holds_up_is_timed_from_when_it_was_due(port: int) -> None:
    statuses: Counter[int] = Counter()
    took: list[float] = []
    with OpenLoop(Target("slow", [port], 20, 1, iter(["/0.5", *["/0"] * 1000]))) as visits:

        def made() -> bool:
            outcome = visits.take()["slow"]
            statuses.update(outcome.statuses)
            took.extend(outcome.took)
            return statuses.total() >= 8

        until(made, 10, "eight are answered")
    assert set(statuses) == {200}
    assert took[0] >= 500
    assert took[1] >= 400


def test_a_port_where_nobody_listens_is_left_for_another_one(port: int) -> None:
    statuses: Counter[int] = Counter()
    with Apart(OpenLoop, Target("two", [free_port(), port], 50, 1, ["/0"])) as visits:

        def answered() -> bool:
            statuses.update(visits.call("take")["two"].statuses)
            return statuses[200] > 0

        until(answered, 20, "the other port answers")
    assert statuses[503] > 0
    assert set(statuses) == {200, 503}


def test_the_end_does_not_wait_for_what_is_due_later(port: int) -> None:
    began = time.monotonic()
    with OpenLoop(Target("rare", [port], 0.01, 1, ["/0"])) as visits:
        until(lambda: visits.take()["rare"].statuses, 10, "the first is answered")
    assert time.monotonic() - began < 30
