"""Text as Java reads it: its numbers, its lengths, its decoders.

Enrich runs on the JVM, so what it takes for a number, how long a text is to it and what becomes
of bytes that are no UTF-8 is decided by `Integer.parseInt`, `java.math.BigDecimal`,
`String.length` and the like.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from typing import Final

__all__ = [
    "decimal_text",
    "decode_form",
    "decode_utf8",
    "parse_integer",
    "printed",
    "tsv_safe",
    "utf16_length",
]

# Character.digit: any decimal digit of the Basic Multilingual Plane, for Java reads UTF-16 units.
_DIGIT: Final = r"(?:(?![^\x00-\uffff])\d)"
_INTEGER: Final = re.compile(rf"[+-]?(?P<digits>{_DIGIT}+)")
# java.math.BigDecimal(String): '1.', '.5' and '+1e-3' are read, 'NaN' and '1_000' are not.
_DECIMAL: Final = re.compile(
    rf"[+-]?(?:{_DIGIT}+(?:\.(?P<after>{_DIGIT}*))?|\.(?P<only>{_DIGIT}+))"
    rf"(?:[eE](?P<exponent>[+-]?{_DIGIT}+))?"
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]+")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_SURROGATE_BYTES: Final = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]?")
_HEX_PAIR: Final = re.compile(rb"[0-9A-Fa-f]{2}")
_REPLACEMENT: Final = "\ufffd".encode()
_INT_MIN: Final = -(2**31)
_INT_MAX: Final = 2**31 - 1
_LONGEST: Final = 19  # the digits of the largest 64-bit integer
# From this power of ten on BigInteger overflows; below it Enrich writes out all digits.
_POWER_LIMIT: Final = 646_456_993
# Digits that are really written out here; a number of more stays in scientific notation.
_WRITTEN_OUT: Final = 10_000


def parse_integer(text: str, bits: int = 32) -> int:
    """Read a whole number as `Integer.parseInt` and `Long.parseLong` do.

    Args:
        text: The text: digits of any alphabet, and a sign before them or none.
        bits: The size of the number, 32 or 64.

    Returns:
        The number.

    Raises:
        ValueError: The text is no whole number of that size.
    """
    match = _INTEGER.fullmatch(text)
    # The length keeps int() away from its own limit of digits.
    if match and len(_without_zeros(match["digits"])) <= _LONGEST:
        number = int(text)
        if -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
            return number
    message = f"is no whole number of {bits} bits"
    raise ValueError(message)


def decimal_text(text: str) -> str:
    """Read a decimal as `java.math.BigDecimal` does, and write it as Enrich does.

    Args:
        text: The text, such as ``'9.90'``, ``'+1'``, ``'.5'`` or ``'1e3'``.

    Returns:
        The number with no exponent above zero, such as ``'1000'``, unless it would have more
        than 10,000 digits.

    Raises:
        ValueError: The text is no decimal, or one with an exponent that Java cannot hold.
    """
    match = _DECIMAL.fullmatch(text)
    if match:
        exponent = match["exponent"] or "0"
        if len(_without_zeros(exponent.lstrip("+-"))) <= _LONGEST:
            power = int(exponent)
            scale = len(match["after"] or match["only"] or "") - power
            if _INT_MIN <= power <= _INT_MAX and _INT_MIN <= scale <= _INT_MAX:
                number = Decimal(text)
                if not number:
                    # Java knows no zero below zero, and writes no zeros before the point.
                    number = Decimal((0, (0,), min(-scale, 0)))
                elif -scale >= _POWER_LIMIT:
                    message = "is a number too large to be written out"
                    raise ValueError(message)
                if scale < 0 and -scale <= _WRITTEN_OUT:
                    return f"{number:f}"
                return str(number)
    message = "is no decimal"
    raise ValueError(message)


def _without_zeros(digits: str) -> str:
    """Return digits of any alphabet without the zeros that lead them."""
    if not digits.isascii():
        digits = "".join(str(unicodedata.decimal(digit)) for digit in digits)
    return digits.lstrip("0")


def tsv_safe(text: str) -> str | None:
    """Return a text as Enrich keeps it: a tab as four spaces, other control characters gone.

    Args:
        text: The text.

    Returns:
        The text, or None where nothing is left of it.
    """
    return _CONTROL.sub("", text.replace("\t", "    ")) or None


def utf16_length(text: str) -> int:
    """Return the length of a text in UTF-16 code units, as `String.length` counts."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def printed(text: str) -> str:
    """Return a text as Java writes it in UTF-8: half a surrogate pair becomes a question mark."""
    return text if text.isascii() else _SURROGATE.sub("?", text)


def decode_form(text: str) -> str:
    """Decode a name or value of a query string as Apache's HTTP client does.

    A plus is a space. A character that is not ASCII is cut to its lowest eight bits, so that a
    raw 'é' in a query string is lost.

    Args:
        text: The name or value, percent-encoded.

    Returns:
        The decoded text, with U+FFFD for what is no UTF-8.
    """
    if "%" not in text and text.isascii():
        return text.replace("+", " ")
    units = text.replace("+", " ").encode("utf-16-le", "surrogatepass")[::2].split(b"%")
    decoded = [units[0]]
    for part in units[1:]:
        pair = _HEX_PAIR.match(part)
        decoded.append(bytes([int(pair[0], 16)]) + part[2:] if pair else b"%" + part)
    return decode_utf8(b"".join(decoded))


def decode_utf8(data: bytes) -> str:
    """Decode UTF-8 as Java does: each malformed sequence becomes one U+FFFD.

    Args:
        data: The bytes.

    Returns:
        The text. Where half a surrogate pair was encoded, Java sees one malformed sequence and
        Python two or three.
    """
    return _SURROGATE_BYTES.sub(_REPLACEMENT, data).decode("utf-8", "replace")
