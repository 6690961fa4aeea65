"""What is at the path of a store, and how to open or make it; others' files stay as they are."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import tempfile
import time
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Final

from snowplow_logging.delivery.sqlite_connection import Connection
from snowplow_logging.private_files import check_private

__all__ = [
    "StoreError",
    "connect",
    "connect_read_only",
    "identify",
    "is_busy",
    "is_corrupt",
    "is_full",
    "look",
    "pragma",
    "transaction",
]

_time_ns: Final = time.time_ns  # a test may replace that of the module
_APPLICATION_ID: Final = 0x53504C47  # 'SPLG'
_VERSION: Final = 3
_INCREMENTAL: Final = 2  # SQLite's number for this kind of auto_vacuum
_EVENTS: Final = """CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    owner INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    payload BLOB NOT NULL
)"""
_NEW_IN_2: Final = (
    # The events of an owner are for one destination; '' in a file that did not tell them apart.
    "CREATE TABLE owners (id INTEGER PRIMARY KEY AUTOINCREMENT, destination TEXT NOT NULL)",
    "CREATE TABLE broken (id INTEGER PRIMARY KEY, owner, checksum, payload)",
)
_NEW_IN_3: Final = (
    # The owner of what is being left for others to send, by destination; see `SQLiteFile.leave`.
    "CREATE TABLE outboxes (destination TEXT PRIMARY KEY, owner INTEGER NOT NULL)",
    f"PRAGMA user_version = {_VERSION}",
)
_SCHEMA: Final = (
    f"PRAGMA application_id = {_APPLICATION_ID}",
    _EVENTS,
    "CREATE INDEX events_by_owner ON events (owner)",
    *_NEW_IN_2,
    *_NEW_IN_3,
    # A file made later at the same path has no id twice, so that an answer to an event of the old
    # file never removes one of the new.
    "INSERT INTO sqlite_sequence (name, seq) VALUES ('events', ?)",
)
_FROM_1: Final = (
    "DROP TABLE owners",  # of leases
    *_NEW_IN_2,
    "INSERT INTO owners (destination) SELECT '' WHERE EXISTS (SELECT 1 FROM events)",
    "UPDATE events SET owner = (SELECT id FROM owners)",
    *_NEW_IN_3,
)
_BESIDE: Final = ("-journal", "-wal", "-shm")
"""What SQLite names the files that it keeps beside one."""
_UPDATES: Final = {1: _FROM_1, 2: _NEW_IN_3}
"""What brings a file to this version, by the one that it has."""


class StoreError(Exception):
    """A store cannot be used, and why; events are better kept in memory.

    Args:
        message: What is wrong.
        set_aside: Whether the file was replaced by a new one, into which was brought what could
            be read of the old one; `waiting` tells how many events that is.
        full: Whether it is only that nothing can be added, for lack of room.
    """

    def __init__(self, message: str, *, set_aside: bool = False, full: bool = False) -> None:
        super().__init__(message)
        self.set_aside = set_aside
        self.full = full


class What(Enum):
    """What is at a path."""

    NOTHING = 0
    EMPTY = 1
    STORE = 2


def identify(path: str) -> tuple[int, int] | None:
    """Return the device and the inode of what is at a path, None where nothing is."""
    try:
        status = os.stat(path)  # noqa: PTH116 - the path is a str
    except OSError:
        return None
    return status.st_dev, status.st_ino


def look(path: str) -> What:
    """Tell what is at the path of a store, and change nothing there.

    Raises:
        StoreError: It is not a store, or one of a newer version, or cannot be read.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return What.NOTHING
    except OSError as error:
        raise StoreError(f"the store {path} cannot be used: {error}") from None
    if stat.S_ISLNK(status.st_mode):
        # Somebody else may have put it there, and SQLite has its other files where it leads.
        raise StoreError(f"{path} is a symbolic link, which is not followed; give the file's path")
    if not stat.S_ISREG(status.st_mode):
        raise StoreError(f"{path} is not a file, so it cannot be a store")
    _check_owner(path, path, may_have_links=True)  # as it has for a moment while it is made
    return _read_header(path) if status.st_size else What.EMPTY


def _read_header(path: str) -> What:
    """Tell what a file is by its first page."""
    try:
        with contextlib.closing(_connect(path, "mode=ro&immutable=1")) as connection:
            # The file itself, not its WAL; also where it is shorter than it should be.
            connection.execute("PRAGMA writable_schema = ON")
            application = pragma(connection, "application_id")
            version = pragma(connection, "user_version")
            if not (application or version) and _is_unfinished(connection, path):
                return What.EMPTY
    except sqlite3.OperationalError as error:
        raise StoreError(f"the store {path} cannot be used: {error}") from None
    except sqlite3.DatabaseError:
        application = version = 0  # not even a database
    if application != _APPLICATION_ID:
        raise _not_a_store(path)
    if not 1 <= version <= _VERSION:
        raise StoreError(
            f"the store {path} is of version {version}, and this library knows no version after"
            f" {_VERSION}; it was left as it is"
        )
    return What.STORE


def _is_unfinished(connection: sqlite3.Connection, path: str) -> bool:
    """Tell whether a process has begun to make a store, and did not come to its tables.

    Another program's database may look like that as long as all else is in its WAL.
    """
    return (
        pragma(connection, "auto_vacuum") == _INCREMENTAL
        and pragma(connection, "schema_version") == 0  # there has never been a table
        and not os.path.exists(f"{path}-wal")
    )


def _not_a_store(path: str) -> StoreError:
    return StoreError(f"{path} is not a store of this library; it was left as it is")


def _check_owner(store: str, path: str, *, may_have_links: bool = False) -> None:
    try:
        check_private(path, may_have_links=may_have_links)
    except OSError as error:
        raise StoreError(f"the store {store} cannot be used: {error}") from None


def connect(path: str, wal_bytes: int, *, alone: bool = False) -> Connection:
    """Open the store at a path, made or brought to this version where that is to be done.

    One process at a time may do this.

    Args:
        path: Where it is.
        wal_bytes: About how large the WAL may become.
        alone: Whether to keep other processes from the file, which takes no room on the disk.

    Raises:
        StoreError: Something else is at the path.
        sqlite3.Error: It cannot be opened or made.
        OSError: It cannot be made.
    """
    if look(path) is What.NOTHING:
        _make(path)
    for suffix in _BESIDE:
        # SQLite would wait for a pipe, or believe what another user has written there.
        _check_owner(path, f"{path}{suffix}")
    connection = _connect(path, "mode=rw")
    try:
        if alone:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        # What was written outlives the process; only a power cut may take the last of it.
        connection.execute("PRAGMA synchronous = NORMAL")
        _fill(connection, path)
        if pragma(connection, "user_version") != _VERSION:
            with transaction(connection, "IMMEDIATE"):
                _execute(connection, _UPDATES.get(pragma(connection, "user_version"), ()))
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise sqlite3.OperationalError("its file system does not allow SQLite's WAL mode")
        pages = wal_bytes // pragma(connection, "page_size")
        connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")
        connection.execute(f"PRAGMA journal_size_limit = {2 * wal_bytes}")
        connection.execute("SELECT id FROM events LIMIT 0")
        connection.execute("SELECT id FROM owners LIMIT 0")
        connection.execute("SELECT owner FROM outboxes LIMIT 0")
        connection.execute("SELECT id FROM broken LIMIT 1").fetchone()  # opens the WAL
    except BaseException:
        connection.close()
        raise
    return connection


def _make(path: str) -> None:
    """Make a store, whole at once, where nothing is."""
    # Of a file that was removed. Who still has that open would share them with the new one.
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    folder, name = os.path.split(path)
    descriptor, new = tempfile.mkstemp(prefix=f"{name}-", dir=folder)
    try:
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, 0o600)  # a umask may have taken even the owner's right to read
        os.close(descriptor)
        with contextlib.closing(_connect(new, "mode=rw")) as connection:
            _fill(connection, path)
        try:
            os.link(new, path)  # which, unlike `rename`, replaces nothing
        except FileExistsError:
            raise sqlite3.OperationalError(
                "it is locked: another program has just made it"
            ) from None
        except OSError:
            os.rename(new, path)  # noqa: PTH104 - the file system has no links
    finally:
        Path(new).unlink(missing_ok=True)


def _fill(connection: sqlite3.Connection, path: str) -> None:
    """Make what is in a store, where nothing is in the file.

    Raises:
        StoreError: Another program has made something else in it.
    """
    if pragma(connection, "application_id") != _APPLICATION_ID:
        # It has to come first, and writes a page by itself, see `_is_unfinished`.
        connection.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
        # Before the mode is WAL, so that the header of the file says what it is.
        with transaction(connection, "EXCLUSIVE"):
            application = pragma(connection, "application_id")
            tables = connection.execute("SELECT 1 FROM sqlite_master").fetchone()
            if application != _APPLICATION_ID and (application or tables):
                raise _not_a_store(path)
            if not tables:
                _execute(connection, _SCHEMA)


def connect_read_only(path: str) -> Connection:
    """Open a store, as far as it can be read, and change nothing in it."""
    wal = Path(f"{path}-wal")
    has_wal = wal.exists() and wal.stat().st_size
    # What is immutable needs nothing beside it, but then SQLite does not look into the WAL.
    connection = _connect(path, "mode=ro" if has_wal else "mode=ro&immutable=1")
    connection.execute("PRAGMA writable_schema = ON")  # where it is shorter than it should be
    return connection


class transaction:  # noqa: N801 - it is used as a function
    """Do something in full or not at all.

    It is no generator: what a signal handler raises inside of one may crash Python 3.11.

    Args:
        connection: The database.
        kind: When its lock is taken, in SQLite's words.
    """

    def __init__(self, connection: sqlite3.Connection, kind: str) -> None:
        self._connection = connection
        self._kind = kind

    def __enter__(self) -> None:
        self._connection.execute(f"BEGIN {self._kind}")

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._connection.execute("COMMIT")
                return
        except BaseException:
            self._roll_back()
            raise
        self._roll_back()

    def _roll_back(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("ROLLBACK")


def is_busy(error: BaseException) -> bool:
    """Tell whether another process has the file just now."""
    return isinstance(error, sqlite3.OperationalError) and (
        "locked" in str(error) or "locking" in str(error)
    )


def is_full(error: BaseException) -> bool:
    """Tell whether there may be no room on the disk, or for a file of that size."""
    return isinstance(error, sqlite3.OperationalError) and (
        "full" in str(error) or "disk I/O" in str(error)
    )


def is_corrupt(error: BaseException) -> bool:
    """Tell whether pages of the file are broken."""
    broken = ("malformed", "not a database", "no such table", "no such column", "no such index")
    return isinstance(error, sqlite3.IntegrityError) or (
        isinstance(error, sqlite3.DatabaseError) and any(words in str(error) for words in broken)
    )


def _connect(path: str, how: str) -> Connection:
    connection = sqlite3.connect(
        f"{Path(path).as_uri()}?{how}",
        uri=True,
        timeout=0,  # who waits does so without a lock of SQLite's, see StoreConnection
        isolation_level=None,
        check_same_thread=False,
        factory=Connection,
    )
    # A broken row may hold text that is none, and has to cost no more than itself.
    connection.text_factory = partial(str, encoding="utf-8", errors="replace")
    return connection


def _execute(connection: sqlite3.Connection, statements: tuple[str, ...]) -> None:
    for statement in statements:
        values = (_time_ns() // 1_000,) if "?" in statement else ()
        connection.execute(statement, values)


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """Return one of SQLite's numbers."""
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)
