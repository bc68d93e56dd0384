"""Deltas: what this process has committed and not published yet.

Pure: no I/O, no clock.
"""

from collections.abc import Iterator, Mapping

from counter.crdt.tally import Tally
from counter.protocol.messages import PAGE_BYTES, Delta
from counter.protocol.reports import Reports


class Deltas:
    """The growth of its own runs since it was published last."""

    def __init__(self, tally: Tally, reports: Reports) -> None:
        self._tally = tally
        self._reports = reports
        self._unpublished: dict[str, dict[str, int]] = {}

    def add(self, run: str, growths: Mapping[str, int]) -> None:
        """Add what the store holds of a run from now on: `{video: growth}`."""
        unpublished = self._unpublished.setdefault(run, {})
        for video, growth in growths.items():
            unpublished[video] = unpublished.get(video, 0) + growth

    def publish(self) -> list[tuple[str, Delta]]:
        """Take everything, as deltas that fit into one message each, with the run of each.

        The total of its present run grows page by page: a larger one would look like a loss.
        """
        unpublished, self._unpublished = self._unpublished, {}
        deltas = []
        for run, growth in sorted(unpublished.items()):
            remaining = iter(growth.items())
            while page := dict(_page(remaining)):
                total = self._tally.total(run)
                if run == self._reports.own:
                    self._reports.published += sum(page.values())
                    total = self._reports.published
                deltas.append((run, Delta(self._tally.counts(run, page), total)))
        return deltas


def _page(growth: Iterator[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """As many entries as fit into one message."""
    size = 0
    for video, visits in growth:
        yield video, visits
        size += len(video) + 12
        if size > PAGE_BYTES:
            return
