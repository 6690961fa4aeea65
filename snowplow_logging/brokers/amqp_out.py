"""RabbitMQ as the place where batches go: a message of a queue each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from snowplow_logging.brokers.amqp_client import (
    AMQPConnection,
    amqp_error,
    needs_mending,
    options_of,
)
from snowplow_logging.brokers.message import OVERHEAD, pack
from snowplow_logging.brokers.urls import read_url
from snowplow_logging.delivery.limits import FITS_FOR_SURE, excess
from snowplow_logging.delivery.retry import Answer, Outcome

if TYPE_CHECKING:
    from snowplow_logging.settings import Settings

__all__ = ["AMQPOut"]


class AMQPOut:
    """Publishes each batch to a queue, and waits until the broker confirms it.

    Args:
        settings: Which server, which queue, and how long to wait for it.

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
        options_of(self._broker)
        self._queue = settings.stream
        self._timeouts = settings.timeouts
        self.url = f"{self._broker.shown}#{self._queue}"
        # A connection is one thread's at a time; who sends takes one out, and puts it back.
        self._idle: list[AMQPConnection] = []
        self._inherited: list[list[AMQPConnection]] = []
        self._pid = os.getpid()

    def after_fork(self) -> None:
        """Leave the connections to the parent.

        They are kept: forgotten, they would close the descriptors that they had in the parent,
        which in a child may be files of the program by now.
        """
        if self._pid != os.getpid():
            self._inherited.append(self._idle)
            self._pid, self._idle = os.getpid(), []

    def excess(self, payload: bytes) -> str | None:
        """Say how far a payload alone would be over the collector's limit, if it is."""
        return excess(payload)

    def send(self, payloads: Sequence[bytes], *, at_most: float | None = None) -> Answer:
        """Publish payloads in one message, and say what came of it."""
        connection = None
        connect, read = self._timeouts
        if at_most is not None:
            least = max(at_most, 0.001)
            connect, read = min(connect or least, least), min(read or least, least)
        self.after_fork()
        message = pack(payloads)
        try:
            while connection is None:
                try:
                    connection = self._idle.pop()
                except IndexError:
                    connection = AMQPConnection(self._broker, connect, read)
                else:
                    # What came while it lay idle says so if the broker has closed it.
                    connection = connection if connection.is_well() else None
            connection.wait_at_most(read)
            connection.declare(self._queue, f"{self._queue}-dead-letter")
            connection.publish(self._queue, message)
        except Exception as error:  # noqa: BLE001 - a client may raise what it likes
            if connection is not None:
                connection.drop()
            reason = f"{self.url} did not take them: {amqp_error(self._broker, error)}"
            return Answer(Outcome.RETRY, reason, at_once=needs_mending(error))
        except BaseException:  # an interrupt, which may have left the connection amid an answer
            if connection is not None:
                connection.drop()
            raise
        self._idle.append(connection)
        return Answer(Outcome.TAKEN)

    def close(self) -> None:
        """Close the connections; the next batch opens new ones."""
        if self._pid != os.getpid():
            return
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return
            connection.close()
