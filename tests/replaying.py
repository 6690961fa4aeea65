"""Files to replay, and the command that does it."""

from __future__ import annotations

import logging
import re

from snowplow_logging import SnowplowJsonFormatter
from snowplow_logging.cli import main

__all__ = ["EVENT_ID", "PAGE", "SECONDS", "ids_in", "page", "replay", "without_stm", "write"]

EVENT_ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
PAGE = {"event": "page_view", "page_url": "https://shop.example.com/basket"}
SECONDS = 90  # that any process may take


def page(number, **keys):
    """Return one of many page views."""
    return {**PAGE, "page_url": f"https://shop.example.com/{number}", **keys}


def write(path, events, **options):
    """Write a line for each event as a file handler does, None being a record without one."""
    handler = logging.FileHandler(path)
    handler.setFormatter(SnowplowJsonFormatter(**options))
    logger = logging.Logger("shop")
    logger.addHandler(handler)
    for event in events:
        logger.info("basket opened", extra=None if event is None else {"snowplow": event})
    handler.close()
    return path


def ids_in(*paths):
    """Return the ids of the events in files, in their order."""
    found = []
    for path in paths:
        found += re.findall(r'"event_id": "([^"]+)"', path.read_text())
    return found


def without_stm(events):
    """Return payloads without the time of sending."""
    return [{name: event[name] for name in event if name != "stm"} for event in events]


def replay(capsys, *arguments):
    """Run the command here; return its status, its output and its error output."""
    status = main(["replay", *map(str, arguments)])
    output = capsys.readouterr()
    return status, output.out, output.err
