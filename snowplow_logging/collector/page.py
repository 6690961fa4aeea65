"""The server's side of the page: its files, and what it asks as events arrive."""

from __future__ import annotations

import math
from collections import Counter
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from .enrich import BadEvent
from .events_api import column_names, sort_by_column
from .flat import FAILURE, column_text
from .kept import SEARCHED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .kept import Entry

__all__ = [
    "CONTENT_SECURITY_POLICY",
    "FILES",
    "SORTS",
    "Table",
    "columns",
    "read_file",
    "suggestions",
]

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What the page may do: nothing but talk to the collector, whatever an event may hold."""

FILES: Final[Mapping[str, str]] = {
    "page.html": "text/html",
    "page.css": "text/css",
    "page.js": "text/javascript",
    "columns.js": "text/javascript",
    "dom.js": "text/javascript",
    "panel.js": "text/javascript",
    "rows.js": "text/javascript",
    "timeline.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
"""The files of the page and their types."""

SORTS: Final = ("time", "event", "about", "user", "app", "verdict")
"""What the rows can be sorted by, besides any column of the events."""

_MOST_ROWS: Final = 500  # in one answer
_MOST_SUGGESTIONS: Final = 100
_REASON: Final = 300  # characters
_VALUE: Final = 300  # characters
_MOST_LISTS: Final = 8
_MOST_LOOKED_AT: Final = 5_000  # events, for the columns that they have
_COLUMN: Final = "column."
_RANGE: Final = frozenset({"offset", "limit", "until"})


@cache
def read_file(name: str) -> bytes:
    """Return one of the page's files.

    Args:
        name: One of `FILES`.
    """
    return (Path(__file__).with_name("page_files") / name).read_bytes()


class Table:
    """The page's table: lists of events, filtered and sorted, of which it asks for some rows.

    The last lists are remembered, by the numbers of their events: who scrolls asks for the rows of
    one list again and again. May be called from any thread.
    """

    def __init__(self) -> None:
        self._lists: dict[tuple[tuple[str, str], ...], Sequence[int]] = {}
        self._lock = Lock()

    def rows(self, entries: Sequence[Entry], question: Mapping[str, str]) -> dict[str, Any]:
        """Return some rows.

        Args:
            entries: All that is kept, ordered as it arrived.
            question: What is asked for: ``offset`` and ``limit``; ``until``, the number of the
                newest event, which holds a list still while events arrive; ``status``, ``good`` or
                ``bad``; ``event``, ``about``, ``user``, ``app`` and ``q``, parts of text, case
                aside, of which the last is looked for everywhere; ``from`` and ``to``, in
                milliseconds since 1970 UTC; ``column.NAME`` for each column of the events that is
                to be shown, with a part of its text, or empty; ``sort``, one of `SORTS` or
                ``column.NAME``, with a minus in front for the greatest first.

        Returns:
            The rows, newest first where nothing else is asked for, and how many there are in all.

        Raises:
            ValueError: A number is none, or there is no such order.
        """
        offset = int(_number(question, "offset", 0))
        limit = int(min(_number(question, "limit", _MOST_ROWS), _MOST_ROWS))
        if not entries:
            return {"total": 0, "rows": []}
        # Numbers are given in order, so an event's place among those that are kept is known by it.
        oldest, newest = entries[0].number, entries[-1].number
        until = int(min(_number(question, "until", newest), newest))
        kept = entries[: max(0, until - oldest + 1)]
        found = (
            [number for number in self._numbers(kept, until, question) if number >= oldest]
            if _narrows(question)
            else range(until, oldest - 1, -1)
        )
        columns = [name.removeprefix(_COLUMN) for name in question if name.startswith(_COLUMN)]
        return {
            "total": len(found),
            "rows": [
                _row(entries[number - oldest], columns) for number in found[offset : offset + limit]
            ],
        }

    def _numbers(
        self, entries: Sequence[Entry], until: int, question: Mapping[str, str]
    ) -> Sequence[int]:
        """Return the numbers of the events that fit, in their order."""
        asked = sorted((name, text) for name, text in question.items() if name not in _RANGE)
        key = (("until", str(until)), *asked)
        with self._lock:
            known = self._lists.get(key)
        if known is not None:
            return known
        found = _sorted(list(_matching(entries, question)), question.get("sort", ""))
        numbers = [entry.number for entry in found]
        with self._lock:
            self._lists[key] = numbers
            while len(self._lists) > _MOST_LISTS:
                del self._lists[next(iter(self._lists))]
        return numbers


def suggestions(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """Return values to filter by: the most frequent events, users and applications.

    Args:
        entries: All that is kept.
    """
    found: dict[str, list[str]] = {}
    for column in ("event", "user", "app"):
        values = Counter(getattr(entry.outline, column) for entry in entries)
        values.pop("", None)
        found[column] = [value for value, _ in values.most_common(_MOST_SUGGESTIONS)]
    return found


def columns(entries: Sequence[Entry]) -> list[str]:
    """Return the names of the columns that the last events have, which the table can show.

    What is wrong with a failed event stands in its row already, and in no column of this list.

    Args:
        entries: All that is kept.
    """
    names = column_names(entries[-_MOST_LOOKED_AT:])
    return [name for name in names if name.partition(".")[0] != FAILURE]


def _narrows(question: Mapping[str, str]) -> bool:
    """Tell whether a question asks for anything but all events, the newest first."""
    return any(text for name, text in question.items() if name not in _RANGE)


def _matching(entries: Sequence[Entry], question: Mapping[str, str]) -> Iterator[Entry]:
    start, end = _number(question, "from", 0), _number(question, "to", math.inf)
    status = question.get("status")
    event, about, user, app, text = (
        question.get(name, "").strip().lower() for name in ("event", "about", "user", "app", "q")
    )
    wanted = [
        (name.removeprefix(_COLUMN), part.strip().lower())
        for name, part in question.items()
        if name.startswith(_COLUMN) and part.strip()
    ]
    for entry in reversed(entries):
        outline = entry.outline
        if (
            (not status or entry.good == (status == "good"))
            and start <= entry.timestamp < end
            and (not event or event in outline.event.lower())
            and (not about or about in outline.about.lower())
            and (not user or user in outline.user.lower())
            and (not app or app in outline.app.lower())
            and (not text or text in entry.text)
            and (not wanted or _has(entry, wanted))
        ):
            yield entry


def _has(entry: Entry, wanted: Sequence[tuple[str, str]]) -> bool:
    """Tell whether an event has in each column a text that holds the part."""
    # Unpacked is only what can fit: a search has to look at the texts of Enrich's columns anyway.
    if any(column in SEARCHED and part not in entry.text for column, part in wanted):
        return False
    verdict = entry.verdict()
    return all(part in column_text(verdict, column).lower() for column, part in wanted)


def _sorted(found: list[Entry], by: str) -> list[Entry]:
    """Return events in an order that is asked for; those without a value come last."""
    name, descending = by.removeprefix("-"), by.startswith("-")
    if name.startswith(_COLUMN):
        return sort_by_column(found, name.removeprefix(_COLUMN), descending=descending)
    if name in ("event", "about", "user", "app"):
        there = [entry for entry in found if getattr(entry.outline, name)]
        there.sort(key=lambda one: getattr(one.outline, name).lower(), reverse=descending)
        return there + [entry for entry in found if not getattr(entry.outline, name)]
    if name == "time":
        return sorted(found, key=lambda one: (one.timestamp, one.number), reverse=descending)
    if name == "verdict":
        return sorted(found, key=lambda one: one.good, reverse=descending)
    if name:
        raise ValueError(f"sort is {by!r}, which is none of {', '.join(SORTS)}, column.NAME")
    return found


def _row(entry: Entry, columns: Sequence[str]) -> dict[str, Any]:
    reason = ""
    values: list[str] = []
    if columns or not entry.good:
        verdict = entry.verdict()
        values = [column_text(verdict, column)[:_VALUE] for column in columns]
        errors = verdict.errors if isinstance(verdict, BadEvent) else ()
        if errors:
            reason = errors[0][:_REASON] + (f" (and {len(errors) - 1} more)" if errors[1:] else "")
    return {
        "number": entry.number,
        "timestamp": entry.timestamp,
        "good": entry.good,
        "reason": reason,
        "values": values,
        **entry.outline._asdict(),
    }


def _number(question: Mapping[str, str], name: str, default: float) -> float:
    text = question.get(name)
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ValueError(f"{name} is {text!r}, which is no whole number")
    return int(text)
