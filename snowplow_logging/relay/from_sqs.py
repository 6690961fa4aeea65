"""A queue of SQS as a relay reads it."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from snowplow_logging.brokers.sqs_client import (
    LARGEST,
    is_too_large,
    new_client,
    problems_of,
    queue_url,
    sqs_error,
    text_of,
)
from snowplow_logging.relay.stream_queue import SUSPECT, Message

if TYPE_CHECKING:
    from snowplow_logging.brokers.urls import BrokerURL

__all__ = ["SQSStream"]

_READ_TIMEOUT: Final = 10.0  # seconds that an answer is waited for
_CONNECT_TIMEOUT: Final = 3.05  # seconds
_LONGEST_VISIBILITY: Final = 43_200  # seconds, of SQS itself
_TEN: Final = 10  # messages of one request, as SQS has it
_PAUSE: Final = 0.02  # seconds until it is looked again whether a suspect can be read alone
_REASON_BYTES: Final = 1_000  # of a dead letter, besides its body


class _Key:
    """A message that this relay has, until the time is over after which others may have it."""

    def __init__(self, receipt: str, body: bytes, deliveries: int) -> None:
        self.receipt = receipt
        # What is delivered often is sent anew at the end, so its body is kept.
        self.body = body if deliveries >= SUSPECT else None


class SQSStream:
    """Receives the messages of a queue.

    What was received is nobody else's for a while, the visibility timeout; so a relay says again
    and again that it still has what it has. What was received several times already is read after
    all else and alone: it may be what ended the relays before.

    Args:
        broker: Which server.
        name: The queue.
        claim_after: The visibility timeout, in seconds.

    Raises:
        ImportError: The extra is not installed.
        ValueError: The URL makes no sense.
    """

    redelivers: Final = False
    most_bytes: Final = LARGEST - _REASON_BYTES

    def __init__(self, broker: BrokerURL, name: str, claim_after: float) -> None:
        if claim_after > _LONGEST_VISIBILITY:
            raise ValueError(f"--claim-after is {_LONGEST_VISIBILITY:,} seconds at most for SQS")
        self._broker = broker
        self._name = name
        self._letters_name = f"{name}-dead-letter"
        self._visibility = math.ceil(claim_after)
        self.keep_interval = self._visibility / 4
        self.shown = f"{self._broker.shown}#{name}"
        self._client: Any = new_client(self._broker, _CONNECT_TIMEOUT, _READ_TIMEOUT)
        self._urls: dict[str, str] = {}
        self._suspects: deque[Message] = deque()  # received, and not read yet
        self._read: set[_Key] = set()

    def _queue(self, name: str) -> str:
        if name not in self._urls:
            self._urls[name] = queue_url(self._client, name)
        return self._urls[name]

    def keep_letter(self, field: str, data: bytes, reason: str) -> None:
        """Append a dead letter beside the stream."""
        del field  # the body tells
        why = text_of(reason.encode()).encode()[: _REASON_BYTES // 2].decode(errors="ignore")
        attributes = {"reason": {"DataType": "String", "StringValue": why}}
        body = text_of(data) or " "  # for it takes none that is empty
        try:
            try:
                self._send_letter(body, attributes)
            except Exception as error:
                if not is_too_large(error, LARGEST + 1):
                    raise
                self._send_letter(body, {})  # what is as large as it may be leaves no room for why
        except Exception:
            self._urls.clear()  # it may have been removed
            raise

    def _send_letter(self, body: str, attributes: dict[str, Any]) -> None:
        queue = self._queue(self._letters_name)
        self._client.send_message(QueueUrl=queue, MessageBody=body, MessageAttributes=attributes)

    def backlog(self) -> dict[str, float]:
        """Return about how many messages are in the queue, and how many of them were taken."""
        waiting, taken = "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"
        found = self._client.get_queue_attributes(
            QueueUrl=self._queue(self._name), AttributeNames=[waiting, taken]
        )["Attributes"]
        mine = float(found[taken])
        return {"messages": float(found[waiting]) + mine, "messages_taken": mine}

    # What the queue asks for.

    def open(self) -> list[str]:
        """Make the queue, if it is missing."""
        self._urls.clear()
        return problems_of(self._client, self._queue(self._name))

    def read(self, most: int, seconds: float) -> list[Message]:
        """Return what has come; suspects one by one, once all else is answered for."""
        if not self._suspects:
            # While there is something to be answered for nobody is to wait for this for long.
            found = self._receive(min(most, _TEN), 0 if self._read else math.ceil(seconds))
            if self._read and not found:
                time.sleep(min(seconds, self.keep_interval / 2))
            fine = [message for message in found if message.deliveries < SUSPECT]
            suspects = (message for message in found if message.deliveries >= SUSPECT)
            # Who was delivered least often has least to do with it.
            self._suspects.extend(sorted(suspects, key=lambda message: message.deliveries))
        elif self._read:
            time.sleep(_PAUSE)
            return []
        else:
            fine = [self._suspects.popleft()]
        self._read.update(message.key for message in fine)
        return fine

    def _receive(self, most: int, seconds: int) -> list[Message]:
        answer = self._client.receive_message(
            QueueUrl=self._queue(self._name),
            MaxNumberOfMessages=most,
            WaitTimeSeconds=seconds,
            VisibilityTimeout=self._visibility,
            AttributeNames=["ApproximateReceiveCount"],
        )
        return [self._message(one) for one in answer.get("Messages", ())]

    @staticmethod
    def _message(one: Any) -> Message:
        body, count = one["Body"].encode(), int(one["Attributes"]["ApproximateReceiveCount"])
        return Message(_Key(one["ReceiptHandle"], body, count), body, count)

    def _have_for(self, keys: Sequence[_Key], seconds: int) -> None:
        for entries in _entries(keys, VisibilityTimeout=seconds):
            # One that was received twelve hours ago is kept no longer; then it is another's.
            self._client.change_message_visibility_batch(
                QueueUrl=self._queue(self._name), Entries=entries
            )

    def keep(self, keys: Sequence[Any]) -> None:
        """Have messages for another while."""
        self._have_for([*keys, *(one.key for one in self._suspects)], self._visibility)

    def acknowledge(self, keys: Sequence[Any]) -> None:
        """Remove messages."""
        for entries in _entries(keys):
            answer = self._client.delete_message_batch(
                QueueUrl=self._queue(self._name), Entries=entries
            )
            # What it does not know any more is another's, or gone; the rest is asked for again.
            if failed := [one for one in answer.get("Failed", ()) if not one.get("SenderFault")]:
                raise ConnectionError(f"{failed[0].get('Code')} {failed[0].get('Message')}")
        self._read.difference_update(keys)

    def release(self, keys: Sequence[Any]) -> None:
        """Let others have messages; what was received often is sent anew, for SQS counts on.

        This end is none that such a message has caused.
        """
        mine = [*keys, *(one.key for one in self._suspects)]
        self._suspects.clear()
        self._read.clear()
        for key in mine:
            if key.body is not None:
                self._client.send_message(
                    QueueUrl=self._queue(self._name), MessageBody=key.body.decode()
                )
                self.acknowledge([key])
        self._have_for([key for key in mine if key.body is None], 0)

    def describe(self, error: Exception) -> str:
        """Say what went wrong, without a secret."""
        return sqs_error(self._broker, error)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _entries(keys: Sequence[_Key], **more: int) -> Iterator[list[dict[str, Any]]]:
    """Yield what stands for messages in requests, for as many as each can have."""
    for start in range(0, len(keys), _TEN):
        some = enumerate(keys[start : start + _TEN])
        yield [{"Id": str(i), "ReceiptHandle": key.receipt, **more} for i, key in some]
