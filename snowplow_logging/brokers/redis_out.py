"""Redis as the place where batches go: an entry of a stream each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from snowplow_logging.brokers.redis_client import (
    check_url,
    needs_mending,
    new_client,
    redis_error,
)
from snowplow_logging.brokers.this_process import OfThisProcess

if TYPE_CHECKING:
    from snowplow_logging.brokers.urls import BrokerURL

__all__ = ["FIELD", "RedisPublisher"]

FIELD: Final = b"batch"
"""The field of an entry that holds the message."""


class RedisPublisher:
    """Appends messages to a stream of Redis.

    Args:
        broker: Which server.
        name: The stream.
        timeouts: The seconds to wait for a connection, and for an answer.

    Raises:
        ImportError: The extra is not installed.
        ValueError: The URL makes no sense.
    """

    most_bytes: Final = None

    def __init__(
        self, broker: BrokerURL, name: str, timeouts: tuple[float | None, float | None]
    ) -> None:
        check_url(broker)
        self._broker, self._name, self._timeouts = broker, name, timeouts
        self._client = OfThisProcess[Any](lambda: new_client(broker, *timeouts))

    def publish(self, message: bytes, at_most: float | None) -> None:
        """Append a message; its entry is there once the server answers."""
        connect, read = self._timeouts
        if at_most is None or at_most >= min(read or at_most + 1, 3_600):
            try:
                self._client.get().xadd(self._name, {FIELD: message})
            except Exception:
                raise
            except BaseException:  # an interrupt, which may have left a connection amid an answer
                self._client.take()
                raise
            return
        least = max(at_most, 0.001)
        client = new_client(self._broker, min(connect or least, least), least)
        try:
            client.xadd(self._name, {FIELD: message})
        finally:
            client.close()

    def is_too_large(self, error: Exception, message: bytes) -> bool:  # noqa: ARG002 - see Publisher
        """Return False: an entry may have 512 MB."""
        return False

    def needs_mending(self, error: Exception) -> bool:
        """Tell whether an error is likely to last until the user mends something."""
        return needs_mending(error)

    def describe(self, error: Exception) -> str:
        """Say what went wrong, without a secret."""
        words = redis_error(self._broker, error)
        if type(error).__name__ == "OutOfMemoryError":
            words += "; give it more memory, or have a relay empty the stream"
        return words

    def after_fork(self) -> None:
        """Leave the connections to the parent."""
        self._client.after_fork()

    def close(self) -> None:
        """Close the connections; the next message opens new ones."""
        if (client := self._client.take()) is not None:
            client.close()
