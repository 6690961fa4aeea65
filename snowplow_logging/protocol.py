"""What Snowplow accepts: the types, limits and encodings of the Tracker Protocol.

Each function that returns a `Check` describes one type of the protocol. A check takes what a
caller gave, returns the value as Snowplow wants it, and raises `Refused` where Snowplow would
refuse it. The limits are those of Enrich; JSON schema limits are those of Iglu Central.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any, Final, TypeAlias, get_args, get_type_hints
from uuid import UUID

__all__ = [
    "CONTEXTS",
    "MAX_BODY_BYTES",
    "MAX_HEADER_BYTES",
    "MAX_REQUEST_LINE_BYTES",
    "PAYLOAD_DATA",
    "PLATFORMS",
    "UNSTRUCT_EVENT",
    "Check",
    "Key",
    "Number",
    "Refused",
    "Text",
    "annotated_keys",
    "atomic_text",
    "decimal",
    "derived_uuid",
    "describe",
    "dimensions",
    "integer",
    "integer_text",
    "is_schema_uri",
    "milliseconds",
    "nearest",
    "number",
    "one_of",
    "schema_uri",
    "text",
    "uri",
    "uuid",
]

Text: TypeAlias = str | int | UUID | Enum
"""What is taken where Snowplow wants text; an `Enum` must have a string as its value."""

Number: TypeAlias = int | float | Decimal
"""What is taken where Snowplow wants a number; never a `bool`."""

Check: TypeAlias = Callable[[Any], Any]
"""Takes a caller's value, returns it as Snowplow wants it or raises `Refused`."""

_SNOWPLOW: Final = "iglu:com.snowplowanalytics.snowplow"
PAYLOAD_DATA: Final = f"{_SNOWPLOW}/payload_data/jsonschema/1-0-4"
UNSTRUCT_EVENT: Final = f"{_SNOWPLOW}/unstruct_event/jsonschema/1-0-0"
CONTEXTS: Final = f"{_SNOWPLOW}/contexts/jsonschema/1-0-1"

MAX_BODY_BYTES: Final = 1_048_576
"""A larger POST body is answered with 200 and becomes one failed event (collector)."""
MAX_REQUEST_LINE_BYTES: Final = 20_480
"""A longer request line is refused (collector)."""
MAX_HEADER_BYTES: Final = 40_960
"""More bytes in all headers together are refused (collector)."""

PLATFORMS: Final = ("web", "iot", "app", "mob", "pc", "cnsl", "tv", "srv", "headset")

_INT32: Final = range(-(2**31), 2**31)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MAX_MILLISECONDS: Final = 253_402_300_799_999  # the last of the year 9999
_MIN_MILLISECONDS: Final = -62_167_219_200_000  # the first of the year 0

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# RFC 3986 with the characters beyond ASCII that java.net.URI, Enrich's parser, takes as well: the
# scheme, after which something must come, and a host that is an IPv6 address, if it is one ...
_URI_START: Final = re.compile(
    r"[A-Za-z][A-Za-z0-9+.\-]*:(?!(?://)?(?:[?#]|\Z))"
    r"(?://(?:[\w\-.~%!$&'()*+,;=:]*@)?\[[0-9A-Fa-f:.]+\](?::\d*)?(?=[/?#]|\Z))?",
    re.ASCII,
)
# ... and what must not follow: another character, a % without two digits, a second #. To look for
# it takes half as long as to match all that may follow.
_NOT_IN_URI: Final = re.compile(
    r"[^\w\-.~:/?@!$&'()*+,;=\xa1-\u1fff\u200c-\u2027\u202a-\u2fff\u3001-\ud7ff\ue000-\U0010ffff]"
    r"(?:(?<![%#])|(?<=%)(?![0-9A-Fa-f]{2})|(?<=#)(?=.*#))",
    re.ASCII | re.DOTALL,
)
_SCHEMA_URI: Final = re.compile(
    r"iglu:[a-zA-Z0-9\-_.]+/[a-zA-Z0-9\-_]+/[a-zA-Z0-9\-_]+"
    r"/[1-9][0-9]*-(?:0|[1-9][0-9]*)-(?:0|[1-9][0-9]*)"
)


class Refused(ValueError):
    """A value that Snowplow would refuse: what was wrong and what would be right.

    Args:
        problem: What was wrong, as the end of a sentence that starts with the key.
        expected: What would be right, as the end of a sentence that starts with 'give'.
        path: Where in the value the fault lies, such as `.items[2].price`.
        loss: The reason under which the event is counted.
    """

    def __init__(
        self, problem: str, expected: str, path: str = "", loss: str = "invalid event"
    ) -> None:
        super().__init__(problem, expected, path, loss)
        self.problem, self.expected, self.path, self.loss = problem, expected, path, loss

    def within(self, path: str) -> Refused:
        """Return the refusal of the value that holds this one at a path."""
        return Refused(self.problem, self.expected, path + self.path, self.loss)


def describe(value: object) -> str:
    """Describe a caller's value for an error message, without trusting its methods."""
    kind = type(value).__name__
    if value is None or isinstance(value, (bool, float)):
        return f"is {value!r}" if type(value) in (bool, float) or value is None else f"is a {kind}"
    if type(value) is str:
        return f"is {value[:60]!r}{'…' if len(value) > 60 else ''}"
    if type(value) is int:
        return f"is {value}" if value.bit_length() < 200 else "is an int of over 60 digits"
    return f"is {'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}"


def nearest(name: object, known: Iterable[str]) -> str:
    """Return the words that name the nearest known name, or all of them where none is near."""
    names = list(known)
    close: list[str] = []
    # A name of megabytes is near to none, and finding that out would take seconds.
    if isinstance(name, str) and len(name) <= 100:
        folded = {one.casefold(): one for one in names}
        close = difflib.get_close_matches(name.casefold(), folded, 1, 0.5)
        close = [folded[match] for match in close]
    return repr(close[0]) if close else "one of " + ", ".join(names)


def _as_text(value: object) -> str:
    if isinstance(value, Enum) and isinstance(value.value, str):
        value = value.value
    if isinstance(value, str):
        string = str.__str__(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        string = _digits(value)
    elif isinstance(value, UUID):
        string = UUID.__str__(value)
    else:
        raise Refused(describe(value), "text (a str, int, UUID or string enum)")
    if not string.isascii():
        try:
            string.encode()
        except UnicodeEncodeError as error:
            problem = f"holds a lone surrogate at character {error.start}"
            raise Refused(problem, "text that UTF-8 can encode") from None
    return string


def _digits(value: int) -> str:
    try:
        return int.__repr__(value)
    except ValueError:  # Python's own limit, which guards against the time that it takes
        raise Refused(describe(value), "a number of fewer digits") from None


def _atomic_length(string: str) -> int:
    units = len(string) if string.isascii() else len(string.encode("utf-16-le")) // 2
    return units + 3 * string.count("\t")


def atomic_text(limit: int, *, cut: bool = False) -> Check:
    """Text of at most `limit` UTF-16 code units, a tab counting as four (Enrich).

    Args:
        limit: The most code units that Enrich takes.
        cut: Whether a longer text is cut to the limit instead of refused.
    """

    def check(value: Any) -> str:
        string = value if type(value) is str and value.isascii() else _as_text(value)
        # No character counts for more than four.
        if len(string) * 4 <= limit or (length := _atomic_length(string)) <= limit:
            return string
        if not cut:
            raise Refused(f"has {length:,} characters", f"at most {limit:,}")
        used = 0
        for end, character in enumerate(string):
            used += 4 if character == "\t" else 2 if character > "\uffff" else 1
            if used > limit:
                return string[:end]
        return string

    return check


def text(most: int | None = None, *, least: int = 0, cut: bool = False) -> Check:
    """Text for a property of a JSON schema.

    Args:
        most: The schema's `maxLength`, in characters.
        least: The schema's `minLength`, in characters.
        cut: Whether a longer text is cut to `most` instead of refused.
    """

    def check(value: Any) -> str:
        string = value if type(value) is str and value.isascii() else _as_text(value)
        if len(string) < least:
            raise Refused("is empty", f"at least {least} character{'s' * (least > 1)}")
        if most is not None and len(string) > most:
            if not cut:
                raise Refused(f"has {len(string):,} characters", f"at most {most:,}")
            string = string[:most]
        return string

    return check


def _is_uri(string: str) -> bool:
    start = _URI_START.match(string)
    return start is not None and _NOT_IN_URI.search(string, start.end()) is None


_is_known_uri: Final = lru_cache(maxsize=1024)(_is_uri)


def uri(limit: int) -> Check:
    """Return the check of an absolute URI (RFC 3986) of at most `limit` characters."""
    limited = atomic_text(limit)

    def check(value: Any) -> str:
        # Only short ones are cached, so that the cache stays small.
        if type(value) is str and len(value) <= 256 and _is_known_uri(value):
            return value
        string: str = limited(value)
        if string and not _is_uri(string):
            raise Refused(
                f"{describe(string)}, which is not a URI",
                "a URI with its scheme, such as 'https://shop.example.com/basket', and "
                "with spaces and other special characters percent-encoded",
            )
        return string

    return check


def uuid(value: Any) -> str:
    """Check a canonical UUID; it comes back in lower case."""
    string = value if type(value) is str else _as_text(value)
    if not _UUID.fullmatch(string):
        raise Refused(describe(value), "a UUID, such as '0f8fad5b-d9cb-469f-a165-70867728950e'")
    return string.lower()


def one_of(*values: str) -> Check:
    """Return the check of one of some fixed strings."""

    def check(value: Any) -> str:
        string = value if type(value) is str else _as_text(value)
        if string not in values:
            raise Refused(describe(string), nearest(string, values))
        return string

    return check


def _as_number(value: object) -> Number:
    if type(value) is int or type(value) is float:
        pass
    elif isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise Refused(describe(value), "a number (an int, float or Decimal)")
    elif isinstance(value, int):
        value = int(value)
    elif isinstance(value, float):
        value = float(value)
    if isinstance(value, Decimal):
        finite = value.is_finite()
    else:
        finite = isinstance(value, int) or math.isfinite(value)
    if not finite:
        raise Refused(f"is {value}", "a finite number")
    return value


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
    """Check a 32-bit whole number; it comes back as a string."""
    return str(_INTEGER(value))


_INTEGER: Final = integer()


def number(value: Any) -> int | float:
    """Check a number of a JSON schema."""
    checked = _as_number(value)
    if isinstance(checked, int):
        _digits(checked)
    if not isinstance(checked, Decimal):
        return checked
    as_float = float(checked)
    if math.isinf(as_float):
        raise Refused(f"is {value}", "a number that a 64-bit float can hold")
    return int(checked) if as_float.is_integer() and checked == int(as_float) else as_float


def decimal(value: Any) -> str:
    """Check a number that `java.math.BigDecimal` reads; it comes back as a string."""
    checked = _as_number(value)
    if isinstance(checked, int):
        return _digits(checked)
    if isinstance(checked, Decimal):
        scale = -int(checked.as_tuple().exponent)
        if scale not in _INT32 or checked.adjusted() not in _INT32:
            raise Refused(f"is {value}", "a number whose exponent has 32 bits")
    return str(checked)


def milliseconds(value: Any) -> str:
    """Check a time: milliseconds since 1970 UTC, or an aware `datetime`.

    Whole milliseconds come back, as a string; a fraction is cut off.
    """
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            problem = "is a naive datetime, which has no time zone"
            raise Refused(problem, "an aware one, such as datetime.now(timezone.utc)")
        value = (value - _EPOCH) // timedelta(milliseconds=1)
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        expected = "milliseconds since 1970 as an int or float, or an aware datetime"
        raise Refused(describe(value), expected)
    if not _MIN_MILLISECONDS <= value <= _MAX_MILLISECONDS:
        raise Refused(describe(value), "milliseconds since 1970 UTC, in the years 0 to 9999")
    return str(math.floor(value))


def dimensions(value: Any) -> str:
    """Check a width and a height in pixels; they come back as `WIDTHxHEIGHT`."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise Refused(describe(value), "a pair (width, height) of whole numbers")
    side = integer(least=0)
    return f"{side(value[0])}x{side(value[1])}"


@lru_cache(maxsize=1024)
def is_schema_uri(string: str) -> bool:
    """Tell whether a string is the Iglu URI of a schema."""
    return _SCHEMA_URI.fullmatch(string) is not None


def schema_uri(value: Any) -> str:
    """Check the Iglu URI of a schema."""
    string: str = _as_text(value) if isinstance(value, (str, Enum)) else ""
    if not is_schema_uri(string):
        expected = "iglu:VENDOR/NAME/jsonschema/MODEL-REVISION-ADDITION, such as "
        raise Refused(describe(value), f"{expected}'iglu:com.acme/save_game/jsonschema/1-0-2'")
    return string


@dataclass(frozen=True)
class Key:
    """What Snowplow wants to know of one key of an event or a subject.

    Args:
        name: Snowplow's name: a parameter of the protocol or a property of the event's schema.
        check: Its type.
        nullable: Whether the schema asks for a null where there is no value.
        default: Makes the value of an absent key from the event's id.
        required: Whether the event is refused without it; read off the class.
    """

    name: str
    check: Check
    nullable: bool = False
    default: Callable[[str], Any] | None = None
    required: bool = field(default=False, compare=False)


def annotated_keys(cls: type) -> dict[str, Key]:
    """Return the keys that the annotations of a class define, by their Python names."""
    hints = get_type_hints(cls, include_extras=True).items()
    return {name: key for name, hint in hints for key in get_args(hint) if isinstance(key, Key)}


def derived_uuid(seed: bytes) -> str:
    """Make a UUID that is always the same for the same seed (version 8, RFC 9562)."""
    h = hashlib.blake2b(seed, digest_size=15).hexdigest()
    return f"{h[:8]}-{h[8:12]}-8{h[12:15]}-a{h[15:18]}-{h[18:]}"
