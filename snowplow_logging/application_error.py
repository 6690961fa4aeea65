"""From the exception of a log record to an `application_error` event."""

from __future__ import annotations

import logging
import threading
import traceback
from types import TracebackType
from typing import Any, Final

from snowplow_logging.events import ApplicationError

__all__ = ["application_error"]

# The limits of the schema, application_error 1-0-2, in characters.
_MESSAGE: Final = 2_048
_STACK_TRACE: Final = 8_192
_NAME: Final = 1_024
_MAX_INT: Final = 2**31 - 1

_LONGEST_LINE: Final = 2_000


def application_error(record: logging.LogRecord) -> dict[str, Any] | None:
    """Make an event of a record's exception; None where it has none.

    The file, the line and the class are those of the innermost frame of the exception, or of the
    log call where it was never raised.
    """
    error = record.exc_info[1] if record.exc_info else None
    if error is None and not record.exc_text:
        return None
    event = ApplicationError(
        message=_cut(_message(record, error), _MESSAGE) or "",
        thread_name=_cut(record.threadName, _NAME),
        thread_id=_thread_id(record),
        is_fatal=record.levelno >= logging.CRITICAL,
        file_name=_cut(record.pathname, _NAME),
        line_number=record.lineno,
        # All that is left of an exception behind a `SocketHandler`.
        stack_trace=None if error else _cut_stack_trace(record.exc_text or ""),
    ).as_event_dict()
    if error is not None:
        event.update(_described(error))
    return event


def _message(record: logging.LogRecord, error: BaseException | None) -> str:
    try:
        message = record.getMessage()
    except Exception:  # noqa: BLE001 - arguments that do not fit the message
        message = str(record.msg)
    if message or error is None:
        return message
    return traceback.format_exception_only(type(error), error)[-1].strip()


def _described(error: BaseException) -> dict[str, Any]:
    kind = type(error)
    module = "" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}."
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    described: dict[str, Any] = {
        "exception_name": _cut(f"{module}{kind.__qualname__}", _NAME),
        "stack_trace": _stack_trace(error, chain=False),
        "cause_stack_trace": None if cause is None else _stack_trace(cause, chain=True),
    }
    innermost = error.__traceback__
    while innermost is not None and innermost.tb_next is not None:
        innermost = innermost.tb_next
    if innermost is not None:
        described["file_name"] = _cut(innermost.tb_frame.f_code.co_filename, _NAME)
        described["line_number"] = innermost.tb_lineno
        described["class_name"] = _cut(_class_name(innermost), _NAME)
    return described


def _stack_trace(error: BaseException, *, chain: bool) -> str:
    lines = traceback.format_exception(type(error), error, error.__traceback__, chain=chain)
    return _cut_stack_trace("".join(lines))


def _class_name(innermost: TracebackType) -> str | None:
    """Return the class whose method raised, if it was one's."""
    frame = innermost.tb_frame
    qualified = getattr(frame.f_code, "co_qualname", None)  # from Python 3.11 on
    if isinstance(qualified, str):
        within = qualified.rpartition(".")[0]
        return within if within and not within.endswith("<locals>") else None
    arguments = frame.f_code.co_varnames[: frame.f_code.co_argcount]
    first = frame.f_locals.get(arguments[0]) if arguments else None
    if arguments[:1] == ("self",):
        return type(first).__qualname__
    return first.__qualname__ if arguments[:1] == ("cls",) and isinstance(first, type) else None


def _thread_id(record: logging.LogRecord) -> int | None:
    if record.thread == threading.get_ident():
        return threading.get_native_id()  # as the system knows it; Python's own is too large
    return record.thread if record.thread is not None and record.thread <= _MAX_INT else None


def _clean(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()  # file names may hold lone surrogates


def _cut(text: str | None, limit: int) -> str | None:
    if text is None:
        return None
    text = _clean(text)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _cut_stack_trace(text: str) -> str:
    """Keep the first line and as many of the last, where the exception and its place are."""
    text = _clean(text)
    if len(text) <= _STACK_TRACE:
        return text
    lines = [
        line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - 2]}…\n"
        for line in text.splitlines(keepends=True)
    ]
    room = _STACK_TRACE - len(lines[0]) - 40
    kept = len(lines)
    while kept > 1 and len(lines[kept - 1]) <= room:
        kept -= 1
        room -= len(lines[kept])
    # Begin with a whole frame, if there is one.
    begin = next((i for i in range(kept, len(lines)) if lines[i].startswith("  File ")), kept)
    return "".join([lines[0], f"  [{begin - 1:,} lines cut]\n", *lines[begin:]])
