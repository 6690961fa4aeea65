"""Every event in every form arrives, as it was logged, and is good."""

from __future__ import annotations

import json
import logging
from collections import OrderedDict, UserDict
from importlib.resources import files
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest

from event_examples import (
    BY_NAME,
    COMMON,
    EVENT_ID,
    EXAMPLES,
    OTHER_ID,
    as_dict,
    as_object,
)
from helpers import ANYTHING, RecordingHandler, entity, tracking
from snowplow_logging import (
    EcommerceTransaction,
    EcommerceTransactionItem,
    FormChange,
    PageView,
    ScreenView,
    Subject,
)
from snowplow_logging.events import EVENTS

SNOWPLOW = "iglu:com.snowplowanalytics.snowplow"
UNSTRUCT = f"{SNOWPLOW}/unstruct_event/jsonschema/1-0-0"
CONTEXTS = f"{SNOWPLOW}/contexts/jsonschema/1-0-1"

examples = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)


class TestEveryEvent:
    """Each type of event in each of its forms."""

    def test_its_schema_comes_with_the_package(self):
        """So that its data can be checked where there is no registry."""
        schemas = files("snowplow_logging") / "iglu_central" / "schemas"
        uris = {cls.event_schema for cls in EVENTS.values() if cls.event_schema}
        assert len(uris) > 7
        assert [uri for uri in uris if not (schemas / uri.removeprefix("iglu:")).is_file()] == []

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
