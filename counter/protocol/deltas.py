"""Deltas: what this process has committed and not published yet.

Pure: no I/O, no clock.
"""

from collections.abc import Mapping

from counter.crdt.columns import Growth
from counter.crdt.tally import Tally
from counter.protocol.ledger import Ledger
from counter.protocol.messages import PAGE_BYTES, Delta
from counter.protocol.reports import Reports


class Deltas:
    """The growth of its own runs since it was published last."""

    def __init__(self, tally: Tally, reports: Reports, ledger: Ledger) -> None:
        self._tally = tally
        self._reports = reports
        self._ledger = ledger
        self._unpublished: dict[str, dict[str, int]] = {}

    def add(self, run: str, growths: Mapping[str, int], *, told: bool) -> None:
        """Add what the store holds of a run from now on: `{video: growth}`.

        Where nobody is `told`, much counts as published: who comes later asks for what it lacks.
        """
        if type(growths) is Growth and not told:
            if run == self._reports.own:
                self._reports.published += int(growths.numbers.sum())
            return
        unpublished = self._unpublished.setdefault(run, {})
        apart = 0
        for video, growth in growths.items():
            unpublished[video] = unpublished.get(video, 0) + growth
            if "/" in video:
                apart += growth
        if apart and run == self._reports.own:
            self._reports.apart.add(self._tally.total(run), apart)

    def __bool__(self) -> bool:
        """Whether there is anything to be published."""
        return bool(self._unpublished)

    def publish(self, most: int | None = None) -> list[tuple[str, Delta]]:
        """Take everything, as deltas that fit into one message each, with the run of each.

        Or `most` of them; the rest follows with the next call. The total of its present run grows
        page by page: a larger one would look like a loss. Records of operators go first.
        """
        deltas = self._ledger.publish(self._reports.own, self._reports.published, most)
        for run, growth in sorted(self._unpublished.items()):
            while growth and (most is None or len(deltas) < most):
                page = _take_page(growth)
                total = self._tally.total(run)
                if run == self._reports.own:
                    self._reports.published += sum(page.values())
                    total = self._reports.published
                deltas.append((run, Delta(self._tally.counts(run, page), total)))
            if not growth:
                del self._unpublished[run]
        return deltas


def _take_page(growth: dict[str, int]) -> dict[str, int]:
    """Remove as many entries as fit into one message, and return them."""
    page: dict[str, int] = {}
    size = 0
    while growth and size <= PAGE_BYTES:
        # The last ones: a dict from which the first are removed is searched for the next one.
        video, visits = growth.popitem()
        page[video] = visits
        size += len(video) + 12
    return page
