"""A lock of the operating system on an open file, which goes with the process that held it."""

from __future__ import annotations

import os
import sys

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["try_lock", "unlock"]

if sys.platform == "win32":

    def try_lock(descriptor: int) -> bool:
        """Lock an open file, and tell whether it could be: nobody is waited for."""
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def unlock(descriptor: int) -> None:
        """Let others lock the file."""
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:

    def try_lock(descriptor: int) -> bool:
        """Lock an open file, and tell whether it could be: nobody is waited for."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(descriptor: int) -> None:
        """Let others lock the file."""
        # Not by closing the file alone: a child that was forked meanwhile has it open as well.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
