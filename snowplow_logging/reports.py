"""Reports of what goes wrong outside of any handler, on the logger `snowplow_logging`."""

from __future__ import annotations

import logging
import math
from typing import Final

from snowplow_logging.delivery.waiting import clock

__all__ = ["report"]

_INTERVAL: Final = 60.0  # seconds between two reports of one kind
_reported: Final[dict[str, float]] = {}  # when, by kind


def report(kind: str, message: str) -> None:
    """Report something, unless something of its kind was in the last minute.

    Args:
        kind: What tells it from others.
        message: What went wrong, and what to do about it.
    """
    now = clock.now()
    if now - _reported.get(kind, -math.inf) >= _INTERVAL:
        _reported[kind] = now
        logging.getLogger("snowplow_logging").warning("%s", message)
