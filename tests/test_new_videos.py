"""Endless new ids are limited, and with VIDEOS=known only announced ids count."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counter.crdt.tally import Tally
from counter.node.buckets import Buckets
from counter.node.counting import Counting
from counter.node.new_videos import NewVideos, TooManyNewError, UnannouncedError
from counter.node.stage import Stage
from counter.node.warn import Warn
from counter.protocol.catalogue import Catalogue
from counter.protocol.pending import Pending
from counter.store.memory import MemoryStore
from lab.clients import Client, counted, fetch, until
from lab.previous import unpack
from lab.servers import Nginx, Node, free_port
from tests.kept import Kept, running
from tests.test_http import Answer, ask, get, samples
from tests.test_visit_log import line, shows

SECRET = "a-secret-of-a-writer"
TOKEN = {"Authorization": f"Bearer {SECRET}"}
JSON = {"Content-Type": "application/json"}
LINES = {"Content-Type": "application/x-ndjson"}
SETTINGS = {"DRAIN_TIME": "0", "WRITE_TOKEN": f"import:{SECRET}"}
RATE = 1
"""New ids a second: 60 in a minute, and 6 from one address."""
OF_ADDRESS = RATE * 60 // 10
SOME_MORE = OF_ADDRESS + 20
"""More than an address may bring in, however slow the machine is."""


def start(folder: Path, stack: ExitStack, count: int, **settings: str) -> list[Node]:
    """Nodes of a mesh, each with a visit log."""
    ports = [free_port() for _ in range(count)]
    settings = SETTINGS | {"PEERS": ",".join(f"http://127.0.0.1:{p}" for p in ports)} | settings
    nodes = []
    for number, port in enumerate(ports, 1):
        own = {"VISIT_LOG": str(folder / f"counter{number}.log")}
        node = Node(folder / f"counter{number}", f"counter{number}", port, settings | own)
        nodes.append(node)
        stack.callback(node.kill)
        node.launch()
    for node in nodes:
        node.wait_ready()
    return nodes


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    """Two nodes that take few new ids."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("limited")
        yield start(folder, stack, 2, NEW_VIDEOS=str(RATE))


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    """Two nodes at which only announced ids count; `cats` and `dogs` are."""
    with ExitStack() as stack:
        nodes = start(tmp_path_factory.mktemp("strict"), stack, 2, VIDEOS="known")
        for node in nodes:
            assert get(node, "/hit/cats").status == 404
            shown = fetch(node.url, "/cluster")
            assert shown["videos"]["announced"] == 0
            assert any("no id is announced" in text for text in shown["warnings"])
        assert announce(nodes[0], ["cats", "dogs", "cats"]).json() == {"videos": 3, "new": 2}
        until(lambda: announced(nodes[1]) == 2, 10, "the other has heard of both")
        for node in nodes:
            assert not any("no id is" in text for text in fetch(node.url, "/cluster")["warnings"])
        yield nodes


def announced(node: Node) -> int:
    return int(fetch(node.url, "/cluster")["videos"]["announced"])


def announce(node: Node, videos: object, **more: str) -> Answer:
    return ask(node, "POST", "/videos", TOKEN | JSON | more, json.dumps(videos).encode())


def of(address: str) -> dict[str, str]:
    """What the balancer says of a client."""
    return {"X-Forwarded-For": address}


def post(node: Node, videos: list[str], address: str, **more: str) -> Answer:
    body = json.dumps([{"video": video} for video in videos]).encode()
    return ask(node, "POST", "/visits", JSON | of(address) | more, body)


def flood(node: Node, address: str, name: str, most: int = SOME_MORE) -> list[str]:
    """Send beacons for new ids until one is refused; return those that were counted."""
    taken = []
    with Client(node.url) as client:
        for number in range(most):
            status, _ = client.get(f"/hit/{name}-{number}", of(address))
            if status != 204:
                assert status == 429
                break
            taken.append(f"{name}-{number}")
    return taken


# -- NEW_VIDEOS


def test_endless_new_ids_of_one_address_are_refused_and_nothing_else(limited: list[Node]) -> None:
    """555,700 random ids in 8 s became as many videos on every node, for ever."""
    node, other = limited
    before = samples(node)
    taken = flood(node, "10.1.0.1", "flood")
    assert OF_ADDRESS <= len(taken) < SOME_MORE
    refused = get(node, "/hit/one-more", **of("10.1.0.1"))
    problem = refused.problem()
    assert (refused.status, problem["video"]) == (429, "one-more")
    assert "NEW_VIDEOS" in problem["detail"]
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    page = get(node, "/video/one-more", Accept="text/html", **of("10.1.0.1"))
    assert page.status == 429
    assert b"one-more" in page.body
    # Everything else goes on: known ids for this address, new ones for others and with a token.
    assert get(node, f"/video/{taken[0]}", **of("10.1.0.1")).json()["visits"] == 2
    assert get(node, "/video/of-another", **of("10.1.0.2")).json()["visits"] == 1
    assert get(node, "/video/with-token", **of("10.1.0.1"), **TOKEN).json()["visits"] == 1
    after = samples(node)
    assert after["counter_videos"] - before["counter_videos"] == len(taken) + 2
    assert after["counter_new_videos_refused_total{reason=address}"] >= 3
    shown = fetch(node.url, "/cluster")
    assert shown["videos"]["refused"] >= 3
    warning = next(text for text in shown["warnings"] if "NEW_VIDEOS=1" in text)
    assert "announce" in warning
    assert "videos.refused" in node.log.read_text()
    until(lambda: counted(other.url, taken[1:]) == dict.fromkeys(taken[1:], 1), 10, "told")
    # What a peer has told is known, and never was limited.
    assert flood(other, "10.1.0.3", "there", OF_ADDRESS) == [f"there-{n}" for n in range(6)]
    assert get(other, f"/hit/{taken[-1]}", **of("10.1.0.3")).status == 204


def test_a_batch_with_too_many_new_ids_counts_nothing(limited: list[Node]) -> None:
    node = limited[0]
    assert get(node, "/hit/seen-before", **TOKEN).status == 204
    videos = [f"batch-{number}" for number in range(OF_ADDRESS + 1)]
    refused = post(node, [*videos, "seen-before"], "10.2.0.1")
    assert refused.status == 429, refused
    assert "fewer at once" in refused.problem()["detail"]
    assert counted(node.url, videos) == dict.fromkeys(videos, 0)
    assert post(node, [*videos[1:], "seen-before"], "10.2.0.1").status == 200
    assert counted(node.url, ["seen-before"]) == {"seen-before": 2}
    assert post(node, videos, "10.2.0.1", **TOKEN).status == 200
    assert counted(node.url, videos[:2]) == {videos[0]: 1, videos[1]: 2}


def test_a_refused_batch_leaves_its_key_free(limited: list[Node]) -> None:
    node = limited[0]
    videos = [f"keyed-{number}" for number in range(OF_ADDRESS + 1)]
    key = {"Idempotency-Key": "of-a-refused-batch"}
    assert post(node, videos, "10.3.0.1", **key).status == 429
    assert announce(node, videos).status == 200
    first, again = (post(node, videos, "10.3.0.1", **key) for _ in range(2))
    assert (first.status, again.status) == (200, 200)
    assert again.json()["repeated"]
    assert counted(node.url, videos) == dict.fromkeys(videos, 1)


def test_an_announced_id_is_not_new_and_not_shown(limited: list[Node]) -> None:
    node, other = limited
    videos = [f"announced-{number}" for number in range(100)]
    until(
        lambda: samples(node)["counter_videos"] == samples(other)["counter_videos"],
        10,
        "both know the videos of other tests",
    )
    before = samples(node)["counter_videos"]
    visits = {each["member"]: each["visits"] for each in fetch(node.url, "/cluster")["members"]}
    assert announce(node, videos).json() == {"videos": 100, "new": 100}
    assert announce(node, videos).json() == {"videos": 100, "new": 0}
    assert samples(node)["counter_videos"] == before
    now = {each["member"]: each["visits"] for each in fetch(node.url, "/cluster")["members"]}
    assert now == visits
    flood(node, "10.4.0.1", "others")
    for video in videos:
        assert get(node, f"/hit/{video}", **of("10.4.0.1")).status == 204
    assert counted(node.url, videos) == dict.fromkeys(videos, 1)
    top = {each["video"] for each in fetch(node.url, "/top?limit=1000")["counters"]}
    assert set(videos) <= top
    assert not any("/" in video for video in top)
    until(lambda: announced(other) >= 100, 10, "the other has heard")
    flood(other, "10.4.0.1", "others-there")
    assert get(other, f"/hit/{videos[0]}", **of("10.4.0.1")).status == 204


def test_beacons_that_nginx_has_answered_are_always_counted(limited: list[Node]) -> None:
    node = limited[0]
    videos = [f"logged-{number}" for number in range(1000)]
    lines = "".join(line(video, number) for number, video in enumerate(videos))
    Path(node.settings["VISIT_LOG"]).write_text(lines)
    until(lambda: counted(node.url, videos) == dict.fromkeys(videos, 1), 10, "all are counted")


def test_behind_nginx_only_beacons_are_not_limited(tmp_path: Path, stack: ExitStack) -> None:
    port = free_port()
    nginx = Nginx(tmp_path / "nginx", [f"127.0.0.1:{port}"])
    log = {"VISIT_LOG": str(nginx.visit_log(1)), "NEW_VIDEOS": "1"}
    node = stack.enter_context(Node(tmp_path / "node", "counter1", port, SETTINGS | log))
    node.wait_ready()
    balancer = Node(tmp_path, "nginx", stack.enter_context(nginx).port)
    catalogue = [f"a-video-of-the-catalogue-{number}" for number in range(5000)]
    assert announce(balancer, catalogue).json()["new"] == 5000
    beacons = [f"beacon-{number}" for number in range(20)]
    with Client(nginx.url) as client:
        refused = [client.get(f"/video/{beacon}")[0] for beacon in beacons]
        assert refused.count(200) < 10
        assert set(refused) == {200, 429}
        assert client.get(f"/video/{catalogue[7]}")[0] == 200
        assert {client.get(f"/hit/{beacon}")[0] for beacon in beacons} == {204}
    expected = {b: 1 + (s == 200) for b, s in zip(beacons, refused, strict=True)}
    until(lambda: counted(node.url, beacons) == expected, 10, "all beacons are counted")


def counting_of(one: Kept, rate: int, kind: str = "open") -> Counting:
    stage = Stage()
    stage.started = True
    return Counting(
        one.flusher, one.lock, one.metrics, stage, NewVideos(rate, one.metrics, Warn(), kind),
        durable=True, is_complete=lambda replica, now: True, publish=lambda: None,
    )  # fmt: skip


def test_nothing_is_limited_while_a_node_joins() -> None:
    with running(Kept(MemoryStore(), has_peers=True)) as one:
        one.join()
        counting = counting_of(one, 1)
        for number in range(100):
            counting.visit(f"video-{number}")
        assert one.replica.state == "joining"


def test_a_new_id_that_is_pending_is_not_new_again() -> None:
    with running(Kept(MemoryStore())) as one:
        one.join()
        counting = counting_of(one, 1)
        for number in range(6):
            counting.visit(f"video-{number}")
            with one.lock:
                one.replica.visit(f"pending-{number}")
            counting.visit(f"pending-{number}")
        with pytest.raises(TooManyNewError):
            counting.count_many(dict.fromkeys(["new-1", "new-2"], 1))


# -- VIDEOS=known


def test_only_announced_ids_count(strict: list[Node]) -> None:
    for node in strict:
        refused = get(node, "/video/birds")
        assert (refused.status, refused.problem()["video"]) == (404, "birds")
        assert "VIDEOS=known" in refused.problem()["detail"]
        assert get(node, "/hit/birds", **TOKEN).status == 404
        assert post(node, ["cats", "birds"], "10.0.0.1").status == 404
        assert get(node, "/count/birds").json()["visits"] == 0
        assert get(node, "/video/cats").json()["visits"] >= 1
        assert any("not announced" in text for text in fetch(node.url, "/cluster")["warnings"])
        seen = samples(node)
        assert seen["counter_new_videos_refused_total{reason=unannounced}"] >= 4
        assert seen["counter_videos"] <= 2
    until(lambda: counted(strict[0].url, ["cats"]) == {"cats": 2}, 10, "both have counted")


def test_a_log_counts_only_announced_ids_where_no_others_do(strict: list[Node]) -> None:
    node = strict[0]
    videos = [("dogs", "birds", "fish")[number % 3] for number in range(300)]
    lines = "".join(line(video, number) for number, video in enumerate(videos))
    Path(node.settings["VISIT_LOG"]).write_text(lines)
    until(lambda: counted(node.url, ["dogs"])["dogs"] == 100, 10, "the others are counted")
    until(lambda: fetch(node.url, "/cluster")["log"]["unread"] == 0, 10, "all is read")
    assert counted(node.url, ["birds", "fish"]) == {"birds": 0, "fish": 0}
    log = fetch(node.url, "/cluster")["log"]
    assert (log["lines"], log["junk"], log["refused"], log["waiting"]) == (100, 0, 0, 200)
    assert "log.unannounced" in node.log.read_text()


def test_beacons_wait_for_an_announcement_that_the_follower_has_not_heard_yet(
    tmp_path: Path, stack: ExitStack
) -> None:
    """22 of 60 beacons, all answered 204, were lost where the node was cut off from the others."""
    ports = [free_port() for _ in range(3)]
    nginx = Nginx(tmp_path / "nginx", [f"127.0.0.1:{port}" for port in ports])
    settings = SETTINGS | {"VIDEOS": "known", "DEV_MODE": "1"}
    settings["PEERS"] = ",".join(f"http://127.0.0.1:{port}" for port in ports)
    nodes = [
        Node(
            tmp_path / f"counter{number}", f"counter{number}", port,
            settings | {"VISIT_LOG": str(nginx.visit_log(number))},
        )
        for number, port in enumerate(ports, 1)
    ]  # fmt: skip
    for node in nodes:
        stack.enter_context(node)
    for node in nodes:
        node.wait_ready()
    stack.enter_context(nginx)
    first, second, _ = nodes
    assert announce(first, ["other"]).json()["new"] == 1
    until(lambda: all(announced(node) == 1 for node in nodes), 10, "all have heard")
    for killed, video in enumerate(["premiere", "sequel"]):
        assert ask(second, "POST", "/dev/cut").status == 204
        assert announce(first, [video]).json()["new"] == 1
        with Client(nginx.url) as client:
            for name in [video] * 60 + ["other"] * 60:
                assert client.get(f"/hit/{name}")[0] == 204
        until(partial(has_lines, nginx, 120 * (1 + killed)), 10, "nginx has written all")
        until(lambda: all_read(nodes), 10, "all is read")
        # What waits holds up no other line.
        log = fetch(second.url, "/cluster")["log"]
        here = nginx.visit_log(2).read_text()
        assert log["waiting"] == here.count(f" {video}\n") > 0
        assert log["lines"] == here.count(" other\n") + here.count(" premiere\n") * killed
        if killed:
            second.kill()
            second.start()
            second.wait_ready()
        else:
            assert ask(second, "POST", "/dev/heal").status == 204
        expected = {video: 60, "other": 60 * (1 + killed)}
        for node in nodes:
            shows(node.url, Counter(expected))
        assert fetch(second.url, "/cluster")["log"]["waiting"] == 0
        for node in nodes:
            assert samples(node)["counter_log_refused_lines_total"] == 0


def has_lines(nginx: Nginx, lines: int) -> bool:
    return sum(path.read_text().count("\n") for path in nginx.logs.iterdir()) == lines


def all_read(nodes: list[Node]) -> bool:
    return all(fetch(node.url, "/cluster")["log"]["unread"] == 0 for node in nodes)


def test_an_announcement_outlives_a_kill_as_soon_as_it_is_answered(strict: list[Node]) -> None:
    node = strict[1]
    assert announce(node, ["kept"]).json()["new"] == 1
    node.kill()
    node.start()
    node.wait_ready()
    assert get(node, "/hit/kept").status == 204
    assert get(node, "/hit/cats").status == 204


def test_an_announcement_comes_as_lines_too(strict: list[Node]) -> None:
    answer = ask(strict[0], "POST", "/videos", TOKEN | LINES, b'"line-1"\n"line-2"\r\n\n"line-1"')
    assert answer.json() == {"videos": 3, "new": 2}
    assert get(strict[0], "/hit/line-2").status == 204


def test_without_a_token_nobody_announces(strict: list[Node]) -> None:
    body = b'["forged"]'
    assert ask(strict[0], "POST", "/videos", JSON, body).status == 401
    wrong = {"Authorization": "Bearer another-secret"}
    assert ask(strict[0], "POST", "/videos", JSON | wrong, body).status == 401
    foreign = TOKEN | {"Sec-Fetch-Site": "cross-site"}
    assert ask(strict[0], "POST", "/videos", JSON | foreign, body).status == 403
    assert get(strict[0], "/hit/forged").status == 404


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b'["fine", "not/fine"]', 400, "id 1 (from 0)"),
        (b'["cats/known"]', 400, "id 0"),
        (b'[".."]', 400, "id 0"),
        (b'{"video": "fine"}', 400, "Expected `array`"),
        (b'["fine"', 400, "no id was announced"),
        (b'["\xff"]', 400, "no id was announced"),
        (json.dumps(["fine"] * 10_001).encode(), 413, "10001"),
        (b'["' + b"x" * 1024 * 1024 + b'"]', 413, ""),
    ],
)
def test_what_is_no_list_of_ids_announces_nothing(
    strict: list[Node], body: bytes, status: int, words: str
) -> None:
    answer = ask(strict[0], "POST", "/videos", TOKEN | JSON, body)
    assert answer.status == status, answer
    assert words in answer.problem()["detail"]
    assert get(strict[0], "/hit/fine").status == 404


def test_another_type_of_announcement_is_a_415(strict: list[Node]) -> None:
    answer = ask(strict[0], "POST", "/videos", TOKEN | {"Content-Type": "text/csv"}, b"cats")
    assert answer.status == 415


def test_a_joining_node_counts_what_it_may_not_know() -> None:
    """A 404 would end the visit, and a 503 take the node out of the balancer for all others."""
    with running(Kept(MemoryStore(), has_peers=True)) as one:
        one.join()
        counting = counting_of(one, 100, "known")
        assert counting.announce(["cats", "dogs"]) == 2
        counting.visit("cats")
        counting.visit("birds")
    with running(Kept(MemoryStore())) as one:
        one.join()
        with pytest.raises(UnannouncedError, match="birds"):
            counting_of(one, 100, "known").visit("birds")


def test_the_version_before_passes_announcements_on_and_shows_none(
    tmp_path: Path, stack: ExitStack
) -> None:
    ports = [free_port() for _ in range(3)]
    addresses = [f"http://127.0.0.1:{port}" for port in ports]
    root = unpack(tmp_path / "before")
    strict = SETTINGS | {"VIDEOS": "known", "PEERS": addresses[1]}
    old = Node(
        tmp_path / "old", "old", ports[1],
        {"DRAIN_TIME": "0", "PEERS": ",".join(addresses)}, root=root,
    )  # fmt: skip
    first = Node(tmp_path / "first", "first", ports[0], strict)
    last = Node(tmp_path / "last", "last", ports[2], strict)
    for node in (old, first, last):
        stack.callback(node.kill)
    old.start()
    first.start().wait_ready()
    old.wait_ready()
    assert announce(first, ["cats", "dogs"]).json()["new"] == 2
    assert get(first, "/hit/cats").status == 204
    until(lambda: counted(old.url, ["cats"]) == {"cats": 1}, 10, "the version before has heard")
    assert [each["video"] for each in fetch(old.url, "/top")["counters"]] == ["cats"]
    assert sum(each["visits"] for each in fetch(old.url, "/cluster")["members"]) == 1
    first.kill()
    shutil.rmtree(first.folder)
    old.kill()
    old.start()
    old.wait_ready()
    last.start().wait_ready()
    until(lambda: announced(last) == 2, 10, "it has them of the version before")
    assert get(last, "/hit/dogs").status == 204
    assert "Traceback" not in old.log.read_text()


# -- the rule


def test_what_is_pending_is_known_and_announced() -> None:
    tally = Tally()
    pending = Pending(f"a~{'0' * 13}.{'0' * 23}", tally)
    catalogue = Catalogue(tally, pending)
    assert sorted(catalogue.new(["a", "b"])) == ["a", "b"]
    pending.count_many({"a": 1, "b/known": 1})
    assert catalogue.new(["a", "b", "c"]) == ["c"]
    assert catalogue.unannounced(["a", "b"]) == ["a"]
    counts, _ = pending.take()
    assert catalogue.new(["a", "b"]) == []
    dict(pending.stored(counts))
    assert catalogue.new(["a", "b"]) == []
    assert catalogue.unannounced(["a", "b"]) == ["a"]
    assert (tally.videos(), tally.announced()) == (1, 1)


STEPS = st.tuples(st.sampled_from("abcdefghijkl"), st.integers(1, 8), st.floats(0, 20))


@given(st.lists(STEPS, max_size=200), st.integers(1, 3))
def test_buckets_give_no_more_than_a_minutes_worth_and_the_rate(
    steps: list[tuple[str, int, float]], rate: int
) -> None:
    buckets, now, given_to = Buckets(rate), 0.0, dict.fromkeys("abcdefghijkl", 0)
    for address, many, later in steps:
        now += later
        short = buckets.take(address, many, now)
        if short is None:
            given_to[address] += many
        else:
            assert 0 <= short.retry_after <= 60.001
            if many <= short.most and short.reason == "address":
                retried = Buckets.take(buckets, address, many, now + short.retry_after + 0.001)
                assert retried is None or retried.reason == "all"
                given_to[address] += many * (retried is None)
                now += short.retry_after + 0.001
        assert sum(given_to.values()) <= 60 * rate + rate * now + 0.01
        assert max(given_to.values()) <= 6 * rate + rate / 10 * now + 0.01
