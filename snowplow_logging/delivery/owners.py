"""Which owners of a store live: each has a lock of the operating system, which goes with it."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Final

from snowplow_logging.delivery.descriptors import identity_of
from snowplow_logging.delivery.waiting import new_lock
from snowplow_logging.private_files import open_private

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["MOST_OWNERS", "OwnerLocks"]

MOST_OWNERS: Final = 1 << 40
"""Owners with a larger number, as a broken file may name them, have no lock."""

_FIRST_LOCK: Final = 0x40000000  # bytes; the locks lie beyond anything that is written
_MARK: Final = b"snowplow-logging: the locks of the store beside this file\n"


class _LockFile:
    """A lock file that this process has open, and what it has locked in it.

    POSIX gives record locks to a process, and takes all of them away as soon as the process closes
    any descriptor of the file. So a process opens the file once for all its stores, and closes it
    only when nothing in it is locked. A forked child inherits the descriptor and none of the
    locks.

    Attributes:
        identity: The device and the inode.
        held: The owners that are locked.
        users: How many `OwnerLocks` use it.
    """

    def __init__(self, path: str) -> None:
        self.descriptor = _open(path)
        status = os.fstat(self.descriptor)
        self.identity = status.st_dev, status.st_ino
        self.held: set[int] = set()
        self.users = 0

    def lock(self, owner: int) -> bool:
        # The process itself is never refused a lock by POSIX.
        if owner in self.held or not 0 <= owner < MOST_OWNERS or not _lock(self.descriptor, owner):
            return False
        self.held.add(owner)
        return True

    def unlock(self, owner: int) -> None:
        self.held.discard(owner)
        with contextlib.suppress(OSError):  # the program may have closed the descriptor
            if self.is_open():
                _unlock(self.descriptor, owner)

    def is_open(self) -> bool:
        """Tell whether the descriptor is still that of this file."""
        return identity_of(self.descriptor) == self.identity


class _LockFiles:
    """The lock files that this process has open, by their device and inode."""

    def __init__(self) -> None:
        self.guard = new_lock()
        self._files: dict[tuple[int, int], _LockFile] = {}
        self._pid = os.getpid()

    def use(self, path: str) -> _LockFile:
        """Return the lock file at a path, opened if this process has not done so yet."""
        with self.guard:
            if self._pid != os.getpid():
                # The parent's descriptors are left alone: a daemon may have closed them, and have
                # opened files of its own under their numbers.
                self._files, self._pid = {}, os.getpid()
            file = None
            with contextlib.suppress(OSError):
                status = os.stat(path)  # noqa: PTH116 - the path is a str
                file = self._files.get((status.st_dev, status.st_ino))
            if file is None or not file.is_open():
                file = _LockFile(path)
                self._files[file.identity] = file
            file.users += 1
            return file

    def leave(self, file: _LockFile) -> None:
        """Close a lock file that nobody uses any more."""
        with self.guard:
            file.users -= 1
            if not file.users and self._files.get(file.identity) is file:
                del self._files[file.identity]
                if file.is_open():
                    os.close(file.descriptor)

    def after_fork(self) -> None:
        self.__init__()  # type: ignore[misc]  # another thread may have held the guard


_files: Final = _LockFiles()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_files.after_fork)


class OwnerLocks:
    """The owners that one store of this process is, or has taken over from dead processes.

    The operating system holds the lock of an owner for the process and takes it away when the
    process ends, however it ends. A process that is only stopped keeps it. No clock is involved,
    and it does not matter whether the number of the process is used again.

    Args:
        path: The lock file; it is made where it does not exist, for its user alone.

    Attributes:
        held: The owners that are locked by this object.

    Raises:
        OSError: The file cannot be opened, or is not a lock file of this library.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.held: set[int] = set()
        self._file = _files.use(path)

    def acquire(self, owner: int) -> bool:
        """Lock an owner, without waiting; return whether nobody else had it.

        Raises:
            OSError: The file system knows no locks.
        """
        with _files.guard:
            if not self._file.lock(owner):
                return False
            self.held.add(owner)
            return True

    def release(self, owner: int) -> None:
        """Unlock an owner that is held."""
        with _files.guard:
            # In this order, so that an interrupt in between leaves it to be released once more.
            self._file.unlock(owner)
            self.held.discard(owner)

    def close(self) -> None:
        """Unlock all owners that are held."""
        with _files.guard:
            for owner in [*self.held]:
                self.release(owner)
            _files.leave(self._file)

    def is_open(self) -> bool:
        """Tell whether the program has left the descriptor alone, which a daemon may close."""
        return self._file.is_open()

    def is_there(self) -> bool:
        """Tell whether the file is still the one at its path, where other processes look."""
        try:
            status = os.stat(self.path)  # noqa: PTH116 - the path is a str
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._file.identity

    def follow(self) -> set[int]:
        """Go over to the file that is now at the path; return the owners that are still held.

        Another process may have locked an owner in the new file meanwhile, and is that owner now.
        """
        old, wanted = self._file, self.held
        with _files.guard:
            self._file, self.held = _files.use(self.path), set()
            for owner in wanted:
                self.acquire(owner)
            for owner in wanted:
                old.unlock(owner)
            _files.leave(old)
        return self.held


def _open(path: str) -> int:
    descriptor = open_private(path, os.O_RDWR | os.O_CREAT)
    try:
        status = os.fstat(descriptor)
        mark = os.pread(descriptor, len(_MARK), 0) if hasattr(os, "pread") else _MARK
        if not _MARK.startswith(mark):
            raise OSError(f"{path} is not a lock file of this library")
        if not status.st_size:
            os.write(descriptor, _MARK)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


if sys.platform == "win32":

    def _lock(descriptor: int, owner: int) -> bool:
        os.lseek(descriptor, _FIRST_LOCK + owner, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(descriptor: int, owner: int) -> None:
        os.lseek(descriptor, _FIRST_LOCK + owner, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:

    def _lock(descriptor: int, owner: int) -> bool:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _FIRST_LOCK + owner)
        except (BlockingIOError, PermissionError):  # POSIX allows either
            return False
        return True

    def _unlock(descriptor: int, owner: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, _FIRST_LOCK + owner)
