"""Settings: their defaults, one sentence for each that is wrong, and what a start makes of it."""

import dataclasses
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from counter.config import Config, ConfigError
from lab.clients import fetch, until
from lab.servers import ROOT, Node, Redis, StartError, free_port

SECRET = "hunter2hunter2"


def test_the_defaults_are_those_of_the_documentation() -> None:
    config = Config.from_environ({})
    assert dataclasses.asdict(config) == {
        "name": None,
        "listen_host": "127.0.0.1",
        "listen_port": 1234,
        "redis_uri": None,
        "amqp_uri": None,
        "peers": (),
        "nodes": (),
        "data_dir": Path("data"),
        "drain_time": 2.0,
        "ack": "stored",
        "publish_interval": 0.1,
        "sync_interval": 1.0,
        "message_ttl": 30.0,
        "fold_after": 86_400.0,
        "join_timeout": 5.0,
        "cluster_secret": None,
        "admin_token": None,
        "write_token": None,
        "max_count": 1000,
        "log_level": "info",
        "dev_mode": False,
        "visit_log": None,
        "new_videos": 100,
        "videos": "open",
        "address_connections": 500,
        "trusted_proxies": ("127.0.0.0/8", "::1"),
        "allowed_hosts": (),
        "bots": "crawlers",
        "repeat_window": 0.0,
        "viewers": False,
        "viewers_keep": 90,
    }
    assert config == Config()


def test_an_empty_setting_counts_as_unset() -> None:
    assert Config.from_environ(
        {field.name.upper(): "" for field in dataclasses.fields(Config)}
    ) == (Config())


def test_every_setting_is_read() -> None:
    config = Config.from_environ(
        {
            "NAME": "a.B_9-",
            "LISTEN_HOST": "::1",
            "LISTEN_PORT": "65535",
            "REDIS_URI": f"rediss://user:{SECRET}@redis.example:6380/15",
            "PEERS": " http://10.0.0.1:1234/ ,, http://[::1]:1 ",
            "NODES": "http://counter1:1234, http://counter2:1234",
            "DATA_DIR": "/somewhere/else",
            "DRAIN_TIME": "0",
            "ACK": "memory",
            "PUBLISH_INTERVAL": "0.5",
            "SYNC_INTERVAL": "2",
            "MESSAGE_TTL": "60",
            "FOLD_AFTER": "3600",
            "JOIN_TIMEOUT": "1.5",
            "CLUSTER_SECRET": SECRET,
            "ADMIN_TOKEN": SECRET,
            "WRITE_TOKEN": f"import:{SECRET}1,import:{SECRET}2",
            "MAX_COUNT": "5",
            "NEW_VIDEOS": "0",
            "VIDEOS": "KNOWN",
            "LOG_LEVEL": "debug",
            "DEV_MODE": "1",
            "VISIT_LOG": "/tmp/counter1.log",
            "ADDRESS_CONNECTIONS": "20",
            "TRUSTED_PROXIES": "10.0.0.7, 172.16.0.0/12,fd00::/8",
            "ALLOWED_HOSTS": "Counter.Example., counter1",
            "BOTS": "Programs",
            "REPEAT_WINDOW": "1800",
            "VIEWERS": "on",
            "VIEWERS_KEEP": "30",
            "UNKNOWN": "is left alone",
        }
    )
    assert config == Config(
        name="a.B_9-",
        listen_host="::1",
        listen_port=65535,
        redis_uri=f"rediss://user:{SECRET}@redis.example:6380/15",
        peers=("http://10.0.0.1:1234/", "http://[::1]:1"),
        nodes=("http://counter1:1234", "http://counter2:1234"),
        data_dir=Path("/somewhere/else"),
        drain_time=0.0,
        ack="memory",
        publish_interval=0.5,
        sync_interval=2.0,
        message_ttl=60.0,
        fold_after=3600.0,
        join_timeout=1.5,
        cluster_secret=SECRET,
        admin_token=SECRET,
        write_token=f"import:{SECRET}1,import:{SECRET}2",
        max_count=5,
        new_videos=0,
        videos="known",
        log_level="debug",
        dev_mode=True,
        visit_log=Path("/tmp/counter1.log"),
        address_connections=20,
        trusted_proxies=("10.0.0.7", "172.16.0.0/12", "fd00::/8"),
        allowed_hosts=("counter.example", "counter1"),
        bots="programs",
        repeat_window=1800.0,
        viewers=True,
        viewers_keep=30,
    )
    assert Config.from_environ({"AMQP_URI": "amqps://a:b@c:1/%2F"}).amqp_uri == (
        "amqps://a:b@c:1/%2F"
    )


BAD = [
    ("NAME", "two words"),
    ("NAME", "n" * 33),
    ("NAME", "täg"),
    ("NAME", "a~b"),
    ("NAME", "a:b"),
    ("NAME", "a\n"),
    ("VISIT_LOG", "/nowhere/counter1.log"),
    ("VISIT_LOG", "/tmp"),
    ("VISIT_LOG", "/tmp/two words.log"),
    ("ADDRESS_CONNECTIONS", "0"),
    ("ADDRESS_CONNECTIONS", "11001"),
    ("ADDRESS_CONNECTIONS", "many"),
    ("TRUSTED_PROXIES", "nginx"),
    ("TRUSTED_PROXIES", "10.0.0.1/8"),
    ("TRUSTED_PROXIES", "*"),
    ("ALLOWED_HOSTS", "https://counter.example"),
    ("ALLOWED_HOSTS", "counter.example:1234"),
    ("ALLOWED_HOSTS", "*.example"),
    ("BOTS", "crawler"),
    ("BOTS", "off"),
    ("LISTEN_HOST", "http://localhost"),
    ("LISTEN_HOST", "local host"),
    ("LISTEN_HOST", "127.0.0.1:80\n"),
    ("LISTEN_PORT", "0"),
    ("LISTEN_PORT", "65536"),
    ("LISTEN_PORT", "-1"),
    ("LISTEN_PORT", "80.0"),
    ("LISTEN_PORT", "http"),
    ("LISTEN_PORT", "1_234"),
    ("LISTEN_PORT", "१२३४"),
    ("DRAIN_TIME", "-0.1"),
    ("DRAIN_TIME", "601"),
    ("DRAIN_TIME", "2s"),
    ("DRAIN_TIME", "nan"),
    ("DRAIN_TIME", "inf"),
    ("DRAIN_TIME", "1_0"),
    ("ACK", "disk"),
    ("ACK", "1"),
    ("PUBLISH_INTERVAL", "0"),
    ("PUBLISH_INTERVAL", "61"),
    ("PUBLISH_INTERVAL", "often"),
    ("SYNC_INTERVAL", "0"),
    ("SYNC_INTERVAL", "601"),
    ("MESSAGE_TTL", "0.1"),
    ("MESSAGE_TTL", "4000"),
    ("FOLD_AFTER", "-1"),
    ("NEW_VIDEOS", "-1"),
    ("NEW_VIDEOS", "1.5"),
    ("NEW_VIDEOS", "1000001"),
    ("VIDEOS", "all"),
    ("FOLD_AFTER", "1 day"),
    ("FOLD_AFTER", "31622401"),
    ("JOIN_TIMEOUT", "-1"),
    ("JOIN_TIMEOUT", "700"),
    ("LOG_LEVEL", "loud"),
    ("REPEAT_WINDOW", "86401"),
    ("REPEAT_WINDOW", "1h"),
    ("REPEAT_WINDOW", "0.04"),
    ("REPEAT_WINDOW", "0.999"),
    ("VIEWERS", "many"),
    ("VIEWERS_KEEP", "0"),
    ("VIEWERS_KEEP", "1.5"),
    ("DEV_MODE", "maybe"),
    ("DEV_MODE", "2"),
]


@pytest.mark.parametrize(("setting", "value"), BAD)
def test_a_bad_value_is_named_with_its_setting_and_the_remedy(setting: str, value: str) -> None:
    sentence = refusal({setting: value})
    assert setting in sentence
    assert repr(value) in sentence
    assert_has_a_remedy(sentence)


def refusal(environ: dict[str, str]) -> str:
    with pytest.raises(ConfigError) as refused:
        Config.from_environ(environ)
    sentence = str(refused.value)
    assert "\n" not in sentence
    return sentence


def assert_has_a_remedy(sentence: str) -> None:
    assert re.search(
        r"; use |; set |; unset |; write |try |from \S+ to \S+; the default|is none of|on \(1\)",
        sentence,
    ), sentence


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("REDIS_URI", f"http://:{SECRET}@localhost:6379/0"),
        ("REDIS_URI", f"localhost:{SECRET}"),
        ("REDIS_URI", f"redis://:{SECRET}@localhost:port/0"),
        ("REDIS_URI", f"redis://:{SECRET}@localhost:99999/0"),
        ("REDIS_URI", f"redis://:{SECRET}@localhost:0/0"),
        ("REDIS_URI", f"redis://:{SECRET}@/0"),
        ("REDIS_URI", f"redis://:{SECRET}@localhost/zero"),
        ("REDIS_URI", f"redis://:{SECRET}@localhost/0?db=x"),
        ("REDIS_URI", f"redis://:{SECRET}@localhost/0?decode_responses=true"),
        ("REDIS_URI", f"redis://:{SECRET}@[::1/0"),
        ("AMQP_URI", f"redis://guest:{SECRET}@localhost"),
        ("AMQP_URI", f"amqp://guest:{SECRET}@localhost:x"),
        ("AMQP_URI", f"amqp://guest:{SECRET}@"),
        ("AMQP_URI", f"amqp://guest:{SECRET}@localhost/%2F?heartbeat=x"),
        ("AMQP_URI", f"amqp://guest:{SECRET}@localhost/%2F?socket_timeout=600"),
        ("AMQP_URI", f"guest:{SECRET}@localhost"),
        ("PEERS", f"http://guest:{SECRET}@localhost:1234/path"),
        ("PEERS", f"http://guest:{SECRET}@localhost:1234"),
        ("PEERS", f"ftp://guest:{SECRET}@localhost:1234"),
        ("NODES", f"http://guest:{SECRET}@localhost:1234"),
        ("CLUSTER_SECRET", SECRET[:7]),
        ("ADMIN_TOKEN", SECRET[:7]),
        ("ADMIN_TOKEN", f"{SECRET} {SECRET}"),
        ("WRITE_TOKEN", f"{SECRET},"),
        ("WRITE_TOKEN", f"ops:{SECRET},{SECRET[:7]}"),
        ("WRITE_TOKEN", f"{SECRET}:{SECRET}:{SECRET}"),
        ("WRITE_TOKEN", f":{SECRET}"),
        ("ADMIN_TOKEN", f"a:{SECRET},b:{SECRET}"),
    ],
)
def test_a_bad_value_that_may_hold_a_password_is_not_shown(setting: str, value: str) -> None:
    sentence = refusal({setting: value, "NAME": "counter1"})
    assert sentence.startswith(setting)
    assert "hunter2" not in sentence
    assert_has_a_remedy(sentence)


SETTINGS = [field.name.upper() for field in dataclasses.fields(Config)]
GOOD = {
    "NAME": "counter1",
    "LISTEN_HOST": "127.0.0.1",
    "LISTEN_PORT": "1234",
    "REDIS_URI": f"redis://:{SECRET}@localhost:6379/0",
    "AMQP_URI": f"amqp://user:{SECRET}@localhost:5672/%2F",
    "PEERS": "http://10.0.0.1:1234",
    "NODES": "http://10.0.0.1:1234",
    "DATA_DIR": "data",
    "ACK": "stored",
    "CLUSTER_SECRET": SECRET,
    "ADMIN_TOKEN": SECRET,
    "WRITE_TOKEN": f"ops:{SECRET}",
    "LOG_LEVEL": "info",
    "DEV_MODE": "1",
    "VISIT_LOG": "/tmp/counter1.log",
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize(
    ("bad", "named", "remedy"),
    [
        ("{}\r", r"'\r'", "it has those of Windows"),
        ("{}\n", r"'\n'", "write it without"),
        ("\t{}", r"'\t'", "write it without"),
        ("{}\x00", r"'\x00'", "write it without"),
        ("{}\x1b[0m", r"'\x1b'", "write it without"),
        ("{}\x7f", r"'\x7f'", "write it without"),
        ("{}\x85", r"'\x85'", "write it without"),
        ("\ufeff{}", r"'\ufeff'", "write it without"),
        ("{}\u00a0", r"'\xa0'", "write it without"),
        ("{}\u2800", "'\u2800'", "write it without"),
        ("{}\u3164", "'\u3164'", "write it without"),
        ("\u00ab{}\u00bb", "\u00ab", "write it without"),
        ("\uff02{}\uff02", "\uff02", "write it without"),
        ("{}\u200b", r"'\u200b'", "write it without"),
        ("{}\u2028", r"'\u2028'", "write it without"),
        ("{}\udcff", r"'\udcff'", "write it in UTF-8"),
        ('"{}"', '"', "write it without"),
        ("'{}'", "'", "write it without"),
        ('"{}', '"', "write it without"),
        ("\u201c{}\u201d", "\u201c", "write it without"),
        ('""', '"', "write it without"),
        ('"{}"\r', '"', "write it without"),
        ("\r", r"'\r'", "it has those of Windows"),
    ],
)
def test_a_character_that_nobody_means_is_refused_in_every_setting(
    setting: str, bad: str, named: str, remedy: str
) -> None:
    sentence = refusal({"NAME": "counter1", setting: bad.format(GOOD.get(setting, "2"))})
    assert sentence.startswith(f"{setting}: ")
    assert named in sentence
    assert remedy in sentence
    assert "hunter2" not in sentence


def test_where_nothing_secret_is_in_it_the_value_is_shown() -> None:
    assert repr("stored\r") in refusal({"ACK": "stored\r"})
    assert repr('"counter1"') in refusal({"NAME": '"counter1"'})


@pytest.mark.parametrize(
    "secret", ["hunter2 hunter2", "hünter2hünter2", "\U0001f510hunter2hunter2", "%$&/?#[]{}()=\\`*"]
)
def test_any_other_character_may_be_in_a_secret(secret: str) -> None:
    assert Config.from_environ({"CLUSTER_SECRET": secret}).cluster_secret == secret


@pytest.mark.parametrize(
    ("setting", "uri"),
    [
        ("REDIS_URI", "redis://{}@localhost:6379/0"),
        ("REDIS_URI", "redis://{}@localhost"),
        ("REDIS_URI", "rediss://{}@redis.example:6379/0?ssl_ca_certs=/etc/ca@home.pem"),
        ("AMQP_URI", "amqp://{}@localhost:5672/%2F"),
        ("AMQP_URI", "amqp://{}@localhost"),
        ("AMQP_URI", "amqps://{}@localhost/cats"),
    ],
)
@pytest.mark.parametrize("user", ["user:{}", "user:9{}", "us{}er:hunter2", "user:p@ss{}"])
@pytest.mark.parametrize(
    ("character", "written"),
    [("/", "%2F"), ("?", "%3F"), ("#", "%23"), ("[", "%5B"), ("]", "%5D"), (" ", "%20")],
)
def test_how_a_character_of_a_password_is_written_in_a_uri_is_said(
    setting: str, uri: str, user: str, character: str, written: str
) -> None:
    for more in ("", "hunter2", "1", "[", "]"):
        password = uri.format(user.format(f"{character}{more}"))
        sentence = refusal({"NAME": "counter1", setting: password})
        assert sentence.startswith(f"{setting} has a character in its user or password")
        assert f"{character!r} as {written}" in sentence
        assert "hunter2" not in sentence
        assert "p@ss" not in sentence
        assert_has_a_remedy(sentence)


@pytest.mark.parametrize(
    "uri",
    [
        "redis://:p@ss:word@localhost:6379/0",
        "redis://:%2F%3F%23%5B%5D%20%40@localhost:6379/0",
        "redis://user:100%@localhost",
    ],
)
def test_what_can_be_read_all_the_same_is_taken_as_before(uri: str) -> None:
    assert Config.from_environ({"NAME": "counter1", "REDIS_URI": uri}).redis_uri == uri


@pytest.mark.parametrize(
    ("setting", "uri"),
    [
        ("AMQP_URI", "amqp://guest:{}@rabbit.example:5672/team@prod"),
        ("AMQP_URI", "amqp://guest:{}@rabbit.example/%2F?x=a@b"),
        ("REDIS_URI", "redis://:{}@redis.example:6379/0@"),
        ("REDIS_URI", "redis://redis.example/0?x=a@b"),
        ("AMQP_URI", "amqp://guest:12/{}@localhost"),
    ],
)
def test_an_at_sign_behind_the_host_is_not_taken_for_the_end_of_a_password(
    setting: str, uri: str
) -> None:
    # Written as %2F, the slash before it would make another host of the virtual host.
    sentence = refusal({"NAME": "counter1", setting: uri.format(SECRET)})
    assert "'/' as %2F in a user or password" in sentence or "?" in uri
    assert sentence.endswith("in a user or password, and an @ behind the host as %40")
    assert SECRET not in sentence


def test_a_virtual_host_may_have_an_at_sign() -> None:
    uri = "amqp://guest:guest@localhost:5672/a%40b"
    assert Config.from_environ({"AMQP_URI": uri}).amqp_uri == uri
    # Which of the two hosts is meant is anybody's guess.
    assert "'/' as %2F" in refusal({"AMQP_URI": "amqp://guest:a@b/c@localhost"})


def test_a_user_without_a_password_is_refused_where_the_broker_needs_one() -> None:
    assert "no password" in refusal({"AMQP_URI": "amqp://guest@localhost"})


@pytest.mark.parametrize(
    ("setting", "uri"),
    [("REDIS_URI", "rediss://localhost:6379/0"), ("AMQP_URI", "amqps://a:b@localhost/%2F")],
)
def test_a_file_of_authorities_that_is_none_is_named(
    setting: str, uri: str, tmp_path: Path
) -> None:
    (tmp_path / "diary").write_text("dear diary")
    for file, why in (
        ("nowhere.pem", "No such file or directory"),
        ("diary", "holds no certificate"),
        ("", "Is a directory"),
    ):
        path = tmp_path / file if file else tmp_path
        sentence = refusal({"NAME": "counter1", setting: f"{uri}?ssl_ca_certs={path}"})
        assert sentence.startswith(f"{setting}: ssl_ca_certs={str(path)!r} ")
        assert why in sentence
        assert_has_a_remedy(sentence)
    assert "names no file" in refusal({"NAME": "c", setting: f"{uri}?ssl_ca_certs="})
    plain = uri.replace("s://", "://")
    assert "which is for TLS" in refusal({"NAME": "c", setting: f"{plain}?ssl_ca_certs=/x"})
    both = f"{uri}?ssl_ca_certs=/x&ssl_cert_reqs=none"
    assert "which are not used" in refusal({"NAME": "c", setting: both})


@pytest.mark.parametrize(
    "peer",
    [
        "10.0.0.1:1234",
        "https://10.0.0.1:1234",
        "http://",
        "http://10.0.0.1:99999",
        "http://10.0.0.1:1234/mesh",
        "http://10.0.0.1:1234/?a=b",
        "http://10.0.0.1:1234#x",
        "counter2",
        "http://a b:1234",
    ],
)
@pytest.mark.parametrize("setting", ["PEERS", "NODES"])
def test_a_peer_or_node_that_is_no_address_is_named(peer: str, setting: str) -> None:
    sentence = refusal({setting: f"http://10.0.0.1:1234,{peer}"})
    assert sentence.startswith(setting)
    assert repr(peer) in sentence
    assert_has_a_remedy(sentence)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"REDIS_URI": "redis://localhost"}, ["NAME", "REDIS_URI", "counter1"]),
        (
            {"AMQP_URI": "amqp://localhost", "PEERS": "http://10.0.0.1:1234"},
            ["PEERS", "AMQP_URI", "http://10.0.0.1:1234"],
        ),
        ({"LISTEN_HOST": "0.0.0.0"}, ["LISTEN_HOST", "'0.0.0.0'", "CLUSTER_SECRET"]),
        ({"LISTEN_HOST": "::"}, ["LISTEN_HOST", "'::'", "CLUSTER_SECRET"]),
        ({"LISTEN_HOST": "counter1"}, ["LISTEN_HOST", "'counter1'", "CLUSTER_SECRET"]),
        ({"MESSAGE_TTL": "5", "SYNC_INTERVAL": "10"}, ["MESSAGE_TTL=5", "SYNC_INTERVAL=10"]),
        (
            {"REPEAT_WINDOW": "60", "PEERS": "http://10.0.0.1:1234"},
            ["REPEAT_WINDOW=60", "CLUSTER_SECRET"],
        ),
        ({"VIEWERS": "on", "AMQP_URI": "amqp://rabbitmq"}, ["VIEWERS=on", "CLUSTER_SECRET"]),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_settings_that_contradict_each_other_are_both_named(
    environ: dict[str, str], words: list[str]
) -> None:
    sentence = refusal(environ)
    assert [word for word in words if word not in sentence] == []
    assert_has_a_remedy(sentence)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_on_this_machine_alone_no_secret_is_needed(host: str) -> None:
    assert Config.from_environ({"LISTEN_HOST": host}).listen_host == host


@pytest.mark.parametrize(
    "more", [{"CLUSTER_SECRET": SECRET}, {"AMQP_URI": "amqp://guest:guest@rabbitmq"}]
)
def test_with_a_secret_or_a_broker_a_node_may_listen_everywhere(more: dict[str, str]) -> None:
    assert Config.from_environ({"LISTEN_HOST": "0.0.0.0", **more}).listen_host == "0.0.0.0"


def test_a_node_without_peers_needs_no_secret_for_viewers() -> None:
    assert Config.from_environ({"VIEWERS": "on", "REPEAT_WINDOW": "60"}).viewers
    for window in ("0", "0.0", "1", "1.5", "86400"):
        assert Config.from_environ({"REPEAT_WINDOW": window}).repeat_window == float(window)


# -- for real


def gunicorn(folder: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run a node that is expected to end by itself."""
    own = {"LISTEN_PORT": str(free_port()), "DATA_DIR": str(folder / "data")}
    return subprocess.run(
        [sys.executable, "-m", "gunicorn"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **own, **settings},
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"LISTEN_PORT": "http"},
        {"NAME": "two words"},
        {"REDIS_URI": "redis://localhost"},
        {"LISTEN_HOST": "0.0.0.0"},
        {"REDIS_URI": f"redis://:{SECRET}@localhost/0?db=x", "NAME": "counter1"},
        {"AMQP_URI": f"amqp://guest:{SECRET}@localhost/%2F?heartbeat=x"},
        {"CLUSTER_SECRET": "hunter2"},
        {"VIEWERS": "on", "PEERS": "http://127.0.0.1:1"},
    ],
    ids=lambda settings: ",".join(settings),
)
def test_a_bad_setting_ends_the_start_with_2_and_one_line(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    done = gunicorn(tmp_path, **settings)
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("counter: ")
    assert next(iter(settings)) in line
    assert "hunter2" not in line
    assert done.stdout == ""
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("what", ["a file in its place", "no database", "a wrong password"])
def test_a_store_that_cannot_be_used_ends_the_start_with_2_and_one_sentence(
    tmp_path: Path, what: str
) -> None:
    settings, words = {}, "DATA_DIR"
    if what == "a file in its place":
        (tmp_path / "data").write_text("in its place")
    elif what == "no database":
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "counter.sqlite").write_text("my diary" * 1000)
        words = "is not a counter's database"
    else:
        # Not asked for a password it does not want: that is what a wrong one looks like to it.
        server = Redis(tmp_path / "redis")
        settings = {"REDIS_URI": f"redis://nobody:{SECRET}@127.0.0.1:{server.port}", "NAME": "c"}
        words = "REDIS_URI: Redis at"
        with server:
            done = gunicorn(tmp_path, **settings)
    if what != "a wrong password":
        done = gunicorn(tmp_path)
    assert done.returncode == 2, done.stderr
    assert_one_sentence(done.stderr, words)
    assert SECRET not in done.stderr


def test_a_port_in_use_ends_the_start_with_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        port = other.getsockname()[1]
        done = gunicorn(tmp_path, LISTEN_HOST="::1", LISTEN_PORT=str(port))
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line == (
        f"counter: no node can listen on port {port} of ::1 (Address already in use); stop what "
        "listens there, or set another LISTEN_PORT"
    )
    assert done.stdout == ""


@pytest.mark.parametrize("host", ["192.0.2.1", "nobody.invalid"])
def test_an_address_of_another_machine_ends_the_start_with_one_sentence(
    tmp_path: Path, host: str
) -> None:
    done = gunicorn(tmp_path, LISTEN_HOST=host, CLUSTER_SECRET=SECRET)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert f"of {host} (" in line
    assert "; set LISTEN_HOST to an address of this machine" in line


def test_a_port_that_becomes_free_meanwhile_is_taken(tmp_path: Path) -> None:
    node = Node(tmp_path, "counter1")
    with socket.create_server(("127.0.0.1", node.port)):
        node.launch()
        until(lambda: len(node.processes()) == 1, 5, "it has begun")
    try:
        node.wait(20)
        assert "Connection in use" not in node.log.read_text()
    finally:
        node.kill()


def assert_one_sentence(log: str, words: str) -> None:
    """The log has one line at CRITICAL, with these words, and nothing worse than warnings else."""
    assert "Traceback" not in log, log
    critical = [line for line in log.splitlines() if "CRITICAL" in line]
    assert len(critical) == 1, log
    assert words in critical[0]
    assert "ERROR" not in log, log


@contextmanager
def ready(node: Node) -> Iterator[Node]:
    """A node that is ready; killed at the end, which takes no time."""
    try:
        node.start().wait_ready()
        yield node
    finally:
        node.kill()


def refused(node: Node) -> str:
    """Start a node that must be refused; return its log."""
    try:
        with pytest.raises(StartError, match="ended with status 2"):
            # It may have answered that it is alive while it waited for the store.
            node.start().wait_until(lambda: False, "was not refused", 15)
        assert node.status() == 2
    finally:
        node.kill()
    return node.log.read_text()


def test_a_second_process_on_one_sqlite_store_is_refused(tmp_path: Path) -> None:
    with ready(Node(tmp_path / "1", "counter1")) as first:
        taken = {"DATA_DIR": str(first.folder)}
        second = Node(tmp_path / "2", "counter2", settings=taken)
        log = refused(second)
        assert_one_sentence(log, "is leased by counter1 (process ")
        assert f"port {first.port}" in log
        assert fetch(first.url, "/video/unharmed")["visits"] == 1
        assert first.ready()
    # It ended: now the second may have the store.
    with ready(second):
        assert fetch(second.url, "/count/unharmed")["visits"] == 1


def test_a_second_process_on_one_name_in_redis_is_refused(
    tmp_path: Path, redis_server: Redis
) -> None:
    settings = {"REDIS_URI": redis_server.uri}
    with ready(Node(tmp_path / "1", "config1", settings=settings)) as first:
        second = Node(tmp_path / "2", "config1", settings=settings)
        log = refused(second)
        assert_one_sentence(log, f"NAME='config1' on Redis at 127.0.0.1:{redis_server.port}")
        assert f"port {first.port}" in log
        assert fetch(first.url, "/video/unharmed")["visits"] == 1
        assert first.ready()


def test_two_processes_with_one_name_on_two_stores_run_and_are_exact(tmp_path: Path) -> None:
    quick = {"SYNC_INTERVAL": "0.3"}
    with ready(Node(tmp_path / "1", "twin", settings=quick)) as first:
        peers = {"PEERS": first.url} | quick
        with ready(Node(tmp_path / "2", "twin", settings=peers)) as second:
            for node, times in ((first, 3), (second, 4)):
                for _ in range(times):
                    fetch(node.url, "/video/twins")
            for node in (first, second):

                def exact(node: Node = node) -> bool:
                    return bool(fetch(node.url, "/count/twins")["visits"] == 7)

                until(exact, 5, "both are exact")
                counts = fetch(node.url, "/count/twins")["counts"]
                assert sorted(counts.values()) == [3, 4]
                assert {member.partition("~")[0] for member in counts} == {"twin"}

                def warned(node: Node = node) -> bool:
                    return any("'twin'" in each for each in fetch(node.url, "/cluster")["warnings"])

                until(warned, 5, "the cluster page warns")


def test_a_name_is_minted_once_and_kept_in_the_store(tmp_path: Path) -> None:
    node, names = Node(tmp_path, ""), []
    for _ in range(2):
        with ready(node):
            names.append(fetch(node.url, "/cluster")["node"])
    assert names[0] == names[1]
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,32}", names[0])
