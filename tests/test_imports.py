"""An old log is counted by `flask visits import`, once, also if that is cut short and repeated."""

import bz2
import gzip
import io
import lzma
import os
import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from counter.cli import formats, packed, sender
from counter.cli import visits as imports
from lab.clients import counted, fill, until
from lab.servers import Node


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
    for told in (
        "20001 visits counted, 2 lines",
        "0 visits counted, 20001 counted before, 2 lines",
    ):
        done = run(file, node.url)
        assert done.exit_code == 0, done.output
        assert f"{told} are none" in done.output
        shown: dict[str, int] = {}
        for some in range(0, len(expected), 1000):
            shown |= counted(node.url, sorted(expected)[some : some + 1000])
        assert shown == expected


def test_it_goes_on_where_it_was_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "CHUNK", 2000)
    monkeypatch.setattr(sender, "_PATIENCE", 0.5)
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
    monkeypatch.setattr(sender, "_PATIENCE", 0.0)
    file = tmp_path / "visits"
    file.write_text("cats\n")
    done = run(file, "nonsense")
    assert done.exit_code == 1
    assert "--url 'nonsense' is not an address" in done.output
    for path in ("video", "/video", "/{video}/{video}", "/watch?v={video}"):
        done = run(file, node.url, "--path", path)
        assert done.exit_code == 1
        assert f"--path {path!r} is not one path" in done.output
    assert "no answer from 127.0.0.1:9" in run(file, "http://127.0.0.1:9").output
    assert run(tmp_path / "nowhere", node.url).exit_code == 2


# -- two files are two files


def test_two_logs_with_the_same_visits_count_both(node: Node, tmp_path: Path) -> None:
    """Monday's and Tuesday's: the second was taken for a repetition of the first."""
    for day in (1_600_000_000, 1_600_086_400):
        file = tmp_path / f"{day}.log"
        file.write_text(f"{day}.000 1.1 two-days\n")
        assert "1 visits counted\n" in run(file, node.url).output
    assert counted(node.url, ["two-days"]) == {"two-days": 2}


def test_two_lists_of_the_same_ids_in_another_order_count_both(node: Node, tmp_path: Path) -> None:
    for number, ids in enumerate((["left", "right"], ["right", "left"])):
        file = tmp_path / f"{number}.txt"
        file.write_text("".join(f"{video}\n" for video in ids))
        assert "2 visits counted\n" in run(file, node.url).output
    assert counted(node.url, ["left", "right"]) == {"left": 2, "right": 2}


def test_two_files_that_begin_alike_for_a_whole_chunk_count_both(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "CHUNK", 1000)
    for number in range(3):
        file = tmp_path / f"{number}.txt"
        file.write_text("alike\n" * 1000 + f"end-{number}\n" * (number > 0))
        assert "counted before" not in run(file, node.url).output
    assert counted(node.url, ["alike", "end-1", "end-2"]) == {"alike": 3000, "end-1": 1, "end-2": 1}


def test_a_file_is_the_same_under_another_name_and_packed(node: Node, tmp_path: Path) -> None:
    text = b"same-file\n" * 3
    for name, content in (
        ("a.log", text),
        ("b.txt", text),
        ("c.GZ", gzip.compress(text)),
        ("d.log", bz2.compress(text)),
        ("e", lzma.compress(text)),
    ):
        file = tmp_path / name
        file.write_bytes(content)
        done = run(file, node.url)
        assert done.exit_code == 0, done.output
        assert ("3 counted before" in done.output) == (name != "a.log")
    assert counted(node.url, ["same-file"]) == {"same-file": 3}


def test_one_access_log_is_read_for_one_path_after_the_other(node: Node, tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    file.write_text(request("GET /clip/by-path HTTP/1.1") + request("GET /film/by-path HTTP/1.1"))
    for path in ("/clip/{video}", "/film/{video}", "/film/{video}"):
        assert run(file, node.url, "--path", path).exit_code == 0
    assert counted(node.url, ["by-path"]) == {"by-path": 2}


# -- what files look like


FOUR = {"A": 2, "B": 1, "C": 1}


def request(line: str, status: int = 200, agent: str = "Mozilla/5.0 (X11)") -> str:
    """A line of nginx's combined log."""
    time_ = "29/Nov/2026:21:50:55 +0000"
    return f'192.0.2.7 - - [{time_}] "{line}" {status} 612 "https://x.example/" "{agent}"\n'


def with_ends(end: str) -> bytes:
    return end.join(["A", "B", "A", "", "C", ""]).encode()


READABLE = {
    "line feeds": with_ends("\n"),
    "Windows' line ends": with_ends("\r\n"),
    "lone returns": with_ends("\r"),
    "no end of the last line": b"A\nB\nA\nC",
    "blanks around": b"  A\t\nB \nA\n\tC\n",
    "a byte order mark": b"\xef\xbb\xbf" + with_ends("\r\n"),
    "files with marks, joined": b"\xef\xbb\xbfA\r\nB\r\n\xef\xbb\xbfA\r\nC\r\n",
    "UTF-16 with a mark": with_ends("\r\n").decode().encode("utf-16"),
    "UTF-16, big end first": b"\xfe\xff" + with_ends("\r\n").decode().encode("utf-16-be"),
    "UTF-16 without a mark": with_ends("\r\n").decode().encode("utf-16-le"),
    "UTF-16 and lone returns": with_ends("\r").decode().encode("utf-16"),
    "gzip": gzip.compress(with_ends("\n")),
    "gzip in parts": gzip.compress(b"A\nB\n") + gzip.compress(b"A\nC\n"),
    "bzip2": bz2.compress(with_ends("\n")),
    "xz": lzma.compress(with_ends("\n")),
    "gzip in gzip": gzip.compress(gzip.compress(with_ends("\n"))),
    "bzip2 in bzip2": bz2.compress(bz2.compress(with_ends("\n"))),
    "xz in xz in gzip": gzip.compress(lzma.compress(lzma.compress(with_ends("\n")))),
    "packed twice": gzip.compress(lzma.compress(with_ends("\n"))),
    "UTF-16, packed": gzip.compress(with_ends("\r\n").decode().encode("utf-16")),
    "CSV": b"A,2\nB,1\nC,1\n",
    "CSV with a header": b"video,count\r\nA,2\r\nB,1\r\nC,1\r\n",
    "CSV with another header": b"Video ID,Views\nA,2\nB,1\nC,1\n",
    "CSV with its columns turned": b"count,video\n2,A\n1,B\n1,C\n",
    "CSV turned, in other words": b'\r\n"Total Views"; "VIDEO_ID";;\r\n2; A;;\r\n1; B;;\r\n1;C\r\n',
    "CSV by path and hits": b"PATH\thits\nA\t2\nB\t1\nC\t1\n",
    "CSV of a video called like a column": b"video,count\nA,2\nB,1\nC,1\nvideo,0\n",
    "ids below the name of their column": b'"Video ID"\nA\nB\nA\nC\n',
    "CSV with quotes": b'"video","count"\n"A","2"\n"B","1"\n"C","1"\n',
    "CSV with semicolons": b"\xef\xbb\xbfvideo;count\r\nA;1\r\nB;1\r\nA;1\r\nC;1\r\n",
    "CSV with tabs in UTF-16": "video\tcount\r\nA\t2\r\nB\t1\r\nC\t1\r\n".encode("utf-16"),
    "CSV with zeros": b"A,2\nzero,0\nB,1\nC,1\n",
    "a visit log": b"1600000000.000 1.1 A\n1600000000.001 1.2 B\n1600000000.002 1.3 A\n"
    b"1600000000.003 1.4 C\n",
    "a visit log with a line cut short": b"1600000000.000 1.1 A\n1600000000.001 1.2 B\n"
    b"1600000000.00\0\x001600000000.002 1.3 A\n1600000000.003 1.4 C\n",
}  # fmt: skip


@pytest.mark.parametrize("name", READABLE)
def test_files_as_people_and_windows_make_them_are_read(name: str) -> None:
    counts, found = found_in(READABLE[name])
    assert counts == FOUR
    assert found.others == 0
    assert found.junk == 0


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("kind", ["utf-8-sig", "utf-16"])
def test_such_a_file_is_counted_by_a_node(node: Node, tmp_path: Path, kind: str, end: str) -> None:
    video = f"made-{kind}-{len(end)}{ord(end[0])}"
    for name, pack in (("visits.txt", bytes), ("VISITS.GZ", gzip.compress)):
        file = tmp_path / name
        text = f"video,count{end}{video},3{end}{video},4{end}{name},1{end}"
        file.write_bytes(pack(text.encode(kind)))
        done = run(file, node.url)
        assert done.exit_code == 0, done.output
        assert "8 visits counted\n" in done.output
    assert counted(node.url, [video]) == {video: 14}


def found_in(content: bytes, path: str | None = None) -> tuple[dict[str, int], formats.Found]:
    """What a file holds, as it is recognized."""
    file = packed.unpacked(io.BufferedReader(io.BytesIO(content)))
    shape = formats.recognize(file.read(formats.SAMPLE), path, whole=True)
    file = packed.unpacked(io.BufferedReader(io.BytesIO(content)))
    text = "".join(packed.pieces(file, shape.encoding, 1000))
    found = shape.find(text, True)
    return dict(found.visits), found


ACCESS = [
    ("GET /video/cats HTTP/1.1", 200, "cats"),
    ("GET /video/cats?from=there HTTP/1.1", 200, "cats"),
    ("GET /video/%7Ecats HTTP/2.0", 304, "~cats"),
    ("GET http://x.example/video/cats HTTP/1.1", 204, "cats"),
    ("HEAD /video/cats HTTP/1.1", 200, None),
    ("POST /video/cats HTTP/1.1", 200, None),
    ("GET /video/cats HTTP/1.1", 206, None),
    ("GET /video/cats HTTP/1.1", 301, None),
    ("GET /video/cats HTTP/1.1", 404, None),
    ("GET /video/cats HTTP/1.1", 503, None),
    ("GET /video/cats/comments HTTP/1.1", 200, None),
    ("GET /other/video/cats HTTP/1.1", 200, None),
    ("GET /video/c%C3%A4ts HTTP/1.1", 200, None),
    ("GET /video/ HTTP/1.1", 200, None),
    ("GET / HTTP/1.1", 200, None),
    (r"\x16\x03\x01", 400, None),
    ("", 400, None),
]


def test_an_access_log_tells_which_requests_were_visits() -> None:
    lines = [request(line, status) for line, status, _ in ACCESS]
    # As Apache writes it, without who sent the visitor and with what.
    common = '::1 - ann lee [29/Nov/2026:21:50:56 +0000] "GET /video/cats HTTP/1.0" 200 -\n'
    forged = request(
        "GET / HTTP/1.1", 200, r"[29/Nov/2026:21:50:55 +0000] \x22GET /video/cats\x22 200 1"
    )
    counts, found = found_in("".join([*lines, common, forged, "junk\n"]).encode(), "/video/{video}")
    expected = Counter(video for *_, video in ACCESS if video) + Counter(cats=1)
    assert counts == expected
    assert found.others == len(ACCESS) + 2 - expected.total()
    assert found.junk == 1
    assert (found.first, found.last) == ("29/Nov/2026:21:50:55 +0000", "29/Nov/2026:21:50:56 +0000")


def test_an_access_log_is_counted_by_a_node(node: Node, tmp_path: Path) -> None:
    file = tmp_path / "access.log.1.gz"
    file.write_bytes(
        gzip.compress(
            (request("GET /watch/by-log/now HTTP/1.1") * 7 + request("GET / HTTP/1.1")).encode()
        )
    )
    done = run(file, node.url, "--path", "/watch/{video}/now")
    assert done.exit_code == 0, done.output
    assert "7 visits counted (of 29/Nov/2026:21:50:55 +0000 to 29/Nov/2026" in done.output
    assert "1 requests are no visits" in done.output
    assert counted(node.url, ["by-log"]) == {"by-log": 7}


PROSE = "".join(f"It was the year {year}, and nobody came to watch.\nSo.\n" + "No visit.\n" * 20
                for year in range(50))  # fmt: skip

PACKED_OFTEN = b"cats\n"
for _ in range(9):
    PACKED_OFTEN = gzip.compress(PACKED_OFTEN)

UNREADABLE = {
    "nothing": (b"", "an empty file"),
    "blank lines": (b"\r\n \r\n", "an empty file"),
    "nothing, packed": (gzip.compress(b""), "an empty file"),
    "prose": (PROSE.encode(), "text that begins with 'It was the year 0, and nobody"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)) * 20, "binary data"),
    "HTML": (b"<!doctype html>\n<p>cats\n", "HTML or XML"),
    "JSON": (b'[{"video": "cats"}]', "JSON"),
    "NDJSON": (b'{"video": "cats"}\n', "JSON"),
    "indented JSON": (b'[\n "cats",\n "dogs",\n "mice"\n]\n', "JSON, which POST /visits takes"),
    "indented records": (b'\n[\n {\n  "video":\n  "cats"\n }\n]\n', "JSON, which POST"),
    "an indented record": (b'{"video":\n"cats",\n"count":\n5}', "JSON, which POST /visits takes"),
    "JSON with a mark": ('[\n"cats"\n]'.encode("utf-16"), "JSON, which POST /visits takes"),
    "three columns": (b"cats,3,4\ndogs,4,5\n", "CSV with 3 columns"),
    "three columns with quotes": (b'"cats","1,234",5\n"dogs","1,2",5\n', "CSV with 3 columns"),
    "thousands alone": (b'"cats","1,234"\n"dogs","2,345"\n', "CSV without an id and a count in di"),
    "numbers without a header": (b"5,1234567\n3,7654321\n", "CSV of numbers alone, and no header"),
    "numbers, also with zeros": (b"5,1234567\ncats,0\n", "CSV of numbers alone, and no header"),
    "turned without a header": (b"5,cats\n3,dogs\n", "CSV that begins with '5,cats', which does"),
    "turned, of some numbers": (b"5,1234567\n" * 9 + b"3,cats\n", "CSV, but an id and a count"),
    "a header of other words": (b"date,visits\n2026-01-01,5\n", "CSV that begins with 'date,"),
    "a header of two videos": (b"name,url\n12,15\n", "CSV that begins with 'name,url', which"),
    "a header of two counts": (b"views,hits\n12,15\n", "CSV that begins with 'views,hits', whi"),
    "a header with a year": (b"video,2025\ncats,7\n", "CSV that begins with 'video,2025': write"),
    "a header in the middle": (b"a,1\nvideo,count\nb,1\n", "CSV, but an id and a count in digits "
                               "alone cannot be read in line 2, 'video,count'; correct it or rem"),
    "thousands": (b'video,count\r\n"cats","1,234"\r\n"dogs",7\r\n',
                  "CSV, but an id and a count in digits alone cannot be read in line 2, '\"cats"),
    "one negative number": (b"cats,1\n" * 99 + b"\ndogs,-1", "CSV, but an id and a count in digits "
                            "alone cannot be read in line 101, 'dogs,-1'"),
    "the sum of all": (b"video,count\ncats,2\ndogs,3\nTotal,5\n", "CSV with the sum of all rows"),
    "the name of the column": (b"video\ncats\ndogs\n", "lines of ids, the first of which is 'v"),
    "the name with quotes": (b'\r\n "Video_ID"\r\n"cats"\r\n', "lines of ids, the first of which"),
    "much junk": (b"cats\n" * 80 + "wo\u0308rter und so\r\n".encode() * 9,
                  "lines of ids, but 9 of 89 lines are none; the first is line 81, 'wo\u0308rter "),
    "ids and a row of CSV": (b"cats\n" * 80 + b"dogs,3586\n", "lines of ids, but also like CSV"),
    "much junk in an archive": (gzip.compress(b"cats\n" * 300_000 + b"no visit\n" * 40_000),
                                "lines of ids, but 40000 of 340000 lines are none; the first is"),
    "itself, packed": (PACKED_OFTEN, "a file packed more than 8 times"),
    "zstd": (b"\x28\xb5\x2f\xfd\x04\x58", "a file packed with zstd"),
    "lz4": (b"\x04\x22\x4d\x18\x64\x40", "a file packed with lz4"),
    "a spreadsheet": (b"PK\x03\x04\x14\0\x08", "a zip archive, or a spreadsheet"),
    "a tar archive": (gzip.compress(b"a".ljust(257, b"\0") + b"ustar\x0000"), "a tar archive"),
    "an access log without a path": (request("GET /video/a HTTP/1.1").encode(), "an access log; "),
}  # fmt: skip


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_list_of_visits_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    """It was counted as 0 visits, with status 0."""
    content, looks_like = UNREADABLE[name]
    file = tmp_path / "file"
    file.write_bytes(content)
    done = run(file, "http://127.0.0.1:9")
    assert done.exit_code == 1
    assert f"file looks like {looks_like}" in done.output
    assert formats.READ in done.output
    assert len(done.output.splitlines()) == 1


def test_what_is_refused_is_refused_before_anything_is_counted(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 3,586 visits 7 were counted, with status 0."""
    monkeypatch.setattr(imports, "CHUNK", 1000)
    file = tmp_path / "visits.csv"
    for end in ("\n", "\r\n", "\r"):
        file.write_text(f"refused-early,1{end}" * 999 + f'"refused-late","1,234"{end}', newline="")
        done = run(file, node.url)
        assert done.exit_code == 1
        assert 'cannot be read in line 1000, \'"refused-late","1,234"\'' in done.output
    assert counted(node.url, ["refused-early"]) == {"refused-early": 0}


def test_columns_go_by_their_names(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8888888 visits were counted for the videos "5" and "3"."""
    monkeypatch.setattr(imports, "CHUNK", 50)
    file = tmp_path / "visits.csv"
    file.write_text("count,video_id\n" + "5,1234567\n3,7654321\n" * 20)
    assert "160 visits counted\n" in run(file, node.url).output
    file.write_text("views;Video ID\n5;1234567\n3;7654321\n")
    assert "8 visits counted\n" in run(file, node.url).output
    file.write_text("URL\tTotal Visits\n1234567\t5\n7654321\t3\n")
    assert "8 visits counted\n" in run(file, node.url).output
    assert counted(node.url, ["5", "3", "1234567", "7654321"]) == {
        "5": 0, "3": 0, "1234567": 110, "7654321": 66,
    }  # fmt: skip


def test_the_first_line_of_ids_is_a_header_or_a_video_as_the_operator_says(
    node: Node, tmp_path: Path
) -> None:
    """It was counted as a visit of the video "video"."""
    file = tmp_path / "visits.txt"
    file.write_text("\nslug\nheader-cats\nheader-dogs\n")
    videos = ["slug", "header-cats", "header-dogs"]
    assert "say --header if that is the name" in run(file, node.url).output
    assert counted(node.url, videos) == {"slug": 0, "header-cats": 0, "header-dogs": 0}
    assert "2 visits counted\n" in run(file, node.url, "--header").output
    assert counted(node.url, videos) == {"slug": 0, "header-cats": 1, "header-dogs": 1}
    file.write_text("slug\nheader-cats\n")
    assert "2 visits counted\n" in run(file, node.url, "--no-header").output
    assert counted(node.url, videos) == {"slug": 1, "header-cats": 2, "header-dogs": 1}
    file.write_text("video,7\n")
    assert run(file, node.url).exit_code == 1
    assert "7 visits counted\n" in run(file, node.url, "--no-header").output
    assert counted(node.url, ["video"]) == {"video": 7}


@pytest.mark.parametrize(
    ("content", "arguments", "words"),
    [
        (gzip.compress(b"cats\n" * 10_000, mtime=0)[:-20], (), "cannot be read to its end"),
        (bz2.compress(b"cats\n" * 10_000)[:-20], (), "cannot be read to its end"),
        (lzma.compress(b"cats\n" * 10_000)[:-20], (), "cannot be read to its end"),
        (b"\xfd7zXZ\0no more", (), "cannot be read to its end"),
        (b"cats\n", ("--path", "/video/{video}"), "not like an access log, which --path is for"),
        (b"cats,0\ndogs,0\n", (), "nothing in file is a visit"),
        (b"video,count\ncats,5\n", ("--no-header",), "cannot be read in line 1, 'video,count'"),
        (b"cats,5\ndogs,5\n", ("--header",), "CSV that begins with 'cats,5', which does not name"),
        (b"5,4\n3,2\n", ("--no-header",), "CSV of numbers alone, and no header"),
        (b"1600000000.000 1.1 A\n", ("--header",), "lines of ids without a header: the first"),
        (request("GET /v/a HTTP/1.1").encode(), ("--path", "/v/{video}", "--header"), "no header"),
        (request("GET / HTTP/1.1").encode(), ("--path", "/v/{video}"), "1 requests are no visits"),
        (b"cats\n", ("--from", "5"), "nothing in file is a visit"),
    ],
)
def test_a_file_in_which_nothing_is_a_visit_never_ends_well(
    tmp_path: Path, content: bytes, arguments: tuple[str, ...], words: str
) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    done = run(file, "http://127.0.0.1:9", *arguments)
    assert done.exit_code == 1
    assert words in done.output
    assert formats.READ in done.output


@pytest.mark.alone
@pytest.mark.parametrize("hostile", ["a" + "\t" * 10**6, " " * 10**6 + "a b", "1" * 10**6,
                                     "\0" * 10**6, "a," * 10**6, "[" * 10**6])  # fmt: skip
def test_no_line_takes_long_to_look_at(hostile: str) -> None:
    began = time.monotonic()
    counts, _ = found_in(f"cats\n{hostile}\ncats\n".encode())
    assert counts["cats"] == 2
    assert time.monotonic() - began < 5


@given(
    st.lists(st.sampled_from(["a", "bb", "\n", "\r", "\r\n", "", "x" * 9]), max_size=30),
    st.integers(4, 12),
    st.sampled_from(["latin-1", "utf-16-le"]),
)
def test_pieces_are_whole_lines_and_together_the_text(
    parts: list[str], most: int, encoding: str
) -> None:
    text = "".join(parts)
    found = list(packed.pieces(io.BytesIO(text.encode(encoding)), encoding, most))
    assert all(0 < len(piece) <= most for piece in found)
    joined = "".join(found)
    assert len(joined) == len(text)
    assert all(one in (other, "\0") for one, other in zip(joined, text, strict=True))
    short = [line for line in text.replace("\r", "\n").split("\n") if 0 < len(line) < most]
    lines = [line for piece in found for line in piece.replace("\r", "\n").split("\n") if line]
    left = Counter(lines) - Counter(short)
    assert not Counter(short) - Counter(lines)
    assert all("\0" in line or len(line) == most for line in left)


def test_a_pipe_is_read_like_a_file(node: Node, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text("piped\n" * 3))
    writer.start()
    done = run(pipe, node.url)
    writer.join()
    assert done.exit_code == 0, done.output
    assert counted(node.url, ["piped"]) == {"piped": 3}


def test_a_file_that_is_still_written_is_said_to_be(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "CHUNK", 1000)
    file = tmp_path / "visits.log"
    file.write_text("growing\n" * 1000)
    grown = formats.recognize

    def recognize(*arguments: object, **named: object) -> object:
        with file.open("a") as more:
            more.write("growing\n" * 5)
        return grown(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(imports, "recognize", recognize)
    done = run(file, node.url)
    assert done.exit_code == 1
    assert "was written to meanwhile" in done.output
    assert "--from 8040" in done.output
    assert counted(node.url, ["growing"]) == {"growing": 1005}


def test_a_full_video_holds_up_no_other(
    tmp_path: Path, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "CHUNK", 1000)
    most = 2**53 - 1
    fill(node.url, {"import-full": most})
    file = tmp_path / "visits.csv"
    file.write_text(
        f"import-other,1\nimport-beyond,{most}\nimport-beyond,{most}\nimport-full,2\n"
        + "import-other,1\nimport-full,3\n" * 100
    )
    for told in ("101 visits counted", "0 visits counted, 101 counted before"):
        done = run(file, node.url)
        assert done.exit_code == 1
        assert told in done.output
        assert f"{2 * most + 302} refused: import-beyond, import-full can have" in done.output
    assert counted(node.url, ["import-other", "import-beyond"]) == {
        "import-other": 101, "import-beyond": 0,
    }  # fmt: skip
