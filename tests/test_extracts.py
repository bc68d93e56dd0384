"""Extracts: counts in two columns are what the same counts are one by one, and as safe to merge."""

import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counter.crdt.extract import Extract, Room
from counter.crdt.gcounter import MAX_COUNT
from counter.crdt.ids import encode_id
from counter.crdt.tally import Tally
from counter.crdt.vector import MAX_VECTOR_TOTAL, Refused, Vector
from counter.crdt.videos import Videos
from counter.protocol.extracts import EXTRACT_BYTES, MAX_EXTRACT
from counter.protocol.messages import (
    MAX_BYTES,
    Delta,
    Envelope,
    RejectedError,
    RepairPage,
    RepairRequest,
    decode,
    encode,
)
from counter.protocol.peers import Peers
from counter.protocol.questions import Questions
from counter.protocol.repairs import Repairs
from lab.previous import unpack
from tests.protocol import TTL, Network
from tests.small import CollidingVideos, SoonLarge, SoonMany

OWN = f"a~{encode_id(1, 13)}.{encode_id(1, 23)}"
OTHER = f"b~{encode_id(2, 13)}.{encode_id(1, 23)}"
ROOM = Room(EXTRACT_BYTES, 9, MAX_EXTRACT)
videos_class = Videos


@pytest.fixture(scope="module", params=[Videos, SoonLarge, CollidingVideos])
def every_videos(request: Any) -> Iterator[None]:
    """Few videos, and many."""
    global videos_class
    videos_class = request.param
    yield
    videos_class = Videos


NAMED = [f"video-{number}" for number in range(30)]
cells = st.sampled_from([*NAMED, "v", "v/known", "~._-", "v" * 128 + "/" * 32])
counts = st.dictionaries(
    cells,
    st.one_of(st.integers(1, MAX_COUNT), st.sampled_from([255, 256, 65_535, 65_536, 2**32])),
    max_size=35,
)


def tally_of(kind: type[Vector], *merged: dict[str, int]) -> Tally:
    class Own(Tally):
        videos_class = globals()["videos_class"]
        vector_class = kind

    tally = Own()
    for update in merged:
        tally.merge(OWN, update)
    return tally


def sent(page: RepairPage) -> RepairPage:
    """A page as it comes out at the other end; nothing of it is refused."""
    refused: list[str] = []
    data = encode(Envelope(OWN, "", 7, page), "a secret")
    assert len(data) <= MAX_BYTES
    read = decode(data, "a secret", 7, 1000, refused.append).body
    assert refused == []
    assert isinstance(read, RepairPage)
    return read


def told(body: Any) -> bytes:
    return b"\x03\x00" + msgspec.msgpack.encode([OWN, "", 7, body])


# -- the same as counts one by one


@given(counts)
def test_an_extract_is_a_mapping(told: dict[str, int]) -> None:
    extract = Extract.of(list(told), list(told.values()))
    again = Extract.unpack(extract.text, extract.packed())
    assert extract == again == told
    assert list(again) == list(again.videos) == list(told)
    assert len(extract) == len(told)
    assert "never-visited" not in extract


@pytest.mark.usefixtures("every_videos")
@pytest.mark.parametrize("kind", [Vector, SoonMany])
@given(counts, st.sets(st.integers(0, 35)), st.integers(1, 30), st.integers(1, 600), st.booleans())
@settings(max_examples=30)
def test_pages_as_extracts_bring_what_pages_of_counts_bring(
    kind: type[Vector], told: dict[str, int], has: set[int], most: int, size: int, rests: bool
) -> None:
    whole = tally_of(kind, told)
    if rests:
        whole.rest(OWN, 10**6)
    part = {video: count for at, (video, count) in enumerate(told.items()) if at in has}
    by_extract, by_counts = tally_of(kind, part), tally_of(kind, part)
    own = by_extract.vector(OWN)
    hashes = own.hashes(own.buckets(), 3) if own.total else b""
    assert _pull(
        by_extract,
        lambda after: whole.extract(OWN, hashes, 3, after, Room(size, 9, most), 50),
        lambda page: (
            len(page) <= most and (len(page) == 1 or sum(len(video) + 9 for video in page) <= size)
        ),
    ) == _pull(
        by_counts,
        lambda after: whole.vector(OWN).differing(hashes, 3, after, 10**6, 50),
        lambda _: True,
    )
    for copy in (by_extract, by_counts):
        assert copy.totals() == whole.totals()
        assert copy.digest(OWN) == whole.digest(OWN)
        assert {video: copy.visits(video) for video in told} == told
    assert whole.rests(OWN) == (rests and bool(told))


def _pull(
    copy: Tally, page_from: Callable[[int], Any], fits: Callable[[Any], bool]
) -> dict[str, int]:
    """Merge page after page, each as it is sent; return all that was told."""
    after: int | None = 0
    got: dict[str, int] = {}
    while after is not None:
        page, following = page_from(after)
        assert fits(page)
        assert following is None or following > after
        read = sent(RepairPage(OWN, page, following))
        assert (read.counts, read.next) == (page, following)
        copy.merge(OWN, read.counts)
        got |= page
        after = following
    return got


@pytest.mark.usefixtures("every_videos")
@given(counts, counts, st.integers(0, MAX_VECTOR_TOTAL))
def test_an_extract_is_merged_as_its_counts_are(
    held: dict[str, int], told: dict[str, int], limit: int
) -> None:
    one, other = tally_of(SoonMany, held), tally_of(SoonMany, held)
    extract = Extract.of(list(told), list(told.values()))
    refused, by_one = Refused(limit), Refused(limit)
    assert one.merge(OWN, extract, refused) == other.merge(OWN, told, by_one)
    assert refused.videos == by_one.videos
    assert (one.totals(), one.digest(OWN)) == (other.totals(), other.digest(OWN))


@pytest.mark.usefixtures("every_videos")
def test_a_large_vector_at_rest_is_told_without_being_unpacked() -> None:
    class Watched(SoonMany):
        unpacked = 0

        @classmethod
        def unpack(cls, *args: Any) -> Vector:
            Watched.unpacked += 1
            return super().unpack(*args)

    told = {f"video-{number}": 1 + number % 300 for number in range(3_000)}
    whole, copy = tally_of(Watched, told), tally_of(SoonMany)
    whole.rest(OWN, 10**6)
    assert whole.rests(OWN)
    assert _pull(copy, lambda after: whole.extract(OWN, b"", 1, after, ROOM, 1000), bool) == told
    assert copy.digest(OWN) == whole.digest(OWN)
    # Nor if it is compared with a copy that has a part of it.
    part = tally_of(SoonMany, {video: count for video, count in told.items() if count % 7})
    for salt in range(1, 5):
        own = part.vector(OWN)
        asked = own.hashes(own.buckets(), salt), salt
        _pull(part, partial(_page_of, whole, *asked), lambda _: True)
    assert part.digest(OWN) == whole.digest(OWN)
    assert Watched.unpacked == (0 if videos_class is not Videos else 1)


def _page_of(whole: Tally, hashes: bytes, salt: int, after: int) -> Any:
    return whole.extract(OWN, hashes, salt, after, ROOM, 1000)


def test_ids_that_come_many_at_once_are_settled_soon_and_found_in_their_rows() -> None:
    """Else a page of a repair looks at each of them, for as long as there are new ones."""

    class Many(Videos):
        small, many, young, lately, often = 400, 10, 20, 50, 10

    videos = Many()
    named = [f"video-{number}" for number in range(2_000)]
    for video in named[:400]:
        videos.add(video)
    for first in range(400, len(named) - 29, 30):
        new = named[first : first + 30]
        assert videos.rows(new).tolist() == list(range(first, first + 30))
        assert [videos.find(video) for video in named[: first + 30]] == list(range(first + 30))
    assert videos.settled


# -- what is wrong is refused


WRONG: list[tuple[bytes, int]] = [
    (b"dogs", 0),
    (b"dogs", 2**53),
    (b"dogs", 2**64 - 1),
    (b"", 1),
    (b"d" * 161, 1),
    (b"dogs\n", 1),
    (b"do gs", 1),
    ("dögs".encode(), 1),
    (b"d\xffgs", 1),
    (b"cats", 2),
]


def packed(*numbers: int) -> bytes:
    return array("Q", numbers).tobytes()


@pytest.mark.parametrize(("video", "count"), WRONG)
def test_an_entry_that_is_wrong_is_left_out_alone(video: bytes, count: int) -> None:
    text = b"\0".join([b"cats", video, b"d" * 160, b"cats/bot", b""])
    body = ["extract", OTHER, text, packed(1, count, 2, 2**53 - 1), 77]
    refused: list[str] = []
    envelope = decode(told(body), None, 7, 1000, refused.append)
    right = {"cats": 1, "d" * 160: 2, "cats/bot": 2**53 - 1}
    assert envelope.body == RepairPage(OTHER, right, 77)
    assert len(refused) == 1


def test_more_entries_than_are_taken_are_left_out() -> None:
    videos = [f"video-{number}" for number in range(MAX_EXTRACT + 3)]
    extract = Extract.of(videos, [1] * len(videos))
    refused: list[str] = []
    body = ["extract", OTHER, extract.text, extract.packed(), None]
    page = decode(told(body), None, 7, 1000, refused.append).body
    assert page == RepairPage(OTHER, dict.fromkeys(videos[:MAX_EXTRACT], 1), None)
    assert len(refused) == 3


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        (b"cats\0", b""),
        (b"", b"\1"),
        (b"cats", b"\1"),
        (b"cats", b""),
        (b"cats\0dogs", b"\1\1"),
        (b"cats\0dogs", b"\1"),
        (b"cats\0dogs\0", b"\1\1\1"),
        (b"cats\0dogs\0", b"\1\0\0\1\0\0"),
        (b"cats\0dogs\0", bytes(32)),
        (b"cats\0dogs\0", b"\0\0"),
        (b"\0\0", b"\1\1"),
        ("cats\0", b"\1"),
        (b"cats\0", "1"),
        (None, b"\1"),
        (b"cats\0", [1]),
    ],
)
def test_what_is_no_extract_is_junk(text: Any, numbers: Any) -> None:
    with pytest.raises(RejectedError) as rejected:
        decode(told(["extract", OTHER, text, numbers, None]), None, 7, 1000)
    assert rejected.value.reason == "junk"


@pytest.mark.parametrize("more", [(-1,), ("77",), (2**54,), (None, -1), (None, 2**63)])
def test_an_extract_out_of_its_ranges_is_junk(more: tuple[Any, ...]) -> None:
    with pytest.raises(RejectedError):
        decode(told(["extract", OTHER, b"cats\0", b"\1", *more]), None, 7, 1000)


@given(st.binary(max_size=200), st.binary(max_size=100))
def test_whatever_an_extract_says_only_what_is_right_comes_out_of_it(
    text: bytes, numbers: bytes
) -> None:
    refused: list[str] = []
    try:
        page = decode(told(["extract", OTHER, text, numbers, 5]), None, 7, 1000, refused.append)
    except RejectedError as rejected:
        assert rejected.reason == "junk"  # noqa: PT017 - it may be right as well
        return
    assert isinstance(page.body, RepairPage)
    again: list[str] = []
    by_one = ["answer", OTHER, dict(page.body.counts), 5]
    assert decode(told(by_one), None, 7, 1000, again.append).body == page.body
    assert again == []
    assert len(page.body.counts) + len(refused) == text.count(b"\0")


@given(st.binary(min_size=1, max_size=20), st.integers(0, 400))
def test_a_damaged_extract_is_dropped_or_still_well_formed(damage: bytes, position: int) -> None:
    extract = Extract.of([f"video-{number}" for number in range(30)], range(1, 31))
    data = bytearray(encode(Envelope(OWN, "", 7, RepairPage(OTHER, extract, 5)), None))
    data[position : position + len(damage)] = damage
    try:
        envelope = decode(bytes(data), None, 7, 1000)
    except RejectedError:
        return
    assert decode(encode(envelope, None), None, envelope.sent, 1000) == envelope


# -- who asks for them, and who does not


def repairs(tally: Tally) -> Repairs:
    return Repairs(tally, Peers(3.0, TTL), Questions(2.0), 1.0, TTL)


def test_only_who_reads_extracts_gets_them() -> None:
    answering = repairs(tally_of(Vector, {"cats": 3, "dogs": 70_000}))
    for most, kind in ((0, dict), (5, Extract)):
        page = answering.answer(RepairRequest(OWN, b"", 1, 0, most), OWN)
        assert page == RepairPage(OWN, {"cats": 3, "dogs": 70_000}, None, 70_003)
        assert page is not None
        assert type(page.counts) is kind
        assert sent(page) == page


def test_nobody_gets_more_counts_than_it_asked_for() -> None:
    answering = repairs(tally_of(Vector, {"cats": 3, "dogs": 7, "mice": 1}))
    page = answering.answer(RepairRequest(OWN, b"", 1, 0, 2), OTHER)
    assert page == RepairPage(OWN, {"cats": 3, "dogs": 7}, 2)
    assert answering.answer(RepairRequest(OWN, b"", 1, 2, 2**31), OTHER) == RepairPage(
        OWN, {"mice": 1}, None
    )


class Before(Repairs):
    """A version before: it reads no extracts, and asks for none."""

    def most(self) -> int:
        return 0


@pytest.mark.parametrize("older", ["ab", "a", "b", ""])
def test_nodes_of_both_versions_repair_each_other(older: str) -> None:
    network = Network(fold_after=1000.0)
    network.lose = lambda _source, _target, body: isinstance(body, Delta)
    nodes = [network.node(name) for name in "ab"]
    for name, node in zip("ab", nodes, strict=True):
        if name in older:
            node._repairs.__class__ = Before
    network.seconds(2)
    for node in nodes:
        network.visit(node, *(f"{node.name}-{number:0100}" for number in range(1_200)))
    network.seconds(8)
    assert nodes[0].tally.totals() == nodes[1].tally.totals()
    assert len(nodes[0].tally.totals()) == 2
    for name in "ab":
        kinds = {
            type(body.counts)
            for _, target, body in network.sent
            if isinstance(body, RepairPage) and target == name
        }
        assert kinds == {dict if name in older else Extract}


@pytest.mark.parametrize("most", [(0,), (MAX_EXTRACT,), (MAX_EXTRACT, 3, 70_000, bytes(16))])
def test_the_version_before_answers_who_reads_extracts(tmp_path: Path, most: Any) -> None:
    """By its own code, packed: what is at the end of a request that it does not know is no harm."""
    ask = RepairRequest(OTHER, bytes(32), 9, 300, *most)
    asked = encode(Envelope(OWN, "there", 7, ask), "a secret")
    code = (
        "import sys\n"
        "from counter.protocol.messages import *\n"
        "refused = []\n"
        "read = decode(bytes.fromhex(sys.argv[1]), 'a secret', 7, 1000, refused.append)\n"
        "assert read.body == RepairRequest(read.body.vector, bytes(32), 9, 300), read\n"
        "assert not refused, refused\n"
        "page = RepairPage(read.body.vector, {'cats': 3}, 301)\n"
        "print(encode(Envelope(read.sender, '', 7, page), 'a secret').hex())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, asked.hex()],
        cwd=unpack(tmp_path),
        check=True,
        capture_output=True,
        text=True,
    )
    answer = decode(bytes.fromhex(done.stdout), "a secret", 7, 1000).body
    assert answer == RepairPage(OTHER, {"cats": 3}, 301)


# -- what a step takes


@pytest.mark.alone
def test_no_step_of_a_join_of_many_videos_takes_long() -> None:
    """From the first page on, when there are few videos, to the last: 25 ms of a node's loop."""
    named = [f"video-{number:06}" for number in range(150_000)]
    whole, copy = Tally(), Tally()
    for first in range(0, len(named), 2_000):
        for run in (OWN, OTHER):
            whole.merge(run, dict.fromkeys(named[first : first + 2_000], 1 + first % 300))
    answering, asking = repairs(whole), repairs(copy)
    steps: list[float] = []

    def timed(step: Callable[..., Any], *args: Any) -> Any:
        since = time.thread_time()
        done = step(*args)
        steps.append(time.thread_time() - since)
        return done

    def answered(run: str, after: int) -> bytes:
        page = answering.answer(RepairRequest(run, b"", 1, after, asking.most()), "")
        assert page is not None
        return encode(Envelope(OWN, "", 7, page), "a secret")

    def taken(data: bytes) -> int | None:
        page = decode(data, "a secret", 7, 1000).body
        assert isinstance(page, RepairPage)
        copy.merge(page.vector, page.counts)
        return page.next

    for run in (OWN, OTHER):
        after: int | None = 0
        while after is not None:
            after = timed(taken, timed(answered, run, after))
    assert copy.totals() == whole.totals()
    # What another program took from this core is no step of this node.
    assert sorted(steps)[-3] < 0.025
