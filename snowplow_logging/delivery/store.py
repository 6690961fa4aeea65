"""The queue with a file behind it, in which events outlive the process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Final

from snowplow_logging.delivery.ledger import Ledger
from snowplow_logging.delivery.notices import Reports
from snowplow_logging.delivery.queue import Batch, Limits, MemoryQueue
from snowplow_logging.delivery.sqlite_file import SQLiteFile, StoreError
from snowplow_logging.delivery.waiting import Bell, Lock, alone, clock

__all__ = ["StoreQueue"]

_WRITE_DELAY: Final = 0.02  # seconds that an event waits for others on its way into the file
_RECOVER_INTERVAL: Final = 2.0  # seconds between two looks for events that a process left behind
_RETRY_DELAY: Final = 30.0  # seconds that the file is left alone after it has failed
_FULL_DELAY: Final = 1.0  # seconds that nothing is written where the disk is full
_WRITTEN_AT_ONCE: Final = 500  # events, so that who waits for the file waits for milliseconds
_DROPPED_AT_ONCE: Final = 200  # of the oldest events, so that not many more go than have to


class StoreQueue:
    """Events that wait in a file, and in memory on their way there.

    A thread of its own writes what has come into memory, see `tend`. While the file cannot be used,
    events wait in memory and are sent from there; those in the file are sent once it can be again.

    One thread at a time uses the file. It may hold the file and then take the lock of all that
    waits, and never the other way round.

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
    ) -> None:
        self._lock = lock
        self._ledger = ledger
        self._reports = reports
        self._limits = limits
        self._file = file
        self._sync = sync
        self._drops_oldest = drops_oldest
        self._wake = called
        self._work = work
        self._done = done
        self._memory = MemoryQueue(lock, ledger, limits, self._called, keeps=False)
        self._writes = Bell(lock)  # rung when there is something for the file
        self._free = Bell(lock)  # rung when a thread has let go of the file
        self._claims: list[object] = []  # of the file, see `alone`
        self._stored = 0  # events in the file that are to be sent and not taken
        self._miscounted = False  # whether the file may have more of them, after an interrupt
        self._full = False
        self._not_before = 0.0  # when the file may be used again after it has failed
        self._no_writes_before = 0.0  # when it may be written again after the disk was full
        self._recover_at = 0.0
        self._more_to_recover = False
        self._answered: list[int] = []  # events that are still in the file
        self._users: list[int] = []  # threads that use the file, or wait for it
        self._stored_since = 0.0
        self._oldest: bytes | None = None  # in the file, where it is known
        if problem := file.problem():
            reports.add("store", f"{problem}; events are kept in memory")

    @property
    def was_used(self) -> bool:
        """Whether there is a file, in which an earlier process may have left events."""
        return self._file.path.exists()

    # What a queue can do.

    def put(self, payload: bytes) -> list[bytes]:
        """Put an event behind the others; return the last ones where there is no room for all."""
        if self._full:
            return [payload]
        away = self._memory.put(payload)
        if self._sync:
            self.collect()
            self._wake()
        return away

    def fits(self, payload: bytes) -> bool:
        """Tell whether there is room for an event."""
        return not self._full and self._memory.fits(payload)

    @property
    def waiting(self) -> int:
        """How many events wait."""
        return self._stored + self._memory.waiting

    @property
    def out_of_reach(self) -> int:
        """How many of them wait in a file that is closed or cannot be used."""
        return 0 if self._file.is_open and self._is_usable() else self._stored

    @property
    def ready(self) -> int:
        """How many of them can be taken now."""
        if self._stored and self._is_usable():
            return self._stored
        return 0 if self._can_be_written() else self._memory.waiting

    @property
    def since(self) -> float:
        """When the first of those that wait began to, or before."""
        return self._stored_since if self._stored and self._is_usable() else self._memory.since

    @property
    def is_due(self) -> bool:
        """Whether there are as many as go into a request, or as may wait at all."""
        return self._full or self.ready >= self._limits.batch_events or self._memory.is_due

    @property
    def size(self) -> int:
        """The bytes of the events in memory."""
        return self._memory.size

    @property
    def full(self) -> str:
        """What is full where an event has no room."""
        if self._full:
            return f"the store {self._file.path} has reached its {self._file.limit:,} bytes"
        return self._memory.full

    def call(self) -> None:
        """Do nothing: it is the thread which writes that waits for events in memory."""

    do_not_call = call

    def call_always(self) -> None:
        """Have who puts an event call whatever there is to do, because nobody is there."""
        self._memory.call_always()
        self._writes.ring()  # for who writes to see that it is not wanted any more

    def take(self, batch: Batch, is_due: Callable[[], bool]) -> None:
        """Move the next events, as many as go into a request, into a batch."""
        if not (self._stored and self._is_usable()):
            if not self._can_be_written():
                self._memory.take(batch, is_due)
                batch.first -= self._stored
            return
        self._use(lambda: self._take(batch, is_due))

    def forget(self, payloads: list[bytes], ids: list[int]) -> None:
        """Take note that events which were taken are answered for."""
        if ids:
            self._answered += ids
            self._use(self._remove)
        else:
            self._memory.forget(payloads, ids)

    def abandon(self, into: list[bytes]) -> None:
        """Move all that would be lost with the process into a list."""
        self._memory.abandon(into)

    def give_back(self, batch: Batch) -> bool:
        """Take events from the file back, which are in it as before. Needs the lock."""
        if not batch.ids:
            return False
        count, self._oldest = len(batch.payloads), batch.payloads[0] if batch.payloads else None
        self._stored += count
        batch.payloads = []
        return True

    def drop_oldest(self, reason: str) -> bool:
        """Drop the event in memory that waits longest; return False where there is none."""
        return not self._full and self._memory.drop_oldest(reason)

    def oldest(self) -> bytes | None:
        """Return the event that waits longest, if it is in memory."""
        return self._oldest if self._stored else self._memory.oldest()

    @property
    def is_at_rest(self) -> bool:
        """Whether what waits, if anything, was left to the file."""
        return not (self._memory.waiting or self._file.is_open or self._answered)

    # The file.

    def tend(self, is_wanted: Callable[[], bool]) -> None:
        """Write events into the file as they come, and take over what other processes left.

        Args:
            is_wanted: Tells whether to go on.
        """
        while self._is_awake(is_wanted):
            if self._memory.waiting and self._can_be_written():
                if self._memory.waiting < self._limits.batch_events:
                    self._writes.wait(lambda: self._delay(is_wanted))
                self.collect()
            if clock.now() >= self._recover_at:
                self._recover_at = clock.now() + _RECOVER_INTERVAL
                self._use(lambda: self._look(is_wanted))
            self._writes.wait(lambda: self._pause(is_wanted))

    def _is_awake(self, is_wanted: Callable[[], bool]) -> bool:
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
            if self._memory.waiting and self._can_be_written():
                return 0.0
        return self._recover_at - clock.now()

    def collect(self) -> None:
        """Bring what waits to where it can be taken: write what is in memory into the file."""
        if self._memory.waiting and self._can_be_written():
            self._use(self._write)

    def recover(self) -> bool:
        """Take over what other processes left; return whether there was anything."""
        if not (self._file.is_open and self._is_usable()):
            return False
        before = self._stored
        self._use(self._recover)
        return self._stored > before

    def wait_until(self, until: float) -> None:
        """Have nobody wait for other processes after a time; by the clock of `waiting`."""
        self._file.wait_until(until)

    def close(self) -> None:
        """Close the file, without waiting for other processes; what was taken is taken again."""

        def close() -> None:
            with contextlib.suppress(StoreError):
                if self._answered:
                    self._open()  # which removes them
            self._file.close(again=True)

        self._use(close)

    def _called(self) -> None:
        if not (self._sync and self._can_be_written()):  # or who puts an event writes it
            self._wake()
            self._writes.ring()

    def _is_usable(self) -> bool:
        return clock.now() >= self._not_before

    def _can_be_written(self) -> bool:
        return not self._full and clock.now() >= max(self._not_before, self._no_writes_before)

    def _use(self, work: Callable[[], None]) -> None:
        """Do something with the file, alone. Where that fails events are kept in memory.

        In a signal handler that has interrupted its own thread in here, nothing is done: the
        thread comes to it afterwards.
        """
        me, used = threading.get_ident(), False

        def use() -> None:
            nonlocal used
            used = True
            try:
                work()
            except StoreError as error:
                self._put_up_with(error)

        if me in self._users:
            return
        try:
            self._users.append(me)
            while not used:
                alone(self._claims, use)
                if not used:
                    self._free.wait(lambda: _WRITE_DELAY if self._claims else 0.0)
        finally:
            self._users.remove(me)
            self._free.ring()

    def _open(self) -> None:
        if self._file.open():
            self._more_to_recover = self._file.recover() > 0
            self._miscounted = True
        if self._answered:
            self._remove()
        if self._miscounted:
            self._count(self._file.waiting())

    def _count(self, stored: int) -> None:
        """Take note of how many events are in the file, where others than this queue put them."""
        with self._lock:
            more = stored - self._stored
            self._miscounted = False
            self._stored += more
            self._ledger.recovered += more
        if more:
            self._stored_since = clock.now()
            self._work.ring()
            self._done.ring()

    def _write(self) -> None:
        self._open()
        full = False
        while not full and (payloads := self._memory.hold(_WRITTEN_AT_ONCE)):
            count = len(payloads)
            try:
                self._miscounted = True
                full = self._file.add(payloads)
            except StoreError:
                self._miscounted = False
                raise
            finally:
                self._memory.held = 0
            with self._lock:
                if not self._stored:
                    self._stored_since, self._oldest = self._memory.since, payloads[0]
                self._miscounted = False
                self._stored += count
                self._memory.let_go(count, [])
            self._memory.forget(payloads, [])
            if full and self._drops_oldest:
                self._drop_oldest(count)
                full = False
        self._full = full
        self._work.ring()
        self._done.ring()

    def _drop_oldest(self, count: int) -> None:
        while self._file.is_full():
            dropped = self._file.remove_oldest(max(20, min(count, _DROPPED_AT_ONCE)))
            if not dropped:
                return
            path, limit = self._file.path, self._file.limit
            reason = f"the store {path} has reached its {limit:,} bytes, the oldest are dropped"
            with self._lock:
                self._stored -= dropped
                self._ledger.drop_stored(dropped, reason)
            self._reports.add("queue full", reason)
            self._done.ring()

    def _take(self, batch: Batch, is_due: Callable[[], bool]) -> None:
        self._open()
        if not is_due():
            return
        limits = self._limits
        rows, broken = self._file.take(
            min(limits.batch_events, self._stored),
            limits.room,
            lambda payload: len(payload) + limits.overhead,
        )
        if broken:
            self._give_up_broken(len(broken))
        if not rows and not broken:
            self._count(self._file.waiting())
            return
        ids, payloads = [number for number, _ in rows], [payload for _, payload in rows]
        with self._lock:
            batch.first = self._ledger.passed - self._stored
            # With no call in between, so that each event is counted in one place.
            batch.ids, batch.payloads, self._oldest = ids, payloads, None
            self._stored -= 0 if self._stored < len(rows) else len(rows)
        if self._more_to_recover and self._stored < limits.batch_events:
            self._recover_at = 0.0
            self._writes.ring()

    def _give_up_broken(self, count: int) -> None:
        path = self._file.path
        reason = f"{count:,} events given up: they have changed in {path}, which keeps them aside"
        with self._lock:
            self._stored -= count
            self._ledger.lose(count, "store row broken", reason)
        self._reports.add("store row broken", reason)
        self._done.ring()

    def _remove(self) -> None:
        if not self._file.is_open:
            return  # they are removed when it is opened again
        ids = [*self._answered]
        self._file.remove(ids)
        del self._answered[: len(ids)]
        self._end_fullness()

    def _end_fullness(self) -> None:
        if self._full and not self._file.is_full():
            self._full = False
            self._writes.ring()
            self._done.ring()

    def _look(self, is_wanted: Callable[[], bool]) -> None:
        """See what has become of the file, and what other processes have left in it."""
        if not (is_wanted() and self._is_usable()):
            return
        self._open()
        self._end_fullness()
        if self._stored:
            self._work.ring()  # they may have been out of reach
        if self._stored < self._limits.batch_events:
            self._recover()
        if not self._more_to_recover:
            while self._file.shrink() and not self._memory.waiting:
                pass

    def _recover(self) -> None:
        # Not more than are sent soon, so that other processes can help.
        recovered = self._file.recover()
        self._more_to_recover = recovered > 0
        self._count(self._stored + recovered)

    def _put_up_with(self, error: StoreError) -> None:
        """Go on in memory for a while, whatever is wrong with the file."""
        message, now = str(error), clock.now()
        kept = None
        if error.set_aside:
            with contextlib.suppress(StoreError):
                kept = self._file.waiting()
        if error.full:
            self._no_writes_before = now + _FULL_DELAY
        elif kept is None:
            self._not_before = now + _RETRY_DELAY
        self._full = False
        lost = self._stored - (kept or 0) if error.set_aside else 0
        if lost > 0:
            message = f"{message}, and {lost:,} that waited in it are lost"
            with self._lock:
                self._stored -= lost
                self._ledger.lose(lost, "store set aside", message)
        elif lost < 0:
            self._count(self._stored - lost)
        self._ledger.last_error = message
        self._memory.since = now
        if kept is None:
            message = f"{message}; events are kept in memory"
        self._reports.add("store", message)
        self._work.ring()
        self._done.ring()
