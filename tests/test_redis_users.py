"""What Redis refuses for good, and what it refuses only for now: users, cluster mode, failovers."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from counter.crdt.ids import mint_run, mint_store, replica_of
from counter.store.contract import StoreDownError, StoreRefusedError
from counter.store.redis import RedisStore
from counter.store.redis_errors import COMMANDS
from counter.store.seals import Damage
from lab.clients import fetch, until
from lab.servers import ROOT, Node, Redis, StartError, free_port


def tell(client: "redis.Redis", *words: str | int, **options: bool) -> object:
    """Send a command, and return the answer."""
    return client.execute_command(*words, **options)  # type: ignore[no-untyped-call]


ID = mint_store(7)
RUN = replica_of(f"users~{ID}", mint_run(1, "", 1))


@pytest.fixture
def admin(redis_server: Redis) -> Iterator["redis.Redis"]:
    """Somebody who may do everything."""
    with closing(redis.Redis.from_url(redis_server.uri)) as client:
        yield client
        tell(client, "ACL", "DELUSER", "node")


def allow(admin: "redis.Redis", *rules: str) -> None:
    tell(admin, "ACL", "SETUSER", "node", "reset", "on", ">secret", *rules)


def allowed(*commands: str) -> list[str]:
    return [f"+{command.lower()}" for command in commands]


def uri_of(server: Redis, database: int = 0) -> str:
    return f"redis://node:secret@127.0.0.1:{server.port}/{database}"


def use(uri: str, name: str = "users") -> None:
    """Open a store, write, read, drop, repair: all that a node may ever do."""
    with closing(RedisStore(uri, name)) as store:
        store.open("me", lambda: ID)
        store.begin(RUN, {"sum:a": "1"})
        store.write({RUN: {"cats": 1}}, facts={"sum:b": "2"})
        assert dict(store.load()) == {RUN: {"cats": 1}}
        store.known()
        store.damage.add(Damage(rows={RUN: ["dogs"]}))
        store.mend({RUN: {"cats": 2}}, {RUN + "x": ""})
        store.write({}, drop=[RUN])


def test_a_user_with_the_documented_commands_is_enough(
    redis_server: Redis, admin: "redis.Redis"
) -> None:
    documented = (ROOT / "docs/operating.md").read_text().partition("ACL SETUSER")[2]
    listed = [word for word in documented.partition("```")[0].split() if word.startswith("+")]
    assert sorted(listed) == sorted(allowed(*COMMANDS))
    allow(admin, "~counter:users:*", *listed)
    use(uri_of(redis_server))


def test_a_node_runs_as_that_user(
    redis_server: Redis, admin: "redis.Redis", tmp_path: Path
) -> None:
    allow(admin, "~counter:users:*", *allowed(*COMMANDS, "select"))
    settings = {"REDIS_URI": uri_of(redis_server, 3), "DRAIN_TIME": "0"}
    with Node(tmp_path, "users", settings=settings) as node:
        node.wait_ready()
        assert fetch(node.url, "/video/cats")["visits"] == 1
        # Redis may be told otherwise while it runs: the node waits until that is mended.
        allow(admin, "~counter:users:*", *allowed(*COMMANDS))
        tell(admin, "CLIENT", "KILL", "USER", "node")
        until(lambda: not fetch(node.url, "/cluster")["store"]["up"], 10, "the store is down")
        allow(admin, "~counter:users:*", *allowed(*COMMANDS, "select"))
        until(lambda: fetch(node.url, "/cluster")["store"]["up"], 10, "it is up again")
        assert fetch(node.url, "/video/cats")["visits"] == 2


@pytest.mark.parametrize("lacks", COMMANDS)
def test_each_command_that_a_user_lacks_is_named_at_the_start(
    redis_server: Redis, admin: "redis.Redis", lacks: str
) -> None:
    rest = [command for command in COMMANDS if command != lacks]
    allow(admin, "~counter:users:*", *allowed(*rest))
    with pytest.raises(
        StoreRefusedError, match=rf"^REDIS_URI: Redis at \S+:{redis_server.port} "
    ) as (refused):
        use(uri_of(redis_server))
    assert str(refused.value).endswith(f"ACL SETUSER USER ~counter:users:* +{lacks.lower()}")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("rules", "database", "words"),
    [
        (["~other:*", "+@all"], 0, "~counter:users:*"),
        (["%R~counter:*", "+@all"], 0, "~counter:users:*"),
        (["~*", "+@all", "-select"], 3, "+select"),
        (["~*", "+@all", "-@write"], 0, "+hset"),
        (["~*", "-@all"], 0, "+evalsha"),
    ],
)
def test_what_else_a_user_lacks_is_named_at_the_start(
    redis_server: Redis, admin: "redis.Redis", rules: list[str], database: int, words: str
) -> None:
    allow(admin, *rules)
    with pytest.raises(StoreRefusedError) as refused:
        use(uri_of(redis_server, database))
    assert words in str(refused.value)


def refusal(node: Node) -> str:
    """Start a node that must be refused; return the line that says why."""
    try:
        with pytest.raises(StartError, match="ended with status 2"):
            node.start().wait_until(lambda: False, "was not refused", 20)
    finally:
        node.kill()
    log = node.log.read_text()
    assert "Traceback" not in log
    assert "ERROR" not in log
    [line] = [line for line in log.splitlines() if "CRITICAL" in line]
    return line


def test_a_user_that_lacks_a_command_ends_the_start_with_2_and_one_sentence(
    redis_server: Redis, admin: "redis.Redis", tmp_path: Path
) -> None:
    allow(admin, "~*", "+@all", "-hscan")
    line = refusal(Node(tmp_path, "users", settings={"REDIS_URI": uri_of(redis_server)}))
    assert "does not let this user run HSCAN" in line


def test_a_redis_in_cluster_mode_ends_the_start_with_2_and_one_sentence(tmp_path: Path) -> None:
    options = {"cluster-enabled": "yes", "cluster-port": str(free_port())}
    with (
        Redis(tmp_path / "redis", options=options) as server,
        closing(redis.Redis.from_url(server.uri)) as client,
    ):
        # Without its slots it is down; once it is up it is a cluster all the same.
        refused = pytest.raises(StoreRefusedError, match="cluster mode")
        with closing(RedisStore(server.uri, "users")) as store, refused:
            store.open("me", lambda: ID)
        tell(client, "CLUSTER", "ADDSLOTSRANGE", 0, 8000)
        tell(client, "CONFIG", "SET", "cluster-require-full-coverage", "no")
        until(lambda: is_up(client), 10, "the cluster is up")
        for name in ("users", "a", "b", "c", "d", "e", "f", "g"):
            with pytest.raises((StoreRefusedError, StoreDownError)):
                use(server.uri, name)
        tell(client, "CLUSTER", "ADDSLOTSRANGE", 8001, 16383)
        until(lambda: is_up(client), 10, "the cluster is up")
        line = refusal(Node(tmp_path / "node", "users", settings={"REDIS_URI": server.uri}))
    assert f"Redis at 127.0.0.1:{server.port} is in cluster mode (CROSSSLOT)" in line
    assert "cluster-enabled no" in line


def is_up(client: "redis.Redis") -> bool:
    return "cluster_state:ok" in str(tell(client, "CLUSTER", "INFO", NEVER_DECODE=True))


def test_a_replica_is_waited_for_until_it_is_promoted(redis_server: Redis, tmp_path: Path) -> None:
    options = {"replicaof": f"127.0.0.1 {redis_server.port}"}
    with (
        Redis(tmp_path / "redis", options=options) as server,
        closing(redis.Redis.from_url(server.uri)) as client,
        Node(tmp_path / "node", "replica", settings={"REDIS_URI": server.uri}) as node,
    ):
        until(lambda: "store.down" in node.log.read_text(), 10, "it says that it waits")
        assert "read only replica" in node.log.read_text()
        assert node.running()
        tell(client, "REPLICAOF", "NO", "ONE")
        node.wait_ready()
        assert fetch(node.url, "/video/cats")["visits"] == 1
