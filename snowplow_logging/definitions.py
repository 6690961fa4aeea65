"""The types of events, laid out for the check: which it is, its keys, and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from snowplow_logging.events import COMMON_KEYS, EVENTS
from snowplow_logging.protocol import Key, Refused, describe, nearest, unreadable
from snowplow_logging.subject import SUBJECT_KEYS

__all__ = ["Definition", "definition_of", "definitions", "fill", "put_values"]

_COMMON_KEYS: Final = frozenset(COMMON_KEYS)


@dataclass(frozen=True)
class Definition:
    """An event type, laid out for the check.

    Attributes:
        name: What users call it.
        type: Its type in the protocol.
        schema: The schema of its values; None where the event names it, or has none.
        is_atomic: Whether its values are parameters of the protocol, and not JSON.
        keys: Its own keys.
        required: Snowplow's names of those that it must have, and the keys.
        defaults: Snowplow's names of those that have a value where they are absent, and what
            makes it of the event's id.
    """

    name: str
    type: str
    schema: str | None
    is_atomic: bool
    keys: dict[str, Key]
    required: list[tuple[str, str]]
    defaults: list[tuple[str, Callable[[str], Any]]]


definitions: Final[dict[str, Definition]] = {}
"""By the names of the events, laid out when the first event of the type is logged."""


def _lay_out(name: str) -> Definition:
    cls = EVENTS[name]
    keys = cls.keys()
    definition = Definition(
        cls.event_name,
        cls.event_type,
        cls.event_schema,
        cls.event_type != "ue",
        keys,
        [(key.name, name) for name, key in keys.items() if key.required],
        [(key.name, key.default) for key in keys.values() if key.default is not None],
    )
    definitions[name] = definition
    return definition


def definition_of(event: Any) -> Definition:
    """Return the definition of the type that an event names.

    Raises:
        Refused: It is no event, or there is no such type.
    """
    if type(event) is dict:
        plain: dict[Any, Any] = event
        name = plain.get("event")
    elif isinstance(event, Mapping):
        name = event.get("event")
    else:
        expected = "a dict with the key 'event', a list of them, or an event object"
        raise Refused(describe(event), expected)
    if type(name) is not str:
        if not isinstance(name, str):
            raise Refused("is missing" if name is None else describe(name), nearest(name, EVENTS))
        name = str.__str__(name)
    known = definitions.get(name)
    if known is None:
        if name not in EVENTS:
            raise Refused(describe(name), nearest(name, EVENTS))
        known = _lay_out(name)
    return known


def put_values(
    definition: Definition, event: Mapping[Any, Any], own: dict[str, Any]
) -> dict[Any, Any]:
    """Put in the values of an event's own keys, by Snowplow's names, and return the common ones."""
    common: dict[Any, Any] = {}
    keys, is_atomic = definition.keys, definition.is_atomic
    all_known = True
    key: Any = "event"
    try:
        plain: dict[Any, Any] = event if type(event) is dict else dict(event.items())
        for key, value in plain.items():
            known = keys.get(key)
            if known is None:
                if value is not None:
                    common[key] = value
                    all_known = all_known and key in _COMMON_KEYS
            elif value is not None:
                checked = known.check(value)
                # An empty parameter of the protocol counts as absent, an empty property does not.
                if not is_atomic or checked:
                    own[known.name] = checked
            elif known.nullable:
                own[known.name] = None
    except Refused as refused:
        raise refused.within(key) from None
    except Exception as error:
        raise unreadable(error).within(_as_path(key)) from error
    if not all_known:
        raise _unknown(definition, next(key for key in common if key not in _COMMON_KEYS))
    return common


def _unknown(definition: Definition, key: Any) -> Refused:
    expected = nearest(key, [*definition.keys, *COMMON_KEYS])
    if type(key) is str:
        if key in SUBJECT_KEYS:
            expected = f"it in the subject, as subject={{{key!r}: …}}"
        elif key == "entities":
            expected = "'context', the list of them"
    return Refused(f"is not a key of {definition.name}", expected, _as_path(key))


def fill(definition: Definition, own: dict[str, Any], event_id: str) -> None:
    """Add the values that absent keys have, and refuse where one is missing that has none."""
    for parameter, default in definition.defaults:
        if parameter not in own:
            own[parameter] = default(event_id)
    for parameter, key in definition.required:
        if parameter not in own:
            raise Refused("is missing or empty", f"it, for {definition.name} requires it", key)


def _as_path(key: Any) -> str:
    # A mapping's keys may be anything, whatever their type is said to be.
    return key if type(key) is str else f"a key that {describe(key)}"
