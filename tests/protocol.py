"""A network of replicas in virtual time, whose losses each test decides."""

from collections import Counter, deque
from collections.abc import Callable

from counter.crdt.ids import encode_id, mint_run
from counter.crdt.tally import Tally
from counter.protocol.effects import Effects
from counter.protocol.key_log import Key
from counter.protocol.members import encode_fact
from counter.protocol.messages import MAX_BYTES, Body, Envelope, RepairRequest, encode
from counter.protocol.replica import Replica

TTL = 4.0
"""`MESSAGE_TTL` of every replica, in seconds."""
FOLD_AFTER = 0.0
"""`FOLD_AFTER` of every replica, in seconds."""


def print_of(videos: str) -> bytes:
    """The fingerprint of a request for visits of these videos."""
    return videos.encode().ljust(16, b" ")[:16]


def alone(replica: str) -> Replica:
    """A replica that has nobody to hear, with the times of a node."""
    return Replica(
        replica,
        Tally(),
        0.0,
        sync_interval=1.0,
        join_timeout=5.0,
        message_ttl=30.0,
        fold_after=86_400.0,
        has_peers=False,
    )


class Network:
    """Replicas, their stores (which never fail), and the messages between them."""

    def __init__(self, fold_after: float = FOLD_AFTER) -> None:
        self.now = 0.0
        self.fold_after = fold_after
        self.nodes: dict[str, Replica] = {}
        self.sent: list[tuple[str, str, Body]] = []
        self._under_way: deque[tuple[str, str, Body, str]] = deque()
        self.lose: Callable[[str, str, Body], bool] = lambda _source, _target, _body: False

    def node(
        self,
        name: str,
        *,
        has_peers: bool = True,
        run: int = 0,
        kind: type[Replica] = Replica,
        notes: dict[str, str] | None = None,
    ) -> Replica:
        """Start a node; `notes` are what its store holds of earlier runs, beside counts."""
        store = encode_id(sum(map(ord, name)), 13)
        id_ = f"{name}~{store}.{mint_run(run, '', 7)}"
        replica = self.replica(id_, has_peers=has_peers, kind=kind)
        replica.recovery.opened([], notes or {})
        replica.recovery.all_loaded()
        self.nodes[name] = replica
        return replica

    def replica(
        self, replica: str, *, has_peers: bool = True, kind: type[Replica] = Replica
    ) -> Replica:
        """A run of this id, which is to load its store."""
        return kind(
            replica,
            Tally(),
            self.now,
            sync_interval=1.0,
            join_timeout=5.0,
            message_ttl=TTL,
            fold_after=self.fold_after,
            has_peers=has_peers,
        )

    def visit(self, replica: Replica, *videos: str) -> None:
        for video in videos:
            replica.visit(video)
        replica.stored(replica.batch(1000))

    def post(self, name: str, key: str, videos: str = "cats", *, stored: bool = True) -> str:
        """Ask a node to count visits under a key, as `Node.visits` does; say what it found."""
        replica = self.nodes[name]
        found = replica.keys.find(key, self.now)
        if found is not None:
            return found.place if found.fingerprint == print_of(videos) else "another request"
        counts = Counter(videos.split())
        replica.count_many(counts, key=Key(key, print_of(videos), self.now))
        if stored:
            replica.stored(replica.batch(1000))
            self.publish(name)
        return "counted"

    def do(self, source: str, effects: Effects, run: str = "") -> None:
        """Deliver at once and in order, with everything that follows from it.

        `run` is the earlier run of the source that tells it, if it is not the present one.
        """
        self._post(source, effects, run)
        while self._under_way:
            self.deliver(*self._under_way.popleft())

    def _post(self, source: str, effects: Effects, run: str = "") -> None:
        for body in effects.broadcast:
            everybody = [target for target in self.nodes if target != source]
            self._under_way.extend((source, target, body, run) for target in everybody)
        self._under_way.extend((source, target, body, "") for target, body in effects.send)

    def deliver(self, source: str, target: str, body: Body, run: str = "") -> None:
        self.sent.append((source, target, body))
        if target not in self.nodes or self.lose(source, target, body):
            return
        envelope = Envelope(run or self.id_of(source), source, 0, body)
        assert len(encode(envelope, "a secret")) <= MAX_BYTES
        self._post(target, self.nodes[target].receive(envelope, self.now))

    def id_of(self, name: str) -> str:
        return self.nodes[name].id

    def publish(self, name: str) -> None:
        replica = self.nodes[name]
        keys = replica.keys.publish(self.now)
        self.do(name, Effects(broadcast=[*keys]))
        for run, delta in replica.publish():
            self.do(name, Effects(broadcast=[delta]), run)

    def second(self) -> None:
        """A second passes: everybody publishes and reports."""
        self.now += 1.0
        for name in list(self.nodes):
            self.publish(name)
            self.do(name, self.nodes[name].sync(self.now))

    def seconds(self, number: int) -> None:
        for _ in range(number):
            self.second()

    def live(self, seconds: int) -> None:
        """Seconds pass, and everybody's store takes what there is to write."""
        for _ in range(seconds):
            self.second()
            for name in list(self.nodes):
                self.flush(name)

    def flush(self, name: str) -> None:
        """The store of a node takes everything; the node goes on as a new run if it is time."""
        replica = self.nodes[name]
        while replica.unsaved():
            if replica.needs_new_run:
                latest = replica.members.latest(replica.member)
                replica.start_new_run(mint_run(int(self.now * 1000), latest, 5), self.now)
            replica.stored(replica.batch(1000))

    def restart(self, name: str, run: int, unstored: str = "") -> Replica:
        """End a run as a kill does, and start another on the same store.

        `unstored` is a vector of which nothing had been written yet.
        """
        old = self.nodes[name]
        new = self.node(name, run=run)
        facts = {member: encode_fact(old.members.latest(member), "", "") for member in old.members}
        held = [(vector, videos) for vector, videos in old.tally.vectors() if vector != unstored]
        new.recovery.opened([vector for vector, _ in held], facts)
        for vector, videos in held:
            new.recovery.loaded(vector, {video: old.tally.count(vector, video) for video in videos})
        new.recovery.all_loaded()
        return new

    def asks(self) -> list[tuple[str, str]]:
        return [
            (source, target)
            for source, target, body in self.sent
            if isinstance(body, RepairRequest)
        ]
