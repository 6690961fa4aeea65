"""The handler in every kind of configuration, and what is said about a bad one."""

from __future__ import annotations

import dataclasses
import gc
import io
import json
import logging
import logging.config
import math
import os
import re
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest
import requests

from helpers import ANYTHING, NOWHERE, RecordingHandler, entity
from snowplow_logging import SelfDescribingJson, SnowplowHandler
from snowplow_logging.settings import Settings

pytestmark = pytest.mark.every_python

PAGE = {"event": "page_view", "page_url": "https://shop.example.com/"}
CALLS: list[object] = []


def entity_of(record):
    """Make an entity of a record, as a callable in a configuration does."""
    return SelfDescribingJson(ANYTHING, {"level": record.levelname})


def mark(event):
    """Change an event, as a `before_send` in a configuration does."""
    event["page_title"] = "marked"
    return event


def on_failure(events, reason):
    """Keep what was refused."""
    CALLS.append(reason)


def this(name):
    """Return the name of something in this module, as a configuration has it."""
    return f"{__name__}.{name}"


@pytest.fixture(autouse=True)
def restored():
    """Put logging back as it was."""
    root = logging.getLogger()
    before = root.level, root.handlers[:], logging.getLogger("shop").handlers[:]
    CALLS.clear()
    yield
    for handler in [*root.handlers, *logging.getLogger("shop").handlers]:
        if isinstance(handler, SnowplowHandler):
            handler.close()
    root.level, root.handlers[:], logging.getLogger("shop").handlers[:] = before
    root.setLevel(before[0])
    logging.getLogger("shop").disabled = False


def configuration(way, **settings):
    """Return a configuration with the handler on the root logger."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"snowplow": {way: "snowplow_logging.SnowplowHandler", **settings}},
        "root": {"level": "INFO", "handlers": ["snowplow"]},
    }


def snowplow_handlers():
    """Return the handlers on the root logger."""
    return [h for h in logging.getLogger().handlers if isinstance(h, SnowplowHandler)]


def arrived(collector, total):
    """Flush the handlers, and return what has arrived of so many good events."""
    for handler in snowplow_handlers():
        assert handler.flush(30)
    assert collector.counts == {"total": total, "good": total, "bad": 0}
    return collector.good


ways = pytest.mark.parametrize("way", ["class", "()"])


class TestDictConfig:
    """`logging.config.dictConfig`."""

    @ways
    def test_sends(self, collector, way):
        """The handler gets its settings, and an event that is logged afterwards arrives."""
        settings = {
            "endpoint": collector.endpoint,
            "namespace": "shop-backend",
            "app_id": "shop",
            "level": "WARNING",
            "subject": {"user_id": "u", "viewport": [1024, 768]},
            "timeout": [3, 10],
            "headers": {"X-Team": "shop"},
            "retry_codes": {"500": False},
        }
        logging.config.dictConfig(configuration(way, **settings))
        logger = logging.getLogger("shop")
        logger.info("not this", extra={"snowplow": PAGE})
        logger.warning("basket opened", extra={"snowplow": PAGE})
        logger.warning("nor this")
        (event,) = arrived(collector, 1)
        sent = event["rawEvent"]["parameters"]
        assert (sent["tna"], sent["aid"], sent["uid"], sent["vp"]) == (
            *("shop-backend", "shop", "u", "1024x768"),
        )

    @ways
    def test_callables(self, collector, way):
        """`ext://` works in `before_send`, in `on_failure` and inside the list of `context`."""
        settings = {
            "before_send": f"ext://{this('mark')}",
            "on_failure": f"ext://{this('on_failure')}",
            "context": [f"ext://{this('entity_of')}", entity(fixed=True)],
        }
        config = configuration(way, endpoint=collector.endpoint, **settings)
        logging.config.dictConfig(json.loads(json.dumps(config)))
        logging.getLogger("shop").warning("x", extra={"snowplow": PAGE})
        (event,) = arrived(collector, 1)
        assert event["event"]["page_title"] == "marked"
        assert event["event"]["contexts"]["data"] == [entity(level="WARNING"), entity(fixed=True)]

        logging.raiseExceptions = False
        try:
            logging.getLogger("shop").warning("x", extra={"snowplow": {**PAGE, "titel": "t"}})
        finally:
            logging.raiseExceptions = True
        assert snowplow_handlers()[0].flush(10)
        assert ["titel is not a key" in reason for reason in CALLS] == [True]

    @ways
    def test_from_json(self, collector, way):
        """A configuration that was JSON text works."""
        text = json.dumps(configuration(way, endpoint=collector.endpoint, retry_codes={500: True}))
        logging.config.dictConfig(json.loads(text))
        logging.getLogger("shop").info("x", extra={"snowplow": PAGE})
        arrived(collector, 1)

    @ways
    def test_from_yaml(self, collector, way):
        """A configuration that was YAML text works."""
        yaml = pytest.importorskip("yaml")
        text = textwrap.dedent(f"""
            version: 1
            disable_existing_loggers: false
            handlers:
              snowplow:
                {way}: snowplow_logging.SnowplowHandler
                endpoint: {collector.endpoint}
                namespace: shop
                timeout: [3.05, 10]
                retry_codes: {{500: false, 429: true}}
                before_send: ext://{this("mark")}
                context:
                  - ext://{this("entity_of")}
                  - schema: {ANYTHING}
                    data: {{plan: gold, since: 3}}
            root:
              level: INFO
              handlers: [snowplow]
        """)
        logging.config.dictConfig(yaml.safe_load(text))
        logging.getLogger("shop").info("x", extra={"snowplow": PAGE})
        (event,) = arrived(collector, 1)
        assert event["event"]["page_title"] == "marked"
        entities = event["event"]["contexts"]["data"]
        assert entities == [entity(level="INFO"), entity(plan="gold", since=3)]

    @ways
    def test_twice(self, collector, way):
        """A second configuration in one process doubles nothing and loses nothing."""
        logger = logging.getLogger("shop")
        config = configuration(way, endpoint=collector.endpoint, flush_interval=60)
        for number in range(3):
            logging.config.dictConfig(config)
            logger.info("x", extra={"snowplow": {**PAGE, "page_title": str(number)}})
        events = arrived(collector, 3)
        assert sorted(event["event"]["page_title"] for event in events) == ["0", "1", "2"]
        assert len(snowplow_handlers()) == 1

    @ways
    def test_what_is_left_of_the_first_goes_on(self, collector, way):
        """A handler that was attached in code survives a later configuration."""
        own = SnowplowHandler(collector.endpoint, namespace="own")
        logger = logging.getLogger("shop")
        logger.addHandler(own)
        logging.config.dictConfig(configuration(way, endpoint=collector.endpoint))
        logger.info("x", extra={"snowplow": PAGE})
        assert own.flush(30)
        events = arrived(collector, 2)
        names = sorted(event["rawEvent"]["parameters"]["tna"] for event in events)
        assert names == ["own", "snowplow_logging"]

    @ways
    def test_a_bad_setting(self, way):
        """It is one clear error, which names the handler and the keyword."""
        with pytest.raises(ValueError, match="Unable to configure handler 'snowplow'") as raised:
            logging.config.dictConfig(configuration(way, endpoint=NOWHERE, batch_siez=5))
        assert "has no setting 'batch_siez'; give 'batch_size'" in str(raised.value.__cause__)


class TestFileConfig:
    """`logging.config.fileConfig`."""

    def test_arguments_without_a_comma(self):
        """A text in brackets is no tuple, and each of its characters an argument."""
        with pytest.raises(TypeError, match=r"takes one argument .* got 18; .* args = \(URL,\)"):
            self.configure(SimpleNamespace(endpoint=NOWHERE), "('http://127.0.0.1:9')", "{{}}")

    def configure(self, collector, args, kwargs):
        """Configure logging from a file."""
        logging.config.fileConfig(
            io.StringIO(
                textwrap.dedent(f"""
                    [loggers]
                    keys=root
                    [handlers]
                    keys=snowplow
                    [formatters]
                    keys=
                    [logger_root]
                    level=INFO
                    handlers=snowplow
                    [handler_snowplow]
                    class=snowplow_logging.SnowplowHandler
                    level=INFO
                    args={args.format(collector.endpoint)}
                    kwargs={kwargs.format(collector.endpoint)}
                """)
            ),
            disable_existing_loggers=False,
        )

    @pytest.mark.parametrize(
        ("args", "kwargs"),
        [
            ("('{0}',)", "{{'app_id': 'shop', 'subject': {{'user_id': 'u'}}}}"),
            ("()", "{{'endpoint': '{0}', 'app_id': 'shop', 'subject': dict(user_id='u')}}"),
        ],
    )
    def test_sends(self, collector, args, kwargs):
        """The handler takes its settings from `args` and `kwargs`."""
        self.configure(collector, args, kwargs)
        logging.getLogger("shop").info("x", extra={"snowplow": PAGE})
        (event,) = arrived(collector, 1)
        assert (event["event"]["app_id"], event["event"]["user_id"]) == ("shop", "u")

    def test_twice(self, collector):
        """A second time doubles nothing."""
        for _ in range(2):
            self.configure(collector, "('{0}',)", "{{}}")
            logging.getLogger("shop").info("x", extra={"snowplow": PAGE})
        arrived(collector, 2)


class TestByHand:
    """The handler as any other that is made in code."""

    def test_sends(self, collector):
        """Level and filters of the handler work, and a filter may replace the record."""
        logger = logging.getLogger("shop")
        handler = SnowplowHandler(collector.endpoint)
        handler.setLevel(logging.ERROR)
        handler.addFilter(lambda record: record.levelno < logging.CRITICAL)
        logger.addHandler(handler)
        for level in (logging.WARNING, logging.ERROR, logging.CRITICAL):
            logger.log(level, "x", extra={"snowplow": PAGE})
        assert handler.flush(30)
        assert collector.counts["good"] == 1
        logger.removeHandler(handler)
        handler.close()

    def test_basic_config(self, collector):
        """`basicConfig` takes it."""
        logging.basicConfig(
            level=logging.INFO, handlers=[SnowplowHandler(collector.endpoint)], force=True
        )
        logging.getLogger("shop").info("x", extra={"snowplow": PAGE})
        arrived(collector, 1)

    def test_disabled_without_an_endpoint(self, monkeypatch):
        """As on a developer's machine, where nothing says where events would go."""
        handlers = [SnowplowHandler(enabled=False)]
        monkeypatch.setenv("SNOWPLOW_ENABLED", "false")
        handlers.append(SnowplowHandler())
        for handler in handlers:
            handler.handle(logging.makeLogRecord({"name": "shop", "snowplow": PAGE}))
            assert handler.flush(0.5)
            assert handler.stats.queued == 0
            handler.close()

    def test_disabled(self, collector):
        """With `enabled` off nothing is queued, sent or started, and a flush returns at once."""
        handler = SnowplowHandler(collector.endpoint, enabled=False)
        handler.handle(logging.makeLogRecord({"name": "shop", "snowplow": PAGE}))
        handler.handle(logging.makeLogRecord({"name": "shop", "snowplow": 5}))
        assert handler.flush(0.5)
        stats = handler.stats
        assert stats.queued == stats.sent == stats.invalid == 0
        handler.close()
        assert collector.counts["total"] == 0

    def test_a_context_that_changes_later(self, collector):
        """The handler has its own copy of the subject and the entities that it was given."""
        subject, context = {"user_id": "u"}, [entity(a=1)]
        handler = SnowplowHandler(collector.endpoint, subject=subject, context=context)
        subject["user_id"] = "changed"
        context[0]["data"].clear()
        context.clear()
        handler.handle(logging.makeLogRecord({"name": "shop", "snowplow": PAGE}))
        handler.close()
        (event,) = collector.good
        assert event["event"]["user_id"] == "u"
        assert event["event"]["contexts"]["data"] == [entity(a=1)]

    def test_repr(self):
        """It shows where it sends to, and nothing that is secret."""
        handler = SnowplowHandler("collector.example.com", headers={"Authorization": "secret"})
        assert "https://collector.example.com" in repr(handler)
        assert "secret" not in repr(handler)


BAD = [
    ("endpoint", 5, TypeError, "the collector's URL"),
    ("endpoint", "", ValueError, "the collector's URL"),
    ("endpoint", "ftp://collector.example.com", ValueError, "the collector's URL"),
    ("endpoint", "https://", ValueError, "the collector's URL"),
    ("endpoint", "https://collector.example.com:port", ValueError, "the collector's URL"),
    ("endpoint", "https://collector.example.com/?a=1", ValueError, "without query"),
    ("endpoint", "https://collector example.com", ValueError, "the collector's URL"),
    ("method", "put", ValueError, "'post' or 'get'"),
    ("method", None, ValueError, "'post' or 'get'"),
    ("path", 5, TypeError, "a path such as"),
    ("path", "", ValueError, "a path such as"),
    ("path", "/a?b", ValueError, "a path such as"),
    ("namespace", "n" * 129, ValueError, "at most 128"),
    ("namespace", 1.5, ValueError, "text"),
    ("app_id", "a" * 256, ValueError, "at most 255"),
    ("app_id", ["shop"], ValueError, "text"),
    ("platform", "desktop", ValueError, "one of web"),
    ("platform", "serv", ValueError, "'srv'"),
    ("platform", None, ValueError, "text"),
    ("subject", 5, ValueError, "a dict"),
    ("subject", {"userid": "u"}, ValueError, "'user_id'"),
    ("subject", {"domain_session_index": 1.5}, ValueError, "a whole number"),
    ("context", 5, ValueError, "a list of entities"),
    ("context", entity(), ValueError, "a list of entities"),
    ("context", [{"schema": "x", "data": {}}], ValueError, "iglu:VENDOR"),
    ("context", ["ext://nothing"], ValueError, "a dict with schema and data"),
    ("encode_base64", 1, TypeError, "True or False"),
    ("encode_base64", "yes", TypeError, "True or False"),
    ("event_key", 5, TypeError, "the name of an attribute"),
    ("event_key", "", ValueError, "the name of an attribute"),
    ("event_key", "msg", ValueError, "the name of an attribute"),
    ("event_key", "message", ValueError, "the name of an attribute"),
    ("capture_exceptions", "LOUD", ValueError, "the name or number of a level"),
    ("capture_exceptions", [], TypeError, "the name or number of a level"),
    *(
        (name, value, kind, expected)
        for name, least, expected in (
            ("batch_size", 1, "a whole number of events"),
            ("batch_bytes", 1, "a whole number of bytes, from 1 to 1,048,576"),
            ("queue_size", 1, "a whole number of events"),
            ("max_attempts", 1, "a whole number of attempts"),
            ("connections", 1, "a whole number of requests, from 1 to 100"),
        )
        for value, kind in (
            (least - 1, ValueError),
            (-5, ValueError),
            (1.5, TypeError),
            ("5", TypeError),
            (True, TypeError),
        )
    ),
    ("batch_bytes", 1_048_577, ValueError, "from 1 to 1,048,576"),
    ("connections", 101, ValueError, "from 1 to 100"),
    *(
        (name, value, kind, "a number of seconds")
        for name in ("flush_interval", "block_timeout", "max_retry_delay", "shutdown_timeout")
        for value, kind in (
            (-1, ValueError),
            (math.nan, ValueError),
            (math.inf, ValueError),
            ("1", TypeError),
            (None, TypeError),
            (True, TypeError),
        )
    ),
    ("on_full", "wait", ValueError, "'drop', 'drop_oldest' or 'block'"),
    ("on_full", None, ValueError, "'drop', 'drop_oldest' or 'block'"),
    ("timeout", "10", TypeError, "seconds"),
    ("timeout", 0, ValueError, "more than 0"),
    ("timeout", -1, ValueError, "more than 0"),
    ("timeout", math.nan, ValueError, "more than 0"),
    ("timeout", (1, 2, 3), ValueError, "a pair"),
    ("timeout", (1, "2"), TypeError, "seconds"),
    ("timeout", True, TypeError, "seconds"),
    ("headers", ["a"], TypeError, "a dict of strings"),
    ("headers", {"a": 5}, TypeError, "strings"),
    ("headers", {"Content-Type": "text/plain"}, ValueError, "leave it out"),
    ("headers", {"a": "x" * 41_000}, ValueError, "40,960 bytes"),
    ("session", "session", TypeError, "a requests.Session"),
    ("anonymous", None, TypeError, "True or False"),
    ("anonymous_tracking", None, TypeError, "True, False or 'with_session'"),
    ("anonymous_tracking", "session", ValueError, "True, False or 'with_session'"),
    ("client_session", None, TypeError, "True, False or a path"),
    ("client_session", "", TypeError, "True, False or a path"),
    ("client_session", True, ValueError, "app_id is missing"),
    ("retry_codes", [500], TypeError, "a dict of statuses"),
    ("retry_codes", {500: "yes"}, TypeError, "True to try again"),
    ("retry_codes", {"x": True}, TypeError, "a dict of statuses"),
    ("retry_codes", {200: True}, ValueError, "300 to 599"),
    ("before_send", 5, TypeError, "a callable"),
    ("before_send", "ext://nothing", TypeError, "a callable"),
    ("on_success", [], TypeError, "a callable"),
    ("on_failure", "print", TypeError, "a callable"),
    ("dead_letter", 5, TypeError, "a path"),
    ("dead_letter", "", TypeError, "a path"),
    ("store", 5, TypeError, "a path"),
    ("enabled", "no", TypeError, "True or False"),
    ("enabled", None, TypeError, "True or False"),
]


class TestBadSettings:
    """A setting that makes no sense is an error at construction."""

    @pytest.mark.parametrize(("name", "value", "kind", "expected"), BAD)
    def test_says_what_it_takes(self, name, value, kind, expected):
        """The error names the keyword and what it takes."""
        with pytest.raises((TypeError, ValueError)) as raised:
            SnowplowHandler(**{"endpoint": NOWHERE, name: value})
        message = str(raised.value)
        assert type(raised.value) is kind
        assert re.match(rf"{name}\b", message)
        assert expected in message

    @pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Settings)])
    def test_each_setting_has_a_check(self, name):
        """Nothing takes whatever it is given."""
        if name.startswith("iglu"):
            pytest.importorskip("jsonschema_rs")
        with pytest.raises((TypeError, ValueError), match=rf"^{name}\b"):
            SnowplowHandler(**{"endpoint": NOWHERE, name: object()})

    def test_no_endpoint(self):
        """The one setting that there has to be is named."""
        with pytest.raises(TypeError, match="endpoint"):
            SnowplowHandler()

    @pytest.mark.parametrize(
        ("unknown", "nearest"),
        [
            ("batchsize", "'batch_size'"),
            ("flush_intervall", "'flush_interval'"),
            ("appid", "'app_id'"),
            ("nonsense_of_a_setting", "one of endpoint, method"),
        ],
    )
    def test_unknown(self, unknown, nearest):
        """A setting that there is not is named with the nearest one."""
        with pytest.raises(TypeError, match=f"no setting '{unknown}'; give {nearest}"):
            SnowplowHandler(NOWHERE, **{unknown: 1})

    @pytest.mark.parametrize("settings", [{}, {"session": requests.Session()}])
    def test_leaves_nothing_behind(self, settings):
        """After a constructor that raised, logging knows of no handler of ours."""
        gc.collect()  # of what other tests have left
        before = [*logging._handlerList], [*logging._handlers]
        for name, value, _, _ in BAD:
            with pytest.raises((TypeError, ValueError)):
                SnowplowHandler(**{"endpoint": NOWHERE, **settings, name: value})
        assert ([*logging._handlerList], [*logging._handlers]) == before

    def test_a_silent_shutdown(self):
        """After a constructor that raised, the process ends with nothing more to say."""
        script = """
            import logging.config
            from snowplow_logging import SnowplowHandler
            for keywords in ({"queue_size": 0}, {"nonsense": 1}, {"subject": 5}, {"context": 5}):
                try:
                    SnowplowHandler("http://127.0.0.1:9", **keywords)
                except (TypeError, ValueError):
                    pass
                try:
                    logging.config.dictConfig({"version": 1, "handlers": {"s": {
                        "class": "snowplow_logging.SnowplowHandler",
                        "endpoint": "http://127.0.0.1:9", **keywords}}})
                except ValueError:
                    print("refused")
        """
        result = run(script)
        assert result.stdout.split() == ["refused"] * 4
        assert result.stderr == ""

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("endpoint", "collector.example.com"),
            ("endpoint", "http://[::1]:9090/"),
            ("endpoint", "https://example.com/collector"),
            ("method", "get"),
            ("path", "com.acme/track"),
            ("namespace", None),
            ("app_id", None),
            ("subject", {"user_id": None}),
            ("context", ()),
            ("context", [None.__class__, entity()]),
            ("batch_size", 1),
            ("flush_interval", 0),
            ("max_attempts", None),
            ("shutdown_timeout", 0),
            ("timeout", None),
            ("timeout", 5),
            ("timeout", (3.05, None)),
            ("headers", {}),
            ("retry_codes", {500: False, "404": True}),
            ("on_full", "block"),
            ("capture_exceptions", "ERROR"),
            ("capture_exceptions", logging.ERROR),
        ],
    )
    def test_what_makes_sense_is_taken(self, name, value):
        """The limits of what is taken are taken."""
        handler = SnowplowHandler(**{"endpoint": NOWHERE, name: value})
        handler.close()


def run(script, *arguments):
    """Run a script in a fresh Python."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        env=os.environ,
        timeout=100,
        check=False,
    )


class TestImport:
    """Importing the library changes nothing."""

    def test_changes_nothing(self):
        """No handler, level, thread or socket, no record class, no hook at exit that speaks."""
        script = """
            import atexit, logging, socket, sys, threading
            opened = []
            sys.addaudithook(lambda event, _: opened.append(event)
                             if event.startswith("socket.") else None)
            registered = []
            atexit.register = lambda *function: registered.append(function)
            import logging.handlers
            def state():
                loggers = [logging.root, *logging.root.manager.loggerDict.values()]
                loggers = [one for one in loggers if isinstance(one, logging.Logger)]
                return {
                    "handlers": {id(one): one.handlers[:] for one in loggers if one.handlers},
                    "levels": {one.name: one.level for one in loggers if one.level},
                    "all": len(logging._handlers),
                    "factory": logging.getLogRecordFactory(),
                    "class": logging.getLoggerClass(),
                    "last resort": logging.lastResort,
                    "threads": threading.active_count(),
                    "excepthook": (sys.excepthook, threading.excepthook),
                }
            before = state()
            import snowplow_logging
            for name in snowplow_logging.__all__:
                if name != "LocalCollector":  # brings urllib3, which binds a socket to try it
                    getattr(snowplow_logging, name)
            after = state()
            print([key for key in before if before[key] != after[key]], opened, registered)
        """
        result = run(script)
        assert (result.stdout, result.stderr) == ("[] [] []\n", "")

    def test_needs_only_what_is_required(self):
        """What the extras bring is not imported by the library, nor by a handler."""
        script = """
            import sys
            for extra in ("orjson", "werkzeug", "jsonschema", "yaml", "tqdm"):
                sys.modules[extra] = None
            import logging
            from snowplow_logging import *
            handler = SnowplowHandler("http://127.0.0.1:9", shutdown_timeout=0.1)
            handler.handle(logging.makeLogRecord({"name": "shop"}))
            handler.close()
            print("done")
        """
        result = run(script)
        assert (result.stdout, result.stderr) == ("done\n", "")

    def test_all_is_there(self):
        """What the package promises can be imported, and `dir` shows it."""
        import snowplow_logging

        assert len(set(snowplow_logging.__all__)) == len(snowplow_logging.__all__)
        for name in snowplow_logging.__all__:
            assert getattr(snowplow_logging, name) is not None
        assert set(snowplow_logging.__all__) <= set(dir(snowplow_logging))


def test_the_handler_of_the_helpers_is_the_user_s():
    """A subclass that overrides `handleError` gets the error, as in any handler."""
    handler = RecordingHandler(NOWHERE)
    handler.handle(logging.makeLogRecord({"name": "shop", "snowplow": 5}))
    handler.close()
    assert len(handler.errors) == 1
