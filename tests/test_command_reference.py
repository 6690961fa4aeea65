"""The page on the command line has every command with its options, and no other."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from snowplow_logging.cli import parser

PAGE = Path(__file__).parents[1] / "docs/reference/command-line.md"


def _commands() -> dict[str, argparse.ArgumentParser]:
    [actions] = [
        action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)
    ]
    return dict(actions.choices)


COMMANDS = _commands()


def _sections() -> dict[str, str]:
    text = PAGE.read_text(encoding="utf-8")
    parts = re.split(r"^## `([a-z]+)`$", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_commands():
    """Each command has a section, in the order of the alphabet."""
    assert list(_sections()) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_options(command):
    """Each option stands in the section's table, with a word for its value where it takes one."""
    documented = re.findall(r"^\| `(--[a-z0-9-]+)( [^`]+)?` \|", _sections()[command], re.MULTILINE)
    options = {
        action.option_strings[-1]: action.nargs != 0
        for action in COMMANDS[command]._actions
        if action.option_strings and "--help" not in action.option_strings
    }
    assert {name: bool(value) for name, value in documented} == options


@pytest.mark.parametrize("command", COMMANDS)
def test_statuses(command):
    """Each section says what the statuses mean."""
    section = _sections()[command]
    assert "| status | |" in section
    first, *others = re.findall(r"^\| (\d) \| \S", section, re.MULTILINE)
    assert first == "0"
    assert others
