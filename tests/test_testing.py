"""Tests of `snowplow_logging.testing` and of the pytest plugin, for programs that log events."""

from __future__ import annotations

import importlib.metadata
import logging
import logging.config
import subprocess
import sys
import threading
from logging.handlers import QueueHandler, QueueListener
from queue import SimpleQueue

import pytest

import snowplow_logging
from faulty_collector import FaultyCollector
from helpers import NOWHERE, RecordingHandler, entity, tracking
from snowplow_logging import (
    InvalidEvent,
    PageView,
    SnowplowAdapter,
    SnowplowHandler,
    StructuredEvent,
    subject_context,
)
from snowplow_logging.testing import CapturedEvent, RefusedEvent, capture_events

pytest_plugins = ["pytester"]

try:
    _points = importlib.metadata.distribution("snowplow-logging").entry_points
    INSTALLED = any(point.group == "pytest11" for point in _points)
except importlib.metadata.PackageNotFoundError:
    INSTALLED = False

PLUGIN = () if INSTALLED else ("-p", "snowplow_logging.pytest_plugin")
"""Arguments of pytest that load the plugin where it does not load itself."""

PAGE = {"event": "page_view", "page_url": "https://shop.example.com/basket"}
GAME = "iglu:com.acme/save_game/jsonschema/1-0-0"


@pytest.fixture(autouse=True)
def logging_as_it_was():
    """Put the root logger and the one that the tests use back as they were."""
    root, shop = logging.getLogger(), logging.getLogger("shop")
    level, handlers = root.level, root.handlers[:]
    methods = logging.Logger.isEnabledFor, logging.Logger.callHandlers
    yield
    assert (logging.Logger.isEnabledFor, logging.Logger.callHandlers) == methods
    for handler in {*root.handlers, *shop.handlers} - {*handlers}:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    shop.handlers.clear()
    shop.setLevel(logging.NOTSET)
    shop.disabled, shop.propagate = False, True


@pytest.fixture
def shop():
    """Give a logger that is below the root logger."""
    return logging.getLogger("shop")


def page(number: int) -> dict[str, str]:
    """Return one of many page views."""
    return {"event": "page_view", "page_url": f"https://shop.example.com/{number}"}


def configuration(handler_level: str = "NOTSET", **settings: object) -> dict[str, object]:
    """Return a configuration with a handler on the root logger, and one that is not Snowplow's."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {
            "snowplow": {
                "class": "snowplow_logging.SnowplowHandler",
                "endpoint": NOWHERE,
                "level": handler_level,
                **settings,
            },
            "none": {"class": "logging.NullHandler"},
        },
        "root": {"level": "INFO", "handlers": ["none", "snowplow"]},
    }


def test_an_event_is_captured_without_any_configuration(shop):
    """An event at INFO is captured as a handler with the default settings would send it."""
    assert logging.getLogger().level == logging.WARNING
    with capture_events() as events:
        shop.info("basket opened", extra={"snowplow": PAGE})
        shop.info("no event")
        shop.debug("too low", extra={"snowplow": PAGE})
    assert len(events) == 1
    [event] = events.named("page_view")
    assert event.event == PAGE
    assert event.record.getMessage() == "basket opened"
    assert event.payload["e"] == "pv"
    assert event.payload["url"] == PAGE["page_url"]
    assert event.payload["tna"] == "snowplow_logging"
    assert event.payload["eid"] == event.event_id
    assert event.payload["dtm"] == str(int(event.record.created * 1000))
    assert "stm" not in event.payload
    assert not events.invalid
    assert not shop.isEnabledFor(logging.INFO)


@pytest.mark.parametrize("form", ["object", "message", "adapter", "list"])
def test_every_form_of_an_event_is_captured(shop, form):
    """Objects, messages, lists and the adapter's methods give the same entry."""
    with capture_events() as events:
        if form == "object":
            shop.info("x", extra={"snowplow": PageView(page_url=PAGE["page_url"])})
        elif form == "message":
            shop.info(PageView(page_url=PAGE["page_url"]))
        elif form == "list":
            shop.info("x", extra={"snowplow": [None, PAGE]})
        else:
            event_id = SnowplowAdapter(shop).page_view(page_url=PAGE["page_url"])
    [event] = events
    if form == "adapter":
        assert event.event.pop("event_id") == event.event_id == event_id
    assert event.event == PAGE


def test_data_and_entities_can_be_read(shop):
    """Schemas, data and entities are decoded, whether the handler sends base64 or not."""
    for encode_base64 in (True, False):
        handler = SnowplowHandler(NOWHERE, encode_base64=encode_base64, context=[entity(shop=1)])
        shop.handlers[:] = [handler]
        with capture_events() as events, subject_context(user_id="u-42", context=[entity(bound=1)]):
            shop.info(
                "x",
                extra={
                    "snowplow": {
                        "event": "self_describing_event",
                        "schema": GAME,
                        "data": {"level": 3},
                        "context": [entity(own=1)],
                    }
                },
            )
            shop.info(StructuredEvent(category="shop", action="checkout"))
        assert events.schemas == [GAME]
        [saved] = events.named("unstruct_event")
        assert saved.data == {"level": 3}
        assert saved.entities == [entity(own=1), entity(bound=1), entity(shop=1)]
        assert saved.payload["uid"] == "u-42"
        [checkout] = events.named("struct_event")
        assert (checkout.schema, checkout.data) == (None, None)
        assert checkout.entities == [entity(bound=1), entity(shop=1)]


@pytest.mark.parametrize("when", ["before", "during"])
def test_the_payload_is_that_of_the_configured_handler(shop, when):
    """An event has a configured handler's values, and that handler neither sends nor counts it."""
    with FaultyCollector() as collector:
        settings = {
            "endpoint": collector.endpoint,
            "app_id": "shop",
            "namespace": "backend",
            "platform": "web",
            "subject": {"user_id": "u-1"},
            "context": [entity(plan="pro")],
            "flush_interval": 0,
        }
        if when == "before":
            logging.config.dictConfig(configuration(**settings))
        with capture_events() as events:
            if when == "during":
                logging.config.dictConfig(configuration(**settings))
            shop.info("x", extra={"snowplow": PAGE})
        handler = logging.getLogger().handlers[1]
        assert handler.flush(10)
        assert handler.stats == type(handler.stats)()
        shop.info("x", extra={"snowplow": page(2)})
        assert handler.flush(10)
        assert [event["url"] for event in collector.events] == [page(2)["page_url"]]
        assert len(collector.requests) == 1
    [event] = events
    names = ("aid", "tna", "p", "uid")
    assert [event.payload[name] for name in names] == ["shop", "backend", "web", "u-1"]
    assert event.entities == [entity(plan="pro")]


def test_a_handler_that_is_not_enabled_is_captured_with_its_settings(shop):
    """A test configuration that turns sending off still shows what would be sent."""
    shop.addHandler(SnowplowHandler(NOWHERE, enabled=False, app_id="shop"))
    with capture_events() as events:
        shop.info("x", extra={"snowplow": PAGE})
    assert [event.payload["aid"] for event in events] == ["shop"]


def test_before_send_decides_what_is_captured(shop):
    """The payload is what `before_send` returned, and what it left out is not there."""

    def before_send(event):
        if event["page_url"].endswith("/1"):
            return None
        if event["page_url"].endswith("/2"):
            raise RuntimeError("a fault")
        return {**event, "page_title": "seen"}

    shop.addHandler(SnowplowHandler(NOWHERE, before_send=before_send))
    with capture_events() as events:
        for number in range(3):
            shop.info("x", extra={"snowplow": page(number)})
    assert [(event.event, event.payload["page"]) for event in events] == [(page(0), "seen")]
    [refused] = events.invalid
    assert refused.event == page(2)
    assert str(refused.error) == "a fault"


def test_level_and_filters_of_a_handler_count(shop):
    """What the handler's level or filter holds back would not be sent, and is not captured."""
    logging.config.dictConfig(configuration(handler_level="ERROR"))
    logging.getLogger().handlers[1].addFilter(lambda record: "secret" not in record.msg)
    with capture_events() as events:
        shop.info("low", extra={"snowplow": page(1)})
        shop.error("secret", extra={"snowplow": page(2)})
        shop.error("high", extra={"snowplow": page(3)})
    assert [event.event for event in events] == [page(3)]


def test_exceptions_that_a_handler_captures(shop):
    """A handler with `capture_exceptions` gives the errors of the program as events."""
    shop.addHandler(SnowplowHandler(NOWHERE, capture_exceptions=True))
    with capture_events() as events:
        try:
            raise KeyError("sku")
        except KeyError:
            shop.exception("no such item")
    [error] = events.named("application_error")
    assert error.data["exceptionName"] == "KeyError"


def test_an_event_key_of_ones_own(shop):
    """A handler with another `event_key` is the one that says where events are."""
    shop.addHandler(SnowplowHandler(NOWHERE, event_key="tracked"))
    with capture_events() as events:
        shop.info("x", extra={"tracked": PAGE})
        shop.info("x", extra={"snowplow": page(2)})
    assert [event.event for event in events] == [PAGE]


def test_refused_events_are_kept_and_not_printed(shop, capsys):
    """A bad event is in `invalid` with its error, and standard error stays empty."""
    handlers = [[], [RecordingHandler(NOWHERE, on_failure=print, shutdown_timeout=1)]]
    for shop.handlers[:] in handlers:
        with capture_events() as events:
            shop.info("x", extra={"snowplow": {"event": "page_view", "page_url": "http://"}})
            shop.info("x", extra={"snowplow": "nonsense"})
            shop.info("x", extra={"snowplow": PAGE})
        assert [event.event for event in events] == [PAGE]
        bad, worse = events.invalid
        assert isinstance(bad, RefusedEvent)
        assert isinstance(bad.error, InvalidEvent)
        assert bad.error.key == "page_url"
        assert bad.event == {"event": "page_view", "page_url": "http://"}
        assert worse.event == {"event": "nonsense"}
    [handler] = shop.handlers
    assert handler.flush()
    assert handler.errors == []
    assert handler.stats.invalid == 0
    assert capsys.readouterr() == ("", "")


def test_a_transaction_gives_an_entry_for_each_of_its_events(shop):
    """A transaction with two items is one event of its own and two of items."""
    items = [{"sku": f"s{n}", "price": 1, "quantity": n} for n in (1, 2)]
    transaction = {"event": "ecommerce_transaction", "order_id": "o-1", "total_value": 3}
    with capture_events() as events:
        shop.info("x", extra={"snowplow": {**transaction, "items": items}})
    assert [event.payload["e"] for event in events] == ["tr", "ti", "ti"]
    assert events[0].event == transaction
    item = {"event": "ecommerce_transaction_item", "order_id": "o-1"}
    assert [event.event for event in events[1:]] == [{**item, **own} for own in items]
    assert len({event.event_id for event in events}) == 3


def test_several_handlers_give_one_entry(shop):
    """An event that two handlers see, one of them twice, is one entry, with the first's values."""
    root = logging.getLogger()
    first, second = (SnowplowHandler(NOWHERE, app_id=app_id) for app_id in ("first", "second"))
    shop.addHandler(first)
    for handler in (second, first):
        root.addHandler(handler)
    with capture_events() as events:
        for number in range(3):
            shop.info("x", extra={"snowplow": page(number)})
    assert [event.event for event in events] == [page(number) for number in range(3)]
    assert {event.payload["aid"] for event in events} == {"first"}


def test_an_event_that_only_the_second_handler_sends(shop):
    """An event that one handler leaves out and another sends is captured as the other sends it."""
    shop.addHandler(SnowplowHandler(NOWHERE, before_send=lambda event: None))
    shop.addHandler(SnowplowHandler(NOWHERE, app_id="second"))
    with capture_events() as events:
        shop.info("x", extra={"snowplow": PAGE})
    assert [event.payload["aid"] for event in events] == ["second"]


def test_a_stopped_clock_makes_no_duplicates(shop, monkeypatch):
    """Events that share their time, and so their event id, are as many entries as log calls."""
    create = logging.getLogRecordFactory()

    def at_noon(*args, **kwargs):
        record = create(*args, **kwargs)
        record.created, record.relativeCreated = 1_700_000_000.0, 0.0
        return record

    logging.setLogRecordFactory(at_noon)
    try:
        for shop.handlers[:] in ([], [SnowplowHandler(NOWHERE), SnowplowHandler(NOWHERE)]):
            with capture_events() as events:
                for number in range(3):
                    shop.info("x", extra={"snowplow": page(number)})
            assert [event.event for event in events] == [page(number) for number in range(3)]
    finally:
        logging.setLogRecordFactory(create)


@pytest.mark.parametrize("verdict", ["sends", "leaves out", "refuses"])
def test_a_handler_behind_a_queue_has_the_last_word(shop, verdict):
    """What the handler at the end of a queue makes of an event takes the place of the defaults."""

    def before_send(event):
        if verdict == "refuses":
            return {**event, "page_url": "http://"}
        return event if verdict == "sends" else None

    queue = SimpleQueue()
    handler = SnowplowHandler(NOWHERE, app_id="behind", before_send=before_send)
    listener = QueueListener(queue, handler)
    shop.addHandler(QueueHandler(queue))
    with capture_events() as events:
        shop.info("x", extra={"snowplow": PAGE})
        assert [event.event for event in events] == [PAGE]  # before the other thread has it
        listener.start()
        listener.stop()  # once the queue is empty
    assert [event.payload["aid"] for event in events] == ["behind"] * (verdict == "sends")
    assert [event.event for event in events.invalid] == [PAGE] * (verdict == "refuses")


def test_an_entry_is_fixed_at_the_log_call(shop):
    """A dict that its owner changes afterwards changes nothing that was captured."""
    event = {**PAGE, "context": [entity(items=[1])]}
    with capture_events() as events:
        shop.info("x", extra={"snowplow": event})
        event["context"][0]["data"]["items"].append(2)
        event["page_title"] = "later"
    assert events[0].event == {**PAGE, "context": [entity(items=[1])]}


def test_captures_can_be_nested(shop):
    """An inner capture has what is logged inside it, an outer one has all, and then neither."""
    handler = SnowplowHandler(NOWHERE, enabled=False)
    shop.addHandler(handler)
    with capture_events() as outer:
        shop.info("x", extra={"snowplow": page(1)})
        with capture_events(level="DEBUG") as inner:
            shop.debug("x", extra={"snowplow": page(2)})
        shop.debug("x", extra={"snowplow": page(3)})
        shop.info("x", extra={"snowplow": page(4)})
    shop.warning("x", extra={"snowplow": page(5)})
    assert [event.event for event in inner] == [page(2)]
    assert [event.event for event in outer] == [page(1), page(2), page(4)]


def test_levels(shop):
    """Only the root logger's level is overruled, and only down to the level that is asked for."""
    with capture_events(level=None) as events:
        shop.info("x", extra={"snowplow": page(1)})
        shop.warning("x", extra={"snowplow": page(2)})
    assert [event.event for event in events] == [page(2)]
    shop.setLevel(logging.ERROR)
    with capture_events(level=logging.DEBUG) as events:
        logging.getLogger("shop.basket").warning("x", extra={"snowplow": page(3)})
        logging.getLogger("other").debug("x", extra={"snowplow": page(4)})
    assert [event.event for event in events] == [page(4)]
    with pytest.raises(ValueError, match="LOUD"), capture_events(level="LOUD"):
        pass


def test_loggers_that_are_off_stay_off(shop):
    """A disabled logger, and `logging.disable`, hold events back as ever."""
    with capture_events() as events:
        logging.disable(logging.INFO)
        try:
            shop.info("x", extra={"snowplow": page(1)})
        finally:
            logging.disable(logging.NOTSET)
        shop.disabled = True
        shop.error("x", extra={"snowplow": page(2)})
    assert events == []


def test_a_logger_that_does_not_propagate_is_captured(shop):
    """An event is captured although its logger keeps it from the handlers of the root logger."""
    logging.config.dictConfig(configuration(app_id="root"))
    shop.propagate = False
    with capture_events() as events:
        shop.info("x", extra={"snowplow": PAGE})
    assert ["aid" in event.payload for event in events] == [False]


def test_threads(shop):
    """Events of all threads are captured, each once."""

    def work(first: int) -> None:
        for number in range(first, first + 50):
            shop.info("x", extra={"snowplow": page(number)})

    with capture_events() as events:
        threads = [threading.Thread(target=work, args=(100 * n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    expected = {page(100 * n + number)["page_url"] for n in range(8) for number in range(50)}
    assert len(events) == 400
    assert {event.event["page_url"] for event in events} == expected


def test_somebody_else_wraps_the_same_methods(shop):
    """A tool that wraps `callHandlers` during a capture, as Sentry's does, keeps its wrapper."""
    before = logging.Logger.callHandlers
    seen = []
    try:
        with capture_events():
            inner = logging.Logger.callHandlers

            def wrapper(self, record):
                seen.append(record.msg)
                inner(self, record)

            logging.Logger.callHandlers = wrapper
        assert logging.Logger.callHandlers is wrapper
        shop.warning("between")
        with capture_events() as events:
            shop.info("x", extra={"snowplow": PAGE})
        assert [event.event for event in events] == [PAGE]
        assert seen == ["between", "x"]
    finally:
        logging.Logger.callHandlers = before


def test_questions(shop):
    """An unknown type is an error that names the nearest, and `clear` forgets everything."""
    with capture_events() as events:
        shop.info("x", extra={"snowplow": [PAGE, {"event": "page_view"}]})
        assert (len(events), len(events.invalid)) == (1, 1)
        with pytest.raises(ValueError, match="'page_veiw'; give 'page_view'"):
            events.named("page_veiw")
        assert events.named("struct_event") == []
        events.clear()
        shop.info("x", extra={"snowplow": page(2)})
    assert [event.event for event in events] == [page(2)]
    assert events.invalid == []
    assert isinstance(events[0], CapturedEvent)
    assert repr(events[0]) == f"CapturedEvent(event={page(2)})"


def test_the_plugin_costs_nothing_until_it_is_used():
    """Loading the plugin imports neither `requests` nor the rest of the package."""
    program = (
        "import sys, pytest; before = {*sys.modules}; import snowplow_logging.pytest_plugin\n"
        "print(*sorted({*sys.modules} - before))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    loaded = done.stdout.decode().split()
    assert {name for name in loaded if name.startswith("snowplow_logging")} == {
        "snowplow_logging",
        "snowplow_logging._version",
        "snowplow_logging.pytest_plugin",
    }
    assert not {"requests", "pythonjsonlogger", "urllib3", "sqlite3"} & {*loaded}


def test_the_package_has_all_that_it_says():
    """Every public name can be imported from the package, and an unknown one is an error."""
    for name in snowplow_logging.__all__:
        assert getattr(snowplow_logging, name) is not None
    assert {*snowplow_logging.__all__} <= {*dir(snowplow_logging)}
    with pytest.raises(AttributeError, match="has no attribute 'SnowplowHandel'"):
        snowplow_logging.SnowplowHandel  # noqa: B018


SUITE = """
import logging
import logging.config
import pytest

CONFIGURATION = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {
        "snowplow": {
            "class": "snowplow_logging.SnowplowHandler",
            "endpoint": "http://127.0.0.1:9",
            "app_id": "shop",
        },
    },
    "root": {"handlers": ["snowplow"]},
}
logger = logging.getLogger("shop")


def log(number):
    url = f"https://shop.example.com/{number}"
    logger.info("page %s", number, extra={"snowplow": {"event": "page_view", "page_url": url}})
    return url


@pytest.mark.parametrize("number", range(4))
def test_events(snowplow_events, number):
    url = log(number)
    assert [event.payload["url"] for event in snowplow_events.named("page_view")] == [url]


def test_with_caplog(snowplow_events, caplog):
    log(1)
    assert len(snowplow_events) == 1
    assert caplog.messages == ([] if caplog.handler.level > logging.INFO else ["page 1"])
    with caplog.at_level("ERROR", logger="shop"):
        log(2)
    assert len(snowplow_events) == 1


def test_configured_during_the_test(snowplow_events):
    logging.config.dictConfig(CONFIGURATION)
    log(3)
    assert snowplow_events[0].payload["aid"] == "shop"


def test_without():
    assert not logging.getLogger("other").isEnabledFor(logging.INFO)
"""


@pytest.mark.parametrize("log_level", [None, "WARNING", "DEBUG"])
def test_the_fixture(pytester, log_level):
    """The fixture captures, beside `caplog` and `dictConfig`, whatever pytest's `log_level` is."""
    pytester.makeini("[pytest]\n" + (f"log_level = {log_level}\n" if log_level else ""))
    pytester.makepyfile(SUITE)
    deselected = ("--deselect", "test_the_fixture.py::test_without") if log_level == "DEBUG" else ()
    result = pytester.runpytest_inprocess(*PLUGIN, "-p", "no:cacheprovider", *deselected)
    result.assert_outcomes(passed=6 if deselected else 7, deselected=len(deselected) // 2)


def test_the_fixture_with_xdist(pytester):
    """The fixture works in the worker processes of pytest-xdist."""
    pytest.importorskip("xdist")
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_subprocess(*PLUGIN, "-n", "2")
    result.assert_outcomes(passed=7)


UNSEEN_SUITE = """
import logging
import unittest
import pytest

logger = logging.getLogger("shop")


def log_bad():
    logger.info("x", extra={"snowplow": {"event": "page_view", "page_urll": "x"}})


@pytest.fixture
def logs_late(snowplow_events):
    yield
    log_bad()


def test_fails_unseen(snowplow_events):
    log_bad()
    assert snowplow_events == []


def test_fails_cleared(snowplow_events):
    log_bad()
    snowplow_events.clear()


@pytest.mark.usefixtures("snowplow_events")
class TestOld(unittest.TestCase):
    def test_fails_without_an_argument(self):
        log_bad()


def test_fails_by_itself(snowplow_events):
    log_bad()
    assert snowplow_events.named("page_view"), "none is there"


@pytest.mark.xfail(strict=True)
def test_expected(snowplow_events):
    log_bad()


@pytest.mark.xfail(strict=True)
def test_expected_by_itself(snowplow_events):
    log_bad()
    assert snowplow_events


def test_late(snowplow_events, logs_late):
    pass


def test_good_looked_at(snowplow_events):
    log_bad()
    assert len(snowplow_events.invalid) == 1


def test_good_nothing_bad(snowplow_events):
    logger.info("x", extra={"snowplow": {"event": "page_view", "page_url": "http://a.example/"}})


def test_good_without_the_fixture():
    log_bad()
"""


def test_an_invalid_event_fails_a_test_that_has_not_looked(pytester):
    """The test itself fails, with what was wrong and where; and none that was to fail anyway."""
    pytester.makepyfile(UNSEEN_SUITE)
    result = pytester.runpytest_inprocess(*PLUGIN, "-p", "no:cacheprovider", "-rA")
    result.assert_outcomes(failed=4, xfailed=2, passed=4, errors=1)
    for name in ("fails_unseen", "fails_cleared", "fails_without_an_argument", "fails_by_itself"):
        result.stdout.fnmatch_lines([f"FAILED *test_{name}*"])
    result.stdout.fnmatch_lines(["ERROR *test_late*"])
    result.stdout.fnmatch_lines(
        [
            "events that Snowplow would refuse were logged:",
            "  page_view: page_urll *",
            '    File "*test_an_invalid_event*.py", line *, in log_bad',
            "(a test in which that is right looks at snowplow_events.invalid)",
            "*Captured snowplow call*",
        ]
    )


@pytest.mark.skipif(not INSTALLED, reason="the package is not installed")
def test_the_plugin_is_found_once_the_package_is_installed(pytester):
    """The fixture is there without any option, and says what it is for."""
    result = pytester.runpytest_subprocess("--fixtures")
    result.stdout.fnmatch_lines(["snowplow_events*", "*Capture the Snowplow events*"])


BUY = "iglu:com.acme/buy/jsonschema/1-0-0"
SCHEMA_SUITE = """
import logging


def test_schemas(snowplow_events):
    for price in (19.99, "x"):
        event = {"event": "self_describing_event", "schema": %r, "data": {"price": price}}
        logging.getLogger("shop").info("bought", extra={"snowplow": event})
    assert [event.data for event in snowplow_events] == [{"price": 19.99}]
    [refused] = snowplow_events.invalid
    assert "data.price is 'x', which the schema" in str(refused.error)
"""


@pytest.fixture
def buy(tmp_path):
    """Make a registry of one schema, and return its folder."""
    pytest.importorskip("jsonschema_rs", reason="checking schemas needs it")
    file = tmp_path / "iglu" / "schemas" / BUY.removeprefix("iglu:")
    file.parent.mkdir(parents=True)
    file.write_text('{"properties": {"price": {"type": "number", "multipleOf": 0.01}}}')
    return tmp_path / "iglu"


class TestSchemas:
    """Events that are checked against schemas while they are captured."""

    @staticmethod
    def log(logger, price):
        """Log an event with an entity."""
        data = {"schema": BUY, "data": {"price": price}}
        event = {"event": "self_describing_event", **data, "context": [data]}
        logger.info("bought", extra={"snowplow": event})

    @pytest.mark.parametrize("encode_base64", [True, False])
    def test_what_does_not_fit_is_invalid(self, buy, encode_base64):
        """Registries that are given for the capture count for handlers that have none."""
        with (
            tracking(encode_base64=encode_base64) as track,
            capture_events(iglu=[buy]) as events,
            capture_events() as others,
        ):
            self.log(track.logger, 19.99)
            self.log(track.logger, 19.999)

        assert (len(events), len(others)) == (1, 2)
        assert str(events.invalid[0].error).startswith("self_describing_event: data.price is 19.99")

    def test_warn_and_off_keep_it(self, buy, caplog):
        """As with the handler, it can be no more than a warning, or nothing."""
        logger = logging.getLogger("shop")
        for schema_check, reports in (("off", 0), ("warn", 2)):
            caplog.clear()
            with capture_events(iglu=str(buy), schema_check=schema_check) as events:
                self.log(logger, "x")
            assert (len(events), len(events.invalid)) == (1, 0)
            assert sum("does not take" in message for message in caplog.messages) == reports
        with (
            pytest.raises(ValueError, match=r"^schema_check is 'on'"),
            capture_events(schema_check="on"),
        ):
            pass

    def test_the_fixture_takes_registries_from_the_ini_file(self, pytester, buy):
        """A folder in `snowplow_iglu` is meant from where the ini file lies."""
        (pytester.path / "registry").symlink_to(buy)
        pytester.makeini("[pytest]\nsnowplow_iglu =\n    registry\n")
        (pytester.path / "deep").mkdir()
        pytester.path.joinpath("deep", "test_deep.py").write_text(SCHEMA_SUITE % BUY)

        result = pytester.runpytest_subprocess(*PLUGIN)

        result.assert_outcomes(passed=1)
