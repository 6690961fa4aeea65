"""SQS as the place where batches go: a message of a queue each."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from snowplow_logging.brokers.message import OVERHEAD, pack
from snowplow_logging.brokers.sqs_client import (
    LARGEST,
    is_too_large,
    needs_mending,
    new_client,
    queue_url,
    sqs_error,
    text_of,
)
from snowplow_logging.brokers.urls import read_url
from snowplow_logging.delivery.limits import FITS_FOR_SURE, excess
from snowplow_logging.delivery.retry import Answer, Outcome

if TYPE_CHECKING:
    from snowplow_logging.settings import Settings

__all__ = ["SQSOut"]


class SQSOut:
    """Sends each batch to a queue, as one message.

    Args:
        settings: Which server, which queue, and how long to wait for it.

    Raises:
        ImportError: The extra is not installed.
        ValueError: The URL makes no sense.
    """

    batch_limit: Final = None
    batch_bytes: Final = LARGEST
    overhead: Final = OVERHEAD
    fits_for_sure: Final = FITS_FOR_SURE

    def __init__(self, settings: Settings) -> None:
        self._broker = read_url("broker", settings.broker or "")
        self._name = settings.stream
        self._timeouts = settings.timeouts
        self.url = f"{self._broker.shown}#{self._name}"
        self._queue: str | None = None
        self._inherited: list[Any] = []
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._client: Any = new_client(self._broker, *self._timeouts)

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
        """Send payloads in one message, and say what came of it."""
        text, client = text_of(pack(payloads)), None
        try:
            client = self._use(at_most)
            if self._queue is None:
                self._queue = queue_url(client, self._name)
            client.send_message(QueueUrl=self._queue, MessageBody=text)
        except Exception as error:  # noqa: BLE001 - a client may raise what it likes
            self._queue = None  # which may have been removed
            reason = f"{self.url} did not take them: {sqs_error(self._broker, error)}"
            if is_too_large(error, len(text.encode())):
                return Answer(Outcome.SPLIT if len(payloads) > 1 else Outcome.REFUSED, reason)
            return Answer(Outcome.RETRY, reason, at_once=needs_mending(error))
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

    def close(self) -> None:
        """Close the connections; the next batch opens new ones."""
        client, self._client = self._client, None
        if client is not None and self._pid == os.getpid():
            client.close()
