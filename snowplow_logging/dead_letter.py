"""A file of JSON lines for events that could not be delivered, which `replay` reads."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from logging.handlers import RotatingFileHandler
from typing import Any, Final

from snowplow_logging.formatter import SnowplowJsonFormatter

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

__all__ = ["DeadLetterFile"]

_MAX_BYTES: Final = 50_000_000
_FILES: Final = 10
"""When the file has reached its size it becomes PATH.1, PATH.1 becomes PATH.2, and so on."""


class DeadLetterFile:
    """Appends events with the reason why they were given up. Processes may share a file.

    Args:
        path: The file; it is made when the first event is given up.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._handler = _File(
            self.path, maxBytes=_MAX_BYTES, backupCount=_FILES - 1, encoding="utf-8", delay=True
        )
        self._handler.setFormatter(
            SnowplowJsonFormatter("{levelname}{message}", style="{", timestamp=True)
        )

    def write(self, events: Sequence[Mapping[str, Any]], reason: str) -> None:
        """Append events, each as it was logged or as it was sent.

        Args:
            events: The events.
            reason: Why they were given up.

        Raises:
            OSError: The file cannot be written.
        """
        with self._locked():
            try:
                for event in events:
                    record = logging.LogRecord(
                        "snowplow_logging", logging.ERROR, "", 0, "%s", (reason,), None
                    )
                    record.snowplow = event
                    self._handler.emit(record)
            finally:
                # Another process may rename it before the next event is given up.
                self._handler.leave()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # Opened each time, because a forked child shares what its parent has locked.
        with open(f"{self.path}.lock", "ab") as lock:  # noqa: PTH123 - it is a str
            if os.name == "nt":
                msvcrt.locking(lock.fileno(), msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined]
            else:
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield  # closing the file gives up the lock


class _File(RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802
        raise  # noqa: PLE0704 - it is called while the error is being handled

    def leave(self) -> None:
        """Close the file until the next record."""
        if self.stream is not None:
            self.stream.close()
            self.stream = None
