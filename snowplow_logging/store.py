"""A file in which events wait until the collector has answered for them: SQLite in WAL mode."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from snowplow_logging.emitter import StoreError

__all__ = ["Store"]

_APPLICATION_ID: Final = 0x53504C47  # 'SPLG'
_VERSION: Final = 1
_LEASE: Final = 10.0  # seconds after which the events of a process that died are another's
_RECOVER_AT_ONCE: Final = 1_000  # events, so that several processes share what one left
_BUSY_TIMEOUT: Final = 5.0  # seconds to wait for another process's write

_SCHEMA: Final = f"""
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_VERSION};
CREATE TABLE owners (id INTEGER PRIMARY KEY AUTOINCREMENT, expires REAL NOT NULL);
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, owner INTEGER NOT NULL, payload BLOB NOT NULL
);
CREATE INDEX events_by_owner ON events (owner, id);
"""

# A connection must not be used after a fork, and closing it there could disturb the parent's.
_inherited: Final[list[object]] = []


class Store:
    """Events that wait in a file, each owned by one process at a time.

    Every opened store is an owner with a lease, which it renews. It sends its own events, in the
    order in which they came. Once a lease has expired, because its process died, or is given up
    by `close`, another owner moves the events behind its own.

    Args:
        path: The file; it is made where it does not exist.
        limit: The bytes that the file may take.
    """

    def __init__(self, path: str | os.PathLike[str], limit: int) -> None:
        self.path = Path(path)
        self._limit = limit
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._owner: int | None = None
        self._cursor = 0  # the last event taken
        self._expires = 0.0

    def after_fork(self) -> Store:
        """Return the store for a child process, where the parent's connection is not to be used."""
        _inherited.append(self._connection)
        return Store(self.path, self._limit)

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
            try:
                connection = sqlite3.connect(
                    self.path, _BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
                )
            except sqlite3.Error as error:
                raise StoreError(f"cannot open the store {self.path}: {error}") from None
            try:
                self._prepare(connection)
            except sqlite3.OperationalError as error:  # no right to write, no room, locked
                connection.close()
                raise StoreError(f"cannot write the store {self.path}: {error}") from None
            except (sqlite3.DatabaseError, StoreError) as error:
                connection.close()
                raise StoreError(f"{error}; {self._set_aside()}") from None
            self._connection = connection
            self._cursor = 0
            return True

    def _prepare(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if (application, version) != (_APPLICATION_ID, _VERSION) and (
            application or version or tables
        ):
            raise StoreError(f"{self.path} is no store of version {_VERSION}")
        if not tables:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        # What was written outlives the process; only a power cut may take the last of it.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("BEGIN IMMEDIATE")
        try:
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if not tables:
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
            self._expires = time.time() + _LEASE
            lease = (self._owner, self._expires)
            self._owner = connection.execute(
                "INSERT OR REPLACE INTO owners (id, expires) VALUES (?, ?)", lease
            ).lastrowid
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise

    def _set_aside(self) -> str:
        aside = f"{self.path}.{datetime.now(timezone.utc):%Y%m%dT%H%M%S.%fZ}"
        try:
            self.path.rename(aside)
        except OSError as error:
            return f"it cannot be set aside: {error}"
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(OSError):
                Path(f"{self.path}{suffix}").rename(f"{aside}{suffix}")
        return f"it was set aside as {aside}"

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            connection = self._connection
            if connection is None or connection.in_transaction:
                # The latter where a signal handler logs in the middle of a write.
                raise StoreError(f"the store {self.path} is closed or busy")
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise StoreError(f"cannot use the store {self.path}: {error}") from None
            except BaseException:
                connection.execute("ROLLBACK")
                raise

    def add(self, payloads: Sequence[bytes]) -> None:
        """Write payloads behind those that are there, all or none."""
        with self._transaction() as connection:
            self._renew(connection)
            rows = [(self._owner, payload) for payload in payloads]
            connection.executemany("INSERT INTO events (owner, payload) VALUES (?, ?)", rows)

    def take(self, count: int, room: int, size: Callable[[bytes], int]) -> list[tuple[int, bytes]]:
        """Return the next of the store's own events, which stay until `remove`.

        Args:
            count: The events at most.
            room: The bytes at most, unless one event alone has more.
            size: Says what a payload takes of them.
        """
        with self._lock, self._reading() as connection:
            taken: list[tuple[int, bytes]] = []
            rows = connection.execute(
                "SELECT id, payload FROM events WHERE owner = ? AND id > ? ORDER BY id LIMIT ?",
                (self._owner, self._cursor, count),
            )
            for row in rows:
                room -= size(row[1])
                if taken and room < 0:
                    break
                taken.append(row)
            rows.close()
            if taken:
                self._cursor = taken[-1][0]
            return taken

    def rewind(self, before: int) -> None:
        """Have events from this id on taken again."""
        with self._lock:
            self._cursor = min(self._cursor, before - 1)

    def remove(self, ids: Sequence[int]) -> int:
        """Remove events by id, and return how many were there."""
        with self._transaction() as connection:
            rows = [(one,) for one in ids]
            return connection.executemany("DELETE FROM events WHERE id = ?", rows).rowcount

    def remove_oldest(self, count: int) -> int:
        """Remove the oldest events that are not taken yet, and return how many there were."""
        with self._transaction() as connection:
            return connection.execute(
                "DELETE FROM events WHERE id IN (SELECT id FROM events"
                " WHERE owner = ? AND id > ? ORDER BY id LIMIT ?)",
                (self._owner, self._cursor, count),
            ).rowcount

    def waiting(self) -> int:
        """Return how many events of the store's own are not taken yet."""
        with self._lock, self._reading() as connection:
            query = "SELECT count(*) FROM events WHERE owner = ? AND id > ?"
            (count,) = connection.execute(query, (self._owner, self._cursor)).fetchone()
            return int(count)

    def is_full(self) -> bool:
        """Tell whether the file has reached its limit."""
        with self._lock, self._reading() as connection:
            pages = [
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "freelist_count", "page_size")
            ]
            return bool((pages[0] - pages[1]) * pages[2] >= self._limit)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        if self._connection is None:
            raise StoreError(f"the store {self.path} is closed")
        try:
            yield self._connection
        except sqlite3.Error as error:
            raise StoreError(f"cannot read the store {self.path}: {error}") from None

    def _renew(self, connection: sqlite3.Connection) -> None:
        now = time.time()
        if self._expires - now < _LEASE * 0.7:
            self._expires = now + _LEASE
            lease = (self._owner, self._expires)
            connection.execute("INSERT OR REPLACE INTO owners (id, expires) VALUES (?, ?)", lease)

    def recover(self, *, renew: bool) -> int:
        """Renew the lease, and move events of an owner whose lease is over behind the own.

        Args:
            renew: Whether there are events of the store's own that need the lease.

        Returns:
            How many events were moved.
        """
        now = time.time()
        with self._lock, self._reading() as connection:
            query = "SELECT count(*) FROM owners WHERE expires < ? AND id <> ?"
            (dead_owners,) = connection.execute(query, (now, self._owner)).fetchone()
        if not dead_owners and not (renew and self._expires - now < _LEASE * 0.7):
            return 0
        with self._transaction() as connection:
            self._renew(connection)
            dead = connection.execute(
                "SELECT id FROM owners WHERE expires < ? AND id <> ? LIMIT 1", (now, self._owner)
            ).fetchone()
            if dead is None:
                return 0
            rows = connection.execute(
                "SELECT id, payload FROM events WHERE owner = ? ORDER BY id LIMIT ?",
                (*dead, _RECOVER_AT_ONCE),
            ).fetchall()
            if len(rows) < _RECOVER_AT_ONCE:
                connection.execute("DELETE FROM owners WHERE id = ?", dead)
            connection.executemany("DELETE FROM events WHERE id = ?", [(row[0],) for row in rows])
            moved = [(self._owner, row[1]) for row in rows]
            connection.executemany("INSERT INTO events (owner, payload) VALUES (?, ?)", moved)
            return len(rows)

    def close(self) -> None:
        """Close the file, and leave its events to whoever opens it next."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is None:
                return
            with contextlib.suppress(sqlite3.Error):
                connection.execute("UPDATE owners SET expires = 0 WHERE id = ?", (self._owner,))
                connection.execute("PRAGMA incremental_vacuum")
            connection.close()
