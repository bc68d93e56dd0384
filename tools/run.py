"""`make run`: three nodes on this machine, and nginx in front of them where it is installed."""

import argparse
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from lab.servers import ROOT, Nginx, Node, Server, StartError, find
from lab.terminal import foreground, say

NODE_PORTS = {"counter1": 1231, "counter2": 1232, "counter3": 1233}
BALANCER_PORT = 1234
START_TIMEOUT = 20.0
# Of the 5 s in which Ctrl-C must have stopped everything.
STOP_TIMEOUT = 4.0
FIRST = "life"
"""The video to open first: one with a clip."""


def main() -> int:
    """Run until SIGINT or SIGTERM; return the exit status."""
    argparse.ArgumentParser(prog="python -m tools.run", description=__doc__).parse_args()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: stop.set())
    with foreground():
        return _run(ROOT / "data", stop)


def _run(data: Path, stop: threading.Event) -> int:
    with_nginx = find("nginx") is not None
    for port in (*NODE_PORTS.values(), *([BALANCER_PORT] if with_nginx else [])):
        if not _is_free(port):
            say(
                f"port {port} is in use: stop what listens there"
                " (another `make run`, or `docker-compose up`?), then try again"
            )
            return 1
    nodes = [_node(data, name) for name in NODE_PORTS]
    backends = [f"127.0.0.1:{node.port}" for node in nodes]
    nginx = Nginx(data / "nginx", backends, BALANCER_PORT)
    for number, node in enumerate(nodes if with_nginx else (), 1):
        node.settings["VISIT_LOG"] = str(nginx.visit_log(number))
    servers: list[Server] = [*nodes]
    try:
        for node in nodes:
            say(f"starting {node.name} ...")
            node.launch()
        for node in nodes:
            _await(node, stop)
        if with_nginx and not stop.is_set():
            say("starting nginx ...")
            servers.insert(0, nginx)
            nginx.start(START_TIMEOUT)
        if not stop.is_set():
            _announce(nodes, with_nginx)
            _watch(servers, stop)
    except StartError as error:
        say(str(error))
        return 1
    finally:
        _stop(servers)
    return 0


def _node(data: Path, name: str) -> Node:
    peers = (port for other, port in NODE_PORTS.items() if other != name)
    settings = {
        "PEERS": ",".join(f"http://127.0.0.1:{port}" for port in peers),
        "DEV_MODE": "1",
        # As any node has it: `make traffic` has 200 videos.
        "NEW_VIDEOS": "100",
        # The one that tests use is known to everybody.
        "WRITE_TOKEN": os.environ.get("WRITE_TOKEN", ""),
        # Nobody is waited for on this machine: nginx stops first.
        "DRAIN_TIME": "0.2",
    }
    return Node(data / name, name, NODE_PORTS[name], settings)


def _await(node: Node, stop: threading.Event) -> None:
    # Ctrl-C ends the waiting too.
    node.wait_until(lambda: stop.is_set() or node.ready(), "was not ready", START_TIMEOUT)


def _announce(nodes: Sequence[Node], with_nginx: bool) -> None:
    say("")
    for node in nodes:
        say(f"{node.name}   {node.url}/          log: {_short(node.log)}")
    if with_nginx:
        say(f"all nodes  http://127.0.0.1:{BALANCER_PORT}/          through nginx")
    else:
        say(f"no nginx on this machine, so port {BALANCER_PORT} stays empty")
    port = BALANCER_PORT if with_nginx else next(iter(NODE_PORTS.values()))
    say("")
    say(f"Open http://127.0.0.1:{port}/video/{FIRST} in two windows, or run `make traffic`.")
    say("The cluster, with a tour in four steps: count, cut a node off, count on, heal it:")
    say(f"  http://127.0.0.1:{port}/cluster?video={FIRST}")
    say("Ctrl-C stops; the counts stay in data/.")


def _watch(servers: Sequence[Server], stop: threading.Event) -> None:
    running = list(servers)
    while not stop.wait(0.2):
        for server in list(running):
            status = server.status()
            if status is not None:
                running.remove(server)
                say(f"{server.name} ended with status {status}: {server.tail(1)}")
                say(f"  the others go on; log: {_short(server.log)}")


def _stop(servers: Sequence[Server]) -> None:
    if any(server.running() for server in servers):
        say("\nstopping ...")
    deadline = time.monotonic() + STOP_TIMEOUT
    for server in servers:
        server.terminate()
    for server in servers:
        ran = server.running()
        status = server.stop(max(0.0, deadline - time.monotonic()))
        if ran and status:
            say(f"{server.name} ended with status {status}; log: {_short(server.log)}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # What a server does too: a port that only old connections linger on is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT))


if __name__ == "__main__":
    sys.exit(main())
