"""Copies of what was logged, which whoever changes the original does not change."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Final

from snowplow_logging.event_ids import IdentifiedEvent, with_this_id

__all__ = ["deep_copy", "fixed"]

_CONTAINERS: Final = frozenset((dict, list, tuple, IdentifiedEvent))


def fixed(event: Any) -> Any:
    """Return an event, or a list of them, with all dicts and lists in it copied.

    All else stays what it is, because a copy of a program's own object may cost anything. What
    cannot be copied, such as a list that is nested too deep, stays as well.
    """
    try:
        return _copied(event, {}, lambda other: other)
    except Exception:  # noqa: BLE001 - the check says what is wrong with it
        return event


def deep_copy(event: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of an event for a function of the program's, which may change all of it.

    What refuses to be copied, such as an object with a lock, stays what it is.

    Raises:
        RecursionError: It is nested too deep.
    """
    copied: dict[str, Any] = _copied(event, {}, _deep_copy_of_other)
    return copied


def _deep_copy_of_other(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001 - whatever the class of the program's raises
        return value


def _copied(value: Any, known: dict[int, Any], other: Callable[[Any], Any]) -> Any:
    """Copy a value, what it holds several times once, for it may even hold itself."""
    kind = type(value)
    if kind not in _CONTAINERS:
        return other(value)
    if id(value) in known:
        return known[id(value)]
    copied: Any
    if kind is tuple:
        return tuple([_copied(one, known, other) for one in value])
    if kind is list:
        copied = known[id(value)] = []
        copied += [_copied(one, known, other) for one in value]
        return copied
    copied = {} if kind is dict else with_this_id({}, value.event_id, value.log_call)
    known[id(value)] = copied
    for key, one in [*value.items()]:  # at once, for another thread may change it
        copied[key] = _copied(one, known, other)
    return copied
