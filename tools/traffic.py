"""`make traffic`: sends visits to the cluster that `make run` or docker-compose started.

Zipf over 200 videos: the first is visited most, the second half as often, and so on.
"""

import argparse
import http.client
import itertools
import math
import random
import signal
import statistics
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence

from lab.servers import get
from lab.terminal import foreground, say, show
from tools.run import BALANCER_PORT, NODE_PORTS

VIDEOS = 200
SUBJECTS = ("cats", "dogs", "trains", "rain", "chess", "bread", "drums", "maps", "bees", "tea")
KINDS = (
    *("live", "trailer", "tutorial", "unboxing", "interview", "review", "recipe", "vlog"),
    *("timelapse", "bloopers", "concert", "lecture", "karaoke", "speedrun", "remix", "podcast"),
    *("premiere", "highlights", "documentary", "compilation"),
)
# Short, so that Ctrl-C does not wait long for an answer that never comes.
TIMEOUT = 3.0


class Traffic:
    """Sends visits from several threads at a common pace and counts the answers."""

    def __init__(self, ports: Sequence[int], rate: float) -> None:
        self.rate = rate
        self.stop = threading.Event()
        self.answers: Counter[str] = Counter()
        self.latencies: deque[float] = deque(maxlen=1000)
        self.began = time.monotonic()
        self._ports = list(ports)
        self._slots = itertools.count()
        self._lock = threading.Lock()
        named = [f"{subject}-{kind}" for kind in KINDS for subject in SUBJECTS]
        self._videos = ["cats", *named][:VIDEOS]
        self._weights = list(itertools.accumulate(1 / rank for rank in range(1, VIDEOS + 1)))

    def send(self, first: int) -> None:
        """Send visits until told to stop, beginning at the port with index `first`."""
        turn = first
        connection: http.client.HTTPConnection | None = None
        while self._await_slot():
            if connection is None:
                port = self._ports[turn % len(self._ports)]
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
                turn += 1
            (video,) = random.choices(self._videos, cum_weights=self._weights)
            answer, keep = self._visit(connection, video)
            with self._lock:
                self.answers[answer] += 1
            if not keep:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def _await_slot(self) -> bool:
        with self._lock:
            due = self.began + next(self._slots) / self.rate
            late = time.monotonic() - due
            if late > 1:
                # What the cluster could not take is not made up for in a burst.
                self.began += late
        return not self.stop.wait(max(0.0, -late))

    def _visit(self, connection: http.client.HTTPConnection, video: str) -> tuple[str, bool]:
        sent_at = time.monotonic()
        try:
            connection.request("GET", f"/video/{video}", headers={"Accept": "application/json"})
            response = connection.getresponse()
            response.read()
        except ConnectionRefusedError:
            return "refused", False
        except (OSError, http.client.HTTPException):
            return "unanswered", False
        if response.status == 503:
            # On a single node's port the next visit goes to the next node.
            return "refused", False
        if response.status != 200:
            return "unanswered", False
        self.latencies.append(time.monotonic() - sent_at)
        return "counted", not response.will_close

    def line(self, lately: float) -> str:
        """Return the progress: visits so far, rate lately, how they were answered."""
        with self._lock:
            answers = Counter(self.answers)
            latencies = list(self.latencies)
        p50 = f"{statistics.median(latencies) * 1000:.1f} ms" if latencies else "-"
        return (
            f"{answers.total():,} sent, {lately:.0f}/s, {answers['refused']:,} refused,"
            f" {answers['unanswered']:,} unanswered, p50 {p50}"
        )


def main() -> int:
    """Send until the time is over or Ctrl-C; return the exit status."""
    parser = argparse.ArgumentParser(prog="make traffic", description=__doc__)
    parser.add_argument("--rate", type=float, default=200, help="visits a second (200)")
    parser.add_argument("--seconds", type=float, default=60, help="how long (60); 0: until Ctrl-C")
    options = parser.parse_args()
    if not 0 < options.rate <= 100_000 or options.seconds < 0:
        say(
            f"RATE={options.rate:g} SECONDS={options.seconds:g}: RATE is 1 to 100000 visits a"
            " second, SECONDS is 0 (until Ctrl-C) or more"
        )
        return 2
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())
    with foreground():
        return _run(options.rate, options.seconds, stop)


def _run(rate: float, seconds: float, stop: threading.Event) -> int:
    ports = _answering()
    if not ports:
        say(
            f"nothing answers on 127.0.0.1:{BALANCER_PORT} or on the nodes' ports; start a"
            " cluster first: make run"
        )
        return 1
    where = "nginx" if ports == [BALANCER_PORT] else "the nodes directly"
    until = f"for {seconds:g} s" if seconds else "until Ctrl-C"
    say(f"{rate:g} visits a second through {where} {until}; Ctrl-C stops")
    traffic = Traffic(ports, rate)
    count = min(64, max(4, int(rate / 25)))
    threads = [
        threading.Thread(target=traffic.send, args=(index,), name=f"visitor {index}", daemon=True)
        for index in range(count)
    ]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    before, before_at, left = 0, began, seconds or math.inf
    rewrite = sys.stdout.isatty()
    # Into a file or pipe a line now and then is enough.
    while not stop.wait(min(0.5 if rewrite else 5.0, left)):
        now, sent = time.monotonic(), traffic.answers.total()
        line = traffic.line((sent - before) / (now - before_at))
        show(f"\r\x1b[K{line}" if rewrite else f"{line}\n")
        before, before_at = sent, now
        left = began + seconds - now if seconds else math.inf
        if left <= 0:
            break
    traffic.stop.set()
    took = time.monotonic() - began
    for thread in threads:
        thread.join(TIMEOUT + 1)
    show("\r\x1b[K" if rewrite else "")
    say(f"done: {traffic.line(traffic.answers.total() / took)}, in {took:.1f} s")
    return 0


def _answering() -> list[int]:
    for group in ([BALANCER_PORT], list(NODE_PORTS.values())):
        answering = [port for port in group if _answers(port)]
        if answering:
            return answering
    return []


def _answers(port: int) -> bool:
    try:
        return get(port, "/healthz") == 200
    except (OSError, http.client.HTTPException):
        return False


if __name__ == "__main__":
    sys.exit(main())
