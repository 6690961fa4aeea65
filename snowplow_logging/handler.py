"""The way in: a logging handler that queues the events of log records for the collector."""

from __future__ import annotations

import contextlib
import inspect
import logging
import math
import os
import traceback
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from logging.handlers import QueueHandler
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from snowplow_logging.events import Event, InvalidEvent
from snowplow_logging.formatter import event_fields
from snowplow_logging.json_data import JsonDefault
from snowplow_logging.payload import Entity, PayloadEncoder
from snowplow_logging.protocol import MAX_BODY_BYTES, nearest
from snowplow_logging.record import carries_event, event_id_of, events_of
from snowplow_logging.subject import bound_to, keep_in_records, kept_error

if TYPE_CHECKING:
    import requests

    from snowplow_logging.account import Stats
    from snowplow_logging.emitter import Emitter, OnFailure, OnSuccess
    from snowplow_logging.iglu import Location
    from snowplow_logging.schema_check import SchemaCheck
    from snowplow_logging.transport import Transport

__all__ = ["SnowplowHandler"]

_OWN_LOGGER: Final = "snowplow_logging"
_RECORD_ATTRIBUTES: Final = {*vars(logging.makeLogRecord({})), "message", "asctime"}

Outcome: TypeAlias = bytes | Exception | None
"""What became of an event: its payload, why it was refused, or None: `before_send` left it out."""

Capture: TypeAlias = Callable[[logging.Handler, logging.LogRecord, Any, str, Outcome], None]
"""Takes a handler, a record, one of its events, the id that has if it names none, the outcome."""

captures: Final[list[Capture]] = []
"""Who takes every event that is logged now, so that none is sent or counted; see `testing`."""


class _EventQueueHandler(QueueHandler):
    """Turns a record into payloads and hands them to the emitter, which is its queue."""

    def __init__(
        self,
        emitter: Emitter,
        *,
        encoder: PayloadEncoder,
        event_key: str,
        json_default: JsonDefault | None,
        before_send: Callable[[dict[str, Any]], Any] | None,
        transport: Transport,
        handle_error: Callable[[logging.LogRecord], None],
    ) -> None:
        super().__init__(emitter)  # type: ignore[arg-type]  # `enqueue` knows what it is
        self._emitter = emitter
        self._encoder = encoder
        self._event_key = event_key
        self._json_default = json_default
        self._before_send = before_send
        self._transport = transport
        self._fits_for_sure = transport.fits_for_sure
        self._handle_error = handle_error

    def prepare(self, record: logging.LogRecord) -> list[bytes]:
        """Return the payloads of the record's good events, and account for the others."""
        around = bound_to(record)
        complete = self._before_send is not None
        payloads = []
        for event, event_id in events_of(record, self._event_key) or _captured(record):
            seen = event
            try:
                if self._before_send is not None:
                    seen = None  # until it has said what may be seen, nothing is shown to anyone
                    full = self._encoder.completed(event, event_id, record, around)
                    seen = _as_mapping(self._before_send(full))
                    if seen is None:
                        self._leave_out(record, event, event_id)
                        continue
                    payload = self._encoder.encode(seen, event_id, record, None, complete=True)
                else:
                    payload = self._encoder.encode(seen, event_id, record, around)
                if len(payload) > self._fits_for_sure:
                    self._check_size(seen, payload)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it
                if captures:
                    self._capture(record, event, event_id, error)
                    continue
                letter = event_fields(
                    seen,
                    event_id,
                    record,
                    None if complete else around,
                    json_default=self._json_default,
                )
                self._refuse(letter, record, error)
            else:
                if captures:
                    self._capture(record, event, event_id, payload)
                else:
                    payloads.append(payload)
        return payloads

    def _check_size(self, event: Any, payload: bytes) -> None:
        problem = self._transport.excess(payload)
        if problem is not None:
            raise InvalidEvent(event["event"], "event", problem, "it less data")

    def _capture(
        self, record: logging.LogRecord, event: Any, event_id: str, outcome: Outcome
    ) -> None:
        for capture in [*captures]:  # another thread may be ending one
            capture(self, record, event, event_id, outcome)

    def _leave_out(self, record: logging.LogRecord, event: Any, event_id: str) -> None:
        if captures:
            self._capture(record, event, event_id, None)
        else:
            self._emitter.leave_out()

    def _refuse(self, event: dict[str, Any], record: logging.LogRecord, error: Exception) -> None:
        """Account for a bad event. Called while its error is being handled."""
        if isinstance(error, InvalidEvent):
            reason, loss = str(error), error.loss
        else:
            # Not `repr`, which may raise as well.
            raised = traceback.format_exception_only(type(error), error)
            reason, loss = f"before_send raised {raised[-1].strip()}", "before_send failed"
        self._emitter.refuse(event, reason, loss)
        self.handleError(record)

    def enqueue(self, payloads: list[bytes]) -> None:  # type: ignore[override]  # by `prepare`
        """Queue the payloads."""
        for payload in payloads:
            self._emitter.put(payload)

    def handleError(self, record: logging.LogRecord) -> None:
        """Handle an error as the handler that users see does."""
        with contextlib.suppress(RecursionError):
            self._handle_error(record)


class SnowplowHandler(logging.Handler):
    """Sends the events that log records carry to a Snowplow collector.

    A record carries an event in its attribute `snowplow` (`extra={"snowplow": {…}}`) or as its
    message (`logger.info(PageView(…))`). Records without an event pass by. The log call checks
    and queues the event; threads of the handler's own send it, so that the call neither raises
    nor waits for the network.

    Args:
        endpoint: The collector's URL; a bare host means https.
        method: `post`, which sends many events a request, or `get`, which sends one.
        path: The path on the collector; the protocol's own where None.
        namespace: The tracker's namespace.
        app_id: The application's id.
        platform: One of the protocol's platforms, such as `srv` or `web`.
        subject: The subject of every event, a dict or a `Subject`.
        context: Entities of every event, or callables that take the record and return one or
            None.
        encode_base64: Whether self-describing data and entities are sent as base64.
        json_default: Takes what is no JSON in `data` and entities, and returns what is, as the
            `default` of `json` and orjson; called on the log call's thread. What it returns may
            hold Python's own types again. Where it raises, the event is refused.
        event_key: The attribute of a record that holds its event.
        capture_exceptions: Whether a record with an exception and no event of its own becomes an
            `application_error`; a level, such as `ERROR`, makes it those from that level on.
            `QueueHandler` leaves nothing but text of an exception: this handler at the other end
            captures it only if the process that logs has made such a handler too, or is a fork
            of one that has. `SocketHandler` leaves the message and the stack trace.
        batch_size: The events that a request carries at most.
        batch_bytes: The bytes that its body has at most, up to the collector's 1,048,576.
        flush_interval: The seconds that an event waits for others at most.
        queue_size: The events that may wait in memory.
        on_full: What gives way when no more may: `drop` the new event, `drop_oldest`, or `block`
            the log call until there is room.
        block_timeout: The seconds that `block` waits at most; on the thread of an asyncio event
            loop it never does.
        store: The path of an SQLite file in which events wait until the collector has answered
            for them, so that they outlive the process; in memory where None. Several processes
            may share one.
        store_sync: Whether the log call returns only once its event is in the file, instead of
            within 50 ms of it.
        store_limit: The bytes that the file may take; what happens then is `on_full`.
        timeout: The seconds to connect and to wait for an answer, one number or a pair.
        headers: Headers of every request.
        session: A `requests.Session` to send with, for proxies, certificates, authentication.
        anonymous: Whether to ask the collector to keep neither IP address nor cookie.
        max_retry_delay: The seconds between two attempts at most.
        retry_codes: HTTP statuses with whether they are tried again, over the common rule of
            Snowplow's trackers.
        max_attempts: The attempts after which events are given up; None for no end.
        connections: The requests under way at once.
        iglu: Where to find the schemas that self-describing data and entities are checked against
            at the log call: a folder or URL of an Iglu registry, or a list of them in their order.
            Folders are read there; what is behind a URL is fetched on a thread, and events are
            checked from then on. An event whose schema none of the registries has does not fit.
            One whose registry does not answer is sent. The schemas of the library's own events
            come with it, and are checked against wherever the extra `schemas` is installed.
        iglu_api_key: The key for Iglu Servers. It is sent with requests to `/api/schemas/…` alone.
        schema_check: What becomes of an event that does not fit its schemas: `refuse` it, `warn`
            and send it, or `off` for no check. An entity of the handler's `context` that does not
            fit is left out, and reported.
        before_send: Called on the log call's thread with each event as a dict, its subject and
            entities complete; returns it, changed or not, or None to leave it out.
        on_success: Called on a sending thread with the events that the collector has taken, each
            a dict of the protocol's names.
        on_failure: Called on a sending thread with events that were given up, in the same form,
            and why; and with those that Snowplow would have refused, as they were logged.
        dead_letter: The path of a file for what could not be delivered, as JSON lines that
            `python -m snowplow_logging replay` reads; at most ten files of 50 MB.
        shutdown_timeout: The seconds that closing may take.
        enabled: False queues, sends and starts nothing.

    Raises:
        TypeError: A setting is of the wrong type, or there is no such setting.
        ValueError: A setting makes no sense.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        method: str = "post",
        path: str | None = None,
        namespace: str | None = "snowplow_logging",
        app_id: str | None = None,
        platform: str = "srv",
        subject: Mapping[str, Any] | None = None,
        context: Sequence[Entity | Callable[[logging.LogRecord], Entity | None]] | None = None,
        encode_base64: bool = True,
        json_default: JsonDefault | None = None,
        event_key: str = "snowplow",
        capture_exceptions: bool | int | str = False,
        batch_size: int = 500,
        batch_bytes: int = 500_000,
        flush_interval: float = 1.0,
        queue_size: int = 10_000,
        on_full: str = "drop",
        block_timeout: float = 1.0,
        store: str | os.PathLike[str] | None = None,
        store_sync: bool = False,
        store_limit: int = 1_073_741_824,
        timeout: float | tuple[float | None, float | None] | None = (3.05, 10),
        headers: Mapping[str, str] | None = None,
        session: requests.Session | None = None,
        anonymous: bool = False,
        max_retry_delay: float = 60.0,
        retry_codes: Mapping[int, bool] | None = None,
        max_attempts: int | None = None,
        connections: int = 1,
        iglu: Location | Sequence[Location] | None = None,
        iglu_api_key: str | None = None,
        schema_check: str = "refuse",
        before_send: Callable[[dict[str, Any]], Any] | None = None,
        on_success: OnSuccess | None = None,
        on_failure: OnFailure | None = None,
        dead_letter: str | os.PathLike[str] | None = None,
        shutdown_timeout: float = 5.0,
        enabled: bool = True,
        **unknown: Any,
    ) -> None:
        _check_keywords(unknown)
        _check_flag("encode_base64", encode_base64)
        _check_flag("enabled", enabled)
        _check_event_key(event_key)
        capture_level = _capture_level(capture_exceptions)
        _check_number("batch_size", batch_size, "events", least=1)
        _check_number("batch_bytes", batch_bytes, "bytes", least=1, most=MAX_BODY_BYTES)
        _check_number("flush_interval", flush_interval, "seconds")
        _check_number("queue_size", queue_size, "events", least=1)
        if on_full not in ("drop", "drop_oldest", "block"):
            raise ValueError(f"on_full is {on_full!r}; give 'drop', 'drop_oldest' or 'block'")
        _check_number("block_timeout", block_timeout, "seconds")
        _check_path("store", store)
        _check_flag("store_sync", store_sync)
        _check_number("store_limit", store_limit, "bytes", least=1_000_000)
        _check_number("max_retry_delay", max_retry_delay, "seconds")
        if max_attempts is not None:
            _check_number("max_attempts", max_attempts, "attempts", least=1)
        _check_number("connections", connections, "requests", least=1, most=100)
        if schema_check not in ("refuse", "warn", "off"):
            raise ValueError(f"schema_check is {schema_check!r}; give 'refuse', 'warn' or 'off'")
        _check_callable("json_default", json_default)
        _check_callable("before_send", before_send)
        _check_callable("on_success", on_success)
        _check_callable("on_failure", on_failure)
        _check_path("dead_letter", dead_letter)
        _check_number("shutdown_timeout", shutdown_timeout, "seconds")

        # Here and not at the top, because `requests` takes longer to import than all the rest;
        # and not at the first event, because an import takes locks that a thread could wait for.
        from snowplow_logging.emitter import Emitter
        from snowplow_logging.transport import Transport, sends_here

        self._sends_here = sends_here
        self._event_key = event_key
        self._enabled = enabled
        self._capture_level = capture_level
        transport = Transport(
            endpoint=endpoint,
            method=method,
            path=path,
            timeout=timeout,
            headers=headers,
            session=session,
            anonymous=anonymous,
            retry_codes=retry_codes,
            connections=connections,
        )
        letters = None
        if dead_letter is not None and enabled:
            from snowplow_logging.dead_letter import DeadLetterFile

            letters = DeadLetterFile(dead_letter)
        kept = None
        if store is not None and enabled:
            from snowplow_logging.store import Store

            kept = Store(store, store_limit)
        self._emitter = Emitter(
            transport,
            batch_size=batch_size,
            batch_bytes=batch_bytes,
            flush_interval=flush_interval,
            queue_size=queue_size,
            on_full=on_full,
            block_timeout=block_timeout,
            connections=connections,
            max_retry_delay=max_retry_delay,
            max_attempts=max_attempts,
            shutdown_timeout=shutdown_timeout,
            on_success=on_success,
            on_failure=on_failure,
            dead_letters=letters,
            store=kept,
            store_sync=store_sync and kept is not None,
        )
        encoder = PayloadEncoder(
            namespace=namespace,
            app_id=app_id,
            platform=platform,
            subject=subject,
            context=context,
            encode_base64=encode_base64,
            report=partial(self._emitter.report, "context"),
            schemas=_schemas(iglu, iglu_api_key, schema_check, self._emitter.report),
            json_default=json_default,
        )
        # Last, so that logging never learns of a handler whose settings make no sense.
        super().__init__()
        self._queue_handler = _EventQueueHandler(
            self._emitter,
            encoder=encoder,
            event_key=event_key,
            json_default=json_default,
            before_send=before_send,
            transport=transport,
            handle_error=self.handleError,
        )
        if enabled and capture_level < math.inf:
            keep_in_records(captured_from=capture_level)
        # A handler that is dropped without being closed still sends what it has, then rests.
        weakref.finalize(self, self._emitter.retire).atexit = False

    def handle(self, record: logging.LogRecord) -> Any:
        """Handle a record that passes the handler's filters.

        Unlike other handlers it holds no lock meanwhile, so that no thread waits for another's
        `before_send`, nor for another that waits for room in the queue.
        """
        passed: Any = self.filter(record)
        if isinstance(passed, logging.LogRecord):
            record = passed
        if passed:
            self.emit(record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the events of a record, if it has any."""
        if (
            (self._enabled or captures)
            and (carries_event(record, self._event_key) or self._captures(record))
            and record.name != _OWN_LOGGER
            and not self._sends_here()
        ):
            self._queue_handler.emit(record)

    def _captures(self, record: logging.LogRecord) -> bool:
        return (
            self._capture_level < math.inf
            and record.levelno >= self._capture_level
            and bool(record.exc_info or record.exc_text or kept_error(record))
        )

    def flush(self, timeout: float | None = None) -> bool:  # type: ignore[override]  # says more
        """Wait until all that was logged before has been answered for.

        Args:
            timeout: The seconds to wait at most; None for `shutdown_timeout`, `math.inf` for ever.

        Returns:
            True once it has, False when the time is up.
        """
        return self._emitter.flush(timeout)

    def close(self) -> None:
        """Send what is queued for at most `shutdown_timeout`, and give up what is left then.

        A handler that gets another record opens again.
        """
        self._emitter.close()
        super().close()

    @property
    def stats(self) -> Stats:
        """What has become of the events logged in this process so far."""
        return self._emitter.stats

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._emitter.url} ({logging.getLevelName(self.level)})>"


def _schemas(
    iglu: Any, api_key: Any, schema_check: str, report: Callable[[str, str], None]
) -> SchemaCheck | None:
    """Return what checks schemas; None where nothing does, for lack of the extra among others."""
    if schema_check == "off" or (iglu is None and find_spec("jsonschema_rs") is None):
        return None
    from snowplow_logging.iglu import Iglu
    from snowplow_logging.schema_check import SchemaCheck

    # While events are captured in a test, nothing asks the network.
    registries = Iglu(iglu, api_key, report=partial(report, "iglu"), may_fetch=lambda: not captures)
    warn = partial(report, "schema") if schema_check == "warn" else None
    return SchemaCheck(registries.find_at_once, warn, later=registries.waits)


def _as_mapping(event: Any) -> Any:
    return event.as_event_dict() if isinstance(event, Event) else event


def _captured(record: logging.LogRecord) -> list[tuple[Any, str]]:
    """Return the exception of a record without an event as one."""
    from snowplow_logging.application_error import application_error

    error = application_error(record)
    return [] if error is None else [(error, event_id_of(record))]


def _check_keywords(unknown: Iterable[str]) -> None:
    parameters = inspect.signature(SnowplowHandler).parameters
    for name in unknown:
        known = [keyword for keyword in parameters if keyword != "unknown"]
        raise TypeError(f"SnowplowHandler has no setting {name!r}; give {nearest(name, known)}")


def _check_number(
    name: str, value: Any, unit: str, *, least: int = 0, most: float = math.inf
) -> None:
    whole = unit != "seconds"
    above = f"from {least:,} to {most:,}" if most < math.inf else f"of at least {least:,}"
    expected = f"give a {'whole ' if whole else ''}number of {unit}, {above}"
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise TypeError(f"{name} is {value!r}; {expected}")
    if not least <= value <= most or math.isinf(value):
        raise ValueError(f"{name} is {value!r}; {expected}")


def _check_flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; give True or False")


def _capture_level(value: Any) -> float:
    if isinstance(value, bool):
        return 0 if value else math.inf
    expected = "give True, False or the name or number of a level"
    if not isinstance(value, (int, str)):
        raise TypeError(f"capture_exceptions is {value!r}; {expected}")
    level = logging.getLevelName(value) if isinstance(value, str) else value
    if not isinstance(level, int):
        raise ValueError(f"capture_exceptions is {value!r}; {expected}")  # noqa: TRY004
    return level


def _check_path(name: str, value: Any) -> None:
    if value is not None and (not isinstance(value, (str, os.PathLike)) or not os.fspath(value)):
        raise TypeError(f"{name} is {value!r}; give a path, or None for none")


def _check_callable(name: str, value: Any) -> None:
    if value is not None and not callable(value):
        raise TypeError(f"{name} is {value!r}; give a callable, or None for none")


def _check_event_key(event_key: Any) -> None:
    expected = "give the name of an attribute that records do not have otherwise"
    if not isinstance(event_key, str):
        raise TypeError(f"event_key is {event_key!r}; {expected}")
    if not event_key or event_key in _RECORD_ATTRIBUTES:
        raise ValueError(f"event_key is {event_key!r}; {expected}")
