"""The structured way to log: a logger adapter with a method for each event type."""

from __future__ import annotations

import copy
import logging
import sys
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, Protocol, cast, overload

from snowplow_logging.entities import Entity
from snowplow_logging.event_ids import IdentifiedEvent, new_id, with_this_id
from snowplow_logging.events import (
    EVENTS,
    AddToCart,
    ApplicationError,
    EcommerceTransaction,
    EcommerceTransactionItem,
    Event,
    FormChange,
    FormSubmit,
    LinkClick,
    PagePing,
    PageView,
    RemoveFromCart,
    ScreenView,
    SelfDescribing,
    SiteSearch,
    StructuredEvent,
    summary,
)
from snowplow_logging.kept import keep_ids
from snowplow_logging.protocol import describe, is_given, uuid
from snowplow_logging.reporting import report_seldom
from snowplow_logging.surroundings import bound_entities, bound_fields

if TYPE_CHECKING:
    from typing_extensions import Self

    _LoggerAdapter = logging.LoggerAdapter[Any]
else:
    _LoggerAdapter = logging.LoggerAdapter  # takes no type argument before 3.11

__all__ = ["SnowplowAdapter"]

P = ParamSpec("P")

_LOGGING_FILE: Final = logging.addLevelName.__code__.co_filename


class _LogEvent(Protocol[P]):
    """What a method of an event type takes: the keys of the event, and those of a log call.

    A `ParamSpec` cannot be added to, so that a type checker checks the event's keys only where
    there is none of a log call.
    """

    @overload
    def __call__(self, *args: P.args, **keys: P.kwargs) -> str | None: ...
    @overload
    def __call__(self, *, level: int | str, **keys: Any) -> str | None: ...
    @overload
    def __call__(self, *, extra: Mapping[str, Any] | None, **keys: Any) -> str | None: ...
    @overload
    def __call__(self, *, exc_info: Any, **keys: Any) -> str | None: ...
    @overload
    def __call__(self, *, stack_info: bool, **keys: Any) -> str | None: ...
    @overload
    def __call__(self, *, stacklevel: int, **keys: Any) -> str | None: ...

    def __call__(self, *args: Any, **keys: Any) -> str | None:
        """Log the event; return its id, or None where the logger's level holds it back."""


def _level(event_name: str, given: Any) -> int:
    """Return the level of an event's log call; INFO where there is no such level, with a report."""
    level = logging.getLevelName(given) if isinstance(given, str) else given
    if isinstance(level, int):
        return level
    if given is not None:
        report_seldom(
            "level",
            f"{event_name}: level {describe(given)}; give the name or number of a level"
            " (the event was logged at INFO)",
        )
    return logging.INFO


class _Message:
    """The message of a record whose event stands beside it; made into text when it is needed."""

    def __init__(self, event: Mapping[str, Any]) -> None:
        self._event = event

    def __str__(self) -> str:
        return summary(self._event.get("event"), self._event)

    __repr__ = __str__  # which is what logging prints where a handler refuses the event


class _EventMethod(Generic[P]):
    """A method of the adapter that logs one type of event."""

    def __init__(self, event: Callable[P, Event]) -> None:
        self._event = cast("type[Event]", event)
        self.__doc__ = event.__doc__

    def __get__(self, adapter: SnowplowAdapter | None, owner: type) -> _LogEvent[P]:
        if adapter is None:
            return cast("_LogEvent[P]", self)
        return partial(adapter._log_event, self._event.event_name)  # noqa: SLF001


class SnowplowAdapter(_LoggerAdapter):
    """A logger whose methods log events, and which adds a subject and entities to each.

    Each event type has a method that takes the event's keys, and besides them `level` (a number or
    the name of a level; INFO where absent) and the other keywords of a log call: `extra`,
    `exc_info`, `stack_info` and `stacklevel`. It returns the event id, or None where the logger's
    level holds the event back. An event in the call's `extra` is logged as well, after its own. The
    usual `info`, `warning` and so on work as ever, and their `extra` is merged with the adapter's.

    Args:
        logger: The logger, or another adapter around one.
        extra: What is added to every record; a call's own `extra` wins.
        subject: The subject of every event; an event's own fields win.
        context: Entities of every event, besides the event's own.
        event_key: The attribute of a record that holds its event, as the handler has it.

    Raises:
        TypeError: Extra or subject are no dict, or the context is no list.
    """

    page_view = _EventMethod(PageView)
    page_ping = _EventMethod(PagePing)
    ecommerce_transaction = _EventMethod(EcommerceTransaction)
    ecommerce_transaction_item = _EventMethod(EcommerceTransactionItem)
    link_click = _EventMethod(LinkClick)
    add_to_cart = _EventMethod(AddToCart)
    remove_from_cart = _EventMethod(RemoveFromCart)
    form_change = _EventMethod(FormChange)
    form_submit = _EventMethod(FormSubmit)
    site_search = _EventMethod(SiteSearch)
    screen_view = _EventMethod(ScreenView)
    struct_event = _EventMethod(StructuredEvent)
    self_describing_event = unstruct_event = _EventMethod(SelfDescribing)
    application_error = _EventMethod(ApplicationError)

    def __init__(
        self,
        logger: logging.Logger | logging.LoggerAdapter[Any],
        extra: Mapping[str, object] | None = None,
        *,
        subject: Mapping[str, Any] | None = None,
        context: Sequence[Entity] | None = None,
        event_key: str = "snowplow",
    ) -> None:
        super().__init__(cast("logging.Logger", logger), bound_fields("extra", extra))
        self._subject = bound_fields("subject", subject)
        self._context = bound_entities(context)
        self._event_key = event_key
        keep_ids(event_key)

    def bind(
        self,
        *,
        extra: Mapping[str, object] | None = None,
        subject: Mapping[str, Any] | None = None,
        context: Sequence[Entity] | None = None,
    ) -> Self:
        """Return a new adapter with more bound to it; this one stays as it is.

        Args:
            extra: What is added to every record, over what this adapter adds.
            subject: Fields of the subject, over this adapter's.
            context: Entities, besides this adapter's.

        Raises:
            TypeError: Extra or subject are no dict, or the context is no list.
        """
        bound = {
            "extra": {**(self.extra or {}), **bound_fields("extra", extra)},
            "_subject": {**self._subject, **bound_fields("subject", subject)},
            "_context": [*bound_entities(context), *self._context],
        }
        new = copy.copy(self)
        vars(new).update(bound)
        return new

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Merge the adapter's extra, subject and entities into those of a log call."""
        extra = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        event = extra.get(self._event_key)
        if event is not None:
            extra[self._event_key] = self._with_bound(event)
        if issubclass(type(msg), Event):  # `isinstance` would trust the object
            msg = self._with_bound(msg)
        return msg, {**kwargs, "extra": extra}

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log a message as `logging.LoggerAdapter.log` does, with the call's extra merged."""
        if self.isEnabledFor(level):
            if sys.version_info < (3, 11):
                # Before 3.11 the frames of `logging` count as levels of the stack, too.
                frame: FrameType | None = sys._getframe(1)  # noqa: SLF001
                while frame is not None and frame.f_code.co_filename == _LOGGING_FILE:
                    kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
                    frame = frame.f_back
            self._pass_on(level, msg, args, kwargs)

    def _log_event(
        self,
        name: str,
        /,
        *positional: object,
        level: int | str = logging.INFO,
        extra: Mapping[str, Any] | None = None,
        exc_info: Any = None,
        stack_info: bool = False,
        stacklevel: int = 1,
        **keys: Any,
    ) -> str | None:
        if positional:
            key = next(iter(EVENTS[name].keys()))
            raise TypeError(f"{name}() takes keywords alone, such as {key}=…")
        if type(level) is not int:
            level = _level(name, level)
        if not self.isEnabledFor(level):
            return None
        given = keys.get("event_id")
        made = None if is_given(given) else new_id()
        event: dict[str, Any] = {**keys, "event": name}
        if made is not None:
            # As its id, too, so that nobody has to read it from the keys.
            event = with_this_id({**event, "event_id": made}, made)
        extra = {**(extra or {})}
        others = extra.get(self._event_key)
        if others is not None:
            others = others if isinstance(others, (list, tuple)) else [others]
        extra[self._event_key] = event if others is None else [event, *others]
        kwargs = {
            "extra": extra,
            "exc_info": exc_info,
            "stack_info": stack_info,
            "stacklevel": stacklevel,
        }
        self._pass_on(level, _Message(event), (), kwargs)
        try:
            return uuid(given) if made is None else made
        except Exception:  # noqa: BLE001 - it may be anything, and is refused then
            return None

    def _pass_on(
        self, level: int, msg: object, args: tuple[object, ...], kwargs: MutableMapping[str, Any]
    ) -> None:
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 2  # this method and its caller
        msg, kwargs = self.process(msg, kwargs)
        logger: Any = self.logger
        while isinstance(logger, logging.LoggerAdapter):
            extra = kwargs["extra"]
            msg, kwargs = logger.process(msg, {**kwargs})
            if not isinstance(logger, SnowplowAdapter):
                # An adapter of the standard library throws away the call's own extra.
                kwargs["extra"] = {**(kwargs.get("extra") or {}), **extra}
            logger = logger.logger
        logger.log(level, msg, *args, **kwargs)

    def _with_bound(self, event: Any) -> Any:
        """Return an event, or each of a list, with what the adapter adds; all else as it is."""
        if not (self._subject or self._context):
            return event
        try:
            if isinstance(event, (list, tuple)):
                return [self._with_bound(one) for one in event]
            return self._one_with_bound(event)
        except Exception:  # noqa: BLE001 - it may be anything, and the handler says what is wrong
            return event

    def _one_with_bound(self, event: Any) -> Any:
        keys = vars(event) if isinstance(event, Event) else event
        if not isinstance(keys, Mapping):
            return event
        bound: dict[str, Any] = {}
        subject, context = keys.get("subject") or {}, keys.get("context") or ()
        if self._subject and isinstance(subject, Mapping):
            own = {field: value for field, value in subject.items() if is_given(value)}
            bound["subject"] = {**self._subject, **own}
        if self._context and isinstance(context, (list, tuple)):
            bound["context"] = [*context, *self._context]
        if isinstance(event, Event):
            return replace(event, **bound)
        merged = {**event, **bound}
        return with_this_id(merged, event.event_id) if type(event) is IdentifiedEvent else merged
