"""One node: its threads, the order in which they start and stop, and what they share.

Everything but `Node` may be changed without asking; what people see of it (metrics, log events,
settings) may not. It imports protocol, crdt, config, store and transport, and joins their adapters.
"""

from counter.node.node import Node

__all__ = ["Node"]
