"""SIGTERM, for handlers that want to deliver what is queued before it ends the process."""

from __future__ import annotations

import os
import signal
import threading
import weakref
from types import FrameType
from typing import Any, Final

from snowplow_logging.lifecycle import lifecycle

__all__ = ["sigterm"]


class Sigterm:
    """Stands in for the default action of SIGTERM as long as anybody wants it.

    What a program has for SIGTERM itself, or comes to have, is left alone. A child that is forked
    inherits it, and delivers its own events.
    """

    def __init__(self) -> None:
        self._wanted_by: weakref.WeakSet[Any] = weakref.WeakSet()

    def want(self, who: object) -> str | None:
        """Have the events delivered at SIGTERM.

        Args:
            who: Wants it until it is collected, or calls `release`.

        Returns:
            Why that cannot be; None where it can, or where the program has its own way.
        """
        if threading.current_thread() is not threading.main_thread():
            return "the handler was not made on the main thread, where Python takes signals"
        try:
            if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                signal.signal(signal.SIGTERM, self._end)
        except ValueError as error:  # this is no main interpreter
            return str(error)
        self._wanted_by.add(who)
        return None

    def release(self, who: object) -> None:
        """Put the default action back once nobody wants anything else any more."""
        self._wanted_by.discard(who)
        is_ours = signal.getsignal(signal.SIGTERM) == self._end
        is_main = threading.current_thread() is threading.main_thread()
        if is_ours and is_main and not self._wanted_by and not lifecycle.is_ending:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _end(self, number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # so that a second one ends the process at once
        if os.getpid() != 1:
            lifecycle.end_by(number)
            return
        # The first process of a container is not ended by a signal with the default action, and
        # goes on until it is killed.
        lifecycle.flush(None)
        os.kill(os.getpid(), number)
        signal.signal(number, self._end)


sigterm: Final = Sigterm()
"""SIGTERM in this process."""
