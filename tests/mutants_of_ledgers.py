"""Faults in the ledger, which the simulation must catch as well."""

from collections.abc import Iterable

from counter.protocol.records import Record
from simulation.rules import Rules, SmallLedger, SmallPages


class TwiceLedger(SmallLedger):
    def _put(self, record: Record) -> bool:
        is_news = super()._put(record)
        if not is_news:
            self._add_entries(record)
            self._follow([record.video])
        return is_news


class AppliesARecordTwice(SmallPages):
    ledger_class = TwiceLedger


class BlindLedger(SmallLedger):
    def _rule(self, video: str) -> dict[str, int]:
        entries = self._entries.get(video, {})
        return {member: sum(take for take, _ in of) for member, of in entries.items()}


class IgnoresWhatWasSeen(SmallPages):
    ledger_class = BlindLedger


class TimelyLedger(SmallLedger):
    def _rule(self, video: str) -> dict[str, int]:
        withdrawn: dict[str, int] = {}
        for record in reversed(self.of(video)):
            for member, (take, seen) in record.takes.items():
                before = withdrawn.get(member, 0)
                withdrawn[member] = max(before, min(before + take, seen))
        return withdrawn


class OrdersByTimeInsteadOfBySeen(SmallPages):
    ledger_class = TimelyLedger


class ForgetfulLedger(SmallLedger):
    def merge(self, records: Iterable[Record]) -> tuple[set[str], int]:
        kept = []
        for record in records:
            # As if what is known here already said whether a video is blocked.
            known = self._blocks.get(record.video)
            if record.act == "withdraw" or known is None or known.at < record.at:
                kept.append(record)
        return super().merge(kept)


class LosesABlockInAJoin(SmallPages):
    ledger_class = ForgetfulLedger


class HastyLedger(SmallLedger):
    def take(self, record: Record) -> None:
        super().take(record)
        self._put(record)
        self._follow([record.video])
        self._unpublished[record.id] = None


class TellsARecordBeforeItIsStored(SmallPages):
    ledger_class = HastyLedger


class MemoryLedger(SmallLedger):
    def _keep(self, id_: str) -> None:
        return None


class DoesNotStoreTheRecordsOfOthers(SmallPages):
    ledger_class = MemoryLedger


class TouchingLedger(SmallLedger):
    def next_time(self, video: str, now: int) -> int:
        return now


class DatesARecordByItsOwnClockAlone(SmallPages):
    ledger_class = TouchingLedger


FAULTS_OF_LEDGERS = {
    "applies a record twice": Rules(replica=AppliesARecordTwice),
    "ignores what was seen": Rules(replica=IgnoresWhatWasSeen),
    "orders by time instead of by what was seen": Rules(replica=OrdersByTimeInsteadOfBySeen),
    "loses a block in a join": Rules(replica=LosesABlockInAJoin),
    "tells a record before it is stored": Rules(replica=TellsARecordBeforeItIsStored),
    "does not store the records of others": Rules(replica=DoesNotStoreTheRecordsOfOthers),
    "dates a record by its own clock alone": Rules(replica=DatesARecordByItsOwnClockAlone),
}
