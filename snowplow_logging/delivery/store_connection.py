"""What is done with a store: in a transaction each, again where others are in the way, or anew."""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from snowplow_logging.delivery.owners import OwnerLocks
from snowplow_logging.delivery.reserve import Reserve
from snowplow_logging.delivery.salvage import bring, move_aside
from snowplow_logging.delivery.sqlite_connection import Connection
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
from snowplow_logging.delivery.store_forks import ForkSafe
from snowplow_logging.delivery.waiting import clock
from snowplow_logging.reporting import counted

__all__ = ["StoreConnection"]

_Result = TypeVar("_Result")

_PATIENCE: Final = 5.0  # seconds to wait for another process, where nothing else is said
_POLL: Final = (0.0, 0.001, 0.002, 0.005, 0.01)  # seconds between two tries, the last for ever
_LEAST_WAL_BYTES: Final = 32_768
_OPENING: Final = 0  # in place of an owner: the lock of the process that makes or replaces a file


class _TryAgain(Exception):
    """Something is in the way that will soon be gone."""


class StoreConnection:
    """Does things with a store, one at a time, each in a transaction of its own.

    Nothing is locked while another process is waited for, neither here nor in SQLite, so that a
    fork has to wait at most for what really goes on.

    Args:
        path: The file.
        wal_bytes: About how large its WAL may become.
        opened: Called in the first transaction after the file was opened or begun anew.

    Attributes:
        is_open: Whether it was opened and not closed.
        wal_bytes: About how large its WAL may become.
        page_size: The bytes of one of SQLite's pages.
        most_bytes: How large the operating system lets a file become.
        latest: The monotonic time after which nobody waits for another process, whatever was said
            when the wait began.
    """

    def __init__(
        self, path: str, wal_bytes: int, opened: Callable[[sqlite3.Connection], None]
    ) -> None:
        self.path = path
        self.is_open = False
        self.latest = math.inf
        self.wal_bytes, self.most_bytes = _sizes(path, wal_bytes)
        self.page_size = 4_096
        self._opened = opened
        self._is_new = True  # whether that is still to be called
        self._opens = False  # whether the lock of who opens the file may be held
        self._wal = f"{path}-wal"
        self._held = ForkSafe(path)
        self._identity: tuple[int, int] | None = None
        self._locks: OwnerLocks | None = None
        self._last_held: set[int] = set()  # owners before the file was closed
        self._reserve = Reserve(f"{path}-reserve", 3 * self.wal_bytes)

    def open(self, until: float | None) -> bool:
        """Open the file, or make it; return whether it was closed before."""
        if self.is_open:
            return False
        self.is_open = True
        try:
            self.do(lambda _: None, until)
        except StoreError as error:
            self.is_open = error.set_aside
            raise
        return True

    def close(self, *, empty: bool) -> None:
        """Close the file, give up its owners and, where it is empty, what is kept in reserve."""
        self.is_open = False

        def close() -> None:
            self._held.disconnect()
            if empty:
                self._reserve.give_up()
            if self._locks is not None:
                self._last_held = self.held
                self._locks.close()
                self._locks = None

        with contextlib.suppress(StoreError):
            self._held.use(close)

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
        if not self.is_open:
            raise StoreError(f"the store {self.path} is closed")
        if until is None:
            until = clock.now() + _PATIENCE
        tries = 0
        while True:
            try:
                return self._held.use(lambda: self._try(work, write=write, adds=adds))
            except _TryAgain as error:
                pause = _POLL[min(tries, len(_POLL) - 1)]
                tries += 1
                if tries > 1 and clock.now() + pause > min(until, self.latest):
                    raise StoreError(f"the store {self.path} cannot be used: {error}") from None
                time.sleep(pause)

    def _try(
        self, work: Callable[[sqlite3.Connection], _Result], *, write: bool, adds: int
    ) -> _Result:
        connection = None
        try:
            connection = self._attach(reads=not adds)
            if adds:
                self._reserve.keep(4 * adds)
                self._keep_wal_small(connection)
            self._held.check()  # a child of a fork before this would have a connection of its own
            if connection.in_transaction:  # that an interrupt has left open
                connection.execute("ROLLBACK")
            with transaction(connection, "IMMEDIATE" if write else "DEFERRED"):
                if self._is_new:
                    self._opened(connection)
                    self._is_new = False
                return work(connection)
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error, connection, adds=adds) from None

    def _keep_wal_small(self, connection: sqlite3.Connection) -> None:
        """See to it that the reserve is enough for what is in the WAL.

        SQLite moves it into the file now and then, and says nothing where there is no room for it.
        """
        try:
            small = os.stat(self._wal).st_size <= 2 * self.wal_bytes  # noqa: PTH116 - it is a str
        except FileNotFoundError:  # removed by somebody, who thereby hides it from the others
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self._held.disconnect()
            raise _TryAgain("its WAL was removed") from None
        if not small:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _failed(
        self, error: Exception, connection: sqlite3.Connection | None, *, adds: int
    ) -> Exception:
        """Return what to raise after an error."""
        if not self._held.is_own():
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
        self._held.disconnect()
        return StoreError(f"the store {self.path} cannot be used: {error}")

    def checkpoint(self) -> None:
        """Move into the file what is in its WAL, as far as nobody is in the way."""

        def checkpoint() -> None:
            if self._held.connection is not None and self._held.is_own():
                self._held.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

        with contextlib.suppress(sqlite3.Error, StoreError):
            self._held.use(checkpoint)

    # The file.

    def _attach(self, *, reads: bool) -> Connection:
        """Return a connection to the file at the path."""
        held, locks = self._held, self._locks
        if locks is not None and not locks.is_open():
            held.give_up("the program has closed its file descriptors")
            self._locks = locks = None
        held.check()
        if held.connection is None or locks is None:
            return self._connect()
        self._follow_locks(locks)
        if identify(self.path) != self._identity:
            try:
                raise self._begin_anew("was removed or replaced")
            except (sqlite3.Error, OSError, StoreError) as error:
                # What is in the file that was removed can be read for as long as it is open.
                if not reads or (isinstance(error, StoreError) and error.set_aside):
                    raise
        return held.connection

    def _follow_locks(self, locks: OwnerLocks) -> None:
        """Go over to the lock file where the other processes look."""
        if not locks.is_there():
            locks.follow()
            self._is_new = True

    def _connect(self) -> Connection:
        look(self.path)  # before anything is made beside a file of somebody else's
        if self._locks is None:
            self._locks = OwnerLocks(f"{self.path}-owners")
        self._follow_locks(self._locks)
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
        if self._opens and locks is not None:
            locks.release(_OPENING)  # what a signal handler raised has left it locked
        self._opens = True
        if locks is None or not locks.acquire(_OPENING):
            self._opens = False
            raise _TryAgain("another process opens it")
        stack.callback(self._end_opening, locks)
        return stack

    def _end_opening(self, locks: OwnerLocks) -> None:
        locks.release(_OPENING)
        self._opens = False

    def _take_up(self, connection: Connection) -> None:
        self._held.hold(connection)
        self.page_size = pragma(connection, "page_size")
        self._identity = identify(self.path)
        self._is_new = True

    def _set_aside(self, error: Exception) -> StoreError:
        """Set the file aside, which is corrupt, and begin anew with what can be read of it."""
        try:
            return self._begin_anew(f"cannot be read: {error}", corrupt=True)
        except (sqlite3.Error, OSError, StoreError) as another:
            self._held.disconnect()
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
            old = self._held.connection
            here = identify(self.path)
            if corrupt and here is not None and here == self._identity:
                aside = move_aside(self.path)
                message = f"{message}; it was set aside as {aside}"
                if old is None:
                    old = opened.enter_context(contextlib.closing(connect_read_only(aside)))
            for suffix in ("-wal", "-shm"):  # of the old file, where that alone was replaced
                if self._held.holds(identify(f"{self.path}{suffix}")):
                    Path(f"{self.path}{suffix}").unlink(missing_ok=True)
            new = connect(self.path, self.wal_bytes)
            if old is not None:
                count = bring(old, new, self.held, self._locks)
                brought = counted(count, "event was brought", "events were brought")
                message = f"{message}; {brought} into a new one"
            self._held.disconnect()
            self._take_up(new)
        return StoreError(message, set_aside=True)


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
