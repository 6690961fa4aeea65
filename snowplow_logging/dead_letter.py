"""A file of JSON lines for events that could not be delivered, which `replay` reads."""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Final

from snowplow_logging.delivery.waiting import clock
from snowplow_logging.file_lock import try_lock, unlock
from snowplow_logging.private_files import open_private

__all__ = ["DeadLetterFile"]

_MAX_BYTES: Final = 50_000_000
_FILES: Final = 10
_LOCK_TIMEOUT: Final = 0.1  # seconds to wait for who writes or rotates


class DeadLetterFile:
    """Appends events with the reason why they were given up. Threads and processes may share one.

    When the file has reached its size it becomes PATH.1, PATH.1 becomes PATH.2, and so on. All of
    them, and the lock beside them, are made for their owner alone, and no link in the place of one
    is followed.

    The lock keeps writers apart. It holds up nobody for long: where another process keeps it, the
    lines are appended without it, in one piece, and no file is rotated meanwhile; the file may then
    take twice its size.

    Args:
        path: The file; it is made when the first event is given up.
        write_event: Writes an event that was refused as JSON, as a line of a log holds it.
        max_bytes: The bytes that it may take.
        files: How many files there may be, the older ones included.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        write_event: Callable[[Mapping[str, Any]], str] = json.dumps,
        *,
        max_bytes: int = _MAX_BYTES,
        files: int = _FILES,
    ) -> None:
        # Absolute, because a program may change its directory before it logs.
        self.path = os.path.abspath(path)  # noqa: PTH100 - `resolve` would follow links
        self._write_event = write_event
        self._max_bytes = max_bytes
        self._files = files
        self._is_held = False  # the lock, when it was last asked for

    def write(self, events: Sequence[bytes | Mapping[str, Any]], reason: str) -> int:
        """Append events, all or none.

        Args:
            events: The events, each as it was logged, or the payload that was to be sent.
            reason: Why they were given up.

        Returns:
            How many older ones were removed, because the files take no more than they may.

        Raises:
            OSError: The file cannot be written.
        """
        fields = {
            "levelname": "ERROR",
            "message": reason,
            "timestamp": datetime.now(timezone.utc).isoformat(),
        }
        before = json.dumps(fields)[:-1].encode() + b', "snowplow": '
        lines = b"".join([before + self._json(event) + b"}\n" for event in events])
        removed = 0
        with self._locked() as alone:
            if not alone:
                self._append_beside(lines)
            elif not self._append(lines):
                removed = self._rotate()
                self._append(lines)
        return removed

    def _json(self, event: bytes | Mapping[str, Any]) -> bytes:
        if isinstance(event, bytes):
            return event + b"}"
        return self._write_event(event).encode(errors="backslashreplace")

    def _append(self, lines: bytes) -> bool:
        """Append lines whole, and return False where the file has no room for them."""
        with self._opened() as file:
            size = file.seek(0, os.SEEK_END)
            if size and size + len(lines) > self._max_bytes:
                return False
            left = memoryview(_on_a_line(file, size, lines))
            try:
                while left:
                    left = left[file.write(left) :]
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(size)  # no part of a line stays where the disk is full
                raise
            return True

    def _append_beside(self, lines: bytes) -> None:
        """Append lines while another process keeps the lock, and may write as well."""
        with self._opened() as file:
            size = file.seek(0, os.SEEK_END)
            if size + len(lines) > 2 * self._max_bytes:
                raise TimeoutError("it is full, and another process keeps its lock")
            lines = _on_a_line(file, size, lines)
            if file.write(lines) < len(lines):
                raise OSError("there is no room for it")

    @contextlib.contextmanager
    def _opened(self) -> Iterator[io.FileIO]:
        with open(  # noqa: PTH123 - it is open
            open_private(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT), "a+b", buffering=0
        ) as file:
            file.seek(0)
            # After a failure of power a file may begin with nothing but zeros.
            if file.read(1) not in (b"", b"{", b"\n", b"\0"):
                raise OSError("it is another program's file, and none of JSON lines")
            yield file

    def _rotate(self) -> int:
        """Give each file the next number, up to one that none has; return how many events went.

        Only where all numbers are taken does the last file go, with its events.
        """
        paths = [self.path, *(f"{self.path}.{number}" for number in range(1, self._files))]
        free = next((n for n, path in enumerate(paths) if not os.path.lexists(path)), None)
        removed = 0
        if free is None:
            free = self._files - 1
            removed = _lines(paths[free])
            os.remove(paths[free])  # noqa: PTH107 - it is a str
        for number in range(free, 0, -1):
            os.replace(paths[number - 1], paths[number])  # noqa: PTH105 - they are strs
        return removed

    @contextlib.contextmanager
    def _locked(self) -> Iterator[bool]:
        """Take the lock; give whether it was to be had."""
        # A file beside it, which is not rotated; opened each time, because a forked child shares
        # what its parent has locked.
        descriptor = open_private(f"{self.path}.lock", os.O_RDWR | os.O_CREAT)
        try:
            # Who keeps it once may keep it for good, and is waited for once.
            until = clock.now() + (0.0 if self._is_held else _LOCK_TIMEOUT)
            while not (alone := try_lock(descriptor)) and clock.now() < until:
                time.sleep(0.005)
            self._is_held = not alone
            try:
                yield alone
            finally:
                if alone:
                    unlock(descriptor)
        finally:
            os.close(descriptor)


def _on_a_line(file: io.FileIO, size: int, lines: bytes) -> bytes:
    """Return lines such that they begin on one: who wrote last may have been killed within his."""
    if size:
        file.seek(size - 1)
        if file.read(1) != b"\n":
            return b"\n" + lines
    return lines


def _lines(path: str) -> int:
    """Return how many lines a file has, none where there is no file."""
    count = 0
    # What is no file of this library holds none of its events.
    with contextlib.suppress(OSError), open(open_private(path, os.O_RDONLY), "rb") as file:  # noqa: PTH123 - it is open
        while some := file.read(1_048_576):
            count += some.count(b"\n")
    return count
