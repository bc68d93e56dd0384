"""Visits of a log that wait until an operator announces their video, for with `VIDEOS=known` no
others count.

The announcement may be on its way to this node, and nginx has answered the visitors. So these
visits are kept in notes of the store, one a video, that change in one step with the position of
the log. Once counted, they are also counted under a key of their own, `cats/waited`, in the same
step. So a store that comes back from an older copy, in which they still wait, counts none of them
again. As the `/` is in no id, that key is listed nowhere.

Pure: no I/O, no clock.
"""

from collections.abc import Collection, Mapping
from itertools import takewhile
from typing import NamedTuple

from counter.crdt.ids import is_video
from counter.crdt.limits import FullError
from counter.crdt.tally import Tally
from counter.protocol.pending import Pending

NOTE = "waiting:"
"""How the name of a note begins that says how many visits of a video wait."""
COUNTED = "/waited"
"""The end of the key under which visits are counted that have waited."""


class Wait(NamedTuple):
    """The visits of one video that wait, and how many had waited before these and were counted."""

    visits: int
    before: int


class Waiting:
    """What waits at this member. Not thread-safe. Times are in seconds, of any one clock."""

    MOST = 10_000
    """How many videos can wait. Beyond, those are given up that have waited longest."""
    LONGEST = 3600.0
    """Seconds until a video is given up. A restart of the node begins them anew."""

    def __init__(self, member: str, tally: Tally, pending: Pending) -> None:
        self._member = member
        self._tally = tally
        self._pending = pending
        self._waits: dict[str, Wait] = {}
        """Those that have waited longest come first."""
        self._since: dict[str, float] = {}
        self._released: set[str] = set()
        self.visits = 0
        """How many visits wait."""

    def __len__(self) -> int:
        """How many videos wait."""
        return len(self._waits)

    def videos(self) -> list[str]:
        """The videos that wait."""
        return list(self._waits)

    def opened(self, notes: Mapping[str, str]) -> None:
        """Take in what the store knows. What was counted or waits here already is newer."""
        for name, text in notes.items():
            if not name.startswith(NOTE):
                continue
            video, wait = name.removeprefix(NOTE), _decode(text)
            if wait is None or not is_video(video):
                self._pending.note({name: ""})
            elif video in self._waits:
                self._put(video, max(wait, self._waits[video]))
                self._pending.note({name: _encode(self._waits[video])})
            elif video in self._released:
                self._pending.note({name: ""})
            else:
                self._put(video, wait)

    def add(self, visits: Mapping[str, int], now: float) -> int:
        """Have more visits wait, in notes of the next batch; return how many are given up."""
        notes = {}
        for video, more in visits.items():
            waiting, before = self._waits.get(video) or (0, self._counted(video))
            self._waits[video] = wait = Wait(waiting + more, before)
            self._since.setdefault(video, now)
            notes[NOTE + video] = _encode(wait)
        self.visits += sum(visits.values())
        self._pending.note(notes)
        return sum(map(self._drop, self.videos()[: max(0, len(self) - self.MOST)]))

    def give_up(self, now: float) -> int:
        """Give up what has waited too long; return how many visits that are."""
        if len(self._since) < len(self._waits):
            self._since = dict.fromkeys(self._waits, now) | self._since
        late = takewhile(lambda video: now - self._since[video] >= self.LONGEST, self._waits)
        return sum(map(self._drop, list(late)))

    def release(self, videos: Collection[str]) -> tuple[int, int]:
        """Count the visits of these videos, in one step; return how many, and how many waited.

        What a full video has no room for is not counted. Raises OverflowError if this run can
        count no more; then all still wait.
        """
        waited = {}
        for video in videos:
            wait = self._waits[video]
            # More than before: these come out of an older copy of the store.
            waited[video] = max(0, wait.visits - max(0, self._counted(video) - wait.before))
        keys = {video + COUNTED: visits for video, visits in waited.items() if visits}
        counts = {video: visits for video, visits in waited.items() if visits}
        while True:
            try:
                self._pending.count_many(counts | keys)
                break
            except FullError as error:
                rest = {**counts, **{v: n for v, n in error.room.items() if v in counts}}
                keys = {key: n for key, n in keys.items() if key not in error.room}
                counts = {video: visits for video, visits in rest.items() if visits}
        for video in videos:
            self._drop(video)
            self._released.add(video)
        return sum(counts.values()), sum(waited.values())

    def _counted(self, video: str) -> int:
        """How many visits of a video had to wait at this member and were counted."""
        key, own = video + COUNTED, self._pending.own
        if self._tally.ids.find(key) is None and video not in self._released:
            return 0
        pending = self._pending.count(key) - self._tally.count(own, key)
        return self._tally.counter(key).get(self._member, 0) + pending

    def _put(self, video: str, wait: Wait) -> None:
        self.visits += wait.visits - self._waits.get(video, wait._replace(visits=0)).visits
        self._waits[video] = wait

    def _drop(self, video: str) -> int:
        """Have nothing of a video wait any more; return how many visits did."""
        visits = self._waits.pop(video).visits
        self.visits -= visits
        self._since.pop(video, None)
        self._pending.note({NOTE + video: ""})
        return visits


def _encode(wait: Wait) -> str:
    return f"{wait.visits} {wait.before}"


def _decode(text: str) -> Wait | None:
    numbers = text.split(" ")
    if len(numbers) != len(Wait._fields) or not all(map(str.isdecimal, numbers)):
        return None
    return Wait(*map(int, numbers))
