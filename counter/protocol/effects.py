"""Effects: what a step of the protocol wants done. The protocol itself does no I/O."""

from collections.abc import Collection
from dataclasses import dataclass, field

from counter.protocol.messages import Body
from counter.protocol.peers import Peer


@dataclass(slots=True)
class Effects:
    """Messages for all, messages for one address each, and the videos that grew.

    What grew is in collections; large ones name their videos when they are looked at, which takes
    the lock of the replica. `beyond` is how many counts were not taken because their writer has
    told less, and `left_out` how many other entries because there are more of them than any node
    has.
    """

    broadcast: list[Body] = field(default_factory=list)
    send: list[tuple[str, Body]] = field(default_factory=list)
    growths: list[Collection[str]] = field(default_factory=list)
    beyond: int = 0
    left_out: int = 0

    @property
    def grew(self) -> set[str]:
        """The videos that grew."""
        return set().union(*self.growths)

    def ask(self, peer: Peer, *bodies: Body | None) -> None:
        """Send these to one peer, but for None, if the peer's address is known."""
        if peer.address:
            self.send.extend((peer.address, body) for body in bodies if body is not None)
