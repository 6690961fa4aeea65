"""The adapter: a method for each event, what it adds, and whose line the record names."""

from __future__ import annotations

import inspect
import logging
import re
import sys
from functools import partial
from types import MappingProxyType
from uuid import UUID

import pytest

from event_examples import COMMON, EVENT_ID, EXAMPLES
from helpers import ANYTHING, entity, tracking
from snowplow_logging import PageView, SnowplowAdapter, reporting
from snowplow_logging.events import EVENTS

pytestmark = pytest.mark.every_python

URL = "https://shop.example.com/"
PAGE = {"event": "page_view", "page_url": URL}


@pytest.fixture
def records(tracked):
    """Collect the records that the logger makes."""
    made = []

    class Collecting(logging.Handler):
        """Keeps the records."""

        def emit(self, record):
            made.append(record)

    tracked.logger.addHandler(Collecting())
    return made


@pytest.fixture
def shop(tracked):
    """Give an adapter that adds nothing."""
    return SnowplowAdapter(tracked.logger)


@pytest.fixture
def _nothing_reported(monkeypatch):
    """Have the next report of each kind shown, which is shown once in a minute."""
    monkeypatch.setattr(reporting, "_reported", {})


class TestMethods:
    """The method of each event type."""

    @pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
    def test_logs_its_event(self, tracked, shop, example):
        """It takes the event's keys, returns the event id, and the event arrives."""
        event_id = getattr(shop, example.name)(**example.keys, **{**COMMON, "event_id": None})
        (arrived,) = tracked.arrived()
        sent = arrived["rawEvent"]["parameters"]
        assert sent["eid"] == event_id
        assert sent["e"] == example.e
        assert (sent["uid"], sent["ttm"]) == ("u-42", "1700000000123")
        assert arrived["event"]["contexts"]["data"] == [entity(plan="gold"), entity(seat=3)]
        if example.schema is None:
            assert {name: sent[name] for name in example.sent} == example.sent
        else:
            data = arrived["event"]["unstruct_event"]["data"]
            assert data == {"schema": example.schema, "data": example.sent}

    def test_there_is_one_for_each_event(self):
        """Every name of an event is a method, documented as the event is."""
        for name, cls in EVENTS.items():
            assert getattr(SnowplowAdapter, name).__doc__ == cls.__doc__

    def test_the_old_name(self, tracked, shop):
        """`unstruct_event` is a method, too."""
        shop.unstruct_event(schema=ANYTHING, data={"a": 1})
        (arrived,) = tracked.arrived()
        assert arrived["event"]["unstruct_event"]["data"] == entity(a=1)

    @pytest.mark.parametrize("given", [EVENT_ID, UUID(EVENT_ID), EVENT_ID.upper()])
    def test_returns_the_caller_s_id(self, tracked, shop, given):
        """An id that is given is the one that is sent and returned."""
        assert shop.page_view(page_url=URL, event_id=given) == EVENT_ID
        assert [sent["eid"] for sent in tracked.payloads()] == [EVENT_ID]

    def test_none_where_the_level_holds_it_back(self, tracked, shop):
        """The event id is None where the logger does not log the level, by default INFO."""
        tracked.logger.setLevel(logging.INFO)
        assert shop.page_view(page_url=URL, level=logging.DEBUG) is None
        assert shop.page_view(page_url=URL) is not None
        tracked.logger.setLevel(logging.WARNING)
        assert shop.page_view(page_url=URL) is None
        assert shop.page_view(page_url=URL, level=logging.ERROR) is not None
        assert len(tracked.arrived()) == 2

    @pytest.mark.parametrize(
        ("others", "titles"),
        [
            ({**PAGE, "page_title": "1"}, ["0", "1"]),
            (PageView(page_url=URL, page_title="1"), ["0", "1"]),
            (
                ({**PAGE, "page_title": "1"}, PageView(page_url=URL, page_title="2")),
                ["0", "1", "2"],
            ),
            (None, ["0"]),
            ([], ["0"]),
        ],
        ids=["dict", "object", "both", "none", "empty"],
    )
    def test_logs_those_of_its_extra_as_well(self, tracked, records, others, titles):
        """As with an event that is the message; what is bound is added to all."""
        shop = SnowplowAdapter(tracked.logger, subject={"user_id": "u"}, context=[entity(a=1)])
        extra = {"snowplow": others, "request": 5}
        event_id = shop.page_view(page_url=URL, page_title="0", extra=extra)
        arrived = tracked.arrived()
        assert [one["event"]["page_title"] for one in arrived] == titles
        assert {one["event"]["user_id"] for one in arrived} == {"u"}
        assert all(one["event"]["contexts"]["data"] == [entity(a=1)] for one in arrived)
        ids = [one["event"]["event_id"] for one in arrived]
        assert ids[0] == event_id
        assert len({*ids}) == len(titles)
        assert records[0].request == 5
        assert extra == {"snowplow": others, "request": 5}

    def test_what_is_none_in_its_extra(self, tracked, shop):
        """It is refused, and costs only itself."""
        event_id = shop.page_view(page_url=URL, extra={"snowplow": 5})
        assert [sent["eid"] for sent in tracked.payloads()] == [event_id]
        (error,) = tracked.handler.errors
        assert str(error).startswith("event: event is 5; give a dict")

    @pytest.mark.parametrize("name", EVENTS)
    def test_what_is_given_without_a_key(self, shop, records, name):
        """The error names the method, and a key that it takes."""
        cls = EVENTS[name]
        key = next(iter(cls.keys()))
        message = f"{cls.event_name}() takes keywords alone, such as {key}=…"
        with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
            getattr(shop, name)(URL)
        assert records == []

    def test_a_level_by_its_name(self, tracked, shop, records):
        """As `Logger.setLevel` takes it; None is none, and so INFO."""
        tracked.logger.setLevel("INFO")
        assert shop.page_view(page_url=URL, level="DEBUG") is None
        assert shop.page_view(page_url=URL, level="ERROR") is not None
        assert shop.page_view(page_url=URL, level=None) is not None
        assert [record.levelno for record in records] == [logging.ERROR, logging.INFO]

    @pytest.mark.parametrize(
        ("level", "what"),
        [("LOUD", "is 'LOUD'"), (1.5, "is 1.5"), ([], "is a list")],
        ids=["name", "float", "list"],
    )
    @pytest.mark.usefixtures("_nothing_reported")
    def test_a_level_that_there_is_not(self, shop, records, reports, level, what):
        """It is reported, and breaks neither the program nor the event, which goes at INFO."""
        assert shop.page_view(page_url=URL, level=level) is not None
        assert [record.levelno for record in records] == [logging.INFO]
        (report,) = reports
        assert f"page_view: level {what}; give the name or number of a level" in report

    def test_none_where_the_id_is_refused(self, refusing):
        """An event whose id Snowplow would refuse has none."""
        shop = SnowplowAdapter(refusing.logger)
        assert shop.page_view(page_url=URL, event_id="x") is None
        assert len(refusing.handler.errors) == 1

    def test_takes_the_keywords_of_a_log_call(self, shop, records):
        """`level`, `extra`, `exc_info` and `stack_info` do what they do in any log call."""
        try:
            raise KeyError("k")
        except KeyError:
            shop.page_view(
                page_url=URL,
                level=logging.WARNING,
                exc_info=True,
                stack_info=True,
                extra={"request": 5},
            )
        (record,) = records
        assert record.levelno == logging.WARNING
        assert record.exc_info[0] is KeyError
        assert "test_takes_the_keywords" in record.stack_info
        assert record.request == 5

    def test_a_readable_line(self, shop, records):
        """Other handlers show a line with the event's name and its main values."""
        shop.page_view(page_url=URL, page_title="100 %s", subject={"user_id": "u"})
        assert records[0].getMessage() == f"page_view page_url={URL} page_title=100 %s"

    def test_mistakes_are_the_handler_s(self, refusing):
        """Missing and unknown keys do not raise; the handler refuses the event."""
        shop = SnowplowAdapter(refusing.logger)
        shop.page_view()
        shop.page_view(page_url=URL, page_titel="t")
        assert [error.key for error in refusing.handler.errors] == ["page_url", "page_titel"]


class TestUsualMethods:
    """`info`, `warning` and the others work as they do on any adapter."""

    def test_event_in_extra(self, tracked, shop):
        """An event in `extra` and one as the message are logged."""
        shop.info("x", extra={"snowplow": PAGE})
        shop.warning(PageView(page_url=URL))
        shop.log(logging.ERROR, "x %s", 1, extra={"snowplow": [PAGE]})
        assert len(tracked.arrived()) == 3

    def test_plain_records(self, tracked, shop, records):
        """A call without an event is an ordinary record."""
        shop.info("basket %s", "opened")
        shop.exception("oh", exc_info=KeyError("k"))
        assert [record.getMessage() for record in records] == ["basket opened", "oh"]
        assert records[1].exc_info[0] is KeyError
        assert tracked.arrived() == []

    def test_the_level_holds_back(self, tracked, shop, records):
        """A level that the logger does not log makes no record."""
        tracked.logger.setLevel(logging.ERROR)
        shop.info("x", extra={"snowplow": PAGE})
        assert records == []

    def test_extras_are_merged(self, tracked, records):
        """The call's own extra stays, and wins over the adapter's."""
        shop = SnowplowAdapter(tracked.logger, {"a": "adapter", "b": "adapter"})
        shop.info("x", extra={"b": "call", "c": "call"})
        shop.info("y")
        shop.page_view(page_url=URL, extra={"b": "event"})
        assert [(record.a, record.b) for record in records] == [
            ("adapter", "call"),
            ("adapter", "adapter"),
            ("adapter", "event"),
        ]
        assert records[0].c == "call"

    def test_the_call_s_own_are_left_alone(self, tracked):
        """Neither the call's extra nor its event is changed by what the adapter adds."""
        shop = SnowplowAdapter(
            tracked.logger, {"a": 1}, subject={"user_id": "u"}, context=[entity(a=1)]
        )
        event = {**PAGE, "subject": {"language": "de"}, "context": [entity(b=1)]}
        extra = {"snowplow": event}
        shop.info("x", extra=MappingProxyType(extra))
        shop.info("x", extra={"snowplow": MappingProxyType(event)})
        assert extra == {"snowplow": event}
        assert event == {**PAGE, "subject": {"language": "de"}, "context": [entity(b=1)]}
        assert [sent["uid"] for sent in tracked.payloads()] == ["u", "u"]

    def test_another_attribute(self, collector):
        """`event_key` names the attribute, as the handler has it."""
        with tracking(collector, event_key="telemetry") as tracked:
            shop = SnowplowAdapter(tracked.logger, event_key="telemetry", subject={"user_id": "u"})
            shop.page_view(page_url=URL)
            shop.bind().info("x", extra={"telemetry": PAGE})
            assert [sent["uid"] for sent in tracked.payloads()] == ["u", "u"]

    def test_behaves_like_a_logger(self, tracked, shop):
        """Level and name are the logger's, and setting the level sets the logger's."""
        shop.setLevel(logging.ERROR)
        assert tracked.logger.level == shop.getEffectiveLevel() == logging.ERROR
        assert not shop.isEnabledFor(logging.INFO)
        assert shop.name == "shop"


class TestBind:
    """`bind` returns a new adapter with more bound to it."""

    def test_leaves_its_own_alone(self, tracked, records):
        """The new adapter has what the old one has and more; the old one has not changed."""
        subject, context, extra = {"user_id": "u"}, [entity(level=1)], {"a": 1, "b": 1}
        shop = SnowplowAdapter(tracked.logger, extra, subject=subject, context=context)
        bound = shop.bind(
            subject={"user_id": "v", "language": "de"}, context=[entity(level=2)], extra={"b": 2}
        )
        for adapter in (shop, bound, shop):
            adapter.page_view(page_url=URL)
        arrived = tracked.arrived()
        sent = [event["rawEvent"]["parameters"] for event in arrived]
        assert [(s["uid"], s.get("lang")) for s in sent] == [("u", None), ("v", "de"), ("u", None)]
        contexts = [event["event"]["contexts"]["data"] for event in arrived]
        assert contexts[0] == contexts[2] == [entity(level=1)]
        assert contexts[1] == [entity(level=2), entity(level=1)]
        assert [(record.a, record.b) for record in records] == [(1, 1), (1, 2), (1, 1)]
        assert (subject, context, extra) == ({"user_id": "u"}, [entity(level=1)], {"a": 1, "b": 1})

    def test_keeps_its_class(self, tracked):
        """A subclass stays one."""

        class ShopAdapter(SnowplowAdapter):
            """An adapter of the program's own."""

        shop = ShopAdapter(tracked.logger, subject={"user_id": "u"})
        shop.tenant = "t"
        bound = shop.bind(subject={"language": "de"})
        assert type(bound) is ShopAdapter
        assert bound.tenant == "t"
        bound.page_view(page_url=URL)
        assert tracked.payloads()[0]["uid"] == "u"

    def test_later_changes_change_nothing(self, tracked):
        """What was bound is copied: the caller's dicts and lists may change afterwards."""
        subject, context = {"user_id": "u"}, [entity(a=1)]
        shop = SnowplowAdapter(tracked.logger, subject=subject, context=context)
        subject["user_id"] = "changed"
        context.clear()
        shop.page_view(page_url=URL)
        (arrived,) = tracked.arrived()
        assert arrived["event"]["user_id"] == "u"
        assert arrived["event"]["contexts"]["data"] == [entity(a=1)]

    @pytest.mark.parametrize("binds", ["made", "bound"])
    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            ({"context": entity(a=1)}, "context is a dict; give a list of entities"),
            ({"context": 5}, "context is 5; give a list of entities"),
            ({"subject": "x"}, "subject is 'x'; give a dict"),
            ({"subject": [("user_id", "u")]}, "subject is a list; give a dict"),
            ({"extra": 5}, "extra is 5; give a dict"),
        ],
        ids=["context", "number", "subject", "pairs", "extra"],
    )
    def test_what_cannot_be_bound(self, shop, binds, keys, message):
        """It is refused where it is given, by its name and with what would be right."""
        bind = shop.bind if binds == "bound" else partial(SnowplowAdapter, shop.logger)
        with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
            bind(**keys)

    def test_an_event_s_own_context_that_is_no_list(self, refusing):
        """What the adapter adds does not hide it."""
        shop = SnowplowAdapter(refusing.logger, context=[entity(a=1)])
        shop.page_view(page_url=URL, context=entity(b=1))
        assert [str(error) for error in refusing.handler.errors] == [
            "page_view: context is a dict; give a list of entities"
        ]


class Prefixing(logging.LoggerAdapter):
    """An adapter of a program's own."""

    def process(self, msg, kwargs):
        """Put a word before the message."""
        return f"shop: {msg}", kwargs


class TestStacked:
    """Adapters around adapters."""

    def test_of_our_own(self, tracked, records):
        """Each adds its own, the outer ones before the inner ones."""
        inner = SnowplowAdapter(
            tracked.logger,
            {"a": "inner", "b": "inner"},
            subject={"user_id": "inner", "language": "inner"},
            context=[entity(level="inner")],
        )
        outer = SnowplowAdapter(
            inner, {"b": "outer"}, subject={"user_id": "outer"}, context=[entity(level="outer")]
        )
        outer.page_view(page_url=URL)
        outer.info("x", extra={"snowplow": PAGE, "b": "call"})
        for arrived in tracked.arrived():
            assert (arrived["event"]["user_id"], arrived["event"]["br_lang"]) == ("outer", "inner")
            levels = [one["data"]["level"] for one in arrived["event"]["contexts"]["data"]]
            assert levels == ["outer", "inner"]
        assert [(r.a, r.b) for r in records] == [("inner", "outer"), ("inner", "call")]

    @pytest.mark.parametrize("extra", [{"a": "inner", "b": "inner"}, None])
    def test_around_one_of_the_standard_library(self, tracked, records, extra):
        """The event gets through an adapter that throws away extras, or has none itself."""
        inner = logging.LoggerAdapter(tracked.logger, extra)
        shop = SnowplowAdapter(inner, {"b": "outer"}, subject={"user_id": "u"})
        assert shop.page_view(page_url=URL) is not None
        shop.info("x", extra={"snowplow": PAGE})
        assert [sent["uid"] for sent in tracked.payloads()] == ["u", "u"]
        assert [(getattr(r, "a", None), r.b) for r in records] == (
            [("inner" if extra else None, "outer")] * 2
        )

    def test_inside_one_of_the_standard_library(self, tracked, records):
        """An event object as the message gets through an adapter of the standard library around."""
        shop = SnowplowAdapter(tracked.logger, {"a": 1}, subject={"user_id": "u"})
        outer = logging.LoggerAdapter(shop, {"b": 2})
        outer.info(PageView(page_url=URL))
        assert [sent["uid"] for sent in tracked.payloads()] == ["u"]
        assert (records[0].a, records[0].b) == (1, 2)

    def test_around_one_that_words_messages(self, tracked, records):
        """An inner adapter's `process` goes on doing its work."""
        shop = SnowplowAdapter(Prefixing(tracked.logger, {}))
        shop.page_view(page_url=URL)
        shop.info("hello", extra={"snowplow": PAGE})
        assert len(tracked.arrived()) == 2
        messages = [record.getMessage() for record in records]
        assert messages == [f"shop: page_view page_url={URL}", "shop: hello"]

    @pytest.mark.skipif(sys.version_info < (3, 13), reason="`merge_extra` is new in Python 3.13")
    @pytest.mark.parametrize("merge_extra", [True, False])
    def test_around_one_that_merges(self, tracked, records, merge_extra):
        """`merge_extra` of the standard library changes nothing."""
        inner = logging.LoggerAdapter(tracked.logger, {"a": 1}, merge_extra=merge_extra)
        SnowplowAdapter(inner, {"b": 2}).page_view(page_url=URL, extra={"c": 3})
        assert len(tracked.arrived()) == 1
        assert (records[0].a, records[0].b, records[0].c) == (1, 2, 3)


def line():
    """Return the line of the caller."""
    return inspect.currentframe().f_back.f_lineno


class TestCaller:
    """File, line and function of the record are the caller's."""

    CALLS = (
        ("info", lambda shop, **kw: (shop.info("x", **kw), line())),
        ("log", lambda shop, **kw: (shop.log(logging.INFO, "x", **kw), line())),
        ("exception", lambda shop, **kw: (shop.exception("x", **kw), line())),
        ("message", lambda shop, **kw: (shop.warning(PageView(page_url=URL), **kw), line())),
        ("event", lambda shop, **kw: (shop.page_view(page_url=URL, **kw), line())),
        ("bound", lambda shop, **kw: (shop.bind().link_click(target_url=URL, **kw), line())),
    )
    ADAPTERS = (
        ("plain", SnowplowAdapter),
        ("stacked", lambda logger: SnowplowAdapter(SnowplowAdapter(logger))),
        ("around", lambda logger: SnowplowAdapter(logging.LoggerAdapter(logger, {}))),
        ("thrice", lambda logger: SnowplowAdapter(SnowplowAdapter(SnowplowAdapter(logger)))),
    )
    calls = pytest.mark.parametrize("call", [c for _, c in CALLS], ids=[name for name, _ in CALLS])
    adapters = pytest.mark.parametrize(
        "make", [make for _, make in ADAPTERS], ids=[name for name, _ in ADAPTERS]
    )

    @calls
    @adapters
    def test_is_named(self, tracked, records, make, call):
        """Every way to log through every adapter names the line of the call."""
        _, called = call(make(tracked.logger))
        (record,) = records
        assert (record.pathname, record.lineno) == (__file__, called)
        assert record.funcName == "<lambda>"

    @calls
    @adapters
    def test_is_the_caller_s_caller_with_a_stacklevel(self, tracked, records, make, call):
        """With `stacklevel=2` it is the line that called the function which logs."""
        shop = make(tracked.logger)
        _, called = call(shop, stacklevel=2), line()
        (record,) = records
        assert (record.pathname, record.lineno) == (__file__, called)
        assert record.funcName == "test_is_the_caller_s_caller_with_a_stacklevel"

    @pytest.mark.parametrize("level", [1, 2])
    def test_through_one_of_the_standard_library(self, tracked, records, level):
        """An adapter of the standard library around this one names the caller as well."""
        outer = logging.LoggerAdapter(SnowplowAdapter(tracked.logger), {})

        def log():
            outer.info(PageView(page_url=URL), stacklevel=level)
            return line() - 1

        inside, called = log(), line()
        (record,) = records
        assert record.pathname == __file__
        assert record.lineno == (inside if level == 1 else called)
        assert record.funcName == (
            "log" if level == 1 else "test_through_one_of_the_standard_library"
        )
