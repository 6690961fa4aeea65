"""The types of the Tracker Protocol that are numbers, times or sizes: a check for each."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from numbers import Integral, Real
from typing import Any, Final, TypeAlias

from snowplow_logging.protocol import Refused, describe, digits

__all__ = [
    "Number",
    "decimal",
    "dimensions",
    "integer",
    "integer_text",
    "is_milliseconds",
    "milliseconds",
    "number",
]

Number: TypeAlias = int | float | Decimal
"""What is taken where Snowplow wants a number; never a `bool`."""

_INT32: Final = range(-(2**31), 2**31)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MAX_MILLISECONDS: Final = 253_402_300_799_999  # the last of the year 9999
_MIN_MILLISECONDS: Final = -62_167_219_200_000  # the first of the year 0

# What `java.math.BigDecimal` and `java.lang.Integer` read, in the digits of any script.
_DECIMAL: Final = re.compile(r"[+\-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+\-]?\d+)?")
_WHOLE: Final = re.compile(r"[+\-]?\d+")
_DIMENSIONS: Final = re.compile(r"(\d+)x(\d+)", re.ASCII)


def _as_number(value: object) -> int | float | Decimal:
    """Return a caller's number as one of Python's own, which is finite and no bool."""
    if type(value) is int or type(value) is float:
        pass
    elif isinstance(value, bool):
        raise Refused(describe(value), _A_NUMBER)
    elif isinstance(value, int):
        value = int(value)
    elif isinstance(value, float):
        value = float(value)
    elif isinstance(value, Decimal):
        if not value.is_finite():
            raise Refused(f"is {value}", "a finite number")
        return value
    elif isinstance(value, Integral):  # such as numpy's, whose bool is none
        value = int(value)
    elif isinstance(value, Real):
        value = float(value)
    else:
        raise Refused(describe(value), _A_NUMBER)
    if isinstance(value, float) and not math.isfinite(value):
        raise Refused(f"is {value}", "a finite number")
    return value


_A_NUMBER: Final = "a number (an int, float or Decimal)"
_IN_A_FLOAT: Final = "a number that a 64-bit float can hold"


def _is_in_float(value: float | Decimal) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def integer(least: int = _INT32[0], most: int = _INT32[-1]) -> Callable[[Any], int]:
    """Return the check of a whole number, 32-bit unless said otherwise."""

    def check(value: Any) -> int:
        checked = _as_number(value)
        if not (least <= checked <= most) or checked != int(checked):
            whole = f"a whole number from {least:,} to {most:,}"
            raise Refused(describe(value) if type(value) is not Decimal else f"is {value}", whole)
        return int(checked)

    return check


def integer_text(value: Any) -> str:
    """Check a 32-bit whole number, or a text that Enrich reads as one; it comes back as a string.

    It is empty, and counts as absent, where the text is empty or `null`.
    """
    if isinstance(value, str):
        string = str.__str__(value)
        if not string or string.lower() == "null":
            return ""
        if not _WHOLE.fullmatch(string):
            raise Refused(describe(string), _A_WHOLE_NUMBER)
        value = _number_of(string)
    return str(_INTEGER(value))


_INTEGER: Final = integer()
_A_WHOLE_NUMBER: Final = f"a whole number from {_INT32[0]:,} to {_INT32[-1]:,}"


def _number_of(string: str) -> Decimal:
    try:
        return Decimal(string)
    except InvalidOperation:  # from an exponent of too many digits
        raise Refused(describe(string), _IN_A_FLOAT) from None


def number(value: Any) -> int | float:
    """Check a number of a JSON schema."""
    checked = _as_number(value)
    if isinstance(checked, int):
        digits(checked)
    if not isinstance(checked, Decimal):
        return checked
    if not _is_in_float(checked):
        raise Refused(f"is {value}", _IN_A_FLOAT)
    as_float = float(checked)
    return int(checked) if as_float.is_integer() and checked == int(as_float) else as_float


def decimal(value: Any) -> str:
    """Check a number, or a text that `java.math.BigDecimal` reads as one.

    It comes back as Enrich writes it, and empty, which counts as absent, where the text is empty
    or `null`.
    """
    if isinstance(value, str):
        string = str.__str__(value)
        if not string or string.lower() == "null":
            return ""
        if not _DECIMAL.fullmatch(string):
            raise Refused(describe(string), "a number such as 12.5 or '12.5'")
        value = _number_of(string)
    checked = _as_number(value)
    if isinstance(checked, float):
        written = repr(checked)
        return written if checked and "e" not in written else _decimal_text(Decimal(written))
    if isinstance(checked, Decimal):
        return _decimal_text(checked)
    written = digits(checked)
    if not _is_in_float(checked):
        raise Refused(describe(checked), _IN_A_FLOAT)
    return written


def _decimal_text(checked: Decimal) -> str:
    """Return a number as Enrich writes it: large ones in full, and no zero with a minus."""
    scale = -int(checked.as_tuple().exponent)
    if not checked:
        checked = abs(checked) if scale > 0 else Decimal(0)
    elif not _is_in_float(checked):
        raise Refused(f"is {checked}", _IN_A_FLOAT)
    if scale > _INT32[-1]:
        raise Refused(f"is {checked}", "a number whose exponent has 32 bits")
    return str(checked) if scale >= 0 else f"{checked:f}"


def is_milliseconds(string: str) -> bool:
    """Tell whether Enrich reads a text as a time: whole milliseconds, in the years 0 to 9999."""
    # A longer one is no such time, and would take long to read.
    return (
        len(string) < 100
        and _WHOLE.fullmatch(string) is not None
        and _MIN_MILLISECONDS <= int(string) <= _MAX_MILLISECONDS
    )


def milliseconds(value: Any) -> str:
    """Check a time: milliseconds since 1970 UTC, or an aware `datetime`.

    Whole milliseconds come back, as a string; a fraction is cut off. Empty text counts as absent.
    """
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            problem = "is a naive datetime, which has no time zone"
            raise Refused(problem, "an aware one, such as datetime.now(timezone.utc)")
        return str((value - _EPOCH) // timedelta(milliseconds=1))
    if isinstance(value, str):
        string = str.__str__(value)
        if not string:
            return ""
        if not is_milliseconds(string):
            raise Refused(describe(string), _A_TIME)
        value = int(string)
    elif isinstance(value, bool) or not isinstance(value, (Real, Decimal)):
        raise Refused(describe(value), _A_TIME)
    else:
        value = _as_number(value)
    if not _MIN_MILLISECONDS <= value <= _MAX_MILLISECONDS:
        raise Refused(describe(value), "milliseconds since 1970 UTC, in the years 0 to 9999")
    if _SECONDS_OF_1980 <= value <= _SECONDS_OF_2100:
        problem = f"is {value}, which as milliseconds is early in 1970 and looks like seconds"
        raise Refused(problem, "milliseconds since 1970 UTC, such as int(time.time() * 1000)")
    return str(math.floor(value))


_A_TIME: Final = "milliseconds since 1970 as an int or float, or an aware datetime"
_SECONDS_OF_1980: Final = 315_532_800
_SECONDS_OF_2100: Final = 4_102_444_800


def dimensions(value: Any) -> str:
    """Check a width and a height in pixels, as a pair or as `WIDTHxHEIGHT`, which comes back."""
    if isinstance(value, str):
        string = str.__str__(value)
        if not string:
            return ""
        sides = _DIMENSIONS.fullmatch(string)
        if sides is None:
            raise Refused(describe(string), _A_PAIR)
        value = sides[1], sides[2]
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise Refused(describe(value), _A_PAIR)
    return f"{_side(value[0])}x{_side(value[1])}"


_A_PAIR: Final = "a pair (width, height) of whole numbers"


def _side(value: Any) -> int:
    return _SIDE(_number_of(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else value)


_SIDE: Final = integer(least=0)
