"""The contract of every transport, and what is special about each."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker

from counter.backoff import backoff
from counter.protocol.messages import MAX_BYTES
from counter.transport import mesh
from counter.transport.contract import Transport
from counter.transport.hub import Hub, HubTransport
from counter.transport.mesh import MeshTransport
from counter.transport.rabbitmq import RabbitmqTransport
from lab.clients import STRETCH, until
from lab.servers import RabbitMQ, free_port

HELLO = b"hello, are you there?"


class Station:
    """A transport, and what came in there."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.hellos = 0
        self.connects = 0
        self.received: list[bytes] = []
        self.delay: Callable[[], object] = lambda: None

    def start(self) -> None:
        self.transport.start(self._receive, self._connected)

    def _receive(self, message: bytes) -> None:
        if message.startswith(HELLO):
            self.hellos += 1
        else:
            self.delay()
            self.received.append(message)

    def _connected(self) -> None:
        self.connects += 1

    def has(self, *messages: bytes) -> bool:
        assert self.received == list(messages)
        return True


class Net:
    """Stations on one network, which can be broken."""

    # Whether a transport can tell that nobody is there.
    tells = True

    def __init__(self) -> None:
        self.stack = ExitStack()
        self.stations: list[Station] = []

    def __enter__(self) -> "Net":
        return self

    def __exit__(self, *_: object) -> None:
        self.thaw()
        self.stack.close()

    def make(self, how_many: int) -> list[Station]:
        """Stations that are not started."""
        raise NotImplementedError

    def connect(self, how_many: int) -> list[Station]:
        """Stations that hear each other, each of them every other."""
        for station in self.make(how_many):
            self.stack.callback(station.transport.stop)
            station.start()
            self.stations.append(station)
        self.wait()
        return self.stations

    def wait(self, seconds: float = 10) -> float:
        """Wait until every station hears every other; return how many seconds it took."""
        start = time.monotonic()
        for station in self.stations:
            for other in self.stations:
                other.hellos = 0
            heard = [other for other in self.stations if other is not station]

            def all_heard(station: Station = station, heard: list[Station] = heard) -> bool:
                station.transport.broadcast(HELLO)
                return station.transport.up and all(other.hellos for other in heard)

            until(all_heard, seconds, "all others hear a broadcast")
        return time.monotonic() - start

    def interrupt(self) -> None:
        """Nothing sent by the first station gets to any other, and it can find out."""
        raise NotImplementedError

    def restore(self) -> None:
        """Make `interrupt` undone."""
        raise NotImplementedError

    def freeze(self) -> None:
        """Let whatever the first station is connected to keep the connection, and be silent."""

    def thaw(self) -> None:
        """Make `freeze` undone."""


class HubNet(Net):
    tells = False

    def __init__(self) -> None:
        super().__init__()
        self.hub = Hub()

    def make(self, how_many: int) -> list[Station]:
        return [Station(self.hub.transport(f"node {number}")) for number in range(how_many)]

    def interrupt(self) -> None:
        self.hub.link = lambda _source, _destination: False

    def restore(self) -> None:
        self.hub.link = lambda _source, _destination: True


class MeshServer:
    """Does what a node's /mesh does, for one transport; can be stopped, started and frozen."""

    def __init__(self, transport: MeshTransport, port: int) -> None:
        self.transport = transport
        self.port = port
        self.goes = threading.Event()
        self.goes.set()
        self.posts = 0
        self._server: ThreadingHTTPServer | None = None
        self._connections: set[socket.socket] = set()

    def start(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                outer._connections.add(self.request)
                super().setup()

            def finish(self) -> None:
                outer._connections.discard(self.request)
                super().finish()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.goes.wait()
                if outer._server is None:
                    self.close_connection = True
                    return
                assert self.path == "/mesh"
                assert self.headers["Content-Type"] == "application/octet-stream"
                outer.posts += 1
                outer.transport.take(body)
                with suppress(OSError):
                    self.send_response(204)
                    for name, value in outer.transport.headers.items():
                        self.send_header(name, value)
                    self.end_headers()

            def handle(self) -> None:
                with suppress(OSError):
                    super().handle()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = False
            request_queue_size = 50

        self._server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name=f"serves {self.port}"
        ).start()

    def stop(self) -> None:
        server, self._server = self._server, None
        self.goes.set()
        if server is not None:
            server.shutdown()
            for connection in list(self._connections):
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            server.server_close()


class MeshNet(Net):
    def __init__(self) -> None:
        super().__init__()
        self.servers: list[MeshServer] = []

    def make(self, how_many: int) -> list[Station]:
        ports = [free_port() for _ in range(how_many)]
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        return [
            self.station(port, [peer for peer in urls if not peer.endswith(f":{port}")])
            for port in ports
        ]

    def station(self, port: int, peers: list[str], host: str = "127.0.0.1") -> Station:
        """A station that is not started, behind a server that is."""
        transport = MeshTransport(host, port, peers)
        server = MeshServer(transport, port)
        server.start()
        self.stack.callback(server.stop)
        self.servers.append(server)
        return Station(transport)

    def started(self, peers: list[str] | None = None, host: str = "127.0.0.1") -> Station:
        """One more station, by default with no peers."""
        station = self.station(free_port(), peers or [], host)
        self.stack.callback(station.transport.stop)
        station.start()
        self.stations.append(station)
        return station

    def interrupt(self) -> None:
        for server in self.servers[1:]:
            server.stop()

    def restore(self) -> None:
        for server in self.servers[1:]:
            server.start()

    def freeze(self) -> None:
        for server in self.servers[1:]:
            server.goes.clear()

    def thaw(self) -> None:
        for server in self.servers:
            server.goes.set()


class Proxy:
    """Passes connections on to a port; can be stopped and started in no time."""

    def __init__(self, to: int) -> None:
        self.port = free_port()
        self._to = to
        self._listener: socket.socket | None = None
        self._threads: list[threading.Thread] = []
        self._connections: list[socket.socket] = []

    def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._run(self._accept, self._listener)

    def stop(self) -> None:
        listener, self._listener = self._listener, None
        for each in [*self._connections, *([listener] if listener else [])]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in [*self._connections, *([listener] if listener else [])]:
            each.close()
        self._threads, self._connections = [], []

    def _run(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=work, args=arguments, name=f"proxy {self.port}")
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                outside, _ = listener.accept()
                self._connections.append(outside)
                try:
                    inside = socket.create_connection(("127.0.0.1", self._to))
                except OSError:
                    outside.shutdown(socket.SHUT_RDWR)
                    continue
                self._connections.append(inside)
                self._run(self._copy, outside, inside)
                self._run(self._copy, inside, outside)

    def _copy(self, source: socket.socket, destination: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                destination.sendall(piece)
        for each in (source, destination):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


class RabbitmqNet(Net):
    def __init__(self, broker: RabbitMQ) -> None:
        super().__init__()
        self.broker = broker
        self.proxy = Proxy(broker.port)
        self.proxy.start()
        self.stack.callback(self.proxy.stop)
        self.uri = f"amqp://guest:guest@127.0.0.1:{self.proxy.port}/%2F"

    def make(self, how_many: int) -> list[Station]:
        return [Station(RabbitmqTransport(self.uri, 30.0)) for _ in range(how_many)]

    def interrupt(self) -> None:
        self.proxy.stop()

    def restore(self) -> None:
        self.proxy.start()

    def freeze(self) -> None:
        self.broker.pause()

    def thaw(self) -> None:
        self.broker.resume()


@pytest.fixture(params=["hub", "mesh", "rabbitmq"])
def net(request: pytest.FixtureRequest) -> Iterator[Net]:
    with net_of(request.param, request) as net:
        yield net


@pytest.fixture(params=["mesh", "rabbitmq"])
def real_net(request: pytest.FixtureRequest) -> Iterator[Net]:
    with net_of(request.param, request) as net:
        yield net


def net_of(kind: str, request: pytest.FixtureRequest) -> Net:
    if kind == "hub":
        return HubNet()
    if kind == "mesh":
        return MeshNet()
    broker: RabbitMQ = request.getfixturevalue("rabbitmq_server")
    return RabbitmqNet(broker)


@pytest.fixture
def mesh_net() -> Iterator[MeshNet]:
    net = MeshNet()
    with net:
        yield net


@pytest.fixture
def rabbitmq_net(rabbitmq_server: RabbitMQ) -> Iterator[RabbitmqNet]:
    net = RabbitmqNet(rabbitmq_server)
    with net:
        yield net


def transport_threads() -> list[str]:
    return [
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith(("hub ", "mesh ", "rabbitmq"))
    ]


# -- the contract


@pytest.mark.parametrize(
    "message",
    [bytes(range(256)) * 3, b"\0", b"\r\n.\r\n", b"", bytes(MAX_BYTES), b"\xff" * MAX_BYTES],
    ids=["every byte", "a zero", "line ends", "nothing", "zeros", "the longest"],
)
def test_bytes_arrive_unaltered(net: Net, message: bytes) -> None:
    first, second = net.connect(2)
    first.transport.broadcast(message)
    until(lambda: second.has(message), 5, "the broadcast arrives")
    second.transport.send(first.transport.address, message)
    until(lambda: first.has(message), 5, "the answer arrives")
    assert all(type(came) is bytes for came in first.received + second.received)


def test_a_broadcast_reaches_every_other_and_not_oneself(net: Net) -> None:
    first, second, third = net.connect(3)
    for number, station in enumerate((first, second, third)):
        station.transport.broadcast(b"from %d" % number)
    until(lambda: sorted(first.received) == [b"from 1", b"from 2"], 5, "the first hears the others")
    until(lambda: sorted(second.received) == [b"from 0", b"from 2"], 5, "the second does")
    until(lambda: sorted(third.received) == [b"from 0", b"from 1"], 5, "the third does")


def test_what_is_sent_reaches_only_the_one_it_is_for(net: Net) -> None:
    first, second, third = net.connect(3)
    assert len({station.transport.address for station in net.stations} - {""}) == 3
    first.transport.send(third.transport.address, b"for the third")
    first.transport.broadcast(b"for all")
    until(lambda: third.has(b"for the third", b"for all"), 5, "the third has both")
    until(lambda: second.has(b"for all"), 5, "the second has one")
    assert first.received == []


def test_the_order_of_one_sender_is_kept_while_all_is_quiet(net: Net) -> None:
    first, second = net.connect(2)
    messages = [b"number %d" % number for number in range(200)]
    for number, message in enumerate(messages):
        if number % 3:
            first.transport.broadcast(message)
        else:
            first.transport.send(second.transport.address, message)
    until(lambda: second.has(*messages), 10, "all arrive in order")


def test_many_threads_may_send_at_once(net: Net) -> None:
    first, second = net.connect(2)
    broadcast: Callable[[bytes], object] = first.transport.broadcast
    threads = [
        threading.Thread(
            target=lambda name=name: [broadcast(b"%d %d" % (name, n)) for n in range(25)]
        )
        for name in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: len(second.received) == 200, 10, "all arrive")
    for name in range(8):
        mine = [message for message in second.received if message.startswith(b"%d " % name)]
        assert mine == [b"%d %d" % (name, number) for number in range(25)]


def test_up_is_false_before_the_start_and_after_the_stop(net: Net) -> None:
    first, second = net.make(2)
    assert not first.transport.up
    for station in (first, second):
        net.stack.callback(station.transport.stop)
        station.start()
        net.stations.append(station)
    net.wait()
    assert first.transport.up
    assert second.transport.up
    first.transport.stop()
    assert not first.transport.up


def test_sending_never_blocks_nor_raises_while_the_others_are_gone(net: Net) -> None:
    first, second = net.connect(2)
    address = second.transport.address
    net.interrupt()
    assert flood(first, address) < 2.0
    if net.tells:
        until(lambda: says_down(first), 5, "it is said to be down")
    assert flood(first, address) < 2.0
    net.restore()
    net.wait()
    assert first.transport.up
    first.transport.broadcast(b"the last one")
    until(lambda: second.received[-1:] == [b"the last one"], 5, "messages arrive again")


def says_down(station: Station) -> bool:
    station.transport.broadcast(HELLO)
    return not station.transport.up


def flood(station: Station, address: str) -> float:
    """Send 5,000 messages; return how many seconds that took."""
    start = time.monotonic()
    for number in range(2_500):
        station.transport.broadcast(b"%d" % number + bytes(1000))
        station.transport.send(address, b"%d" % number + bytes(1000))
    return time.monotonic() - start


def test_sending_never_blocks_nor_raises_while_the_other_side_is_frozen(real_net: Net) -> None:
    first, second = real_net.connect(2)
    real_net.freeze()
    assert flood(first, second.transport.address) < 2.0
    assert flood(first, second.transport.address) < 2.0
    real_net.thaw()
    real_net.wait()
    first.transport.broadcast(b"the last one")
    until(lambda: second.received[-1:] == [b"the last one"], 10, "messages arrive again")


def test_stop_is_prompt_also_when_the_other_side_is_frozen(real_net: Net) -> None:
    first, *_ = real_net.connect(4)
    real_net.freeze()
    first.transport.broadcast(bytes(1000))
    start = time.monotonic()
    first.transport.stop()
    assert time.monotonic() - start < 4.0 * STRETCH


def test_stop_is_prompt_and_leaves_no_thread(net: Net) -> None:
    net.connect(3)
    assert transport_threads()
    start = time.monotonic()
    for station in net.stations:
        station.transport.stop()
    assert time.monotonic() - start < 2.0 * STRETCH
    until(lambda: not transport_threads(), 1, "every thread has ended")
    for station in net.stations:
        station.transport.stop()
        station.transport.broadcast(b"to nobody")
        station.transport.send("http://127.0.0.1:1", b"to nobody")
    assert not transport_threads()


def test_stop_is_prompt_while_nobody_is_there(real_net: Net) -> None:
    first, second = real_net.connect(2)
    real_net.interrupt()
    until(lambda: says_down(first), 5, "it is said to be down")
    start = time.monotonic()
    first.transport.stop()
    second.transport.stop()
    assert time.monotonic() - start < 4.0 * STRETCH
    until(lambda: not transport_threads(), 1, "every thread has ended")


def test_what_waits_at_the_stop_is_sent_if_that_is_quick(real_net: Net) -> None:
    first, second = real_net.connect(2)
    messages = [b"%d" % number for number in range(50)]
    for message in messages:
        first.transport.broadcast(message)
    first.transport.stop()
    until(lambda: second.has(*messages), 5, "all that was waiting arrives")


def test_a_transport_that_was_never_started_can_be_stopped(net: Net) -> None:
    [station] = net.make(1)
    station.transport.broadcast(b"to nobody")
    station.transport.stop()
    station.transport.stop()


def test_it_reconnects_by_itself_and_says_so_every_time(real_net: Net) -> None:
    first, second = real_net.connect(2)
    assert first.connects >= 1
    before = first.connects
    real_net.interrupt()
    until(lambda: says_down(first), 5, "it is said to be down")
    real_net.restore()
    real_net.wait(5)
    until(lambda: first.connects == before + 1, 1, "the new connection was told of")
    second.transport.send(first.transport.address, b"to the address of now")
    until(lambda: first.has(b"to the address of now"), 5, "messages arrive again")


def test_one_that_starts_before_the_others_are_there_finds_them_later(real_net: Net) -> None:
    first, second = real_net.make(2)
    real_net.interrupt()
    for station in (first, second):
        real_net.stack.callback(station.transport.stop)
        station.start()
        real_net.stations.append(station)
    until(lambda: says_down(first), 5, "it is said to be down")
    real_net.restore()
    real_net.wait(5)


def test_a_slow_receiver_loses_neither_messages_nor_the_connection(net: Net) -> None:
    first, second = net.connect(2)
    never = threading.Event()
    second.delay = lambda: never.wait(0.05)
    connects = first.connects, second.connects
    messages = [b"%d" % number for number in range(20)]
    for message in messages:
        first.transport.broadcast(message)
    until(lambda: second.has(*messages), 10, "all arrive in order")
    assert (first.connects, second.connects) == connects


def test_what_comes_in_after_the_stop_is_not_handed_on(net: Net) -> None:
    first, second = net.connect(2)
    address = second.transport.address
    second.transport.stop()
    first.transport.send(address, b"too late")
    first.transport.broadcast(b"too late")
    first.transport.stop()
    assert second.received == []


def test_the_wait_before_a_try_grows_to_a_second_and_is_jittered() -> None:
    waits = [[backoff(tries) for _ in range(50)] for tries in (1, 2, 3, 20, 10_000)]
    assert all(0 < wait <= 1.0 for many in waits for wait in many)
    assert max(waits[0]) <= 0.1
    assert min(waits[-1]) >= 0.25
    assert all(len(set(many)) > 25 for many in waits)


# -- the hub


def test_the_owner_of_a_hub_decides_what_gets_through() -> None:
    hub = Hub(lambda source, destination: (source, destination) != ("a", "b"))
    stations = {name: Station(HubTransport(hub, name)) for name in "abc"}
    for station in stations.values():
        station.start()
    stations["a"].transport.broadcast(b"from a")
    stations["b"].transport.broadcast(b"from b")
    until(lambda: sorted(stations["c"].received) == [b"from a", b"from b"], 5, "c hears both")
    until(lambda: stations["a"].has(b"from b"), 5, "a hears b")
    for station in stations.values():
        station.transport.stop()
    assert stations["b"].received == []


# -- the mesh


def test_one_address_is_enough(mesh_net: MeshNet) -> None:
    first = mesh_net.started()
    second = mesh_net.started([first.transport.address])
    second.transport.broadcast(b"here I am")
    until(lambda: first.has(b"here I am"), 5, "the first hears the second")
    assert first.transport.up  # it has nobody to reach yet
    first.transport.broadcast(b"nobody known")
    first.transport.send(second.transport.address, b"welcome")
    until(lambda: second.has(b"welcome"), 5, "the answer arrives")
    first.transport.broadcast(b"a peer from now on")
    until(lambda: second.has(b"welcome", b"a peer from now on"), 5, "so does a broadcast")


def test_its_own_address_among_the_peers_is_ignored(mesh_net: MeshNet) -> None:
    port = free_port()
    own = [f"http://127.0.0.1:{port}", f"http://localhost:{port}/"]
    first = mesh_net.station(port, own)
    mesh_net.stack.callback(first.transport.stop)
    first.start()
    first.transport.broadcast(HELLO)
    until(lambda: not mesh_net_peers(first), 5, "it has recognised itself")
    posts = mesh_net.servers[0].posts
    second = mesh_net.started()
    first.transport.send(second.transport.address, b"one")
    first.transport.broadcast(b"two")
    until(lambda: second.has(b"one", b"two"), 5, "the real peer has both")
    assert first.received == []
    assert mesh_net.servers[0].posts == posts
    assert first.transport.up


def mesh_net_peers(station: Station) -> list[mesh.Outbox]:
    assert isinstance(station.transport, MeshTransport)
    return station.transport._peers()


def test_a_peer_under_two_addresses_gets_each_broadcast_once(mesh_net: MeshNet) -> None:
    second = mesh_net.started()
    port = mesh_net.servers[0].port
    first = mesh_net.started([f"http://localhost:{port}", f"http://127.0.0.1:{port}"])
    mesh_net.stations.remove(second)
    mesh_net.stations.append(second)
    first.transport.broadcast(HELLO)
    until(lambda: len(mesh_net_peers(first)) == 1, 5, "the two are found to be one")
    messages = [b"%d" % number for number in range(20)]
    for message in messages:
        first.transport.broadcast(message)
    until(lambda: second.has(*messages), 5, "each arrives once")
    first.transport.send(f"http://localhost:{port}", b"sent to the other address")
    until(lambda: second.has(*messages, b"sent to the other address"), 5, "that one counts, too")


def test_a_peer_is_reached_under_its_other_address_when_one_fails(mesh_net: MeshNet) -> None:
    second = mesh_net.started()
    way, other_way = mesh_net.servers[0], MeshServer(mesh_net.servers[0].transport, free_port())
    other_way.start()
    mesh_net.stack.callback(other_way.stop)
    addresses = [f"http://127.0.0.1:{server.port}" for server in (way, other_way)]
    first = mesh_net.started(addresses)
    first.transport.broadcast(HELLO)
    until(lambda: len(mesh_net_peers(first)) == 1, 5, "the two are found to be one")
    for closed, still_open in ((way, other_way), (other_way, way)):
        closed.stop()
        second.hellos = 0

        def heard() -> bool:
            first.transport.broadcast(HELLO)
            return second.hellos > 2

        until(heard, 5, f"the peer is reached on port {still_open.port}")
        assert first.transport.up
        closed.start()


def test_on_all_interfaces_the_address_is_learned_from_a_connection(mesh_net: MeshNet) -> None:
    second = mesh_net.started()
    first = mesh_net.started([second.transport.address], host="0.0.0.0")
    port = mesh_net.servers[1].port
    assert first.transport.address == ""
    first.transport.broadcast(HELLO)
    until(lambda: first.transport.address == f"http://127.0.0.1:{port}", 5, "it learns its address")
    second.transport.send(first.transport.address, b"an answer")
    until(lambda: first.has(b"an answer"), 5, "it can be reached there")


def test_a_peer_that_comes_back_as_another_process_is_told_of(mesh_net: MeshNet) -> None:
    second = mesh_net.started()
    first = mesh_net.started([second.transport.address])
    first.transport.broadcast(HELLO)
    until(lambda: first.connects == 2, 5, "start and first answer were told of")
    mesh_net.servers[0].stop()
    until(lambda: says_down(first), 5, "it is said to be down")
    third = mesh_net.station(mesh_net.servers[0].port, [])
    mesh_net.stack.callback(third.transport.stop)
    third.start()

    def heard() -> bool:
        first.transport.broadcast(b"again")
        return bool(third.received)

    until(heard, 5, "it is reached")
    until(lambda: first.connects == 3, 2, "that was told of")


def test_a_learned_address_that_stays_silent_is_forgotten(
    mesh_net: MeshNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh, "_FORGET", 0.2)
    configured = f"http://127.0.0.1:{free_port()}"
    first = mesh_net.started([configured])
    first.transport.send(f"http://127.0.0.1:{free_port()}", b"is anybody there?")
    assert len(mesh_net_peers(first)) == 2

    def forgotten() -> bool:
        first.transport.broadcast(b"nobody there")
        return [outbox.address for outbox in mesh_net_peers(first)] == [configured]

    until(forgotten, 10, "the learned one is forgotten, the configured one is not")


@pytest.mark.parametrize(
    "address",
    [
        "junk",
        "http://",
        "http://[::1",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:x",
        "http://a b/",
        "http://127.0.0.1:1\r\nX: y",
        "http://" + "ä" * 80,
        "http://..",
        "http://127.0.0.1:0",
    ],
)
def test_an_address_that_is_junk_does_no_harm(mesh_net: MeshNet, address: str) -> None:
    second = mesh_net.started()
    first = mesh_net.started([second.transport.address])
    for _ in range(3):
        first.transport.send(address, b"to nowhere")
        first.transport.broadcast(b"to everybody")
    until(lambda: len(second.received) == 3, 5, "the others are reached all the same")


def test_a_peer_that_refuses_is_not_up_and_is_tried_again(mesh_net: MeshNet) -> None:
    second = mesh_net.started()
    first = mesh_net.started([f"http://127.0.0.1:{mesh_net.servers[0].port}"])
    first.transport.broadcast(HELLO)
    until(lambda: first.transport.up and second.hellos, 5, "it is reached")
    answers = [b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"]
    mesh_net.servers[0].stop()
    with socket.create_server(("127.0.0.1", mesh_net.servers[0].port)) as listener:

        def serve() -> None:
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    while data := connection.recv(65536):
                        if b"end" in data:
                            return
                        connection.sendall(answers[0])

        thread = threading.Thread(target=serve)
        thread.start()
        until(lambda: says_down(first), 5, "a refusal is not being up")
        first.transport.broadcast(b"end")
        thread.join()
    mesh_net.servers[0].start()
    mesh_net.stations = [first]
    second.hellos = 0

    def heard() -> bool:
        first.transport.broadcast(HELLO)
        return second.hellos > 0

    until(heard, 5, "it is reached again")


# -- RabbitMQ


def test_a_killed_broker_is_found_again_when_it_is_back(rabbitmq_net: RabbitmqNet) -> None:
    first, second = rabbitmq_net.connect(2)
    connects = first.connects, second.connects
    broker = rabbitmq_net.broker
    broker.kill()
    try:
        until(lambda: says_down(first) and says_down(second), 5, "it is said to be down")
    finally:
        broker.start()
    rabbitmq_net.wait(5)
    assert (first.connects, second.connects) == (connects[0] + 1, connects[1] + 1)


def test_a_broker_that_hangs_while_one_connects_is_tried_again(
    rabbitmq_net: RabbitmqNet, caplog: pytest.LogCaptureFixture
) -> None:
    [station] = rabbitmq_net.make(1)
    rabbitmq_net.stack.callback(station.transport.stop)
    rabbitmq_net.freeze()
    station.start()
    until(lambda: "transport.down" in caplog.text, 10, "the first try fails")
    assert not station.transport.up
    rabbitmq_net.thaw()
    rabbitmq_net.stations = [station]
    rabbitmq_net.wait(5)


def test_a_queue_that_nobody_empties_is_bounded_and_keeps_the_newest(
    rabbitmq_net: RabbitmqNet,
) -> None:
    first, second = rabbitmq_net.connect(2)
    gate = threading.Event()
    second.delay = lambda: gate.wait(20)
    payload = bytes(MAX_BYTES - 16)
    for number in range(400):  # 50 MiB
        first.transport.broadcast(b"%016d" % number + payload)
        if number % 50 == 49:  # what waits here is bounded as well
            until(lambda: not first.transport._waiting, 10, "what waits goes out")  # type: ignore[attr-defined]
    first.transport.send(second.transport.address, b"the newest")
    # The broker has it once a message sent later has come back to the sender.
    third = RabbitmqTransport(rabbitmq_net.broker.uri, 30.0)
    rabbitmq_net.stack.callback(third.stop)
    watcher = Station(third)
    watcher.start()
    until(lambda: third.up, 5, "a third one is there")
    first.transport.send(third.address, b"later than that")
    until(lambda: b"later than that" in watcher.received, 10, "everything is with the broker")
    gate.set()
    until(lambda: second.received[-1:] == [b"the newest"], 20, "the newest arrives")
    assert 10 < len(second.received) < 300


def test_an_answer_to_a_queue_that_is_gone_does_no_harm(rabbitmq_net: RabbitmqNet) -> None:
    first, second = rabbitmq_net.connect(2)
    connects = first.connects
    for address in ("amq.gen-nobody", "counter", "no such queue", "x" * 200):
        first.transport.send(address, b"to nobody")
    first.transport.broadcast(b"to everybody")
    until(lambda: second.has(b"to everybody"), 5, "the others are reached all the same")
    assert first.connects == connects


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"-ERR unknown command\r\n",
        b"AMQP\0\0\x08\0",
        b"AMQP\3\1\0\0",
        b"\1\0\0\0\0\0\4junk\xce",
        b"\xff" * 5000,
        b"",
    ],
    ids=["HTTP", "Redis", "an old AMQP", "another AMQP", "a bad frame", "junk", "nothing"],
)
def test_what_is_no_broker_is_tried_again(answer: bytes, caplog: pytest.LogCaptureFixture) -> None:
    tries: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                greeting = connection.recv(4096)
                if greeting == b"end":
                    return
                tries.append(greeting)
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        port = listener.getsockname()[1]
        station = Station(RabbitmqTransport(f"amqp://guest:guest@127.0.0.1:{port}/%2F", 30.0))
        station.start()
        until(lambda: len(tries) > 2, 10, "it is tried again")
        station.transport.broadcast(b"to nobody")
        assert not station.transport.up
        assert station.connects == 0
        assert "Traceback" not in caplog.text
        station.transport.stop()
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"end")
        server.join()


def test_a_wrong_password_is_tried_again(
    rabbitmq_server: RabbitMQ, caplog: pytest.LogCaptureFixture
) -> None:
    station = Station(
        RabbitmqTransport(f"amqp://guest:wr0ng@127.0.0.1:{rabbitmq_server.port}/%2F", 30.0)
    )
    station.start()
    [thread] = [thread for thread in threading.enumerate() if thread.name == "rabbitmq"]
    until(lambda: "transport.down" in caplog.text, 10, "the first try fails")
    assert thread.is_alive()
    assert not station.transport.up
    assert "wr0ng" not in caplog.text
    start = time.monotonic()
    station.transport.stop()
    assert time.monotonic() - start < 4.0 * STRETCH


def test_a_queue_ends_with_its_process(rabbitmq_server: RabbitMQ) -> None:
    with RabbitmqNet(rabbitmq_server) as net:
        [station] = net.connect(1)
        queue = station.transport.address
        assert outcome_of_looking_up(rabbitmq_server, queue) == 405  # there, and somebody's own
        station.transport.stop()
        until(lambda: outcome_of_looking_up(rabbitmq_server, queue) == 404, 5, "the queue is gone")


def outcome_of_looking_up(broker: RabbitMQ, queue: str) -> int:
    connection = pika.BlockingConnection(pika.URLParameters(broker.uri))
    try:
        with pytest.raises(ChannelClosedByBroker) as closed:
            connection.channel().queue_declare(queue, passive=True)
        return int(closed.value.reply_code)
    finally:
        connection.close()
