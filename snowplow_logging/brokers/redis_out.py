"""Redis as the place where batches go: an entry of a stream each."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from snowplow_logging.brokers.message import OVERHEAD, pack
from snowplow_logging.brokers.redis_client import check_url, needs_mending, new_client, redis_error
from snowplow_logging.brokers.urls import read_url
from snowplow_logging.delivery.limits import FITS_FOR_SURE, excess
from snowplow_logging.delivery.retry import Answer, Outcome

if TYPE_CHECKING:
    from snowplow_logging.settings import Settings

__all__ = ["FIELD", "RedisOut"]

FIELD: Final = b"batch"
"""The field of an entry that holds the message."""


class RedisOut:
    """Appends each batch to a stream of Redis.

    Args:
        settings: Which server, which stream, and how long to wait for it.

    Raises:
        ImportError: The extra is not installed.
        ValueError: The URL makes no sense.
    """

    batch_limit: Final = None
    batch_bytes: Final = None
    overhead: Final = OVERHEAD
    fits_for_sure: Final = FITS_FOR_SURE

    def __init__(self, settings: Settings) -> None:
        self._broker = read_url("broker", settings.broker or "")
        self._stream = settings.stream
        self._timeouts = settings.timeouts
        self.url = f"{self._broker.shown}#{self._stream}"
        self._client: Any = None
        self._inherited: list[Any] = []
        self._pid = os.getpid()
        self._lock = threading.RLock()
        check_url(self._broker)

    def after_fork(self) -> None:
        """Leave the connections to the parent.

        Its client is kept: forgotten, it would close the descriptors that it had in the parent,
        which in a child may be files of the program by now.
        """
        if self._pid != os.getpid():
            self._inherited.append(self._client)
            self._pid, self._client, self._lock = os.getpid(), None, threading.RLock()

    def excess(self, payload: bytes) -> str | None:
        """Say how far a payload alone would be over the collector's limit, if it is."""
        return excess(payload)

    def send(self, payloads: Sequence[bytes], *, at_most: float | None = None) -> Answer:
        """Append payloads in one entry, and say what came of it."""
        client = None
        try:
            client = self._use(at_most)
            client.xadd(self._stream, {FIELD: pack(payloads)})
        except Exception as error:  # noqa: BLE001 - a client may raise what it likes
            return self._failed(error)
        except BaseException:  # an interrupt, which may have left a connection amid an answer
            self._client = None
            raise
        finally:
            if client is not None and client is not self._client:
                client.close()
        return Answer(Outcome.TAKEN)

    def _use(self, at_most: float | None) -> Any:
        """Return the client of this process, or one for less time than that waits."""
        connect, read = self._timeouts
        if at_most is not None and at_most < min(read or at_most + 1, 3_600):
            least = max(at_most, 0.001)
            return new_client(self._broker, min(connect or least, least), least)
        self.after_fork()
        with self._lock:
            if self._client is None:
                self._client = new_client(self._broker, connect, read)
            return self._client

    def _failed(self, error: Exception) -> Answer:
        reason = f"{self.url} did not take them: {redis_error(self._broker, error)}"
        mend = needs_mending(error)
        if type(error).__name__ == "OutOfMemoryError":
            reason += "; give it more memory, or have a relay empty the stream"
        return Answer(Outcome.RETRY, reason, at_once=mend)

    def close(self) -> None:
        """Close the connections; the next batch opens new ones."""
        client, self._client = self._client, None
        if client is not None and self._pid == os.getpid():
            client.close()
