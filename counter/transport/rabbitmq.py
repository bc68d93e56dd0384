"""The RabbitMQ transport: one fanout exchange for all, and one queue for each process.

One thread owns the connection in both directions, because a pika connection belongs to the thread
that made it. Other threads leave messages in a bounded queue and wake it; only the wake-up goes
through pika's own queue, which is unbounded.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError, ConnectionWrongStateError

from counter import tls
from counter.backoff import backoff
from counter.passwords import without_password
from counter.transport.contract import Receive
from counter.transport.rabbitmq_errors import refusal

log = logging.getLogger("counter.transport")

EXCHANGE = "counter"
_QUEUE_BYTES = 16 * 1024 * 1024
_PREFETCH = 50
_WAITING = 256
"""Messages that wait to go out. The oldest is dropped for one more; later ones replace it."""
_STARTING = 10.0
"""Seconds after the start in which a broker may come up and still end a node that it refuses."""
_SAY_AGAIN = 60.0
"""Seconds between two log lines about a broker that cannot be reached or refuses."""


class RabbitmqTransport:
    """Connects to a RabbitMQ broker (3.10 or newer) at an AMQP URI."""

    kind = "rabbitmq"

    def __init__(
        self, uri: str, message_ttl: float, refused: Callable[[str], None] = lambda _: None
    ) -> None:
        """Messages wait in a queue of the broker for at most `message_ttl` seconds.

        `refused` is called, once, with a sentence, if the broker refuses for good at the start.
        """
        self.problem = ""
        self._refused = refused
        # Whether this broker was found to be usable, or not, at the start.
        self._decided = False
        self._began = self._said = 0.0
        self._uri = uri
        self._ttl_ms = int(message_ttl * 1000)
        self._parameters = pika.URLParameters(tls.without_ca(uri)[0])
        if context := tls.context_of(uri):
            self._parameters.ssl_options = pika.SSLOptions(context, self._parameters.host)
        self._where = f"{self._parameters.host}:{self._parameters.port}"
        self._parameters.heartbeat = 10
        self._parameters.blocked_connection_timeout = 5
        self._parameters.socket_timeout = 2
        self._parameters.stack_timeout = 4
        self._waiting: deque[tuple[str, bytes]] = deque(maxlen=_WAITING)
        self._stopping = Event()
        self._connection: pika.BlockingConnection | None = None
        self._queue = ""
        self._woken = False
        self._thread: Thread | None = None

    @property
    def address(self) -> str:
        """See `Transport.address`: the name of the queue of this process."""
        return self._queue

    @property
    def up(self) -> bool:
        """See `Transport.up`."""
        return bool(self._queue)

    def start(self, receive: Receive, connected: Callable[[], None]) -> None:
        """See `Transport.start`."""
        # pika logs every failed try ten times; `_run` logs it once.
        logging.getLogger("pika").setLevel(logging.CRITICAL)
        self._thread = Thread(
            target=self._run, args=(receive, connected), name="rabbitmq", daemon=True
        )
        self._thread.start()

    def broadcast(self, message: bytes) -> None:
        """See `Transport.broadcast`."""
        self.send("", message)

    def send(self, address: str, message: bytes) -> None:
        """See `Transport.send`; the empty address means all nodes."""
        if self.up:
            self._waiting.append((address, message))
            self._wake()

    def stop(self) -> None:
        """See `Transport.stop`."""
        self._stopping.set()
        self._wake()
        if self._thread is not None:
            self._thread.join(3.0)

    def _wake(self) -> None:
        connection = self._connection
        if connection is not None and not self._woken:
            self._woken = True
            try:
                connection.add_callback_threadsafe(self._awake)
            except ConnectionWrongStateError:
                self._woken = False

    def _awake(self) -> None:
        self._woken = False

    def _run(self, receive: Receive, connected: Callable[[], None]) -> None:
        tries = 0
        self._began = time.monotonic()
        while not self._stopping.is_set():
            failure: Exception | None = None
            try:
                self._connection = pika.BlockingConnection(self._parameters)
                channel = self._declare(receive)
                tries, self.problem, self._decided = 0, "", True
                connected()
                self._exchange_messages(channel)
            except (AMQPError, AMQPConnectorException, OSError) as error:
                failure = error
            except Exception:
                log.exception("transport.failed kind=rabbitmq")
            finally:
                self._disconnect()
            if failure is not None:
                self._note(failure, tries)
            tries += 1
            self._stopping.wait(backoff(tries))

    def _note(self, error: Exception, tries: int) -> None:
        """Log a failure the first time, then once a minute; a refusal at the start is for good."""
        now, before = time.monotonic(), self.problem
        to = self._parameters
        user, encrypted = getattr(to.credentials, "username", ""), to.ssl_options is not None
        said = without_password(str(error), self._uri)
        self.problem = refusal(error, said, self._where, user, to.virtual_host, encrypted=encrypted)
        if tries == 0 or self.problem != before or now - self._said >= _SAY_AGAIN:
            self._said = now
            what = self.problem or f"{type(error).__name__} {said}".strip()
            log.warning("transport.down kind=rabbitmq address=%s error=%r", self._where, what)
        if self.problem and not self._decided:
            if tries == 0 or now - self._began < _STARTING:
                self._refused(self.problem)
            self._decided = True

    def _declare(self, receive: Receive) -> BlockingChannel:
        assert self._connection is not None
        channel = self._connection.channel()
        channel.basic_qos(prefetch_count=_PREFETCH)
        channel.exchange_declare(EXCHANGE, "fanout", durable=True)
        self._check_writing(self._connection)
        declared = channel.queue_declare(
            "",
            exclusive=True,
            auto_delete=True,
            arguments={
                "x-max-length-bytes": _QUEUE_BYTES,
                "x-overflow": "drop-head",
                "x-message-ttl": self._ttl_ms,
            },
        )
        queue = declared.method.queue
        channel.queue_bind(queue, EXCHANGE)

        def on_message(
            channel: BlockingChannel,
            method: pika.spec.Basic.Deliver,
            properties: pika.spec.BasicProperties,
            body: bytes,
        ) -> None:
            if properties.reply_to != queue:  # not an echo of its own broadcast
                receive(body)
            channel.basic_ack(method.delivery_tag or 0)

        channel.basic_consume(queue, on_message)
        self._woken = False
        self._queue = queue
        return channel

    def _check_writing(self, connection: pika.BlockingConnection) -> None:
        """Raise what the broker says if this user may not send to all nodes, or to one.

        It checks each message, but says so only later. What is rolled back reaches nobody.
        """
        channel = connection.channel()
        channel.tx_select()
        for exchange in (EXCHANGE, ""):
            channel.basic_publish(exchange, "", b"")
        channel.tx_rollback()
        channel.close()

    def _exchange_messages(self, channel: BlockingChannel) -> None:
        assert self._connection is not None
        properties = pika.BasicProperties(reply_to=self._queue)
        while True:
            while self._waiting:
                address, message = self._waiting.popleft()
                exchange = "" if address else EXCHANGE
                channel.basic_publish(exchange, address, message, properties)
            if self._stopping.is_set():
                return
            self._connection.process_data_events(time_limit=1.0)

    def _disconnect(self) -> None:
        self._queue = ""
        self._waiting.clear()
        connection, self._connection = self._connection, None
        if connection is not None and connection.is_open:
            with suppress(AMQPError, OSError):
                connection.close()
