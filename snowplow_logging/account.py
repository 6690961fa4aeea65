"""What has become of the events, and what goes wrong, which is reported once in a while."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Account", "Stats"]

_REPORT_INTERVAL: Final = 60.0  # seconds between two reports of one kind


@dataclass(frozen=True)
class Stats:
    """What has become of the events logged in this process, at one moment.

    Every event logged is counted in exactly one of `queued`, `sent`, `failed`, `dropped`,
    `invalid` and `filtered`.

    Attributes:
        queued: Events that wait now, those of a request under way included.
        sent: Events that the collector has taken.
        retried: Events that were sent again, counted once each time.
        failed: Events given up.
        dropped: Events for which the queue had no room.
        invalid: Events that Snowplow would have refused.
        filtered: Events that `before_send` left out.
        recovered: Events taken over from a process that left them in the store, less those that
            another has taken over from this one; they are counted in the six above as well.
        losses: The events failed, dropped and invalid by reason: `queue full`, `invalid event`,
            `before_send failed`, `refused by the collector`, `max_attempts`, `shutdown_timeout`,
            `store set aside` (because it was corrupt), `schema` (which the data does not fit).
        last_error: What went wrong last, if anything has.
    """

    queued: int = 0
    sent: int = 0
    retried: int = 0
    failed: int = 0
    dropped: int = 0
    invalid: int = 0
    filtered: int = 0
    recovered: int = 0
    losses: Mapping[str, int] = field(default_factory=dict)
    last_error: str | None = None


class Account:
    """Counts events by what became of them, and collects what is to be reported.

    It has no lock of its own: who uses it holds the emitter's.

    Attributes:
        last_error: What went wrong last, if anything has.
    """

    def __init__(self) -> None:
        self.last_error: str | None = None
        self._counts: Counter[str] = Counter()
        self._losses: Counter[str] = Counter()
        self._reports: list[str] = []
        self._reported: dict[str, float] = {}  # when, by kind
        self._unreported: Counter[str] = Counter()  # since then, by kind

    def count(self, what: str, events: int = 1) -> None:
        """Add events to one of the counts of `Stats`."""
        self._counts[what] += events

    def lose(self, what: str, reason: str, events: int, message: str) -> None:
        """Count events that are not sent, with the reason and with what to tell about it."""
        self._counts[what] += events
        self._losses[reason] += events
        self.last_error = message

    def stats(self, queued: int) -> Stats:
        """Return what has become of the events, given how many wait."""
        losses = dict(self._losses)
        return Stats(queued=queued, losses=losses, last_error=self.last_error, **self._counts)

    @property
    def has_reports(self) -> bool:
        """Whether there is something to report."""
        return bool(self._reports)

    def report(self, kind: str, message: str) -> bool:
        """Note what is to be reported, unless its kind was in the last minute; tell whether."""
        now = time.monotonic()
        if now - self._reported.get(kind, -_REPORT_INTERVAL) < _REPORT_INTERVAL:
            self._unreported[kind] += 1
            return False
        self._reported[kind] = now
        if more := self._unreported.pop(kind, 0):
            message = f"{message} (and {more:,} more like this since the last report)"
        self._reports.append(message)
        return True

    def take_reports(self) -> list[str]:
        """Return what is to be reported, which is then no more."""
        reports, self._reports = self._reports, []
        return reports
