"""What the README says is so; what it shares with the documentation, test_docs.py checks."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from documents import README, ROOT


def test_code_runs(collector, tmp_path):
    """The blocks of Python, one after the other, are a program whose events are all good."""
    assert "console" in README.blocks[2].text  # the first one: console and events side by side
    done = README.run(tmp_path, collector.endpoint, "-X", "dev", "-W", "error")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:2] == [
        "a line for the console, which is no event",
        "basket opened",
    ]
    assert collector.bad == []
    events = [event["rawEvent"]["parameters"] for event in collector.good]
    assert [event["e"] for event in events] == "pv pv ue pv se ue".split()
    assert [event.get("uid") for event in events] == [None] * 3 + ["u-42"] * 3
    assert events[-1]["ip"] == "198.51.100.7"


def test_the_first_program_runs_as_it_stands(run, collector):
    """The first block of Python alone, which needs nothing but the local collector."""
    first = next(block for block in README.blocks if block.language == "python")
    assert re.findall(r"https?://[^/\"]+", first.text)[0] == "http://127.0.0.1:9090"
    run(first.text.replace("http://127.0.0.1:9090", collector.endpoint), preamble="")
    assert collector.counts == {"total": 1, "good": 1, "bad": 0}


@pytest.mark.parametrize("name", ["quickstart", "tests", "benchmark"])
def test_commands_are_marked(name):
    """The commands stand where CI finds them, and name what is there."""
    found = re.search(rf"^<!-- ci: {name} -->\n\n```sh\n(.+)\n```$", README.text, re.MULTILINE)
    assert found is not None
    assert found[1].startswith("python3 -m venv .venv && .venv/bin/pip install --quiet ")
    for path in re.findall(r"(?:examples|tests)/\S+", found[1]):
        assert (ROOT / path).is_file()


def test_command_line(tmp_path):
    """Every command that the README lists is there, and it lists every one."""
    section = README.text.partition("\n[The command line]")[2].partition("\n## ")[0]
    listed = re.findall(r"^\* `(\w+)(.*?)(?=^\* |\Z)", section, re.MULTILINE | re.DOTALL)

    def shown(*arguments):
        command = [sys.executable, "-m", "snowplow_logging", *arguments, "--help"]
        return subprocess.check_output(command, cwd=tmp_path, text=True, timeout=60)

    for name, usage in listed:
        for option in re.findall(r"--[a-z-]+", usage):
            assert option in shown(name)
    there = re.findall(r"^    (\w+)\s", shown().partition("COMMAND\n")[2], re.MULTILINE)
    assert [name for name, _ in listed] == there
