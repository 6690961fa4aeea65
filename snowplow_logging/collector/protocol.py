"""The Snowplow Tracker Protocol as Enrich reads it: names, types and limits.

Every reader below takes the text of one value and returns what the enriched event gets,
or raises `ValueError` with the end of a sentence that begins with the wire name.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "ATOMIC_SCHEMAS",
    "BODY_LIMIT",
    "CONTENT_TYPES",
    "EVENT_TYPES",
    "FAILED_BODY_LIMIT",
    "FIELDS",
    "HEADERS_LIMIT",
    "KNOWN_NAMES",
    "MAX_JSON_DEPTH",
    "REQUEST_LINE_LIMIT",
    "REQUIRED_BY_TYPE",
    "REQUIRED_NAMES",
    "SCHEMA_URI",
    "Field",
    "iso_timestamp",
    "read_json",
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

MAX_JSON_DEPTH: Final = 40
"""How deep JSON may be nested (protocol: 40 levels, a leaf counting as one)."""

CONTENT_TYPES: Final = (
    "application/json",
    "application/json; charset=utf-8",
    "application/json; charset=UTF-8",
)
"""The only values of ``Content-Type`` that Enrich takes, letter by letter."""

SCHEMA_URI: Final = re.compile(
    r"iglu:(?P<vendor>[a-zA-Z0-9\-_.]+)/(?P<name>[a-zA-Z0-9\-_]+)"
    r"/(?P<format>[a-zA-Z0-9\-_]+)/(?P<version>[0-9]+-[0-9]+-[0-9]+)"
)
"""An Iglu schema URI, to be matched in full."""

EVENT_TYPES: Final = {
    "pv": "page_view",
    "pp": "page_ping",
    "se": "struct",
    "ue": "unstruct",
    "tr": "transaction",
    "ti": "transaction_item",
}
"""The values of ``e`` and what the enriched event calls them."""

ATOMIC_SCHEMAS: Final = {
    "pv": "iglu:com.snowplowanalytics.snowplow/page_view/jsonschema/1-0-0",
    "pp": "iglu:com.snowplowanalytics.snowplow/page_ping/jsonschema/1-0-0",
    "se": "iglu:com.google.analytics/event/jsonschema/1-0-0",
    "tr": "iglu:com.snowplowanalytics.snowplow/transaction/jsonschema/1-0-0",
    "ti": "iglu:com.snowplowanalytics.snowplow/transaction_item/jsonschema/1-0-0",
}
"""The schema that Enrich gives an event which does not bring its own."""

REQUIRED_NAMES: Final = ("tv", "p", "e")
"""What every event has to carry."""

REQUIRED_BY_TYPE: Final[Mapping[str, tuple[str, ...]]] = {"se": ("se_ca", "se_ac")}
"""What an event of one type has to carry besides."""

_PLATFORMS: Final = ("web", "iot", "app", "mob", "pc", "cnsl", "tv", "srv", "headset")
_INT_MAX: Final = 2**31 - 1
_INTEGER: Final = re.compile(r"[+-]?\d+")
# java.math.BigDecimal(String): '1.', '.5' and '+1e-3' are read, 'NaN' and '1_000' are not.
_DECIMAL: Final = re.compile(
    r"[+-]?(?:\d+(?:\.(?P<a>\d*))?|\.(?P<b>\d+))(?:[eE](?P<exp>[+-]?\d+))?"
)
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DIMENSIONS: Final = re.compile(r"(\d+)x(\d+)")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FIRST_MS: Final = -62_167_219_200_000  # 0000-01-01T00:00:00.000Z
_YEAR_ONE_MS: Final = -62_135_596_800_000
_LAST_MS: Final = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z
_400_YEARS_MS: Final = 146_097 * 86_400_000

# The grammar of java.net.URI, once every letter outside ASCII has been replaced by '~'.
_PCHAR: Final = r"(?:[A-Za-z0-9\-_.!~*'();:@&=+$,]|%[0-9A-Fa-f]{2})"
_URIC: Final = rf"(?:{_PCHAR}|[/?\[\]])"
_PATH: Final = rf"(?:{_PCHAR}|/)*"
_AUTHORITY: Final = rf"(?:(?:{_PCHAR}*@)?\[[0-9A-Fa-f:.]+(?:%\w+)?\](?::\d*)?|{_PCHAR}+)"
_HIERARCHY: Final = rf"(?://{_AUTHORITY}(?:/{_PATH})?|//(?=/){_PATH}|/(?!/){_PATH})"
_URI: Final = re.compile(
    rf"(?:[A-Za-z][A-Za-z0-9+.\-]*:(?:{_HIERARCHY}(?:\?{_URIC}*)?|(?!/){_URIC}+)"
    rf"|(?:{_HIERARCHY}|(?![^/?#]*:){_PATH})(?:\?{_URIC}*)?)"
    rf"(?:#{_URIC}*)?"
)
_SHOWN: Final = 80


def show(value: object) -> str:
    """Return a value as an error message quotes it: escaped, and cut where it is long."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    quoted = repr(text) if isinstance(value, str) else text
    return quoted if len(quoted) <= _SHOWN else f"{quoted[:_SHOWN]}… ({len(text)} characters)"


def iso_timestamp(milliseconds: int) -> str | None:
    """Return a time as Micro's JSON writes it, ``2026-04-01T12:00:00.000Z``.

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
    return f"{moment.year - years:04}-{moment:%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def read_json(text: str) -> Any:
    """Read JSON as strictly as Enrich does.

    Args:
        text: The JSON text.

    Returns:
        The value.

    Raises:
        ValueError: It is not JSON (the literals NaN and Infinity and a name given twice in one
            object included), or it is nested deeper than 40 levels.
    """
    too_deep = f"is nested deeper than {MAX_JSON_DEPTH} levels; flatten it"
    try:
        value = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_float=_read_float,
            object_pairs_hook=_refuse_duplicates,
        )
    except RecursionError:
        raise ValueError(too_deep) from None
    except ValueError as error:
        message = f"is not valid JSON ({error}); give JSON as RFC 8259 has it"
        raise ValueError(message) from None
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        level = [
            child
            for parent in level
            if isinstance(parent, (dict, list))
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
        if not level:
            return value
    raise ValueError(too_deep)


def _refuse_constant(literal: str) -> NoReturn:
    message = f"{literal} is not a JSON value"
    raise ValueError(message)


def _read_float(text: str) -> float | Decimal:
    # A number beyond a double is still JSON, and must not become the literal Infinity.
    number = float(text)
    return number if math.isfinite(number) else Decimal(text)


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            message = f"the name {show(name)} is given twice"
            raise ValueError(message)
        result[name] = value
    return result


def _read_text(value: str) -> str:
    return value.replace("\t", "    ")


def _read_integer(value: str) -> int:
    # The length keeps int() away from its own limit of digits.
    if _INTEGER.fullmatch(value) and len(value.lstrip("+-0")) <= len(str(_INT_MAX)):
        number = int(value)
        if -_INT_MAX - 1 <= number <= _INT_MAX:
            return number
    message = f"{show(value)} is not an int; give a decimal 32-bit integer with no fraction"
    raise ValueError(message)


def _read_decimal(value: str) -> float | str:
    match = _DECIMAL.fullmatch(value)
    exponent = (match and match["exp"]) or "0"
    # BigDecimal keeps the scale in 32 bits and refuses what does not fit.
    if match and len(exponent.lstrip("+-0")) <= len(str(_INT_MAX)):
        scale = len(match["a"] or match["b"] or "") - int(exponent)
        if -_INT_MAX - 1 <= scale <= _INT_MAX:
            number = float(value)
            return number if math.isfinite(number) else value
    message = f"{show(value)} is not a decimal; give a number such as '9.90', never NaN or Infinity"
    raise ValueError(message)


def _read_milliseconds(value: str) -> int:
    if _INTEGER.fullmatch(value) and len(value.lstrip("+-0")) <= len(str(_LAST_MS)):
        number = int(value)
        if _FIRST_MS <= number <= _LAST_MS:
            return number
    message = f"{show(value)} is not a time; give whole milliseconds since 1970 UTC, year 0 to 9999"
    raise ValueError(message)


def _read_uuid(value: str) -> str:
    if not _UUID.fullmatch(value):
        message = (
            f"{show(value)} is not a UUID; give the canonical form, "
            "such as '5e11d0cf-3a3f-4c5c-9a8b-4d4f8f5ad0f2'"
        )
        raise ValueError(message)
    return value.lower()


def _read_dimensions(value: str) -> tuple[int, int]:
    match = _DIMENSIONS.fullmatch(value)
    if match:
        try:
            return _read_integer(match[1]), _read_integer(match[2])
        except ValueError:
            pass
    message = f"{show(value)} is not a size; give WIDTHxHEIGHT in pixels, such as '1920x1080'"
    raise ValueError(message)


def _read_uri(value: str) -> str:
    plain = "".join(
        "~"
        if char > "\x7f" and unicodedata.category(char) not in {"Zs", "Zl", "Zp", "Cc"}
        else char
        for char in value
    )
    if not _URI.fullmatch(plain):
        message = (
            f"{show(value)} is not a URI; percent-encode spaces and any of "
            '<>"{}|\\^` in it, and every % that starts no escape'
        )
        raise ValueError(message)
    return value


def _read_platform(value: str) -> str:
    if value not in _PLATFORMS:
        message = f"{show(value)} is not a platform; give one of {', '.join(_PLATFORMS)}"
        raise ValueError(message)
    return value


def _read_event_type(value: str) -> str:
    if value not in EVENT_TYPES:
        message = f"{show(value)} is not an event type; give one of {', '.join(EVENT_TYPES)}"
        raise ValueError(message)
    return EVENT_TYPES[value]


class Field(NamedTuple):
    """One name of the protocol: what it becomes, how it is read, how long it may be.

    `columns` are the enriched event's names for it, two where one value holds two. `limit` is
    in UTF-16 code units, counted after a tab has become four spaces; None means no limit.
    """

    columns: tuple[str, ...]
    read: Callable[[str], Any]
    limit: int | None = None

    def check(self, value: str) -> tuple[dict[str, Any], list[str]]:
        """Read one value.

        Args:
            value: The value as sent, not empty.

        Returns:
            The columns of the enriched event that it fills, and the ends of the sentences
            which say what is wrong with it.
        """
        problems = []
        units = len(_read_text(value).encode("utf-16-le", "surrogatepass")) // 2
        if self.limit is not None and units > self.limit:
            problems.append(
                f"has {units} characters (UTF-16 code units, a tab counting as four), "
                f"and Snowplow takes {self.limit}; cut it"
            )
        try:
            result = self.read(value)
        except ValueError as error:
            return {}, [*problems, str(error)]
        values = result if isinstance(result, tuple) else (result,)
        return dict(zip(self.columns, values, strict=True)), problems


def _text(column: str, limit: int | None) -> Field:
    return Field((column,), _read_text, limit)


FIELDS: Final[Mapping[str, Field]] = {
    "tv": _text("v_tracker", 100),
    "p": Field(("platform",), _read_platform),
    "e": Field(("event",), _read_event_type),
    "eid": Field(("event_id",), _read_uuid),
    "dtm": Field(("dvce_created_tstamp",), _read_milliseconds),
    "stm": Field(("dvce_sent_tstamp",), _read_milliseconds),
    "ttm": Field(("true_tstamp",), _read_milliseconds),
    "tna": _text("name_tracker", 128),
    "aid": _text("app_id", 255),
    "uid": _text("user_id", 255),
    "duid": _text("domain_userid", 128),
    "sid": Field(("domain_sessionid",), _read_uuid),
    "vid": Field(("domain_sessionidx",), _read_integer),
    "tnuid": _text("network_userid", 128),
    "ip": _text("user_ipaddress", 128),
    "ua": _text("useragent", 1000),
    "lang": _text("br_lang", 255),
    "tz": _text("os_timezone", 255),
    "cd": _text("br_colordepth", 12),
    "res": Field(("dvce_screenwidth", "dvce_screenheight"), _read_dimensions),
    "vp": Field(("br_viewwidth", "br_viewheight"), _read_dimensions),
    "url": Field(("page_url",), _read_uri, 10_000),
    "page": _text("page_title", 2000),
    "refr": Field(("page_referrer",), _read_uri, 10_000),
    "pp_mix": Field(("pp_xoffset_min",), _read_integer),
    "pp_max": Field(("pp_xoffset_max",), _read_integer),
    "pp_miy": Field(("pp_yoffset_min",), _read_integer),
    "pp_may": Field(("pp_yoffset_max",), _read_integer),
    "se_ca": _text("se_category", 1000),
    "se_ac": _text("se_action", 1000),
    "se_la": _text("se_label", 4096),
    "se_pr": _text("se_property", 1000),
    "se_va": Field(("se_value",), _read_decimal),
    "tr_id": _text("tr_orderid", 255),
    "tr_tt": Field(("tr_total",), _read_decimal),
    "tr_af": _text("tr_affiliation", 255),
    "tr_tx": Field(("tr_tax",), _read_decimal),
    "tr_sh": Field(("tr_shipping",), _read_decimal),
    "tr_ci": _text("tr_city", 255),
    "tr_st": _text("tr_state", 255),
    "tr_co": _text("tr_country", 255),
    "tr_cu": _text("tr_currency", 3),
    "ti_id": _text("ti_orderid", 255),
    "ti_sk": _text("ti_sku", 255),
    "ti_nm": _text("ti_name", 255),
    "ti_ca": _text("ti_category", 255),
    "ti_pr": Field(("ti_price",), _read_decimal),
    "ti_qu": Field(("ti_quantity",), _read_integer),
    "ti_cu": _text("ti_currency", 3),
}
"""The names whose values Enrich reads, but for the four that hold JSON."""

KNOWN_NAMES: Final = frozenset(FIELDS) | frozenset(
    "ue_px ue_pr cx co "
    "ad_ba ad_ca ad_ad ad_uid ctype cookie cs ds "
    "f_pdf f_qt f_realp f_wma f_dir f_fla f_java f_gears f_ag "
    "fp mac nuid sa sn sp st ti_na tid ue_na".split()
)
"""All names that the schema ``payload_data`` 1-0-4 knows."""
