"""A cluster of real processes."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from lab.proxy import Proxy
from lab.servers import Nginx, Node, RabbitMQ, Redis, Server, free_port


def start(stack: ExitStack, servers: Iterable[Server]) -> None:
    """Start servers side by side, nodes until they are ready; the stack stops them.

    Raises `StartError`.
    """
    servers = list(servers)

    def stop() -> None:
        for server in servers:
            server.terminate()
        for server in servers:
            server.stop()

    stack.callback(stop)
    for server in servers:
        server.launch()
    for server in servers:
        server.wait()
        if isinstance(server, Node):
            server.wait_ready()


class Cluster:
    """Nodes named counter1, counter2, ..., and what they stand on; the stack stops them.

    `stores` names the store of each, `sqlite` or `redis`; the latter share one Redis. They know
    each other by `PEERS`, or meet at a broker; with `proxied` each through a proxy of its own.
    `settings` are those of all nodes, `own` those of each. `nginx` is what stands in front of
    them, if anything; with `follows` each follows the log that it writes for it.
    """

    def __init__(
        self,
        folder: Path,
        stack: ExitStack,
        stores: Sequence[str] = ("sqlite", "sqlite", "sqlite"),
        *,
        transport: str = "mesh",
        proxied: bool = False,
        settings: Mapping[str, str] | None = None,
        own: Sequence[Mapping[str, str]] = (),
        nginx: type[Nginx] | None = None,
        follows: bool = False,
    ) -> None:
        """Start everything. Raises `StartError`."""
        self.redis = Redis(folder / "redis") if "redis" in stores else None
        self.broker = RabbitMQ(folder / "rabbitmq") if transport == "rabbitmq" else None
        start(stack, [server for server in (self.redis, self.broker) if server])
        self.proxies: list[Proxy] = []
        ports = [free_port() for _ in stores]
        peers = ",".join(f"http://127.0.0.1:{port}" for port in ports)
        balancer = nginx(folder / "nginx", [f"127.0.0.1:{p}" for p in ports]) if nginx else None
        self.nodes: list[Node] = []
        for number, (port, store) in enumerate(zip(ports, stores, strict=True), 1):
            name = f"counter{number}"
            one = dict(settings or {})
            if self.broker is None:
                one["PEERS"] = peers
            else:
                one["AMQP_URI"] = self.broker.uri
                if proxied:
                    proxy = stack.enter_context(Proxy(self.broker.port))
                    self.proxies.append(proxy)
                    direct = f":{self.broker.port}/"
                    one["AMQP_URI"] = self.broker.uri.replace(direct, f":{proxy.port}/")
            if self.redis is not None and store == "redis":
                one["REDIS_URI"] = self.redis.uri
            if balancer is not None and follows:
                one["VISIT_LOG"] = str(balancer.visit_log(number))
            one |= own[number - 1] if own else {}
            self.nodes.append(Node(folder / name, name, port, one))
        self.urls = [node.url for node in self.nodes]
        start(stack, self.nodes)
        if balancer is not None:
            start(stack, [balancer])
        self._nginx = balancer

    @property
    def nginx(self) -> Nginx:
        """What stands in front of the nodes."""
        assert self._nginx is not None, "this cluster was started without nginx"
        return self._nginx
