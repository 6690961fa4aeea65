"""Tells a process from those forked from it, at less cost than to ask the system for its id.

To ask for the process id takes a fiftieth of a log call, and fork hooks are not run by every server
that forks. So the kernel tells: it wipes a page of memory in a child, however that was forked.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Final, Protocol

if sys.platform == "linux":
    import mmap

__all__ = ["NOWHERE", "SameProcess", "same_process"]

_WIPE_ON_FORK: Final = 18  # MADV_WIPEONFORK of madvise(2), since Linux 4.14; not in `mmap`
_UNKNOWN: Final = -1  # no advice at all


class SameProcess(Protocol):
    """Its first item is true in the process that it was made in, and there alone."""

    def __getitem__(self, index: int, /) -> int:
        """Return the first item."""


class _Asking:
    """Asks for the process id."""

    def __init__(self) -> None:
        self._process = os.getpid()

    def __getitem__(self, index: int, /) -> int:
        return self._process == os.getpid()


NOWHERE: Final[SameProcess] = b"\0"
"""What is true in no process."""


def same_process() -> SameProcess:
    """Return what is true in this process, and in none that is forked from it."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, ValueError):
            page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            page.madvise(_WIPE_ON_FORK)
            try:
                page.madvise(_UNKNOWN)
            except OSError:
                page[0] = 1
                return page
            # An emulation, such as QEMU's, that takes every advice and follows none.
    return _Asking()
