"""The message that one batch becomes at a broker: a JSON document, one payload a line."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from snowplow_logging.brokers.json_parts import items_of, members_of
from snowplow_logging.delivery.limits import FITS_FOR_SURE, excess
from snowplow_logging.json_data import orjson, payload_json
from snowplow_logging.printable import printable

__all__ = [
    "MOST_DELIVERIES",
    "OVERHEAD",
    "VERSION",
    "BadMessage",
    "Unpacked",
    "letter_of",
    "message_in",
    "pack",
    "unpack",
]

VERSION: Final = 1
"""The version of the form; it grows when a reader of the old one could go wrong."""

MOST_DELIVERIES: Final = 20
"""How often a message is delivered; after that it is taken for one that ends whoever reads it."""

_PREFIX: Final = b'{"version":%d,"events":[\n' % VERSION
_SUFFIX: Final = b"\n]}"
_TEXT: Final = {str}
OVERHEAD: Final = len(_PREFIX) + len(_SUFFIX)
"""The bytes that a message has besides its payloads."""

_SCHEMA: Final = (
    Path(__file__).parents[1]
    / "iglu_central/schemas/com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4"
)


class BadMessage(ValueError):
    """A message that is no batch of this form, and why."""


@dataclass
class Unpacked:
    """What is in a message.

    Attributes:
        payloads: The payloads, each as `PayloadEncoder.encode` returned it.
        broken: What stands in the place of a payload and is none, as it is written, in a message
            of its own, with the reason.
    """

    payloads: list[bytes] = field(default_factory=list)
    broken: list[tuple[bytes, str]] = field(default_factory=list)


def pack(payloads: Sequence[bytes]) -> bytes:
    """Return the message with these payloads.

    Args:
        payloads: What `PayloadEncoder.encode` returned: objects without the closing brace.
    """
    return _PREFIX + b"},\n".join(payloads) + b"}" + _SUFFIX


def letter_of(message: bytes, name: str = "message") -> dict[str, str]:
    """Return what stands for a message in JSON: its text, or base64 where it is no UTF-8.

    Args:
        message: The message.
        name: What it is called there.
    """
    try:
        return {name: message.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(message).decode()}


def message_in(letter: Mapping[str, Any]) -> bytes | None:
    """Return the message for which `letter_of` has written this; None where it is anything else."""
    if letter.keys() == {"message"} and isinstance(text := letter["message"], str):
        return text.encode(errors="surrogatepass")
    if letter.keys() == {"message_base64"}:
        with contextlib.suppress(TypeError, ValueError):
            return base64.b64decode(letter["message_base64"], validate=True)
    return None


def unpack(message: bytes) -> Unpacked:
    """Return what is in a message, however it is laid out.

    A request fails in Enrich as a whole for one payload that is none, so each is looked at: it has
    to be an object of strings, with the names of the protocol and those that each event has.

    Raises:
        BadMessage: It is no batch of this form.
    """
    # In the usual case this is most of what a relay does, so it is looked at in few calls.
    events = _events(message)
    if events is not None and all(map(_is_usual, events)):
        payloads = [*map(_payload, events)]
        if len(message) <= FITS_FOR_SURE or not any(map(excess, payloads)):
            return Unpacked(payloads)
    return _unpack_in_parts(message)


def _events(message: bytes) -> list[Any] | None:
    """Return the events of a batch of this form that can be read as a whole, else None.

    What can be read as a whole is not the same with each reader of JSON: by parts it is.
    """
    try:
        document = json.loads(message.decode()) if orjson is None else orjson.loads(message)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or not _is_known(document.get("version")):
        return None
    events = document.get("events")
    return events if isinstance(events, list) else None


def _is_known(version: Any) -> bool:
    return version == VERSION and not isinstance(version, bool)


def _unpack_in_parts(message: bytes) -> Unpacked:
    """Return what is in a message, each event read by itself and nothing else read."""
    try:
        members = members_of(message.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise BadMessage("it is no JSON, for it is no UTF-8") from None
    except ValueError as error:
        raise BadMessage(f"it is no JSON object: {error}") from None
    written = members.get("version", "null")
    version: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        version = json.loads(written)
    if not _is_known(version):
        raise BadMessage(
            f"it is of version {printable(written, 20)}, and this relay knows no other than"
            f" {VERSION}"
        )
    try:
        events = items_of(members.get("events", ""))
    except ValueError:
        raise BadMessage("it is no object with a list of events") from None
    unpacked = Unpacked()
    for event in events:
        try:
            unpacked.payloads.append(_checked(event))
        except ValueError as error:
            unpacked.broken.append((_PREFIX + event.encode() + _SUFFIX, str(error)))
    return unpacked


def _checked(written: str) -> bytes:
    """Return the payload that an event is.

    Raises:
        ValueError: It is none.
    """
    try:
        event = json.loads(written)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it cannot be read: {printable(str(error), 100)}") from None
    if problem := _problem(event):
        raise ValueError(problem)
    payload = _payload(event)
    if too_large := excess(payload):
        raise ValueError(too_large)
    return payload


def _payload(event: dict[str, str]) -> bytes:
    event.pop("stm", None)  # the time of sending, which is the relay's
    try:
        return payload_json(event)
    except (TypeError, UnicodeEncodeError):
        # A lone surrogate becomes what Enrich makes of it, a question mark.
        text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
        return text.encode(errors="replace")[:-1]


def _is_usual(event: Any) -> bool:
    """Tell whether a payload has nothing against it."""
    if type(event) is not dict:
        return False
    known, required = _names()
    names = event.keys()
    return known >= names >= required and set(map(type, event.values())) == _TEXT


def _problem(event: Any) -> str | None:
    if not isinstance(event, dict):
        return "it is no object"
    known, required = _names()
    if not known >= event.keys():
        name = printable(str(min(event.keys() - known)), 40)
        return f"the protocol has no {name!r}"
    if not required <= event.keys():
        return f"it has no {min(required - event.keys())!r}"
    for name, value in event.items():
        if type(value) is not str:
            return f"{name} is no text"
    return None


@cache
def _names() -> tuple[frozenset[str], frozenset[str]]:
    """Return the names that a payload may have, and those that it must, by the schema of requests.

    The id and the time of the log call are wanted besides: without them a copy is no duplicate.
    """
    items = json.loads(_SCHEMA.read_text(encoding="utf-8"))["items"]
    return frozenset(items["properties"]), frozenset(items["required"]) | {"eid", "dtm"}
