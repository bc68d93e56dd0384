"""Our commands beside Flask's own: they are listed first, and need no settings of a server."""

import platform
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner

from counter import __version__
from counter.cli import COMMANDS
from lab.clients import fetch
from lab.servers import ROOT, Node
from tests.test_http import flask

BAD = {
    "NAME": "a b",
    "ACK": "perhaps",
    "ADMIN_TOKEN": "short",
    "CLUSTER_SECRET": "x",
    "LISTEN_PORT": "abc",
    "PEERS": "nowhere",
    "REDIS_URI": "rubbish",
}
"""Settings that no node starts with."""


@pytest.mark.parametrize("settings", [{}, BAD], ids=["no settings", "bad settings"])
def test_our_groups_stand_first_in_the_help(settings: dict[str, str]) -> None:
    done = flask("--help", **settings)
    assert (done.returncode, done.stderr) == (0, "")
    _, _, commands = done.stdout.partition("\nCommands:\n")
    listed = [line.split()[0] for line in commands.splitlines()]
    assert listed == ["cluster", "visits", "routes", "run", "shell"]


@pytest.mark.parametrize("group", COMMANDS, ids=lambda group: group.name)
def test_each_group_tells_the_version(group: object) -> None:
    done = CliRunner().invoke(group, ["--version"])  # type: ignore[arg-type]
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        f"Visit counter {__version__}",
        f"Flask {version('flask')}",
        f"Python {platform.python_version()}",
    ]


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__


def test_with_bad_settings_the_status_of_an_address_is_shown(node: Node) -> None:
    done = flask("cluster", "status", "--url", node.url, **BAD)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{node.name} is ready; ")


def test_with_bad_settings_a_file_is_imported_to_an_address(node: Node, tmp_path: Path) -> None:
    file = tmp_path / "visits.txt"
    file.write_text("from-a-file\n" * 3)
    done = flask("visits", "import", str(file), "--url", node.url, **BAD)
    assert (done.returncode, done.stderr) == (0, "")
    assert fetch(node.url, "/count/from-a-file")["visits"] == 3


def test_with_bad_settings_flasks_own_commands_end_with_one_sentence() -> None:
    done = flask("routes", ADMIN_TOKEN="short")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ADMIN_TOKEN: ")
    assert len(done.stderr.splitlines()) == 1


ASKED = {
    "cluster": (["status"], ["remove", "a~b", "--token", "only-for-tests", "--yes"]),
    "visits": (["import", "README.md"],),
}


@pytest.mark.parametrize(
    "address",
    ["nonsense", "http://", "http://a:b", "http://a:99999", "http://a:0", "http://[::1",
     "http://a b", "http://a\r", "ftp://a"],
)  # fmt: skip
def test_what_is_no_address_is_refused_in_one_sentence(address: str) -> None:
    for group in COMMANDS:
        for arguments in ASKED[str(group.name)]:
            done = CliRunner().invoke(group, [*arguments, "--url", address])
            assert done.exit_code == 1, done
            assert done.stderr == (
                f"Error: --url {address!r} is not an address; write --url http://HOST:PORT\n"
            )


@pytest.mark.parametrize("port", ["abc", "99999", "80\r"])
def test_a_default_address_that_is_none_names_the_setting(port: str) -> None:
    for group in COMMANDS:
        for arguments in ASKED[str(group.name)]:
            done = CliRunner().invoke(group, arguments, env={"LISTEN_PORT": port})
            assert done.exit_code == 1, done
            assert done.stderr == (
                f"Error: LISTEN_PORT={port!r} is no port; write --url http://HOST:PORT\n"
            )
