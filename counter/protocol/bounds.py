"""How far a vector may grow by what is heard: no further than its writer has told.

Only its writer increases a vector, and it tells the total with every change. So while the writer is
heard, a copy that comes to more is of a fault, or the sign of a writer that was put back to an
earlier state. What is too much is left out alone; the writer's own next word brings what is right.

Pure: no I/O; times are in seconds of the caller's clock, which never goes back.
"""

from counter.crdt.vector import MAX_VECTOR_TOTAL, Refused
from counter.protocol.peers import Peer, Peers


class Bounds:
    """The bound of each vector, by what its writer has told."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    def of(self, vector: str, teller: Peer, now: float) -> Refused:
        """The bound of a vector for counts that `teller` tells."""
        writer = self._peers.get(vector)
        if writer is not None and writer.told is not None:
            heard = now - writer.heard <= self._peers.silence
            # After a kill, the next run of a writer tells what the one before had stored only.
            if heard and (teller is writer or not self._peers.succeeded(vector)):
                return Refused(writer.told)
        return Refused(MAX_VECTOR_TOTAL)
