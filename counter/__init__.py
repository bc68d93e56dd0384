"""A visit counter that never loses count: a grow-only CRDT on many nodes."""

__version__ = "0.1.0"
