"""TLS to Redis and RabbitMQ with a private authority, and what is said where it does not work."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from counter.config import Config
from counter.store.contract import StoreRefusedError
from counter.store.redis import RedisStore
from lab.clients import fetch, until
from lab.servers import Node, RabbitMQ, Redis, free_port
from tests.certificates import Signed, sign
from tests.test_broker_users import outcome
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
def signed(tmp_path_factory: pytest.TempPathFactory) -> Signed:
    """The certificate of all servers here, and the authority that has signed it."""
    return sign(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, signed: Signed) -> Iterator[Servers]:
    """A Redis and a broker with TLS."""
    folder = tmp_path_factory.mktemp("tls")
    other = sign(folder / "other")
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
        sentence = outcome(address)
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


def test_a_broker_that_asks_for_a_certificate_is_refused(servers: Servers, signed: Signed) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(signed.authority))
    context.load_cert_chain(signed.certificate, signed.key)
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            # With TLS 1.3 a client learns only after the handshake that it was refused.
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with suppress(OSError), connection:
                        context.wrap_socket(connection, server_side=True)

        thread = threading.Thread(target=answer, name="asks")
        thread.start()
        try:
            port = server.getsockname()[1]
            ca = f"ssl_ca_certs={signed.authority}"
            sentence = outcome(f"amqps://guest:guest@127.0.0.1:{port}/%2F?{ca}")
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
    assert "it asks for a certificate" in sentence


def test_a_path_of_a_certificate_may_have_a_plus(tmp_path: Path, signed: Signed) -> None:
    for name, written in (("ca+1.pem", "ca+1.pem"), ("ca 1.pem", "ca%201.pem")):
        (tmp_path / name).write_bytes(signed.authority.read_bytes())
        uri = f"rediss://127.0.0.1/0?ssl_ca_certs={tmp_path}/{written}"
        assert Config.from_environ({"NAME": "counter1", "REDIS_URI": uri}).redis_uri == uri
