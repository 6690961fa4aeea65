"""Sends one event from a shell, and says what became of it."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from snowplow_logging.events import EVENTS, InvalidEvent
from snowplow_logging.handler import SnowplowHandler, outcomes_of
from snowplow_logging.protocol import Key, Refused, nearest
from snowplow_logging.subject import SUBJECT_KEYS

__all__ = ["NotSentError", "read_event", "send"]

_REFUSED: Final = 1
_NOT_TAKEN: Final = 2
_ITEM: Final = "items[{}]".format
_LISTS: Final = ("[", "{")
"""How JSON begins that is no single value."""


class NotSentError(Exception):
    """The event was not sent, and why.

    Attributes:
        status: The exit status that says so: 1 where the event is to be mended, 2 where it is the
            collector or what says where that is.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def read_event(name: str, values: Sequence[str]) -> dict[str, Any]:
    """Read an event as it is written in a shell.

    Args:
        name: The type of the event.
        values: Its values, each `key=value`, or `key:=value` where the value is JSON.

    Raises:
        NotSentError: A value is of neither form, or no JSON.
    """
    if name not in EVENTS:
        shown = repr(name) if name.isidentifier() else "of that name"  # which may be a header
        raise NotSentError(f"there is no event {shown}; give {nearest(name, EVENTS)}", _REFUSED)
    keys: dict[str, Key] = {**EVENTS[name].keys()}
    event: dict[str, Any] = {"event": name}
    for number, text in enumerate(values, 1):
        key, equals, value = text.partition("=")
        is_json = key.endswith(":")
        *outer, last = key.removesuffix(":").split(".")
        if not equals or not (outer or [last])[0].replace("-", "_").isidentifier():
            # It may be a header or a URL whose option was left out, and is shown where it is a key.
            shown = repr(text) if text in keys else f"value {number}"
            raise NotSentError(f"{shown} is not of the form key=value or key:=JSON", _REFUSED)
        within = event
        for part in outer:
            inner = within.setdefault(part, {})
            if not isinstance(inner, dict):
                raise NotSentError(f"{key}: {part} has a value already", _REFUSED)
            within = inner
        of = SUBJECT_KEYS if outer == ["subject"] else keys if not outer else {}
        is_json = is_json or key == "true_timestamp"  # which is a number
        within[last] = _json(key, value) if is_json else _value(value, of.get(last))
    return event


def _json(key: str, value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError as error:
        problem = f"{key} is no JSON: {error}"
        if key.removesuffix(":") == "true_timestamp":
            now = int(time.time() * 1000)
            problem = f"{key}={value} is no number; give milliseconds since 1970 UTC, such as {now}"
        raise NotSentError(problem, _REFUSED) from None


def _value(text: str, key: Key | None) -> Any:
    """Return a text, or what it stands for where its key takes no text, or it is a list or dict."""
    try:
        if key is not None:
            key.check(text)
            return text
    except Refused:  # which wants a number, or a list
        pass
    else:
        if not text.lstrip().startswith(_LISTS):
            return text
    try:
        return json.loads(text)
    except ValueError:
        return text


class _Handler(SnowplowHandler):
    """Keeps what is wrong with the event, which others print."""

    error: BaseException | None = None

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002 - there is but one
        self.error = sys.exc_info()[1]


def _checked(handler: _Handler, record: logging.LogRecord) -> list[str]:
    """Check all events of a record before any is sent, and return their ids.

    A transaction with items is several, and who mends one of them sends all of them again. They are
    checked by the registries, too, for which the log call itself does not wait.

    Raises:
        NotSentError: Snowplow would refuse one of them.
    """
    settings = handler.settings
    schemas = None
    if settings.iglu is not None and settings.schema_check != "off":
        from snowplow_logging.iglu import Iglu
        from snowplow_logging.schema_check import SchemaCheck

        schemas = SchemaCheck(Iglu(settings.iglu, settings.iglu_api_key).find)
    ids = []
    for index, (part, outcome) in enumerate(outcomes_of(handler, record)):
        error: Exception | None = None
        if not isinstance(outcome, bytes):
            error = outcome
        else:
            payload = json.loads(outcome + b"}")
            ids.append(payload["eid"])
            try:
                if schemas is not None:
                    schemas.check_payload(part["event"], payload)
            except InvalidEvent as invalid:
                error = invalid
        if error is not None:
            raise NotSentError(f"{_ITEM(index - 1)}: {error}" if index else str(error), _REFUSED)
    if handler.error is not None:
        raise NotSentError(str(handler.error), _REFUSED)
    return ids


def send(event: dict[str, Any], settings: Mapping[str, Any]) -> str:
    """Send an event, in one attempt; if it is a transaction, its items as well.

    Args:
        event: The event, as it would be logged.
        settings: Those of the handler that sends it; the environment gives more.

    Returns:
        What became of it.

    Raises:
        NotSentError: Snowplow would refuse it, or the collector does, or cannot be reached; or so
            with one of the items.
    """
    sent: list[str] = []
    failed: list[str] = []
    own = {
        "store": None,
        "dead_letter": None,
        "enabled": True,
        "max_attempts": 1,
        "on_success": lambda events: sent.extend(taken["eid"] for taken in events),
        "on_failure": lambda _events, reason: failed.append(reason),
    }
    try:
        handler = _Handler(**{**settings, **own})
    except (TypeError, ValueError, ImportError) as error:
        raise NotSentError(str(error), _NOT_TAKEN) from None
    record = logging.LogRecord("send", logging.INFO, "", 0, "an event", None, None)
    vars(record)[handler.settings.event_key] = event
    silence = logging.NullHandler()  # what went wrong is the error that is raised
    logging.getLogger("snowplow_logging").addHandler(silence)
    try:
        ids = _checked(handler, record)
        handler.emit(record)
        handler.flush(math.inf)
    finally:
        handler.close()
        logging.getLogger("snowplow_logging").removeHandler(silence)
    url = handler.settings.url
    if len(sent) == len(ids):
        return f"sent: {event['event']} {', '.join(sent)}, taken by {url}"
    reason = "; ".join(dict.fromkeys(failed)) or str(handler.error)
    if sent:
        names = [event["event"], *map(_ITEM, range(len(ids) - 1))]
        taken, left = (
            ", ".join(
                f"{name} {i}" for name, i in zip(names, ids, strict=True) if (i in sent) is is_sent
            )
            for is_sent in (True, False)
        )
        reason = f"sent in part: {taken}, taken by {url}; not sent: {left}: {reason}"
    raise NotSentError(reason, _NOT_TAKEN)
