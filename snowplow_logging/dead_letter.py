"""A file of JSON lines for events that could not be delivered, which `replay` reads."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Final

from snowplow_logging.delivery.waiting import clock

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["DeadLetterFile"]

_MAX_BYTES: Final = 50_000_000
_FILES: Final = 10
_LOCK_TIMEOUT: Final = 2.0  # seconds to wait for who writes or rotates


class DeadLetterFile:
    """Appends events with the reason why they were given up. Threads and processes may share one.

    When the file has reached its size it becomes PATH.1, PATH.1 becomes PATH.2, and so on.

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
        with self._locked():
            if not self._append(lines):
                removed = self._rotate()
                self._append(lines)
        return removed

    def _json(self, event: bytes | Mapping[str, Any]) -> bytes:
        if isinstance(event, bytes):
            return event + b"}"
        return self._write_event(event).encode(errors="backslashreplace")

    def _append(self, lines: bytes) -> bool:
        """Append lines whole, and return False where the file has no room for them."""
        with open(self.path, "a+b", buffering=0) as file:  # noqa: PTH123 - it is a str
            size = file.seek(0, os.SEEK_END)
            if size:
                if size + len(lines) > self._max_bytes:
                    return False
                file.seek(size - 1)
                if file.read(1) != b"\n":  # who wrote it was killed in the middle of a line
                    lines = b"\n" + lines
            left = memoryview(lines)
            try:
                while left:
                    left = left[file.write(left) :]
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(size)  # no part of a line stays where the disk is full
                raise
            return True

    def _rotate(self) -> int:
        """Give each file the next number; return how many events the last one had."""
        last = f"{self.path}.{self._files - 1}" if self._files > 1 else self.path
        removed = _lines(last)
        for number in range(self._files - 1, 0, -1):
            older = f"{self.path}.{number}"
            newer = f"{self.path}.{number - 1}" if number > 1 else self.path
            with contextlib.suppress(FileNotFoundError):
                os.replace(newer, older)  # noqa: PTH105 - they are strs
        if self._files == 1:
            os.remove(self.path)  # noqa: PTH107 - it is a str
        return removed

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # A file beside it, which is not rotated; opened each time, because a forked child shares
        # what its parent has locked.
        with open(f"{self.path}.lock", "ab") as file:  # noqa: PTH123 - it is a str
            until = clock.now() + _LOCK_TIMEOUT
            while not _lock(file.fileno()):
                if clock.now() > until:
                    raise TimeoutError("another process has locked it")
                time.sleep(0.005)
            try:
                yield
            finally:
                _unlock(file.fileno())


def _lines(path: str) -> int:
    """Return how many lines a file has, none where there is no file."""
    count = 0
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:  # noqa: PTH123 - a str
        while some := file.read(1_048_576):
            count += some.count(b"\n")
    return count


if sys.platform == "win32":

    def _lock(descriptor: int) -> bool:
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:

    def _lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        # Not by closing the file alone: a child that was forked meanwhile has it open as well.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
