"""What goes wrong, written to the logger `snowplow_logging`, or to standard error."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import sys
from collections.abc import Iterator
from logging.handlers import MemoryHandler, QueueListener
from typing import Any, Final

from snowplow_logging.delivery.waiting import clock

__all__ = [
    "INTERVAL",
    "LOGGER_NAME",
    "counted",
    "handed_on",
    "report",
    "report_seldom",
    "see_returned",
    "show_behind_queue",
    "would_show",
]

LOGGER_NAME: Final = "snowplow_logging"
"""The logger of all reports. No Snowplow handler takes a record of it."""

INTERVAL: Final = 60.0
"""Seconds between two reports of one kind."""

_logger: Final = logging.getLogger(LOGGER_NAME)
_reported: Final[dict[str, float]] = {}  # when, by kind

handed_on: Final[dict[str, float]] = {}
"""Reports that went to handlers which may hand them on to no other than ours, with the time."""


def counted(count: int, one: str, many: str) -> str:
    """Return a number with the words that go with it, as in "1 event waits" and "2 events wait"."""
    return f"{count:,} {one if count == 1 else many}"


def report(message: str) -> None:
    """Write a report to the logger, and to standard error where no handler would show it.

    Python does the second for a logger without handlers. Here it is done as well where there are
    some, but none that shows anything: Snowplow handlers, handlers whose level or filters hold a
    warning back, and such as hand it on to one of these, see `see_returned`. Who wants silence
    gives the logger a higher level, or a `NullHandler`.

    Args:
        message: The report.
    """
    if not _is_enabled():
        return
    record = _record(message)
    if not _logger.filter(record):
        return
    showing = _showing(record)
    if showing and not any(map(_is_the_end, showing)):
        _forget_old()
        handed_on[message] = clock.now()  # first, for it may return at once
    # Not `Logger.warning`: a `dictConfig` that disables existing loggers means those of programs
    # that it replaces, and would silence what was found out about its own handlers.
    with contextlib.suppress(Exception):  # a handler of others may raise
        if any(True for _ in _handlers(_logger)):  # else Python itself would write the bare message
            _logger.callHandlers(record)
    if not showing:
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


def see_returned(record: logging.LogRecord) -> None:
    """Write a report that was handed on to a Snowplow handler, which shows none.

    loguru's recipe for records of the standard library makes a record of its own of each, and has
    its sinks take that, perhaps on another thread; others may do the like.

    Args:
        record: Any record, while reports were handed on.
    """
    _forget_old()
    with contextlib.suppress(Exception):  # it is anybody's record
        text = record.getMessage()
        for message in [*handed_on]:
            # By one thread alone, where several come here at once.
            is_back = message in text and handed_on.pop(message, None) is not None
            if is_back and not _is_shown_by_loguru(record):
                _write(message)


def _forget_old() -> None:
    """Take those that have not come back to be shown."""
    for message, since in [*handed_on.items()]:
        if clock.now() - since > INTERVAL:
            handed_on.pop(message, None)


def _is_shown_by_loguru(record: logging.LogRecord) -> bool:
    """Tell whether a record is of loguru's making, and loguru has another sink that shows it."""
    if "extra" not in record.__dict__:
        return False
    # It has no public way to ask for them; what fails is left to who has called.
    sinks = sys.modules["loguru"].logger._core.handlers.values()  # noqa: SLF001
    return any(
        sink.levelno <= logging.WARNING
        and getattr(getattr(sink._sink, "_handler", None), "shows_reports", True)  # noqa: SLF001
        for sink in [*sinks]
    )


def show_behind_queue(record: logging.LogRecord) -> None:
    """Write a report that came to a Snowplow handler, if it came with others to no other handler.

    A `QueueHandler` knows nothing of what stands behind its queue. Whoever reads that, perhaps in
    another process, gives a record to all of its handlers, and is found by who has called. So is a
    handler that hands on what it gets.

    Args:
        record: The report.
    """
    frame = sys._getframe(1)  # noqa: SLF001 - the one way to learn who calls
    first: Any = frame.f_locals.get("self")
    while frame.f_back is not None:
        frame = frame.f_back
        listener = frame.f_locals.get("self")
        if isinstance(listener, QueueListener):
            if not any(_lets_see(handler, record) for handler in listener.handlers):
                _write(record.getMessage())
            return
        if not isinstance(listener, logging.Handler):
            return
        if listener is not first and handed_on:
            see_returned(record)
            return


def would_show() -> bool:
    """Tell whether a report would come to anyone by a handler, and not by standard error."""
    return not _is_enabled() or bool(_showing(_record("")))


def _is_enabled() -> bool:
    level = logging.WARNING
    return _logger.manager.disable < level and level >= _logger.getEffectiveLevel()


def _record(message: str) -> logging.LogRecord:
    return _logger.makeRecord(
        LOGGER_NAME, logging.WARNING, __file__, 0, "%s", (message,), None, "report"
    )


def _showing(record: logging.LogRecord) -> list[logging.Handler]:
    """Return the handlers that do something with a report."""
    return [handler for handler in _handlers(_logger) if _lets_see(handler, record)]


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
    if isinstance(target, logging.Handler):
        if not _lets_see(target, record):
            return False
    elif isinstance(handler, MemoryHandler):
        return False  # it keeps what it gets to itself
    try:
        return bool(handler.filter(copy.copy(record)))
    except Exception:  # noqa: BLE001 - a filter of others may raise, and then nothing is shown
        return False


def _is_the_end(handler: logging.Handler) -> bool:
    """Tell whether a handler hands nothing on, as one of a class that is not Python's may do."""
    emit = getattr(type(handler), "emit", None)  # what only looks like a handler may have none
    is_standard = getattr(emit, "__module__", None) in ("logging", "logging.handlers")
    return is_standard and not isinstance(handler, MemoryHandler)


def _write(message: str) -> None:
    if logging.lastResort is None or logging.lastResort.level > logging.WARNING:
        return  # the program wants nothing of the kind
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):  # it may be closed
            sys.stderr.write(f"{LOGGER_NAME}: {message}\n")
