"""Text that came from elsewhere, as it may be shown on a terminal or written to a log."""

from __future__ import annotations

from typing import Final

__all__ = ["printable"]

_INSTEAD: Final = "\N{REPLACEMENT CHARACTER}"


def printable(text: str, most: int | None = None) -> str:
    """Replace what could steer a terminal or begin another line of a log.

    That are control characters (C0, C1), line and paragraph separators, and what changes the
    direction of text.

    Args:
        text: The text.
        most: The characters that are shown at most; None for all.
    """
    if most is not None and len(text) > most:
        text = f"{text[: most - 1]}…"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _INSTEAD for char in text)
