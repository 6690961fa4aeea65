"""What a replay shows: how far it is, where standard error is a terminal, and what goes wrong."""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from snowplow_logging.printable import printable

from .giving_up import interrupt
from .resume_point import COUNTS

__all__ = ["Reports", "Screen"]

_SHOW_INTERVAL: Final = 0.1  # seconds between two looks at the progress
_MOST_SHOWN: Final = {"broken": 20, "refused": 1_000}
"""How many of a kind are shown one by one; of more than these nobody reads each."""
_LONGEST: Final = 2_000  # characters of one


class Screen:
    """Shows how far the replay is, where standard error is a terminal, and what goes wrong.

    Args:
        total: The bytes to read, None where that is not known.

    Attributes:
        shows: Whether standard error is a terminal.
        is_closed: Whether standard error is a pipe that nobody reads any more.
    """

    def __init__(self, total: int | None) -> None:
        self._lock = threading.Lock()
        self.shows = sys.stderr.isatty()
        self.is_closed = False
        self._complaints: Counter[str] = Counter()
        self._bar: Any = None
        self._latest: tuple[int, Mapping[str, int]] = 0, {}
        self._shown_at = -math.inf
        if self.shows:
            try:
                from tqdm import tqdm
            except ImportError:
                return
            form = "{n_fmt} {elapsed}"
            if total is not None:
                form = "{percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt} {elapsed}<{remaining}"
            # No wider than the terminal, and the numbers before anything else that could be cut.
            self._bar = tqdm(
                total=total,
                unit="B",
                unit_scale=True,
                file=sys.stderr,
                bar_format=f"{form}{{postfix}}",
                dynamic_ncols=True,
            )

    def tell(self, message: str) -> None:
        """Write a line.

        Raises:
            BrokenPipeError: Nobody reads it; on another thread than the main one that is
                interrupted, because none but it can end the replay.
        """
        try:
            self._tell(message)
        except BrokenPipeError:
            self.is_closed = True
            if threading.current_thread() is threading.main_thread():
                raise
            interrupt()

    def _tell(self, message: str) -> None:
        if self.is_closed:
            return
        text = printable(message, _LONGEST)
        encoding = sys.stderr.encoding or "utf-8"
        text = text.encode(encoding, "backslashreplace").decode(encoding)
        with self._lock:
            if self._bar is not None:
                self._bar.write(text, file=sys.stderr)
            else:
                clear = "\r\x1b[K" if self.shows else ""
                self._write(f"{clear}{text}\n")

    def complain(self, kind: str, message: str) -> None:
        """Write what is wrong with a line or an event, or only count it where there are many.

        Args:
            kind: `broken` for a line, `refused` for an event.
            message: Where, and what is wrong.
        """
        with self._lock:
            self._complaints[kind] += 1
            count = self._complaints[kind]
        if count <= _MOST_SHOWN[kind]:
            where, _, problem = message.partition(": ")
            self.tell(f"{where}: {kind}: {problem}")

    def show(self, read: int, counts: Mapping[str, int]) -> None:
        """Show how many bytes have been read and what has become of them."""
        self._latest = read, counts
        if time.monotonic() - self._shown_at > _SHOW_INTERVAL:
            self._show()

    def close(self) -> None:
        """Sum up, show how far it has come, and leave the terminal as it was."""
        for kind, most in _MOST_SHOWN.items():
            if (more := self._complaints[kind] - most) > 0:
                self.tell(f"{more:,} more {kind}, after the {most:,} above")
        if not self.shows:
            return
        self._show()
        if self._bar is not None:
            self._bar.close()
        else:
            self._write("\n")

    def _show(self) -> None:
        self._shown_at = time.monotonic()
        read, counts = self._latest
        shown = [name for name in COUNTS if name == "sent" or counts.get(name)]
        numbers = ", ".join(f"{counts.get(name, 0):,} {name}" for name in shown)
        with self._lock:
            if self._bar is not None:
                self._bar.set_postfix_str(numbers, refresh=False)
                self._bar.update(read - self._bar.n)
            else:
                self._write(f"\r\x1b[K{numbers}")

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


class Reports(logging.Handler):
    """Shows what the emitter reports, such as that the collector does not answer."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell
        self.is_quiet = False

    def emit(self, record: logging.LogRecord) -> None:
        """Show a report."""
        if not self.is_quiet:
            self._tell(record.getMessage())
