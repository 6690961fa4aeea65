"""Where events wait: what any such place can do, and the one in memory."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice, repeat, starmap
from typing import TYPE_CHECKING, Protocol

from snowplow_logging.delivery.ledger import Ledger
from snowplow_logging.delivery.waiting import Lock, clock

if TYPE_CHECKING:
    from snowplow_logging.delivery.delivery import Delivery

__all__ = ["Batch", "Limits", "MemoryQueue", "Queue"]


@dataclass(eq=False)
class Batch:
    """Events that have left the queue and are not answered for yet.

    Attributes:
        first: The place of the first of them in the order of all that was logged.
        payloads: Those that are not answered for.
        ids: Their ids in the store, where they came from it.
        delivery: How far their delivery has come; None where it begins anew.
    """

    first: int
    payloads: list[bytes] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    delivery: Delivery | None = None


@dataclass(frozen=True)
class Limits:
    """How much may wait, and how much goes into one request.

    Attributes:
        events: The events that may wait in memory.
        size: The bytes that they may take.
        batch_events: The events of a request.
        batch_size: The bytes of its body, without what it has besides events.
        room: The bytes that these may take.
        overhead: The bytes that an event takes in it besides its payload.
    """

    events: int
    size: int
    batch_events: int
    batch_size: int
    room: int
    overhead: int


class Queue(Protocol):
    """Events that wait for a thread to send them.

    Only who has the turn of a line takes from it, see `Worker`; everybody may put into it.

    Attributes:
        since: When the first of those that wait began to, or before; by the clock of `waiting`.
    """

    since: float

    @property
    def waiting(self) -> int:
        """How many events wait."""

    @property
    def ready(self) -> int:
        """How many of them can be taken now."""

    @property
    def is_due(self) -> bool:
        """Whether there are as many as go into a request, or as may wait at all."""

    def fits(self, payload: bytes) -> bool:
        """Tell whether there is room for an event."""

    @property
    def size(self) -> int:
        """The bytes of the events in memory, those taken from it included."""

    @property
    def full(self) -> str:
        """What is full where an event has no room."""

    def put(self, payload: bytes) -> bool:
        """Put an event behind the others; return False where there is no room for it."""

    def call(self) -> None:
        """Have who puts an event call, from now on, once there is something new to do."""

    def call_always(self) -> None:
        """Have who puts an event call whatever there is to do, because nobody is there."""

    def do_not_call(self) -> None:
        """Have nobody call, because somebody is awake who looks for himself."""

    def take(self, batch: Batch, is_due: Callable[[], bool]) -> None:
        """Move the next events, as many as go into a request, into a batch.

        Args:
            batch: Which is to be registered already, so that no event is ever nowhere.
            is_due: Tells, when no other thread can take any in between, whether it is time.
        """

    def forget(self, payloads: list[bytes], ids: list[int]) -> None:
        """Take note that events which were taken are answered for."""

    def abandon(self, into: list[bytes]) -> None:
        """Move all that would be lost with the process into a list."""

    def drop_oldest(self, reason: str) -> bool:
        """Drop the event that waits longest; return False where none can be dropped."""

    def oldest(self) -> bytes | None:
        """Return the event that waits longest, if it is in memory."""


class MemoryQueue:
    """Events that wait in memory.

    Args:
        lock: The lock of all that waits.
        ledger: Where events are counted.
        limits: How much may wait.
        called: Wakes who sends, if an event gives him something to do.
    """

    def __init__(
        self, lock: Lock, ledger: Ledger, limits: Limits, called: Callable[[], None]
    ) -> None:
        self._lock = lock
        self._ledger = ledger
        self._limits = limits
        self._called = called
        self._events: deque[bytes] = deque()
        self._waiting_size = 0  # bytes of those in the queue
        self._had_no_room = False  # since events were last taken
        # At how many events, or bytes of them, who puts another one calls.
        self._call_at: float = 1
        self._call_at_size: float = math.inf
        self.since = 0.0
        self.size = 0

    def put(self, payload: bytes) -> bool:
        """Put an event behind the others; return False where there is no room for it."""
        limits, ledger = self._limits, self._ledger
        size = len(payload) + limits.overhead
        with self._lock:
            queued = (
                ledger.logged + ledger.recovered - ledger.sent - ledger.failed - ledger.dropped
            )
            fits = queued < limits.events and (self.size + size <= limits.size or not queued)
            if fits:
                if not self._events:
                    self.since = clock.now()
                    self._waiting_size = 0
                try:
                    # Counted and put with no call in between, see `Ledger`.
                    ledger.logged += 1
                    self.size += size
                    self._waiting_size += size
                    self._events.append(payload)
                except MemoryError:
                    ledger.logged -= 1
                    self.size -= size
                    self._waiting_size -= size
                    raise
            else:
                self._had_no_room = True
            calls = len(self._events) >= self._call_at or self._waiting_size >= self._call_at_size
        if calls or (not fits and self._call_at < math.inf):
            self._called()
        return fits

    def fits(self, payload: bytes) -> bool:
        """Tell whether there is room for an event."""
        queued, limits = self._ledger.queued, self._limits
        size = self.size + len(payload) + limits.overhead
        return queued < limits.events and (size <= limits.size or not queued)

    @property
    def waiting(self) -> int:
        """How many events wait."""
        return len(self._events)

    ready = waiting

    @property
    def is_due(self) -> bool:
        """Whether there are as many as go into a request, or as may wait at all."""
        limits = self._limits
        return len(self._events) > 0 and (
            len(self._events) >= limits.batch_events
            or self._waiting_size >= limits.batch_size
            or self._ledger.queued >= limits.events
            or self._had_no_room
        )

    @property
    def full(self) -> str:
        """What is full where an event has no room."""
        if self._ledger.queued >= self._limits.events:
            return f"the queue of {self._limits.events:,} events is full"
        return f"the queue of {self._limits.size:,} bytes is full"

    def call(self) -> None:
        """Have who puts an event call, from now on, once there is something new to do."""
        limits = self._limits
        with self._lock:
            count = len(self._events)
            if self.is_due:
                self.do_not_call()  # what is there is known
            elif not count:
                self._call_at, self._call_at_size = 1, math.inf
            else:
                until_full = limits.events - self._ledger.queued
                self._call_at = min(limits.batch_events, count + until_full)
                self._call_at_size = limits.batch_size

    def call_always(self) -> None:
        """Have who puts an event call whatever there is to do, because nobody is there."""
        self._call_at = 1

    def do_not_call(self) -> None:
        """Have nobody call, because somebody is awake who looks for himself."""
        self._call_at = self._call_at_size = math.inf

    def take(self, batch: Batch, is_due: Callable[[], bool]) -> None:
        """Move the next events, as many as go into a request, into a batch."""
        with self._lock:
            if not is_due():
                return
            count = self._fitting()
            size = self._size(list(islice(self._events, count)))
            batch.first = self._ledger.logged - len(self._events)
            self._had_no_room = False
            with contextlib.suppress(IndexError):  # a signal handler has sent some of them
                # In one call, so that an event is in one of the two at any moment.
                self._waiting_size -= size
                batch.payloads.extend(starmap(self._events.popleft, repeat((), count)))

    def _fitting(self) -> int:
        """Return how many of the events the next request takes."""
        room = self._limits.room
        count = min(self._limits.batch_events, len(self._events))
        if self._waiting_size > room:
            for index in range(count):
                room -= len(self._events[index]) + self._limits.overhead
                if room < 0:
                    return max(1, index)
        return count

    def _size(self, payloads: list[bytes]) -> int:
        return sum(map(len, payloads)) + len(payloads) * self._limits.overhead

    def forget(self, payloads: list[bytes], ids: list[int]) -> None:  # noqa: ARG002 - of a store
        """Take note that events which were taken are answered for."""
        size = self._size(payloads)
        with self._lock:
            self.size -= size

    def abandon(self, into: list[bytes]) -> None:
        """Move all events into a list."""
        with self._lock:
            count = len(self._events)
            self._waiting_size = 0
            with contextlib.suppress(IndexError):
                into.extend(starmap(self._events.popleft, repeat((), count)))

    def drop_oldest(self, reason: str) -> bool:
        """Drop the event that waits longest; return False where none can be dropped."""
        with self._lock:
            if not self._events:
                return False
            size = len(self._events[0]) + self._limits.overhead
            self._ledger.drop_from(self._events, reason)
            self.size -= size
            self._waiting_size -= size
            return True

    def oldest(self) -> bytes | None:
        """Return the event that waits longest."""
        with self._lock:
            return self._events[0] if self._events else None
