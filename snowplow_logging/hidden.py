"""Events that a renderer has made a part of the text of a message, where no handler finds them."""

from __future__ import annotations

import re
import sys
from functools import cache
from logging import LogRecord
from typing import Final

__all__ = ["HIDDEN", "hides_event"]

HIDDEN: Final = (
    "an event in a structlog call became a part of the message's text, and is not sent: have "
    "snowplow_logging.structlog.SnowplowProcessor(renderer) stand in structlog's processors in "
    "the place of the renderer"
)
"""What to do about it."""


@cache
def _rendered(event_key: str) -> re.Pattern[str]:
    colour = r"\x1b\[[\d;]*m"
    return re.compile(
        rf"""(?:(?<![\w.])|{colour}){re.escape(event_key)}["']?(?:{colour})*[=:]\s?(?:{colour})*["']?"""
        # A dict, a list of dicts, or an event object by its `repr` or its text.
        r"""(?:[\[{][\s\S]{0,300}?['"]event['"]|[A-Z][A-Za-z]+\(|[a-z_]+ [a-z_]+=)"""
    )


def hides_event(record: LogRecord, event_key: str) -> bool:
    """Tell whether structlog, if the program has it, has rendered an event as text."""
    message = record.msg
    return (
        "structlog" in sys.modules
        and type(message) is str
        and event_key in message
        and _rendered(event_key).search(message[:100_000]) is not None
    )
