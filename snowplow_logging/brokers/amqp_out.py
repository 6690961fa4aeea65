"""RabbitMQ as the place where batches go: a message of a queue each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from snowplow_logging.brokers.amqp_client import (
    AMQPConnection,
    amqp_error,
    needs_mending,
    options_of,
)
from snowplow_logging.brokers.this_process import OfThisProcess

if TYPE_CHECKING:
    from snowplow_logging.brokers.urls import BrokerURL

__all__ = ["AMQPPublisher"]


class AMQPPublisher:
    """Publishes messages to a queue of RabbitMQ.

    Args:
        broker: Which server.
        name: The queue.
        timeouts: The seconds to wait for a connection, and for an answer.

    Raises:
        ImportError: The extra is not installed.
        ValueError: The URL makes no sense.
    """

    most_bytes: Final = None

    def __init__(
        self, broker: BrokerURL, name: str, timeouts: tuple[float | None, float | None]
    ) -> None:
        options_of(broker)
        self._broker, self._name, self._timeouts = broker, name, timeouts
        # A connection is one thread's at a time; who publishes takes one out, and puts it back.
        self._idle = OfThisProcess[list[AMQPConnection]](list)

    def publish(self, message: bytes, at_most: float | None) -> None:
        """Publish a message, and wait until the broker confirms it."""
        connect, read = self._timeouts
        if at_most is not None:
            least = max(at_most, 0.001)
            connect, read = min(connect or least, least), min(read or least, least)
        connection = self._connection(connect, read)
        try:
            connection.wait_at_most(read)
            connection.declare(self._name, f"{self._name}-dead-letter")
            connection.publish(self._name, message)
        except BaseException:  # an interrupt as well, which may have left it amid an answer
            connection.drop()
            raise
        self._idle.get().append(connection)

    def _connection(self, connect: float | None, read: float | None) -> AMQPConnection:
        while True:
            try:
                connection = self._idle.get().pop()
            except IndexError:
                return AMQPConnection(self._broker, connect, read)
            # What came while it lay idle says so if the broker has closed it.
            if connection.is_well():
                return connection

    def is_too_large(self, error: Exception, message: bytes) -> bool:  # noqa: ARG002 - see Publisher
        """Return False: a message may have 16 MB, or more."""
        return False

    def needs_mending(self, error: Exception) -> bool:
        """Tell whether an error is likely to last until the user mends something."""
        return needs_mending(error)

    def describe(self, error: Exception) -> str:
        """Say what went wrong, without a secret."""
        return amqp_error(self._broker, error)

    def after_fork(self) -> None:
        """Leave the connections to the parent."""
        self._idle.after_fork()

    def close(self) -> None:
        """Close the connections; the next message opens new ones."""
        for connection in self._idle.take() or ():
            connection.close()
