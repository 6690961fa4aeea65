"""Room on the disk that is kept for the time when there is no other, to empty a store with."""

from __future__ import annotations

import contextlib
import os
from io import FileIO
from typing import Final

from snowplow_logging.private_files import open_private

__all__ = ["Reserve"]

_MARK: Final = b"snowplow-logging: room in reserve for the store beside this file\n"
_AT_ONCE: Final = 65_536  # bytes


class Reserve:
    """A file that only takes room.

    To remove events from a database takes room on the disk as well: SQLite writes the pages that
    change into the WAL, and moves what is in the WAL into the file. On a disk that the store itself
    has filled it would stay full for ever. So nothing is added while the reserve cannot be kept,
    and it is given up once something has to be removed.

    Args:
        path: Where it is.
        size: How many bytes it takes.
    """

    def __init__(self, path: str, size: int) -> None:
        self._path = path
        self._size = size
        self._kept = 0

    def keep(self, least: int) -> None:
        """Take the room, if it is not taken.

        Args:
            least: The bytes that it has to take in any case.

        Raises:
            OSError: There is not so much; it is as it was before.
        """
        size = max(least, self._size)
        if self._kept >= size and os.path.exists(self._path):
            return
        with open(self._path, "r+b", buffering=0, opener=_open) as file:
            if not _MARK.startswith(_read_start(file)):
                raise OSError(f"{self._path} is not a file of this library")
            before = self._kept = os.fstat(file.fileno()).st_size
            try:
                if not self._kept:
                    self._kept = _write(file, _MARK, 0)
                if hasattr(os, "posix_fallocate"):
                    with contextlib.suppress(OSError):  # not every file system can
                        os.posix_fallocate(file.fileno(), 0, size)
                        self._kept = size
                while self._kept < size:  # zeros, and not a hole, which would take no room
                    zeros = bytes(min(size - self._kept, _AT_ONCE))
                    self._kept += _write(file, zeros, self._kept)
            except OSError:
                if not before:
                    self.give_up()
                else:  # what there was is kept: given up, it could be taken by another program
                    self._kept = before
                    file.truncate(before)
                raise

    def give_up(self) -> bool:
        """Give the room back; return whether there was any."""
        self._kept = 0
        # Safely here, too: a pipe in the place of the file would be waited for without end.
        with (
            contextlib.suppress(OSError),
            open(self._path, "rb", buffering=0, opener=_open_to_read) as file,
        ):
            if _read_start(file) == _MARK:
                os.remove(self._path)  # noqa: PTH107 - it is a str
                return True
        return False


# Where a signal handler forks amid these, parent and child share the place in the file, and
# each would move the other's. So places are named. On Windows, without such calls, nothing forks.


def _read_start(file: FileIO) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(file.fileno(), len(_MARK), 0)
    return file.read(len(_MARK))


def _write(file: FileIO, data: bytes, place: int) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(file.fileno(), data, place)
    file.seek(place)
    return file.write(data)


def _open_to_read(path: str, _: int) -> int:
    return open_private(path, os.O_RDONLY)


def _open(path: str, _: int) -> int:
    return open_private(path, os.O_RDWR | os.O_CREAT)
