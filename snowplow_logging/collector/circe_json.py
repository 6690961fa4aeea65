"""JSON as Enrich reads and writes it, with the libraries jawn and circe.

They are stricter than Python's `json` in one point (no NaN, no Infinity) and agree with it in the
others: of a name given twice the last value counts. A number is never changed: it is written as
it was read.
"""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import Any, Final, NoReturn

__all__ = ["MAX_JSON_DEPTH", "read_json", "write_json"]

MAX_JSON_DEPTH: Final = 50
"""How deep JSON may be nested (protocol: 50 levels, a leaf counting as one)."""

_LONGEST_INT: Final = 4000  # digits, below the limit of int() itself
_ESCAPED: Final = re.compile(r'["\\\x00-\x1f\x7f-\x9f]')
_ESCAPES: Final = {
    '"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t",
}  # fmt: skip


class _Float(float):
    """A number with a fraction or an exponent, and its text."""

    text: str


class _Decimal(Decimal):
    """A number that a float cannot hold, and its text."""

    text: str


def read_json(text: str) -> Any:
    """Read JSON as Enrich does.

    Args:
        text: The JSON text.

    Returns:
        The value. Numbers beyond a 64-bit float are a `decimal.Decimal`.

    Raises:
        ValueError: It is not JSON, or it is nested deeper than 50 levels.
    """
    too_deep = f"is nested deeper than {MAX_JSON_DEPTH} levels; flatten it"
    try:
        value = json.loads(
            text, parse_constant=_refuse_constant, parse_float=_read_float, parse_int=_read_int
        )
    except RecursionError:
        raise ValueError(too_deep) from None
    except ValueError as error:
        message = f"is not valid JSON ({error}); give JSON as RFC 8259 has it"
        raise ValueError(message) from None
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        level = [
            child
            for parent in level
            if isinstance(parent, (dict, list))
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
        if not level:
            return value
    raise ValueError(too_deep)


def _refuse_constant(literal: str) -> NoReturn:
    message = f"{literal} is not a JSON value"
    raise ValueError(message)


def _read_float(text: str) -> _Float | _Decimal:
    # A number beyond a double is still JSON, and must not become the literal Infinity.
    number: _Float | _Decimal = _Float(text)
    if not math.isfinite(number):
        try:
            number = _Decimal(text)
        except ArithmeticError:
            number = _Decimal("Infinity")
    number.text = text
    return number


def _read_int(text: str) -> int | _Float | _Decimal:
    if text == "-0" or len(text) > _LONGEST_INT:
        return _read_float(text)
    return int(text)


def write_json(value: Any) -> str:
    """Write a value that `read_json` returned, with no spaces and its numbers as they were.

    Args:
        value: The value.

    Returns:
        The JSON text, not cut down to ASCII.
    """
    if isinstance(value, str):
        return f'"{_ESCAPED.sub(_escape, value)}"'
    if isinstance(value, dict):
        return "{" + ",".join(f"{write_json(k)}:{write_json(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(write_json, value)) + "]"
    if isinstance(value, (_Float, _Decimal)):
        return value.text
    return json.dumps(value)


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    return _ESCAPES.get(character) or f"\\u{ord(character):04x}"
