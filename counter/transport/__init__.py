"""How nodes reach each other: the contract `Transport`, and every transport that keeps it.

An adapter may be changed without asking as long as the contract's tests pass and it still reaches
nodes of the version before. It imports nothing of counter but the contract and `backoff`.
"""

from counter.transport.contract import Transport

__all__ = ["Transport"]
