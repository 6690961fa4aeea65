"""What Snowplow would refuse never leaves, and its caller is told what to mend."""

from __future__ import annotations

import logging
import math
import pickle
import re
import threading
from datetime import datetime
from decimal import Decimal
from uuid import UUID
from wsgiref.util import setup_testing_defaults

import pytest

from enums import Colour
from event_dicts import PAGE, cart, deep, error, form, own, page, struct, submit, without
from helpers import ANYTHING, entity, tracking
from snowplow_logging import InvalidEvent, SelfDescribingJson, SnowplowHandler
from snowplow_logging.web import SnowplowMiddleware

NAIVE = datetime(2026, 4, 1, 12)  # noqa: DTZ001 - that it has no time zone is its fault
INTEGER = "a whole number from -2,147,483,648 to 2,147,483,647"
COUNT = "a whole number from 0 to 2,147,483,647"
NUMBER = "a number (an int, float or Decimal)"
TEXT = "text (a str, int, UUID, string enum or what stands for a text)"
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
    (page(entities=[]), "page_view", "entities", "is not a key of page_view", "'context'"),
    (page(user_id="u"), "page_view", "user_id", "is not a key", "subject={'user_id': …}"),
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
    (struct(value=True), "struct_event", "value", "is True", NUMBER),
    (struct(value="9,9"), "struct_event", "value", "is '9,9'", "a number such as"),
    (struct(value=" 9"), "struct_event", "value", "is ' 9'", "a number such as"),
    (struct(value="NaN"), "struct_event", "value", "is 'NaN'", "a number such as"),
    (struct(value="1e309"), "struct_event", "value", "is 1E+309", "64-bit float"),
    (struct(value="1e99999999999999999999"), "struct_event", "value", "is '1e9", "64-bit float"),
    (struct(value=10**400), "struct_event", "value", "over 60 digits", "64-bit float"),
    (struct(value=Decimal("1E+309")), "struct_event", "value", "is 1E+309", "64-bit float"),
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
    ({**page(max_y="5.0"), "event": "page_ping"}, "page_ping", "max_y", "is '5.0'", INTEGER),
    ({**page(max_y="1e3"), "event": "page_ping"}, "page_ping", "max_y", "is '1e3'", INTEGER),
    ({**page(max_y="2147483648"), "event": "page_ping"}, "page_ping", "max_y", "8", INTEGER),
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
    # URLs.
    *(
        (page(**{key: url}), "page_view", key, problem, expected)
        for key in ("page_url", "referrer")
        for url, problem, expected in (
            ("https://shop|example/", "the host 'shop|example', which holds '|'", "a host such"),
            ("https://{host}/", "the host '{host}', which holds '{'", "'shop.example.com'"),
            ("https://100%/", "the host '100%', which holds '%'", "'shop.example.com'"),
            ("https://a\u2028b/", "which holds '\\u2028'", "'shop.example.com'"),
            ("https://[::1/", "the host '[::1', which is no IPv6 address", "'[2001:db8::1]'"),
            ("https://[a:b]/", "the host '[a:b]', which is no IPv6 address", "'[2001:db8::1]'"),
            ("https:", "is 'https:', which ends where", "'https://shop.example.com/'"),
            ("https://", "is 'https://', which ends where", "'https://shop.example.com/'"),
            ("mailto:\n", "is 'mailto:', which ends where", "something after its scheme"),
            ("x:#y", "is 'x:#y', which ends where", "something after its scheme"),
            ("//", "is '//', which ends where", "something after its scheme"),
            ("com.example.a.long.app://x", "of 22 characters", "a scheme of at most 16"),
            (f"https://{'a' * 256}/", "has a host of 256", "a host of at most 255"),
            (f"/{'a' * 6_000}", "has a path of 6,001", "a path of at most"),
            (f"/?{'|' * 2_001}", "has a query of 6,003", "a query of at most 6,000"),
            (f"#{'a' * 3_001}", "has a fragment of 3,001", "a fragment of at most 3,000"),
        )
    ),
    (page(page_url="/" + "a" * 3_000), "page_view", "page_url", "a path of 3,001", "most 3,000"),
    *(
        (page(page_url=f"/?a=1&_sp=b&%5fsp={mark}#x"), "page_view", "page_url", problem, "no _sp")
        for mark, problem in (
            ("a.b", "_sp='a.b', whose second part is no time in milliseconds"),
            ("user@example.com", "whose second part is no time"),
            ("a.99999999999999999", "whose second part is no time"),
            ("a..1", "whose second part is no time"),
            ("..", "_sp='..', which Enrich cannot read"),
            ("a" * 129, "whose first part has over 128 characters"),
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
        page(subject={"viewport": "1X1"}),
        "page_view",
        "subject.viewport",
        "'1X1'",
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
    (page(true_timestamp="2026-01"), "page_view", "true_timestamp", "is '2026-01'", TIME),
    (page(true_timestamp="null"), "page_view", "true_timestamp", "is 'null'", TIME),
    *(
        (page(true_timestamp=time), "page_view", "true_timestamp", "looks like seconds", "* 1000")
        for time in (1_700_000_000, 1_700_000_000.5, "1700000000", 315_532_800, 4_102_444_800)
    ),
    (page(true_timestamp=True), "page_view", "true_timestamp", "is True", TIME),
    (page(true_timestamp=NAIVE.date()), "page_view", "true_timestamp", "is a date", TIME),
    (page(true_timestamp=math.nan), "page_view", "true_timestamp", "is nan", "finite"),
    (page(true_timestamp=math.inf), "page_view", "true_timestamp", "is inf", "finite"),
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
        ],
    )
    def test_lengths(self, tracked, limit, name, key):
        """A text may have as many UTF-16 code units as Enrich takes, a tab counting as four.

        Control characters do not count, for Enrich removes them.
        """
        required = {
            "struct_event": struct(),
            "ecommerce_transaction": {"order_id": "o", "total_value": 1},
            "ecommerce_transaction_item": {"order_id": "o", "sku": "s", "price": 1, "quantity": 1},
        }
        for unit, width in (("a", 1), ("é", 1), ("😀", 2), ("\t", 4)):
            count, rest = divmod(limit, width)
            fits = "\n\x7f" + "b" * rest + unit * count
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
        assert len(tracked.arrived()) == 4

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

    def test_what_can_fit_into_no_request_is_refused_by_its_key(self, tracked):
        """It is named before more is done with it, which for megabytes would take seconds."""
        large = {"a": ["x" * 100] * 20_000}
        tracked.log(
            [
                own(large),
                own({"a": {"b": Decimal("1.5"), "c": "é" * 600_000}}),
                page(context=[{"schema": ANYTHING, "data": large}]),
                page(page_url="https://shop.example.com/" + "%" * 1_000_000),
                own({"a": 1}),
            ]
        )
        errors = tracked.handler.errors
        assert [error.key for error in errors] == ["data", "data", "context", "page_url"]
        for one in errors[:3]:
            assert re.fullmatch(r"takes [12],\d{3},\d{3} bytes as JSON", one.problem)
        assert errors[3].problem == "has 1,000,025 characters"
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


def test_the_page_view_of_a_request_names_the_middleware(collector, capsys):
    """Which has logged it, with the settings that say what is in it, and no line of its own."""
    handler = SnowplowHandler(collector.endpoint)
    logger = logging.getLogger("snowplow_logging.web.refused")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)

    def app(environ, start_response):
        return []

    asked = {}
    setup_testing_defaults(asked)
    settings = {"page_view": True, "user": lambda _: True, "logger": logger.name}
    SnowplowMiddleware(app, **settings)(asked, lambda *_: None)
    logger.removeHandler(handler)
    handler.close()
    said, place = capsys.readouterr().err.splitlines()
    assert "user_id is True" in said
    assert "SnowplowMiddleware" in place
    assert "page_view" in place
    assert ".py" not in place
