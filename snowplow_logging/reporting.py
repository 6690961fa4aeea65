"""What goes wrong, written to the logger `snowplow_logging`, or to standard error."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import sys
from collections.abc import Iterator
from logging.handlers import QueueListener
from typing import Final

from snowplow_logging.delivery.waiting import clock

__all__ = [
    "INTERVAL",
    "LOGGER_NAME",
    "counted",
    "report",
    "report_seldom",
    "show_behind_queue",
    "would_show",
]

LOGGER_NAME: Final = "snowplow_logging"
"""The logger of all reports. No Snowplow handler takes a record of it."""

INTERVAL: Final = 60.0
"""Seconds between two reports of one kind."""

_logger: Final = logging.getLogger(LOGGER_NAME)
_reported: Final[dict[str, float]] = {}  # when, by kind


def counted(count: int, one: str, many: str) -> str:
    """Return a number with the words that go with it, as in "1 event waits" and "2 events wait"."""
    return f"{count:,} {one if count == 1 else many}"


def report(message: str) -> None:
    """Write a report to the logger, and to standard error where no handler would show it.

    Python does the second for a logger without handlers. Here it is done as well where there are
    some, but none that shows anything: Snowplow handlers, and handlers whose level or filters hold
    a warning back. Who wants silence gives the logger a higher level, or a `NullHandler`.

    Args:
        message: The report.
    """
    if not _is_enabled():
        return
    record = _record(message)
    if not _logger.filter(record):
        return
    # Not `Logger.warning`: a `dictConfig` that disables existing loggers means those of programs
    # that it replaces, and would silence what was found out about its own handlers.
    with contextlib.suppress(Exception):  # a handler of others may raise
        if any(True for _ in _handlers(_logger)):  # else Python itself would write the bare message
            _logger.callHandlers(record)
    if not _shows(record):
        _write(message)


def report_seldom(kind: str, *messages: str) -> None:
    """Write reports, unless there were some of their kind in the last minute.

    Args:
        kind: What tells them from others.
        *messages: The reports.
    """
    now = clock.now()
    if messages and now - _reported.get(kind, -math.inf) >= INTERVAL:
        _reported[kind] = now
        for message in messages:
            report(message)


def show_behind_queue(record: logging.LogRecord) -> None:
    """Write a report that came to a Snowplow handler, if it came with others to no other handler.

    A `QueueHandler` knows nothing of what stands behind its queue. Whoever reads that, perhaps in
    another process, gives a record to all of its handlers, and is found by who has called.

    Args:
        record: The report.
    """
    frame = sys._getframe(1)  # noqa: SLF001 - the one way to learn who calls
    while frame.f_back is not None:
        frame = frame.f_back
        listener = frame.f_locals.get("self")
        if isinstance(listener, QueueListener):
            if not any(_lets_see(handler, record) for handler in listener.handlers):
                _write(record.getMessage())
            return
        if not isinstance(listener, logging.Handler):
            return


def would_show() -> bool:
    """Tell whether a report would come to anyone by a handler, and not by standard error."""
    return not _is_enabled() or _shows(_record(""))


def _is_enabled() -> bool:
    level = logging.WARNING
    return _logger.manager.disable < level and level >= _logger.getEffectiveLevel()


def _record(message: str) -> logging.LogRecord:
    return _logger.makeRecord(
        LOGGER_NAME, logging.WARNING, __file__, 0, "%s", (message,), None, "report"
    )


def _shows(record: logging.LogRecord) -> bool:
    return any(_lets_see(handler, record) for handler in _handlers(_logger))


def _handlers(logger: logging.Logger | None) -> Iterator[logging.Handler]:
    """Yield the handlers to which a logger's records go."""
    while logger is not None:
        yield from [*logger.handlers]
        logger = logger.parent if logger.propagate else None


def _lets_see(handler: logging.Handler, record: logging.LogRecord) -> bool:
    """Tell whether a handler does something with a report."""
    if isinstance(handler, logging.NullHandler):
        return True  # that is how a program says that it does not want to know
    if record.levelno < handler.level or not getattr(handler, "shows_reports", True):
        return False
    target = getattr(handler, "target", None)  # of a `MemoryHandler`
    if isinstance(target, logging.Handler) and not _lets_see(target, record):
        return False
    try:
        return bool(handler.filter(copy.copy(record)))
    except Exception:  # noqa: BLE001 - a filter of others may raise, and then nothing is shown
        return False


def _write(message: str) -> None:
    if logging.lastResort is None or logging.lastResort.level > logging.WARNING:
        return  # the program wants nothing of the kind
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):  # it may be closed
            sys.stderr.write(f"{LOGGER_NAME}: {message}\n")
