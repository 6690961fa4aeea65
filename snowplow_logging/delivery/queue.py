"""Where events wait: what any such place can do, and the one in memory."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import repeat, starmap
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

    def give_back(self, batch: Batch) -> bool:
        """Take events that are not answered for back, if they stay without the process.

        Needs the lock. Returns whether they are taken again.
        """

    def abandon(self, into: list[bytes]) -> None:
        """Move all that would be lost with the process into a list."""

    @property
    def was_used(self) -> bool:
        """Whether an earlier process may have left events."""

    @property
    def out_of_reach(self) -> int:
        """How many of those that wait cannot be taken, nor will be soon."""

    @property
    def is_at_rest(self) -> bool:
        """Whether there is nothing to do before an emitter is closed."""

    def collect(self) -> None:
        """Bring what waits to where it can be taken."""

    def recover(self) -> bool:
        """Take over what other processes left; return whether there was anything."""

    def wait_until(self, until: float) -> None:
        """Have nobody wait for other processes after a time; by the clock of `waiting`."""

    def close(self) -> None:
        """Let go of what is open, and of what was taken, which is taken again after it."""

    @property
    def tend(self) -> Callable[[Callable[[], bool]], None] | None:
        """What a thread of the queue's own does, as long as the function that it is given says."""

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
        keeps: Whether events that were taken stay here until they are answered for, and count
            among those that may wait; else they are written into a file.

    Attributes:
        held: How many of the first events are being written into that file.
    """

    def __init__(
        self,
        lock: Lock,
        ledger: Ledger,
        limits: Limits,
        called: Callable[[], None],
        *,
        keeps: bool = True,
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
        self._keeps = keeps
        self.held = 0
        self.since = 0.0
        self.size = 0

    def put(self, payload: bytes) -> bool:
        """Put an event behind the others; return False where there is no room for it."""
        limits, ledger = self._limits, self._ledger
        size = len(payload) + limits.overhead
        with self._lock:
            queued = (
                ledger.logged + ledger.recovered - ledger.sent - ledger.failed - ledger.dropped
                if self._keeps
                else len(self._events)
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

    @property
    def _queued(self) -> int:
        return self._ledger.queued if self._keeps else len(self._events)

    def fits(self, payload: bytes) -> bool:
        """Tell whether there is room for an event."""
        queued, limits = self._queued, self._limits
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
            or self._queued >= limits.events
            or self._had_no_room
        )

    @property
    def full(self) -> str:
        """What is full where an event has no room."""
        if self._queued >= self._limits.events:
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
                until_full = limits.events - self._queued
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
            size = self._size(self._first(count))
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

    def _first(self, count: int) -> list[bytes]:
        # By index, because a signal handler may log, and an iterator breaks when the deque grows.
        return [self._events[index] for index in range(min(count, len(self._events)))]

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
            if len(self._events) <= self.held:
                return False
            size = len(self._events[self.held]) + self._limits.overhead
            self._ledger.drop_from(self._events, self.held, reason)
            self.size -= size
            self._waiting_size -= size
            return True

    def oldest(self) -> bytes | None:
        """Return the event that waits longest."""
        with self._lock:
            return self._events[0] if self._events else None

    def hold(self, most: int) -> list[bytes]:
        """Return the first events, as many as that, which stay until they are `pop`ped."""
        with self._lock:
            self.held = min(most, len(self._events))
            return self._first(self.held)

    @property
    def pop(self) -> Callable[[], bytes]:
        """Takes the first event off."""
        return self._events.popleft

    # What only a file needs.

    out_of_reach = 0
    tend = None
    was_used = False

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing waits."""
        return not self._events

    def give_back(self, batch: Batch) -> bool:  # noqa: ARG002 - as all the following
        """Return False: what is in memory goes with the process."""
        return False

    def collect(self) -> None:
        """Do nothing: all can be taken from where it is."""

    def recover(self) -> bool:
        """Return False: no other process has left anything here."""
        return False

    def wait_until(self, until: float) -> None:
        """Do nothing: nobody waits for other processes."""

    def close(self) -> None:
        """Do nothing: nothing is open."""
