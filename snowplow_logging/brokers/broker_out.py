"""A broker as the place where batches go, whichever it is: a message for each batch."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final, Protocol

from snowplow_logging.brokers.message import OVERHEAD, pack
from snowplow_logging.delivery.limits import FITS_FOR_SURE, excess
from snowplow_logging.delivery.retry import Answer, Outcome
from snowplow_logging.delivery.way_out import publishing

__all__ = ["BrokerOut", "Publisher"]


class Publisher(Protocol):
    """Puts messages into one stream, queue or topic. Several threads may use it at once."""

    @property
    def most_bytes(self) -> int | None:
        """The bytes of a message that are taken for sure, if there is a limit."""

    def publish(self, message: bytes, at_most: float | None) -> None:
        """Put a message there, and return once the broker has answered for it.

        Args:
            message: What is to be put.
            at_most: The seconds that this may take at most, if it is less than usual.

        Raises:
            Exception: It has not, and may have it nevertheless.
        """

    def is_too_large(self, error: Exception, message: bytes) -> bool:
        """Tell whether an error says that a message is too large."""

    def needs_mending(self, error: Exception) -> bool:
        """Tell whether an error is likely to last until the user mends something."""

    def describe(self, error: Exception) -> str:
        """Say what went wrong, without a secret."""

    def after_fork(self) -> None:
        """Leave connections to the parent."""

    def close(self) -> None:
        """Close the connections; the next message opens new ones."""


class BrokerOut:
    """Gives each batch to a broker, as one message.

    Args:
        url: Where that is, as it may be shown.
        publisher: Puts messages there.
    """

    batch_limit: Final = None
    overhead: Final = OVERHEAD
    fits_for_sure: Final = FITS_FOR_SURE

    def __init__(self, url: str, publisher: Publisher) -> None:
        self.url = url
        self.batch_bytes = publisher.most_bytes
        self._publisher = publisher
        self.after_fork = publisher.after_fork
        self.close = publisher.close

    def excess(self, payload: bytes) -> str | None:
        """Say how far a payload alone would be over the collector's limit, if it is."""
        return excess(payload)

    def send(self, payloads: Sequence[bytes], *, at_most: float | None = None) -> Answer:
        """Give payloads to the broker in one message, and say what came of it."""
        message, me = pack(payloads), threading.get_ident()
        try:
            publishing.add(me)
            self._publisher.publish(message, at_most)
        except Exception as error:  # noqa: BLE001 - a client may raise what it likes
            reason = f"{self.url} did not take them: {self._publisher.describe(error)}"
            if self._publisher.is_too_large(error, message):
                return Answer(Outcome.SPLIT if len(payloads) > 1 else Outcome.REFUSED, reason)
            mend = self._publisher.needs_mending(error)
            return Answer(Outcome.RETRY, reason, at_once=mend)
        finally:
            publishing.discard(me)
        return Answer(Outcome.TAKEN)
