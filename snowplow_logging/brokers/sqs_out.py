"""SQS as the place where batches go: a message of a queue each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from snowplow_logging.brokers.sqs_client import (
    LARGEST,
    is_too_large,
    needs_mending,
    new_client,
    queue_url,
    sqs_error,
    text_of,
)
from snowplow_logging.brokers.this_process import OfThisProcess

if TYPE_CHECKING:
    from snowplow_logging.brokers.urls import BrokerURL

__all__ = ["SQSPublisher"]


class SQSPublisher:
    """Sends messages to a queue of SQS.

    Args:
        broker: Which server.
        name: The queue.
        timeouts: The seconds to wait for a connection, and for an answer.

    Raises:
        ImportError: The extra is not installed.
        ValueError: The URL makes no sense.
    """

    most_bytes: Final = LARGEST

    def __init__(
        self, broker: BrokerURL, name: str, timeouts: tuple[float | None, float | None]
    ) -> None:
        self._broker, self._name, self._timeouts = broker, name, timeouts
        self._client = OfThisProcess[Any](lambda: new_client(broker, *timeouts))
        self._client.get()  # which opens nothing yet
        self._queue: str | None = None

    def publish(self, message: bytes, at_most: float | None) -> None:
        """Send a message; the queue has it once the server answers."""
        connect, read = self._timeouts
        if at_most is None or at_most >= min(read or at_most + 1, 3_600):
            self._send(self._client.get(), message)
            return
        least = max(at_most, 0.001)
        client = new_client(self._broker, min(connect or least, least), least)
        try:
            self._send(client, message)
        finally:
            client.close()

    def _send(self, client: Any, message: bytes) -> None:
        try:
            queue = self._queue = self._queue or queue_url(client, self._name)
            client.send_message(QueueUrl=queue, MessageBody=text_of(message))
        except BaseException:
            self._queue = None  # which may have been removed
            raise

    def is_too_large(self, error: Exception, message: bytes) -> bool:
        """Tell whether an error says that a message is too large."""
        return is_too_large(error, len(message))

    def needs_mending(self, error: Exception) -> bool:
        """Tell whether an error is likely to last until the user mends something."""
        return needs_mending(error)

    def describe(self, error: Exception) -> str:
        """Say what went wrong, without a secret."""
        return sqs_error(self._broker, error)

    def after_fork(self) -> None:
        """Leave the connections to the parent."""
        self._client.after_fork()

    def close(self) -> None:
        """Close the connections; the next message opens new ones."""
        if (client := self._client.take()) is not None:
            client.close()
