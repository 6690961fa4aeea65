"""Ways to wait, to wake and to take turns that no signal handler breaks, and a clock of our own.

A signal handler runs on the main thread between any two instructions of Python code, and what it
raises leaves that code where it was. So no thread that may be a caller's takes a lock in Python
code: not a `threading.Condition`, an `Event` or a `queue.Queue`, whose locks would stay locked for
ever. What is used here is taken and given back by single calls of C code.
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import starmap
from typing import Any, Final, TypeVar

__all__ = ["ONCE", "Bell", "Exclusive", "Lock", "alone", "clock", "new_lock"]

ONCE: Final = ((),)
"""The arguments of one call, for `starmap`, so that C code makes it and keeps what it returns."""

_LOOK_INTERVAL: Final = 0.02  # seconds after which who waits for a turn looks again at most

_T = TypeVar("_T")

Lock = Any
"""A `threading.RLock`, whose type has no public name, nor the methods that a condition uses.

What a function returns of a call is returned after `with lock:` and not from within. From Python
3.11 on the instructions between such a call and the end of `with` are not covered by it: what is
raised there, as by a signal handler that a debugger's trace function lets in, would keep the lock.
"""


def new_lock() -> Lock:
    """Return a lock that `with` always gives back, whatever a signal handler raises."""
    lock = threading.RLock()  # or what gevent has put in its place
    return _GivenBack() if sys.version_info[:2] == (3, 14) and type(lock) is _RLock else lock


_RLock: Final[Any] = type(threading.RLock())
_do_all: Final = deque[Any](maxlen=0).extend


class _GivenBack(_RLock):  # type: ignore[misc]  # whose type has no public name
    """A lock for Python 3.14, where signals are handled between `__enter__` and the `with` block.

    What is raised there keeps a lock for ever that C code has taken (python/cpython#148874). No
    signal is handled where a function of Python returns, so this one is taken by such a function,
    which gives it back if anything is raised inside of it.
    """

    def __enter__(self) -> bool:
        taken: list[bool] = []
        give_back = map(self.__exit__, taken, taken, taken)
        try:
            # By one call of C code, so that it is known to be taken if it is.
            taken.extend(starmap(self.acquire, ONCE))
        except BaseException:
            _do_all(give_back)
            raise
        return True


class _Clock:
    """The monotonic clock, where a test that replaces the functions of `time` does not find it.

    freezegun looks for them in the attributes of all modules, and time-machine changes the
    functions themselves; a wait by a clock that stands still would never end.

    Attributes:
        now: Returns the seconds since some moment.
    """

    def __init__(self) -> None:
        self.now: Callable[[], float] = (
            partial(time.clock_gettime, time.CLOCK_MONOTONIC)
            if hasattr(time, "clock_gettime")
            else time.perf_counter
        )


clock: Final = _Clock()
"""The clock by which everything here waits."""


class Bell:
    """Wakes the threads that wait for it.

    Args:
        lock: What a thread lets go of while it waits, if it holds it: a signal handler that flushes
            may have interrupted its own thread inside of it, and others need it to go on.
    """

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self._waiters: list[threading.Lock] = []

    def ring(self) -> None:
        """Wake all who wait now."""
        for waiter in [*self._waiters]:
            if waiter.locked():
                with contextlib.suppress(RuntimeError):  # another thread has just done so
                    waiter.release()

    def wait(self, seconds: Callable[[], float]) -> None:
        """Wait until the bell rings.

        Args:
            seconds: Says how long to wait at most, which may be 0. It is asked when no ringing
                can be missed any more, so it is the place to look for what is waited for.
        """
        waiter = threading.Lock()
        waiter.acquire()
        held: list[Any] = []
        try:
            self._waiters.append(waiter)
            most = seconds()
            if most <= 0:
                return
            if self._lock._is_owned():  # noqa: SLF001
                held.append(self._lock._release_save())  # noqa: SLF001
            try:
                waiter.acquire(True, -1 if most == math.inf else min(most, threading.TIMEOUT_MAX))  # noqa: FBT003
            except RuntimeError:
                # From Python 3.15 on no lock is waited for while the interpreter goes down. All
                # other threads stand still then, so that nobody rings, and nothing but time passes.
                time.sleep(min(most, _LOOK_INTERVAL))
        finally:
            for levels in held:
                self._lock._acquire_restore(levels)  # noqa: SLF001
            self._waiters.remove(waiter)


def alone(claims: list[object], work: Callable[[], _T]) -> _T | None:
    """Do something unless another thread does it, or this one in what a signal has interrupted.

    Args:
        claims: Who wants to; the first one does it. It is a list and no lock because an exception
            of a signal handler can come neither between `try` and `append` nor between `finally`
            and `remove`, so that no claim is ever left behind.
        work: What is to be done.

    Returns:
        What `work` has returned; None where it was not done.
    """
    mine = object()
    try:
        claims.append(mine)
        return work() if claims[0] is mine else None
    finally:
        claims.remove(mine)


class Exclusive:
    """What one thread at a time may use, while the others wait for it.

    Args:
        lock: The lock that a thread lets go of while it waits, see `Bell`.

    Attributes:
        latest: The time after which nobody waits any longer, by `clock`.
    """

    def __init__(self, lock: Lock) -> None:
        self.latest = math.inf
        self._claims: list[object] = []
        self._users: list[int] = []  # threads that use it, or wait for it
        self._free = Bell(lock)

    @property
    def is_used(self) -> bool:
        """Whether anybody uses it now."""
        return bool(self._claims)

    def use(self, work: Callable[[], None], until: float = math.inf) -> bool:
        """Do something with it, once nobody else does.

        Args:
            work: What is to be done.
            until: The time after which this thread does not wait, if that is sooner.

        Returns:
            Whether it was done. It is not where the time is up, nor in a signal handler that has
            interrupted its own thread in here, which comes to it afterwards.
        """
        me, used = threading.get_ident(), False

        def use() -> None:
            nonlocal used
            used = True
            work()

        if me in self._users:
            return False
        try:
            self._users.append(me)
            while True:
                alone(self._claims, use)
                if used or clock.now() >= min(self.latest, until):
                    return used
                self._free.wait(lambda: _LOOK_INTERVAL if self._claims else 0.0)
        finally:
            self._users.remove(me)
            self._free.ring()
