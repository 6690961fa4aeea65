"""An event in full, for who wants to know why it is good or bad: what the page's panel shows."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from .circe_json import read_json
from .columns import COLUMNS
from .enrich import BadEvent
from .log_call import as_curl, as_python

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from snowplow_logging.schemas import Fault

    from .iglu import Registry
    from .kept import Entry

__all__ = ["explain", "rules"]

_MOST_RULES: Final = 300
_DEEPEST: Final = 8
_INDEX: Final = re.compile(r"\[\d+\]")
_LIMITS: Final[Mapping[str, str]] = {
    "enum": "one of {}",
    "format": "format {}",
    "pattern": "matches {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minimum": "at least {}",
    "maximum": "at most {}",
    "multipleOf": "a multiple of {}",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
}


def explain(entry: Entry, registry: Registry | None, endpoint: str) -> dict[str, Any]:
    """Return all there is to say of an event, as JSON.

    Args:
        entry: The event.
        registry: Where its schemas are; None where nothing checks them.
        endpoint: The collector's URL.
    """
    verdict = entry.verdict()
    columns, parameters = verdict.columns, verdict.parameters
    event: list[dict[str, Any]] = []
    entities: list[dict[str, Any]] = []
    if "unstruct_event" in columns:
        event = [_described(read_json(columns["unstruct_event"])["data"], registry)]
    if "contexts" in columns:
        found = read_json(columns["contexts"])["data"]
        entities = [_described(one, registry) for one in (found if isinstance(found, list) else [])]
    return {
        "number": entry.number,
        "timestamp": entry.timestamp,
        "good": entry.good,
        **entry.outline._asdict(),
        "eventId": columns.get("event_id") if parameters is None or "eid" in parameters else None,
        "errors": list(verdict.errors) if isinstance(verdict, BadEvent) else [],
        "data": event,
        "entities": entities,
        "parameters": None if parameters is None else dict(parameters),
        "columns": {
            column: columns[column]
            for column in COLUMNS
            if column in columns and column not in ("unstruct_event", "contexts")
        },
        "request": _request(verdict.payload.as_json(), whole=parameters is None),
        "python": as_python(verdict),
        "json": json.dumps(verdict.as_json(), indent=2, ensure_ascii=False, default=str) + "\n",
        "curl": as_curl(verdict, endpoint),
    }


def _request(payload: dict[str, Any], *, whole: bool) -> dict[str, Any]:
    context = payload["context"]
    return {
        "contentType": payload["contentType"],
        "ipAddress": context["ipAddress"],
        "headers": context["headers"],
        "querystring": payload["querystring"],
        "body": payload["body"] if whole else None,
    }


def _described(value: Any, registry: Registry | None) -> dict[str, Any]:
    """Return self-describing data with its schema's rules and what breaks one."""
    schema = value.get("schema") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(schema, str):
        return {"schema": None, "data": _shown(value), "rules": [], "faults": [], "note": None}
    data = value.get("data")
    if registry is None:
        note = "The data was not checked: the extra 'collector' is not installed."
        return {"schema": schema, "data": _shown(data), "rules": [], "faults": [], "note": note}
    finding = registry.look(schema, data)
    return {
        "schema": schema,
        "data": _shown(data),
        "rules": [] if finding.document is None else rules(finding.document, finding.faults),
        "faults": [
            {"path": place, "problem": fault.problem, "rule": fault.rule, "give": fault.expected}
            for fault in finding.faults
            for place in _places(fault)
        ],
        "note": finding.note,
    }


def _shown(value: Any) -> str:
    """Return JSON as text: a browser's numbers would lose the digits of large ones."""
    return json.dumps(value, ensure_ascii=False, default=str)


def rules(document: Mapping[str, Any], faults: Sequence[Fault]) -> list[dict[str, Any]]:
    """Return what a schema says of each property, and what the data makes of it.

    Args:
        document: The schema.
        faults: What is wrong with the data.

    Returns:
        For each property its path, such as `.items[].price`, whether it is required, its rule in
        words, its description, and the fault of the data, if any. Properties that the schema does
        not know and does not allow come last.
    """
    wrong: dict[str, str] = {}
    for fault in faults:
        for place in _places(fault):
            wrong.setdefault(_INDEX.sub("[]", place), f"{fault.problem}; give {fault.expected}")
    table = [
        {**rule, "fault": wrong.pop(rule["path"], None)} for rule in _rules(document, "", _DEEPEST)
    ][:_MOST_RULES]
    table += [
        {"path": path, "required": False, "rule": "not allowed", "description": "", "fault": fault}
        for path, fault in wrong.items()
        if path
    ]
    if "" in wrong:
        top = {"path": "", "required": True, "rule": _words(document), "description": ""}
        table.insert(0, {**top, "fault": wrong[""]})
    return table


def _places(fault: Fault) -> list[str]:
    """Return the paths that a fault is about."""
    return [f"{fault.path}.{name}" for name in fault.names] or [fault.path]


def _rules(schema: Any, path: str, deepest: int) -> Iterator[dict[str, Any]]:
    if not isinstance(schema, dict) or not deepest:
        return
    properties, required = schema.get("properties"), schema.get("required")
    for name, rule in properties.items() if isinstance(properties, dict) else ():
        if not isinstance(rule, dict):
            continue
        description = rule.get("description")
        yield {
            "path": f"{path}.{name}",
            "required": isinstance(required, list) and name in required,
            "rule": _words(rule),
            "description": description if isinstance(description, str) else "",
        }
        yield from _rules(rule, f"{path}.{name}", deepest - 1)
        yield from _rules(rule.get("items"), f"{path}.{name}[]", deepest - 1)


def _words(rule: Mapping[str, Any]) -> str:
    """Return a rule in words."""
    kind = rule.get("type")
    words = [" or ".join(map(str, kind)) if isinstance(kind, list) else str(kind or "anything")]
    items = rule.get("items")
    if kind == "array" and isinstance(items, dict) and "type" in items:
        words = [f"array of {_words(items)}"]
    for keyword, template in _LIMITS.items():
        if keyword in rule:
            value = rule[keyword]
            text = (
                ", ".join(json.dumps(one, ensure_ascii=False) for one in value)
                if isinstance(value, list)
                else str(value)
            )
            words.append(template.format(text))
    return ", ".join(words)
