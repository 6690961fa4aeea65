"""A python-json-logger formatter whose lines hold events in full, so that `replay` can send them.

An event in a line has the keys that were logged, complete with its subject and entities, and
what else makes its payload: `event_id`, `dtm` (when it was logged, in milliseconds) and `tv` (the
tracker and its version). What JSON cannot hold is shown as well as it goes, and `incomplete` says
what that was.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import secrets
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Any, Final

from pythonjsonlogger.json import JsonFormatter

from snowplow_logging.events import EVENTS, Event, SelfDescribingJson
from snowplow_logging.kept import Bound, bound_to, keep_ids
from snowplow_logging.payload import TRACKER
from snowplow_logging.protocol import Check, Refused, describe, milliseconds, number, plain_json
from snowplow_logging.record import carries_event, events_of, shown

__all__ = [
    "SnowplowJsonFormatter",
    "event_fields",
    "event_json",
    "exact_number",
    "read_decimal",
]

_ADDED: Final = ("dtm", "tv", "incomplete")

# `json` writes a float in no other way than its own, so that a decimal goes through it as a string
# that nobody can have logged.
_MARK: Final = f"decimal {secrets.token_hex(16)} "
_MARKED: Final = re.compile(f'"{_MARK}([^"]*)"')


class SnowplowJsonFormatter(JsonFormatter):
    """Writes each record as a line of JSON, with its event in full.

    The event stands under the name of the record's attribute that holds it, `snowplow`; several
    events, such as a transaction with its items, are a list there. A line without an event is as
    python-json-logger writes it. With `json_indent` a record takes several lines, which `replay`
    does not read.

    Args:
        *args: What `pythonjsonlogger.json.JsonFormatter` takes.
        event_key: The attribute of a record that holds its event.
        **kwargs: What `pythonjsonlogger.json.JsonFormatter` takes.
    """

    def __init__(self, *args: Any, event_key: str = "snowplow", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._event_key = event_key
        keep_ids(event_key)

    def add_fields(
        self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
    ) -> None:
        """Add the record's fields and its event."""
        super().add_fields(log_data, record, message_dict)
        if not carries_event(record, self._event_key):
            return
        for name, value in log_data.items():
            if isinstance(value, Event):  # the attribute `msg`, where it is asked for
                log_data[name] = str(value)
        around = bound_to(record)
        events = [
            event_fields(event, event_id, record, around, _marked)
            for event, event_id in events_of(record, self._event_key)
        ]
        log_data[self.rename_fields.get(self._event_key, self._event_key)] = (
            events[0] if len(events) == 1 else events or None
        )

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        """Write the fields as JSON."""
        return _without_marks(super().jsonify_log_record(log_data))


def event_json(fields: Mapping[str, Any]) -> str:
    """Write an event, as `event_fields` returns it, as JSON."""
    try:
        return _without_marks(json.dumps(plain_json(fields, as_number=_marked)))
    except Refused:
        return json.dumps(shown(fields))


def _without_marks(text: str) -> str:
    return _MARKED.sub(r"\1", text) if _MARK in text else text


def exact_number(value: Any) -> int | float | Decimal:
    """Check a number that JSON can hold, and leave a `Decimal` what it is."""
    if not isinstance(value, Decimal):
        return number(value)
    if not value.is_finite():
        raise Refused(f"is {value}", "a finite number")
    return value


def _marked(value: Any) -> Any:
    """Return a number for `json` to write, and a `Decimal` as the string that stands for it.

    Its digits matter, for 9.90 is sent as it is. An exponent with a capital E, which no float is
    written with, tells `read_decimal` what it was.
    """
    checked = exact_number(value)
    if not isinstance(checked, Decimal):
        return checked
    digits = str(checked)
    return f"{_MARK}{digits}{'' if 'E' in digits else 'E+0'}"


def read_decimal(digits: str) -> float | Decimal:
    """Read a number of a line that has a fraction or an exponent, for `json`'s `parse_float`."""
    return Decimal(digits) if "E" in digits else float(digits)


def event_fields(
    event: Any,
    event_id: str,
    record: logging.LogRecord,
    around: Bound | None,
    as_number: Check = exact_number,
) -> dict[str, Any]:
    """Return an event, good or bad, as a line holds it. Never raises.

    Args:
        event: What the record carries, as `events_of` yields it.
        event_id: Its id, where it names none.
        record: The record, for its time.
        around: The subject and the entities around the log call.
        as_number: What numbers become.
    """
    try:
        fields = _fields(event, around, as_number)
    except Refused as error:
        fields = {**shown(event), "incomplete": f"{error.path[1:]} {error.problem}"}
    except Exception as error:  # noqa: BLE001 - the caller's objects may raise anything
        fields = {**shown(event), "incomplete": f"it raised {type(error).__name__} when read"}
    if fields.get("event_id") is None:
        fields["event_id"] = event_id
    with contextlib.suppress(Exception):  # somebody has put something else into the record
        fields["dtm"] = int(milliseconds(record.created * 1000))
    fields["tv"] = TRACKER
    return fields


def _fields(event: Any, around: Bound | None, as_number: Check) -> dict[str, Any]:
    if not isinstance(event, Mapping):
        raise Refused(describe(event), "a dict", ".event")
    nullable = _nullable_keys()
    parts = {key: v for key, v in event.items() if v is not None or key in nullable}
    for added in _ADDED:
        if added in parts:
            raise Refused("is not a key of an event", "nothing", f".{added}")
    time = parts.get("true_timestamp")
    if isinstance(time, datetime):
        try:
            parts["true_timestamp"] = int(milliseconds(time))
        except Refused as error:
            raise Refused(error.problem, error.expected, ".true_timestamp") from None
    context = parts.get("context")
    if around is not None and around.context and isinstance(context, (list, tuple, type(None))):
        context = [*(context or ()), *around.context]
    if isinstance(context, (list, tuple)):
        parts["context"] = [vars(e) if isinstance(e, SelfDescribingJson) else e for e in context]
    fields: dict[str, Any] = plain_json(parts, as_number=as_number)
    for key in parts.keys() - {"data", "context"}:
        _check_enums(parts[key], f".{key}")
    subject = fields.get("subject")
    if around is not None and around.subject and isinstance(subject, (dict, type(None))):
        # An empty text counts as absent, like None.
        own = {field: value for field, value in (subject or {}).items() if value not in (None, "")}
        outer = plain_json(around.subject, path=".subject", as_number=as_number)
        fields["subject"] = {**(subject or {}), **outer, **own}
    return fields


def _check_enums(value: Any, path: str) -> None:
    """Refuse an enum that only free JSON takes, for as a plain value it would be taken anywhere."""
    if isinstance(value, Enum):
        if not isinstance(value.value, str) and not isinstance(value, type(value.value)):
            raise Refused(describe(value), "a string enum", path)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _check_enums(item, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _check_enums(item, f"{path}[{index}]")


@cache
def _nullable_keys() -> frozenset[str]:
    """Return the keys where None is a value; elsewhere it is the same as absent."""
    classes = EVENTS.values()
    return frozenset(name for cls in classes for name, key in cls.keys().items() if key.nullable)
