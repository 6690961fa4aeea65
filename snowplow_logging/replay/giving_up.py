"""Ending a replay that nobody answers, or whose words nobody reads."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Final, Protocol

__all__ = ["giving_up", "interrupt"]

_LOOK_INTERVAL: Final = 0.2  # seconds between two looks whether a replay gets on
_INTERRUPT_INTERVAL: Final = 1.0  # seconds


def interrupt() -> None:
    """End what the main thread does, though it may wait for a lock or for input, as SIGTERM does.

    Who calls this has a handler for SIGTERM that raises.
    """
    main_thread = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main_thread is not None:
        signal.pthread_kill(main_thread, signal.SIGTERM)
    else:  # Windows, where the wait goes on until the next answer or line
        signal.raise_signal(signal.SIGTERM)


class _Replay(Protocol):
    @property
    def waits(self) -> float: ...
    @property
    def is_over(self) -> bool: ...
    def stop(self, reason: str) -> None: ...


@contextlib.contextmanager
def giving_up(replay: _Replay, seconds: float | None) -> Iterator[None]:
    """Stop a replay of which no event has been taken or refused for some seconds.

    Args:
        replay: The replay, which runs on the main thread.
        seconds: The seconds; None to wait for ever.
    """
    if seconds is None:
        yield
        return
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(min(_LOOK_INTERVAL, seconds)):
            if replay.waits >= seconds:
                replay.stop(f"the collector has answered for nothing in {seconds:g} s")
                # Again and again, for Python swallows what is raised in a finaliser, where the
                # signal may happen to be heard.
                while not replay.is_over:
                    interrupt()
                    ended.wait(_INTERRUPT_INTERVAL)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
