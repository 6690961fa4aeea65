"""What a file descriptor stands for, which may have changed since it was opened.

A daemon forks, closes all that it has inherited and opens files of its own, which get the numbers.
"""

from __future__ import annotations

import os

__all__ = ["identity_of"]


def identity_of(descriptor: int) -> tuple[int, int] | None:
    """Return what tells an open file or socket from others; None where nothing is open."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino
