"""From a log record to payloads: finds a record's events, checks them and writes them as JSON."""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from functools import cache
from logging import LogRecord
from typing import Any, Final, TypeAlias
from uuid import UUID

from snowplow_logging._version import __version__
from snowplow_logging.events import COMMON_KEYS, EVENTS, Event, SelfDescribingJson
from snowplow_logging.protocol import (
    CONTEXTS,
    PLATFORMS,
    UNSTRUCT_EVENT,
    InvalidEvent,
    Key,
    Refused,
    atomic_text,
    base64_json,
    data_json,
    derived_uuid,
    describe,
    milliseconds,
    nearest,
    number,
    one_of,
    payload_json,
    schema_uri,
    uuid,
)
from snowplow_logging.subject import MESSAGE_EVENT, SUBJECT_KEYS, Bound

__all__ = [
    "EVENT_ID",
    "TRACKER",
    "Entity",
    "PayloadEncoder",
    "carries_event",
    "event_id_of",
    "events_of",
    "shown",
]

Entity: TypeAlias = SelfDescribingJson | Mapping[str, Any]
"""What is taken as an entity; a mapping has the keys `schema` and `data`."""

EVENT_ID: Final = slice(8, 44)
"""Where the event id stands in an encoded payload."""

TRACKER: Final = f"snowplow-logging-{__version__}"
"""The tracker's name and version, which every payload carries."""

_MOST_SHOWN: Final = 10_000  # values
_LONGEST_QUOTED: Final = 300  # characters of a key or a value in the message of an error
_LONGEST_SHOWN: Final = 65_535  # characters, as long as a property of any event's schema
_INHERITED: Final = ("currency", "true_timestamp", "subject", "context")
_pack: Final = struct.Struct("<ddQQI").pack
_MASK: Final = 2**64 - 1


def carries_event(record: LogRecord, event_key: str) -> bool:
    """Tell whether a record has an event, good or bad."""
    attributes = record.__dict__
    return (
        attributes.get(event_key) is not None
        or isinstance(record.msg, Event)
        or MESSAGE_EVENT in attributes
    )


def events_of(record: LogRecord, event_key: str) -> Iterator[tuple[Any, str]]:
    """Yield each event of a record as a mapping, with the event id it has if it names none.

    The id is made from what identifies the record, so that every handler that sees the record,
    or a copy of it in another process, comes to the same one. It differs between records because
    a log call takes longer than the tick of the clock that `created` is read from.

    What is no event at all is yielded as it is, for the check to say so.
    """
    value = record.__dict__.get(event_key)
    try:
        events = [*value] if isinstance(value, (list, tuple)) else [value]
    except Exception:  # noqa: BLE001 - a list of a class that does as it likes
        events = [value]
    if isinstance(record.msg, Event):
        events.append(record.msg)
    elif MESSAGE_EVENT in record.__dict__:
        events.append(record.__dict__[MESSAGE_EVENT])
    index = 0
    for event in events:
        for part in () if event is None else _parts(event):
            yield part, event_id_of(record, index)
            index += 1


def event_id_of(record: LogRecord, index: int = 0) -> str:
    """Return the id that an event of a record has where it names none."""
    try:
        process, thread = (record.process or 0) & _MASK, (record.thread or 0) & _MASK
        seed = _pack(record.created, record.relativeCreated, process, thread, index)
    except (struct.error, TypeError):  # somebody has put something else into the record
        identity = (record.created, record.relativeCreated, record.process, record.thread, index)
        seed = repr(identity).encode(errors="replace")
    return derived_uuid(seed)


def _parts(event: Any) -> Sequence[Any]:
    """Return a transaction and its items as the events that they are, and any other as it is."""
    if isinstance(event, Event):
        event = event.as_event_dict()
    try:
        items = event.get("items") if isinstance(event, Mapping) else None
        if not isinstance(items, (list, tuple)) or event.get("event") != "ecommerce_transaction":
            return [event]
        transaction = {key: value for key, value in event.items() if key != "items"}
        return [transaction, *(_item(transaction, item, i) for i, item in enumerate(items))]
    except Exception:  # noqa: BLE001 - it may be anything, and the check says what is wrong
        return [event]


def _item(transaction: Mapping[str, Any], item: Any, index: int) -> Any:
    """Return an item of a transaction as an event; what is none as it is."""
    try:
        fields = vars(item) if isinstance(item, Event) else item
        own = {key: value for key, value in fields.items() if value is not None}
    except Exception:  # noqa: BLE001 - it may be anything, and the check says what is wrong
        return item
    event_id = transaction.get("event_id")
    if isinstance(event_id, (str, UUID)):
        own.setdefault("event_id", derived_uuid(f"{index} {event_id}".encode(errors="replace")))
    inherited = {key: transaction.get(key) for key in _INHERITED}
    own["order_id"] = transaction.get("order_id")
    return {"event": "ecommerce_transaction_item", **inherited, **own}


@dataclass(frozen=True)
class _Definition:
    """An event type, laid out for the check."""

    name: str
    type: str
    schema: str | None
    keys: Mapping[str, Key]
    required: Sequence[tuple[str, Key]]
    defaults: Sequence[Key]


@cache
def _definition(name: str) -> _Definition:
    cls = EVENTS[name]
    keys = cls.keys()
    required = [(name, key) for name, key in keys.items() if key.required]
    defaults = [key for key in keys.values() if key.default is not None]
    return _Definition(cls.event_name, cls.event_type, cls.event_schema, keys, required, defaults)


class PayloadEncoder:
    """Checks events by the protocol and writes them as payloads, all but the time of sending.

    Args:
        namespace: The tracker's namespace, at most 128 characters.
        app_id: The application's id, at most 255 characters.
        platform: One of the protocol's platforms.
        subject: The subject of every event.
        context: Entities of every event, or callables that make one of the record.
        encode_base64: Whether self-describing data and entities are sent as base64.
        report: Told what went wrong where the event can go on without it.
        tracker: The name and version of the tracker.

    Raises:
        ValueError: Snowplow would refuse one of these.
    """

    def __init__(
        self,
        *,
        namespace: str | None,
        app_id: str | None,
        platform: str,
        subject: Mapping[str, Any] | None,
        context: Sequence[Entity | Callable[[LogRecord], Entity | None]] | None,
        encode_base64: bool,
        report: Callable[[str], None],
        tracker: str = TRACKER,
    ) -> None:
        self._encode_base64 = encode_base64
        self._report = report
        self._tracker = {"tv": tracker}
        keyword = ""
        try:
            for name, keyword, value, check in (
                ("p", "platform", platform, one_of(*PLATFORMS)),
                ("tna", "namespace", namespace, atomic_text(128)),
                ("aid", "app_id", app_id, atomic_text(255)),
            ):
                if value is not None or keyword == "platform":
                    self._tracker[name] = check(value)
            keyword = "subject"
            self._subject = {} if subject is None else dict(_mapping(subject))
            self._constant = {**self._tracker, **_subject_payload(self._subject)}
            keyword = "context"
            self._context = [] if context is None else list(_sequence(context))
            self._entities: list[bytes | Callable[[LogRecord], Entity | None]] = []
            for index, entity in enumerate(self._context):
                keyword = f"context[{index}]"
                self._entities.append(entity if callable(entity) else _entity_json(entity))
        except Refused as error:
            message = f"{keyword}{error.path} {error.problem}; give {error.expected}"
            raise ValueError(message) from None

    def encode(
        self,
        event: Any,
        event_id: str,
        record: LogRecord,
        bound: Bound | None = None,
        *,
        complete: bool = False,
    ) -> bytes:
        """Check one event and write its payload.

        Args:
            event: What the record carries.
            event_id: Its id, where it names none.
            record: The record, for its time.
            bound: The subject and the entities around the log call.
            complete: Whether the event already holds every subject and entity, as `completed`
                returns it.

        Returns:
            A JSON object in UTF-8 without its closing brace, for `stm` to follow.

        Raises:
            InvalidEvent: Snowplow would refuse the event.
        """
        name = key = "event"
        try:
            definition = _definition_of(event)
            name = definition.name
            own: dict[str, Any] = {}
            common: dict[str, Any] = {}
            for key, value in event.items():
                known = definition.keys.get(key)
                if known is not None:
                    if value is not None:
                        own[known.name] = known.check(value)
                    elif known.nullable:
                        own[known.name] = None
                elif key in COMMON_KEYS:
                    common[key] = value
                elif value is not None:
                    problem = f"is not a key of {name}"
                    raise Refused(problem, nearest(key, [*definition.keys, *COMMON_KEYS[1:]]))
            key = "event_id"
            if common.get(key) is not None:
                event_id = uuid(common[key])
            for default in definition.defaults:
                if default.name not in own and default.default is not None:
                    own[default.name] = default.default(event_id)
            for key, required in definition.required:  # noqa: B007 - the error names it
                # An empty parameter of the protocol counts as absent, an empty property does not.
                if own.get(required.name, "") == "" and (
                    required.name not in own or definition.type != "ue"
                ):
                    raise Refused("is missing or empty", f"it, for {name} requires it")

            payload = dict(self._tracker if complete else self._constant)
            payload["e"] = definition.type
            key = "created"
            created = milliseconds(record.created * 1000)
            key = "true_timestamp"
            if common.get(key) is not None:
                payload["ttm"] = milliseconds(common[key])
            key = "subject"
            if bound is not None:
                payload.update(_subject_payload(bound.subject))
            if common.get(key) is not None:
                payload.update(_subject_payload(_mapping(common[key])))
            if definition.type != "ue":
                payload.update((n, str(value)) for n, value in own.items() if value != "")
            else:
                key = "data"
                schema = own["schema"] if definition.schema is None else definition.schema
                data = own["data"] if definition.schema is None else own
                self._add_json(
                    payload, ("ue_px", "ue_pr"), UNSTRUCT_EVENT, _self_describing(schema, data, 2)
                )
            key = "context"
            entities = []
            if common.get(key) is not None:
                entities = [_entity(entity, i) for i, entity in enumerate(_sequence(common[key]))]
            if bound is not None:
                entities += [_entity(entity, i) for i, entity in enumerate(bound.context)]
            if self._entities and not complete:
                entities += self._handler_entities(record)
            if entities:
                self._add_json(payload, ("cx", "co"), CONTEXTS, b"[" + b",".join(entities) + b"]")
            return b'{"eid":"%s","dtm":"%s",%s' % (
                event_id.encode(),
                created.encode(),
                payload_json(payload),
            )
        except Refused as error:
            raise _invalid(name, key, error) from None
        except Exception as error:  # noqa: BLE001 - the caller's objects may raise anything
            raise _invalid(name, key, _unreadable(error)) from error

    def completed(
        self, event: Any, event_id: str, record: LogRecord, bound: Bound | None
    ) -> dict[str, Any]:
        """Return a deep copy of an event with its id and with every subject and entity in it.

        Args:
            event: What the record carries.
            event_id: Its id, where it names none.
            record: The record, for the callables that make entities of it.
            bound: The subject and the entities around the log call.

        Raises:
            InvalidEvent: It is no event at all, or cannot be copied.
        """
        name = key = "event"
        try:
            definition = _definition_of(event)
            name = definition.name
            full = {
                key: value
                for key, value in event.items()
                if value is not None or (key in definition.keys and definition.keys[key].nullable)
            }
            full.setdefault("event_id", event_id)
            key = "subject"
            outer = {**self._subject, **(bound.subject if bound is not None else {})}
            if subject := {**outer, **_present(_mapping(full.get("subject", {})))}:
                full["subject"] = subject
            key = "context"
            context = [*_sequence(full.get("context", ())), *(bound.context if bound else ())]
            for entity in self._context:
                made = self._made(entity, record) if callable(entity) else entity
                if made is not None:
                    context.append(made)
            if context:
                full["context"] = [
                    {"schema": entity.schema, "data": entity.data}
                    if isinstance(entity, SelfDescribingJson)
                    else entity
                    for entity in context
                ]
            key = "event"
            return copy.deepcopy(full)
        except Refused as error:
            raise _invalid(name, key, error) from None
        except Exception as error:  # noqa: BLE001 - the caller's objects may raise anything
            self.encode(event, event_id, record, bound)  # says it better, if it refuses it too
            raise _invalid(name, key, _unreadable(error)) from error

    def _handler_entities(self, record: LogRecord) -> list[bytes]:
        written = []
        for entity in self._entities:
            if not callable(entity):
                written.append(entity)
            elif (made := self._made(entity, record)) is not None:
                written.append(_entity_json(made))
        return written

    def _made(
        self, factory: Callable[[LogRecord], Entity | None], record: LogRecord
    ) -> Entity | None:
        """Make an entity of a record; an event is worth more than the entity that failed."""
        try:
            made = factory(record)
            if made is not None:
                _entity_json(made)
        except Refused as error:
            problem = f"returned an entity whose {error.path[1:]} {error.problem}"
        except Exception as error:  # noqa: BLE001 - it is the user's code
            problem = f"raised {error!r}"
        else:
            return made
        self._report(f"{factory!r} of the handler's context {problem}; the event went without it")
        return None

    def _add_json(
        self, payload: dict[str, str], names: tuple[str, str], schema: str, data: bytes
    ) -> None:
        written = b'{"schema":"%s","data":%s}' % (schema.encode(), data)
        if self._encode_base64:
            payload[names[0]] = base64_json(written)
        else:
            payload[names[1]] = written.decode()


def _invalid(name: str, key: Any, error: Refused) -> InvalidEvent:
    # A mapping's keys may be anything, whatever their type is said to be.
    shown = key if type(key) is str else f"a key that {describe(key)}"
    return InvalidEvent(name, _brief(shown + error.path), _brief(error.problem), error.expected)


def _brief(text: str) -> str:
    """Return a text, which may quote the caller's, as any log file can hold it."""
    brief = text if len(text) <= _LONGEST_QUOTED else f"{text[:_LONGEST_QUOTED]}…"
    return brief.encode(errors="backslashreplace").decode()


def _unreadable(error: Exception) -> Refused:
    problem = f"raised {type(error).__name__} when it was read"
    return Refused(problem, "a plain value: dict, list, str, int, float, bool or None")


def _definition_of(event: Any) -> _Definition:
    if not isinstance(event, Mapping):
        expected = "a dict with the key 'event', a list of them, or an event object"
        raise Refused(describe(event), expected)
    name = event.get("event")
    if not isinstance(name, str) or name not in EVENTS:
        problem = "is missing" if name is None else describe(name)
        raise Refused(problem, nearest(name, EVENTS))
    return _definition(name)


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Refused(describe(value), "a dict")
    return value


def _sequence(value: Any) -> Sequence[Any]:
    if not isinstance(value, (list, tuple)):
        raise Refused(describe(value), "a list of entities")
    # By index, because that is how a list of `dictConfig` converts its items.
    return [value[index] for index in range(len(value))]


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _subject_payload(subject: Mapping[str, Any]) -> dict[str, str]:
    payload = {}
    for field, value in subject.items():
        known = SUBJECT_KEYS.get(field)
        shown = f".{field}" if type(field) is str else ""
        if known is None:
            raise Refused("is not a field of a subject", nearest(field, SUBJECT_KEYS), shown)
        if value is not None:
            try:
                checked = known.check(value)
            except Refused as error:
                raise Refused(error.problem, error.expected, shown + error.path) from None
            if checked != "":
                payload[known.name] = str(checked)
    return payload


def _self_describing(schema: str, data: Any, wrappers: int) -> bytes:
    return b'{"schema":"%s","data":%s}' % (schema.encode(), data_json(data, wrappers))


def _entity(entity: Any, index: int) -> bytes:
    try:
        return _entity_json(entity)
    except Refused as error:
        raise Refused(error.problem, error.expected, f"[{index}]{error.path}") from None


def _entity_json(entity: Any) -> bytes:
    if isinstance(entity, SelfDescribingJson):
        entity = vars(entity)
    if not isinstance(entity, Mapping):
        raise Refused(describe(entity), "a dict with schema and data, or a SelfDescribingJson")
    for key in entity:
        if key not in ("schema", "data"):
            problem = f"has the key {key!r}" if type(key) is str else "has a key that is no string"
            raise Refused(problem, "schema and data alone")
    path = ".schema"
    try:
        schema = schema_uri(entity.get("schema"))
        path = ".data"
        data = entity.get("data")
        if not isinstance(data, (Mapping, list, tuple)):
            raise Refused(describe(data), "a dict, as the schema wants it")
        return _self_describing(schema, data, 3)
    except Refused as error:
        raise Refused(error.problem, error.expected, path + error.path) from None


def shown(event: Any) -> dict[str, Any]:
    """Return as much of a bad event as JSON can hold, whatever it is made of."""
    left = _MOST_SHOWN

    def copied(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if depth == 0 or left < 0:
            return "…"
        if isinstance(value, Enum):
            value = value.value
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, (int, float, Decimal)):
            with suppress(Refused):  # JSON has no infinity, for one
                return number(value)
        if isinstance(value, SelfDescribingJson):
            value = vars(value)
        if isinstance(value, Mapping):
            return {str(copied(key, 1)): copied(item, depth - 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [copied(item, depth - 1) for item in value]
        return _quoted(value)

    try:
        copy = copied(event, 20)
    except Exception:  # noqa: BLE001 - it may be anything at all
        copy = f"<{type(event).__name__}>"
    return copy if isinstance(copy, dict) else {"event": copy}


def _quoted(value: Any) -> str:
    try:
        text = str.__str__(value) if isinstance(value, str) else repr(value)
    except Exception:  # noqa: BLE001 - it may be anything at all
        text = f"<{type(value).__name__}>"
    return text[:_LONGEST_SHOWN].encode(errors="backslashreplace").decode()
