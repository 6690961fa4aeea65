"""Events that are a key of a structlog call, whatever renders the line."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import time

import pytest

from helpers import tracking
from snowplow_logging import PageView, SnowplowJsonFormatter, subject_context
from snowplow_logging.structlog import SnowplowProcessor
from ways import by_pickle, by_queue, collecting

pytestmark = pytest.mark.every_python

structlog = pytest.importorskip("structlog")

PAGE = {"event": "page_view", "page_url": "https://shop.example.com/"}
WRAP = structlog.stdlib.ProcessorFormatter.wrap_for_formatter
RENDERERS = {
    "json": structlog.processors.JSONRenderer(),
    "key-value": structlog.processors.KeyValueRenderer(),
    "logfmt": structlog.processors.LogfmtRenderer(),
    "console": structlog.dev.ConsoleRenderer(colors=False),
    "formatter": WRAP,
    "keywords": structlog.stdlib.render_to_log_kwargs,
}


@pytest.fixture
def lines(tracked):
    """Add a console to the tracked logger; return what it shows."""
    stream = io.StringIO()
    console = logging.StreamHandler(stream)
    console.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ]
        )
    )
    tracked.logger.addHandler(console)
    return lambda: stream.getvalue().splitlines()


def wrapped(logger, *last):
    """Return a structlog logger around a standard one, with these last processors."""
    return structlog.wrap_logger(
        logger,
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.add_log_level, *last],
        wrapper_class=structlog.stdlib.BoundLogger,
    )


@pytest.mark.parametrize("renderer", RENDERERS)
def test_in_the_place_of_the_renderer(tracked, lines, renderer):
    """The event arrives, the line is rendered as without it, and the record has it."""
    logger = wrapped(tracked.logger, SnowplowProcessor(RENDERERS[renderer]))
    logger.info("no event", items=2)
    logger.info("basket opened", items=2, snowplow=PAGE)
    logger.bind(snowplow=PageView(page_url="app:object")).warning("bound")
    assert [sent["url"] for sent in tracked.payloads()] == [PAGE["page_url"], "app:object"]
    assert len(lines()) == 3
    assert "basket opened" in lines()[1]
    assert not any("page_view" in line or "page_url" in line for line in lines())


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("place", ["in the renderer's", "before it"])
def test_an_event_that_is_the_message(tracked, lines, renderer, place):
    """It arrives as where the standard library logs, and the line has its text."""
    end = RENDERERS[renderer]
    last = [SnowplowProcessor(end)] if place != "before it" else [SnowplowProcessor(), end]
    logger = wrapped(tracked.logger, *last)
    logger.info(PageView(page_url="app:a"))
    logger.info(PageView(page_url="app:b"), snowplow=PAGE)
    assert sorted(sent["url"] for sent in tracked.payloads()) == [
        "app:a",
        "app:b",
        PAGE["page_url"],
    ]
    assert ["page_view page_url=app:a" in line for line in lines()] == [True, False]
    assert "None" not in "".join(lines())


@pytest.mark.parametrize("renderer", RENDERERS)
def test_before_the_renderer(tracked, lines, renderer):
    """It may stand anywhere before, too, and hands the event to the Snowplow handlers alone."""
    if renderer == "json":
        tracked.handler.setLevel(logging.WARNING)
    logger = wrapped(tracked.logger, SnowplowProcessor(), RENDERERS[renderer])
    with subject_context(user_id="u-42"):
        logger.warning("basket opened", items=2, snowplow=PAGE)
        logger.info("basket opened", items=2, snowplow=PAGE)
    sent = tracked.payloads()
    assert [payload["uid"] for payload in sent] == ["u-42"] * (1 if renderer == "json" else 2)
    assert len(lines()) == 2
    assert not any("page_view" in line for line in lines())


def test_found_without_a_processor(tracked, lines, reports):
    """Where `ProcessorFormatter` takes the whole dict, the handler finds the event by itself."""
    logger = wrapped(tracked.logger, WRAP)
    event = dict(PAGE)
    logger.info("basket opened", items=2, snowplow=event)
    logger.info("an object", snowplow=PageView(page_url="app:object"))
    logger.info(PageView(page_url="app:message"))
    urls = [sent["url"] for sent in tracked.payloads()]
    assert urls == [PAGE["page_url"], "app:object", "app:message"]
    assert '"event": "page_view page_url=app:message"' in lines()[-1]
    assert event == PAGE
    assert reports == []


@pytest.mark.parametrize("renderer", sorted({*RENDERERS} - {"formatter", "keywords"}))
@pytest.mark.parametrize(
    "event", [PAGE, [PAGE], PageView(page_url="app:a")], ids=["dict", "list", "message"]
)
def test_reported_where_it_became_text(tracked, reports, renderer, event):
    """Where a renderer has made text of it, the first one is reported with what to add."""
    logger = wrapped(tracked.logger, RENDERERS[renderer])
    logger.info("no event", snowplow_version=5)
    logger.info("the word snowplow, and snowplow=5")
    assert tracked.handler.flush(30)
    assert reports == []
    for _ in range(3):
        if isinstance(event, PageView):
            logger.info(event, items=2)
        else:
            logger.info("basket opened", items=2, snowplow=event)
    assert tracked.payloads() == []
    assert tracked.handler.stats.invalid == 0
    while not reports:  # which a thread writes
        time.sleep(0.01)
    (report,) = reports
    assert "snowplow_logging.structlog.SnowplowProcessor(renderer)" in report


def test_native_loggers(collector, reports):
    """Loggers of structlog's own print their lines, and the root's handler has the events."""
    stream = io.StringIO()
    with tracking(collector) as tracked:
        logging.getLogger("structlog-shop").addHandler(tracked.handler)
        logging.getLogger("structlog-shop").setLevel(logging.INFO)
        for processor in (
            [SnowplowProcessor(structlog.processors.JSONRenderer())],
            [SnowplowProcessor(), structlog.processors.JSONRenderer()],
        ):
            logger = structlog.wrap_logger(
                structlog.PrintLogger(stream), processors=processor
            ).bind(logger="structlog-shop")
            logger.info("x", snowplow=PAGE)
            logger.warning("x", snowplow=PAGE)
            logger.debug("x", snowplow=PAGE)  # the standard logger's level holds it back
        assert len(tracked.payloads()) == 4
        logging.getLogger("structlog-shop").removeHandler(tracked.handler)
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["x"] * 6


@pytest.mark.parametrize("way", [by_queue, by_pickle])
def test_behind_a_queue(tracked, way):
    """A record with a rendered line takes its event along."""
    logger, records = collecting()
    with subject_context(user_id="u-42"):
        wrapped(logger, SnowplowProcessor(structlog.processors.JSONRenderer())).info(
            "x", snowplow=PAGE
        )
    tracked.handler.handle(way(records[0]))
    (sent,) = tracked.payloads()
    assert (sent["url"], sent["uid"]) == (PAGE["page_url"], "u-42")


def test_the_same_id_everywhere(tracked):
    """A line for replay beside it has the event with the id that was sent."""
    stream = io.StringIO()
    console = logging.StreamHandler(stream)
    console.setFormatter(SnowplowJsonFormatter())
    tracked.logger.addHandler(console)
    for last in (SnowplowProcessor(structlog.processors.JSONRenderer()), WRAP):
        wrapped(tracked.logger, last).info("x", snowplow=PAGE)
    ids = [json.loads(line)["snowplow"]["event_id"] for line in stream.getvalue().splitlines()]
    assert [sent["eid"] for sent in tracked.payloads()] == ids


def test_async_methods(tracked):
    """Structlog's async methods log on a thread, which has what is bound."""
    logger = wrapped(tracked.logger, SnowplowProcessor(structlog.processors.JSONRenderer()))

    async def main():
        with subject_context(user_id="u-42"):
            await logger.ainfo("x", snowplow=PAGE)

    asyncio.run(main())
    assert [sent["uid"] for sent in tracked.payloads()] == ["u-42"]


def test_a_bad_event_names_its_log_call(collector, capsys):
    """What is refused names the file of the log call, in either place of the processor."""
    from snowplow_logging import SnowplowHandler

    handler = SnowplowHandler(collector.endpoint)
    logger = logging.Logger("shop")
    logger.addHandler(handler)
    renderer = structlog.processors.JSONRenderer()
    for last in ([SnowplowProcessor(renderer)], [SnowplowProcessor(), renderer]):
        structlog.wrap_logger(
            logger, processors=last, wrapper_class=structlog.stdlib.BoundLogger
        ).info("x", snowplow={"event": "page_view"})
    handler.close()
    places = [line for line in capsys.readouterr().err.splitlines() if "File" in line]
    assert "test_structlog.py" in places[1]


@pytest.mark.parametrize("is_standard", [True, False], ids=["standard", "structlog's own"])
def test_a_bad_event_of_an_async_method_names_its_log_call(collector, capsys, is_standard):
    """And not the thread that structlog has it logged on."""
    from snowplow_logging import SnowplowHandler

    handler = SnowplowHandler(collector.endpoint)
    standard = logging.getLogger("structlog-async")
    standard.addHandler(handler)
    logger = structlog.wrap_logger(
        standard if is_standard else structlog.PrintLogger(io.StringIO()),
        processors=[SnowplowProcessor(), structlog.processors.JSONRenderer()],
        wrapper_class=structlog.stdlib.BoundLogger if is_standard else None,
    ).bind(logger="structlog-async")

    async def log_it():
        await logger.aerror("x", snowplow={"event": "page_view"})

    asyncio.run(log_it())
    standard.removeHandler(handler)
    handler.close()
    (place,) = [line for line in capsys.readouterr().err.splitlines() if "File" in line]
    assert "test_structlog.py" in place
    assert place.endswith("in log_it")


def test_no_renderer():
    """What is no processor is an error where it is given."""
    with pytest.raises(TypeError, match="renderer"):
        SnowplowProcessor("json")
