"""Where batches go: what any such place can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from snowplow_logging.delivery.retry import Answer

__all__ = ["WayOut", "is_of_client", "publishing"]

_CLIENTS: Final = frozenset("amqp boto3 botocore kombu redis requests urllib3".split())

publishing: Final[set[int]] = set()
"""The threads that give a message to a broker now."""


def is_of_client(logger: object) -> bool:
    """Tell whether a name, which in a record may be anything, is of a library that sends."""
    return isinstance(logger, str) and logger.partition(".")[0] in _CLIENTS


class WayOut(Protocol):
    """Takes batches of payloads: a collector, a broker, or a file from which others send.

    Its methods may be called by several threads.
    """

    @property
    def url(self) -> str:
        """Where the events go, as it may be shown."""

    @property
    def batch_limit(self) -> int | None:
        """The events of a batch at most, if there is a limit."""

    @property
    def batch_bytes(self) -> int | None:
        """The bytes of a batch at most, if there is a limit beside that of the settings."""

    @property
    def overhead(self) -> int:
        """The bytes that a batch has besides its payloads."""

    @property
    def fits_for_sure(self) -> int:
        """The bytes of a payload that is never too large."""

    def excess(self, payload: bytes) -> str | None:
        """Say how far a payload alone would be over what Snowplow takes, if it is."""

    def send(self, payloads: Sequence[bytes], *, at_most: float | None = None) -> Answer:
        """Hand over a batch, and say what came of it.

        Args:
            payloads: What `PayloadEncoder.encode` returned.
            at_most: The seconds that this may take at most.
        """

    def after_fork(self) -> None:
        """Leave to the parent what a forked child has inherited, where that is not done already."""

    def close(self) -> None:
        """Let go of what is open; the next batch opens it again."""
