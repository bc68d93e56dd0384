"""Viewers: a keyed hash of a video, an address and an agent, whose key lives for a day.

The hash is of the video as well, so nobody can be followed from one video to another; two days have
two keys, so nobody can be followed from one day to the next. Neither address nor agent is kept or
logged. What is kept is in docs/privacy.md.
"""

import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from counter.config import Config
from counter.node.recent import Recent
from counter.node.salts import DAY, Salts
from counter.protocol.messages import Body, Delta, Envelope, Report
from counter.protocol.seen_messages import SeenPage, SeenRequest
from counter.protocol.sketch_messages import SketchesPage, SketchesRequest

if TYPE_CHECKING:
    from counter.node.sketches import Sketches

ERROR = 0.03
"""What an estimate is wrong by at most in 14 of 15 cases."""
_AHEAD = 30
"""Seconds before midnight from which on another node's clock may be in the next day."""
Send = Callable[[str, Body], None]
"""Sends a message to an address."""


class Viewer(NamedTuple):
    """The hash of a visitor on a video today, and by the keys of the days beside it, if any count.

    `day` is today, of UTC since 1970.
    """

    today: int
    under: tuple[int, ...]
    day: int


class Person:
    """Who is to be known for a viewer: an address, as one client counts, and an agent.

    It is made for one visit.
    """

    __slots__ = ("address", "agent", "taken")

    def __init__(self, address: str, agent: str) -> None:
        self.address = address
        self.agent = agent
        self.taken: Viewer | None = None
        """The viewer as whom it was found to be no repeat."""


class Viewers:
    """What is known of viewers: who visited lately, and how many there are of each video and day.

    Any thread may call any method. `wake` has the store written soon.
    """

    def __init__(
        self,
        config: Config,
        wake: Callable[[], None] = lambda: None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.salts = Salts(config.cluster_secret)
        self.recent = _recent(config) if config.repeat_window else None
        """None without a REPEAT_WINDOW."""
        self.sketches = _sketches(config, self.salts, wake) if config.viewers else None
        """None without VIEWERS."""
        self._window = config.repeat_window
        self._wall = wall

    @property
    def asked(self) -> bool:
        """Whether anybody asks who visits."""
        return self.recent is not None or self.sketches is not None

    def viewer(self, video: str, person: Person) -> Viewer:
        """The hash of a visitor on a video."""
        day, second = divmod(int(self._wall()), DAY)
        text = f"{video}\0{person.address}\0{person.agent}".encode("utf-8", "replace")
        under: tuple[int, ...] = ()
        if second < self._window:
            under = (self.salts.hash(day - 1, text),)
        if second >= DAY - _AHEAD and self._window:
            under = (*under, self.salts.hash(day + 1, text))
        return Viewer(self.salts.hash(day, text), under, day)

    # -- a visit

    def is_repeat(self, video: str, person: Person) -> bool:
        """Whether a visit is a repeat; if not, another one of this viewer is from now on.

        So `counted` or `refused` must follow where it is none.
        """
        if self.recent is None:
            return False
        viewer = self.viewer(video, person)
        if not self.recent.take(viewer.today, viewer.under, time.monotonic()):
            return True
        person.taken = viewer
        return False

    def would_repeat(self, video: str, person: Person) -> bool:
        """The same for a visit that is only asked about: it changes nothing."""
        if self.recent is None:
            return False
        viewer = self.viewer(video, person)
        return self.recent.has(viewer.today, viewer.under, time.monotonic())

    def counted(self, video: str, person: Person) -> None:
        """A visit has counted: others are told of it, and its visitor is a viewer."""
        if person.taken is not None and self.recent is not None:
            self.recent.tell(person.taken.today)
        if self.sketches is not None:
            viewer = person.taken or self.viewer(video, person)
            self.sketches.add(viewer.day, video, viewer.today)

    def refused(self, person: Person) -> None:
        """A visit was certainly not counted, so it starts no window."""
        if person.taken is not None and self.recent is not None:
            self.recent.give_back(person.taken.today)

    def forget(self) -> None:
        """Forget whose window is over; to be called now and then."""
        if self.recent is not None:
            self.recent.forget(time.monotonic())

    # -- with the other nodes

    def publish(self, delta: Delta) -> Delta:
        """A delta, with the viewers that were not told yet."""
        if self.recent is None or not (seen := self.recent.told(time.monotonic())):
            return delta
        return replace(delta, seen=seen, seen_from=self.recent.told_from(seen))

    def report(self, reports: list[Body], send: Send) -> None:
        """Add to the reports of this node what there is to tell of viewers.

        `send` is how a peer is asked later; it is called by the store's thread.
        """
        last = reports[-1] if reports else None
        if not isinstance(last, Report):
            return
        if self.recent is not None:
            last = reports[-1] = replace(last, seen=self.recent.places())
        if self.sketches is None:
            return
        days, parts = self.sketches.told(time.monotonic(), send)
        part = Report(last.state, {}, {}, None, number=last.number, knows=last.knows)
        last = replace(last, days_of_sketches=days, sketches=parts[-1] if parts else {})
        reports[-1:] = [*(replace(part, sketches=sketches) for sketches in parts[:-1]), last]

    def heard(self, envelope: Envelope, send: Send) -> None:
        """Take in what a message says of viewers; `send` is how it is answered, maybe later."""
        if self.recent is not None:
            self._heard_recent(self.recent, envelope, send)
        if self.sketches is not None:
            self._heard_sketches(self.sketches, envelope, send)

    def _heard_recent(self, recent: Recent, envelope: Envelope, send: Send) -> None:
        body, address, now = envelope.body, envelope.address, time.monotonic()
        said: Body | None = None
        if type(body) is Delta:
            if body.seen:
                recent.heard(body.seen, now, body.seen_from)
        elif type(body) is Report:
            if body.seen:
                said = recent.heard_places(envelope.sender, address, body.seen, now)
        elif type(body) is SeenRequest:
            said = recent.answer(body, now)
        elif type(body) is SeenPage:
            said = recent.answered(body, address, now)
        if said is not None and address:
            send(address, said)

    def _heard_sketches(self, sketches: "Sketches", envelope: Envelope, send: Send) -> None:
        body, address = envelope.body, envelope.address
        if type(body) is Report:
            sketches.heard(envelope.sender, address, body, time.monotonic())
        elif type(body) is SketchesRequest:
            sketches.asked(body, address, send)
        elif type(body) is SketchesPage:
            sketches.answered(body, address, send, time.monotonic())

    # -- what is shown

    def shown(self, video: str) -> dict[str, object]:
        """What an answer in detail says of a video's viewers: {} if that is not known."""
        if self.sketches is None:
            return {}
        today = self.sketches.estimate(int(self._wall()) // DAY, video)
        return {} if today is None else {"viewers": {"today": today, "error": ERROR}}

    def gauges(self) -> dict[str, int]:
        """What the metrics say of viewers."""
        gauges = {}
        if self.recent is not None:
            gauges["recent_viewers"] = len(self.recent)
            gauges["recent_viewers_forgotten"] = self.recent.forgotten_early
        if self.sketches is not None:
            gauges["sketches_in_memory"] = self.sketches.in_memory
            gauges["sketches_damaged"] = self.sketches.damaged
        return gauges


def _recent(config: Config) -> Recent:
    silence = 3 * config.sync_interval
    return Recent(config.repeat_window, writer=secrets.randbits(52), silence=silence)


def _sketches(config: Config, salts: Salts, wake: Callable[[], None]) -> "Sketches":
    # Here, not above: the library takes 0.3 s.
    from counter.node.sketches import Sketches

    return Sketches(salts, keep=config.viewers_keep, sync_interval=config.sync_interval, wake=wake)
