"""The RabbitMQ transport: one fanout exchange for all, and one queue for each process.

One thread owns the connection in both directions, because a pika connection belongs to the thread
that made it. Other threads leave messages in a bounded queue and wake it; only the wake-up goes
through pika's own queue, which is unbounded.
"""

import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError, ConnectionWrongStateError

from counter.backoff import backoff
from counter.transport.contract import Receive

log = logging.getLogger("counter.transport")

EXCHANGE = "counter"
_QUEUE_BYTES = 16 * 1024 * 1024
_PREFETCH = 50
_WAITING = 256
"""Messages that wait to go out. The oldest is dropped for one more; later ones replace it."""


class RabbitmqTransport:
    """Connects to a RabbitMQ broker (3.10 or newer) at an AMQP URI."""

    kind = "rabbitmq"

    def __init__(self, uri: str, message_ttl: float) -> None:
        """Messages wait in a queue of the broker for at most `message_ttl` seconds."""
        self._ttl_ms = int(message_ttl * 1000)
        self._parameters = pika.URLParameters(uri)
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
        while not self._stopping.is_set():
            failure = ""
            try:
                self._connection = pika.BlockingConnection(self._parameters)
                channel = self._declare(receive)
                tries = 0
                connected()
                self._exchange_messages(channel)
            except (AMQPError, AMQPConnectorException, OSError) as error:
                failure = f"{type(error).__name__} {error}".strip()
            except Exception:
                log.exception("transport.failed kind=rabbitmq")
            finally:
                self._disconnect()
            if failure and tries == 0:
                log.warning("transport.down kind=rabbitmq error=%r", failure)
            tries += 1
            self._stopping.wait(backoff(tries))

    def _declare(self, receive: Receive) -> BlockingChannel:
        assert self._connection is not None
        channel = self._connection.channel()
        channel.basic_qos(prefetch_count=_PREFETCH)
        channel.exchange_declare(EXCHANGE, "fanout", durable=True)
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
