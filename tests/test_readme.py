"""What the README says is so: its tables, its code and its commands."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from snowplow_logging import SnowplowHandler
from snowplow_logging.delivery.ledger import Stats
from snowplow_logging.events import COMMON_KEYS, EVENTS
from snowplow_logging.settings import SETTINGS
from snowplow_logging.subject import SUBJECT_KEYS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def table(heading: str) -> list[list[str]]:
    """Return the cells of the table whose first heading is this."""
    lines = README.partition(f"\n| {heading} |")[2].splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    assert rows
    return rows


def code(text: str) -> list[str]:
    """Return what stands between backticks."""
    return re.findall(r"`([^`]+)`", text)


def test_events():
    """The table of events has every event with its names, its class and its keys in their order."""
    documented = {}
    for names, cls, keys in table("`event`, method"):
        documented.update(dict.fromkeys(code(names), (code(cls)[0], keys.split(", "))))
    assert documented == {
        name: (cls.__name__, [f"{name}{'*' * key.required}" for name, key in cls.keys().items()])
        for name, cls in EVENTS.items()
    }
    assert {"event", *(code(key)[0] for key, _ in table("key"))} == set(COMMON_KEYS)


def test_keywords():
    """The table has every setting of the handler with its default and its words, in their order."""
    parameters = inspect.signature(SnowplowHandler).parameters
    assert list(parameters) == list(SETTINGS)
    defined = [
        (
            name,
            "required" if name == "endpoint" else parameter.default,
            SETTINGS[name].words,
        )
        for name, parameter in parameters.items()
    ]
    documented = [
        (
            code(keyword)[0],
            ast.literal_eval(code(default)[0]) if code(default) else default,
            words,
        )
        for keyword, default, words in table("keyword")
    ]
    assert documented == defined


def test_counts():
    """The table of counts has every field of `stats`, in their order."""
    assert [code(count)[0] for count, _ in table("count")] == [
        field.name for field in fields(Stats)
    ]


def test_subject():
    """Every field of a subject is named, in their order."""
    paragraph = README.partition("**The subject** has the fields")[2].partition("(pairs of")[0]
    assert code(paragraph) == list(SUBJECT_KEYS)


def test_examples():
    """The list of examples names every program in the folder, and no other."""
    linked = set(re.findall(r"\]\((examples/[^)]+)\)", README))
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").rglob("*.py")}
    assert linked == there


def test_code_runs(collector, tmp_path):
    """The blocks of Python, one after the other, are a program whose events are all good."""
    blocks = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    assert len(blocks[0].splitlines()) == 15
    blocks.append("from snowplow_logging.testing import capture_events")
    blocks.append("with capture_events() as events: test_basket(events)")
    program = "\n".join(blocks).replace("https://collector.example.com", collector.endpoint)
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert collector.bad == []
    events = [event["rawEvent"]["parameters"] for event in collector.good]
    assert [event["e"] for event in events] == "pv pv pv ue ue pv pv se ue pv pv pv".split()
    assert [event.get("uid") for event in events[-6:-1]] == ["u-42"] * 5
    bound, within = events[-4], events[-2]
    assert bound["ip"] == within["ip"] == "198.51.100.7"
    line = (tmp_path / "shop.jsonl").read_text(encoding="utf-8").splitlines()[0]
    assert json.loads(line)["snowplow"]["event_id"] == events[-1]["eid"]


@pytest.mark.parametrize("name", ["quickstart", "tests"])
def test_commands_are_marked(name):
    """The two commands stand where CI finds them, and name what is there."""
    found = re.search(rf"^<!-- ci: {name} -->\n\n```sh\n(.+)\n```$", README, re.MULTILINE)
    assert found is not None
    assert found[1].startswith("python3 -m venv .venv && .venv/bin/pip install --quiet ")
    for path in re.findall(r"examples/\S+", found[1]):
        assert (ROOT / path).is_file()


def test_command_line(tmp_path):
    """Every command that the README lists is there, and it lists every one."""
    section = README.partition("## Command line")[2].partition("\n## ")[0]
    listed = re.findall(r"^\* `(\w+)(.*?)(?=^\* |\Z)", section, re.MULTILINE | re.DOTALL)

    def shown(*arguments):
        command = [sys.executable, "-m", "snowplow_logging", *arguments, "--help"]
        return subprocess.check_output(command, cwd=tmp_path, text=True, timeout=60)

    for name, usage in listed:
        for option in re.findall(r"--[a-z-]+", usage):
            assert option in shown(name)
    there = re.findall(r"^    (\w+)\s", shown().partition("COMMAND\n")[2], re.MULTILINE)
    assert [name for name, _ in listed] == there
