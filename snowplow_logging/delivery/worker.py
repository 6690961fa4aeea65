"""The threads that send: how they are started and woken, and how a caller takes over from them."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import threading
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Any, Final

from snowplow_logging.delivery.late_patch import LatePatch, stand_still
from snowplow_logging.delivery.line import Line, Shared
from snowplow_logging.delivery.waiting import Exclusive, alone, clock
from snowplow_logging.delivery.way_out import is_of_client
from snowplow_logging.lifecycle import lifecycle
from snowplow_logging.reporting import LOGGER_NAME

__all__ = ["Worker", "holds_logging_lock", "start_thread"]

_TAKEOVER_DELAY: Final = 0.05  # seconds that who waits gives the threads to begin before it does
_LOOK_INTERVAL: Final = 0.5  # seconds after which who waits for a request looks again
_LEAVE_TIMEOUT: Final = 1.0  # seconds that the end of the process waits for a thread at most
_SEND_TIMEOUT: Final = 5.0  # seconds that who sends at the log call waits for another who does
_NEVER: Final = math.inf


def start_thread(run: Callable[[], None], name: str) -> threading.Thread | None:
    """Start a thread that does not keep the process; return None where none can be started.

    That is so while the interpreter goes down, where `Thread.start` would wait for ever for the
    thread to run, in an interpreter that allows no such threads, and where there are too many.
    """
    if not lifecycle.starts_threads():
        return None
    try:
        # In a context of its own, because without the global interpreter lock Python has a thread
        # begin with its starter's: what a callback logs would have the subject of the request that
        # happened to log first.
        thread = threading.Thread(target=Context().run, args=(run,), name=name, daemon=True)
        thread.start()
    except RuntimeError:
        return None
    return thread


class Worker:
    """Has the lines of an emitter do their work, each on a thread of its own.

    The threads begin at the first event, and end when the emitter is closed.

    Args:
        shared: What the lines have in common.
        lines: How many there are.
    """

    def __init__(self, shared: Shared, lines: int) -> None:
        self.shared = self._shared = shared
        self._lines = [Line(shared) for _ in range(lines)]
        self._threads: list[threading.Thread] = []
        self._tender: threading.Thread | None = None  # what the queue has of its own
        self._leaving: list[threading.Thread] = []  # those of before a close
        self._starts: list[object] = []  # who starts threads, see `alone`
        self.closes = Exclusive(shared.lock)  # what a close changes is for one of them at a time
        self._turning: list[int] = []  # threads that have a turn, or are about to
        self._generation = 0  # of the threads; a close ends one
        self._greenlets: set[Any] = set()  # that gevent has made of the threads
        self._patch = LatePatch()

    # The threads.

    def wake(self) -> None:
        """Have the threads look for something to do, and start those that are missing."""
        self._heed_patch()
        if self._shared.closing is None:
            alone(self._starts, self._start_threads)
        self._shared.work.ring()

    def _heed_patch(self) -> None:
        """Leave the threads to themselves that began before the standard library was patched."""
        if self._patch.has_come:
            self._generation += 1
            self._threads, self._tender = [], None
            self._shared.reports.add("late patch", self._patch.report)
            self._patch = LatePatch()

    def _start_threads(self) -> None:
        lifecycle.begin()
        while (index := len(self._threads)) < len(self._lines):
            generation, line = self._generation, self._lines[index]
            run = partial(self._live, partial(self._run, generation, line))
            thread = start_thread(run, f"snowplow-logging-{index + 1}")
            if thread is None:
                break  # who flushes or closes works instead
            self._threads.append(thread)
        if self._shared.queue.tend is not None and self._tender is None:
            run = partial(self._live, partial(self._tend, self._generation))
            self._tender = start_thread(run, "snowplow-logging-store")

    @property
    def is_at_rest(self) -> bool:
        """Whether there are no threads, and nothing is under way or waits."""
        shared = self._shared
        return not (
            self._threads
            or not shared.queue.is_at_rest
            or shared.left
            or shared.notices.any_waits
            or not shared.reports.are_written
            or any(line.batches for line in self._lines)
        )

    def _live(self, run: Callable[[], None]) -> None:
        """Do what one of the threads does.

        Where gevent makes a greenlet of it, it lives on in a forked child and has to end there.
        """
        greenlet: Any = None
        patch = LatePatch()
        monkey: Any = sys.modules.get("gevent.monkey")
        # A real thread must not ask: what greenlet keeps for it may crash the garbage collector.
        if monkey is not None and monkey.is_object_patched("threading", "Thread"):
            greenlet = sys.modules["gevent"].getcurrent()
            self._greenlets.add(greenlet)
        try:
            run()
        except BaseException:
            if self._generation >= 0:
                raise
        if patch.has_come:
            stand_still()
        self._greenlets.discard(greenlet)
        if self._generation < 0:
            # `threading` has forgotten it, and would fail at its end; to ask makes it known again.
            threading.current_thread()

    def _run(self, generation: int, line: Line) -> None:
        shared, patch = self._shared, LatePatch()
        self._be_awake(generation)
        while generation == self._generation:
            if line.pause() > 0 and not shared.notices.any_waits:
                if shared.closing == _NEVER and not shared.queue.waiting and not line.batches:
                    break  # of an emitter that nobody will close, and nothing is left to do
                self._shared.work.wait(lambda: self._rest(generation, line))
                if patch.has_come:
                    return
                self._be_awake(generation)
                continue
            # May have to wait for logging's lock, so before anything is taken from the queue.
            with contextlib.suppress(Exception):  # a logger may be of a class of the user's
                _warm_loggers()
            self._turn(line, None, own_thread=True)
        self._leave(generation)

    def _tend(self, generation: int) -> None:
        shared, patch = self._shared, LatePatch()

        def is_wanted() -> bool:
            if patch.has_come:
                return False
            left = shared.queue.waiting or any(line.batches for line in self._lines)
            return generation == self._generation and (shared.closing != _NEVER or bool(left))

        while shared.queue.tend is not None and is_wanted():
            try:
                shared.queue.tend(is_wanted)
            except Exception as error:  # noqa: BLE001 - what comes later must still be written
                shared.reports.add("internal error", f"internal error: {error!r}")
        if patch.has_come:
            return
        if generation == self._generation:
            self.close_file()  # of an emitter that nobody will close
        self._leave(generation)

    def _leave(self, generation: int) -> None:
        """Do what who closed the emitter could not, because a thread stood still with the file."""
        if generation < self._generation and not self._threads:
            self.close_file()
            if self._shared.queue.at_risk:  # what could not be written
                self.wake()

    def close_file(self) -> None:
        """Let go of the file, unless events of it are under way."""
        self._shared.queue.close(
            lambda: any(batch.ids for line in self._lines for batch in line.batches)
        )

    def _be_awake(self, generation: int) -> None:
        with self._shared.lock:
            if generation == self._generation:
                self._shared.queue.do_not_call()

    def _rest(self, generation: int, line: Line) -> float:
        """See to it that somebody calls, and return the seconds until there is something to do."""
        if generation != self._generation or self._shared.notices.any_waits:
            return 0.0
        self._shared.queue.call()
        return line.pause()

    def _turn(self, line: Line, deadline: float | None, *, own_thread: bool) -> bool:
        """Do what is to be done now, and return whether anything was. No error may end a thread."""
        shared, done, me = self._shared, False, threading.get_ident()
        try:
            self._turning.append(me)
            if line.pause() <= 0:
                done = line.turn(deadline)
                shared.done.ring()
                shared.work.ring()  # of what is left, another line may take its share
            if self._has_notices():
                done = True
                shared.notices.tell(own_thread=own_thread)
        except Exception as error:  # noqa: BLE001 - what is left in the queue must still leave
            shared.reports.add("internal error", f"internal error: {error!r}")
        finally:
            self._turning.remove(me)
        return done

    # The callers.

    def send_here(self) -> None:
        """Send what waits on this thread; have a thread do so where it has to wait.

        Who has interrupted that in a signal handler leaves it to the thread below.
        """
        shared, (line, *_) = self._shared, self._lines
        if threading.get_ident() in self._turning:
            return
        until = clock.now() + _SEND_TIMEOUT
        try:
            while shared.queue.waiting or line.batches:
                if line.claims and clock.now() < until:
                    shared.done.wait(lambda: _TAKEOVER_DELAY if line.claims else 0.0)
                elif line.pause() > 0 or not self._turn(line, None, own_thread=False):
                    self.wake()
                    return
        except BaseException:  # of a signal handler; what waits has to leave all the same
            self.wake()
            raise

    def hurry(self) -> bool:
        """Have what waits leave at once; return whether nothing does."""
        shared = self._shared
        shared.due = shared.ledger.logged
        return self.is_answered(shared.due) and not shared.notices.any_waits

    @property
    def has_ended(self) -> bool:
        """Whether all threads were ended, and what waits was left to a file."""
        shared = self._shared
        return not self._threads and shared.queue.is_at_rest and shared.queue.waiting > 0

    def is_own_thread(self) -> bool:
        """Tell whether this is one of the threads that send."""
        return threading.current_thread() in self._threads

    def oldest(self) -> bytes | None:
        """Return the event that waits longest, if it is in memory. Needs the lock."""
        under_way = [batch for line in self._lines for batch in line.batches if batch.payloads]
        if under_way:
            return min(under_way, key=lambda batch: batch.first).payloads[0]
        return self._shared.queue.oldest()

    def is_answered(self, last: float) -> bool:
        """Tell whether all up to a place in the order, that this thread can wait for, is answered.

        What its own thread has under way, below a signal handler that has interrupted it, goes on
        only after it.
        """
        me = threading.get_ident()
        return self._shared.queue.first >= last and not any(
            batch.first < last
            for line in self._lines
            if line.thread != me
            for batch in line.batches
        )

    def wait(self, ready: Callable[[], bool], deadline: float) -> bool:
        """Wait until something is so, or, where the threads cannot run, work instead of them.

        That is at exit, where some versions of Python start no thread, in a callback, which has
        the thread to itself, and inside `dictConfig`, which holds logging's lock while it closes
        its handlers, so that a thread may be waiting for that lock.
        """
        began, works = clock.now(), False
        self._heed_patch()
        while not ready():
            left = deadline - clock.now()
            if left <= 0 or self._shared.is_parked:
                return False
            # A disk may stand still with a thread, for longer than this one has time.
            if (works or self._takes_over(began)) and not self._shared.queue.is_used:
                self._shared.queue.collect()
                line = min(self._lines, key=Line.pause)
                works = self._turn(line, deadline, own_thread=False)
                if works:
                    continue
                left = min(left, max(line.pause(), 0.001))
            under_way = any(line.claims for line in self._lines)
            left = min(left, _LOOK_INTERVAL if under_way else _TAKEOVER_DELAY)
            self._shared.done.wait(lambda left=left: 0.0 if ready() else left)  # type: ignore[misc]
        return True

    def wait_told(self, deadline: float) -> bool:
        """Wait until all is told that is to be told by now, but not in a callback for itself."""
        notices = self._shared.notices
        if notices.is_telling():
            return True
        up_to = notices.added
        return self.wait(lambda: notices.is_told(up_to), deadline)

    def _has_notices(self) -> bool:
        notices = self._shared.notices
        return notices.any_waits and not notices.is_telling()

    def _takes_over(self, began: float) -> bool:
        if self._shared.notices.is_telling():
            return True
        if not any(thread.is_alive() for thread in self._threads):
            return True
        idle = clock.now() - max(began, self._shared.progress)
        under_way = any(line.claims for line in self._lines)
        return not under_way and idle > _TAKEOVER_DELAY and holds_logging_lock()

    # The end.

    def end(self) -> None:
        """Have the threads end. Needs the lock."""
        self._generation += 1
        self._shared.queue.call_always()
        tender = () if self._tender is None else (self._tender,)
        threads = (*self._leaving, *self._threads, *tender)
        self._leaving = [thread for thread in threads if thread.is_alive()]
        self._threads, self._tender = [], None

    def forget_dead_threads(self) -> None:
        """Take note of threads that have ended, so that others are started in their place."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if self._tender is not None and not self._tender.is_alive():
            self._tender = None

    def abandon(self) -> None:
        """Move all that would be lost with the process into `Shared.left`. Needs the lock."""
        shared = self._shared
        me = threading.get_ident()
        for line in self._lines:
            if line.thread == me:
                continue  # it has interrupted this line, which goes on after it
            # With no call in between, so that a signal handler that raises leaves none twice.
            while line.aside:
                if not shared.queue.give_back(line.aside[0]):
                    shared.left += line.aside[0].payloads
                del line.aside[0]
            if line.batch is not None:
                if not shared.queue.give_back(line.batch):
                    shared.left += line.batch.payloads
                line.batch = None
        shared.queue.abandon(shared.left)

    def join(self) -> None:
        """Wait for the threads that `end` has let go, if nothing but that keeps them.

        When the process ends they stand still for ever, wherever they are; inside logging, with
        its lock, they would keep the process from ending.
        """
        leaving, self._leaving = self._leaving, []
        if self._shared.reports.thread is not None:
            leaving.append(self._shared.reports.thread)
        busy = {line.thread for line in self._lines if line.claims}
        for thread in leaving:
            if thread.ident not in busy and thread is not threading.current_thread():
                thread.join(_LEAVE_TIMEOUT)

    def leave_to_parent(self) -> None:
        """End what lives on in a forked child and is the parent's."""
        self._generation = -1
        for greenlet in [*self._greenlets]:
            greenlet.kill(block=False)  # before it reads what its parent is answered


def holds_logging_lock() -> bool:
    """Tell whether this thread holds the lock of logging, as it does inside `dictConfig`."""
    owned = getattr(getattr(logging, "_lock", None), "_is_owned", None)
    return owned is None or bool(owned())


def _warm_loggers() -> None:
    """Have every logger that a request may use look up its level, for which it takes a lock.

    A later look-up takes none. `dictConfig` holds that lock while it closes the old handlers.
    """
    for name, its_logger in list(logging.root.manager.loggerDict.items()):
        used = is_of_client(name) or name == LOGGER_NAME
        if used and isinstance(its_logger, logging.Logger):
            for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
                its_logger.isEnabledFor(level)
