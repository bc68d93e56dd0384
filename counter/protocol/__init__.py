"""What nodes say to each other, and what follows from it: sans-I/O, in virtual or real time.

`Replica` is one run of a node: give it visits and messages, and do what its `Effects` say.
Classes and their files may be changed without asking; messages on the wire, and the names and texts
of facts in the store, are shared with running nodes of the version before, and may not. It imports
`counter.crdt` and nothing else of counter, and no clock, thread, socket or random number.
"""

from counter.protocol.effects import Effects
from counter.protocol.replica import Replica

__all__ = ["Effects", "Replica"]
