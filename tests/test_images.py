"""The container images: which versions they name, and that their checks ask this machine itself."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from lab.clients import fetch, until
from lab.servers import ROOT, Node, free_port

DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = (ROOT / "docker-compose.yml").read_text()
NOWHERE = "http://127.0.0.1:9"
PROXIES = {
    name: NOWHERE
    for each in ("http_proxy", "https_proxy", "all_proxy")
    for name in (each, each.upper())
}
"""A proxy that does not answer."""


class Image(NamedTuple):
    """An image's name, and the numbers of its version."""

    name: str
    version: tuple[int, ...]
    tag: str


def images() -> dict[str, Image]:
    balancer = (ROOT / "balancer/Dockerfile").read_text()
    named = re.findall(
        r"^\s*(?:FROM|image:) (\S+):(\S+)", "\n".join((DOCKERFILE, balancer, COMPOSE)), re.MULTILINE
    )
    found = {}
    for name, tag in named:
        numbers = re.match(r"[0-9.]*", tag)
        assert numbers is not None
        found[name] = Image(name, tuple(map(int, filter(None, numbers[0].split(".")))), tag)
    return found


def test_images_are_of_versions_that_are_maintained() -> None:
    found = images()
    assert found.keys() == {"python", "nginx", "redis", "rabbitmq"}
    assert found["python"].version >= (3, 13)
    assert found["rabbitmq"].version >= (4,)
    assert "management" in found["rabbitmq"].tag
    assert found["redis"].version >= (8,)
    assert found["nginx"].tag.startswith("stable")


def test_our_own_images_run_confined() -> None:
    confined = COMPOSE[COMPOSE.index("x-confined: &confined") :].partition("\n\n")[0]
    for line in ("read_only: true", "cap_drop: [ALL]", 'security_opt: ["no-new-privileges:true"]'):
        assert f"\n  {line}\n" in confined
    own = [
        part
        for part in re.split(r"\n(?=x-|  \w+:\n)", COMPOSE)
        if "\n    build:" in part or "\n  build:" in part
    ]
    assert len(own) == 2
    for service in own:
        assert "<<: *confined" in service
        assert "mem_limit:" in service
    for file, user in (("Dockerfile", "counter"), ("balancer/Dockerfile", "nginx")):
        assert re.findall(r"^USER (.*)$", (ROOT / file).read_text(), re.MULTILINE) == [user]
    assert "HEALTHCHECK" in DOCKERFILE
    assert re.search(r"  balancer:\n(?:    .*\n)*    healthcheck:", COMPOSE)


def test_what_counts_is_set_beside_the_file() -> None:
    defaults = {"BOTS": "crawlers", "REPEAT_WINDOW": "0", "VIEWERS": "off", "VIEWERS_KEEP": "90"}
    for name, default in defaults.items():
        assert f'\n  {name}: "${{{name}:-{default}}}"\n' in COMPOSE


def test_only_nginx_is_reached_from_other_machines() -> None:
    published = re.findall(r'ports: \["([^"]+)"\]', COMPOSE)
    assert [port for port in published if not port.startswith("127.0.0.1:")] == ["1234:1234"]
    assert len(published) == 6


@pytest.mark.nodes(1)
@pytest.mark.parametrize("port", ["set", "empty"])
def test_the_check_of_the_image_asks_no_proxy(node: Node, port: str) -> None:
    check = re.search(r"HEALTHCHECK[^\[]*(\[.*\])", DOCKERFILE)
    assert check is not None
    _, *arguments = json.loads(check[1])
    if port == "empty":
        arguments = [each.replace("1234", str(node.port)) for each in arguments]
    settings = {"LISTEN_PORT": str(node.port) if port == "set" else ""}
    done = subprocess.run(
        [sys.executable, *arguments], env=PROXIES | settings, capture_output=True, timeout=20
    )
    assert done.returncode == 0, done.stderr
    settings = {"LISTEN_PORT": str(free_port())}
    if port == "set":
        done = subprocess.run(
            [sys.executable, *arguments], env=settings, capture_output=True, timeout=20
        )
        assert done.returncode == 1


def test_the_check_of_the_balancer_asks_no_proxy(tmp_path: Path) -> None:
    check = re.search(r'test: (\["CMD", .*"wget".*\])', COMPOSE)
    assert check is not None
    _, *command = json.loads(check[1])
    wget = tmp_path / "wget"
    # What wget itself would do with the variable, whichever of the two it is.
    wget.write_text('#!/bin/sh\n[ -z "$http_proxy" ]\n')
    wget.chmod(0o755)
    done = subprocess.run(
        command,
        env=PROXIES | {"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [["cluster", "status"], ["visits", "import", "FILE"]])
def test_no_command_asks_a_proxy_for_a_node(node: Node, tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "FILE").write_text("cats\n")
    arguments = [each if each != "FILE" else str(tmp_path / each) for each in command]
    done = subprocess.run(
        [sys.executable, "-m", "flask", *arguments, "--url", node.url],
        cwd=ROOT, env=PROXIES, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_nodes_reach_each_other_where_a_proxy_is_set(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    peers = ",".join(f"http://127.0.0.1:{port}" for port in ports)
    settings = {"PEERS": peers, "DRAIN_TIME": "0", **PROXIES}
    with (
        Node(tmp_path / "1", "counter1", ports[0], settings) as first,
        Node(tmp_path / "2", "counter2", ports[1], settings) as second,
    ):
        first.wait_ready()
        second.wait_ready()
        assert fetch(first.url, "/video/cats")["visits"] == 1
        until(lambda: fetch(second.url, "/count/cats")["visits"] == 1, 10, "the other hears of it")
