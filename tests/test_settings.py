"""Each setting is defined once, and what else tells of settings says the same."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import math
from pathlib import Path

import pytest

import snowplow_logging
from helpers import NOWHERE, RecordingHandler
from snowplow_logging import SnowplowHandler
from snowplow_logging.settings import SETTINGS, Settings


def test_the_signature_is_the_definition():
    """`inspect` and `help` show each setting as an argument, with its type and its default."""
    parameters = inspect.signature(SnowplowHandler).parameters
    defined = {field.name: field.default for field in dataclasses.fields(Settings)}
    defined["endpoint"] = inspect.Parameter.empty
    assert {name: parameter.default for name, parameter in parameters.items()} == defined
    kinds = {parameter.kind for name, parameter in parameters.items() if name != "endpoint"}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}
    assert parameters["batch_size"].annotation is int
    assert parameters["session"].annotation == "requests.Session | None"
    for name, setting in SETTINGS.items():
        assert setting.words
        assert f"\n    {name}: " in (SnowplowHandler.__doc__ or "")


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
