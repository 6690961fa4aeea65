"""The message that one batch becomes at a broker: a JSON document, one payload a line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from snowplow_logging.delivery.limits import FITS_FOR_SURE, excess
from snowplow_logging.json_data import orjson
from snowplow_logging.printable import printable

__all__ = ["MOST_DELIVERIES", "OVERHEAD", "VERSION", "BadMessage", "Unpacked", "pack", "unpack"]

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
_loads: Final[Any] = json.loads if orjson is None else orjson.loads


class BadMessage(ValueError):
    """A message that is no batch of this form, and why."""


@dataclass
class Unpacked:
    """What is in a message.

    Attributes:
        payloads: The payloads, each as `PayloadEncoder.encode` returned it.
        broken: What stands in the place of a payload and is none, with the reason.
    """

    payloads: list[bytes] = field(default_factory=list)
    broken: list[tuple[Any, str]] = field(default_factory=list)


def pack(payloads: Sequence[bytes]) -> bytes:
    """Return the message with these payloads.

    Args:
        payloads: What `PayloadEncoder.encode` returned: objects without the closing brace.
    """
    return _PREFIX + b"},\n".join(payloads) + b"}" + _SUFFIX


def unpack(message: bytes) -> Unpacked:
    """Return what is in a message, however it is laid out.

    A request fails in Enrich as a whole for one payload that is none, so each is looked at: it has
    to be an object of strings, with the names of the protocol and those that each event has.

    Raises:
        BadMessage: It is no batch of this form.
    """
    try:
        document = _loads(message)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"it is no JSON: {printable(str(error), 100)}") from None
    events = document.get("events") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(events, list):
        raise BadMessage("it is no object with a list of events")
    if document.get("version") != VERSION or isinstance(document["version"], bool):
        version = printable(str(document.get("version")), 20)
        raise BadMessage(
            f"it is of version {version}, and this relay knows no other than {VERSION}"
        )
    # In the usual case this is most of what a relay does, so it is looked at in few calls.
    if len(message) <= FITS_FOR_SURE and all(map(_is_usual, events)):
        return Unpacked([_payload(event) for event in events])
    unpacked = Unpacked()
    for event in events:
        if problem := _problem(event):
            unpacked.broken.append((event, problem))
            continue
        payload = _payload({name: value for name, value in event.items() if name != "stm"})
        if too_large := excess(payload):
            unpacked.broken.append((event, too_large))
        else:
            unpacked.payloads.append(payload)
    return unpacked


def _payload(event: dict[str, str]) -> bytes:
    if orjson is not None:
        payload: bytes = orjson.dumps(event)
    else:
        text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
        payload = text.encode(errors="replace")
    return payload[:-1]


def _is_usual(event: Any) -> bool:
    """Tell whether a payload has nothing against it, and no `stm`."""
    if type(event) is not dict:
        return False
    known, required = _names()
    names = event.keys()
    return (
        known >= names >= required
        and "stm" not in event
        and set(map(type, event.values())) == _TEXT
    )


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
