"""What the real Enrich said of thousands of events, held against what is sent.

`data/enrich-verdicts.jsonl.gz` has one event a line: the parameters that it was sent with, whether
Enrich took it, and the columns that Enrich made of it. Here each is logged by the library's own
names, where it has such names: what Enrich takes must not be refused, and what Enrich fails must be
refused or sent in another form.
"""

from __future__ import annotations

import gzip
import json
import logging
import re
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest

import java_uri
from helpers import NOWHERE
from snowplow_logging import SnowplowHandler
from snowplow_logging.events import EVENTS
from snowplow_logging.subject import SUBJECT_KEYS
from snowplow_logging.testing import capture_events

DATA = Path(__file__).parent / "data" / "enrich-verdicts.jsonl.gz"
with gzip.open(DATA, "rt", encoding="utf-8") as lines:
    VERDICTS = [json.loads(line) for line in lines]

# These are about what surrounds the values of an event.
OF_REQUESTS = {"content type", "payload_data", "missing", "unknown name", "not a string"}

EVENT_OF = {
    "pv": "page_view",
    "pp": "page_ping",
    "se": "struct_event",
    "tr": "ecommerce_transaction",
    "ti": "ecommerce_transaction_item",
    "ue": "self_describing_event",
}
NAMES = {
    e: {key.name: name for name, key in EVENTS[event].keys().items()}
    for e, event in EVENT_OF.items()
    if e != "ue"
}
SUBJECT_NAMES = {key.name: name for name, key in SUBJECT_KEYS.items()}
COMMON_NAMES = {"eid": "event_id", "ttm": "true_timestamp"}
SETTINGS = {"tna": "namespace", "aid": "app_id"}
REQUIRED = {
    "page_view": {"page_url": "https://h/"},
    "page_ping": {"page_url": "https://h/"},
    "struct_event": {"category": "c", "action": "a"},
    "ecommerce_transaction": {"order_id": "o", "total_value": "1"},
    "ecommerce_transaction_item": {"order_id": "o", "sku": "s", "price": "1", "quantity": "1"},
}

# What Enrich takes and the library refuses, each for a reason of its own.
LIBRARYS_OWN = {
    # A key that is required of users, and that Enrich can do without.
    ("tr_tt", "null"),
    ("ti_qu", "null"),
    ("ti_pr", "null"),
    ("tr_id", ""),
    ("ti_id", ""),
    ("ti_sk", ""),
    ("se_ca", ""),
    ("se_ac", ""),
    ("url", ""),
    # Beyond a 64-bit float.
    ("tr_tx", "1e400"),
    ("tr_sh", "1e400"),
}

# The columns in which Enrich keeps a parameter as it is.
COLUMNS = {
    "url": "page_url", "refr": "page_referrer", "page": "page_title", "uid": "user_id",
    "duid": "domain_userid", "tnuid": "network_userid", "sid": "domain_sessionid",
    "vid": "domain_sessionidx", "ip": "user_ipaddress", "ua": "useragent", "lang": "br_lang",
    "tz": "os_timezone", "cd": "br_colordepth", "tna": "name_tracker", "aid": "app_id",
    "p": "platform", "eid": "event_id", "pp_mix": "pp_xoffset_min", "se_ca": "se_category",
    "se_ac": "se_action", "se_la": "se_label", "se_pr": "se_property", "se_va": "se_value",
    "tr_id": "tr_orderid", "tr_tt": "tr_total", "tr_af": "tr_affiliation", "tr_tx": "tr_tax",
    "tr_sh": "tr_shipping", "tr_ci": "tr_city", "tr_st": "tr_state", "tr_co": "tr_country",
    "tr_cu": "tr_currency", "ti_id": "ti_orderid", "ti_sk": "ti_sku", "ti_nm": "ti_name",
    "ti_ca": "ti_category", "ti_pr": "ti_price", "ti_qu": "ti_quantity", "ti_cu": "ti_currency",
}  # fmt: skip


def type_of(parameters: dict[str, str]) -> str:
    """Return the type of event that has such parameters, whatever `e` says."""
    for name in parameters:
        if name[:3] in ("pp_", "se_", "tr_", "ti_"):
            return name[:2]
    return parameters.get("e", "")


def as_logged(parameters: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]] | None:
    """Return the event that a user would log, with the handler's settings for it.

    None where the library has no name for something in it, and so never sends it.
    """
    e = type_of(parameters)
    if e not in NAMES:
        return None
    event: dict[str, Any] = {"event": EVENT_OF[e], **REQUIRED[EVENT_OF[e]]}
    subject: dict[str, Any] = {}
    settings: dict[str, str] = {}
    for name, value in parameters.items():
        if name == "e" or (name == "url" and name not in NAMES[e]):
            continue
        if name in NAMES[e]:
            event[NAMES[e][name]] = value
        elif name in SUBJECT_NAMES:
            subject[SUBJECT_NAMES[name]] = value
        elif name in COMMON_NAMES:
            event[COMMON_NAMES[name]] = value
        elif name in SETTINGS:
            settings[SETTINGS[name]] = value
        else:
            return None
    if subject:
        event["subject"] = subject
    return event, settings


def sent(event: dict[str, Any], settings: dict[str, str]) -> dict[str, str] | str:
    """Return the payload that would be sent, or why the event or a setting is refused."""
    try:
        handler = SnowplowHandler(NOWHERE, **settings)
    except ValueError as error:
        return str(error)
    with capture_events() as captured:
        handler.handle(logging.makeLogRecord({"name": "shop", "snowplow": event}))
    handler.close()
    if captured.invalid:
        return str(captured.invalid[0].error)
    return captured[0].payload


CASES = [
    (verdict, logged)
    for verdict in VERDICTS
    if "event" in verdict and verdict["area"] not in OF_REQUESTS
    if (logged := as_logged(verdict["event"])) is not None
]
"""What Enrich said, with the event as a user would log it."""


@pytest.fixture(scope="module")
def outcomes() -> list[tuple[dict[str, Any], dict[str, str] | str]]:
    """Return what Enrich said, with what the library makes of it."""
    plain = SnowplowHandler(NOWHERE)
    made: list[tuple[dict[str, Any], dict[str, str] | str]] = []
    for verdict, (event, settings) in CASES:
        if settings:
            made.append((verdict, sent(event, settings)))
            continue
        with capture_events() as captured:
            plain.handle(logging.makeLogRecord({"name": "shop", "snowplow": event}))
        refused = [str(invalid.error) for invalid in captured.invalid]
        made.append((verdict, refused[0] if refused else captured[0].payload))
    plain.close()
    return made


def without_controls(text: str) -> str:
    """Return a text as Enrich reads it."""
    return re.sub(r"[\x00-\x1f\x7f]", "", text.replace("\t", "    "))


def is_url(name: str) -> bool:
    """Tell whether a parameter is a URL."""
    return name in ("url", "refr")


class TestAgreementWithEnrich:
    """As strict as Snowplow, and no stricter."""

    def test_enough_is_compared(self):
        """Most of the verdicts are of events that the library can send."""
        assert len(CASES) > 5_000

    def test_what_enrich_takes_is_not_refused(self, outcomes):
        """Nothing is refused that Enrich takes, but for what the library has reasons of its own."""
        good = [(verdict, made) for verdict, made in outcomes if verdict["good"]]
        refused = [(verdict["event"], made) for verdict, made in good if isinstance(made, str)]
        unreasoned = [
            (event, why)
            for event, why in refused
            if not any(
                (name, without_controls(value).lower()) in LIBRARYS_OWN
                for name, value in event.items()
            )
        ]
        assert unreasoned == []
        assert len(good) > 4_500

    def test_what_enrich_takes_is_kept(self, outcomes):
        """A value that is no URL is sent just as Enrich keeps it."""
        compared: Counter[str] = Counter()
        for verdict, made in outcomes:
            if not verdict["good"] or isinstance(made, str):
                continue
            for name in verdict["event"].keys() & COLUMNS.keys():
                if not is_url(name) and name != "ip":
                    assert made.get(name) == verdict["columns"].get(COLUMNS[name]), verdict
                    compared[name] += 1
        assert len(compared) > 25, compared

    def test_what_enrich_fails_is_not_sent_so(self, outcomes):
        """What Enrich fails is refused, or its value is left out or sent in another form."""
        sent_so = [
            (verdict["event"], verdict["why"])
            for verdict, made in outcomes
            if not verdict["good"]
            and not isinstance(made, str)
            and all(made.get(name) == value for name, value in verdict["event"].items())
        ]
        assert sent_so == []

    def test_urls_are_read_at_once(self, outcomes):
        """A URL that is sent is one that Enrich reads without mending it, and nothing is lost."""
        compared = 0
        for verdict, made in outcomes:
            if isinstance(made, str):
                continue
            for name in filter(is_url, verdict["event"]):
                original, url = verdict["event"][name], made.get(name, "")
                if name == "url" and name not in made:
                    continue  # an event that has no page
                compared += 1
                if url:
                    assert java_uri.read(url) is not None, (original, url)
                plain = without_controls(original).encode("utf-8", "replace")
                # A bare % has become %25, which is a % again.
                assert unquote_to_bytes(url) == unquote_to_bytes(plain), (original, url)
        assert compared > 4_000

    def test_urls_have_the_parts_that_enrich_finds(self, outcomes):
        """The host of a URL that needs no mending is the one that Enrich finds."""
        compared = 0
        for verdict, made in outcomes:
            if isinstance(made, str) or not verdict["good"]:
                continue
            for name, column in (("url", "page_urlhost"), ("refr", "refr_urlhost")):
                is_about = verdict["area"].removesuffix("char") == name
                if is_about and name in made and verdict["event"].get(name) == made[name]:
                    uri = java_uri.read(made[name])
                    assert uri is not None
                    assert (uri.host or None) == verdict["columns"].get(column), verdict
                    compared += 1
        assert compared > 2_000

    def test_what_is_sent_in_place_of_an_empty_value(self, outcomes):
        """Nothing that is sent is empty."""
        for _, made in outcomes:
            if not isinstance(made, str):
                assert all(made.values()), made
