"""Where counts outlive their process: the contract `Store`, and every store that keeps it.

An adapter may be changed without asking as long as the contract's tests pass and it reads what
earlier versions have written. It imports nothing of counter but the contract and what lies here.
"""

from counter.store.contract import Store

__all__ = ["Store"]
