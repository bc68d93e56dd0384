"""Which files are a visit log, what is in them, and where to go on in them."""

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from counter.node import visit_log
from counter.node.visit_log import VisitLog
from counter.protocol.positions import Position, Positions
from tests.test_visit_log import line


def lines(*videos: str, time_: float = 1_700_000_000.0) -> str:
    return "".join(line(video, number, time_) for number, video in enumerate(videos))


def read(log: VisitLog, positions: Positions) -> Counter[str]:
    """Read everything, oldest file first, and keep the positions."""
    visits: Counter[str] = Counter()
    while True:
        for file in log.look():
            piece = log.read(file, positions.get(file.id, Position(file.began)))
            if piece is not None:
                visits.update(piece.visits)
                positions[file.id] = piece.position
                break
        else:
            return visits


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "visits.log"


def test_a_log_is_looked_for_until_it_is_there(path: Path) -> None:
    log = VisitLog(path)
    assert log.look() == []
    path.touch()
    assert log.look() == []
    path.write_text(line("cats")[:-1])
    assert log.look() == [], "not before its first line is whole"
    with path.open("a") as opened:
        opened.write("\n")
    assert read(log, {}) == {"cats": 1}
    shutil.rmtree(path.parent)
    assert log.unread() == 0
    with pytest.raises(FileNotFoundError):
        log.look()


def test_the_files_of_a_log_are_named_like_it_and_not_packed(path: Path) -> None:
    for number, name in enumerate(
        ["visits.log", "visits.log.1", "visits.log-20231114", "visits.log.2.gz", "visits.log~",
         "visits.logs", "other.log", "visits.log.zst", "visits.log.bak.1"]
    ):  # fmt: skip
        path.with_name(name).write_text(line(f"video-{number}", number))
    path.with_name("visits.log.d").mkdir()
    assert read(VisitLog(path), {}) == {f"video-{number}": 1 for number in (0, 1, 2, 8)}


def test_a_copy_is_the_same_file_whole_or_in_part(path: Path) -> None:
    path.write_text(lines("a", "b", "c"))
    shutil.copy(path, path.with_name("visits.log.1"))
    positions: Positions = {}
    log = VisitLog(path)
    assert read(log, positions) == {"a": 1, "b": 1, "c": 1}
    # As `copytruncate` does it, half-way.
    path.with_name("visits.log.2").write_text(lines("a"))
    with path.open("a") as opened:
        opened.write(line("d", 3))
    assert read(log, positions) == {"d": 1}
    path.unlink()
    assert read(log, positions) == {}
    assert read(VisitLog(path), positions) == {}


def test_an_inode_that_is_used_again_is_another_file(path: Path) -> None:
    path.write_text(lines("a", "b"))
    positions: Positions = {}
    log = VisitLog(path)
    assert read(log, positions) == {"a": 1, "b": 1}
    inode = path.stat().st_ino
    # In its place, of the same length.
    path.write_text(lines("c", "d", time_=1_700_000_100))
    assert path.stat().st_ino == inode
    assert read(log, positions) == {"c": 1, "d": 1}


def cut_and_grown(path: Path, left: int, more: list[str]) -> None:
    os.truncate(path, len("".join(path.read_text().splitlines(keepends=True)[:left])))
    with path.open("a") as opened:
        opened.write(lines(*more, time_=1_700_000_100))


@pytest.mark.parametrize("more", [1, 3, 4, 10, 100])
@pytest.mark.parametrize("again", [False, True])
def test_a_file_that_was_cut_goes_on_behind_the_last_line_read(
    path: Path, more: int, again: bool
) -> None:
    """Also where it has grown again, to where a line of the same length ends."""
    path.write_text(lines(*"abcdef"))
    positions: Positions = {}
    log = VisitLog(path)
    assert read(log, positions).total() == 6
    cut_and_grown(path, 2, ["x"] * more)
    assert read(VisitLog(path) if again else log, positions) == {"x": more}
    (position,) = positions.values()
    assert position.cut == 1
    assert read(log, positions) == {}


def test_a_long_file_that_was_cut_is_searched_in_slices(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visit_log, "_SLICE", 1000)
    path.write_text(lines(*["a"] * 2000))
    positions: Positions = {}
    assert read(VisitLog(path), positions).total() == 2000
    cut_and_grown(path, 1500, ["x"] * 300)
    with path.open("a") as opened:
        opened.write("half a line")
    assert read(VisitLog(path), positions) == {"x": 300}


@pytest.mark.parametrize("size", [1, 999, 1000, 1001, 2488, 5000, 20_000])
def test_lines_longer_than_what_is_read_at_once_are_junk(
    path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    for name, value in (("_SLICE", 1000), ("_PIECE", 4000)):
        monkeypatch.setattr(visit_log, name, value)
    half = "x" * size
    path.write_text(line("a") + half + line("b") + half + "\n" + line("c") + half)
    positions: Positions = {}
    log = VisitLog(path)
    assert read(log, positions) == {"a": 1, "b": 1, "c": 1}
    with path.open("a") as opened:
        opened.write("\n" + line("d"))
    assert read(log, positions) == {"d": 1}


@pytest.mark.parametrize("cut", range(1, len(line("cats"))))
def test_wherever_a_line_was_cut_the_next_one_is_whole(path: Path, cut: int) -> None:
    path.write_text(line("a") + line("cats")[:cut] + line("dogs") + line("z"))
    assert read(VisitLog(path), {}) == {"a": 1, "dogs": 1, "z": 1}


def test_a_piece_is_bounded_by_its_bytes_and_its_videos(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visit_log, "_SLICE", 1000)
    monkeypatch.setattr(visit_log, "_VIDEOS", 50)
    path.write_text(lines(*(f"video-{number}" for number in range(500))))
    asked = []

    def offload(function: Callable[..., Any], *arguments: Any) -> Any:
        asked.append(function)
        return function(*arguments)

    log = VisitLog(path, offload)
    (file,) = log.look()
    piece = log.read(file, Position(file.began))
    assert piece is not None
    assert 50 <= len(piece.visits) < 100
    assert log.unread() == path.stat().st_size - piece.position.offset
    assert asked == [os.pread]
    assert read(log, {}).total() == 500


def test_junk_before_the_first_line_does_not_hide_it(path: Path) -> None:
    path.write_text("junk\n" * 1000 + lines("a", "b"))
    assert read(VisitLog(path), {}) == {"a": 1, "b": 1}
    path.write_text("junk\n" * 1000)
    log = VisitLog(path)
    assert log.look() == []
    assert log.unread() == 5000, "seen by whoever watches"
