"""What Snowplow takes within an event's values: lists, booleans, filters, a form's elements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from snowplow_logging.protocol import Check, Key, Refused, describe, nearest, one_of, text
from snowplow_logging.python_types import meaning, members

__all__ = ["ELEMENT_TYPE", "NODE_NAME", "boolean", "filters", "form_element", "list_of"]


def list_of(check: Check, least: int = 0) -> Check:
    """Make a check of a list of at least so many items, each of which passes a check."""

    def checked(value: Any) -> list[Any]:
        items = value if isinstance(value, (list, tuple)) else meaning(value)
        if not isinstance(items, (list, tuple)):
            raise Refused(describe(value), "a list")
        if len(items) < least:
            raise Refused("is empty", f"a list of at least {least}")
        checked_items = []
        for index, item in enumerate(items):
            try:
                checked_items.append(check(item))
            except Refused as error:
                path = f"[{index}]{error.path}"
                raise Refused(error.problem, error.expected, path) from None
        return checked_items

    return checked


def boolean(value: Any) -> bool:
    """Check that a value is True or False."""
    if not isinstance(value, bool):
        raise Refused(describe(value), "True or False")
    return value


def filters(value: Any) -> dict[str, Any]:
    """Check the filters of a search: strings or booleans by their names."""
    given = value if isinstance(value, Mapping) else members(value)
    if not isinstance(given, Mapping):
        raise Refused(describe(value), "a dict of strings or booleans")
    as_text, checked = text(), {}
    for key, item in given.items():
        if not isinstance(key, str):
            raise Refused(f"has a key that {describe(key)}", "strings as keys")
        try:
            checked[as_text(key)] = item if isinstance(item, bool) else as_text(item)
        except Refused as error:
            raise Refused(error.problem, f"{error.expected} or a bool", f".{key[:60]}") from None
    return checked


NODE_NAME: Final = one_of("INPUT", "TEXTAREA", "SELECT")
ELEMENT_TYPE: Final = one_of(
    *"button checkbox color date datetime datetime-local email file hidden image month number "
    "password radio range reset search submit tel text time url week".split()
)
_FORM_ELEMENT: Final = {
    "name": Key("name", text(65_535), required=True),
    "value": Key("value", text(65_535), nullable=True, required=True),
    "node_name": Key("nodeName", NODE_NAME, required=True),
    "nodeName": Key("nodeName", NODE_NAME),
    "type": Key("type", ELEMENT_TYPE),
}


def form_element(value: Any) -> dict[str, Any]:
    """Check an element of a form, and return it with the schema's names."""
    fields = value if isinstance(value, Mapping) else members(value)
    if not isinstance(fields, Mapping):
        raise Refused(describe(value), "a dict with name, value and node_name")
    element: dict[str, Any] = {}
    for key, item in fields.items():
        known = _FORM_ELEMENT.get(key) if isinstance(key, str) else None
        if known is None:
            problem = f"has the key {key!r}" if type(key) is str else "has a key that is no string"
            raise Refused(problem, nearest(key, _FORM_ELEMENT))
        if item is not None:
            try:
                element[known.name] = known.check(item)
            except Refused as error:
                raise Refused(error.problem, error.expected, f".{key}") from None
        elif known.nullable:
            element[known.name] = None
    for key, known in _FORM_ELEMENT.items():
        if known.required and known.name not in element:
            raise Refused(f"has no {key}", f"{key}, which a form's element requires")
    return element
