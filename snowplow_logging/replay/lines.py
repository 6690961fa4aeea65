"""Reads the lines of files that may come from anywhere: plain, gzipped, or wrapped."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .containers import Unwrapping
from .resume_point import Point, ReplayError

__all__ = ["LONGEST_LINE", "Line", "Lines"]

LONGEST_LINE: Final = 10_000_000
"""Bytes of the longest line that is read: ten times what the collector takes of one event."""

_AT_ONCE: Final = 65_536  # bytes of a longer one that are read at once
_GZIP: Final = b"\x1f\x8b"
_SQLITE: Final = b"SQLite format 3\0"
_READ_ERRORS: Final = (OSError, EOFError, zlib.error)


@dataclass(frozen=True)
class Line:
    """A line of a file.

    Attributes:
        where: Its file and number.
        text: What is in it.
        end: The point after it; None where the next run is to begin before it.
        is_cut: Whether its end is missing, and the next run may find it written.
        problem: Why it cannot be read, if it cannot.
    """

    where: str
    text: bytes
    end: Point | None
    is_cut: bool = False
    problem: str | None = None


class Lines:
    """The lines of files, one file after the other, from a point on.

    A line that a container runtime has wrapped is given without that, and one that it has split is
    given as one, at the place of its last part.

    Args:
        files: Paths of files, gzipped or not, or of stores that were set aside; `-` is standard
            input.
        event_key: The key of a line that holds its event.
        start: The point that a run before has come to.
        show: Told how many bytes have been read; None where nobody looks.
        goes_on: Whether another run goes on where this one ends, so that what is not finished may
            be left for it.
    """

    def __init__(
        self,
        files: Sequence[str],
        event_key: str,
        start: Point,
        show: Callable[[int], None] | None,
        *,
        goes_on: bool,
    ) -> None:
        self._files = files
        self._event_key = event_key
        self._start = start
        self._show = show
        self._goes_on = goes_on
        self._may_grow = False  # whether the file that is read is written to, and is read again
        self._read = 0  # bytes of all files before the one that is read
        self._unwrapping = Unwrapping(event_key, LONGEST_LINE)
        self._split_at = ""
        self._holds = False

    @property
    def is_open(self) -> bool:
        """Whether a line was split, and its last part is left for the next run."""
        return self._unwrapping.is_open and self._may_grow

    def hold(self) -> None:
        """Have the next run begin before the last line, whatever comes after it."""
        self._holds = True

    def __iter__(self) -> Iterator[Line]:
        """Read.

        Raises:
            ReplayError: The point is that of another input.
        """
        start, point = self._start, Point()
        for file in self._files:
            number = 0
            try:
                for text, end, is_cut in self._physical(file, point):
                    number, point = number + 1, end
                    if point.lines > start.lines:
                        yield from self._unwrapped(f"{file}:{number}", text, point, is_cut=is_cut)
                    elif point.lines == start.lines and point != start:
                        raise ReplayError("the resume point is that of another input")
            except _READ_ERRORS as error:
                problem = f"cannot be read on: {error}"
                yield Line(f"{file}:{number + 1}", b"", self._end(point), problem=problem)
        if point.lines < start.lines:
            raise ReplayError("the resume point is that of another input, which was longer")
        if self._unwrapping.is_open and not self._may_grow:
            problem = "has no end: a container runtime has split it, and its last part is missing"
            yield Line(self._split_at, b"", None, problem=problem)

    def _end(self, point: Point) -> Point | None:
        return None if self._holds or self._unwrapping.is_open else point

    def _unwrapped(
        self, where: str, text: bytes | None, point: Point, *, is_cut: bool
    ) -> Iterator[Line]:
        if text is None:
            yield Line(where, b"", self._end(point), problem=_too_long())
            return
        if not self._unwrapping.is_open:
            self._split_at = where
        # Docker's JSON is finished where it ends; CRI's text may go on, whatever is there of it.
        may_be_wrapped = not is_cut or text.lstrip().startswith(b"{")
        inner = self._unwrapping.take(text) if may_be_wrapped else None
        if inner is None:
            yield Line(where, text, self._end(point), is_cut)
        elif inner.is_too_long:
            yield Line(where, b"", self._end(point), problem=_too_long())
        elif inner.text is not None:
            yield Line(where, inner.text, self._end(point))

    def _physical(self, file: str, point: Point) -> Iterator[tuple[bytes | None, Point, bool]]:
        """Return each line of a file, None where it is too long, its end, and whether it is cut."""
        with contextlib.ExitStack() as opened:
            raw = sys.stdin.buffer if file == "-" else opened.enter_context(Path(file).open("rb"))
            # Of a pipe one byte may be all that is there yet, but no line of JSON begins like it.
            begin = raw.peek(16)[:16] if isinstance(raw, io.BufferedReader) else b""
            if begin == _SQLITE and file != "-":
                self._may_grow = False
                for line in _stored_lines(file, self._event_key):
                    point = point.after(line)
                    yield line, point, False
                return
            begin = begin[:2]
            zipped = bool(begin) and _GZIP.startswith(begin)
            stream: Any = gzip.GzipFile(fileobj=raw) if zipped else raw
            seekable, piped = raw.seekable(), 0
            # What is zipped or piped is not written to any more.
            self._may_grow = self._goes_on and seekable and not zipped
            while line := stream.readline(LONGEST_LINE + 1):
                before, point = point, point.within(line)
                is_whole = line.endswith(b"\n")
                text: bytes | None = line
                if not is_whole and len(line) > LONGEST_LINE:
                    text = None
                    while not is_whole and (part := stream.readline(_AT_ONCE)):
                        point, is_whole = point.within(part), part.endswith(b"\n")
                if not is_whole:
                    # As it will be once it is finished, for the run that goes on after it.
                    point = point.within(b"\n")
                point = point.ended()
                yield text, point, not is_whole and self._may_grow and text is not None
                piped += point.size - before.size
                if self._show is not None:
                    self._show(self._read + (raw.tell() if seekable else piped))
            self._read += raw.tell() if seekable else piped


def _too_long() -> str:
    return f"has more than {LONGEST_LINE:,} bytes, the most that a line may have"


def _stored_lines(file: str, event_key: str) -> Iterator[bytes]:
    """Return the events of a store that was set aside, as lines."""
    import sqlite3

    from snowplow_logging.delivery.salvage import readable_payloads
    from snowplow_logging.delivery.store_file import StoreError, connect_read_only, look

    key = json.dumps(event_key).encode()
    path = os.path.abspath(file)  # noqa: PTH100 - `resolve` would follow links
    try:
        look(path)
        with contextlib.closing(connect_read_only(path)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")  # it may be anybody's
            if sys.version_info >= (3, 11):
                connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_LINE)
            for payload in readable_payloads(connection):
                yield b"{%s: %s}}\n" % (key, payload)
    except (StoreError, sqlite3.Error) as error:
        raise OSError(str(error)) from None
