"""A vector: few counts or many, its hashes follow its content, a repair brings copies level.

All of it holds for few videos and for many, see `tests/small.py`.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counter.crdt.gcounter import MAX_COUNT
from counter.crdt.hashes import BUCKETS, PRIME
from counter.crdt.vector import MAX_VECTOR_TOTAL, Refused, Vector
from counter.crdt.video_set import VideoSet
from counter.crdt.videos import Videos
from tests.small import CollidingVideos, SoonLarge, SoonMany

videos_class = Videos


@pytest.fixture(scope="module", params=[Videos, SoonLarge, CollidingVideos], autouse=True)
def every_videos(request: Any) -> Iterator[None]:
    """Run everything with few videos and with many."""
    global videos_class
    videos_class = request.param
    yield
    videos_class = Videos


WIDTHS = [255, 256, 65_535, 65_536, 2**32 - 1, 2**32, MAX_COUNT]
"""Where a wider type is needed, and where none is yet."""
counts = st.dictionaries(
    st.sampled_from([f"video-{number}" for number in range(12)]),
    st.one_of(st.integers(1, 300), st.integers(1, MAX_COUNT), st.sampled_from(WIDTHS)),
)
history = st.lists(counts, max_size=6)
SIZES = (16, 64, BUCKETS)


def of(kind: type[Vector], *merged: dict[str, int], videos: Videos | None = None) -> Vector:
    vector = kind(videos_class() if videos is None else videos)
    for update in merged:
        vector.merge(update)
    return vector


@given(history)
def test_few_and_many_counts_are_kept_alike(merged: list[dict[str, int]]) -> None:
    sparse, many = of(Vector), of(SoonMany)
    largest: dict[str, int] = {}
    for update in merged:
        grew = {
            video: count - largest.get(video, 0)
            for video, count in update.items()
            if count > largest.get(video, 0)
        }
        assert sparse.merge(update) == many.merge(update) == grew
        largest |= {video: update[video] for video in grew}
        for vector in (sparse, many):
            assert dict(vector.items()) == largest
            assert set(vector) == set(largest)
            assert len(vector) == len(largest)
            assert vector.total == sum(largest.values())
            assert all(vector.count(video) == count for video, count in largest.items())
            assert vector.count("never-visited") == 0


@given(history)
def test_the_hashes_tell_the_content_in_whatever_order_it_came(
    merged: list[dict[str, int]],
) -> None:
    vector = of(Vector, *merged)
    content = dict(vector.items())
    for kind in (Vector, SoonMany):
        other = of(kind, {"never-counted-there": 0}, dict(reversed(content.items())))
        assert other.digest == vector.digest < PRIME
        for size in SIZES:
            assert other.hashes(size, 7) == vector.hashes(size, 7)
            assert len(vector.hashes(size, 7)) == 2 * size


@given(counts, counts)
def test_the_hash_of_a_sum_is_the_sum_of_the_hashes(
    one: dict[str, int], other: dict[str, int]
) -> None:
    both = {video: one.get(video, 0) + other.get(video, 0) for video in one | other}
    assert of(Vector, both).digest == (of(Vector, one).digest + of(Vector, other).digest) % PRIME


def test_equal_totals_of_different_content_have_different_hashes() -> None:
    left, right = of(Vector, {"cats": 3}), of(Vector, {"dogs": 3})
    assert left.total == right.total
    assert left.digest != right.digest
    assert left.hashes(16, 1) != right.hashes(16, 1)


def test_an_accident_of_one_salt_is_none_of_another() -> None:
    vector = of(Vector, {"cats": 3})
    assert len({vector.hashes(16, salt) for salt in range(1, 50)}) > 45


@pytest.mark.parametrize("kind", [Vector, SoonMany])
@given(
    has=st.sets(st.integers(0, 400)),
    lacks=st.sets(st.integers(0, 400)),
    most_bytes=st.integers(20, 200),
    size=st.sampled_from(SIZES),
)
@settings(max_examples=40)
def test_pages_of_differing_buckets_bring_an_incomplete_copy_level(
    kind: type[Vector], has: set[int], lacks: set[int], most_bytes: int, size: int
) -> None:
    whole = of(kind, {f"video-{number}": number + 1 for number in has | lacks})
    copy = of(kind, {f"video-{number}": number + 1 for number in sorted(has - lacks, reverse=True)})
    hashes = copy.hashes(size, 3) if copy.total else b""
    after, pages = 0, 0
    while True:
        page, position = whole.differing(hashes, 3, after, most_bytes, 50)
        assert len(page) <= 1 or sum(len(video) + 12 for video in page) <= most_bytes
        copy.merge(page)
        pages += 1
        if position is None:
            break
        assert position > after
        after = position
    assert dict(copy.items()) == dict(whole.items())
    assert pages <= len(whole) + 10


@pytest.mark.parametrize("kind", [Vector, SoonMany])
def test_a_copy_that_is_level_is_sent_nothing(kind: type[Vector]) -> None:
    vector = of(kind, {f"video-{number}": 1 for number in range(300)})
    assert vector.differing(vector.hashes(64, 1), 1, 0, 10_000, 10_000) == ({}, None)


def test_a_position_stays_right_when_few_become_many() -> None:
    videos = videos_class()
    whole = of(SoonMany, {f"video-{number}": 1 for number in range(2)}, videos=videos)
    page, position = whole.differing(b"", 1, 0, 1, 100)
    assert position == 1
    whole.merge({f"video-{number}": 1 for number in range(2, 5)})
    rest, end = whole.differing(b"", 1, position, 1000, 100)
    assert end is None
    assert page | rest == dict(whole.items())


# -- at rest


@pytest.mark.parametrize("kind", [Vector, SoonMany])
@given(
    st.dictionaries(
        st.sampled_from([f"video-{number}" for number in range(40)]),
        st.one_of(st.integers(1, 2**53 - 1), st.sampled_from([255, 256, 65_535, 65_536, 2**32])),
    ),
    st.integers(0, 40),
)
def test_a_vector_at_rest_is_the_same_when_it_is_unpacked(
    kind: type[Vector], counted: dict[str, int], others: int
) -> None:
    videos = videos_class()
    # Rows of the index that this vector has no count for, before, between and behind its own.
    of(Vector, {f"other-{number}": 1 for number in range(others)}, videos=videos)
    vector = of(kind, counted, videos=videos)
    of(Vector, {f"later-{number}": 1 for number in range(others)}, videos=videos)
    segment = vector.pack()
    assert (segment.total, segment.digest) == (vector.total, vector.digest)
    for into in (Vector, SoonMany):
        again = into.unpack(segment, videos)
        assert dict(again.items()) == counted
        assert (again.total, again.digest) == (vector.total, vector.digest)
        assert len(again) == len(vector)
        for size in SIZES:
            assert again.hashes(size, 7) == vector.hashes(size, 7)
        assert again.merge(counted) == {}
        assert again.pack() == segment


@pytest.mark.parametrize(("largest", "width"), [(255, 1), (65_535, 2), (2**32 - 1, 4)])
def test_a_count_at_rest_takes_little_more_than_its_digits(largest: int, width: int) -> None:
    videos = videos_class()
    counts = {f"video-{number}": 1 + number * 7919 % largest for number in range(10_000)}
    packed = of(Vector, counts, videos=videos).pack()
    assert len(packed.content) / len(counts) <= width + 0.2
    sparse = {f"video-{number}": 1 for number in range(0, 10_000, 7)}
    assert len(of(Vector, sparse, videos=videos).pack().content) / len(sparse) <= 1


# -- limits


@given(counts, counts, st.integers(0, 2**54))
def test_no_count_takes_the_total_beyond_what_its_writer_has_told(
    known: dict[str, int], told: dict[str, int], limit: int
) -> None:
    vector, free = of(Vector, known), of(Vector, known)
    before = vector.total
    refused = Refused(limit)
    grew = vector.merge(told, refused)
    assert vector.total == before + sum(grew.values())
    assert vector.total <= max(before, limit)
    news = free.merge(told)
    assert grew.keys() | set(refused.videos) == news.keys()
    assert not grew.keys() & set(refused.videos)
    assert all(news[video] == growth for video, growth in grew.items())


@given(counts, counts)
def test_what_would_be_after_a_merge_is_known_before_it(
    known: dict[str, int], told: dict[str, int]
) -> None:
    vector = of(Vector, known)
    expected = vector.digest_with(told)
    vector.merge(told)
    assert (vector.total, vector.digest) == expected


names = st.sampled_from([f"video-{number}" for number in range(12)])


class Bytes(VideoSet):
    """A set that has a byte for each row as soon as there are three."""

    few = 2


@pytest.mark.parametrize("kind", [VideoSet, Bytes])
@given(st.lists(st.one_of(st.lists(names), st.integers(0, 8))))
def test_a_set_of_videos_gives_back_each_that_was_added_once(
    kind: type[VideoSet],
    steps: list[list[str] | int],
) -> None:
    videos = videos_class()
    lean, plain = kind(videos), set[str]()
    for step in steps:
        if isinstance(step, int):
            taken = videos.names(lean.take(step))
            assert len(taken) == min(step, len(plain))
            assert set(taken) <= plain
            assert len(set(taken)) == len(taken)
            plain -= set(taken)
        else:
            for video in step:
                videos.row(video)
            lean.update(step)
            plain |= set(step)
        assert len(lean) == len(plain)
    assert set(videos.names(lean.take(len(plain)))) == plain
    assert not lean


@pytest.mark.parametrize("kind", [VideoSet, Bytes])
@given(counts, counts)
def test_a_set_takes_what_grew_and_all_of_a_vector(
    kind: type[VideoSet], known: dict[str, int], told: dict[str, int]
) -> None:
    videos = videos_class()
    vector = of(SoonMany, known, videos=videos)
    news, every = kind(videos), kind(videos)
    grew = vector.merge(told)
    news.update(grew)
    every.update(vector)
    assert (len(news), len(every)) == (len(grew), len(vector))
    assert set(videos.names(news.take(99))) == grew.keys()
    assert set(videos.names(every.take(99))) == set(vector)


# -- many at once


@pytest.mark.parametrize("kinds", [(Vector, Vector), (SoonMany, SoonMany), (Vector, SoonMany)])
@given(history, history)
def test_the_sum_of_two_vectors_is_that_of_their_counts(
    kinds: tuple[type[Vector], type[Vector]],
    one: list[dict[str, int]],
    other: list[dict[str, int]],
) -> None:
    videos = videos_class()
    ours = of(kinds[0], *one, videos=videos)
    theirs = of(kinds[1], *other, videos=videos)
    mine, others = dict(ours.items()), dict(theirs.items())
    both = {v: min(MAX_COUNT, mine.get(v, 0) + others.get(v, 0)) for v in mine | others}
    plain = of(Vector, both)
    ours.add(theirs)
    assert dict(ours.items()) == both
    assert dict(theirs.items()) == others
    assert (ours.total, ours.digest, len(ours)) == (plain.total, plain.digest, len(plain))
    for size in SIZES:
        assert ours.hashes(size, 7) == plain.hashes(size, 7)
    later = {video: count + 1 for video, count in both.items()}
    assert ours.merge(later) == plain.merge(later) == dict.fromkeys(both, 1)
    assert ours.hashes(BUCKETS, 7) == plain.hashes(BUCKETS, 7)


def test_no_sum_of_vectors_has_a_total_that_cannot_be_told() -> None:
    videos = videos_class()
    names = [f"video-{number}" for number in range(600)]
    full = of(SoonMany, dict.fromkeys(names[:512], MAX_COUNT), videos=videos)
    full.add(of(SoonMany, dict.fromkeys(names[512:], 1), videos=videos))
    assert full.total <= MAX_VECTOR_TOTAL
    assert full.total == sum(count for _, count in full.items())


@given(history, st.lists(st.sampled_from([f"video-{number}" for number in range(20)])))
def test_many_counts_are_what_each_of_them_is(
    merged: list[dict[str, int]], asked: list[str]
) -> None:
    for kind in (Vector, SoonMany):
        vector = of(kind, *merged)
        wanted = {video: vector.count(video) for video in asked}
        assert vector.counts(wanted) == wanted
        pages = list(vector.pages(3))
        assert all(len(page) == 3 for page in pages[:-1])
        assert {video: count for page in pages for video, count in page.items()} == dict(
            vector.items()
        )


def test_a_count_that_was_made_up_widens_nothing_beyond_its_end() -> None:
    vector = of(SoonMany, {f"video-{number}": 1 for number in range(9)})
    assert vector.merge({"video-1": 2**70, "video-2": 2}) == {"video-2": 1}
    assert vector.merge({"video-1": -5, "video-2": 0}) == {}
    assert vector.total == 10
