"""The judging: what Snowplow would make of a request, event by event.

Written from the protocol and from what Enrich does, and from nothing that sends events: two that
came to a rule on their own confirm each other.
"""

from __future__ import annotations

import base64
import re
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from .adapter import open_envelope, read_events
from .circe_json import read_json, rewrite_members
from .columns import COLUMNS, json_value, too_long
from .java_text import decode_utf8, printed, tsv_safe
from .protocol import (
    ATOMIC_SCHEMAS,
    FIELDS,
    OVERRULED,
    SCHEMA_URI,
    format_time,
    iso_timestamp,
    read_time,
    show,
)
from .urls import columns_of_url, find_parameter, parse_query, read_url

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .iglu import Registry
    from .java_uri import JavaUri

__all__ = ["BadEvent", "CollectorPayload", "GoodEvent", "judge"]

_NAME: Final = "snowplow-logging-collector"
_UNSTRUCT_SCHEMAS: Final = ("iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0",)
_CONTEXTS_SCHEMAS: Final = (
    "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-1",
    "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0",
)
_NO_BASE64: Final = re.compile(r"[^A-Za-z0-9+/]+")


@dataclass(frozen=True)
class CollectorPayload:
    """One request, as the collector hands it on.

    `querystring` is as raw as it came. `timestamp` is in milliseconds since 1970 UTC. `body` is
    None for a GET. `user_id` is the network user id, from the cookie.
    """

    vendor: str
    version: str
    querystring: str
    content_type: str | None
    body: bytes | None
    hostname: str
    timestamp: int
    ip_address: str
    useragent: str | None
    referer: str | None
    headers: Sequence[str]
    user_id: str

    def as_json(self) -> dict[str, Any]:
        """Return it in the shape of Micro's ``collectorPayload``."""
        return {
            **self.describe(),
            "querystring": [
                name if value is None else f"{name}={value}"
                for name, value in parse_query(self.querystring)
            ],
            "body": None if self.body is None else self.body.decode("utf-8", "replace"),
        }

    def describe(self) -> dict[str, Any]:
        """Return what Micro's ``collectorPayload`` and ``rawEvent`` have in common."""
        return {
            "api": {"vendor": self.vendor, "version": self.version},
            "contentType": self.content_type,
            "source": {"name": _NAME, "encoding": "UTF-8", "hostname": self.hostname},
            "context": {
                "timestamp": iso_timestamp(self.timestamp),
                "ipAddress": self.ip_address,
                "useragent": self.useragent,
                "refererUri": self.referer,
                "headers": list(self.headers),
                "userId": self.user_id,
            },
        }


@dataclass(frozen=True)
class GoodEvent:
    """An event that Snowplow would load.

    `columns` are those of the enriched event that are not null, as the text that Enrich writes.
    `schema` is None for a self-describing event without its data, which Enrich lets through.
    """

    payload: CollectorPayload
    parameters: Mapping[str, str]
    columns: Mapping[str, str]
    schema: str | None
    contexts: Sequence[str]

    def as_json(self) -> dict[str, Any]:
        """Return it in the shape of Micro's ``/micro/good``."""
        return {
            "rawEvent": _raw_event(self.payload, self.parameters),
            "eventType": self.columns["event"],
            "schema": self.schema,
            "contexts": list(self.contexts),
            "event": {
                **dict.fromkeys(COLUMNS),
                "contexts": {},
                "derived_contexts": {},
                **{column: json_value(column, text) for column, text in self.columns.items()},
            },
        }


@dataclass(frozen=True)
class BadEvent:
    """An event, or a whole request, that Snowplow would make a failed event.

    `parameters` are None where the request failed before its events were told apart. `columns`
    are those of the enriched event as far as it could be enriched.
    """

    payload: CollectorPayload
    parameters: Mapping[str, str] | None
    errors: Sequence[str]
    columns: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it in the shape of Micro's ``/micro/bad``."""
        return {
            "collectorPayload": self.payload.as_json(),
            "rawEvent": (
                None if self.parameters is None else _raw_event(self.payload, self.parameters)
            ),
            "errors": list(self.errors),
        }


def judge(payload: CollectorPayload, registry: Registry | None) -> list[GoodEvent | BadEvent]:
    """Judge all events of one request.

    Args:
        payload: The request.
        registry: Where schemas are looked up; None leaves data unchecked.

    Returns:
        One verdict for each event in the order of the request, or one for the request where it
        failed as a whole.
    """
    events, errors = read_events(payload.querystring, payload.body, payload.content_type)
    if errors:
        return [BadEvent(payload, None, errors)]
    return [_Judgement(payload, event).verdict(registry) for event in events]


def _raw_event(payload: CollectorPayload, parameters: Mapping[str, str]) -> dict[str, Any]:
    return {**payload.describe(), "parameters": dict(parameters)}


class _Judgement:
    """One event on its way to a verdict, with all that is found wrong with it."""

    def __init__(self, payload: CollectorPayload, parameters: dict[str, str]) -> None:
        self._payload = payload
        self._parameters = parameters
        self._columns: dict[str, str | None] = {
            "event_id": str(uuid.uuid4()),
            "v_collector": _NAME,
            "v_etl": _NAME,
            "collector_tstamp": format_time(payload.timestamp),
            "etl_tstamp": format_time(payload.timestamp),
            "network_userid": payload.user_id,
            "user_ipaddress": payload.ip_address,
            "useragent": payload.useragent and payload.useragent.replace("\t", "    "),
        }
        self._errors: list[str] = []
        # What errors call the page's URL: the name, or the header that stands in for it.
        self._page = "url"

    def verdict(self, registry: Registry | None) -> GoodEvent | BadEvent:
        """Return what Snowplow would make of the event."""
        self._read_fields()
        schema = self._read_unstruct(registry)
        entities = self._read_contexts(registry)
        self._read_page()
        self._read_url("refr", self._columns.get("page_referrer"), "refr_url")
        self._name_schema(schema)
        self._derive_time()
        columns = {name: text for name, text in self._columns.items() if text}
        for column, problem in too_long(columns):
            self._fail(self._source(column), problem)
        columns = {name: printed(text) for name, text in columns.items()}
        if self._errors:
            return BadEvent(self._payload, self._parameters, self._errors, columns)
        return GoodEvent(
            self._payload,
            self._parameters,
            columns,
            ATOMIC_SCHEMAS.get(columns["event"], schema),
            entities,
        )

    def _fail(self, name: str, problem: object) -> None:
        self._errors.append(f"{name}: {problem}")

    def _source(self, column: str) -> str:
        """Return what an error calls a column: the name that filled it, where there is one."""
        if column == "page_url":
            return self._page
        for name in self._parameters:
            if name in FIELDS and column in FIELDS[name].columns and self._counts(name):
                return name
        if column.startswith("refr_url"):
            return f"refr: {column}"
        if column.startswith(("page_url", "refr_")):
            return f"{self._page}: {column}"
        return column

    def _counts(self, name: str) -> bool:
        return OVERRULED.get(name) not in self._parameters

    def _read_fields(self) -> None:
        for name, value in self._parameters.items():
            if name not in FIELDS:
                continue
            try:
                filled = FIELDS[name].fill(value)
            except ValueError as error:
                self._fail(name, error)
                continue
            if self._counts(name):
                self._columns.update(filled)
        if "e" not in self._parameters:
            self._fail("e", "is missing; give one of pv, pp, se, ue, tr, ti")
        if self._columns.get("event") == "ad_impression":
            self._fail(
                "e", "'ad' is not an event type with a schema; give one of pv, pp, se, ue, tr, ti"
            )

    def _read_unstruct(self, registry: Registry | None) -> str | None:
        """Read the data of a self-describing event, and return its schema."""
        opened = self._open("unstruct_event", "ue_px", "ue_pr", _UNSTRUCT_SCHEMAS)
        if not opened:
            return None
        name, _, data = opened
        return self._check(name, data, registry)

    def _read_contexts(self, registry: Registry | None) -> list[str]:
        """Read the entities, and return their schemas."""
        opened = self._open("contexts", "cx", "co", _CONTEXTS_SCHEMAS)
        if not opened:
            return []
        name, schema, entities = opened
        if not isinstance(entities, list):
            self._fail(name, f"data is {show(entities)}; give an array of entities")
            return []
        if not entities and schema == _CONTEXTS_SCHEMAS[1]:
            self._fail(name, "data is empty; give at least one entity")
        checked = [
            self._check(f"{name}: entity {number}", entity, registry)
            for number, entity in enumerate(entities, 1)
        ]
        return [schema for schema in checked if schema]

    def _open(
        self, column: str, encoded: str, plain: str, schemas: Sequence[str]
    ) -> tuple[str, str, Any] | None:
        """Open what one of two names holds, base64 under the first, plain under the second.

        Where both are given, both have to be JSON, and the first one counts.

        Returns:
            The name, the schema of the envelope, and what is in it.
        """
        found: tuple[str, str, Any] | None = None
        for name in (plain, encoded):
            sent = self._parameters.get(name)
            if sent is None:
                continue
            text = _decode_base64(sent) if name == encoded else sent
            try:
                found = name, text, read_json(text)
            except ValueError as error:
                form = ", encoded by base64.urlsafe_b64encode" if name == encoded else ""
                self._fail(name, f"{error}{form}")
                found = None
        if not found:
            return None
        name, text, value = found
        try:
            schema, data = open_envelope(value, schemas)
        except ValueError as error:
            self._fail(name, error)
            return None
        self._columns[column] = rewrite_members(text, ("schema", "data"))
        return name, schema, data

    def _check(self, where: str, value: Any, registry: Registry | None) -> str | None:
        """Check an event or entity: its form, and its data where there is a registry.

        Returns:
            Its schema, unless it has none.
        """
        if not isinstance(value, dict) or value.keys() != {"schema", "data"}:
            self._fail(where, f"holds {show(value)}; give an object of just 'schema' and 'data'")
            return None
        schema = value["schema"]
        if not isinstance(schema, str) or not SCHEMA_URI.fullmatch(schema):
            self._fail(
                where,
                f"schema is {show(schema)}; give 'iglu:VENDOR/NAME/jsonschema/"
                "MODEL-REVISION-ADDITION'",
            )
            return None
        if registry:
            for problem in registry.check(schema, value["data"]):
                self._fail(where, problem)
        return schema

    def _read_page(self) -> None:
        text = self._columns.get("page_url")
        if not text:
            self._page, text = "Referer", self._payload.referer
        url = self._read_url(self._page, text, "page_url")
        if url:
            self._columns["page_url"] = url.text
            self._read_cross_domain(url)

    def _read_url(self, name: str, text: str | None, prefix: str) -> JavaUri | None:
        if not text:
            return None
        try:
            url = read_url(text)
        except ValueError as error:
            why = ", and stands in for url; give that" if name == "Referer" else "; give a URL"
            self._fail(name, f"{show(text)} {error}{why}")
            return None
        self._columns.update(columns_of_url(url, prefix))
        return url

    def _read_cross_domain(self, page: JavaUri) -> None:
        """Read the mark that a link from another domain leaves in a page's URL."""
        mark = find_parameter(page, "_sp")
        if not mark:
            return
        parts = mark.rstrip(".").split(".")
        if parts == [""]:
            self._fail(self._page, f"_sp is {show(mark)}, over which Enrich falls; leave it out")
            return
        self._columns["refr_domain_userid"] = tsv_safe(parts[0])
        if len(parts) > 1:
            try:
                self._columns["refr_dvce_tstamp"] = format_time(read_time(parts[1]))
            except ValueError as error:
                self._fail(self._page, f"_sp is {show(mark)}, in which {error}")

    def _name_schema(self, unstruct: str | None) -> None:
        schema = ATOMIC_SCHEMAS.get(self._columns.get("event") or "")
        if not schema and self._columns.get("event") == "unstruct":
            schema = unstruct
        match = SCHEMA_URI.fullmatch(schema) if schema else None
        if match:
            self._columns.update(
                {f"event_{part}": text for part, text in match.groupdict().items()}
            )

    def _derive_time(self) -> None:
        true = self._columns.get("true_tstamp")
        created, sent = (self._columns.get(f"dvce_{what}_tstamp") for what in ("created", "sent"))
        derived = self._payload.timestamp
        # An event sent before it was recorded says nothing about the device's clock: Enrich
        # then keeps the collector's time.
        if created and sent and created < sent:
            derived -= read_time(self._parameters["stm"]) - read_time(self._parameters["dtm"])
        self._columns["derived_tstamp"] = true or format_time(derived)


def _decode_base64(text: str) -> str:
    """Decode base64 as Apache's commons-codec does, which refuses nothing.

    Both alphabets are read, padding ends the text and may be missing, and any other character
    is passed over, as are bits left at the end.
    """
    digits = _NO_BASE64.sub("", text.partition("=")[0].replace("-", "+").replace("_", "/"))
    if len(digits) % 4 == 1:
        digits = digits[:-1]
    return decode_utf8(base64.b64decode(digits + "=" * (-len(digits) % 4)))
