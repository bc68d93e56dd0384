"""Succession: when a run of this process has to end, and what the next one takes over.

Pure: no I/O; times are in seconds of the caller's clock, which never goes back.
"""

from counter.crdt.ids import member_of, run_of
from counter.protocol.folding import Folding
from counter.protocol.members import Members
from counter.protocol.pending import Pending
from counter.protocol.reverts import Reverts


class Succession:
    """Whether the run `own` can go on; `epoch` is the Unix time of the clock's zero.

    A run whose date is wrong by more than `message_ttl` has to end. What is heard ends no more
    than one run within `message_ttl`: a peer that is broken may claim anything, and again.
    """

    def __init__(
        self,
        own: str,
        members: Members,
        pending: Pending,
        folding: Folding,
        reverts: Reverts,
        *,
        epoch: float,
        message_ttl: float,
    ) -> None:
        self.own = own
        self._members = members
        self._pending = pending
        self._folding = folding
        self._reverts = reverts
        self._epoch = epoch
        self._message_ttl = message_ttl
        self._misdated = False
        self._now = 0.0
        self._begun: float | None = None
        """When a run began last because of what was heard."""

    @property
    def ended_by_others(self) -> bool:
        """Whether others have ended this run: it was folded, or this member removed, unheard.

        Nobody listens to a run that was folded.
        """
        member, run = member_of(self.own), run_of(self.own)
        return run <= max(self._folding.mark(member), self._members.removed(member))

    @property
    def is_due(self) -> bool:
        """Whether to go on as a new run.

        Not while the store may hold visits for a run that was folded.
        """
        if self._misdated or self._pending.is_full:
            return True
        heard = self._reverts.proven or (self.ended_by_others and not self._pending.in_doubt)
        rests = self._begun is not None and self._now - self._begun < self._message_ttl
        return heard and not rests

    @property
    def may_follow(self) -> bool:
        """Whether a fold to a mark that others have may begin.

        Not while its own run is in it, or the store may know more of its parts.
        """
        return not (self.ended_by_others or self.waits_below_mark())

    def waits_below_mark(self) -> list[str]:
        """The runs of this process whose visits are pending, though others have folded them."""
        mark = self._folding.mark(member_of(self.own))
        return [run for run in self._pending.waiting() if run_of(run) <= mark]

    def rescue(self) -> None:
        """Have the present run count what is pending of runs that others have folded."""
        if not self._pending.in_doubt and not self.ended_by_others:
            for run in self.waits_below_mark():
                self._pending.move(run)

    def look(self, now: float) -> None:
        """See, once a `SYNC_INTERVAL`, what time it is."""
        self._now = now

    def begin(self, own: str, now: float) -> None:
        """Go on as a new run, which was dated just now."""
        if self._reverts.proven or self.ended_by_others:
            self._begun = now
        self.own, self._misdated = own, False

    def date(self, now: float) -> int:
        """A time as the wall clock shows it, in Unix ms."""
        return round((now + self._epoch) * 1000)

    def clock_stepped(self, epoch: float) -> None:
        """The wall clock was set: it now has this Unix time at the zero of the other clock."""
        if abs(epoch - self._epoch) > self._message_ttl:
            self._epoch = epoch
            self._misdated = True
