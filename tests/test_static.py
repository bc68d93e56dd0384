"""Static files: what says which version of a file it is, and parts of files."""

import gzip
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from counter.web import files
from lab.cluster import Cluster
from lab.previous import PARTS
from lab.servers import ROOT, Nginx, Node
from tests.test_http import get

SCRIPT = b"export const number = 1; // " + b"x" * 500
CLIP = bytes(range(256)) * 8
OLD, NEW = 1_500_000_000, 1_700_000_000
Site = Callable[..., TestResponse]


def checkout(folder: Path, changed: int, script: bytes = SCRIPT) -> Site:
    """A site of its own, whose files were changed at this time; ask it by path and headers."""
    (folder / "clips").mkdir(parents=True)
    for name, content in {"a.js": script, "clips/a.webm": CLIP, "robots.txt": b"#"}.items():
        (folder / name).write_bytes(content)
        os.utime(folder / name, (changed, changed))
    app = Flask("site", static_folder=folder, static_url_path="/static")
    files.install(app)

    def ask(path: str, method: str = "GET", **headers: str) -> TestResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return app.test_client().open(path, method=method, headers=named, buffered=True)

    return ask


@pytest.fixture
def sites(tmp_path: Path) -> tuple[Site, Site]:
    """Two checkouts of the same files."""
    return checkout(tmp_path / "one", OLD), checkout(tmp_path / "two/deep", NEW)


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize("path", ["/static/a.js", "/static/clips/a.webm", "/robots.txt"])
def test_a_file_has_the_same_tag_in_every_checkout(
    sites: tuple[Site, Site], path: str, encoding: str
) -> None:
    one, two = (site(path, Accept_Encoding=encoding) for site in sites)
    tag = one.headers["ETag"]
    assert two.headers["ETag"] == tag
    assert "Last-Modified" not in one.headers, "it would differ"
    assert tag.startswith("W/") == (one.headers.get("Content-Encoding") == "gzip")
    for known in (tag, f'"other", {tag}', tag.removeprefix("W/"), "*"):
        again = sites[1](path, Accept_Encoding=encoding, If_None_Match=known)
        assert (again.status_code, again.data) == (304, b"")
        assert again.headers["ETag"] == tag
    assert sites[1](path, If_None_Match='"other"').status_code == 200


def test_parts_of_a_file_come_from_any_checkout(sites: tuple[Site, Site]) -> None:
    path = "/static/clips/a.webm"
    tag = sites[0](path).headers["ETag"]
    got = b""
    for number, start in enumerate(range(0, len(CLIP), 500)):
        part = sites[number % 2](path, Range=f"bytes={start}-{start + 499}", If_Range=tag)
        assert part.status_code == 206
        assert part.headers["Content-Range"].endswith(f"/{len(CLIP)}")
        assert part.headers["ETag"] == tag
        got += part.data
    assert got == CLIP
    for wrong in ('"other"', f"W/{tag}", "Fri, 14 Jul 2017 02:40:00 GMT"):
        whole = sites[0](path, Range="bytes=0-9", If_Range=wrong)
        assert (whole.status_code, whole.data) == (200, CLIP), wrong
    assert sites[0](path, Range="bytes=-5").data == CLIP[-5:]
    unchanged = sites[1](path, Range="bytes=0-9", If_None_Match=tag)
    assert (unchanged.status_code, unchanged.data) == (304, b"")
    assert sites[1](path, Range="bytes=0-9", If_None_Match='"other"').data == CLIP[:10]
    beyond = sites[0](path, Range="bytes=99999-")
    assert beyond.status_code == 416
    assert beyond.headers["Content-Range"] == f"bytes */{len(CLIP)}"
    assert sites[0](path).headers["Accept-Ranges"] == "bytes"


def test_a_part_of_a_script_is_never_taken_for_a_part_of_its_compressed_form(
    sites: tuple[Site, Site],
) -> None:
    compressed = sites[0]("/static/a.js", Accept_Encoding="gzip")
    assert gzip.decompress(compressed.data) == SCRIPT
    weak, strong = compressed.headers["ETag"], sites[0]("/static/a.js").headers["ETag"]
    asked = {"Accept_Encoding": "gzip", "Range": "bytes=0-9"}
    whole = sites[1]("/static/a.js", **asked, If_Range=weak)
    assert (whole.status_code, gzip.decompress(whole.data)) == (200, SCRIPT)
    part = sites[1]("/static/a.js", **asked, If_Range=strong)
    assert (part.status_code, part.data, part.headers["ETag"]) == (206, SCRIPT[:10], strong)
    assert "Content-Encoding" not in part.headers


def test_another_content_is_seen_even_from_an_older_checkout(tmp_path: Path) -> None:
    before = checkout(tmp_path / "before", NEW)
    after = checkout(tmp_path / "after", OLD, SCRIPT.replace(b"1", b"2"))
    kept = before("/static/a.js")
    known = {"If_None_Match": kept.headers["ETag"]}
    assert after("/static/a.js", **known).status_code == 200
    date = {"If_Modified_Since": "Tue, 14 Nov 2023 22:13:20 GMT"}
    assert after("/static/a.js", **date).status_code == 200


def test_a_file_is_read_once_for_its_tag_and_again_when_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = checkout(tmp_path, OLD)
    tag = site("/static/a.js").headers["ETag"]
    read: list[Path] = []
    whole = Path.read_bytes

    def counted(path: Path) -> bytes:
        read.append(path)
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    for _ in range(3):
        assert site("/static/a.js").headers["ETag"] == tag
    assert read == []
    (tmp_path / "a.js").write_bytes(SCRIPT[::-1])
    changed = site("/static/a.js", If_None_Match=tag)
    assert (changed.status_code, changed.data) == (200, SCRIPT[::-1])
    assert len(read) == 1


def test_a_head_says_the_same_and_sends_nothing(sites: tuple[Site, Site]) -> None:
    for encoding in ("identity", "gzip"):
        head = sites[0]("/static/a.js", "HEAD", Accept_Encoding=encoding)
        body = sites[1]("/static/a.js", Accept_Encoding=encoding)
        assert head.data == b""
        for name in ("ETag", "Content-Length", "Vary", "Cache-Control"):
            assert head.headers[name] == body.headers[name]


@pytest.mark.parametrize("path", ["/static/", "/static/clips", "/static/../a.js", "/static/b.js"])
def test_what_is_no_file_is_not_found(sites: tuple[Site, Site], path: str) -> None:
    assert sites[0](path).status_code == 404


@pytest.fixture(scope="module")
def balancer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Where nginx is, in front of two nodes that run from two folders."""
    folder = tmp_path_factory.mktemp("checkouts")
    code = folder / "code"
    code.mkdir()
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copyfile
        copy(ROOT / part, code / part)
    for file in (code / "static").rglob("*"):
        os.utime(file, (OLD, OLD))
    roots = iter([ROOT, code])
    with ExitStack() as stack:
        cluster = Cluster(
            folder,
            stack,
            ["sqlite"] * 2,
            settings={"DRAIN_TIME": "0"},
            make=lambda *parts: Node(*parts, root=next(roots)),
            nginx=Nginx,
            killed=True,
        )
        yield Node(folder, "nginx", cluster.nginx.port)


def test_behind_nginx_a_clip_is_put_together_from_parts_of_two_nodes(balancer: Node) -> None:
    path = "/static/clips/clock.webm"
    whole = get(balancer, path)
    got, nodes = b"", set()
    for start in range(0, len(whole.body), 4096):
        part = get(
            balancer, path, Range=f"bytes={start}-{start + 4095}", If_Range=whole.headers["etag"]
        )
        assert part.status == 206
        got += part.body
        nodes.add(part.headers["x-served-by"])
    assert got == whole.body
    assert nodes == {"counter1", "counter2"}


@pytest.mark.parametrize("path", ["/static/embed.js", "/static/clips/clock.webp", "/robots.txt"])
def test_behind_nginx_what_did_not_change_is_sent_once(balancer: Node, path: str) -> None:
    first = get(balancer, path, Accept_Encoding="gzip")
    again = [get(balancer, path, Accept_Encoding="gzip", If_None_Match=first.headers["etag"])
             for _ in range(4)]  # fmt: skip
    assert {answer.status for answer in again} == {304}
    assert {answer.headers["x-served-by"] for answer in again} == {"counter1", "counter2"}
