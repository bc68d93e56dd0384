"""An old log is counted by `flask visits import`, once, also if that is cut short and repeated."""

import gzip
import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from counter import imports
from tools.servers import Node
from tools.visitors import counted, until


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with Node(tmp_path_factory.mktemp("node"), "counter1", None, {"DRAIN_TIME": "0"}) as node:
        node.wait_ready()
        yield node


def run(file: Path, url: str, *arguments: str) -> Result:
    return CliRunner().invoke(imports.visits, ["import", str(file), "--url", url, *arguments])


def text(videos: list[str], *, log: bool) -> str:
    return "".join(
        f"{1_600_000_000 + n / 1000:.3f} {n}.1 {video}\n" if log else f"{video}\n"
        for n, video in enumerate(videos)
    )


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("log", [False, True])
def test_every_line_is_counted_once_however_often_it_is_imported(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: bool, packed: bool
) -> None:
    monkeypatch.setattr(imports, "CHUNK", 50_000)
    kind = f"{'log' if log else 'ids'}-{'gz' if packed else 'plain'}"
    chance = random.Random(kind)
    videos = [f"{kind}-{chance.randrange(9000)}" for _ in range(20_000)]
    lines = (
        text(videos, log=log).encode() + b"\n/junk here\n" + b"x" * 129 + b"\r\n" + kind.encode()
    )
    file = tmp_path / f"visits.{'gz' if packed else 'log'}"
    file.write_bytes(gzip.compress(lines) if packed else lines)
    expected = Counter([*videos, kind])
    for _ in range(2):
        done = run(file, node.url)
        assert done.exit_code == 0, done.output
        assert "20001 visits counted, 2 lines are none" in done.output
        shown: dict[str, int] = {}
        for some in range(0, len(expected), 1000):
            shown |= counted(node.url, sorted(expected)[some : some + 1000])
        assert shown == expected


def test_it_goes_on_where_it_was_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "CHUNK", 2000)
    monkeypatch.setattr(imports, "_PATIENCE", 0.5)
    file = tmp_path / "visits.log"
    expected = Counter(f"video-{n % 50}" for n in range(20_000))
    file.write_text(text([f"video-{n % 50}" for n in range(20_000)], log=True))
    settings = {"DRAIN_TIME": "0"}
    with Node(tmp_path / "node", "counter1", None, settings) as node:
        node.wait_ready()

        def kill() -> None:
            until(lambda: counted(node.url, ["video-1"])["video-1"], 10, "it has begun")
            node.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        cut = run(file, node.url)
        killer.join()
        assert cut.exit_code != 0
        assert "no answer from" in cut.output
        assert "--from" in cut.output
        node.start()
        node.wait_ready()
        done = run(file, node.url)
        assert done.exit_code == 0, done.output
        assert counted(node.url, list(expected)) == expected


def test_the_rest_alone_can_be_imported(node: Node, tmp_path: Path) -> None:
    file = tmp_path / "visits.log"
    file.write_text("first\n" * 10 + "rest\n" * 5)
    done = run(file, node.url, "--from", "60")
    assert done.exit_code == 0
    assert counted(node.url, ["first", "rest"]) == {"first": 0, "rest": 5}


def test_what_is_wrong_is_said_in_one_sentence(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "_PATIENCE", 0.0)
    file = tmp_path / "visits.gz"
    file.write_text("not packed\n")
    for url, words in (
        (node.url, "Not a gzipped file"),
        ("nonsense", "--url 'nonsense' is not an address"),
    ):
        done = run(file, url)
        assert done.exit_code == 1
        assert words in done.output
    file = tmp_path / "visits"
    file.write_text("cats\n")
    assert "no answer from 127.0.0.1:9" in run(file, "http://127.0.0.1:9").output
    assert run(tmp_path / "nowhere", node.url).exit_code == 2
