"""A tally in a process of its own: it is filled, then it measures what it is told to, line by line.

It uses nothing of this repository but `counter`, so it measures the version before as well: what is
on `PYTHONPATH` counts.
"""

import base64
import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from importlib import import_module
from itertools import islice

from counter.crdt.tally import Tally

ENTRIES = 2000
"""Of one message."""
MEMBERS = [f"counter{number}~{'0' * 13}" for number in (1, 2, 3)]
HOT = 100
HOT_SUM = 16_700
"""About what a member counts of a hot video in its later runs, however many these are."""


def ids(first: int, number: int) -> list[str]:
    """Ids of 11 characters that look random, as those of large sites do."""
    return [
        base64.urlsafe_b64encode(blake2b(b"%d" % video, digest_size=8).digest())[:11].decode()
        for video in range(first, first + number)
    ]


def run(member: str, number: int) -> str:
    """The vector of a run."""
    return f"{member}.{number:023}"


def resident() -> int:
    """The bytes of this process in memory."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class One:
    """The tally, with so many videos, each counted by three members in `runs` runs."""

    def __init__(self, videos: int, runs: int) -> None:
        self.videos = videos
        self.figures: dict[str, float] = {}
        self.longest = 0.0
        empty = resident()
        with suppress(ImportError):
            # As a node does, outside its loop. The version before has no such module.
            import_module("counter.crdt.bulk")
        self.tally = Tally()
        for number, member in enumerate(MEMBERS):
            took = 0.0
            for first in range(0, videos, ENTRIES):
                # Strings of their own, as those of a message are; counts of one byte and of two.
                counts = {
                    video: 1 + (first + at) * 7919 % 300
                    for at, video in enumerate(ids(first, min(ENTRIES, videos - first)))
                }
                took += self.timed(partial(self.tally.merge, run(member, 1), counts))
            self.figures["known" if number else "unknown"] = took / videos * 1e6
        gc.collect()
        self.figures["bytes"] = (resident() - empty) / videos
        self.hot = ids(videos // 2, HOT)
        later = (runs - len(MEMBERS)) // len(MEMBERS)
        for number in range(2, 2 + later):
            # The same sums in all: larger numbers take longer, however many runs they are from.
            for member in MEMBERS:
                counts = dict.fromkeys(self.hot, HOT_SUM // later)
                self.tally.merge(run(member, number), counts)
        self.own = run(MEMBERS[0], 10**6)
        self.count = 1
        self.tally.merge(self.own, dict.fromkeys(self.hot, 1))

    def timed(self, function: Callable[[], object]) -> float:
        """The seconds of a call, which may be the longest."""
        began = time.perf_counter()
        function()
        took = time.perf_counter() - began
        self.longest = max(self.longest, took)
        return took

    def visit(self, times: int) -> Iterator[object]:
        """Visits of a hundred videos, as a node counts them: a counter, its visits, a merge."""
        for _ in range(times // HOT):
            self.count += 1
            for video in self.hot:
                self.tally.count(self.own, video)
                self.tally.visits(video)
                self.tally.merge(self.own, {video: self.count})
                yield self.tally.counter(video)

    def small(self, entries: int, *, hot: bool) -> float:
        """Microseconds an entry of small merges, of the same videos or of any."""
        number = 20_000 // entries
        batches = []
        for at in range(number):
            self.count += 1
            first = at * entries % HOT if hot else at * 7919 * entries % (self.videos - entries)
            names = self.hot[first : first + entries] if hot else ids(first, entries)
            batches.append(dict.fromkeys(names, 300 + self.count))
        began = time.process_time()
        for counts in batches:
            self.tally.merge(self.own, counts)
        return (time.process_time() - began) / sum(map(len, batches)) * 1e6

    def new(self, entries: int) -> float:
        """Microseconds an entry of small merges of videos that nobody knows yet."""
        number = 5_000 // entries
        firsts = range(self.videos, self.videos + number * entries, entries)
        batches = [dict.fromkeys(ids(first, entries), 1) for first in firsts]
        self.videos += number * entries
        began = time.process_time()
        for counts in batches:
            self.tally.merge(self.own, counts)
        return (time.process_time() - began) / sum(map(len, batches)) * 1e6

    def steps(self) -> dict[str, float]:
        """Milliseconds of the longest step of what is done with a vector of all videos."""
        longest: dict[str, float] = {}

        def step(what: str, function: Callable[[], object]) -> None:
            took = self.timed(function) * 1000
            longest[what] = max(took, longest.get(what, 0.0))

        whole = run(MEMBERS[1], 1)
        vector, empty = self.tally.vector(whole), self.tally.empty()
        step("hashes of its buckets", lambda: vector.hashes(2**14, 7))
        step("a page of a repair", lambda: vector.differing(b"", 1, 0, 48 * 1024, 350_000))
        same = vector.hashes(2**14, 1)
        step("a page in which nothing differs", lambda: vector.differing(same, 1, 0, 1, 350_000))
        step("adding it to another, in memory", lambda: empty.add(vector))
        step("adding it once more", lambda: empty.add(vector))
        step("the hashes of the sum", lambda: empty.hashes(2**14, 7))
        while not self.tally.rests(whole):
            step(
                "putting some of it to rest", lambda: self.tally.rest(whole, self.tally.most_packed)
            )
        step("reading it from rest", lambda: self.tally.vector(whole))
        step("hashes after that", lambda: self.tally.vector(whole).hashes(2**14, 7))
        return longest

    def measure(self, what: str) -> float | dict[str, float]:
        """One figure, or a table of some."""
        if what == "steps":
            return self.steps()
        if what == "visit":
            began, times = time.process_time(), 20_000
            for _ in islice(self.visit(times), times):
                pass
            return (time.process_time() - began) / times * 1e6
        if what == "longest":
            return self.longest * 1000
        kind, _, entries = what.partition(" ")
        if kind == "new":
            return self.new(int(entries))
        if kind in ("hot", "any"):
            return self.small(int(entries), hot=kind == "hot")
        return self.figures[what]


def main() -> None:
    """Fill a tally, then answer: each line of the input is a figure that is wanted."""
    one = One(int(sys.argv[1]), int(sys.argv[2]))
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(one.measure(line.strip())), flush=True)


if __name__ == "__main__":
    main()
