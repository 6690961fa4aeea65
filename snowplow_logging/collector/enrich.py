"""The judging: what Snowplow would make of a request, event by event.

Written from the protocol alone and from nothing that sends events.
"""

from __future__ import annotations

import base64
import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast
from urllib.parse import urlsplit

from .protocol import (
    ATOMIC_SCHEMAS,
    CONTENT_TYPES,
    FAILED_BODY_LIMIT,
    FIELDS,
    KNOWN_NAMES,
    REQUIRED_BY_TYPE,
    REQUIRED_NAMES,
    SCHEMA_URI,
    iso_timestamp,
    read_json,
    show,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .iglu import Registry

__all__ = ["BadEvent", "CollectorPayload", "GoodEvent", "judge"]

_NAME: Final = "snowplow-logging-collector"
_PAYLOAD_SCHEMAS: Final = tuple(
    f"iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-{n}" for n in (4, 3, 2, 1, 0)
)
_UNSTRUCT_SCHEMAS: Final = ("iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0",)
_CONTEXTS_SCHEMAS: Final = (
    "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-1",
    "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0",
)
# Padding is what trackers send and what Enrich does without.
_BASE64_URL: Final = re.compile(r"[A-Za-z0-9_\-]+={0,2}")

_COLUMNS: Final = tuple(
    """
    app_id platform etl_tstamp collector_tstamp dvce_created_tstamp event event_id txn_id
    name_tracker v_tracker v_collector v_etl user_id user_ipaddress user_fingerprint domain_userid
    domain_sessionidx network_userid geo_country geo_region geo_city geo_zipcode geo_latitude
    geo_longitude geo_region_name ip_isp ip_organization ip_domain ip_netspeed page_url page_title
    page_referrer page_urlscheme page_urlhost page_urlport page_urlpath page_urlquery
    page_urlfragment refr_urlscheme refr_urlhost refr_urlport refr_urlpath refr_urlquery
    refr_urlfragment refr_medium refr_source refr_term mkt_medium mkt_source mkt_term mkt_content
    mkt_campaign contexts se_category se_action se_label se_property se_value unstruct_event
    tr_orderid tr_affiliation tr_total tr_tax tr_shipping tr_city tr_state tr_country ti_orderid
    ti_sku ti_name ti_category ti_price ti_quantity pp_xoffset_min pp_xoffset_max pp_yoffset_min
    pp_yoffset_max useragent br_name br_family br_version br_type br_renderengine br_lang
    br_features_pdf br_features_flash br_features_java br_features_director br_features_quicktime
    br_features_realplayer br_features_windowsmedia br_features_gears br_features_silverlight
    br_cookies br_colordepth br_viewwidth br_viewheight os_name os_family os_manufacturer
    os_timezone dvce_type dvce_ismobile dvce_screenwidth dvce_screenheight doc_charset doc_width
    doc_height tr_currency tr_total_base tr_tax_base tr_shipping_base ti_currency ti_price_base
    base_currency geo_timezone mkt_clickid mkt_network etl_tags dvce_sent_tstamp
    refr_domain_userid refr_dvce_tstamp derived_contexts domain_sessionid derived_tstamp
    event_vendor event_name event_format event_version event_fingerprint true_tstamp
    """.split()
)


@dataclass(frozen=True)
class CollectorPayload:
    """One request, as the collector hands it on.

    `timestamp` is in milliseconds since 1970 UTC. `body` is None for a GET. `user_id` is the
    network user id, from the cookie.
    """

    vendor: str
    version: str
    querystring: Sequence[tuple[str, str]]
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
            "querystring": [f"{name}={value}" for name, value in self.querystring],
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

    `columns` are those of the enriched event that are not null.
    """

    payload: CollectorPayload
    parameters: Mapping[str, str]
    columns: Mapping[str, Any]
    schema: str
    contexts: Sequence[str]

    def as_json(self) -> dict[str, Any]:
        """Return it in the shape of Micro's ``/micro/good``."""
        return {
            "rawEvent": _raw_event(self.payload, self.parameters),
            "eventType": self.columns["event"],
            "schema": self.schema,
            "contexts": list(self.contexts),
            "event": {
                **dict.fromkeys(_COLUMNS),
                "contexts": {},
                "derived_contexts": {},
                **self.columns,
            },
        }


@dataclass(frozen=True)
class BadEvent:
    """An event, or a whole request, that Snowplow would make a failed event.

    `parameters` are None where the request failed before its events were told apart.
    """

    payload: CollectorPayload
    parameters: Mapping[str, str] | None
    errors: Sequence[str]

    def as_json(self) -> dict[str, Any]:
        """Return it in the shape of Micro's ``/micro/bad``."""
        return {
            "collectorPayload": self.payload.as_json(),
            "rawEvent": (
                None if self.parameters is None else _raw_event(self.payload, self.parameters)
            ),
            "errors": list(self.errors),
        }


class _Content(NamedTuple):
    """What a self-describing value holds: its wire name, its own schema, its data."""

    name: str
    schema: str
    data: Any


def judge(payload: CollectorPayload, registry: Registry | None) -> list[GoodEvent | BadEvent]:
    """Judge all events of one request.

    Args:
        payload: The request.
        registry: Where schemas are looked up; None leaves data unchecked.

    Returns:
        One verdict for each event in the order of the request, or one for the request where it
        failed as a whole.
    """
    errors: list[str] = []
    if payload.body is None:
        events = [dict(payload.querystring)]
        if not payload.querystring:
            errors.append("querystring: is empty; give one event, such as '?tv=…&p=web&e=pv&url=…'")
    else:
        events = _read_body(payload, errors)
    if errors:
        return [BadEvent(payload, None, errors)]
    return [_Judgement(payload, event).verdict(registry) for event in events]


def _raw_event(payload: CollectorPayload, parameters: Mapping[str, str]) -> dict[str, Any]:
    return {**payload.describe(), "parameters": dict(parameters)}


def _read_body(payload: CollectorPayload, errors: list[str]) -> list[dict[str, str]]:
    body = cast("bytes", payload.body)
    if len(body) > FAILED_BODY_LIMIT:
        errors.append(
            f"body: has {len(body)} bytes, and Snowplow takes {FAILED_BODY_LIMIT}; "
            "send fewer events in one request"
        )
        return []
    if payload.content_type not in CONTENT_TYPES:
        sent = "is missing" if payload.content_type is None else f"is {show(payload.content_type)}"
        errors.append(
            f"Content-Type: {sent}; give exactly one of "
            + ", ".join(f"'{content_type}'" for content_type in CONTENT_TYPES)
        )
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        errors.append(f"body: is not UTF-8 ({error}); send JSON in UTF-8, not compressed")
        return []
    content = _open("body", text, _PAYLOAD_SCHEMAS, errors)
    if errors or content is None:
        return []
    events = content.data
    if not isinstance(events, list) or not events:
        errors.append(f"body: data is {show(events)}; give an array of at least one event")
        return []
    for number, event in enumerate(events, 1):
        where = f"body: event {number} of {len(events)}"
        errors.extend(f"{where}: {problem}" for problem in _payload_problems(event))
    # As in Enrich, what the query string says goes for every event of the body.
    return [] if errors else [{**event, **dict(payload.querystring)} for event in events]


def _payload_problems(event: object) -> list[str]:
    """Check one event of a body as the schema ``payload_data`` 1-0-4 does."""
    if not isinstance(event, dict):
        return [f"is {show(event)}; give an object of names and strings"]
    problems = [
        f"{name} is missing; every event needs {', '.join(REQUIRED_NAMES)}"
        for name in REQUIRED_NAMES
        if name not in event
    ]
    for name, value in event.items():
        if name not in KNOWN_NAMES:
            problems.append(f"{show(name)} is no name of the protocol; leave it out")
        if not isinstance(value, str):
            problems.append(f"{name} is {show(value)}; give a JSON string")
    return problems


def _open(name: str, text: str, schemas: Sequence[str], errors: list[str]) -> _Content | None:
    """Read a self-describing JSON that has to have one of some schemas."""
    try:
        value = read_json(text)
    except ValueError as error:
        errors.append(f"{name}: {error}")
        return None
    if not isinstance(value, dict) or value.keys() != {"schema", "data"}:
        errors.append(
            f"{name}: is {show(value)}; give an object of just 'schema' and 'data', "
            f"the schema being '{schemas[0]}'"
        )
        return None
    if value["schema"] not in schemas:
        errors.append(f"{name}: schema is {show(value['schema'])}; give '{schemas[0]}'")
        return None
    return _Content(name, value["schema"], value["data"])


class _Judgement:
    """One event on its way to a verdict, with all that is found wrong with it."""

    def __init__(self, payload: CollectorPayload, parameters: dict[str, str]) -> None:
        self.payload = payload
        self.parameters = parameters
        # An empty string counts as absent.
        self.given = {name: value for name, value in parameters.items() if value}
        self.columns: dict[str, Any] = {}
        self.errors: list[str] = []

    def verdict(self, registry: Registry | None) -> GoodEvent | BadEvent:
        """Return what Snowplow would make of the event."""
        self._read_fields()
        self._require_names()
        unstruct = self._read_json("ue_px", "ue_pr", _UNSTRUCT_SCHEMAS)
        contexts = self._read_json("cx", "co", _CONTEXTS_SCHEMAS)
        if unstruct:
            self._check(unstruct.name, unstruct.data, registry)
        if contexts and not isinstance(contexts.data, list):
            self.errors.append(
                f"{contexts.name}: data is {show(contexts.data)}; give an array of entities"
            )
        elif contexts:
            if not contexts.data and contexts.schema == _CONTEXTS_SCHEMAS[1]:
                self.errors.append(f"{contexts.name}: data is empty; give at least one entity")
            for number, entity in enumerate(contexts.data, 1):
                self._check(f"{contexts.name}: entity {number}", entity, registry)
        if self.errors:
            return BadEvent(self.payload, self.parameters, self.errors)

        # Without errors an event of type ue has its data; one of another type may carry some too.
        schema = ATOMIC_SCHEMAS.get(self.given["e"]) or cast("_Content", unstruct).data["schema"]
        self._finish(schema)
        for column, content in ("unstruct_event", unstruct), ("contexts", contexts):
            if content:
                self.columns[column] = {"schema": content.schema, "data": content.data}
        entities = contexts.data if contexts else []
        return GoodEvent(
            self.payload,
            self.parameters,
            self.columns,
            schema,
            [entity["schema"] for entity in entities],
        )

    def _read_fields(self) -> None:
        for name, value in self.given.items():
            if name in FIELDS:
                columns, problems = FIELDS[name].check(value)
                self.columns.update(columns)
                self.errors.extend(f"{name}: {problem}" for problem in problems)

    def _require_names(self) -> None:
        kind = self.given.get("e", "")
        for name in REQUIRED_NAMES:
            if name not in self.given:
                self.errors.append(
                    f"{name}: is missing; every event needs {', '.join(REQUIRED_NAMES)}"
                )
        for name in REQUIRED_BY_TYPE.get(kind, ()):
            if name not in self.given:
                needed = ", ".join(REQUIRED_BY_TYPE[kind])
                self.errors.append(f"{name}: is missing; an event of type {kind} needs {needed}")
        if kind == "ue" and not self.given.keys() & {"ue_px", "ue_pr"}:
            self.errors.append("ue_px: is missing; an event of type ue needs ue_px or ue_pr")

    def _read_json(self, encoded: str, plain: str, schemas: Sequence[str]) -> _Content | None:
        """Return what one of two names holds, base64 under the first, plain under the second."""
        if encoded in self.given and plain in self.given:
            self.errors.append(f"{plain}: is given beside {encoded}; give one of them")
            return None
        text = self.given.get(plain)
        name = encoded if text is None else plain
        if text is None and encoded in self.given:
            value = self.given[encoded]
            bare = value.rstrip("=")
            try:
                if _BASE64_URL.fullmatch(value):
                    text = base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4)).decode()
            except ValueError:
                text = None
            if text is None:
                self.errors.append(
                    f"{encoded}: {show(value)} is not URL-safe base64 of UTF-8 text; "
                    "encode the JSON in UTF-8, then with base64.urlsafe_b64encode"
                )
        if text is None:
            return None
        return _open(name, text, schemas, self.errors)

    def _check(self, where: str, value: Any, registry: Registry | None) -> None:
        """Check an event or entity: its form, and its data where there is a registry."""
        if not isinstance(value, dict) or value.keys() != {"schema", "data"}:
            self.errors.append(
                f"{where}: holds {show(value)}; give an object of just 'schema' and 'data'"
            )
        elif not isinstance(value["schema"], str) or not SCHEMA_URI.fullmatch(value["schema"]):
            self.errors.append(
                f"{where}: schema is {show(value['schema'])}; "
                "give 'iglu:VENDOR/NAME/jsonschema/MODEL-REVISION-ADDITION'"
            )
        elif registry:
            self.errors.extend(
                f"{where}: {problem}" for problem in registry.check(value["schema"], value["data"])
            )

    def _finish(self, schema: str) -> None:
        """Add what Enrich works out for itself."""
        payload, columns = self.payload, self.columns
        collected = payload.timestamp
        created = columns.get("dvce_created_tstamp", collected)
        sent = columns.get("dvce_sent_tstamp", created)
        derived = columns.get("true_tstamp", collected)
        # An event sent before it was recorded says nothing about the device's clock: Enrich
        # then keeps the collector's time.
        if "true_tstamp" not in columns and "dvce_created_tstamp" in columns:
            derived = collected - max(sent - created, 0)
        for column in "dvce_created_tstamp", "dvce_sent_tstamp", "true_tstamp":
            if column in columns:
                columns[column] = iso_timestamp(columns[column])
        match = cast("re.Match[str]", SCHEMA_URI.fullmatch(schema))
        columns.update({f"event_{part}": text for part, text in match.groupdict().items()})
        columns.update(
            {
                "collector_tstamp": iso_timestamp(collected),
                "etl_tstamp": iso_timestamp(collected),
                "derived_tstamp": iso_timestamp(derived),
                "v_collector": _NAME,
                "v_etl": _NAME,
            }
        )
        for column, value in (
            ("event_id", str(uuid.uuid4())),
            ("user_ipaddress", payload.ip_address),
            ("useragent", payload.useragent),
            ("network_userid", self.given.get("nuid", payload.user_id)),
            ("user_fingerprint", self.given.get("fp")),
            ("doc_charset", self.given.get("cs")),
        ):
            columns.setdefault(column, value)
        for column, prefix in ("page_url", "page_url"), ("page_referrer", "refr_url"):
            if column in columns:
                columns.update(_url_parts(columns[column], prefix))


def _url_parts(url: str, prefix: str) -> dict[str, Any]:
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return {}
    return {
        f"{prefix}scheme": parts.scheme or None,
        f"{prefix}host": parts.hostname,
        f"{prefix}port": port,
        f"{prefix}path": parts.path or None,
        f"{prefix}query": parts.query or None,
        f"{prefix}fragment": parts.fragment or None,
    }
