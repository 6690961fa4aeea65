"""Colour for who reads in a terminal, and for nobody else."""

from __future__ import annotations

import os
from typing import Final, TextIO

__all__ = ["BOLD", "DIM", "GREEN", "RED", "YELLOW", "paint", "takes_colour"]

BOLD: Final = "1"
DIM: Final = "2"
RED: Final = "1;31"
GREEN: Final = "32"
YELLOW: Final = "33"


def takes_colour(stream: TextIO) -> bool:
    """Tell whether colour is wanted.

    On a terminal it is. NO_COLOR turns it off (no-color.org), FORCE_COLOR on (force-color.org);
    of both the first wins, as in CPython's own tracebacks.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def paint(colour: str, text: str) -> str:
    """Return text with what turns a colour on before it, and off behind it."""
    return f"\x1b[{colour}m{text}\x1b[0m" if text else text
