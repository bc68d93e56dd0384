"""The sketches that are in memory, and what waits to be joined into them.

The first part of it belongs to visits: new viewers and what other nodes have told wait beside the
sketches, so that nobody waits for the store.
"""

from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice

from counter.crdt.sketch import Sketch
from counter.crdt.sketch_bytes import HEAD, IDENTITY
from counter.node.warn import Warn

_IN_MEMORY = 2_000
"""Sketches that stay in memory: 4 KiB each, at most."""
_LARGE, _LARGE_EVERY = 2_000, 3.0
"""Bytes of a sketch that takes 0.1 ms to encode, and the seconds between two writings of it."""
_MAX_WAITING = 1_000_000
"""Viewers, or bytes from other nodes, that wait to be joined."""

Key = tuple[int, str]
"""A day and a video."""


class _Known:
    """A sketch in memory, the head of what the store holds of it, and when it is written again."""

    __slots__ = ("head", "next", "sketch")

    def __init__(self, sketch: Sketch, head: bytes) -> None:
        self.sketch = sketch
        self.head = head
        self.next = 0.0


class SketchCache:
    """Sketches by day and video, the latest used. Not thread-safe."""

    def __init__(self) -> None:
        self.damaged = 0
        """Sketches that were not as they were written, in the store or in a message."""
        self._warn = Warn()
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
        self._writing: dict[Key, tuple[bytes, Sketch | None]] = {}
        """The head and the news of what is being written."""

    def __len__(self) -> int:
        """How many sketches are in memory."""
        return len(self._known)

    def __contains__(self, key: Key) -> bool:
        return key in self._known

    def add(self, key: Key, viewer: int) -> None:
        """A new viewer, who may be known."""
        if self._waiting < _MAX_WAITING:
            self._waiting += 1
            self._own.setdefault(key, set()).add(viewer)

    def hear(self, key: Key, encoded: bytes) -> None:
        """What another node holds of a sketch, or what is new in its."""
        if self._waiting < _MAX_WAITING:
            self._waiting += len(encoded)
            self._others.setdefault(key, []).append(encoded)

    def waiting(self, now: float) -> list[Key]:
        """The sketches that the store may not hold as they are here, and that are due."""
        waiting: Iterable[Key] = {**self._changed, **self._own, **self._others}
        known = self._known
        return [key for key in waiting if key not in known or known[key].next <= now]

    def read(self, key: Key, encoded: bytes) -> None:
        """What the store holds of a sketch that is not in memory, b"" for nothing."""
        sketch = Sketch()
        if encoded:
            try:
                sketch.join(encoded)
            except ValueError as error:
                # What it held comes back from the peers: the digest of its day is another now.
                self.damaged += 1
                self._warn("sketch.damaged", f"day={key[0]} video={key[1]} {error}")
                self._changed[key] = None
        self._known[key] = _Known(sketch, encoded[:HEAD])

    def estimate(self, key: Key) -> int | None:
        """How many viewers a video had on a day, None if that is not in memory."""
        known = self._known.get(key)
        if known is None:
            return None
        self._known.move_to_end(key)
        self._join(key, known)
        return known.sketch.estimate()

    def _join(self, key: Key, known: _Known) -> None:
        """Join what waits for a sketch."""
        own, others = self._own.pop(key, ()), self._others.pop(key, ())
        if own:
            self._waiting -= len(own)
            news = self._news.setdefault(key, Sketch())
            for viewer in own:
                known.sketch.add(viewer)
                news.add(viewer)
        for encoded in others:
            self._waiting -= len(encoded)
            try:
                known.sketch.join(encoded)
            except ValueError as error:
                self.damaged += 1
                self._warn("sketch.refused", f"day={key[0]} video={key[1]} {error}")
        if own or others:
            self._changed[key] = None

    def write(self, key: Key, now: float) -> tuple[bytes, bytes] | None:
        """What the store is to hold of a sketch in memory, and the head of what it does now.

        None if that is the same. It ends with `stored` or `not_stored`.
        """
        known = self._known[key]
        self._join(key, known)
        encoded = known.sketch.encoded()
        known.next = now + _LARGE_EVERY if len(encoded) > _LARGE else now
        self._changed.pop(key, None)
        news = self._news.pop(key, None)
        # Its bytes may come in another order.
        if encoded[:IDENTITY] == known.head[:IDENTITY]:
            return None
        self._writing[key] = encoded[:HEAD], news
        return encoded, known.head

    def stored(self) -> Iterable[tuple[Key, Sketch]]:
        """The store holds what was written. Returns what is new in it, of this node's viewers."""
        written, self._writing = self._writing, {}
        for key, (head, _) in written.items():
            self._known[key].head = head
        return [(key, news) for key, (_, news) in written.items() if news is not None]

    def not_stored(self) -> None:
        """The store may hold what was written or not: it is to be written again."""
        for key, (_, news) in self._writing.items():
            self._changed[key] = None
            self._known[key].next = 0.0
            if news is not None and (later := self._news.setdefault(key, news)) is not news:
                later.join(news.encoded())
        self._writing = {}

    def forgot(self) -> None:
        """The store has lost something: what is in memory waits to be joined with what it holds."""
        self.not_stored()
        for key, known in self._known.items():
            self._others.setdefault(key, []).append(encoded := known.sketch.encoded())
            self._waiting += len(encoded)
        self._known.clear()
        self._changed.clear()

    def shrink(self) -> None:
        """Leave to the store what was not used lately. Not while anything is being written."""
        for key in list(islice(self._known, max(0, len(self._known) - _IN_MEMORY))):
            if key not in self._changed:
                del self._known[key]
