"""The rule on one page: a grow-only counter (G-Counter), a state-based CRDT.

A counter is a plain dict, `{replica: count}`. Each replica increments only its own entry; a merge
takes the larger entry of each replica; the value is the sum of all entries.

That is enough to be exact. A merge is commutative, associative and idempotent, so messages may
be lost, repeated and reordered: replicas that have seen the same increments, directly or through
others, hold the same counter. And no entry ever falls, so the value never does.

    a = increment({}, "a")           # {"a": 1}
    b = increment({}, "b", 2)        # {"b": 2}, at the same time on another node
    value(merge(a, b)) == 3          # in whatever order, however often

Source: Shapiro, Preguiça, Baquero, Zawirski, *A comprehensive study of Convergent and Commutative
Replicated Data Types*, INRIA RR-7506, 2011, specification 6: `increment`, `value`, `merge`.

Nodes run `Tally`, which does the same for millions of videos at once; tests hold it to this page.
The page in the browser runs `static/counter.js`, the twin of this module, on the same test vectors.

Pure: no I/O. No function changes its arguments, so all of them are thread-safe.
"""

from collections.abc import Mapping

MAX_COUNT = 2**53 - 1
"""The largest count and the largest value: what JavaScript and Redis' Lua still hold exactly."""


def increment(counter: Mapping[str, int], replica: str, by: int = 1) -> dict[str, int]:
    """Return the counter after `by` more visits at `replica`; only that replica may do this.

    An increment that is not positive, or would take the value beyond `MAX_COUNT`, is ignored.
    """
    if by < 1 or sum(counter.values()) + by > MAX_COUNT:
        return dict(counter)
    return {**counter, replica: counter.get(replica, 0) + by}


def merge(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """Return the least counter that contains both: the larger entry of each replica."""
    return {
        replica: max(one.get(replica, 0), other.get(replica, 0)) for replica in {**one, **other}
    }


def value(counter: Mapping[str, int]) -> int:
    """Return the visits: the sum of all entries, at most `MAX_COUNT`.

    Replicas that do not hear each other may count beyond the limit together. Then all of it stays
    in the counter, and the value stops there.
    """
    return min(MAX_COUNT, sum(counter.values()))
