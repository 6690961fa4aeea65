"""The events of a queue that are in its file: how many they are, and what moves in and out."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Final

from snowplow_logging.delivery.ledger import Ledger
from snowplow_logging.delivery.left_by_others import LeftByOthers
from snowplow_logging.delivery.memory_queue import MemoryQueue
from snowplow_logging.delivery.notices import Reports
from snowplow_logging.delivery.queue import Batch, Limits
from snowplow_logging.delivery.sqlite_file import SQLiteFile, StoreError
from snowplow_logging.delivery.waiting import Exclusive, Lock, clock
from snowplow_logging.reporting import counted

__all__ = ["Stored"]

_RETRY_DELAY: Final = 30.0  # seconds that the file is left alone after it has failed
_FULL_DELAY: Final = 1.0  # seconds that nothing is written where the disk is full
_WRITE_GRACE: Final = 0.1  # seconds after a close's time in which more is written into the file
_CLOSE_GRACE: Final = 0.2  # seconds that who has the file gets to let go of it after a close's time
_WRITTEN_AT_ONCE: Final = 500  # events, so that who waits for the file waits for milliseconds
_DROPPED_AT_ONCE: Final = 200  # of the oldest events, so that not many more go than have to


class Stored:
    """Events in a file, counted.

    One thread at a time uses the file. It may hold the file and then take the lock of all that
    waits, and never the other way round. While it has the file, `waiting` is what the file says.

    An event in the file is waiting, or in a batch, or answered for. It changes from one to the
    other under the lock and with no call in between, so that it is never in two of these or none.

    Args:
        lock: The lock of all that waits.
        ledger: Where events are counted.
        reports: Where it is reported what goes wrong.
        limits: How much goes into one request.
        file: The file.
        memory: Where events wait on their way into the file.
        drops_oldest: Whether the oldest events give way when the file is full.
        changed: Called when there may be something to do for who sends, writes or waits for room.

    Attributes:
        is_full: Whether the file has reached its limit.
    """

    def __init__(
        self,
        lock: Lock,
        ledger: Ledger,
        reports: Reports,
        limits: Limits,
        *,
        file: SQLiteFile,
        memory: MemoryQueue,
        drops_oldest: bool,
        changed: Callable[[], None],
    ) -> None:
        self._lock = lock
        self._ledger = ledger
        self._reports = reports
        self._limits = limits
        self._file = file
        self._memory = memory
        self._drops_oldest = drops_oldest
        self._changed = changed
        self._turns = Exclusive(lock)
        self._write_until = math.inf
        self._found = 0  # events found in the file, less those that have left it or were taken
        self._miscounted = False  # whether the file may say otherwise, after an interrupt
        self._returned: list[Batch] = []  # taken and given back, until the file is closed
        self._answered: list[int] = []  # events that are still in the file
        self._others = LeftByOthers(file, reports)
        self.is_full = False
        self._not_before = 0.0  # when the file may be used again after it has failed
        self._no_writes_before = 0.0  # when it may be written again after the disk was full
        self._since = 0.0
        self._oldest: bytes | None = None  # where it is known

    # What is known without the file.

    @property
    def _stored(self) -> int:
        return self._memory.written + self._found

    @property
    def waiting(self) -> int:
        """How many events wait in the file."""
        return self._stored + sum(len(batch.payloads) for batch in self._returned)

    @property
    def is_usable(self) -> bool:
        """Whether the file is not left alone because it has failed."""
        return clock.now() >= self._not_before

    @property
    def can_be_written(self) -> bool:
        """Whether events can be written into it."""
        return not self.is_full and clock.now() >= max(self._not_before, self._no_writes_before)

    @property
    def ready(self) -> int:
        """How many events can be taken now."""
        return self.waiting if self.is_usable else 0

    @property
    def out_of_reach(self) -> int:
        """How many of them wait in a file that is closed or cannot be used."""
        return 0 if self._file.is_open and self.is_usable else self.waiting

    @property
    def since(self) -> float:
        """When the first of those that wait began to, or before."""
        return self._since

    @property
    def _is_gone(self) -> bool:
        """Whether it was removed with events in it, and cannot be read from here any more."""
        return self._stored > 0 and not self._file.is_open and self._file.is_gone()

    @property
    def is_used(self) -> bool:
        """Whether a thread uses the file now."""
        return self._turns.is_used

    @property
    def is_at_rest(self) -> bool:
        """Whether the file is closed, and nothing has to be done in it."""
        return not (self._file.is_open or self._answered)

    @property
    def has_room_for_others(self) -> bool:
        """Whether there are too few events for a request, while other processes have left some."""
        return self._others.have_more and self.waiting < self._limits.batch_events

    def oldest(self) -> bytes | None:
        """Return the event that waits longest, if it is known. Needs the lock."""
        return self._returned[0].payloads[0] if self._returned else self._oldest

    # What moves. Each of these is done alone, and where the file fails events are kept in memory.

    def write(self) -> None:
        """Write what is in memory into the file."""
        self._use(self._write)

    def take(self, batch: Batch, is_wanted: Callable[[], bool]) -> None:
        """Move the next events into a batch, see `Queue.take`."""
        self._use(lambda: self._take(batch, is_wanted))

    def forget(self, batch: Batch) -> None:
        """Remove the events of a batch that are answered for."""
        with self._lock:
            count = len(batch.ids) - len(batch.payloads)
            self._answered += batch.ids[:count]
            del batch.ids[:count]
        if count:
            self._use(self._remove)

    def give_back(self, batch: Batch) -> None:
        """Take back what is in a batch and is not answered for. Needs the lock."""
        count = len(batch.ids) - len(batch.payloads)
        returned = Batch(batch.first, batch.payloads, batch.ids[count:])
        more = [returned] if batch.payloads else []
        # With no call in between, so that no event is in two places.
        self._answered += batch.ids[:count]
        self._returned += more
        batch.payloads, batch.ids = [], batch.ids[:count]

    def recover(self) -> bool:
        """Take over what other processes left; return whether there was anything."""
        before = self.waiting
        self._use(self._recover)
        return self.waiting > before

    def look(self, is_wanted: Callable[[], bool]) -> None:
        """See what has become of the file, and what other processes have left in it."""
        self._use(lambda: self._look(is_wanted))

    def wait_until(self, until: float) -> None:
        """Have nobody wait for the file, or for other processes, after a time."""
        self._write_until = until + _WRITE_GRACE
        self._turns.latest = until + _CLOSE_GRACE
        self._file.wait_until(until)

    def close(self, is_used: Callable[[], bool]) -> None:
        """Close the file, without waiting for other processes, see `Queue.close`."""
        # Also where the file is closed: another thread may be about to count what is lost with it.
        self._use(lambda: self._close(is_used))

    def _use(self, work: Callable[[], None]) -> None:
        def use() -> None:
            try:
                work()
            except StoreError as error:
                self._put_up_with(error)

        self._turns.use(use)

    def _open(self) -> None:
        gone = self._is_gone
        if self._file.open():
            self._miscounted = True
            self._others.take_over()  # and all is counted below
        if self._answered:
            self._remove()
        if gone:
            self._lose(self._stored, f"the store {self._file.path} was removed while it was closed")
        if self._miscounted:
            self._count()

    def _count(self) -> None:
        """Take note of how many events are in the file, where others than this queue put them."""
        stored = self._file.waiting()
        with self._lock:
            more = stored - self._memory.written - self._found
            self._miscounted = False
            self._found += more
            self._ledger.recovered += more
        if more:
            self._since = clock.now()
            self._changed()

    def _write(self) -> None:
        self._open()
        memory, full = self._memory, False
        # Who closes may have more to be written than time for it.
        while not full and clock.now() < self._write_until:
            payloads = memory.hold(_WRITTEN_AT_ONCE)
            if not payloads:
                break
            try:
                self._miscounted = True  # if an interrupt leaves open whether it was written
                full = self._file.add(payloads)
                with self._lock:
                    if not self.waiting:
                        self._since, self._oldest = memory.since, payloads[0]
                    memory.let_go()
                self._miscounted = False
            except StoreError:
                self._miscounted = False
                raise
            finally:
                memory.held = 0
            if full and self._drops_oldest:
                self._drop_oldest(len(payloads))
                full = False
        self.is_full = full
        self._changed()

    def _drop_oldest(self, count: int) -> None:
        while self._file.is_full():
            dropped = self._file.remove_oldest(max(20, min(count, _DROPPED_AT_ONCE)))
            if not dropped:
                return
            path, limit = self._file.path, self._file.limit
            reason = f"the store {path} has reached its {limit:,} bytes, the oldest are dropped"
            with self._lock:
                self._found -= dropped
                self._ledger.drop_stored(dropped, reason)
            self._reports.add("queue full", reason)
            self._changed()

    def _take(self, batch: Batch, is_wanted: Callable[[], bool]) -> None:
        self._open()
        with self._lock:
            if self._returned and is_wanted():
                one = self._returned[0]
                del self._returned[0]
                batch.first, batch.ids, batch.payloads = one.first, one.ids, one.payloads
                return
        limits = self._limits
        taken = self._file.take(
            min(limits.batch_events, self._stored),
            limits.room,
            lambda payload: len(payload) + limits.overhead,
        )
        count, broken = len(taken.ids), len(taken.broken)
        if not count and not broken:
            self._count()
            return
        gone = counted(broken, "event given up: it has", "events given up: they have")
        reason = f"{gone} changed in {self._file.path}"
        with self._lock:
            if not is_wanted():
                return
            first = self._ledger.passed - self._stored
            # With no call in between, so that each event is counted in one place.
            batch.first, batch.ids, batch.payloads = first, taken.ids, taken.payloads
            self._file.share.cursors, self._oldest = taken.cursors, None
            self._found -= count + broken
            if broken:
                self._ledger.lose(broken, "store row broken", reason)
        if broken:
            self._file.set_aside(taken.broken)
            self._reports.add("store row broken", f"{reason}, which keeps what it holds aside")
            self._changed()

    def _remove(self) -> None:
        if not self._file.is_open:
            return  # they are removed when it is opened again
        ids = [*self._answered]
        self._file.remove(ids)
        del self._answered[: len(ids)]
        self._end_fullness()

    def _end_fullness(self) -> None:
        if self.is_full and not self._file.is_full():
            self.is_full = False
            self._changed()

    def _look(self, is_wanted: Callable[[], bool]) -> None:
        if not (is_wanted() and self.is_usable):
            return
        was_open = self._file.is_open
        self._open()
        self._end_fullness()
        if self.waiting:
            self._changed()  # they may have been out of reach
        if self.waiting < self._limits.batch_events:
            # Not more than are sent soon, so that other processes can help.
            self._recover(tells=was_open)
        if not self._others.have_more:
            while self._file.shrink() and not self._memory.waiting:
                pass

    def _recover(self, *, tells: bool = True) -> None:
        if not self._file.is_open:
            return  # another thread has closed it since it was asked for this
        recovered = self._others.take_over()
        with self._lock:
            self._found += recovered
            self._ledger.recovered += recovered
        if recovered:
            self._since = clock.now()
            self._changed()
        elif tells:  # but not at first, when another handler may not have opened the file yet
            self._others.tell()

    def _close(self, is_used: Callable[[], bool]) -> None:
        with contextlib.suppress(StoreError):
            if self._answered:
                self._open()  # which removes them
        cursors = dict.fromkeys(self._file.share.cursors, 0)
        with self._lock:
            if is_used():
                return
            again = sum(len(batch.payloads) for batch in self._returned)
            # With no call in between: what was taken and not answered for is taken again.
            self._file.share.cursors = cursors
            self._found += again
            self._returned = []
        self._file.close()
        if self._is_gone:
            self._lose(self._stored, f"the store {self._file.path} was removed")

    # What goes wrong.

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
        self.is_full = False
        lost = self._stored - (kept or 0) if error.set_aside else 0
        if lost > 0:
            what = counted(lost, "event that waited in it is", "events that waited in it are")
            message = f"{message}, and {what} lost"
            with self._lock:
                self._found -= lost
                self._ledger.lose(lost, "store set aside", message)
        elif lost < 0:
            with self._lock:
                self._found -= lost
                self._ledger.recovered -= lost
        self._ledger.last_error = self._ledger.last_failure = message
        self._memory.since = now
        if kept is None:
            message = f"{message}; events are kept in memory"
        self._reports.add("store", message)
        self._changed()

    def _lose(self, count: int, why: str) -> None:
        lost = counted(count, "event that waited in it is", "events that waited in it are")
        reason = f"{why}, and {lost} lost"
        with self._lock:
            self._found -= count
            self._ledger.lose(count, "store set aside", reason)
        self._reports.add("store set aside", reason)
