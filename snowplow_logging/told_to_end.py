"""Being told to end by Ctrl-C or SIGTERM, for commands that then have something left to do."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

__all__ = ["told_to_end"]


@contextlib.contextmanager
def told_to_end(by: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have SIGINT and SIGTERM call a function meanwhile, and what they called before afterwards.

    Args:
        by: A signal handler. It is called at any point of the main thread.
    """
    before = [(number, signal.signal(number, by)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
