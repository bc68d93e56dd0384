"""No video is called "." or "..": in a path these are steps, which everybody reads differently."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from counter.cli.visits import visits as command
from counter.crdt.ids import mint_run
from counter.protocol import messages
from counter.protocol.messages import Delta, Envelope
from lab.clients import metric, until
from lab.servers import Nginx, Node, free_port
from tests.test_http import Answer, ask, get

STEPS = [".", ".."]
WRITTEN = [*STEPS, "%2e", "%2E%2e", ".%2e"]


class Site(NamedTuple):
    """A node that is for demonstrations and follows the log of nginx, which stands before it."""

    node: Node
    nginx: Nginx
    log: Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("steps")
    port = free_port()
    nginx = Nginx(folder / "nginx", [f"127.0.0.1:{port}"])
    log = nginx.visit_log(1)
    settings = {"DEV_MODE": "1", "DRAIN_TIME": "0", "VISIT_LOG": str(log)}
    with ExitStack() as stack:
        node = stack.enter_context(Node(folder / "node", "counter1", port, settings))
        node.wait_ready()
        stack.enter_context(nginx)
        yield Site(node, nginx, log)


def counted(node: Node) -> float:
    return metric(node.url, "counter_visits_total")


@pytest.mark.parametrize("video", WRITTEN)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/video/{}"),
        ("GET", "/hit/{}"),
        ("POST", "/hit/{}"),
        ("GET", "/count/{}"),
        ("GET", "/badge/{}.svg"),
        ("GET", "/counts?video=cats&video={}"),
        ("GET", "/live/{}"),
        ("GET", "/live?video={}"),
        ("GET", "/cluster?video={}"),
        ("GET", "/cluster/counts?video={}"),
        ("GET", "/cluster/count?video={}"),
        ("POST", "/dev/burst?video={}"),
    ],
)
def test_every_endpoint_refuses_them(site: Site, method: str, path: str, video: str) -> None:
    before = counted(site.node)
    accept = {"Accept": "text/event-stream"} if path.startswith("/live") else {}
    if path.startswith("/cluster?"):
        accept = {"Accept": "text/html"}
    answer = ask(site.node, method, path.format(video), accept)
    assert answer.status == 400
    assert counted(site.node) == before


@pytest.mark.parametrize("video", STEPS)
def test_many_visits_with_one_of_them_are_refused(site: Site, video: str) -> None:
    before = counted(site.node)
    records = [{"video": "cats"}, {"video": video}]
    for kind, body in (
        ("application/json", json.dumps(records)),
        ("application/x-ndjson", "\n".join(map(json.dumps, records))),
    ):
        answer = ask(site.node, "POST", "/visits", {"Content-Type": kind}, body.encode())
        assert answer.status == 400
        assert answer.problem()["index"] == 1
        assert repr(video) in answer.problem()["detail"]
    assert counted(site.node) == before


@pytest.mark.parametrize("video", WRITTEN)
@pytest.mark.parametrize(
    "path", ["/hit/{}", "/video/{}", "/hit/cats/../{}", "/hit//{}", "/x/../hit/{}"]
)
def test_nothing_counts_them_behind_nginx(site: Site, path: str, video: str) -> None:
    before = counted(site.node)
    for method in ("GET", "POST"):
        with socket.create_connection(("127.0.0.1", site.nginx.port), 5) as connection:
            head = "HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n"
            connection.sendall(f"{method} {path.format(video)} {head}".encode())
            status = connection.makefile("rb").readline().split()[1]
        assert status in (b"308", b"400", b"404", b"405")
    get(Node(site.node.folder, "nginx", site.nginx.port), "/hit/end-of-steps")
    until(lambda: counted(site.node) > before, 10, "the log is read")
    assert counted(site.node) == before + 1


def test_lines_of_a_log_that_name_them_are_junk(site: Site) -> None:
    junk, lines = "counter_log_junk_lines_total", "counter_log_lines_total"
    before = {name: metric(site.node.url, name) for name in (junk, lines)}
    now = f"{time.time():.3f}"
    with site.log.open("a") as log:
        log.write(f"{now} 9.1 .\n{now} 9.2 ..\n{now} 9.3 ...\n")
    until(lambda: metric(site.node.url, lines) > before[lines], 10, "the log is read")
    assert metric(site.node.url, lines) == before[lines] + 1
    assert metric(site.node.url, junk) == before[junk] + 2


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("cats\n" * 20 + "..\n.\n", "20 visits counted, 2 lines are none"),
        ("".join(f"1700000000.123 1.{n} cats\n" for n in range(20)) + "1700000000.123 2.1 ..\n",
         "20 visits counted, 1 lines are none"),
        ("video,count\ncats,3\n..,4\n", "Nothing was counted"),
        ("3,cats\n4,.\n", "Nothing was counted"),
        ("..\n.\n", "Nothing was counted"),
    ],
)  # fmt: skip
def test_no_import_counts_them(site: Site, tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "file").write_text(content)
    done = CliRunner().invoke(command, ["import", str(tmp_path / "file"), "--url", site.node.url])
    assert told in done.output


def test_an_access_log_has_none_of_them(site: Site, tmp_path: Path) -> None:
    line = '1.2.3.4 - - [10/Oct/2026:13:55:36 +0000] "GET /video/{} HTTP/1.1" 200 12\n'
    (tmp_path / "file").write_text("".join(map(line.format, ["cats", *WRITTEN])))
    done = CliRunner().invoke(
        command,
        ["import", str(tmp_path / "file"), "--url", site.node.url, "--path", "/video/{video}"],
    )
    assert "1 visits counted" in done.output
    assert f"{len(WRITTEN)} requests are no visits" in done.output


def test_what_an_earlier_version_has_counted_is_kept_and_listed_nowhere(
    tmp_path: Path,
) -> None:
    member = "earlier~" + "0" * 13
    sender = f"{member}.{mint_run(1, '', 1)}"
    counts = {"..": 7, ".": 6, "cats": 1}
    node = Node(tmp_path, "counter1", settings={"DRAIN_TIME": "0"})

    def shown() -> int:
        members = get(node, "/cluster").json()["members"]
        return int(next((each["visits"] for each in members if each["member"] == member), 0))

    def listed() -> list[str]:
        assert get(node, "/").status == 200
        top: Answer = get(node, "/top?limit=2")
        return [each["video"] for each in top.json()["counters"]]

    try:
        node.start().wait_ready()
        sent = int(time.time() * 1000)
        message = messages.encode(Envelope(sender, "", sent, Delta(counts, 14)), None)
        kind = {"Content-Type": "application/octet-stream"}
        assert ask(node, "POST", "/mesh", kind, message).status == 204
        assert metric(node.url, "counter_entries_refused_total") == 0
        assert (shown(), listed()) == (14, ["cats"])
        node.stop()
        node.start()
        until(lambda: shown() == 14, 15, "the store is loaded")
        assert metric(node.url, "counter_store_rows_set_aside_total") == 0
        assert get(node, "/top?limit=2&stale=1").json()["counters"][0]["video"] == "cats"
    finally:
        node.kill()
