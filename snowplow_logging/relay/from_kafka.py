"""A topic of Kafka as a relay reads it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from snowplow_logging.brokers.kafka_client import confluent_kafka, kafka_error, kafka_options
from snowplow_logging.brokers.kafka_out import MOST_BYTES, KafkaProducer, is_too_large
from snowplow_logging.relay.stream_queue import Message

if TYPE_CHECKING:
    from snowplow_logging.brokers.urls import BrokerURL

__all__ = ["KafkaStream"]

_TIMEOUT: Final = 10.0  # seconds that an answer is waited for
_LARGEST: Final = 1_000_000_000  # bytes of a message, of librdkafka itself
_LEAST_SESSION: Final = 6.0  # seconds, as servers have it


class _Share:
    """What this relay has read of a partition, and up to where all of that is answered for.

    A group keeps one offset for each partition. So an answer that came before that for an earlier
    message waits for it.

    Attributes:
        following: The offset after the last up to which all is answered for; -1 for none.
        asked: What the group was asked to know of that.
        committed: What it knows.
    """

    def __init__(self) -> None:
        self._read: deque[int] = deque()
        self._answered: set[int] = set()
        self.following = -1
        self.asked = -1
        self.committed = -1

    def read(self, offset: int) -> None:
        """Take note of a message."""
        self._read.append(offset)

    def answer(self, offset: int) -> None:
        """Take note of an answer, which may have been noted already."""
        if offset >= self.following:
            self._answered.add(offset)
        while self._read and self._read[0] in self._answered:
            done = self._read.popleft()
            self._answered.discard(done)
            self.following = done + 1


class KafkaStream:
    """Reads the messages of a topic, as one consumer of a group.

    Args:
        broker: Which servers.
        name: The topic.
        group: The group of consumers.
        claim_after: The seconds without a word after which others take over what a relay has.

    Raises:
        ImportError: The extra is not installed.
        ValueError: The URL makes no sense.
    """

    redelivers: Final = False
    most_bytes: Final = MOST_BYTES
    keep_interval: Final = 5.0

    def __init__(self, broker: BrokerURL, name: str, group: str, claim_after: float) -> None:
        self._broker = broker
        self._name = name
        self.shown = f"{self._broker.shown}#{name}"
        options = kafka_options(self._broker)
        self._said: Any = None  # what the client has said last of its connections
        self._options = {
            "auto.offset.reset": "earliest",
            # Who comes or goes takes from the others no more than what changes hands.
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": int(max(_LEAST_SESSION, claim_after) * 1_000),
            **options,
            "group.id": group,
            "enable.auto.commit": False,
            "error_cb": self._note,
            "on_commit": self._committed,
        }
        self._asking_options = {**options, "group.id": group, "enable.auto.commit": False}
        self._letters_name = f"{name}-dead-letter"
        # What a topic has taken its dead letters may take as well, which the server says.
        self._producer = KafkaProducer({"message.max.bytes": _LARGEST, **options}, _TIMEOUT)
        self._consumer: Any = None
        self._shares: dict[int, _Share] = {}
        self._early: deque[Any] = deque()  # what came when it was only asked for a word
        self._asking: Any = None
        self._asking_lock = threading.Lock()

    def _note(self, error: Any) -> None:
        self._said = error

    def keep_letter(self, field: str, data: bytes, reason: str) -> None:
        """Append a dead letter beside the stream."""
        del field  # the body tells
        headers = {"reason": reason.encode()}
        try:
            self._producer.publish(self._letters_name, data, _TIMEOUT, headers)
        except Exception as error:
            if not is_too_large(error):
                raise
            # What is as large as it may be leaves no room for the reason.
            self._producer.publish(self._letters_name, data, _TIMEOUT)

    def backlog(self) -> dict[str, float]:
        """Return how many messages are not committed."""
        kafka = confluent_kafka()
        if not self._asking_lock.acquire(timeout=_TIMEOUT):
            raise ConnectionError("the broker does not answer")
        try:
            if self._asking is None:
                self._asking = kafka.Consumer(self._asking_options)
            found = self._asking.list_topics(self._name, timeout=_TIMEOUT).topics
            partitions = found[self._name].partitions if self._name in found else {}
            wanted = [kafka.TopicPartition(self._name, number) for number in partitions]
            waiting = 0
            for one in self._asking.committed(wanted, timeout=_TIMEOUT) if wanted else ():
                low, high = self._asking.get_watermark_offsets(one, timeout=_TIMEOUT)
                waiting += high - max(low, one.offset)
        finally:
            self._asking_lock.release()
        return {"messages": float(waiting)}

    # What the queue asks for.

    def open(self) -> list[str]:
        """Join the group; a consumer that is in it comes back by itself."""
        if self._consumer is None:
            self._said = None
            self._consumer = confluent_kafka().Consumer(self._options)
            self._consumer.subscribe(
                [self._name],
                on_assign=self._assigned,
                on_revoke=self._revoked,
            )
        return []

    def _assigned(self, _consumer: Any, partitions: Any) -> None:
        for one in partitions:
            self._shares[one.partition] = _Share()

    def _revoked(self, _consumer: Any, partitions: Any) -> None:
        # What was answered for is committed already; an answer that comes later finds no share.
        for one in partitions:
            self._shares.pop(one.partition, None)
        gone = {one.partition for one in partitions}
        self._early = deque(one for one in self._early if one.partition() not in gone)

    def read(self, most: int, seconds: float) -> list[Message]:
        """Return what has come."""
        self._commit()
        found = [self._early.popleft() for _ in range(min(most, len(self._early)))]
        if not found:
            first = self._consumer.poll(seconds)
            found = [] if first is None else [first]
            if found and most > 1:
                found += self._consumer.consume(most - 1, 0)
        messages, failed = [], None
        for one in found:
            if one.error() is not None:
                failed = one.error()
                continue
            share = self._shares.setdefault(one.partition(), _Share())
            share.read(one.offset())
            messages.append(Message((share, one.offset()), one.value() or b""))
        if not messages and (failed := failed or self._said) is not None:
            self._said = None
            raise confluent_kafka().KafkaException(failed)
        self._said = None
        return messages

    def keep(self, keys: Sequence[Any]) -> None:  # noqa: ARG002 - it is the consumer that lives
        """Say that this relay lives, without a message to be read."""
        has = self._consumer.assignment()
        self._consumer.pause(has)
        try:
            if (one := self._consumer.poll(0)) is not None and one.error() is None:
                self._early.append(one)
        finally:
            self._consumer.resume([one for one in self._consumer.assignment() if one in has])

    def acknowledge(self, keys: Sequence[Any]) -> None:
        """Commit up to where all of a partition is answered for."""
        for share, offset in keys:
            share.answer(offset)
        self._commit()

    def _commit(self) -> None:
        """Ask for what is not committed; a failure is heard of later, and asked for again.

        Nobody waits here: a group that has lost this consumer takes it back only while it reads.
        """
        shares = [*self._shares.items()]
        new = [(number, one) for number, one in shares if one.following > one.asked]
        if new and self._consumer is not None:
            self._consumer.commit(offsets=self._offsets(new), asynchronous=True)
            for _, one in new:
                one.asked = one.following

    def _offsets(self, shares: list[tuple[int, _Share]]) -> list[Any]:
        kafka = confluent_kafka()
        return [kafka.TopicPartition(self._name, n, share.following) for n, share in shares]

    def _committed(self, error: Any, partitions: Any) -> None:
        for one in partitions or ():
            share = self._shares.get(one.partition)
            failed = error or one.error
            if failed is not None:
                self._said = failed
            if share is not None and failed is not None:
                share.asked = share.committed
            elif share is not None:
                share.committed = max(share.committed, one.offset)

    def release(self, keys: Sequence[Any]) -> None:  # noqa: ARG002 - the group has no more of them
        """Commit the last; what is not committed is another's once this one has left the group."""
        shares = [*self._shares.items()]
        new = [(number, one) for number, one in shares if one.following > one.committed]
        if new:
            self._consumer.commit(offsets=self._offsets(new), asynchronous=False)

    def describe(self, error: Exception) -> str:
        """Say what went wrong, without a secret."""
        return kafka_error(self._broker, error)

    def close(self) -> None:
        """Leave the group."""
        consumer, self._consumer = self._consumer, None
        self._shares.clear()
        self._early.clear()
        if consumer is not None:
            consumer.close()
        self._producer.close()
