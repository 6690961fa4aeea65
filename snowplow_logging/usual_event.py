"""The short way of a log call: from a record to the queue, for an event in which all is usual.

Nearly every log call goes this way, so nothing is called in here that is not needed. A record that
has anything unusual about it is left to the long way, `PayloadEncoder.encode`, which takes
whatever there may be and says what is wrong with it. Both come to the same payload.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from logging import LogRecord
from typing import TYPE_CHECKING, Any, Final

from snowplow_logging.definitions import definition_of
from snowplow_logging.event_ids import IdentifiedEvent
from snowplow_logging.json_data import flat_json, is_flat, texts_json, usual_json
from snowplow_logging.kept import keeps_nothing, message_event
from snowplow_logging.protocol import LONGEST_KEPT, Check, is_schema_uri, uuid
from snowplow_logging.surroundings import innermost_layer
from snowplow_logging.unfinished import longest_unfinished, unfinished

if TYPE_CHECKING:
    from snowplow_logging.delivery.emitter import Emitter
    from snowplow_logging.schema_check import SchemaCheck

__all__ = ["YEAR_5138", "UsualEvents"]

YEAR_5138: Final = 1e11
"""Seconds since 1970; up to there a time needs no check."""

_MOST_KEPT: Final = 1_000  # plans, and schemas: programs may make up names without end
_COMMON_KEYS: Final = frozenset(("event", "event_id", "context"))


@dataclass(frozen=True)
class _Plan:
    """What is to be done with events of one type that have the same keys.

    Attributes:
        type: The type in the protocol.
        is_atomic: Whether the values are parameters of the protocol, and not JSON.
        schema: The schema of the values that are JSON; None where the event names it.
        values: For each key its name on the wire, its check, and whether it must have a value.
        has_id: Whether there is an event id.
        has_context: Whether there are entities.
    """

    __slots__ = ("has_context", "has_id", "is_atomic", "schema", "type", "values")

    type: str
    is_atomic: bool
    schema: str | None
    values: list[tuple[str, str, Check, bool]]
    has_id: bool
    has_context: bool


def _plan(event: Mapping[str, Any]) -> _Plan | None:
    """Return the plan for an event; None where all such have to go the long way."""
    definition = definition_of(event)
    keys = definition.keys
    if (
        definition.defaults
        or not event.keys() - keys.keys() <= _COMMON_KEYS
        or not {key for _, key in definition.required} <= event.keys()
    ):
        return None
    own = [(key, keys[key]) for key in event if key in keys]
    return _Plan(
        definition.type,
        definition.is_atomic,
        definition.schema,
        # A value that may be null is there in any case, if it is not null.
        [(key, known.name, known.check, known.required or known.nullable) for key, known in own],
        "event_id" in event,
        "context" in event,
    )


class _NoSchemas(dict[str, Callable[[Any], bool]]):
    """Takes the data of any schema whose URI is one."""

    def __missing__(self, uri: str) -> Callable[[Any], bool]:
        if not is_schema_uri(uri):
            raise KeyError(uri)
        if len(self) < _MOST_KEPT and len(uri) <= LONGEST_KEPT:
            self[uri] = bool  # true of all data but of none, which goes the long way
        return bool


class UsualEvents:
    """Queues the events in which all is usual.

    A handler, which holds this, sees to it that the settings and the moment are usual, too.

    Args:
        event_key: The attribute of a record that has its event.
        constant: What every payload has besides, as JSON behind a comma.
        schemas: Checks entities, if anything does.
        emitter: Takes the payloads.
        fits_for_sure: The bytes of a payload that is never too large.
        sending: The threads that are busy with a request.
    """

    def __init__(
        self,
        event_key: str,
        *,
        constant: bytes,
        schemas: SchemaCheck | None,
        emitter: Emitter,
        fits_for_sure: int,
        sending: Mapping[int, Any],
    ) -> None:
        self._event_key = event_key
        self._constant = constant
        self._is_valid = _NoSchemas() if schemas is None else schemas.known
        self._emitter = emitter
        self._most = longest_unfinished(fits_for_sure)
        self._sending = sending
        self._plans: dict[str, dict[tuple[str, ...], _Plan | None]] = {}

    def take(self, record: LogRecord) -> bool:  # noqa: C901, PLR0911, PLR0912 - calls take time
        """Queue the event of a record; return False where the long way has to look at it.

        It is one function, because each call would be a hundredth of the log call.

        Raises:
            Exception: What a signal handler raises that interrupts it.
        """
        event = record.__dict__.get(self._event_key)
        if type(event) is not IdentifiedEvent or (
            type(record.msg) is not str and message_event(record) is not None
        ):
            return False
        if type(record) is LogRecord:
            if event.log_call is not None or innermost_layer() is not None:
                return False
        elif not keeps_nothing(record):
            return False
        if self._sending and threading.get_ident() in self._sending:
            return False
        try:
            try:
                plan = self._plans[event["event"]][tuple(event)]
            except KeyError:
                plan = self._new_plan(event)
            created = record.created
            if plan is None or type(created) is not float or not 0.0 <= created < YEAR_5138:
                return False
            # An adapter has made it; what a caller gives may be anything.
            if plan.has_id and uuid(event["event_id"]) != event.event_id:
                return False
            own = {"eid": event.event_id, "dtm": str(int(created * 1000)), "e": plan.type}
            described: bytes | None = b""
            entities: bytes | None = b""
            if plan.is_atomic:
                for key, name, check, is_required in plan.values:
                    value = event[key]
                    # An empty parameter of the protocol counts as absent.
                    if value is not None and (checked := check(value)):
                        own[name] = checked
                    elif is_required:
                        return False
            else:
                described = self._described(plan, event)
            if plan.has_context:
                context = event["context"]
                if type(context) is not list or not context:
                    return False
                flat = True
                for entity in context:
                    if (
                        type(entity) is not dict
                        or len(entity) != 2
                        or type(data := entity["data"]) is not dict
                        or type(schema := entity["schema"]) is not str
                    ):
                        return False
                    if not is_flat(data):
                        flat = False
                    elif not self._is_valid[schema](data):
                        return False
                entities = flat_json(context) if flat else self._deep_json(context)
            if described is None or entities is None:
                return False
            payload = unfinished((texts_json(own), self._constant, entities, described))
        except Exception:  # noqa: BLE001 - the caller's objects may raise anything
            return False
        if len(payload) > self._most:
            return False
        emitter = self._emitter
        try:
            # What the record says does not tell: it may be of before a fork that ran no hooks.
            if not emitter.is_here[0]:
                emitter.put(payload)
            elif away := emitter.into_queue(payload):
                emitter.make_room(away)
        except MemoryError:
            emitter.lack_memory()
        return True

    def _described(self, plan: _Plan, event: IdentifiedEvent) -> bytes | None:
        """Write the JSON of an event whose values are described by a schema."""
        own: dict[str, Any] = {}
        for key, name, check, is_required in plan.values:
            value = event[key]
            if value is not None:
                own[name] = check(value)
            elif is_required:
                return None
        if plan.schema is not None:
            return usual_json({"schema": plan.schema, "data": own})
        if type(own["data"]) is not dict:
            return None
        written = usual_json(own)
        if written is None or not self._is_valid[own["schema"]](own["data"]):
            return None
        return written

    def _deep_json(self, context: list[dict[str, Any]]) -> bytes | None:
        """Write entities of which any is not flat, and check them.

        In this order, for data of thousands of levels would have the check of schemas overflow the
        stack of the thread, and end the process.
        """
        written = usual_json(context)
        if written is None:
            return None
        is_valid = self._is_valid
        return written if all(is_valid[one["schema"]](one["data"]) for one in context) else None

    def _new_plan(self, event: IdentifiedEvent) -> _Plan | None:
        """Make the plan for an event, and keep it for those like it."""
        plan = _plan(event)
        plans = self._plans.setdefault(event["event"], {})
        if len(plans) < _MOST_KEPT and sum(map(len, event)) <= LONGEST_KEPT:
            plans[tuple(event)] = plan
        return plan
