"""A connection to SQLite that no fork finds open or in use."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import weakref
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Final, TypeVar

from snowplow_logging.delivery.descriptors import identity_of
from snowplow_logging.delivery.sqlite_connection import Connection, leave_open_ones_to_parent
from snowplow_logging.delivery.store_file import StoreError, identify
from snowplow_logging.delivery.waiting import new_lock

__all__ = ["ForkSafe"]

_Result = TypeVar("_Result")

_FORK_STEP: Final = 0.05  # seconds; in steps, so that no time counts in which the machine stands
_FORK_STEPS: Final = 10  # that a fork waits for a use of the file to end


class ForkSafe:
    """Holds a connection to a database for one process, and lets one thread at a time use it.

    At a fork the connection is closed, and opened again by whoever needs it next: a child that
    inherited it could neither use it nor close it. Its locks are the parent's, and by the time the
    child closes the file descriptors they may be those of other files.

    Args:
        path: The database.

    Attributes:
        connection: The connection; None where it has to be opened.
    """

    def __init__(self, path: str) -> None:
        self.connection: Connection | None = None
        self._path = path
        self._lock = new_lock()  # held while SQLite works
        self._using = False  # whether it does
        self._pid = os.getpid()
        self._descriptors: dict[int, tuple[int, int]] = {}
        _forks.members.add(self)

    def is_own(self) -> bool:
        """Tell whether it is this process's, and not its parent's."""
        return self._pid == os.getpid()

    def check(self) -> None:
        """Raise StoreError where it is the parent process's, or SQLite cannot be used in this one.

        A signal handler may have forked at any point, and this be the child.
        """
        if not self.is_own():
            raise StoreError(f"the store {self._path} is that of the parent process")
        if self.connection is None:
            if not _forks.spoilt:
                _forks.close_inherited()
            if _forks.spoilt:
                raise StoreError(f"the store {self._path} cannot be used: {_forks.spoilt}")

    def use(self, work: Callable[[], _Result]) -> _Result:
        """Do something with the connection that no fork comes in the middle of.

        Raises:
            StoreError: This thread is in the middle of a use: a signal handler or a finaliser logs.
        """
        with self._lock:
            if self._using:
                raise StoreError(f"the store {self._path} is being used")
            self._using = True
            try:
                result = work()
            finally:
                self._using = False
        return result

    def hold(self, connection: Connection) -> None:
        """Take over a connection that has just been opened."""
        self.connection = connection
        self._descriptors = _descriptors_of(self._path)

    def holds(self, identity: tuple[int, int] | None) -> bool:
        """Tell whether a file is the database of this connection, or belongs to it."""
        return identity in self._descriptors.values()

    def disconnect(self) -> None:
        """Close the connection, if there is one."""
        connection, self.connection = self.connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def give_up(self, why: str) -> None:
        """Have the connection never closed, and SQLite not used in this process any more.

        It would write into whatever file has got the number of its descriptor.
        """
        if self.connection is not None:
            self.connection.abandon()
            self.connection = None
            _forks.spoilt = why

    # Around a fork.

    def suspend(self, steps: Iterator[float]) -> bool:
        """Close the connection before a fork, and keep it closed until `resume`.

        Args:
            steps: The seconds for which to wait, and wait again, while another thread uses it.

        Returns:
            Whether nobody uses it. One that is in use stays open.
        """
        while not self._lock.acquire(timeout=(step := next(steps, 0.0))):
            if not step:
                return False
        if self._using:  # by this thread, in a signal handler
            self._lock.release()
            return False
        self.disconnect()
        return True

    def resume(self) -> None:
        """Let it be used again after a fork."""
        self._lock.release()

    def close_inherited(self) -> bool:
        """Close what a child has inherited, if it is still that; return whether it could be."""
        connection = self.connection
        if connection is None or connection.is_own():
            return True
        self.connection = None
        intact = not (self._using or connection.in_transaction) and all(
            identity_of(number) == identity for number, identity in self._descriptors.items()
        )
        if intact:
            connection.close_inherited(self._descriptors)
        else:
            connection.abandon()
        return intact


class _Forks:
    """Sees to it that no connection is open, or in use, in the moment of a fork.

    Attributes:
        members: All that hold a connection of this process.
        spoilt: Why SQLite cannot be used in this process any more, if that is so.
    """

    def __init__(self) -> None:
        self.members: weakref.WeakSet[ForkSafe] = weakref.WeakSet()
        self.spoilt = ""
        # What is closed, for each fork that has begun: a signal handler may fork as well.
        self._begun: list[list[ForkSafe]] = []

    def before(self) -> None:
        suspended: list[ForkSafe] = []
        self._begun.append(suspended)
        steps = repeat(_FORK_STEP, _FORK_STEPS)
        for member in list(self.members):
            if member.is_own() and member.suspend(steps):
                suspended.append(member)  # noqa: PERF401 - each at once, for an interrupt

    def after_in_parent(self) -> None:
        for member in self._begun.pop():
            member.resume()

    def after_in_child(self) -> None:
        if not self._begun:
            return  # uWSGI runs the hooks of the child alone; what is open is closed when needed
        if leave_open_ones_to_parent():
            self.spoilt = "the process was forked amid a use of a store"
        self.after_in_parent()

    def close_inherited(self) -> None:
        """Close what this process has inherited, where no hook has run before the fork.

        Otherwise SQLite would believe in the locks of the parent's connections, and take none for
        a new connection to the same file. The parent could then remove the WAL under it.
        """
        for member in list(self.members):
            if not member.close_inherited():
                self.spoilt = "the process was forked without Python's hooks for that"


_forks: Final = _Forks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_forks.before,
        after_in_parent=_forks.after_in_parent,
        after_in_child=_forks.after_in_child,
    )


def _descriptors_of(path: str) -> dict[int, tuple[int, int]]:
    """Return the descriptors of this process for a database and what is beside it."""
    files = {identify(f"{path}{suffix}") for suffix in ("", "-wal", "-shm")} - {None}
    found = {}
    if sys.platform != "win32":  # where nothing forks
        with contextlib.suppress(OSError):
            for name in os.listdir("/dev/fd"):  # noqa: PTH208 - names are all that is wanted
                identity = identity_of(int(name))
                if identity is not None and identity in files:
                    found[int(name)] = identity
    return found
