"""Whose wall clock differs from this node's, as their messages say.

A message is dropped when it was sent more than `MESSAGE_TTL` ago or from now (`messages.decode`).
So nodes whose clocks differ by more do not hear each other, and each of them has to say so. One
such message proves little: anybody with a copy of an old one can send it again. It counts only if
it was sent later than the last message that was taken from its member, and only if another follows
after a while and none is taken in between. A message that was merely late is followed by one that
is not.

Pure: no I/O. Each step takes `wall`, Unix time in seconds, and `now`, in seconds of a clock that
never goes back; so a difference is known anew as soon as the own clock is set.
"""

from dataclasses import dataclass
from itertools import combinations

from counter.crdt.ids import member_of, run_of

_MOST = 256
"""Members that are remembered; the one never heard, or silent for longest, is forgotten first."""
_GONE = 86_400.0
"""Seconds of silence after which a member is forgotten."""
_LASTING = 0.5
"""Seconds for which messages of a member must be refused."""
_STEADY = 1.0
"""Seconds by which the difference may move meanwhile: of messages that waited it shrinks fast."""

Sent = tuple[str, float]
"""When a message was sent: the run that sent it, and the time by the clock of that."""


@dataclass(slots=True)
class Clock:
    """The clock of a member.

    `zero` is what it shows when the clock that never goes back is 0, by the latest message, so the
    time that this has travelled is in it. `taken` and `refused` are its latest messages, `heard` is
    when the last one was taken in. Between `since` and `until` others were refused, the `first` of
    which had this `zero`; `answered` is when one of them was to be answered.
    """

    zero: float = 0.0
    taken: Sent = ("", 0.0)
    refused: Sent = ("", 0.0)
    heard: float | None = None
    since: float | None = None
    first: float = 0.0
    until: float = float("-inf")
    answered: float = float("-inf")

    @property
    def latest(self) -> float:
        """When anything last came from it."""
        return self.until if self.heard is None else max(self.until, self.heard)


class Clocks:
    """The clocks of other members, from their messages.

    `tolerance` is by how many seconds they may differ, `silence` after how many a member that says
    nothing is not regarded any more.
    """

    def __init__(self, tolerance: float, silence: float) -> None:
        self.met = False
        """Whether any message was ever taken in."""
        self._tolerance = tolerance
        self._silence = silence
        self._clocks: dict[str, Clock] = {}

    def take(self, sender: str, sent: float, now: float) -> None:
        """A message was taken in that a replica has sent at this time of its own clock."""
        self.met = True
        clock = self._clock(sender, now)
        clock.zero, clock.heard = sent - now, now
        if (run_of(sender), sent) > clock.taken:
            clock.taken, clock.since = (run_of(sender), sent), None

    def refuse(self, sender: str, sent: float, now: float, latest: str = "") -> bool:
        """A message was refused because of its time; say whether to answer, once in a while.

        The sender finds out in the same way, and may not have this node's address otherwise.
        `latest` is the latest run that is known of its member.
        """
        when = run_of(sender), sent
        clock = self._clocks.get(member_of(sender))
        if run_of(sender) < latest or (clock and (when <= clock.taken or when == clock.refused)):
            return False
        clock = self._clock(sender, now)
        moved = abs(sent - now - clock.first)
        if clock.since is None or now - clock.until > self._silence or moved > _STEADY:
            clock.since, clock.first = now, sent - now
        clock.zero, clock.refused, clock.until = sent - now, when, now
        if now - clock.answered <= self._silence:
            return False
        clock.answered = now
        return True

    def differing(self, wall: float, now: float) -> dict[str, float]:
        """The members that this node does not hear: by how many seconds their clocks are ahead."""
        return {
            member: clock.zero - (wall - now)
            for member, clock in sorted(self._clocks.items())
            if self._differs(clock, wall, now)
        }

    def differences(self, wall: float, now: float) -> dict[str, float]:
        """All members that say anything: by how many seconds their clocks are ahead."""
        return {
            member: clock.zero - (wall - now)
            for member, clock in sorted(self._clocks.items())
            if now - clock.latest <= self._silence
        }

    def wrong(self, wall: float, now: float) -> bool:
        """Whether it is this node's clock: none is in step with it, and two are with each other."""
        in_step = any(
            clock.heard is not None
            and now - clock.heard <= self._silence
            and not self._differs(clock, wall, now)
            for clock in self._clocks.values()
        )
        others = self.differing(wall, now).values()
        return not in_step and any(
            abs(one - other) <= self._tolerance for one, other in combinations(others, 2)
        )

    def strange(self, now: float) -> bool:
        """Whether others are there, and none was ever heard: what they have counted is unknown."""
        return not self.met and any(
            now - clock.latest <= self._silence for clock in self._clocks.values()
        )

    def _differs(self, clock: Clock, wall: float, now: float) -> bool:
        return (
            clock.since is not None
            and clock.until - clock.since >= _LASTING
            and now - clock.until <= self._silence
            and abs(clock.zero - (wall - now)) > self._tolerance
        )

    def _clock(self, sender: str, now: float) -> Clock:
        """The clock of the sender's member, which is remembered from now on."""
        member = member_of(sender)
        clock = self._clocks.get(member)
        if clock is None:
            for other, silent in list(self._clocks.items()):
                if now - silent.latest > _GONE:
                    del self._clocks[other]
            if len(self._clocks) >= _MOST:
                del self._clocks[min(self._clocks, key=self._use)]
            clock = self._clocks[member] = Clock()
        return clock

    def _use(self, member: str) -> tuple[bool, float]:
        """What is remembered longer is greater: a forged message pushes out no member heard."""
        clock = self._clocks[member]
        return clock.heard is not None, clock.latest
