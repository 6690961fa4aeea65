"""The connection to a store: it waits for other processes, survives forks, and begins anew."""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Final, TypeVar

from snowplow_logging.delivery.owners import OwnerLocks
from snowplow_logging.delivery.reserve import Reserve
from snowplow_logging.delivery.salvage import is_whole, readable_owners, readable_rows
from snowplow_logging.delivery.store_file import (
    StoreError,
    connect,
    connect_read_only,
    identify,
    is_busy,
    is_corrupt,
    is_full,
    look,
    pragma,
    transaction,
)
from snowplow_logging.delivery.waiting import clock

__all__ = ["StoreConnection"]

_Result = TypeVar("_Result")

_PATIENCE: Final = 5.0  # seconds to wait for another process, where nothing else is said
_POLL: Final = (0.0, 0.001, 0.002, 0.005, 0.01)  # seconds between two tries, the last for ever
_FORK_TIMEOUT: Final = 0.5  # seconds that a fork waits for a use of the file to end
_SALVAGE_TIMEOUT: Final = 2.0  # seconds to read what a broken file still has
_LEAST_WAL_BYTES: Final = 32_768
_OPENING: Final = 0  # in place of an owner: the lock of the process that makes or replaces a file


class _TryAgain(Exception):
    """Something is in the way that will soon be gone."""


class StoreConnection:
    """Does things with a store, one at a time, each in a transaction of its own.

    Nothing is locked while another process is waited for, neither here nor in SQLite, so that a
    fork has to wait at most for what really goes on. At a fork the connection is closed, and
    opened again by whoever needs it next: a child that inherited it could neither use it nor close
    it. Its locks are the parent's, and by the time the child closes the file descriptors they may
    be those of other files.

    Args:
        path: The file.
        wal_bytes: About how large its WAL may become.

    Attributes:
        attached: How often the file was opened.
        wal_bytes: About how large its WAL may become.
        page_size: The bytes of one of SQLite's pages.
        most_bytes: How large the operating system lets a file become.
        latest: The monotonic time after which nobody waits for another process, whatever was said
            when the wait began.
    """

    def __init__(self, path: str, wal_bytes: int) -> None:
        self.path = path
        self.attached = 0
        self.latest = math.inf
        self.wal_bytes, self.most_bytes = _sizes(path, wal_bytes)
        self.page_size = 4_096
        self._wal = f"{path}-wal"
        self._lock = threading.RLock()  # held while SQLite works
        self._using = False  # whether it does
        self._pid = os.getpid()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._descriptors: dict[int, tuple[int, int]] = {}
        self._locks: OwnerLocks | None = None
        self._last_held: set[int] = set()  # owners before the file was closed
        self._reserve = Reserve(f"{path}-reserve", 3 * self.wal_bytes)
        _forks.connections.add(self)

    # The owners.

    @property
    def held(self) -> set[int]:
        """The owners that this connection holds the locks of."""
        return set() if self._locks is None else self._locks.held - {_OPENING}

    def acquire(self, owner: int) -> bool:
        """Lock an owner, without waiting; return whether no one had it."""
        return self._locks is not None and self._locks.acquire(owner)

    def release(self, owner: int) -> None:
        """Unlock an owner that is held."""
        if self._locks is not None:
            self._locks.release(owner)

    def is_there(self) -> bool:
        """Tell whether the file that is open is the one at the path."""
        return self._identity is not None and identify(self.path) == self._identity

    # What is done with it.

    def do(
        self,
        work: Callable[[sqlite3.Connection], _Result],
        until: float | None = None,
        *,
        write: bool = False,
        adds: int = 0,
    ) -> _Result:
        """Do something in a transaction, once no other process is in the way.

        Args:
            work: What to do; it may be begun several times.
            until: The monotonic time until which to wait, in five seconds where None.
            write: Whether it writes.
            adds: The bytes that it adds, for which the last of the disk's room is not used.

        Raises:
            StoreError: It could not be done, and why.
        """
        if until is None:
            until = clock.now() + _PATIENCE
        tries = 0
        while True:
            try:
                return self._try(work, write=write, adds=adds)
            except _TryAgain as error:
                pause = _POLL[min(tries, len(_POLL) - 1)]
                tries += 1
                if tries > 1 and clock.now() + pause > min(until, self.latest):
                    raise StoreError(f"the store {self.path} cannot be used: {error}") from None
                time.sleep(pause)

    def _try(
        self, work: Callable[[sqlite3.Connection], _Result], *, write: bool, adds: int
    ) -> _Result:
        with self._lock:
            if self._using:  # a signal handler or a finaliser logs in the middle of it
                raise StoreError(f"the store {self.path} is being used")
            self._using = True
            connection = None
            try:
                connection = self._attach(reads=not adds)
                if adds:
                    self._reserve.keep(4 * adds)
                    self._keep_wal_small(connection)
                # A signal handler may have forked at any point before, and this be the child. One
                # that forks from here on finds the connection, see `forbid`.
                if not self.is_own():
                    raise StoreError(f"the store {self.path} is that of the parent process")
                with transaction(connection, "IMMEDIATE" if write else "DEFERRED"):
                    return work(connection)
            except (sqlite3.Error, OSError) as error:
                raise self._failed(error, connection, adds=adds) from None
            finally:
                self._using = False

    def _keep_wal_small(self, connection: sqlite3.Connection) -> None:
        """See to it that the reserve is enough for what is in the WAL.

        SQLite moves it into the file now and then, and says nothing where there is no room for it.
        """
        try:
            small = os.stat(self._wal).st_size <= 2 * self.wal_bytes  # noqa: PTH116 - it is a str
        except FileNotFoundError:  # removed by somebody, who thereby hides it from the others
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self._disconnect()
            raise _TryAgain("its WAL was removed") from None
        if not small:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _failed(
        self, error: Exception, connection: sqlite3.Connection | None, *, adds: int
    ) -> Exception:
        """Return what to raise after an error."""
        if not self.is_own():
            return StoreError(f"the store {self.path} is that of the parent process")
        if is_busy(error):
            return _TryAgain(error)
        if is_corrupt(error):
            return self._set_aside(error)
        if is_full(error) or isinstance(error, OSError):
            message = f"the store {self.path} cannot be written: {error}"
            if not adds and self._reserve.give_up():
                return _TryAgain(error)
            return StoreError(message, full=connection is not None)
        self._disconnect()
        return StoreError(f"the store {self.path} cannot be used: {error}")

    # The file.

    def _attach(self, *, reads: bool) -> sqlite3.Connection:
        """Return a connection to the file at the path."""
        if not self.is_own():
            raise StoreError(f"the store {self.path} is that of the parent process")
        locks = self._locks
        if locks is not None and not locks.is_open():
            if self._connection is not None:
                # SQLite would write into whatever file has got the number of its descriptor.
                _keep_for_ever(self._connection)
                _forks.spoilt = "the program has closed its file descriptors"
            self._connection = self._locks = None
        if self._connection is None or self._locks is None:
            return self._connect()
        if not self._locks.is_there():
            self._locks.follow()
            self.attached += 1
        if identify(self.path) != self._identity:
            try:
                raise self._begin_anew("was removed or replaced")
            except (sqlite3.Error, OSError, StoreError) as error:
                # What is in the file that was removed can be read for as long as it is open.
                if not reads or (isinstance(error, StoreError) and error.set_aside):
                    raise
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        if _forks.spoilt:
            raise StoreError(f"the store {self.path} cannot be used: {_forks.spoilt}")
        _forks.close_inherited()
        look(self.path)  # before anything is made beside a file of somebody else's
        if self._locks is None:
            self._locks = OwnerLocks(f"{self.path}-owners")
        elif not self._locks.is_there():
            self._locks.follow()
        with self._opening():
            self._identity = identify(self.path)
            try:
                connection = connect(self.path, self.wal_bytes)
            except sqlite3.OperationalError as error:
                if not is_full(error) or self._reserve.give_up():
                    raise
                connection = connect(self.path, self.wal_bytes, alone=True)
            for owner in self._last_held:
                self._locks.acquire(owner)
            self._take_up(connection)
        return connection

    def _opening(self) -> contextlib.ExitStack:
        """Keep other processes from making or replacing the file."""
        stack = contextlib.ExitStack()
        locks = self._locks
        if locks is None or not locks.acquire(_OPENING):
            raise _TryAgain("another process opens it")
        stack.callback(locks.release, _OPENING)
        return stack

    def _take_up(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.page_size = pragma(connection, "page_size")
        self._identity = identify(self.path)
        self._descriptors = _descriptors_of(self.path)
        self.attached += 1

    def _set_aside(self, error: Exception) -> StoreError:
        """Set the file aside, which is corrupt, and begin anew with what can be read of it."""
        try:
            return self._begin_anew(f"cannot be read: {error}", corrupt=True)
        except (sqlite3.Error, OSError, StoreError) as another:
            self._disconnect()
            return StoreError(f"the store {self.path} cannot be read: {error}; {another}")

    def _begin_anew(self, why: str, *, corrupt: bool = False) -> StoreError:
        """Make a new file, and bring into it what can be read of the old one.

        The old one is still open, though it may have been removed; or it is set aside.

        Returns:
            The error that tells of it.
        """
        message = f"the store {self.path} {why}"
        if self._locks is None:
            return StoreError(message)
        with self._opening(), contextlib.ExitStack() as opened:
            old = self._connection
            here = identify(self.path)
            if corrupt and here is not None and here == self._identity:
                aside = self._move_aside()
                message = f"{message}; it was set aside as {aside}"
                if old is None:
                    old = opened.enter_context(contextlib.closing(connect_read_only(aside)))
            for suffix in ("-wal", "-shm"):  # of the old file, where that alone was replaced
                if identify(f"{self.path}{suffix}") in self._descriptors.values():
                    Path(f"{self.path}{suffix}").unlink(missing_ok=True)
            new = connect(self.path, self.wal_bytes)
            if old is not None:
                count = self._bring(old, new)
                message = f"{message}; {count:,} events were brought into a new one"
            self._connection = None
            if old is not None:
                with contextlib.suppress(sqlite3.Error):
                    old.close()
            self._take_up(new)
        return StoreError(message, set_aside=True)

    def _move_aside(self) -> str:
        aside = f"{self.path}.{datetime.now(timezone.utc):%Y%m%dT%H%M%S.%fZ}"
        # The WAL first: without the file it is nothing, and a new file must not find it.
        for suffix in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self.path}{suffix}").rename(f"{aside}{suffix}")
        return aside

    def _bring(self, old: sqlite3.Connection, new: sqlite3.Connection) -> int:
        """Copy the events of the owners that are held, and of those that have died.

        They keep their ids and owners, so that answers to events under way find them. The others
        are brought by their own processes.
        """
        locks, brought = self._locks, 0
        assert locks is not None  # noqa: S101 - a file is not opened without
        destinations = readable_owners(old)
        mine, dead, others = set[object](self.held), set[int](), set[object]()
        try:
            with transaction(new, "IMMEDIATE"):
                for row in readable_rows(old, clock.now() + _SALVAGE_TIMEOUT):
                    owner = row.owner
                    if not is_whole(row.payload, row.checksum) or owner in others:
                        continue
                    if owner not in mine and owner not in dead:
                        if not isinstance(owner, int) or not locks.acquire(owner):
                            others.add(owner)
                            continue
                        dead.add(owner)
                    brought += new.execute(
                        "INSERT OR IGNORE INTO events (id, owner, checksum, payload)"
                        " VALUES (?, ?, ?, ?)",
                        row,
                    ).rowcount
                new.executemany(
                    "INSERT OR IGNORE INTO owners (id, destination) VALUES (?, ?)",
                    [(owner, destinations.get(owner, "")) for owner in self.held],
                )
        finally:
            for owner in dead:
                locks.release(owner)  # for whoever looks for what the dead have left
        return brought

    def checkpoint(self) -> None:
        """Move into the file what is in its WAL, as far as nobody is in the way."""
        with self._lock:
            if self._connection is not None and not self._using and self.is_own():
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self, *, empty: bool) -> None:
        """Close the file, give up its owners and, where it is empty, what is kept in reserve."""
        with self._lock:
            self._disconnect()
            if empty:
                self._reserve.give_up()
            if self._locks is not None:
                self._last_held = self.held
                self._locks.close()
                self._locks = None

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    # Forks.

    def suspend(self, until: float) -> bool:
        """Close the connection before a fork, and keep it closed until `resume`.

        Returns:
            Whether nobody uses it. One that is in use stays open.
        """
        if not self._lock.acquire(timeout=max(0.0, until - clock.now())):
            return False
        if self._using:  # by this thread, in a signal handler
            self._lock.release()
            return False
        self._disconnect()
        return True

    def is_own(self) -> bool:
        """Tell whether it is this process's, and not its parent's."""
        return self._pid == os.getpid()

    def forbid(self) -> None:
        """Let nothing more be done with a connection that was in use at a fork.

        Its thread may go on in the child, amid a transaction that is the parent's.
        """
        if self._connection is not None:
            self._connection.set_authorizer(lambda *_: sqlite3.SQLITE_DENY)

    def resume(self) -> None:
        """Let it be used again after a fork."""
        self._lock.release()

    def close_inherited(self) -> bool:
        """Close what a child has inherited, if it is still that; return whether it could be."""
        if self.is_own() or self._connection is None:
            return True
        intact = not self._using and all(
            _identity_of(number) == identity for number, identity in self._descriptors.items()
        )
        if intact:
            self._disconnect()
        else:
            _keep_for_ever(self._connection)
            self._connection = None
        return intact


class _Forks:
    """Sees to it that no connection is open, or in use, in the moment of a fork.

    Attributes:
        connections: All of this process.
        spoilt: Why SQLite cannot be used in this process any more, if that is so.
    """

    def __init__(self) -> None:
        self.connections: weakref.WeakSet[StoreConnection] = weakref.WeakSet()
        self.spoilt = ""
        # What was closed and what is in use, for each fork that has begun: a signal handler may
        # fork as well.
        self._begun: list[tuple[list[StoreConnection], list[StoreConnection]]] = []

    def before(self) -> None:
        suspended: list[StoreConnection] = []
        in_use: list[StoreConnection] = []
        self._begun.append((suspended, in_use))
        until = clock.now() + _FORK_TIMEOUT
        for connection in list(self.connections):
            if connection.is_own():
                (suspended if connection.suspend(until) else in_use).append(connection)

    def after_in_parent(self) -> None:
        suspended, _ = self._begun.pop()
        for connection in suspended:
            connection.resume()

    def after_in_child(self) -> None:
        for connection in self._begun[-1][1]:
            self.spoilt = "the process was forked amid a use of a store"
            connection.forbid()
        self.after_in_parent()

    def close_inherited(self) -> None:
        """Close what this process has inherited, where no hook has run before the fork.

        Otherwise SQLite would believe in the locks of the parent's connections, and take none for
        a new connection to the same file. The parent could then remove the WAL under it.
        """
        for connection in list(self.connections):
            if not connection.close_inherited():
                self.spoilt = "the process was forked without Python's hooks for that"
        if self.spoilt:
            raise sqlite3.Error(self.spoilt)


_forks: Final = _Forks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_forks.before,
        after_in_parent=_forks.after_in_parent,
        after_in_child=_forks.after_in_child,
    )


def _sizes(path: str, wal_bytes: int) -> tuple[int, float]:
    """Return how large the WAL is to become, on a small disk, and how large a file can become."""
    most = math.inf
    if sys.platform != "win32":
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        if soft != resource.RLIM_INFINITY:
            most = soft
            wal_bytes = min(wal_bytes, soft // 16)
        with contextlib.suppress(OSError):
            disk = os.statvfs(os.path.dirname(path))  # noqa: PTH120 - the path is a str
            wal_bytes = min(wal_bytes, disk.f_blocks * disk.f_frsize // 32)
    return max(wal_bytes, _LEAST_WAL_BYTES), most


def _identity_of(descriptor: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _descriptors_of(path: str) -> dict[int, tuple[int, int]]:
    """Return the descriptors of this process for a database and what is beside it."""
    files = {identify(f"{path}{suffix}") for suffix in ("", "-wal", "-shm")} - {None}
    found = {}
    if sys.platform != "win32":  # where nothing forks
        with contextlib.suppress(OSError):
            for name in os.listdir("/dev/fd"):  # noqa: PTH208 - names are all that is wanted
                identity = _identity_of(int(name))
                if identity is not None and identity in files:
                    found[int(name)] = identity
    return found


def _keep_for_ever(connection: sqlite3.Connection) -> None:
    """Have a connection never closed, not even at the end of the process."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
