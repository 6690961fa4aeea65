"""The settings: each is defined once, with its type, default, check and words.

What reads settings elsewhere (the emitter, the transport, the command `check`) reads an object of
`Settings`. The handler's signature and its documentation come from here, by `given_settings`.
"""

# Annotations are evaluated here, so that what describes a setting can be read without importing
# what its type names.
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn, TypeAlias, get_args

from snowplow_logging import setting_checks as checks
from snowplow_logging.anonymous import check_anonymous_tracking
from snowplow_logging.endpoint import read_endpoint
from snowplow_logging.protocol import MAX_BODY_BYTES, POST_PATH

if TYPE_CHECKING:
    import requests

    from snowplow_logging.entities import Entity

__all__ = ["SETTINGS", "OnFailure", "OnSuccess", "Setting", "Settings"]

OnSuccess: TypeAlias = Callable[[list[dict[str, Any]]], None]
OnFailure: TypeAlias = Callable[[list[dict[str, Any]], str], None]

_GET_PATH: Final = "/i"
_CONTENT_TYPE: Final = "application/json; charset=utf-8"


@dataclass(frozen=True)
class Setting:
    """What there is to know of a setting beside its name, type and default.

    Args:
        words: What it is, as the table of the documentation says it.
        check: Checks its value; None where who uses it does (`payload`, `iglu`).
        more: What `help` says besides.
    """

    words: str
    check: checks.Check | None = None
    more: str = ""


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
            checks.endpoint,
            "A user and a password in it become Basic authentication, and are shown nowhere; each"
            " is percent-encoded.",
        ),
    ] = ""
    _: KW_ONLY
    method: Annotated[
        str,
        Setting('`"post"` sends many events a request, `"get"` one', checks.one_of("post", "get")),
    ] = "post"
    path: Annotated[
        str | None,
        Setting("the path on the collector; None takes the protocol's own", checks.url_path),
    ] = None
    namespace: Annotated[str | None, Setting("the tracker's namespace")] = "snowplow_logging"
    app_id: Annotated[str | None, Setting("the application's id")] = None
    platform: Annotated[str, Setting("one of web, iot, app, mob, pc, cnsl, tv, srv, headset")] = (
        "srv"
    )
    subject: Annotated[Mapping[str, Any] | None, Setting("the subject of every event")] = None
    context: Annotated[
        "Sequence[Entity | Callable[[logging.LogRecord], Entity | None]] | None",
        Setting(
            "entities of every event, or callables that take the record and return one or None",
            checks.context,
        ),
    ] = None
    client_session: Annotated[
        bool | str | os.PathLike[str],
        Setting(
            "True, or a path: every event has the entity `client_session`, with a random id of the"
            " user that is kept in that file",
            checks.client_session,
            "For programs that a user starts on a machine of their own. A session is one run of the"
            " program. True keeps the file in the user's folder for the state of programs, under"
            " the `app_id`.",
        ),
    ] = False
    encode_base64: Annotated[
        bool, Setting("whether self-describing data and entities go as base64", checks.flag)
    ] = True
    json_default: Annotated[
        Callable[[Any], Any] | None,
        Setting(
            "takes what is no JSON in `data` and entities, and returns what is",
            checks.function,
            "It is the `default` of `json` and orjson, called on the log call's thread. What it"
            " returns may hold Python's own types again; where it raises, the event is refused.",
        ),
    ] = None
    event_key: Annotated[
        str, Setting("the attribute of a record that holds its event", checks.event_key)
    ] = "snowplow"
    capture_exceptions: Annotated[
        bool | int | str,
        Setting(
            "True, or a level: a record with an exception and no event becomes an"
            " `application_error`",
            checks.level,
            "`QueueHandler` leaves nothing but text of an exception: this handler at the other end"
            " captures it only if the process that logs has made such a handler too, or is a fork"
            " of one that has. `SocketHandler` leaves the message and the stack trace.",
        ),
    ] = False
    batch_size: Annotated[
        int, Setting("events a request carries at most", checks.number("events", least=1))
    ] = 500
    batch_bytes: Annotated[
        int,
        Setting(
            "bytes a request's body has at most",
            checks.number("bytes", least=1, most=MAX_BODY_BYTES),
        ),
    ] = 500_000
    flush_interval: Annotated[
        float, Setting("seconds an event waits for others at most", checks.number("seconds"))
    ] = 1.0
    queue_size: Annotated[
        int, Setting("events that may wait in memory", checks.number("events", least=1))
    ] = 10_000
    queue_bytes: Annotated[
        int, Setting("bytes that they may take there", checks.number("bytes", least=1_000))
    ] = 67_108_864
    on_full: Annotated[
        str,
        Setting(
            '`"drop"` the new event, `"drop_oldest"`, or `"block"`: the log call waits for room',
            checks.one_of("drop", "drop_oldest", "block"),
        ),
    ] = "drop"
    block_timeout: Annotated[
        float,
        Setting(
            "seconds that a log call waits for room at most",
            checks.number("seconds"),
            "On the thread of an asyncio event loop it never waits.",
        ),
    ] = 1.0
    store: Annotated[
        str | os.PathLike[str] | None,
        Setting(
            "a path: events wait in an SQLite file until the collector has them, and outlive the"
            " process",
            checks.file,
            "Several processes may share one.",
        ),
    ] = None
    store_sync: Annotated[
        bool | None,
        Setting(
            "True: the log call returns once its event is in the file, not up to 50 ms before;"
            " None: only where `send` is False",
            checks.optional_flag,
        ),
    ] = None
    store_limit: Annotated[
        int,
        Setting(
            "bytes that the store may take; then `on_full`", checks.number("bytes", least=1_000_000)
        ),
    ] = 1_073_741_824
    send: Annotated[
        bool,
        Setting(
            "False: events stay in `store`, from which `snowplow-logging relay` sends them",
            checks.flag,
            "They are counted as `sent` once they are in the file. Without `endpoint` they are for"
            " whoever sends from it.",
        ),
    ] = True
    broker: Annotated[
        str | None,
        Setting(
            "the URL of a broker that gets the events in place of the collector, `redis://…`,"
            " `amqp://…`, `kafka://…` or `sqs://…`, for `snowplow-logging relay`",
            checks.broker,
            "They are counted as `sent` once the broker has them. A user and a password in it are"
            " shown nowhere.",
        ),
    ] = None
    stream: Annotated[
        str,
        Setting("the broker's stream, topic or queue", checks.stream),
    ] = "snowplow"
    timeout: Annotated[
        float | tuple[float | None, float | None] | None,
        Setting(
            "seconds to connect and to wait for an answer",
            checks.timeout,
            "One number is for both.",
        ),
    ] = (3.05, 10)
    headers: Annotated[
        Mapping[str, str] | None, Setting("headers of every request", checks.headers)
    ] = None
    session: Annotated[
        "requests.Session | None",
        Setting(
            "a `requests.Session` of yours: proxies, certificates, authentication", checks.session
        ),
    ] = None
    anonymous: Annotated[
        bool,
        Setting(
            "True asks the collector to keep neither IP address nor cookie",
            checks.flag,
            "That is what Snowplow's other trackers call server anonymisation.",
        ),
    ] = False
    anonymous_tracking: Annotated[
        bool | str,
        Setting(
            "True leaves out the ids of user and session and the address of each event;"
            ' `"with_session"` leaves the ids of the session in',
            check_anonymous_tracking,
            "It leaves out what any subject says, wherever that comes from, before anything else"
            " sees the event: `before_send`, callbacks, dead letters.",
        ),
    ] = False
    max_retry_delay: Annotated[
        float, Setting("seconds between two attempts at most", checks.number("seconds"))
    ] = 60.0
    retry_codes: Annotated[
        Mapping[int, bool] | None,
        Setting("{status: whether to try again}, over the common rule", checks.retry_codes),
    ] = None
    max_attempts: Annotated[
        int | None,
        Setting(
            "attempts after which events are given up; None for no end",
            checks.number("attempts", least=1, optional=True),
        ),
    ] = None
    connections: Annotated[
        int, Setting("requests under way at once", checks.number("requests", least=1, most=100))
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
            checks.one_of("refuse", "warn", "off"),
            "An entity of the handler's `context` that does not fit is left out, and reported.",
        ),
    ] = "refuse"
    before_send: Annotated[
        Callable[[dict[str, Any]], Any] | None,
        Setting(
            "takes the event as a dict and returns it, changed or not, or None to leave it out",
            checks.function,
            "It is called on the log call's thread, and sees subject and entities complete.",
        ),
    ] = None
    on_success: Annotated[
        OnSuccess | None,
        Setting(
            "`on_success(events)`, on the sending thread",
            checks.function,
            "The events are those that the collector has taken, each a dict of the protocol's"
            " names.",
        ),
    ] = None
    on_failure: Annotated[
        OnFailure | None,
        Setting(
            "`on_failure(events, reason)`, on the sending thread",
            checks.function,
            "The events are those that were given up, in the same form, and those that Snowplow"
            " would have refused, as they were logged.",
        ),
    ] = None
    dead_letter: Annotated[
        str | os.PathLike[str] | None,
        Setting(
            "a path: what could not be delivered, as JSON lines that `replay` reads",
            checks.file,
            "At most ten files of 50 MB. What finds the queue full is not there, only counted.",
        ),
    ] = None
    shutdown_timeout: Annotated[
        float, Setting("seconds that closing may take", checks.number("seconds"))
    ] = 5.0
    flush_on_sigterm: Annotated[
        bool,
        Setting(
            "True: SIGTERM ends the process only once what is queued is delivered, for at most"
            " `shutdown_timeout`",
            checks.flag,
            "Only where nothing but the default action stands for SIGTERM, and the handler is made"
            " on the main thread. The process still ends by the signal, and a second one ends it at"
            " once.",
        ),
    ] = False
    enabled: Annotated[bool, Setting("False queues, sends and starts nothing", checks.flag)] = True
    level: Annotated[
        int | str, Setting("the level from which records are looked at", checks.handler_level)
    ] = logging.NOTSET

    def __post_init__(self) -> None:
        """Check each setting."""
        for name, setting in SETTINGS.items():
            if setting.check is not None and (name != "endpoint" or self.needs_endpoint):
                setting.check(name, getattr(self, name))
        if self.client_session is True and not self.app_id:
            raise ValueError(
                "client_session is True and app_id is missing; give both, so that programs do not"
                " share the id of a user, or a path"
            )
        if not self.send and (self.store is None or self.broker is not None):
            raise ValueError(
                "send is False, and events would stay nowhere; give store, the file from which"
                " `snowplow-logging relay` sends them, and no broker"
            )
        given = [path for path in (self.store, self.dead_letter) if path is not None]
        if len({*map(os.path.realpath, given)}) < len(given):
            raise ValueError("dead_letter is the file of the store, too; give another")
        if self.broker is not None or not self.send:
            self._refuse_what_a_relay_does()
        if not self.endpoint:
            return
        url, authorization = read_endpoint("endpoint", self.endpoint)
        if authorization is None:
            return
        # The password stays where headers are, which nothing shows.
        object.__setattr__(self, "endpoint", url)
        if not any(header.lower() == "authorization" for header in self.headers or ()):
            headers = {**(self.headers or {}), "Authorization": authorization}
            object.__setattr__(self, "headers", headers)
            checks.headers("endpoint", headers)

    def _refuse_what_a_relay_does(self) -> None:
        """Refuse settings of requests to a collector where a relay makes them."""
        if self.broker is not None and self.endpoint:
            raise ValueError("broker is given as well as endpoint; give that to the relay alone")
        header = "give the relay --header"
        instead = {
            "anonymous": f"{header} 'SP-Anonymous: *'",
            "headers": header,
            "method": "a relay sends by POST",
            "retry_codes": "leave it out",
            "session": "leave it out",
        }
        if self.broker is not None:
            instead["path"] = "give the relay --path"
        for name, expected in instead.items():
            given = getattr(self, name)
            if given and given != _DEFAULTS[name]:
                raise ValueError(
                    f"{name} has no effect where a relay sends what this handler leaves to it;"
                    f" {expected}"
                )

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
    def needs_endpoint(self) -> bool:
        """Whether nothing else says where the events go, if there are any."""
        return bool(self.endpoint) or (self.enabled and self.send and self.broker is None)

    @property
    def leaves_at_once(self) -> bool:
        """Whether the log call leaves its event in the file for others to send."""
        return self.enabled and not self.send and self.store_sync is not False

    @property
    def post(self) -> bool:
        """Whether a request carries many events."""
        return self.method == "post"

    @cached_property
    def url(self) -> str:
        """Where the events go: the endpoint with its scheme, and the path; empty without one."""
        if not self.endpoint:
            return ""
        own = POST_PATH if self.post else _GET_PATH
        path = f"/{(self.path or own).lstrip('/')}"
        base = read_endpoint("endpoint", self.endpoint).url.rstrip("/")
        _, _, after_host = base.partition("://")[2].partition("/")
        # Whoever copies the URL that a collector was seen to answer at gives its path as well.
        for held in (path.rstrip("/"), POST_PATH):
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
        return {checks.status_of(code): codes[code] for code in codes}

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

_DEFAULTS: Final[dict[str, Any]] = {field.name: field.default for field in fields(Settings)}
