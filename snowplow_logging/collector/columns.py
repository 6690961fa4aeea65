"""The columns of an enriched event: their order, how long they may be, what they are in JSON."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from .circe_json import read_json
from .java_text import utf16_length

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["COLUMNS", "LIMITS", "json_value", "too_long"]

COLUMNS: Final = tuple(
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
"""All columns, in their order."""

LIMITS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "app_id": 255,
        "name_tracker": 128,
        "v_tracker": 100,
        "v_collector": 100,
        "user_id": 255,
        "user_ipaddress": 128,
        "user_fingerprint": 128,
        "domain_userid": 128,
        "network_userid": 128,
        "page_url": 10_000,
        "page_title": 2000,
        "page_referrer": 10_000,
        "page_urlscheme": 16,
        "page_urlhost": 255,
        "page_urlpath": 3000,
        "page_urlquery": 6000,
        "page_urlfragment": 3000,
        "refr_urlscheme": 16,
        "refr_urlhost": 255,
        "refr_urlpath": 6000,
        "refr_urlquery": 6000,
        "refr_urlfragment": 3000,
        "refr_domain_userid": 128,
        "se_category": 1000,
        "se_action": 1000,
        "se_label": 4096,
        "se_property": 1000,
        "tr_orderid": 255,
        "tr_affiliation": 255,
        "tr_city": 255,
        "tr_state": 255,
        "tr_country": 255,
        "tr_currency": 3,
        "ti_orderid": 255,
        "ti_sku": 255,
        "ti_name": 255,
        "ti_category": 255,
        "ti_currency": 3,
        "useragent": 1000,
        "br_lang": 255,
        "br_colordepth": 12,
        "os_timezone": 255,
        "doc_charset": 128,
        "event_vendor": 1000,
        "event_name": 1000,
        "event_format": 128,
        "event_version": 128,
    }
)
"""The most characters a column may have, in UTF-16 code units (Enrich's atomic fields)."""

_INTEGERS: Final = frozenset(
    """
    txn_id domain_sessionidx page_urlport refr_urlport ti_quantity pp_xoffset_min pp_xoffset_max
    pp_yoffset_min pp_yoffset_max br_viewwidth br_viewheight dvce_screenwidth dvce_screenheight
    doc_width doc_height
    """.split()
)
_DECIMALS: Final = frozenset("se_value tr_total tr_tax tr_shipping ti_price".split())
_OBJECTS: Final = frozenset({"contexts", "unstruct_event"})
_FLAGS: Final = ("br_features_", "br_cookies")


def json_value(column: str, text: str) -> Any:
    """Return a column's value as Micro's JSON has it.

    Args:
        column: The column's name.
        text: The value as Enrich writes it.

    Returns:
        A number, a boolean, a time such as ``2026-04-01T12:00:00.000Z``, an object, or the text,
        which a number beyond a 64-bit float stays too.
    """
    if column in _INTEGERS:
        return int(text)
    if column in _DECIMALS:
        number = float(text)
        return number if math.isfinite(number) else text
    if column in _OBJECTS:
        return read_json(text)
    if column.endswith("_tstamp"):
        return text.replace(" ", "T") + "Z"
    if column.startswith(_FLAGS):
        return text == "1"
    return text


def too_long(columns: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Find the columns that are longer than Snowplow takes.

    Args:
        columns: The columns that are not null.

    Yields:
        The name of each, and the end of a sentence which says how long it is.
    """
    for column, text in columns.items():
        limit = LIMITS.get(column)
        if limit is not None and len(text) * 2 > limit and (units := utf16_length(text)) > limit:
            how = "UTF-16 code units, a tab counting as four"
            yield column, f"has {units} characters ({how}), and Snowplow takes {limit}; cut it"
