"""What is secret is shown nowhere, whatever a server answers: logs, metrics, answers, errors."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import pytest

from counter.passwords import HIDDEN, without_password
from lab.clients import until
from lab.servers import Node, RabbitMQ, Redis, free_port
from tests.test_http import get

PASSWORD = "hunter2%40hunter2"
SECRETS = {
    "CLUSTER_SECRET": "hunter2-cluster",
    "ADMIN_TOKEN": "ops:hunter2-admin",
    "WRITE_TOKEN": "hunter2-write",
    "LOG_LEVEL": "debug",
    "DRAIN_TIME": "0",
}


@contextmanager
def talkative(answer: bytes) -> Iterator[int]:
    """A server that answers with this, and repeats in it what it was sent; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(5)
                    try:
                        said = connection.recv(4096).replace(b"\r\n", b" ")
                        connection.sendall(answer.replace(b"SAID", said))
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, name="talkative")
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def shown_by(node: Node) -> str:
    """All that a node shows until it has ended, or has failed to reach what it needs."""
    answers = ""

    def failed() -> bool:
        log = node.log.read_text() if node.log.exists() else ""
        return node.status() is not None or ".down" in log

    node.launch()
    until(failed, 20, "it says what is wrong")
    if node.status() is None:
        for path in ("/cluster", "/metrics", "/readyz", "/video/cats", "/cluster/counts?video=x"):
            answer = get(node, path)
            answers += f"{answer.headers} {answer.body!r}"
    return answers + node.log.read_text()


@pytest.mark.parametrize(
    "answer",
    [
        b"-WRONGPASS SAID\r\n",
        b"-LOADING SAID\r\n",
        b"+SAID\r\n",
    ],
)
def test_a_password_of_redis_is_not_shown_whatever_answers(tmp_path: Path, answer: bytes) -> None:
    with talkative(answer) as port:
        uri = f"redis://user:{PASSWORD}@127.0.0.1:{port}/0"
        with_uri = {**SECRETS, "REDIS_URI": uri, "NAME": "counter1"}
        node = Node(tmp_path / "node", "counter1", settings=with_uri)
        try:
            shown = shown_by(node)
        finally:
            node.kill()
    assert f"127.0.0.1:{port}" in shown, "it says where"
    assert "hunter2" not in shown


class Locked(Redis):
    """A Redis that has another password."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, options={"requirepass": "another-one"})

    def answers(self) -> bool:
        return _greeting(self.port).startswith(b"-NOAUTH")


class Old(Redis):
    """A Redis without HELLO and AUTH, whose errors repeat what was sent."""

    def command(self) -> list[str]:
        conf = self.folder.resolve() / "redis.conf"
        conf.write_text('rename-command HELLO ""\nrename-command AUTH ""\n')
        program, *options = super().command()
        return [program, str(conf), *options]


def _greeting(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(100)


@pytest.mark.parametrize("kind", [Locked, Old])
def test_a_wrong_password_is_not_shown_by_what_a_real_redis_answers(
    tmp_path: Path, kind: Callable[[Path], Redis]
) -> None:
    with kind(tmp_path / "redis") as redis:
        uri = f"redis://user:{PASSWORD}@127.0.0.1:{redis.port}/0"
        node = Node(tmp_path / "node", "counter1", settings={**SECRETS, "REDIS_URI": uri})
        try:
            shown = shown_by(node)
        finally:
            node.kill()
    assert "REDIS_URI" in shown
    assert "hunter2" not in shown


@pytest.mark.parametrize("password", ["a", "hunter2", "hunter2%2F", "h%C3%A4nter2", "%27%5C"])
def test_a_password_is_hidden_however_it_is_written(password: str) -> None:
    plain = unquote(password)
    uri = f"redis://user:{password}@host:1/0"
    for form in (password, plain, repr(plain), repr(plain.encode()), f"x{plain}y"):
        assert plain not in without_password(form, uri).replace(HIDDEN, "")
        assert HIDDEN in without_password(form, uri)
    for without in ("redis://host:1/0", "redis://user@host:1/0", "redis://:@host/0"):
        assert without_password("as it is", without) == "as it is"


def test_a_password_of_rabbitmq_is_not_shown(tmp_path: Path, rabbitmq_server: RabbitMQ) -> None:
    with talkative(b"AMQP SAID") as port:
        for where in (rabbitmq_server.port, port, free_port()):
            uri = f"amqp://guest:{PASSWORD}@127.0.0.1:{where}/%2F"
            node = Node(tmp_path / f"{where}", "counter1", settings={**SECRETS, "AMQP_URI": uri})
            try:
                shown = shown_by(node)
            finally:
                node.kill()
            assert f"127.0.0.1:{where}" in shown
            assert "hunter2" not in shown
