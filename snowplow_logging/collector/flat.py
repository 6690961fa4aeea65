"""Enriched events as Snowplow's Analytics SDK writes them: flat JSON, and lines of TSV."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from .circe_json import read_json
from .columns import COLUMNS, json_value
from .enrich import BadEvent, GoodEvent
from .java_text import printed
from .outline import self_describing
from .protocol import SCHEMA_URI, iso_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["FAILURE", "column_text", "column_value", "flat_columns", "flat_event", "tsv_line"]

FAILURE: Final = "contexts_com_snowplowanalytics_snowplow_failure_1"
"""The column of the entity that marks a failed event."""

_COMPONENT: Final = "snowplow-logging-collector"
_OBJECTS: Final = frozenset({"contexts", "unstruct_event", "derived_contexts"})
_FLAT: Final = tuple(column for column in COLUMNS if column not in _OBJECTS)
_HUMP: Final = re.compile(r"([^A-Z_])([A-Z])")
_WHITE: Final = re.compile(r"[\t\r\n]")


def flat_event(verdict: GoodEvent | BadEvent) -> dict[str, Any]:
    """Return an event as one flat JSON object, null where a column has no value.

    Self-describing data stands in a column ``unstruct_event_VENDOR_NAME_MODEL`` and entities of
    one kind in a list in ``contexts_VENDOR_NAME_MODEL``. A failed event has the columns that could
    be filled, and the entity ``com.snowplowanalytics.snowplow/failure``.

    Args:
        verdict: The event, good or bad.
    """
    columns = verdict.columns
    flat: dict[str, Any] = {
        column: json_value(column, columns[column]) if column in columns else None
        for column in _FLAT
    }
    flat.update(_described(columns))
    if isinstance(verdict, BadEvent):
        flat["collector_tstamp"] = iso_timestamp(verdict.payload.timestamp)
        flat[FAILURE] = [_failure(verdict)]
    return flat


def flat_columns(verdict: GoodEvent | BadEvent) -> set[str]:
    """Return the names of the columns that an event has a value in.

    They are those of `flat_event`, and for each that holds objects also those of the objects'
    names, as in ``contexts_VENDOR_NAME_MODEL.name``.

    Args:
        verdict: The event, good or bad.
    """
    names = {column for column in verdict.columns if column not in _OBJECTS}
    described = _described(verdict.columns)
    if isinstance(verdict, BadEvent):
        names.add("collector_tstamp")
        described[FAILURE] = [_failure(verdict)]
    for column, value in described.items():
        if value is not None:
            names.add(column)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                names |= {f"{column}.{name}" for name in one}
    return names


def column_value(verdict: GoodEvent | BadEvent, column: str) -> Any:
    """Return what an event has in one column, as `flat_event` has it; None where it has nothing.

    Args:
        verdict: The event, good or bad.
        column: The column's name, one of those of `flat_columns`. Of several entities of a kind
            the values of one name are a list.
    """
    text = verdict.columns.get(column)
    if text is not None and column not in _OBJECTS:
        return json_value(column, text)
    # Most events have no value in a column of their own, and need not be taken apart for that.
    if column in COLUMNS:
        if column == "collector_tstamp" and isinstance(verdict, BadEvent):
            return iso_timestamp(verdict.payload.timestamp)
        return None
    outer, _, name = column.partition(".")
    if outer == FAILURE and isinstance(verdict, BadEvent):
        value: Any = [_failure(verdict)]
    else:
        value = _described(verdict.columns).get(outer)
    if not name:
        return value
    objects = value if isinstance(value, list) else [value]
    values = [one[name] for one in objects if isinstance(one, dict) and name in one]
    return values if len(values) > 1 else next(iter(values), None)


def column_text(verdict: GoodEvent | BadEvent, column: str) -> str:
    """Return what an event has in one column as text; empty where it has nothing.

    Args:
        verdict: The event, good or bad.
        column: The column's name, as for `column_value`. One of Enrich's own has the text that
            Enrich writes.
    """
    if column in verdict.columns and column not in _OBJECTS:
        return verdict.columns[column]
    value = column_value(verdict, column)
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def tsv_line(event: GoodEvent) -> str:
    """Return a good event as a line of TSV: all columns, in Enrich's order, without a line break.

    Args:
        event: The event.
    """
    texts = (event.columns.get(column, "") for column in COLUMNS)
    return "\t".join(_WHITE.sub(" ", text) for text in texts)


def _described(columns: Mapping[str, str]) -> dict[str, Any]:
    """Return the columns of an event's self-describing data and of its entities."""
    found: dict[str, Any] = {}
    if "unstruct_event" in columns:
        schema, data = self_describing(columns["unstruct_event"])
        name = _column("unstruct_event", schema)
        if name:
            found[name] = data
    for schema, data in _entities(columns.get("contexts")):
        name = _column("contexts", schema)
        if name:
            found.setdefault(name, []).append(data)
    return found


def _entities(text: str | None) -> Iterator[tuple[str, Any]]:
    entities = read_json(text)["data"] if text else []
    for entity in entities if isinstance(entities, list) else []:
        if isinstance(entity, dict) and isinstance(entity.get("schema"), str):
            yield entity["schema"], entity.get("data")


def _column(prefix: str, schema: str) -> str | None:
    """Return the name of the column for data of a schema; None where it is no schema."""
    match = SCHEMA_URI.fullmatch(schema)
    if match is None:
        return None
    vendor = re.sub(r"[.-]", "_", match["vendor"])
    name = re.sub(r"[.-]", "_", _HUMP.sub(r"\1_\2", match["name"]))
    model = match["version"].partition("-")[0]
    return f"{prefix}_{vendor}_{name}_{model}".lower()


def _failure(event: BadEvent) -> dict[str, Any]:
    """Return the data of the entity that marks a failed event."""
    adapter = event.parameters is None
    return {
        "failureType": "AdapterFailure" if adapter else "ValidationError",
        "errors": [{"message": printed(error)} for error in event.errors],
        "timestamp": iso_timestamp(event.payload.timestamp),
        "componentName": _COMPONENT,
    }
