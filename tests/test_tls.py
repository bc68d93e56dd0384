"""TLS to Redis and RabbitMQ with a private authority, and what is said where it does not work."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import pytest

from counter.store.contract import StoreRefusedError
from counter.store.redis import RedisStore
from counter.transport.rabbitmq import RabbitmqTransport
from lab.clients import fetch, until
from lab.servers import Node, RabbitMQ, Redis, free_port
from tests.certificates import Signed, sign
from tests.test_redis_users import refusal


class Servers(NamedTuple):
    """The authority of both servers, another one, the ports with TLS and those without."""

    authority: Path
    stranger: Path
    redis: int
    broker: int
    plain_redis: int
    plain_broker: int

    def settings(self, **changed: str) -> dict[str, str]:
        """The settings of a node that uses both; `{authority}` may be named in what changes."""
        own = {
            "REDIS_URI": f"rediss://127.0.0.1:{self.redis}/0?ssl_ca_certs={{authority}}",
            "AMQP_URI": f"amqps://guest:guest@127.0.0.1:{self.broker}/%2F?ssl_ca_certs={{authority}}",
            "DRAIN_TIME": "0",
            **changed,
        }
        return {name: value.format(**self._asdict()) for name, value in own.items()}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A Redis and a broker whose certificate an authority of their own has signed."""
    folder = tmp_path_factory.mktemp("tls")
    signed, other = sign(folder / "ours"), sign(folder / "other")
    ports = free_port(), free_port()
    with ExitStack() as stack:
        redis = Redis(folder / "redis", options=of_redis(signed, ports[0]))
        broker = RabbitMQ(folder / "rabbitmq", conf=of_broker(signed, ports[1]))
        for server in (redis, broker):
            stack.callback(server.stop)
            server.launch()
        for server in (redis, broker):
            server.wait()
        yield Servers(signed.authority, other.authority, *ports, redis.port, broker.port)


def of_redis(signed: Signed, port: int) -> dict[str, str]:
    return {
        "tls-port": str(port),
        "tls-cert-file": str(signed.certificate),
        "tls-key-file": str(signed.key),
        "tls-ca-cert-file": str(signed.authority),
        "tls-auth-clients": "no",
    }


def of_broker(signed: Signed, port: int) -> str:
    return (
        f"listeners.ssl.1 = 127.0.0.1:{port}\n"
        f"ssl_options.cacertfile = {signed.authority}\n"
        f"ssl_options.certfile = {signed.certificate}\n"
        f"ssl_options.keyfile = {signed.key}\n"
    )


def test_nodes_meet_over_tls_and_store_over_tls(servers: Servers, tmp_path: Path) -> None:
    with (
        Node(tmp_path / "1", "tls1", settings=servers.settings()) as first,
        Node(tmp_path / "2", "tls2", settings=servers.settings()) as second,
    ):
        first.wait_ready()
        second.wait_ready()
        assert fetch(first.url, "/video/cats")["visits"] == 1
        until(lambda: fetch(second.url, "/count/cats")["visits"] == 1, 10, "the other hears of it")
        shown = fetch(first.url, "/cluster")
        assert shown["transport"] == {"kind": "rabbitmq", "up": True}
        assert shown["warnings"] == []


@pytest.mark.parametrize(
    ("setting", "uri", "words"),
    [
        ("REDIS_URI", "rediss://127.0.0.1:{redis}/0?ssl_ca_certs={stranger}", "is not trusted"),
        ("REDIS_URI", "rediss://127.0.0.1:{redis}/0", "is not trusted"),
        ("REDIS_URI", "rediss://localhost:{redis}/0?ssl_ca_certs={authority}", "'localhost'"),
        ("REDIS_URI", "rediss://127.0.0.1:{plain_redis}/0", "write redis:// for rediss://"),
        ("REDIS_URI", "redis://127.0.0.1:{redis}/0", "write rediss:// for redis://"),
        ("AMQP_URI", "amqps://guest:guest@127.0.0.1:{broker}/%2F?ssl_ca_certs={stranger}",
         "is not trusted"),
        ("AMQP_URI", "amqps://guest:guest@127.0.0.1:{broker}/%2F", "is not trusted"),
        ("AMQP_URI", "amqps://guest:guest@localhost:{broker}/%2F?ssl_ca_certs={authority}",
         "'localhost'"),
        ("AMQP_URI", "amqps://guest:guest@127.0.0.1:{plain_broker}/%2F", "does not speak TLS"),
        ("AMQP_URI", "amqp://guest:guest@127.0.0.1:{broker}/%2F", "write amqps:// for amqp://"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_in_one_sentence(
    servers: Servers, setting: str, uri: str, words: str
) -> None:
    address = uri.format(**servers._asdict())
    if setting == "REDIS_URI":
        with closing(RedisStore(address, "tls3")) as store:
            with pytest.raises(StoreRefusedError) as error:
                store.open("me", lambda: "0" * 13)
            sentence = str(error.value)
    else:
        refused: list[str] = []
        transport = RabbitmqTransport(address, 30.0, refused.append)
        transport.start(lambda _: None, lambda: None)
        until(lambda: bool(refused), 10, "it is refused")
        transport.stop()
        [sentence] = refused
    assert sentence.startswith(f"{setting}: ")
    assert words in sentence
    assert "guest:guest" not in sentence


@pytest.mark.parametrize("setting", ["REDIS_URI", "AMQP_URI"])
def test_another_authority_ends_the_start_with_2_and_one_sentence(
    servers: Servers, tmp_path: Path, setting: str
) -> None:
    settings = servers.settings()
    settings[setting] = settings[setting].replace(str(servers.authority), str(servers.stranger))
    line = refusal(Node(tmp_path, "tls4", settings=settings))
    assert f"refused {setting}: " in line
    assert "its certificate is not trusted" in line
