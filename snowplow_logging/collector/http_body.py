"""What comes over a connection: in a time that has an end, and in the length that it says."""

from __future__ import annotations

import io
import re
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from .protocol import BODY_LIMIT, HEADERS_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable
    from email.message import Message

__all__ = ["BadBody", "TimedReader", "monotonic", "read_body"]

# In a partial, because freezegun replaces what a module refers to directly.
monotonic: Final = partial(time.monotonic)

_BLOCK: Final = 65_536
_LONGEST_CHUNK_LINE: Final = 4_096
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_CHUNK_LENGTH: Final = re.compile(rb"[0-9A-Fa-f]{1,16}")


class BadBody(Exception):
    """A body cannot be read; what comes after it cannot be told from it.

    Args:
        status: The status to answer with.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class TimedReader(io.RawIOBase):
    """Reads from a socket, as long as a client has time to begin a request, and to end it.

    A time for each read alone would let a client that sends a byte now and then stay for ever.

    Args:
        connection: The socket.
        seconds: How long a request may be waited for, and how long it may then take.
        begun: Called when the first byte of a request has come.
    """

    def __init__(
        self, connection: socket.socket, seconds: float, begun: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._seconds = seconds
        self._begun = begun
        self._waits = True
        self._until = monotonic() + seconds

    def expect(self) -> None:
        """Wait for a request from now on."""
        self._waits = True
        self._until = monotonic() + self._seconds

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what there is.

        Raises:
            TimeoutError: The time is up.
        """
        left = self._until - monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._connection.settimeout(left)
        count = self._connection.recv_into(buffer)
        if count and self._waits:
            self._waits = False
            self._until = monotonic() + self._seconds
            self._begun()
        return count


def read_body(stream: io.BufferedIOBase, headers: Message) -> bytes | None:
    """Read a whole body, so that the next request begins where this one ends.

    Returns:
        The body, or None where it is larger than the collector takes.

    Raises:
        BadBody: Its length is not said, or in more than one way.
        ConnectionAbortedError: The client went away before its end.
    """
    lengths = set(headers.get_all("Content-Length", ()))
    codings = headers.get_all("Transfer-Encoding", ())
    kept = _Kept()
    if codings:
        if [coding.strip().lower() for coding in codings] != ["chunked"]:
            raise BadBody(501)
        if lengths:
            raise BadBody(400)
        _read_chunks(stream, kept)
    elif lengths:
        length = lengths.pop().strip()
        if lengths or not _LENGTH.fullmatch(length):
            raise BadBody(400)
        _read_exactly(stream, int(length), kept)
    return kept.body


class _Kept:
    """What is kept of a body: all of it, or nothing once it is too large."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._size = 0

    def add(self, block: bytes) -> None:
        self._size += len(block)
        if self._size <= BODY_LIMIT:
            self._blocks.append(block)
        else:
            self._blocks.clear()

    @property
    def body(self) -> bytes | None:
        return b"".join(self._blocks) if self._size <= BODY_LIMIT else None


def _read_exactly(stream: io.BufferedIOBase, length: int, kept: _Kept) -> None:
    while length:
        block = stream.read1(min(length, _BLOCK))
        if not block:
            raise ConnectionAbortedError("the client went away in the middle of a body")
        length -= len(block)
        kept.add(block)


def _read_chunks(stream: io.BufferedIOBase, kept: _Kept) -> None:
    """Read a body in chunks (RFC 9112, 7.1).

    Not by werkzeug's `DechunkedInput`: where a client goes away inside a chunk, that gives
    `RawIOBase.read` fewer bytes than it says, and the process reads beyond the end of its memory.
    """
    while True:
        digits = _line(stream).partition(b";")[0].strip(b" \t")
        if not _CHUNK_LENGTH.fullmatch(digits):
            raise BadBody(400)
        length = int(digits, 16)
        if not length:
            break
        _read_exactly(stream, length, kept)
        if _line(stream):
            raise BadBody(400)
    size = 0
    while trailer := _line(stream):
        size += len(trailer) + len("\r\n")
        if size > HEADERS_LIMIT:
            raise BadBody(431)


def _line(stream: io.BufferedIOBase) -> bytes:
    line = stream.readline(_LONGEST_CHUNK_LINE)
    if not line:
        raise ConnectionAbortedError("the client went away in the middle of a body")
    if not line.endswith(b"\n"):
        if len(line) < _LONGEST_CHUNK_LINE:
            raise ConnectionAbortedError("the client went away in the middle of a body")
        raise BadBody(400)
    return line.rstrip(b"\r\n")
