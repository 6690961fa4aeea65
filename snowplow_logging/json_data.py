"""A caller's data as the JSON that Snowplow takes: what is taken, and how it is written."""

from __future__ import annotations

import binascii
import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from decimal import Decimal
from enum import Enum
from inspect import isfunction
from json.encoder import encode_basestring
from typing import Any, Final
from uuid import UUID

from snowplow_logging.protocol import Check, Refused, describe, number, text

try:
    import orjson as _orjson
except ImportError:
    _orjson = None  # type: ignore[assignment]
orjson: Final[Any] = _orjson

__all__ = ["base64_json", "data_json", "payload_json", "plain_json"]

_MAX_JSON_DEPTH: Final = 40  # Enrich; a leaf counts as one level
_text: Final = text()


def plain_json(
    value: Any, depth: int = _MAX_JSON_DEPTH, path: str = "", as_number: Check = number
) -> Any:
    """Check a JSON value strictly and return a copy made of JSON's own types alone.

    Args:
        value: The value.
        depth: The levels that it may have, a leaf counting as one.
        path: Where it stands, for the error's message.
        as_number: What numbers become.

    Raises:
        Refused: It holds something that JSON, or Snowplow, does not.
    """
    if depth == 0:
        problem = "is nested too deep or refers to itself"
        raise Refused(problem, f"JSON of at most {_MAX_JSON_DEPTH} levels in all", path)
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, bool):
        return value
    try:
        if isinstance(value, (str, UUID)):
            return _text(value)
        if isinstance(value, (int, float, Decimal)):
            return as_number(value)
    except Refused as error:
        raise Refused(error.problem, error.expected, path) from None
    if isinstance(value, Mapping):
        return {
            (name := _plain_key(key, path)): plain_json(
                item, depth - 1, f"{path}.{name[:60]}", as_number
            )
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [
            plain_json(item, depth - 1, f"{path}[{i}]", as_number) for i, item in enumerate(value)
        ]
    expected = "JSON: dict, list, str, int, float, bool or None"
    raise Refused(describe(value), f"{expected} (a time as isoformat())", path)


def _plain_key(key: Any, path: str) -> str:
    if not isinstance(key, str):
        raise Refused(f"has a key that {describe(key)}", "strings as keys", path)
    return str(plain_json(key, 1, path))


def data_json(schema: str, data: Any) -> bytes:
    """Check a caller's free JSON and write it with one of Snowplow's schemas, in UTF-8.

    Args:
        schema: The schema of what holds the data.
        data: A self-describing JSON, or a list of them.

    Raises:
        Refused: It holds something that JSON, or Snowplow, does not.
    """
    levels = _MAX_JSON_DEPTH - 1
    try:
        written: bytes = (
            orjson.dumps({"schema": schema, "data": data}, plain_json, _OPTIONS)
            if orjson
            else _standard_json(schema, data)
        )
    except (TypeError, ValueError, RecursionError):
        pass  # The slow way below takes it after all, or says what is wrong.
    else:
        # Which of them takes less time depends on whether this is compiled.
        fine = (_COMPILED and _is_plain(data, levels)) or _looks_plain(written)
        if fine or _is_plain(data, levels):
            return written
    plain = plain_json(data, levels)
    if orjson:
        with suppress(TypeError):  # from an integer of more than 64 bits
            again: bytes = orjson.dumps({"schema": schema, "data": plain})
            return again
    return _standard_json(schema, plain)


def _looks_plain(written: bytes) -> bool:
    """Tell whether what orjson has written can neither be too deep nor have been a NaN.

    It has few brackets then, and no null, which is what orjson makes of one.
    """
    if orjson is None or written.find(b"null") >= 0:
        return False
    return written.count(b"{") + written.count(b"[") < _MAX_JSON_DEPTH


# What is written as it is or by `plain_json`. The standard library refuses a NaN by itself.
_LEAVES: Final = frozenset(
    (str, int, bool, type(None), Decimal, UUID, *(() if orjson else (float,)))
)


def _is_plain(value: Any, depth: int) -> bool:
    """Tell whether a value is of JSON's own types alone, with strings as keys and no NaN.

    Args:
        value: The value.
        depth: The levels that it may have, a leaf counting as one.
    """
    kind = type(value)
    if kind is dict and depth > 1:
        members: dict[Any, Any] = value
        for key, item in members.items():
            if type(key) is not str or not (type(item) in _LEAVES or _is_plain(item, depth - 1)):
                return False
        return True
    if (kind is list or kind is tuple) and depth > 1:
        items: list[Any] | tuple[Any, ...] = value
        for item in items:  # noqa: SIM110 - a generator would take longer
            if not (type(item) in _LEAVES or _is_plain(item, depth - 1)):
                return False
        return True
    if kind is float:
        return math.isfinite(value)
    return kind in _LEAVES or (kind in (dict, list, tuple) and not value)


_COMPILED: Final = not isfunction(_is_plain)
_OPTIONS: Final = orjson and orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME


def _make_standard_dumps() -> Callable[[Any], str]:
    make_encoder = getattr(json.encoder, "c_make_encoder", None)
    if make_encoder is None:  # not CPython
        return json.JSONEncoder(
            ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=plain_json
        ).encode
    # `JSONEncoder.encode` makes one of these at each call, which takes longer than its work.
    sort_keys = skip_keys = allow_nan = False
    encoder = make_encoder(
        None, plain_json, encode_basestring, None, ":", ",", sort_keys, skip_keys, allow_nan
    )
    return lambda value: "".join(encoder(value, 0))


_standard_dumps: Final = _make_standard_dumps()


def _standard_json(schema: str, data: Any) -> bytes:
    return f'{{"schema":"{schema}","data":{_standard_dumps(data)}}}'.encode()


def payload_json(payload: dict[str, str]) -> bytes:
    """Write a payload as a JSON object in UTF-8, without its closing brace."""
    if orjson is not None:
        written: bytes = orjson.dumps(payload)
        return written[:-1]
    members = [f'"{name}":{encode_basestring(value)}' for name, value in payload.items()]
    return ("{" + ",".join(members)).encode()


def base64_json(written: bytes) -> bytes:
    """Return JSON in the URL-safe base64, padded, of `cx` and `ue_px` (RFC 4648, 5)."""
    standard: bytes = binascii.b2a_base64(written, newline=False)
    return standard.replace(b"+", b"-").replace(b"/", b"_")
