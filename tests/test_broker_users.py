"""What RabbitMQ refuses for good: at the start it ends a node, later a node says so and goes on."""

import re
from pathlib import Path

import pika
import pytest
from pika.exceptions import ConnectionClosedByBroker, ProbableAccessDeniedError

from counter.transport import rabbitmq
from counter.transport.rabbitmq import RabbitmqTransport
from counter.transport.rabbitmq_errors import refusal as refusal_of_broker
from lab.clients import fetch, until
from lab.servers import ROOT, Node, RabbitMQ, free_port
from tests.test_redis_users import refusal

PERMISSIONS = re.findall(
    r"set_permissions -p VHOST USER\s+'(.*?)' '(.*?)' '(.*?)'",
    (ROOT / "docs/operating.md").read_text(),
)


[DOCUMENTED] = PERMISSIONS
CONFIGURE, WRITE, READ = DOCUMENTED
LACKING = [
    (("", WRITE, READ), "exchange 'counter'"),
    (("counter", WRITE, READ), "queue 'amq.gen-"),
    ((CONFIGURE, "", READ), "exchange 'counter'"),
    ((CONFIGURE, WRITE.replace(r"|amq\.default", ""), READ), "amq.default"),
    ((CONFIGURE, WRITE, ""), "exchange 'counter'"),
]
"""Permissions of the users lacking0, lacking1, ..., and what each of them is refused."""


def do(broker: RabbitMQ, *steps: str) -> None:
    """Have the broker evaluate some steps: each call of its command starts a virtual machine."""
    broker.control("eval", ", ".join(steps) + ".")


def permit(user: str, permissions: tuple[str, str, str]) -> str:
    words = ", ".join('<<"{}">>'.format(each.replace("\\", "\\\\")) for each in permissions)
    return f'rabbit_auth_backend_internal:set_permissions(<<"{user}">>, <<"/">>, {words}, <<"a">>)'


def close(user: str) -> str:
    """The connections of this user end; permissions are looked up again."""
    return f'rabbit_networking:close_all_user_connections(<<"{user}">>, <<"changed">>)'


@pytest.fixture(scope="module")
def broker(rabbitmq_server: RabbitMQ) -> RabbitMQ:
    """The broker with users of all kinds; the user `node` may do what the documents say."""
    users = {"node": DOCUMENTED, "nothing": None}
    users |= {f"lacking{number}": each for number, (each, _) in enumerate(LACKING)}
    users["limit (1) is reached"] = ("", "", "")
    steps = []
    for user, permissions in users.items():
        add = f'rabbit_auth_backend_internal:add_user(<<"{user}">>, <<"secret">>, <<"a">>)'
        steps += [add, permit(user, permissions)] if permissions else [add]
    do(rabbitmq_server, *steps)
    return rabbitmq_server


def uri_of(broker: RabbitMQ, user: str = "node:secret", host: str = "%2F") -> str:
    return f"amqp://{user}@127.0.0.1:{broker.port}/{host}"


def outcome(uri: str) -> str:
    """What the transport says of a broker: "" if it is connected, else the sentence."""
    refused: list[str] = []
    transport = RabbitmqTransport(uri, 30.0, refused.append)
    transport.start(lambda _: None, lambda: None)
    try:
        until(lambda: transport.up or bool(refused), 10, "it is connected or refused")
        until(lambda: transport.up or bool(transport.problem), 5, "it says so")
        assert [transport.problem] == (refused or [""])
    finally:
        transport.stop()
    return transport.problem


def test_a_user_with_the_documented_permissions_is_enough(broker: RabbitMQ) -> None:
    assert outcome(uri_of(broker)) == ""


@pytest.mark.parametrize(
    ("of", "host", "words"),
    [
        ("guest:wr0ng", "%2F", ["refuses user 'guest' (ACCESS_REFUSED", "check user and password"]),
        ("nobody:wr0ng", "%2F", ["refuses user 'nobody'", "check user and password"]),
        ("guest:guest", "nowhere", ["virtual host 'nowhere'", "vhost nowhere not found"]),
        ("guest:guest", "a%2Fb", ["virtual host 'a/b'", "create it"]),
    ],
)
def test_a_password_or_virtual_host_that_is_refused_is_named(
    broker: RabbitMQ, of: str, host: str, words: list[str]
) -> None:
    sentence = outcome(uri_of(broker, of, host))
    assert sentence.startswith(f"AMQP_URI: RabbitMQ at 127.0.0.1:{broker.port} ")
    assert [word for word in words if word not in sentence] == []
    assert "wr0ng" not in sentence


def test_a_user_without_any_permission_is_refused_the_virtual_host(broker: RabbitMQ) -> None:
    sentence = outcome(uri_of(broker, "nothing:secret"))
    assert "refuses user 'nothing' the virtual host '/'" in sentence
    assert "for user 'nothing')" in sentence


@pytest.mark.parametrize("number", range(len(LACKING)))
def test_each_permission_that_a_user_lacks_is_named(broker: RabbitMQ, number: int) -> None:
    sentence = outcome(uri_of(broker, f"lacking{number}:secret"))
    assert LACKING[number][1] in sentence
    assert "set_permissions -p VHOST USER" in sentence


@pytest.mark.parametrize(
    ("user", "host"),
    [
        ("guest:guest", "unlimited-missing"),
        ("guest:guest", "the%20limit%20%281%29%20is%20reached"),
        ("nothing:secret", "%2F"),
        ("limit%20%281%29%20is%20reached:secret", "%2F"),
    ],
)
def test_a_refusal_lasts_whatever_words_are_in_the_names(
    broker: RabbitMQ, user: str, host: str
) -> None:
    assert outcome(uri_of(broker, user, host)).startswith("AMQP_URI: RabbitMQ at 127.0.0.1:")


def test_a_broker_that_takes_no_passwords_is_refused(broker: RabbitMQ) -> None:
    offer = "application:set_env(rabbit, auth_mechanisms, ['{}'])"
    do(broker, offer.format("AMQPLAIN"))
    try:
        assert "mechanism PLAIN" in outcome(broker.uri)
    finally:
        do(broker, offer.format("PLAIN"))


def test_a_limit_of_connections_passes() -> None:
    said = (
        "NOT_ALLOWED - access to vhost 'a' refused for user 'b': connection limit (1) is reached",
        "NOT_ALLOWED - access to vhost 'a' refused for user 'b': vhost 'a' is down",
        "NOT_ALLOWED - connection refused for user 'b': user connection limit (1) is reached",
        "PRECONDITION_FAILED - cannot declare queue 'q': queue limit in vhost 'a' (1) is reached",
    )
    for text in said:
        error = ProbableAccessDeniedError(repr(ConnectionClosedByBroker(530, text)))
        assert refusal_of_broker(error, str(error), "here:1", "b", "a", encrypted=False) == "", text


def test_an_exchange_of_another_kind_is_named(broker: RabbitMQ) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(broker.uri))
    try:
        connection.channel().exchange_delete("counter")
        connection.channel().exchange_declare("counter", "direct")
        assert "PRECONDITION_FAILED" in outcome(broker.uri)
    finally:
        connection.channel().exchange_delete("counter")
        connection.close()


@pytest.mark.parametrize("host", ["%2F", "nowhere"])
def test_a_refusal_ends_the_start_with_2_and_one_sentence(
    broker: RabbitMQ, tmp_path: Path, host: str
) -> None:
    of = "guest:wr0ng" if host == "%2F" else "guest:guest"
    settings = {"AMQP_URI": uri_of(broker, of, host)}
    line = refusal(Node(tmp_path, "counter1", settings=settings))
    assert f"refused AMQP_URI: RabbitMQ at 127.0.0.1:{broker.port} refuses user" in line
    assert "wr0ng" not in line


@pytest.mark.proof
def test_a_permission_taken_while_a_node_runs_is_a_warning_and_given_back_is_none(
    broker: RabbitMQ, tmp_path: Path
) -> None:
    settings = {"AMQP_URI": uri_of(broker), "DRAIN_TIME": "0"}
    with Node(tmp_path, "counter1", settings=settings) as node:
        node.wait_ready()
        where = f"RabbitMQ at 127.0.0.1:{broker.port}"
        do(broker, permit("node", ("", "", "")), close("node"))

        def warned() -> bool:
            # Its address is for the log; strangers see the page.
            warnings = fetch(node.url, "/cluster")["warnings"]
            assert where not in str(warnings)
            return any("AMQP_URI: RabbitMQ" in warning for warning in warnings)

        until(warned, 20, "the cluster page warns")
        assert fetch(node.url, "/video/cats")["visits"] == 1
        [line] = [line for line in node.log.read_text().splitlines() if where in line]
        assert "WARNING transport.down" in line
        assert fetch(node.url, "/cluster")["transport"]["up"] is False
        do(broker, permit("node", DOCUMENTED))
        until(lambda: not warned(), 20, "it is connected again")
        assert fetch(node.url, "/cluster")["transport"]["up"] is True
        other = 'rabbit_auth_backend_internal:change_password(<<"node">>, <<"another">>, <<"a">>)'
        do(broker, other, close("node"))
        until(warned, 20, "the cluster page warns")
        assert node.ready()


def test_a_refusal_is_logged_again_and_again(
    broker: RabbitMQ, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rabbitmq, "_SAY_AGAIN", 0.3)
    refused: list[str] = []
    transport = RabbitmqTransport(uri_of(broker, "guest:wr0ng"), 30.0, refused.append)
    transport.start(lambda _: None, lambda: None)
    until(lambda: caplog.text.count("transport.down") >= 3, 20, "it is logged again")
    transport.stop()
    assert len(refused) == 1
    assert caplog.text.count(f"address=127.0.0.1:{broker.port}") >= 3


def test_a_broker_that_is_away_is_named_and_refuses_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    refused: list[str] = []
    port = free_port()
    transport = RabbitmqTransport(f"amqp://guest:guest@127.0.0.1:{port}/%2F", 30.0, refused.append)
    transport.start(lambda _: None, lambda: None)
    until(lambda: f"address=127.0.0.1:{port} " in caplog.text, 10, "it is logged")
    transport.stop()
    assert (refused, transport.problem) == ([], "")


def test_a_broker_that_comes_up_late_and_refuses_ends_nobody(
    broker: RabbitMQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rabbitmq, "_STARTING", 0.0)
    refused: list[str] = []
    transport = RabbitmqTransport(uri_of(broker, "guest:wr0ng"), 30.0, refused.append)
    port, transport._parameters.port = transport._parameters.port, free_port()
    transport.start(lambda _: None, lambda: None)
    transport._parameters.port = free_port()
    until(lambda: transport._said > 0, 10, "the first try has failed")
    transport._parameters.port = port
    until(lambda: bool(transport.problem), 10, "it is refused")
    transport.stop()
    assert refused == []
