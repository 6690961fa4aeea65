"""A file in which events wait until the collector has answered for them: SQLite in WAL mode."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from snowplow_logging.delivery.salvage import is_whole
from snowplow_logging.delivery.store_connection import StoreConnection
from snowplow_logging.delivery.store_file import StoreError, What, look, pragma

__all__ = ["SQLiteFile", "StoreError", "Taken"]

_Result = TypeVar("_Result")

_RECOVER_AT_ONCE: Final = 1_000  # events, so that several processes share what others left
_SHRINK_PAGES: Final = 256  # pages given back to the file system in one transaction at most
_WAL_BYTES: Final = 4_194_304  # of the WAL, before it is moved into the file


class Taken(NamedTuple):
    """Events that were taken.

    Attributes:
        rows: Their ids and payloads, in their order.
        broken: Payloads, as far as they can be read, of events that have changed in the file and
            cannot be sent. The file keeps them in a table of its own, where `replay` finds them.
    """

    rows: list[tuple[int, bytes]]
    broken: list[bytes]


class SQLiteFile:
    """Events that wait in a file, each with an owner: one process at a time that may send it.

    An owner lives as long as its process holds the owner's lock (see `OwnerLocks`). The events of
    one that does not live are another's, who then holds that lock as well. All events of an owner
    are for one destination, so that handlers for two collectors may share a file.

    All methods but `problem` and `close` need `open` before. They may be called by one thread at a
    time. Each raises StoreError and nothing else. Where a method has to wait for another process it
    does so until a monotonic time, five seconds from now where none is given.

    Args:
        path: The file; it is made where it does not exist, for its user alone.
        limit: The bytes that it may take, its WAL included.
        destination: Where its events are to go; what another store has for the same destination
            is taken over from there once its process has died.
    """

    def __init__(self, path: str | os.PathLike[str], limit: int, destination: str = "") -> None:
        # Absolute, because a program may change its directory before it logs.
        self.path = Path(os.path.abspath(path))  # noqa: PTH100 - `resolve` would follow links
        self.limit = limit
        self.destination = destination
        self._connection = StoreConnection(str(self.path), min(_WAL_BYTES, limit // 16))
        self._attached = 0  # how often the connection had been when this last looked
        self._open = False
        self._owner: int | None = None  # of what is added
        # The last event taken of each owner that is held, those of dead processes first.
        self._cursors: dict[int, int] = {}
        self._unremoved: set[int] = set()  # events that are done with and still in the file

    def after_fork(self) -> SQLiteFile:
        """Return the file for a child process, which is an owner of its own."""
        return SQLiteFile(self.path, self.limit, self.destination)

    def problem(self) -> str | None:
        """Say why the file cannot be used, None where nothing speaks against it; change nothing."""
        try:
            what = look(str(self.path))
        except StoreError as error:
            return str(error)
        folder = self.path.parent
        if what is not What.NOTHING:
            allowed = os.access(self.path, os.R_OK | os.W_OK)
        elif not folder.is_dir():
            return f"the store {self.path} cannot be made: there is no directory {folder}"
        else:
            allowed = True
        if not allowed or not os.access(folder, os.W_OK | os.X_OK):
            return f"the store {self.path} cannot be used: there is no right to write it"
        return None

    def _do(
        self,
        work: Callable[[sqlite3.Connection], _Result],
        until: float | None = None,
        *,
        write: bool = False,
        adds: int = 0,
    ) -> _Result:
        """Do something with the file, which is open; see `StoreConnection.do`."""

        def run(connection: sqlite3.Connection) -> _Result:
            if self._attached != self._connection.attached:
                self._find_owners(connection)
            return work(connection)

        if not self._open:
            raise StoreError(f"the store {self.path} is closed")
        return self._connection.do(run, until, write=write, adds=adds)

    def _find_owners(self, connection: sqlite3.Connection) -> None:
        """Forget the owners that are another's by now, or are not in the file any more."""
        attached = self._connection.attached
        for owner in self._connection.held:
            query = "SELECT 1 FROM owners WHERE id = ?"
            if connection.execute(query, (owner,)).fetchone() is None:
                self._connection.release(owner)
        held = self._connection.held
        self._cursors = {owner: last for owner, last in self._cursors.items() if owner in held}
        if self._owner not in held:
            self._owner = None
        self._attached = attached

    def wait_until(self, until: float) -> None:
        """Have no method wait for another process after a monotonic time, not even one that does.

        Any thread may call this at any time. It holds until it is called with another time.
        """
        self._connection.latest = until

    def is_there(self) -> bool:
        """Tell whether the file that is open is the one at the path."""
        return self._connection.is_there()

    @property
    def is_open(self) -> bool:
        """Whether it was opened and not closed."""
        return self._open

    def open(self, until: float | None = None) -> bool:
        """Open the file, or make it.

        Returns:
            Whether it was closed before.

        Raises:
            StoreError: It is not a store, or cannot be used. One that is corrupt has been set
                aside under a dated name, and what could be read is in a new file at its place.
        """
        if self._open:
            return False
        self._open = True
        try:
            self._do(lambda _: None, until)
        except StoreError as error:
            self._open = error.set_aside
            raise
        return True

    def add(self, payloads: Sequence[bytes], until: float | None = None) -> bool:
        """Write payloads behind those that are there, all or none. Some hundreds take milliseconds.

        Returns:
            Whether the file has reached its limit.
        """
        new: list[int] = []
        size = 1 + sum(map(len, payloads))

        def write(connection: sqlite3.Connection) -> bool:
            self._release(new)
            if self._owner is None:
                new.append(self._new_owner(connection))
            owner = new[0] if new else self._owner
            connection.executemany(
                "INSERT INTO events (owner, checksum, payload) VALUES (?, ?, ?)",
                [(owner, zlib.crc32(payload), payload) for payload in payloads],
            )
            taken = self._taken_bytes(connection)
            if taken > self._connection.most_bytes:
                raise StoreError(f"the store {self.path} must not become larger", full=True)
            return taken >= self.limit

        try:
            full = self._do(write, until, write=True, adds=size)
        except BaseException:
            self._release(new)
            raise
        if new:
            self._owner = new[0]
            self._cursors[new[0]] = 0
        return full

    def _new_owner(self, connection: sqlite3.Connection) -> int:
        while True:
            new = connection.execute(
                "INSERT INTO owners (destination) VALUES (?)", (self.destination,)
            ).lastrowid
            # Locked before anybody can see it, or it would be taken for dead.
            if new is not None and self._connection.acquire(new):
                return new
            # That of a process which has not gone over to this file yet.
            connection.execute("DELETE FROM owners WHERE id = ?", (new,))

    def _release(self, owners: list[int]) -> None:
        while owners:
            self._connection.release(owners.pop())

    def take(self, count: int, room: int, size: Callable[[bytes], int]) -> Taken:
        """Return the next events that are the store's to send, which stay until `remove`.

        Args:
            count: The events at most.
            room: The bytes at most, unless one event alone has more.
            size: Says what a payload takes of them.
        """
        cursors, rows, broken = self._do(
            lambda connection: self._take(connection, count, room, size)
        )
        self._cursors = cursors
        if broken:
            self._set_rows_aside([number for number, _ in broken])
        return Taken(rows, [payload for _, payload in broken])

    def _take(
        self, connection: sqlite3.Connection, count: int, room: int, size: Callable[[bytes], int]
    ) -> tuple[dict[int, int], list[tuple[int, bytes]], list[tuple[int, bytes]]]:
        cursors = dict(self._cursors)
        taken: list[tuple[int, bytes]] = []
        broken: list[tuple[int, bytes]] = []
        for owner, cursor in self._cursors.items():
            rows = connection.execute(
                "SELECT id, payload, checksum FROM events WHERE owner = ? AND id > ?"
                " ORDER BY id LIMIT ?",
                (owner, cursor, count - len(taken)),
            )
            with contextlib.closing(rows):
                for number, payload, checksum in rows:
                    if number in self._unremoved:
                        pass
                    elif not _can_be_sent(payload, checksum, parse=owner != self._owner):
                        broken.append((number, _as_bytes(payload)))
                    else:
                        room -= size(payload)
                        if taken and room < 0:
                            return cursors, taken, broken
                        taken.append((number, payload))
                    cursors[owner] = number
            if len(taken) == count:
                break
        return cursors, taken, broken

    def _set_rows_aside(self, ids: Iterable[int]) -> None:
        def move(connection: sqlite3.Connection) -> None:
            for number in ids:
                connection.execute(
                    "INSERT OR IGNORE INTO broken SELECT * FROM events WHERE id = ?", (number,)
                )
                connection.execute("DELETE FROM events WHERE id = ?", (number,))

        with contextlib.suppress(StoreError):  # they stay where they are, and are not sent
            self._do(move, write=True)

    def remove(self, ids: Iterable[int], until: float | None = None) -> None:
        """Remove events by id.

        What cannot be removed now, because the disk is full or StoreError is raised, is not taken
        again, and is removed with the next ones.
        """
        self._unremoved.update(ids)

        def write(connection: sqlite3.Connection) -> set[int]:
            done = set(self._unremoved)
            rows = [(one,) for one in done]
            connection.executemany("DELETE FROM events WHERE id = ?", rows)
            return done

        try:
            if self._unremoved:
                self._unremoved -= self._do(write, until, write=True)
        except StoreError as error:
            if not error.full:
                raise

    def remove_oldest(self, count: int, until: float | None = None) -> int:
        """Remove the oldest events that are not taken yet, and return how many there were."""

        def write(connection: sqlite3.Connection) -> int:
            removed = 0
            for owner, cursor in self._cursors.items():
                removed += connection.execute(
                    "DELETE FROM events WHERE id IN (SELECT id FROM events"
                    " WHERE owner = ? AND id > ? ORDER BY id LIMIT ?)",
                    (owner, cursor, count - removed),
                ).rowcount
            return removed

        return self._do(write, until, write=True)

    def waiting(self) -> int:
        """Return how many events are the store's to send and not taken yet."""
        return self._do(self._waiting)

    def _waiting(self, connection: sqlite3.Connection) -> int:
        return sum(
            _count(connection, owner, cursor, self._unremoved)
            for owner, cursor in self._cursors.items()
        )

    def is_full(self) -> bool:
        """Tell whether the file has reached its limit."""
        return self._do(self._is_full)

    def _is_full(self, connection: sqlite3.Connection) -> bool:
        return self._taken_bytes(connection) >= self.limit

    def _taken_bytes(self, connection: sqlite3.Connection) -> int:
        pages = pragma(connection, "page_count") - pragma(connection, "freelist_count")
        return pages * self._connection.page_size + 2 * self._connection.wal_bytes

    def recover(self, until: float | None = None) -> int:
        """Take over what processes that have died, or closed their stores, have left.

        Returns:
            How many events are the store's now, beyond those that were: none where nobody left
            any, and otherwise those of an owner or several, until there are a thousand.
        """
        query = "SELECT id FROM owners WHERE destination IN (?, '') ORDER BY id"
        owners = self._do(
            lambda connection: connection.execute(query, (self.destination,)).fetchall(), until
        )
        left: dict[int, int] = {}
        for (owner,) in owners:
            if self._connection.acquire(owner):
                # Only now, because it may have been alive a moment ago.
                left[owner] = self._left(owner, until)
                if sum(left.values()) >= _RECOVER_AT_ONCE:
                    break
        found = {owner: 0 for owner, count in left.items() if count}
        others = {owner: last for owner, last in self._cursors.items() if owner != self._owner}
        self._cursors = {**others, **found, **self._cursors}
        self._forget_owners(left.keys() - found.keys())
        return sum(left.values())

    def _left(self, owner: int, until: float | None) -> int:
        try:
            return self._do(lambda connection: _count(connection, owner, 0, self._unremoved), until)
        except BaseException:
            self._connection.release(owner)
            raise

    def _forget_owners(self, owners: Iterable[int]) -> None:
        """Let go of owners that have no events, if that can be done without waiting."""

        def forget(connection: sqlite3.Connection) -> None:
            for owner in owners:
                connection.execute(
                    "DELETE FROM owners WHERE id = ? AND NOT EXISTS"
                    " (SELECT 1 FROM events WHERE owner = owners.id)",
                    (owner,),
                )

        with contextlib.suppress(StoreError):
            self._do(forget, 0.0, write=True)
        for owner in owners:
            # One that has events all the same is found again.
            self._cursors.pop(owner, None)
            self._connection.release(owner)
            if owner == self._owner:
                self._owner = None

    def shrink(self, until: float | None = None) -> bool:
        """Give some of the room that events have left back to the file system.

        Returns:
            Whether there is more of it.
        """
        pages = min(_SHRINK_PAGES, self._connection.wal_bytes // 2 // self._connection.page_size)
        free = self._do(lambda connection: pragma(connection, "freelist_count"))
        if free <= 2 * pages:
            return False

        def vacuum(connection: sqlite3.Connection) -> None:
            connection.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()

        self._do(vacuum, until, write=True)
        more = free > 3 * pages
        if not more:
            self._connection.checkpoint()  # only then does the file become smaller
        return more

    def close(self, *, again: bool) -> None:
        """Close the file, without waiting, and leave its events to whoever opens it next.

        Args:
            again: Whether what was taken and not removed is to be taken again then.
        """
        if not self._open:
            return
        with contextlib.suppress(StoreError):
            self.remove((), 0.0)
        empty = False
        with contextlib.suppress(StoreError):
            done, empty = self._do(self._what_is_done, 0.0)
            self._forget_owners(done)
        self._open = False
        self._connection.close(empty=empty)
        if again:
            self._cursors = dict.fromkeys(self._cursors, 0)

    def _what_is_done(self, connection: sqlite3.Connection) -> tuple[list[int], bool]:
        """Return the owners that have no events, and whether nobody has any."""
        owners = [owner for owner in self._connection.held if not _has_events(connection, owner)]
        return owners, connection.execute("SELECT 1 FROM events LIMIT 1").fetchone() is None


def _has_events(connection: sqlite3.Connection, owner: int) -> bool:
    query = "SELECT 1 FROM events WHERE owner = ? LIMIT 1"
    return connection.execute(query, (owner,)).fetchone() is not None


def _count(connection: sqlite3.Connection, owner: int, after: int, besides: Iterable[int]) -> int:
    """Return how many events an owner has after an id, besides those that are done with."""
    query = "SELECT count(*) FROM events WHERE owner = ? AND id > ?"
    (count,) = connection.execute(query, (owner, after)).fetchone()
    for number in besides:
        query = "SELECT 1 FROM events WHERE id = ? AND owner = ?"
        if number > after and connection.execute(query, (number, owner)).fetchone():
            count -= 1
    return int(count)


def _can_be_sent(payload: object, checksum: object, *, parse: bool) -> bool:
    """Tell whether an event is as it was written, and whether that is an event at all."""
    if not is_whole(payload, checksum) or not isinstance(payload, bytes):
        return False
    if parse:  # of another process, maybe of another version
        try:
            json.loads(payload + b"}")
        except (ValueError, RecursionError):
            return False
    return True


def _as_bytes(payload: object) -> bytes:
    return payload if isinstance(payload, bytes) else str(payload).encode(errors="replace")
