"""What the command ``snowplow-logging collector`` prints of each event."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any, Final, TextIO

from snowplow_logging.colour import BOLD, DIM, GREEN, RED, paint, takes_colour
from snowplow_logging.printable import printable

from .enrich import BadEvent, GoodEvent
from .flat import flat_event, tsv_line

if TYPE_CHECKING:
    from .kept import Entry

__all__ = ["FORMATS", "Terminal"]

FORMATS: Final = ("lines", "log-json", "output-json", "output-tsv")
"""What a `Terminal` can print.

``lines`` are for people. ``log-json`` is the same for programs: one JSON object for each event,
good or bad. ``output-json`` and ``output-tsv`` are the good events as they would be loaded, which
are then alone on standard output, and the lines go to standard error.
"""

_LONGEST_ABOUT: Final = 70  # characters


class Terminal:
    """Prints each event as it arrives.

    Nothing that came over the wire steers the terminal: what cannot be printed is escaped.

    Args:
        form: One of `FORMATS`.
        quiet: Whether the lines for people are left out.
    """

    def __init__(self, form: str = "lines", *, quiet: bool = False) -> None:
        self._form = form
        self._quiet = quiet
        self._lines = sys.stderr if form.startswith("output-") else sys.stdout
        self._colour = takes_colour(self._lines)

    def greet(self, endpoint: str) -> None:
        """Say where the collector is.

        Args:
            endpoint: Its URL.
        """
        if self._form == "log-json":
            _write(sys.stdout, json.dumps({"collector": endpoint, "page": f"{endpoint}/micro/ui"}))
            return
        address = self._paint(BOLD, endpoint)
        _write(self._lines, f"Collector: {address} (open it in a browser to see what arrives)")
        _write(self._lines, f"Counts:    {endpoint}/micro/all")
        _write(self._lines, f"Events:    {endpoint}/micro/good and /micro/bad")

    def show(self, entry: Entry) -> None:
        """Print an event.

        Args:
            entry: The event.
        """
        verdict = entry.verdict()
        if isinstance(verdict, GoodEvent) and self._form == "output-json":
            _write(sys.stdout, json.dumps(flat_event(verdict), default=str))
        elif isinstance(verdict, GoodEvent) and self._form == "output-tsv":
            line = tsv_line(verdict)
            # A program gets what came, a terminal what it can show.
            shown = "\t".join(map(printable, line.split("\t"))) if sys.stdout.isatty() else line
            _write(sys.stdout, shown)
        if self._quiet:
            return
        errors = list(verdict.errors) if isinstance(verdict, BadEvent) else []
        if self._form == "log-json":
            _write(sys.stdout, json.dumps(_as_json(entry, errors)))
        else:
            _write(self._lines, self._line(entry, errors))

    def _line(self, entry: Entry, errors: list[str]) -> str:
        event, about, user, app = map(printable, entry.outline)
        if len(about) > _LONGEST_ABOUT:
            about = f"{about[: _LONGEST_ABOUT - 1]}…"
        parts = [
            self._paint(DIM, _clock(entry.timestamp)),
            self._paint(GREEN, "good") if entry.good else self._paint(RED, "BAD "),
            self._paint(BOLD, event),
            about,
            *([f"user={user}"] if user else []),
            *([f"app={app}"] if app else []),
            self._paint(RED, printable(" | ".join(errors))),
        ]
        return "  ".join(part for part in parts if part)

    def _paint(self, colour: str, text: str) -> str:
        return paint(colour, text) if self._colour else text


def _as_json(entry: Entry, errors: list[str]) -> dict[str, Any]:
    seconds, thousandths = divmod(entry.timestamp, 1000)
    return {
        "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{thousandths:03}Z",
        "good": entry.good,
        **entry.outline._asdict(),
        "event_id": entry.verdict().columns.get("event_id"),
        "errors": errors,
    }


def _clock(milliseconds: int) -> str:
    """Return the time of day, as the clock on the wall has it."""
    seconds, thousandths = divmod(milliseconds, 1000)
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{thousandths:03}"


def _write(stream: TextIO, line: str) -> None:
    encoding = stream.encoding or "utf-8"
    # Half a surrogate pair cannot be written in any encoding.
    print(line.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
