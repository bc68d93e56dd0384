"""The simulated cluster keeps its promises, and a fault in the protocol does not go unseen.

Each fault here is a plausible mistake, put in the place of one part of a node. The simulation
must catch it soon: one that it does not catch means that it looks too little.
"""

from collections.abc import Iterator, Mapping
from itertools import count

import pytest

from counter.messages import Answer, Delta, Report
from counter.replica import Batch, Effects, Peer, mint_run
from counter.store import Counts
from counter.tally import Tally, Vector, member_of
from simulation.history import History, Step, generate, run, shorten
from simulation.node import Disk, Rules, SmallPages

STEPS = 200
MOST_HISTORIES = 400
"""Some 60 seconds."""


@pytest.mark.parametrize("start", range(0, 80, 20))
def test_random_histories_are_exact_monotone_and_honest(start: int) -> None:
    for seed in range(start, start + 20):
        outcome = run(generate(seed, STEPS))
        assert not outcome.failure, f"seed {seed}: {outcome.failure}"
        assert outcome.visits > 0


class PublishesBeforeItPersists(SmallPages):
    def publish(self) -> list[Delta]:
        deltas = super().publish()
        return [*deltas, Delta(dict(self._raised), self._published)] if self._raised else deltas


class TakesAFailedWriteForDone(SmallPages):
    def not_stored(self, batch: Batch) -> None:
        self.stored(batch)


class ShowsAVisitBeforeItIsStored(SmallPages):
    def visit(self, video: str) -> None:
        super().visit(video)
        self.tally.merge(self.id, {video: self._raised[video]})


class IgnoresTheTotal(SmallPages):
    def _compare(self, *_: object) -> None:
        pass


class ForgetsRepairForAGoneNode(SmallPages):
    def _compare(self, replica: str, total: int, peer: Peer, now: float, effects: Effects) -> None:
        if peer is self._peers.get(replica):
            super()._compare(replica, total, peer, now, effects)


class LeavesOutTheContentHash(SmallPages):
    def _report(self, now: float) -> Iterator[Report]:
        for report in super()._report(now):
            yield Report(report.state, report.totals, {}, report.peers)


class HashesClosedVectorsOnly(SmallPages):
    def _report(self, now: float) -> Iterator[Report]:
        for report in super()._report(now):
            closed = {
                replica: digest
                for replica, digest in report.digests.items()
                if any(
                    other > replica and member_of(other) == member_of(replica)
                    for other in (*self.tally.totals(), *self._peers)
                )
            }
            yield Report(report.state, report.totals, closed, report.peers)


class StopsARepairAfterItsFirstPage(SmallPages):
    def _go_on(self, answer: Answer, peer: Peer, now: float, effects: Effects) -> None:
        super()._go_on(Answer(answer.replica, answer.counts, None), peer, now, effects)


class IsReadyTooEarly(SmallPages):
    def _become_ready(self, now: float) -> None:
        if self._live(now) or now - self._started >= self._join_timeout:
            self.state = "ready"


class DoesNotLoadItsStore(SmallPages):
    def loaded(self, replica: str, counts: Mapping[str, int]) -> set[str]:
        return set()


class DoesNotRewriteAStoreThatForgot(SmallPages):
    def forgotten(self) -> None:
        pass


class NewerVector(Vector):
    __slots__ = ()

    def merge(self, counts: Mapping[str, int]) -> dict[str, int]:
        grew = {v: n - self.counts.get(v, 0) for v, n in counts.items() if n != self.counts.get(v)}
        self.counts.update(counts)
        self.total += sum(grew.values())
        self._sums = self._digest = None
        return grew


class AddingVector(Vector):
    __slots__ = ()

    def merge(self, counts: Mapping[str, int]) -> dict[str, int]:
        return super().merge({v: n + self.counts.get(v, 0) for v, n in counts.items()})


class TakesTheNewerCount(Tally):
    vector_class = NewerVector


class AddsWhatIsToldTwice(Tally):
    vector_class = AddingVector


class IgnoresTheFlushMark(Disk):
    def write(self, counts: Counts, *, heal: bool = False) -> None:
        super().write(counts, heal=True)


def reuse_the_run(now: int, latest: str, random: int) -> str:
    return latest or mint_run(now, latest, random)


FAULTS = {
    "publishes before it persists": Rules(replica=PublishesBeforeItPersists),
    "takes a failed write for done": Rules(replica=TakesAFailedWriteForDone),
    "shows a visit before it is stored": Rules(replica=ShowsAVisitBeforeItIsStored),
    "reuses a replica id": Rules(mint=reuse_the_run),
    "ignores the total": Rules(replica=IgnoresTheTotal),
    "forgets repair for a node that is gone": Rules(replica=ForgetsRepairForAGoneNode),
    "leaves out the content hash": Rules(replica=LeavesOutTheContentHash),
    "sends the content hash for closed vectors only": Rules(replica=HashesClosedVectorsOnly),
    "stops a repair after its first page": Rules(replica=StopsARepairAfterItsFirstPage),
    "is ready too early": Rules(replica=IsReadyTooEarly),
    "does not load its store": Rules(replica=DoesNotLoadItsStore),
    "does not rewrite a store that forgot": Rules(replica=DoesNotRewriteAStoreThatForgot),
    "takes the newer instead of the larger count": Rules(tally=TakesTheNewerCount),
    "adds what it is told": Rules(tally=AddsWhatIsToldTwice),
    "ignores the flush mark": Rules(disk=IgnoresTheFlushMark),
}


A_MOMENT = 0.23
"""Two ticks."""

DIRECTED = {
    "two nodes hold different parts of a gone node's vector, with equal totals": History(
        seed=0,
        nodes=3,
        twins=False,
        steps=(
            Step("pass", 0, 0, 0.6),
            Step("one-way", 0, 2, 0),
            Step("visit", 0, 0, 0),
            Step("pass", 0, 0, A_MOMENT),
            Step("heal", 0, 0, 0),
            Step("one-way", 0, 1, 0),
            Step("one-way", 2, 0, 0),
            Step("visit", 0, 1, 0),
            Step("pass", 0, 0, A_MOMENT),
            Step("kill", 0, 0, 0),
            Step("lose", 0, 0, 0),
        ),
    ),
}
"""Histories that random ones rarely get to."""


@pytest.mark.parametrize("name", DIRECTED)
def test_a_directed_history_is_exact_monotone_and_honest(name: str) -> None:
    assert run(DIRECTED[name]).failure == ""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_protocol_is_caught(fault: str) -> None:
    if any(run(history, FAULTS[fault]).failure for history in DIRECTED.values()):
        return
    for seed in count():
        assert seed < MOST_HISTORIES, f"not caught in {seed} histories"
        if run(generate(seed, STEPS), FAULTS[fault]).failure:
            return


def test_a_failing_history_is_shortened_and_fails_again() -> None:
    rules = FAULTS["reuses a replica id"]
    seed = next(seed for seed in count() if run(generate(seed, STEPS), rules).failure)
    history = shorten(generate(seed, STEPS), rules)
    assert len(history.steps) < STEPS / 4
    assert run(history, rules).failure
    assert not run(history).failure
