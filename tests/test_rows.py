"""Counts by row: they are what the same counts by id are, whatever happens to the rows."""

from array import array
from collections.abc import Callable
from copy import deepcopy
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from counter.crdt.ids import encode_id
from counter.crdt.narrow import packed
from counter.crdt.tally import Tally
from counter.crdt.videos import Videos
from counter.protocol.messages import (
    Envelope,
    RepairPage,
    RepairRequest,
    RowsPage,
    decode,
    encode,
)
from counter.protocol.numbering import Numbering
from counter.protocol.peers import Peer, Peers
from counter.protocol.questions import Questions
from counter.protocol.repairs import Repairs
from lab.clients import until
from tests.protocol import TTL
from tests.small import EVERY_VIDEOS, SoonMany
from tests.test_columns import STEP, busy

RUNS = [f"a~{encode_id(1, 13)}.{encode_id(run, 23)}" for run in range(1, 5)]
NAMED = [f"video-{number}" for number in range(40)]
vectors = st.lists(
    st.dictionaries(st.sampled_from(NAMED), st.integers(1, 70_000), max_size=40),
    min_size=len(RUNS),
    max_size=len(RUNS),
)


class FewRows(Numbering):
    """A numbering that is told in many pages."""

    rows_a_block = 4
    ids_at_once = 7


class Asking(Repairs):
    """Repairs by row, however little is lacking."""

    numbering_class = FewRows
    large = 0
    scanned_a_page = 15


class Before(Asking):
    """The version before: it knows nothing of rows."""

    def answer(self, ask: RepairRequest, own: str) -> RepairPage | RowsPage | None:
        told = RepairRequest(ask.vector, ask.hashes, ask.salt, ask.after, ask.most)
        return super().answer(told, own)


def tally_of(told: list[dict[str, int]], kind: type[Videos] = Videos) -> Tally:
    class Own(Tally):
        videos_class = kind
        vector_class = SoonMany

    tally = Own()
    for run, counts in zip(RUNS, told, strict=False):
        tally.merge(run, counts)
    return tally


class Pair:
    """A node that lacks much, and one that has it; every page goes over the wire."""

    def __init__(self, copy: Tally, whole: Tally, answering: type[Repairs] = Asking) -> None:
        self.copy, self.peer, self.now = copy, Peer("there", 0.0, 0.0), 0.0
        self.asking = self.repairs(Asking, copy)
        self.answering = self.repairs(answering, whole)
        self.pages: list[RepairPage | RowsPage] = []
        self.change: Callable[[RowsPage], RowsPage] = lambda page: page

    @staticmethod
    def repairs(kind: type[Repairs], tally: Tally) -> Repairs:
        return kind(tally, Peers(3.0, TTL), Questions(2.0), 1.0, TTL)

    @property
    def whole(self) -> Tally:
        return self.answering._tally

    def ask(self) -> list[RepairRequest]:
        """What is asked for when the other one reports."""
        self.now += 2.5
        asks = (
            self.asking.compare(run, self.whole.total(run), self.peer, self.now) for run in RUNS
        )
        return [ask for ask in asks if ask is not None]

    def step(self, asks: list[RepairRequest]) -> None:
        """Answer the first question; those that follow from it are appended."""
        ask = self.over_the_wire(asks.pop(0))
        page = self.answering.answer(ask, "")
        if page is None:
            return
        if isinstance(page, RowsPage):
            page = self.change(page)
        self.pages.append(page)
        read = self.asking.read(self.over_the_wire(page), self.peer, self.now)
        if read is not None:
            self.copy.merge(read.vector, read.counts)
            asks += self.asking.go_on(read, self.peer, self.now)

    @staticmethod
    def over_the_wire(body: Any) -> Any:
        return decode(encode(Envelope(RUNS[0], "", 7, body), None), None, 7, 1000).body

    def finish(self, asks: list[RepairRequest] | None = None) -> None:
        """Go on until nothing is lacking; then all of it must be the same."""
        for _ in range(20):
            asks = self.ask() if asks is None else asks
            while asks:
                self.step(asks)
            asks = None
            if self.copy.totals() == self.whole.totals():
                break
        assert self.copy.totals() == self.whole.totals()
        for run in RUNS:
            assert self.copy.digest(run) == self.whole.digest(run)
            assert dict(self.copy.vector(run).items()) == dict(self.whole.vector(run).items())
        for video in NAMED:
            assert self.copy.visits(video) == self.whole.visits(video)

    def by_row(self) -> int:
        """How many counts came by row."""
        return sum(page.size for page in self.pages if isinstance(page, RowsPage))


def all_of(kind: type[Videos] = Videos, order: int = 1) -> Tally:
    """Four vectors of which each has most of the videos; the order is that of the rows."""
    counts = {video: at for at, video in enumerate(NAMED) if at % 5}
    return tally_of(
        [
            {video: 1 + counts[video] * run for video in list(counts)[::order]}
            for run in range(1, 5)
        ],
        kind,
    )


@pytest.fixture(params=EVERY_VIDEOS)
def kind(request: Any) -> type[Videos]:
    """Few videos, and many."""
    chosen: type[Videos] = request.param
    return chosen


@pytest.mark.parametrize("asking", EVERY_VIDEOS)
@pytest.mark.parametrize("answering", EVERY_VIDEOS)
@given(vectors, vectors, st.booleans())
@settings(max_examples=15)
def test_counts_by_row_bring_what_counts_by_id_bring(
    asking: type[Videos], answering: type[Videos], told: Any, held: Any, rests: bool
) -> None:
    whole = tally_of(told, answering)
    for run, counts in zip(RUNS, held, strict=True):
        whole.merge(run, counts)
    if rests:
        for run in RUNS:
            whole.rest(run, 10**6)
    Pair(tally_of(held[:2], asking), whole).finish()


def test_ids_are_told_once(kind: type[Videos]) -> None:
    pair = Pair(tally_of([], kind), all_of(kind))
    pair.finish()
    ids = sum(page.text.count(b"\0") for page in pair.pages if isinstance(page, RowsPage))
    assert ids == len(pair.whole.ids)
    assert pair.by_row() > 0.9 * sum(pair.whole.size(run) for run in RUNS)


def test_one_small_vector_is_told_by_ids(kind: type[Videos]) -> None:
    whole = all_of(kind)
    whole.merge(RUNS[3].replace("a~", "b~"), {"video-7": 3})
    pair = Pair(all_of(kind), whole)
    run = RUNS[3].replace("a~", "b~")
    ask = pair.asking.compare(run, 3, pair.peer, 1.0)
    assert ask is not None
    assert pair.answering.answer(ask, "") == RepairPage(run, {"video-7": 3}, None)


@pytest.mark.parametrize("steps", range(1, 24, 2))
def test_a_node_that_has_other_rows_after_a_restart_puts_no_count_on_another_video(
    kind: type[Videos], steps: int
) -> None:
    pair = Pair(tally_of([], kind), all_of(kind))
    asks = pair.ask()
    for _ in range(steps):
        if asks:
            pair.step(asks)
    pair.answering = pair.repairs(Asking, all_of(kind, order=-1))
    pair.finish(asks)


class Blind(FewRows):
    """It tells counts by row to whoever knows other rows."""

    def page(self, ask: RepairRequest, *more: Any) -> RowsPage | None:
        page = super().page(replace(ask, digest=self.digest(ask.known) or b""), *more)
        return page and replace(page, digest=ask.digest)


class BlindAsking(Asking):
    numbering_class = Blind


def test_a_node_that_does_not_look_at_the_digest_is_found_out() -> None:
    """What the tests before show is shown by the digest alone."""
    pair = Pair(tally_of([]), all_of())
    asks = pair.ask()
    for _ in range(8):
        pair.step(asks)
    pair.answering = pair.repairs(BlindAsking, all_of(order=-1))
    with pytest.raises(AssertionError):
        pair.finish(asks)


def test_a_node_put_back_to_a_snapshot_has_other_rows_from_there_on(kind: type[Videos]) -> None:
    whole = tally_of([dict.fromkeys(NAMED[:12], 2)] * 3, kind)
    snapshot = deepcopy(whole)
    for run in RUNS:
        whole.merge(run, dict.fromkeys(NAMED[12:30], 3))
    pair = Pair(tally_of([], kind), whole)
    asks = pair.ask()
    for _ in range(4):
        pair.step(asks)
    known, digest = pair.asking._numberings.known("there")
    assert known > 12
    for run in RUNS:
        snapshot.merge(run, dict.fromkeys(reversed(NAMED[12:30]), 3))
    pair.answering = pair.repairs(Asking, snapshot)
    assert FewRows(snapshot).digest(known) != digest
    pair.finish(asks)


def test_a_numbering_outlives_a_restart_that_leaves_the_rows_as_they_were(
    kind: type[Videos],
) -> None:
    pair = Pair(tally_of([], kind), all_of(kind))
    asks = pair.ask()
    for _ in range(5):
        pair.step(asks)
    known = pair.asking._numberings.known("there")
    pair.answering = pair.repairs(Asking, all_of(kind))
    pair.step(asks)
    assert pair.asking._numberings.known("there")[0] >= known[0] > 0


def numbers(*values: int) -> bytes:
    return packed(array("Q", values))


FORGED: dict[str, Callable[[RowsPage], RowsPage]] = {
    "other rows": lambda page: replace(page, first=page.first + 10**6),
    "a row twice": lambda page: replace(page, size=2, gaps=numbers(0, 0), counts=numbers(1, 1)),
    "no count": lambda page: replace(page, size=1, gaps=numbers(0), counts=numbers(0)),
    "a count too large": lambda page: replace(page, size=1, gaps=numbers(0), counts=numbers(2**53)),
    "a size that does not fit": lambda page: replace(page, size=page.size + 1),
    "a row that wraps around": lambda page: replace(
        page, size=2, gaps=numbers(1, 2**64 - 1), counts=numbers(1, 1)
    ),
    "no end": lambda page: replace(page, text=page.text + b"dogs"),
    "no video": lambda page: replace(page, text=b"do gs\0" + page.text),
    "no id": lambda page: replace(page, text=b"\0" + page.text),
    "no ASCII": lambda page: replace(page, text="dögs\0".encode() + page.text),
    "a video that has two rows": lambda page: replace(page, text=page.text * 2),
    "a video that has a row already": lambda page: replace(
        page, text=b"video-1\0" + page.text.replace(b"video-1\0", b"")
    ),
    "another digest": lambda page: replace(page, digest=bytes(16)),
    "rows that are not known": lambda page: replace(page, known=page.known + 1),
    "the rows of before": lambda page: replace(page, known=0, digest=b"", text=b"dogs\0cats\0"),
}


@pytest.mark.parametrize("name", FORGED)
@pytest.mark.parametrize("at", [0, 3])
def test_after_a_page_that_is_wrong_everything_comes_by_ids(
    kind: type[Videos], name: str, at: int
) -> None:
    pair = Pair(tally_of([], kind), all_of(kind))
    forged = 0

    def change(page: RowsPage) -> RowsPage:
        nonlocal forged
        if not page.size or len([one for one in pair.pages if isinstance(one, RowsPage)]) < at:
            return page
        forged += 1
        return FORGED[name](page)

    pair.change = change
    pair.finish()
    assert 0 < forged < 8


def test_both_versions_repair_each_other(kind: type[Videos]) -> None:
    pair = Pair(tally_of([], kind), all_of(kind), Before)
    pair.finish()
    assert pair.by_row() == 0
    ask = RepairRequest(RUNS[0], b"", 1, 0, 5_000)
    assert isinstance(pair.repairs(Asking, pair.whole).answer(ask, ""), RepairPage)


def test_what_is_lacking_is_asked_of_one_address() -> None:
    """Of others only what it does not have, after a while."""
    whole = all_of()
    asking = Pair.repairs(Asking, tally_of([]))
    first, second = Peer("first", 0.0, 0.0), Peer("second", 0.0, 0.0)
    told = [
        [asking.compare(run, whole.total(run), peer, 0.0) for run in RUNS]
        for peer in (first, second)
    ]
    assert [ask is not None for ask in told[0]] == [True, False, False, False]
    assert told[1] == [None] * 4
    # It does not answer.
    assert asking.compare(RUNS[0], whole.total(RUNS[0]), second, 2.5) is not None


def test_who_was_asked_because_an_answer_was_late_does_not_tell_all_of_its_ids() -> None:
    """Else every node that was slow for a second would be told everything by all of its peers."""
    first, second = Peer("first", 0.0, 0.0), Peer("second", 0.0, 0.0)
    asking = Pair.repairs(Asking, tally_of([]))
    rows, ids = Pair.repairs(Asking, all_of()), Pair.repairs(Before, all_of())
    total = all_of().total(RUNS[0])
    late = asking.compare(RUNS[0], total, first, 0.0)
    other = asking.compare(RUNS[0], total, second, 2.5)
    assert late is not None
    assert other is not None
    [more] = answered(asking, rows, late, first, 2.6)
    assert answered(asking, ids, other, second, 2.7) == []
    assert asking.compare(RUNS[0], total, second, 2.8) is None
    # The first one goes on, and if it never came to an end the other would go on as well.
    now = 2.8
    while not (following := answered(asking, ids, other, second, now)):
        now += 1.0
        assert now <= 3.0 + TTL, "it waits as long as the first one tells anything"
        assert answered(asking, rows, more, first, now)
    assert [ask.vector for ask in following] == [RUNS[0]]


def answered(
    asking: Repairs, answering: Repairs, ask: RepairRequest, peer: Peer, now: float
) -> list[RepairRequest]:
    """Take the answer of a peer in; return what it is asked then."""
    page = answering.answer(ask, "")
    assert page is not None
    read = asking.read(page, peer, now)
    assert read is not None
    return asking.go_on(read, peer, now)


def test_who_is_told_the_first_of_many_rows_gets_ready_for_many() -> None:
    """numpy takes 0.1 s: it is loaded outside the loop while there is time for that."""
    pair = Pair(tally_of([]), all_of())
    pair.change = lambda page: replace(page, of=30_000)
    asks = pair.ask()
    while not pair.pages:
        assert not pair.copy.ids.soon_many
        pair.step(asks)
    assert len(pair.copy.ids) < 10
    assert pair.copy.ids.soon_many


def test_a_vector_that_the_first_address_does_not_have_is_asked_of_another() -> None:
    asking = Pair.repairs(Asking, tally_of([]))
    first, second = Peer("first", 0.0, 0.0), Peer("second", 0.0, 0.0)
    assert asking.compare(RUNS[0], 99, first, 0.0) is not None
    assert asking.compare(RUNS[1], 99, second, 0.0) is None
    assert asking.compare(RUNS[1], 99, second, 1.0) is not None


def test_an_address_that_never_comes_to_an_end_holds_up_nothing_for_ever() -> None:
    asking = Pair.repairs(Asking, tally_of([]))
    first, second = Peer("first", 0.0, 0.0), Peer("second", 0.0, 0.0)
    assert asking.compare(RUNS[0], 99, first, 0.0) is not None
    assert asking.compare(RUNS[1], 99, first, 0.0) is None
    now, page = 0.0, RowsPage(RUNS[0], 0, b"", b"video-0\0", bytes(16), 10**6, 0, 0, b"", b"", 0)
    while asking.compare(RUNS[1], 99, second, now) is None:
        now += 1.0
        assert now <= TTL, "it is asked for as long as it tells ids"
        read = asking.read(page, first, now)
        assert read is not None
        asking.go_on(read, first, now)
        known, digest = asking._numberings.known("first")
        video = f"video-{known}\0".encode()
        page = replace(page, known=known, digest=digest, text=video, after=bytes([known] * 16))
        asking.forget(now)


@pytest.mark.alone
def test_no_page_of_a_join_takes_long_in_one_step() -> None:
    """While few become many, while ids are told, and when the first counts of a vector come."""
    import_module("counter.crdt.bulk")
    named = [f"video-{number:06}" for number in range(80_000)]
    whole = Tally()
    for run in RUNS:
        for first in range(0, len(named), 1000):
            whole.merge(run, dict.fromkeys(named[first : first + 1000], 1))

    def longest() -> float:
        pair, took = Pair(Tally(), whole, Repairs), list[float]()
        pair.asking = Pair.repairs(Repairs, pair.copy)
        asks = pair.ask()
        while asks:
            page = pair.answering.answer(asks.pop(0), "")
            assert page is not None
            message = encode(Envelope(RUNS[0], "", 7, page), None)

            def take(message: bytes = message) -> None:
                body: Any = decode(message, None, 7, 1000).body
                read = pair.asking.read(body, pair.peer, pair.now)
                assert read is not None
                pair.copy.merge(read.vector, read.counts)
                asks.extend(pair.asking.go_on(read, pair.peer, pair.now))

            took.append(busy(take))
        assert pair.copy.totals() == whole.totals()
        return max(took)

    # Some steps are long by accident, for the processor is not ours alone.
    until(lambda: longest() <= STEP, 60, f"no page takes more than {STEP} s")
