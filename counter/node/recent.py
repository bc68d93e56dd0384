"""Who has visited lately: within the window, the same viewer counts once on a video.

A viewer here is a hash (see `viewers.py`) that is of one video and one day already. It is kept in
memory only, with the time of the visit that counted; visits that do not count, because they are
repeats, do not lengthen the window. Nodes tell each other which visits they have counted, with the
age of each, so no clock of another node is needed. Of two times the later one holds: a join. What
did not arrive is asked for: see `protocol/seen_repairs.py`.
"""

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from struct import Struct
from threading import Lock

from counter.protocol.seen_messages import SeenFrom, SeenPage, SeenRequest
from counter.protocol.seen_repairs import SeenRepairs
from counter.protocol.sketch_messages import MAX_SEEN, SEEN_BYTES

TICKS = 10
"""A second has so many: times are kept in these."""
_MOST = 1_000_000
_MAX_UNTOLD = 200_000
_OLDEST = 2**16 - 1
_A_STEP = 20_000
"""How many are forgotten in one step, in some 5 ms."""
_PARTS = 64
"""By the first 6 bits of a viewer: a dict goes by the last ones itself."""
_told = Struct("<QH")


class Recent:
    """The viewers of the last `window` seconds, at most so many. Any thread may call any method.

    An entry takes 115 bytes, or 160 once others were forgotten for it, so there are 160 MB of them
    at most. The oldest are forgotten for more; then a repeat may count. `writer` is a random number
    of this process, and `silence` how many seconds a peer that says nothing is taken to be gone.
    """

    def __init__(
        self, window: float, most: int = _MOST, *, writer: int = 0, silence: float = 3.0
    ) -> None:
        self._window = round(window * TICKS)
        self._most = most
        self._times: list[dict[int, int]] = [{} for _ in range(_PARTS)]
        """When the visit of each viewer counted, in ticks: in parts, as a large dict takes 40 ms
        when it grows."""
        self._held = 0
        self._order: deque[int] = deque()
        """The same viewers, the oldest first, or nearly so; one may be there more than once."""
        self._since: deque[int] = deque()
        """The tick of each place in that order. It holds if it is still the viewer's time."""
        self._untold: deque[int] = deque(maxlen=_MAX_UNTOLD)
        self._tick = 0
        self._repairs = SeenRepairs(writer, self._window, most, silence)
        self._lock = Lock()
        self.forgotten_early = 0
        """How many were forgotten within the window, because there were too many."""

    def __len__(self) -> int:
        """How many viewers are held."""
        return self._held

    def take(self, viewer: int, under: Collection[int], now: float) -> bool:
        """Whether a visit may count: unless one has within the window, this one takes its place.

        `under` are the viewer's hashes of the days beside this one. If the visit is not counted
        after all, `give_back` must follow, and `tell` otherwise.
        """
        with self._lock:
            tick = self._now(now)
            if self._is_recent(viewer, tick):
                return False
            if under and any(self._is_recent(one, tick) for one in under):
                return False
            self._put(viewer, tick, tick)
            return True

    def has(self, viewer: int, under: Collection[int], now: float) -> bool:
        """Whether a visit would be a repeat. It changes nothing."""
        with self._lock:
            tick = self._now(now)
            return any(self._is_recent(one, tick) for one in (viewer, *under))

    def give_back(self, viewer: int) -> None:
        """Forget a visit that was refused: it starts no window."""
        with self._lock:
            if self._of(viewer).pop(viewer, None) is not None:
                self._held -= 1
            if len(self._order) > 2 * self._held + 1_000:
                places = zip(self._order, self._since, strict=True)
                held = [(one, at) for one, at in places if self._of(one).get(one) == at]
                self._order, self._since = deque(v for v, _ in held), deque(at for _, at in held)

    def forget(self, now: float) -> None:
        """Forget those whose window is over; many, but not all at once."""
        with self._lock:
            tick = self._now(now)
            self._forget(tick, _A_STEP)
            self._repairs.forget(tick)

    def tell(self, viewer: int) -> None:
        """The visit has counted: the other nodes are told of it."""
        self._untold.append(viewer)

    def told(self, now: float) -> bytes:
        """What a message says of viewers that were not told yet; b"" if there are none."""
        if not self._untold:
            return b""
        with self._lock:
            tick = self._now(now)
            parts: list[bytes] = []
            while self._untold and len(parts) < MAX_SEEN:
                viewer = self._untold.popleft()
                if (at := self._of(viewer).get(viewer)) is not None:
                    parts.append(_told.pack(viewer, min(tick - at, _OLDEST)))
                    self._repairs.tell(viewer, at)
        return b"".join(parts)

    def told_from(self, told: bytes) -> SeenFrom:
        """Where what was told last begins, as a message says it with that."""
        return self._repairs.writer, self._repairs.place - len(told) // SEEN_BYTES

    def heard(self, told: bytes, now: float, since: SeenFrom | None = None) -> None:
        """Take in what another node has told; what follows the last whole entry is left out."""
        with self._lock:
            tick = self._now(now)
            seen = [(viewer, tick - age) for viewer, age in _entries(told)]
            self._join(seen, tick)
            if since is not None:
                self._repairs.hear(*since, seen)

    def _join(self, seen: list[tuple[int, int]], tick: int) -> None:
        for viewer, at in seen:
            if tick - at < self._window and at > self._of(viewer).get(viewer, at - 1):
                self._put(viewer, at, tick)

    # -- what was missed

    def places(self) -> dict[int, int]:
        """What a report says: how far this node knows each writer."""
        with self._lock:
            return self._repairs.told()

    def heard_places(
        self, sender: str, address: str, places: Mapping[int, int], now: float
    ) -> SeenRequest | None:
        """Take in what a report of a peer says; return what is to be asked of it."""
        with self._lock:
            return self._repairs.heard(sender, address, places, now)

    def answer(self, request: SeenRequest, now: float) -> SeenPage | None:
        """What a peer has asked for; None if there is nothing."""
        with self._lock:
            return self._repairs.answer(request, self._now(now))

    def answered(self, page: SeenPage, address: str, now: float) -> SeenRequest | None:
        """Take in an answer, if it was asked for; return the next question."""
        with self._lock:
            tick = self._now(now)
            seen = self._repairs.answered(page, address, tick)
            if seen is None:
                return None
            self._join(seen, tick)
            return self._repairs.ask_on(now)

    def _now(self, now: float) -> int:
        tick = int(now * TICKS)
        if tick != self._tick:
            # One integer for all entries of a tick saves 30 bytes for each.
            self._tick = tick
        return self._tick

    def _of(self, viewer: int) -> dict[int, int]:
        return self._times[viewer >> 58]

    def _remove(self, viewer: int) -> None:
        del self._of(viewer)[viewer]
        self._held -= 1

    def _is_recent(self, viewer: int, tick: int) -> bool:
        at = self._of(viewer).get(viewer)
        return at is not None and tick - at < self._window

    def _put(self, viewer: int, at: int, tick: int) -> None:
        part = self._of(viewer)
        if viewer not in part:
            self._held += 1
        part[viewer] = at
        self._order.append(viewer)
        self._since.append(at)
        # Two at a time: they become fewer where there is less to do.
        self._forget(tick, 2)
        while self._held > self._most:
            oldest, since = self._order.popleft(), self._since.popleft()
            if self._of(oldest).get(oldest) == since:
                self._remove(oldest)
                self.forgotten_early += 1

    def _forget(self, tick: int, most: int) -> None:
        """Take the oldest out, up to so many, as far as their windows are over."""
        for _ in range(min(most, len(self._order))):
            oldest, since = self._order[0], self._since[0]
            holds = self._of(oldest).get(oldest) == since
            if holds and tick - since < self._window:
                return
            if holds:
                self._remove(oldest)
            self._order.popleft()
            self._since.popleft()


def _entries(told: bytes) -> Iterator[tuple[int, int]]:
    return _told.iter_unpack(told[: len(told) // SEEN_BYTES * SEEN_BYTES])
