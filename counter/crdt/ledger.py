"""The rule of the ledger: what an operator's records do to a number.

The ledger is a grow-only set of records (G-Set): a merge is the union. A record that withdraws
visits says for each member how many it takes, and how many its operator saw: `(take, seen)`. What
is withdrawn of a member follows from all entries about it:

    in the order of seen:  withdrawn = min(withdrawn + take, seen)

It needs no clock, and does not depend on the order in which records arrive. It only grows with the
set. Withdrawals that fit all apply, and none takes what its operator had not seen: two operators
who withdraw the same visits on both sides of a split do not take later ones.

A video is blocked if the last `block` or `unblock` of it, by time and id, is a `block`.

Source of the set: Shapiro, Preguiça, Baquero, Zawirski, *A comprehensive study of Convergent and
Commutative Replicated Data Types*, INRIA RR-7506, 2011, specification 11.

Pure: no I/O. No function changes its arguments.
"""

from collections.abc import Iterable, Mapping
from operator import itemgetter

from counter.crdt.gcounter import MAX_COUNT

Entry = tuple[int, int]
"""How many visits of a member a record takes, and how many its operator saw."""
Takes = Mapping[str, Entry]
"""`{member: (take, seen)}`"""


def withdrawn_of(entries: Iterable[Entry]) -> int:
    """How many visits of a member are withdrawn by all entries about it."""
    withdrawn = 0
    for take, seen in sorted(entries, key=itemgetter(1)):
        withdrawn = min(withdrawn + take, seen)
    return withdrawn


def joined(one: Takes, other: Takes) -> dict[str, Entry]:
    """The entries of two records with one id: the larger take and the larger seen of each member.

    So no less is withdrawn than by either.
    """
    merged = dict(one)
    for member, (take, seen) in other.items():
        before = merged.get(member, (0, 0))
        merged[member] = max(take, before[0]), max(seen, before[1])
    return merged


def left_of(counter: Mapping[str, int], withdrawn: Mapping[str, int]) -> dict[str, int]:
    """What is left of each member's count, where anything is."""
    left = {member: count - withdrawn.get(member, 0) for member, count in counter.items()}
    return {member: count for member, count in left.items() if count > 0}


def shown_of(counter: Mapping[str, int], withdrawn: Mapping[str, int]) -> int:
    """How many of these visits are withdrawn: of no member more than is counted here."""
    counted = counter.get
    return min(MAX_COUNT, sum(min(n, counted(member, 0)) for member, n in withdrawn.items()))


def spread(number: int, left: Mapping[str, int]) -> dict[str, int]:
    """Take `number` visits from members in proportion to what is left of each.

    Whole visits, by largest remainders, then by member. Raises ValueError if there are fewer.
    """
    there = sum(left.values())
    if number > there:
        raise ValueError(f"{number} visits are more than {there}")
    shares = {member: divmod(number * count, there) for member, count in left.items()}
    missing = number - sum(whole for whole, _ in shares.values())
    ranked = sorted(shares, key=lambda member: (-shares[member][1], member))
    more = set(ranked[:missing])
    takes = {member: shares[member][0] + (member in more) for member in sorted(left)}
    return {member: take for member, take in takes.items() if take}
