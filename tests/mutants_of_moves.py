"""Faults against the rules by which a fold gets into a store, row by row."""

from collections.abc import Collection, Iterator, Mapping, Set

from counter.protocol.batch import Batch
from counter.protocol.checks import SUM
from counter.protocol.members import decode_fact, encode_fact, is_note
from counter.protocol.recovery import Recovery
from simulation.disk import Disk
from simulation.process import Process
from simulation.rules import Rules, SmallPages


class DropsThePartsTooEarly(SmallPages):
    def batch(self, limit: int) -> Batch:
        batch = super().batch(limit)
        parts = [part for move in self.backlog.moving.values() for part in move.parts]
        return batch._replace(drop=[*batch.drop, *parts]) if batch.erase else batch


class ForgetsToErase(Process):
    """Writes rows of a fold, and leaves those of the parts."""

    def write(self, batch: Batch) -> bool:
        return super().write(batch._replace(erase={}))


class ErasesFirst(Process):
    """Erases in a step of its own, after which the store may fail."""

    def write(self, batch: Batch) -> bool:
        if batch.erase:
            for folded, parts in batch.erase.items():
                for part in parts:
                    self.store._erase(part, batch.counts[folded])
            if isinstance(self.store, Disk):
                self.store.changes += 1
        return super().write(batch)


class MovesUnannounced(SmallPages):
    """Moves rows before the store knows of the fold, which it is told with the last ones."""

    def batch(self, limit: int) -> Batch:
        batch = super().batch(limit)
        moving = self.backlog.moving.keys() - batch.ends.keys()
        facts = {member: fact for member, fact in batch.facts.items() if member not in moving}
        sums = {name: text for name, text in batch.sums.items() if not text.startswith("-")}
        return batch._replace(facts=facts, sums=sums)


def _done(facts: Mapping[str, str]) -> dict[str, str]:
    """Facts, as if no rows were being moved."""
    return {
        name: fact if is_note(name) else encode_fact(*decode_fact(fact))
        for name, fact in facts.items()
        if not (name.startswith(SUM) and fact.startswith("-"))
    }


class DoneRecovery(Recovery):
    def opened(self, vectors: Collection[str], facts: Mapping[str, str]) -> None:
        super().opened(vectors, _done(facts))


class ForgetsThePartsAtAStart(SmallPages):
    recovery_class = DoneRecovery


class LargerRecovery(Recovery):
    """Takes the larger one of a row of the folded vector and one of a part, and no sum."""

    def _join(self, member: str, *, is_here: bool) -> Iterator[Set[str]]:
        folded = [v for v in self._found if v.endswith(self._tally.mark(member))]
        for vector in folded:
            self._found[vector] = self._tally.empty()
        return super()._join(member, is_here=is_here)


class AddsNothingUpAtAStart(SmallPages):
    recovery_class = LargerRecovery


FAULTS_OF_MOVES = {
    "drops parts before all rows are moved": Rules(replica=DropsThePartsTooEarly),
    "forgets to erase what it moves": Rules(process=ForgetsToErase),
    "erases before it writes": Rules(process=ErasesFirst),
    "moves rows before the store knows of it": Rules(replica=MovesUnannounced),
    "forgets at a start what is not moved": Rules(replica=ForgetsThePartsAtAStart),
    "adds nothing up at a start": Rules(replica=AddsNothingUpAtAStart),
}
