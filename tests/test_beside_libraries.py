"""Beside what others do with log records: rich, Sentry, OpenTelemetry, and factories of records."""

from __future__ import annotations

import io
import json
import logging

import pytest

from helpers import ANYTHING, tracking
from snowplow_logging import PageView, SelfDescribingJson, subject_context
from ways import WAYS

EVENT = PageView(
    page_url="https://shop.example.com/",
    page_title="Basket",
    context=[SelfDescribingJson(ANYTHING, {})],
)
TEXT = "page_view page_url=https://shop.example.com/ page_title=Basket"
SHOWN = {
    "event": "page_view",
    "page_url": "https://shop.example.com/",
    "page_title": "Basket",
    "context": [{"schema": ANYTHING, "data": {}}],
}
"""What is set of the event, and nothing else."""


@pytest.fixture(params=["before", "after"])
def logged(request, tracked):
    """Return a function that has a handler stand beside ours, and logs the event in both ways."""

    def log(handler):
        handlers = tracked.logger.handlers
        handlers.insert(0 if request.param == "before" else 1, handler)
        tracked.logger.error(EVENT)
        tracked.logger.error("text", extra={"snowplow": EVENT})
        assert [sent["page"] for sent in tracked.payloads()] == ["Basket"] * 2

    return log


def test_rich(logged):
    """Rich shows the event's text, or the message that it stands beside."""
    rich = pytest.importorskip("rich.logging")
    from rich.console import Console

    shown = io.StringIO()
    console = Console(file=shown, width=200, color_system=None)
    logged(rich.RichHandler(console=console, show_time=False, show_path=False))
    assert [line.split(maxsplit=1)[1].strip() for line in shown.getvalue().splitlines()] == [
        TEXT,
        "text",
    ]


@pytest.mark.filterwarnings("ignore:.LoggingHandler. in .opentelemetry-sdk.:DeprecationWarning")
def test_opentelemetry(logged, caplog):
    """Its handler has the text as body, and the event as an attribute, in which nothing is null."""
    export = pytest.importorskip("opentelemetry.sdk._logs.export")
    sdk = pytest.importorskip("opentelemetry.sdk._logs")
    if not hasattr(sdk, "LoggingHandler"):
        pytest.skip("this version of opentelemetry-sdk has no LoggingHandler")
    exporter = export.InMemoryLogRecordExporter()
    provider = sdk.LoggerProvider()
    provider.add_log_record_processor(export.SimpleLogRecordProcessor(exporter))
    logged(sdk.LoggingHandler(logger_provider=provider))
    first, second = (exported.log_record for exported in exporter.get_finished_logs())
    provider.shutdown()
    assert (first.body, second.body) == (TEXT, "text")
    assert "snowplow" not in first.attributes
    assert json.loads(json.dumps(dict(second.attributes["snowplow"]), default=dict)) == SHOWN
    assert "Invalid type" not in caplog.text


def test_sentry(logged):
    """Its events have the text as message, and the event as extra data."""
    sentry = pytest.importorskip("sentry_sdk")
    from sentry_sdk.integrations.logging import EventHandler

    events = []
    sentry.init(
        "http://a@127.0.0.1:9/1",
        before_send=lambda event, _: events.append(event),
        auto_enabling_integrations=False,  # which import whatever is installed
    )
    try:
        logged(EventHandler())
    finally:
        sentry.get_client().close(timeout=0)
        sentry.get_global_scope().set_client(None)
    # Sentry's own integration sees each log call, too.
    by_text = {event["logentry"]["message"]: event["extra"] for event in events}
    assert by_text.keys() == {TEXT, "text"}
    assert "snowplow" not in by_text[TEXT]
    assert json.loads(json.dumps(by_text["text"]["snowplow"])) == SHOWN


def alone(*args, **kwargs):
    """Make a record as a factory does that knows of no other."""
    return logging.LogRecord(*args, **kwargs)


def around(before):
    """Return a factory that adds to what the one before makes, as the logging cookbook has it."""

    def factory(*args, **kwargs):
        record = before(*args, **kwargs)
        record.request_id = 7
        return record

    return factory


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["alone", "around"])
def test_factories_that_come_and_go(collector, kind, way):
    """What is bound goes along while a factory is there, and after it, as often as one comes."""
    first = logging.getLogRecordFactory()
    records = []
    logger = logging.Logger("shop")
    logger.addFilter(lambda record: records.append(WAYS[way](record)))
    try:
        for turn in range(3):
            before = logging.getLogRecordFactory()
            logging.setLogRecordFactory(alone if kind == "alone" else around(before))
            with subject_context(user_id=f"with {turn}"):
                logger.info(EVENT)
            logging.setLogRecordFactory(before)
            with subject_context(user_id=f"without {turn}"):
                logger.info(EVENT)
    finally:
        logging.setLogRecordFactory(first)
    with tracking(collector) as tracked:
        for record in records:
            tracked.handler.handle(record)
        users = [sent.get("uid") for sent in tracked.payloads()]
    expected = [f"{what} {turn}" for turn in range(3) for what in ("with", "without")]
    if "socket" in way:  # which takes along nothing of what surrounds a record
        expected = [None] * 6
    assert users == expected


class Own(logging.LogRecord):
    """A record of a program's own class."""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("factory", [alone, Own], ids=["plain", "own class"])
def test_a_factory_that_comes_inside(collector, factory, way):
    """What is bound goes along, though a factory has come that knows nothing of it."""
    first = logging.getLogRecordFactory()
    records = []
    logger = logging.Logger("shop")
    capturing = logging.Handler()
    capturing.emit = lambda record: records.append(WAYS[way](record))
    logger.addHandler(capturing)
    event = {"event": "struct_event", "category": "c", "action": "a"}
    try:
        with tracking(), subject_context(user_id="u"):
            logging.setLogRecordFactory(factory)
            logger.info(EVENT)
            logger.info("dict", extra={"snowplow": event})
            logger.info("two", extra={"snowplow": [event, EVENT]})
            with subject_context(timezone="UTC"):
                logging.setLogRecordFactory(factory)
                logger.info("inner", extra={"snowplow": EVENT})
        logging.setLogRecordFactory(factory)
        logger.info("none", extra={"snowplow": event})
    finally:
        logging.setLogRecordFactory(first)
    assert "user_id" not in str(event)
    with tracking(collector) as tracked:
        with subject_context(user_id="of somebody else"):
            for record in records[:-1]:
                tracked.handler.handle(record)
        tracked.handler.handle(records[-1])
        sent = [(one.get("uid"), one.get("tz")) for one in tracked.payloads()]
    assert sent == [*[("u", None)] * 4, ("u", "UTC"), (None, None)]
