"""A file in which events wait until the collector has answered for them: SQLite in WAL mode."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from snowplow_logging.delivery.salvage import is_whole
from snowplow_logging.delivery.store_connection import StoreConnection
from snowplow_logging.delivery.store_file import StoreError, What, look, pragma
from snowplow_logging.delivery.store_share import Share

__all__ = ["SQLiteFile", "StoreError", "Taken"]

_SHRINK_PAGES: Final = 256  # pages given back to the file system in one transaction at most
_WAL_BYTES: Final = 4_194_304  # of the WAL, before it is moved into the file


class Taken(NamedTuple):
    """Events that can be taken.

    Attributes:
        ids: Their ids, in their order.
        payloads: Their payloads.
        broken: The ids of events before and between them that have changed in the file and cannot
            be sent, see `set_aside`.
        cursors: What `Share.cursors` is to be once they are taken.
    """

    ids: list[int]
    payloads: list[bytes]
    broken: list[int]
    cursors: dict[int, int]


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

    Attributes:
        path: The same, in full.
        limit: The same.
        share: Which events are this process's to send, and which of them are taken.
    """

    def __init__(self, path: str | os.PathLike[str], limit: int, destination: str = "") -> None:
        # Absolute, because a program may change its directory before it logs.
        self.path = Path(os.path.abspath(path))  # noqa: PTH100 - `resolve` would follow links
        self.limit = limit
        wal_bytes = min(_WAL_BYTES, limit // 16)
        self._connection = StoreConnection(str(self.path), wal_bytes, self._opened)
        self.share = Share(self._connection, destination)

    def _opened(self, connection: sqlite3.Connection) -> None:
        self.share.follow(connection)

    def problem(self) -> str | None:
        """Say why the file cannot be used, None where nothing speaks against it; change nothing."""
        try:
            what = look(str(self.path))
        except StoreError as error:
            return str(error)
        folder = self.path.parent
        if what is not What.NOTHING:
            allowed = os.access(self.path, os.R_OK | os.W_OK)
        elif not os.path.isdir(folder):
            return f"the store {self.path} cannot be made: there is no directory {folder}"
        else:
            allowed = True
        if not allowed or not os.access(folder, os.W_OK | os.X_OK):
            return f"the store {self.path} cannot be used: there is no right to write it"
        return None

    def wait_until(self, until: float) -> None:
        """Have no method wait for another process after a monotonic time, not even one that does.

        Any thread may call this at any time. It holds until it is called with another time.
        """
        self._connection.latest = until

    def is_there(self) -> bool:
        """Tell whether the file that is open is the one at the path."""
        return self._connection.is_there()

    def is_gone(self) -> bool:
        """Tell whether nothing is at the path, as far as this process may look there."""
        try:
            return look(str(self.path)) is What.NOTHING
        except StoreError:
            return False

    @property
    def is_open(self) -> bool:
        """Whether it was opened and not closed."""
        return self._connection.is_open

    def open(self, until: float | None = None) -> bool:
        """Open the file, or make it.

        Returns:
            Whether it was closed before.

        Raises:
            StoreError: It is not a store, or cannot be used. One that is corrupt has been set
                aside under a dated name, and what could be read is in a new file at its place.
        """
        return self._connection.open(until)

    def close(self) -> None:
        """Close the file, without waiting, and leave its events to whoever opens it next."""
        if self.is_open:
            is_empty = False
            with contextlib.suppress(StoreError):
                self.remove((), 0.0)
                is_empty = self.share.forget_idle()
            self._connection.close(empty=is_empty)

    def add(self, payloads: Sequence[bytes], until: float | None = None) -> bool:
        """Write payloads behind those that are there, all or none. Some hundreds take milliseconds.

        Returns:
            Whether the file has reached its limit.
        """
        new: list[int] = []

        def write(connection: sqlite3.Connection) -> bool:
            self._release(new)
            if self.share.own is None:
                new.append(self.share.new_owner(connection))
            return self._insert(connection, new[0] if new else self.share.own, payloads)

        try:
            full = self._connection.do(write, until, write=True, adds=_size(payloads))
        except BaseException:
            self._release(new)
            raise
        if new:
            self.share.own = new[0]
            self.share.cursors[new[0]] = 0
        return full

    def leave(self, payloads: Sequence[bytes], until: float | None = None) -> bool:
        """Write payloads for others to send, all or none.

        They are nobody's: the owner that they get is the same for all that is left for one
        destination, by whatever process, until somebody takes it over (see `Share.recover`).

        Returns:
            Whether they were written. They are not where the file has reached its limit.
        """
        new: list[int] = []
        destination = self.share.destination
        # Who only leaves events holds no owner, but one that an interrupt has left him.
        self._release([*self._connection.held - self.share.cursors.keys()])

        def write(connection: sqlite3.Connection) -> bool:
            self._release(new)
            if self._taken_bytes(connection) >= self.limit:
                return False
            query = "SELECT owner FROM outboxes WHERE destination = ?"
            owner = connection.execute(query, (destination,)).fetchone()
            if owner is None:
                new.append(self.share.new_owner(connection))
                owner = (new[0],)
                connection.execute("INSERT INTO outboxes VALUES (?, ?)", (destination, *owner))
            self._insert(connection, owner[0], payloads)
            return True

        try:
            return self._connection.do(write, until, write=True, adds=_size(payloads))
        finally:
            self._release(new)

    def _insert(
        self, connection: sqlite3.Connection, owner: int | None, payloads: Sequence[bytes]
    ) -> bool:
        """Insert payloads of an owner, and return whether the file has reached its limit."""
        connection.executemany(
            "INSERT INTO events (owner, checksum, payload) VALUES (?, ?, ?)",
            [(owner, zlib.crc32(payload), payload) for payload in payloads],
        )
        taken = self._taken_bytes(connection)
        if taken > self._connection.most_bytes:
            raise StoreError(f"the store {self.path} must not become larger", full=True)
        return taken >= self.limit

    def _release(self, owners: list[int]) -> None:
        while owners:
            self._connection.release(owners.pop())

    def take(self, count: int, room: int, size: Callable[[bytes], int]) -> Taken:
        """Return the next events that can be taken; they are once `Share.cursors` says so.

        Args:
            count: The events at most.
            room: The bytes at most, unless one event alone has more.
            size: Says what a payload takes of them.
        """
        return self._connection.do(lambda connection: self._take(connection, count, room, size))

    def _take(
        self, connection: sqlite3.Connection, count: int, room: int, size: Callable[[bytes], int]
    ) -> Taken:
        share = self.share
        taken = Taken([], [], [], dict(share.cursors))
        for owner, cursor in share.cursors.items():
            rows = connection.execute(
                "SELECT id, payload, checksum FROM events WHERE owner = ? AND id > ?"
                " ORDER BY id LIMIT ?",
                (owner, cursor, count - len(taken.ids)),
            )
            with contextlib.closing(rows):
                for number, payload, checksum in rows:
                    if number in share.done:
                        pass
                    elif not _can_be_sent(payload, checksum, parse=owner != share.own):
                        taken.broken.append(number)
                    else:
                        room -= size(payload)
                        if taken.ids and room < 0:
                            return taken
                        taken.ids.append(number)
                        taken.payloads.append(payload)
                    taken.cursors[owner] = number
            if len(taken.ids) == count:
                break
        return taken

    def set_aside(self, ids: Iterable[int]) -> None:
        """Move events that cannot be sent into a table of their own, where `replay` finds them."""

        def move(connection: sqlite3.Connection) -> None:
            for number in ids:
                connection.execute(
                    "INSERT OR IGNORE INTO broken SELECT * FROM events WHERE id = ?", (number,)
                )
                connection.execute("DELETE FROM events WHERE id = ?", (number,))

        with contextlib.suppress(StoreError):  # they stay where they are, and are not sent
            self._connection.do(move, write=True)

    def remove(self, ids: Iterable[int], until: float | None = None) -> None:
        """Remove events by id.

        What cannot be removed now, because the disk is full or StoreError is raised, is not taken
        again, and is removed with the next ones.
        """
        done = self.share.done
        done.update(ids)

        def write(connection: sqlite3.Connection) -> list[int]:
            removed = [*done]
            rows = [(number,) for number in removed]
            connection.executemany("DELETE FROM events WHERE id = ?", rows)
            return removed

        try:
            if done:
                done.difference_update(self._connection.do(write, until, write=True))
        except StoreError as error:
            if not error.full:
                raise

    def remove_oldest(self, count: int, until: float | None = None) -> int:
        """Remove the oldest events that are not taken yet, and return how many there were."""

        def write(connection: sqlite3.Connection) -> int:
            removed = 0
            for owner, cursor in self.share.cursors.items():
                removed += connection.execute(
                    "DELETE FROM events WHERE id IN (SELECT id FROM events"
                    " WHERE owner = ? AND id > ? ORDER BY id LIMIT ?)",
                    (owner, cursor, count - removed),
                ).rowcount
            return removed

        return self._connection.do(write, until, write=True)

    def waiting(self) -> int:
        """Return how many events are the store's to send and not taken yet."""
        return self._connection.do(self.share.waiting)

    def is_full(self) -> bool:
        """Tell whether the file has reached its limit."""
        return self._connection.do(self._taken_bytes) >= self.limit

    def _taken_bytes(self, connection: sqlite3.Connection) -> int:
        pages = pragma(connection, "page_count") - pragma(connection, "freelist_count")
        return pages * self._connection.page_size + 2 * self._connection.wal_bytes

    def shrink(self, until: float | None = None) -> bool:
        """Give some of the room that events have left back to the file system.

        Returns:
            Whether there is more of it.
        """
        pages = min(_SHRINK_PAGES, self._connection.wal_bytes // 2 // self._connection.page_size)
        free = self._connection.do(lambda connection: pragma(connection, "freelist_count"))
        if free <= 2 * pages:
            return False

        def vacuum(connection: sqlite3.Connection) -> None:
            connection.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()

        self._connection.do(vacuum, until, write=True)
        more = free > 3 * pages
        if not more:
            self._connection.checkpoint()  # only then does the file become smaller
        return more


def _size(payloads: Sequence[bytes]) -> int:
    return 1 + sum(map(len, payloads))


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
