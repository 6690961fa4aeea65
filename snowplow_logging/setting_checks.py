"""What each setting takes: a check tells whether a value is that, and what to give instead.

No message shows a value that may be a secret.
"""

import inspect
import logging
import math
import os
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from snowplow_logging.calls import Kind, kind_of
from snowplow_logging.endpoint import read_endpoint
from snowplow_logging.protocol import MAX_HEADER_BYTES, POST_PATH, type_name

__all__ = [
    "Check",
    "broker",
    "check_at_once",
    "client_session",
    "context",
    "endpoint",
    "event_key",
    "file",
    "flag",
    "function",
    "handler_level",
    "headers",
    "level",
    "number",
    "one_of",
    "optional_flag",
    "retry_codes",
    "session",
    "status_of",
    "stream",
    "timeout",
    "url_path",
]

Check: TypeAlias = Callable[[str, Any], None]
"""Checks the value of a setting; raises TypeError or ValueError with its name and what it takes."""

_OWN_HEADER_BYTES: Final = 1_000
"""What the protocol's headers and those of the HTTP client take at most."""
_FIXED_HEADERS: Final = frozenset(
    {"content-type", "content-length", "content-encoding", "transfer-encoding"}
)
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, 5.6.2
_HEADER_VALUE: Final = re.compile(r"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*))?")  # RFC 9110, 5.5
_LONGEST_TIMEOUT: Final = 1_000_000
"""Seconds; the sum of two still fits into what the operating system takes, 2**31 ms."""
_RECORD_ATTRIBUTES: Final = {*vars(logging.makeLogRecord({})), "message", "asctime"}


def number(unit: str, *, least: int = 0, most: float = math.inf, optional: bool = False) -> Check:
    """Make a check of a number: of seconds, which may be a fraction, or else a whole one.

    Args:
        unit: What is counted.
        least: The smallest number.
        most: The greatest, of whole numbers.
        optional: Whether None is taken, too.
    """
    whole = unit != "seconds"
    most = most if whole else threading.TIMEOUT_MAX  # beyond which nothing can wait
    above = f"of at least {least:,}"
    if whole and most < math.inf:
        above = f"from {least:,} to {most:,}"
    expected = f"give a {'whole ' if whole else ''}number of {unit}, {above}"

    def check(name: str, value: Any) -> None:
        if optional and value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            raise TypeError(f"{name} is {value!r}; {expected}")
        if not least <= value <= most:
            raise ValueError(f"{name} is {value!r}; {expected}")

    return check


def one_of(*values: str) -> Check:
    """Make a check of a text that is one of several."""
    *others, last = map(repr, values)

    def check(name: str, value: Any) -> None:
        if value not in values:
            raise ValueError(f"{name} is {value!r}; give {', '.join(others)} or {last}")

    return check


def flag(name: str, value: Any) -> None:
    """Check that a value is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; give True or False")


def optional_flag(name: str, value: Any) -> None:
    """Check a flag that may be left open."""
    if not isinstance(value, (bool, type(None))):
        raise TypeError(f"{name} is {value!r}; give True, False or None")


def file(name: str, value: Any) -> None:
    """Check the path of a file, or None."""
    if value is not None and (not isinstance(value, (str, os.PathLike)) or not os.fspath(value)):
        raise TypeError(f"{name} is {value!r}; give a path, or None for none")
    if value is not None:
        _path(name, value)


def _path(name: str, value: str | os.PathLike[str]) -> None:
    """Check that the operating system takes a path at all, for its error names no setting."""
    try:
        written = os.fsencode(value)
    except UnicodeError:
        raise ValueError(f"{name} is {value!r}, which has characters that no path has") from None
    if b"\0" in written:
        raise ValueError(f"{name} is {value!r}; give a path without NUL, which none has")


def client_session(name: str, value: Any) -> None:
    """Check whether, or in which file, the id of a user is kept."""
    if not isinstance(value, (bool, str, os.PathLike)) or not (value is False or value):
        raise TypeError(f"{name} is {value!r}; give True, False or a path")
    if not isinstance(value, bool):
        _path(name, value)


def function(name: str, value: Any) -> None:
    """Check a callable, or None."""
    if value is None:
        return
    if not callable(value):
        raise TypeError(f"{name} is {_kind(value)}; give a callable, or None for none")
    check_at_once(name, value)


def check_at_once(name: str, value: Any) -> None:
    """Check that a callable does what it does when it is called, for nobody awaits its result.

    Args:
        name: What it is given as.
        value: The callable.

    Raises:
        TypeError: It is a coroutine or generator function, or calls one.
    """
    if kind_of(value) is not Kind.AT_ONCE:
        raise TypeError(
            f"{name} is, or holds, a coroutine or generator function, which does nothing when it is"
            " called; give one that answers at once"
        )


def context(name: str, value: Any) -> None:
    """Check the callables among entities."""
    # What else may be wrong with it, `payload` says.
    if isinstance(value, (list, tuple)):
        # By index, because that is how a list of `dictConfig` converts its items.
        for entity in (value[index] for index in range(len(value))):
            if callable(entity):
                check_at_once(name, entity)


def endpoint(name: str, value: Any) -> None:
    """Check a collector's URL."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is {_kind(value)}; give the collector's URL")
    read_endpoint(name, value)


def broker(name: str, value: Any) -> None:
    """Check the URL of a broker, which no message shows: it may hold a password."""
    if value is None:
        return
    if not isinstance(value, str):
        raise TypeError(f"{name} is {_kind(value)}; give the broker's URL")
    from snowplow_logging.brokers.urls import read_url

    read_url(name, value)


def stream(name: str, value: Any) -> None:
    """Check the name of a stream, topic or queue."""
    expected = "give a name of letters, digits, . _ : and -"
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}; {expected}")
    if not re.fullmatch(r"[A-Za-z0-9._:{}-]{1,200}", value):
        raise ValueError(f"{name} is {value!r}; {expected}")


def _kind(value: Any) -> str:
    """Say of what type a value is that may be a secret."""
    return "None" if value is None else f"of the type {type_name(value)}"


def url_path(name: str, value: Any) -> None:
    """Check the path of a URL, or None."""
    expected = f"give a path such as {POST_PATH!r}"
    if value is None:
        return
    if not isinstance(value, str):
        raise TypeError(f"{name} is {_kind(value)}; {expected}")
    if not value.strip("/") or re.search(r"[?#\\\s\x00-\x1f\x7f-\x9f\ud800-\udfff]", value):
        raise ValueError(f"{name} is no path of a URL; {expected}")


def event_key(name: str, value: Any) -> None:
    """Check the name of the attribute that holds a record's event."""
    expected = "give the name of an attribute that records do not have otherwise"
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}; {expected}")
    if not value or value in _RECORD_ATTRIBUTES:
        raise ValueError(f"{name} is {value!r}; {expected}")


def level(name: str, value: Any) -> None:
    """Check a logging level, or whether any is meant."""
    expected = "give True, False or the name or number of a level"
    if not isinstance(value, (int, str)):
        raise TypeError(f"{name} is {value!r}; {expected}")
    if isinstance(value, str) and type(logging.getLevelName(value)) is not int:
        raise ValueError(f"{name} is {value!r}; {expected}")


def handler_level(name: str, value: Any) -> None:
    """Check the level of a handler."""
    if isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; give the name or number of a level")
    try:
        level(name, value)
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("True, False or ", "")) from None


def timeout(name: str, value: Any) -> None:
    """Check the seconds to connect and to wait for an answer."""
    expected = (
        "give seconds, or a pair of seconds to connect and to wait for an answer, each more than 0"
        f" and at most {_LONGEST_TIMEOUT:,}; None is no limit"
    )
    pair = value if isinstance(value, (list, tuple)) else (value, value)
    if len(pair) != 2:
        raise ValueError(f"{name} has {len(pair)} parts; {expected}")
    for seconds in pair:
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float, type(None))):
            raise TypeError(f"{name} is or holds no number; {expected}")
        if seconds is not None and not 0 < seconds <= _LONGEST_TIMEOUT:
            raise ValueError(f"{name} is no time that can be waited; {expected}")


def headers(name: str, value: Any) -> None:
    """Check headers; a message never shows the value of one, nor a name that may hold one."""
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is {_kind(value)}; give a dict of strings")
    size, seen = _OWN_HEADER_BYTES, set[str]()
    for header in value:
        _header(name, header, value[header])
        if header.lower() in seen:  # of which only one would be sent
            raise ValueError(f"{name} holds a {header} twice, in different cases; give it once")
        seen.add(header.lower())
        size += len(header) + len(value[header]) + len(": \r\n")
    if size > MAX_HEADER_BYTES:
        raise ValueError(f"{name} takes over {MAX_HEADER_BYTES:,} bytes, the collector's limit")


def _header(name: str, header: Any, text: Any) -> None:
    if not isinstance(header, str):
        raise TypeError(f"{name} holds a name that is {_kind(header)}; give strings")
    if not _HEADER_NAME.fullmatch(header):
        what = "a name that no header has" if header else "an empty name"
        raise ValueError(f"{name} holds {what}; give letters, digits and - alone")
    if not isinstance(text, str):
        raise TypeError(f"{name} holds a {header} that is {_kind(text)}; give strings")
    if not _HEADER_VALUE.fullmatch(text):
        raise ValueError(
            f"{name} holds a {header} that HTTP cannot carry; give text without line breaks, other"
            " control characters, characters beyond Latin-1, and a space in the beginning"
        )
    if header.lower() in _FIXED_HEADERS:
        raise ValueError(f"{name} holds {header!r}, which the protocol fixes; leave it out")
    if header.lower() == "connection" and text.lower() not in ("close", "keep-alive"):
        raise ValueError(f"{name} holds a {header} that is neither 'close' nor 'keep-alive'")


def session(name: str, value: Any) -> None:
    """Check a session of requests, or None."""
    expected = "give a requests.Session"
    if value is None:
        return
    import requests  # not before it is needed, because it takes long

    if not isinstance(value, requests.Session):
        raise TypeError(f"{name} is {_kind(value)}; {expected}")
    # FuturesSession of requests-futures and its like return before there is an answer.
    if inspect.iscoroutinefunction(value.request) or any(
        "Future" in kind.__name__ for kind in type(value).__mro__
    ):
        kind = type(value).__name__
        raise TypeError(f"{name} is a {kind}, which answers later; {expected} that answers at once")


def retry_codes(name: str, value: Any) -> None:
    """Check statuses and whether they are tried again, or None."""
    expected = "give a dict of statuses, 300 to 599, with True to try again or False"
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is a {type_name(value)}; {expected}")
    for code in value:
        status, retry = status_of(code), value[code]
        if not isinstance(status, int) or isinstance(status, bool) or not isinstance(retry, bool):
            raise TypeError(f"{name} holds {code!r}: {retry!r}; {expected}")
        if not 300 <= status <= 599:
            raise ValueError(f"{name} holds {code!r}; {expected}")


def status_of(code: Any) -> Any:
    """Return an HTTP status as the number that it is."""
    # In a configuration from JSON the keys are strings.
    return int(code) if isinstance(code, str) and code.isdecimal() else code
