"""A cluster of real processes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from lab.proxy import Proxy
from lab.servers import TOLD, Nginx, Node, RabbitMQ, Redis, Server, free_port


def start(stack: ExitStack, servers: Iterable[Server], *, killed: bool = False) -> None:
    """Start servers side by side, nodes until they are ready; the stack stops or kills them.

    Raises `StartError`.
    """
    servers = list(servers)

    def end() -> None:
        for server in servers:
            server.kill() if killed else server.terminate()
        for server in servers:
            server.stop()

    stack.callback(end)
    for server in servers:
        server.launch()
    for server in servers:
        server.wait()
        if isinstance(server, Node):
            server.wait_ready()


class Cluster:
    """Nodes named counter1, counter2, ..., and what they stand on; the stack stops or kills them.

    `stores` names the store of each, `sqlite` or `redis`; the latter share one Redis. They know
    each other by `PEERS`, or meet at a broker; with `proxied` each through a proxy of its own.
    A `redis` or `broker` that is given runs already, and is left running. `known` is how many
    addresses each is told, of the first nodes, if not all.
    `settings` are those of all nodes, `own` those of each. `nginx` is what stands in front of
    them, if anything; with `follows` each follows the log that it writes for it. `make` makes a
    node of a folder, a name, a port and settings.
    """

    def __init__(
        self,
        folder: Path,
        stack: ExitStack,
        stores: Sequence[str] = ("sqlite", "sqlite", "sqlite"),
        *,
        transport: str = "mesh",
        redis: Redis | None = None,
        broker: RabbitMQ | None = None,
        proxied: bool = False,
        known: int | None = None,
        settings: Mapping[str, str] | None = None,
        own: Sequence[Mapping[str, str]] = (),
        nginx: type[Nginx] | None = None,
        follows: bool = False,
        make: Callable[[Path, str, int, Mapping[str, str]], Node] = Node,
        killed: bool = False,
    ) -> None:
        """Start everything. Raises `StartError`."""
        self.folder = folder
        self.redis, self.broker = redis, broker
        if redis is None and "redis" in stores:
            self.redis = stack.enter_context(Redis(folder / "redis"))
        if broker is None and transport == "rabbitmq":
            self.broker = stack.enter_context(RabbitMQ(folder / "rabbitmq"))
        self.proxies: list[Proxy] = []
        ports = [free_port() for _ in stores]
        peers = ",".join(f"http://127.0.0.1:{port}" for port in ports[:known])
        backends = [f"127.0.0.1:{port}" for port in ports]
        balancer = nginx(folder / "nginx", backends) if nginx else None
        if balancer is not None:
            told = {name: each for name, each in (settings or {}).items() if name in TOLD}
            balancer.settings |= told
        self.nodes: list[Node] = []
        for number, (port, store) in enumerate(zip(ports, stores, strict=True), 1):
            one = dict(settings or {})
            if self.broker is not None:
                one["AMQP_URI"] = self.broker.uri
                if proxied:
                    proxy = stack.enter_context(Proxy(self.broker.port))
                    self.proxies.append(proxy)
                    direct = f":{self.broker.port}/"
                    one["AMQP_URI"] = self.broker.uri.replace(direct, f":{proxy.port}/")
            elif len(ports) > 1:
                one["PEERS"] = peers
            if self.redis is not None and store == "redis":
                one["REDIS_URI"] = self.redis.uri
            if balancer is not None and follows:
                one["VISIT_LOG"] = str(balancer.visit_log(number))
            one |= own[number - 1] if own else {}
            name = one.get("NAME", f"counter{number}")
            self.nodes.append(make(folder / name, name, port, one))
        self.urls = [node.url for node in self.nodes]
        start(stack, self.nodes, killed=killed)
        if balancer is not None:
            start(stack, [balancer])
        self._nginx = balancer

    @property
    def nginx(self) -> Nginx:
        """What stands in front of the nodes."""
        assert self._nginx is not None, "this cluster was started without nginx"
        return self._nginx


def complaints(nodes: Iterable[Node]) -> list[str]:
    """Return what nodes have logged that no fault excuses: tracebacks, and deaths of threads."""
    return [
        f"{node.name}: {line}"
        for node in nodes
        for line in node.log.read_text(errors="replace").splitlines()
        if "Traceback" in line or "thread.died" in line
    ]
