"""What `check` imports and calls, which it says before, and leaves alone where it is told to."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from checking import configuration, put, run
from faulty_collector import FaultyCollector
from helpers import NOWHERE
from snowplow_logging.check import check

FOREIGN = """
import logging, pathlib
pathlib.Path("was_run").touch()
class Own(logging.NullHandler): pass
def make(**settings): pathlib.Path("was_called").touch(); return logging.NullHandler()
LOGGING = {"version": 1}
"""
"""A module that shows that it was imported, and called."""

REFERENCES = {
    "handler": put("handlers/own", {"class": "foreign_code.Own"}),
    "factory": put("handlers/own", {"()": "foreign_code.make"}),
    "factory that looks like Snowplow's": put(
        "handlers/own", {"()": "foreign_code.make", "endpoint": NOWHERE}
    ),
    "external factory": put("handlers/own", {"()": "ext://foreign_code.make"}),
    "filter": put("filters", {"f": {"()": "foreign_code.make"}}),
    "formatter": put("formatters", {"f": {"()": "foreign_code.make"}}),
    "class of a formatter": put("formatters", {"f": {"class": "foreign_code.Own"}}),
    "callback": put("handlers/snowplow/on_success", "ext://foreign_code.make"),
    "in a list": put("handlers/snowplow/context", ["ext://foreign_code.make"]),
    "in a variable": put("handlers/snowplow/on_success", "ext://${FOREIGN}.make"),
}
"""What may stand in a configuration and imports a module."""


@pytest.mark.parametrize("imports", [True, False], ids=["import", "no import"])
@pytest.mark.parametrize("name", REFERENCES)
def test_what_it_imports_it_says_before(tmp_path, monkeypatch, collector, name, imports):
    """And with `--no-import` it does not import that, nor call it; the rest it checks."""
    config = configuration(endpoint=collector.endpoint)
    REFERENCES[name](config)
    (tmp_path / "logging.json").write_text(json.dumps(config))
    (tmp_path / "foreign_code.py").write_text(FOREIGN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FOREIGN", "foreign_code")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "foreign_code", raising=False)
    announced: list[tuple[str, bool]] = []
    lines: list[str] = []

    def announce(line: str) -> None:
        announced.append((line, (tmp_path / "was_run").exists()))

    status = check("logging.json", lines.append, imports=imports, announce=announce)
    sys.modules.pop("foreign_code", None)
    if imports:
        [(line, was_run)] = announced
        assert line.startswith("imports foreign_code.")
        assert not was_run
        assert (tmp_path / "was_run").exists()
        return
    assert announced == []
    assert not (tmp_path / "was_run").exists()
    assert (status, collector.counts["good"]) == (0, 1), lines
    warnings = [line for line in lines if line.startswith("warning: ")]
    assert any("which is not imported or looked at" in line for line in warnings), lines
    assert lines[0].startswith("good: ")


CALLS = {
    "a module of a module": "logging.os.mkdir",
    "a function": "snowplow_logging.flush",
    "a function of a submodule": "snowplow_logging.cli.main",
    "a built-in": "sys.exit",
    "a class of another's": "logging.handlers.socket.socket",
}


@pytest.mark.parametrize("where", ["before_send", "formatter", "handler"])
@pytest.mark.parametrize("name", CALLS)
def test_without_imports_nothing_is_called_either(report, collector, name, where, monkeypatch):
    """Not even what is imported already, or is reached through a module that is."""
    config = configuration(endpoint=collector.endpoint)
    if where == "before_send":
        config["handlers"]["snowplow"]["before_send"] = f"ext://{CALLS[name]}"
    elif where == "formatter":
        config["formatters"] = {"f": {"()": CALLS[name], "path": "made"}}
    else:
        config["handlers"]["own"] = {"()": CALLS[name], "endpoint": NOWHERE}
    status, text = report(config, imports=False)
    assert (status, collector.counts["good"]) == (0, 1), text
    assert "which is not imported or looked at" in text


def test_without_imports_no_module_holds_the_configuration(tmp_path):
    """It says so; what the library itself brings is looked at as ever."""
    (tmp_path / "foreign_code.py").write_text(FOREIGN)
    status, text = run("foreign_code:LOGGING", "--no-import", cwd=tmp_path)
    assert status == 1
    assert "is in the module foreign_code, which is not to be imported" in text
    assert not (tmp_path / "was_run").exists()


def test_without_imports_what_the_library_brings_is_checked(report, collector):
    """Formatters, handlers and streams of the standard library and of this one."""
    config = configuration(endpoint=collector.endpoint)
    config["formatters"] = {
        "json": {"()": "snowplow_logging.SnowplowJsonFormatter"},
        "plain": {"format": "%(message)s"},
    }
    config["handlers"]["console"] = {
        "class": "logging.StreamHandler",
        "stream": "ext://sys.stdout",
        "formatter": "json",
    }
    config["handlers"]["file"] = {"class": "logging.handlers.NoSuchHandler", "formatter": "plain"}
    status, text = report(config, imports=False)
    assert status == 1
    [error] = [line for line in text.splitlines() if line.startswith("error: ")]
    assert "handlers.file.class" in error
    assert "logging.handlers has no NoSuchHandler" in error


def test_what_is_passed_over_may_be_the_handler(report):
    """Then there is none to try, and that is no error."""
    config = configuration()
    config["handlers"]["snowplow"]["class"] = "shop_logging.ShopHandler"
    status, text = report(config, imports=False)
    assert status == 0
    assert text.startswith("good: the configuration is right, and nothing was sent, with 1 warning")


def test_modules_of_the_current_folder(tmp_path):
    """The command finds them, as `python program.py` beside them does."""
    (tmp_path / "their_module.py").write_text(
        "import logging\nclass Own(logging.NullHandler):\n    pass\n"
    )
    with FaultyCollector() as collector:
        config = configuration(endpoint=collector.endpoint)
        config["handlers"]["own"] = {"class": "their_module.Own"}
        (tmp_path / "logging.json").write_text(json.dumps(config))
        # As the console script does it, whose folder is first on the path.
        program = "import sys; sys.path.pop(0); from snowplow_logging.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", program, "check", "logging.json"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.stdout.startswith("good: "), done.stdout + done.stderr
