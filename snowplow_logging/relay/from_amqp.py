"""A queue of RabbitMQ as a relay reads it."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from snowplow_logging.brokers.amqp_client import AMQPConnection, amqp_error, options_of
from snowplow_logging.delivery.waiting import clock
from snowplow_logging.relay.stream_queue import SUSPECT, Message

if TYPE_CHECKING:
    from snowplow_logging.brokers.urls import BrokerURL

__all__ = ["AMQPStream"]

_TIMEOUT: Final = 10.0  # seconds that an answer is waited for
_CONNECT_TIMEOUT: Final = 3.05  # seconds
_PREFETCH: Final = 100  # messages that the broker sends ahead of their acknowledgement


class _Key:
    """A message that was delivered on a connection, and on that alone can be acknowledged."""

    def __init__(self, connection: AMQPConnection, tag: int, body: bytes, deliveries: int) -> None:
        self.connection = connection
        self.tag = tag
        # What is delivered often is published anew at the end, so its body is kept.
        self.body = body if deliveries >= SUSPECT else None


class AMQPStream:
    """Consumes the messages of a queue.

    What was delivered and not acknowledged is anybody's as soon as the connection is closed. It is
    one message at first, and while they come that were delivered several times already: one of
    them may be what ended the relays before, and the others should not count as such.

    Args:
        broker: Which server.
        name: The queue.

    Raises:
        ImportError: The extra is not installed.
        ValueError: The URL makes no sense.
    """

    redelivers: Final = True
    most_bytes: Final = None
    keep_interval: Final = 5.0

    def __init__(self, broker: BrokerURL, name: str) -> None:
        self._broker = broker
        options_of(self._broker)
        self._name = name
        self._letters_name = f"{name}-dead-letter"
        self.shown = f"{self._broker.shown}#{name}"
        self._connection: AMQPConnection | None = None
        self._come: deque[Message] = deque()  # delivered by the broker, and not read yet
        self._consumer = ""
        self._prefetch = 1
        self._beside: dict[str, AMQPConnection] = {}  # for the lag, and for dead letters
        self._beside_lock = threading.Lock()

    def _new_connection(self) -> AMQPConnection:
        return AMQPConnection(self._broker, _CONNECT_TIMEOUT, _TIMEOUT)

    @contextlib.contextmanager
    def _aside(self, what: str) -> Any:
        """Give a connection beside the one that consumes."""
        # Who asks for the lag while another waits for a broker that hangs is told so at once.
        if not self._beside_lock.acquire(timeout=_TIMEOUT):
            raise ConnectionError("the broker does not answer")
        try:
            connection = self._beside.pop(what, None)
            if connection is None or not connection.is_well():
                connection = self._new_connection()
            try:
                yield connection
            except BaseException:
                connection.drop()
                raise
            self._beside[what] = connection
        finally:
            self._beside_lock.release()

    def keep_letter(self, field: str, data: bytes, reason: str) -> None:
        """Append a dead letter beside the stream."""
        del field  # the body tells
        with self._aside("letters") as connection:
            connection.declare(self._letters_name)
            connection.publish(self._letters_name, data, {"reason": reason})

    def backlog(self) -> dict[str, float]:
        """Return how many messages are in the queue, without those that relays have taken."""
        with self._aside("lag") as connection:
            return {"messages": float(connection.count(self._name))}

    # What the queue asks for.

    def open(self) -> list[str]:
        """Connect, make the queue if it is missing, and have messages sent."""
        self._drop()
        connection = self._connection = self._new_connection()
        connection.declare(self._name, self._letters_name)
        self._consume(1)
        return []

    def _consume(self, prefetch: int) -> None:
        connection = self._connection
        assert connection is not None  # noqa: S101 - it was opened
        if self._consumer:
            connection.channel.basic_cancel(self._consumer)
        self._prefetch = prefetch
        connection.channel.basic_qos(0, prefetch, False)  # noqa: FBT003 - py-amqp's own order
        self._consumer = connection.channel.basic_consume(
            self._name, no_ack=False, callback=self._arrive, on_cancel=self._cancelled
        )

    def _arrive(self, message: Any) -> None:
        body = bytes(message.body or b"")  # a text where there is none
        headers = message.headers if isinstance(message.headers, dict) else {}
        count = headers.get("x-delivery-count", 0)
        deliveries = count + 1 if isinstance(count, int) else 1
        connection = self._connection
        assert connection is not None  # noqa: S101 - it is the one that calls
        key = _Key(connection, message.delivery_tag, body, deliveries)
        self._come.append(Message(key, body, deliveries))

    @staticmethod
    def _cancelled(_consumer: str) -> None:
        raise ConnectionError("the queue was removed")

    def read(self, most: int, seconds: float) -> list[Message]:
        """Return what was delivered."""
        connection = self._connection
        assert connection is not None  # noqa: S101 - it was opened
        until = clock.now() + seconds
        while not self._come and (left := until - clock.now()) > 0:
            connection.drain(left)
        while self._come and len(self._come) < most and connection.drain(0):
            pass
        if not self._come:
            connection.heartbeat()
        found = [self._come.popleft() for _ in range(min(most, len(self._come)))]
        if found and self._prefetch == 1 and found[-1].deliveries < SUSPECT:
            self._consume(_PREFETCH)
        return found

    def keep(self, keys: Sequence[Any]) -> None:  # noqa: ARG002 - the connection keeps them all
        """Say that this relay lives."""
        if self._connection is not None:
            self._connection.say_alive()

    def acknowledge(self, keys: Sequence[Any]) -> None:
        """Acknowledge messages; those of a connection that is gone are delivered again."""
        connection = self._connection
        if connection is not None:
            for key in keys:
                if key.connection is connection:
                    connection.channel.basic_ack(key.tag)

    def release(self, keys: Sequence[Any]) -> None:
        """Publish anew what was delivered often; the rest is anybody's when this is closed.

        The broker counts each delivery, also those that end well, and sets aside what it has
        delivered too often. This end is none that such a message has caused.
        """
        connection = self._connection
        if connection is None:
            return
        connection.channel.basic_cancel(self._consumer)  # after which no more comes
        self._consumer = ""
        mine = [*keys, *(message.key for message in self._come)]
        self._come.clear()
        for key in mine:
            if key.connection is connection and key.body is not None:
                connection.publish(self._name, key.body)
                connection.channel.basic_ack(key.tag)

    def describe(self, error: Exception) -> str:
        """Say what went wrong, without a secret."""
        return amqp_error(self._broker, error)

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self._drop()
        if self._beside_lock.acquire(blocking=False):  # else somebody waits with one of them
            try:
                for connection in self._beside.values():
                    connection.close()
                self._beside.clear()
            finally:
                self._beside_lock.release()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop()
        self._come.clear()
        self._consumer = ""
