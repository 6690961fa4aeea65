"""Tries a logging configuration: finds its collectors, sends a test event, says what it means."""

from __future__ import annotations

import contextlib
import email.utils
import logging
import os
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import requests

from snowplow_logging.configuration import Configuration, Found
from snowplow_logging.configuration_source import Announce, ConfigurationError, read
from snowplow_logging.delivery.assembly import way_out
from snowplow_logging.delivery.retry import Answer, Outcome
from snowplow_logging.delivery.transport import Transport
from snowplow_logging.delivery.way_out import WayOut
from snowplow_logging.endpoint import without_any_credentials
from snowplow_logging.events import StructuredEvent
from snowplow_logging.handler import Outcome as EventOutcome
from snowplow_logging.handler import outcomes_of
from snowplow_logging.json_data import plain_json
from snowplow_logging.payload import EVENT_ID
from snowplow_logging.printable import printable

__all__ = ["BAD_CONFIGURATION", "UNREACHABLE", "check"]

BAD_CONFIGURATION: Final = 1
"""The exit status where something is wrong with the configuration."""

UNREACHABLE: Final = 2
"""The exit status where a collector cannot be reached, or refuses the test event."""

_LONGEST_WAIT: Final = 10.0  # seconds for a connection
_SOON: Final = 14 * 86_400  # seconds before a certificate's end at which to say so

Tell = Callable[[str], None]


def check(
    source: str,
    tell: Tell,
    *,
    send: bool = True,
    imports: bool = True,
    announce: Tell | None = None,
) -> int:
    """Check a configuration and try its Snowplow handlers.

    Args:
        source: A file of YAML, JSON or TOML, or `package.module:NAME`.
        tell: Called with each line of the report, the verdict first.
        send: Whether to send a test event.
        imports: Whether to import what the configuration names, which runs it.
        announce: Called with a line that says what is about to be imported; None means `tell`.

    Returns:
        The exit status: 0, `BAD_CONFIGURATION` or `UNREACHABLE`.
    """

    def about_to(names: Sequence[str]) -> None:
        named = ", ".join(names)
        (announce or tell)(f"imports {named}, which runs what is there (--no-import does not)")

    lines: list[str] = []
    tried: list[str] = []  # what each handler has come to
    status = _check(source, lines.append, about_to if imports else None, tried, send=send)
    tell(_verdict(status, lines, tried))
    for line in lines:
        tell(line)
    return status


def _verdict(status: int, lines: Sequence[str], tried: Sequence[str]) -> str:
    """Say in one line what the others say in many."""
    said = [line.strip().partition(": ") for line in lines]
    count = Counter(kind for kind, _, _ in said)
    warnings = count["warning"]
    more = f", with {warnings} warning{'s' * (warnings != 1)}" if warnings else ""
    if status == BAD_CONFIGURATION:
        errors = count["error"]
        return f"bad: the configuration has {errors} error{'s' * (errors != 1)}{more}"
    if status == UNREACHABLE:
        reason = next((text for kind, _, text in said if kind == "error"), "a registry is away")
        return f"bad: {reason}{more}"
    results = " and ".join(dict.fromkeys(tried)) or "nothing was sent"
    return f"good: the configuration is right, and {results}{more}"


def _check(
    source: str, tell: Tell, announce: Announce | None, tried: list[str], *, send: bool
) -> int:
    try:
        configuration = Configuration(read(source, announce), announce)
    except ConfigurationError as error:
        tell(f"error: {without_any_credentials(str(error))}")
        return BAD_CONFIGURATION
    for problem in configuration.problems:
        tell(f"error: {problem}")
    for warning in configuration.warnings:
        tell(f"warning: {warning}")
    if configuration.problems:
        return BAD_CONFIGURATION
    status = 0
    for found in configuration.found:
        transport = way_out(found.handler.settings)
        tell(f"handlers.{found.name}: {transport.url}")
        came_to = _try(found, transport, lambda line: tell(f"  {line}"), send=send)
        status = max(status, came_to[0])
        tried.append(came_to[1])
        status = max(status, _look_up(found.settings, lambda line: tell(f"  {line}")))
        for line in _meaning(found.settings):
            tell(f"  {line}")
    return status


def _try(found: Found, transport: WayOut, tell: Tell, *, send: bool) -> tuple[int, str]:
    """Try a handler; return the status, and in words what it came to where that is 0."""
    levels = (f"{name} (from {logging.getLevelName(level)})" for name, level in found.on.items())
    tell(f"on {', '.join(levels)}")
    if not found.settings["enabled"]:
        tell("it is not enabled, so nothing is sent, now or later")
        return 0, f"nothing is sent by {found.name}, which is not enabled"
    payload, result = None, "the collector answers"
    if send:
        outcome = _test_event(found)
        if isinstance(outcome, Exception):
            tell(f"error: the test event cannot be sent: {outcome}")
            return BAD_CONFIGURATION, ""
        payload, result = outcome, "the collector takes events"
        if outcome is None:
            tell("warning: before_send leaves the test event out, so that none is sent")
            result = "the collector answers"
    if not isinstance(transport, Transport):
        from snowplow_logging.relay.check import try_elsewhere

        works = try_elsewhere(found.handler.settings, transport, payload, tell)
        return (0, "where the events go works") if works else (UNREACHABLE, "")
    try:
        _connect(transport, tell)
        return _request(transport, payload, tell), result
    except OSError as error:
        tell(f"error: {error}")
        return UNREACHABLE, ""
    finally:
        transport.close()


def _test_event(found: Found) -> EventOutcome:
    """Return what the handler makes of a log call with the test event."""
    event = StructuredEvent(category="snowplow-logging", action="check")
    level = max(logging.INFO, found.handler.level)
    record = logging.LogRecord("check", level, "", 0, event, None, None)
    made = outcomes_of(found.handler, record)
    return made[0][1] if made else None


def _connect(transport: Transport, tell: Tell) -> None:
    """Find the collector's host, or the proxy's, and open a connection to it.

    Raises:
        OSError: It is not to be had; the message says what failed.
    """
    session: Any = transport.session()
    if not isinstance(session, requests.Session):
        return  # which knows its own ways
    settings = session.merge_environment_settings(transport.url, {}, None, None, None)
    proxy = requests.utils.select_proxy(transport.url, settings["proxies"])
    if proxy is not None:
        proxy = proxy if "://" in proxy else f"http://{proxy}"
        # Up to the last @, for a password with a / in it ends the host too early.
        proxy = f"{proxy.partition('://')[0]}://{proxy.partition('://')[2].rpartition('@')[2]}"
        tell(f"goes through the proxy {proxy}")
    try:
        parts = urlsplit(transport.url if proxy is None else proxy)
        host = parts.hostname or "localhost"
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:  # the endpoint has been looked at before
        raise OSError("the proxy's URL has a host or a port that is none") from None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OSError(f"{host} has no address: {reason}") from None
    addresses = dict.fromkeys(str(address[4][0]) for address in found)
    if host not in addresses:
        tell(f"{host} has the address{'es' * (len(addresses) > 1)} {', '.join(addresses)}")
    start = time.monotonic()
    try:
        connection = socket.create_connection((host, port), _LONGEST_WAIT)
    except OSError as error:
        raise OSError(f"{host} takes no connection at port {port}: {error}") from None
    with connection:
        tell(f"takes connections at port {port}, after {_milliseconds(time.monotonic() - start)}")
        if parts.scheme == "https":
            tell(_tls(connection, host, settings["verify"]))


def _tls(connection: socket.socket, host: str, verify: bool | str | None) -> str:  # noqa: FBT001
    """Say what comes of a TLS handshake; the request that follows has the last word."""
    try:
        if verify is False:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        else:
            place = verify if isinstance(verify, str) else requests.utils.DEFAULT_CA_BUNDLE_PATH
            is_folder = os.path.isdir(place)
            context = ssl.create_default_context(
                cafile=None if is_folder else place, capath=place if is_folder else None
            )
        with context.wrap_socket(connection, server_hostname=host) as secure:
            certificate = secure.getpeercert() or {}
            said = f"speaks {secure.version()}"
    except OSError as error:
        return f"warning: TLS fails: {error}"
    if "notAfter" not in certificate:
        return f"{said}; its certificate is not verified"
    end = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    date = time.strftime("%Y-%m-%d", time.gmtime(end))
    warning = "warning: " if end - time.time() < _SOON else ""
    return f"{warning}{said}; its certificate is good until {date}"


def _request(transport: Transport, payload: bytes | None, tell: Tell) -> int:
    """Send the test event, or else ask for the collector's health, and say what came of it."""
    start = time.time()
    with _answers(transport) as answers:
        answer = _health(transport) if payload is None else transport.send([payload])
    end = time.time()
    response = answers[-1] if answers else None
    what = (
        "a request for /health"
        if payload is None
        else f"the test event {payload[EVENT_ID].decode()}"
    )
    if response is not None:
        took = _milliseconds(response.elapsed.total_seconds())
        reason = printable(response.reason or "", 200)
        tell(f"answered {what} with {response.status_code} {reason}, after {took}")
        tell(_clock(response.headers.get("Date"), start, end))
    if answer.outcome is Outcome.TAKEN:
        if payload is None and response is not None and response.status_code != 200:
            tell("warning: Snowplow's collector answers /health with 200")
        elif payload is not None:
            tell("took the test event: a struct_event, category snowplow-logging, action check")
        return 0
    tell(f"error: {answer.reason}")
    return UNREACHABLE


def _health(transport: Transport) -> Answer:
    """Ask the collector whether it is well; any answer shows that it is there."""
    where = f"{transport.url} did not answer the request for /health"
    try:
        with transport.get("/health", _LONGEST_WAIT) as response:
            status, url = response.status_code, response.url
    except Exception as error:  # noqa: BLE001 - a session of the user's may raise anything
        return Answer(Outcome.RETRY, f"{where}: {transport.describe(error)}")
    if status >= 500:
        return Answer(Outcome.RETRY, f"{url} answered {status}")
    return Answer(Outcome.TAKEN)


def _look_up(settings: Mapping[str, Any], tell: Tell) -> int:
    """Look up each schema that the handler's entities name, and check the entities."""
    iglu, what = settings["iglu"], settings["schema_check"]
    if iglu is None or what == "off":
        return 0
    from snowplow_logging.iglu import Iglu
    from snowplow_logging.schemas import Absent

    registries = Iglu(iglu, settings["iglu_api_key"])
    tell(f"checks self-describing data and entities against the schemas of {registries.names}")
    context = settings["context"] or ()
    status = 0
    # By index, because that is how a list of `dictConfig` converts its items.
    for index, entity in ((index, context[index]) for index in range(len(context))):
        if callable(entity):
            continue
        fields = plain_json(entity, json_default=settings["json_default"])
        found = registries.find(fields["schema"])
        place = f"context[{index}]: the schema {fields['schema']}"
        if isinstance(found, Absent):
            level = "error" if found.certain and what == "refuse" else "warning"
            tell(f"{level}: {place} {found.problem}")
            if level == "error":
                status = max(status, BAD_CONFIGURATION)
            elif not found.certain:
                status = UNREACHABLE
        elif faults := found.faults(fields["data"]):
            fault = faults[0]
            tell(f"error: {place} takes no data{fault.path} that {fault.problem}: {fault.rule}")
            status = max(status, BAD_CONFIGURATION)
        else:
            tell(f"{place} is found, and the entity fits it")
    return status


@contextlib.contextmanager
def _answers(transport: Transport) -> Iterator[list[requests.Response]]:
    """Give the answers that come while it lasts."""
    answers: list[requests.Response] = []

    def keep(response: requests.Response, *_: Any, **__: Any) -> None:
        answers.append(response)

    session: Any = transport.session()
    hooks = getattr(session, "hooks", None)
    if not isinstance(hooks, dict):  # it is no `requests.Session`
        yield answers
        return
    before = hooks.get("response")
    others = [before] if callable(before) else list(before or ())
    hooks["response"] = [*others, keep]
    try:
        yield answers
    finally:
        hooks["response"] = before


def _clock(date: str | None, start: float, end: float) -> str:
    """Say how far the collector's clock is from this machine's."""
    if date is None:
        return "sends no Date header, so that its clock cannot be compared with this machine's"
    try:
        second = email.utils.parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return f"warning: its Date header is {date!r}, which is no date"
    # The header has whole seconds, cut off, and was written some time during the request.
    ahead = second + 0.5 - (start + end) / 2
    error = 0.5 + (end - start) / 2
    if abs(ahead) <= error:
        return f"its clock agrees with this machine's (±{error:.1f} s)"
    side = "ahead of" if ahead > 0 else "behind"
    return (
        f"warning: its clock is {abs(ahead):,.1f} s {side} this machine's (±{error:.1f} s); "
        "derived_tstamp makes up for that, a true_timestamp does not"
    )


def _meaning(settings: Mapping[str, Any]) -> Iterator[str]:
    """Say what the settings mean together."""
    queue, store, letters = (settings[key] for key in ("queue_size", "store", "dead_letter"))
    flush, shutdown, retry, block = (
        f"{settings[key]:,g} s"
        for key in ("flush_interval", "shutdown_timeout", "max_retry_delay", "block_timeout")
    )
    killed = "if the process is killed,"
    if store is None:
        yield (
            f"{killed} at most {queue:,} events are lost, those in memory: in ordinary times those "
            f"of the last {flush} and of the request under way, in an outage all since it began"
        )
    elif settings["store_sync"] or (settings["store_sync"] is None and not settings["send"]):
        yield f"{killed} no event is lost whose log call has returned: all are in {store}"
    else:
        yield (
            f"{killed} at most {queue:,} events are lost, those of the last 50 ms; the others are "
            f"in {store}, and the next process that opens it sends them"
        )
    left = f"stays in {store}" if store else f"goes to {letters}" if letters else "is lost"
    yield (
        f"the end of the process takes at most {shutdown} more; what is not delivered by then "
        f"{left}"
    )
    size = 1 if settings["method"] == "get" else settings["batch_size"]
    attempts = settings["max_attempts"]
    yield (
        f"an event waits at most {flush} until it is sent, less where {size:,} "
        f"{'has' if size == 1 else 'have'} come together; after a failure the next attempt comes "
        f"within {retry}, {f'{attempts:,} in all' if attempts else 'until the collector answers'}"
    )
    full = f"{queue:,} events wait"
    if store is not None:
        full = f"{store} has {settings['store_limit']:,} bytes, or {full} to get into it"
    gives_way = {
        "drop": "new ones are dropped",
        "drop_oldest": "the oldest are dropped",
        "block": f"a log call waits at most {block} for room and then drops its event",
    }
    yield f"once {full}, {gives_way[settings['on_full']]}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"
