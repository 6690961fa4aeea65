"""Entities: what is taken as one, and the JSON that holds those of an event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from snowplow_logging.events import SelfDescribingJson
from snowplow_logging.json_data import self_describing
from snowplow_logging.protocol import (
    CONTEXTS,
    Check,
    Refused,
    describe,
    is_schema_uri,
    schema_uri,
    unreadable,
)
from snowplow_logging.python_types import is_single, members

__all__ = ["Entity", "as_dict", "entities_in", "entities_of", "fields_of", "joined", "sequence"]

Entity: TypeAlias = SelfDescribingJson | Mapping[str, Any]
"""What is taken as an entity; a mapping has the keys `schema` and `data`.

So is an object with these two fields, of a dataclass, attrs, pydantic or msgspec.
"""

_START: Final = self_describing(CONTEXTS, b"[")[:-1]
_END: Final = b"]}"


def sequence(value: Any) -> list[Any]:
    """Return entities that were given as a list.

    Raises:
        Refused: They are no list.
    """
    if type(value) is list:
        plain: list[Any] = value
        return plain
    if not isinstance(value, (list, tuple)):
        raise Refused(describe(value), "a list of entities")
    # By index, because that is how a list of `dictConfig` converts its items.
    return [value[index] for index in range(len(value))]


def entities_of(context: Any) -> list[Any]:
    """Return entities as mappings with a good schema; their data is still to be checked."""
    entities: list[Any] = []
    fields: Mapping[Any, Any]
    given = sequence(context)
    try:
        for entity in given:
            if type(entity) is dict:
                plain: dict[Any, Any] = entity
                schema, data, count = plain.get("schema"), plain.get("data"), len(plain)
                fields = plain
            else:
                fields = fields_of(entity)
                schema, data, count = fields.get("schema"), fields.get("data"), len(fields)
            if count > 2:
                key = next(key for key in fields if key not in ("schema", "data"))
                what = f"the key {key!r}" if type(key) is str else "a key that is no string"
                raise Refused(f"has {what}", "schema and data alone")
            if not (type(schema) is str and is_schema_uri(schema)):
                fields = {"schema": _checked(".schema", schema_uri, schema), "data": data}
            if type(data) is not dict and is_single(data):
                raise Refused(describe(data), "a dict, as the schema wants it", ".data")
            entities.append(fields)
    except Refused as error:
        raise error.within(f"[{len(entities)}]") from None
    return entities


def entities_in(written: bytes) -> bytes:
    """Return the entities alone, of the JSON that holds them."""
    return written[len(_START) : -len(_END)]


def joined(parts: Sequence[bytes]) -> bytes:
    """Return the JSON that holds entities which are written; nothing where there are none."""
    together = b",".join(filter(None, parts))
    return together and b"%b%b%b" % (_START, together, _END)


def as_dict(entity: Any) -> Any:
    """Return an entity as a dict; what is none as it is, for the check to refuse."""
    try:
        return entity if type(entity) is dict else {**fields_of(entity)}
    except Refused:
        return entity


def fields_of(entity: Any) -> Mapping[str, Any]:
    """Return an entity as a mapping, what it holds as it is.

    Raises:
        Refused: It is nothing that is taken as one.
    """
    if isinstance(entity, SelfDescribingJson):
        return vars(entity)
    fields = entity if isinstance(entity, Mapping) else members(entity)
    if not isinstance(fields, Mapping):
        expected = "a dict with schema and data, a SelfDescribingJson or an object that has both"
        raise Refused(describe(entity), expected)
    return fields


def _checked(key: str, check: Check, value: Any) -> Any:
    try:
        return check(value)
    except Refused as refused:
        raise refused.within(key) from None
    except Exception as error:  # the caller's objects may raise anything
        raise unreadable(error).within(key) from error
