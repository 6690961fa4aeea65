"""Whom or what events are about, and how a request binds that to everything logged inside it."""

from __future__ import annotations

import logging
import math
import os
from collections import UserString
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, TypedDict, cast
from uuid import UUID

from snowplow_logging.protocol import (
    PLATFORMS,
    Key,
    Text,
    annotated_keys,
    atomic_text,
    dimensions,
    first_address,
    integer_text,
    is_given,
    one_of,
    unless_empty,
    uuid,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "SUBJECT_KEYS",
    "Bound",
    "MessageText",
    "Subject",
    "bound_to",
    "keep_in_records",
    "kept_error",
    "message_event",
    "subject_context",
]


class Subject(TypedDict, total=False):
    """Whom or what an event is about. All fields are optional.

    It is a plain dict at run time; `Subject(user_id="u-42")` and `{"user_id": "u-42"}` are alike.
    The sizes are pairs of width and height in pixels.
    """

    platform: Annotated[str, Key("p", unless_empty(one_of(*PLATFORMS)))]
    user_id: Annotated[Text, Key("uid", atomic_text(255))]
    domain_user_id: Annotated[Text, Key("duid", atomic_text(128))]
    domain_session_id: Annotated[UUID | str, Key("sid", unless_empty(uuid))]
    domain_session_index: Annotated[int, Key("vid", integer_text)]
    network_user_id: Annotated[Text, Key("tnuid", atomic_text(128))]
    ip_address: Annotated[Text, Key("ip", first_address)]
    useragent: Annotated[Text, Key("ua", atomic_text(1000, cut=True))]
    language: Annotated[Text, Key("lang", atomic_text(255))]
    timezone: Annotated[Text, Key("tz", atomic_text(255))]
    color_depth: Annotated[Text, Key("cd", atomic_text(12))]
    screen_resolution: Annotated[tuple[int, int], Key("res", dimensions)]
    viewport: Annotated[tuple[int, int], Key("vp", dimensions)]


SUBJECT_KEYS: Final[dict[str, Key]] = annotated_keys(Subject)
"""The fields of a subject with what Snowplow wants to know of each."""


@dataclass(frozen=True)
class Bound:
    """The subject and the entities that surround a log call.

    Args:
        subject: The fields of the subject.
        context: The entities, those of the innermost `subject_context` first.
    """

    subject: Mapping[str, Any]
    context: Sequence[Any]


_bound: Final[ContextVar[Bound | None]] = ContextVar("snowplow_logging.bound", default=None)


def bound_to(record: logging.LogRecord) -> Bound | None:
    """Return what `subject_context` had bound at a record's log call, if anything."""
    if isinstance(record, _Record):
        return record.bound
    around = _bound.get()
    # What is bound here says nothing of a record that another process has made.
    return around if around is None or record.process in (None, os.getpid()) else None


def message_event(record: logging.LogRecord) -> Any:
    """Return the event that was a record's message before that became text, if there was one."""
    event = record.event if isinstance(record, _Record) else None
    if event is None and type(record.msg) is UserString:
        event = vars(record.msg).get(_EVENT)
    return event


def kept_error(record: logging.LogRecord) -> dict[str, Any] | None:
    """Return the event made of a record's exception before that became text, if there was one."""
    # No arguments are what `QueueHandler` leaves; without that, somebody meant the exception to go.
    if isinstance(record, _Record) and record.exc_info is None and record.args is None:
        return record.error
    return None


_EVENT: Final = "snowplow_event"


class MessageText(str):
    """The text of an event that is a record's message.

    `SocketHandler` sends a message's text in its place. This one takes the event along, as an
    attribute of what also a receiver without this library reads as the text.
    """

    __slots__ = ("event",)

    event: dict[str, Any]

    def __reduce__(self) -> tuple[Any, ...]:
        return UserString, (str.__str__(self),), {_EVENT: self.event}


class _Record(logging.LogRecord):
    """A record that keeps what was bound, and what `QueueHandler` makes text of, in its copies.

    That is an event which is the message, and an exception that a handler is to capture. None of
    it is an attribute in its `__dict__`, where formatters look for what to write.
    """

    __slots__ = ("bound", "error", "event")

    captured_from: ClassVar[float] = math.inf
    """The level from which exceptions are kept."""

    def __init__(self, name: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(name, *args, **kwargs)
        # Without a name it comes from `makeLogRecord`, and so from elsewhere.
        self.bound = None if name is None else _bound.get()
        self.event: dict[str, Any] | None = None
        self.error: dict[str, Any] | None = None

    def __copy__(self) -> _Record:
        return _restored(self.__dict__.copy(), self.bound, *self._kept())

    def __reduce__(self) -> tuple[Any, ...]:
        kept = self.bound, *self._kept()
        if kept == (None, None, None):
            # As a plain record, which a receiver can read that does not have this library.
            return logging.makeLogRecord, (self.__dict__,)
        return _restored, (self.__dict__, *kept)

    def _kept(self) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """Return the event that is the message, and the one that is made of the exception."""
        event, error = message_event(self), self.error
        # Asked of the class, because an object may have an answer to everything.
        if hasattr(type(self.msg), "as_event_dict"):
            event = cast("Any", self.msg).as_event_dict()
        if self.exc_info and self.levelno >= self.captured_from:
            from snowplow_logging.application_error import application_error

            error = application_error(self)
        return event, error


def _restored(
    attributes: dict[str, Any],
    bound: Bound | None,
    event: dict[str, Any] | None,
    error: dict[str, Any] | None,
) -> _Record:
    record = _Record.__new__(_Record)
    record.__dict__ = attributes
    record.bound, record.event, record.error = bound, event, error
    return record


class _Factory:
    """Has records that a program's own record factory makes keep what ours do."""

    def __init__(self, factory: Callable[..., logging.LogRecord]) -> None:
        self._factory = factory

    def __call__(self, name: Any, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self._factory(name, *args, **kwargs)
        if type(record) is not logging.LogRecord:
            return record  # of a class of the program's own, or ours already
        return _restored(record.__dict__, None if name is None else _bound.get(), None, None)


def keep_in_records(captured_from: float = math.inf) -> None:
    """Have new records keep what is bound at their log call, and an event that is the message.

    Args:
        captured_from: The level from which they keep their exception, too.
    """
    _Record.captured_from = min(_Record.captured_from, captured_from)
    factory = logging.getLogRecordFactory()
    if factory is logging.LogRecord:
        logging.setLogRecordFactory(_Record)
    elif factory is not _Record and not isinstance(factory, _Factory):
        logging.setLogRecordFactory(_Factory(factory))


@contextmanager
def subject_context(
    *, context: Sequence[Any] | None = None, **subject: Unpack[Subject]
) -> Iterator[None]:
    """Bind a subject and entities to every event that is logged inside.

    That is in this thread or asyncio task and in the tasks that it starts; a new thread starts
    without. Nested ones add up: an inner field wins over an outer one, entities are joined.
    A value that Snowplow would refuse shows when an event is logged, never here.

    Records keep it through copies and pickles, and so through `QueueHandler` and the queues of
    `multiprocessing`. Not through `SocketHandler`, which sends a record's attributes alone, where
    any formatter would show it, nor in records of a class of the program's own, where those are
    queued: there use `SnowplowAdapter.bind`, which adds to the event itself.

    Args:
        context: Entities, each a dict with `schema` and `data` or a `SelfDescribingJson`.
        **subject: The fields of a `Subject`.
    """
    keep_in_records()
    outer = _bound.get() or Bound({}, ())
    # Empty text must not hide a field of an outer subject.
    fields = {name: value for name, value in subject.items() if is_given(value)}
    token = _bound.set(Bound({**outer.subject, **fields}, (*(context or ()), *outer.context)))
    try:
        yield
    finally:
        _bound.reset(token)
