"""Reverts: a machine put back to a snapshot with its memory goes on from less than others hold.

Its next counts would be swallowed, for others hold larger ones of the same run. The signs are that
somebody holds more of a run than its writer says there is, or that a writer increases a count
without increasing its total by as much. A node that sees one tells the writer, which asks for the
larger counts. Only the answer to its own question is taken in, and a new run begins.

Given up is what was counted between revert and detection, at most the smaller of that and of what
was lost: both stand in one run, of which the larger count of each video is kept.

Pure: no I/O; times are in seconds of the caller's clock, which never goes back.
"""

from collections.abc import Collection

from counter.crdt.tally import Tally
from counter.protocol.messages import Larger, RepairPage, RepairRequest
from counter.protocol.peers import Peer
from counter.protocol.repairs import Repairs


class Reverts:
    """Whether the run `own` was put back, and what is to be said of others that may have been."""

    def __init__(self, own: str, tally: Tally, repairs: Repairs, sync_interval: float) -> None:
        self.own = own
        self.larger: dict[str, int] = {}
        """What others hold of the own run, where it is more than is held here: a proof."""
        self.proven = False
        """Whether that has come as a whole, so that it is time to take it in."""
        self._tally = tally
        self._repairs = repairs
        self._sync_interval = sync_interval
        self._told: dict[str, float] = {}

    def begin(self, own: str) -> None:
        """Go on with another run."""
        self.own, self.larger, self.proven = own, {}, False

    # -- as the one that was put back

    def claimed(
        self, total: int, peer: Peer, now: float, *, refused: bool = False
    ) -> RepairRequest | None:
        """A peer holds this much of the own run, or has refused a count of it: ask for it."""
        if refused or total > self._tally.total(self.own):
            return self._repairs.ask(self.own, peer, now)
        return None

    def answered(self, page: RepairPage) -> None:
        """Counts of the own run have come, as the answer to a question of its own."""
        held = self._tally.counts(self.own, page.counts)
        larger = {video: more for video, more in page.counts.items() if more > held[video]}
        for video, more in larger.items():
            self.larger[video] = max(more, self.larger.get(video, 0))
        self.proven = self.proven or bool(self.larger and page.next is None)

    # -- as one that hears another

    def tell(
        self, vector: str, peer: Peer, now: float, refused: Collection[str] = ()
    ) -> Larger | None:
        """Tell `peer`, which writes a vector, that it holds less of it than is held here.

        Or that it told the counts in `refused` without raising its total by as much. Once a
        `SYNC_INTERVAL`: messages that come late look the same.
        """
        total = self._tally.total(vector)
        if peer.told is None or peer.is_previous is not False:
            return None
        told = self._told.get(vector)
        if told is not None and now - told < self._sync_interval:
            return None
        self._told[vector] = now
        return Larger(vector, total, bool(refused))

    def forget(self, now: float) -> None:
        """Forget what was told long ago."""
        for vector, told in list(self._told.items()):
            if now - told >= self._sync_interval:
                del self._told[vector]
