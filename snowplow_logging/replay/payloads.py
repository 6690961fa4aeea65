"""The events of a line, and the payload of each as it was first meant to be sent."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final

from snowplow_logging.brokers.message import BadMessage, letter_of, message_in, unpack
from snowplow_logging.delivery.transport import Transport
from snowplow_logging.events import EVENTS, InvalidEvent
from snowplow_logging.formatter import read_decimal
from snowplow_logging.json_data import payload_json
from snowplow_logging.payload import TRACKER, PayloadEncoder
from snowplow_logging.protocol import Refused, atomic_text, describe, uuid
from snowplow_logging.subject import SUBJECT_KEYS

if TYPE_CHECKING:
    from snowplow_logging.schema_check import SchemaCheck

__all__ = ["Payloads", "events_in"]

_LATEST: Final = 2**63  # milliseconds; what is far larger is no float

_tracker: Final = atomic_text(100)
_decode: Final = json.JSONDecoder(parse_float=read_decimal).decode


class Payloads:
    """Makes the payloads of events.

    Args:
        encoder: Makes the encoder for lines that were logged, by the tracker that they name.
        transport: Says what is too large to be sent.
        true_timestamp: Whether an event without a true timestamp gets the time of its log call.
        schemas: Checks self-describing data and entities, if anything does.

    Raises:
        ValueError: The encoder has a setting that makes no sense.
    """

    def __init__(
        self,
        encoder: Callable[[str], PayloadEncoder],
        transport: Transport,
        *,
        true_timestamp: bool,
        schemas: SchemaCheck | None,
    ) -> None:
        encoder(TRACKER)  # so that a setting that makes no sense is told at once
        self._encoder = lru_cache(maxsize=16)(encoder)
        self._transport = transport
        self._true_timestamp = true_timestamp
        self._schemas = schemas
        self._record = logging.makeLogRecord({})

    def payload(self, event: Any) -> bytes:
        """Return the payload of an event of a line.

        Raises:
            InvalidEvent: It has none that Snowplow would take.
        """
        try:
            return self._payload(event)
        except RecursionError:
            problem, expected = "is nested too deeply", "data with fewer levels"
            raise InvalidEvent("event", "event", problem, expected) from None

    def _payload(self, event: Any) -> bytes:
        if isinstance(event, dict) and (message := message_in(event)) is not None:
            expected = "it mended, or leave it to a version of this library that knows it"
            unread = f"could not be read by a relay: {_problem(message)}"
            raise InvalidEvent("message", "event", unread, expected)
        if isinstance(event, dict) and "event" not in event and {"e", "eid"} <= event.keys():
            payload = self._payload_as_sent(event)
            name = event["e"]
        else:
            payload = self._payload_as_logged(event)
            name = event["event"]
        if (problem := self._transport.excess(payload)) is not None:
            raise InvalidEvent(name, "event", problem, "it less data")
        if self._schemas is not None:
            self._schemas.check_payload(name, json.loads(payload + b"}"))
        return payload

    def _payload_as_logged(self, event: Any) -> bytes:
        written = "the line as SnowplowJsonFormatter wrote it"
        fields = dict(event) if isinstance(event, dict) else event
        name, created, tracker = "event", 0, TRACKER
        if isinstance(fields, dict):
            name = str(fields.get("event", name))
            if "incomplete" in fields:
                problem = f"says that JSON could not hold it: {fields['incomplete']}"
                raise InvalidEvent(name, "incomplete", problem, "it in full, without this key")
            created, tracker = fields.pop("dtm", None), fields.pop("tv", TRACKER)
            is_time = type(created) is int and abs(created) < _LATEST
            if not is_time or not isinstance(fields.get("event_id"), str):
                raise InvalidEvent(name, "event_id or dtm", "is missing or changed", written)
            try:
                tracker = _tracker(tracker)
            except Refused as error:
                raise InvalidEvent(name, "tv", error.problem, written) from None
            if not tracker:
                raise InvalidEvent(name, "tv", "is empty", written)
            if self._true_timestamp and fields.get("true_timestamp") is None:
                fields["true_timestamp"] = created
        # The middle of the millisecond comes out as the same one, however floats are rounded.
        self._record.created = (created + 0.5) / 1000
        return self._encoder(tracker).encode(fields, "", self._record)

    def _payload_as_sent(self, event: dict[str, Any]) -> bytes:
        values = {name: value for name, value in event.items() if name != "stm"}
        for name, value in values.items():
            if name not in _sent_names() or not isinstance(value, str):
                problem = describe(value) if name in _sent_names() else "is not what was sent"
                raise InvalidEvent(str(event["e"]), name, problem, "the values as they were sent")
        for name in ("e", "p", "tv"):
            if not values.get(name):
                raise InvalidEvent(values["e"], name, "is missing", "the values as they were sent")
        if self._true_timestamp and "dtm" in values:
            values.setdefault("ttm", values["dtm"])
        event_id = values.pop("eid")
        try:
            uuid(event_id)
            return payload_json({"eid": event_id, **values})
        except Refused as error:
            raise InvalidEvent(values["e"], "eid", error.problem, error.expected) from None
        except (TypeError, ValueError):
            problem = "holds a lone surrogate"
            raise InvalidEvent(values["e"], "event", problem, "text that UTF-8 can hold") from None


def events_in(line: bytes, event_key: str) -> list[Any]:
    """Return the events in a line.

    Raises:
        ValueError: It is no JSON.
        RecursionError: It is nested too deeply.
    """
    if not line.strip():
        return []
    text = line.decode()
    try:
        value = _decode(text)
    except ValueError:
        start = text.find("{")
        if start <= 0:
            raise
        value = _decode(text[start:])  # behind the formatter's `prefix`
    event = value.get(event_key) if isinstance(value, dict) else None
    if isinstance(event, dict) and (message := message_in(event)) is not None:
        return _events_of(message)
    return [e for e in (event if isinstance(event, list) else [event]) if e is not None]


def _events_of(message: bytes) -> list[Any]:
    """Return the events of a message that a relay could not read, where it can be read here.

    What cannot is a letter still, of which `Payloads.payload` says why.
    """
    try:
        unpacked = unpack(message)
    except BadMessage:
        return [letter_of(message)]
    events = [json.loads(payload + b"}") for payload in unpacked.payloads]
    return [*events, *(letter_of(broken) for broken, _ in unpacked.broken)]


def _problem(message: bytes) -> str:
    """Say what is wrong with a message, or with the only event in it."""
    try:
        return "; ".join(why for _, why in unpack(message).broken)
    except BadMessage as error:
        return str(error)


@cache
def _sent_names() -> frozenset[str]:
    """Return the names that a payload may have: those that this library sends."""
    atomic = [cls.keys().values() for cls in EVENTS.values() if cls.event_type != "ue"]
    names = [key.name for keys in (*atomic, SUBJECT_KEYS.values()) for key in keys]
    others = "e eid dtm ttm tv tna aid ue_px ue_pr cx co".split()
    return frozenset({*names, *others} - {"items"})
