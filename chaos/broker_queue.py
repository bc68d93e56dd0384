"""A node's queue at the broker, filled from outside until the broker drops messages from it."""

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self, cast

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError

from counter.crdt.ids import name_of
from counter.protocol.messages import MAX_BYTES, RejectedError, decode
from counter.transport.rabbitmq import EXCHANGE
from lab.servers import RabbitMQ

_DROPPED = "chaos.dropped"
"""The exchange that gets the messages which the broker drops from the nodes' queues."""
_FOR_EVER = 10**15
_PREFETCHED = 60
"""Messages that the broker prefetches to a node; only those behind them can be dropped."""
_JUNK = bytes(2 * MAX_BYTES)
_JUNK_AT_ONCE = 80


def report_drops(broker: RabbitMQ) -> None:
    """Make the broker report what it drops from the nodes' queues; this survives its kills."""
    pattern = r"^amq\.gen"  # names that the broker chose
    definition = f'{{"dead-letter-exchange": "{_DROPPED}"}}'
    broker.control("set_policy", "--apply-to", "queues", "dropped", pattern, definition)


class BrokerQueues:
    """A connection to a broker that reports its drops; belongs to one thread."""

    def __init__(self, uri: str, seconds: float) -> None:
        """Each step may take `seconds`; then it raises TimeoutError."""
        parameters = pika.URLParameters(uri)
        parameters.socket_timeout = parameters.blocked_connection_timeout = seconds
        parameters.heartbeat = 0
        self._seconds = seconds
        self._connection = pika.BlockingConnection(parameters)
        self._channel = self._connection.channel()
        self._channel.exchange_declare(_DROPPED, "fanout", durable=True)
        self.dropped = 0
        """How many messages of nodes the broker has dropped since `fill`."""

    def queue_of(self, name: str) -> str:
        """Return the queue of the node of this name, read from its next message."""
        addresses: list[str] = []

        def heard(
            channel: BlockingChannel,
            method: pika.spec.Basic.Deliver,
            properties: pika.spec.BasicProperties,
            body: bytes,
        ) -> None:
            del channel, method
            with suppress(RejectedError):
                envelope = decode(body, None, 0, _FOR_EVER)
                # Not the address in the envelope: the node may not have known it yet.
                if name_of(envelope.sender) == name and properties.reply_to:
                    addresses.append(properties.reply_to)

        queue = self._bind(EXCHANGE)
        self._channel.basic_consume(queue, heard, auto_ack=True)
        self._until(lambda: bool(addresses), f"a message from {name}")
        self._channel.queue_delete(queue)
        return addresses[-1]

    def fill(self, queue: str, messages: int) -> None:
        """Fill the queue of a frozen node until so many messages of other nodes are dropped.

        The broker reports each, and that the queue's length was the reason, not the age.
        """

        def fell(
            channel: BlockingChannel,
            method: pika.spec.Basic.Deliver,
            properties: pika.spec.BasicProperties,
            body: bytes,
        ) -> None:
            del channel, method, body
            # Untyped in the protocol: one table for each reason and queue, the newest first.
            deaths = cast(list[dict[str, Any]], (properties.headers or {}).get("x-death", []))
            if properties.reply_to and any(
                death["reason"] == "maxlen" and death["queue"] == queue for death in deaths
            ):
                self.dropped += 1

        watching = self._bind(_DROPPED)
        self._channel.basic_consume(watching, fell, auto_ack=True)
        for _ in range(_PREFETCHED):
            self._channel.basic_publish("", queue, b"junk")
        # Lets the nodes send something; not so long that it expires.
        self._connection.sleep(1.0)
        enough = self.dropped + messages

        def overflowing() -> bool:
            for _ in range(_JUNK_AT_ONCE):
                self._channel.basic_publish("", queue, _JUNK)
            return self._full(enough)

        self._until(overflowing, f"{queue} overflows")
        self._channel.queue_delete(watching)

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + self._seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {self._seconds:g} s: {what}")
            self._connection.process_data_events(time_limit=0.05)

    def _full(self, enough: int) -> bool:
        deadline = time.monotonic() + 0.5
        while self.dropped < enough and time.monotonic() < deadline:
            self._connection.process_data_events(time_limit=0.05)
        return self.dropped >= enough

    def _bind(self, exchange: str) -> str:
        # Named here, because the policy is for queues that the broker has named.
        queue = f"chaos.{secrets.token_hex(8)}"
        self._channel.queue_declare(queue, exclusive=True)
        self._channel.queue_bind(queue, exchange)
        return queue

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(AMQPError):
            self._connection.close()
