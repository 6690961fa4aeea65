"""Events that another library has made text of, where no handler finds them."""

from __future__ import annotations

import re
import sys
from functools import cache
from logging import LogRecord
from typing import Final

from snowplow_logging.events import EVENTS

__all__ = ["hidden_event"]

_STRUCTLOG: Final = (
    "an event in a structlog call became a part of the message's text, and is not sent: have "
    "snowplow_logging.structlog.SnowplowProcessor(renderer) stand in structlog's processors in "
    "the place of the renderer"
)
_LOGURU: Final = (
    "an event that was the message of a loguru call became text, and is not sent: give it as "
    "snowplow=…, or logger.configure(patcher=snowplow_logging.loguru.keep_event)"
)
_LONGEST: Final = 100_000  # characters of a message that are looked at
# An event object that was the message stands near the start of the line, behind a time and a level.
_LONGEST_OBJECT: Final = 300  # characters

# An event object by its text, or by its `repr`. Each is searched for only where a part of it is
# found, because every record without an event comes here, and such a search takes long.
_NAMES: Final = tuple(EVENTS)
_TEXT: Final = re.compile(rf"""\b(?:{"|".join(_NAMES)}) [a-z_]+=""")
_REPR: Final = re.compile(
    rf"""\b(?:{"|".join(sorted({kind.__name__ for kind in EVENTS.values()}))})\(context="""
)


def _has_event_object(message: str) -> bool:
    start = message[:_LONGEST_OBJECT]
    if "=" not in start:
        return False
    if "(context=" in start and _REPR.search(start):
        return True
    return any(map(start.__contains__, _NAMES)) and _TEXT.search(start) is not None


@cache
def _rendered(event_key: str) -> re.Pattern[str]:
    colour = r"\x1b\[[\d;]*m"
    return re.compile(
        rf"""(?:(?<![\w.])|{colour}){re.escape(event_key)}["']?(?:{colour})*[=:]\s?(?:{colour})*["']?"""
        # A dict, a list of dicts, or an event object by its `repr` or its text.
        r"""(?:[\[{][\s\S]{0,300}?['"]event['"]|[A-Z][A-Za-z]+\(|[a-z_]+ [a-z_]+=)"""
    )


def hidden_event(record: LogRecord, event_key: str) -> str | None:
    """Return what to do about an event that structlog or loguru has made text of.

    Args:
        record: A record in which no event was found.
        event_key: The attribute of a record that holds its event.

    Returns:
        A sentence; None where there is no such event.
    """
    message = record.msg
    if type(message) is not str:
        return None
    # loguru's records have its `extra` as an attribute.
    if "loguru" in sys.modules and type(record.__dict__.get("extra")) is dict:
        return _LOGURU if _has_event_object(message) else None
    if "structlog" in sys.modules and (
        (event_key in message and _rendered(event_key).search(message[:_LONGEST]))
        or _has_event_object(message)
    ):
        return _STRUCTLOG
    return None
