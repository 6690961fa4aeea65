"""structlog: an event that is a key of a structlog call arrives, whatever renders the line."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from typing import Any, Final, TypeAlias

from snowplow_logging.handler import SnowplowHandler
from snowplow_logging.kept import is_event_object, keep_ids, keep_in_records, text_of

__all__ = ["SnowplowProcessor"]

Renderer: TypeAlias = Callable[[Any, str, Any], Any]

# structlog's own names, and what its methods that have no level of their own log at.
_LEVELS: Final = {"warn": logging.WARNING, "exception": logging.ERROR, "fatal": logging.CRITICAL}


class SnowplowProcessor:
    """A processor that takes the event out of a structlog call and hands it over.

    With a renderer it stands in structlog's processors in the renderer's place, at their end. The
    line is without the event then, and the standard library's record with it, so that every
    handler has it, behind a queue too:

        SnowplowProcessor(structlog.processors.JSONRenderer())
        SnowplowProcessor(structlog.stdlib.ProcessorFormatter.wrap_for_formatter)

    Without a renderer it stands anywhere before the end, and hands the event to the Snowplow
    handlers that a standard logger of the same name has, and so it does for loggers that are not
    the standard library's, such as structlog's own that print.

    An event object may also be the message, `logger.info(PageView(…))`; the line has its text.

    Args:
        renderer: What renders the line.
        event_key: The key of the event, as the handler has it.
    """

    def __init__(self, renderer: Renderer | None = None, *, event_key: str = "snowplow") -> None:
        if renderer is not None and not callable(renderer):
            raise TypeError(f"renderer is {renderer!r}; give a processor, such as JSONRenderer()")
        self._renderer = renderer
        self._event_key = event_key
        keep_ids(event_key)
        keep_in_records()

    def __call__(self, logger: Any, name: str, event_dict: MutableMapping[str, Any]) -> Any:
        """Take the event out, and render the rest."""
        event = event_dict.pop(self._event_key, None)
        message = event_dict.get("event")
        if is_event_object(message):
            event_dict["event"] = text_of(message)
            others = event if isinstance(event, (list, tuple)) else [event]
            event = message if event is None else [*others, message]
        if event is not None and (self._renderer is None or not _is_standard(logger)):
            self._hand_over(logger, name, event_dict, event)
            event = None
        if self._renderer is None:
            return event_dict
        rendered = self._renderer(logger, name, event_dict)
        return rendered if event is None else self._with_event(rendered, event)

    def _with_event(self, rendered: Any, event: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a log call whose record has the event."""
        args: tuple[Any, ...] = (rendered,)
        kwargs: dict[str, Any] = {}
        if isinstance(rendered, tuple) and len(rendered) == 2:
            args, kwargs = rendered
        elif isinstance(rendered, dict):
            args, kwargs = (), rendered
        extra = {**(kwargs.get("extra") or {}), self._event_key: event}
        return args, {**kwargs, "extra": extra}

    def _hand_over(
        self, logger: Any, name: str, event_dict: MutableMapping[str, Any], event: Any
    ) -> None:
        """Give the event to the Snowplow handlers of a logger, and to no other."""
        while isinstance(logger, logging.LoggerAdapter):
            logger = logger.logger
        target = logger if _is_standard(logger) else logging.getLogger(_name(logger, event_dict))
        named = logging.getLevelName(name.upper())
        level = _LEVELS.get(name, named if isinstance(named, int) else logging.INFO)
        if not target.isEnabledFor(level):
            return
        text = str(event_dict.get("event", ""))
        file, line, function = _caller()
        extra = {self._event_key: event}
        record = target.makeRecord(target.name, level, file, line, text, (), None, function, extra)
        passed = target.filter(record)
        if not passed:
            return
        if isinstance(passed, logging.LogRecord):
            record = passed
        for handler in _snowplow_handlers(target):
            if level >= handler.level:
                handler.handle(record)


def _is_standard(logger: Any) -> bool:
    return isinstance(logger, (logging.Logger, logging.LoggerAdapter))


def _caller() -> tuple[str, int, str]:
    """Return file, line and function of the log call, which is outside of structlog.

    An async method logs on a thread of its own, and structlog keeps for it where it was called.
    """
    frame = sys._getframe(1)  # noqa: SLF001
    calling = getattr(sys.modules.get("structlog.contextvars"), "_ASYNC_CALLING_STACK", None)
    if isinstance(calling, ContextVar):
        frame = calling.get(frame)
    while (
        frame.f_globals.get("__name__", "").partition(".")[0] == "structlog"
        or frame.f_code.co_filename == __file__
    ) and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name


def _name(logger: Any, event_dict: MutableMapping[str, Any]) -> str | None:
    name = event_dict.get("logger") or getattr(logger, "name", None)
    return name if isinstance(name, str) else None


def _snowplow_handlers(logger: Any) -> list[SnowplowHandler]:
    """Return the Snowplow handlers that records of a logger come to."""
    found: list[SnowplowHandler] = []
    while logger is not None:
        found += [handler for handler in logger.handlers if isinstance(handler, SnowplowHandler)]
        logger = logger.parent if logger.propagate else None
    return found
