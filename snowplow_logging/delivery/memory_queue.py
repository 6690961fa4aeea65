"""The queue in memory, into which the log call puts events without a lock."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable
from itertools import islice, repeat, starmap
from typing import Final

from snowplow_logging.delivery.ledger import Ledger
from snowplow_logging.delivery.queue import Batch, Limits
from snowplow_logging.delivery.waiting import ONCE, Lock, clock
from snowplow_logging.unfinished import finished, longest_finished

__all__ = ["MemoryQueue"]

_SMALL: Final = 4_096  # bytes of an event that may come without anybody looking
_FEW: Final = 4_096  # events that are reached by index, one after the other
_NONE: Final[list[bytes]] = []  # never changed


class MemoryQueue:
    """Events that wait in memory.

    The log call does no more than append an event, without a lock. How many there are is known from
    the deque itself. Their bytes are summed up when somebody looks, under the lock, and `put` looks
    itself when as many events have come that anybody might have to know.

    Args:
        lock: The lock of all that waits.
        ledger: Where events are counted.
        limits: How much may wait.
        called: Wakes who sends, if an event gives him something to do.
        keeps: Whether events that were taken stay here until they are answered for, and count
            among those that may wait; else they are written into a file.

    Attributes:
        held: How many of the first events are being written into that file.
        written: How many have left for that file, ever.
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
        self._keeps = keeps
        self._events: deque[bytes] = deque()
        ledger.in_memory = self._events.__len__
        self._seen = 0  # events whose bytes are counted
        self._seen_size = 0
        self._changes = 0  # of those two, ever
        self._unseen_until = 0  # how many events there may be before `put` looks
        self._had_no_room = False  # since events were last taken
        # At how many events, or bytes of them, who puts another one calls.
        self._call_at: float = 1
        self._call_at_size: float = math.inf
        self.held = 0
        self.written = 0
        self.since = 0.0
        self.size = 0

    def put(self, payload: bytes) -> list[bytes]:
        """Put an event behind the others.

        Returns:
            Events for which there is no room: the last ones, this one or those that other threads
            put at the same moment.
        """
        events = self._events
        events.append(payload)
        if len(events) <= self._unseen_until and len(payload) <= _SMALL:
            return _NONE
        try:
            return self._look()
        except (MemoryError, RecursionError):
            # The event is there all the same, and who puts the next one looks.
            return _NONE

    def _look(self) -> list[bytes]:
        """Count what has come, call who has to know, and take back what is too much."""
        away: list[bytes] = []
        with self._lock:
            self._see()
            while len(self._events) > self.held and self._is_too_much():
                self._had_no_room = True
                with contextlib.suppress(IndexError):  # a signal handler has sent it
                    away.extend(starmap(self._events.pop, ONCE))
                if away and len(self._events) < self._seen:  # else it had come since
                    self._lose_sight(len(away[-1]) + self._limits.overhead)
            calls = self._seen >= self._call_at or self._seen_size >= self._call_at_size
            calls = calls or (bool(away) and self._call_at < math.inf)
            self._look_again()
        if calls:
            self._called()
        return away

    def _see(self) -> None:
        """Count the bytes of what has come since. Needs the lock.

        A signal handler may come at any call in here, and may even flush. So what was counted is
        added with no call in between, and only if nothing has changed meanwhile.
        """
        while self._seen != len(self._events):
            changes, before, now = self._changes, self._seen, len(self._events)
            if not 0 < before <= now:
                before, self._seen, self._seen_size = 0, 0, 0
            try:
                size = self._size(self._between(before, now))
            except (IndexError, RuntimeError):  # it was changed by what came in between
                continue
            since = self.since if before else clock.now()
            others = self._queued - now
            if self._changes == changes:
                self._changes += 1
                self.since = since
                self.size = size + (self.size if before or others else 0)
                self._seen_size += size
                self._seen = now

    def _between(self, first: int, end: int) -> list[bytes]:
        """Return the events from one index to another; more than a few by a copy of all.

        An index far from both ends of a deque takes long to reach: 400,000 of them took seconds.
        """
        if end - first <= _FEW:
            return [self._events[index] for index in range(first, end)]
        return [*islice(self._events.copy(), first, end)]

    def _lose_sight(self, size: int) -> None:
        self._changes += 1
        self._seen -= 1
        self._seen_size -= size
        self.size -= size

    def _look_again(self) -> None:
        """Say how many events may come before anybody has to know. Needs the lock."""
        limits, seen = self._limits, self._seen
        if not seen or self._call_at <= seen + 1:
            self._unseen_until = 0  # the next one begins to wait, or somebody waits for it
            return
        room = limits.events - (self._queued - seen)
        size = min(limits.size - self.size, self._call_at_size - self._seen_size)
        by_size = max(0, size) // (_SMALL + limits.overhead)
        self._unseen_until = int(min(room, self._call_at - 1, seen + by_size))

    @property
    def _queued(self) -> int:
        return self._ledger.queued if self._keeps else len(self._events)

    def _is_too_much(self) -> bool:
        queued = self._queued
        return queued > self._limits.events or (self.size > self._limits.size and queued > 1)

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
    def first(self) -> int:
        """The place of the first of them in the order of all that was logged."""
        return self._ledger.passed

    @property
    def is_due(self) -> bool:
        """Whether there are as many as go into a request, or as may wait at all."""
        limits = self._limits
        return len(self._events) > 0 and (
            len(self._events) >= limits.batch_events
            or self._seen_size >= limits.batch_size
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
            self._see()
            if self.is_due:
                self._call_at = self._call_at_size = math.inf  # what is there is known
            elif not self._seen:
                self._call_at, self._call_at_size = 1, math.inf
            else:
                until_full = limits.events - self._queued
                self._call_at = min(limits.batch_events, self._seen + until_full)
                self._call_at_size = limits.batch_size
            self._look_again()

    def call_always(self) -> None:
        """Have who puts an event call whatever there is to do, because nobody is there."""
        with self._lock:
            self._call_at, self._unseen_until = 1, 0

    def do_not_call(self) -> None:
        """Have nobody call, because somebody is awake who looks for himself."""
        with self._lock:
            self._see()
            self._call_at = self._call_at_size = math.inf
            self._look_again()

    def take(self, batch: Batch, is_wanted: Callable[[], bool]) -> None:
        """Move the next events, as many as go into a request, into a batch."""
        with self._lock:
            self._see()
            if self.held or not is_wanted():
                return
            payloads = self._fitting()
            batch.first = self._ledger.passed
            self._had_no_room = False
            self._move(len(payloads), self._size(payloads), batch.payloads)

    def _move(self, count: int, size: int, into: list[bytes], *, written: int = 0) -> None:
        """Move the first events, which have so many bytes, into a list. Needs the lock."""
        before = len(into)
        pops = starmap(self._events.popleft, repeat((), count))
        move = into.extend
        self._unseen_until = 0  # until what is left has been looked at
        try:
            # With no call but the last, so that an event is in one place and counted at any moment.
            self._changes += 1
            self._seen -= count
            self._seen_size -= size
            self._ledger.passed += count
            self.written += written
            move(pops)
        except IndexError:  # a signal handler has sent some of them
            self._ledger.passed -= count - (len(into) - before)
            self._seen = 0  # so that they are counted anew
        if self._seen >= 0:
            self._see()
            self._look_again()

    def _fitting(self) -> list[bytes]:
        """Return those of the events that the next request takes."""
        room = self._limits.room
        # What is too much is left to who has just put it and will take it back.
        most = self._limits.events - (self._queued - len(self._events))
        payloads = self._first(min(self._limits.batch_events, self._seen, most))
        if longest_finished(self._size(payloads), len(payloads)) > room:
            for index, payload in enumerate(map(finished, payloads)):
                room -= len(payload) + self._limits.overhead
                if room < 0:
                    return payloads[: max(1, index)]
        return payloads

    def _first(self, count: int) -> list[bytes]:
        # By index, because a signal handler may log, and an iterator breaks when the deque grows.
        payloads: list[bytes] = []
        with contextlib.suppress(IndexError):
            payloads += [self._events[index] for index in range(count)]
        return payloads

    def _size(self, payloads: list[bytes]) -> int:
        return sum(map(len, payloads)) + len(payloads) * self._limits.overhead

    def finish(self, batch: Batch) -> None:
        """Finish the payloads of a batch, where they are not finished."""
        with self._lock:
            payloads = [*map(finished, batch.payloads)]
            size = self._size(payloads) - self._size(batch.payloads)
            # With no call in between.
            self.size += size
            batch.payloads[:] = payloads

    def forget(self, batch: Batch, payloads: list[bytes]) -> None:  # noqa: ARG002 - of a store
        """Take note that events which were in a batch are answered for."""
        size = self._size(payloads)
        with self._lock:
            self.size -= size

    def abandon(self, into: list[bytes]) -> None:
        """Move all events into a list, but while some of them are being written into a file."""
        with self._lock:
            while self._events and not self.held:
                self._seen = self._seen_size = 0
                self._move(len(self._events), 0, into)
                self.size = 0

    def drop_oldest(self, reason: str) -> bool:
        """Drop the event that waits longest; return False where none can be dropped."""
        with self._lock:
            self._see()
            try:
                size = len(self._events[self.held]) + self._limits.overhead
            except IndexError:
                return False
            self._unseen_until = 0
            self._lose_sight(size)
            self._ledger.drop_from(self._events, self.held, reason)
            return True

    def oldest(self) -> bytes | None:
        """Return the event that waits longest."""
        with self._lock:
            first = self._first(1)
        return first[0] if first else None

    def hold(self, most: int) -> list[bytes]:
        """Return the first events, as many as that, which stay until they are let go."""
        with self._lock:
            self._see()
            self.held = min(most, self._seen)
            held = [*map(finished, self._first(self.held))]
        return held  # noqa: RET504 - see `Lock` on calls

    def let_go(self) -> None:
        """Let go of the events that were held, which are in a file now. Needs the lock."""
        self._see()
        count = self.held
        size = self._size(self._first(count))
        self._move(count, size, [], written=count)
        self.held = 0
        self.size -= size

    # What only a file needs.

    out_of_reach = 0
    is_used = False
    tend = None
    was_used = False

    @property
    def at_risk(self) -> int:
        """How many events would be lost with the process, less those being written into a file."""
        return max(0, len(self._events) - self.held)

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

    def close(self, is_used: Callable[[], bool]) -> None:
        """Do nothing: nothing is open."""
