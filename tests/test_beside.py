"""Beside the logging that is there already: nothing else is sent, and nothing else changes."""

from __future__ import annotations

import importlib.util
import io
import json
import logging
import re
import subprocess
import sys
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pythonjsonlogger.json import JsonFormatter

from helpers import entity, tracking
from snowplow_logging import (
    AddToCart,
    PageView,
    SelfDescribing,
    SiteSearch,
    SnowplowAdapter,
    StructuredEvent,
    subject_context,
)
from ways import WAYS, by_pickle, by_queue, collecting

PAGE = {"event": "page_view", "page_url": "https://shop.example.com/"}

PROGRAM = '''\
"""A program at DEBUG whose libraries log, and which logs events."""

import logging.config
import sys

endpoint, library, file = sys.argv[1:]
logging.config.dictConfig(
    {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"format": "%(levelname)s %(name)s %(message)s"}},
        "handlers": {
            "console": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stdout",
                "formatter": "plain",
            },
            "file": {"class": "logging.FileHandler", "filename": file, "formatter": "plain"},
            "snowplow": {
                "class": "snowplow_logging.SnowplowHandler",
                "endpoint": endpoint,
                "flush_interval": 0.05,
            },
        },
        "root": {"level": "DEBUG", "handlers": ["console", "file", "snowplow"]},
    }
)
logger = logging.getLogger("shop")


def use_requests():
    import requests

    with requests.Session() as session:
        assert session.get(f"{endpoint}/health").text == "ok"


def use_asyncio():
    import asyncio

    async def main():
        asyncio.get_running_loop().slow_callback_duration = 0
        await asyncio.sleep(0)

    asyncio.run(main(), debug=True)


def use_sqlalchemy():
    import sqlalchemy

    engine = sqlalchemy.create_engine("sqlite://", echo="debug")
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("SELECT 1")).scalar() == 1
    engine.dispose()


def use_django():
    import django
    from django.conf import settings
    from django.http import HttpResponse
    from django.urls import path

    def shop(request):
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        logger.info("seen", extra={"snowplow": {"event": "page_view", "page_url": "app:django"}})
        if "fail" in request.GET:
            raise LookupError
        return HttpResponse("ok")

    settings.configure(
        DEBUG=True,
        SECRET_KEY="no secret",
        ROOT_URLCONF=type("urls", (), {"urlpatterns": [path("", shop)]}),
        ALLOWED_HOSTS=["testserver"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        LOGGING_CONFIG=None,
    )
    django.setup()
    from django.test import Client

    client = Client(raise_request_exception=False)
    assert client.get("/").status_code == 200
    assert client.get("/?fail").status_code == 500
    assert client.get("/nowhere").status_code == 404


logger.info("before", extra={"snowplow": {"event": "page_view", "page_url": "app:before"}})
{"requests": use_requests, "asyncio": use_asyncio, "sqlalchemy": use_sqlalchemy,
 "django": use_django}[library]()
logger.info("after", extra={"snowplow": {"event": "page_view", "page_url": "app:after"}})
logger.debug("the end")
'''

LIBRARIES = {
    "requests": (["DEBUG urllib3.connectionpool "], []),
    "asyncio": (["DEBUG asyncio ", "WARNING asyncio "], []),
    "sqlalchemy": (["INFO sqlalchemy.engine.Engine "], []),
    "django": (
        ["DEBUG django.db.backends ", "ERROR django.request ", "WARNING django.request "],
        ["app:django", "app:django"],
    ),
}


class TestRoot:
    """On the root logger of a program whose libraries log at DEBUG."""

    @pytest.mark.parametrize("library", LIBRARIES)
    def test_only_events_are_sent(self, collector, tmp_path, library):
        """Records with events are sent, and every handler has every record once."""
        if library != "asyncio" and importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
        program, file = tmp_path / "program.py", tmp_path / "shop.log"
        program.write_text(PROGRAM, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, program, collector.endpoint, library, file],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        expected, urls = LIBRARIES[library]
        for lines in (done.stdout, file.read_text("utf-8")):
            for start in expected:
                assert re.search(f"^{re.escape(start)}", lines, re.MULTILINE), lines
            assert lines.count("INFO shop before\n") == lines.count("INFO shop after\n") == 1
            assert lines.count("DEBUG shop the end\n") == 1
            assert "Traceback" not in lines or library == "django"
        assert collector.bad == []
        arrived = [event["rawEvent"]["parameters"]["url"] for event in collector.good]
        assert arrived == ["app:before", *urls, "app:after"]

    def test_what_it_sends_with_is_not_captured(self, collector, caplog):
        """What the handler's own HTTP client logs reaches other handlers and causes no events."""
        caplog.set_level(logging.DEBUG)
        with tracking(collector, capture_exceptions=True) as tracked:
            logging.getLogger().addHandler(tracked.handler)
            try:
                logging.getLogger("shop").info("x", extra={"snowplow": PAGE})
                assert len(tracked.arrived()) == 1
            finally:
                logging.getLogger().removeHandler(tracked.handler)
        assert collector.counts["total"] == 1


EVENTS = [
    (
        PageView(
            page_url="https://shop.example.com/",
            page_title="Körbe\nvon heute",
            context=[entity(a=1)],
            subject={"user_id": "u-42"},
            event_id="0f8fad5b-d9cb-469f-a165-70867728950e",
        ),
        "page_view page_url=https://shop.example.com/ page_title=Körbe\\nvon heute",
    ),
    (AddToCart(sku="s-1", quantity=2, unit_price=Decimal("9.90")), "unit_price=9.90"),
    (StructuredEvent(category="shop", action="look", value=1.5), "category=shop action=look"),
    (SelfDescribing(schema="iglu:a/b/jsonschema/1-0-0", data={"a": 1}), "schema=iglu:a/b"),
    (SiteSearch(terms=["a"], total_results=3), "site_search total_results=3"),
    (PageView(page_url="x" * 5_000), "page_url=xxx"),
    (PageView(page_url="\udc80\x1b[31m"), "page_url=\\udc80\\x1b[31m"),
]


class TestPlainFormatters:
    """Handlers that write text."""

    @pytest.mark.parametrize(("event", "shown"), EVENTS, ids=range(len(EVENTS)))
    @pytest.mark.parametrize(
        "style", [("%(message)s|", "%"), ("{message}|", "{"), ("${message}|", "$")]
    )
    def test_an_event_as_the_message(self, tmp_path, event, shown, style):
        """An event that is the message is a line with its name and its main values."""
        handler = logging.FileHandler(tmp_path / "shop.log", encoding="utf-8")
        handler.setFormatter(logging.Formatter(style[0], style=style[1]))
        logger = logging.Logger("shop")
        logger.addHandler(handler)
        logger.info(event)
        handler.close()
        (line,) = (tmp_path / "shop.log").read_text("utf-8").splitlines()
        assert line.startswith(f"{event.event_name} ")
        assert shown in line
        assert line.endswith("|")
        assert len(line) < 1_000

    @given(st.text(st.characters(), max_size=300))
    def test_any_value(self, title):
        """Whatever the values are, the line is one, and a file in UTF-8 can hold it."""
        line = str(PageView(page_url="https://shop.example.com/", page_title=title))
        assert len(f"{line}|".splitlines()) == 1
        assert line.encode()

    def test_an_event_beside_the_message(self):
        """An event in `extra` changes no line."""
        stream = io.StringIO()
        logger = logging.Logger("shop")
        logger.addHandler(logging.StreamHandler(stream))
        logger.handlers[0].setFormatter(logging.Formatter("%(levelname)s %(lineno)d %(message)s"))
        for extra in ({"snowplow": PAGE}, {}):
            logger.info("basket %s", 1, extra=extra)
        first, second = stream.getvalue().splitlines()
        assert first == second

    def test_the_adapter(self):
        """An adapter's event is such a line, too."""
        logger, records = collecting()
        SnowplowAdapter(logger).page_view(page_url="https://shop.example.com/")
        line = logging.Formatter().format(records[0])
        assert line == "page_view page_url=https://shop.example.com/"


def logged(way, message, **keywords):
    """Return two records of a log call that went some way: as they are here, and without us."""
    logger, records = collecting()
    with subject_context(user_id="u-42", context=[entity(a=1)]):
        logger.info(message, **keywords)
    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(logging.LogRecord)
    try:
        logger.info(str(message), **keywords)
        plain = WAYS[way](records[1])
    finally:
        logging.setLogRecordFactory(before)
    return WAYS[way](records[0]), plain


MESSAGES = ("basket opened", PageView(page_url="https://shop.example.com/"))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("message", MESSAGES, ids=["text", "event"])
@pytest.mark.parametrize("extra", [{}, {"snowplow": PAGE, "basket": 7}], ids=["no extra", "extra"])
class TestOtherFormatters:
    """Formatters that write whatever a record has find nothing of ours in it."""

    def test_attributes(self, way, message, extra):
        """A record has the attributes that it would have without this library."""
        ours, plain = logged(way, message, extra=extra)
        assert vars(ours).keys() == vars(plain).keys()
        assert set(vars(plain)) - set(vars(logging.makeLogRecord({}))) - {"message"} == set(extra)

    def test_python_json_logger(self, way, message, extra):
        """python-json-logger's own formatter writes what it would write without this library."""
        ours, plain = logged(way, message, extra=extra)
        formatter = JsonFormatter("%(levelname)s %(message)s")
        line = json.loads(formatter.format(ours))
        assert line == json.loads(formatter.format(plain))
        assert line == {"levelname": "INFO", "message": str(message), **extra}

    def test_structlog(self, way, message, extra):
        """So does structlog's, also with every attribute beyond the standard ones."""
        structlog = pytest.importorskip("structlog")
        formatter = structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), structlog.stdlib.add_log_level],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
        ours, plain = logged(way, message, extra=extra)
        line = json.loads(formatter.format(ours))
        assert line == json.loads(formatter.format(plain))
        line.pop("message", None)  # where another formatter has seen the record
        assert line == {"level": "info", "event": str(message), **extra}


class TestStructlog:
    """A user of `structlog.stdlib` logs events by a key of the event dict."""

    @pytest.fixture
    def configured(self, tracked):
        """Give a function that makes a structlog logger around the tracked one."""
        structlog = pytest.importorskip("structlog")

        def make(*last):
            return structlog.wrap_logger(
                tracked.logger,
                processors=[
                    structlog.stdlib.filter_by_level,
                    structlog.stdlib.add_log_level,
                    structlog.processors.TimeStamper(fmt="iso"),
                    *last,
                ],
                wrapper_class=structlog.stdlib.BoundLogger,
            )

        return make

    def test_keywords_of_the_log_call(self, tracked, configured):
        """`render_to_log_kwargs`, which makes `extra` of the event dict, is all that it takes."""
        structlog = pytest.importorskip("structlog")
        stream = io.StringIO()
        console = logging.StreamHandler(stream)
        console.setFormatter(JsonFormatter("%(message)s"))
        tracked.logger.addHandler(console)
        logger = configured(structlog.stdlib.render_to_log_kwargs).bind(request="r-1")
        logger.info("no event")
        logger.info("basket opened", items=2, snowplow=PAGE)
        logger.bind(snowplow=PAGE).warning("bound")
        assert [payload["url"] for payload in tracked.payloads()] == [PAGE["page_url"]] * 2
        lines = [json.loads(line) for line in stream.getvalue().splitlines()]
        assert [line["message"] for line in lines] == ["no event", "basket opened", "bound"]
        assert lines[1]["items"] == 2
        assert {line["request"] for line in lines} == {"r-1"}

    def test_a_processor_formatter(self, tracked, configured):
        """With `ProcessorFormatter` a processor of four lines hands the event to the record."""
        structlog = pytest.importorskip("structlog")
        stream = io.StringIO()
        console = logging.StreamHandler(stream)
        console.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                processors=[
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    structlog.processors.KeyValueRenderer(["event"], drop_missing=True),
                ]
            )
        )
        tracked.logger.addHandler(console)

        def hand_over(logger, name, event_dict):
            event = event_dict.pop("snowplow", None)
            wrap = structlog.stdlib.ProcessorFormatter.wrap_for_formatter
            args, kwargs = wrap(logger, name, event_dict)
            kwargs["extra"]["snowplow"] = event
            return args, kwargs

        logger = configured(hand_over)
        logger.info("no event")
        logger.info("basket opened", items=2, snowplow={**PAGE, "page_title": "dict"})
        logger.info("an object", snowplow=PageView(page_url="app:x", page_title="object"))
        assert [payload["page"] for payload in tracked.payloads()] == ["dict", "object"]
        lines = stream.getvalue().splitlines()
        assert [line.partition(" level=")[0] for line in lines] == [
            "event='no event'",
            "event='basket opened' items=2",
            "event='an object'",
        ]
        assert "snowplow" not in stream.getvalue()

    @pytest.mark.parametrize("way", [by_queue, by_pickle])
    def test_behind_a_queue(self, tracked, configured, way):
        """An event of structlog's passes a standard queue like any other."""
        structlog = pytest.importorskip("structlog")
        logger, records = collecting()
        tracked.logger.handlers[:] = logger.handlers
        with subject_context(user_id="u-42"):
            configured(structlog.stdlib.render_to_log_kwargs).info("x", snowplow=PAGE)
        tracked.handler.handle(way(records[0]))
        (payload,) = tracked.payloads()
        assert (payload["url"], payload["uid"]) == (PAGE["page_url"], "u-42")
