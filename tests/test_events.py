"""Every event in every form arrives, as it was logged, and is good."""

from __future__ import annotations

import copy
import enum
import json
import logging
import os
import re
import subprocess
import sys
from collections import OrderedDict, UserDict
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest

from event_examples import BY_NAME, COMMON, EVENT_ID, EXAMPLES, OTHER_ID, PAGE, Example
from helpers import ANYTHING, RecordingHandler, entity, tracking
from snowplow_logging import (
    EcommerceTransaction,
    EcommerceTransactionItem,
    FormChange,
    PageView,
    ScreenView,
    SelfDescribing,
    SelfDescribingJson,
    StructuredEvent,
    Subject,
    protocol,
)
from snowplow_logging.events import EVENTS

SNOWPLOW = "iglu:com.snowplowanalytics.snowplow"
UNSTRUCT = f"{SNOWPLOW}/unstruct_event/jsonschema/1-0-0"
CONTEXTS = f"{SNOWPLOW}/contexts/jsonschema/1-0-1"

examples = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)


def as_object(example: Example, **common: Any) -> Any:
    """Return the event as an object of its class."""
    return EVENTS[example.name](**example.keys, **common)


def as_dict(example: Example, **common: Any) -> dict[str, Any]:
    """Return the event as a dict."""
    return {"event": example.name, **example.keys, **common}


class TestEveryEvent:
    """Each type of event in each of its forms."""

    @examples
    @pytest.mark.parametrize("form", ["dict", "list", "object", "message"])
    def test_arrives_as_it_was_logged(self, tracked, example, form):
        """All keys of an event, and what every event takes, arrive under Snowplow's names."""
        event = {
            "dict": lambda: as_dict(example, **COMMON),
            "list": lambda: [as_dict(example, **COMMON), None],
            "object": lambda: as_object(example, **COMMON),
            "message": lambda: as_object(example, **COMMON),
        }[form]()
        if form == "message":
            tracked.logger.info(event)
        else:
            tracked.log(event)

        (arrived,) = tracked.arrived()
        sent = arrived["rawEvent"]["parameters"]
        assert sent["e"] == example.e
        assert sent["eid"] == EVENT_ID
        assert sent["ttm"] == "1700000000123"
        assert (sent["uid"], sent["ip"], sent["vp"]) == ("u-42", "198.51.100.7", "1024x768")
        assert arrived["event"]["contexts"]["data"] == [entity(plan="gold"), entity(seat=3)]
        if example.schema is None:
            own = {"eid", "dtm", "stm", "ttm", "tv", "tna", "p", "e", "uid", "ip", "vp", "cx"}
            assert {name: sent[name] for name in sent.keys() - own} == example.sent
        else:
            assert arrived["event"]["unstruct_event"] == {
                "schema": UNSTRUCT,
                "data": {"schema": example.schema, "data": example.sent},
            }

    @examples
    def test_needs_only_what_is_required(self, tracked, example):
        """An event with its required keys alone is good."""
        required = {name for name, key in EVENTS[example.name].keys().items() if key.required}
        tracked.log(
            {"event": example.name, **{k: v for k, v in example.keys.items() if k in required}}
        )
        assert len(tracked.arrived()) == 1

    @examples
    def test_takes_none_for_absent(self, tracked, example):
        """A key of None is the same as no key, and an unknown one of None does no harm."""
        optional = {
            name: None for name, key in EVENTS[example.name].keys().items() if not key.required
        }
        nothing = dict.fromkeys(["context", "subject", "true_timestamp", "event_id", "unknown"])
        tracked.log({**as_dict(example), **optional, **nothing})
        (sent,) = tracked.payloads()
        assert sent["eid"]
        assert "ttm" not in sent
        assert "cx" not in sent

    def test_has_its_names(self):
        """The names of the events are those of the documentation."""
        assert set(EVENTS) == {*BY_NAME, "unstruct_event"}

    def test_old_name_of_self_describing_events(self, tracked):
        """`unstruct_event` is a self-describing event."""
        tracked.log({"event": "unstruct_event", "schema": ANYTHING, "data": {"a": 1}})
        (arrived,) = tracked.arrived()
        assert arrived["event"]["unstruct_event"]["data"] == entity(a=1)

    def test_a_null_where_the_schema_has_one(self, tracked):
        """A form's value of None is sent as null, from a dict and from an object."""
        keys = {"form_id": "f", "element_id": "e", "node_name": "SELECT", "value": None}
        tracked.log([{"event": "form_change", **keys}, FormChange(**keys)])
        for arrived in tracked.arrived():
            data = arrived["event"]["unstruct_event"]["data"]["data"]
            assert data == {"formId": "f", "elementId": "e", "nodeName": "SELECT", "value": None}

    def test_a_screen_gets_an_id(self, tracked):
        """A screen view without an id gets a UUID of its own."""
        tracked.log([ScreenView(name="a"), {"event": "screen_view", "name": "b"}])
        ids = {
            UUID(arrived["event"]["unstruct_event"]["data"]["data"]["id"])
            for arrived in tracked.arrived()
        }
        assert len(ids) == 2

    def test_an_error_is_python_s(self, tracked):
        """An application error is one of Python where it does not say otherwise."""
        tracked.log({"event": "application_error", "message": "m"})
        (arrived,) = tracked.arrived()
        data = arrived["event"]["unstruct_event"]["data"]["data"]
        assert data == {"message": "m", "programmingLanguage": "PYTHON"}


class TestForms:
    """Where events are looked for, and in what."""

    def test_several_in_one_record(self, tracked):
        """The events of a list and the message arrive in that order, each with an id."""
        first, second, third = (f"https://a.example/{n}" for n in "123")
        events = [PageView(page_url=first), None, {"event": "page_view", "page_url": second}]
        tracked.logger.info(PageView(page_url=third), extra={"snowplow": events})
        payloads = tracked.payloads()
        assert [sent["url"] for sent in payloads] == [first, second, third]
        assert len({sent["eid"] for sent in payloads}) == 3

    def test_a_bad_one_costs_only_itself(self, tracked):
        """In a list of events the good ones arrive and each bad one is refused alone."""
        good = as_dict(BY_NAME["page_view"])
        tracked.log([good, {"event": "page_view"}, 5, good, {"event": "nothing"}])
        assert len(tracked.arrived()) == 2
        assert len(tracked.handler.errors) == tracked.handler.stats.invalid == 3

    @pytest.mark.parametrize("nothing", [None, [], [None], ()])
    def test_no_event(self, tracked, nothing):
        """None, and a list of nothing, is no event and no error."""
        tracked.log(nothing)
        assert tracked.arrived() == []
        assert tracked.handler.stats.invalid == 0

    @pytest.mark.parametrize("kind", [MappingProxyType, OrderedDict, UserDict])
    def test_any_mapping(self, tracked, kind):
        """What is like a dict is taken as one, all the way down."""
        data = kind({"a": kind({"b": 1})})
        tracked.log(
            kind(
                {
                    "event": "self_describing_event",
                    "schema": ANYTHING,
                    "data": data,
                    "context": (kind({"schema": ANYTHING, "data": data}),),
                    "subject": kind({"user_id": "u"}),
                }
            )
        )
        (arrived,) = tracked.arrived()
        assert arrived["event"]["unstruct_event"]["data"] == entity(a={"b": 1})
        assert arrived["event"]["contexts"]["data"] == [entity(a={"b": 1})]
        assert arrived["event"]["user_id"] == "u"

    def test_another_attribute(self, collector):
        """The handler's `event_key` renames the attribute, and the other one says nothing then."""
        event = as_dict(BY_NAME["page_view"])
        with tracking(collector, event_key="telemetry") as tracked:
            tracked.logger.info("x", extra={"telemetry": event, "snowplow": 5})
            assert len(tracked.arrived()) == 1

    def test_other_records_pass_by(self, tracked):
        """A record without an event is neither sent nor counted."""
        tracked.logger.info("basket %s", "opened", extra={"event": "page_view"})
        assert tracked.arrived() == []
        stats = tracked.handler.stats
        assert stats.sent == stats.queued == stats.invalid == stats.filtered == 0

    def test_plain_json(self, collector):
        """With `encode_base64` off the JSON is sent as it is."""
        with tracking(collector, encode_base64=False) as tracked:
            tracked.log(as_dict(BY_NAME["link_click"], context=[entity(a="é")]))
            (sent,) = tracked.payloads()
        assert json.loads(sent["co"]) == {"schema": CONTEXTS, "data": [entity(a="é")]}
        assert json.loads(sent["ue_pr"])["schema"] == UNSTRUCT
        assert "cx" not in sent
        assert "ue_px" not in sent

    def test_a_mapping_is_written_as_a_dict_is(self, collector):
        """A replay reads dicts, and what it sends is the same to the last digit."""
        with tracking(collector, encode_base64=False) as tracked:
            for kind in (dict, OrderedDict):
                data = {"none": None, "small": kind(value=1.5e-7)}
                tracked.log(as_dict(BY_NAME["page_view"], context=[entity(**data)]))
            first, second = tracked.payloads()
        assert first["co"] == second["co"]

    def test_the_tracker_s_own_values(self, collector):
        """Namespace, application and platform are the handler's, and a subject's platform wins."""
        settings = {"namespace": "ns", "app_id": "shop", "platform": "app"}
        with tracking(collector, **settings) as tracked:
            event = as_dict(BY_NAME["page_view"])
            tracked.log([event, {**event, "subject": {"platform": "web"}}])
            first, second = tracked.payloads()
        assert (first["tna"], first["aid"], first["p"]) == ("ns", "shop", "app")
        assert first["tv"].startswith("snowplow-logging-")
        assert second["p"] == "web"

    def test_by_get(self, collector):
        """The same values arrive by GET."""
        with tracking(collector, method="get") as tracked:
            event = as_dict(BY_NAME["link_click"], event_id=EVENT_ID, context=[entity(a="é&=")])
            tracked.log(event)
            (arrived,) = tracked.arrived()
        assert arrived["event"]["event_id"] == EVENT_ID
        assert arrived["event"]["contexts"]["data"] == [entity(a="é&=")]

    @examples
    def test_a_readable_line(self, example):
        """An event object as a message is a line with its name and its main values."""
        record = logging.makeLogRecord({"msg": as_object(example, event_id=EVENT_ID)})
        line = record.getMessage()
        assert line.startswith(example.name)
        assert "event_id" not in line
        for key, value in example.keys.items():
            if isinstance(value, (str, int)):
                shown = str(value).replace("\n", "\\n").replace("\t", "\\t")
                assert f"{key}={shown}" in line


class Colour(enum.Enum):
    """An enum of strings."""

    RED = "red"


class Size(str, enum.Enum):
    """An enum whose members are strings themselves."""

    LARGE = "large"


class Number(enum.IntEnum):
    """An enum whose members are ints."""

    TWO = 2


class TestValues:
    """What is taken where Snowplow wants text, a number, a whole number."""

    @pytest.mark.parametrize(
        ("value", "sent"),
        [
            ("text", "text"),
            (42, "42"),
            (-1, "-1"),
            (UUID(EVENT_ID), EVENT_ID),
            (Colour.RED, "red"),
            (Size.LARGE, "large"),
            ("🧺 ünïcode \u2028", "🧺 ünïcode \u2028"),
        ],
    )
    def test_text(self, tracked, value, sent):
        """A str, an int, a UUID and an enum of strings are text, in the protocol and in JSON."""
        tracked.log(
            [
                StructuredEvent(category=value, action="a"),
                {"event": "link_click", "target_url": value, "element_classes": [value]},
                PageView(page_url="https://a.example/", subject={"user_id": value}),
            ]
        )
        struct, link, page = tracked.arrived()
        assert struct["rawEvent"]["parameters"]["se_ca"] == sent
        data = link["event"]["unstruct_event"]["data"]["data"]
        assert data == {"targetUrl": sent, "elementClasses": [sent]}
        assert page["rawEvent"]["parameters"]["uid"] == sent

    @pytest.mark.parametrize(
        ("value", "text", "in_json"),
        [
            (5, "5", 5),
            (9.9, "9.9", 9.9),
            (Decimal("9.90"), "9.90", 9.9),
            (Decimal(3), "3", 3),
            (Number.TWO, "2", 2),
            (1e22, "1" + "0" * 22, 1e22),
            (-0.5, "-0.5", -0.5),
            (2**70, str(2**70), 2**70),
        ],
    )
    def test_numbers(self, tracked, value, text, in_json):
        """An int, a float and a Decimal are numbers, in the protocol and in JSON."""
        tracked.log(
            [
                StructuredEvent(category="c", action="a", value=value),
                {"event": "add_to_cart", "sku": "s", "quantity": value},
            ]
        )
        struct, cart = tracked.arrived()
        assert struct["rawEvent"]["parameters"]["se_va"] == text
        assert cart["event"]["unstruct_event"]["data"]["data"]["quantity"] == in_json

    @pytest.mark.parametrize(
        ("value", "sent"), [(12, "12"), (12.0, "12"), (Decimal("12.00"), "12"), (Number.TWO, "2")]
    )
    def test_whole_numbers(self, tracked, value, sent):
        """An integral float is a whole number, and is sent without its fraction."""
        item = {"event": "ecommerce_transaction_item", "order_id": "o", "sku": "s", "price": 1}
        tracked.log(
            [
                {**item, "quantity": value},
                {"event": "site_search", "terms": ["t"], "total_results": value},
            ]
        )
        item, search = tracked.arrived()
        assert item["rawEvent"]["parameters"]["ti_qu"] == sent
        total = search["event"]["unstruct_event"]["data"]["data"]["totalResults"]
        assert type(total) is int
        assert str(total) == sent

    def test_free_json(self, tracked):
        """Data of one's own keeps its values; what JSON has no type for takes the nearest."""
        tracked.log(
            SelfDescribing(
                schema=ANYTHING,
                data={
                    "none": None,
                    "flag": True,
                    "float": 1.5,
                    "big": 2**64,
                    "tuple": (1, 2),
                    "uuid": UUID(EVENT_ID),
                    "decimal": Decimal("1.25"),
                    "whole": Decimal(7),
                    "enums": [Colour.RED, Size.LARGE, Number.TWO],
                    Size.LARGE: "key",
                },
            )
        )
        (arrived,) = tracked.arrived()
        assert arrived["event"]["unstruct_event"]["data"]["data"] == {
            "none": None,
            "flag": True,
            "float": 1.5,
            "big": 2**64,
            "tuple": [1, 2],
            "uuid": EVENT_ID,
            "decimal": 1.25,
            "whole": 7,
            "enums": ["red", "large", 2],
            "large": "key",
        }


class TestCut:
    """Free text that is too long is cut to its limit."""

    @pytest.mark.parametrize("unit", ["a", "é", "\t", "😀", "a😀\t"])
    @pytest.mark.parametrize("more", [0, 1, 5])
    def test_title_and_user_agent(self, tracked, unit, more):
        """A title and a user agent keep as many whole characters as Enrich takes."""
        width = {"a": 1, "é": 1, "\t": 4, "😀": 2, "a😀\t": 7}[unit]
        title, agent = (unit * (limit // width + more) for limit in (2_000, 1_000))
        tracked.log(
            PageView(page_url="https://a.example/", page_title=title, subject={"useragent": agent})
        )
        (sent,) = tracked.payloads()
        for given, cut, limit in (title, sent["page"], 2_000), (agent, sent["ua"], 1_000):
            full = given.replace("\t", "    ")
            assert full.startswith(cut)
            used = len(cut.encode("utf-16-le")) // 2
            assert used <= limit
            following = {"😀": 2}.get(full[len(cut) : len(cut) + 1], 1)
            assert cut == full or used + following > limit

    @pytest.mark.parametrize("unit", ["a", "😀", "\t"])
    def test_errors(self, tracked, unit):
        """The texts of an error are cut to what the schema takes, which counts characters."""
        limits = {
            "message": 2_048,
            "thread_name": 1_024,
            "stack_trace": 8_192,
            "cause_stack_trace": 8_192,
            "class_name": 1_024,
            "exception_name": 1_024,
            "file_name": 1_024,
        }
        tracked.log(
            {
                "event": "application_error",
                **{key: unit * (limit + 3) for key, limit in limits.items()},
            }
        )
        (arrived,) = tracked.arrived()
        data = arrived["event"]["unstruct_event"]["data"]["data"]
        del data["programmingLanguage"]
        assert sorted(map(len, data.values())) == sorted(limits.values())


class TestFixedAtTheLogCall:
    """What an event is, is fixed when it is logged."""

    def test_a_later_change_changes_nothing(self, collector):
        """A dict that its owner changes afterwards arrives as it was at the log call."""
        event = {
            "event": "self_describing_event",
            "schema": ANYTHING,
            "data": {"list": [1], "dict": {"a": 1}},
            "context": [entity(a=[1])],
            "subject": {"user_id": "u-1"},
        }
        for settings in ({}, {"before_send": lambda event: event}):
            with tracking(collector, flush_interval=60, **settings) as tracked:
                logged = copy.deepcopy(event)
                tracked.log(logged)
                logged["data"]["list"].append(2)
                logged["data"]["dict"]["a"] = 2
                logged["context"][0]["data"]["a"].clear()
                logged["context"].clear()
                logged["subject"]["user_id"] = "u-2"
                logged.clear()
                arrived = tracked.arrived()[-1]["event"]
            assert arrived["unstruct_event"]["data"] == entity(list=[1], dict={"a": 1})
            assert arrived["contexts"]["data"] == [entity(a=[1])]
            assert arrived["user_id"] == "u-1"

    def test_the_caller_s_dicts_stay_as_they_are(self, collector):
        """Nothing is written into what the caller gave, whatever `before_send` does to it."""

        def meddle(event):
            event.setdefault("context", []).append(entity(b=1))
            event["subject"]["user_id"] = "changed"
            event.get("data", {}).clear()
            event.get("elements", [{}])[0].clear()
            return event

        for settings in ({}, {"before_send": meddle}):
            with tracking(collector, subject={"language": "de"}, **settings) as tracked:
                for example in EXAMPLES:
                    event = as_dict(example, **COMMON)
                    items = [{"sku": "s", "price": 1, "quantity": 1}]
                    if example.name == "ecommerce_transaction":
                        event["items"] = items
                    before = copy.deepcopy(event)
                    tracked.log(event)
                    assert event == before
                assert tracked.handler.flush(30)


class TestTransactions:
    """A transaction with items is one event for itself and one for each item."""

    ITEMS = (
        {"sku": "s1", "price": 9.9, "quantity": 1},
        {
            "sku": "s2",
            "price": 5,
            "quantity": 2,
            "currency": "USD",
            "true_timestamp": 1_600_000_000_000,
            "subject": {"user_id": "u-2"},
            "context": [entity(own=True)],
            "event_id": OTHER_ID,
            "order_id": "another",
        },
        {"sku": "s3", "price": 1, "quantity": 1, "currency": None},
    )

    @pytest.mark.parametrize("form", ["dict", "mapping", "object", "objects"])
    def test_items_inherit(self, tracked, form):
        """Items take the order id, and where they have none of their own the other values."""
        keys = {"order_id": "o1", "total_value": 20, "currency": "EUR", **COMMON}
        items: Any = [dict(item) for item in self.ITEMS]
        if form == "objects":
            items = [EcommerceTransactionItem(**{"order_id": "x", **item}) for item in items]
        if form == "dict":
            tracked.log({"event": "ecommerce_transaction", **keys, "items": items})
        elif form == "mapping":
            items = tuple(map(MappingProxyType, items))
            event = {"event": "ecommerce_transaction", **keys, "items": items}
            tracked.log(MappingProxyType(event))
        else:
            tracked.logger.info(EcommerceTransaction(**keys, items=items))

        transaction, *arrived = tracked.arrived()
        assert transaction["eventType"] == "transaction"
        assert transaction["event"]["event_id"] == EVENT_ID
        sent = [item["rawEvent"]["parameters"] for item in arrived]
        assert [item["ti_sk"] for item in sent] == ["s1", "s2", "s3"]
        assert [item["ti_id"] for item in sent] == ["o1"] * 3
        assert [item["ti_cu"] for item in sent] == ["EUR", "USD", "EUR"]
        assert [item["ttm"] for item in sent] == ["1700000000123", "1600000000000", "1700000000123"]
        assert [item["uid"] for item in sent] == ["u-42", "u-2", "u-42"]
        both = [entity(plan="gold"), entity(seat=3)]
        contexts = [item["event"]["contexts"]["data"] for item in arrived]
        assert contexts == [both, [entity(own=True)], both]
        assert sent[1]["eid"] == OTHER_ID
        assert len({EVENT_ID, *(item["eid"] for item in sent)}) == 4

    def test_an_item_s_id_follows_from_the_transaction_s(self, tracked):
        """The same transaction logged again has the same ids, so that it is a duplicate."""
        event = {"order_id": "o", "total_value": 1, "event_id": EVENT_ID, "items": self.ITEMS}
        for _ in range(2):
            tracked.log({"event": "ecommerce_transaction", **event})
        ids = [sent["eid"] for sent in tracked.payloads()]
        assert ids[:4] == ids[4:]

    def test_a_bad_item_costs_only_itself(self, tracked):
        """The transaction and its good items arrive."""
        items = [{"sku": "s1", "price": 1, "quantity": 1.5}, self.ITEMS[0], 5]
        tracked.log(
            {"event": "ecommerce_transaction", "order_id": "o", "total_value": 1, "items": items}
        )
        assert [sent["e"] for sent in tracked.payloads()] == ["tr", "ti"]
        assert len(tracked.handler.errors) == 2

    def test_no_items(self, tracked):
        """A transaction with an empty list of items is one event."""
        tracked.logger.info(EcommerceTransaction(order_id="o", total_value=1, items=[]))
        assert [sent["e"] for sent in tracked.payloads()] == ["tr"]


class TestEventIds:
    """Every event has an id, and each its own."""

    def test_two_handlers(self, collector):
        """All handlers that see a record give its events the same ids."""
        with tracking(collector) as tracked:
            second = RecordingHandler(collector.endpoint, namespace="second")
            tracked.logger.addHandler(second)
            page = as_dict(BY_NAME["page_view"])
            transaction = as_dict(BY_NAME["ecommerce_transaction"], items=TestTransactions.ITEMS)
            tracked.log([page, transaction, as_dict(BY_NAME["screen_view"], id=None), page])
            tracked.logger.info(PageView(page_url="https://a.example/"))
            assert second.flush(30)
            payloads = tracked.payloads()
            second.close()
        ids: dict[str, list[Any]] = {"second": [], "snowplow_logging": []}
        for sent in payloads:
            ids[sent["tna"]].append((sent["eid"], sent.get("ue_px")))
        assert sorted(ids["second"]) == sorted(ids["snowplow_logging"])
        assert len({eid for eid, _ in ids["second"]}) == 8

    def test_each_event_has_its_own(self, tracked):
        """Events logged one after another have different ids, all of them UUIDs."""
        event = as_dict(BY_NAME["page_view"])
        for _ in range(500):
            tracked.log([event, event])
        ids = {UUID(sent["eid"]) for sent in tracked.payloads()}
        assert len(ids) == 1_000

    @pytest.mark.parametrize("given", [EVENT_ID, EVENT_ID.upper(), UUID(EVENT_ID)])
    def test_the_caller_s_own(self, tracked, given):
        """An id that is given is kept, in lower case."""
        tracked.log(as_dict(BY_NAME["page_view"], event_id=given))
        assert [sent["eid"] for sent in tracked.payloads()] == [EVENT_ID]


class TestBeforeSend:
    """What `before_send` makes of an event."""

    def logged(self, collector, before_send, event=None, **settings):
        """Log an event through `before_send`, and return what arrived and the handler."""
        event = event or as_dict(BY_NAME["page_view"], subject={"user_id": "u-1"})
        with tracking(collector, before_send=before_send, **settings) as tracked:
            tracked.log(event)
            return tracked.arrived(), tracked.handler

    def test_sees_the_whole_event(self, collector):
        """It gets a dict with the event's id, its whole subject and all its entities."""
        seen = []
        arrived, _ = self.logged(
            collector,
            lambda event: seen.append(event) or event,
            subject={"language": "de", "user_id": "u-0"},
            context=[entity(a=1), lambda record: SelfDescribingJson(ANYTHING, {"b": record.name})],
        )
        (event,) = seen
        assert event.pop("event_id") == arrived[0]["event"]["event_id"]
        assert event == {
            "event": "page_view",
            **PAGE,
            "subject": {"user_id": "u-1", "language": "de"},
            "context": [entity(a=1), entity(b="shop")],
        }
        assert arrived[0]["event"]["contexts"]["data"] == event["context"]
        assert arrived[0]["event"]["br_lang"] == "de"

    def test_changes_it(self, collector):
        """What it returns is what is sent, and what it takes out is not put back."""

        def before_send(event):
            event["page_title"] = "changed"
            del event["referrer"], event["subject"]["user_id"], event["context"]
            return event

        arrived, _ = self.logged(
            collector, before_send, subject={"user_id": "u-0"}, context=[entity(a=1)]
        )
        sent = arrived[0]["rawEvent"]["parameters"]
        assert sent["page"] == "changed"
        assert not {"refr", "uid", "cx"} & sent.keys()

    def test_leaves_it_out(self, collector):
        """None leaves the event out, and it is counted as filtered."""
        arrived, handler = self.logged(collector, lambda event: None)
        assert arrived == []
        assert (handler.stats.filtered, handler.stats.invalid, handler.errors) == (1, 0, [])

    def test_returns_an_object(self, collector):
        """It may return another event, as an object."""
        arrived, _ = self.logged(
            collector, lambda event: StructuredEvent(category="c", action=event["page_title"])
        )
        assert arrived[0]["event"]["se_action"] == "Bäsket 🧺"

    def test_raises(self, collector):
        """One that raises costs the event, which is counted, and nothing else."""
        failures = []

        def before_send(event):
            raise KeyError("nothing")

        arrived, handler = self.logged(
            collector, before_send, on_failure=lambda events, reason: failures.append(reason)
        )
        assert arrived == []
        assert handler.stats.invalid == 1
        assert dict(handler.stats.losses) == {"before_send failed": 1}
        assert [type(error) for error in handler.errors] == [KeyError]
        assert len(failures) == 1
        assert "KeyError" in failures[0]

    @pytest.mark.parametrize("returned", [True, 5, [], "page_view", {"event": "page_view"}])
    def test_returns_nonsense(self, collector, returned):
        """What Snowplow would refuse is refused after it as before."""
        arrived, handler = self.logged(collector, lambda event: returned)
        assert arrived == []
        assert handler.stats.invalid == 1

    def test_null_values(self, collector):
        """A form's value of None is there for it, and still null when it is sent."""
        event = FormChange(form_id="f", element_id="e", node_name="INPUT", value=None)
        seen = []
        arrived, _ = self.logged(collector, lambda event: seen.append(event) or event, event)
        assert seen[0]["value"] is None
        assert "type" not in seen[0]
        assert arrived[0]["event"]["unstruct_event"]["data"]["data"]["value"] is None

    def test_each_part_of_a_transaction(self, collector):
        """It is called for the transaction and for each item."""
        names = []
        event = as_dict(BY_NAME["ecommerce_transaction"], items=TestTransactions.ITEMS)
        self.logged(collector, lambda event: names.append(event["event"]), event)
        assert names == ["ecommerce_transaction", *["ecommerce_transaction_item"] * 3]


class TestCommonKeys:
    """The forms that the keys of every event may have."""

    def test_subject_class(self, tracked):
        """A `Subject` with all its fields arrives under the protocol's names."""
        subject = Subject(
            platform="web",
            user_id="u",
            domain_user_id="d",
            domain_session_id=UUID(EVENT_ID),
            domain_session_index=3,
            network_user_id="n",
            ip_address="198.51.100.7",
            useragent="agent",
            language="de-DE",
            timezone="Europe/Berlin",
            color_depth="24",
            screen_resolution=(1920, 1080),
            viewport=(1024, 768),
        )
        tracked.log(PageView(page_url="https://a.example/", subject=subject))
        (sent,) = tracked.payloads()
        names = "p uid duid sid vid tnuid ip ua lang tz cd res vp".split()
        assert {name: sent[name] for name in names} == {
            "p": "web",
            "uid": "u",
            "duid": "d",
            "sid": EVENT_ID,
            "vid": "3",
            "tnuid": "n",
            "ip": "198.51.100.7",
            "ua": "agent",
            "lang": "de-DE",
            "tz": "Europe/Berlin",
            "cd": "24",
            "res": "1920x1080",
            "vp": "1024x768",
        }

    def test_empty_text_is_absent(self, collector):
        """An empty string is not sent, and takes nothing away from an outer subject."""
        with tracking(collector, subject={"user_id": "u"}) as tracked:
            tracked.log(
                PageView(
                    page_url="https://a.example/",
                    page_title="",
                    referrer="",
                    subject={"user_id": "", "language": ""},
                    context=[],
                )
            )
            (sent,) = tracked.payloads()
        assert sent["uid"] == "u"
        assert not {"page", "refr", "lang", "cx"} & sent.keys()


LOG_ALL = """
import importlib.util, json, logging, os, sys
if "without orjson" in sys.argv:
    sys.modules["orjson"] = None
class AsPython:
    def find_spec(name, path, target):
        package, _, module = name.partition(".")
        source = f"{path[0]}/{module}.py" if path else ""
        if package == "snowplow_logging" and os.path.exists(source):
            return importlib.util.spec_from_file_location(name, source)
if "as Python" in sys.argv:
    sys.meta_path.insert(0, AsPython)
import test_events
from helpers import tracking
from snowplow_logging import LocalCollector, json_data, protocol
assert (json_data.orjson is None) == ("without orjson" in sys.argv)
assert protocol.__file__.endswith(".py") or "as Python" not in sys.argv
with LocalCollector() as collector, tracking(collector, encode_base64=False) as tracked:
    for number, event in enumerate(test_events.corpus()):
        event = {"event_id": f"00000000-0000-8000-8000-{number:012}", **event}
        record = {"created": 1.7e9 + number, "snowplow": event}
        tracked.handler.handle(logging.makeLogRecord(record))
    assert tracked.handler.flush(30)
    for sent in tracked.payloads():
        del sent["stm"]
        print(json.dumps(sent))
    print(json.dumps(list(map(str, tracked.handler.errors))))
"""


def corpus():
    """Return events of all kinds, good and bad, for both ways of writing JSON."""
    odd = {
        "texts": ['é\0\x1f"\\/\u2028😀', "\ud83d", Size.LARGE, UUID(EVENT_ID), Colour.RED],
        "numbers": [1e16, 1e-7, -0.0, 2**63, 2**64, Decimal("0.1"), Number.TWO, float("nan")],
        "others": [b"bytes", {1}, object, (1, (2,)), MappingProxyType({"a": float("inf")})],
    }
    yield from (as_dict(example, **COMMON) for example in EXAMPLES)
    for values in odd.values():
        for value in values:
            yield {"event": "self_describing_event", "schema": ANYTHING, "data": {"value": value}}
            yield as_dict(BY_NAME["page_view"], context=[entity(value=value)])
            yield {"event": "site_search", "terms": [value], "filters": {"a": value}}
            yield {"event": "struct_event", "category": value, "action": "a", "value": value}
    for levels in (35, 36, 37, 38, 49, 50):
        value: Any = "leaf"
        for _ in range(levels - 1):
            value = [value]
        yield {"event": "self_describing_event", "schema": ANYTHING, "data": value}


class TestFasterWays:
    """`orjson` and the compiler make the library faster and change nothing else."""

    def run(self, *arguments):
        """Run Python in the folder of the tests."""
        tests = Path(__file__).parent
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tests,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    @pytest.mark.parametrize(
        "slower", [["without orjson"], ["as Python"], ["without orjson", "as Python"]]
    )
    def test_payloads_are_equal(self, slower):
        """With and without them the same values are sent and the same errors found."""
        pytest.importorskip("orjson")
        pytest.importorskip("werkzeug")
        if "as Python" in slower and protocol.__file__.endswith(".py"):
            pytest.skip("is not compiled here")
        ways = [self.run("-c", LOG_ALL, *way) for way in ([], slower)]
        assert [way.returncode for way in ways] == [0, 0], [way.stderr for way in ways]
        fast, slow = (list(map(self.values, way.stdout.splitlines())) for way in ways)
        assert len(fast) > 50
        for one, other in zip(fast, slow, strict=True):
            assert one == other

    def values(self, line):
        """Return what was printed, JSON inside of it read, whose spelling may differ."""
        printed = json.loads(line)
        if isinstance(printed, dict):
            for name in {"co", "ue_pr"} & printed.keys():
                printed[name] = json.loads(printed[name])
        return printed

    @pytest.mark.usefixtures("running_collector")  # where there is none all would be skipped
    def test_nothing_bad_leaves_without_orjson(self):
        """What Snowplow would refuse is refused, and the log call goes on, without it, too."""
        result = self.run(
            "-c",
            "import sys; sys.modules['orjson'] = None; import pytest; sys.exit(pytest.main())",
            *[
                "-q",
                "-rs",
                "-p",
                "no:cacheprovider",
                "-p",
                "no:xdist",
                "-k",
                "(TestWhateverIsLogged and True) or goes_on",
            ],
            str(Path(__file__).with_name("test_refused.py")),
        )
        assert result.returncode == 0, result.stdout + result.stderr
        assert re.search(r"\d\d+ passed", result.stdout), result.stdout
