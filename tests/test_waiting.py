"""Visits of a log that wait for an announcement are counted once, whatever stops in between."""

import copy
import itertools
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from counter.crdt.gcounter import MAX_COUNT
from counter.crdt.tally import Tally
from counter.node.follower import Follower, Reading
from counter.node.visit_log import VisitLog
from counter.protocol.catalogue import announcement
from counter.protocol.pending import Pending
from counter.protocol.waiting import COUNTED, NOTE, Waiting
from counter.store.memory import MemoryStore
from lab.clients import until
from tests.kept import Kept, running
from tests.test_visit_log import line

MEMBER = f"own~{'0' * 13}"
STARTS = itertools.count(1)
"""When each run began: one that opens a store again is a later one."""
RUN = f"{MEMBER}.{'0' * 23}"


class Remembered(MemoryStore):
    """A store that keeps a copy of what it held after each write: where a kill may leave it."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[MemoryStore] = []

    def write(self, *args: Any, **named: Any) -> None:
        super().write(*args, **named)
        held = MemoryStore()
        for name in ("counts", "facts", "mark", "seals", "sealed", "store", "name"):
            setattr(held, name, copy.deepcopy(getattr(self, name)))
        self.copies.append(held)


class Followed(Kept):
    """A kept replica at which only announced ids count, with its follower."""

    def __init__(self, store: MemoryStore, log: Path) -> None:
        super().__init__(store, started=next(STARTS))
        self.clock = 0.0
        self.draining = threading.Event()
        self.follower = Follower(
            VisitLog(log), self.flusher, self.lock, self.metrics, ready=lambda: True,
            draining=self.draining, warn=lambda *_: None, only_announced=True,
            clock=lambda: self.clock,
        )  # fmt: skip

    def announce(self, *videos: str) -> None:
        with self.lock:
            new = [v for v in videos if not self.replica.tally.visits(announcement(v))]
            self.replica.count_many({announcement(video): 1 for video in new})
        self.flusher.wake()

    def shown(self, *videos: str) -> dict[str, int]:
        with self.lock:
            return {video: self.replica.tally.visits(video) for video in videos}

    def reads(self, **expected: int) -> Reading:
        """Wait until all is read, and as many visits wait as are expected."""

        def right() -> bool:
            reading = self.follower.reading()
            return not reading.unread and reading._asdict().items() >= expected.items()

        until(right, 5, f"{expected}")
        return self.follower.reading()


@contextmanager
def following(one: Followed, *, alone: bool = False) -> Iterator[Followed]:
    """Run the flusher, and the follower unless the flusher is to be `alone`."""
    with running(one):
        one.join()
        thread = threading.Thread(target=one.follower.run, name="visit-log")
        if not alone:
            thread.start()
        try:
            yield one
        finally:
            one.draining.set()
            if not alone:
                thread.join(5)
                assert not thread.is_alive()


def write(log: Path, **visits: int) -> None:
    with log.open("a") as file:
        start = log.stat().st_size
        lines = [video for video, many in visits.items() for _ in range(many)]
        file.write("".join(line(video, start + n) for n, video in enumerate(lines)))


def waits_in(store: MemoryStore) -> dict[str, str]:
    return {name: text for name, text in store.facts.items() if name.startswith(NOTE)}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "visits.log"
    path.touch()
    return path


@pytest.fixture
def history(log: Path) -> Remembered:
    """A store in which visits of `new` and `junk` waited, and those of `new` were counted."""
    store = Remembered()
    with following(Followed(store, log)) as one:
        one.announce("old")
        write(log, old=3, new=4, junk=1)
        one.reads(lines=3, waiting=5)
        write(log, new=2, old=1)
        one.reads(lines=4, waiting=7)
        one.announce("new")
        one.reads(lines=10, waiting=1)
        write(log, new=5, junk=1)
        reading = one.reads(lines=15, waiting=2)
        assert (reading.refused, reading.junk) == (0, 0)
    assert waits_in(store) == {f"{NOTE}junk": "2 0"}
    return store


def test_a_kill_after_any_write_loses_and_doubles_nothing(log: Path, history: Remembered) -> None:
    for held in history.copies:
        with following(Followed(held, log)) as one:
            one.reads()
            one.announce("old", "new")
            expected = {"old": 4, "new": 11, "junk": 0}
            until(lambda: one.shown(*expected) == expected, 5, "all are counted")  # noqa: B023
            one.reads(waiting=2)
            one.announce("junk")
            until(lambda: one.shown("junk") == {"junk": 2}, 5, "and these")
        assert not waits_in(held)
        with following(Followed(held, log)) as one:
            one.reads(waiting=0)
            assert one.shown("old", "new", "junk") == {"old": 4, "new": 11, "junk": 2}


def test_an_older_copy_of_the_store_counts_none_again(log: Path, history: Remembered) -> None:
    """What peers give back says that they were counted."""
    waited = [held for held in history.copies if f"{NOTE}new" in waits_in(held)]
    assert len({waits_in(held)[f"{NOTE}new"] for held in waited}) == 2
    for held in waited:
        one = Followed(held, log)
        with following(one, alone=True):
            with one.lock:
                for vector, counts in history.counts.items():
                    one.replica.backlog.merge(vector, counts)
                one.replica.logs.opened(
                    {name: text for name, text in history.facts.items() if name.startswith("log:")}
                )
            thread = threading.Thread(target=one.follower.run, name="visit-log")
            thread.start()
            one.reads()
            until(lambda: f"{NOTE}new" not in waits_in(held), 5, "nothing waits")  # noqa: B023
            one.draining.set()
            thread.join(5)
            assert one.shown("old", "new") == {"old": 4, "new": 11}


def test_a_store_that_forgets_is_given_what_waits(log: Path) -> None:
    store = Remembered()
    with following(Followed(store, log)) as one:
        write(log, new=4)
        one.reads(waiting=4)
        older = store.copies[-1]
        write(log, new=2)
        one.reads(waiting=6)
        store.facts, store.mark = older.facts, older.mark
        store.seals, store.sealed = older.seals, older.sealed
        one.flusher.wake()
        until(lambda: waits_in(store) == {f"{NOTE}new": "6 0"}, 5, "it is told again")
        one.announce("new")
        until(lambda: one.shown("new") == {"new": 6}, 5, "they count")
        one.reads(waiting=0)


def test_what_nobody_announces_for_an_hour_is_refused(log: Path) -> None:
    store = MemoryStore()
    with following(Followed(store, log)) as one:
        write(log, junk=4)
        one.reads(waiting=4)
        one.clock = Waiting.LONGEST - 1
        write(log, late=1, junk=1)
        assert one.reads(waiting=6).refused == 0
        one.clock = Waiting.LONGEST
        one.reads(waiting=1, refused=5)
        until(lambda: waits_in(store) == {f"{NOTE}late": "1 0"}, 5, "the store has it")
    with following(Followed(store, log)) as one:
        one.reads(waiting=1)


def test_an_id_may_be_announced_where_every_id_counts(log: Path) -> None:
    """After a restart with VIDEOS=open, and back again."""
    store = MemoryStore()
    with following(Followed(store, log)) as one:
        write(log, new=4)
        one.reads(waiting=4)
    one = Followed(store, log)
    one.follower._only_announced = False
    with following(one):
        one.reads(waiting=0, lines=4)
        until(lambda: one.shown("new") == {"new": 4}, 5, "they count")
    with following(Followed(store, log)) as one:
        write(log, new=2)
        one.reads(waiting=2)
        one.announce("new")
        until(lambda: one.shown("new") == {"new": 6}, 5, "they count, too")


# -- the rule


@pytest.fixture
def pending() -> Pending:
    return Pending(RUN, Tally())


def waiting(pending: Pending, notes: Mapping[str, str] | None = None) -> Waiting:
    made = Waiting(MEMBER, pending._tally, pending)
    made.opened(notes or {})
    return made


def test_beyond_the_most_the_oldest_are_given_up(pending: Pending) -> None:
    here = waiting(pending)
    assert here.add({f"v{number}": 2 for number in range(Waiting.MOST)}, 0.0) == 0
    assert here.add({"v5": 1}, 1.0) == 0
    assert here.add({"a": 1, "b": 1}, 2.0) == 4
    assert (len(here), here.visits) == (Waiting.MOST, 2 * Waiting.MOST - 1)
    assert here.videos()[0] == "v2"
    _, notes = pending.take()
    assert (notes[f"{NOTE}v0"], notes[f"{NOTE}v5"], notes[f"{NOTE}a"]) == ("", "3 0", "1 0")


def test_a_full_video_takes_what_it_has_room_for(pending: Pending) -> None:
    pending.count_many({"full": MAX_COUNT - 1, "fuller": MAX_COUNT})
    here = waiting(pending)
    here.add({"full": 3, "fuller": 2, "cats": 5}, 0.0)
    assert here.release(["full", "fuller", "cats"]) == (6, 10)
    assert (len(here), here.visits) == (0, 0)
    assert [pending.count(v) for v in ("full", "fuller", "cats")] == [MAX_COUNT, MAX_COUNT, 5]
    assert pending.count("full" + COUNTED) == 3


def test_what_is_no_such_note_is_removed(pending: Pending) -> None:
    strange = {f"{NOTE}a/b": "1 0", f"{NOTE}cats": "-1 0", f"{NOTE}dogs": "1", f"{NOTE}x": "x 1"}
    here = waiting(pending, strange | {f"{NOTE}fine": "7 1", "log:x": "1"})
    assert (here.videos(), here.visits) == (["fine"], 7)
    assert pending.take()[1] == dict.fromkeys(strange, "")


def test_a_store_that_forgot_brings_back_nothing_that_was_counted(pending: Pending) -> None:
    here = waiting(pending)
    here.add({"cats": 4, "dogs": 1}, 0.0)
    assert here.release(["cats"]) == (4, 4)
    here.opened({f"{NOTE}cats": "4 0", f"{NOTE}dogs": "9 0"})
    assert (here.videos(), here.visits) == (["dogs"], 9)
    assert pending.take()[1] == {f"{NOTE}cats": "", f"{NOTE}dogs": "9 0"}


def test_notes_that_are_written_again_replace_no_newer_ones(pending: Pending) -> None:
    """A position before visits of the same batch was written: a kill then counted them twice."""
    pending.count_many({"cats": 1}, {"log:x": "2"})
    pending.note_again({"log:x": "1", "log:y": "1"})
    assert pending.take()[1] == {"log:x": "2", "log:y": "1"}
