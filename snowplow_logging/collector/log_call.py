"""Ways to make an event once more: as a log call in Python, and as a request by curl."""

from __future__ import annotations

import json
import shlex
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from snowplow_logging.events import EVENTS
from snowplow_logging.number_types import decimal, integer_text
from snowplow_logging.subject import SUBJECT_KEYS

from .circe_json import read_json
from .outline import self_describing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from snowplow_logging.events import Event
    from snowplow_logging.protocol import Key

    from .enrich import BadEvent, GoodEvent

__all__ = ["as_curl", "as_python"]

_BY_KIND: Final = {
    (cls.event_type, cls.event_schema): cls
    for cls in EVENTS.values()
    if cls.event_schema is not None or cls.event_type != "ue"
}
_SELF_DESCRIBING: Final = EVENTS["self_describing_event"]
_FORM_ELEMENT: Final = {"nodeName": "node_name"}
_PAYLOAD_DATA: Final = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4"
_NO_NAMES: Final = "e tv tna aid p eid dtm stm ttm ue_px ue_pr cx co".split()
_WIDTH: Final = 88


def as_python(verdict: GoodEvent | BadEvent) -> str | None:
    """Return the log call that gives an event, but for its id and its times.

    What the handler adds to every event (the application's id, the namespace) is left to it.

    Args:
        verdict: The event, good or bad.

    Returns:
        A statement that uses the name ``logger``; None for a request as a whole.
    """
    parameters = verdict.parameters
    if parameters is None:
        return None
    schema, data = self_describing(verdict.columns.get("unstruct_event"))
    kind = parameters.get("e", "")
    cls = _BY_KIND.get((kind, schema or None) if kind == "ue" else (kind, None))
    event: dict[str, Any] = {}
    comments: list[str] = []
    if kind == "ue" and cls is not None and isinstance(data, dict):
        event.update(_own_keys(cls, data, comments))
    elif kind == "ue":
        cls = _SELF_DESCRIBING
        event.update(schema=schema, data=data)
    elif cls is not None:
        event.update(_own_keys(cls, parameters, comments))
    name = cls.event_name if cls else kind
    entities = verdict.columns.get("contexts")
    if entities:
        event["context"] = read_json(entities)["data"]
    subject = dict(_subject(parameters))
    if subject:
        event["subject"] = subject
    if parameters.get("ttm", "").isdigit():
        event["true_timestamp"] = int(parameters["ttm"])
    known = {key.name for key in (cls.keys() if cls else {}).values()}
    known |= {key.name for key in SUBJECT_KEYS.values()}
    strange = [one for one in parameters if one not in known and one not in _NO_NAMES]
    if strange:
        comments.append(f"no key of a log call gives {', '.join(strange)}")
    if "eid" in parameters:
        # Not a part of the call: in a program it would give all its events the same id.
        comments.append(f"for the same id as well: 'event_id': '{parameters['eid']}'")
    lines = "".join(f"# {_one_line(comment)}\n" for comment in comments)
    body = _source({"event": name, **event}, "")
    return f'{lines}logger.info("{_one_line(name)}", extra={{"snowplow": {body}}})\n'


def as_curl(verdict: GoodEvent | BadEvent, endpoint: str) -> str:
    """Return the command that sends an event once more, as it was sent.

    Args:
        verdict: The event; of a request as a whole the command sends all of it.
        endpoint: The collector's URL.
    """
    payload = verdict.payload
    if payload.version == "tp1":
        return _curl(f"{endpoint}/i", payload.querystring)
    url = f"{endpoint}/{payload.vendor}/{payload.version}"
    if verdict.parameters is not None:
        text = json.dumps({"schema": _PAYLOAD_DATA, "data": [dict(verdict.parameters)]})
        return _curl(url, "", "--header", "Content-Type: application/json", "--data-raw", text)
    header = f"Content-Type: {_printable(payload.content_type or '')}".rstrip()
    body = payload.body or b""
    text = body.decode("utf-8", "replace")
    if text.encode() == body and _printable(text.replace("\n", "")) == text.replace("\n", ""):
        return _curl(url, payload.querystring, "--header", header, "--data-raw", text)
    # By a pipe comes what no argument can hold, and what a terminal would obey as it is pasted.
    octal = "".join(
        chr(byte) if chr(byte).isalnum() and byte < 128 else f"\\{byte:03o}" for byte in body
    )
    command = _curl(url, payload.querystring, "--header", header, "--data-binary", "@-")
    return f"printf {shlex.quote(octal)} | {command}"


def _curl(url: str, query: str, *arguments: str) -> str:
    """Return a command that asks for a URL, with a query as it came.

    An event's values never are an option of curl's, nor a file that it reads, nor one of its
    patterns: those would be the sender's command on the machine of who copies it.
    """
    # curl refuses spaces in a URL, and leaves out what comes after a `#`.
    raw = "".join(quote(char) if char in "# " or not char.isprintable() else char for char in query)
    asked = f"{url}?{raw}" if query else url
    return shlex.join(["curl", "--globoff", asked, *arguments]) + "\n"


def _own_keys(
    cls: type[Event], given: Mapping[str, Any], comments: list[str]
) -> Iterator[tuple[str, Any]]:
    """Yield the keys of an event's class with the values that its parameters or data have."""
    keys = {key.name: (name, key) for name, key in cls.keys().items()}
    for wire, value in given.items():
        if wire not in keys:
            if cls.event_schema is not None:
                comments.append(f"the data has {wire}, which {cls.event_name} does not know")
            continue
        name, key = keys[wire]
        if name == "elements" and isinstance(value, list):
            yield name, [_element(element) for element in value]
        else:
            yield name, value if cls.event_schema else _number(key, value)


def _number(key: Key, text: str) -> Any:
    """Return a number where a key takes one, and the text is how that number is written."""
    if key.check in (integer_text, decimal):
        for kind in (int, float):
            try:
                number = kind(text)
            except ValueError:
                continue
            if str(number) == text:
                return number
    return text


def _element(element: Any) -> Any:
    if not isinstance(element, dict):
        return element
    return {_FORM_ELEMENT.get(name, name): value for name, value in element.items()}


def _subject(parameters: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    for name, key in SUBJECT_KEYS.items():
        value = parameters.get(key.name)
        if value is None or (name == "platform" and value == "srv"):
            continue
        if name in ("screen_resolution", "viewport"):
            width, _, height = value.partition("x")
            if width.isdigit() and height.isdigit():
                yield name, (int(width), int(height))
                continue
        yield name, _number(key, value)


def _source(value: Any, indent: str) -> str:
    """Return a value as Python has it, over several lines where it does not fit one."""
    inside = f"{indent}    "
    if isinstance(value, dict) and value:
        parts = [f"{_string(key)}: {_source(item, inside)}" for key, item in value.items()]
        ends = "{}"
    elif isinstance(value, list) and value:
        parts, ends = [_source(item, inside) for item in value], "[]"
    elif isinstance(value, str):
        return _string(value)
    elif isinstance(value, Decimal):
        return _string(str(value))  # beyond what a float holds
    else:
        return repr(value)
    line = ", ".join(parts)
    if indent and len(indent) + len(line) < _WIDTH and "\n" not in line:
        return f"{ends[0]}{line}{ends[1]}"
    lines = "".join(f"{inside}{part},\n" for part in parts)
    return f"{ends[0]}\n{lines}{indent}{ends[1]}"


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if text.isprintable() else repr(text)


def _one_line(text: str) -> str:
    """Return a text that a comment or a string between quotation marks can hold."""
    return "".join(c if c not in '"\\' else "?" for c in _printable(text))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
