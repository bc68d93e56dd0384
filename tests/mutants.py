"""Faults in the protocol, one a class, each of which the simulation must catch."""

from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from msgspec.structs import replace

from counter.crdt.ids import is_folded, mint_run, run_of
from counter.crdt.tally import Tally
from counter.crdt.vector import Refused, Vector
from counter.protocol.anti_entropy import AntiEntropy
from counter.protocol.backlog import Backlog
from counter.protocol.batch import Batch
from counter.protocol.effects import Effects
from counter.protocol.folding import Folding
from counter.protocol.joining import Joining
from counter.protocol.keys import Written
from counter.protocol.messages import (
    DatedCopy,
    Delta,
    Envelope,
    KeysPage,
    KeysRequest,
    RepairPage,
    RepairRequest,
    Report,
    ReportRequest,
    RowsPage,
)
from counter.protocol.peers import Peer
from counter.protocol.recovery import Recovery
from counter.protocol.succession import Succession
from counter.store.contract import Counts
from simulation.disk import Disk
from simulation.rules import (
    TIMING,
    Rules,
    SmallKeys,
    SmallNumbering,
    SmallPages,
    SmallRepairs,
    SmallReports,
)
from tests.mutants_of_classes import FAULTS_OF_CLASSES
from tests.mutants_of_damage import FAULTS_OF_DAMAGE
from tests.mutants_of_ledgers import FAULTS_OF_LEDGERS
from tests.mutants_of_moves import FAULTS_OF_MOVES
from tests.mutants_of_runs import NEW_FAULTS


class PublishesBeforeItPersists(SmallPages):
    def publish(self, most: int | None = None) -> list[tuple[str, Delta]]:
        deltas = super().publish(most)
        early = self.pending._pending[self.id]
        more = sum(count - self.tally.count(self.id, video) for video, count in early.items())
        delta = Delta(dict(early), self.reports.published + more)
        return [*deltas, (self.id, delta)] if early else deltas


class TakesAFailedWriteForDone(SmallPages):
    def not_stored(self, batch: Batch) -> None:
        self.stored(batch)


class ShowsAVisitBeforeItIsStored(SmallPages):
    def visit(self, video: str) -> None:
        super().visit(video)
        self.tally.merge(self.id, {video: self.pending.count(video)})


class IgnoringRepairs(SmallRepairs):
    def compare(self, *_: object) -> None:
        return None


class IgnoresTheTotal(SmallPages):
    repairs_class = IgnoringRepairs


class RepairsByTheWriter(SmallRepairs):
    def compare(self, vector: str, total: int, peer: Peer, now: float) -> RepairRequest | None:
        writes = peer is self._peers.get(vector)
        return super().compare(vector, total, peer, now) if writes else None


class ForgetsRepairForAGoneNode(SmallPages):
    repairs_class = RepairsByTheWriter


class HashlessReports(SmallReports):
    def _copy(self, vector: str, *, closed: bool) -> DatedCopy:
        total, _, date = super()._copy(vector, closed=closed)
        return total, None, date


class LeavesOutTheContentHash(SmallPages):
    reports_class = HashlessReports


class ClosedHashesReports(SmallReports):
    def _copy(self, vector: str, *, closed: bool) -> DatedCopy:
        return super()._copy(vector, closed=closed and self._runs.is_closed(vector))


class HashesClosedVectorsOnly(SmallPages):
    reports_class = ClosedHashesReports


class OnePageRepairs(SmallRepairs):
    def go_on(self, answer: RepairPage, peer: Peer, now: float) -> list[RepairRequest]:
        return super().go_on(replace(answer, next=None), peer, now)


class StopsARepairAfterItsFirstPage(SmallPages):
    repairs_class = OnePageRepairs


class BlindNumbering(SmallNumbering):
    def page(self, ask: RepairRequest, *more: Any) -> RowsPage | None:
        own = self.digest(ask.known)
        page = super().page(replace(ask, digest=own or b""), *more)
        return page and replace(page, digest=ask.digest)


class BlindRepairs(SmallRepairs):
    numbering_class = BlindNumbering


class TellsRowsWhoeverKnowsOthers(SmallPages):
    repairs_class = BlindRepairs


class CredulousAntiEntropy(AntiEntropy):
    def heard_report(
        self, sender: str, report: Report, peer: Peer, *more: Any, **named: Any
    ) -> None:
        super().heard_report(sender, replace(report, said=None), peer, *more, **named)
        peer.confirmed = peer.heard


class TakesWhatItHeardForAllThatWasSaid(SmallPages):
    anti_entropy_class = CredulousAntiEntropy


class NeverAsksForWordsItMissed(SmallPages):
    def receive(self, envelope: Envelope, now: float, *, refused: bool = False) -> Effects:
        effects = super().receive(envelope, now, refused=refused)
        effects.send = [
            (to, body) for to, body in effects.send if not isinstance(body, ReportRequest)
        ]
        return effects


class IsReadyTooEarly(SmallPages):
    def _become_ready(self, now: float) -> set[str]:
        joins = self.state == "joining"
        if joins and (self.peers.live(now) or now - self.roster.started >= TIMING.join_timeout):
            self.joining.state, self.joining.complete = "ready", True
        return set()


class DeafJoining(Joining):
    def _listens(self, now: float) -> bool:
        return False


class IsReadyBeforeItHasHeardThoseItKnows(SmallPages):
    """What others counted is shown before it is stored; so a number falls over a kill."""

    joining_class = DeafJoining


class EmptyRecovery(Recovery):
    def loaded(self, vector: str, counts: Mapping[str, int]) -> set[str]:
        return set()


class DoesNotLoadItsStore(SmallPages):
    recovery_class = EmptyRecovery


class CarelessRecovery(Recovery):
    def forgotten(self, vectors: Collection[str], facts: Mapping[str, str]) -> None:
        self._backlog.loading = True


class DoesNotRewriteAStoreThatForgot(SmallPages):
    recovery_class = CarelessRecovery


class HastyFolding(Folding):
    def fold_blockers(self, now: float) -> Iterator[str]:
        return iter(())


class FoldsWithoutEveryMembersWord(SmallPages):
    folding_class = HastyFolding


class ImpatientFolding(Folding):
    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._wait = 0.0


class FoldsWithoutTheWait(SmallPages):
    folding_class = ImpatientFolding


class UnorderedFolding(Folding):
    """Folds up to the newest run that was closed for long, whatever there is before it."""

    def _agreed(self, member: str, mark: str, now: float) -> str:
        closed = [v for v in self._runs.closed(member) if self._is_old(v)]
        agreed = super()._agreed(member, mark, now)
        lasted = self._agreement.lasted((member, -1), self._wait, now)
        return max([agreed, *map(run_of, closed)]) if lasted else agreed

    def _is_old(self, vector: str) -> bool:
        return self._runs.closed_for(vector) >= self._fold_after


class FoldsOutOfOrder(SmallPages):
    folding_class = UnorderedFolding


class OverwritingBacklog(Backlog):
    def follow(self, member: str, mark: str) -> None:
        for part in self._tally.parts(member, mark):
            self._tally.discard(part)
        super().follow(member, mark)


class TakesAFoldedVectorOverWhole(SmallPages):
    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.backlog.__class__ = OverwritingBacklog


class FollowsAMarkWithoutItsOwnCopies(Tally):
    """Joins by the larger count, but does not add up its own copies before."""

    def fold(self, member: str, mark: str) -> list[Vector]:
        for part in self.parts(member, mark)[1:]:
            del self._vectors[part]
            self._of_members[member].remove(part)
        return super().fold(member, mark)


class CountsWhatIsFoldedAlready(Tally):
    def current(self, vector: str) -> bool:
        return not is_folded(vector) or super().current(vector)


class DeafSuccession(Succession):
    @property
    def ended_by_others(self) -> bool:
        return False

    def waits_below_mark(self) -> list[str]:
        return []


class GoesOnInAFoldedRun(SmallPages):
    succession_class = DeafSuccession


class HastySuccession(Succession):
    """Goes on as a new run at once, and has that count what the store may hold of the old one.

    Only to go on would be no fault: then the old run's visits are written again as its own.
    """

    @property
    def is_due(self) -> bool:
        return self.ended_by_others or super().is_due

    def rescue(self) -> None:
        for vector in self.waits_below_mark():
            if vector != self.own:
                self._pending.move(vector)


class MovesVisitsThatTheStoreMayHold(SmallPages):
    succession_class = HastySuccession


class KeysNotStored(SmallKeys):
    def batch(self, limit: int) -> Written:
        written = super().batch(limit)
        own = {f"key:{entry.replica} {entry.serial}" for entry in written.own}
        return written._replace(notes={n: t for n, t in written.notes.items() if n not in own})


class DoesNotStoreKeysWithTheirVisits(SmallPages):
    keys_class = KeysNotStored


class KeysStoredLater(SmallKeys):
    """In the batch after that of the visits."""

    def batch(self, limit: int) -> Written:
        written = super().batch(limit)
        late, self.late = self.late, written.notes
        return written._replace(notes=dict(late))

    late: Mapping[str, str] = MappingProxyType({})


class StoresKeysAfterTheirVisits(SmallPages):
    keys_class = KeysStoredLater


class UnaskedKeys(SmallKeys):
    def _ask(self, *_: object) -> None:
        return None


class ForgetsAKeyWhoseMessageIsLost(SmallPages):
    keys_class = UnaskedKeys


class HastyKeys(SmallKeys):
    def batch(self, limit: int) -> Written:
        written = super().batch(limit)
        run = self._log.run(self.own, 0.0)
        behind = {**written.behind, self.own: run.reached}
        for entry in written.own:
            run.reached = run.saved = entry.serial
            self._log.put(run, entry)
        self._in_flight = {}
        return written._replace(behind=behind)

    def stored(self, written: Written) -> None:
        pass


class PublishesAKeyBeforeItIsStored(SmallPages):
    keys_class = HastyKeys


class FreedKeys(SmallKeys):
    def not_stored(self, written: Written) -> None:
        self._in_flight = {}
        super().not_stored(written)


class FreesTheKeyOfAFailedBatch(SmallPages):
    keys_class = FreedKeys


class GaplessKeys(SmallKeys):
    def merge(self, taken: KeysPage, peer: Peer, now: float) -> KeysRequest | None:
        reached = self._log.run(taken.replica, now).reached
        return super().merge(replace(taken, after=min(taken.after, reached)), peer, now)


class SeesNoGapBetweenKeys(SmallPages):
    keys_class = GaplessKeys


class UnawaitedKeys(SmallKeys):
    def holds(self, peer: Peer) -> bool:
        return True


class IsReadyWithoutKeys(SmallPages):
    keys_class = UnawaitedKeys


class UnhealedKeys(SmallKeys):
    def forgotten(self) -> None:
        pass


class DoesNotRewriteKeys(SmallPages):
    keys_class = UnhealedKeys


class NewerVector(Vector):
    __slots__ = ()

    def merge(self, counts: Mapping[str, int], refused: Refused | None = None) -> dict[str, int]:
        grew = {v: n - self.count(v) for v, n in counts.items() if n != self.count(v)}
        for video in grew:
            self.set(self._videos.row(video), counts[video], self.count(video))
        return grew


class AddingVector(Vector):
    __slots__ = ()

    def merge(self, counts: Mapping[str, int], refused: Refused | None = None) -> Mapping[str, int]:
        return super().merge({v: n + self.count(v) for v, n in counts.items()})


class TakesTheNewerCount(Tally):
    vector_class = NewerVector


class AddsWhatIsToldTwice(Tally):
    vector_class = AddingVector


class IgnoresTheFlushMark(Disk):
    def write(self, counts: Counts, **more: Any) -> None:
        super().write(counts, **(more | {"heal": True}))


def reuse_the_run(now: int, latest: str, random: int) -> str:
    return latest or mint_run(now, latest, random)


FAULTS = (
    {
        "publishes before it persists": Rules(replica=PublishesBeforeItPersists),
        "takes a failed write for done": Rules(replica=TakesAFailedWriteForDone),
        "shows a visit before it is stored": Rules(replica=ShowsAVisitBeforeItIsStored),
        "reuses a replica id": Rules(mint=reuse_the_run),
        "ignores the total": Rules(replica=IgnoresTheTotal),
        "forgets repair for a node that is gone": Rules(replica=ForgetsRepairForAGoneNode),
        "leaves out the content hash": Rules(replica=LeavesOutTheContentHash),
        "sends the content hash for closed vectors only": Rules(replica=HashesClosedVectorsOnly),
        "stops a repair after its first page": Rules(replica=StopsARepairAfterItsFirstPage),
        "tells rows to whoever knows others": Rules(replica=TellsRowsWhoeverKnowsOthers),
        "takes what it heard for all that was said": Rules(
            replica=TakesWhatItHeardForAllThatWasSaid
        ),
        "never asks for announcements it missed": Rules(replica=NeverAsksForWordsItMissed),
        "is ready too early": Rules(replica=IsReadyTooEarly),
        "is ready before it has heard those it knows": Rules(
            replica=IsReadyBeforeItHasHeardThoseItKnows
        ),
        "does not load its store": Rules(replica=DoesNotLoadItsStore),
        "does not rewrite a store that forgot": Rules(replica=DoesNotRewriteAStoreThatForgot),
        "takes the newer instead of the larger count": Rules(tally=TakesTheNewerCount),
        "adds what it is told": Rules(tally=AddsWhatIsToldTwice),
        "ignores the flush mark": Rules(disk=IgnoresTheFlushMark),
        "folds without every member's word": Rules(replica=FoldsWithoutEveryMembersWord),
        "folds without the wait": Rules(replica=FoldsWithoutTheWait),
        "folds out of order": Rules(replica=FoldsOutOfOrder),
        "takes a folded vector over whole": Rules(replica=TakesAFoldedVectorOverWhole),
        "follows a mark without its own copies": Rules(tally=FollowsAMarkWithoutItsOwnCopies),
        "counts what is folded already": Rules(tally=CountsWhatIsFoldedAlready),
        "goes on in a run that is folded": Rules(replica=GoesOnInAFoldedRun),
        "moves visits that the store may hold": Rules(replica=MovesVisitsThatTheStoreMayHold),
        "does not store keys with their visits": Rules(replica=DoesNotStoreKeysWithTheirVisits),
        "stores keys after their visits": Rules(replica=StoresKeysAfterTheirVisits),
        "forgets a key whose message is lost": Rules(replica=ForgetsAKeyWhoseMessageIsLost),
        "publishes a key before it is stored": Rules(replica=PublishesAKeyBeforeItIsStored),
        "frees the key of a failed batch": Rules(replica=FreesTheKeyOfAFailedBatch),
        "sees no gap between keys": Rules(replica=SeesNoGapBetweenKeys),
        "is ready without keys": Rules(replica=IsReadyWithoutKeys),
        "does not rewrite keys": Rules(replica=DoesNotRewriteKeys),
    }
    | NEW_FAULTS
    | FAULTS_OF_MOVES
    | FAULTS_OF_CLASSES
    | FAULTS_OF_LEDGERS
    | FAULTS_OF_DAMAGE
)
