"""The rule: a grow-only counter, and the tally that holds one for every video.

Start with `gcounter`, the rule on one page; `Tally` is the same rule for millions of videos.
How counts are kept in memory may be changed without asking; what `merge` returns, the vector ids
and the content hashes are stored and sent between nodes, and may not. It imports nothing of
counter, and does no I/O.
"""

from counter.crdt.tally import Tally

__all__ = ["Tally"]
