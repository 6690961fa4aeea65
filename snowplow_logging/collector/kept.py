"""The events that are kept: the last ones, within a number of events and a number of bytes."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, replace
from sys import getsizeof
from typing import TYPE_CHECKING, Any, Final

from .columns import COLUMNS
from .enrich import BadEvent, GoodEvent
from .outline import outline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .enrich import CollectorPayload
    from .outline import Outline

__all__ = ["KEEP", "KEEP_BYTES", "SEARCHED", "Entry", "Kept"]

KEEP: Final = 100_000
"""How many events are kept by default."""

KEEP_BYTES: Final = 512 * 1024 * 1024
"""How many bytes of events are kept by default."""

_OVERHEAD: Final = 1_000
"""Bytes of an entry's Python objects, besides its text, and of its share of the request."""

# Without what everybody finds in every event, and nobody looks for; objects are searched as text.
SEARCHED: Final = frozenset(COLUMNS) - frozenset(
    """
    collector_tstamp contexts derived_tstamp dvce_created_tstamp dvce_sent_tstamp etl_tstamp
    event_format unstruct_event v_collector v_etl
    """.split()
)
"""The columns whose texts a search looks at."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Entry:
    """One event that is kept, packed: most events are never looked at again.

    Attributes:
        number: How many events had arrived with it since the collector was made.
        timestamp: When it arrived, in milliseconds since 1970 UTC.
        good: Whether Snowplow would load it.
        outline: What a table shows of it.
        text: All that a search looks at, in lower case.
        size: Its bytes, about.
    """

    number: int
    timestamp: int
    good: bool
    outline: Outline
    text: str
    size: int
    _payload: CollectorPayload
    _packed: str

    def verdict(self) -> GoodEvent | BadEvent:
        """Return the event, as it was judged."""
        parameters, columns, schema, contexts, errors = json.loads(self._packed)
        if self.good:
            return GoodEvent(self._payload, parameters, columns, schema, contexts)
        return BadEvent(self._payload, parameters, errors, columns)

    def as_json(self) -> dict[str, Any]:
        """Return it in the shape of Micro's ``/micro/good`` or ``/micro/bad``."""
        return self.verdict().as_json()


class Kept:
    """The last events to arrive. Its users see to it that one thread at a time is in it.

    Args:
        most: How many events it keeps at most.
        most_bytes: How many bytes it keeps at most, besides the last event.

    Attributes:
        last: The number of the last event to arrive; numbers are never given twice.
        good: How many good events have arrived since the last `clear`.
        bad: How many failed events have.
        cleared: How often it was cleared.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self.last = 0
        self.good = 0
        self.bad = 0
        self.cleared = 0

    def __len__(self) -> int:
        """Return how many events are kept."""
        return len(self._entries)

    def entries(self) -> list[Entry]:
        """Return what is kept, ordered as it arrived."""
        return list(self._entries)

    def add(
        self, payload: CollectorPayload, verdicts: Sequence[GoodEvent | BadEvent]
    ) -> list[Entry]:
        """Keep what became of a request, and let go of the oldest events for it.

        Args:
            payload: The request.
            verdicts: What became of its events.

        Returns:
            The entries made of them.
        """
        failed = sum(isinstance(verdict, BadEvent) for verdict in verdicts)
        # Only what failed shows the body that it came in.
        bare = replace(payload, body=None)
        share = len(payload.body or b"") // failed if failed else 0
        added = []
        for verdict in verdicts:
            good = isinstance(verdict, GoodEvent)
            self.last += 1
            self.good += good
            self.bad += not good
            added.append(
                _entry(self.last, verdict, bare if good else payload, 0 if good else share)
            )
        self._entries.extend(added)
        self._bytes += sum(entry.size for entry in added)
        while len(self._entries) > self._most or (
            self._bytes > self._most_bytes and len(self._entries) > 1
        ):
            self._bytes -= self._entries.popleft().size
        return added

    def clear(self) -> None:
        """Forget all events."""
        self._entries.clear()
        self._bytes = self.good = self.bad = 0
        self.cleared += 1


def _entry(
    number: int, verdict: GoodEvent | BadEvent, payload: CollectorPayload, body: int
) -> Entry:
    parameters, columns = verdict.parameters, dict(verdict.columns)
    schema = contexts = errors = None
    if isinstance(verdict, GoodEvent):
        schema, contexts = verdict.schema, list(verdict.contexts)
    else:
        errors = list(verdict.errors)
    shown = outline(verdict)
    searched = [value for name, value in columns.items() if name in SEARCHED]
    for column in ("unstruct_event", "contexts"):
        # As a reader sees it: of a text with a quotation mark, the mark without its escape.
        searched += [columns[column].replace("\\", "")] if column in columns else []
    text = "\n".join([*shown, *searched, *(errors or ())]).lower()
    packed = json.dumps(
        [None if parameters is None else dict(parameters), columns, schema, contexts, errors],
        ensure_ascii=False,
        separators=(",", ":"),
    )
    size = getsizeof(packed) + getsizeof(text) + body + _OVERHEAD
    return Entry(
        number,
        verdict.payload.timestamp,
        errors is None,
        shown,
        text,
        size,
        payload,
        packed,
    )
