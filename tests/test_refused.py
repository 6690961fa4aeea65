"""What Snowplow would refuse never leaves, and whatever is logged, the log call goes on."""

from __future__ import annotations

import enum
import json
import logging
import math
import pickle
import re
import string
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers import ANYTHING, NOWHERE, entity, tracking
from snowplow_logging import InvalidEvent, SelfDescribingJson, SnowplowAdapter, SnowplowHandler
from snowplow_logging.events import COMMON_KEYS, EVENTS
from snowplow_logging.subject import SUBJECT_KEYS

LIMITS = (1, 3, 12, 128, 255, 1_000, 1_024, 2_000, 2_048, 4_096, 8_192, 10_000, 65_535)


class Colour(enum.Enum):
    """An enum of strings, and one member that is none."""

    RED = "red"
    NUMBER = 3


class Size(str, enum.Enum):
    """An enum whose members are strings themselves."""

    LARGE = "large"


class Name(str):
    """A string of a class of its own."""

    __slots__ = ()


def at_limit(start: str, unit: str, limit: int, more: int) -> str:
    """Return a text whose length is next to a limit, as Enrich counts it or as a schema does."""
    width = {"\t": 4, "😀": 2}.get(unit, 1)
    return (start + unit * ((limit - len(start)) // width + more))[: limit + 8]


def deep(levels: int, kind: type) -> Any:
    """Return a structure of so many levels, its leaf being one."""
    value: Any = "leaf"
    for _ in range(levels - 1):
        value = [value] if kind is list else {"a": value}
    return value


def nested(leaf: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return structures of dicts and lists, and of what is like them."""
    keys = st.text(max_size=5)
    return st.recursive(
        leaf,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.lists(inner, max_size=3).map(tuple)
            | st.dictionaries(keys, inner, max_size=4)
            | st.dictionaries(keys, inner, max_size=3).map(OrderedDict)
            | st.dictionaries(keys, inner, max_size=3).map(MappingProxyType)
        ),
        max_leaves=12,
    )


odd_texts = (
    st.text(st.characters(), max_size=9)  # lone surrogates included
    | st.text("\t\n\r\0\x7f\x1b\"'\\/<>&é \u00a0\u2028\u2029\ufeff\uffff😀", max_size=6)
    | st.sampled_from(["", "null", "NaN", "iglu:", "\ud83d", Colour.RED, Size.LARGE, Name("n")])
    | st.uuids()
    | st.integers()
    | st.builds(
        at_limit,
        st.sampled_from(["", "x", "é"]),
        st.sampled_from(["a", "\t", "😀", "é", "あ"]),
        st.sampled_from(LIMITS),
        st.integers(-1, 1),
    )
)
odd_numbers = (
    st.integers()
    | st.floats()
    | st.decimals()
    | st.sampled_from([2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**53 + 1, 2**64, 10**400])
    | st.sampled_from([-0.0, 12.0, 1e22, 5e-324, Decimal("sNaN"), Decimal("-0")])
    | st.sampled_from(
        [Decimal(f"1E{exponent}") for exponent in (400, -400, -(2**31), 2**31, 2**40, -(2**40))]
    )
)
anything = (
    st.none()
    | st.booleans()
    | odd_texts
    | odd_numbers
    | st.sampled_from([b"bytes", {1}, Colour.NUMBER, 1j, object(), deep(50, list), deep(50, dict)])
)
uri_ends = st.text(string.ascii_letters + "0123456789-._~:/?#[]@!$&'()*+,;=%| éあ😀\t", max_size=9)
odd_uris = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["https://", "app:", "urn:a:", "mailto:", "file:///", "a+b.c-1://", "//", ""]),
    st.sampled_from(["h", "user:pw@h", "[::1]", "[::1]:80", "[fe80::1%25eth0]", "h:80", "h:port"])
    | st.sampled_from(["münchen.de", "a_b.example", "", "-", "1.2.3.4", "a@b@c", "[h]", "a..b"]),
    st.just("/") | uri_ends,
    st.just("") | uri_ends.map("?{}".format),
    st.just("") | uri_ends.map("#{}".format),
)
plain_data = st.dictionaries(
    st.text(max_size=5),
    nested(st.none() | st.booleans() | st.text(max_size=9) | st.integers() | st.floats(-9, 9)),
    max_size=4,
)
odd_data = (
    nested(anything)
    | st.dictionaries(st.text(max_size=5) | st.sampled_from([Size.LARGE, 1, None]), anything)
    | st.builds(deep, st.integers(35, 42), st.sampled_from([list, dict]))
)
texts = (st.text(max_size=3), odd_texts)
numbers = (st.integers(0, 9_999) | st.floats(0, 1e6) | st.decimals(0, 10**6, places=2), odd_numbers)
integers = (st.integers(0, 9_999) | st.integers(0, 9).map(float), odd_numbers)
uris = (st.just("https://shop.example.com/basket?a=1"), odd_uris)
uuids = (st.uuids() | st.uuids().map(str), st.uuids().map(lambda uuid: uuid.hex) | odd_texts)
classes = (st.lists(texts[0], max_size=3), st.lists(odd_texts, max_size=3))
node_names = (st.sampled_from(["INPUT", "TEXTAREA", "SELECT"]), st.sampled_from(["input", ""]))
field_types = (st.sampled_from(["text", "datetime-local"]), st.sampled_from(["textarea", ""]))
sizes = (st.tuples(integers[0], integers[0]), st.lists(odd_numbers, max_size=3))
schemas = (st.just(ANYTHING), st.sampled_from(["iglu:a/b/c/1-0", "anything", ""]))
flags = (st.booleans(), anything)


@st.composite
def values(draw: st.DrawFn, kind: tuple[st.SearchStrategy[Any], st.SearchStrategy[Any]]) -> Any:
    """Return mostly a good value of a kind, at times one at its edges, and rarely anything."""
    plain, odd = kind
    return draw({"plain": plain, "odd": odd, "any": anything}[draw(st.sampled_from(WEIGHTS))])


WEIGHTS = ["plain"] * 16 + ["odd"] * 3 + ["any"]


def dicts(
    required: dict[str, Any], optional: dict[str, Any] | None = None
) -> st.SearchStrategy[dict[str, Any]]:
    """Return dicts whose values are of the kinds given."""
    return st.fixed_dictionaries(
        {key: values(kind) for key, kind in required.items()},
        optional={key: values(kind) for key, kind in (optional or {}).items()},
    )


data = (plain_data, odd_data)
entities = dicts({"schema": schemas, "data": data}) | st.builds(
    SelfDescribingJson, values(schemas), values(data)
)
elements = dicts({"name": texts, "value": texts, "node_name": node_names}, {"type": field_types})
subjects = dicts(
    {},
    {
        **dict.fromkeys(SUBJECT_KEYS, texts),
        "platform": (st.sampled_from(["web", "srv", "headset"]), st.sampled_from(["desktop", ""])),
        "domain_session_id": uuids,
        "domain_session_index": integers,
        "screen_resolution": sizes,
        "viewport": sizes,
    },
)
KINDS = {
    **dict.fromkeys(["page_url", "referrer", "target_url"], uris),
    **dict.fromkeys(["min_x", "max_x", "min_y", "max_y", "quantity", "line_number"], integers),
    **dict.fromkeys(["total_results", "page_results", "thread_id", "line_column"], integers),
    **dict.fromkeys(["total_value", "tax_value", "shipping", "price", "unit_price"], numbers),
    **dict.fromkeys(["element_classes", "form_classes"], classes),
    **dict.fromkeys(["id", "previous_id", "event_id"], uuids),
    ("struct_event", "value"): numbers,
    ("form_change", "type"): field_types,
    "terms": (st.lists(texts[0], min_size=1, max_size=3), classes[1]),
    "filters": (
        st.dictionaries(st.text(max_size=3), st.booleans() | texts[0], max_size=2),
        st.dictionaries(odd_texts, st.booleans() | odd_texts, max_size=2),
    ),
    "elements": (st.lists(elements, max_size=2), st.lists(anything, max_size=2)),
    "is_fatal": flags,
    "programming_language": (st.just("RUST"), st.just("COBOL")),
    "node_name": node_names,
    "schema": schemas,
    "data": data,
    "context": (st.lists(entities, max_size=2), st.lists(anything, max_size=2)),
    "subject": (subjects, st.dictionaries(odd_texts, anything, max_size=2)),
    "true_timestamp": (
        st.integers(0, 2 * 10**12),
        st.datetimes(timezones=st.timezones()) | odd_numbers,
    ),
}


def events(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Return events of one type, good and bad."""
    kinds = {
        key: KINDS.get((name, key), KINDS.get(key, texts))
        for key in [*EVENTS[name].keys(), *COMMON_KEYS[1:]]
    }
    if name == "ecommerce_transaction":
        items = events("ecommerce_transaction_item")
        kinds["items"] = (st.lists(items, max_size=2), st.lists(anything, max_size=2))
    needed = {key for key, known in EVENTS[name].keys().items() if known.required}
    return st.builds(
        lambda keys: {"event": name, **keys},
        dicts(
            {key: kind for key, kind in kinds.items() if key in needed},
            {key: kind for key, kind in kinds.items() if key not in needed},
        ),
    )


class TestWhateverIsLogged:
    """Whatever an event holds, it is either refused here or good at the collector."""

    @pytest.mark.parametrize("encode_base64", [True, False])
    @pytest.mark.parametrize("name", sorted({cls.event_name for cls in EVENTS.values()}))
    def test_what_is_sent_is_good(self, collector, name, encode_base64):
        """An event that is not refused is one that Enrich takes."""

        @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(events(name), min_size=1, max_size=20))
        def check(logged):
            collector.reset()
            with tracking(collector, encode_base64=encode_base64) as tracked:
                tracked.log(logged)
                good = len(tracked.arrived())
                stats, errors = tracked.handler.stats, tracked.handler.errors
            assert [error for error in errors if not isinstance(error, InvalidEvent)] == []
            assert (stats.sent, stats.invalid) == (good, len(errors))
            assert good + len(errors) >= len(logged)

        check()


PAGE = "https://shop.example.com/"


def page(**keys: Any) -> dict[str, Any]:
    """Return a page view."""
    return {"event": "page_view", "page_url": PAGE, **keys}


def struct(**keys: Any) -> dict[str, Any]:
    """Return a structured event."""
    return {"event": "struct_event", "category": "c", "action": "a", **keys}


def own(data: Any, schema: Any = ANYTHING) -> dict[str, Any]:
    """Return a self-describing event."""
    return {"event": "self_describing_event", "schema": schema, "data": data}


def form(**keys: Any) -> dict[str, Any]:
    """Return the change of a form's field."""
    event = {"event": "form_change", "form_id": "f", "element_id": "e", "node_name": "INPUT"}
    return {**event, "value": "v", **keys}


def submit(**element: Any) -> dict[str, Any]:
    """Return the submission of a form with one element."""
    element = {"name": "n", "value": "v", "node_name": "INPUT", **element}
    return {"event": "form_submit", "form_id": "f", "elements": [element]}


def cart(**keys: Any) -> dict[str, Any]:
    """Return something put into a cart."""
    return {"event": "add_to_cart", "sku": "s", "quantity": 1, **keys}


def error(**keys: Any) -> dict[str, Any]:
    """Return an error of an application."""
    return {"event": "application_error", "message": "m", **keys}


def without(event: dict[str, Any], key: str) -> dict[str, Any]:
    """Return an event without one of its keys."""
    return {name: value for name, value in event.items() if name != key}


NAIVE = datetime(2026, 4, 1, 12)  # noqa: DTZ001 - that it has no time zone is its fault
INTEGER = "a whole number from -2,147,483,648 to 2,147,483,647"
COUNT = "a whole number from 0 to 2,147,483,647"
NUMBER = "a number (an int, float or Decimal)"
TEXT = "text (a str, int, UUID or string enum)"
UUID_TEXT = "a UUID, such as"
TIME = "milliseconds since 1970"
SCHEMA = "iglu:VENDOR/NAME/jsonschema/MODEL-REVISION-ADDITION"

REFUSED = [
    # What is no event.
    (5, "event", "event", "is 5", "a dict with the key 'event'"),
    ("page_view", "event", "event", "is 'page_view'", "a dict with the key 'event'"),
    ({}, "event", "event", "is missing", "one of page_view"),
    ({"page_url": PAGE}, "event", "event", "is missing", "one of page_view"),
    ({"event": "page_vieww"}, "event", "event", "is 'page_vieww'", "'page_view'"),
    ({"event": "pageView"}, "event", "event", "is 'pageView'", "'page_view'"),
    ({"event": "xyzzy"}, "event", "event", "is 'xyzzy'", "one of page_view, page_ping"),
    ({"event": 5}, "event", "event", "is 5", "one of page_view"),
    ({"event": ["page_view"]}, "event", "event", "is a list", "one of page_view"),
    # Unknown keys name the nearest.
    (page(page_titel="t"), "page_view", "page_titel", "is not a key", "'page_title'"),
    (page(url=PAGE), "page_view", "url", "is not a key of page_view", "'page_url'"),
    (page(pageUrl=PAGE), "page_view", "pageUrl", "is not a key of page_view", "'page_url'"),
    (page(contexts=[]), "page_view", "contexts", "is not a key of page_view", "'context'"),
    (page(xyzzy=1), "page_view", "xyzzy", "is not a key", "one of page_url, page_title, referrer"),
    ({**page(), 5: 1}, "page_view", "a key that is 5", "is not a key", "one of page_url"),
    # Required keys.
    ({"event": "page_view"}, "page_view", "page_url", "is missing or empty", "page_view requires"),
    (page(page_url=""), "page_view", "page_url", "is missing or empty", "page_view requires"),
    (page(page_url=None), "page_view", "page_url", "is missing or empty", "page_view requires"),
    (struct(category=""), "struct_event", "category", "is missing or empty", "requires"),
    (without(struct(), "action"), "struct_event", "action", "is missing or empty", "requires"),
    (without(form(), "value"), "form_change", "value", "is missing", "form_change requires"),
    (without(cart(), "quantity"), "add_to_cart", "quantity", "is missing", "requires it"),
    (own(None), "self_describing_event", "data", "is missing", "requires it"),
    (own({}, None), "self_describing_event", "schema", "is missing", "requires it"),
    # Types.
    (page(page_title=True), "page_view", "page_title", "is True", TEXT),
    (page(page_title=1.5), "page_view", "page_title", "is 1.5", TEXT),
    (page(page_title=b"t"), "page_view", "page_title", "is a bytes", TEXT),
    (page(page_title=["t"]), "page_view", "page_title", "is a list", TEXT),
    (page(page_title=Colour.NUMBER), "page_view", "page_title", "is a Colour", TEXT),
    (
        page(page_title="\ud83d"),
        "page_view",
        "page_title",
        "lone surrogate at character 0",
        "UTF-8",
    ),
    (struct(value=True), "struct_event", "value", "is True", NUMBER),
    (struct(value="9.9"), "struct_event", "value", "is '9.9'", NUMBER),
    (struct(value=math.nan), "struct_event", "value", "is nan", "a finite number"),
    (struct(value=math.inf), "struct_event", "value", "is inf", "a finite number"),
    (struct(value=Decimal("NaN")), "struct_event", "value", "is NaN", "a finite number"),
    (struct(value=Decimal("sNaN")), "struct_event", "value", "is sNaN", "a finite number"),
    (struct(value=Decimal("-Infinity")), "struct_event", "value", "is -Infinity", "finite"),
    (struct(value=Decimal("1E-2147483648")), "struct_event", "value", "is 1E-2", "32 bits"),
    (struct(value=10**5_000), "struct_event", "value", "over 60 digits", "fewer digits"),
    (struct(label=10**5_000), "struct_event", "label", "over 60 digits", "fewer digits"),
    (cart(quantity=True), "add_to_cart", "quantity", "is True", NUMBER),
    (cart(unit_price=-math.inf), "add_to_cart", "unit_price", "is -inf", "a finite number"),
    (cart(unit_price=Decimal("1E+400")), "add_to_cart", "unit_price", "1E+400", "64-bit float"),
    (cart(unit_price=10**5_000), "add_to_cart", "unit_price", "over 60 digits", "fewer digits"),
    (error(is_fatal=1), "application_error", "is_fatal", "is 1", "True or False"),
    (
        error(programming_language="COBOL"),
        "application_error",
        "programming_language",
        "",
        "one of",
    ),
    # Whole numbers of 32 bits.
    ({**page(min_x=1.5), "event": "page_ping"}, "page_ping", "min_x", "is 1.5", INTEGER),
    ({**page(max_x=2**31), "event": "page_ping"}, "page_ping", "max_x", "2147483648", INTEGER),
    ({**page(min_y=-(2**31) - 1), "event": "page_ping"}, "page_ping", "min_y", "is -", INTEGER),
    ({**page(max_y="5"), "event": "page_ping"}, "page_ping", "max_y", "is '5'", NUMBER),
    ({**page(max_y=Decimal("1.5")), "event": "page_ping"}, "page_ping", "max_y", "1.5", INTEGER),
    (error(thread_id=2**31), "application_error", "thread_id", "is 2147483648", COUNT),
    (error(line_number=-1), "application_error", "line_number", "is -1", COUNT),
    (
        {"event": "site_search", "terms": ["t"], "total_results": -1},
        *("site_search", "total_results", "is -1", COUNT),
    ),
    # UUIDs.
    (page(event_id="x"), "page_view", "event_id", "is 'x'", UUID_TEXT),
    (page(event_id=UUID(int=5).hex), "page_view", "event_id", "is '0000", UUID_TEXT),
    (page(event_id=5), "page_view", "event_id", "is 5", UUID_TEXT),
    (page(event_id=f"{UUID(int=5)}\n"), "page_view", "event_id", "is '0000", UUID_TEXT),
    ({"event": "screen_view", "name": "n", "id": "x"}, "screen_view", "id", "is 'x'", UUID_TEXT),
    (
        {"event": "screen_view", "name": "n", "previous_id": ""},
        *("screen_view", "previous_id", "is ''", UUID_TEXT),
    ),
    # URIs.
    *(
        (page(**{key: url}), "page_view", key, "which is not a URI", "percent-encoded")
        for key in ("page_url", "referrer")
        for url in (
            "shop.example.com",
            "/basket",
            "https://shop.example.com/a b",
            "https://shop.example.com/%zz",
            "https://shop.example.com/a|b",
            "https://shop.example.com/#a#b",
            "https://[::1/",
            "https:",
            "basket?url=https://a.example/",
        )
    ),
    # Fixed values.
    (page(subject={"platform": "desktop"}), "page_view", "subject.platform", "'desktop'", "web"),
    (form(node_name="input"), "form_change", "node_name", "is 'input'", "'INPUT'"),
    (form(node_name="BUTTON"), "form_change", "node_name", "is 'BUTTON'", "INPUT"),
    (form(type="checkboxes"), "form_change", "type", "is 'checkboxes'", "'checkbox'"),
    (form(type=""), "form_change", "type", "is ''", "one of button"),
    # Lists and what they hold.
    (form(element_classes="wide"), "form_change", "element_classes", "is 'wide'", "a list"),
    (form(element_classes=["a", 1.5]), "form_change", "element_classes[1]", "is 1.5", TEXT),
    (form(element_classes={"a"}), "form_change", "element_classes", "is a set", "a list"),
    ({"event": "site_search", "terms": []}, "site_search", "terms", "is empty", "at least 1"),
    ({"event": "site_search", "terms": "t"}, "site_search", "terms", "is 't'", "a list"),
    (
        {"event": "site_search", "terms": ["t"], "filters": {"a": 5.5}},
        *("site_search", "filters.a", "is 5.5", "or a bool"),
    ),
    (
        {"event": "site_search", "terms": ["t"], "filters": {5: "a"}},
        *("site_search", "filters", "has a key that is 5", "strings as keys"),
    ),
    (
        {"event": "link_click", "target_url": ""},
        "link_click",
        "target_url",
        "is empty",
        "at least 1",
    ),
    (submit(node_name="DIV"), "form_submit", "elements[0].node_name", "is 'DIV'", "INPUT"),
    (submit(nodeNames="INPUT"), "form_submit", "elements[0]", "'nodeNames'", "'nodeName'"),
    (submit(name=None), "form_submit", "elements[0]", "has no name", "name, which"),
    (submit(type="radios"), "form_submit", "elements[0].type", "is 'radios'", "'radio'"),
    (
        {"event": "form_submit", "form_id": "f", "elements": [5]},
        *("form_submit", "elements[0]", "is 5", "a dict with name, value and node_name"),
    ),
    (
        {"event": "form_submit", "form_id": "f", "elements": [{"name": "n", "node_name": "INPUT"}]},
        *("form_submit", "elements[0]", "has no value", "value, which"),
    ),
    (
        {"event": "ecommerce_transaction", "order_id": "o", "total_value": 1, "items": {"sku": 1}},
        *("ecommerce_transaction", "items", "is a dict", "a list of dicts"),
    ),
    # Schemas, data, entities.
    *(
        (own({}, schema), "self_describing_event", "schema", f"is {schema!r}", SCHEMA)
        for schema in (
            "",
            "anything",
            "iglu:com.acme/anything/jsonschema/1-0",
            "iglu:com.acme/anything/jsonschema/0-0-1",
            "iglu:com.acme/any.thing/jsonschema/1-0-0",
            "iglu:com acme/anything/jsonschema/1-0-0",
            "iglu:/anything/jsonschema/1-0-0",
            "iglu:com.acme/anything/1-0-0",
            "iglu:com.acme/anything/jsonschema/1-0-0\n",
            "http://com.acme/anything/jsonschema/1-0-0",
        )
        if schema
    ),
    (own("text"), "self_describing_event", "data", "is 'text'", "a dict, as the schema wants"),
    (own({"a": math.nan}), "self_describing_event", "data.a", "is nan", "a finite number"),
    (own({"a": None, "b": (math.nan,)}), "self_describing_event", "data.b[0]", "is nan", "finite"),
    (own({"a": [1, -math.inf]}), "self_describing_event", "data.a[1]", "is -inf", "finite"),
    (own({"a": b"b"}), "self_describing_event", "data.a", "is a bytes", "JSON: dict, list"),
    (own({"a": {1}}), "self_describing_event", "data.a", "is a set", "JSON: dict, list"),
    (own({"a": NAIVE}), "self_describing_event", "data.a", "naive datetime", "an aware one"),
    (own({"a": "\ud83d"}), "self_describing_event", "data.a", "lone surrogate", "UTF-8"),
    (own({"\ud83d": 1}), "self_describing_event", "data", "lone surrogate", "UTF-8"),
    (own({(5,): 1}), "self_describing_event", "data", "has a key that is a tuple", "strings"),
    (own({"a": {b"5": 1}}), "self_describing_event", "data.a", "a key that is a bytes", "strings"),
    (own({5: 1, "5": 2}), "self_describing_event", "data", "two keys that are both '5'", "one"),
    (own({"a": 10**5_000}), "self_describing_event", "data.a", "over 60 digits", "fewer"),
    (own({"a": Decimal("sNaN")}), "self_describing_event", "data.a", "is sNaN", "finite"),
    (page(context={}), "page_view", "context", "is a dict", "a list of entities"),
    (page(context=[5]), "page_view", "context[0]", "is 5", "a SelfDescribingJson"),
    (page(context=[entity(), {}]), "page_view", "context[1].schema", "is None", SCHEMA),
    (page(context=[{"schema": ANYTHING}]), "page_view", "context[0].data", "is None", "a dict"),
    (
        page(context=[{**entity(), "x": 1}]),
        "page_view",
        "context[0]",
        "'x'",
        "schema and data alone",
    ),
    (page(context=[entity(a={"b": {1}})]), "page_view", "context[0].data.a.b", "is a set", "JSON"),
    (
        page(context=[SelfDescribingJson("x", {})]),
        *("page_view", "context[0].schema", "is 'x'", SCHEMA),
    ),
    # Subjects.
    (page(subject=5), "page_view", "subject", "is 5", "a dict"),
    (page(subject={"userid": "u"}), "page_view", "subject.userid", "not a field", "'user_id'"),
    (page(subject={"user_id": 1.5}), "page_view", "subject.user_id", "is 1.5", TEXT),
    (
        page(subject={"domain_session_id": "x"}),
        "page_view",
        "subject.domain_session_id",
        "'x'",
        "UUID",
    ),
    (
        page(subject={"domain_session_index": 1.5}),
        *("page_view", "subject.domain_session_index", "is 1.5", INTEGER),
    ),
    (
        page(subject={"viewport": "1x1"}),
        "page_view",
        "subject.viewport",
        "'1x1'",
        "(width, height)",
    ),
    (
        page(subject={"viewport": (1,)}),
        "page_view",
        "subject.viewport",
        "a tuple",
        "(width, height)",
    ),
    (page(subject={"viewport": (1, -1)}), "page_view", "subject.viewport", "is -1", COUNT),
    # Times.
    (page(true_timestamp=NAIVE), "page_view", "true_timestamp", "naive datetime", "an aware one"),
    (page(true_timestamp="2026"), "page_view", "true_timestamp", "is '2026'", TIME),
    (page(true_timestamp=True), "page_view", "true_timestamp", "is True", TIME),
    (page(true_timestamp=Decimal(1)), "page_view", "true_timestamp", "is a Decimal", TIME),
    (page(true_timestamp=NAIVE.date()), "page_view", "true_timestamp", "is a date", TIME),
    (page(true_timestamp=math.nan), "page_view", "true_timestamp", "is nan", TIME),
    (page(true_timestamp=math.inf), "page_view", "true_timestamp", "is inf", TIME),
    (page(true_timestamp=10**5_000), "page_view", "true_timestamp", "over 60 digits", TIME),
    (page(true_timestamp=253_402_300_800_000), "page_view", "true_timestamp", "", "9999"),
    (page(true_timestamp=-62_167_219_200_001), "page_view", "true_timestamp", "", "years 0"),
]


def refused(tracked, event):
    """Log an event that is to be refused, and return the error."""
    tracked.log(event)
    (problem,) = tracked.handler.errors
    assert isinstance(problem, InvalidEvent)
    assert isinstance(problem, ValueError)
    stats = tracked.handler.stats
    assert (stats.invalid, stats.queued, stats.sent) == (1, 0, 0)
    return problem


class TestEveryRule:
    """Each rule of the protocol has an error that says what is wrong and what would be right."""

    @pytest.mark.parametrize(
        "case",
        REFUSED,
        ids=[f"{number}-{case[1]}-{case[2]}" for number, case in enumerate(REFUSED)],
    )
    def test_says_what_is_wrong(self, refusing, case):
        """The error names the event, the key, what was wrong and what would be right."""
        event, name, key, problem, expected = case
        invalid = refused(refusing, event)
        assert (invalid.event, invalid.key) == (name, key)
        assert problem in invalid.problem
        assert expected in invalid.expected
        assert str(invalid) == f"{name}: {key} {invalid.problem}; give {invalid.expected}"
        assert len(str(invalid)) < 1_000
        str(invalid).encode()

    @pytest.mark.parametrize(
        ("limit", "name", "key"),
        [
            (255, "subject", "user_id"),
            (128, "subject", "domain_user_id"),
            (128, "subject", "network_user_id"),
            (128, "subject", "ip_address"),
            (255, "subject", "language"),
            (255, "subject", "timezone"),
            (12, "subject", "color_depth"),
            (1_000, "struct_event", "category"),
            (1_000, "struct_event", "action"),
            (4_096, "struct_event", "label"),
            (1_000, "struct_event", "property"),
            *(
                (255, "ecommerce_transaction", key)
                for key in ("order_id", "affiliation", "city", "state", "country")
            ),
            (3, "ecommerce_transaction", "currency"),
            *((255, "ecommerce_transaction_item", key) for key in ("order_id", "sku", "name")),
            (255, "ecommerce_transaction_item", "category"),
            (3, "ecommerce_transaction_item", "currency"),
            (10_000, "page_view", "page_url"),
            (10_000, "page_ping", "referrer"),
        ],
    )
    def test_lengths(self, tracked, limit, name, key):
        """A text may have as many UTF-16 code units as Enrich takes, a tab counting as four."""
        required = {
            "struct_event": struct(),
            "ecommerce_transaction": {"order_id": "o", "total_value": 1},
            "ecommerce_transaction_item": {"order_id": "o", "sku": "s", "price": 1, "quantity": 1},
            "page_view": page(),
            "page_ping": page(),
        }
        start = PAGE if limit == 10_000 else ""
        for unit, width in (("a", 1), ("é", 1), ("😀", 2), ("\t", 4)):
            if start and unit == "\t":
                continue  # no URI has one
            count, rest = divmod(limit - len(start), width)
            fits = start + "b" * rest + unit * count
            too_long = f"{fits}c"
            for text in (fits, too_long):
                if name == "subject":
                    tracked.log(page(subject={key: text}))
                else:
                    tracked.log({**required[name], "event": name, key: text})
            invalid = tracked.handler.errors.pop()
            assert f"has {limit + 1:,} characters" in invalid.problem
            assert invalid.expected == f"at most {limit:,}"
            assert tracked.handler.errors == []
        assert len(tracked.arrived()) == (3 if start else 4)

    @pytest.mark.parametrize(
        ("limit", "event"),
        [
            (4_096, lambda text: form(form_id=text)),
            (4_096, lambda text: form(element_id=text)),
            (65_535, lambda text: form(value=text)),
            (4_096, lambda text: form(element_classes=[text])),
            (65_535, lambda text: submit(name=text)),
            (65_535, lambda text: submit(value=text)),
        ],
    )
    def test_lengths_of_properties(self, tracked, limit, event):
        """A property may have as many characters as its schema says."""
        tracked.log([event("😀" * limit), event("😀" * limit + "a")])
        (invalid,) = tracked.handler.errors
        assert f"has {limit + 1:,} characters" in invalid.problem
        assert len(tracked.arrived()) == 1

    @pytest.mark.parametrize("kind", [list, dict])
    def test_depth(self, refusing, kind):
        """JSON may have 50 levels, of which an event's schema takes two and an entity's three."""
        refusing.log(
            [
                own(deep(48, kind)),
                own(deep(49, kind)),
                page(context=[{"schema": ANYTHING, "data": deep(47, kind)}]),
                page(context=[{"schema": ANYTHING, "data": deep(48, kind)}]),
            ]
        )
        errors = refusing.handler.errors
        for invalid, start in zip(errors, ("data", "context[0].data"), strict=True):
            assert invalid.key.startswith(start)
            assert "nested too deep" in invalid.problem
            assert "50 levels" in invalid.expected

    def test_size_of_a_post(self, tracked):
        """An event that would fill a request body beyond the collector's limit is refused."""
        tracked.log([own({"a": "x" * 700_000}), own({"a": "x" * 800_000})])
        (invalid,) = tracked.handler.errors
        assert invalid.event == "self_describing_event"
        assert re.search(r"takes 1,0\d\d,\d{3} bytes as a request body, of 1,048,576", str(invalid))
        assert len(tracked.arrived()) == 1

    def test_size_of_a_get(self, collector):
        """An event that would make a request line beyond the collector's limit is refused."""
        with tracking(collector, method="get") as tracked:
            for size in range(19_000, 21_000, 100):
                tracked.log(own({"a": "x" * (size * 3 // 4)}))
            arrived = len(tracked.arrived())
        assert 0 < arrived < 20
        assert len(tracked.handler.errors) == 20 - arrived
        assert all("a request line, of 20,480" in str(e) for e in tracked.handler.errors)

    def test_a_bad_entity_of_the_handler_costs_only_itself(self, collector):
        """What a callable of the handler's context makes of a record may be bad or raise."""
        context = [lambda record: 5, lambda record: 1 / 0, entity(a=1), lambda record: None]
        with tracking(collector, context=context) as tracked:
            tracked.log(page())
            (arrived,) = tracked.arrived()
        assert arrived["event"]["contexts"]["data"] == [entity(a=1)]


class TestTheWayOfABadEvent:
    """Where a refused event goes."""

    def test_counted_and_handed_on(self):
        """It is counted, and `on_failure` gets it as it was logged with the reason."""
        failures = []
        told = threading.Event()

        def on_failure(events, reason):
            failures.append((events, reason))
            told.set()

        with tracking(on_failure=on_failure) as tracked:
            tracked.log(page(page_titel="t", event_id=str(UUID(int=5))))
            assert told.wait(10)
            stats = tracked.handler.stats
        (((event,), reason),) = failures
        assert event["event"] == "page_view"
        assert event["page_titel"] == "t"
        assert event["event_id"] == str(UUID(int=5))
        assert reason == str(tracked.handler.errors[0]) == stats.last_error
        assert stats.invalid == 1
        assert dict(stats.losses) == {"invalid event": 1}

    def test_printed_like_any_error_of_logging(self, capsys):
        """By default the standard library prints the error to standard error."""
        handler = SnowplowHandler(NOWHERE)
        handler.handle(logging.makeLogRecord({"name": "shop", "snowplow": page(page_titel="t")}))
        handler.close()
        printed = capsys.readouterr().err
        assert "--- Logging error ---" in printed
        assert "page_view: page_titel is not a key of page_view; give 'page_title'" in printed

    def test_reported_once(self, refusing, caplog):
        """Many bad events are one report on the logger `snowplow_logging`."""
        for _ in range(50):
            refusing.log(page(page_titel="t"))
        refusing.handler.flush(5)
        refusing.handler.close()
        reports = [r.getMessage() for r in caplog.records if r.name == "snowplow_logging"]
        assert len(reports) == 1
        assert "page_titel" in reports[0]

    def test_pickles(self):
        """An `InvalidEvent` survives a pickle, as what crosses processes does."""
        invalid = InvalidEvent("page_view", "page_url", "is 5", "a URI")
        again = pickle.loads(pickle.dumps(invalid))  # noqa: S301 - it is our own
        assert str(again) == str(invalid) == "page_view: page_url is 5; give a URI"
        assert again.key == "page_url"


class Grumpy:
    """An object whose every method raises."""

    def __repr__(self):
        raise RuntimeError("no repr")

    __str__ = __len__ = __iter__ = __bool__ = __int__ = __float__ = __repr__
    __hash__ = __repr__

    def __eq__(self, other):
        raise RuntimeError("no comparison")


class GrumpyDict(dict):
    """A dict that cannot be read."""

    def items(self):
        """Raise."""
        raise RuntimeError("no items")

    keys = values = __iter__ = __len__ = __bool__ = items

    def get(self, *args):
        """Raise."""
        raise RuntimeError("no get")

    __getitem__ = get


class GrumpyMapping(Mapping):
    """A mapping that cannot be read."""

    def __getitem__(self, key):
        raise RuntimeError("no items")

    def __iter__(self):
        raise RuntimeError("no iteration")

    def __len__(self):
        raise RuntimeError("no length")


class GrumpyList(list):
    """A list that cannot be iterated."""

    def __iter__(self):
        raise RuntimeError("no iteration")

    __len__ = __iter__


class GrumpyText(str):
    """A string with methods of its own."""

    __slots__ = ()

    def __str__(self):
        raise RuntimeError("no str")

    __repr__ = __format__ = encode = isascii = lower = __str__


class GrumpyInt(int):
    """An int with methods of its own."""

    def __int__(self):
        raise RuntimeError("no int")

    __repr__ = __str__ = __index__ = __int__


class GrumpyClass:
    """An object that lies about its class, or fails to."""

    @property
    def __class__(self):
        raise RuntimeError("no class")


class GrumpyError(Exception):
    """An error that cannot be shown."""

    def __str__(self):
        raise RuntimeError("no str")

    __repr__ = __str__


class ErrorDict(dict):
    """A dict that raises an error which cannot be shown."""

    def items(self):
        """Raise."""
        raise GrumpyError

    get = items


def circular() -> dict[str, Any]:
    """Return a dict that holds itself."""
    value: dict[str, Any] = {"list": []}
    value["list"].append(value)
    return value


def endless_list() -> list[Any]:
    """Return a list that holds itself."""
    value: list[Any] = []
    value.append(value)
    return value


HOSTILE = {
    "circular dict": circular,
    "circular list": endless_list,
    "very deep": lambda: deep(10_000, list),
    "lone surrogate": lambda: "\udc80",
    "generator": lambda: (n for n in range(3)),
    "raising object": Grumpy,
    "raising dict": lambda: GrumpyDict(event="page_view", a=1),
    "raising mapping": GrumpyMapping,
    "raising list": lambda: GrumpyList([1]),
    "raising text": lambda: GrumpyText("text"),
    "raising int": lambda: GrumpyInt(5),
    "raising class": GrumpyClass,
    "raising error": lambda: ErrorDict(event="page_view"),
    "not a number": lambda: math.nan,
    "huge int": lambda: 10**10_000,
    "bytes": lambda: b"\xff" * 1_000,
    "a class": lambda: dict,
    "a function": lambda: len,
    "a module": lambda: math,
    "a lock": threading.Lock,
    "an exception": lambda: GrumpyError(1),
    "five megabytes": lambda: "ä" * 5_000_000,
    "a thousand items": lambda: list(range(1_000)),
    "dict of odd keys": lambda: {(): 1, None: 2, 1.5: 3, b"": 4},
    "keys of megabytes": lambda: {"\ud83d" * 1_000_000: 1, "page_url": 2},
}
PLACES = {
    "event": lambda value: value,
    "list": lambda value: [value, page()],
    "name": lambda value: {"event": value},
    "text": lambda value: struct(label=value),
    "url": lambda value: page(page_url=value),
    "number": lambda value: struct(value=value),
    "whole number": lambda value: {**page(min_x=value), "event": "page_ping"},
    "choice": lambda value: form(node_name=value),
    "texts": lambda value: {"event": "site_search", "terms": value},
    "a text": lambda value: {"event": "site_search", "terms": ["t", value]},
    "filters": lambda value: {"event": "site_search", "terms": ["t"], "filters": value},
    "a filter": lambda value: {"event": "site_search", "terms": ["t"], "filters": {"a": value}},
    "elements": lambda value: {"event": "form_submit", "form_id": "f", "elements": value},
    "an element": lambda value: submit(value=value),
    "items": lambda value: {
        "event": "ecommerce_transaction",
        "order_id": "o",
        "total_value": 1,
        "items": value,
    },
    "an item": lambda value: {
        "event": "ecommerce_transaction",
        "order_id": "o",
        "total_value": 1,
        "items": [value],
    },
    "schema": lambda value: own({}, value),
    "data": own,
    "deep in data": lambda value: own({"a": [{"b": value}]}),
    "context": lambda value: page(context=value),
    "an entity": lambda value: page(context=[value]),
    "an entity's data": lambda value: page(context=[{"schema": ANYTHING, "data": value}]),
    "subject": lambda value: page(subject=value),
    "a subject's field": lambda value: page(subject={"user_id": value}),
    "a subject's size": lambda value: page(subject={"viewport": (1, value)}),
    "time": lambda value: page(true_timestamp=value),
    "event id": lambda value: page(event_id=value),
    "unknown key": lambda value: page(xyzzy=value),
}


class TestHostileInput:
    """Nothing that a caller can put into an event makes the log call raise."""

    @pytest.mark.parametrize("what", HOSTILE)
    def test_the_log_call_goes_on(self, collector, tmp_path, what):
        """Everywhere in an event anything is refused or sent well, and all of it is counted."""
        ways = ({}, {"before_send": lambda event: event}, {"dead_letter": tmp_path / "letters"})
        for way in ways:
            collector.reset()
            with tracking(collector, **way) as tracked:
                for place in PLACES.values():
                    tracked.log(place(HOSTILE[what]()))
                good = len(tracked.arrived())
                stats = tracked.handler.stats
            assert stats.sent == good > 0  # at least the page view in the list
            errors = tracked.handler.errors
            assert stats.invalid == len(errors)
            assert stats.invalid + stats.sent >= len(PLACES)
            for problem in errors:
                assert isinstance(problem, InvalidEvent)
                assert problem.event
                assert problem.key
                assert len(str(problem)) < 2_000
                str(problem).encode()

    @pytest.mark.parametrize("what", HOSTILE)
    def test_through_an_adapter(self, collector, what):
        """The same is true of an adapter that has something to add to the event."""
        with tracking(collector) as tracked:
            shop = SnowplowAdapter(tracked.logger, subject={"user_id": "u"}, context=[entity()])
            for place in PLACES.values():
                event = place(HOSTILE[what]())
                shop.info("x", extra={"snowplow": event})
                shop.info("x", extra={"snowplow": [event]})
                name = event.get("event") if type(event) is dict else None
                if type(name) is str and name in EVENTS:
                    getattr(shop, name)(**without(event, "event"))
            tracked.arrived()
            stats = tracked.handler.stats
        assert stats.invalid == len(tracked.handler.errors)
        assert stats.invalid + stats.sent >= len(PLACES)

    def test_reported_whatever_it_is(self, collector):
        """`on_failure` gets as much of a bad event as JSON can hold, whatever it is made of."""
        failures = []
        with tracking(collector, on_failure=lambda *failure: failures.append(failure)) as tracked:
            for make in HOSTILE.values():
                tracked.log({"event": "page_view", "value": make()})
            assert tracked.handler.flush(30)
        assert len(failures) == len(HOSTILE)
        for (event,), reason in failures:
            assert event["event"] == "page_view"
            assert "value" in reason
            json.dumps(event, allow_nan=False).encode()

    def test_takes_no_time(self, refusing):
        """Megabytes in the wrong place are refused in no time."""
        text = "ä" * 5_000_000
        start = time.perf_counter()
        for event in (
            {"event": text},
            page(**{text: 1}),
            form(node_name=text),
            page(event_id=text),
        ):
            refusing.log(event)
        assert time.perf_counter() - start < 2
        assert len(refusing.handler.errors) == 4
