"""A connection to SQLite that only the process which has opened it uses or closes."""

from __future__ import annotations

import ctypes
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterable
from typing import Any

__all__ = ["Connection", "leave_open_ones_to_parent"]


class Connection(sqlite3.Connection):
    """A connection with which a forked child does nothing, whatever it was in the middle of.

    A signal handler may fork amid a use, and what was begun there then goes on in the child, too.
    Not even a close does no harm there. It undoes the transaction that was open at the fork, for
    which SQLite clears a part of the index of the WAL: in memory that the child shares with the
    parent, which is about to commit. And where the parent has closed the file meanwhile and opened
    it anew, the child would remove a WAL that is not the one it knows.
    """

    # Of the class, because the names of a module are gone when the last objects are.
    _getpid = staticmethod(os.getpid)
    _object = ctypes.py_object
    _add_reference = staticmethod(ctypes.pythonapi.Py_IncRef)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Before there is a file, so that no fork comes between that and this.
        self._process = os.getpid()
        self._thread = threading.get_ident()  # that has used it last
        _connections.add(self)
        super().__init__(*args, **kwargs)

    def is_own(self) -> bool:
        """Tell whether this process has opened it."""
        return self._process == self._getpid()

    def is_open(self) -> bool:
        """Tell whether it was opened and not closed.

        It is asked in a child that has just been forked, so it must call nothing of SQLite. In new
        versions, such as 3.53, even to read `total_changes` takes the lock of the connection, and
        that stays locked for ever in a child whose parent was in the middle of a use.
        """
        try:
            self.isolation_level  # noqa: B018 - which the module knows by itself
        except sqlite3.ProgrammingError:
            return False
        return True

    def execute(self, *args: Any) -> sqlite3.Cursor:
        """Do as every connection does."""
        self._thread = threading.get_ident()
        return super().execute(*args)

    def executemany(self, *args: Any) -> sqlite3.Cursor:
        """Do as every connection does."""
        self._thread = threading.get_ident()
        return super().executemany(*args)

    def leave_to_parent(self) -> None:
        """Have a child that has just been forked do nothing with it any more.

        That is for SQLite to see to: a check here might have passed right before the fork. But it
        is asked for that only where this thread has used the connection last. Another one, which
        was in the middle of a call and is not there in the child, has left it locked for ever.
        """
        self.abandon()
        if self._thread == threading.get_ident():
            self.set_authorizer(lambda *_: sqlite3.SQLITE_DENY)

    def close(self) -> None:
        """Close it, or leave it to the parent process, whose it is."""
        if self.is_own():
            super().close()
        else:
            self.abandon()

    def abandon(self) -> None:
        """Have it never closed, not even at the end of the process."""
        self._add_reference(self._object(self))

    def __del__(self) -> None:
        """Leave it to the parent process, whose it is, or SQLite would close it now."""
        if not self.is_own():
            self.abandon()

    def close_inherited(self, descriptors: Iterable[int]) -> None:
        """Close what a child has inherited, while nothing was under way, and touch no file.

        Args:
            descriptors: Those of its database and of what is beside that. SQLite finds in their
                place what it cannot lock, and so leaves the WAL alone.
        """
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            for descriptor in descriptors:
                os.dup2(nothing, descriptor, inheritable=False)
        finally:
            os.close(nothing)
        super().close()


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def leave_open_ones_to_parent() -> bool:
    """Have a child do nothing with what was open at its fork; return whether anything was.

    For its fork hook alone: whatever is open then is the parent's.
    """
    inherited = [one for one in [*_connections] if one.is_open()]
    for connection in inherited:
        connection.leave_to_parent()
    return bool(inherited)
