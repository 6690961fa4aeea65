"""What the types that Python programs hold mean in JSON, one level at a time.

Times, UUIDs, paths and addresses are texts; numpy's numbers and arrays are what they are in
Python; objects of dataclasses, attrs, pydantic and msgspec are their members. None of these
libraries is imported: who has an object of one has imported it.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections import UserString
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Any, Final
from uuid import UUID

from snowplow_logging.protocol import Refused

__all__ = ["UNKNOWN", "instead_of", "is_single", "meaning", "members"]

UNKNOWN: Final = object()
"""What `meaning` returns for an object that it does not know."""

_MINUTE: Final = timedelta(minutes=1)
_BYTES: Final = (bytes, bytearray, memoryview)
_NUMBERS: Final = (int, float, complex, Decimal)
_TEXTS: Final = (str, UserString, Enum, UUID, os.PathLike)
_TIMES: Final = (date, time, timedelta)


def is_single(value: Any) -> bool:
    """Tell whether a value can have no members in JSON, so that it is never data as a whole."""
    return value is None or isinstance(value, (_TEXTS, _NUMBERS, _BYTES, _TIMES))


def meaning(value: Any) -> Any:
    """Return what stands for a value in JSON, its members as they are; `UNKNOWN` if nothing does.

    Args:
        value: What is neither of JSON's own types nor a mapping, nor an enum.

    Raises:
        Refused: It would have to be guessed.
    """
    for kind, as_text in _AS_TEXT:
        if isinstance(value, kind):
            return as_text(value)
    if isinstance(value, (str, _BYTES)):
        return UNKNOWN
    if _is_text(type(value)):
        return str(value)
    known = members(value)
    numpy = sys.modules.get("numpy")
    if known is None and numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        known = _of_numpy(numpy, value)
    if known is None and isinstance(value, Sequence):
        known = [*value]
    return UNKNOWN if known is None else known


def _date_time(value: datetime) -> str:
    """Return an aware time as RFC 3339, with the offset that it has."""
    offset = datetime.utcoffset(value)
    if offset is None:
        raise _naive()
    if offset % _MINUTE:  # of which RFC 3339 knows nothing; local times before 1972 are such
        value = value.astimezone(timezone.utc)
    return datetime.isoformat(value)


def _naive() -> Refused:
    problem = "is a naive datetime, which has no time zone"
    return Refused(problem, "an aware one, such as datetime.now(timezone.utc)")


_AS_TEXT: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    (datetime, _date_time),
    (date, date.isoformat),
    (time, time.isoformat),
    (UUID, UUID.__str__),
    (os.PathLike, os.fspath),
    (UserString, str),
    ((IPv4Address, IPv6Address), str),
    ((IPv4Interface, IPv6Interface, IPv4Network, IPv6Network), str),
)


def _is_text(kind: Any) -> bool:
    """Tell whether objects of a class stand for a text alone: a URL or a lazy translation.

    It says what its text is, and has the parts of a URL, or what only a text and an array have.
    """
    if kind.__str__ is object.__str__:
        return False
    if hasattr(kind, "scheme") and (hasattr(kind, "host") or hasattr(kind, "netloc")):
        return True
    is_lazy = hasattr(kind, "__mod__") and hasattr(kind, "__len__")
    return is_lazy and not hasattr(kind, "__array__")


def members(value: Any) -> Any:
    """Return the members of an object of a dataclass, attrs, pydantic or msgspec; else None.

    Those of a dataclass or of attrs are as they are, under the names of the fields. What an
    object of pydantic or msgspec is in JSON is theirs to say.

    Raises:
        Refused: It holds a naive datetime.
    """
    # Asked of the class, because an object may have an answer to everything.
    kind = type(value)
    if hasattr(kind, "__pydantic_serializer__") and hasattr(kind, "model_dump"):
        return _of_pydantic(value)
    if hasattr(kind, "__struct_fields__"):
        return _of_msgspec(value)
    if hasattr(kind, "__dataclass_fields__"):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(kind, "__attrs_attrs__"):
        return {field.name: getattr(value, field.name) for field in kind.__attrs_attrs__}
    if hasattr(kind, "__fields__") and hasattr(kind, "__config__"):
        return value.dict()  # pydantic 1
    return None


def _of_pydantic(value: Any) -> Any:
    held = value.model_dump()
    try:
        written = value.model_dump(mode="json")
    except Exception:  # noqa: BLE001 - of what pydantic cannot write; here it may be known
        return held
    _refuse_naive(held, written, "")
    return written


def _of_msgspec(value: Any) -> Any:
    msgspec = sys.modules["msgspec"]
    try:
        held = msgspec.to_builtins(value, builtin_types=(datetime,), enc_hook=_known_meaning)
        written = msgspec.to_builtins(value, str_keys=True, enc_hook=_known_meaning)
    except Exception:  # noqa: BLE001 - of what msgspec cannot write; here it may be known
        kind, config = type(value), value.__struct_config__
        tag = {config.tag_field: config.tag} if config.tag_field else {}
        values = (getattr(value, name) for name in kind.__struct_fields__)
        return tag | dict(zip(kind.__struct_encode_fields__, values, strict=True))
    _refuse_naive(held, written, "")
    return written


def _known_meaning(value: Any) -> Any:
    known = meaning(value)
    if known is UNKNOWN:
        raise TypeError
    return known


def _refuse_naive(held: Any, written: Any, path: str) -> None:
    """Refuse a naive datetime that a library has written as it is, without a time zone.

    Args:
        held: What an object holds, as built-in types and datetimes.
        written: The same in JSON.
        path: Where it stands.
    """
    if isinstance(held, datetime):
        if held.utcoffset() is None and written == held.isoformat():
            raise _naive().within(path)
    elif isinstance(held, Mapping) and isinstance(written, dict):
        for one, (name, other) in zip(held.values(), written.items(), strict=False):
            _refuse_naive(one, other, f"{path}.{name}")
    elif isinstance(held, (list, tuple, AbstractSet)) and isinstance(written, list):
        for index, (one, other) in enumerate(zip(held, written, strict=False)):
            _refuse_naive(one, other, f"{path}[{index}]")


def _of_numpy(numpy: Any, value: Any) -> Any:
    kind = value.dtype.kind
    if isinstance(value, numpy.ndarray):
        if kind in "biufU" and value.dtype.char != "g":
            return value.tolist()
        # One by one, for `tolist` makes numbers of times, and leaves the longest floats as is.
        return [*value] if value.ndim else value[()]
    if kind in "biuf":
        return {"b": bool, "f": float}.get(kind, int)(value)
    if kind == "M" and not numpy.isnat(value):
        if numpy.datetime_data(value.dtype)[0] == "D":
            return value.item()
        raise _naive()
    return None


def instead_of(value: Any) -> str:
    """Return what would be right in the place of what is no JSON, as the end of 'give'."""
    if isinstance(value, _BYTES):
        hint = " (of bytes their decode() or base64)"
    elif isinstance(value, AbstractSet):
        hint = " (of a set a list, such as its sorted())"
    elif isinstance(value, timedelta):
        hint = " (of a timedelta its total_seconds())"
    else:
        hint = ", or take it by json_default"
    return f"JSON: dict, list, str, int, float, bool or None{hint}"
