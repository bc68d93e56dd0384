"""How many viewers each video had on each day: sketches, in memory lately, else in the store.

Viewers gather in memory. At most once a second what is new is joined into the sketches of their
videos, which are read from the store unless they are in memory still, and goes there with the next
flush. Only then is it told: with a report, so many at a time, as sketches of the new viewers alone.
What other nodes tell is joined and written in the same way. What did not arrive is found by digests
(see `sketch_repairs.py`).

The store is used by its own thread alone, in `batch`: whoever needs to read it leaves a job.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from math import inf
from threading import Event, Lock

from counter.crdt.sketch import Sketch
from counter.crdt.sketch_bytes import HEAD, is_sound
from counter.node.names import NOTHING_BESIDE, Beside
from counter.node.salts import DAY, SALT, Salts
from counter.node.sketch_cache import Key, SketchCache
from counter.node.turns import Turns
from counter.protocol.messages import Body, Report
from counter.protocol.sketch_messages import MAX_SKETCHES, PAGE_BYTES, SketchesPage, SketchesRequest
from counter.protocol.sketch_repairs import (
    NOTHING,
    Digest,
    SketchRepairs,
    bucket_hashes,
    changed,
    digest_of,
    names,
    pages,
)
from counter.store.contract import Store

_EVERY = 1.0
"""Seconds from one writing of sketches to the next."""
_AT_ONCE = 500
"""Sketches that are written with one flush, unless more than four times as many wait."""
_MAX_UNTOLD = 20_000
"""Sketches that wait to be told. The digests find what is not told for more."""
_MAX_JOBS, _MAX_READERS = 32, 320
_ALL_EVERY = 30
"""After how many reports all days are told again."""
_TELL_TIMES = 4
"""How often a digest is told that has changed."""
_PATIENCE = 2.0
"""Seconds that a reader waits for the store."""
_FACT = "viewers:"
"""How the name of a fact begins that is the digest of a day."""
_FACTS = (_FACT, SALT)

Send = Callable[[str, Body], None]
"""Sends a message to an address."""


class Sketches:
    """The sketches of a node, for `keep` days. Any thread may call any method, but `opened`,
    `batch`, `stored`, `not_stored` and `forgot`, which belong to the store's.
    """

    def __init__(
        self,
        salts: Salts,
        *,
        keep: int,
        sync_interval: float,
        wake: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._salts = salts
        self._keep = keep
        self._wake = wake
        self._clock = clock
        self._wall = wall
        self._lock = Lock()
        self._turns = Turns()
        self._repairs = SketchRepairs(sync_interval, max(30.0, 3 * sync_interval))
        self._cache = SketchCache()
        self._untold: dict[Key, Sketch] = {}
        self._digests: dict[int, Digest] = {}
        """Of what the store holds of each day."""
        self._next_digests: dict[int, Digest] = {}
        self._told_digests: dict[int, tuple[Digest, int]] = {}
        """What was told last of a day, and how often."""
        self._reports = 0
        self._tell_all = False
        self._facts: dict[str, str] = {}
        """What the store holds of salts and digests."""
        self._next_facts: dict[str, str] = {}
        self._jobs: deque[Callable[[Store], None]] = deque()
        self._next_write = 0.0
        self._at_end = False

    @property
    def in_memory(self) -> int:
        """How many sketches are in memory."""
        return len(self._cache)

    @property
    def damaged(self) -> int:
        """How many sketches were not as they were written, in the store or in a message."""
        return self._cache.damaged

    # -- visits and readers

    def add(self, day: int, video: str, viewer: int) -> None:
        """A viewer of a video, an integer of 64 bits."""
        with self._lock:
            self._cache.add((day, video), viewer)

    def estimate(self, day: int, video: str) -> int | None:
        """How many viewers a video had on a day; None if the store cannot be read now."""
        key, read = (day, video), Event()
        with self._lock:
            estimate = self._cache.estimate(key)
            if estimate is not None:
                return estimate
            if len(self._jobs) >= _MAX_READERS:
                return None
            self._jobs.append(lambda store: self._read_for(store, key, read))
        self._wake()
        read.wait(_PATIENCE)
        with self._lock:
            return self._cache.estimate(key)

    def _read_for(self, store: Store, key: Key, read: Event) -> None:
        try:
            self._read(store, [key])
        finally:
            read.set()

    # -- the other nodes

    def told(
        self, now: float, send: Send
    ) -> tuple[dict[int, Digest], list[dict[int, dict[str, bytes]]]]:
        """What a report says: digests of days, and sketches that were not told yet, in parts.

        A peer is asked for what was missed, if that is due; `send` is called by another thread.
        """
        with self._lock:
            some = list(islice(self._untold, MAX_SKETCHES))
            sketches = {key: self._untold.pop(key).encoded() for key in some}
            self._reports += 1
            days = self._digests_to_tell()
            due = self._repairs.due(self._digests, self._days(), now)
        if due is not None:
            self._add_job(lambda store: self._begin(store, *due, send))
        return days, list(_parts(sketches))

    def _digests_to_tell(self) -> dict[int, Digest]:
        """The digests of days that changed lately, as a report may be lost; now and then of all."""
        of_all, to_new, self._tell_all = self._reports % _ALL_EVERY == 0, self._tell_all, False
        waiting = {day for day, _ in self._untold}
        days = {}
        for day, digest in self._digests.items():
            before, times = self._told_digests.get(day, (NOTHING, 0))
            times = times + 1 if before == digest else 1
            # What is still to be told would look as if it had been missed.
            if of_all or ((to_new or times <= _TELL_TIMES) and day not in waiting):
                days[day] = digest
                self._told_digests[day] = digest, times
        return days

    def heard(self, sender: str, address: str, report: Report, now: float) -> None:
        """Take in what a report says of sketches."""
        with self._lock:
            is_new = self._repairs.hear(sender, address, report.days_of_sketches, now)
            self._tell_all = self._tell_all or is_new
            for day, sketches in report.sketches.items():
                self._take_in(day, sketches)

    def asked(self, request: SketchesRequest, address: str, send: Send) -> None:
        """Answer a question: the store's thread does, when it has read what that takes."""
        if address:
            self._add_job(lambda store: self._answer(store, request, address, send))

    def answered(self, page: SketchesPage, address: str, send: Send, now: float) -> None:
        """Take in an answer, if it was awaited, and ask on."""
        with self._lock:
            if not self._repairs.was_asked(page, address):
                return
            self._take_in(page.day, page.sketches)
            question = self._repairs.heard(page, address, now)
        if question is not None:
            self._add_job(lambda _: send(address, question))

    def _take_in(self, day: int, sketches: Mapping[str, bytes]) -> None:
        if day not in self._days():
            return
        for video, encoded in sketches.items():
            self._cache.hear((day, video), encoded)

    def _add_job(self, job: Callable[[Store], None]) -> None:
        with self._lock:
            if len(self._jobs) >= _MAX_JOBS:
                return
            self._jobs.append(job)
        self._wake()

    def _begin(self, store: Store, address: str, day: int, send: Send) -> None:
        """Ask a peer for what is missing of a day."""
        heads = store.heads(day)
        digest = digest_of(heads, self._turns.take)
        hashes = bucket_hashes(heads, pause=self._turns.take)
        with self._lock:
            # In case it was wrong: the store may have lost something unnoticed.
            if heads:
                self._digests[day] = digest
            question = self._repairs.begin(address, day, heads, hashes, self._clock())
        send(address, question)

    def _answer(self, store: Store, request: SketchesRequest, address: str, send: Send) -> None:
        if not request.videos:
            send(address, names(request, store.heads(request.day), self._turns.take))
            return
        found = store.sketches(request.day, request.videos)
        sound = {video: encoded for video, encoded in found.items() if is_sound(encoded)}
        # One message holds what is asked for at once; who asks for more gets the first of it.
        page = next(iter(pages(sound)), {})
        send(address, SketchesPage(request.day, {}, "", page))

    def _days(self) -> range:
        """The days that are kept; tomorrow may have begun elsewhere."""
        today = int(self._wall()) // DAY
        return range(today - self._keep + 1, today + 2)

    # -- the store

    def opened(self, facts: Mapping[str, str]) -> None:
        """Take over what the store holds of salts and digests."""
        self._salts.opened(facts)
        self._facts = {name: text for name, text in facts.items() if name.startswith(_FACTS)}
        self._digests = {}
        for name, text in self._facts.items():
            day, count, sum_ = name.removeprefix(_FACT), *(*text.split(" "), "")[:2]
            if name.startswith(_FACT) and day.isdigit() and count.isdigit() and sum_.isdigit():
                self._digests[int(day)] = int(count), int(sum_)

    def batch(self, store: Store) -> Beside:
        """Do the jobs that wait for the store, and return what is to be written now."""
        while self._jobs:
            self._jobs.popleft()(store)
        now = self._clock()
        if now < self._next_write:
            return NOTHING_BESIDE
        with self._lock:
            self._cache.shrink()
            waiting = self._cache.waiting(inf if self._at_end else now)
        keys = waiting if self._at_end else waiting[: max(_AT_ONCE, len(waiting) // 4)]
        self._next_write = now + (_EVERY if len(keys) == len(waiting) else _EVERY / 10)
        self._read(store, keys)
        put: dict[int, dict[str, tuple[bytes, bytes]]] = {}
        self._next_digests = dict(self._digests)
        for at, key in enumerate(keys):
            day, video = key
            with self._lock:
                written = self._cache.write(key, now)
            if written is not None:
                encoded, before = written
                digest = self._next_digests.get(day, NOTHING)
                self._next_digests[day] = changed(digest, video, before, encoded)
                put.setdefault(day, {})[video] = encoded[:HEAD], encoded
            if at % 16 == 0:
                self._turns.take()
        return Beside(put, self._next_texts(), self._days().start)

    def _read(self, store: Store, keys: Iterable[Key]) -> None:
        """Read what is not in memory of these."""
        days: dict[int, list[str]] = {}
        for day, video in keys:
            if (day, video) not in self._cache:
                days.setdefault(day, []).append(video)
        for day, videos in days.items():
            found = store.sketches(day, videos)
            with self._lock:
                for video in videos:
                    self._cache.read((day, video), found.get(video, b""))

    def _next_texts(self) -> dict[str, str]:
        """The facts that change with this writing."""
        oldest = self._days().start
        self._next_digests = {d: digest for d, digest in self._next_digests.items() if d >= oldest}
        texts = {f"{_FACT}{d}": f"{n} {sum_}" for d, (n, sum_) in self._next_digests.items()}
        texts |= self._salts.facts(int(self._wall()) // DAY)
        self._next_facts = texts
        gone = dict.fromkeys(self._facts.keys() - texts.keys(), "")
        return gone | {name: text for name, text in texts.items() if self._facts.get(name) != text}

    def write_now(self) -> None:
        """The next `batch` has all that waits, as it is the last one."""
        self._next_write, self._at_end = 0.0, True

    def stored(self) -> None:
        """What `batch` has returned is in the store: it is told from now on."""
        if not self._next_facts:
            return
        with self._lock:
            self._facts, self._next_facts = self._next_facts, {}
            self._digests = self._next_digests
            for key, news in self._cache.stored():
                if key in self._untold:
                    self._untold[key].join(news.encoded())
                elif len(self._untold) < _MAX_UNTOLD:
                    self._untold[key] = news

    def not_stored(self) -> None:
        """It may be there or not: it is to be written again."""
        with self._lock:
            self._cache.not_stored()
            self._next_facts = {}
            self._next_write = 0.0

    def forgot(self, facts: Mapping[str, str]) -> None:
        """The store has lost something: what is in memory is joined into what it holds now."""
        self.not_stored()
        with self._lock:
            self._cache.forgot()
            self._told_digests = {}
            self.opened(facts)


def _parts(sketches: Mapping[Key, bytes]) -> Iterator[dict[int, dict[str, bytes]]]:
    """Sketches by day, in parts that fit into a message each."""
    part: dict[int, dict[str, bytes]] = {}
    size = 0
    for (day, video), encoded in sketches.items():
        size += len(video) + len(encoded)
        if part and size > PAGE_BYTES:
            yield part
            part, size = {}, len(video) + len(encoded)
        part.setdefault(day, {})[video] = encoded
    if part:
        yield part
