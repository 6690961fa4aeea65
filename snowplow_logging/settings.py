"""The handler's settings: each is defined once, with its type, default, check and words.

The handler's signature and its documentation come from here, and what reads settings elsewhere
(the emitter, the transport, the command `check`) reads an object of `Settings`.
"""

# Annotations are evaluated here, so that what describes a setting can be read without importing
# what its type names.
import functools
import inspect
import logging
import math
import os
import re
import threading
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from functools import cached_property
from textwrap import wrap
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Concatenate,
    Final,
    ForwardRef,
    NoReturn,
    ParamSpec,
    TypeAlias,
    cast,
    get_args,
)

from snowplow_logging.endpoint import read_endpoint
from snowplow_logging.protocol import MAX_BODY_BYTES, MAX_HEADER_BYTES, nearest

if TYPE_CHECKING:
    import requests

    from snowplow_logging.payload import Entity

__all__ = [
    "SETTINGS",
    "OnFailure",
    "OnSuccess",
    "Setting",
    "Settings",
    "check_at_once",
    "described",
    "from_environment",
    "takes_settings",
    "variable",
]

P = ParamSpec("P")

OnSuccess: TypeAlias = Callable[[list[dict[str, Any]]], None]
OnFailure: TypeAlias = Callable[[list[dict[str, Any]], str], None]
Check: TypeAlias = Callable[[str, Any], None]
"""Checks the value of a setting; raises TypeError or ValueError with its name and what it takes."""

_POST_PATH: Final = "/com.snowplowanalytics.snowplow/tp2"
_GET_PATH: Final = "/i"
_CONTENT_TYPE: Final = "application/json; charset=utf-8"
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


@dataclass(frozen=True)
class Setting:
    """What there is to know of a setting beside its name, type and default.

    Args:
        words: What it is, as the README's table says it.
        check: Checks its value; None where who uses it does (`payload`, `iglu`).
        more: What `help` says besides.
    """

    words: str
    check: Check | None = None
    more: str = ""


# The checks.


def _number(unit: str, *, least: int = 0, most: float = math.inf, optional: bool = False) -> Check:
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


def _one_of(*values: str) -> Check:
    *others, last = map(repr, values)

    def check(name: str, value: Any) -> None:
        if value not in values:
            raise ValueError(f"{name} is {value!r}; give {', '.join(others)} or {last}")

    return check


def _flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; give True or False")


def _file(name: str, value: Any) -> None:
    if value is not None and (not isinstance(value, (str, os.PathLike)) or not os.fspath(value)):
        raise TypeError(f"{name} is {value!r}; give a path, or None for none")


def _callable(name: str, value: Any) -> None:
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
    while isinstance(value, functools.partial):
        value = value.func
    later = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    if any(is_later(one) for is_later in later for one in (value, type(value).__call__)):
        raise TypeError(
            f"{name} is, or holds, a coroutine or generator function, which does nothing when it is"
            " called; give one that answers at once"
        )


def _context(name: str, value: Any) -> None:
    # What else may be wrong with it, `payload` says.
    if isinstance(value, (list, tuple)):
        # By index, because that is how a list of `dictConfig` converts its items.
        for entity in (value[index] for index in range(len(value))):
            if callable(entity):
                check_at_once(name, entity)


def _endpoint(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} is {_kind(value)}; give the collector's URL")
    read_endpoint(name, value)


def _kind(value: Any) -> str:
    """Say of what type a value is that may be a secret."""
    return "None" if value is None else f"of the type {type(value).__name__}"


def _url_path(name: str, value: Any) -> None:
    expected = f"give a path such as {_POST_PATH!r}"
    if value is None:
        return
    if not isinstance(value, str):
        raise TypeError(f"{name} is {_kind(value)}; {expected}")
    if not value.strip("/") or re.search(r"[?#\\\s\x00-\x1f\x7f-\x9f\ud800-\udfff]", value):
        raise ValueError(f"{name} is no path of a URL; {expected}")


def _event_key(name: str, value: Any) -> None:
    expected = "give the name of an attribute that records do not have otherwise"
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}; {expected}")
    if not value or value in _RECORD_ATTRIBUTES:
        raise ValueError(f"{name} is {value!r}; {expected}")


def _level(name: str, value: Any) -> None:
    expected = "give True, False or the name or number of a level"
    if not isinstance(value, (int, str)):
        raise TypeError(f"{name} is {value!r}; {expected}")
    if isinstance(value, str) and type(logging.getLevelName(value)) is not int:
        raise ValueError(f"{name} is {value!r}; {expected}")


def _handler_level(name: str, value: Any) -> None:
    if isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; give the name or number of a level")
    try:
        _level(name, value)
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("True, False or ", "")) from None


def _timeout(name: str, value: Any) -> None:
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


def _headers(name: str, value: Any) -> None:
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


def _session(name: str, value: Any) -> None:
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


def _retry_codes(name: str, value: Any) -> None:
    expected = "give a dict of statuses, 300 to 599, with True to try again or False"
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is a {type(value).__name__}; {expected}")
    for code in value:
        status, retry = _status(code), value[code]
        if not isinstance(status, int) or isinstance(status, bool) or not isinstance(retry, bool):
            raise TypeError(f"{name} holds {code!r}: {retry!r}; {expected}")
        if not 300 <= status <= 599:
            raise ValueError(f"{name} holds {code!r}; {expected}")


def _status(code: Any) -> Any:
    # In a configuration from JSON the keys are strings.
    return int(code) if isinstance(code, str) and code.isdecimal() else code


# The settings.


@dataclass(frozen=True, eq=False, repr=False)  # a `repr` might show passwords in headers
class Settings:
    """The settings of a handler, checked: what was given, and what follows from several of them.

    Raises:
        TypeError: A setting is of the wrong type.
        ValueError: A setting makes no sense.
    """

    # Its default is no value, and is there because the environment may give one.
    endpoint: Annotated[
        str,
        Setting(
            "the collector's URL; a bare host means https",
            _endpoint,
            "A user and a password in it become Basic authentication, and are shown nowhere; each"
            " is percent-encoded.",
        ),
    ] = ""
    _: KW_ONLY
    method: Annotated[
        str, Setting('many events a request, or `"get"`, one', _one_of("post", "get"))
    ] = "post"
    path: Annotated[
        str | None,
        Setting("the path on the collector; None takes the protocol's own", _url_path),
    ] = None
    namespace: Annotated[str | None, Setting("the tracker's namespace")] = "snowplow_logging"
    app_id: Annotated[str | None, Setting("the application's id")] = None
    platform: Annotated[str, Setting("one of web, iot, app, mob, pc, cnsl, tv, srv, headset")] = (
        "srv"
    )
    subject: Annotated[Mapping[str, Any] | None, Setting("of every event")] = None
    context: Annotated[
        "Sequence[Entity | Callable[[logging.LogRecord], Entity | None]] | None",
        Setting(
            "entities of every event, or callables that take the record and return one or None",
            _context,
        ),
    ] = None
    encode_base64: Annotated[
        bool, Setting("whether self-describing data and entities go as base64", _flag)
    ] = True
    json_default: Annotated[
        Callable[[Any], Any] | None,
        Setting(
            "takes what is no JSON in `data` and entities, and returns what is",
            _callable,
            "It is the `default` of `json` and orjson, called on the log call's thread. What it"
            " returns may hold Python's own types again; where it raises, the event is refused.",
        ),
    ] = None
    event_key: Annotated[
        str, Setting("the attribute of a record that holds its event", _event_key)
    ] = "snowplow"
    capture_exceptions: Annotated[
        bool | int | str,
        Setting(
            "True, or a level: a record with an exception and no event becomes an"
            " `application_error`",
            _level,
            "`QueueHandler` leaves nothing but text of an exception: this handler at the other end"
            " captures it only if the process that logs has made such a handler too, or is a fork"
            " of one that has. `SocketHandler` leaves the message and the stack trace.",
        ),
    ] = False
    batch_size: Annotated[
        int, Setting("events a request carries at most", _number("events", least=1))
    ] = 500
    batch_bytes: Annotated[
        int,
        Setting("bytes its body has at most", _number("bytes", least=1, most=MAX_BODY_BYTES)),
    ] = 500_000
    flush_interval: Annotated[
        float, Setting("seconds an event waits for others at most", _number("seconds"))
    ] = 1.0
    queue_size: Annotated[
        int, Setting("events that may wait in memory", _number("events", least=1))
    ] = 10_000
    queue_bytes: Annotated[
        int, Setting("bytes that they may take", _number("bytes", least=1_000))
    ] = 67_108_864
    on_full: Annotated[
        str,
        Setting(
            'the new event; or `"drop_oldest"`; or `"block"`, the log call waits for room',
            _one_of("drop", "drop_oldest", "block"),
        ),
    ] = "drop"
    block_timeout: Annotated[
        float,
        Setting(
            "seconds that it waits at most",
            _number("seconds"),
            "On the thread of an asyncio event loop it never waits.",
        ),
    ] = 1.0
    store: Annotated[
        str | os.PathLike[str] | None,
        Setting(
            "a path: events wait in an SQLite file until the collector has them, and outlive the"
            " process",
            _file,
            "Several processes may share one.",
        ),
    ] = None
    store_sync: Annotated[
        bool,
        Setting(
            "True: the log call returns once its event is in the file, not up to 50 ms before",
            _flag,
        ),
    ] = False
    store_limit: Annotated[
        int,
        Setting("bytes that the file may take; then `on_full`", _number("bytes", least=1_000_000)),
    ] = 1_073_741_824
    timeout: Annotated[
        float | tuple[float | None, float | None] | None,
        Setting(
            "seconds to connect and to wait for an answer", _timeout, "One number is for both."
        ),
    ] = (3.05, 10)
    headers: Annotated[Mapping[str, str] | None, Setting("of every request", _headers)] = None
    session: Annotated[
        "requests.Session | None",
        Setting("a `requests.Session` of yours: proxies, certificates, authentication", _session),
    ] = None
    anonymous: Annotated[
        bool,
        Setting("True asks the collector to keep neither IP address nor cookie", _flag),
    ] = False
    max_retry_delay: Annotated[
        float, Setting("seconds between two attempts at most", _number("seconds"))
    ] = 60.0
    retry_codes: Annotated[
        Mapping[int, bool] | None,
        Setting("{status: whether to try again}, over the common rule", _retry_codes),
    ] = None
    max_attempts: Annotated[
        int | None,
        Setting(
            "after which events are given up; None for no end",
            _number("attempts", least=1, optional=True),
        ),
    ] = None
    connections: Annotated[
        int, Setting("requests under way at once", _number("requests", least=1, most=100))
    ] = 1
    iglu: Annotated[
        str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None,
        Setting(
            "a folder or URL of an Iglu registry, or a list: data and entities are checked against"
            " its schemas",
            None,
            "Registries are asked in their order. Folders are read at the log call; what is behind"
            " a URL is fetched on a thread, and events are checked from then on. An event whose"
            " schema none of the registries has does not fit. One whose registry does not answer"
            " is sent. The schemas of the library's own events come with it, and are checked"
            " against wherever the extra `schemas` is installed.",
        ),
    ] = None
    iglu_api_key: Annotated[
        str | None,
        Setting(
            "the key for Iglu Servers",
            None,
            "It is sent with requests to `/api/schemas/…` alone.",
        ),
    ] = None
    schema_check: Annotated[
        str,
        Setting(
            '`"refuse"` what does not fit its schema; or `"warn"` and send it; or `"off"`',
            _one_of("refuse", "warn", "off"),
            "An entity of the handler's `context` that does not fit is left out, and reported.",
        ),
    ] = "refuse"
    before_send: Annotated[
        Callable[[dict[str, Any]], Any] | None,
        Setting(
            "takes the event as a dict and returns it, changed or not, or None to leave it out",
            _callable,
            "It is called on the log call's thread, and sees subject and entities complete.",
        ),
    ] = None
    on_success: Annotated[
        OnSuccess | None,
        Setting(
            "`on_success(events)`, on the sending thread",
            _callable,
            "The events are those that the collector has taken, each a dict of the protocol's"
            " names.",
        ),
    ] = None
    on_failure: Annotated[
        OnFailure | None,
        Setting(
            "`on_failure(events, reason)`, on the sending thread",
            _callable,
            "The events are those that were given up, in the same form, and those that Snowplow"
            " would have refused, as they were logged.",
        ),
    ] = None
    dead_letter: Annotated[
        str | os.PathLike[str] | None,
        Setting(
            "a path: what could not be delivered, as JSON lines that `replay` reads",
            _file,
            "At most ten files of 50 MB.",
        ),
    ] = None
    shutdown_timeout: Annotated[
        float, Setting("seconds that closing may take", _number("seconds"))
    ] = 5.0
    flush_on_sigterm: Annotated[
        bool,
        Setting(
            "True: SIGTERM ends the process only once what is queued is delivered, for at most"
            " `shutdown_timeout`",
            _flag,
            "Only where nothing but the default action stands for SIGTERM, and the handler is made"
            " on the main thread. The process still ends by the signal, and a second one ends it at"
            " once.",
        ),
    ] = False
    enabled: Annotated[bool, Setting("False queues, sends and starts nothing", _flag)] = True
    level: Annotated[
        int | str, Setting("the level from which records are looked at", _handler_level)
    ] = logging.NOTSET

    def __post_init__(self) -> None:
        """Check each setting."""
        for name, setting in SETTINGS.items():
            if setting.check is not None:
                setting.check(name, getattr(self, name))
        url, authorization = read_endpoint("endpoint", self.endpoint)
        if authorization is None:
            return
        # The password stays where headers are, which nothing shows.
        object.__setattr__(self, "endpoint", url)
        if not any(header.lower() == "authorization" for header in self.headers or ()):
            headers = {**(self.headers or {}), "Authorization": authorization}
            object.__setattr__(self, "headers", headers)
            _headers("endpoint", headers)

    def __copy__(self) -> "Settings":
        """Return itself: nothing in it changes."""
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> "Settings":
        """Return itself, for what is in it, such as a session, need not be copied."""
        return self

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled.

        Raises:
            TypeError: Always. A pickle is a file or a message, and would show the passwords.
        """
        raise TypeError("settings are not pickled, because they hold passwords; make them anew")

    @property
    def post(self) -> bool:
        """Whether a request carries many events."""
        return self.method == "post"

    @cached_property
    def url(self) -> str:
        """Where the events go: the endpoint with its scheme, and the path."""
        own = _POST_PATH if self.post else _GET_PATH
        path = f"/{(self.path or own).lstrip('/')}"
        base = read_endpoint("endpoint", self.endpoint).url.rstrip("/")
        _, _, after_host = base.partition("://")[2].partition("/")
        # Whoever copies the URL that a collector was seen to answer at gives its path as well.
        for held in (path.rstrip("/"), _POST_PATH):
            if f"/{after_host}".endswith(held):
                return base.removesuffix(held) + path
        return base + path

    @cached_property
    def timeouts(self) -> tuple[float | None, float | None]:
        """The seconds to connect, and to wait for an answer."""
        pair: Any = self.timeout
        connect, read = pair if isinstance(pair, (list, tuple)) else (pair, pair)
        return connect, read

    @cached_property
    def request_headers(self) -> dict[str, str]:
        """The headers of every request."""
        made = {"Content-Type": _CONTENT_TYPE} if self.post else {}
        if self.anonymous:
            made["SP-Anonymous"] = "*"
        given = self.headers or {}
        # Each as plain text: of a subclass nobody knows what it does when it is written.
        return {**made, **{str.__str__(name): str.__str__(given[name]) for name in given}}

    @cached_property
    def statuses(self) -> dict[int, bool]:
        """The statuses for which it is said whether they are tried again."""
        codes = self.retry_codes or {}
        return {_status(code): codes[code] for code in codes}

    @cached_property
    def capture_level(self) -> float:
        """The level from which exceptions become events; `math.inf` where none do."""
        given = self.capture_exceptions
        if isinstance(given, bool):
            return 0 if given else math.inf
        return float(logging.getLevelName(given) if isinstance(given, str) else given)


SETTINGS: Final[dict[str, Setting]] = {
    field.name: get_args(field.type)[1] for field in fields(Settings)
}
"""Each setting by its name, in their order."""


# What the environment may give.


def _text_of(_name: str, text: str) -> str:
    return text


def _flag_of(name: str, text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError(f"{name} is {text!r}; give true or false")


def _list_of(_name: str, text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


_ENVIRONMENT: Final[dict[str, Callable[[str, str], Any]]] = {
    "endpoint": _text_of,
    "namespace": _text_of,
    "app_id": _text_of,
    "platform": _text_of,
    "store": _text_of,
    "iglu": _list_of,
    "dead_letter": _text_of,
    "enabled": _flag_of,
}
"""The settings that a variable gives where they are left out, and how its text is read."""


def variable(name: str) -> str:
    """Return the name of the variable that gives a setting."""
    return f"SNOWPLOW_{name.upper()}"


def from_environment(given: Container[str] = ()) -> dict[str, Any]:
    """Return the settings that the environment gives. An empty variable gives none.

    Args:
        given: The names of those that are given otherwise.

    Raises:
        ValueError: A variable is not of the form that its setting needs.
    """
    names = {name: variable(name) for name in _ENVIRONMENT if name not in given}
    return {
        name: _ENVIRONMENT[name](variable, os.environ[variable])
        for name, variable in names.items()
        if os.environ.get(variable)
    }


def takes_settings(
    definition: Callable[P, Settings],
) -> Callable[[Callable[[Any, Settings], None]], Callable[Concatenate[Any, P], None]]:
    """Have a method take each setting as an argument of its own, and get them as one object.

    What is left out comes from the environment, where that has it.

    The signature is that of the definition, for type checkers as well as for `inspect`.
    """
    signature = inspect.signature(definition)
    parameters = [
        inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD),
        *(p.replace(annotation=_plain_type(p.annotation)) for p in signature.parameters.values()),
    ]

    def decorate(init: Callable[[Any, Settings], None]) -> Callable[Concatenate[Any, P], None]:
        @functools.wraps(init)
        def with_arguments(self: Any, *args: P.args, **keywords: P.kwargs) -> None:
            for name in keywords:
                if name not in SETTINGS:
                    expected = nearest(name, SETTINGS)
                    raise TypeError(f"SnowplowHandler has no setting {name!r}; give {expected}")
            given: dict[str, Any] = dict(keywords)
            found: Any = from_environment([*given, "endpoint"] if args else given)
            if not args and "endpoint" not in {**given, **found}:
                raise TypeError(
                    "endpoint is missing; give the collector's URL, or the variable "
                    f"{variable('endpoint')}"
                )
            try:
                init(self, definition(*args, **{**found, **keywords}))
            except (TypeError, ValueError) as error:
                name = str(error).partition(" ")[0].rstrip(":")
                if name in found:  # so that who reads it knows where to look
                    raise type(error)(f"{error} (it comes from {variable(name)})") from None
                raise

        made: Any = with_arguments
        del made.__wrapped__  # whose signature is another
        made.__signature__ = inspect.Signature(parameters, return_annotation=None)
        return cast("Callable[Concatenate[Any, P], None]", made)

    return decorate


def _plain_type(annotation: Any) -> Any:
    plain = get_args(annotation)[0]
    return plain.__forward_arg__ if isinstance(plain, ForwardRef) else plain


def described() -> str:
    """Return what each setting is, as the part `Args` of a docstring."""
    lines = ["Args:"]
    for name, setting in SETTINGS.items():
        words = f"{name}: {setting.words}. {setting.more}".strip()
        lines += wrap(words, 100, initial_indent=" " * 4, subsequent_indent=" " * 8)
    return "\n".join(lines)
