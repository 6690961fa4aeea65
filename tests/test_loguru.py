"""Events in log calls of loguru, which hands them over in `record.extra`."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest

from helpers import entity, tracking
from snowplow_logging import PageView, SnowplowJsonFormatter, subject_context
from snowplow_logging.loguru import keep_event

pytestmark = pytest.mark.every_python

pytest.importorskip("loguru")

PAGE = {"event": "page_view", "page_url": "https://shop.example.com/"}


@pytest.fixture
def logger():
    """Return loguru's logger without its sinks."""
    from loguru import logger

    logger.remove()
    yield logger
    logger.complete()
    logger.remove()
    logger.configure(patcher=lambda record: None, extra={})


@pytest.mark.parametrize("serialize", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("enqueue", [False, True], ids=["at once", "enqueued"])
def test_events_in_extra(collector, logger, enqueue, serialize):
    """Bound, as a keyword, as a dict, as an object and in a list: six of six arrive."""
    with tracking(collector) as tracked:
        logger.add(tracked.handler, format="{message}", enqueue=enqueue, serialize=serialize)
        logger.info("no event", items=2)
        logger.bind(snowplow=PAGE).info("basket opened")
        logger.info("basket {state}", state="opened", snowplow=PAGE)
        logger.info("an object", snowplow=PageView(page_url="https://b.example.com/"))
        logger.info("two", snowplow=[PAGE, PageView(page_url="https://c.example.com/")])
        with logger.contextualize(snowplow={**PAGE, "page_title": "around"}):
            logger.info("around")
        logger.complete()
        urls = [payload["url"][8:] for payload in tracked.payloads()]
        assert tracked.handler.errors == []
    shop = "shop.example.com/"
    assert urls == [shop, shop, "b.example.com/", shop, "c.example.com/", shop]


def test_what_is_bound_where_it_is_logged(tracked, logger):
    """The subject and the entities around a call go with it, as anywhere."""
    logger.add(tracked.handler)
    with subject_context(user_id="u-42", context=[entity(a=1)]):
        logger.info("x", snowplow=PAGE)
    (event,) = tracked.arrived()
    assert event["rawEvent"]["parameters"]["uid"] == "u-42"
    assert event["event"]["contexts"]["data"] == [entity(a=1)]


@pytest.mark.parametrize("enqueue", [False, True], ids=["at once", "enqueued"])
def test_the_patcher(collector, logger, enqueue):
    """With it an event keeps subject, entities, id and time of its log call, enqueued or not."""
    stream = io.StringIO()
    other = logging.StreamHandler(stream)
    other.setFormatter(SnowplowJsonFormatter())
    with tracking(collector) as tracked:
        logger.configure(patcher=keep_event)
        times = []
        logger.add(lambda message: times.append(message.record["time"].timestamp()))
        logger.add(tracked.handler, enqueue=enqueue)
        logger.add(other, enqueue=enqueue)
        with subject_context(user_id="u-42", context=[entity(a=1)]):
            logger.info("x", snowplow=[PAGE, PAGE])
            logger.info(PageView(page_url="app:message"))
        logger.complete()
        first, second, message = tracked.arrived()
    for event in (first, second, message):
        assert event["rawEvent"]["parameters"]["uid"] == "u-42"
        assert event["event"]["contexts"]["data"] == [entity(a=1)]
    sent = first["rawEvent"]["parameters"]
    assert 0 <= int(sent["dtm"]) - int(times[0] * 1000) < 30_000
    two, one = (json.loads(line)["snowplow"] for line in stream.getvalue().splitlines())
    ids = [event["rawEvent"]["parameters"]["eid"] for event in (first, second, message)]
    assert [*(event["event_id"] for event in two), one["event_id"]] == ids
    assert {str(event["dtm"]) for event in two} == {sent["dtm"]}
    assert message["rawEvent"]["parameters"]["url"] == "app:message"


def test_handlers_agree_on_the_id(collector, logger):
    """Each handler gets a record of its own, and all give the event the same id."""
    stream = io.StringIO()
    lines = logging.StreamHandler(stream)
    lines.setFormatter(SnowplowJsonFormatter())
    event = dict(PAGE)
    with tracking(collector) as tracked, tracking(collector) as other:
        for handler in (tracked.handler, other.handler, lines):
            logger.add(handler)
        logger.info("x", snowplow=event)
        assert other.handler.flush(30)
        sent = tracked.payloads()
    assert len(sent) == 2
    assert {payload["eid"] for payload in sent} == {
        json.loads(stream.getvalue())["snowplow"]["event_id"]
    }
    assert event == PAGE


def test_handed_on_to_logging(collector, logger):
    """Loguru's own recipe for handing records on to standard loggers brings the events, too."""

    class PropagateHandler(logging.Handler):
        def emit(self, record):
            standard.handle(record)

    with tracking(collector) as tracked:
        standard = tracked.logger
        logger.add(PropagateHandler(), format="{message}")
        logger.info("x", snowplow=PAGE)
        assert len(tracked.payloads()) == 1


@pytest.mark.parametrize("form", ["{message}", "{time} {level} | {message}", "json"])
def test_reported_where_it_became_text(tracked, logger, reports, form):
    """An event that is the message is reported where no patcher keeps it."""
    more = {"serialize": True} if form == "json" else {"format": form}
    logger.add(tracked.handler, **more)
    logger.info("a page_view of a page_url")
    assert tracked.handler.flush(30)
    assert reports == []
    for _ in range(3):
        logger.info(PageView(page_url="https://a.example/"))
    assert tracked.payloads() == []
    (report,) = reports
    assert "patcher=snowplow_logging.loguru.keep_event" in report


def test_from_standard_loggers(collector, logger):
    """Loguru's own recipe takes the message along alone; an event goes by `bind`, or as message."""

    class InterceptHandler(logging.Handler):
        def emit(self, record):
            bound = logger.bind(snowplow=getattr(record, "snowplow", None))
            bound.opt(depth=6, exception=record.exc_info).log("INFO", record.getMessage())

    with tracking(collector) as tracked:
        logger.configure(patcher=keep_event)
        logger.add(tracked.handler, format="{message}")
        standard = logging.Logger("standard")
        standard.addHandler(InterceptHandler())
        with subject_context(user_id="u-42"):
            standard.info("x", extra={"snowplow": PAGE})
            standard.info(PageView(page_url="app:message"))
            standard.info("no event")
        sent = [(payload["url"], payload["uid"]) for payload in tracked.payloads()]
        assert tracked.handler.errors == []
    assert sent == [(PAGE["page_url"], "u-42"), ("app:message", "u-42")]


def test_a_bad_event(refusing, logger):
    """It is refused as anywhere, and costs the program nothing."""
    logger.add(refusing.handler)
    logger.info("x", snowplow={"event": "page_view"})
    logger.info("x", snowplow=5)
    assert [error.key for error in refusing.handler.errors] == ["page_url", "event"]
    assert sys.exc_info()[0] is None
