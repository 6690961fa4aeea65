"""Saves of a store what can be read, though pages or rows of it may be broken."""

from __future__ import annotations

import contextlib
import math
import sqlite3
import zlib
from collections.abc import Iterator
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

from snowplow_logging.delivery.owners import OwnerLocks
from snowplow_logging.delivery.store_file import transaction
from snowplow_logging.delivery.waiting import clock

__all__ = ["Row", "bring", "is_whole", "move_aside", "readable_payloads", "readable_rows"]

_SALVAGE_TIMEOUT: Final = 2.0  # seconds to read what a broken file still has
_MOST_EVENTS: Final = 1_000_000  # that are looked for where only one end of their ids is known


class Row(NamedTuple):
    """An event as it is in the file; what is broken may hold anything."""

    id: int
    owner: object
    checksum: object
    payload: object


def is_whole(payload: object, checksum: object) -> bool:
    """Tell whether a payload is as it was written.

    SQLite itself does not notice a changed byte, and one bad event fails its whole request.
    """
    return isinstance(payload, bytes) and zlib.crc32(payload) == checksum


def readable_rows(connection: sqlite3.Connection, until: float = math.inf) -> Iterator[Row]:
    """Return the events on pages that can be read, in their order.

    Where the next event cannot be read, those after it are looked for in halves of what is left.

    Args:
        connection: The file.
        until: The monotonic time after which the rest is left where it is.
    """
    bounds = _bounds(connection)
    ranges = [] if bounds is None else [bounds]
    while ranges and clock.now() < until:
        low, high = ranges.pop()
        after = low
        rows = _rows(connection, low, high)
        try:
            for row in rows:
                after = row.id + 1
                yield row
        except sqlite3.DatabaseError:
            if after > low:
                ranges.append((after, high))
            elif low < high:
                middle = (low + high) // 2
                ranges += [(middle + 1, high), (low, middle)]


def readable_payloads(connection: sqlite3.Connection) -> Iterator[bytes]:
    """Return the payloads that can be read, also those of events that have changed in the file."""
    payloads: list[object] = []
    with contextlib.suppress(sqlite3.DatabaseError):
        payloads = [one for (one,) in connection.execute("SELECT payload FROM broken")]
    for payload in chain((row.payload for row in readable_rows(connection)), payloads):
        yield payload if isinstance(payload, bytes) else str(payload).encode(errors="replace")


def move_aside(path: str) -> str:
    """Give a store a dated name, and all that belongs to it; return that name."""
    aside = f"{path}.{datetime.now(timezone.utc):%Y%m%dT%H%M%S.%fZ}"
    # The WAL first: without the file it is nothing, and a new file must not find it.
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
    return aside


def bring(
    old: sqlite3.Connection, new: sqlite3.Connection, held: set[int], locks: OwnerLocks
) -> int:
    """Copy the events of the owners that are held, and of those that have died.

    They keep their ids and owners, so that answers to events under way find them. The others are
    brought by their own processes.

    Returns:
        How many were copied.
    """
    brought = 0
    destinations = _readable_owners(old)
    dead, others = set[int](), set[object]()
    try:
        with transaction(new, "IMMEDIATE"):
            for row in readable_rows(old, clock.now() + _SALVAGE_TIMEOUT):
                owner = row.owner
                if not is_whole(row.payload, row.checksum) or owner in others:
                    continue
                if owner not in held and owner not in dead:
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
                [(owner, destinations.get(owner, "")) for owner in held | dead],
            )
    finally:
        for owner in dead:
            locks.release(owner)  # for whoever looks for what the dead have left
    return brought


def _readable_owners(connection: sqlite3.Connection) -> dict[int, str]:
    """Return the owners that can be read, and where their events are to go."""
    owners = {}
    with contextlib.suppress(sqlite3.DatabaseError):
        for owner, destination in connection.execute("SELECT id, destination FROM owners"):
            owners[owner] = str(destination)
    return owners


def _rows(connection: sqlite3.Connection, low: int, high: int) -> Iterator[Row]:
    query = "SELECT id, owner, checksum, payload FROM events WHERE id BETWEEN ? AND ? ORDER BY id"
    with contextlib.closing(connection.execute(query, (low, high))) as rows:
        for row in rows:
            yield Row(*row)


def _bounds(connection: sqlite3.Connection) -> tuple[int, int] | None:
    """Return ids between which all events are, None where nothing says so."""
    table, index = "FROM events NOT INDEXED", "FROM events INDEXED BY events_by_owner"
    given = "FROM sqlite_sequence WHERE name = 'events'"
    # Each is to be had from several places, which are on different pages.
    low = _first_int(connection, f"SELECT min(id) {table}", f"SELECT min(id) {index}")
    high = _first_int(
        connection, f"SELECT max(id) {table}", f"SELECT seq {given}", f"SELECT max(id) {index}"
    )
    if low is None and high is None:
        return None
    if low is None:
        return (high or 0) - _MOST_EVENTS, high or 0
    return low, low + _MOST_EVENTS if high is None else high


def _first_int(connection: sqlite3.Connection, *queries: str) -> int | None:
    for query in queries:
        with contextlib.suppress(sqlite3.DatabaseError):
            row = connection.execute(query).fetchone()
            if row is not None and isinstance(row[0], int):
                return row[0]
    return None
