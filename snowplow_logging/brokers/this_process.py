"""What belongs to one process, and is never ended in the forked children that inherit it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Generic, TypeVar

from snowplow_logging.delivery.waiting import new_lock

__all__ = ["OfThisProcess"]

_T = TypeVar("_T")


class OfThisProcess(Generic[_T]):
    """A client of a broker, or several, that each process makes for itself.

    Args:
        make: Makes it, when it is first asked for and when the last one was taken away.
    """

    def __init__(self, make: Callable[[], _T]) -> None:
        self._make = make
        self._it: _T | None = None
        self._pid = os.getpid()
        self._lock = new_lock()

    def get(self) -> _T:
        """Return it."""
        self.after_fork()
        with self._lock:
            if self._it is None:
                self._it = self._make()
            return self._it

    def take(self) -> _T | None:
        """Return it if there is any, and have another be made for who asks next."""
        self.after_fork()
        it, self._it = self._it, None
        return it

    def after_fork(self) -> None:
        """Leave to the parent what is the parent's.

        In a child it is kept for ever. Forgotten, it would close the descriptors that it had in the
        parent, which in the child may be files of the program by now; or its end would wait for
        threads that are not in the child.
        """
        if self._pid != os.getpid():
            if self._it is not None:
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._it))
            self._it, self._pid, self._lock = None, os.getpid(), new_lock()
