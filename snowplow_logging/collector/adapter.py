"""What a request holds: its events, as names and values, or why there are none in it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from . import java_uri
from .circe_json import read_json
from .protocol import (
    CONTENT_TYPES,
    FAILED_BODY_LIMIT,
    PAYLOAD_NAMES,
    REQUIRED_NAMES,
    SCHEMA_URI,
    show,
)
from .urls import parse_query

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["client_address", "open_envelope", "read_events"]

_ADDRESS: Final = re.compile(
    r'"?\[?(?P<address>[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}|[0-9a-f.:]+)'
)


def client_address(remote: str, forwarded: str | None) -> str:
    """Return the address that Enrich takes for the client's.

    Args:
        remote: The address that the request came from.
        forwarded: The header ``X-Forwarded-For``.

    Returns:
        The first address of the header, where it begins with one, else `remote`.
    """
    match = _ADDRESS.match(forwarded.lower()) if forwarded else None
    return match["address"] if match else remote


def read_events(
    query: str, body: bytes | None, content_type: str | None
) -> tuple[list[dict[str, str]], list[str]]:
    """Read the events of a request.

    Args:
        query: The raw query string, empty where there is none.
        body: The body of a POST; None for a GET.
        content_type: The header ``Content-Type`` of a POST.

    Returns:
        The parameters of each event, and no errors; or no events, and all that is wrong with the
        request.
    """
    errors: list[str] = []
    try:
        # The fragment of what should have no fragment is cut off.
        uri = java_uri.parse(f"http://localhost/?{query}")
        parameters = dict(parse_query(uri.query or ""))
    except ValueError as error:
        parameters = {}
        errors.append(f"querystring: {error}; percent-encode each value")
    if body is None:
        if not parameters and not errors:
            errors.append("querystring: is empty; give one event, such as '?tv=…&p=web&e=pv&url=…'")
        events = [parameters]
    else:
        # What the query string says goes for every event of the body.
        events = [{**event, **parameters} for event in _read_body(body, content_type, errors)]
    if errors:
        return [], errors
    return [
        {name: value for name, value in event.items() if value is not None} for event in events
    ], []


def _read_body(body: bytes, content_type: str | None, errors: list[str]) -> list[dict[str, str]]:
    if len(body) > FAILED_BODY_LIMIT:
        errors.append(
            f"body: has {len(body)} bytes, and Snowplow takes {FAILED_BODY_LIMIT}; "
            "send fewer events in one request"
        )
        return []
    if content_type not in CONTENT_TYPES:
        sent = "is missing" if content_type is None else f"is {show(content_type)}"
        errors.append(
            f"Content-Type: {sent}; give exactly one of "
            + ", ".join(f"'{content_type}'" for content_type in CONTENT_TYPES)
        )
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        errors.append(f"body: is not UTF-8 ({error}); send JSON in UTF-8, not compressed")
        return []
    try:
        schema, events = open_envelope(read_json(text), tuple(PAYLOAD_NAMES))
    except ValueError as error:
        errors.append(f"body: {error}")
        return []
    if not isinstance(events, list) or not events:
        errors.append(f"body: data is {show(events)}; give an array of at least one event")
        return []
    for number, event in enumerate(events, 1):
        where = f"body: event {number} of {len(events)}"
        errors.extend(f"{where}: {problem}" for problem in _problems(event, PAYLOAD_NAMES[schema]))
    return [] if errors else events


def _problems(event: object, names: frozenset[str]) -> Iterator[str]:
    """Check one event of a body as its schema ``payload_data`` does."""
    if not isinstance(event, dict):
        yield f"is {show(event)}; give an object of names and strings"
        return
    for name in REQUIRED_NAMES:
        if name not in event:
            yield f"{name} is missing; every event needs {', '.join(REQUIRED_NAMES)}"
    for name, value in event.items():
        if name not in names:
            yield f"{show(name)} is no name of the protocol; leave it out"
        if not isinstance(value, str):
            yield f"{name} is {show(value)}; give a JSON string"


def open_envelope(value: Any, schemas: Sequence[str]) -> tuple[str, Any]:
    """Open a self-describing JSON that has to have one of some schemas.

    Args:
        value: The value. Keys besides ``schema`` and ``data`` are left alone.
        schemas: The URIs of the schemas, the one to recommend first.

    Returns:
        The schema's URI and the data.

    Raises:
        ValueError: The value is no self-describing JSON, or has another schema; the message is
            the end of a sentence that begins with its name.
    """
    if not isinstance(value, dict) or not value.keys() >= {"schema", "data"}:
        message = (
            f"is {show(value)}; give an object of 'schema' and 'data', "
            f"the schema being '{schemas[0]}'"
        )
        raise ValueError(message)
    schema = value["schema"]
    if not isinstance(schema, str) or not SCHEMA_URI.fullmatch(schema) or schema not in schemas:
        message = f"schema is {show(schema)}; give '{schemas[0]}'"
        raise ValueError(message)
    return schema, value["data"]
