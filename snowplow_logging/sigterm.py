"""SIGTERM, for handlers that want to deliver what is queued before it ends the process."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import weakref
from functools import partial
from types import FrameType
from typing import Any, Final

from snowplow_logging.delivery.late_patch import has_patched_threads
from snowplow_logging.delivery.waiting import new_lock
from snowplow_logging.delivery.worker import start_thread
from snowplow_logging.lifecycle import lifecycle
from snowplow_logging.reporting import report_seldom

__all__ = ["sigterm"]


_sleep: Final = time.sleep  # of a time when nobody may have replaced it
_NUDGE_INTERVAL: Final = 0.05  # seconds
_NUDGES_BEFORE_FLUSH: Final = 5  # AWS Lambda leaves half a second from the signal to the kill
_LOOK_INTERVAL: Final = 1.0  # seconds between two looks at whether it still stands in
_MOST_NUDGES: Final = 40  # after which the main thread is taken to be where it hears nothing
_DEFAULT_STANDS: Final = (
    "flush_on_sigterm has no effect for now: somebody has put back the default action of SIGTERM, "
    "as asyncio does when it has had the signal; what waits is sent each second until "
    "snowplow_logging.flush() is called on the main thread, from when on it has effect again"
)


class Sigterm:
    """Stands in for the default action of SIGTERM as long as anybody wants it.

    What a program has for SIGTERM itself, or comes to have, is left alone. Where it comes back to
    the default action, this stands in again as soon as the main thread lets it. A child that is
    forked inherits it, and delivers its own events.

    Python runs a signal handler on the main thread, between two of its steps. A signal that comes
    right before that thread begins to wait in C code, as a child of a pool does for its next task,
    would be heard of when the wait is over, which may be never, and whoever waits for the process
    to end would wait with it. So a thread is told of each signal by the descriptor that Python
    writes to at once, and sends it again until the main thread has heard of it. Where that hears
    nothing at all, as in AWS Lambda's runtime, the thread delivers and ends the process.
    """

    def __init__(self) -> None:
        self._wanted_by: weakref.WeakSet[Any] = weakref.WeakSet()
        self._heard = 0  # how often the main thread has heard of it
        # Re-entrant, because a second signal may come while the handler has it.
        self._lock = new_lock()
        self._watched_in: int | None = None  # the process whose signals the thread is told of
        self._told_by: int | None = None  # the descriptor that Python writes to then
        self._looked_at_in: int | None = None  # the process in which a thread looks
        self._is_ending = False  # with the default action, so that a second one ends it at once
        lifecycle.anew += [self._stand_in_again, self._watch, self._look_after]
        lifecycle.at_flush.append(self._stand_in_again)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def want(self, who: object) -> str | None:
        """Have the events delivered at SIGTERM.

        Args:
            who: Wants it until it is collected, or calls `release`.

        Returns:
            Why that cannot be; None where it can, or where the program has its own way.
        """
        if threading.current_thread() is not threading.main_thread():
            return "the handler was not made on the main thread, where Python takes signals"
        try:
            if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                signal.signal(signal.SIGTERM, self._end)
        except ValueError as error:  # this is no main interpreter
            return str(error)
        self._wanted_by.add(who)
        self._watch()
        self._look_after()
        return None

    def _default_stands(self) -> bool:
        """Tell whether the default action stands, though it should not."""
        return (
            bool(self._wanted_by)
            and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
            and not (self._is_ending or lifecycle.is_ending)
        )

    def _stand_in_again(self) -> None:
        """Stand in for the default action again, where this is the thread that can."""
        if threading.current_thread() is threading.main_thread() and self._default_stands():
            with contextlib.suppress(ValueError, OSError):  # this is no main interpreter, or so
                signal.signal(signal.SIGTERM, self._end)
                if self._watched_in == os.getpid() and self._told_by is not None:
                    self._have_told(self._told_by)  # who had the signal has taken that away, too
                else:
                    self._watch()

    def _look_after(self) -> None:
        """Have a thread see whether it still stands in."""
        if (
            self._wanted_by
            and signal.getsignal(signal.SIGTERM) == self._end  # never so in a subinterpreter
            and self._looked_at_in != os.getpid()
            and not has_patched_threads()  # a greenlet that sleeps would hold up all others
            and start_thread(partial(self._look, os.getpid()), "snowplow-logging-sigterm-look")
        ):
            self._looked_at_in = os.getpid()

    def _look(self, pid: int) -> None:
        is_told = False
        while os.getpid() == pid and self._wanted_by:
            _sleep(_LOOK_INTERVAL)
            if not self._default_stands():
                is_told = False
                continue
            if not is_told:
                is_told = True
                report_seldom("sigterm", _DEFAULT_STANDS)
            with contextlib.suppress(Exception):  # the set may change, and `flush` be another's
                for who in [*self._wanted_by]:
                    who.flush(0)
        self._looked_at_in = None

    def _watch(self) -> None:
        """Have a thread see to it that the main thread hears of the signal."""
        if (
            not self._wanted_by
            or self._watched_in == os.getpid()
            or not hasattr(signal, "pthread_kill")  # which Windows has not
            or threading.current_thread() is not threading.main_thread()
            or has_patched_threads()  # a greenlet that reads would hold up all others
        ):
            return
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        with contextlib.suppress(ValueError):
            main = threading.get_ident()
            if self._have_told(write_end):
                if start_thread(
                    partial(self._listen, read_end, main, os.getpid()), "snowplow-logging-sigterm"
                ):
                    self._watched_in, self._told_by = os.getpid(), write_end
                    return
                signal.set_wakeup_fd(-1)
        os.close(read_end)
        os.close(write_end)

    def _have_told(self, write_end: int) -> bool:
        """Have Python tell a descriptor of signals, unless it tells another; return whether."""
        others = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        if others in (-1, write_end):
            return True
        signal.set_wakeup_fd(others)  # the program's own, or that of its event loop
        return False

    def _after_fork(self) -> None:
        # A child that writes to its parent's descriptor would tell the parent of its own signals.
        if self._watched_in is not None:
            self._watched_in = None
            self._lock = new_lock()
            with contextlib.suppress(ValueError):  # it was not forked by the main thread
                signal.set_wakeup_fd(-1)

    def _listen(self, read_end: int, main: int, pid: int) -> None:
        os.set_blocking(read_end, True)
        while (heard := os.read(read_end, 100)) and os.getpid() == pid:
            if signal.SIGTERM in heard:
                self._nudge(main)
                os.set_blocking(read_end, False)
                with contextlib.suppress(BlockingIOError):
                    os.read(read_end, 1_000)  # what the nudges have written
                os.set_blocking(read_end, True)

    def _nudge(self, main: int) -> None:
        """Send the signal to the main thread until it has heard of it."""
        before = self._heard
        for nudge in range(_MOST_NUDGES):
            _sleep(_NUDGE_INTERVAL)
            with self._lock:
                if self._heard != before or signal.getsignal(signal.SIGTERM) != self._end:
                    return
                signal.pthread_kill(main, signal.SIGTERM)
            if nudge == _NUDGES_BEFORE_FLUSH and not lifecycle.flush(None):
                lifecycle.tell_what_waits()
        os._exit(128 + signal.SIGTERM)  # as a shell has it; the signal itself would not end it

    def release(self, who: object) -> None:
        """Put the default action back once nobody wants anything else any more."""
        self._wanted_by.discard(who)
        is_ours = signal.getsignal(signal.SIGTERM) == self._end
        is_main = threading.current_thread() is threading.main_thread()
        if is_ours and is_main and not self._wanted_by and not lifecycle.is_ending:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _end(self, number: int, _frame: FrameType | None) -> None:
        with self._lock:
            self._heard += 1
            self._is_ending = True
            signal.signal(number, signal.SIG_DFL)  # so that a second one ends the process at once
        if os.getpid() != 1:
            lifecycle.end_by(number)
            return
        # The first process of a container is not ended by a signal with the default action, and
        # goes on until it is killed.
        try:
            lifecycle.flush(None)
            os.kill(os.getpid(), number)
        finally:
            signal.signal(number, self._end)
            self._is_ending = False


sigterm: Final = Sigterm()
"""SIGTERM in this process."""
