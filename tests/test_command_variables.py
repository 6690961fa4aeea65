"""The URLs of commands come from the environment where their options are left out."""

from __future__ import annotations

import json
import logging
import os
import signal
from pathlib import Path

import pytest

from faulty_collector import FaultyCollector, nowhere
from snowplow_logging import SnowplowHandler, StructuredEvent
from snowplow_logging.cli import main

SECRET = "hush-hush"
LETTER = {"e": "pv", "eid": "c6ef3124-b53a-4b13-a233-0088f79dcbcb", "p": "srv", "tv": "t"}


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """Have none of the variables set."""
    for name in ("SNOWPLOW_ENDPOINT", "SNOWPLOW_BROKER"):
        monkeypatch.delenv(name, raising=False)


def with_password(url):
    """Put a user and a password into a URL."""
    return url.replace("://", f"://user:{SECRET}@")


def end(process):
    """End a relay, and return all that it has said."""
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out + err


def test_a_relay(command, tmp_path):
    """It takes the collector's URL from there, so that its password is no argument."""
    path = tmp_path / "events.db"
    handler = SnowplowHandler(store=path, send=False)
    event = StructuredEvent(category="c", action="a")
    handler.handle(logging.LogRecord("shop", logging.INFO, "", 0, event, None, None))
    handler.close()
    with FaultyCollector() as collector:
        endpoint = with_password(collector.endpoint)
        env = {**os.environ, "SNOWPLOW_ENDPOINT": endpoint}
        process = command("relay", "--store", path, env=env)
        collector.wait_for_events(1)
        assert collector.requests[0].headers["authorization"].startswith("Basic ")
        if (shown := Path(f"/proc/{process.pid}/cmdline")).exists():
            assert SECRET not in shown.read_text()
        assert SECRET not in end(process)


def test_a_relay_from_a_broker(command):
    """It takes the broker's URL from there as well."""
    pytest.importorskip("redis", reason="the broker is Redis")
    with nowhere() as endpoint:
        broker = endpoint.replace("http", "redis")
        env = {**os.environ, "SNOWPLOW_ENDPOINT": with_password(endpoint)}
        env["SNOWPLOW_BROKER"] = with_password(broker)
        process = command("relay", env=env)
        line = process.stdout.readline()
        assert line.startswith(f"relays from {broker}")
        assert SECRET not in line + end(process)


def test_a_replay(tmp_path, monkeypatch, capsys):
    """It takes the collector's URL from there, and an option wins."""
    file = tmp_path / "dead.jsonl"
    file.write_text(json.dumps({"snowplow": {**LETTER, "url": "https://a.example/"}}) + "\n")
    with FaultyCollector() as collector, FaultyCollector() as other:
        monkeypatch.setenv("SNOWPLOW_ENDPOINT", with_password(collector.endpoint))
        assert main(["replay", str(file)]) == 0
        assert main(["replay", str(file), "--endpoint", other.endpoint]) == 0
        assert len(collector.requests) == len(other.requests) == 1
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err


MISSING = {
    "a relay": (
        ("relay", "--store", "x.db"),
        {},
        "endpoint is missing; give the collector's URL, ",
    ),
    "a relay, empty": (
        ("relay", "--store", "x.db"),
        {"endpoint": ""},
        "variable SNOWPLOW_ENDPOINT",
    ),
    "a replay": (("replay", "x"), {}, "URL, or the variable SNOWPLOW_ENDPOINT"),
    "a broker": (
        ("relay",),
        {"endpoint": "https://h.example"},
        "give --store, --broker, or the variable SNOWPLOW_BROKER",
    ),
    "a bad endpoint of a relay": (
        ("relay", "--store", "x.db"),
        {"endpoint": f"ftp://u:{SECRET}@h"},
        "endpoint has neither http nor https as its scheme; give",
    ),
    "a bad endpoint of a replay": (
        ("replay", "x"),
        {"endpoint": f"http://u:{SECRET}@h:port"},
        "(it comes from SNOWPLOW_ENDPOINT)",
    ),
    "a bad broker": (
        ("relay",),
        {"endpoint": "https://h.example", "broker": f"redis://u:{SECRET}@h:port"},
        "(it comes from SNOWPLOW_BROKER)",
    ),
}


@pytest.mark.parametrize("name", MISSING)
def test_what_is_missing_or_wrong(name, tmp_path, monkeypatch, capsys):
    """One line says what to give, and which variable it comes from."""
    arguments, variables, words = MISSING[name]
    monkeypatch.chdir(tmp_path)
    for variable, value in variables.items():
        monkeypatch.setenv(f"SNOWPLOW_{variable.upper()}", value)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"snowplow-logging {arguments[0]}: error: ")
    assert words in error
    assert SECRET not in error
    assert error.count("\n") == 1
