"""The tutorial, step by step as its reader takes them: its commands say what it shows."""

from __future__ import annotations

import re
import socket
from contextlib import ExitStack, contextmanager

import pytest

from documents import DOCS, Page, execute, there
from servers import started

PAGE = Page(DOCS / "tutorial.md")
COLLECTOR = "snowplow-logging collector"
STOPPED = "<!-- the collector is stopped -->"


@pytest.fixture
def port():
    """Return a port that is free."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def comparable(text, folder):
    """Return what a command said without what differs from run to run."""
    text = text.replace(f"{folder.resolve()}/", "").replace(f"{folder}/", "")
    return re.sub(r"in \d+\.\d+s", "in … s", text).strip()


def steps():
    """Yield each command with what it is to say, None where that is not shown, and each stop."""
    fence = re.compile(r"^```(?:sh|text)\n.*?^```$|^<!--.*?-->$", re.DOTALL | re.MULTILINE)
    found = fence.findall(PAGE.text)
    for index, step in enumerate(found):
        if step.startswith("```text"):
            continue
        after = found[index + 1] if index + 1 < len(found) else ""
        shown = after.removeprefix("```text\n").removesuffix("```")
        body = step.removeprefix("```sh\n").removesuffix("\n```")
        yield body, shown if after.startswith("```text") else None


def test_each_step(tmp_path, port):
    """Each command ends well and says what stands below it; the collector runs where it should."""
    pytest.importorskip("werkzeug", reason="the local collector needs it")
    endpoint = f"http://127.0.0.1:{port}"
    PAGE.save(tmp_path, endpoint)

    @contextmanager
    def collector():
        command = ["-m", "snowplow_logging", "collector", f"--port={port}"]
        with started(None, tmp_path, *command) as (said, _):
            said(r"Events: +(\S+)")
            yield

    ran = []
    with ExitStack() as running:
        for command, shown in steps():
            ran.append(command)
            if command == COLLECTOR:
                running.enter_context(collector())
            elif command == STOPPED:
                running.close()
            else:
                done = execute(there(command, endpoint), tmp_path, endpoint)
                said = comparable(done.stdout + done.stderr, tmp_path)
                assert done.returncode == 0, (command, said)
                assert shown is None or said == comparable(there(shown, endpoint), tmp_path)
    assert ran.count(COLLECTOR) == 2
    assert len(ran) > 8
