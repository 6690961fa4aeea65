"""The relay itself: an emitter whose events come from elsewhere, and what it says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from snowplow_logging.delivery.emitter import Emitter
from snowplow_logging.delivery.transport import Transport

if TYPE_CHECKING:
    from snowplow_logging.delivery.assembly import Parts
    from snowplow_logging.delivery.ledger import Stats
    from snowplow_logging.delivery.notices import DeadLetters
    from snowplow_logging.delivery.queue import Queue
    from snowplow_logging.settings import Settings

__all__ = ["Relay", "Source"]


class Source(Protocol):
    """Where a relay's events come from."""

    @property
    def shown(self) -> str:
        """What it is, as it may be shown."""

    def make_queue(self, parts: Parts) -> Queue:
        """Make the queue from which the emitter takes them."""

    def dead_letters(self) -> DeadLetters | None:
        """Return where events are kept that were given up, if anywhere."""

    def backlog(self) -> dict[str, float]:
        """Return how much waits there, by what is counted.

        Raises:
            Exception: It is out of reach; the message shows no secret.
        """


class Relay:
    """Sends what others have left.

    Args:
        settings: Where to, and how.
        source: Where from.

    Raises:
        ValueError: A setting makes no sense.
    """

    def __init__(self, settings: Settings, source: Source) -> None:
        transport = Transport(settings)
        self._source = source
        self._emitter = Emitter(settings, transport, source.dead_letters(), source.make_queue)
        self.source = source.shown
        self.url = transport.url

    def start(self) -> None:
        """Begin."""
        self._emitter.start()

    def close(self) -> None:
        """End what is under way, in at most `shutdown_timeout`, and leave the rest where it was."""
        self._emitter.close()

    @property
    def stats(self) -> Stats:
        """What has become of the events that this relay has taken."""
        return self._emitter.stats

    def backlog(self) -> dict[str, float]:
        """Return how much waits at the source, see `Source.backlog`."""
        return self._source.backlog()

    @property
    def summary(self) -> str:
        """What has become of the events, in a line."""
        stats: Any = self.stats
        line = f"events: {stats.sent:,} sent, {stats.failed:,} given up, {stats.retried:,} retried"
        return f"{line}; the last error was: {stats.last_error}" if stats.last_error else line
