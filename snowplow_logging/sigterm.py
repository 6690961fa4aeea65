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

__all__ = ["sigterm"]


_sleep: Final = time.sleep  # of a time when nobody may have replaced it
_NUDGE_INTERVAL: Final = 0.05  # seconds
_NUDGES_BEFORE_FLUSH: Final = 5  # AWS Lambda leaves half a second from the signal to the kill
_MOST_NUDGES: Final = 40  # after which the main thread is taken to be where it hears nothing


class Sigterm:
    """Stands in for the default action of SIGTERM as long as anybody wants it.

    What a program has for SIGTERM itself, or comes to have, is left alone. A child that is forked
    inherits it, and delivers its own events.

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
        lifecycle.anew.append(self._watch)
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
        return None

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
            others = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
            main = threading.get_ident()
            if others == -1 and start_thread(
                partial(self._listen, read_end, main, os.getpid()), "snowplow-logging-sigterm"
            ):
                self._watched_in = os.getpid()
                return
            signal.set_wakeup_fd(others)  # the program's own, or that of its event loop
        os.close(read_end)
        os.close(write_end)

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
            signal.signal(number, signal.SIG_DFL)  # so that a second one ends the process at once
        if os.getpid() != 1:
            lifecycle.end_by(number)
            return
        # The first process of a container is not ended by a signal with the default action, and
        # goes on until it is killed.
        lifecycle.flush(None)
        os.kill(os.getpid(), number)
        signal.signal(number, self._end)


sigterm: Final = Sigterm()
"""SIGTERM in this process."""
