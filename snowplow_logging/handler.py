"""The way in: a logging handler that queues the events of log records for the collector."""

from __future__ import annotations

import contextlib
import inspect
import logging
import math
import os
import sys
import traceback
import weakref
from collections.abc import Callable
from functools import partial
from logging.handlers import QueueHandler
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

from snowplow_logging.anonymous import Anonymity, anonymity
from snowplow_logging.delivery.way_out import is_of_client
from snowplow_logging.events import Event, InvalidEvent
from snowplow_logging.flushes import seconds
from snowplow_logging.formatter import event_fields, event_json
from snowplow_logging.given_settings import described, takes_settings
from snowplow_logging.hidden import hidden_event
from snowplow_logging.json_data import JsonDefault
from snowplow_logging.kept import (
    bound_to,
    error_id_of,
    keep_ids,
    keep_in_records,
    kept_error,
)
from snowplow_logging.metrics import handlers
from snowplow_logging.payload import PayloadEncoder
from snowplow_logging.record import carries_event, events_of, on_page, place_of
from snowplow_logging.reporting import (
    LOGGER_NAME,
    handed_on,
    see_returned,
    show_behind_queue,
    would_show,
)
from snowplow_logging.settings import Settings
from snowplow_logging.surroundings import Bound
from snowplow_logging.usual_event import UsualEvents

if TYPE_CHECKING:
    from snowplow_logging.delivery.emitter import Emitter
    from snowplow_logging.delivery.ledger import Stats
    from snowplow_logging.delivery.way_out import WayOut
    from snowplow_logging.schema_check import SchemaCheck

__all__ = ["SnowplowHandler"]

Outcome: TypeAlias = bytes | Exception | None
"""What became of an event: its payload, why it was refused, or None: `before_send` left it out."""

Capture: TypeAlias = Callable[[logging.Handler, logging.LogRecord, Any, str, Outcome], None]
"""Takes a handler, a record, one of its events, the id that has if it names none, the outcome."""

captures: Final[list[Capture]] = []
"""Who takes every event that is logged now, so that none is sent or counted; see `testing`."""


def outcomes_of(handler: SnowplowHandler, record: logging.LogRecord) -> list[tuple[Any, Outcome]]:
    """Return each event of a record with what the handler makes of it; send and count none."""
    made: list[tuple[Any, Outcome]] = []

    def capture(_handler: Any, _record: Any, event: Any, _id: str, outcome: Outcome) -> None:
        made.append((event, outcome))

    captures.append(capture)
    try:
        handler.emit(record)
    finally:
        captures.remove(capture)
    return made


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
        anonymity: Anonymity | None,
        transport: WayOut,
        handle_error: Callable[[logging.LogRecord], None],
    ) -> None:
        super().__init__(emitter)  # type: ignore[arg-type]  # `enqueue` knows what it is
        self._emitter = emitter
        self._encoder = encoder
        self._event_key = event_key
        self._json_default = json_default
        self._before_send = before_send
        self._anonymity = anonymity
        self._transport = transport
        self._fits_for_sure = transport.fits_for_sure
        self._handle_error = handle_error

    def prepare(self, record: logging.LogRecord) -> list[bytes]:
        """Return the payloads of the record's good events, and account for the others."""
        around = bound_to(record)
        complete = self._before_send is not None
        payloads = []
        found = events_of(record, self._event_key) or _captured(record)
        around, found = self._in_place(around, found)
        for event, event_id in found:
            seen = event
            try:
                if self._before_send is not None:
                    seen = None  # until it has said what may be seen, nothing is shown to anyone
                    full = self._encoder.completed(event, event_id, record, around)
                    seen = self._let_through(self._before_send, full)
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
                self._account(seen, event_id, record, None if complete else around, error)
            else:
                if captures:
                    self._capture(record, event, event_id, payload)
                else:
                    payloads.append(payload)
        return payloads

    def _in_place(
        self, around: Bound | None, found: list[tuple[Any, str]]
    ) -> tuple[Bound | None, list[tuple[Any, str]]]:
        """Return events with the page that they are on, and all without who the user is."""
        if around is not None and around.page is not None:
            page = around.page
            found = [(on_page(event, page), event_id) for event, event_id in found]
        if self._anonymity is not None:
            around = None if around is None else self._anonymity.bound(around)
            found = [(self._anonymity.event(event), event_id) for event, event_id in found]
        return around, found

    def _let_through(self, before_send: Callable[[Any], Any], full: dict[str, Any]) -> Any:
        seen = _as_mapping(before_send(full))
        return seen if self._anonymity is None else self._anonymity.event(seen)

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

    def _account(
        self,
        event: Any,
        event_id: str,
        record: logging.LogRecord,
        around: Any,
        error: Exception,
    ) -> None:
        """Account for an event that cannot be sent. Called while its error is being handled."""
        if sys.is_finalizing():
            # Even a good event may raise, because what is there to check it may be gone.
            self._emitter.give_up_at_the_end()
            return
        try:
            if isinstance(error, MemoryError):
                raise error
            letter = {}
            if self._emitter.tells_of_failures:  # else it is no use, and may take long
                letter = event_fields(
                    event, event_id, record, around, json_default=self._json_default
                )
        except MemoryError:
            self._emitter.lack_memory()
        else:
            self._refuse(letter, error)
        self._show_error(record)

    def _refuse(self, event: dict[str, Any], error: Exception) -> None:
        """Account for a bad event."""
        if isinstance(error, InvalidEvent):
            reason, loss = str(error), error.loss
        else:
            # Not `repr`, which may raise as well.
            raised = traceback.format_exception_only(type(error), error)
            reason, loss = f"before_send raised {raised[-1].strip()}", "before_send failed"
        # Where no handler shows it, a report goes to standard error, where the error is printed.
        told = logging.raiseExceptions and not would_show()
        self._emitter.refuse(event, reason, loss, told=told)

    def enqueue(self, payloads: list[bytes]) -> None:  # type: ignore[override]  # by `prepare`
        """Queue the payloads."""
        for payload in payloads:
            self._emitter.put(payload)

    def handleError(self, record: logging.LogRecord) -> None:
        """Handle what has kept an event from being looked at, or from being accounted for."""
        if isinstance(sys.exc_info()[1], RecursionError):
            self._emitter.lack_memory(*_why_so_deep())  # or who has called this does it
        self._show_error(record)

    def _show_error(self, record: logging.LogRecord) -> None:
        """Handle an error as the handler that users see does."""
        with contextlib.suppress(RecursionError):
            self._handle_error(record)


class SnowplowHandler(logging.Handler):
    """Sends the events that log records carry to a Snowplow collector.

    A record carries an event in its attribute `snowplow` (`extra={"snowplow": {…}}`) or as its
    message (`logger.info(PageView(…))`). Records without an event pass by. The log call checks
    and queues the event; threads of the handler's own send it, so that the call neither raises
    nor waits for the network.

    The settings are defined in `settings.Settings`; all are keywords but for the endpoint.

    Raises:
        TypeError: A setting is of the wrong type, or there is no such setting.
        ValueError: A setting makes no sense.

    Attributes:
        settings: The settings as they were given.
        shows_reports: Whether it shows records of the logger `snowplow_logging`: it never does.
    """

    shows_reports: ClassVar[bool] = False

    @takes_settings(Settings)
    def __init__(self, settings: Settings) -> None:
        # Here and not at the top, because `requests` takes longer to import than all the rest;
        # and not at the first event, because an import takes locks that a thread could wait for.
        from snowplow_logging.delivery.assembly import way_out
        from snowplow_logging.delivery.emitter import Emitter
        from snowplow_logging.delivery.exchange import exchanges
        from snowplow_logging.delivery.transport import sends_here

        self.settings = settings
        self._sends_here = sends_here
        self._event_key = settings.event_key
        self._enabled = settings.enabled
        self._capture_level = settings.capture_level
        transport = way_out(settings)
        letters = None
        if settings.dead_letter is not None and settings.enabled:
            from snowplow_logging.dead_letter import DeadLetterFile

            letters = DeadLetterFile(settings.dead_letter, event_json)
        self._emitter = Emitter(settings, transport, letters)
        hides = anonymity(settings.anonymous_tracking, settings.json_default)
        schemas = _schemas(settings, self._emitter.report)
        encoder = PayloadEncoder(
            namespace=settings.namespace,
            app_id=settings.app_id,
            platform=settings.platform,
            subject=hides.subject(settings.subject) if hides else settings.subject,
            context=_context(settings, hides, self._emitter.report),
            encode_base64=settings.encode_base64,
            report=partial(self._emitter.report, "context"),
            schemas=schemas,
            json_default=settings.json_default,
        )
        self._usual = None
        if (
            settings.enabled
            and settings.before_send is None
            and not settings.leaves_at_once
            and hides is None
            and encoder.usual is not None
        ):
            self._usual = UsualEvents(
                settings.event_key,
                constant=encoder.usual,
                schemas=schemas,
                emitter=self._emitter,
                fits_for_sure=transport.fits_for_sure,
                sending=exchanges,
            ).take
        # Last, so that logging never learns of a handler whose settings make no sense.
        super().__init__(settings.level)
        self._queue_handler = _EventQueueHandler(
            self._emitter,
            encoder=encoder,
            event_key=settings.event_key,
            json_default=settings.json_default,
            before_send=settings.before_send,
            anonymity=hides,
            transport=transport,
            handle_error=self.handleError,
        )
        if settings.enabled:
            keep_ids(settings.event_key)
            if settings.capture_level < math.inf:
                from snowplow_logging.application_error import application_error

                keep_in_records(settings.capture_level, application_error)
        self._is_closed = False
        self._await_sigterm()
        handlers.add(self)
        # A handler that is dropped without being closed still sends what it has, then rests.
        weakref.finalize(self, self._emitter.retire).atexit = False

    def handle(self, record: logging.LogRecord) -> Any:
        """Handle a record that passes the handler's filters.

        Unlike other handlers it holds no lock meanwhile, so that no thread waits for another's
        `before_send`, nor for another that waits for room in the queue.
        """
        passed: Any = self.filter(record)
        if passed is not record and isinstance(passed, logging.LogRecord):
            record = passed
        if passed:
            self.emit(record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:  # noqa: C901 - calls take time
        """Queue the events of a record, if it has any."""
        if record.name == LOGGER_NAME:
            show_behind_queue(record)
            return
        try:
            if self._usual and not (self._is_closed or captures) and self._usual(record):
                return
        except Exception:  # noqa: BLE001 - a signal handler that has interrupted it may raise it
            self._queue_handler.handleError(record)
            return
        if handed_on:
            see_returned(record)
        if not (self._enabled or captures):
            return
        carries = carries_event(record, self._event_key)
        if carries or self._captures(record):
            # What a request logs of itself would have another one follow it, and so for ever. What
            # a program logs there, as in its own session, is an event as any other.
            if self._sends_here() and (not carries or is_of_client(record.name)):
                return
            if self._is_closed:
                self._is_closed = False
                self._await_sigterm()
            try:
                self._queue_handler.emit(record)
            except RecursionError:
                self._emitter.lack_memory(*_why_so_deep())
        elif (what_to_do := hidden_event(record, self._event_key)) is not None:
            self._emitter.report("hidden", what_to_do)

    def _await_sigterm(self) -> None:
        """Deliver before SIGTERM ends the process, if that is wanted."""
        if self.settings.enabled and self.settings.flush_on_sigterm:
            from snowplow_logging.sigterm import sigterm

            if problem := sigterm.want(self):
                self._emitter.report("sigterm", f"flush_on_sigterm has no effect: {problem}")

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

        Raises:
            TypeError: The timeout is no number.
            ValueError: It is not a number (NaN).
        """
        return self._emitter.flush(seconds(timeout))

    def handleError(self, record: logging.LogRecord) -> None:
        """Print what is wrong with an event and where it was logged, in two lines.

        The whole traceback is printed, as the standard library does it, of any other error, and
        of a bad event where the variable SNOWPLOW_LOGGING_TRACEBACK is set to 1. Nothing is where
        `logging.raiseExceptions` is false. Override it to do something else; the error is the one
        that is being handled, an `InvalidEvent`.
        """
        error = sys.exc_info()[1]
        traced = os.environ.get("SNOWPLOW_LOGGING_TRACEBACK", "0") not in ("", "0")
        # Standard error may be closed or anything else, and the log call goes on.
        with contextlib.suppress(Exception):
            if traced or not isinstance(error, InvalidEvent):
                super().handleError(record)
            elif logging.raiseExceptions and sys.stderr is not None:
                sys.stderr.write(f"snowplow_logging: {error}\n  {place_of(record)}\n")

    def close(self) -> None:
        """Send what is queued for at most `shutdown_timeout`, and give up what is left then.

        A handler that gets another record opens again.
        """
        self._emitter.close()
        super().close()
        self._is_closed = True
        if self.settings.flush_on_sigterm:
            from snowplow_logging.sigterm import sigterm

            sigterm.release(self)

    @property
    def stats(self) -> Stats:
        """What has become of the events logged in this process so far."""
        return self._emitter.stats

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._emitter.url} ({logging.getLevelName(self.level)})>"


def _context(
    settings: Settings, hides: Anonymity | None, report: Callable[[str, str], None]
) -> Any:
    """Return the entities of every event: those of the settings, and the program's session."""
    context: Any = settings.context
    if context is not None and not isinstance(context, (list, tuple)):
        return context  # for its check to say so
    # By index, because that is how a list of `dictConfig` converts its items.
    entities = [] if context is None else [context[index] for index in range(len(context))]
    if settings.client_session is not False and settings.enabled:
        from snowplow_logging.client_session import program_session, session_entity

        path = None if settings.client_session is True else settings.client_session
        session = program_session(settings.app_id, path, report)
        entities.append(lambda record: session_entity(session, record, settings.event_key))
    if hides is None:
        return entities
    return hides.context([hides.made_by(one) if callable(one) else one for one in entities])


def _schemas(settings: Settings, report: Callable[[str, str], None]) -> SchemaCheck | None:
    """Return what checks schemas; None where nothing does, for lack of the extra among others."""
    if settings.schema_check == "off":
        return None
    try:
        from snowplow_logging.iglu import Iglu
        from snowplow_logging.schema_check import SchemaCheck
    except ImportError:
        # The extra is not there, or this is a subinterpreter, for which jsonschema-rs is not made.
        if settings.iglu is not None:
            raise
        return None

    # While events are captured in a test, nothing asks the network.
    registries = Iglu(
        settings.iglu,
        settings.iglu_api_key,
        report=partial(report, "iglu"),
        may_fetch=lambda: not captures,
    )
    warn = partial(report, "schema") if settings.schema_check == "warn" else None
    return SchemaCheck(
        registries.find_at_once, warn, later=registries.waits, final=settings.iglu is None
    )


def _as_mapping(event: Any) -> Any:
    return event.as_event_dict() if isinstance(event, Event) else event


def _why_so_deep() -> tuple[str, str] | tuple[()]:
    """Return loss and reason where the stack is full because `before_send` calls itself."""
    calls, frame = 0, sys._getframe()  # noqa: SLF001 - the one way to learn who calls
    while (back := frame.f_back) is not None:
        calls += frame.f_code is _EventQueueHandler._let_through.__code__  # noqa: SLF001
        frame = back
    if calls < 2:
        return ()
    reason = (
        "before_send logs an event itself, is called with that as well, and so on without end; "
        "have it log none, or none for its own"
    )
    return "before_send failed", reason


def _captured(record: logging.LogRecord) -> list[tuple[Any, str]]:
    """Return the exception of a record without an event as one."""
    from snowplow_logging.application_error import application_error

    error = application_error(record)
    return [] if error is None else [(error, error_id_of(record))]


if SnowplowHandler.__doc__ is not None:  # as it is with `python -OO`
    # Without the indentation that Python 3.13 takes away by itself, and older ones leave there.
    SnowplowHandler.__doc__ = inspect.cleandoc(SnowplowHandler.__doc__).replace(
        "Raises:", f"{described()}\n\nRaises:"
    )
