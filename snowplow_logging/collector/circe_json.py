"""JSON as Enrich reads and writes it, with the libraries jawn and circe.

They are stricter than Python's `json` in one point (no NaN, no Infinity) and agree with it in the
others: of a name given twice the last value counts.
"""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MAX_JSON_DEPTH", "read_json", "rewrite_members"]

MAX_JSON_DEPTH: Final = 50
"""How deep JSON may be nested (protocol: 50 levels, a leaf counting as one)."""

_LONGEST_INT: Final = 4000  # digits, below the limit of int() itself
_ESCAPED: Final = re.compile(r'["\\\x00-\x1f\x7f-\x9f]')
_ESCAPES: Final = {
    '"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t",
}  # fmt: skip


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


def _read_float(text: str) -> float | Decimal:
    # A number beyond a double is still JSON, and must not become the literal Infinity.
    number = float(text)
    if math.isfinite(number):
        return number
    try:
        return Decimal(text)
    except ArithmeticError:
        return Decimal("-9E+999999" if text.startswith("-") else "9E+999999")


def _read_int(text: str) -> int | float | Decimal:
    return int(text) if len(text) <= _LONGEST_INT else _read_float(text)


class _Number(str):
    """The text of a number, so that it is written as it was read."""

    __slots__ = ()


def rewrite_members(text: str, names: Sequence[str]) -> str:
    """Write some members of a JSON object as Enrich does: with no spaces, numbers as they were.

    Args:
        text: The JSON text of an object, which `read_json` has read.
        names: The names of the members, in the order in which to write them.

    Returns:
        The JSON text of an object of these members, not cut down to ASCII.
    """
    value = json.loads(text, parse_float=_Number, parse_int=_Number)
    return _write({name: value[name] for name in names})


def _write(value: Any) -> str:
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, str):
        return f'"{_ESCAPED.sub(_escape, value)}"'
    if isinstance(value, dict):
        return "{" + ",".join(f"{_write(name)}:{_write(v)}" for name, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_write, value)) + "]"
    return json.dumps(value)


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    return _ESCAPES.get(character) or f"\\u{ord(character):04x}"
