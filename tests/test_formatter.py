"""`SnowplowJsonFormatter`: python-json-logger's lines with the event in full."""

from __future__ import annotations

import enum
import io
import json
import logging
import logging.config
import math
from collections import OrderedDict
from datetime import datetime, timezone
from decimal import Decimal
from types import MappingProxyType
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pythonjsonlogger.json import JsonFormatter

from event_examples import BY_NAME, as_dict
from event_strategies import events, some_or_many
from faulty_collector import FaultyCollector
from helpers import ANYTHING, RecordingHandler, entity, record
from snowplow_logging import (
    PageView,
    SelfDescribingJson,
    SnowplowAdapter,
    SnowplowJsonFormatter,
    subject_context,
)
from snowplow_logging.cli import main
from snowplow_logging.events import EVENTS

PAGE = {"event": "page_view", "page_url": "https://shop.example.com/basket"}
EVENT_ID = "0f8fad5b-d9cb-469f-a165-70867728950e"


class Plan(enum.Enum):
    """An enum of strings."""

    GOLD = "gold"


def refuse_constant(name):
    """Fail where JSON holds what is no JSON, such as NaN."""
    raise AssertionError(name)


def line_of(event=None, *args, msg="basket opened", attributes=None, **options):
    """Return what the formatter writes for an event, read as strict JSON."""
    line = SnowplowJsonFormatter(*args, **options).format(record(event, msg, **(attributes or {})))
    assert "\n" not in line
    line.encode()
    return json.loads(line, parse_constant=refuse_constant)


def event_of(event, **options):
    """Return the event of such a line."""
    return line_of(event, **options)["snowplow"]


def test_an_event_stands_in_the_line_in_full():
    """The line holds every key that was given, the event's id and its time."""
    event = {
        **PAGE,
        "page_title": None,
        "referrer": "https://example.com/",
        "subject": {"user_id": "u-42"},
        "context": [entity(plan="gold")],
        "true_timestamp": 1_600_000_000_000,
        "event_id": EVENT_ID,
    }

    line = line_of(event)

    written = line.pop("snowplow")
    assert written.pop("tv").startswith("snowplow-logging-")
    del event["page_title"]
    assert written == {**event, "dtm": 1_700_000_000_123}
    assert line == {"message": "basket opened"}


def test_a_line_without_an_event_is_that_of_python_json_logger():
    """A record without an event is written as python-json-logger writes it."""
    options = {"timestamp": True, "static_fields": {"app": "shop"}}
    plain = record(None, order=Decimal(1), bound={"a": UUID(EVENT_ID)})

    assert SnowplowJsonFormatter(**options).format(plain) == JsonFormatter(**options).format(plain)


def test_an_empty_list_is_no_event():
    """A record with a list of no events, or of None, has none in its line."""
    assert line_of([])["snowplow"] is None
    assert line_of([None])["snowplow"] is None


def test_an_event_object_as_the_message_is_readable():
    """A message that is an event object is a readable text, and the event stands in full."""
    line = line_of(None, msg=PageView(page_url="https://a.example/", page_title="Basket"))

    assert line["message"] == "page_view page_url=https://a.example/ page_title=Basket"
    assert line["snowplow"]["page_title"] == "Basket"
    assert set(line) == {"message", "snowplow"}


def test_the_raw_event_is_nowhere_else():
    """A formatter that is asked for every attribute still writes the event once."""
    line = line_of({**PAGE}, reserved_attrs=[], msg=PageView(page_url="https://a.example/"))

    assert [event["page_url"] for event in line["snowplow"]] == [
        PAGE["page_url"],
        "https://a.example/",
    ]
    assert line["msg"] == "page_view page_url=https://a.example/"
    assert not [name for name in line if name.startswith("_")]


def test_several_events_are_a_list():
    """A list of events, and a transaction with its items, stand as the events that they are."""
    transaction = {
        "event": "ecommerce_transaction",
        "order_id": "o-1",
        "total_value": 30,
        "currency": "EUR",
        "items": [
            {"sku": "s1", "price": 10, "quantity": 1},
            {"sku": "s2", "price": 20, "quantity": 1},
        ],
    }

    written = event_of([PAGE, None, transaction])

    assert [event["event"] for event in written] == [
        "page_view",
        "ecommerce_transaction",
        *["ecommerce_transaction_item"] * 2,
    ]
    assert "items" not in written[1]
    assert [(item["order_id"], item["currency"]) for item in written[2:]] == [("o-1", "EUR")] * 2
    assert len({event["event_id"] for event in written}) == 4


def test_what_surrounds_the_log_call_is_in_the_event():
    """The subject of `subject_context` is merged, the event's own winning; its entities follow."""
    event = {**PAGE, "subject": {"user_id": "own", "language": ""}, "context": [entity(a=1)]}

    with subject_context(
        user_id="outer", language="en", context=[SelfDescribingJson(ANYTHING, {})]
    ):
        written = event_of(event)
        bare = event_of(PAGE)

    assert written["subject"] == {"user_id": "own", "language": "en"}
    assert written["context"] == [entity(a=1), entity()]
    assert (bare["subject"], bare["context"]) == (
        {"user_id": "outer", "language": "en"},
        [entity()],
    )


def test_values_are_written_as_plain_json():
    """What is taken where text, a number or a time is wanted becomes JSON's own types."""
    noon = datetime(2023, 11, 14, 12, 0, 0, 123_999, tzinfo=timezone.utc)
    written = event_of(
        MappingProxyType(
            {
                "event": "add_to_cart",
                "sku": Plan.GOLD,
                "quantity": Decimal("2.50"),
                "unit_price": 9.99,
                "context": (
                    SelfDescribingJson(ANYTHING, OrderedDict(id=UUID(EVENT_ID), at=(1, 2))),
                ),
                "subject": {"viewport": (800, 600)},
                "true_timestamp": noon,
                "event_id": UUID(EVENT_ID),
            }
        )
    )

    assert (written["sku"], written["quantity"], written["unit_price"]) == ("gold", 2.5, 9.99)
    assert written["context"] == [entity(id=EVENT_ID, at=[1, 2])]
    assert written["subject"] == {"viewport": [800, 600]}
    assert written["true_timestamp"] == math.floor(noon.timestamp() * 1000)
    assert written["event_id"] == EVENT_ID


@pytest.mark.parametrize(
    "digits", ["9.90", "5", "5.0", "-0", "0E-10", "1E+22", "12345678901234567890.10"]
)
def test_a_decimal_keeps_its_digits_as_a_number(digits):
    """A `Decimal` is a number to any reader of JSON, with each of its digits."""
    event = {"event": "struct_event", "category": "c", "action": "a", "value": Decimal(digits)}
    line = SnowplowJsonFormatter(json_ensure_ascii=False).format(record(event))

    literals = []
    value = json.loads(line, parse_float=lambda text: literals.append(text) or float(text))

    assert value["snowplow"]["value"] == float(digits)
    assert [str(Decimal(text)) for text in literals] == [digits]


def test_none_stands_where_it_is_a_value():
    """A form's value of None is sent as null, so that the line has it."""
    form = {"event": "form_change", "form_id": "f", "element_id": "e", "node_name": "INPUT"}

    assert event_of({**form, "value": None, "type": None}).keys() == {
        *form, "value", "event_id", "dtm", "tv"
    }  # fmt: skip


class TestOptions:
    """All of python-json-logger's options do here what they do there."""

    def test_fields_are_renamed(self):
        """A field of the line, and that of the event, takes the name that it is given."""
        line = line_of(PAGE, rename_fields={"message": "text", "snowplow": "event"})

        assert line.keys() == {"text", "event"}
        assert line["event"]["page_url"] == PAGE["page_url"]

    def test_fields_are_added(self):
        """Static fields, required ones and a timestamp stand beside the event."""
        options = {"static_fields": {"app": "shop"}, "timestamp": "at"}

        line = line_of(PAGE, "%(levelname)s %(snowplow)s %(message)s", **options)

        assert line.keys() == {"levelname", "message", "snowplow", "app", "at"}
        assert line["snowplow"]["event"] == "page_view"

    def test_defaults_give_way_to_the_event(self):
        """A default or static field of the event's name stands where there is no event alone."""
        options = {"static_fields": {"snowplow": "none"}}

        assert line_of(None, **options)["snowplow"] == "none"
        assert line_of(PAGE, **options)["snowplow"]["event"] == "page_view"

    def test_a_prefix_stands_before_the_line(self):
        """A prefix is written before the JSON."""
        line = SnowplowJsonFormatter(prefix="@cee: ").format(record(PAGE))

        assert line.startswith('@cee: {"message"')

    def test_an_own_json_default_and_serializer_are_used(self):
        """What serialises the other fields needs to know nothing of events."""
        calls = []

        def dumps(value, **options):
            calls.append(value)
            return json.dumps(value, **options)

        event = {**PAGE, "event_id": UUID(EVENT_ID), "context": [entity(price=Decimal("1.10"))]}
        line = line_of(
            event,
            attributes={"when": math},
            json_default=lambda value: f"<{value.__name__}>",
            json_serializer=dumps,
        )

        assert line["when"] == "<math>"
        assert line["snowplow"]["context"] == [entity(price=1.1)]
        assert len(calls) == 1

    def test_text_may_stay_as_it_is(self):
        """Without ASCII escapes a line is still one that UTF-8 can encode."""
        event = {**PAGE, "page_title": "Körbe \U0001f9fa \ud800"}

        assert "Körbe \U0001f9fa" in event_of(event, json_ensure_ascii=False)["page_title"]

    def test_the_attribute_of_the_event_has_any_name(self):
        """`event_key` names the attribute, and the field in the line."""
        line = line_of(None, event_key="track", attributes={"track": PAGE})

        assert line["track"]["page_url"] == PAGE["page_url"]
        assert "snowplow" not in line

    def test_an_own_subclass_sees_the_event(self):
        """What `process_log_record` is given holds the event in full."""

        class Hiding(SnowplowJsonFormatter):
            def process_log_record(self, log_data):
                log_data["snowplow"]["subject"] = {"user_id": "hidden"}
                return super().process_log_record(log_data)

        line = json.loads(Hiding().format(record({**PAGE, "subject": {"user_id": "u-42"}})))

        assert line["snowplow"]["subject"] == {"user_id": "hidden"}

    @pytest.mark.parametrize("how", ["class", "()"])
    def test_dict_config_makes_it(self, how, tmp_path):
        """It is a formatter of `dictConfig`, as a class and as a factory."""
        options = {"rename_fields": {"message": "text"}, "timestamp": True, "event_key": "track"}
        logging.config.dictConfig(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "formatters": {
                    "json": {
                        how: "snowplow_logging.SnowplowJsonFormatter",
                        **(options if how == "()" else {"format": "%(levelname)s"}),
                    }
                },
                "handlers": {
                    "file": {
                        "class": "logging.FileHandler",
                        "filename": str(tmp_path / "log"),
                        "formatter": "json",
                    }
                },
                "loggers": {"shop.formatted": {"handlers": ["file"], "level": "INFO"}},
            }
        )
        logger = logging.getLogger("shop.formatted")
        try:
            logger.info("opened", extra={"track" if how == "()" else "snowplow": PAGE})
        finally:
            for handler in logger.handlers[:]:
                logger.removeHandler(handler)
                handler.close()

        line = json.loads((tmp_path / "log").read_text())
        assert line.keys() == (
            {"text", "timestamp", "track"} if how == "()" else {"levelname", "snowplow"}
        )


class Hostile(dict):
    """A dict that raises when it is looked into."""

    def items(self):
        """Raise."""
        raise RuntimeError

    keys = __iter__ = __getitem__ = items


class NoRepr:
    """An object that cannot be shown."""

    def __repr__(self):
        raise RuntimeError


def circular():
    """Return an event that holds itself."""
    event = {"event": "self_describing_event", "schema": ANYTHING, "data": {}}
    event["data"]["self"] = event
    return event


class TestBadEvents:
    """An event that Snowplow would refuse, or JSON cannot hold, never makes the formatter raise."""

    @pytest.mark.parametrize(
        "event",
        [
            5,
            "page_view",
            object(),
            NoRepr(),
            Hostile(PAGE),
            circular(),
            (x for x in ()),
            {1: 2},
            {**PAGE, "dtm": 1},
            {**PAGE, "tv": "mine"},
            {**PAGE, "page_title": 10**5_000},
            {**PAGE, "page_title": b"bytes"},
            {**PAGE, "subject": {("a",): 1}},
            {**PAGE, "true_timestamp": datetime(2024, 1, 1)},  # noqa: DTZ001
            {**PAGE, "context": [entity(x=math.nan)]},
            {**PAGE, "context": [entity(x=Decimal("Infinity"))]},
            {**PAGE, "context": [entity(x=NoRepr())]},
            {**PAGE, "context": [entity(when=datetime(2024, 1, 1))]},  # noqa: DTZ001
            {**PAGE, "page_title": datetime(2024, 1, 1, tzinfo=timezone.utc)},
        ],
        ids=lambda event: type(event).__name__,
    )
    @pytest.mark.parametrize("options", [{}, {"json_ensure_ascii": False}])
    def test_what_json_cannot_hold_is_shown_and_said(self, event, options):
        """The line is JSON, has the event's id and time, and says what it could not hold."""
        written = event_of(event, **options)

        assert written["incomplete"]
        assert UUID(written["event_id"])
        assert written["dtm"] == 1_700_000_000_123

    def test_as_much_as_possible_is_kept(self):
        """What JSON can hold of such an event is there, and the message names what it cannot."""
        data = {"a": 1.5, "b": [True, Decimal("2.50")], "c": NoRepr(), "d": "text"}

        written = event_of({"event": "self_describing_event", "schema": ANYTHING, "data": data})

        assert written["data"] == {"a": 1.5, "b": [True, 2.5], "c": "<NoRepr>", "d": "text"}
        assert written["incomplete"] == "data.c is a NoRepr"

    def test_one_that_json_can_hold_is_complete(self):
        """An event that breaks Snowplow's rules alone stands as it was logged."""
        written = event_of({"event": "page_vew", "page_url": 5, "subject": "u-42", "context": "c"})

        assert "incomplete" not in written
        assert (written["event"], written["page_url"], written["subject"]) == (
            "page_vew",
            5,
            "u-42",
        )

    def test_a_record_without_a_time_is_written(self):
        """A record whose `created` is none has an event without a time."""
        assert "dtm" not in line_of(PAGE, attributes={"created": "now"})["snowplow"]


def test_formatter_and_handler_give_one_event_id():
    """The line and the payload of one record have the same event id and time."""
    stream = io.StringIO()
    with FaultyCollector() as collector:
        handlers = [RecordingHandler(collector.endpoint), logging.StreamHandler(stream)]
        handlers[1].setFormatter(SnowplowJsonFormatter())
        for order in (handlers, handlers[::-1]):
            logger = logging.Logger("shop")
            for handler in order:
                logger.addHandler(handler)
            logger.info("opened", extra={"snowplow": [PAGE, PAGE]})
            logger.info(PageView(page_url="https://a.example/"))
            SnowplowAdapter(logger).page_view(page_url="https://a.example/")
        handlers[0].close()
        sent = [(event["eid"], event["dtm"]) for event in collector.events]

    written = []
    for line in stream.getvalue().splitlines():
        event = json.loads(line)["snowplow"]
        written += event if isinstance(event, list) else [event]
    assert [(event["event_id"], str(event["dtm"])) for event in written] == sent
    assert len(set(sent)) == 8


class TestReplayed:
    """What a line holds makes the payload that the handler had made of the record."""

    @pytest.fixture
    def sink(self):
        """Start a collector that takes everything."""
        with FaultyCollector() as running:
            yield running

    @pytest.mark.parametrize("name", sorted({cls.event_name for cls in EVENTS.values()}))
    @some_or_many
    def test_a_line_is_sent_as_its_event_was(self, name, examples, tmp_path, capsys, sink):
        """The payload is the same in all values but the time of sending, or refused as well."""
        taken = 0

        @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
        @given(
            st.lists(events(name), min_size=1, max_size=20),
            st.booleans(),
            st.sampled_from([{}, {"user_id": "outer", "language": "en", "context": [entity(a=1)]}]),
        )
        # One that is taken, whatever is drawn besides.
        @example(logged=[as_dict(BY_NAME[name])], encode_base64=False, around={})
        def check(logged, encode_base64, around):
            nonlocal taken
            file = tmp_path / "log"
            sink.requests.clear()
            handler = RecordingHandler(
                sink.endpoint, app_id="shop", platform="web", encode_base64=encode_base64
            )
            lines = logging.FileHandler(file, mode="w")
            lines.setFormatter(SnowplowJsonFormatter(json_ensure_ascii=False))
            logger = logging.Logger("shop")
            logger.addHandler(handler)
            logger.addHandler(lines)
            with subject_context(**around):
                logger.info("some events", extra={"snowplow": logged})
                for event in logged:
                    logger.info("an event", extra={"snowplow": event})
            handler.flush(30)
            handler.close()
            lines.close()
            before = values(sink.requests)
            sink.requests.clear()
            arguments = [str(file), "--endpoint", sink.endpoint, "--app-id", "shop"]
            arguments += ["--platform", "web"] + ["--no-base64"] * (not encode_base64)
            status = main(["replay", *arguments])
            again = values(sink.requests)
            stats = handler.stats
            output = capsys.readouterr()
            assert again == before
            assert f"events: {stats.sent:,} sent, {stats.invalid:,} refused;" in output.out, (
                output.err
            )
            assert status == (1 if stats.invalid else 0)
            taken += stats.sent

        check()
        assert taken


def values(requests):
    """Return the events of requests, without the time of sending, in a fixed order."""
    found = [event for request in requests for event in request.events]
    for event in found:
        del event["stm"]
    return sorted(found, key=lambda event: sorted(event.items()))
