"""The server's side of the page: its files, and what it asks as events arrive."""

from __future__ import annotations

import math
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .kept import Entry

__all__ = ["CONTENT_SECURITY_POLICY", "FILES", "find_rows", "read_file", "suggestions"]

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What the page may do: nothing but talk to the collector, whatever an event may hold."""

FILES: Final[Mapping[str, str]] = {
    "page.html": "text/html",
    "page.css": "text/css",
    "page.js": "text/javascript",
    "dom.js": "text/javascript",
    "panel.js": "text/javascript",
    "rows.js": "text/javascript",
    "timeline.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
"""The files of the page and their types."""

_MOST_ROWS: Final = 500  # in one answer
_MOST_SUGGESTIONS: Final = 100
_REASON: Final = 300  # characters


@cache
def read_file(name: str) -> bytes:
    """Return one of the page's files.

    Args:
        name: One of `FILES`.
    """
    return (Path(__file__).with_name("page_files") / name).read_bytes()


def find_rows(entries: Sequence[Entry], question: Mapping[str, str]) -> dict[str, Any]:
    """Return some rows of the table, newest first.

    Args:
        entries: All that is kept, ordered as it arrived.
        question: What is asked for: ``offset`` and ``limit``; ``until``, the number of the newest
            event, which holds a list still while events arrive; ``status``, ``good`` or ``bad``;
            ``event``, ``about``, ``user``, ``app`` and ``q``, parts of text, case aside, of which
            the last is looked for everywhere; ``from`` and ``to``, in milliseconds since 1970 UTC.

    Returns:
        The rows, and how many there are in all.

    Raises:
        ValueError: A number is none.
    """
    offset = _number(question, "offset", 0)
    limit = min(_number(question, "limit", _MOST_ROWS), _MOST_ROWS)
    found = list(_matching(entries, question))
    return {
        "total": len(found),
        "rows": [_row(entry) for entry in found[int(offset) : int(offset + limit)]],
    }


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


def _matching(entries: Sequence[Entry], question: Mapping[str, str]) -> Iterator[Entry]:
    until = _number(question, "until", math.inf)
    start, end = _number(question, "from", 0), _number(question, "to", math.inf)
    status = question.get("status")
    event, about, user, app, text = (
        question.get(name, "").strip().lower() for name in ("event", "about", "user", "app", "q")
    )
    for entry in reversed(entries):
        outline = entry.outline
        if (
            entry.number <= until
            and (not status or entry.good == (status == "good"))
            and start <= entry.timestamp < end
            and (not event or event in outline.event.lower())
            and (not about or about in outline.about.lower())
            and (not user or user in outline.user.lower())
            and (not app or app in outline.app.lower())
            and (not text or text in entry.text)
        ):
            yield entry


def _row(entry: Entry) -> dict[str, Any]:
    reason = ""
    if not entry.good:
        errors = entry.verdict().as_json()["errors"]
        reason = errors[0][:_REASON] + (f" (and {len(errors) - 1} more)" if errors[1:] else "")
    return {
        "number": entry.number,
        "timestamp": entry.timestamp,
        "good": entry.good,
        "reason": reason,
        **entry.outline._asdict(),
    }


def _number(question: Mapping[str, str], name: str, default: float) -> float:
    text = question.get(name)
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ValueError(f"{name} is {text!r}, which is no whole number")
    return int(text)
