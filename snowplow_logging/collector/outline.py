"""What a person wants to know of an event at first sight: what it is, what it is about, whose."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from snowplow_logging.events import EVENTS

from .circe_json import read_json
from .enrich import BadEvent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .enrich import GoodEvent

__all__ = ["Outline", "outline", "self_describing"]

WHOLE_REQUEST: Final = "whole request"
"""The name of what failed before its events were told apart."""

_NAMES: Final = {cls.event_schema or cls.event_type: cls.event_name for cls in EVENTS.values()}
_WIRE_NAMES: Final = {"ev": "se"}
_SHOWN: Final = 200  # characters of the main values
_VALUES: Final = 4  # how many of the values of self-describing data are main ones
# The columns that say what an event is about, by the event's name on the wire.
_ABOUT: Final[Mapping[str, tuple[str, ...]]] = {
    "pv": ("page_title", "page_url"),
    "pp": ("page_title", "page_url"),
    "se": ("se_category", "se_action", "se_label", "se_property", "se_value"),
    "tr": ("tr_orderid", "tr_total", "tr_currency", "tr_affiliation"),
    "ti": ("ti_orderid", "ti_sku", "ti_name", "ti_quantity", "ti_price", "ti_currency"),
}


class Outline(NamedTuple):
    """An event in a row of a table.

    Attributes:
        event: Its name, as this library has it, or the one of its schema.
        about: Its main values.
        user: The user's id, or the id of the browser or device.
        app: The application's id.
    """

    event: str
    about: str
    user: str
    app: str


def outline(verdict: GoodEvent | BadEvent) -> Outline:
    """Return an event's outline.

    Args:
        verdict: The event, good or bad.
    """
    columns = verdict.columns
    parameters: Mapping[str, str] = verdict.parameters or {}
    if isinstance(verdict, BadEvent) and verdict.parameters is None:
        return Outline(WHOLE_REQUEST, "", "", "")
    sent = parameters.get("e", "")
    kind = _WIRE_NAMES.get(sent, sent)
    if kind == "ue":
        schema, data = self_describing(columns.get("unstruct_event"))
        name = _NAMES.get(schema) or columns.get("event_name") or _name_of(schema) or _NAMES["ue"]
        about = " ".join(_main_values(data))
    else:
        name = _NAMES.get(kind) or sent or "no event type"
        about = " · ".join(columns[column] for column in _ABOUT.get(kind, ()) if column in columns)
    user = columns.get("user_id") or columns.get("domain_userid") or ""
    return Outline(name, _cut(about), user, columns.get("app_id", ""))


def self_describing(text: str | None) -> tuple[str, Any]:
    """Return the schema and the data within the column ``unstruct_event``.

    Args:
        text: The column; None where it is null.

    Returns:
        The schema, empty where there is none, and the data, None where there is none.
    """
    inner = read_json(text)["data"] if text else None
    if not isinstance(inner, dict):
        return "", inner
    schema = inner.get("schema")
    return (schema if isinstance(schema, str) else ""), inner.get("data")


def _name_of(schema: str) -> str:
    parts = schema.split("/")
    return parts[1] if len(parts) > 1 else ""


def _main_values(data: Any) -> Iterator[str]:
    if not isinstance(data, dict):
        return
    shown = 0
    for name, value in data.items():
        if isinstance(value, list) and value and not isinstance(value[0], (dict, list)):
            text = ", ".join(map(_plain, value[:_VALUES]))
        elif isinstance(value, (dict, list)) or value is None or value == "":
            continue
        else:
            text = _plain(value)
        yield f"{name}={text}"
        shown += 1
        if shown == _VALUES:
            return


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
