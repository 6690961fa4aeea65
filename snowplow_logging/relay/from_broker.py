"""A broker as the source of a relay, whichever it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snowplow_logging.brokers.urls import read_url
from snowplow_logging.dead_letter import DeadLetterFile
from snowplow_logging.relay.dead_letters import DeadLetterStream
from snowplow_logging.relay.stream_queue import Stream, StreamQueue

if TYPE_CHECKING:
    from snowplow_logging.delivery.assembly import Parts
    from snowplow_logging.delivery.notices import DeadLetters

__all__ = ["FromBroker", "stream_of"]

_LONGEST_CLAIM = 10**9  # seconds


class FromBroker:
    """Takes the messages of a stream, which it shares with other relays.

    Args:
        stream: The messages.
        dead_letter: The file where events are kept that were given up; None for a stream beside.
    """

    def __init__(self, stream: Stream, dead_letter: str | None) -> None:
        self._stream = stream
        self.shown = stream.shown
        self._letters: DeadLetters
        if dead_letter is None:
            where = f"{stream.shown}-dead-letter"
            self._letters = DeadLetterStream(where, self._keep_letter, stream.most_bytes)
        else:
            self._letters = DeadLetterFile(dead_letter)

    def make_queue(self, parts: Parts) -> StreamQueue:
        """Make the queue that reads from here."""
        return StreamQueue(parts, self._stream, self._letters)

    def dead_letters(self) -> DeadLetters:
        """Return where events are kept that were given up."""
        return self._letters

    def backlog(self) -> dict[str, float]:
        """Return how many messages are there, as far as the broker says."""
        try:
            return self._stream.backlog()
        except Exception as error:  # noqa: BLE001 - a client may raise what it likes
            raise ConnectionError(self._stream.describe(error)) from None

    def _keep_letter(self, field: str, data: bytes, reason: str) -> None:
        try:
            self._stream.keep_letter(field, data, reason)
        except Exception as error:  # noqa: BLE001 - a client may raise what it likes
            raise ConnectionError(self._stream.describe(error)) from None


def stream_of(url: str, *, name: str, group: str, claim_after: float) -> Stream:
    """Return the messages of a broker.

    Args:
        url: The broker.
        name: The stream, queue or topic.
        group: The group of consumers, where the broker has such.
        claim_after: The seconds after which others take over what a relay has.

    Raises:
        ImportError: An extra is not installed.
        ValueError: The URL or the time makes no sense.
    """
    broker = read_url("broker", url)
    if not 0 < claim_after < _LONGEST_CLAIM:
        raise ValueError("--claim-after takes a number of seconds, more than 0")
    if broker.kind == "amqp":
        from snowplow_logging.relay.from_amqp import AMQPStream

        return AMQPStream(broker, name)
    if broker.kind == "sqs":
        from snowplow_logging.relay.from_sqs import SQSStream

        return SQSStream(broker, name, claim_after)
    if broker.kind == "kafka":
        from snowplow_logging.relay.from_kafka import KafkaStream

        return KafkaStream(broker, name, group, claim_after)
    from snowplow_logging.relay.from_redis import RedisStream

    return RedisStream(broker, name, group, claim_after)
