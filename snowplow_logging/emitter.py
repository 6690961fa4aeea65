"""The other end of the queue: threads that batch payloads, send them and account for each."""

from __future__ import annotations

import atexit
import json
import logging
import math
import os
import random
import sys
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from snowplow_logging.transport import Answer, Outcome, Transport

__all__ = ["Emitter", "OnFailure", "OnSuccess", "Stats"]

OnSuccess: TypeAlias = Callable[[list[dict[str, Any]]], None]
OnFailure: TypeAlias = Callable[[list[dict[str, Any]], str], None]

logger: Final = logging.getLogger("snowplow_logging")

_LOGGERS: Final = ("requests", "snowplow_logging", "urllib3")
"""Whose loggers a sending thread may use."""

_FIRST_RETRY_DELAY: Final = 0.5  # seconds; doubled with each failure in a row
_REPORT_INTERVAL: Final = 60.0  # seconds between two reports of one kind
_TAKEOVER_DELAY: Final = 0.05  # seconds that `close` gives the threads to begin before it does


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
        losses: The events failed, dropped and invalid by reason: `queue full`, `invalid event`,
            `before_send failed`, `refused by the collector`, `max_attempts`, `shutdown_timeout`.
        last_error: What went wrong last, if anything has.
    """

    queued: int = 0
    sent: int = 0
    retried: int = 0
    failed: int = 0
    dropped: int = 0
    invalid: int = 0
    filtered: int = 0
    losses: Mapping[str, int] = field(default_factory=dict)
    last_error: str | None = None


@dataclass(eq=False)
class _Batch:
    """Events that have left the queue and are not answered for yet.

    Attributes:
        payloads: The events that are not answered for.
        first: The number of the first event, counted from the first ever queued.
        thread: The thread that sends them.
        abandoned: Whether `close` has given them up while their request was under way.
    """

    payloads: Sequence[bytes]
    first: int
    thread: int
    abandoned: bool = False


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
    ) -> None:
        self._transport = transport
        self._batch_size = min(batch_size, transport.batch_limit or batch_size)
        self._batch_bytes = batch_bytes
        self._flush_interval = flush_interval
        self._queue_size = queue_size
        self._on_full = on_full
        self._block_timeout = block_timeout
        self._connections = connections
        self._max_retry_delay = max_retry_delay
        self._max_attempts = max_attempts
        self.shutdown_timeout = shutdown_timeout
        self._on_success = on_success
        self._on_failure = on_failure
        self._reset()
        _processes.register(self)

    def _reset(self) -> None:
        """Start empty, with new locks, as a process does that has no part in its parent's."""
        # Re-entrant: a signal handler or a finaliser may log while its own thread holds it.
        lock = threading.RLock()
        self._work = threading.Condition(lock)  # there is something to do for the threads
        self._done = threading.Condition(lock)  # something has been answered for
        self._hurry = threading.Condition(lock)  # who waits to try again is to look up
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._since = 0.0  # when the first event in the queue began to wait
        self._accepted = 0  # events ever queued
        self._due = 0  # events up to this number leave at once
        self._unanswered = 0  # events in the queue and in flight
        self._in_flight: list[_Batch] = []
        self._callers = _Connection()  # of a thread that works instead of the emitter's own
        self._refused: deque[tuple[dict[str, Any], str]] = deque()
        self._refusals = 0  # ever put into that
        self._refusals_told = 0
        self._threads: list[threading.Thread] = []
        self._generation = 0  # of the threads; `close` ends one
        self._closing: float | None = None  # the monotonic time by which all has to be done
        self._closing_since = 0.0
        self._progress = 0.0  # when a thread last began or ended something
        self._last_flush: tuple[int, float, float] | None = None
        self._exit_seconds = 0.0
        self._counts: Counter[str] = Counter()
        self._losses: Counter[str] = Counter()
        self._last_error: str | None = None
        self._reports: list[str] = []
        self._reported: dict[str, float] = {}
        self._unreported: Counter[str] = Counter()
        self._pid = os.getpid()

    @property
    def url(self) -> str:
        """Where the events go."""
        return self._transport.url

    def _here(self) -> None:
        """See to it that the state is this process's own; not every server runs fork hooks."""
        if self._pid != os.getpid():
            with _processes.fork_lock:
                if self._pid != os.getpid():
                    self._reset()

    # The way in, on the thread of the log call.

    def put(self, payload: bytes) -> None:
        """Queue one payload. Waits, if at all, no longer than `block_timeout`."""
        self._here()
        with self._work:
            if self._unanswered >= self._queue_size and not self._make_room():
                message = f"the queue of {self._queue_size:,} events is full, events are dropped"
                self._lose("dropped", "queue full", 1, message)
                return
            self._queue.append(payload)
            self._queued_bytes += self._transport.size(payload)
            self._accepted += 1
            self._unanswered += 1
            queued = len(self._queue)
            if queued == 1:
                self._since = time.monotonic()
                self._work.notify()
            elif queued >= self._batch_size or self._queued_bytes >= self._batch_bytes:
                self._work.notify()
            if len(self._threads) < self._connections:
                self._start_threads()
        if _processes.exiting:
            self.close()

    def _make_room(self) -> bool:
        if self._on_full == "drop_oldest" and self._queue:
            self._queued_bytes -= self._transport.size(self._queue.popleft())
            self._unanswered -= 1
            message = f"the queue of {self._queue_size:,} events is full, the oldest are dropped"
            self._lose("dropped", "queue full", 1, message)
        elif self._on_full == "block" and self._may_wait():
            until = time.monotonic() + self._block_timeout
            while self._unanswered >= self._queue_size and (left := until - time.monotonic()) > 0:
                self._done.wait(left)
        return self._unanswered < self._queue_size

    def _may_wait(self) -> bool:
        if threading.current_thread() in self._threads:
            return False
        try:
            sys.modules["asyncio"].get_running_loop()
        except (KeyError, RuntimeError):
            return True
        return False  # an event loop must never wait

    def refuse(self, event: dict[str, Any], reason: str, loss: str) -> None:
        """Account for an event that is not sent because Snowplow would refuse it.

        Args:
            event: The event as `on_failure` is shown it.
            reason: What was wrong.
            loss: The reason under which it is counted.
        """
        self._here()
        with self._work:
            self._lose("invalid", loss, 1, reason)
            # As many as events may wait, so that a flood of bad ones takes no more memory.
            if self._on_failure is not None and len(self._refused) < self._queue_size:
                self._refused.append((event, reason))
                self._refusals += 1
                self._work.notify()

    def leave_out(self) -> None:
        """Count an event that `before_send` left out."""
        self._here()
        with self._work:
            self._counts["filtered"] += 1

    def report(self, kind: str, message: str) -> None:
        """Have something reported on the logger `snowplow_logging`, once a minute for its kind."""
        self._here()
        with self._work:
            now = time.monotonic()
            if now - self._reported.get(kind, -_REPORT_INTERVAL) < _REPORT_INTERVAL:
                self._unreported[kind] += 1
                return
            self._reported[kind] = now
            if more := self._unreported.pop(kind, 0):
                message = f"{message} (and {more:,} more like this since the last report)"
            self._reports.append(message)
            self._work.notify()
            self._start_threads()

    def _lose(self, count: str, loss: str, events: int, message: str) -> None:
        self._counts[count] += events
        self._losses[loss] += events
        self._last_error = message
        self.report(loss, message)

    # What the owner may ask.

    @property
    def stats(self) -> Stats:
        """What has become of the events logged in this process so far."""
        self._here()
        with self._work:
            return Stats(
                queued=self._unanswered,
                losses=dict(self._losses),
                last_error=self._last_error,
                **self._counts,
            )

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
        seconds = self.shutdown_timeout
        if self._last_flush is not None:
            thread, flush_start, flush_end = self._last_flush
            # `logging.shutdown` flushes and closes, and the two have the time of one.
            if thread == threading.get_ident() and start - flush_end < 0.1:
                seconds -= flush_end - flush_start
        if _processes.exiting:
            seconds -= self._exit_seconds
        deadline = max(start, min(start + seconds, until))
        with self._work:
            if not (self._threads or self._unanswered or self._refused or self._reports):
                return
            self._closing, self._closing_since = deadline, start
            for condition in (self._work, self._done, self._hurry):
                condition.notify_all()
        while True:
            self._wait(deadline, None, None)
            if self._end(deadline):
                break
        if _processes.exiting:
            self._exit_seconds += time.monotonic() - start

    def hurry(self) -> None:
        """Have what is queued leave at once."""
        with self._work:
            self._due = self._accepted
            self._work.notify_all()

    def retire(self) -> None:
        """Send what is queued and then end the threads, without waiting for either."""
        with self._work:
            self._closing, self._closing_since = math.inf, time.monotonic()
            self._work.notify_all()
            self._hurry.notify_all()

    def _answered(self, accepted: int | None, refusals: int | None) -> bool:
        """Tell whether all up to these numbers, or all there is, is answered for."""
        me = threading.get_ident()
        first = self._accepted - len(self._queue)
        if accepted is None or refusals is None:
            accepted, refusals = self._accepted, self._refusals
        return (
            first >= accepted
            and self._refusals_told >= refusals
            # A callback that flushes or closes does not wait for itself.
            and all(b.first >= accepted or b.thread == me for b in self._in_flight)
        )

    def _wait(self, deadline: float, accepted: int | None, refusals: int | None) -> bool:
        """Wait for an answer, or, where the threads cannot run, work instead of them.

        That is at exit, where some versions of Python start no thread, in a callback, which has
        the thread to itself, and inside `dictConfig`, which holds logging's lock while it closes
        its handlers, so that a thread may be waiting for that lock.
        """
        while True:
            with self._work:
                if self._answered(accepted, refusals):
                    return True
                now = time.monotonic()
                if now >= deadline:
                    return False
                stuck = not self._in_flight and now - self._progress > _TAKEOVER_DELAY
                takes_over = self._has_work(self._callers) and (
                    not self._threads
                    or threading.current_thread() in self._threads
                    or (accepted is None and stuck)
                )
                if not takes_over:
                    looks = _TAKEOVER_DELAY if accepted is None or not self._threads else math.inf
                    self._done.wait(min(deadline - now, looks, threading.TIMEOUT_MAX))
            if takes_over:
                self._work_once(self._callers, deadline)

    def _end(self, deadline: float) -> bool:
        """Let the threads end, and count what is left at the deadline as failed.

        Returns:
            False where events came in that there is still time for.
        """
        with self._work:
            if time.monotonic() < deadline and not self._answered(None, None):
                return False
            left = [payload for batch in self._in_flight for payload in batch.payloads]
            left += self._queue
            for batch in self._in_flight:
                batch.abandoned, batch.payloads = True, ()
            self._queue.clear()
            self._queued_bytes = 0
            self._unanswered -= len(left)
            reason = f"not delivered within the shutdown_timeout of {self.shutdown_timeout:g} s"
            if left:
                message = f"{len(left):,} events for {self._transport.url} were {reason}"
                if self._last_error is not None:
                    message = f"{message}; the last error was: {self._last_error}"
                self._lose("failed", "shutdown_timeout", len(left), message)
                if _processes.exiting and sys.stderr is not None:
                    sys.stderr.write(f"snowplow_logging: {message}\n")
            self._generation += 1
            self._threads = []
            self._closing = None
            for condition in (self._work, self._done, self._hurry):
                condition.notify_all()
        if left:
            self._call(self._on_failure, [_event(payload) for payload in left], reason)
        self._write_reports()
        self._transport.close()
        return True

    # The way out, on the emitter's threads.

    def _start_threads(self) -> None:
        if self._closing is not None:
            return
        _processes.enter()
        while len(self._threads) < self._connections:
            name = f"snowplow-logging-{len(self._threads) + 1}"
            arguments = (self._generation,)
            thread = threading.Thread(target=self._run, args=arguments, name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return  # at exit, or out of threads: `flush` and `close` work instead
            self._threads.append(thread)

    def _run(self, generation: int) -> None:
        connection = _Connection()
        while True:
            with self._work:
                while generation == self._generation and not self._has_work(connection):
                    if self._closing is not None and not self._queue:
                        return
                    self._work.wait(self._pause(connection))
                if generation != self._generation:
                    return
            # May have to wait for logging's lock, so before anything is taken from the queue.
            _warm_loggers()
            self._work_once(connection, None)

    def _has_work(self, connection: _Connection) -> bool:
        return bool(self._refused or self._reports) or self._is_due(connection)

    def _is_due(self, connection: _Connection) -> bool:
        return (
            bool(self._queue)
            and self._may_send(connection)
            and (
                self._closing is not None
                or len(self._queue) >= self._batch_size
                or self._queued_bytes >= self._batch_bytes
                or self._accepted - len(self._queue) < self._due
                or time.monotonic() >= self._since + self._flush_interval
            )
        )

    def _may_send(self, connection: _Connection) -> bool:
        """Tell whether a wait after a failure is over; closing cuts short one that had begun."""
        return time.monotonic() >= connection.not_before or (
            self._closing is not None and connection.failed_at < self._closing_since
        )

    def _pause(self, connection: _Connection) -> float | None:
        """Return the seconds until events may be due, None where only more events make it so."""
        if not self._queue:
            return None
        begin = self._since + self._flush_interval
        if self._closing is not None or self._accepted - len(self._queue) < self._due:
            begin = 0.0
        return max(begin, connection.not_before) - time.monotonic()

    def _work_once(self, connection: _Connection, deadline: float | None) -> None:
        """Do what is to be done now. Nothing in it may end a thread."""
        try:
            self._write_reports()
            self._tell_refused()
            batch = self._take(connection)
            if batch is not None:
                try:
                    self._deliver(batch, connection, deadline)
                finally:
                    with self._work:
                        self._in_flight.remove(batch)
                        self._progress = time.monotonic()
                        self._done.notify_all()
        except Exception as error:  # noqa: BLE001 - what is left in the queue must still leave
            self.report("internal error", f"internal error: {error!r}")

    def _take(self, connection: _Connection) -> _Batch | None:
        with self._work:
            if not self._is_due(connection):
                return None
            payloads: list[bytes] = []
            first = self._accepted - len(self._queue)
            size = self._transport.overhead
            while self._queue and len(payloads) < self._batch_size:
                added = self._transport.size(self._queue[0])
                if payloads and size + added > self._batch_bytes:
                    break
                payloads.append(self._queue.popleft())
                size += added
                self._queued_bytes -= added
            batch = _Batch(payloads, first, threading.get_ident())
            self._in_flight.append(batch)
            self._since = self._progress = time.monotonic()
            if self._queue:
                self._work.notify()
            return batch

    def _deliver(self, batch: _Batch, connection: _Connection, deadline: float | None) -> None:
        """Send a batch until it is answered for, or, with a deadline, put it back by then."""
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
                if attempts == self._max_attempts:
                    reason = f"{answer.reason} (after {attempts} attempts)"
                    self._settle(batch, part, reason, "max_attempts")
                elif not self._wait_to_retry(batch, connection, answer, delay, deadline):
                    return
                else:
                    continue
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
        count = len(batch.payloads)
        with self._work:
            self._last_error = answer.reason
            waiting = self._unanswered
        self.report(
            "retry", f"{answer.reason}; {waiting:,} events wait, next attempt in {delay:.1f} s"
        )
        self._write_reports()
        with self._work:
            while not batch.abandoned and not self._may_send(connection):
                until = connection.not_before
                if deadline is not None and deadline <= time.monotonic():
                    self._queue.extendleft(reversed(batch.payloads))
                    self._queued_bytes += sum(map(self._transport.size, batch.payloads))
                    return False
                self._hurry.wait(min(until, deadline or until) - time.monotonic())
            if batch.abandoned:
                return False
            self._counts["retried"] += count
            return True

    def _settle(self, batch: _Batch, part: Sequence[bytes], failure: str | None, loss: str) -> None:
        """Account for the first part of a batch, as sent or, where there is a reason, as failed."""
        count = len(part)
        with self._work:
            if batch.abandoned:
                return
            batch.payloads = batch.payloads[count:]
            self._unanswered -= count
            self._done.notify_all()
            if failure is None:
                self._counts["sent"] += count
            else:
                self._lose("failed", loss, count, f"{count:,} events given up: {failure}")
        if failure is None:
            self._call(self._on_success, [_event(payload) for payload in part])
        else:
            self._call(self._on_failure, [_event(payload) for payload in part], failure)

    def _tell_refused(self) -> None:
        while True:
            with self._work:
                if not self._refused:
                    return
                event, reason = self._refused.popleft()
            self._call(self._on_failure, [event], reason)
            with self._work:
                self._refusals_told += 1
                self._done.notify_all()

    def _call(self, callback: Callable[..., None] | None, *arguments: Any) -> None:
        if callback is not None:
            try:
                callback(*arguments)
            except Exception as error:  # noqa: BLE001 - it is the user's code
                self.report("callback", f"the callback {callback!r} raised {error!r}")

    def _write_reports(self) -> None:
        with self._work:
            reports, self._reports = self._reports, []
        for report in reports:
            logger.warning("%s", report)


def _event(payload: bytes) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(payload + b"}")
    return event


def _warm_loggers() -> None:
    """Have every logger that a request may use look up its level, for which it takes a lock.

    A later look-up takes none. `dictConfig` holds that lock while it closes the old handlers.
    """
    for name, its_logger in list(logging.root.manager.loggerDict.items()):
        if name.partition(".")[0] in _LOGGERS and isinstance(its_logger, logging.Logger):
            for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
                its_logger.isEnabledFor(level)


class _Processes:
    """What the emitters of a process have in common: its forks and its end."""

    def __init__(self) -> None:
        self.fork_lock = threading.Lock()
        self.exiting = False
        self._emitters: weakref.WeakSet[Emitter] = weakref.WeakSet()
        self._hooked: int | None = None

    def register(self, emitter: Emitter) -> None:
        """Have an emitter start afresh after a fork and closed at the end of the process."""
        if self._hooked is None and hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)
        if self._hooked is None:
            # Not `logging.shutdown` alone: `dictConfig` takes handlers off its list.
            atexit.register(self._at_exit)
            self._hooked = os.getpid()
        self._emitters.add(emitter)

    def _after_fork(self) -> None:
        self.fork_lock = threading.Lock()
        self.exiting = False
        for emitter in self._emitters:
            emitter._reset()  # noqa: SLF001

    def enter(self) -> None:
        """Note that this process sends events; a child of multiprocessing ends in its own way."""
        if self._hooked != os.getpid():
            self._hooked = os.getpid()
            multiprocessing = sys.modules.get("multiprocessing.util")
            if multiprocessing is not None:
                multiprocessing.Finalize(None, self._at_exit, exitpriority=0)

    def _at_exit(self) -> None:
        self.exiting = True
        start = time.monotonic()
        emitters = list(self._emitters)
        for emitter in emitters:
            emitter.hurry()
        for emitter in emitters:
            emitter.close(start + emitter.shutdown_timeout)


_processes: Final = _Processes()
