"""What Snowplow accepts: the names and limits of the Tracker Protocol, and its types of text.

Each function that returns a `Check`, here and in `number_types`, describes one type of the
protocol. A check takes what a caller gave, returns the value as Snowplow wants it, and raises
`Refused` where Snowplow would refuse it. The limits are those of Enrich; JSON schema limits are
those of Iglu Central.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from enum import Enum
from functools import lru_cache
from numbers import Integral
from numbers import Number as AnyNumber
from os import PathLike
from typing import Any, Final, TypeAlias, cast, get_args, get_type_hints
from uuid import UUID

__all__ = [
    "CONTEXTS",
    "LONGEST_KEPT",
    "MAX_BODY_BYTES",
    "MAX_HEADER_BYTES",
    "MAX_REQUEST_LINE_BYTES",
    "PAYLOAD_DATA",
    "PLATFORMS",
    "POST_PATH",
    "UNSTRUCT_EVENT",
    "Check",
    "Key",
    "Refused",
    "Text",
    "annotated_keys",
    "as_text",
    "atomic_text",
    "derived_uuid",
    "describe",
    "digits",
    "first_address",
    "is_given",
    "is_schema_uri",
    "kept_text",
    "nearest",
    "one_of",
    "schema_uri",
    "text",
    "type_name",
    "unless_empty",
    "unreadable",
    "utf16_length",
    "uuid",
    "without_controls",
]

Text: TypeAlias = str | int | UUID | Enum
"""What is taken where Snowplow wants text; an `Enum` must have a string as its value."""

Check: TypeAlias = Callable[[Any], Any]
"""Takes a caller's value, returns it as Snowplow wants it or raises `Refused`."""

LONGEST_KEPT: Final = 1_000
"""Characters of a name of a caller's, such as the URI of a schema, that may be kept for later.

Callers may make up names of any length. The URI of a schema that a registry has is shorter: it is
the path of a file, of four names, of which each has at most 255 bytes.
"""

_SNOWPLOW: Final = "iglu:com.snowplowanalytics.snowplow"
PAYLOAD_DATA: Final = f"{_SNOWPLOW}/payload_data/jsonschema/1-0-4"
UNSTRUCT_EVENT: Final = f"{_SNOWPLOW}/unstruct_event/jsonschema/1-0-0"
CONTEXTS: Final = f"{_SNOWPLOW}/contexts/jsonschema/1-0-1"

POST_PATH: Final = "/com.snowplowanalytics.snowplow/tp2"
"""Where a collector takes requests of many events."""

MAX_BODY_BYTES: Final = 1_048_576
"""A larger POST body is answered with 200 and becomes one failed event (collector)."""
MAX_REQUEST_LINE_BYTES: Final = 20_480
"""A longer request line is refused (collector)."""
MAX_HEADER_BYTES: Final = 40_960
"""More bytes in all headers together are refused (collector)."""

PLATFORMS: Final = ("web", "iot", "app", "mob", "pc", "cnsl", "tv", "srv", "headset")

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]")
_FIRST_ADDRESS: Final = re.compile(r"[^,| ]*")
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
    kind = type_name(value)
    if value is None or isinstance(value, (bool, float)):
        return f"is {value!r}" if type(value) in (bool, float) or value is None else f"is a {kind}"
    if type(value) is str:
        return f"is {value[:60]!r}{'…' if len(value) > 60 else ''}"
    if type(value) is int:
        return f"is {value}" if value.bit_length() < 200 else "is an int of over 60 digits"
    # Its classes have names of ours, so that the name alone would say nothing.
    package = str(type(value).__module__).partition(".")[0]
    owner = " of snowplow_tracker" if package == "snowplow_tracker" else ""
    return f"is {'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}{owner}"


def type_name(value: object) -> str:
    """Name the type of a value; a list, dict or tuple that `dictConfig` has converted is one."""
    kind: Any = type(value)
    return str((kind.__base__ if kind.__module__ == "logging.config" else kind).__name__)


def unreadable(error: Exception) -> Refused:
    """Return the refusal of a caller's object that has raised an error when it was read.

    Raises:
        MemoryError: That is the error, which says nothing of the object.
    """
    if isinstance(error, MemoryError):
        raise error
    problem = f"raised {type(error).__name__} when it was read"
    return Refused(problem, "a plain value: dict, list, str, int, float, bool or None")


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


def as_text(value: object) -> str:
    """Return the text that a caller's value is or stands for; it may hold lone surrogates.

    Raises:
        Refused: It is something else.
    """
    if isinstance(value, Enum) and isinstance(value.value, str):
        value = value.value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return digits(value)
    if isinstance(value, UUID):
        return UUID.__str__(value)
    if isinstance(value, PathLike):
        path = value.__fspath__()
        if isinstance(path, str):
            return str.__str__(path)
    elif isinstance(value, Integral) and not isinstance(value, bool):
        return digits(int(value))
    elif _stands_for_text(value):
        return str.__str__(str(value))
    raise Refused(describe(value), "text (a str, int, UUID, string enum or what stands for a text)")


# What has a text of its own and stands for something else.
_NO_TEXTS: Final = (
    Enum,
    AnyNumber,
    bool,
    bytes,
    bytearray,
    memoryview,
    date,
    time,
    timedelta,
    BaseException,
    type,
)


def _stands_for_text(value: object) -> bool:
    """Tell whether an object is there for its text alone: a lazy translation, a URL, an address.

    Its class says what its text is, and it is neither a number nor a time nor an error. What can
    be iterated is a collection, unless it has the methods of a text, as lazy ones do.
    """
    kind: Any = type(value)
    if kind.__str__ is object.__str__ or isinstance(value, _NO_TEXTS):
        return False
    # Numpy's and pandas' own, such as numpy.bool_ and pandas.NA.
    if hasattr(kind, "__array__") or hasattr(kind, "__array_ufunc__"):
        return False
    if hasattr(kind, "__iter__") or hasattr(kind, "__len__"):
        return callable(getattr(value, "encode", None))
    return True


def _as_text(value: object) -> str:
    """Return the text that a value is or stands for, as UTF-8 can encode it."""
    return _encodable(as_text(value))


def digits(value: int) -> str:
    """Return a whole number as text.

    Raises:
        Refused: It has more digits than Python writes.
    """
    try:
        return int.__repr__(value)
    except ValueError:  # Python's limit, because the time grows with the square of the digits
        raise Refused(describe(value), "a number of fewer digits") from None


def without_controls(string: str) -> str:
    """Return a text as Enrich reads it: a tab is four spaces, other control characters are gone."""
    if string.isprintable():
        return string
    return _CONTROLS.sub("", string.replace("\t", "    "))


def kept_text(string: str) -> str:
    """Return a text as Enrich keeps it: without control characters, a lone surrogate being `?`."""
    if string.isprintable():
        return string
    return _encodable(without_controls(string))


def _encodable(string: str) -> str:
    # A lone surrogate becomes what Enrich makes of it, a question mark.
    return string if string.isascii() else string.encode(errors="replace").decode()


def utf16_length(string: str) -> int:
    """Return the length of a text in UTF-16 code units, in which Enrich counts."""
    return (
        len(string) if string.isascii() else len(string.encode("utf-16-le", "surrogatepass")) // 2
    )


def atomic_text(limit: int, *, cut: bool = False) -> Check:
    """Text of at most `limit` UTF-16 code units, in the form that Enrich keeps.

    It is empty, and counts as absent, where there are control characters alone.

    Args:
        limit: The most code units that Enrich takes.
        cut: Whether a longer text is cut to the limit instead of refused.
    """
    surely = limit // 2

    def check(value: Any) -> str:
        # What can be printed has neither control characters nor lone surrogates, and no character
        # counts for more than two.
        if type(value) is str and len(value) <= surely and value.isprintable():
            return value
        string = kept_text(as_text(value))
        length = utf16_length(string)
        if length <= limit:
            return string
        if not cut:
            raise Refused(f"has {length:,} characters", f"at most {limit:,}")
        used = 0
        for end, character in enumerate(string):
            used += 2 if character > "\uffff" else 1
            if used > limit:
                return string[:end]
        return string

    return check


def first_address(value: Any) -> str:
    """Check an address, or a list of them as in `X-Forwarded-For`, of which the first comes back.

    That is what stands before the first comma, bar or space, for Enrich takes no more of it.
    """
    string = as_text(value).lstrip(",| \t\r\n")
    first = _FIRST_ADDRESS.match(string.replace("\t", " "))
    return _ADDRESS(first[0] if first else "")


_ADDRESS: Final[Callable[[Any], str]] = atomic_text(128)


def text(most: int | None = None, *, least: int = 0, cut: bool = False) -> Check:
    """Text for a property of a JSON schema.

    Args:
        most: The schema's `maxLength`, in characters.
        least: The schema's `minLength`, in characters.
        cut: Whether a longer text is cut to `most` instead of refused.
    """

    def check(value: Any) -> str:
        fine = type(value) is str and value.isascii()
        string: str = value if fine else _as_text(value)
        if len(string) < least:
            raise Refused("is empty", f"at least {least} character{'s' * (least > 1)}")
        if most is not None and len(string) > most:
            if not cut:
                raise Refused(f"has {len(string):,} characters", f"at most {most:,}")
            string = string[:most]
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


def is_given(value: object) -> bool:
    """Tell whether a value is one: None counts as absent, and so does empty text."""
    # Not `isinstance`, which asks an object for a class that it may fail to give.
    is_empty = issubclass(type(value), str) and not str.__len__(cast("str", value))
    return value is not None and not is_empty


def unless_empty(check: Check) -> Check:
    """Return a check to which empty text counts as absent, because Enrich would fail the event.

    That is for what is sent as text and is not free text.
    """

    def checked(value: Any) -> Any:
        return check(value) if is_given(value) else ""

    return checked


def is_schema_uri(string: str) -> bool:
    """Tell whether a string is the Iglu URI of a schema."""
    # Only short ones are cached, so that the cache stays small.
    return _is_known_schema(string) if len(string) <= 200 else _names_schema(string)


def _names_schema(string: str) -> bool:
    return _SCHEMA_URI.fullmatch(string) is not None


_is_known_schema: Final = lru_cache(maxsize=1024)(_names_schema)


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
