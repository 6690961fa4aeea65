"""The other end of the queue: threads that batch payloads, send them and account for each."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import random
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat, starmap
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from snowplow_logging.account import Account, Stats
from snowplow_logging.delivery.sqlite_file import SQLiteFile as Store
from snowplow_logging.delivery.sqlite_file import StoreError
from snowplow_logging.processes import processes
from snowplow_logging.transport import STM_BYTES, Answer, Outcome, Transport

if TYPE_CHECKING:
    from snowplow_logging.dead_letter import DeadLetterFile

__all__ = ["Emitter", "OnFailure", "OnSuccess", "StoreError"]

OnSuccess: TypeAlias = Callable[[list[dict[str, Any]]], None]
OnFailure: TypeAlias = Callable[[list[dict[str, Any]], str], None]

logger: Final = logging.getLogger("snowplow_logging")

_LOGGERS: Final = ("requests", "snowplow_logging", "urllib3")
"""Whose loggers a sending thread may use."""

_FIRST_RETRY_DELAY: Final = 0.5  # seconds; doubled with each failure in a row
_WRITE_DELAY: Final = 0.02  # seconds that an event waits for others on its way into the store
_RECOVER_INTERVAL: Final = 2.0  # seconds between two looks for events that a process left behind
_STORE_RETRY_DELAY: Final = 30.0  # seconds that a store is left alone after it has failed
_WRITE_RETRY_DELAY: Final = 1.0  # seconds that nothing is written into it where the disk is full
_WRITE_AT_ONCE: Final = 500  # events
_DROP_AT_ONCE: Final = 200  # of the oldest events, so that not many more go than have to
_LEAVE_TIMEOUT: Final = 1.0  # seconds that the end of the process waits for a thread at most
_TAKEOVER_DELAY: Final = 0.05  # seconds that `close` gives the threads to begin before it does
_SMALL: Final = 4_096  # bytes of a payload that may be queued without the lock
_RESERVED: Final = 100  # places in the queue that are given away under the lock alone


@dataclass(eq=False)
class _Batch:
    """Events that have left the queue and are not answered for yet.

    Attributes:
        payloads: The events that are not answered for.
        first: The number of the first event, counted from the first ever queued.
        thread: The thread that sends them.
        ids: Their ids in the store, where they come from it.
        abandoned: Whether `close` has given them up while their request was under way.
    """

    payloads: list[bytes]
    first: int
    thread: int
    ids: Sequence[int] = ()
    abandoned: bool = False


@dataclass(eq=False)
class _Move:
    """Payloads on their way out of the queue.

    Attributes:
        into: Where they go.
        counted: How many of those that are there have nothing to do with it, or are counted.
    """

    into: list[bytes]
    counted: int


@dataclass(eq=False)
class _Connection:
    """Sends one request at a time.

    Attributes:
        failures: How many requests in a row have failed.
        failed_at: The monotonic time at which the last of them did.
        not_before: The monotonic time before which the next one does not start.
    """

    failures: int = 0
    failed_at: float = 0.0
    not_before: float = 0.0


class Emitter:
    """Queues payloads for threads of its own, which send them in batches until answered.

    The threads start at the first event. A forked child starts empty, with threads of its own.

    Args:
        transport: Sends a batch.
        batch_size: The events that a request carries at most.
        batch_bytes: The bytes that its body has at most, unless one event alone has more.
        flush_interval: The seconds that an event waits for others at most.
        queue_size: The events that may wait.
        on_full: What gives way when no more may: `drop` the new event, `drop_oldest`, or `block`.
        block_timeout: The seconds that `block` waits for room at most.
        connections: The requests under way at once.
        max_retry_delay: The seconds between two attempts at most.
        max_attempts: The attempts after which events are given up; None for no end.
        shutdown_timeout: The seconds that `close` takes at most.
        on_success: Called with the events that the collector has taken.
        on_failure: Called with events that were given up, and why.
        dead_letters: Where events are kept that were given up.
        store: Where events wait; in memory where None.
        store_sync: Whether `put` returns only once its event is in the store.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        batch_size: int,
        batch_bytes: int,
        flush_interval: float,
        queue_size: int,
        on_full: str,
        block_timeout: float,
        connections: int,
        max_retry_delay: float,
        max_attempts: int | None,
        shutdown_timeout: float,
        on_success: OnSuccess | None,
        on_failure: OnFailure | None,
        dead_letters: DeadLetterFile | None,
        store: Store | None,
        store_sync: bool,
    ) -> None:
        self._transport = transport
        self._batch_size = min(batch_size, transport.batch_limit or batch_size)
        self._batch_bytes = batch_bytes
        self._flush_interval = min(flush_interval, threading.TIMEOUT_MAX)
        self._queue_size = queue_size
        self._on_full = on_full
        self._block_timeout = min(block_timeout, threading.TIMEOUT_MAX)
        self._connections = connections
        self._max_retry_delay = min(max_retry_delay, threading.TIMEOUT_MAX)
        self._max_attempts = max_attempts
        self.shutdown_timeout = shutdown_timeout
        self._on_success = on_success
        self._on_failure = on_failure
        self._dead_letters = dead_letters
        self._store = store
        self._store_sync = store_sync
        self._generation = 0  # of the threads; `close` ends one
        self._in_flight: list[_Batch] = []
        self._greenlets: set[Any] = set()  # that gevent made of the threads
        self._reset()
        processes.register(self)
        problem = None if store is None else store.problem()
        if problem is not None:
            self.report("store", f"{problem}; events are kept in memory")
        elif store is not None and os.path.exists(store.path):  # noqa: PTH110 - never raises
            self._start_threads()  # an earlier process may have left events in it

    def _reset(self) -> None:
        """Start empty, with new locks, as a process does that has no part in its parent's."""
        # Re-entrant: a signal handler or a finaliser may log while its own thread holds it.
        lock = self._lock = threading.RLock()
        self._work = threading.Condition(lock)  # there is something to do for the threads
        self._done = threading.Condition(lock)  # something has been answered for
        self._writes = threading.Condition(lock)  # there is something for the store
        self._hurry = threading.Condition(lock)  # who waits to try again is to look up
        # In memory: to be sent, or to be stored if possible. `put` adds to it without the lock, so
        # it is looked at under the lock, and what has not been looked at yet counts nowhere.
        self._queue: deque[bytes] = deque()
        self._queued = 0  # events in the queue that have been looked at
        self._queued_bytes = 0
        self._look_at = 0  # the length of the queue at which `put` has it looked at
        self._moves: list[_Move] = []  # out of the queue, under way
        self._untold = False  # whether the first event in the queue is one that nobody knows of
        self._storing = threading.RLock()  # held by who uses the store, taken before the other
        self._store_user: int | None = None  # the thread that uses it
        self._writing: list[bytes] = []  # on their way into the store
        self._stored = 0  # events in the store that are to be sent
        self._returned: list[_Batch] = []  # those of them that are in memory as well
        self._store_full = False
        self._store_down_until = 0.0
        self._write_down_until = 0.0
        self._recover_at = 0.0
        self._more_to_recover = False
        self._unremoved: list[int] = []  # events answered for that are still in the store
        self._parked = False  # whether closing has left events to the store
        self._writer: threading.Thread | None = None
        self._since = 0.0  # when the first event in the queue began to wait
        self._accepted = 0  # events ever queued
        self._due = 0  # events up to this number leave at once
        self._unanswered = 0  # events in the queue and in flight
        self._in_flight = []
        self._links = [_Connection() for _ in range(self._connections)]  # one for each thread
        self._telling: list[int] = []  # threads that tell of a refused event
        self._calling: list[int] = []  # threads in a callback
        self._refused: deque[tuple[dict[str, Any], str]] = deque()
        self._refusals = 0  # ever put into that
        self._refusals_told = 0
        self._threads: list[threading.Thread] = []
        self._leaving: list[threading.Thread] = []  # those of before a `close`
        self._greenlets = set()
        self._idle = 0  # threads that wait for work
        self._closing: float | None = None  # the monotonic time by which all has to be done
        self._closing_since = 0.0
        self._progress = 0.0  # when a thread last began or ended something
        self._last_flush: tuple[int, float, float] | None = None
        self._exit_seconds = 0.0
        self._account = Account()
        self._reporting: list[int] = []  # threads that write reports
        self._pid = os.getpid()

    @property
    def url(self) -> str:
        """Where the events go."""
        return self._transport.url

    def _here(self) -> None:
        """See to it that the state is this process's own; not every server runs fork hooks."""
        if self._pid != os.getpid():
            with processes.fork_lock:
                if self._pid != os.getpid():
                    self.after_fork()

    def after_fork(self) -> None:
        """Start afresh in a child process; what waits in the parent is the parent's to send."""
        if self._store is not None:
            self._store = self._store.after_fork()
        for greenlet in self._greenlets:
            greenlet.kill(block=False)  # before it reads what its parent is answered
        for batch in self._in_flight:
            batch.abandoned, batch.payloads, batch.ids = True, [], ()
        self._generation += 1
        self._reset()

    # The way in, on the thread of the log call.

    def put(self, payload: bytes) -> None:
        """Queue one payload. Waits, if at all, no longer than `block_timeout`."""
        if len(self._queue) < self._look_at and len(payload) <= _SMALL and self._pid == os.getpid():
            # Without the lock, for which threads that log at once would queue up.
            self._queue.append(payload)
            if len(self._queue) < self._look_at:
                return
        elif not self._put_under_lock(payload):
            return
        with self._lock:
            self._look()
            self._start_threads()
        if self._store_sync:
            self._write()
        if processes.exiting:
            self.close()
            self.join()

    def _put_under_lock(self, payload: bytes) -> bool:
        """Queue a payload if there is room, or if it can be made; tell whether."""
        self._here()
        with self._lock:
            self._look()
            if self._is_full() and not self._make_room():
                self._lose(
                    "dropped", "queue full", 1, f"{self._what_is_full()}, events are dropped"
                )
                return False
            self._queue.append(payload)
            return True

    def _look(self) -> None:
        """Count what has come into the queue, and wake who has to know of it. Needs the lock.

        A signal handler may log, or even flush, at any call in here and in `_take_first`. So what
        belongs together is changed with no call in between, and only if none has done so before.
        """
        while True:
            if self._moves:
                self._count_moved()
            accepted, before, now = self._accepted, self._queued, len(self._queue)
            if now > before:
                with contextlib.suppress(IndexError):  # a signal handler has sent some of them
                    size = sum([len(self._queue[index]) for index in range(before, now)])
                if not before:
                    self._untold = True
                if accepted == self._accepted:
                    self._queued = now
                    self._queued_bytes += size + (now - before) * STM_BYTES
                    self._accepted += now - before
                    self._unanswered += now - before
                else:
                    continue
            self._wake(more=now > before)
            self._look_at = self._queued + self._may_go_unseen()
            # Who has put something before that was set does not look, and who does later will.
            if len(self._queue) < self._look_at or len(self._queue) == self._queued:
                return

    def _may_go_unseen(self) -> int:
        """Return how many events may be queued before anybody has to know."""
        if (
            not self._queued  # the next one begins to wait
            or self._is_full()
            or self._store_sync
            or self._closing is not None
            or processes.exiting
            or len(self._threads) < self._connections
            or (self._store is not None and self._writer is None)
        ):
            return 0
        waiting = self._unanswered if self._store is None else self._queued + len(self._writing)
        places = self._queue_size - _RESERVED - waiting
        if self._is_batch():
            until_batch = self._batch_size  # until the next one: who can send this one was told
        else:
            bytes_left = self._batch_bytes - self._queued_bytes
            until_batch = self._batch_size - self._queued
            until_batch = min(until_batch, bytes_left // (_SMALL + STM_BYTES))
        return max(0, min(places, until_batch))

    def _is_batch(self) -> bool:
        return self._queued >= self._batch_size or self._queued_bytes >= self._batch_bytes

    def _wake(self, *, more: bool) -> None:
        """Wake who has something to do where the first event has come, or more, into the queue."""
        due = self._is_batch() or self._unanswered >= self._queue_size
        if self._store is not None and self._writable():
            # Not each time, because it lets other events join the first. With `store_sync` the
            # thread of the log call writes.
            if not self._store_sync and (self._untold or (more and due)):
                self._writes.notify()
        elif self._untold:
            self._work.notify_all()  # one alone may be waiting to try again
        elif more and due and self._idle:
            self._work.notify()
        if self._untold:
            self._since = time.monotonic()
            self._untold = False

    def _is_full(self) -> bool:
        if self._store is None:
            return self._unanswered >= self._queue_size
        return self._store_full or self._queued + len(self._writing) >= self._queue_size

    def _what_is_full(self) -> str:
        if self._store_full and self._store is not None:
            return f"the store {self._store.path} has reached its {self._store.limit:,} bytes"
        return f"the queue of {self._queue_size:,} events is full"

    def _make_room(self) -> bool:
        if self._on_full == "drop_oldest":
            message = f"the queue of {self._queue_size:,} events is full, the oldest are dropped"
            while self._is_full() and self._queued:
                dropped: list[bytes] = []
                self._take_first(1, dropped)
                if dropped:
                    self._unanswered -= 1
                    self._lose("dropped", "queue full", 1, message)
        elif self._on_full == "block" and self._may_wait():
            until = time.monotonic() + self._block_timeout
            while self._is_full() and (left := until - time.monotonic()) > 0:
                self._done.wait(left)
                self._look()
        return not self._is_full()

    def _is_own_thread(self) -> bool:
        return threading.current_thread() in self._threads

    def _may_wait(self) -> bool:
        if self._is_own_thread() or threading.get_ident() in self._calling:
            return False
        try:
            sys.modules["asyncio"].get_running_loop()
        except (AttributeError, KeyError, RuntimeError):
            return True  # asyncio is not there, or only half imported, or does not run here
        return False  # an event loop must never wait

    def refuse(self, event: dict[str, Any], reason: str, loss: str) -> None:
        """Account for an event that is not sent because Snowplow would refuse it.

        Args:
            event: The event as it is shown.
            reason: What was wrong.
            loss: The reason under which it is counted.
        """
        self._here()
        with self._work:
            self._lose("invalid", loss, 1, reason)
            # As many as events may wait, so that a flood of bad ones takes no more memory.
            wanted = self._on_failure is not None or self._dead_letters is not None
            if wanted and len(self._refused) < self._queue_size:
                self._refused.append((event, reason))
                self._refusals += 1
                self._work.notify()

    def leave_out(self) -> None:
        """Count an event that `before_send` left out."""
        self._here()
        with self._work:
            self._account.count("filtered")

    def report(self, kind: str, message: str) -> None:
        """Have something reported on the logger `snowplow_logging`, once a minute for its kind."""
        self._here()
        with self._work:
            if self._account.report(kind, message):
                self._work.notify()
                self._start_threads()

    def _lose(
        self, count: str, loss: str, events: int, message: str, *, told: bool = False
    ) -> None:
        self._account.lose(count, loss, events, message)
        if not told:
            self.report(loss, message)

    # What the owner may ask.

    @property
    def stats(self) -> Stats:
        """What has become of the events logged in this process so far."""
        self._here()
        with self._work:
            self._look()
            return self._account.stats(self._unanswered)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was queued before is answered for.

        Args:
            timeout: The seconds to wait at most; None for `shutdown_timeout`.

        Returns:
            Whether it is.
        """
        self._here()
        start = time.monotonic()
        deadline = start + (self.shutdown_timeout if timeout is None else timeout)
        self.hurry()
        with self._work:
            accepted, refusals = self._due, self._refusals
            if not self._answered(accepted, refusals):
                if not (self._threads or self._queued or self._refused or self._store_is_open()):
                    return False  # closed, and what is left waits in the store
                self._start_threads()
        answered = self._wait(deadline, accepted, refusals)
        self._last_flush = threading.get_ident(), start, time.monotonic()
        return answered

    def close(self, until: float = math.inf) -> None:
        """Send what is queued, for at most `shutdown_timeout`, give up the rest, end the threads.

        The next event opens the emitter again.

        Args:
            until: The monotonic time by which to be done, if that is sooner.
        """
        self._here()
        start = time.monotonic()
        deadline = max(start, min(self._close_by(start), until))
        with self._work:
            self._look()
            under_way = any(not batch.abandoned for batch in self._in_flight)
            idle = not (self._threads or self._queued or under_way or self._store_is_open())
            if idle and not (self._refused or self._account.has_reports):
                return
            if self._store is not None:
                self._store.wait_until(deadline)
            if self._store_user == threading.get_ident():
                deadline = start  # in a signal handler, inside a write that cannot go on meanwhile
            self._closing, self._closing_since, self._parked = deadline, start, False
            self._wake_all()
        try:
            while True:
                self._wait(deadline, None, None)
                if not self._takes_over(deadline) and self._end(deadline):
                    break
        except BaseException:  # an interrupt, after which the program may go on
            with self._work:
                self._closing = None
                self._threads = [thread for thread in self._threads if thread.is_alive()]
            raise
        finally:
            if self._store is not None:
                self._store.wait_until(math.inf)
            if processes.exiting:
                self._exit_seconds += time.monotonic() - start

    def _takes_over(self, deadline: float) -> bool:
        """Take over what dead processes have left in the store, if there is time to send it."""
        if time.monotonic() >= deadline or self._parked or not self._store_is_open():
            return False
        with self._storage() as store:
            if store is None or not self._stores():
                return False
            try:
                recovered = store.recover(deadline)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it
                self._put_up_with(error)
                return False
            with self._work:
                self._count_stored(self._stored + recovered)
                self._work.notify_all()
            return recovered > 0

    def _close_by(self, start: float) -> float:
        """Return the monotonic time by which a close is to be done that starts now."""
        seconds = self.shutdown_timeout
        if self._last_flush is not None:
            thread, flush_start, flush_end = self._last_flush
            # `logging.shutdown` flushes and closes, and the two have the time of one.
            if thread == threading.get_ident() and start - flush_end < 0.1:
                seconds -= flush_end - flush_start
        if processes.exiting:
            seconds -= self._exit_seconds
        return start + seconds

    def join(self) -> None:
        """Wait for the threads that `close` has let go, if nothing but that keeps them.

        When the process ends they stand still for ever, wherever they are; inside logging, with
        its lock, they would keep the process from ending.
        """
        with self._work:
            busy = {*self._calling, *(batch.thread for batch in self._in_flight)}
            leaving, self._leaving = self._leaving, []
        for thread in leaving:
            if thread.ident not in busy and thread is not threading.current_thread():
                thread.join(_LEAVE_TIMEOUT)

    def _store_is_open(self) -> bool:
        return self._store is not None and self._store.is_open

    def hurry(self) -> None:
        """Have what is queued leave at once."""
        self._here()
        with self._work:
            self._look()
            self._due = self._accepted
            self._work.notify_all()
            self._writes.notify_all()

    def retire(self) -> None:
        """Send what is queued and then end the threads, without waiting for either."""
        self._here()
        with self._work:
            self._closing, self._closing_since = math.inf, time.monotonic()
            self._wake_all()

    def _first(self) -> int:
        """Return the number of the first event that no thread has taken yet."""
        return self._accepted - self._queued - len(self._writing) - self._stored

    def _answered(self, accepted: int | None, refusals: int | None) -> bool:
        """Tell whether all up to these numbers, or all there is, is answered for."""
        self._look()
        me = threading.get_ident()
        in_callback = me in self._calling
        if accepted is None or refusals is None:
            accepted, refusals = self._accepted, self._refusals
            if not self._stores():
                accepted -= self._stored - self._in_memory()  # they wait in a file out of reach
            if not in_callback and any(thread != me for thread in self._reporting):
                return False  # the process may end right after
        # A callback that flushes or closes waits neither for itself nor for another callback.
        told = self._refusals_told + (len(self._telling) if in_callback else 0)
        return (
            self._first() >= accepted
            and told >= refusals
            and all(
                batch.first >= accepted
                or batch.abandoned
                or batch.thread == me
                or (in_callback and not batch.payloads)
                for batch in self._in_flight
            )
        )

    def _wait(self, deadline: float, accepted: int | None, refusals: int | None) -> bool:
        """Wait for an answer, or, where the threads cannot run, work instead of them.

        That is at exit, where some versions of Python start no thread, in a callback, which has
        the thread to itself, and inside `dictConfig`, which holds logging's lock while it closes
        its handlers, so that a thread may be waiting for that lock.
        """
        began = time.monotonic()
        while True:
            with self._work:
                if self._answered(accepted, refusals):
                    return True
                now = time.monotonic()
                if now >= deadline or (accepted is None and self._parked):
                    return False
                under_way = any(not batch.abandoned for batch in self._in_flight)
                generation = self._generation
                stuck = not under_way and now - max(began, self._progress) > _TAKEOVER_DELAY
                takes_over = self._has_work(self._links[0]) and (
                    not any(thread.is_alive() for thread in self._threads)
                    or threading.get_ident() in self._calling
                    or (stuck and _holds_logging_lock())
                )
                if not takes_over:
                    # Who sends says when it is done; who does not send may never be able to.
                    looks = math.inf if under_way else _TAKEOVER_DELAY
                    self._done.wait(min(deadline - now, looks, threading.TIMEOUT_MAX))
            if takes_over:
                self._work_once(generation, self._links[0], deadline)

    def _end(self, deadline: float) -> bool:
        """Let the threads end, and count what is left at the deadline as failed.

        Returns:
            False where events came in that there is still time for.
        """
        self._write()
        with self._work, self._storing_under_lock():
            self._write()  # what has come in since; nothing can come in meanwhile
            in_time = time.monotonic() < deadline and not self._parked
            if in_time and not self._answered(None, None):
                return False
            self._returned.clear()
            # What a signal handler logs just now comes too late for this close.
            left = [] if in_time else self._abandon()
            lines: list[str] = []
            error = (
                f"; the last error was: {self._account.last_error}"
                if self._account.last_error
                else ""
            )
            reason = f"not delivered within the shutdown_timeout of {self.shutdown_timeout:g} s"
            if left:
                message = f"{len(left):,} events for {self.url} were {reason}{error}"
                self._lose("failed", "shutdown_timeout", len(left), message, told=processes.exiting)
                lines.append(message)
            if self._stored and self._store is not None:
                message = f"{self._stored:,} events for {self.url} wait in {self._store.path}"
                lines.append(f"{message}{error}")
            self._generation += 1
            threads = [*self._leaving, *self._threads]
            self._leaving = [thread for thread in threads if thread.is_alive()]
            self._threads = []
            self._writer = None
            self._closing = None
            self._look()
            if self._queued:
                self._start_threads()  # a signal handler has logged meanwhile
            self._wake_all()
        if left:
            events = [_event(payload) for payload in left]
            if self._keep(events, reason) and self._dead_letters is not None:
                lines[0] += f"; they are in {self._dead_letters.path}"
            self._call(self._on_failure, events, reason)
        self._tell_refused()
        self._write_reports()
        self._transport.close()
        self._leave_store()
        if processes.exiting and sys.stderr is not None:
            with contextlib.suppress(OSError, ValueError):  # it may be closed
                for line in lines:
                    sys.stderr.write(f"snowplow_logging: {' '.join(line.split())}\n")
        return True

    def _abandon(self) -> list[bytes]:
        """Take all that waits in memory or is under way, but for what a store keeps."""
        left: list[bytes] = []
        for batch in self._in_flight:
            if batch.thread == threading.get_ident():
                continue  # this is its callback, after which the rest of it is sent
            if batch.ids:
                count = len(batch.payloads)
                self._stored += count
            else:
                left += batch.payloads
            batch.abandoned, batch.payloads, batch.ids = True, [], ()
        self._look()
        self._take_first(self._queued, left)
        count = len(left)
        self._unanswered -= count
        return left

    def _wake_all(self) -> None:
        for condition in (self._work, self._done, self._writes, self._hurry):
            condition.notify_all()

    # The way out, on the emitter's threads.

    def _start_threads(self) -> None:
        if self._closing is not None:
            return
        # A signal handler that logs may come between any two calls, and start them as well.
        while (index := len(self._threads)) < self._connections:
            name = f"snowplow-logging-{index + 1}"
            arguments = (self._run, self._generation, self._links[index])
            thread = threading.Thread(target=self._live, args=arguments, name=name, daemon=True)
            self._threads.append(thread)  # before a signal handler can log and come here as well
            try:
                thread.start()
            except BaseException as error:
                self._threads.remove(thread)
                if isinstance(error, RuntimeError):
                    return  # at exit, or out of threads: `flush` and `close` work instead
                raise  # from a signal handler, which may have kept the thread from starting
        if self._store is not None and self._writer is None:
            thread = threading.Thread(
                target=self._live,
                args=(self._run_writer, self._generation),
                name="snowplow-logging-store",
                daemon=True,
            )
            self._writer = thread
            try:
                thread.start()
            except RuntimeError:
                self._writer = None

    def _live(self, run: Callable[..., None], *arguments: Any) -> None:
        """Do what one of the threads does.

        Where gevent makes a greenlet of it, it lives on in a forked child and has to end there.
        """
        lock, greenlets = self._lock, self._greenlets
        greenlet: Any = None
        monkey: Any = sys.modules.get("gevent.monkey")
        # A real thread must not ask: what greenlet keeps for it may crash the garbage collector.
        if monkey is not None and monkey.is_object_patched("threading", "Thread"):
            greenlet = sys.modules["gevent"].getcurrent()
            greenlets.add(greenlet)
        try:
            run(*arguments)
        except BaseException:
            if lock is self._lock:
                raise
        greenlets.discard(greenlet)
        if lock is not self._lock:
            # `threading` has forgotten it, and would fail at its end; to ask makes it known again.
            threading.current_thread()

    def _run(self, generation: int, connection: _Connection) -> None:
        lock = self._lock
        while True:
            with self._work:
                while generation == self._generation and not self._has_work(connection):
                    if self._closing is not None and not (self._queued or self._writing):
                        generation = -1  # nothing is left to do
                        break
                    self._idle += 1
                    try:
                        self._work.wait(self._pause(connection))
                    finally:
                        if lock is self._lock:
                            self._idle -= 1
                if generation != self._generation:
                    break
            # May have to wait for logging's lock, so before anything is taken from the queue.
            with contextlib.suppress(Exception):  # a logger may be of a class of the user's
                _warm_loggers()
            self._work_once(generation, connection, None)
        if lock is self._lock and self._closing == math.inf and not self._in_flight:
            self._leave_store()  # the last thread of an emitter that nobody will close

    def _has_work(self, connection: _Connection) -> bool:
        self._look()
        to_write = self._queued and self._writable() and self._closing is not None
        return bool(self._refused or self._account.has_reports or to_write) or self._is_due(
            connection
        )

    def _stores(self) -> bool:
        """Tell whether events in memory go into the store first."""
        return self._store is not None and time.monotonic() >= self._store_down_until

    def _writable(self) -> bool:
        """Tell whether that can be done now."""
        return self._stores() and time.monotonic() >= self._write_down_until

    def _is_due(self, connection: _Connection) -> bool:
        ready = self._ready()
        return (
            ready > 0
            and self._may_send(connection)
            and (
                self._closing is not None
                or ready >= self._batch_size
                or self._is_batch()
                or self._is_full()
                or self._first() < self._due
                or time.monotonic() >= self._since + self._flush_interval
            )
        )

    def _ready(self) -> int:
        """Return how many events can be taken: those in the store before those in memory."""
        if not self._stores():
            return self._in_memory() + self._queued
        return self._stored + (0 if self._writable() else self._queued)

    def _in_memory(self) -> int:
        """Return how many of the events in the store can be sent without it."""
        return sum(len(batch.payloads) for batch in self._returned)

    def _may_send(self, connection: _Connection) -> bool:
        return not self._is_busy() and time.monotonic() >= self._ready_at(connection)

    def _is_busy(self) -> bool:
        """Tell whether as many requests are under way as may be, a callback's own left out."""
        me = threading.get_ident()
        return sum(batch.thread != me for batch in self._in_flight) >= self._connections

    def _ready_at(self, connection: _Connection) -> float:
        """Return the monotonic time at which the wait after a failure is over."""
        if self._closing is not None and connection.failed_at < self._closing_since:
            # Closing cuts short a wait that had begun, but not below the first one's length, so
            # that who closes again and again makes no more requests for that.
            return min(connection.not_before, connection.failed_at + _FIRST_RETRY_DELAY)
        return connection.not_before

    def _pause(self, connection: _Connection) -> float | None:
        """Return the seconds until events may be due, None where only more events make it so."""
        if not self._ready() or self._is_busy():
            return None
        begin = self._since + self._flush_interval
        if self._closing is not None or self._first() < self._due:
            begin = 0.0
        return max(begin, self._ready_at(connection)) - time.monotonic()

    def _work_once(self, generation: int, connection: _Connection, deadline: float | None) -> None:
        """Do what is to be done now. Nothing in it may end a thread."""
        try:
            self._write_reports()
            self._tell_refused()
            if self._closing is not None:
                self._write()
            batch = self._take(generation, connection)
            if batch is not None:
                try:
                    self._deliver(batch, connection, deadline)
                finally:
                    with self._work:
                        if batch in self._in_flight:  # not in a forked child, see `_live`
                            self._in_flight.remove(batch)
                        if batch.payloads:
                            self._put_back(batch)
                        self._progress = time.monotonic()
                        self._done.notify_all()
                        self._work.notify_all()
        except Exception as error:  # noqa: BLE001 - what is left in the queue must still leave
            self.report("internal error", f"internal error: {error!r}")

    def _take(self, generation: int, connection: _Connection) -> _Batch | None:
        with self._storage() as store:
            with self._work:
                self._look()
                # After a `close` a thread opens no store, for nobody would close it again.
                if generation != self._generation or not self._is_due(connection):
                    return None
                first = self._first()
                if self._returned:
                    batch = self._returned.pop(0)
                    count = len(batch.payloads)
                    self._stored -= count
                    return self._begin(first, batch.payloads, batch.ids)
                if not self._stores() or not (self._stored or self._writable()):
                    from_memory = self._begin(first, [], count=self._fits())
                    self._look()
                    return from_memory
            return None if store is None else self._take_from_store(store)

    def _begin(
        self, first: int, payloads: list[bytes], ids: Sequence[int] = (), *, count: int = 0
    ) -> _Batch | None:
        """Put a batch in flight, with the payloads given and so many of those in memory, if any."""
        batch = _Batch(payloads, first, threading.get_ident(), ids)
        self._in_flight.append(batch)
        self._take_first(count, payloads)
        if not payloads:
            self._in_flight.remove(batch)
            return None
        # `_since` stays: it is when the oldest of those that are left began to wait, or before.
        self._progress = time.monotonic()
        if self._ready():
            self._work.notify()
        return batch

    def _fits(self) -> int:
        """Return how many of the events in memory the next request takes."""
        room = self._batch_bytes - self._transport.overhead
        count = min(self._batch_size, self._queued)
        if self._queued_bytes > room:
            for index in range(count):
                room -= len(self._queue[index]) + STM_BYTES
                if room < 0:
                    return max(1, index)
        return count

    def _take_first(self, count: int, into: list[bytes]) -> None:
        """Move so many of the first events in memory, or as many as there are."""
        self._look_at = 0  # until somebody looks again
        move = _Move(into, len(into))
        self._moves.append(move)
        try:
            # In one call: no signal handler can raise while an event is in neither of the two.
            with contextlib.suppress(IndexError):  # a signal handler has sent some of them
                into.extend(starmap(self._queue.popleft, repeat((), count)))
        finally:
            self._count_moved()
            self._moves.remove(move)

    def _count_moved(self) -> None:
        for move in [*self._moves]:
            before, now = move.counted, len(move.into)
            size = _size(move.into[before:now])
            if move.counted == before:  # no signal handler has counted them meanwhile
                move.counted = now
                self._queued -= now - before
                self._queued_bytes -= size

    def _put_first(self, payloads: Sequence[bytes]) -> None:
        """Put back what `_take_first` has moved."""
        count, size = len(payloads), _size(payloads)
        self._queued += count  # first, so that a signal handler does not take them for new ones
        self._queued_bytes += size
        self._queue.extendleft(reversed(payloads))

    def _take_from_store(self, store: Store) -> _Batch | None:
        try:
            self._open(store)
            room = self._batch_bytes - self._transport.overhead
            rows, broken = store.take(
                min(self._batch_size, self._stored), room, self._transport.size
            )
            if broken:
                self._give_up_broken(store, broken)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it
            self._put_up_with(error)
            return None
        with self._work:
            if (
                not rows and not broken
            ):  # another process took them, because this one stood still for too long
                self._count_stored(self._in_memory())
                return None
            if not rows:
                return None
            first = self._first()
            count = len(rows)
            self._stored -= count
            if self._more_to_recover and self._stored < self._batch_size:
                self._recover_at = 0.0
                self._writes.notify()
            return self._begin(first, [row[1] for row in rows], [row[0] for row in rows])

    def _give_up_broken(self, store: Store, broken: list[bytes]) -> None:
        count = len(broken)
        reason = f"it has changed in the store {store.path}, which keeps it aside"
        with self._work:
            self._stored -= count
            self._unanswered -= count
            self._lose("failed", "store row broken", count, f"{count:,} events given up: {reason}")
            self._done.notify_all()

    # The store, on its own thread, or on the one that closes.

    @contextlib.contextmanager
    def _storage(self) -> Iterator[Store | None]:
        """Give the store to one thread at a time; None where there is none to be had.

        That is also so in a signal handler or a finaliser that logs or closes in the middle of a
        use of the store, or where its thread holds the lock, which another waits for that has the
        store.
        """
        holds_lock: bool = self._lock._is_owned()  # type: ignore[attr-defined]  # noqa: SLF001
        if not self._storing.acquire(blocking=not holds_lock):
            yield None
            return
        try:
            if self._store_user is not None:
                yield None
                return
            self._store_user = threading.get_ident()
            try:
                yield self._store
            finally:
                self._store_user = None
        finally:
            self._storing.release()

    @contextlib.contextmanager
    def _storing_under_lock(self) -> Iterator[None]:
        """Keep others from the store, beginning when none has it. Needs the lock."""
        while not self._storing.acquire(blocking=False):
            self._done.wait(_TAKEOVER_DELAY)
        try:
            yield
        finally:
            self._storing.release()

    def _run_writer(self, generation: int) -> None:
        while True:
            try:
                with self._work:
                    while True:
                        pause = self._recover_at - time.monotonic()
                        if generation != self._generation or self._closing == math.inf:
                            return
                        self._look()
                        if pause <= 0 or (self._queued and self._writable()):
                            break
                        self._writes.wait(pause)
                    few = 0 < self._queued < self._batch_size
                    if few and self._closing is None and self._first() >= self._due:
                        self._writes.wait(_WRITE_DELAY)
                self._write()
                self._recover(generation)
            except Exception as error:  # noqa: BLE001 - what comes later must still be written
                self.report("internal error", f"internal error: {error!r}")

    def _write(self) -> None:
        """Move what is in memory into the store; where that fails it is sent from memory."""
        with self._storage() as store:
            if store is None:
                with self._work:
                    self._writes.notify()  # a signal handler has logged amid a write
                return
            with self._work:
                self._look()
                if not (self._queued and self._writable()):
                    return
            payloads = self._writing
            count, full, failure = 0, False, None
            try:
                with self._work:
                    self._take_first(self._queued, payloads)
                self._open(store)
                while payloads:
                    part = payloads[:_WRITE_AT_ONCE]
                    full = store.add(part)
                    with self._work:
                        if not self._stored:
                            self._since = time.monotonic()
                        del payloads[: len(part)]
                        self._stored += len(part)
                        count += len(part)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it
                failure = error
            finally:  # a signal handler may raise as well
                with self._work:
                    self._writing = []
                    if payloads:
                        self._put_first(payloads)
                    self._store_full = full and self._on_full != "drop_oldest"
                    self._look()
                    self._work.notify()
                    self._done.notify_all()
            if failure is not None:
                self._put_up_with(failure)
            elif full and self._on_full == "drop_oldest":
                self._drop_oldest(store, min(count, _DROP_AT_ONCE))

    def _open(self, store: Store) -> None:
        if store.open():
            self._remove(store)
            while store.recover():
                pass  # a job that is short has the time for it only now
            waiting = store.waiting()
            with self._work:
                self._count_stored(waiting + self._in_memory())
                self._work.notify_all()  # they have been out of reach

    def _count_stored(self, stored: int) -> None:
        """Note how many events are in the store, where that is not how many were put there."""
        more = stored - self._stored
        if more:
            self._stored = stored
            self._accepted += max(more, 0)
            self._unanswered += more
            self._account.count("recovered", more)
            self._done.notify_all()

    def _drop_oldest(self, store: Store, count: int) -> None:
        try:
            while store.is_full() and (dropped := store.remove_oldest(max(count, 20))):
                with self._work:
                    self._stored -= dropped
                    self._unanswered -= dropped
                    message = f"the store {store.path} has reached its {store.limit:,} bytes"
                    self._lose(
                        "dropped", "queue full", dropped, f"{message}, the oldest are dropped"
                    )
                    self._done.notify_all()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it
            self._put_up_with(error)

    def _recover(self, generation: int) -> None:
        """Take over, now and then, what another process left in the store."""
        with self._work:
            if generation != self._generation or time.monotonic() < self._recover_at:
                return
            self._recover_at = time.monotonic() + _RECOVER_INTERVAL
        with self._storage() as store:
            if store is None or generation != self._generation or not self._stores():
                return
            try:
                self._open(store)
                if self._unremoved:
                    self._remove(store)
                if self._store_full and not store.is_full():
                    self._make_known_not_full()
                with self._work:
                    self._work.notify_all()  # they may have been out of reach
                # Not more than are sent soon, so that other processes can help.
                while self._closing is None and self._stored < self._batch_size:
                    recovered = store.recover()
                    self._more_to_recover = recovered > 0
                    if not recovered:
                        while store.shrink() and not self._queued:
                            pass
                        break
                    with self._work:
                        self._count_stored(self._stored + recovered)
                        self._work.notify()
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it
                self._put_up_with(error)

    def _make_known_not_full(self) -> None:
        with self._work:
            self._store_full = False
            self._done.notify_all()

    def _put_up_with(self, error: Exception) -> None:
        """Go on in memory for a while, whatever is wrong with the store."""
        message = str(error) if isinstance(error, StoreError) else f"the store failed: {error!r}"
        kept = None
        if isinstance(error, StoreError) and error.set_aside and self._store is not None:
            with contextlib.suppress(StoreError):
                kept = self._store.waiting()
        with self._work:
            now = time.monotonic()
            if isinstance(error, StoreError) and error.full:
                self._write_down_until = now + _WRITE_RETRY_DELAY
            elif kept is None:
                self._store_down_until = now + _STORE_RETRY_DELAY
            self._store_full = False
            self._account.last_error = message
            self._since = now
            lost = self._stored - self._in_memory() - (kept or 0)
            if isinstance(error, StoreError) and error.set_aside and lost > 0:
                message = f"{message}, and {lost:,} that waited in it are lost"
                self._stored -= lost
                self._unanswered -= lost
                self._lose("failed", "store set aside", lost, message, told=True)
            self._wake_all()
        if kept is None:
            message = f"{message}; events are kept in memory"
        self.report("store", message)

    def _forget(self, ids: Sequence[int]) -> None:
        """Remove events from the store that are answered for."""
        with self._storage() as store:
            with self._work:
                self._unremoved = [*self._unremoved, *ids]
            if store is None or not store.is_open:
                return  # they are removed before anything else is done with it
            try:
                self._remove(store)
                if self._store_full and not store.is_full():
                    self._make_known_not_full()
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it
                self._put_up_with(error)

    def _remove(self, store: Store) -> None:
        with self._work:
            ids, self._unremoved = self._unremoved, []
        removed = False
        try:
            if ids:
                store.remove(ids)
            removed = True
        finally:
            if not removed:
                with self._work:
                    self._unremoved = [*ids, *self._unremoved]

    def _leave_store(self) -> None:
        with self._storage() as store:
            if store is not None:
                # What a callback that closes has under way is not taken a second time.
                store.close(again=not any(batch.ids for batch in self._in_flight))

    def _deliver(self, batch: _Batch, connection: _Connection, deadline: float | None) -> None:
        """Send a batch until it is answered for, or, with a deadline, until then."""
        parts = [batch.payloads]
        attempts = 0
        while parts:
            part = parts[0]
            limit = self._closing if deadline is None else deadline
            at_most = None if limit is None else limit - time.monotonic()
            answer = self._transport.send(part, at_most=at_most)
            attempts += 1
            if answer.outcome is Outcome.RETRY:
                delay = self._count_failure(connection, answer)
                if batch.abandoned:
                    return
                if attempts == self._max_attempts:
                    reason = f"{answer.reason} (after {attempts} attempts)"
                    self._settle(batch, part, reason, "max_attempts")
                elif self._wait_to_retry(batch, connection, answer, delay, deadline):
                    with self._work:
                        self._account.count("retried", len(part))
                    continue
                else:
                    return
            else:
                connection.failures, connection.not_before = 0, 0.0
                if answer.outcome is Outcome.SPLIT:
                    half = len(part) // 2
                    parts[:1] = [part[:half], part[half:]]
                    continue
                failed = answer.outcome is Outcome.FAILED
                self._settle(
                    batch, part, answer.reason if failed else None, "refused by the collector"
                )
            if batch.abandoned:
                return
            parts.pop(0)
            attempts = 0

    def _count_failure(self, connection: _Connection, answer: Answer) -> float:
        """Note a failure, and return the seconds to wait: exponential with full jitter."""
        longest = min(self._max_retry_delay, _FIRST_RETRY_DELAY * 2 ** min(connection.failures, 30))
        least = min(self._max_retry_delay, answer.retry_after)
        delay = max(least, random.uniform(0, longest))
        connection.failures += 1
        connection.failed_at = time.monotonic()
        connection.not_before = connection.failed_at + delay
        return delay

    def _wait_to_retry(
        self,
        batch: _Batch,
        connection: _Connection,
        answer: Answer,
        delay: float,
        deadline: float | None,
    ) -> bool:
        """Wait out a back-off; return False where the batch is no longer this thread's to send."""
        with self._work:
            given_up = batch.abandoned
            if given_up:
                return False  # closed meanwhile, and a report would open it again
            self._account.last_error = answer.reason
            waiting = f"{self._unanswered:,} events wait, next attempt in {delay:.1f} s"
            self.report("retry", f"{answer.reason}; {waiting}")
        self._write_reports()
        with self._work:
            while not batch.abandoned and time.monotonic() < self._ready_at(connection):
                until = self._ready_at(connection)
                if batch.ids and self._closing is not None:
                    self._parked = True  # the store keeps them, so why wait
                    return False
                if deadline is not None and deadline <= time.monotonic():
                    return False
                self._hurry.wait(min(until, deadline or until) - time.monotonic())
            return not batch.abandoned

    def _put_back(self, batch: _Batch) -> None:
        if batch.ids:
            self._returned.append(batch)
            self._returned.sort(key=lambda one: one.ids[0])
            count = len(batch.payloads)
            self._stored += count
        else:
            self._put_first(batch.payloads)

    def _settle(self, batch: _Batch, part: Sequence[bytes], failure: str | None, loss: str) -> None:
        """Account for the first part of a batch, as sent or, where there is a reason, as failed."""
        count = len(part)
        with self._work:
            if batch.abandoned:
                return
            ids = batch.ids[:count]
            batch.payloads, batch.ids = batch.payloads[count:], batch.ids[count:]
            self._unanswered -= count
            self._done.notify_all()
            if failure is None:
                self._account.count("sent", count)
                # At once, or a `close` before they are removed would have them sent once more.
                self._unremoved = [*self._unremoved, *ids]
            else:
                self._lose("failed", loss, count, f"{count:,} events given up: {failure}")
        callback = self._on_success if failure is None else self._on_failure
        wanted = callback is not None or (failure is not None and self._dead_letters is not None)
        events = [_event(payload) for payload in part] if wanted else []
        if failure is not None:
            self._keep(events, failure)
        if ids:
            # Only now, so that an event that failed is at any moment in one of the files.
            self._forget([] if failure is None else ids)
        if failure is None:
            self._call(self._on_success, events)
        else:
            self._call(self._on_failure, events, failure)

    def _tell_refused(self) -> None:
        while True:
            with self._work:
                if not self._refused:
                    return
                event, reason = self._refused.popleft()
                telling = self._telling
                telling.append(threading.get_ident())
            try:
                self._give_up([event], reason)
            finally:
                with self._work:
                    telling.remove(threading.get_ident())
                    self._refusals_told += telling is self._telling
                    self._done.notify_all()

    def _give_up(self, events: list[dict[str, Any]], reason: str) -> None:
        """Keep events that will not be sent, and tell who wants to know."""
        self._keep(events, reason)
        self._call(self._on_failure, events, reason)

    def _keep(self, events: list[dict[str, Any]], reason: str) -> bool:
        """Write events into the dead-letter file, if there is one; return False where it fails."""
        if self._dead_letters is not None:
            try:
                self._dead_letters.write(events, reason)
            except Exception as error:  # noqa: BLE001 - a full disk must not end the thread
                message = f"{len(events):,} events could not be kept in {self._dead_letters.path}"
                self.report("dead letter", f"{message}: {error!r}")
                return False
        return True

    def _call(self, callback: Callable[..., None] | None, *arguments: Any) -> None:
        if callback is None:
            return
        calling = self._calling
        with self._work:
            calling.append(threading.get_ident())
        try:
            callback(*arguments)
        except BaseException as error:
            if not isinstance(error, Exception) and not self._is_own_thread():
                raise  # an interrupt is for who works instead of the emitter's threads
            # Not `repr`, which may raise as well.
            raised = traceback.format_exception_only(type(error), error)[-1].strip()
            name = getattr(callback, "__qualname__", type(callback).__qualname__)
            self.report("callback", f"the callback {name} raised {raised}")
        finally:
            with self._work:
                calling.remove(threading.get_ident())

    def _write_reports(self) -> None:
        with self._work:
            reports = self._account.take_reports()
            if not reports:
                return
            reporting = self._reporting
            reporting.append(threading.get_ident())
        try:
            for report in reports:
                logger.warning("%s", report)
        finally:
            with self._work:
                reporting.remove(threading.get_ident())
                self._done.notify_all()


def _size(payloads: Sequence[bytes]) -> int:
    """Return what payloads add to the body of a request, in bytes."""
    return sum(map(len, payloads)) + len(payloads) * STM_BYTES


def _event(payload: bytes) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(payload + b"}")
    return event


def _holds_logging_lock() -> bool:
    """Tell whether this thread holds the lock of logging, as it does inside `dictConfig`."""
    owned = getattr(getattr(logging, "_lock", None), "_is_owned", None)
    return owned is None or bool(owned())


def _warm_loggers() -> None:
    """Have every logger that a request may use look up its level, for which it takes a lock.

    A later look-up takes none. `dictConfig` holds that lock while it closes the old handlers.
    """
    for name, its_logger in list(logging.root.manager.loggerDict.items()):
        if name.partition(".")[0] in _LOGGERS and isinstance(its_logger, logging.Logger):
            for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
                its_logger.isEnabledFor(level)
