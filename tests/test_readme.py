"""The README's commands print what it says, on three real nodes."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.clients import fetch, until
from lab.servers import ROOT, WRITE_TOKEN, Node
from tests.nodes import mesh

ADMIN = "only-for-operators"
PAGES = ("README.md", "docs/reference.md")


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Node]]:
    with mesh(tmp_path, 3, ADMIN_TOKEN=ADMIN) as nodes:
        yield nodes


def examples() -> list[tuple[str, str]]:
    """Each `curl` of the pages with what it prints; ids of stores are any."""
    found = []
    for page in PAGES:
        text = (ROOT / page).read_text()
        for block in re.findall(r"^```console\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            lines = block.splitlines()
            found += list(zip(lines[::2], lines[1::2], strict=True))
    return found


def same(printed: str) -> str:
    """What is printed, with any store, and any id and time of a record, in the place of each."""
    record = re.sub(r'"id":"[0-9a-f]{32}","at":[0-9]{13}', '"id":ID,"at":TIME', printed.strip())
    return re.sub(r"~[0-9a-z]{13}", "~STORE", record)


def agree(nodes: list[Node]) -> bool:
    """Say whether all nodes show the same counters."""
    first, *others = (
        [
            counter["counts"]
            for counter in fetch(node.url, "/counts?video=cats&video=dogs")["counters"]
        ]
        for node in nodes
    )
    return all(other == first for other in others)


def test_the_commands_print_what_the_pages_say(nodes: list[Node]) -> None:
    commands = examples()
    assert len(commands) == 12
    for command, printed in commands:
        token = ADMIN if "/corrections" in command else WRITE_TOKEN
        here = re.sub(
            r"127\.0\.0\.1:123([123])\b",
            lambda found: f"127.0.0.1:{nodes[int(found[1]) - 1].port}",
            command.removeprefix("$ ").replace("SECRET", token),
        )
        words = shlex.split(here)
        assert words[0] == "curl"
        done = subprocess.run(
            ["curl", "-s", *words[1:]], capture_output=True, text=True, timeout=20, check=True
        )
        assert same(done.stdout) == same(printed), command
        until(lambda: agree(nodes), 10, "all nodes show the same")
