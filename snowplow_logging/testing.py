"""For the tests of programs that log events: captures them in the process, with no network.

With pytest it is the fixture `snowplow_events`; anywhere else, `capture_events`.
"""

from __future__ import annotations

import base64
import copy
import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Final, cast

from snowplow_logging.delivery.waiting import new_lock
from snowplow_logging.events import EVENTS, InvalidEvent
from snowplow_logging.handler import Outcome, SnowplowHandler, captures
from snowplow_logging.protocol import nearest
from snowplow_logging.record import shown

if TYPE_CHECKING:
    from snowplow_logging.iglu import Location
    from snowplow_logging.schema_check import SchemaCheck

__all__ = ["CapturedEvent", "CapturedEvents", "RefusedEvent", "capture_events"]


@dataclass(frozen=True)
class CapturedEvent:
    """An event that was logged and would have been sent.

    Attributes:
        event: The event as it was logged, as a dict; what was None is left out.
        payload: What would have been sent, by the protocol's names: all but `stm`, which is the
            time of sending.
        record: The log record.
    """

    event: dict[str, Any]
    payload: dict[str, str] = field(repr=False)
    record: logging.LogRecord = field(repr=False, compare=False)

    @property
    def event_id(self) -> str:
        """The event id."""
        return self.payload["eid"]

    @cached_property
    def schema(self) -> str | None:
        """The schema of the event's data; None where the event has no schema of its own."""
        return cast("str", self._content["schema"]) if self._content else None

    @cached_property
    def data(self) -> Any:
        """The data that the schema describes; None where the event has no schema of its own."""
        return self._content["data"] if self._content else None

    @cached_property
    def entities(self) -> list[dict[str, Any]]:
        """The event's entities, each with `schema` and `data`, wherever they were bound."""
        return self._decoded("cx", "co") or []

    @cached_property
    def _content(self) -> dict[str, Any] | None:
        return cast("dict[str, Any] | None", self._decoded("ue_px", "ue_pr"))

    def _decoded(self, encoded: str, plain: str) -> Any:
        """Return what a self-describing JSON of the protocol holds."""
        if encoded in self.payload:
            return json.loads(base64.urlsafe_b64decode(self.payload[encoded]))["data"]
        return json.loads(self.payload[plain])["data"] if plain in self.payload else None


@dataclass(frozen=True)
class RefusedEvent:
    """An event that was logged and would not have been sent.

    Attributes:
        event: The event as it was logged, as a dict if it is one at all.
        error: Why: an `InvalidEvent`, or what the handler's `before_send` raised.
        record: The log record.
    """

    event: dict[str, Any]
    error: Exception
    record: logging.LogRecord = field(repr=False, compare=False)


class CapturedEvents(list[CapturedEvent]):
    """The events that were logged, in that order. Threads may log while it is read."""

    def __init__(self) -> None:
        super().__init__()
        self._invalid: list[RefusedEvent] = []
        self._unseen: list[RefusedEvent] | None = []  # None once anybody has looked
        self._schemas: SchemaCheck | None = None
        self._lock = new_lock()
        self._records: dict[tuple[logging.Handler, str], list[logging.LogRecord]] = {}
        self._seen: dict[tuple[str, int], CapturedEvent | RefusedEvent | None] = {}
        self._final: set[tuple[str, int, bool]] = set()

    @property
    def invalid(self) -> list[RefusedEvent]:
        """The events that Snowplow would have refused."""
        self._unseen = None
        return self._invalid

    @property
    def unseen(self) -> list[RefusedEvent]:
        """The invalid events that nobody has looked for; none once `invalid` has been asked for.

        Those that `clear` has made forgotten are among them.
        """
        return [] if self._unseen is None else [*self._unseen, *self._invalid]

    def named(self, name: str) -> list[CapturedEvent]:
        """Return the events of one type.

        Args:
            name: The type's name, such as `page_view`.

        Raises:
            ValueError: There is no such type.
        """
        if name not in EVENTS:
            raise ValueError(f"there is no event {name!r}; give {nearest(name, EVENTS)}")
        return [event for event in self if EVENTS[event.event["event"]] is EVENTS[name]]

    @property
    def schemas(self) -> list[str]:
        """The schemas of the events that have one, in the order in which they were logged."""
        return [event.schema for event in self if event.schema is not None]

    def clear(self) -> None:
        """Forget all that was captured so far, as between two parts of a test."""
        with self._lock:
            super().clear()
            if self._unseen is not None:
                self._unseen += self._invalid
            self._invalid.clear()

    def _take(
        self,
        handler: logging.Handler,
        record: logging.LogRecord,
        event: Any,
        event_id: str,
        outcome: Outcome,
    ) -> None:
        """Keep an event, once however many handlers see its record or copies of it.

        What a handler makes of it takes the place of a guess, which was made because the record
        had not come to any handler yet.
        """
        entry: CapturedEvent | RefusedEvent | None = None
        if isinstance(outcome, bytes):
            payload = json.loads(outcome + b"}")
            entry = CapturedEvent(_as_logged(event), payload, record)
            try:
                if self._schemas is not None:
                    self._schemas.check_payload(event["event"], payload)
            except InvalidEvent as error:
                entry = RefusedEvent(_as_logged(event), error, record)
        elif outcome is not None:
            entry = RefusedEvent(_as_logged(event), outcome, record)
        with self._lock:
            # Where a test has stopped the clock, many events have one id: those that one handler
            # sees are counted.
            records = self._records.setdefault((handler, event_id), [])
            if not (records and records[-1] is record):
                records.append(record)
            key = event_id, len(records)
            if handler is _guessing():
                if key not in self._seen:
                    self._seen[key] = entry
                    self._put(entry)
                return
            guess = self._seen.get(key)
            self._seen[key] = None
            kind = (*key, isinstance(entry, CapturedEvent))
            if kind not in self._final:
                self._final.add(kind)
                self._put(entry, guess)

    def _put(
        self,
        entry: CapturedEvent | RefusedEvent | None,
        guess: CapturedEvent | RefusedEvent | None = None,
    ) -> None:
        """Put an entry into its list, in the place of a guess if there was one."""
        for entries in cast("tuple[list[Any], ...]", (self, self._invalid)):
            place = next((i for i, other in enumerate(entries) if other is guess), len(entries))
            mine = entries is (self if isinstance(entry, CapturedEvent) else self._invalid)
            entries[place : place + 1] = [entry] if mine and entry is not None else []


@contextmanager
def capture_events(
    level: int | str | None = logging.INFO,
    *,
    iglu: Location | Sequence[Location] | None = None,
    iglu_api_key: str | None = None,
    schema_check: str = "refuse",
) -> Iterator[CapturedEvents]:
    """Capture the events that are logged inside, by any thread of the process; send none.

    Every event is captured as the `SnowplowHandler` that gets it would have sent it: with its
    settings, even where it is not `enabled`, and only if its level, its filters and its
    `before_send` let it pass. An event whose logger has no such handler is captured as a handler
    with the default settings would send it. One that Snowplow would refuse is in `invalid`, and
    nothing is printed. Handlers count nothing meanwhile in `stats`, and call nobody back.

    Captures may be nested; each gets all that is logged inside it.

    Args:
        level: The level from which records are logged where nothing but the root logger's level,
            WARNING by default, would hold them back; None changes nothing about levels.
        iglu: Registries with the schemas that all events are checked against, as the handler's
            setting of that name has them, whatever the handler's own are. Other than there, the log
            call waits for a schema that is behind a URL.
        iglu_api_key: The key for Iglu Servers.
        schema_check: What becomes of an event that does not fit: `refuse` has it in `invalid`,
            `warn` logs a warning, `off` does not check.
    """
    # A logger of nobody's, which checks the level.
    least = math.inf if level is None else logging.Logger("", level).level  # noqa: LOG001
    events = CapturedEvents()
    events._schemas = _schema_check(iglu, iglu_api_key, schema_check)  # noqa: SLF001
    with _lock:
        if not captures:
            _default_handler()
            _install()
        captures.append(events._take)  # noqa: SLF001
        _levels.append(least)
    try:
        yield events
    finally:
        with _lock:
            captures.remove(events._take)  # noqa: SLF001
            _levels.remove(least)
            if not captures:
                _uninstall()


def _schema_check(iglu: Any, api_key: str | None, schema_check: str) -> SchemaCheck | None:
    if schema_check not in ("refuse", "warn", "off"):
        raise ValueError(f"schema_check is {schema_check!r}; give 'refuse', 'warn' or 'off'")
    if iglu is None or schema_check == "off":
        return None
    from snowplow_logging.iglu import Iglu
    from snowplow_logging.schema_check import SchemaCheck

    warn = logging.getLogger("snowplow_logging").warning
    registries = Iglu(iglu, api_key, report=warn)
    return SchemaCheck(registries.find, warn if schema_check == "warn" else None)


def _as_logged(event: Any) -> dict[str, Any]:
    """Return a copy of an event, which its owner may go on to change."""
    try:
        keys = EVENTS[event["event"]].keys()
        present = {
            key: value
            for key, value in event.items()
            if value is not None or (key in keys and keys[key].nullable)
        }
        return copy.deepcopy(present)
    except Exception:  # noqa: BLE001 - a bad event may be anything
        return shown(event)


# What is changed about logging while events are captured: loggers let records pass that the root
# logger's level would hold back, and show them to a handler with the default settings where they
# have no other. That is not done with a level and a handler of the root logger, because
# `dictConfig` replaces both, and pytest puts the level back between the set-up of a test and the
# test itself.

_lock: Final = new_lock()
_levels: Final[list[float]] = []
_installed: Final[dict[str, tuple[Callable[..., Any], Callable[..., Any]]]] = {}


@cache
def _default_handler() -> SnowplowHandler:
    # Neither a file nor a switch of the environment is for what a test logs.
    return SnowplowHandler("http://localhost", store=None, dead_letter=None, enabled=True)


def _guessing() -> logging.Handler:
    return _default_handler()._queue_handler  # noqa: SLF001


def _install() -> None:
    is_enabled_for = logging.Logger.isEnabledFor
    call_handlers = logging.Logger.callHandlers

    def isEnabledFor(self: logging.Logger, level: int) -> bool:  # noqa: N802
        return is_enabled_for(self, level) or (
            level >= min(_levels, default=math.inf)
            and level > self.manager.disable
            and not self.disabled
            and _has_level_of_root(self)
        )

    def callHandlers(self: logging.Logger, record: logging.LogRecord) -> None:  # noqa: N802
        if captures and not _has_snowplow_handler(self):
            _default_handler().emit(record)
        call_handlers(self, record)

    for wrapper, original in ((isEnabledFor, is_enabled_for), (callHandlers, call_handlers)):
        setattr(logging.Logger, wrapper.__name__, wrapper)
        _installed[wrapper.__name__] = wrapper, original


def _uninstall() -> None:
    for name, (wrapper, original) in _installed.items():
        # Others wrap these methods as well; what one of them has wrapped rests where it is.
        if getattr(logging.Logger, name) is wrapper:
            setattr(logging.Logger, name, original)


def _has_level_of_root(logger: logging.Logger | None) -> bool:
    while logger is not None and logger is not logging.root:
        if logger.level:
            return False
        logger = logger.parent
    return logger is not None


def _has_snowplow_handler(logger: logging.Logger | None) -> bool:
    while logger is not None:
        if any(isinstance(handler, SnowplowHandler) for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False
