"""What Micro 4 adds to its REST API: events by column, a timeline, and what the columns hold."""

from __future__ import annotations

import math
from bisect import bisect_left
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from .flat import column_value, flat_columns, flat_event

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .kept import Entry

__all__ = ["column_names", "column_stats", "find_events", "sort_by_column", "timeline"]

_Wanted: TypeAlias = "frozenset[str] | str"
_PAGE_SIZE: Final = 50
_MOST_VALUES: Final = 20  # of a column, that `column_stats` returns


def find_events(entries: Sequence[Entry], question: Any) -> dict[str, Any]:
    """Answer ``POST /micro/events``.

    Args:
        entries: All that is kept.
        question: The body of the request: ``filters``, ``validEvents``, ``timeRange``, ``sorting``,
            ``page`` and ``pageSize``, each of which may be null or missing.

    Returns:
        The events of one page, newest first where nothing else is asked for, and how many pages
        and events there are.

    Raises:
        ValueError: The question makes no sense.
    """
    asked = _object(question, "The question")
    valid = _get(asked, "validEvents", bool, None)
    page = _get(asked, "page", int, 1)
    size = _get(asked, "pageSize", int, _PAGE_SIZE)
    if page < 1 or size < 1:
        raise ValueError("page and pageSize are not 1 or more")
    start, end = _time_range(asked)
    filters = list(_filters(asked))
    sorting = _sorting(asked)
    found = [
        entry
        for entry in reversed(entries)
        if valid in {None, entry.good} and start <= entry.timestamp < end
    ]
    if filters:
        found = [entry for entry in found if _fits(entry, filters)]
    if sorting is not None:
        column, descending = sorting
        found = sort_by_column(found, column, descending=descending)
    first = (page - 1) * size
    return {
        "events": [flat_event(entry.verdict()) for entry in found[first : first + size]],
        "totalPages": max(1, math.ceil(len(found) / size)),  # as Micro counts
        "totalItems": len(found),
    }


def column_names(entries: Iterable[Entry]) -> list[str]:
    """Answer ``GET /micro/columns``: the names of all columns that any event has a value in.

    Args:
        entries: All that is kept.
    """
    names: set[str] = set()
    for entry in entries:
        names |= flat_columns(entry.verdict())
    return sorted(names)


def column_stats(entries: Sequence[Entry], question: Any) -> dict[str, Any]:
    """Answer ``POST /micro/columnStats``.

    Args:
        entries: All that is kept.
        question: The body of the request, with the names of ``columns``.

    Returns:
        For each column whether it can be sorted and filtered by, and its values as texts, the
        last 20 at most; None where they are objects.

    Raises:
        ValueError: The question makes no sense.
    """
    columns = _get(_object(question, "The question"), "columns", list, [])
    if not all(isinstance(column, str) for column in columns):
        raise ValueError("columns is not a list of names")
    values: dict[str, dict[str, Any]] = {column: {} for column in columns}
    objects: set[str] = set()
    for entry in reversed(entries):
        verdict = entry.verdict()
        for column, seen in values.items():
            value = column_value(verdict, column)
            if isinstance(value, (dict, list)):
                objects.add(column)
            elif value is not None and len(seen) < _MOST_VALUES:
                seen.setdefault(_text(value), value)
    return {
        column: {
            "sortable": column not in objects,
            "filterable": column not in objects,
            "values": None if column in objects else _in_order(seen),
        }
        for column, seen in values.items()
    }


def sort_by_column(entries: list[Entry], column: str, *, descending: bool) -> list[Entry]:
    """Return events sorted by a column, those without a value last.

    Args:
        entries: The events, which stay in their order where their values are equal, and where any
            value is an object.
        column: The column's name.
        descending: Whether the greatest value comes first.
    """
    values = [(column_value(entry.verdict(), column), entry) for entry in entries]
    if any(isinstance(value, (dict, list)) for value, _ in values):
        return entries
    there = [(_order(value), entry) for value, entry in values if value is not None]
    there.sort(key=lambda pair: pair[0], reverse=descending)
    return [entry for _, entry in there] + [entry for value, entry in values if value is None]


def timeline(entries: Iterable[Entry], question: Any) -> dict[str, Any]:
    """Answer ``POST /micro/timeline``: how many events arrived in each span of time.

    Args:
        entries: All that is kept.
        question: The body of the request, with ``buckets`` of ``start`` and ``end``. An event at
            the very end of a bucket is in the next one.

    Raises:
        ValueError: The question makes no sense.
    """
    buckets = _get(_object(question, "The question"), "buckets", list, [])
    # A clock may be set back, so the order of arrival need not be that of the times.
    times: dict[bool, list[int]] = {True: [], False: []}
    for entry in entries:
        times[entry.good].append(entry.timestamp)
    for verdict in times.values():
        verdict.sort()

    def count(good: bool, start: float, end: float) -> int:  # noqa: FBT001
        return max(0, bisect_left(times[good], end) - bisect_left(times[good], start))

    points = []
    for bucket in buckets:
        start, end = _bounds(_object(bucket, "A bucket"), "a bucket")
        points.append(
            {
                "validEvents": count(True, start, end),
                "failedEvents": count(False, start, end),
                "bucket": bucket,
            }
        )
    return {"points": points}


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is not a JSON object")  # noqa: TRY004 - what the client sent
    return value


def _get(asked: dict[str, Any], name: str, kind: type[Any], default: Any) -> Any:
    value = asked.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        wanted = {bool: "true, false or null", int: "a whole number", list: "a list"}
        raise ValueError(f"{name} is not {wanted.get(kind, 'an object')}")
    return value


def _time_range(asked: dict[str, Any]) -> tuple[float, float]:
    given = _get(asked, "timeRange", dict, None)
    return (-math.inf, math.inf) if given is None else _bounds(given, "timeRange")


def _bounds(given: dict[str, Any], where: str) -> tuple[float, float]:
    """Return the two ends of a span of time in milliseconds; one that is missing is open."""
    return (
        _milliseconds(given.get("start"), f"start of {where}", -math.inf),
        _milliseconds(given.get("end"), f"end of {where}", math.inf),
    )


def _milliseconds(value: Any, where: str, missing: float) -> float:
    if value is None:
        return missing
    try:
        # Python reads the Z of UTC from 3.11.
        moment = datetime.fromisoformat(value.replace("Z", "+00:00"))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        return moment.timestamp() * 1000
    except (AttributeError, ValueError, OverflowError):
        raise ValueError(f"{where} is {value!r}, which is no ISO time") from None


def _filters(asked: dict[str, Any]) -> Iterator[tuple[str, _Wanted]]:
    for number, given in enumerate(_get(asked, "filters", list, []), 1):
        one = _object(given, f"Filter {number}")
        column, values, part = one.get("column"), one.get("values"), one.get("value")
        if isinstance(column, str) and isinstance(values, list):
            yield column, frozenset(_text(value).lower() for value in values)
        elif isinstance(column, str) and isinstance(part, str):
            # As it was before Micro 4.4: a part of the value.
            yield column, part.lower()
        else:
            raise ValueError(  # noqa: TRY004 - what the client sent
                f"Filter {number} has no column, or no list of values"
            )


def _fits(entry: Entry, filters: Sequence[tuple[str, _Wanted]]) -> bool:
    verdict = entry.verdict()
    for column, wanted in filters:
        value = column_value(verdict, column)
        # By what is an object Micro does not filter.
        if isinstance(value, (dict, list)):
            continue
        # In a set it is one of the values, in a text it is found within the value.
        text = "" if value is None else _text(value).lower()
        fits = wanted in text if isinstance(wanted, str) else value is not None and text in wanted
        if not fits:
            return False
    return True


def _sorting(asked: dict[str, Any]) -> tuple[str, bool] | None:
    given = _get(asked, "sorting", dict, None)
    if given is None:
        return None
    column, descending = given.get("column"), given.get("desc", False)
    if not isinstance(column, str) or not isinstance(descending, bool):
        raise ValueError(  # noqa: TRY004 - what the client sent
            "sorting has no column, or its desc is neither true nor false"
        )
    return column, descending


def _in_order(values: dict[str, Any]) -> list[str]:
    """Return values as texts, in the order of what they are."""
    return [text for text, _ in sorted(values.items(), key=lambda item: _order(item[1]))]


def _order(value: Any) -> tuple[int, float, str]:
    """Return what a value is sorted by: numbers before texts."""
    if isinstance(value, (int, float)):
        return (0, value, "")
    return (1, 0.0, str(value).lower())


def _text(value: Any) -> str:
    """Return a value as a filter compares it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
