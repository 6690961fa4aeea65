"""Kafka as the place where batches go: a message of a topic each."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from snowplow_logging.brokers.kafka_client import (
    confluent_kafka,
    kafka_error,
    kafka_options,
    needs_mending,
)
from snowplow_logging.brokers.message import OVERHEAD, pack
from snowplow_logging.brokers.urls import read_url
from snowplow_logging.delivery.limits import FITS_FOR_SURE, excess
from snowplow_logging.delivery.retry import Answer, Outcome
from snowplow_logging.delivery.waiting import clock

if TYPE_CHECKING:
    from snowplow_logging.settings import Settings

__all__ = ["MOST_BYTES", "KafkaOut", "KafkaProducer"]

_LONGEST: Final = 30.0  # seconds, where the settings give no limit
_POLL_SECONDS: Final = 0.05
_TOO_LARGE: Final = "MSG_SIZE_TOO_LARGE"

MOST_BYTES: Final = 1_000_000
"""The bytes of a batch; a server takes 1,048,588, if nothing else is set, with what is around."""


class KafkaProducer:
    """A producer of this process, whose messages all replicas in sync have before they count.

    Args:
        options: What clients are made with.
        seconds: How long a message is tried at most.
    """

    def __init__(self, options: dict[str, Any], seconds: float) -> None:
        self._options = {
            "message.max.bytes": 2 * MOST_BYTES,  # for what is too large the server says so
            **options,
            "acks": "all",
            "linger.ms": 0,  # a batch is a message already
            "message.timeout.ms": max(1, int(seconds * 1_000)),
            "error_cb": self._note,
        }
        self._producer: Any = None
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._said: Any = None  # what the client has said last of its connections

    def _note(self, error: Any) -> None:
        self._said = error

    def after_fork(self) -> None:
        """Leave the producer to the parent.

        Its threads are not in the child, where its end would wait for them for ever. So it never
        ends there.
        """
        if self._pid != os.getpid():
            if self._producer is not None:
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._producer))
            self._producer, self._pid, self._lock = None, os.getpid(), threading.RLock()

    def publish(self, topic: str, body: bytes, seconds: float, headers: Any = None) -> Any:
        """Append a message; return None, or the error.

        Args:
            topic: Where.
            body: The message.
            seconds: How long to wait for the answer at most.
            headers: Its headers.
        """
        self.after_fork()
        with self._lock:
            if self._producer is None:
                self._said = None
                self._producer = confluent_kafka().Producer(self._options)
            producer = self._producer
        answers: list[Any] = []
        producer.produce(
            topic, body, headers=headers, on_delivery=lambda error, _: answers.append(error)
        )
        until = clock.now() + seconds
        while not answers and (left := until - clock.now()) > 0:
            producer.poll(min(left, _POLL_SECONDS))
        error: Any = answers[0] if answers else TimeoutError("it does not answer")
        is_vague = not answers or (error is not None and error.name() == "_MSG_TIMED_OUT")
        return self._said if is_vague and self._said is not None else error

    def close(self) -> None:
        """Give up what is under way, and end the producer."""
        producer, self._producer = self._producer, None
        if producer is not None and self._pid == os.getpid():
            producer.purge()
            producer.poll(0)


class KafkaOut:
    """Appends each batch to a topic, and waits until all replicas in sync have it.

    Args:
        settings: Which servers, which topic, and how long to wait for them.

    Raises:
        ImportError: The extra is not installed.
        ValueError: The URL makes no sense.
    """

    batch_limit: Final = None
    batch_bytes: Final = MOST_BYTES
    overhead: Final = OVERHEAD
    fits_for_sure: Final = FITS_FOR_SURE

    def __init__(self, settings: Settings) -> None:
        self._broker = read_url("broker", settings.broker or "")
        self._topic = settings.stream
        connect, read = settings.timeouts
        self._seconds = min((connect or _LONGEST) + (read or _LONGEST), 3_600.0)
        self.url = f"{self._broker.shown}#{self._topic}"
        self._producer = KafkaProducer(kafka_options(self._broker), self._seconds)

    def after_fork(self) -> None:
        """Leave the producer to the parent."""
        self._producer.after_fork()

    def excess(self, payload: bytes) -> str | None:
        """Say how far a payload alone would be over the collector's limit, if it is."""
        return excess(payload)

    def send(self, payloads: Sequence[bytes], *, at_most: float | None = None) -> Answer:
        """Append payloads in one message, and say what came of it."""
        seconds = self._seconds if at_most is None else min(at_most, self._seconds)
        try:
            error = self._producer.publish(self._topic, pack(payloads), seconds)
        except Exception as raised:  # noqa: BLE001 - a client may raise what it likes
            self._producer.close()
            error = raised
        if error is None:
            return Answer(Outcome.TAKEN)
        reason = f"{self.url} did not take them: {kafka_error(self._broker, error)}"
        inner = error.args[0] if isinstance(error, Exception) and error.args else error
        if hasattr(inner, "name") and inner.name() == _TOO_LARGE:
            return Answer(Outcome.SPLIT if len(payloads) > 1 else Outcome.REFUSED, reason)
        return Answer(Outcome.RETRY, reason, at_once=needs_mending(error))

    def close(self) -> None:
        """End the producer; the next batch makes a new one."""
        self._producer.close()
