"""From the exception of a log record to an `application_error` event."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Iterator
from contextlib import suppress
from types import CodeType, FrameType, FunctionType, TracebackType
from typing import Any, Final

from snowplow_logging.events import ApplicationError
from snowplow_logging.kept import kept_error

__all__ = ["application_error"]

# The limits of the schema, application_error 1-0-2, in characters.
_MESSAGE: Final = 2_048
_STACK_TRACE: Final = 8_192
_NAME: Final = 1_024
_MAX_INT: Final = 2**31 - 1

_LONGEST_PART: Final = 2_000
_NO_EXCEPTION: Final = "NoneType: None"  # what a formatter writes of `exc_info` outside an `except`


def application_error(record: logging.LogRecord) -> dict[str, Any] | None:
    """Make an event of a record's exception; None where it has none.

    The file, the line and the class are those of the innermost frame of the exception, or of the
    log call where it was never raised.
    """
    if (kept := kept_error(record)) is not None:
        return kept
    info = record.exc_info if isinstance(record.exc_info, tuple) else (None, None, None)
    error = info[1]
    # All that is left of an exception behind a `SocketHandler`.
    text = None if record.exc_info else record.exc_text
    if error is None and text in (None, "", _NO_EXCEPTION):
        return None
    event = ApplicationError(
        message=_cut(_message(record, error), _MESSAGE),
        thread_name=_cut(record.threadName, _NAME),
        thread_id=_thread_id(record),
        is_fatal=record.levelno >= logging.CRITICAL,
        file_name=_cut(record.pathname, _NAME),
        line_number=record.lineno,
    ).as_event_dict()
    if error is None:
        event["stack_trace"] = _cut_stack_trace(str(text).splitlines(keepends=True))
    else:
        event.update(_described(error, info[2]))
    return event


def _message(record: logging.LogRecord, error: BaseException | None) -> str:
    for read in (record.getMessage, lambda: str(record.msg)):
        with suppress(Exception):  # arguments that do not fit the message, or anything at all
            if (message := read()) or error is None:
                return message
    return "" if error is None else _summary(error)


def _described(error: BaseException, raised: TracebackType | None) -> dict[str, Any]:
    cause = error.__cause__
    if cause is None and not error.__suppress_context__:
        cause = error.__context__
    described: dict[str, Any] = {
        "exception_name": _cut(_name(error), _NAME),
        "stack_trace": _stack_trace(error, raised, chain=False),
    }
    if cause is not None:
        described["cause_stack_trace"] = _stack_trace(cause, cause.__traceback__, chain=True)
    if raised is not None:
        while raised.tb_next is not None:
            raised = raised.tb_next
        described["file_name"] = _cut(raised.tb_frame.f_code.co_filename, _NAME)
        described["line_number"] = raised.tb_lineno
        described["class_name"] = _cut(_class_name(raised.tb_frame), _NAME)
    return described


def _name(error: BaseException) -> str:
    kind = type(error)
    plain = kind.__module__ in ("builtins", "__main__")
    return kind.__qualname__ if plain else f"{kind.__module__}.{kind.__qualname__}"


def _summary(error: BaseException) -> str:
    text = ""
    with suppress(Exception):  # it is anybody's `__str__`
        text = str(error)
    return f"{_name(error)}: {text}" if text else _name(error)


def _stack_trace(error: BaseException, raised: TracebackType | None, *, chain: bool) -> str:
    try:
        parts = traceback.format_exception(type(error), error, raised, chain=chain)
    except Exception:  # noqa: BLE001 - it is anybody's class of exception
        parts = [*traceback.format_tb(raised), f"{_summary(error)}\n"]
    return _cut_stack_trace(parts)


def _class_name(frame: FrameType) -> str | None:
    """Return the class in whose code an exception was raised, if it was in one's.

    The code of a function inside a method is that of the class, too.
    """
    qualified = getattr(frame.f_code, "co_qualname", None)  # from Python 3.11 on
    if isinstance(qualified, str):
        within = qualified.rpartition(".")[0]
        while within.endswith(".<locals>"):
            within = within.removesuffix(".<locals>").rpartition(".")[0]
        return within or None
    for kind in _classes_near(frame):
        if any(_contains(member, frame.f_code) for member in [*vars(kind).values()]):
            return kind.__qualname__
    return None


def _classes_near(frame: FrameType) -> Iterator[type]:
    """Yield the classes of a frame's first argument, of its `self` or `cls`, and of its module."""
    for name in [*frame.f_code.co_varnames[:1], *frame.f_code.co_freevars]:
        value: Any = frame.f_locals.get(name)
        yield from (value if issubclass(type(value), type) else type(value)).__mro__
    for value in [*frame.f_globals.values()]:
        # Not `isinstance`, which asks a proxy for a class that it may not have now.
        if issubclass(type(value), type):
            yield value


def _contains(member: Any, code: CodeType) -> bool:
    """Tell whether a member of a class is the function of some code, or has it inside."""
    kind = type(member)
    if kind is property:
        return any(_contains(part, code) for part in (member.fget, member.fset, member.fdel))
    if kind in (staticmethod, classmethod):
        member = member.__func__
    found = member.__code__ if type(member) is FunctionType else member
    return type(found) is CodeType and (
        found is code or any(_contains(constant, code) for constant in found.co_consts)
    )


def _thread_id(record: logging.LogRecord) -> int | None:
    if record.thread == threading.get_ident():
        return threading.get_native_id()  # as the system knows it; Python's own is too large
    return record.thread if record.thread is not None and record.thread <= _MAX_INT else None


def _clean(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()  # file names may hold lone surrogates


def _cut(text: Any, limit: int) -> Any:
    if not isinstance(text, str):
        return None
    text = _clean(text)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _cut_stack_trace(parts: list[str]) -> str:
    """Join the parts of a stack trace, a frame or an exception each, and cut it to the limit.

    The first line stays, and as many of the last parts as there is room for, where the exception
    and its place are.
    """
    parts = [_clean(part) for part in parts]
    if sum(map(len, parts)) <= _STACK_TRACE:
        return "".join(parts)
    parts = [
        part if len(part) <= _LONGEST_PART else f"{part[: _LONGEST_PART - 2]}…\n" for part in parts
    ]
    room = _STACK_TRACE - len(parts[0]) - 40
    kept = len(parts)
    while kept > 1 and len(parts[kept - 1]) <= room:
        kept -= 1
        room -= len(parts[kept])
    if kept == 1:
        return "".join(parts)
    # Begin with a whole frame, if there is one.
    first = (i for i in range(kept, len(parts)) if parts[i].lstrip(" |").startswith('File "'))
    begin = next(first, kept)
    lines = sum(part.count("\n") for part in parts[1:begin])
    return "".join([parts[0], f"  [{lines:,} lines cut]\n", *parts[begin:]])
