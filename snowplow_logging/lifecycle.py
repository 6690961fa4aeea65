"""The life of a process with emitters: its forks, its end, and the children of multiprocessing."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from snowplow_logging.delivery.waiting import clock
from snowplow_logging.reporting import counted, report_seldom

if TYPE_CHECKING:
    from snowplow_logging.delivery.ledger import Stats

__all__ = ["Lifecycle", "lifecycle", "tell_at_exit"]

_EXITS: Final = 4  # how often an exit may be asked for amid what is done at exit


class _Emitter(Protocol):
    shutdown_timeout: float

    @property
    def url(self) -> str: ...
    @property
    def stats(self) -> Stats: ...
    @property
    def last_failure(self) -> str | None: ...
    def after_fork(self) -> None: ...
    def flush(self, timeout: float | None = None) -> bool: ...
    def hurry(self) -> None: ...
    def close(self, until: float) -> None: ...
    def leave(self) -> None: ...


def _resolve_without_threads() -> None:
    """Have gevent look up addresses without a thread, which may not start any more at exit."""
    if importlib.import_module("gevent.monkey").is_module_patched("socket"):
        hub = importlib.import_module("gevent").get_hub()
        hub.resolver = importlib.import_module("gevent.resolver.blocking").Resolver(hub)


class Lifecycle:
    """What the emitters of a process have in common: its forks and its end.

    Attributes:
        is_ending: Whether the callbacks at exit have come to the emitters.
        ending_signal: The signal that is to end the process after them.
        anew: What is to be done in each process in which emitters work, when the first does.
        at_flush: What is to be done where a caller flushes.
    """

    def __init__(self) -> None:
        self.is_ending = False
        self.ending_signal: int | None = None
        self.anew: list[Callable[[], None]] = []
        self.at_flush: list[Callable[[], None]] = []
        self._ending_thread = 0
        self._interrupted = False
        self._emitters: weakref.WeakSet[_Emitter] = weakref.WeakSet()
        self._hooked: int | None = None  # the process that has the hook at exit
        self._told: int | None = None  # the child of multiprocessing that closes at its end

    def starts_threads(self) -> bool:
        """Tell whether a thread may still be started, which would otherwise never run."""
        return not (self.is_ending or sys.is_finalizing())

    def ends_here(self) -> bool:
        """Tell whether this is the thread on which the process comes to its end.

        Others are daemon threads, which Python stops wherever they are.
        """
        return self._ending_thread == threading.get_ident()

    def register(self, emitter: _Emitter) -> None:
        """Have an emitter start afresh after a fork and closed at the end of the process."""
        if self._hooked is None and hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)
        self.begin()
        self._await_multiprocessing()
        process = sys.modules.get("multiprocessing.process")
        if process is not None and process.parent_process() and self._told != os.getpid():
            self._begin_child()  # it began before it had an emitter
        self._emitters.add(emitter)

    def begin(self) -> None:
        """Have the emitters of this process closed when Python runs what is to be done at exit.

        Not `logging.shutdown` alone: `dictConfig` takes handlers off its list. And not in a fork
        hook: a child may forget what its parent had for its exit, and then run what has come since,
        as tasks of Airflow do. Where it does not forget, the emitters are closed twice, which does
        no harm.
        """
        if self._hooked != os.getpid():
            self._hooked = os.getpid()
            atexit.register(self._at_exit)
            for act in self.anew:
                act()

    def flush(self, timeout: float | None) -> bool:
        """Wait until all that was logged before has been answered for, by every emitter.

        Args:
            timeout: The seconds to wait at most, all together; None for the `shutdown_timeout`
                of each.
        """
        emitters = self._each_once()
        start = clock.now()
        for emitter in emitters:
            emitter.hurry()
        answered = True
        for emitter in emitters:
            seconds = emitter.shutdown_timeout if timeout is None else timeout
            answered &= emitter.flush(max(0.0, start + seconds - clock.now()))
        return answered

    def tell_what_waits(self) -> None:
        """Report what has not been answered for, once a minute."""
        waits = []
        for emitter in self._each_once():
            stats = emitter.stats
            if stats.queued:
                failure = emitter.last_failure
                error = f"; the last error was: {failure}" if failure else ""
                one, many = (
                    f"event for {emitter.url} still waits",
                    f"events for {emitter.url} still wait",
                )
                waits.append(f"{counted(stats.queued, one, many)}{error}")
        report_seldom("flush", *waits)

    def _each_once(self) -> list[_Emitter]:
        """Return the emitters; another thread may be making one."""
        while True:
            with contextlib.suppress(RuntimeError):  # the set has changed meanwhile
                return list(self._emitters)

    def _after_fork(self) -> None:
        # Nothing in here takes a lock, which a thread of the parent may have held.
        self.is_ending = self._interrupted = False
        self.ending_signal = None
        self._await_multiprocessing()
        for emitter in self._emitters:
            emitter.after_fork()

    def _await_multiprocessing(self) -> None:
        """Have a child of multiprocessing close its emitters at its end, which is of its own kind.

        It forgets what was to be done at its end before it begins, so it has to be told then.
        """
        util = sys.modules.get("multiprocessing.util")
        if util is not None:
            util.register_after_fork(self, Lifecycle._begin_child)

    def _begin_child(self) -> None:
        self._told = os.getpid()
        util = sys.modules["multiprocessing.util"]
        util.Finalize(None, self._at_exit, exitpriority=0)

    def _at_exit(self) -> None:
        """Close all emitters, which together take the time of the one that has the most."""
        self.is_ending, self._ending_thread = True, threading.get_ident()
        if "gevent.monkey" in sys.modules:
            _resolve_without_threads()
        start = clock.now()

        def close(emitter: _Emitter) -> None:
            emitter.close(start if self._interrupted else start + emitter.shutdown_timeout)

        emitters = self._each_once()
        self._each(emitters, lambda emitter: emitter.hurry())
        self._each(emitters, close)
        self._each(emitters, lambda emitter: emitter.leave())
        if self.ending_signal is not None:
            os.kill(os.getpid(), self.ending_signal)

    def end_by(self, signal: int) -> None:
        """Do what is done at exit, and then let a signal end the process by its default action.

        Args:
            signal: The signal, whose default action stands again.
        """
        self.ending_signal = signal
        if not self.is_ending:  # else the exit that was interrupted goes on, and ends so
            self._at_exit()

    def _each(self, emitters: list[_Emitter], act: Callable[[_Emitter], None]) -> None:
        """Do something with each emitter, whatever happens with one of them."""
        for emitter in emitters:
            for left in reversed(range(_EXITS)):
                try:
                    act(emitter)
                except SystemExit:
                    if left:
                        # The exit under way is asked for again, as gunicorn's workers with gevent
                        # do for one Ctrl-C: what was begun goes on, in the time that it has.
                        continue
                    self._give_up(emitter)
                except Exception as error:  # noqa: BLE001 - the others are to be closed as well
                    tell_at_exit(f"an emitter could not be closed: {error!r}")
                except BaseException:  # noqa: BLE001 - Ctrl-C, by who does not want to wait
                    self._give_up(emitter)
                break

    def _give_up(self, emitter: _Emitter) -> None:
        """Wait no longer for any emitter: one counts what it has left, and says how much."""
        self._interrupted = True
        with contextlib.suppress(BaseException):
            emitter.close(clock.now())


def tell_at_exit(line: str) -> None:
    """Write a line to standard error, where a logger may have nobody to write it any more."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):  # it may be closed
            sys.stderr.write(f"snowplow_logging: {' '.join(line.split())}\n")


lifecycle: Final = Lifecycle()
"""This process and its emitters."""
