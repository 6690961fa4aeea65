"""Each setting is defined once, and what else tells of settings says the same."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import logging
import logging.config
import math
from pathlib import Path

import pytest
import requests

import snowplow_logging
from helpers import NOWHERE, RecordingHandler
from snowplow_logging import SnowplowHandler
from snowplow_logging.settings import SETTINGS, Settings

pytestmark = pytest.mark.every_python


def test_the_signature_is_the_definition():
    """`inspect` and `help` show each setting as an argument, with its type and its default."""
    parameters = inspect.signature(SnowplowHandler).parameters
    defined = {field.name: field.default for field in dataclasses.fields(Settings)}
    assert {name: parameter.default for name, parameter in parameters.items()} == defined
    kinds = {parameter.kind for name, parameter in parameters.items() if name != "endpoint"}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}
    assert parameters["batch_size"].annotation is int
    assert parameters["session"].annotation == "requests.Session | None"
    for name, setting in SETTINGS.items():
        assert setting.words
        assert f"\n    {name}: " in (SnowplowHandler.__doc__ or "")


@pytest.mark.parametrize("authority", ["[::1]9090", "[::1].example.com", "a[::1]", "u:p@[::1]90"])
def test_an_address_with_more_around_it_is_none(authority):
    """A colon is missing, perhaps, and what has the address would get what is for another."""
    with pytest.raises(ValueError, match=r"^endpoint has a host") as raised:
        Settings(f"http://{authority}/")
    assert "u:p" not in str(raised.value)


RELAYED = {
    "store": {"endpoint": NOWHERE, "store": "s.db", "send": False},
    "broker": {"broker": "redis://127.0.0.1"},
}


@pytest.mark.parametrize("way", RELAYED)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("anonymous", True),
        ("headers", {"X-Token": "of the gate"}),
        ("method", "get"),
        ("retry_codes", {404: True}),
        ("session", requests.Session()),
        ("path", "b/c"),
    ],
)
def test_what_a_relay_does_is_not_set_here(way, name, value):
    """It would have no effect, and nobody would know; with a store the path is the collector's."""
    if (way, name) == ("store", "path"):
        assert Settings(**RELAYED[way], path=value).url == f"{NOWHERE}/{value}"
        return
    with pytest.raises(ValueError, match=f"^{name} has no effect where a relay sends"):
        Settings(**RELAYED[way], **{name: value})


@pytest.mark.parametrize("handler", [SnowplowHandler, RecordingHandler])
def test_what_a_handler_was_given(handler):
    """A handler, or one of a subclass, keeps its settings as they were given."""
    made = handler(NOWHERE, timeout=3, retry_codes={"500": False}, enabled=False)
    assert (made.settings.timeout, made.settings.timeouts) == (3, (3, 3))
    assert made.settings.statuses == {500: False}
    assert made.settings.batch_size == 500


@pytest.mark.parametrize(
    ("given", "name", "resolved"),
    [
        ({"endpoint": "a.example/"}, "url", "https://a.example/com.snowplowanalytics.snowplow/tp2"),
        ({"endpoint": "http://a.example", "path": "b/c"}, "url", "http://a.example/b/c"),
        ({"endpoint": "http://a.example:9090", "method": "get"}, "url", "http://a.example:9090/i"),
        ({"endpoint": "http://a.example:80", "path": "b"}, "url", "http://a.example/b"),
        ({"endpoint": "HTTPS://A.Example:443/b/", "path": "C"}, "url", "https://a.example/b/C"),
        ({"endpoint": "https://a.example:80", "path": "b"}, "url", "https://a.example:80/b"),
        ({"endpoint": "http://[2001:DB8::1]:80/", "path": "b"}, "url", "http://[2001:db8::1]/b"),
        ({"method": "get"}, "request_headers", {}),
        (
            {"anonymous": True, "headers": {"X-Team": "shop"}},
            "request_headers",
            {
                "Content-Type": "application/json; charset=utf-8",
                "SP-Anonymous": "*",
                "X-Team": "shop",
            },
        ),
        ({"timeout": [1, None]}, "timeouts", (1, None)),
        ({"capture_exceptions": True}, "capture_level", 0),
        ({"capture_exceptions": "ERROR"}, "capture_level", 40),
        ({"capture_exceptions": 30}, "capture_level", 30),
        ({}, "capture_level", math.inf),
    ],
)
def test_what_follows(given, name, resolved):
    """What follows from several settings is worked out in one place."""
    assert getattr(Settings(**{"endpoint": NOWHERE, **given}), name) == resolved


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "endpoint is missing"),
        ({"endpoint": NOWHERE, "batch_siez": 5}, "no setting 'batch_siez'; give 'batch_size'"),
        ({"endpoint": NOWHERE, "queue_bytes": "64"}, "queue_bytes is '64'; give a whole number"),
    ],
)
def test_what_is_no_setting(arguments, message):
    """What is missing, unknown or of the wrong type is named, with what would be right."""
    with pytest.raises(TypeError, match=message):
        SnowplowHandler(**arguments)


@pytest.mark.parametrize("name", ["store", "dead_letter", "client_session"])
@pytest.mark.parametrize("path", ["a\0b", Path("a\0b"), "a\ud800b"], ids=["NUL", "Path", "half"])
def test_paths_that_no_system_takes(name, path):
    """The error names the setting, which that of the operating system would not."""
    with pytest.raises(ValueError, match=rf"^{name} is .*a\\"):
        SnowplowHandler(NOWHERE, **{name: path})


@pytest.mark.parametrize(
    "value", [[NOWHERE], {"url": NOWHERE}, (NOWHERE,)], ids=["list", "dict", "tuple"]
)
@pytest.mark.parametrize(
    "name",
    ["endpoint", "broker", "path", "iglu_api_key", "before_send", "namespace", "retry_codes"],
)
def test_what_dict_config_converts_is_named_as_it_was_given(name, value):
    """A list is one, and not a `ConvertingList`, which nobody has written."""
    if name == "retry_codes" and isinstance(value, dict):
        value = [value]
    settings = {"endpoint": NOWHERE, name: value}
    if name == "broker":
        del settings["endpoint"]
    handler = {"class": "snowplow_logging.SnowplowHandler", **settings}
    with pytest.raises(ValueError, match="Unable to configure") as raised:
        logging.config.dictConfig({"version": 1, "handlers": {"snowplow": handler}})
    message = str(raised.value.__cause__)
    assert message.startswith(name)
    assert f" {type(value).__name__};" in message
    assert "Converting" not in message


def test_an_entity_that_is_awaited_by_nobody(reports):
    """A callable that returns a coroutine is told of by what it has returned."""

    async def entity():
        """Do nothing."""

    made = []
    context = [lambda _: made.append(entity()) or made[-1]]
    handler = SnowplowHandler(NOWHERE, context=context, shutdown_timeout=0.1)
    handler.emit(logging.makeLogRecord({"snowplow": {"event": "page_view", "page_url": "x"}}))
    made[0].close()
    handler.close()
    assert " of the handler's context returned something that is a coroutine; " in reports[0]


def test_settings_show_no_secret():
    """The `repr` of settings has no header, which may hold a password."""
    assert "secret" not in repr(Settings(NOWHERE, headers={"Authorization": "secret"}))


def test_settings_stay():
    """Settings cannot be changed; others can be made of them."""
    settings = Settings(NOWHERE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.batch_size = 5
    assert dataclasses.replace(settings, batch_size=5).batch_size == 5
    with pytest.raises(ValueError, match="batch_size is 0"):
        dataclasses.replace(settings, batch_size=0)


def test_public_names_for_type_checkers():
    """Type checkers are shown the same public names as Python, from the same modules."""
    tree = ast.parse(Path(snowplow_logging.__file__).read_text(encoding="utf-8"))
    shown = {
        alias.name: statement.module
        for statement in ast.walk(tree)
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
        if alias.asname == alias.name
    }
    assert sorted(shown) == sorted(snowplow_logging.__all__)
    for name, module in shown.items():
        assert getattr(snowplow_logging, name) is getattr(importlib.import_module(module), name)


# The environment.

VARIABLES = {
    "SNOWPLOW_ENDPOINT": "https://env.example",
    "SNOWPLOW_NAMESPACE": "of-env",
    "SNOWPLOW_APP_ID": "shop-of-env",
    "SNOWPLOW_PLATFORM": "web",
    "SNOWPLOW_STORE": "env.db",
    "SNOWPLOW_DEAD_LETTER": "env.jsonl",
    "SNOWPLOW_IGLU": "https://iglu.example, https://other.example",
    "SNOWPLOW_ENABLED": "no",
}
FOUND = {
    "endpoint": "https://env.example",
    "namespace": "of-env",
    "app_id": "shop-of-env",
    "platform": "web",
    "store": "env.db",
    "dead_letter": "env.jsonl",
    "iglu": ["https://iglu.example", "https://other.example"],
    "enabled": False,
}


def of(handler):
    """Return what a handler's settings are of those that the environment may give."""
    return {name: getattr(handler.settings, name) for name in FOUND}


@pytest.fixture
def environment(monkeypatch):
    """Set all variables."""
    pytest.importorskip("jsonschema_rs", reason="a registry needs it")
    for name, text in VARIABLES.items():
        monkeypatch.setenv(name, text)
    return monkeypatch


@pytest.mark.usefixtures("environment")
def test_settings_that_are_left_out_come_from_the_environment():
    """Each of those that a deployment decides."""
    assert of(SnowplowHandler()) == FOUND


@pytest.mark.usefixtures("environment")
def test_a_keyword_wins_over_the_environment():
    """Also where it is None, or the endpoint is given by its place."""
    given = {
        "namespace": "mine",
        "app_id": None,
        "platform": "srv",
        "store": None,
        "dead_letter": None,
        "iglu": None,
        "enabled": False,
    }
    assert of(SnowplowHandler(NOWHERE, **given)) == {"endpoint": NOWHERE, **given}


def test_an_empty_variable_is_none(environment):
    """As in a compose file that hands on what is not set."""
    for name in VARIABLES:
        environment.setenv(name, "")
    made = SnowplowHandler(NOWHERE, enabled=False)
    assert (made.settings.app_id, made.settings.store, made.settings.iglu) == (None, None, None)
    with pytest.raises(TypeError, match=r"endpoint is missing; .*SNOWPLOW_ENDPOINT"):
        SnowplowHandler()


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("SNOWPLOW_ENABLED", "maybe", "SNOWPLOW_ENABLED is 'maybe'; give true or false"),
        ("SNOWPLOW_ENDPOINT", "ftp://x", r"endpoint has .* \(it comes from SNOWPLOW_ENDPOINT\)"),
        ("SNOWPLOW_IGLU", "nowhere", r"iglu: 'nowhere' is .* \(it comes from SNOWPLOW_IGLU\)"),
        ("SNOWPLOW_PLATFORM", "x", r"platform is .* \(it comes from SNOWPLOW_PLATFORM\)"),
    ],
    ids=["enabled", "endpoint", "iglu", "platform"],
)
def test_a_variable_that_makes_no_sense_is_named(environment, name, text, told):
    """So that who reads the error looks there and not in the code."""
    environment.setenv(name, text)
    with pytest.raises(ValueError, match=told):
        SnowplowHandler(**({} if name != "SNOWPLOW_ENABLED" else {"endpoint": NOWHERE}))


@pytest.mark.parametrize("text", ["1", "true", "YES", "on"])
def test_enabled_by_the_environment(monkeypatch, text):
    """The words that mean so."""
    monkeypatch.setenv("SNOWPLOW_ENABLED", text)
    assert SnowplowHandler(NOWHERE).settings.enabled is True


@pytest.mark.parametrize("level", [logging.ERROR, "ERROR"], ids=["number", "name"])
def test_level(level):
    """It may be given with the other settings, as to any handler by `dictConfig`."""
    made = SnowplowHandler(NOWHERE, level=level, enabled=False)
    assert made.level == logging.ERROR


@pytest.mark.parametrize("level", ["ERORR", True, None], ids=str)
def test_a_level_that_is_none(level):
    """It is named like any other setting."""
    with pytest.raises((TypeError, ValueError), match=r"level is .*; give the name or number of a"):
        SnowplowHandler(NOWHERE, level=level)
