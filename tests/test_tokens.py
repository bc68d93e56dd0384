"""Tokens and secrets: how they are given, what they allow, and that nobody else sees them."""

from pathlib import Path

import pytest
from flask import Flask, request

from counter.config import Config, ConfigError
from counter.setting_files import IN_FILES
from counter.tokens import Token, label_of, parse_tokens
from counter.web.problems import Problem
from counter.web.tokens import Tokens

SECRET = "hunter2hunter2"


def test_a_list_of_tokens_has_a_label_for_each() -> None:
    tokens = parse_tokens("hunter2-1, ops:hunter2-2 ,ops:hunter2-3", "write")
    assert tokens == (
        Token("write", "hunter2-1"),
        Token("ops", "hunter2-2"),
        Token("ops", "hunter2-3"),
    )
    assert "hunter2" not in repr(tokens)
    assert label_of(tokens, b"hunter2-1") == "write"
    assert label_of(tokens, b"hunter2-3") == "ops"
    for other in (b"", b"hunter2-", b"hunter2-4", b"ops:hunter2-2", "hunter2-é".encode()):
        assert label_of(tokens, other) is None


def test_every_token_is_compared_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the time that a refusal takes says nothing of a secret, or of which token is close."""
    compared = []

    def compare(given: bytes, secret: bytes) -> bool:
        compared.append(secret)
        return given == secret

    monkeypatch.setattr("counter.tokens.hmac.compare_digest", compare)
    assert label_of(parse_tokens("a:hunter2-1,b:hunter2-2", ""), b"hunter2-1") == "a"
    assert compared == [b"hunter2-1", b"hunter2-2"]


CONFIG = Config(admin_token="boss:hunter2-1,hunter2-é", write_token="hunter2-3,job:hunter2-4")


def label(config: Config, authorization: str | None) -> str | None:
    headers = {} if authorization is None else {"Authorization": authorization}
    with Flask(__name__).test_request_context("/", headers=headers):
        return Tokens(config).label_of(request)


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        (None, None),
        ("Basic aHVudGVyMjpodW50ZXIy", None),
        ("Bearer ", None),
        ("Bearer hunter2-1", "boss"),
        ("bearer  hunter2-1 ", "boss"),
        ("Bearer hunter2-é".encode().decode("latin-1"), "admin"),
        ("Bearer hunter2-3", "write"),
        ("Bearer hunter2-4", "job"),
    ],
)
def test_a_request_has_the_label_of_its_token(
    authorization: str | None, expected: str | None
) -> None:
    assert label(CONFIG, authorization) == expected


@pytest.mark.parametrize("secret", ["hunter2-5", "job:hunter2-4", "hunter2-", "\xff"])
def test_a_token_that_a_node_does_not_know_is_a_401(secret: str) -> None:
    """Taken for none it would change what a key belongs to, and a retry would count twice."""
    with pytest.raises(Problem) as refused:
        label(CONFIG, f"Bearer {secret}")
    assert refused.value.status == 401
    assert label(Config(), f"Bearer {secret}") is None, "a node without tokens ignores it"


def test_a_writer_is_no_operator() -> None:
    for secret, allowed in (("hunter2-1", True), ("hunter2-4", False), ("", False)):
        headers = {"Authorization": f"Bearer {secret}"}
        with Flask(__name__).test_request_context("/", headers=headers):
            if allowed:
                Tokens(CONFIG).check_admin(request)
            else:
                with pytest.raises(Problem) as refused:
                    Tokens(CONFIG).check_admin(request)
                assert refused.value.status == 401


def test_a_writers_secret_may_not_be_an_operators() -> None:
    with pytest.raises(ConfigError, match="WRITE_TOKEN has a secret of ADMIN_TOKEN") as refused:
        Config.from_environ({"ADMIN_TOKEN": f"a:{SECRET}", "WRITE_TOKEN": f"b:{SECRET}"})
    assert SECRET not in str(refused.value)


VALUES = {
    "CLUSTER_SECRET": SECRET,
    "ADMIN_TOKEN": f"ops:{SECRET}",
    "WRITE_TOKEN": SECRET,
    "REDIS_URI": f"redis://:{SECRET}@localhost:6379/0",
    "AMQP_URI": f"amqp://user:{SECRET}@localhost:5672/%2F",
}


@pytest.mark.parametrize("setting", IN_FILES)
def test_a_secret_may_be_in_a_file(setting: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    named = {f"{setting}_FILE": str(file), "NAME": "counter1"}
    given = Config.from_environ({setting: VALUES[setting], "NAME": "counter1"})
    for end in ("", "\n"):
        file.write_text(VALUES[setting] + end)
        assert Config.from_environ(named) == given
        assert Config.from_environ({setting: "", **named}) == given
    assert "hunter2" not in repr(given)

    def refusal(**more: str) -> str:
        with pytest.raises(ConfigError) as refused:
            Config.from_environ({**named, **more})
        sentence = str(refused.value)
        assert sentence.startswith(f"{setting}_FILE")
        assert "hunter2" not in sentence
        return sentence

    assert f"and {setting} are both set" in refusal(**{setting: VALUES[setting]})
    file.write_text("\n")
    assert "is empty; write the value into it" in refusal()
    file.write_bytes(VALUES[setting].encode() + b"\r\n")
    assert "line ends of Unix" in refusal()
    file.write_bytes(VALUES[setting].encode() + b"\xff")
    assert "UTF-8" in refusal()
    file.write_text("hunter2" if setting.endswith(("SECRET", "TOKEN")) else "ftp://hunter2")
    assert f"{setting}" in refusal()
    file.write_text("x" * 100_000)
    assert "more than 65536 bytes" in refusal()
    file.unlink()
    assert "cannot be read (No such file or directory)" in refusal()
    assert "cannot be read (Is a directory)" in refusal(**{f"{setting}_FILE": str(tmp_path)})
