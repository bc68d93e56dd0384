"""The parts that simulated nodes are made of, and their times.

Pages are small, so that what takes several of them happens all the time.
"""

from collections.abc import Callable
from dataclasses import dataclass

from counter.crdt.ids import mint_run
from counter.crdt.tally import Tally
from counter.protocol.keys import Keys
from counter.protocol.ledger import Ledger
from counter.protocol.numbering import Numbering
from counter.protocol.pending import Pending
from counter.protocol.questions import Questions
from counter.protocol.repairs import Repairs
from counter.protocol.replica import Replica
from counter.protocol.reports import Reports
from simulation.disk import Disk
from simulation.process import Process


@dataclass(frozen=True)
class Timing:
    """The settings of every node that are seconds; named as `Replica` names them."""

    sync_interval: float
    join_timeout: float
    message_ttl: float
    fold_after: float


TIMING = Timing(sync_interval=1.0, join_timeout=5.0, message_ttl=4.0, fold_after=2.0)
KEY_LIFE = 100.0
"""Longer than a trial's `REST`, or what is missing in the end would expire before that is seen."""


class SmallNumbering(Numbering):
    """Rows that are told one by one."""

    rows_a_block = 2
    ids_at_once = 1


class SmallRepairs(Repairs):
    """Repairs that take several pages, though a simulated vector is short.

    Some are asked for as a version before does, which reads no extracts, others by row.
    """

    numbering_class = SmallNumbering
    large = 0
    scanned_a_page = 2

    def most(self) -> int:
        """Return 0 with every third question."""
        return super().most() if self._salt % 3 else 0


class SmallSteps(Pending):
    """Visits of which a batch takes several steps."""

    a_step = entries_a_step = 1


class FewQuestions(Questions):
    """Questions of which most have to wait for the answers to others."""

    most = 2


class SmallKeys(Keys):
    """Keys of which a message holds two, and which soon expire."""

    life = KEY_LIFE
    page_bytes = 90


class SmallLedger(Ledger):
    """A ledger of which a message holds one record, or two."""

    page_bytes = 400


class SmallReports(Reports):
    """Reports of which a message names two closed runs."""

    runs_a_page = 2


class SmallPages(Replica):
    """A replica with such repairs, steps, questions, keys, reports and ledger."""

    repairs_class = SmallRepairs
    pending_class = SmallSteps
    questions_class = FewQuestions
    keys_class = SmallKeys
    ledger_class = SmallLedger
    reports_class = SmallReports


@dataclass(frozen=True)
class Rules:
    """The parts of a node; a mutant replaces one of them by a faulty one."""

    replica: type[Replica] = SmallPages
    tally: type[Tally] = Tally
    disk: type[Disk] = Disk
    process: type[Process] = Process
    mint: Callable[[int, str, int], str] = mint_run
