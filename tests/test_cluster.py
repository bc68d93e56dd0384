"""Whole clusters of real processes, under traffic and under faults."""

import http.client
import resource
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from counter.store.sqlite import SqliteStore
from lab.clients import (
    Books,
    Client,
    Posters,
    Posts,
    Traffic,
    Watcher,
    agree,
    counted,
    fetch,
    post,
    until,
)
from lab.cluster import Cluster, complaints
from lab.servers import Nginx, Node, RabbitMQ, Redis

VIDEOS = [f"video-{number}" for number in range(50)]
MESH, BROKER = "mesh and SQLite", "RabbitMQ and Redis"


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A broker of this module's own, which its tests may kill if they start it again."""
    with RabbitMQ(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server


@pytest.fixture
def make_cluster(
    tmp_path: Path, request: pytest.FixtureRequest, stack: ExitStack
) -> Callable[..., Cluster]:
    """Makes a cluster of a kind. On a mesh one address is enough: the first node's."""

    def make(kind: str, **settings: str) -> Cluster:
        broker = request.getfixturevalue("rabbitmq") if kind == BROKER else None
        stores = ["redis" if broker else "sqlite"] * 3
        settings = {"DRAIN_TIME": "0.3"} | settings
        return Cluster(tmp_path, stack, stores, broker=broker, known=1, settings=settings)

    return make


@pytest.fixture(params=[MESH, pytest.param(BROKER, marks=pytest.mark.proof)])
def cluster(request: pytest.FixtureRequest, make_cluster: Callable[..., Cluster]) -> Cluster:
    return make_cluster(request.param)


@pytest.mark.alone
def test_3000_visits_are_exact_on_every_node_within_two_seconds(cluster: Cluster) -> None:
    books = Books()
    with Traffic(cluster.urls, books, visits=3000) as traffic:
        traffic.join()
    agree(cluster.urls, books, 5)
    assert time.monotonic() - books.last_answer < 2.0
    assert sum(books.acknowledged.values()) == 3000
    assert complaints(cluster.nodes) == []


def test_a_killed_node_loses_nothing_and_no_number_falls(cluster: Cluster) -> None:
    books, victim = Books(), cluster.nodes[1]
    with Watcher(cluster.urls, VIDEOS) as watcher:
        with Traffic(cluster.urls, books, pause=0.03) as traffic:
            traffic.more(500)
            victim.kill()
            victim.start()
            victim.wait_ready()
            traffic.more(500)
            traffic.stop()
        agree(cluster.urls, books, 5)
    assert watcher.falls == []
    assert watcher.reads > 50
    assert complaints(cluster.nodes) == []


@pytest.mark.parametrize("seconds", [4, pytest.param(20, marks=pytest.mark.proof)])
def test_the_broker_may_be_gone(make_cluster: Callable[..., Cluster], seconds: int) -> None:
    cluster = make_cluster(BROKER)
    assert cluster.broker is not None
    books = Books()

    def connected(node: Node) -> bool:
        return bool(fetch(node.url, "/cluster")["transport"]["up"])

    with Traffic(cluster.urls, books, visitors=4, pause=0.03) as traffic:
        traffic.more(100)
        cluster.broker.kill()
        gone = time.monotonic()
        until(lambda: not any(map(connected, cluster.nodes)), 10, "the broker is missed")
        before = sum(books.acknowledged.values())
        until(lambda: time.monotonic() - gone > seconds, 30, "some time without a broker")
        assert sum(books.acknowledged.values()) > before + 10 * seconds, "visits go on"
        assert set(books.statuses) == {200}
        traffic.stop()
    # The nodes differ by now; the last of them to reach the broker starts the clock.
    shown = [counted(url, VIDEOS) for url in cluster.urls]
    assert shown[0] != shown[1] != shown[2]
    cluster.broker.start()
    until(lambda: all(map(connected, cluster.nodes)), 10, "the broker is found again")
    agree(cluster.urls, books, 2)
    assert complaints(cluster.nodes) == []


@pytest.mark.parametrize(
    "returns",
    [
        pytest.param("as it was", marks=pytest.mark.proof),
        pytest.param("empty", marks=pytest.mark.proof),
        "as it was before",
    ],
)
def test_redis_may_go_and_return_with_less(
    make_cluster: Callable[..., Cluster], stack: ExitStack, returns: str
) -> None:
    cluster = make_cluster(BROKER)
    redis = cluster.redis
    assert redis is not None
    books = Books()
    with Traffic(cluster.urls, books, visits=400) as traffic:
        traffic.join()
    older = redis.folder / "older"
    shutil.copytree(redis.folder / "appendonlydir", older)
    with Traffic(cluster.urls, books, visits=400, seed=2) as traffic:
        traffic.join()
    agree(cluster.urls, books, 5)

    redis.kill()
    clients = [stack.enter_context(Client(url)) for url in cluster.urls]

    def refused(client: Client) -> bool:
        status, _ = client.get("/video/probe")
        books.note("probe", status)
        return status == 503

    for client in clients:
        until(partial(refused, client), 10, "visits are refused")
    sure = counted(cluster.urls[0], ["probe"])["probe"] + sum(books.unknown.values())
    for client in clients:
        for _ in range(20):
            assert refused(client), "once the failure is known, nothing is counted"
    status, body = http_get(cluster.urls[0], "/video/probe")
    assert (status, body.getheader("Retry-After")) == (503, "1")

    if returns != "as it was":
        shutil.rmtree(redis.folder / "appendonlydir")
    if returns == "as it was before":
        shutil.copytree(older, redis.folder / "appendonlydir")
    redis.start()
    for url in cluster.urls:
        until(partial(healed, url, returns), 10, "the store is written again")
    with Traffic(cluster.urls, books, visits=200, seed=3) as traffic:
        traffic.join()
    agree(cluster.urls, books, 5)
    assert counted(cluster.urls[0], ["probe"])["probe"] <= sure

    # What the memories hold is in Redis again, or it would be gone now.
    for node in cluster.nodes:
        node.kill()
    for node in cluster.nodes:
        node.launch()
    for node in cluster.nodes:
        node.wait_ready()
    agree(cluster.urls, books, 5)
    assert complaints(cluster.nodes) == []


def healed(url: str, returns: str) -> bool:
    """The store is up, was rewritten if it had lost something, and nothing waits for it."""
    with Client(url) as client:
        store = client.json("/cluster")["store"]
        metrics = client.get("/metrics")[1].decode()
    heals = next(
        float(line.split()[1])
        for line in metrics.splitlines()
        if line.startswith("counter_store_heals_total")
    )
    return bool(store["up"]) and not store["unflushed"] and heals >= (returns != "as it was")


def http_get(url: str, path: str) -> tuple[int, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        return response.status, response
    finally:
        connection.close()


@pytest.mark.parametrize(
    "lost", ["an older copy", pytest.param("nothing", marks=pytest.mark.proof)]
)
def test_a_store_may_come_back_older_or_not_at_all(
    make_cluster: Callable[..., Cluster], lost: str
) -> None:
    cluster = make_cluster(MESH)
    victim, books = cluster.nodes[1], Books()
    with Traffic(cluster.urls, books, visits=300) as traffic:
        traffic.join()
    agree(cluster.urls, books, 5)
    assert victim.stop() == 0
    copy = cluster.folder / "copy"
    shutil.copytree(victim.folder, copy)
    victim.start()
    victim.wait_ready()
    with Traffic(cluster.urls, books, visits=300, seed=2) as traffic:
        traffic.join()
    agree(cluster.urls, books, 5)
    with Watcher(cluster.urls, VIDEOS) as watcher:
        victim.kill()
        shutil.rmtree(victim.folder)
        if lost == "an older copy":
            shutil.copytree(copy, victim.folder)
        victim.start()
        # From the first: max-merge would swallow these under an id that was used before.
        with Client(victim.url) as client:
            for number in range(30):
                status, _ = client.get(f"/video/{VIDEOS[number]}")
                books.note(VIDEOS[number], status)
                assert status == 200
        agree(cluster.urls, books, 5)
    assert watcher.falls == []
    assert complaints(cluster.nodes) == []


def test_two_nodes_of_one_name_are_exact_and_warned_of(
    make_cluster: Callable[..., Cluster],
) -> None:
    cluster = make_cluster(MESH)
    books, first = Books(), cluster.nodes[0]
    twin = Node(cluster.folder / "twin", first.name, None, {"PEERS": first.url, "DRAIN_TIME": "0"})
    with twin:
        twin.wait_ready()
        urls = [*cluster.urls, twin.url]
        with Traffic(urls, books, visits=600) as traffic:
            traffic.join()
        agree(urls, books, 5)
        until(lambda: fetch(urls[2], "/cluster")["warnings"], 5, "the warning")
        (warning,) = fetch(urls[2], "/cluster")["warnings"]
        assert "'counter1'" in warning
        assert "copies" not in warning


@pytest.mark.proof
def test_a_copy_of_a_store_beside_the_original_is_exact(
    make_cluster: Callable[..., Cluster],
) -> None:
    cluster = make_cluster(MESH)
    books, first = Books(), cluster.nodes[0]
    with Traffic(cluster.urls, books, visits=300) as traffic:
        traffic.join()
    agree(cluster.urls, books, 5)
    assert first.stop() == 0
    shutil.copytree(first.folder, cluster.folder / "copy")
    first.start()
    settings = {"PEERS": cluster.urls[1], "DRAIN_TIME": "0"}
    with Node(cluster.folder / "copy", first.name, None, settings) as copy:
        copy.wait_ready()
        first.wait_ready()
        urls = [*cluster.urls, copy.url]
        with Traffic(urls, books, visits=300, seed=2) as traffic:
            traffic.join()
        agree(urls, books, 5)
        until(lambda: "copies" in str(fetch(urls[1], "/cluster")["warnings"]), 5, "the warning")


def test_a_restarted_node_is_not_taken_for_two(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(MESH)
    for life in range(2):
        cluster.nodes[0].kill()
        if life:
            shutil.rmtree(cluster.nodes[0].folder)
        cluster.nodes[0].start()
        cluster.nodes[0].wait_ready()
        start = time.monotonic()
        while time.monotonic() < start + 4:  # the former life counts as live for three seconds
            for url in cluster.urls:
                assert fetch(url, "/cluster")["warnings"] == []


@pytest.mark.parametrize("cluster", [MESH, BROKER], indirect=True)
def test_a_stopping_node_hands_on_what_it_has(cluster: Cluster) -> None:
    books, victim = Books(), cluster.nodes[2]
    with Traffic([victim.url], books, visits=500) as traffic:
        traffic.join()
    assert victim.stop() == 0
    # Nobody waits for it to come back: the others hold its last visit when it is gone.
    agree(cluster.urls[:2], books, 0.5)
    victim.start()
    victim.wait_ready()
    agree(cluster.urls, books, 5)
    assert complaints(cluster.nodes) == []


def test_visits_in_memory_survive_a_clean_stop(tmp_path: Path) -> None:
    node = Node(tmp_path, "counter1", None, {"ACK": "memory", "DRAIN_TIME": "0"})
    books = Books()
    with node:
        with Traffic([node.url], books, visits=500) as traffic:
            traffic.join()
        assert node.stop() == 0
        node.start()
        node.wait_ready()
        agree([node.url], books, 2)
        assert sum(books.acknowledged.values()) == 500


def test_visits_are_taken_in_memory_while_redis_is_away(tmp_path: Path, stack: ExitStack) -> None:
    with Redis(tmp_path / "redis") as redis:
        settings = {"ACK": "memory", "REDIS_URI": redis.uri, "DRAIN_TIME": "0"}
        with Node(tmp_path / "node", "counter1", None, settings) as node:
            node.wait_ready()
            redis.kill()
            client, books = stack.enter_context(Client(node.url)), Books()
            for _ in range(50):
                books.note("cats", client.get("/video/cats")[0])
            assert books.statuses == {200: 50}
            until(lambda: not client.json("/cluster")["store"]["up"], 5, "the failure is seen")
            books.note("cats", client.get("/video/cats")[0])
            assert client.json("/count/cats")["visits"] == 0, "shown once they are stored"
            assert client.json("/cluster")["store"]["unflushed"] == 51
            redis.start()
            agree([node.url], books, 5)


def test_a_node_starts_and_refuses_visits_while_redis_is_away(
    tmp_path: Path, stack: ExitStack
) -> None:
    redis = Redis(tmp_path / "redis")
    settings = {"REDIS_URI": redis.uri, "DRAIN_TIME": "0"}
    with Node(tmp_path / "node", "counter1", None, settings) as node:
        client, books = stack.enter_context(Client(node.url)), Books()
        books.note("cats", client.get("/video/cats")[0])
        assert client.get("/readyz")[0] == 503
        stack.enter_context(redis)
        node.wait_ready()
        books.note("cats", client.get("/video/cats")[0])
        assert books.statuses == {503: 1, 200: 1}
        agree([node.url], books, 2)


@pytest.mark.parametrize("kind", [MESH, pytest.param(BROKER, marks=pytest.mark.proof)])
def test_a_rolling_restart_through_nginx_fails_no_request(
    tmp_path: Path, make_cluster: Callable[..., Cluster], stack: ExitStack, kind: str
) -> None:
    cluster = make_cluster(kind, DRAIN_TIME="2")
    backends = [f"127.0.0.1:{node.port}" for node in cluster.nodes]
    books, posts = Books(), Posts()
    nginx = stack.enter_context(Nginx(tmp_path / "nginx", backends))
    keyed = Posters([nginx.url], posts, visitors=2, again=0.0, pause=0.05)
    with keyed, Traffic([nginx.url], books, visitors=3, pause=0.02) as traffic:
        for node in cluster.nodes:
            assert node.stop() == 0
            traffic.more(100)
            node.start()
            node.wait_ready()
        traffic.stop()
    assert set(books.statuses) == {200}
    agree(cluster.urls, books, 5)
    assert all(post.acknowledged and post.asked == 1 for post in posts.all)
    # The last of them go out up to a PUBLISH_INTERVAL after the last visit that was agreed upon.
    posted = {post.video: post.visits for post in posts.all}
    for url in cluster.urls:
        until(
            lambda url=url: counted(url, list(posted)) == posted,  # type: ignore[misc]
            5,
            f"{url} shows what was posted, once",
        )
    assert complaints(cluster.nodes) == []


@pytest.mark.proof
def test_a_node_killed_behind_nginx_doubles_nothing(
    tmp_path: Path, cluster: Cluster, stack: ExitStack
) -> None:
    backends = [f"127.0.0.1:{node.port}" for node in cluster.nodes]
    books = Books()
    nginx = stack.enter_context(Nginx(tmp_path / "nginx", backends))
    with Traffic([nginx.url], books, visitors=8, pause=0.03) as traffic:
        for node in cluster.nodes:
            traffic.more(200)
            node.kill()
            node.start()
            node.wait_ready()
        traffic.stop()
    # Acknowledged ≤ counted ≤ tried, and nothing that nginx passed on was counted twice.
    agree(cluster.urls, books, 5)
    assert sum(books.unknown.values()) < 100


def test_a_cut_node_counts_on_alone_and_heals(tmp_path: Path, stack: ExitStack) -> None:
    settings = {"DEV_MODE": "1", "DRAIN_TIME": "0"}
    urls = Cluster(tmp_path, stack, ["sqlite"] * 2, known=1, settings=settings).urls
    books = Books()
    post(urls[1], "/dev/cut")
    with Traffic(urls, books, visits=200) as traffic:
        traffic.join()
    apart = [sum(counted(url, VIDEOS).values()) for url in urls]
    assert all(apart)
    assert sum(apart) == sum(books.acknowledged.values())
    post(urls[1], "/dev/heal")
    agree(urls, books, 5)


def shows(client: Client, video: str, visits: int) -> bool:
    return bool(client.json(f"/count/{video}")["visits"] == visits)


@pytest.mark.alone
def test_background_work_does_not_starve_under_busy_connections(cluster: Cluster) -> None:
    """Under gevent a busy connection yields to nobody unless each request does so once."""
    books, waits = Books(), []
    with (
        Traffic(cluster.urls[:1], books, visitors=32) as traffic,
        Client(cluster.urls[0]) as writer,
        Client(cluster.urls[1]) as reader,
    ):
        for number in range(20):
            writer.get(f"/video/probe-{number}")
            arrived = partial(shows, reader, f"probe-{number}", 1)
            waits.append(until(arrived, 5, "the delta"))
        traffic.stop()
    assert sorted(waits)[len(waits) // 2] < 0.5


def test_a_node_is_not_ready_before_it_has_loaded_its_own_store(tmp_path: Path) -> None:
    videos = {f"video-{number}": 1 for number in range(100_000)}
    store = SqliteStore(tmp_path / "first")
    opened = store.open("this test", lambda: "0" * 13)
    store.begin(f"first~{opened.store}.{'0' * 23}", {})
    store.write({f"first~{opened.store}.{'0' * 23}": videos})
    store.close()
    # It hears a peer that has nothing from the first moment on.
    with Node(tmp_path / "second", "second", None, {"DRAIN_TIME": "0"}) as second:
        second.wait_ready()
        settings = {"PEERS": second.url, "DRAIN_TIME": "0", "SYNC_INTERVAL": "0.05"}
        with (
            Node(tmp_path / "first", "first", None, settings) as first,
            Client(first.url) as client,
        ):
            ready = partial(client.get, "/readyz")
            until(lambda: ready()[0] == 200, 30, "ready")
            assert sum(counted(first.url, list(videos)[-500:]).values()) == 500
            until(lambda: sum(counted(second.url, list(videos)[-500:]).values()) == 500, 20, "all")


@pytest.mark.alone
@pytest.mark.parametrize(("path", "ack"), [("/count/a", "stored"), ("/video/a", "memory")])
def test_one_busy_connection_does_not_keep_others_waiting(
    tmp_path: Path, stack: ExitStack, path: str, ack: str
) -> None:
    """Requests that wait in a buffer are answered in a row, and gevent switches at none."""
    node = stack.enter_context(Node(tmp_path, "counter1", None, {"ACK": ack, "DRAIN_TIME": "0"}))
    node.wait_ready()
    busy = stack.enter_context(socket.create_connection(("127.0.0.1", node.port), 10))
    other = stack.enter_context(Client(node.url))
    requests = 4000
    busy.sendall(f"GET {path} HTTP/1.1\r\nHost: node\r\n\r\n".encode() * requests)
    answers = busy.makefile("rb")
    stack.callback(answers.close)
    assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
    start = time.monotonic()
    assert other.get("/healthz")[0] == 200
    waited = time.monotonic() - start
    received = 1
    while received < requests:
        received += answers.readline() == b"HTTP/1.1 200 OK\r\n"
    assert waited < 0.25 * (time.monotonic() - start), "answered long before the burst was over"


def test_a_full_disk_where_the_log_lies_too_is_survived(tmp_path: Path, stack: ExitStack) -> None:
    """No file of the node can grow: what SQLite sees of a full disk, and the log as well."""
    settings = {"DRAIN_TIME": "0"}
    full = stack.enter_context(Node(tmp_path / "full", "counter1", None, settings))
    settings |= {"PEERS": full.url}
    other = stack.enter_context(Node(tmp_path / "other", "counter2", None, settings))
    for node in (full, other):
        node.wait_ready()
    urls, books = [full.url, other.url], Books()
    for _ in range(2):
        with Traffic(urls, books, visitors=4, pause=0.005) as traffic:
            traffic.more(50)
            limits = [
                (pid, resource.prlimit(pid, resource.RLIMIT_FSIZE)) for pid in full.processes()
            ]
            for pid, (_, hard) in limits:
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
            until(lambda: not fetch(full.url, "/cluster")["store"]["up"], 10, "it is noticed")
            traffic.more(50)
            for pid, limit in limits:
                resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)
            until(lambda: fetch(full.url, "/cluster")["store"]["up"], 10, "it goes on")
            traffic.stop()
        agree(urls, books, 5)
    assert books.refused.total() > 0
