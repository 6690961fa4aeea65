"""From an event to its payload: checks it by the protocol and writes it as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from logging import LogRecord
from typing import TYPE_CHECKING, Any, Final

from snowplow_logging._version import __version__
from snowplow_logging.copies import deep_copy
from snowplow_logging.definitions import Definition, definition_of, fill, put_values
from snowplow_logging.entities import (
    Entity,
    as_dict,
    entities_in,
    entities_of,
    fields_of,
    joined,
    sequence,
)
from snowplow_logging.events import InvalidEvent
from snowplow_logging.json_data import (
    JsonDefault,
    base64_json,
    data_json,
    payload_json,
    plain_json,
)
from snowplow_logging.number_types import milliseconds
from snowplow_logging.protocol import (
    CONTEXTS,
    PLATFORMS,
    UNSTRUCT_EVENT,
    Refused,
    atomic_text,
    describe,
    is_given,
    nearest,
    one_of,
    unless_empty,
    unreadable,
    uuid,
)
from snowplow_logging.subject import SUBJECT_KEYS
from snowplow_logging.surroundings import Bound
from snowplow_logging.usual_event import YEAR_5138

if TYPE_CHECKING:
    from snowplow_logging.schema_check import SchemaCheck

__all__ = ["EVENT_ID", "TRACKER", "PayloadEncoder"]

EVENT_ID: Final = slice(8, 44)
"""Where the event id stands in an encoded payload."""

TRACKER: Final = f"snowplow-logging-{__version__}"
"""The tracker's name and version, which every payload carries."""

_EVENT_ID: Final = unless_empty(uuid)
_LONGEST_QUOTED: Final = 300  # characters of a key or a value in the message of an error


class _Constant:
    """Gives an entity of the handler's for each record, so that it is checked for each.

    Args:
        entity: The entity.
        name: What it is called in a report.
    """

    def __init__(self, entity: Any, name: str) -> None:
        self._entity = entity
        self._name = name

    def __call__(self, _record: LogRecord) -> Any:
        return self._entity

    def __repr__(self) -> str:
        return self._name


class PayloadEncoder:
    """Checks events by the protocol and writes them as payloads, all but the time of sending.

    Args:
        namespace: The tracker's namespace, at most 128 characters, or None.
        app_id: The application's id, at most 255 characters, or None.
        platform: One of the protocol's platforms.
        subject: The subject of every event.
        context: Entities of every event, or callables that make one of the record.
        encode_base64: Whether self-describing data and entities are sent as base64.
        report: Told what went wrong where the event can go on without it.
        json_default: Takes what is no JSON in data and entities, and returns what is.
        tracker: The name and version of the tracker.
        schemas: Checks self-describing data and entities, if anything does.

    Raises:
        ValueError: Snowplow would refuse one of these.

    Attributes:
        usual: What is added to each event that has no subject of its own, as JSON behind a comma;
            None where entities are added as well, or nothing is sent as base64.
    """

    def __init__(
        self,
        *,
        namespace: Any,
        app_id: Any,
        platform: Any,
        subject: Mapping[str, Any] | None,
        context: Sequence[Entity | Callable[[LogRecord], Entity | None]] | None,
        encode_base64: bool,
        report: Callable[[str], None],
        json_default: JsonDefault | None = None,
        tracker: str = TRACKER,
        schemas: SchemaCheck | None = None,
    ) -> None:
        # What only the network could tell is not asked yet: it is checked with each event.
        later = schemas is not None and not schemas.refuses_at_once
        # Typed as anything, because its class comes with an extra that may not be there.
        self._schemas: Any = None if later else schemas
        self._json_default = json_default
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
                    checked = check(value)
                    if checked != "":
                        self._tracker[name] = checked
            keyword = "subject"
            given = {} if subject is None else _mapping(subject)
            self._constant = {**self._tracker, **_subject_payload(given)}
            # Plain copies: what `dictConfig` gives cannot be copied later, and may change.
            self._subject: dict[str, Any] = plain_json(given)
            self._constant_json = b"," + payload_json(self._constant)[1:]
            keyword = "context"
            self._context: list[Any] = []
            self._entities: list[bytes | Callable[[LogRecord], Entity | None]] = []
            for index, entity in enumerate([] if context is None else sequence(context)):
                keyword = f"context[{index}]"
                if callable(entity):
                    self._entities.append(entity)
                    self._context.append(entity)
                    continue
                plain = plain_json(fields_of(entity), json_default=json_default)
                written = self._entity_json(plain)
                constant = _Constant(plain, keyword) if later else None
                self._entities.append(constant or written)
                self._context.append(constant or plain)
        except Refused as error:
            message = f"{keyword}{error.path} {error.problem}; give {error.expected}"
            raise ValueError(message) from None
        self._schemas = schemas
        self.usual = self._constant_json if encode_base64 and not self._entities else None

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
        name = at = "event"
        try:
            definition = definition_of(event)
            name, at = definition.name, "created"
            payload = {"eid": event_id, "dtm": _record_time(record), "e": definition.type}
            at = ""
            own: dict[str, Any] = payload if definition.is_atomic else {}
            common = put_values(definition, event, own)
            if "event_id" in common:
                at = "event_id"
                event_id = payload["eid"] = _EVENT_ID(common[at]) or event_id
            at = ""
            fill(definition, own, event_id)
            encoded = b""
            if not definition.is_atomic:
                written = self._unstruct_json(definition, own)
                encoded = self._put_json(payload, "ue_pr", b"ue_px", written)
            if "true_timestamp" in common:
                at = "true_timestamp"
                if true_timestamp := milliseconds(common[at]):
                    payload["ttm"] = true_timestamp
            at = "context"
            written = self._contexts_json(common[at]) if at in common else b""
            around = () if bound is None else bound.context
            handlers = () if complete else self._entities
            if around or handlers:
                written = self._joined(written, around, handlers, record)
            if written:
                encoded += self._put_json(payload, "co", b"cx", written)
            at = "subject"
            if bound is None and at not in common and not complete:
                return payload_json(payload) + encoded + self._constant_json
            payload.update(self._who(bound, common.get(at), complete=complete))
            return payload_json(payload) + encoded
        except Refused as refused:
            raise _invalid(name, refused.within(at)) from None
        except Exception as error:  # the caller's objects may raise anything
            raise _invalid(name, unreadable(error).within(at)) from error

    def _data_json(self, schema: str, data: Any) -> bytes:
        """Check and write the one self-describing JSON of an event, or the list of its entities.

        All that has a schema goes through here: `data` is a mapping with `schema` and `data`, or a
        list of such.
        """
        return data_json(schema, data, self._json_default, self._report)

    def _unstruct_json(self, definition: Definition, own: dict[str, Any]) -> bytes:
        """Write the values of an event that is described by a schema."""
        described = own if definition.schema is None else {"schema": definition.schema, "data": own}
        try:
            written = self._data_json(UNSTRUCT_EVENT, described)
        except Refused as refused:
            path = refused.path.removeprefix(".data")
            raise Refused(refused.problem, refused.expected, f"data{path}") from None
        except Exception as error:  # the caller's objects may raise anything
            raise unreadable(error).within("data") from error
        # The keys of the other events were checked by their classes.
        if self._schemas is not None and definition.schema is None:
            self._schemas.check(own["schema"], own["data"], written)
        return written

    def _contexts_json(self, context: Any) -> bytes:
        """Check entities and write what holds them; nothing where there are none."""
        entities = entities_of(context)
        if not entities:
            return b""
        written = self._data_json(CONTEXTS, entities)
        if self._schemas is not None:
            self._schemas.check_entities(entities, written)
        return written

    def _entity_json(self, entity: Any) -> bytes:
        try:
            return entities_in(self._contexts_json([entity]))
        except Refused as error:
            path = error.path.removeprefix("[0]")
            raise Refused(error.problem, error.expected, path, error.loss) from None

    def _put_json(
        self, payload: dict[str, str], plain_name: str, encoded_name: bytes, written: bytes
    ) -> bytes:
        """Put self-describing JSON into a payload, or return what goes behind that: its base64.

        Base64 has no character that JSON would escape, so it need not be looked through.
        """
        if self._encode_base64:
            return b',"' + encoded_name + b'":"' + base64_json(written) + b'"'
        payload[plain_name] = written.decode()
        return b""

    def _who(self, bound: Bound | None, subject: Any, *, complete: bool) -> dict[str, str]:
        """Return tracker and subject, the more specific field over the outer."""
        outer = self._tracker if complete else self._constant
        around = {} if bound is None else _subject_payload(bound.subject)
        return {**outer, **around, **({} if subject is None else _subject_payload(subject))}

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
            definition = definition_of(event)
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
            context = [*sequence(full.get("context", ())), *(bound.context if bound else ())]
            for entity in self._context:
                if not callable(entity):
                    context.append(entity)
                elif (made := self._made(entity, record)) is not None:
                    context.append(made[0])
            if context:
                full["context"] = [*map(as_dict, context)]
            key = "event"
            return deep_copy(full)
        except Refused as refused:
            raise _invalid(name, refused.within(key)) from None
        except Exception as error:
            self.encode(event, event_id, record, bound)  # says it better, if it refuses it too
            raise _invalid(name, unreadable(error).within(key)) from error

    def _joined(
        self,
        written: bytes,
        around: Sequence[Any],
        handlers: Sequence[bytes | Callable[[LogRecord], Entity | None]],
        record: LogRecord,
    ) -> bytes:
        """Add the entities around the log call and those of the handler to the event's own."""
        entities = [entities_in(written), entities_in(self._contexts_json(around))]
        for entity in handlers:
            if not callable(entity):
                entities.append(entity)
            elif (made := self._made(entity, record)) is not None:
                entities.append(made[1])
        return joined(entities)

    def _made(
        self, factory: Callable[[LogRecord], Entity | None], record: LogRecord
    ) -> tuple[Entity, bytes] | None:
        """Make an entity of a record, and write it.

        None where it makes none, or fails: the event is worth more than the entity.
        """
        try:
            made = factory(record)
            return None if made is None else (made, self._entity_json(made))
        except Refused as refused:
            key = refused.path.lstrip(".")
            what = f"an entity whose {key}" if key else "something that"
            problem = f"returned {what} {refused.problem}"
        except Exception as error:  # noqa: BLE001 - it is the user's code
            problem = f"raised {error!r}"
        self._report(f"{factory!r} of the handler's context {problem}; the event went without it")
        return None


def _record_time(record: Any) -> str:
    created = record.created
    if type(created) is float and 0 <= created < YEAR_5138:
        return str(int(created * 1000))
    return milliseconds(created * 1000)


def _invalid(name: str, error: Refused) -> InvalidEvent:
    return InvalidEvent(name, _brief(error.path), _brief(error.problem), error.expected, error.loss)


def _brief(text: str) -> str:
    """Return a text, which may quote the caller's, as a line that any log file can hold."""
    brief = text if len(text) <= _LONGEST_QUOTED else f"{text[:_LONGEST_QUOTED]}…"
    if brief.isprintable():
        return brief
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in brief)


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Refused(describe(value), "a dict")
    return value


def _present(fields: Mapping[Any, Any]) -> dict[Any, Any]:
    # Empty text must not hide a field of an outer subject.
    return {key: value for key, value in fields.items() if is_given(value)}


def _subject_payload(subject: Any) -> dict[str, str]:
    payload = {}
    fields: Mapping[Any, Any] = _mapping(subject)
    field: Any = None
    try:
        for field, value in fields.items():
            known = SUBJECT_KEYS.get(field)
            if known is None:
                raise Refused("is not a field of a subject", nearest(field, SUBJECT_KEYS))
            if value is not None:
                checked = known.check(value)
                if checked != "":
                    payload[known.name] = checked
    except Refused as refused:
        raise refused.within(f".{field}" if type(field) is str else "") from None
    except Exception as error:
        raise unreadable(error).within(f".{field}" if type(field) is str else "") from error
    return payload
