"""Whom or what events are about, and how a request binds that to everything logged inside it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, TypedDict
from uuid import UUID

from snowplow_logging.protocol import (
    PLATFORMS,
    Key,
    Text,
    annotated_keys,
    atomic_text,
    dimensions,
    integer,
    one_of,
    uuid,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "MESSAGE_EVENT",
    "SUBJECT_KEYS",
    "Bound",
    "Subject",
    "bound_to",
    "keep_in_records",
    "subject_context",
]


class Subject(TypedDict, total=False):
    """Whom or what an event is about. All fields are optional.

    It is a plain dict at run time; `Subject(user_id="u-42")` and `{"user_id": "u-42"}` are alike.
    The sizes are pairs of width and height in pixels.
    """

    platform: Annotated[str, Key("p", one_of(*PLATFORMS))]
    user_id: Annotated[Text, Key("uid", atomic_text(255))]
    domain_user_id: Annotated[Text, Key("duid", atomic_text(128))]
    domain_session_id: Annotated[UUID | str, Key("sid", uuid)]
    domain_session_index: Annotated[int, Key("vid", integer())]
    network_user_id: Annotated[Text, Key("tnuid", atomic_text(128))]
    ip_address: Annotated[Text, Key("ip", atomic_text(128))]
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
    if _BOUND in record.__dict__:  # it comes from another process
        around = record.__dict__[_BOUND]
        return None if around is None else Bound(**around)
    return _bound.get()


MESSAGE_EVENT: Final = "_snowplow_event"
"""The attribute that keeps an event which was a record's message before that became text."""

_BOUND: Final = "_snowplow_bound"


class _Record(logging.LogRecord):
    """A record that keeps its event, and what was bound, through copies, queues and pickles.

    What was bound is no attribute in its `__dict__`, where formatters look for what to write.
    """

    __slots__ = ("bound",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.bound = _bound.get()

    def __copy__(self) -> _Record:
        copy = _Record.__new__(_Record)
        copy.__dict__.update(self._with_event())
        copy.bound = self.bound
        return copy

    def __reduce__(self) -> tuple[Any, ...]:
        # As a plain record, which a receiver can read that does not have this library.
        plain = None if self.bound is None else vars(self.bound)
        return logging.makeLogRecord, ({**self._with_event(), _BOUND: plain},)

    def _with_event(self) -> dict[str, Any]:
        """Return the attributes; `QueueHandler` makes text of the message after it has copied."""
        event = getattr(self.msg, "as_event_dict", None)
        return self.__dict__ if event is None else {**self.__dict__, MESSAGE_EVENT: event()}


def keep_in_records() -> None:
    """Have new records keep what is bound at their log call, and an event that is the message.

    A record factory that a program has set itself is left alone.
    """
    if logging.getLogRecordFactory() is logging.LogRecord:
        logging.setLogRecordFactory(_Record)


@contextmanager
def subject_context(
    *, context: Sequence[Any] | None = None, **subject: Unpack[Subject]
) -> Iterator[None]:
    """Bind a subject and entities to every event that is logged inside.

    That is in this thread or asyncio task and in the tasks that it starts; a new thread starts
    without. Nested ones add up: an inner field wins over an outer one, entities are joined.
    A value that Snowplow would refuse shows when an event is logged, never here.

    Args:
        context: Entities, each a dict with `schema` and `data` or a `SelfDescribingJson`.
        **subject: The fields of a `Subject`.
    """
    keep_in_records()
    outer = _bound.get() or Bound({}, ())
    fields = {name: value for name, value in subject.items() if value is not None}
    token = _bound.set(Bound({**outer.subject, **fields}, (*(context or ()), *outer.context)))
    try:
        yield
    finally:
        _bound.reset(token)
