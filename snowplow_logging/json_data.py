"""A caller's data as the JSON that Snowplow takes: what is taken, and how it is written.

JSON's own types are taken, what `python_types` knows beside them, and what the caller's
`json_default` makes of the rest; with orjson and without the same.
"""

from __future__ import annotations

import binascii
import contextlib
import json
import math
import re
import secrets
import traceback
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from json.encoder import encode_basestring
from typing import Any, Final, TypeAlias
from uuid import UUID

from snowplow_logging.number_types import number
from snowplow_logging.protocol import MAX_BODY_BYTES, Check, Refused, describe, text
from snowplow_logging.python_types import UNKNOWN, instead_of, meaning

try:
    import orjson as _orjson
except ImportError:
    _orjson = None  # type: ignore[assignment]
orjson: Final[Any] = _orjson
_dumps: Final[Any] = orjson and orjson.dumps  # which is looked up at each log call

__all__ = [
    "MAX_JSON_DEPTH",
    "JsonDefault",
    "base64_json",
    "data_json",
    "exact_number",
    "flat_json",
    "is_flat",
    "key_text",
    "number_mark",
    "payload_json",
    "plain_json",
    "self_describing",
    "texts_json",
    "usual_json",
    "with_numbers",
]

JsonDefault: TypeAlias = Callable[[Any], Any]
"""Takes what is no JSON and returns what is, or raises; `json` and orjson call it `default`."""

MAX_JSON_DEPTH: Final = 50
"""Enrich refuses deeper JSON by default; a leaf counts as one level."""

_OLDER_MAX_JSON_DEPTH: Final = 40  # in some older versions of Enrich
_USUAL_DEPTH: Final = _OLDER_MAX_JSON_DEPTH - 1  # within what holds the data
_MOST_CONVERSIONS: Final = 100  # of one value by `json_default`, which may go on for ever

_text: Final = text()


def exact_number(value: Any) -> int | float | Decimal:
    """Check a number that JSON can hold, and leave a `Decimal` what it is."""
    if not isinstance(value, Decimal):
        return number(value)
    if not value.is_finite():
        raise Refused(f"is {value}", "a finite number")
    return value


# `json` writes a float in no other way than its own, so that a decimal goes through it as a string
# that nobody can have logged, and becomes a number in the text.
_MARK: Final = f"number {secrets.token_hex(16)} "
_MARKED: Final = re.compile(f'"{_MARK}([^"]*)"')


def number_mark(digits: str) -> str:
    """Return the string that stands for a number until `with_numbers` has seen the text."""
    return _MARK + digits


def with_numbers(written: str) -> str:
    """Return JSON with the numbers that strings of `number_mark` stand for."""
    return _MARKED.sub(r"\1", written) if _MARK in written else written


def _marked(value: Any) -> Any:
    checked = exact_number(value)
    return number_mark(Decimal.__str__(checked)) if isinstance(checked, Decimal) else checked


def plain_json(
    value: Any,
    depth: int = MAX_JSON_DEPTH,
    path: str = "",
    as_number: Check = exact_number,
    json_default: JsonDefault | None = None,
) -> Any:
    """Check what is to be JSON and return a copy made of JSON's own types alone.

    Args:
        value: The value.
        depth: The levels that it may have, a leaf counting as one.
        path: Where it stands, for the error's message.
        as_number: What numbers become.
        json_default: Takes what this function does not know.

    Raises:
        Refused: It holds something that JSON, or Snowplow, does not.
    """
    if depth <= 0:
        problem = "is nested too deep or refers to itself"
        raise Refused(problem, f"JSON of at most {MAX_JSON_DEPTH} levels in all", path)
    conversions = 0
    while True:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, Enum):
            value = value.value
            continue
        if isinstance(value, (str, int, float, Decimal)):
            try:
                return _text(value) if isinstance(value, str) else as_number(value)
            except Refused as error:
                raise error.within(path) from None
        if isinstance(value, Mapping):
            return _plain_members(value, depth, path, as_number, json_default)
        if isinstance(value, (list, tuple)):
            return [
                plain_json(item, depth - 1, f"{path}[{index}]", as_number, json_default)
                for index, item in enumerate(value)
            ]
        conversions += 1
        if conversions > _MOST_CONVERSIONS:
            raise Refused("is never JSON, whatever json_default makes of it", "JSON", path)
        value = _converted(value, path, json_default)


def _plain_members(
    value: Mapping[Any, Any],
    depth: int,
    path: str,
    as_number: Check,
    json_default: JsonDefault | None,
) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key, item in value.items():
        name = key if type(key) is str and key.isascii() else key_text(key, path)
        if name in plain:
            raise Refused(f"has two keys that are both {name[:60]!r} in JSON", "one", path)
        inside = f"{path}.{name[:60]}"
        plain[name] = plain_json(item, depth - 1, inside, as_number, json_default)
    return plain


def key_text(key: Any, path: str = "") -> str:
    """Return the key of a mapping as JSON has it: what has no members is its text, as in `json`.

    Args:
        key: The key.
        path: Where the mapping stands, for the error's message.

    Raises:
        Refused: It is no key in JSON.
    """
    if not isinstance(key, (list, tuple, Mapping)):
        try:
            plain = plain_json(key, 1)
        except Refused as error:
            expected = error.expected if isinstance(key, str) else "strings as keys"
            raise Refused(f"has a key that {error.problem}", expected, path) from None
        if isinstance(plain, str):
            return plain
        if plain is None or isinstance(plain, bool):
            return {None: "null", True: "true", False: "false"}[plain]
        if isinstance(plain, (int, float, Decimal)):
            return str(plain)
    raise Refused(f"has a key that {describe(key)}", "strings as keys", path)


def _converted(value: Any, path: str, json_default: JsonDefault | None) -> Any:
    """Return what a value means in JSON, or what the caller's function makes of it."""
    try:
        known = meaning(value)
    except Refused as refused:
        raise refused.within(path) from None
    except MemoryError:  # says nothing of the object
        raise
    except Exception as error:  # the caller's objects may raise anything
        problem = f"raised {type(error).__name__} when it was read"
        raise Refused(problem, "an object that can be read", path) from error
    if known is not UNKNOWN:
        return known
    if json_default is None:
        raise Refused(describe(value), instead_of(value), path)
    try:
        return json_default(value)
    except Refused as refused:  # of a function of ours
        raise refused.within(path) from None
    except MemoryError:
        raise
    except Exception as error:
        raised = " ".join("".join(traceback.format_exception_only(type(error), error)).split())
        problem = f"{describe(value)}, for which json_default raised {raised}"
        raise Refused(problem, instead_of(value), path) from error


def data_json(
    schema: str,
    data: Any,
    json_default: JsonDefault | None = None,
    warn: Callable[[str], None] | None = None,
) -> bytes:
    """Check a caller's free JSON and write it with one of Snowplow's schemas, in UTF-8.

    Args:
        schema: The schema of what holds the data.
        data: A self-describing JSON, or a list of them.
        json_default: Takes what is no JSON and returns what is.
        warn: Told of what some versions of Enrich refuse.

    Raises:
        Refused: It holds something that JSON, or Snowplow, does not.
    """
    # The slow way below takes what these do not, or says what is wrong. It alone asks
    # `json_default`, which so sees each object once, and may use it up.
    written = usual_json(data) or _changed_json(data, json_default, warn)
    if len(written) > MAX_BODY_BYTES:  # here, because to go on with megabytes takes seconds
        raise Refused(f"takes {len(written):,} bytes as JSON", f"less than {MAX_BODY_BYTES:,}")
    return self_describing(schema, written)


def self_describing(schema: str, data: bytes) -> bytes:
    """Return self-describing JSON: data that is written, with its schema."""
    return b'{"schema":"%b","data":%b}' % (schema.encode(), data)


def _changed_json(
    data: Any, json_default: JsonDefault | None, warn: Callable[[str], None] | None
) -> bytes:
    plain = plain_json(data, MAX_JSON_DEPTH - 1, "", _marked, json_default)
    if warn is not None and not _is_plain(plain, _USUAL_DEPTH):
        warn(
            f"data has more than {_OLDER_MAX_JSON_DEPTH} levels of JSON, which some versions of "
            "Enrich refuse; flatten it"
        )
    # By the same writer as data that needed no change, because a replay gets these plain types, and
    # what it sends has to be the same to the last digit.
    text = b""
    if orjson is not None:
        with contextlib.suppress(TypeError):  # of a whole number of over 64 bits
            text = orjson.dumps(plain)
    return with_numbers((text or _standard_json(plain)).decode()).encode()


def _usual_by_orjson(data: Any) -> bytes | None:
    try:
        written: bytes = _dumps(data, _one_level, _OPTIONS)
    except (TypeError, ValueError, RecursionError):
        return None
    if len(written) > MAX_BODY_BYTES:
        return written  # to be refused for that, whatever is in it
    # It can neither be too deep nor have been a NaN if it has few brackets and no null, which is
    # what orjson makes of one. (Of all ways to ask these take the least time.)
    brackets = len(written) - len(written.translate(None, b"{["))
    if brackets < _USUAL_DEPTH and written.find(b"null") < 0:
        return written
    return written if _is_plain(data, _USUAL_DEPTH) else None


def _usual_by_standard(data: Any) -> bytes | None:
    try:
        return _standard_json(data) if _is_plain(data, _USUAL_DEPTH) else None
    except (TypeError, ValueError):
        return None


usual_json: Final = _usual_by_standard if orjson is None else _usual_by_orjson
"""Writes data as `data_json` does, if it needs no change for that; else returns None."""


def _has_flat_members(data: dict[str, Any]) -> bool:
    for value in data.values():
        kind = type(value)
        if kind not in _FLAT and not (kind is float and math.isfinite(value)):
            return False
    return True


def _is_flat_by_standard(data: dict[Any, Any]) -> bool:
    # orjson takes no other keys; this writer makes text of them, which may be there already.
    return _IS_TEXT(map(type, data)) and _has_flat_members(data)


is_flat: Final = _is_flat_by_standard if orjson is None else _has_flat_members
"""Tells whether the members of a dict are all text, numbers, truth values or nothing."""

_FLAT: Final = frozenset((str, int, bool, type(None)))
_IS_TEXT: Final = frozenset((str,)).issuperset


def _one_level(value: Any) -> Any:
    """Return what stands for a value in JSON, its members as they are: the writers' `default`."""
    if isinstance(value, Decimal):
        plain = orjson.Fragment(Decimal.__str__(value)) if value.is_finite() else UNKNOWN
    elif isinstance(value, (str, int, float)):
        plain = plain_json(value)
    elif isinstance(value, Mapping):
        items = [*value.items()]
        plain = dict(items)
        if len(plain) < len(items):
            plain = UNKNOWN
    elif isinstance(value, (list, tuple)):
        plain = [*value]
    else:
        plain = meaning(value)
    if plain is UNKNOWN:
        raise TypeError
    return plain


# What is written as it is or by `_one_level`. The standard library refuses a NaN by itself, and
# has no way to write a decimal.
_LEAVES: Final = frozenset(
    (str, int, bool, type(None), UUID, datetime, date, time, Decimal if orjson else float)
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


# What orjson would write in its own way comes to `_one_level`.
_OPTIONS: Final = orjson and (
    orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)


def _make_standard_dumps() -> Callable[[Any], str]:
    make_encoder = getattr(json.encoder, "c_make_encoder", None)
    if make_encoder is None:  # not CPython
        return json.JSONEncoder(
            ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_one_level
        ).encode
    # `JSONEncoder.encode` makes one of these at each call, which takes longer than its work.
    sort_keys = skip_keys = allow_nan = False
    encoder = make_encoder(
        None, _one_level, encode_basestring, None, ":", ",", sort_keys, skip_keys, allow_nan
    )
    return lambda value: "".join(encoder(value, 0))


_standard_dumps: Final = _make_standard_dumps()


def _standard_json(data: Any) -> bytes:
    return _standard_dumps(data).encode()


flat_json: Final = _standard_json if orjson is None else _dumps
"""Writes data as `data_json` does, in which there is nothing that it would have to look for.

That is plain lists and dicts of a few levels, the innermost of which `is_flat`. It raises TypeError
where a number is too large for the writer, and ValueError for a text that UTF-8 cannot hold.
"""


def _texts_by_standard(texts: dict[str, str]) -> bytes:
    members = [f'"{name}":{encode_basestring(value)}' for name, value in texts.items()]
    return f"{{{','.join(members)}}}".encode()


texts_json: Final = _texts_by_standard if orjson is None else _dumps
"""Writes a dict whose names are the protocol's, and whose values are texts.

It raises what `flat_json` does.
"""


def payload_json(payload: dict[str, str]) -> bytes:
    """Return a payload as a JSON object in UTF-8, without its closing brace."""
    return texts_json(payload)[:-1]


def base64_json(written: bytes) -> bytes:
    """Return JSON in the URL-safe base64, padded, of `cx` and `ue_px` (RFC 4648, 5)."""
    standard: bytes = binascii.b2a_base64(written, newline=False)
    return standard.replace(b"+", b"-").replace(b"/", b"_")
