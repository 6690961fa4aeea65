"""Tests of `check`, which says what is wrong with a configuration and tries its handlers."""

from __future__ import annotations

import contextlib
import copy
import email.utils
import http.server
import json
import logging
import re
import shutil
import sqlite3
import ssl
import subprocess
import sys
import threading
import time

import pytest
import requests

from checking import HANDLER, configuration, put, run
from faulty_collector import RESET, SILENCE, Answer, FaultyCollector, nowhere
from helpers import NOWHERE, entity
from snowplow_logging import SnowplowHandler
from snowplow_logging.check import check


class ShopHandler(SnowplowHandler):
    """A handler of a program's own."""

    def __init__(self, shop: str, url: str = NOWHERE) -> None:
        super().__init__(url, app_id=shop, flush_interval=7)


def make_handler(endpoint: str) -> SnowplowHandler:
    """Make a handler as a program's own function does."""
    return SnowplowHandler(endpoint, app_id="made")


def make_nothing(endpoint: str) -> logging.Handler:
    """Make a handler that is not Snowplow's."""
    return logging.NullHandler()


def raise_error(event: dict[str, object]) -> None:
    """Fail, as a `before_send` may."""
    raise RuntimeError("a fault")


def leave_out(event: dict[str, object]) -> None:
    """Leave an event out, as a `before_send` may."""


def rename(event: dict[str, object]) -> dict[str, object]:
    """Change an event, as a `before_send` may."""
    return {**event, "label": "renamed"}


__all__ = ["HANDLER"]  # which configurations name as an object that is none

sys.modules.setdefault("shop_logging", sys.modules[__name__])
"""The name under which configurations find the functions above."""


def test_a_good_configuration(report, collector):
    """Each handler sends one marked event with its own settings, and the report says so."""
    config = configuration(
        endpoint=collector.endpoint,
        app_id="shop",
        context=[entity(plan="pro")],
        before_send="ext://shop_logging.rename",
    )
    status, text = report(config)
    assert (status, collector.bad) == (0, [])
    [event] = collector.good
    payload = event["rawEvent"]["parameters"]
    names = ("e", "se_ca", "se_ac", "se_la", "aid")
    expected = ["se", "snowplow-logging", "check", "renamed", "shop"]
    assert [payload[name] for name in names] == expected
    assert "cx" in payload
    assert f"handlers.snowplow: {collector.endpoint}/com.snowplowanalytics.snowplow/tp2\n" in text
    assert "on root (from INFO)" in text
    assert f"takes connections at port {collector.port}" in text
    assert f"answered the test event {payload['eid']} with 200 OK" in text
    assert "took the test event" in text
    assert re.search(r"its clock agrees with this machine's \(±\d\.\d s\)", text)
    assert "error" not in text
    assert "warning" not in text


def test_without_sending(report, collector):
    """With `--no-send` the collector is reached and gets no event."""
    status, text = report(configuration(endpoint=collector.endpoint), send=False)
    assert (status, collector.counts["total"]) == (0, 0)
    assert "answered a request for /health with 200 OK" in text
    with FaultyCollector(404, 503) as proxy:
        status, text = report(configuration(endpoint=proxy.endpoint), send=False)
        assert status == 0
        assert "warning: Snowplow's collector answers /health with 200" in text
        status, text = report(configuration(endpoint=proxy.endpoint), send=False)
        assert status == 2
        assert "error: " in text


def test_get(report, collector):
    """A handler that sends by GET is tried by GET."""
    status, text = report(configuration(endpoint=collector.endpoint, method="get"))
    assert (status, len(collector.good)) == (0, 1)
    assert f"{collector.endpoint}/i\n" in text
    assert "less where 1 has come together" in text


def test_the_command_line(tmp_path, collector):
    """JSON and a name in a module of the current directory are read, and the status is set."""
    config = configuration(endpoint=collector.endpoint)
    (tmp_path / "logging.json").write_text(json.dumps(config))
    (tmp_path / "shop_settings.py").write_text(f"class Settings:\n    LOGGING = {config!r}\n")
    for source in ("logging.json", "shop_settings:Settings.LOGGING"):
        status, text = run(source, cwd=tmp_path)
        assert status == 0, text
    assert collector.counts == {"total": 2, "good": 2, "bad": 0}
    assert run("logging.json", "--no-send", cwd=tmp_path)[0] == 0
    assert collector.counts["total"] == 2


def test_toml(tmp_path):
    """TOML is read, where Python does that, and a fault in it is named with its place."""
    path = tmp_path / "logging.toml"
    root = 'version = 1\n[root]\nhandlers = ["snowplow"]\n[handlers.snowplow]\nendpoint = '
    lines: list[str] = []
    with nowhere() as endpoint:
        path.write_text(f'{root}"{endpoint}"\nclass = "snowplow_logging.SnowplowHandler"\n')
        can_read = sys.version_info >= (3, 11)
        assert check(str(path), lines.append) == (2 if can_read else 1)
    assert can_read or "give YAML or JSON" in lines[-1]
    if can_read:
        path.write_text(root)
        assert check(str(path), lines.append) == 1
        assert lines[-1].startswith(f"error: {path} is not TOML: Invalid value (at ")


def test_yaml(tmp_path):
    """YAML is read, whatever the file's name is, and a fault in it is named with its place."""
    yaml = pytest.importorskip("yaml")
    path = tmp_path / "logging.config"
    with nowhere() as endpoint:
        path.write_text(yaml.safe_dump(configuration(endpoint=endpoint)))
        lines: list[str] = []
        assert check(str(path), lines.append) == 2
    path.write_text("version: 1\nhandlers: [\n")
    assert check(str(path), lines.append) == 1
    assert lines[-1].startswith(f"error: {path} is not YAML: ")
    assert "line 3" in lines[-1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.json", None, "cannot be read: No such file or directory"),
        ("broken.json", '{"version": }', "is not JSON: Expecting value: line 1 column 13"),
        ("list.json", "[]", "is a list; a mapping is needed"),
        ("deep.json", "[" * 100_000, "is not JSON: "),
        ("deep.yaml", "a: " + "[" * 10_000, "is not YAML: "),
        ("date.yaml", "version: 2026-13-01", "is not YAML: month must be in 1..12"),
        ("circle.yaml", "handlers: &all {more: *all}", "has a part that contains itself"),
        (f"{'x' * 300}.yaml", None, "cannot be read: File name too long"),
        ("logging.ini", "[loggers]", "looks like a file for fileConfig"),
        ("no_such_module:LOGGING", None, "no_such_module cannot be imported: ModuleNotFoundError"),
        ("shop_logging:HANDLE", None, "there is no HANDLE; is it HANDLER?"),
        ("shop_logging:HANDLER", None, "is a str; a mapping is needed"),
        ("shop_logging", None, "give its name too, shop_logging:LOGGING"),
        ("shop.settings:", None, "give its name too, shop.settings:LOGGING"),
        (
            "settings.py",
            "LOGGING = {}",
            "give its module and a name, settings:L",
        ),
        (
            "./settings.py:LOG",
            None,
            "give its module and a name, settings:LOG",
        ),
    ],
)
def test_what_cannot_be_read(tmp_path, monkeypatch, name, content, message):
    """A configuration that cannot be read at all is a bad one, and the report says why."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    if content is not None:
        if name.endswith(".yaml"):
            pytest.importorskip("yaml")
        (tmp_path / name).write_text(content)
    lines: list[str] = []
    imported: list[str] = []
    assert check(name, lines.append, announce=imported.append) == 1
    assert lines == ["bad: the configuration has 1 error", lines[1]]
    assert lines[1].startswith(f"error: {name}")
    assert message in lines[1]


FAULTS = {
    "version is 2; give 1": put("version", 2),
    "incremental is set": put("incremental", True),
    "handlers is of the type list; give a mapping": put("handlers", []),
    "handlers.snowplow is of the type str; give a mapping": put("handlers/snowplow", "x"),
    "handlers.snowplow.class is missing": put("handlers/snowplow", {}),
    "handlers.snowplow.class is 'snowplow_logging.SnowplowHandel', but snowplow_logging has no "
    "SnowplowHandel; give 'snowplow_logging.SnowplowHandler'": put(
        "handlers/snowplow/class", "snowplow_logging.SnowplowHandel"
    ),
    "handlers.snowplow.class is 'snowplow.Handler', but there is no module snowplow": put(
        "handlers/snowplow/class", "snowplow.Handler"
    ),
    "handlers.snowplow.() is 7; give a class or a function": put("handlers/snowplow/()", 7),
    "handlers holds no SnowplowHandler": put("handlers/snowplow", {"class": "logging.NullHandler"}),
    "handlers.snowplow.batch_sizes is no setting of SnowplowHandler; give 'batch_size'": put(
        "handlers/snowplow/batch_sizes", 5
    ),
    "handlers.snowplow.batch_size is 0; give a whole number of events": put(
        "handlers/snowplow/batch_size", 0
    ),
    "handlers.snowplow.enabled is 'yes'; give True or False": put(
        "handlers/snowplow/enabled", "yes"
    ),
    "handlers.snowplow.endpoint has neither http nor https as its scheme; give": put(
        "handlers/snowplow/endpoint", "ftp://x"
    ),
    "handlers.snowplow.endpoint is missing, and SNOWPLOW_ENDPOINT is not set": put(
        "handlers/snowplow", {"class": HANDLER}
    ),
    "handlers.snowplow.subject.user is not a field of a subject; give 'user_id'": put(
        "handlers/snowplow/subject", {"user": "u-1"}
    ),
    "handlers.snowplow.context[1].schema is 'x'; give iglu:": put(
        "handlers/snowplow/context", [entity(), {"schema": "x", "data": {}}]
    ),
    "handlers.snowplow.context[0] is 'ext://shop_logging.renam', but shop_logging has no renam; "
    "give 'shop_logging.rename'": put("handlers/snowplow/context", ["ext://shop_logging.renam"]),
    "handlers.snowplow.before_send is 'cfg://hooks.x', which is not in the configuration": put(
        "handlers/snowplow/before_send", "cfg://hooks.x"
    ),
    "handlers.snowplow.store is '/nowhere/at/all/x.db', but /nowhere/at/all is no folder": put(
        "handlers/snowplow/store", "/nowhere/at/all/x.db"
    ),
    "handlers.snowplow.level is 'INF'; give 'INFO'": put("handlers/snowplow/level", "INF"),
    "handlers.snowplow.formatter is 'json', which formatters does not hold; there are none": put(
        "handlers/snowplow/formatter", "json"
    ),
    "handlers.file.mod is no setting of FileHandler; give 'mode'": put(
        "handlers/file", {"class": "logging.FileHandler", "filename": "x", "mod": "a"}
    ),
    "handlers.file.filename is missing, and FileHandler needs it": put(
        "handlers/file", {"class": "logging.FileHandler"}
    ),
    "handlers.buffer.target is 'snow', which handlers does not hold; give 'snowplow'": put(
        "handlers/buffer",
        {"class": "logging.handlers.MemoryHandler", "capacity": 1, "target": "snow"},
    ),
    "formatters.plain makes no formatter: Invalid format": put(
        "formatters/plain", {"format": "%(nothing)"}
    ),
    "formatters.plain.class is 'logging.Formater', but logging has no Formater": put(
        "formatters/plain", {"class": "logging.Formater"}
    ),
    "formatters.json makes no formatter: ": put(
        "formatters/json", {"()": "snowplow_logging.SnowplowJsonFormatter", "nothing": 1}
    ),
    "filters.few.names is no setting of Filter; give 'name'": put(
        "filters/few", {"()": "logging.Filter", "names": "x"}
    ),
    "loggers.shop.handlers is 'snowplow'; give a list of names": put(
        "loggers/shop", {"handlers": "snowplow"}
    ),
    "loggers.shop.filters[0] is 'few', which filters does not hold": put(
        "loggers/shop", {"filters": ["few"]}
    ),
    "root.handlers[0] is 'snowplo', which handlers does not hold; give 'snowplow'": put(
        "root/handlers", ["snowplo"]
    ),
    "root.level is 'LOUD'; give one of CRITICAL, ERROR": put("root/level", "LOUD"),
}


@pytest.mark.parametrize("message", FAULTS)
def test_what_is_wrong_and_where(report, message):
    """A fault is named with its place in the configuration, and nothing is sent to anyone."""
    with FaultyCollector() as collector:
        config = configuration(endpoint=collector.endpoint)
        FAULTS[message](config)
        status, text = report(config)
        assert status == 1
        assert f"error: {message}" in text
        assert len([line for line in text.splitlines() if line.startswith("error")]) == 1, text
        assert collector.connections == 0


def test_all_faults_are_told_at_once(report):
    """A configuration with many faults needs to be checked once."""
    config = configuration(endpoint="ftp://x", batch_size=0, on_full="x", app_id=["x"], batchsize=1)
    config["root"]["handlers"] = ["snowplow", "console"]
    status, text = report(config)
    assert status == 1
    places = ("endpoint", "batch_size", "on_full", "app_id", "batchsize")
    wanted = {f"handlers.snowplow.{key}" for key in places} | {"root.handlers[1]"}
    verdict, *lines = text.splitlines()
    assert verdict == "bad: the configuration has 6 errors"
    assert {line.split()[1] for line in lines} == wanted


def test_a_handler_that_no_logger_has(report):
    """No event would ever come to it, which is no small thing."""
    config = configuration()
    config["root"]["handlers"] = []
    status, text = report(config)
    assert (status, text.splitlines()[0]) == (1, "bad: the configuration has 1 error")
    assert "error: handlers.snowplow is on no logger" in text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${COLLECTOR}", "{endpoint}"),
        ("http://${HOST}:${PORT}", None),
        ("${UNSET:-{endpoint}}", None),
        ("${UNSET-{endpoint}}", None),
    ],
    ids=["whole", "parts", "default", "default without colon"],
)
def test_variables_are_expanded(report, monkeypatch, text, value):
    """They are checked with what they stand for now, and who reads it knows who has to do that."""
    with FaultyCollector() as collector:
        monkeypatch.setenv("COLLECTOR", collector.endpoint)
        host, port = collector.endpoint.removeprefix("http://").split(":")
        monkeypatch.setenv("HOST", host)
        monkeypatch.setenv("PORT", port)
        config = configuration(endpoint=text.replace("{endpoint}", collector.endpoint))
        # What is no variable of the environment stays as it is.
        config["formatters"] = {"dollar": {"format": "${message}", "style": "$"}}
        status, said = report(config)
        assert (status, len(collector.events)) == (0, 1)
    assert "good: " in said.splitlines()[0]
    warnings = [line for line in said.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == text.count("$")
    assert all("handlers.snowplow.endpoint holds ${" in line for line in warnings)


def test_a_variable_that_is_not_set_is_named(report, monkeypatch):
    """Whatever the setting would make of the text with the variable in it."""
    monkeypatch.delenv("NOT_SET", raising=False)
    status, text = report(configuration(app_id="shop-${NOT_SET}"))
    assert status == 1
    assert (
        "error: handlers.snowplow.app_id holds ${NOT_SET}, and the variable NOT_SET is not set"
        in text
    )


def test_the_endpoint_of_the_environment(report, monkeypatch):
    """It is the handler's where the configuration has none."""
    with FaultyCollector() as collector:
        monkeypatch.setenv("SNOWPLOW_ENDPOINT", collector.endpoint)
        status, text = report(configuration(endpoint=...))
        assert (status, len(collector.events)) == (0, 1)
        monkeypatch.setenv("SNOWPLOW_ENABLED", "false")
        status, text = report(configuration(endpoint=...))
        assert (status, len(collector.events)) == (0, 1)
        assert "it is not enabled" in text


def test_the_verdict_comes_first(report):
    """In one line: whether anything is to be mended, and whose it is."""
    with FaultyCollector() as collector:
        status, text = report(configuration(endpoint=collector.endpoint))
        assert status == 0
        assert text.startswith("good: the configuration is right, and the collector takes events\n")
    with nowhere() as endpoint:
        status, text = report(configuration(endpoint=endpoint))
        assert status == 2
        assert text.startswith(f"bad: 127.0.0.1 takes no connection at port {endpoint[17:]}: ")


WARNINGS = {
    "handler is no key that dictConfig knows, and ignored; is it 'handlers'?": put("handler", {}),
    "loggers.shop.propogate is no key that dictConfig knows, and ignored; is it 'propagate'?": put(
        "loggers/shop/propogate",
        False,
    ),
    "formatters.json.rename_fields is ignored where a formatter is named by 'class'": put(
        "formatters/json",
        {"class": "snowplow_logging.SnowplowJsonFormatter", "rename_fields": {}},
    ),
    "disable_existing_loggers is left out, which silences the loggers of": lambda config: (
        config.pop("disable_existing_loggers")
    ),
    "handlers.snowplow gets nothing below WARNING: the level of root is WARNING": put(
        "root", {"handlers": ["snowplow"]}
    ),
    "handlers.snowplow gets nothing below ERROR: the level of the handler is ERROR": put(
        "handlers/snowplow/level", "ERROR"
    ),
}


@pytest.mark.parametrize("message", WARNINGS)
def test_what_is_hardly_meant_so(report, message):
    """What `dictConfig` takes in silence is a warning, and the handler is tried all the same."""
    with FaultyCollector() as collector:
        config = configuration(endpoint=collector.endpoint)
        WARNINGS[message](config)
        status, text = report(config)
        assert (status, len(collector.events)) == (0, 1)
        assert text.splitlines()[0].endswith(", with 1 warning")
        warnings = [line for line in text.splitlines() if line.startswith("warning")]
        assert len(warnings) == 1
        assert warnings[0].startswith(f"warning: {message}")


def test_a_key_that_a_reference_leads_to_is_not_ignored(report, collector):
    """It is for nothing else that anybody puts one there."""
    config = configuration(endpoint="cfg://collectors.shop[0]")
    config["collectors"] = {"shop": [collector.endpoint]}
    config["collector"] = "cfg://handlers.snowplow"
    status, text = report(config)
    assert (status, len(collector.good)) == (0, 1)
    warnings = [line for line in text.splitlines() if line.startswith("warning")]
    assert warnings == ["warning: collector is no key that dictConfig knows, and ignored"]


def test_handlers_that_are_reached_indirectly(report):
    """A handler behind a buffer is on the buffer's logger, and a logger of its own level counts."""
    with FaultyCollector() as collector:
        config = configuration(endpoint=collector.endpoint)
        config["handlers"]["buffer"] = {
            "class": "logging.handlers.MemoryHandler",
            "capacity": 10,
            "target": "snowplow",
        }
        config["root"] = {"handlers": ["buffer"]}
        config["loggers"] = {"shop.basket": {"level": "DEBUG"}, "other": {"propagate": False}}
        status, text = report(config)
    assert status == 0
    assert "on root (from WARNING)" in text
    assert "warning" not in text


def test_handlers_of_ones_own(report):
    """A subclass and a function are tried with the settings that they give to the handler."""
    with FaultyCollector() as collector:
        own = {"class": "shop_logging.ShopHandler", "shop": "s1", "url": collector.endpoint}
        made = {"()": "shop_logging.make_handler", "endpoint": collector.endpoint}
        other = {"()": "shop_logging.make_nothing", "endpoint": collector.endpoint}
        config = {"version": 1, "handlers": {"own": own, "made": made, "other": other}}
        config["root"] = {"level": "INFO", "handlers": ["own", "made", "other"]}
        status, text = report(config)
        assert status == 0
        assert [event["aid"] for event in collector.events] == ["s1", "made"]
        assert "an event waits at most 7 s until it is sent" in text
        own["shops"] = own.pop("shop")
        status, text = report(config)
    assert status == 1
    assert "handlers.own.shops is no setting of ShopHandler; give 'shop'" in text
    assert "handlers.own.shop is missing, and ShopHandler needs it" in text


def test_a_closed_port(report):
    """A collector that nobody runs is out of reach."""
    with nowhere() as endpoint:
        status, text = report(configuration(endpoint=endpoint))
    assert status == 2
    assert f"error: 127.0.0.1 takes no connection at port {endpoint.rpartition(':')[2]}: " in text
    assert "if the process is killed" in text


def test_a_host_without_an_address(report):
    """A host that does not resolve is out of reach."""
    status, text = report(configuration(endpoint="collector.invalid"))
    assert status == 2
    assert "error: collector.invalid has no address: " in text


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            404,
            "answered 404 Not Found; there is no collector at this path: check endpoint and path",
        ),
        (403, "answered 403 Forbidden; the collector, or a proxy before it, forbids the request"),
        (
            Answer(302, {"Location": "https://shop.example.com/"}),
            "it redirects to https://shop.example.com/: give the collector's own address",
        ),
        (503, "answered 503 Service Unavailable"),
        (
            Answer(200, {"Content-Type": "text/html"}, b"<html>"),
            "answered 200 OK with a web page, which is no collector's",
        ),
        (RESET, "did not answer: "),
        (SILENCE, "did not answer: "),
    ],
)
def test_a_collector_that_refuses(report, answer, message):
    """What is in the way of the test event is said, and what to mend; it is tried once."""
    with FaultyCollector(default=answer) as collector:
        status, text = report(configuration(endpoint=collector.endpoint, timeout=0.5))
        assert status == 2
        assert re.search(f"error: http://127.*{re.escape(message)}", text)
        assert "took the test event" not in text
        assert len(collector.requests) == 1


@pytest.mark.parametrize(
    ("ahead", "said"), [(100, "ahead of"), (-7_200, "behind"), (86_400 * 400, "ahead of")]
)
def test_a_clock_that_is_wrong(report, ahead, said):
    """The report says how far the collector's clock is from this one, and how far to believe it."""

    def answer(events):
        return Answer(headers={"Date": email.utils.formatdate(time.time() + ahead, usegmt=True)})

    with FaultyCollector(answer) as collector:
        status, text = report(configuration(endpoint=collector.endpoint))
    assert status == 0
    match = re.search(rf"its clock is ([\d,.]+) s {said} this machine's \(±([\d.]+) s\)", text)
    assert match
    assert abs(float(match[1].replace(",", "")) - abs(ahead)) <= float(match[2]) + 0.1


@pytest.mark.parametrize(
    ("headers", "message"),
    [({}, "sends no Date header"), ({"Date": "noon"}, "its Date header is 'noon', which is no")],
)
def test_a_clock_that_cannot_be_read(report, headers, message):
    """A collector without a usable `Date` header is well otherwise."""
    with FaultyCollector(Answer(headers=headers)) as collector:
        status, text = report(configuration(endpoint=collector.endpoint))
    assert status == 0
    assert message in text


MEANINGS = [
    (
        {},
        "killed, at most 10,000 events are lost, those in memory: in ordinary times those of the",
    ),
    ({}, "the end of the process takes at most 5 s more; what is not delivered by then is lost"),
    ({}, "once 10,000 events wait, new ones are dropped"),
    (
        {"queue_size": 50_000, "on_full": "block", "block_timeout": 2.5},
        "once 50,000 events wait, a log call waits at most 2.5 s for room and then drops its event",
    ),
    ({"store": "events.db"}, "at most 10,000 events are lost, those of the last 50 ms; the others"),
    ({"store": "events.db", "store_sync": True}, "killed, no event is lost whose log call has"),
    ({"store": "events.db"}, "what is not delivered by then stays in events.db"),
    (
        {"store": "events.db", "on_full": "drop_oldest"},
        "once events.db has 1,073,741,824 bytes, or 10,000 events wait to get into it, the oldest",
    ),
    ({"dead_letter": "dead.jsonl"}, "what is not delivered by then goes to dead.jsonl"),
    (
        {"flush_interval": 10, "batch_size": 2_000},
        "an event waits at most 10 s until it is sent, less where 2,000 have come together; after",
    ),
    (
        {"max_attempts": 3, "max_retry_delay": 30},
        "after a failure the next attempt comes within 30 s, 3 in all",
    ),
]


@pytest.mark.parametrize(("settings", "message"), MEANINGS)
def test_what_the_settings_mean(report, monkeypatch, tmp_path, settings, message):
    """The report says what happens at a kill, at exit, in an outage and when the queue is full."""
    monkeypatch.chdir(tmp_path)
    with FaultyCollector() as collector:
        status, text = report(configuration(endpoint=collector.endpoint, **settings))
    assert status == 0
    assert message in text
    assert [path.name for path in tmp_path.iterdir()] == ["logging.json"]


def test_before_send_and_the_test_event(report):
    """The test event goes the way of all events: `before_send` may leave it out, or fail."""
    with FaultyCollector() as collector:
        config = configuration(
            endpoint=collector.endpoint, before_send="ext://shop_logging.leave_out"
        )
        status, text = report(config)
        assert status == 0
        assert "before_send leaves the test event out" in text
        assert [request.path for request in collector.requests] == ["/health"]
        config["handlers"]["snowplow"]["before_send"] = "ext://shop_logging.raise_error"
        status, text = report(config)
        assert status == 1
        assert "error: the test event cannot be sent: a fault" in text
        assert len(collector.requests) == 1


def test_a_handler_that_is_not_enabled(report):
    """A handler that sends nothing is not tried, and the report says why."""
    with FaultyCollector() as collector:
        status, text = report(configuration(endpoint=collector.endpoint, enabled=False))
        assert status == 0
        assert "it is not enabled, so nothing is sent" in text
        assert collector.connections == 0


def test_a_check_changes_nothing(report, tmp_path):
    """Logging goes on as it was; no other handler is built, and a store keeps what it holds."""
    store = tmp_path / "events.db"
    with nowhere() as endpoint:
        handler = SnowplowHandler(endpoint, store=store, shutdown_timeout=0.5)
        event = {"event": "page_view", "page_url": "https://shop.example.com/"}
        logger = logging.Logger("shop")
        logger.addHandler(handler)
        logger.info("x", extra={"snowplow": event})
        handler.close()
    with FaultyCollector() as collector:
        config = configuration(endpoint=collector.endpoint, store=str(store))
        config["disable_existing_loggers"] = True
        config["handlers"]["file"] = {
            "class": "logging.FileHandler",
            "filename": str(tmp_path / "x.log"),
        }
        config["root"] = {"level": "DEBUG", "handlers": ["snowplow", "file"]}
        root, other = logging.getLogger(), logging.getLogger("other")
        before = root.level, root.handlers[:], other.disabled
        threads = set(threading.enumerate())
        content = _rows(store)
        given = copy.deepcopy(config)
        status, _ = report(config)
        assert status == 0
        assert len(collector.events) == 1
        assert collector.events[0]["e"] == "se"
        assert (root.level, root.handlers[:], other.disabled) == before
        started = set(threading.enumerate()) - threads
        assert not any(one.name.startswith("snowplow-logging") for one in started)
        assert _rows(store) == content
        assert len(content) == 1
        assert not (tmp_path / "x.log").exists()
        assert config == given


def _rows(store):
    with contextlib.closing(sqlite3.connect(store)) as connection:
        tables = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'"
        ).fetchall()
        assert ("events",) in tables, tables
        return connection.execute("SELECT * FROM events").fetchall()


def test_a_proxy(report, monkeypatch):
    """Where a proxy is set, the proxy is what is reached, and its password is not shown."""
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with FaultyCollector() as proxy:
        address = proxy.endpoint.removeprefix("http://")
        monkeypatch.setenv("http_proxy", f"http://shop:secret@{address}")
        status, text = report(configuration(endpoint="http://collector.invalid"))
        assert status == 0
        assert f"goes through the proxy http://{address}" in text
        assert "secret" not in text
        [request] = proxy.requests
        assert request.target.startswith("http://collector.invalid/")


def test_tls(report, tmp_path, monkeypatch):
    """A certificate that nobody vouches for is in the way; one that somebody does is named."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate, and is not there")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3"]
    command += ["-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)

    class Quiet(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # clients that do not like the certificate hang up

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server = Server(("127.0.0.1", 0), Quiet)
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        config = configuration(endpoint=f"https://127.0.0.1:{server.server_address[1]}")
        status, text = report(config)
        assert status == 2
        assert "warning: TLS fails: " in text
        assert "error: https://127.0.0.1" in text
        assert "certificate verify failed" in text
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.delenv(name, raising=False)  # they win over a session
        session = requests.Session()
        session.verify = str(certificate)
        monkeypatch.setattr(sys.modules[__name__], "SESSION", session, raising=False)
        config["handlers"]["snowplow"]["session"] = "ext://shop_logging.SESSION"
        status, text = report(config)
        assert status == 0
        assert re.search(r"warning: speaks TLSv1\.\d; its certificate is good until 2\d{3}-", text)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_django_project(tmp_path, collector):
    """Django's `settings:LOGGING` is read without a set-up of Django."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    config = configuration(endpoint=collector.endpoint)
    config["filters"] = {"debug": {"()": "shop.filters.OnlyShop", "name": "shop"}}
    config["handlers"]["snowplow"]["filters"] = ["debug"]
    (tmp_path / "shop" / "settings.py").write_text(f"DEBUG = True\nLOGGING = {config!r}\n")
    (tmp_path / "shop" / "filters.py").write_text(
        "import logging\n\n\nclass OnlyShop(logging.Filter):\n    pass\n"
    )
    status, text = run("shop.settings:LOGGING", cwd=tmp_path)
    assert (status, len(collector.good)) == (0, 1), text


def test_a_module_that_ends_the_process_is_a_bad_configuration(tmp_path, monkeypatch):
    """Importing it ends the check of it alone, whatever status it asks for."""
    (tmp_path / "exiting_module.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    lines = []
    assert check("exiting_module:LOGGING", lines.append) == 1
    assert "exiting_module cannot be imported: SystemExit: 0" in lines[-1]
