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
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import cache
from numbers import Integral, Number, Real
from typing import Any, Final

from pythonjsonlogger.json import JsonFormatter

from snowplow_logging.anonymous import anonymity, check_anonymous_tracking
from snowplow_logging.events import EVENTS, Event
from snowplow_logging.json_data import (
    MAX_JSON_DEPTH,
    JsonDefault,
    exact_number,
    key_text,
    number_mark,
    plain_json,
    with_numbers,
)
from snowplow_logging.kept import bound_to, keep_ids
from snowplow_logging.number_types import milliseconds
from snowplow_logging.payload import TRACKER
from snowplow_logging.protocol import Check, Refused, describe, is_given, text, without_controls
from snowplow_logging.python_types import meaning
from snowplow_logging.record import carries_event, events_of, on_page, shown
from snowplow_logging.surroundings import Bound
from snowplow_logging.urls import page_uri, referrer_uri

__all__ = ["SnowplowJsonFormatter", "event_fields", "event_json", "read_decimal"]

_ADDED: Final = ("dtm", "tv", "incomplete")


class SnowplowJsonFormatter(JsonFormatter):
    """Writes each record as a line of JSON, with its event in full.

    The event stands under the name of the record's attribute that holds it, `snowplow`; several
    events, such as a transaction with its items, are a list there. A line without an event is as
    python-json-logger writes it. With `json_indent` a record takes several lines, which `replay`
    does not read.

    Args:
        *args: What `pythonjsonlogger.json.JsonFormatter` takes. Its `json_default` also takes
            what is no JSON in the data and entities of events.
        event_key: The attribute of a record that holds its event.
        anonymous_tracking: As the handler has it: True leaves out the ids of user and session and
            the address, `"with_session"` leaves the ids of the session in.
        **kwargs: What `pythonjsonlogger.json.JsonFormatter` takes.
    """

    def __init__(
        self,
        *args: Any,
        event_key: str = "snowplow",
        anonymous_tracking: bool | str = False,
        **kwargs: Any,
    ) -> None:
        check_anonymous_tracking("anonymous_tracking", anonymous_tracking)
        super().__init__(*args, **kwargs)
        self._event_key = event_key
        self._hides = anonymity(anonymous_tracking, self._json_default())
        keep_ids(event_key)

    def _json_default(self) -> Any:
        return self.json_default if callable(self.json_default) else None

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
        page = None if around is None else around.page
        logged = events_of(record, self._event_key)
        if self._hides is not None:
            around = None if around is None else self._hides.bound(around)
            logged = [(self._hides.event(event), event_id) for event, event_id in logged]
        events = [
            event_fields(
                event if page is None else on_page(event, page),
                event_id,
                record,
                around,
                as_number=_marked,
                json_default=self._json_default(),
            )
            for event, event_id in logged
        ]
        log_data[self.rename_fields.get(self._event_key, self._event_key)] = (
            events[0] if len(events) == 1 else events or None
        )

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        """Write the fields as JSON."""
        return with_numbers(super().jsonify_log_record(log_data))


def event_json(fields: Mapping[str, Any]) -> str:
    """Write an event, as `event_fields` returns it, as JSON."""
    try:
        return with_numbers(json.dumps(plain_json(fields, as_number=_marked)))
    except Refused:
        return json.dumps(shown(fields))


def _marked(value: Any) -> Any:
    """Return a number for `json` to write, and a `Decimal` as the string that stands for it.

    Its digits matter, for 9.90 is sent as it is. An exponent with a capital E, which no float is
    written with, tells `read_decimal` what it was.
    """
    checked = exact_number(value)
    if not isinstance(checked, Decimal):
        return checked
    digits = str(checked)
    return number_mark(digits if "E" in digits else f"{digits}E+0")


def read_decimal(digits: str) -> float | Decimal:
    """Read a number of a line that has a fraction or an exponent, for `json`'s `parse_float`."""
    return Decimal(digits) if "E" in digits else float(digits)


def event_fields(
    event: Any,
    event_id: str,
    record: logging.LogRecord,
    around: Bound | None,
    *,
    as_number: Check = exact_number,
    json_default: JsonDefault | None = None,
) -> dict[str, Any]:
    """Return an event, good or bad, as a line holds it. Never raises.

    Args:
        event: What the record carries, as `events_of` yields it.
        event_id: Its id, where it names none.
        record: The record, for its time.
        around: The subject and the entities around the log call.
        as_number: What numbers become.
        json_default: Takes what is no JSON in data and entities, and returns what is.
    """
    try:
        fields = _fields(event, around, as_number, json_default)
    except Refused as error:
        fields = {**shown(event), "incomplete": f"{error.path[1:]} {error.problem}"}
    except Exception as error:  # noqa: BLE001 - the caller's objects may raise anything
        fields = {**shown(event), "incomplete": f"it raised {type(error).__name__} when read"}
    if not is_given(fields.get("event_id")):
        fields["event_id"] = event_id
    with contextlib.suppress(Exception):  # somebody has put something else into the record
        fields["dtm"] = int(milliseconds(record.created * 1000))
    fields["tv"] = TRACKER
    return fields


# The levels of the keys whose values are free JSON, as many as they may have in a payload.
_FREE_DEPTHS: Final = {"data": MAX_JSON_DEPTH - 2, "context": MAX_JSON_DEPTH - 1}


def _fields(
    event: Any, around: Bound | None, as_number: Check, json_default: JsonDefault | None
) -> dict[str, Any]:
    if not isinstance(event, Mapping):
        raise Refused(describe(event), "a dict", ".event")
    nullable = _nullable_keys()
    parts = {key: v for key, v in event.items() if v is not None or key in nullable}
    for added in _ADDED:
        if added in parts:
            raise Refused("is not a key of an event", "nothing", f".{added}")
    parts.update(_mended_urls(parts))
    time = parts.get("true_timestamp")
    if isinstance(time, datetime):
        try:
            parts["true_timestamp"] = int(milliseconds(time))
        except Refused as error:
            raise Refused(error.problem, error.expected, ".true_timestamp") from None
    context = parts.get("context")
    if around is not None and around.context and isinstance(context, (list, tuple, type(None))):
        context = [*(context or ()), *around.context]
        parts["context"] = context
    fields: dict[str, Any] = {}
    for key, value in parts.items():
        name = _own_key(key, "")
        free = _FREE_DEPTHS.get(name)
        if free is None:
            depth = MAX_JSON_DEPTH - 1
            fields[name] = plain_json(value, depth, f".{name}", as_number, _text_or_number)
            _check_given(value, f".{name}")
        else:
            fields[name] = plain_json(value, free, f".{name}", as_number, json_default)
    subject = fields.get("subject")
    if around is not None and around.subject and isinstance(subject, (dict, type(None))):
        # What is empty to Enrich counts as absent, and must not hide a field from around.
        own = {
            field: value
            for field, value in (subject or {}).items()
            if is_given(without_controls(value) if isinstance(value, str) else value)
        }
        outer = plain_json(around.subject, path=".subject", as_number=as_number)
        fields["subject"] = {**(subject or {}), **outer, **own}
    return fields


def _mended_urls(parts: Mapping[Any, Any]) -> dict[str, str]:
    """Return URLs as they are sent, for a line cannot hold all of what is mended in them."""
    mended = {}
    for key, check in (("page_url", page_uri), ("referrer", referrer_uri)):
        given = parts.get(key)
        if given is not None and not isinstance(given, int):  # which a line holds as it is
            with contextlib.suppress(Refused):
                mended[key] = check(given)
    return mended


def _text_or_number(value: Any) -> Any:
    """Return the text or number that an object stands for where Snowplow wants one of them."""
    if isinstance(value, Real):  # such as a fraction, of which free JSON knows nothing
        return int(value) if isinstance(value, Integral) else float(value)
    return _text(value)


def _own_key(key: Any, path: str) -> str:
    if not isinstance(key, str):
        raise Refused(f"has a key that {describe(key)}", "strings as keys", path)
    return key_text(key, path)


def _check_given(value: Any, path: str) -> None:
    """Refuse what only free JSON takes, for as a plain value it would be taken anywhere."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_given(item, f"{path}.{_own_key(key, path)}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _check_given(item, f"{path}[{index}]")
    elif value is not None and not isinstance(value, Number):
        try:
            _text(value)
        except Refused as error:
            known = meaning(value)
            if not isinstance(known, (Mapping, list)):
                raise error.within(path) from None
            _check_given(known, path)


_text: Final = text()


@cache
def _nullable_keys() -> frozenset[str]:
    """Return the keys where None is a value; elsewhere it is the same as absent."""
    classes = EVENTS.values()
    return frozenset(name for cls in classes for name, key in cls.keys().items() if key.nullable)
