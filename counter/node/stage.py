"""Where a node stands in its life, shared by the parts of the node."""

from threading import Event

from counter.node.turns import OneByOne
from counter.protocol.messages import State


class Stage:
    """Joining, ready, then leaving. Any thread may read and change it."""

    def __init__(self) -> None:
        self.started = False
        self.ready = False
        """Whether the node has caught up with its peers. It stays true."""
        self.draining = Event()
        """Set when the node takes no more visits."""
        self.stopping = Event()
        """Set when the threads are to end."""
        self.turns = OneByOne()
        """For large requests and messages: one step of one of them in a turn of the loop."""

    @property
    def state(self) -> State:
        """The state that the node reports to its peers."""
        if self.draining.is_set():
            return "leaving"
        return "ready" if self.ready else "joining"
