"""The formats that Enrich checks, by the names that schemas have for them.

They are those of networknt's json-schema-validator, in the versions of it that Iglu's client for
Scala has used since 2022. A format that it does not know takes anything. So do `color`, `style` and
`duration` here, because what they take has changed from one version to the next.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from ipaddress import IPv6Address
from typing import Final

__all__ = ["FORMATS"]

# Each matches a text as a whole, and in a time that grows as the text does, for the text is a
# caller's. Classes of characters are ASCII, as Java has them.
_LABEL: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_OCTET: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_OFFSET: Final = r"(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
_PATTERNS: Final = {
    "uuid": r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
    "hostname": rf"{_LABEL}(?:\.{_LABEL})*",
    "ipv4": rf"{_OCTET}(?:\.{_OCTET}){{3}}",
    "ip-address": r"(?:(?:25[0-5]|2[0-4][0-9]|[01]?[0-9]{1,2})(?:\.(?!\Z)|\Z)){4}",
    "uri": r"[a-zA-Z][a-zA-Z0-9+,.-]*:[^ \t\n\x0b\f\r]*|//[^ \t\n\x0b\f\r]*",
    "time": rf"[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}(?:\.[0-9]+)?{_OFFSET}?",
    "alpha": r"[a-zA-Z]+",
    "alphanumeric": r"[a-zA-Z0-9]+",
    "phone": r"\+(?:[0-9] ?){6,14}[0-9]",
    "utc-millisec": r"[0-9]+(?:\.[0-9]+)?",
}
_DATE: Final = re.compile(r"(-?[0-9]{4}|\+[0-9]{5,9}|-[0-9]{5,9})-([0-9]{2})-([0-9]{2})")
_DATE_TIME: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]{1,9})?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
_SPACE: Final = " \t\n\x0b\f\r"
_WORD: Final = re.compile(rf"""(?:[^{_SPACE}\x00-\x1f\x7f()<>@,;:\\".\[\]]|\\.)+""")
_MOST_IN_USER: Final = 64  # characters
# Far more than the 253 of a name as it is sent. The time that Python takes to encode one grows with
# the square of its length.
_MOST_TO_ENCODE: Final = 1_000
_DOMAIN: Final = re.compile(
    rf"(?:{_LABEL}\.)+(?!local\Z|localhost\Z|localdomain\Z|test\Z|example\Z"
    r"|invalid\Z)(?:[a-z]{2,63}|xn--[a-z0-9-]{2,59})\.?",
    re.IGNORECASE,
)


def _is_date(text: str) -> bool:
    match = _DATE.fullmatch(text)
    if match is None or match[1] == "-0000":
        return False
    # The calendar repeats every 400 years, and Python's begins with year 1.
    year, month, day = int(match[1]) % 400 + 400, int(match[2]), int(match[3])
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def _is_date_time(text: str) -> bool:
    """Tell whether a text is a time as RFC 3339 has it, with a space for the `T` if it likes.

    A leap second is one at the end of June or December. An offset of `-00:00` is not taken
    (com.ethlo.time, which Enrich reads times with).
    """
    match = _DATE_TIME.fullmatch(text)
    if match is None or not _is_date(match[1]):
        return False
    hour, minute, second = int(match[2]), int(match[3]), int(match[4])
    away = 0  # minutes from UTC
    if match[5]:
        away = int(match[6]) * 60 + int(match[7])
        if int(match[7]) > 59 or away > 18 * 60 or (away == 0 and match[5] == "-"):
            return False
        away = -away if match[5] == "-" else away
    if second == 60:
        is_end = match[1][5:] in ("06-30", "12-31")
        return is_end and hour * 60 + minute - away == 23 * 60 + 59
    return hour < 24 and minute < 60 and second < 60


def _is_ipv6(text: str) -> bool:
    address, percent, zone = text.strip(_SPACE).partition("%")
    try:
        IPv6Address(address)
    except ValueError:
        return False
    return bool(zone) or not percent


def _is_user(text: str) -> bool:
    """Tell whether a text is what stands before the @: words, quoted or not, with dots between.

    A quote with a backslash before it may be a part of a quoted word, or its end. So each word is
    looked at once, wherever one may start, since a pattern would try all the ways to part a text.
    """
    text = text.lstrip(_SPACE)
    starts = {0}
    for start, sign in enumerate(text):
        if start not in starts:
            continue
        ends = []
        if sign == '"':
            end = start
            while (end := text.find('"', end + 1)) > 0:
                ends.append(end + 1)
                if text[end - 1] != "\\":
                    break
        elif word := _WORD.match(text, start):
            ends = [word.end()]
        if len(text) in ends:
            return True
        starts |= {end + 1 for end in ends if text[end] == "."}
    return False


def _is_email(text: str) -> bool:
    """Tell whether a text is an email address.

    Enrich knows the top-level domains by a list of 2019; here any takes the place of one but those
    that no domain will ever have.
    """
    user, at, domain = text.rstrip().rpartition("@")
    if not at or len(user) > _MOST_IN_USER or text.endswith(".") or not _is_user(user):
        return False
    if domain.startswith("[") and domain.endswith("]"):
        address = domain[1:-1]
        if address.startswith("IPv6:"):
            return _is_ipv6(address.removeprefix("IPv6:"))
        return FORMATS["ipv4"](address)
    if not domain.isascii():
        if len(domain) > _MOST_TO_ENCODE:
            return False
        try:
            domain = domain.encode("idna").decode()
        except UnicodeError:
            return False
    return _DOMAIN.fullmatch(domain) is not None


def _whole(pattern: str) -> Callable[[str], bool]:
    match = re.compile(pattern).fullmatch
    return lambda text: match(text) is not None


FORMATS: Final[dict[str, Callable[[str], bool]]] = {
    **{name: _whole(pattern) for name, pattern in _PATTERNS.items()},
    "date": _is_date,
    "date-time": _is_date_time,
    "ipv6": _is_ipv6,
    "email": _is_email,
}
