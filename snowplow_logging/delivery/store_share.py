"""Which of a store's events are one process's to send, and how far it has got with them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection
from typing import Final

from snowplow_logging.delivery.owners import MOST_OWNERS
from snowplow_logging.delivery.store_connection import StoreConnection
from snowplow_logging.delivery.store_file import StoreError
from snowplow_logging.endpoint import without_credentials

__all__ = ["Share"]

_RECOVER_AT_ONCE: Final = 1_000  # events, so that several processes share what others left

_STRAY: Final = """
WITH RECURSIVE found (owner) AS (
    SELECT min(owner) FROM events
    UNION ALL
    SELECT (SELECT min(owner) FROM events WHERE owner > found.owner) FROM found
    WHERE owner IS NOT NULL
)
SELECT owner FROM found WHERE owner IS NOT NULL AND owner NOT IN (
    SELECT id FROM owners WHERE id BETWEEN 0 AND ?
)
UNION ALL
SELECT NULL WHERE EXISTS (SELECT 1 FROM events WHERE owner IS NULL)
"""
"""Owners of events that are not among the owners, looked up in the index one after the other."""


class Share:
    """The owners of events that a process is, or has taken over from others that have died.

    Args:
        connection: The file.
        destination: Where the events are to go.

    Attributes:
        own: The owner of what is added; None where there is none yet.
        cursors: The last event taken of each owner, those of dead processes first.
        done: Events that are answered for and still in the file.
    """

    def __init__(self, connection: StoreConnection, destination: str) -> None:
        self.own: int | None = None
        self.cursors: dict[int, int] = {}
        self.done: set[int] = set()
        self._connection = connection
        self.destination = without_credentials(destination)

    def follow(self, connection: sqlite3.Connection) -> None:
        """Forget the owners that are another's by now, or are not in the file any more."""
        for owner in self._connection.held:
            query = "SELECT 1 FROM owners WHERE id = ?"
            if connection.execute(query, (owner,)).fetchone() is None:
                self._connection.release(owner)
        held = self._connection.held
        self.cursors = {owner: last for owner, last in self.cursors.items() if owner in held}
        if self.own not in held:
            self.own = None

    def new_owner(self, connection: sqlite3.Connection) -> int:
        """Make an owner, which is held; it is `own` only once it is in the file."""
        while True:
            new = connection.execute(
                "INSERT INTO owners (destination) VALUES (?)", (self.destination,)
            ).lastrowid
            # Locked before anybody can see it, or it would be taken for dead.
            if new is not None and self._connection.acquire(new):
                return new
            # That of a process which has not gone over to this file yet.
            connection.execute("DELETE FROM owners WHERE id = ?", (new,))

    def waiting(self, connection: sqlite3.Connection) -> int:
        """Return how many events are not taken yet."""
        return sum(self._count(connection, *cursor) for cursor in self.cursors.items())

    def _count(self, connection: sqlite3.Connection, owner: int, after: int = 0) -> int:
        """Return how many events an owner has after an id, besides those that are done with."""
        query = "SELECT count(*) FROM events WHERE owner = ? AND id > ?"
        (count,) = connection.execute(query, (owner, after)).fetchone()
        for number in self.done:
            query = "SELECT 1 FROM events WHERE id = ? AND owner = ?"
            if number > after and connection.execute(query, (number, owner)).fetchone():
                count -= 1
        return int(count)

    def recover(self, until: float | None = None) -> int:
        """Take over what processes that have died, or closed their stores, have left.

        What was left for others to send is sealed by that: what comes later gets another owner, so
        that the events of one that is held are known.

        Returns:
            How many events that are: none where nobody left any, and otherwise those of an owner
            or several, until there are a thousand.
        """
        left: dict[int, int] = {}
        self._adopt_stray(until)
        for owner, destination, is_open in self._owners(until):
            if destination in {"", self.destination} and self._connection.acquire(owner):
                if is_open:
                    self._seal(owner, until)
                # Only now, because it may have been alive a moment ago.
                left[owner] = self._left(owner, until)
                if sum(left.values()) >= _RECOVER_AT_ONCE:
                    break
        found = {owner: 0 for owner, count in left.items() if count}
        others = {owner: last for owner, last in self.cursors.items() if owner != self.own}
        self.cursors = {**others, **found, **self.cursors}
        self.forget(left.keys() - found.keys())
        return sum(left.values())

    def _seal(self, owner: int, until: float | None) -> None:
        def seal(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM outboxes WHERE owner = ?", (owner,))

        try:
            self._connection.do(seal, until, write=True)
        except BaseException:
            self._connection.release(owner)
            raise

    def _adopt_stray(self, until: float | None) -> None:
        """Give events of an owner that the file does not know one that nobody is yet.

        A broken row may name any; unless its process lives, nobody would ever look for it.
        """
        most = (MOST_OWNERS - 1,)
        if not self._connection.do(
            lambda connection: connection.execute(_STRAY, most).fetchone(), until
        ):
            return

        def adopt(connection: sqlite3.Connection) -> None:
            for (owner,) in connection.execute(_STRAY, most).fetchall():
                is_one = isinstance(owner, int) and 0 < owner < MOST_OWNERS
                if is_one and not self._connection.acquire(owner):
                    continue
                try:
                    new = connection.execute(
                        "INSERT INTO owners (destination) SELECT coalesce("
                        "(SELECT destination FROM owners WHERE id IS ?), '')",
                        (owner,),
                    )
                    change = "UPDATE events SET owner = ? WHERE owner IS ?"
                    connection.execute(change, (new.lastrowid, owner))
                finally:
                    if is_one:
                        self._connection.release(owner)

        self._connection.do(adopt, until, write=True)

    def left_for_others(self, besides: Collection[str]) -> dict[str, int]:
        """Return how many events wait for each other destination that nobody alive sends to.

        Args:
            besides: Destinations that are left out.
        """
        left: dict[str, int] = {}
        alive = {"", self.destination, *besides}
        for owner, destination, _ in self._owners(None):
            if destination in alive:
                continue
            if not self._connection.acquire(owner):
                alive.add(destination)
                continue
            try:
                left[destination] = left.get(destination, 0) + self._left(owner, None)
            finally:
                self._connection.release(owner)
        return {
            destination: count
            for destination, count in left.items()
            if count and destination not in alive
        }

    def _owners(self, until: float | None) -> list[tuple[int, str, bool]]:
        """Return all owners, with where their events are to go and whether more may come."""
        query = "SELECT id, destination, id IN (SELECT owner FROM outboxes) FROM owners ORDER BY id"
        owners = self._connection.do(lambda connection: connection.execute(query).fetchall(), until)
        return [
            (owner, without_credentials(str(destination)), bool(is_open))
            for owner, destination, is_open in owners
        ]

    def _left(self, owner: int, until: float | None) -> int:
        try:
            return self._connection.do(lambda connection: self._count(connection, owner), until)
        except BaseException:
            self._connection.release(owner)
            raise

    def forget(self, owners: Collection[int]) -> None:
        """Let go of owners that have no events, if that can be done without waiting."""

        def forget(connection: sqlite3.Connection) -> None:
            for owner in owners:
                connection.execute(
                    "DELETE FROM owners WHERE id = ? AND NOT EXISTS"
                    " (SELECT 1 FROM events WHERE owner = owners.id)",
                    (owner,),
                )

        if not owners:
            return
        with contextlib.suppress(StoreError):
            self._connection.do(forget, 0.0, write=True)
        for owner in owners:
            # One that has events all the same is found again.
            self.cursors.pop(owner, None)
            self._connection.release(owner)
            if owner == self.own:
                self.own = None

    def forget_idle(self) -> bool:
        """Let go of owners that have no events; return whether nobody has any in the file."""

        def look(connection: sqlite3.Connection) -> tuple[list[int], bool]:
            query = "SELECT 1 FROM events WHERE owner = ? LIMIT 1"
            idle = [
                owner
                for owner in self._connection.held
                if connection.execute(query, (owner,)).fetchone() is None
            ]
            return idle, connection.execute("SELECT 1 FROM events LIMIT 1").fetchone() is None

        idle, is_empty = self._connection.do(look, 0.0)
        self.forget(idle)
        return is_empty
