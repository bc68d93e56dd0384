"""The index: each id has one row and each row one id, few or many, whatever collides."""

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counter.crdt.ids import ANNOUNCED
from counter.crdt.index import Index
from counter.crdt.videos import Videos
from lab.servers import ROOT
from tests.small import EVERY_VIDEOS, Colliding, Narrow

ids = st.text("ab", max_size=18) | st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
batches = st.lists(st.lists(ids, max_size=12, unique=True), max_size=12)


@pytest.mark.parametrize("kind", [Index, Narrow, Colliding])
@given(batches, st.lists(ids))
def test_an_index_is_a_dict(kind: type[Index], added: list[list[str]], asked: list[str]) -> None:
    index, rows = kind(), dict[str, int]()
    for batch in added:
        new = [video for video in batch if video not in rows]
        index.add(new)
        rows |= {video: len(rows) + at for at, video in enumerate(new)}
        assert len(index) == len(rows)
        for some in (asked, list(rows), [*asked, *rows]):
            expected = [rows.get(video, -1) for video in some]
            assert index.find_many(some).tolist() == expected
            assert [index.find(video) for video in some] == [rows.get(video) for video in some]
        every = index.find_many(list(rows))
        assert index.names(every) == list(rows)
        assert index.lengths(every).tolist() == [len(video.encode()) for video in rows]
        assert [index.name(row) for row in rows.values()] == list(rows)


@pytest.mark.parametrize("kind", [Index, Narrow, Colliding])
def test_thousands_of_ids_are_told_apart_by_the_ids_themselves(kind: type[Index]) -> None:
    index = kind()
    many = 300 if kind is Colliding else 20_000
    names = [f"video-{number * 7919 % many}" for number in range(many)]
    for first in range(0, many, 700):
        index.add(names[first : first + 700])
    assert index.find_many(names).tolist() == list(range(many))
    assert index.find_many([f"{name}x" for name in names]).tolist() == [-1] * many
    assert index.names(index.find_many(names[::3])) == names[::3]
    assert index.find("\ud800") is None, "half a character is no id, whatever it collides with"


@pytest.mark.parametrize("kind", EVERY_VIDEOS)
@given(st.lists(st.lists(ids | st.sampled_from(["a/known", "x" * 129, "a/b"]), max_size=9)))
def test_rows_stay_while_few_become_many(kind: type[Videos], steps: list[list[str]]) -> None:
    videos, rows = kind(), dict[str, int]()
    for step in steps:
        new = list(dict.fromkeys(video for video in step if video not in rows))
        assert list(dict.fromkeys(videos.unknown(step))) == new
        together = videos.together(new)
        found = videos.rows(new).tolist() if together else [videos.row(video) for video in new]
        rows |= {video: len(rows) + at for at, video in enumerate(new)}
        assert found == [rows[video] for video in new]
        assert [videos.find(video) for video in rows] == list(rows.values())
        assert [videos.row(video) for video in rows] == list(rows.values())
        assert videos.names(list(rows.values())) == list(rows)
        assert [videos.name(row) for row in rows.values()] == list(rows)
        assert len(videos) == len(rows)
        assert [videos.find(video) for video in step] == [rows[video] for video in step]
    plain = Videos()
    for video in rows:
        plain.row(video)
    for what in ("listed", "videos", "announced", "hashes", "buckets"):
        assert getattr(videos, what) == getattr(plain, what), what
    assert videos.announced == sum(video.endswith(ANNOUNCED) for video in rows)


@pytest.mark.parametrize("kind", EVERY_VIDEOS)
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda videos: pickle.loads(pickle.dumps(videos))]
)
def test_a_copy_goes_its_own_way(kind: type[Videos], copied: Callable[[Videos], Videos]) -> None:
    videos = kind()
    for number in range(9):
        videos.row(f"video-{number}")
    again = copied(videos)
    assert (videos.row("here"), again.row("there")) == (9, 9)
    assert (videos.find("there"), again.find("here")) == (None, None)
    assert [again.find(f"video-{number}") for number in range(9)] == list(range(9))
    assert again.names(range(10)) == [*(f"video-{number}" for number in range(9)), "there"]


def test_a_small_node_does_not_load_numpy() -> None:
    program = (
        "import sys; import app; from counter.crdt.tally import Tally\n"
        f"run = 'a~{'0' * 13}.{'0' * 23}'\n"
        "tally = Tally()\n"
        "tally.merge(run, {f'video-{number}': 1 for number in range(5000)})\n"
        "tally.rest(run, 9999)\n"
        "tally.vector(run).hashes(16, 1)\n"
        "assert 'numpy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
