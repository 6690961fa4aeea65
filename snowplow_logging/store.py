"""A file in which events wait until the collector has answered for them: SQLite in WAL mode."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from snowplow_logging.emitter import StoreError

__all__ = ["Store"]

_APPLICATION_ID: Final = 0x53504C47  # 'SPLG'
_VERSION: Final = 1
_LEASE: Final = 10.0  # seconds after which the events of a process that died are another's
_RENEW_AFTER: Final = 3.0  # seconds after which a lease is renewed
_RECOVER_AT_ONCE: Final = 1_000  # events, so that several processes share what one left
_BUSY_TIMEOUT: Final = 5.0  # seconds to wait for another process's write
_CLOSE_TIMEOUT: Final = 0.1  # seconds to wait for it to give up a lease, which expires anyway
_FORK_TIMEOUT: Final = 1.0  # seconds that a fork waits for a write
_SHRINK_PAGES: Final = 2_500  # pages given back to the file system at once

_TABLES: Final = {"events", "owners", "sqlite_sequence"}
_SCHEMA: Final = (
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_VERSION}",
    "CREATE TABLE owners (id INTEGER PRIMARY KEY, expires REAL NOT NULL)",
    """CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        owner INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        payload BLOB NOT NULL
    )""",
    "CREATE INDEX events_by_owner ON events (owner)",
    # A file made later at the same path, after this one was set aside, has no id twice, so that
    # an answer to an old event never removes a new one.
    "INSERT INTO sqlite_sequence (name, seq) VALUES ('events', ?)",
)

_stores: Final[weakref.WeakSet[Store]] = weakref.WeakSet()
"""All stores of this process."""

_opened: Final[list[Store]] = []
"""Those with a connection, and those that a parent had at the fork."""


class Store:
    """Events that wait in a file, each owned by one process at a time.

    Every store is an owner with a lease, which it renews. It sends its own events, in the order
    in which they came. Once a lease has expired, because its process died, or is given up by
    `close`, another owner moves the events behind its own.

    Args:
        path: The file; it is made where it does not exist.
        limit: The bytes that the file may take.

    Attributes:
        patience: The seconds to wait for another process's write, until the file is closed.
    """

    def __init__(self, path: str | os.PathLike[str], limit: int) -> None:
        # Absolute, because a program may change its directory before it logs.
        self.path = Path(os.path.abspath(path))  # noqa: PTH100 - `resolve` would follow links
        self.limit = limit
        self.patience = _BUSY_TIMEOUT
        self._lock = threading.RLock()
        self._busy = False  # whether the connection is being used
        self._connection: sqlite3.Connection | None = None
        self._pid = os.getpid()
        self._file: tuple[int, int] | None = None
        # Never given twice, in whatever file, and ordered by time.
        self._owner = time.time_ns() // 1_000 << 12 | int.from_bytes(os.urandom(2), "big") >> 4
        self._cursor = 0  # the last event taken
        self._expires = 0.0
        _stores.add(self)

    def after_fork(self) -> Store:
        """Return the store for a child process, where the parent's connection is not to be used."""
        return Store(self.path, self.limit)

    @property
    def is_open(self) -> bool:
        """Whether the file is open."""
        return self._connection is not None

    def open(self) -> bool:
        """Open the file, which may take a moment, and become an owner.

        Returns:
            Whether it was closed before.

        Raises:
            StoreError: It is no store, or cannot be written. One that is corrupt or of another
                version has been set aside under a dated name.
        """
        with self._lock:
            if self._connection is not None:
                return False
            self._busy = True
            try:
                _close_inherited()
                _opened.append(self)
                self._connection = sqlite3.connect(
                    self.path, timeout=self.patience, isolation_level=None, check_same_thread=False
                )
                self._prepare(self._connection)
            except BaseException as error:  # noqa: BLE001 - it is raised again, in better words
                raise self._failed(error) from None
            finally:
                self._busy = False
            return True

    def _prepare(self, connection: sqlite3.Connection) -> None:
        until = time.monotonic() + self.patience
        while True:
            try:
                return self._begin(connection)
            except sqlite3.OperationalError as error:
                # To change to WAL mode SQLite does not wait, so that two who make a file at once
                # would be in each other's way.
                if "locked" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(0.01)

    def _begin(self, connection: sqlite3.Connection) -> None:
        with _transaction(connection, "DEFERRED"):  # all as it is at one moment
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            tables = _tables(connection)
        is_store = (application, version) == (_APPLICATION_ID, _VERSION) and tables >= _TABLES
        if not is_store and (application or version or tables):
            raise sqlite3.DatabaseError(f"it is no store of version {_VERSION}")
        status = os.stat(self.path)  # noqa: PTH116 - as `_set_aside` does
        self._file = status.st_dev, status.st_ino
        if not tables:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise sqlite3.OperationalError("its file system does not allow SQLite's WAL mode")
        # What was written outlives the process; only a power cut may take the last of it.
        connection.execute("PRAGMA synchronous = NORMAL")
        with _transaction(connection, "IMMEDIATE"):
            if not _tables(connection):
                for statement in _SCHEMA:
                    values = (time.time_ns() // 1_000,) if "?" in statement else ()
                    connection.execute(statement, values)
            self._expires = 0.0
            self._renew(connection)

    def _failed(self, error: BaseException) -> BaseException:
        """Close after an error, and return the error to raise."""
        if not isinstance(error, (sqlite3.Error, OSError)):
            return error
        self._disconnect()
        # SQLite's other errors have classes of their own.
        if type(error) in (sqlite3.DatabaseError, sqlite3.IntegrityError):
            message = f"the store {self.path} cannot be read: {error}; {self._set_aside()}"
            return StoreError(message, set_aside=True)
        return StoreError(f"the store {self.path} cannot be used: {error}")

    def _set_aside(self) -> str:
        aside = f"{self.path}.{datetime.now(timezone.utc):%Y%m%dT%H%M%S.%fZ}"
        try:
            status = os.stat(self.path)  # noqa: PTH116 - on a line with what it is compared to
            if self._file not in (None, (status.st_dev, status.st_ino)):
                return "another process has set it aside"
            self.path.rename(aside)
        except OSError as error:
            return f"it cannot be set aside: {error}"
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(OSError):
                Path(f"{self.path}{suffix}").rename(f"{aside}{suffix}")
        return f"it was set aside as {aside}"

    @contextlib.contextmanager
    def _using(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        with self._lock:
            connection = self._connection
            if connection is None or self._busy:  # busy: a signal handler or a finaliser
                raise StoreError(f"the store {self.path} is closed or busy")
            self._busy = True
            try:
                if write and self.patience < _BUSY_TIMEOUT:
                    connection.execute(f"PRAGMA busy_timeout = {self.patience * 1_000:.0f}")
                with _transaction(connection, "IMMEDIATE" if write else "DEFERRED"):
                    yield connection
            except BaseException as error:  # noqa: BLE001 - it is raised again, in better words
                raise self._failed(error) from None
            finally:
                self._busy = False

    def add(self, payloads: Sequence[bytes]) -> bool:
        """Write payloads behind those that are there, all or none.

        Returns:
            Whether the file has reached its limit.
        """
        with self._using(write=True) as connection:
            self._renew(connection)
            connection.executemany(
                "INSERT INTO events (owner, checksum, payload) VALUES (?, ?, ?)",
                [(self._owner, zlib.crc32(payload), payload) for payload in payloads],
            )
            return self._is_full(connection)

    def take(self, count: int, room: int, size: Callable[[bytes], int]) -> list[tuple[int, bytes]]:
        """Return the next of the store's own events, which stay until `remove`.

        Args:
            count: The events at most.
            room: The bytes at most, unless one event alone has more.
            size: Says what a payload takes of them.
        """
        with self._using() as connection:
            taken: list[tuple[int, bytes]] = []
            rows = connection.execute(
                "SELECT id, payload, checksum FROM events WHERE owner = ? AND id > ?"
                " ORDER BY id LIMIT ?",
                (self._owner, self._cursor, count),
            )
            with contextlib.closing(rows):
                for number, payload, checksum in rows:
                    _check(payload, checksum)
                    room -= size(payload)
                    if taken and room < 0:
                        break
                    taken.append((number, payload))
            if taken:
                self._cursor = taken[-1][0]
            return taken

    def remove(self, ids: Sequence[int]) -> int:
        """Remove events by id, and return how many were there."""
        with self._using(write=True) as connection:
            rows = [(one,) for one in ids]
            return connection.executemany("DELETE FROM events WHERE id = ?", rows).rowcount

    def remove_oldest(self, count: int) -> int:
        """Remove the oldest events that are not taken yet, and return how many there were."""
        with self._using(write=True) as connection:
            return connection.execute(
                "DELETE FROM events WHERE id IN (SELECT id FROM events"
                " WHERE owner = ? AND id > ? ORDER BY id LIMIT ?)",
                (self._owner, self._cursor, count),
            ).rowcount

    def waiting(self) -> int:
        """Return how many events of the store's own are not taken yet."""
        with self._using() as connection:
            query = "SELECT count(*) FROM events WHERE owner = ? AND id > ?"
            (count,) = connection.execute(query, (self._owner, self._cursor)).fetchone()
            return int(count)

    def is_full(self) -> bool:
        """Tell whether the file has reached its limit."""
        with self._using() as connection:
            return self._is_full(connection)

    def _is_full(self, connection: sqlite3.Connection) -> bool:
        pages = _pragma(connection, "page_count") - _pragma(connection, "freelist_count")
        return pages * _pragma(connection, "page_size") >= self.limit

    def _needs_lease(self, now: float) -> bool:
        return not now + _LEASE - _RENEW_AFTER < self._expires <= now + _LEASE

    def _renew(self, connection: sqlite3.Connection) -> None:
        now = time.time()
        known = connection.execute("SELECT 1 FROM owners WHERE id = ?", (self._owner,)).fetchone()
        # Unknown: another has taken over, and what is written now must not be without an owner.
        if self._needs_lease(now) or known is None:
            connection.execute(
                "INSERT OR REPLACE INTO owners (id, expires) VALUES (?, ?)",
                (self._owner, now + _LEASE),
            )
            self._expires = now + _LEASE

    def renew(self) -> None:
        """Renew the lease, if it is time."""
        if self._needs_lease(time.time()):
            with self._using(write=True) as connection:
                self._renew(connection)

    def recover(self) -> int:
        """Move events of an owner whose lease is over behind the own.

        Returns:
            How many events were moved, at most 1,000 at once.
        """
        with self._using() as connection:
            if self._dead_owner(connection) is None:
                return 0
        moved = 0
        with self._using(write=True) as connection:
            self._renew(connection)
            while moved < _RECOVER_AT_ONCE and (dead := self._dead_owner(connection)):
                rows = connection.execute(
                    "SELECT id, checksum, payload FROM events WHERE owner = ? ORDER BY id LIMIT ?",
                    (*dead, _RECOVER_AT_ONCE - moved),
                ).fetchall()
                if moved + len(rows) < _RECOVER_AT_ONCE:
                    connection.execute("DELETE FROM owners WHERE id = ?", dead)
                for number, checksum, payload in rows:
                    _check(payload, checksum)
                    connection.execute("DELETE FROM events WHERE id = ?", (number,))
                    connection.execute(
                        "INSERT INTO events (owner, checksum, payload) VALUES (?, ?, ?)",
                        (self._owner, checksum, payload),
                    )
                moved += len(rows)
        return moved

    def _dead_owner(self, connection: sqlite3.Connection) -> tuple[int] | None:
        now = time.time()  # and not a moment ago, when an owner that is new was not there yet
        query = (
            "SELECT id FROM owners WHERE expires NOT BETWEEN ? AND ? AND id <> ?"
            " ORDER BY id LIMIT 1"
        )
        # One that is far ahead was given by a clock that has been set back since.
        dead: tuple[int] | None = connection.execute(
            query, (now, now + 2 * _LEASE, self._owner)
        ).fetchone()
        return dead

    def shrink(self) -> None:
        """Give some of the room that events have left back to the file system."""
        with self._using() as connection:
            free = _pragma(connection, "freelist_count")
        if free > _SHRINK_PAGES:
            with self._using(write=True) as connection:
                for _ in range(
                    _SHRINK_PAGES
                ):  # `execute` makes one step, which gives back one page
                    connection.execute("PRAGMA incremental_vacuum(1)")

    def close(self, *, again: bool) -> None:
        """Close the file, and leave its events to whoever opens it next.

        Args:
            again: Whether what was taken and not removed is to be taken again then.
        """
        with self._lock:
            if self._connection is None or self._busy:
                return
            self.patience = min(self.patience, _CLOSE_TIMEOUT)
            with contextlib.suppress(StoreError), self._using(write=True) as connection:
                connection.execute("UPDATE owners SET expires = 0 WHERE id = ?", (self._owner,))
                connection.execute(
                    "DELETE FROM owners WHERE id = ? AND NOT EXISTS"
                    " (SELECT 1 FROM events WHERE owner = owners.id)",
                    (self._owner,),
                )
            self._disconnect()
            self.patience = _BUSY_TIMEOUT
            if again:
                self._cursor = 0

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        if self in _opened:
            _opened.remove(self)


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, kind: str) -> Iterator[None]:
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _tables(connection: sqlite3.Connection) -> set[str]:
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {name for (name,) in rows}


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)


def _check(payload: object, checksum: object) -> None:
    # SQLite itself does not notice a changed byte, and one bad event fails its whole request.
    if not isinstance(payload, bytes) or zlib.crc32(payload) != checksum:
        raise sqlite3.DatabaseError("an event in it has changed")


def _close_inherited() -> None:
    """Close what a forked child has inherited, before it opens a file itself.

    In the child SQLite still believes in the locks that the parent's connections hold, and takes
    none for a new connection to the same file. The parent could then remove the WAL under it.
    """
    for store in [store for store in _opened if store._pid != os.getpid()]:  # noqa: SLF001
        if store._busy:  # noqa: SLF001
            # A lock inside SQLite is held by a thread that does not exist here.
            raise OSError("the process was forked while its parent used it")
        store._disconnect()  # noqa: SLF001


class _Forks:
    """Lets no store be in use in the moment of a fork, for SQLite has locks that last for ever."""

    def __init__(self) -> None:
        self._held: list[Store] = []

    def before(self) -> None:
        self._held = [
            store
            for store in list(_stores)
            if store._pid == os.getpid()  # noqa: SLF001
            and store._lock.acquire(timeout=_FORK_TIMEOUT)  # noqa: SLF001
        ]

    def after(self) -> None:
        held, self._held = self._held, []
        for store in held:
            store._lock.release()  # noqa: SLF001


_forks: Final = _Forks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_forks.before, after_in_parent=_forks.after, after_in_child=_forks.after
    )
