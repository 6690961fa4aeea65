"""What values an event may hold, how they arrive, and that nothing changes them any more."""

from __future__ import annotations

import copy
from decimal import Decimal
from uuid import UUID

import pytest

from enums import Colour, Number, Size
from event_examples import (
    COMMON,
    EVENT_ID,
    EXAMPLES,
    as_dict,
)
from helpers import ANYTHING, entity, tracking
from snowplow_logging import (
    PageView,
    SelfDescribing,
    StructuredEvent,
)


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
