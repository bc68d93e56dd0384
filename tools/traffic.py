"""`make traffic`: sends visits to the cluster that `make run` or docker-compose started.

Zipf over 200 videos: the first is visited most, the second half as often, and so on. The site's own
videos, those with a clip, come first.
"""

import argparse
import http.client
import itertools
import json
import math
import random
import signal
import statistics
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator

from lab.clients.open_loop import OpenLoop, Outcome, Target
from lab.servers import ROOT, get
from lab.terminal import foreground, say, show
from tools.run import BALANCER_PORT, NODE_PORTS

VIDEOS = 200
SUBJECTS = ("cats", "dogs", "trains", "rain", "chess", "bread", "drums", "maps", "bees", "tea")
KINDS = (
    *("live", "trailer", "tutorial", "unboxing", "interview", "review", "recipe", "vlog"),
    *("timelapse", "bloopers", "concert", "lecture", "karaoke", "speedrun", "remix", "podcast"),
    *("premiere", "highlights", "documentary", "compilation"),
)
TIMEOUT = 3.0
"""Seconds: short, so that Ctrl-C does not wait long for an answer that never comes."""


class Progress:
    """How visits were answered so far."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self._took: deque[float] = deque(maxlen=1000)

    def add(self, outcome: Outcome) -> None:
        """Add what came since the last time."""
        for status, times in outcome.statuses.items():
            self.answers[{200: "counted", 503: "refused"}.get(status, "unanswered")] += times
        self._took += outcome.took

    def line(self, lately: float) -> str:
        """Return the progress: visits so far, rate lately, how they were answered."""
        p50 = f"{statistics.median(self._took):.1f} ms" if self._took else "-"
        return (
            f"{self.answers.total():,} sent, {lately:.0f}/s, {self.answers['refused']:,} refused,"
            f" {self.answers['unanswered']:,} unanswered, p50 {p50}"
        )


def zipf() -> Iterator[str]:
    """Paths of videos without end: each with a clip once, then all, chosen at random."""
    clips = [clip["id"] for clip in json.loads((ROOT / "static/clips/clips.json").read_bytes())]
    named = [f"{subject}-{kind}" for kind in KINDS for subject in SUBJECTS]
    videos = [*clips, "cats", *named][:VIDEOS]
    weights = list(itertools.accumulate(1 / rank for rank in range(1, VIDEOS + 1)))
    for video in clips:
        yield f"/video/{video}"
    while True:
        (video,) = random.choices(videos, cum_weights=weights)
        yield f"/video/{video}"


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
    count = min(64, max(4, int(rate / 25)))
    # What the cluster could not take is not made up for in a burst.
    target = Target("visits", ports, rate, count, zipf(), make_up=1, timeout=TIMEOUT)
    progress = Progress()
    rewrite = sys.stdout.isatty()
    began = before_at = time.monotonic()
    before, left = 0, seconds or math.inf
    with OpenLoop(target) as visits:
        # Into a file or pipe a line now and then is enough.
        while not stop.wait(min(0.5 if rewrite else 5.0, left)):
            progress.add(visits.take()["visits"])
            now, sent = time.monotonic(), progress.answers.total()
            line = progress.line((sent - before) / (now - before_at))
            show(f"\r\x1b[K{line}" if rewrite else f"{line}\n")
            before, before_at = sent, now
            left = began + seconds - now if seconds else math.inf
            if left <= 0:
                break
        took = time.monotonic() - began
        visits.finish()
        progress.add(visits.take()["visits"])
    show("\r\x1b[K" if rewrite else "")
    say(f"done: {progress.line(progress.answers.total() / took)}, in {took:.1f} s")
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
