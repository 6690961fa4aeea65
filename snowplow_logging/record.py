"""From a log record to its events: finds them, gives each an id, takes transactions apart."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
from enum import Enum
from logging import LogRecord
from typing import Any, Final

from snowplow_logging.event_ids import IdentifiedEvent, id_of, new_id
from snowplow_logging.events import Event
from snowplow_logging.kept import give_ids, lift, message_event
from snowplow_logging.number_types import number
from snowplow_logging.protocol import Refused, derived_uuid, is_given
from snowplow_logging.python_types import UNKNOWN, meaning, members

__all__ = ["carries_event", "events_of", "on_page", "place_of", "shown"]

_MOST_SHOWN: Final = 10_000  # values
_LONGEST_SHOWN: Final = 65_535  # characters, as long as a property of any event's schema
_PAGE_EVENTS: Final = ("page_view", "page_ping")
_INHERITED: Final = ("currency", "true_timestamp", "subject", "context")

_WEB: Final = __file__.removesuffix("record.py") + f"web{os.sep}"  # as code names its file


def carries_event(record: LogRecord, event_key: str) -> bool:
    """Tell whether a record has an event, good or bad."""
    return (
        record.__dict__.get(event_key) is not None
        or _is_event(record.msg)
        or message_event(record) is not None
        or lift(record, event_key)
    )


def _is_event(message: Any) -> bool:
    # Not `isinstance`, which asks an object for a class that it may fail to give.
    return issubclass(type(message), Event)


def events_of(record: LogRecord, event_key: str) -> list[tuple[Any, str]]:
    """Return each event of a record as a mapping, with the event id it has if it names none.

    Every handler that sees the record, or a copy of it in another process, gets the same ids.

    What is no event at all is returned as it is, for the check to say so.
    """
    value = record.__dict__.get(event_key)
    if type(value) is not IdentifiedEvent or type(record.msg) is not str:
        give_ids(record, event_key)
        value = record.__dict__.get(event_key)
    message = None
    if type(record.msg) is not str or type(record) is not LogRecord:
        message = message_event(record)
    if message is None and type(value) is IdentifiedEvent and "items" not in value:
        return [({**value}, value.event_id)]
    if message is None and type(value) is dict and "items" not in value:
        return [(value, id_of(value))]
    parts = _all_parts(value)
    if message is not None:
        parts += _parts(message)
    return parts


def _all_parts(value: Any) -> list[tuple[Any, str]]:
    try:
        events = [*value] if isinstance(value, (list, tuple)) else [value]
    except Exception:  # noqa: BLE001 - a list of a class that does as it likes
        events = [value]
    return [part for event in events if event is not None for part in _parts(event)]


def _parts(event: Any) -> list[tuple[Any, str]]:
    """Return a transaction and its items as the events that they are, and any other as it is."""
    event_id = ""
    try:
        if isinstance(event, Event):
            event = event.as_event_dict()
        event_id = id_of(event)
        if type(event) is IdentifiedEvent:
            event = dict(event)
        items = event.get("items") if isinstance(event, Mapping) else None
        if not isinstance(items, (list, tuple)) or event.get("event") != "ecommerce_transaction":
            return [(event, event_id)]
        parts: list[tuple[Any, str]] = [
            ({k: v for k, v in event.items() if k != "items"}, event_id)
        ]
        for index, item in enumerate(items):
            item_id = derived_uuid(f"{index} {event_id}".encode(errors="replace"))
            parts.append((_item(parts[0][0], item), item_id))
        return parts
    except Exception:  # noqa: BLE001 - it may be anything, and the check says what is wrong
        return [(event, event_id or new_id())]


def _item(transaction: Mapping[str, Any], item: Any) -> Any:
    """Return an item of a transaction as an event; what is none as it is."""
    try:
        fields = vars(item) if isinstance(item, Event) else members(item) or item
        own = {key: value for key, value in fields.items() if is_given(value)}
    except Exception:  # noqa: BLE001 - it may be anything, and the check says what is wrong
        return item
    inherited = {key: transaction.get(key) for key in _INHERITED}
    own["order_id"] = transaction.get("order_id")
    return {"event": "ecommerce_transaction_item", **inherited, **own}


def on_page(event: Any, page: Mapping[str, Any]) -> Any:
    """Return a page's view or ping with the page's URL and referrer where it has none.

    Any other event is returned as it is.
    """
    try:
        if not isinstance(event, Mapping) or event.get("event") not in _PAGE_EVENTS:
            return event
        missing = {key: value for key, value in page.items() if not is_given(event.get(key))}
        return {**event, **missing}
    except Exception:  # noqa: BLE001 - it may be anything, and the check says what is wrong
        return event


def place_of(record: LogRecord) -> str:
    """Say where an event was logged, for whoever is to mend it.

    No line of the program has logged the page view of a request, but settings say what is in it.
    """
    if str(record.pathname).startswith(_WEB):
        return "SnowplowMiddleware logs it for a request, as its page_view and user say"
    return f'File "{record.pathname}", line {record.lineno}, in {record.funcName}'


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
