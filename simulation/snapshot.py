"""Snapshots of a machine with its memory, and what a hypervisor can do with them."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import simulation.frozen  # noqa: F401 - it knows how a fold that was begun is copied
from counter.protocol.backlog import Batch
from counter.store.contract import Marks
from counter.store.memory import MemoryStore
from simulation.oracle import Request
from simulation.process import Process


@dataclass(frozen=True)
class Memory:
    """What a running machine has in its memory. Its store is not in it."""

    process: Process
    marks: Marks
    under_way: tuple[float, Batch] | None
    pending: Mapping[str, Request]
    in_flight: Mapping[str, Request]

    def again(self) -> "Memory":
        """Another one that is the same, on the same store; requests are what they are."""
        store = self.process.store
        known: dict[int, object] = {id(store): store}
        known |= {id(one): one for one in (*self.pending.values(), *self.in_flight.values())}
        return copy.deepcopy(self, known)


def may_be_copied(process: Process) -> bool:
    """Whether a process can be copied: not in the middle of a fold, which has a generator."""
    fold = process.replica.folding.under_way
    return fold is None or not fold.vector.total


def marks_of(store: MemoryStore) -> Marks:
    """The flush marks that the process on a store takes for right."""
    return copy.deepcopy(store._marks)
