"""What has become of the events: counts that only grow, from which follows how many wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from snowplow_logging.delivery.waiting import Lock

__all__ = ["LOSSES", "Ledger", "Stats"]

LOSSES: Final = (
    "queue full",
    "invalid event",
    "schema",
    "before_send failed",
    "refused by the collector",
    "max_attempts",
    "shutdown_timeout",
    "store set aside",
    "store row broken",
    "message broken",
    "out of memory",
    "process ended",
)
"""The reasons for which an event may be lost."""


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
            `schema` (the data do not fit theirs), `before_send failed`,
            `refused by the collector`, `max_attempts`, `shutdown_timeout`,
            `store set aside` (because it was corrupt),
            `store row broken` (because it had changed in the file), `message broken` (a relay found
            it at a broker in a form that it does not know), `out of memory`, `process ended` (a
            thread logged on when that had come to its end).
        last_error: What went wrong last, if anything has.
        queued_bytes: The bytes of the events that wait in memory.
        oldest_queued_seconds: The seconds since the oldest event that waits was logged; None where
            none waits.
        last_sent: When the collector last took events, in seconds since 1970; None where it has
            taken none.
        dead_letters_lost: Events that are missing in the dead-letter file: it could not be
            written, a rotation removed them, or too many waited for it.
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
    queued_bytes: int = 0
    oldest_queued_seconds: float | None = None
    last_sent: float | None = None
    dead_letters_lost: int = 0


class Ledger:
    """Counts events by what has become of them.

    What belongs together is changed under the lock and with no call in between. So neither another
    thread nor a signal handler, which may come after any call and may raise, ever finds half of it.

    Args:
        lock: The lock of all that waits.

    Attributes:
        passed: Events that have left memory, or the first place where they wait, for another.
        turned_away: Events that never came there.
        in_memory: Returns how many are there.
        recovered: Events that came into it from other processes, less those that went to others.
        last_failure: What last went wrong on the way out, until events are taken again. It is not
            that a close gives up what waits, which only follows from it.
    """

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self.passed = 0
        self.turned_away = 0
        self.in_memory: Callable[[], int] = int
        self.recovered = 0
        self.sent = 0
        self.retried = 0
        self.failed = 0
        self.dropped = 0
        self.invalid = 0
        self.filtered = 0
        self.dead_letters_lost = 0
        self.last_error: str | None = None
        self.last_failure: str | None = None
        self.last_sent: float | None = None
        self._losses = dict.fromkeys(LOSSES, 0)

    @property
    def logged(self) -> int:
        """How many events have come: the place of the next one in the order of all."""
        return self.passed + self.in_memory()

    @property
    def queued(self) -> int:
        """How many events wait: those that came and are not answered for."""
        with self._lock:
            came = self.passed + self.in_memory() + self.turned_away + self.recovered
            return came - self.sent - self.failed - self.dropped

    def take(self, payloads: list[bytes], count: int, now: float) -> None:
        """Count the first of these as sent and take them off the list: both or neither."""
        with self._lock:
            self.last_sent = now
            self.last_failure = None  # it is over
            self.sent += count
            del payloads[:count]

    def fail(self, payloads: list[bytes], count: int, loss: str, reason: str) -> None:
        """Count the first of these as given up and take them off the list: both or neither."""
        with self._lock:
            self.last_error = reason
            self.failed += count
            self._losses[loss] += count
            del payloads[:count]

    def drop(self, reason: str) -> None:
        """Count an event that did not come into the queue."""
        with self._lock:
            self.last_error = reason
            self.turned_away += 1
            self.dropped += 1
            self._losses["queue full"] += 1

    def drop_from(self, payloads: deque[bytes], index: int, reason: str) -> None:
        """Count one of these as dropped and take it off: both or neither."""
        with self._lock:
            self.last_error = reason
            try:
                self.dropped += 1
                self.passed += 1
                self._losses["queue full"] += 1
                del payloads[index]
            except IndexError:  # a signal handler has sent it
                self.dropped -= 1
                self.passed -= 1
                self._losses["queue full"] -= 1

    def drop_stored(self, count: int, reason: str) -> None:
        """Count events that waited outside of memory as dropped."""
        with self._lock:
            self.last_error = reason
            self.dropped += count
            self._losses["queue full"] += count

    def give_up(self, loss: str, reason: str) -> None:
        """Count an event that failed before it came into the queue."""
        with self._lock:
            self.last_error = reason
            self.turned_away += 1
            self.failed += 1
            self._losses[loss] += 1

    def lose(self, count: int, loss: str, reason: str) -> None:
        """Count events that waited outside of memory as given up."""
        with self._lock:
            self.last_error = reason
            self.failed += count
            self._losses[loss] += count

    def refuse(self, loss: str, reason: str) -> None:
        """Count an event that Snowplow would have refused."""
        with self._lock:
            self.last_error = reason
            self.invalid += 1
            self._losses[loss] += 1

    def leave_out(self) -> None:
        """Count an event that `before_send` left out."""
        with self._lock:
            self.filtered += 1

    def stats(self, queued_bytes: int, oldest_queued_seconds: float | None) -> Stats:
        """Return the counts as they are now.

        Args:
            queued_bytes: The bytes of the events that wait in memory.
            oldest_queued_seconds: How long the oldest of those that wait has done so.
        """
        with self._lock:
            stats = Stats(
                queued=self.queued,
                sent=self.sent,
                retried=self.retried,
                failed=self.failed,
                dropped=self.dropped,
                invalid=self.invalid,
                filtered=self.filtered,
                recovered=self.recovered,
                losses={loss: count for loss, count in self._losses.items() if count},
                last_error=self.last_error,
                queued_bytes=queued_bytes,
                oldest_queued_seconds=oldest_queued_seconds,
                last_sent=self.last_sent,
                dead_letters_lost=self.dead_letters_lost,
            )
        return stats  # noqa: RET504 - see `Lock` on calls
