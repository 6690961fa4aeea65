"""The queue with a file behind it, in which events outlive the process."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from snowplow_logging.delivery.ledger import Ledger
from snowplow_logging.delivery.memory_queue import MemoryQueue
from snowplow_logging.delivery.notices import Reports
from snowplow_logging.delivery.queue import Batch, Limits
from snowplow_logging.delivery.sqlite_file import SQLiteFile
from snowplow_logging.delivery.stored import Stored
from snowplow_logging.delivery.waiting import Bell, Lock, clock

__all__ = ["StoreQueue"]

_WRITE_DELAY: Final = 0.02  # seconds that an event waits for others on its way into the file
_RECOVER_INTERVAL: Final = 2.0  # seconds between two looks for events that a process left behind


class StoreQueue:
    """Events that wait in a file, and in memory on their way there.

    A thread of its own writes what has come into memory, see `tend`. While the file cannot be used,
    events wait in memory and are sent from there; those in the file are sent once it can be again.

    Args:
        lock: The lock of all that waits.
        ledger: Where events are counted.
        reports: Where it is reported what goes wrong.
        limits: How much may wait in memory, and how much goes into one request.
        file: The file.
        sync: Whether `put` returns only once its event is in the file.
        drops_oldest: Whether the oldest events give way when the file is full.
        called: Wakes who sends, if an event gives him something to do.
        work: Rung when there may be something to do for who sends, if anybody does.
        done: Rung when there may be room again.
        look_interval: The seconds between two looks for what other processes have left; None for
            the usual ones.
    """

    def __init__(
        self,
        lock: Lock,
        ledger: Ledger,
        reports: Reports,
        limits: Limits,
        *,
        file: SQLiteFile,
        sync: bool,
        drops_oldest: bool,
        called: Callable[[], None],
        work: Bell,
        done: Bell,
        look_interval: float | None = None,
    ) -> None:
        self._lock = lock
        self._ledger = ledger
        self._limits = limits
        self._file = file
        self._look_interval = look_interval or _RECOVER_INTERVAL
        self._sync = sync
        self._wake = called
        self._work = work
        self._done = done
        self._writes = Bell(lock)  # rung when there is something for the file
        self._recover_at = 0.0
        self._memory = MemoryQueue(lock, ledger, limits, self._called, keeps=False)
        self._stored = Stored(
            lock,
            ledger,
            reports,
            limits,
            file=file,
            memory=self._memory,
            drops_oldest=drops_oldest,
            changed=self._changed,
        )
        if problem := file.problem():
            reports.add("store", f"{problem}; events are kept in memory")

    def _called(self) -> None:
        if not (self._sync and self._stored.can_be_written):  # or who puts an event writes it
            self._wake()
            self._writes.ring()

    def _changed(self) -> None:
        for bell in (self._work, self._done, self._writes):
            bell.ring()

    @property
    def was_used(self) -> bool:
        """Whether there is a file, in which an earlier process may have left events."""
        return os.path.exists(self._file.path)

    # The way in.

    def put(self, payload: bytes) -> list[bytes]:
        """Put an event behind the others; return the last ones where there is no room for all."""
        if self._stored.is_full:
            return [payload]
        away = self._memory.put(payload)
        if self._sync:
            self.collect()
            self._wake()
        return away

    def fits(self, payload: bytes) -> bool:
        """Tell whether there is room for an event."""
        return not self._stored.is_full and self._memory.fits(payload)

    @property
    def full(self) -> str:
        """What is full where an event has no room."""
        if self._stored.is_full:
            return f"the store {self._file.path} has reached its {self._file.limit:,} bytes"
        return self._memory.full

    def drop_oldest(self, reason: str) -> bool:
        """Drop the event in memory that waits longest; return False where there is none."""
        return not self._stored.is_full and self._memory.drop_oldest(reason)

    # What waits.

    @property
    def waiting(self) -> int:
        """How many events wait."""
        return self._stored.waiting + self._memory.waiting

    @property
    def first(self) -> int:
        """The place of the first of them in the order of all that was logged."""
        with self._lock:
            first = self._ledger.passed - self._stored.waiting
        return first  # noqa: RET504 - see `Lock` on calls

    @property
    def ready(self) -> int:
        """How many of them can be taken now."""
        if ready := self._stored.ready:
            return ready
        return 0 if self._stored.can_be_written else self._memory.waiting

    @property
    def out_of_reach(self) -> int:
        """How many of them wait in a file that is closed or cannot be used."""
        return self._stored.out_of_reach

    @property
    def since(self) -> float:
        """When the first of those that wait began to, or before."""
        return self._stored.since if self._stored.ready else self._memory.since

    @property
    def is_due(self) -> bool:
        """Whether there are as many as go into a request, or as may wait at all."""
        return (
            self._stored.is_full or self.ready >= self._limits.batch_events or self._memory.is_due
        )

    @property
    def size(self) -> int:
        """The bytes of the events in memory."""
        return self._memory.size

    def oldest(self) -> bytes | None:
        """Return the event that waits longest, if it is known."""
        return self._stored.oldest() if self._stored.waiting else self._memory.oldest()

    @property
    def at_risk(self) -> int:
        """How many events would be lost with the process, less those being written."""
        return self._memory.at_risk

    @property
    def is_used(self) -> bool:
        """Whether a thread uses the file now."""
        return self._stored.is_used

    @property
    def is_at_rest(self) -> bool:
        """Whether what waits, if anything, was left to the file."""
        return self._stored.is_at_rest and not self._memory.waiting

    # The way out.

    def take(self, batch: Batch, is_wanted: Callable[[], bool]) -> None:
        """Move the next events, as many as go into a request, into a batch."""
        if self._stored.ready:
            self._stored.take(batch, is_wanted)
            if self._stored.has_room_for_others:
                self._recover_at = 0.0
                self._writes.ring()
        elif not self._stored.can_be_written:
            self._memory.take(batch, is_wanted)
            batch.first -= self._stored.waiting

    def finish(self, batch: Batch) -> None:
        """Finish the payloads of a batch, where they are not finished; in the file they are."""
        if not batch.ids:
            self._memory.finish(batch)

    def forget(self, batch: Batch, payloads: list[bytes]) -> None:
        """Take note that events which were in a batch are answered for, and are not any more."""
        if batch.ids:
            self._stored.forget(batch)
        else:
            self._memory.forget(batch, payloads)

    def give_back(self, batch: Batch) -> bool:
        """Take events from the file back, which are in it as before. Needs the lock."""
        if not batch.ids:
            return False
        self._stored.give_back(batch)
        return True

    def abandon(self, into: list[bytes]) -> None:
        """Move all that would be lost with the process into a list."""
        self._memory.abandon(into)

    def recover(self) -> bool:
        """Take over what other processes left; return whether there was anything."""
        return self._file.is_open and self._stored.is_usable and self._stored.recover()

    def wait_until(self, until: float) -> None:
        """Have nobody wait for other processes after a time; by the clock of `waiting`."""
        self._stored.wait_until(until)

    def close(self, is_used: Callable[[], bool]) -> None:
        """Close the file, unless events from it are under way."""
        self._stored.close(is_used)

    # Who writes, and is called instead of who sends.

    def call(self) -> None:
        """Do nothing: it is the thread which writes that waits for events in memory."""

    do_not_call = call

    def call_always(self) -> None:
        """Have who puts an event call whatever there is to do, because nobody is there."""
        self._memory.call_always()
        self._writes.ring()  # for who writes to see that it is not wanted any more

    def collect(self) -> None:
        """Bring what waits to where it can be taken: write what is in memory into the file."""
        if self._memory.waiting and self._stored.can_be_written:
            self._stored.write()

    def tend(self, is_wanted: Callable[[], bool]) -> None:
        """Write events into the file as they come, and take over what other processes left.

        Args:
            is_wanted: Tells whether to go on.
        """
        while self._is_awake(is_wanted):
            if self._memory.waiting and self._stored.can_be_written:
                if self._memory.waiting < self._limits.batch_events:
                    self._writes.wait(lambda: self._delay(is_wanted))
                self.collect()
            if clock.now() >= self._recover_at:
                self._recover_at = clock.now() + self._look_interval
                self._stored.look(is_wanted)
            self._writes.wait(lambda: self._pause(is_wanted))

    def _is_awake(self, is_wanted: Callable[[], bool]) -> bool:
        if not is_wanted():
            return False  # without the lock, which a library may have replaced meanwhile
        with self._lock:
            if not is_wanted():
                return False  # who comes after may have asked to be called
            self._memory.do_not_call()
            return True

    def _delay(self, is_wanted: Callable[[], bool]) -> float:
        with self._lock:
            if not is_wanted():
                return 0.0
            self._memory.call()
            return _WRITE_DELAY

    def _pause(self, is_wanted: Callable[[], bool]) -> float:
        with self._lock:
            if not is_wanted():
                return 0.0
            self._memory.call()
            if self._memory.waiting and self._stored.can_be_written:
                return 0.0
        return self._recover_at - clock.now()
