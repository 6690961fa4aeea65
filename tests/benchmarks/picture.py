"""Draws the results as a picture: a table with a bar for each value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

__all__ = ["Column", "picture"]

_FIRST: Final = 300  # pixels: the names
_WIDTH: Final = 134  # each column
_HEIGHT: Final = 34  # each row
_TOP: Final = 62  # the headings
_STYLE: Final = """
  text { font: 12px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif;
         fill: #1f2328; }
  .ours { font-weight: 600; }
  .small { font-size: 11px; fill: #59636e; }
"""


@dataclass(frozen=True)
class Column:
    """One measure.

    Attributes:
        heading: What it is; a `|` begins a new line.
        better: Whether `less` or `more` is better.
        values: The value by the name of the row; not every row has one.
        digits: The digits after the point that are shown.
    """

    heading: str
    better: str
    values: Mapping[str, float]
    digits: int


def picture(rows: Sequence[str], ours: Sequence[str], columns: Sequence[Column], note: str) -> str:
    """Return a table as SVG.

    Args:
        rows: The names of the rows.
        ours: Those that are to stand out.
        columns: The columns.
        note: What stands below the table.
    """
    width, height = _FIRST + _WIDTH * len(columns), _TOP + _HEIGHT * len(rows) + 26
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{escape(note)}</title>",
        f"<style>{_STYLE}</style>",
        # A ground of its own, so that it can be read in a dark theme, too.
        f'<rect width="{width}" height="{height}" rx="6" fill="#ffffff"/>',
    ]

    def text(x: float, y: float, kind: str, words: str) -> None:
        parts.append(f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(words)}</text>')

    for index, column in enumerate(columns):
        left = _FIRST + index * _WIDTH
        lines = column.heading.split("|")
        for number, line in enumerate([*lines, f"{column.better} is better"]):
            text(left, 18 + 15 * number, "ours" if number < len(lines) else "small", line)
    for number, row in enumerate(rows):
        top = _TOP + number * _HEIGHT
        kind = "ours" if row in ours else ""
        parts.append(f'<path d="M10 {top}H{width - 10}" stroke="#d1d9e0"/>')
        text(12, top + 21, kind, row)
        for index, column in enumerate(columns):
            if (value := column.values.get(row)) is None:
                continue
            left = _FIRST + index * _WIDTH
            length = max(1.0, value / max(column.values.values()) * (_WIDTH - 18))
            colour = "#0969da" if row in ours else "#afb8c1"
            parts.append(
                f'<rect x="{left}" y="{top + 22}" width="{length:.1f}" height="5" fill="{colour}"/>'
            )
            text(left, top + 17, kind, f"{value:,.{column.digits}f}")
    text(12, height - 9, "small", note)
    return "\n".join([*parts, "</svg>\n"])
