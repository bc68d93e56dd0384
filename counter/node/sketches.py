"""How many viewers each video had on each day: sketches, in memory lately, else in the store.

Viewers gather in memory. At most once a second what is new is joined into the sketches of their
videos, which are read from the store unless they are in memory still, and goes there with the next
flush. Only then is it told: with a report, so many at a time, as sketches of the new viewers alone.
What other nodes tell is joined and written in the same way. What did not arrive is found by digests
(see `sketch_repairs.py`).

The store is used by its own thread alone, in `batch`: whoever needs to read it leaves a job.
"""

import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from threading import Event, Lock

from counter.crdt.sketch import Sketch
from counter.crdt.sketch_bytes import HEAD, is_sound
from counter.node.names import NOTHING_BESIDE, Beside
from counter.node.turns import Turns
from counter.node.viewers import DAY, SALT, Salts, Send
from counter.protocol.messages import Report
from counter.protocol.sketch_messages import MAX_SKETCHES, PAGE_BYTES, SketchesPage, SketchesRequest
from counter.protocol.sketch_repairs import (
    NOTHING,
    Digest,
    SketchRepairs,
    changed,
    digest_of,
    names,
    pages,
)
from counter.store.contract import Store

log = logging.getLogger("counter")

_EVERY = 1.0
"""Seconds from one writing of sketches to the next."""
_AT_ONCE = 500
"""Sketches that are written with one flush, unless more than four times as many wait."""
_IN_MEMORY = 2_000
"""Sketches that stay in memory: 4 KiB each, at most."""
_MAX_WAITING = 1_000_000
"""Viewers, or bytes from other nodes, that wait to be joined."""
_MAX_UNTOLD = 20_000
"""Sketches that wait to be told. The digests find what is not told for more."""
_MAX_JOBS = 32
_ALL_EVERY = 30
"""After how many reports all days are told again."""
_PATIENCE = 2.0
"""Seconds that a reader waits for the store."""
_FACT = "viewers:"
"""How the name of a fact begins that is the digest of a day."""
_FACTS = (_FACT, SALT)

Key = tuple[int, str]
"""A day and a video."""


class _Known:
    """A sketch in memory, and the head of what the store holds of it."""

    __slots__ = ("head", "sketch")

    def __init__(self, sketch: Sketch, head: bytes) -> None:
        self.sketch = sketch
        self.head = head


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
        self.damaged = 0
        """Sketches that were not as they were written, in the store or in a message."""
        self._salts = salts
        self._keep = keep
        self._wake = wake
        self._clock = clock
        self._wall = wall
        self._lock = Lock()
        self._turns = Turns()
        self._repairs = SketchRepairs(sync_interval, max(30.0, 3 * sync_interval))
        self._known: OrderedDict[Key, _Known] = OrderedDict()
        self._own: dict[Key, set[int]] = {}
        """New viewers of this node."""
        self._others: dict[Key, list[bytes]] = {}
        """What other nodes have told."""
        self._waiting = 0
        self._changed: dict[Key, None] = {}
        """Sketches in memory that may hold more than the store does."""
        self._news: dict[Key, Sketch] = {}
        """New viewers of this node in sketches that the store does not hold yet."""
        self._untold: dict[Key, Sketch] = {}
        self._writing: dict[Key, tuple[bytes, Sketch | None]] = {}
        """The head and the news of what is being written."""
        self._digests: dict[int, Digest] = {}
        """Of what the store holds of each day."""
        self._next_digests: dict[int, Digest] = {}
        self._told_digests: dict[int, Digest] = {}
        self._reports = 0
        self._tell_all = False
        self._facts: dict[str, str] = {}
        """What the store holds of salts and digests."""
        self._next_facts: dict[str, str] = {}
        self._jobs: deque[Callable[[Store], None]] = deque()
        self._next_write = 0.0

    @property
    def in_memory(self) -> int:
        """How many sketches are in memory."""
        return len(self._known)

    # -- visits and readers

    def add(self, day: int, video: str, viewer: int) -> None:
        """A viewer of a video, an integer of 64 bits."""
        with self._lock:
            if self._waiting < _MAX_WAITING:
                self._waiting += 1
                self._own.setdefault((day, video), set()).add(viewer)

    def estimate(self, day: int, video: str) -> int | None:
        """How many viewers a video had on a day; None if the store cannot be read now."""
        key, read = (day, video), Event()
        with self._lock:
            known = self._look_up(key)
            if known is None and len(self._jobs) < 10 * _MAX_JOBS:
                self._jobs.append(lambda store: self._read_for(store, key, read))
        if known is None:
            self._wake()
            if not read.wait(_PATIENCE):
                return None
        with self._lock:
            known = self._look_up(key)
            if known is None:
                return None
            self._absorb(key, known)
            return known.sketch.estimate()

    def _look_up(self, key: Key) -> _Known | None:
        known = self._known.get(key)
        if known is not None:
            self._known.move_to_end(key)
        return known

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
            of_all = self._tell_all or self._reports % _ALL_EVERY == 0
            self._tell_all = False
            waiting = {day for day, _ in self._untold}
            days = {
                day: digest
                for day, digest in self._digests.items()
                # What is still to be told would look as if it had been missed.
                if of_all or (digest != self._told_digests.get(day) and day not in waiting)
            }
            self._told_digests |= days
            due = self._repairs.due(self._digests, self._days(), now)
        if due is not None:
            self._add_job(lambda store: self._begin(store, *due, send))
        return days, list(_parts(sketches))

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
            if self._waiting < _MAX_WAITING:
                self._waiting += len(encoded)
                self._others.setdefault((day, video), []).append(encoded)

    def _add_job(self, job: Callable[[Store], None]) -> None:
        with self._lock:
            if len(self._jobs) >= _MAX_JOBS:
                return
            self._jobs.append(job)
        self._wake()

    def _begin(self, store: Store, address: str, day: int, send: Send) -> None:
        """Ask a peer for what is missing of a day."""
        heads = store.heads(day)
        with self._lock:
            # In case it was wrong: the store may have lost something unnoticed.
            if heads:
                self._digests[day] = digest_of(heads)
            question = self._repairs.begin(address, day, heads, self._clock())
        send(address, question)

    def _answer(self, store: Store, request: SketchesRequest, address: str, send: Send) -> None:
        if not request.videos:
            send(address, names(request, store.heads(request.day)))
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
        keys = self._next_keys()
        self._next_write = now + (_EVERY if len(keys) < _AT_ONCE else _EVERY / 10)
        self._read(store, keys)
        put: dict[int, dict[str, tuple[bytes, bytes]]] = {}
        self._next_digests = dict(self._digests)
        for at, key in enumerate(keys):
            with self._lock:
                encoded = self._join(key)
            if encoded:
                put.setdefault(key[0], {})[key[1]] = encoded[:HEAD], encoded
            if at % 16 == 0:
                self._turns.take()
        return Beside(put, self._next_texts(), self._days().start)

    def _next_keys(self) -> list[Key]:
        """The sketches that are joined next."""
        with self._lock:
            keys = list({**self._changed, **self._own, **dict.fromkeys(self._others)})
        return keys[: max(_AT_ONCE, len(keys) // 4)]

    def _read(self, store: Store, keys: Iterable[Key]) -> None:
        """Read what is not in memory of these."""
        days: dict[int, list[str]] = {}
        for day, video in keys:
            if (day, video) not in self._known:
                days.setdefault(day, []).append(video)
        for day, videos in days.items():
            found = store.sketches(day, videos)
            with self._lock:
                for video in videos:
                    self._known[day, video] = self._decoded(day, video, found.get(video, b""))

    def _decoded(self, day: int, video: str, encoded: bytes) -> _Known:
        sketch = Sketch()
        if encoded:
            try:
                sketch.join(encoded)
            except ValueError as error:
                # What it held comes back from the peers: the digest of its day is another now.
                self.damaged += 1
                log.warning("sketch.damaged day=%d video=%s %s", day, video, error)
                self._changed[day, video] = None
        return _Known(sketch, encoded[:HEAD])

    def _absorb(self, key: Key, known: _Known) -> None:
        """Join what waits for a sketch."""
        own = self._own.pop(key, None)
        if own:
            self._waiting -= len(own)
            news = self._news.setdefault(key, Sketch())
            for viewer in own:
                known.sketch.add(viewer)
                news.add(viewer)
        others = self._others.pop(key, ())
        for encoded in others:
            self._waiting -= len(encoded)
            try:
                known.sketch.join(encoded)
            except ValueError as error:
                self.damaged += 1
                log.warning("sketch.refused day=%d video=%s %s", *key, error)
        if own or others:
            self._changed[key] = None

    def _join(self, key: Key) -> bytes:
        """What the store is to hold of a sketch, b"" if it does already."""
        known = self._known[key]
        self._absorb(key, known)
        encoded = known.sketch.encoded()
        if encoded[:HEAD] == known.head:
            self._changed.pop(key, None)
            self._news.pop(key, None)
            return b""
        day, video = key
        digest = self._next_digests.get(day, NOTHING)
        self._next_digests[day] = changed(digest, video, known.head, encoded)
        self._changed.pop(key, None)
        self._writing[key] = encoded[:HEAD], self._news.pop(key, None)
        return encoded

    def _next_texts(self) -> dict[str, str]:
        """The facts that change with this writing."""
        oldest = self._days().start
        self._next_digests = {d: digest for d, digest in self._next_digests.items() if d >= oldest}
        texts = {f"{_FACT}{d}": f"{n} {sum_}" for d, (n, sum_) in self._next_digests.items()}
        texts |= self._salts.facts(int(self._wall()) // DAY)
        self._next_facts = texts
        gone = dict.fromkeys(self._facts.keys() - texts.keys(), "")
        return gone | {name: text for name, text in texts.items() if self._facts.get(name) != text}

    def stored(self) -> None:
        """What `batch` has returned is in the store: it is told from now on."""
        if not self._next_facts:
            return
        with self._lock:
            self._facts, self._next_facts = self._next_facts, {}
            self._digests = self._next_digests
            for key, (head, news) in self._writing.items():
                self._known[key].head = head
                if news is not None:
                    self._tell(key, news)
            self._writing = {}
            surplus = max(0, len(self._known) - _IN_MEMORY)
            for key in list(islice(self._known, surplus)):
                if key not in self._changed:
                    del self._known[key]

    def _tell(self, key: Key, news: Sketch) -> None:
        if key in self._untold:
            self._untold[key].join(news.encoded())
        elif len(self._untold) < _MAX_UNTOLD:
            self._untold[key] = news

    def not_stored(self) -> None:
        """It may be there or not: it is to be written again."""
        with self._lock:
            for key, (_, news) in self._writing.items():
                self._changed[key] = None
                if news is not None:
                    later = self._news.setdefault(key, news)
                    if later is not news:
                        later.join(news.encoded())
            self._writing, self._next_facts = {}, {}
            self._next_write = 0.0

    def forgot(self, facts: Mapping[str, str]) -> None:
        """The store has lost something: what is in memory is joined into what it holds now."""
        self.not_stored()
        with self._lock:
            for key, known in self._known.items():
                self._others.setdefault(key, []).append(known.sketch.encoded())
            self._known.clear()
            self._changed.clear()
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
