"""What happens to emitters at a fork, where they start afresh, and at the end of the process."""

from __future__ import annotations

import atexit
import importlib
import os
import sys
import threading
import time
import weakref
from typing import Final, Protocol

__all__ = ["Processes", "processes"]


class _Emitter(Protocol):
    shutdown_timeout: float

    def after_fork(self) -> None: ...
    def hurry(self) -> None: ...
    def close(self, until: float) -> None: ...
    def join(self) -> None: ...


def _resolve_without_threads() -> None:
    """Have gevent look up addresses without a thread, which may not start any more at exit."""
    if importlib.import_module("gevent.monkey").is_module_patched("socket"):
        hub = importlib.import_module("gevent").get_hub()
        hub.resolver = importlib.import_module("gevent.resolver.blocking").Resolver(hub)


class Processes:
    """What the emitters of a process have in common: its forks and its end."""

    def __init__(self) -> None:
        self.fork_lock = threading.Lock()
        self.exiting = False
        self._emitters: weakref.WeakSet[_Emitter] = weakref.WeakSet()
        self._hooked = False
        self._told: int | None = None  # the child of multiprocessing that closes at its end

    def register(self, emitter: _Emitter) -> None:
        """Have an emitter start afresh after a fork and closed at the end of the process."""
        if not self._hooked:
            self._hooked = True
            # Not `logging.shutdown` alone: `dictConfig` takes handlers off its list.
            atexit.register(self._at_exit)
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=self._after_fork)
        self._await_multiprocessing()
        process = sys.modules.get("multiprocessing.process")
        if process is not None and process.parent_process() and self._told != os.getpid():
            self._begin_child()  # it began before it had an emitter
        self._emitters.add(emitter)

    def _after_fork(self) -> None:
        self.fork_lock = threading.Lock()
        self.exiting = False
        self._await_multiprocessing()
        for emitter in self._emitters:
            emitter.after_fork()

    def _await_multiprocessing(self) -> None:
        """Have a child of multiprocessing close its emitters at its end, which is of its own kind.

        It forgets what was to be done at its end before it begins, so it has to be told then.
        """
        util = sys.modules.get("multiprocessing.util")
        if util is not None:
            util.register_after_fork(self, Processes._begin_child)

    def _begin_child(self) -> None:
        self._told = os.getpid()
        util = sys.modules["multiprocessing.util"]
        util.Finalize(None, self._at_exit, exitpriority=0)

    def _at_exit(self) -> None:
        self.exiting = True
        if "gevent.monkey" in sys.modules:
            _resolve_without_threads()
        start = time.monotonic()
        emitters = list(self._emitters)
        for emitter in emitters:
            emitter.hurry()
        for emitter in emitters:
            emitter.close(start + emitter.shutdown_timeout)
        for emitter in emitters:
            emitter.join()


processes: Final = Processes()
"""This process and its emitters."""
