"""Kafka as the place where batches go: a message of a topic each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from snowplow_logging.brokers.kafka_client import (
    confluent_kafka,
    kafka_error,
    kafka_options,
    needs_mending,
)
from snowplow_logging.brokers.this_process import OfThisProcess
from snowplow_logging.delivery.waiting import clock

if TYPE_CHECKING:
    from snowplow_logging.brokers.urls import BrokerURL

__all__ = ["MOST_BYTES", "KafkaProducer", "KafkaPublisher", "is_too_large"]

MOST_BYTES: Final = 1_000_000
"""The bytes of a batch; a server takes 1,048,588, if nothing else is set, with what is around."""

_LONGEST: Final = 30.0  # seconds, where the settings give no limit
_POLL_SECONDS: Final = 0.05
_TOO_LARGE: Final = "MSG_SIZE_TOO_LARGE"


def is_too_large(error: Exception) -> bool:
    """Tell whether an error says that a message is too large."""
    inner = error.args[0] if error.args else error
    return bool(hasattr(inner, "name") and inner.name() == _TOO_LARGE)


class KafkaProducer:
    """A producer of this process, whose messages all replicas in sync have before they count.

    Args:
        options: What clients are made with.
        seconds: How long a message is tried at most.
    """

    def __init__(self, options: dict[str, Any], seconds: float) -> None:
        options = {
            "message.max.bytes": 2 * MOST_BYTES,  # for what is too large the server says so
            **options,
            "acks": "all",
            "linger.ms": 0,  # a batch is a message already
            "message.timeout.ms": max(1, int(seconds * 1_000)),
            "error_cb": self._note,
        }
        self._producer = OfThisProcess[Any](lambda: confluent_kafka().Producer(options))
        self.after_fork = self._producer.after_fork
        self._said: Any = None  # what the client has said last of its connections

    def _note(self, error: Any) -> None:
        self._said = error

    def publish(self, topic: str, body: bytes, seconds: float, headers: Any = None) -> None:
        """Append a message, and wait for the answer.

        Args:
            topic: Where.
            body: The message.
            seconds: How long to wait for the answer at most.
            headers: Its headers.

        Raises:
            confluent_kafka.KafkaException, TimeoutError: It is not there, or nobody says so.
        """
        producer = self._producer.get()
        answers: list[Any] = []
        try:
            producer.produce(
                topic, body, headers=headers, on_delivery=lambda error, _: answers.append(error)
            )
        except Exception:  # such as that its own queue is full
            self.close()
            raise
        until = clock.now() + seconds
        while not answers and (left := until - clock.now()) > 0:
            producer.poll(min(left, _POLL_SECONDS))
        # By `is`: the client's errors, compared with None, leave an exception behind that whatever
        # C code is called next would be blamed for.
        if answers and answers[0] is None:
            self._said = None
            return
        if self._said is not None and (not answers or answers[0].name() == "_MSG_TIMED_OUT"):
            raise confluent_kafka().KafkaException(self._said)  # which says why it is so
        if not answers:
            raise TimeoutError("it does not answer")
        raise confluent_kafka().KafkaException(answers[0])

    def close(self) -> None:
        """Give up what is under way, and end the producer."""
        producer = self._producer.take()
        if producer is not None:
            producer.purge()
            producer.poll(0)


class KafkaPublisher:
    """Appends messages to a topic of Kafka.

    Args:
        broker: Which servers.
        name: The topic.
        timeouts: The seconds to wait for a connection, and for an answer.

    Raises:
        ImportError: The extra is not installed.
        ValueError: The URL makes no sense.
    """

    most_bytes: Final = MOST_BYTES

    def __init__(
        self, broker: BrokerURL, name: str, timeouts: tuple[float | None, float | None]
    ) -> None:
        self._broker, self._name = broker, name
        connect, read = timeouts
        self._seconds = min((connect or _LONGEST) + (read or _LONGEST), 3_600.0)
        self._producer = KafkaProducer(kafka_options(broker), self._seconds)
        self.after_fork = self._producer.after_fork
        self.close = self._producer.close

    def publish(self, message: bytes, at_most: float | None) -> None:
        """Append a message, and wait until all replicas in sync have it."""
        seconds = self._seconds if at_most is None else min(at_most, self._seconds)
        self._producer.publish(self._name, message, seconds)

    def is_too_large(self, error: Exception, message: bytes) -> bool:  # noqa: ARG002 - see Publisher
        """Tell whether an error says that a message is too large."""
        return is_too_large(error)

    def needs_mending(self, error: Exception) -> bool:
        """Tell whether an error is likely to last until the user mends something."""
        return needs_mending(error)

    def describe(self, error: Exception) -> str:
        """Say what went wrong, without a secret."""
        return kafka_error(self._broker, error)
