"""What one request may add, with a token and without, and that no total can be full."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from counter.cli import visits as imports
from lab.clients import AUTHORIZED, counted, fetch, fill, metrics, until
from lab.servers import WRITE_TOKEN, Node
from tests.nodes import mesh
from tests.test_http import get, visits
from tests.test_visit_log import line
from tests.test_visits import JSON, LINES, one, post

MOST = 2**53 - 1
TOKEN = "only-for-operators"

pytestmark = pytest.mark.nodes(ADMIN_TOKEN=f"ops:{TOKEN}")


def body(kind: str, records: list[tuple[str, object]]) -> bytes:
    each = [json.dumps({"video": video, "count": count}) for video, count in records]
    return ("[" + ",".join(each) + "]" if kind == JSON else "\n".join(each)).encode()


@pytest.mark.parametrize("kind", [JSON, LINES])
@pytest.mark.parametrize(
    ("counts", "index"), [([1, 1001], 1), ([MOST], 0), ([1, MOST + 1], 1), ([int("9" * 30)], 0)]
)
def test_a_record_of_a_stranger_beyond_max_count_is_a_422_that_names_the_limit(
    node: Node, counts: list[object], index: int, kind: str
) -> None:
    answer = post(node, body(kind, [("beyond", count) for count in counts]), kind=kind)
    assert answer.status == 422, answer
    problem = answer.problem()
    assert (problem["index"], problem["video"], problem["limit"]) == (index, "beyond", 1000)
    assert "'beyond'" in problem["detail"]
    assert "1000, the most that a record may add without a token" in problem["detail"]
    assert "WRITE_TOKEN" in problem["detail"]
    assert visits(node, "beyond") == 0


@pytest.mark.parametrize("kind", [JSON, LINES])
def test_a_request_of_a_stranger_adds_100_000_visits_at_most(node: Node, kind: str) -> None:
    records: list[tuple[str, object]] = [(f"many-{kind[-4:]}", 1000)] * 100
    answer = post(node, body(kind, [*records, ("one-more", 1)]), kind=kind)
    assert (answer.status, answer.problem()["limit"]) == (422, 100_000)
    assert "100001 visits are more than 100000" in answer.problem()["detail"]
    assert visits(node, "one-more") == 0
    assert post(node, body(kind, records), kind=kind).json()["visits"] == 100_000


@pytest.mark.parametrize("kind", [JSON, LINES])
@pytest.mark.parametrize("secret", [WRITE_TOKEN, TOKEN])
def test_with_a_token_a_record_adds_10_to_the_12(node: Node, secret: str, kind: str) -> None:
    video = f"trusted-{len(kind)}-{len(secret)}"
    sent = {"Authorization": f"Bearer {secret}"}
    beyond = post(node, body(kind, [(video, 10**12 + 1)]), None, kind, **sent)
    assert (beyond.status, beyond.problem()["limit"]) == (422, 10**12)
    assert "without a token" not in beyond.problem()["detail"]
    assert post(node, body(kind, [(video, 10**12)] * 2), None, kind, **sent).status == 200
    assert visits(node, video) == 2 * 10**12
    more = post(node, body(kind, [(video, 10**12)] * 9006), None, kind, **sent)
    assert (more.status, more.problem()["limit"]) == (409, MOST), "one video is at its end"
    beyond = post(node, body(kind, [(video, 10**12)] * 9008), None, kind, **sent)
    assert (beyond.status, beyond.problem()["limit"]) == (422, MOST)
    assert beyond.problem()["index"] == 9007


def test_a_wrong_token_counts_nothing(node: Node) -> None:
    answer = post(node, one("wrong-token"), None, JSON, Authorization="Bearer no-such-token")
    assert answer.status == 401
    assert visits(node, "wrong-token") == 0
    assert post(node, one("wrong-token"), None, JSON, Authorization="Basic eDp5").status == 200


def test_max_count_is_a_setting(tmp_path: Path) -> None:
    with mesh(tmp_path, MAX_COUNT="200000", WRITE_TOKEN="") as [node]:
        assert post(node, one("cats", 200_000)).status == 200
        for large in (one("cats", 200_001), body(JSON, [("cats", 200_000), ("dogs", 1)])):
            answer = post(node, large, None, JSON, **AUTHORIZED)
            assert (answer.status, answer.problem()["limit"]) == (422, 200_000)


def test_three_requests_of_a_stranger_do_not_stop_a_node(node: Node) -> None:
    """Of 2^53 - 1 visits each, they brought the run near its end: every further visit was 503."""
    for number in range(9):
        assert post(node, one(f"stop-{number}", MOST)).status == 422
    assert get(node, "/video/stop-0").json()["visits"] == 1


def runs(node: Node) -> int:
    return int(fetch(node.url, "/cluster")["members"][0]["runs"])


def test_a_full_run_is_followed_by_another_before_anybody_is_refused(tmp_path: Path) -> None:
    """Requests that arrive together may add more than there is room for before the next run."""
    log = tmp_path / "visits.log"
    with mesh(tmp_path, VISIT_LOG=str(log)) as [node]:
        lines = 0

        def add(number: int) -> int:
            whole = body(JSON, [(f"v{number}-{part % 2}", 10**12) for part in range(10_000)])
            return post(node, whole, None, JSON, **AUTHORIZED).status

        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(add, number) for number in range(24)]
            while not all(each.done() for each in asked):
                with log.open("a") as more:
                    more.write(line("beacon", lines))
                lines += 1
                assert get(node, "/video/cats").status == 200
        assert [each.result() for each in asked] == [200] * 24
        videos = [f"v{number}-{part}" for number in range(24) for part in range(2)]
        assert counted(node.url, videos) == dict.fromkeys(videos, 5_000 * 10**12)
        assert visits(node, "cats") == lines
        until(lambda: visits(node, "beacon") == lines, 10, "every line is counted")
        assert runs(node) >= 4
        assert "counter_visits_refused_total" not in metrics(node.url)
        reading = fetch(node.url, "/cluster")["log"]
        assert (reading["junk"], reading["refused"], reading["waits"]) == (0, 0, "")
        node.kill()
        node.start()
        node.wait_ready()
        assert counted(node.url, videos) == dict.fromkeys(videos, 5_000 * 10**12)


def test_a_log_whose_node_is_joining_waits_and_says_so(tmp_path: Path) -> None:
    log = tmp_path / "visits.log"
    nobody = {"PEERS": "http://127.0.0.1:9", "JOIN_TIMEOUT": "600", "DRAIN_TIME": "0"}
    with Node(tmp_path / "node", "counter1", settings={**nobody, "VISIT_LOG": str(log)}) as node:
        log.write_text("".join(line("cats", number) for number in range(100)))
        until(lambda: fetch(node.url, "/cluster")["log"]["waits"], 10, "it says why")
        shown = fetch(node.url, "/cluster")
        assert shown["log"]["waits"] == "this node does not hold all that its peers hold"
        assert shown["log"]["junk"] == shown["log"]["refused"] == 0
        assert any("bytes of the visit log wait" in each for each in shown["warnings"])
        node.kill()
        node.settings["PEERS"] = ""
        node.start()
        node.wait_ready()
        until(lambda: visits(node, "cats") == 100, 10, "nothing was dropped")
        assert fetch(node.url, "/cluster")["log"]["waits"] == ""


def run(file: Path, node: Node, *arguments: str, **environ: str) -> tuple[int, str]:
    asked = ["import", str(file), "--url", node.url, *arguments]
    done = CliRunner().invoke(imports.visits, asked, env=environ)
    return done.exit_code, done.output


def test_an_import_without_a_token_keeps_to_the_limits(node: Node, tmp_path: Path) -> None:
    file = tmp_path / "visits.csv"
    file.write_text("untold,250001\nuntold-2,1001\nuntold-3,1\n")
    status, output = run(file, node)
    assert (status, "251003 visits counted" in output) == (0, True), output
    status, output = run(file, node)
    assert (status, "251003 counted before" in output) == (0, True), output
    assert visits(node, "untold") == 250_001


def test_an_import_of_very_many_visits_needs_a_token_before_it_counts_any(
    node: Node, tmp_path: Path
) -> None:
    file = tmp_path / "visits.csv"
    file.write_text(f"told,{3 * 10**12}\ntold-2,7\n")
    status, output = run(file, node)
    assert status == 1
    assert "visits would take 30000001 requests without a token" in output
    assert "Go on with --from 0 and --token" in output
    assert counted(node.url, ["told", "told-2"]) == {"told": 0, "told-2": 0}
    assert run(file, node, "--token", "wrong-token")[0] == 1
    (tmp_path / "token").write_text(f"import:{WRITE_TOKEN}\n")
    for told, arguments, environ in (
        ("3000000000007 visits counted", ["--token", WRITE_TOKEN], {}),
        ("3000000000007 counted before", [], {"WRITE_TOKEN": f"import:{WRITE_TOKEN},x:other-one"}),
        ("3000000000007 counted before", [], {"WRITE_TOKEN_FILE": str(tmp_path / "token")}),
    ):
        status, output = run(file, node, *arguments, **environ)
        assert (status, told in output) == (0, True), output
    assert visits(node, "told") == 3 * 10**12


def test_a_bulk_fill_counts_exactly(node: Node) -> None:
    """What other tests rely on."""
    fill(node.url, {"filled": MOST, "filled-2": 1})
    assert counted(node.url, ["filled", "filled-2"]) == {"filled": MOST, "filled-2": 1}
