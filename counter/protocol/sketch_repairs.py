"""Finding sketches that were missed: by a digest a day, then by buckets, then by name.

A node tells how many sketches its store holds of a day, and the sum of their identities. Where a
peer's sum is another and stays so, or the peer is heard for the first time, it is asked: for the
names and identities of the sketches in the buckets that differ, then for those sketches that have
another identity here. So only what differs travels. While viewers come, the sums of two nodes
differ most of the time, because one of them is a moment ahead; then a day is compared now and then.

One day is asked for at a time, of one peer, page by page.

Pure: no I/O; times are in seconds of the caller's clock, which never goes back.
"""

from binascii import crc32
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from counter.crdt.sketch_bytes import identity_of
from counter.protocol.sketch_messages import (
    MAX_BUCKETS,
    MAX_SKETCHES,
    PAGE_BYTES,
    SketchesPage,
    SketchesRequest,
)

SETTLE = 2.5
"""Seconds in which what was told is in the receiver's store, and in its next report."""
LIVE = 10.0
"""Seconds after which a day is compared that changes all the time."""
PATIENCE = 5.0
"""Seconds after which an answer is no longer awaited."""
ASKED_AT_ONCE = PAGE_BYTES // 2300
_MAX_PEERS = 200
_DIGESTS = 2**63

Digest = tuple[int, int]
"""Of a day: how many sketches, and the sum of their entries."""
NOTHING: Digest = (0, 0)
Pause = Callable[[], None]
"""Lets others have their turn."""


def entry(video: str, encoded: bytes) -> int:
    """What a sketch, or only its head, adds to the digest of its day; 0 if there is none."""
    return _entry(video, identity_of(encoded) >> 1) if encoded else 0


def _entry(video: str, identity: int) -> int:
    return (identity ^ crc32(video.encode()) << 31) % _DIGESTS


def changed(digest: Digest, video: str, before: bytes, after: bytes) -> Digest:
    """The digest of a day in which this sketch was replaced; b"" stands for none."""
    count, sum_ = digest
    count += bool(after) - bool(before)
    return count, (sum_ + entry(video, after) - entry(video, before)) % _DIGESTS


def _never() -> None:
    pass


def digest_of(heads: Mapping[str, bytes], pause: Pause = _never) -> Digest:
    """The digest of a day's sketches, or of their heads."""
    sum_ = 0
    for video in _paced(heads, pause):
        sum_ += entry(video, heads[video])
    return len(heads), sum_ % _DIGESTS


def bucket_hashes(heads: Mapping[str, bytes], buckets: int = 0, pause: Pause = _never) -> bytes:
    """Four bytes for each bucket of a day's sketches; `buckets` are enough for all unless given."""
    if not heads:
        return b""
    if not buckets:
        buckets = min(1 << (len(heads) // 2).bit_length(), MAX_BUCKETS)
    sums = [0] * buckets
    for video in _paced(heads, pause):
        name = crc32(video.encode())
        sums[name % buckets] += (identity_of(heads[video]) >> 1) ^ name << 31
    return b"".join((sum_ % 2**32).to_bytes(4) for sum_ in sums)


def names(
    request: SketchesRequest, heads: Mapping[str, bytes], pause: Pause = _never
) -> SketchesPage:
    """The answer to a request for names, of one who holds sketches with these heads."""
    buckets = len(request.hashes) // 4
    differs: set[int] | None = None
    if buckets:
        own = bucket_hashes(heads, buckets, pause) or bytes(4 * buckets)
        pairs = ((own[at : at + 4], request.hashes[at : at + 4]) for at in range(0, 4 * buckets, 4))
        differs = {bucket for bucket, (one, other) in enumerate(pairs) if one != other}
    named: dict[str, int] = {}
    size, last = 0, ""
    for video in _paced(sorted(heads), pause):
        if video <= request.after:
            continue
        if differs is not None and crc32(video.encode()) % buckets not in differs:
            continue
        if size > PAGE_BYTES:
            return SketchesPage(request.day, named, last, {})
        named[video], last = identity_of(heads[video]) >> 1, video
        size += len(video) + 11
    return SketchesPage(request.day, named, "", {})


def _paced(videos: Iterable[str], pause: Pause) -> Iterator[str]:
    """All of them; in between others have their turns, as there may be many."""
    for number, video in enumerate(videos):
        if number % 500 == 0:
            pause()
        yield video


@dataclass(slots=True)
class _Told:
    """What a peer says it holds of each day."""

    address: str
    since: float
    heard: float
    days: dict[int, Digest] = field(default_factory=dict)
    is_new: set[int] = field(default_factory=set)
    """Days that it has told when it was new itself, and that were not compared yet."""


@dataclass(slots=True)
class _Difference:
    """Two digests of a day that differ, since when they are these, and since when any did."""

    digests: tuple[Digest, Digest]
    same_since: float
    since: float


@dataclass(slots=True)
class _Round:
    """What is being asked of an address about a day, and what is still wanted of it."""

    address: str
    day: int
    at: float
    heads: Mapping[str, bytes]
    hashes: bytes = b""
    after: str = ""
    """The name after which names were asked for last."""
    asked: frozenset[str] = frozenset()
    """The sketches that are awaited; names are where it is empty."""
    wanted: list[str] = field(default_factory=list)
    next: str = ""
    learnt: int = 0

    def fits(self, page: SketchesPage) -> bool:
        """Whether a page is the one that is awaited, and not a repetition of one before."""
        if self.asked:
            return not page.named and page.sketches.keys() <= self.asked
        return not page.sketches and min(page.named, default="\x7f") > self.after


class SketchRepairs:
    """Which days are to be asked of whom, and what is asked next. Not thread-safe."""

    def __init__(self, sync_interval: float, silence: float) -> None:
        """Compare reports that come every `sync_interval`; who is silent for longer has gone."""
        self._settle = max(SETTLE, 2 * sync_interval)
        self._live = max(LIVE, 4 * sync_interval)
        self._silence = silence
        self._told: dict[str, _Told] = {}
        self._differences: dict[tuple[str, int], _Difference] = {}
        self._in_vain: dict[tuple[str, int], tuple[Digest, Digest]] = {}
        """What was compared to the end, and brought nothing new."""
        self._round: _Round | None = None
        self._rests: dict[int, float] = {}
        """Until when a day is not asked for: what was just heard is not in the store yet."""

    def hear(self, sender: str, address: str, days: Mapping[int, Digest], now: float) -> bool:
        """Note what a peer's store holds; return whether it is heard for the first time."""
        told = self._told.get(sender)
        is_new = told is None
        if told is None:
            if len(self._told) >= _MAX_PEERS:
                return False
            told = self._told[sender] = _Told(address, now, now)
        told.heard = now
        told.address = address or told.address
        if now - told.since < self._settle:
            told.is_new |= days.keys() - told.days.keys()
        told.days |= days
        return is_new

    def due(self, own: Mapping[int, Digest], days: range, now: float) -> tuple[str, int] | None:
        """Whom to ask for which of these days now, if anybody, given the digests of the own store.

        `begin` must follow.
        """
        self._forget(now)
        if self._round is not None:
            return None
        for sender, told in self._told.items():
            for day in told.days if told.address else ():
                if day not in days or now < self._rests.get(day, now):
                    continue
                if self._is_due(sender, told, day, own.get(day, NOTHING), now):
                    return told.address, day
        return None

    def _is_due(self, sender: str, told: _Told, day: int, own: Digest, now: float) -> bool:
        key, theirs = (sender, day), told.days.get(day, NOTHING)
        if theirs in (own, NOTHING):
            self._differences.pop(key, None)
            told.is_new.discard(day)
            return False
        both = theirs, own
        found = self._differences.get(key)
        if found is None:
            found = self._differences[key] = _Difference(both, now, now)
        if found.digests != both:
            found.digests, found.same_since = both, now
        if self._in_vain.get(key) == both:
            return False
        settled = now - found.same_since >= self._settle
        if not (settled or now - found.since >= self._live or day in told.is_new):
            return False
        told.is_new.discard(day)
        del self._differences[key]
        return True

    def begin(
        self, address: str, day: int, heads: Mapping[str, bytes], hashes: bytes, now: float
    ) -> SketchesRequest:
        """The first question to a peer about a day of which the own store has these heads.

        `hashes` are the `bucket_hashes` of these.
        """
        self._round = _Round(address, day, now, heads, hashes)
        return SketchesRequest(day, hashes, "", [])

    def heard(self, page: SketchesPage, address: str, now: float) -> SketchesRequest | None:
        """What to ask next after a page that came from an address, if anything."""
        asked = self._round
        if not self.was_asked(page, address) or asked is None:
            return None
        asked.at = now
        if asked.asked:
            asked.learnt += len(page.sketches)
        else:
            asked.next = page.next
            asked.wanted = [
                video
                for video, identity in page.named.items()
                if identity_of(asked.heads.get(video, b"")) >> 1 != identity
            ]
        some, asked.wanted = asked.wanted[:ASKED_AT_ONCE], asked.wanted[ASKED_AT_ONCE:]
        asked.asked = frozenset(some)
        if some:
            return SketchesRequest(page.day, b"", "", some)
        if asked.next:
            asked.after, asked.next = asked.next, ""
            return SketchesRequest(page.day, asked.hashes, asked.after, [])
        self._end(asked, now)
        return None

    def was_asked(self, page: SketchesPage, address: str) -> bool:
        """Whether this page is an answer that is awaited."""
        asked = self._round
        if asked is None or (asked.day, asked.address) != (page.day, address):
            return False
        return asked.fits(page)

    def _end(self, asked: _Round, now: float) -> None:
        self._round = None
        self._rests[asked.day] = now + self._settle
        if not asked.learnt:
            own = digest_of(asked.heads)
            for sender, told in self._told.items():
                if told.address == asked.address:
                    self._in_vain[sender, asked.day] = told.days.get(asked.day, NOTHING), own

    def _forget(self, now: float) -> None:
        if self._round is not None and now - self._round.at > PATIENCE:
            self._round = None
        for sender, told in list(self._told.items()):
            if now - told.heard > self._silence:
                del self._told[sender]
                for key in [key for key in self._differences if key[0] == sender]:
                    del self._differences[key]
                for key in [key for key in self._in_vain if key[0] == sender]:
                    del self._in_vain[key]
        for day, until in list(self._rests.items()):
            if now >= until:
                del self._rests[day]


def pages(sketches: Mapping[str, bytes]) -> list[dict[str, bytes]]:
    """Sketches in parts that fit into a message each."""
    parts: list[dict[str, bytes]] = []
    size = PAGE_BYTES
    for video, encoded in sketches.items():
        size += len(video) + len(encoded)
        if size > PAGE_BYTES or len(parts[-1]) >= MAX_SKETCHES:
            parts.append({})
            size = len(video) + len(encoded)
        parts[-1][video] = encoded
    return parts
