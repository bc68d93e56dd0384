"""Visits that are not committed: *pending*, counted in memory only, then *in flight* to the store.

They belong to the run that counted them, even if a later one has begun meanwhile. Counts are
absolute, so writing them twice does no harm.

Pure: no I/O, no clock.
"""

from collections.abc import Iterator, Mapping
from itertools import islice

from counter.crdt.columns import Entries
from counter.crdt.gathered import Gathered
from counter.crdt.gcounter import MAX_COUNT
from counter.crdt.ids import class_of, member_of
from counter.crdt.limits import check_room
from counter.crdt.tally import Tally
from counter.protocol.untold import NOTE, Untold

_CHECKED_SINGLY = 100
"""Fewer videos than this are checked one by one for room."""
MAX_TOTAL = 2**56
"""The most visits of one run: totals are told in 63 bits, those of many runs folded as well."""

_RESERVE = 2**52
"""A run that comes this near to `MAX_TOTAL` ends."""

Counts = dict[str, Mapping[str, int]]
"""`{replica: {video: count}}`, absolute counts."""


class Pending:
    """The visits of this process that the store does not hold yet; `own` is the run that counts."""

    untold_class: type[Untold] = Untold
    a_step = 4_000
    """How many counts are looked for at once: 4 to 8 ms if their videos are new here."""

    def __init__(self, own: str, tally: Tally) -> None:
        self.own = own
        self._tally = tally
        self._counted = 0
        self._pending: dict[str, dict[str, int]] = {own: {}}
        self._gathered = Gathered(tally.ids)
        """What the own run has counted beside that, of many videos at once."""
        self._in_flight: Counts = {}
        self._in_doubt: set[str] = set()
        self._notes: dict[str, str] = {}
        self.untold = self.untold_class(member_of(own), tally, self)
        """What is counted of classes and not told yet."""
        self.is_full = False
        """Whether the own run has no room for more visits, or little: it is time for another."""

    def visit(self, video: str) -> None:
        """Count one visit. Raises `FullError` if there is no room for it, as `count_many` does."""
        count = self.count(video)
        # Its own committed count is in both, so most videos need no closer look.
        if count + self._tally.visits(video) >= MAX_COUNT or self._counted >= MAX_TOTAL:
            self.count_many({video: 1})
        else:
            if self._gathered.total:
                count -= self._gathered.of(video)
            self._pending[self.own][video] = count + 1
            self._counted += 1

    def count_many(self, visits: Mapping[str, int], notes: Mapping[str, str] | None = None) -> None:
        """Count many visits, all or none. The store gets the `notes` in the same atomic step.

        Those of classes, under a key of theirs, are kept aside while they are not to be told.

        Raises `FullError` if the sum of a video, as far as it is known here, would exceed its
        limit, and OverflowError if this run can count no more.
        """
        kept: dict[str, int] = {}
        if self.untold.keeps and "/" in "".join(visits):
            kept = {key: more for key, more in visits.items() if class_of(key)}
            visits = {video: more for video, more in visits.items() if video not in kept}
        self.count_here(visits, notes)
        if kept:
            self.untold.keep(kept)

    def count_here(self, visits: Mapping[str, int], notes: Mapping[str, str] | None = None) -> None:
        """The same, and nothing is kept aside."""
        more = sum(visits.values())
        total, are_many = self._counted + more, self._tally.ids.together(visits)
        singly = not (are_many or self._gathered.total or len(visits) >= _CHECKED_SINGLY)
        # While all visits of all videos are fewer than one may have, nothing can be full: where
        # many are counted at once that is quicker to see than to look at each.
        if singly or total + sum(self._tally.members().values()) > MAX_COUNT:
            self._scatter()
            self._count_each(visits, total, check=True)
        elif are_many:
            self._gathered.add(visits, more)
        else:
            self._count_each(visits, total, check=False)
        self._counted = total
        if notes:
            self._notes.update(notes)

    def _count_each(self, visits: Mapping[str, int], total: int, *, check: bool) -> None:
        """Count visits, with which this run has so many; with `check`, if there is room for all."""
        own, pending = self._tally.vector(self.own), self._pending[self.own]
        in_flight = self._in_flight.get(self.own, {})
        held = own.count if len(visits) < _CHECKED_SINGLY else own.counts(visits).__getitem__
        counts = {
            video: (pending.get(video) or in_flight.get(video) or held(video)) + more
            for video, more in visits.items()
        }
        if check:
            committed = self._tally.visits
            counted = {
                video: committed(video) - own.count(video) + counts[video] - more
                for video, more in visits.items()
            }
            check_room(visits, counted)
        self.is_full = self.is_full or total > MAX_TOTAL - _RESERVE
        if total > MAX_TOTAL:
            raise OverflowError(f"the visits of this run have reached their end, {MAX_TOTAL}")
        pending.update(counts)

    def _scatter(self) -> None:
        """Have what was gathered among what is counted one by one."""
        if self._gathered.total:
            pending = self._pending[self.own]
            for video, more in self._gathered.take().items():
                pending[video] = self.count(video) + more

    def note(self, notes: Mapping[str, str]) -> None:
        """Have the store get these notes with the next batch."""
        self._notes.update(notes)

    def note_again(self, notes: Mapping[str, str]) -> None:
        """Have the store get these notes once more, where no newer ones are to be written."""
        self._notes = dict(notes) | self._notes

    def count(self, video: str) -> int:
        """The own run's count of a video, whether the store holds it yet or not."""
        own = self.own
        count = (
            self._pending[own].get(video)
            or (own in self._in_flight and self._in_flight[own].get(video))
            or self._tally.count(own, video)
        )
        return count + self._gathered.of(video) if self._gathered.total else count

    def uncommitted(self, video: str) -> int:
        """What this process has counted of a video in all its runs, and the store does not hold."""
        more = self.count(video) - self._tally.count(self.own, video)
        for run in (self._pending.keys() | self._in_flight.keys()) - {self.own}:
            count = self._pending.get(run, {}).get(video) or self._in_flight.get(run, {}).get(video)
            more += max(0, (count or 0) - self._tally.count(run, video))
        return more

    def unflushed(self) -> int:
        """How many visits the store does not hold yet; of those kept aside, how many notes."""
        # Nobody else counts in the own run, and what it has counted may be a million videos.
        total = max(0, self._counted - self._tally.total(self.own))
        total += sum(name.startswith(NOTE) for name in self._notes) if self.untold else 0
        for run in (self._pending.keys() | self._in_flight.keys()) - {self.own}:
            latest = {**self._in_flight.get(run, {}), **self._pending.get(run, {})}
            held = self._tally.counts(run, latest)
            total += sum(max(0, count - held[video]) for video, count in latest.items())
        return total

    def __bool__(self) -> bool:
        """Whether there is anything to be written that visitors may wait for."""
        return bool(self._gathered.total) or any(self._pending.values())

    @property
    def are_many(self) -> bool:
        """Whether they are of so many videos that these may be many from now on."""
        return 2 * len(self._pending[self.own]) > self._tally.ids.small

    @property
    def notes(self) -> bool:
        """Whether there are notes to be written."""
        return bool(self._notes)

    @property
    def in_doubt(self) -> bool:
        """Whether the store may hold visits that are still to be written."""
        return bool(self._in_doubt)

    def take(self) -> tuple[Counts, dict[str, str]]:
        """Take everything that is pending, with its notes: it is in flight from now on.

        It ends with `stored` or `not_stored`.
        """
        self._in_flight = {run: counts for run, counts in self._pending.items() if counts}
        if self._gathered.total:
            self._in_flight[self.own] = self._take_gathered(self._pending[self.own])
        self._pending = {self.own: {}}
        notes, self._notes = self._notes, {}
        return self._in_flight, notes

    def _take_gathered(self, singly: Mapping[str, int]) -> Entries:
        """The counts of all that was gathered, and of what was counted one by one beside it."""
        own = self._tally.vector(self.own)
        held = own.counts(singly)
        more = {
            video: count - held[video] for video, count in singly.items() if count > held[video]
        }
        self._gathered.add(more, 0)
        grew = self._gathered.take()
        return Entries(grew.index, grew.rows, own.take(grew.rows) + grew.numbers, grew.named)

    def stored(self, counts: Counts) -> Iterator[tuple[str, Mapping[str, int]]]:
        """The store holds this: it is committed, some counts in each step; yields what grew.

        Between two steps all of it is still in flight, and so counted: counts are absolute.
        """
        for run, of_run in counts.items():
            for page in self.pages(of_run):
                yield run, self._tally.merge(run, page)
        self._in_flight = {}
        self._in_doubt -= counts.keys()

    def pages(self, counts: Mapping[str, int]) -> Iterator[Mapping[str, int]]:
        """Counts that do not change, as many at a time as are one step."""
        if type(counts) is Entries:
            for first in range(0, len(counts), self.a_step):
                yield counts.part(first, first + self.a_step)
        elif len(counts) <= self.a_step:
            yield counts
        else:
            rest = iter(counts.items())
            while page := dict(islice(rest, self.a_step)):
                yield page

    def not_stored(self, counts: Counts, notes: Mapping[str, str]) -> None:
        """The store may or may not hold this: it is pending again, of the run that it was."""
        for run, of_run in counts.items():
            self._pending[run] = {**of_run, **self._pending.get(run, {})}
        self._in_doubt |= counts.keys()
        self._notes = dict(notes) | self._notes
        self._in_flight = {}

    def begin(self, own: str) -> None:
        """Go on as another run; what is pending still belongs to the one before."""
        self._scatter()
        self.own, self._counted, self.is_full = own, 0, False
        self._pending[own] = {}

    def waiting(self) -> list[str]:
        """The runs whose visits are pending or in flight."""
        runs = dict.fromkeys((*self._in_flight, *self._pending))
        own = self.own if self._gathered.total else ""
        of = self._in_flight, self._pending
        return [run for run in runs if run == own or any(counts.get(run) for counts in of)]

    def move(self, run: str) -> None:
        """Have the own run count what is pending of an earlier one, which others ignore now.

        Not while that is in doubt, for the store may hold it as the earlier one's. These visits
        are counted already, so a video that is full meanwhile refuses none of them. Only a count
        that alone is as large as any number shown stays at `MAX_COUNT`.
        """
        self._scatter()
        own = self._pending[self.own]
        for video, count in self._pending.pop(run, {}).items():
            more, before = count - self._tally.count(run, video), self.count(video)
            if more > 0:
                own[video] = min(before + more, MAX_COUNT)
                self._counted += own[video] - before
        self.is_full = self.is_full or self._counted > MAX_TOTAL - _RESERVE

    def drop_known(self) -> None:
        """Drop what the tally holds of earlier runs by now: it need not be written as theirs."""
        for run, counts in list(self._pending.items()):
            if run != self.own:
                left = {v: n for v, n in counts.items() if n > self._tally.count(run, v)}
                self._pending[run] = left
