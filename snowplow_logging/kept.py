"""What a log record keeps through copies: its events with their ids, what was bound, its error.

Every handler and formatter that sees a record, or a copy of it in another thread or process, has
to come to the same event with the same event id. The standard library copies records in many ways
(`copy.copy` in `QueueHandler`, `pickle` between processes, a record's bare attributes in
`SocketHandler` and `makeLogRecord`), most of them before any code of this package has seen the
record. And formatters write whatever attributes they find, so that none is added to a record.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections import UserString
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, cast

from snowplow_logging.copies import fixed
from snowplow_logging.event_ids import (
    IdentifiedEvent,
    MessageText,
    event_of_text,
    id_of,
    is_absent,
    keep_log_call,
    log_call_of,
    new_id,
    with_id,
    with_this_id,
)
from snowplow_logging.surroundings import Bound, Layer, innermost_layer, surroundings

__all__ = [
    "bound_to",
    "error_id_of",
    "give_ids",
    "is_event_object",
    "keep_ids",
    "keep_in_records",
    "keeps_nothing",
    "kept_error",
    "lift",
    "message_event",
    "text_of",
]


def give_ids(record: logging.LogRecord, *event_keys: str) -> None:
    """Give an id to each event of a record that has none yet, in the record itself.

    An event object in an attribute becomes a dict, which any formatter can write.

    Args:
        record: The record; its message may be an event, too.
        *event_keys: The attributes of the record that may hold events.
    """
    attributes = record.__dict__
    if type(record) is _Record:
        record.settle()  # now, and not when a handler in another thread comes to it
    try:
        message = record.msg
        if type(message) is dict:
            for key in event_keys:
                if attributes.get(key) is None:
                    lift(record, key)
        for key in event_keys:
            value = attributes.get(key)
            if value is not None and (given := with_id(value, record.process)) is not value:
                attributes[key] = given
        if type(message) is not str and is_event_object(message):
            if isinstance(record, _Record):
                record.id_of_message()  # beside the message, which stays the object it is
            else:
                _take_out(record, message, event_keys)
    except Exception:  # noqa: BLE001 - it may be anything, and the check says what is wrong
        return


def _fix(record: logging.LogRecord) -> None:
    """Fix the events of a record that is about to be copied or pickled, to be seen later."""
    give_ids(record, *_event_keys)
    attributes = record.__dict__
    for key in _event_keys:
        if (event := attributes.get(key)) is not None:
            attributes[key] = fixed(event)


def is_event_object(value: Any) -> bool:
    """Tell whether something is an event as an object, which may be a message."""
    return hasattr(type(value), "as_event_dict")  # not of itself: objects may say yes to all


def text_of(event: Any) -> str:
    """Return the text of an event object, and nothing else with it."""
    return str.__str__(str(event))


def _take_out(record: logging.LogRecord, message: Any, event_keys: Sequence[str]) -> None:
    """Put an event that is the message into the attributes, and leave its text as the message.

    A record of a class of the program's own has no place for it that outlives a `QueueHandler`,
    which makes text of the message.
    """
    attributes = record.__dict__
    event = with_id(message, record.process)
    text = text_of(message)
    for key in event_keys:
        value = attributes.get(key)
        others = value if isinstance(value, (list, tuple)) else [value]
        attributes[key] = event if value is None else [*others, event]
    record.msg = text


def lift(record: logging.LogRecord, event_key: str) -> bool:
    """Put an event into the record that another library has put where no handler looks.

    That is loguru's `extra`, a dict in the record's attribute of that name, and a dict that is the
    message, as `structlog.stdlib.ProcessorFormatter` takes it, whose own message is its `event`.

    Returns:
        Whether there was one.
    """
    attributes = record.__dict__
    extra, message = attributes.get("extra"), record.msg
    if type(extra) is dict and extra.get(event_key) is not None:
        # loguru makes a record for each handler, and of one dict for all, which is the log call's.
        event = extra[event_key] = with_id(extra[event_key], record.process)
        _restore(record, event)
    elif type(message) is dict and message.get(event_key) is not None:
        event = with_id(message[event_key], record.process)
    elif type(message) is dict and is_event_object(message.get("event")):
        # structlog's own copy of what was logged.
        event, message["event"] = with_id(message["event"], None), text_of(message["event"])
    else:
        return False
    attributes[event_key] = event
    return True


def _restore(record: logging.LogRecord, event: Any) -> None:
    """Have a record say what was so at the log call that its event keeps, if it does."""
    log_call = log_call_of(event)
    if log_call is None:
        return
    record.created, subject, context, page = log_call
    record.msecs = int(record.created % 1 * 1000) + 0.0
    if isinstance(record, _Record):
        record.bound = Bound(subject, context, page)


_event_keys: Final[list[str]] = []
"""The attributes of records that may hold events."""


def keep_ids(event_key: str = "snowplow") -> None:
    """Have events given their ids before the first handler sees their record.

    A handler that stands before all of this package's may copy the record and send the copy to
    one of them, while another of them sees the record itself. So the ids have to be there before
    any handler is called. A record factory comes too early for that: `extra` is put into the
    record when the factory has made it. What comes next is `Logger.filter`.

    Records that no logger hands on, such as those of `makeLogRecord`, get the ids of their events
    when they are copied or pickled, or when the first handler or formatter of this package sees
    them. A record that is made of the attributes of another has them with the dicts and objects in
    its attributes, and an id of its own for an event object that is its message.

    Args:
        event_key: The attribute of a record that holds its event.
    """
    if not _event_keys:
        _install()
    if event_key not in _event_keys:
        _event_keys.append(event_key)


def _install() -> None:
    reduce_ex = logging.LogRecord.__reduce_ex__

    def __reduce_ex__(self: logging.LogRecord, protocol: Any) -> Any:  # noqa: N807
        _fix(self)
        return reduce_ex(self, protocol)

    identifying = _identifying(logging.Logger.filter)
    for owner, method in ((logging.Logger, identifying), (logging.LogRecord, __reduce_ex__)):
        setattr(owner, method.__name__, method)


def _identifying(
    passes: Callable[[logging.Logger, logging.LogRecord], Any],
) -> Callable[[logging.Logger, logging.LogRecord], Any]:
    """Return a `Logger.filter` that does what another does, and gives events their ids."""
    is_standard = passes is logging.Filterer.filter  # and no other library's
    keys, plain = _event_keys, logging.LogRecord

    def filter(self: logging.Logger, record: logging.LogRecord) -> Any:  # noqa: A001
        passed: Any = True
        seen = record
        # Most loggers have no filters, and every log call of the program comes through here.
        if self.filters or not is_standard:
            passed = passes(self, record)
            if not passed:
                return passed
            if passed is not True:
                seen = passed  # from Python 3.12 on a filter may replace the record
        attributes = seen.__dict__
        for key in keys:
            event = attributes.get(key)
            if event is None:
                continue
            if (
                type(event) is not dict
                or "event_id" in event
                or type(seen.msg) is not str
                or innermost_layer() is not None
                or not (type(seen) is plain or keeps_nothing(seen))
            ):
                _settle(seen)
                return passed
            # As `with_id` does it, in less time: nearly every event comes this way.
            identified = IdentifiedEvent(event)
            identified.event_id, identified.log_call = new_id(seen.process), None
            attributes[key] = identified
        if type(seen.msg) is not str:
            _settle(seen)
        return passed

    return filter


def _settle(record: logging.LogRecord) -> None:
    """Give ids to the events of a record at its log call, and have them keep what is bound there.

    The record does the latter, unless it is of a class of the program's own, or of a record factory
    that was set after this package had last looked.
    """
    give_ids(record, *_event_keys)
    if isinstance(record, _Record) or surroundings() is None:
        return
    if record.process not in (None, os.getpid()):
        return  # it was logged elsewhere
    attributes = record.__dict__
    for key in _event_keys:
        event = attributes.get(key)
        if event is not None and log_call_of(event) is None:
            with contextlib.suppress(Exception):  # the check says what is wrong with it
                attributes[key] = keep_log_call(event, record.created)


# What was bound, and what `QueueHandler` makes text of.


def keeps_nothing(record: logging.LogRecord) -> bool:
    """Tell whether a record, which is none of the standard library's, has nothing to keep."""
    return type(record) is _Record and record.bound is None and record.event is None


def bound_to(record: logging.LogRecord) -> Bound | None:
    """Return what `subject_context` had bound at a record's log call, if anything."""
    if isinstance(record, _Record):
        return record.settle()
    for key in _event_keys:
        event = record.__dict__.get(key)
        if event is not None and (log_call := log_call_of(event)) is not None:
            return Bound(*log_call[1:])
    layer = surroundings()
    # What is bound here says nothing of a record that another process has made.
    if layer is None or record.process not in (None, os.getpid()):
        return None
    return layer.bound()


def message_event(record: logging.LogRecord) -> Any:
    """Return the event that is a record's message, or was before that became text; else None."""
    message = record.msg
    if is_event_object(message):
        try:
            event = cast("Any", message).as_event_dict()
            if isinstance(record, _Record) and is_absent(event.get("event_id")):
                event = with_this_id(event, record.id_of_message())
        except Exception:  # noqa: BLE001 - it may be anything, and the check says what is wrong
            return message
        return event
    event = record.event if isinstance(record, _Record) else None
    if event is None and type(message) is UserString:
        event = event_of_text(message)
    return event


def kept_error(record: logging.LogRecord) -> dict[str, Any] | None:
    """Return the event made of a record's exception before that became text, if there was one."""
    # No arguments are what `QueueHandler` leaves; without that, somebody meant the exception to go.
    if isinstance(record, _Record) and record.exc_info is None and record.args is None:
        return record.error
    return None


def error_id_of(record: logging.LogRecord) -> str:
    """Return the id of the event that is made of a record's exception."""
    if isinstance(record, _Record):
        if record.error_id is None:
            record.error_id = new_id(record.process)
        return record.error_id
    # A record of a class of the program's own has no other place. The underscore keeps it out of
    # the lines of most formatters.
    return str(record.__dict__.setdefault("_snowplow_error_id", new_id(record.process)))


class _Record(logging.LogRecord):
    """A record that keeps what was bound, and what `QueueHandler` makes text of, in its copies.

    That is an event which is the message, and an exception that a handler is to capture. None of
    it is an attribute in its `__dict__`, where formatters look for what to write.
    """

    __slots__ = ("bound", "error", "error_id", "event", "message_id")

    captured_from: ClassVar[float] = math.inf
    """The level from which exceptions are kept."""

    as_event: ClassVar[Callable[[logging.LogRecord], dict[str, Any] | None]]
    """Makes an event of a record's exception, where those are kept."""

    def __init__(self, name: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(name, *args, **kwargs)
        # Without a name it comes from `makeLogRecord`, and so from elsewhere.
        self.bound: Layer | Bound | None = None if name is None else surroundings()
        self.event: dict[str, Any] | None = None
        self.error: dict[str, Any] | None = None
        self.error_id: str | None = None
        self.message_id: str | None = None

    def settle(self) -> Bound | None:
        """Return what is bound, which stays so from then on."""
        around = self.bound
        if type(around) is Layer:
            around = self.bound = around.bound()
        return cast("Bound | None", around)

    def id_of_message(self) -> str:
        """Return the id of the event that is the message."""
        if self.message_id is None:
            self.message_id = new_id(self.process)
        return self.message_id

    def getMessage(self) -> str:  # noqa: N802 - the standard library's name
        """Return the message as text, which keeps the event that it was, with its id."""
        text = super().getMessage()
        if type(text) is MessageText and is_absent(text.event.get("event_id")):
            text.event = with_this_id(text.event, self.id_of_message())
        return text

    def __copy__(self) -> _Record:
        _fix(self)
        return _restored(self.__dict__.copy(), self.settle(), *self._kept())

    def __reduce__(self) -> tuple[Any, ...]:
        _fix(self)
        kept = self.settle(), *self._kept()
        if not any(part is not None for part in kept):
            # As a plain record, which a receiver can read that does not have this library.
            return logging.makeLogRecord, (self.__dict__,)
        return _restored, (self.__dict__, *kept)

    def _kept(self) -> tuple[dict[str, Any] | None, dict[str, Any] | None, str | None]:
        """Return the event that is the message, the one made of the exception, and its id."""
        event, error, error_id = fixed(message_event(self)), self.error, self.error_id
        if self.exc_info and self.levelno >= self.captured_from:
            error, error_id = type(self).as_event(self), error_id_of(self)
        return event, error, error_id


def _restored(
    attributes: dict[str, Any],
    around: Layer | Bound | None,
    event: dict[str, Any] | None,
    error: dict[str, Any] | None,
    error_id: str | None = None,
) -> _Record:
    record = _Record.__new__(_Record)
    record.__dict__ = attributes
    record.bound, record.event, record.error, record.error_id = around, event, error, error_id
    record.message_id = None if event is None else id_of(event)
    return record


class _Factory:
    """Has records that a program's own record factory makes keep what ours do."""

    def __init__(self, factory: Callable[..., logging.LogRecord]) -> None:
        self._factory = factory

    def __call__(self, name: Any, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self._factory(name, *args, **kwargs)
        if type(record) is not logging.LogRecord:
            return record  # of a class of the program's own, or ours already
        return _restored(record.__dict__, None if name is None else surroundings(), None, None)


def keep_in_records(
    captured_from: float = math.inf,
    as_event: Callable[[logging.LogRecord], dict[str, Any] | None] | None = None,
) -> None:
    """Have new records keep what is bound at their log call, and an event that is the message.

    Args:
        captured_from: The level from which they keep their exception, too.
        as_event: What makes an event of it.
    """
    keep_ids()
    if as_event is not None:
        _Record.as_event = staticmethod(as_event)
        _Record.captured_from = min(_Record.captured_from, captured_from)
    factory = logging.getLogRecordFactory()
    if factory is logging.LogRecord:
        logging.setLogRecordFactory(_Record)
    elif factory is not _Record and not isinstance(factory, _Factory):
        logging.setLogRecordFactory(_Factory(factory))
