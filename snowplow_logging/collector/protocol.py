"""The Snowplow Tracker Protocol as Enrich reads it: names, types and the columns they fill.

Every reader below takes the text of one value and returns what the enriched event gets, as text,
None for a column that stays null. It raises `ValueError` with the end of a sentence that begins
with the wire name.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from .java_text import decimal_text, parse_integer, tsv_safe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "ATOMIC_SCHEMAS",
    "BODY_LIMIT",
    "CONTENT_TYPES",
    "FAILED_BODY_LIMIT",
    "FIELDS",
    "HEADERS_LIMIT",
    "OVERRULED",
    "PAYLOAD_NAMES",
    "REQUEST_LINE_LIMIT",
    "REQUIRED_NAMES",
    "SCHEMA_URI",
    "Field",
    "format_time",
    "iso_timestamp",
    "read_time",
    "show",
]

REQUEST_LINE_LIMIT: Final = 20_480
"""The longest request line in bytes (protocol: 20,480); a longer one is answered 414."""

HEADERS_LIMIT: Final = 40_960
"""All headers together in bytes (protocol: 40,960); more are answered 431."""

BODY_LIMIT: Final = 2_097_152
"""The largest body in bytes (protocol: 2,097,152); a larger one is answered 413."""

FAILED_BODY_LIMIT: Final = 1_048_576
"""The largest body in bytes that is read at all (protocol: 1,048,576).

A larger one is answered 200 and becomes one failed event.
"""

CONTENT_TYPES: Final = (
    "application/json",
    "application/json; charset=utf-8",
    "application/json; charset=UTF-8",
)
"""The only values of ``Content-Type`` that Enrich takes, letter by letter."""

SCHEMA_URI: Final = re.compile(
    r"iglu:(?P<vendor>[a-zA-Z0-9\-_.]+)/(?P<name>[a-zA-Z0-9\-_]+)/(?P<format>[a-zA-Z0-9\-_]+)"
    r"/(?P<version>[1-9][0-9]*-(?:0|[1-9][0-9]*)-(?:0|[1-9][0-9]*))"
)
"""An Iglu schema URI, to be matched in full. No part of a version may lead with a zero."""

ATOMIC_SCHEMAS: Final = MappingProxyType(
    {
        "page_view": "iglu:com.snowplowanalytics.snowplow/page_view/jsonschema/1-0-0",
        "page_ping": "iglu:com.snowplowanalytics.snowplow/page_ping/jsonschema/1-0-0",
        "struct": "iglu:com.google.analytics/event/jsonschema/1-0-0",
        "transaction": "iglu:com.snowplowanalytics.snowplow/transaction/jsonschema/1-0-0",
        "transaction_item": "iglu:com.snowplowanalytics.snowplow/transaction_item/jsonschema/1-0-0",
    }
)
"""The schema that Enrich gives an event which does not bring its own, by the event's type."""

REQUIRED_NAMES: Final = ("tv", "p", "e")
"""What every event of a body has to carry, be it empty."""

# 'ev' and 'ad' are of old trackers; Enrich still reads both, and then fails every 'ad'.
_EVENT_TYPES: Final = MappingProxyType(
    {
        "pv": "page_view",
        "pp": "page_ping",
        "se": "struct",
        "ev": "struct",
        "ue": "unstruct",
        "tr": "transaction",
        "ti": "transaction_item",
        "ad": "ad_impression",
    }
)
_PLATFORMS: Final = ("web", "iot", "app", "mob", "pc", "cnsl", "tv", "srv", "headset")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DIMENSIONS: Final = re.compile(r"([0-9]+)x([0-9]+)")
_ADDRESS_SEPARATOR: Final = re.compile(r"[,| ]")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FIRST_MS: Final = -62_167_219_200_000  # 0000-01-01T00:00:00.000Z
_YEAR_ONE_MS: Final = -62_135_596_800_000
_LAST_MS: Final = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z
_400_YEARS_MS: Final = 146_097 * 86_400_000
_SHOWN: Final = 80


def show(value: object) -> str:
    """Return a value as an error message quotes it: escaped, and cut where it is long."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    quoted = repr(text) if isinstance(value, str) else text
    return quoted if len(quoted) <= _SHOWN else f"{quoted[:_SHOWN]}… ({len(text)} characters)"


def format_time(milliseconds: int) -> str | None:
    """Return a time as a column holds it, ``2026-04-01 12:00:00.000``.

    Args:
        milliseconds: Milliseconds since 1970 UTC.

    Returns:
        The text, or None outside the years 0 to 9999.
    """
    if not _FIRST_MS <= milliseconds <= _LAST_MS:
        return None
    # Python's calendar has no year 0; the Gregorian one repeats itself every 400 years.
    years = 400 if milliseconds < _YEAR_ONE_MS else 0
    moment = _EPOCH + timedelta(milliseconds=milliseconds + (_400_YEARS_MS if years else 0))
    return f"{moment.year - years:04}-{moment:%m-%d %H:%M:%S}.{moment.microsecond // 1000:03}"


def iso_timestamp(milliseconds: int) -> str | None:
    """Return a time as Micro's JSON writes it, ``2026-04-01T12:00:00.000Z``.

    Args:
        milliseconds: Milliseconds since 1970 UTC.

    Returns:
        The text, or None outside the years 0 to 9999.
    """
    text = format_time(milliseconds)
    return text and text.replace(" ", "T") + "Z"


def read_time(value: str) -> int:
    """Read a time in milliseconds since 1970 UTC.

    Args:
        value: The text of a whole number.

    Returns:
        The milliseconds.

    Raises:
        ValueError: It is no whole number, or none of the years 0 to 9999.
    """
    try:
        number = parse_integer(value, 64)
    except ValueError:
        number = _LAST_MS + 1
    if not _FIRST_MS <= number <= _LAST_MS:
        message = (
            f"{show(value)} is not a time; give whole milliseconds since 1970 UTC, year 0 to 9999"
        )
        raise ValueError(message)
    return number


def _read_milliseconds(value: str) -> str | None:
    return format_time(read_time(value))


def _read_integer(value: str) -> str | None:
    if value.lower() == "null":
        return None
    try:
        return str(parse_integer(value))
    except ValueError:
        message = f"{show(value)} is not an int; give a decimal 32-bit integer with no fraction"
        raise ValueError(message) from None


def _read_decimal(value: str) -> str | None:
    if value.lower() == "null":
        return None
    try:
        return decimal_text(value)
    except ValueError:
        message = (
            f"{show(value)} is not a decimal; give a number such as '9.90', never NaN or Infinity"
        )
        raise ValueError(message) from None


def _read_flag(value: str) -> str:
    if value not in {"0", "1"}:
        message = f"{show(value)} is not a flag; give '1' or '0'"
        raise ValueError(message)
    return value


def _read_uuid(value: str) -> str:
    if not _UUID.fullmatch(value):
        message = (
            f"{show(value)} is not a UUID; give the canonical form, "
            "such as '5e11d0cf-3a3f-4c5c-9a8b-4d4f8f5ad0f2'"
        )
        raise ValueError(message)
    return value.lower()


def _read_dimensions(value: str) -> tuple[str, str]:
    match = _DIMENSIONS.fullmatch(value)
    if match:
        try:
            return str(parse_integer(match[1])), str(parse_integer(match[2]))
        except ValueError:
            pass
    message = f"{show(value)} is not a size; give WIDTHxHEIGHT in pixels, such as '1920x1080'"
    raise ValueError(message)


def _read_address(value: str) -> str | None:
    first, *others = _ADDRESS_SEPARATOR.split(value)
    if others and not first and not any(others):
        message = (
            f"{show(value)} holds nothing but separators, over which Enrich falls (up to 6.9); "
            "leave it out"
        )
        raise ValueError(message)
    return tsv_safe(first)


def _read_platform(value: str) -> str:
    if value not in _PLATFORMS:
        message = f"{show(value)} is not a platform; give one of {', '.join(_PLATFORMS)}"
        raise ValueError(message)
    return value


def _read_event_type(value: str) -> str:
    if value not in _EVENT_TYPES:
        message = f"{show(value)} is not an event type; give one of pv, pp, se, ue, tr, ti"
        raise ValueError(message)
    return _EVENT_TYPES[value]


class Field(NamedTuple):
    """One name of the protocol: how its value is read, and the columns that it fills.

    There are two columns where one value holds two.
    """

    columns: tuple[str, ...]
    read: Callable[[str], str | tuple[str, str] | None]

    def fill(self, value: str) -> dict[str, str | None]:
        """Read one value.

        Args:
            value: The value as sent.

        Returns:
            The columns of the enriched event that it fills.

        Raises:
            ValueError: The value is bad; the message is the end of a sentence that begins with
                the name.
        """
        result = self.read(value)
        values = result if isinstance(result, tuple) else (result,)
        return dict(zip(self.columns, values, strict=True))


def _fields(read: Callable[[str], str | tuple[str, str] | None], text: str) -> dict[str, Field]:
    """Read lines of a name and its columns."""
    words = (line.split() for line in text.strip().splitlines())
    return {name: Field(tuple(columns), read) for name, *columns in words}


FIELDS: Final[Mapping[str, Field]] = MappingProxyType(
    {
        "e": Field(("event",), _read_event_type),
        "p": Field(("platform",), _read_platform),
        "ip": Field(("user_ipaddress",), _read_address),
        **_fields(
            tsv_safe,
            """
            aid app_id
            tv v_tracker
            tna name_tracker
            cv v_collector
            uid user_id
            duid domain_userid
            nuid network_userid
            tnuid network_userid
            fp user_fingerprint
            ua useragent
            lang br_lang
            cd br_colordepth
            tz os_timezone
            cs doc_charset
            url page_url
            page page_title
            refr page_referrer
            se_ca se_category
            se_ac se_action
            se_la se_label
            se_pr se_property
            ev_ca se_category
            ev_ac se_action
            ev_la se_label
            ev_pr se_property
            tr_id tr_orderid
            tr_af tr_affiliation
            tr_ci tr_city
            tr_st tr_state
            tr_co tr_country
            tr_cu tr_currency
            ti_id ti_orderid
            ti_sk ti_sku
            ti_na ti_name
            ti_nm ti_name
            ti_ca ti_category
            ti_cu ti_currency
            """,
        ),
        **_fields(
            _read_integer,
            """
            tid txn_id
            vid domain_sessionidx
            pp_mix pp_xoffset_min
            pp_max pp_xoffset_max
            pp_miy pp_yoffset_min
            pp_may pp_yoffset_max
            ti_qu ti_quantity
            """,
        ),
        **_fields(
            _read_decimal,
            """
            se_va se_value
            ev_va se_value
            tr_tt tr_total
            tr_tx tr_tax
            tr_sh tr_shipping
            ti_pr ti_price
            """,
        ),
        **_fields(
            _read_milliseconds,
            """
            dtm dvce_created_tstamp
            stm dvce_sent_tstamp
            ttm true_tstamp
            """,
        ),
        **_fields(
            _read_uuid,
            """
            eid event_id
            sid domain_sessionid
            """,
        ),
        **_fields(
            _read_dimensions,
            """
            res dvce_screenwidth dvce_screenheight
            vp br_viewwidth br_viewheight
            ds doc_width doc_height
            """,
        ),
        **_fields(
            _read_flag,
            """
            f_pdf br_features_pdf
            f_fla br_features_flash
            f_java br_features_java
            f_dir br_features_director
            f_qt br_features_quicktime
            f_realp br_features_realplayer
            f_wma br_features_windowsmedia
            f_gears br_features_gears
            f_ag br_features_silverlight
            cookie br_cookies
            """,
        ),
    }
)
"""The names whose values Enrich reads, but for the four that hold JSON."""

OVERRULED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ue_pr": "ue_px",
        "co": "cx",
        "nuid": "tnuid",
        "ti_na": "ti_nm",
        "ev_ca": "se_ca",
        "ev_ac": "se_ac",
        "se_la": "ev_la",
        "se_pr": "ev_pr",
        "se_va": "ev_va",
    }
)
"""The names that count for nothing where an event has the other name for the same value too.

Both values are checked. Enrich lets the last one stand, in the order of a hash map of Scala's; of
``nuid`` and ``tnuid`` the latter, as it says.
"""

_FIRST_NAMES: Final = frozenset(
    """
    ad_ad ad_ba ad_ca ad_uid aid cd co cookie cs ctype cx ds dtm duid e eid f_ag f_dir f_fla
    f_gears f_java f_pdf f_qt f_realp f_wma fp ip lang mac nuid p page pp_max pp_may pp_mix pp_miy
    refr res sa se_ac se_ca se_la se_pr se_va sn sp st ti_ca ti_cu ti_id ti_na ti_nm ti_pr ti_qu
    ti_sk tid tna tr_af tr_ci tr_co tr_cu tr_id tr_sh tr_st tr_tt tr_tx tv tz ue_na ue_pr ue_px uid
    url vid vp
    """.split()
)
_SECOND_NAMES: Final = _FIRST_NAMES | {"ua"}
_THIRD_NAMES: Final = _SECOND_NAMES | {"tnuid"}
_FOURTH_NAMES: Final = _THIRD_NAMES | {"sid", "stm"}

PAYLOAD_NAMES: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        f"iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/{version}": names
        for version, names in (
            ("1-0-4", _FOURTH_NAMES | {"ttm"}),
            ("1-0-3", _FOURTH_NAMES),
            ("1-0-2", _THIRD_NAMES),
            ("1-0-1", _SECOND_NAMES),
            ("1-0-0", _FIRST_NAMES),
        )
    }
)
"""All names that each version of the schema ``payload_data`` knows; a body may have no other."""
