"""A network of replicas in virtual time, whose losses each test decides."""

from collections import deque
from collections.abc import Callable

from counter.ids import encode_id, mint_run
from counter.messages import MAX_BYTES, Ask, Body, Envelope, encode
from counter.replica import Effects, Replica
from counter.tally import Tally

TTL = 4.0
"""`MESSAGE_TTL` of every replica, in seconds."""


class Network:
    """Replicas, their stores (which never fail), and the messages between them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.nodes: dict[str, Replica] = {}
        self.sent: list[tuple[str, str, Body]] = []
        self._under_way: deque[tuple[str, str, Body]] = deque()
        self.lose: Callable[[str, str, Body], bool] = lambda _source, _target, _body: False

    def node(self, name: str, *, has_peers: bool = True, run: int = 0) -> Replica:
        store = encode_id(sum(map(ord, name)), 13)
        replica = Replica(
            f"{name}~{store}.{mint_run(run, '', 7)}",
            Tally(),
            self.now,
            sync_interval=1.0,
            join_timeout=5.0,
            message_ttl=TTL,
            has_peers=has_peers,
        )
        replica.all_loaded()
        self.nodes[name] = replica
        return replica

    def visit(self, replica: Replica, *videos: str) -> None:
        for video in videos:
            replica.visit(video)
        replica.stored(replica.batch(1000))

    def do(self, source: str, effects: Effects) -> None:
        """Deliver at once and in order, with everything that follows from it."""
        self._post(source, effects)
        while self._under_way:
            self.deliver(*self._under_way.popleft())

    def _post(self, source: str, effects: Effects) -> None:
        for body in effects.broadcast:
            everybody = [target for target in self.nodes if target != source]
            self._under_way.extend((source, target, body) for target in everybody)
        self._under_way.extend((source, target, body) for target, body in effects.send)

    def deliver(self, source: str, target: str, body: Body) -> None:
        self.sent.append((source, target, body))
        if target not in self.nodes or self.lose(source, target, body):
            return
        envelope = Envelope(self.id_of(source), source, 0, body)
        assert len(encode(envelope, "a secret")) <= MAX_BYTES
        self._post(target, self.nodes[target].receive(envelope, self.now))

    def id_of(self, name: str) -> str:
        return self.nodes[name].id

    def publish(self, name: str) -> None:
        self.do(name, Effects(broadcast=list(self.nodes[name].publish())))

    def second(self) -> None:
        """A second passes: everybody publishes and reports."""
        self.now += 1.0
        for name in list(self.nodes):
            self.publish(name)
            self.do(name, self.nodes[name].sync(self.now))

    def seconds(self, number: int) -> None:
        for _ in range(number):
            self.second()

    def asks(self) -> list[tuple[str, str]]:
        return [(source, target) for source, target, body in self.sent if isinstance(body, Ask)]
