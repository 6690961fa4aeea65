"""From a log record to its events: finds them, gives each an id, takes transactions apart."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from logging import LogRecord
from typing import Any, Final
from uuid import UUID

from snowplow_logging.events import Event
from snowplow_logging.protocol import Refused, derived_uuid, number
from snowplow_logging.python_types import UNKNOWN, meaning, members
from snowplow_logging.subject import message_event

__all__ = ["carries_event", "event_id_of", "events_of", "shown"]

_MOST_SHOWN: Final = 10_000  # values
_LONGEST_SHOWN: Final = 65_535  # characters, as long as a property of any event's schema
_INHERITED: Final = ("currency", "true_timestamp", "subject", "context")
_time_bits: Final = struct.Struct(">d").pack


def carries_event(record: LogRecord, event_key: str) -> bool:
    """Tell whether a record has an event, good or bad."""
    return (
        record.__dict__.get(event_key) is not None
        or _is_event(record.msg)
        or message_event(record) is not None
    )


def _is_event(message: Any) -> bool:
    # Not `isinstance`, which asks an object for a class that it may fail to give.
    return issubclass(type(message), Event)


def events_of(record: LogRecord, event_key: str) -> list[tuple[Any, str]]:
    """Return each event of a record as a mapping, with the event id it has if it names none.

    The id is made from what identifies the record, so that every handler that sees the record,
    or a copy of it in another process, comes to the same one. It differs between records because
    a log call takes longer than the tick of the clock that `created` is read from.

    What is no event at all is returned as it is, for the check to say so.
    """
    value, message = record.__dict__.get(event_key), record.msg
    if type(message) is str and type(record) is LogRecord:
        message = None  # and it never was an event
    elif type(message) is str or not _is_event(message):
        message = message_event(record)
    if message is None and type(value) is dict and "items" not in value:
        return [(value, event_id_of(record))]
    parts = _all_parts(value)
    if message is not None:
        parts += _parts(message)
    return [(part, event_id_of(record, index)) for index, part in enumerate(parts)]


def _all_parts(value: Any) -> list[Any]:
    try:
        events = [*value] if isinstance(value, (list, tuple)) else [value]
    except Exception:  # noqa: BLE001 - a list of a class that does as it likes
        events = [value]
    return [part for event in events if event is not None for part in _parts(event)]


def event_id_of(record: LogRecord, index: int = 0) -> str:
    """Return the id that an event of a record has where it names none.

    It is the bits of the time, all but the first four, which have been the same since 1970, and a
    hash of what else identifies the record: a UUID of version 8 (RFC 9562).
    """
    try:
        created, relative = record.created, record.relativeCreated
        start = int(created * 1000 - relative)  # of the process that made it
        rest = _rest_of_id(start, record.process, record.thread, index)
        time = _time_bits(created).hex()
        return f"{time[1:9]}-{time[9:13]}-8{time[13:]}-{rest}"
    except (struct.error, TypeError, ValueError, OverflowError):
        made: Any = record  # logging may leave a number out, and anybody put something else in
        identity = (made.created, made.relativeCreated, made.process, made.thread, index)
        return derived_uuid(repr(identity).encode(errors="replace"))


@lru_cache(maxsize=1024)
def _rest_of_id(start: int, process: int, thread: int, index: int) -> str:
    return derived_uuid(struct.pack("<qQQI", start, process, thread, index))[19:]


def _parts(event: Any) -> Sequence[Any]:
    """Return a transaction and its items as the events that they are, and any other as it is."""
    try:
        if isinstance(event, Event):
            event = event.as_event_dict()
        items = event.get("items") if isinstance(event, Mapping) else None
        if not isinstance(items, (list, tuple)) or event.get("event") != "ecommerce_transaction":
            return [event]
        transaction = {key: value for key, value in event.items() if key != "items"}
        return [transaction, *(_item(transaction, item, i) for i, item in enumerate(items))]
    except Exception:  # noqa: BLE001 - it may be anything, and the check says what is wrong
        return [event]


def _item(transaction: Mapping[str, Any], item: Any, index: int) -> Any:
    """Return an item of a transaction as an event; what is none as it is."""
    try:
        fields = vars(item) if isinstance(item, Event) else members(item) or item
        own = {key: value for key, value in fields.items() if value is not None}
    except Exception:  # noqa: BLE001 - it may be anything, and the check says what is wrong
        return item
    event_id = transaction.get("event_id")
    if isinstance(event_id, (str, UUID)):
        own.setdefault("event_id", derived_uuid(f"{index} {event_id}".encode(errors="replace")))
    inherited = {key: transaction.get(key) for key in _INHERITED}
    own["order_id"] = transaction.get("order_id")
    return {"event": "ecommerce_transaction_item", **inherited, **own}


def shown(event: Any) -> dict[str, Any]:
    """Return as much of a bad event as JSON can hold, whatever it is made of."""
    left = _MOST_SHOWN

    def copied(value: Any, depth: int) -> Any:
        try:
            return converted(value, depth)
        except Exception:  # noqa: BLE001 - it may be anything at all
            return f"<{type(value).__name__}>"

    def converted(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if depth == 0 or left < 0:
            return "…"
        if isinstance(value, Enum):
            value = value.value
        if not isinstance(value, (Mapping, str, int, float, Decimal, list, tuple)):
            with suppress(Exception):  # what has no meaning in JSON is shown by its `repr`
                known = meaning(value)
                value = value if known is UNKNOWN else known
        if isinstance(value, Mapping):
            return {str(copied(key, 1)): copied(item, depth - 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [copied(item, depth - 1) for item in value]
        return _scalar(value)

    copy = copied(event, 20)
    return copy if isinstance(copy, dict) else {"event": copy}


def _scalar(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float, Decimal)):
        with suppress(Refused):  # JSON has no infinity, for one
            return number(value)
    try:
        text = str.__str__(value) if isinstance(value, str) else repr(value)
    except Exception:  # noqa: BLE001 - it may be anything at all
        text = f"<{type(value).__name__}>"
    return text[:_LONGEST_SHOWN].encode(errors="backslashreplace").decode()
