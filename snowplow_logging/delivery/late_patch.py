"""gevent or eventlet that patch the standard library when threads of ours have already begun."""

from __future__ import annotations

import _thread
import socket
import sys
from types import BuiltinFunctionType
from typing import Final

__all__ = ["LATE", "LatePatch", "has_patched_threads", "stand_still"]

LATE: Final = (
    "{} has patched the standard library after a SnowplowHandler was made: call {} before anything"
    " else is imported, or events may be late or lost"
)
"""What to do about it."""

_PATCHERS: Final = {
    "eventlet.patcher": ("eventlet", "eventlet.monkey_patch()"),
    "gevent.monkey": ("gevent", "gevent.monkey.patch_all()"),
}
_allocate_lock: Final = _thread.allocate_lock  # of a time when nobody may have replaced it


class LatePatch:
    """Knows whether the standard library is still the one that it was when this was made."""

    def __init__(self) -> None:
        self._socket = socket.socket

    @property
    def has_come(self) -> bool:
        """Whether sockets, and with them what threads wait for, have been replaced since."""
        return socket.socket is not self._socket

    @property
    def report(self) -> str:
        """What is to be said of it."""
        who = (names for module, names in _PATCHERS.items() if module in sys.modules)
        return LATE.format(*next(who, ("something", "what does so")))


def has_patched_threads() -> bool:
    """Tell whether what starts threads is gevent's or eventlet's, and may start greenlets."""
    return not isinstance(_thread.start_new_thread, BuiltinFunctionType)


def stand_still() -> None:
    """Have a thread of the operating system's wait for the end of the process.

    What it would do at its end, or with a lock, is a greenlet's now, and raises in a thread.
    """
    lock = _allocate_lock()
    with lock:
        lock.acquire()
